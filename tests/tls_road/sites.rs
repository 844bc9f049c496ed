//! Both versions of TLS on the road; who the client is; whose host it calls; and connections whose TLS ended elsewhere.

use super::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use vestibule::decrypt::{Opened, Tls};
use vestibule::{Names, OwnedSession};

const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn name_of(versions: &[&SupportedProtocolVersion]) -> &'static str {
    if versions == OLD { "TLSv1.2" } else { "TLSv1.3" }
}

/// A server that asks for certificates if somebody may have one, and a client that has one.
fn pair(
    versions: &'static [&'static SupportedProtocolVersion],
    protocol: &str,
    asks: bool,
) -> (ServerConfig, Arc<ClientConfig>, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let user = rcgen::generate_simple_self_signed(vec!["user".into()]).unwrap();
    let key =
        |made: &rcgen::CertifiedKey<rcgen::KeyPair>| PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let roots = |cert: &CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        roots
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match asks {
        true => {
            let roots = Arc::new(roots(user.cert.der()));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
        }
        false => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(vec![made.cert.der().clone()], key(&made)).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(made.cert.der()))
        .with_client_auth_cert(vec![user.cert.der().clone()], key(&user))
        .unwrap();
    client.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    (server, Arc::new(client), user.cert.der().to_vec())
}

fn get(authority: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nhost: {authority}\r\n\r\n").into_bytes()
}

// ---- HTTP/2, as little of it as is needed ----

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// HEADERS of a request that ends its stream; no Huffman, no table.
fn headers(stream: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let literal = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block: Vec<u8> = fields.iter().flat_map(|(n, v)| [vec![0], literal(n), literal(v)].concat()).collect();
    [&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, stream], &block[..]].concat()
}

fn get_h2(stream: u8, authority: &str) -> Vec<u8> {
    headers(stream, &[(":method", "GET"), (":scheme", "https"), (":path", "/x"), (":authority", authority)])
}

/// The statuses of the responses in these frames, by stream.
fn statuses(mut frames: &[u8]) -> Vec<(u8, String)> {
    let mut table = loona_hpack::Decoder::new();
    let mut found = vec![];
    while let Some(head) = frames.first_chunk::<9>() {
        let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let block = &frames[9..9 + len];
        if head[3] == 1 {
            let fields = table.decode(block).unwrap();
            let status = fields.iter().find(|(name, _)| name == b":status").unwrap();
            found.push((head[8], String::from_utf8(status.1.clone()).unwrap()));
        }
        frames = &frames[9 + len..];
    }
    found
}

// ---- the road ----

#[test]
fn tls_1_2_leads_there_as_well_however_the_bytes_are_cut() {
    let (server, client, _) = pair(OLD, "http/1.1", false);
    let tls = TlsConfig::new(server);
    let json = br#"{"name":"vestibule","stages":[1,2,3,4,5,6]}"#;
    for cut in [1, 2, 5, 64, 333, usize::MAX] {
        let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
        client.writer().write_all(&post("/whole/1000", &gzip(json), "content-encoding: gzip\r\n")).unwrap();
        let answer = converse(&mut client, &mut server, cut);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(json), "cut {cut}");
        let resumed = if cut == 1 { "" } else { " resumed" };
        assert_eq!(server.events, [&format!("POST /whole/1000 TLSv1.2 http/1.1 localhost{resumed}")[..], "body last"]);
        client.send_close_notify();
        converse(&mut client, &mut server, cut);
        server.inbox.end();
        server.run();
        assert_eq!((server.pause, server.connection.end()), (Pause::Closed, Some(End::Clean)));
    }
}

#[test]
fn many_responses_of_a_turn_are_one_record_in_tls_1_2_and_long_ones_fill_records() {
    let (server, client, _) = pair(OLD, "http/1.1", false);
    let (mut client, mut server) = (connect(&client), Server::new(TlsConfig::new(server)));
    converse(&mut client, &mut server, 1000);
    client.writer().write_all(&get("a").repeat(10)).unwrap();
    let out = flight(&mut client);
    let back = server.feed(&out, usize::MAX);
    assert_eq!(back.len(), 5 + usize::from(u16::from_be_bytes([back[3], back[4]])), "ten responses, one record");
    assert_eq!(take(&mut client, &back).windows(15).filter(|w| w == b"HTTP/1.1 200 OK").count(), 10);
    let body: Vec<u8> = (0..60_000u32).map(|i| (i % 251) as u8).collect();
    client.set_buffer_limit(None);
    client.writer().write_all(&post("/whole/100000", &body, "")).unwrap();
    assert!(converse(&mut client, &mut server, 16_000).ends_with(&body));
}

