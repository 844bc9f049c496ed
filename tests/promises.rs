//! The promises of the machine, each as a property: over generated and mutated streams of requests, however they are cut.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use vestibule::rehearsal::{Handler, Input, Pieces, Rehearsal};
use vestibule::{
    Config, Connection, Content, Event, Expect, Inbox, Instant, Limit, Limits, Outbox, Pause, Stats, Wait,
};

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: prop::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

// ---- streams of requests ----

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/x".into()),
        Just("/early".into()),
        Just("/early-stream".into()),
        Just("/echo".into()),
        Just("/discard".into()),
        Just("/manual".into()),
        Just("/inform".into()),
        Just("/chunked".into()),
        Just("/short".into()),
        Just("/upgrade".into()),
        Just("/json".into()),
        Just("/close".into()),
        Just("/whole/20".into()),
        Just("/whole/2000".into()),
        Just("/job/900".into()),
        Just("/sized/3000".into()),
        Just("/status/204".into()),
        Just("/never".into()),
        Just("http://a/x".into()),
        Just("*".into()),
        "/[a-z0-9%?=&.]{0,20}",
    ]
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z-]{1,12}: [ -~]{0,30}",
        1 => Just("connection: close".to_string()), 1 => Just("connection: keep-alive".into()), 1 => Just("expect: 100-continue".into()),
        1 => Just("connection: upgrade\r\nupgrade: echo".into()), 1 => Just("content-encoding: gzip".into()), 1 => Just("te: trailers".into()),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let plain = vec(any::<u8>(), 0..300);
    let chunks = vec((vec(any::<u8>(), 1..60), prop_oneof![Just(""), Just(";a=b"), Just(";q=\"x;\"")]), 0..5);
    let trailers = prop_oneof![3 => Just(""), 1 => Just("x-sum: 1\r\n"), 1 => Just("a: b\r\nc: d\r\n")];
    prop_oneof![
        2 => Just(b"\r\n".to_vec()),
        3 => plain.prop_map(|b| [format!("content-length: {}\r\n\r\n", b.len()).as_bytes(), &b].concat()),
        3 => (chunks, trailers).prop_map(|(chunks, trailers)| {
            let mut out = b"transfer-encoding: chunked\r\n\r\n".to_vec();
            for (data, ext) in chunks {
                out.extend_from_slice(format!("{:x}{ext}\r\n", data.len()).as_bytes());
                out.extend_from_slice(&data);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            out
        }),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![Just("GET"), Just("POST"), Just("HEAD"), Just("OPTIONS"), Just("PUT")];
    let version = prop_oneof![5 => Just("1.1"), 1 => Just("1.0")];
    (method, target(), version, vec(field(), 0..4), body()).prop_map(|(method, target, version, fields, body)| {
        let lines: String = fields.iter().map(|f| format!("{f}\r\n")).collect();
        [format!("{method} {target} HTTP/{version}\r\nhost: a\r\n{lines}").as_bytes(), &body].concat()
    })
}

/// Requests on one connection; in every other stream a few bytes are not what they were.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop_oneof![1 => Just(vec![]), 1 => vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..4)];
    (vec(request(), 1..4), mutations).prop_map(|(requests, mutations)| {
        let mut bytes = requests.concat();
        for (at, b, how) in mutations {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = b,
                1 => bytes.insert(at, b),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

fn steps(bytes: &[u8], end: bool) -> Vec<Input> {
    let mut steps = vec![Input::Bytes(bytes.to_vec())];
    steps.extend(end.then_some(Input::End));
    steps
}

// ---- the promises ----

proptest! {
    #![proptest_config(cases(3_000))]

    /// Rule 1. The outbox must be roomy here: with a small one, chunks of an answer are cut elsewhere (see `any_outbox`).
    #[test]
    fn any_split_gives_the_same(bytes in stream(), end: bool, each in 1usize..50, cut in any::<prop::sample::Index>()) {
        let play = |pieces| Rehearsal { pieces, ..Rehearsal::default() }.play(&steps(&bytes, end));
        let whole = play(Pieces::Whole);
        for pieces in [Pieces::Each(1), Pieces::Each(each), Pieces::Cut(cut.index(bytes.len()))] {
            prop_assert_eq!(&whole, &play(pieces), "{:?} of {}", pieces, bytes.escape_ascii());
        }
    }

    /// Rule 1, the other half: the room for answers changes when they come, not what they are.
    #[test]
    fn any_outbox_gives_the_same(bytes in stream(), room in 1_500usize..4_000) {
        let play = |outbox_bytes| Rehearsal { outbox_bytes, ..Rehearsal::default() }.play(&steps(&bytes, true));
        prop_assert_eq!(play(16_384), play(room), "{}", bytes.escape_ascii());
    }

    /// Rule 8.
    #[test]
    fn determinism(bytes in stream(), each in 1usize..50) {
        let play = || Rehearsal { pieces: Pieces::Each(each), ..Rehearsal::default() }.play(&steps(&bytes, true));
        prop_assert_eq!(play(), play());
    }

    /// Rule 2: any bytes, any order of calls, any clock.
    #[test]
    fn never_panics(calls in vec((0..9u8, any::<u64>(), vec(any::<u8>(), 0..40), stream()), 1..30)) {
        let mut server = Server::new(Limits::DEFAULT, 3_000, 2_000);
        for (call, number, noise, good) in calls {
            match call {
                0 => { server.inbox.fill(&noise); }
                1 | 2 => { server.inbox.fill(&good[..good.len().min(number as usize % 400)]); }
                3 => server.now = Instant::from_nanos(number),
                4 => server.now = server.now.after(std::time::Duration::from_secs(number % 40)),
                5 => server.inbox.end(),
                6 => if number % 4 == 0 { server.connection.drain() } else { server.connection.shed() },
                7 => server.stubborn = number % 2 == 0,
                _ => { let n = server.outbox.ready().len(); server.outbox.wrote(number as usize % (n + 1)); }
            }
            server.turn();
            prop_assert!(server.connection.retained_bytes() <= server.connection.config().machine_bound_bytes());
            let _ = server.connection.deadline();
        }
    }

    /// Rule 5: a turn consumes, produces, or names what it waits for; and what it names is enough to go on.
    #[test]
    fn progress(bytes in stream(), each in 1usize..400) {
        let mut server = Server::new(Limits::DEFAULT, 65_536, 4_096);
        let mut idle = 0;
        let mut rest = &bytes[..];
        for _ in 0..200_000 {
            let before = (server.inbox.len(), server.connection.stats().events, server.outbox.ready().len());
            let pause = server.turn();
            let after = (server.inbox.len(), server.connection.stats().events, server.outbox.ready().len());
            match pause {
                Pause::Closed => return Ok(()),
                Pause::Input { want } => {
                    prop_assert!(want > 0);
                    if rest.is_empty() { server.inbox.end() }
                    let n = server.inbox.fill(&rest[..each.min(rest.len())]);
                    prop_assert!(n > 0 || rest.is_empty(), "input is wanted and there is no room for it");
                    rest = &rest[n..];
                }
                Pause::Room => prop_assert!(after.2 > 0, "room is wanted of an empty outbox"),
                Pause::Caller(Wait::Reply(id)) => server.late = Some(id),
                Pause::Caller(_) | Pause::Yield => {}
            }
            idle = if before == after && pause == Pause::Yield { idle + 1 } else { 0 };
            prop_assert!(idle < 3, "it yields and yields");
            let n = server.outbox.ready().len();
            server.outbox.wrote(n);
        }
        prop_assert!(false, "no end");
    }

    /// P-6: after the end there is silence.
    #[test]
    fn finality(bytes in stream(), noise in vec(any::<u8>(), 1..100), jump: u64) {
        let mut server = Server::new(Limits::DEFAULT, 65_536, 16_384);
        server.inbox.fill(&bytes);
        server.inbox.end();
        for _ in 0..2_000 {
            match server.turn() {
                Pause::Closed => break,
                Pause::Caller(Wait::Reply(id)) => server.late = Some(id),
                _ => {}
            }
            let n = server.outbox.ready().len();
            server.outbox.wrote(n);
        }
        prop_assert_eq!(server.turn(), Pause::Closed);
        let events = server.connection.stats().events;
        server.inbox.fill(&noise);
        server.now = Instant::from_nanos(jump);
        prop_assert_eq!(server.turn(), Pause::Closed);
        prop_assert_eq!(server.connection.stats().events, events);
        prop_assert!(server.outbox.ready().is_empty());
        prop_assert_eq!(server.connection.deadline(), None);
        prop_assert!(server.inbox.is_empty(), "what comes is dropped");
    }

    /// RSP-02 and P-8: whatever the handler calls, in whatever order, a strict reader finds one response with an exact body, or an
    /// end that can be seen.
    #[test]
    fn output_is_valid(head: bool, old: bool, calls in vec((0..8u8, 0..60u16), 1..8)) {
        let mut connection = Connection::new(Arc::new(Config::new(Limits::DEFAULT)), Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4096]), Outbox::new(vec![0; 8192]));
        let (method, version) = (if head { "HEAD" } else { "GET" }, if old { "1.0" } else { "1.1" });
        inbox.fill(format!("{method} / HTTP/{version}\r\nhost: a\r\nconnection: keep-alive\r\n\r\n").as_bytes());
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        if let Some(Event::Request(mut q)) = turn.next() {
            for &(call, n) in &calls {
                let bytes = vec![b'y'; n as usize];
                let _ = match call {
                    0 => q.reply.respond(200, &[], Content::Whole(&bytes)).map(drop),
                    1 => q.reply.respond(200, &[("x", "y")], Content::Sized(u64::from(n))).map(drop),
                    2 => q.reply.respond(404, &[], Content::Streamed).map(drop),
                    3 => q.reply.respond([204, 304, 205, 500][n as usize % 4], &[], Content::Whole(b"")).map(drop),
                    4 => q.reply.write(&bytes).map(drop),
                    5 => q.reply.finish(),
                    6 => q.reply.trailers(&[("x-sum", "1")]),
                    _ => q.reply.inform(103, &[]),
                };
            }
        }
        while turn.next().is_some() {}
        let pause = turn.finish();
        let open = matches!(pause, Pause::Caller(Wait::Reply(_)));
        let out = outbox.ready().to_vec();
        outbox.wrote(out.len());
        read_response(&out, head, open, outbox.finished())
            .map_err(|e| TestCaseError::fail(format!("{e}: {}", out.escape_ascii())))?;
    }
}

/// A strict client: interim responses, then at most one final one, then nothing.
fn read_response(mut out: &[u8], is_head: bool, open: bool, closing: bool) -> Result<(), String> {
    loop {
        if out.is_empty() {
            return if open || closing { Ok(()) } else { Err("no response".into()) };
        }
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(n)) = response.parse(out) else { return Err("no head".into()) };
        out = &out[n..];
        let status = response.code.unwrap();
        let get = |name: &str| response.headers.iter().filter(|h| h.name == name).map(|h| h.value).collect::<Vec<_>>();
        let (length, coding) = (get("content-length"), get("transfer-encoding"));
        if status < 200 {
            continue;
        }
        if length.len() + coding.len() > 1 {
            return Err("framed twice".into());
        }
        let ends = get("connection") == [b"close"];
        let body = match (&length[..], &coding[..]) {
            _ if is_head || matches!(status, 204 | 304) => 0,
            ([n], _) => std::str::from_utf8(n).unwrap().parse::<usize>().unwrap(),
            (_, [b"chunked"]) => match dechunk(out) {
                Some(n) => n,
                None if open || closing => return Ok(()),
                None => return Err("chunks without an end".into()),
            },
            _ if ends => out.len(),
            _ => return Err("no framing".into()),
        };
        return match out.len().cmp(&body) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less if open || closing => Ok(()),
            other => Err(format!("{} bytes of body, {body} declared: {other:?}", out.len())),
        };
    }
}

