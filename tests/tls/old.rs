//! TLS 1.2: the same conversations, and what is only there.

use super::*;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use std::time::Duration;

use rustls::{ContentType, ProtocolVersion, Tls12CipherSuite};

const SUITES: [SupportedCipherSuite; 3] = [
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

fn later(server: &mut Server, millis: u64) {
    server.now = server.now.after(Duration::from_millis(millis));
}

/// Its clients speak TLS 1.2 alone.
fn site() -> Site {
    Site { versions: OLD, ..Site::new() }
}

/// The same with one suite; and without those of TLS 1.3, whose ciphers are borrowed where they are there.
fn site_with(suite: SupportedCipherSuite, twins: bool) -> Site {
    let site = Site::with(|provider| {
        provider.cipher_suites.retain(|other| *other == suite || (twins && other.tls13().is_some()));
    });
    Site { versions: OLD, ..site }
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251) as u8).collect()
}

/// A client that seals whatever it likes, by rustls's own cipher, and opens what it is told.
struct OldForger {
    key: Box<dyn MessageEncrypter>,
    sequence: u64,
    reader: Box<dyn MessageDecrypter>,
    read: u64,
}

fn split(secrets: ConnectionTrafficSecrets) -> (AeadKey, Iv) {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => panic!(),
    }
}

impl OldForger {
    fn new(client: ClientConnection) -> OldForger {
        let SupportedCipherSuite::Tls12(suite) = client.negotiated_cipher_suite().unwrap() else { panic!() };
        let secrets = client.dangerous_extract_secrets().unwrap();
        let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
        let (sequence, tx) = secrets.tx;
        let (key, iv) = split(tx);
        let mut key = suite.aead_alg.encrypter(key, &iv.as_ref()[..fixed], &iv.as_ref()[fixed..]);
        for used in 0..sequence {
            key.encrypt(message(23, b""), used).unwrap(); // it counts for itself as well
        }
        let (read, rx) = secrets.rx;
        let (opener, iv) = split(rx);
        OldForger { key, sequence, reader: suite.aead_alg.decrypter(opener, &iv.as_ref()[..fixed]), read }
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let sealed = self.key.encrypt(message(kind, content), self.sequence).unwrap().encode();
        self.sequence += 1;
        sealed
    }

    /// The records that the server has sent: their types and contents.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]])));
            let mut payload = record[5..].to_vec();
            let sealed = InboundOpaqueMessage::new(record[0].into(), ProtocolVersion::TLSv1_2, &mut payload);
            let plain = self.reader.decrypt(sealed, self.read).unwrap();
            records.push((plain.typ.into(), plain.payload.to_vec()));
            (bytes, self.read) = (rest, self.read + 1);
        }
        records
    }
}

fn message(kind: u8, content: &[u8]) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage {
        typ: ContentType::from(kind),
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(content),
    }
}

fn forged() -> (OldForger, Server) {
    let (client, server) = open_pair(&site());
    (OldForger::new(client), server)
}

/// A ClientHello of so many bytes, as far as anybody looks.
fn hello(len: usize) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
    [&[1, a, b, c], &vec![9; len][..]].concat()
}

// ---- handshakes and data ----

