//! In: work that may wait or take long. Out: done on threads of its own, as many as there are and no more queued than there may be.

use crate::probe::{Gate, Working, now};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// A piece of work.
pub type Task = Box<dyn FnOnce() + Send>;

struct State {
    /// And since when it waits, where that is measured.
    queue: VecDeque<(Task, Option<u64>)>,
    waiting: Vec<Task>,
    closed: bool,
}

struct Inner {
    state: Mutex<State>,
    work: Condvar,
    cap: usize,
    queued: AtomicUsize,
    busy: AtomicUsize,
    threads: usize,
    gate: OnceLock<Arc<Gate>>,
}

impl Inner {
    // No panic happens under this lock; and if one did, the queue would be whole all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, number: usize) {
        loop {
            let mut state = self.lock();
            while state.queue.is_empty() && !state.closed {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((task, since)) = state.queue.pop_front() else { return };
            self.queued.store(state.queue.len(), Ordering::Relaxed);
            let room = if state.queue.len() < self.cap { std::mem::take(&mut state.waiting) } else { Vec::new() };
            drop(state);
            room.into_iter().for_each(|tell| tell());
            self.busy.fetch_add(1, Ordering::Relaxed);
            let working = self.gate.get().and_then(|gate| {
                since.into_iter().for_each(|since| gate.waited(since));
                Working::begin(gate.meters.get(number))
            });
            // What a task does with a panic is its own affair; the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(task));
            drop(working);
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Threads with a bounded queue. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    name: &'static str,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `threads` of them; each calls `begin` with its number first. At most `queue` tasks wait.
    ///
    /// # Errors
    /// A thread could not be started; those that were end.
    pub fn start(
        name: &'static str,
        threads: usize,
        queue: usize,
        begin: impl Fn(usize) + Send + Sync + 'static,
    ) -> io::Result<Pool> {
        let state = Mutex::new(State { queue: VecDeque::new(), waiting: Vec::new(), closed: false });
        let (queued, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let inner = Inner {
            state,
            work: Condvar::new(),
            cap: queue.max(1),
            queued,
            busy,
            threads: threads.max(1),
            gate: OnceLock::new(),
        };
        let (pool, begin) = (Pool { inner: Arc::new(inner), name }, Arc::new(begin));
        for number in 0..pool.inner.threads {
            let (inner, begin) = (pool.inner.clone(), begin.clone());
            let body = move || {
                begin(number);
                inner.run(number);
            };
            if let Err(error) = thread::Builder::new().name(format!("vestibule-{name}")).spawn(body) {
                pool.close();
                return Err(error);
            }
        }
        Ok(pool)
    }

    /// A pool without threads, for models: [`Pool::step`] does what a thread would.
    #[cfg(test)]
    pub(crate) fn by_hand(queue: usize) -> Pool {
        let state = Mutex::new(State { queue: VecDeque::new(), waiting: Vec::new(), closed: false });
        let (queued, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (work, gate) = (Condvar::new(), OnceLock::new());
        let inner = Inner { state, work, cap: queue, queued, busy, threads: 0, gate };
        Pool { inner: Arc::new(inner), name: "model" }
    }

    /// Takes the task with this number out of the queue, modulo its length, to be run whenever the caller likes. `None`: none waits.
    #[cfg(test)]
    pub(crate) fn step(&self, number: usize) -> Option<Task> {
        let mut state = self.inner.lock();
        let number = number.checked_rem(state.queue.len())?;
        let (task, _) = state.queue.remove(number)?;
        let room = std::mem::take(&mut state.waiting);
        drop(state);
        room.into_iter().for_each(|tell| tell());
        Some(task)
    }

    /// Queues a task; gives it back if the queue is full or the pool is closed.
    ///
    /// # Errors
    /// The task.
    pub fn submit(&self, task: Task) -> Result<(), Task> {
        let gate = self.inner.gate.get();
        let since = gate.map(|_| now());
        let mut state = self.inner.lock();
        if state.closed || state.queue.len() >= self.inner.cap {
            gate.into_iter().for_each(|gate| gate.refuses());
            return Err(task);
        }
        state.queue.push_back((task, since));
        gate.into_iter().for_each(|gate| gate.submitted(state.queue.len()));
        self.inner.queued.store(state.queue.len(), Ordering::Relaxed);
        drop(state);
        self.inner.work.notify_one();
        Ok(())
    }

    /// Hands something over to be worked on; gives it back if the queue is full or the pool is closed.
    pub fn send<P: Send + 'static>(&self, parcel: P, work: impl FnOnce(P) + Send + 'static) -> Option<P> {
        // A task that is not taken comes back as a closure: what it holds has to be reached from outside.
        let slip = Arc::new(Mutex::new(Some(parcel)));
        let take = |slip: &Mutex<Option<P>>| slip.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inside = slip.clone();
        let task = Box::new(move || {
            if let Some(parcel) = take(&inside) {
                work(parcel);
            }
        });
        match self.submit(task) {
            Ok(()) => None,
            Err(_) => take(&slip),
        }
    }

    /// Calls `tell` once there is room in the queue; at once if there is now. It is called on a thread of the pool: keep it short.
    pub fn when_room(&self, tell: Task) {
        let mut state = self.inner.lock();
        if state.queue.len() < self.inner.cap || state.closed {
            drop(state);
            tell();
        } else {
            state.waiting.push(tell);
        }
    }

    /// Nothing new is taken; threads end when the queue is empty.
    pub fn close(&self) {
        let mut state = self.inner.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.inner.work.notify_all();
        waiting.into_iter().for_each(|tell| tell());
    }

    /// It is measured from here on.
    pub(crate) fn measure(&self, gate: Arc<Gate>) {
        let _ = self.inner.gate.set(gate);
    }

    /// How many tasks may wait.
    pub fn capacity(&self) -> usize {
        self.inner.cap
    }

    /// What it is for.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tasks that wait.
    pub fn queued(&self) -> usize {
        self.inner.queued.load(Ordering::Relaxed)
    }

    /// Threads that work now.
    pub fn busy(&self) -> usize {
        self.inner.busy.load(Ordering::Relaxed)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.inner.threads
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_full_queue_gives_the_task_back_and_says_when_there_is_room() {
        let pool = Pool::start("test", 1, 2, |_| {}).unwrap();
        let (go, gate) = channel::<()>();
        let (out, done) = channel();
        pool.submit(Box::new(move || _ = gate.recv())).ok().unwrap();
        while pool.queued() > 0 {
            thread::yield_now();
        }
        for n in 0..2 {
            let out = out.clone();
            pool.submit(Box::new(move || out.send(n).unwrap())).ok().unwrap();
        }
        let back = pool.submit(Box::new(|| {})).err();
        assert!(back.is_some(), "two wait already");
        let told = out.clone();
        pool.when_room(Box::new(move || told.send(100).unwrap()));
        go.send(()).unwrap();
        let mut order: Vec<_> = (0..3).map(|_| done.recv().unwrap()).collect();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 100]);
        pool.close();
        assert!(pool.submit(Box::new(|| {})).is_err());
    }

    #[test]
    fn a_task_that_panics_costs_no_thread() {
        let pool = Pool::start("test", 1, 8, |_| {}).unwrap();
        let (out, done) = channel();
        pool.submit(Box::new(|| std::panic::resume_unwind(Box::new(())))).ok().unwrap();
        pool.submit(Box::new(move || out.send(1).unwrap())).ok().unwrap();
        assert_eq!(done.recv(), Ok(1));
        pool.close();
    }
}
