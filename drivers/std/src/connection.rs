//! In: a lane, and a socket that does not block. Out: as much of the connection as can go on now: turn, write, read.

#[cfg(test)]
mod tests;

use crate::wire::Wire;
use std::io::{self, ErrorKind};
use vestibule::{Inbox, Instant, Outbox};
use vestibule_driver::probe::Stage;
use vestibule_driver::{Buffers, How, Lane, Next};

/// One connection of a worker.
pub(crate) struct Connection<W> {
    pub(crate) lane: Lane,
    pub(crate) wire: W,
    /// Only while something waits in it; otherwise its storage is with the worker.
    inbox: Option<Inbox<Vec<u8>>>,
    outbox: Option<Outbox<Vec<u8>>>,
    /// There may be something to read, as far as is known.
    readable: bool,
    /// The peer has sent its last byte, or is gone: a read will say so even where a short one came before.
    hung_up: bool,
    /// It has reset the connection.
    broken: bool,
    /// Not known to be full.
    writable: bool,
    ended: bool,
    half_closed: bool,
}

/// Where a connection stands when it cannot go on, or has had its share.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// For its socket, a letter, or its deadline.
    Waits,
    /// For its next turn: others first.
    GoesOn,
    /// It is over.
    Over(How),
}

/// So many rounds of turn, write and read make a connection's share.
const ROUNDS: usize = 16;

impl<W: Wire> Connection<W> {
    pub(crate) fn new(lane: Lane, wire: W) -> Connection<W> {
        Connection {
            lane,
            wire,
            inbox: None,
            outbox: None,
            readable: false,
            hung_up: false,
            broken: false,
            writable: true,
            ended: false,
            half_closed: false,
        }
    }

    /// What the system says of its socket.
    pub(crate) fn is_ready(&mut self, readable: bool, writable: bool, hung_up: bool, broken: bool) {
        self.readable |= readable;
        self.writable |= writable;
        self.hung_up |= hung_up;
        self.broken |= broken;
    }

    /// Its socket took less than it was offered: the system is to say when it takes more.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.writable
    }

    /// As far as it goes now.
    pub(crate) fn go_on(&mut self, now: Instant, buffers: &mut Buffers) -> Stand {
        let mut inbox = self.inbox.take().unwrap_or_else(|| Inbox::new(buffers.inbox()));
        let mut outbox = self.outbox.take().unwrap_or_else(|| Outbox::new(buffers.outbox()));
        if self.ended {
            inbox.end();
        }
        let stand = self.rounds(now, &mut inbox, &mut outbox);
        match inbox.is_empty() {
            true => buffers.give_inbox(inbox.into_store()),
            false => self.inbox = Some(inbox),
        }
        match outbox.is_empty() && !outbox.finished() {
            true => buffers.give_outbox(outbox.into_store()),
            false => self.outbox = Some(outbox),
        }
        stand
    }

    fn rounds(&mut self, now: Instant, inbox: &mut Inbox<Vec<u8>>, outbox: &mut Outbox<Vec<u8>>) -> Stand {
        for _ in 0..ROUNDS {
            let next = self.lane.turn(now, inbox, outbox);
            if let Err(how) = self.write(outbox) {
                return Stand::Over(how);
            }
            match next {
                Next::Close(how) => return Stand::Over(how),
                Next::Again => return Stand::GoesOn,
                // Nobody is there for whom an answer would be awaited (DRV-06); where it is read, that says so.
                Next::Wait if self.broken => return Stand::Over(How::Reset),
                Next::Wait => return Stand::Waits,
                Next::Write if outbox.ready().is_empty() => {}
                Next::Write => return Stand::Waits,
                Next::Read { .. } if self.ended => return Stand::Over(How::Cut), // cannot be: what it asks for can come no more
                Next::Read { .. } => match self.read(inbox) {
                    Ok(true) => {}
                    Ok(false) => return Stand::Waits,
                    Err(how) => return Stand::Over(how),
                },
            }
        }
        Stand::GoesOn
    }

    /// Writes what is ready, as far as the socket takes it.
    fn write(&mut self, outbox: &mut Outbox<Vec<u8>>) -> Result<(), How> {
        while self.writable && !outbox.ready().is_empty() {
            let lap = self.lane.lap();
            let wrote = self.wire.write(outbox.ready());
            self.lane.lapped(Stage::Write, lap);
            match wrote {
                Ok(0) => return Err(How::Reset),
                Ok(n) => outbox.wrote(n),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(How::Reset),
                },
            }
        }
        if outbox.finished() && !self.half_closed {
            self.half_closed = true;
            self.wire.half_close(); // and go on reading, so that the last answer arrives (RFC 9112 §9.6; DRV-07)
        }
        Ok(())
    }

    /// Reads what is there: false if that is nothing.
    fn read(&mut self, inbox: &mut Inbox<Vec<u8>>) -> Result<bool, How> {
        while self.readable {
            let spare = inbox.spare();
            let room = spare.len();
            if room == 0 {
                return Err(How::Cut); // cannot be: the machine wants more than its inbox holds
            }
            let lap = self.lane.lap();
            let read = self.wire.read(spare);
            self.lane.lapped(Stage::Read, lap);
            match read {
                Ok(0) => {
                    (self.ended, self.readable) = (true, false);
                    inbox.end();
                    return Ok(true);
                }
                Ok(n) => {
                    // A short read has emptied the socket, and what comes later is told: the call that would say so is saved.
                    self.readable = n == room || self.hung_up;
                    inbox.commit(n);
                    return Ok(true);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Err(How::Reset),
                },
            }
        }
        Ok(false)
    }

    /// The server stops. What has arrived already was sent in good faith: it is taken, then the connection drains.
    pub(crate) fn drain(&mut self, now: Instant, buffers: &mut Buffers) -> Stand {
        if self.lane.is_draining() {
            return Stand::Waits;
        }
        self.readable = true;
        let stand = self.go_on(now, buffers);
        if !matches!(stand, Stand::Over(_)) {
            self.lane.drain();
            return self.go_on(now, buffers);
        }
        stand
    }

    /// It is over: its storages go back.
    pub(crate) fn end(mut self, how: How, buffers: &mut Buffers) -> W {
        if let Some(inbox) = self.inbox.take() {
            buffers.give_inbox(inbox.into_store());
        }
        if let Some(outbox) = self.outbox.take() {
            buffers.give_outbox(outbox.into_store());
        }
        self.lane.over(how);
        self.wire
    }
}

/// A socket that does not block.
impl Wire for socket2::Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        io::Read::read(self, into)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(self, bytes)
    }

    fn half_close(&mut self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}
