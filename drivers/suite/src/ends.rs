//! How things end: shutdown, caps, deadlines, workers that are replaced.

use crate::client::{Client, connect, get, post};
use crate::server::{Layout, Running, start, wait};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vestibule::{Limit, Limits};
use vestibule_driver::{BindError, Driver, Peer, Server};

pub fn a_shutdown_ends_the_idle_and_answers_what_is_in_flight<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut idle = server.client();
    idle.get("/hello");
    let mut half = server.client();
    half.send(&post("/echo", b"helloworld")[..post("/echo", b"").len() + 1 + 5]);
    let mut slow = server.client();
    slow.send(get("/slow"));
    let mut later = server.client();
    later.send(get("/later/300"));
    let mut outlet = server.client();
    outlet.send(get("/outlet/3000000"));
    let mut silent = server.client();
    wait("all of them to be open", || server.handle.open() == 6);
    std::thread::sleep(Duration::from_millis(100));
    server.handle.shutdown();
    assert_eq!(idle.rest(), b"");
    assert_eq!(silent.rest(), b"");
    wait("the port to close", || TcpStream::connect(server.http).is_err());
    half.send(b"world");
    for (client, content) in [(&mut half, "helloworld"), (&mut slow, "slow"), (&mut later, "/later/300")] {
        assert_eq!(client.answer().text(), content);
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(outlet.answer().content.len(), 3_000_000);
    assert_eq!(outlet.rest(), b"");
    drop((idle, half, slow, later, outlet, silent));
    let summary = server.stop();
    assert_eq!((summary.requests, summary.cut, summary.faults), (5, 0, 0));
}

pub fn a_shutdown_cuts_off_what_outlasts_its_grace<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.shutdown_grace(Duration::from_millis(300)));
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
    wait("it to be open", || server.handle.open() == 1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.stop().cut, 1);
    assert!(!client.rest().ends_with(b"\r\n0\r\n\r\n"));
}

pub fn a_shutdown_of_an_idle_server_is_quick<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.shutdown_grace(Duration::from_secs(3600)));
    let mut client = server.client();
    client.get("/hello");
    let summary = server.stop(); // comes back without its grace being over
    assert_eq!((summary.connections, summary.cut), (1, 0));
    assert_eq!(client.rest(), b"");
}

pub fn beyond_the_cap_connections_wait_in_the_kernel<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.connections(2).workers(2));
    let mut first = server.client();
    let mut second = server.client();
    for client in [&mut first, &mut second] {
        client.get("/hello");
    }
    let mut third = server.client();
    third.send(get("/hello"));
    third.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    assert!(third.stream.read(&mut [0; 1]).is_err(), "nobody has accepted it");
    assert_eq!(server.handle.open(), 2);
    drop(first);
    third.stream.set_read_timeout(Some(crate::client::LONG)).unwrap();
    assert_eq!(third.answer().text(), "hello");
}

/// Far more clients than may be open at once: each has its turn.
pub fn everybody_has_a_turn_below_a_small_cap<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.connections(3));
    let addr = server.http;
    let clients: Vec<_> = (0..24)
        .map(|n| {
            std::thread::spawn(move || {
                let mut client = Client::new(connect(addr));
                let path = format!("/later/{}", n % 5);
                assert_eq!(client.get(&path).text(), path);
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.settle();
}

fn quick() -> Limits {
    let limits = Limits::DEFAULT.with(Limit::HeadMs, 400).unwrap().with(Limit::RateGraceMs, 400).unwrap();
    let limits = limits.with(Limit::IdleMs, 300).unwrap().with(Limit::MinRate, 1 << 20).unwrap();
    limits.with(Limit::HandshakeMs, 400).unwrap()
}

/// TIM-01 and the idle time, by the clock of the wall.
pub fn a_head_that_trickles_ends_in_time_and_silence_ends_in_silence<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(quick()));
    let begun = Instant::now();
    let mut silent = server.client();
    let mut slow = server.client();
    let mut writer = slow.stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        for byte in get("/hello-hello-hello-hello").bytes() {
            if writer.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let answer = String::from_utf8(slow.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_millis(390), "not before its time");
    assert_eq!(silent.rest(), b"");
    drop(slow);
    trickle.join().unwrap();
    let mut idle = server.client();
    idle.get("/hello");
    assert_eq!(idle.rest(), b"");
    server.settle();
}

/// TIM-02 and TIM-03.
pub fn slow_bodies_and_slow_readers_are_given_up<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(quick()));
    let mut client = server.client();
    client.send("POST /discard HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhello");
    let answer = String::from_utf8(client.rest()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // They take nothing: one whose service has the bytes, and one whose bytes come from elsewhere.
    let mut endless = server.client();
    endless.send(get("/endless"));
    let mut outlet = server.client();
    outlet.send(get("/outlet/1000000000"));
    let said = server.wait_for_incidents(3);
    assert!(said.iter().any(|line| line.contains("BodyTooSlow")), "{said:?}");
    assert_eq!(said.iter().filter(|line| line.contains("ReaderTooSlow")).count(), 2, "{said:?}");
    server.settle();
    drop((endless, outlet));
}

/// What is awaited from elsewhere has no deadline of its own, and its connection none meanwhile.
pub fn an_answer_may_take_longer_than_an_idle_connection_may_last<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(quick()));
    let mut client = server.client();
    assert_eq!(client.get("/later/900").text(), "/later/900");
    let mut streams = server.h2();
    let number = streams.request("GET", "/later/900");
    assert_eq!(streams.answer(number).content, b"/later/900");
}

