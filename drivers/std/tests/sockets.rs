//! Real sockets against real clients, all on 127.0.0.1 and each bounded in time.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use support::{Running, get, read_all, response, start};
use vestibule::{Limit, Limits};
use vestibule_std::{Server, Topology};

fn plain() -> Running {
    start(|builder| builder)
}

#[test]
fn hello_on_one_connection_again_and_again() {
    let server = plain();
    let mut stream = server.connect();
    for _ in 0..100 {
        stream.write_all(get("/hello").as_bytes()).unwrap();
        let (head, body) = response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("connection"), "{head}");
        assert_eq!(body, b"hello");
    }
    drop(stream);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (1, 100, 0));
}

#[test]
fn a_thousand_requests_in_one_write_are_answered_in_order() {
    let server = plain();
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: String = (0..1000).map(|n| get(&format!("/path/{n}"))).collect();
        writer.write_all(all.as_bytes()).unwrap();
    });
    for n in 0..1000 {
        assert_eq!(response(&mut stream).1, format!("/path/{n}").as_bytes());
    }
    sender.join().unwrap();
}

#[test]
fn three_megabytes_go_in_and_come_back() {
    let server = start(|b| b.limits(Limits::DEFAULT.with(Limit::BodyBytes, 1 << 24).unwrap()));
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let sent = body.clone();
    let sender = std::thread::spawn(move || {
        writer
            .write_all(format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", sent.len()).as_bytes())
            .unwrap();
        writer.write_all(&sent).unwrap();
    });
    let (head, echoed) = response(&mut stream);
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert!(echoed == body, "{} bytes came back", echoed.len());
    sender.join().unwrap();
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = plain();
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for byte in get("/hello").bytes() {
        stream.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(response(&mut stream).1, b"hello");
}

/// DRV-04.
#[test]
fn a_panic_costs_its_own_connection_alone() {
    let server = plain();
    let mut sibling = server.connect();
    sibling.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut sibling);
    let mut stream = server.connect();
    stream.write_all((get("/panic") + &get("/hello")).as_bytes()).unwrap();
    let (head, _) = response(&mut stream);
    assert!(head.starts_with("HTTP/1.1 500 Internal Server Error\r\n") && head.contains("connection: close"), "{head}");
    assert_eq!(read_all(&mut stream), b"", "the request behind it is not served");
    sibling.write_all(get("/hello").as_bytes()).unwrap();
    assert_eq!(response(&mut sibling).1, b"hello");
    drop((sibling, stream));
    assert_eq!(server.stop().panics, 1);
}

/// DRV-06.
#[test]
fn half_a_close_at_every_stage() {
    let server = plain();
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    for cut in 0..=request.len() {
        let mut stream = server.connect();
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8(read_all(&mut stream)).unwrap();
        let body = request.len() - 5;
        match cut {
            0 => assert_eq!(answer, ""),
            _ if cut < body => assert!(answer.starts_with("HTTP/1.1 400 "), "{cut}: {answer}"),
            // The service has begun to answer: the end without its last chunk says the rest.
            _ if cut < request.len() => assert!(!answer.contains("\r\n0\r\n\r\n"), "{cut}: {answer}"),
            _ => assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{cut}: {answer}"),
        }
    }
}

/// DRV-06: counted, not logged.
#[test]
fn resets_are_counted_and_make_no_lines() {
    let server = plain();
    for _ in 0..20 {
        let stream = server.connect();
        (&stream).write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nhello").unwrap();
        // Once it has answered, it has been accepted, and counts.
        assert!((&stream).read(&mut [0; 200]).unwrap() > 0);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(); // close() resets now
    }
    let begun = Instant::now();
    while server.incidents().is_empty() && begun.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.incidents(), [""; 0]);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.resets, summary.faults), (20, 20, 0));
}

/// DRV-07: a refused body that keeps coming does not destroy the answer.
#[test]
fn the_answer_reaches_a_peer_that_is_still_sending() {
    let server = plain();
    for _ in 0..10 {
        let mut stream = server.connect();
        let head = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let _ = stream.write_all(&[b'x'; 50_000]); // within what a lingering server reads
        let (head, _) = response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{head}");
    }
    let said = server.incidents();
    assert_eq!(said.len(), 10);
    assert!(said[0].contains("413 BodyTooLarge: the body is too large"), "{}", said[0]);
    assert!(said[0].ends_with("body_bytes is 1048576"), "{}", said[0]);
}

#[test]
fn beyond_the_cap_connections_wait_in_the_kernel() {
    let server = start(|b| b.connections(2).workers(2));
    let mut first = server.connect();
    let mut second = server.connect();
    for stream in [&mut first, &mut second] {
        stream.write_all(get("/hello").as_bytes()).unwrap();
        response(stream);
    }
    let mut third = server.connect();
    third.write_all(get("/hello").as_bytes()).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(third.read(&mut [0; 1]).is_err(), "nobody has accepted it");
    drop(first);
    third.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(response(&mut third).1, b"hello");
}

