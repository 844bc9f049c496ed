//! The same flaw in the same request is refused in both versions, for the same rule, as far as both have it (P-17).

use proptest::prelude::*;
use vestibule::{Body, Event, Expect, Rule, Violation};

use super::ask::{Ask, ask, chunked};
use super::cases;
use super::client::Client;
use super::frames::{Dice, Line};
use super::road::{Handler, Road, patient};

/// A way to spoil a request. What it says in HTTP/1.1 is written by hand, since `Ask` could not.
#[derive(Clone, Debug)]
pub enum Flaw {
    Method(Vec<u8>),
    Target(Vec<u8>),
    /// The value of Host; `None`: there is none.
    Host(Option<Vec<u8>>),
    /// Fields that are added, at the front or at the end.
    Fields(Vec<Line>, bool),
    /// The length that is said, if there is a body.
    Length(Vec<u8>),
    Trailers(Vec<Line>),
    /// More body than the handler takes.
    Body(u32),
    /// CONNECT to this authority, with this Host.
    Connect(Vec<u8>, Vec<u8>),
}

/// What became of a request, as far as a client and a handler can tell.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Accepted,
    /// Its handler was told why.
    Aborted(Rule),
    /// No handler heard of it. The status, or, where the answer is 400 in HTTP/1.1, the code of the reset.
    Refused {
        status: u16,
        code: u32,
    },
}

/// Everything is taken, whole if that is asked for, and answered.
#[derive(Debug, Default)]
struct Taker {
    max: Option<u32>,
    seen: bool,
    answered: bool,
    why: Option<Violation>,
    fault: Option<Violation>,
}

impl Handler for Taker {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                self.seen = true;
                if let Some(max) = self.max {
                    request.reply.expect(Expect::Whole { max });
                }
                if !request.has_body {
                    request.reply.text(404, "").expect("room");
                    self.answered = true;
                }
            }
            Event::Body(Body { last: true, mut reply, .. }) => {
                reply.text(404, "").expect("room");
                self.answered = true;
            }
            Event::Trailers(mut trailers) => {
                trailers.reply.text(404, "").expect("room");
                self.answered = true;
            }
            Event::Aborted { why, .. } => self.why = why,
            Event::Fault(violation) => self.fault = Some(violation),
            _ => {}
        }
    }
}

/// A request, and what is wrong with it.
struct Spoilt {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Option<Vec<u8>>,
    fields: Vec<Line>,
    body: Option<Vec<u8>>,
    length: Option<Vec<u8>>,
    trailers: Vec<Line>,
    max: Option<u32>,
}

impl Spoilt {
    fn of(ask: &Ask, flaw: &Flaw) -> Spoilt {
        let mut it = Spoilt {
            method: ask.method.clone().into(),
            target: ask.target.clone().into(),
            host: Some(ask.authority.clone().into()),
            fields: ask.common(),
            body: ask.coded_body(),
            length: None,
            trailers: ask.trailers.clone(),
            max: None,
        };
        if it.trailers.is_empty() && ask.length {
            it.length = it.body.as_ref().map(|body| body.len().to_string().into_bytes());
        }
        match flaw.clone() {
            Flaw::Connect(target, host) => {
                (it.method, it.target, it.host) = (b"CONNECT".to_vec(), target, Some(host));
                (it.body, it.length, it.trailers) = (None, None, Vec::new());
                it.fields.retain(|f| f.0 != b"content-encoding");
            }
            Flaw::Method(method) => it.method = method,
            Flaw::Target(target) => it.target = target,
            Flaw::Host(host) => it.host = host,
            Flaw::Fields(more, true) => it.fields = [more, it.fields].concat(),
            Flaw::Fields(more, false) => it.fields.extend(more),
            Flaw::Length(text) => {
                (it.length, it.trailers) = (Some(text), Vec::new());
                it.body.get_or_insert_default();
            }
            Flaw::Trailers(trailers) => {
                (it.length, it.trailers) = (None, trailers);
                it.body.get_or_insert_default();
            }
            Flaw::Body(max) => {
                (it.body, it.max) = (Some(vec![b'b'; max as usize + 1]), Some(max));
                it.fields.retain(|f| f.0 != b"content-encoding");
                it.length = it.length.map(|_| (max + 1).to_string().into_bytes());
            }
        }
        it
    }

