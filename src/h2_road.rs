//! HTTP/2 on the road: many exchanges at once, each body decoded and delivered as its handler wants it, credit for every byte.
//!
//! A step does the first of these that there is to do: end the last loan, look after a stream that its handler did something
//! with, go on with a body that is under way, read the next thing from the input, give a response its turn to write. What a body
//! goes through is in `h2_body.rs`. Slightly long: the steps read best beside each other, in their order.

use crate::base::memory::{Held, NoMemory};
use crate::base::{Instant, Limit, Rule, Violation};
use crate::connection::{Core, Engine};
use crate::decode::coding::{ACCEPT, Coding, Decoder};
use crate::delivery::{Delivery, held};
use crate::event::{Fields, Lent, Raw};
use crate::h2_close::{Goodbye, arm, watch_stall};
use crate::parse::h2::{
    self, At, CANCEL, Item, NO_ERROR, REFUSED_STREAM, Sending, State, Stream, Streams, may_read_on, put_reset,
    put_window_update,
};
use crate::parse::{Content, Expect};
use crate::read::Waiting;
use crate::reply::Exchanges;
use crate::turn::{Pause, Step, Turn, Wait};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Responses are given a turn at least so often while there is input.
const WRITE_EVERY: u64 = 32;
/// After so long without a stream, what only a crowd of them needed is given back.
const QUIET_MS: u64 = 1_000;

/// The receiving side of a connection.
#[derive(Debug)]
pub(crate) struct H2 {
    pub(crate) receiver: h2::Receiver,
    /// Bodies under way, by the slots of their streams.
    pub(crate) intakes: Vec<Intake>,
    pub(crate) loan: Option<Loan>,
    /// Bodies that are gone on with before more input is looked at.
    pub(crate) queue: VecDeque<u16>,
    /// Whose body the last event lent.
    pub(crate) delivering: u16,
    /// Jobs that wait to be fetched.
    pub(crate) jobs: u16,
    /// Decoders in use.
    pub(crate) decoders: u64,
    /// What they count in their pool.
    pub(crate) decoder_bytes: u64,
    pub(crate) spare_decoder: Option<Held<Decoder>>,
    pub(crate) spare: Vec<u8>,
    pub(crate) goodbye: Goodbye,
    pub(crate) idle: bool,
    /// A reset was told: others first, so that a flood of them costs a turn each (ENG-05).
    reset: bool,
}

/// A body on its way to its handler.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) delivery: Delivery,
    /// Content as it came that the handler does not take now, from `at` on.
    pub(crate) kept: Vec<u8>,
    pub(crate) at: usize,
    /// Bytes that count in the pool of gathered bodies.
    pub(crate) pooled: u64,
    /// What its decoder counts in the pool of decoders.
    pub(crate) decoder_bytes: u64,
    /// It stands in the queue.
    pub(crate) queued: bool,
    /// All of it has come.
    pub(crate) ended: bool,
    /// A trailer section that waits for the body in front of it.
    pub(crate) trailers: Option<Vec<u8>>,
}

/// What an event lent, and what becomes of it when its loan ends.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Loan {
    pub(crate) number: u32,
    pub(crate) slot: u16,
    /// Content as it came, that was lent from the inbox, or from what was kept.
    pub(crate) content: u32,
    pub(crate) from_kept: bool,
    /// It stays with the handler until it is released.
    pub(crate) handed: bool,
    /// The gathered body was lent.
    pub(crate) gathered: bool,
}

impl H2 {
    pub(crate) fn new(limits: &crate::Limits, now: Instant) -> Result<Held<H2>, NoMemory> {
        Held::new(H2 {
            receiver: h2::Receiver::new(limits, now),
            intakes: Vec::new(),
            loan: None,
            queue: VecDeque::new(),
            delivering: 0,
            jobs: 0,
            decoders: 0,
            decoder_bytes: 0,
            spare_decoder: None,
            spare: Vec::new(),
            goodbye: Goodbye::No,
            idle: false,
            reset: false,
        })
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        size_of::<H2>()
            + self.receiver.retained_bytes()
            + self.intakes.capacity() * size_of::<Intake>()
            + self.intakes.iter().map(Intake::retained_bytes).sum::<usize>()
            + self.spare_decoder.as_deref().map_or(0, held)
            + self.spare.capacity()
            + self.queue.capacity() * size_of::<u16>()
    }

