//! In: content. Out: one Zstandard frame (RFC 8878 §3.1.1), block by block.
//!
//! ruzstd's compressor makes whole frames from a reader that it drains. Each block of ours is therefore given to it as content of its
//! own; from the frame that comes back the block is taken, and put behind our own header. That gives a valid frame, because its blocks refer to
//! nothing in front of them but content: it says every table anew, and never an offset by reference to an earlier one. The matcher is ours: it
//! remembers the blocks before, and needs a tenth of the memory that ruzstd's own does.

use alloc::vec::Vec;

use ruzstd::encoding::{CompressionLevel, FrameCompressor, Matcher, Sequence};
use ruzstd::io::{Error, Read};

use super::{Coded, EncodeFault, Flow, put};

/// Content of a block. RFC 8878 §3.1.1.2.4 allows 128 KiB; less makes the first bytes come sooner.
const BLOCK: usize = 32_768;
/// Content that matches may lie in, the block itself included.
const HISTORY: usize = 3 * BLOCK;
/// Entries of the table of places.
const PLACES: usize = 1 << 14;
/// Shorter ones are not worth a sequence.
const LEAST_MATCH: usize = 5;

/// Magic number; a descriptor that announces neither size nor checksum; a window of 128 KiB (RFC 8878 §3.1.1.1).
const HEADER: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];

/// The engine and ruzstd's buffers for the time of a block, at most.
pub(super) const BOUND: usize = 768 << 10;

/// Lends one block's content to the compressor.
#[derive(Debug, Default)]
struct Source {
    content: Vec<u8>,
    at: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let n = put(buffer, self.content.get(self.at..).unwrap_or_default());
        self.at += n;
        Ok(n)
    }
}

/// Finds what was there before: the last place of every four bytes.
#[derive(Default)]
struct History {
    bytes: Vec<u8>,
    /// Where the block begins in it.
    from: usize,
    /// Offset in the content of the first byte, modulo 2^32.
    base: u32,
    /// Offsets in the content, by hash of the four bytes that lie there; `bytes` says whether they still do.
    places: Vec<u32>,
    /// Room for the next block.
    space: Vec<u8>,
    /// Those of the last block.
    matches: Vec<Match>,
}

impl History {
    fn new() -> Result<History, EncodeFault> {
        let mut history = History::default();
        let no_memory = |_| EncodeFault::NoMemory;
        history.bytes.try_reserve_exact(HISTORY).map_err(no_memory)?;
        history.places.try_reserve_exact(PLACES).map_err(no_memory)?;
        history.places.resize(PLACES, 0);
        history.space.try_reserve_exact(BLOCK + 1).map_err(no_memory)?;
        history.matches.try_reserve_exact(BLOCK / LEAST_MATCH + 1).map_err(no_memory)?;
        Ok(history)
    }

    fn retained_bytes(&self) -> usize {
        let bytes = self.bytes.capacity() + self.space.capacity();
        bytes + self.places.capacity() * size_of::<u32>() + self.matches.capacity() * size_of::<Match>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.places.fill(0);
        (self.from, self.base) = (0, 0);
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|four| u32::from_le_bytes(*four))
    }

    /// Notes the four bytes at `at`; says where they were before, if that is still known.
    fn note(&mut self, at: usize) -> Option<usize> {
        let word = self.word(at)?;
        let place = self.places.get_mut((word.wrapping_mul(0x9e37_79b1) >> 18) as usize)?;
        let here = self.base.wrapping_add(at as u32);
        let before = core::mem::replace(place, here);
        let distance = here.wrapping_sub(before) as usize;
        let candidate = at.checked_sub(distance).filter(|_| distance > 0)?;
        (self.word(candidate) == Some(word)).then_some(candidate)
    }

    /// How many bytes are the same from the two on.
    fn common(&self, before: usize, at: usize) -> usize {
        let (old, new) = (self.bytes.get(before..).unwrap_or_default(), self.bytes.get(at..).unwrap_or_default());
        old.iter().zip(new).take_while(|(a, b)| a == b).count()
    }
}

/// What was there before.
#[derive(Copy, Clone)]
struct Match {
    at: u32,
    before: u32,
    length: u32,
}

impl History {
    /// Finds the matches of the block. ruzstd cannot code two kinds of them, which are left out: a block whose sequences
    /// have no literals at all, and one with many literals that are all the same byte.
    fn find(&mut self, matches: &mut Vec<Match>) {
        // The first byte is a literal: there is one then.
        let (mut at, mut literals_from) = (self.from + 1, self.from);
        let (mut literals, mut differ) = (0, false);
        self.note(self.from);
        while at < self.bytes.len() {
            let found = self.note(at).map(|before| (before, self.common(before, at)));
            let Some((before, length)) = found.filter(|f| f.1 >= LEAST_MATCH) else {
                // Where nothing has matched for long, nothing is likely to.
                at += 1 + ((at - literals_from) >> 7);
                continue;
            };
            matches.push(Match { at: at as u32, before: before as u32, length: length as u32 });
            let end = at + length;
            self.note(at + 2);
            self.note(end - 2);
            literals += at - literals_from;
            differ |= self.differ(literals_from, at);
            (at, literals_from) = (end, end);
        }
        literals += self.bytes.len() - literals_from;
        differ |= self.differ(literals_from, self.bytes.len());
        if literals > 1_024 && !differ {
            matches.clear();
        }
    }

    /// Some byte of the part is another than the block's first one.
    fn differ(&self, from: usize, to: usize) -> bool {
        let first = self.bytes.get(self.from);
        self.bytes.get(from..to).unwrap_or_default().iter().any(|byte| Some(byte) != first)
    }
}

