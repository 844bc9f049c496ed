//! In: a certificate chain and its key. Out: what a TLS port needs, with the provider that this crate's features choose.
//!
//! Nothing here is needed to use another provider: any [`rustls::ServerConfig`] makes a [`TlsConfig`].

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;

pub use rustls;
pub use vestibule::decrypt::TlsConfig;

/// What a TLS port is: one configuration for all clients.
#[derive(Clone, Debug)]
pub struct TlsChoice {
    config: TlsConfig,
}

impl From<TlsConfig> for TlsChoice {
    fn from(config: TlsConfig) -> TlsChoice {
        TlsChoice { config }
    }
}

impl TlsChoice {
    pub(crate) fn config(&self) -> TlsConfig {
        self.config.clone()
    }

    pub(crate) fn choose(&self, _hello: &vestibule::Hello<'_>) -> TlsConfig {
        self.config.clone()
    }
}

/// Why a TLS configuration could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text cannot be read.
    Pem(rustls::pki_types::pem::Error),
    /// There is no certificate in it.
    NoCertificate,
    /// rustls refuses the certificate or the key.
    Rustls(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Pem(error) => write!(f, "not the PEM text that it should be: {error}"),
            TlsError::NoCertificate => f.write_str("no certificate in the PEM text"),
            TlsError::Rustls(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<rustls::pki_types::pem::Error> for TlsError {
    fn from(error: rustls::pki_types::pem::Error) -> TlsError {
        TlsError::Pem(error)
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        TlsError::Rustls(error)
    }
}

/// The crypto provider: aws-lc-rs, with post-quantum key exchange; or ring, if only that feature is on.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// A configuration for HTTP/2 and HTTP/1.1, in this order, over TLS 1.3, with resumption by tickets whose keys the
/// provider draws and rotates.
///
/// # Errors
/// The key does not fit the certificate, or the provider cannot use it.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    #[cfg(feature = "aws-lc-rs")]
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    #[cfg(not(feature = "aws-lc-rs"))]
    let ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.ticketer = ticketer;
    Ok(config)
}

/// The same from PEM texts: a certificate chain, the server's own first, and its private key (PKCS #8, PKCS #1 or SEC1).
///
/// # Errors
/// See [`TlsError`].
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    server_config(chain, PrivateKeyDer::from_pem_slice(key)?)
}

/// Writes the secrets of every connection to the file that the environment variable `SSLKEYLOGFILE` names, so that a capture can
/// be read. Only when this is called, and only if the variable is set.
pub fn log_keys(config: &mut ServerConfig) {
    config.key_log = Arc::new(rustls::KeyLogFile::new());
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
