//! In: certificates, names, and who may come. Out: what a TLS port needs, with the provider that this crate's features choose.
//!
//! [`Site`] is one configuration from PEM texts or files, [`Sites`] many of them chosen by what a client calls, [`Tickets`] the keys that
//! let sessions be resumed by any worker. [`from_pem`] and [`server_config`] make a plain [`ServerConfig`] to go on with.
//!
//! Nothing here is needed to use another provider: any [`rustls::ServerConfig`] makes a [`TlsConfig`].

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod site;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod sites;
mod tickets;

pub use rustls;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use site::Pem;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use site::{Site, Versions};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use sites::{SiteError, Sites, SitesBuilder};
pub use tickets::Tickets;
pub use vestibule::decrypt::TlsConfig;

/// What a TLS port is: one configuration for all clients, or [`Sites`].
#[derive(Clone, Debug)]
pub struct TlsChoice(Choice);

#[derive(Clone, Debug)]
enum Choice {
    One(TlsConfig),
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    Many {
        sites: Sites,
        fallback: TlsConfig,
    },
}

impl From<TlsConfig> for TlsChoice {
    fn from(config: TlsConfig) -> TlsChoice {
        TlsChoice(Choice::One(config))
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
impl From<Sites> for TlsChoice {
    fn from(sites: Sites) -> TlsChoice {
        let fallback = sites.fallback();
        TlsChoice(Choice::Many { sites, fallback })
    }
}

impl TlsChoice {
    /// What a connection begins with.
    pub(crate) fn config(&self) -> TlsConfig {
        match &self.0 {
            Choice::One(config) => config.clone(),
            #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
            Choice::Many { fallback, .. } => fallback.clone(),
        }
    }

    /// What it goes on with, once its ClientHello is there; `None`: the client calls somebody who is not here.
    pub(crate) fn choose(&self, _sni: Option<&str>, _alpn: &mut dyn Iterator<Item = &[u8]>) -> Option<TlsConfig> {
        match &self.0 {
            Choice::One(config) => Some(config.clone()),
            #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
            Choice::Many { sites, .. } => sites.choose_by(_sni, _alpn),
        }
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
    /// A file cannot be read.
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The roots of clients' certificates are not taken.
    Clients(rustls::server::VerifierBuilderError),
    /// There is no such site.
    NoSite,
    /// A site that is not the default one has no name.
    NoName,
    /// This is no name of a host.
    Name(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Pem(error) => write!(f, "not the PEM text that it should be: {error}"),
            TlsError::NoCertificate => f.write_str("no certificate in the PEM text"),
            TlsError::Rustls(error) => write!(f, "{error}"),
            TlsError::File { path, error } => write!(f, "{}: {error}", path.display()),
            TlsError::Clients(error) => write!(f, "the roots of clients: {error}"),
            TlsError::NoSite => f.write_str("there is no such site"),
            TlsError::NoName => f.write_str("it has no name and is not the default"),
            TlsError::Name(name) => write!(f, "not a host's name: {name}"),
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

/// A configuration for HTTP/2 and HTTP/1.1, in this order, over TLS 1.3 and 1.2, with resumption by tickets whose keys the
/// provider draws and rotates (see [`Tickets`]).
///
/// # Errors
/// The key does not fit the certificate, or the provider cannot use it.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
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
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    server_config(certificates(chain)?, PrivateKeyDer::from_pem_slice(key)?)
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File { path: path.into(), error })
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
