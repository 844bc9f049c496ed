//! What only a thread for each connection has: those that are kept make room for those who wait.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};
use vestibule_std::{Std, Topology};
use vestibule_suite::client::get;
use vestibule_suite::{Running, start};

fn threads(n: usize) -> Running {
    start::<Std>(|b| b.topology(Topology::Threads), |b| b.threads(n))
}

/// One thread, and clients that would keep it for ever.
#[test]
fn a_kept_connection_makes_room_for_those_who_wait() {
    let server = threads(1);
    let mut idle = server.client();
    idle.get("/hello");
    let mut busy = server.client();
    assert_eq!(busy.get("/hello").text(), "hello", "the idle one was closed");
    assert_eq!(idle.rest(), b"");
    drop(idle);

    let mut waiting = server.client();
    waiting.send(get("/hello"));
    let closed = (0..100_000).any(|_| busy.get("/hello").closes());
    assert!(closed, "even a busy one is told to go, with its answer");
    drop(busy);
    assert_eq!(waiting.answer().text(), "hello");
}

#[test]
fn nobody_is_sent_away_while_threads_are_free() {
    let server = threads(8);
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    for _ in 0..50 {
        clients.iter_mut().for_each(|client| client.send(get("/hello")));
        assert!(clients.iter_mut().all(|client| !client.answer().closes()));
    }
}

/// One thread: who keeps it with HTTP/2, idle or busy, leaves in favour of those who wait, and every stream is
/// answered.
#[test]
fn so_does_one_with_streams() {
    let server = threads(1);
    let mut idle = server.h2();
    assert_eq!(idle.get("/hello").content, b"hello");
    let mut busy = server.h2();
    let first = busy.request("GET", "/hello");
    idle.rest();
    assert_eq!(idle.goaways.last(), Some(&(1, 0)), "the idle one left with NO_ERROR");
    drop(idle);
    assert_eq!(busy.answer(first).content, b"hello");

    let mut waiting = server.client();
    waiting.send(get("/hello"));
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
    assert_eq!(waiting.answer().text(), "hello");
}
