//! Content codings: ENC-01 to ENC-05, ENC-07, ENC-08, P-9 and P-21. What any cut of the input and any size of the output must
//! not change, what a hostile body cannot do, and what others say about the same bytes.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{Read, Write};

use flate2::Compression;
use proptest::prelude::*;
use vestibule::decode::coding::{Coding, Decoder};
use vestibule::decode::job::Job;
use vestibule::{Limit, Limits, Rule, Violation};

type Outcome = (Vec<u8>, Result<(), Violation>);

/// xorshift64*: seeds make every test here repeatable.
struct Seed(u64);

impl Seed {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }

    /// Bytes that compress by about `run`.
    fn text(&mut self, length: usize, run: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < length {
            let byte = self.next(256) as u8;
            let run = 1 + self.next(run);
            text.extend(std::iter::repeat_n(byte, run));
        }
        text.truncate(length);
        text
    }
}

fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[cfg(feature = "br")]
fn brotli(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, level, 22);
    encoder.write_all(plain).unwrap();
    encoder.into_inner()
}

#[cfg(feature = "zstd")]
fn zstd(plain: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), (level as i32 * 2 - 1).min(19)).unwrap();
    encoder.include_checksum(level % 2 == 1).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// The same in every coding that there is.
fn all(plain: &[u8], level: u32) -> Vec<(Coding, Vec<u8>)> {
    vec![
        (Coding::Gzip, gzip(plain, level)),
        (Coding::Deflate, zlib(plain, level)),
        #[cfg(feature = "br")]
        (Coding::Brotli, brotli(plain, level)),
        #[cfg(feature = "zstd")]
        (Coding::Zstd, zstd(plain, level)),
    ]
}

/// Deflate data that was written by hand, behind a zlib header.
fn zlib_around(data: &[u8]) -> Vec<u8> {
    [&[0x78, 0x01], data].concat()
}

/// Plays a body, in pieces of the sizes that `piece` says and with room for what `room` says.
fn play(
    decoder: &mut Decoder,
    limits: &Limits,
    coded: &[u8],
    mut piece: impl FnMut() -> usize,
    mut room: impl FnMut() -> usize,
) -> Outcome {
    let (mut from, mut to, mut out) = (0, 0, Vec::new());
    let mut was_done = false;
    loop {
        let most = room();
        let step = match decoder.step(limits, &coded[from..to], most) {
            Ok(step) => step,
            Err(violation) => {
                assert_eq!(decoder.step(limits, b"more", 9), Err(violation), "a fault stays");
                assert_eq!(decoder.end(), Err(violation));
                return (out, Err(violation));
            }
        };
        let bytes = decoder.window(step.produced);
        assert_eq!(bytes.len(), step.produced.len());
        assert!(bytes.len() <= most.max(1), "no more than asked for");
        assert!(step.consumed > 0 || !bytes.is_empty() || from == to, "no progress");
        assert!(!was_done || bytes.is_empty(), "bytes after the end");
        was_done |= step.done;
        out.extend_from_slice(bytes);
        from += step.consumed;
        if from < to || !bytes.is_empty() {
            continue;
        }
        if to < coded.len() {
            to = from.saturating_add(piece().max(1)).min(coded.len());
        } else if !decoder.finish() {
            break;
        }
    }
    assert_eq!((decoder.coded_bytes(), decoder.decoded_bytes()), (coded.len() as u64, out.len() as u64));
    let end = decoder.end();
    assert_eq!(was_done, end.is_ok(), "done is said when it is so, and only then");
    (out, end)
}

fn whole(limits: &Limits, coding: Coding, coded: &[u8]) -> Outcome {
    play(&mut Decoder::new(coding).unwrap(), limits, coded, || usize::MAX, || usize::MAX)
}

/// The outcome, which must be the same however the body is cut.
fn every_way(limits: &Limits, coding: Coding, coded: &[u8], seeds: u64) -> Outcome {
    let expected = whole(limits, coding, coded);
    let mut decoder = Decoder::new(coding).unwrap();
    let same = |got: &Outcome, how: &str| {
        assert_eq!((got.0.len(), got.1), (expected.0.len(), expected.1), "{how}");
        assert!(got.0 == expected.0, "{how}");
    };
    if coded.len() < 20_000 {
        decoder.reset(coding);
        same(&play(&mut decoder, limits, coded, || 1, || usize::MAX), "byte by byte");
    }
    if expected.0.len() < 20_000 {
        decoder.reset(coding);
        same(&play(&mut decoder, limits, coded, || usize::MAX, || 1), "one byte out at a time");
    }
    if coded.len() + expected.0.len() < 10_000 {
        decoder.reset(coding);
        same(&play(&mut decoder, limits, coded, || 1, || 1), "one in, one out");
    }
    for seed in 1..=seeds {
        let (mut pieces, mut rooms) = (Seed(seed), Seed(seed * 77));
        let (most_in, most_out) = ([9, 100, 5_000][seed as usize % 3], [7, 300, 4_096, 100_000][seed as usize % 4]);
        decoder.reset(coding);
        let got = play(&mut decoder, limits, coded, || pieces.next(most_in), || rooms.next(most_out));
        same(&got, &format!("seed {seed}"));
    }
    expected
}

