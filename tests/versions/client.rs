//! In: what the machine says in HTTP/2. Out: its answers, read as strictly as RFC 9113 allows: whatever a strict client would end the
//! connection for is a panic. And the client's own side: bodies under way, as fast as the windows let them.

use std::collections::{BTreeMap, VecDeque};

use vestibule::parse::pack::Decoder;

use super::frames::*;

/// One stream, as the client sees it.
#[derive(Debug, Default)]
pub struct Lane {
    pub method: Vec<u8>,
    pub informs: Vec<(u16, Vec<Line>)>,
    pub head: Option<(u16, Vec<Line>)>,
    pub body: Vec<u8>,
    pub trailers: Option<Vec<Line>>,
    /// The answer is complete.
    pub ended: bool,
    /// The machine has reset it, with this code.
    pub reset: Option<u32>,
    /// The request ended with its head.
    bare: bool,
    /// The client sends no more on it, or has reset it.
    pub closed: bool,
    pub given_up: bool,
    /// What the client may send, and what the machine may.
    open: i64,
    may: i64,
    upload: Option<Upload>,
}

#[derive(Debug)]
struct Upload {
    body: Vec<u8>,
    at: usize,
    trailers: Vec<Line>,
    /// The end of it is never said.
    endless: bool,
}

impl Lane {
    pub fn is_over(&self) -> bool {
        self.reset.is_some() || self.given_up || (self.ended && self.closed)
    }

    fn is_tunnel(&self) -> bool {
        self.method == b"CONNECT" && matches!(self.head, Some((200..=299, _)))
    }
}

#[derive(Debug)]
pub struct Client {
    pub lanes: BTreeMap<u32, Lane>,
    /// What it says.
    pub out: VecDeque<u8>,
    pub dice: Dice,
    packer: Packer,
    pub goaways: Vec<(u32, u32)>,
    /// Windows of the connection, and of new streams; those that were asked for and not acknowledged.
    open: i64,
    may: i64,
    initial: i64,
    asked: VecDeque<i64>,
    server_initial: i64,
    pings: VecDeque<[u8; 8]>,
    decoder: Decoder,
    heard: Vec<u8>,
    greeted: bool,
    /// A header block that is not complete: its stream, END_STREAM, what is there.
    block: Option<(u32, bool, Vec<u8>)>,
    next: u32,
}

impl Client {
    /// The preface and SETTINGS with this window are out.
    pub fn new(seed: u64, window: i64) -> Client {
        let mut client = Client {
            lanes: BTreeMap::new(),
            out: PREFACE.iter().copied().collect(),
            dice: Dice::new(seed),
            packer: Packer::default(),
            goaways: Vec::new(),
            open: 65_535,
            may: 65_535,
            initial: 65_535,
            asked: VecDeque::new(),
            server_initial: 65_535,
            pings: VecDeque::new(),
            decoder: Decoder::new(4_096),
            heard: Vec::new(),
            greeted: false,
            block: None,
            next: 1,
        };
        client.settings(window);
        client
    }

