//! What the decoders of a body hold, and how often they ask for it, counted by the allocator: M-7, ENC-06, ENG-06. One test,
//! since it counts every allocation.
#![cfg(all(feature = "br", feature = "zstd"))]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "support/heap.rs"]
mod heap;

use heap::{CALLS, LIVE, PEAK};
use std::cell::Cell;
use std::io::Write;

use vestibule::decode::coding::{Coding, Decoder};
use vestibule::{Limit, Limits, Rule, Violation};

/// Plays a body; what was held at the most is checked against `budget`, and what is said against what is held, at every step.
fn play(
    decoder: &mut Decoder,
    limits: &Limits,
    coded: &[u8],
    piece: usize,
    budget: usize,
) -> (u64, Result<(), Violation>) {
    let base = LIVE.with(Cell::get) - decoder.retained_bytes() as isize;
    PEAK.with(|peak| peak.set(LIVE.with(Cell::get)));
    decoder.set_budget(budget);
    let (mut from, mut to) = (0, 0);
    loop {
        let step = decoder.step(limits, &coded[from..to], 10_000);
        assert_eq!(LIVE.with(Cell::get) - base, decoder.retained_bytes() as isize, "it holds what it says");
        assert!(PEAK.with(Cell::get) - base <= budget as isize, "{} of {budget}", PEAK.with(Cell::get) - base);
        let step = match step {
            Ok(step) => step,
            Err(violation) => return (decoder.decoded_bytes(), Err(violation)),
        };
        from += step.consumed;
        if from == to && step.produced.is_empty() {
            if to == coded.len() && !decoder.finish() {
                return (decoder.decoded_bytes(), decoder.end());
            }
            to = (to + piece).min(coded.len());
        }
    }
}

fn text(n: usize) -> Vec<u8> {
    let mut seed = 9u64;
    let mut text = Vec::new();
    while text.len() < n {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.extend(format!("{{\"id\":{},\"name\":\"some {:x}\"}},", seed >> 40, seed >> 56).bytes());
    }
    text.truncate(n);
    text
}

fn brotli(plain: &[u8], window: u32) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, window);
    encoder.write_all(plain).expect("a vector");
    encoder.into_inner()
}

fn zstd(plain: &[u8], window: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).expect("memory");
    encoder.window_log(window).expect("in range");
    encoder.write_all(plain).expect("a vector");
    encoder.finish().expect("a vector")
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).expect("a vector");
    encoder.finish().expect("a vector")
}

#[test]
fn decoders_hold_what_they_say_and_no_more_than_they_may() {
    let limits = Limits::DEFAULT;
    let pool = limits.get(Limit::DecoderPoolBytes) as usize;
    for length in [0, 100, 5_000, 70_000, 400_000, 3_000_000] {
        let plain = text(length);
        for (coding, coded) in [
            (Coding::Gzip, gzip(&plain)),
            (Coding::Brotli, brotli(&plain, 22)),
            (Coding::Brotli, brotli(&plain, 24)),
            (Coding::Zstd, zstd(&plain, 17)),
            (Coding::Zstd, zstd(&plain, 23)),
        ] {
            for piece in [1 << 20, 1_000, 7] {
                let mut decoder = Decoder::new(coding).expect("memory");
                let played = play(&mut decoder, &limits, &coded, piece, pool);
                assert_eq!(played, (length as u64, Ok(())), "{}", coding.name());
                // Memory grows with data, whatever the window.
                let held = decoder.retained_bytes();
                assert!(held <= 2 * length + (160 << 10), "{} holds {held} for {length}", coding.name());
                decoder.rest();
                assert!(decoder.retained_bytes() <= 64 << 10, "{} keeps {}", coding.name(), decoder.retained_bytes());
            }
        }
    }
    budgets_are_kept_to_the_byte(&limits);
    literals_count_beside_the_history(&limits);
    what_is_kept_for_other_codings_makes_room(&limits);
    a_body_of_the_largest_size_fits_its_pool(&limits);
    steady_state_allocates_nothing(&limits, pool);
}

/// Whatever the budget is, it is never passed, and the answer is the same in any cut.
fn budgets_are_kept_to_the_byte(limits: &Limits) {
    let plain = text(300_000);
    for (coding, coded) in [(Coding::Brotli, brotli(&plain, 22)), (Coding::Zstd, zstd(&plain, 22))] {
        let mut refused = 0;
        for budget in (1..40).map(|n| n * 25_000) {
            let mut outcomes = Vec::new();
            for piece in [1 << 20, 999, 10] {
                let mut decoder = Decoder::new(coding).expect("memory");
                outcomes.push(play(&mut decoder, limits, &coded, piece, budget));
            }
            assert_eq!((outcomes[0], outcomes[0]), (outcomes[1], outcomes[2]), "{} in {budget}", coding.name());
            if let Err(violation) = outcomes[0].1 {
                assert_eq!((violation.rule, violation.status()), (Rule::DecoderPool, 503));
                refused += 1;
            }
        }
        assert!((5..35).contains(&refused), "{}: {refused} of 39", coding.name());
    }
    // ENC-06: a claim costs nothing, and one that is over the cap is refused as such.
    let claim = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x68, 9, 0, 0, b'x'];
    let mut decoder = Decoder::new(Coding::Zstd).expect("memory");
    assert_eq!(play(&mut decoder, limits, &claim, 1, 40_000), (1, Ok(())));
    // A brotli meta-block that claims 16 MiB in a window of 16 MiB, of which a few bytes come.
    let claim = [0xcf, 0xff, 0xff, 0xff, b'x', b'y'];
    let mut decoder = Decoder::new(Coding::Brotli).expect("memory");
    let (_, end) = play(&mut decoder, limits, &claim, 1, 8 << 20);
    assert_eq!(end.map_err(|v| v.rule), Err(Rule::DecoderPool), "what it claims is charged before it is taken");
}