    /// So near a limit that it matters what each version counts: HTTP/1.1 a line for the framing, HTTP/2 those of the request line.
    fn is_close(&self) -> bool {
        let all = || self.fields.iter().chain(&self.trailers);
        let (lines, head) = (all().count() + 1, self.fields.len() + 1);
        let weight: usize = all().map(|(name, value)| name.len() + value.len() + 96).sum();
        lines.abs_diff(100) < 2 || head.abs_diff(100) < 2 || (weight < 33_768 && weight + self.target.len() > 31_768)
    }

    /// HTTP/1.1 would read something else in it, or repair it: white space around values, names in upper case, an empty Host, a line
    /// end inside. HTTP/2 must refuse it.
    fn is_another(&self) -> bool {
        let blank = |text: &[u8]| text.trim_ascii() != text;
        let cut = |text: &[u8]| text.iter().any(|b| matches!(b, b'\r' | b'\n'));
        let odd = |(name, value): &Line| {
            name.iter().any(|b| b.is_ascii_uppercase() || *b == b':') || blank(value) || cut(name) || cut(value)
        };
        let length = self.length.as_ref().and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        let body = self.body.as_ref().map_or(0, Vec::len) as u64;
        self.fields.iter().chain(&self.trailers).any(odd)
            || self.host.as_ref().is_some_and(|host| host.is_empty() || blank(host) || cut(host))
            || self.length.as_ref().is_some_and(|length| blank(length) || cut(length))
            || length.is_some_and(|n| n != body)
            || cut(&self.method)
            || cut(&self.target)
    }

    fn h1(&self, seed: u64) -> Verdict {
        let mut bytes = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        let mut lines = self.fields.clone();
        lines.extend(self.host.iter().map(|host| (b"host".to_vec(), host.clone())));
        lines.extend(self.length.iter().map(|length| (b"content-length".to_vec(), length.clone())));
        let chunks = self.body.is_some() && self.length.is_none();
        lines.extend(chunks.then(|| (b"transfer-encoding".to_vec(), b"chunked".to_vec())));
        lines.iter().for_each(|(name, value)| bytes.extend([&name[..], b": ", value, b"\r\n"].concat()));
        bytes.extend_from_slice(b"\r\n");
        let mut dice = Dice::new(seed);
        match &self.body {
            Some(body) if chunks => bytes.extend(chunked(body, &self.trailers, &mut dice)),
            Some(body) => bytes.extend_from_slice(body),
            None => {}
        }
        let mut road = Road::new(patient(), 0, 9_000, Taker { max: self.max, ..Taker::default() });
        let _ = road.h1(&bytes, &mut dice);
        let it = road.handler;
        match it.why.or(it.fault) {
            Some(why) if it.seen => Verdict::Aborted(why.rule),
            Some(why) => refused(why),
            None => {
                assert!(it.answered, "neither refused nor answered");
                Verdict::Accepted
            }
        }
    }

    fn h2(&self, seed: u64) -> Verdict {
        let mut lines: Vec<Line> = vec![
            (b":method".to_vec(), self.method.clone()),
            (b":scheme".to_vec(), b"http".to_vec()),
            (b":path".to_vec(), self.target.clone()),
        ];
        if self.method == b"CONNECT" {
            lines = vec![(b":method".to_vec(), self.method.clone()), (b":authority".to_vec(), self.target.clone())];
        }
        let name = if seed.is_multiple_of(2) || self.method == b"CONNECT" { "host" } else { ":authority" };
        lines.extend(self.host.iter().map(|host| (name.into(), host.clone())));
        lines.extend(self.fields.iter().cloned());
        lines.extend(self.length.iter().map(|length| (b"content-length".to_vec(), length.clone())));
        let mut road = Road::new(patient(), 0, 9_000, Taker { max: self.max, ..Taker::default() });
        let mut client = Client::new(seed, 65_535);
        client.request(&lines, self.body.clone(), &self.trailers);
        road.h2(&mut client);
        let (it, lane) = (road.handler, client.lanes.pop_first().expect("a stream").1);
        match it.why.or(it.fault) {
            Some(why) if it.seen => return Verdict::Aborted(why.rule),
            Some(why) => return refused(why),
            None => {}
        }
        match (lane.head, lane.reset) {
            (Some(_), _) if it.answered => Verdict::Accepted,
            (Some((status, _)), _) => Verdict::Refused { status, code: 0 },
            (None, code) => Verdict::Refused { status: 400, code: code.expect("a verdict") },
        }
    }
}

