//! In: ciphertext, where it lies in the caller's buffer. Out: plaintext in the same place, and sealed records.
//!
//! The TLS seam: TLS 1.3 (RFC 8446) and TLS 1.2 (RFC 5246, with ECDHE and AEADs alone), server side, one connection. [rustls] does
//! the handshake; what comes after it is done here, in place and without an allocation per record. Which versions are spoken is
//! for rustls's configuration to say; the crypto provider is the caller's, inside its [`rustls::ServerConfig`].
//!
//! ```text
//!              open: one record at a time                 seal: in place
//!   raw  ---> [ handshake: ClientHello joined, rustls ]   [ header | content | trailer ]   ---> out
//!        ---> [ traffic: plaintext where the record lay ]
//!   flush: flights, KeyUpdates, close_notify, alerts  ---> out
//! ```
//!
//! - [`Tls::open`] takes at most one record from the front of what was received and says what it was. Call it again with
//!   the rest; what follows the client's Finished stays with the caller until then.
//! - [`Tls::flush`] writes what the machine itself has to say. Ask [`Tls::pending`] after every `open` and `seal`. Flush
//!   before sealing anything new, since records are numbered in the order in which they are sealed.
//! - [`Tls::seal`] seals application data that the caller has put behind [`Tls::header`] bytes of room, [`Tls::seal_from`] any
//!   slice into any room.
//! - A broken rule is found once and then stays: every later `open` returns the same [`Violation`]. [`Tls::fail`] queues
//!   the alert that tells the peer.
//!
//! Early data (RFC 8446 §4.2.10) is never accepted; some of what a client sends nevertheless is skipped by rustls. In TLS 1.2 there
//! is no renegotiation (one warning says so, then it ends the connection) and there are no new keys: [`Tls::is_worn`] says when a
//! connection should end for want of them.
//!
//! ```
//! # fn config() -> Option<rustls::ServerConfig> { None }
//! use vestibule::decrypt::{Opened, Tls, TlsConfig};
//! use vestibule::{Instant, Limits};
//!
//! # let Some(config) = config() else { return Ok(()) };
//! let config = TlsConfig::new(config);
//! let mut tls = Tls::new(&config);
//! let mut raw = vec![0; 20_000];
//! let (mut start, end) = (0, 0); // raw[start..end] was received
//! match tls.open(&Limits::DEFAULT, Instant::ZERO, &mut raw[start..end])? {
//!     Opened::Plain { total, skip, len } => {
//!         let _plaintext = &raw[start + skip..start + skip + len];
//!         start += total;
//!     }
//!     Opened::Consumed { total } | Opened::Closed { total } => start += total,
//!     Opened::Need { want: _ } | Opened::Hello => {}
//! }
//! # let _ = start;
//! # Ok::<(), vestibule::Violation>(())
//! ```

mod clients;
mod config;
mod handshake;
mod hello;
mod record;
mod traffic;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::memory::{Held, extend};
use crate::base::{Identity, Instant, Limit, Limits, Names, Rule, Violation};
use handshake::{Finished, Handshake, Step};
use record::Form;
use traffic::{Got, Traffic};

pub use clients::BoundedVerifier;
pub use config::TlsConfig;
pub use hello::{Hello, Protocols};

/// What [`Tls::open`] found. Every length is in bytes of ciphertext from the front of what it was given.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// Nothing was consumed: `want` more bytes at least are needed, exactly that many to complete a header or a record.
    Need {
        /// Bytes.
        want: usize,
    },
    /// One record was consumed that holds nothing for the application. There may be something to flush.
    Consumed {
        /// Bytes consumed.
        total: usize,
    },
    /// One record of application data was consumed.
    Plain {
        /// Bytes consumed.
        total: usize,
        /// Where its plaintext begins.
        skip: usize,
        /// How long that is, at least 1.
        len: usize,
    },
    /// The ClientHello is complete and waits for [`Tls::choose`]; see [`Tls::hello`]. Nothing was consumed.
    Hello,
    /// The peer has said close_notify (RFC 8446 §6.1): nothing that follows counts.
    Closed {
        /// Bytes consumed.
        total: usize,
    },
}

