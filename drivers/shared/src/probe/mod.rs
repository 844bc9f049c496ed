//! In: what threads do, as they do it. Out: where the time goes, what waits where, and what is too slow: for Prometheus, for a page, and as a sentence.
//!
//! ```text
//!   a thread --> its Shard: stages, histograms     --+
//!   a thread --> its Meter: working or waiting       +--> Snapshot --> prometheus, json
//!   a pool   --> its Gate: taken, refused, wait      |        \--> two of them --> Bottleneck
//!   kernel, others: closures that are asked        --+
//! ```
//!
//! Everything is counted by each thread on cache lines of its own and summed when it is read. A server without a probe
//! ([`Builder::probe`](crate::Builder::probe)) asks one question a turn, and nothing else.

mod bottleneck;
mod histogram;
mod json;
mod meter;
mod prometheus;
mod snapshot;
mod tap;
mod trace;

pub use bottleneck::{Bottleneck, Culprit};
pub use histogram::{Distribution, Unit};
pub use meter::{Clock, Role};
pub(crate) use meter::{Meter, Working};
pub use snapshot::{ConnectionCounts, Gauge, PoolCounts, QueueCounts, Snapshot, Stage, StageCounts, ThreadCounts};
pub use tap::Lap;
pub(crate) use tap::{Ends, Tap, Watch};
pub(crate) use trace::Trace;

use crate::pool::Pool;
use histogram::Histogram;
use snapshot::STAGES;
use std::array;
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vestibule::{Rule, Violation};

/// Nanoseconds since the first time that anybody asked.
pub(crate) fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    u64::try_from(EPOCH.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The number of the calling thread among those that ever counted something.
fn here() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static HERE: Cell<usize> = const { Cell::new(0) });
    // A thread that ends may still drop what it has: wherever that is counted.
    let number = HERE.try_with(|here| {
        if here.get() == 0 {
            here.set(THREADS.fetch_add(1, Ordering::Relaxed) + 1);
        }
        here.get()
    });
    number.unwrap_or_default()
}

/// What one thread counts.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Shard {
    stages: [StageCell; STAGES],
    requests: [AtomicU64; 2],
    responses: [AtomicU64; 5],
    durations: Histogram,
    services: Histogram,
    turns: Histogram,
    reads: Histogram,
    refused: AtomicU64,
    ended: [AtomicU64; 3],
}

#[derive(Debug, Default)]
struct StageCell {
    nanos: AtomicU64,
    bytes: AtomicU64,
    count: AtomicU64,
}

fn add(cell: &AtomicU64, n: u64) {
    if n > 0 {
        cell.fetch_add(n, Ordering::Relaxed);
    }
}