    // ---- what it says ----

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.extend(frame(kind, flags, stream, payload));
    }

    pub fn settings(&mut self, window: i64) {
        let [a, b, c, d] = (window as u32).to_be_bytes();
        self.asked.push_back(window);
        self.say(SETTINGS, 0, 0, &[0, 4, a, b, c, d]);
    }

    pub fn ping(&mut self) {
        let text = (self.dice.below(1 << 30) as u64).to_be_bytes();
        self.pings.push_back(text);
        self.say(PING, 0, 0, &text);
    }

    /// A request whose field section has these lines; `None`: no content.
    pub fn request(&mut self, lines: &[Line], body: Option<Vec<u8>>, trailers: &[Line]) -> u32 {
        let number = self.next;
        self.next += 2;
        let method = lines.iter().find(|l| l.0 == b":method").map_or(Vec::new(), |l| l.1.clone());
        let block = self.packer.block(lines, &mut self.dice);
        let bytes = headers(number, &block, body.is_none(), &mut self.dice);
        self.out.extend(bytes);
        let closed = body.is_none();
        let upload = body.map(|body| Upload { body, at: 0, trailers: trailers.to_vec(), endless: false });
        let bare = closed;
        let lane =
            Lane { method, bare, closed, open: self.server_initial, may: self.initial, upload, ..Lane::default() };
        self.lanes.insert(number, lane);
        number
    }

    /// The content of this request never ends.
    pub fn endless(&mut self, number: u32) {
        if let Some(upload) = self.lanes.get_mut(&number).and_then(|l| l.upload.as_mut()) {
            upload.endless = true;
        }
    }

    /// Nothing more of a content that never ends: now it does.
    pub fn end_all(&mut self) {
        self.lanes.values_mut().filter_map(|l| l.upload.as_mut()).for_each(|upload| upload.endless = false);
    }

    pub fn give_up(&mut self, number: u32) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        (lane.given_up, lane.closed, lane.upload) = (true, true, None);
        self.say(RST_STREAM, 0, number, &8u32.to_be_bytes());
    }

    /// Room for the machine's content: on a stream, or (0) on the connection.
    pub fn grant(&mut self, stream: u32, more: u32) {
        match self.lanes.get_mut(&stream) {
            Some(lane) => lane.may += i64::from(more),
            None => self.may += i64::from(more),
        }
        self.say(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// Windows as wide as anything needs.
    pub fn grant_all(&mut self) {
        if self.may < 1 << 20 {
            self.grant(0, 1 << 24);
        }
        let narrow: Vec<u32> =
            self.lanes.iter().filter(|(_, l)| !l.is_over() && l.may < 1 << 18).map(|(n, _)| *n).collect();
        narrow.into_iter().for_each(|number| self.grant(number, 1 << 22));
    }

    /// One more frame of some body that is under way; false: the windows are shut, or there is none.
    pub fn upload(&mut self) -> bool {
        let going = |(_, lane): &(&u32, &mut Lane)| lane.upload.is_some() && lane.reset.is_none();
        let open = self.open;
        let mut all: Vec<_> = self.lanes.iter_mut().filter(going).filter(|(_, l)| l.open.min(open) > 300).collect();
        if all.is_empty() {
            return false;
        }
        let dice = &mut self.dice;
        let at = dice.below(all.len());
        let (number, lane) = all.swap_remove(at);
        let number = *number;
        let Some(upload) = &mut lane.upload else { return false };
        let left = upload.body.len() - upload.at;
        let padding = dice.one_in(4).then(|| dice.pick(&[0u8, 1, 200, 255]));
        let extra = padding.map_or(0, |n| 1 + usize::from(n));
        let most = (lane.open.min(open) as usize).min(16_384) - extra;
        let n = dice.pick(&[1, 9, 300, 5_000, 16_384]).min(left).min(most);
        let part = &upload.body[upload.at..upload.at + n];
        let mut payload: Vec<u8> = padding.into_iter().collect();
        payload.extend_from_slice(part);
        payload.resize(n + extra, 0);
        upload.at += n;
        let complete = upload.at == upload.body.len();
        let ends = complete && !upload.endless && upload.trailers.is_empty() && (left == 0 || dice.one_in(2));
        let trailers = (complete && !upload.endless && !upload.trailers.is_empty()).then(|| upload.trailers.clone());
        if complete && upload.endless && n == 0 {
            return false;
        }
        if n > 0 || ends {
            lane.open -= payload.len() as i64;
            self.open -= payload.len() as i64;
            let flags = if ends { END } else { 0 } | if padding.is_some() { PADDED } else { 0 };
            self.out.extend(frame(DATA, flags, number, &payload));
        }
        if ends || trailers.is_some() {
            (lane.closed, lane.upload) = (true, None);
        }
        if let Some(trailers) = trailers {
            let block = self.packer.block(&trailers, &mut self.dice);
            let bytes = headers(number, &block, true, &mut self.dice);
            self.out.extend(bytes);
        }
        true
    }

    // ---- what it reads ----

    pub fn read(&mut self, output: &[u8]) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.extend_from_slice(output);
        let mut rest = &heard[..];
        while let Some((head, behind)) = rest.split_first_chunk::<9>() {
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            assert!(len <= 16_384, "§4.2: longer than SETTINGS_MAX_FRAME_SIZE");
            assert!(stream < 1 << 31, "§4.1: the reserved bit is not 0");
            let Some((payload, behind)) = behind.split_at_checked(len) else { break };
            rest = behind;
            self.frame(head[3], head[4], stream, payload);
        }
        self.heard = rest.to_vec();
    }

    /// No frame is cut short.
    pub fn is_between(&self) -> bool {
        self.heard.is_empty() && self.block.is_none()
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let known = match kind {
            DATA => END | PADDED,
            HEADERS => END | END_HEADERS | PADDED | 0x20,
            SETTINGS | PING => END,
            CONTINUATION => END_HEADERS,
            _ => 0,
        };
        assert_eq!(flags & !known, 0, "§4.1: flags {flags:x} mean nothing in a frame of type {kind}");
        assert_eq!(flags & (PADDED | 0x20) & known, 0, "these tests read no padding: nobody needs it");
        assert!(self.greeted || (kind == SETTINGS && flags == 0), "§3.4: SETTINGS come first");
        self.greeted = true;
        let open = self.block.as_ref().map(|b| b.0);
        assert!(open.is_none() || (kind == CONTINUATION && open == Some(stream)), "§6.10: a block is interrupted");
        let on_stream = matches!(kind, DATA | HEADERS | CONTINUATION | RST_STREAM);
        let anywhere = kind == WINDOW_UPDATE;
        assert!(anywhere || on_stream == (stream != 0), "§6: type {kind} on stream {stream}");
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            SETTINGS if flags & END != 0 => {
                assert!(payload.is_empty(), "§6.5");
                let window = self.asked.pop_front().expect("§6.5.3: an acknowledgement of nothing");
                let by = window - std::mem::replace(&mut self.initial, window);
                self.lanes.values_mut().for_each(|lane| lane.may += by);
            }
            SETTINGS => self.their_settings(payload),
            PING if flags & END != 0 => {
                assert_eq!(self.pings.pop_front().as_ref().map(|p| &p[..]), Some(payload), "§6.7");
            }
            PING => {
                assert_eq!(payload.len(), 8, "§6.7");
                self.say(PING, END, 0, payload);
            }
            GOAWAY => {
                let last = word(0);
                assert!(self.goaways.last().is_none_or(|g| g.0 >= last), "§6.8: a higher last stream");
                self.goaways.push((last, word(4)));
            }
            WINDOW_UPDATE => {
                assert_eq!(payload.len(), 4, "§6.9");
                let by = i64::from(word(0));
                assert!(by > 0 && by < 1 << 31, "§6.9");
                assert!(stream == 0 || self.lane(stream).reset.is_none(), "§5.1: WINDOW_UPDATE behind a reset");
                let window = if stream == 0 { &mut self.open } else { &mut self.lane(stream).open };
                *window += by;
                assert!(*window < 1 << 31, "§6.9.1");
            }
            RST_STREAM => {
                assert_eq!(payload.len(), 4, "§6.4");
                let (code, lane) = (word(0), self.lane(stream));
                assert!(lane.reset.is_none(), "stream {stream} is reset twice");
                assert!(!(lane.bare && lane.ended), "§5.1: a stream is reset that both sides have ended");
                assert!(code != 0 || lane.ended, "§8.1: NO_ERROR behind a complete answer alone");
                (lane.reset, lane.upload) = (Some(code), None);
            }
            DATA => self.data(flags & END != 0, stream, payload),
            HEADERS if flags & END_HEADERS != 0 => self.section(stream, flags & END != 0, payload),
            HEADERS => self.block = Some((stream, flags & END != 0, payload.to_vec())),
            CONTINUATION => {
                let (_, ends, mut block) = self.block.take().expect("§6.10: nothing to be continued");
                block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    self.section(stream, ends, &block);
                } else {
                    self.block = Some((stream, ends, block));
                }
            }
            _ => panic!("a server has no business with frames of type {kind}"),
        }
    }

    fn lane(&mut self, stream: u32) -> &mut Lane {
        self.lanes.get_mut(&stream).unwrap_or_else(|| panic!("§5.1: stream {stream} is idle"))
    }

    fn their_settings(&mut self, payload: &[u8]) {
        assert_eq!(payload.len() % 6, 0, "§6.5");
        for entry in payload.chunks(6) {
            let (name, value) = (entry[1], u32::from_be_bytes(entry[2..].try_into().expect("four bytes")));
            assert!(name != 2 || value == 0, "§6.5.2: a server that would be pushed to");
            assert!(name != 4 || value < 1 << 31, "§6.5.2");
            assert!(name != 5 || (16_384..1 << 24).contains(&value), "§6.5.2");
            assert!(name != 8 || value <= 1, "RFC 8441 §3");
            assert!(name != 9 || value <= 1, "RFC 9218 §2.1");
            if name == 4 {
                let by = i64::from(value) - std::mem::replace(&mut self.server_initial, i64::from(value));
                self.lanes.values_mut().for_each(|lane| lane.open += by);
            }
        }
        self.say(SETTINGS, END, 0, b"");
    }

    fn data(&mut self, ends: bool, stream: u32, payload: &[u8]) {
        let lane = self.lanes.get_mut(&stream).expect("§5.1: DATA on an idle stream");
        assert!(lane.reset.is_none() && !lane.ended, "§5.1: DATA behind the end of stream {stream}");
        assert!(lane.head.is_some(), "§8.1: content before its head");
        (lane.may, self.may) = (lane.may - payload.len() as i64, self.may - payload.len() as i64);
        assert!(payload.is_empty() || (lane.may >= 0 && self.may >= 0), "§6.9.1: more than the windows allow");
        lane.body.extend_from_slice(payload);
        if ends {
            lane.end();
        }
    }

    fn section(&mut self, stream: u32, ends: bool, mut block: &[u8]) {
        let mut lines: Vec<Line> = Vec::new();
        let mut arena = Vec::new();
        self.decoder.begin();
        while let Some(field) = self.decoder.next(&mut block, &mut arena).expect("RFC 7541: a block that decodes") {
            lines.push((field.name.of(&arena).to_vec(), field.value.of(&arena).to_vec()));
            arena.clear();
        }
        let lane = self.lane(stream);
        assert!(lane.reset.is_none() && !lane.ended, "§5.1: HEADERS behind the end of stream {stream}");
        if lane.head.is_some() {
            assert!(ends && !lane.is_tunnel(), "§8.1: a section behind the head that does not end its stream");
            lines.iter().for_each(strict);
            lane.trailers = Some(lines);
            return lane.end();
        }
        let (name, value) = lines.remove(0);
        let status = std::str::from_utf8(&value).ok().and_then(|s| s.parse::<u16>().ok()).expect("three digits");
        assert!(name == b":status" && value.len() == 3 && (100..=599).contains(&status), "§8.3.2");
        lines.iter().for_each(strict);
        if status < 200 {
            assert!(!ends && status != 101, "§8.1, §8.6: {status}");
            return lane.informs.push((status, lines));
        }
        let lengths = lines.iter().filter(|l| l.0 == b"content-length").count();
        assert!(lengths <= usize::from(status != 204), "RFC 9110 §8.6: {lengths} lengths of a {status}");
        lane.head = Some((status, lines));
        assert!(lengths == 0 || !lane.is_tunnel(), "RFC 9110 §8.6: the length of a tunnel");
        if ends {
            lane.end();
        }
    }
}

