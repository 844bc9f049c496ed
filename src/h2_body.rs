//! The bodies of HTTP/2 on the road: from the input, or from what was kept, through decoding, to the handler; never waiting for
//! each other.
//!
//! ```text
//! DATA --> inbox --+--> lent as it lies                              Stream, Manual; Whole if it is one piece
//!                  +--> gathered ---------> lent when complete       Whole; through a job: WholeByJob
//!                  +--> decoder --> window lent, or gathered         coded
//!                  +--> kept ------> any of these, later             Manual with its hands full; CONNECT without an answer
//! ```
//!
//! Slightly long, so that all ways of this picture stand in one file.

use crate::base::memory::{NoMemory, copy};
use crate::base::{Limit, Limits, Rule, Span, Violation};
use crate::decode::coding::Decoder;
use crate::delivery::{JobAt, Stage, held_decoder, whole_cap};
use crate::event::{Lent, Raw};
use crate::h2_close::cap_credit;
use crate::h2_road::{H2, Intake, Loan};
use crate::parse::h2::{Sending, Stream, is_unwanted};
use crate::parse::{Expect, MANUAL_WINDOW};
use crate::stages;
use crate::turn::{Step, Turn};
use alloc::vec::Vec;

/// What one decoder is counted as, at least: a 32 KiB window and the inflater's tables.
const DECODER_BYTES: u64 = 65_536;
/// A buffer that is kept for the next gathered body is at most so large.
pub(crate) const SPARE: usize = 65_536;

/// What becomes of content now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Mode {
    Discard,
    Stream {
        most: usize,
    },
    Whole {
        max: u32,
    },
    /// The handler has its hands full, or has not said what a CONNECT is to become.
    Paused,
}

/// Where content lies that is dealt with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum From {
    Inbox,
    Kept,
}

impl H2 {
    /// The intake of a slot, and a place for it in the queue.
    pub(crate) fn intake(&mut self, slot: u16) -> Result<&mut Intake, NoMemory> {
        let slot = usize::from(slot);
        if self.intakes.len() <= slot {
            let more = (slot + 1 - self.intakes.len()).max(self.intakes.len());
            self.intakes.try_reserve_exact(more)?;
            self.queue.try_reserve(slot + 1 - self.queue.len().min(slot))?;
            self.intakes.resize_with(slot + 1, Intake::default);
        }
        self.intakes.get_mut(slot).ok_or(NoMemory)
    }

    /// The stream of a slot is over: says how much of the pool is free again.
    pub(crate) fn end_intake(&mut self, slot: u16) -> u64 {
        let Some(intake) = self.intakes.get_mut(usize::from(slot)) else { return 0 };
        let pooled = core::mem::take(&mut intake.pooled);
        if let JobAt::Ready = intake.delivery.job {
            self.jobs = self.jobs.saturating_sub(1);
        }
        intake.delivery.over();
        intake.kept.clear();
        intake.kept.shrink_to(0);
        (intake.at, intake.ended, intake.trailers) = (0, false, None);
        self.return_decoder(slot);
        self.give_back(slot);
        pooled
    }

