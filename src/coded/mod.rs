//! In: content that handlers write, before it is framed. Out: the same content coded, as the client of each exchange accepts it.
//!
//! ```text
//! respond, write ──▶ encoder ──▶ staged ──▶ write of H1Exchange or of a stream ──▶ outbox
//!                   (a coder for each response that is coded)
//! ```
//!
//! A handler is told how many of its own bytes were taken. What the encoder made of them and the outbox or a window did not take is
//! staged; the machine goes on with that when there is room (`Turn::pump`), before the handler hears `Writable`, and after it has said
//! `finish`. What handlers wrote and encoders keep is flushed when a turn has nothing else to do: who sends events one by one
//! has them arrive, who writes much at a time loses nothing by it.

mod fields;

use alloc::vec::Vec;

use crate::base::{FieldFault, Limit, Limits, Misuse};
use crate::config::Config;
use crate::decode::coding::{Accept, Coded, Coding, Encoder, Flow};
use crate::event::Fields;
use crate::parse::h1::state::{H1Exchange, Sending};
use crate::parse::semantics::{check_field, may_be_trailer};
use crate::parse::{Content, Exchange};
use crate::read::OutboxMut;

pub(crate) use fields::{Edited, MOST, Scratch, is_codable};

/// Coded bytes that wait for room. Content that is no longer once it is coded has its length declared.
const STAGE: usize = 8_192;
/// The same of an answer that is given all at once.
const MOST_STAGED: usize = 65_536;
/// Coded bytes that one call sends at most before others have their turn (RFC 9218 §10).
const SHARE: usize = 16_384;

/// Codings by their places; an exchange notes the place, counted from 1.
const PLACES: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// What an exchange notes of the coding that its client is to have; 0 where responses are not coded.
pub(crate) fn offer(config: &Config, fields: Fields<'_>) -> u8 {
    let codings = config.response_codings();
    if codings.is_empty() {
        return 0;
    }
    let accept = Accept::of(fields.all("accept-encoding"));
    // RFC 9110 §12.5.3: where everything is forbidden, the field is disregarded.
    let chosen = accept.among(codings.iter().copied().filter(|c| c.is_encodable())).unwrap_or_default();
    PLACES.iter().position(|&coding| coding == chosen).map_or(1, |at| at as u8 + 1)
}

/// The coding that was noted.
pub(crate) fn offered(offer: u8) -> Option<Coding> {
    PLACES.get(usize::from(offer).checked_sub(1)?).copied()
}

/// The sending side of an exchange, in any version.
pub(crate) trait Carrier {
    fn respond(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Result<usize, Misuse>;
    fn write(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse>;
    fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse>;
    fn trailers(&mut self, out: &mut OutboxMut<'_>, limits: &Limits, fields: &[(&str, &str)]) -> Result<(), Misuse>;
    /// What all versions know of it.
    fn shared(&mut self) -> &mut Exchange;
    /// Something is to be written as soon as that is possible.
    fn starve(&mut self);
    /// The content is broken: only the end tells the peer.
    fn break_off(&mut self);
    /// Its content is not sent (HEAD).
    fn is_silent(&self) -> bool;

    /// With itself, whatever it is held by.
    fn with<R>(&mut self, call: impl FnOnce(&mut Self) -> R) -> R {
        call(self)
    }
}

/// The methods that every version has under the same names.
macro_rules! carries {
    () => {
        fn respond(
            &mut self,
            out: &mut OutboxMut<'_>,
            limits: &Limits,
            status: u16,
            fields: &[(&str, &str)],
            content: Content<'_>,
        ) -> Result<usize, Misuse> {
            Self::respond(self, out, limits, status, fields, content)
        }

        fn write(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse> {
            Self::write(self, out, bytes)
        }

        fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
            Self::finish(self, out)
        }

        fn trailers(
            &mut self,
            out: &mut OutboxMut<'_>,
            limits: &Limits,
            fields: &[(&str, &str)],
        ) -> Result<(), Misuse> {
            Self::trailers(self, out, limits, fields)
        }
    };
}
impl Carrier for H1Exchange {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.shared
    }

    fn starve(&mut self) {
        self.shared.starved = true;
    }

    fn break_off(&mut self) {
        self.sending = Sending::Broken;
    }

    fn is_silent(&self) -> bool {
        matches!(self.sending, Sending::Silent)
    }
}

impl Carrier for crate::parse::h2::At<'_> {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.stream.shared
    }

