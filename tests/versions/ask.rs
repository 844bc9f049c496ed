//! In: a request without a version. Out: its bytes in either version, and what a handler must see of it in both.

use std::io::Write;

use proptest::prelude::*;
use vestibule::{Body, Content, Event, Expect, Head, Id, Misuse, Reply, Turn, Violation};

use super::frames::{Dice, Line};
use super::road::Handler;

/// A request, and what its handler does with it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub target: String,
    pub authority: String,
    pub fields: Vec<Line>,
    pub body: Option<Vec<u8>>,
    /// The body's length is said.
    pub length: bool,
    pub coded: bool,
    pub expects: bool,
    pub trailers: Vec<Line>,
    pub how: How,
    pub answer: Answer,
    /// Chooses between spellings that mean the same.
    pub seed: u64,
}

#[derive(Copy, Clone, Debug, PartialEq)]
pub enum How {
    Stream,
    Manual,
    Whole,
    ByJob,
    Discard,
}

/// What is answered; numbers are lengths of content.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Text(u16, usize),
    Json,
    Whole(u16, usize),
    Sized(usize),
    Streamed(usize),
    Trailers(usize),
    Empty(u16),
}

fn line(name: &str, value: &[u8]) -> Line {
    (name.as_bytes().to_vec(), value.to_vec())
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

impl Ask {
    /// The body as it is sent.
    pub fn coded_body(&self) -> Option<Vec<u8>> {
        self.body.as_ref().map(|body| if self.coded { gzip(body) } else { body.clone() })
    }

    /// Fields that either version has, framing excepted.
    pub fn common(&self) -> Vec<Line> {
        let mut fields = self.fields.clone();
        if self.coded && self.body.is_some() {
            fields.push(line("content-encoding", b"gzip"));
        }
        if self.expects {
            fields.push(line("expect", b"100-continue"));
        }
        fields
    }

    fn says_length(&self) -> bool {
        self.body.is_some() && self.length && self.trailers.is_empty()
    }

    pub fn h1(&self) -> Vec<u8> {
        let mut dice = Dice::new(self.seed);
        let mut lines = self.common();
        lines.push(line("host", self.authority.as_bytes()));
        let body = self.coded_body();
        let length = body.as_ref().map_or(0, Vec::len).to_string();
        match &body {
            Some(_) if self.says_length() => lines.push(line("content-length", length.as_bytes())),
            Some(_) => lines.push(line("transfer-encoding", b"chunked")),
            None => {}
        }
        let at = dice.below(lines.len());
        lines.rotate_left(at); // where Host and the framing stand is of no interest
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &lines {
            let name = if dice.one_in(4) { name.to_ascii_uppercase() } else { name.clone() };
            let (before, behind) = (dice.pick(&["", " ", " ", "\t "]), dice.pick(&["", "", " ", "\t"]));
            bytes.extend([&name[..], b":", before.as_bytes(), value, behind.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        match body {
            Some(body) if self.says_length() => bytes.extend(body),
            Some(body) => bytes.extend(chunked(&body, &self.trailers, &mut dice)),
            None => {}
        }
        bytes
    }

    /// The lines of the field section in HTTP/2.
    pub fn h2(&self) -> Vec<Line> {
        let mut dice = Dice::new(self.seed);
        let mut fields = Vec::new();
        for (name, value) in self.common() {
            if name == b"cookie" && dice.one_in(2) {
                // RFC 9113 §8.2.3: in crumbs.
                let text = String::from_utf8(value).expect("text");
                fields.extend(text.split("; ").map(|crumb| line("cookie", crumb.as_bytes())));
            } else {
                fields.push((name, value));
            }
        }
        let mut start = vec![
            line(":method", self.method.as_bytes()),
            line(":scheme", dice.pick(&[&b"http"[..], b"https", b"HTTP"])),
            line(":path", self.target.as_bytes()),
        ];
        match dice.below(4) {
            0 => fields.push(line("host", self.authority.as_bytes())),
            1 => {
                start.push(line(":authority", self.authority.as_bytes()));
                fields.insert(0, line("host", self.authority.as_bytes()));
            }
            _ => start.push(line(":authority", self.authority.as_bytes())),
        }
        if self.says_length() || (self.length && self.body.is_some() && dice.one_in(2)) {
            let length = self.coded_body().map_or(0, |body| body.len()).to_string();
            fields.push(line("content-length", length.as_bytes()));
        }
        let at = dice.below(start.len());
        start.rotate_left(at);
        [start, fields].concat()
    }
}

pub fn chunked(mut body: &[u8], trailers: &[Line], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !body.is_empty() {
        let n = (1 + dice.below(5_000)).min(body.len());
        bytes.extend([format!("{n:x}\r\n").as_bytes(), &body[..n], b"\r\n"].concat());
        body = &body[n..];
    }
    bytes.extend_from_slice(b"0\r\n");
    trailers.iter().for_each(|(name, value)| bytes.extend([&name[..], b": ", value, b"\r\n"].concat()));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

// ---- what a handler sees ----

/// One request as its handler has seen it, in whatever version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: Option<String>,
    pub authority: String,
    /// Names in lower case, without Host and framing, sorted.
    pub fields: Vec<Line>,
    pub body: Vec<u8>,
    pub trailers: Vec<Line>,
    pub complete: bool,
    pub aborted: Option<Option<Violation>>,
}

impl Seen {
    fn of(head: Head<'_>) -> Seen {
        let framing = ["content-length", "transfer-encoding", "host"];
        let fields = head.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
        let mut fields: Vec<Line> =
            fields.filter(|f| !framing.contains(&&*f.0)).map(|(name, value)| (name.into_bytes(), value)).collect();
        fields.sort();
        assert_eq!(head.fields.text("host"), Some(head.authority), "the authority is Host's");
        Seen {
            method: head.method.into(),
            target: head.target.into(),
            path: head.path().into(),
            query: head.query().map(str::to_string),
            authority: head.authority.into(),
            fields,
            ..Seen::default()
        }
    }
}

/// A handler that does with each request what its ask says, and knows nothing of versions.
#[derive(Debug, Default)]
pub struct App {
    pub asks: Vec<Ask>,
    pub seen: Vec<Seen>,
    pub faults: Vec<Violation>,
    /// Content that waits for its turn: so much of it is gone.
    rest: Vec<(Id, usize)>,
    /// What found no room: an answer, or an end behind so much content.
    late: Vec<(Id, Option<usize>)>,
    held: Vec<(Id, u32)>,
}

pub fn content(at: usize, n: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(31) ^ (i >> 8).wrapping_mul(17)).wrapping_add(at * 7) as u8).collect()
}

pub fn text(at: usize, n: usize) -> String {
    content(at, n).iter().map(|b| char::from(b'a' + b % 26)).collect()
}

impl App {
    pub fn new(asks: Vec<Ask>) -> App {
        App { asks, ..App::default() }
    }

    fn body(&mut self, mut body: Body<'_>) {
        let at = body.tag as usize - 1;
        let (seen, how) = (&mut self.seen[at], self.asks[at].how);
        assert!(!seen.complete && seen.aborted.is_none() && how != How::Discard, "request {at}: a body too many");
        assert_eq!(body.whole, matches!(how, How::Whole | How::ByJob));
        seen.body.extend_from_slice(body.bytes);
        if how == How::Manual {
            self.held.push((body.reply.id(), body.bytes.len() as u32));
        }
        if body.last {
            self.complete(at, &mut body.reply);
        }
    }

    fn complete(&mut self, at: usize, reply: &mut Reply<'_>) {
        self.seen[at].complete = true;
        let fields = [("x-answer", "1"), ("vary", "accept")];
        let said = match self.asks[at].answer {
            Answer::Text(status, n) => reply.text(status, &text(at, n)).map(|()| 0),
            Answer::Json => reply.json(200, &[at, at]).map(|()| 0),
            Answer::Empty(status) => reply.respond(status, &fields, Content::Whole(b"")),
            Answer::Whole(status, n) => reply.respond(status, &fields, Content::Whole(&content(at, n))),
            Answer::Sized(n) => reply.respond(200, &fields, Content::Sized(n as u64)),
            Answer::Streamed(_) | Answer::Trailers(_) => reply.respond(200, &fields, Content::Streamed),
        };
        match said {
            Ok(n) if n == self.length(at) => self.write(at, reply, n),
            Ok(n) if matches!(self.asks[at].answer, Answer::Whole(..)) => self.rest.push((reply.id(), n)),
            Ok(n) => self.write(at, reply, n),
            Err(Misuse::NoRoom) => self.late.push((reply.id(), None)),
            Err(misuse) => panic!("{misuse}"),
        }
    }

    /// What is to be written behind the head, or what of it went with it.
    fn length(&self, at: usize) -> usize {
        match self.asks[at].answer {
            Answer::Whole(_, n) | Answer::Sized(n) | Answer::Streamed(n) | Answer::Trailers(n) => n,
            _ => 0,
        }
    }

    /// `done` bytes of the content are gone.
    fn write(&mut self, at: usize, reply: &mut Reply<'_>, mut done: usize) {
        let all = self.length(at);
        if done < all {
            done += reply.write(&content(at, all)[done..]).expect("its turn");
        }
        if done < all {
            return self.rest.push((reply.id(), done));
        }
        let end = match self.asks[at].answer {
            Answer::Trailers(_) => reply.trailers(&[("x-sum", "1")]),
            Answer::Sized(_) | Answer::Streamed(_) => reply.finish(),
            _ => return,
        };
        match end {
            Ok(()) => {}
            Err(Misuse::NoRoom) => self.late.push((reply.id(), Some(done))),
            Err(misuse) => panic!("{misuse}"),
        }
    }
}

impl Handler for App {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let at = self.seen.len();
                self.seen.push(Seen::of(request.head));
                assert_eq!(request.head.protocol, None);
                let max = 1 << 20;
                let how = match self.asks[at].how {
                    How::Stream => Expect::Stream,
                    How::Manual => Expect::Manual,
                    How::Whole => Expect::Whole { max },
                    How::ByJob => Expect::WholeByJob { max },
                    How::Discard => Expect::Discard,
                };
                request.reply.set_tag(at as u64 + 1).expect(how);
                if !request.has_body || how == Expect::Discard {
                    self.complete(at, &mut request.reply);
                }
            }
            Event::Body(body) => self.body(body),
            Event::Trailers(mut trailers) => {
                let at = trailers.tag as usize - 1;
                let lines = trailers.fields.iter().map(|f| (f.0.to_ascii_lowercase().into_bytes(), f.1.to_vec()));
                self.seen[at].trailers = lines.collect();
                if self.asks[at].how != How::Discard {
                    self.complete(at, &mut trailers.reply);
                }
            }
            Event::Writable(mut reply) => {
                let tag = reply.tag() as usize - 1;
                let place = self.rest.iter().position(|r| r.0 == reply.id()).expect("something is left to write");
                let (_, done) = self.rest.swap_remove(place);
                self.write(tag, &mut reply, done);
            }
            Event::Aborted { tag, why, .. } => self.seen[tag as usize - 1].aborted = Some(why),
            Event::Fault(violation) => self.faults.push(violation),
            event => panic!("{event:?}"),
        }
    }

    fn outside(&mut self, turn: &mut Turn<'_>) {
        for (id, n) in self.held.drain(..) {
            if let Some(mut reply) = turn.reply(id) {
                reply.release(n);
            }
        }
        while let Some(job) = turn.job() {
            turn.done(job.run());
        }
        for (id, done) in std::mem::take(&mut self.late) {
            let Some(mut reply) = turn.reply(id) else { continue };
            let at = reply.tag() as usize - 1;
            match done {
                None => self.complete(at, &mut reply),
                Some(done) => self.write(at, &mut reply, done),
            }
        }
    }
}

