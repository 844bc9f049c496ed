//! In: the content of a gRPC request in any pieces, and its fields. Out: messages, whole or in parts; statuses, messages for people
//! and timeouts in the form that HTTP fields have them. As [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)
//! writes it.
//!
//! ```text
//!  ┌──────┬────────────┬─────────┐
//!  │ flag │ length     │ message │ ...     flag: 1 if the message is compressed as grpc-encoding says
//!  └──────┴────────────┴─────────┘
//!   1 byte  4, big-end.  length
//! ```
//!
//! [`Messages`] takes the framing off, without an allocator. `Gather` puts messages together and
//! decompresses them. The helpers that answer are methods of [`Reply`](crate::Reply): `grpc_begin`, `grpc_write`, `grpc_end`, `grpc_refuse`.

#[cfg(feature = "alloc")]
mod gather;
mod status;

#[cfg(feature = "alloc")]
pub use gather::Gather;
pub use status::{Code, escape};

use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::coding::Coding;
use core::time::Duration;

/// The content type of a request and of its response; `application/grpc+proto` and others say what the messages are.
pub const CONTENT_TYPE: &str = "application/grpc";

/// What `grpc-accept-encoding` says: the codings that this build takes off messages.
#[cfg(feature = "alloc")]
pub const ACCEPT_ENCODING: &str = "identity, gzip, deflate";
/// What `grpc-accept-encoding` says: without an allocator there is no window to decode into.
#[cfg(not(feature = "alloc"))]
pub const ACCEPT_ENCODING: &str = "identity";

/// How long the prefix of a message is.
pub const PREFIX_BYTES: usize = 5;

/// The prefix of a message that is not compressed.
///
/// ```
/// assert_eq!(vestibule::decode::grpc::prefix(258), [0, 0, 0, 1, 2]);
/// ```
pub const fn prefix(len: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

/// Appends a message with its prefix to others that go out together.
///
/// ```
/// let mut framed = Vec::new();
/// vestibule::decode::grpc::append(&mut framed, b"hi");
/// assert_eq!(framed, b"\0\0\0\0\x02hi");
/// ```
#[cfg(feature = "alloc")]
pub fn append(framed: &mut alloc::vec::Vec<u8>, message: &[u8]) {
    framed.extend_from_slice(&prefix(u32::try_from(message.len()).unwrap_or(u32::MAX)));
    framed.extend_from_slice(message);
}

/// The same with a typed message, encoded where it stands.
#[cfg(feature = "prost")]
pub fn append_message<M: prost::Message>(framed: &mut alloc::vec::Vec<u8>, message: &M) {
    let len = message.encoded_len();
    framed.reserve(PREFIX_BYTES + len);
    framed.extend_from_slice(&prefix(u32::try_from(len).unwrap_or(u32::MAX)));
    message.encode_raw(framed);
}

/// What the messages are by the value of `Content-Type`: `proto` for `application/grpc` itself. `None` if that is not a content
/// type of gRPC, which is to be answered with 415.
///
/// ```
/// use vestibule::decode::grpc::format;
/// assert_eq!(format(b"application/grpc"), Some(&b"proto"[..]));
/// assert_eq!(format(b"application/grpc+json; a=b"), Some(&b"json"[..]));
/// assert_eq!((format(b"application/grpc-web"), format(b"application/json")), (None, None));
/// ```
pub fn format(content_type: &[u8]) -> Option<&[u8]> {
    let (name, rest) = content_type.split_at_checked(CONTENT_TYPE.len())?;
    if !name.eq_ignore_ascii_case(CONTENT_TYPE.as_bytes()) {
        return None;
    }
    let end = rest.iter().position(|&b| b == b';').unwrap_or(rest.len());
    match rest.get(..end).unwrap_or_default().trim_ascii_end() {
        b"" => Some(b"proto"),
        [b'+', format @ ..] if !format.is_empty() => Some(format),
        _ => None,
    }
}

/// The coding of compressed messages by the value of `grpc-encoding`.
///
/// # Errors
/// [`Rule::GrpcEncoding`]: this build does not know it. To be answered with [`Code::Unimplemented`] and `grpc-accept-encoding`.
pub fn encoding(value: &[u8]) -> Result<Coding, Violation> {
    match value {
        b"identity" => Ok(Coding::Identity),
        b"gzip" if Coding::Gzip.is_supported() => Ok(Coding::Gzip),
        b"deflate" if Coding::Deflate.is_supported() => Ok(Coding::Deflate),
        _ => Err(Violation::new(Rule::GrpcEncoding, 0)),
    }
}

/// The value of `grpc-timeout`: at most eight digits and a unit. When the time is over is for the caller to see.
///
/// ```
/// use core::time::Duration;
/// use vestibule::decode::grpc::timeout;
/// assert_eq!(timeout(b"250m"), Ok(Duration::from_millis(250)));
/// assert_eq!(timeout(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3_600)));
/// assert_eq!(timeout(b"1x").unwrap_err().at, 1);
/// ```
///
/// # Errors
/// [`Rule::GrpcTimeout`] at the offset in the value.
pub fn timeout(value: &[u8]) -> Result<Duration, Violation> {
    let wrong = |at: usize| Violation::new(Rule::GrpcTimeout, at as u64);
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > 8 {
        return Err(wrong(digits.min(8)));
    }
    let n = value.iter().take(digits).fold(0, |n: u64, b| n * 10 + u64::from(b - b'0'));
    match value.get(digits..).unwrap_or_default() {
        b"H" => Ok(Duration::from_secs(n * 3_600)),
        b"M" => Ok(Duration::from_secs(n * 60)),
        b"S" => Ok(Duration::from_secs(n)),
        b"m" => Ok(Duration::from_millis(n)),
        b"u" => Ok(Duration::from_micros(n)),
        b"n" => Ok(Duration::from_nanos(n)),
        [b'H' | b'M' | b'S' | b'm' | b'u' | b'n', ..] => Err(wrong(digits + 1)),
        _ => Err(wrong(digits)),
    }
}

/// What comes out of [`Messages`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Item<'p> {
    /// A message begins.
    Start {
        /// It is compressed.
        compressed: bool,
        /// Its length as it is sent.
        len: u32,
    },
    /// Some of its bytes, as they lie in the piece; never empty.
    Part(&'p [u8]),
    /// It is complete.
    End,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    /// So many bytes of the prefix came.
    Prefix(u8),
    /// So many bytes of the message are to come.
    Content(u32),
}

/// Takes the framing off messages that come in any pieces. No allocation.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::grpc::{Item, Messages};
/// let mut messages = Messages::new(&Limits::DEFAULT);
/// let mut piece = &b"\0\0\0\0\x02hi\0\0\0\0\0"[..];
/// assert_eq!(messages.next(&mut piece)?, Some(Item::Start { compressed: false, len: 2 }));
/// assert_eq!(messages.next(&mut piece)?, Some(Item::Part(b"hi")));
/// assert_eq!(messages.next(&mut piece)?, Some(Item::End));
/// assert_eq!(messages.next(&mut piece)?, Some(Item::Start { compressed: false, len: 0 }));
/// assert_eq!(messages.next(&mut piece)?, Some(Item::End));
/// assert_eq!(messages.next(&mut piece)?, None);
/// messages.finish()?;
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Clone, Debug)]
pub struct Messages {
    phase: Phase,
    compressed: bool,
    len: u32,
    at: u64,
    most: u64,
    failed: Option<Violation>,
}

