//! P-25: for each limit that HTTP/1.1 has, the value below and the value itself pass, one more fails, with the rule's status, and
//! the error names limit and value; the same however the bytes are cut.

use std::sync::Arc;

use vestibule::rehearsal::{Input, Pieces, Rehearsal};
use vestibule::{Config, Limit, Limits};

use super::generate::{chunked, gzip};

/// One limit: the value to set, the status of the rule, and bytes that reach exactly `n`.
type Row = (Limit, u64, u16, fn(usize) -> Vec<u8>);

fn request(line: &str, rest: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b" HTTP/1.1\r\nhost: a\r\n", rest].concat()
}

fn chunks(wire: Vec<u8>) -> Vec<u8> {
    request("POST /", &[b"transfer-encoding: chunked\r\n\r\n", &wire[..]].concat())
}

fn coded(line: &str, body: &[u8]) -> Vec<u8> {
    coded_as("gzip", line, body)
}

fn coded_as(coding: &str, line: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n", body.len());
    request(line, &[head.as_bytes(), body].concat())
}

fn sized(line: &str, n: usize) -> Vec<u8> {
    request(line, &[format!("content-length: {n}\r\n\r\n").as_bytes(), &vec![b'x'; n]].concat())
}

/// Lines that weigh `n` together: name, value and 96 each.
fn section(n: usize) -> String {
    format!("a: {}\r\nb: {}\r\n", "x".repeat((n - 194) / 2), "x".repeat((n - 194).div_ceil(2)))
}

/// Nothing repeats in it, so it does not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// A gzip member whose header has a name, so that its optional fields take `n` bytes.
fn named(n: usize) -> Vec<u8> {
    let plain = gzip(b"body");
    [&[0x1f, 0x8b, 8, 8], &plain[4..10], &vec![b'n'; n - 1], &[0], &plain[10..]].concat()
}

const ROWS: &[Row] = &[
    (Limit::RequestLineBytes, 100, 414, |n| request(&format!("GET /{}", "x".repeat(n - 14)), b"\r\n")),
    (Limit::MethodBytes, 10, 501, |n| request(&format!("{} /", "M".repeat(n)), b"\r\n")),
    // Host weighs 4 + 1 + 96.
    (Limit::FieldSectionBytes, 1_000, 431, |n| request("GET /", &[section(n - 101).as_bytes(), b"\r\n"].concat())),
    (Limit::FieldLines, 5, 431, |n| request("GET /", &[b"x: y\r\n".repeat(n - 1), b"\r\n".to_vec()].concat())),
    (Limit::FieldNameBytes, 30, 431, |n| request("GET /", format!("{}: y\r\n\r\n", "x".repeat(n)).as_bytes())),
    (Limit::FieldValueBytes, 100, 431, |n| request("GET /", format!("x: {}\r\n\r\n", "y".repeat(n)).as_bytes())),
    (Limit::TrailerLines, 3, 400, |n| chunks(chunked(b"x", 1, "", &"x: y\r\n".repeat(n)))),
    (Limit::TrailerBytes, 400, 400, |n| chunks(chunked(b"x", 1, "", &section(n)))),
    (Limit::BodyBytes, 50, 413, |n| sized("POST /", n)),
    (Limit::BodyBytes, 50, 413, |n| chunks(chunked(&vec![b'x'; n], 7, "", ""))),
    (Limit::BodyBytes, 50, 413, |n| sized("POST /discard", n)),
    // An extension begins with its semicolon.
    (Limit::ChunkExtBytes, 20, 400, |n| chunks(chunked(b"x", 1, &format!(";{}", "e".repeat(n - 1)), ""))),
    (Limit::ChunkExtBodyBytes, 50, 400, |n| {
        let one = format!("1;{}\r\nx\r\n", "e".repeat(9));
        chunks([one.repeat(4).as_bytes(), format!("0;{}\r\n\r\n", "e".repeat(n - 41)).as_bytes()].concat())
    }),
    (Limit::DecodedBytes, 2_000, 413, |n| coded("POST /", &gzip(&noise(n)))),
    (Limit::DecodedBytes, 2_000, 413, |n| coded("POST /whole/100000", &gzip(&noise(n)))),
    #[cfg(feature = "br")]
    (Limit::DecodedBytes, 2_000, 413, |n| {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
        std::io::Write::write_all(&mut encoder, &noise(n)).expect("a vector");
        coded_as("br", "POST /", &encoder.into_inner())
    }),
    #[cfg(feature = "zstd")]
    (Limit::DecodedBytes, 2_000, 413, |n| {
        coded_as("zstd", "POST /", &zstd::bulk::compress(&noise(n), 3).expect("memory"))
    }),
    (Limit::GatherBytes, 2_000, 413, |n| sized("POST /whole/100000", n)),
    (Limit::GatherBytes, 2_000, 413, |n| coded("POST /whole/100000", &gzip(&noise(n)))),
    (Limit::GzipHeaderBytes, 40, 400, |n| coded("POST /", &named(n))),
];

