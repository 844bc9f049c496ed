//! Conversations between rustls's own client and `decrypt::Tls`, over a pipe in memory, and what a hostile client gets.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConnectionTrafficSecrets, Error, RootCertStore, ServerConfig,
    SupportedCipherSuite, SupportedProtocolVersion, Tls13CipherSuite,
};
use vestibule::decrypt::{Opened, Tls, TlsConfig};
use vestibule::{Instant, Limit, Limits, Rule, Violation};

#[path = "tls/clients.rs"]
mod clients;
#[path = "tls/old.rs"]
mod old;
#[path = "tls/tickets.rs"]
mod tickets;

const LIMITS: Limits = Limits::DEFAULT;
const START: Instant = Instant::from_millis(5_000);

// ---- the two ends ----

struct Site {
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
    /// What its clients speak.
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Site {
    fn new() -> Site {
        Site::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CryptoProvider)) -> Site {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1]; // small ClientHellos
        change(&mut provider);
        Site {
            cert: made.cert.der().clone(),
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            provider: Arc::new(provider),
            versions: rustls::ALL_VERSIONS,
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).unwrap();
        roots
    }

    fn server(&self) -> ServerConfig {
        ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.cert.clone()], self.key.clone_key())
            .unwrap()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        config.resumption = Resumption::disabled();
        config
    }

    fn pair(&self) -> (ClientConnection, Server) {
        (connect(self.client()), Server::new(TlsConfig::new(self.server())))
    }
}

fn connect(config: ClientConfig) -> ClientConnection {
    connect_to(Arc::new(config), "localhost")
}

fn connect_to(config: Arc<ClientConfig>, name: &'static str) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap()
}

/// A caller of `Tls`: an inbox, what came out of it, an outbox.
struct Server {
    tls: Tls,
    limits: Limits,
    now: Instant,
    inbox: Vec<u8>,
    plain: Vec<u8>,
    records: usize,
    out: Vec<u8>,
    /// How much room a flush is given at once.
    room: usize,
    asked: bool,
    closed: bool,
    fault: Option<Violation>,
    bound: usize,
}

impl Server {
    fn new(config: TlsConfig) -> Server {
        Server::limited(config, LIMITS)
    }

    fn limited(config: TlsConfig, limits: Limits) -> Server {
        let bound = match config.identifies() || config.asks() {
            true => Tls::bound_bytes_with_identity(&limits),
            false => Tls::bound_bytes(&limits),
        };
        Server {
            tls: Tls::new(&config),
            bound,
            limits,
            now: START,
            inbox: Vec::new(),
            plain: Vec::new(),
            records: 0,
            out: Vec::new(),
            room: 1 << 16,
            asked: false,
            closed: false,
            fault: None,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        self.turn();
    }

    fn turn(&mut self) {
        while self.fault.is_none() {
            let have = self.inbox.len();
            let total = match self.tls.open(&self.limits, self.now, &mut self.inbox) {
                Ok(Opened::Need { want }) => {
                    assert!(want > 0);
                    break;
                }
                Ok(Opened::Hello) => {
                    self.asked = true;
                    break;
                }
                Ok(Opened::Consumed { total }) => total,
                Ok(Opened::Closed { total }) => {
                    self.closed = true;
                    self.inbox.drain(..total);
                    break;
                }
                Ok(Opened::Plain { total, skip, len }) => {
                    assert!(len > 0);
                    self.plain.extend_from_slice(&self.inbox[skip..skip + len]);
                    self.records += 1;
                    total
                }
                Err(violation) => {
                    assert_eq!(self.tls.open(&self.limits, self.now, &mut self.inbox), Err(violation), "it stays");
                    self.fault = Some(violation);
                    self.tls.fail(violation);
                    self.tls.close();
                    self.tls.fail(violation);
                    break;
                }
            };
            assert!(0 < total && total <= have);
            self.inbox.drain(..total);
            assert!(self.tls.retained_bytes() <= self.bound);
        }
        self.flush();
    }

    fn flush(&mut self) {
        loop {
            let pending = self.tls.pending();
            let mut room = vec![0xee; self.room];
            let n = self.tls.flush(&mut room);
            assert!(n <= pending, "pending is an upper bound");
            assert!(room[n..].iter().all(|&b| b == 0xee) || pending > n, "nothing is written beyond what is said");
            self.out.extend_from_slice(&room[..n]);
            if n == 0 {
                assert!(self.tls.pending() == 0 || self.room < Tls::FLUSH_ROOM);
                break;
            }
        }
    }

    fn send(&mut self, data: &[u8]) {
        assert!(!self.tls.is_handshaking());
        for part in data.chunks(Tls::FRAGMENT) {
            let (header, trailer) = (self.tls.header(), self.tls.trailer());
            let mut record = vec![0; header + part.len() + trailer];
            record[header..][..part.len()].copy_from_slice(part);
            let n = self.tls.seal(&mut record, part.len()).unwrap();
            assert_eq!(n, record.len());
            self.out.extend_from_slice(&record);
            self.flush();
        }
    }
}

fn from_client(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn to_client(client: &mut ClientConnection, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets()?;
        let mut part = vec![0; 1 << 17];
        while let Ok(n @ 1..) = client.reader().read(&mut part) {
            plain.extend_from_slice(&part[..n]);
        }
    }
    Ok(plain)
}

/// Carries bytes to and fro until both are silent. What the client read, or why it failed.
fn pump(client: &mut ClientConnection, server: &mut Server) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    loop {
        let bytes = from_client(client);
        server.feed(&bytes);
        let answer = std::mem::take(&mut server.out);
        if bytes.is_empty() && answer.is_empty() {
            return Ok(plain);
        }
        plain.extend(to_client(client, &answer)?);
    }
}

fn say(client: &mut ClientConnection, data: &[u8]) -> Vec<u8> {
    client.set_buffer_limit(None);
    client.writer().write_all(data).unwrap();
    from_client(client)
}

/// A pair that has shaken hands.
fn open_pair(site: &Site) -> (ClientConnection, Server) {
    let (mut client, mut server) = site.pair();
    pump(&mut client, &mut server).unwrap();
    assert!(!client.is_handshaking() && !server.tls.is_handshaking());
    (client, server)
}

fn alert(result: Result<Vec<u8>, Error>) -> AlertDescription {
    match result {
        Err(Error::AlertReceived(alert)) => alert,
        other => panic!("no alert: {other:?}"),
    }
}

/// Cuts the handshake bytes of plaintext records into records of `size` bytes.
fn refragment(records: &[u8], size: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        assert_eq!(rest[0], 22);
        let len = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        message.extend_from_slice(&rest[5..5 + len]);
        rest = &rest[5 + len..];
    }
    message.chunks(size).flat_map(|part| plain_record(22, part)).collect()
}

fn plain_record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1, high, low], content].concat()
}

