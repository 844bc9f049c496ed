//! In: what was counted by two moments. Out: what holds up everything else, and why that is so, in one sentence.

use super::meter::Role;
use super::snapshot::{PoolCounts, Snapshot, Stage, ThreadCounts};
use std::fmt;

/// A thread, or all of a pool, that works longer than this part of the time has none left.
const SATURATED: f64 = 0.9;
/// A queue that is longer than it was is only a burst where its pool works less than this.
const LABOURS: f64 = 0.5;

/// What holds up everything else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bottleneck {
    /// What it is.
    pub what: Culprit,
    /// The stage in which it shows, if there is one.
    pub stage: Option<Stage>,
    /// Why, in one sentence.
    pub why: String,
}

/// What can be one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Culprit {
    /// Nothing is.
    None,
    /// The kernel's queue is full: connections come faster than they are accepted.
    AcceptQueue,
    /// The threads of this pool.
    Pool(&'static str),
    /// One thread, by its name.
    Thread(String),
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Culprit::None => f.write_str("none"),
            Culprit::AcceptQueue => f.write_str("accept queue"),
            Culprit::Pool(name) => write!(f, "pool {name}"),
            Culprit::Thread(name) => f.write_str(name),
        }
    }
}

impl Bottleneck {
    /// Judges what happened between two moments.
    ///
    /// What turns clients away comes first, then a queue that is not kept up with, then whoever has no time left. A queue is looked at
    /// before the threads that should empty it, since a busy thread harms nobody who does not wait.
    pub fn between(before: &Snapshot, now: &Snapshot) -> Bottleneck {
        let pools = || now.pools.iter().filter_map(|pool| saturated_pool(before, now, pool));
        let pool = pools().max_by(|a, b| a.0.total_cmp(&b.0)).map(|found| found.1);
        overflow(before, now)
            .or(pool)
            .or_else(|| saturated_thread(before, now))
            .or_else(|| filling_queue(now))
            .unwrap_or_else(|| nothing(before, now))
    }
}

fn percent(part: f64) -> u64 {
    (part * 100.0).round() as u64
}

/// The accept queue had no room.
fn overflow(before: &Snapshot, now: &Snapshot) -> Option<Bottleneck> {
    let lost = now.overflows?.saturating_sub(before.overflows?);
    if lost == 0 {
        return None;
    }
    let times = if lost == 1 { "once".into() } else { format!("{lost} times") };
    let whose = match busiest(before, now, accepts(now)) {
        Some((busy, thread)) if busy >= SATURATED => {
            format!("{} accepts and is {} % busy", thread.name(), percent(busy))
        }
        _ => "who accepts has time left: the backlog may be too short, or the cap of connections is reached".into(),
    };
    let why = format!("an accept queue of this system overflowed {times}; {whose}");
    Some(Bottleneck { what: Culprit::AcceptQueue, stage: Some(Stage::Accept), why })
}

/// Who accepts: the acceptors, or the workers themselves.
fn accepts(now: &Snapshot) -> Role {
    let dedicated = now.threads.iter().any(|thread| thread.role == Role::Acceptor);
    if dedicated { Role::Acceptor } else { Role::Worker }
}

fn busiest<'a>(before: &Snapshot, now: &'a Snapshot, role: Role) -> Option<(f64, &'a ThreadCounts)> {
    let own = now.threads.iter().filter(|thread| thread.role == role);
    own.map(|thread| (now.utilisation(before, thread), thread)).max_by(|a, b| a.0.total_cmp(&b.0))
}

/// A pool that does not keep up, and how badly: 2 and more if it refuses.
fn saturated_pool(before: &Snapshot, now: &Snapshot, pool: &PoolCounts) -> Option<(f64, Bottleneck)> {
    let earlier = before.pools.iter().find(|other| other.name == pool.name);
    let (queued, refused) = earlier.map_or((0, 0), |pool| (pool.queued, pool.refused));
    let refused = pool.refused.saturating_sub(refused);
    let busy = now.utilisation_of_pool(before, pool.name);
    let (name, threads) = (pool.name, pool.threads);
    let all = format!("its {threads} thread{} {} % busy", if threads == 1 { " is" } else { "s are" }, percent(busy));
    let grows = pool.queued > queued && pool.queued > threads && busy >= LABOURS;
    let (badness, why) = if refused > 0 {
        (2.0 + refused as f64, format!("it refused {refused} tasks, {} of {} wait, {all}", pool.queued, pool.capacity))
    } else if grows {
        (
            1.0 + pool.queued as f64 / pool.capacity.max(1) as f64,
            format!("its queue grew from {queued} to {}, {all}", pool.queued),
        )
    } else if busy >= SATURATED && pool.queued > 0 {
        (busy, format!("{all}, {} tasks wait", pool.queued))
    } else {
        return None;
    };
    let why = format!("the pool `{name}` is too small: {why}");
    Some((badness, Bottleneck { what: Culprit::Pool(name), stage: stage_of(name), why }))
}

