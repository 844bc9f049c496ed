//! Content codings, taken off and put on.

use super::{choices, decode};
use crate::decode::coding::{Coding, Decoder};
use crate::{Limit, Limits};

/// A brotli stream. Two choices: the pieces, and how much is asked for.
pub fn br(data: &[u8]) {
    in_any_pieces(Coding::Brotli, data);
}

/// A zlib stream. Two choices: the pieces, and how much is asked for.
pub fn deflate(data: &[u8]) {
    in_any_pieces(Coding::Deflate, data);
}

/// Content that is coded.
pub fn encode(data: &[u8]) {
    let _ = data;
}

/// A Zstandard frame. Two choices: the pieces, and how much is asked for.
pub fn zstd(data: &[u8]) {
    in_any_pieces(Coding::Zstd, data);
}

/// A coded body gives the same in any pieces, keeps to its caps, and holds no more than its pool and a part of what it decoded.
fn in_any_pieces(coding: Coding, data: &[u8]) {
    let ([n, room], coded) = choices(data);
    let limits = Limits::DEFAULT.with(Limit::DecodedBytes, 1 << 18).expect("in range");
    let limits = limits.with(Limit::DecoderPoolBytes, 1 << 20).expect("in range");
    let whole = decode(coding, &limits, coded, usize::MAX, usize::MAX);
    assert!(whole.0.len() as u64 <= limits.get(Limit::DecodedBytes));
    let (n, room) = (usize::from(n) + 1, usize::from(room) + 1);
    assert_eq!(whole, decode(coding, &limits, coded, n, room), "{n} at a time, into {room}");
    assert_eq!(whole, decode(coding, &limits, coded, 1, 1 << 15), "a byte at a time");
    // The same decoder, with another body behind it: nothing of this one is left.
    let mut decoder = Decoder::new(coding).expect("memory");
    for _ in 0..2 {
        decoder.reset(coding);
        let mut rest = coded;
        while let Ok(step) = decoder.step(&limits, rest, usize::MAX) {
            assert!(decoder.retained_bytes() as u64 <= limits.get(Limit::DecoderPoolBytes), "more than its pool");
            rest = &rest[step.consumed..];
            if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
                break;
            }
        }
        assert_eq!((decoder.decoded_bytes() as usize, decoder.end()), (whole.0.len(), whole.1), "used again");
        decoder.rest();
        assert!(decoder.retained_bytes() < 1 << 17, "{} bytes stay", decoder.retained_bytes());
    }
}