/// A client that seals whatever it likes, in the place of the real one.
struct Forger {
    key: Box<dyn rustls::quic::PacketKey>,
    sequence: u64,
}

impl Forger {
    fn new(client: ClientConnection) -> Forger {
        let SupportedCipherSuite::Tls13(suite) = client.negotiated_cipher_suite().unwrap() else { panic!() };
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
            _ => panic!(),
        };
        Forger { key: suite.quic.unwrap().packet_key(key, iv), sequence }
    }

    /// Seals an inner plaintext: content, type and padding as given.
    fn inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut payload = inner.to_vec();
        let tag = self.key.encrypt_in_place(self.sequence, &header, &mut payload).unwrap();
        self.sequence += 1;
        [&header, &payload[..], tag.as_ref()].concat()
    }

    fn record(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.inner(&[content, &[kind]].concat())
    }
}

fn forged(site: &Site) -> (Forger, Server) {
    let (client, server) = open_pair(site);
    (Forger::new(client), server)
}

fn rule(server: &Server) -> Option<Rule> {
    server.fault.map(|fault| fault.rule)
}

// ---- handshakes ----

#[test]
fn a_full_handshake_and_data_both_ways() {
    let site = Site::new();
    let mut config = site.server();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut server = Server::new(TlsConfig::new(config));
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"http/1.1".to_vec(), b"nonsense".to_vec()];
    let mut client = connect(offered);
    assert_eq!(
        (server.tls.version(), server.tls.cipher(), server.tls.alpn(), server.tls.sni()),
        (None, None, None, None)
    );
    server.feed(&from_client(&mut client));
    let hello = server.tls.hello().unwrap();
    assert_eq!(hello.sni, Some("localhost"));
    assert_eq!(hello.alpn.collect::<Vec<_>>(), [&b"http/1.1"[..], b"nonsense"]);
    assert!(server.tls.is_handshaking());
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    pump(&mut client, &mut server).unwrap();
    assert!(!server.tls.is_handshaking());
    assert_eq!(server.tls.version(), Some("TLSv1.3"));
    assert_eq!(server.tls.cipher(), Some("TLS13_AES_256_GCM_SHA384"));
    assert_eq!(server.tls.alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(server.tls.sni(), Some("localhost"));
    assert!(!server.tls.resumed() && server.tls.hello().is_none());
    server.feed(&say(&mut client, b"ping"));
    assert_eq!(server.plain, b"ping");
    server.send(b"pong");
    assert_eq!(pump(&mut client, &mut server).unwrap(), b"pong");
    assert!(server.tls.retained_bytes() <= Tls::BOUND_BYTES_OPEN);
}

#[test]
fn every_cipher_suite_every_size_and_rustls_agrees_on_each_record() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let site = Site::with(|provider| provider.cipher_suites = vec![*suite]);
        let (mut client, mut server) = open_pair(&site);
        assert_eq!(server.tls.cipher(), suite.suite().as_str());
        let data: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
        for size in [1, 2, 15, 16, 17, 1_000, 16_383, 16_384, 16_385, 40_000] {
            server.plain.clear();
            server.feed(&say(&mut client, &data[..size]));
            assert_eq!(server.plain, &data[..size]);
            server.send(&data[..size]);
            assert_eq!(pump(&mut client, &mut server).unwrap(), &data[..size]);
        }
        for byte in &data[..600] {
            server.plain.clear();
            server.feed(&say(&mut client, &[*byte]));
            assert_eq!(server.plain, [*byte]);
            server.send(&[*byte]);
        }
        assert_eq!(pump(&mut client, &mut server).unwrap(), &data[..600]);
        client.send_close_notify();
        server.tls.close();
        server.flush();
        pump(&mut client, &mut server).unwrap();
        assert!(server.closed && client.process_new_packets().unwrap().peer_has_closed());
    }
}

fn bent(suite: &SupportedCipherSuite, bend: impl FnOnce(&mut Tls13CipherSuite)) -> SupportedCipherSuite {
    let suite = suite.tls13().unwrap();
    let mut copy = Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon { ..copy_common(suite) },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: suite.quic,
    };
    bend(&mut copy);
    SupportedCipherSuite::Tls13(Box::leak(Box::new(copy)))
}

fn copy_common(suite: &Tls13CipherSuite) -> rustls::crypto::CipherSuiteCommon {
    rustls::crypto::CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: suite.common.confidentiality_limit,
    }
}

#[test]
fn a_suite_without_a_quic_side_works_as_well() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let plain = Site::with(|provider| provider.cipher_suites = vec![*suite]);
        let site = Site {
            provider: Arc::new(CryptoProvider {
                cipher_suites: vec![bent(suite, |suite| suite.quic = None)],
                ..(*plain.provider).clone()
            }),
            cert: plain.cert.clone(),
            key: plain.key.clone_key(),
            versions: plain.versions,
        };
        let mut server = Server::new(TlsConfig::new(site.server()));
        let mut client = connect(plain.client());
        pump(&mut client, &mut server).unwrap();
        let data = vec![7; 20_000];
        server.feed(&say(&mut client, &data));
        assert_eq!(server.plain, data);
        server.send(&data);
        client.refresh_traffic_keys().unwrap();
        assert_eq!(pump(&mut client, &mut server).unwrap(), data);
        server.send(b"after");
        assert_eq!(pump(&mut client, &mut server).unwrap(), b"after");
        let mut forger = Forger::new(client);
        server.feed(&forger.inner(&[0; 40]));
        assert_eq!(rule(&server), Some(Rule::TlsInnerPlaintext));
    }
}

#[test]
fn a_ticket_resumes_the_session() {
    let site = Site::new();
    let mut config = site.server();
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let config = TlsConfig::new(config);
    let mut offered = site.client();
    offered.resumption = Resumption::in_memory_sessions(4);
    let offered = Arc::new(offered);
    for round in 0..4 {
        let mut client = connect_to(offered.clone(), "localhost");
        let mut server = Server::new(config.clone());
        pump(&mut client, &mut server).unwrap();
        assert_eq!(server.tls.resumed(), round > 0);
        server.feed(&say(&mut client, b"hi"));
        assert_eq!(server.plain, b"hi");
        server.send(b"hello again");
        server.tls.update_keys();
        server.flush();
        server.send(b", with new keys");
        assert_eq!(pump(&mut client, &mut server).unwrap(), b"hello again, with new keys");
    }
}

#[test]
fn data_behind_the_finished_stays_with_the_caller() {
    let (mut client, mut server) = Site::new().pair();
    server.feed(&from_client(&mut client));
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    let mut bytes = from_client(&mut client);
    bytes.extend(say(&mut client, b"early bird"));
    server.feed(&bytes);
    assert_eq!(server.plain, b"early bird");
}

#[test]
fn alpn_without_a_common_protocol_ends_with_its_alert() {
    // TLS-08
    let site = Site::new();
    let mut config = site.server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (mut client, mut server) = (connect(offered), Server::new(TlsConfig::new(config)));
    assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::NoApplicationProtocol);
    assert_eq!(rule(&server), Some(Rule::TlsNoApplicationProtocol));
}

