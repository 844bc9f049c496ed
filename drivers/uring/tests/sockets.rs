//! What matters to io_uring in particular, on real sockets. Where there is none, each test says why and does nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use vestibule_suite::client::{Client, get};
use vestibule_suite::server::wait;
use vestibule_suite::{is_missing, start};
use vestibule_uring::{Topology, Uring};

/// DRV-10: forty that write and do not read, more than there are buffers for if each held its share.
#[test]
fn who_does_not_read_holds_nobody_up() {
    if is_missing::<Uring>() {
        return;
    }
    let server = start::<Uring>(|b| b.topology(Topology::Single), |b| b);
    let hogs: Vec<_> = (0..40)
        .map(|_| {
            let mut hog = server.connect();
            hog.write_all(get("/endless").as_bytes()).unwrap();
            hog.set_nonblocking(true).unwrap();
            let more = get("/hello").repeat(10_000);
            while hog.write(more.as_bytes()).is_ok() {}
            hog
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(server.client().get("/hello").text(), "hello");
    }
    drop(hogs);
    server.settle();
}

#[test]
fn a_thousand_idle_connections_stay_and_each_is_still_served() {
    if is_missing::<Uring>() {
        return;
    }
    let server = start::<Uring>(|b| b.topology(Topology::Single), |b| b.backlog(4096));
    let mut idle: Vec<_> = (0..1000).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| client.send(get("/hello")));
    for client in &mut idle {
        assert_eq!(client.answer().text(), "hello");
    }
    // The last answer may be read before its worker has come round to giving the buffers back.
    wait("connections at rest to hold no buffer", || server.handle.storages() == 0);
    for client in idle.iter_mut().rev() {
        assert_eq!(client.get("/again").text(), "/again");
    }
    drop(idle);
    server.settle();
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults, summary.cut), (1000, 2000, 0, 0));
}

/// A connection that has said nothing when its worker is replaced is served all the same.
#[test]
fn a_worker_is_replaced_and_nobody_is_refused() {
    if is_missing::<Uring>() {
        return;
    }
    let server = start::<Uring>(|b| b.workers(2), |b| b);
    for round in 0..10 {
        let stream = server.connect();
        server.handle.replace_worker(round % 2);
        assert_eq!(Client::new(stream).get("/hello").text(), "hello", "round {round}");
    }
}
