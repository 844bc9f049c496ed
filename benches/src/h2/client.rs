//! In: which requests are wanted. Out: the bytes of a client that sends them on one connection, and an ear for the
//! answers.
//!
//! What the client puts into the dynamic table it puts there with its first request, so from the second batch on every
//! batch finds the same state. Its policy is nghttp2's: `:path` and `if-none-match`, which vary, stay out of the table.

use super::BODY;
use std::hint::black_box;
use vestibule::parse::pack::huffman;

/// How a field is coded.
#[derive(Copy, Clone)]
enum Coding {
    /// The whole line is this entry of the static table (RFC 7541 appendix A).
    Static(u8),
    /// A literal that goes into the dynamic table with the first request; its name is this static entry, or none (0).
    Indexed(u8),
    /// Always a literal; its name is this static entry.
    Literal(u8),
}
use Coding::{Indexed, Literal, Static};

type Line = (&'static str, &'static str, Coding);

/// The kinds of requests.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What h2load sends for `http://localhost:8080/`.
    H2load,
    /// What a browser sends: 12 fields beside the pseudo-header fields.
    Browser,
    /// The same, all of it literals with Huffman-coded names and values.
    Literals,
    /// A POST whose content of 1 MiB follows.
    Upload,
}

const H2LOAD: &[Line] = &[
    (":method", "GET", Static(2)),
    (":scheme", "http", Static(6)),
    (":authority", "localhost:8080", Indexed(1)),
    (":path", "/", Static(4)),
    ("user-agent", "h2load nghttp2/1.52.0", Indexed(58)),
];

/// `#` stands for digits that differ from request to request.
const BROWSER: &[Line] = &[
    (":method", "GET", Static(2)),
    (":authority", "www.example.org", Indexed(1)),
    (":scheme", "https", Static(7)),
    (":path", "/assets/app/main.4f2a9c1e.js?v=2026####", Literal(4)),
    ("cache-control", "max-age=0", Indexed(24)),
    ("upgrade-insecure-requests", "1", Indexed(0)),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
        Indexed(58),
    ),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", Indexed(19)),
    ("sec-fetch-site", "same-origin", Indexed(0)),
    ("sec-fetch-mode", "navigate", Indexed(0)),
    ("sec-fetch-dest", "document", Indexed(0)),
    ("referer", "https://www.example.org/index.html", Indexed(51)),
    ("accept-encoding", "gzip, deflate, br, zstd", Indexed(16)),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8", Indexed(17)),
    ("cookie", "session=8d1f0b7a6c5e4d3c2b1a09f8e7d6c5b4; theme=dark; consent=yes", Indexed(32)),
    ("if-none-match", "\"5f3e1c0a9b8d####\"", Literal(41)),
];

const UPLOAD: &[Line] = &[
    (":method", "POST", Static(3)),
    (":scheme", "http", Static(6)),
    (":authority", "localhost:8080", Indexed(1)),
    (":path", "/sink", Literal(4)),
    ("content-length", "1048576", Literal(28)),
];

impl Kind {
    fn lines(self) -> &'static [Line] {
        match self {
            Kind::H2load => H2LOAD,
            Kind::Browser | Kind::Literals => BROWSER,
            Kind::Upload => UPLOAD,
        }
    }

    /// The lines of the `i`-th request, as text.
    pub(crate) fn text(self, i: usize) -> String {
        self.lines().iter().map(|(name, value, _)| format!("{name}: {}\r\n", digits(value, i))).collect()
    }

    /// The header block of the `i`-th request.
    pub(crate) fn block(self, i: usize) -> Vec<u8> {
        let lines = self.lines();
        let mut block = Vec::new();
        let mut entries = lines.iter().filter(|l| matches!(l.2, Indexed(_))).count();
        for &(name, value, coding) in lines {
            let value = digits(value, i);
            match coding {
                _ if self == Kind::Literals => literal(&mut block, (0x00, 4), 0, name, &value),
                Static(n) => integer(&mut block, (0x80, 7), n.into()),
                Literal(n) => literal(&mut block, (0x00, 4), n.into(), name, &value),
                Indexed(n) if i == 0 => literal(&mut block, (0x40, 6), n.into(), name, &value),
                Indexed(_) => {
                    // The newest entry is the first (RFC 7541 §2.3.3).
                    integer(&mut block, (0x80, 7), 61 + entries);
                    entries -= 1;
                }
            }
        }
        block
    }
}

fn digits(value: &str, i: usize) -> String {
    value.replace("####", &format!("{:04}", i % 10_000))
}

