//! In: what was counted by one moment. Out: plain values, to be shown, compared and judged.

use super::histogram::{Distribution, Unit};
use super::meter::Role;
use std::time::Duration;

/// A stage of the road.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(usize)]
#[non_exhaustive]
pub enum Stage {
    /// Connections are taken from the kernel's queue.
    Accept,
    /// Bytes are taken from sockets.
    Read,
    /// TLS: handshakes, records opened and sealed.
    Decrypt,
    /// HTTP: heads, frames, framing.
    Parse,
    /// Content codings, gathered bodies, jobs.
    Decode,
    /// The service.
    Process,
    /// Bytes are given to sockets.
    Write,
    /// What a turn takes beyond its stages.
    Machine,
}

impl Stage {
    /// All of them, on the way of a request.
    pub const ALL: [Stage; STAGES] = [
        Stage::Accept,
        Stage::Read,
        Stage::Decrypt,
        Stage::Parse,
        Stage::Decode,
        Stage::Process,
        Stage::Write,
        Stage::Machine,
    ];

    /// Its name, as labels and the page write it.
    pub fn name(self) -> &'static str {
        ["accept", "read", "decrypt", "parse", "decode", "process", "write", "machine"]
            .get(self as usize)
            .copied()
            .unwrap_or_default()
    }
}

pub(crate) const STAGES: usize = 8;

/// What [`Snapshot::responses`] tells apart, as labels and the page write it.
pub(crate) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What a stage did, and what waits for it.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct StageCounts {
    /// Time of threads that it took. Waiting for a peer is in none.
    pub time: Duration,
    /// Bytes that went through it.
    pub bytes: u64,
    /// How often it had something to do.
    pub count: u64,
    /// What waits for it now: connections, or tasks of its pool.
    pub queue: u64,
    /// At most so far, as far as it was looked at.
    pub queue_most: u64,
}

/// What connections came to.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct ConnectionCounts {
    /// Accepted so far.
    pub accepted: u64,
    /// Open now.
    pub open: u64,
    /// Ended as HTTP and TLS want it.
    pub closed: u64,
    /// Ended by the peer's reset.
    pub reset: u64,
    /// Cut off by us.
    pub cut: u64,
}

/// What a thread did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadCounts {
    /// What it is for.
    pub role: Role,
    /// Its number among those, from 0 on.
    pub number: usize,
    /// Time that it worked.
    pub busy: Duration,
    /// Time that it waited.
    pub waiting: Duration,
    /// Processor time that it took, in the kernel too; zero where the system does not tell.
    pub cpu: Duration,
    /// Sockets and letters that it found when it came back from its last wait.
    pub ready: u64,
    /// At most so far.
    pub ready_most: u64,
}

impl ThreadCounts {
    /// Its name: `worker 0`.
    pub fn name(&self) -> String {
        format!("{} {}", self.role, self.number)
    }
}

/// What a pool did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolCounts {
    /// What it is for.
    pub name: &'static str,
    /// How many threads it has.
    pub threads: u64,
    /// Those that work now.
    pub busy: u64,
    /// Tasks that wait now.
    pub queued: u64,
    /// At most so far.
    pub queued_most: u64,
    /// How many may wait.
    pub capacity: u64,
    /// Tasks taken so far.
    pub taken: u64,
    /// Tasks refused so far, because too many waited.
    pub refused: u64,
    /// How long tasks waited.
    pub wait: Distribution,
}

impl PoolCounts {
    /// One of that name that has done nothing.
    pub fn new(name: &'static str) -> PoolCounts {
        let wait = Distribution::new(Unit::Nanos);
        let (threads, busy, queued, queued_most, capacity, taken, refused) = (0, 0, 0, 0, 0, 0, 0);
        PoolCounts { name, threads, busy, queued, queued_most, capacity, taken, refused, wait }
    }
}

/// The kernel's queue of one listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueCounts {
    /// Which one: its address.
    pub name: String,
    /// Connections that wait now.
    pub waiting: u64,
    /// At most so far, as far as it was looked at.
    pub waiting_most: u64,
    /// How many may wait.
    pub capacity: u64,
}

/// One value of somebody else's.
#[derive(Clone, PartialEq, Debug)]
pub struct Gauge {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// How much it is.
    pub value: f64,
}

