//! In: a whole body and what it may become. Out: a value that can be sent to another thread, run there, and comes back with the
//! body, decoded and checked.

use alloc::vec::Vec;

use super::coding::{Coding, Decoder};
use super::grow::append;
use crate::base::{Limit, Limits, Rule, Violation};

/// A body to be decoded somewhere else.
///
/// `id` and `generation` are the caller's: a result whose stream was reset meanwhile is told by them, and dropped.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::coding::Coding;
/// use vestibule::decode::job::Job;
///
/// let coded = b"\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27".to_vec();
/// let job = Job::new(7, 1, Coding::Deflate, coded, &Limits::DEFAULT, 1 << 20);
/// let done = std::thread::spawn(|| job.run()).join().unwrap();
/// assert_eq!((done.id, done.generation, done.result), (7, 1, Ok(b"abc".to_vec())));
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose body it is.
    pub id: u64,
    /// Which use of the id.
    pub generation: u32,
    coding: Coding,
    coded: Vec<u8>,
    limits: Limits,
    max: usize,
    /// The rule that a longer one breaks.
    over: Violation,
}

/// A job that was run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    /// Whose body it was.
    pub id: u64,
    /// Which use of the id.
    pub generation: u32,
    /// The decoded body, or why there is none.
    pub result: Result<Vec<u8>, Violation>,
    /// The coded body as it was given, so that its buffer can be used again; empty if it was not coded and is the result.
    pub coded: Vec<u8>,
}

impl Job {
    /// A job that takes `coding` off `coded` and gives at most `max` bytes, inside what `limits` say about decoding.
    pub fn new(id: u64, generation: u32, coding: Coding, coded: Vec<u8>, limits: &Limits, max: usize) -> Job {
        let over = Violation { value: max as u64, ..Violation::new(Rule::BodyOverHandler, max as u64) };
        Job { id, generation, coding, coded, limits: limits.clone(), max, over }
    }

    /// The same, with another rule that a longer body breaks.
    pub(crate) fn or_else(self, over: Violation) -> Job {
        Job { over, ..self }
    }

    /// Bytes that it holds while it waits.
    pub const fn retained_bytes(&self) -> usize {
        self.coded.capacity()
    }

    /// Bytes of the body as it was sent: who runs short ones where they are spares them the way.
    pub const fn coded_bytes(&self) -> usize {
        self.coded.len()
    }

    /// Does the work, with a decoder of its own. A body without a coding is handed back as it is.
    pub fn run(self) -> Done {
        if self.coding == Coding::Identity {
            let Job { id, generation, coded, max, over, .. } = self;
            return match coded.len() > max {
                true => Done { id, generation, result: Err(over), coded },
                false => Done { id, generation, result: Ok(coded), coded: Vec::new() },
            };
        }
        match Decoder::new(self.coding) {
            Ok(mut decoder) => self.run_with(&mut decoder),
            Err(violation) => {
                Done { id: self.id, generation: self.generation, result: Err(violation), coded: self.coded }
            }
        }
    }

    /// Does the work with the decoder of the thread that runs it, which is reset first.
    ///
    /// The result is an error with the rules of [`Decoder::step`] and [`Decoder::end`]; [`Rule::BodyOverHandler`], at
    /// `max`, if the body is longer than that; [`Rule::DecoderPool`] if memory ran out.
    pub fn run_with(self, decoder: &mut Decoder) -> Done {
        if self.coding == Coding::Identity {
            return self.run();
        }
        decoder.reset(self.coding);
        let result = self.gather(decoder);
        // Large windows go with their bodies, here as on the connection (M-7).
        decoder.rest();
        Done { id: self.id, generation: self.generation, result, coded: self.coded }
    }