#[test]
fn alpn_is_optional_for_the_client() {
    let site = Site::new();
    let mut config = site.server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (mut client, mut server) = (connect(site.client()), Server::new(TlsConfig::new(config)));
    pump(&mut client, &mut server).unwrap();
    assert_eq!(server.tls.alpn(), None);
}

#[test]
fn no_sni_is_no_sni() {
    let site = Site::new();
    let mut offered = site.client();
    offered.enable_sni = false;
    let (mut client, mut server) = (connect(offered), Server::new(TlsConfig::new(site.server())));
    server.feed(&from_client(&mut client));
    assert_eq!(server.tls.hello().unwrap().sni, None);
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    pump(&mut client, &mut server).unwrap();
    assert_eq!(server.tls.sni(), None);
}

#[test]
fn the_caller_chooses_after_the_client_hello() {
    let (site, other) = (Site::new(), Site::new());
    let fall_back = TlsConfig::new(other.server()).ask();
    let mut chosen = site.server();
    chosen.alpn_protocols = vec![b"h2".to_vec()];
    let chosen = TlsConfig::new(chosen);
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = connect(offered);
    let mut server = Server::new(fall_back.clone());
    for byte in from_client(&mut client) {
        assert!(!server.asked && server.tls.hello().is_none());
        server.feed(&[byte]);
    }
    assert!(server.asked && server.tls.pending() == 0);
    assert_eq!(server.tls.hello().unwrap().sni, Some("localhost"));
    assert_eq!(server.tls.open(&LIMITS, START, &mut [1, 2, 3]), Ok(Opened::Hello), "nothing is consumed meanwhile");
    server.tls.choose(&chosen);
    server.tls.choose(&fall_back); // too late, no effect
    pump(&mut client, &mut server).unwrap();
    assert_eq!(server.tls.alpn(), Some(&b"h2"[..]));

    // A choice that cannot work is told by the next `open`.
    let mut offered = site.client();
    offered.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (mut client, mut server) = (connect(offered), Server::new(fall_back));
    server.feed(&from_client(&mut client));
    server.tls.choose(&chosen);
    assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::NoApplicationProtocol);
    assert_eq!(server.fault, Some(Violation::new(Rule::TlsNoApplicationProtocol, 0)));
}

#[test]
fn a_hello_retry_request_goes_round_again() {
    for ask in [false, true] {
        let site = Site::new();
        let server_side = Site {
            provider: Arc::new(CryptoProvider {
                kx_groups: vec![aws_lc_rs::kx_group::SECP256R1 as &dyn SupportedKxGroup],
                ..(*site.provider).clone()
            }),
            cert: site.cert.clone(),
            key: site.key.clone_key(),
            versions: site.versions,
        };
        let config = TlsConfig::new(server_side.server());
        let mut server = Server::new(if ask { config.clone().ask() } else { config.clone() });
        let mut client = connect(site.client());
        server.feed(&refragment(&from_client(&mut client), 7));
        if ask {
            server.tls.choose(&config);
            server.turn();
        }
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let second = from_client(&mut client);
        let start = if second[0] == 20 { 6 } else { 0 };
        server.feed(&second[..start]);
        server.feed(&refragment(&second[start..], 3));
        pump(&mut client, &mut server).unwrap();
        assert!(!server.tls.is_handshaking());
        server.feed(&say(&mut client, b"x"));
        assert_eq!((&server.plain[..], server.fault), (&b"x"[..], None));
    }
}

#[test]
fn a_client_certificate_is_asked_for_and_verified() {
    let (site, user) = (Site::new(), Site::new());
    let roots = Arc::new(user.roots());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, site.provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(site.provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![site.cert.clone()], site.key.clone_key())
        .unwrap();
    let config = TlsConfig::new(config).with_client_certificates();
    let offer = |cert: &CertificateDer<'static>, key: &PrivateKeyDer<'static>, size| {
        let mut offered = ClientConfig::builder_with_provider(site.provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(site.roots())
            .with_client_auth_cert(vec![cert.clone()], key.clone_key())
            .unwrap();
        offered.max_fragment_size = size;
        connect(offered)
    };
    for size in [None, Some(32), Some(100)] {
        let (mut client, mut server) = (offer(&user.cert, &user.key, size), Server::new(config.clone()));
        pump(&mut client, &mut server).unwrap();
        assert!(!server.tls.is_handshaking() && server.fault.is_none());
    }
    // Chains that are long, and too long (M-2: `feed` looks at the memory after every record).
    for (certs, refused) in [
        (8, None),
        (9, Some((Rule::TlsCertificatesTooMany, AlertDescription::BadCertificate))),
        (150, Some((Rule::TlsCertificatesTooMany, AlertDescription::BadCertificate))),
        (400, Some((Rule::TlsHandshakeTooLong, AlertDescription::BadRecordMac))),
    ] {
        let chain = vec![user.cert.clone(); certs];
        let offered = ClientConfig::builder_with_provider(site.provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(site.roots())
            .with_client_auth_cert(chain, user.key.clone_key())
            .unwrap();
        let (mut client, mut server) = (connect(offered), Server::new(config.clone()));
        let result = pump(&mut client, &mut server);
        assert_eq!(rule(&server), refused.map(|(rule, _)| rule), "{certs}");
        match refused {
            None => assert_eq!(server.tls.identity().unwrap().chain().count(), certs),
            Some((_, why)) => assert_eq!(alert(result), why, "{certs}"),
        }
    }
    // A stranger's certificate, and a foreign record between its parts.
    let (mut client, mut server) = (offer(&site.cert, &site.key, None), Server::new(config.clone()));
    assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::DecryptError); // a stranger of the same name
    assert_eq!(rule(&server), Some(Rule::TlsCertificate));
    let (mut client, mut server) = (offer(&user.cert, &user.key, Some(32)), Server::new(config));
    server.feed(&from_client(&mut client));
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    let flight = from_client(&mut client);
    let first = 6 + 5 + usize::from(u16::from_be_bytes([flight[9], flight[10]])); // CCS, then one record
    server.feed(&[&flight[..first], &plain_record(20, &[1])].concat());
    assert_eq!(rule(&server), Some(Rule::TlsRecordType));
    assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::BadRecordMac);
}

#[test]
fn a_version_that_the_configuration_has_not_is_refused() {
    let site = Site::new();
    for (has, offers) in
        [(&rustls::version::TLS13, &rustls::version::TLS12), (&rustls::version::TLS12, &rustls::version::TLS13)]
    {
        let mut offered = ClientConfig::builder_with_provider(site.provider.clone())
            .with_protocol_versions(&[offers])
            .unwrap()
            .with_root_certificates(site.roots())
            .with_no_client_auth();
        offered.resumption = Resumption::disabled();
        let config = ServerConfig::builder_with_provider(site.provider.clone())
            .with_protocol_versions(&[has])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![site.cert.clone()], site.key.clone_key())
            .unwrap();
        let (mut client, mut server) = (connect(offered), Server::new(TlsConfig::new(config)));
        assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::ProtocolVersion);
        assert_eq!(rule(&server), Some(Rule::TlsVersion));
    }
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl rustls::KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap().push(label.into());
    }
}