/// Limits that are tried elsewhere: where, and why not here.
const ELSEWHERE: &[(Limit, &str)] = &[
    (Limit::ChunkOverheadBytes, "chunk_overhead, below: it counts beyond what a chunk has free"),
    (Limit::ConnectionRequests, "time: the answer says close"),
    (Limit::ConnectionAgeMs, "time: the answer says close"),
    (Limit::HeadMs, "time"),
    (Limit::ProxyHeaderBytes, "scripts: proxy; it is not answered"),
    (Limit::OverloadMs, "scripts: h1/overload"),
    (Limit::IdleMs, "time"),
    (Limit::MinRate, "time"),
    (Limit::RateGraceMs, "scripts: h1/time"),
    (Limit::LingerMs, "scripts: h1/close"),
    (Limit::LingerBytes, "scripts: h1/close"),
    (Limit::DrainBytes, "scripts: h1/framing"),
    (Limit::TurnUnits, "progress, and scripts: h1/work"),
    (Limit::ReplyRoomBytes, "a bound on ourselves"),
    (Limit::ResponseHeadBytes, "a bound on ourselves: response_head, below"),
    (Limit::HandshakeMs, "TLS"),
    (Limit::HandshakeMessageBytes, "TLS"),
    (Limit::ClientHelloBytes, "TLS"),
    (Limit::ClientCertificates, "TLS"),
    (Limit::ClientCertificateBytes, "TLS"),
    (Limit::HandshakeRecords, "TLS"),
    (Limit::EmptyRecords, "TLS"),
    (Limit::WarningAlerts, "TLS"),
    (Limit::CompatibilityCcs, "TLS"),
    (Limit::KeyUpdateBurst, "TLS"),
    (Limit::KeyUpdateRate, "TLS"),
    (Limit::CodingLayers, "scripts: h1/coding; it has one value"),
    (Limit::DecodedRatio, "tests/coding.rs"),
    (Limit::RatioFreeBytes, "tests/coding.rs"),
    (Limit::DecoderPoolBytes, "tests/coding_memory.rs; scripts: h2/body"),
    (Limit::ZstdWindowBytes, "tests/coding.rs"),
    (Limit::BrotliWindowBytes, "tests/coding.rs"),
    (Limit::EncoderPoolBytes, "tests/coded_road.rs"),
    (Limit::EncodeFromBytes, "tests/coded_road.rs"),
    (Limit::ConcurrentStreams, "scripts: h2/stream"),
    (Limit::StreamWindowBytes, "scripts: h2/flow"),
    (Limit::ConnectionWindowBytes, "scripts: h2/flow"),
    (Limit::ContinuationFrames, "scripts: h2/continuation"),
    (Limit::HeaderBlockBytes, "scripts: h2/continuation"),
    (Limit::CookieCrumbs, "scripts: h2/field"),
    (Limit::HeaderTableBytes, "scripts: h2/hpack"),
    (Limit::SettingsEntries, "scripts: h2/settings"),
    (Limit::SettingsAckMs, "scripts: h2/time"),
    (Limit::ResetBurst, "scripts: h2/abuse"),
    (Limit::ResetRate, "scripts: h2/abuse"),
    (Limit::GlitchBurst, "scripts: h2/abuse"),
    (Limit::GlitchRate, "scripts: h2/abuse"),
    (Limit::EmptyFrames, "scripts: h2/abuse"),
    (Limit::SmallFrameBytes, "scripts: h2/abuse"),
    (Limit::PriorityFrames, "scripts: h2/abuse"),
    (Limit::OverheadBytes, "scripts: h2/abuse"),
    (Limit::StallMs, "scripts: h2/time"),
    (Limit::JsonDepth, "tests/json.rs"),
    (Limit::JsonNumberBytes, "tests/json.rs"),
    (Limit::JsonKeyBytes, "tests/json.rs"),
    (Limit::JsonKeys, "tests/json.rs"),
    (Limit::JsonWhitespaceBytes, "tests/json.rs"),
    (Limit::FormFields, "tests/form.rs"),
    (Limit::FormNameBytes, "tests/form.rs, tests/multipart.rs"),
    (Limit::FormValueBytes, "tests/form.rs, tests/multipart.rs"),
    (Limit::Parts, "tests/multipart.rs"),
    (Limit::PartHeadBytes, "tests/multipart.rs"),
    (Limit::PartFileBytes, "tests/multipart.rs"),
    (Limit::ProtobufDepth, "tests/protobuf.rs"),
    (Limit::ProtobufMessageBytes, "tests/protobuf.rs, tests/grpc.rs"),
    (Limit::ProtobufElements, "tests/protobuf.rs"),
];