/// Length of a complete chunked body at the front, trailers included.
fn dechunk(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        if size == 0 {
            if bytes.get(at..at + 2)? == b"\r\n" {
                return Some(at + 2);
            }
            return bytes[at..].windows(4).position(|w| w == b"\r\n\r\n").map(|i| at + i + 4);
        }
        at += size + 2;
        if bytes.get(at - 2..at)? != b"\r\n" {
            return None;
        }
    }
}

// ---- a server for them ----

struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    handler: Handler,
    now: Instant,
    /// Does not listen to events at all.
    stubborn: bool,
    /// To be answered by id, since it was not at its event.
    late: Option<vestibule::Id>,
}

impl Server {
    fn new(limits: Limits, inbox: usize, outbox: usize) -> Server {
        Server {
            connection: Connection::new(Arc::new(Config::new(limits)), Instant::ZERO),
            inbox: Inbox::new(vec![0; inbox]),
            outbox: Outbox::new(vec![0; outbox]),
            handler: Handler::default(),
            now: Instant::ZERO,
            stubborn: false,
            late: None,
        }
    }

    fn turn(&mut self) -> Pause {
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).unwrap();
        if let Some(mut reply) = self.late.take().and_then(|id| turn.reply(id)) {
            let _ = reply.text(503, "late");
        }
        while let Some(event) = turn.next() {
            if !self.stubborn {
                let _ = self.handler.on(event);
            }
        }
        while let Some(job) = turn.job() {
            turn.done(job.run());
        }
        turn.finish()
    }

    /// Feeds bytes a few at a time and throws the output away.
    fn feed(&mut self, bytes: &[u8], each: usize) -> Stats {
        for piece in bytes.chunks(each) {
            let mut rest = piece;
            for _ in 0..100_000 {
                rest = &rest[self.inbox.fill(rest)..];
                let pause = self.turn();
                let n = self.outbox.ready().len();
                self.outbox.wrote(n);
                if rest.is_empty() && !matches!(pause, Pause::Yield | Pause::Room) {
                    break;
                }
            }
        }
        self.connection.stats()
    }
}