#[test]
fn the_key_log_is_written() {
    let site = Site::new();
    let log = Arc::new(Log::default());
    let mut config = site.server();
    config.key_log = log.clone();
    let (mut client, mut server) = (connect(site.client()), Server::new(TlsConfig::new(config)));
    pump(&mut client, &mut server).unwrap();
    let labels = log.0.lock().unwrap();
    for label in ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"] {
        assert!(labels.iter().any(|written| written == label), "{label}");
    }
}

#[test]
fn early_data_is_skipped_and_never_delivered() {
    // TLS-07: a ticket from a server that took early data, brought to one that does not.
    let site = Site::new();
    let storage = ServerSessionMemoryCache::new(16);
    let mut old = site.server();
    old.session_storage = storage.clone();
    old.max_early_data_size = 16_384;
    let old = Arc::new(old);
    let mut config = site.server();
    config.session_storage = storage;
    config.max_early_data_size = 16_384; // taken back by TlsConfig
    let config = TlsConfig::new(config);
    let mut offered = site.client();
    offered.enable_early_data = true;
    offered.resumption = Resumption::in_memory_sessions(8);
    let offered = Arc::new(offered);
    let mut client = connect_to(offered.clone(), "localhost");
    let mut peer = rustls::ServerConnection::new(old).unwrap();
    for _ in 0..4 {
        let bytes = from_client(&mut client);
        peer.read_tls(&mut &bytes[..]).unwrap();
        peer.process_new_packets().unwrap();
        let mut answer = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut answer).unwrap();
        }
        to_client(&mut client, &answer).unwrap();
    }
    let mut client = connect_to(offered, "localhost");
    let early = vec![b'e'; 3_000];
    client.early_data().unwrap().write_all(&early).unwrap();
    let mut server = Server::new(config);
    pump(&mut client, &mut server).unwrap();
    assert!(!client.is_early_data_accepted());
    server.feed(&say(&mut client, b"late"));
    assert_eq!((&server.plain[..], server.fault), (&b"late"[..], None));
}

// ---- any split, any fragmentation ----

#[test]
fn the_client_hello_may_come_in_records_of_any_size() {
    // TLS-02
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let length = from_client(&mut connect(site.client())).len();
    for size in 1..=length {
        let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
        server.feed(&refragment(&from_client(&mut client), size));
        pump(&mut client, &mut server).unwrap();
        assert!(!server.tls.is_handshaking(), "{size}");
    }
}

#[test]
fn a_large_client_hello_is_handed_on_in_two_records() {
    let site = Site::new();
    let mut offered = site.client();
    offered.alpn_protocols = (0..95).map(|i| vec![i; 200]).collect();
    let limits = LIMITS.with(Limit::ClientHelloBytes, 65_536).unwrap();
    let (mut client, mut server) = (connect(offered), Server::limited(TlsConfig::new(site.server()), limits));
    let hello = from_client(&mut client);
    assert!(hello.len() > 17_000);
    server.feed(&hello);
    assert_eq!(server.tls.hello().unwrap().alpn.count(), 95);
    pump(&mut client, &mut server).unwrap();
    assert!(!server.tls.is_handshaking() && server.fault.is_none());
}

/// The whole of what a client sends: ClientHello, its second flight, data, a KeyUpdate, more data, close_notify. `deliver` is
/// called for both parts.
fn conversation(site: &Site, config: &TlsConfig, mut deliver: impl FnMut(&mut Server, &[u8], usize)) -> Server {
    let (mut client, mut server) = (connect(site.client()), Server::new(config.clone()));
    let hello = from_client(&mut client);
    deliver(&mut server, &hello, 0);
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    let mut bytes = from_client(&mut client);
    bytes.extend(say(&mut client, b"GET / "));
    client.refresh_traffic_keys().unwrap();
    bytes.extend(say(&mut client, b"HTTP/1.1"));
    client.send_close_notify();
    bytes.extend(from_client(&mut client));
    deliver(&mut server, &bytes, hello.len());
    server
}

fn complete(server: &Server) -> bool {
    server.plain == b"GET / HTTP/1.1" && server.closed && server.fault.is_none()
}

#[test]
fn byte_by_byte_is_the_same_as_whole() {
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    assert!(complete(&conversation(&site, &config, |server, bytes, _| server.feed(bytes))));
    let slow = conversation(&site, &config, |server, bytes, _| {
        server.room = Tls::FLUSH_ROOM;
        for byte in bytes {
            server.feed(&[*byte]);
        }
    });
    assert!(complete(&slow));
}

#[test]
fn every_two_way_split_is_the_same_as_whole() {
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let mut end = 0;
    let mut at = 0;
    while at <= end {
        let server = conversation(&site, &config, |server, bytes, start| {
            end = start + bytes.len();
            let (head, tail) = bytes.split_at(at.saturating_sub(start).min(bytes.len()));
            server.feed(head);
            server.feed(tail);
        });
        assert!(complete(&server), "{at}");
        at += 1;
    }
    assert!(at > 300);
}

#[test]
fn what_is_needed_is_said_exactly() {
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let server = conversation(&site, &config, |server, bytes, _| {
        let mut given = 0;
        while given < bytes.len() {
            let want = match server.tls.open(&LIMITS, START, &mut server.inbox) {
                Ok(Opened::Need { want }) => want,
                other => panic!("{other:?}"),
            };
            for _ in 1..want {
                server.feed(&bytes[given..=given]);
                given += 1;
                assert!(matches!(server.tls.open(&LIMITS, START, &mut server.inbox), Ok(Opened::Need { .. })));
            }
            let before = server.inbox.len();
            server.feed(&bytes[given..=given]);
            given += 1;
            assert!(before == 4 || server.inbox.is_empty(), "a header or a record is complete");
        }
    });
    assert!(complete(&server));
}

