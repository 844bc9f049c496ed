//! In: content. Out: a bare deflate stream (RFC 1951), by miniz_oxide.

use alloc::vec::Vec;

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

use super::{Coded, EncodeFault, Flow};

/// What the compressor has on the heap beside itself: the dictionary with its margin, two tables of 16-bit positions, the output
/// buffer, the Huffman tables. The test of memory counts it.
const INSIDE: usize = 33_026 + 2 * 65_536 + 85_196 + 4_320;
pub(super) const BOUND: usize = size_of::<CompressorOxide>() + INSIDE;

/// What was asked for since the last content.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Mark {
    Nothing,
    Flushed,
    Finishing,
    Finished,
}

pub(super) struct Engine {
    // One compressor, in a `Vec` because that is what can be allocated fallibly.
    compressor: Vec<CompressorOxide>,
    mark: Mark,
    /// There was no room left the last time: more may be inside.
    full: bool,
}

impl Engine {
    pub(super) fn new(level: u8) -> Result<Engine, EncodeFault> {
        let mut compressor = Vec::new();
        compressor.try_reserve_exact(1).map_err(|_| EncodeFault::NoMemory)?;
        // No window bits: the header and the checksum around it are not its affair.
        compressor.push(CompressorOxide::new(create_comp_flags_from_zip_params(i32::from(level), 0, 0)));
        Ok(Engine { compressor, mark: Mark::Nothing, full: false })
    }

    pub(super) fn reset(&mut self) {
        if let Some(compressor) = self.compressor.first_mut() {
            compressor.reset();
        }
        (self.mark, self.full) = (Mark::Nothing, false);
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.compressor.capacity() * size_of::<CompressorOxide>() + INSIDE * self.compressor.len()
    }

    /// A flush is asked of the compressor once and when nothing else is inside: it says it again each time it is asked.
    pub(super) fn step(&mut self, input: &[u8], flow: Flow, output: &mut [u8]) -> Result<Coded, EncodeFault> {
        let compressor = self.compressor.first_mut().ok_or(EncodeFault::Broken)?;
        let mut step = Coded { consumed: 0, produced: 0, done: false };
        loop {
            let rest = input.get(step.consumed..).unwrap_or_default();
            let room = output.get_mut(step.produced..).unwrap_or_default();
            let how = match (flow, self.mark) {
                (_, Mark::Finished) if rest.is_empty() => TDEFLFlush::None,
                (_, Mark::Finished | Mark::Finishing) if !rest.is_empty() => return Err(EncodeFault::Broken),
                (_, Mark::Finishing) => TDEFLFlush::Finish,
                _ if !rest.is_empty() || self.full => TDEFLFlush::None,
                (Flow::Flush, Mark::Nothing) => TDEFLFlush::Sync,
                (Flow::Finish, _) => TDEFLFlush::Finish,
                _ => TDEFLFlush::None,
            };
            if how == TDEFLFlush::None && rest.is_empty() && !self.full {
                step.done = true;
                return Ok(step);
            }
            if room.is_empty() {
                return Ok(step);
            }
            let free = room.len();
            let (status, consumed, produced) = compress(compressor, rest, room, how);
            step.consumed += consumed;
            step.produced += produced;
            self.full = produced == free;
            self.mark = match (status, how) {
                (TDEFLStatus::Done, _) => Mark::Finished,
                (TDEFLStatus::Okay, TDEFLFlush::Finish) => Mark::Finishing,
                (TDEFLStatus::Okay, TDEFLFlush::Sync) => Mark::Flushed,
                (TDEFLStatus::Okay, _) if consumed > 0 => Mark::Nothing,
                (TDEFLStatus::Okay, _) => self.mark,
                _ => return Err(EncodeFault::Broken),
            };
            if self.mark == Mark::Finished {
                self.full = false;
            }
        }
    }
}
