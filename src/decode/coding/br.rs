//! In: a brotli stream in any pieces. Out: its content, lent from the ring that brotli-decompressor decodes into (RFC 7932).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use brotli_decompressor::{
    Allocator, BrotliDecoderErrorCode, BrotliDecoderTakeOutput, BrotliDecompressStream, BrotliResult, BrotliState,
    HuffmanCode, SliceWrapper, SliceWrapperMut,
};

use crate::base::{Limit, Limits, Rule, Span, Violation};

/// Content that one coded byte of a piece may stand for without being held back.
const DENSE: usize = 128;
/// What one cell may take that is kept for the next body: a ring of 32 KiB.
const KEPT: usize = 34_000;
/// What all of it may take together.
const KEPT_IN_ALL: usize = 65_536;

type State = BrotliState<Purse<u8>, Purse<u32>, Purse<HuffmanCode>>;

/// The decoder of one stream.
///
/// The library takes all that it is shown and decodes ahead, and what it has decoded when it meets a fault depends on how much
/// that was: a command that inserts more than its meta-block has left is noticed before its literals in small pieces, and
/// behind them in large ones. So what it is shown at once must not depend on how the body was cut. It is shown pieces whose
/// size follows from its state alone: in the last meta-block [`Brotli::PIECE`]; before that single bytes in headers and towards the end
/// of a meta-block, otherwise one byte for each [`DENSE`] bytes that the meta-block still has, at most [`Brotli::PIECE`]. A piece is
/// held until it is complete, or the body ends.
///
/// Does that hold back what a sender has flushed and waits to be answered? Its meta-block ends where it flushed, and is not the
/// last one, since who has begun that has nothing more to say: only the end of the body is still to come. A piece would
/// have to be incomplete there, so all that is left of the meta-block would have to come from fewer bytes than a
/// [`DENSE`]th of it: content that is held back is denser than the ratio that a body may have.
///
/// The fewest coded bytes from which a decoded byte follows are those up to the end of its piece; a fault is told at the first
/// byte of its piece; what was decoded in front of it comes first, but for what is beyond the length of its meta-block.
pub(super) struct Brotli {
    state: State,
    account: Arc<Account>,
    held: [u8; Brotli::PIECE],
    /// The piece is `held[at..len]`; complete with `size` bytes.
    at: usize,
    len: usize,
    size: usize,
    /// Where the piece begins in the body.
    start: u64,
    /// Where the content of the meta-block ends, as far as is known.
    end: u64,
    /// For so many bytes that may not be all of its length.
    unsure: u8,
    /// The library has stopped for its output to be taken: it goes on without more input.
    more: bool,
    done: bool,
    fault: Option<Violation>,
    /// The byte with the size of the window was seen.
    begun: bool,
}

impl Brotli {
    /// The most that is shown to the library at once.
    pub(super) const PIECE: usize = 256;
    /// What it holds before it decodes anything; the account lies behind two counts.
    pub(super) const BYTES: usize = size_of::<Brotli>() + size_of::<Account>() + 2 * size_of::<usize>();

    pub(super) fn new() -> Brotli {
        let account = Arc::default();
        let state = BrotliState::new_strict(Purse::new(&account), Purse::new(&account), Purse::new(&account));
        Brotli {
            state,
            account,
            held: [0; Self::PIECE],
            at: 0,
            len: 0,
            size: 1,
            start: 0,
            end: 0,
            unsure: 4,
            more: false,
            done: false,
            fault: None,
            begun: false,
        }
    }

    /// Another stream, in the same memory.
    pub(super) fn reset(&mut self) {
        (self.at, self.len, self.size) = (0, 0, 1);
        (self.start, self.end, self.unsure) = (0, 0, 4);
        (self.more, self.done, self.fault, self.begun) = (false, false, None, false);
        let (bytes, words, codes) = purses(&mut self.state);
        // The old one has nothing left to free.
        self.state = BrotliState::new_strict(bytes, words, codes);
    }

