//! JSON in pieces.

use super::choices;
use crate::decode::json::{self, Token, Tokenizer};
use crate::{Limits, Rule, Violation};
use std::string::{String, ToString};
use std::vec::Vec;

/// A text gives the same tokens and the same fault in any pieces, the verdict of the checker, and as much of it when parts are
/// skipped. Two choices: the pieces, and the token behind which is skipped.
pub fn json_tokens(data: &[u8]) {
    let ([n, skipped], text) = choices(data);
    let limits = &Limits::DEFAULT;
    let whole = told(text, text.len(), None);
    assert_eq!(whole, told(text, 1, None), "a byte at a time");
    let n = usize::from(n) + 2;
    assert_eq!(whole, told(text, n, None), "{n} at a time");
    let mut scratch = vec![0; 2 * text.len() + 4];
    match json::check_in(text, limits, &mut scratch) {
        // Told at the end of the object; the tokenizer hands out both.
        Err(v) if v.rule == Rule::JsonDuplicateKey => assert!(whole.1.is_ok() || whole.1.is_err_and(|w| w.at > v.at)),
        verdict => assert_eq!(whole.1, verdict, "another verdict than the checker's"),
    }
    let skipped = usize::from(skipped) % (whole.0.len() + 1);
    let less = told(text, text.len(), Some(skipped));
    assert_eq!(less, told(text, 1, Some(skipped)), "a byte at a time, skipping");
    assert_eq!(less.1, whole.1, "what is skipped is judged");
    assert!(less.0.len() <= whole.0.len() && less.0.iter().all(|token| whole.0.contains(token)));
}

/// The tokens with where they begin, strings joined, and how the text ended. Skips behind the token of that number, unless it
/// is a string, whose parts depend on the pieces.
fn told(text: &[u8], n: usize, skipped: Option<usize>) -> (Vec<(u64, String)>, Result<(), Violation>) {
    let (mut tokens, mut told) = (Tokenizer::default(), Vec::<(u64, String)>::new());
    for mut piece in text.chunks(n.max(1)) {
        loop {
            let token = match tokens.next(&mut piece, &Limits::DEFAULT) {
                Ok(Some(token)) => token,
                Ok(None) => break,
                Err(violation) => return (told, Err(violation)),
            };
            let (is_string, spelled) = spelled(token);
            let at = tokens.start();
            match told.last_mut().filter(|(start, _)| is_string && *start == at) {
                Some((_, text)) => text.push_str(&spelled),
                None => told.push((at, spelled)),
            }
            if skipped == Some(told.len()) && !is_string {
                tokens.skip();
            }
        }
        assert!(piece.is_empty(), "what is not used up is asked for again");
    }
    let end = tokens.finish().map(|token| token.map(spelled));
    let end = end.map(|token| told.extend(token.map(|(_, spelled)| (tokens.start(), spelled))));
    (told, end)
}

fn spelled(token: Token<'_>) -> (bool, String) {
    match token {
        Token::String { part, last: true } => (true, [part, "\""].concat()),
        Token::String { part, last: false } => (true, part.to_string()),
        token => (false, std::format!("{token:?}")),
    }
}
