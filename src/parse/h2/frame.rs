//! In: nine bytes, or what a frame is to say. Out: its header in numbers, or its bytes (RFC 9113 §4.1, §6, §7; RFC 9218 §7.1).
//! Parse and emit side by side.

use crate::base::Sink;

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 9;

/// Payload bytes of a frame that every peer takes, and that we take at most (RFC 9113 §4.2).
pub(crate) const LEAST_FRAME: u32 = 16_384;

/// Frame types (RFC 9113 §6; RFC 9218 §7.1).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0x0;
    pub(crate) const HEADERS: u8 = 0x1;
    pub(crate) const PRIORITY: u8 = 0x2;
    pub(crate) const RST_STREAM: u8 = 0x3;
    pub(crate) const SETTINGS: u8 = 0x4;
    pub(crate) const PUSH_PROMISE: u8 = 0x5;
    pub(crate) const PING: u8 = 0x6;
    pub(crate) const GOAWAY: u8 = 0x7;
    pub(crate) const WINDOW_UPDATE: u8 = 0x8;
    pub(crate) const CONTINUATION: u8 = 0x9;
    pub(crate) const PRIORITY_UPDATE: u8 = 0x10;
}

/// Flags (RFC 9113 §6): one bit means different things on different types.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Settings (RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(crate) const ENABLE_PUSH: u16 = 0x2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(crate) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    pub(crate) const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// NO_ERROR (RFC 9113 §7). The codes of errors stand in the table of rules.
pub(crate) const NO_ERROR: u32 = 0x0;
/// REFUSED_STREAM: nobody has seen the request.
pub(crate) const REFUSED_STREAM: u32 = 0x7;
/// CANCEL: we no longer need the stream.
pub(crate) const CANCEL: u32 = 0x8;
/// INTERNAL_ERROR: a response falls short of what it declared.
pub(crate) const INTERNAL_ERROR: u32 = 0x2;

/// The header of a frame.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct FrameHeader {
    /// Payload bytes.
    pub len: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, without the reserved bit; 0 is the connection.
    pub stream: u32,
}

impl FrameHeader {
    /// Reads nine bytes. The reserved bit is ignored (RFC 9113 §4.1).
    #[inline]
    pub const fn parse(bytes: &[u8; HEADER]) -> FrameHeader {
        let [a, b, c, kind, flags, s, t, u, v] = *bytes;
        let stream = u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff;
        FrameHeader { len: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    /// Its nine bytes. `len` is below 2^24.
    #[inline]
    pub const fn emit(self) -> [u8; HEADER] {
        let [_, a, b, c] = self.len.to_be_bytes();
        let [s, t, u, v] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s, t, u, v]
    }

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Puts one short frame with the room that is kept for last words, all or nothing.
pub(crate) fn put(out: &mut impl Sink, kind: u8, flags: u8, stream: u32, payload: &[&[u8]]) -> bool {
    let len = payload.iter().map(|p| p.len()).sum::<usize>() as u32;
    let header = FrameHeader { len, kind, flags, stream }.emit();
    let mut parts: [&[u8]; 4] = [&header, b"", b"", b""];
    for (slot, part) in parts[1..].iter_mut().zip(payload) {
        *slot = part;
    }
    out.put_last(&parts)
}

pub(crate) fn put_reset(out: &mut impl Sink, stream: u32, code: u32) -> bool {
    put(out, kind::RST_STREAM, 0, stream, &[&code.to_be_bytes()])
}

pub(crate) fn put_window_update(out: &mut impl Sink, stream: u32, by: u32) -> bool {
    put(out, kind::WINDOW_UPDATE, 0, stream, &[&by.to_be_bytes()])
}

/// GOAWAY, with a sentence for whoever reads the peer's log.
pub(crate) fn put_goaway(out: &mut impl Sink, last: u32, code: u32, text: &str) -> bool {
    put(out, kind::GOAWAY, 0, 0, &[&last.to_be_bytes(), &code.to_be_bytes(), text.as_bytes()])
}

/// The setting that a SETTINGS entry names, and its value.
pub(crate) const fn entry(bytes: &[u8; 6]) -> (u16, u32) {
    let [a, b, c, d, e, f] = *bytes;
    (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))
}

/// Settings as the payload of a frame.
pub(crate) fn settings<const N: usize>(entries: [(u16, u32); N]) -> [[u8; 6]; N] {
    entries.map(|(name, value)| {
        let ([a, b], [c, d, e, f]) = (name.to_be_bytes(), value.to_be_bytes());
        [a, b, c, d, e, f]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for header in [
            FrameHeader::default(),
            FrameHeader { len: 0xff_ffff, kind: 0xff, flags: 0xff, stream: 0x7fff_ffff },
            FrameHeader { len: 0x01_0203, kind: 4, flags: 5, stream: 0x0607_0809 },
        ] {
            assert_eq!(FrameHeader::parse(&header.emit()), header);
        }
        let reserved = [0, 0, 0, 0, 0, 0x80, 0, 0, 1];
        assert_eq!(FrameHeader::parse(&reserved).stream, 1, "the reserved bit is ignored");
    }
}
