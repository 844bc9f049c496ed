//! In: a lane, and a stream of bytes. Out: a future that drives the one with the other, to the end of the connection.
//!
//! ```text
//!        +--> letters --> turn --> write what is ready --> Close? --> over
//!        |                                                    |
//!        +--- read what comes, until a letter or the deadline +
//! ```

use crate::alarm::Alarm;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vestibule::{Inbox, Instant, Outbox};
use vestibule_driver::probe::Stage;
use vestibule_driver::{Buffers, How, Lane, Letter, Next, Worker};

/// So many rounds of turn, write and read make a connection's share.
const ROUNDS: usize = 16;

/// Where a connection is reached by the rest of its worker.
#[derive(Debug, Default)]
pub(crate) struct Door {
    letters: RefCell<Vec<Letter>>,
    waker: RefCell<Option<Waker>>,
}

impl Door {
    pub(crate) fn post(&self, letter: Letter) {
        self.letters.borrow_mut().push(letter);
        self.wake();
    }

    /// There is something to look at: a letter, or the worker's end.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Where the next wake-up goes.
    fn register(&self, waker: &Waker) {
        let mut place = self.waker.borrow_mut();
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
    }
}

/// One connection of a worker, as a future of how it ends.
pub(crate) struct Connection<IO> {
    lane: Lane,
    io: IO,
    door: Rc<Door>,
    worker: Rc<Worker>,
    buffers: Rc<RefCell<Buffers>>,
    /// Only while something waits in it; otherwise its storage is with the worker.
    inbox: Option<Inbox<Vec<u8>>>,
    outbox: Option<Outbox<Vec<u8>>>,
    alarm: Alarm,
    ended: bool,
    shut: bool,
}

/// Where a connection stands when it cannot go on.
enum Stand {
    Waits,
    GoesOn,
    Over(How),
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(crate) fn new(
        lane: Lane,
        io: IO,
        door: Rc<Door>,
        worker: Rc<Worker>,
        buffers: Rc<RefCell<Buffers>>,
    ) -> Connection<IO> {
        let alarm = Alarm::default();
        Connection { lane, io, door, worker, buffers, inbox: None, outbox: None, alarm, ended: false, shut: false }
    }

    /// Counts how it ended.
    pub(crate) fn over(self, how: How) {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(inbox) = self.inbox {
            buffers.give_inbox(inbox.into_store());
        }
        if let Some(outbox) = self.outbox {
            buffers.give_outbox(outbox.into_store());
        }
        drop(buffers);
        self.lane.over(how);
    }

    /// As far as it goes now, with buffers for as long as that lasts.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Stand {
        let mut inbox = self.inbox.take().unwrap_or_else(|| Inbox::new(self.buffers.borrow_mut().inbox()));
        let mut outbox = self.outbox.take().unwrap_or_else(|| Outbox::new(self.buffers.borrow_mut().outbox()));
        if self.ended {
            inbox.end();
        }
        let stand = self.rounds(cx, &mut inbox, &mut outbox);
        let mut buffers = self.buffers.borrow_mut();
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

    fn rounds(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox<Vec<u8>>, outbox: &mut Outbox<Vec<u8>>) -> Stand {
        for _ in 0..ROUNDS {
            for letter in self.door.letters.borrow_mut().drain(..) {
                self.lane.receive(letter);
            }
            let next = self.lane.turn(self.now(), inbox, outbox);
            if self.write(cx, outbox).is_err() {
                return Stand::Over(How::Reset);
            }
            match next {
                Next::Close(how) => return Stand::Over(how),
                Next::Again => return Stand::GoesOn,
                Next::Write if outbox.ready().is_empty() => {}
                Next::Write => return Stand::Waits,
                Next::Wait => return self.listen(cx, inbox),
                Next::Read { .. } if self.ended => return Stand::Over(How::Cut), // cannot be: what it asks for can come no more
                Next::Read { .. } => match self.read(cx, inbox) {
                    // What arrives while the worker stops was sent in good faith: it is answered, and the answer says that it is the last.
                    Ok(true) if self.worker.is_stopping() && !inbox.is_empty() => self.lane.drain(),
                    Ok(true) => {}
                    Ok(false) => return Stand::Waits,
                    Err(how) => return Stand::Over(how),
                },
            }
        }
        Stand::GoesOn
    }