#[test]
fn every_suite_every_size_with_and_without_a_cipher_in_place() {
    for (suite, twins) in SUITES.into_iter().flat_map(|suite| [(suite, true), (suite, false)]) {
        let site = site_with(suite, twins);
        let (mut client, mut server) = open_pair(&site);
        assert_eq!((server.tls.version(), server.tls.cipher()), (Some("TLSv1.2"), suite.suite().as_str()));
        assert_eq!((server.tls.sni(), server.tls.resumed()), (Some("localhost"), false));
        for size in [1, 2, 15, 16, 17, 1_000, 16_383, 16_384, 16_385, 40_000] {
            server.plain.clear();
            server.feed(&say(&mut client, &data(size)));
            assert_eq!(server.plain, data(size), "{suite:?} {twins}");
            server.send(&data(size));
            assert_eq!(pump(&mut client, &mut server).unwrap(), data(size));
        }
        for byte in data(300) {
            server.plain.clear();
            server.feed(&say(&mut client, &[byte]));
            assert_eq!(server.plain, [byte]);
            server.send(&[byte]);
        }
        server.tls.update_keys();
        assert_eq!(server.tls.pending(), 0, "there are no new keys");
        assert_eq!(pump(&mut client, &mut server).unwrap(), data(300));
        assert!(server.tls.retained_bytes() <= Tls::BOUND_BYTES_OPEN);
        client.send_close_notify();
        server.tls.close();
        server.flush();
        pump(&mut client, &mut server).unwrap();
        assert!(server.closed && client.process_new_packets().unwrap().peer_has_closed());
        assert_eq!(server.tls.end(), Ok(()));
    }
}

#[test]
fn any_slice_is_sealed_into_any_room() {
    for (suite, twins) in SUITES.into_iter().flat_map(|suite| [(suite, true), (suite, false)]) {
        let (mut client, mut server) = open_pair(&site_with(suite, twins));
        let around = server.tls.header() + server.tls.trailer();
        assert!(around <= Tls::HEADER_MOST + Tls::TRAILER_MOST);
        assert_eq!(server.tls.seal_from(b"abc", &mut vec![0; around]), Ok((0, 0)));
        assert_eq!(server.tls.seal_from(b"", &mut [0; 100]), Ok((0, 0)));
        let (plain, mut at) = (data(50_000), 0);
        for room in [around + 1, 100, 17_000, 40_000].into_iter().cycle() {
            let mut out = vec![0; room];
            let (taken, written) = server.tls.seal_from(&plain[at..], &mut out).unwrap();
            assert_eq!(written, taken + around * taken.div_ceil(Tls::FRAGMENT));
            server.out.extend_from_slice(&out[..written]);
            at += taken;
            if at == plain.len() {
                break;
            }
        }
        assert_eq!(pump(&mut client, &mut server).unwrap(), plain);
    }
}

#[test]
fn a_session_is_resumed_by_ticket_and_by_number_and_may_be_spoken_in_at_once() {
    for tickets in [true, false] {
        let site = site();
        let mut config = site.server();
        match tickets {
            true => config.ticketer = aws_lc_rs::Ticketer::new().unwrap(),
            false => config.session_storage = ServerSessionMemoryCache::new(8),
        }
        let config = TlsConfig::new(config);
        let mut offered = site.client();
        offered.resumption = Resumption::in_memory_sessions(4);
        let offered = Arc::new(offered);
        for round in 0..4 {
            let (mut client, mut server) = (connect_to(offered.clone(), "localhost"), Server::new(config.clone()));
            if round > 0 {
                // The client's Finished and its data come in one piece.
                server.feed(&from_client(&mut client));
                to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
                server.feed(&say(&mut client, b"at once"));
                assert_eq!((&server.plain[..], server.fault), (&b"at once"[..], None));
            }
            pump(&mut client, &mut server).unwrap();
            assert_eq!((server.tls.version(), server.tls.resumed()), (Some("TLSv1.2"), round > 0), "{tickets}");
            server.send(b"hello again");
            assert_eq!(pump(&mut client, &mut server).unwrap(), b"hello again");
        }
    }
}

#[test]
fn alpn_and_the_choice_of_a_configuration_are_as_ever() {
    let (fallback, site) = (Site::new(), site());
    let mut config = site.server();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let mut client = connect(offered);
    let mut server = Server::new(TlsConfig::new(fallback.server()).ask());
    server.feed(&from_client(&mut client));
    assert!(server.asked);
    server.tls.choose(&TlsConfig::new(config));
    server.turn();
    pump(&mut client, &mut server).unwrap();
    assert_eq!((server.tls.alpn(), server.tls.version()), (Some(&b"h2"[..]), Some("TLSv1.2")));
}