impl Matcher for History {
    fn get_next_space(&mut self) -> Vec<u8> {
        let mut space = core::mem::take(&mut self.space);
        // One more than a block has: then its end is seen without asking for another one.
        space.resize(BLOCK + 1, 0);
        space
    }

    fn get_last_space(&mut self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }

    fn commit_space(&mut self, space: Vec<u8>) {
        let over = (self.bytes.len() + space.len()).saturating_sub(HISTORY);
        if over > 0 {
            self.bytes.drain(..over.min(self.bytes.len()));
            self.base = self.base.wrapping_add(over as u32);
        }
        self.from = self.bytes.len();
        self.bytes.extend_from_slice(&space);
        self.space = space;
    }

    fn skip_matching(&mut self) {
        // One byte again and again: its first place says all.
        self.note(self.from);
    }

    fn start_matching(&mut self, mut handle_sequence: impl for<'a> FnMut(Sequence<'a>)) {
        let mut matches = core::mem::take(&mut self.matches);
        matches.clear();
        self.find(&mut matches);
        let mut literals_from = self.from;
        for found in &matches {
            let (at, before, length) = (found.at as usize, found.before as usize, found.length as usize);
            let literals = self.bytes.get(literals_from..at).unwrap_or_default();
            handle_sequence(Sequence::Triple { literals, offset: at - before, match_len: length });
            literals_from = at + length;
        }
        handle_sequence(Sequence::Literals { literals: self.bytes.get(literals_from..).unwrap_or_default() });
        self.matches = matches;
    }

    /// Called for every block: what was there before stays.
    fn reset(&mut self, _: CompressionLevel) {}

    fn window_size(&self) -> u64 {
        1 << 17
    }
}

pub(super) struct Engine {
    history: History,
    /// Content of the block that fills up.
    block: Vec<u8>,
    /// Coded, and not yet given, from `at` on.
    coded: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Engine {
    pub(super) fn new() -> Result<Engine, EncodeFault> {
        let mut block = Vec::new();
        block.try_reserve_exact(BLOCK).map_err(|_| EncodeFault::NoMemory)?;
        let mut coded = Vec::new();
        coded.try_reserve_exact(BLOCK + 64).map_err(|_| EncodeFault::NoMemory)?;
        coded.extend_from_slice(&HEADER);
        Ok(Engine { history: History::new()?, block, coded, at: 0, ended: false })
    }

    pub(super) fn reset(&mut self) {
        self.history.clear();
        self.block.clear();
        self.coded.clear();
        self.coded.extend_from_slice(&HEADER);
        (self.at, self.ended) = (0, false);
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.history.retained_bytes() + self.block.capacity() + self.coded.capacity()
    }

    pub(super) fn step(&mut self, input: &[u8], flow: Flow, output: &mut [u8]) -> Result<Coded, EncodeFault> {
        let mut step = Coded { consumed: 0, produced: 0, done: false };
        loop {
            let waiting = self.coded.get(self.at..).unwrap_or_default();
            let n = put(output.get_mut(step.produced..).unwrap_or_default(), waiting);
            let all = n == waiting.len();
            step.produced += n;
            self.at += n;
            if !all {
                return Ok(step);
            }
            self.coded.clear();
            self.at = 0;
            let rest = input.get(step.consumed..).unwrap_or_default();
            if self.ended {
                step.done = rest.is_empty();
                return if step.done { Ok(step) } else { Err(EncodeFault::Broken) };
            }
            let taken = rest.len().min(BLOCK - self.block.len().min(BLOCK));
            self.block.extend_from_slice(rest.get(..taken).unwrap_or_default());
            step.consumed += taken;
            let last = taken == rest.len() && flow == Flow::Finish && self.block.len() < BLOCK;
            let due = last || self.block.len() == BLOCK || (flow == Flow::Flush && !self.block.is_empty());
            if !due {
                step.done = true;
                return Ok(step);
            }
            self.code(last)?;
            self.ended = last;
        }
    }

    /// Codes the block that has filled up.
    fn code(&mut self, last: bool) -> Result<(), EncodeFault> {
        if self.block.is_empty() {
            self.coded.extend_from_slice(&[u8::from(last), 0, 0]); // a raw block of nothing
            return Ok(());
        }
        // A compressor for each block: its tables are as large as the content makes them, and only ours are counted.
        let history = core::mem::take(&mut self.history);
        let mut compressor = FrameCompressor::new_with_matcher(history, CompressionLevel::Fastest);
        compressor.set_source(Source { content: core::mem::take(&mut self.block), at: 0 });
        compressor.set_drain(core::mem::take(&mut self.coded));
        compressor.compress();
        self.block = compressor.take_source().map(|source| source.content).unwrap_or_default();
        self.coded = compressor.take_drain().unwrap_or_default();
        self.history = compressor.replace_matcher(History::default());
        self.block.clear();
        let length = block_length(&self.coded).ok_or(EncodeFault::Broken)?;
        self.coded.truncate(HEADER.len() + length);
        self.coded.drain(..HEADER.len());
        if let Some(first) = self.coded.first_mut() {
            *first = *first & !1 | u8::from(last);
        }
        Ok(())
    }
}

/// Bytes of the one block behind the header of a frame, its own header included (RFC 8878 §3.1.1.2).
fn block_length(frame: &[u8]) -> Option<usize> {
    let [a, b, c] = *frame.get(HEADER.len()..)?.first_chunk::<3>()?;
    let header = u32::from_le_bytes([a, b, c, 0]);
    let content = if header >> 1 & 3 == 1 { 1 } else { header >> 3 };
    let length = 3 + content as usize;
    (header & 1 == 1 && HEADER.len() + length <= frame.len()).then_some(length)
}
