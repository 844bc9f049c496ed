//! Sites against rustls's client, over a pipe in memory: who gets which certificate, before and after a reload, and whose sessions are resumed.

#![allow(clippy::unwrap_used)]

use super::*;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::path::Path;
use vestibule::decrypt::{Opened, Tls};
use vestibule::{Instant, Limits};

/// A certificate that signs itself, and its key.
struct Made {
    der: CertificateDer<'static>,
    chain: String,
    key: String,
}

fn made(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Made { der: made.cert.der().clone(), chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

impl Made {
    fn site(&self) -> Site {
        Site::from_pem(self.chain.as_bytes(), self.key.as_bytes())
    }
}

/// A client that trusts these certificates.
fn client(trusts: &[&Made]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    trusts.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn client_as(trusts: &[&Made], user: &Made) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    trusts.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(user.key.as_bytes());
    let key: PrivateKeyDer<'static> = key.unwrap();
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![user.der.clone()], key)
        .unwrap()
}

/// Both ends of one connection.
struct Pair {
    client: ClientConnection,
    tls: Tls,
    raw: Vec<u8>,
    heard: Vec<u8>,
}

impl Pair {
    fn new(sites: &Sites, config: &Arc<ClientConfig>, name: &'static str) -> Pair {
        let client = ClientConnection::new(config.clone(), ServerName::try_from(name).unwrap()).unwrap();
        let mut pair = Pair { client, tls: Tls::new(&sites.fallback()), raw: vec![], heard: vec![] };
        pair.pump(Some(sites));
        pair
    }

    fn pump(&mut self, sites: Option<&Sites>) {
        loop {
            let before = self.raw.len();
            while self.client.wants_write() {
                self.client.write_tls(&mut self.raw).unwrap();
            }
            let said = self.raw.len() - before;
            loop {
                match self.tls.open(&Limits::DEFAULT, Instant::ZERO, &mut self.raw) {
                    Ok(Opened::Consumed { total }) => drop(self.raw.drain(..total)),
                    Ok(Opened::Plain { total, skip, len }) => {
                        self.heard.extend_from_slice(&self.raw[skip..skip + len]);
                        self.raw.drain(..total);
                    }
                    Ok(Opened::Hello) => {
                        let hello = self.tls.hello().unwrap();
                        match sites.unwrap().choose_by(hello.sni, &mut hello.alpn.into_iter()) {
                            Some(config) => self.tls.choose(&config),
                            None => self.tls.fail(vestibule::Violation::new(vestibule::Rule::TlsServerName, 0)),
                        }
                    }
                    Ok(_) => break,
                    Err(violation) => {
                        self.tls.fail(violation);
                        break;
                    }
                }
            }
            let mut out = vec![0; 1 << 16];
            let n = self.tls.flush(&mut out);
            let mut out = &out[..n];
            while !out.is_empty() {
                self.client.read_tls(&mut out).unwrap();
                if self.client.process_new_packets().is_err() {
                    return;
                }
            }
            if said == 0 && n == 0 {
                return;
            }
        }
    }

    /// The certificate that the client got, if all went well on both sides.
    fn shown(&self) -> Option<&CertificateDer<'static>> {
        let done = !self.tls.is_handshaking() && !self.client.is_handshaking();
        self.client.peer_certificates().filter(|_| done)?.first()
    }

    fn resumed(&self) -> bool {
        assert!(self.shown().is_some());
        self.tls.resumed()
    }
}

