//! Connections behind a proxy: its header in front of HTTP/1.1, HTTP/2 and TLS, in inboxes of every kind; and connections that are only
//! told that there are too many.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/site.rs"]
mod site;

use site::{Client, site_for};
use std::sync::Arc;
use vestibule::accept::proxy::Endpoints;
use vestibule::{Config, Connection, End, Event, Inbox, Instant, Limits, Outbox, OwnedSession, Pause, Rule};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";
const REQUEST: &[u8] = b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn plain() -> Config {
    Config::new(Limits::DEFAULT).with_proxy_header()
}

fn ends() -> Endpoints {
    Endpoints { source: "192.0.2.1:56324".parse().unwrap(), destination: "198.51.100.7:443".parse().unwrap() }
}

/// A server whose handler answers with the client's address, and writes down what it hears.
struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    heard: Vec<String>,
    pause: Pause,
}

impl Server {
    fn new(connection: Connection<Arc<Config>>) -> Server {
        let inbox = Inbox::new(vec![0; connection.config().least_inbox_bytes()]);
        let outbox = Outbox::new(vec![0; 16_384]);
        Server { connection, inbox, outbox, heard: Vec::new(), pause: Pause::Yield }
    }

    fn of(config: Config) -> Server {
        Server::new(Connection::new(Arc::new(config), Instant::ZERO))
    }

    fn busy(config: Config) -> Server {
        Server::new(Connection::new(Arc::new(config), Instant::ZERO).overloaded())
    }

    /// One turn; what it sent.
    fn turn(&mut self, now: Instant) -> Vec<u8> {
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).unwrap();
        while let Some(event) = turn.next() {
            handle(event, &mut self.heard);
        }
        self.pause = turn.finish();
        let sent = self.outbox.ready().to_vec();
        self.outbox.wrote(sent.len());
        sent
    }

    /// Takes bytes in pieces of this size; what it sent.
    fn take(&mut self, bytes: &[u8], piece: usize, now: Instant) -> Vec<u8> {
        let mut sent = Vec::new();
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() && self.pause != Pause::Closed {
                rest = &rest[self.inbox.fill(rest)..];
                sent.extend(self.turn(now));
            }
        }
        sent
    }
}

fn handle(event: Event<'_>, heard: &mut Vec<String>) {
    match event {
        Event::Proxied(header) => heard.push(match header.authority() {
            Some(name) => format!("proxied for {name}"),
            None => "proxied".into(),
        }),
        Event::Request(mut request) => {
            let source = request.source.map_or("nobody knows".into(), |ends| ends.source.to_string());
            heard.push(format!("request {}", request.head.path()));
            request.reply.text(200, &source).unwrap();
        }
        Event::Fault(violation) => heard.push(format!("fault {} at {}", violation.name(), violation.at)),
        Event::Aborted { .. } => heard.push("aborted".into()),
        _ => {}
    }
}

#[test]
fn the_client_is_known_to_every_request_however_the_bytes_are_cut() {
    let bytes = [LINE, REQUEST, REQUEST].concat();
    for piece in 1..bytes.len() + 1 {
        let mut server = Server::of(plain());
        let sent = server.take(&bytes, piece, Instant::ZERO);
        assert_eq!(server.heard, ["proxied", "request /who", "request /who"], "{piece} bytes at a time");
        assert_eq!(sent.windows(15).filter(|w| w == b"192.0.2.1:56324").count(), 2);
        assert_eq!(server.connection.source(), Some(ends()));
    }
}

#[test]
fn a_kernels_buffers_are_read_where_they_lie_and_what_is_cut_is_carried() {
    let bytes = [LINE, REQUEST].concat();
    for cut in 0..=bytes.len() {
        let mut connection = Connection::new(Arc::new(plain()), Instant::ZERO);
        let (mut own, mut outbox) = (Inbox::new(vec![0; 2_048]), Outbox::new(vec![0; 4_096]));
        let mut heard = Vec::new();
        for part in [&bytes[..cut], &bytes[cut..]] {
            let mut kernel = Inbox::filled(part.to_vec(), part.len());
            if !own.is_empty() {
                own.carry(&mut kernel, usize::MAX);
                assert!(kernel.is_empty());
                let mut turn = connection.turn(Instant::ZERO, &mut own, &mut outbox).unwrap();
                while let Some(event) = turn.next() {
                    handle(event, &mut heard);
                }
                assert_eq!(turn.finish(), Pause::Input { want: 1 });
            } else {
                let mut turn = connection.turn(Instant::ZERO, &mut kernel, &mut outbox).unwrap();
                while let Some(event) = turn.next() {
                    handle(event, &mut heard);
                }
                assert!(matches!(turn.finish(), Pause::Input { .. }));
                own.carry(&mut kernel, usize::MAX);
                assert!(kernel.is_empty());
            }
        }
        assert_eq!(heard, ["proxied", "request /who"], "cut behind byte {cut}");
        assert!(outbox.ready().ends_with(b"192.0.2.1:56324"));
    }
}