fn lax() -> Limits {
    let with = |limits: Limits, limit: Limit| limits.with(limit, limit.range().1).unwrap();
    with(with(with(Limits::DEFAULT, Limit::DecodedBytes), Limit::DecodedRatio), Limit::RatioFreeBytes)
}

// P-9, P-21
#[test]
fn what_others_encode_we_decode_however_it_is_cut() {
    let mut seed = Seed(42);
    for (length, run) in [(0, 1), (1, 1), (100, 3), (5_000, 40), (32_768, 2), (40_000, 300), (200_000, 5)] {
        let plain = seed.text(length, run);
        for level in [0, 1, 6, 9] {
            for (coding, coded) in all(&plain, level) {
                let seeds = if length < 50_000 { 12 } else { 3 };
                let (out, end) = every_way(&Limits::DEFAULT, coding, &coded, seeds);
                assert_eq!(end, Ok(()));
                assert!(out == plain, "{} level {level} of {length}", coding.name());
                let job = Job::new(1, 2, coding, coded, &Limits::DEFAULT, length).run();
                assert!(job.result == Ok(plain.clone()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    // P-9, P-21
    #[test]
    fn any_bytes_survive_the_round(
        plain in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 0..3_000),
        level in 0u32..10,
        cuts in any::<u64>(),
    ) {
        for (coding, coded) in all(&plain, level) {
            let (mut pieces, mut rooms) = (Seed(cuts | 1), Seed(cuts | 2));
            let mut decoder = Decoder::new(coding).unwrap();
            let got = play(&mut decoder, &Limits::DEFAULT, &coded, || pieces.next(50), || rooms.next(50));
            prop_assert_eq!(got, (plain.clone(), Ok(())));
        }
    }

    // ENC-07: whatever comes, no cut changes what is made of it.
    #[test]
    fn any_nonsense_gets_one_answer(mut data in proptest::collection::vec(any::<u8>(), 0..400), final_bit in any::<bool>()) {
        if let (Some(first), true) = (data.first_mut(), final_bit) {
            // A dynamic block, so that the tables are reached.
            *first = *first & !7 | 5;
        }
        let _ = every_way(&Limits::DEFAULT, Coding::Deflate, &zlib_around(&data), 6);
        let _ = every_way(&Limits::DEFAULT, Coding::Gzip, &data, 2);
    }
}

// ENC-07
#[test]
fn damaged_bodies_get_one_answer_and_never_other_bytes() {
    let mut seed = Seed(7);
    let plain = seed.text(3_000, 6);
    for level in [1, 9] {
        for (coding, good) in all(&plain, level) {
            for round in 0..300 {
                let mut coded = good.clone();
                for _ in 0..=round % 3 {
                    let at = seed.next(coded.len());
                    coded[at] = seed.next(256) as u8;
                }
                let (out, end) = every_way(&Limits::DEFAULT, coding, &coded, 4);
                // Brotli has no checksum, and zstd here only at every other level.
                assert!(end.is_err() || out == plain || matches!(coding, Coding::Brotli | Coding::Zstd));
                if let Err(v) = end {
                    let in_output = matches!(v.rule, Rule::DecodedTooLarge | Rule::DecodedRatio);
                    assert!(in_output || v.at <= coded.len() as u64, "{v}");
                }
            }
        }
    }
}

// ENC-07
#[test]
fn every_truncation_and_every_bit_flip_of_a_small_body() {
    let plain = b"a small body, a small body, a body that is small";
    let header = [0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 5, 6, 2, 0, b'e', b'x', b'n', 0, b'c', 0];
    let mut with_fields = header.to_vec();
    with_fields.extend_from_slice(&crc16(&header));
    with_fields.extend_from_slice(&gzip(plain, 9)[10..]);
    let bodies = [
        (Coding::Gzip, gzip(plain, 9)),
        (Coding::Gzip, gzip(plain, 0)),
        (Coding::Gzip, with_fields),
        (Coding::Deflate, zlib(plain, 9)),
        (Coding::Deflate, zlib(plain, 0)),
    ];
    for (number, (coding, good)) in bodies.iter().enumerate() {
        let coding = *coding;
        assert_eq!(every_way(&Limits::DEFAULT, coding, good, 3), (plain.to_vec(), Ok(())));
        for cut in 0..good.len() {
            let (out, end) = every_way(&Limits::DEFAULT, coding, &good[..cut], 1);
            assert!(plain.starts_with(&out));
            assert_eq!(end, Err(Violation::new(Rule::CodedTruncated, cut as u64)), "cut at {cut}");
        }
        let mut harmless = Vec::new();
        for bit in 0..good.len() * 8 {
            let mut coded = good.clone();
            coded[bit / 8] ^= 1 << (bit % 8);
            let (out, end) = every_way(&Limits::DEFAULT, coding, &coded, 1);
            if end.is_ok() {
                assert!(out == plain, "bit {bit} gave other bytes");
                harmless.push(bit);
            }
        }
        // What may be flipped: FTEXT, MTIME, XFL and OS where no checksum covers them, and padding between the last block
        // and the trailer, or before a stored block's length.
        let in_header = |bit: &usize| *bit / 8 < 10;
        let expected: Vec<usize> = if number < 2 { std::iter::once(24).chain(32..80).collect() } else { Vec::new() };
        assert_eq!(harmless.iter().copied().filter(in_header).collect::<Vec<_>>(), {
            let padding = harmless.iter().copied().filter(|bit| number > 2 && in_header(bit));
            expected.into_iter().chain(padding).collect::<Vec<_>>()
        });
        assert!(harmless.iter().filter(|bit| !in_header(bit)).count() <= 12, "{harmless:?}");
        if coding == Coding::Deflate {
            assert!(harmless.iter().all(|bit| bit / 8 >= 2), "{harmless:?}");
        }
    }
}

fn crc16(bytes: &[u8]) -> [u8; 2] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    (crc.sum() as u16).to_le_bytes()
}

// ENC-01, ENC-02
#[test]
fn a_bomb_stops_at_the_same_byte_of_output_whatever_the_coding_and_the_cut() {
    let zeros = vec![0; 300_000];
    let caps = lax().with(Limit::DecodedBytes, 100_000).unwrap();
    for level in [1, 6, 9] {
        for (coding, coded) in all(&zeros, level) {
            let (out, end) = every_way(&caps, coding, &coded, 12);
            assert_eq!(out.len(), 100_000, "everything below the cap is given");
            assert_eq!(end, Err(Violation { rule: Rule::DecodedTooLarge, at: 100_000, value: 100_000 }));
            // With the default limits the ratio speaks first, when the free bytes are out.
            let (out, end) = every_way(&Limits::DEFAULT, coding, &coded, 12);
            assert_eq!(out.len(), 65_536);
            assert_eq!(end, Err(Violation { rule: Rule::DecodedRatio, at: 65_536, value: 100 }));
        }
    }
}

// ENC-01
#[test]
fn exactly_the_cap_passes() {
    for (length, good) in [(9_999, true), (10_000, true), (10_001, false)] {
        let limits = lax().with(Limit::DecodedBytes, 10_000).unwrap();
        let plain = Seed(3).text(length, 4);
        for (coding, coded) in all(&plain, 6) {
            let (out, end) = every_way(&limits, coding, &coded, 6);
            assert_eq!(end.is_ok(), good);
            assert!(out == plain[..length.min(10_000)]);
        }
    }
}

/// The rules of the ratio and of stalls as they are written, from a decoder that is fed byte by byte and has no limits.
fn naive(coding: Coding, coded: &[u8], ratio: u64, free: u64) -> Option<(Rule, u64)> {
    let mut decoder = Decoder::new(coding).unwrap();
    let mut given = 0u64;
    for (i, byte) in coded.iter().enumerate() {
        let taken = i as u64 + 1;
        let mut input = std::slice::from_ref(byte);
        let mut done = false;
        loop {
            let step = decoder.step(&lax(), input, usize::MAX).ok()?;
            input = &input[step.consumed..];
            given += step.produced.len() as u64;
            done |= step.done;
            if step.produced.is_empty() && input.is_empty() {
                break;
            }
        }
        let paid_for = free.max(ratio * taken);
        if given > paid_for {
            return Some((Rule::DecodedRatio, paid_for));
        }
        if taken > free.max(64 * given) && !done {
            return Some((Rule::DecoderStalled, i as u64));
        }
    }
    None
}

// ENC-01, ENC-08, P-21
#[test]
fn ratio_and_stall_are_where_a_naive_count_finds_them() {
    let mut seed = Seed(99);
    let mut seen = [0; 3];
    for round in 0..160 {
        // Dense and empty parts by turns; every other stream holds next to nothing.
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::new([1, 6, 9][round % 3]));
        for _ in 0..seed.next(12) + 1 {
            let (length, run) = (seed.next([6_000, 12][round % 2]), [1, 3, 40, 900][seed.next(4)]);
            encoder.write_all(&seed.text(length, run)).unwrap();
            for _ in 0..[0, 0, 300][seed.next(3)] {
                encoder.flush().unwrap();
            }
            // Empty stored blocks, as a flush makes them, many times over.
            if seed.next(3) == 0 {
                encoder.flush().unwrap();
                encoder.get_mut().extend([0, 0, 0, 0xff, 0xff].repeat(seed.next(2_000)));
            }
        }
        let coded = encoder.finish().unwrap();
        let (ratio, free) = ([2, 5, 20, 100][seed.next(4)], [1_024, 4_000][seed.next(2)]);
        let limits = Limits::DEFAULT.with(Limit::DecodedRatio, ratio).unwrap();
        let limits = limits.with(Limit::RatioFreeBytes, free).unwrap();
        let expected = naive(Coding::Deflate, &coded, ratio, free);
        let (_, end) = every_way(&limits, Coding::Deflate, &coded, 8);
        assert_eq!(end.err().map(|v| (v.rule, v.at)), expected, "round {round}");
        seen[match expected {
            None => 0,
            Some((Rule::DecodedRatio, _)) => 1,
            _ => 2,
        }] += 1;
    }
    assert!(seen.iter().all(|n| *n > 5), "all three happened: {seen:?}");
}

// ENC-08
#[test]
fn empty_blocks_are_charged() {
    let blocks = zlib_around(&[0, 0, 0, 0xff, 0xff].repeat(100_000));
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Deflate, &blocks, 6);
    assert_eq!((out.len(), end), (0, Err(Violation { rule: Rule::DecoderStalled, at: 65_536, value: 65_536 })));
    // Empty fixed blocks: ten bits each, the densest of them all: 000010 and nothing more.
    let bits: Vec<u8> = [false, true, false, false, false, false, false, false, false, false]
        .repeat(80_000)
        .chunks(8)
        .map(|bits| bits.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << i))
        .collect();
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Deflate, &zlib_around(&bits), 3);
    assert_eq!((out.len(), end.map_err(|v| (v.rule, v.at))), (0, Err((Rule::DecoderStalled, 65_536))));
}

