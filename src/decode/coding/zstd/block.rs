//! In: the content of a compressed block. Out: what it decodes to, appended to the history (RFC 8878 §3.1.1.3).

use alloc::vec::Vec;

use super::bits::{Ahead, Backward};
use super::fse::Table;
use super::huffman::Tree;
use super::ring::Ring;

/// What a block leaves for the next ones of its frame.
#[derive(Debug)]
pub(super) struct Tables {
    tree: Tree,
    literal_lengths: Table,
    offsets: Table,
    match_lengths: Table,
    weights: Table,
    recent: [u32; 3],
}

/// Why a block cannot be decoded.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    Malformed,
    /// There is no memory, or no leave to take it.
    Memory,
}

/// A field of a sequence: its least value by its code, and how many bits are added to that.
type Codes = &'static [(u32, u8)];

const LITERAL_LENGTHS: Codes = &[
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (13, 0),
    (14, 0),
    (15, 0),
    (16, 1),
    (18, 1),
    (20, 1),
    (22, 1),
    (24, 2),
    (28, 2),
    (32, 3),
    (40, 3),
    (48, 4),
    (64, 6),
    (128, 7),
    (256, 8),
    (512, 9),
    (1_024, 10),
    (2_048, 11),
    (4_096, 12),
    (8_192, 13),
    (16_384, 14),
    (32_768, 15),
    (65_536, 16),
];
const MATCH_LENGTHS: Codes = &[
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 0),
    (12, 0),
    (13, 0),
    (14, 0),
    (15, 0),
    (16, 0),
    (17, 0),
    (18, 0),
    (19, 0),
    (20, 0),
    (21, 0),
    (22, 0),
    (23, 0),
    (24, 0),
    (25, 0),
    (26, 0),
    (27, 0),
    (28, 0),
    (29, 0),
    (30, 0),
    (31, 0),
    (32, 0),
    (33, 0),
    (34, 0),
    (35, 1),
    (37, 1),
    (39, 1),
    (41, 1),
    (43, 2),
    (47, 2),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 5),
    (131, 7),
    (259, 8),
    (515, 9),
    (1_027, 10),
    (2_051, 11),
    (4_099, 12),
    (8_195, 13),
    (16_387, 14),
    (32_771, 15),
    (65_539, 16),
];
/// What the next states of the three tables take together, at most.
const STATE_BITS: u32 = 9 + 9 + 8;
/// The largest code of an offset.
const OFFSET_MAX: usize = 31;

// RFC 8878 §3.1.1.3.2.2: the tables that need no description.
const USUAL_LITERAL_LENGTHS: [i16; 36] =
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1];
const USUAL_MATCH_LENGTHS: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];
const USUAL_OFFSETS: [i16; 29] =
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];

/// What bounds a block.
pub(super) struct Bounds {
    /// What it may decode to.
    pub(super) length: usize,
    /// How far it may look back.
    pub(super) window: usize,
    /// What its literals and the history may take, with the copy that that grows from.
    pub(super) memory: usize,
}

impl Tables {
    pub(super) const fn new() -> Tables {
        Tables {
            tree: Tree::new(),
            literal_lengths: Table::new(),
            offsets: Table::new(),
            match_lengths: Table::new(),
            weights: Table::new(),
            recent: [1, 4, 8],
        }
    }

    /// Another frame.
    pub(super) const fn begin(&mut self) {
        self.tree.forget();
        self.literal_lengths.forget();
        self.offsets.forget();
        self.match_lengths.forget();
        self.recent = [1, 4, 8];
    }

    /// Decodes a block. `literals` is memory for what it says literally.
    pub(super) fn decode(
        &mut self,
        content: &[u8],
        literals: &mut Vec<u8>,
        ring: &mut Ring,
        bounds: &Bounds,
    ) -> Result<(), Fault> {
        literals.clear();
        let (taken, raw) = self.literals(content, literals, ring, bounds)?;
        // What an earlier block took for its literals is still there.
        let memory = bounds.memory.saturating_sub(literals.capacity());
        let literals = raw.unwrap_or(literals);
        let rest = content.get(taken..).ok_or(Fault::Malformed)?;
        let (count, rest) = sequences_of(rest).ok_or(Fault::Malformed)?;
        let copied = match count {
            0 if rest.is_empty() => 0,
            0 => return Err(Fault::Malformed),
            _ => self.sequences(count, rest, literals, ring, &Bounds { memory, ..*bounds })?,
        };
        let rest = literals.get(copied..).unwrap_or_default();
        match ring.affords(rest.len(), memory) && ring.push(rest) {
            true => Ok(()),
            false => Err(Fault::Memory),
        }
    }