// ---- rule 4 ----

/// Work is counted, not timed: each byte looked at twice at most, moved once at most, and so many units for so much input.
fn assert_linear(name: &str, bytes: &[u8], each: usize) {
    let mut server = Server::new(Limits::DEFAULT, 65_536, 16_384);
    let stats = server.feed(bytes, each);
    let n = bytes.len() as u64;
    assert!(stats.visited_bytes <= 2 * n, "{name}: {stats:?} of {n}");
    assert!(stats.moved_bytes <= n, "{name}: {stats:?} of {n}");
    assert!(stats.units <= 3 * n + 16 * (n / each as u64 + 1), "{name}: {stats:?} of {n}");
}

#[test]
fn linear_work() {
    let head = format!("GET /x HTTP/1.1\r\nhost: a\r\n{}\r\n", format!("x: {}\r\n", "y".repeat(900)).repeat(30));
    let gets = b"GET /status/204 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10_000);
    let chunks = [
        &b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"[..],
        &b"10\r\n0123456789abcdef\r\n".repeat(20_000),
    ]
    .concat();
    let blank = b"\r\n".repeat(50_000);
    for (name, bytes) in [("head", head.as_bytes()), ("gets", &gets), ("chunks", &chunks), ("blank lines", &blank)] {
        for each in [1, 1000] {
            assert_linear(name, bytes, each);
        }
    }
}

