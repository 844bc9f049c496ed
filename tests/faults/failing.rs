//! The system's allocator, which says no to one allocation of one thread, or to all from that one on.
//!
//! Only what happens inside [`armed`] counts and can fail, and only on the thread that armed it: the test's own memory, its client, and
//! whatever else runs in the process have what they want.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;

use super::exceptions::{self, EXCEPTIONS};

/// What becomes of the allocation that is counted out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// All are granted: how many are there?
    Count,
    /// That one fails.
    Once,
    /// That one and all behind it.
    Onward,
    /// It is granted, and where it was made is kept: [`trace`].
    Trace,
}

struct Failing;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
    /// What the allocator does for itself is neither counted nor refused.
    static HIDDEN: Cell<bool> = const { Cell::new(false) };
    static MODE: Cell<Mode> = const { Cell::new(Mode::Count) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static AT: Cell<u64> = const { Cell::new(0) };
    /// Exceptions are looked for: it takes a walk up the stack.
    static SPARING: Cell<bool> = const { Cell::new(false) };
    static SPARED: Cell<[u64; EXCEPTIONS.len()]> = const { Cell::new([0; EXCEPTIONS.len()]) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static TRACE: Cell<Option<Backtrace>> = const { Cell::new(None) };
}

/// The next run: which allocation is meant, counted from 1, and what becomes of it.
pub fn begin(mode: Mode, at: u64, sparing: bool) {
    MODE.set(mode);
    AT.set(at);
    COUNT.set(0);
    SPARING.set(sparing);
}

/// Allocations of the run, as far as they counted.
pub fn end() -> u64 {
    MODE.set(Mode::Count);
    COUNT.get()
}

/// Bytes that this thread holds.
pub fn live() -> isize {
    LIVE.get()
}

/// How often each exception let an allocation pass that was to fail.
pub fn spared() -> [u64; EXCEPTIONS.len()] {
    SPARED.get()
}

/// Where the allocation was made that was meant.
pub fn trace() -> Option<Backtrace> {
    TRACE.take()
}

/// Memory is short meanwhile.
pub fn armed<T>(work: impl FnOnce() -> T) -> T {
    /// Also when `work` panics: the report of a panic needs memory.
    struct Disarm;
    impl Drop for Disarm {
        fn drop(&mut self) {
            ARMED.set(false);
        }
    }
    ARMED.set(true);
    let _disarm = Disarm;
    work()
}

fn hidden<T>(work: impl FnOnce() -> T) -> T {
    let was = HIDDEN.replace(true);
    let outcome = work();
    HIDDEN.set(was);
    outcome
}

/// This allocation fails.
fn fails() -> bool {
    if !ARMED.get() || HIDDEN.get() || std::thread::panicking() {
        return false;
    }
    let n = COUNT.get() + 1;
    COUNT.set(n);
    let meant = match MODE.get() {
        Mode::Count => false,
        Mode::Once | Mode::Trace => n == AT.get(),
        Mode::Onward => n >= AT.get(),
    };
    if !meant {
        return false;
    }
    if MODE.get() == Mode::Trace {
        hidden(|| TRACE.set(Some(Backtrace::force_capture())));
        return false;
    }
    !SPARING.get() || !hidden(is_spared)
}

/// It is one of the exceptions: nobody can mend it here.
fn is_spared() -> bool {
    let frames = exceptions::frames(&Backtrace::force_capture());
    let Some(found) = EXCEPTIONS.iter().position(|exception| exception.holds(&frames)) else { return false };
    let mut all = SPARED.get();
    all[found] += 1;
    SPARED.set(all);
    true
}

fn count(bytes: isize) {
    if !HIDDEN.get() {
        LIVE.set(LIVE.get() + bytes);
    }
}

// SAFETY: what is granted is the system's own; null is what the contract says of an allocation that fails. Thread-locals that are
// constants, and need no drop but for one that is touched on purpose alone, can be looked at from anywhere.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
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
        // Less of the same is never refused by the system's, and nobody could go on from that: `shrink_to` would abort.
        if size > layout.size() && fails() {
            return std::ptr::null_mut();
        }
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's contract is ours.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;
