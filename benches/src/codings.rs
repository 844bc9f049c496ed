//! Bodies decoded as they are streamed, against the libraries that do only that. What is coded comes in pieces of 4 KiB, as from
//! a socket, and is given in parts of at most 16 KiB.

use crate::measure::{Case, Group, Work};
use std::hint::black_box;
use std::io::{Read, Write};
use std::rc::Rc;
use vestibule::decode::coding::{Coding, Decoder};
use vestibule::{Limit, Limits};

const PIECE: usize = 4_096;
const PART: usize = 16_384;

pub(crate) fn groups() -> Vec<Group> {
    let long = Rc::new(text(600_000));
    let short = Rc::new(text(2_000));
    vec![
        group("gunzip", 64, &long, gunzip),
        group("gunzip small", 8_192, &short, gunzip),
        group("brotli", 64, &long, unbrotli),
        group("brotli small", 8_192, &short, unbrotli),
        group("zstd", 64, &long, unzstd),
        group("zstd small", 8_192, &short, unzstd),
        group("deflate small", 8_192, &short, inflate),
    ]
}

fn group(name: &'static str, count: usize, plain: &Rc<Vec<u8>>, cases: fn(&Rc<Vec<u8>>) -> Vec<Case>) -> Group {
    Group { name, count, batch: 1, bytes: Some(plain.len()), cases: cases(plain) }
}

/// Something like an answer of an API: objects that are alike, with values that are not.
fn text(n: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"];
    let (mut seed, mut text) = (0x9e37_79b9_7f4a_7c15u64, vec![b'[']);
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % below
    };
    while text.len() < n {
        let words = [(); 4].map(|()| WORDS[next(8) as usize]);
        let (id, score, active) = (next(1_000_000), next(100_000), next(2) == 0);
        let [a, b, c, d] = words;
        let object = format!(
            "{{\"id\":{id},\"name\":\"{a} {b}\",\"active\":{active},\"score\":{}.{:02},\"tags\":[\"{c}\",\"{d}\"]}},",
            score / 100,
            score % 100
        );
        text.extend_from_slice(object.as_bytes());
    }
    text.truncate(n);
    text
}

/// Our decoder, kept from body to body.
fn ours(name: &'static str, coding: Coding, coded: &Rc<Vec<u8>>, length: usize) -> Case {
    let coded = coded.clone();
    Case::new(name, move |n| {
        let coded = coded.clone();
        // So dense a text would be refused by default.
        let limits = Limits::DEFAULT.with(Limit::RatioFreeBytes, 1 << 20).expect("in range");
        let mut decoder = Decoder::new(coding).expect("memory");
        decode(&mut decoder, coding, &limits, &coded, length);
        Box::new(move || (0..n).for_each(|_| decode(&mut decoder, coding, &limits, &coded, length))) as Work
    })
}

fn decode(decoder: &mut Decoder, coding: Coding, limits: &Limits, coded: &[u8], length: usize) {
    decoder.reset(coding);
    for (i, piece) in coded.chunks(PIECE).enumerate() {
        let mut rest = piece;
        loop {
            let step = decoder.step(limits, rest, PART).expect("a good body");
            black_box(decoder.window(step.produced));
            rest = &rest[step.consumed..];
            if rest.is_empty() && step.produced.is_empty() {
                if (i + 1) * PIECE >= coded.len() && decoder.finish() {
                    continue;
                }
                break;
            }
        }
    }
    decoder.end().expect("a whole body");
    assert_eq!(decoder.decoded_bytes() as usize, length);
}

/// A decoder that pulls from a reader.
fn theirs<F>(name: &'static str, coded: &Rc<Vec<u8>>, length: usize, read: F) -> Case
where
    F: Fn(Pieces<'_>, &mut [u8]) -> usize + Copy + 'static,
{
    let coded = coded.clone();
    Case::new(name, move |n| {
        let (coded, mut part) = (coded.clone(), vec![0; PART]);
        Box::new(move || (0..n).for_each(|_| assert_eq!(read(Pieces(&coded), &mut part), length))) as Work
    })
}

/// Gives no more than a piece at a time.
struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = into.len().min(PIECE).min(self.0.len());
        let (now, rest) = self.0.split_at(n);
        into[..n].copy_from_slice(now);
        self.0 = rest;
        Ok(n)
    }
}

fn drain(mut reader: impl Read, part: &mut [u8]) -> usize {
    let mut total = 0;
    loop {
        match reader.read(part).expect("a good body") {
            0 => return total,
            n => {
                black_box(&part[..n]);
                total += n;
            }
        }
    }
}

fn gunzip(plain: &Rc<Vec<u8>>) -> Vec<Case> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).expect("memory");
    let coded = Rc::new(encoder.finish().expect("memory"));
    vec![
        theirs("flate2", &coded, plain.len(), |pieces, part| drain(flate2::read::GzDecoder::new(pieces), part)),
        ours("vestibule", Coding::Gzip, &coded, plain.len()),
    ]
}

fn inflate(plain: &Rc<Vec<u8>>) -> Vec<Case> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).expect("memory");
    let coded = Rc::new(encoder.finish().expect("memory"));
    vec![
        theirs("flate2", &coded, plain.len(), |pieces, part| drain(flate2::read::ZlibDecoder::new(pieces), part)),
        ours("vestibule", Coding::Deflate, &coded, plain.len()),
    ]
}

fn unbrotli(plain: &Rc<Vec<u8>>) -> Vec<Case> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), PIECE, 6, 22);
    encoder.write_all(plain).expect("memory");
    let coded = Rc::new(encoder.into_inner());
    vec![
        theirs("brotli-decompressor", &coded, plain.len(), |pieces, part| {
            drain(brotli::Decompressor::new(pieces, PIECE), part)
        }),
        ours("vestibule", Coding::Brotli, &coded, plain.len()),
    ]
}

fn unzstd(plain: &Rc<Vec<u8>>) -> Vec<Case> {
    let coded = Rc::new(zstd::stream::encode_all(&plain[..], 3).expect("memory"));
    vec![
        theirs("zstd", &coded, plain.len(), |pieces, part| {
            drain(zstd::stream::read::Decoder::new(pieces).expect("memory"), part)
        }),
        theirs("ruzstd", &coded, plain.len(), |pieces, part| {
            drain(ruzstd::decoding::StreamingDecoder::new(pieces).expect("a frame"), part)
        }),
        ours("vestibule", Coding::Zstd, &coded, plain.len()),
    ]
}
