//! In: heads with one flaw each, in both versions. Out: the same rule, which the bytes on the wire tell only in part (P-17).

use super::peer::patient;
use crate::base::Rule;
use crate::parse::h1::Version;
use crate::parse::pack::Decoder;
use crate::parse::section::Section;
use crate::{Config, Connection, Event, Inbox, Instant, Outbox};
use std::sync::Arc;

type Lines<'l> = &'l [(&'l str, &'l [u8])];
/// Method, target, fields, and what becomes of it.
type Case<'c> = (&'c str, &'c [u8], Vec<(&'c str, &'c [u8])>, Result<(), Rule>);

/// A head of three parts: method, target, fields. Host is among the fields.
fn over_h1(method: &str, target: &[u8], fields: Lines<'_>) -> Result<(), Rule> {
    let mut text = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
    fields.iter().for_each(|(name, value)| text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat()));
    text.extend_from_slice(b"\r\n");
    let mut connection = Connection::new(Arc::new(Config::new(patient())), Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::filled(text.clone(), text.len()), Outbox::new(vec![0; 9_000]));
    let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).expect("our own buffers");
    loop {
        match turn.next().expect("a verdict") {
            Event::Request(_) => return Ok(()),
            Event::Fault(violation) => return Err(violation.rule),
            _ => {}
        }
    }
}

fn over_h2(method: &str, target: &[u8], fields: Lines<'_>) -> Result<(), Rule> {
    let (host, path): (&[_], _) = match method {
        "CONNECT" => (&[(":authority", target)], &[][..]),
        _ => (&[(":path", target)], &[(":scheme", &b"http"[..])][..]),
    };
    let mut block = Vec::new();
    for (name, value) in [&[(":method", method.as_bytes())], path, host, fields].concat() {
        block.push(0x10); // a literal that stays out of the table (RFC 7541 §6.2.3)
        for text in [name.as_bytes(), value] {
            match text.len() {
                n @ ..127 => block.push(n as u8),
                n => block.extend([127, (n - 127) as u8 | 128, ((n - 127) >> 7) as u8 | 128, ((n - 127) >> 14) as u8]),
            }
            block.extend_from_slice(text);
        }
    }
    let (limits, mut section, mut decoder) = (patient(), Section::default(), Decoder::new(4_096));
    section.begin(false);
    decoder.begin();
    let mut rest = &block[..];
    while let Some(field) = decoder.next(&mut rest, &mut section.lines).expect("a good block") {
        section.field(&field, &limits)?;
    }
    section.finish_request(false, Version::Http2, &limits).map(|_| ())
}

#[test]
fn a_flaw_of_a_head_breaks_the_same_rule() {
    let (n, n256, v, wide) = ("n".repeat(257), "n".repeat(256), vec![b'v'; 16_385], vec![b'v'; 12_000]);
    let host: (&str, &[u8]) = ("host", b"a");
    let with = |field: (&'static str, &'static [u8])| vec![host, field];
    let long = vec![b'/'; 8_180];
    let cases: Vec<Case<'_>> = vec![
        ("GET", b"/", vec![host], Ok(())),
        ("G(T", b"/", vec![host], Err(Rule::MethodSyntax)),
        ("MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM", b"/", vec![host], Err(Rule::MethodTooLong)),
        ("GET", b"/#", vec![host], Err(Rule::TargetSyntax)),
        ("GET", b"/\x80", vec![host], Err(Rule::TargetSyntax)),
        ("GET", b"x", vec![host], Err(Rule::TargetForm)),
        ("GET", b"*", vec![host], Err(Rule::TargetForm)),
        ("OPTIONS", b"*", vec![host], Ok(())),
        ("GET", &long, vec![host], Err(Rule::RequestLineTooLong)),
        ("GET", &long[1..], vec![host], Ok(())),
        ("CONNECT", b"a:1", vec![("host", b"a:1")], Ok(())),
        ("CONNECT", b"a:443", vec![host], Ok(())),
        ("CONNECT", b"a", vec![host], Err(Rule::TargetForm)),
        ("CONNECT", b"a:1", vec![("host", b"b:1")], Err(Rule::HostDisagrees)),
        ("CONNECT", b"a:1", vec![("host", b"a:1"), ("content-length", b"1")], Err(Rule::ConnectWithBody)),
        ("GET", b"/", vec![], Err(Rule::HostMissing)),
        ("GET", b"/", vec![host, host], Err(Rule::HostRepeated)),
        ("GET", b"/", vec![("host", b"a,b")], Err(Rule::HostSyntax)),
        ("GET", b"/", vec![("host", b"a:65536")], Err(Rule::HostSyntax)),
        ("GET", b"/", with(("content-length", b"01")), Err(Rule::ContentLengthSyntax)),
        ("GET", b"/", with(("content-length", b"1, 1")), Err(Rule::ContentLengthSyntax)),
        ("GET", b"/", vec![host, ("content-length", b"1"), ("content-length", b"1")], Err(Rule::ContentLengthRepeated)),
        ("GET", b"/", with(("content_length", b"1")), Err(Rule::FieldAlias)),
        ("GET", b"/", with(("transfer_encoding", b"chunked")), Err(Rule::FieldAlias)),
        ("GET", b"/", with(("expect", b"200-ok")), Err(Rule::ExpectationUnknown)),
        ("GET", b"/", with(("", b"v")), Err(Rule::FieldNameSyntax)),
        ("GET", b"/", with(("a(", b"v")), Err(Rule::FieldNameSyntax)),
        ("GET", b"/", with(("\u{e4}", b"v")), Err(Rule::FieldNameSyntax)),
        ("GET", b"/", vec![host, (&n256, b"v")], Ok(())),
        ("GET", b"/", vec![host, (&n, b"v")], Err(Rule::FieldNameTooLong)),
        ("GET", b"/", vec![host, ("a", &v[1..])], Ok(())),
        ("GET", b"/", vec![host, ("a", &v)], Err(Rule::FieldValueTooLong)),
        ("GET", b"/", [vec![host], vec![("a", &b""[..]); 99]].concat(), Ok(())),
        ("GET", b"/", [vec![host], vec![("a", &b""[..]); 100]].concat(), Err(Rule::TooManyFields)),
        ("GET", b"/", [vec![host], vec![("a", &wide[..]); 3]].concat(), Err(Rule::FieldSectionTooLarge)),
    ];
    for (method, target, fields, rule) in cases {
        let both = (over_h1(method, target, &fields), over_h2(method, target, &fields));
        let first = fields.get(1).map(|f| f.0);
        assert_eq!(both, (rule, rule), "{method} {} {first:.20?}", target[..target.len().min(9)].escape_ascii());
    }
}
