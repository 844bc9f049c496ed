//! JSON in pieces: JSON-01 to JSON-05, TXT-02, P-22 and ENG-01. The tokenizer against the checker, against itself under
//! every cut, and against another implementation's values.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use proptest::prelude::*;
use serde_json::Value;
use vestibule::decode::json::{self, Token, Tokenizer};
use vestibule::{Limit, Limits, Rule, Violation};

/// A token that is kept; the parts of a string are joined.
#[derive(Clone, PartialEq, Debug)]
enum Kept {
    Sign(char),
    Key(String),
    /// What came of it, and whether it ended.
    Text(String, bool),
    Number(String),
    Word(Option<bool>),
}

/// Tokens with where they begin and how deep they lie, and how it ended.
type Story = (Vec<(Kept, u64, usize)>, Result<(), Violation>);

impl Kept {
    fn of(token: Token<'_>) -> Kept {
        match token {
            Token::ObjectStart => Kept::Sign('{'),
            Token::ObjectEnd => Kept::Sign('}'),
            Token::ArrayStart => Kept::Sign('['),
            Token::ArrayEnd => Kept::Sign(']'),
            Token::Key(key) => Kept::Key(key.into()),
            Token::String { part, last } => Kept::Text(part.into(), last),
            Token::Number(number) => Kept::Number(number.into()),
            Token::Bool(value) => Kept::Word(Some(value)),
            Token::Null => Kept::Word(None),
        }
    }
}

/// Adds a token, or the next part of a string to what came of it; says whether it was a new one.
fn keep(story: &mut Story, kept: Kept, at: u64, depth: usize) -> bool {
    if let (Some((Kept::Text(text, ended @ false), start, _)), Kept::Text(part, last)) = (story.0.last_mut(), &kept) {
        assert_eq!(*start, at, "all parts of a string begin where it begins");
        text.push_str(part);
        *ended = *last;
        return false;
    }
    story.0.push((kept, at, depth));
    true
}

/// Skips behind the token that begins at `skipped`, if that is no string.
fn story_of<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
    scratch: &mut [u8],
    skipped: Option<u64>,
) -> Story {
    let mut tokens = Tokenizer::new(scratch);
    let mut story = (Vec::new(), Ok(()));
    for mut piece in pieces {
        loop {
            let before = piece.len();
            match tokens.next(&mut piece, limits).map(|token| token.map(Kept::of)) {
                Ok(None) => break assert!(piece.is_empty(), "what is not used up is asked for again"),
                Ok(Some(kept)) => {
                    assert!(piece.len() <= before);
                    let is_text = matches!(kept, Kept::Text(..));
                    keep(&mut story, kept, tokens.start(), tokens.depth());
                    if skipped == Some(tokens.start()) && !is_text {
                        tokens.skip();
                    }
                }
                Err(violation) => {
                    assert_eq!(tokens.next(&mut &b"1"[..], limits), Err(violation), "it stays that way");
                    assert_eq!(tokens.finish(), Err(violation));
                    story.1 = Err(violation);
                    return story;
                }
            }
        }
    }
    match tokens.finish().map(|token| token.map(Kept::of)) {
        Ok(None) => {}
        Ok(Some(kept)) => {
            assert!(matches!(kept, Kept::Number(_)), "only a number is ended by the end");
            keep(&mut story, kept, tokens.start(), tokens.depth());
            assert_eq!(tokens.finish(), Ok(None));
        }
        Err(violation) => story.1 = Err(violation),
    }
    story
}

fn story_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits, scratch: &mut [u8]) -> Story {
    story_of(pieces, limits, scratch, None)
}

fn story<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Story {
    let room = limits.get(Limit::JsonKeyBytes).max(limits.get(Limit::JsonNumberBytes));
    story_in(pieces, limits, &mut vec![0; room as usize])
}

fn check(text: &[u8], limits: &Limits) -> Result<(), Violation> {
    json::check_in(text, limits, &mut vec![0; 2 * text.len() + 4])
}

/// ENG-01: the tokenizer's verdict is the checker's, but for keys that stand twice, which only the checker refuses.
fn same_verdict(text: &[u8], limits: &Limits, whole: &Story) {
    match check(text, limits) {
        Err(v) if v.rule == Rule::JsonDuplicateKey => {
            // The checker says so at the object's end. Nothing before that may be wrong.
            assert!(whole.1.is_ok() || whole.1.is_err_and(|w| w.at > v.at), "{:?} before {v:?}", whole.1);
        }
        verdict => assert_eq!(whole.1, verdict, "{}", text.escape_ascii()),
    }
}

