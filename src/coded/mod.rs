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

mod carrier;
mod coder;
mod fields;

use alloc::vec::Vec;

use crate::base::{Limit, Limits, Misuse};
use crate::config::Config;
use crate::decode::coding::{Accept, Coding, Encoder, Flow};
use crate::event::Fields;
use crate::parse::Content;
use crate::read::OutboxMut;
use crate::stages::{Stage, Stages};

pub(crate) use carrier::Carrier;
pub(crate) use coder::Pumped;
use coder::{Coder, MOST_TAKEN, STAGE};
pub(crate) use fields::{Edited, MOST, Scratch, is_codable};

/// Coded bytes of an answer that is given all at once, at most.
const MOST_STAGED: usize = 65_536;

/// Codings by their places; an exchange notes the place, counted from 1.
const PLACES: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// What an exchange notes of the coding that its client is to have; 0 where responses are not coded.
#[inline]
pub(crate) fn offer<'f>(config: &Config, fields: impl FnOnce() -> Fields<'f>) -> u8 {
    let codings = config.response_codings();
    if codings.is_empty() { 0 } else { choose(codings, fields()) }
}

fn choose(codings: &[Coding], fields: Fields<'_>) -> u8 {
    let accept = Accept::of(fields.all("accept-encoding"));
    // RFC 9110 §12.5.3: where everything is forbidden, the field is disregarded.
    let chosen = accept.among(codings.iter().copied().filter(|c| c.is_encodable())).unwrap_or_default();
    PLACES.iter().position(|&coding| coding == chosen).map_or(1, |at| at as u8 + 1)
}

/// The coding that was noted.
pub(crate) fn offered(offer: u8) -> Option<Coding> {
    PLACES.get(usize::from(offer).checked_sub(1)?).copied()
}
/// The coders of a connection.
#[derive(Debug, Default)]
pub(crate) struct Coders {
    active: Vec<Coder>,
    /// One that waits for the next response.
    spare: Vec<Coder>,
    /// What those cost that are done.
    stages: crate::stages::Kept,
}

impl Coders {
    /// `None`: the configuration does not ask for any.
    pub(crate) fn of(config: &Config) -> Option<Coders> {
        let stages = Stages::of(config);
        (!config.response_codings().is_empty()).then(|| Coders { stages, ..Coders::default() })
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
            + self.stages.as_ref().map_or(0, |_| size_of::<Stages>())
    }

    /// What is left of the pool, not counting the spare coder.
    fn pool(&self, limits: &Limits) -> usize {
        let used = |coder: &Coder| coder.retained_bytes().max(Encoder::bound_bytes(coder.coding()) + STAGE);
        limits.size(Limit::EncoderPoolBytes).saturating_sub(self.active.iter().map(used).sum())
    }

    /// A coder for a response. `None`: there is no room for it, or no memory.
    fn begin(&mut self, id: u64, coding: Coding, limits: &Limits) -> Option<&mut Coder> {
        let (pool, bound) = (self.pool(limits), Encoder::bound_bytes(coding));
        if pool < bound + STAGE {
            return None;
        }
        self.active.try_reserve(1).ok()?;
        let mut coder = match self.spare.pop() {
            Some(spare) => spare.renew(id, coding, pool - bound).ok()?,
            None => Coder::new(id, coding).ok()?,
        };
        coder.clock = self.stages.as_ref().map(|stages| stages.clock());
        self.active.push(coder);
        self.active.last_mut()
    }

    /// The response needs its coder no more (M-12).
    pub(crate) fn release(&mut self, id: u64) {
        let Some(at) = self.active.iter().position(|coder| coder.id == id) else { return };
        let mut coder = self.active.swap_remove(at);
        if let Some(stages) = &mut self.stages {
            stages.stats.decode.add(core::mem::take(&mut coder.spent));
        }
        coder.rest();
        // An encoder that is made anew each time is not worth keeping.
        if coder.coding() != Coding::Brotli && self.spare.is_empty() && self.spare.try_reserve_exact(1).is_ok() {
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
        let (spent, mut stages) = (self.spent(), self.stages.take());
        if let Some(stages) = &mut stages {
            stages.stats.decode = spent;
        }
        *self = Coders { stages, ..Coders::default() };
    }

    /// What encoders have cost, if that is measured.
    pub(crate) fn spent(&self) -> Stage {
        let mut spent = self.stages.as_ref().map_or(Stage::default(), |stages| stages.stats.decode);
        self.active.iter().for_each(|coder| spent.add(coder.spent));
        spent
    }

    /// Some content should be flushed, as nobody else will push it out, or is complete but for its end: the exchange that it belongs to.
    pub(crate) fn next_flush(&mut self) -> Option<u64> {
        self.active.iter_mut().find_map(|coder| (coder.owes_end() || coder.begin_flush()).then_some(coder.id))
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
        match x.respond(out, limits, status, fields, Content::Whole(coder.staged())) {
            Ok(n) => {
                coder.sent_at_once(x, n);
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
            let first = bytes.get(..MOST_TAKEN).unwrap_or(bytes);
            let flow = if first.len() == bytes.len() { Flow::Finish } else { Flow::More };
            let Some(step) = coder.encode(first, flow) else {
                self.release(id);
                return None;
            };
            let done = step.done && flow == Flow::Finish;
            if done && coder.staged().len() >= bytes.len() {
                self.release(id);
                return None;
            }
            if done {
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
        coder.declare(content, taken);
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
        if coder.is_ended() {
            return Some(Err(Misuse::Gone));
        }
        if let Some(trailers) = trailers
            && let Err(misuse) = coder.keep_trailers(limits, trailers)
        {
            return Some(Err(misuse));
        }
        if coder.is_short() {
            x.break_off(); // short of what was declared (RSP-02)
            self.release(id);
            return Some(Ok(()));
        }
        let said = coder.end(x, out);
        self.settle(id, x, out, limits);
        Some(said)
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
