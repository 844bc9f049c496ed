//! In: one protected record and the keys. Out: its plaintext, in the same place; and the way back.
//!
//! ```text
//! TLS 1.3
//!   0    1      3      5                       5 + len
//!   +----+------+------+-----------------------+------+-----------------+
//!   | 23 | 3, 3 |length| content (len bytes)   | type | tag (16 bytes)  |
//!   +----+------+------+-----------------------+------+-----------------+
//!     header: 5 bytes    at most FRAGMENT bytes   trailer: 17 bytes
//!
//! TLS 1.2 (AES-GCM; ChaCha20-Poly1305 has no explicit nonce)
//!   0      1      3      5                13                      13 + len
//!   +------+------+------+----------------+-----------------------+-----------------+
//!   | type | 3, 3 |length| explicit nonce | content (len bytes)   | tag (16 bytes)  |
//!   +------+------+------+----------------+-----------------------+-----------------+
//!     header: 13 bytes (or 5)               at most FRAGMENT bytes  trailer: 16 bytes
//! ```
//!
//! The cipher comes from rustls's QUIC side of the cipher suite: the nonce of a QUIC packet (RFC 9001 §5.3) is the nonce of
//! a TLS 1.3 record (RFC 8446 §5.3), the additional data is whatever the caller says it is, and it works in place without
//! allocating. It serves TLS 1.2 as well, whose suites use the same AEADs: the key of the provider's TLS 1.3 suite with the same
//! cipher makes the nonce of RFC 7905 §2 as it is, and the one of RFC 5288 §3 if its packet number is the explicit part and
//! its own vector has zeros there. A suite without that side is served by rustls's record cipher: it opens in place too, but sealing
//! copies the record through a buffer of rustls's.

use alloc::boxed::Box;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
    make_tls12_aad,
};
use rustls::quic::PacketKey;
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved, ProtocolVersion, SupportedCipherSuite,
    Tls12CipherSuite, Tls13CipherSuite,
};

use crate::base::Rule;

/// Bytes of every record before its content, or the explicit nonce in front of that.
pub(super) const HEADER: usize = 5;
/// The greatest content of a record (RFC 8446 §5.1, RFC 5246 §6.2.1).
pub(super) const FRAGMENT: usize = 16_384;
/// The greatest payload of a protected record (RFC 8446 §5.2). More than what TLS 1.2 can fill with AEADs.
pub(super) const CIPHERTEXT: usize = FRAGMENT + 256;
/// The most that stands before and behind the content of a protected record.
pub(super) const HEADER_MOST: usize = HEADER + NONCE;
pub(super) const TRAILER_MOST: usize = 1 + TAG;
const TAG: usize = 16;
// The explicit nonce (RFC 5288 §3), and the vector that it completes.
const NONCE: usize = 8;
const VECTOR: usize = 12;

// Content types (RFC 8446 §5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// How a protected record is laid out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// TLS 1.3: the content type is inside.
    Tls13,
    /// TLS 1.2 with a nonce in front of the content (RFC 5288).
    Explicit,
    /// TLS 1.2 without (RFC 7905).
    Implicit,
}

impl Form {
    /// Bytes before the content.
    pub(super) fn header(self) -> usize {
        if self == Form::Explicit { HEADER_MOST } else { HEADER }
    }

    /// Bytes behind the content.
    pub(super) fn trailer(self) -> usize {
        if self == Form::Tls13 { TRAILER_MOST } else { TAG }
    }

    /// What protection adds to the content, all in all.
    pub(super) fn overhead(self) -> usize {
        self.header() - HEADER + self.trailer()
    }
}

