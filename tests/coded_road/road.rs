//! In: an app, and requests. Out: the answers, read from the bytes of either version as strictly as its client does.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use vestibule::decode::coding::Coding;
use vestibule::{Config, Connection, Inbox, Instant, Limit, Limits, Outbox, Pause};

use super::app::App;
use super::client::Client;
use super::frames::Line;

pub const ALL: &[Coding] = &[Coding::Gzip, Coding::Zstd, Coding::Brotli, Coding::Deflate];

#[derive(Debug)]
pub struct Road {
    pub connection: Connection<Arc<Config>>,
    pub inbox: Inbox<Vec<u8>>,
    pub outbox: Outbox<Vec<u8>>,
    pub app: App,
    pub pause: Pause,
    now: Instant,
}

/// An answer, in whatever version it came.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Got {
    pub status: u16,
    pub fields: Vec<Line>,
    pub body: Vec<u8>,
    pub trailers: Vec<Line>,
    /// It ended as it should.
    pub complete: bool,
}

impl Got {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|l| l.0.eq_ignore_ascii_case(name.as_bytes()));
        lines.map(|l| std::str::from_utf8(&l.1).unwrap()).collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is said {} times", all.len());
        all.first().copied()
    }

    /// The content without its coding, by decoders that are not ours.
    pub fn plain(&self) -> Vec<u8> {
        let (coded, mut plain) = (&self.body[..], Vec::new());
        match self.get("content-encoding") {
            None => plain = self.body.clone(),
            Some("gzip") => drop(flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).unwrap()),
            Some("deflate") => drop(flate2::read::ZlibDecoder::new(coded).read_to_end(&mut plain).unwrap()),
            Some("br") => drop(brotli::Decompressor::new(coded, 4_096).read_to_end(&mut plain).unwrap()),
            Some("zstd") => drop(zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut plain).unwrap()),
            Some(other) => panic!("coded by {other}"),
        }
        plain
    }

    /// As much of it as can be decoded from what came so far.
    pub fn gunzipped_so_far(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&self.body[..]);
        let mut buffer = [0; 1];
        while let Ok(1) = decoder.read(&mut buffer) {
            plain.push(buffer[0]);
        }
        plain
    }
}

impl Road {
    pub fn new(app: App) -> Road {
        Road::with(app, Limits::DEFAULT, 16_384)
    }

    pub fn with(app: App, limits: Limits, outbox: usize) -> Road {
        Road::of(app, Config::new(limits).with_response_codings(ALL), outbox)
    }

    pub fn of(app: App, config: Config, outbox: usize) -> Road {
        let config = Arc::new(config);
        Road {
            inbox: Inbox::new(vec![0; config.inbox_bytes()]),
            outbox: Outbox::new(vec![0; outbox.max(config.least_outbox_bytes())]),
            connection: Connection::new(config, Instant::ZERO),
            app,
            pause: Pause::Yield,
            now: Instant::ZERO,
        }
    }

    /// One turn; the peer reads so much. Says what, and whether anything happened.
    pub fn turn(&mut self, reads: usize) -> (Vec<u8>, bool) {
        let before = (self.inbox.len(), self.connection.stats().events);
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).unwrap();
        while let Some(event) = turn.next() {
            self.app.on(event);
        }
        self.app.outside(&mut turn);
        while let Some(event) = turn.next() {
            self.app.on(event);
        }
        self.pause = turn.finish();
        let n = self.outbox.ready().len().min(reads);
        let output = self.outbox.ready()[..n].to_vec();
        self.outbox.wrote(n);
        let after = (self.inbox.len(), self.connection.stats().events);
        let bound = self.connection.config().machine_bound_bytes();
        assert!(self.connection.retained_bytes() <= bound, "{} of {bound}", self.connection.retained_bytes());
        (output, n > 0 || before != after || self.pause == Pause::Yield)
    }

    /// HTTP/1.1: what is said to these bytes, fed in pieces and read in pieces.
    pub fn h1(&mut self, mut bytes: &[u8], piece: usize, reads: usize) -> Vec<u8> {
        let (mut sent, mut idle) = (Vec::new(), 0);
        while idle < 3 {
            let n = self.inbox.fill(&bytes[..piece.min(bytes.len())]);
            bytes = &bytes[n..];
            let (output, moved) = self.turn(reads);
            sent.extend_from_slice(&output);
            idle = if moved || n > 0 { 0 } else { idle + 1 };
        }
        sent
    }

    /// HTTP/2: until nothing happens any more. `grant`: how the client opens windows, `reads` how much it reads at a time.
    pub fn h2(&mut self, client: &mut Client, reads: usize, mut grant: impl FnMut(&mut Client)) {
        let (mut idle, mut rounds) = (0, 0);
        while idle < 20 {
            rounds += 1;
            assert!(rounds < 100_000, "it does not end");
            let front: Vec<u8> = client.out.drain(..).collect();
            assert_eq!(self.inbox.fill(&front), front.len());
            let (output, _) = self.turn(reads);
            client.read(&output);
            idle = if output.is_empty() { idle + 1 } else { 0 };
            grant(client);
        }
    }
}

