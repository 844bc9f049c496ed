//! A coded body leaves as a job, is decoded on another thread, and comes back.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Write;
use std::sync::Arc;
use vestibule::decode::job::{Done, Job};
use vestibule::decode::json;
use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Limits, Outbox, Pause, Wait};

struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    log: Vec<String>,
}

impl Server {
    fn new() -> Server {
        Server {
            connection: Connection::new(Arc::new(Config::new(Limits::DEFAULT)), Instant::ZERO),
            inbox: Inbox::new(vec![0; 65_536]),
            outbox: Outbox::new(vec![0; 65_536]),
            log: vec![],
        }
    }

    fn turn(&mut self, done: Option<Done>) -> (Pause, Option<Job>, bool) {
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).unwrap();
        let taken = done.is_some_and(|d| turn.done(d));
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut q) => {
                    q.reply.expect(Expect::WholeByJob { max: 100_000 });
                }
                Event::Body(mut b) => {
                    assert!(b.whole && b.last);
                    b.reply.respond(200, &[], Content::Whole(b.bytes)).unwrap();
                }
                Event::Aborted { why, .. } => {
                    self.log.push(format!("aborted {}", why.map_or("by the peer", |v| v.name())))
                }
                Event::Fault(v) => self.log.push(format!("fault {}", v.name())),
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
