//! TLS 1.3 in memory: what a rustls client has sealed before the clock runs, opened by a server; and short answers sealed.
//!
//! The long bodies are opened where the client's bytes lie, as in a buffer that the kernel filled; who must copy first pays
//! for it. Requests of 100 bytes are copied into the receive buffer by everybody.

use crate::measure::{Case, Group, Work};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};
use vestibule::decrypt::{Opened, Tls, TlsConfig};
use vestibule::{Config, Connection, Event, Inbox, Instant, Limit, Limits, Outbox};

/// The record of a request of 100 bytes: header, type and tag around it.
const HUNDRED: usize = 100;
/// What TLS 1.3 puts before and behind the content of a record.
const HEADER: usize = 5;
const AROUND: usize = HEADER + 17;
const BUFFER: usize = 65_536;

pub(crate) fn groups() -> Vec<Group> {
    let mut groups = vec![Group {
        name: "TLS, 100 bytes in and 100 bytes out",
        count: 4_096,
        batch: 1,
        bytes: None,
        cases: vec![
            Case::new("vestibule, records", seam_small).without_allocations(),
            Case::new("vestibule, the road: HTTP/1.1 too", road_small).without_allocations(),
            Case::new("rustls unbuffered", unbuffered_small),
            Case::new("rustls buffered", buffered_small),
            Case::new("AES-128-GCM alone", aead_small),
        ],
    }];
    for (name, size, count) in
        [("TLS, records of 16 KiB, received", 16_384, 128), ("TLS, records of 1 KiB, received", 1_024, 2_048)]
    {
        groups.push(Group {
            name,
            count,
            batch: 1,
            bytes: Some(size),
            cases: vec![
                Case::new("vestibule, the road: a body", move |n| road_body(n, size)).without_allocations(),
                Case::new("vestibule, records", move |n| seam_body(n, size)).without_allocations(),
                Case::new("rustls unbuffered", move |n| unbuffered_body(n, size)),
                Case::new("rustls buffered", move |n| buffered_body(n, size)),
                Case::new("AES-128-GCM alone", move |n| aead_body(n, size)),
            ],
        });
    }
    groups
}

/// Both sides' configuration: one suite, no tickets.
struct Sides {
    server: ServerConfig,
    client: Arc<ClientConfig>,
}

fn sides() -> &'static Sides {
    static SIDES: OnceLock<Sides> = OnceLock::new();
    SIDES.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut provider = provider::default_provider();
        provider.cipher_suites = vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256];
        let provider = Arc::new(provider);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.send_tls13_tickets = 0;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Sides { server, client: Arc::new(client) }
    })
}

/// The client, before its hello.
fn client() -> ClientConnection {
    ClientConnection::new(sides().client.clone(), ServerName::try_from("localhost").unwrap()).unwrap()
}

/// What the client wants to send.
fn drain(client: &mut ClientConnection, into: &mut Vec<u8>) {
    while client.wants_write() {
        client.write_tls(into).unwrap();
    }
}

