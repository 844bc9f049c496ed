//! In: calls into the kernel, and which operations each of them began or completed. Out: what accepting, reading and writing took of this
//! thread's processor time.
//!
//! ```text
//! submit:  a send writes while it is submitted           --> by what was begun
//! events:  a receive copies when its bytes are there     --> by what was completed
//! ```
//! A call does the work of many operations, and the kernel does not say how long each took: all of one call count the same. What is none of
//! the three (to cancel, to close) has its share, too, and that is dropped. Time that a processor gave to others, or to nobody, is in
//! none of it: a thread that sleeps in the kernel for its peers' sake does not work.

use super::operations::Side;
use crate::seam::Spent;

/// What a ring measures if it is asked to.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    spent: Spent,
    /// Submitted with the next call.
    pub(super) begun: Tally,
    /// Completed by the last one.
    pub(super) ended: Tally,
}

impl Gauge {
    /// What was submitted took so long.
    pub(super) fn submitted(&mut self, nanos: u64) {
        self.spent.add(std::mem::take(&mut self.begun).share(nanos));
    }

    /// What was completed took so long.
    pub(super) fn completed(&mut self, nanos: u64) {
        self.spent.add(std::mem::take(&mut self.ended).share(nanos));
    }

    /// Since it was last asked.
    pub(super) fn take(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }
}

/// Operations, by what they do.
#[derive(Debug, Default)]
pub(super) struct Tally {
    accepted: u64,
    read: u64,
    written: u64,
    all: u64,
}

impl Tally {
    pub(super) fn note(&mut self, side: Side) {
        self.all += 1;
        match side {
            Side::Accept => self.accepted += 1,
            Side::Read => self.read += 1,
            Side::Write => self.written += 1,
            Side::Neither => {}
        }
    }

    fn share(self, nanos: u64) -> Spent {
        let each = nanos / self.all.max(1);
        let of = |n| each.saturating_mul(n);
        Spent { accepting: of(self.accepted), reading: of(self.read), writing: of(self.written) }
    }
}

/// How long a processor has worked for the calling thread, in the kernel too, in nanoseconds.
pub(super) fn processor_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, and this is one. If it does not, that stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shared_among_its_operations_and_each_side_has_its_own() {
        let mut gauge = Gauge::default();
        gauge.submitted(1_000);
        assert_eq!(gauge.take(), Spent::default(), "nothing was begun by it");
        [Side::Write, Side::Write, Side::Read, Side::Accept, Side::Neither]
            .into_iter()
            .for_each(|side| gauge.begun.note(side));
        gauge.ended.note(Side::Read);
        gauge.submitted(5_000);
        gauge.completed(50);
        assert_eq!(gauge.take(), Spent { accepting: 1_000, reading: 1_050, writing: 2_000 });
        gauge.completed(70);
        assert_eq!(gauge.take(), Spent::default(), "each is counted once");
    }

    #[test]
    fn a_thread_that_sleeps_takes_no_time() {
        let before = processor_time();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let slept = processor_time() - before;
        assert!(slept < 25_000_000, "{slept}");
        let mut sum = 0u64;
        while processor_time() - before < slept + 1_000_000 {
            sum = (0..1_000).fold(sum, |sum, n: u64| sum.wrapping_mul(31).wrapping_add(n));
        }
        std::hint::black_box(sum);
    }
}