/// All that a client sends: ClientHello, its second flight, data, close_notify. `deliver` is called for each part.
fn conversation(site: &Site, config: &TlsConfig, mut deliver: impl FnMut(&mut Server, &[u8], usize)) -> Server {
    let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
    let mut at = 0;
    for part in 0..3 {
        let bytes = match part {
            2 => {
                let mut bytes = say(&mut client, b"GET / ");
                bytes.extend(say(&mut client, b"HTTP/1.1"));
                client.send_close_notify();
                bytes.extend(from_client(&mut client));
                bytes
            }
            _ => from_client(&mut client),
        };
        deliver(&mut server, &bytes, at);
        at += bytes.len();
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    }
    server
}

#[test]
fn every_two_way_split_and_every_byte_alone_is_the_same_as_whole() {
    let site = site();
    let config = TlsConfig::new(site.server());
    let slow = conversation(&site, &config, |server, bytes, _| {
        server.room = Tls::FLUSH_ROOM;
        bytes.iter().for_each(|byte| server.feed(&[*byte]));
    });
    assert!(complete(&slow), "{:?}", slow.fault);
    let (mut at, mut end) = (0usize, 1usize);
    while at < end {
        let server = conversation(&site, &config, |server, bytes, from| {
            let cut = at.saturating_sub(from).min(bytes.len());
            server.feed(&bytes[..cut]);
            server.feed(&bytes[cut..]);
            end = from + bytes.len();
        });
        assert!(complete(&server), "cut at {at}: {:?}", server.fault);
        at += 1;
    }
}

#[test]
fn the_clients_flights_may_come_in_records_of_any_size() {
    let site = site();
    let config = TlsConfig::new(site.server());
    for size in [1, 2, 3, 4, 5, 7, 32, 70] {
        let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
        server.feed(&refragment(&from_client(&mut client), size));
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let flight = from_client(&mut client);
        let exchange = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
        server.feed(&refragment(&flight[..exchange], size));
        server.feed(&flight[exchange..]);
        pump(&mut client, &mut server).unwrap();
        assert!(!client.is_handshaking() && !server.tls.is_handshaking(), "{size}");
        server.feed(&say(&mut client, b"x"));
        assert_eq!(server.plain, b"x");
    }
}

#[test]
fn an_end_at_any_byte_is_told_from_close_notify_and_by_the_right_alert() {
    let site = site();
    let config = TlsConfig::new(site.server());
    let (mut at, mut over) = (0, false);
    while !over {
        let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
        server.feed(&from_client(&mut client));
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let flight = from_client(&mut client);
        over = at >= flight.len();
        server.feed(&flight[..at.min(flight.len())]);
        assert_eq!(!server.tls.is_handshaking(), over);
        let ended = server.tls.end().unwrap_err();
        assert_eq!(ended.rule, Rule::TlsTruncated);
        server.out.retain(|_| over); // what a client still waits for under way
        server.tls.fail(Violation::new(Rule::TlsInternal, 0));
        server.flush();
        assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::InternalError, "{at}");
        at += 1;
    }
}

#[test]
fn a_resumed_handshake_that_ends_early_is_told_under_rustls_keys() {
    let site = site();
    let mut config = site.server();
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let config = TlsConfig::new(config);
    let mut offered = site.client();
    offered.resumption = Resumption::in_memory_sessions(4);
    let offered = Arc::new(offered);
    pump(&mut connect_to(offered.clone(), "localhost"), &mut Server::new(config.clone())).unwrap();
    for garbage in [false, true] {
        let (mut client, mut server) = (connect_to(offered.clone(), "localhost"), Server::new(config.clone()));
        server.feed(&from_client(&mut client));
        if garbage {
            server.feed(&[plain_record(20, &[1]), plain_record(22, &[7; 40])].concat());
            assert_eq!(rule(&server), Some(Rule::TlsBadRecord));
        }
        server.tls.fail(Violation::new(Rule::HandshakeTimeout, 0));
        server.flush();
        let told = alert(to_client(&mut client, &server.out));
        assert!(
            matches!(
                told,
                AlertDescription::BadRecordMac | AlertDescription::IllegalParameter | AlertDescription::DecodeError
            ),
            "{told:?}"
        );
    }
}