// ENC-04
#[test]
fn many_members_are_refused_at_the_second_one() {
    let empty = gzip(b"", 6);
    let members = empty.repeat(200_000);
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Gzip, &members, 6);
    assert_eq!((out.len(), end), (0, Err(Violation::new(Rule::GzipMembers, empty.len() as u64))));
    for (tail, coding, body, rule) in [
        (&b"\0"[..], Coding::Gzip, gzip(b"x", 6), Rule::GzipMembers),
        (b"garbage", Coding::Gzip, gzip(b"x", 6), Rule::GzipMembers),
        (b"\n", Coding::Deflate, zlib(b"x", 6), Rule::ZlibTrailer),
    ] {
        let coded = [&body, tail].concat();
        let got = every_way(&Limits::DEFAULT, coding, &coded, 4);
        assert_eq!(got, (b"x".to_vec(), Err(Violation::new(rule, body.len() as u64))));
    }
}

// ENC-04
#[test]
fn a_flood_of_header_fields_ends_at_its_limit() {
    for flag in [8u8, 16] {
        let mut coded = vec![0x1f, 0x8b, 8, flag, 0, 0, 0, 0, 0, 255];
        coded.extend(std::iter::repeat_n(b'n', 1 << 20));
        let (_, end) = every_way(&Limits::DEFAULT, Coding::Gzip, &coded, 3);
        assert_eq!(end, Err(Violation { rule: Rule::GzipHeaderTooLong, at: 10 + 4_096, value: 4_096 }));
    }
}