/// All that is known of a server at one moment. Everything but what is there "now" only grows.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The moment: time since the server was bound.
    pub at: Duration,
    /// By stage, in the order of [`Stage::ALL`].
    pub stages: [StageCounts; STAGES],
    /// Connections.
    pub connections: ConnectionCounts,
    /// Requests that began, in HTTP/1 and in HTTP/2.
    pub requests: [u64; 2],
    /// Responses whose head was made, by the class of their status, 1xx first: interim ones and those of the machine itself with all others.
    pub responses: [u64; 5],
    /// From a request's head to the end of its answer, as it is made.
    pub durations: Distribution,
    /// Each call of the service.
    pub services: Distribution,
    /// Each turn of a connection, its service included.
    pub turns: Distribution,
    /// Bytes that came at a time.
    pub reads: Distribution,
    /// Threads, the workers first.
    pub threads: Vec<ThreadCounts>,
    /// Pools.
    pub pools: Vec<PoolCounts>,
    /// Accept queues, where the kernel tells.
    pub accept_queues: Vec<QueueCounts>,
    /// Connections for which the kernel had no room, in the whole system. `None`: it does not tell.
    pub overflows: Option<u64>,
    /// Rules that were broken, by name.
    pub faults: Vec<(&'static str, u64)>,
    /// Those of them that are about time.
    pub timeouts: u64,
    /// Requests answered 503 because a pool was full.
    pub refused: u64,
    /// Services that panicked.
    pub panics: u64,
    /// Values of others.
    pub gauges: Vec<Gauge>,
}

impl Snapshot {
    pub(crate) fn new() -> Snapshot {
        Snapshot {
            at: Duration::ZERO,
            stages: [StageCounts::default(); STAGES],
            connections: ConnectionCounts::default(),
            requests: [0; 2],
            responses: [0; 5],
            durations: Distribution::new(Unit::Nanos),
            services: Distribution::new(Unit::Nanos),
            turns: Distribution::new(Unit::Nanos),
            reads: Distribution::new(Unit::Bytes),
            threads: Vec::new(),
            pools: Vec::new(),
            accept_queues: Vec::new(),
            overflows: None,
            faults: Vec::new(),
            timeouts: 0,
            refused: 0,
            panics: 0,
            gauges: Vec::new(),
        }
    }

    /// What a stage did.
    pub fn stage(&self, stage: Stage) -> StageCounts {
        self.stages.get(stage as usize).copied().unwrap_or_default()
    }

    pub(crate) fn at_stage(&mut self, stage: Stage, note: impl FnOnce(&mut StageCounts)) {
        if let Some(counts) = self.stages.get_mut(stage as usize) {
            note(counts);
        }
    }

    /// What part of the time since an earlier moment a thread worked: as it says itself, or as the system does, if that is more.
    pub(crate) fn utilisation(&self, earlier: &Snapshot, thread: &ThreadCounts) -> f64 {
        let same = |other: &&ThreadCounts| other.role == thread.role && other.number == thread.number;
        let before = earlier.threads.iter().find(same).map_or((Duration::ZERO, Duration::ZERO), |t| (t.busy, t.cpu));
        let busy = thread.busy.saturating_sub(before.0).max(thread.cpu.saturating_sub(before.1));
        part(busy, self.at.saturating_sub(earlier.at))
    }

    /// The same for all threads of a pool together.
    pub(crate) fn utilisation_of_pool(&self, earlier: &Snapshot, name: &str) -> f64 {
        let own = self.threads.iter().filter(|thread| matches!(thread.role, Role::Pool(own) if own == name));
        let (sum, n) = own.fold((0.0, 0), |(sum, n), thread| (sum + self.utilisation(earlier, thread), n + 1));
        if n == 0 {
            // Threads that come and go are not measured each: how many of them work now.
            let pool = self.pools.iter().find(|pool| pool.name == name);
            return pool.map_or(0.0, |pool| pool.busy as f64 / pool.threads.max(1) as f64);
        }
        sum / f64::from(n)
    }

    /// What part of all time that was measured since an earlier moment went to each stage.
    pub(crate) fn shares(&self, earlier: &Snapshot) -> [f64; STAGES] {
        let mut shares = [0.0; STAGES];
        for ((share, now), before) in shares.iter_mut().zip(&self.stages).zip(&earlier.stages) {
            *share = now.time.saturating_sub(before.time).as_nanos() as f64;
        }
        let sum: f64 = shares.iter().sum();
        if sum > 0.0 {
            shares.iter_mut().for_each(|share| *share /= sum);
        }
        shares
    }
}

/// What part of a time another one is, 1 at most.
fn part(of: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (of.as_secs_f64() / whole.as_secs_f64()).min(1.0) }
}
