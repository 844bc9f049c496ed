//! Streams of HTTP/1.1 requests, valid ones and mutated ones.

use std::io::Write;

use proptest::prelude::*;
use proptest::sample::select;

/// Paths that the handler of rehearsals knows.
const PATHS: [&str; 27] = [
    "/",
    "/early",
    "/early-stream",
    "/whole/100",
    "/whole/100000",
    "/job/100000",
    "/echo",
    "/discard",
    "/manual",
    "/never",
    "/abort",
    "/inform",
    "/upgrade",
    "/chunked",
    "/sized/5000",
    "/short",
    "/long",
    "/status/204",
    "/status/304",
    "/status/205",
    "/bad-field/crlf",
    "/bad-field/framing",
    "/bad-trailer",
    "/json",
    "/status/500",
    "/sized/0",
    "/whole/0",
];

const LINES: [&str; 12] = [
    "",
    "",
    "",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "x: \t y \t\r\n",
    "x:\r\n",
    "accept: */*\r\nx-y: z\r\n",
    "content-encoding: identity\r\n",
    "x: \u{e9}\r\n",
    "te: trailers\r\n",
    "expect: 100-continue\r\n",
];

/// What a hostile client puts where it does not belong.
const PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"\x7f",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"content-length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"host: b\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"ffffffffffffffff\r\n",
];

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).expect("a vector");
    encoder.finish().expect("a vector")
}

pub fn chunked(body: &[u8], size: usize, extension: &str, trailers: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        wire.extend(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
    }
    wire.extend(format!("0{extension}\r\n{trailers}\r\n").as_bytes());
    wire
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = select(vec!["GET", "POST", "POST", "POST", "HEAD", "PUT", "OPTIONS"]);
    let version = select(vec!["1.1", "1.1", "1.1", "1.1", "1.1", "1.0"]);
    let size = prop_oneof![Just(0usize), 1..20usize, 100..3000usize, Just(20_000usize)];
    (method, select(&PATHS[..]), version, select(&LINES[..]), 0..10u8, size, 1..5000usize).prop_map(
        |(method, path, version, lines, framing, size, chunk)| {
            let body: Vec<u8> = (0..size).map(|i| b'a' + (i * 7 % 26) as u8).collect();
            let mut wire = format!("{method} {path} HTTP/{version}\r\nhost: a\r\n{lines}").into_bytes();
            let sized = |body: &[u8]| [format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
            let coding = b"transfer-encoding: chunked\r\n\r\n";
            wire.extend(match framing {
                0 | 1 => b"\r\n".to_vec(),
                2 | 3 => sized(&body),
                4 => [&coding[..], &chunked(&body, chunk, "", "")].concat(),
                5 => [&coding[..], &chunked(&body, chunk, ";a=b; c=\"d\"", "x-sum: 1\r\ny: 2\r\n")].concat(),
                6 => [b"content-encoding: gzip\r\n", &sized(&gzip(&body))[..]].concat(),
                7 => [b"content-encoding: gzip\r\n", &coding[..], &chunked(&gzip(&body), chunk % 50, "", "")].concat(),
                8 => [b"content-length: 3\r\n", &coding[..], &chunked(&body, chunk, "", "")].concat(),
                _ => b"connection: upgrade\r\nupgrade: echo\r\n\r\nthrough the tunnel".to_vec(),
            });
            wire
        },
    )
}

#[derive(Clone, Debug)]
struct Mutation {
    at: u16,
    kind: u8,
    with: u8,
}

impl Mutation {
    fn apply(&self, wire: &mut Vec<u8>) {
        let at = usize::from(self.at) * wire.len() / 65_536;
        let end = (at + 1 + usize::from(self.with) / 8).min(wire.len());
        match self.kind {
            0 => wire[at] ^= 1 << (self.with % 8),
            1 => drop(wire.drain(at..end)),
            2 => {
                let twice = wire[at..end].to_vec();
                wire.splice(at..at, twice);
            }
            3 => wire.truncate(at.max(1)),
            4 => wire[at] = self.with,
            _ => drop(wire.splice(at..at, PIECES[usize::from(self.with) % PIECES.len()].iter().copied())),
        }
        if wire.is_empty() {
            wire.push(b'G');
        }
    }
}

/// A stream of requests; every second one with something wrong in it.
pub fn wire() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (any::<u16>(), 0..8u8, any::<u8>()).prop_map(|(at, kind, with)| Mutation { at, kind, with });
    let mutations = prop_oneof![Just(Vec::new()), prop::collection::vec(mutation, 1..3)];
    (prop::collection::vec(request(), 1..6), mutations).prop_map(|(requests, mutations)| {
        let mut wire = requests.concat();
        mutations.iter().for_each(|m| m.apply(&mut wire));
        wire
    })
}