// ENC-05
#[test]
fn bare_deflate_and_dictionaries_are_refused() {
    for level in 0..10 {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(b"some text, some text").unwrap();
        let bare = encoder.finish().unwrap();
        let (out, end) = every_way(&Limits::DEFAULT, Coding::Deflate, &bare, 2);
        assert!(out.is_empty() && end.is_err_and(|v| v.rule == Rule::ZlibHeader && v.at < 2));
    }
    let (_, end) = every_way(&Limits::DEFAULT, Coding::Deflate, b"\x78\xbb\0\0\0\0\x03\0", 2);
    assert_eq!(end, Err(Violation::new(Rule::ZlibHeader, 1)));
}

// M-7
#[test]
fn the_memory_of_a_decoder_never_grows() {
    let mut decoder = Decoder::new(Coding::Gzip).unwrap();
    let before = decoder.retained_bytes();
    let coded = gzip(&Seed(5).text(500_000, 8), 6);
    for _ in 0..3 {
        decoder.reset(Coding::Gzip);
        play(&mut decoder, &Limits::DEFAULT, &coded, || 1_000, || 1_000).1.unwrap();
        assert_eq!(decoder.retained_bytes(), before);
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.bytes().filter(|b| *b != b'=').map(|b| DIGITS.iter().position(|d| *d == b).unwrap() as u32).collect();
    let triple = |four: &[u32]| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(triple).collect()
}

/// Reads all members with the other implementation.
fn theirs(coding: Coding, coded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(coded).read_to_end(&mut out),
        _ => flate2::read::ZlibDecoder::new(coded).read_to_end(&mut out),
    };
    read.is_ok().then_some(out)
}

fn adler32(bytes: &[u8]) -> [u8; 4] {
    let step = |(a, b), x: &u8| ((a + u32::from(*x)) % 65_521, (b + a + u32::from(*x)) % 65_521);
    let (a, b) = bytes.iter().fold((1u32, 0u32), step);
    (b << 16 | a).to_be_bytes()
}

