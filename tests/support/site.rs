//! A TLS server's configuration, a client's that trusts it, and dice.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use vestibule::decrypt::TlsConfig;

pub fn site() -> (TlsConfig, Arc<ClientConfig>) {
    site_for(&[])
}

/// The server speaks `http/1.1` and hands out tickets; the client offers these protocols.
pub fn site_for(protocols: &[&str]) -> (TlsConfig, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("a ticketer");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    (TlsConfig::new(server), Arc::new(client))
}

/// rustls's client, with what it was told.
pub struct Client {
    tls: ClientConnection,
    pub heard: Vec<u8>,
}

impl Client {
    pub fn new(config: &Arc<ClientConfig>) -> Client {
        let mut tls = ClientConnection::new(config.clone(), ServerName::try_from("localhost").expect("a name"))
            .expect("a client");
        tls.set_buffer_limit(None);
        Client { tls, heard: Vec::new() }
    }

    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Bytes of the server.
    pub fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).expect("a slice");
            self.tls.process_new_packets().expect("valid records");
            let mut part = vec![0; 1 << 16];
            while let Ok(n @ 1..) = self.tls.reader().read(&mut part) {
                self.heard.extend_from_slice(&part[..n]);
            }
        }
    }

    /// Plaintext for the server, in records of `record` bytes at most.
    pub fn say(&mut self, bytes: &[u8], record: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in bytes.chunks(record) {
            self.tls.writer().write_all(part).expect("no limit");
            out.extend(self.wire());
        }
        out
    }

    /// Bytes for the server, as TLS wants it.
    pub fn wire(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out).expect("a vector");
        }
        out
    }
}

/// xorshift64*: every run the same.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}
