//! The least HTTP/2 client that there can be: field lines are literals, answers are known by the static table's
//! statuses.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
/// Ends its stream; acknowledges.
pub const END: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub content: Vec<u8>,
    pub ended: bool,
    /// The code of its reset.
    pub reset: Option<u32>,
}

pub struct Client<S> {
    pub stream: S,
    pub answers: BTreeMap<u32, Answer>,
    /// Last stream and code of every GOAWAY.
    pub goaways: Vec<(u32, u32)>,
    /// The server has closed.
    pub closed: bool,
    /// The stream whose window is not opened again.
    pub hold: Option<u32>,
    /// PINGs are not answered.
    pub mute: bool,
    next: u32,
    /// What the server lets us send: on the connection, and on a new stream.
    window: i64,
    initial: i64,
    windows: BTreeMap<u32, i64>,
    /// What we gave and was used since, on the connection.
    used: u32,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A literal without indexing, its name from the static table (RFC 7541 §6.2.2).
fn literal(block: &mut Vec<u8>, name: u8, value: &str) {
    assert!(name < 15 && value.len() < 127);
    block.extend_from_slice(&[name, value.len() as u8]);
    block.extend_from_slice(value.as_bytes());
}

pub fn head(method: &str, path: &str) -> Vec<u8> {
    let mut block = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86];
    literal(&mut block, 4, path);
    literal(&mut block, 1, "localhost");
    block
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        let (answers, windows) = (BTreeMap::new(), BTreeMap::new());
        let (next, window, initial) = (1, 65_535, 65_535);
        let (goaways, closed, hold, mute) = (Vec::new(), false, None, false);
        let mut client =
            Client { stream, answers, goaways, closed, hold, mute, next, window, initial, windows, used: 0 };
        client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        client.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]); // no dynamic table
        client
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        // A server that leaves may be gone already: what it said is still to be read.
        let _ = self.stream.write_all(&frame(kind, flags, stream, payload));
        let _ = self.stream.flush();
    }

    /// A request; with POST, its content is to follow.
    pub fn request(&mut self, method: &str, path: &str) -> u32 {
        self.open(if method == "GET" { END } else { 0 }, &head(method, path))
    }

    /// An extended CONNECT (RFC 8441).
    pub fn connect(&mut self, path: &str) -> u32 {
        let mut block = Vec::new();
        literal(&mut block, 2, "CONNECT");
        block.push(0x86);
        literal(&mut block, 4, path);
        literal(&mut block, 1, "localhost");
        block.extend_from_slice(b"\0\x09:protocol\x04test");
        self.open(0, &block)
    }

    /// A new stream.
    pub fn open(&mut self, ends: u8, block: &[u8]) -> u32 {
        let number = self.next;
        self.next += 2;
        self.answers.insert(number, Answer::default());
        self.windows.insert(number, self.initial);
        self.send(HEADERS, END_HEADERS | ends, number, block);
        number
    }

    /// Content, as windows allow; what comes meanwhile is taken.
    pub fn content(&mut self, number: u32, mut bytes: &[u8], ends: bool) {
        loop {
            let window = self.window.min(self.windows[&number]).clamp(0, 16_384) as usize;
            let (now, later) = bytes.split_at(window.min(bytes.len()));
            if now.is_empty() && !later.is_empty() {
                assert!(self.step(), "closed with {} bytes to send", later.len());
                continue;
            }
            self.window -= now.len() as i64;
            *self.windows.get_mut(&number).unwrap() -= now.len() as i64;
            let last = ends && later.is_empty();
            self.send(DATA, u8::from(last), number, now);
            bytes = later;
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Takes one frame. False: the server has closed.
    pub fn step(&mut self) -> bool {
        let mut header = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut header) {
            assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
            self.closed = true;
            return false;
        }
        let [a, b, c, kind, flags, s, t, u, v] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).unwrap();
        let number = u32::from_be_bytes([s, t, u, v]);
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            SETTINGS if flags & END == 0 => {
                for entry in payload.chunks(6) {
                    if entry[..2] == [0, 4] {
                        let initial = i64::from(u32::from_be_bytes(entry[2..].try_into().unwrap()));
                        let by = initial - self.initial;
                        self.initial = initial;
                        self.windows.values_mut().for_each(|window| *window += by);
                    }
                }
                self.send(SETTINGS, END, 0, &[]);
            }
            PING if flags & END == 0 && !self.mute => self.send(PING, END, 0, &payload),
            GOAWAY => self.goaways.push((word(0), word(4))),
            WINDOW_UPDATE if number == 0 => self.window += i64::from(word(0)),
            WINDOW_UPDATE => *self.windows.get_mut(&number).unwrap() += i64::from(word(0)),
            RST_STREAM => self.answers.get_mut(&number).unwrap().reset = Some(word(0)),
            HEADERS => {
                assert_eq!(flags & END_HEADERS, END_HEADERS);
                let answer = self.answers.get_mut(&number).unwrap();
                answer.status = status(&payload);
                answer.ended = flags & END != 0;
            }
            DATA => {
                let answer = self.answers.get_mut(&number).unwrap();
                answer.content.extend_from_slice(&payload);
                answer.ended = flags & END != 0;
                self.used += payload.len() as u32;
                if !payload.is_empty() && flags & END == 0 && self.hold != Some(number) {
                    self.send(WINDOW_UPDATE, 0, number, &(payload.len() as u32).to_be_bytes());
                }
                if self.used > 16_384 {
                    let used = std::mem::take(&mut self.used);
                    self.send(WINDOW_UPDATE, 0, 0, &used.to_be_bytes());
                }
            }
            _ => {}
        }
        true
    }

    /// What comes until this stream is over.
    pub fn answer(&mut self, number: u32) -> Answer {
        while !self.answers[&number].ended && self.answers[&number].reset.is_none() && self.step() {}
        self.answers[&number].clone()
    }

    pub fn get(&mut self, path: &str) -> Answer {
        let number = self.request("GET", path);
        self.answer(number)
    }

    /// What comes until the server closes.
    pub fn rest(&mut self) {
        while self.step() {}
    }
}

/// The status, where it stands in the static table (RFC 7541 appendix A), or as a literal of its name there. A change of the dynamic
/// table's size comes before it.
fn status(block: &[u8]) -> u16 {
    let at = block.iter().position(|b| *b & 0xe0 != 0x20).unwrap();
    match block[at..] {
        [first @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, 3, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'))
        }
        _ => panic!("no status in {block:x?}"),
    }
}