/// The suite whose keys are used.
#[derive(Copy, Clone)]
pub(super) enum Suite {
    /// Of TLS 1.3.
    Tls13(&'static Tls13CipherSuite),
    /// Of TLS 1.2, with the provider's suite of TLS 1.3 that uses the same cipher.
    Tls12(&'static Tls12CipherSuite, Option<&'static Tls13CipherSuite>),
}

impl Suite {
    /// The negotiated suite, with a twin from those that the provider has.
    pub(super) fn new(suite: SupportedCipherSuite, all: &[SupportedCipherSuite]) -> Suite {
        let old = match suite {
            SupportedCipherSuite::Tls13(suite) => return Suite::Tls13(suite),
            SupportedCipherSuite::Tls12(suite) => suite,
        };
        let same = match old.common.suite {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            _ => return Suite::Tls12(old, None),
        };
        Suite::Tls12(old, all.iter().filter_map(SupportedCipherSuite::tls13).find(|suite| suite.common.suite == same))
    }

    /// Its name, as IANA writes it.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Suite::Tls13(suite) => suite.common.suite.as_str(),
            Suite::Tls12(suite, _) => suite.common.suite.as_str(),
        }
    }

    fn form(self) -> Result<Form, Rule> {
        match self {
            Suite::Tls13(_) => Ok(Form::Tls13),
            Suite::Tls12(suite, _) => {
                let shape = suite.aead_alg.key_block_shape();
                match (shape.fixed_iv_len, shape.explicit_nonce_len) {
                    (4, NONCE) => Ok(Form::Explicit),
                    (VECTOR, 0) => Ok(Form::Implicit),
                    _ => Err(Rule::TlsInternal),
                }
            }
        }
    }

    fn limit(self) -> u64 {
        match self {
            Suite::Tls13(suite) => suite.common.confidentiality_limit,
            Suite::Tls12(suite, _) => suite.common.confidentiality_limit,
        }
    }

    // The packet cipher of a suite, if it has one. A tag of another length would not fit the record.
    fn packet_key(self, key: AeadKey, iv: Iv) -> Result<Key, Rule> {
        let (Suite::Tls13(suite) | Suite::Tls12(_, Some(suite))) = self else { return Ok(Key::Raw(key, iv)) };
        match suite.quic {
            Some(quic) if quic.aead_key_len() == suite.aead_alg.key_len() => {
                let key = quic.packet_key(key, iv);
                if key.tag_len() == TAG { Ok(Key::Packet(key)) } else { Err(Rule::TlsInternal) }
            }
            _ => Ok(Key::Raw(key, iv)),
        }
    }
}

/// What a record holds: `len` bytes of a content type, `skip` bytes from the record's start.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Inner {
    pub(super) kind: u8,
    pub(super) skip: usize,
    pub(super) len: usize,
}

/// A broken rule, and how far from the record's first byte.
pub(super) type Fault = (Rule, usize);

/// A record's five bytes, as far as they have come.
pub(super) enum Header {
    /// This many bytes are missing.
    Partial(usize),
    /// Content type and payload length.
    Whole(u8, usize),
}

