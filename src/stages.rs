//! In: a clock of the caller's. Out: what each stage of a connection has cost, for a probe. Without a clock there is nothing here but one
//! question a step.

/// What a stage has done so far.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Stage {
    /// How far the caller's clock went meanwhile.
    pub ticks: u64,
    /// Bytes that went through it.
    pub bytes: u64,
    /// How often it had something to do.
    pub count: u64,
}

/// What the stages of a connection have done so far, each without the others, and what came of it. What a handler does between two events is in none of them; what the
/// machine does inside its calls is, where it codes a response.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct StageStats {
    /// Records of TLS, opened and sealed, handshakes included: bytes as they go over the wire.
    pub decrypt: Stage,
    /// Heads, frames, windows, and what is sent between two events: plaintext as it was received. Counts steps.
    pub parse: Stage,
    /// Content codings: bytes of the content without them. Bodies that are gathered: their bytes.
    pub decode: Stage,
    /// Heads of responses that were written, by the class of their status, 1xx first: interim ones, and those that the machine gives by
    /// itself, with all others.
    pub responses: [u64; 5],
}

/// Stages with their clock.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Stages {
    clock: fn() -> u64,
    pub(crate) stats: StageStats,
}

/// On the heap, where there is one: most connections have none.
#[cfg(feature = "alloc")]
pub(crate) type Kept = Option<crate::base::memory::Held<Stages>>;
#[cfg(not(feature = "alloc"))]
pub(crate) type Kept = Option<Stages>;

impl Stages {
    pub(crate) fn of(config: &crate::Config) -> Kept {
        let stages = Stages { clock: config.stage_clock()?, stats: StageStats::default() };
        #[cfg(feature = "alloc")]
        return crate::base::memory::Held::new(stages).ok(); // without memory nothing is measured
        #[cfg(not(feature = "alloc"))]
        Some(stages)
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn clock(&self) -> fn() -> u64 {
        self.clock
    }
}

impl Stage {
    pub(crate) fn add(&mut self, other: Stage) {
        self.ticks = self.ticks.saturating_add(other.ticks);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.count = self.count.saturating_add(other.count);
    }
}

/// A stage begins. Nothing is asked without a clock.
#[inline]
pub(crate) fn start(kept: &Kept) -> u64 {
    kept.as_ref().map_or(0, |stages| (stages.clock)())
}

/// The stage that began at `since` ends: so many bytes went through it, and it had so much to do.
#[inline]
pub(crate) fn stop(kept: &mut Kept, stage: fn(&mut StageStats) -> &mut Stage, since: u64, (bytes, count): (u64, u64)) {
    if let Some(stages) = kept {
        let ticks = (stages.clock)().saturating_sub(since);
        stage(&mut stages.stats).add(Stage { ticks, bytes, count });
    }
}

/// So many responses were written. Nothing is taken without a clock.
pub(crate) fn said(kept: &mut Kept, take: impl FnOnce() -> [u32; 5]) {
    if let Some(stages) = kept {
        let sums = stages.stats.responses.iter_mut();
        sums.zip(take()).for_each(|(sum, n)| *sum = sum.saturating_add(u64::from(n)));
    }
}

#[cfg(feature = "tls")]
pub(crate) fn decrypt(stats: &mut StageStats) -> &mut Stage {
    &mut stats.decrypt
}

pub(crate) fn parse(stats: &mut StageStats) -> &mut Stage {
    &mut stats.parse
}

#[cfg(feature = "alloc")]
pub(crate) fn decode(stats: &mut StageStats) -> &mut Stage {
    &mut stats.decode
}