impl Messages {
    /// At the start of the content.
    pub const fn new(limits: &Limits) -> Messages {
        let most = limits.get(Limit::ProtobufMessageBytes);
        Messages { phase: Phase::Prefix(0), compressed: false, len: 0, at: 0, most, failed: None }
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// The next item; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// [`Rule::GrpcFlag`] at the flag, [`Rule::GrpcTooLarge`] at the length; from then on always the same.
    pub fn next<'p>(&mut self, piece: &mut &'p [u8]) -> Result<Option<Item<'p>>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let got = match self.phase {
            Phase::Content(0) => {
                self.phase = Phase::Prefix(0);
                return Ok(Some(Item::End));
            }
            Phase::Content(_) if piece.is_empty() => return Ok(None),
            Phase::Content(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let (part, rest) = piece.split_at(most.min(piece.len()));
                *piece = rest;
                self.at = self.at.saturating_add(part.len() as u64);
                self.phase = Phase::Content(left.saturating_sub(part.len() as u32));
                return Ok(Some(Item::Part(part)));
            }
            Phase::Prefix(got) => got,
        };
        self.prefix(piece, got).inspect_err(|violation| self.failed = Some(*violation))
    }

    fn prefix<'p>(&mut self, piece: &mut &'p [u8], mut got: u8) -> Result<Option<Item<'p>>, Violation> {
        while let Some((&byte, rest)) = piece.split_first() {
            match got {
                0 if byte > 1 => return Err(Violation::new(Rule::GrpcFlag, self.at)),
                0 => (self.compressed, self.len) = (byte == 1, 0),
                _ => self.len = self.len << 8 | u32::from(byte),
            }
            got += 1;
            self.at = self.at.saturating_add(1);
            *piece = rest;
            if usize::from(got) == PREFIX_BYTES {
                if u64::from(self.len) > self.most {
                    let at = self.at.saturating_sub(4);
                    return Err(Violation { rule: Rule::GrpcTooLarge, at, value: self.most });
                }
                self.phase = Phase::Content(self.len);
                return Ok(Some(Item::Start { compressed: self.compressed, len: self.len }));
            }
        }
        self.phase = Phase::Prefix(got);
        Ok(None)
    }

    /// The content ends here: to be called when [`Messages::next`] gave `None`.
    ///
    /// # Errors
    /// [`Rule::GrpcTruncated`] at the length of the content, if it ends inside a message; or what [`Messages::next`] said.
    pub fn finish(&mut self) -> Result<(), Violation> {
        match (self.failed, self.phase) {
            (Some(violation), _) => Err(violation),
            (None, Phase::Prefix(0)) => Ok(()),
            (None, _) => {
                let violation = Violation::new(Rule::GrpcTruncated, self.at);
                self.failed = Some(violation);
                Err(violation)
            }
        }
    }
}
