//! In: rustls's configuration. Out: ours: what this machine needs of it set, its tickets bound to it, its names.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rustls::server::{ProducesTickets, StoresServerSessions};

use crate::base::Names;

/// The greatest session that is put into a ticket or a store. One with a long chain of certificates does not fit and is not
/// resumed: what is kept and sent for a connection stays small.
const SESSION: usize = 8 * 1_024;
/// Bytes of a binding that is drawn.
const BINDING: usize = 16;

/// What a server is over TLS. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    server: Arc<rustls::ServerConfig>,
    ask: bool,
    identifies: bool,
    names: Option<Names>,
}

impl TlsConfig {
    /// Takes rustls's configuration and sets what this machine depends on: secrets can be extracted (the records are opened
    /// and sealed here), no early data, no data before the client's Finished.
    ///
    /// Tickets and stored sessions are bound to the configuration that this returns, and to its clones: what another one has
    /// issued does not resume here, even if both share a ticketer, because what it has checked (a client's certificate
    /// above all) need not be what this one checks. The binding is drawn from the provider's random numbers; to share
    /// sessions with other processes, or with the successor of a configuration, see [`TlsConfig::bound_to`].
    ///
    /// The provider's TLS 1.3 suites should have their QUIC side (`Tls13CipherSuite::quic`), as those of aws-lc-rs and ring
    /// do, and should be there even if only TLS 1.2 is spoken. Without them, sealing a record goes through a buffer that is
    /// allocated for it.
    pub fn new(config: rustls::ServerConfig) -> TlsConfig {
        let mut binding = [0; BINDING];
        let drawn = config.crypto_provider().secure_random.fill(&mut binding);
        TlsConfig::bound(config, drawn.ok().map(|()| &binding[..]))
    }

    /// The same, with the binding of its sessions given: a configuration with the same ticket keys and the same binding resumes
    /// them. Whatever decides who may use the configuration belongs into it: its name, whether clients need a certificate, and
    /// whose. Every ticket carries it.
    pub fn bound_to(config: rustls::ServerConfig, binding: &[u8]) -> TlsConfig {
        TlsConfig::bound(config, Some(binding))
    }

    fn bound(mut config: rustls::ServerConfig, binding: Option<&[u8]>) -> TlsConfig {
        config.enable_secret_extraction = true;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        // Without a binding there is no resumption.
        let binding: Option<Arc<[u8]>> = binding.map(Arc::from);
        let tickets = Bound { inner: config.ticketer.clone(), binding: binding.clone() };
        let sessions = Bound { inner: config.session_storage.clone(), binding };
        config.ticketer = Arc::new(tickets);
        config.session_storage = Arc::new(sessions);
        TlsConfig { server: Arc::new(config), ask: false, identifies: false, names: None }
    }

    /// The same, but the caller is asked for a configuration once the ClientHello is there: [`Opened::Hello`](super::Opened::Hello),
    /// answered by [`Tls::choose`](super::Tls::choose). This one is the fall-back.
    pub fn ask(self) -> TlsConfig {
        TlsConfig { ask: true, ..self }
    }

    /// Clients may send certificates: rustls's configuration has a verifier that asks for them. Who they are is told by
    /// [`Tls::identity`](super::Tls::identity). Without this, a client that was asked for a certificate and has sent one is refused,
    /// since its chain would be kept but not counted.
    ///
    /// Put [`BoundedVerifier`](super::BoundedVerifier) in front of the verifier, so that it is not made to parse what is refused later.
    pub fn with_client_certificates(self) -> TlsConfig {
        TlsConfig { identifies: true, ..self }
    }

    /// The hosts that it serves. A request for another one is answered with 421 (RFC 9110 §7.4), in every version, so that a
    /// connection of one configuration is no way into another (RFC 9113 §9.1.2). Without this, every host is served.
    pub fn with_names(self, names: Names) -> TlsConfig {
        TlsConfig { names: Some(names), ..self }
    }

    /// rustls's configuration, as set.
    pub fn server(&self) -> &Arc<rustls::ServerConfig> {
        &self.server
    }

    /// The hosts that it serves, if that was said.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Whether clients may send certificates.
    pub fn identifies(&self) -> bool {
        self.identifies
    }

    /// Whether the caller is asked for another one.
    pub fn asks(&self) -> bool {
        self.ask
    }
}

/// Tickets or stored sessions with a binding in front of each.
#[derive(Debug)]
struct Bound<T: ?Sized> {
    inner: Arc<T>,
    binding: Option<Arc<[u8]>>,
}

impl<T: ?Sized> Bound<T> {
    fn binding(&self) -> &[u8] {
        self.binding.as_deref().unwrap_or_default()
    }

    /// Length, binding, bytes. The length in front keeps bindings apart of which one begins like another.
    fn join(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let binding = self.binding.as_deref()?;
        let mut joined = Vec::new();
        joined.try_reserve_exact(8 + binding.len() + bytes.len()).ok()?; // without memory there is no ticket
        joined.extend_from_slice(&(binding.len() as u64).to_be_bytes());
        joined.extend_from_slice(binding);
        joined.extend_from_slice(bytes);
        Some(joined)
    }

    fn split(&self, mut joined: Vec<u8>) -> Option<Vec<u8>> {
        self.binding.as_deref()?;
        let (length, rest) = joined.split_first_chunk::<8>()?;
        let fits = u64::from_be_bytes(*length) == self.binding().len() as u64 && rest.starts_with(self.binding());
        if !fits {
            return None;
        }
        joined.drain(..8 + self.binding().len());
        Some(joined)
    }
}

impl ProducesTickets for Bound<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.binding.is_some() && self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > SESSION {
            return None;
        }
        self.inner.encrypt(&self.join(plain)?)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.split(self.inner.decrypt(cipher)?)
    }
}

// The binding stands in the key: what another configuration has stored is not found, and not taken from it.
impl StoresServerSessions for Bound<dyn StoresServerSessions> {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        match (self.join(&key), value.len() <= SESSION) {
            (Some(key), true) => self.inner.put(key, value),
            _ => false,
        }
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.get(&self.join(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.take(&self.join(key)?)
    }

    fn can_cache(&self) -> bool {
        self.binding.is_some() && self.inner.can_cache()
    }
}