/// The stage that a pool works for.
pub(crate) fn stage_of(pool: &str) -> Option<Stage> {
    match pool {
        "crypto" => Some(Stage::Decrypt),
        "parse" => Some(Stage::Parse),
        "decode" => Some(Stage::Decode),
        "process" => Some(Stage::Process),
        "connections" => Some(Stage::Read),
        _ => None,
    }
}

/// A worker or an acceptor that has no time left.
fn saturated_thread(before: &Snapshot, now: &Snapshot) -> Option<Bottleneck> {
    let found = [Role::Worker, Role::Acceptor].into_iter().filter_map(|role| busiest(before, now, role));
    let (busy, thread) = found.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(busy, _)| *busy >= SATURATED)?;
    let shares = now.shares(before);
    let most = Stage::ALL.into_iter().zip(shares).max_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, share)| *share > 0.0);
    let stage = if thread.role == Role::Acceptor { Some(Stage::Accept) } else { most.map(|(stage, _)| stage) };
    let mut why = format!("{} is {} % busy", thread.name(), percent(busy));
    if let (Some((stage, share)), Role::Worker) = (most, thread.role) {
        why += &format!("; most of the time of all threads, {} %, goes to {}", percent(share), stage.name());
    }
    let others = now.threads.iter().filter(|other| other.role == thread.role && other.number != thread.number);
    let idle = others.map(|other| now.utilisation(before, other)).fold(1.0, f64::min);
    if idle < SATURATED / 2.0 {
        why += &format!("; another one is {} % busy: connections lie unevenly", percent(idle));
    }
    Some(Bottleneck { what: Culprit::Thread(thread.name()), stage, why })
}

/// Nobody is busy, and yet connections wait to be accepted.
fn filling_queue(now: &Snapshot) -> Option<Bottleneck> {
    let queue = now.accept_queues.iter().max_by_key(|queue| queue.waiting * 1_000 / queue.capacity.max(1))?;
    if queue.waiting * 2 < queue.capacity.max(1) {
        return None;
    }
    let why = format!(
        "{} of {} connections that may wait on {} do, though no thread is busy: the cap of connections may be reached",
        queue.waiting, queue.capacity, queue.name
    );
    Some(Bottleneck { what: Culprit::AcceptQueue, stage: Some(Stage::Accept), why })
}