/// Limits with one changed.
pub fn limit(limit: Limit, value: u64) -> Limits {
    Limits::DEFAULT.with(limit, value).unwrap()
}

pub fn get(path: &str, accept: &str) -> Vec<u8> {
    ask("GET", path, accept)
}

/// An HTTP/1.1 request; the field is left out where it is empty.
pub fn ask(method: &str, path: &str, accept: &str) -> Vec<u8> {
    let accept = if accept.is_empty() { String::new() } else { format!("accept-encoding: {accept}\r\n") };
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{accept}\r\n").into_bytes()
}

/// The lines of the same request in HTTP/2.
pub fn lines(method: &str, path: &str, accept: &str) -> Vec<Line> {
    let mut all = vec![(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)];
    if !accept.is_empty() {
        all.push(("accept-encoding", accept));
    }
    all.into_iter().map(|(n, v)| (n.into(), v.into())).collect()
}

/// The answers to these methods, in order.
pub fn read_h1(bytes: &[u8], methods: &[&str]) -> Vec<Got> {
    let mut rest = bytes;
    let mut methods: VecDeque<&str> = methods.iter().copied().collect();
    let mut all = Vec::new();
    while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
        let (head, behind) = rest.split_at(end + 4);
        rest = behind;
        let mut got =
            Got { fields: section(&head[head.iter().position(|&b| b == b'\n').unwrap() + 1..]), ..Got::default() };
        got.status = std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap();
        let head_only = methods.pop_front() == Some("HEAD");
        if head_only || matches!(got.status, 204 | 304) {
            got.complete = true;
        } else if let Some(n) = got.get("content-length").map(|n| n.parse::<usize>().unwrap()) {
            got.complete = rest.len() >= n;
            let (body, behind) = rest.split_at(n.min(rest.len()));
            (got.body, rest) = (body.to_vec(), behind);
        } else if got.get("transfer-encoding").is_some() {
            rest = chunked(rest, &mut got);
        } else {
            (got.body, rest, got.complete) = (rest.to_vec(), b"", true);
        }
        all.push(got);
    }
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
    all
}

fn section(mut bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n").filter(|&n| n > 0) {
        let colon = bytes.iter().position(|&b| b == b':').unwrap();
        lines.push((bytes[..colon].to_vec(), bytes[colon + 1..end].trim_ascii().to_vec()));
        bytes = &bytes[end + 2..];
    }
    lines
}

fn chunked<'b>(mut rest: &'b [u8], got: &mut Got) -> &'b [u8] {
    loop {
        let Some(end) = rest.windows(2).position(|w| w == b"\r\n") else { return b"" };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            got.trailers = section(rest);
            let end =
                if got.trailers.is_empty() { 0 } else { rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 2 };
            got.complete = true;
            return &rest[end + 2..];
        }
        if rest.len() < size + 2 {
            got.body.extend_from_slice(&rest[..size.min(rest.len())]);
            return b"";
        }
        got.body.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        rest = &rest[size + 2..];
    }
}

/// What a client of HTTP/2 got on that stream.
pub fn read_h2(client: &Client, stream: u32) -> Got {
    let lane = &client.lanes[&stream];
    let (status, fields) = lane.head.clone().unwrap_or_default();
    let complete = lane.ended && lane.reset.is_none();
    Got { status, fields, body: lane.body.clone(), trailers: lane.trailers.clone().unwrap_or_default(), complete }
}

/// The same request in both versions, with room enough.
pub fn both(answer: &super::app::Answer, method: &str, accept: &str) -> [Got; 2] {
    let app = || App::new(&[("/", answer.clone())]);
    let mut road = Road::new(app());
    let sent = road.h1(&ask(method, "/", accept), usize::MAX, usize::MAX);
    let h1 = read_h1(&sent, &[method]);
    assert_eq!(h1.len(), 1, "{}", sent.escape_ascii());
    let mut road = Road::new(app());
    let mut client = Client::new(1, 65_535);
    let stream = client.request(&lines(method, "/", accept), None, &[]);
    road.h2(&mut client, usize::MAX, Client::grant_all);
    [h1.into_iter().next().unwrap(), read_h2(&client, stream)]
}