    fn starve(&mut self) {
        self.stream.shared.starved = true;
        self.rank();
    }

    fn break_off(&mut self) {
        self.stream.sending = crate::parse::h2::Sending::Broken;
        self.stream.shared.starved = false;
        self.rank();
    }

    fn is_silent(&self) -> bool {
        self.stream.sending == crate::parse::h2::Sending::Silent
    }
}

#[cfg(test)]
impl Carrier for crate::models::Stream {
    carries!();

    fn shared(&mut self) -> &mut Exchange {
        &mut self.shared
    }

    fn starve(&mut self) {
        self.shared.starved = true;
    }

    fn break_off(&mut self) {
        self.shared.aborted = true;
    }

    fn is_silent(&self) -> bool {
        false
    }
}

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
struct Coder {
    id: u64,
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
}

impl Coder {
    fn retained_bytes(&self) -> usize {
        self.encoder.retained_bytes() + self.staged.capacity() + self.trailers.capacity()
    }

    /// The same memory for another response.
    fn renew(&mut self, id: u64) {
        self.id = id;
        (self.from, self.to) = (0, 0);
        (self.left, self.whole) = (None, false);
        (self.flow, self.settled) = (Flow::More, true);
        (self.dirty, self.wants, self.ended) = (false, false, false);
        self.trailers.clear();
    }

    /// One step of the encoder, into what is free behind `to`.
    fn encode(&mut self, input: &[u8], flow: Flow) -> Option<Coded> {
        let step = self.encoder.step(input, flow, self.staged.get_mut(self.to..)?).ok()?;
        self.to += step.produced;
        self.settled = step.done;
        self.dirty |= step.consumed > 0;
        if step.done && flow != Flow::More {
            self.dirty = false;
        }
        Some(step)
    }

