//! A coded body leaves as a job, is decoded on another thread, and comes back.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::Write;
use std::sync::Arc;
use vestibule::decode::job::{Done, Job};
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
                Event::Aborted { why, .. } => self.log.push(format!("aborted {}", why.unwrap().name())),
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
fn a_body_that_is_not_coded_needs_no_job() {
    let mut server = Server::new();
    server.inbox.fill(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert!(matches!(server.turn(None), (Pause::Input { .. }, None, _)));
    assert!(server.outbox.ready().ends_with(b"hello"));
}
