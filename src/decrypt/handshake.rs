//! In: handshake records, one at a time. Out: our flights, and in the end the secrets.
//!
//! rustls's unbuffered connection does the handshake. In front of it stand the limits that it has not got: the ClientHello is
//! joined here, so that its declared length is judged by its first four bytes and its records may be of any size; records,
//! ChangeCipherSpecs and warnings are counted; nothing reaches rustls that may not come now.
//!
//! Which version is spoken is known once rustls has answered the ClientHello. In TLS 1.2 the client's second flight is plaintext up to its
//! ChangeCipherSpec, which counts there.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{
    AlertDescription, Error, ExtractedSecrets, HandshakeKind, InvalidMessage, PeerIncompatible, PeerMisbehaved,
    ProtocolVersion,
};

use super::config::TlsConfig;
use super::hello;
use super::record::{self, Fault, Header, Suite};
use super::traffic::Alert;
use crate::base::memory::{copy, copy_text, extend};
use crate::base::{Limit, Limits, Rule, flatten};

// What our own flight and the rest may take next to a message that is being joined.
const BESIDES: usize = 24 * 1_024;
// What the structures themselves take.
const FIXED: usize = 4 * 1_024;
// A ChangeCipherSpec that says something else than it must, and a record of no type: see `last_words`.
const BAD_RECORDS: [&[u8]; 2] = [&[20, 3, 3, 0, 1, 2], &[0, 3, 3, 0, 1, 0]];

/// The most that a handshake holds on the heap, without rustls's own state and without a flight of ours over 24 KiB.
pub(super) fn bound_bytes(limits: &Limits) -> usize {
    let hello = limits.size(Limit::ClientHelloBytes).saturating_mul(3);
    let joined = limits.size(Limit::HandshakeMessageBytes);
    hello.max(joined).saturating_add(BESIDES).saturating_add(FIXED)
}

/// What one record did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// This many bytes are missing.
    Need(usize),
    /// A record was taken.
    More { total: usize },
    /// A record was taken, and the handshake is done: call `finish`.
    Done { total: usize },
    /// The ClientHello is whole, and the caller must choose a configuration.
    Hello,
    /// The peer gave up in an orderly way.
    Closed { total: usize },
}

/// What the ClientHello offered.
pub(super) struct Offer {
    pub(super) sni: Option<Box<str>>,
    pub(super) alpn: Box<[u8]>,
    early_data: bool,
}

/// What the client's next records are.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Era {
    /// Of a ClientHello.
    Hello,
    /// Protected, as TLS 1.3 does it.
    Protected,
    /// The plaintext part of a second flight of TLS 1.2.
    Clear,
    /// Behind its ChangeCipherSpec.
    Changed,
}

/// A handshake that runs.
pub(super) struct Handshake {
    config: TlsConfig,
    /// The caller has chosen, or need not.
    settled: bool,
    waiting: bool,
    conn: Option<UnbufferedServerConnection>,
    era: Era,
    /// ClientHellos that rustls has seen: two after a HelloRetryRequest.
    hellos: u8,
    /// The ClientHello as far as it came, behind room for a record header.
    hello: Vec<u8>,
    /// Protected records that rustls is not through with.
    incoming: Vec<u8>,
    pub(super) offer: Option<Offer>,
    records: u64,
    change_cipher_specs: u64,
    warnings: u64,
    /// The alert that rustls wants to send; sent by `fail`.
    alert: Vec<u8>,
}

/// What a finished handshake leaves.
pub(super) struct Finished {
    pub(super) secrets: ExtractedSecrets,
    /// The key schedule, where there is one to go on with.
    pub(super) kernel: Option<KernelConnection<ServerConnectionData>>,
    pub(super) suite: Suite,
    pub(super) version: &'static str,
    pub(super) identity: Option<Box<[u8]>>,
    /// The client's chain is not taken; there are keys by now under which it can be told.
    pub(super) refused: Option<Rule>,
    pub(super) alpn: Option<Box<[u8]>>,
    pub(super) sni: Option<Box<str>>,
    pub(super) resumed: bool,
}