fn play(limit: Limit, value: u64, wire: &[u8], pieces: Pieces) -> String {
    let limits = Limits::DEFAULT.with(limit, value).expect("in range");
    let config = Arc::new(Config::new(limits));
    Rehearsal { pieces, inbox_bytes: 70_000, ..Rehearsal::new(config) }.play(&[Input::Bytes(wire.to_vec())])
}

fn fault(transcript: &str) -> Option<&str> {
    transcript.lines().find(|l| l.starts_with("fault "))
}

pub fn from_the_table() {
    for &limit in Limit::ALL {
        let here = ROWS.iter().any(|r| r.0 == limit);
        assert!(here != ELSEWHERE.iter().any(|e| e.0 == limit), "{limit:?} is tried in one place");
    }
    for &(limit, value, status, build) in ROWS {
        let n = value as usize;
        for (n, passes) in [(n - 1, true), (n, true), (n + 1, false)] {
            let wire = build(n);
            let whole = play(limit, value, &wire, Pieces::Whole);
            let what = format!("{} is {value}, and {n} came:\n{whole}", limit.name());
            match fault(&whole) {
                None => assert!(passes && whole.contains("HTTP/1.1 200 OK"), "{what}"),
                Some(fault) => {
                    let named = fault.ends_with(&format!(", {} is {value}", limit.name()));
                    assert!(!passes && named && fault.contains(&format!(": {status} (RFC ")), "{what}");
                    assert!(whole.contains(&format!("HTTP/1.1 {status} ")), "{what}");
                }
            }
            for each in [1, 3, 64] {
                assert_eq!(whole, play(limit, value, &wire, Pieces::Each(each)), "{each} at a time");
            }
        }
    }
}

/// Framing beyond 16 bytes a chunk and twice the payload: with extensions of 25 bytes on chunks of a byte.
pub fn chunk_overhead() {
    let value = 256;
    // A chunk of `1;e..e CRLF x CRLF`: 2 + 25 + 4 of framing; free are 16 and 2 for its payload.
    let wire = |extra: usize| {
        let one = format!("1;{}\r\nx\r\n", "e".repeat(24));
        chunks([one.repeat(18).as_bytes(), format!("0;{}\r\n\r\n", "e".repeat(extra)).as_bytes()].concat())
    };
    let outcome =
        |extra| fault(&play(Limit::ChunkOverheadBytes, value, &wire(extra), Pieces::Whole)).map(str::to_string);
    let first = (1..240).find(|&extra| outcome(extra).is_some()).expect("it ends");
    let fault = outcome(first).expect("found");
    assert!(fault.contains("ChunkOverhead") && fault.ends_with("chunk_overhead_bytes is 256"), "{fault}");
    // Counted by hand: 18 chunks with 26 + 2 + 2 bytes of framing, then the last line up to its end.
    let framing = |extra: usize| 18 * (26 + 2 + 2) + 2 + extra + 2;
    let free = 16 * 19 + 2 * 18;
    assert_eq!(framing(first - 1) - free, value as usize);
    for each in [1, 3, 64] {
        for extra in [first - 1, first] {
            let whole = play(Limit::ChunkOverheadBytes, value, &wire(extra), Pieces::Whole);
            assert_eq!(whole, play(Limit::ChunkOverheadBytes, value, &wire(extra), Pieces::Each(each)));
        }
    }
}
