//! In: a road, and completions of its socket's operations. Out: as much of the connection as can go on now, and the operations that follow.
//!
//! ```text
//! Received { Lent } --> queue --> turn, where the kernel put it --> consumed: the buffer is back in the ring
//!                         |  cut at its end: carried to `own` ------^ more of it, no more than is wanted
//! outbox --swap--> send, which owns the bytes; meanwhile the next ones are collected in another storage
//! ```
//! At rest a connection holds no buffer of either kind: what it waits with is a receive that picks one when something comes.

use crate::road::{Road, carry};
use crate::seam::{Errno, Kernel, Op, Storage};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use vestibule::{Inbox, Instant, Outbox};
use vestibule_driver::{Buffers, How, Key, Next};

/// Buffers of the ring that a connection may hold (DRV-10).
pub(crate) const QUOTA: usize = 8;
/// So many turns make a connection's share.
const ROUNDS: usize = 32;
/// Of a record or a head that was cut, at least so much is carried at a time.
const LEAST_CARRY: usize = 64;
/// If so much is wanted at once, it is received where it is needed: through the ring each byte of it would be copied.
pub(crate) const LARGE: usize = 32_768;

/// How long the last words may take of which nobody knows the limits any more.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// What a connection needs of its worker.
pub(crate) struct Tools<'a, K> {
    pub(crate) kernel: &'a mut K,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) now: Instant,
}

/// Received bytes: in a buffer of the ring, or, because others needed that, in a copy.
pub(crate) enum Piece<L> {
    Lent(L),
    Copied(Storage),
}

impl<L: AsRef<[u8]>> AsRef<[u8]> for Piece<L> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Piece::Lent(lent) => lent.as_ref(),
            Piece::Copied(storage) => storage,
        }
    }
}

impl<L: AsMut<[u8]>> AsMut<[u8]> for Piece<L> {
    fn as_mut(&mut self) -> &mut [u8] {
        match self {
            Piece::Lent(lent) => lent.as_mut(),
            Piece::Copied(storage) => storage,
        }
    }
}

struct Received<L> {
    inbox: Inbox<Piece<L>>,
    len: usize,
    /// Nothing of it was taken yet: it is `len` bytes from the beginning.
    fresh: bool,
    /// A turn has begun with it.
    begun: bool,
}

impl<L: AsRef<[u8]> + AsMut<[u8]>> Received<L> {
    /// The buffer goes back to the ring, unless some of it was taken already.
    fn copy_out(&mut self) {
        if !self.fresh {
            return;
        }
        let nothing = Inbox::filled(Piece::Copied(Storage::new()), 0);
        let piece = match std::mem::replace(&mut self.inbox, nothing).into_store() {
            Piece::Lent(lent) => Piece::Copied(lent.as_ref().get(..self.len).unwrap_or_default().to_vec()),
            copied => copied,
        };
        self.inbox = Inbox::filled(piece, self.len);
    }
}

/// How bytes come in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Receiving {
    No,
    /// Into buffers of the ring, again and again.
    Ring {
        op: Op,
        cancelled: bool,
    },
    /// Once, into an inbox that is the kernel's until then.
    Own {
        op: Op,
        cancelled: bool,
    },
    /// There was no buffer; when one is back, again.
    Starved,
}

/// A send in flight.
#[derive(Copy, Clone, Debug)]
struct Sending {
    op: Op,
    until: Instant,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum WriteSide {
    Open,
    Shutting,
    Shut,
}

/// Where a connection stands when it cannot go on, or has had its share.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// For a completion, a letter, or its deadline.
    Waits,
    /// For its next turn: others first.
    GoesOn,
    /// Nothing is left, and nothing is in flight.
    Over,
}