#[test]
fn the_header_stands_in_front_of_the_handshake_and_may_share_its_first_read() {
    let header =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc0\0\x02\x01\xc6\x33\x64\x07\xdc\x04\x01\xbb"[..], b"\x02\0\x03a.b"]
            .concat();
    for piece in [1, 7, 28, 35, 36, usize::MAX] {
        let (tls, trust) = site_for(&["http/1.1"]);
        let mut server = Server::of(plain().with_tls(tls));
        let mut client = Client::new(&trust);
        let mut flight = [header.clone(), client.wire()].concat();
        while client.is_handshaking() {
            let sent = server.take(&flight, piece, Instant::ZERO);
            client.hear(&sent);
            flight = client.wire();
            assert!(!flight.is_empty() || !sent.is_empty(), "they wait for each other");
        }
        let request = [flight, client.say(REQUEST, 16)].concat();
        let sent = server.take(&request, piece, Instant::ZERO);
        client.hear(&sent);
        assert_eq!(server.heard, ["proxied for a.b", "request /who"]);
        assert!(client.heard.ends_with(b"192.0.2.1:56324"));
    }
}

#[test]
fn http_2_follows_a_header_as_well() {
    // HEADERS of GET /who, all of it from the static table but authority and path.
    let block = b"\x82\x86\x44\x04/who\x41\x01a";
    let headers = [&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1], &block[..]].concat();
    for piece in [1, 40, usize::MAX] {
        let mut server = Server::of(plain());
        let sent = server.take(&[LINE, PREFACE, &headers].concat(), piece, Instant::ZERO);
        assert_eq!(server.heard, ["proxied", "request /who"]);
        assert!(sent.ends_with(b"192.0.2.1:56324"));
    }
}

