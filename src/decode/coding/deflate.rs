//! In: the two bytes of a zlib header and the content that follows. Out: whether the header is one we take, and the Adler-32
//! that must end the stream (RFC 1950 §2.2).

use crate::base::{Rule, Violation};

/// The zlib header, read byte by byte.
#[derive(Copy, Clone, Debug)]
pub(super) enum Header {
    Method,
    Flags(u8),
    End,
}

impl Header {
    pub(super) const fn new() -> Header {
        Header::Method
    }

    /// Takes bytes that lie at `at` in the body. Gives how many belonged to the header, and whether it is complete.
    pub(super) fn push(&mut self, input: &[u8], at: u64) -> Result<(usize, bool), Violation> {
        let mut taken = 0;
        for &byte in input {
            let wrong = Err(Violation::new(Rule::ZlibHeader, at + taken as u64));
            *self = match *self {
                // Method 8 with a window of at most 32 KiB. Most bare deflate streams end here (RFC 9110 §8.4.1.2).
                Header::Method if byte & 0x0f != 8 || byte >> 4 > 7 => return wrong,
                Header::Method => Header::Flags(byte),
                // The pair is a multiple of 31, and no preset dictionary is asked for: there is none to agree on.
                Header::Flags(method) if u16::from_be_bytes([method, byte]) % 31 != 0 => return wrong,
                Header::Flags(_) if byte & 0x20 != 0 => return wrong,
                Header::Flags(_) => Header::End,
                Header::End => break,
            };
            taken += 1;
        }
        Ok((taken, matches!(self, Header::End)))
    }
}

/// The checksum of RFC 1950 §8.2.
#[derive(Copy, Clone, Debug)]
pub(super) struct Adler32 {
    a: u32,
    b: u32,
}

impl Adler32 {
    const MODULUS: u32 = 65_521;
    // The most bytes, in whole blocks, before `b` could overflow: 255·n·(n+1)/2 + (n+1)·65520 < 2^32 for n = 5552.
    const LANES: usize = 16;
    const RUN: usize = 5_552;

    pub(super) const fn new() -> Adler32 {
        Adler32 { a: 1, b: 0 }
    }

    /// Takes content. Sixteen bytes at a time, whose weighted sums do not wait for each other.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(Self::RUN) {
            let (blocks, rest) = run.as_chunks::<{ Self::LANES }>();
            for block in blocks {
                self.b += self.a * Self::LANES as u32;
                let (mut sum, mut weighted) = (0, 0);
                for (i, &byte) in block.iter().enumerate() {
                    sum += u32::from(byte);
                    weighted += u32::from(byte) * (Self::LANES - i) as u32;
                }
                self.a += sum;
                self.b += weighted;
            }
            for &byte in rest {
                self.a += u32::from(byte);
                self.b += self.a;
            }
            self.a %= Self::MODULUS;
            self.b %= Self::MODULUS;
        }
    }

    /// The end of a stream: the checksum, high byte first.
    pub(super) const fn trailer(&self) -> [u8; 4] {
        (self.b << 16 | self.a).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ENC-05
    #[test]
    fn exactly_the_headers_of_the_rfc_are_taken() {
        let mut taken = 0;
        for method in 0..=255u8 {
            for flags in 0..=255u8 {
                let good = method & 15 == 8
                    && method >> 4 <= 7
                    && flags & 0x20 == 0
                    && (u32::from(method) * 256 + u32::from(flags)) % 31 == 0;
                let got = Header::new().push(&[method, flags, 0], 0);
                assert_eq!(got.is_ok(), good, "{method:02x} {flags:02x}");
                if good {
                    taken += 1;
                    assert_eq!(got, Ok((2, true)));
                }
            }
        }
        assert_eq!(taken, 8 * 4, "eight windows, four levels");
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        let naive = |bytes: &[u8]| {
            let (a, b) = bytes.iter().fold((1u64, 0u64), |(a, b), &x| {
                let a = (a + u64::from(x)) % 65_521;
                (a, (a + b) % 65_521)
            });
            ((b << 16 | a) as u32).to_be_bytes()
        };
        let mut sum = Adler32::new();
        sum.update(b"Wikipedia");
        assert_eq!(sum.trailer(), 0x11e6_0398u32.to_be_bytes());
        let bytes = vec![0xff; 70_000];
        for cut in [0, 1, 15, 16, 17, 5_551, 5_552, 5_553, 70_000] {
            let mut sum = Adler32::new();
            sum.update(&bytes[..cut]);
            sum.update(&bytes[cut..]);
            assert_eq!(sum.trailer(), naive(&bytes), "cut at {cut}");
            let mut sum = Adler32::new();
            sum.update(&bytes[..cut]);
            assert_eq!(sum.trailer(), naive(&bytes[..cut]), "of {cut}");
        }
    }
}
