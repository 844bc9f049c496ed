//! In: wishes of whoever holds a handle. Out: a server that stops, or replaces a worker; and what it did in its life.

use crate::probe::Probe;
use crate::server::Command;
use crate::shared::Shared;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// Asks a server to stop. Cheap to clone, good from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Sender<Command>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stopping", &self.shared.is_stopping()).finish()
    }
}

impl Handle {
    /// Graceful: no new connections, answers for what is in flight, then [`Server::run`](crate::Server::run) returns. Does not wait for it.
    pub fn shutdown(&self) {
        self.shared.stop();
        let _ = self.commands.send(Command::Stop);
    }

    /// A new worker takes this one's place and its listeners; the old one finishes what it has and ends. Nobody is refused.
    pub fn replace_worker(&self, index: usize) {
        let _ = self.commands.send(Command::Retire(index));
    }

    /// It was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.admission.open().connections
    }

    /// Storages that connections hold now, to read into or to write from. None for connections that are idle.
    pub fn storages(&self) -> usize {
        self.shared.meters().iter().map(|meter| meter.load(Ordering::Relaxed)).sum()
    }

    /// What is measured, if [`Builder::probe`](crate::Builder::probe) said so.
    pub fn probe(&self) -> Option<Arc<Probe>> {
        self.shared.probe.clone()
    }
}

/// What a server did in its life.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Connections accepted.
    pub connections: u64,
    /// Requests that began, on connections that are over.
    pub requests: u64,
    /// Rules broken by peers.
    pub faults: u64,
    /// Connections that the peer reset.
    pub resets: u64,
    /// Panics of the service.
    pub panics: u64,
    /// Connections that a shutdown cut off because their grace was over.
    pub cut: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { connections, requests, faults, resets, panics, cut } = self;
        write!(
            f,
            "connections {connections}, requests {requests}, faults {faults}, resets {resets}, panics {panics}, cut off {cut}"
        )
    }
}
