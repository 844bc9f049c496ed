//! In: a kernel, and the server around it. Out: connections served, one completion after the other, one submission for all that follows.
//!
//! ```text
//! turn: submit, wait --> completions --> mail --> whoever can go on --> whose time has come --> whoever starved --> turn
//! ```

use crate::connection::{Connection, Stand, Tools};
use crate::ports::{Ports, Verdict};
use crate::road::{House, News, Road};
use crate::seam::{Done, Kernel};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use vestibule::Instant;
use vestibule_driver::{Buffers, How, Key, Slots, Timers};

/// A worker that waits for its end, or for others to close connections, looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Operations that a connection may have in flight: a receive and its cancellation, a send, a notification, and a few that end at once.
const OPERATIONS: usize = 4;
/// Operations that are no connection's.
const RESERVE: usize = 16;

type Mail<K, H> = Vec<News<<H as House<Sock<K>>>::Arrival, <RoadOf<K, H> as Road>::Letter>>;
type Sock<K> = <K as Kernel>::Socket;
type RoadOf<K, H> = <H as House<Sock<K>>>::Road;

/// The loop of one worker.
pub(crate) struct Loop<K: Kernel, H: House<K::Socket>> {
    pub(crate) kernel: K,
    pub(crate) house: H,
    connections: Slots<Connection<K, H::Road>>,
    timers: Timers,
    pub(crate) buffers: Buffers,
    /// Those that go on, in their order.
    going: VecDeque<Key>,
    /// Those that wait for a buffer of the ring, in their order.
    starved: VecDeque<Key>,
    ports: Ports<K::Socket>,
    mail: Mail<K, H>,
    listening: bool,
    /// The ports are nothing to it any more.
    left: bool,
    late: bool,
}

impl<K: Kernel, H: House<K::Socket>> Loop<K, H> {
    /// `ports`: how many listen.
    pub(crate) fn new(kernel: K, house: H, ports: usize) -> Loop<K, H> {
        Loop {
            kernel,
            connections: Slots::default(),
            timers: Timers::default(),
            buffers: house.buffers(),
            house,
            going: VecDeque::new(),
            starved: VecDeque::new(),
            ports: Ports::new(ports),
            mail: Vec::new(),
            listening: true,
            left: false,
            late: false,
        }
    }

