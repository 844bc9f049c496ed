//! In: plaintext of an HTTP/2 connection. Out: what comes of each frame: heads, content, trailers, resets; what only concerns the
//! two machines (SETTINGS, PING, WINDOW_UPDATE, GOAWAY, PRIORITY) is done here (RFC 9113 §4 to §6).
//!
//! ```text
//! Preface --> Header --> Fragment --> Header      a header block is decoded where it lies if it is there whole, else gathered
//!               |------> Content --> Padding -->  DATA is handed on in the parts that come
//!               |------> Settings -->             entry by entry
//!               |------> Short -->                whole: four to eight bytes, or a priority
//!               '------> Skip -->                 what is ignored
//! ```

use super::blocks::Block;
use super::frame::{self, FrameHeader, HEADER, LEAST_FRAME, PREFACE, flag, kind};
use super::guard::Guard;
use super::ledger::Exceeded;
use super::settings::{INITIAL_TABLE, table_bytes};
use super::state::{Incoming, State, Verdict};
use super::streams::{MOST_WINDOW, Streams};
use crate::base::memory::{extend, push};
use crate::base::{Instant, Limit, Limits, Rule, Sink, Span, Violation};
use crate::parse::section::{Complete, Section};
use crate::parse::{Priority, pack};
use alloc::vec::Vec;

/// The longest PRIORITY_UPDATE that is read; a longer one is ignored.
const MOST_PRIORITY: u32 = 256;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Preface,
    Header,
    /// A piece of a header block, with `left` bytes to come; the frame's bytes lie in the block from `from` on.
    Fragment {
        left: u32,
        from: usize,
    },
    /// The first byte of padded DATA.
    PadLength,
    Content {
        left: u32,
        padding: u32,
    },
    Settings {
        left: u32,
        window: Option<(u32, u32)>,
    },
    Short,
    Skip {
        left: u32,
    },
}

/// What came. `len`: bytes at the front of the plaintext that are done with.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Item {
    /// At least so many more bytes are needed.
    Need { want: usize },
    /// Nothing that a handler would see.
    Skip { len: usize },
    /// A request: its stream is open, its lines lie in the section.
    Head { len: usize, number: u32, complete: Complete, ends: bool },
    /// A request that breaks a rule.
    Malformed { len: usize, number: u32, rule: Rule, ends: bool },
    /// The next `len` bytes are content; [`Receiver::took`] says how many were taken. `rest`: so many more follow in this frame.
    Content { number: u32, len: usize, rest: u32, ends: bool },
    /// The content of a stream is complete with what was handed on before.
    End { len: usize, number: u32 },
    /// A trailer section, and with it the end.
    Trailers { len: usize, number: u32, fields: Span },
    /// A stream breaks a rule that reaches no further.
    Broken { len: usize, number: u32, rule: Rule },
    /// The peer gives a stream up.
    Reset { len: usize, number: u32 },
    /// The peer has seen our PING.
    Pong { len: usize },
}

/// The receiving machine of a connection.
#[derive(Debug)]
pub struct Receiver {
    pub(super) stage: Stage,
    pub(super) frame: FrameHeader,
    /// Where the frame at hand begins in the plaintext.
    pub(super) frame_at: u64,
    pub(super) decoder: pack::Decoder,
    pub(crate) section: Section,
    pub(super) block: Vec<u8>,
    pub(super) open_block: Option<Block>,
    pub(crate) guard: Guard,
    pub(super) greeted: bool,
    /// SETTINGS of ours that were not acknowledged, and when they must be.
    pub(crate) ack_due: Option<Instant>,
    /// The client's SETTINGS have come.
    pub(super) settled: bool,
    pub(super) goaway: u32,
    /// PRIORITY_UPDATEs for streams that are still to come, no more of them than streams are allowed (RFC 9218 §7.1).
    pub(super) early: Vec<(u32, Priority)>,
    /// The client has left the priorities of RFC 7540 behind, too (RFC 9218 §2.1).
    pub(super) no_priorities: bool,
}

impl Receiver {
    /// At the client's preface.
    pub fn new(limits: &Limits, now: Instant) -> Receiver {
        Receiver {
            stage: Stage::Preface,
            frame: FrameHeader::default(),
            frame_at: 0,
            decoder: pack::Decoder::new(table_bytes(limits).max(INITIAL_TABLE)), // until it is acknowledged
            section: Section::default(),
            block: Vec::new(),
            open_block: None,
            guard: Guard::new(limits, now),
            greeted: false,
            ack_due: None,
            settled: false,
            goaway: u32::MAX,
            early: Vec::new(),
            no_priorities: false,
        }
    }

