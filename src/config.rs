//! In: the caller's choices. Out: one value that every connection of a server shares.

use crate::base::{Limit, Limits};
use crate::parse::h1::send::RESERVE;

/// The choices that connections share: behind an `Arc`, or `&'static` without an allocator.
///
/// ```
/// use vestibule::{Config, Limits};
/// static CONFIG: Config = Config::new(Limits::DEFAULT);
/// assert!(CONFIG.bound_bytes() < 16 << 20);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    limits: Limits,
    coded: bool,
    http2: bool,
    #[cfg(feature = "tls")]
    tls: Option<crate::decrypt::TlsConfig>,
}

impl Config {
    /// Plain HTTP/1.1, and with an allocator HTTP/2 for clients that begin with its preface, under these limits; content codings
    /// are decoded.
    pub const fn new(limits: Limits) -> Config {
        Config {
            limits,
            coded: false,
            http2: cfg!(feature = "alloc"),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// TLS on every connection.
    #[cfg(feature = "tls")]
    pub fn with_tls(self, tls: crate::decrypt::TlsConfig) -> Config {
        Config { tls: Some(tls), ..self }
    }

    /// Bodies stay as they are coded: no decoding, no 415.
    pub const fn with_coded_bodies(mut self) -> Config {
        self.coded = true;
        self
    }

    /// HTTP/1.1 alone: a plain client that begins with the preface of HTTP/2 is refused. Over TLS it is the protocols (ALPN) of
    /// the rustls configuration that say what is spoken.
    pub const fn without_http2(mut self) -> Config {
        self.http2 = false;
        self
    }

    /// The limits in force.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) const fn decodes(&self) -> bool {
        !self.coded
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&crate::decrypt::TlsConfig> {
        self.tls.as_ref()
    }

    #[cfg(feature = "alloc")]
    pub(crate) const fn has_http2(&self) -> bool {
        self.http2
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// What an inbox must hold so that every limit can be reached: a whole head, and with TLS one record beside it. A smaller
    /// one works; a head that does not fit it is refused with 431.
    pub fn inbox_bytes(&self) -> usize {
        let head = self.limits.size(Limit::RequestLineBytes) + self.limits.size(Limit::FieldSectionBytes) + 4;
        head + if self.has_tls() { RECORD } else { 0 }
    }

    /// The smallest inbox that works at all.
    pub fn least_inbox_bytes(&self) -> usize {
        if self.has_tls() { RECORD } else { 64 }
    }

    /// The smallest outbox that works: one small answer, the machine's own last words, and with TLS their records.
    pub fn least_outbox_bytes(&self) -> usize {
        self.limits.size(Limit::ReplyRoomBytes) + RESERVE as usize + if self.has_tls() { 128 } else { 0 }
    }

    /// What a connection can make a server hold, in bytes: the machine's own state, decoders, gathered bodies, TLS, and the two
    /// buffers at the sizes above. A peer cannot raise it.
    pub fn bound_bytes(&self) -> usize {
        self.machine_bound_bytes() + self.inbox_bytes() + self.least_outbox_bytes().max(16_384)
    }

    /// The part of [`Config::bound_bytes`] that [`Connection::retained_bytes`](crate::Connection::retained_bytes) counts: all but
    /// the caller's buffers.
    pub fn machine_bound_bytes(&self) -> usize {
        #[cfg(feature = "tls")]
        let tls = self.tls.as_ref().map_or(0, |_| crate::decrypt::Tls::bound_bytes(&self.limits));
        #[cfg(not(feature = "tls"))]
        let tls = 0;
        #[cfg(feature = "alloc")]
        let (many, http2) = match self.http2 || self.has_tls() {
            true => (true, crate::h2_close::bound_bytes(&self.limits)),
            false => (false, 0),
        };
        #[cfg(not(feature = "alloc"))]
        let (many, http2) = (false, 0);
        crate::connection::STATE_BYTES + crate::delivery::bound_bytes(&self.limits, many) + tls + http2
    }
}

/// One TLS record at its largest (RFC 8446 §5.2).
const RECORD: usize = 5 + 16_384 + 256;
