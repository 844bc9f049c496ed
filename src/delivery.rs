//! How a body goes from the parser to the handler: decoded or not, in parts or whole, here or by a job. One body at a time.

use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::coding::Coding;
#[cfg(feature = "alloc")]
use crate::{
    base::memory::Held,
    decode::coding::Decoder,
    decode::grow::append,
    decode::job::{Done, Job},
};
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// Where the delivery of the current body stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// No body, or all of it is handed out.
    #[default]
    Over,
    /// The handler has not yet been heard on how it wants it.
    New,
    /// Bytes are passing.
    Running,
}

#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) stage: Stage,
    pub(crate) coding: Coding,
    #[cfg(feature = "alloc")]
    pub(crate) decoder: Option<Held<Decoder>>,
    #[cfg(feature = "alloc")]
    pub(crate) decoded: bool,
    /// The decoder may give more without being given more.
    #[cfg(feature = "alloc")]
    pub(crate) pending: bool,
    #[cfg(feature = "alloc")]
    pub(crate) gather: Vec<u8>,
    #[cfg(feature = "alloc")]
    pub(crate) job: JobAt,
    #[cfg(feature = "alloc")]
    generation: u32,
}

/// Where the job of the current body is.
#[cfg(feature = "alloc")]
#[derive(Debug, Default)]
pub(crate) enum JobAt {
    #[default]
    None,
    /// The body is gathered as it was sent: to be fetched.
    Ready,
    /// With the caller.
    Out,
    /// Come back.
    Back(Result<Vec<u8>, Violation>),
}

#[cfg(feature = "alloc")]
impl JobAt {
    fn retained_bytes(&self) -> usize {
        if let JobAt::Back(Ok(bytes)) = self { bytes.capacity() } else { 0 }
    }
}

impl Delivery {
    /// A body begins.
    pub(crate) fn begin(&mut self, coding: Coding) {
        self.stage = Stage::New;
        self.coding = coding;
        #[cfg(feature = "alloc")]
        {
            self.gather.clear();
            self.decoded = false;
            self.pending = false;
            self.job = JobAt::None;
        }
    }

    /// All of it is handed out, or nobody wants the rest.
    pub(crate) fn over(&mut self) {
        self.stage = Stage::Over;
        #[cfg(feature = "alloc")]
        {
            self.job = JobAt::None;
            self.pending = false;
            // Large windows go with their bodies (M-7).
            self.decoder.iter_mut().for_each(|decoder| decoder.rest());
        }
    }

    pub(crate) fn is_coded(&self) -> bool {
        self.coding != Coding::Identity
    }

    /// Bytes kept beyond its own state.
    pub(crate) fn retained_bytes(&self) -> usize {
        #[cfg(feature = "alloc")]
        return self.gather.capacity() + self.job.retained_bytes() + self.decoder.as_deref().map_or(0, held);
        #[cfg(not(feature = "alloc"))]
        0
    }

    /// Frees what is only kept for the next body.
    pub(crate) fn shed(&mut self) {
        #[cfg(feature = "alloc")]
        if self.stage == Stage::Over {
            self.decoder = None;
            self.gather = Vec::new();
        }
    }
}

/// A decoder on the heap.
#[cfg(feature = "alloc")]
pub(crate) fn held_decoder(coding: Coding) -> Result<Held<Decoder>, Violation> {
    Held::new(Decoder::new(coding)?).map_err(|_| Violation::new(Rule::DecoderPool, 0))
}

/// Bytes of a decoder on the heap: most connections have none.
#[cfg(feature = "alloc")]
pub(crate) fn held(decoder: &Decoder) -> usize {
    size_of::<Decoder>() + decoder.retained_bytes()
}

/// The cap of a whole body, and the rule that a longer one breaks.
pub(crate) fn whole_cap(max: u32, limits: &Limits, at: u64) -> (u64, Violation) {
    let gather = limits.get(Limit::GatherBytes);
    match u64::from(max) {
        max if max <= gather => (max, Violation { value: max, ..Violation::new(Rule::BodyOverHandler, at) }),
        _ => (gather, Violation::over(Rule::BodyOverGather, at, limits)),
    }
}

#[cfg(feature = "alloc")]
impl Delivery {
    /// The decoder of this body, made or used again.
    pub(crate) fn decoder(&mut self) -> Result<&mut Decoder, Violation> {
        match &mut self.decoder {
            Some(decoder) => {
                if self.stage == Stage::New {
                    decoder.reset(self.coding);
                }
            }
            none => *none = Some(held_decoder(self.coding)?),
        }
        self.decoder.as_deref_mut().ok_or(Violation::new(Rule::DecoderPool, 0))
    }

    /// Adds to the gathered body; `most` is what it may ever become. Growth is never ahead of what was received (ENG-06).
    pub(crate) fn gather(&mut self, bytes: &[u8], most: u64) -> Result<(), Violation> {
        append(&mut self.gather, bytes, most)
    }

    /// Adds what the decoder produced to the gathered body.
    pub(crate) fn gather_decoded(&mut self, span: crate::base::Span, most: u64) -> Result<(), Violation> {
        match &self.decoder {
            Some(decoder) => append(&mut self.gather, decoder.window(span), most),
            None => Ok(()),
        }
    }

    pub(crate) fn take_job(&mut self, id: u64, max: u32, limits: &Limits) -> Option<Job> {
        if !matches!(self.job, JobAt::Ready) {
            return None;
        }
        self.job = JobAt::Out;
        self.generation = self.generation.wrapping_add(1);
        let (cap, over) = whole_cap(max, limits, 0);
        let (max, coded) = (usize::try_from(cap).unwrap_or(usize::MAX), core::mem::take(&mut self.gather));
        // In the decoded body, as without a job.
        Some(Job::new(id, self.generation, self.coding, coded, limits, max).or_else(over.shifted(cap)))
    }

    /// It is the job of this body.
    pub(crate) fn waits_for(&self, done: &Done) -> bool {
        matches!(self.job, JobAt::Out) && done.generation == self.generation
    }

    /// A job came back; false if nobody waits for it any more.
    pub(crate) fn put_job(&mut self, done: Done) -> bool {
        let waited = self.waits_for(&done);
        if waited {
            self.job = JobAt::Back(done.result);
        }
        waited
    }
}

/// What decoders and gathered bodies of a connection can take at most: a growing buffer and the one it is copied from, or a
/// job's result beside its input. `many`: bodies of HTTP/2, side by side.
pub(crate) fn bound_bytes(limits: &Limits, many: bool) -> usize {
    /// One decoder: a 32 KiB window and the inflater's tables.
    const DECODER_BYTES: usize = 65_536;
    // Those of brotli and zstd grow with what is decoded: one alone can take the pool.
    let grow = cfg!(any(feature = "br", feature = "zstd"));
    let decoders = if many || grow { limits.size(Limit::DecoderPoolBytes) } else { DECODER_BYTES };
    #[cfg(feature = "alloc")]
    let decoders = decoders + size_of::<Decoder>();
    if cfg!(feature = "alloc") { 2 * limits.size(Limit::GatherBytes) + decoders } else { 0 }
}