    /// The buffer of a gathered body goes to the next one, unless it is large.
    pub(crate) fn give_back(&mut self, slot: u16) {
        let Some(intake) = self.intakes.get_mut(usize::from(slot)) else { return };
        let mut buffer = core::mem::take(&mut intake.delivery.gather);
        if buffer.capacity() > self.spare.capacity() && buffer.capacity() <= SPARE {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

impl Intake {
    /// The first `n` bytes of what was kept are done with. The rest moves to the front once that frees an eighth: a byte is
    /// moved eight times at most, and storage follows what it holds (M-10).
    pub(crate) fn took_kept(&mut self, n: usize) {
        self.at += n;
        let rest = self.kept.len().saturating_sub(self.at);
        if rest == 0 {
            (self.kept, self.at) = (Vec::new(), 0);
        } else if self.at >= rest / 8 + 2_048 {
            self.kept.drain(..self.at);
            self.kept.shrink_to(rest + rest / 16);
            self.at = 0;
        }
    }

    /// Keeps content, contiguously: storage is at most a quarter more than what it holds, and 4 KiB (M-10).
    fn keep(&mut self, bytes: &[u8]) -> bool {
        if self.kept.capacity() - self.kept.len() < bytes.len() {
            let more = bytes.len().max(self.kept.len() / 16).max(1_024);
            if self.kept.try_reserve_exact(more).is_err() {
                return false;
            }
        }
        self.kept.extend_from_slice(bytes);
        true
    }
}

/// The body leaves as a job once all of it is here.
fn is_by_job(stream: &Stream) -> bool {
    matches!(stream.shared.expect, Expect::WholeByJob { .. })
}

/// What a decoder counts in the pool.
fn counted(decoder: &Decoder) -> u64 {
    (decoder.retained_bytes() as u64).max(DECODER_BYTES)
}

impl H2 {
    /// One go of the decoder of a slot, with what the other decoders of the connection leave of the pool. Without `input`: with
    /// the first `len` bytes of what was kept.
    fn step_decoder(
        &mut self,
        slot: u16,
        limits: &Limits,
        input: Option<&[u8]>,
        len: usize,
        most: usize,
    ) -> Option<Result<crate::decode::coding::Step, Violation>> {
        let intake = self.intakes.get_mut(usize::from(slot))?;
        let decoder = intake.delivery.decoder.as_mut()?;
        let (pool, others) = (limits.get(Limit::DecoderPoolBytes), self.decoder_bytes - intake.decoder_bytes);
        // Once half of the pool is in use, nothing is kept in it for later.
        self.spare_decoder = self.spare_decoder.take().filter(|_| others + intake.decoder_bytes <= pool / 2);
        let spare = self.spare_decoder.as_ref().map_or(0, |decoder| decoder.retained_bytes());
        let budget = usize::try_from(pool.saturating_sub(others)).unwrap_or(usize::MAX);
        decoder.set_budget(budget.saturating_sub(spare));
        let kept = intake.kept.get(intake.at..intake.at.saturating_add(len)).unwrap_or_default();
        let outcome = decoder.step(limits, input.unwrap_or(kept), most);
        intake.decoder_bytes = counted(decoder);
        self.decoder_bytes = others + intake.decoder_bytes;
        Some(outcome)
    }
}

impl Turn<'_> {
    /// The handler has said how it wants the body: may it be that long, does the client wait for a 100?
    pub(crate) fn begin_body_h2(&mut self, number: u32, slot: u16) -> Option<Step> {
        let (limits, at) = (self.config.limits(), self.core.offset);
        let (h2, streams) = self.core.h2()?;
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        if intake.delivery.stage != Stage::New {
            return None;
        }
        let mut at_hand = streams.at(slot)?;
        let stream = &mut *at_hand.stream;
        let coded = intake.delivery.is_coded();
        if let (Some(max), Some(n), false) = (stream.shared.expect.whole(), stream.declared, coded) {
            let (cap, violation) = whole_cap(max, limits, at);
            if n > cap {
                return Some(self.refuse(number, violation));
            }
        }
        intake.delivery.stage = Stage::Running;
        stream.shared.begun = true;
        let unwanted = is_unwanted(stream);
        let by_job = is_by_job(stream);
        if stream.continue_due && stream.sending == Sending::Waiting && !unwanted {
            let _ = at_hand.inform(&mut self.outbox, limits, 100, &[]);
        }
        let here = coded && !unwanted && !by_job;
        if here {
            let room = limits.get(Limit::DecoderPoolBytes).saturating_sub(h2.decoder_bytes);
            if DECODER_BYTES > room {
                return Some(self.refuse(number, Violation::over(Rule::DecoderPool, at, limits)));
            }
            intake.delivery.decoder = h2.spare_decoder.take().filter(|decoder| counted(decoder) <= room);
            let made = match &mut intake.delivery.decoder {
                Some(decoder) => {
                    decoder.reset(intake.delivery.coding);
                    Ok(())
                }
                none => held_decoder(intake.delivery.coding).map(|decoder| *none = Some(decoder)),
            };
            if let Err(violation) = made {
                return Some(self.refuse(number, violation));
            }
            intake.decoder_bytes = intake.delivery.decoder.as_deref().map_or(0, counted);
            h2.decoder_bytes += intake.decoder_bytes;
            h2.decoders += 1;
        }
        None
    }

    fn mode_h2(stream: &Stream) -> Mode {
        if stream.is_connect && !(stream.tunnel && stream.shared.expect == Expect::Manual) {
            return match stream.sending {
                _ if stream.tunnel => Mode::Stream { most: usize::MAX },
                Sending::Waiting => Mode::Paused,
                _ => Mode::Discard,
            };
        }
        match stream.shared.expect {
            Expect::Discard => Mode::Discard,
            Expect::Stream => Mode::Stream { most: usize::MAX },
            Expect::Manual => match MANUAL_WINDOW.saturating_sub(stream.shared.held) {
                0 => Mode::Paused,
                most => Mode::Stream { most: most as usize },
            },
            expect => Mode::Whole { max: expect.whole().unwrap_or(0) },
        }
    }

    /// The next `len` bytes of the inbox are content of a stream; `rest` more follow in the same frame, then nothing if it `ends`.
    pub(crate) fn content(&mut self, number: u32, len: usize, rest: u32, ends: bool) -> Step {
        let (limits, now, at) = (self.config.limits(), self.core.pace.now, self.core.offset);
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some(slot) = streams.slot_of(number) else { return Step::Again };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return Step::Again };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        if stream.content > limits.get(Limit::BodyBytes) && !stream.is_connect {
            return self.refuse(number, Violation::over(Rule::BodyTooLarge, at, limits));
        }
        stream.complete |= ends;
        stream.arrived = stream.content - u64::from(rest);
        cap_credit(stream, limits, now);
        let mode = Turn::mode_h2(stream);
        if mode == Mode::Paused || !intake.waiting().is_empty() {
            let plain = self.inbox.plain().get(..len).unwrap_or_default();
            if !intake.keep(plain) {
                return self.refuse(number, Violation::over(Rule::DecoderPool, at, limits));
            }
            ledger.keep(&mut stream.account, len as u32);
            intake.ended |= ends;
            h2.receiver.took(len);
            self.eat(len);
            return Step::Again;
        }
        let whole = stream.content == len as u64 && ends && rest == 0;
        self.deliver(slot, mode, From::Inbox, len, whole, ends)
    }

    /// The content of a stream is complete; its handler may not have all of it.
    pub(crate) fn content_ended(&mut self, number: u32) {
        let Some((h2, streams)) = self.core.h2() else { return };
        let Some(slot) = streams.slot_of(number) else { return };
        if let Some(stream) = streams.by_slot(slot) {
            stream.complete = true;
        }
        if let Some(intake) = h2.intakes.get_mut(usize::from(slot)) {
            intake.ended = true;
            h2.enqueue(slot);
        }
    }

    pub(crate) fn trailers_h2(&mut self, number: u32, fields: Span) -> Step {
        self.core.pace.restart(crate::read::Waiting::Caller);
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some(slot) = streams.slot_of(number) else { return Step::Again };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        intake.ended = true;
        let Ok(lines) = copy(fields.of(&h2.receiver.section.lines)) else {
            return self.no_memory();
        };
        intake.trailers = Some(lines);
        h2.enqueue(slot);
        Step::Again
    }

    /// Goes on with a body; `None` when there is nothing more to do for it now.
    pub(crate) fn go_on(&mut self, slot: u16) -> Option<Step> {
        let (limits, since) = (self.config.limits(), stages::start(&self.core.stages));
        let (h2, streams) = self.core.h2()?;
        let stream = streams.by_slot(slot)?;
        let (number, mode) = (stream.number, Turn::mode_h2(stream));
        let over = stream.shared.aborted || (stream.is_answered() && mode != Mode::Discard && !stream.tunnel);
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        if number == 0 || over || mode == Mode::Paused {
            return None;
        }
        if intake.delivery.pending && mode != Mode::Discard {
            intake.delivery.pending = false;
            let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
            let outcome = h2.step_decoder(slot, limits, Some(&[]), 0, most)?;
            self.core.decoded(since, &outcome);
            return Some(self.decoded(slot, mode, From::Kept, outcome));
        }
        let waiting = intake.waiting().len();
        if waiting > 0 {
            let last = intake.ended && intake.trailers.is_none();
            return Some(self.deliver(slot, mode, From::Kept, waiting, false, last));
        }
        if intake.ended { self.last_of(slot, mode) } else { None }
    }

    /// Content goes where its handler wants it: `len` bytes at the front of the inbox, or of what was kept.
    fn deliver(&mut self, slot: u16, mode: Mode, from: From, len: usize, whole: bool, ends: bool) -> Step {
        let (limits, at) = (self.config.limits(), self.core.offset);
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return Step::Again };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        let number = stream.number;
        let coded = intake.delivery.is_coded();
        match mode {
            Mode::Paused => Step::Again,
            Mode::Discard => {
                self.took_content(slot, from, len, ends);
                Step::Again
            }
            _ if coded => self.decode(slot, mode, from, len, ends),
            Mode::Stream { most } => {
                let n = len.min(most);
                let last = ends && n == len;
                let handed = stream.shared.expect == Expect::Manual && (!stream.is_connect || stream.tunnel);
                if handed {
                    stream.shared.held = stream.shared.held.saturating_add(n as u32);
                }
                if from == From::Kept {
                    ledger.lend_kept(&mut stream.account, n as u32);
                }
                let loan =
                    Loan { number, slot, content: n as u32, from_kept: from == From::Kept, handed, gathered: false };
                intake.ended |= last && from == From::Inbox;
                if last {
                    intake.delivery.over();
                } else if from == From::Kept {
                    h2.enqueue(slot);
                }
                let bytes = match from {
                    From::Inbox => {
                        h2.receiver.took(n);
                        self.lend_inbox(n)
                    }
                    From::Kept => Lent::Kept(n as u32),
                };
                self.lend_h2(loan, bytes, false, last)
            }
            Mode::Whole { max } => {
                let (cap, violation) = whole_cap(max, limits, at);
                if stream.content > cap {
                    return self.refuse(number, violation);
                }
                let here = whole && from == From::Inbox && !is_by_job(stream);
                if here && ledger.has_room(stream.content, limits.get(Limit::GatherBytes)) {
                    let loan =
                        Loan { number, slot, content: len as u32, from_kept: false, handed: false, gathered: false };
                    intake.ended = true;
                    intake.delivery.over();
                    h2.receiver.took(len);
                    let bytes = self.lend_inbox(len);
                    return self.lend_h2(loan, bytes, true, true);
                }
                self.gather(slot, from, len, ends, cap)
            }
        }
    }

