//! In: how often each symbol of an alphabet comes. Out: the table of an FSE decoder (RFC 8878 §4.1).

use super::bits::{Ahead, Backward, Forward};

/// The largest accuracy of any table here: that of literal lengths and match lengths.
pub(super) const ACCURACY_MAX: u32 = 9;
/// Symbols of the largest alphabet: the weights of a Huffman tree.
const SYMBOLS: usize = 256;

/// What a state of the decoder says.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) symbol: u8,
    /// Bits that make the next state, on top of `base`.
    bits: u8,
    base: u16,
}

/// The table of one alphabet.
#[derive(Clone, Debug)]
pub(super) struct Table {
    cells: [Cell; 1 << ACCURACY_MAX],
    accuracy: u32,
    /// There is one: it may be used again (RFC 8878 §3.1.1.3.2.1, repeat mode).
    is_set: bool,
}

impl Table {
    pub(super) const fn new() -> Table {
        let cell = Cell { symbol: 0, bits: 0, base: 0 };
        Table { cells: [cell; 1 << ACCURACY_MAX], accuracy: 0, is_set: false }
    }

    pub(super) const fn forget(&mut self) {
        self.is_set = false;
    }

    pub(super) const fn is_set(&self) -> bool {
        self.is_set
    }

    /// A table that only knows one symbol.
    pub(super) fn one(&mut self, symbol: u8) {
        self.accuracy = 0;
        self.cells[0] = Cell { symbol, bits: 0, base: 0 };
        self.is_set = true;
    }

    /// Reads a description: the accuracy, then how often each symbol comes, in as few bits as what is left to give out allows.
    /// Gives the bytes that it took; `None` if it is malformed, too exact, or has symbols above `symbol_max`.
    pub(super) fn read(&mut self, bytes: &[u8], accuracy_max: u32, symbol_max: usize) -> Option<usize> {
        let mut bits = Forward::new(bytes);
        let accuracy = bits.peek(4) + 5;
        bits.skip(4);
        if accuracy > accuracy_max {
            return None;
        }
        let (mut counts, mut symbols) = ([0i16; SYMBOLS], 0);
        let mut left = (1i32 << accuracy) + 1;
        let (mut threshold, mut width) = (1i32 << accuracy, accuracy + 1);
        while left > 1 {
            if symbols > symbol_max {
                return None;
            }
            let short = 2 * threshold - 1 - left;
            let low = bits.peek(width - 1) as i32;
            let count = if low < short {
                bits.skip(width - 1);
                low
            } else {
                let whole = bits.peek(width) as i32;
                bits.skip(width);
                if whole >= threshold { whole - short } else { whole }
            } - 1;
            left -= count.abs();
            *counts.get_mut(symbols)? = count as i16;
            symbols += 1;
            if count == 0 {
                loop {
                    let more = bits.peek(2);
                    bits.skip(2);
                    symbols += more as usize;
                    if more < 3 {
                        break;
                    }
                    if symbols > symbol_max {
                        return None;
                    }
                }
            }
            while left < threshold {
                width -= 1;
                threshold /= 2;
            }
        }
        if left != 1 || symbols > symbol_max + 1 {
            return None;
        }
        let taken = bits.bytes_taken()?;
        self.build(counts.get(..symbols)?, accuracy)?;
        Some(taken)
    }

    /// Spreads the symbols over the cells (RFC 8878 §4.1.1). A count of -1 is a symbol that comes less than once.
    pub(super) fn build(&mut self, counts: &[i16], accuracy: u32) -> Option<()> {
        self.is_set = false;
        let size = 1usize << accuracy;
        let cells = self.cells.get_mut(..size)?;
        let (mut next, mut high) = ([0u16; SYMBOLS], size);
        for (symbol, &count) in counts.iter().enumerate() {
            *next.get_mut(symbol)? = count.unsigned_abs();
            if count < 0 {
                high = high.checked_sub(1)?;
                cells.get_mut(high)?.symbol = symbol as u8;
            }
        }
        let (step, mask, mut at) = ((size >> 1) + (size >> 3) + 3, size - 1, 0);
        for (symbol, &count) in counts.iter().enumerate() {
            for _ in 0..count.max(0) {
                cells.get_mut(at)?.symbol = symbol as u8;
                at = (at + step) & mask;
                while at >= high {
                    at = (at + step) & mask;
                }
            }
        }
        if at != 0 {
            return None;
        }
        for cell in cells {
            let nth = next.get_mut(usize::from(cell.symbol))?;
            cell.bits = (accuracy - nth.checked_ilog2()?) as u8;
            cell.base = ((u32::from(*nth) << cell.bits) - size as u32) as u16;
            *nth += 1;
        }
        (self.accuracy, self.is_set) = (accuracy, true);
        Some(())
    }

    /// The first state.
    #[inline]
    pub(super) fn begin(&self, bits: &mut Backward<'_>) -> Cell {
        self.cell(bits.read(self.accuracy) as usize)
    }

    #[inline]
    fn cell(&self, at: usize) -> Cell {
        // Always inside: a state is less than 1 << accuracy.
        self.cells.get(at).copied().unwrap_or_default()
    }

    /// The state behind `cell`, from bits that were loaded.
    #[inline]
    pub(super) fn next_of(&self, cell: Cell, bits: &mut Ahead) -> Cell {
        self.cell(usize::from(cell.base) + bits.read(u32::from(cell.bits)) as usize)
    }

    /// The state behind `cell`.
    #[inline]
    pub(super) fn next(&self, cell: Cell, bits: &mut Backward<'_>) -> Cell {
        self.cell(usize::from(cell.base) + bits.read(u32::from(cell.bits)) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_spread_so_that_every_cell_has_a_way_on() {
        let mut table = Table::new();
        table.build(&[4, 3, -1, 2, 22], 5).expect("they add up");
        for symbol in 0..5 {
            let cells: Vec<&Cell> = table.cells[..32].iter().filter(|cell| cell.symbol == symbol).collect();
            assert_eq!(cells.len(), [4, 3, 1, 2, 22][usize::from(symbol)]);
            let reached: usize = cells.iter().map(|cell| 1 << cell.bits).sum();
            assert_eq!(reached, 32, "the states of a symbol lead to every state, once");
        }
        assert!(table.build(&[4, 4], 5).is_none(), "they do not add up");
        assert!(!table.is_set());
    }

    #[test]
    fn a_description_that_ends_too_soon_or_knows_too_many_symbols_is_none() {
        let mut table = Table::new();
        // Accuracy 5, then one symbol that has all 32 states: six bits that are all set.
        let all = [0b1111_0000, 0b11];
        assert_eq!(table.read(&all, 9, 0), Some(2));
        assert_eq!(table.read(&all[..1], 9, 0), None);
        assert_eq!(table.read(&[0x05, 0], 9, 35), None, "accuracy 10");
        assert_eq!(table.read(&[0; 40], 9, 31), Some(15), "less than one of each");
        assert_eq!(table.read(&[0; 40], 9, 30), None, "there are not so many symbols");
    }
}