/// A directory that goes away with its test.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("vestibule-tls-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_most_exact_name_is_chosen_and_the_default_for_the_rest() {
    let all = ["a.example", "x.a.example", "y.a.example", "other.example"];
    let [exact, wild, default] = [&made(&all), &made(&all), &made(&all)];
    let builder = || {
        Sites::builder().site(wild.site().names(["*.A.example", "a.example"])).site(exact.site().names(["x.a.EXAMPLE"]))
    };
    let sites = builder().default_site(default.site()).build().unwrap();
    let trusting = Arc::new(client(&[exact, wild, default]));
    for (name, expected) in
        [("a.example", wild), ("x.a.example", exact), ("y.a.example", wild), ("other.example", default)]
    {
        assert_eq!(Pair::new(&sites, &trusting, name).shown(), Some(&expected.der), "{name}");
        // Without a default, whoever calls another name is refused.
        let pair = Pair::new(&builder().build().unwrap(), &trusting, name);
        assert_eq!(pair.shown().is_some(), expected.der != default.der, "{name}");
    }
    let chosen = |sni| {
        let config = sites.choose_by(sni, &mut std::iter::empty()).unwrap();
        Arc::as_ptr(config.server())
    };
    // Beside what a client of rustls can call: the same as somebody whose certificate was seen above.
    for (sni, same) in [
        (None, "other.example"),
        (Some("X.A.Example"), "x.a.example"),
        (Some(".a.example"), "other.example"),
        (Some("z.x.a.example"), "other.example"),
        (Some("*.a.example"), "a.example"),
    ] {
        assert_eq!(chosen(sni), chosen(Some(same)), "{sni:?}");
    }
    assert!(builder().build().unwrap().choose_by(None, &mut std::iter::empty()).is_none());
}

#[test]
fn each_site_serves_its_own_names_and_the_default_what_is_nobody_elses() {
    let one = made(&["a.example"]);
    let sites = Sites::builder()
        .site(one.site().names(["*.a.example"]))
        .site(one.site().names(["x.a.example"]))
        .default_site(one.site())
        .build()
        .unwrap();
    let serve =
        |sni, authority| sites.choose_by(sni, &mut std::iter::empty()).unwrap().names().unwrap().serve(authority);
    assert!(serve(Some("y.a.example"), "y.a.example") && serve(Some("y.a.example"), "z.a.example:443"));
    assert!(!serve(Some("y.a.example"), "x.a.example"), "that is another site's");
    assert!(serve(Some("x.a.example"), "x.a.example") && !serve(Some("x.a.example"), "y.a.example"));
    assert!(serve(None, "b.example") && serve(None, "") && !serve(None, "x.a.example") && !serve(None, "y.a.example"));
    // One alone serves everything, unless it says what.
    let alone = Sites::builder().default_site(one.site()).build().unwrap();
    assert!(alone.choose_by(None, &mut std::iter::empty()).unwrap().names().is_none());
    assert!(one.site().config().unwrap().names().is_none());
    assert!(!one.site().names(["a.example"]).config().unwrap().names().unwrap().serve("b.example"));
}

#[test]
fn the_protocol_decides_between_sites_of_one_name() {
    let [web, special] = [&made(&["a.example"]), &made(&["a.example"])];
    let sites = Sites::builder()
        .site(web.site().names(["a.example"]))
        .site(special.site().names(["a.example"]).alpn(["acme-tls/1"]))
        .build()
        .unwrap();
    for (offer, expected) in [
        (&[&b"h2"[..]][..], Some(web)),
        (&[b"acme-tls/1"], Some(special)),
        (&[b"acme-tls/1", b"http/1.1"], Some(web)),
        (&[], Some(web)),
        (&[b"spdy/3"], None),
    ] {
        let mut config = client(&[web, special]);
        config.alpn_protocols = offer.iter().map(|protocol| protocol.to_vec()).collect();
        let pair = Pair::new(&sites, &Arc::new(config), "a.example");
        assert_eq!(pair.shown(), expected.map(|made| &made.der), "{offer:?}");
    }
}