/// One connection of a worker.
pub(crate) struct Connection<K: Kernel, R> {
    key: Key,
    socket: K::Socket,
    /// `None`: it is over, but for what is still in flight.
    road: Option<R>,
    /// Only while something is cut; otherwise its storage is with the worker.
    own: Option<Inbox<Storage>>,
    queue: VecDeque<Received<K::Lent>>,
    outbox: Outbox<Storage>,
    /// The outbox has a storage.
    stored: bool,
    receiving: Receiving,
    sending: Option<Sending>,
    /// How long the last one may have taken.
    patience: Duration,
    /// Storages that were sent and that the kernel still reads.
    lingering: usize,
    write_side: WriteSide,
    /// The peer has sent its last byte; and the road has heard of it.
    ended: bool,
    end_told: bool,
    next: Next,
    /// It ends in silence: what waits to be sent is not.
    abrupt: bool,
    /// Something has happened for which the kernel is to give its inbox back.
    urgent: bool,
    /// It is among those that go on already, and among those that wait for a buffer.
    pub(crate) queued: bool,
    pub(crate) listed: bool,
}

impl<K: Kernel, R: Road> Connection<K, R> {
    pub(crate) fn new(key: Key, road: R, socket: K::Socket) -> Connection<K, R> {
        Connection {
            key,
            socket,
            road: Some(road),
            own: None,
            queue: VecDeque::new(),
            outbox: Outbox::new(Storage::new()),
            stored: false,
            receiving: Receiving::No,
            sending: None,
            patience: LAST_PATIENCE,
            lingering: 0,
            write_side: WriteSide::Open,
            ended: false,
            end_told: false,
            next: Next::Again,
            abrupt: false,
            urgent: false,
            queued: false,
            listed: false,
        }
    }

    /// Something was received, or the receive is over.
    pub(crate) fn received(&mut self, result: Result<Option<(K::Lent, usize)>, Errno>, more: bool) {
        if !more {
            self.receiving = Receiving::No;
        }
        match result {
            _ if self.road.is_none() => {} // dropped: the buffer is back
            Ok(Some((lent, len))) => {
                let inbox = Inbox::filled(Piece::Lent(lent), len);
                self.queue.push_back(Received { inbox, len, fresh: true, begun: false });
            }
            Ok(None) => self.ended = true,
            Err(Errno::NO_BUFFERS) if !more => self.receiving = Receiving::Starved,
            Err(errno) => self.received_nothing(errno),
        }
    }

    /// The inbox is back.
    pub(crate) fn filled(&mut self, inbox: Inbox<Storage>, result: Result<usize, Errno>, buffers: &mut Buffers) {
        self.receiving = Receiving::No;
        if self.road.is_none() {
            return buffers.give_inbox(inbox.into_store());
        }
        self.own = Some(inbox);
        match result {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(errno) => self.received_nothing(errno),
        }
    }

    fn received_nothing(&mut self, errno: Errno) {
        if errno != Errno::CANCELLED && !errno.is_passing() {
            self.next = Next::Close(How::Reset); // with its next step
        }
    }

    /// A send is over. What did not go goes with the next one, once and in order.
    pub(crate) fn sent(
        &mut self,
        result: Result<usize, Errno>,
        storage: Option<(Storage, Range<usize>)>,
        tools: &mut Tools<'_, K>,
    ) {
        let until = self.sending.take().map(|sending| sending.until);
        let Some((storage, range)) = storage else {
            self.lingering += 1;
            return;
        };
        let gone = match result {
            Ok(0) if !range.is_empty() => None,
            Ok(n) => Some(n),
            Err(errno) if errno.is_passing() => Some(0),
            Err(_) => None,
        };
        match (gone, until) {
            (Some(n), Some(until)) if n < range.len() && !self.abrupt => {
                let op = tools.kernel.send(&self.socket, self.key, storage, range.start + n..range.end);
                self.sending = Some(Sending { op, until });
                return;
            }
            (Some(_), _) => {}
            (None, _) => {
                self.abrupt = true;
                if self.road.is_some() {
                    self.next = Next::Close(How::Reset);
                }
            }
        }
        tools.buffers.give_outbox(storage);
    }

    /// The kernel no longer reads this one.
    pub(crate) fn returned(&mut self, storage: Storage, buffers: &mut Buffers) {
        self.lingering = self.lingering.saturating_sub(1);
        buffers.give_outbox(storage);
    }

    pub(crate) fn shut(&mut self) {
        self.write_side = WriteSide::Shut;
    }

    pub(crate) fn receive_letter(&mut self, letter: R::Letter) {
        if let Some(road) = &mut self.road {
            road.receive(letter);
            self.urgent = true;
        }
    }

