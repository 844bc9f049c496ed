//! In: a worker's listeners and its mail. Out: its connections, served as the system says that they can go on.
//!
//! ```text
//! wait: sockets, mail, the next deadline --> accept --> mail --> who is ready --> whose time has come --> wait
//! ```

use crate::connection::{Connection, Stand};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::time::Duration;
use vestibule::Instant;
use vestibule_driver::{Arrival, Buffers, How, Key, Mail, Slots, Timers, Worker};

/// So many connections are accepted at a time from one listener, before those that are open have their turn.
const ACCEPTED: usize = 64;
/// A worker that may accept no more, or that waits for its end, looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const MAIL: Token = Token(usize::MAX);
/// Tokens from here on are listeners.
const LISTENERS: usize = usize::MAX / 2;

struct Loop {
    worker: Worker,
    poll: Poll,
    connections: Slots<Open>,
    timers: Timers,
    buffers: Buffers,
    /// Those that go on without waiting for anything, in their order.
    going: VecDeque<Key>,
    /// By listener: there may be connections to accept.
    waiting: Vec<bool>,
    /// Nothing is accepted before.
    accept_at: Instant,
    listening: bool,
    /// So often the system has told what is ready.
    round: u64,
}

struct Open {
    connection: Connection<Socket>,
    /// It is in `going` already.
    queued: bool,
    /// The system tells when its socket takes more.
    watched: bool,
    /// The round in which it came: what the system told before is about whoever had its place.
    since: u64,
}

