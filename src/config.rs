//! In: the caller's choices. Out: one value that every connection of a server shares.

use crate::base::{Limit, Limits};
#[cfg(feature = "alloc")]
use crate::decode::coding::Coding;
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
    proxied: bool,
    clock: Option<fn() -> u64>,
    #[cfg(feature = "alloc")]
    codings: &'static [Coding],
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
            proxied: false,
            clock: None,
            #[cfg(feature = "alloc")]
            codings: &[],
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

    /// Every connection begins with a PROXY header, version 1 or 2, in front of TLS and HTTP, which says who is at its other end
    /// ([`accept::proxy`](crate::accept::proxy)). It comes with the event `Proxied`, within `head_ms` and `proxy_header_bytes`; a
    /// connection without one is closed without an answer. Whoever may reach such a port can call itself what it likes: ask trusted proxies
    /// alone for a header, and give all others a configuration that does not, to which it is a bad request.
    pub const fn with_proxy_header(mut self) -> Config {
        self.proxied = true;
        self
    }

    /// Measures the stages of every connection with this clock: whatever it counts, it must not go back, and it is asked a few times for each
    /// step. [`Connection::stages`](crate::Connection::stages) has the sums. Nothing else depends on it.
    pub const fn with_stage_clock(mut self, clock: fn() -> u64) -> Config {
        self.clock = Some(clock);
        self
    }

    pub(crate) const fn stage_clock(&self) -> Option<fn() -> u64> {
        self.clock
    }

    pub(crate) const fn has_proxy_header(&self) -> bool {
        self.proxied
    }

    /// Responses are coded with the first of these that their clients accept (RFC 9110 §12.5.3), in the server's order of preference; what
    /// this build cannot encode is passed over. Off without this.
    ///
    /// A response is coded if its status lets it have content, all of it (not 204, 205, 206, 304); if its Content-Type is text, JSON, XML or
    /// something else that gets smaller; if it is at least `encode_from_bytes` long, or of a length that nobody knows; and unless
    /// its fields say Content-Encoding (it is coded already), Content-Range, `Cache-Control: no-transform`, or a digest of the
    /// content, or are more than 64. gRPC is left alone. The machine then says Content-Encoding and `Vary: Accept-Encoding`, makes a strong ETag
    /// weak, and leaves out Accept-Ranges: offsets are those of the content as it is. Content-Length is that of the coded content if this is short,
    /// else the content is streamed. HEAD is answered alike. A client that forbids everything, `identity` too, gets
    /// the content as it is. What is written by and by is flushed when a turn has nothing else to do. 304 is for the handler: it knows whether the
    /// content would have been coded, and says the same Vary and ETag (RFC 9110 §15.4.5); If-None-Match compares weakly.
    ///
    /// Encoders take `encoder_pool_bytes` of a connection at most; a response that finds no room is sent as it is.
    ///
    /// The length of coded content tells what in it is the same. A response that reflects what its client sent beside a secret, such as a session's
    /// token, gives the secret away byte by byte to who can choose the one and see the length (BREACH, CVE-2013-3587): send it with
    /// `Cache-Control: no-transform`, and it is not coded.
    ///
    /// ```
    /// use vestibule::decode::coding::Coding;
    /// use vestibule::{Config, Limits};
    /// static CONFIG: Config = Config::new(Limits::DEFAULT).with_response_codings(&[Coding::Zstd, Coding::Gzip]);
    /// ```
    #[cfg(feature = "alloc")]
    pub const fn with_response_codings(mut self, codings: &'static [Coding]) -> Config {
        self.codings = codings;
        self
    }

    #[cfg(feature = "alloc")]
    pub(crate) const fn response_codings(&self) -> &'static [Coding] {
        self.codings
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
        (head + if self.has_tls() { RECORD } else { 0 }).max(self.least_inbox_bytes())
    }

    /// The smallest inbox that works at all.
    pub fn least_inbox_bytes(&self) -> usize {
        let header = if self.proxied { self.limits.size(Limit::ProxyHeaderBytes) } else { 0 };
        header.max(if self.has_tls() { RECORD } else { 64 })
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
        let tls = match &self.tls {
            None => 0,
            // What will be chosen for a ClientHello may ask for certificates.
            Some(tls) if tls.identifies() || tls.asks() => crate::decrypt::Tls::bound_bytes_with_identity(&self.limits),
            Some(_) => crate::decrypt::Tls::bound_bytes(&self.limits),
        };
        #[cfg(not(feature = "tls"))]
        let tls = 0;
        #[cfg(feature = "alloc")]
        let (many, http2) = match self.http2 || self.has_tls() {
            true => (true, crate::h2_close::bound_bytes(&self.limits)),
            false => (false, 0),
        };
        #[cfg(not(feature = "alloc"))]
        let (many, http2) = (false, 0);
        #[cfg(feature = "alloc")]
        let coders = crate::coded::bound_bytes(self);
        #[cfg(not(feature = "alloc"))]
        let coders = 0;
        let stages = if self.clock.is_some() { 2 * size_of::<crate::stages::Stages>() } else { 0 };
        stages
            + crate::connection::STATE_BYTES
            + crate::delivery::bound_bytes(&self.limits, many)
            + tls
            + http2
            + coders
    }
}

/// One TLS record at its largest (RFC 8446 §5.2).
const RECORD: usize = 5 + 16_384 + 256;
