//! In: a thread that says when it begins to work and when it waits. Out: how long it did either, at any moment, from any thread.

use super::Probe;
use std::fmt;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// What kind of thread it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Role {
    /// Accepts for others.
    Acceptor,
    /// Serves connections.
    Worker,
    /// Of the pool with this name.
    Pool(&'static str),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Acceptor => "accept",
            Role::Worker => "worker",
            Role::Pool(name) => name,
        })
    }
}

/// The lowest bit of `state`.
const WORKING: u64 = 1;
/// A `state` between two others: what is read meanwhile does not fit together.
const TURNING: u64 = u64::MAX;

/// The times of one thread. Only that thread writes. On lines of its own, so that reading one does not slow down another.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Meter {
    pub(crate) role: Role,
    pub(crate) number: usize,
    busy: AtomicU64,
    waiting: AtomicU64,
    /// Since when it does what it does, in nanoseconds, and in the lowest bit whether that is work. 0: it has not begun.
    state: AtomicU64,
    /// How much waited for it when it came back from its last wait, and at most so far.
    ready: AtomicU64,
    ready_most: AtomicU64,
    /// What the system calls the thread; 0: not known.
    thread: AtomicU64,
    /// Processor time of whoever had this place before, and of this thread as far as the system was asked.
    cpu_before: u64,
    cpu: AtomicU64,
}

#[cfg(target_os = "linux")]
fn this_thread() -> u64 {
    rustix::thread::gettid().as_raw_nonzero().get() as u64
}

#[cfg(not(target_os = "linux"))]
fn this_thread() -> u64 {
    0
}

/// The first number of a thread's `schedstat` is its time on a processor in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn cpu_of(thread: u64) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// What a [`Meter`] shows.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Reading {
    pub(crate) busy: u64,
    pub(crate) waiting: u64,
    pub(crate) ready: u64,
    pub(crate) ready_most: u64,
}

impl Meter {
    pub(crate) fn new(role: Role, number: usize) -> Meter {
        Meter::behind(role, number, Reading::default(), 0)
    }

    /// Counts on from another one's reading.
    pub(crate) fn behind(role: Role, number: usize, before: Reading, cpu_before: u64) -> Meter {
        let Reading { busy, waiting, ready_most, .. } = before;
        let [busy, waiting, ready_most] = [busy, waiting, ready_most].map(AtomicU64::new);
        let [state, ready, thread, cpu] = [0; 4].map(AtomicU64::new);
        Meter { role, number, busy, waiting, state, ready, ready_most, thread, cpu_before, cpu }
    }

    /// From now on it works, or waits.
    pub(crate) fn turn_to(&self, working: bool, now: u64) {
        let state = self.state.load(Ordering::Relaxed);
        let sum = if state & WORKING > 0 { &self.busy } else { &self.waiting };
        if state == 0 {
            self.thread.store(this_thread(), Ordering::Relaxed);
        } else {
            self.state.store(TURNING, Ordering::Relaxed);
            fence(Ordering::Release); // who sees the new sum sees that, too
            sum.store(sum.load(Ordering::Relaxed) + now.saturating_sub(state & !WORKING), Ordering::Relaxed);
        }
        self.state.store(now.max(2) & !WORKING | u64::from(working), Ordering::Release);
    }

    /// How long a processor worked for this thread, in the kernel too, in nanoseconds: a thread that waits by a call which itself does much
    /// of the work (io_uring) is busier than it can know. 0: the system does not tell.
    pub(crate) fn cpu(&self) -> u64 {
        let thread = self.thread.load(Ordering::Relaxed);
        let told = if thread > 0 { cpu_of(thread) } else { None };
        // One that has ended stays at what it had.
        let before = self.cpu.fetch_max(told.unwrap_or(0), Ordering::Relaxed);
        self.cpu_before + before.max(told.unwrap_or(0))
    }

    /// So much waits for it.
    pub(crate) fn finds(&self, ready: u64) {
        self.ready.store(ready, Ordering::Relaxed);
        if ready > self.ready_most.load(Ordering::Relaxed) {
            self.ready_most.store(ready, Ordering::Relaxed);
        }
    }