impl Handshake {
    pub(super) fn new(config: TlsConfig) -> Handshake {
        Handshake {
            settled: !config.asks(),
            config,
            waiting: false,
            conn: None,
            era: Era::Hello,
            hellos: 0,
            hello: Vec::new(),
            incoming: Vec::new(),
            offer: None,
            records: 0,
            change_cipher_specs: 0,
            warnings: 0,
            alert: Vec::new(),
        }
    }

    /// The caller's choice; ignored once rustls has begun.
    pub(super) fn choose(&mut self, config: TlsConfig) -> bool {
        if self.hellos > 0 {
            return false;
        }
        self.config = config;
        self.settled = true;
        core::mem::take(&mut self.waiting)
    }

    pub(super) fn config(&self) -> &TlsConfig {
        &self.config
    }

    /// Takes the record that `raw` begins with. `first`: nothing was taken before.
    pub(super) fn open(&mut self, limits: &Limits, raw: &[u8], first: bool, out: &mut Vec<u8>) -> Result<Step, Fault> {
        if self.waiting {
            return Ok(Step::Hello);
        }
        let kind = |kind| self.judge_kind(limits, kind, first);
        let era = self.era;
        let (kind, len) = match record::header(raw, false, kind, |kind, len| judge_length(era, kind, len))? {
            Header::Partial(missing) => return Ok(Step::Need(missing)),
            Header::Whole(kind, len) => (kind, len),
        };
        let total = record::HEADER + len;
        let Some(record) = raw.get(..total) else {
            return Ok(Step::Need(total.saturating_sub(raw.len())));
        };
        self.records = self.records.saturating_add(1);
        let content = record.get(record::HEADER..).unwrap_or_default();
        let taken = match (kind, self.era) {
            (record::CHANGE_CIPHER_SPEC, era) => match self.change_cipher_spec(limits, content) {
                Ok(()) if era == Era::Clear => {
                    let step = self.hand_on(limits, record, out);
                    self.era = Era::Changed;
                    step
                }
                Ok(()) => Ok(Step::More { total }),
                Err(rule) => Err(rule),
            },
            (record::ALERT, Era::Hello | Era::Protected | Era::Clear) => self.plain_alert(limits, content, total),
            (record::HANDSHAKE, Era::Hello) => self.client_hello(limits, content, total, out),
            _ => self.hand_on(limits, record, out),
        };
        taken.map_err(|rule| (rule, 0))
    }

    fn judge_kind(&self, limits: &Limits, kind: u8, first: bool) -> Result<(), Rule> {
        let joining = !self.hello.is_empty() || (!self.incoming.is_empty() && !self.skips_early_data());
        let begun = self.hellos > 0;
        match kind {
            b'A'..=b'Z' if first => return Err(Rule::TlsPlainHttp),
            record::HANDSHAKE if self.era != Era::Protected => {}
            record::ALERT if self.era != Era::Changed || !joining => {}
            // RFC 8446 §5.1: nothing may come between the parts of a handshake message. In TLS 1.2 there is one.
            record::CHANGE_CIPHER_SPEC if begun && !joining && self.era != Era::Changed => {}
            record::CHANGE_CIPHER_SPEC if !begun || self.era == Era::Changed => return Err(Rule::TlsChangeCipherSpec),
            record::APPLICATION_DATA if self.era == Era::Protected => {}
            record::APPLICATION_DATA if self.era == Era::Hello && self.skips_early_data() && !joining => {}
            _ => return Err(Rule::TlsRecordType),
        }
        if self.records >= limits.get(Limit::HandshakeRecords) {
            return Err(Rule::TlsHandshakeRecords);
        }
        Ok(())
    }

    fn skips_early_data(&self) -> bool {
        self.hellos > 0 && self.offer.as_ref().is_some_and(|offer| offer.early_data)
    }

