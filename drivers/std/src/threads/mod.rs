//! In: listeners. Out: a blocking thread for each connection, up to a limit. The loop that drives the machine, at its plainest:
//!
//! ```text
//!        +--> turn: events to the service --> write what is ready --> Close? --> over
//!        |                                                              | Read
//!        +--- read what comes, until the deadline or the next tick <----+
//! ```
//!
//! When connections wait and no thread is free for them, those that have been served make room.

mod pool;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pool::Pool;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use vestibule::{Inbox, Instant, Outbox, Why};
use vestibule_driver::probe::{PoolCounts, Stage};
use vestibule_driver::{Arrival, How, Key, Lane, Listener, Mail, Next, What, Worker};

/// A blocked read or write looks around this often: is the server stopping, does somebody wait for this thread?
const TICK: Duration = Duration::from_millis(250);

/// How long a busy connection may keep its thread though others wait for it; also what its TLS handshake is worth.
const TURN: Duration = Duration::from_millis(100);

/// How long a server that stops waits for what may have arrived already.
const LEAST: Duration = Duration::from_millis(1);

/// Serves until the worker's time is over and nothing is left.
pub(crate) fn run(mut worker: Worker) -> io::Result<()> {
    let pool = Arc::new(Pool::new(worker.shared.threads()));
    let this = thread::current();
    worker.mailbox.on_mail(move || this.unpark());
    if let Some(probe) = worker.shared.probe() {
        let pool = Arc::downgrade(&pool);
        let counts = move || pool.upgrade().map_or(PoolCounts::new("connections"), |pool| pool.counts());
        probe.watch_threads("connections", counts);
    }
    let listeners = std::mem::take(&mut worker.listeners);
    let worker = Arc::new(worker);
    for listener in listeners {
        let (worker, pool) = (worker.clone(), pool.clone());
        let body = move || accept(&listener, &worker, &pool);
        thread::Builder::new().name("vestibule-accept".into()).spawn(body)?;
    }
    while !worker.is_stopping() {
        thread::park_timeout(TICK);
    }
    pool.close();
    while !pool.is_empty() && !worker.is_out_of_grace() {
        pool.wait_empty(TICK);
    }
    pool.wait_empty(3 * TICK); // those that are cut off notice it within a tick
    Ok(())
}

/// Accepts until the server stops, and what had been waiting in the queue by then.
fn accept(listener: &Listener, worker: &Arc<Worker>, pool: &Arc<Pool<Arrival>>) {
    loop {
        match listener.accept(&worker.shared) {
            Ok(arrival) => begin(arrival, worker, pool),
            Err(error) if error.kind() == ErrorKind::WouldBlock && worker.is_stopping() => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => listener.wait(TICK),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) if worker.is_stopping() => return,
            Err(_) => worker.shared.sleep(Duration::from_millis(20)),
        }
    }
}

/// Hands an accepted connection to a thread, and starts one if need be.
fn begin(arrival: Arrival, worker: &Arc<Worker>, pool: &Arc<Pool<Arrival>>) {
    if !pool.push(arrival) {
        return;
    }
    let (its, mine) = (worker.clone(), pool.clone());
    let body = |doorstep| thread::Builder::new().name("vestibule".into()).spawn(move || work(&its, &mine, doorstep));
    let started = Doorstep::new().and_then(body);
    if let Err(error) = started {
        worker.shared.tell(None, What::Thread(error.to_string()));
        drop(pool.not_started());
    }
}

/// A thread: one connection after the other, with the same buffers.
fn work(worker: &Worker, pool: &Pool<Arrival>, mut doorstep: Doorstep) {
    let mut buffers = worker.shared.buffers();
    while let Some(arrival) = pool.next() {
        let own = worker.apart();
        let bell = doorstep.bell.clone();
        own.mailbox.on_mail(move || drop(bell.wake()));
        let (lane, socket) = own.lane(Key::from_bits(0), arrival);
        let begun = own.shared.now();
        let (inbox, outbox) = (Inbox::new(buffers.inbox()), Outbox::new(buffers.outbox()));
        let mut drive = Drive {
            lane,
            socket,
            inbox,
            outbox,
            worker: &own,
            pool,
            doorstep: &mut doorstep,
            mail: Vec::new(),
            begun,
            ended: false,
            half_closed: false,
            left: false,
        };
        let how = if drive.doorstep.watch(&drive.socket).is_ok() { drive.run() } else { How::Cut };
        buffers.give_inbox(drive.inbox.into_store());
        buffers.give_outbox(drive.outbox.into_store());
        drive.lane.over(how);
        drop(own.mailbox.close());
        pool.over(drive.left);
    }
}

struct Drive<'a> {
    lane: Lane,
    socket: Socket,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    worker: &'a Worker,
    pool: &'a Pool<Arrival>,
    doorstep: &'a mut Doorstep,
    mail: Vec<Mail>,
    begun: Instant,
    /// The peer has sent its last byte.
    ended: bool,
    half_closed: bool,
    /// It is draining because others wait for its thread.
    left: bool,
}

