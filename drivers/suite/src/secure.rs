//! HTTP over TLS, with rustls's own client.

use crate::client::{Client, connect, get, post};
use crate::h2;
use crate::server::Layout;
use crate::service::pattern;
use crate::site::{Site, Stream};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};
use std::io::{Read, Write};
use std::sync::Arc;
use vestibule_driver::Driver;

pub fn requests_over_tls_and_sessions_that_are_resumed<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    for round in 0..3 {
        let mut client = site.http1();
        for _ in 0..20 {
            assert_eq!(client.get("/hello").text(), "hello");
        }
        let kind = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(client.stream.conn.handshake_kind(), Some(kind), "round {round}");
        let told = if round == 0 { "TLSv1.3 full" } else { "TLSv1.3 resumed" };
        assert_eq!(client.get("/tls").text(), told);
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        close(&mut client.stream);
    }
    let summary = site.server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (3, 63, 0));
}

/// Says close_notify and waits for the server's.
fn close(stream: &mut Stream) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap(); // fails without the server's close_notify
    assert_eq!(rest, b"");
}

/// The service asked to be asked, and chooses nothing: the port's own configuration serves.
pub fn without_a_choice_the_port_decides<D: Driver>(layout: Layout<D>) {
    let site = Site::with(true, layout).unwrap();
    assert_eq!(site.http1().get("/hello").text(), "hello");
}

pub fn two_megabytes_each_way_over_tls<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let mut client = site.http1();
    let body = pattern(100_000);
    for _ in 0..20 {
        assert!(client.ask(post("/echo", &body)).content == body);
    }
    assert!(client.get("/outlet/300000").content == pattern(300_000));
    assert!(client.get("/bytes/2000000").content == pattern(2_000_000));
}

/// RFC 7301: the server prefers HTTP/2, whatever the client's order; without ALPN it is HTTP/1.1.
pub fn alpn_chooses_the_version<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    for offer in [&[&b"http/1.1"[..], b"h2"][..], &[b"h2", b"http/1.1"], &[b"h2"]] {
        let mut client = h2::Client::new(site.offer(offer));
        let all: Vec<_> = (0..100).map(|n| client.request("GET", &format!("/{n}"))).collect();
        for (n, number) in all.into_iter().enumerate() {
            let answer = client.answer(number);
            assert_eq!((answer.status, answer.content), (200, format!("/{n}").into_bytes()));
        }
        let body = pattern(500_000);
        let echo = client.request("POST", "/echo");
        client.content(echo, &body, true);
        assert!(client.answer(echo).content == body);
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        client.rest();
    }
    for offer in [&[&b"http/1.1"[..]][..], &[]] {
        assert_eq!(Client::new(site.offer(offer)).get("/hello").text(), "hello");
    }
    assert!(site.offer(&[b"spdy/3"]).write_all(get("/hello").as_bytes()).is_err(), "no protocol in common");
    assert_eq!(site.server.wait_for_incidents(1).len(), 1);
}

/// RFC 5246, with what RFC 7627 and RFC 5077 add: the same service, in both versions of HTTP, and a session that is resumed.
pub fn tls_1_2_serves_both_versions_and_resumes<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let body = pattern(200_000);
    let config = Arc::new(site.old_client());
    for round in 0..3 {
        let mut client = Client::new(site.stream(config.clone()));
        let told = if round == 0 { "TLSv1.2 full" } else { "TLSv1.2 resumed" };
        assert_eq!(client.get("/tls").text(), told);
        assert!(client.ask(post("/echo", &body)).content == body);
        assert!(client.get("/bytes/300000").content == pattern(300_000));
        assert_eq!(client.stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        let kind = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(client.stream.conn.handshake_kind(), Some(kind), "round {round}");
        close(&mut client.stream);
    }
    let mut config = site.old_client();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let config = Arc::new(config);
    for round in 0..2 {
        let mut client = h2::Client::new(site.stream(config.clone()));
        let told: &[u8] = if round == 0 { b"TLSv1.2 full" } else { b"TLSv1.2 resumed" };
        assert_eq!(client.get("/tls").content, told);
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let all: Vec<_> = (0..50).map(|n| client.request("GET", &format!("/{n}"))).collect();
        let echo = client.request("POST", "/echo");
        client.content(echo, &body, true);
        for (n, number) in all.into_iter().enumerate() {
            assert_eq!(client.answer(number).content, format!("/{n}").into_bytes());
        }
        assert!(client.answer(echo).content == body);
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        client.rest();
    }
    let summary = site.server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (5, 9 + 104, 0));
}

/// A hello and a request, one byte a record of TCP at a time.
pub fn a_handshake_may_come_byte_by_byte<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    trickle(&site, site.client.clone());
}

/// In TLS 1.2 the client says more, and later: its key exchange and its Finished are a flight of their own.
pub fn a_handshake_of_tls_1_2_may_come_byte_by_byte<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let config = Arc::new(site.old_client());
    for resumed in [false, true] {
        let tls = trickle(&site, config.clone());
        let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        assert_eq!((tls.protocol_version(), tls.handshake_kind()), (Some(ProtocolVersion::TLSv1_2), Some(kind)));
    }
}

fn trickle(site: &Site, config: Arc<ClientConfig>) -> ClientConnection {
    let mut socket = connect(site.server.addrs[1]);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config, name).unwrap();
    tls.writer().write_all(get("/hello").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut out = Vec::new();
        tls.write_tls(&mut out).unwrap();
        for byte in out {
            socket.write_all(&[byte]).unwrap();
        }
        assert!(tls.read_tls(&mut socket).unwrap() > 0, "closed");
        let state = tls.process_new_packets().unwrap();
        let had = answer.len();
        answer.resize(had + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut answer[had..]).unwrap();
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    tls
}

/// TLS-10: one fatal alert, and not a byte of what was sent.
pub fn plain_http_on_the_tls_port_gets_an_alert<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let mut client = Client::new(connect(site.server.addrs[1]));
    client.send(get("/hello"));
    assert_eq!(client.rest(), [21, 3, 3, 0, 2, 2, 10]);
    assert_eq!(site.server.wait_for_incidents(1).len(), 1);
}

/// TLS-10, the other way round: one short 400.
pub fn a_client_hello_on_the_plain_port_gets_400<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(site.client.clone(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut client = site.server.client();
    client.send(hello);
    let answer = String::from_utf8(client.rest()).unwrap();
    assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

/// DRV-06: whoever leaves in the middle of a handshake leaves nothing behind.
pub fn half_a_handshake_is_no_burden<D: Driver>(layout: Layout<D>) {
    let site = Site::new(layout);
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(site.client.clone(), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    for cut in (0..hello.len()).step_by(23).chain([hello.len()]) {
        let mut client = Client::new(connect(site.server.addrs[1]));
        client.send(&hello[..cut]);
        match cut % 2 {
            0 => client.stream.shutdown(std::net::Shutdown::Write).unwrap(),
            _ => {
                crate::http1::reset(client.stream);
                continue;
            }
        }
        client.rest();
    }
    site.server.settle();
}
