//! In: requests, on any thread. Out: how many there were, without threads that wait for each other's counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One thread writes it. It has cache lines of its own.
#[repr(align(128))]
struct Count(AtomicU64);

static ALL: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());

thread_local! {
    // Never freed: as many as there are threads in a process that ends with its measurement.
    static MINE: &'static Count = {
        let mine: &'static Count = Box::leak(Box::new(Count(AtomicU64::new(0))));
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(mine);
        mine
    };
}

/// One more.
pub(crate) fn count() {
    MINE.with(|mine| mine.0.store(mine.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed));
}

/// All of them.
pub(crate) fn total() -> u64 {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
}
