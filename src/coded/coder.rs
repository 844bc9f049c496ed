//! In: the content of one response. Out: the same content coded, staged, and sent as far as its exchange takes it.

use alloc::vec::Vec;

use super::{Carrier, MOST};
use crate::base::{FieldFault, Limit, Limits, Misuse};
use crate::decode::coding::{Coded, Coding, EncodeFault, Encoder, Flow};
use crate::parse::Content;
use crate::parse::semantics::{check_field, may_be_trailer};
use crate::read::OutboxMut;
use crate::stages::Stage;

/// Coded bytes that wait for room. Content that is no longer once it is coded has its length declared.
pub(super) const STAGE: usize = 8_192;
/// Coded bytes that one call sends at most before others have their turn (RFC 9218 §10).
const SHARE: usize = 16_384;
/// Content that one call codes at most, however little becomes of it.
pub(super) const MOST_TAKEN: usize = 131_072;

/// What is to be done next for an exchange whose turn it is to write.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Pumped {
    /// Nothing now: it waits for room, for its window, or for its handler to write of itself.
    Waiting,
    /// Its handler has something left.
    Writable,
    /// The response is complete.
    Done,
}

/// One response that is coded.
#[derive(Debug)]
pub(super) struct Coder {
    pub(super) id: u64,
    encoder: Encoder,
    /// Coded bytes that wait, from `from` to `to`.
    staged: Vec<u8>,
    from: usize,
    to: usize,
    /// Content that its handler has declared and not yet given.
    left: Option<u64>,
    /// The content is complete as soon as all of that was given.
    whole: bool,
    flow: Flow,
    /// The flow is carried out.
    settled: bool,
    /// The encoder may keep content that was not flushed.
    dirty: bool,
    /// Its handler was left with something.
    wants: bool,
    /// Its handler has said all.
    ended: bool,
    /// The trailer section behind the content: lines of `name NUL value NUL`.
    trailers: Vec<u8>,
    /// What its encoder cost, if that is measured.
    pub(super) clock: Option<fn() -> u64>,
    pub(super) spent: Stage,
}

impl Coder {
    pub(super) fn new(id: u64, coding: Coding) -> Result<Coder, EncodeFault> {
        let mut staged = Vec::new();
        staged.try_reserve_exact(STAGE).map_err(|_| EncodeFault::NoMemory)?;
        staged.resize(STAGE, 0);
        Ok(Coder::over(id, Encoder::new(coding)?, staged, Vec::new()))
    }

    /// The same memory for another response, of which `most` for what is staged.
    pub(super) fn renew(mut self, id: u64, coding: Coding, most: usize) -> Result<Coder, EncodeFault> {
        if self.staged.capacity() > most {
            self.staged.shrink_to_fit();
        }
        self.encoder.reset(coding)?;
        self.trailers.clear();
        Ok(Coder::over(id, self.encoder, self.staged, self.trailers))
    }

    fn over(id: u64, encoder: Encoder, staged: Vec<u8>, trailers: Vec<u8>) -> Coder {
        let (from, to, left, whole) = (0, 0, None, false);
        let (flow, settled, dirty, wants, ended) = (Flow::More, true, false, false, false);
        Coder {
            id,
            encoder,
            staged,
            from,
            to,
            left,
            whole,
            flow,
            settled,
            dirty,
            wants,
            ended,
            trailers,
            clock: None,
            spent: Stage::default(),
        }
    }

    pub(super) fn coding(&self) -> Coding {
        self.encoder.coding()
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.encoder.retained_bytes() + self.staged.capacity() + self.trailers.capacity()
    }

    /// The response is over. What a long answer needed is kept for the next one, but not used for less.
    pub(super) fn rest(&mut self) {
        self.staged.truncate(STAGE);
    }

    /// What is coded and not yet sent.
    pub(super) fn staged(&self) -> &[u8] {
        self.staged.get(self.from..self.to).unwrap_or_default()
    }

    /// The head has gone out with so much of what is staged, which is all of the content.
    pub(super) fn sent_at_once(&mut self, x: &mut impl Carrier, n: usize) {
        self.from += n;
        self.ended = true;
        x.shared().ended = true;
    }

    /// What is to come of the content, of which so much was taken with the head.
    pub(super) fn declare(&mut self, content: Content<'_>, taken: usize) {
        self.whole = matches!(content, Content::Whole(_));
        self.left = match content {
            Content::Whole(bytes) => Some((bytes.len() - taken) as u64),
            Content::Sized(n) => Some(n),
            Content::Streamed => None,
        };
    }