#[test]
fn truncation_at_every_offset_is_told_from_close_notify() {
    // TLS-06
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let mut end = 1;
    let mut at = 0;
    while at <= end {
        let mut cut = None;
        let mut whole = None;
        conversation(&site, &config, |server, bytes, start| {
            end = start + bytes.len();
            let here = (start..end).contains(&at) || (start > 0 && at == end);
            if here && cut.is_none() {
                server.feed(&bytes[..at - start]);
                cut = Some(server.tls.end());
                // The rest of the conversation goes on with another server, only to have its bytes.
                whole = Some(std::mem::replace(server, Server::new(config.clone())));
                if start == 0 {
                    server.feed(bytes);
                }
            } else if cut.is_none() {
                server.feed(bytes);
            }
        });
        match cut.unwrap() {
            Ok(()) => assert!(at == 0 || at == end, "{at}"),
            Err(violation) => {
                assert!(0 < at && at < end, "{at}");
                assert_eq!(violation.rule, Rule::TlsTruncated);
                assert!(violation.at <= at as u64);
                let mut server = whole.unwrap();
                assert_eq!(server.tls.open(&LIMITS, START, &mut []), Err(violation));
                server.tls.fail(violation);
                assert_eq!(server.tls.pending(), 0, "nobody is there to be told");
            }
        }
        at += 1;
    }
}

#[test]
fn what_follows_close_notify_is_swallowed_and_we_may_go_on_talking() {
    let (mut client, mut server) = open_pair(&Site::new());
    client.send_close_notify();
    server.feed(&from_client(&mut client));
    assert!(server.closed);
    assert_eq!(server.tls.open(&LIMITS, START, &mut [1; 77]), Ok(Opened::Closed { total: 77 }));
    assert_eq!(server.tls.end(), Ok(()));
    server.send(b"half open");
    server.tls.close();
    server.tls.close();
    assert_eq!(server.tls.pending(), 24);
    server.flush();
    assert_eq!(server.tls.pending(), 0);
    assert_eq!(to_client(&mut client, &server.out).unwrap(), b"half open");
    assert!(client.process_new_packets().unwrap().peer_has_closed());
    assert_eq!(server.tls.seal(&mut [0; 100], 1).unwrap_err().rule, Rule::TlsInternal);
}

#[test]
fn close_notify_in_the_middle_of_a_handshake_ends_it_quietly() {
    // TLS-06
    let site = Site::new();
    let (mut client, mut server) = site.pair();
    let hello = from_client(&mut client);
    server.feed(&refragment(&hello, 50)[..55]);
    server.feed(&plain_record(21, &[1, 0]));
    assert!(server.closed && server.fault.is_none());
    assert_eq!(server.tls.end(), Ok(()));

    let (mut client, mut server) = site.pair();
    server.feed(&from_client(&mut client));
    client.send_close_notify();
    server.feed(&from_client(&mut client));
    assert!(server.closed && server.fault.is_none() && server.tls.is_handshaking());

    let (mut client, mut server) = site.pair();
    server.feed(&from_client(&mut client));
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    let _ = from_client(&mut client);
    server.tls.close();
    server.flush();
    assert!(server.out.is_empty() && server.tls.end() == Ok(()));
    assert_eq!(server.tls.open(&LIMITS, START, &mut [9; 9]), Ok(Opened::Consumed { total: 9 }));

    let (_, mut server) = site.pair();
    server.tls.close();
    server.flush();
    assert_eq!(server.out, [21, 3, 3, 0, 2, 1, 0]);
}

#[test]
fn the_outbox_may_be_of_any_size_and_silence_is_no_truncation() {
    let (mut client, mut server) = Site::new().pair();
    assert_eq!(server.tls.end(), Ok(()));
    server.room = 1;
    pump(&mut client, &mut server).unwrap();
    assert!(!server.tls.is_handshaking());
    server.room = 1 << 16;
    server.tls.update_keys();
    for room in 0..server.tls.pending() {
        assert_eq!(server.tls.flush(&mut vec![0; room]), 0, "a KeyUpdate is written whole");
    }
    server.flush();
    server.send(b"ok");
    assert_eq!(pump(&mut client, &mut server).unwrap(), b"ok");
}

#[test]
fn nothing_can_be_sealed_before_the_last_flight_is_out() {
    let (mut client, mut server) = Site::new().pair();
    server.feed(&from_client(&mut client));
    to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    assert_eq!(server.tls.seal(&mut [0; 64], 1).unwrap_err().rule, Rule::TlsInternal);
    server.inbox = from_client(&mut client);
    while let Ok(Opened::Consumed { total }) = server.tls.open(&LIMITS, START, &mut server.inbox) {
        server.inbox.drain(..total);
    }
    assert!(server.tls.pending() > 0 && server.tls.is_handshaking(), "tickets wait");
    assert_eq!(server.tls.seal(&mut [0; 64], 1).unwrap_err().rule, Rule::TlsInternal);
    server.flush();
    assert_eq!(server.tls.seal(&mut [0; 64], 60).unwrap_err().rule, Rule::TlsInternal, "no room");
    assert_eq!(server.tls.seal(&mut [0; 20_000], 16_385).unwrap_err().rule, Rule::TlsInternal, "too long");
    server.send(b"now");
    assert_eq!(pump(&mut client, &mut server).unwrap(), b"now");
}

// ---- key updates ----

#[test]
fn keys_are_updated_by_either_side_and_by_both_at_once() {
    for suite in aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(|suite| suite.tls13().is_some()) {
        let site = Site::with(|provider| provider.cipher_suites = vec![*suite]);
        let (mut client, mut server) = open_pair(&site);
        for round in 0..9u8 {
            if round % 3 != 1 {
                client.refresh_traffic_keys().unwrap();
            }
            if round % 3 != 0 {
                server.tls.update_keys();
                server.tls.update_keys();
                assert_eq!(server.tls.pending(), 27);
            }
            server.plain.clear();
            server.send(&[round; 100]);
            let bytes = say(&mut client, &[round; 50]);
            server.feed(&bytes);
            assert_eq!(server.plain, [round; 50]);
            server.send(&[round; 10]);
            assert_eq!(pump(&mut client, &mut server).unwrap(), [round; 110]);
        }
        assert!(server.fault.is_none());
    }
}