/// Whole, byte by byte, and cut in two at `cuts`.
fn every_way(text: &[u8], limits: &Limits, cuts: impl IntoIterator<Item = usize>) -> Story {
    let whole = story([text], limits);
    same_verdict(text, limits, &whole);
    assert_eq!(story(text.chunks(1), limits), whole, "byte by byte: {}", text.escape_ascii());
    for cut in cuts {
        let (a, b) = text.split_at(cut);
        assert_eq!(story([a, b], limits), whole, "cut at {cut}: {}", text.escape_ascii());
    }
    whole
}

/// What a document's tokens say.
fn value(tokens: &mut impl Iterator<Item = (Kept, u64, usize)>) -> Option<Value> {
    Some(match tokens.next()?.0 {
        Kept::Sign('[') => {
            let mut array = Vec::new();
            while let Some(member) = value(tokens) {
                array.push(member);
            }
            Value::Array(array)
        }
        Kept::Sign('{') => {
            let mut object = serde_json::Map::new();
            while let Some((Kept::Key(key), ..)) = tokens.next() {
                object.insert(key, value(tokens).unwrap());
            }
            Value::Object(object)
        }
        Kept::Sign(_) | Kept::Key(_) => return None,
        Kept::Text(text, ended) => {
            assert!(ended);
            Value::from(text)
        }
        Kept::Number(number) => match (number.parse::<u64>(), number.parse::<i64>()) {
            (Ok(n), _) => Value::from(n),
            (_, Ok(n)) if n != 0 => Value::from(n),
            _ => Value::from(number.parse::<f64>().unwrap()),
        },
        Kept::Word(word) => word.map_or(Value::Null, Value::from),
    })
}

/// The value that the typed reader makes of it.
fn read(text: &[u8], limits: &Limits) -> Result<Value, Violation> {
    json::from_slice(text, limits, &mut vec![0; 2 * text.len() + 4])
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |b: u8| DIGITS.iter().position(|d| *d == b);
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(|d| d as u32).collect();
    let triple = |four: &[u32]| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(triple).collect()
}

// P-22
#[test]
fn the_public_suite_in_every_piece() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/jsontestsuite/jsontestsuite.json");
    let Ok(file) = std::fs::read(path) else {
        println!("the public suite is absent, nothing was compared");
        return;
    };
    let suite: Value = serde_json::from_slice(&file).unwrap();
    let limits = &Limits::DEFAULT;
    let mut count = [0; 3];
    for case in suite["parsing"].as_array().unwrap().iter().chain(suite["transform"].as_array().unwrap()) {
        let name = case["name"].as_str().unwrap();
        let text = match case["b64"].as_str() {
            Some(coded) => base64(coded),
            None => {
                let repeat = case["repeat"].as_array().unwrap();
                let text = repeat[0].as_str().unwrap().repeat(repeat[1].as_u64().unwrap() as usize);
                (text + case["suffix"].as_str().unwrap_or_default()).into_bytes()
            }
        };
        let cuts = if text.len() <= 1_000 { 0..text.len() + 1 } else { 1..2 };
        let (tokens, verdict) = every_way(&text, limits, cuts);
        let theirs = serde_json::from_slice::<Value>(&text);
        match case["expect"].as_str() {
            // Here the tokenizer takes what the suite takes: a key that stands twice as well.
            Some("accept") => {
                assert_eq!(verdict, Ok(()), "{name}");
                count[0] += 1;
            }
            Some("reject") => {
                assert!(verdict.is_err(), "{name}");
                count[1] += 1;
            }
            Some(_) => count[2] += 1,
            None => {}
        }
        #[cfg(feature = "serde_json")]
        assert_eq!(json::to_value(&text, limits), read(&text, limits), "{name}");
        if verdict.is_ok() {
            let ours = value(&mut tokens.into_iter()).unwrap();
            assert!(alike(&ours, &theirs.unwrap()), "{name}");
            if let Ok(read) = read(&text, limits) {
                assert_eq!(ours, read, "{name}: tokens and the typed reader");
            }
        }
    }
    assert_eq!(count, [95, 188, 35]);
}

/// The same value. Floats may differ in their last digits: the other one does not round them exactly unless it is asked to.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && alike(a, b))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || ((a - b) / b).abs() < 1e-14 || (a.abs() < 1e-300 && b.abs() < 1e-300)
        }
        (a, b) => a == b,
    }
}

