//! Forms of both kinds.

use super::choices;
use crate::decode::form::{self, Form, pairs};
use crate::decode::media::MediaType;
use crate::decode::multipart::{self, Multipart};
use crate::{Limit, Limits, Violation};
use std::string::{String, ToString};
use std::vec::Vec;

type Pairs = Vec<(String, String)>;

/// No limit of a form's own is reached by what a fuzzer makes.
fn wide() -> Limits {
    let most = |limits: Limits, limit: Limit| limits.with(limit, limit.range().1).expect("in range");
    [Limit::FormFields, Limit::FormNameBytes, Limit::FormValueBytes].into_iter().fold(Limits::DEFAULT, most)
}

/// A form in pieces and a whole one have the same pairs and the same fault. One choice: the size of the pieces.
pub fn form(data: &[u8]) {
    let ([size], text) = choices(data);
    let limits = wide();
    let whole = form_in(text, text.len().max(1), 65_536, &limits);
    assert_eq!(form_in(text, usize::from(size) + 1, 65_536, &limits), whole, "the cut tells another story");
    // Less memory cuts values elsewhere; only a name may not fit.
    let small = form_in(text, usize::from(size) + 1, 1_024, &limits);
    assert!(small == whole || small.1.is_err_and(|bad| bad.value == 1_024));
    let (mut told, mut end) = (Pairs::new(), Ok(()));
    for pair in pairs(text) {
        match pair {
            Ok((name, value)) => told.push((name.to_string(), value.to_string())),
            Err(violation) => end = Err(violation),
        }
    }
    assert_eq!(end, whole.1);
    assert!(whole.0.starts_with(&told) && whole.0.len() <= told.len() + usize::from(end.is_err()));
    let mut scratch = std::vec![0; 3 * text.len() + 4];
    let typed: Result<Pairs, Violation> = form::from_slice(text, &limits, &mut scratch);
    assert_eq!(typed, end.map(|()| told));
}

fn form_in(text: &[u8], size: usize, room: usize, limits: &Limits) -> (Pairs, Result<(), Violation>) {
    let mut form = Form::new(std::vec![0; room]);
    let (mut told, mut pieces) = (Pairs::new(), text.chunks(size));
    let mut piece = pieces.next();
    loop {
        let item = match &mut piece {
            Some(piece) => form.next(piece, limits),
            None => form.finish(),
        };
        match item {
            Ok(Some(form::Item::Name(name))) => told.push((name.into(), String::new())),
            Ok(Some(form::Item::Value(part))) => told.last_mut().expect("it has a name").1.push_str(part),
            Ok(Some(form::Item::PairEnd)) => {}
            Ok(None) if piece.is_none() => return (told, Ok(())),
            Ok(None) => piece = pieces.next(),
            Err(violation) => return (told, Err(violation)),
        }
    }
}

/// Name, file name, content.
type Parts = Vec<(String, Option<String>, Vec<u8>)>;

/// A multipart body gives the same parts however it is cut, and what is taken has the content that a plain search
/// finds. The boundary is `b`. One choice: the size of the pieces.
pub fn multipart(data: &[u8]) {
    let ([size], body) = choices(data);
    let whole = multipart_in(body, body.len().max(1));
    assert_eq!(multipart_in(body, usize::from(size) + 1), whole, "the cut tells another story");
    if let (parts, Ok(())) = whole {
        assert_eq!(parts.into_iter().map(|part| part.2).collect::<Vec<_>>(), contents(body));
    }
}

fn multipart_in(body: &[u8], size: usize) -> (Parts, Result<(), Violation>) {
    let content_type = MediaType::parse(b"multipart/form-data; boundary=b").expect("it is one");
    let mut reader = Multipart::new(&content_type, [0; 2_048]).expect("it is one");
    let mut told = Parts::new();
    for mut piece in body.chunks(size) {
        loop {
            match reader.next(&mut piece, &Limits::DEFAULT) {
                Ok(Some(multipart::Item::Part(part))) => {
                    told.push((part.name.into(), part.filename.map(String::from), Vec::new()));
                }
                Ok(Some(multipart::Item::Data(bytes))) => {
                    told.last_mut().expect("it has a header").2.extend_from_slice(bytes);
                }
                Ok(Some(multipart::Item::PartEnd)) => {}
                Ok(None) => break,
                Err(violation) => return (told, Err(violation)),
            }
        }
        assert!(piece.is_empty());
    }
    (told, reader.finish())
}

/// The contents of a good body, as RFC 2046 §5.1.1 draws it.
fn contents(body: &[u8]) -> Vec<Vec<u8>> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
    let mut rest = body.strip_prefix(b"\r\n").unwrap_or(body).strip_prefix(b"--b").expect("a boundary");
    let mut all = Vec::new();
    while !rest.starts_with(b"--") {
        let head = find(rest, b"\r\n\r\n").expect("a header ends") + 4;
        rest = &rest[head..];
        let end = find(rest, b"\r\n--b").expect("a part ends");
        all.push(rest[..end].to_vec());
        rest = &rest[end + 5..];
    }
    all
}