    pub(crate) fn shed(&mut self, idle: bool) {
        self.receiver.shed();
        (self.spare_decoder, self.spare) = (None, Vec::new());
        if idle {
            (self.intakes, self.queue) = (Vec::new(), VecDeque::new());
        }
    }

    /// There is something to go on with.
    pub(crate) fn enqueue(&mut self, slot: u16) {
        if let Some(intake) = self.intakes.get_mut(usize::from(slot))
            && !core::mem::replace(&mut intake.queued, true)
        {
            self.queue.push_back(slot);
        }
    }

    /// Nothing more can be done now for the first in the queue.
    fn dequeue(&mut self) {
        if let Some(slot) = self.queue.pop_front()
            && let Some(intake) = self.intakes.get_mut(usize::from(slot))
        {
            intake.queued = false;
        }
    }

    /// The body of a slot needs its decoder no more (M-7).
    pub(crate) fn return_decoder(&mut self, slot: u16) {
        let Some(intake) = self.intakes.get_mut(usize::from(slot)) else { return };
        if let Some(mut decoder) = intake.delivery.decoder.take() {
            self.decoders -= 1;
            self.decoder_bytes = self.decoder_bytes.saturating_sub(core::mem::take(&mut intake.decoder_bytes));
            decoder.rest();
            // Whatever its coding was, it takes any other, and keeps what it needs for both.
            self.spare_decoder.get_or_insert(decoder);
        }
    }

    /// What the last event lent from.
    pub(crate) fn lent(&self) -> Option<&Intake> {
        self.intakes.get(usize::from(self.delivering))
    }
}

impl Intake {
    fn retained_bytes(&self) -> usize {
        self.delivery.retained_bytes() + self.kept.capacity() + self.trailers.as_ref().map_or(0, Vec::capacity)
    }

    /// Content that waits to be taken.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.kept.get(self.at..).unwrap_or_default()
    }
}

impl Core {
    /// The parts of HTTP/2, if it is spoken.
    pub(crate) fn h2(&mut self) -> Option<(&mut H2, &mut Streams)> {
        match (&mut self.engine, &mut self.exchanges) {
            (Engine::H2(h2), Exchanges::H2(streams)) => Some((h2, streams)),
            _ => None,
        }
    }

    /// HTTP/2 is spoken from here on.
    pub(crate) fn begin_h2(&mut self, limits: &crate::Limits) -> Result<(), NoMemory> {
        let (engine, exchanges) = (H2::new(limits, self.pace.now)?, Held::new(Streams::new(limits))?);
        (self.engine, self.exchanges) = (Engine::H2(engine), Exchanges::H2(exchanges));
        Ok(())
    }

    pub(crate) fn h2_is_between(&self) -> bool {
        let (Engine::H2(h2), Exchanges::H2(streams)) = (&self.engine, &self.exchanges) else { return true };
        streams.is_empty() && !h2.receiver.is_inside()
    }

    pub(crate) fn h2_waiting(&self) -> Waiting {
        let (Engine::H2(h2), Exchanges::H2(streams)) = (&self.engine, &self.exchanges) else { return Waiting::Idle };
        match () {
            () if h2.receiver.is_inside() || !h2.receiver.is_settled() => Waiting::Head,
            () if streams.is_empty() => Waiting::Idle,
            () => Waiting::Caller, // each stream has its own clock
        }
    }
}