fn with(limit: Limit, value: u64) -> Limits {
    Limits::DEFAULT.with(limit, value).unwrap()
}

#[test]
fn tokens_come_as_they_stand() {
    let text = br#" {"a\u0000\n": ["x\ud83c\udf75y", -0.50E+1, true , false, null, {}, ""] } "#;
    let (tokens, verdict) = every_way(text, &Limits::DEFAULT, 0..=text.len());
    assert_eq!(verdict, Ok(()));
    let text = |text: &str| Kept::Text(text.into(), true);
    let expected = [
        (Kept::Sign('{'), 1, 1),
        (Kept::Key("a\0\n".into()), 2, 1),
        (Kept::Sign('['), 15, 2),
        (text("x🍵y"), 16, 2),
        (Kept::Number("-0.50E+1".into()), 34, 2),
        (Kept::Word(Some(true)), 44, 2),
        (Kept::Word(Some(false)), 51, 2),
        (Kept::Word(None), 58, 2),
        (Kept::Sign('{'), 64, 3),
        (Kept::Sign('}'), 65, 2),
        (text(""), 68, 2),
        (Kept::Sign(']'), 70, 1),
        (Kept::Sign('}'), 72, 0),
    ];
    assert_eq!(tokens, expected);
    for alone in ["0", "-12.5e3", "\"é\"", "null", "[]"] {
        let (tokens, verdict) = every_way(alone.as_bytes(), &Limits::DEFAULT, 0..=alone.len());
        assert_eq!((verdict, value(&mut tokens.into_iter())), (Ok(()), serde_json::from_str(alone).ok()));
    }
}

#[test]
fn what_lies_in_the_piece_is_lent_from_it() {
    let text = br#"{"key": "a long text without escapes \n and more", "number": 123}"#;
    let lies = |part: &str| text.as_ptr_range().contains(&part.as_ptr());
    let (mut tokens, mut rest, mut lent) = (Tokenizer::default(), &text[..], 0);
    while let Some(token) = tokens.next(&mut rest, &Limits::DEFAULT).unwrap() {
        match token {
            Token::Key(text) | Token::Number(text) => lent += usize::from(lies(text)),
            Token::String { part: "\n", .. } => {}
            Token::String { part, .. } => lent += usize::from(lies(part)),
            _ => {}
        }
    }
    assert_eq!(lent, 5);
}

// Every fault, under every cut: at the checker's byte.
#[test]
fn faults_lie_at_the_same_byte_in_any_pieces() {
    let texts: [&[u8]; 62] = [
        b"",
        b" \n",
        b"[",
        b"{",
        b"\"",
        b"tru",
        b"trux",
        b"nul",
        b"fals3",
        b"[1,]",
        b"[1 2]",
        b"{\"a\"}",
        b"{\"a\"",
        b"{\"a\":",
        b"{\"a\":1,}",
        b"{,}",
        b"{1:1}",
        b"[1}",
        b"{\"a\":1]",
        b"]",
        b"[1] // no",
        b"1 2",
        b"{} {}",
        b"NaN",
        b"-Infinity",
        b"+1",
        b".5",
        b"01",
        b"-01",
        b"1.",
        b"1.e1",
        b"[1e]",
        b"1e+x",
        b"1e309",
        b"[-2e308]",
        b"\"a\tb\"",
        b"\"a\0b\"",
        br#""\x""#,
        br#""\u12g4""#,
        br#""\u12"#,
        br#""\ud800""#,
        br#""a\udc00""#,
        br#""\ud800\u0041""#,
        br#""\ud800\n""#,
        br#""\ud800"#,
        br#""\ud83d\ude00"#,
        b"\xef\xbb\xbf1",
        b"\xef\xbb1",
        b"\xef",
        b"1\0",
        b"\0[",
        b"[\0]\0",
        b"\xff\xfe1\0",
        b"\xfe\xff",
        b"\"\xff\"",
        b"\"\xc3\"",
        b"\"a\xed\xa0\x80\"",
        b"\"\xf0\x9f",
        b"\xc3\xa9",
        b"\"\xe2\x82\xac\xe2\x82\"",
        b"-",
        b"{\"a\":1 \"b\"",
    ];
    for text in texts {
        let (_, verdict) = every_way(text, &Limits::DEFAULT, 0..=text.len());
        assert!(verdict.is_err(), "{}", text.escape_ascii());
    }
}

