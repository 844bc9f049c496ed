//! Content that is coded, held against independent decoders and our own: any cut of the input, any room, any flush.
#![cfg(feature = "alloc")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};

use proptest::prelude::*;
use vestibule::Limits;
use vestibule::decode::coding::{Coding, Decoder, EncodeFault, Encoder, Flow};

/// Every coding that this build can put on.
fn codings() -> Vec<Coding> {
    let all = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
    all.into_iter().filter(|c| c.is_encodable()).collect()
}

/// Content that is as different as content is: text, JSON, one byte, noise, long repetitions.
fn contents() -> Vec<Vec<u8>> {
    let mut dice = 7u32;
    let mut noise = |n: usize| -> Vec<u8> {
        let mut next = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 24) as u8
        };
        (0..n).map(|_| next()).collect()
    };
    let json = (0..2_000).map(|i| format!("{{\"id\":{i},\"name\":\"user {}\",\"tags\":[\"a\",\"b\"]}},", i * 7 % 100));
    let mut far = noise(30_000);
    far.extend_from_within(..);
    far.extend_from_within(..20_000);
    vec![
        vec![],
        b"x".to_vec(),
        b"hello hello hello hello".to_vec(),
        vec![0; 100_000],
        noise(70_000),
        json.collect::<String>().into_bytes(),
        far,
        vec![b'a'; 32_768],
        [vec![b'a'; 32_767], b"bcd".to_vec()].concat(),
    ]
}

/// All of it, as pieces of at most `piece`, with at most `room` at a time; flushed behind every `flush`th piece.
fn encode(encoder: &mut Encoder, content: &[u8], piece: usize, room: usize, flush: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    let mut buffer = vec![0; room];
    let mut pieces: Vec<(&[u8], Flow)> = content.chunks(piece).map(|part| (part, Flow::More)).collect();
    for (_, flow) in pieces.iter_mut().skip(flush.max(1) - 1).step_by(flush.max(1)).filter(|_| flush > 0) {
        *flow = Flow::Flush;
    }
    pieces.push((b"", Flow::Finish));
    for (mut part, flow) in pieces {
        loop {
            let step = encoder.step(part, flow, &mut buffer).unwrap();
            assert!(step.done || step.consumed + step.produced > 0, "no progress");
            coded.extend_from_slice(&buffer[..step.produced]);
            part = &part[step.consumed..];
            if step.done {
                assert!(part.is_empty());
                break;
            }
        }
    }
    assert_eq!((encoder.plain_bytes(), encoder.coded_bytes()), (content.len() as u64, coded.len() as u64));
    coded
}

/// By a decoder that is not ours.
fn reference(coding: Coding, coded: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Coding::Identity => plain = coded.to_vec(),
        Coding::Gzip => drop(flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).unwrap()),
        Coding::Deflate => drop(flate2::read::ZlibDecoder::new(coded).read_to_end(&mut plain).unwrap()),
        Coding::Brotli => drop(brotli::Decompressor::new(coded, 4_096).read_to_end(&mut plain).unwrap()),
        Coding::Zstd => drop(zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut plain).unwrap()),
    }
    plain
}

fn ours(coding: Coding, coded: &[u8]) -> Vec<u8> {
    let limits = Limits::DEFAULT.with(vestibule::Limit::RatioFreeBytes, 16 << 20).unwrap();
    let mut decoder = Decoder::new(coding).unwrap();
    let (mut rest, mut plain) = (coded, Vec::new());
    loop {
        let step = decoder.step(&limits, rest, 4_096).unwrap();
        plain.extend_from_slice(decoder.window(step.produced));
        rest = &rest[step.consumed..];
        if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
            decoder.end().unwrap();
            return plain;
        }
    }
}

#[test]
fn what_is_coded_is_what_others_decode() {
    for coding in codings() {
        let mut encoder = Encoder::new(coding).unwrap();
        for content in contents() {
            for flush in [0, 1, 3] {
                let coded = encode(&mut encoder, &content, 5_000, 8_192, flush);
                assert_eq!(reference(coding, &coded), content, "{coding:?}, {} bytes", content.len());
                if coding.is_supported() {
                    assert_eq!(ours(coding, &coded), content);
                }
                encoder.reset(coding).unwrap();
            }
        }
    }
}

