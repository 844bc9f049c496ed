//! llhttp's own request cases against ours: what llhttp refuses we refuse, what it takes we take and read the same; or the case
//! stands in a table below, with the reason. The cases are read from `../shared/data`; without them there is nothing to do.
//!
//! llhttp takes HTTP/1.1 requests without Host. So that more than that one rule is compared, such heads get one here.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use serde::Deserialize;
use vestibule::parse::h1::{Item, Receiver};
use vestibule::{Limits, Rule};

/// llhttp takes these. We do not, by the rule named.
const STRICTER: &[(&str, Rule, &str)] = &[
    ("request/connection.md:156", Rule::BytesBeforeRequestLine, "one empty line between requests is forgiven, not two"),
    ("request/connection.md:713", Rule::UpgradeWithBody, "an upgrade with a body leaves open where the tunnel begins"),
    ("request/connection.md:812", Rule::UpgradeWithBody, "the same"),
    ("request/content-length.md:4", Rule::ContentLengthSyntax, "a length has one spelling: no leading zeros"),
    ("request/content-length.md:33", Rule::ContentLengthSyntax, "the same"),
    ("request/method.md:96", Rule::ConnectWithBody, "CONNECT has no content (RFC 9110 §9.3.6)"),
    (
        "request/method.md:135",
        Rule::TargetForm,
        "the asterisk is for OPTIONS (RFC 9112 §3.2.4); this is no HTTP, but SSDP",
    ),
    ("request/method.md:372", Rule::VersionSyntax, "ICE is not HTTP"),
    ("request/method.md:400", Rule::VersionSyntax, "RTSP is not HTTP"),
    ("request/method.md:430", Rule::VersionSyntax, "RTSP is not HTTP"),
    ("request/method.md:458", Rule::TargetForm, "HTTP/2's preface says HTTP/2.0, and this is none"),
    ("request/sample.md:314", Rule::VersionSyntax, "HTTP/0.9 is not spoken"),
    ("request/transfer-encoding.md:186", Rule::TrailerForbidden, "Content-Type is no trailer (RFC 9110 §6.5.1)"),
    ("request/transfer-encoding.md:751", Rule::TargetSyntax, "a fragment is never sent (RFC 9110 §7.1)"),
    ("request/transfer-encoding.md:793", Rule::TargetSyntax, "the same"),
    ("request/uri.md:165", Rule::TargetSyntax, "the same"),
    ("request/uri.md:222", Rule::TargetForm, "userinfo in an http URI is an error (RFC 9110 §4.2.4)"),
];

/// llhttp refuses these. We do not.
const LAXER: &[(&str, &str)] =
    &[("request/invalid.md:66", "a method is any token (RFC 9110 §9.1); llhttp keeps some of RTSP's apart")];

/// The bodies of these are not read, because llhttp's caller said so; nothing of that is in the bytes.
const BY_ANOTHER_HAND: &[&str] = &["request/content-length.md:444"];

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    lenient: Option<String>,
    input_latin1: String,
    messages: Vec<Message>,
    error: Option<Fault>,
    events: Vec<Happening>,
}

