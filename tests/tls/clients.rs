//! Client certificates, optional and required, in both versions: who the client is, after a resumption too, and what it may not send.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::UnixTime;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use vestibule::decrypt::BoundedVerifier;

pub(super) const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(super) const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A chain from a root over one intermediate, and its key.
pub(super) struct User {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) roots: Arc<RootCertStore>,
}

impl User {
    pub(super) fn new() -> User {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params, KeyPair::generate().unwrap())
        };
        let (root, root_key) = authority("root");
        let root_cert = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let (middle, middle_key) = authority("middle");
        let middle_cert = middle.signed_by(&middle_key, &root).unwrap();
        let middle = Issuer::new(middle, middle_key);
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["user".to_string()]).unwrap().signed_by(&key, &middle).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root_cert.der().clone()).unwrap();
        User {
            chain: vec![own.der().clone(), middle_cert.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            roots: Arc::new(roots),
        }
    }
}

/// Whether clients have to show a certificate.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Policy {
    Optional,
    Required,
}

impl Site {
    pub(super) fn server_for(&self, user: &User, policy: Policy) -> ServerConfig {
        let builder = WebPkiClientVerifier::builder_with_provider(user.roots.clone(), self.provider.clone());
        let verifier = match policy {
            Policy::Optional => builder.allow_unauthenticated().build().unwrap(),
            Policy::Required => builder.build().unwrap(),
        };
        self.server_with(Arc::new(BoundedVerifier::new(verifier, &LIMITS)))
    }

