//! What peers send, as bytes.

use std::io::Write;

use vestibule::parse::pack::Encoder;

/// Nothing repeats in it.
pub fn noise(n: usize) -> Vec<u8> {
    let mut seed = 9u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Text that codings make less of, but not nothing.
fn words(n: usize) -> Vec<u8> {
    let all: Vec<u8> = noise(n / 8).iter().flat_map(|b| format!("{b:02x} word ").into_bytes()).collect();
    all[..n.min(all.len())].to_vec()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(bytes).expect("a vector");
    gzip.finish().expect("a vector")
}

/// The same bytes in each of the codings.
fn codings(bytes: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    deflate.write_all(bytes).expect("a vector");
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
    brotli.write_all(bytes).expect("a vector");
    [
        ("gzip", gzip(bytes)),
        ("deflate", deflate.finish().expect("a vector")),
        ("br", brotli.into_inner()),
        ("zstd", zstd::bulk::compress(bytes, 3).expect("memory")),
    ]
}

fn post(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}transfer-encoding: chunked\r\n\r\n");
    let mut wire = head.into_bytes();
    for chunk in body.chunks(777) {
        wire.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    [&wire[..], b"0\r\nx-sum: 1\r\n\r\n"].concat()
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}\r\n").into_bytes()
}

/// Bodies with a length and without, in parts and whole, and a streamed answer.
pub fn h1() -> Vec<u8> {
    let body = words(30_000);
    [
        get("/", ""),
        post("/", "", &body),
        post("/manual", "", &body[..5_000]),
        chunked("/", "", &body),
        post("/whole", "", &noise(120_000)),
        chunked("/whole", "", &body),
        get("/stream", ""),
    ]
    .concat()
}

/// Every coding, in parts and whole.
pub fn h1_codings() -> Vec<u8> {
    let mut wire = Vec::new();
    for (name, coded) in codings(&words(40_000)) {
        let field = format!("content-encoding: {name}\r\n");
        wire.extend(post("/", &field, &coded));
        wire.extend(chunked("/whole", &field, &coded));
    }
    wire
}

/// Bodies that are decoded, and checked, by jobs.
pub fn h1_jobs() -> Vec<u8> {
    let json = object(300);
    let mut wire = post("/job", "", json.as_bytes());
    for (name, coded) in codings(json.as_bytes()) {
        wire.extend(post("/job", &format!("content-encoding: {name}\r\n"), &coded));
    }
    wire
}

/// A JSON object with so many keys.
pub fn object(keys: usize) -> String {
    let members: Vec<String> = (0..keys).map(|i| format!("\"key {i}\": [{i}, \"\\u00e9\", null]")).collect();
    format!("{{{}}}", members.join(", "))
}