// ---- strategies ----

fn value() -> impl Strategy<Value = Vec<u8>> {
    let visible = prop_oneof![8 => 0x21..0x7fu8, 1 => 0x80..=0xffu8, 1 => Just(b' '), 1 => Just(b'\t')];
    let any = prop::collection::vec(visible, 0..40).prop_map(|v| v.trim_ascii().to_vec());
    prop_oneof![20 => any, 1 => (1_000usize..6_000).prop_map(|n| vec![b'v'; n])]
}

fn field() -> impl Strategy<Value = Line> {
    let known: &[(&str, &[u8])] = &[
        ("accept", b"*/*"),
        ("user-agent", b"a/1 (b; c)"),
        ("content-type", b"text/plain"),
        ("te", b"trailers"),
        ("authorization", b"Basic x"),
        ("range", b"bytes=0-1"),
        ("priority", b"u=2, i"),
        ("via", b"1.1 a, 2 b"),
        ("forwarded", b"for=\"[::1]\""),
        ("accept-encoding", b""),
    ];
    let known: Vec<Line> = known.iter().map(|(name, value)| line(name, value)).collect();
    prop_oneof![
        2 => ("x[!#$%&'*+.^_`|~0-9a-z-]{0,20}", value()).prop_map(|(name, value)| (name.into_bytes(), value)),
        1 => prop::sample::select(known),
    ]
}