    /// It waits for a buffer of the ring.
    pub(crate) fn is_starved(&self) -> bool {
        self.receiving == Receiving::Starved
    }

    /// As far as it goes now.
    pub(crate) fn go_on(&mut self, tools: &mut Tools<'_, K>) -> Stand {
        let mut stand = Stand::Waits;
        if self.is_late(tools.now) {
            self.close(How::Cut, true, tools);
        } else if self.road.is_some() && self.takes_turns(tools) {
            stand = self.rounds(tools);
        }
        if self.road.is_none() {
            return self.finish(tools);
        }
        self.half_close(tools);
        self.give_outbox(tools.buffers);
        if stand == Stand::Waits {
            self.arm(tools);
        }
        self.spare_the_ring(tools);
        stand
    }

    /// A send takes longer than any reader may.
    fn is_late(&self, now: Instant) -> bool {
        self.send_until().is_some_and(|until| until <= now)
    }

    /// When that is. With output behind the send the road sees for itself that its reader is slow.
    fn send_until(&self) -> Option<Instant> {
        let judged = !self.outbox.is_empty() && self.road.as_ref().and_then(Road::deadline).is_some();
        self.sending.filter(|_| !self.abrupt && !judged).map(|sending| sending.until)
    }

    /// While the kernel has the inbox there is nothing to turn with. What cannot wait gets it back first.
    fn takes_turns(&mut self, tools: &mut Tools<'_, K>) -> bool {
        let Receiving::Own { op, cancelled } = self.receiving else {
            self.urgent = false;
            return true;
        };
        if matches!(self.next, Next::Close(_)) {
            return true;
        }
        let due = self.road.as_ref().and_then(Road::deadline).is_some_and(|at| at <= tools.now);
        if !cancelled && (due || self.urgent) {
            tools.kernel.cancel(op);
            self.receiving = Receiving::Own { op, cancelled: true };
        }
        false
    }

    fn rounds(&mut self, tools: &mut Tools<'_, K>) -> Stand {
        for _ in 0..ROUNDS {
            if !matches!(self.next, Next::Close(_)) {
                self.next = self.turn(tools);
                self.start_send(tools);
            }
            match self.next {
                Next::Close(how) => {
                    // Without its last words it gave up on its reader: what is in flight will not be read either.
                    self.close(how, how != How::Closed || !self.outbox.finished(), tools);
                    return Stand::Waits;
                }
                Next::Again => return Stand::GoesOn,
                Next::Wait => return Stand::Waits,
                Next::Write if self.outbox.ready().is_empty() => {}
                Next::Write => return Stand::Waits,
                Next::Read { want } => match self.supply(want, tools.buffers) {
                    Some(true) => {}
                    Some(false) => return Stand::Waits,
                    None => self.next = Next::Close(How::Cut), // cannot be: it asks for what can come no more
                },
            }
        }
        Stand::GoesOn
    }

    /// One turn with what waits first: what was cut, or the oldest buffer, or nothing.
    fn turn(&mut self, tools: &mut Tools<'_, K>) -> Next {
        let Some(road) = &mut self.road else { return self.next };
        if !self.stored {
            self.outbox.swap(tools.buffers.outbox());
            self.stored = true;
        }
        let last = self.ended && self.queue.is_empty();
        match (&mut self.own, self.queue.front_mut()) {
            (Some(own), _) => {
                if last {
                    own.end();
                    self.end_told = true;
                }
                road.turn(tools.now, own, &mut self.outbox)
            }
            (None, Some(front)) => {
                (front.fresh, front.begun) = (false, true);
                road.turn(tools.now, &mut front.inbox, &mut self.outbox)
            }
            (None, None) => {
                let mut nothing = Inbox::filled(Storage::new(), 0);
                if last {
                    nothing.end();
                    self.end_told = true;
                }
                road.turn(tools.now, &mut nothing, &mut self.outbox)
            }
        }
    }

