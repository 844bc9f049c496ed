//! In: a service's future, a response's body. Out: places where they lie still, for one exchange after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

/// Seats that a connection keeps for exchanges to come.
const SPARE: usize = 4;
/// How large a seat is at most that an idle connection keeps.
const SMALL: usize = 512;

/// What happens to a value of the service's that panics is no other's business.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Where a future and a body lie while they are polled. Its memory serves the next exchange as well.
pub(super) struct Seat<F, B> {
    pub(super) future: Pin<Box<Option<F>>>,
    pub(super) body: Pin<Box<Option<B>>>,
}

impl<F, B> Seat<F, B> {
    fn new() -> Seat<F, B> {
        Seat { future: Box::pin(None), body: Box::pin(None) }
    }

    /// Drops what is in it.
    pub(super) fn clear(&mut self) {
        if self.future.is_some() {
            guarded(|| self.future.set(None));
        }
        if self.body.is_some() {
            guarded(|| self.body.set(None));
        }
    }
}

/// Seats in which nobody sits.
pub(super) struct Seats<F, B>(Vec<Seat<F, B>>);

impl<F, B> Seats<F, B> {
    pub(super) const fn new() -> Seats<F, B> {
        Seats(Vec::new())
    }

    pub(super) fn take(&mut self) -> Seat<F, B> {
        self.0.pop().unwrap_or_else(Seat::new)
    }

    /// An empty one comes back.
    pub(super) fn give(&mut self, seat: Seat<F, B>) {
        if self.0.len() < SPARE {
            self.0.push(seat);
        }
    }

    /// The connection idles: it keeps one, if that is small.
    pub(super) fn shed(&mut self) {
        let small = size_of::<F>() + size_of::<B>() <= SMALL;
        self.0.truncate(usize::from(small));
    }
}