/// One worker, and clients that would keep it for ever.
#[test]
fn a_kept_connection_makes_room_for_those_who_wait() {
    let server = start(|b| b.topology(Topology::Threads).threads(1));
    let mut idle = server.connect();
    idle.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut idle);
    let mut busy = server.connect();
    busy.write_all(get("/hello").as_bytes()).unwrap();
    assert_eq!(response(&mut busy).1, b"hello", "the idle one was closed");
    assert_eq!(read_all(&mut idle), b"");
    drop(idle);

    let mut waiting = server.connect();
    waiting.write_all(get("/hello").as_bytes()).unwrap();
    let mut closed = false;
    for _ in 0..100_000 {
        busy.write_all(get("/hello").as_bytes()).unwrap();
        if response(&mut busy).0.contains("connection: close") {
            closed = true;
            break;
        }
    }
    assert!(closed, "even a busy one is told to go, with its answer");
    drop(busy);
    assert_eq!(response(&mut waiting).1, b"hello");
}

#[test]
fn nobody_is_sent_away_while_workers_are_free() {
    let server = start(|b| b.workers(8));
    let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for _ in 0..50 {
        for stream in &mut streams {
            stream.write_all(get("/hello").as_bytes()).unwrap();
        }
        for stream in &mut streams {
            let (head, _) = response(stream);
            assert!(!head.contains("connection"), "{head}");
        }
    }
}

#[test]
fn a_shutdown_ends_the_idle_and_answers_what_is_in_flight() {
    let server = plain();
    let mut idle = server.connect();
    idle.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut idle);
    let mut half = server.connect();
    half.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    let mut slow = server.connect();
    slow.write_all(get("/slow").as_bytes()).unwrap();
    let mut silent = server.connect();
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    server.handle.shutdown();
    assert_eq!(read_all(&mut idle), b"");
    assert_eq!(read_all(&mut silent), b"");
    while TcpStream::connect(server.http).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(4), "the port is closed");
    }
    half.write_all(b"world").unwrap();
    assert_eq!(response(&mut half).1, b"helloworld");
    assert_eq!(read_all(&mut half), b"");
    assert_eq!(response(&mut slow).1, b"slow");
    assert_eq!(read_all(&mut slow), b"");
    drop((idle, half, slow, silent));
    let summary = server.stop();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((summary.requests, summary.cut, summary.faults), (3, 0, 0));
}

#[test]
fn a_shutdown_cuts_off_what_outlasts_its_grace() {
    let server = start(|b| b.shutdown_grace(Duration::from_millis(300)));
    let mut stream = server.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    assert_eq!(server.stop().cut, 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(stream);
}

fn quick() -> Limits {
    let limits = Limits::DEFAULT.with(Limit::HeadMs, 400).unwrap().with(Limit::RateGraceMs, 400).unwrap();
    limits.with(Limit::IdleMs, 300).unwrap().with(Limit::MinRate, 1 << 20).unwrap()
}

/// TIM-01 and the idle time, by the clock of the wall.
#[test]
fn a_head_that_trickles_ends_in_time_and_silence_ends_in_silence() {
    let server = start(|b| b.limits(quick()));
    let begun = Instant::now();
    let mut silent = server.connect();
    let mut slow = server.connect();
    let mut writer = slow.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        for byte in get("/hello-hello-hello").bytes() {
            if writer.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let answer = String::from_utf8(read_all(&mut slow)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(390) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(read_all(&mut silent), b"");
    drop(slow);
    trickle.join().unwrap();
    let mut idle = server.connect();
    idle.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut idle);
    assert_eq!(read_all(&mut idle), b"");
}

/// TIM-02 and TIM-03.
#[test]
fn slow_bodies_and_slow_readers_are_given_up() {
    let server = start(|b| b.limits(quick()));
    let mut stream = server.connect();
    stream.write_all(b"POST /discard HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhello").unwrap();
    let answer = String::from_utf8(read_all(&mut stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut stream = server.connect();
    stream.write_all(get("/endless").as_bytes()).unwrap();
    let begun = Instant::now();
    while server.incidents().len() < 2 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = server.incidents();
    assert!(said.iter().any(|line| line.contains("BodyTooSlow")), "{said:?}");
    assert!(said.iter().any(|line| line.contains("ReaderTooSlow")), "{said:?}");
}

#[test]
fn what_cannot_be_built_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = |_: &vestibule_std::Peer| |_: vestibule::Event<'_>| Ok(());
    let error = Server::builder().http(taken.local_addr().unwrap()).service(service).bind().unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"), "{error}");
    assert_eq!(Server::builder().service(service).bind().unwrap_err().to_string(), "no address to listen on was given");
}
