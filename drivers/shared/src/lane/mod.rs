//! In: the bytes and the time of one connection, and letters. Out: its answers in the outbox, and what its driver is to do next.
//!
//! A lane is a connection without its socket: what every driver would do alike. It knows where each part of the work is done:
//! here, on the driver's thread, or elsewhere, to come back by mail. A driver sees no difference but [`Next::Wait`].
//!
//! ```text
//!   inbox --> [ machine, service ] --> outbox            here
//!   inbox --> own inbox ==> pool: [ machine, service ] ==> own outbox --> outbox    elsewhere, for a turn
//! ```

mod records;
mod served;
#[cfg(test)]
mod tests;

use crate::incident::What;
use crate::later::{Part, Post};
use crate::pool::Pool;
use crate::port::{Port, Right};
use crate::probe::{self, Ends, Lap, Stage, Tap};
use crate::service::Peer;
use crate::shared::Shared;
use records::{Cipher, Records, State};
use served::{Served, Went};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vestibule::decode::job::Done;
use vestibule::decrypt::Tls;
use vestibule::{Config, Connection, Id, Inbox, Instant, Limit, Misuse, Outbox, Pause, Why};

/// How long a request may be on its way to a connection that is to end.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// What a driver does next for a connection. Before anything else it writes what `outbox.ready()` holds, as far as it goes, and shuts the
/// write side down once `outbox.finished()`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// Read: at least `want` bytes are needed. Then, or at the deadline, another turn.
    Read {
        /// Bytes.
        want: usize,
    },
    /// Nothing goes on before some of the outbox is written. Then, or at the deadline, another turn.
    Write,
    /// Another turn, after those of others.
    Again,
    /// A letter comes; until then there is nothing to read for. At the deadline another turn.
    Wait,
    /// It is over: close the socket.
    Close(How),
}

/// How a connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// As HTTP and TLS want it.
    Closed,
    /// The peer is gone; one counter, and no line in the log for each (DRV-06).
    Reset,
    /// We cut it off.
    Cut,
}

/// What comes by mail for one connection; only its lane can read it.
pub struct Letter(Inside);

enum Inside {
    Answer(Id, Part),
    Done(Box<Done>),
    /// The connection itself, back from elsewhere.
    Back(Box<Parcel>),
    /// Its records, back from a crypto thread.
    Records(Box<Cipher>),
    /// There is room again where it is to go.
    Room,
    /// Who was to answer has panicked.
    Panic,
}

impl Letter {
    pub(crate) fn answer(id: Id, part: Part) -> Letter {
        Letter(Inside::Answer(id, part))
    }

    pub(crate) fn panic() -> Letter {
        Letter(Inside::Panic)
    }

    fn done(done: Done) -> Letter {
        Letter(Inside::Done(Box::new(done)))
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inside::Answer(..) => "Letter(answer)",
            Inside::Done(_) => "Letter(done)",
            Inside::Back(_) => "Letter(back)",
            Inside::Records(_) => "Letter(records)",
            Inside::Room => "Letter(room)",
            Inside::Panic => "Letter(panic)",
        })
    }
}

/// The buffers of a connection whose turns are taken elsewhere. Wherever they are dropped, their storages go back.
struct Own {
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Own {
    fn of(shared: &Arc<Shared>) -> Own {
        let mut storages = shared.storages();
        let (inbox, outbox) = (Inbox::new(storages.inbox()), Outbox::new(storages.outbox()));
        Own { inbox, outbox, shared: shared.clone() }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let inbox = std::mem::replace(&mut self.inbox, Inbox::new(Vec::new()));
        let outbox = std::mem::replace(&mut self.outbox, Outbox::new(Vec::new()));
        let mut storages = self.shared.storages();
        storages.give_inbox(inbox.into_store());
        storages.give_outbox(outbox.into_store());
    }
}

/// A connection on its way to another thread and back.
struct Parcel {
    served: Box<Served>,
    own: Own,
    went: Result<Went, Misuse>,
}

/// What kind of connection begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Begin {
    /// With a PROXY header.
    pub(crate) proxied: bool,
    /// Only to be told that there are too many.
    pub(crate) overloaded: bool,
}

impl Begin {
    fn begin(self, connection: Connection<Arc<Config>>) -> Connection<Arc<Config>> {
        if self.overloaded { connection.overloaded() } else { connection }
    }
}