enum Phase {
    Handshake(Held<Handshake>),
    Traffic(Held<Traffic>),
    Over,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Last {
    Open,
    Queued(u8),
    Sent,
}

/// The TLS side of one connection. See the [module](self).
pub struct Tls {
    phase: Phase,
    /// Flights that wait to be flushed, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    consumed: u64,
    /// Where the last record began.
    record_at: u64,
    seen: bool,
    closed: bool,
    established: bool,
    resumed: bool,
    last: Last,
    failed: Option<Violation>,
    /// What a chosen configuration led to, or whether there was memory to begin with, told by the next `open`.
    chosen: Result<(), Rule>,
    version: Option<&'static str>,
    cipher: Option<&'static str>,
    alpn: Option<Box<[u8]>>,
    sni: Option<Box<str>>,
    identity: Option<Box<[u8]>>,
    names: Option<Names>,
}

impl core::fmt::Debug for Tls {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tls")
            .field("handshaking", &self.is_handshaking())
            .field("cipher", &self.cipher)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// The most room that [`Tls::seal`] needs before the plaintext; see [`Tls::header`].
    pub const HEADER_MOST: usize = record::HEADER_MOST;
    /// The most room that [`Tls::seal`] needs behind the plaintext; see [`Tls::trailer`].
    pub const TRAILER_MOST: usize = record::TRAILER_MOST;
    /// The greatest plaintext of one record (RFC 8446 §5.1).
    pub const FRAGMENT: usize = record::FRAGMENT;
    /// The greatest record that can come in.
    pub const RECORD: usize = record::HEADER + record::CIPHERTEXT;
    /// The least room that [`Tls::flush`] needs to make progress: a KeyUpdate or an alert is written whole or not at all.
    pub const FLUSH_ROOM: usize = traffic::LONGEST_RECORD;
    /// What a connection holds on the heap until the handshake is done, with default limits. See [`Tls::bound_bytes`].
    pub const BOUND_BYTES_HANDSHAKE: usize = 96 * 1_024;
    /// What a connection holds on the heap after the handshake, once its last flight is flushed. A client's chain of certificates, if
    /// one was sent, comes on top of that: once for [`Tls::identity`], and in TLS 1.3 once more inside rustls. [`Tls::bound_bytes`]
    /// and [`Tls::retained_bytes`] count both.
    pub const BOUND_BYTES_OPEN: usize = 4 * 1_024;

    /// A connection that nothing has come from yet.
    pub fn new(config: &TlsConfig) -> Tls {
        let (phase, chosen) = match Held::new(Handshake::new(config.clone())) {
            Ok(handshake) => (Phase::Handshake(handshake), Ok(())),
            Err(_) => (Phase::Over, Err(Rule::TlsNoMemory)),
        };
        Tls {
            phase,
            out: Vec::new(),
            sent: 0,
            consumed: 0,
            record_at: 0,
            seen: false,
            closed: false,
            established: false,
            resumed: false,
            last: Last::Open,
            failed: None,
            chosen,
            version: None,
            cipher: None,
            alpn: None,
            sni: None,
            identity: None,
            names: None,
        }
    }

    /// The most that [`Tls::retained_bytes`] says: before the handshake is done buffers of ours, bounded by `limits`, without
    /// rustls's own fixed state, and with at most 24 KiB for the server's own flight, which is as long as its certificates and
    /// tickets. See [`Tls::bound_bytes_with_identity`] where clients may send certificates.
    pub fn bound_bytes(limits: &Limits) -> usize {
        handshake::bound_bytes(limits)
    }