/// An integer behind the first bits of its byte (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, (first, bits): (u8, u32), n: usize) {
    let most = (1 << bits) - 1;
    if n < most {
        return out.push(first | n as u8);
    }
    out.push(first | most as u8);
    let mut rest = n - most;
    while rest > 127 {
        out.push(128 | (rest & 127) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn string(out: &mut Vec<u8>, text: &str) {
    let mut coded = Vec::new();
    huffman::encode(text.as_bytes(), &mut coded);
    if coded.len() < text.len() {
        integer(out, (0x80, 7), coded.len());
        out.extend_from_slice(&coded);
    } else {
        integer(out, (0x00, 7), text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn literal(out: &mut Vec<u8>, form: (u8, u32), index: usize, name: &str, value: &str) {
    integer(out, form, index);
    if index == 0 {
        string(out, name);
    }
    string(out, value);
}

// ---- frames

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const MOST: u32 = 0x7fff_ffff;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Preface and settings: no push, and windows that no answer fills.
pub(crate) fn opening() -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
    settings.extend_from_slice(&MOST.to_be_bytes());
    frame(&mut out, 4, 0, 0, &settings);
    frame(&mut out, 8, 0, 0, &(MOST - 65_535).to_be_bytes());
    out
}

/// The server's settings are acknowledged.
pub(crate) fn acknowledgement() -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, 4, ACK, 0, &[]);
    out
}

/// Requests without content, `batch` at once, from the first stream on.
pub(crate) fn batches(kind: Kind, count: usize, batch: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|b| {
            let mut out = Vec::new();
            for i in b * batch..(b + 1) * batch {
                frame(&mut out, 1, END_STREAM | END_HEADERS, 2 * i as u32 + 1, &kind.block(i));
            }
            out
        })
        .collect()
}

/// Heads of requests whose content follows.
pub(crate) fn heads(kind: Kind, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|i| {
            let mut out = Vec::new();
            frame(&mut out, 1, END_HEADERS, 2 * i as u32 + 1, &kind.block(i));
            out
        })
        .collect()
}

/// The DATA frames of one upload, in pieces of 64 KiB: what a receive call may bring.
pub(crate) struct Upload {
    pub(crate) pieces: Vec<Vec<u8>>,
}

const DATA_BYTES: usize = 16_384;
pub(crate) const PIECE: usize = 4 * DATA_BYTES;

impl Upload {
    pub(crate) fn new() -> Upload {
        let content = vec![b'x'; DATA_BYTES];
        let mut pieces = vec![Vec::new(); BODY / PIECE];
        for piece in &mut pieces {
            for _ in 0..PIECE / DATA_BYTES {
                frame(piece, 0, 0, 0, &content);
            }
        }
        let last = pieces.last_mut().expect("pieces");
        let flags = last.len() - DATA_BYTES - 9 + 4;
        last[flags] = END_STREAM;
        Upload { pieces }
    }

    /// The frames are now those of the `i`-th request.
    pub(crate) fn belongs_to(&mut self, i: usize) {
        let stream = 2 * i as u32 + 1;
        for frame in self.pieces.iter_mut().flat_map(|p| p.chunks_exact_mut(9 + DATA_BYTES)) {
            frame[5..9].copy_from_slice(&stream.to_be_bytes());
        }
    }
}

// ---- what comes back

/// What the client has heard. Only while it listens does it look at the bytes; else it counts them.
#[derive(Default)]
pub(crate) struct Ear {
    pub(crate) bytes: usize,
    pub(crate) listens: bool,
    /// Answers with status 200, their content, and how many of them are complete.
    pub(crate) heads: usize,
    pub(crate) content: usize,
    pub(crate) ends: usize,
    /// Credit for content, of the connection and of the stream that is being sent.
    pub(crate) connection: usize,
    pub(crate) stream: usize,
    start: Vec<u8>,
    skip: usize,
}

impl Ear {
    pub(crate) fn new() -> Ear {
        Ear { listens: true, connection: 65_535, ..Ear::default() }
    }

    #[inline]
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.bytes += black_box(bytes).len();
        if self.listens {
            self.listen(bytes);
        }
    }

    fn listen(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (self.wanted() - self.start.len()).min(bytes.len());
            self.start.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.start.len() == self.wanted() {
                let len = self.len();
                self.frame(len);
                self.skip = 9 + len - self.start.len();
                self.start.clear();
            }
        }
    }

    /// The payload's length, once the frame's header is there.
    fn len(&self) -> usize {
        u32::from_be_bytes([0, self.start[0], self.start[1], self.start[2]]) as usize
    }

    /// The header, and what of the payload says something: an increment, or the status.
    fn wanted(&self) -> usize {
        if self.start.len() < 9 || self.start[3] == 0 { 9 } else { 9 + self.len().min(4) }
    }

    fn frame(&mut self, len: usize) {
        let (kind, flags, payload) = (self.start[3], self.start[4], &self.start[9..]);
        let stream = u32::from_be_bytes([self.start[5], self.start[6], self.start[7], self.start[8]]);
        match kind {
            0 => self.content += len,
            // `:status: 200` (RFC 7541 appendix A), perhaps behind a size update.
            1 if payload.contains(&0x88) => self.heads += 1,
            8 => {
                let credit = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]) as usize;
                *(if stream == 0 { &mut self.connection } else { &mut self.stream }) += credit;
            }
            3 | 7 => panic!("the server gave up: frame type {kind}, {payload:?}"),
            _ => {}
        }
        if kind <= 1 && flags & END_STREAM != 0 {
            self.ends += 1;
        }
    }

    /// Sends so much content: the windows have room for it.
    pub(crate) fn spend(&mut self, n: usize) {
        assert!(self.connection >= n && self.stream >= n, "no credit: {} and {}", self.connection, self.stream);
        self.connection -= n;
        self.stream -= n;
    }

    /// Checks what was heard of `n` answers, and forgets it. Says how many bytes they were.
    pub(crate) fn check(&mut self, n: usize, content: usize) -> usize {
        assert_eq!((self.heads, self.content, self.ends), (n, n * content, n));
        (self.heads, self.content, self.ends) = (0, 0, 0);
        std::mem::take(&mut self.bytes)
    }
}