/// What a block took for its literals stays, and counts, while later ones with few of them let the history grow.
fn literals_count_beside_the_history(limits: &Limits) {
    let mut coded = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x68];
    // Compressed blocks without sequences: 131,072 literals that are one byte repeated, then 16,384 of them many times.
    coded.extend([0x2c, 0, 0, 0x0d, 0x00, 0x20, b'l', 0]);
    for _ in 0..12 {
        coded.extend([0x2c, 0, 0, 0x0d, 0x00, 0x04, b'm', 0]);
    }
    coded.extend([0x01, 0, 0]);
    let limits = limits.clone().with(Limit::RatioFreeBytes, 16_777_216).expect("in range");
    let mut refused = 0;
    for budget in (0..100).map(|n| 65_536 + n * 10_000) {
        let mut outcomes = Vec::new();
        for piece in [1 << 20, 1] {
            let mut decoder = Decoder::new(Coding::Zstd).expect("memory");
            outcomes.push(play(&mut decoder, &limits, &coded, piece, budget));
        }
        assert_eq!(outcomes[0], outcomes[1], "in {budget}");
        refused += u32::from(outcomes[0].1.map_err(|v| v.rule) == Err(Rule::DecoderPool));
    }
    assert!((5..95).contains(&refused), "{refused} of 100");
}

/// Engines of other codings are kept while there is room: they never cost a body its place.
fn what_is_kept_for_other_codings_makes_room(limits: &Limits) {
    let plain = text(20_000);
    for (coding, coded) in [(Coding::Brotli, brotli(&plain, 16)), (Coding::Zstd, zstd(&plain, 15))] {
        let needed = (0..80).map(|n| 65_536 + n * 5_000).find(|budget| {
            let mut alone = Decoder::new(coding).expect("memory");
            play(&mut alone, limits, &coded, 1 << 20, *budget).1.is_ok()
        });
        let needed = needed.expect("it fits somewhere");
        let mut decoder = Decoder::new(Coding::Gzip).expect("memory");
        play(&mut decoder, limits, &gzip(&plain), 1 << 20, 8 << 20).1.expect("a good body");
        decoder.rest();
        decoder.reset(coding);
        let budget = needed.max(decoder.retained_bytes());
        let got = play(&mut decoder, limits, &coded, 1 << 20, budget);
        assert_eq!(got, (20_000, Ok(())), "{} in {needed}, behind gzip", coding.name());
    }
}

/// What may be decoded by default fits the pool that there is by default, whatever its window, its length untold.
fn a_body_of_the_largest_size_fits_its_pool(limits: &Limits) {
    let plain = text(limits.get(Limit::DecodedBytes) as usize);
    for window in [17, 21, 22, 23] {
        let coded = zstd(&plain, window);
        let mut decoder = Decoder::new(Coding::Zstd).expect("memory");
        let got = play(&mut decoder, limits, &coded, 10_000, limits.get(Limit::DecoderPoolBytes) as usize);
        assert_eq!(got, (plain.len() as u64, Ok(())), "a window of 1 << {window}");
    }
}

fn steady_state_allocates_nothing(limits: &Limits, pool: usize) {
    let bodies: Vec<_> = [300, 2_000, 9_000, 40].into_iter().map(text).collect();
    let coded: Vec<(Coding, Vec<u8>)> = bodies
        .iter()
        .flat_map(|body| {
            [(Coding::Gzip, gzip(body)), (Coding::Brotli, brotli(body, 22)), (Coding::Zstd, zstd(body, 20))]
        })
        .collect();
    let mut decoder = Decoder::new(Coding::Gzip).expect("memory");
    let mut round = |rounds: usize| {
        let before = CALLS.with(Cell::get);
        for _ in 0..rounds {
            for (coding, coded) in &coded {
                decoder.reset(*coding);
                play(&mut decoder, limits, coded, 500, pool).1.expect("a good body");
                decoder.rest();
            }
        }
        CALLS.with(Cell::get) - before
    };
    round(3);
    let calls = round(50);
    println!("{calls} allocations in 600 bodies");
    assert_eq!(calls, 0, "bodies of all codings in turn");
}
