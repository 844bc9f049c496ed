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
use vestibule::{
    Config, Connection, Content, Event, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Turn, Version, Wait, Why,
};

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
        open: Open::default(),
        to_refuse: Vec::new(),
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
    open: Open,
    /// The exchanges that nobody will answer any more.
    to_refuse: Vec<Id>,
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

    /// Events to the service, as many as come. What waits for nobody but the service is refused then: that acts in its
    /// events alone, and there will not be another one.
    fn turn(&mut self, now: Instant) -> Result<Pause, Misuse> {
        loop {
            let (pause, stuck) = self.one_turn(now)?;
            let Some(id) = stuck.filter(|id| !self.to_refuse.contains(id)) else { return Ok(pause) };
            if self.service.is_some() {
                self.shared.tell(Some(self.peer), What::Unanswered);
            }
            self.to_refuse.push(id); // with the next turn
        }
    }

    fn one_turn(&mut self, now: Instant) -> Result<(Pause, Option<Id>), Misuse> {
        let mut panicked = false;
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox)?;
        self.to_refuse.retain(|&id| turn.reply(id).is_some_and(|reply| !refuse(reply)));
        while let Some(event) = turn.next() {
            if let Event::Fault(violation) = &event {
                self.shared.tell(Some(self.peer), What::Fault(*violation));
            }
            let id = exchange_of(&event);
            let begins = matches!(&event, Event::Request(request) if request.head.version == Version::Http2);
            match &mut self.service {
                Some(service) => match catch_unwind(AssertUnwindSafe(|| service.event(event))) {
                    Ok(Ok(())) => {}
                    Ok(Err(misuse)) => self.shared.tell(Some(self.peer), What::Misuse(misuse)),
                    Err(_) => {
                        self.to_refuse.append(&mut self.open.ids);
                        self.to_refuse.extend(id.filter(|id| !self.to_refuse.contains(id)));
                        panicked = true;
                        break;
                    }
                },
                // Streams that the peer opened before it heard of our leaving (RFC 9113 §6.8).
                None => {
                    let again = |id: &Id| turn.reply(*id).is_some_and(|reply| !refuse(reply));
                    let again = id.filter(again).filter(|id| !self.to_refuse.contains(id));
                    self.to_refuse.extend(again);
                }
            }
            if let Some(id) = id.filter(|_| begins) {
                self.open.note(id, &mut turn);
            }
        }
        // One at a time: its result leaves its room to the next one's before that is run.
        if let Some(job) = turn.job() {
            turn.done(job.run());
        }
        let unanswered = turn.unanswered();
        let pause = turn.finish();
        if panicked {
            self.shared.tell(Some(self.peer), What::Panic);
            let service = self.service.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(service)));
            self.drain();
        }
        let stuck = match pause {
            Pause::Caller(Wait::Reply(id) | Wait::Release(id)) => Some(id),
            Pause::Input { .. } => unanswered,
            _ => None, // the machine has more to do, perhaps for that very exchange
        };
        Ok((pause, stuck))
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
            Wait::Reply(_) | Wait::Release(_) => None, // it will be refused once there is room
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
        } else if !self.draining && self.may_leave(fresh, came, now) && self.shared.pool.leave() {
            self.left = true;
            self.drain();
        }
        None
    }

    /// It may end in favour of those who wait: before a later request, which is then answered with `Connection: close`,
    /// or after a tick of silence. (Until its next turn the machine does not know that all was written: hence `Write`.)
    /// In HTTP/2 there may always be something under way: leaving lets that come to its end and takes nothing new
    /// (RFC 9113 §6.8).
    fn may_leave(&self, fresh: bool, came: bool, now: Instant) -> bool {
        let served = self.connection.stats().requests > 0 && (!came || now.since(self.begun) >= TURN);
        match self.connection.deadline() {
            _ if self.open.many => served,
            _ if !fresh => false,
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

/// The exchange that an event is about, as far as it can still be answered.
fn exchange_of(event: &Event<'_>) -> Option<Id> {
    match event {
        Event::Request(request) => Some(request.reply.id()),
        Event::Body(body) => Some(body.reply.id()),
        Event::Trailers(trailers) => Some(trailers.reply.id()),
        Event::Writable(reply) => Some(reply.id()),
        Event::Tunnel(tunnel) => Some(tunnel.reply.id()),
        _ => None,
    }
}

/// The exchanges of an HTTP/2 connection, for a panic that leaves them all.
#[derive(Default)]
struct Open {
    /// HTTP/2 is spoken.
    many: bool,
    /// Some of them may be over: at most as many as were not when they were last looked through.
    ids: Vec<Id>,
    look_at: usize,
}

impl Open {
    fn note(&mut self, id: Id, turn: &mut Turn<'_>) {
        self.many = true;
        if self.ids.len() >= self.look_at {
            self.ids.retain(|&id| turn.reply(id).is_some());
            self.look_at = 2 * self.ids.len() + 8;
        }
        self.ids.push(id);
    }
}

/// Nobody will answer it: 500; or its end, if the answer has begun. False: there is no room for that now.
fn refuse(mut reply: Reply<'_>) -> bool {
    match reply.respond(500, &[], Content::Whole(b"")) {
        Ok(_) => true,
        Err(Misuse::NoRoom) => false,
        Err(_) => {
            reply.abort();
            true
        }
    }
}

#[cfg(test)]
mod tests;