    // RFC 8446 appendix D.4: whatever it is for, it is the one byte that it must be. In TLS 1.3 it is dropped.
    fn change_cipher_spec(&mut self, limits: &Limits, content: &[u8]) -> Result<(), Rule> {
        self.change_cipher_specs = self.change_cipher_specs.saturating_add(1);
        if content != [1] || self.change_cipher_specs > limits.get(Limit::CompatibilityCcs) {
            return Err(Rule::TlsChangeCipherSpec);
        }
        Ok(())
    }

    // A client may fail before it has keys. What it says is not authenticated, but then no data was, either.
    fn plain_alert(&mut self, limits: &Limits, content: &[u8], total: usize) -> Result<Step, Rule> {
        match Alert::read(content, self.era == Era::Clear)? {
            Alert::CloseNotify => Ok(Step::Closed { total }),
            Alert::Fatal => Err(Rule::TlsPeerAlert),
            Alert::Warning => {
                self.warnings = self.warnings.saturating_add(1);
                if self.warnings > limits.get(Limit::WarningAlerts) {
                    return Err(Rule::TlsWarnings);
                }
                Ok(Step::More { total })
            }
        }
    }

    // Joins the ClientHello.
    //
    //   0        5      6         9
    //   | spare  | type | length  | body ...
    fn client_hello(&mut self, limits: &Limits, content: &[u8], total: usize, out: &mut Vec<u8>) -> Result<Step, Rule> {
        let limit = limits.size(Limit::ClientHelloBytes);
        if self.hello.is_empty() {
            self.hello.try_reserve(record::HEADER + 4).map_err(no_memory)?;
            self.hello.resize(record::HEADER, 0);
        }
        // The first four bytes are judged before the rest is kept.
        let missing = (record::HEADER + 4).saturating_sub(self.hello.len()).min(content.len());
        let (head, rest) = content.split_at_checked(missing).ok_or(Rule::TlsInternal)?;
        self.hello.extend_from_slice(head);
        if self.hello.get(record::HEADER).is_some_and(|&kind| kind != 1) {
            return Err(Rule::TlsRecordType);
        }
        let Some(&[_, a, b, c]) = self.hello.get(record::HEADER..).and_then(|message| message.first_chunk::<4>())
        else {
            return Ok(Step::More { total });
        };
        let declared = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        if declared > limit {
            return Err(Rule::TlsClientHelloTooLong);
        }
        let whole = record::HEADER + 4 + declared;
        let after = self.hello.len().saturating_add(rest.len());
        if after > whole {
            // Something follows the ClientHello in its record, where the keys change (RFC 8446 §5.1).
            return Err(Rule::TlsRecordType);
        }
        reserve(&mut self.hello, rest.len(), record::HEADER + 4 + limit)?;
        self.hello.extend_from_slice(rest);
        if after < whole {
            return Ok(Step::More { total });
        }
        self.hello_is_whole(out)?;
        Ok(Step::More { total })
    }

    fn hello_is_whole(&mut self, out: &mut Vec<u8>) -> Result<(), Rule> {
        if self.offer.is_none() {
            let found = hello::peek(self.hello.get(record::HEADER..).unwrap_or_default());
            let sni = found.sni.map(copy_text).transpose().map_err(no_memory)?;
            let alpn = copy(found.alpn).map_err(no_memory)?.into_boxed_slice();
            self.offer = Some(Offer { sni, alpn, early_data: found.early_data });
        }
        if !self.settled {
            self.waiting = true;
            return Ok(());
        }
        self.begin(out)
    }

