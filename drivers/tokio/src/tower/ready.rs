//! In: wake-ups of exchanges, from any thread. Out: which of them are to be polled, and one wake-up of their connection.
//!
//! ```text
//!   handler's waker --+
//!   body was read ----+--> Slot --> Ready: a list of slots --> the connection's task, once
//!   tunnel was used --+
//! ```

use futures_util::task::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// The exchanges of a connection that want to be polled.
#[derive(Debug, Default)]
pub(super) struct Ready {
    list: Mutex<Vec<usize>>,
    task: AtomicWaker,
}

impl Ready {
    /// Whom to wake.
    pub(super) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Moves what is there into `list`.
    pub(super) fn take(&self, list: &mut Vec<usize>) {
        list.append(&mut self.list.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Wakes the connection, whoever wants to be polled.
    pub(super) fn wake(&self) {
        self.task.wake();
    }

    fn push(&self, slot: usize) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.task.wake();
    }
}

/// A place for an exchange, as a waker. It outlives its exchange: waking it late costs one look.
#[derive(Debug)]
pub(super) struct Slot {
    number: usize,
    listed: AtomicBool,
    ready: Arc<Ready>,
}

impl Slot {
    pub(super) fn new(number: usize, ready: Arc<Ready>) -> Arc<Slot> {
        Arc::new(Slot { number, listed: AtomicBool::new(false), ready })
    }

    /// It is to be polled.
    pub(super) fn notify(&self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            self.ready.push(self.number);
        }
    }

    /// It is about to be polled: what happens from here on lists it again.
    pub(super) fn seen(&self) {
        self.listed.store(false, Ordering::Release);
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_listed_once_until_it_is_seen() {
        let ready = Arc::new(Ready::default());
        let slot = Slot::new(7, ready.clone());
        slot.notify();
        Waker::from(slot.clone()).wake();
        let mut list = Vec::new();
        ready.take(&mut list);
        assert_eq!(list, [7]);
        slot.notify();
        assert!(ready.is_empty(), "it was not seen yet");
        slot.seen();
        slot.notify();
        assert!(!ready.is_empty());
    }
}
