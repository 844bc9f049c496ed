//! One go along the road: a unit budget and a flush scope, as a type.

use crate::base::{Instant, Limit, Misuse, Rule, Violation};
use crate::config::Config;
use crate::connection::{Core, Engine, Life};
#[cfg(feature = "tls")]
use crate::decrypt::{Opened, Tls};
use crate::event::{Event, Lent, Raw};
use crate::parse::Id;
use crate::parse::h1::send::RESERVE;
use crate::read::{InboxMut, OutboxMut, Waiting};
use crate::reply::Reply;
use crate::stages;

/// Why a turn ended. Whatever it says: send what `outbox.ready()` holds, and come back at `deadline()`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pause {
    /// At least `want` more bytes are needed before anything can happen: exact where a length says so, else 1.
    Input {
        /// Bytes.
        want: usize,
    },
    /// Send first: the outbox is too full to go on.
    Room,
    /// Only the caller can go on; reading more would be useless.
    Caller(Wait),
    /// The turn's budget is spent, or the turn was ended early: others first, then come back.
    Yield,
    /// All is said and sent: close the socket. Nothing more will happen.
    Closed,
}

/// What the caller has to do before more can happen.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wait {
    /// Answer this exchange.
    Reply(Id),
    /// Release what was lent to this exchange.
    Release(Id),
    /// Choose a TLS configuration: [`Turn::choose`].
    Config,
    /// Fetch the job with [`Turn::job`], run it, bring it back with [`Turn::done`].
    Job,
}

pub(crate) enum Step {
    Again,
    Event(Raw),
    Pause(Pause),
}

/// A turn: buffers in place, a budget granted, output invisible until it ends.
#[must_use]
#[derive(Debug)]
pub struct Turn<'t> {
    pub(crate) config: &'t Config,
    pub(crate) core: &'t mut Core,
    pub(crate) inbox: InboxMut<'t>,
    pub(crate) outbox: OutboxMut<'t>,
    units: u64,
    pause: Option<Pause>,
}