    /// Gives the ClientHello to rustls, in records of the greatest size.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Rule> {
        if self.conn.is_none() {
            let conn = UnbufferedServerConnection::new(self.config.server().clone()).map_err(|_| Rule::TlsInternal)?;
            self.conn = Some(conn);
        }
        let mut hello = core::mem::take(&mut self.hello);
        let body = hello.len().saturating_sub(record::HEADER);
        if body <= record::FRAGMENT {
            frame(&mut hello, body);
            self.incoming = hello;
        } else {
            let message = hello.get(record::HEADER..).unwrap_or_default();
            let records = body.div_ceil(record::FRAGMENT);
            self.incoming.try_reserve_exact(body + records * record::HEADER).map_err(no_memory)?;
            for part in message.chunks(record::FRAGMENT) {
                let start = self.incoming.len();
                self.incoming.resize(start + record::HEADER, 0);
                self.incoming.extend_from_slice(part);
                frame(self.incoming.get_mut(start..).unwrap_or_default(), part.len());
            }
        }
        self.hellos = self.hellos.saturating_add(1);
        let first = self.hellos == 1;
        let driven = self.drive(out);
        let conn = self.conn.as_ref();
        let old = conn.and_then(|conn| conn.protocol_version()) == Some(ProtocolVersion::TLSv1_2);
        // Until the ServerHello is out, we speak plaintext too; a HelloRetryRequest asks for another ClientHello.
        self.era = match conn.and_then(|conn| conn.handshake_kind()) {
            None => Era::Hello,
            Some(_) if old => Era::Clear,
            Some(HandshakeKind::FullWithHelloRetryRequest) if first => Era::Hello,
            Some(_) => Era::Protected,
        };
        driven.map(|_| ())
    }

    // Gives rustls a record as it is.
    fn hand_on(&mut self, limits: &Limits, record: &[u8], out: &mut Vec<u8>) -> Result<Step, Rule> {
        let bound = limits.size(Limit::HandshakeMessageBytes);
        let others = out.len().saturating_add(self.offer.as_ref().map_or(0, |offer| offer.alpn.len()));
        let room = bound.saturating_add(BESIDES).saturating_sub(others).min(bound);
        if self.incoming.len().saturating_add(record.len()) > room {
            return Err(Rule::TlsHandshakeTooLong);
        }
        reserve(&mut self.incoming, record.len(), room)?;
        self.incoming.extend_from_slice(record);
        let total = record.len();
        Ok(match self.drive(out)? {
            Driven::Blocked => Step::More { total },
            Driven::Done => Step::Done { total },
            Driven::Closed => Step::Closed { total },
        })
    }

    // Lets rustls work until it waits for more, is done, or fails.
    fn drive(&mut self, out: &mut Vec<u8>) -> Result<Driven, Rule> {
        let conn = self.conn.as_mut().ok_or(Rule::TlsInternal)?;
        loop {
            let status = conn.process_tls_records(&mut self.incoming);
            let discard = status.discard;
            let (mut driven, mut encoded) = (None, Ok(()));
            match status.state {
                Ok(ConnectionState::EncodeTlsData(mut chunk)) => encoded = encode(out, |room| chunk.encode(room)),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::BlockedHandshake) => driven = Some(Ok(Driven::Blocked)),
                Ok(ConnectionState::WriteTraffic(_)) => driven = Some(Ok(Driven::Done)),
                Ok(_) => driven = Some(Err(Rule::TlsInternal)),
                Err(Error::AlertReceived(AlertDescription::CloseNotify)) => driven = Some(Ok(Driven::Closed)),
                Err(error) => driven = Some(Err(rule_of(&error))),
            }
            let discard = discard.min(self.incoming.len());
            self.incoming.drain(..discard);
            if self.incoming.is_empty() {
                self.incoming = Vec::new();
            }
            if let Err(rule) = encoded {
                self.conn = None; // a part of a flight is lost: whatever rustls says behind it could not be opened
                return Err(rule);
            }
            match driven {
                None => {}
                Some(Err(rule)) => {
                    self.alert = collect(conn, &mut self.incoming);
                    // An error without a name is the peer's only if rustls wants to tell it.
                    let named = rule != Rule::TlsInternal || self.alert.is_empty();
                    return Err(if named { rule } else { Rule::TlsHandshake });
                }
                Some(Ok(Driven::Done)) if conn.is_handshaking() => return Err(Rule::TlsInternal),
                Some(Ok(Driven::Closed)) => {
                    self.conn = None; // and with it the alert that rustls would answer
                    return Ok(Driven::Closed);
                }
                Some(Ok(driven)) => return Ok(driven),
            }
        }
    }

    /// Takes the connection apart once `open` said that it is done.
    pub(super) fn finish(mut self, limits: &Limits) -> Result<Finished, Rule> {
        let conn = self.conn.take().ok_or(Rule::TlsInternal)?;
        let alpn = conn.alpn_protocol().map(copy).transpose().map_err(no_memory)?.map(Vec::into_boxed_slice);
        let resumed = conn.handshake_kind() == Some(HandshakeKind::Resumed);
        let (identity, refused) = match self.identity(&conn, limits) {
            Ok(identity) => (identity, None),
            Err(rule) => (None, Some(rule)),
        };
        let suite = conn.negotiated_cipher_suite().ok_or(Rule::TlsInternal)?;
        let suite = Suite::new(suite, &self.config.server().crypto_provider().cipher_suites);
        let (secrets, kernel) = conn.dangerous_into_kernel_connection().map_err(|_| Rule::TlsInternal)?;
        let (version, kernel) = match suite {
            Suite::Tls13(_) => ("TLSv1.3", Some(kernel)),
            Suite::Tls12(..) => ("TLSv1.2", None),
        };
        let sni = self.offer.and_then(|offer| offer.sni);
        Ok(Finished { secrets, kernel, suite, version, identity, refused, alpn, sni, resumed })
    }

    // Whom rustls's verifier took the client for; in a resumed session, when it began.
    fn identity(&self, conn: &UnbufferedServerConnection, limits: &Limits) -> Result<Option<Box<[u8]>>, Rule> {
        let Some(chain) = conn.peer_certificates().filter(|chain| !chain.is_empty()) else { return Ok(None) };
        if !self.config.identifies() {
            return Err(Rule::TlsInternal);
        }
        if chain.len() > limits.size(Limit::ClientCertificates) {
            return Err(Rule::TlsCertificatesTooMany);
        }
        let bytes = chain.iter().fold(0usize, |sum, certificate| sum.saturating_add(certificate.len()));
        if bytes > limits.size(Limit::ClientCertificateBytes) {
            return Err(Rule::TlsCertificatesTooLong);
        }
        flatten(chain.iter().map(|certificate| certificate.as_ref())).map(Some).map_err(no_memory)
    }

    /// The records that end a handshake which failed by `code`.
    ///
    /// While we speak plaintext the alert is ours. Under the handshake's keys, which only rustls has, it is rustls's: the one of
    /// its own complaint, or else the one that a bad record makes it send (unexpected_message; bad_record_mac in TLS 1.2);
    /// close_notify is not to be had.
    pub(super) fn last_words(&mut self, code: u8) -> Vec<u8> {
        let mut words = core::mem::take(&mut self.alert);
        if !words.is_empty() {
            return words;
        }
        if self.speaks_plaintext() {
            let [level, code] = super::traffic::alert(code);
            let _ = extend(&mut words, &[record::ALERT, 3, 3, 0, 2, level, code]); // without memory there is no alert
            return words;
        }
        let Some(conn) = self.conn.as_mut().filter(|_| code != 0) else { return words };
        for bad in BAD_RECORDS {
            if conn.wants_write() || extend(&mut self.incoming, bad).is_err() {
                break;
            }
            let status = conn.process_tls_records(&mut self.incoming);
            let discard = status.discard;
            drop(status);
            let discard = discard.min(self.incoming.len());
            self.incoming.drain(..discard);
        }
        collect(conn, &mut self.incoming)
    }

    // TLS 1.2: our keys change behind the client's, or at once in a resumed session.
    fn speaks_plaintext(&self) -> bool {
        let resumed = self.conn.as_ref().and_then(|conn| conn.handshake_kind()) == Some(HandshakeKind::Resumed);
        match self.era {
            Era::Hello => true,
            Era::Protected => false,
            Era::Clear | Era::Changed => !resumed,
        }
    }

    pub(super) fn retained_bytes(&self) -> usize {
        let offer = self.offer.as_ref().map_or(0, |offer| offer.alpn.len() + offer.sni.as_ref().map_or(0, |s| s.len()));
        size_of::<Handshake>() + self.hello.capacity() + self.incoming.capacity() + self.alert.capacity() + offer
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Driven {
    Blocked,
    Done,
    Closed,
}

fn judge_length(era: Era, kind: u8, len: usize) -> Result<(), Rule> {
    const PROTECTED: usize = record::FRAGMENT + 24; // nonce and tag (RFC 5288 §3)
    match (kind, len) {
        // RFC 8446 §5.1: only application data may be empty, and while a handshake runs that is no use either.
        (_, 0) => Err(Rule::TlsRecordEmpty),
        (record::HANDSHAKE | record::ALERT, ..=PROTECTED) if era == Era::Changed => Ok(()),
        (record::APPLICATION_DATA, ..=record::CIPHERTEXT) | (_, ..=record::FRAGMENT) => Ok(()),
        _ => Err(Rule::TlsRecordTooLong),
    }
}

// Writes the header of a handshake record into the five bytes before its content.
fn frame(record: &mut [u8], len: usize) {
    let [high, low] = u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(head) = record.first_chunk_mut::<{ record::HEADER }>() {
        *head = [record::HANDSHAKE, 3, 3, high, low];
    }
}

// Makes room by doubling, but never beyond `bound`: linear work, and a capacity that the bound covers.
fn reserve(buffer: &mut Vec<u8>, more: usize, bound: usize) -> Result<(), Rule> {
    let need = buffer.len().saturating_add(more);
    if need > buffer.capacity() {
        let target = buffer.capacity().saturating_mul(2).clamp(need, bound.max(need));
        buffer.try_reserve_exact(target.saturating_sub(buffer.len())).map_err(no_memory)?;
    }
    Ok(())
}

fn no_memory<E>(_: E) -> Rule {
    Rule::TlsNoMemory
}

// Asks for the size first, then for the bytes.
fn encode(out: &mut Vec<u8>, mut chunk: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) -> Result<(), Rule> {
    let start = out.len();
    let size = match chunk(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => needed.required_size,
        Ok(_) => return Ok(()),
        Err(_) => return Err(Rule::TlsInternal),
    };
    out.try_reserve_exact(size).map_err(no_memory)?;
    out.resize(start + size, 0);
    chunk(out.get_mut(start..).unwrap_or_default()).map_err(|_| Rule::TlsInternal)?;
    Ok(())
}

// What a connection that has failed still wants to send. It is asked only while it says that there is something, since it
// would otherwise look into a buffer that it has lost track of.
fn collect(conn: &mut UnbufferedServerConnection, incoming: &mut [u8]) -> Vec<u8> {
    let mut words = Vec::new();
    while conn.wants_write() {
        match conn.process_tls_records(incoming).state {
            Ok(ConnectionState::EncodeTlsData(mut chunk)) => {
                if encode(&mut words, |room| chunk.encode(room)).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    words
}

fn rule_of(error: &Error) -> Rule {
    match error {
        Error::NoApplicationProtocol => Rule::TlsNoApplicationProtocol,
        Error::InvalidCertificate(_) => Rule::TlsCertificate,
        Error::NoCertificatesPresented => Rule::TlsCertificateMissing,
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Rule::TlsVersion,
        Error::DecryptError => Rule::TlsBadRecord,
        Error::AlertReceived(_) => Rule::TlsPeerAlert,
        Error::PeerSentOversizedRecord => Rule::TlsRecordTooLong,
        Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments) => Rule::TlsEmptyRecords,
        Error::PeerMisbehaved(PeerMisbehaved::TooManyWarningAlertsReceived) => Rule::TlsWarnings,
        Error::PeerMisbehaved(PeerMisbehaved::IllegalTlsInnerPlaintext) => Rule::TlsInnerPlaintext,
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => Rule::TlsHandshakeTooLong,
        Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::EncryptError
        | Error::BadMaxFragmentSize
        | Error::HandshakeNotComplete
        | Error::InconsistentKeys(_)
        | Error::General(_)
        | Error::Other(_) => Rule::TlsInternal,
        _ => Rule::TlsHandshake,
    }
}
