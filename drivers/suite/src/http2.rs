//! HTTP/2 on a plain port: many exchanges on one connection, and what becomes of them when something ends. The client is a few lines of
//! its own.

use crate::h2::{Answer, Client, DATA, END, RST_STREAM, frame};
use crate::server::{Layout, start};
use crate::service::{Sum, pattern};
use crate::site::roomy;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use vestibule::{Limit, Limits};
use vestibule_driver::Driver;

fn answer(status: u16, content: &[u8]) -> Answer {
    Answer { status, content: content.to_vec(), ended: true, reset: None }
}

pub fn hello_with_prior_knowledge_again_and_again<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
    for _ in 0..100 {
        assert_eq!(client.get("/hello"), answer(200, b"hello"));
    }
    drop(client);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (1, 100, 0));
}

pub fn a_hundred_streams_at_once<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
    for round in 0..20 {
        let all: Vec<_> = (0..100).map(|n| client.request("GET", &format!("/{round}/{n}"))).collect();
        for (n, number) in all.into_iter().enumerate() {
            assert_eq!(client.answer(number), answer(200, format!("/{round}/{n}").as_bytes()));
        }
    }
}

/// Streams that wait for their bodies hold up nobody.
pub fn exchanges_mix_and_each_keeps_its_own_state<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
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

pub fn three_megabytes_go_in_and_come_back_beside_small_answers<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(roomy()));
    let mut client = server.h2();
    let body = pattern(3_000_000);
    let echo = client.request("POST", "/echo");
    for (i, piece) in body.chunks(100_000).enumerate() {
        client.content(echo, piece, (i + 1) * 100_000 == body.len());
        assert_eq!(client.get("/hello").content, b"hello");
    }
    let echoed = client.answer(echo);
    assert!(echoed.content == body, "{} bytes came back", echoed.content.len());
    assert_eq!(server.incidents(), [""; 0]);
}

pub fn an_exchange_without_an_answer_gets_500_and_the_others_go_on<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
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
pub fn no_mistake_of_a_service_hangs_a_stream_or_its_connection<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
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

pub fn nor_do_those_that_no_other_event_would_show<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(Limits::DEFAULT.with(Limit::StreamWindowBytes, 1 << 18).unwrap()));
    let mut client = server.h2();
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
pub fn a_panic_refuses_what_is_left_of_its_connection_alone<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut sibling = server.h2();
    let theirs = sibling.request("POST", "/echo");
    let mut client = server.h2();
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

pub fn a_shutdown_says_goaway_twice_and_answers_what_is_in_flight<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut idle = server.h2();
    idle.get("/hello");
    let mut client = server.h2();
    let echo = client.request("POST", "/echo");
    client.content(echo, b"hello", false);
    let other = client.request("POST", "/echo");
    while client.answers[&other].status == 0 {
        assert!(client.step());
    }
    std::thread::sleep(Duration::from_millis(50));
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
    assert_eq!((summary.connections, summary.requests, summary.cut, summary.faults), (2, 3, 0, 0));
}

pub fn a_shutdown_cuts_off_streams_that_outlast_its_grace<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.shutdown_grace(Duration::from_millis(300)));
    let mut client = server.h2();
    let echo = client.request("POST", "/echo");
    client.content(echo, b"hello", false);
    while client.answers[&echo].content.is_empty() {
        assert!(client.step());
    }
    assert_eq!(server.stop().cut, 1);
}

/// What the peer breaks is told once, and only its own connection pays for it.
pub fn a_broken_rule_ends_the_connection_with_its_code<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
    client.get("/hello");
    client.send(DATA, END, 7, b"on a stream that was never opened");
    client.rest();
    assert_eq!(client.goaways, [(1, 1)], "PROTOCOL_ERROR");
    assert_eq!(server.incidents().len(), 1, "{:?}", server.incidents());
}

/// A reader that gives no window is given up; what it asked for beside goes on until then.
pub fn an_endless_answer_ends_with_its_reader<D: Driver>(layout: Layout<D>) {
    let limits = Limits::DEFAULT.with(Limit::StallMs, 300).unwrap();
    let server = start(layout, |b| b.limits(limits));
    let mut client = server.h2();
    let endless = client.request("GET", "/endless");
    // It takes all that comes on the connection, and gives nothing back on that stream.
    let begun = Instant::now();
    client.hold = Some(endless);
    let mut hellos = 0;
    while client.answers[&endless].reset.is_none() && begun.elapsed() < crate::client::LONG {
        assert_eq!(client.get("/hello").content, b"hello");
        hellos += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let got = client.answer(endless);
    assert_eq!((got.content.len(), got.reset), (65_535, Some(8)), "its first window, then CANCEL");
    assert!(hellos > 0);
    drop(client);
    assert_eq!(server.stop().faults, 0, "a stream's fault is no connection's");
}

pub fn answers_of_all_kinds_come_on_streams_of_one_connection<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(roomy()));
    let mut client = server.h2();
    let paths = ["/later/30", "/outlet/250000", "/hello", "/bytes/300000", "/later/0", "/dropped", "/cut"];
    let all: Vec<_> = paths.iter().map(|path| client.request("GET", path)).collect();
    let upload = client.request("POST", "/upload");
    let body = pattern(500_000);
    client.content(upload, &body, true);
    let job = client.request("POST", "/job");
    client.content(job, &pattern(100_000), true);
    let expected = [&b"/later/30"[..], &pattern(250_000), b"hello", &pattern(300_000), b"/later/0"];
    for (&number, content) in all.iter().zip(expected) {
        assert!(client.answer(number) == answer(200, content), "{number}");
    }
    assert_eq!(client.answer(all[5]), answer(500, b""));
    let cut = client.answer(all[6]);
    assert!(cut.status == 200 && cut.reset.is_some() && !cut.ended, "{cut:?}");
    let expected = format!("500000 {:x}", Sum::of(&body).0);
    assert_eq!(client.answer(upload), answer(200, expected.as_bytes()));
    assert_eq!(client.answer(job), answer(200, b"100000 bytes"));
    assert_eq!(server.incidents(), [""; 0]);
}

/// DRV-06: whoever has asked and says no more is answered all the same.
pub fn a_client_that_half_closes_gets_its_answers_on_all_streams<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.h2();
    let all = ["/hello", "/later/50", "/bytes/30000", "/outlet/30000"].map(|path| client.request("GET", path));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    for number in all {
        let got = client.answer(number);
        assert!((got.status, got.ended) == (200, true), "{number}: {} {:?}", got.status, got.reset);
    }
    client.rest();
    drop(client);
    server.settle();
}

/// DRV-06.
pub fn half_a_close_at_every_offset_of_streams<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame(crate::h2::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    all.extend(frame(crate::h2::HEADERS, 4, 1, &crate::h2::head("POST", "/echo")));
    all.extend(frame(DATA, END, 1, b"hello"));
    for cut in 1..=all.len() {
        let mut client = server.client();
        client.send(&all[..cut]);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let rest = client.rest();
        assert_eq!(rest.windows(5).any(|window| window == b"hello"), cut == all.len(), "{cut}");
    }
    server.settle();
}

pub fn a_reset_connection_takes_all_its_streams_along<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for _ in 0..10 {
        let mut client = server.h2();
        for path in ["/endless", "/outlet/10000000", "/later/20", "/bytes/10000000"] {
            client.request("GET", path);
        }
        let echo = client.request("POST", "/echo");
        client.content(echo, b"hello", false);
        assert!(client.step());
        crate::http1::reset(client.stream);
    }
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
}
