//! Real sockets against real clients, all on 127.0.0.1 and each bounded in time. Without io_uring each test says so and does nothing.

#![cfg(all(target_os = "linux", feature = "aws-lc-rs"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

// The clients and routes are those of the std driver's tests; the server is this one.
extern crate vestibule_uring as vestibule_std;
#[path = "../../std/tests/support/mod.rs"]
mod support;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use support::{connect, get, read_all, response, start};
use vestibule::{Event, Limit, Limits, Misuse};
use vestibule_uring::tls::{TlsConfig, provider, server_config};
use vestibule_uring::{Builder, Offload, Post, Server, Topology};

fn is_missing() -> bool {
    vestibule_uring::check().is_err_and(|missing| {
        println!("skipped: {missing}");
        true
    })
}

fn local() -> std::net::SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn hello_on_one_connection_again_and_again() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    let mut stream = server.connect();
    for _ in 0..200 {
        stream.write_all(get("/hello").as_bytes()).unwrap();
        assert_eq!(response(&mut stream).1, b"hello");
    }
    drop(stream);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (1, 200, 0));
}

#[test]
fn two_thousand_requests_in_one_write_are_answered_in_order() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: String = (0..2000).map(|n| get(&format!("/path/{n}"))).collect();
        writer.write_all(all.as_bytes()).unwrap();
    });
    for n in 0..2000 {
        assert_eq!(response(&mut stream).1, format!("/path/{n}").as_bytes());
    }
    sender.join().unwrap();
}

/// Over plain sockets and over TLS, in every layout of threads.
#[test]
fn three_megabytes_go_in_and_come_back_in_every_topology() {
    if is_missing() {
        return;
    }
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let limits = Limits::DEFAULT.with(Limit::BodyBytes, 1 << 24).unwrap();
    let (tls, client) = site();
    for (topology, offload) in [
        (Topology::Single, ""),
        (Topology::Workers, ""),
        (Topology::Acceptor, ""),
        (Topology::Workers, "handshakes"),
        (Topology::Workers, "process"),
    ] {
        let offload: Offload = offload.parse().unwrap();
        let server = start(|b: Builder| {
            b.limits(limits.clone()).https(local(), tls.clone()).topology(topology).offload(offload).workers(2)
        });
        echo(&body, connect(server.addrs[0]));
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(client.clone(), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, connect(server.addrs[1]));
        let small = &body[..40_000]; // as much as fits into the sockets, since this client does not read while it writes
        write_echo(small, &mut stream);
        assert!(response(&mut stream).1 == small, "{topology} {offload}");
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{topology}: close_notify is answered");
        let summary = server.stop();
        assert_eq!((summary.connections, summary.requests, summary.faults), (2, 2, 0), "{topology} {offload}");
    }
}

fn write_echo(body: &[u8], stream: &mut impl Write) {
    let head = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    stream.flush().unwrap();
}

fn echo(body: &[u8], mut stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || write_echo(body, &mut writer));
        let (_, echoed) = response(&mut stream);
        assert!(echoed == body, "{} bytes came back", echoed.len());
    });
}

fn site() -> (TlsConfig, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let cert: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsConfig::new(server_config(vec![cert], key).unwrap()), Arc::new(client))
}

/// With the `h2` crate's client.
#[test]
fn a_hundred_streams_of_http2() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async {
        let stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        let mut client = client.ready().await.unwrap();
        let mut answers = Vec::new();
        for n in 0..100 {
            let request = http::Request::get(format!("http://localhost/path/{n}")).body(()).unwrap();
            client = client.ready().await.unwrap();
            answers.push(client.send_request(request, true).unwrap().0);
        }
        for (n, answer) in answers.into_iter().enumerate() {
            let mut body = answer.await.unwrap().into_body();
            let mut text = Vec::new();
            while let Some(part) = body.data().await {
                let part = part.unwrap();
                let _ = body.flow_control().release_capacity(part.len());
                text.extend_from_slice(&part);
            }
            assert_eq!(text, format!("/path/{n}").as_bytes());
        }
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time") });
}

/// DRV-06.
#[test]
fn half_a_close_at_every_stage() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    let body = request.len() - 5;
    for cut in 0..=request.len() {
        let mut stream = server.connect();
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8(read_all(&mut stream)).unwrap();
        match cut {
            0 => assert_eq!(answer, ""),
            _ if cut < body => assert!(answer.starts_with("HTTP/1.1 400 "), "{cut}: {answer}"),
            _ if cut < request.len() => assert!(!answer.contains("\r\n0\r\n\r\n"), "{cut}: {answer}"),
            _ => assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{cut}: {answer}"),
        }
    }
}

/// DRV-06: counted, not logged, and nothing is left behind.
#[test]
fn resets_are_counted() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    for _ in 0..20 {
        let stream = server.connect();
        (&stream).write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nhello").unwrap();
        assert!((&stream).read(&mut [0; 200]).unwrap() > 0);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut stream = server.connect(); // comes behind them
    stream.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut stream);
    assert_eq!(server.incidents(), [""; 0]);
    drop(stream);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.resets, summary.faults), (21, 20, 0));
}

