//! In: connections that have something to read or to say. Out: storages for that, and back again: an idle connection holds none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The storages of one worker. What is given back is handed out again, warm and as it is: nothing behind what was received is
/// ever looked at.
#[derive(Debug)]
pub struct Buffers {
    inbox_bytes: usize,
    outbox_bytes: usize,
    inboxes: Vec<Vec<u8>>,
    outboxes: Vec<Vec<u8>>,
    /// Written by one thread only; others may look at it.
    out: Arc<AtomicUsize>,
}

/// So many of each kind are kept when nobody needs them.
const KEPT: usize = 64;

impl Buffers {
    /// Inboxes and outboxes of these sizes.
    pub fn new(inbox_bytes: usize, outbox_bytes: usize) -> Buffers {
        Buffers { inbox_bytes, outbox_bytes, inboxes: Vec::new(), outboxes: Vec::new(), out: Arc::default() }
    }

    /// A storage to read into.
    pub fn inbox(&mut self) -> Vec<u8> {
        self.count(self.out() + 1);
        self.inboxes.pop().unwrap_or_else(|| vec![0; self.inbox_bytes])
    }

    /// A storage to write from.
    pub fn outbox(&mut self) -> Vec<u8> {
        self.count(self.out() + 1);
        self.outboxes.pop().unwrap_or_else(|| vec![0; self.outbox_bytes])
    }

    /// That inbox is empty.
    pub fn give_inbox(&mut self, storage: Vec<u8>) {
        self.count(self.out().saturating_sub(1));
        if self.inboxes.len() < KEPT && storage.len() == self.inbox_bytes {
            self.inboxes.push(storage);
        }
    }

    /// That outbox is empty.
    pub fn give_outbox(&mut self, storage: Vec<u8>) {
        self.count(self.out().saturating_sub(1));
        if self.outboxes.len() < KEPT && storage.len() == self.outbox_bytes {
            self.outboxes.push(storage);
        }
    }

    /// Storages that connections hold now.
    pub fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }

    fn count(&self, out: usize) {
        self.out.store(out, Ordering::Relaxed);
    }

    /// What others may look at.
    pub(crate) fn meter(&self) -> Arc<AtomicUsize> {
        self.out.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_handed_out_again_and_a_hoard_is_not_kept() {
        let mut buffers = Buffers::new(10, 20);
        let first = buffers.inbox();
        let place = first.as_ptr();
        buffers.give_inbox(first);
        let again = buffers.inbox();
        assert_eq!((again.as_ptr(), again.len(), buffers.out()), (place, 10, 1));
        buffers.give_inbox(again);
        let many: Vec<_> = (0..1000).map(|_| buffers.outbox()).collect();
        many.into_iter().for_each(|storage| buffers.give_outbox(storage));
        assert_eq!((buffers.out(), buffers.outboxes.len()), (0, KEPT));
    }
}