    /// Serves until the worker's time is over and nothing is left.
    ///
    /// # Errors
    /// The kernel takes nothing any more.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        while self.round()? {}
        Ok(())
    }

    /// Connections that are open, or not quite closed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// One round. False: nothing is left to be done.
    pub(crate) fn round(&mut self) -> io::Result<bool> {
        if self.listening {
            self.ports.arm(&mut self.kernel, self.house.now());
        }
        let wait = self.wait();
        self.house.waits();
        let turned = self.kernel.turn(wait);
        self.house.works(self.kernel.spent());
        turned?;
        let now = self.house.now();
        while let Some(done) = self.kernel.next() {
            self.done(done, now);
        }
        self.open_mail(now);
        self.accept(now);
        for _ in 0..self.going.len() {
            let Some(key) = self.going.pop_front() else { break };
            self.step(key, now, |connection, tools| {
                connection.queued = false;
                connection.go_on(tools)
            });
        }
        for _ in 0..self.connections.len() {
            let Some(slot) = self.timers.due(now) else { break };
            if let Some((key, _)) = self.connections.at(slot) {
                self.step(key, now, Connection::go_on);
            }
        }
        self.feed(now);
        Ok(!(self.house.is_stopping() && self.stop(now)))
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Option<Duration> {
        if !self.going.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.house.now();
        let next = [self.timers.next(), self.ports.again_at()].into_iter().flatten().min();
        // A moment more, so that the deadline has passed when it is looked at.
        let wait = next.map(|at| if at <= now { Duration::ZERO } else { at.since(now) + Duration::from_micros(500) });
        let look = self.house.is_stopping() || self.ports.holds_back();
        [wait, look.then_some(LOOK_AGAIN)].into_iter().flatten().min()
    }

    fn done(&mut self, done: Done<K::Lent, K::Socket>, now: Instant) {
        match done {
            Done::Accepted { port, result, more } => {
                if let Verdict::Tell(why) = self.ports.accepted(port, result, more, now) {
                    self.house.cannot_accept(why);
                }
            }
            Done::Received { key, result, more } => {
                self.heard(key, |connection, _| connection.received(result, more), now);
            }
            Done::Filled { key, inbox, result } => {
                self.heard(key, |connection, tools| connection.filled(inbox, result, tools.buffers), now);
            }
            Done::Sent { key, result, storage } => {
                self.heard(key, |connection, tools| connection.sent(result, storage, tools), now);
            }
            Done::Returned { key, storage } => {
                self.heard(key, |connection, tools| connection.returned(storage, tools.buffers), now);
            }
            Done::Shut { key } => self.heard(key, |connection, _| connection.shut(), now),
            Done::Woken => {}
        }
    }

    /// Something came of an operation: its connection goes on when all completions are known, so that one send answers them all. It is
    /// still there: none is forgotten before its last operation.
    fn heard(&mut self, key: Key, tell: impl FnOnce(&mut Connection<K, H::Road>, &mut Tools<'_, K>), now: Instant) {
        let Loop { kernel, buffers, connections, going, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        tell(connection, &mut Tools { kernel, buffers, now });
        if !std::mem::replace(&mut connection.queued, true) {
            going.push_back(key);
        }
    }

    fn open_mail(&mut self, now: Instant) {
        let mut mail = std::mem::take(&mut self.mail);
        self.house.news(&mut mail);
        for news in mail.drain(..) {
            match news {
                News::Arrival(arrival) => self.open(arrival, now),
                News::Letter(key, letter) => self.heard(key, |c, _| c.receive_letter(letter), now),
            }
        }
        self.mail = mail;
    }

    fn accept(&mut self, now: Instant) {
        let room = (self.kernel.capacity().saturating_sub(RESERVE) / OPERATIONS).max(1);
        while self.connections.len() < room {
            let Some((port, socket)) = self.ports.take() else { break };
            match self.house.admit(port, socket) {
                Ok(Some(arrival)) => self.open(arrival, now),
                Ok(None) => {}
                Err(socket) => {
                    self.ports.put_back(port, socket);
                    break;
                }
            }
        }
    }

    fn open(&mut self, arrival: H::Arrival, now: Instant) {
        let house = &mut self.house;
        let key = self.connections.insert_with(|key| {
            let (road, socket) = house.open(key, arrival);
            Connection::new(key, road, socket)
        });
        self.step(key, now, Connection::go_on);
    }

    /// One step of a connection, and what follows from where it stands then.
    fn step(
        &mut self,
        key: Key,
        now: Instant,
        go: impl FnOnce(&mut Connection<K, H::Road>, &mut Tools<'_, K>) -> Stand,
    ) {
        let Loop { kernel, buffers, connections, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        match go(connection, &mut Tools { kernel, buffers, now }) {
            Stand::Over => {
                if let Some(connection) = connections.remove(key) {
                    self.kernel.close(connection.into_socket());
                    self.house.closed();
                }
                return;
            }
            Stand::GoesOn if !std::mem::replace(&mut connection.queued, true) => self.going.push_back(key),
            _ => {}
        }
        if connection.is_starved() && !std::mem::replace(&mut connection.listed, true) {
            self.starved.push_back(key);
        }
        if let Some(deadline) = connection.deadline() {
            self.timers.arm(key.slot(), deadline);
        }
    }

    /// As many of those that found no buffer as there are buffers now.
    fn feed(&mut self, now: Instant) {
        let free = self.kernel.buffers().0.saturating_sub(self.kernel.lent());
        for _ in 0..free.min(self.starved.len()) {
            let Some(key) = self.starved.pop_front() else { break };
            self.step(key, now, |connection, tools| {
                connection.listed = false;
                connection.feed(tools);
                Stand::Waits
            });
        }
    }

    /// True: nothing is left to be done.
    fn stop(&mut self, now: Instant) -> bool {
        if self.listening {
            // Who waited in the queue has been accepted: the round before saw to that.
            self.listening = false;
            self.ports.leave(&mut self.kernel);
        } else if !self.left && self.ports.are_left() && !self.ports.look_again(&mut self.kernel) {
            // Not before: whom an accept that was called back has taken already, and who waits for room, is still to be admitted.
            self.left = true;
            self.kernel.leave_ports();
            self.house.leave_ports();
        }
        let late = self.house.is_out_of_grace() && !std::mem::replace(&mut self.late, self.house.is_out_of_grace());
        let for_good = self.house.stops_for_good();
        if for_good || self.late {
            self.ports.refuse();
        }
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if late {
                self.step(key, now, |connection, tools| {
                    connection.close(How::Cut, true, tools);
                    connection.go_on(tools)
                });
            } else if !connection.is_draining() && (for_good || connection.was_heard()) {
                // Who has not been heard yet, and whose worker another one follows, did nothing wrong: its first request is answered.
                self.step(key, now, Connection::drain);
            }
        }
        self.left && self.connections.is_empty() && self.ports.are_left()
    }
}