// ---- P-25 ----

/// A request in which a limit's thing has the size `n`; the value of the limit in the test; what it answers beyond.
type Probe = (Limit, u64, fn(u64) -> Vec<u8>, u16);

fn get(fields: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes()
}

fn repeat(text: &str, n: u64) -> String {
    text.repeat(n as usize)
}

fn gzip_of(n: u64) -> Vec<u8> {
    use std::io::Write;
    let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    let noise: Vec<u8> = (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    coder.write_all(&noise).unwrap();
    let body = coder.finish().unwrap();
    let head =
        format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

const PROBES: &[Probe] = &[
    // "GET /" and " HTTP/1.1" are 14 bytes.
    (
        Limit::RequestLineBytes,
        100,
        |n| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", repeat("x", n - 14)).into_bytes(),
        414,
    ),
    (Limit::MethodBytes, 20, |n| format!("{} /x HTTP/1.1\r\nhost: a\r\n\r\n", repeat("M", n)).into_bytes(), 501),
    (Limit::FieldLines, 20, |n| get(&repeat("x: y\r\n", n - 1)), 431),
    // host: a weighs 101, the other line 97 and its value.
    (Limit::FieldSectionBytes, 500, |n| get(&format!("x: {}\r\n", repeat("y", n - 101 - 97))), 431),
    (Limit::FieldNameBytes, 50, |n| get(&format!("{}: y\r\n", repeat("n", n))), 431),
    (Limit::FieldValueBytes, 100, |n| get(&format!("x: {}\r\n", repeat("y", n))), 431),
    (Limit::TrailerLines, 5, |n| chunked(&format!("0\r\n{}\r\n", repeat("x: y\r\n", n))), 400),
    (Limit::TrailerBytes, 300, |n| chunked(&format!("0\r\nx: {}\r\n\r\n", repeat("y", n - 97))), 400),
    (
        Limit::BodyBytes,
        100,
        |n| format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {n}\r\n\r\n{}", repeat("b", n)).into_bytes(),
        413,
    ),
    (
        Limit::BodyBytes,
        100,
        |n| chunked(&format!("50\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", repeat("b", 80), n - 80, repeat("b", n - 80))),
        413,
    ),
    (Limit::ChunkExtBytes, 40, |n| chunked(&format!("1;{}\r\nb\r\n0\r\n\r\n", repeat("e", n - 1))), 400),
    (
        Limit::ChunkExtBodyBytes,
        400,
        |n| {
            chunked(&format!(
                "{}1;{}\r\nb\r\n0\r\n\r\n",
                format!("1;{}\r\nb\r\n", repeat("e", 199)).repeat(1),
                repeat("e", n - 201)
            ))
        },
        400,
    ),
    (Limit::DecodedBytes, 2_000, gzip_of, 413),
];

#[test]
fn limits_from_the_table() {
    for &(limit, value, make, status) in PROBES {
        let limits = Limits::DEFAULT.with(limit, value).unwrap();
        let config = Arc::new(Config::new(limits));
        for size in [value - 1, value, value + 1] {
            for pieces in [Pieces::Whole, Pieces::Each(1), Pieces::Each(17)] {
                let rehearsal = Rehearsal { pieces, inbox_bytes: 200_000, ..Rehearsal::new(config.clone()) };
                let text = rehearsal.play(&[Input::Bytes(make(size))]);
                if size <= value {
                    assert!(text.contains("HTTP/1.1 200 OK"), "{}: {size} passes {value}\n{text}", limit.name());
                } else {
                    let named = format!("{} is {value}", limit.name());
                    assert!(
                        text.contains(&named) && text.contains(&format!("HTTP/1.1 {status} ")),
                        "{}: {size}\n{text}",
                        limit.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_handler_without_an_answer_is_waited_for_by_name() {
    let mut server = Server::new(Limits::DEFAULT, 4096, 4096);
    server.inbox.fill(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    let Pause::Caller(Wait::Reply(id)) = server.turn() else { panic!("it waits for the handler") };
    assert_eq!(server.inbox.len(), 28, "the next request is not touched");
    let mut turn = server.connection.turn(server.now, &mut server.inbox, &mut server.outbox).unwrap();
    turn.reply(id).unwrap().expect(Expect::Discard).text(200, "now").unwrap();
    assert!(matches!(turn.next(), Some(Event::Request(_))));
    assert!(turn.reply(id).is_none(), "answered: nobody's mistake");
}
