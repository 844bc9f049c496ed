//! HTTP/2 over real sockets: many exchanges on one connection, and what becomes of them when something ends. The client
//! is a few lines of its own, so nothing has to be installed.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::h2::{Answer, Client, DATA, END, RST_STREAM};
use support::{Running, get, response, start};
use vestibule::{Limit, Limits};
use vestibule_std::Topology;

fn client(server: &Running) -> Client<TcpStream> {
    Client::new(server.connect())
}

fn answer(status: u16, content: &[u8]) -> Answer {
    Answer { status, content: content.to_vec(), ended: true, reset: None }
}

#[test]
fn hello_with_prior_knowledge_again_and_again() {
    let server = start(|b| b);
    let mut client = client(&server);
    for _ in 0..100 {
        assert_eq!(client.get("/hello"), answer(200, b"hello"));
    }
    drop(client);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (1, 100, 0));
}

#[test]
fn a_hundred_streams_at_once() {
    let server = start(|b| b);
    let mut client = client(&server);
    for round in 0..20 {
        let all: Vec<_> = (0..100).map(|n| client.request("GET", &format!("/{round}/{n}"))).collect();
        for (n, number) in all.into_iter().enumerate() {
            assert_eq!(client.answer(number), answer(200, format!("/{round}/{n}").as_bytes()));
        }
    }
}

/// Streams that wait for their bodies hold up nobody.
#[test]
fn exchanges_mix_and_each_keeps_its_own_state() {
    let server = start(|b| b);
    let mut client = client(&server);
    let echoes: Vec<_> = (0..30).map(|_| client.request("POST", "/echo")).collect();
    for piece in 0..10 {
        for (n, &number) in echoes.iter().enumerate() {
            client.content(number, format!("{n}:{piece} ").as_bytes(), piece == 9);
        }
        assert_eq!(client.get("/hello").content, b"hello");
    }
    for (n, number) in echoes.into_iter().enumerate() {
        let expected: String = (0..10).map(|piece| format!("{n}:{piece} ")).collect();
        assert_eq!(client.answer(number), answer(200, expected.as_bytes()));
    }
    assert_eq!(server.incidents(), [""; 0]);
}

#[test]
fn three_megabytes_go_in_and_come_back_beside_small_answers() {
    let server = start(|b| b.limits(Limits::DEFAULT.with(Limit::BodyBytes, 1 << 24).unwrap()));
    let mut client = client(&server);
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let echo = client.request("POST", "/echo");
    for (i, piece) in body.chunks(100_000).enumerate() {
        client.content(echo, piece, (i + 1) * 100_000 == body.len());
        assert_eq!(client.get("/hello").content, b"hello");
    }
    let echoed = client.answer(echo);
    assert!(echoed.content == body, "{} bytes came back", echoed.content.len());
    assert_eq!(server.incidents(), [""; 0]);
}

#[test]
fn an_exchange_without_an_answer_gets_500_and_the_others_go_on() {
    let server = start(|b| b);
    let mut client = client(&server);
    let echo = client.request("POST", "/echo");
    assert_eq!(client.get("/silence"), answer(500, b""));
    let silence = client.request("POST", "/silence");
    client.content(silence, b"heard, and nothing said", true);
    assert_eq!(client.answer(silence), answer(500, b""));
    client.content(echo, b"still here", true);
    assert_eq!(client.answer(echo), answer(200, b"still here"));
    let said = server.incidents();
    assert_eq!(said.len(), 2);
    assert!(said.iter().all(|line| line.ends_with("500 the service did not answer")), "{said:?}");
}

