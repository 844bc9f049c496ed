//! In: what a client of HTTP/2 wants to say, frame by frame, and a handler. Out: what the machine says, read strictly, on the real
//! `Connection`; after every turn the books are looked at (`audit`).

use super::Dice;
use super::audit;
use crate::base::{Limit, Limits, Span};
use crate::parse::h2::{FrameHeader, NO_ERROR, PREFACE, kind};
use crate::parse::pack::{Decoder, Encoder};
use crate::{Config, Connection, Event, Id, Inbox, Instant, Outbox, Pause, Reply, Turn};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;

pub(super) const END: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
const ACK: u8 = 1;

pub(super) type Lines = Vec<(String, Vec<u8>)>;

/// What uses a connection.
pub(super) trait Handler {
    fn on(&mut self, event: Event<'_>);

    /// Whatever it does outside of events.
    fn outside(&mut self, _turn: &mut Turn<'_>) {}

    /// It has enough of this turn.
    fn leaves(&mut self) -> bool {
        false
    }
}

/// A handler of a few lines.
pub(super) struct On<F>(pub(super) F);

impl<F: FnMut(Event<'_>)> Handler for On<F> {
    fn on(&mut self, event: Event<'_>) {
        (self.0)(event);
    }
}

/// One stream, as the client sees it.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) informs: usize,
    pub(super) head: Option<Lines>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Option<Lines>,
    /// The answer is complete.
    pub(super) ended: bool,
    /// The machine has reset it, with this code.
    pub(super) reset: Option<u32>,
    /// The client sends no more on it.
    pub(super) closed: bool,
    pub(super) reset_by_us: bool,
    /// What the client may send.
    pub(super) open: i64,
    /// What the machine may send.
    pub(super) may: i64,
}

impl Lane {
    /// Nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        self.reset.is_some() || self.reset_by_us || (self.ended && self.closed)
    }
}

/// A client and the machine that it talks to.
pub(super) struct Peer<H> {
    pub(super) connection: Connection<Arc<Config>>,
    pub(super) inbox: Inbox<Vec<u8>>,
    pub(super) outbox: Outbox<Vec<u8>>,
    pub(super) handler: H,
    pub(super) lanes: BTreeMap<u32, Lane>,
    /// What was said and has not reached the inbox.
    pub(super) wire: VecDeque<u8>,
    /// What the client may send on all streams together, and the machine.
    pub(super) open: i64,
    pub(super) may: i64,
    pub(super) goaways: Vec<(u32, u32)>,
    pub(super) pongs: usize,
    pub(super) pause: Pause,
    pub(super) now: Instant,
    pub(super) encoder: Encoder,
    decoder: Decoder,
    heard: Vec<u8>,
    /// Windows of new streams: of ours that the machine knows, and those that it has not acknowledged.
    initial: i64,
    asked: Vec<i64>,
    server_initial: i64,
    pub(super) last: u32,
    /// The machine's DATA frames: their streams and lengths, in order.
    pub(super) order: Vec<(u32, usize)>,
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { len: payload.len() as u32, kind, flags, stream };
    [&header.emit()[..], payload].concat()
}

impl<H: Handler> Peer<H> {
    /// The preface and the client's SETTINGS are on the wire.
    pub(super) fn new(limits: Limits, inbox: usize, outbox: usize, handler: H) -> Peer<H> {
        let config = Arc::new(Config::new(limits));
        let outbox = outbox.max(config.least_outbox_bytes());
        let mut peer = Peer {
            connection: Connection::new(config, Instant::ZERO),
            inbox: Inbox::new(vec![0; inbox]),
            outbox: Outbox::new(vec![0; outbox]),
            handler,
            lanes: BTreeMap::new(),
            wire: PREFACE.iter().copied().collect(),
            open: 65_535,
            may: 65_535,
            goaways: Vec::new(),
            pongs: 0,
            pause: Pause::Yield,
            now: Instant::ZERO,
            encoder: Encoder::new(4_096),
            decoder: Decoder::new(4_096),
            heard: Vec::new(),
            initial: 65_535,
            asked: Vec::new(),
            server_initial: 65_535,
            last: 0,
            order: Vec::new(),
        };
        peer.settings(65_535);
        peer
    }

    // ---- what the client says ----

