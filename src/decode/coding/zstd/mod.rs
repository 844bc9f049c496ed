//! In: a Zstandard frame in any pieces. Out: its content, block by block, lent from a history that grows with it (RFC 8878).
//!
//! ```text
//! magic ──▶ head ──▶ block head ──▶ raw │ repeated │ compressed ──▶ ... ──▶ checksum
//!            │            ▲               │           gathered,        │
//!            window,      └───────────────┘           decoded whole    the last one
//!            dictionary
//! ```

mod bits;
mod block;
mod frame;
mod fse;
mod hash;
mod huffman;
mod ring;

use alloc::vec::Vec;

use self::block::{Bounds, Fault, Tables};
use self::frame::{BlockHead, Frame, Head, Kind};
use self::hash::Xxh64;
use self::ring::Ring;
use crate::base::{Limit, Limits, Rule, Span, Violation};

/// The most that a block is, and decodes to (RFC 8878 §3.1.1.2.4).
const BLOCK: usize = 131_072;
/// What is kept for the next body at most.
const KEPT: usize = 16_384;

#[derive(Debug)]
enum Phase {
    Head(Head),
    BlockHead(BlockHead),
    /// So many bytes of the block are to come.
    Raw(usize),
    /// A byte is to come, and stands for so many.
    Repeated(usize),
    /// The block is so long.
    Compressed(usize),
    Checksum,
}

/// The decoder of one frame.
///
/// A block is the unit: it decodes whole or not at all, so the fewest coded bytes from which its first byte follows are those
/// up to its end, as for its last byte; what a faulty block holds is not given. The blocks of a stream end where its sender
/// flushed it, so nothing is held back that the sender wants to be read. A raw block is given as it comes.
pub(super) struct Zstd {
    phase: Phase,
    frame: Frame,
    /// The block at hand is the last one.
    last: bool,
    tables: Tables,
    /// A compressed block as far as it has come.
    gathered: Vec<u8>,
    literals: Vec<u8>,
    ring: Ring,
    hash: Xxh64,
    /// The longest compressed block so far: what `gathered` may have taken, however the body was cut.
    longest: usize,
}

impl Zstd {
    pub(super) fn new() -> Zstd {
        Zstd {
            phase: Phase::Head(Head::new()),
            frame: Frame::default(),
            last: false,
            tables: Tables::new(),
            gathered: Vec::new(),
            literals: Vec::new(),
            ring: Ring::default(),
            hash: Xxh64::new(),
            longest: 0,
        }
    }

    /// Another frame, in the same memory.
    pub(super) fn reset(&mut self) {
        (self.phase, self.frame, self.last) = (Phase::Head(Head::new()), Frame::default(), false);
        self.gathered.clear();
        self.ring.begin(0);
        self.hash = Xxh64::new();
        self.longest = 0;
        self.tables.begin();
    }

    /// Frees what one large body needed and the next one may not.
    pub(super) fn rest(&mut self) {
        for bytes in [&mut self.gathered, &mut self.literals] {
            if bytes.capacity() > KEPT {
                *bytes = Vec::new();
            }
        }
        if self.ring.retained_bytes() > KEPT {
            self.ring.drop_memory();
        }
    }

    pub(super) fn retained_bytes(&self) -> usize {
        size_of::<Zstd>() + self.gathered.capacity() + self.literals.capacity() + self.ring.retained_bytes()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.ring.bytes()
    }

    pub(super) fn give(&mut self, most: usize) -> Span {
        self.ring.give(most)
    }

