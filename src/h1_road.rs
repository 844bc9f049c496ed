//! HTTP/1.1 on the road: the parser's items, decoded and delivered as the handler wants them, one exchange in flight.
//!
//! Slightly long, so that what a body may go through in this version can be read in one place.

use crate::base::{Limit, Rule, Violation};
use crate::connection::{Core, End, Engine};
use crate::decode::coding::Coding;
use crate::delivery::{Stage, whole_cap};
#[cfg(feature = "alloc")]
use crate::event::Fields;
use crate::event::{Lent, Raw};
use crate::parse::h1::state::{H1Exchange, Offered, Sending};
use crate::parse::h1::{Facts, HeadSpans, Item, send};
use crate::parse::{Expect, Id};
use crate::read::Waiting;
use crate::reply::Exchanges;
#[cfg(feature = "alloc")]
use crate::stages;
use crate::turn::{Pause, Step, Turn, Wait};

/// What the delivery does with body bytes that are here.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Mode {
    Discard,
    Stream { most: usize },
    Whole { max: u32 },
}

impl Core {
    fn receiver(&mut self) -> Option<&mut crate::parse::h1::Receiver> {
        match &mut self.engine {
            Engine::H1(receiver) => Some(receiver),
            #[cfg(feature = "alloc")]
            Engine::H2(_) => None,
        }
    }

    /// No message has begun since the last one was complete.
    pub(crate) fn is_between(&self) -> bool {
        match (&self.engine, &self.exchanges) {
            (Engine::H1(receiver), Exchanges::H1(one)) => receiver.is_between() && one.current.is_none(),
            #[cfg(feature = "alloc")]
            (Engine::H2(_), _) => self.h2_is_between(),
            #[cfg(feature = "alloc")]
            _ => true,
        }
    }

    /// A go of a decoder, for the stages.
    #[cfg(feature = "alloc")]
    pub(crate) fn decoded(&mut self, since: u64, outcome: &Result<crate::decode::coding::Step, Violation>) {
        let bytes = outcome.as_ref().map_or(0, |step| step.produced.len() as u64);
        stages::stop(&mut self.stages, stages::decode, since, (bytes, 1));
    }

    /// What input is waited for.
    pub(crate) fn waiting(&mut self) -> Waiting {
        let (between, requests) = (self.is_between(), self.stats.requests);
        #[cfg(feature = "alloc")]
        if matches!(self.engine, Engine::H2(_)) {
            return self.h2_waiting();
        }
        match self.current() {
            None if between && requests > 0 => Waiting::Idle,
            None => Waiting::Head,
            Some(x) if x.sending == Sending::Tunnel => Waiting::Caller,
            Some(_) => Waiting::Body,
        }
    }
}