    /// The literals section; gives the bytes that it took, and the literals if they lie there as they are.
    fn literals<'a>(
        &mut self,
        content: &'a [u8],
        into: &mut Vec<u8>,
        ring: &Ring,
        bounds: &Bounds,
    ) -> Result<(usize, Option<&'a [u8]>), Fault> {
        let head = LiteralsHead::read(content).ok_or(Fault::Malformed)?;
        if head.length > bounds.length {
            return Err(Fault::Malformed);
        }
        let body = content.get(head.bytes..head.bytes + head.coded).ok_or(Fault::Malformed)?;
        let taken = head.bytes + head.coded;
        if head.kind == Kind::Raw {
            return Ok((taken, Some(body)));
        }
        if into.capacity() < head.length {
            // Powers of two, so that blocks that grow slowly do not each need another one.
            let room = head.length.next_power_of_two();
            if room.saturating_add(ring.retained_bytes()) > bounds.memory {
                return Err(Fault::Memory);
            }
            *into = Vec::new();
            into.try_reserve_exact(room).map_err(|_| Fault::Memory)?;
        }
        match head.kind {
            Kind::Repeated => into.resize(head.length, body.first().copied().unwrap_or_default()),
            _ => self.coded_literals(&head, body, into).ok_or(Fault::Malformed)?,
        }
        Ok((taken, None))
    }

    fn coded_literals(&mut self, head: &LiteralsHead, body: &[u8], into: &mut Vec<u8>) -> Option<()> {
        let description = match head.kind {
            Kind::Coded => self.tree.read(body, &mut self.weights)?,
            _ => 0,
        };
        let streams = body.get(description..).filter(|_| self.tree.is_set())?;
        if !head.four {
            return self.tree.decode(streams, head.length, into);
        }
        // Three lengths stand in front; the fourth stream is what is left. Each but the last gives a quarter.
        let (jumps, mut rest) = streams.split_at_checked(6)?;
        let quarter = head.length.div_ceil(4);
        let last = head.length.checked_sub(3 * quarter)?;
        for jump in jumps.as_chunks::<2>().0 {
            let (stream, behind) = rest.split_at_checked(usize::from(u16::from_le_bytes(*jump)))?;
            self.tree.decode(stream, quarter, into)?;
            rest = behind;
        }
        self.tree.decode(rest, last, into)
    }

    /// The sequences section: literals, then a match, many times. Gives how many literals were copied.
    fn sequences(
        &mut self,
        count: usize,
        section: &[u8],
        literals: &[u8],
        ring: &mut Ring,
        bounds: &Bounds,
    ) -> Result<usize, Fault> {
        let stream = self.tables(section).ok_or(Fault::Malformed)?;
        let mut bits = Backward::new(stream).ok_or(Fault::Malformed)?;
        let mut literal_length = self.literal_lengths.begin(&mut bits);
        let mut offset = self.offsets.begin(&mut bits);
        let mut match_length = self.match_lengths.begin(&mut bits);
        let (mut copied, mut length) = (0usize, 0usize);
        for left in (0..count).rev() {
            let wide = u32::from(offset.symbol & 31);
            let ((least_match, match_bits), (least_literal, literal_bits)) =
                (code(MATCH_LENGTHS, match_length.symbol), code(LITERAL_LENGTHS, literal_length.symbol));
            let fields = wide + match_bits + literal_bits;
            // One load does for both lengths and states unless they are long; an offset has 31 bits and a length 16.
            let mut ahead = bits.ahead();
            let value = (1u32 << wide).saturating_add(ahead.read(wide) as u32);
            let matched = least_match + ahead.read(match_bits) as usize;
            if fields + STATE_BITS > Ahead::BITS {
                bits.skip(ahead.taken());
                ahead = bits.ahead();
            }
            let literal = least_literal + ahead.read(literal_bits) as usize;
            if left > 0 {
                literal_length = self.literal_lengths.next_of(literal_length, &mut ahead);
                match_length = self.match_lengths.next_of(match_length, &mut ahead);
                offset = self.offsets.next_of(offset, &mut ahead);
            }
            bits.skip(ahead.taken());
            if bits.left() < 0 {
                return Err(Fault::Malformed);
            }
            length += literal + matched;
            let part = literals.get(copied..copied + literal).ok_or(Fault::Malformed)?;
            if length > bounds.length {
                return Err(Fault::Malformed);
            }
            copied += literal;
            if !ring.affords(literal + matched, bounds.memory) || !ring.push(part) {
                return Err(Fault::Memory);
            }
            let distance = self.distance(value, literal == 0).ok_or(Fault::Malformed)? as usize;
            if distance > bounds.window || distance as u64 > ring.written() {
                return Err(Fault::Malformed);
            }
            if !ring.repeat(distance, matched) {
                return Err(Fault::Memory);
            }
        }
        let rest = literals.len().saturating_sub(copied);
        if bits.left() != 0 || length + rest > bounds.length {
            return Err(Fault::Malformed);
        }
        Ok(copied)
    }

    /// Sets up the three tables; gives the bitstream behind their descriptions.
    fn tables<'a>(&mut self, section: &'a [u8]) -> Option<&'a [u8]> {
        let (&modes, mut rest) = section.split_first()?;
        if modes & 3 != 0 {
            return None;
        }
        let fields: [(&mut Table, &[i16], u32, u32, usize); 3] = [
            (&mut self.literal_lengths, &USUAL_LITERAL_LENGTHS, 6, 9, LITERAL_LENGTHS.len() - 1),
            (&mut self.offsets, &USUAL_OFFSETS, 5, 8, OFFSET_MAX),
            (&mut self.match_lengths, &USUAL_MATCH_LENGTHS, 6, 9, MATCH_LENGTHS.len() - 1),
        ];
        for ((table, usual, accuracy, accuracy_max, symbol_max), shift) in fields.into_iter().zip([6, 4, 2]) {
            match modes >> shift & 3 {
                0 => table.build(usual, accuracy)?,
                1 => {
                    let (&symbol, behind) = rest.split_first()?;
                    if usize::from(symbol) > symbol_max {
                        return None;
                    }
                    table.one(symbol);
                    rest = behind;
                }
                2 => rest = rest.get(table.read(rest, accuracy_max, symbol_max)?..)?,
                _ if table.is_set() => {}
                _ => return None,
            }
        }
        Some(rest)
    }

    /// What the value of an offset stands for: the first three are those of the last matches (RFC 8878 §3.1.1.5).
    #[inline]
    fn distance(&mut self, value: u32, no_literals: bool) -> Option<u32> {
        let [first, second, third] = self.recent;
        let distance = match value {
            1..=3 => match value + u32::from(no_literals) {
                1 => return Some(first),
                2 => {
                    self.recent = [second, first, third];
                    return Some(second);
                }
                3 => third,
                _ => first.checked_sub(1).filter(|distance| *distance > 0)?,
            },
            _ => value.checked_sub(3)?,
        };
        self.recent = [distance, first, second];
        Some(distance)
    }
}

