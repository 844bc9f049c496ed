//! In: what accepting came to. Out: connections in their order, and when to ask for more (DRV-01).

use crate::seam::{Errno, Kernel, Op};
use std::collections::VecDeque;
use vestibule::Instant;
use vestibule_driver::accept::{Backoff, Quiet};

/// So many connections may wait here for room before no more are asked for. The kernel's queue holds the others.
const WAITING: usize = 1;

/// A worker that leaves looks again for those whose coming woke it in vain, at most so often: under load there is always somebody, and
/// others have been woken for them.
const LOOKS: u8 = 4;

/// What is to be told.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Nothing,
    /// One line in five seconds, however often it fails.
    Tell(Errno),
}

/// A port's accept.
#[derive(Default)]
struct Accept {
    op: Option<Op>,
    cancelled: bool,
    backoff: Backoff,
    /// Nothing is asked for before.
    again: Option<Instant>,
}

/// The ports of a worker.
pub(crate) struct Ports<S> {
    ports: Vec<Accept>,
    /// Accepted, but there is no room for them. At most what the kernel had ready when the last accept was called back.
    waiting: VecDeque<(usize, S)>,
    quiet: Quiet,
    looks: u8,
}

impl<S> Ports<S> {
    pub(crate) fn new(ports: usize) -> Ports<S> {
        let ports = std::iter::repeat_with(Accept::default).take(ports).collect();
        Ports { ports, waiting: VecDeque::new(), quiet: Quiet::default(), looks: LOOKS }
    }

    pub(crate) fn accepted(&mut self, port: usize, result: Result<S, Errno>, more: bool, now: Instant) -> Verdict {
        let Some(accept) = self.ports.get_mut(port) else { return Verdict::Nothing };
        if !more {
            accept.op = None;
        }
        match result {
            Ok(socket) => {
                accept.backoff.worked();
                self.waiting.push_back((port, socket));
            }
            Err(errno) if errno == Errno::CANCELLED || errno.is_passing_at_accept() => {}
            Err(errno) => {
                accept.again = Some(now.after(accept.backoff.failed()));
                if self.quiet.due(now) {
                    return Verdict::Tell(errno);
                }
            }
        }
        Verdict::Nothing
    }

    /// The next connection.
    pub(crate) fn take(&mut self) -> Option<(usize, S)> {
        self.waiting.pop_front()
    }

    /// There is no room for it.
    pub(crate) fn put_back(&mut self, port: usize, socket: S) {
        self.waiting.push_front((port, socket));
    }

    /// Somebody waits here for room.
    pub(crate) fn holds_back(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When a port that failed is to be asked again.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        self.ports.iter().filter(|accept| accept.op.is_none()).filter_map(|accept| accept.again).min()
    }

    /// Asks every port for connections, if there is room and its time has come; calls back what was asked for, if there is none.
    pub(crate) fn arm<K: Kernel<Socket = S>>(&mut self, kernel: &mut K, now: Instant) {
        let full = self.waiting.len() >= WAITING;
        for (number, accept) in self.ports.iter_mut().enumerate() {
            match accept.op {
                Some(op) if full && !accept.cancelled => {
                    accept.cancelled = true;
                    kernel.cancel(op);
                }
                None if !full && accept.again.is_none_or(|at| at <= now) => {
                    (accept.cancelled, accept.again) = (false, None);
                    accept.op = Some(kernel.accept(number));
                }
                _ => {}
            }
        }
    }

    /// Nothing more is accepted.
    pub(crate) fn leave<K: Kernel<Socket = S>>(&mut self, kernel: &mut K) {
        for accept in &mut self.ports {
            accept.again = None;
            if let Some(op) = accept.op.filter(|_| !accept.cancelled) {
                accept.cancelled = true;
                kernel.cancel(op);
            }
        }
    }

    /// Of the accepts that wait on one listening socket the kernel wakes one for a connection. If it was this worker's, and was being called
    /// back just then, nobody else knows of it: whoever waits in a queue when the last accept is over is accepted after all. False: nobody,
    /// or others have had time enough.
    pub(crate) fn look_again<K: Kernel<Socket = S>>(&mut self, kernel: &mut K) -> bool {
        let Some(looks) = self.looks.checked_sub(1) else { return false };
        self.looks = looks;
        let mut any = false;
        for (number, accept) in self.ports.iter_mut().enumerate().filter(|(_, accept)| accept.op.is_none()) {
            if kernel.has_callers(number) {
                let op = kernel.accept(number);
                kernel.cancel(op); // it takes who is there when it begins, and that is all
                (accept.op, accept.cancelled, any) = (Some(op), true, true);
            }
        }
        any
    }

    /// Who waits here without room waits in vain.
    pub(crate) fn refuse(&mut self) {
        self.waiting.clear();
    }

    /// No accept is in flight, and nobody waits.
    pub(crate) fn are_left(&self) -> bool {
        self.waiting.is_empty() && self.ports.iter().all(|accept| accept.op.is_none())
    }
}
