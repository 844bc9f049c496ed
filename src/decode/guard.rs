//! In: how much went into a decoder and how much came out. Out: how much more it may take and give in its next go, so that no
//! byte over a cap is ever decoded into somebody's hands. One guard for all codings.

use crate::base::{Limit, Limits, Rule, Violation};

/// Coded bytes that must have given at least one decoded byte, once [`Limit::RatioFreeBytes`] went in.
const STALL: u64 = 64;

/// The caps of one body.
///
/// Let `need(n)` be the fewest coded bytes from which the `n`-th decoded byte follows. The `n`-th byte is over the ratio if
/// `n > max(free, ratio · need(n))`. That says nothing about how the input was cut or how much output was asked for, and so
/// neither does the offset of the error. To find `need(n)` without decoding byte by byte, the decoder gets leave for what
/// is certainly good; where leave has run out it gets a probe: input that does not yet pay for another byte, and room for
/// one byte. If that byte comes, it is the one over the ratio.
///
/// Stalls are the same the other way round: `coded > max(free, 64 · given(coded))`.
///
/// That is for an engine that takes no more than it needs. One that decodes ahead (brotli: up to a piece; zstd: up to a block)
/// is shown units that do not depend on how the input was cut, each when everything before is given; `need(n)` is the end of
/// the unit that the byte comes from, and stalls are looked for between units.
pub(super) struct Guard {
    cap: u64,
    ratio: u64,
    free: u64,
}

/// What a decoder may do in its next go.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Leave {
    /// Coded bytes that it may be shown.
    pub(super) input: usize,
    /// Decoded bytes that it may write; never 0.
    pub(super) output: usize,
    /// If set, the output is a probe: a byte that comes breaks this rule and must not be delivered.
    pub(super) probe: Option<Rule>,
}

impl Guard {
    pub(super) const fn new(limits: &Limits) -> Guard {
        Guard {
            cap: limits.get(Limit::DecodedBytes),
            ratio: limits.get(Limit::DecodedRatio),
            free: limits.get(Limit::RatioFreeBytes),
        }
    }

    /// Decoded bytes that `coded` bytes pay for.
    fn paid_for(&self, coded: u64) -> u64 {
        self.free.max(coded.saturating_mul(self.ratio))
    }

    /// Whether `coded` bytes without more than `decoded` are too many. For engines that decode ahead: they are asked for this
    /// when they have given all they decoded, and for leave to give when they have not.
    ///
    /// # Errors
    /// [`Rule::DecoderStalled`], at the last of them.
    #[cfg(any(feature = "br", feature = "zstd"))]
    pub(super) fn stalled(&self, coded: u64, decoded: u64) -> Result<(), Violation> {
        match coded > decoded.saturating_mul(STALL).max(self.free) {
            true => Err(Violation { rule: Rule::DecoderStalled, at: coded.saturating_sub(1), value: self.free }),
            false => Ok(()),
        }
    }

    /// Leave for a decoder that took `coded` bytes and gave `decoded`, is offered `input` bytes and room for `room`.
    /// `dry` says that it certainly gives nothing more before it gets another byte.
    ///
    /// # Errors
    /// [`Rule::DecoderStalled`]: it took too much for what it gave.
    pub(super) fn leave(
        &self,
        coded: u64,
        decoded: u64,
        dry: bool,
        input: usize,
        room: usize,
    ) -> Result<Leave, Violation> {
        let mut leave = Leave { input, output: room.max(1), probe: None };
        let fed = decoded.saturating_mul(STALL).max(self.free);
        leave.input = match coded.checked_sub(fed) {
            // What came in last may still have output waiting: that first.
            Some(_) if !dry => 0,
            Some(0) => input.min(1),
            Some(_) => {
                return Err(Violation { rule: Rule::DecoderStalled, at: coded.saturating_sub(1), value: self.free });
            }
            None => clamp(input, fed.saturating_sub(coded)),
        };
        if decoded >= self.cap {
            leave.output = 1;
            leave.probe = Some(Rule::DecodedTooLarge);
            return Ok(leave);
        }
        leave.output = clamp(leave.output, self.cap - decoded);
        let paid_for = self.paid_for(coded.saturating_add(u64::from(dry)));
        if decoded < paid_for {
            leave.output = clamp(leave.output, paid_for - decoded);
        } else {
            // So many coded bytes do not yet pay for the next byte.
            let unpaid = decoded.checked_div(self.ratio).unwrap_or(decoded);
            leave.input = clamp(leave.input, unpaid.saturating_sub(coded));
            leave.output = 1;
            leave.probe = Some(Rule::DecodedRatio);
        }
        Ok(leave)
    }
}

fn clamp(value: usize, most: u64) -> usize {
    value.min(usize::try_from(most).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Guard = Guard { cap: 10_000, ratio: 10, free: 1_024 };

    fn leave(coded: u64, decoded: u64, dry: bool) -> Leave {
        GUARD.leave(coded, decoded, dry, 100, 500).expect("no stall")
    }

    #[test]
    fn output_ends_at_the_cap_and_is_probed_there() {
        assert_eq!(leave(2_000, 9_990, false), Leave { input: 100, output: 10, probe: None });
        let at_the_cap = Leave { input: 100, output: 1, probe: Some(Rule::DecodedTooLarge) };
        assert_eq!(leave(2_000, 10_000, false), at_the_cap);
    }

    #[test]
    fn beyond_the_free_bytes_each_coded_byte_pays_for_so_many() {
        assert_eq!(leave(5, 1_000, false), Leave { input: 100, output: 24, probe: None }, "free");
        assert_eq!(leave(200, 1_990, false), Leave { input: 100, output: 10, probe: None });
        let unpaid = Leave { input: 0, output: 1, probe: Some(Rule::DecodedRatio) };
        assert_eq!(leave(200, 2_000, false), unpaid, "does the 200th byte give more?");
        assert_eq!(leave(200, 2_000, true), Leave { input: 100, output: 10, probe: None }, "no: the 201st pays");
        assert_eq!(leave(5, 1_024, true), Leave { input: 97, output: 1, probe: Some(Rule::DecodedRatio) });
        assert_eq!(leave(102, 1_024, true), Leave { input: 100, output: 6, probe: None });
    }

    // ENC-08
    #[test]
    fn input_that_gives_nothing_is_charged() {
        assert_eq!(leave(1_000, 0, true).input, 24);
        assert_eq!(leave(1_024, 0, false).input, 0, "what is inside comes out first");
        assert_eq!(leave(1_024, 0, true).input, 1);
        let stalled = GUARD.leave(1_025, 0, true, 0, 500);
        assert_eq!(stalled, Err(Violation { rule: Rule::DecoderStalled, at: 1_024, value: 1_024 }));
        assert!(GUARD.leave(1_088, 17, true, 0, 500).is_ok());
        assert!(GUARD.leave(1_089, 17, true, 0, 500).is_err());
    }
}