/// Gives the client what the server said.
fn give(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// The handshake: `serve` takes what the client said and says what the server answers, until it has nothing to say.
fn shake(mut serve: impl FnMut(&mut Vec<u8>) -> Vec<u8>) -> ClientConnection {
    let mut client = client();
    loop {
        let mut said = Vec::new();
        drain(&mut client, &mut said);
        if said.is_empty() && !client.is_handshaking() {
            return client;
        }
        let answer = serve(&mut said);
        give(&mut client, &answer);
    }
}

/// `n` records of the client, each with these bytes.
fn sealed(client: &mut ClientConnection, n: usize, bytes: &[u8]) -> Vec<u8> {
    let mut records = Vec::with_capacity(n * (bytes.len() + AROUND));
    for _ in 0..n {
        client.writer().write_all(bytes).unwrap();
        drain(client, &mut records);
    }
    assert_eq!(records.len(), n * (bytes.len() + AROUND));
    records
}

/// A request of 100 bytes.
fn request() -> Vec<u8> {
    let mut head = b"GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\nAccept: ".to_vec();
    head.resize(HUNDRED - 4, b'x');
    head.extend_from_slice(b"\r\n\r\n");
    head
}

// ---- vestibule

fn seam() -> (Tls, ClientConnection) {
    let config = TlsConfig::new(sides().server.clone());
    let mut tls = Tls::new(&config);
    let client = shake(|said| {
        let mut at = 0;
        while let Opened::Consumed { total } = tls.open(&Limits::DEFAULT, Instant::ZERO, &mut said[at..]).unwrap() {
            at += total;
        }
        let mut out = vec![0; BUFFER];
        let n = tls.flush(&mut out);
        out.truncate(n);
        out
    });
    (tls, client)
}

fn seam_small(n: usize) -> Work {
    let (mut tls, mut client) = seam();
    let records = sealed(&mut client, n, &request());
    let (mut raw, mut out) = (vec![0; BUFFER], vec![0; BUFFER]);
    Box::new(move || {
        for record in records.chunks(HUNDRED + AROUND) {
            raw[..record.len()].copy_from_slice(record);
            let opened = tls.open(&Limits::DEFAULT, Instant::ZERO, &mut raw[..record.len()]).unwrap();
            let Opened::Plain { skip, len, .. } = opened else { panic!("a record of data") };
            let (from, to) = (&raw[skip..skip + len], HEADER..HEADER + len);
            out[to].copy_from_slice(from);
            let sealed = tls.seal(&mut out, len).unwrap();
            black_box(&out[..sealed]);
        }
    })
}

fn seam_body(n: usize, size: usize) -> Work {
    let (mut tls, mut client) = seam();
    let mut records = sealed(&mut client, n, &vec![b'x'; size]);
    Box::new(move || {
        let (mut at, mut received) = (0, 0);
        while at < records.len() {
            let opened = tls.open(&Limits::DEFAULT, Instant::ZERO, &mut records[at..]).unwrap();
            let Opened::Plain { total, skip, len } = opened else { panic!("a record of data") };
            black_box(&records[at + skip..at + skip + len]);
            (at, received) = (at + total, received + len);
        }
        assert_eq!(received, n * size);
    })
}

struct Road {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
}

impl Road {
    fn open() -> (Road, ClientConnection) {
        let limits = Limits::DEFAULT.with(Limit::BodyBytes, 1 << 40).unwrap();
        let config = Config::new(limits).with_tls(TlsConfig::new(sides().server.clone()));
        let mut road = Road {
            connection: Connection::new(Arc::new(config), Instant::ZERO),
            inbox: Inbox::new(vec![0; BUFFER]),
            outbox: Outbox::new(vec![0; BUFFER]),
        };
        let client = shake(|said| {
            assert_eq!(road.inbox.fill(said), said.len());
            let _ = road.turn(0).finish();
            let out = road.outbox.ready().to_vec();
            road.outbox.wrote(out.len());
            out
        });
        (road, client)
    }

    fn turn(&mut self, micros: u64) -> vestibule::Turn<'_> {
        let now = Instant::from_nanos(micros * 1_000);
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).unwrap();
        assert!(turn.next().is_none());
        turn
    }
}

fn road_small(n: usize) -> Work {
    let (mut road, mut client) = Road::open();
    let records = sealed(&mut client, n, &request());
    // A head of 80 bytes, and 20 more.
    let text = "x".repeat(HUNDRED - 80);
    Box::new(move || {
        let mut sent = 0;
        for (i, record) in records.chunks(HUNDRED + AROUND).enumerate() {
            road.inbox.fill(record);
            let now = Instant::from_nanos(i as u64 * 1_000);
            let mut turn = road.connection.turn(now, &mut road.inbox, &mut road.outbox).unwrap();
            while let Some(event) = turn.next() {
                if let Event::Request(mut request) = event {
                    request.reply.text(200, &text).unwrap();
                }
            }
            let _ = turn.finish();
            let ready = black_box(road.outbox.ready()).len();
            road.outbox.wrote(ready);
            sent += ready;
        }
        assert_eq!(sent, n * (HUNDRED + AROUND));
    })
}