    /// Up to now, also in the middle of what it does.
    pub(crate) fn read(&self, now: u64) -> Reading {
        let mut reading = Reading::default();
        // It may turn while it is read: seldom, and hardly ever twice.
        for tries in 0..1_000 {
            let state = self.state.load(Ordering::Acquire);
            let [busy, waiting, ready, ready_most] =
                [&self.busy, &self.waiting, &self.ready, &self.ready_most].map(|sum| sum.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if state == TURNING || state != self.state.load(Ordering::Relaxed) {
                // One that lost its processor on its way gets it back.
                if tries < 100 {
                    spin_loop()
                } else {
                    std::thread::yield_now()
                }
                continue;
            }
            reading = Reading { busy, waiting, ready, ready_most };
            let current = if state > 0 { now.saturating_sub(state & !WORKING) } else { 0 };
            match state & WORKING > 0 {
                true => reading.busy += current,
                false => reading.waiting += current,
            }
            break;
        }
        reading
    }
}

/// Tells the probe when a thread waits and when it works. Cheap to clone; without a probe it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Meter>>);

impl Clock {
    pub(crate) fn of(probe: Option<&Probe>, role: Role, number: usize) -> Clock {
        Clock(probe.map(|probe| probe.meter(role, number)))
    }

    /// The thread is about to wait.
    pub fn waits(&self) {
        if let Some(meter) = &self.0 {
            meter.turn_to(false, super::now());
        }
    }

    /// It is back. `ready` says how much it found to do, and is asked only if there is a probe.
    pub fn works(&self, ready: impl FnOnce() -> usize) {
        if let Some(meter) = &self.0 {
            meter.turn_to(true, super::now());
            meter.finds(ready() as u64);
        }
    }
}

/// A thread's meter says that it works while this lives.
#[derive(Debug)]
pub(crate) struct Working(pub(crate) Arc<Meter>);

impl Working {
    /// For a thread whose `meter` is known; `None` measures nothing.
    pub(crate) fn begin(meter: Option<&Arc<Meter>>) -> Option<Working> {
        let meter = meter?.clone();
        meter.turn_to(true, super::now());
        Some(Working(meter))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.turn_to(false, super::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_waiting_are_told_apart_also_while_they_last() {
        let meter = Meter::new(Role::Worker, 0);
        assert_eq!(meter.read(1_000), Reading::default());
        meter.turn_to(true, 1_000);
        assert_eq!(meter.read(1_500).busy, 500);
        meter.turn_to(false, 2_000);
        meter.turn_to(true, 5_000);
        meter.finds(7);
        meter.finds(3);
        let reading = meter.read(5_100);
        assert_eq!(reading, Reading { busy: 1_100, waiting: 3_000, ready: 3, ready_most: 7 });
        let next = Meter::behind(Role::Worker, 0, reading, 0);
        next.turn_to(false, 6_000);
        assert_eq!((next.read(6_010).busy, next.read(6_010).waiting), (1_100, 3_010));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_says_how_long_a_processor_worked_for_it_and_a_successor_counts_on() {
        let meter = Meter::new(Role::Worker, 0);
        assert_eq!(meter.cpu(), 0, "it has not begun");
        meter.turn_to(false, 1);
        if !std::path::Path::new("/proc/self/schedstat").exists() {
            return;
        }
        let mut sum = 0u64;
        while meter.cpu() < 2_000_000 {
            sum = (0..10_000).fold(sum, |sum, n: u64| sum.wrapping_mul(31).wrapping_add(n));
        }
        std::hint::black_box(sum);
        let had = meter.cpu();
        let next = Meter::behind(Role::Worker, 0, meter.read(2), had);
        assert_eq!(next.cpu(), had);
        next.turn_to(true, 3);
        assert!(next.cpu() > had);
    }

    #[test]
    fn whenever_it_is_read_its_times_fit_together() {
        const NOW: u64 = 1 << 40;
        let meter = Arc::new(Meter::new(Role::Worker, 0));
        meter.turn_to(true, 100);
        let its = meter.clone();
        let writer = std::thread::spawn(move || (2..100_000u64).for_each(|n| its.turn_to(n % 2 == 0, n * 100)));
        while !writer.is_finished() {
            let reading = meter.read(NOW);
            assert_eq!(reading.busy + reading.waiting, NOW - 100);
        }
        assert!(writer.join().is_ok());
        assert_eq!(meter.read(0).busy + meter.read(0).waiting, 99_998 * 100);
    }
}
