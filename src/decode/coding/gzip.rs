//! In: the bytes of a gzip member's header, in any pieces. Out: where it ends, or the byte that is wrong; and the eight bytes
//! that must end the member (RFC 1952 §2.3).

use crate::base::{Limit, Limits, Rule, Violation};

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
// RFC 1952 §2.3.1.2: reserved bits must be zero, as they could announce fields that we would take for data.
const RESERVED: u8 = 0xe0;

/// What the next byte of the header is.
#[derive(Copy, Clone, Debug)]
enum Field {
    /// One of the ten bytes that always stand there.
    Fixed(u8),
    /// The length of the extra field, low byte first.
    ExtraLow,
    ExtraHigh(u8),
    /// So many bytes of the extra field remain.
    Extra(u16),
    Name,
    Comment,
    /// The CRC-16 of the header, low byte first.
    CrcLow,
    CrcHigh,
    End,
}

/// The header of one member, read byte by byte.
///
/// ```text
/// ID1 ID2 CM FLG MTIME×4 XFL OS │ XLEN×2 extra │ name NUL │ comment NUL │ CRC16×2 │ data
/// ────────── fixed ─────────────┴─── each only if its flag is set ────────────────┘
/// ```
pub(super) struct Header {
    field: Field,
    flags: u8,
    optional: u64,
    crc: crc32fast::Hasher,
}

impl Header {
    pub(super) fn new() -> Header {
        Header { field: Field::Fixed(0), flags: 0, optional: 0, crc: crc32fast::Hasher::new() }
    }

    /// Takes bytes that lie at `at` in the body. Gives how many belonged to the header, and whether it is complete.
    pub(super) fn push(&mut self, input: &[u8], at: u64, limits: &Limits) -> Result<(usize, bool), Violation> {
        for (i, &byte) in input.iter().enumerate() {
            if matches!(self.field, Field::End) {
                return Ok((i, true));
            }
            self.byte(byte, at + i as u64, limits)?;
        }
        Ok((input.len(), matches!(self.field, Field::End)))
    }

    fn byte(&mut self, byte: u8, at: u64, limits: &Limits) -> Result<(), Violation> {
        let wrong = Err(Violation::new(Rule::GzipHeader, at));
        if !matches!(self.field, Field::Fixed(_)) {
            self.optional += 1;
            if self.optional > limits.get(Limit::GzipHeaderBytes) {
                return Err(Violation::over(Rule::GzipHeaderTooLong, at, limits));
            }
        }
        self.field = match self.field {
            Field::Fixed(0) if byte != 0x1f => return wrong,
            Field::Fixed(1) if byte != 0x8b => return wrong,
            Field::Fixed(2) if byte != 8 => return wrong,
            Field::Fixed(3) if byte & RESERVED != 0 => return wrong,
            Field::Fixed(3) => {
                self.flags = byte;
                Field::Fixed(4)
            }
            Field::Fixed(9) => self.after(FEXTRA),
            Field::Fixed(n) => Field::Fixed(n + 1),
            Field::ExtraLow => Field::ExtraHigh(byte),
            Field::ExtraHigh(low) => match u16::from_le_bytes([low, byte]) {
                0 => self.after(FNAME),
                n => Field::Extra(n),
            },
            Field::Extra(1) => self.after(FNAME),
            Field::Extra(n) => Field::Extra(n.saturating_sub(1)),
            Field::Name if byte == 0 => self.after(FCOMMENT),
            Field::Name => Field::Name,
            Field::Comment if byte == 0 => self.after(FHCRC),
            Field::Comment => Field::Comment,
            Field::CrcLow if byte != self.sum()[0] => return wrong,
            Field::CrcLow => Field::CrcHigh,
            Field::CrcHigh if byte != self.sum()[1] => return wrong,
            Field::CrcHigh | Field::End => Field::End,
        };
        // The checksum covers everything before itself.
        if !matches!(self.field, Field::CrcHigh | Field::End) {
            self.crc.update(&[byte]);
        }
        Ok(())
    }

    /// The CRC-16: the low half of the CRC-32, low byte first.
    fn sum(&self) -> [u8; 2] {
        (self.crc.clone().finalize() as u16).to_le_bytes()
    }

    /// The first field that is there, from the one with flag `from` on.
    fn after(&self, from: u8) -> Field {
        let order =
            [(FEXTRA, Field::ExtraLow), (FNAME, Field::Name), (FCOMMENT, Field::Comment), (FHCRC, Field::CrcLow)];
        let rest = order.iter().skip_while(|(flag, _)| *flag != from);
        rest.filter(|(flag, _)| self.flags & flag != 0).map(|(_, field)| *field).next().unwrap_or(Field::End)
    }
}

/// The end of a member: the CRC-32 of the content and its length, modulo 2^32 (RFC 1952 §2.3.1).
pub(super) fn trailer(crc: u32, length: u64) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (crc.to_le_bytes(), (length as u32).to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, optional: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 5, 6];
        bytes.extend_from_slice(optional);
        if flags & FHCRC != 0 {
            let sum = crc32fast::hash(&bytes) as u16;
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(usize, bool), Violation> {
        Header::new().push(bytes, 0, &Limits::DEFAULT)
    }

    // ENC-04
    #[test]
    fn every_optional_field_is_skipped_and_the_header_ends_where_it_ends() {
        for flags in 0..32u8 {
            let mut optional = Vec::new();
            if flags & FEXTRA != 0 {
                optional.extend_from_slice(b"\x03\x00a\x00b");
            }
            if flags & FNAME != 0 {
                optional.extend_from_slice(b"name\0");
            }
            if flags & FCOMMENT != 0 {
                optional.extend_from_slice(b"\0");
            }
            let mut bytes = header(flags, &optional);
            let length = bytes.len();
            bytes.extend_from_slice(b"data");
            assert_eq!(read(&bytes), Ok((length, true)), "{flags:05b}");
            for cut in 0..length {
                let mut machine = Header::new();
                assert_eq!(machine.push(&bytes[..cut], 0, &Limits::DEFAULT), Ok((cut, false)));
                let rest = machine.push(&bytes[cut..], cut as u64, &Limits::DEFAULT);
                assert_eq!(rest, Ok((length - cut, true)), "{flags:05b} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_wrong_byte_is_named() {
        for (i, byte) in [(0, 0x1e), (1, 0), (2, 7), (3, 0x20), (3, 0x40), (3, 0x80)] {
            let mut bytes = header(0, &[]);
            bytes[i] = byte;
            assert_eq!(read(&bytes), Err(Violation::new(Rule::GzipHeader, i as u64)));
        }
        let mut bytes = header(FHCRC | FNAME, b"n\0");
        bytes[4] ^= 1;
        assert!(matches!(read(&bytes), Err(Violation { rule: Rule::GzipHeader, at: 12 | 13, .. })));
    }

    // ENC-04
    #[test]
    fn the_optional_fields_end_at_the_limit() {
        let limits = Limits::DEFAULT.with(Limit::GzipHeaderBytes, 20).expect("in range");
        for (length, fits) in [(19, true), (20, true), (21, false)] {
            let mut name = vec![b'n'; length - 1];
            name.push(0);
            let got = Header::new().push(&header(FNAME, &name), 0, &limits);
            match fits {
                true => assert_eq!(got, Ok((10 + length, true))),
                false => assert_eq!(got, Err(Violation { rule: Rule::GzipHeaderTooLong, at: 30, value: 20 })),
            }
        }
    }
}
