//! In: PEM texts, files, certificates. Out: rustls's configuration with the provider that this crate's features choose.

use super::{Tickets, TlsError};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// The crypto provider: aws-lc-rs, with post-quantum key exchange; or ring, if only that feature is on.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// A configuration for HTTP/2 and HTTP/1.1, in this order, over TLS 1.3 and 1.2, with resumption by tickets whose keys the
/// provider draws and rotates (see [`Tickets`]).
///
/// # Errors
/// The key does not fit the certificate, or the provider cannot use it.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Tickets::new()?.0;
    Ok(config)
}

/// The same from PEM texts: a certificate chain, the server's own first, and its private key (PKCS #8, PKCS #1 or SEC1).
///
/// # Errors
/// See [`TlsError`].
pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    server_config(certificates(chain)?, PrivateKeyDer::from_pem_slice(key)?)
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File { path: path.into(), error })
}

#[cfg(all(test, feature = "aws-lc-rs"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pem_texts_make_a_configuration_and_bad_ones_say_why() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let config = from_pem(cert.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
        assert!(matches!(from_pem(b"", key.as_bytes()), Err(TlsError::NoCertificate)));
        assert!(matches!(from_pem(cert.as_bytes(), b"nonsense"), Err(TlsError::Pem(_))));
        let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let wrong = from_pem(cert.as_bytes(), other.signing_key.serialize_pem().as_bytes());
        assert!(matches!(wrong, Err(TlsError::Rustls(_))));
    }
}
