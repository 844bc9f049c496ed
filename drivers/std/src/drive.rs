//! In: one connection's socket. Out: its service's answers on it. The loop that drives the machine: turn, write, read.
//!
//! ```text
//!        +--> turn: events to the service --> write what is ready --> Closed? --> over
//!        |                                                              | Input
//!        +--- read what comes, until the deadline or the next tick <----+
//! ```

use crate::incident::What;
use crate::server::{Listener, Shared};
use crate::wire::{Went, Wire, went};
use crate::{Peer, Service};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vestibule::{Config, Connection, Content, Event, Id, Inbox, Instant, Misuse, Outbox, Pause, Wait, Why};

/// A blocked read or write looks around this often: is the server stopping, does somebody wait for this worker?
pub(crate) const TICK: Duration = Duration::from_millis(250);

/// How long a busy connection may keep its worker though others wait for it; also what its TLS handshake is worth.
const TURN: Duration = Duration::from_millis(100);

/// The least wait that a socket takes.
const LEAST: Duration = Duration::from_millis(1);

/// The two buffers of a worker. Connections of one after the other use them; nothing is cleared, since nothing behind what was
/// received is ever looked at.
pub(crate) struct Buffers {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Buffers {
    pub(crate) fn new(inbox_bytes: usize, outbox_bytes: usize) -> Buffers {
        Buffers { inbox: vec![0; inbox_bytes], outbox: vec![0; outbox_bytes] }
    }
}

/// Serves one connection to its end. True if it left because others waited.
pub(crate) fn serve<W: Wire>(
    wire: &mut W,
    listener: &Listener,
    peer: Peer,
    buffers: &mut Buffers,
    shared: &Shared,
) -> bool {
    let service = match catch_unwind(AssertUnwindSafe(|| shared.service(&peer))) {
        Ok(service) => service,
        Err(_) => {
            shared.tell(Some(peer), What::Panic);
            return false;
        }
    };
    let begun = shared.now();
    let mut drive = Drive {
        connection: Connection::new(listener.config.clone(), begun),
        begun,
        inbox: Inbox::new(&mut buffers.inbox[..]),
        outbox: Outbox::new(&mut buffers.outbox[..]),
        service: Some(service),
        listener,
        peer,
        shared,
        to_refuse: None,
        draining: false,
        ended: false,
        half_closed: false,
        left: false,
        heard: false,
    };
    let how = drive.run(wire);
    let counts = &shared.counts;
    counts.requests.fetch_add(drive.connection.stats().requests, Ordering::Relaxed);
    match how {
        How::Closed => {}
        How::Reset => drop(counts.resets.fetch_add(1, Ordering::Relaxed)),
        How::Cut => drop(counts.cut.fetch_add(1, Ordering::Relaxed)),
    }
    let left = drive.left;
    // Whatever a service does when it is dropped stays with its connection, too.
    let service = drive.service.take();
    if catch_unwind(AssertUnwindSafe(|| drop(service))).is_err() {
        shared.tell(Some(peer), What::Panic);
    }
    left
}

/// How a connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum How {
    /// As HTTP and TLS want it.
    Closed,
    /// The peer is gone; one counter, and no line in the log for each (DRV-06).
    Reset,
    /// We cut it off.
    Cut,
}

struct Drive<'a> {
    connection: Connection<Arc<Config>>,
    begun: Instant,
    inbox: Inbox<&'a mut [u8]>,
    outbox: Outbox<&'a mut [u8]>,
    /// `None` once it has panicked: then the connection only says its last words.
    service: Option<Box<dyn Service>>,
    listener: &'a Listener,
    peer: Peer,
    shared: &'a Shared,
    /// The exchange that nobody will answer any more.
    to_refuse: Option<Id>,
    draining: bool,
    /// The peer has sent its last byte.
    ended: bool,
    half_closed: bool,
    /// It is draining because others wait for its worker.
    left: bool,
    /// Something has been received.
    heard: bool,
}

