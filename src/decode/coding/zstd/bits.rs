//! In: the bytes of a table description, or of a bitstream. Out: their bits, from the front or from the back (RFC 8878 §4.1).

/// Eight bytes from `at` on, low byte first; what lies behind the end is zero.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// Bits from the front, low bit of each byte first: descriptions of tables.
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Forward<'a> {
        Forward { bytes, at: 0 }
    }

    /// The next `n` bits, at most 32; zeros behind the end, which [`Forward::bytes_taken`] tells.
    pub(super) fn peek(&self, n: u32) -> u32 {
        let word = load(self.bytes, self.at / 8) >> (self.at % 8);
        (word & ((1 << n) - 1)) as u32
    }

    pub(super) const fn skip(&mut self, n: u32) {
        self.at += n as usize;
    }

    /// Whole bytes that were begun, unless there are not so many.
    pub(super) fn bytes_taken(&self) -> Option<usize> {
        let taken = self.at.div_ceil(8);
        (taken <= self.bytes.len()).then_some(taken)
    }
}

/// Bits from the back, high bit first, below the mark that ends the stream.
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits that are left; negative when more were read than there were.
    left: i64,
}

impl<'a> Backward<'a> {
    /// `None` if there is no mark: the last byte is zero, or there is none.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Backward<'a>> {
        let mark = bytes.last()?.checked_ilog2()?;
        Some(Backward { bytes, left: (bytes.len() as i64 - 1) * 8 + i64::from(mark) })
    }

    /// The next `n` bits, at most 56, without taking them; those behind the end are zeros.
    #[inline]
    pub(super) fn peek(&self, n: u32) -> u64 {
        let from = self.left - i64::from(n);
        let word = match u64::try_from(from) {
            Ok(from) => load(self.bytes, (from / 8) as usize) >> (from % 8),
            // The highest bits are there, the lower ones are not.
            Err(_) => load(self.bytes, 0).checked_shl(from.unsigned_abs() as u32).unwrap_or(0),
        };
        word & ((1 << n) - 1)
    }

    #[inline]
    pub(super) const fn skip(&mut self, n: u32) {
        self.left -= n as i64;
    }

    #[inline]
    pub(super) fn read(&mut self, n: u32) -> u64 {
        let bits = self.peek(n);
        self.skip(n);
        bits
    }

    /// What is to be read next in one load.
    #[inline]
    pub(super) fn ahead(&self) -> Ahead {
        Ahead { word: self.peek(Ahead::BITS) << (64 - Ahead::BITS), taken: 0 }
    }

    #[inline]
    pub(super) const fn left(&self) -> i64 {
        self.left
    }
}

/// The next bits of a [`Backward`], for several reads.
#[derive(Copy, Clone)]
pub(super) struct Ahead {
    /// They stand at the top.
    word: u64,
    taken: u32,
}

impl Ahead {
    /// So many there are; whoever reads more gets zeros.
    pub(super) const BITS: u32 = 56;

    /// The next `n` bits, at most 63.
    #[inline]
    pub(super) const fn read(&mut self, n: u32) -> u64 {
        let bits = self.word >> 1 >> (63 - n);
        self.word <<= n;
        self.taken += n;
        bits
    }

    /// Bits that were read: to be skipped in what they are from.
    #[inline]
    pub(super) const fn taken(&self) -> u32 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_front_low_bits_come_first() {
        let mut bits = Forward::new(&[0b1010_0110, 0b0000_0001]);
        assert_eq!(bits.peek(3), 0b110);
        bits.skip(3);
        assert_eq!(bits.peek(6), 0b11_0100);
        bits.skip(6);
        assert_eq!((bits.peek(9), bits.bytes_taken()), (0, Some(2)));
        bits.skip(8);
        assert_eq!(bits.bytes_taken(), None, "behind the end");
    }

    #[test]
    fn from_the_back_they_begin_below_the_mark() {
        assert!(Backward::new(&[]).is_none() && Backward::new(&[5, 0]).is_none());
        let mut bits = Backward::new(&[0b1100_0011, 0b0000_1101]).expect("a mark");
        assert_eq!((bits.left(), bits.read(3), bits.read(4)), (11, 0b101, 0b1100));
        assert_eq!((bits.peek(4), bits.left()), (0b0011, 4));
        assert_eq!((bits.read(6), bits.left()), (0b00_1100, -2), "zeros follow");
        assert_eq!((bits.read(56), bits.read(56), bits.left()), (0, 0, -114));
        let mut bits = Backward::new(&[0b1100_0011, 0b0000_1101]).expect("a mark");
        let mut ahead = bits.ahead();
        assert_eq!((ahead.read(3), ahead.read(0), ahead.read(4), ahead.read(6)), (0b101, 0, 0b1100, 0b00_1100));
        bits.skip(ahead.taken());
        assert_eq!(bits.left(), -2, "the same, with one load");
        let long: Vec<u8> = (1..=20).collect();
        let mut bits = Backward::new(&long).expect("a mark");
        assert_eq!((bits.read(4), bits.read(56)), (0b0100, 0x13_1211_100f_0e0d));
    }
}