    /// A block has ended, or none has begun: the point at which output is weighed against input.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::BlockHead(BlockHead { came: 0, .. }))
    }

    /// The frame is complete but for its checksum, if it has one.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Checksum)
    }

    /// The checksum that must follow, if one must.
    pub(super) fn checksum(&self) -> Option<[u8; 4]> {
        self.frame.has_checksum.then(|| self.hash.trailer())
    }

    /// Takes input that lies at `at` in the body, and may hold `budget` bytes. Says how much it took: something, if there is
    /// something.
    pub(super) fn feed(&mut self, input: &[u8], at: u64, limits: &Limits, budget: usize) -> Result<usize, Violation> {
        match &mut self.phase {
            Phase::Head(head) => {
                let (taken, frame) = head.push(input, at, limits)?;
                if let Some(frame) = frame {
                    self.begin(frame, limits);
                }
                Ok(taken)
            }
            Phase::BlockHead(head) => {
                let (taken, block) = head.push(input);
                let end = at.saturating_add(taken as u64).saturating_sub(1);
                if let Some((kind, size, last)) = block {
                    self.block(kind, size, last, end, budget)?;
                }
                Ok(taken)
            }
            Phase::Raw(left) => {
                let taken = input.len().min(*left);
                *left -= taken;
                let (bytes, over) = (input.get(..taken).unwrap_or_default(), *left == 0);
                self.hash(bytes);
                let pushed = self.ring.push(bytes);
                self.block_over(over, pushed, at)?;
                Ok(taken)
            }
            Phase::Repeated(times) => {
                let times = *times;
                let Some(&byte) = input.first() else { return Ok(0) };
                let pushed = self.ring.fill(byte, times);
                self.hash_last(times);
                self.block_over(true, pushed, at)?;
                Ok(1)
            }
            Phase::Compressed(size) => {
                let size = *size;
                self.compressed(input, size, at, budget)
            }
            Phase::Checksum => Ok(0),
        }
    }

    fn begin(&mut self, frame: Frame, limits: &Limits) {
        // What is declared bounds what can be looked back to: a small body with a large window keeps little.
        let most = (frame.window as u64).saturating_add(BLOCK as u64);
        let most = most.min(frame.length.unwrap_or(u64::MAX));
        // No more is decoded than one block beyond what may be given: a history of that never wraps.
        let most = most.min(limits.get(Limit::DecodedBytes).saturating_add(BLOCK as u64));
        self.ring.begin(usize::try_from(most).unwrap_or(usize::MAX));
        self.frame = frame;
        self.phase = Phase::BlockHead(BlockHead::new());
    }

    /// A block begins: may it be that long, is there memory for it?
    fn block(&mut self, kind: Kind, size: usize, last: bool, end: u64, budget: usize) -> Result<(), Violation> {
        let malformed = Violation::new(Rule::ZstdData, end);
        let room = self.room();
        let largest = self.frame.window.min(BLOCK);
        let most = if kind == Kind::Compressed { largest } else { largest.min(room) };
        // A frame that its last block leaves too short shows here, before anything of that is given, unless it is compressed.
        let too_short = last && kind != Kind::Compressed && self.frame.length.is_some() && size < room;
        if size > most || kind == Kind::Reserved || too_short {
            return Err(malformed);
        }
        self.last = last;
        let output = if kind == Kind::Compressed { 0 } else { size };
        if kind == Kind::Compressed {
            self.longest = self.longest.max(size);
        }
        if self.charge(output) > budget {
            return Err(Violation::new(Rule::DecoderPool, end));
        }
        self.phase = match (kind, size) {
            (Kind::Raw, 0) => return self.block_over(true, true, end),
            (Kind::Raw, size) => Phase::Raw(size),
            (Kind::Repeated, times) => Phase::Repeated(times),
            // It has at least the heads of its two sections.
            (Kind::Compressed, 0 | 1) | (Kind::Reserved, _) => return Err(malformed),
            (Kind::Compressed, size) => Phase::Compressed(size),
        };
        Ok(())
    }

    /// Content that the frame may still have.
    fn room(&self) -> usize {
        let left = self.frame.length.map(|length| length.saturating_sub(self.ring.written()));
        left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// What it takes with `output` more bytes, at most, in any cut.
    fn charge(&self, output: usize) -> usize {
        self.charge_of_blocks() + self.literals.capacity() + self.ring.charge(output)
    }

    /// The part of that which is for itself and for gathering blocks: the buffer, and the copy that it grows from.
    fn charge_of_blocks(&self) -> usize {
        size_of::<Zstd>() + (2 * self.longest).max(self.gathered.capacity())
    }

    /// A compressed block, from the input if it lies there whole.
    fn compressed(&mut self, input: &[u8], size: usize, at: u64, budget: usize) -> Result<usize, Violation> {
        let missing = size.saturating_sub(self.gathered.len());
        let taken = input.len().min(missing);
        let part = input.get(..taken).unwrap_or_default();
        let end = at.saturating_add(taken as u64).saturating_sub(1);
        let no_room = Violation::new(Rule::DecoderPool, end);
        let whole = self.gathered.is_empty() && taken == size;
        if !whole {
            let spare = self.gathered.capacity() - self.gathered.len();
            if spare < taken {
                let more = taken.max((self.gathered.len() / 2).max(4_096).min(missing));
                self.gathered.try_reserve_exact(more).map_err(|_| no_room)?;
            }
            self.gathered.extend_from_slice(part);
            if self.gathered.len() < size {
                return Ok(taken);
            }
        }
        let before = self.ring.written();
        let room = self.room();
        let bounds = Bounds {
            length: self.frame.window.min(BLOCK).min(room),
            window: self.frame.window,
            memory: budget.saturating_sub(self.charge_of_blocks()),
        };
        let content = if whole { part } else { &self.gathered };
        if let Err(fault) = self.tables.decode(content, &mut self.literals, &mut self.ring, &bounds) {
            // A faulty block gives nothing, in any cut.
            self.ring.cut(before);
            return Err(match fault {
                Fault::Malformed => Violation::new(Rule::ZstdData, end),
                Fault::Memory => no_room,
            });
        }
        self.gathered.clear();
        self.hash_last((self.ring.written() - before) as usize);
        self.block_over(true, true, end)?;
        Ok(taken)
    }

    fn block_over(&mut self, over: bool, pushed: bool, at: u64) -> Result<(), Violation> {
        if !pushed {
            return Err(Violation::new(Rule::DecoderPool, at));
        }
        if over && self.last {
            if self.frame.length.is_some_and(|length| length != self.ring.written()) {
                return Err(Violation::new(Rule::ZstdData, at));
            }
            self.phase = Phase::Checksum;
        } else if over {
            self.phase = Phase::BlockHead(BlockHead::new());
        }
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        if self.frame.has_checksum {
            self.hash.update(bytes);
        }
    }

    fn hash_last(&mut self, n: usize) {
        if self.frame.has_checksum {
            let (front, back) = self.ring.last(n);
            self.hash.update(front);
            self.hash.update(back);
        }
    }
}
