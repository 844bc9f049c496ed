//! What the probe says of a server on real sockets, whatever its driver and layout. Its counts are waited for: an answer may reach its client a
//! moment before the thread that made it has counted.

use crate::client::{LONG, get, post};
use crate::server::{Layout, Running, start, wait};
use crate::service::pattern;
use std::time::{Duration, Instant};
use vestibule_driver::Driver;
use vestibule_driver::probe::{Snapshot, Stage};

pub(crate) fn snapshot(server: &Running) -> Snapshot {
    server.handle.probe().unwrap().snapshot()
}

/// Waits until so many responses of each class were made.
pub(crate) fn wait_for(server: &Running, responses: [u64; 5], what: &str) {
    let begun = Instant::now();
    while snapshot(server).responses != responses {
        assert!(begun.elapsed() < LONG, "{what}: {:?} and not {responses:?}", snapshot(server).responses);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Statuses of every class over each version, and those that no service gives. Says what is to be counted.
pub(crate) fn answers_of_all_classes(server: &Running) -> [u64; 5] {
    let mut client = server.client();
    for status in [200, 204, 304, 404, 403, 503] {
        assert_eq!(client.get(&format!("/status/{status}")).status, status);
    }
    assert_eq!(client.ask(get("/early")).status, 103);
    assert_eq!(client.answer().text(), "early");
    assert_eq!(client.get("/bytes/100000").content.len(), 100_000);
    assert_eq!(client.get("/dropped").status, 500);
    client.send("HEAD /hello HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer_to("HEAD").status, 200);
    assert_eq!(
        client.ask("POST /upload HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").status,
        100
    );
    assert_eq!(client.ask("x").status, 200);
    assert_eq!(client.ask("GET / HTTP/1.1\n\n").status, 400);

    let mut client = server.h2();
    for status in [200, 204, 304, 404, 403, 503] {
        assert_eq!(client.get(&format!("/status/{status}")).status, status);
    }
    assert_eq!(client.get("/early").content, b"early");
    assert_eq!(client.get("/bytes/100000").content.len(), 100_000);
    assert_eq!(client.get("/dropped").status, 500);
    let echo = client.request("POST", "/echo");
    client.content(echo, &pattern(100_000), true);
    assert_eq!(client.answer(echo).content.len(), 100_000);
    [3, 11, 2, 5, 4]
}

pub fn answers_are_counted_by_class_in_both_versions<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.probe(true));
    let responses = answers_of_all_classes(&server);
    wait_for(&server, responses, "all classes");
    let probe = server.handle.probe().unwrap();
    let (text, json) = (probe.prometheus(), probe.json());
    for (class, n) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(responses) {
        assert!(text.contains(&format!("\nvestibule_responses_total{{class=\"{class}\"}} {n}\n")), "{text}");
        assert!(json.contains(&format!("{{\"class\":\"{class}\",\"total\":{n},")), "{json}");
    }
}

pub fn reading_and_writing_take_time_and_waiting_takes_none<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.probe(true));
    let (mut old, mut new, body) = (server.client(), server.h2(), pattern(300_000));
    assert!(old.ask(post("/echo", &body)).content == body);
    let echo = new.request("POST", "/echo");
    new.content(echo, &body, true);
    assert!(new.answer(echo).content == body);
    let is_there = |stage| {
        let counts = snapshot(&server).stage(stage);
        counts.bytes >= 400_000 && counts.time > Duration::ZERO
    };
    wait("time to read", || is_there(Stage::Read));
    // The last bytes of an answer are counted with the turn that follows them, and those of a connection that is reset are not.
    wait("time to write", || is_there(Stage::Write));
    drop((old, new));
    wait("both to be closed", || snapshot(&server).connections.open == 0);

    // A peer that says nothing costs nothing, nor does one that takes nothing.
    let _silent = (server.client(), server.h2());
    let mut deaf = server.client();
    deaf.send(get("/endless"));
    wait("a full socket", || snapshot(&server).stage(Stage::Write).queue == 1);
    let times = || [Stage::Read, Stage::Write].map(|stage| snapshot(&server).stage(stage).time);
    // By the clock a call may last as long as others have the processor: not every time.
    wait("a while in which nothing is read or written", || {
        let before = times();
        std::thread::sleep(Duration::from_millis(100));
        times().into_iter().zip(before).all(|(now, before)| now - before < Duration::from_millis(20))
    });
}

pub fn without_a_probe_there_is_none<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    assert_eq!(server.client().get("/status/404").status, 404);
    assert!(server.handle.probe().is_none());
}
