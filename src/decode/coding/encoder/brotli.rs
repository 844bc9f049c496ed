//! In: content. Out: a brotli stream (RFC 7932), by the brotli crate, whose heap is counted.

use alloc::boxed::Box;
use alloc::vec::Vec;

use brotli::enc::encode::{BrotliEncoderDestroyInstance, BrotliEncoderOperation, BrotliEncoderStateStruct};
use brotli::enc::{Allocator, BrotliAlloc, SliceWrapper, SliceWrapperMut};

use super::{Coded, EncodeFault, Flow};

/// A window of 64 KiB: brotli's tables grow with it, and all of an encoder is to fit the pool of a connection as it is by default.
const WINDOW_BITS: i32 = 16;
/// The quality at the default level.
const QUALITY: i32 = 4;
/// The encoder at that quality and window, at most.
pub(super) const BOUND: usize = 2_080_000;

/// Memory of the encoder.
#[derive(Debug, Default)]
pub(super) struct Heap {
    bytes: usize,
}

/// A piece of it.
#[derive(Debug)]
pub(super) struct Cells<T>(Box<[T]>);

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Cells(Box::default())
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Clone + Default> Allocator<T> for Heap {
    type AllocatedMemory = Cells<T>;

    fn alloc_cell(&mut self, len: usize) -> Cells<T> {
        let mut cells = Vec::new();
        cells.resize(len, T::default());
        self.bytes += len * size_of::<T>();
        Cells(cells.into_boxed_slice())
    }

    fn free_cell(&mut self, data: Cells<T>) {
        self.bytes = self.bytes.saturating_sub(size_of_val::<[T]>(&data.0));
    }
}

impl BrotliAlloc for Heap {}

pub(super) struct Engine {
    state: BrotliEncoderStateStruct<Heap>,
    /// Content came since the last flush.
    dirty: bool,
    /// The flush or the end that there was no room for yet.
    begun: Flow,
}

impl Engine {
    pub(super) fn new(level: u8) -> Engine {
        let mut state = BrotliEncoderStateStruct::new(Heap::default());
        state.params.quality = if level == super::Encoder::LEVEL { QUALITY } else { i32::from(level) };
        state.params.lgwin = WINDOW_BITS;
        Engine { state, dirty: false, begun: Flow::More }
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.state.m8.bytes
    }

    pub(super) fn step(&mut self, input: &[u8], flow: Flow, output: &mut [u8]) -> Result<Coded, EncodeFault> {
        let mut step = Coded { consumed: 0, produced: 0, done: false };
        // A flush or an end that was begun is brought to its end before anything else is asked for.
        if self.begun != Flow::More {
            self.ask(self.begun, &[], output, &mut step)?;
            if self.begun != Flow::More {
                return Ok(step);
            }
        }
        if !input.is_empty() || self.state.has_more_output() {
            self.dirty |= !input.is_empty();
            self.ask(Flow::More, input, output, &mut step)?;
        }
        let all = step.consumed == input.len() && !self.state.has_more_output();
        let due = match flow {
            Flow::More => false,
            Flow::Flush => self.dirty,
            Flow::Finish => !self.state.is_finished(),
        };
        if all && due {
            self.begun = flow;
            self.ask(flow, &[], output, &mut step)?;
        }
        step.done = all && self.begun == Flow::More && !self.state.has_more_output();
        Ok(step)
    }

    /// One operation, behind what the step has done so far.
    fn ask(&mut self, flow: Flow, input: &[u8], output: &mut [u8], step: &mut Coded) -> Result<(), EncodeFault> {
        let operation = match flow {
            Flow::More => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Flow::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Flow::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let output = output.get_mut(step.produced..).unwrap_or_default();
        let (mut left, mut room, mut produced) = (input.len(), output.len(), 0);
        let good = self.state.compress_stream(
            operation,
            &mut left,
            input,
            &mut step.consumed,
            &mut room,
            output,
            &mut produced,
            &mut None,
            &mut |_, _, _, _| (),
        );
        step.produced += produced;
        if good && !self.state.has_more_output() && flow != Flow::More {
            (self.begun, self.dirty) = (Flow::More, false);
        }
        if good { Ok(()) } else { Err(EncodeFault::Broken) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        BrotliEncoderDestroyInstance(&mut self.state);
    }
}