fn fields() -> impl Strategy<Value = Vec<Line>> {
    let cookie = prop::collection::vec("[a-z]{1,3}=[a-z0-9]{0,4}", 0..4);
    let many = prop_oneof![9 => 0..6usize, 1 => 40..60usize];
    (many.prop_flat_map(|n| prop::collection::vec(field(), n)), cookie).prop_map(|(mut fields, cookie)| {
        let mut te = false;
        fields.retain(|f| f.0 != b"te" || !std::mem::replace(&mut te, true));
        let weight = |f: &Line| f.0.len() + f.1.len() + 96;
        let mut left = 25_000usize;
        fields.retain(|f| left.checked_sub(weight(f)).map(|n| left = n).is_some());
        if !cookie.is_empty() {
            fields.push(line("cookie", cookie.join("; ").as_bytes()));
        }
        fields
    })
}

fn body() -> impl Strategy<Value = Option<Vec<u8>>> {
    let long = prop_oneof![4 => 0..50usize, 2 => 0..5_000usize, 1 => 0..150_000usize];
    prop_oneof![2 => Just(None), 3 => (long, 0..256usize).prop_map(|(n, at)| Some(content(at, n)))]
}

fn answer() -> impl Strategy<Value = Answer> {
    let n = || prop_oneof![3 => 0..40usize, 1 => 0..40_000usize];
    let status = prop::sample::select(vec![200u16, 201, 206, 301, 400, 404, 418, 500, 503, 599]);
    prop_oneof![
        (status.clone(), 0..500usize).prop_map(|(status, n)| Answer::Text(status, n)),
        Just(Answer::Json),
        (status.clone(), n()).prop_map(|(status, n)| Answer::Whole(status, n)),
        n().prop_map(Answer::Sized),
        n().prop_map(Answer::Streamed),
        n().prop_map(Answer::Trailers),
        prop::sample::select(vec![200u16, 204, 205, 304, 404]).prop_map(Answer::Empty),
    ]
}

