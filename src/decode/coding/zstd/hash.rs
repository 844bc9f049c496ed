//! In: decoded bytes in any pieces. Out: the low half of their XXH64, the checksum of a frame (RFC 8878 §3.1.1).

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];
/// Bytes that the four lanes take in one round.
const STRIPE: usize = 32;

/// XXH64 with seed 0.
#[derive(Clone, Debug)]
pub(super) struct Xxh64 {
    lanes: [u64; 4],
    held: [u8; STRIPE],
    length: u64,
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

fn stripe(lanes: &mut [u64; 4], bytes: &[u8; STRIPE]) {
    let (words, _) = bytes.as_chunks::<8>();
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = round(*lane, u64::from_le_bytes(*word));
    }
}

impl Xxh64 {
    pub(super) const fn new() -> Xxh64 {
        let lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        Xxh64 { lanes, held: [0; STRIPE], length: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.length % STRIPE as u64) as usize;
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if held > 0 {
            let (into, more) = (self.held.get_mut(held..).unwrap_or_default(), bytes);
            let n = into.len().min(more.len());
            for (to, from) in into.iter_mut().zip(more) {
                *to = *from;
            }
            bytes = more.get(n..).unwrap_or_default();
            if held + n < STRIPE {
                return;
            }
            let full = self.held;
            stripe(&mut self.lanes, &full);
        }
        let (stripes, rest) = bytes.as_chunks::<STRIPE>();
        for full in stripes {
            stripe(&mut self.lanes, full);
        }
        for (to, from) in self.held.iter_mut().zip(rest) {
            *to = *from;
        }
    }

    /// The checksum as it stands behind a frame, low byte first.
    pub(super) fn trailer(&self) -> [u8; 4] {
        let [a, b, c, d] = self.lanes;
        let mut hash = if self.length < STRIPE as u64 {
            PRIMES[4]
        } else {
            let rotated = [a.rotate_left(1), b.rotate_left(7), c.rotate_left(12), d.rotate_left(18)];
            let sum = rotated.iter().fold(0u64, |sum, lane| sum.wrapping_add(*lane));
            self.lanes
                .iter()
                .fold(sum, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]))
        };
        hash = hash.wrapping_add(self.length);
        let held = self.held.get(..(self.length % STRIPE as u64) as usize).unwrap_or_default();
        let (words, rest) = held.as_chunks::<8>();
        for word in words {
            hash ^= round(0, u64::from_le_bytes(*word));
            hash = hash.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIMES[0]);
            hash = hash.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
        }
        for &byte in rest {
            hash ^= u64::from(byte).wrapping_mul(PRIMES[4]);
            hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(PRIMES[1]);
        hash = (hash ^ hash >> 29).wrapping_mul(PRIMES[2]);
        ((hash ^ hash >> 32) as u32).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_known_one_in_any_pieces() {
        let of = |bytes: &[u8], piece: usize| {
            let mut hash = Xxh64::new();
            bytes.chunks(piece).for_each(|part| hash.update(part));
            u32::from_le_bytes(hash.trailer())
        };
        assert_eq!(of(b"", 1), 0x51d8_e999, "of the empty text: ef46db3751d8e999");
        assert_eq!(of(b"abc", 2), 0xad77_0999, "44bc2cf5ad770999");
        let long: Vec<u8> = (0..300u32).map(|i| i as u8).collect();
        for length in [7, 31, 32, 33, 63, 64, 300] {
            let whole = of(&long[..length], 400);
            for piece in [1, 3, 31, 32, 33] {
                assert_eq!(of(&long[..length], piece), whole, "{length} in {piece}");
            }
        }
    }
}
