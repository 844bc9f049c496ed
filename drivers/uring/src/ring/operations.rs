//! In: operations, with what is theirs. Out: the number that the kernel carries for each, and what is theirs when it is over.
//!
//! ```text
//! user_data = | kind: 8 | generation: 24 | slot: 32 |
//! ```
//! A completion that fits no operation in flight, by any of the three, changes nothing.

use crate::seam::{Op, Storage};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use vestibule::Inbox;
use vestibule_driver::Key;

/// A listening socket; it may have others who listen.
pub(crate) type Port = Arc<dyn AsFd>;

/// What an operation holds until its final completion.
pub(super) enum Held {
    Accept {
        _open: Option<Port>,
    },
    Receive,
    Fill(Inbox<Storage>),
    /// `sent`: what the first of two completions said; the second says that the kernel no longer reads the storage.
    Send {
        storage: Storage,
        range: Range<usize>,
        sent: Option<i32>,
    },
    Shutdown,
    Close(OwnedFd),
    Cancel,
    /// The eventfd's count goes here.
    Bell {
        _count: Storage,
    },
}

impl Held {
    fn kind(&self) -> u8 {
        match self {
            Held::Accept { .. } => 1,
            Held::Receive => 2,
            Held::Fill(..) => 3,
            Held::Send { .. } => 4,
            Held::Shutdown => 5,
            Held::Close(_) => 6,
            Held::Cancel => 7,
            Held::Bell { .. } => 8,
        }
    }
}

/// What an operation does, for the probe.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Accept,
    Read,
    Write,
    /// It cancels, closes, or wakes.
    Neither,
}

impl Side {
    pub(super) fn of(op: Op) -> Side {
        match op.0 >> 56 {
            1 => Side::Accept,
            2 | 3 => Side::Read,
            4 | 5 => Side::Write,
            _ => Side::Neither,
        }
    }
}

struct Slot {
    generation: u32,
    operation: Option<Operation>,
}

struct Operation {
    key: Key,
    held: Held,
    /// A socket is not closed, and its number not given to another one, while anything is in flight on it.
    _open: Option<Rc<OwnedFd>>,
}

/// All operations in flight.
#[derive(Default)]
pub(super) struct Operations {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

const GENERATIONS: u32 = (1 << 24) - 1;

impl Operations {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn begin(&mut self, key: Key, socket: Option<&Rc<OwnedFd>>, held: Held) -> Op {
        let kind = held.kind();
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot { generation: 0, operation: None });
                (self.slots.len() - 1) as u32
            }
        };
        let generation = self.slots.get_mut(slot as usize).map_or(0, |at| {
            at.operation = Some(Operation { key, held, _open: socket.cloned() });
            at.generation
        });
        Op(u64::from(kind) << 56 | u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(&mut self, op: Op) -> Option<&mut Slot> {
        let (kind, generation) = ((op.0 >> 56) as u8, (op.0 >> 32) as u32 & GENERATIONS);
        let slot = self.slots.get_mut(op.0 as u32 as usize)?;
        let fits = slot.generation == generation && slot.operation.as_ref().is_some_and(|o| o.held.kind() == kind);
        fits.then_some(slot)
    }

    /// An operation in flight, and whose it is.
    pub(super) fn get(&mut self, op: Op) -> Option<(Key, &mut Held)> {
        self.slot(op)?.operation.as_mut().map(|o| (o.key, &mut o.held))
    }

    /// Its final completion came: what it held is free.
    pub(super) fn end(&mut self, op: Op) -> Option<(Key, Held)> {
        let slot = self.slot(op)?;
        let operation = slot.operation.take();
        slot.generation = (slot.generation + 1) & GENERATIONS;
        self.free.push(op.0 as u32);
        operation.map(|o| (o.key, o.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_number_says_what_an_operation_does() {
        let mut all = Operations::default();
        let mut side = |held| Side::of(all.begin(Key::from_bits(1), None, held));
        assert_eq!([side(Held::Receive), side(Held::Fill(Inbox::new(Vec::new())))], [Side::Read; 2]);
        let send = Held::Send { storage: Vec::new(), range: 0..0, sent: None };
        assert_eq!([side(send), side(Held::Shutdown)], [Side::Write; 2]);
        assert_eq!(side(Held::Accept { _open: None }), Side::Accept);
        assert_eq!([Held::Cancel, Held::Bell { _count: Vec::new() }].map(side), [Side::Neither; 2]);
    }

    #[test]
    fn what_an_operation_holds_comes_back_once_and_to_its_own_number_alone() {
        let key = Key::from_bits(9 << 32 | 3);
        let mut all = Operations::default();
        let op = all.begin(key, None, Held::Bell { _count: vec![7] });
        assert!(all.get(Op(op.0 ^ 1 << 56)).is_none(), "another kind");
        assert!(all.get(Op(op.0 ^ 1 << 32)).is_none(), "another generation");
        assert!(all.end(Op(op.0 ^ 1)).is_none(), "another slot");
        assert_eq!(all.len(), 1);
        assert!(matches!(all.end(op), Some((k, Held::Bell { _count })) if k == key && _count == [7]));
        assert!(all.end(op).is_none(), "a second completion");
        let again = all.begin(key, None, Held::Bell { _count: vec![8] });
        assert_ne!(again, op, "the slot is the same, the generation is not");
        assert!(all.end(op).is_none() && all.get(again).is_some());
    }
}