/// The least value of a code, and how many bits are added to it.
#[inline]
fn code(codes: Codes, symbol: u8) -> (usize, u32) {
    let (least, more) = codes.get(usize::from(symbol)).copied().unwrap_or_default();
    (least as usize, u32::from(more))
}

/// How many sequences there are, and what follows that.
fn sequences_of(section: &[u8]) -> Option<(usize, &[u8])> {
    match *section {
        [a @ 0..=127, ref rest @ ..] => Some((usize::from(a), rest)),
        [a @ 128..=254, b, ref rest @ ..] => Some(((usize::from(a) - 128) << 8 | usize::from(b), rest)),
        [255, a, b, ref rest @ ..] => Some((usize::from(u16::from_le_bytes([a, b])) + 0x7f00, rest)),
        _ => None,
    }
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Kind {
    Raw,
    Repeated,
    Coded,
    CodedAsBefore,
}

/// The head of the literals section (RFC 8878 §3.1.1.3.1.1).
struct LiteralsHead {
    kind: Kind,
    /// How long it is.
    bytes: usize,
    /// Literals that follow from it.
    length: usize,
    /// Bytes behind it that they follow from.
    coded: usize,
    /// In four streams.
    four: bool,
}

impl LiteralsHead {
    fn read(content: &[u8]) -> Option<LiteralsHead> {
        let first = *content.first()?;
        let format = first >> 2 & 3;
        let kind =
            [Kind::Raw, Kind::Repeated, Kind::Coded, Kind::CodedAsBefore].get(usize::from(first & 3)).copied()?;
        let plain = matches!(kind, Kind::Raw | Kind::Repeated);
        let (bytes, width) = match (plain, format) {
            (true, 0 | 2) => (1, 5),
            (true, 1) => (2, 12),
            (true, _) => (3, 20),
            (false, 0 | 1) => (3, 10),
            (false, 2) => (4, 14),
            (false, _) => (5, 18),
        };
        let head = content.get(..bytes)?.iter().rev().fold(0u64, |head, &byte| head << 8 | u64::from(byte));
        let mask = (1u64 << width) - 1;
        let length = (head >> if width == 5 { 3 } else { 4 } & mask) as usize;
        let coded = match kind {
            Kind::Raw => length,
            Kind::Repeated => 1,
            _ => (head >> (4 + width) & mask) as usize,
        };
        let four = !plain && format > 0;
        // Fewer than six literals cannot be shared out among four streams.
        (!four || length >= 6).then_some(LiteralsHead { kind, bytes, length, coded, four })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_remembered_as_the_rfc_says() {
        let mut tables = Tables::new();
        // RFC 8878 §3.1.1.5: values, whether literals stood in front, the distance, what is remembered then.
        for (value, literals, distance, recent) in [
            (1_114 + 3, 11, 1_114, [1_114, 1, 4]),
            (1, 22, 1_114, [1_114, 1, 4]),
            (2_225, 22, 2_222, [2_222, 1_114, 1]),
            (1_114, 111, 1_111, [1_111, 2_222, 1_114]),
            (3, 33, 1_114, [1_114, 1_111, 2_222]),
            (2, 22, 1_111, [1_111, 1_114, 2_222]),
            (3, 33, 2_222, [2_222, 1_111, 1_114]),
            (1, 0, 1_111, [1_111, 2_222, 1_114]),
            (1, 0, 2_222, [2_222, 1_111, 1_114]),
            (2, 0, 1_114, [1_114, 2_222, 1_111]),
            (3, 0, 1_113, [1_113, 1_114, 2_222]),
        ] {
            assert_eq!(tables.distance(value, literals == 0), Some(distance));
            assert_eq!(tables.recent, recent, "behind {value}");
        }
        tables.recent = [1, 4, 8];
        assert_eq!(tables.distance(3, true), None, "nought");
    }

    #[test]
    fn the_heads_of_literals() {
        let read = |bytes: &[u8]| LiteralsHead::read(bytes).map(|h| (h.kind, h.bytes, h.length, h.coded, h.four));
        assert_eq!(read(&[0b0101_0000]), Some((Kind::Raw, 1, 10, 10, false)));
        assert_eq!(read(&[0b1111_0101, 0x10]), Some((Kind::Repeated, 2, 0x10f, 1, false)));
        assert_eq!(read(&[0b0000_1100, 0, 2]), Some((Kind::Raw, 3, 0x2000, 0x2000, false)));
        assert_eq!(read(&[0b0011_0010, 0x40, 1]), Some((Kind::Coded, 3, 3, 5, false)));
        assert_eq!(read(&[0b0110_0111, 0, 0]), Some((Kind::CodedAsBefore, 3, 6, 0, true)));
        assert_eq!(read(&[0b0101_0111, 0, 0]), None, "five in four streams");
        assert_eq!(read(&[0b0000_1110, 0, 0, 0]), None, "too short");
    }
}