    /// Frees what one large body needed and the next one may not.
    pub(super) fn rest(&mut self) {
        self.reset();
        for most in [KEPT, 0] {
            if most == KEPT || self.retained_bytes() > KEPT_IN_ALL {
                self.state.alloc_u8.keep(most);
                self.state.alloc_u32.keep(most);
                self.state.alloc_hc.keep(most);
            }
        }
    }

    pub(super) fn retained_bytes(&self) -> usize {
        Brotli::BYTES + self.account.held.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.state.ringbuffer.slice()
    }

    /// No piece is begun: the point at which output is weighed against input.
    pub(super) const fn is_settled(&self) -> bool {
        self.len == 0
    }

    /// The stream is complete.
    pub(super) const fn is_complete(&self) -> bool {
        self.done
    }

    /// What is wrong with it, once all that was decoded before was given.
    pub(super) const fn fault(&self) -> Option<Violation> {
        self.fault
    }

    /// Takes input that lies at `at` in the body, and may hold `budget` bytes. Says how much it took: something, if there is
    /// something. `careful` asks for single bytes where more would do; `last` says that nothing follows `input`.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        at: u64,
        (careful, last): (bool, bool),
        limits: &Limits,
        budget: usize,
    ) -> Result<usize, Violation> {
        self.account.budget.store(budget.saturating_sub(Brotli::BYTES), Ordering::Relaxed);
        self.begin(input, at, limits)?;
        if self.len == 0 {
            (self.start, self.size) = (at, self.piece(input.len(), careful));
        }
        let taken = input.len().min(self.size.saturating_sub(self.len));
        let into = self.held.get_mut(self.len..self.len + taken).unwrap_or_default();
        into.copy_from_slice(input.get(..taken).unwrap_or_default());
        self.len += taken;
        if self.len > 0 && (self.len == self.size || last && taken == input.len()) {
            self.decode();
        }
        Ok(taken)
    }

    /// The first byte says how large the window is.
    fn begin(&mut self, input: &[u8], at: u64, limits: &Limits) -> Result<(), Violation> {
        let Some(&first) = input.first().filter(|_| !self.begun) else { return Ok(()) };
        self.begun = true;
        // What stands for a large window is no size of RFC 7932.
        match window_bits(first) {
            Some(bits) if 1 << bits <= limits.get(Limit::BrotliWindowBytes) => Ok(()),
            _ => Err(Violation::over(Rule::BrotliWindow, at, limits)),
        }
    }

    /// The size of the piece that begins here; see [`Brotli`].
    fn piece(&mut self, here: usize, careful: bool) -> usize {
        let left = usize::try_from(self.state.meta_block_remaining_len).unwrap_or(0);
        // What a command inserts is taken off when it begins, though its literals are still to come. What was decoded and what is
        // left add up to where the meta-block ends when no command is under way, and to less when one is.
        let turns = self.state.rb_roundtrips.saturating_mul(u64::try_from(self.state.ringbuffer_size).unwrap_or(0));
        let decoded = turns.saturating_add(u64::try_from(self.state.pos).unwrap_or(0));
        if self.state.is_metadata == 0 {
            self.end = self.end.max(decoded.saturating_add(left as u64));
        }
        let mut to_come = usize::try_from(self.end.saturating_sub(decoded)).unwrap_or(usize::MAX);
        // Of a length, 24 bits at most, the first four were seen: the others lie in the next bytes.
        match (to_come, self.unsure) {
            (0, _) => self.unsure = 4,
            (_, 0) => {}
            (_, n) => (self.unsure, to_come) = (n - 1, 0),
        }
        match (self.state.is_metadata, self.state.is_uncompressed) {
            // Its sender had all of it when it began the meta-block, and waits for nothing that is in it.
            (0, 0) if self.state.is_last_metablock != 0 => Self::PIECE,
            (0, 0) => (to_come / DENSE).clamp(1, Self::PIECE),
            // Each of these bytes stands for itself, and none can be wrong: it does not matter how many there are.
            (0, _) if !careful => left.min(here).clamp(1, Self::PIECE),
            _ => 1,
        }
    }

    /// One go of the library, with what is held of the piece.
    fn decode(&mut self) {
        let piece = self.held.get(..self.len).unwrap_or_default();
        let (mut input, mut offset) = (self.len.saturating_sub(self.at), self.at);
        let (mut room, mut written, mut total) = (0, 0, 0);
        self.more = false;
        let result = BrotliDecompressStream(
            &mut input,
            &mut offset,
            piece,
            &mut room,
            &mut written,
            &mut [],
            &mut total,
            &mut self.state,
        );
        self.at = offset;
        match result {
            BrotliResult::NeedsMoreInput => (self.at, self.len) = (0, 0),
            BrotliResult::NeedsMoreOutput => self.more = true,
            BrotliResult::ResultSuccess if input == 0 => (self.at, self.len, self.done) = (0, 0, true),
            BrotliResult::ResultSuccess => {
                let at = self.start.saturating_add(offset as u64);
                self.fault = Some(Violation::new(Rule::BrotliTrailing, at));
            }
            BrotliResult::ResultFailure => {
                self.fault = Some(match is_out_of_memory(self.state.error_code) {
                    true => Violation::new(Rule::DecoderPool, self.start),
                    false => Violation::new(Rule::BrotliData, self.start),
                });
                // So that it still gives what came before.
                self.state.error_code = BrotliDecoderErrorCode::BROTLI_DECODER_NO_ERROR;
            }
        }
    }

    /// Up to `most` bytes of what is decoded, in one piece; nothing if there is nothing before more input comes.
    pub(super) fn give(&mut self, most: usize) -> Span {
        loop {
            let state = &mut self.state;
            let start = (state.partial_pos_out & u64::try_from(state.ringbuffer_mask).unwrap_or(0)) as usize;
            let mut n = most.max(1);
            let given = BrotliDecoderTakeOutput(state, &mut n).len();
            if given > 0 || !self.more || self.fault.is_some() {
                return Span::new(start, start + given);
            }
            self.decode();
        }
    }
}