    fn server_with(&self, verifier: Arc<dyn ClientCertVerifier>) -> ServerConfig {
        ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.cert.clone()], self.key.clone_key())
            .unwrap()
    }

    pub(super) fn client_as(&self, chain: &[CertificateDer<'static>], user: &User) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain.to_vec(), user.key.clone_key())
            .unwrap();
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

fn identity(server: &Server) -> Option<Vec<Vec<u8>>> {
    server.tls.identity().map(|identity| identity.chain().map(<[u8]>::to_vec).collect())
}

#[test]
fn the_identity_is_the_chain_also_after_a_resumption() {
    for versions in [OLD, NEW] {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        for policy in [Policy::Optional, Policy::Required] {
            let mut config = site.server_for(&user, policy);
            config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
            let config = TlsConfig::new(config).with_client_certificates();
            let offered = Arc::new(site.client_as(&user.chain, &user));
            for round in 0..3 {
                let mut client = connect_to(offered.clone(), "localhost");
                let mut server = Server::new(config.clone());
                pump(&mut client, &mut server).unwrap();
                assert_eq!(server.tls.resumed(), round > 0, "{policy:?}");
                let chain: Vec<_> = user.chain.iter().map(|certificate| certificate.to_vec()).collect();
                assert_eq!(server.tls.identity().unwrap().end_entity(), &chain[0][..]);
                assert_eq!(identity(&server), Some(chain.clone()));
                // Kept once by us, and in TLS 1.3 once by rustls.
                let kept = chain.iter().map(|certificate| certificate.len() + 3).sum::<usize>();
                let times = if versions == NEW { 2 } else { 1 };
                assert!(server.tls.retained_bytes() <= Tls::BOUND_BYTES_OPEN + times * kept);
                assert!(server.tls.retained_bytes() > times * kept);
                server.feed(&say(&mut client, b"hi"));
                assert_eq!(server.plain, b"hi");
            }
        }
    }
}

#[test]
fn whoever_has_none_may_come_where_it_is_optional_and_is_told_where_it_is_required() {
    for versions in [OLD, NEW] {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        let optional = TlsConfig::new(site.server_for(&user, Policy::Optional)).with_client_certificates();
        let (mut client, mut server) = (connect(site.client()), Server::new(optional));
        pump(&mut client, &mut server).unwrap();
        assert!(!server.tls.is_handshaking() && server.tls.identity().is_none());
        let required = TlsConfig::new(site.server_for(&user, Policy::Required)).with_client_certificates();
        let (mut client, mut server) = (connect(site.client()), Server::new(required));
        assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::CertificateRequired);
        assert_eq!(rule(&server), Some(Rule::TlsCertificateMissing));
    }
}

#[test]
fn a_strangers_chain_is_refused() {
    for versions in [OLD, NEW] {
        let (site, user, stranger) = (Site { versions, ..Site::new() }, User::new(), User::new());
        for policy in [Policy::Optional, Policy::Required] {
            let config = TlsConfig::new(site.server_for(&user, policy)).with_client_certificates();
            let mut client = connect(site.client_as(&stranger.chain, &stranger));
            let mut server = Server::new(config);
            alert(pump(&mut client, &mut server));
            assert_eq!(rule(&server), Some(Rule::TlsCertificate));
            assert!(server.tls.identity().is_none() && server.tls.is_handshaking());
        }
    }
}

/// Accepts every chain, and counts them.
#[derive(Debug)]
struct Anyone(Arc<dyn ClientCertVerifier>, AtomicUsize);

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[test]
fn a_chain_ends_where_the_limits_say_before_and_behind_the_verifier() {
    // TLS-11
    for versions in [OLD, NEW] {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        let real = WebPkiClientVerifier::builder_with_provider(user.roots.clone(), site.provider.clone());
        let anyone = Arc::new(Anyone(real.build().unwrap(), AtomicUsize::new(0)));
        let own = user.chain[0].len();
        let limits = LIMITS.with(Limit::ClientCertificates, 3).unwrap();
        let limits = limits.with(Limit::ClientCertificateBytes, own as u64 + 6_000).unwrap();
        let blob = |size: usize| CertificateDer::from(vec![7; size]);
        // What is sent, and the rule if the verifier passes on everything.
        let cases = [
            (vec![blob(3_000), blob(3_000)], None),
            (vec![blob(3_000), blob(3_001)], Some(Rule::TlsCertificatesTooLong)),
            (vec![blob(1), blob(1), blob(1)], Some(Rule::TlsCertificatesTooMany)),
        ];
        for (rest, expected) in cases {
            let chain = [&[user.chain[0].clone()], &rest[..]].concat();
            for guarded in [false, true] {
                let verifier: Arc<dyn ClientCertVerifier> = match guarded {
                    true => Arc::new(BoundedVerifier::new(anyone.clone(), &limits)),
                    false => anyone.clone(),
                };
                let calls = anyone.1.load(Ordering::Relaxed);
                let config = TlsConfig::new(site.server_with(verifier)).with_client_certificates();
                let mut server = Server::limited(config, limits.clone());
                let mut client = connect(site.client_as(&chain, &user));
                let result = pump(&mut client, &mut server);
                let asked = anyone.1.load(Ordering::Relaxed) - calls;
                match expected {
                    None => assert_eq!((identity(&server).map(|chain| chain.len()), asked), (Some(3), 1)),
                    Some(_) if guarded => {
                        assert_eq!((rule(&server), asked), (Some(Rule::TlsCertificate), 0));
                        assert_eq!(alert(result), AlertDescription::BadCertificate);
                    }
                    Some(expected) => {
                        assert_eq!((rule(&server), asked), (Some(expected), 1));
                        assert_eq!(alert(result), AlertDescription::BadCertificate);
                        // Whatever it says now is not heard.
                        server.inbox.extend_from_slice(&[23, 3, 3, 0, 40]);
                        assert!(server.tls.open(&limits, START, &mut server.inbox).is_err());
                        assert!(server.tls.identity().is_none());
                    }
                }
            }
        }
    }
}

#[test]
fn a_chain_that_nobody_announced_is_not_kept() {
    for versions in [OLD, NEW] {
        let (site, user) = (Site { versions, ..Site::new() }, User::new());
        let mut server = Server::new(TlsConfig::new(site.server_for(&user, Policy::Optional)));
        let mut client = connect(site.client_as(&user.chain, &user));
        assert_eq!(alert(pump(&mut client, &mut server)), AlertDescription::InternalError);
        assert_eq!(rule(&server), Some(Rule::TlsInternal));
        let mut server = Server::new(TlsConfig::new(site.server_for(&user, Policy::Optional)));
        pump(&mut connect(site.client()), &mut server).unwrap();
        assert_eq!(server.fault, None);
    }
}