/// Reads the header that `raw` begins with. Each byte is judged as soon as it is there, so that no split of the input changes
/// the verdict: the type by `kind`, the version, the length by `length`.
pub(super) fn header(
    raw: &[u8],
    protected: bool,
    kind: impl FnOnce(u8) -> Result<(), Rule>,
    length: impl FnOnce(u8, usize) -> Result<(), Rule>,
) -> Result<Header, Fault> {
    if let Some(&first) = raw.first() {
        kind(first).map_err(|rule| (rule, 0))?;
    }
    // RFC 8446 §5.1: the minor version of a plaintext record means nothing; §5.2: a protected record always says 3, 3.
    if raw.get(1).is_some_and(|&major| major != 3) {
        return Err((Rule::TlsRecordVersion, 1));
    }
    if protected && raw.get(2).is_some_and(|&minor| minor != 3) {
        return Err((Rule::TlsRecordVersion, 2));
    }
    let Some(&[first, _, _, high, low]) = raw.first_chunk::<HEADER>() else {
        return Ok(Header::Partial(HEADER.saturating_sub(raw.len())));
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    length(first, len).map_err(|rule| (rule, 3))?;
    Ok(Header::Whole(first, len))
}

/// A packet cipher, or what there is to make a record cipher of.
enum Key {
    Packet(Box<dyn PacketKey>),
    Raw(AeadKey, Iv),
}

enum Opener {
    Packet(Box<dyn PacketKey>),
    Message(Box<dyn MessageDecrypter>),
}

enum Sealer {
    Packet(Box<dyn PacketKey>),
    Message(Box<dyn MessageEncrypter>),
}

/// The keys for what comes in, and the number of the next record.
pub(super) struct Receive {
    key: Opener,
    form: Form,
    sequence: u64,
}

/// The keys for what goes out, the number of the next record, and how many records they may seal in all.
pub(super) struct Send {
    key: Sealer,
    form: Form,
    /// The explicit part of the first nonce (TLS 1.2 with AES-GCM).
    nonce: [u8; NONCE],
    sequence: u64,
    limit: u64,
}

// RFC 8446 §5.2: the additional data is the record's header.
fn additional_data(payload: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}

// RFC 5246 §6.2.3.3: the number, the type, the version, and how long the content is.
fn additional_data_12(sequence: u64, kind: u8, content: usize) -> [u8; 13] {
    make_tls12_aad(sequence, ContentType::from(kind), ProtocolVersion::TLSv1_2, content)
}

fn split(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Rule> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Rule::TlsInternal),
    }
}

// The fixed part of a vector, zeros behind it; and the rest.
fn salt(iv: &Iv) -> Result<([u8; VECTOR], [u8; NONCE]), Rule> {
    let (salt, nonce) = iv.as_ref().split_last_chunk::<NONCE>().ok_or(Rule::TlsInternal)?;
    let mut fixed = [0; VECTOR];
    fixed.get_mut(..salt.len()).ok_or(Rule::TlsInternal)?.copy_from_slice(salt);
    Ok((fixed, *nonce))
}

