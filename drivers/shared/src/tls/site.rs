//! In: what a site is called, its certificate, who may come. Out: its TLS configuration, made anew whenever it is asked for.

use super::{Tickets, TlsError, certificates, provider, read};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use vestibule::decrypt::{BoundedVerifier, TlsConfig};
use vestibule::{Limits, Names};

/// The versions of TLS that a site speaks.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Versions {
    /// TLS 1.3 and 1.2.
    #[default]
    Both,
    /// TLS 1.3 alone.
    Tls13,
    /// TLS 1.2 alone.
    Tls12,
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Versions::Both => BOTH,
            Versions::Tls13 => BOTH.get(..1).unwrap_or_default(),
            Versions::Tls12 => BOTH.get(1..).unwrap_or_default(),
        }
    }
}

/// A PEM text, here or in a file.
#[derive(Clone)]
pub(super) enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

impl Pem {
    fn bytes(&self) -> Result<Arc<[u8]>, TlsError> {
        match self {
            Pem::Text(text) => Ok(text.clone()),
            Pem::File(path) => read(path).map(Arc::from),
        }
    }
}

/// The policy for client certificates.
#[derive(Clone)]
enum Clients {
    Nobody,
    Optional(Pem),
    Required(Pem),
}

/// One site of a TLS port: its names, its certificate and what else decides how it is reached. Goes into [`Sites`](super::Sites), or alone
/// into [`Site::config`].
///
/// ```no_run
/// use vestibule_driver::tls::{Site, Versions};
/// # fn site() -> Result<(), vestibule_driver::tls::TlsError> {
/// let site = Site::from_files("fullchain.pem", "key.pem")
///     .names(["example.com", "*.example.com"])
///     .versions(Versions::Tls13)
///     .require_clients_of_file("partners.pem");
/// let config = site.config()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Site {
    pub(super) names: Vec<String>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) chain: Pem,
    pub(super) key: Pem,
    versions: Versions,
    clients: Clients,
    tickets: Option<Tickets>,
    log_keys: bool,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("names", &self.names).finish_non_exhaustive() // never the key
    }
}

impl Site {
    fn new(chain: Pem, key: Pem) -> Site {
        Site {
            names: Vec::new(),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            chain,
            key,
            versions: Versions::default(),
            clients: Clients::Nobody,
            tickets: None,
            log_keys: false,
        }
    }

    /// Its certificate chain, the server's own first, and the private key (PKCS #8, PKCS #1 or SEC1), as PEM texts.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Site {
        Site::new(Pem::Text(chain.into()), Pem::Text(key.into()))
    }

    /// The same in files, which a reload reads again.
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Site {
        Site::new(Pem::File(chain.into()), Pem::File(key.into()))
    }

    /// The hosts that it serves: exact names, and wildcards for one label (`*.example.com`). It is chosen for clients that call one of
    /// them, and a request for another host gets 421.
    pub fn names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Site {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// The application protocols in the server's order of preference (RFC 7301); default `h2`, `http/1.1`. None at all: the client's
    /// are ignored, and HTTP/1.1 is spoken.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Site {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// The versions of TLS; default both.
    pub fn versions(mut self, versions: Versions) -> Site {
        self.versions = versions;
        self
    }

    /// Clients may show a certificate that one of these roots has issued (PEM text). Requests say whose it is
    /// ([`Session::identity`](vestibule::Session)); who shows none has none, who shows a stranger's is refused.
    pub fn allow_clients(mut self, roots: &[u8]) -> Site {
        self.clients = Clients::Optional(Pem::Text(roots.into()));
        self
    }

    /// The same with roots in a file, which a reload reads again.
    pub fn allow_clients_of_file(mut self, roots: impl Into<PathBuf>) -> Site {
        self.clients = Clients::Optional(Pem::File(roots.into()));
        self
    }

    /// Clients have to show a certificate that one of these roots has issued (PEM text).
    pub fn require_clients(mut self, roots: &[u8]) -> Site {
        self.clients = Clients::Required(Pem::Text(roots.into()));
        self
    }

    /// The same with roots in a file, which a reload reads again.
    pub fn require_clients_of_file(mut self, roots: impl Into<PathBuf>) -> Site {
        self.clients = Clients::Required(Pem::File(roots.into()));
        self
    }

    /// The keys of its tickets; default its own, or those of its [`Sites`](super::Sites).
    pub fn tickets(mut self, tickets: &Tickets) -> Site {
        self.tickets = Some(tickets.clone());
        self
    }

    /// Writes the secrets of its connections to the file that the environment variable `SSLKEYLOGFILE` names, so that a capture can be
    /// read; default no.
    pub fn log_keys(mut self, on: bool) -> Site {
        self.log_keys = on;
        self
    }

    /// Its configuration, for a port with one site.
    ///
    /// # Errors
    /// A file cannot be read, a PEM text is none, or rustls refuses what is in it.
    pub fn config(&self) -> Result<TlsConfig, TlsError> {
        let config = self.make(&Tickets::new()?, b"")?;
        Ok(if self.names.is_empty() { config } else { config.with_names(Names::of(&self.names)) })
    }

    /// Its configuration without the hosts that it serves. `binding`: what tells it from its neighbours.
    pub(super) fn make(&self, tickets: &Tickets, binding: &[u8]) -> Result<TlsConfig, TlsError> {
        let provider = provider();
        let chain = certificates(&self.chain.bytes()?)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key.bytes()?)?;
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(self.versions.list())?;
        let mut policy = Vec::new();
        let builder = match &self.clients {
            Clients::Nobody => builder.with_no_client_auth(),
            Clients::Optional(roots) | Clients::Required(roots) => {
                let required = matches!(self.clients, Clients::Required(_));
                let roots = certificates(&roots.bytes()?)?;
                policy.push(if required { 2 } else { 1 });
                policy.extend_from_slice(&digest(&provider, &roots)?);
                builder.with_client_cert_verifier(verifier(provider, &roots, required)?)
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols.clone_from(&self.alpn);
        config.ticketer = self.tickets.as_ref().unwrap_or(tickets).0.clone();
        if self.log_keys {
            super::log_keys(&mut config);
        }
        // A session is resumed where the same clients are let in under the same name.
        let asks = !policy.is_empty();
        let binding = [&(binding.len() as u64).to_be_bytes(), binding, &policy].concat();
        let config = TlsConfig::bound_to(config, &binding);
        Ok(if asks { config.with_client_certificates() } else { config })
    }
}

fn verifier(
    provider: Arc<CryptoProvider>,
    roots: &[CertificateDer<'static>],
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(TlsError::Clients)?;
    Ok(Arc::new(BoundedVerifier::new(verifier, &Limits::DEFAULT)))
}

/// The roots in a few bytes, by the provider's hash.
fn digest(provider: &CryptoProvider, roots: &[CertificateDer<'static>]) -> Result<Vec<u8>, TlsError> {
    let missing = || TlsError::Rustls(rustls::Error::General("the provider has no cipher suite".into()));
    let suite = provider.cipher_suites.first().ok_or_else(missing)?;
    let hash = match suite {
        rustls::SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
        rustls::SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
    };
    let mut context = hash.start();
    for root in roots {
        context.update(&(root.len() as u64).to_be_bytes());
        context.update(root);
    }
    Ok(context.finish().as_ref().to_vec())
}
