//! In: a server's choices, a connection's ends. Out: values that all connections share, and what a service is told of its peer.

use std::net::SocketAddr;
use std::sync::Arc;
use vestibule::Config;
use vestibule_driver::tls::TlsChoice;

/// What connections share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) tls: Option<TlsChoice>,
    pub(super) inbox_bytes: usize,
    pub(super) outbox_bytes: usize,
    pub(super) decodes: bool,
    pub(super) half_close: bool,
    pub(super) date: bool,
}

/// An outbox holds a response's head and some content.
const OUTBOX: usize = 65_536;

impl Options {
    /// Connections under that configuration. The bodies of requests stay as they are coded, since a service of the tower kind expects its
    /// requests as they were sent.
    pub fn new(config: Config) -> Options {
        Options::of(config.with_coded_bodies(), None, false)
    }

    /// The same, but codings are taken off the bodies of requests under the limits of the configuration. Content-Encoding and Content-Length are
    /// taken off with them.
    pub fn decoding(config: Config) -> Options {
        Options::of(config, None, true)
    }

    /// TLS on every connection: one configuration, or [`Sites`](vestibule_driver::tls::Sites).
    #[must_use]
    pub fn tls(self, tls: impl Into<TlsChoice>) -> Options {
        let tls = tls.into();
        let config = (*self.shared.config).clone().with_tls(tls.config());
        let Shared { decodes, half_close, date, .. } = *self.shared;
        let mut options = Options::of(config, Some(tls), decodes);
        options.change(|shared| (shared.half_close, shared.date) = (half_close, date));
        options
    }

    /// May a client end its side of the connection while it waits for a response? By default it may (RFC 9112 §9.6), and a client that is
    /// gone is noticed when something is sent to it. Without, a client's end gives up what it waits for at once, as hyper does it.
    #[must_use]
    pub fn half_close(mut self, allowed: bool) -> Options {
        self.change(|shared| shared.half_close = allowed);
        self
    }

    /// Is a Date field added to responses that have none? By default it is (RFC 9110 §6.6.1).
    #[must_use]
    pub fn date(mut self, added: bool) -> Options {
        self.change(|shared| shared.date = added);
        self
    }

    fn of(config: Config, tls: Option<TlsChoice>, decodes: bool) -> Options {
        let (inbox_bytes, outbox_bytes) = (config.inbox_bytes(), config.least_outbox_bytes().max(OUTBOX));
        let config = Arc::new(config);
        let shared = Shared { config, tls, inbox_bytes, outbox_bytes, decodes, half_close: true, date: true };
        Options { shared: Arc::new(shared) }
    }

    fn change(&mut self, change: impl FnOnce(&mut Shared)) {
        change(Arc::make_mut(&mut self.shared));
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new(Config::new(vestibule::Limits::DEFAULT))
    }
}

/// Who is at the other end, among the extensions of every request.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Peer {
    /// The peer's address; a Unix socket or a pipe in memory has none.
    pub addr: Option<SocketAddr>,
    /// Our address, as the peer sees it.
    pub local: Option<SocketAddr>,
}
