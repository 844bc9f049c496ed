//! In: HEADERS and CONTINUATION frames. Out: requests and trailers, once their header block is complete (RFC 9113 §4.3, §6.2,
//! §6.10). The second half of `receive`.

use super::frame::{FrameHeader, HEADER, flag, kind};
use super::receive::{Item, Receiver, Stage, Step};
use super::state::{Incoming, State, Verdict};
use crate::base::memory::extend;
use crate::base::{Limit, Rule, Sink};
use crate::parse::h1::Version;
use crate::parse::pack::Fault;

/// A header block under way.
#[derive(Copy, Clone, Debug)]
pub(super) struct Block {
    number: u32,
    ends: bool,
    verdict: Verdict,
    trailers: bool,
    continuations: u64,
    depends_on_itself: bool,
}

impl<S: Sink> Step<'_, S> {
    pub(super) fn block_begins(&mut self, plain: &[u8]) -> Result<Item, Rule> {
        let FrameHeader { len, kind, stream: number, .. } = self.r.frame;
        if number == 0 {
            return Err(Rule::FrameStream);
        }
        if (self.r.block.len() + len as usize) as u64 > self.limits.get(Limit::HeaderBlockBytes) {
            return Err(Rule::HeaderBlockTooLarge);
        }
        if kind == kind::HEADERS {
            self.r.open_block = Some(self.headers(number)?);
        } else if let Some(block) = &mut self.r.open_block {
            block.continuations += 1;
            if block.number != number {
                return Err(Rule::HeaderBlockCut);
            }
            if block.continuations > self.limits.get(Limit::ContinuationFrames) {
                return Err(Rule::ContinuationFlood);
            }
            if len == 0 && !self.r.frame.has(flag::END_HEADERS) {
                self.r.guard.empty(self.limits)?;
            }
        }
        let total = HEADER + len as usize;
        if let Some(payload) = plain.get(HEADER..total) {
            let (from, to) = self.fragment_of(payload)?;
            let fragment = payload.get(from..to).unwrap_or_default();
            if self.r.frame.has(flag::END_HEADERS) && self.r.block.is_empty() {
                self.r.stage = Stage::Header;
                return self.section(total, fragment);
            }
            extend(&mut self.r.block, fragment)?;
            self.r.stage = Stage::Header;
            return self.block_ends(total);
        }
        self.on(Stage::Fragment { left: len, from: self.r.block.len() })
    }

    /// A header block begins on this stream: what that would do.
    fn headers(&mut self, number: u32) -> Result<Block, Rule> {
        let ends = self.r.frame.has(flag::END_STREAM);
        let state = self.streams.state_of(number);
        if state == State::Idle && number.is_multiple_of(2) {
            return Err(Rule::StreamNumber); // RFC 9113 §5.1.1
        }
        if state == State::Closed && !self.streams.was_used(number) {
            return Err(Rule::StreamNumber); // it was skipped, and is no more
        }
        let mut verdict = state.receive(Incoming::Headers { ends });
        if let Verdict::Connection(rule) = verdict {
            return Err(rule);
        }
        if state == State::Idle {
            self.streams.use_number(number);
            self.r.guard.streams += 1;
            if number > self.streams.last_served {
                verdict = Verdict::Ignore; // RFC 9113 §6.8
                self.streams.remember(number, self.window())?;
            } else if self.streams.len() as u64 >= self.limits.get(Limit::ConcurrentStreams) {
                verdict = Verdict::Stream(Rule::TooManyStreams);
            }
        }
        let trailers = state != State::Idle;
        Ok(Block { number, ends, verdict, trailers, continuations: 0, depends_on_itself: false })
    }

    /// Where in a frame's payload its piece of the header block lies (RFC 9113 §6.2).
    fn fragment_of(&mut self, payload: &[u8]) -> Result<(usize, usize), Rule> {
        let frame = self.r.frame;
        if frame.kind != kind::HEADERS {
            return Ok((0, payload.len()));
        }
        let mut from = 0;
        let mut padding = 0;
        if frame.has(flag::PADDED) {
            padding = usize::from(*payload.first().ok_or(Rule::FrameSize)?);
            from = 1;
        }
        if frame.has(flag::PRIORITY) {
            let dependency = payload.get(from..from + 5).ok_or(Rule::FrameSize)?;
            let on = dependency.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b) & 0x7fff_ffff);
            if let Some(block) = &mut self.r.open_block {
                block.depends_on_itself = on == frame.stream;
            }
            from += 5;
        }
        match payload.len().checked_sub(padding) {
            Some(to) if to >= from => Ok((from, to)),
            _ => Err(Rule::Padding),
        }
    }

    /// A piece of a header block that is not here whole.
    pub(super) fn fragment(&mut self, plain: &[u8], left: u32, from: usize) -> Result<Item, Rule> {
        if plain.is_empty() && left > 0 {
            return Ok(Item::Need { want: left as usize });
        }
        let n = plain.len().min(left as usize);
        extend(&mut self.r.block, plain.get(..n).unwrap_or_default())?;
        let left = left - n as u32;
        self.r.stage = Stage::Fragment { left, from };
        if left > 0 {
            return Ok(Item::Skip { len: n });
        }
        self.r.stage = Stage::Header;
        let mut block = core::mem::take(&mut self.r.block);
        let (start, end) = self.fragment_of(block.get(from..).unwrap_or_default())?;
        block.copy_within(from + start..from + end, from);
        block.truncate(from + end - start);
        self.r.block = block;
        self.block_ends(n)
    }

    fn block_ends(&mut self, len: usize) -> Result<Item, Rule> {
        if !self.r.frame.has(flag::END_HEADERS) {
            return Ok(Item::Skip { len });
        }
        let mut block = core::mem::take(&mut self.r.block);
        let item = self.section(len, &block);
        block.clear();
        block.shrink_to(4_096);
        self.r.block = block;
        item
    }

    /// What a client may send on a stream before it hears of it.
    fn window(&self) -> u32 {
        u32::try_from(self.limits.get(Limit::StreamWindowBytes)).unwrap_or(u32::MAX)
    }

    /// A complete header block: a request, the trailers of one, or something that is decoded for the table's sake alone.
    fn section(&mut self, len: usize, block: &[u8]) -> Result<Item, Rule> {
        let Some(open) = self.r.open_block.take() else { return Err(Rule::HeaderBlockCut) };
        let Block { number, ends, verdict, trailers, .. } = open;
        self.decode(block, trailers)?;
        match verdict {
            Verdict::Go(_) if open.depends_on_itself && !self.r.no_priorities => {
                if !trailers {
                    self.r.guard.provoked(self.now)?;
                    return Ok(Item::Broken { len, number, rule: Rule::SelfDependency });
                }
                self.broken(len, number, Rule::SelfDependency)
            }
            Verdict::Go(next) if trailers => self.trailers(len, number, next),
            Verdict::Go(state) => self.request(len, number, ends, state),
            Verdict::Stream(Rule::TooManyStreams) => {
                self.r.guard.refusal(self.now)?;
                Ok(Item::Broken { len, number, rule: Rule::TooManyStreams })
            }
            Verdict::Stream(rule) => self.broken(len, number, rule),
            Verdict::Ignore | Verdict::Connection(_) => {
                self.r.guard.glitch(self.now)?;
                Ok(Item::Skip { len })
            }
        }
    }

    #[inline]
    fn decode(&mut self, mut block: &[u8], trailers: bool) -> Result<(), Rule> {
        let Receiver { decoder, section, .. } = &mut *self.r;
        let updates = block.first().is_none_or(|first| first & 0xe0 == 0x20);
        if decoder.is_update_due() && !updates {
            return Err(Rule::HeaderCompression); // RFC 9113 §4.3.1
        }
        section.begin(trailers);
        decoder.begin();
        loop {
            match decoder.next(&mut block, &mut section.lines) {
                Ok(Some(field)) => {
                    let mark = section.field(&field, self.limits)?;
                    if field.indexed && mark > 0 {
                        decoder.mark(mark);
                    }
                }
                Ok(None) => return Ok(()),
                Err(Fault::NoMemory) => return Err(Rule::NoMemory),
                Err(_) => return Err(Rule::HeaderCompression),
            }
        }
    }

    fn request(&mut self, len: usize, number: u32, ends: bool, state: State) -> Result<Item, Rule> {
        let complete = match self.r.section.finish_request(ends, Version::Http2, self.limits) {
            Ok(complete) => complete,
            Err(Rule::NoMemory) => return Err(Rule::NoMemory),
            Err(rule) => {
                self.streams.remember(number, self.window())?;
                self.r.guard.provoked(self.now)?;
                return Ok(Item::Malformed { len, number, rule, ends });
            }
        };
        if complete.facts.content_length.is_some_and(|n| n > self.limits.get(Limit::BodyBytes)) {
            self.streams.remember(number, self.window())?;
            return Ok(Item::Malformed { len, number, rule: Rule::BodyTooLarge, ends });
        }
        let slot = self.streams.open(number, state, &complete.facts, self.limits, self.now)?;
        let early = self.r.early.iter().find(|e| e.0 == number).map(|e| e.1); // one entry a number
        self.r.early.retain(|e| e.0 > number);
        if let Some(priority) = early.or(complete.priority)
            && let Some(mut at) = self.streams.at(slot)
        {
            at.prioritise(priority); // RFC 9218 §7: what PRIORITY_UPDATE says overrides the field
        }
        Ok(Item::Head { len, number, complete, ends })
    }

    fn trailers(&mut self, len: usize, number: u32, next: State) -> Result<Item, Rule> {
        let Some(stream) = self.streams.stream(number) else { return Ok(Item::Skip { len }) };
        let (head, is_connect) = ((stream.lines, stream.weight), stream.is_connect);
        if is_connect {
            return self.broken(len, number, Rule::ConnectFields); // RFC 9113 §8.5
        }
        let fields = match self.r.section.finish_trailers(head, self.limits) {
            Ok(fields) => fields,
            Err(rule) => return self.broken(len, number, rule),
        };
        let Some(stream) = self.streams.stream(number) else { return Ok(Item::Skip { len }) };
        if stream.declared.is_some_and(|n| stream.content != n) {
            return self.broken(len, number, Rule::ContentLengthDisagrees);
        }
        stream.state = next;
        (stream.ends, stream.complete) = (true, true);
        Ok(Item::Trailers { len, number, fields })
    }
}