    /// Its handler has said all.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Something that was declared was not given.
    pub(super) fn is_short(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    /// All is sent but the end, for which there was no room. No window has to be open for it.
    pub(super) fn owes_end(&self) -> bool {
        self.ended && self.is_drained()
    }

    /// Begins to push out what the encoder keeps. False: it keeps nothing, or somebody else will.
    pub(super) fn begin_flush(&mut self) -> bool {
        let due = self.dirty && !self.ended && !self.wants && self.flow == Flow::More;
        if due {
            (self.flow, self.settled) = (Flow::Flush, false);
        }
        due
    }

    /// One step of the encoder, into what is free behind `to`.
    pub(super) fn encode(&mut self, input: &[u8], flow: Flow) -> Option<Coded> {
        let since = self.clock.map_or(0, |clock| clock());
        let step = self.encoder.step(input, flow, self.staged.get_mut(self.to..)?).ok()?;
        if let Some(clock) = self.clock {
            let ticks = clock().saturating_sub(since);
            self.spent.add(Stage { ticks, bytes: step.consumed as u64, count: 1 });
        }
        self.to += step.produced;
        self.settled = step.done;
        self.dirty |= step.consumed > 0;
        if step.done && flow != Flow::More {
            self.dirty = false;
        }
        Some(step)
    }

    /// All of the content in at most `most` bytes. `None`: it is not to be had so.
    pub(super) fn encode_at_once(&mut self, content: &[u8], most: usize) -> Option<()> {
        let (mut rest, most) = (content, most.min(content.len().saturating_sub(1)));
        loop {
            let step = self.encode(rest, Flow::Finish)?;
            rest = rest.get(step.consumed..).unwrap_or_default();
            if step.done {
                self.flow = Flow::Finish;
                return (self.to <= most).then_some(());
            }
            let more = most.min(2 * self.staged.len()).saturating_sub(self.staged.len());
            if more == 0 {
                return None;
            }
            self.staged.try_reserve_exact(more).ok()?;
            self.staged.resize(self.staged.len() + more, 0);
        }
    }

    /// Codes what is given, sends what was coded. Says how much of it was taken.
    pub(super) fn push(
        &mut self,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        input: &[u8],
    ) -> Result<usize, Misuse> {
        let (mut taken, mut sent) = (0, 0);
        loop {
            if self.from < self.to {
                let n = x.write(out, self.staged())?;
                self.from += n;
                sent += n;
                if self.from < self.to {
                    return Ok(taken);
                }
            }
            (self.from, self.to) = (0, 0);
            let rest = input.get(taken..).unwrap_or_default();
            if rest.is_empty() && self.settled {
                return Ok(taken);
            }
            if sent >= SHARE || taken >= MOST_TAKEN {
                x.starve();
                return Ok(taken);
            }
            let part = rest.get(..MOST_TAKEN - taken).unwrap_or(rest);
            let Some(step) = self.encode(part, self.flow) else {
                x.break_off();
                return Err(Misuse::Gone);
            };
            taken += step.consumed;
            if step.done && self.flow == Flow::Flush {
                self.flow = Flow::More;
            }
        }
    }

    /// More content of its handler.
    pub(super) fn write(
        &mut self,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        bytes: &[u8],
    ) -> Result<usize, Misuse> {
        if self.ended {
            return Err(Misuse::Gone);
        }
        if self.left.is_some_and(|left| bytes.len() as u64 > left) {
            return Err(Misuse::TooMuchContent);
        }
        let taken = self.push(x, out, bytes)?;
        self.wants = taken < bytes.len();
        self.left = self.left.map(|left| left.saturating_sub(taken as u64));
        if self.whole && self.left == Some(0) {
            self.end(x, out)?;
        }
        Ok(taken)
    }

    /// Its handler has said all.
    pub(super) fn end(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
        (self.ended, self.wants, self.flow) = (true, false, Flow::Finish);
        x.shared().ended = true;
        self.settled = false;
        self.push(x, out, b"").map(|_| ())
    }

    /// Everything that was given is coded and sent.
    fn is_drained(&self) -> bool {
        self.settled && self.from == self.to
    }

    /// Ends the response, if everything in front of its end is sent.
    pub(super) fn complete(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>, limits: &Limits) -> Pumped {
        match () {
            () if !self.is_drained() => return Pumped::Waiting,
            () if self.wants => return Pumped::Writable,
            () if !self.ended => return Pumped::Waiting,
            () => {}
        }
        let mut fields = [("", ""); MOST];
        let mut parts = self.trailers.split(|&b| b == 0).map(|part| core::str::from_utf8(part).unwrap_or_default());
        let mut len = 0;
        for field in &mut fields {
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else { break };
            *field = (name, value);
            len += 1;
        }
        let said = match fields.get(..len) {
            None | Some([]) => x.finish(out),
            Some(fields) => x.trailers(out, limits, fields),
        };
        match said {
            Err(Misuse::NoRoom) => {
                x.starve();
                return Pumped::Waiting;
            }
            Ok(()) | Err(Misuse::Gone) => {} // content of a known length ends of itself
            Err(_) => x.break_off(),
        }
        Pumped::Done
    }

    /// Checks trailers and notes them: they are sent behind what is still to be coded.
    pub(super) fn keep_trailers(&mut self, limits: &Limits, fields: &[(&str, &str)]) -> Result<(), Misuse> {
        let (mut size, most) = (128usize, limits.get(Limit::FieldValueBytes));
        for (name, value) in fields {
            check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
            if value.len() as u64 > most {
                return Err(Misuse::HeadTooLarge);
            }
            if !may_be_trailer(name.as_bytes()) {
                return Err(Misuse::Field(FieldFault::Trailer));
            }
            size = size.saturating_add(name.len() + value.len() + 16);
        }
        if self.left.is_some() {
            return Err(Misuse::NoTrailers);
        }
        // They have to fit an outbox as small as may be, once it is empty.
        let most = limits.size(Limit::ReplyRoomBytes).min(limits.size(Limit::ResponseHeadBytes));
        if size > most || fields.len() > MOST {
            return Err(Misuse::HeadTooLarge);
        }
        self.trailers.try_reserve(size).map_err(|_| Misuse::NoRoom)?;
        for (name, value) in fields {
            for part in [name, value] {
                self.trailers.extend_from_slice(part.as_bytes());
                self.trailers.push(0);
            }
        }
        Ok(())
    }
}