#[test]
fn content_that_repeats_itself_becomes_small() {
    let json = &contents()[5];
    for (coding, percent) in [(Coding::Gzip, 10), (Coding::Deflate, 10), (Coding::Brotli, 10), (Coding::Zstd, 16)] {
        if coding.is_encodable() {
            let coded = encode(&mut Encoder::new(coding).unwrap(), json, usize::MAX, 8_192, 0);
            assert!(coded.len() * 100 < json.len() * percent, "{coding:?}: {} of {}", coded.len(), json.len());
        }
    }
}

#[test]
fn noise_grows_by_little() {
    let noise = &contents()[4];
    for coding in codings() {
        let coded = encode(&mut Encoder::new(coding).unwrap(), noise, 999, 8_192, 0);
        assert!(coded.len() < noise.len() + noise.len() / 100 + 64, "{coding:?}: {}", coded.len());
    }
}

#[test]
fn what_is_flushed_can_be_decoded_before_anything_follows() {
    for coding in codings().into_iter().filter(|c| *c != Coding::Identity) {
        let mut encoder = Encoder::new(coding).unwrap();
        let mut coded = Vec::new();
        let mut sent = String::new();
        for event in 0..20 {
            let text = format!("data: event {event}\n\n");
            sent.push_str(&text);
            let mut buffer = [0; 512];
            let step = encoder.step(text.as_bytes(), Flow::Flush, &mut buffer).unwrap();
            assert!(step.done && step.consumed == text.len());
            coded.extend_from_slice(&buffer[..step.produced]);
            assert_eq!(
                encoder.step(b"", Flow::Flush, &mut buffer).unwrap().produced,
                0,
                "{coding:?}: again, with nothing new, says nothing"
            );
            // A decoder that is fed nothing more.
            let mut plain = vec![0; sent.len()];
            let read = |mut from: Box<dyn Read + '_>, plain: &mut [u8]| from.read_exact(plain).unwrap();
            match coding {
                Coding::Gzip => read(Box::new(flate2::read::GzDecoder::new(&coded[..])), &mut plain),
                Coding::Deflate => read(Box::new(flate2::read::ZlibDecoder::new(&coded[..])), &mut plain),
                Coding::Brotli => read(Box::new(brotli::Decompressor::new(&coded[..], 64)), &mut plain),
                _ => read(Box::new(zstd::stream::read::Decoder::new(&coded[..]).unwrap()), &mut plain),
            }
            assert_eq!(String::from_utf8(plain).unwrap(), sent, "{coding:?}");
        }
    }
}

#[test]
fn one_encoder_serves_one_coding_after_the_other() {
    let content = b"one two three one two three".repeat(50);
    let mut encoder = Encoder::new(Coding::Identity).unwrap();
    for coding in codings().into_iter().chain(codings().into_iter().rev()) {
        encoder.reset(coding).unwrap();
        // Left in the middle, it begins anew.
        encoder.step(b"something else", Flow::More, &mut [0; 20]).unwrap();
        encoder.reset(coding).unwrap();
        assert_eq!(reference(coding, &encode(&mut encoder, &content, 100, 100, 0)), content);
    }
}

#[test]
fn behind_the_end_nothing_is_taken() {
    for coding in codings().into_iter().filter(|c| *c != Coding::Identity) {
        let mut encoder = Encoder::new(coding).unwrap();
        let mut room = [0; 256];
        assert!(encoder.step(b"all", Flow::Finish, &mut room).unwrap().done);
        let again = encoder.step(b"", Flow::Finish, &mut room).unwrap();
        assert!(again.done && again.produced == 0, "the end is said once");
        assert_eq!(encoder.step(b"more", Flow::More, &mut room), Err(EncodeFault::Broken), "{coding:?}");
        assert_eq!(encoder.step(b"", Flow::More, &mut room), Err(EncodeFault::Broken), "and from then on always");
    }
    for coding in [Coding::Brotli, Coding::Zstd] {
        assert_eq!(Encoder::new(coding).err(), (!coding.is_encodable()).then_some(EncodeFault::Unsupported));
    }
}