    /// A header block, or the preface, is not complete.
    pub(crate) fn is_inside(&self) -> bool {
        self.stage == Stage::Preface || self.open_block.is_some() || matches!(self.stage, Stage::Fragment { .. })
    }

    /// The client has said its preface and its first SETTINGS.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Heap bytes.
    pub fn retained_bytes(&self) -> usize {
        self.decoder.retained_bytes()
            + self.section.retained_bytes()
            + self.block.capacity()
            + self.early.capacity() * size_of::<(u32, Priority)>()
    }

    /// Frees what a large head made it hold, and what is only kept for the next one.
    pub(crate) fn shed(&mut self) {
        self.section.shed(0);
        self.block.shrink_to(0);
        self.decoder.shed();
    }

    /// The next thing that comes of `plain`, which begins at `offset` of the connection's plaintext.
    ///
    /// # Errors
    /// The connection is over.
    pub(crate) fn step(
        &mut self,
        plain: &[u8],
        offset: u64,
        now: Instant,
        limits: &Limits,
        streams: &mut Streams,
        out: &mut impl Sink,
    ) -> Result<Item, Violation> {
        let mut step = Step { r: self, streams, out, now, limits };
        step.run(plain, offset).map_err(|rule| Violation::over(rule, step.r.frame_at, limits))
    }

    /// `n` bytes of the content at hand were taken.
    pub(crate) fn took(&mut self, n: usize) {
        if let Stage::Content { left, padding } = self.stage {
            let left = left.saturating_sub(n as u32);
            self.stage = match (left, padding) {
                (0, 0) => Stage::Header,
                (0, padding) => Stage::Skip { left: padding },
                _ => Stage::Content { left, padding },
            };
        }
    }

    /// The stream of the content at hand is no more: the rest of its frame is skipped.
    pub(crate) fn forget(&mut self, number: u32) {
        match self.stage {
            Stage::Content { left, padding } if self.frame.stream == number => {
                self.stage = Stage::Skip { left: left + padding };
            }
            Stage::PadLength if self.frame.stream == number => self.stage = Stage::Skip { left: self.frame.len },
            _ => {}
        }
    }
}

/// A step with everything that it may touch.
pub(super) struct Step<'a, S> {
    pub(super) r: &'a mut Receiver,
    pub(super) streams: &'a mut Streams,
    pub(super) out: &'a mut S,
    pub(super) now: Instant,
    pub(super) limits: &'a Limits,
}