/// Answers that clients accept coded.
pub fn h1_coded_responses() -> Vec<u8> {
    let ask = |coding: &str| format!("accept-encoding: {coding}\r\n");
    [get("/coded", &ask("gzip")), get("/stream", &ask("gzip")), get("/coded", &ask("deflate")), get("/", &ask("gzip"))]
        .concat()
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A client of HTTP/2 that does not listen.
struct Client {
    packer: Encoder,
    wire: Vec<u8>,
}

impl Client {
    /// Our windows begin with `window` bytes a stream.
    fn new(window: u32) -> Client {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(frame(4, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat()));
        wire.extend(frame(4, 1, 0, &[])); // it will have seen our settings
        Client { packer: Encoder::new(4_096), wire }
    }

    /// A header block in frames of `most` bytes.
    fn head(&mut self, stream: u32, flags: u8, most: usize, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        self.packer.begin(&mut block);
        fields.iter().for_each(|(name, value)| self.packer.field(&mut block, name, value.as_bytes()));
        let last = block.chunks(most).count() - 1;
        for (i, part) in block.chunks(most).enumerate() {
            let (kind, flags) = if i == 0 { (1, flags) } else { (9, 0) };
            self.wire.extend(frame(kind, flags | if i == last { END_HEADERS } else { 0 }, stream, part));
        }
    }

    fn request(&mut self, stream: u32, flags: u8, method: &str, path: &str, more: &[(&str, &str)]) {
        let lines = [(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", path)];
        self.head(stream, flags, 16_384, &[&lines[..], more].concat());
    }

    fn get(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        self.request(stream, END_STREAM, "GET", path, more);
    }

    fn post(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) {
        self.request(stream, 0, "POST", path, more);
    }

    fn data(&mut self, stream: u32, ends: bool, bytes: &[u8]) {
        let parts: Vec<&[u8]> = bytes.chunks(4_000).collect();
        for (i, part) in parts.iter().enumerate() {
            let flags = if ends && i + 1 == parts.len() { END_STREAM } else { 0 };
            self.wire.extend(frame(0, flags, stream, part));
        }
    }
}

/// Many streams side by side, whatever makes a connection hold something: tables, large heads in pieces, crumbs, bodies that wait,
/// trailers, windows that are closed, priorities that come first, and streams that are over before their time.
pub fn h2() -> Vec<u8> {
    let mut client = Client::new(5);
    let (body, length) = (words(9_000), [("content-length", "9000"), ("x-token", "a token that comes again")]);
    client.wire.extend(frame(16, 0, 0, &[&9u32.to_be_bytes()[..], b"u=1, i"].concat()));
    client.wire.extend(frame(16, 0, 0, &[&11u32.to_be_bytes()[..], b"u=2"].concat()));
    client.get(1, "/", &[("accept", "*/*"), ("user-agent", "one that names itself at some length, as they all do")]);
    client.post(3, "/whole", &length);
    client.post(5, "/manual", &length);
    client.post(7, "/", &length);
    for part in body.chunks(3_000) {
        [3, 5, 7].iter().for_each(|&stream| client.data(stream, false, part));
    }
    [3, 5, 7].iter().for_each(|&stream| client.wire.extend(frame(0, END_STREAM, stream, b"")));
    let values: Vec<String> = (0..30).map(|i| format!("{i} ").repeat(40).trim_end().to_string()).collect();
    let names: Vec<String> = (0..30).map(|i| format!("x-field-{i}")).collect();
    let crumbs = ["a=1; session=0123456789", "b=2", "c=3"].map(|crumb| ("cookie", crumb));
    let many: Vec<(&str, &str)> = names.iter().zip(&values).map(|(n, v)| (&n[..], &v[..])).chain(crumbs).collect();
    let lines = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/large")];
    client.head(9, END_STREAM, 700, &[&lines[..], &many].concat());
    client.post(11, "/", &[("te", "trailers")]);
    client.data(11, false, &body[..2_000]);
    client.head(11, END_STREAM, 16_384, &[("x-sum", "of everything that came before"), ("x-more", "the same again")]);
    client.get(13, "/stream", &[]);
    client.post(15, "/abort", &length);
    client.request(17, END_STREAM, "GET", "relative", &[]); // malformed
    client.wire.extend(frame(3, 0, 15, &8u32.to_be_bytes()));
    client.get(19, "/", &[("x-token", "a token that comes again"), ("accept", "*/*")]);
    client.wire.extend(frame(4, 0, 0, &[&[0, 4][..], &65_535u32.to_be_bytes()].concat()));
    client.get(21, "/stream", &[]);
    client.wire
}

/// Coded bodies, side by side.
pub fn h2_codings() -> Vec<u8> {
    let mut client = Client::new(65_535);
    let bodies = codings(&words(20_000));
    let jobs = codings(object(100).as_bytes());
    let all = bodies.iter().map(|body| ("/", body)).chain(bodies.iter().map(|body| ("/whole", body)));
    let all: Vec<_> = all.chain(jobs.iter().map(|body| ("/job", body))).collect();
    for (i, (path, (name, _))) in all.iter().enumerate() {
        client.post(2 * i as u32 + 1, path, &[("content-encoding", name)]);
    }
    for (i, (_, (_, coded))) in all.iter().enumerate() {
        client.data(2 * i as u32 + 1, true, coded);
    }
    client.wire
}

/// Answers that clients accept coded, through windows that are closed first.
pub fn h2_coded_responses() -> Vec<u8> {
    let mut client = Client::new(10);
    client.get(1, "/coded", &[("accept-encoding", "gzip")]);
    client.get(3, "/stream", &[("accept-encoding", "deflate")]);
    client.wire.extend(frame(4, 0, 0, &[&[0, 4][..], &65_535u32.to_be_bytes()].concat()));
    client.get(5, "/coded", &[("accept-encoding", "gzip")]);
    client.wire
}
