//! In: connections that have something to read or to say. Out: storage for as long as that lasts.
//!
//! A connection takes its two buffers when it is polled, and gives back what is empty before it waits: idle connections hold none. The
//! spare ones lie with the thread that polls, so that taking one costs no lock.

use std::cell::RefCell;

/// Spare buffers that a thread keeps at most; what is beyond them is freed.
const KEPT: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of exactly so many bytes. Nobody looks at what is in it: it is read into before.
pub(crate) fn take(bytes: usize) -> Vec<u8> {
    let spare = SPARE.with_borrow_mut(|spare| {
        let at = spare.iter().rposition(|buffer| buffer.len() == bytes)?;
        Some(spare.swap_remove(at))
    });
    spare.unwrap_or_else(|| vec![0; bytes])
}

/// Gives a buffer back.
pub(crate) fn give(buffer: Vec<u8>) {
    if buffer.is_empty() {
        return;
    }
    // A thread that is ending has no spare ones any more.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again_and_only_so_much_is_kept() {
        for _ in 0..KEPT + 4 {
            give(vec![0; 1234]);
        }
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        assert_eq!(take(1234).len(), 1234);
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT - 1);
        assert_eq!(take(99).len(), 99, "another size is made");
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT - 1);
    }
}