#[test]
fn a_reload_is_seen_by_the_next_handshake_and_a_bad_one_by_none() {
    let dir = Dir::new("reload");
    let [old, new, other] = [&made(&["a.example"]), &made(&["a.example"]), &made(&["b.example"])];
    let (chain, key) = (dir.write("chain.pem", &old.chain), dir.write("key.pem", &old.key));
    let (other_chain, other_key) = (dir.write("other.pem", &other.chain), dir.write("other.key", &other.key));
    let sites = Sites::builder()
        .site(Site::from_files(&chain, &key).names(["a.example"]))
        .site(Site::from_files(&other_chain, &other_key).names(["b.example"]))
        .build()
        .unwrap();
    let mut trusting = client(&[old, new, other]);
    trusting.resumption = rustls::client::Resumption::disabled();
    let trusting = Arc::new(trusting);
    let shown = |name| Pair::new(&sites, &trusting, name).shown().cloned();
    let mut open = Pair::new(&sites, &trusting, "a.example");
    assert_eq!(open.shown(), Some(&old.der));

    // The chain is new already, the key not yet: nothing happens, and why is said.
    dir.write("chain.pem", &new.chain);
    let refused = sites.reload().unwrap_err();
    assert!(matches!(&refused.error, TlsError::Rustls(_)), "{refused}");
    assert_eq!(shown("a.example"), Some(old.der.clone()));
    // What is good elsewhere does not count either.
    dir.write("key.pem", &new.key);
    std::fs::remove_file(&other_key).unwrap();
    let refused = sites.clone().reload().unwrap_err();
    assert_eq!(refused.site, "b.example");
    assert!(refused.to_string().contains("other.key"), "{refused}");
    assert_eq!(shown("a.example"), Some(old.der.clone()));
    dir.write("other.key", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n");
    assert!(matches!(sites.reload().unwrap_err().error, TlsError::Pem(_)));
    dir.write("other.key", &other.key);
    sites.reload().unwrap();
    assert_eq!((shown("a.example"), shown("b.example")), (Some(new.der.clone()), Some(other.der.clone())));

    // Who was there before goes on.
    std::io::Write::write_all(&mut open.client.writer(), b"still here").unwrap();
    open.pump(None);
    assert_eq!(open.heard, b"still here");

    // PEM texts instead, by name.
    sites.replace(Some("A.example"), old.chain.as_bytes(), old.key.as_bytes()).unwrap();
    assert_eq!((shown("a.example"), shown("b.example")), (Some(old.der.clone()), Some(other.der.clone())));
    sites.reload().unwrap();
    assert_eq!(shown("a.example"), Some(old.der.clone()), "its files are no longer its own");
    for (name, chain, key) in [
        (Some("a.example"), &new.chain, &old.key),
        (Some("c.example"), &new.chain, &new.key),
        (None, &new.chain, &new.key),
        (Some("a.example"), &String::new(), &new.key),
    ] {
        assert!(sites.replace(name, chain.as_bytes(), key.as_bytes()).is_err());
        assert_eq!(shown("a.example"), Some(old.der.clone()));
    }
}

#[test]
fn handshakes_under_way_and_reloads_do_not_meet() {
    // A handshake that has chosen goes on with what it chose.
    let [old, new] = [&made(&["a.example"]), &made(&["a.example"])];
    let sites = Sites::builder().site(old.site().names(["a.example"])).build().unwrap();
    let chosen = sites.choose_by(Some("a.example"), &mut std::iter::empty()).unwrap();
    sites.replace(Some("a.example"), new.chain.as_bytes(), new.key.as_bytes()).unwrap();
    let again = sites.choose_by(Some("a.example"), &mut std::iter::empty()).unwrap();
    assert!(!Arc::ptr_eq(chosen.server(), again.server()));
    // Readers on other threads see the one or the other, whole.
    let trusting = Arc::new(client(&[old, new]));
    std::thread::scope(|scope| {
        let (sites, trusting) = (&sites, &trusting);
        let reader = scope.spawn(move || (0..20).all(|_| Pair::new(sites, trusting, "a.example").shown().is_some()));
        for made in [old, new].into_iter().cycle().take(20) {
            sites.replace(Some("a.example"), made.chain.as_bytes(), made.key.as_bytes()).unwrap();
        }
        assert!(reader.join().unwrap());
    });
}

#[test]
fn sessions_live_through_a_reload_but_not_at_another_site_or_under_other_roots() {
    let dir = Dir::new("sessions");
    let one = made(&["a.example", "b.example"]);
    let [user, other] = [made(&["user"]), made(&["other"])];
    let roots = dir.write("roots.pem", &user.chain);
    for versions in [Versions::Tls13, Versions::Tls12] {
        let sites = Sites::builder()
            .site(one.site().names(["a.example"]).versions(versions).allow_clients_of_file(&roots))
            .site(one.site().names(["b.example"]).versions(versions))
            .build()
            .unwrap();
        let known = Arc::new(client_as(&[&one], &user));
        let visit = |name| {
            let pair = Pair::new(&sites, &known, name);
            let identity = pair.tls.identity().map(|identity| identity.end_entity().to_vec());
            (pair.resumed(), identity)
        };
        let own = Some(user.der.to_vec());
        assert_eq!(visit("a.example"), (false, own.clone()));
        assert_eq!(visit("a.example"), (true, own.clone()));
        sites.reload().unwrap();
        assert_eq!(visit("a.example"), (true, own.clone()), "nothing about its clients has changed");
        assert_eq!(visit("b.example"), (false, None));
        assert_eq!(visit("b.example"), (true, None));
        // Roots that do not know this client any more: its ticket is worth nothing.
        dir.write("roots.pem", &other.chain);
        sites.reload().unwrap();
        assert!(Pair::new(&sites, &known, "a.example").shown().is_none(), "{versions:?}");
        assert_eq!(visit("b.example"), (true, None));
        dir.write("roots.pem", &user.chain);
    }
}

#[test]
fn clients_may_or_must_show_a_certificate_and_versions_are_as_said() {
    let (one, user, stranger) = (made(&["a.example"]), made(&["user"]), made(&["stranger"]));
    let roots = user.chain.as_bytes();
    for (site, without, with, strange) in [
        (one.site(), true, true, true),
        (one.site().allow_clients(roots), true, true, false),
        (one.site().require_clients(roots), false, true, false),
    ] {
        let sites = Sites::builder().default_site(site).build().unwrap();
        let comes = |config| Pair::new(&sites, &Arc::new(config), "a.example").tls.is_handshaking();
        let asked = [client(&[&one]), client_as(&[&one], &user), client_as(&[&one], &stranger)].map(comes);
        assert_eq!(asked.map(|failed| !failed), [without, with, strange]);
    }
    for (versions, name) in [(Versions::Both, "TLSv1.3"), (Versions::Tls13, "TLSv1.3"), (Versions::Tls12, "TLSv1.2")] {
        let sites = Sites::builder().default_site(one.site().versions(versions)).build().unwrap();
        assert_eq!(Pair::new(&sites, &Arc::new(client(&[&one])), "a.example").tls.version(), Some(name));
    }
}

#[test]
fn what_is_wrong_with_a_site_is_said_of_that_site() {
    let one = made(&["a.example"]);
    let build = |site: Site| Sites::builder().site(site).build().unwrap_err();
    assert!(matches!(Sites::builder().build().unwrap_err().error, TlsError::NoSite));
    assert!(matches!(build(one.site()).error, TlsError::NoName));
    for name in ["", "*", "*.", "a b", "a..b", "a.example.", "a:443", "*.*.a", "ä.example", "a/b", "[::1"] {
        let refused = build(one.site().names([name]));
        assert!(matches!(refused.error, TlsError::Name(_)), "{name}: {refused}");
        assert_eq!(refused.site, name);
    }
    for name in ["a.example", "*.a", "localhost", "192.0.2.1", "[::1]", "x_y.a-b.example"] {
        assert!(Sites::builder().site(one.site().names([name])).build().is_ok(), "{name}");
    }
    assert!(matches!(build(one.site().names(["a"]).require_clients(b"")).error, TlsError::NoCertificate));
    let missing = Site::from_files(Path::new("/nowhere/chain.pem"), "/nowhere/key.pem").names(["a"]);
    assert_eq!(build(missing.clone()).site, "a");
    assert!(matches!(missing.config().unwrap_err(), TlsError::File { .. }));
    assert!(!format!("{:?}", one.site()).contains("PRIVATE"));
}