impl Drive<'_> {
    fn run(&mut self) -> How {
        loop {
            let now = self.worker.shared.now();
            self.take_mail();
            let next = self.lane.turn(now, &mut self.inbox, &mut self.outbox);
            if let Err(how) = self.write() {
                return how;
            }
            if self.worker.is_out_of_grace() {
                return if self.lane.was_heard() { How::Cut } else { How::Closed };
            }
            match next {
                Next::Close(how) => return how,
                Next::Read { .. } => {
                    if let Err(how) = self.read(now) {
                        return how;
                    }
                }
                // Nobody is there for whom an answer would be awaited (DRV-06).
                Next::Wait if self.doorstep.broken => return How::Reset,
                Next::Write if self.outbox.ready().is_empty() => {}
                Next::Wait | Next::Write => drop(self.doorstep.wait(self.wait(now))),
                Next::Again => {}
            }
            if self.worker.is_stopping() && (self.lane.was_heard() || self.worker.shared.is_stopping()) {
                self.lane.drain();
            }
        }
    }

    fn take_mail(&mut self) {
        self.worker.mailbox.take(&mut self.mail);
        for mail in self.mail.drain(..) {
            if let Mail::Letter(_, letter) = mail {
                self.lane.receive(letter);
            }
        }
    }

    /// Writes what is ready, as far as the peer takes it now.
    fn write(&mut self) -> Result<(), How> {
        while !self.outbox.ready().is_empty() {
            // Waiting is `Doorstep`'s: this call moves bytes or says at once that it cannot, so all of its time is the stage's.
            let lap = self.lane.lap();
            let wrote = self.socket.write(self.outbox.ready());
            self.lane.lapped(Stage::Write, lap);
            match wrote {
                Ok(0) => return Err(How::Reset),
                Ok(n) => self.outbox.wrote(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(How::Reset),
            }
        }
        if self.outbox.finished() && !self.half_closed {
            self.half_closed = true;
            let _ = self.socket.shutdown(Shutdown::Write); // and go on reading, so that the last answer arrives (RFC 9112 §9.6; DRV-07)
        }
        Ok(())
    }

    /// Waits for input.
    fn read(&mut self, now: Instant) -> Result<(), How> {
        if self.ended || self.inbox.spare().is_empty() {
            return Err(How::Cut); // cannot be: the machine asks for what can come no more
        }
        // A stopping server takes what has arrived already, since that was sent in good faith; then it drains.
        let stop = self.worker.shared.is_stopping() && !self.lane.is_draining();
        let fresh = self.inbox.is_empty();
        let mut came = self.read_now()?;
        let mut silent = false;
        if !came {
            silent = self.doorstep.wait(if stop { LEAST } else { self.wait(now) });
            came = self.read_now()?;
        }
        // A wait that ended early without input says nothing.
        let told = came || silent;
        if told && !stop && !self.lane.is_draining() && self.may_leave(fresh, came, now) && self.pool.leave() {
            self.left = true;
            self.lane.drain();
        }
        Ok(())
    }

    /// Reads what is there, be it the end; false: nothing is.
    fn read_now(&mut self) -> Result<bool, How> {
        loop {
            let lap = self.lane.lap();
            let read = self.socket.read(self.inbox.spare());
            self.lane.lapped(Stage::Read, lap);
            match read {
                Ok(0) => {
                    self.ended = true;
                    self.inbox.end();
                    return Ok(true);
                }
                Ok(n) => {
                    self.inbox.commit(n);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(How::Reset),
            }
        }
    }

    /// It may end in favour of those who wait: before a later request, which is then answered with `Connection: close`,
    /// or after a tick of silence. (Until its next turn the machine does not know that all was written: hence `Write`.)
    /// In HTTP/2 there may always be something under way: leaving lets that come to its end and takes nothing new
    /// (RFC 9113 §6.8).
    fn may_leave(&self, fresh: bool, came: bool, now: Instant) -> bool {
        let served = self.lane.requests() > 0 && (!came || now.since(self.begun) >= TURN);
        match self.lane.why() {
            _ if self.lane.has_streams() => served,
            _ if !fresh => false,
            Some(Why::Idle | Why::Write) => served,
            Some(Why::Head) => !came,
            _ => false,
        }
    }

    /// Until the deadline, but not beyond the next tick.
    fn wait(&self, now: Instant) -> Duration {
        match self.lane.deadline() {
            Some(at) if at.since(now) < TICK => at.since(now) + LEAST,
            _ => TICK,
        }
    }
}

/// Where a thread waits: for its socket, which does not block, and for its mail.
struct Doorstep {
    poll: Poll,
    events: Events,
    bell: Arc<Waker>,
    /// The peer has reset the connection.
    broken: bool,
}

impl Doorstep {
    fn new() -> io::Result<Doorstep> {
        let poll = Poll::new()?;
        let bell = Arc::new(Waker::new(poll.registry(), Token(1))?);
        Ok(Doorstep { poll, events: Events::with_capacity(4), bell, broken: false })
    }

    /// From here on for this socket, until it is closed.
    fn watch(&mut self, socket: &Socket) -> io::Result<()> {
        self.broken = false;
        let (fd, both) = (socket.as_raw_fd(), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut SourceFd(&fd), Token(0), both)
    }

    /// Waits until something happens; true: nothing has.
    fn wait(&mut self, most: Duration) -> bool {
        if self.poll.poll(&mut self.events, Some(most)).is_err() {
            return false; // interrupted
        }
        self.broken |= self.events.iter().any(|event| event.token() == Token(0) && event.is_error());
        self.events.is_empty()
    }
}
