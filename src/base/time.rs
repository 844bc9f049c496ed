//! In: the caller's clock. Out: a point on it that saturates instead of overflowing.

use core::time::Duration;

/// Nanoseconds since an epoch of the caller's choosing. Only differences matter.
///
/// The machine never reads a clock: every turn is told the time. It may stand still, go back (it is then taken to stand
/// still) or jump; all arithmetic saturates.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Instant = Instant(0);

    /// `nanos` after the epoch.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// `millis` after the epoch.
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This long after `self`, or the end of time.
    pub const fn after(self, wait: Duration) -> Instant {
        let nanos = wait.as_nanos();
        self.after_nanos(if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 })
    }

    pub(crate) const fn after_nanos(self, nanos: u64) -> Instant {
        Instant(self.0.saturating_add(nanos))
    }

    pub(crate) const fn after_millis(self, millis: u64) -> Instant {
        self.after_nanos(millis.saturating_mul(1_000_000))
    }

    /// How long since `earlier`; zero if that lies ahead.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