// ENG-01
#[test]
fn every_truncation_and_every_flipped_bit_is_judged_as_by_the_checker() {
    let text =
        "{\"a\\u00e9\": [1.5e-3, -0, true, \"x\\ud83c\\udf75é🍵\\n\"], \"b\": {\"c\": null}, \"d\": \"\" }".as_bytes();
    assert_eq!(every_way(text, &Limits::DEFAULT, 0..=text.len()).1, Ok(()));
    for end in 0..text.len() {
        let (_, verdict) = every_way(&text[..end], &Limits::DEFAULT, 0..=end);
        assert!(verdict.is_err_and(|v| v.at <= end as u64), "{end}");
    }
    for bit in 0..8 * text.len() {
        let mut text = text.to_vec();
        text[bit / 8] ^= 1 << (bit % 8);
        let _ = every_way(&text, &Limits::DEFAULT, [bit / 8, bit / 8 + 1]);
    }
}

// JSON-01
#[test]
fn a_million_brackets_end_at_the_limit_in_pieces_too() {
    for (open, step) in [("[", 1), ("{\"\":", 4), ("[{\"a\":", 3)] {
        let text = open.repeat(1_000_000);
        for n in [1, 7, 4_096, text.len()] {
            let (_, verdict) = story(text.as_bytes().chunks(n), &Limits::DEFAULT);
            assert_eq!(verdict, Err(Violation { rule: Rule::JsonDepth, at: 64 * step, value: 64 }));
        }
    }
}

// JSON-02
#[test]
fn a_key_that_stands_twice_is_handed_out_twice() {
    let text = br#"{"a": 1, "\u0061": 2}"#;
    let (tokens, verdict) = every_way(text, &Limits::DEFAULT, 0..=text.len());
    assert_eq!(verdict, Ok(()));
    let keys = tokens.iter().filter(|(token, ..)| *token == Kept::Key("a".into())).count();
    assert_eq!(keys, 2);
    assert_eq!(check(text, &Limits::DEFAULT), Err(Violation::new(Rule::JsonDuplicateKey, 10)));
}

// JSON-01, JSON-03, JSON-04, JSON-05, ENG-01: each limit from both sides, under every cut.
#[test]
fn limits_are_exact_in_any_pieces() {
    let object = |keys: usize| {
        let members: Vec<String> = (0..keys).map(|i| format!("\"k{i}\":{{\"a\":{i}}}")).collect();
        format!("[{{{}}}]", members.join(","))
    };
    type Case<'a> = (Limit, u64, Rule, &'a dyn Fn(usize) -> String);
    let cases: [Case<'_>; 11] = [
        (Limit::JsonDepth, 10, Rule::JsonDepth, &|n| format!("{}{}", "[".repeat(n), "]".repeat(n))),
        (Limit::JsonDepth, 256, Rule::JsonDepth, &|n| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n))),
        (Limit::JsonNumberBytes, 16, Rule::JsonNumberTooLong, &|n| "1".repeat(n)),
        (Limit::JsonNumberBytes, 20, Rule::JsonNumberTooLong, &|n| format!("[-1.{}e-1]", "5".repeat(n - 6))),
        (Limit::JsonKeyBytes, 16, Rule::JsonKeyTooLong, &|n| format!("{{\"{}\":1}}", "k".repeat(n))),
        (Limit::JsonKeyBytes, 18, Rule::JsonKeyTooLong, &|n| format!("{{\"\\u0061{}\":1}}", "k".repeat(n - 6))),
        (Limit::JsonKeyBytes, 18, Rule::JsonKeyTooLong, &|n| format!("{{\"{}\\u0061\":1}}", "k".repeat(n - 6))),
        (Limit::JsonKeyBytes, 17, Rule::JsonKeyTooLong, &|n| format!("{{\"{}é\":1}}", "k".repeat(n - 2))),
        (Limit::JsonKeyBytes, 17, Rule::JsonKeyTooLong, &|n| format!("{{\"{}\\\"\":1}}", "k".repeat(n - 2))),
        (Limit::JsonKeys, 20, Rule::JsonTooManyKeys, &object),
        (Limit::JsonWhitespaceBytes, 30, Rule::JsonWhitespace, &|n| format!("{}[ 1\t]\n", " ".repeat(n - 3))),
    ];
    for (limit, value, rule, text) in cases {
        let limits = with(limit, value);
        for n in [value - 1, value, value + 1] {
            let text = text(n as usize);
            let (_, verdict) = every_way(text.as_bytes(), &limits, 0..=text.len());
            let expected = (n > value).then_some((rule, value));
            assert_eq!(verdict.err().map(|v| (v.rule, v.value)), expected, "{} {n}: {text}", limit.name());
        }
    }
    // A fault beyond the limit is not seen, one before it is.
    let limits = with(Limit::JsonKeyBytes, 16);
    for (key, rule, at) in [
        (&b"kkkkkkkkkkkkkkk\\u00zz"[..], Rule::JsonKeyTooLong, 18),
        (b"kkkkkkkkkkkk\\u0zzz", Rule::JsonString, 17),
        (b"kkkkkkkkkkkkkkkk\xff", Rule::JsonKeyTooLong, 18),
        (b"kkkkkkkkkkkkkkk\xff", Rule::Utf8, 17),
        (b"kkkkkkkkkkkkkkk\xc3\xff", Rule::JsonKeyTooLong, 18),
        (b"kkkkkkkkkkkkkkk\t", Rule::JsonString, 17),
        (b"kkkkkkkkkkkkkkkk\t", Rule::JsonKeyTooLong, 18),
        (b"kkkkkkkkkkkkkkk\\\"", Rule::JsonKeyTooLong, 18),
    ] {
        let text = [b"{\"", key, b"\":1}"].concat();
        let (_, verdict) = every_way(&text, &limits, 0..=text.len());
        assert_eq!(verdict.map_err(|v| (v.rule, v.at)), Err((rule, at)), "{}", key.escape_ascii());
    }
}