/// What a service never does, nobody waits for: neither the client, nor a connection that is to end.
#[test]
fn no_mistake_of_a_service_hangs_a_stream_or_its_connection() {
    let server = start(|b| b);
    let mut client = client(&server);
    let echo = client.request("POST", "/echo");
    client.mute = true; // so that it may still send requests after the first GOAWAY
    let mut told = 0;
    for leaving in [false, true] {
        if leaving {
            server.handle.shutdown();
            while client.goaways.is_empty() {
                assert!(client.step());
            }
        }
        for (n, (name, mistake)) in MISTAKES.iter().enumerate() {
            let number = mistake(&mut client);
            let answer = client.answer(number);
            let refused = (answer.status, answer.ended) == (500, true) || answer.reset.is_some();
            assert!(refused, "{leaving} {n} {name}: {answer:?}");
            told += 1;
            assert_eq!(server.incidents().len(), told, "{name}: {:?}", server.incidents());
        }
    }
    client.content(echo, b"never touched", true);
    assert_eq!(client.answer(echo), answer(200, b"never touched"));
    client.rest();
    assert!(server.incidents().iter().all(|line| line.ends_with("500 the service did not answer")));
    assert_eq!(server.stop().cut, 0);
}

type Mistake = fn(&mut Client<TcpStream>) -> u32;

const MISTAKES: [(&str, Mistake); 11] = [
    ("nothing is said", |c| c.request("GET", "/silence")),
    ("nothing is said to a body", |c| posted(c, "/silence", &[b'x'; 20_000], true)),
    ("nothing is said to an empty body", |c| posted(c, "/silence", b"", true)),
    ("discarded and never answered", |c| c.request("GET", "/ignore")),
    ("discarded before it is complete", |c| posted(c, "/ignore", b"some of it", false)),
    ("discarded before anything comes", |c| c.request("POST", "/ignore")),
    ("never released", |c| posted(c, "/hold", &vec![b'x'; 65_536], false)),
    ("never released, and complete", |c| posted(c, "/hold", &vec![b'x'; 65_536], true)),
    ("begun and never finished", |c| c.request("GET", "/half")),
    ("begun, and its body is complete", |c| posted(c, "/half", b"all of it", true)),
    ("a tunnel that its client has left", |c| {
        let number = c.connect("/half");
        c.content(number, b"", true);
        number
    }),
];

#[test]
fn nor_do_those_that_no_other_event_would_show() {
    let server = start(|b| b.limits(Limits::DEFAULT.with(Limit::StreamWindowBytes, 1 << 18).unwrap()));
    let mut client = client(&server);
    client.get("/hello"); // and its SETTINGS: the window is open wider than what a service can hold
    let connect = client.connect("/silence");
    assert_eq!(client.answer(connect).status, 500);
    let hold = posted(&mut client, "/hold", &vec![b'x'; 65_536], false);
    client.content(hold, b"", true);
    assert_eq!(client.answer(hold).status, 500);
}

fn posted(client: &mut Client<TcpStream>, path: &str, body: &[u8], ends: bool) -> u32 {
    let number = client.request("POST", path);
    client.content(number, body, ends);
    number
}

/// DRV-04: the exchange at hand and those that were not answered get 500, one that was begun is reset, and no other
/// connection hears of it.
#[test]
fn a_panic_refuses_what_is_left_of_its_connection_alone() {
    let server = start(|b| b);
    let mut sibling = client(&server);
    let theirs = sibling.request("POST", "/echo");
    let mut client = client(&server);
    let begun = client.request("POST", "/echo");
    let waiting = client.request("POST", "/discard");
    client.content(waiting, b"some of it", false);
    while client.answers[&begun].status != 200 {
        assert!(client.step());
    }
    let panic = client.request("GET", "/panic");
    let late = client.request("GET", "/hello");
    assert_eq!((client.answer(panic).status, client.answer(waiting).status), (500, 500));
    assert_eq!(client.answer(begun).reset, Some(8), "CANCEL");
    client.answer(late);
    assert!(!client.answers[&late].ended || client.answers[&late].status == 500, "nobody is there to serve it");
    client.rest();
    assert!(!client.goaways.is_empty());
    sibling.content(theirs, b"not touched", true);
    assert_eq!(sibling.answer(theirs), answer(200, b"not touched"));
    drop((sibling, client));
    assert_eq!(server.stop().panics, 1);
}

