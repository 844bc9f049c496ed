//! Whole connections over TLS: rustls's own client on one end of a pipe in memory, the road on the other.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/site.rs"]
mod site;
#[path = "tls_road/sites.rs"]
mod sites;

use site::site_for as site;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use vestibule::decrypt::TlsConfig;
use vestibule::rehearsal::Handler;
use vestibule::{Config, Connection, End, Event, Inbox, Instant, Limits, Outbox, Pause, Rule, Wait, Why};

/// The road and its caller.
struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    handler: Handler,
    events: Vec<String>,
    now: Instant,
    pause: Pause,
    fallback: Option<TlsConfig>,
    /// Every ClientHello.
    refuses: bool,
    /// The certificates of those who asked.
    users: Vec<Option<Vec<u8>>>,
}

impl Server {
    fn new(tls: TlsConfig) -> Server {
        let config = Arc::new(Config::new(Limits::DEFAULT).with_tls(tls));
        Server::over(Connection::new(config, Instant::ZERO))
    }

    fn over(connection: Connection<Arc<Config>>) -> Server {
        Server {
            inbox: Inbox::new(vec![0; connection.config().inbox_bytes()]),
            outbox: Outbox::new(vec![0; 32_768]),
            connection,
            handler: Handler::default(),
            events: vec![],
            now: Instant::ZERO,
            pause: Pause::Yield,
            fallback: None,
            refuses: false,
            users: vec![],
        }
    }

    /// Takes bytes, `cut` at a time; gives back what is to be sent.
    fn feed(&mut self, bytes: &[u8], cut: usize) -> Vec<u8> {
        let mut sent = self.run();
        for piece in bytes.chunks(cut.max(1)) {
            assert_eq!(self.inbox.fill(piece), piece.len(), "the inbox has room: {:?}", self.pause);
            sent.extend(self.run());
        }
        sent
    }

    fn run(&mut self) -> Vec<u8> {
        let mut sent = vec![];
        loop {
            let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).unwrap();
            while let Some(event) = turn.next() {
                self.events.push(match &event {
                    Event::Request(r) => {
                        let tls = r.tls.expect("a protected request");
                        self.users.push(tls.identity.map(|identity| identity.end_entity().to_vec()));
                        let alpn = String::from_utf8_lossy(tls.alpn.unwrap_or(b"-")).into_owned();
                        let resumed = if tls.resumed { " resumed" } else { "" };
                        format!(
                            "{} {} {} {alpn} {}{resumed}",
                            r.head.method,
                            r.head.target,
                            tls.version,
                            tls.sni.unwrap_or("-")
                        )
                    }
                    Event::Body(b) => format!("body{}", if b.last { " last" } else { "" }),
                    Event::Hello(h) => format!("hello {} {}", h.sni.unwrap_or("-"), h.alpn().count()),
                    Event::Aborted { why, .. } => format!("aborted {}", why.map_or("", |v| v.name())),
                    Event::Fault(v) => format!("fault {}", v.name()),
                    other => format!("{other:?}"),
                });
                match event {
                    Event::Hello(hello) if self.refuses => hello.refuse(),
                    event => _ = self.handler.on(event),
                }
            }
            self.pause = turn.finish();
            if self.pause == Pause::Caller(Wait::Config)
                && let Some(tls) = self.fallback.take()
            {
                let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).unwrap();
                turn.choose(tls);
                self.pause = turn.finish();
            }
            let n = self.outbox.ready().len();
            sent.extend_from_slice(self.outbox.ready());
            self.outbox.wrote(n);
            if self.pause != Pause::Yield && (n == 0 || self.pause == Pause::Closed) {
                return sent;
            }
        }
    }

    fn last(&self) -> &str {
        self.events.last().map_or("", |e| e)
    }
}