impl<'t> Turn<'t> {
    pub(crate) fn begin(
        config: &'t Config,
        core: &'t mut Core,
        now: Instant,
        mut inbox: InboxMut<'t>,
        mut outbox: OutboxMut<'t>,
    ) -> Result<Turn<'t>, Misuse> {
        inbox.release();
        if core.held_over > 0 && (inbox.at.stamp != core.stamp || inbox.unconsumed() < core.held_over) {
            return Err(Misuse::ForeignInbox);
        }
        if !inbox.at.loan && inbox.capacity() < config.least_inbox_bytes() {
            return Err(Misuse::InboxTooSmall);
        }
        if outbox.capacity() < config.least_outbox_bytes() {
            return Err(Misuse::OutboxTooSmall);
        }
        core.pace.tick(now, outbox.sent(), outbox.unsent());
        #[cfg(feature = "alloc")]
        if core.no_room {
            core.h2_resume();
        }
        outbox.make_room();
        if core.stages.is_some() {
            outbox.take_said(); // of whoever had it before
        }
        #[cfg(feature = "tls")]
        outbox.sealing(core.tls.as_ref().map(sealing));
        Ok(Turn { config, core, inbox, outbox, units: config.limits().get(Limit::TurnUnits), pause: None })
    }

    /// The next event, on loan until the next call. `None`: the turn is over, [`Turn::finish`] says why.
    #[allow(clippy::should_implement_trait)] // lends: an iterator's items could not borrow from it
    pub fn next(&mut self) -> Option<Event<'_>> {
        self.inbox.release();
        if self.pause.is_some() {
            return None;
        }
        loop {
            match self.measured_step() {
                Step::Again => {}
                Step::Event(raw) => {
                    self.core.stats.events += 1;
                    return Some(self.lend(raw));
                }
                Step::Pause(pause) => {
                    #[cfg(feature = "alloc")]
                    if matches!(pause, Pause::Input { .. } | Pause::Caller(_)) && self.flush_coders() {
                        continue;
                    }
                    self.pause = Some(pause);
                    return None;
                }
            }
        }
    }

    /// The handle of an exchange, to answer it outside its events. `None`: it is over, by a complete response or by the peer,
    /// and that is nobody's mistake.
    pub fn reply(&mut self, id: Id) -> Option<Reply<'_>> {
        if self.core.fault.is_some() || self.core.life != Life::Open || !self.core.is_open(id) {
            return None;
        }
        self.pause = None;
        Some(Reply {
            id,
            exchanges: &mut self.core.exchanges,
            out: self.outbox.reborrow(RESERVE),
            limits: self.config.limits(),
            #[cfg(feature = "alloc")]
            coders: self.core.coders.as_mut(),
        })
    }

    /// An exchange that waits for nothing but its handler: its request is complete, or unwanted, or held back by the handler, and
    /// what was said so far is sent as far as it can be. Those that are `awaited` from elsewhere are passed over. For drivers whose handlers act in
    /// their events: nobody will answer it any more. In HTTP/1.1 the turn ends with [`Wait::Reply`] then; in HTTP/2 there is always more to read.
    /// Known once a turn waits for input or for its caller.
    pub fn unanswered(&self, awaited: impl Fn(Id) -> bool) -> Option<Id> {
        if !matches!(self.pause, Some(Pause::Input { .. } | Pause::Caller(_))) {
            return None;
        }
        #[cfg(feature = "alloc")]
        if let crate::reply::Exchanges::H2(streams) = &self.core.exchanges {
            let stuck = streams.iter().find(|(_, s)| s.is_up_to_its_handler() && !awaited(Id(s.shared.id)));
            return stuck.map(|(_, s)| Id(s.shared.id));
        }
        match self.pause {
            Some(Pause::Caller(Wait::Reply(id))) => Some(id).filter(|&id| !awaited(id)),
            _ => None,
        }
    }

    /// Chooses the TLS configuration that [`Wait::Config`] waits for.
    #[cfg(feature = "tls")]
    pub fn choose(&mut self, config: crate::decrypt::TlsConfig) {
        self.core.choice = Some(Ok(config));
        self.pause = None;
    }

    /// The job that [`Wait::Job`] waits for: a body, whole, to be decoded and checked anywhere. It is handed out once. In HTTP/2 there
    /// may be one for each stream.
    #[cfg(feature = "alloc")]
    pub fn job(&mut self) -> Option<crate::decode::job::Job> {
        if matches!(self.core.engine, Engine::H2(_)) {
            return self.job_h2();
        }
        let x = self.core.current()?;
        let (id, max) = (x.shared.id, x.shared.expect.whole()?);
        self.core.delivery.take_job(id, max, self.config.limits())
    }

    /// Brings a job's result back. False: its exchange is gone, the result is dropped. What is back and not handed out yet counts as
    /// gathered: a result for which [`Limit::GatherBytes`] leaves no room beside the others ends its stream with 503.
    #[cfg(feature = "alloc")]
    pub fn done(&mut self, done: crate::decode::job::Done) -> bool {
        let current = self.core.current().map(|x| x.shared.id);
        let taken = match self.core.engine {
            Engine::H2(_) => self.done_h2(done),
            _ => current == Some(done.id) && self.core.delivery.put_job(done),
        };
        if taken {
            self.pause = None;
        }
        taken
    }

    /// Ends the turn: what was lent is consumed, what was written is sealed and ready. Says what to wait for.
    pub fn finish(self) -> Pause {
        self.pause.unwrap_or(Pause::Yield)
    }

    /// A step, and what it cost the parser: all of it that no other stage took.
    fn measured_step(&mut self) -> Step {
        if self.core.stages.is_none() {
            return self.step();
        }
        let others = |core: &Core| {
            let stats = core.stage_stats();
            stats.decrypt.ticks.saturating_add(stats.decode.ticks)
        };
        let (before, offset) = (others(self.core), self.core.offset);
        let since = stages::start(&self.core.stages);
        let step = self.step();
        let taken = others(self.core).saturating_sub(before);
        let bytes = self.core.offset - offset;
        stages::stop(&mut self.core.stages, stages::parse, since.saturating_add(taken), (bytes, 1));
        step
    }

    fn step(&mut self) -> Step {
        match self.core.life {
            Life::Open => {}
            Life::Closing => return self.say_goodbye(),
            Life::Lingering => return self.linger(),
            Life::Closed => {
                self.drop_input();
                return Step::Pause(Pause::Closed);
            }
        }
        if let Some(violation) = self.core.fault {
            return self.fault(violation);
        }
        if self.units == 0 {
            return Step::Pause(Pause::Yield);
        }
        self.units -= 1;
        self.core.stats.units += 1;
        if self.core.pace.output_due(self.config.limits()) {
            self.core.fail(Violation::over(Rule::ReaderTooSlow, self.core.offset, self.config.limits()));
            return Step::Again;
        }
        if let Some(step) = self.await_source() {
            return step;
        }
        if !self.flush_tls() {
            return Step::Pause(Pause::Room);
        }
        if self.outbox.room() < self.config.limits().size(Limit::ReplyRoomBytes) + RESERVE as usize {
            return Step::Pause(Pause::Room);
        }
        if self.handshaking() {
            return self.more(1);
        }
        #[cfg(feature = "alloc")]
        if !self.core.settled
            && let Some(step) = self.settle()
        {
            return step;
        }
        match self.core.engine {
            Engine::H1(_) => self.step_h1(),
            #[cfg(feature = "alloc")]
            Engine::H2(_) => self.step_h2(),
        }
    }

    pub(crate) fn handshaking(&mut self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.core.tls {
            return tls.is_handshaking();
        }
        self.inbox.all_plain();
        false
    }

    /// More plaintext, or why not: opens one record in place.
    pub(crate) fn more(&mut self, want: usize) -> Step {
        if self.core.peer_ended {
            let n = self.inbox.raw().len();
            self.inbox.drop_raw(n);
            return self.ended(None);
        }
        #[cfg(feature = "tls")]
        if self.core.tls.is_some() {
            return self.open();
        }
        if self.inbox.at.eof {
            return self.ended(None);
        }
        self.starved(want)
    }

    #[cfg(feature = "tls")]
    fn open(&mut self) -> Step {
        let (limits, now) = (self.config.limits(), self.core.pace.now);
        let Core { tls, choice, hello_shown, stages, .. } = &mut *self.core;
        let Some(tls) = tls else { return Step::Again };
        match choice.take() {
            Some(Ok(config)) => tls.choose(&config),
            Some(Err(rule)) => {
                let violation = Violation::new(rule, 0);
                tls.fail(violation);
                self.core.fail(violation);
                return Step::Again;
            }
            None => {}
        }
        let handshaking = tls.is_handshaking();
        let since = stages::start(stages);
        let opened = tls.open(limits, now, self.inbox.raw());
        let total = match opened {
            Ok(Opened::Consumed { total } | Opened::Plain { total, .. } | Opened::Closed { total }) => total,
            _ => 0,
        };
        stages::stop(stages, stages::decrypt, since, (total as u64, u64::from(total > 0)));
        if handshaking {
            self.outbox.sealing(Some(sealing(tls)));
        }
        match opened {
            Ok(Opened::Need { want }) => {
                if !self.inbox.at.eof {
                    return self.starved(want);
                }
                let truncated = tls.end().err();
                return self.ended(truncated);
            }
            Ok(Opened::Consumed { total }) => self.inbox.drop_raw(total),
            Ok(Opened::Plain { total, skip, len }) => {
                self.inbox.join(skip, len, total);
                self.core.stats.opened_records += 1;
            }
            Ok(Opened::Hello) if *hello_shown => return Step::Pause(Pause::Caller(Wait::Config)),
            Ok(Opened::Hello) => {
                *hello_shown = true;
                self.core.pace.pause();
                return Step::Event(Raw::Hello);
            }
            Ok(Opened::Closed { total }) => {
                self.inbox.drop_raw(total);
                self.core.peer_ended = true;
            }
            Err(violation) => {
                tls.fail(violation);
                self.core.fail(violation);
            }
        }
        Step::Again
    }

    /// Input is needed and there is none: for how long, and is there room for it?
    fn starved(&mut self, want: usize) -> Step {
        let waiting = match () {
            () if self.handshaking() => Waiting::Handshake,
            () => self.core.waiting(),
        };
        if waiting == Waiting::Handshake {
            self.core.pace.since_accept(waiting);
        } else {
            self.core.pace.body.here(u64::from(self.inbox.unconsumed()), self.config.limits());
            self.core.pace.wait(waiting);
        }
        if let Some(why) = self.core.pace.input_due(self.config.limits()) {
            return self.timed_out(why);
        }
        #[cfg(feature = "alloc")]
        if let Some(step) = self.judge_h2() {
            return step;
        }
        if self.inbox.is_full() && !self.inbox.at.loan {
            let at = self.core.offset + self.inbox.plain().len() as u64;
            self.core.fail(Violation::new(Rule::HeadOverInbox, at));
            return Step::Again;
        }
        // What an inbox of the caller's own cannot hold at once comes in parts.
        let free = self.inbox.capacity().saturating_sub(self.inbox.unconsumed() as usize);
        Step::Pause(Pause::Input { want: if self.inbox.at.loan { want } else { want.min(free) } })
    }

    /// An exchange has its turn to write: what is coded of it goes first. True: its handler is to be asked for more.
    pub(crate) fn pump(&mut self, id: u64) -> bool {
        #[cfg(feature = "alloc")]
        if let Some(coders) = &mut self.core.coders {
            let mut out = self.outbox.reborrow(RESERVE);
            let limits = self.config.limits();
            let pumped = crate::reply_coded::pump(coders, &mut self.core.exchanges, id, &mut out, limits);
            return pumped.is_none_or(|pumped| pumped == crate::coded::Pumped::Writable);
        }
        #[cfg(not(feature = "alloc"))]
        let _ = id;
        true
    }

    /// There is nothing else to do: what handlers wrote and an encoder keeps goes out. True: some did.
    #[cfg(feature = "alloc")]
    fn flush_coders(&mut self) -> bool {
        let Some(id) = self.core.coders.as_mut().and_then(crate::coded::Coders::next_flush) else { return false };
        self.pump(id);
        true
    }

    /// Seals what is open and puts TLS's own records behind it. False if there is no room for them yet.
    pub(crate) fn flush_tls(&mut self) -> bool {
        #[cfg(feature = "tls")]
        if self.core.tls.as_ref().is_some_and(|tls| tls.pending() > 0) {
            self.seal();
            return self.core.tls.as_ref().is_none_or(|tls| tls.pending() == 0);
        }
        true
    }

    /// What is open becomes records, and TLS's own follow. What cannot be sealed is lost, and the connection with it.
    #[cfg(feature = "tls")]
    fn seal(&mut self) {
        let Core { tls, stages, offset, .. } = &mut *self.core;
        let Some(tls) = tls else { return };
        let (since, mut bytes, mut count) = (stages::start(stages), 0, 0);
        let mut sealed = Ok(());
        let all = self.outbox.seal(|record, len| match tls.seal(record, len) {
            Ok(n) => {
                (bytes, count) = (bytes + n as u64, count + 1);
                Some(n)
            }
            Err(violation) => {
                sealed = Err(violation);
                None
            }
        });
        if count > 0 {
            stages::stop(stages, stages::decrypt, since, (bytes, count));
        }
        if all {
            sealed = Ok(());
        } else if sealed.is_ok() {
            sealed = Err(Violation::new(Rule::TlsInternal, *offset));
        }
        if let Err(violation) = sealed {
            tls.fail(violation);
        }
        if tls.pending() > 0 {
            self.outbox.put_raw(|room| tls.flush(room));
        }
        if let Err(violation) = sealed {
            self.core.fail(violation);
        }
    }

    /// Consumes the first `n` plaintext bytes.
    pub(crate) fn eat(&mut self, n: usize) {
        self.inbox.eat(n);
        self.core.offset += n as u64;
    }

    /// The first `n` plaintext bytes go out with an event.
    pub(crate) fn lend_inbox(&mut self, n: usize) -> Lent {
        self.inbox.lend(n);
        self.core.offset += n as u64;
        Lent::Inbox(n as u32)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inbox.release();
        #[cfg(feature = "tls")]
        match self.core.tls.is_some() {
            true => self.seal(),
            false => _ = self.outbox.seal(|_, _| None),
        }
        #[cfg(not(feature = "tls"))]
        self.outbox.seal(|_, _| None);
        if matches!(self.pause, Some(Pause::Caller(_) | Pause::Room)) {
            self.core.pace.pause();
        }
        #[cfg(feature = "alloc")]
        {
            self.core.no_room = self.pause == Some(Pause::Room);
        }
        stages::said(&mut self.core.stages, || self.outbox.take_said());
        self.core.pace.tock(self.outbox.unsent(), self.config.limits());
        self.core.stats.moved_bytes = self.inbox.moved();
        self.core.stamp = self.core.stamp.wrapping_add(1).max(1);
        self.inbox.at.stamp = self.core.stamp;
        self.core.held_over = self.inbox.unconsumed();
    }
}

/// How the outbox lays out records: known once the handshake is done, and not needed before.
#[cfg(feature = "tls")]
fn sealing(tls: &Tls) -> crate::read::Sealing {
    let (header, trailer) = (tls.header() as u32, tls.trailer() as u32);
    crate::read::Sealing { header, trailer, fragment: Tls::FRAGMENT as u32 }
}