#[test]
fn two_requests_before_an_answer_get_one_answer() {
    // TLS-12
    let (mut client, mut server) = open_pair(&Site::new());
    for _ in 0..3 {
        client.refresh_traffic_keys().unwrap();
        let bytes = from_client(&mut client);
        let mut bytes = &bytes[..];
        while !bytes.is_empty() {
            let mut raw = bytes.to_vec();
            match server.tls.open(&LIMITS, START, &mut raw).unwrap() {
                Opened::Consumed { total } => bytes = &bytes[total..],
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(server.tls.pending(), 27);
    }
    server.flush();
    assert_eq!(server.out.len(), 27);
    server.send(b"fine");
    assert_eq!(pump(&mut client, &mut server).unwrap(), b"fine");
}

#[test]
fn keys_that_wear_out_are_renewed_in_time() {
    let full = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let plain = Site::with(|provider| provider.cipher_suites = vec![full]);
    let site = Site {
        provider: Arc::new(CryptoProvider {
            cipher_suites: vec![bent(&full, |suite| suite.common.confidentiality_limit = 40)],
            ..(*plain.provider).clone()
        }),
        cert: plain.cert.clone(),
        key: plain.key.clone_key(),
        versions: plain.versions,
    };
    let (mut client, mut server) = (connect(plain.client()), Server::new(TlsConfig::new(site.server())));
    pump(&mut client, &mut server).unwrap();
    let mut updates = 0;
    for i in 0..500u32 {
        let before = server.out.len();
        server.send(&i.to_be_bytes());
        updates += (server.out.len() - before - 26) / 27;
    }
    assert!(updates >= 500 / 40, "{updates}");
    let expected: Vec<u8> = (0..500u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(pump(&mut client, &mut server).unwrap(), expected);
    // A caller that never flushes is stopped before the limit; the KeyUpdate and an alert still fit.
    let mut record = [0; 64];
    let stopped = (0..41).find_map(|_| server.tls.seal(&mut record, 1).err()).unwrap();
    assert_eq!(stopped.rule, Rule::TlsKeysWornOut);
    server.flush();
    assert!(server.tls.seal(&mut record, 1).is_ok());
}

#[test]
fn a_key_update_flood_is_stopped_whatever_lies_between() {
    // TLS-04
    let site = Site::new();
    let (mut client, mut server) = open_pair(&site);
    let mut passed = 0;
    while server.fault.is_none() {
        client.refresh_traffic_keys().unwrap();
        let bytes = say(&mut client, b"x");
        server.feed(&bytes);
        passed += 1;
        assert!(passed < 1_000);
    }
    assert_eq!(passed, 33);
    assert_eq!(server.fault.map(|fault| (fault.rule, fault.value)), Some((Rule::TlsKeyUpdateFlood, 32)));
    assert_eq!(server.plain.len(), 32);
    assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::UnexpectedMessage);

    // Ten a second are nobody's fault.
    let (mut client, mut server) = open_pair(&site);
    for second in 0..20 {
        server.now = Instant::from_millis(5_000 + second * 1_000);
        for _ in 0..10 {
            client.refresh_traffic_keys().unwrap();
            let bytes = say(&mut client, b"x");
            server.feed(&bytes);
            server.send(b"y"); // rustls's client counts our answers
            to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        }
    }
    assert!(server.fault.is_none() && server.plain.len() == 200);
}

#[test]
fn a_key_update_must_be_five_right_bytes_and_end_its_record() {
    let site = Site::new();
    let update = [24, 0, 0, 1, 0];
    for (parts, expected) in [
        (vec![&update[..]], None),
        (vec![&update[..1], &update[1..4], &update[4..]], None),
        (vec![&[24, 0, 0, 1, 2]], Some(Rule::TlsKeyUpdateValue)),
        (vec![&[24, 0, 0, 2, 0, 0]], Some(Rule::TlsKeyUpdate)),
        (vec![&[24, 0xff]], Some(Rule::TlsKeyUpdate)),
        (vec![&[24, 0, 0, 1, 0, 24]], Some(Rule::TlsKeyUpdate)),
        (vec![&update[..2], &[0, 1, 0, 24]], Some(Rule::TlsKeyUpdate)),
        (vec![&[]], Some(Rule::TlsRecordEmpty)),
        (vec![&[1]], Some(Rule::TlsPostHandshake)), // a new ClientHello: no renegotiation (TLS-05)
        (vec![&[11, 0, 0, 0]], Some(Rule::TlsPostHandshake)),
        (vec![&[4, 0, 0, 0]], Some(Rule::TlsPostHandshake)),
    ] {
        let (mut forger, mut server) = forged(&site);
        let before = server.tls.retained_bytes();
        for part in &parts {
            server.feed(&forger.record(22, part));
        }
        assert_eq!(rule(&server), expected, "{parts:?}");
        assert!(server.tls.retained_bytes() <= before);
    }
    let (mut forger, mut server) = forged(&site);
    server.feed(&forger.record(22, &update[..3]));
    server.feed(&forger.record(23, b"between"));
    assert_eq!(rule(&server), Some(Rule::TlsInnerPlaintext));
    assert!(server.plain.is_empty());
}

// ---- hostile handshakes ----

/// Feeds bytes whole and byte by byte; both must end the same way.
fn verdict(config: &TlsConfig, limits: &Limits, bytes: &[u8]) -> (Option<Violation>, Vec<u8>) {
    let mut whole = Server::limited(config.clone(), limits.clone());
    whole.feed(bytes);
    let mut slow = Server::limited(config.clone(), limits.clone());
    for byte in bytes {
        slow.feed(&[*byte]);
    }
    assert_eq!((whole.fault, &whole.out), (slow.fault, &slow.out));
    (whole.fault, whole.out)
}

#[test]
fn a_handshake_header_that_declares_megabytes_is_refused_at_once() {
    // TLS-01
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let mut server = Server::new(config.clone());
    server.feed(&plain_record(22, &[1]));
    server.feed(&plain_record(22, &[0xff]));
    server.feed(&plain_record(22, &[0xff]));
    assert!(server.fault.is_none() && server.tls.retained_bytes() < 2_048);
    server.feed(&plain_record(22, &[0xff]));
    let fault = server.fault.unwrap();
    assert_eq!((fault.rule, fault.value, fault.at), (Rule::TlsClientHelloTooLong, 16_384, 18));
    assert_eq!(server.out, [21, 3, 3, 0, 2, 2, 47]);
    for (declared, refused) in [(16_384u32, false), (16_385, true)] {
        let [_, a, b, c] = declared.to_be_bytes();
        let (fault, _) = verdict(&config, &LIMITS, &plain_record(22, &[1, a, b, c, 3]));
        assert_eq!(fault.is_some(), refused);
    }
    // Not a ClientHello, and something behind it.
    assert_eq!(verdict(&config, &LIMITS, &plain_record(22, &[2])).0.unwrap().rule, Rule::TlsRecordType);
    let behind = plain_record(22, &[1, 0, 0, 1, 9, 9]);
    assert_eq!(verdict(&config, &LIMITS, &behind).0.unwrap().rule, Rule::TlsRecordType);
    // A ClientHello that is none.
    let (fault, out) = verdict(&config, &LIMITS, &plain_record(22, &[1, 0, 0, 1, 9]));
    assert_eq!((fault.unwrap().rule, out.last()), (Rule::TlsHandshake, Some(&50)));
}

#[test]
fn a_handshake_has_an_end_in_records() {
    // TLS-02
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let limits = LIMITS.with(Limit::HandshakeRecords, 64).unwrap();
    let hello = refragment(&from_client(&mut connect(site.client())), 1);
    let (fault, out) = verdict(&config, &limits, &hello);
    let fault = fault.unwrap();
    assert_eq!((fault.rule, fault.at, fault.value), (Rule::TlsHandshakeRecords, 64 * 6, 64));
    assert_eq!(out, [21, 3, 3, 0, 2, 2, 10]);
}

#[test]
fn records_that_may_not_come_now_are_refused() {
    // TLS-03, TLS-05, TLS-10
    let config = TlsConfig::new(Site::new().server());
    let start = plain_record(22, &[1, 0, 1]);
    let after_start = |record: &[u8]| [&start, record].concat();
    for (bytes, expected, at, code) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), Rule::TlsPlainHttp, 0, 10),
        (b"P".to_vec(), Rule::TlsPlainHttp, 0, 10),
        (b"get".to_vec(), Rule::TlsRecordType, 0, 10),
        (vec![0x80, 0x2e, 1], Rule::TlsRecordType, 0, 10), // SSL 2
        (vec![22, b'G'], Rule::TlsRecordVersion, 1, 70),
        (vec![22, 3, 1, 0x40, 1], Rule::TlsRecordTooLong, 3, 22),
        (vec![22, 3, 1, 0, 0], Rule::TlsRecordEmpty, 3, 10),
        (vec![21, 3, 1, 0, 0], Rule::TlsRecordEmpty, 3, 10),
        (vec![23, 3, 3], Rule::TlsRecordType, 0, 10),
        (plain_record(20, &[1]), Rule::TlsChangeCipherSpec, 0, 10),
        (plain_record(21, &[2, 40, 0]), Rule::TlsAlertSyntax, 0, 50),
        (plain_record(21, &[3, 40]), Rule::TlsAlertSyntax, 0, 50),
        (after_start(&[23]), Rule::TlsRecordType, 8, 10),
        (after_start(&plain_record(20, &[1])), Rule::TlsChangeCipherSpec, 8, 10),
        (after_start(b"GET"), Rule::TlsRecordType, 8, 10),
    ] {
        let (fault, out) = verdict(&config, &LIMITS, &bytes);
        let fault = fault.unwrap();
        assert_eq!((fault.rule, fault.at), (expected, at), "{bytes:?}");
        assert_eq!(out, [21, 3, 3, 0, 2, 2, code], "{bytes:?}");
    }
    let (fault, out) = verdict(&config, &LIMITS, &plain_record(21, &[2, 40]));
    assert_eq!((fault.unwrap().rule, out.len()), (Rule::TlsPeerAlert, 0), "no answer to an alert");
    let warnings = plain_record(21, &[1, 90]).repeat(5);
    assert_eq!(verdict(&config, &LIMITS, &warnings[..28]).0, None);
    assert_eq!(verdict(&config, &LIMITS, &warnings).0.unwrap().rule, Rule::TlsWarnings);
}

