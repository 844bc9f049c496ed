//! A pool that is full refuses, or waits, and recovers.

use crate::client::{Client, connect, get, post};
use crate::ends::is_silent;
use crate::server::{Layout, start};
use crate::service::pattern;
use crate::site::Site;
use crate::topologies::OFFLOADS;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use vestibule_driver::{Driver, Offload};

/// One thread that processes and one place in its queue: who comes then is asked to come again, each in its turn, and can.
pub fn a_full_process_pool_refuses_with_503_and_recovers<D: Driver>(layout: Layout<D>) {
    let process: Offload = "process".parse().unwrap();
    let server = start(layout, |b| b.offload(process).pool_threads(1).queue(1));
    let mut first = server.client();
    first.send(get("/gate") + &get("/1") + &get("/2"));
    server.gate.wait_for(1);
    // One of these is queued; the other ones are refused.
    let mut others = [server.client(), server.client(), server.client()];
    others.iter_mut().for_each(|client| client.send(get("/gate")));
    let mut refused = Vec::new();
    let mut queued = Vec::new();
    while refused.len() < 2 {
        for (number, client) in others.iter_mut().enumerate() {
            if !refused.contains(&number) && !is_silent(&mut client.stream, Duration::from_millis(20)) {
                let answer = client.answer();
                assert_eq!((answer.status, answer.field("retry-after"), answer.closes()), (503, Some("1"), false));
                refused.push(number);
            }
        }
    }
    for (number, client) in others.into_iter().enumerate() {
        match refused.contains(&number) {
            // The order is kept, also with a body between.
            true => {
                let mut client = client;
                client.send([get("/a").as_bytes(), &post("/echo", &pattern(3000)), get("/b").as_bytes()].concat());
                for _ in 0..3 {
                    assert_eq!(client.answer().status, 503);
                }
                queued.push((client, false));
            }
            false => queued.push((client, true)),
        }
    }
    let mut streams = server.h2();
    let all = ["/a", "/b"].map(|path| streams.request("GET", path));
    for number in all {
        let answer = streams.answer(number);
        assert_eq!((answer.status, answer.ended), (503, true));
    }
    server.gate.open();
    assert_eq!(["through", "/1", "/2"].map(|_| first.answer()).map(|a| a.text().to_string()), ["through", "/1", "/2"]);
    for (client, waits) in &mut queued {
        if *waits {
            assert_eq!(client.answer().text(), "through");
        }
        recovers(client);
    }
    let again = (0..1000).any(|_| streams.get("/again").content == b"/again");
    assert!(again, "it has not recovered");
    drop((first, queued, streams));
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
    assert_eq!(server.stop().cut, 0);
}

/// Others may still be in front of it, but not for long.
fn recovers(client: &mut Client<TcpStream>) {
    let answered = (0..1000).any(|_| {
        let answer = client.get("/again");
        assert!(matches!((answer.status, answer.text()), (200, "/again") | (503, "")), "{answer:?}");
        std::thread::sleep(Duration::from_millis(if answer.status == 200 { 0 } else { 10 }));
        answer.status == 200
    });
    assert!(answered, "it has not recovered");
}

/// What has begun when the pool is full is not refused any more: it waits for its turn.
pub fn a_request_that_is_under_way_waits_for_a_full_pool<D: Driver>(layout: Layout<D>) {
    let process: Offload = "process".parse().unwrap();
    let server = start(layout, |b| b.offload(process).pool_threads(1).queue(1));
    let body = pattern(400_000);
    let request = post("/echo", &body);
    let mut half = server.client();
    half.send(&request[..1000]);
    assert!(!is_silent(&mut half.stream, crate::client::LONG), "its answer has begun");
    let mut blocked = [server.client(), server.client()];
    blocked.iter_mut().for_each(|client| client.send(get("/gate")));
    server.gate.wait_for(1);
    let mut writer = half.stream.try_clone().unwrap();
    let rest = request[1000..].to_vec();
    let sender = std::thread::spawn(move || writer.write_all(&rest).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    server.gate.open();
    assert!(half.answer().content == body);
    sender.join().unwrap();
    for client in &mut blocked {
        let answer = client.answer();
        assert!(matches!(answer.status, 200 | 503), "{answer:?}"); // as there was room for its turn
    }
    drop((half, blocked));
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
}

/// More handshakes than the pool takes: they wait, and none is lost.
pub fn handshakes_wait_for_a_full_pool<D: Driver>(layout: Layout<D>) {
    let handshakes: Offload = "handshakes".parse().unwrap();
    let site = Site::with::<D>(false, |b| layout(b).offload(handshakes).pool_threads(1).queue(1)).unwrap();
    std::thread::scope(|scope| {
        for n in 0..24 {
            let site = &site;
            scope.spawn(move || {
                let path = format!("/{n}");
                assert_eq!(site.http1().get(&path).text(), path);
            });
        }
    });
    site.server.settle();
    assert_eq!(site.server.incidents(), [""; 0]);
    let summary = site.server.stop();
    assert_eq!((summary.connections, summary.requests, summary.cut), (24, 24, 0));
}

/// Mail from elsewhere, pools and many connections at once: whatever comes in which order, everybody gets their own.
pub fn everything_offloaded_under_load<D: Driver>(layout: Layout<D>) {
    let all: Offload = OFFLOADS[5].parse().unwrap();
    let server = start(layout, |b| b.offload(all).pool_threads(2));
    let addr = server.http;
    std::thread::scope(|scope| {
        for n in 0..12usize {
            scope.spawn(move || {
                let mut client = Client::new(connect(addr));
                for round in 0..20 {
                    let path = ["/later/1", "/outlet/40000", "/bytes/40000", "/path"][(n + round) % 4];
                    let answer = client.get(path);
                    match path {
                        "/later/1" | "/path" => assert_eq!(answer.text(), path),
                        _ => assert!(answer.content == pattern(40_000)),
                    }
                }
            });
        }
    });
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
}