#[test]
fn the_response_may_be_said_in_the_turn_that_ends_the_handshake() {
    // The client's Finished and its request come together, in a resumed handshake of TLS 1.2 and in any of TLS 1.3.
    for versions in [OLD, NEW] {
        let (server, client, _) = pair(versions, "http/1.1", false);
        let tls = TlsConfig::new(server);
        for round in 0..2 {
            let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
            client.writer().write_all(&get("a")).unwrap();
            assert!(converse(&mut client, &mut server, usize::MAX).starts_with(b"HTTP/1.1 200"), "{round}");
            assert_eq!(server.connection.session().unwrap().version, name_of(versions));
        }
    }
}

#[test]
fn requests_and_the_connection_say_who_the_client_is_also_when_resumed() {
    for (versions, protocol) in [(OLD, "http/1.1"), (NEW, "http/1.1"), (OLD, "h2"), (NEW, "h2")] {
        let (server, client, user) = pair(versions, protocol, true);
        let tls = TlsConfig::new(server).with_client_certificates();
        for round in 0..3 {
            let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
            assert_eq!(server.connection.session(), None);
            let request = match protocol {
                "h2" => [PREFACE, &get_h2(1, "a")].concat(),
                _ => get("a"),
            };
            client.writer().write_all(&request).unwrap();
            converse(&mut client, &mut server, 100);
            assert_eq!(server.users, [Some(user.clone())], "of the event: {protocol} {round}");
            let session = server.connection.session().unwrap();
            assert_eq!((session.version, session.resumed), (name_of(versions), round > 0));
            assert_eq!(session.identity.unwrap().chain().collect::<Vec<_>>(), [&user[..]]);
            let bound = server.connection.config().machine_bound_bytes();
            assert!(server.connection.retained_bytes() <= bound);
            assert_eq!(bound - Config::new(Limits::DEFAULT).machine_bound_bytes(), {
                Tls::bound_bytes_with_identity(&Limits::DEFAULT)
            });
        }
    }
}

#[test]
fn a_client_hello_may_be_refused() {
    for cut in [1, usize::MAX] {
        let (server, client, _) = pair(NEW, "http/1.1", false);
        let (mut client, mut server) = (connect(&client), Server::new(TlsConfig::new(server).ask()));
        server.refuses = true;
        let hello = flight(&mut client);
        let back = server.feed(&hello, cut);
        client.read_tls(&mut &back[..]).unwrap();
        let told = client.process_new_packets().unwrap_err();
        assert_eq!(told, rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName));
        assert_eq!(server.events, ["hello localhost 1", "fault TlsServerName"]);
    }
}

/// The same server whose cipher may seal this many records.
fn short_lived(limit: u64) -> (TlsConfig, Arc<ClientConfig>) {
    use rustls::crypto::{CipherSuiteCommon, CryptoProvider, aws_lc_rs};
    use rustls::{SupportedCipherSuite, Tls12CipherSuite};
    let (server, client, _) = pair(OLD, "http/1.1", false);
    let provider = server.crypto_provider();
    let suites = provider.cipher_suites.iter().filter_map(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) if suite.common.suite.as_str()?.contains("AES_128_GCM") => {
            let CipherSuiteCommon { suite: name, hash_provider, .. } = suite.common;
            let common = CipherSuiteCommon { suite: name, hash_provider, confidentiality_limit: limit };
            let Tls12CipherSuite { prf_provider, kx, sign, aead_alg, .. } = **suite;
            let bent = Tls12CipherSuite { common, prf_provider, kx, sign, aead_alg };
            Some(SupportedCipherSuite::Tls12(Box::leak(Box::new(bent))))
        }
        SupportedCipherSuite::Tls12(_) => None,
        other => Some(*other),
    });
    let cipher_suites = suites.collect();
    let provider = CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() };
    let mut bent = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(server.cert_resolver.clone());
    bent.alpn_protocols.clone_from(&server.alpn_protocols);
    (TlsConfig::new(bent), client)
}

