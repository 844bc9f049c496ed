//! In: a coded body in any pieces. Out: the decoded bytes as spans of a window that is both the history that deflate looks
//! back into and the buffer that the caller reads from: nothing is copied.

use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress_with_limit};

use super::Coding;
use super::deflate::{self, Adler32};
use super::gzip;
use crate::base::{Limits, Rule, Span, Violation};
use crate::decode::guard::Guard;

/// The farthest that deflate looks back (RFC 1951 §2), and so the size of the window.
const WINDOW: usize = 32_768;

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
///   └─ Ok: take window(produced), go on ──────┘ gives nothing; with more input, again; at its end: end()
/// ```
///
/// Cut the input as you like and ask for as much as you like at a time: bytes, error and its offset are the same. Bytes
/// that come before a fault are given first. Needs about 43 KiB, taken once.
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
///     if rest.is_empty() && step.produced.is_empty() {
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
    /// Nothing more comes out of the inflater until it gets another byte.
    dry: bool,
    // One inflater, in a `Vec` because that is what can be allocated fallibly.
    inflater: Vec<DecompressorOxide>,
    window: Vec<u8>,
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
        let no_room = |_| Violation::new(Rule::DecoderPool, 0);
        let (mut inflater, mut window) = (Vec::new(), Vec::new());
        inflater.try_reserve_exact(1).map_err(no_room)?;
        window.try_reserve_exact(WINDOW).map_err(no_room)?;
        inflater.push(DecompressorOxide::new());
        window.resize(WINDOW, 0);
        let (phase, sum) = start(coding);
        Ok(Decoder { coding, phase, sum, failed: None, coded: 0, decoded: 0, dry: true, inflater, window })
    }

    /// The same memory for another body. What the last one left in the window cannot be reached.
    pub fn reset(&mut self, coding: Coding) {
        (self.phase, self.sum) = start(coding);
        self.coding = coding;
        self.failed = None;
        (self.coded, self.decoded) = (0, 0);
        self.dry = true;
        if let Some(inflater) = self.inflater.first_mut() {
            inflater.init();
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
    pub const fn retained_bytes(&self) -> usize {
        self.inflater.capacity() * size_of::<DecompressorOxide>() + self.window.capacity()
    }

    /// The bytes that the last step produced.
    pub fn window(&self, span: Span) -> &[u8] {
        span.of(&self.window)
    }

    /// Takes input and gives at most `max_output` bytes (0 counts as 1).
    ///
    /// Does something unless `input` is empty; with empty input it gives what is still inside.
    ///
    /// # Errors
    /// In the coded body (`at` is the offset of the byte that shows it): [`Rule::GzipHeader`], [`Rule::GzipHeaderTooLong`],
    /// [`Rule::GzipTrailer`], [`Rule::GzipMembers`], [`Rule::ZlibHeader`], [`Rule::ZlibTrailer`], [`Rule::DeflateData`],
    /// [`Rule::DecoderStalled`]. In the decoded body (`at` is the offset of the first byte too many):
    /// [`Rule::DecodedTooLarge`], [`Rule::DecodedRatio`]. From then on every call gives the same error.
    pub fn step(&mut self, limits: &Limits, input: &[u8], max_output: usize) -> Result<Step, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let mut step = Step { consumed: 0, produced: Span::default(), done: false };
        match self.advance(limits, input, max_output.max(1), &mut step) {
            Ok(()) => Ok(step),
            Err(violation) => {
                self.failed = Some(violation);
                // What was decoded before the fault is given first: somebody who cuts the input finer sees it, too.
                if step.produced.is_empty() { Err(violation) } else { Ok(step) }
            }
        }
    }

    /// The coded body ends here. Call it once a step that was given nothing gave nothing.
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

    // Each round takes input, gives output and returns, or finds the inflater dry, after which the next one takes or returns.
    fn advance(&mut self, limits: &Limits, input: &[u8], room: usize, step: &mut Step) -> Result<(), Violation> {
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
                    self.decode(rest, leave.output, leave.probe, limits, step)?;
                }
                Phase::Trailer(expected, length, came) => {
                    let rule = if self.coding == Coding::Gzip { Rule::GzipTrailer } else { Rule::ZlibTrailer };
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
                    // RFC 1952 §2.2 lets members follow each other; a request has no use for that, an attacker has: it is refused.
                    let rule = if self.coding == Coding::Gzip { Rule::GzipMembers } else { Rule::ZlibTrailer };
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
    fn decode(
        &mut self,
        input: &[u8],
        room: usize,
        probe: Option<Rule>,
        limits: &Limits,
        step: &mut Step,
    ) -> Result<(), Violation> {
        let start = (self.decoded % WINDOW as u64) as usize;
        let (status, taken, given) = match self.phase {
            Phase::Copy => copy(input, &mut self.window, start, room),
            _ => {
                let Some(inflater) = self.inflater.first_mut() else { return Ok(()) };
                // In its first turn the window holds no history before its start, and the inflater only checks that when it
                // is told that the buffer does not wrap. Without it a body could read what the last one left there.
                let first = self.decoded < WINDOW as u64;
                let flags = if first { TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF } else { 0 };
                decompress_with_limit(inflater, input, &mut self.window, start, room, flags | TINFL_FLAG_HAS_MORE_INPUT)
            }
        };
        self.take(step, taken);
        if let Some(rule) = probe.filter(|_| given > 0) {
            return Err(Violation::over(rule, self.decoded, limits));
        }
        step.produced = Span::new(start, start + given);
        self.decoded = self.decoded.saturating_add(given as u64);
        match &mut self.sum {
            Sum::None => {}
            Sum::Crc(crc) => crc.update(step.produced.of(&self.window)),
            Sum::Adler(adler) => adler.update(step.produced.of(&self.window)),
        }
        self.dry = false;
        match status {
            TINFLStatus::HasMoreOutput if taken == 0 && given == 0 => Err(self.malformed()),
            TINFLStatus::HasMoreOutput => Ok(()),
            TINFLStatus::NeedsMoreInput => {
                self.dry = true;
                Ok(())
            }
            TINFLStatus::Done => {
                self.phase = self.trailer();
                Ok(())
            }
            _ => Err(self.malformed()),
        }
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
        // Nothing here takes these off: every byte of such a body is one too many.
        Coding::Brotli | Coding::Zstd => (Phase::Done, Sum::None),
    }
}

fn copy(input: &[u8], window: &mut [u8], start: usize, room: usize) -> (TINFLStatus, usize, usize) {
    let free = window.get_mut(start..).unwrap_or_default();
    let n = input.len().min(free.len()).min(room);
    if let (Some(to), Some(from)) = (free.get_mut(..n), input.get(..n)) {
        to.copy_from_slice(from);
    }
    // Nothing is held back: what was not taken stays with the caller.
    (TINFLStatus::NeedsMoreInput, n, n)
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
                    if rest.is_empty() && step.produced.is_empty() {
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