/// Serves until the worker's time is over and nothing is left.
pub(crate) fn run(worker: Worker) -> io::Result<()> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), MAIL)?;
    worker.mailbox.on_mail(move || drop(waker.wake()));
    for (number, listener) in worker.listeners.iter().enumerate() {
        let fd = listener.socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(LISTENERS + number), Interest::READABLE)?;
    }
    let (buffers, waiting) = (worker.shared.buffers(), vec![true; worker.listeners.len()]);
    let mut it = Loop {
        worker,
        poll,
        connections: Slots::default(),
        timers: Timers::default(),
        buffers,
        going: VecDeque::new(),
        waiting,
        accept_at: Instant::ZERO,
        listening: true,
        round: 0,
    };
    it.run()
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        let (mut events, mut mail) = (Events::with_capacity(1024), Vec::new());
        loop {
            let wait = self.wait();
            self.worker.waits();
            let polled = self.poll.poll(&mut events, wait);
            self.worker.works(|| events.iter().count() + self.going.len());
            match polled {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.worker.shared.now();
            self.round += 1;
            self.accept(now);
            self.worker.mailbox.take(&mut mail);
            mail.drain(..).for_each(|mail| self.open_mail(mail, now));
            for event in &events {
                self.told(event, now);
            }
            for _ in 0..self.going.len() {
                let Some(key) = self.going.pop_front() else { break };
                if let Some(open) = self.connections.get_mut(key) {
                    open.queued = false;
                    self.serve(key, now);
                }
            }
            // Each at most once: one that wants to be looked at again at once does not keep the mail from the others.
            for _ in 0..self.connections.len() {
                let Some(slot) = self.timers.due(now) else { break };
                if let Some((key, _)) = self.connections.at(slot) {
                    self.serve(key, now);
                }
            }
            if self.worker.is_stopping() && self.stop(now) && self.worker.mailbox.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long there is nothing to do.
    fn wait(&self) -> Option<Duration> {
        if !self.going.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.worker.shared.now();
        let accept = self.waiting.contains(&true).then(|| self.accept_at.max(now));
        let next = [self.timers.next(), accept].into_iter().flatten().min();
        // A moment more, so that the deadline has passed when it is looked at.
        let wait = next.map(|at| if at <= now { Duration::ZERO } else { at.since(now) + Duration::from_micros(500) });
        let most = self.worker.is_stopping().then_some(LOOK_AGAIN);
        [wait, most].into_iter().flatten().min()
    }

    fn told(&mut self, event: &Event, now: Instant) {
        match event.token() {
            MAIL => {}
            Token(number) if number >= LISTENERS => {
                if let Some(waiting) = self.waiting.get_mut(number - LISTENERS) {
                    *waiting = true;
                }
                self.accept(now);
            }
            Token(slot) => {
                let Some((key, open)) = self.connections.at(slot).filter(|(_, open)| open.since < self.round) else {
                    return;
                };
                let gone = event.is_read_closed() || event.is_write_closed() || event.is_error();
                let (readable, writable) = (event.is_readable() || gone, event.is_writable() || gone);
                open.connection.is_ready(readable, writable, gone, event.is_error());
                self.serve(key, now);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        if !self.listening || now < self.accept_at {
            return;
        }
        for number in 0..self.waiting.len() {
            if self.waiting.get(number) != Some(&true) {
                continue;
            }
            let Some(listener) = self.worker.listeners.get(number).cloned() else { continue };
            for _ in 0..ACCEPTED {
                match listener.accept(&self.worker.shared) {
                    Ok(arrival) => {
                        self.open(arrival, now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if let Some(waiting) = self.waiting.get_mut(number) {
                            *waiting = false;
                        }
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => {
                        self.accept_at = now.after(LOOK_AGAIN);
                        return;
                    }
                }
            }
        }
    }

    fn open(&mut self, arrival: Arrival, now: Instant) {
        let (worker, registry) = (&self.worker, self.poll.registry());
        let since = self.round;
        let key = self.connections.insert_with(|key| {
            let (lane, socket) = worker.lane(key, arrival);
            Open { connection: Connection::new(lane, socket), queued: false, watched: false, since }
        });
        if let Some(open) = self.connections.get_mut(key) {
            let fd = open.connection.wire.as_raw_fd();
            if registry.register(&mut SourceFd(&fd), Token(key.slot()), Interest::READABLE).is_err() {
                return self.close(key, How::Cut);
            }
        }
        self.serve(key, now);
    }

    fn open_mail(&mut self, mail: Mail, now: Instant) {
        match mail {
            Mail::Arrival(arrival) => self.open(*arrival, now),
            Mail::Letter(key, letter) => {
                if let Some(open) = self.connections.get_mut(key) {
                    open.connection.lane.receive(letter);
                    self.serve(key, now);
                }
            }
            Mail::Stop => {}
        }
    }

    /// One connection, as far as it goes now.
    fn serve(&mut self, key: Key, now: Instant) {
        let Some(open) = self.connections.get_mut(key) else { return };
        let stand = open.connection.go_on(now, &mut self.buffers);
        self.settle(key, stand);
    }

    fn settle(&mut self, key: Key, stand: Stand) {
        let Some(open) = self.connections.get_mut(key) else { return };
        match stand {
            Stand::Over(how) => return self.close(key, how),
            Stand::GoesOn if !open.queued => {
                open.queued = true;
                self.going.push_back(key);
            }
            _ => {}
        }
        if let Some(deadline) = open.connection.lane.deadline() {
            self.timers.arm(key.slot(), deadline);
        }
        if open.connection.is_blocked() && !open.watched {
            let fd = open.connection.wire.as_raw_fd();
            let both = Interest::READABLE | Interest::WRITABLE;
            open.watched = self.poll.registry().reregister(&mut SourceFd(&fd), Token(key.slot()), both).is_ok();
        }
    }

    fn close(&mut self, key: Key, how: How) {
        if let Some(open) = self.connections.remove(key) {
            // Closing the socket takes it out of the poll.
            drop(open.connection.end(how, &mut self.buffers));
        }
    }

    /// True: nothing is left to be done.
    fn stop(&mut self, now: Instant) -> bool {
        if self.listening {
            // Who waits in the queue was not refused so far.
            self.waiting.fill(true);
            self.accept(now);
            self.listening = false;
            self.waiting.clear();
            for listener in self.worker.listeners.drain(..) {
                let fd = listener.socket.as_raw_fd();
                let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
            }
        }
        let (late, is_replaced) = (self.worker.is_out_of_grace(), !self.worker.shared.is_stopping());
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            match self.connections.get_mut(key) {
                Some(open) if late => {
                    let how = if open.connection.lane.was_heard() { How::Cut } else { How::Closed };
                    self.close(key, how);
                }
                // Its first request is on its way: nobody is to be refused for a worker that is replaced.
                Some(open) if is_replaced && !open.connection.lane.was_heard() => {}
                Some(open) if !open.connection.lane.is_draining() => {
                    let stand = open.connection.drain(now, &mut self.buffers);
                    self.settle(key, stand);
                }
                _ => {}
            }
        }
        self.connections.is_empty()
    }
}