fn connect(client: &Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// What the client has to send.
fn flight(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = vec![];
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives the client bytes; what it reads of the application's.
fn take(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = vec![];
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        let mut part = [0; 4096];
        while let Ok(n @ 1..) = client.reader().read(&mut part) {
            plain.extend_from_slice(&part[..n]);
        }
    }
    plain
}

/// Pumps until neither side has anything to say.
fn converse(client: &mut ClientConnection, server: &mut Server, cut: usize) -> Vec<u8> {
    let mut plain = vec![];
    loop {
        let out = flight(client);
        let back = server.feed(&out, cut);
        plain.extend(take(client, &back));
        if out.is_empty() && back.is_empty() {
            return plain;
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn post(target: &str, body: &[u8], fields: &str) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_gzip_json_post_leaves_decoded_however_the_bytes_are_cut() {
    let (tls, client) = site(&["http/1.1"]);
    let json = br#"{"name":"vestibule","stages":[1,2,3,4,5,6]}"#;
    for cut in [1, 2, 5, 64, 333, usize::MAX] {
        let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
        client.writer().write_all(&post("/whole/1000", &gzip(json), "content-encoding: gzip\r\n")).unwrap();
        let answer = converse(&mut client, &mut server, cut);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(json), "cut {cut}: {text}");
        let resumed = if cut == 1 { "" } else { " resumed" };
        assert_eq!(server.events, [&format!("POST /whole/1000 TLSv1.3 http/1.1 localhost{resumed}")[..], "body last"]);
        client.send_close_notify();
        converse(&mut client, &mut server, cut);
        server.inbox.end();
        server.run();
        assert_eq!((server.pause, server.connection.end()), (Pause::Closed, Some(End::Clean)));
    }
}

#[test]
fn bodies_are_opened_in_place_and_lent_as_they_lie() {
    let (tls, client) = site(&[]);
    let (mut client, mut server) = (connect(&client), Server::new(tls));
    converse(&mut client, &mut server, 20_000);
    for part in post("/x", &vec![b'x'; 200_000], "").chunks(30_000) {
        client.writer().write_all(part).unwrap();
        converse(&mut client, &mut server, 20_000);
    }
    let stats = server.connection.stats();
    assert!(stats.opened_records >= 200_000 / 16_384, "{stats:?}");
    // Only a record cut by the end of a read is moved, to the front of the inbox: never a byte twice.
    assert!(stats.moved_bytes <= 200_000, "{stats:?}");
    assert_eq!(server.last(), "body last");
}

#[test]
fn many_writes_of_a_turn_are_one_record() {
    let (tls, client) = site(&[]);
    let (mut client, mut server) = (connect(&client), Server::new(tls));
    converse(&mut client, &mut server, 1000);
    client.writer().write_all(&b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10)).unwrap();
    let out = flight(&mut client);
    let back = server.feed(&out, usize::MAX);
    let length = usize::from(u16::from_be_bytes([back[3], back[4]]));
    assert_eq!(back.len(), 5 + length, "ten responses, one record");
    assert_eq!(take(&mut client, &back).windows(15).filter(|w| w == b"HTTP/1.1 200 OK").count(), 10);
}

#[test]
fn truncation_is_no_end() {
    let (tls, client) = site(&[]);
    // Between messages: told apart, nobody is hurt.
    let (mut one, mut server) = (connect(&client), Server::new(tls.clone()));
    one.writer().write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    converse(&mut one, &mut server, 1000);
    server.inbox.end();
    server.run();
    assert_eq!((server.pause, server.connection.end()), (Pause::Closed, Some(End::Truncated)));
    // Inside a body, at every offset: aborted, never complete; with close_notify as well.
    for (sent, notified) in (0..5).flat_map(|n| [(n, false), (n, true)]) {
        let (mut two, mut server) = (connect(&client), Server::new(tls.clone()));
        let request = post("/whole/9", b"12345", "");
        two.writer().write_all(&request[..request.len() - 5 + sent]).unwrap();
        converse(&mut two, &mut server, 1000);
        if notified {
            two.send_close_notify();
            converse(&mut two, &mut server, 1000);
        }
        server.inbox.end();
        server.run();
        let rule = if notified { "MessageIncomplete" } else { "TlsTruncated" };
        assert_eq!(server.events[1..], [format!("aborted {rule}"), format!("fault {rule}")], "{sent} {notified}");
        assert_eq!(server.pause, Pause::Closed);
    }
}

#[test]
fn after_alpn_nothing_is_sniffed() {
    let (tls, client) = site(&["http/1.1"]);
    let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
    client.writer().write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let answer = converse(&mut client, &mut server, 1000);
    assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    assert_eq!(server.last(), "fault Http2Preface");
    // No protocol in common: an alert, no answer.
    let (_, other) = site(&["h2"]);
    let (mut client, mut server) = (connect(&other), Server::new(tls));
    let out = flight(&mut client);
    let back = server.feed(&out, usize::MAX);
    client.read_tls(&mut &back[..]).unwrap();
    let told = client.process_new_packets().unwrap_err();
    assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    assert_eq!(server.last(), "fault TlsNoApplicationProtocol");
}

#[test]
fn plain_http_on_the_tls_port_gets_an_alert_and_no_echo() {
    let (tls, _) = site(&[]);
    let mut server = Server::new(tls);
    let back = server.feed(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    assert_eq!(back, [21, 3, 3, 0, 2, 2, 10], "unexpected_message");
    assert_eq!(server.events, ["fault TlsPlainHttp"]);
    server.now = Instant::from_millis(3000);
    assert!(server.run().is_empty());
    assert_eq!(server.pause, Pause::Closed);
}

#[test]
fn the_configuration_may_be_chosen_after_the_client_hello() {
    let (tls, client) = site(&["http/1.1"]);
    let (mut client, mut server) = (connect(&client), Server::new(tls.clone().ask()));
    server.fallback = Some(tls);
    client.writer().write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let answer = converse(&mut client, &mut server, 7);
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.events, ["hello localhost 1", "GET /x TLSv1.3 http/1.1 localhost"]);
}

#[test]
fn a_handshake_has_its_time_and_a_head_has_its_own() {
    let (tls, client) = site(&[]);
    let mut server = Server::new(tls.clone());
    let hello = flight(&mut connect(&client));
    server.feed(&hello[..50], 1);
    assert_eq!(
        server.connection.deadline().map(|d| (d.at, d.why)),
        Some((Instant::from_millis(10_000), Why::Handshake))
    );
    server.now = Instant::from_millis(9_999);
    server.run();
    assert!(server.events.is_empty());
    server.now = Instant::from_millis(10_000);
    server.run();
    assert_eq!(server.events, ["fault HandshakeTimeout"]);

    let (mut client, mut server) = (connect(&client), Server::new(tls));
    server.now = Instant::from_millis(4_000);
    converse(&mut client, &mut server, 1000);
    assert_eq!(server.connection.deadline().map(|d| (d.at, d.why)), Some((Instant::from_millis(14_000), Why::Head)));
}

#[test]
fn keys_are_updated_under_way() {
    let (tls, client) = site(&[]);
    let (mut client, mut server) = (connect(&client), Server::new(tls));
    for round in 0..5 {
        client.writer().write_all(&post("/whole/9", b"12345", "")).unwrap();
        let answer = converse(&mut client, &mut server, 11);
        assert!(answer.ends_with(b"12345"), "round {round}");
        client.refresh_traffic_keys().unwrap();
    }
}

#[test]
fn a_bad_record_is_an_alert_once_and_then_silence() {
    let (tls, client) = site(&[]);
    let (mut client, mut server) = (connect(&client), Server::new(tls));
    converse(&mut client, &mut server, 1000);
    client.writer().write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut out = flight(&mut client);
    *out.last_mut().unwrap() ^= 1;
    let back = server.feed(&out, usize::MAX);
    assert!(!back.is_empty(), "an alert, sealed");
    assert_eq!(server.events, [format!("fault {:?}", Rule::TlsBadRecord)]);
    assert!(server.feed(&out, usize::MAX).is_empty());
    assert_eq!(server.events.len(), 1);
}

#[test]
fn coded_responses_pass_sealed_however_small_the_outbox_is() {
    use vestibule::decode::coding::Coding;
    use vestibule::{Content, Reply};
    let plain: Vec<u8> =
        (0..40_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) % 100_000).to_string().into_bytes()).collect();
    for (least, cut) in [(true, 1), (true, 5_000), (false, 5_000)] {
        let (tls, client) = site(&["http/1.1"]);
        let config = Arc::new(Config::new(Limits::DEFAULT).with_tls(tls).with_response_codings(&[Coding::Gzip]));
        let mut connection = Connection::new(config.clone(), Instant::ZERO);
        let room = if least { config.least_outbox_bytes() } else { 40_000 };
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; config.inbox_bytes()]), Outbox::new(vec![0; room]));
        let mut client = connect(&client);
        let get = b"GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n";
        client.writer().write_all(get).unwrap();
        let (mut heard, mut at, mut idle) = (vec![], 0, 0);
        let mut give = |mut reply: Reply<'_>| {
            while at < plain.len() {
                match reply.write(&plain[at..plain.len().min(at + 3_000)]).unwrap() {
                    0 => return,
                    n => at += n,
                }
            }
            reply.trailers(&[("x-sum", "1")]).unwrap();
        };
        while idle < 4 {
            let bytes = flight(&mut client);
            let mut pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            pieces.push(b"");
            let mut said = !bytes.is_empty();
            for piece in pieces {
                assert_eq!(inbox.fill(piece), piece.len());
                let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
                while let Some(event) = turn.next() {
                    match event {
                        Event::Request(mut request) => {
                            request.reply.respond(200, &[("content-type", "text/plain")], Content::Streamed).unwrap();
                            give(request.reply);
                        }
                        Event::Writable(reply) => give(reply),
                        _ => {}
                    }
                }
                let _ = turn.finish();
                heard.extend(take(&mut client, outbox.ready()));
                said |= !outbox.ready().is_empty();
                outbox.wrote(outbox.ready().len());
            }
            idle = if said { 0 } else { idle + 1 };
        }
        let end = heard.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        assert!(heard[..end].windows(22).any(|w| w == b"content-encoding: gzip"));
        assert!(heard.ends_with(b"0\r\nx-sum: 1\r\n\r\n"));
        let (mut coded, mut rest) = (vec![], &heard[end..]);
        while let Some(line) = rest.windows(2).position(|w| w == b"\r\n").filter(|_| !rest.starts_with(b"0\r")) {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            coded.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 4 + size..];
        }
        let mut decoded = vec![];
        flate2::read::GzDecoder::new(&coded[..]).read_to_end(&mut decoded).unwrap();
        assert!(decoded == plain && coded.len() < plain.len());
    }
}