impl Turn<'_> {
    pub(crate) fn step_h2(&mut self) -> Step {
        if let Some(step) = self.before_input() {
            return step;
        }
        let (limits, now, offset) = (self.config.limits(), self.core.pace.now, self.core.offset);
        let plain = self.inbox.plain();
        let (Engine::H2(h2), Exchanges::H2(streams)) = (&mut self.core.engine, &mut self.core.exchanges) else {
            return Step::Again;
        };
        let item = match h2.receiver.step(plain, offset, now, limits, streams, &mut self.outbox) {
            Ok(item) => item,
            Err(violation) => {
                self.core.fail(violation);
                return Step::Again;
            }
        };
        match item {
            Item::Need { want } => self.starved_h2(want),
            Item::Skip { len } => {
                self.eat(len);
                self.credit(0);
                Step::Again
            }
            Item::Head { len, number, complete, ends } => {
                self.eat(len);
                self.head_h2(number, complete, ends)
            }
            Item::Malformed { len, number, rule, ends } => {
                self.eat(len);
                self.malformed(number, rule, ends);
                Step::Again
            }
            Item::Content { number, len, rest, ends } => self.content(number, len, rest, ends),
            Item::End { len, number } => {
                self.eat(len);
                self.content_ended(number);
                Step::Again
            }
            Item::Trailers { len, number, fields } => {
                self.eat(len);
                self.trailers_h2(number, fields)
            }
            Item::Broken { len, number, rule } => {
                self.eat(len);
                let violation = self.violation(rule);
                self.give_up(number, violation.h2_code(), Some(violation))
            }
            Item::Reset { len, number } => {
                self.eat(len);
                if let Some((h2, _)) = self.core.h2() {
                    h2.reset = true;
                }
                self.forget(number, None)
            }
            Item::Pong { len } => {
                self.eat(len);
                if let Some((h2, _)) = self.core.h2()
                    && let Goodbye::Said { until } = &mut h2.goodbye
                {
                    *until = now;
                }
                Step::Again
            }
        }
    }

    /// Something that the connection cannot go on without was refused: it ends.
    pub(crate) fn no_memory(&mut self) -> Step {
        let violation = self.violation(Rule::NoMemory);
        self.core.fail(violation);
        Step::Again
    }

    pub(crate) fn violation(&self, rule: Rule) -> Violation {
        Violation::over(rule, self.core.offset, self.config.limits())
    }

    /// What is to be done before more input is looked at.
    fn before_input(&mut self) -> Option<Step> {
        let (limits, now) = (self.config.limits(), self.core.pace.now);
        self.end_loan();
        let (h2, _) = self.core.h2()?;
        if !h2.receiver.greet(limits, now, &mut self.outbox) {
            return Some(Step::Pause(Pause::Room));
        }
        if core::mem::take(&mut h2.reset) {
            return Some(Step::Pause(Pause::Yield));
        }
        // What handlers did comes first: nothing is told of a stream that was given up. Looking is free, so that many who ask often
        // leave units for the others.
        while let Some(slot) = self.core.h2()?.1.next_touched() {
            match self.look_after(slot) {
                Step::Again => {}
                step => return Some(step),
            }
        }
        while let Some(&slot) = self.core.h2()?.0.queue.front() {
            match self.go_on(slot) {
                Some(step) => return Some(step),
                None => self.core.h2()?.0.dequeue(),
            }
        }
        self.core.draining |= self.core.is_worn();
        if let Some(step) = self.say_goodbye_h2() {
            return Some(step);
        }
        let due = self.core.stats.units.is_multiple_of(WRITE_EVERY);
        if due { self.write_turn() } else { None }
    }

    /// A response that waits has its turn to write.
    fn write_turn(&mut self) -> Option<Step> {
        let (_, streams) = self.core.h2()?;
        let slot = streams.next_writer()?;
        streams.touch(slot);
        let mut at = streams.at(slot)?;
        let id = at.stream.shared.id;
        let asks = at.serve(&mut self.outbox) && self.pump(id);
        Some(if asks { Step::Event(Raw::Writable { id }) } else { Step::Again })
    }

    /// There is no more input now.
    fn starved_h2(&mut self, want: usize) -> Step {
        if let Some(step) = self.write_turn() {
            return step;
        }
        let (now, stall) = (self.core.pace.now, self.config.limits().get(Limit::StallMs));
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        if streams.look_at.is_none() && streams.iter().any(|(_, s)| s.is_waiting()) {
            streams.look_at = Some(now.after_millis(stall));
        }
        if h2.jobs > 0 {
            return Step::Pause(Pause::Caller(Wait::Job));
        }
        self.more(want)
    }

    // ---- requests ----

    fn head_h2(&mut self, number: u32, complete: crate::parse::section::Complete, ends: bool) -> Step {
        let (limits, id) = (self.config.limits(), u64::from(number));
        self.core.pace.restart(Waiting::Caller); // the next head has a clock of its own
        let facts = complete.facts;
        let has_body = !ends && !facts.is_connect;
        let mut coding = Coding::Identity;
        self.core.stats.requests += 1;
        if self.core.stats.requests >= limits.get(Limit::ConnectionRequests) || self.core.pace.is_old(limits) {
            self.core.draining = true;
        }
        let (decodes, config) = (self.config.decodes(), self.config);
        let offset = self.core.offset;
        if self.is_misdirected_h2(&complete) {
            return self.refuse_unheard(number, Violation::new(Rule::Misdirected, offset));
        }
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        if has_body && facts.coding_lines > 0 && decodes {
            let found = match facts.coding_lines {
                1 => Coding::of(facts.coding.of(&h2.receiver.section.lines)),
                _ => Err(Violation::over(Rule::CodingLayers, 0, limits)),
            };
            match found {
                Ok(known) => coding = known,
                Err(violation) => return self.refuse_unheard(number, Violation { at: offset, ..violation }),
            }
        }
        let offer = crate::coded::offer(config, || Fields::new(complete.spans.fields.of(&h2.receiver.section.lines)));
        let Some(slot) = streams.slot_of(number) else { return Step::Again };
        streams.touch(slot);
        if let Some(stream) = streams.by_slot(slot) {
            stream.shared.offer = offer;
        }
        if !ends {
            arm(streams, limits);
        }
        let Ok(intake) = h2.intake(slot) else {
            if let Some(stream) = streams.by_slot(slot) {
                stream.shared.aborted = true; // no handler has heard of it
            }
            return self.no_memory();
        };
        intake.delivery.begin(coding);
        if !has_body {
            intake.delivery.over();
        }
        intake.ended = ends;
        Step::Event(Raw::Request { id, head: complete.spans, has_body })
    }

    /// The request is for a host that this connection does not serve. A CONNECT names whom it wants to be led to (RFC 9113 §8.5),
    /// but an extended one is a request like any other (RFC 8441 §4).
    fn is_misdirected_h2(&self, complete: &crate::parse::section::Complete) -> bool {
        let Engine::H2(h2) = &self.core.engine else { return false };
        let tunnel = complete.facts.is_connect && complete.spans.protocol.is_empty();
        !tunnel && self.core.is_misdirected(complete.spans.authority.of(&h2.receiver.section.lines))
    }

    /// A request that no handler hears of is answered.
    fn refuse_unheard(&mut self, number: u32, violation: Violation) -> Step {
        if let Some((_, streams)) = self.core.h2()
            && let Some(stream) = streams.stream(number)
        {
            stream.shared.aborted = true;
        }
        self.refuse(number, violation)
    }

    /// A request that no handler sees: its stream is reset, or its answer says what was too much.
    fn malformed(&mut self, number: u32, rule: Rule, ends: bool) {
        self.core.pace.restart(Waiting::Caller);
        let violation = self.violation(rule);
        let limits = self.config.limits();
        let Exchanges::H2(streams) = &mut self.core.exchanges else { return };
        if violation.status() == 400 {
            put_reset(&mut self.outbox, number, violation.h2_code());
            return;
        }
        let mut stream = Stream { number, ..Stream::default() };
        let mut at = At { stream: &mut stream, wire: &mut streams.wire };
        match at.respond(&mut self.outbox, limits, violation.status(), &[], Content::Whole(b"")) {
            Ok(_) if ends => true,
            Ok(_) => put_reset(&mut self.outbox, number, NO_ERROR),
            Err(_) => put_reset(&mut self.outbox, number, violation.h2_code()),
        };
    }

    // ---- what handlers do, and what becomes of it ----

    /// What the handler did with a stream since the last step.
    fn look_after(&mut self, slot: u16) -> Step {
        let limits = self.config.limits();
        let now = self.core.pace.now;
        let Some((_, streams)) = self.core.h2() else { return Step::Again };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return Step::Again };
        let number = stream.number;
        if number == 0 {
            return Step::Again;
        }
        let goes = stream.sending != Sending::Waiting;
        if goes && core::mem::take(&mut stream.shared.close) {
            self.core.draining = true;
            return self.look_after(slot);
        }
        if stream.shared.aborted || stream.sending == Sending::Broken {
            let code = Streams::abort_code(stream.sending == Sending::Broken);
            stream.shared.aborted = true;
            return self.give_up(number, code, None);
        }
        if stream.account.handed() > stream.shared.held {
            if stream.account.open() == 0 {
                (stream.since, stream.base) = (now, stream.arrived); // until now it was up to us
            }
            ledger.release(&mut stream.account, stream.shared.held);
            self.credit(number);
        }
        let Some((_, streams)) = self.core.h2() else { return Step::Again };
        let closed = streams.wire.window <= 0;
        let Some(stream) = streams.by_slot(slot) else { return Step::Again };
        if stream.is_answered() {
            return self.answered(number, slot);
        }
        watch_stall(stream, closed, now);
        if stream.stalled.is_some()
            && let Some((_, streams)) = self.core.h2()
        {
            let due = now.after_millis(limits.get(Limit::StallMs));
            streams.look_at = Some(streams.look_at.map_or(due, |at| at.min(due)));
        }
        if let Some(step) = self.begin_body_h2(number, slot) {
            return step;
        }
        if let Some((h2, _)) = self.core.h2() {
            h2.enqueue(slot);
        }
        Step::Again
    }

    /// The response is complete.
    fn answered(&mut self, number: u32, slot: u16) -> Step {
        let (limits, now) = (self.config.limits(), self.core.pace.now);
        let Some((_, streams)) = self.core.h2() else { return Step::Again };
        let Some(stream) = streams.by_slot(slot) else { return Step::Again };
        if stream.shared.received || !stream.is_receiving() {
            return self.forget(number, None);
        }
        if stream.tunnel {
            // RFC 9113 §8.5: either side may end first. The client's half is delivered, at the least rate from here on.
            if !core::mem::replace(&mut stream.ending, true) {
                (stream.since, stream.base) = (now, stream.arrived);
                streams.look_at = Some(now);
            }
            if let Some((h2, _)) = self.core.h2() {
                h2.enqueue(slot);
            }
            return Step::Again;
        }
        if stream.sending == Sending::Done && may_read_on(stream, limits) {
            stream.shared.expect = Expect::Discard;
            if let Some((h2, _)) = self.core.h2() {
                h2.enqueue(slot);
            }
            return Step::Again;
        }
        // RFC 9113 §8.1: the rest of the request is of no interest.
        self.give_up(number, NO_ERROR, None)
    }

    /// We end a stream. Its handler is told if it does not know.
    pub(crate) fn give_up(&mut self, number: u32, code: u32, why: Option<Violation>) -> Step {
        let Some((_, streams)) = self.core.h2() else { return Step::Again };
        // RFC 9113 §5.1: nothing more is sent on a stream that both sides have ended.
        let closed = streams.stream(number).is_some_and(|s| s.state == State::Closed);
        if !closed && !put_reset(&mut self.outbox, number, code) {
            if let Some(slot) = streams.slot_of(number) {
                streams.touch(slot); // it is looked after again when there is room
            }
            return Step::Pause(Pause::Room);
        }
        if let Some((_, streams)) = self.core.h2() {
            let open = streams.stream(number).map_or(0, |s| s.account.open());
            if streams.remember(number, open).is_err() {
                self.no_memory();
            }
        }
        self.forget(number, why)
    }

    /// A stream breaks a rule that has a status: the peer is answered, if nothing was said yet.
    pub(crate) fn refuse(&mut self, number: u32, violation: Violation) -> Step {
        let limits = self.config.limits();
        let Some((_, streams)) = self.core.h2() else { return Step::Again };
        let Some(slot) = streams.slot_of(number) else { return Step::Again };
        let Some(mut at) = streams.at(slot) else { return Step::Again };
        // The handler has seen the request: the client must not take it for one that nobody has (RFC 9113 §8.7).
        let code = match violation.h2_code() {
            REFUSED_STREAM => CANCEL,
            code => code,
        };
        if at.stream.sending != Sending::Waiting {
            return self.give_up(number, code, Some(violation));
        }
        let accept = [("accept-encoding", ACCEPT)];
        let fields: &[(&str, &str)] = if violation.status() == 415 { &accept } else { &[] };
        let said = at.respond(&mut self.outbox, limits, violation.status(), fields, Content::Whole(b""));
        if said.is_err() {
            return self.give_up(number, code, Some(violation));
        }
        // It is not complete for its handler, which has not answered.
        at.stream.sending = Sending::Waiting;
        if at.stream.is_receiving() {
            return self.give_up(number, NO_ERROR, Some(violation));
        }
        self.forget(number, Some(violation))
    }

    /// The stream is over: what it held is free; its handler hears of it unless it has answered or given it up.
    pub(crate) fn forget(&mut self, number: u32, why: Option<Violation>) -> Step {
        let now = self.core.pace.now;
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some(stream) = streams.stream(number) else { return Step::Again };
        let (id, tag, small) = (stream.shared.id, stream.shared.tag, stream.small);
        let done = stream.is_answered() || stream.sending == Sending::Done || stream.shared.ended;
        let tell = !(stream.shared.aborted || done);
        h2.receiver.guard.taken(small);
        h2.receiver.forget(number);
        if let Some(coders) = &mut self.core.coders {
            coders.release(id); // M-12
        }
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        if let Some(slot) = streams.close(number) {
            let pooled = h2.end_intake(slot);
            streams.ledger.ungather(pooled);
            if streams.is_empty() {
                streams.look_at = Some(now.after_millis(QUIET_MS));
                self.core.pace.restart(Waiting::Idle);
            }
        }
        self.credit(0);
        if tell { Step::Event(Raw::Aborted { id, tag, why }) } else { Step::Again }
    }

    // ---- credit ----

    /// What was lent is done with: credit goes back.
    fn end_loan(&mut self) {
        let Some((h2, streams)) = self.core.h2() else { return };
        let Some(loan) = h2.loan.take() else { return };
        let Some((stream, ledger)) = streams.with_ledger_at(loan.slot) else { return };
        if stream.number != loan.number {
            return;
        }
        if loan.handed {
            ledger.hand(&mut stream.account, loan.content);
        } else {
            ledger.free(&mut stream.account, loan.content);
        }
        h2.receiver.guard.taken(core::mem::take(&mut stream.small));
        if let Some(intake) = h2.intakes.get_mut(usize::from(loan.slot)) {
            if loan.from_kept {
                intake.took_kept(loan.content as usize);
            }
            if loan.gathered {
                ledger.ungather(core::mem::take(&mut intake.pooled));
                h2.give_back(loan.slot);
            }
        }
        self.credit(loan.number);
    }

    /// Announces what is due to the peer: to the connection, and to a stream that still receives.
    pub(crate) fn credit(&mut self, number: u32) {
        let Some((_, streams)) = self.core.h2() else { return };
        if number != 0
            && let Some((stream, ledger)) = streams.with_ledger(number)
            && !stream.ends
        {
            // A window grows while its stream is taken promptly, not while its handler holds content back.
            let due = match stream.account.kept() {
                0 if stream.shared.expect == Expect::Manual => ledger.grant_to_manual(&mut stream.account),
                0 => stream.account.grant(ledger.connection().size()),
                _ => stream.account.grant(0),
            };
            if due > 0 {
                put_window_update(&mut self.outbox, number, due);
            }
        }
        let Some((_, streams)) = self.core.h2() else { return };
        let due = streams.ledger.grant();
        if due > 0 {
            put_window_update(&mut self.outbox, 0, due);
        }
    }

    /// A loan of so much content, of which the handler hears now.
    pub(crate) fn lend_h2(&mut self, loan: Loan, bytes: Lent, whole: bool, last: bool) -> Step {
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        (h2.loan, h2.delivering) = (Some(loan), loan.slot);
        streams.touch(loan.slot);
        let Some(stream) = streams.by_slot(loan.slot) else { return Step::Again };
        stream.shared.received |= last;
        stream.shared.begun = true;
        let id = stream.shared.id;
        if stream.tunnel {
            return Step::Event(Raw::Tunnel { id, bytes, last });
        }
        Step::Event(Raw::Body { id, bytes, whole, last })
    }
}