    /// The road wants more. True: there is some, or it is to hear that there will be none. `None`: it knows that already.
    fn supply(&mut self, want: usize, buffers: &mut Buffers) -> Option<bool> {
        if let Some(own) = self.own.take_if(|own| own.is_empty()) {
            buffers.give_inbox(own.into_store());
        }
        if self.queue.front().is_some_and(|front| front.begun && front.inbox.is_empty()) {
            self.queue.pop_front();
        }
        match (&mut self.own, self.queue.front_mut()) {
            (Some(own), Some(front)) => {
                let n = carry(&self.road, own, &mut front.inbox, want.max(LEAST_CARRY));
                front.fresh = false;
                if front.inbox.is_empty() {
                    self.queue.pop_front();
                }
                return if n > 0 { Some(true) } else { None };
            }
            (None, Some(front)) if front.begun => {
                // It was cut at its end: this part of it moves on, and the buffer is free.
                let mut own = Inbox::new(buffers.inbox());
                carry(&self.road, &mut own, &mut front.inbox, usize::MAX);
                let whole = front.inbox.is_empty();
                self.own = Some(own);
                if !whole {
                    return None;
                }
                self.queue.pop_front();
            }
            _ => {}
        }
        match () {
            () if !self.queue.is_empty() => Some(true),
            () if !self.ended => Some(false),
            () if !self.end_told => Some(true),
            () => None,
        }
    }

    /// Swap, don't share: the next turn writes into another storage while the kernel reads this one.
    fn start_send(&mut self, tools: &mut Tools<'_, K>) {
        if self.sending.is_some() || self.outbox.ready().is_empty() {
            return;
        }
        let (storage, range) = self.outbox.swap(Storage::new());
        self.stored = false;
        let wait = self.road.as_ref().map_or(self.patience, |road| road.patience(range.len()));
        self.patience = wait;
        let until = tools.now.after(wait);
        let op = tools.kernel.send(&self.socket, self.key, storage, range);
        self.sending = Some(Sending { op, until });
    }

    /// All is said and sent: the peer is told, and read until it ends, so that it gets what was said (RFC 9112 §9.6; DRV-07).
    fn half_close(&mut self, tools: &mut Tools<'_, K>) {
        if self.outbox.finished() && self.sending.is_none() && self.write_side == WriteSide::Open {
            tools.kernel.shutdown(&self.socket, self.key);
            self.write_side = WriteSide::Shutting;
        }
    }

    fn give_outbox(&mut self, buffers: &mut Buffers) {
        if self.stored && self.outbox.is_empty() {
            let (storage, _) = self.outbox.swap(Storage::new());
            self.stored = false;
            buffers.give_outbox(storage);
        }
    }

    /// Receives what the road waits for; not more than the quota while it waits for something else.
    fn arm(&mut self, tools: &mut Tools<'_, K>) {
        let wants = match self.next {
            Next::Read { want } if !self.ended => Some(want),
            _ => None,
        };
        let large = wants.is_some_and(|want| want >= LARGE)
            && self.queue.is_empty()
            && self.own.as_mut().is_none_or(|own| !own.spare().is_empty());
        match (self.receiving, wants) {
            (Receiving::Ring { op, cancelled: false }, _) if large || self.queue.len() >= QUOTA => {
                tools.kernel.cancel(op);
                self.receiving = Receiving::Ring { op, cancelled: true };
            }
            (Receiving::No, Some(_)) if large => {
                let own = self.own.take().unwrap_or_else(|| Inbox::new(tools.buffers.inbox()));
                let op = tools.kernel.receive_into(&self.socket, self.key, own);
                self.receiving = Receiving::Own { op, cancelled: false };
            }
            // Only when there is a buffer for it (DRV-10).
            (Receiving::No, Some(_)) if tools.kernel.lent() >= tools.kernel.buffers().0 => {
                self.receiving = Receiving::Starved;
            }
            (Receiving::No, Some(_)) => {
                let op = tools.kernel.receive(&self.socket, self.key);
                self.receiving = Receiving::Ring { op, cancelled: false };
            }
            _ => {}
        }
    }

    /// A buffer is back, and this connection's turn has come.
    pub(crate) fn feed(&mut self, tools: &mut Tools<'_, K>) {
        if self.is_starved() {
            self.receiving = Receiving::No;
            self.arm(tools);
        }
    }

