//! In: what was chosen, and what happens. Out: what all threads of a server know of it.

use crate::admission::Admission;
use crate::buffers::Buffers;
use crate::hand_out::Loads;
use crate::handle::Summary;
use crate::incident::{Hook, Incident, What};
use crate::later::Post;
use crate::listen::Sockets;
use crate::mailbox::Mail;
use crate::pools::Pools;
use crate::port::Arrival;
use crate::probe::Probe;
use crate::server::Place;
use crate::service::{BoxService, Factory, Peer};
use crate::topology::Topology;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) cut: AtomicU64,
}

/// What all threads of a server share.
pub struct Shared {
    pub(crate) factory: Factory,
    pub(crate) hook: Hook,
    pub(crate) grace: Duration,
    pub(crate) admission: Admission,
    pub(crate) cap: usize,
    pub(crate) inbox_bytes: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) storages: Mutex<Buffers>,
    /// The storages that connections hold, by the buffers that they are of.
    pub(crate) meters: Mutex<Vec<Arc<AtomicUsize>>>,
    pub(crate) pools: Pools,
    pub(crate) epoch: Instant,
    pub(crate) counts: Counts,
    pub(crate) probe: Option<Arc<Probe>>,
    pub(crate) stopping: AtomicBool,
    pub(crate) stopped: Mutex<Option<Instant>>,
    pub(crate) wake: Condvar,
    pub(crate) threads: usize,
    pub(crate) topology: Topology,
    pub(crate) loads: Loads,
    pub(crate) places: Mutex<Vec<Place>>,
    /// What keeps the accept queues alive, whatever becomes of the workers (DRV-03); empty once the server stops.
    pub(crate) sockets: Mutex<Vec<Sockets>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stopping", &self.is_stopping()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The time, as the machine counts it.
    pub fn now(&self) -> vestibule::Instant {
        vestibule::Instant::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// How the stages lie over threads.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Threads of [`Topology::Threads`] at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A shutdown was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> Option<Instant> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shutdown has waited long enough.
    pub fn is_out_of_grace(&self) -> bool {
        self.is_stopping() && self.stopped().is_some_and(|then| then.elapsed() >= self.grace)
    }

    /// What is measured, if anything is.
    pub fn probe(&self) -> Option<&Arc<Probe>> {
        self.probe.as_ref()
    }

    /// Open connections at most.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// What one worker's buffers are like.
    pub fn buffers(&self) -> Buffers {
        let buffers = Buffers::new(self.inbox_bytes, self.outbox_bytes);
        let mut meters = self.meters();
        meters.retain(|meter| Arc::strong_count(meter) > 1); // those of threads that have ended
        meters.push(buffers.meter());
        buffers
    }

    pub(crate) fn meters(&self) -> MutexGuard<'_, Vec<Arc<AtomicUsize>>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storages(&self) -> MutexGuard<'_, Buffers> {
        self.storages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log hook.
    pub fn tell(&self, peer: Option<Peer>, what: What) {
        let count = match &what {
            What::Fault(_) => Some(&self.counts.faults),
            What::Panic => Some(&self.counts.panics),
            _ => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let (Some(probe), What::Panic) = (&self.probe, &what) {
            probe.panicked();
        }
        (self.hook)(&Incident { peer, what });
    }

    pub(crate) fn service(&self, peer: &Peer, post: &Post) -> BoxService {
        (self.factory)(peer, post)
    }

    /// Sleeps, but not beyond the request to stop.
    pub fn sleep(&self, wait: Duration) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _unused = self.wake.wait_timeout_while(stopped, wait, |stopped| stopped.is_none());
    }

    pub(crate) fn stop(&self) {
        {
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            if stopped.is_some() {
                return;
            }
            *stopped = Some(Instant::now());
            self.stopping.store(true, Ordering::Release);
        }
        self.wake.notify_all();
        for place in &mut *self.places() {
            place.mailbox.post(Mail::Stop);
            // A port closes when the last one that listens lets go of it.
            place.listeners.clear();
        }
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shared {
    pub(crate) fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_out_of_grace_by(&self, slack: Duration) -> bool {
        self.stopped().is_some_and(|then| then.elapsed() >= self.grace + slack)
    }

    /// A connection that was accepted for whoever is to have it.
    pub(crate) fn hand_out(&self, mut arrival: Arrival) {
        let Some(place) = self.loads.give(|_| true) else { return };
        let index = place.worker();
        arrival.right.at(Some(place));
        if let Some(place) = self.places().get(index) {
            place.mailbox.post(Mail::Arrival(Box::new(arrival)));
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let counts = &self.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            connections: get(&counts.connections),
            requests: get(&counts.requests),
            faults: get(&counts.faults),
            resets: get(&counts.resets),
            panics: get(&counts.panics),
            cut: get(&counts.cut) + self.admission.open().connections as u64,
        }
    }
}