#[test]
fn without_a_header_the_connection_is_closed_without_an_answer() {
    let (tls, trust) = site_for(&["http/1.1"]);
    let hello = Client::new(&trust).wire();
    for (config, bytes, expected) in [
        (plain(), REQUEST, "fault ProxySignature at 0"),
        (plain(), b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", "fault ProxyAddress at 6"),
        (plain().with_tls(tls.clone()), &hello, "fault ProxySignature at 0"),
        (plain().with_tls(tls), REQUEST, "fault ProxySignature at 0"),
    ] {
        for piece in [1, usize::MAX] {
            let mut server = Server::of(config.clone());
            assert_eq!(server.take(bytes, piece, Instant::ZERO), b"");
            assert_eq!((server.heard.as_slice(), server.pause), (&[expected.to_string()][..], Pause::Closed));
            assert_eq!((server.connection.end(), server.connection.deadline()), (Some(End::Ours), None));
        }
    }
}

#[test]
fn where_nobody_is_asked_for_a_header_it_is_a_bad_request() {
    let signature = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for bytes in [LINE, signature] {
        let mut server = Server::of(Config::new(Limits::DEFAULT));
        let sent = server.take(bytes, usize::MAX, Instant::ZERO);
        assert!(sent.starts_with(b"HTTP/1.1 400 ") || sent.starts_with(b"HTTP/1.1 505 "), "{}", sent.escape_ascii());
        assert_eq!((server.heard.len(), server.connection.source()), (1, None));
    }
}

#[test]
fn the_header_is_due_with_the_first_head_whose_clock_it_does_not_stop() {
    let mut silent = Server::of(plain());
    silent.turn(at(0));
    assert_eq!(silent.connection.deadline().map(|d| d.at), Some(at(10_000)));
    silent.turn(at(10_000));
    assert_eq!((silent.heard.len(), silent.pause, silent.connection.end()), (0, Pause::Closed, Some(End::Idle)));

    let mut slow = Server::of(plain());
    slow.take(&LINE[..20], 1, at(9_999));
    assert_eq!(slow.turn(at(10_000)), b"");
    assert_eq!((slow.heard.as_slice(), slow.pause), (&["fault ProxyTimeout at 20".to_string()][..], Pause::Closed));

    let mut later = Server::of(plain());
    later.take(LINE, 1, at(9_000));
    assert_eq!(later.connection.deadline().map(|d| d.at), Some(at(10_000)), "since accept, not since the header");
    later.take(b"GET", 3, at(9_999));
    assert!(later.turn(at(10_000)).starts_with(b"HTTP/1.1 408 "));

    let (tls, _) = site_for(&["http/1.1"]);
    let mut handshake = Server::of(plain().with_tls(tls));
    handshake.take(LINE, 1, at(9_000));
    handshake.turn(at(10_000));
    assert_eq!(handshake.heard.last().unwrap(), "fault HandshakeTimeout at 0");
}

#[test]
fn an_end_inside_a_header_is_a_fault_and_one_in_front_of_it_is_none() {
    for (n, expected) in [(0, None), (1, Some("fault ProxyTruncated at 1")), (44, Some("fault ProxyTruncated at 44"))] {
        let mut server = Server::of(plain());
        server.take(&LINE[..n], 1, Instant::ZERO);
        server.inbox.end();
        assert_eq!(server.turn(Instant::ZERO), b"");
        assert_eq!((server.heard.first().map(String::as_str), server.pause), (expected, Pause::Closed));
    }
    let mut drained = Server::of(plain());
    drained.connection.drain();
    drained.turn(Instant::ZERO);
    assert_eq!((drained.pause, drained.connection.end()), (Pause::Closed, Some(End::Ours)));
}

#[test]
fn whoever_reads_the_header_itself_says_what_was_in_it() {
    let connection = Connection::new(Arc::new(plain()), Instant::ZERO).with_source(Some(ends()));
    let mut server = Server::new(connection);
    assert!(server.take(REQUEST, 1, Instant::ZERO).ends_with(b"192.0.2.1:56324"));
    assert_eq!(server.heard, ["request /who"]);

    // TLS ended elsewhere, and the header stood in front of it.
    let session = OwnedSession::new("TLSv1.3", "TLS13_AES_128_GCM_SHA256");
    let connection = Connection::protected(Arc::new(plain()), Instant::ZERO, session);
    let mut server = Server::new(connection);
    server.take(REQUEST, 1, Instant::ZERO);
    assert_eq!((server.heard.as_slice(), server.connection.source()), (&["request /who".to_string()][..], None));
}

// ---- too many connections (DRV-02) ----

#[test]
fn an_overloaded_server_answers_the_first_request_and_no_handler_hears_of_it() {
    let bytes = [REQUEST, REQUEST].concat();
    for piece in 1..bytes.len() + 1 {
        let mut server = Server::busy(Config::new(Limits::DEFAULT));
        let sent = server.take(&bytes, piece, Instant::ZERO);
        assert_eq!(
            String::from_utf8(sent).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(server.heard, ["fault Overloaded at 0"]);
        server.inbox.end();
        server.turn(Instant::ZERO);
        assert_eq!((server.pause, server.connection.stats().requests), (Pause::Closed, 0));
    }
}

#[test]
fn an_overloaded_server_tells_http_2_to_calm_down() {
    for piece in [1, usize::MAX] {
        let mut server = Server::busy(Config::new(Limits::DEFAULT));
        let sent = server.take(PREFACE, piece, Instant::ZERO);
        let sentence = b"the server has too many connections";
        let goaway =
            [&[0, 0, 8 + sentence.len() as u8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11][..], sentence].concat();
        assert!(sent.ends_with(&goaway), "{}", sent.escape_ascii());
        assert_eq!(server.heard, ["fault Overloaded at 0"]);
    }
}

#[test]
fn an_overloaded_server_shakes_hands_behind_a_proxy_before_it_says_so() {
    let (tls, trust) = site_for(&["http/1.1"]);
    let mut server = Server::busy(plain().with_tls(tls));
    let mut client = Client::new(&trust);
    let mut flight = [LINE.to_vec(), client.wire()].concat();
    while client.is_handshaking() {
        // Slower than it will have time for its request.
        client.hear(&server.take(&flight, usize::MAX, at(9_000)));
        flight = client.wire();
    }
    let tickets = server.take(&flight, usize::MAX, at(9_500));
    client.hear(&tickets);
    assert_eq!(server.connection.deadline().map(|d| d.at), Some(at(10_500)), "overload_ms behind the handshake");
    let sent = server.take(&client.say(REQUEST, 100), usize::MAX, at(10_000));
    client.hear(&sent);
    assert!(client.heard.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(server.heard, ["proxied", "fault Overloaded at 0"]);
}

#[test]
fn an_overloaded_server_does_not_wait_long() {
    let mut silent = Server::busy(Config::new(Limits::DEFAULT));
    silent.turn(at(999));
    assert_eq!(silent.connection.deadline().map(|d| d.at), Some(at(1_000)));
    assert_eq!(silent.turn(at(1_000)), b"");
    assert_eq!((silent.heard.len(), silent.connection.end()), (0, Some(End::Idle)));

    let mut slow = Server::busy(Config::new(Limits::DEFAULT));
    slow.take(b"GET /", 5, at(999));
    assert!(slow.turn(at(1_000)).starts_with(b"HTTP/1.1 503 "));
    assert_eq!(slow.heard, ["fault Overloaded at 5"]);
}

#[test]
fn a_bad_request_is_told_what_is_bad_even_then() {
    let mut server = Server::busy(Config::new(Limits::DEFAULT));
    assert!(server.take(b"GET / HTTP/9.9\r\n", 100, at(0)).starts_with(b"HTTP/1.1 505 "));
    assert_ne!(server.heard, [format!("fault {:?} at 0", Rule::Overloaded)]);
}