impl Turn<'_> {
    pub(crate) fn step_h1(&mut self) -> Step {
        if let Some(step) = self.handler_acted() {
            return step;
        }
        if self.core.draining && self.core.is_between() && self.inbox.unconsumed() == 0 {
            self.core.close(End::Ours);
            return Step::Again;
        }
        if let Some((fields, len)) = self.core.trailers
            && self.core.delivery.stage == Stage::Over
        {
            self.core.trailers = None;
            return self.trailers(fields, len);
        }
        if self.core.delivery.stage == Stage::New
            && let Some(step) = self.begin_body()
        {
            return step;
        }
        #[cfg(feature = "alloc")]
        if let Some(step) = self.left_in_decoder() {
            return step;
        }
        let limits = self.config.limits();
        let plain = self.inbox.plain();
        let item = match &mut self.core.engine {
            Engine::H1(receiver) => receiver.step(plain, limits),
            #[cfg(feature = "alloc")]
            Engine::H2(_) => return Step::Again,
        };
        match item {
            Err(violation) => self.fail_here(violation),
            Ok(Item::Need { want }) => {
                let want = want.max(self.whole_want());
                self.more(want)
            }
            Ok(Item::Skip { len }) => {
                self.core.pace.body.moved(len as u64);
                self.eat(len);
                Step::Again
            }
            Ok(Item::Head { spans, facts }) => self.head(spans, facts),
            Ok(Item::Data { len, left }) => self.data(len, left),
            Ok(Item::End { len }) => {
                self.eat(len);
                Step::Again
            }
            Ok(Item::Trailers { fields, len }) => {
                self.core.trailers = Some((fields, len));
                Step::Again
            }
            Ok(Item::Tunnel { len }) => self.tunnel(len),
            Ok(Item::Done) => self.body_done(),
        }
    }

    /// A violation at an offset of the plaintext that waits.
    fn fail_here(&mut self, violation: Violation) -> Step {
        let violation = violation.shifted(self.core.offset);
        self.core.fail(violation);
        Step::Again
    }

    /// What the handler did with the exchange since the last step.
    fn handler_acted(&mut self) -> Option<Step> {
        let skip_cap = self.config.limits().get(Limit::DrainBytes);
        let skipped = self.core.skipped;
        let x = self.core.current()?;
        if x.shared.aborted || x.sending == Sending::Broken {
            self.core.delivery.over();
            self.core.close(End::Ours);
            return Some(Step::Again);
        }
        if x.shared.starved {
            x.shared.starved = false;
            let id = x.shared.id;
            return Some(if self.pump(id) { Step::Event(Raw::Writable { id }) } else { Step::Again });
        }
        if x.sending == Sending::Tunnel {
            x.shared.received = true;
            let receiver = self.core.receiver()?;
            if receiver.is_done() {
                receiver.tunnel();
                self.core.delivery.over();
            }
            return None;
        }
        if !x.is_answered() {
            return None;
        }
        if x.shared.received {
            return Some(self.complete());
        }
        // Answered before the request was complete (H1-22, H1-23; RSP-03).
        if x.close || skipped > skip_cap {
            self.core.delivery.over();
            self.core.close(End::Ours);
            return Some(Step::Again);
        }
        x.shared.expect = Expect::Discard;
        None
    }

    /// Request and response are complete: the next one, or the end.
    fn complete(&mut self) -> Step {
        let close = self.core.current().is_some_and(|x| x.close);
        if let Some(one) = self.core.one() {
            one.current = None;
        }
        if close {
            self.core.close(End::Ours);
            return Step::Again;
        }
        if let Some(receiver) = self.core.receiver() {
            receiver.next();
        }
        self.core.pace.restart(Waiting::Idle);
        Step::Again
    }

    fn head(&mut self, spans: HeadSpans, facts: Facts) -> Step {
        if self.core.overloaded {
            return self.fail_here(Violation::new(Rule::Overloaded, 0));
        }
        let limits = self.config.limits();
        let has_body = facts.chunked || facts.content_length.unwrap_or(0) > 0;
        // A CONNECT names whom it wants to be led to, not whom it speaks to (RFC 9110 §9.3.6).
        #[cfg(feature = "alloc")]
        if !facts.is_connect && self.core.is_misdirected(spans.authority.of(self.inbox.plain())) {
            return self.fail_here(Violation::new(Rule::Misdirected, u64::from(spans.authority.start)));
        }
        let mut coding = Coding::Identity;
        if has_body && facts.coding_lines > 0 && self.config.decodes() {
            let at = u64::from(facts.coding.start);
            let found = match facts.coding_lines {
                1 => Coding::of(facts.coding.of(self.inbox.plain())),
                _ => Err(Violation::over(Rule::CodingLayers, 0, limits)),
            };
            match found {
                Ok(c) if c == Coding::Identity || cfg!(feature = "alloc") => coding = c,
                Ok(_) => return self.fail_here(Violation::new(Rule::CodingUnknown, at)),
                Err(violation) => return self.fail_here(Violation { at, ..violation }),
            }
        }
        self.core.stats.requests += 1;
        let id = self.core.stats.requests;
        let old = self.core.pace.is_old(limits) || self.core.is_worn();
        let close = self.core.draining || self.core.retiring || old || id >= limits.get(Limit::ConnectionRequests);
        #[cfg(feature = "alloc")]
        let offer = crate::coded::offer(self.config, || Fields::new(spans.fields.of(self.inbox.plain())));
        let offered = facts.upgrade.then(|| Offered::of(spans.protocol.of(self.inbox.plain())));
        if let Some(one) = self.core.one() {
            let exchange = one.current.insert(H1Exchange::new(id, facts, spans.version, close));
            if let Some(offered) = offered {
                exchange.offered = offered;
            }
            #[cfg(feature = "alloc")]
            {
                exchange.shared.offer = offer;
            }
        }
        self.core.skipped = 0;
        if has_body {
            self.core.delivery.begin(coding);
            self.core.pace.body = crate::read::Meter::default();
        } else {
            self.core.delivery.over();
        }
        self.lend_inbox(spans.len as usize);
        Step::Event(Raw::Request { id, head: spans, has_body })
    }

    /// The handler has said how it wants the body: is it allowed to be that long, and does the client wait for a 100?
    fn begin_body(&mut self) -> Option<Step> {
        let (limits, at) = (self.config.limits(), self.core.offset);
        let coded = self.core.delivery.is_coded();
        let x = self.core.current()?;
        if let (Some(max), Some(n), false) = (x.shared.expect.whole(), x.facts.content_length, coded) {
            let (cap, violation) = whole_cap(max, limits, at);
            if n > cap {
                self.core.fail(violation);
                return Some(Step::Again);
            }
        }
        if x.continue_due && x.sending == Sending::Waiting && x.shared.expect != Expect::Discard {
            if !send::continue_reply(&mut self.outbox) {
                return Some(Step::Pause(Pause::Room));
            }
            self.core.current()?.continue_due = false;
        }
        #[cfg(feature = "alloc")]
        if coded
            && !self.by_job()
            && let Err(violation) = self.core.delivery.decoder()
        {
            return Some(self.fail_here(violation));
        }
        self.core.delivery.stage = Stage::Running;
        self.core.current()?.shared.begun = true;
        None
    }

    /// Bytes that a whole body still lacks, where its length is declared.
    fn whole_want(&mut self) -> usize {
        let whole = self.core.current().is_some_and(|x| x.shared.expect.whole().is_some());
        match (whole, self.core.receiver().and_then(|r| r.left())) {
            (true, Some(left)) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => 1,
        }
    }

    fn mode(&mut self) -> Result<Mode, Step> {
        let Some(x) = self.core.current() else { return Ok(Mode::Discard) };
        Ok(match x.shared.expect {
            Expect::Discard => Mode::Discard,
            Expect::Stream => Mode::Stream { most: usize::MAX },
            Expect::Manual => match crate::parse::MANUAL_WINDOW.saturating_sub(x.shared.held) {
                0 => return Err(Step::Pause(Pause::Caller(Wait::Release(Id(x.shared.id))))),
                most => Mode::Stream { most: most as usize },
            },
            expect => Mode::Whole { max: expect.whole().unwrap_or(0) },
        })
    }

    /// Body bytes are here: `len` of the `left` that are to come.
    fn data(&mut self, len: usize, left: u64) -> Step {
        let mode = match self.mode() {
            Ok(mode) => mode,
            Err(pause) => return pause,
        };
        match mode {
            Mode::Discard => {
                self.took(len);
                self.eat(len);
                self.core.skipped += len as u64;
                Step::Again
            }
            #[cfg(feature = "alloc")]
            Mode::Whole { max } if self.by_job() => self.for_job(max, len, left),
            #[cfg(feature = "alloc")]
            _ if self.core.delivery.is_coded() => self.coded(mode, len),
            Mode::Stream { most } => {
                let n = len.min(most);
                self.took(n);
                let last = self.core.receiver().is_some_and(|r| r.is_done());
                self.part(n, last)
            }
            Mode::Whole { max } => self.whole(max, len, left),
        }
    }

    /// `n` bytes of the body leave the inbox's front.
    fn took(&mut self, n: usize) {
        self.core.pace.body.moved(n as u64);
        if let Some(receiver) = self.core.receiver() {
            receiver.took(n);
        }
    }

    /// A part of an uncoded body, lent as it lies.
    fn part(&mut self, n: usize, last: bool) -> Step {
        let bytes = self.lend_inbox(n);
        self.body(bytes, n, false, last)
    }

    /// A `Body` event.
    fn body(&mut self, bytes: Lent, n: usize, whole: bool, last: bool) -> Step {
        if last {
            self.core.delivery.over();
        }
        let Some(x) = self.core.current() else { return Step::Again };
        x.shared.received |= last;
        if x.shared.expect == Expect::Manual {
            x.shared.held = x.shared.held.saturating_add(n as u32);
        }
        Step::Event(Raw::Body { id: x.shared.id, bytes, whole, last })
    }

    /// An uncoded body that is wanted whole: waited for in the inbox where it fits, else gathered.
    fn whole(&mut self, max: u32, len: usize, left: u64) -> Step {
        let limits = self.config.limits();
        let receiver = self.core.receiver();
        let (sized, before) = receiver.map_or((false, 0), |r| (r.left().is_some(), r.body_bytes()));
        let (cap, violation) = whole_cap(max, limits, self.core.offset);
        if before.saturating_add(left) > cap {
            self.core.fail(violation);
            return Step::Again;
        }
        if sized && before == 0 {
            if len as u64 == left {
                self.took(len);
                let bytes = self.lend_inbox(len);
                return self.body(bytes, len, true, true);
            }
            if !self.inbox.at.loan && self.fits_inbox(left) {
                return self.more(usize::try_from(left).unwrap_or(usize::MAX) - len);
            }
        }
        #[cfg(feature = "alloc")]
        {
            let plain = self.inbox.plain().get(..len).unwrap_or_default();
            let since = stages::start(&self.core.stages);
            if let Err(violation) = self.core.delivery.gather(plain, cap) {
                return self.fail_here(violation);
            }
            stages::stop(&mut self.core.stages, stages::decode, since, (len as u64, 1));
            self.took(len);
            self.eat(len);
            Step::Again
        }
        #[cfg(not(feature = "alloc"))]
        self.fail_here(Violation::new(Rule::BodyOverInbox, 0))
    }

    /// A body of that length can lie in the inbox whole, with TLS beside the record that brings its end.
    fn fits_inbox(&self, left: u64) -> bool {
        #[cfg(feature = "tls")]
        let beside = if self.core.tls.is_some() { 16_384 + 261 } else { 0 };
        #[cfg(not(feature = "tls"))]
        let beside = 0u64;
        left.saturating_add(beside) <= self.inbox.capacity() as u64 && !self.inbox.is_full()
    }

    fn trailers(&mut self, fields: crate::base::Span, len: usize) -> Step {
        let Some(x) = self.core.current() else { return Step::Again };
        x.shared.received = true;
        let id = x.shared.id;
        if x.shared.expect == Expect::Discard {
            self.eat(len);
            return Step::Again;
        }
        self.lend_inbox(len);
        Step::Event(Raw::Trailers { id, fields })
    }

    /// Bytes behind an upgrade: all that are here, or as many as the handler can hold.
    fn tunnel(&mut self, len: usize) -> Step {
        let Some(x) = self.core.current() else { return Step::Again };
        let id = x.shared.id;
        let len = match x.shared.expect {
            Expect::Manual => match crate::parse::MANUAL_WINDOW.saturating_sub(x.shared.held) {
                0 => return Step::Pause(Pause::Caller(Wait::Release(Id(id)))),
                most => len.min(most as usize),
            },
            _ => len,
        };
        if x.shared.expect == Expect::Manual {
            x.shared.held = x.shared.held.saturating_add(len as u32);
        }
        Step::Event(Raw::Tunnel { id, bytes: self.lend_inbox(len), last: false })
    }

    /// The parser has all of the message; the delivery may have some left. Then only the answer is missing.
    fn body_done(&mut self) -> Step {
        if self.core.delivery.stage != Stage::Over {
            return self.last_part();
        }
        match self.core.current() {
            Some(x) => {
                x.shared.received = true;
                match x.is_answered() {
                    true => Step::Again,
                    false => Step::Pause(Pause::Caller(Wait::Reply(Id(x.shared.id)))),
                }
            }
            None => Step::Again,
        }
    }

    /// What comes behind the last byte of the body: the rest of the decoder, the gathered whole, the mark that it was the last.
    fn last_part(&mut self) -> Step {
        let mode = match self.mode() {
            Ok(mode) => mode,
            Err(pause) if self.core.delivery.is_coded() => return pause,
            Err(_) => Mode::Stream { most: 0 }, // the mark alone needs no credit
        };
        let last = self.core.trailers.is_none();
        if mode == Mode::Discard {
            self.core.delivery.over();
            if let Some(x) = self.core.current() {
                x.shared.received |= last;
            }
            return Step::Again;
        }
        #[cfg(feature = "alloc")]
        if (self.core.delivery.is_coded() || self.by_job())
            && let Some(step) = self.rest_of_coded(mode)
        {
            return step;
        }
        self.core.delivery.over();
        match mode {
            #[cfg(feature = "alloc")]
            Mode::Whole { .. } => self.body(Lent::Gathered, 0, true, last),
            Mode::Stream { .. } if !last => Step::Again,
            _ => self.body(Lent::Nothing, 0, false, last),
        }
    }

    /// Bytes of a body that leaves as a job once all of it is here.
    #[cfg(feature = "alloc")]
    fn for_job(&mut self, max: u32, len: usize, left: u64) -> Step {
        let limits = self.config.limits();
        let gathered = self.core.delivery.gather.len() as u64;
        let (cap, comes, violation) = match self.core.delivery.is_coded() {
            // How much comes out of it only the job will know.
            true => {
                let cap = limits.get(Limit::GatherBytes);
                let at = self.core.offset.saturating_add(cap.saturating_sub(gathered));
                (cap, len as u64, Violation::over(Rule::BodyOverGather, at, limits))
            }
            false => {
                let (cap, violation) = whole_cap(max, limits, self.core.offset);
                (cap, left, violation)
            }
        };
        if gathered.saturating_add(comes) > cap {
            self.core.fail(violation);
            return Step::Again;
        }
        let plain = self.inbox.plain().get(..len).unwrap_or_default();
        let since = stages::start(&self.core.stages);
        if let Err(violation) = self.core.delivery.gather(plain, cap) {
            return self.fail_here(violation);
        }
        stages::stop(&mut self.core.stages, stages::decode, since, (len as u64, 1));
        self.took(len);
        self.eat(len);
        Step::Again
    }

    /// Coded bytes are here: one go of the decoder.
    #[cfg(feature = "alloc")]
    fn coded(&mut self, mode: Mode, len: usize) -> Step {
        let limits = self.config.limits();
        let plain = self.inbox.plain().get(..len).unwrap_or_default();
        let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
        let since = stages::start(&self.core.stages);
        let Some(decoder) = &mut self.core.delivery.decoder else { return Step::Again };
        let outcome = decoder.step(limits, plain, most);
        self.core.decoded(since, &outcome);
        match outcome {
            Err(violation) => {
                self.core.fail(violation);
                Step::Again
            }
            Ok(step) => {
                self.core.delivery.decoded |= step.done;
                self.core.delivery.pending = !step.produced.is_empty();
                self.took(step.consumed);
                self.eat(step.consumed);
                self.produced(mode, step.produced).unwrap_or(Step::Again)
            }
        }
    }

    /// What the last step left in the decoder, bytes or a fault, comes before anything that follows in the input: somebody
    /// who cuts that finer sees it in this order.
    #[cfg(feature = "alloc")]
    fn left_in_decoder(&mut self) -> Option<Step> {
        if !self.core.delivery.pending {
            return None;
        }
        let mode = match self.mode() {
            Ok(mode) => mode,
            Err(pause) => return Some(pause),
        };
        self.core.delivery.pending = false;
        if mode == Mode::Discard {
            return None;
        }
        let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
        let since = stages::start(&self.core.stages);
        let outcome = self.core.delivery.decoder.as_mut()?.step(self.config.limits(), &[], most);
        self.core.decoded(since, &outcome);
        match outcome {
            Err(violation) => {
                self.core.fail(violation);
                Some(Step::Again)
            }
            Ok(step) => {
                self.core.delivery.decoded |= step.done;
                self.core.delivery.pending = !step.produced.is_empty();
                self.produced(mode, step.produced)
            }
        }
    }

    #[cfg(feature = "alloc")]
    fn by_job(&mut self) -> bool {
        matches!(self.core.current().map(|x| x.shared.expect), Some(Expect::WholeByJob { .. }))
    }

    /// Decoded bytes: an event, or more of what is gathered.
    #[cfg(feature = "alloc")]
    fn produced(&mut self, mode: Mode, span: crate::base::Span) -> Option<Step> {
        if span.is_empty() {
            return None;
        }
        let Mode::Whole { max } = mode else {
            return Some(self.body(Lent::Window(span), span.len(), false, false));
        };
        let (cap, violation) = whole_cap(max, self.config.limits(), 0);
        if (self.core.delivery.gather.len() + span.len()) as u64 > cap {
            // In the decoded body, as for its other caps: how much of the coded one was needed depends on how it was cut.
            self.core.fail(violation.shifted(cap));
        } else {
            let since = stages::start(&self.core.stages);
            if let Err(violation) = self.core.delivery.gather_decoded(span, cap) {
                self.core.fail(violation);
            }
            stages::stop(&mut self.core.stages, stages::decode, since, (0, 1)); // the bytes were counted when they were decoded
        }
        Some(Step::Again)
    }

    /// The coded body is all here: what is left in the decoder, or in the job. `None` once nothing is.
    #[cfg(feature = "alloc")]
    fn rest_of_coded(&mut self, mode: Mode) -> Option<Step> {
        use crate::delivery::JobAt;
        if self.by_job() {
            let delivery = &mut self.core.delivery;
            return match core::mem::take(&mut delivery.job) {
                JobAt::None => {
                    delivery.job = JobAt::Ready;
                    Some(Step::Pause(Pause::Caller(Wait::Job)))
                }
                JobAt::Back(Ok(bytes)) => {
                    delivery.gather = bytes;
                    None
                }
                JobAt::Back(Err(violation)) => {
                    self.core.fail(violation);
                    Some(Step::Again)
                }
                waiting => {
                    delivery.job = waiting;
                    Some(Step::Pause(Pause::Caller(Wait::Job)))
                }
            };
        }
        let limits = self.config.limits();
        let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
        let decoder = self.core.delivery.decoder.as_mut()?;
        if self.core.delivery.decoded {
            return None;
        }
        decoder.finish();
        let since = stages::start(&self.core.stages);
        let outcome = decoder.step(limits, &[], most);
        self.core.decoded(since, &outcome);
        let decoder = self.core.delivery.decoder.as_mut()?;
        match outcome {
            Ok(step) if step.produced.is_empty() && !step.done => match decoder.end() {
                Ok(()) => None,
                Err(violation) => {
                    self.core.fail(violation);
                    Some(Step::Again)
                }
            },
            Ok(step) => {
                self.core.delivery.decoded |= step.done;
                Some(self.produced(mode, step.produced).unwrap_or(Step::Again))
            }
            Err(violation) => {
                self.core.fail(violation);
                Some(Step::Again)
            }
        }
    }

    /// The peer sends no more, inside a message or behind a complete one.
    pub(crate) fn ended_h1(&mut self, quiet: End, violation: Violation) -> Step {
        let told = self.core.end_told;
        let Some(x) = self.core.current() else {
            self.core.fail(violation);
            return Step::Again;
        };
        let id = x.shared.id;
        match x.sending {
            Sending::Tunnel if quiet == End::Truncated => self.core.fail(violation),
            Sending::Tunnel if !told => {
                self.core.end_told = true;
                return Step::Event(Raw::Tunnel { id, bytes: Lent::Nothing, last: true });
            }
            Sending::Tunnel => return Step::Pause(Pause::Caller(Wait::Reply(Id(id)))),
            _ if x.is_answered() => self.core.close(End::Ours), // the rest of its body was of no interest
            _ => self.core.fail(violation),
        }
        Step::Again
    }
}
