//! Whole requests answered by a function, inline and on a pool, in every topology: in order over HTTP/1.1, and with 503 when there is no room.
#![allow(missing_docs, clippy::unwrap_used)]

use http::{Request, Response};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use vestibule_std::{Builder, Offload, Peer, Server, Summary, Topology};
use vestibule_suite::client::{Client, connect, get};

fn run(choose: impl FnOnce(Builder) -> Builder, talk: impl FnOnce(&mut Client<TcpStream>)) -> Summary {
    let builder = Server::builder().http("127.0.0.1:0".parse().unwrap()).on_fault(|_| {});
    let server = choose(builder.handler(100_000, echo)).bind().unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    let thread = std::thread::spawn(|| server.run());
    talk(&mut Client::new(connect(addr)));
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
                    stream.send(get("/a?b") + &posted + &get("/panic") + &get("/c"));
                    let first = stream.answer();
                    assert_eq!(first.field("x-mine"), Some("yes"));
                    assert_eq!(first.content, b"GET /a?b ", "{topology}");
                    assert_eq!(stream.answer().content, format!("POST /b {large}").as_bytes(), "{topology}");
                    assert_eq!(stream.answer().status, 500, "{topology}");
                    assert_eq!(stream.answer().content, b"GET /c ", "{topology}");
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
        let mut client = Client::new(connect(addr));
        client.send(get(path));
        client
    };
    let mut first = ask("/slow");
    begun.recv().unwrap();
    // One is worked on. Of two more one waits, and there is no room for the other, whichever it is.
    let (answers, answered) = channel();
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (mut client, answers) = (ask("/slow"), answers.clone());
            std::thread::spawn(move || answers.send(client.answer()).unwrap())
        })
        .collect();
    let refused = answered.recv().unwrap();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(first.answer().content, b"/slow");
    assert_eq!(answered.recv().unwrap().content, b"/slow");
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(ask("/quick").answer().content, b"/quick");
    handle.shutdown();
    thread.join().unwrap();
}

#[test]
fn an_answer_larger_than_any_buffer_arrives_whole_and_a_field_that_cannot_be_sent_is_500() {
    let large = |request: Request<Vec<u8>>| match request.uri().path() {
        "/large" => Response::new(vec![b'x'; 3_000_000]),
        "/umlaut" => Response::builder().header("x-name", "J\u{fc}rgen").body(Vec::new()).unwrap(),
        _ => {
            let value = http::HeaderValue::from_bytes(b"\xff").unwrap();
            Response::builder().header("x-name", value).body(Vec::new()).unwrap()
        }
    };
    for offload in ["", "process"] {
        let server = Server::builder().http("127.0.0.1:0".parse().unwrap()).handler(0, large);
        let server = server.offload(offload.parse().unwrap()).bind().unwrap();
        let (addr, handle) = (server.local_addrs()[0], server.handle());
        let thread = std::thread::spawn(|| server.run());
        let mut client = Client::new(connect(addr));
        client.send(get("/large") + &get("/umlaut") + &get("/bad"));
        assert!(client.answer().content == vec![b'x'; 3_000_000], "{offload}");
        assert_eq!(client.answer().field("x-name"), Some("J\u{fc}rgen"), "{offload}");
        assert_eq!(client.answer().status, 500, "{offload}");
        handle.shutdown();
        thread.join().unwrap();
    }
}

#[test]
fn a_server_that_cannot_be_built_leaves_no_thread_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let before = pool_threads();
    for _ in 0..20 {
        let server = Server::builder().http(taken.local_addr().unwrap().into()).handler(0, echo);
        assert!(server.offload("process,decode".parse().unwrap()).pool_threads(3).bind().is_err());
    }
    let begun = std::time::Instant::now();
    while pool_threads() >= before + 20 && begun.elapsed() < std::time::Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert!(pool_threads() < before + 20);
}

/// Threads of pools in this process.
fn pool_threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("vestibule-proce") || name.starts_with("vestibule-decod")).count()
}
