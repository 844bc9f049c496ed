//! What TLS costs in memory: nothing for a record, little for a connection. One test, since it counts every allocation.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, missing_docs, unsafe_code, clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use vestibule::decrypt::{Opened, Tls, TlsConfig};
use vestibule::{Instant, Limits};

struct Counting;
static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Opens everything in `raw`; returns the bytes of plaintext.
fn open_all(tls: &mut Tls, raw: &mut [u8]) -> usize {
    let (mut at, mut plain) = (0, 0);
    loop {
        match tls.open(&Limits::DEFAULT, Instant::ZERO, &mut raw[at..]).unwrap() {
            Opened::Consumed { total } => at += total,
            Opened::Plain { total, len, .. } => (at, plain) = (at + total, plain + len),
            _ => return plain,
        }
    }
}

fn shake(client: &mut ClientConnection, tls: &mut Tls) {
    let mut out = vec![0; 1 << 16];
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        open_all(tls, &mut bytes);
        let n = tls.flush(&mut out);
        if n == 0 && bytes.is_empty() {
            return;
        }
        let mut answer = &out[..n];
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}

#[test]
fn no_allocation_for_a_record_and_little_for_a_connection() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    for suite in [
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ] {
        let mut provider = aws_lc_rs::default_provider();
        // TLS 1.2 borrows the ciphers of TLS 1.3.
        provider.cipher_suites.retain(|other| *other == suite || (suite.tls13().is_none() && other.tls13().is_some()));
        let version = if suite.tls13().is_some() { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
        let provider = Arc::new(provider);
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.clone_key())
            .unwrap();
        server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        let config = TlsConfig::new(server);
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Arc::new(client);
        let connect = || ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap();

        // Warm-up: whatever rustls and the provider set up once.
        shake(&mut connect(), &mut Tls::new(&config));

        let mut peer = connect();
        let start = LIVE.load(Relaxed);
        let mut tls = Tls::new(&config);
        let fresh = LIVE.load(Relaxed) - start;
        drop(tls);
        tls = Tls::new(&config);
        shake(&mut peer, &mut tls);
        assert!(!tls.is_handshaking());

        // What the connection holds is what is freed with it.
        let held = LIVE.load(Relaxed);
        let said = tls.retained_bytes();
        let boxed = Box::new(tls);
        drop(boxed);
        let freed = held - LIVE.load(Relaxed);
        println!("{:?}: fresh {fresh}, open {freed}, said {said}, inline {}", suite.suite(), size_of::<Tls>());
        assert!(freed <= said && said <= Tls::BOUND_BYTES_OPEN, "{freed} {said}");
        assert!(fresh <= 2_048);

        let mut peer = connect();
        let mut tls = Tls::new(&config);
        shake(&mut peer, &mut tls);
        let mut raw = Vec::new();
        for size in (0..500).map(|i| [1, 100, 16_384][i % 3]) {
            peer.writer().write_all(&vec![7; size]).unwrap();
            while peer.wants_write() {
                peer.write_tls(&mut raw).unwrap();
            }
        }
        let mut record = vec![0; Tls::HEADER_MOST + Tls::FRAGMENT + Tls::TRAILER_MOST];
        let before = CALLS.load(Relaxed);
        let plain = open_all(&mut tls, &mut raw);
        for size in (0..500).map(|i| [1, 100, 16_384][i % 3]) {
            tls.seal(&mut record, size).unwrap();
        }
        let around = tls.header() + 2 + tls.trailer();
        tls.close();
        let closing = tls.flush(&mut record);
        assert_eq!(CALLS.load(Relaxed) - before, 0, "1000 records, no allocation");
        assert!(plain > 2_000_000 && closing == around);
    }
    identities();
    println!("peak {}", PEAK.load(Relaxed));
}

/// What clients' chains cost: what is said of them is what they hold, within the bound, also when the session is resumed.
fn identities() {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
    let (site, user) = (made("localhost"), made("user"));
    let key =
        |made: &rcgen::CertifiedKey<rcgen::KeyPair>| PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let roots = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        roots
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&user)), provider.clone());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![site.cert.der().clone()], key(&site))
        .unwrap();
    server.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    let config = TlsConfig::new(server).with_client_certificates();
    let bound = Tls::bound_bytes_with_identity(&Limits::DEFAULT);
    for (version, rest) in [&rustls::version::TLS12, &rustls::version::TLS13]
        .into_iter()
        .flat_map(|version| [0, 3_000, 60_000].map(|rest| (version, rest)))
    {
        let chain = [user.cert.der().clone(), CertificateDer::from(vec![7; rest])];
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots(&site))
            .with_client_auth_cert(chain[..if rest > 0 { 2 } else { 1 }].to_vec(), key(&user))
            .unwrap();
        let client = Arc::new(client);
        for round in 0..2 {
            let mut peer = ClientConnection::new(client.clone(), ServerName::try_from("localhost").unwrap()).unwrap();
            let mut tls = Tls::new(&config);
            shake(&mut peer, &mut tls);
            assert!(!tls.is_handshaking() && tls.identity().is_some());
            assert_eq!(tls.resumed(), round > 0 && rest < 8_000, "a long chain fits no ticket");
            let (held, said) = (LIVE.load(Relaxed), tls.retained_bytes());
            drop(tls);
            let freed = held - LIVE.load(Relaxed);
            println!("{version:?} {rest}: open {freed}, said {said}");
            assert!(freed <= said && said <= bound, "{version:?} {rest}: {freed} {said} {bound}");
            assert!(said <= freed + 3_000, "{version:?} {rest}: {freed} {said}");
        }
    }
}