// ---- what may not come ----

#[test]
fn the_second_flight_is_nothing_but_its_messages_in_their_order() {
    let site = site();
    let config = TlsConfig::new(site.server());
    let start = || {
        let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
        server.feed(&from_client(&mut client));
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let flight = from_client(&mut client);
        let exchange = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
        (client, server, flight, exchange)
    };
    type Case = (&'static str, fn(&[u8], usize) -> Vec<u8>, Rule);
    let cases: [Case; 12] = [
        ("data", |_, _| plain_record(23, b"GET /"), Rule::TlsRecordType),
        ("an unknown type", |_, _| plain_record(24, b"x"), Rule::TlsRecordType),
        ("an empty record", |_, _| plain_record(22, b""), Rule::TlsRecordEmpty),
        ("ChangeCipherSpec too soon", |_, _| plain_record(20, &[1]), Rule::TlsHandshake),
        (
            "ChangeCipherSpec that is none",
            |f, e| [&f[..e], &plain_record(20, &[2])].concat(),
            Rule::TlsChangeCipherSpec,
        ),
        (
            "ChangeCipherSpec inside a message",
            |f, _| [plain_record(22, &f[5..9]), plain_record(20, &[1])].concat(),
            Rule::TlsRecordType,
        ),
        ("ChangeCipherSpec again", |f, e| [&f[..e + 6], &plain_record(20, &[1])].concat(), Rule::TlsChangeCipherSpec),
        (
            "data behind ChangeCipherSpec",
            |f, e| [&f[..e + 6], &plain_record(23, &[0; 40])].concat(),
            Rule::TlsRecordType,
        ),
        (
            "a Finished that does not open",
            |f, e| [&f[..e + 6], &plain_record(22, &[0; 40])].concat(),
            Rule::TlsBadRecord,
        ),
        (
            "no ChangeCipherSpec",
            |f, e| [&f[..e], &plain_record(22, &[&[20, 0, 0, 12], &[0; 12][..]].concat())].concat(),
            Rule::TlsHandshake,
        ),
        ("another ClientHello", |_, _| plain_record(22, &hello(60)), Rule::TlsHandshake),
        ("a fatal alert", |_, _| plain_record(21, &[2, 40]), Rule::TlsPeerAlert),
    ];
    for (what, bytes, expected) in cases {
        let (mut client, mut server, flight, exchange) = start();
        server.feed(&bytes(&flight, exchange));
        assert_eq!(rule(&server), Some(expected), "{what}");
        if expected != Rule::TlsPeerAlert {
            alert(to_client(&mut client, &server.out));
        }
        let (_, mut slow, flight, exchange) = start();
        bytes(&flight, exchange).iter().for_each(|byte| slow.feed(&[*byte]));
        assert_eq!(slow.fault, server.fault, "{what}, byte by byte");
    }
    // Megabytes are refused with their header.
    let (_, mut server, ..) = start();
    server.feed(&plain_record(22, &[16, 255, 255, 255]));
    assert_eq!(rule(&server), Some(Rule::TlsHandshakeTooLong));
}

#[test]
fn warnings_in_the_handshake_are_counted_whatever_they_say() {
    let site = site();
    for warnings in [4, 5] {
        let (mut client, mut server) = (connect(site.client()), Server::new(TlsConfig::new(site.server())));
        server.feed(&from_client(&mut client));
        for code in [90, 100, 112, 41, 46].into_iter().take(warnings) {
            server.feed(&plain_record(21, &[1, code]));
        }
        assert_eq!(rule(&server), (warnings == 5).then_some(Rule::TlsWarnings));
    }
}

#[test]
fn renegotiation_is_refused_by_one_warning_and_then_by_the_end() {
    // TLS-05
    for size in [1, 2, 3, 4, 5, 100, 400] {
        let (mut forger, mut server) = forged();
        for part in hello(200).chunks(size) {
            let record = forger.record(22, part);
            later(&mut server, 1_000); // not a flood
            server.feed(&record);
        }
        assert_eq!(server.fault, None, "{size}");
        assert_eq!(forger.read(&std::mem::take(&mut server.out)), [(21, vec![1, 100])]);
        server.feed(&forger.record(23, b"and on"));
        server.send(b"we go");
        assert_eq!(server.plain, b"and on");
        assert_eq!(forger.read(&std::mem::take(&mut server.out)), [(23, b"we go".to_vec())]);
        server.feed(&forger.record(22, &[1]));
        assert_eq!(rule(&server), Some(Rule::TlsRenegotiation));
        assert_eq!(forger.read(&server.out), [(21, vec![2, 10])]);
    }
}

#[test]
fn where_http2_is_spoken_the_first_renegotiation_is_the_end() {
    let site = site();
    let mut config = site.server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"h2".to_vec()];
    let (mut client, mut server) = (connect(offered), Server::new(TlsConfig::new(config)));
    pump(&mut client, &mut server).unwrap();
    let mut forger = OldForger::new(client);
    server.feed(&forger.record(22, &hello(200)));
    assert_eq!(rule(&server), Some(Rule::TlsRenegotiation));
    assert_eq!(forger.read(&server.out), [(21, vec![2, 10])]);
}

