//! In: durations and sizes. Out: how many of them were up to each power of two. Fixed in size, nothing is allocated.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many powers of two are told apart; whatever is larger than the last one counts as larger.
pub(crate) const BOUNDS: usize = 31;

/// What a histogram measures, and with it the smallest bound.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds, from 1,024 (a microsecond) to 2^40 (eighteen minutes).
    Nanos,
    /// Bytes, from 64 to 2^36.
    Bytes,
}

impl Unit {
    fn shift(self) -> u32 {
        match self {
            Unit::Nanos => 10,
            Unit::Bytes => 6,
        }
    }

    /// The upper bound of a bucket: what is in it is not larger.
    pub(crate) fn bound(self, bucket: usize) -> u64 {
        1u64.checked_shl(self.shift() + bucket as u32).unwrap_or(u64::MAX)
    }

    fn bucket(self, value: u64) -> usize {
        // The least power of two that is not smaller: its exponent is the length of the number below.
        let exponent = u64::BITS - value.saturating_sub(1).leading_zeros();
        (exponent.saturating_sub(self.shift()) as usize).min(BOUNDS)
    }
}

/// Counts that many threads may add to.
#[derive(Debug)]
pub(crate) struct Histogram {
    unit: Unit,
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(unit: Unit) -> Histogram {
        Histogram { unit, buckets: array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    pub(crate) fn record(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(self.unit.bucket(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds what it holds now.
    pub(crate) fn read_into(&self, distribution: &mut Distribution) {
        for (sum, bucket) in distribution.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        distribution.sum = distribution.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// The counts of a histogram at one moment.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Distribution {
    /// What is measured.
    pub unit: Unit,
    pub(crate) buckets: [u64; BOUNDS + 1],
    /// All values together.
    pub sum: u64,
}

impl Distribution {
    pub(crate) fn new(unit: Unit) -> Distribution {
        Distribution { unit, buckets: [0; BOUNDS + 1], sum: 0 }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Bounds and how many values are not larger, bound by bound; the rest is larger than the last bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().take(BOUNDS).enumerate().scan(0, |sum, (bucket, n)| {
            *sum += n;
            Some((self.unit.bound(bucket), *sum))
        })
    }

    /// So much of all values (0.5: half of them) is not larger than this bound. `None`: there are none, or they are beyond all bounds.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        let rank = (self.count() as f64 * part.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        self.cumulative().find(|&(_, upto)| upto >= rank).map(|(bound, _)| bound)
    }

    /// What has come since an earlier moment.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut gone = *self;
        for (bucket, before) in gone.buckets.iter_mut().zip(earlier.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        gone.sum = gone.sum.saturating_sub(earlier.sum);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_first_bucket_whose_bound_it_does_not_pass() {
        for unit in [Unit::Nanos, Unit::Bytes] {
            for value in (0..64).flat_map(|n| [(1u64 << n) - 1, 1 << n, (1 << n) + 1]).chain([u64::MAX]) {
                let bucket = unit.bucket(value);
                assert!(bucket == BOUNDS || value <= unit.bound(bucket), "{value} in {bucket}");
                assert!(bucket == 0 || value > unit.bound(bucket - 1), "{value} in {bucket}");
            }
        }
    }

    #[test]
    fn quantiles_are_bounds_and_differences_are_what_has_come() {
        let histogram = Histogram::new(Unit::Nanos);
        let now = || {
            let mut now = Distribution::new(Unit::Nanos);
            histogram.read_into(&mut now);
            now
        };
        assert_eq!(now().quantile(0.5), None);
        (0..90).for_each(|_| histogram.record(1_500));
        let before = now();
        (0..10).for_each(|_| histogram.record(1_000_000));
        let all = now();
        assert_eq!((all.count(), all.sum), (100, 90 * 1_500 + 10 * 1_000_000));
        assert_eq!(
            (all.quantile(0.5), all.quantile(0.9), all.quantile(0.99)),
            (Some(2_048), Some(2_048), Some(1 << 20))
        );
        let gone = all.since(&before);
        assert_eq!((gone.count(), gone.sum, gone.quantile(0.1)), (10, 10_000_000, Some(1 << 20)));
        assert_eq!(all.cumulative().last(), Some((1 << 40, 100)));
        histogram.record(u64::MAX);
        assert_eq!((now().quantile(1.0), now().count()), (None, 101));
    }
}