// P-21
#[test]
fn the_public_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/codec/codec.json");
    let Ok(file) = std::fs::read(path) else {
        println!("the public vectors are absent, nothing was compared");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let mut played = 0;
    for vector in vectors["deflate"].as_array().unwrap() {
        let (name, format) = (vector["name"].as_str().unwrap(), vector["format"].as_str().unwrap());
        let (coding, mut coded) = match format {
            "gzip" => (Coding::Gzip, base64(vector["compressed_b64"].as_str().unwrap())),
            _ => (Coding::Deflate, base64(vector["compressed_b64"].as_str().unwrap())),
        };
        if format == "raw" {
            let bare = every_way(&Limits::DEFAULT, coding, &coded, 2).1.unwrap_err().rule;
            assert!(matches!(bare, Rule::ZlibHeader | Rule::CodedTruncated), "{name}: bare deflate is refused");
            // The same data in its wrapper tells the data's own verdict.
            let mut plain = Vec::new();
            let _ = flate2::read::DeflateDecoder::new(&coded[..]).read_to_end(&mut plain);
            coded = [zlib_around(&coded), adler32(&plain).to_vec()].concat();
        }
        let (out, end) = every_way(&lax(), coding, &coded, 6);
        // Ours is the strict side: one member, nothing behind it, and the header checksum is looked at.
        let refused = match name {
            "two members" | "zero padding after member" | "garbage after member" => Some(Rule::GzipMembers),
            "FHCRC wrong" => Some(Rule::GzipHeader),
            _ => None,
        };
        match (vector["expect"].as_str().unwrap(), refused) {
            (_, Some(rule)) => assert_eq!(end.unwrap_err().rule, rule, "{name}"),
            ("error", None) => assert!(end.is_err(), "{name}"),
            _ => {
                assert_eq!(end, Ok(()), "{name}");
                assert_eq!(Some(out.len() as u64), vector["plain_len"].as_u64(), "{name}");
                assert_eq!(sha256(&out), vector["plain_sha256"].as_str().unwrap(), "{name}");
                assert_eq!(theirs(coding, &coded), Some(out), "{name}");
            }
        }
        if name.starts_with("bomb") {
            assert_eq!(whole(&Limits::DEFAULT, coding, &coded).1.unwrap_err().rule, Rule::DecodedRatio);
        }
        played += 1;
    }
    assert!(played >= 42);
}

/// FIPS 180-4 §6.2, enough for vectors; the constants are roots of primes, and computed as that.
fn sha256(bytes: &[u8]) -> String {
    let primes: Vec<u32> = (2..312u32).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    let fraction = |root: f64| ((root - root.floor()) * 4_294_967_296.0) as u32;
    let mut h: Vec<u32> = primes[..8].iter().map(|p| fraction(f64::from(*p).sqrt())).collect();
    let k: Vec<u32> = primes[..64].iter().map(|p| fraction(f64::from(*p).cbrt())).collect();
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64) + if message.len() % 64 > 56 { 64 } else { 0 }, 0);
    let length = message.len();
    message[length - 8..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in message.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let (x, y) = (w[i - 15], w[i - 2]);
            let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3;
            let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ y >> 10;
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut v = h.clone();
        for i in 0..64 {
            let s1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = v[4] & v[5] ^ !v[4] & v[6];
            let t1 = v[7].wrapping_add(s1).wrapping_add(choice).wrapping_add(k[i]).wrapping_add(w[i]);
            let s0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = v[0] & v[1] ^ v[0] & v[2] ^ v[1] & v[2];
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        h.iter_mut().zip(v).for_each(|(h, v)| *h = h.wrapping_add(v));
    }
    h.iter().map(|word| format!("{word:08x}")).collect()
}

#[test]
fn the_helper_knows_its_checksum() {
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/// What the reference decoder of a coding makes of a body, if it takes it.
#[cfg(all(feature = "br", feature = "zstd"))]
fn reference(coding: Coding, coded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match coding {
        Coding::Brotli => {
            let mut rest = coded;
            let mut decoder = brotli::Decompressor::new(&mut rest, 1);
            decoder.read_to_end(&mut out).ok()?;
        }
        _ => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(coded).ok()?.single_frame();
            decoder.window_log_max(23).ok()?;
            decoder.read_to_end(&mut out).ok()?;
        }
    }
    Some(out)
}

// ENC-07, P-21
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn every_truncation_and_every_bit_flip_of_brotli_and_zstd_is_judged_as_their_references_do() {
    let plain = b"a small body, a small body, a body that is small; and <html> words, time and time again, of the";
    let long: Vec<u8> = plain.iter().copied().cycle().take(1_500).chain(Seed(4).text(700, 3)).collect();
    for (plain, levels) in [(&plain[..], vec![1, 5, 9, 11]), (&long[..], vec![1, 9])] {
        for level in levels {
            for (coding, good) in [(Coding::Brotli, brotli(plain, level)), (Coding::Zstd, zstd(plain, level))] {
                assert_eq!(every_way(&lax(), coding, &good, 6), (plain.to_vec(), Ok(())));
                for cut in 0..good.len() {
                    let (out, end) = every_way(&lax(), coding, &good[..cut], 1);
                    assert!(plain.starts_with(&out));
                    assert_eq!(end, Err(Violation::new(Rule::CodedTruncated, cut as u64)), "cut at {cut}");
                }
                for bit in 0..good.len() * 8 {
                    let mut coded = good.clone();
                    coded[bit / 8] ^= 1 << (bit % 8);
                    let (out, end) = every_way(&lax(), coding, &coded, 1);
                    let theirs = reference(coding, &coded);
                    match end {
                        Ok(()) => assert_eq!(theirs, Some(out), "{} bit {bit}", coding.name()),
                        Err(v) if theirs.is_some() => {
                            // What we refuse and they take: a window over the cap, bytes behind the end.
                            let strict =
                                matches!(v.rule, Rule::ZstdTrailing | Rule::BrotliTrailing | Rule::DecodedRatio);
                            assert!(strict, "{} bit {bit}: {v}, they read it", coding.name());
                        }
                        Err(_) => {}
                    }
                }
            }
        }
    }
}

