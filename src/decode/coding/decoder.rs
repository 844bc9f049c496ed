//! In: a coded body in any pieces. Out: the decoded bytes as spans of the buffer that they were decoded into, under caps that
//! are the same for every coding.

#[cfg(any(feature = "br", feature = "zstd"))]
use alloc::vec::Vec;

use super::Coding;
#[cfg(feature = "br")]
use super::br::Brotli;
use super::deflate::{self, Adler32};
use super::gzip;
use super::inflate::{Inflate, Status};
#[cfg(feature = "zstd")]
use super::zstd::Zstd;
use crate::base::{Limit, Limits, Rule, Span, Violation};
use crate::decode::guard::{Guard, Leave};

/// The engines of other codings are kept while all engines together hold at most one part in so many of the budget.
#[cfg(any(feature = "br", feature = "zstd"))]
const KEEP_PART: usize = 8;

/// What one step did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Coded bytes taken from the front of the input.
    pub consumed: usize,
    /// Decoded bytes, in the window until the next step. It never wraps.
    pub produced: Span,
    /// The coded stream is complete, its checksum and length were right. Whether the *body* ends here only
    /// [`Decoder::end`] can say: bytes may follow, and they may not.
    pub done: bool,
}

enum Phase {
    GzipHeader(gzip::Header),
    ZlibHeader(deflate::Header),
    Data,
    /// An engine that decodes ahead: it is fed when all it decoded is given.
    #[cfg(any(feature = "br", feature = "zstd"))]
    Ahead,
    /// The bytes that must follow, how many there are, and how many came.
    Trailer([u8; 8], u8, u8),
    Done,
    /// Identity: no end of its own.
    Copy,
}

enum Sum {
    None,
    Crc(crc32fast::Hasher),
    Adler(Adler32),
}

/// The decoder of one body at a time, and then of the next one.
///
/// The caller pulls: a step takes some input and gives at most so many bytes, each of them inside the limits.
///
/// ```text
///   ┌─ step(rest of the input) ◀──────────────┐
///   ├─ Err: the body is refused               │ until a step that was given nothing
///   └─ Ok: take window(produced), go on ──────┘ gives nothing; with more input, again
///
///   at the end of the body: finish(), the same with no input, then end()
/// ```
///
/// Cut the input as you like and ask for as much as you like at a time: bytes, error and its offset are the same. Bytes
/// that come before a fault are given first. Its memory is taken with the first step: about 43 KiB for gzip and deflate; for
/// brotli and zstd it grows with what is decoded, within [`Decoder::set_budget`].
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::coding::{Coding, Decoder};
///
/// let coded = b"\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27";
/// let mut decoder = Decoder::new(Coding::Deflate)?;
/// let (mut rest, mut text) = (&coded[..], Vec::new());
/// loop {
///     let step = decoder.step(&Limits::DEFAULT, rest, 4096)?;
///     text.extend_from_slice(decoder.window(step.produced));
///     rest = &rest[step.consumed..];
///     if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
///         break;
///     }
/// }
/// decoder.end()?;
/// assert_eq!(text, b"abc");
/// # Ok::<(), vestibule::Violation>(())
/// ```
pub struct Decoder {
    coding: Coding,
    phase: Phase,
    sum: Sum,
    failed: Option<Violation>,
    coded: u64,
    decoded: u64,
    /// Nothing more comes out of the engine until it gets another byte.
    dry: bool,
    /// No more input comes.
    finished: bool,
    budget: usize,
    inflate: Inflate,
    // One of each at most, in a `Vec` because that is what can be allocated fallibly.
    #[cfg(feature = "br")]
    brotli: Vec<Brotli>,
    #[cfg(feature = "zstd")]
    zstd: Vec<Zstd>,
}

impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decoder")
            .field("coding", &self.coding)
            .field("coded", &self.coded)
            .field("decoded", &self.decoded)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// A decoder for one body. [`Coding::Identity`] is decoded too, by copying; who can should lend such a body as it is.
    ///
    /// # Errors
    /// [`Rule::DecoderPool`]: there is no memory for a window.
    pub fn new(coding: Coding) -> Result<Decoder, Violation> {
        let mut decoder = Decoder {
            coding,
            phase: Phase::Copy,
            sum: Sum::None,
            failed: None,
            coded: 0,
            decoded: 0,
            dry: true,
            finished: false,
            budget: usize::MAX,
            inflate: Inflate::default(),
            #[cfg(feature = "br")]
            brotli: Vec::new(),
            #[cfg(feature = "zstd")]
            zstd: Vec::new(),
        };
        decoder.reset(coding);
        decoder.begin(usize::MAX)?;
        Ok(decoder)
    }

    /// The same memory for another body. What the last one left in it cannot be reached.
    pub fn reset(&mut self, coding: Coding) {
        (self.phase, self.sum) = start(coding);
        self.coding = coding;
        self.failed = None;
        (self.coded, self.decoded) = (0, 0);
        (self.dry, self.finished) = (true, false);
        match coding {
            Coding::Identity | Coding::Gzip | Coding::Deflate => self.inflate.reset(),
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.iter_mut().for_each(Brotli::reset),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.iter_mut().for_each(Zstd::reset),
            #[cfg(not(all(feature = "br", feature = "zstd")))]
            _ => {}
        }
    }

    /// Memory for the engine of this coding. That of other codings goes if it would not fit beside it.
    fn begin(&mut self, budget: usize) -> Result<(), Violation> {
        let fixed = match self.coding {
            Coding::Identity | Coding::Gzip | Coding::Deflate if self.inflate.is_ready() => return Ok(()),
            Coding::Identity | Coding::Gzip | Coding::Deflate => Inflate::BYTES,
            #[cfg(feature = "br")]
            Coding::Brotli if !self.brotli.is_empty() => return Ok(()),
            #[cfg(feature = "br")]
            Coding::Brotli => Brotli::BYTES,
            #[cfg(feature = "zstd")]
            Coding::Zstd if !self.zstd.is_empty() => return Ok(()),
            #[cfg(feature = "zstd")]
            Coding::Zstd => size_of::<Zstd>(),
            #[cfg(not(all(feature = "br", feature = "zstd")))]
            _ => return Err(Violation::new(Rule::CodingUnknown, 0)),
        };
        if self.retained_bytes().saturating_add(fixed) > budget {
            self.drop_others();
        }
        if fixed > budget {
            return Err(Violation::new(Rule::DecoderPool, 0));
        }
        let made = match self.coding {
            Coding::Identity | Coding::Gzip | Coding::Deflate => self.inflate.begin(),
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.try_reserve_exact(1).map(|()| self.brotli.push(Brotli::new())),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.try_reserve_exact(1).map(|()| self.zstd.push(Zstd::new())),
            #[cfg(not(all(feature = "br", feature = "zstd")))]
            _ => Ok(()),
        };
        made.map_err(|_| Violation::new(Rule::DecoderPool, 0))
    }

    /// Frees the engines of other codings.
    fn drop_others(&mut self) {
        if !matches!(self.coding, Coding::Identity | Coding::Gzip | Coding::Deflate) {
            self.inflate = Inflate::default();
        }
        #[cfg(feature = "br")]
        if self.coding != Coding::Brotli {
            self.brotli = Vec::new();
        }
        #[cfg(feature = "zstd")]
        if self.coding != Coding::Zstd {
            self.zstd = Vec::new();
        }
    }

    /// Between two bodies: frees what a large one needed and the next one may not (M-7). An engine of each coding that it has
    /// met stays, with what small bodies need, so that bodies of different codings may take turns.
    pub fn rest(&mut self) {
        #[cfg(feature = "br")]
        self.brotli.iter_mut().for_each(Brotli::rest);
        #[cfg(feature = "zstd")]
        self.zstd.iter_mut().for_each(Zstd::rest);
    }

    /// How many bytes it may hold from now on: what the others of its connection leave of
    /// [`Limit::DecoderPoolBytes`](crate::Limit::DecoderPoolBytes). All of the pool, unless this is called.
    pub const fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// No more input comes. True if that makes a difference: a piece of input was held until it were complete, and is decoded
    /// by the next steps. False once that was said.
    pub fn finish(&mut self) -> bool {
        let first = !core::mem::replace(&mut self.finished, true);
        first && self.holds_input()
    }

    fn holds_input(&self) -> bool {
        match self.coding {
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.first().is_some_and(|engine| !engine.is_settled()),
            _ => false,
        }
    }

    /// The coding that it takes off.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Coded bytes taken so far.
    pub const fn coded_bytes(&self) -> u64 {
        self.coded
    }

    /// Decoded bytes given so far.
    pub const fn decoded_bytes(&self) -> u64 {
        self.decoded
    }

    /// What it holds on the heap.
    pub fn retained_bytes(&self) -> usize {
        let held = self.inflate.retained_bytes();
        #[cfg(feature = "br")]
        let held = held + self.brotli.iter().map(Brotli::retained_bytes).sum::<usize>();
        #[cfg(feature = "zstd")]
        let held = held + self.zstd.iter().map(Zstd::retained_bytes).sum::<usize>();
        held
    }

    /// The bytes that the last step produced.
    pub fn window(&self, span: Span) -> &[u8] {
        span.of(match self.coding {
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.first().map_or(&[], Brotli::bytes),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.first().map_or(&[], Zstd::bytes),
            _ => self.inflate.bytes(),
        })
    }

    /// Takes input and gives at most `max_output` bytes (0 counts as 1).
    ///
    /// Does something unless `input` is empty; with empty input it gives what is still inside.
    ///
    /// # Errors
    /// In the coded body (`at` is the offset of the byte that shows it): [`Rule::GzipHeader`], [`Rule::GzipHeaderTooLong`],
    /// [`Rule::GzipTrailer`], [`Rule::GzipMembers`], [`Rule::ZlibHeader`], [`Rule::ZlibTrailer`], [`Rule::DeflateData`];
    /// [`Rule::BrotliWindow`], [`Rule::BrotliData`] (at the first byte of the piece that shows it), [`Rule::BrotliTrailing`];
    /// [`Rule::ZstdHeader`], [`Rule::ZstdWindow`], [`Rule::ZstdDictionary`], [`Rule::ZstdData`] (at the last byte of its block, or of the block's head),
    /// [`Rule::ZstdChecksum`], [`Rule::ZstdTrailing`]; [`Rule::DecoderStalled`], [`Rule::DecoderPool`]. In the decoded body (`at` is the offset of the first byte too many):
    /// [`Rule::DecodedTooLarge`], [`Rule::DecodedRatio`]. From then on every call gives the same error.
    pub fn step(&mut self, limits: &Limits, input: &[u8], max_output: usize) -> Result<Step, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let mut step = Step { consumed: 0, produced: Span::default(), done: false };
        match self.advance(limits, input, max_output.max(1), &mut step) {
            Ok(()) => Ok(step),
            Err(mut violation) => {
                if violation.rule == Rule::DecoderPool {
                    violation.value = limits.get(Limit::DecoderPoolBytes);
                }
                self.failed = Some(violation);
                // What was decoded before the fault is given first: somebody who cuts the input finer sees it, too.
                if step.produced.is_empty() { Err(violation) } else { Ok(step) }
            }
        }
    }

    /// The coded body ends here. Call it once it is finished, and a step that was given nothing gave nothing.
    ///
    /// # Errors
    /// [`Rule::CodedTruncated`], at the length of the coded body, if more had to come; or what [`Decoder::step`] said.
    pub fn end(&mut self) -> Result<(), Violation> {
        match (self.failed, &self.phase) {
            (Some(violation), _) => Err(violation),
            (None, Phase::Done | Phase::Copy) => Ok(()),
            (None, _) => {
                let violation = Violation::new(Rule::CodedTruncated, self.coded);
                self.failed = Some(violation);
                Err(violation)
            }
        }
    }

    // Each round takes input, gives output and returns, or finds the engine dry, after which the next one takes or returns.
    fn advance(&mut self, limits: &Limits, input: &[u8], room: usize, step: &mut Step) -> Result<(), Violation> {
        let budget = self.budget.min(limits.size(Limit::DecoderPoolBytes));
        if self.coded == 0 {
            self.begin(budget)?;
        }
        loop {
            let rest = input.get(step.consumed..).unwrap_or_default();
            match &mut self.phase {
                Phase::GzipHeader(header) => {
                    let (taken, complete) = header.push(rest, self.coded, limits)?;
                    self.take(step, taken);
                    if !complete {
                        return Ok(());
                    }
                    self.phase = Phase::Data;
                }
                Phase::ZlibHeader(header) => {
                    let (taken, complete) = header.push(rest, self.coded)?;
                    self.take(step, taken);
                    if !complete {
                        return Ok(());
                    }
                    self.phase = Phase::Data;
                }
                Phase::Data | Phase::Copy => {
                    if !step.produced.is_empty() {
                        return Ok(());
                    }
                    let leave = Guard::new(limits).leave(self.coded, self.decoded, self.dry, rest.len(), room)?;
                    if leave.input == 0 && self.dry {
                        return Ok(());
                    }
                    let rest = rest.get(..leave.input).unwrap_or_default();
                    self.decode(rest, &leave, limits, step)?;
                }
                #[cfg(any(feature = "br", feature = "zstd"))]
                Phase::Ahead => {
                    if !step.produced.is_empty() {
                        return Ok(());
                    }
                    if self.dry {
                        if !self.feed(rest, limits, budget, step)? {
                            return Ok(());
                        }
                    } else {
                        let guard = Guard::new(limits);
                        let leave = guard.leave(self.coded, self.decoded, false, 0, room)?;
                        self.give(&leave, limits, step)?;
                    }
                }
                Phase::Trailer(expected, length, came) => {
                    let rule = match self.coding {
                        Coding::Gzip => Rule::GzipTrailer,
                        Coding::Zstd => Rule::ZstdChecksum,
                        _ => Rule::ZlibTrailer,
                    };
                    if *came == *length {
                        self.phase = Phase::Done;
                        continue;
                    }
                    let Some(&byte) = rest.first() else { return Ok(()) };
                    if expected.get(usize::from(*came)) != Some(&byte) {
                        return Err(Violation::new(rule, self.coded));
                    }
                    *came += 1;
                    self.take(step, 1);
                }
                Phase::Done => {
                    step.done = true;
                    // The end is told before anything that follows, as it would be if that came later.
                    if rest.is_empty() || step.consumed > 0 || !step.produced.is_empty() {
                        return Ok(());
                    }
                    // RFC 1952 §2.2 lets members follow each other, and RFC 8878 §3.1 frames; a request has no use for that, an
                    // attacker has: it is refused.
                    let rule = match self.coding {
                        Coding::Gzip => Rule::GzipMembers,
                        Coding::Brotli => Rule::BrotliTrailing,
                        Coding::Zstd => Rule::ZstdTrailing,
                        _ => Rule::ZlibTrailer,
                    };
                    return Err(Violation::new(rule, self.coded));
                }
            }
        }
    }

    fn take(&mut self, step: &mut Step, taken: usize) {
        step.consumed += taken;
        self.coded = self.coded.saturating_add(taken as u64);
    }

    /// One go of the inflater, or of the copy, inside the leave that was given.
    fn decode(&mut self, input: &[u8], leave: &Leave, limits: &Limits, step: &mut Step) -> Result<(), Violation> {
        let (status, taken, span) = match self.phase {
            Phase::Copy => self.inflate.copy(input, self.decoded, leave.output),
            _ => self.inflate.inflate(input, self.decoded, leave.output),
        };
        self.take(step, taken);
        self.gave(span, leave, limits, step)?;
        match &mut self.sum {
            Sum::None => {}
            Sum::Crc(crc) => crc.update(step.produced.of(self.inflate.bytes())),
            Sum::Adler(adler) => adler.update(step.produced.of(self.inflate.bytes())),
        }
        self.dry = status == Status::Dry;
        match status {
            Status::More | Status::Dry => Ok(()),
            Status::Complete => {
                self.phase = self.trailer();
                Ok(())
            }
            Status::Malformed => Err(self.malformed()),
        }
    }

    /// Output of an engine: what a probe brought breaks its rule.
    fn gave(&mut self, span: Span, leave: &Leave, limits: &Limits, step: &mut Step) -> Result<(), Violation> {
        if let Some(rule) = leave.probe.filter(|_| !span.is_empty()) {
            return Err(Violation::over(rule, self.decoded, limits));
        }
        step.produced = span;
        self.decoded = self.decoded.saturating_add(span.len() as u64);
        Ok(())
    }

    /// Takes from an engine that decodes ahead.
    #[cfg(any(feature = "br", feature = "zstd"))]
    fn give(&mut self, leave: &Leave, limits: &Limits, step: &mut Step) -> Result<(), Violation> {
        let span = match self.coding {
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.first_mut().map_or(Span::default(), |engine| engine.give(leave.output)),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.first_mut().map_or(Span::default(), |engine| engine.give(leave.output)),
            _ => Span::default(),
        };
        self.dry = span.is_empty();
        self.gave(span, leave, limits, step)
    }

    /// Gives input to an engine that decodes ahead and has nothing more to give; false if there is nothing to be done.
    #[cfg(any(feature = "br", feature = "zstd"))]
    fn feed(&mut self, rest: &[u8], limits: &Limits, budget: usize, step: &mut Step) -> Result<bool, Violation> {
        let own = match self.coding {
            #[cfg(feature = "br")]
            Coding::Brotli => self.brotli.first().map_or(0, Brotli::retained_bytes),
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.zstd.first().map_or(0, Zstd::retained_bytes),
            _ => 0,
        };
        // The engines of other codings are kept while there is much more room than that, and never cost this one its own.
        if self.retained_bytes() > own && self.retained_bytes() > budget / KEEP_PART {
            self.drop_others();
        }
        let budget = budget.saturating_sub(self.retained_bytes() - own);
        let fed = match self.coding {
            #[cfg(feature = "br")]
            Coding::Brotli => self.feed_brotli(rest, limits, budget)?,
            #[cfg(feature = "zstd")]
            Coding::Zstd => self.feed_zstd(rest, limits, budget)?,
            _ => None,
        };
        match fed {
            Some(taken) => {
                self.take(step, taken);
                // Unless that was the end of it.
                self.dry = !matches!(self.phase, Phase::Ahead);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Says how much it took; `None` if there is nothing to be done.
    #[cfg(feature = "br")]
    fn feed_brotli(&mut self, rest: &[u8], limits: &Limits, budget: usize) -> Result<Option<usize>, Violation> {
        let guard = Guard::new(limits);
        let Some(engine) = self.brotli.first_mut() else { return Ok(None) };
        if let Some(violation) = engine.fault() {
            return Err(violation);
        }
        if engine.is_complete() {
            self.phase = Phase::Done;
            return Ok(Some(0));
        }
        if engine.is_settled() {
            guard.stalled(self.coded, self.decoded)?;
        }
        if rest.is_empty() && (!self.finished || engine.is_settled()) {
            return Ok(None);
        }
        // Where a piece could pass a stall, each byte is looked at.
        let piece_end = self.coded.saturating_add(Brotli::PIECE as u64);
        let careful = guard.stalled(piece_end, self.decoded.saturating_add(1)).is_err();
        engine.feed(rest, self.coded, (careful, self.finished), limits, budget).map(Some)
    }

    /// Says how much it took; `None` if there is nothing to be done.
    #[cfg(feature = "zstd")]
    fn feed_zstd(&mut self, rest: &[u8], limits: &Limits, budget: usize) -> Result<Option<usize>, Violation> {
        let Some(engine) = self.zstd.first_mut() else { return Ok(None) };
        if engine.is_complete() {
            self.phase = match engine.checksum() {
                Some([a, b, c, d]) => Phase::Trailer([a, b, c, d, 0, 0, 0, 0], 4, 0),
                None => Phase::Done,
            };
            return Ok(Some(0));
        }
        if engine.is_settled() {
            Guard::new(limits).stalled(self.coded, self.decoded)?;
        }
        if rest.is_empty() {
            return Ok(None);
        }
        engine.feed(rest, self.coded, limits, budget).map(Some)
    }

    /// The inflater gives back whole bytes that it did not need: the last one taken is the one that shows the fault.
    fn malformed(&self) -> Violation {
        Violation::new(Rule::DeflateData, self.coded.saturating_sub(1))
    }

    fn trailer(&self) -> Phase {
        match &self.sum {
            Sum::None => Phase::Done,
            Sum::Crc(crc) => Phase::Trailer(gzip::trailer(crc.clone().finalize(), self.decoded), 8, 0),
            Sum::Adler(adler) => {
                let [a, b, c, d] = adler.trailer();
                Phase::Trailer([a, b, c, d, 0, 0, 0, 0], 4, 0)
            }
        }
    }
}

fn start(coding: Coding) -> (Phase, Sum) {
    match coding {
        Coding::Identity => (Phase::Copy, Sum::None),
        Coding::Gzip => (Phase::GzipHeader(gzip::Header::new()), Sum::Crc(crc32fast::Hasher::new())),
        Coding::Deflate => (Phase::ZlibHeader(deflate::Header::new()), Sum::Adler(Adler32::new())),
        #[cfg(any(feature = "br", feature = "zstd"))]
        Coding::Brotli | Coding::Zstd => (Phase::Ahead, Sum::None),
        #[cfg(not(any(feature = "br", feature = "zstd")))]
        Coding::Brotli | Coding::Zstd => (Phase::Done, Sum::None), // they get no engine, and so no input
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Limit;

    fn decode(decoder: &mut Decoder, limits: &Limits, coded: &[u8], max: usize) -> (Vec<u8>, Result<(), Violation>) {
        let (mut rest, mut out) = (coded, Vec::new());
        loop {
            match decoder.step(limits, rest, max) {
                Err(violation) => return (out, Err(violation)),
                Ok(step) => {
                    assert!(step.consumed > 0 || !step.produced.is_empty() || rest.is_empty(), "no progress");
                    out.extend_from_slice(decoder.window(step.produced));
                    rest = &rest[step.consumed..];
                    if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
                        return (out, decoder.end());
                    }
                }
            }
        }
    }

    // Stored: final bit, no compression, length and its complement (RFC 1951 §3.2.4).
    const ABC: &[u8] = b"\x78\x01\x01\x03\x00\xfc\xffabc\x02\x4d\x01\x27";

    #[test]
    fn a_body_is_done_only_when_its_checksum_was_right() {
        let mut decoder = Decoder::new(Coding::Deflate).expect("memory");
        let step = decoder.step(&Limits::DEFAULT, &ABC[..10], 100).expect("good so far");
        assert_eq!(decoder.window(step.produced), b"abc");
        assert!(!step.done);
        assert_eq!(decoder.end().unwrap_err().rule, Rule::CodedTruncated);
        decoder.reset(Coding::Deflate);
        assert_eq!(decode(&mut decoder, &Limits::DEFAULT, ABC, 100), (b"abc".to_vec(), Ok(())));
        let mut wrong = ABC.to_vec();
        wrong[13] ^= 1;
        decoder.reset(Coding::Deflate);
        let got = decode(&mut decoder, &Limits::DEFAULT, &wrong, 100);
        assert_eq!(got, (b"abc".to_vec(), Err(Violation::new(Rule::ZlibTrailer, 13))));
        let longer = [ABC, b"!"].concat();
        decoder.reset(Coding::Deflate);
        let got = decode(&mut decoder, &Limits::DEFAULT, &longer, 100);
        assert_eq!(got.1, Err(Violation::new(Rule::ZlibTrailer, 14)));
    }

    #[test]
    fn a_distance_before_the_start_is_refused_and_reads_nothing_of_the_last_body() {
        // A fixed block: a match of 3 at distance 1, end (bits: 1 01, 0000001, 00000, 0000000).
        let reaching_back = [0x78, 0x01, 0x03, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00];
        let mut decoder = Decoder::new(Coding::Deflate).expect("memory");
        for _ in 0..2 {
            let got = decode(&mut decoder, &Limits::DEFAULT, &reaching_back, 100);
            assert_eq!(got, (Vec::new(), Err(Violation::new(Rule::DeflateData, 3))));
            decoder.reset(Coding::Deflate);
            assert_eq!(decode(&mut decoder, &Limits::DEFAULT, ABC, 100).1, Ok(()));
            decoder.reset(Coding::Deflate);
        }
    }

    // ENC-02
    #[test]
    fn identity_is_copied_under_the_same_cap() {
        let limits = Limits::DEFAULT.with(Limit::DecodedBytes, 1_024).expect("in range");
        for (length, good) in [(1_023, true), (1_024, true), (1_025, false)] {
            let mut decoder = Decoder::new(Coding::Identity).expect("memory");
            let (out, end) = decode(&mut decoder, &limits, &vec![7; length], 100);
            assert_eq!(out.len(), length.min(1_024));
            assert_eq!(end.is_ok(), good);
        }
        let mut decoder = Decoder::new(Coding::Identity).expect("memory");
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        assert_eq!(decode(&mut decoder, &Limits::DEFAULT, &bytes, usize::MAX), (bytes.clone(), Ok(())));
    }

    #[test]
    fn it_keeps_one_window_and_one_inflater() {
        let decoder = Decoder::new(Coding::Gzip).expect("memory");
        assert!(decoder.retained_bytes() < 48 << 10, "{}", decoder.retained_bytes());
    }
}