impl Receive {
    pub(super) fn new(suite: Suite, from: (u64, ConnectionTrafficSecrets)) -> Result<Receive, Rule> {
        let (sequence, secrets) = from;
        let (key, mut iv) = split(secrets)?;
        let form = suite.form()?;
        if form == Form::Explicit {
            iv = Iv::from(salt(&iv)?.0); // the rest comes with each record
        }
        let key = match suite.packet_key(key, iv)? {
            Key::Packet(key) => Opener::Packet(key),
            Key::Raw(key, iv) => Opener::Message(match suite {
                Suite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
                Suite::Tls12(suite, _) => {
                    let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                    suite.aead_alg.decrypter(key, iv.as_ref().get(..fixed).ok_or(Rule::TlsInternal)?)
                }
            }),
        };
        Ok(Receive { key, form, sequence })
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Opens a whole record in place: header, content, type and tag.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Inner, Rule> {
        let (head, payload) = record.split_first_chunk_mut::<HEADER>().ok_or(Rule::TlsInternal)?;
        let [kind, ..] = *head;
        let next = self.sequence.checked_add(1).ok_or(Rule::TlsKeysWornOut)?;
        let inner = match (&mut self.key, self.form) {
            (Opener::Packet(key), Form::Tls13) => open_packet(&**key, self.sequence, payload)?,
            (Opener::Packet(key), form) => open_packet_12(&**key, form, self.sequence, kind, payload)?,
            (Opener::Message(key), _) => open_message(&mut **key, self.sequence, kind, payload)?,
        };
        self.sequence = next;
        Ok(inner)
    }
}

fn open_packet_12(key: &dyn PacketKey, form: Form, sequence: u64, kind: u8, payload: &mut [u8]) -> Result<Inner, Rule> {
    let len = payload.len().checked_sub(form.overhead()).ok_or(Rule::TlsBadRecord)?;
    let aad = additional_data_12(sequence, kind, len);
    let (number, sealed) = match form {
        Form::Explicit => {
            let (nonce, sealed) = payload.split_first_chunk_mut::<NONCE>().ok_or(Rule::TlsBadRecord)?;
            (u64::from_be_bytes(*nonce), sealed)
        }
        _ => (sequence, payload),
    };
    let plain = key.decrypt_in_place(number, &aad, sealed).map_err(|_| Rule::TlsBadRecord)?;
    if plain.len() > FRAGMENT {
        return Err(Rule::TlsRecordTooLong);
    }
    Ok(Inner { kind, skip: form.header(), len: plain.len() })
}

fn open_packet(key: &dyn PacketKey, sequence: u64, payload: &mut [u8]) -> Result<Inner, Rule> {
    let aad = additional_data(payload.len());
    let plain = key.decrypt_in_place(sequence, &aad, payload).map_err(|_| Rule::TlsBadRecord)?;
    // RFC 8446 §5.4: content, one byte of type, zeros; never more than 2^14 + 1 in all.
    if plain.len() > FRAGMENT + 1 {
        return Err(Rule::TlsRecordTooLong);
    }
    let len = plain.iter().rposition(|&byte| byte != 0).ok_or(Rule::TlsInnerPlaintext)?;
    let kind = plain.get(len).copied().ok_or(Rule::TlsInternal)?;
    Ok(Inner { kind, skip: HEADER, len })
}

fn open_message(key: &mut dyn MessageDecrypter, sequence: u64, kind: u8, payload: &mut [u8]) -> Result<Inner, Rule> {
    let (base, room) = (payload.as_ptr() as usize, payload.len());
    let message = InboundOpaqueMessage::new(ContentType::from(kind), ProtocolVersion::TLSv1_2, payload);
    let plain = key.decrypt(message, sequence).map_err(|error| match error {
        Error::PeerSentOversizedRecord => Rule::TlsRecordTooLong,
        Error::PeerMisbehaved(
            PeerMisbehaved::IllegalTlsInnerPlaintext | PeerMisbehaved::IllegalMiddleboxChangeCipherSpec,
        ) => Rule::TlsInnerPlaintext,
        _ => Rule::TlsBadRecord,
    })?;
    // The plaintext is lent from the payload; where in it is known only from its address.
    let (start, len) = ((plain.payload.as_ptr() as usize).wrapping_sub(base), plain.payload.len());
    if start > room || len > room - start {
        return Err(Rule::TlsInternal);
    }
    Ok(Inner { kind: plain.typ.into(), skip: HEADER + start, len })
}

impl Send {
    pub(super) fn new(suite: Suite, from: (u64, ConnectionTrafficSecrets)) -> Result<Send, Rule> {
        let (sequence, secrets) = from;
        let (key, iv) = split(secrets)?;
        let (form, (_, nonce)) = (suite.form()?, salt(&iv)?);
        let key = match suite.packet_key(key, iv)? {
            Key::Packet(key) => Sealer::Packet(key),
            Key::Raw(key, iv) => {
                let key = match suite {
                    Suite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
                    Suite::Tls12(suite, _) => {
                        let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
                        let (fixed, explicit) = iv.as_ref().split_at_checked(fixed).ok_or(Rule::TlsInternal)?;
                        suite.aead_alg.encrypter(key, fixed, explicit)
                    }
                };
                Sealer::Message(begin_at(sequence, key)?)
            }
        };
        Ok(Send { key, form, nonce, sequence, limit: suite.limit() })
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The keys will soon have sealed all that they safely can (RFC 8446 §5.5): time for the next ones.
    pub(super) fn wearing_out(&self) -> bool {
        self.sequence > 0 && self.left() <= (self.limit / 4).clamp(4, 1_024)
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.sequence)
    }