#[test]
fn levels_are_from_fast_to_small() {
    let json = &contents()[5];
    for coding in codings().into_iter().filter(|c| matches!(c, Coding::Gzip | Coding::Brotli)) {
        let mut sizes = Vec::new();
        for level in [0, 1, 4, 9, 200] {
            let mut encoder = Encoder::with_level(coding, level).unwrap();
            let coded = encode(&mut encoder, json, 7_777, 512, 0);
            assert_eq!(reference(coding, &coded), *json);
            sizes.push(coded.len());
        }
        assert!(sizes[0] == sizes[1] && sizes[3] == sizes[4] && sizes[3] < sizes[1], "{coding:?}: {sizes:?}");
    }
}

#[test]
fn gzip_is_about_as_small_as_by_others() {
    let json = &contents()[5];
    let coded = encode(&mut Encoder::new(Coding::Gzip).unwrap(), json, 1_000, 1_000, 0);
    let mut other = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    other.write_all(json).unwrap();
    let other = other.finish().unwrap();
    assert!(coded.len().abs_diff(other.len()) <= other.len() / 50, "{} and {}", coded.len(), other.len());
}

#[derive(Debug, Clone)]
struct Program {
    content: Vec<u8>,
    cuts: Vec<(usize, usize)>,
}

fn programs() -> impl Strategy<Value = Program> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3_000),
        prop::collection::vec(prop::sample::select(&b"abc \n"[..]), 0..80_000),
        (any::<u8>(), 0..120_000usize).prop_map(|(byte, n)| vec![byte; n]),
    ];
    (content, prop::collection::vec((1..9_000usize, 1..3_000usize), 1..40))
        .prop_map(|(content, cuts)| Program { content, cuts })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_cut_of_the_input_and_any_room_give_the_same_bytes(program in programs()) {
        for coding in codings() {
            let whole = encode(&mut Encoder::new(coding).unwrap(), &program.content, usize::MAX, 200_000, 0);
            prop_assert_eq!(&reference(coding, &whole), &program.content);
            let mut encoder = Encoder::new(coding).unwrap();
            let (mut rest, mut coded) = (&program.content[..], Vec::new());
            for (i, (piece, room)) in program.cuts.iter().cycle().enumerate() {
                let (part, behind) = rest.split_at(rest.len().min(*piece));
                let flow = if behind.is_empty() { Flow::Finish } else { Flow::More };
                let mut buffer = vec![0; *room];
                let step = encoder.step(part, flow, &mut buffer).unwrap();
                coded.extend_from_slice(&buffer[..step.produced]);
                // What was taken of the part; `Finish` with a rest of it untaken is no end.
                rest = &rest[step.consumed..];
                if step.done && flow == Flow::Finish {
                    break;
                }
                prop_assert!(i < 1_000_000);
            }
            prop_assert_eq!(coded, whole, "{:?}", coding);
        }
    }

    #[test]
    fn flushes_anywhere_do_not_change_the_content(program in programs(), flushes in prop::collection::vec(any::<bool>(), 1..20)) {
        for coding in codings() {
            let mut encoder = Encoder::new(coding).unwrap();
            let (mut rest, mut coded) = (&program.content[..], Vec::new());
            let mut flushes = flushes.iter().cycle();
            for (piece, room) in program.cuts.iter().cycle() {
                let (part, behind) = rest.split_at(rest.len().min(*piece));
                let flow = match behind.is_empty() {
                    true => Flow::Finish,
                    // Flows that were not carried through may be left for others.
                    false if *flushes.next().unwrap() => Flow::Flush,
                    false => Flow::More,
                };
                let mut buffer = vec![0; *room];
                let step = encoder.step(part, flow, &mut buffer).unwrap();
                coded.extend_from_slice(&buffer[..step.produced]);
                rest = &rest[step.consumed..];
                if step.done && flow == Flow::Finish {
                    break;
                }
            }
            prop_assert_eq!(reference(coding, &coded), &program.content[..], "{:?}", coding);
        }
    }
}