fn road_body(n: usize, size: usize) -> Work {
    let (mut road, mut client) = Road::open();
    // One byte more than will come: the request never ends.
    let head = format!("POST /sink HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", n * size + 1);
    let head = sealed(&mut client, 1, head.as_bytes());
    road.inbox.fill(&head);
    let mut turn = road.connection.turn(Instant::ZERO, &mut road.inbox, &mut road.outbox).unwrap();
    assert!(matches!(turn.next(), Some(Event::Request(_))));
    let _ = turn.finish();
    let mut records = sealed(&mut client, n, &vec![b'x'; size]);
    Box::new(move || {
        let before = road.connection.stats();
        let mut received = 0;
        let read = 49_152 / size * (size + AROUND);
        for (i, part) in records.chunks_mut(read).enumerate() {
            let len = part.len();
            let mut inbox = Inbox::filled(part, len);
            let now = Instant::from_nanos(i as u64 * 1_000);
            let mut turn = road.connection.turn(now, &mut inbox, &mut road.outbox).unwrap();
            while let Some(event) = turn.next() {
                let Event::Body(body) = event else { panic!("a body") };
                received += black_box(body.bytes).len();
            }
            let _ = turn.finish();
            assert!(inbox.is_empty());
        }
        let stats = road.connection.stats();
        assert_eq!(received, n * size);
        // Opened where it lay, and lent from there.
        assert_eq!(stats.moved_bytes, 0);
        assert_eq!(stats.opened_records - before.opened_records, n as u64);
    })
}

// ---- rustls, unbuffered

struct Unbuffered {
    connection: UnbufferedServerConnection,
    out: Vec<u8>,
    used: usize,
}

impl Unbuffered {
    fn open() -> (Unbuffered, ClientConnection) {
        let connection = UnbufferedServerConnection::new(Arc::new(sides().server.clone())).unwrap();
        let mut server = Unbuffered { connection, out: vec![0; BUFFER], used: 0 };
        let mut waiting = Vec::new();
        let client = shake(|said| {
            waiting.append(said);
            let taken = server.process(&mut waiting, |_| panic!("no data yet"));
            waiting.drain(..taken);
            let out = server.out[..server.used].to_vec();
            server.used = 0;
            out
        });
        (server, client)
    }

    /// Goes on with `bytes` until more are needed. Says how many were used up.
    fn process(&mut self, bytes: &mut [u8], mut data: impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut bytes[at..]);
            let mut wait = false;
            match state.unwrap() {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.unwrap();
                        discard += record.discard;
                        data(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut encode) => {
                    self.used += encode.encode(&mut self.out[self.used..]).unwrap();
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => wait = true,
                other => panic!("{other:?}"),
            }
            at += discard;
            if wait {
                return at;
            }
        }
    }
}

fn unbuffered_small(n: usize) -> Work {
    let (mut server, mut client) = Unbuffered::open();
    let records = sealed(&mut client, n, &request());
    let mut raw = vec![0; BUFFER];
    Box::new(move || {
        for record in records.chunks(HUNDRED + AROUND) {
            raw[..record.len()].copy_from_slice(record);
            let answer = [b'x'; HUNDRED];
            let UnbufferedStatus { discard, state } = server.connection.process_tls_records(&mut raw[..record.len()]);
            let ConnectionState::ReadTraffic(mut traffic) = state.unwrap() else { panic!("a record of data") };
            let data = traffic.next_record().unwrap().unwrap();
            black_box(data.payload);
            let used = discard + data.discard;
            let status = server.connection.process_tls_records(&mut raw[used..record.len()]);
            let ConnectionState::WriteTraffic(mut traffic) = status.state.unwrap() else { panic!("leave to write") };
            let sealed = traffic.encrypt(&answer, &mut server.out).unwrap();
            black_box(&server.out[..sealed]);
        }
    })
}