#[test]
fn keys_of_tls_1_2_that_wear_out_end_the_connection_and_never_a_response_by_halves() {
    let (tls, client) = short_lived(40);
    let (mut one, mut server) = (connect(&client), Server::new(tls.clone()));
    let mut closes = None;
    for n in 0..40 {
        one.writer().write_all(&get("a")).unwrap();
        let answer = String::from_utf8(converse(&mut one, &mut server, 1000)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{n}");
        if answer.to_ascii_lowercase().contains("connection: close") {
            closes = Some(n);
            break;
        }
    }
    assert!(matches!(closes, Some(28..32)), "{closes:?}: with a quarter left");
    // One response that is too long for them: it is told that it is not whole.
    let (mut two, mut server) = (connect(&client), Server::new(tls));
    two.set_buffer_limit(None);
    let body = vec![b'x'; 1_000_000];
    two.writer().write_all(&post("/whole/1000000", &body, "")).unwrap();
    let (mut heard, mut told) = (0, None);
    while told.is_none() {
        let out = flight(&mut two);
        let back = server.feed(&out, 16_000);
        assert!(!out.is_empty() || !back.is_empty(), "something goes on until the end is told: {:?}", server.events);
        let mut rest = &back[..];
        while !rest.is_empty() && told.is_none() {
            two.read_tls(&mut rest).unwrap();
            told = two.process_new_packets().err();
            let mut part = vec![0; 1 << 16];
            while let Ok(n @ 1..) = two.reader().read(&mut part) {
                heard += n;
            }
        }
    }
    assert_eq!(told, Some(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)));
    assert!(heard > 300_000 && heard < body.len(), "{heard}");
    assert_eq!(server.last(), "fault TlsKeysWornOut");
}

// ---- misdirected requests (TLS-09) ----

/// Authorities, and whether they are served by `localhost, *.w.example`, with `b.w.example` somebody else's.
const AUTHORITIES: &[(&str, bool)] = &[
    ("localhost", true),
    ("LocalHost:443", true),
    ("a.w.example", true),
    ("A.W.example:8443", true),
    ("w.example", false),
    ("a.a.w.example", false),
    ("b.w.example", false),
    ("localhost.", false),
    ("localhost.evil.example", false),
    ("127.0.0.1", false),
    ("[::1]:443", false),
];

fn names() -> Names {
    Names::of(["localhost", "*.w.example"]).without(["b.w.example"])
}

#[test]
fn a_host_outside_the_names_of_the_configuration_is_answered_with_421_in_every_version() {
    for versions in [OLD, NEW] {
        for chosen in [false, true] {
            // Said by the first configuration, or by the one that is chosen for the ClientHello.
            let start = |protocol: &str| {
                let (server, client, _) = pair(versions, protocol, false);
                let tls = TlsConfig::new(server);
                let named = tls.clone().with_names(names());
                let mut server = match chosen {
                    true => Server::new(tls.with_names(Names::of(["nobody"])).ask()),
                    false => Server::new(named.clone()),
                };
                server.fallback = chosen.then_some(named);
                (connect(&client), server)
            };
            for &(authority, served) in AUTHORITIES {
                let (mut client, mut server) = start("http/1.1");
                client.writer().write_all(&get(authority)).unwrap();
                let answer = String::from_utf8(converse(&mut client, &mut server, 100)).unwrap();
                let expected = if served { "HTTP/1.1 200 OK\r\n" } else { "HTTP/1.1 421 Misdirected Request\r\n" };
                assert!(answer.starts_with(expected), "{authority}: {answer}");
                assert_eq!(server.last() == "fault Misdirected", !served);
            }
            let (mut client, mut server) = start("h2");
            let mut wire = PREFACE.to_vec();
            for (n, (authority, _)) in AUTHORITIES.iter().enumerate() {
                wire.extend(get_h2(2 * n as u8 + 1, authority));
            }
            client.writer().write_all(&wire).unwrap();
            let found = statuses(&converse(&mut client, &mut server, 100));
            let status = |served: bool| if served { "200" } else { "421" }.to_string();
            let mut expected: Vec<_> =
                AUTHORITIES.iter().enumerate().map(|(n, a)| (2 * n as u8 + 1, status(a.1))).collect();
            expected.sort();
            let mut found = found;
            found.sort();
            assert_eq!(found, expected, "the connection lives on, each stream for itself");
            // None of them reached a handler.
            let requests = server.events.iter().filter(|event| event.starts_with("GET")).count();
            assert_eq!(requests, AUTHORITIES.iter().filter(|a| a.1).count());
        }
    }
}