#[test]
fn the_suite_that_everybody_has_to_speak_is_there() {
    let suites = aws_lc_rs::default_provider().cipher_suites;
    assert!(suites.contains(&aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
    let groups = aws_lc_rs::default_provider().kx_groups;
    assert!(groups.iter().any(|group| group.name() == aws_lc_rs::kx_group::SECP256R1.name()));
}

#[test]
fn a_warning_that_finds_no_room_is_sent_before_anything_else() {
    let (mut forger, mut server) = forged();
    server.room = 5;
    let record = forger.record(22, &hello(3));
    server.inbox.extend_from_slice(&record);
    let opened = server.tls.open(&LIMITS, START, &mut server.inbox);
    assert_eq!(opened, Ok(Opened::Consumed { total: record.len() }));
    assert_eq!(server.tls.pending(), Tls::FLUSH_ROOM);
    assert_eq!(server.tls.flush(&mut [0; Tls::FLUSH_ROOM - 1]), 0);
    assert_eq!(server.tls.seal_from(b"data", &mut [0; 100]), Ok((0, 0)), "flush first");
    server.room = 100;
    server.flush();
    server.send(b"data");
    assert_eq!(forger.read(&server.out), [(21, vec![1, 100]), (23, b"data".to_vec())]);
}

#[test]
fn what_comes_behind_the_handshake_must_be_one_of_three_kinds() {
    type Case = (&'static str, fn(&mut OldForger) -> Vec<u8>, Rule);
    let cases: [Case; 16] = [
        ("ChangeCipherSpec", |_| plain_record(20, &[1]), Rule::TlsChangeCipherSpec),
        ("a plain alert", |_| plain_record(21, &[2, 40]), Rule::TlsRecordVersion),
        ("an unknown type", |_| plain_record(24, &[0; 40]), Rule::TlsRecordType),
        ("an empty handshake record", |f| f.record(22, b""), Rule::TlsRecordEmpty),
        ("an empty alert", |f| f.record(21, b""), Rule::TlsRecordEmpty),
        ("two alerts in one", |f| f.record(21, &[1, 90, 1, 90]), Rule::TlsAlertSyntax),
        ("half an alert", |f| f.record(21, &[1]), Rule::TlsAlertSyntax),
        ("a fatal alert", |f| f.record(21, &[2, 90]), Rule::TlsPeerAlert),
        ("a HelloRequest", |f| f.record(22, &[0, 0, 0, 0]), Rule::TlsPostHandshake),
        ("a KeyUpdate", |f| f.record(22, &[24, 0, 0, 1, 0]), Rule::TlsPostHandshake),
        ("a Finished", |f| f.record(22, &[20, 0, 0, 12]), Rule::TlsPostHandshake),
        (
            "data inside a ClientHello",
            |f| [f.record(22, &[1, 0]), f.record(23, b"x")].concat(),
            Rule::TlsInnerPlaintext,
        ),
        (
            "data behind its header",
            |f| [f.record(22, &[1, 0, 0, 9]), f.record(23, b"x")].concat(),
            Rule::TlsInnerPlaintext,
        ),
        ("two ClientHellos", |f| f.record(22, &[hello(3), hello(3)].concat()), Rule::TlsRenegotiation),
        ("a ClientHello of 16 MiB", |f| f.record(22, &[1, 255, 255, 255]), Rule::TlsClientHelloTooLong),
        (
            "a number that was used",
            |f| {
                let record = f.record(23, b"once");
                [&record[..], &record].concat()
            },
            Rule::TlsBadRecord,
        ),
    ];
    for (what, bytes, expected) in cases {
        let (mut forger, mut server) = forged();
        server.feed(&bytes(&mut forger));
        assert_eq!(rule(&server), Some(expected), "{what}");
        let (mut forger, mut slow) = forged();
        bytes(&mut forger).iter().for_each(|byte| slow.feed(&[*byte]));
        assert_eq!(slow.fault, server.fault, "{what}, byte by byte");
    }
}

#[test]
fn a_record_must_fit_its_size() {
    for suite in SUITES {
        let (client, mut server) = open_pair(&site_with(suite, true));
        let overhead = server.tls.header() - 5 + server.tls.trailer();
        let mut forger = OldForger::new(client);
        server.feed(&forger.record(23, &data(16_384)));
        assert_eq!((server.plain.len(), server.fault), (16_384, None));
        server.feed(&forger.record(23, &data(16_385)));
        assert_eq!(rule(&server), Some(Rule::TlsRecordTooLong));
        for (len, expected) in
            [(overhead - 1, Rule::TlsBadRecord), (0, Rule::TlsBadRecord), (65_535, Rule::TlsRecordTooLong)]
        {
            let (_, mut server) = open_pair(&site_with(suite, true));
            let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
            server.feed(&[23, 3, 3, high, low]); // the header alone is judged
            assert_eq!(rule(&server), Some(expected), "{suite:?} {len}");
        }
    }
}

#[test]
fn a_record_that_was_tampered_with_does_not_open() {
    for (suite, twins) in SUITES.into_iter().flat_map(|suite| [(suite, true), (suite, false)]) {
        let site = site_with(suite, twins);
        let config = TlsConfig::new(site.server());
        let mut at = 0;
        loop {
            let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
            pump(&mut client, &mut server).unwrap();
            let mut record = say(&mut client, b"0123456789");
            let Some(byte) = record.get_mut(at) else { break };
            *byte ^= 4;
            server.feed(&record);
            server.feed(&[0; 2_000]); // if it is longer now
            let found = rule(&server).unwrap();
            match at {
                0 => assert!(matches!(found, Rule::TlsBadRecord | Rule::TlsRecordType), "{found:?}"),
                1 | 2 => assert_eq!(found, Rule::TlsRecordVersion),
                3 => assert!(matches!(found, Rule::TlsBadRecord | Rule::TlsRecordTooLong), "{found:?}"),
                _ => assert_eq!(found, Rule::TlsBadRecord, "{at}"),
            }
            assert!(server.plain.is_empty());
            at += 1;
        }
        assert!(at > 20);
    }
}

#[test]
fn empty_records_and_warnings_are_counted() {
    let (mut forger, mut server) = forged();
    for _ in 0..3 {
        for _ in 0..10 {
            server.feed(&forger.record(23, b""));
        }
        later(&mut server, 4_000);
        server.feed(&forger.record(23, b"x"));
    }
    assert_eq!((&server.plain[..], server.fault), (&b"xxx"[..], None));
    for n in 0..33 {
        assert_eq!(server.fault, None, "{n}");
        later(&mut server, 1_000);
        server.feed(&forger.record(23, b""));
    }
    assert_eq!(rule(&server), Some(Rule::TlsEmptyRecords));

    let (mut forger, mut server) = forged();
    for code in [90, 100, 112, 41] {
        server.feed(&forger.record(21, &[1, code]));
    }
    assert_eq!(server.fault, None);
    server.feed(&forger.record(21, &[1, 41]));
    assert_eq!(rule(&server), Some(Rule::TlsWarnings));

    // At one instant: the bucket, whatever lies between (TLS-04).
    let (mut forger, mut server) = forged();
    for _ in 0..33 {
        server.feed(&[forger.record(23, b""), forger.record(23, b"x")].concat());
    }
    assert_eq!(rule(&server), Some(Rule::TlsKeyUpdateFlood));
}

fn bent_old(suite: SupportedCipherSuite, limit: u64) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls12(suite) = suite else { panic!() };
    let common = rustls::crypto::CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: limit,
    };
    let Tls12CipherSuite { prf_provider, kx, sign, aead_alg, .. } = *suite;
    SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg })))
}

