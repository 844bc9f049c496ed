//! A whole body leaves as a job, is decoded and checked on another thread, and comes back.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Write;
use std::sync::Arc;
use vestibule::decode::job::{Done, Job};
use vestibule::decode::json;
use vestibule::{
    Config, Connection, Content, Event, Expect, Id, Inbox, Instant, Limits, Outbox, Pause, Violation, Wait,
};

struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    log: Vec<String>,
    expect: Expect,
    fault: Option<Violation>,
    id: Option<Id>,
}

impl Server {
    fn new() -> Server {
        Server::with(Limits::DEFAULT)
    }

    fn with(limits: Limits) -> Server {
        Server {
            connection: Connection::new(Arc::new(Config::new(limits)), Instant::ZERO),
            inbox: Inbox::new(vec![0; 65_536]),
            outbox: Outbox::new(vec![0; 65_536]),
            log: vec![],
            expect: Expect::WholeByJob { max: 100_000 },
            fault: None,
            id: None,
        }
    }

    fn turn(&mut self, done: Option<Done>) -> (Pause, Option<Job>, bool) {
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).unwrap();
        let taken = done.is_some_and(|d| turn.done(d));
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut q) => {
                    self.id = Some(q.reply.id());
                    q.reply.expect(self.expect);
                }
                Event::Body(mut b) => {
                    assert!(b.whole);
                    match b.last {
                        true => drop(b.reply.respond(200, &[], Content::Whole(b.bytes)).unwrap()),
                        false => self.log.push(format!("{}, and trailers", b.bytes.escape_ascii())),
                    }
                }
                Event::Trailers(mut trailers) => {
                    self.log.push(format!("x={}", trailers.fields.text("x").unwrap()));
                    trailers.reply.respond(204, &[], Content::Whole(b"")).unwrap();
                }
                Event::Aborted { why, .. } => {
                    self.log.push(format!("aborted {}", why.map_or("by the peer", |v| v.name())))
                }
                Event::Fault(v) => {
                    self.log.push(format!("fault {}", v.name()));
                    self.fault = Some(v);
                }
                other => panic!("{other:?}"),
            }
        }
        let job = turn.job();
        (turn.finish(), job, taken)
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

#[test]
fn a_job_is_run_elsewhere_and_its_result_is_the_body() {
    let text = b"six stages ".repeat(5000);
    let mut server = Server::new();
    server.inbox.fill(&post(&gzip(&text)));
    let (pause, job, _) = server.turn(None);
    assert_eq!(pause, Pause::Caller(Wait::Job));
    let job = job.expect("a job");
    assert!(matches!(server.turn(None), (Pause::Caller(Wait::Job), None, _)), "handed out once");
    let done = std::thread::spawn(move || job.run()).join().unwrap();
    let (_, _, taken) = server.turn(Some(done));
    assert!(taken);
    assert!(server.outbox.ready().ends_with(&text));
}

#[test]
fn a_bad_body_is_a_fault_when_its_job_comes_back() {
    let mut coded = gzip(b"hello");
    let n = coded.len();
    coded[n - 8] ^= 1;
    let mut server = Server::new();
    server.inbox.fill(&post(&coded));
    let (_, job, _) = server.turn(None);
    let _ = server.turn(Some(job.unwrap().run()));
    assert_eq!(server.log, ["aborted GzipTrailer", "fault GzipTrailer"]);
    assert!(server.outbox.ready().starts_with(b"HTTP/1.1 400 "));
}

#[test]
fn a_result_that_nobody_waits_for_is_dropped() {
    let (mut one, mut two) = (Server::new(), Server::new());
    for server in [&mut one, &mut two] {
        server.inbox.fill(&post(&gzip(b"hello")));
    }
    let (_, job, _) = one.turn(None);
    let done = job.unwrap().run();
    let (_, first, _) = two.turn(None);
    let mine = first.unwrap().run();
    assert!(two.turn(Some(mine)).2);
    assert!(!two.turn(Some(done)).2, "its exchange is answered: the late result is dropped");
}

