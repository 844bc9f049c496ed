//! In: the time and what an action costs. Out: whether it may happen.

use super::Instant;

/// A token bucket: holds at most `burst`, earns `rate` for each whole second that went by, earns nothing from a clock that
/// goes back, and is charged before the action that it guards.
#[derive(Copy, Clone, Debug)]
pub struct Bucket {
    tokens: u64,
    burst: u64,
    rate: u64,
    last: Instant,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(burst: u64, per_second: u64, now: Instant) -> Bucket {
        Bucket { tokens: burst, burst, rate: per_second, last: now }
    }

    /// Takes `cost` tokens, or nothing and says no.
    pub fn charge(&mut self, now: Instant, cost: u64) -> bool {
        let seconds = now.since(self.last).as_secs();
        if seconds > 0 {
            self.tokens = self.tokens.saturating_add(self.rate.saturating_mul(seconds)).min(self.burst);
            self.last = self.last.after_nanos(seconds.saturating_mul(1_000_000_000));
        }
        match self.tokens.checked_sub(cost) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// What is left, without earning first.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earns_whole_seconds_and_never_passes_the_burst() {
        let t = Instant::from_millis;
        let mut b = Bucket::new(2, 1, t(0));
        assert!(b.charge(t(0), 2));
        assert!(!b.charge(t(999), 1), "half a second earns nothing");
        assert!(b.charge(t(1000), 1));
        assert!(!b.charge(t(500), 1), "a clock that goes back earns nothing");
        assert!(b.charge(Instant::from_nanos(u64::MAX), 2), "a jump fills it");
        assert!(!b.charge(Instant::from_nanos(u64::MAX), 1), "and not beyond the burst");
    }
}