    pub(super) fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let bytes = frame(kind, flags, stream, payload);
        self.wire.extend(bytes);
    }

    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub(super) fn settings(&mut self, window: i64) {
        let [a, b, c, d] = (window as u32).to_be_bytes();
        self.asked.push(window);
        self.say(kind::SETTINGS, 0, 0, &[0, 4, a, b, c, d]);
    }

    /// A header block of these lines.
    pub(super) fn block(&mut self, lines: &[(&str, &[u8])]) -> Vec<u8> {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in lines {
            self.encoder.field(&mut block, name, value);
        }
        block
    }

    /// A request on the next stream; says its number.
    pub(super) fn request(&mut self, lines: &[(&str, &[u8])], ends: bool) -> u32 {
        let block = self.block(lines);
        let number = self.begin(ends);
        self.say(kind::HEADERS, END_HEADERS | u8::from(ends), number, &block);
        number
    }

    /// The next stream, whose HEADERS somebody else says.
    pub(super) fn begin(&mut self, ends: bool) -> u32 {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        // The machine may know a window already that it has not yet acknowledged: `read` mends that.
        let lane = Lane { closed: ends, open: self.server_initial, may: self.initial, ..Lane::default() };
        self.lanes.insert(self.last, lane);
        self.last
    }

    /// `POST path` with these fields.
    pub(super) fn post(&mut self, path: &str, fields: &[(&str, &[u8])]) -> u32 {
        let start: [(&str, &[u8]); 4] =
            [(":method", b"POST"), (":scheme", b"http"), (":authority", b"a.example"), (":path", path.as_bytes())];
        self.request(&[&start[..], fields].concat(), false)
    }

    pub(super) fn get(&mut self, path: &str, fields: &[(&str, &[u8])]) -> u32 {
        let start: [(&str, &[u8]); 4] =
            [(":method", b"GET"), (":scheme", b"http"), (":authority", b"a.example"), (":path", path.as_bytes())];
        self.request(&[&start[..], fields].concat(), true)
    }

    /// Content that the windows allow, in one frame.
    pub(super) fn data(&mut self, stream: u32, bytes: &[u8], padding: Option<u8>, ends: bool) {
        let mut payload = Vec::new();
        payload.extend(padding);
        payload.extend_from_slice(bytes);
        payload.resize(payload.len() + usize::from(padding.unwrap_or(0)), 0);
        let flags = u8::from(ends) | if padding.is_some() { PADDED } else { 0 };
        self.open -= payload.len() as i64;
        let lane = self.lanes.get_mut(&stream).expect("a stream");
        lane.open -= payload.len() as i64;
        lane.closed |= ends;
        assert!(self.open >= 0 && lane.open >= 0, "the test sends more than it may");
        self.say(kind::DATA, flags, stream, &payload);
    }

    /// What a DATA frame may carry now.
    pub(super) fn room(&self, stream: u32) -> usize {
        let lane = self.lanes.get(&stream).map_or(0, |l| l.open);
        lane.min(self.open).clamp(0, 16_384) as usize
    }

    pub(super) fn give_up(&mut self, stream: u32, code: u32) {
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.reset_by_us = true;
            lane.closed = true;
        }
        self.say(kind::RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Room for the machine's content: on a stream, or (0) on the connection.
    pub(super) fn grant(&mut self, stream: u32, more: u32) {
        match self.lanes.get_mut(&stream) {
            Some(lane) => lane.may += i64::from(more),
            None => self.may += i64::from(more),
        }
        self.say(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    // ---- what becomes of it ----

    /// Moves at most `most` bytes of the wire into the inbox.
    pub(super) fn feed(&mut self, most: usize) {
        let (front, _) = self.wire.as_slices();
        let n = self.inbox.fill(&front[..most.min(front.len())]);
        self.wire.drain(..n);
    }

    /// One turn; `reads`: so much of its output the client reads at most.
    pub(super) fn turn(&mut self, reads: usize) -> bool {
        let before = (self.inbox.len(), self.connection.stats().events);
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        self.handler.outside(&mut turn);
        while let Some(event) = turn.next() {
            self.handler.on(event);
            if self.handler.leaves() {
                break;
            }
        }
        self.handler.outside(&mut turn);
        self.pause = turn.finish();
        let n = self.outbox.ready().len().min(reads);
        let output = self.outbox.ready()[..n].to_vec();
        self.outbox.wrote(n);
        self.read(&output);
        self.audit();
        n > 0 || before != (self.inbox.len(), self.connection.stats().events) || self.pause == Pause::Yield
    }

    /// Turns until nothing more happens.
    pub(super) fn run(&mut self) {
        loop {
            let left = self.wire.len();
            self.feed(usize::MAX);
            let moved = self.turn(usize::MAX);
            if !moved && left == self.wire.len() {
                assert!(left == 0 || self.pause == Pause::Closed, "stuck with {left} bytes: {:?}", self.pause);
                return;
            }
        }
    }

    /// Every byte has one holder, and both sides agree on what may be sent.
    fn audit(&mut self) {
        let whole = self.wire.is_empty() && self.inbox.is_empty();
        audit::check(&mut self.connection, whole);
        if !whole || !self.outbox.is_empty() || !self.heard.is_empty() {
            return;
        }
        let Some((_, streams)) = self.connection.core().h2() else { return };
        assert_eq!(
            i64::from(streams.ledger.connection().open()),
            self.open,
            "both sides' view of the connection's window"
        );
        for (_, stream) in streams.iter() {
            let lane = &self.lanes[&stream.number];
            assert_eq!(i64::from(stream.account.open()), lane.open, "both sides' view of stream {}", stream.number);
        }
    }

    // ---- what the machine says ----

    fn read(&mut self, output: &[u8]) {
        let mut heard = core::mem::take(&mut self.heard);
        heard.extend_from_slice(output);
        let mut rest = &heard[..];
        while let Some((header, behind)) = rest.split_first_chunk::<9>() {
            let header = FrameHeader::parse(header);
            assert!(header.len <= 16_384, "a frame that nobody asked for");
            let Some((payload, behind)) = behind.split_at_checked(header.len as usize) else { break };
            rest = behind;
            self.frame(header, payload);
        }
        self.heard = rest.to_vec();
    }

    fn frame(&mut self, FrameHeader { kind, flags, stream, .. }: FrameHeader, payload: &[u8]) {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            kind::SETTINGS if flags & ACK != 0 => {
                let window = self.asked.remove(0);
                let by = window - core::mem::replace(&mut self.initial, window);
                self.lanes.values_mut().for_each(|lane| lane.may += by);
            }
            kind::SETTINGS => {
                for entry in payload.chunks(6).filter(|e| e[..2] == [0, 4]) {
                    let window = i64::from(u32::from_be_bytes(entry[2..].try_into().expect("four bytes")));
                    let by = window - core::mem::replace(&mut self.server_initial, window);
                    self.lanes.values_mut().for_each(|lane| lane.open += by);
                }
                self.say(kind::SETTINGS, ACK, 0, b"");
            }
            kind::PING if flags & ACK != 0 => self.pongs += 1,
            kind::PING => self.say(kind::PING, ACK, 0, payload),
            kind::GOAWAY => self.goaways.push((word(0), word(4))),
            kind::WINDOW_UPDATE => {
                let by = i64::from(word(0));
                assert!(by > 0);
                match self.lanes.get_mut(&stream) {
                    Some(lane) => {
                        lane.open += by;
                        assert!(lane.open < 1 << 31);
                    }
                    None => self.open += by,
                }
            }
            _ => self.on_stream(kind, flags, stream, payload),
        }
    }

    fn on_stream(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let lane = self.lanes.get_mut(&stream).unwrap_or_else(|| panic!("type {kind} on stream {stream}"));
        assert!(lane.reset.is_none(), "something behind the reset of stream {stream}");
        match kind {
            kind::RST_STREAM => {
                let code = u32::from_be_bytes(payload.try_into().expect("four bytes"));
                assert!(code != NO_ERROR || lane.ended, "RFC 9113 §8.1: NO_ERROR behind a complete answer alone");
                lane.reset = Some(code);
                return;
            }
            kind::DATA => {
                assert!(lane.head.is_some() && !lane.ended && lane.trailers.is_none(), "content in a wrong place");
                lane.may -= payload.len() as i64;
                self.may -= payload.len() as i64;
                assert!(payload.is_empty() || (lane.may >= 0 && self.may >= 0), "more than the windows allow");
                lane.body.extend_from_slice(payload);
                self.order.push((stream, payload.len()));
            }
            kind::HEADERS => {
                assert!(flags & END_HEADERS != 0, "these tests' heads are short");
                assert!(!lane.ended && lane.trailers.is_none(), "a head behind the end");
                let lines = lines(&mut self.decoder, payload);
                let status = lines.iter().find(|f| f.0 == ":status").map(|f| f.1.clone());
                match status {
                    Some(status) if status[0] == b'1' => {
                        assert!(flags & END == 0 && lane.head.is_none());
                        lane.informs += 1;
                    }
                    Some(_) => assert!(lane.head.replace(lines).is_none(), "one answer a request"),
                    None => {
                        assert!(flags & END != 0 && lane.head.is_some(), "trailers end an answer");
                        lane.trailers = Some(lines);
                    }
                }
            }
            _ => panic!("frame type {kind}"),
        }
        if flags & END != 0 {
            lane.ended = true;
            let said = lane.head.iter().flatten().find(|f| f.0 == "content-length");
            let said = said.map(|f| std::str::from_utf8(&f.1).expect("digits").parse::<usize>().expect("a number"));
            assert!(said.is_none_or(|n| n == lane.body.len() || lane.body.is_empty()), "the length is what was said");
        }
    }
}

impl<H: Handler> Peer<H> {
    /// The preface is behind both.
    pub(super) fn begun(limits: Limits, inbox: usize, outbox: usize, handler: H) -> Peer<H> {
        let mut peer = Peer::new(limits, inbox, outbox, handler);
        peer.run();
        peer
    }

    /// Does something with an exchange from outside of its events.
    pub(super) fn with(&mut self, number: u32, act: impl FnOnce(Reply<'_>)) -> bool {
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        let found = turn.reply(Id(u64::from(number))).map(act).is_some();
        while let Some(event) = turn.next() {
            self.handler.on(event);
        }
        self.pause = turn.finish();
        self.run();
        found
    }

    /// All of a body, as fast as the windows allow.
    pub(super) fn upload(&mut self, stream: u32, mut body: &[u8], most: usize, ends: bool) {
        while !body.is_empty() {
            let n = self.room(stream).min(most).min(body.len());
            if n == 0 {
                self.run();
                assert!(self.room(stream) > 0, "the window of stream {stream} stays shut");
                continue;
            }
            let (part, rest) = body.split_at(n);
            self.data(stream, part, None, ends && rest.is_empty());
            body = rest;
        }
        self.run();
    }
}

/// A header block's lines.
fn lines(decoder: &mut Decoder, mut block: &[u8]) -> Lines {
    let (mut arena, mut lines) = (Vec::new(), Vec::new());
    decoder.begin();
    while let Some(field) = decoder.next(&mut block, &mut arena).expect("a good block") {
        let part = |span: Span| span.of(&arena).to_vec();
        lines.push((String::from_utf8(part(field.name)).expect("text"), part(field.value)));
        arena.clear();
    }
    lines
}

/// Limits under which nothing that these programs do is a flood.
pub(super) fn patient() -> Limits {
    let all = [
        Limit::ResetBurst,
        Limit::GlitchBurst,
        Limit::EmptyFrames,
        Limit::SmallFrameBytes,
        Limit::PriorityFrames,
        Limit::OverheadBytes,
        Limit::RateGraceMs,
        Limit::StallMs,
        Limit::HeadMs,
        Limit::SettingsAckMs,
    ];
    all.into_iter().fold(Limits::DEFAULT, |limits, limit| limits.with(limit, limit.range().1).expect("in its range"))
}

/// Bytes of which every one depends on its place.
pub(super) fn pattern(seed: u32, n: usize) -> Vec<u8> {
    let mut dice = Dice(u64::from(seed) | 1 << 40);
    let key = dice.below(1 << 20);
    (0..n).map(|i| (i.wrapping_mul(31) ^ (i >> 8).wrapping_mul(17)).wrapping_add(key) as u8).collect()
}

pub(super) fn with(limits: Limits, limit: Limit, value: u64) -> Limits {
    limits.with(limit, value).expect("in its range")
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}
