//! In: deflate data, or bytes to be copied. Out: content, in a window that is both the history that deflate looks back into and
//! the buffer that the caller reads from: nothing is copied (RFC 1951).

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress_with_limit};

use crate::base::Span;

/// The farthest that deflate looks back (RFC 1951 §2), and so the size of the window.
const WINDOW: usize = 32_768;

/// How a go of the inflater ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// It has more to give.
    More,
    /// It gives nothing more before it gets another byte.
    Dry,
    /// The data is complete.
    Complete,
    /// The last byte taken shows that it is malformed.
    Malformed,
}

/// An inflater and its window.
#[derive(Default)]
pub(super) struct Inflate {
    // One inflater, in a `Vec` because that is what can be allocated fallibly.
    inflater: Vec<DecompressorOxide>,
    window: Vec<u8>,
}

impl Inflate {
    /// What it holds.
    pub(super) const BYTES: usize = WINDOW + size_of::<DecompressorOxide>();

    /// It has its memory.
    pub(super) const fn is_ready(&self) -> bool {
        !self.inflater.is_empty()
    }

    /// Takes the memory that it needs, all at once.
    pub(super) fn begin(&mut self) -> Result<(), TryReserveError> {
        self.window.try_reserve_exact(WINDOW)?;
        self.inflater.try_reserve_exact(1)?;
        self.inflater.push(DecompressorOxide::new());
        self.window.resize(WINDOW, 0);
        Ok(())
    }

    /// Other data, in the same memory. What the last one left in the window cannot be reached.
    pub(super) fn reset(&mut self) {
        if let Some(inflater) = self.inflater.first_mut() {
            inflater.init();
        }
    }

    pub(super) const fn retained_bytes(&self) -> usize {
        self.inflater.capacity() * size_of::<DecompressorOxide>() + self.window.capacity()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.window
    }

    /// Inflates behind `decoded` bytes, at most `room`. Says how many bytes it took and where it wrote.
    pub(super) fn inflate(&mut self, input: &[u8], decoded: u64, room: usize) -> (Status, usize, Span) {
        let start = (decoded % WINDOW as u64) as usize;
        let Some(inflater) = self.inflater.first_mut() else { return (Status::Malformed, 0, Span::default()) };
        // In its first turn the window holds no history before its start, and the inflater only checks that when it is told that
        // the buffer does not wrap. Without it a body could read what the last one left there.
        let first = decoded < WINDOW as u64;
        let flags = if first { TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF } else { 0 };
        let flags = flags | TINFL_FLAG_HAS_MORE_INPUT;
        let (status, taken, given) = decompress_with_limit(inflater, input, &mut self.window, start, room, flags);
        let status = match status {
            TINFLStatus::HasMoreOutput if taken == 0 && given == 0 => Status::Malformed,
            TINFLStatus::HasMoreOutput => Status::More,
            TINFLStatus::NeedsMoreInput => Status::Dry,
            TINFLStatus::Done => Status::Complete,
            _ => Status::Malformed,
        };
        (status, taken, Span::new(start, start + given))
    }

    /// The same, where there is no coding.
    pub(super) fn copy(&mut self, input: &[u8], decoded: u64, room: usize) -> (Status, usize, Span) {
        let start = (decoded % WINDOW as u64) as usize;
        let free = self.window.get_mut(start..).unwrap_or_default();
        let n = input.len().min(free.len()).min(room);
        if let (Some(to), Some(from)) = (free.get_mut(..n), input.get(..n)) {
            to.copy_from_slice(from);
        }
        // Nothing is held back: what was not taken stays with the caller.
        (Status::Dry, n, Span::new(start, start + n))
    }
}
