//! In: what stands behind the addresses of a PROXY header. Out: its values, checked once, read when asked; the checksum of all of it.

use super::proxy::Tls;
use crate::base::{Rule, Violation};

pub(super) const ALPN: u8 = 0x01;
pub(super) const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
pub(super) const UNIQUE_ID: u8 = 0x05;
pub(super) const TLS: u8 = 0x20;
pub(super) const TLS_VERSION: u8 = 0x21;
pub(super) const TLS_COMMON_NAME: u8 = 0x22;
pub(super) const TLS_CIPHER: u8 = 0x23;
pub(super) const TLS_SIGNATURE: u8 = 0x24;
pub(super) const TLS_KEY: u8 = 0x25;
pub(super) const NAMESPACE: u8 = 0x30;

/// A unique ID has no more bytes (§2.2.5).
const MOST_UNIQUE_ID: usize = 128;

/// Type and value of one after the other, in their order.
#[derive(Copy, Clone, Debug)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Tlvs<'a> {
        Tlvs { rest }
    }

    /// The value of the first one of this type.
    pub fn get(self, kind: u8) -> Option<&'a [u8]> {
        let mut all = self;
        all.find(|tlv| tlv.0 == kind).map(|tlv| tlv.1)
    }

    /// Where the rest is no TLV, if it is none.
    fn cut(&self) -> bool {
        !self.rest.is_empty() && self.split().is_none()
    }

    /// Type and value of the next one, and what follows: `type length(2) value`.
    fn split(&self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let ([kind, high, low], rest) = self.rest.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        Some((*kind, value, rest))
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (kind, value, rest) = self.split()?;
        self.rest = rest;
        Some((kind, value))
    }
}

/// A complete header, whose TLVs begin at `at`: is each of them whole, and what its type wants it to be? Does the checksum
/// agree, if there is one?
pub(super) fn check(header: &[u8], at: usize) -> Result<(), Violation> {
    let mut tlvs = Tlvs::new(header.get(at..).unwrap_or_default());
    let mut checksum = None;
    loop {
        let here = header.len() - tlvs.rest.len();
        let bad = |rule| Err(Violation::new(rule, here as u64));
        if tlvs.cut() {
            return bad(Rule::ProxyTlv);
        }
        let Some((kind, value)) = tlvs.next() else { break };
        let fits = match kind {
            CRC32C => value.len() == 4 && checksum.is_none(),
            UNIQUE_ID => value.len() <= MOST_UNIQUE_ID,
            AUTHORITY => core::str::from_utf8(value).is_ok(),
            TLS => Tls::new(value).is_some_and(|tls| is_whole(tls.tlvs())),
            _ => true,
        };
        if !fits {
            return bad(Rule::ProxyTlv);
        }
        if kind == CRC32C {
            checksum = Some(here + 3);
        }
    }
    match checksum {
        Some(place) if !agrees(header, place) => Err(Violation::new(Rule::ProxyChecksum, place as u64)),
        _ => Ok(()),
    }
}

fn is_whole(mut tlvs: Tlvs<'_>) -> bool {
    while tlvs.next().is_some() {}
    tlvs.rest.is_empty()
}

/// §2.2.3: the checksum of the header, in which its own four bytes count as zeros.
fn agrees(header: &[u8], place: usize) -> bool {
    let (before, rest) = header.split_at(place.min(header.len()));
    let Some((said, behind)) = rest.split_first_chunk::<4>() else { return false };
    let sum = [before, &[0; 4], behind].into_iter().fold(u32::MAX, crc32c);
    !sum == u32::from_be_bytes(*said)
}

/// CRC32C (RFC 9260 appendix A), reflected, four bits at a time.
pub(super) fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut i = 0;
        while i < 16 {
            let (mut sum, mut bit) = (i as u32, 0);
            while bit < 4 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
                bit += 1;
            }
            table[i] = sum;
            i += 1;
        }
        table
    };
    bytes.iter().fold(sum, |sum, &byte| {
        let sum = sum ^ u32::from(byte);
        let sum = sum >> 4 ^ TABLE[(sum & 15) as usize];
        sum >> 4 ^ TABLE[(sum & 15) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues give for CRC-32C, and the vectors of RFC 3720 appendix B.4.
    #[test]
    fn the_checksum_is_the_one_that_everybody_else_computes() {
        let sum = |bytes: &[u8]| !crc32c(u32::MAX, bytes);
        assert_eq!(sum(b"123456789"), 0xe306_9283);
        assert_eq!(sum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(sum(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(sum(&rising), 0x46dd_794e);
    }
}