fn nothing(before: &Snapshot, now: &Snapshot) -> Bottleneck {
    let all = now.threads.iter().map(|thread| (now.utilisation(before, thread), thread));
    let why = match all.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((busy, thread)) => {
            format!("the busiest thread, {}, works {} % of its time", thread.name(), percent(busy))
        }
        None => "no thread is known".into(),
    };
    Bottleneck { what: Culprit::None, stage: None, why }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::QueueCounts;
    use super::*;
    use std::time::Duration;

    fn thread(role: Role, number: usize, busy_millis: u64) -> ThreadCounts {
        let busy = Duration::from_millis(busy_millis);
        ThreadCounts { role, number, busy, waiting: Duration::ZERO, cpu: Duration::ZERO, ready: 0, ready_most: 0 }
    }

    /// Two moments, a second apart, with two workers that were busy for so many milliseconds in between.
    fn pair(busy: [u64; 2]) -> (Snapshot, Snapshot) {
        let (mut before, mut now) = (Snapshot::new(), Snapshot::new());
        (before.at, now.at) = (Duration::from_secs(10), Duration::from_secs(11));
        for (number, busy) in busy.into_iter().enumerate() {
            before.threads.push(thread(Role::Worker, number, 5_000));
            now.threads.push(thread(Role::Worker, number, 5_000 + busy));
        }
        (before, now)
    }

    /// A pool of two threads.
    fn with_pool(pair: &mut (Snapshot, Snapshot), name: &'static str, busy: u64, queued: [u64; 2], refused: u64) {
        let pool = PoolCounts { threads: 2, capacity: 100, ..PoolCounts::new(name) };
        pair.0.pools.push(PoolCounts { queued: queued[0], ..pool.clone() });
        pair.1.pools.push(PoolCounts { queued: queued[1], refused, ..pool });
        for number in 0..2 {
            pair.0.threads.push(thread(Role::Pool(name), number, 0));
            pair.1.threads.push(thread(Role::Pool(name), number, busy));
        }
    }

    fn judge((before, now): &(Snapshot, Snapshot)) -> (Culprit, Option<Stage>, String) {
        let Bottleneck { what, stage, why } = Bottleneck::between(before, now);
        (what, stage, why)
    }

    #[test]
    fn an_accept_queue_that_overflows_comes_first() {
        let mut pair = pair([980, 400]);
        with_pool(&mut pair, "crypto", 1_000, [3, 3], 0);
        (pair.0.overflows, pair.1.overflows) = (Some(7), Some(19));
        let why = "an accept queue of this system overflowed 12 times; worker 0 accepts and is 98 % busy";
        assert_eq!(judge(&pair), (Culprit::AcceptQueue, Some(Stage::Accept), why.into()));
        pair.1.threads.push(thread(Role::Acceptor, 0, 20));
        pair.1.overflows = Some(8);
        let why = judge(&pair).2;
        assert!(why.contains("overflowed once; who accepts has time left"), "{why}");
    }

    #[test]
    fn a_crypto_pool_without_time_is_named_though_a_worker_is_busier_than_before() {
        let mut pair = pair([600, 600]);
        with_pool(&mut pair, "crypto", 970, [9, 9], 0);
        with_pool(&mut pair, "process", 100, [0, 0], 0);
        let why = "the pool `crypto` is too small: its 2 threads are 97 % busy, 9 tasks wait";
        assert_eq!(judge(&pair), (Culprit::Pool("crypto"), Some(Stage::Decrypt), why.into()));
    }

    #[test]
    fn a_process_pool_whose_queue_grows_is_named_and_one_that_refuses_before_it() {
        let mut pair = pair([100, 100]);
        with_pool(&mut pair, "process", 500, [4, 60], 0);
        let why = "the pool `process` is too small: its queue grew from 4 to 60, its 2 threads are 50 % busy";
        assert_eq!(judge(&pair), (Culprit::Pool("process"), Some(Stage::Process), why.into()));
        with_pool(&mut pair, "decode", 800, [99, 100], 3);
        let why = "the pool `decode` is too small: it refused 3 tasks, 100 of 100 wait, its 2 threads are 80 % busy";
        assert_eq!(judge(&pair), (Culprit::Pool("decode"), Some(Stage::Decode), why.into()));
    }

    #[test]
    fn a_burst_that_waits_for_a_pool_with_time_left_is_none() {
        let mut pair = pair([90, 10]);
        with_pool(&mut pair, "crypto", 300, [0, 18], 0);
        assert_eq!(judge(&pair).0, Culprit::None);
    }

    #[test]
    fn a_worker_without_time_is_named_with_the_stage_that_takes_most() {
        let mut pair = pair([980, 300]);
        pair.1.at_stage(Stage::Process, |counts| counts.time = Duration::from_millis(750));
        pair.1.at_stage(Stage::Read, |counts| counts.time = Duration::from_millis(250));
        let why = "worker 0 is 98 % busy; most of the time of all threads, 75 %, goes to process; \
                   another one is 30 % busy: connections lie unevenly";
        assert_eq!(judge(&pair), (Culprit::Thread("worker 0".into()), Some(Stage::Process), why.into()));
        pair.1.threads.push(thread(Role::Acceptor, 0, 1_000));
        assert_eq!(judge(&pair).0, Culprit::Thread("accept 0".into()));
    }

    #[test]
    fn a_worker_that_waits_in_a_kernel_that_works_for_it_is_busy() {
        let mut pair = pair([30, 20]);
        pair.1.threads[1].cpu = Duration::from_millis(950);
        assert_eq!(judge(&pair).0, Culprit::Thread("worker 1".into()));
    }

    #[test]
    fn a_long_accept_queue_before_idle_threads_is_named() {
        let mut pair = pair([10, 10]);
        let queue = QueueCounts { name: "127.0.0.1:80".into(), waiting: 64, waiting_most: 64, capacity: 128 };
        pair.1.accept_queues.push(queue);
        assert_eq!(judge(&pair).0, Culprit::AcceptQueue);
        pair.1.accept_queues[0].waiting = 3;
        assert_eq!(judge(&pair).0, Culprit::None);
    }

    #[test]
    fn where_nothing_is_busy_nothing_is_named() {
        let (before, now) = pair([20, 130]);
        let found = Bottleneck::between(&before, &now);
        assert_eq!((found.what.to_string().as_str(), found.stage), ("none", None));
        assert_eq!(found.why, "the busiest thread, worker 1, works 13 % of its time");
        let none = Bottleneck::between(&Snapshot::new(), &Snapshot::new());
        assert_eq!(none.why, "no thread is known");
    }
}