    /// The same, with a client's chain of certificates as long as it may be, twice: what is kept of it.
    pub fn bound_bytes_with_identity(limits: &Limits) -> usize {
        let lengths = limits.size(Limit::ClientCertificates).saturating_mul(4);
        let chain = limits.size(Limit::ClientCertificateBytes).saturating_add(lengths);
        handshake::bound_bytes(limits).saturating_add(chain.saturating_mul(2))
    }

    /// Opens the record at the front of `raw`, in place: at most one. Behind [`Opened::Plain`] the bytes that were the record
    /// hold its plaintext; a record that was consumed must not be given again.
    ///
    /// # Errors
    /// The rule that the peer broke; the same one again in every later call.
    pub fn open(&mut self, limits: &Limits, now: Instant, raw: &mut [u8]) -> Result<Opened, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        if self.closed {
            return Ok(Opened::Closed { total: self.consume(raw.len()) });
        }
        let chosen = core::mem::replace(&mut self.chosen, Ok(()));
        if let Err(rule) = chosen {
            return Err(self.broken(Violation::over(rule, self.record_at, limits)));
        }
        self.seen |= !raw.is_empty();
        let first = self.consumed == 0;
        let result = match &mut self.phase {
            Phase::Over if raw.is_empty() => return Ok(Opened::Need { want: 1 }),
            Phase::Over => return Ok(Opened::Consumed { total: self.consume(raw.len()) }),
            Phase::Traffic(traffic) => traffic.open(limits, now, raw),
            Phase::Handshake(handshake) => match handshake.open(limits, raw, first, &mut self.out) {
                Ok(Step::Hello) => return Ok(Opened::Hello),
                Ok(Step::Need(missing)) => Ok(Got::Need(missing)),
                Ok(Step::More { total }) => Ok(Got::Nothing { total }),
                Ok(Step::Closed { total }) => Ok(Got::Closed { total }),
                Ok(Step::Done { total }) => {
                    self.hand_over(limits, now).map(|()| Got::Nothing { total }).map_err(|rule| (rule, 0))
                }
                Err(fault) => Err(fault),
            },
        };
        match result {
            Ok(Got::Need(want)) => Ok(Opened::Need { want }),
            Ok(Got::Nothing { total }) => Ok(Opened::Consumed { total: self.consume(total) }),
            Ok(Got::Plain { total, skip, len }) => Ok(Opened::Plain { total: self.consume(total), skip, len }),
            Ok(Got::Closed { total }) => {
                self.closed = true;
                Ok(Opened::Closed { total: self.consume(total) })
            }
            Err((rule, offset)) => {
                let at = self.consumed.saturating_add(offset as u64);
                Err(self.broken(Violation::over(rule, at, limits)))
            }
        }
    }

    fn consume(&mut self, total: usize) -> usize {
        self.record_at = self.consumed;
        self.consumed = self.consumed.saturating_add(total as u64);
        total
    }

    fn broken(&mut self, violation: Violation) -> Violation {
        self.failed = Some(violation);
        violation
    }

    // From rustls's connection to our own records. Nothing is lost on the way: one record at a time went in, and it wants to
    // send nothing more.
    fn hand_over(&mut self, limits: &Limits, now: Instant) -> Result<(), Rule> {
        let Phase::Handshake(handshake) = core::mem::replace(&mut self.phase, Phase::Over) else {
            return Err(Rule::TlsInternal);
        };
        let names = handshake.config().names().cloned();
        let done = handshake.into_inner().finish(limits)?;
        let Finished { secrets, kernel, suite, version, identity, refused, alpn, sni, resumed } = done;
        let asks = if alpn.as_deref() == Some(b"h2") { 0 } else { 1 };
        let receive = record::Receive::new(suite, secrets.rx)?;
        let send = record::Send::new(suite, secrets.tx)?;
        let traffic = Traffic::new(kernel, suite, receive, send, asks, limits, now);
        self.phase = Phase::Traffic(Held::new(traffic).map_err(|_| Rule::TlsNoMemory)?);
        if let Some(rule) = refused {
            return Err(rule);
        }
        self.established = true;
        self.resumed = resumed;
        self.version = Some(version);
        self.cipher = suite.name();
        (self.alpn, self.sni, self.identity, self.names) = (alpn, sni, identity, names);
        Ok(())
    }