/// One connection, without its socket. See the head of this file.
pub struct Lane {
    shared: Arc<Shared>,
    port: Arc<Port>,
    peer: Peer,
    post: Post,
    /// `None`: it is elsewhere.
    served: Option<Box<Served>>,
    own: Option<Own>,
    /// Its records are opened and sealed elsewhere.
    records: Option<Records>,
    /// What came while it was elsewhere.
    letters: Vec<Letter>,
    last: Option<Went>,
    /// Since then something has left the outbox of its own.
    room_made: bool,
    /// Something has happened that the last turn does not know of.
    news: bool,
    ended: bool,
    /// It is over, and this is how long the driver may take to send its last bytes.
    closing: Option<Instant>,
    /// It waits for room where it is to go.
    parked: bool,
    draining: bool,
    /// Until then a request that may be on its way is waited for.
    leaving: Option<Instant>,
    heard: bool,
    tap: Option<Tap>,
    how: Begin,
    /// With the lane and with what it sends elsewhere.
    right: Arc<Mutex<Right>>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("peer", &self.peer).field("here", &self.served.is_some()).finish_non_exhaustive()
    }
}

impl Lane {
    pub(crate) fn new(shared: Arc<Shared>, port: Arc<Port>, peer: Peer, post: Post, right: Right, how: Begin) -> Lane {
        let (now, right) = (shared.now(), Arc::new(Mutex::new(right)));
        let (records, served) = match (&port.tls, &shared.pools.records) {
            (Some(tls), Some(_)) => {
                let tls = Tls::new(&tls.config());
                (Some(Records::new(tls, port.config.clone(), port.clone(), how.proxied, now)), None)
            }
            _ => {
                let config = port.proxies.as_ref().filter(|_| how.proxied).map_or(&port.config, |(_, config)| config);
                let connection = how.begin(Connection::new(config.clone(), now));
                (None, Some(Box::new(Served::new(connection, &shared, &port, peer, &post, &right))))
            }
        };
        Lane {
            served,
            own: None,
            records,
            tap: shared.probe.clone().map(Tap::new),
            letters: Vec::new(),
            shared,
            port,
            peer,
            post,
            last: None,
            room_made: false,
            news: true,
            ended: false,
            closing: None,
            parked: false,
            draining: false,
            leaving: None,
            heard: false,
            how,
            right,
        }
    }