impl Drive<'_> {
    fn run<W: Wire>(&mut self, wire: &mut W) -> How {
        loop {
            let now = self.shared.now();
            let pause = match self.turn(now) {
                Ok(pause) => pause,
                Err(misuse) => {
                    self.shared.tell(Some(self.peer), What::Misuse(misuse));
                    return How::Cut;
                }
            };
            let sent = match self.write(wire, now) {
                Went::Over => return How::Reset,
                went => went != Went::Later,
            };
            if self.outbox.finished() && !self.half_closed {
                self.half_closed = true;
                wire.half_close(); // and go on reading, so that the last answer arrives (RFC 9112 §9.6; DRV-07)
            }
            if pause == Pause::Closed {
                return How::Closed;
            }
            if self.shared.stopping() && self.shared.out_of_grace() {
                return How::Cut;
            }
            match pause {
                Pause::Input { .. } if sent => {
                    if let Some(how) = self.read(wire, now) {
                        return how;
                    }
                }
                Pause::Caller(wait) => {
                    if let Some(how) = self.decide(wait) {
                        return how;
                    }
                }
                _ => self.look_around(),
            }
        }
    }

    /// One turn: events to the service, as many as come.
    fn turn(&mut self, now: Instant) -> Result<Pause, Misuse> {
        let refuse = self.to_refuse.take();
        let mut panicked = false;
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox)?;
        if let Some(id) = refuse
            && let Some(mut reply) = turn.reply(id)
            && reply.respond(500, &[], Content::Whole(b"")).is_err()
        {
            reply.abort(); // it has begun: only the end of the connection can tell the peer
        }
        while let Some(event) = turn.next() {
            if let Event::Fault(violation) = &event {
                self.shared.tell(Some(self.peer), What::Fault(*violation));
            }
            let id = exchange(&event);
            let Some(service) = &mut self.service else { continue };
            match catch_unwind(AssertUnwindSafe(|| service.event(event))) {
                Ok(Ok(())) => {}
                Ok(Err(misuse)) => self.shared.tell(Some(self.peer), What::Misuse(misuse)),
                Err(_) => {
                    self.to_refuse = id;
                    panicked = true;
                    break;
                }
            }
        }
        while let Some(job) = turn.job() {
            turn.done(job.run());
        }
        let pause = turn.finish();
        if panicked {
            self.shared.tell(Some(self.peer), What::Panic);
            let service = self.service.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(service)));
            self.drain();
        }
        Ok(pause)
    }

    /// The machine waits for somebody, and a synchronous service has had its say.
    fn decide(&mut self, wait: Wait) -> Option<How> {
        match wait {
            Wait::Config => {
                // Nobody chose: the configuration of the port.
                let tls = self.listener.tls.clone()?;
                let now = self.shared.now();
                match self.connection.turn(now, &mut self.inbox, &mut self.outbox) {
                    Ok(mut turn) => {
                        turn.choose(tls);
                        let _ = turn.finish();
                        None
                    }
                    Err(_) => Some(How::Cut),
                }
            }
            Wait::Reply(id) | Wait::Release(id) if self.to_refuse.is_none() => {
                if self.service.is_some() {
                    self.shared.tell(Some(self.peer), What::Unanswered);
                }
                self.to_refuse = Some(id);
                None
            }
            Wait::Reply(_) | Wait::Release(_) => None, // it panicked, and will be refused
            _ => Some(How::Cut),
        }
    }

    /// Writes what is ready. `Later`: the peer takes no more now.
    fn write<W: Wire>(&mut self, wire: &mut W, now: Instant) -> Went {
        while !self.outbox.ready().is_empty() {
            match went(wire.write(self.outbox.ready(), self.wait(now))) {
                Went::Some(0) => return Went::Over,
                Went::Some(n) => self.outbox.wrote(n),
                went => return went,
            }
        }
        Went::Some(0)
    }

    /// Waits for input. `Some`: there is no point in going on.
    fn read<W: Wire>(&mut self, wire: &mut W, now: Instant) -> Option<How> {
        if self.ended || self.inbox.spare().is_empty() {
            return Some(How::Cut); // cannot be: the machine asks for what can come no more
        }
        // A stopping server takes what has arrived already, since that was sent in good faith; then it drains.
        let stop = self.shared.stopping() && !self.draining;
        let wait = if stop { LEAST } else { self.wait(now) };
        let fresh = self.inbox.is_empty();
        let came = match went(wire.read(self.inbox.spare(), wait)) {
            Went::Some(0) => {
                self.ended = true;
                self.inbox.end();
                false
            }
            Went::Some(n) => {
                self.heard = true;
                self.inbox.commit(n);
                true
            }
            Went::Later => false,
            Went::Over => return Some(How::Reset),
        };
        if stop {
            if !self.heard && !self.ended {
                return Some(How::Closed); // it has never said anything
            }
            self.drain();
        } else if fresh && !self.draining && self.may_leave(came, now) && self.shared.pool.leave() {
            self.left = true;
            self.drain();
        }
        None
    }

    /// It may end in favour of those who wait: before a later request, which is then answered with `Connection: close`, or after
    /// a tick of silence. (Until its next turn the machine does not know that all was written: hence `Write`.)
    fn may_leave(&self, came: bool, now: Instant) -> bool {
        let served = self.connection.stats().requests > 0 && (!came || now.since(self.begun) >= TURN);
        match self.connection.deadline() {
            Some(deadline) => match deadline.why {
                Why::Idle | Why::Write => served,
                Why::Head => !came,
                _ => false,
            },
            None => false,
        }
    }

    /// There is work to do without waiting; what a blocked read would notice is noticed here, too.
    fn look_around(&mut self) {
        if self.shared.stopping() && !self.draining {
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        self.connection.drain();
    }

    /// Until the deadline, but not beyond the next tick.
    fn wait(&self, now: Instant) -> Duration {
        match self.connection.deadline() {
            Some(deadline) if deadline.at.since(now) < TICK => deadline.at.since(now) + LEAST,
            _ => TICK,
        }
    }
}

/// Which exchange an event is about, as far as it can still be answered.
fn exchange(event: &Event<'_>) -> Option<Id> {
    match event {
        Event::Request(request) => Some(request.reply.id()),
        Event::Body(body) => Some(body.reply.id()),
        Event::Trailers(trailers) => Some(trailers.reply.id()),
        Event::Writable(reply) => Some(reply.id()),
        Event::Tunnel(tunnel) => Some(tunnel.reply.id()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
