//! In: what a peer does that costs us more than it costs it. Out: whether it may go on (RFC 9113 §10.5).

use crate::base::{Bucket, Instant, Limit, Limits, Rule};

/// What a connection has done so far that could be abuse. Every counter has a limit; the buckets fill up again with time.
#[derive(Debug)]
pub(crate) struct Guard {
    resets: Bucket,
    glitches: Bucket,
    burst: u64,
    empty: u64,
    small: u64,
    priorities: u64,
    settings: u64,
    window_updates: u64,
    pings: u64,
    /// Streams that were opened.
    pub(crate) streams: u64,
    received: u64,
    payload: u64,
}

/// SETTINGS frames that nobody minds.
const FREE_SETTINGS: u64 = 8;
/// DATA frames shorter than this are small.
pub(super) const SMALL: u32 = 256;
/// What a stream above the limit costs, so that a hundred of them end the connection.
const REFUSAL: u64 = 10;

impl Guard {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Guard {
        let bucket = |burst, rate| Bucket::new(limits.get(burst), limits.get(rate), now);
        Guard {
            resets: bucket(Limit::ResetBurst, Limit::ResetRate),
            glitches: bucket(Limit::GlitchBurst, Limit::GlitchRate),
            burst: limits.get(Limit::GlitchBurst),
            empty: 0,
            small: 0,
            priorities: 0,
            settings: 0,
            window_updates: 0,
            pings: 0,
            streams: 0,
            received: 0,
            payload: 0,
        }
    }

    /// So odd that it is better to part in peace.
    pub(crate) const fn is_tired(&self) -> bool {
        self.glitches.tokens() < self.burst / 4
    }

    pub(crate) fn glitch(&mut self, now: Instant) -> Result<(), Rule> {
        if self.glitches.charge(now, 1) { Ok(()) } else { Err(Rule::GlitchFlood) }
    }

    /// The peer reset a stream (H2-06).
    pub(crate) fn reset(&mut self, now: Instant) -> Result<(), Rule> {
        if self.resets.charge(now, 1) { Ok(()) } else { Err(Rule::ResetFlood) }
    }

    /// The peer made us reset a stream (H2-07): that charges both.
    pub(crate) fn provoked(&mut self, now: Instant) -> Result<(), Rule> {
        self.reset(now)?;
        self.glitch(now)
    }

    /// A stream above the limit (H2-08).
    pub(crate) fn refusal(&mut self, now: Instant) -> Result<(), Rule> {
        self.reset(now)?;
        if self.glitches.charge(now, REFUSAL) { Ok(()) } else { Err(Rule::GlitchFlood) }
    }

    /// A frame of any kind, with its header (H2-22). `sent`: content that we have sent, for which windows are to be opened.
    pub(crate) fn frame(&mut self, len: u32, is_payload: bool, sent: u64, limits: &Limits) -> Result<(), Rule> {
        self.received += u64::from(len) + super::frame::HEADER as u64;
        if is_payload {
            self.payload += u64::from(len);
        }
        let content = self.payload.saturating_add(sent);
        let over = self.received / 8 > content.saturating_add(limits.get(Limit::OverheadBytes));
        if over { Err(Rule::OverheadFlood) } else { Ok(()) }
    }

    /// A frame without content that ends nothing (H2-18).
    pub(crate) fn empty(&mut self, limits: &Limits) -> Result<(), Rule> {
        self.empty += 1;
        if self.empty > limits.get(Limit::EmptyFrames) { Err(Rule::EmptyFrameFlood) } else { Ok(()) }
    }

    /// DATA with so much content that ends nothing: what it lacks, to be given back by `taken`.
    pub(crate) fn small(&mut self, content: u32, limits: &Limits) -> Result<u32, Rule> {
        let lack = SMALL.saturating_sub(content);
        self.small += u64::from(lack);
        if self.small > limits.get(Limit::SmallFrameBytes) { Err(Rule::SmallFrameFlood) } else { Ok(lack) }
    }

    pub(crate) fn taken(&mut self, lack: u32) {
        self.small = self.small.saturating_sub(u64::from(lack));
    }

    /// PRIORITY or PRIORITY_UPDATE (H2-21).
    pub(crate) fn priority(&mut self, limits: &Limits) -> Result<(), Rule> {
        self.priorities += 1;
        let most = limits.get(Limit::PriorityFrames).saturating_add(self.streams);
        if self.priorities > most { Err(Rule::PriorityFlood) } else { Ok(()) }
    }

    /// SETTINGS (H2-16).
    pub(crate) fn settings(&mut self, now: Instant) -> Result<(), Rule> {
        self.settings += 1;
        if self.settings > FREE_SETTINGS { self.glitch(now) } else { Ok(()) }
    }

    /// PING, of which a peer that measures its connection needs about one for each DATA frame that we sent (H2-17).
    pub(crate) fn ping(&mut self, data_frames: u64, now: Instant) -> Result<(), Rule> {
        self.pings += 1;
        if self.pings > 5 + data_frames { self.glitch(now) } else { Ok(()) }
    }

    /// WINDOW_UPDATE, of which a peer needs few for each stream and each DATA frame that we sent (H2-20).
    pub(crate) fn window_update(&mut self, data_frames: u64, now: Instant) -> Result<(), Rule> {
        self.window_updates += 1;
        let fair = 5 + 2 * (self.streams + data_frames.saturating_mul(10));
        if self.window_updates > fair { self.glitch(now) } else { Ok(()) }
    }
}