/// One worker: who keeps it with HTTP/2, idle or busy, leaves in favour of those who wait, and every stream is
/// answered.
#[test]
fn a_kept_connection_makes_room_for_those_who_wait() {
    let server = start(|b| b.topology(Topology::Threads).threads(1));
    let mut idle = client(&server);
    assert_eq!(idle.get("/hello").content, b"hello");
    let mut busy = client(&server);
    let first = busy.request("GET", "/hello");
    idle.rest();
    assert_eq!(idle.goaways.last(), Some(&(1, 0)), "the idle one left with NO_ERROR");
    drop(idle);
    assert_eq!(busy.answer(first).content, b"hello");

    let mut waiting = server.connect();
    std::io::Write::write_all(&mut waiting, get("/hello").as_bytes()).unwrap();
    let begun = Instant::now();
    let mut asked = Vec::new();
    while busy.goaways.is_empty() && begun.elapsed() < Duration::from_secs(10) {
        for _ in 0..50 {
            asked.push(busy.request("GET", "/hello"));
        }
        for number in asked.iter().rev().take(50) {
            busy.answer(*number);
        }
    }
    assert!(!busy.goaways.is_empty(), "even a busy one is told to go");
    busy.rest();
    let (last, code) = *busy.goaways.last().unwrap();
    assert_eq!(code, 0);
    for number in asked {
        assert_eq!(busy.answers[&number].ended, number <= last, "{number} of {last}");
    }
    drop(busy);
    assert_eq!(response(&mut waiting).1, b"hello");
}

#[test]
fn a_shutdown_says_goaway_twice_and_answers_what_is_in_flight() {
    let server = start(|b| b);
    let mut idle = client(&server);
    idle.get("/hello");
    let mut client = client(&server);
    let echo = client.request("POST", "/echo");
    client.content(echo, b"hello", false);
    let other = client.request("POST", "/echo");
    while client.answers[&other].status == 0 {
        assert!(client.step());
    }
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    server.handle.shutdown();
    while client.goaways.is_empty() {
        assert!(client.step());
    }
    assert_eq!(client.goaways, [(0x7fff_ffff, 0)]);
    client.content(echo, b" world", true);
    assert_eq!(client.answer(echo), answer(200, b"hello world"));
    client.send(RST_STREAM, 0, other, &8u32.to_be_bytes());
    client.rest();
    assert_eq!(client.goaways, [(0x7fff_ffff, 0), (3, 0)]);
    idle.rest();
    assert_eq!(idle.goaways, [(0x7fff_ffff, 0), (1, 0)]);
    drop((idle, client));
    let summary = server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((summary.connections, summary.requests, summary.cut, summary.faults), (2, 3, 0, 0));
}

#[test]
fn a_shutdown_cuts_off_streams_that_outlast_its_grace() {
    let server = start(|b| b.shutdown_grace(Duration::from_millis(300)));
    let mut client = client(&server);
    let echo = client.request("POST", "/echo");
    client.content(echo, b"hello", false);
    while client.answers[&echo].content.is_empty() {
        assert!(client.step());
    }
    let begun = Instant::now();
    assert_eq!(server.stop().cut, 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// What the peer breaks is told once, and only its own connection pays for it.
#[test]
fn a_broken_rule_ends_the_connection_with_its_code() {
    let server = start(|b| b);
    let mut client = client(&server);
    client.get("/hello");
    client.send(DATA, END, 7, b"on a stream that was never opened");
    client.rest();
    assert_eq!(client.goaways, [(1, 1)], "PROTOCOL_ERROR");
    assert_eq!(server.incidents().len(), 1, "{:?}", server.incidents());
}

/// A reader that gives no window is given up; what it asked for beside goes on until then.
#[test]
fn an_endless_answer_ends_with_its_reader() {
    let limits = Limits::DEFAULT.with(Limit::StallMs, 300).unwrap();
    let server = start(|b| b.limits(limits));
    let mut client = client(&server);
    let endless = client.request("GET", "/endless");
    // It takes all that comes on the connection, and gives nothing back on that stream.
    let begun = Instant::now();
    client.hold = Some(endless);
    let mut hellos = 0;
    while client.answers[&endless].reset.is_none() && begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(client.get("/hello").content, b"hello");
        hellos += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let got = client.answer(endless);
    assert_eq!((got.content.len(), got.reset), (65_535, Some(8)), "its first window, then CANCEL");
    assert!(hellos > 5);
    drop(client);
    assert_eq!(server.stop().faults, 0, "a stream's fault is no connection's");
}