fn unbuffered_body(n: usize, size: usize) -> Work {
    let (mut server, mut client) = Unbuffered::open();
    let mut records = sealed(&mut client, n, &vec![b'x'; size]);
    Box::new(move || {
        let mut received = 0;
        for part in records.chunks_mut(49_152 / size * (size + AROUND)) {
            let used = server.process(part, |bytes| received += black_box(bytes).len());
            assert_eq!(used, part.len());
        }
        assert_eq!(received, n * size);
    })
}

// ---- rustls, buffered

fn buffered() -> (ServerConnection, ClientConnection) {
    let mut server = ServerConnection::new(Arc::new(sides().server.clone())).unwrap();
    let client = shake(|said| {
        let mut bytes = &said[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut out = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut out).unwrap();
        }
        out
    });
    (server, client)
}

fn buffered_small(n: usize) -> Work {
    let (mut server, mut client) = buffered();
    let records = sealed(&mut client, n, &request());
    let (mut plain, mut out) = (vec![0; BUFFER], Vec::with_capacity(BUFFER));
    Box::new(move || {
        for mut record in records.chunks(HUNDRED + AROUND) {
            server.read_tls(&mut record).unwrap();
            server.process_new_packets().unwrap();
            let len = server.reader().read(&mut plain).unwrap();
            server.writer().write_all(&plain[..len]).unwrap();
            out.clear();
            server.write_tls(&mut out).unwrap();
            black_box(&out);
        }
    })
}

fn buffered_body(n: usize, size: usize) -> Work {
    let (mut server, mut client) = buffered();
    let records = sealed(&mut client, n, &vec![b'x'; size]);
    let mut plain = vec![0; BUFFER];
    Box::new(move || {
        let (mut bytes, mut received) = (&records[..], 0);
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
            while let Ok(len @ 1..) = server.reader().read(&mut plain) {
                received += black_box(&plain[..len]).len();
            }
        }
        assert_eq!(received, n * size);
    })
}

// ---- the cipher alone

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap())
}

fn nonce(i: usize) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&(i as u64).to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// `n` records: a header, and content, type and tag behind it.
fn sealed_alone(n: usize, content: &[u8]) -> Vec<u8> {
    let (key, mut records) = (key(), Vec::new());
    for i in 0..n {
        let mut inner = [content, &[23]].concat();
        let header = header(inner.len() + 16);
        key.seal_in_place_append_tag(nonce(i), Aad::from(header), &mut inner).unwrap();
        records.extend_from_slice(&header);
        records.append(&mut inner);
    }
    records
}

fn header(len: usize) -> [u8; 5] {
    [23, 3, 3, (len >> 8) as u8, len as u8]
}

fn open_alone(key: &LessSafeKey, i: usize, record: &mut [u8]) -> usize {
    let (header, inner) = record.split_at_mut(HEADER);
    let header: [u8; 5] = (&*header).try_into().unwrap();
    key.open_in_place(nonce(i), Aad::from(header), inner).unwrap().len() - 1
}

fn aead_small(n: usize) -> Work {
    let (key, records) = (key(), sealed_alone(n, &request()));
    let (mut raw, mut out) = ([0; HUNDRED + AROUND], [0; HUNDRED + 1]);
    Box::new(move || {
        for (i, record) in records.chunks(HUNDRED + AROUND).enumerate() {
            raw.copy_from_slice(record);
            let len = open_alone(&key, i, &mut raw);
            out.copy_from_slice(&raw[HEADER..HEADER + len + 1]);
            let aad = Aad::from(header(len + 17));
            let tag = key.seal_in_place_separate_tag(nonce(i), aad, &mut out).unwrap();
            black_box((&tag, &out));
        }
    })
}

fn aead_body(n: usize, size: usize) -> Work {
    let (key, mut records) = (key(), sealed_alone(n, &vec![b'x'; size]));
    Box::new(move || {
        let mut received = 0;
        for (i, record) in records.chunks_mut(size + AROUND).enumerate() {
            received += open_alone(&key, i, record);
            black_box(&record);
        }
        assert_eq!(received, n * size);
    })
}