    /// One go: events to the service, its answers into the outbox. The inbox may be another one than last time if it was left empty, and so
    /// may the outbox.
    pub fn turn<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        self.heard |= !inbox.is_empty();
        if self.leaving.is_some_and(|until| until <= now) {
            (self.leaving, self.news) = (None, true);
            if !self.heard {
                return Next::Close(How::Closed); // it has never said anything
            }
            self.drain_served();
        }
        if self.parked {
            return Next::Wait;
        }
        if let Some(tap) = &mut self.tap {
            tap.turn(Ends { inbox: inbox.len(), outbox: outbox.ready().len() });
        }
        let next = match self.records.take() {
            None => self.turn_plain(now, inbox, outbox),
            Some(mut records) => {
                let next = self.turn_behind(&mut records, now, inbox, outbox);
                self.records = Some(records);
                next
            }
        };
        if let Some(tap) = &mut self.tap {
            let ends = Ends { inbox: inbox.len(), outbox: outbox.ready().len() };
            tap.turned(ends, next == Next::Write);
        }
        next
    }

    /// For the probe: its driver begins to read or to write. What comes and goes is counted without; this is for the time.
    pub fn lap(&self) -> Lap {
        Tap::lap(self.tap.as_ref())
    }

    /// That is done.
    pub fn lapped(&self, stage: Stage, lap: Lap) {
        if let Some(tap) = &self.tap {
            tap.lapped(stage, lap);
        }
    }

    /// A turn behind records that are opened and sealed elsewhere.
    fn turn_behind<S, T>(
        &mut self,
        records: &mut Records,
        now: Instant,
        inbox: &mut Inbox<S>,
        outbox: &mut Outbox<T>,
    ) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        let mut plain = records.plain.take().unwrap_or_else(|| Own::of(&self.shared));
        let next = match records.come(now, &mut plain, outbox) {
            State::Away => Next::Wait,
            State::Failed(violation) => {
                self.shared.tell(Some(self.peer), What::Fault(violation));
                Next::Again
            }
            State::Leaving => self.leave(records, now, inbox, outbox),
            State::Handshake => Next::Read { want: 1 },
            State::Left => Next::Close(How::Closed),
            State::Established(session) => {
                let connection = Connection::protected(self.port.config.clone(), now, *session);
                let connection = match records.source() {
                    Some(ends) => connection.with_source(Some(ends)),
                    None => connection,
                };
                let connection = self.how.begin(connection);
                let mut served = Served::new(connection, &self.shared, &self.port, self.peer, &self.post, &self.right);
                if let Some(ends) = records.source() {
                    served.is_for(ends);
                }
                self.served = Some(Box::new(served));
                if self.draining {
                    self.drain_served();
                }
                self.turn_plain(now, &mut plain.inbox, &mut plain.outbox)
            }
            State::Open => self.turn_plain(now, &mut plain.inbox, &mut plain.outbox),
        };
        let next = match records.go(&mut plain, inbox) {
            Some(cipher) => {
                self.send_records(records, cipher);
                Next::Wait
            }
            None if records.waits_for_room() => Next::Write,
            None => match next {
                Next::Close(how) => self.close(how, now, outbox),
                next => next,
            },
        };
        let idle = plain.inbox.is_empty() && !plain.inbox.ended() && plain.outbox.is_empty();
        match idle && !plain.outbox.finished() {
            true => drop(plain),
            false => records.plain = Some(plain),
        }
        next
    }

    /// The peer broke a rule of TLS, and is told: it is read until it leaves (RFC 9112 §9.6), but not for long.
    fn leave<S, T>(&mut self, records: &Records, now: Instant, inbox: &mut Inbox<S>, outbox: &Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        self.served = None;
        while inbox.read(&mut [0; 4_096]) > 0 {}
        if inbox.ended() || records.deadline().is_some_and(|deadline| deadline <= now) {
            return Next::Close(How::Closed);
        }
        if outbox.is_empty() { Next::Read { want: 1 } } else { Next::Write }
    }

    /// To a crypto thread. If there is no room for it, it waits for some.
    fn send_records(&mut self, records: &mut Records, cipher: Box<Cipher>) {
        let Some(pool) = self.shared.pools.records.clone() else { return };
        let (post, shared) = (self.post.clone(), self.shared.clone());
        let sent = pool.send(cipher, move |mut cipher| {
            let (since, bytes) = (shared.probe().map(|_| probe::now()), cipher.waiting());
            cipher.work(shared.now());
            if let (Some(probe), Some(since)) = (shared.probe(), since) {
                probe.took(Stage::Decrypt, since, bytes, 1);
            }
            post.send(Letter(Inside::Records(cipher)));
        });
        if let Some(cipher) = sent {
            records.stays(cipher);
            self.park(&pool);
        }
    }

    /// A turn follows when there is room.
    fn park(&mut self, pool: &Pool) {
        (self.parked, self.news) = (true, true);
        let post = self.post.clone();
        pool.when_room(Box::new(move || post.send(Letter(Inside::Room))));
    }

    fn turn_plain<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        let Some(served) = &mut self.served else { return Next::Wait };
        for letter in self.letters.drain(..) {
            served.letter(letter);
            self.news = true;
        }
        if self.own.is_none() && self.shared.pools.never_move() {
            // The common case: all of it happens here.
            let went = served.go(now, inbox, outbox);
            return self.next(went, !outbox.is_empty());
        }
        self.turn_apart(now, inbox, outbox)
    }

    /// The same with buffers of its own between the driver's and the machine.
    fn turn_apart<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        if let Some(own) = &mut self.own {
            self.room_made |= outbox.carry(&mut own.outbox) > 0;
        }
        self.rest();
        // What has never said anything has nothing to be done elsewhere.
        let is_new = self.last.is_none() && self.own.is_none() && inbox.is_empty();
        let pool = if is_new { None } else { self.destination().cloned() };
        if pool.is_none() && self.own.is_none() {
            let Some(served) = &mut self.served else { return Next::Wait };
            let went = served.go(now, inbox, outbox);
            return self.next(went, !outbox.is_empty());
        }
        let mut own = self.own.take().unwrap_or_else(|| Own::of(&self.shared));
        let carried = own.inbox.carry(inbox, usize::MAX) > 0;
        let ended = own.inbox.ended() && !std::mem::replace(&mut self.ended, own.inbox.ended());
        let due = self.deadline_here().is_some_and(|deadline| deadline <= now);
        let last = self.last.map(|went| (went.pause, went.held));
        // What waits for room goes on once there is more of it; what waits for the peer's window has to be read for.
        let on = match last {
            None | Some((Pause::Yield, _)) => true,
            Some((Pause::Room, _) | (_, true)) => self.room_made,
            Some(_) => false,
        };
        if !(carried || ended || due || on || self.news) {
            self.own = Some(own);
            self.rest();
            return self.next_of_last(now, outbox);
        }
        (self.news, self.room_made) = (false, false);
        match (pool, self.served.take()) {
            (Some(pool), Some(served)) => self.send_away(now, &pool, served, own),
            (None, Some(served)) => self.go_apart(now, served, own),
            (_, None) => return Next::Wait,
        }
        if let Some(own) = &mut self.own {
            self.room_made |= outbox.carry(&mut own.outbox) > 0;
        }
        self.next_of_last(now, outbox)
    }

    /// An idle connection holds no buffer.
    fn rest(&mut self) {
        let idle = |own: &Own| own.inbox.is_empty() && own.outbox.is_empty() && !own.outbox.finished();
        if self.own.as_ref().is_some_and(idle) {
            self.own = None;
        }
    }

    /// A turn here, in buffers of its own.
    fn go_apart(&mut self, now: Instant, mut served: Box<Served>, mut own: Own) {
        let went = served.go(now, &mut own.inbox, &mut own.outbox);
        self.home(Parcel { served, own, went });
    }

    /// A turn elsewhere. If there is no room for it, requests that are new are refused here, and those that are under way wait.
    fn send_away(&mut self, now: Instant, pool: &Pool, served: Box<Served>, own: Own) {
        let (post, shared) = (self.post.clone(), self.shared.clone());
        let parcel = Parcel { served, own, went: Err(Misuse::Gone) };
        let sent = pool.send(parcel, move |mut parcel| {
            parcel.went = parcel.served.go(shared.now(), &mut parcel.own.inbox, &mut parcel.own.outbox);
            post.send(Letter(Inside::Back(Box::new(parcel))));
        });
        let Some(Parcel { mut served, own, .. }) = sent else { return };
        let handshaking = self.records.is_none() && self.port.tls.is_some() && served.connection().session().is_none();
        if !handshaking && served.connection().is_between() {
            served.refuse_new(true);
            self.go_apart(now, served, own);
            if let Some(served) = &mut self.served {
                served.refuse_new(false);
            }
            return;
        }
        (self.served, self.own) = (Some(served), Some(own));
        self.park(pool);
    }

    fn home(&mut self, parcel: Parcel) {
        let Parcel { mut served, own, went } = parcel;
        match self.leaving {
            Some(_) => served.retire(),
            None if self.draining => served.drain(),
            None => {}
        }
        self.last = match went {
            Ok(went) => Some(went),
            Err(misuse) => {
                self.shared.tell(Some(self.peer), What::Misuse(misuse));
                None
            }
        };
        (self.served, self.own) = (Some(served), Some(own));
    }

    /// Where the next turn is to be taken; `None`: here.
    fn destination(&self) -> Option<&Pool> {
        let served = self.served.as_ref()?;
        let pools = &self.shared.pools;
        if self.records.is_none() && self.port.tls.is_some() && served.connection().session().is_none() {
            return pools.handshakes.as_ref();
        }
        pools.turns.as_ref()
    }

    fn next(&mut self, went: Result<Went, Misuse>, unsent: bool) -> Next {
        match went {
            Ok(went) => {
                self.last = Some(went);
                what_next(went, unsent)
            }
            Err(misuse) => {
                self.shared.tell(Some(self.peer), What::Misuse(misuse));
                Next::Close(How::Cut)
            }
        }
    }

    fn next_of_last<T: AsRef<[u8]> + AsMut<[u8]>>(&mut self, now: Instant, outbox: &Outbox<T>) -> Next {
        if self.served.is_none() || self.parked {
            return Next::Wait;
        }
        let waits = self.own.as_ref().is_some_and(|own| !own.outbox.is_empty());
        match self.last.map(|went| what_next(went, waits || !outbox.is_empty())) {
            // What it gives up is not sent any more: a reader that was too slow would not take it.
            Some(Next::Close(how)) if waits => Next::Close(how),
            Some(Next::Close(how)) => self.close(how, now, outbox),
            _ if waits => Next::Write,
            Some(next) => next,
            None => Next::Close(How::Cut),
        }
    }

    /// To the machine all is sent; what of it is still with the driver has a while to go out.
    fn close<T: AsRef<[u8]> + AsMut<[u8]>>(&mut self, how: How, now: Instant, outbox: &Outbox<T>) -> Next {
        let limits = self.port.config.limits();
        let wait = limits.get(Limit::LingerMs).max(limits.get(Limit::RateGraceMs));
        let closing = *self.closing.get_or_insert(now.after(Duration::from_millis(wait)));
        if outbox.is_empty() || closing <= now { Next::Close(how) } else { Next::Write }
    }

    /// A letter of the mailbox for this lane's key. A turn has to follow.
    pub fn receive(&mut self, letter: Letter) {
        match letter.0 {
            Inside::Back(parcel) => self.home(*parcel),
            Inside::Records(cipher) => {
                if let Some(records) = &mut self.records {
                    records.back(cipher);
                }
            }
            Inside::Room => (self.parked, self.news) = (false, true),
            Inside::Panic => self.shared.tell(Some(self.peer), What::Panic),
            _ => self.letters.push(letter),
        }
    }

    /// When a turn is to be taken even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let records = self.records.as_ref().and_then(Records::deadline);
        match self.parked {
            true => None,
            false => [records, self.deadline_here(), self.closing, self.leaving].into_iter().flatten().min(),
        }
    }

    fn deadline_here(&self) -> Option<Instant> {
        self.served.as_ref()?.connection().deadline().map(|deadline| deadline.at)
    }

    /// Ends gracefully: what is in flight is answered. HTTP/2 takes nothing new (GOAWAY); in HTTP/1.1 a request may be on its way that
    /// nobody could tell of, so the next answer is the last, and who is silent for half a second is left. A turn has to follow.
    pub fn drain(&mut self) {
        if !self.draining {
            (self.draining, self.news) = (true, true);
            self.leaving = Some(self.shared.now().after(ON_ITS_WAY));
            self.drain_served();
        }
    }

    fn drain_served(&mut self) {
        match (&mut self.served, self.leaving) {
            (Some(served), Some(_)) => served.retire(),
            (Some(served), None) => served.drain(),
            (None, _) => {}
        }
    }

    /// [`Lane::drain`] was said.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Something has been received: a peer that never said anything can be left without a word.
    pub fn was_heard(&self) -> bool {
        self.heard
    }

    /// No exchange is under way, as far as is known here.
    pub fn is_between(&self) -> bool {
        self.served.as_ref().is_some_and(|served| served.connection().is_between())
    }

    /// What the next deadline is about.
    pub fn why(&self) -> Option<Why> {
        Some(self.served.as_ref()?.connection().deadline()?.why)
    }

    /// Requests that have begun.
    pub fn requests(&self) -> u64 {
        self.served.as_ref().map_or(0, |served| served.connection().stats().requests)
    }

    /// HTTP/2 is spoken, and a request has come.
    pub fn has_streams(&self) -> bool {
        self.served.as_ref().is_some_and(|served| served.has_streams())
    }

    /// Frees what is only kept for the next request.
    pub fn shed(&mut self) {
        if let Some(served) = &mut self.served {
            served.shed();
        }
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> &vestibule::Limits {
        self.port.config.limits()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Counts how it ended. The lane is to be dropped then, whatever it still holds.
    pub fn over(mut self, how: How) {
        if let Some(tap) = &mut self.tap {
            tap.over(how);
        }
        let counts = &self.shared.counts;
        match how {
            How::Closed => {}
            How::Reset => drop(counts.resets.fetch_add(1, Ordering::Relaxed)),
            How::Cut => drop(counts.cut.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn what_next(went: Went, unsent: bool) -> Next {
    let Went { pause, awaits, held } = went;
    match pause {
        Pause::Closed => Next::Close(How::Closed),
        Pause::Yield => Next::Again,
        Pause::Room => Next::Write,
        // An answer that waits for room has it once some is written.
        _ if held && unsent => Next::Write,
        Pause::Input { want } => Next::Read { want },
        Pause::Caller(_) if awaits => Next::Wait,
        Pause::Caller(_) => Next::Again,
    }
}
