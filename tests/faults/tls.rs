//! TLS: rustls's client on the other side, which has all the memory that it wants.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::io::{Read, Write};
use vestibule::decrypt::TlsConfig;
use vestibule::{Config, Connection, Inbox, Instant, Limits, Outbox};

use super::failing::armed;
use super::scenes::{Seen, Stage};
use super::{road, wires};

/// A handshake, requests and answers in records, an orderly end. `certificate`: the client shows who it is, and the server keeps it.
pub fn conversation(version: &'static SupportedProtocolVersion, certificate: bool) -> Stage {
    let (tls, client) = sides(version, certificate);
    let config = Arc::new(Config::new(Limits::DEFAULT).with_tls(tls.clone()));
    let wire = wires::h1();
    Box::new(move |output| talk((&config, &tls), &client, &wire, output))
}

fn sides(version: &'static SupportedProtocolVersion, certificate: bool) -> (TlsConfig, Arc<ClientConfig>) {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
    let (site, user) = (made("localhost"), made("user"));
    let key =
        |made: &rcgen::CertifiedKey<rcgen::KeyPair>| PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let roots = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        roots
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let server = match certificate {
        true => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&user)), provider.clone());
            server.with_client_cert_verifier(verifier.build().unwrap())
        }
        false => server.with_no_client_auth(),
    };
    let mut server = server.with_single_cert(vec![site.cert.der().clone()], key(&site)).unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {}); // which would fill up from run to run
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let client = client.with_root_certificates(roots(&site));
    let mut client = match certificate {
        true => client.with_client_auth_cert(vec![user.cert.der().clone()], key(&user)).unwrap(),
        false => client.with_no_client_auth(),
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    client.resumption = rustls::client::Resumption::disabled(); // every run is like the first
    let tls = TlsConfig::new(server).ask();
    (if certificate { tls.with_client_certificates() } else { tls }, Arc::new(client))
}

/// Says `wire` and hears `output`, until both sides are done or the server ends it.
fn talk(
    (config, tls): (&Arc<Config>, &TlsConfig),
    client: &Arc<ClientConfig>,
    wire: &[u8],
    output: &mut Vec<u8>,
) -> Seen {
    output.clear();
    let mut peer = ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
    peer.set_buffer_limit(None);
    let mut inbox = Inbox::new(vec![0; config.inbox_bytes()]);
    let mut outbox = Outbox::new(vec![0; 32_768]);
    let mut seen = Seen::default();
    let (mut raw, mut said, mut hears) = (Vec::with_capacity(1 << 20), false, true);
    let mut connection = armed(|| Connection::new(config.clone(), Instant::ZERO));
    for _ in 0..1_000 {
        if !peer.is_handshaking() && !said {
            said = true;
            peer.writer().write_all(wire).unwrap();
            if peer.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                peer.refresh_traffic_keys().unwrap();
            }
            peer.send_close_notify();
        }
        let mut bytes = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        loop {
            rest = &rest[inbox.fill(rest)..];
            raw.clear();
            road::turns(&mut connection, &mut inbox, &mut outbox, &mut raw, &mut seen, Some(tls));
            hears = hears && hear(&mut peer, &raw, output);
            if rest.is_empty() || seen.closed {
                break;
            }
        }
        if seen.closed {
            break;
        }
        if bytes.is_empty() && raw.is_empty() {
            inbox.end();
        }
    }
    armed(|| connection.shed());
    armed(|| drop(connection));
    seen.sum = output.iter().fold(7, |sum: u64, b| (sum ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    seen
}

/// What the client makes of it; that the server gave up is no fault of the test.
fn hear(peer: &mut ClientConnection, mut raw: &[u8], output: &mut Vec<u8>) -> bool {
    let mut part = [0; 4_096];
    while !raw.is_empty() {
        peer.read_tls(&mut raw).unwrap();
        if peer.process_new_packets().is_err() {
            return false;
        }
        while let Ok(n @ 1..) = peer.reader().read(&mut part) {
            output.extend_from_slice(&part[..n]);
        }
    }
    true
}