#[test]
fn change_cipher_specs_are_counted() {
    // TLS-05. Under the handshake's keys rustls must be made to speak: the client can read the alert.
    let site = Site::new();
    for (content, count, expected) in [
        (&[1][..], 2, None),
        (&[1], 3, Some(Rule::TlsChangeCipherSpec)),
        (&[2], 1, Some(Rule::TlsChangeCipherSpec)),
        (&[1, 1], 1, Some(Rule::TlsChangeCipherSpec)),
    ] {
        let (mut client, mut server) = site.pair();
        server.feed(&from_client(&mut client));
        server.feed(&plain_record(20, content).repeat(count));
        assert_eq!(rule(&server), expected);
        let result = to_client(&mut client, &server.out);
        if expected.is_some() {
            assert_eq!(alert(result), AlertDescription::UnexpectedMessage);
        } else {
            result.unwrap();
            server.feed(&from_client(&mut client)[6..]); // without its own
            assert!(!server.tls.is_handshaking());
        }
    }
    let (mut client, mut server) = open_pair(&site);
    server.feed(&plain_record(20, &[1]));
    assert_eq!(rule(&server), Some(Rule::TlsChangeCipherSpec), "not after the handshake");
    assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::UnexpectedMessage);
}

#[test]
fn garbage_under_the_handshake_keys_is_a_bad_record() {
    let site = Site::new();
    for garbage in [plain_record(23, &[7; 60]), plain_record(23, &[7])] {
        let (mut client, mut server) = site.pair();
        server.feed(&from_client(&mut client));
        server.feed(&garbage);
        assert_eq!(rule(&server), Some(Rule::TlsBadRecord));
        assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::BadRecordMac);
    }
    let (mut client, mut server) = site.pair();
    server.feed(&from_client(&mut client));
    server.feed(&plain_record(22, &[1, 0, 0, 0]));
    assert_eq!(rule(&server), Some(Rule::TlsRecordType), "a second ClientHello that nobody asked for");
    assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::UnexpectedMessage);
}

