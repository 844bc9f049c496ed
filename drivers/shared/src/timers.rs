//! In: when each connection wants to be looked at. Out: whose time has come.
//!
//! A heap over places, not over connections: a place has one entry at most that counts, and a deadline that moves away, as almost all do,
//! costs nothing. The entry then comes up early once, and the connection is asked again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use vestibule::Instant;

const NEVER: Instant = Instant::from_nanos(u64::MAX);

/// The deadlines of a worker's connections, by place: O(log n) to bring one forward, O(1) to push it back.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    armed: Vec<Instant>,
}

impl Timers {
    /// The entry at this place is to come up at `at`, or a little earlier. Without a deadline nothing is to be done: it may
    /// come up once more.
    pub fn arm(&mut self, slot: usize, at: Instant) {
        if self.armed.len() <= slot {
            self.armed.resize(slot + 1, NEVER);
        }
        if let Some(armed) = self.armed.get_mut(slot)
            && at < *armed
        {
            *armed = at;
            self.heap.push(Reverse((at, slot as u32)));
        }
    }

    /// A place whose time has come. Ask whoever has it for its deadline, and arm it again.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let slot = slot as usize;
            if let Some(armed) = self.armed.get_mut(slot)
                && *armed == at
            {
                *armed = NEVER;
                return Some(slot);
            }
        }
        None
    }

    /// When the next one may be due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_deadline_that_moves_away_leaves_one_entry() {
        let mut timers = Timers::default();
        for n in 0..10_000 {
            timers.arm(3, at(100 + n));
        }
        assert_eq!((timers.heap.len(), timers.next()), (1, Some(at(100))));
        assert_eq!((timers.due(at(99)), timers.due(at(100)), timers.due(at(100_000))), (None, Some(3), None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        // Whatever is wanted when, whoever's time has come is found, and nobody is forgotten.
        #[test]
        fn nobody_is_late(steps in proptest::collection::vec((0usize..8, 0u64..50, 0u64..5), 1..200)) {
            let (mut timers, mut want, mut now) = (Timers::default(), [None; 8], 0);
            for (slot, wait, pass) in steps {
                let deadline = at(now + wait);
                want[slot] = Some(deadline);
                timers.arm(slot, deadline);
                now += pass;
                while let Some(slot) = timers.due(at(now)) {
                    match want[slot] {
                        Some(deadline) if deadline > at(now) => timers.arm(slot, deadline),
                        _ => want[slot] = None,
                    }
                }
                prop_assert!(want.iter().flatten().all(|&deadline| deadline > at(now)), "somebody is late");
                let soonest = want.iter().flatten().min().copied();
                prop_assert!(soonest.is_none_or(|soonest| timers.next().is_some_and(|next| next <= soonest)));
            }
        }
    }
}