#[test]
fn the_authority_is_the_one_of_the_target_and_of_a_tunnel_none() {
    let (server, client, _) = pair(NEW, "http/1.1", false);
    let tls = TlsConfig::new(server).with_names(names());
    let ask = |wire: &[u8]| {
        let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
        client.writer().write_all(wire).unwrap();
        let answer = converse(&mut client, &mut server, 100);
        String::from_utf8_lossy(&answer[9..12]).into_owned()
    };
    assert_eq!(ask(b"GET https://localhost/ HTTP/1.1\r\nhost: localhost\r\n\r\n"), "200");
    assert_eq!(ask(b"GET https://b.w.example/ HTTP/1.1\r\nhost: b.w.example\r\n\r\n"), "421");
    assert_eq!(ask(b"GET / HTTP/1.1\r\nhost:\r\n\r\n"), "421");
    assert_eq!(ask(b"GET / HTTP/1.0\r\n\r\n"), "421", "no host is none of ours");
    assert_eq!(ask(b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n"), "200");
    assert_eq!(ask(b"OPTIONS * HTTP/1.1\r\nhost: other\r\n\r\n"), "421");
    assert_ne!(ask(b"CONNECT other:1 HTTP/1.1\r\nhost: other:1\r\n\r\n"), "421");
    // A request with a body: nothing of that is read for the next one.
    assert_eq!(ask(b"POST / HTTP/1.1\r\nhost: other\r\ncontent-length: 5\r\n\r\nGET /"), "421");

    let (server, client, _) = pair(NEW, "h2", false);
    let tls = TlsConfig::new(server).with_names(names());
    let ask = |fields: &[(&str, &str)]| {
        let (mut client, mut server) = (connect(&client), Server::new(tls.clone()));
        client.writer().write_all(&[PREFACE, &headers(1, fields)].concat()).unwrap();
        statuses(&converse(&mut client, &mut server, 100)).first().map(|found| found.1.clone())
    };
    let host = [(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "other")];
    assert_eq!(ask(&host).as_deref(), Some("421"), "Host where there is no :authority");
    let tunnel = [(":method", "CONNECT"), (":authority", "other:1")];
    assert_ne!(ask(&tunnel).as_deref(), Some("421"));
    let socket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/x"),
        (":authority", "other"),
    ];
    assert_eq!(ask(&socket).as_deref(), Some("421"), "an extended CONNECT is a request like any other");
}

// ---- TLS that ended elsewhere ----

fn session(alpn: Option<&[u8]>) -> OwnedSession {
    let session = OwnedSession::new("TLSv1.3", "TLS13_AES_128_GCM_SHA256").with_sni("localhost");
    match alpn {
        Some(alpn) => session.with_alpn(alpn),
        None => session,
    }
}

/// A connection of this session; what it answers to these bytes.
fn protected(session: OwnedSession, wire: &[u8], cut: usize) -> (Vec<u8>, Server) {
    let config = Arc::new(Config::new(Limits::DEFAULT));
    let connection = Connection::protected(config, Instant::ZERO, session);
    let mut server = Server::over(connection);
    let answer = server.feed(wire, cut);
    (answer, server)
}

#[test]
fn a_given_session_is_in_its_requests_and_nothing_is_sealed() {
    for cut in [1, 7, usize::MAX] {
        let chain = [&b"own"[..], b"issuer"];
        let given = session(Some(b"http/1.1")).with_chain(chain.into_iter()).with_resumption();
        let (answer, server) = protected(given.clone(), &get("a"), cut);
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(server.events, ["GET /x TLSv1.3 http/1.1 localhost resumed"]);
        assert_eq!(server.users, [Some(b"own".to_vec())]);
        assert_eq!(server.connection.session(), Some(given.lend()));
        let identity = given.lend().identity.unwrap();
        assert_eq!(identity.chain().collect::<Vec<_>>(), chain);
        assert_eq!(OwnedSession::from(&given.lend()), given);
        let bound = Config::new(Limits::DEFAULT).machine_bound_bytes();
        let kept = size_of::<OwnedSession>() + given.retained_bytes();
        assert!((kept..=bound + kept).contains(&server.connection.retained_bytes()));
    }
}

#[test]
fn the_given_protocol_decides_and_nothing_is_sniffed() {
    // TLS-08
    let h2 = [PREFACE, &get_h2(1, "a")].concat();
    for cut in [1, 9, usize::MAX] {
        let (answer, server) = protected(session(Some(b"h2")), &h2, cut);
        assert_eq!(statuses(&answer), [(1, "200".to_string())]);
        assert_eq!(server.events, ["GET /x TLSv1.3 h2 localhost"]);
        let (_, server) = protected(session(Some(b"h2")), &get("a"), cut);
        assert_eq!(server.last(), "fault PrefaceSyntax");
        for other in [None, Some(&b"http/1.1"[..])] {
            let (answer, server) = protected(session(other), &h2, cut);
            assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
            assert_eq!(server.last(), "fault Http2Preface");
        }
    }
    // Even if the configuration knows TLS, this connection has none of its own.
    let (tls, _) = site(&[]);
    let config = Arc::new(Config::new(Limits::DEFAULT).with_tls(tls));
    let mut server = Server::over(Connection::protected(config, Instant::ZERO, session(None)));
    assert!(server.feed(&get("a"), 1).starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn the_names_of_a_given_session_count() {
    let h1 = session(None).with_names(names());
    for &(authority, served) in AUTHORITIES {
        let (answer, _) = protected(h1.clone(), &get(authority), 11);
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), served, "{authority}");
        assert_eq!(answer.starts_with(b"HTTP/1.1 421"), !served, "{authority}");
        let wire = [PREFACE, &get_h2(1, authority)].concat();
        let (answer, _) = protected(session(Some(b"h2")).with_names(names()), &wire, 11);
        assert_eq!(statuses(&answer)[0].1 == "421", !served, "{authority}");
    }
}

#[test]
fn a_thread_of_its_own_may_do_the_records_and_hand_over_the_session() {
    // Tls alone on one side, a protected connection on the other, plaintext between them.
    for versions in [OLD, NEW] {
        let (server, client, user) = pair(versions, "http/1.1", true);
        let config = TlsConfig::new(server).with_client_certificates().with_names(names());
        let mut tls = Tls::new(&config);
        let mut client = connect(&client);
        assert_eq!(OwnedSession::of(&tls), None);
        let (mut raw, mut road) = (vec![], None::<Server>);
        let body: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
        client.set_buffer_limit(None);
        client.writer().write_all(&post("/whole/100000", &body, "")).unwrap();
        let mut heard = vec![];
        loop {
            let bytes = flight(&mut client);
            raw.extend_from_slice(&bytes);
            let mut out = vec![];
            loop {
                let (total, plain) = match tls.open(&Limits::DEFAULT, Instant::ZERO, &mut raw).unwrap() {
                    Opened::Plain { total, skip, len } => (total, raw[skip..skip + len].to_vec()),
                    Opened::Consumed { total } => (total, vec![]),
                    _ => break,
                };
                raw.drain(..total);
                if !plain.is_empty() {
                    let road = road.get_or_insert_with(|| {
                        let session = OwnedSession::of(&tls).unwrap();
                        let config = Arc::new(Config::new(Limits::DEFAULT));
                        Server::over(Connection::protected(config, Instant::ZERO, session))
                    });
                    let answer = road.feed(&plain, 1_000);
                    let mut rest = &answer[..];
                    while !rest.is_empty() {
                        let mut room = [0; 9_000];
                        let flushed = tls.flush(&mut room);
                        let (taken, written) = tls.seal_from(rest, &mut room[flushed..]).unwrap();
                        out.extend_from_slice(&room[..flushed + written]);
                        rest = &rest[taken..];
                    }
                }
            }
            let mut room = vec![0; 30_000];
            let flushed = tls.flush(&mut room);
            out.extend_from_slice(&room[..flushed]);
            heard.extend(take(&mut client, &out));
            if bytes.is_empty() && out.is_empty() {
                break;
            }
        }
        assert!(heard.ends_with(&body));
        let road = road.unwrap();
        let found = road.connection.session().unwrap();
        assert_eq!(found.identity.unwrap().end_entity(), user);
        assert_eq!((found.version, found.sni), (name_of(versions), Some("localhost")));
        assert_eq!(OwnedSession::of(&tls).unwrap().names(), Some(&names()));
    }
}