impl Verdict {
    /// What HTTP/1.1 finds while it cuts lines is a rule of its own.
    fn common(self) -> Verdict {
        match self {
            Verdict::Aborted(Rule::ControlByte) => Verdict::Aborted(Rule::FieldValueSyntax),
            Verdict::Aborted(Rule::FieldNameSpace) => Verdict::Aborted(Rule::FieldNameSyntax),
            other => other,
        }
    }
}

fn refused(why: Violation) -> Verdict {
    Verdict::Refused { status: why.status(), code: if why.status() == 400 { why.h2_code() } else { 0 } }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![3 => 0x20..0x7fu8, 1 => any::<u8>()], 0..12)
}

fn field(name: &str, value: &[u8]) -> Line {
    (name.as_bytes().to_vec(), value.to_vec())
}

fn connect() -> impl Strategy<Value = Flaw> {
    let known = prop::sample::select(vec!["a:443", "a:80", "a", "a:", "A:443", ":443", "[::1]:1", "a:0", "/", "*"]);
    let target = prop_oneof![3 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => bytes()];
    let host = (target.clone(), any::<bool>());
    (target, host).prop_map(|(target, (other, same))| {
        let host = if same { target.clone() } else { other };
        Flaw::Connect(target, host)
    })
}

fn flaw() -> impl Strategy<Value = Flaw> {
    let fixed = vec![
        field("content_length", b"1"),
        field("transfer_encoding", b"chunked"),
        field("Transfer-encoding", b"chunked"),
        field("expect", b"200-ok"),
        field("content-encoding", b"br"),
        field("content-encoding", b"gzip, gzip"),
        field("a", &[b'v'; 16_384]),
        field("a", &[b'v'; 16_385]),
        field(&"n".repeat(256), b""),
        field(&"n".repeat(257), b""),
        field("", b"v"),
        field("a b", b"v"),
        field("a\u{e4}", b"v"),
        field("a(", b"v"),
        field("a", b"\0"),
        field("a", b"\x7f"),
        field("a", b"b\rc"),
        field("a", b"b\nc: d"),
        field("a", b"b\r\nc: d"),
        field("a\r\nb", b"c"),
    ];
    let trailers = vec![
        vec![field("content-length", b"1")],
        vec![field("host", b"a")],
        vec![field("te", b"trailers")],
        vec![field("authorization", b"x")],
        vec![field("content_length", b"1")],
        vec![field("x", b"v"); 17],
        vec![field("x", &[b'v'; 4_200])],
        vec![field("x", b"\0")],
        vec![field("x y", b"")],
    ];
    let host = prop_oneof![Just(None), bytes().prop_map(Some)];
    let many = (95usize..=101).prop_map(|n| vec![field("x", b"v"); n]);
    let wide = (2usize..5).prop_map(|n| vec![field("x", &[b'v'; 12_000]); n]);
    prop_oneof![
        bytes().prop_map(Flaw::Method),
        (30usize..40).prop_map(|n| Flaw::Method(vec![b'M'; n])),
        bytes().prop_map(Flaw::Target),
        bytes().prop_map(|tail| Flaw::Target([b"/", &tail[..]].concat())),
        (8_170usize..8_200).prop_map(|n| Flaw::Target(vec![b'/'; n])),
        host.prop_map(Flaw::Host),
        (prop::sample::select(fixed), any::<bool>()).prop_map(|(field, front)| Flaw::Fields(vec![field], front)),
        (bytes(), bytes(), any::<bool>()).prop_map(|(name, value, front)| Flaw::Fields(vec![(name, value)], front)),
        bytes().prop_map(|host| Flaw::Fields(vec![(b"host".to_vec(), host)], true)),
        many.prop_map(|fields| Flaw::Fields(fields, false)),
        wide.prop_map(|fields| Flaw::Fields(fields, false)),
        prop_oneof![bytes(), "[0-9+ ,-]{1,20}".prop_map(String::into_bytes)].prop_map(Flaw::Length),
        prop::sample::select(trailers).prop_map(Flaw::Trailers),
        (0u32..70_000).prop_map(Flaw::Body),
        connect(),
    ]
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn one_flaw_is_refused_alike(ask in ask(), flaw in flaw(), seed in any::<u64>()) {
        let spoilt = Spoilt::of(&ask, &flaw);
        prop_assume!(!spoilt.is_close());
        let h2 = spoilt.h2(seed);
        if spoilt.is_another() {
            prop_assert_ne!(h2, Verdict::Accepted);
        } else {
            prop_assert_eq!(spoilt.h1(seed).common(), h2);
        }
    }
}