// P-21
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn the_public_vectors_of_brotli_and_zstd() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/codec/codec.json");
    let Ok(file) = std::fs::read(path) else {
        println!("the public vectors are absent, nothing was compared");
        return;
    };
    let vectors: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let mut played = 0;
    for (kind, coding) in [("brotli", Coding::Brotli), ("zstd", Coding::Zstd)] {
        for vector in vectors[kind].as_array().unwrap() {
            let name = vector["name"].as_str().unwrap();
            let coded = base64(vector["compressed_b64"].as_str().unwrap());
            let (out, end) = every_way(&lax(), coding, &coded, 6);
            if vector["expect"].as_str() == Some("error") {
                assert!(end.is_err(), "{name}");
            } else {
                assert_eq!(end, Ok(()), "{name}");
                let expected = vector["plain_sha256"].as_str();
                assert_eq!(
                    expected.map_or(out.len() as u64, |_| vector["plain_len"].as_u64().unwrap()),
                    out.len() as u64
                );
                assert!(expected.is_none_or(|expected| sha256(&out) == expected), "{name}");
                assert_eq!(reference(coding, &coded), Some(out), "{name}");
            }
            played += 1;
        }
    }
    assert_eq!(played, 47);
}

// P-25
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn windows_end_at_their_limits() {
    // RFC 7932 §9.1: the first byte for each size, with an empty last meta-block behind it where there is room.
    let brotli = |bits: u32| -> Vec<u8> {
        match bits {
            16 => vec![0x06],
            17 => vec![0x81, 0x01],
            18..=24 => vec![(bits as u8 - 17) << 1 | 1 | 0x30],
            _ => vec![(bits as u8 - 8) << 4 | 1 | 0x80, 0x01],
        }
    };
    for bits in 10..=24 {
        let size = 1u64 << bits;
        for (value, good) in [(size - 1, false), (size, true), (size + 1, true)] {
            let Ok(limits) = Limits::DEFAULT.with(Limit::BrotliWindowBytes, value) else { continue };
            let (_, end) = every_way(&limits, Coding::Brotli, &brotli(bits), 1);
            let over = Violation { rule: Rule::BrotliWindow, at: 0, value };
            assert_eq!(end, if good { Ok(()) } else { Err(over) }, "{bits} bits, at most {value}");
        }
    }
    for byte in [0u8, 1, 7, 8, 0x3f, 0x68] {
        let base = 1u64 << (10 + (byte >> 3));
        let size = base + base / 8 * u64::from(byte & 7);
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, byte, 9, 0, 0, b'x'];
        for (value, good) in [(size - 1, false), (size, true), (size + 1, true)] {
            let Ok(limits) = Limits::DEFAULT.with(Limit::ZstdWindowBytes, value) else { continue };
            let (_, end) = every_way(&limits, Coding::Zstd, &frame, 1);
            let over = Violation { rule: Rule::ZstdWindow, at: 5, value };
            assert_eq!(end, if good { Ok(()) } else { Err(over) }, "{size}, at most {value}");
        }
    }
    // One segment: the window is as long as the content.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 8, 0, 0, 2, 0x40, 0, b'x', 11, 0, 0, b'x'];
    let limits = Limits::DEFAULT.with(Limit::ZstdWindowBytes, 2_047).unwrap();
    let (_, end) = every_way(&limits, Coding::Zstd, &frame, 1);
    assert_eq!(end, Err(Violation { rule: Rule::ZstdWindow, at: 8, value: 2_047 }));
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Zstd, &frame, 1);
    assert_eq!((out.len(), end.unwrap_err().rule), (2_048, Rule::ZstdData), "the second block is not in the length");
}

// ENC-08
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn empty_meta_blocks_and_empty_blocks_are_charged() {
    let meta_blocks = [&[0x0c][..], &[0x06].repeat(200_000)].concat();
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Brotli, &meta_blocks, 3);
    assert_eq!((out.len(), end), (0, Err(Violation { rule: Rule::DecoderStalled, at: 65_536, value: 65_536 })));
    // A meta-block that is skipped, of 16 MiB.
    let skipped = [&[0xec, 0xff, 0xff, 0x7f][..], &[0; 200_000]].concat();
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Brotli, &skipped, 3);
    assert_eq!((out.len(), end), (0, Err(Violation { rule: Rule::DecoderStalled, at: 65_536, value: 65_536 })));
    let blocks = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x40][..], &[0; 300_000]].concat();
    let (out, end) = every_way(&Limits::DEFAULT, Coding::Zstd, &blocks, 3);
    assert_eq!((out.len(), end), (0, Err(Violation { rule: Rule::DecoderStalled, at: 65_537, value: 65_536 })));
}

