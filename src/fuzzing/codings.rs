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

/// Content that is coded, in any pieces and with any room, is the same coded bytes; flushed anywhere, it is the same content. Two choices:
/// the pieces, and the room.
pub fn encode(data: &[u8]) {
    use crate::decode::coding::{Coding, Encoder, Flow};
    let ([piece, room], content) = super::choices(data);
    let (piece, room) = (usize::from(piece) * 97 + 1, usize::from(room) * 37 + 1);
    let all = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli];
    for coding in all.into_iter().filter(|coding| coding.is_encodable()) {
        let mut encoder = Encoder::new(coding).expect("it can be encoded");
        let mut coded = |piece: usize, room: usize, flow: Flow| {
            encoder.reset(coding).expect("memory");
            let (mut coded, mut buffer) = (Vec::new(), vec![0; room]);
            let mut pieces: Vec<(&[u8], Flow)> = content.chunks(piece).map(|part| (part, flow)).collect();
            pieces.push((b"", Flow::Finish));
            for (mut part, flow) in pieces {
                loop {
                    let step = encoder.step(part, flow, &mut buffer).expect("it is not broken");
                    assert!(step.done || step.consumed + step.produced > 0, "{coding:?}: no progress");
                    coded.extend_from_slice(&buffer[..step.produced]);
                    part = &part[step.consumed..];
                    if step.done {
                        break;
                    }
                }
            }
            coded
        };
        let whole = coded(usize::MAX, 1 << 16, Flow::More);
        assert!(whole == coded(piece, room, Flow::More), "{coding:?}: {piece} at a time into {room} is something else");
        decodes_to(coding, &whole, content);
        // A flush costs as much as a block: a hundred of them tell enough.
        decodes_to(coding, &coded(piece.max(content.len() / 100), room, Flow::Flush), content);
    }
}

fn decodes_to(coding: crate::decode::coding::Coding, coded: &[u8], content: &[u8]) {
    use crate::decode::coding::{Coding, Decoder};
    use crate::{Limit, Limits};
    if coding.is_supported() {
        let limits = Limits::DEFAULT.with(Limit::RatioFreeBytes, 16 << 20).expect("in range");
        let mut decoder = Decoder::new(coding).expect("memory");
        let (mut rest, mut plain) = (coded, Vec::new());
        loop {
            let step = decoder.step(&limits, rest, 1 << 15).expect("what we code, we decode");
            plain.extend_from_slice(decoder.window(step.produced));
            rest = &rest[step.consumed..];
            if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
                break;
            }
        }
        decoder.end().expect("complete");
        assert!(plain == content, "{coding:?}");
    }
    #[cfg(feature = "zstd")]
    if coding == Coding::Zstd {
        let mut plain = vec![0; content.len()];
        let n = ruzstd::decoding::FrameDecoder::new().decode_all(coded, &mut plain).expect("a good frame");
        assert!(n == content.len() && plain == content);
    }
    #[cfg(not(feature = "zstd"))]
    let _ = Coding::Zstd;
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