impl Lane {
    /// The answer is complete: it is as long as it says (§8.1.1).
    fn end(&mut self) {
        self.ended = true;
        let Some((status, lines)) = &self.head else { panic!("an end without a head") };
        if self.method == b"HEAD" || matches!(status, 204 | 304) {
            return assert!(self.body.is_empty(), "RFC 9110 §6.4.1: content in a {status}");
        }
        let said = lines.iter().find(|l| l.0 == b"content-length");
        let said = said.map(|l| std::str::from_utf8(&l.1).expect("digits").parse::<usize>().expect("a number"));
        assert!(said.is_none_or(|n| n == self.body.len()), "§8.1.1: {said:?} were announced, {}", self.body.len());
    }
}

/// §8.2.1, §8.2.2: a field as it may stand in a response.
fn strict((name, value): &Line) {
    let token = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(b);
    assert!(!name.is_empty() && name.iter().all(token), "a field name: {}", name.escape_ascii());
    let control = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    assert!(!value.iter().any(control), "a field value: {}", value.escape_ascii());
    assert_eq!(value.trim_ascii(), &value[..], "white space around a value");
    let hop: [&[u8]; 6] = [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"];
    assert!(!hop.contains(&&name[..]), "a field of one connection of HTTP/1.1: {}", name.escape_ascii());
}
