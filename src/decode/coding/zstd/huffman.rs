//! In: the description of a Huffman tree and its streams. Out: literals (RFC 8878 §4.2).

use alloc::vec::Vec;

use super::bits::Backward;
use super::fse::Table;

/// The longest code of a literal.
const BITS_MAX: u32 = 11;
/// The weights of all symbols but the last one.
const WEIGHTS_MAX: usize = 255;

#[derive(Copy, Clone, Debug, Default)]
struct Code {
    symbol: u8,
    bits: u8,
}

/// A tree, as a table by the next bits.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    codes: [Code; 1 << BITS_MAX],
    bits: u32,
}

impl Tree {
    pub(super) const fn new() -> Tree {
        Tree { codes: [Code { symbol: 0, bits: 0 }; 1 << BITS_MAX], bits: 0 }
    }

    pub(super) const fn forget(&mut self) {
        self.bits = 0;
    }

    pub(super) const fn is_set(&self) -> bool {
        self.bits > 0
    }

    /// Reads a description; gives the bytes that it took. `None` if it is malformed.
    pub(super) fn read(&mut self, bytes: &[u8], scratch: &mut Table) -> Option<usize> {
        self.bits = 0;
        let (&head, rest) = bytes.split_first()?;
        let mut weights = [0u8; WEIGHTS_MAX + 1];
        let (count, taken) = if head >= 128 {
            let count = usize::from(head) - 127;
            let packed = rest.get(..count.div_ceil(2))?;
            for (i, weight) in weights.iter_mut().take(count).enumerate() {
                let byte = packed.get(i / 2)?;
                *weight = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
            }
            (count, packed.len())
        } else {
            let packed = rest.get(..usize::from(head))?;
            let table = scratch.read(packed, 6, 255)?;
            (unpack(packed.get(table..)?, scratch, &mut weights)?, packed.len())
        };
        self.build(&mut weights, count)?;
        Some(1 + taken)
    }

    /// The weight of the last symbol is what is missing to a whole power of two; then codes go to symbols by weight.
    fn build(&mut self, weights: &mut [u8; WEIGHTS_MAX + 1], count: usize) -> Option<()> {
        let mut sum = 0u32;
        for &weight in weights.get(..count)? {
            if u32::from(weight) > BITS_MAX + 1 {
                return None;
            }
            sum += (1 << weight) >> 1;
        }
        let bits = sum.checked_ilog2()? + 1;
        let missing = (1u32 << bits) - sum;
        if bits > BITS_MAX || !missing.is_power_of_two() {
            return None;
        }
        *weights.get_mut(count)? = missing.ilog2() as u8 + 1;
        // A tree as deep as it says has leaves at the bottom, in pairs.
        let bottom = weights.iter().filter(|weight| **weight == 1).count();
        if bottom < 2 || bottom % 2 == 1 {
            return None;
        }
        let mut at = 0usize;
        for weight in 1..=bits as u8 {
            let cells = 1usize << (weight - 1);
            for (symbol, _) in weights.iter().enumerate().filter(|(_, w)| **w == weight) {
                let code = Code { symbol: symbol as u8, bits: bits as u8 + 1 - weight };
                self.codes.get_mut(at..at + cells)?.fill(code);
                at += cells;
            }
        }
        self.bits = bits;
        Some(())
    }

    /// Decodes one stream to exactly `length` literals that take exactly its bits.
    pub(super) fn decode(&self, stream: &[u8], length: usize, into: &mut Vec<u8>) -> Option<()> {
        // Five codes are at most 55 bits.
        const AT_ONCE: usize = 5;
        let mut bits = Backward::new(stream)?;
        let (whole, rest) = (length / AT_ONCE, length % AT_ONCE);
        let shift = 64 - self.bits;
        for _ in 0..whole {
            let mut word = bits.peek(56) << 8;
            let (mut five, mut taken) = ([0; AT_ONCE], 0);
            for literal in &mut five {
                let code = self.codes.get((word >> shift) as usize).copied().unwrap_or_default();
                *literal = code.symbol;
                word <<= code.bits;
                taken += u32::from(code.bits);
            }
            bits.skip(taken);
            into.extend_from_slice(&five);
        }
        for _ in 0..rest {
            let code = self.codes.get(bits.peek(self.bits) as usize).copied().unwrap_or_default();
            bits.skip(u32::from(code.bits));
            into.push(code.symbol);
        }
        (bits.left() == 0).then_some(())
    }
}

/// Weights that are coded themselves, by two states in turn, until the bits are used up.
fn unpack(stream: &[u8], table: &Table, weights: &mut [u8; WEIGHTS_MAX + 1]) -> Option<usize> {
    let mut bits = Backward::new(stream)?;
    let (mut now, mut other) = (table.begin(&mut bits), table.begin(&mut bits));
    if bits.left() < 0 {
        return None;
    }
    let mut count = 0;
    loop {
        *weights.get_mut(..WEIGHTS_MAX)?.get_mut(count)? = now.symbol;
        count += 1;
        now = table.next(now, &mut bits);
        core::mem::swap(&mut now, &mut other);
        if bits.left() < 0 {
            *weights.get_mut(..WEIGHTS_MAX)?.get_mut(count)? = now.symbol;
            return Some(count + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8878 §4.2.1.3: six symbols, the weight of the last one is implied.
    #[test]
    fn the_example_of_the_rfc() {
        let (mut tree, mut scratch) = (Tree::new(), Table::new());
        // Weights 4, 3, 2, 0, 1; the sixth is 1.
        assert_eq!(tree.read(&[127 + 5, 0x43, 0x20, 0x10], &mut scratch), Some(4));
        assert_eq!(tree.bits, 4);
        // 0: 1, 1: 01, 2: 001, 4: 0000, 5: 0001; fourteen bits and the mark.
        let (coded, mut out) = ([0b0000_0001, 0b0110_1001], Vec::new());
        assert_eq!((tree.decode(&coded, 5, &mut out), &out[..]), (Some(()), &[0, 1, 2, 4, 5][..]));
        for (length, coded) in [(4, &coded[..]), (6, &coded), (5, &coded[..1]), (5, &[0x01, 0xd2]), (5, &[1, 0])] {
            out.clear();
            assert_eq!(tree.decode(coded, length, &mut out), None, "{length} of {coded:?}");
        }
    }

    #[test]
    fn trees_that_do_not_fill_a_power_of_two_are_none() {
        let (mut tree, mut scratch) = (Tree::new(), Table::new());
        for bad in [&[128u8, 0x00][..], &[129, 0xcc], &[130, 0x43, 0x10], &[129, 0x22], &[255, 1], &[0], &[]] {
            assert_eq!(tree.read(bad, &mut scratch), None, "{bad:?}");
            assert!(!tree.is_set());
        }
    }
}