#[test]
fn a_store_is_a_limit_of_its_own() {
    let text = format!("{{\"{}\": {}}}", "k".repeat(20), "1".repeat(24));
    for room in 0..30 {
        let whole = story_in([text.as_bytes()], &Limits::DEFAULT, &mut vec![0; room]);
        for cut in 0..=text.len() {
            let (a, b) = text.as_bytes().split_at(cut);
            assert_eq!(story_in([a, b], &Limits::DEFAULT, &mut vec![0; room]), whole, "{room} cut at {cut}");
        }
        let expected = match room {
            0..20 => Err(Violation { rule: Rule::JsonKeyTooLong, at: 2 + room as u64, value: room as u64 }),
            20..24 => Err(Violation { rule: Rule::JsonNumberTooLong, at: 25 + room as u64, value: room as u64 }),
            _ => Ok(()),
        };
        assert_eq!(whole.1, expected, "{room}");
    }
    // Strings need none of it.
    let (tokens, verdict) = story_in(br#"["\u00e9\n", "abc"]"#.chunks(1), &Limits::DEFAULT, &mut []);
    assert_eq!((tokens.len(), verdict), (4, Ok(())));
}

fn skipping<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, skipped: u64) -> Story {
    story_of(pieces, &Limits::DEFAULT, &mut [0; 1024], Some(skipped))
}

#[test]
fn a_value_that_is_skipped_is_not_told() {
    let text = br#"{"a": [1, {"b": "x\ty\u00e9", "c": [[]]}, "z"], "d": -1e5, "e": {}}"#;
    let all = story([&text[..]], &Limits::DEFAULT).0;
    for (i, (token, at, depth)) in all.iter().enumerate() {
        // The last token of the value: where what it opened is closed again.
        let end = match token {
            Kept::Sign('{' | '[') => (i..all.len()).find(|&j| all[j].2 < *depth).unwrap(),
            Kept::Key(_) => (i + 1..all.len()).find(|&j| all[j].2 == *depth).unwrap(),
            _ => i,
        };
        let expected: Vec<_> = all[..=i].iter().chain(&all[end + 1..]).cloned().collect();
        for n in 1..=text.len() {
            assert_eq!(skipping(text.chunks(n), *at), (expected.clone(), Ok(())), "behind {token:?}, {n} at a time");
        }
    }
}