    /// Content is copied into the body that is gathered, within the pool. What is declared is reserved with its first byte.
    fn gather(&mut self, slot: u16, from: From, len: usize, ends: bool, cap: u64) -> Step {
        let (limits, at, since) = (self.config.limits(), self.core.offset, stages::start(&self.core.stages));
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return Step::Again };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        let number = stream.number;
        let first = intake.pooled == 0;
        // By frames, not by reads, so that the answer does not depend on how the input was cut.
        let more = stream.declared.unwrap_or(0).max(stream.content).saturating_sub(intake.pooled);
        if !ledger.gather(more, limits.get(Limit::GatherBytes)) {
            return self.refuse(number, Violation::over(Rule::GatherPool, at, limits));
        }
        intake.pooled += more;
        if first && intake.delivery.gather.capacity() == 0 {
            intake.delivery.gather = core::mem::take(&mut h2.spare);
        }
        let plain = self.inbox.plain();
        let bytes = match from {
            From::Inbox => plain.get(..len).unwrap_or_default(),
            From::Kept => intake.kept.get(intake.at..intake.at + len).unwrap_or_default(),
        };
        if let Err(violation) = crate::decode::grow::append(&mut intake.delivery.gather, bytes, cap) {
            return self.refuse(number, violation);
        }
        stages::stop(&mut self.core.stages, stages::decode, since, (len as u64, 1));
        self.took_content(slot, from, len, ends);
        Step::Again
    }

    /// Content that nobody needs any more where it lay: credit goes back.
    fn took_content(&mut self, slot: u16, from: From, len: usize, ends: bool) {
        let Some((h2, streams)) = self.core.h2() else { return };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return };
        let number = stream.number;
        if from == From::Kept {
            ledger.lend_kept(&mut stream.account, len as u32);
            intake.took_kept(len);
        }
        ledger.free(&mut stream.account, len as u32);
        h2.receiver.guard.taken(core::mem::take(&mut stream.small));
        if from == From::Inbox {
            h2.receiver.took(len);
            intake.ended |= ends;
        }
        if intake.ended || from == From::Kept {
            h2.enqueue(slot);
        }
        if from == From::Inbox {
            self.eat(len);
        }
        self.credit(number);
    }

    /// Coded content: one go of its decoder, or into the store for a job.
    fn decode(&mut self, slot: u16, mode: Mode, from: From, len: usize, ends: bool) -> Step {
        let (limits, since) = (self.config.limits(), stages::start(&self.core.stages));
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some(stream) = streams.by_slot(slot) else { return Step::Again };
        if is_by_job(stream) {
            let (number, cap) = (stream.number, limits.get(Limit::GatherBytes));
            // How much comes out of it only the job will know; no pool ever has room for what goes in.
            if stream.declared.unwrap_or(0).max(stream.content) > cap {
                return self.refuse(number, Violation::over(Rule::BodyOverGather, self.core.offset, limits));
            }
            return self.gather(slot, from, len, ends, cap);
        }
        let input = match from {
            From::Inbox => self.inbox.plain().get(..len),
            From::Kept => None,
        };
        let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
        let Some(outcome) = h2.step_decoder(slot, limits, input, len, most) else {
            let (number, at) = (stream.number, self.core.offset);
            return self.refuse(number, Violation::over(Rule::DecoderPool, at, limits));
        };
        self.core.decoded(since, &outcome);
        let consumed = outcome.as_ref().map_or(0, |step| step.consumed);
        let all = consumed == len;
        if outcome.is_ok() {
            self.took_content(slot, from, consumed, ends && all);
        }
        self.decoded(slot, mode, from, outcome)
    }

    /// What a go of the decoder gave.
    fn decoded(
        &mut self,
        slot: u16,
        mode: Mode,
        from: From,
        outcome: Result<crate::decode::coding::Step, Violation>,
    ) -> Step {
        let (limits, since) = (self.config.limits(), stages::start(&self.core.stages));
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let Some((stream, ledger)) = streams.with_ledger_at(slot) else { return Step::Again };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        let number = stream.number;
        let step = match outcome {
            Ok(step) => step,
            Err(violation) => return self.refuse(number, violation),
        };
        intake.delivery.decoded |= step.done;
        intake.delivery.pending = !step.produced.is_empty();
        let goes_on = intake.delivery.pending || intake.ended || from == From::Kept;
        if goes_on {
            h2.enqueue(slot);
        }
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return Step::Again };
        if step.produced.is_empty() {
            return Step::Again;
        }
        let n = step.produced.len();
        let Mode::Whole { max } = mode else {
            if stream.shared.expect == Expect::Manual {
                stream.shared.held = stream.shared.held.saturating_add(n as u32);
            }
            let loan = Loan { number, slot, content: 0, from_kept: false, handed: false, gathered: false };
            return self.lend_h2(loan, Lent::Window(step.produced), false, false);
        };
        let (cap, violation) = whole_cap(max, limits, 0);
        let gathered = (intake.delivery.gather.len() + n) as u64;
        if gathered > cap {
            return self.refuse(number, violation.shifted(cap));
        }
        let more = gathered.saturating_sub(intake.pooled);
        if !ledger.gather(more, limits.get(Limit::GatherBytes)) {
            let at = self.core.offset;
            return self.refuse(number, Violation::over(Rule::GatherPool, at, limits));
        }
        intake.pooled += more;
        if intake.delivery.gather.capacity() == 0 {
            intake.delivery.gather = core::mem::take(&mut h2.spare);
        }
        let gathered = intake.delivery.gather_decoded(step.produced, cap);
        stages::stop(&mut self.core.stages, stages::decode, since, (0, 1)); // the bytes were counted when they were decoded
        match gathered {
            Ok(()) => Step::Again,
            Err(violation) => self.refuse(number, violation),
        }
    }

    /// All content has come and is dealt with: the rest of the decoder, the gathered whole, the mark that it was the last, the
    /// trailers.
    fn last_of(&mut self, slot: u16, mode: Mode) -> Option<Step> {
        let (h2, streams) = self.core.h2()?;
        let stream = streams.by_slot(slot)?;
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        let last = intake.trailers.is_none();
        let number = stream.number;
        let loan = Loan { number, slot, content: 0, from_kept: false, handed: false, gathered: false };
        if mode == Mode::Discard {
            if stream.shared.received {
                return None;
            }
            if let JobAt::Ready = intake.delivery.job {
                h2.jobs = h2.jobs.saturating_sub(1);
            }
            intake.delivery.over();
            stream.shared.received = true;
            streams.touch(slot);
            h2.return_decoder(slot);
            return Some(Step::Again);
        }
        if stream.is_connect {
            if stream.shared.received {
                return None;
            }
            return Some(self.lend_h2(loan, Lent::Nothing, false, true));
        }
        if intake.delivery.stage == Stage::Over {
            return self.trailers_of(slot);
        }
        if (intake.delivery.is_coded() || is_by_job(stream))
            && let Some(step) = self.rest_of_decoder(slot, mode)
        {
            return step;
        }
        let (h2, _) = self.core.h2()?;
        h2.return_decoder(slot);
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        intake.delivery.over();
        Some(match mode {
            Mode::Whole { .. } => self.lend_h2(Loan { gathered: true, ..loan }, Lent::Gathered, true, last),
            _ if !last => Step::Again,
            _ => self.lend_h2(loan, Lent::Nothing, false, true),
        })
    }

    /// Trailers that waited for their body.
    fn trailers_of(&mut self, slot: u16) -> Option<Step> {
        let (h2, streams) = self.core.h2()?;
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        let lines = intake.trailers.take()?;
        streams.touch(slot);
        let stream = streams.by_slot(slot)?;
        stream.shared.received = true;
        let id = stream.shared.id;
        let (arena, fields) = (&mut h2.receiver.section.lines, Span::new(0, lines.len()));
        arena.clear();
        if arena.capacity() < lines.len() {
            *arena = lines; // nothing is copied where that would need memory
        } else {
            arena.extend_from_slice(&lines);
        }
        Some(Step::Event(Raw::Trailers { id, fields }))
    }

    /// The coded body is all here: what is left in the decoder, or in the job; `Some(None)` while the job is not back. `None` once
    /// nothing is left.
    fn rest_of_decoder(&mut self, slot: u16, mode: Mode) -> Option<Option<Step>> {
        let limits = self.config.limits();
        let (h2, streams) = self.core.h2()?;
        let stream = streams.by_slot(slot)?;
        let number = stream.number;
        let intake = h2.intakes.get_mut(usize::from(slot))?;
        if is_by_job(stream) {
            return match core::mem::take(&mut intake.delivery.job) {
                JobAt::None => {
                    intake.delivery.job = JobAt::Ready;
                    h2.jobs += 1;
                    Some(None)
                }
                JobAt::Back(Ok(bytes)) => {
                    intake.delivery.gather = bytes;
                    None
                }
                JobAt::Back(Err(violation)) => Some(Some(self.refuse(number, violation))),
                waiting => {
                    intake.delivery.job = waiting;
                    Some(None)
                }
            };
        }
        if intake.delivery.decoded {
            return None;
        }
        let most = if let Mode::Stream { most } = mode { most } else { usize::MAX };
        intake.delivery.decoder.as_mut()?.finish();
        let since = stages::start(&self.core.stages);
        let (h2, _) = self.core.h2()?;
        let outcome = h2.step_decoder(slot, limits, Some(&[]), 0, most)?;
        self.core.decoded(since, &outcome);
        let (h2, _) = self.core.h2()?;
        let decoder = h2.intakes.get_mut(usize::from(slot))?.delivery.decoder.as_mut()?;
        match outcome {
            Ok(step) if step.produced.is_empty() && !step.done => match decoder.end() {
                Ok(()) => None,
                Err(violation) => Some(Some(self.refuse(number, violation))),
            },
            outcome => Some(Some(self.decoded(slot, mode, From::Kept, outcome))),
        }
    }

    /// The next job to be run elsewhere.
    pub(crate) fn job_h2(&mut self) -> Option<crate::decode::job::Job> {
        let limits = self.config.limits();
        let (h2, streams) = self.core.h2()?;
        let ready =
            |slot: u16| h2.intakes.get(usize::from(slot)).is_some_and(|i| matches!(i.delivery.job, JobAt::Ready));
        let mut wanted = streams.iter().filter(|(slot, _)| ready(*slot));
        let (slot, id, max) = wanted.find_map(|(slot, s)| Some((slot, s.shared.id, s.shared.expect.whole()?)))?;
        h2.jobs = h2.jobs.saturating_sub(1);
        h2.intakes.get_mut(usize::from(slot))?.delivery.take_job(id, max, limits)
    }

    /// A job's result is back. From here on its bytes take the place of the coded ones in the pool: of many that come back before
    /// any is handed out, each is counted.
    pub(crate) fn done_h2(&mut self, mut done: crate::decode::job::Done) -> bool {
        let (limits, at) = (self.config.limits(), self.core.offset);
        let Some((h2, streams)) = self.core.h2() else { return false };
        let number = u32::try_from(done.id).unwrap_or(0);
        let Some(slot) = streams.slot_of(number) else { return false };
        streams.touch(slot);
        let Some((_, ledger)) = streams.with_ledger_at(slot) else { return false };
        let Some(intake) = h2.intakes.get_mut(usize::from(slot)) else { return false };
        if !intake.delivery.waits_for(&done) {
            return false;
        }
        ledger.ungather(core::mem::take(&mut intake.pooled));
        let length = done.result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        match ledger.gather(length, limits.get(Limit::GatherBytes)) {
            true => intake.pooled = length,
            false => done.result = Err(Violation::over(Rule::GatherPool, at, limits)),
        }
        intake.delivery.put_job(done)
    }
}