    /// Does the work, and what `then` does with the body: a check such as [`json::check`](crate::decode::json::check), or a whole
    /// decoding whose value it keeps for itself. If that refuses the body, so does the machine once the job is back, with the rule's status.
    ///
    /// ```
    /// use vestibule::decode::{coding::Coding, job::Job, json};
    /// use vestibule::{Limits, Rule};
    /// let job = |text: &str| Job::new(7, 1, Coding::Identity, text.into(), &Limits::DEFAULT, 1 << 20);
    /// assert_eq!(job("[1, 2]").run_then(json::check).result, Ok(b"[1, 2]".to_vec()));
    /// assert_eq!(job("[1, 2").run_then(json::check).result.unwrap_err().rule, Rule::JsonTruncated);
    /// ```
    pub fn run_then(self, then: impl FnOnce(&[u8], &Limits) -> Result<(), Violation>) -> Done {
        let limits = self.limits.clone();
        let mut done = self.run();
        if let Ok(body) = &done.result
            && let Err(violation) = then(body, &limits)
        {
            done.result = Err(violation);
        }
        done
    }

    fn gather(&self, decoder: &mut Decoder) -> Result<Vec<u8>, Violation> {
        let cap = self.limits.size(Limit::DecodedBytes).min(self.max);
        let (mut rest, mut out) = (self.coded.as_slice(), Vec::new());
        loop {
            // At the cap one more byte is asked for: not to have it, but to know whether there is one.
            let step = decoder.step(&self.limits, rest, cap.saturating_sub(out.len()).max(1))?;
            let bytes = decoder.window(step.produced);
            rest = rest.get(step.consumed..).unwrap_or_default();
            if bytes.is_empty() && rest.is_empty() {
                if decoder.finish() {
                    continue;
                }
                decoder.end()?;
                return Ok(out);
            }
            if out.len() + bytes.len() > self.max {
                return Err(self.over);
            }
            append(&mut out, bytes, cap as u64)?;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ABC: &[u8] = b"\x78\x01\x01\x03\x00\xfc\xffabc\x02\x4d\x01\x27";

    fn run(coded: &[u8], max: usize) -> Result<Vec<u8>, Violation> {
        let done = Job::new(9, 3, Coding::Deflate, coded.to_vec(), &Limits::DEFAULT, max).run();
        assert_eq!((done.id, done.generation, done.coded.as_slice()), (9, 3, coded));
        done.result
    }

    #[test]
    fn the_handlers_cap_is_exact() {
        assert_eq!(run(ABC, 4), Ok(b"abc".to_vec()));
        assert_eq!(run(ABC, 3), Ok(b"abc".to_vec()));
        for max in [2, 0] {
            let over = Violation { value: max as u64, ..Violation::new(Rule::BodyOverHandler, max as u64) };
            assert_eq!(run(ABC, max), Err(over));
        }
    }

    #[test]
    fn a_body_cut_short_is_no_body() {
        for cut in 0..ABC.len() {
            assert_eq!(run(&ABC[..cut], 100), Err(Violation::new(Rule::CodedTruncated, cut as u64)));
        }
        let members = [ABC, ABC].concat();
        assert_eq!(run(&members, 100).unwrap_err().rule, Rule::ZlibTrailer);
    }

    #[test]
    fn it_may_go_to_another_thread() {
        fn send<T: Send + 'static>() {}
        send::<Job>();
        send::<Done>();
        send::<Decoder>();
    }

    // M-7
    #[test]
    fn the_decoder_of_a_thread_keeps_no_large_window() {
        // An RLE block of 128 KiB; its window is 8 MiB.
        let coded = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x68, 3, 0, 16, b'x'];
        if let Ok(coding) = Coding::of(b"zstd") {
            let limits = Limits::DEFAULT.with(Limit::RatioFreeBytes, 1 << 20).unwrap();
            let mut decoder = Decoder::new(coding).unwrap();
            let done = Job::new(0, 0, coding, coded, &limits, 1 << 20).run_with(&mut decoder);
            assert_eq!(done.result.map(|bytes| bytes.len()), Ok(131_072));
            assert!(decoder.retained_bytes() < 65_536, "{}", decoder.retained_bytes());
        }
    }

    // ENG-06
    #[test]
    fn memory_grows_with_what_came() {
        let body = vec![b'x'; 100_000];
        let done = Job::new(0, 0, Coding::Identity, body.clone(), &Limits::DEFAULT, 1 << 40).run();
        let out = done.result.expect("plain");
        assert!(out == body && out.capacity() <= body.len() + body.len() / 2, "{}", out.capacity());
    }
}