#[test]
fn a_body_without_a_coding_leaves_as_well_and_comes_back_checked() {
    for (body, verdict) in [("[1, 2]", None), ("[1, 2", Some("JsonTruncated"))] {
        let mut server = Server::new();
        server
            .inbox
            .fill(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let (pause, job, _) = server.turn(None);
        assert_eq!(pause, Pause::Caller(Wait::Job));
        let job = job.expect("a job");
        assert_eq!(job.coded_bytes(), body.len());
        let done = std::thread::spawn(move || job.run_then(json::check)).join().unwrap();
        assert!(server.turn(Some(done)).2);
        match verdict {
            None => assert!(server.outbox.ready().ends_with(body.as_bytes())),
            Some(rule) => {
                assert_eq!(server.log, [format!("aborted {rule}"), format!("fault {rule}")]);
                assert!(server.outbox.ready().starts_with(b"HTTP/1.1 400 "));
            }
        }
    }
}

#[test]
fn a_body_that_its_handler_does_not_take_never_becomes_a_job() {
    let mut server = Server::new();
    server.inbox.fill(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\n\r\n");
    assert!(matches!(server.turn(None), (_, None, _)));
    assert_eq!(server.log, ["aborted BodyOverHandler", "fault BodyOverHandler"]);
    let mut server = Server::new();
    let chunk = "x".repeat(50_001);
    server.inbox.fill(b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..2 {
        server.inbox.fill(format!("c351\r\n{chunk}\r\n").as_bytes());
        assert!(matches!(server.turn(None), (_, None, _)));
    }
    assert_eq!(server.log, ["aborted BodyOverHandler", "fault BodyOverHandler"]);
}

/// HTTP/2: streams 1, 3 and 5, each with a gzip-coded body for a job.
fn three() -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    wire.extend(frame(4, 0, 0, b""));
    for stream in [1, 3, 5] {
        // POST, http, /, :authority a, content-encoding gzip: as literals without a table (RFC 7541 §6.2.2).
        let mut block = vec![0x83, 0x86, 0x84, 0x01, 1, b'a'];
        block.extend([0x0f, 0x0b, 4]);
        block.extend(b"gzip");
        wire.extend(frame(1, 4, stream, &block));
        wire.extend(frame(0, 1, stream, &gzip(format!("body of {stream}").as_bytes())));
    }
    wire
}

#[test]
fn jobs_of_many_streams_come_back_in_any_order_each_to_its_own() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut server = Server::new();
        server.inbox.fill(&three());
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(server.turn(None).1);
        }
        let mut done: Vec<_> = jobs.into_iter().map(|job| Some(job.expect("one a stream").run())).collect();
        assert!(server.turn(None).1.is_none());
        for at in order {
            assert!(server.turn(done[at].take()).2);
            let body = format!("body of {}", [1, 3, 5][at]);
            let ready = server.outbox.ready();
            assert!(ready.windows(body.len()).any(|window| window == body.as_bytes()), "{body}");
            let n = ready.len();
            server.outbox.wrote(n);
        }
    }
}

// The body ledger: what a reset took back is dropped when it comes, and nothing of it stays.
#[test]
fn the_result_for_a_stream_that_was_reset_is_dropped_and_its_bytes_are_free() {
    let mut server = Server::new();
    server.inbox.fill(&three());
    let job = server.turn(None).1.expect("a job of one of the streams");
    let reset = job.id as u32;
    let done = job.run();
    let mut frame = vec![0, 0, 4, 3, 0];
    frame.extend(reset.to_be_bytes());
    frame.extend(8u32.to_be_bytes());
    server.inbox.fill(&frame);
    let _ = server.turn(None);
    assert_eq!(server.log, ["aborted by the peer"]);
    let before = server.connection.retained_bytes();
    assert!(!server.turn(Some(done)).2, "nobody waits for it any more");
    assert!(server.connection.retained_bytes() <= before);
    server.connection.shed();
    assert!(server.connection.retained_bytes() <= before);
}

/// Bytes that gzip makes some sixty times shorter, which no cap of the ratio forbids.
fn sparse(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| if n % 64 == 0 { (n.wrapping_mul(2_654_435_761) >> 24) as u8 } else { 0 }).collect()
}

/// HTTP/2: as many streams as that, with a body each, of a coding or none.
fn crowd(streams: u32, coding: &[u8], body: &[u8]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    wire.extend(frame(4, 0, 0, b""));
    for stream in (0..streams).map(|n| 2 * n + 1) {
        // POST, http, /, :authority a, content-encoding: as literals without a table (RFC 7541 §6.2.2).
        let mut block = vec![0x83, 0x86, 0x84, 0x01, 1, b'a', 0x0f, 0x0b, coding.len() as u8];
        block.extend(coding);
        wire.extend(frame(1, 4, stream, &block));
        let mut parts = body.chunks(16_384).peekable();
        while let Some(part) = parts.next() {
            wire.extend(frame(0, u8::from(parts.peek().is_none()), stream, part));
        }
    }
    wire
}

