//! Many sites on one TLS port, over real sockets, wherever the handshakes and the records are done: certificates by name and after a reload,
//! clients with certificates, misdirected requests, and OpenSSL's client with TLS 1.2.

#![cfg(feature = "aws-lc-rs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use vestibule::{Event, Misuse};
use vestibule_std::Offload;
use vestibule_std::tls::{Site, Sites, Versions, provider};
use vestibule_suite::client::{Client, connect};
use vestibule_suite::{Running, start};

struct Made {
    der: CertificateDer<'static>,
    chain: String,
    key: String,
}

fn made(name: &str) -> Made {
    let made = rcgen::generate_simple_self_signed(vec![name.to_string()]).unwrap();
    Made { der: made.cert.der().clone(), chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Made {
    fn site(&self) -> Site {
        Site::from_pem(self.chain.as_bytes(), self.key.as_bytes())
    }
}

fn client(trusts: &[&Made], user: Option<&Made>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusts.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match user {
        Some(user) => {
            let key = PrivateKeyDer::from_pem_slice(user.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![user.der.clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    })
}

fn call(server: &Running, config: &Arc<ClientConfig>, name: &'static str) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(name).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), connect(server.addrs[1]))
}

/// Tells who asks, and by what.
fn whoami(event: Event<'_>) -> Result<(), Misuse> {
    if let Event::Request(mut request) = event {
        let text = match request.tls {
            Some(tls) => format!("{} {}", tls.version, tls.identity.map_or(0, |own| own.end_entity().len())),
            None => "plain".into(),
        };
        request.reply.text(200, &text)?;
    }
    Ok(())
}

fn serve(sites: &Sites, offload: Offload) -> Running {
    let sites = sites.clone();
    start::<vestibule_std::Std>(
        |b| b,
        move |b| b.https("127.0.0.1:0".parse().unwrap(), sites).offload(offload).service(|_| whoami),
    )
}

fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>, host: &str) -> (String, String) {
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
    let answer = Client::new(stream).answer();
    let (head, body) = (answer.head, answer.content);
    (head[9..12].to_string(), String::from_utf8(body).unwrap())
}

fn offloads() -> [Offload; 3] {
    let (mut handshakes, mut records) = (Offload::NONE, Offload::NONE);
    (handshakes.handshakes, records.records) = (true, true);
    [Offload::NONE, handshakes, records]
}

#[test]
fn sites_have_their_own_certificates_clients_and_hosts() {
    let [www, admin, staff] = [&made("www.example"), &made("admin.example"), &made("staff")];
    let sites = Sites::builder()
        .site(www.site().names(["www.example"]).versions(Versions::Tls12))
        .site(admin.site().names(["admin.example"]).require_clients(staff.chain.as_bytes()))
        .build()
        .unwrap();
    let (nobody, known) = (client(&[www, admin], None), client(&[www, admin], Some(staff)));
    for offload in offloads() {
        let server = serve(&sites, offload);
        let mut stream = call(&server, &nobody, "www.example");
        assert_eq!(ask(&mut stream, "www.example:8443"), ("200".into(), "TLSv1.2 0".into()));
        assert_eq!(ask(&mut stream, "admin.example").0, "421", "{offload}");
        for round in 0..2 {
            let mut stream = call(&server, &known, "admin.example");
            let told = format!("TLSv1.3 {}", staff.der.len());
            assert_eq!(ask(&mut stream, "admin.example"), ("200".into(), told), "{offload} {round}");
        }
        let mut stream = call(&server, &nobody, "admin.example");
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: admin.example\r\n\r\n");
        let refused = std::io::Read::read(&mut stream, &mut [0; 100]).unwrap_err().to_string();
        assert!(refused.contains("CertificateRequired"), "{refused}");
        let mut stream = call(&server, &nobody, "other.example");
        let refused = stream.write_all(b"x").unwrap_err().to_string();
        assert!(refused.contains("UnrecognisedName"), "{refused}");
        let mut told = server.incidents();
        told.sort();
        assert_eq!(told.len(), 3, "{told:?}");
    }
}

#[test]
fn a_reload_changes_the_next_handshake_and_no_connection_that_is_open() {
    let [old, new] = [&made("www.example"), &made("www.example")];
    let trusting = client(&[old, new], None);
    for offload in offloads() {
        let sites = Sites::builder().default_site(old.site()).build().unwrap();
        let server = serve(&sites, offload);
        let mut before = call(&server, &trusting, "www.example");
        assert_eq!(ask(&mut before, "a").0, "200");
        assert!(sites.replace(None, new.chain.as_bytes(), old.key.as_bytes()).is_err());
        sites.replace(None, new.chain.as_bytes(), new.key.as_bytes()).unwrap();
        let fresh = client(&[old, new], None); // without a session to resume
        let mut after = call(&server, &fresh, "www.example");
        assert_eq!((ask(&mut after, "a").0, ask(&mut before, "a").0), ("200".into(), "200".into()));
        let shown = |stream: &StreamOwned<ClientConnection, TcpStream>| {
            stream.conn.peer_certificates().and_then(|chain| chain.first().cloned())
        };
        assert_eq!((shown(&before), shown(&after)), (Some(old.der.clone()), Some(new.der.clone())));
        assert_eq!(server.incidents(), [""; 0]);
    }
}

fn openssl(args: &[&str], input: &[u8]) -> Option<String> {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("openssl is absent: its part is left out");
        return None;
    }
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Some(String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned())
}

#[test]
fn openssl_speaks_tls_1_2_with_every_cipher_and_resumes() {
    let www = &made("www.example");
    let sites = Sites::builder().default_site(www.site()).build().unwrap();
    for offload in [Offload::NONE, offloads()[2]] {
        let server = serve(&sites, offload);
        let at = server.addrs[1].to_string();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        for cipher in
            ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
        {
            let args = ["s_client", "-connect", &at, "-tls1_2", "-cipher", cipher, "-quiet", "-ign_eof"];
            let Some(told) = openssl(&args, request) else { return };
            assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("\r\n\r\nTLSv1.2 0"), "{cipher}: {told}");
        }
        // The same connection six times over, five of them resumed.
        let Some(told) = openssl(&["s_client", "-connect", &at, "-tls1_2", "-reconnect"], b"") else { return };
        assert_eq!(told.matches("Reused, TLSv1.2").count(), 5, "{told}");
    }
}