#[test]
fn the_rest_of_a_string_can_be_skipped() {
    let limits = &Limits::DEFAULT;
    let mut tokens = Tokenizer::default();
    let (mut a, mut b) = (&br#"["abc"#[..], &br#"d\n", 1]"#[..]);
    assert_eq!(tokens.next(&mut a, limits), Ok(Some(Token::ArrayStart)));
    assert_eq!(tokens.next(&mut a, limits), Ok(Some(Token::String { part: "abc", last: false })));
    tokens.skip();
    assert_eq!(tokens.next(&mut a, limits), Ok(None));
    assert_eq!(tokens.next(&mut b, limits), Ok(Some(Token::Number("1"))));
    tokens.skip();
    assert_eq!(tokens.next(&mut b, limits), Ok(Some(Token::ArrayEnd)), "a number is complete: nothing is skipped");
}

#[test]
fn what_is_skipped_is_judged_all_the_same() {
    for bad in
        [&br#"[{"a": [1, 2}, 3]"#[..], br#"[["\ud800"]]"#, b"[[\"\xff\"]]", b"[[1e999]]", b"[[1] 2]", b"[[01]]", b"[["]
    {
        let verdict = check(bad, &Limits::DEFAULT);
        assert!(verdict.is_err());
        for n in 1..=bad.len() {
            let (tokens, got) = skipping(bad.chunks(n), 1);
            assert_eq!((tokens.len(), got), (2, verdict), "{} {n} at a time", bad.escape_ascii());
        }
    }
}

// ENG-07, JSON-03, JSON-04, JSON-05
#[test]
fn work_is_linear_in_pieces_of_any_size() {
    let borderline = format!("1.79769313486231580793728971405303415079934132710037826936{}e308", "1".repeat(190));
    let numbers = format!("[{}1]", format!("{borderline},").repeat(400));
    let escapes = format!("\"{}\"", "\\ud83d\\ude00".repeat(9_000));
    let broken = format!("\"{}\"", "é".repeat(50_000));
    let long_keys = format!("{{{}\"\":0}}", format!("\"{}\\n\":0,", "k".repeat(1_000)).repeat(100));
    let whitespace = format!("[{}1]", "1 ,".repeat(20_000));
    for text in [&numbers, &escapes, &broken, &long_keys, &whitespace] {
        for n in [1, 3, 100, 5_000, text.len()] {
            let mut tokens = Tokenizer::default();
            let start = Instant::now();
            for mut piece in text.as_bytes().chunks(n) {
                while tokens.next(&mut piece, &Limits::DEFAULT).unwrap().is_some() {}
            }
            assert_eq!(tokens.finish(), Ok(None));
            let nanos = start.elapsed().as_nanos() / text.len() as u128;
            // Generous: the figure is 1 to 100 on an idle machine.
            assert!(nanos < 3_000, "{nanos} ns a byte, {n} at a time");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..8).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

/// Every character that is not ASCII as escapes.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
        }
    }
    out
}

fn cut<'a>(text: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = at.iter().map(|cut| cut.index(text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // P-22
    #[test]
    fn tokens_of_any_value_build_it_again(
        document in any_json(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let compact = serde_json::to_string(&document).unwrap();
        for text in [escaped(&compact), serde_json::to_string_pretty(&document).unwrap(), compact] {
            let whole = every_way(text.as_bytes(), &Limits::DEFAULT, []);
            prop_assert_eq!(&story(cut(text.as_bytes(), &cuts), &Limits::DEFAULT), &whole);
            prop_assert_eq!(whole.1, Ok(()));
            let built = value(&mut whole.0.into_iter()).unwrap();
            prop_assert_eq!(&built, &read(text.as_bytes(), &Limits::DEFAULT).unwrap());
            prop_assert!(alike(&built, &document));
        }
    }

    // ENG-01
    #[test]
    fn a_damaged_text_is_refused_at_the_same_byte(
        document in any_json(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), proptest::sample::select(&b"\"\\{}[]:,0129eE+-.tfnu \n\x00\x80\xc3\xed"[..]),
        ]), 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        small in any::<bool>(),
    ) {
        let mut text = escaped(&serde_json::to_string_pretty(&document).unwrap()).into_bytes();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let limits = match small {
            true => with(Limit::JsonKeyBytes, 16).with(Limit::JsonDepth, 3).unwrap().with(Limit::JsonNumberBytes, 16).unwrap(),
            false => Limits::DEFAULT,
        };
        let whole = every_way(&text, &limits, []);
        prop_assert_eq!(story(cut(&text, &cuts), &limits), whole);
    }

    #[test]
    fn any_text_of_json_signs_in_any_pieces(parts in proptest::collection::vec(proptest::sample::select(&[
        "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u0061\"", "\"", "\\", "\\ud83d", "\\ude00", "é", "1", "-0", "1e5", ".", " ", "null", "tr",
    ][..]), 0..14)) {
        let text = parts.concat().into_bytes();
        let _ = every_way(&text, &Limits::DEFAULT, 0..=text.len());
    }

    #[test]
    fn any_bytes_at_all_in_any_pieces(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = every_way(&text, &Limits::DEFAULT, 0..=text.len());
        let _ = every_way(&[b"[\"", &text[..]].concat(), &Limits::DEFAULT, 0..=text.len());
    }
}
