//! In: accepted connections. Out: each of them on a thread of its own; never more threads than there may be.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vestibule_driver::probe::PoolCounts;

/// A bounded queue, and the count of who takes from it.
pub(crate) struct Pool<A> {
    state: Mutex<State<A>>,
    work: Condvar,
    change: Condvar,
    workers: usize,
    /// How many wait in the queue while nobody is free: readable without the lock.
    waiting: AtomicUsize,
    /// How many workers are about to become free for them.
    leaving: AtomicUsize,
}

struct State<A> {
    queue: VecDeque<A>,
    /// Queued or served.
    open: usize,
    /// Workers that serve a connection now. The other threads wait for one, or are about to.
    serving: usize,
    /// Workers that wait for work.
    idle: usize,
    threads: usize,
    closed: bool,
}

impl<A> Pool<A> {
    pub(crate) fn new(workers: usize) -> Pool<A> {
        let state = State { queue: VecDeque::new(), open: 0, serving: 0, idle: 0, threads: 0, closed: false };
        Pool {
            state: Mutex::new(state),
            work: Condvar::new(),
            change: Condvar::new(),
            workers: workers.max(1),
            waiting: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
        }
    }

    // A panic never happens under this lock; and if it did, the counts are still the best there is.
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a connection. True: a worker is wanted, the caller is to start one and has it counted already.
    pub(crate) fn push(&self, arrival: A) -> bool {
        let mut state = self.lock();
        state.open += 1;
        state.queue.push_back(arrival);
        let start = state.idle < state.queue.len() && state.threads < self.workers;
        state.threads += usize::from(start);
        self.note(&state);
        if !start {
            self.work.notify_one();
        }
        start
    }

    /// A thread that `push` asked for could not be started. The connection that it was for, if nobody else is there to serve it.
    pub(crate) fn not_started(&self) -> Option<A> {
        let mut state = self.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return None;
        }
        let arrival = state.queue.pop_back();
        state.open -= usize::from(arrival.is_some());
        self.note(&state);
        arrival
    }

    /// The next connection for a worker; `None`: the worker is to end.
    pub(crate) fn next(&self) -> Option<A> {
        let mut state = self.lock();
        state.idle += 1;
        let mut state =
            self.work.wait_while(state, |s| s.queue.is_empty() && !s.closed).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let arrival = state.queue.pop_front();
        match arrival {
            Some(_) => state.serving += 1,
            None => {
                state.threads -= 1;
                self.change.notify_all();
            }
        }
        self.note(&state);
        arrival
    }

    /// A connection is over.
    pub(crate) fn over(&self, was_leaving: bool) {
        if was_leaving {
            self.leaving.fetch_sub(1, Ordering::Relaxed);
        }
        let mut state = self.lock();
        state.open -= 1;
        state.serving -= 1;
        self.note(&state);
        self.change.notify_all();
    }

    fn note(&self, state: &State<A>) {
        let free = state.threads.saturating_sub(state.serving);
        self.waiting.store(state.queue.len().saturating_sub(free), Ordering::Relaxed);
    }

    /// Connections wait and no worker will be free for them: true if this caller is to make room, by ending its own.
    pub(crate) fn leave(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 || self.leaving.load(Ordering::Relaxed) >= waiting {
            return false;
        }
        if self.leaving.fetch_add(1, Ordering::Relaxed) >= waiting {
            self.leaving.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Its state now, for the probe.
    pub(crate) fn counts(&self) -> PoolCounts {
        let (threads, state) = (self.workers as u64, self.lock());
        let (busy, queued) = (state.serving as u64, state.queue.len() as u64);
        PoolCounts { threads, busy, queued, capacity: u64::MAX, ..PoolCounts::new("connections") }
    }

    /// Nothing new comes; workers end when the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.change.notify_all();
    }

    /// No connection and no worker is left.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.open == 0 && state.threads == 0
    }

    /// Waits until every connection and every worker is gone, but no longer than that.
    pub(crate) fn wait_empty(&self, most: Duration) {
        let state = self.lock();
        drop(self.change.wait_timeout_while(state, most, |s| s.open > 0 || s.threads > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_asked_for_when_needed_and_no_more_than_there_may_be() {
        let pool = Pool::new(2);
        for (n, wanted) in [(1, true), (2, true), (3, false)] {
            assert_eq!(pool.push(n), wanted, "{n}");
        }
        assert_eq!(pool.next(), Some(1));
        assert_eq!(pool.next(), Some(2));
        pool.over(false); // the first worker is free again
        assert_eq!(pool.next(), Some(3));
    }

    #[test]
    fn as_many_leave_as_wait_and_not_more() {
        let pool = Pool::new(3);
        assert!(!pool.leave(), "nobody waits");
        for n in 0..5 {
            assert_eq!(pool.push(n), n < 3);
        }
        for n in 0..3 {
            assert_eq!(pool.next(), Some(n));
        }
        assert!(pool.leave() && pool.leave() && !pool.leave(), "two wait");
        pool.over(true);
        assert!(!pool.leave(), "one waits for whom nobody is free, and one worker is leaving");
    }
}