    /// No more bytes will come. `Ok` if the peer said so before, or never said anything.
    ///
    /// # Errors
    /// [`Rule::TlsTruncated`] without close_notify: whatever message is incomplete must stay so (RFC 8446 §6.1). An earlier
    /// violation is returned again.
    pub fn end(&mut self) -> Result<(), Violation> {
        match self.failed {
            Some(violation) => Err(violation),
            None if self.closed || !self.seen || matches!(self.phase, Phase::Over) => Ok(()),
            None => Err(self.broken(Violation::new(Rule::TlsTruncated, self.consumed))),
        }
    }

    /// What the ClientHello offers; from the moment it is complete to the end of the handshake.
    pub fn hello(&self) -> Option<Hello<'_>> {
        match &self.phase {
            Phase::Handshake(handshake) => {
                handshake.offer.as_ref().map(|offer| Hello::new(offer.sni.as_deref(), &offer.alpn))
            }
            _ => None,
        }
    }

    /// Answers [`Opened::Hello`]; before that, sets the configuration in advance; after that, does nothing. What the choice
    /// leads to is told by the next [`Tls::open`].
    pub fn choose(&mut self, config: &TlsConfig) {
        if let (Phase::Handshake(handshake), None) = (&mut self.phase, self.failed)
            && handshake.choose(config.clone())
        {
            self.chosen = handshake.begin(&mut self.out);
        }
    }

    /// Application data cannot be sealed yet: the handshake runs, failed, or its last flight is not flushed.
    pub fn is_handshaking(&self) -> bool {
        !self.established || self.unsent() > 0
    }

    fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    /// How many bytes [`Tls::flush`] would write now, given the room.
    pub fn pending(&self) -> usize {
        let records = match (&self.phase, self.last) {
            (Phase::Traffic(traffic), Last::Open) => traffic.pending_updates(),
            (Phase::Traffic(traffic), Last::Queued(0)) => traffic.pending_updates() + traffic.alert_record(),
            (Phase::Traffic(traffic), Last::Queued(_)) => traffic.alert_record(),
            _ => 0,
        };
        self.unsent() + records
    }

    /// Writes what the machine has to say, in order, as far as it fits: the handshake's flights byte by byte, then KeyUpdates
    /// and the last alert, which are sealed now and need [`Tls::FLUSH_ROOM`] each. Returns how much was written.
    pub fn flush(&mut self, out: &mut [u8]) -> usize {
        let waiting = self.out.get(self.sent..).unwrap_or_default();
        let copied = waiting.len().min(out.len());
        let (head, rest) = out.split_at_mut(copied);
        head.copy_from_slice(waiting.get(..copied).unwrap_or_default());
        self.sent += copied;
        if self.unsent() > 0 {
            return copied;
        }
        if self.sent > 0 {
            (self.out, self.sent) = (Vec::new(), 0);
        }
        match self.flush_records(rest) {
            Ok(sealed) => copied + sealed,
            Err(rule) => {
                // Nothing more can be sealed.
                let at = self.consumed;
                self.failed.get_or_insert(Violation::new(rule, at));
                (self.phase, self.last) = (Phase::Over, Last::Sent);
                copied
            }
        }
    }

    fn flush_records(&mut self, out: &mut [u8]) -> Result<usize, Rule> {
        let Phase::Traffic(traffic) = &mut self.phase else { return Ok(0) };
        let mut written = 0;
        if matches!(self.last, Last::Open | Last::Queued(0)) {
            written = traffic.flush_updates(out)?;
            if traffic.pending_updates() > 0 {
                return Ok(written);
            }
        }
        if let Last::Queued(code) = self.last {
            let sealed = traffic.flush_alert(out.get_mut(written..).unwrap_or_default(), code)?;
            if sealed > 0 {
                written += sealed;
                self.last = Last::Sent;
                if self.failed.is_some() {
                    self.phase = Phase::Over;
                }
            }
        }
        Ok(written)
    }

    /// Room that [`Tls::seal`] needs before the plaintext, once the handshake is done: 5 bytes, or 13 in TLS 1.2 with AES-GCM.
    pub fn header(&self) -> usize {
        self.form().header()
    }

    /// Room that [`Tls::seal`] needs behind the plaintext, once the handshake is done: 17 bytes, or 16 in TLS 1.2.
    pub fn trailer(&self) -> usize {
        self.form().trailer()
    }

    fn form(&self) -> Form {
        match &self.phase {
            Phase::Traffic(traffic) => traffic.sealing(),
            _ => Form::Tls13,
        }
    }

    /// Seals one record of application data in place: `len` bytes of plaintext lie at `record[header()..header() + len]`; what
    /// protects them is written around them. Returns `header() + len + trailer()`.
    ///
    /// # Errors
    /// [`Rule::TlsKeysWornOut`] if [`Tls::flush`] was not called for so long that the keys could not be renewed.
    /// [`Rule::TlsInternal`] for a call that breaks the contract: while [`Tls::is_handshaking`], after close_notify or a
    /// failure, with more than [`Tls::FRAGMENT`] bytes, or without room for all of the record.
    pub fn seal(&mut self, record: &mut [u8], len: usize) -> Result<usize, Violation> {
        let handshaking = self.is_handshaking() || !self.out.is_empty();
        let sealed = match (&mut self.phase, self.last) {
            (Phase::Traffic(traffic), Last::Open | Last::Queued(0)) if !handshaking => traffic.seal(record, len),
            _ => Err(Rule::TlsInternal),
        };
        sealed.map_err(|rule| Violation::new(rule, self.consumed))
    }

    /// Seals as much of `plain` as there is room for in `out`, in as many records as that takes. For callers that keep plaintext
    /// and ciphertext apart, such as a thread that does nothing else; nothing is allocated.
    ///
    /// Returns how much of `plain` was taken, and how much was written. Nothing is taken if there is no room for a byte, or if
    /// there are records to flush first: call [`Tls::flush`] until [`Tls::pending`] is 0, then go on.
    ///
    /// ```
    /// # fn carry(tls: &mut vestibule::decrypt::Tls, mut plain: &[u8], socket: &mut Vec<u8>) -> Result<(), vestibule::Violation> {
    /// let mut out = [0; 20_000];
    /// while !plain.is_empty() {
    ///     let flushed = tls.flush(&mut out);
    ///     let (taken, written) = tls.seal_from(plain, &mut out[flushed..])?;
    ///     socket.extend_from_slice(&out[..flushed + written]);
    ///     plain = &plain[taken..];
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Tls::seal`].
    pub fn seal_from(&mut self, mut plain: &[u8], out: &mut [u8]) -> Result<(usize, usize), Violation> {
        let (mut taken, mut written) = (0, 0);
        let (header, trailer) = (self.header(), self.trailer());
        while !plain.is_empty() && self.pending() == 0 {
            let room = out.get_mut(written..).unwrap_or_default();
            let fits = room.len().saturating_sub(header + trailer).min(Self::FRAGMENT).min(plain.len());
            let (Some((part, rest)), true) = (plain.split_at_checked(fits), fits > 0) else { break };
            if let Some(content) = room.get_mut(header..header + fits) {
                content.copy_from_slice(part);
            }
            written += self.seal(room, fits)?;
            taken += fits;
            plain = rest;
        }
        Ok((taken, written))
    }

    /// The keys have sealed nearly all that they safely can, and cannot be renewed, as in TLS 1.2: end the connection soon. With
    /// AES-GCM that is after 16 million records.
    pub fn is_worn(&self) -> bool {
        matches!(&self.phase, Phase::Traffic(traffic) if traffic.is_worn())
    }

    /// Asks for fresh keys in both directions (RFC 8446 §4.6.3), with the next flush. Asking again before that adds nothing.
    /// It is never necessary: keys that wear out are renewed without being asked. In TLS 1.2 it does nothing.
    pub fn update_keys(&mut self) {
        if let Phase::Traffic(traffic) = &mut self.phase {
            traffic.update_keys();
        }
    }

    /// Queues close_notify (RFC 8446 §6.1), once. What the peer sends can still be opened.
    pub fn close(&mut self) {
        self.queue(0);
    }

    /// Queues the alert that goes with `violation`, once, and nothing after it. No alert goes out if the violation has none,
    /// if it is the peer's own alert, or if close_notify or another alert went before.
    pub fn fail(&mut self, violation: Violation) {
        self.failed.get_or_insert(violation);
        match violation.alert() {
            0 if self.last == Last::Open => (self.phase, self.last) = (Phase::Over, Last::Sent),
            0 => {}
            code => self.queue(code),
        }
    }

    fn queue(&mut self, code: u8) {
        match (&mut self.phase, self.last) {
            (_, Last::Sent) => {}
            // A failure overtakes a close_notify that has not been sealed.
            (_, Last::Queued(0)) if code != 0 => self.last = Last::Queued(code),
            (_, Last::Queued(_)) => {}
            (Phase::Handshake(handshake), Last::Open) => {
                let words = handshake.last_words(code);
                if self.out.is_empty() {
                    self.out = words;
                } else {
                    let _ = extend(&mut self.out, &words); // without memory it ends without a word
                }
                (self.phase, self.last) = (Phase::Over, Last::Sent);
            }
            (Phase::Traffic(_), Last::Open) => self.last = Last::Queued(code),
            (Phase::Over, Last::Open) => self.last = Last::Sent,
        }
    }

    /// The protocol version once the handshake is done: `"TLSv1.3"` or `"TLSv1.2"`.
    pub fn version(&self) -> Option<&'static str> {
        self.version
    }

    /// Who the client is, once the handshake is done and if it has sent a certificate; also after a resumption.
    pub fn identity(&self) -> Option<Identity<'_>> {
        Identity::of(self.identity.as_deref()?)
    }

    /// The hosts that the configuration in force serves, once the handshake is done and if that was said.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// The cipher suite once the handshake is done: `"TLS13_AES_128_GCM_SHA256"`.
    pub fn cipher(&self) -> Option<&'static str> {
        self.cipher
    }

    /// The application protocol once the handshake is done, if one was negotiated (RFC 7301).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The server name that the client asked for, once the ClientHello is complete. As sent, not normalised.
    pub fn sni(&self) -> Option<&str> {
        self.sni.as_deref().or_else(|| self.hello()?.sni)
    }

    /// The session was resumed from a ticket.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Bytes on the heap: our own by capacity. For what rustls and the provider hold after the handshake (two keys and the key
    /// schedule) an estimate of 2 KiB is counted; during the handshake their state is not counted.
    pub fn retained_bytes(&self) -> usize {
        const RUSTLS: usize = 2 * 1_024;
        let identity = self.identity.as_ref().map_or(0, |list| list.len());
        let phase = match &self.phase {
            Phase::Handshake(handshake) => handshake.retained_bytes(),
            Phase::Traffic(traffic) => {
                let again = if traffic.keeps_chain() { identity } else { 0 };
                size_of::<Traffic>() + RUSTLS + again
            }
            Phase::Over => 0,
        };
        let names = self.alpn.as_ref().map_or(0, |alpn| alpn.len()) + self.sni.as_ref().map_or(0, |sni| sni.len());
        phase + self.out.capacity() + names + identity
    }
}