/// DRV-06: whoever resets while its answer is awaited is not kept for it.
pub fn a_reset_is_noticed_while_an_answer_is_awaited<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = server.client();
            client.send(get("/later-gate"));
            client
        })
        .collect();
    server.gate.wait_for(5);
    clients.into_iter().for_each(|client| crate::http1::reset(client.stream));
    server.settle(); // and the gate is shut
    assert_eq!(server.incidents(), [""; 0]);
    assert_eq!(server.stop().resets, 5);
}

/// An answer that is made when nobody is there for it harms nobody.
pub fn answers_for_those_who_have_gone_are_dropped<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for n in 0..20 {
        let mut client = server.client();
        client.send(get(if n % 2 == 0 { "/later/30" } else { "/outlet/100000000" }));
        if n % 4 < 2 {
            wait("it to be open", || server.handle.open() > 0);
            crate::http1::reset(client.stream);
        }
    }
    server.settle();
    assert_eq!(server.client().get("/hello").text(), "hello");
    assert_eq!(server.incidents(), [""; 0]);
}

/// One request after the other until `over`. On a kept connection the server may leave at the moment in which a request comes
/// (RFC 9112 §9.3.1): then nothing at all is answered, and the request is sent again on a new one.
fn ask_until(addr: std::net::SocketAddr, keeps: bool, over: &AtomicBool, answered: &AtomicUsize) {
    let mut kept: Option<Client<TcpStream>> = None;
    while !over.load(Ordering::Relaxed) {
        let (mut client, is_new) = match kept.take() {
            Some(client) => (client, false),
            None => (Client::new(connect(addr)), true),
        };
        let close = if keeps { "" } else { "connection: close\r\n" };
        let sent = client.stream.write_all(format!("GET /x HTTP/1.1\r\nhost: a\r\n{close}\r\n").as_bytes());
        let answer = sent.ok().and_then(|()| client.try_answer());
        match answer {
            Some(answer) => {
                assert_eq!((answer.status, answer.text()), (200, "/x"));
                answered.fetch_add(1, Ordering::Relaxed);
                if keeps && !answer.closes() {
                    kept = Some(client);
                }
            }
            None => assert!(!is_new, "a request on a new connection was lost"),
        }
    }
}

fn load(server: &Running, meanwhile: impl FnOnce(&dyn Fn(usize))) {
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (addr, over, answered) = (server.http, over.clone(), answered.clone());
            std::thread::spawn(move || ask_until(addr, n % 2 == 0, &over, &answered))
        })
        .collect();
    meanwhile(&|more| {
        let had = answered.load(Ordering::Relaxed);
        let all_work = || clients.iter().all(|client| !client.is_finished());
        wait("more answers", || !all_work() || answered.load(Ordering::Relaxed) >= had + more);
    });
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// DRV-03: what a worker holds is served, what waits for it goes to the one that follows.
pub fn a_worker_that_is_replaced_under_load_loses_no_request<D: Driver>(layout: Layout<D>) {
    for reuse_port in [false, true] {
        let server = start(layout, |b| b.workers(2).reuse_port(reuse_port));
        load(&server, |wait_for| {
            wait_for(100);
            for round in 0..6 {
                server.handle.replace_worker(round % 2);
                wait_for(100);
            }
        });
        server.settle();
        let summary = server.stop();
        assert_eq!((summary.resets, summary.cut, summary.faults), (0, 0, 0), "reuse_port {reuse_port}");
    }
}

/// What is under way on a worker that is replaced comes to its end there.
pub fn a_worker_that_is_replaced_finishes_what_it_has<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.workers(1));
    let mut half = server.client();
    let request = post("/echo", b"helloworld");
    half.send(&request[..request.len() - 5]);
    let mut later = server.client();
    later.send(get("/later/200"));
    let mut idle = server.client();
    idle.get("/hello");
    wait("all of them to be open", || server.handle.open() == 3);
    std::thread::sleep(Duration::from_millis(50));
    server.handle.replace_worker(0);
    assert_eq!(server.client().get("/hello").text(), "hello");
    half.send(b"world");
    assert_eq!(half.answer().text(), "helloworld");
    assert_eq!(later.answer().text(), "/later/200");
    // The idle one was closed, or is left with its next answer.
    let sent = idle.stream.write_all(get("/hello").as_bytes());
    if let Some(answer) = sent.ok().and_then(|()| idle.try_answer()) {
        assert_eq!((answer.text(), answer.closes()), ("hello", true));
    }
    drop((half, later, idle));
    server.settle();
    assert_eq!(server.stop().cut, 0);
}

pub fn what_cannot_be_built_says_why<D: Driver>(layout: Layout<D>) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = |_: &Peer| |_: vestibule::Event<'_>| Ok(());
    let builder = || layout(Server::<D>::builder().service(service));
    let error = builder().http(taken.local_addr().unwrap().into()).bind().unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"), "{error}");
    assert_eq!(builder().bind().unwrap_err().to_string(), "no address to listen on was given");
    let error = layout(Server::<D>::builder().http("127.0.0.1:0".parse().unwrap())).bind().unwrap_err();
    assert!(matches!(error, BindError::NoService), "{error}");
}

/// A read that ends in time says that nothing came.
pub fn is_silent(stream: &mut TcpStream, for_so_long: Duration) -> bool {
    stream.set_read_timeout(Some(for_so_long)).unwrap();
    let came = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(crate::client::LONG)).unwrap();
    matches!(came, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}
