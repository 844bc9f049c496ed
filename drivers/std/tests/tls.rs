//! The TLS port, with rustls's own client over real sockets.

#![cfg(feature = "aws-lc-rs")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use support::{Running, connect, get, read_all, response, start};
use vestibule::{Limit, Limits};
use vestibule_std::tls::{TlsConfig, provider, server_config};

struct Site {
    server: Running,
    client: Arc<ClientConfig>,
}

impl Site {
    fn new(ask: bool) -> Site {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let cert: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut tls = TlsConfig::new(server_config(vec![cert.clone()], key).unwrap());
        if ask {
            tls = tls.ask();
        }
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let limits = Limits::DEFAULT.with(Limit::BodyBytes, 1 << 24).unwrap();
        let server = start(|b| b.limits(limits).https("127.0.0.1:0".parse().unwrap(), tls));
        Site { server, client: Arc::new(client) }
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.client.clone(), name).unwrap(), connect(self.server.addrs[1]))
    }

    /// The same, offering these protocols.
    fn offer(&self, protocols: &[&[u8]]) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        StreamOwned::new(ClientConnection::new(Arc::new(client), name).unwrap(), connect(self.server.addrs[1]))
    }
}

#[test]
fn requests_over_tls_and_sessions_that_are_resumed() {
    let site = Site::new(false);
    for round in 0..3 {
        let mut stream = site.connect();
        for _ in 0..20 {
            stream.write_all(get("/hello").as_bytes()).unwrap();
            assert_eq!(response(&mut stream).1, b"hello");
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let kind = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
        assert_eq!(stream.conn.handshake_kind(), Some(kind), "round {round}");
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap(); // fails without the server's close_notify
        assert_eq!(rest, b"");
    }
    let Site { server, .. } = site;
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (3, 60, 0));
}

/// The service asked to be asked, and chooses nothing: the port's own configuration serves.
#[test]
fn without_a_choice_the_port_decides() {
    let site = Site::new(true);
    let mut stream = site.connect();
    stream.write_all(get("/hello").as_bytes()).unwrap();
    assert_eq!(response(&mut stream).1, b"hello");
}

#[test]
fn two_megabytes_each_way_over_tls() {
    let site = Site::new(false);
    let mut stream = site.connect();
    let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    for _ in 0..20 {
        stream
            .write_all(format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes())
            .unwrap();
        stream.write_all(&body).unwrap();
        assert!(response(&mut stream).1 == body);
    }
}

/// RFC 7301: the server prefers HTTP/2, whatever the client's order; without ALPN it is HTTP/1.1.
#[test]
fn alpn_chooses_the_version() {
    let site = Site::new(false);
    for offer in [&[&b"http/1.1"[..], b"h2"][..], &[b"h2", b"http/1.1"], &[b"h2"]] {
        let mut client = support::h2::Client::new(site.offer(offer));
        let all: Vec<_> = (0..100).map(|n| client.request("GET", &format!("/{n}"))).collect();
        for (n, number) in all.into_iter().enumerate() {
            let answer = client.answer(number);
            assert_eq!((answer.status, answer.content), (200, format!("/{n}").into_bytes()));
        }
        let body: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
        let echo = client.request("POST", "/echo");
        client.content(echo, &body, true);
        assert!(client.answer(echo).content == body);
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        client.rest();
    }
    for offer in [&[&b"http/1.1"[..]][..], &[]] {
        let mut stream = site.offer(offer);
        stream.write_all(get("/hello").as_bytes()).unwrap();
        assert_eq!(response(&mut stream).1, b"hello");
    }
    assert!(site.offer(&[b"spdy/3"]).write_all(get("/hello").as_bytes()).is_err(), "no protocol in common");
    assert_eq!(site.server.incidents().len(), 1, "{:?}", site.server.incidents());
}

/// TLS-10: one fatal alert, and not a byte of what was sent.
#[test]
fn plain_http_on_the_tls_port_gets_an_alert() {
    let site = Site::new(false);
    let mut stream = connect(site.server.addrs[1]);
    stream.write_all(get("/hello").as_bytes()).unwrap();
    assert_eq!(read_all(&mut stream), [21, 3, 3, 0, 2, 2, 10]);
    assert_eq!(site.server.incidents().len(), 1);
}

/// TLS-10, the other way round: one short 400.
#[test]
fn a_client_hello_on_the_plain_port_gets_400() {
    let site = Site::new(false);
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(site.client.clone(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = connect(site.server.http);
    stream.write_all(&hello).unwrap();
    let answer = String::from_utf8(read_all(&mut stream)).unwrap();
    assert_eq!(answer, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}