    /// What cannot go on now is not to hold what others wait for: beyond the quota, and when half of the ring's buffers are lent, it is
    /// copied out of them.
    fn spare_the_ring(&mut self, tools: &mut Tools<'_, K>) {
        let crowded = tools.kernel.lent() * 2 > tools.kernel.buffers().0;
        if self.queue.is_empty() || !(crowded || self.queue.len() > QUOTA) {
            return;
        }
        let lap = self.road.as_ref().map(Road::lap);
        for (place, received) in self.queue.iter_mut().enumerate() {
            if crowded || place >= QUOTA {
                received.copy_out();
            }
        }
        if let (Some(road), Some(lap)) = (&self.road, lap) {
            road.lapped(lap);
        }
        if let Some(front) = self.queue.front_mut().filter(|front| crowded && !front.fresh) {
            let mut own = self.own.take().unwrap_or_else(|| Inbox::new(tools.buffers.inbox()));
            carry(&self.road, &mut own, &mut front.inbox, usize::MAX);
            if front.inbox.is_empty() {
                self.queue.pop_front();
            }
            match own.is_empty() {
                true => tools.buffers.give_inbox(own.into_store()),
                false => self.own = Some(own),
            }
        }
    }

    /// It is over. What it holds goes back at once; what is in flight is waited for, or called back if the end is `abrupt`.
    pub(crate) fn close(&mut self, how: How, abrupt: bool, tools: &mut Tools<'_, K>) {
        if let Some(road) = self.road.take() {
            road.over(how);
        }
        self.queue.clear();
        if let Some(own) = self.own.take() {
            tools.buffers.give_inbox(own.into_store());
        }
        let stopped = self.abrupt;
        self.abrupt |= abrupt;
        match self.receiving {
            Receiving::Ring { op, cancelled: false } => {
                tools.kernel.cancel(op);
                self.receiving = Receiving::Ring { op, cancelled: true };
            }
            Receiving::Own { op, cancelled: false } => {
                tools.kernel.cancel(op);
                self.receiving = Receiving::Own { op, cancelled: true };
            }
            Receiving::Starved => self.receiving = Receiving::No,
            _ => {}
        }
        if let Some(sending) = self.sending.filter(|_| self.abrupt && !stopped) {
            tools.kernel.cancel(sending.op);
        }
    }

    /// The last bytes; over when nothing is in flight.
    fn finish(&mut self, tools: &mut Tools<'_, K>) -> Stand {
        if !self.abrupt {
            self.start_send(tools);
        }
        if self.abrupt || self.outbox.is_empty() {
            self.drop_outbox(tools.buffers);
        }
        let receives = matches!(self.receiving, Receiving::Ring { .. } | Receiving::Own { .. });
        let waits = receives || self.sending.is_some() || self.lingering > 0 || self.stored;
        if waits || self.write_side == WriteSide::Shutting { Stand::Waits } else { Stand::Over }
    }

    fn drop_outbox(&mut self, buffers: &mut Buffers) {
        if self.stored {
            let (storage, _) = self.outbox.swap(Storage::new());
            self.stored = false;
            buffers.give_outbox(storage);
        }
    }

    /// When it wants to be looked at even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        // The inbox is on its way back: the turn follows then.
        let away = matches!(self.receiving, Receiving::Own { cancelled: true, .. });
        let road = self.road.as_ref().filter(|_| !away).and_then(Road::deadline);
        [road, self.send_until()].into_iter().flatten().min()
    }

    /// The server stops. What has arrived already was sent in good faith: it is taken, then the connection drains.
    pub(crate) fn drain(&mut self, tools: &mut Tools<'_, K>) -> Stand {
        let stand = self.go_on(tools);
        let Some(road) = &mut self.road else { return stand };
        road.drain();
        self.urgent = true;
        self.go_on(tools)
    }

    /// Its peer has said something, or it is over.
    pub(crate) fn was_heard(&self) -> bool {
        !self.queue.is_empty() || self.ended || self.road.as_ref().is_none_or(Road::was_heard)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.road.as_ref().is_none_or(Road::is_draining)
    }

    /// Nothing is in flight any more.
    pub(crate) fn into_socket(self) -> K::Socket {
        self.socket
    }
}