    /// The worker stops, and all that had arrived is taken. `None`: there is nothing to change.
    fn stop(&mut self) -> Option<Stand> {
        let replaced = !self.worker.shared.is_stopping();
        let idle = !self.lane.was_heard() || (self.lane.is_between() && !self.lane.has_streams());
        match () {
            () if self.lane.is_draining() => None,
            // The server goes on, and so may this peer: it is left with its next answer, not while it may be asking.
            () if replaced && idle => None,
            () => {
                self.lane.drain();
                Some(Stand::GoesOn)
            }
        }
    }

    fn now(&self) -> Instant {
        self.worker.shared.now()
    }

    /// Writes what is ready, as far as the stream takes it.
    fn write(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox<Vec<u8>>) -> Result<(), ()> {
        let mut wrote = false;
        while !outbox.ready().is_empty() {
            let lap = self.lane.lap();
            let polled = Pin::new(&mut self.io).poll_write(cx, outbox.ready());
            self.lane.lapped(Stage::Write, lap);
            match polled {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(()),
                Poll::Ready(Ok(n)) => {
                    outbox.wrote(n);
                    wrote = true;
                }
                Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(_)) => return Err(()),
            }
        }
        if wrote {
            let _ = Pin::new(&mut self.io).poll_flush(cx); // sockets have nothing to flush
        }
        if outbox.finished() && !self.shut {
            // And go on reading, so that the last answer arrives (RFC 9112 §9.6; DRV-07).
            self.shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        Ok(())
    }

    /// There is nothing to read for, but only who reads hears that the peer has reset the connection, and nobody is to be kept for an answer
    /// that none awaits (DRV-06). What comes is as much as the inbox has room for.
    fn listen(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox<Vec<u8>>) -> Stand {
        while !self.ended && !inbox.spare().is_empty() {
            match self.read(cx, inbox) {
                Ok(true) => {}
                Ok(false) => break,
                Err(how) => return Stand::Over(how),
            }
        }
        Stand::Waits
    }

    /// Reads once: false if nothing is there.
    fn read(&mut self, cx: &mut Context<'_>, inbox: &mut Inbox<Vec<u8>>) -> Result<bool, How> {
        let mut spare = ReadBuf::new(inbox.spare());
        if spare.remaining() == 0 {
            return Err(How::Cut); // cannot be: the machine wants more than its inbox holds
        }
        let lap = self.lane.lap();
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut spare);
        self.lane.lapped(Stage::Read, lap);
        match polled {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => {
                match spare.filled().len() {
                    0 => {
                        self.ended = true;
                        inbox.end();
                    }
                    n => inbox.commit(n),
                }
                Ok(true)
            }
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => Ok(true),
            Poll::Ready(Err(_)) => Err(How::Reset),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for Connection<IO> {
    type Output = How;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<How> {
        let this = &mut *self;
        this.door.register(cx.waker());
        let stops = this.worker.is_stopping();
        if stops && this.worker.is_out_of_grace() {
            return Poll::Ready(if this.lane.is_between() { How::Closed } else { How::Cut });
        }
        loop {
            match this.go_on(cx) {
                Stand::Over(how) => return Poll::Ready(how),
                Stand::GoesOn => {
                    cx.waker().wake_by_ref(); // others first
                    return Poll::Pending;
                }
                Stand::Waits => {}
            }
            match if stops { this.stop() } else { None } {
                Some(Stand::Over(how)) => return Poll::Ready(how),
                Some(_) => continue,
                None => {}
            }
            if !this.door.letters.borrow().is_empty() {
                continue;
            }
            let now = this.now();
            let wait = this.lane.deadline().map(|at| at.since(now));
            if this.alarm.poll(cx, tokio::time::Instant::now(), wait).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<IO> Unpin for Connection<IO> {}