#[test]
fn a_deadline_is_told_by_an_alert_in_every_state() {
    let site = Site::new();
    let late = Violation::over(Rule::HandshakeTimeout, 0, &LIMITS);
    let (mut client, mut server) = site.pair();
    server.tls.fail(late);
    server.flush();
    assert_eq!(server.out, [21, 3, 3, 0, 2, 1, 90]);
    let (mut again, mut second) = site.pair();
    second.feed(&from_client(&mut again));
    second.tls.fail(late);
    second.flush();
    assert_eq!(alert(to_client(&mut again, &second.out)), AlertDescription::UnexpectedMessage);
    let _ = from_client(&mut client);
    // HTTP's own rules have no alert: the road says close_notify instead, before or after.
    let (mut client, mut server) = open_pair(&site);
    server.tls.close();
    server.tls.fail(Violation::new(Rule::TargetSyntax, 0));
    server.flush();
    to_client(&mut client, &server.out).unwrap();
    assert!(client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn an_end_at_any_byte_of_the_second_flight_is_told_under_the_right_keys() {
    let (site, user) = (Site::new(), Site::new());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(user.roots()), site.provider.clone());
    let config = ServerConfig::builder_with_provider(site.provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![site.cert.clone()], site.key.clone_key())
        .unwrap();
    let config = TlsConfig::new(config).with_client_certificates();
    let mut offered = ClientConfig::builder_with_provider(site.provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(site.roots())
        .with_client_auth_cert(vec![user.cert.clone()], user.key.clone_key())
        .unwrap();
    offered.max_fragment_size = Some(64); // certificate and signature come in parts
    let offered = Arc::new(offered);
    // A signature is a byte or two shorter now and then, and so is the flight: the end is where this one ends.
    let (mut at, mut over) = (0, false);
    while !over {
        let (mut client, mut server) = (connect_to(offered.clone(), "localhost"), Server::new(config.clone()));
        server.feed(&from_client(&mut client));
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
        let flight = from_client(&mut client);
        over = at >= flight.len();
        server.feed(&flight[..at.min(flight.len())]);
        let done = !server.tls.is_handshaking();
        assert_eq!(done, over);
        server.tls.fail(Violation::new(Rule::TlsInternal, 0));
        server.flush();
        let told = alert(to_client(&mut client, &server.out));
        match done {
            true => assert_eq!(told, AlertDescription::InternalError),
            false => assert!(matches!(told, AlertDescription::UnexpectedMessage | AlertDescription::BadRecordMac)),
        }
        assert!(server.tls.pending() == 0 && server.tls.end().is_err());
        at += 1;
    }
}

// ---- hostile records ----

#[test]
fn a_record_that_was_tampered_with_does_not_open() {
    let site = Site::new();
    for at in [5, 10, 20, 25] {
        let (mut client, mut server) = open_pair(&site);
        let mut bytes = say(&mut client, b"secret");
        bytes[at] ^= 1;
        server.feed(&bytes);
        assert_eq!(rule(&server), Some(Rule::TlsBadRecord));
        assert!(server.plain.is_empty());
        assert_eq!(alert(to_client(&mut client, &server.out)), AlertDescription::BadRecordMac);
        assert_eq!(server.tls.pending(), 0);
    }
    // Replayed, and out of order.
    let (mut client, mut server) = open_pair(&site);
    let (one, two) = (say(&mut client, b"one"), say(&mut client, b"two"));
    server.feed(&one);
    server.feed(&one);
    assert_eq!((rule(&server), &server.plain[..]), (Some(Rule::TlsBadRecord), &b"one"[..]));
    assert_eq!(server.fault.unwrap().at, server_offset(&site, &one));
    let (mut client, mut server) = open_pair(&site);
    let _ = say(&mut client, b"one");
    server.feed(&two);
    assert_eq!(rule(&server), Some(Rule::TlsBadRecord));
}

/// Where in the received bytes the second record after the handshake begins.
fn server_offset(site: &Site, first: &[u8]) -> u64 {
    let (mut client, mut server) = site.pair();
    let mut count = 0;
    loop {
        let bytes = from_client(&mut client);
        if bytes.is_empty() {
            return (count + first.len()) as u64;
        }
        count += bytes.len();
        server.feed(&bytes);
        to_client(&mut client, &std::mem::take(&mut server.out)).unwrap();
    }
}

#[test]
fn a_record_must_fit_its_size_and_say_what_it_is() {
    // TLS-03
    let site = Site::new();
    let full = vec![b'a'; 16_384];
    let padded = |content: &[u8], kind: u8, zeros: usize| [content, &[kind], &vec![0; zeros]].concat();
    for (inner, expected) in [
        (padded(&full, 23, 0), Ok(16_384)),
        (padded(b"x", 23, 16_383), Ok(1)),
        (padded(b"x", 23, 1), Ok(1)),
        (padded(&full[..100], 23, 155), Ok(100)),
        (padded(&full, 23, 1), Err(Rule::TlsRecordTooLong)),
        (padded(b"x", 23, 16_384), Err(Rule::TlsRecordTooLong)),
        (vec![0; 1], Err(Rule::TlsInnerPlaintext)),
        (vec![0; 16_385], Err(Rule::TlsInnerPlaintext)),
        (padded(&[1], 20, 0), Err(Rule::TlsInnerPlaintext)),
        (padded(b"x", 24, 0), Err(Rule::TlsInnerPlaintext)),
        (padded(b"", 21, 0), Err(Rule::TlsRecordEmpty)),
        (padded(&[2], 21, 0), Err(Rule::TlsAlertSyntax)),
        (padded(&[2, 40, 2], 21, 0), Err(Rule::TlsAlertSyntax)),
        (padded(&[2, 40], 21, 9), Err(Rule::TlsPeerAlert)),
        (padded(&[1, 112], 21, 0), Err(Rule::TlsPeerAlert)), // no warnings but one in TLS 1.3
    ] {
        let (mut forger, mut server) = forged(&site);
        server.feed(&forger.inner(&inner));
        match expected {
            Ok(len) => assert_eq!((server.plain.len(), server.fault), (len, None)),
            Err(expected) => assert_eq!(rule(&server), Some(expected), "{} bytes", inner.len()),
        }
        assert_eq!(server.out.is_empty(), !matches!(expected, Err(rule) if rule != Rule::TlsPeerAlert));
    }
    for (header, expected, offset) in [
        (&[23, 3, 3, 0x41, 1][..], Rule::TlsRecordTooLong, 3),
        (&[23, 3, 3, 0, 16], Rule::TlsBadRecord, 3),
        (&[23, 3, 1], Rule::TlsRecordVersion, 2),
        (&[23, 4], Rule::TlsRecordVersion, 1),
        (&[22], Rule::TlsRecordType, 0),
        (&[21], Rule::TlsRecordType, 0),
        (b"G", Rule::TlsRecordType, 0),
    ] {
        let (client, mut server) = open_pair(&site);
        drop(client);
        let before = server_offset(&site, b"");
        server.feed(header);
        assert_eq!(server.fault.map(|fault| (fault.rule, fault.at)), Some((expected, before + offset)));
    }
}

#[test]
fn empty_records_and_warnings_are_counted() {
    // TLS-03, TLS-05
    let site = Site::new();
    let (mut forger, mut server) = forged(&site);
    for _ in 0..32 {
        server.feed(&forger.record(23, b""));
    }
    assert!(server.fault.is_none());
    server.feed(&forger.record(23, b""));
    assert_eq!(server.fault.map(|fault| (fault.rule, fault.value)), Some((Rule::TlsEmptyRecords, 32)));

    // Data resets the count of consecutive ones, but not the bucket.
    let (mut forger, mut server) = forged(&site);
    for _ in 0..32 {
        server.feed(&forger.record(23, b""));
        server.feed(&forger.record(23, b"x"));
    }
    assert!(server.fault.is_none());
    server.feed(&forger.record(23, b""));
    assert_eq!(rule(&server), Some(Rule::TlsKeyUpdateFlood));

    let (mut forger, mut server) = forged(&site);
    for _ in 0..4 {
        server.feed(&forger.record(21, &[1, 90]));
    }
    assert!(server.fault.is_none());
    server.feed(&forger.record(21, &[1, 90]));
    assert_eq!(rule(&server), Some(Rule::TlsWarnings));
}

#[test]
fn whatever_bytes_come_nothing_panics() {
    let site = Site::new();
    let config = TlsConfig::new(site.server());
    let hello = from_client(&mut connect(site.client()));
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..1_500 {
        let mut bytes = hello.clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        if random() % 3 == 0 {
            bytes.extend_from_slice(&plain_record(23, &vec![random() as u8; random() as usize % 300 + 1]));
            bytes.extend_from_slice(&plain_record([20, 21, 22, 23][random() as usize % 4], &[1, 2]));
        }
        let mut server = Server::new(config.clone());
        let cut = random() as usize % bytes.len();
        server.feed(&bytes[..cut]);
        server.feed(&bytes[cut..]);
        let _ = server.tls.end();
    }
    for _ in 0..300 {
        let (mut forger, mut server) = forged(&site);
        for _ in 0..20 {
            let len = random() as usize % 12;
            let content: Vec<u8> = (0..len).map(|_| (random() % 26) as u8).collect();
            let kind = 20 + (random() % 5) as u8;
            server.feed(&forger.record(kind, &content));
        }
    }
}
