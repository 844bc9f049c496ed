//! In: one protected record and the keys. Out: its plaintext, in the same place; and the way back.
//!
//! ```text
//!   0    1      3      5                       5 + len
//!   +----+------+------+-----------------------+------+-----------------+
//!   | 23 | 3, 3 |length| content (len bytes)   | type | tag (16 bytes)  |
//!   +----+------+------+-----------------------+------+-----------------+
//!     HEADER: 5 bytes    at most FRAGMENT bytes   TRAILER: 17 bytes
//! ```
//!
//! The cipher comes from rustls's QUIC side of the cipher suite: the nonce of a QUIC packet (RFC 9001 §5.3) is the nonce of
//! a TLS 1.3 record (RFC 8446 §5.3), the additional data is whatever the caller says it is, and it works in place without
//! allocating. A suite without that side is served by rustls's record cipher: it opens in place too, but sealing copies the
//! record through a buffer of rustls's.

use alloc::boxed::Box;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::quic::PacketKey;
use rustls::{ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved, ProtocolVersion, Tls13CipherSuite};

use crate::base::Rule;

/// Bytes before a record's content.
pub(super) const HEADER: usize = 5;
/// Bytes after a sealed record's content: its type and the tag.
pub(super) const TRAILER: usize = 1 + TAG;
/// The greatest content of a record (RFC 8446 §5.1).
pub(super) const FRAGMENT: usize = 16_384;
/// The greatest payload of a protected record (RFC 8446 §5.2).
pub(super) const CIPHERTEXT: usize = FRAGMENT + 256;
const TAG: usize = 16;

// Content types (RFC 8446 §5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

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
    sequence: u64,
}

/// The keys for what goes out, the number of the next record, and how many records they may seal in all.
pub(super) struct Send {
    key: Sealer,
    sequence: u64,
    limit: u64,
}

// RFC 8446 §5.2: the additional data is the record's header.
fn additional_data(payload: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
    [APPLICATION_DATA, 3, 3, high, low]
}

fn split(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Rule> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Rule::TlsInternal),
    }
}

// The packet cipher of a suite, if it has one. A tag of another length would not fit the record.
fn packet_key(suite: &Tls13CipherSuite, key: AeadKey, iv: Iv) -> Result<Box<dyn PacketKey>, (AeadKey, Iv)> {
    match suite.quic {
        Some(quic) if quic.aead_key_len() == suite.aead_alg.key_len() => Ok(quic.packet_key(key, iv)),
        _ => Err((key, iv)),
    }
}

impl Receive {
    pub(super) fn new(suite: &Tls13CipherSuite, from: (u64, ConnectionTrafficSecrets)) -> Result<Receive, Rule> {
        let (sequence, secrets) = from;
        let (key, iv) = split(secrets)?;
        let key = match packet_key(suite, key, iv) {
            Ok(key) if key.tag_len() == TAG => Opener::Packet(key),
            Ok(_) => return Err(Rule::TlsInternal),
            Err((key, iv)) => Opener::Message(suite.aead_alg.decrypter(key, iv)),
        };
        Ok(Receive { key, sequence })
    }

    /// Opens a whole record in place: header, content, type and tag.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Inner, Rule> {
        let (_, payload) = record.split_at_mut_checked(HEADER).ok_or(Rule::TlsInternal)?;
        let next = self.sequence.checked_add(1).ok_or(Rule::TlsKeysWornOut)?;
        let inner = match &mut self.key {
            Opener::Packet(key) => open_packet(&**key, self.sequence, payload)?,
            Opener::Message(key) => open_message(&mut **key, self.sequence, payload)?,
        };
        self.sequence = next;
        Ok(inner)
    }
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

fn open_message(key: &mut dyn MessageDecrypter, sequence: u64, payload: &mut [u8]) -> Result<Inner, Rule> {
    let (base, room) = (payload.as_ptr() as usize, payload.len());
    let message = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload);
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
    pub(super) fn new(suite: &Tls13CipherSuite, from: (u64, ConnectionTrafficSecrets)) -> Result<Send, Rule> {
        let (sequence, secrets) = from;
        let (key, iv) = split(secrets)?;
        let key = match packet_key(suite, key, iv) {
            Ok(key) if key.tag_len() == TAG => Sealer::Packet(key),
            Ok(_) => return Err(Rule::TlsInternal),
            Err((key, iv)) => Sealer::Message(begin_at(sequence, suite.aead_alg.encrypter(key, iv))?),
        };
        Ok(Send { key, sequence, limit: suite.common.confidentiality_limit })
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
        let total = HEADER + len + TRAILER;
        let record = record.get_mut(..total).ok_or(Rule::TlsInternal)?;
        match &mut self.key {
            Sealer::Packet(key) => seal_packet(&**key, self.sequence, record, kind),
            Sealer::Message(key) => seal_message(&mut **key, self.sequence, record, kind),
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

// AWS-LC's record cipher takes the first number that it is given for zero, and refuses one that then seems to go back. rustls
// has sealed its tickets with a key of its own, so ours is shown the true zero first; what that seals is thrown away.
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

fn seal_message(key: &mut dyn MessageEncrypter, sequence: u64, record: &mut [u8], kind: u8) -> Result<(), Rule> {
    let content = record.len().checked_sub(TRAILER).and_then(|end| record.get(HEADER..end)).ok_or(Rule::TlsInternal)?;
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