// P-21: a history that wraps, matches from far away, small blocks, frames with and without their length.
#[cfg(feature = "zstd")]
#[test]
fn frames_of_every_window_come_out_as_they_went_in() {
    use zstd::zstd_safe::CParameter;
    let mut seed = Seed(5);
    for window in 10..=21 {
        for (level, target) in [(1, 0), (7, 1_340), (15, 0), (19, 4_000)] {
            // Runs, copies from anywhere behind, and noise between them.
            let mut plain = seed.text(3_000, 9);
            let length = 200_000 + seed.next(100_000);
            while plain.len() < length {
                let most = [9, 90, 4_000][seed.next(3)];
                let (from, n) = (seed.next(plain.len()), 3 + seed.next(most));
                plain.extend_from_within(from..(from + n).min(plain.len()));
                let (n, run) = (seed.next(40), 1 + seed.next(6));
                plain.extend(seed.text(n, run));
            }
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.long_distance_matching(level > 7).unwrap();
            encoder.window_log(window).unwrap();
            if target > 0 {
                encoder.set_parameter(CParameter::TargetCBlockSize(target)).unwrap();
                encoder.set_pledged_src_size(Some(plain.len() as u64)).unwrap();
            }
            encoder.write_all(&plain).unwrap();
            let (out, end) = every_way(&lax(), Coding::Zstd, &encoder.finish().unwrap(), 2);
            assert!((out == plain, end) == (true, Ok(())), "window {window}, level {level}: {end:?}");
        }
    }
}

// ENC-07: the last meta-block is read in pieces, which may reach beyond the stream.
#[cfg(feature = "br")]
#[test]
fn what_follows_a_brotli_stream_is_refused_at_its_first_byte() {
    let mut seed = Seed(77);
    for length in [0, 1, 30, 255, 256, 1_000, 2_000, 3_000, 20_000] {
        let plain = seed.text(length, 3);
        for (level, more) in [(0, 1), (1, 7), (5, 1), (5, 300), (9, 9), (11, 2), (11, 600)] {
            let stream = brotli(&plain, level);
            let coded = [&stream[..], &seed.text(more, 2)].concat();
            let got = every_way(&Limits::DEFAULT, Coding::Brotli, &coded, 3);
            let end = Err(Violation::new(Rule::BrotliTrailing, stream.len() as u64));
            assert_eq!((got.0.len(), got.1), (length, end), "level {level}, {more} more");
            assert!(got.0 == plain);
        }
    }
}

// ENC-08: the free bytes run out inside an uncompressed meta-block, whose bytes are otherwise taken as they come.
#[cfg(feature = "br")]
#[test]
fn a_stall_is_at_the_same_byte_where_content_begins_shortly_before_it() {
    let limits = Limits::DEFAULT.with(Limit::RatioFreeBytes, 1_024).unwrap();
    for empty in [700, 1_000, 1_010, 1_018, 1_019, 1_020, 1_021, 1_030] {
        // A window of 64 KiB, meta-blocks that are skipped, and one of 400 bytes, uncompressed: 0, 00, 15 bits of 399, 1.
        let uncompressed = [&[0x78, 0x0c, 0x08][..], &[b'x'; 400], &[0x03]].concat();
        let coded = [&[0x0c][..], &vec![0x06; empty], &uncompressed].concat();
        let (out, end) = every_way(&limits, Coding::Brotli, &coded, 12);
        match empty {
            // Seventeen bytes of content come before the 1,025th coded one.
            700 | 1_000 => assert_eq!((out.len(), end), (400, Ok(())), "behind {empty}"),
            _ => assert_eq!(end.map_err(|v| v.rule), Err(Rule::DecoderStalled), "behind {empty}"),
        }
    }
}

// ENC-07: a frame that ends short of its length is told so where that is certain, and what came before is given, in every cut.
#[cfg(feature = "zstd")]
#[test]
fn a_last_block_that_ends_short_of_the_length_is_refused_at_the_same_byte() {
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 10];
    let first = [0x18, 0, 0, b'a', b'b', b'c'];
    // A raw one of 5, a repeated one of 5, an empty one: seven are missing.
    for (last, at) in [(&[0x29, 0, 0, 1, 2, 3, 4, 5][..], 14), (&[0x2b, 0, 0, b'x'], 14), (&[1, 0, 0], 14)] {
        let coded = [&head[..], &first, last].concat();
        let got = every_way(&Limits::DEFAULT, Coding::Zstd, &coded, 6);
        assert_eq!(got, (b"abc".to_vec(), Err(Violation::new(Rule::ZstdData, at))), "{last:?}");
    }
    let coded = [&head[..], &first, &[0x39, 0, 0], b"1234567"].concat();
    assert_eq!(every_way(&Limits::DEFAULT, Coding::Zstd, &coded, 6), (b"abc1234567".to_vec(), Ok(())));
}

