//! The system's allocator, which counts for each thread. A test that uses it has a file of its own, with one test of what it counts at a time
//! on a thread.
#![allow(dead_code, unreachable_pub, unsafe_code)] // each test file uses its part

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread holds, at most, and how often it asks.
struct Counting;

thread_local! {
    /// Bytes that are held now.
    pub static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most of them so far.
    pub static PEAK: Cell<isize> = const { Cell::new(0) };
    /// How often memory was asked for.
    pub static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
    if bytes > 0 {
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if it had to be copied: both are there for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is ours.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
