//! The bodies of the fuzz targets, on the committed seeds and on seeds that were damaged a little. The generator is seeded, so
//! every run does the same; `VESTIBULE_FUZZ_ROUNDS` makes it do more.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::path::Path;
use std::sync::Arc;
use vestibule::decrypt::TlsConfig;
// What the bodies know as `crate`.
use vestibule::{
    Config, Connection, Event, Inbox, Instant, Limit, Limits, Outbox, Pause, Rule, Violation, accept, decode, decrypt,
    parse, rehearsal,
};

#[path = "../src/fuzzing/mod.rs"]
mod fuzzing;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % n.max(1)
    }
}

const WORDS: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"0",
    b"ffffffff",
    b"\xff",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\"",
    b"{",
];

/// Changes, removes, repeats or inserts something, or joins another seed's end.
fn damage(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(3) {
        let (at, end) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (at, end) = (at.min(end), at.max(end));
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            2 => drop(bytes.drain(at..end.min(at + 8))),
            3 => {
                let part = bytes[at..end.min(at + 64)].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes.truncate(end),
            5 => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.below(other.len() + 1)..]);
            }
            _ => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
        }
    }
    bytes
}

/// `choices`: how many bytes of choices the target takes.
fn replay(target: &str, choices: usize, rounds: usize, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!seeds.is_empty());
    let play = |bytes: &[u8]| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(bytes)));
        assert!(outcome.is_ok(), "{target} fails on b\"{}\"", bytes.escape_ascii());
    };
    for seed in &seeds {
        play(seed);
    }
    let rounds = std::env::var("VESTIBULE_FUZZ_ROUNDS").map_or(rounds, |n| n.parse().unwrap());
    let mut dice = Dice(0x7665_7374_6962_756c);
    for _ in 0..rounds {
        let [a, b] = [(); 2].map(|()| dice.below(seeds.len()));
        let damaged = damage(&seeds[a], &seeds[b], &mut dice);
        if choices == 0 || dice.below(2) == 0 {
            play(&damaged);
        } else {
            let chosen = [(); 6].map(|()| dice.below(256) as u8);
            let mut marked = vec![128];
            marked.extend_from_slice(&chosen[..choices]);
            play(&[marked, damaged].concat());
        }
    }
}

#[test]
fn chunking() {
    replay("chunking", 6, 2_000, fuzzing::chunking);
}

#[test]
fn h1() {
    replay("h1", 0, 6_000, fuzzing::h1);
}

#[test]
fn h2() {
    replay("h2", 0, 4_000, fuzzing::h2);
}

#[test]
fn hpack() {
    replay("hpack", 1, 6_000, fuzzing::hpack);
}

/// What `h1` tries whole, cut as well.
#[test]
fn chunking_of_h1() {
    replay("h1", 6, 2_000, fuzzing::chunking);
}

#[test]
fn chunked() {
    replay("chunked", 1, 6_000, fuzzing::chunked);
}

#[test]
fn gzip() {
    replay("gzip", 2, 1_000, fuzzing::gzip);
}

#[test]
fn deflate() {
    replay("deflate", 2, 600, fuzzing::deflate);
}

#[cfg(feature = "br")]
#[test]
fn br() {
    replay("br", 2, 1_000, fuzzing::br);
}

#[cfg(feature = "zstd")]
#[test]
fn zstd() {
    replay("zstd", 2, 1_000, fuzzing::zstd);
}

#[test]
fn encode() {
    replay("encode", 2, 300, fuzzing::encode);
}

#[test]
fn json() {
    replay("json", 0, 6_000, fuzzing::json);
}

#[test]
fn form() {
    replay("form", 1, 6_000, fuzzing::form);
}

#[test]
fn multipart() {
    replay("multipart", 1, 6_000, fuzzing::multipart);
}

#[test]
fn protobuf() {
    replay("protobuf", 1, 6_000, fuzzing::protobuf);
}

#[test]
fn grpc() {
    replay("grpc", 1, 1_000, fuzzing::grpc);
}

#[test]
fn proxy() {
    replay("proxy", 1, 3_000, fuzzing::proxy);
}

#[test]
fn json_tokens() {
    replay("json_tokens", 2, 4_000, fuzzing::json_tokens);
}

/// What `json` tries whole, cut as well.
#[test]
fn json_tokens_of_json() {
    replay("json", 2, 4_000, fuzzing::json_tokens);
}

#[test]
fn tls_records() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = TlsConfig::new(server);
    replay("tls_records", 1, 1_000, |bytes| fuzzing::tls_records(bytes, &config));
}