#[derive(Deserialize, Debug)]
#[allow(dead_code)] // the reason is for whoever reads a failure
struct Fault {
    code: Option<u32>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Happening {
    ev: String,
    #[serde(default)]
    off: usize,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
struct Message {
    complete: bool,
    #[serde(default)]
    method: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    version: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// What we make of it.
#[derive(Debug, PartialEq)]
enum End {
    /// All of it was read; a message may be incomplete.
    Read,
    /// The connection ends, or is a tunnel from here on; bytes follow or not.
    Left {
        more: bool,
    },
    Refused(Rule),
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// The input, with a Host in every head of HTTP/1.1 that was read as far as its version, and that has none.
fn with_hosts(case: &Case) -> Vec<u8> {
    let mut bytes = latin1(&case.input_latin1);
    let has_host = |m: &Message| m.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let versions: Vec<usize> = case.events.iter().filter(|e| e.ev == "version_complete").map(|e| e.off).collect();
    for (i, &at) in versions.iter().enumerate().rev() {
        let Some(message) = case.messages.get(i).filter(|m| !has_host(m) && m.version == "1.1") else { continue };
        // Host says what an absolute target says.
        let authority = message.url.split_once("://").map_or(OTHER_HOST, |(_, rest)| {
            let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
            authority.rsplit_once('@').map_or(authority, |(_, host)| host)
        });
        bytes.splice(at..at, format!("\r\nHost: {authority}").into_bytes());
    }
    bytes
}

const OTHER_HOST: &str = "llhttp.test";

/// Reads `bytes`, `n` at a time.
fn read(bytes: &[u8], n: usize) -> (Vec<Message>, End) {
    let (mut receiver, mut here, mut at) = (Receiver::new(), 0, 0);
    let mut messages: Vec<Message> = Vec::new();
    let mut last = false;
    loop {
        let rest = &bytes[at..here];
        let item = match receiver.step(rest, &Limits::DEFAULT) {
            Ok(item) => item,
            Err(violation) => return (messages, End::Refused(violation.rule)),
        };
        at += match item {
            Item::Need { .. } if here == bytes.len() => return (messages, End::Read),
            Item::Need { .. } => {
                here = (here + n).min(bytes.len());
                0
            }
            Item::Head { spans, facts } => {
                let lines = text(spans.fields.of(rest));
                let field = |line: &str| {
                    let (name, value) = line.split_once(':').unwrap();
                    (name.to_string(), value.trim_matches([' ', '\t']).to_string())
                };
                messages.push(Message {
                    complete: false,
                    method: text(spans.method.of(rest)),
                    url: text(spans.target.of(rest)),
                    version: spans_version(spans.version),
                    headers: lines.lines().map(field).collect(),
                    body: String::new(),
                });
                last = !facts.persistent || facts.is_connect || facts.upgrade;
                spans.len as usize
            }
            Item::Data { len, .. } => {
                messages.last_mut().unwrap().body += &text(&rest[..len]);
                receiver.took(len);
                len
            }
            Item::Skip { len } | Item::End { len } | Item::Trailers { len, .. } => len,
            Item::Done => {
                messages.last_mut().unwrap().complete = true;
                if last {
                    return (messages, End::Left { more: at < bytes.len() });
                }
                receiver.next();
                0
            }
            Item::Tunnel { .. } => unreachable!("nobody asked for a tunnel"),
        };
    }
}

fn spans_version(version: vestibule::Version) -> String {
    version.name().trim_start_matches("HTTP/").to_string()
}

/// Message by message. Trailers are no fields here; Host may have been put in, and is compared with the target elsewhere.
fn same(ours: &[Message], theirs: &[Message]) -> Result<(), String> {
    for (i, theirs) in theirs.iter().enumerate() {
        let Some(ours) = ours.get(i) else {
            // A head that was not complete is no message yet.
            return if theirs.complete { Err(format!("message {i} is missing")) } else { Ok(()) };
        };
        let fields = |m: &Message| -> Vec<(String, String)> {
            let trimmed = m.headers.iter().map(|(n, v)| (n.clone(), v.trim_matches([' ', '\t']).to_string()));
            trimmed.filter(|f| !f.0.eq_ignore_ascii_case("host")).collect()
        };
        let (mine, other) = (fields(ours), fields(theirs));
        let trailers = other.len().saturating_sub(mine.len());
        let alike = ours.complete == theirs.complete
            && (&ours.method, &ours.url, &ours.version) == (&theirs.method, &theirs.url, &theirs.version)
            && ours.body == theirs.body
            && mine == other[..other.len() - trailers];
        if !alike {
            return Err(format!("message {i}: ours {ours:?}\n  theirs {theirs:?}"));
        }
    }
    Ok(())
}

/// Bytes behind the last message of a connection.
const CLOSED: u32 = 5;
/// Codes that are no errors: paused, an upgrade to another protocol.
const PAUSES: [u32; 3] = [21, 22, 23];

fn refuses(bytes: &[u8]) -> bool {
    matches!(read(bytes, bytes.len()).1, End::Refused(_))
}

fn cases() -> Option<Vec<Case>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/llhttp/llhttp-cases.json");
    match std::fs::read_to_string(path) {
        Ok(text) => Some(serde_json::from_str::<File>(&text).unwrap().cases),
        Err(_) => {
            println!("llhttp's cases are not here: nothing is compared");
            None
        }
    }
}

#[test]
fn strict_cases_are_refused_and_read_as_llhttp_does() {
    let (mut wrong, mut used, cases) = (Vec::new(), 0, cases().unwrap_or_default());
    let expected = if cases.is_empty() { 0 } else { STRICTER.len() + LAXER.len() };
    for case in cases {
        let other = case.lenient.is_some() || BY_ANOTHER_HAND.contains(&&*case.id);
        if other || !case.kind.starts_with("request") {
            continue;
        }
        let bytes = with_hosts(&case);
        let (messages, end) = read(&bytes, bytes.len());
        assert_eq!((&messages, &end), (&read(&bytes, 1).0, &read(&bytes, 1).1), "{} byte by byte", case.id);
        let fault = case.error.as_ref().filter(|e| !e.code.is_some_and(|code| PAUSES.contains(&code)));
        let verdict = match &end {
            End::Refused(_) if fault.is_some() => Ok(()),
            // They refuse what follows, we do not read it.
            End::Left { more: true } if fault.is_some_and(|f| f.code == Some(CLOSED)) => Ok(()),
            // They say it at once, we when the head is complete.
            End::Read if fault.is_some() && refuses(&[&bytes[..], b"\r\n\r\n"].concat()) => Ok(()),
            _ if fault.is_some() => match LAXER.iter().any(|c| c.0 == case.id) {
                true => {
                    used += 1;
                    Ok(())
                }
                false => Err(format!("llhttp refuses it: {fault:?}; we do not: {end:?}")),
            },
            End::Refused(rule) => match STRICTER.iter().any(|c| c.0 == case.id && c.1 == *rule) {
                true => {
                    used += 1;
                    Ok(())
                }
                false => Err(format!("llhttp takes it, we do not: Rule::{rule:?}")),
            },
            _ => same(&messages, &case.messages),
        };
        if let Err(what) = verdict {
            wrong.push(format!("{} {}: {what}\n  {}", case.id, case.name, bytes.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(used, expected, "an exception that is none");
}

#[test]
fn what_only_leniency_takes_is_refused() {
    let mut wrong = Vec::new();
    for case in cases().unwrap_or_default() {
        if !case.kind.starts_with("request") || case.lenient.is_none() {
            continue;
        }
        let bytes = with_hosts(&case);
        let (messages, end) = read(&bytes, bytes.len());
        assert_eq!((&messages, &end), (&read(&bytes, 1).0, &read(&bytes, 1).1), "{} byte by byte", case.id);
        let refused = matches!(end, End::Refused(_) | End::Left { more: true });
        if !refused {
            wrong.push(format!("{} {}: {end:?}\n  {}", case.id, case.name, bytes.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
}