#[test]
fn results_that_are_back_count_in_the_pool_that_they_are_taken_from() {
    let mut server = Server::new();
    server.inbox.fill(&crowd(30, b"gzip", &gzip(&sparse(100_000))));
    let mut jobs = Vec::new();
    while let (_, Some(job), _) = server.turn(None) {
        jobs.push(job);
    }
    assert_eq!(jobs.len(), 30);
    let mut turn = server.connection.turn(Instant::ZERO, &mut server.inbox, &mut server.outbox).unwrap();
    for job in jobs {
        let done = job.run();
        assert!(done.result.is_ok() && turn.done(done));
    }
    let _ = turn.finish();
    let most = Limits::DEFAULT.get(vestibule::Limit::GatherBytes) as usize;
    assert!(server.connection.retained_bytes() < 2 * most, "{}", server.connection.retained_bytes());
    while server.turn(None).0 == Pause::Yield {}
    let refused = server.log.iter().filter(|line| *line == "aborted GatherPool").count();
    assert_eq!((refused, server.log.len()), (20, 20), "for ten there was room");
}

#[test]
fn a_coded_body_that_is_too_long_for_a_job_is_the_same_fault_in_both_versions() {
    let body = vec![0; (1 << 20) + 1];
    let limits = Limits::DEFAULT.with(vestibule::Limit::BodyBytes, 2 << 20).unwrap();
    let mut one = Server::with(limits.clone());
    let wire = post(&body);
    for piece in wire.chunks(30_000) {
        one.inbox.fill(piece);
        let _ = one.turn(None);
    }
    assert_eq!(one.log, ["aborted BodyOverGather", "fault BodyOverGather"]);
    let mut two = Server::with(limits);
    for piece in crowd(1, b"gzip", &body).chunks(30_000) {
        two.inbox.fill(piece);
        let _ = two.turn(None);
        let n = two.outbox.ready().len();
        two.outbox.wrote(n);
    }
    assert_eq!(two.log, ["aborted BodyOverGather"]);
}

#[test]
fn what_comes_out_of_a_body_is_too_much_by_the_same_rule_here_and_in_a_job() {
    for (max, rule) in [(1_000, "BodyOverHandler"), (4 << 20, "BodyOverGather")] {
        let faults = [Expect::Whole { max }, Expect::WholeByJob { max }].map(|expect| {
            let mut server = Server { expect, ..Server::new() };
            server.inbox.fill(&post(&gzip(&sparse(2 << 20))));
            let mut job = server.turn(None).1;
            while let Some(ready) = job.take() {
                job = server.turn(Some(ready.run())).1;
            }
            (server.log, server.fault.map(|fault| (fault.at, fault.value)))
        });
        assert_eq!(faults[0], faults[1]);
        assert_eq!(faults[0].0, [format!("aborted {rule}"), format!("fault {rule}")]);
    }
}

/// HTTP/1.1, in chunks, with trailers.
const CHUNKED: &[u8] =
    b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: 1\r\n\r\n";

#[test]
fn trailers_wait_for_the_job_of_their_body_wherever_the_message_is_cut() {
    for cut in 0..CHUNKED.len() {
        let mut server = Server::new();
        server.inbox.fill(&CHUNKED[..cut]);
        assert!(server.turn(None).1.is_none(), "{cut}");
        server.inbox.fill(&CHUNKED[cut..]);
        let job = server.turn(None).1.unwrap();
        assert!(matches!(server.turn(None).0, Pause::Caller(Wait::Job)));
        assert!(server.turn(Some(job.run())).2);
        assert_eq!(server.log, ["hello, and trailers", "x=1"], "{cut}");
        assert!(server.outbox.ready().starts_with(b"HTTP/1.1 204 "));
    }
}

#[test]
fn a_result_is_taken_as_long_as_its_body_is_wanted() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    for (act, wanted, said) in [
        ("discard", false, ""),
        ("answer", false, "HTTP/1.1 204 No Content\r\n\r\n"),
        ("abort", false, ""),
        ("drain", true, last),
        ("end", true, whole),
    ] {
        let mut server = Server::new();
        server.inbox.fill(&post(&gzip(b"hello")));
        let job = server.turn(None).1.unwrap();
        let id = server.id.unwrap();
        match act {
            "drain" => server.connection.drain(),
            "end" => server.inbox.end(),
            _ => {
                let mut turn = server.connection.turn(Instant::ZERO, &mut server.inbox, &mut server.outbox).unwrap();
                let mut reply = turn.reply(id).unwrap();
                match act {
                    "discard" => reply.discard(),
                    "answer" => drop(reply.respond(204, &[], Content::Whole(b"")).unwrap()),
                    _ => reply.abort(),
                }
                while turn.next().is_some() {}
                let _ = turn.finish();
            }
        }
        assert_eq!(server.turn(Some(job.run())).2, wanted, "{act}");
        assert_eq!(std::str::from_utf8(server.outbox.ready()), Ok(said), "{act}");
        assert!(server.log.is_empty(), "{act}: {:?}", server.log);
    }
}