/// A request that nobody has anything against.
pub fn ask() -> impl Strategy<Value = Ask> {
    let known = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "PRI"]);
    let method = prop_oneof![4 => known.prop_map(str::to_string), 1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}"];
    let target = prop_oneof![
        3 => "/[a-zA-Z0-9._~!$&'()*+,;=:@%/-]{0,40}",
        1 => "/[\\x21\\x22\\x24-\\x7e]{0,40}",
        1 => "/{1,3}[a-z]{0,4}[?][?a-z=&/]{0,20}",
    ];
    let authority = prop_oneof![
        4 => "[a-z0-9-]{1,10}([.][a-z]{1,5}){0,2}(:[0-9]{0,4})?",
        1 => "\\[[0-9a-f:]{2,10}\\](:[1-9][0-9]{0,3})?",
        1 => "[A-Za-z0-9._~%!$&'()*+;=-]{1,20}",
    ];
    let how = prop::sample::select(vec![How::Stream, How::Manual, How::Whole, How::ByJob, How::Discard]);
    let trailer = ("x-[a-z]{1,8}", value()).prop_map(|(name, value)| (name.into_bytes(), value));
    let trailers = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(trailer, 1..4)];
    let trailers = trailers.prop_map(|lines| lines.into_iter().filter(|l| l.1.len() < 900).collect::<Vec<_>>());
    let choices = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.1), any::<u64>());
    (method, target, authority, fields(), body(), trailers, how, answer(), choices).prop_map(
        |(method, target, authority, fields, body, trailers, how, answer, (length, coded, expects, seed))| {
            let method = if method == "CONNECT" { "GET".to_string() } else { method };
            let target = if method == "OPTIONS" && seed % 3 == 0 { "*".to_string() } else { target };
            let trailers = if body.is_some() { trailers } else { Vec::new() };
            Ask { method, target, authority, fields, body, length, coded, expects, trailers, how, answer, seed }
        },
    )
}
