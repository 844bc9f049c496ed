//! In: certificates, names, and who may come. Out: what a TLS port needs, with the provider that this crate's features choose.
//!
//! [`Site`] is one configuration from PEM texts or files, [`Sites`] many of them chosen by what a client calls, [`Tickets`] the keys that
//! let sessions be resumed by any worker. [`from_pem`] and [`server_config`] make a plain [`ServerConfig`] to go on with.
//!
//! Nothing here is needed to use another provider: any [`rustls::ServerConfig`] makes a [`TlsConfig`].

use rustls::ServerConfig;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod made;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod site;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod sites;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tickets;

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use made::{certificates, read};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use made::{from_pem, provider, server_config};
pub use rustls;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use site::Pem;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use site::{Site, Versions};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use sites::{SiteError, Sites, SitesBuilder};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
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
    pub fn config(&self) -> TlsConfig {
        match &self.0 {
            Choice::One(config) => config.clone(),
            #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
            Choice::Many { fallback, .. } => fallback.clone(),
        }
    }

    /// What it goes on with, once its ClientHello is there: by the server name and the protocols that the client offers. `None`: it calls
    /// somebody who is not here.
    pub fn choose(&self, _sni: Option<&str>, _alpn: &mut dyn Iterator<Item = &[u8]>) -> Option<TlsConfig> {
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

/// Writes the secrets of every connection to the file that the environment variable `SSLKEYLOGFILE` names, so that a capture can
/// be read. Only when this is called, and only if the variable is set.
pub fn log_keys(config: &mut ServerConfig) {
    config.key_log = Arc::new(rustls::KeyLogFile::new());
}

#[cfg(all(test, feature = "aws-lc-rs"))]
mod tests;