/// The size of the window, as a power of two, by the bits of the first byte (RFC 7932 §9.1).
const fn window_bits(first: u8) -> Option<u32> {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, _, _) => Some(16),
        (_, n @ 1..=7, _) => Some(17 + n as u32),
        (_, _, 0) => Some(17),
        (_, _, 1) => None,
        (_, _, n) => Some(8 + n as u32),
    }
}

fn is_out_of_memory(code: BrotliDecoderErrorCode) -> bool {
    use BrotliDecoderErrorCode as Code;
    matches!(
        code,
        Code::BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES
            | Code::BROTLI_DECODER_ERROR_ALLOC_TREE_GROUPS
            | Code::BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MAP
            | Code::BROTLI_DECODER_ERROR_ALLOC_RING_BUFFER_1
            | Code::BROTLI_DECODER_ERROR_ALLOC_RING_BUFFER_2
            | Code::BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES
    )
}

/// The allocators of a state, with all its memory given back to them.
fn purses(state: &mut State) -> (Purse<u8>, Purse<u32>, Purse<HuffmanCode>) {
    state.BrotliStateCleanupAfterMetablock();
    state.alloc_u8.free_cell(core::mem::take(&mut state.ringbuffer));
    state.alloc_hc.free_cell(core::mem::take(&mut state.block_type_length_state.block_type_trees));
    state.alloc_hc.free_cell(core::mem::take(&mut state.block_type_length_state.block_len_trees));
    state.alloc_hc.free_cell(core::mem::take(&mut state.context_map_table));
    (core::mem::take(&mut state.alloc_u8), core::mem::take(&mut state.alloc_u32), core::mem::take(&mut state.alloc_hc))
}

/// What the allocators of a decoder hold together, and may hold.
#[derive(Debug, Default)]
struct Account {
    held: AtomicUsize,
    budget: AtomicUsize,
}

