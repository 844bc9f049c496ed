//! In: a client's chain of certificates, and whoever can judge it. Out: the judgement, of chains that are worth one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::base::{Limit, Limits};

/// A verifier of client certificates behind caps: a chain with more certificates than [`Limit::ClientCertificates`], or more bytes
/// than [`Limit::ClientCertificateBytes`], is refused (bad_certificate) before anybody parses it.
///
/// The machine keeps these caps as well, but only once the chain was verified and the handshake is done.
///
/// ```
/// # use std::sync::Arc;
/// # fn verifier() -> Option<Arc<dyn rustls::server::danger::ClientCertVerifier>> { None }
/// use vestibule::Limits;
/// use vestibule::decrypt::BoundedVerifier;
///
/// # let Some(verifier) = verifier() else { return };
/// let verifier = Arc::new(BoundedVerifier::new(verifier, &Limits::DEFAULT));
/// // rustls::ServerConfig::builder().with_client_cert_verifier(verifier) ...
/// ```
#[derive(Debug)]
pub struct BoundedVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    certificates: usize,
    bytes: usize,
}

impl BoundedVerifier {
    /// Puts the caps of `limits` in front of `inner`.
    pub fn new(inner: Arc<dyn ClientCertVerifier>, limits: &Limits) -> BoundedVerifier {
        BoundedVerifier {
            inner,
            certificates: limits.size(Limit::ClientCertificates),
            bytes: limits.size(Limit::ClientCertificateBytes),
        }
    }
}

impl ClientCertVerifier for BoundedVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = intermediates.iter().fold(end_entity.len(), |sum, one| sum.saturating_add(one.len()));
        if intermediates.len() >= self.certificates || bytes > self.bytes {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }
}
