//! Whole requests answered by a function, inline and on a pool, in every topology: in order over HTTP/1.1, and with 503 when there is no room.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use http::{Request, Response};
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::{connect, get, response};
use vestibule_std::{Builder, Offload, Peer, Server, Summary, Topology};

fn run(choose: impl FnOnce(Builder) -> Builder, talk: impl FnOnce(&mut TcpStream)) -> Summary {
    let builder = Server::builder().http("127.0.0.1:0".parse().unwrap()).on_fault(|_| {});
    let server = choose(builder.handler(100_000, echo)).bind().unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    let thread = std::thread::spawn(|| server.run());
    talk(&mut connect(addr));
    handle.shutdown();
    thread.join().unwrap()
}

fn echo(request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    assert!(request.extensions().get::<Peer>().unwrap().addr.is_some());
    assert_ne!(request.uri().path(), "/panic");
    let mut body = format!("{} {} ", request.method(), request.uri()).into_bytes();
    body.extend(request.body());
    Response::builder().header("content-length", "0").header("x-mine", "yes").body(body).unwrap()
}

#[test]
fn requests_are_answered_whole_and_in_order_in_every_topology() {
    let process = "process,decode".parse::<Offload>().unwrap();
    for topology in Topology::ALL {
        for offload in [Offload::NONE, process] {
            let summary = run(
                |b| b.topology(topology).offload(offload),
                |stream| {
                    let large = "x".repeat(90_000);
                    let posted = format!("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 90000\r\n\r\n{large}");
                    stream.write_all((get("/a?b") + &posted + &get("/panic") + &get("/c")).as_bytes()).unwrap();
                    let (head, body) = response(stream);
                    assert!(head.contains("x-mine: yes\r\n"), "{head}");
                    assert_eq!(body, b"GET /a?b ", "{topology}");
                    assert_eq!(response(stream).1, format!("POST /b {large}").as_bytes(), "{topology}");
                    assert!(response(stream).0.starts_with("HTTP/1.1 500 "), "{topology}");
                    assert_eq!(response(stream).1, b"GET /c ", "{topology}");
                },
            );
            assert_eq!((summary.requests, summary.cut), (4, 0), "{topology} {offload}");
        }
    }
}

#[test]
fn a_pool_without_room_is_503_and_a_moment_later_it_is_not() {
    let (go, gate) = channel::<()>();
    let (began, begun) = channel();
    let gate = Mutex::new(gate);
    let slow = move |request: Request<Vec<u8>>| {
        if request.uri() == "/slow" {
            began.send(()).unwrap();
            let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        Response::new(request.uri().to_string().into_bytes())
    };
    let builder = Server::builder().http("127.0.0.1:0".parse().unwrap()).handler(0, slow);
    let offload = "process".parse().unwrap();
    let server = builder.offload(offload).pool_threads(1).queue(1).bind().unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    let thread = std::thread::spawn(|| server.run());
    let ask = |path: &str| {
        let mut stream = connect(addr);
        stream.write_all(get(path).as_bytes()).unwrap();
        stream
    };
    let mut first = ask("/slow");
    begun.recv().unwrap();
    let mut second = ask("/slow");
    // One is worked on; once one waits there is no room.
    let refused = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(2));
        let mut third = ask("/quick");
        third.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (head, _) = response(&mut third);
        head.starts_with("HTTP/1.1 503 ").then_some(head)
    });
    assert!(refused.unwrap().contains("retry-after: 1\r\n"));
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(response(&mut first).1, b"/slow");
    assert_eq!(response(&mut second).1, b"/slow");
    assert_eq!(response(&mut ask("/quick")).1, b"/quick");
    handle.shutdown();
    thread.join().unwrap();
}
