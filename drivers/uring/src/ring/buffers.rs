//! In: memory of our own. Out: buffers that the kernel fills, each lent as a value that goes back when it is dropped.
//!
//! ```text
//! | entry 0 | entry 1 | .. | tail |   the ring, shared with the kernel: address, length and number of every free buffer
//! | buffer 0 | buffer 1 | ..          filled by receives, one owner each
//! ```

use io_uring::types::BufRingEntry;
use std::alloc::{Layout, LayoutError, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// What the kernel wants the ring to be aligned to.
const PAGE: usize = 4096;

/// The buffers of one ring. Lives as long as the ring that knows its address, and as long as any buffer is lent.
pub(super) struct Shelf {
    entries: *mut BufRingEntry,
    buffers: *mut u8,
    count: u16,
    size: usize,
    tail: Cell<u16>,
    /// By number: it is ours to give out. The kernel has the others.
    out: Vec<Cell<bool>>,
    lent: Cell<usize>,
    layouts: (Layout, Layout),
}

impl Shelf {
    /// All buffers are in the ring. `count` becomes a power of two; both are clamped to what the kernel takes.
    ///
    /// # Errors
    /// So much does not fit into the address space.
    pub(super) fn new(count: usize, size: usize) -> Result<Rc<Shelf>, LayoutError> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let size = size.clamp(512, 1 << 24).next_multiple_of(64);
        let ring = Layout::from_size_align(count * size_of::<BufRingEntry>(), PAGE)?;
        let memory = Layout::from_size_align(count.saturating_mul(size), PAGE)?;
        // SAFETY: neither layout is of size zero, since count and size are at least 1 and 512.
        let (entries, buffers) = unsafe { (alloc_zeroed(ring).cast::<BufRingEntry>(), alloc_zeroed(memory)) };
        if entries.is_null() || buffers.is_null() {
            handle_alloc_error(memory);
        }
        let (tail, lent, out) = (Cell::new(0), Cell::new(0), vec![Cell::new(false); count]);
        let layouts = (ring, memory);
        let shelf = Rc::new(Shelf { entries, buffers, count: count as u16, size, tail, out, lent, layouts });
        for number in 0..shelf.count {
            shelf.offer(number);
        }
        Ok(shelf)
    }

    pub(super) fn address(&self) -> u64 {
        self.entries as u64
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn lent(&self) -> usize {
        self.lent.get()
    }

    /// The kernel says that it has filled this one. `None`: it cannot be, because it is lent or there is none.
    pub(super) fn lend(self: &Rc<Self>, number: u16) -> Option<Lent> {
        let out = self.out.get(usize::from(number))?;
        if out.replace(true) {
            return None;
        }
        self.lent.set(self.lent.get() + 1);
        Some(Lent { shelf: self.clone(), number })
    }

    fn give_back(&self, number: u16) {
        if self.out.get(usize::from(number)).is_some_and(|out| out.replace(false)) {
            self.lent.set(self.lent.get() - 1);
            self.offer(number);
        }
    }

    /// Puts a buffer that nobody has at the ring's end.
    fn offer(&self, number: u16) {
        let (tail, at) = (self.tail.get(), self.buffer(number));
        let place = usize::from(tail & (self.count - 1));
        // SAFETY: `place` is less than `count`, so the entry lies in `entries`. The kernel reads entries between its head and the
        // tail only; at most `count` buffers exist and this one is in nobody's hands, so this entry is not among them. Entry 0 shares
        // its last two bytes with the tail: they are written through the three setters never, and below atomically.
        unsafe {
            let entry = &mut *self.entries.add(place);
            entry.set_addr(at as u64);
            entry.set_len(self.size as u32);
            entry.set_bid(number);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: `entries` is the ring's base, aligned and initialised; the tail is an aligned u16 in its first entry, and
        // nobody but us writes it. The release makes the entry visible before the tail that covers it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail.get(), Ordering::Release);
        }
    }

    fn buffer(&self, number: u16) -> *mut u8 {
        // SAFETY: numbers are less than `count`: `new` and `lend` see to that. So the offset stays inside the allocation.
        unsafe { self.buffers.add(usize::from(number) * self.size) }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let (ring, memory) = self.layouts;
        // SAFETY: allocated in `new` with these layouts, freed once. No `Lent` is left, for each holds the shelf. The kernel is
        // out, too: the `Ring` holds the shelf until its registration is over, and forever if an operation did not end.
        unsafe {
            dealloc(self.entries.cast(), ring);
            dealloc(self.buffers, memory);
        }
    }
}

/// A buffer that the kernel has filled and that is ours until this value is dropped. There is one such value for a buffer at a time, and
/// it cannot be copied: what is in the ring cannot be named.
pub(crate) struct Lent {
    shelf: Rc<Shelf>,
    number: u16,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the buffer is initialised memory of `size` bytes. The kernel gave it to us and has not got it back: it writes into
        // buffers that are in its ring alone. This is the only `Lent` with this number, and it is borrowed.
        unsafe { std::slice::from_raw_parts(self.shelf.buffer(self.number), self.shelf.size) }
    }
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and it is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.shelf.buffer(self.number), self.shelf.size) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shelf.give_back(self.number);
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lent").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_lent_once_and_comes_back_once() {
        let shelf = Shelf::new(4, 512).expect("small");
        let mut first = shelf.lend(2).expect("in the ring");
        assert!(shelf.lend(2).is_none(), "it is lent");
        assert!(shelf.lend(4).is_none(), "there is none");
        first.as_mut()[511] = 7;
        let second = shelf.lend(3).expect("in the ring");
        assert!(second.as_ref().iter().all(|&byte| byte == 0), "they do not overlap");
        assert_eq!((shelf.lent(), shelf.tail.get()), (2, 4));
        drop(first);
        assert_eq!((shelf.lent(), shelf.tail.get()), (1, 5));
        assert_eq!(shelf.lend(2).expect("again").as_ref()[511], 7);
        drop(second);
        assert_eq!((shelf.lent(), shelf.tail.get()), (0, 7));
    }

    #[test]
    fn the_ring_goes_around_and_its_tail_with_it() {
        let shelf = Shelf::new(2, 512).expect("small");
        for _ in 0..70_000u32 {
            drop(shelf.lend(1));
        }
        assert_eq!(shelf.tail.get(), (70_002u32 % 65_536) as u16);
    }
}