impl Shard {
    fn new() -> Shard {
        Shard {
            stages: array::from_fn(|_| StageCell::default()),
            requests: array::from_fn(|_| AtomicU64::new(0)),
            responses: array::from_fn(|_| AtomicU64::new(0)),
            durations: Histogram::new(Unit::Nanos),
            services: Histogram::new(Unit::Nanos),
            turns: Histogram::new(Unit::Nanos),
            reads: Histogram::new(Unit::Bytes),
            refused: AtomicU64::new(0),
            ended: array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn stage(&self, stage: Stage, nanos: u64, bytes: u64, count: u64) {
        if let Some(cell) = self.stages.get(stage as usize) {
            add(&cell.nanos, nanos);
            add(&cell.bytes, bytes);
            add(&cell.count, count);
        }
    }

    fn read_into(&self, snapshot: &mut Snapshot) {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for (sum, cell) in snapshot.stages.iter_mut().zip(&self.stages) {
            sum.time += Duration::from_nanos(get(&cell.nanos));
            sum.bytes += get(&cell.bytes);
            sum.count += get(&cell.count);
        }
        for (sum, cell) in snapshot.requests.iter_mut().zip(&self.requests) {
            *sum += get(cell);
        }
        for (sum, cell) in snapshot.responses.iter_mut().zip(&self.responses) {
            *sum += get(cell);
        }
        self.durations.read_into(&mut snapshot.durations);
        self.services.read_into(&mut snapshot.services);
        self.turns.read_into(&mut snapshot.turns);
        self.reads.read_into(&mut snapshot.reads);
        snapshot.refused += get(&self.refused);
        let connections = &mut snapshot.connections;
        let ended = [&mut connections.closed, &mut connections.reset, &mut connections.cut];
        ended.into_iter().zip(&self.ended).for_each(|(sum, cell)| *sum += get(cell));
    }
}

/// What a pool counts. Those who hold its lock do.
#[derive(Debug)]
pub(crate) struct Gate {
    taken: AtomicU64,
    refused: AtomicU64,
    queued_most: AtomicU64,
    wait: Histogram,
    pub(crate) meters: Vec<Arc<Meter>>,
}

impl Gate {
    pub(crate) fn submitted(&self, queued: usize) {
        add(&self.taken, 1);
        self.queued_most.fetch_max(queued as u64, Ordering::Relaxed);
    }

    pub(crate) fn refuses(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn waited(&self, since: u64) {
        self.wait.record(now().saturating_sub(since));
    }
}

type Ask<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Who is asked when a snapshot is taken.
#[derive(Default)]
struct Asked {
    pools: Vec<(Pool, Arc<Gate>)>,
    others: Vec<(&'static str, Ask<PoolCounts>)>,
    queues: Vec<(String, Ask<Option<AcceptQueue>>, AtomicU64)>,
    overflows: Option<Ask<Option<u64>>>,
    gauges: Vec<(&'static str, &'static str, Ask<f64>)>,
    meters: Vec<Arc<Meter>>,
}

/// What the kernel says of a listener's queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AcceptQueue {
    /// Connections that wait.
    pub waiting: u64,
    /// How many may.
    pub capacity: u64,
}

/// What is known of a running server. Get it from [`Server::probe`](crate::Server::probe) or [`Handle::probe`](crate::Handle::probe).
///
/// ```
/// # use vestibule_driver::probe::Probe;
/// # fn show(probe: &Probe) {
/// let text = probe.prometheus(); // for `/metrics`, with the content type `Probe::PROMETHEUS`
/// println!("{}: {}", probe.bottleneck().what, probe.bottleneck().why);
/// # }
/// ```
pub struct Probe {
    begun: u64,
    shards: Vec<Shard>,
    accepted: AtomicU64,
    panics: AtomicU64,
    /// By rule.
    faults: Vec<AtomicU64>,
    /// Connections whose peer takes no more now, and at most so far.
    blocked: AtomicU64,
    blocked_most: AtomicU64,
    asked: Mutex<Asked>,
    /// Two looks that lie a second apart, or more.
    looks: Mutex<(Arc<Snapshot>, Arc<Snapshot>)>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

/// What is judged together lies this far apart.
const APART: Duration = Duration::from_secs(1);

/// Rules whose breach is that time passed.
const LATE: [Rule; 8] = [
    Rule::SettingsTimeout,
    Rule::Stalled,
    Rule::StallFlood,
    Rule::HeadTimeout,
    Rule::HandshakeTimeout,
    Rule::IdleTimeout,
    Rule::BodyTooSlow,
    Rule::ReaderTooSlow,
];

impl Probe {
    /// The content type of [`Probe::prometheus`].
    pub const PROMETHEUS: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// For about so many threads.
    pub(crate) fn new(threads: usize) -> Probe {
        let nothing = Arc::new(Snapshot::new());
        Probe {
            begun: now(),
            shards: (0..threads.clamp(4, 256).next_power_of_two()).map(|_| Shard::new()).collect(),
            accepted: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            faults: Rule::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            blocked: AtomicU64::new(0),
            blocked_most: AtomicU64::new(0),
            asked: Mutex::default(),
            looks: Mutex::new((nothing.clone(), nothing)),
        }
    }

    /// For these pools and about so many threads besides; the kernel is asked for what found no room.
    pub(crate) fn of<'a>(threads: usize, pools: impl Iterator<Item = &'a Pool> + Clone) -> Arc<Probe> {
        let probe = Probe::new(threads + pools.clone().map(Pool::threads).sum::<usize>());
        pools.for_each(|pool| probe.watch_pool(pool));
        probe.watch_overflows(|| crate::system::overflows().map(|counts| counts.overflows));
        Arc::new(probe)
    }

    /// The calling thread's own counts.
    fn shard(&self) -> Option<&Shard> {
        self.shards.get(here() & (self.shards.len() - 1))
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        add(&self.accepted, 1);
        if let Some(shard) = self.shard() {
            shard.stage(Stage::Accept, 0, 0, 1);
        }
    }

    /// A handler answered on a pool.
    pub(crate) fn called(&self, since: u64, bytes: usize) {
        let took = now().saturating_sub(since);
        if let Some(shard) = self.shard() {
            shard.services.record(took);
            shard.stage(Stage::Process, took, bytes as u64, 1);
        }
    }

    /// A request was turned away because a pool is full.
    pub(crate) fn refused(&self) {
        if let Some(shard) = self.shard() {
            add(&shard.refused, 1);
        }
    }

    /// A stage took the time since then, for so many bytes, and had so much to do.
    pub(crate) fn took(&self, stage: Stage, since: u64, bytes: usize, count: u64) {
        if let Some(shard) = self.shard() {
            shard.stage(stage, now().saturating_sub(since), bytes as u64, count);
        }
    }

    /// The same of a call that is no connection's own: what it moved, and how often, is counted with the connections.
    pub(crate) fn spent(&self, stage: Stage, nanos: u64) {
        if let Some(shard) = self.shard() {
            shard.stage(stage, nanos, 0, 0);
        }
    }

    pub(crate) fn fault(&self, violation: &Violation) {
        if let Some(count) = self.faults.get(violation.rule as usize) {
            add(count, 1);
        }
    }

    pub(crate) fn panicked(&self) {
        add(&self.panics, 1);
    }

    /// A connection's peer takes no more, or takes some again.
    fn blocks(&self, on: bool) {
        if on {
            let blocked = self.blocked.fetch_add(1, Ordering::Relaxed) + 1;
            self.blocked_most.fetch_max(blocked, Ordering::Relaxed);
        } else {
            self.blocked.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A thread's meter. One of the same role and number takes the place of the one before it and counts on.
    pub(crate) fn meter(&self, role: Role, number: usize) -> Arc<Meter> {
        let mut asked = self.asked();
        let place = asked.meters.iter_mut().find(|meter| meter.role == role && meter.number == number);
        match place {
            Some(place) => {
                let next = Arc::new(Meter::behind(role, number, place.read(now()), place.cpu()));
                *place = next.clone();
                next
            }
            None => {
                let meter = Arc::new(Meter::new(role, number));
                asked.meters.push(meter.clone());
                meter
            }
        }
    }

    /// Measures a pool from here on.
    pub(crate) fn watch_pool(&self, pool: &Pool) {
        let meters = (0..pool.threads()).map(|number| self.meter(Role::Pool(pool.name()), number)).collect();
        let (taken, refused, queued_most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let gate = Arc::new(Gate { taken, refused, queued_most, wait: Histogram::new(Unit::Nanos), meters });
        pool.measure(gate.clone());
        self.asked().pools.push((pool.clone(), gate));
    }

    /// Asks somebody who has threads of its own, whenever it is looked at; who had the name before is not asked any more. What is asked must
    /// not ask the probe in turn.
    pub fn watch_threads(&self, name: &'static str, ask: impl Fn() -> PoolCounts + Send + Sync + 'static) {
        let mut asked = self.asked();
        asked.others.retain(|other| other.0 != name);
        asked.others.push((name, Box::new(ask)));
    }

    /// Asks the kernel for the accept queue of a listener, whenever it is looked at. `None`: the listener is closed, or the kernel does not tell.
    pub fn watch_accept_queue(&self, name: String, ask: impl Fn() -> Option<AcceptQueue> + Send + Sync + 'static) {
        self.asked().queues.push((name, Box::new(ask), AtomicU64::new(0)));
    }

    /// Asks the kernel how many connections it had no room for, whenever it is looked at.
    pub fn watch_overflows(&self, ask: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        self.asked().overflows = Some(Box::new(ask));
    }

    /// Shows a value of the caller's own, whenever it is looked at: `vestibule_{name}`. The name holds small letters, digits and `_`.
    pub fn watch_gauge(&self, name: &'static str, help: &'static str, ask: impl Fn() -> f64 + Send + Sync + 'static) {
        self.asked().gauges.push((name, help, Box::new(ask)));
    }

    /// All that is known now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let moment = now();
        snapshot.at = Duration::from_nanos(moment.saturating_sub(self.begun));
        self.shards.iter().for_each(|shard| shard.read_into(&mut snapshot));
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        snapshot.panics = get(&self.panics);
        let connections = &mut snapshot.connections;
        connections.accepted = get(&self.accepted);
        let ended = connections.closed + connections.reset + connections.cut;
        connections.open = connections.accepted.saturating_sub(ended);
        for (rule, count) in Rule::ALL.iter().zip(&self.faults) {
            let count = get(count);
            if count > 0 {
                snapshot.faults.push((Violation::new(*rule, 0).name(), count));
                snapshot.timeouts += if LATE.contains(rule) { count } else { 0 };
            }
        }
        self.ask(&mut snapshot, moment);
        let (now, most) = (get(&self.blocked), get(&self.blocked_most));
        snapshot.at_stage(Stage::Write, |stage| (stage.queue, stage.queue_most) = (now, most));
        snapshot
    }

    /// Threads, queues and pools.
    fn ask(&self, snapshot: &mut Snapshot, moment: u64) {
        let asked = self.asked();
        snapshot.threads = asked.meters.iter().map(|meter| meter_counts(meter, moment)).collect();
        snapshot.threads.sort_by_key(|thread| (thread.role != Role::Worker, thread.role.to_string(), thread.number));
        snapshot.pools = asked.pools.iter().map(|(pool, gate)| pool_counts(pool, gate)).collect();
        snapshot.pools.extend(asked.others.iter().map(|(_, ask)| ask()));
        for (name, ask, most) in &asked.queues {
            let Some(AcceptQueue { waiting, capacity }) = ask() else { continue };
            let waiting_most = most.fetch_max(waiting, Ordering::Relaxed).max(waiting);
            snapshot.accept_queues.push(QueueCounts { name: name.clone(), waiting, waiting_most, capacity });
        }
        snapshot.overflows = asked.overflows.as_ref().and_then(|ask| ask());
        let gauge =
            |&(name, help, ref ask): &(&'static str, &'static str, Ask<f64>)| Gauge { name, help, value: ask() };
        snapshot.gauges = asked.gauges.iter().map(gauge).collect();
        drop(asked);
        let queues =
            snapshot.accept_queues.iter().map(|queue| (Some(Stage::Accept), queue.waiting, queue.waiting_most));
        let workers = snapshot.threads.iter().filter(|thread| thread.role == Role::Worker);
        let workers = workers.map(|thread| (Some(Stage::Read), thread.ready, thread.ready_most));
        let pools = snapshot.pools.iter().map(|pool| (bottleneck::stage_of(pool.name), pool.queued, pool.queued_most));
        let all: Vec<_> = queues.chain(workers).chain(pools).collect();
        for (stage, queue, most) in all {
            let Some(stage) = stage else { continue };
            snapshot.at_stage(stage, |stage| {
                (stage.queue, stage.queue_most) = (stage.queue + queue, stage.queue_most + most)
            });
        }
    }

    /// What is known now, and what was known a second ago or longer: the last time that somebody looked.
    fn look(&self) -> (Arc<Snapshot>, Arc<Snapshot>) {
        let now = Arc::new(self.snapshot());
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if now.at.saturating_sub(looks.1.at) >= APART {
            looks.0 = std::mem::replace(&mut looks.1, now.clone());
        }
        (looks.0.clone(), now)
    }

    /// What holds up everything else, judged by what has happened since the last look that lies a second back or more; the first time, since
    /// the server was bound.
    pub fn bottleneck(&self) -> Bottleneck {
        let (before, now) = self.look();
        Bottleneck::between(&before, &now)
    }

    /// Everything as text for Prometheus (exposition format 0.0.4).
    pub fn prometheus(&self) -> String {
        prometheus::text(&self.snapshot())
    }

    /// Everything as a JSON object, with rates and shares of the time since the last look that lies a second back or more, and the bottleneck.
    pub fn json(&self) -> String {
        let (before, now) = self.look();
        json::text(&before, &now)
    }
}

fn meter_counts(meter: &Meter, moment: u64) -> ThreadCounts {
    let reading = meter.read(moment);
    let [busy, waiting, cpu] = [reading.busy, reading.waiting, meter.cpu()].map(Duration::from_nanos);
    let (ready, ready_most) = (reading.ready, reading.ready_most);
    ThreadCounts { role: meter.role, number: meter.number, busy, waiting, cpu, ready, ready_most }
}

fn pool_counts(pool: &Pool, gate: &Gate) -> PoolCounts {
    let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
    let mut counts = PoolCounts {
        threads: pool.threads() as u64,
        busy: pool.busy() as u64,
        queued: pool.queued() as u64,
        queued_most: get(&gate.queued_most),
        capacity: pool.capacity() as u64,
        taken: get(&gate.taken),
        refused: get(&gate.refused),
        ..PoolCounts::new(pool.name())
    };
    gate.wait.read_into(&mut counts.wait);
    counts
}