// ENC-01, ENC-02: what a unit brings is paid for by the whole unit, in every cut.
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn the_ratio_is_the_same_in_any_cut_of_brotli_and_zstd() {
    let mut seed = Seed(31);
    let mut seen = [0; 3];
    for round in 0..60 {
        let mut plain = Vec::new();
        for _ in 0..seed.next(8) + 1 {
            let (length, run) = (seed.next(9_000), [1, 3, 40, 900][seed.next(4)]);
            plain.extend(seed.text(length, run));
        }
        let limits = Limits::DEFAULT.with(Limit::DecodedRatio, [2, 5, 20][seed.next(3)]).unwrap();
        let limits = limits.with(Limit::RatioFreeBytes, [1_024, 4_000][seed.next(2)]).unwrap();
        for (coding, coded) in all(&plain, [1, 5, 9][round % 3]).into_iter().skip(2) {
            let (out, end) = every_way(&limits, coding, &coded, 6);
            assert!(plain.starts_with(&out));
            match end.map_err(|v| v.rule) {
                Ok(()) => seen[0] += 1,
                Err(Rule::DecodedRatio) => {
                    assert_eq!(end.unwrap_err().at, out.len() as u64);
                    seen[1] += 1;
                }
                // The trees of a meta-block come before its first byte.
                Err(rule) => {
                    assert_eq!(rule, Rule::DecoderStalled);
                    seen[2] += 1;
                }
            }
        }
    }
    assert!(seen[0] > 5 && seen[1] > 5 && seen[2] < 30, "{seen:?}");
}

// Nothing that was flushed is held back: a client may wait for an answer to it.
#[cfg(all(feature = "br", feature = "zstd"))]
#[test]
fn what_is_flushed_comes_out() {
    let parts: Vec<Vec<u8>> = (0..20).map(|i| Seed(i + 1).text(50 + 900 * i as usize, 4)).collect();
    let check = |coding: Coding, coded: Vec<Vec<u8>>| {
        let mut decoder = Decoder::new(coding).unwrap();
        for (part, coded) in parts.iter().zip(coded) {
            let (mut rest, mut out) = (&coded[..], Vec::new());
            loop {
                let step = decoder.step(&Limits::DEFAULT, rest, 1_000).unwrap();
                out.extend_from_slice(decoder.window(step.produced));
                rest = &rest[step.consumed..];
                if rest.is_empty() && step.produced.is_empty() {
                    break;
                }
            }
            assert!(out == *part, "{}: {} of {}", coding.name(), out.len(), part.len());
        }
    };
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
    let flushed = parts.iter().map(|part| {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    });
    check(Coding::Brotli, flushed.collect());
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    let flushed = parts.iter().map(|part| {
        encoder.write_all(part).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    });
    check(Coding::Zstd, flushed.collect());
}

// RFC 8878 §3.1.1.1.4 and §3.1.1.2: content is told in the frame's head, and each plain block's; what cannot come out even shows there.
#[cfg(feature = "zstd")]
#[test]
fn a_last_block_that_leaves_its_frame_too_short_gives_nothing_in_any_cut() {
    // A frame of 24 bytes, whose last block has `n`: as they are, or one byte repeated.
    for n in 0..=26u8 {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 24];
        let raw = [&head[..], &[n << 3 | 1, n >> 5, 0], &vec![b'x'; n.into()]].concat();
        let repeated = [&head[..], &[n << 3 | 3, n >> 5, 0], b"x"].concat();
        for coded in [raw, repeated] {
            let expected = match n {
                24 => (vec![b'x'; 24], Ok(())),
                _ => (vec![], Err(Violation::new(Rule::ZstdData, 8))),
            };
            assert_eq!(every_way(&Limits::DEFAULT, Coding::Zstd, &coded, 3), expected, "{n}");
        }
    }
}

// What does not get smaller is one long insertion: it is taken in pieces, not byte by byte.
#[cfg(feature = "br")]
#[test]
fn long_insertions_of_brotli_take_few_steps() {
    let mut seed = Seed(31);
    let plain: Vec<u8> = (0..400_000).map(|_| b'0' + seed.next(64) as u8).collect();
    for level in [0, 1, 2, 4, 5, 9] {
        let coded = brotli(&plain, level);
        let (mut decoder, mut rest, mut out, mut steps) =
            (Decoder::new(Coding::Brotli).unwrap(), &coded[..], Vec::new(), 0);
        loop {
            let step = decoder.step(&Limits::DEFAULT, rest, usize::MAX).unwrap();
            out.extend_from_slice(decoder.window(step.produced));
            rest = &rest[step.consumed..];
            steps += 1;
            if rest.is_empty() && step.produced.is_empty() && !decoder.finish() {
                break;
            }
        }
        assert!(out == plain && steps < coded.len() / 16, "level {level}: {steps} steps for {} bytes", coded.len());
    }
}