impl<S: Sink> Step<'_, S> {
    fn run(&mut self, plain: &[u8], offset: u64) -> Result<Item, Rule> {
        match self.r.stage {
            Stage::Header => self.header(plain, offset),
            Stage::Preface => self.preface(plain, offset),
            Stage::Fragment { left, from } => self.fragment(plain, left, from),
            Stage::PadLength => self.pad_length(plain),
            Stage::Content { left, .. } if plain.is_empty() => Ok(Item::Need { want: left as usize }),
            Stage::Content { left, .. } => {
                let len = plain.len().min(left as usize);
                let rest = left - len as u32;
                let ends = rest == 0 && self.r.frame.has(flag::END_STREAM);
                Ok(Item::Content { number: self.r.frame.stream, len, rest, ends })
            }
            Stage::Settings { left, window } => self.settings(plain, left, window),
            Stage::Short => self.short(plain),
            Stage::Skip { left: 0 } => {
                self.r.stage = Stage::Header;
                Ok(Item::Skip { len: 0 })
            }
            Stage::Skip { left } if plain.is_empty() => Ok(Item::Need { want: left as usize }),
            Stage::Skip { left } => {
                let len = plain.len().min(left as usize);
                self.r.stage = Stage::Skip { left: left - len as u32 };
                Ok(Item::Skip { len })
            }
        }
    }

    fn preface(&mut self, plain: &[u8], offset: u64) -> Result<Item, Rule> {
        let n = plain.len().min(PREFACE.len());
        let same = plain.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
        if same < n {
            self.r.frame_at = offset + same as u64;
            return Err(Rule::PrefaceSyntax);
        }
        if n < PREFACE.len() {
            return Ok(Item::Need { want: PREFACE.len() - n });
        }
        self.r.stage = Stage::Header;
        Ok(Item::Skip { len: n })
    }

    /// A frame begins: what its nine bytes prove is judged at once.
    #[inline]
    fn header(&mut self, plain: &[u8], offset: u64) -> Result<Item, Rule> {
        let Some(bytes) = plain.first_chunk::<HEADER>() else {
            return Ok(Item::Need { want: HEADER - plain.len() });
        };
        let frame = FrameHeader::parse(bytes);
        (self.r.frame, self.r.frame_at) = (frame, offset);
        if !self.r.settled && (frame.kind != kind::SETTINGS || frame.has(flag::ACK)) {
            return Err(Rule::PrefaceSyntax); // RFC 9113 §3.4
        }
        if frame.len > LEAST_FRAME {
            return Err(Rule::FrameSize);
        }
        if self.r.open_block.is_some() != (frame.kind == kind::CONTINUATION) {
            return Err(Rule::HeaderBlockCut); // RFC 9113 §6.10
        }
        let is_payload = matches!(frame.kind, kind::DATA | kind::HEADERS | kind::CONTINUATION);
        self.r.guard.frame(frame.len, is_payload, self.streams.wire.sent, self.limits)?;
        match frame.kind {
            kind::HEADERS | kind::CONTINUATION => self.block_begins(plain),
            kind::DATA => self.data(),
            _ => self.control(frame),
        }
    }

    /// The stage that follows a frame's header.
    pub(super) fn on(&mut self, stage: Stage) -> Result<Item, Rule> {
        self.r.stage = stage;
        Ok(Item::Skip { len: HEADER })
    }

    fn control(&mut self, frame: FrameHeader) -> Result<Item, Rule> {
        let (on_stream, len) = match frame.kind {
            kind::PRIORITY => (true, frame.len == 5),
            kind::RST_STREAM => (true, frame.len == 4),
            kind::PUSH_PROMISE => return Err(Rule::PushPromise),
            kind::PING => (false, frame.len == 8),
            kind::GOAWAY => (false, frame.len >= 8),
            kind::WINDOW_UPDATE => (frame.stream != 0, frame.len == 4),
            kind::PRIORITY_UPDATE => (false, frame.len >= 4),
            kind::SETTINGS if frame.has(flag::ACK) => (false, frame.len == 0),
            kind::SETTINGS => (false, frame.len.is_multiple_of(6)),
            _ => {
                self.r.guard.glitch(self.now)?; // RFC 9113 §5.5: ignored
                return self.on(Stage::Skip { left: frame.len });
            }
        };
        if on_stream != (frame.stream != 0) {
            return Err(Rule::FrameStream);
        }
        match frame.kind {
            kind::PRIORITY if !len => {
                self.r.stage = Stage::Skip { left: frame.len };
                self.broken(HEADER, frame.stream, Rule::PrioritySize)
            }
            _ if !len => Err(Rule::FrameSize),
            kind::SETTINGS if frame.has(flag::ACK) => {
                self.r.ack_due.take().ok_or(Rule::SettingsUnasked)?;
                self.r.decoder.acknowledged(table_bytes(self.limits));
                self.on(Stage::Header)
            }
            kind::SETTINGS => {
                if u64::from(frame.len / 6) > self.limits.get(Limit::SettingsEntries) {
                    return Err(Rule::SettingsFlood);
                }
                self.r.guard.settings(self.now)?;
                self.on(Stage::Settings { left: frame.len, window: None })
            }
            _ => self.on(Stage::Short),
        }
    }

    /// Frames whose few bytes are looked at together.
    fn short(&mut self, plain: &[u8]) -> Result<Item, Rule> {
        let frame = self.r.frame;
        let len = match frame.kind {
            kind::GOAWAY => 8, // debug data is dropped as it comes (H2-23)
            kind::PRIORITY_UPDATE if frame.len > MOST_PRIORITY => 4,
            _ => frame.len as usize,
        };
        if frame.kind == kind::PRIORITY_UPDATE && (plain.len() < len || !self.r.block.is_empty()) {
            return self.long(plain, len);
        }
        let Some(payload) = plain.get(..len) else { return Ok(Item::Need { want: len - plain.len() }) };
        self.r.stage = Stage::Skip { left: frame.len - len as u32 };
        if frame.len as usize == len {
            self.r.stage = Stage::Header;
        }
        let value = payload.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
        match frame.kind {
            kind::PING if frame.has(flag::ACK) => Ok(Item::Pong { len }),
            kind::PING => {
                self.r.guard.ping(self.streams.wire.data_frames, self.now)?;
                frame::put(self.out, kind::PING, flag::ACK, 0, &[payload]);
                Ok(Item::Skip { len })
            }
            kind::GOAWAY => {
                let last = value & 0x7fff_ffff;
                if last > core::mem::replace(&mut self.r.goaway, last) {
                    return Err(Rule::GoawayNumber);
                }
                Ok(Item::Skip { len })
            }
            kind::WINDOW_UPDATE => self.window_update(len, frame.stream, value & 0x7fff_ffff),
            kind::RST_STREAM => self.reset(len, frame.stream),
            kind::PRIORITY => {
                self.r.guard.priority(self.limits)?;
                if value & 0x7fff_ffff == frame.stream && !self.r.no_priorities {
                    return self.broken(len, frame.stream, Rule::SelfDependency);
                }
                Ok(Item::Skip { len }) // RFC 9113 §5.3.2: deprecated
            }
            _ => self.priority_update(len, value & 0x7fff_ffff, payload.get(4..).unwrap_or_default()),
        }
    }

    /// A PRIORITY_UPDATE that is not here whole: gathered, since an inbox may be smaller than that.
    fn long(&mut self, plain: &[u8], len: usize) -> Result<Item, Rule> {
        let n = plain.len().min(len - self.r.block.len());
        extend(&mut self.r.block, plain.get(..n).unwrap_or_default())?;
        let missing = len - self.r.block.len();
        match (missing, n) {
            (0, _) => {
                self.r.stage = Stage::Header;
                let payload = core::mem::take(&mut self.r.block);
                let number = payload.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b) & 0x7fff_ffff);
                let item = self.priority_update(n, number, payload.get(4..).unwrap_or_default());
                self.r.block = payload;
                self.r.block.clear();
                item
            }
            (_, 0) => Ok(Item::Need { want: missing }),
            _ => Ok(Item::Skip { len: n }),
        }
    }

    fn priority_update(&mut self, len: usize, number: u32, text: &[u8]) -> Result<Item, Rule> {
        self.r.guard.priority(self.limits)?;
        if number.is_multiple_of(2) {
            return Err(Rule::PriorityUpdateStream); // the connection, or a push that we never promised
        }
        if text.is_empty() && self.r.frame.len > 4 {
            return Ok(Item::Skip { len }); // too long to be read
        }
        let priority = Priority::parse(text);
        match self.streams.slot_of(number) {
            Some(slot) => {
                if let Some(mut at) = self.streams.at(slot) {
                    at.prioritise(priority);
                }
            }
            None if number > self.streams.last => {
                if let Some(place) = self.r.early.iter_mut().find(|e| e.0 == number) {
                    place.1 = priority;
                } else if (self.r.early.len() + self.streams.len()) as u64 >= self.limits.get(Limit::ConcurrentStreams)
                {
                    return Err(Rule::PriorityUpdateStream);
                } else {
                    push(&mut self.r.early, (number, priority))?;
                }
            }
            None => {}
        }
        Ok(Item::Skip { len })
    }

    fn window_update(&mut self, len: usize, number: u32, by: u32) -> Result<Item, Rule> {
        self.r.guard.window_update(self.streams.wire.data_frames, self.now)?;
        if number == 0 {
            self.streams.wire.window += i64::from(by);
            return match by {
                0 => Err(Rule::WindowUpdateZero),
                _ if self.streams.wire.window > MOST_WINDOW => Err(Rule::WindowOverflow),
                _ => Ok(Item::Skip { len }),
            };
        }
        match self.streams.state_of(number).receive(Incoming::WindowUpdate) {
            Verdict::Connection(rule) => return Err(rule),
            Verdict::Go(_) => {}
            _ => return Ok(Item::Skip { len }),
        }
        if by == 0 {
            return self.broken(len, number, Rule::WindowUpdateZeroStream);
        }
        let slot = self.streams.slot_of(number);
        let Some(mut at) = slot.and_then(|slot| self.streams.at(slot)) else { return Ok(Item::Skip { len }) };
        at.stream.window += i64::from(by);
        if at.stream.window > MOST_WINDOW {
            return self.broken(len, number, Rule::WindowOverflowStream);
        }
        at.rank();
        Ok(Item::Skip { len })
    }

    fn reset(&mut self, len: usize, number: u32) -> Result<Item, Rule> {
        match self.streams.state_of(number).receive(Incoming::Reset) {
            Verdict::Connection(rule) => Err(rule),
            Verdict::Go(_) => {
                self.r.guard.reset(self.now)?;
                Ok(Item::Reset { len, number })
            }
            _ => {
                self.r.guard.glitch(self.now)?;
                Ok(Item::Skip { len })
            }
        }
    }

    /// A rule of one stream is broken. On a stream that nobody opened, RST_STREAM would be a fault of ours.
    pub(super) fn broken(&mut self, len: usize, number: u32, rule: Rule) -> Result<Item, Rule> {
        match self.streams.state_of(number) {
            State::Idle => Err(rule),
            State::Closed | State::Reset => {
                self.r.guard.glitch(self.now)?;
                Ok(Item::Skip { len })
            }
            _ => {
                self.r.guard.provoked(self.now)?;
                Ok(Item::Broken { len, number, rule })
            }
        }
    }

    // ---- DATA ----

    fn data(&mut self) -> Result<Item, Rule> {
        let FrameHeader { len, stream: number, .. } = self.r.frame;
        let ends = self.r.frame.has(flag::END_STREAM);
        let padded = self.r.frame.has(flag::PADDED);
        if number == 0 {
            return Err(Rule::FrameStream);
        }
        if padded && len == 0 {
            return Err(Rule::FrameSize); // not even room for the pad length
        }
        let verdict = self.streams.state_of(number).receive(Incoming::Data { ends });
        let next = match verdict {
            Verdict::Go(next) => next,
            Verdict::Connection(rule) => return Err(rule),
            Verdict::Ignore | Verdict::Stream(_) => {
                self.streams.ledger.arrive_stray(len).map_err(|_| Rule::WindowExceeded)?;
                self.r.stage = Stage::Skip { left: len };
                if let Verdict::Stream(rule) = verdict {
                    return self.broken(HEADER, number, rule);
                }
                let small = len < super::guard::SMALL && !ends;
                if !self.streams.was_under_way(number, len) || small {
                    self.r.guard.glitch(self.now)?;
                }
                return Ok(Item::Skip { len: HEADER });
            }
        };
        let Some((stream, ledger)) = self.streams.with_ledger(number) else { return Err(Rule::StreamClosed) };
        match ledger.arrive(&mut stream.account, len) {
            Ok(()) => {}
            Err(Exceeded::Connection) => return Err(Rule::WindowExceeded),
            Err(Exceeded::Stream) => {
                ledger.arrive_stray(len).map_err(|_| Rule::WindowExceeded)?;
                self.r.stage = Stage::Skip { left: len };
                return self.broken(HEADER, number, Rule::WindowExceededStream);
            }
        }
        stream.state = next;
        stream.ends |= ends;
        if padded { self.on(Stage::PadLength) } else { self.content(HEADER, len, 0) }
    }

    fn pad_length(&mut self, plain: &[u8]) -> Result<Item, Rule> {
        let Some(&padding) = plain.first() else { return Ok(Item::Need { want: 1 }) };
        let (padding, len) = (u32::from(padding), self.r.frame.len - 1);
        if padding > len {
            return Err(Rule::Padding);
        }
        if let Some((stream, ledger)) = self.streams.with_ledger(self.r.frame.stream) {
            ledger.free(&mut stream.account, padding + 1); // credited back at once (H2-05)
        }
        self.content(1, len - padding, padding)
    }

    /// A DATA frame has so much content, behind `len` bytes that are done with.
    fn content(&mut self, len: usize, content: u32, padding: u32) -> Result<Item, Rule> {
        let number = self.r.frame.stream;
        let ends = self.r.frame.has(flag::END_STREAM);
        self.r.stage = match (content, padding) {
            (0, 0) => Stage::Header,
            (0, _) => Stage::Skip { left: padding },
            _ => Stage::Content { left: content, padding },
        };
        let Some(stream) = self.streams.stream(number) else { return Err(Rule::StreamClosed) };
        stream.content += u64::from(content);
        if stream.declared.is_some_and(|n| stream.content > n || (ends && stream.content < n)) {
            self.r.stage = Stage::Skip { left: content + padding };
            self.r.guard.provoked(self.now)?;
            return Ok(Item::Broken { len, number, rule: Rule::ContentLengthDisagrees });
        }
        if !ends {
            if content == 0 {
                self.r.guard.empty(self.limits)?;
            } else {
                let lack = self.r.guard.small(content, self.limits)?;
                stream.small += lack;
            }
        }
        if content == 0 && ends { Ok(Item::End { len, number }) } else { Ok(Item::Skip { len }) }
    }
}