/// An allocator for the library: fallible, inside a budget, and with a few cells kept to be used again.
#[derive(Debug, Default)]
struct Purse<T> {
    account: Option<Arc<Account>>,
    kept: [Vec<T>; 8],
}

impl<T> Purse<T> {
    fn new(account: &Arc<Account>) -> Purse<T> {
        Purse { account: Some(account.clone()), kept: core::array::from_fn(|_| Vec::new()) }
    }

    /// Frees the cells that are kept and take more than `most` bytes.
    fn keep(&mut self, most: usize) {
        for cell in &mut self.kept {
            if cell.capacity() * size_of::<T>() > most {
                let freed = core::mem::take(cell);
                if let Some(account) = &self.account {
                    account.held.fetch_sub(freed.capacity() * size_of::<T>(), Ordering::Relaxed);
                }
            }
        }
    }
}

impl<T: Clone + Default> Allocator<T> for Purse<T> {
    type AllocatedMemory = Cell<T>;

    /// An empty cell is how the library hears of a failure.
    fn alloc_cell(&mut self, len: usize) -> Cell<T> {
        let fits = |cell: &&mut Vec<T>| cell.capacity() >= len && cell.capacity() / 4 <= len;
        let mut cell = match self.kept.iter_mut().filter(fits).min_by_key(|cell| cell.capacity()) {
            Some(cell) => core::mem::take(cell),
            None => Vec::new(),
        };
        if cell.capacity() < len {
            let bytes = len.saturating_mul(size_of::<T>());
            let fits = |purse: &Purse<T>| {
                purse.account.as_ref().is_some_and(|account| {
                    account.held.load(Ordering::Relaxed).saturating_add(bytes) <= account.budget.load(Ordering::Relaxed)
                })
            };
            if !fits(self) {
                self.keep(0);
            }
            if !fits(self) || cell.try_reserve_exact(len).is_err() {
                return Cell(Vec::new());
            }
            if let Some(account) = &self.account {
                account.held.fetch_add(cell.capacity() * size_of::<T>(), Ordering::Relaxed);
            }
        }
        cell.clear();
        cell.resize(len, T::default());
        Cell(cell)
    }

    fn free_cell(&mut self, cell: Cell<T>) {
        // The least of them makes room for a larger one.
        let mut freed = cell.0;
        if let Some(least) = self.kept.iter_mut().min_by_key(|cell| cell.capacity())
            && least.capacity() < freed.capacity()
        {
            core::mem::swap(least, &mut freed);
        }
        if let Some(account) = &self.account {
            account.held.fetch_sub(freed.capacity() * size_of::<T>(), Ordering::Relaxed);
        }
    }
}

/// Memory of the library.
#[derive(Debug, Default)]
struct Cell<T>(Vec<T>);

impl<T> SliceWrapper<T> for Cell<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cell<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_window_are_those_of_the_rfc() {
        for (byte, bits) in [(0x00, 16), (0x21, 10), (0x71, 15), (0x01, 17), (0x03, 18), (0x0f, 24)] {
            assert_eq!(window_bits(byte), Some(bits), "{byte:02x}");
        }
        assert_eq!(window_bits(0x11), None, "a large window");
    }

    #[test]
    fn a_purse_keeps_to_its_budget_and_uses_cells_again() {
        let account = Arc::new(Account::default());
        account.budget.store(1_000, Ordering::Relaxed);
        let held = || account.held.load(Ordering::Relaxed);
        let mut purse: Purse<u32> = Purse::new(&account);
        let cell = purse.alloc_cell(200);
        assert_eq!((cell.0.len(), held()), (200, 800));
        assert!(purse.alloc_cell(51).0.is_empty(), "over the budget");
        purse.free_cell(cell);
        assert_eq!(held(), 800, "it is kept");
        let cell = purse.alloc_cell(100);
        assert_eq!((cell.0.len(), cell.0.capacity(), held()), (100, 200, 800), "and used again");
        purse.free_cell(cell);
        assert_eq!((purse.alloc_cell(250).0.len(), held()), (250, 1_000), "what is kept makes room");
    }
}