    /// Seals `len` bytes that lie behind the room for the header, in place. `keep` records must stay possible afterwards.
    pub(super) fn seal(&mut self, record: &mut [u8], kind: u8, len: usize, keep: u64) -> Result<usize, Rule> {
        if self.left() <= keep {
            return Err(Rule::TlsKeysWornOut);
        }
        let next = self.sequence.checked_add(1).ok_or(Rule::TlsKeysWornOut)?;
        if len > FRAGMENT {
            return Err(Rule::TlsInternal);
        }
        let total = self.form.header() + len + self.form.trailer();
        let record = record.get_mut(..total).ok_or(Rule::TlsInternal)?;
        match (&mut self.key, self.form) {
            (Sealer::Packet(key), Form::Tls13) => seal_packet(&**key, self.sequence, record, kind),
            (Sealer::Packet(key), form) => seal_packet_12(&**key, form, self.nonce, self.sequence, record, kind),
            (Sealer::Message(key), form) => seal_message(&mut **key, form, self.sequence, record, kind),
        }?;
        self.sequence = next;
        Ok(total)
    }
}

fn seal_packet(key: &dyn PacketKey, sequence: u64, record: &mut [u8], kind: u8) -> Result<(), Rule> {
    let (head, rest) = record.split_first_chunk_mut::<HEADER>().ok_or(Rule::TlsInternal)?;
    *head = additional_data(rest.len());
    let (plain, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Rule::TlsInternal)?;
    *plain.last_mut().ok_or(Rule::TlsInternal)? = kind;
    let sealed = key.encrypt_in_place(sequence, head, plain).map_err(|_| Rule::TlsInternal)?;
    *tag = sealed.as_ref().try_into().map_err(|_| Rule::TlsInternal)?;
    Ok(())
}

// The nonce is the vector and the record's number, one over the other, as rustls makes it: RFC 5288 §3 leaves the explicit part to
// the sender, as long as none comes twice.
fn seal_packet_12(
    key: &dyn PacketKey,
    form: Form,
    nonce: [u8; NONCE],
    sequence: u64,
    record: &mut [u8],
    kind: u8,
) -> Result<(), Rule> {
    let (head, rest) = record.split_first_chunk_mut::<HEADER>().ok_or(Rule::TlsInternal)?;
    let [_, _, _, high, low] = additional_data(rest.len());
    *head = [kind, 3, 3, high, low];
    let rest = match form {
        Form::Explicit => {
            let (explicit, rest) = rest.split_first_chunk_mut::<NONCE>().ok_or(Rule::TlsInternal)?;
            *explicit = (u64::from_be_bytes(nonce) ^ sequence).to_be_bytes();
            rest
        }
        _ => rest,
    };
    let (plain, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Rule::TlsInternal)?;
    let aad = additional_data_12(sequence, kind, plain.len());
    let sealed = key.encrypt_in_place(sequence, &aad, plain).map_err(|_| Rule::TlsInternal)?;
    *tag = sealed.as_ref().try_into().map_err(|_| Rule::TlsInternal)?;
    Ok(())
}

// AWS-LC's record cipher takes the first number that it is given for zero, and refuses one that then seems to go back. rustls
// has sealed its own last records with a key of its own, so ours is shown the true zero first; what that seals is thrown away.
fn begin_at(sequence: u64, mut key: Box<dyn MessageEncrypter>) -> Result<Box<dyn MessageEncrypter>, Rule> {
    if sequence > 0 {
        let nothing = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(&[]),
        };
        key.encrypt(nothing, 0).map_err(|_| Rule::TlsInternal)?;
    }
    Ok(key)
}

fn seal_message(
    key: &mut dyn MessageEncrypter,
    form: Form,
    sequence: u64,
    record: &mut [u8],
    kind: u8,
) -> Result<(), Rule> {
    let end = record.len().checked_sub(form.trailer()).ok_or(Rule::TlsInternal)?;
    let content = record.get(form.header()..end).ok_or(Rule::TlsInternal)?;
    let message = OutboundPlainMessage {
        typ: ContentType::from(kind),
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(content),
    };
    let sealed = key.encrypt(message, sequence).map_err(|_| Rule::TlsInternal)?.encode();
    if sealed.len() != record.len() {
        return Err(Rule::TlsInternal);
    }
    record.copy_from_slice(&sealed);
    Ok(())
}