#[test]
fn keys_that_wear_out_are_told_in_time_and_never_used_too_often() {
    let plain = site_with(SUITES[0], true);
    let mut suites = plain.provider.cipher_suites.clone();
    suites.retain(|suite| suite.tls13().is_some());
    suites.push(bent_old(SUITES[0], 40));
    let provider = Arc::new(CryptoProvider { cipher_suites: suites, ..(*plain.provider).clone() });
    let site = Site { provider, cert: plain.cert.clone(), key: plain.key.clone_key(), versions: plain.versions };
    let (mut client, mut server) = (connect(plain.client()), Server::new(TlsConfig::new(site.server())));
    pump(&mut client, &mut server).unwrap();
    let mut sent = 0u32;
    while !server.tls.is_worn() {
        server.send(b"x");
        sent += 1;
    }
    assert_eq!(sent, 29, "a quarter is left: 40 in all, one was the Finished's");
    let mut record = [0; 64];
    while let Ok(n) = server.tls.seal(&mut record, 1) {
        server.out.extend_from_slice(&record[..n]);
        sent += 1;
    }
    assert_eq!(sent, 37, "two are kept for alerts");
    let stopped = server.tls.seal(&mut record, 1).unwrap_err();
    assert_eq!(stopped.rule, Rule::TlsKeysWornOut);
    server.tls.close();
    server.flush();
    assert_eq!(pump(&mut client, &mut server).unwrap().len(), 37);
    assert!(client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn whatever_bytes_come_nothing_panics() {
    let site = site();
    let config = TlsConfig::new(site.server());
    let mut seed = 3u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for round in 0..400 {
        let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
        server.feed(&from_client(&mut client));
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let mut bytes = from_client(&mut client);
        if round % 2 == 1 {
            server.feed(&std::mem::take(&mut bytes));
            to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
            bytes = say(&mut client, &data(usize::from(next())));
        }
        let at = usize::from(next()) % bytes.len().max(1);
        match round % 4 {
            0 | 1 => bytes[at] ^= next().max(1),
            _ => bytes.truncate(at),
        }
        bytes.extend((0..next()).map(|_| next()));
        server.feed(&bytes);
        let _ = server.tls.end();
        server.tls.close();
        server.flush();
        assert!(server.tls.seal(&mut [0; 64], 1).is_ok() || server.tls.pending() == 0);
    }
}
