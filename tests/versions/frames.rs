//! In: field lines, as odd as they may be, and frames. Out: their bytes. No client library stands between, so nothing is filtered.

use std::collections::VecDeque;

pub type Line = (Vec<u8>, Vec<u8>);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// END_STREAM, or ACK.
pub const END: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// xorshift64*: every run the same.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Header blocks without Huffman (RFC 7541 §6): literals, and references to whatever tables hold.
#[derive(Debug, Default)]
pub struct Packer {
    table: VecDeque<Line>,
}

/// Names that stand in the static table, by their first index (RFC 7541 appendix A).
const STATIC: [(&[u8], u32); 11] = [
    (b":authority", 1),
    (b":method", 2),
    (b":path", 4),
    (b":scheme", 6),
    (b":status", 8),
    (b"content-encoding", 26),
    (b"content-length", 28),
    (b"cookie", 32),
    (b"expect", 35),
    (b"host", 38),
    (b"transfer-encoding", 57),
];

fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, n: u32) {
    let most = (1u32 << prefix) - 1;
    if n < most {
        return out.push(first | n as u8);
    }
    out.push(first | most as u8);
    let mut rest = n - most;
    while rest > 127 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    integer(out, 0, 7, text.len() as u32);
    out.extend_from_slice(text);
}

impl Packer {
    pub fn block(&mut self, lines: &[Line], dice: &mut Dice) -> Vec<u8> {
        let mut block = Vec::new();
        lines.iter().for_each(|(name, value)| self.line(&mut block, name, value, dice));
        block
    }

    fn line(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], dice: &mut Dice) {
        let whole = self.table.iter().position(|line| line.0 == name && line.1 == value);
        if let Some(at) = whole
            && !dice.one_in(4)
        {
            return integer(out, 0x80, 7, 62 + at as u32);
        }
        let fixed = STATIC.iter().find(|f| f.0 == name).map(|f| f.1);
        let young = self.table.iter().position(|line| line.0 == name).map(|at| 62 + at as u32);
        let index = dice.pick(&[None, fixed, young]);
        let cost = name.len() + value.len() + 32;
        let indexed = cost < 1_000 && dice.one_in(2);
        let (first, prefix) = if indexed { (0x40, 6) } else { (dice.pick(&[0, 0x10]), 4) };
        integer(out, first, prefix, index.unwrap_or(0));
        if index.is_none() {
            string(out, name);
        }
        string(out, value);
        if indexed {
            self.table.push_front((name.to_vec(), value.to_vec()));
            while self.table.iter().map(|line| line.0.len() + line.1.len() + 32).sum::<usize>() > 4_096 {
                self.table.pop_back();
            }
        }
    }
}

/// HEADERS with the block, cut and padded as the dice fall.
pub fn headers(stream: u32, block: &[u8], ends: bool, dice: &mut Dice) -> Vec<u8> {
    let end = if ends { END } else { 0 };
    let first = if dice.one_in(3) { dice.below(block.len() + 1) } else { block.len() }.min(16_000);
    let (part, mut rest) = block.split_at(first);
    let padding = dice.one_in(4).then(|| dice.pick(&[0u8, 1, 255]));
    let payload = match padding {
        Some(n) => [&[n], part, &vec![0; usize::from(n)]].concat(),
        None => part.to_vec(),
    };
    let flags = end | if padding.is_some() { PADDED } else { 0 };
    if rest.is_empty() {
        return frame(HEADERS, flags | END_HEADERS, stream, &payload);
    }
    let mut bytes = frame(HEADERS, flags, stream, &payload);
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(16_000));
        let last = if behind.is_empty() { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, last, stream, part));
        rest = behind;
    }
    bytes
}