    /// All of the content in at most `most` bytes. `None`: it is not to be had so.
    fn encode_at_once(&mut self, content: &[u8], most: usize) -> Option<()> {
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
    fn push(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>, input: &[u8]) -> Result<usize, Misuse> {
        let (mut taken, mut sent) = (0, 0);
        loop {
            if self.from < self.to {
                let n = x.write(out, self.staged.get(self.from..self.to).unwrap_or_default())?;
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
            if sent >= SHARE {
                x.starve();
                return Ok(taken);
            }
            let Some(step) = self.encode(rest, self.flow) else {
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
    fn write(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse> {
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
    fn end(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
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
    fn complete(&mut self, x: &mut impl Carrier, out: &mut OutboxMut<'_>, limits: &Limits) -> Pumped {
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
        if said == Err(Misuse::NoRoom) {
            x.starve();
            return Pumped::Waiting;
        }
        Pumped::Done // `Gone`: content of a known length ends of itself
    }
}

/// The coders of a connection.
#[derive(Debug, Default)]
pub(crate) struct Coders {
    active: Vec<Coder>,
    /// One that waits for the next response.
    spare: Vec<Coder>,
}

impl Coders {
    /// `None`: the configuration does not ask for any.
    pub(crate) fn of(config: &Config) -> Option<Coders> {
        (!config.response_codings().is_empty()).then(Coders::default)
    }

    fn find(&mut self, id: u64) -> Option<&mut Coder> {
        self.active.iter_mut().find(|coder| coder.id == id)
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.active.iter().any(|coder| coder.id == id)
    }

    /// Heap bytes.
    pub(crate) fn retained_bytes(&self) -> usize {
        let all = self.active.iter().chain(&self.spare);
        (self.active.capacity() + self.spare.capacity()) * size_of::<Coder>()
            + all.map(Coder::retained_bytes).sum::<usize>()
    }

    /// What is left of the pool, not counting the spare coder.
    fn pool(&self, limits: &Limits) -> usize {
        let used = |coder: &Coder| coder.retained_bytes().max(Encoder::bound_bytes(coder.encoder.coding()) + STAGE);
        limits.size(Limit::EncoderPoolBytes).saturating_sub(self.active.iter().map(used).sum())
    }

    /// A coder for a response. `None`: there is no room for it, or no memory.
    fn begin(&mut self, id: u64, coding: Coding, limits: &Limits) -> Option<&mut Coder> {
        if self.pool(limits) < Encoder::bound_bytes(coding) + STAGE {
            return None;
        }
        self.active.try_reserve(1).ok()?;
        let mut coder = match self.spare.pop() {
            Some(mut coder) => {
                coder.encoder.reset(coding).ok()?;
                coder
            }
            None => {
                let mut staged = Vec::new();
                staged.try_reserve_exact(STAGE).ok()?;
                staged.resize(STAGE, 0);
                Coder {
                    id,
                    encoder: Encoder::new(coding).ok()?,
                    staged,
                    from: 0,
                    to: 0,
                    left: None,
                    whole: false,
                    flow: Flow::More,
                    settled: true,
                    dirty: false,
                    wants: false,
                    ended: false,
                    trailers: Vec::new(),
                }
            }
        };
        coder.renew(id);
        self.active.push(coder);
        self.active.last_mut()
    }

    /// The response needs its coder no more (M-12).
    pub(crate) fn release(&mut self, id: u64) {
        let Some(at) = self.active.iter().position(|coder| coder.id == id) else { return };
        let mut coder = self.active.swap_remove(at);
        // What only a long answer needed, and an encoder that is made anew each time, is not worth keeping.
        if coder.staged.len() > STAGE {
            coder.staged.truncate(STAGE);
            coder.staged.shrink_to_fit();
        }
        if coder.encoder.coding() != Coding::Brotli && self.spare.is_empty() && self.spare.try_reserve_exact(1).is_ok()
        {
            self.spare.push(coder);
        }
    }

    /// Frees what is only kept for the next response.
    pub(crate) fn shed(&mut self) {
        self.spare = Vec::new();
        if self.active.is_empty() {
            self.active = Vec::new();
        }
    }

    /// Nothing more will be said on the connection.
    pub(crate) fn clear(&mut self) {
        *self = Coders::default();
    }

    /// Some content should be flushed, as nobody else will push it out: the exchange that it belongs to.
    pub(crate) fn next_flush(&mut self) -> Option<u64> {
        let keeps = |coder: &&mut Coder| coder.dirty && !coder.ended && !coder.wants && coder.flow == Flow::More;
        let coder = self.active.iter_mut().find(keeps)?;
        (coder.flow, coder.settled) = (Flow::Flush, false);
        Some(coder.id)
    }

    /// Goes on with a response that is coded. `None`: it is not.
    pub(crate) fn pump(
        &mut self,
        id: u64,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
    ) -> Option<Pumped> {
        let coder = self.find(id)?;
        let pumped = match coder.push(x, out, b"") {
            Ok(_) => coder.complete(x, out, limits),
            Err(_) => Pumped::Done,
        };
        if pumped == Pumped::Done {
            self.release(id);
        }
        Some(pumped)
    }

    /// After something was said: ends the response if that is possible.
    fn settle(&mut self, id: u64, x: &mut impl Carrier, out: &mut OutboxMut<'_>, limits: &Limits) {
        if let Some(coder) = self.find(id)
            && coder.complete(x, out, limits) == Pumped::Done
        {
            self.release(id);
        }
    }

    /// A short answer, coded before its head is said. False: it does not get smaller, or there is no room; nothing has happened.
    pub(crate) fn prepare(&mut self, id: u64, coding: Coding, limits: &Limits, content: &[u8]) -> bool {
        let most = MOST_STAGED.min(self.pool(limits).saturating_sub(Encoder::bound_bytes(coding)));
        let good = self.begin(id, coding, limits).and_then(|coder| coder.encode_at_once(content, most)).is_some();
        if !good {
            self.release(id);
        }
        good
    }

    /// The head of what was prepared, and as much of it as there is room for; the rest follows by itself.
    ///
    /// # Errors
    /// As those of `respond`; the exchange is as it was.
    pub(crate) fn respond_prepared(
        &mut self,
        id: u64,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: &[(&str, &str)],
    ) -> Result<(), Misuse> {
        let coder = self.find(id).ok_or(Misuse::Gone)?;
        match x.respond(out, limits, status, fields, Content::Whole(coder.staged.get(..coder.to).unwrap_or_default())) {
            Ok(n) => {
                coder.from = n;
                coder.ended = true;
                x.shared().ended = true;
                self.settle(id, x, out, limits);
                Ok(())
            }
            Err(misuse) => {
                self.release(id);
                Err(misuse)
            }
        }
    }

    /// The head of a response that is coded, and as much of `Content::Whole` as there is room for. `None`: it is not to be coded.
    ///
    /// # Errors
    /// As those of `respond`; the exchange is as it was.
    #[allow(clippy::too_many_arguments)] // what `respond` takes, and for whom
    pub(crate) fn respond(
        &mut self,
        id: u64,
        coding: Coding,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: &[(&str, &str)],
        content: Content<'_>,
    ) -> Option<Result<usize, Misuse>> {
        let bytes = if let Content::Whole(bytes) = content { bytes } else { b"" };
        let whole = matches!(content, Content::Whole(_));
        let coder = self.begin(id, coding, limits)?;
        let mut taken = 0;
        if whole {
            let Some(step) = coder.encode(bytes, Flow::Finish) else {
                self.release(id);
                return None;
            };
            if step.done && coder.to >= bytes.len() {
                self.release(id);
                return None;
            }
            if step.done {
                let said = self.respond_prepared(id, x, out, limits, status, fields);
                return Some(said.map(|()| bytes.len()));
            }
            taken = step.consumed;
        }
        let before = core::mem::replace(&mut x.shared().whole, whole);
        if let Err(misuse) = x.respond(out, limits, status, fields, Content::Streamed) {
            x.shared().whole = before;
            self.release(id);
            return Some(Err(misuse));
        }
        if x.is_silent() {
            if whole {
                let _ = x.finish(out);
            }
            self.release(id);
            return Some(Ok(bytes.len()));
        }
        coder.whole = whole;
        coder.left = match content {
            Content::Whole(bytes) => Some((bytes.len() - taken) as u64),
            Content::Sized(n) => Some(n),
            Content::Streamed => None,
        };
        let more = match whole {
            true => coder.write(x, out, bytes.get(taken..).unwrap_or_default()),
            false => Ok(0),
        };
        self.settle(id, x, out, limits);
        Some(more.map(|n| taken + n))
    }

    /// More content. `None`: the response is not coded.
    pub(crate) fn write(
        &mut self,
        id: u64,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        bytes: &[u8],
    ) -> Option<Result<usize, Misuse>> {
        let taken = self.find(id)?.write(x, out, bytes);
        self.settle(id, x, out, limits);
        Some(taken)
    }

    /// The content is complete, with what follows it. `None`: the response is not coded.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        x: &mut impl Carrier,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        trailers: Option<&[(&str, &str)]>,
    ) -> Option<Result<(), Misuse>> {
        let coder = self.find(id)?;
        if coder.ended {
            return Some(Err(Misuse::Gone));
        }
        if let Some(trailers) = trailers
            && let Err(misuse) = coder.keep_trailers(limits, trailers)
        {
            return Some(Err(misuse));
        }
        if coder.left.is_some_and(|left| left > 0) {
            x.break_off(); // short of what was declared (RSP-02)
            self.release(id);
            return Some(Ok(()));
        }
        let said = coder.end(x, out);
        self.settle(id, x, out, limits);
        Some(said)
    }
}

impl Coder {
    /// Checks trailers and notes them: they are sent behind what is still to be coded.
    fn keep_trailers(&mut self, limits: &Limits, fields: &[(&str, &str)]) -> Result<(), Misuse> {
        let mut size = 128usize;
        for (name, value) in fields {
            check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
            if !may_be_trailer(name.as_bytes()) {
                return Err(Misuse::Field(FieldFault::Trailer));
            }
            size = size.saturating_add(name.len() + value.len() + 16);
        }
        if self.left.is_some() {
            return Err(Misuse::NoTrailers);
        }
        // They have to fit an outbox as small as may be, once it is empty.
        if size > limits.size(Limit::ReplyRoomBytes) || fields.len() > MOST {
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

/// What the coders of a connection take at most.
pub(crate) fn bound_bytes(config: &Config) -> usize {
    if config.response_codings().is_empty() {
        return 0;
    }
    let limits = config.limits();
    let most = limits.size(Limit::EncoderPoolBytes);
    // Each of them has a place, and room for trailers, beside what the pool counts.
    let coders = (most / Encoder::bound_bytes(Coding::Gzip)).min(limits.size(Limit::ConcurrentStreams)) + 2;
    most + coders * (2 * size_of::<Coder>() + limits.size(Limit::ReplyRoomBytes))
}