/// DRV-07: a refused body that keeps coming does not destroy the answer.
#[test]
fn the_answer_reaches_a_peer_that_is_still_sending() {
    if is_missing() {
        return;
    }
    let server = start(|b| b);
    for _ in 0..10 {
        let mut stream = server.connect();
        stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n").unwrap();
        let _ = stream.write_all(&[b'x'; 50_000]);
        let (head, _) = response(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413 Content Too Large\r\n"), "{head}");
    }
}

/// A reader that stops reading, and others meanwhile (DRV-10).
#[test]
fn one_that_does_not_read_holds_nobody_up() {
    if is_missing() {
        return;
    }
    let server = start(|b: Builder| b.topology(Topology::Single));
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
        let mut quiet = server.connect();
        quiet.write_all(get("/hello").as_bytes()).unwrap();
        assert_eq!(response(&mut quiet).1, b"hello");
    }
    drop(hogs);
}

#[test]
fn a_thousand_idle_connections_stay_and_each_is_still_served() {
    if is_missing() {
        return;
    }
    let server = start(|b: Builder| b.topology(Topology::Single).backlog(4096));
    let mut idle: Vec<_> = (0..1000).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(get("/hello").as_bytes()).unwrap();
    }
    for stream in &mut idle {
        assert_eq!(response(stream).1, b"hello");
    }
    for stream in idle.iter_mut().rev() {
        stream.write_all(get("/again").as_bytes()).unwrap();
        assert_eq!(response(stream).1, b"/again");
    }
    drop(idle);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults, summary.cut), (1000, 2000, 0, 0));
}

#[test]
fn beyond_the_cap_connections_wait_and_are_served_in_the_end() {
    if is_missing() {
        return;
    }
    let server = start(|b: Builder| b.topology(Topology::Single).connections(2));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = server.http;
            std::thread::spawn(move || {
                let mut stream = connect(address);
                stream.write_all(get("/hello").as_bytes()).unwrap();
                assert_eq!(response(&mut stream).1, b"hello");
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

/// By mail, from another thread, while the worker waits in the kernel.
#[test]
fn an_answer_of_another_thread_arrives() {
    if is_missing() {
        return;
    }
    let server = Server::builder()
        .http(local())
        .service_with_post(|_, post: &Post| {
            let post = post.clone();
            move |event: Event<'_>| -> Result<(), Misuse> {
                if let Event::Request(request) = event {
                    let later = post.later(request.reply.id());
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_millis(20));
                        later.respond(200, &[], b"at last".to_vec())
                    });
                }
                Ok(())
            }
        })
        .bind()
        .unwrap();
    let (address, handle) = (server.local_addrs()[0], server.handle());
    let running = std::thread::spawn(|| server.run());
    let mut stream = connect(address);
    for _ in 0..5 {
        stream.write_all(get("/").as_bytes()).unwrap();
        assert_eq!(response(&mut stream).1, b"at last");
    }
    handle.shutdown();
    assert_eq!(read_all(&mut stream), b"");
    assert_eq!(running.join().unwrap().cut, 0);
}

#[test]
fn a_shutdown_ends_the_idle_answers_what_is_in_flight_and_cuts_off_what_outlasts_it() {
    if is_missing() {
        return;
    }
    let server = start(|b: Builder| b.shutdown_grace(Duration::from_millis(1500)).topology(Topology::Single));
    let mut idle = server.connect();
    idle.write_all(get("/hello").as_bytes()).unwrap();
    response(&mut idle);
    let mut endless = server.connect();
    endless.write_all(get("/endless").as_bytes()).unwrap();
    endless.read_exact(&mut [0; 100]).unwrap();
    let mut slow = server.connect();
    slow.write_all(get("/slow").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let handle = server.handle.clone();
    handle.shutdown();
    assert_eq!(response(&mut slow).1, b"slow");
    assert_eq!(read_all(&mut idle), b"");
    drop((idle, slow));
    let summary = server.stop();
    assert_eq!((summary.connections, summary.cut), (3, 1), "the endless one is cut off");
    drop(endless);
}

#[test]
fn a_worker_is_replaced_and_nobody_is_refused() {
    if is_missing() {
        return;
    }
    let server = start(|b: Builder| b.topology(Topology::Workers).workers(2));
    for round in 0..10 {
        let mut stream = server.connect();
        server.handle.replace_worker(round % 2);
        stream.write_all(get("/hello").as_bytes()).unwrap();
        assert_eq!(response(&mut stream).1, b"hello", "round {round}");
    }
}

#[test]
fn a_thread_for_each_connection_is_refused_with_a_reason() {
    let error = Server::builder().http(local()).topology(Topology::Threads).service(|_| |_: Event<'_>| Ok(())).bind();
    assert!(error.unwrap_err().to_string().contains("std driver"));
}
