//! In: connections, one after the other, and how many each worker has open. Out: the worker that gets the next one.
//!
//! ```text
//!                          open          an acceptor asks `give`, any thread may
//!   acceptor --> Loads: [ 3 | 1 | 2 ]  round-robin: the next in turn     least loaded: the one with 1
//!                               ^
//!                               +-- a `Place` counts its connection until it is dropped, on whatever thread
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// By what a worker is chosen.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum HandOut {
    /// One after the other. Even if all connections are alike, as those of a load generator.
    RoundRobin,
    /// The one with the fewest open connections; of several, the next in turn. Long and short connections even out.
    #[default]
    LeastLoaded,
}

/// Chooses workers. Cheap to clone; all clones count together.
///
/// ```
/// use vestibule_driver::hand_out::{HandOut, Loads};
///
/// let hand_out = Loads::new(2, HandOut::LeastLoaded);
/// let first = hand_out.give(|_| true).expect("nobody is full");
/// let second = hand_out.give(|_| true).expect("nobody is full");
/// assert_ne!(first.worker(), second.worker());
/// drop(first); // its connection is over
/// assert_eq!(hand_out.loads(), [0, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct Loads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    loads: Box<[Load]>,
    /// Whose turn it is, modulo the number of workers.
    turn: AtomicUsize,
    choice: HandOut,
}

/// The open connections of one worker. Each has its own cache line: workers that close connections do not slow each other.
#[derive(Default, Debug)]
#[repr(align(128))]
struct Load(AtomicUsize);

impl Loads {
    /// For so many workers; at least one.
    pub fn new(workers: usize, choice: HandOut) -> Loads {
        let loads = (0..workers.max(1)).map(|_| Load::default()).collect();
        Loads { shared: Arc::new(Shared { loads, turn: AtomicUsize::new(0), choice }) }
    }

    /// A place at the worker that is to have the next connection, of those that `may` have one. `None`: none may.
    ///
    /// `may` is asked once for each worker at most, in turn. It is meant for bounded mailboxes, and for workers that are gone.
    pub fn give(&self, mut may: impl FnMut(usize) -> bool) -> Option<Place> {
        let loads = &self.shared.loads;
        let first = self.shared.turn.fetch_add(1, Ordering::Relaxed) % loads.len();
        let in_turn = loads.iter().enumerate().cycle().skip(first).take(loads.len());
        let worker = match self.shared.choice {
            HandOut::RoundRobin => in_turn.map(|(worker, _)| worker).find(|&worker| may(worker)),
            HandOut::LeastLoaded => {
                // `min_by_key` takes the first of equals, so the turn decides among them.
                let may_have = in_turn.filter(|&(worker, _)| may(worker));
                may_have.min_by_key(|(_, load)| load.0.load(Ordering::Relaxed)).map(|(worker, _)| worker)
            }
        }?;
        self.place(worker)
    }

    /// A place at this worker, which accepts for itself. `None`: there is no such worker.
    pub fn place(&self, worker: usize) -> Option<Place> {
        self.shared.loads.get(worker)?.0.fetch_add(1, Ordering::Relaxed);
        Some(Place { shared: self.shared.clone(), worker })
    }

    /// How many connections each worker has open.
    pub fn loads(&self) -> Vec<usize> {
        self.shared.loads.iter().map(|load| load.0.load(Ordering::Relaxed)).collect()
    }
}

/// One connection's place at a worker, until it is dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    worker: usize,
}

impl Place {
    /// Which worker.
    pub fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(load) = self.shared.loads.get(self.worker) {
            load.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn workers(places: &[Place]) -> Vec<usize> {
        places.iter().map(Place::worker).collect()
    }

    #[test]
    fn round_robin_takes_turns_whatever_the_loads() {
        let hand_out = Loads::new(3, HandOut::RoundRobin);
        let mut places: Vec<_> = (0..6).filter_map(|_| hand_out.give(|_| true)).collect();
        assert_eq!(workers(&places), [0, 1, 2, 0, 1, 2]);
        places.retain(|place| place.worker() == 0);
        assert_eq!(hand_out.loads(), [2, 0, 0]);
        assert_eq!(hand_out.give(|_| true).map(|place| place.worker()), Some(0));
    }

    #[test]
    fn least_loaded_fills_the_gaps_and_shares_evenly_among_equals() {
        let hand_out = Loads::new(3, HandOut::LeastLoaded);
        let mut places: Vec<_> = (0..9).filter_map(|_| hand_out.give(|_| true)).collect();
        assert_eq!(hand_out.loads(), [3, 3, 3]);
        places.retain(|place| place.worker() != 1);
        let refill: Vec<_> = (0..3).filter_map(|_| hand_out.give(|_| true)).collect();
        assert_eq!(workers(&refill), [1, 1, 1]);
    }

    #[test]
    fn who_may_not_is_passed_over_and_nobody_is_none() {
        for choice in [HandOut::RoundRobin, HandOut::LeastLoaded] {
            let hand_out = Loads::new(3, choice);
            let places: Vec<_> = (0..4).filter_map(|_| hand_out.give(|worker| worker == 2)).collect();
            assert_eq!(workers(&places), [2, 2, 2, 2], "{choice:?}");
            assert!(hand_out.give(|_| false).is_none());
            assert_eq!(hand_out.loads(), [0, 0, 4]);
            assert!(hand_out.place(3).is_none());
        }
    }

    #[test]
    fn threads_that_give_and_drop_leave_every_count_at_zero() {
        let hand_out = Loads::new(4, HandOut::LeastLoaded);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut places = Vec::new();
                    for n in 0..200 {
                        places.extend(hand_out.give(|_| true));
                        if n % 3 == 0 {
                            places.swap_remove(n % places.len());
                        }
                    }
                });
            }
        });
        assert_eq!(hand_out.loads(), [0; 4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn without_departures_loads_differ_by_one_at_most(workers in 1usize..9, count in 0usize..64, least: bool) {
            let choice = if least { HandOut::LeastLoaded } else { HandOut::RoundRobin };
            let hand_out = Loads::new(workers, choice);
            let places: Vec<_> = (0..count).filter_map(|_| hand_out.give(|_| true)).collect();
            let loads = hand_out.loads();
            prop_assert_eq!(loads.iter().sum::<usize>(), places.len());
            let (most, fewest) = (loads.iter().max().copied(), loads.iter().min().copied());
            prop_assert!(most.unwrap_or(0) - fewest.unwrap_or(0) <= 1, "{:?}", loads);
        }
    }
}
