//! In: one ordered chunk of one stream, as a QUIC stack hands it out, and that stream's own outbox. Out: the same events and
//! replies. A connection of its own, with a turn of the same shape.
//!
//! The chunk belongs to the transport and is only read, so nothing is decrypted in place; what the machine does not consume, the
//! transport keeps, and that is the back-pressure. Frame: `type u8, length u16`. A field line `@` stands for what the peer's
//! encoder stream (stream 2) has sent: a stand-in for QPACK's dynamic table, which blocks streams until it is there.

use super::head;
use super::streams::{DATA, FRAME, HEADERS, Streams};
use crate::base::{Instant, Limit, Rule, Sink, Span, Violation};
use crate::config::Config;
use crate::delivery::whole_cap;
use crate::event::{Body, Event, Fields, Head, Request, Trailers};
use crate::parse::h1::Version;
use crate::parse::{Expect, Id, MANUAL_WINDOW};
use crate::read::{Outbox, OutboxMut};
use crate::reply::{Exchanges, Reply};
use crate::turn::{Pause, Wait};
use std::collections::VecDeque;

/// The peer's encoder stream.
pub(crate) const ENCODER: u64 = 2;

/// Ordered bytes of one stream. `bytes` shrinks as the machine consumes.
pub(crate) struct Chunk<'c> {
    pub(crate) bytes: &'c [u8],
    pub(crate) fin: bool,
}

pub(crate) struct Connection<C> {
    config: C,
    core: Core,
}

struct Core {
    exchanges: Exchanges,
    lanes: Vec<Lane>,
    arena: Vec<u8>,
    /// The body that the last event lent, where it was gathered.
    gather: Vec<u8>,
    table: Vec<u8>,
    ready: VecDeque<u64>,
    control: Vec<u8>,
}

/// The receiving side of one stream.
#[derive(Default)]
struct Lane {
    id: u64,
    header: Vec<u8>,
    frame: Option<(u8, usize)>,
    block: Vec<u8>,
    gather: Vec<u8>,
    body: u64,
    /// The head is out.
    begun: bool,
    blocked: bool,
    trailers: Option<Span>,
    /// Nothing more comes of it.
    over: bool,
}

enum Raw {
    Request { head: crate::parse::h1::HeadSpans, has_body: bool },
    Body { from: usize, len: usize, gathered: bool, whole: bool, last: bool },
    Trailers(Span),
    Writable,
    Aborted { tag: u64, why: Option<Violation> },
}

enum Step {
    Again,
    Event(Raw),
    Pause(Pause),
}

pub(crate) struct Turn<'t, 'c> {
    config: &'t Config,
    core: &'t mut Core,
    id: u64,
    chunk: &'t mut Chunk<'c>,
    outbox: OutboxMut<'t>,
    /// Bytes of the chunk's front that are out with an event.
    lent: usize,
    pause: Option<Pause>,
}

impl<C: core::ops::Deref<Target = Config>> Connection<C> {
    pub(crate) fn new(config: C, _now: Instant) -> Self {
        let exchanges = Exchanges::H3Model(Streams::default());
        let core = Core {
            exchanges,
            lanes: Vec::new(),
            arena: Vec::new(),
            gather: Vec::new(),
            table: Vec::new(),
            ready: VecDeque::new(),
            control: Vec::new(),
        };
        Connection { config, core }
    }

    /// One go along one stream.
    pub(crate) fn turn<'t, 'c, T: AsRef<[u8]> + AsMut<[u8]>>(
        &'t mut self,
        _now: Instant,
        id: u64,
        chunk: &'t mut Chunk<'c>,
        outbox: &'t mut Outbox<T>,
    ) -> Turn<'t, 'c> {
        let mut outbox = outbox.view();
        outbox.make_room();
        Turn { config: &self.config, core: &mut self.core, id, chunk, outbox, lent: 0, pause: None }
    }

    /// A stream that can go on without input of its own: visit it with what its chunk still holds.
    pub(crate) fn ready(&mut self) -> Option<u64> {
        self.core.ready.pop_front()
    }

    /// What our own streams have to say: acknowledgements of header blocks.
    pub(crate) fn control<T: AsRef<[u8]> + AsMut<[u8]>>(&mut self, outbox: &mut Outbox<T>) {
        let mut out = outbox.view();
        if out.put(&[&self.core.control]) {
            self.core.control.clear();
        }
        out.seal(|_, _| None);
    }

    /// The transport says that the peer took its request back.
    pub(crate) fn reset(&mut self, id: u64) -> Option<Event<'_>> {
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return None };
        self.core.lanes.retain(|l| l.id != id);
        let tag = streams.remove(id)?.shared.tag;
        Some(Event::Aborted { id: Id(id), tag, why: None })
    }
}

impl Turn<'_, '_> {
    /// The next event, on loan until the next call.
    #[allow(clippy::should_implement_trait)]
    pub(crate) fn next(&mut self) -> Option<Event<'_>> {
        self.eat(self.lent);
        self.lent = 0;
        loop {
            match self.step() {
                Step::Again => {}
                Step::Event(raw) => return Some(self.lend(raw)),
                Step::Pause(pause) => {
                    self.pause = Some(pause);
                    return None;
                }
            }
        }
    }

    /// The handle of this stream's exchange.
    pub(crate) fn reply(&mut self, id: Id) -> Option<Reply<'_>> {
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return None };
        streams.get(id.0).filter(|s| !s.is_answered() && id.0 == self.id)?;
        self.pause = None;
        let out = self.outbox.reborrow(0);
        Some(Reply { id, exchanges: &mut self.core.exchanges, out, limits: self.config.limits(), coders: None })
    }

    pub(crate) fn finish(self) -> Pause {
        self.pause.unwrap_or(Pause::Yield)
    }

    fn eat(&mut self, n: usize) {
        self.chunk.bytes = self.chunk.bytes.get(n..).unwrap_or_default();
    }

    fn lane(&mut self) -> &mut Lane {
        let lanes = &mut self.core.lanes;
        let at = lanes.iter().position(|l| l.id == self.id).unwrap_or_else(|| {
            lanes.push(Lane { id: self.id, ..Lane::default() });
            lanes.len() - 1
        });
        &mut lanes[at]
    }

    fn step(&mut self) -> Step {
        if self.id == ENCODER {
            self.core.table.extend_from_slice(self.chunk.bytes);
            self.chunk.bytes = &[];
            for lane in self.core.lanes.iter_mut().filter(|l| l.blocked) {
                lane.blocked = false;
                self.core.ready.push_back(lane.id);
            }
            return Step::Pause(Pause::Input { want: 1 });
        }
        if let Some(step) = self.handler_acted() {
            return step;
        }
        if let Some(fields) = self.lane().trailers.take() {
            return Step::Event(Raw::Trailers(fields));
        }
        if self.lane().over {
            self.chunk.bytes = &[];
            return Step::Pause(Pause::Input { want: 1 });
        }
        match self.lane().frame {
            None => self.frame_header(),
            Some((HEADERS, left)) => self.block(left),
            Some((DATA, left)) => self.data(left),
            Some((_, left)) => {
                let n = left.min(self.chunk.bytes.len());
                self.eat(n);
                self.lane().frame = (n < left).then_some((u8::MAX, left - n));
                if n == 0 && left > 0 { self.need(left) } else { Step::Again }
            }
        }
    }

    /// What the handler did since the last step.
    fn handler_acted(&mut self) -> Option<Step> {
        let (id, room) = (self.id, self.outbox.room());
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return None };
        let stream = streams.open.iter_mut().find(|s| s.shared.id == id)?;
        if stream.shared.aborted || stream.is_broken() || stream.is_answered() {
            let over = !stream.shared.received || !stream.is_answered() || stream.is_broken();
            streams.remove(id);
            self.lane().over |= over;
            return Some(Step::Again);
        }
        if stream.shared.starved {
            if room < 64 {
                return Some(Step::Pause(Pause::Room));
            }
            stream.shared.starved = false;
            return Some(Step::Event(Raw::Writable));
        }
        None
    }

    /// Input is needed: is there an end of it instead?
    fn need(&mut self, want: usize) -> Step {
        if !self.chunk.fin {
            return Step::Pause(Pause::Input { want });
        }
        let id = self.id;
        let lane = self.lane();
        lane.over = true;
        let inside = lane.frame.is_some() || !lane.header.is_empty() || !lane.begun;
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return Step::Again };
        let Some(stream) = streams.get(id) else { return Step::Again };
        if inside {
            let tag = stream.shared.tag;
            streams.remove(id);
            return Step::Event(Raw::Aborted { tag, why: None });
        }
        match (stream.shared.received, stream.shared.expect) {
            (true, _) => Step::Pause(Pause::Caller(Wait::Reply(Id(id)))),
            (false, Expect::Discard) => {
                stream.shared.received = true;
                Step::Again
            }
            (false, expect) => {
                stream.shared.received = true;
                self.all_here(expect.whole().is_some(), true)
            }
        }
    }

    /// The body's end, with what was gathered of it.
    fn all_here(&mut self, whole: bool, last: bool) -> Step {
        let gather = core::mem::take(&mut self.lane().gather);
        let len = gather.len();
        self.core.gather = gather;
        Step::Event(Raw::Body { from: 0, len, gathered: true, whole, last })
    }

    fn frame_header(&mut self) -> Step {
        let bytes = self.chunk.bytes;
        let lane = self.lane();
        let n = (FRAME - lane.header.len()).min(bytes.len());
        lane.header.extend_from_slice(&bytes[..n]);
        let Some(&[kind, high, low]) = lane.header.first_chunk::<FRAME>() else {
            let want = FRAME - lane.header.len();
            self.eat(n);
            return self.need(want);
        };
        lane.header.clear();
        lane.frame = Some((kind, usize::from(u16::from_be_bytes([high, low]))));
        self.eat(n);
        Step::Again
    }

    fn block(&mut self, left: usize) -> Step {
        let (bytes, most) = (self.chunk.bytes, self.config.limits().size(Limit::FieldSectionBytes));
        let lane = self.lane();
        let n = left.min(bytes.len());
        if lane.block.len() + n > most {
            let why = Violation::over(Rule::FieldSectionTooLarge, 0, self.config.limits());
            return self.refuse(why);
        }
        lane.block.extend_from_slice(&bytes[..n]);
        lane.frame = Some((HEADERS, left - n));
        self.eat(n);
        if n < left {
            return if n == 0 { self.need(left) } else { Step::Again };
        }
        if self.lane().block.split(|&b| b == b'\n').any(|line| line == b"@") {
            if self.core.table.is_empty() {
                self.lane().blocked = true;
                return Step::Pause(Pause::Input { want: 1 }); // the encoder stream's: `ready` says when
            }
            let (table, lane) = (self.core.table.clone(), self.lane());
            let lines: Vec<&[u8]> =
                lane.block.split(|&b| b == b'\n').map(|l| if l == b"@" { &table[..] } else { l }).collect();
            let block = lines.join(&b'\n');
            lane.block = block;
            self.core.control.push(self.id as u8);
        }
        self.lane().frame = None;
        self.section()
    }

    fn section(&mut self) -> Step {
        let id = self.id;
        let block = core::mem::take(&mut self.lane().block);
        let ends = self.chunk.fin && self.chunk.bytes.is_empty();
        let begun = core::mem::replace(&mut self.lane().begun, true);
        if begun {
            let fields = match head::trailers(&mut self.core.arena, &block) {
                Ok(fields) => fields,
                Err(why) => return self.refuse(why),
            };
            let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return Step::Again };
            let Some(stream) = streams.get(id) else { return Step::Again };
            stream.shared.received = true;
            return match stream.shared.expect {
                Expect::Discard => Step::Again,
                expect if expect.whole().is_some() => {
                    self.lane().trailers = Some(fields);
                    self.all_here(true, false)
                }
                _ => Step::Event(Raw::Trailers(fields)),
            };
        }
        match head::request(&mut self.core.arena, &block, Version::Http3) {
            Ok(head) => {
                let is_head = head.method.of(&self.core.arena) == b"HEAD";
                let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return Step::Again };
                streams.begin(id, is_head);
                if let Some(stream) = streams.get(id) {
                    stream.shared.received = ends;
                }
                Step::Event(Raw::Request { head, has_body: !ends })
            }
            Err(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: Violation) -> Step {
        let id = self.id;
        self.lane().over = true;
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return Step::Again };
        match streams.remove(id) {
            Some(stream) => Step::Event(Raw::Aborted { tag: stream.shared.tag, why: Some(why) }),
            None => Step::Again,
        }
    }

    fn data(&mut self, left: usize) -> Step {
        let (id, bytes, fin, limits) = (self.id, self.chunk.bytes, self.chunk.fin, self.config.limits());
        let Exchanges::H3Model(streams) = &mut self.core.exchanges else { return Step::Again };
        let Some(stream) = streams.get(id) else {
            self.lane().over = true;
            return Step::Again;
        };
        let shared = &mut stream.shared;
        let most = match shared.expect {
            Expect::Manual if shared.held >= MANUAL_WINDOW && left > 0 => {
                return Step::Pause(Pause::Caller(Wait::Release(Id(id)))); // the transport keeps the rest, and its credit
            }
            Expect::Manual => (MANUAL_WINDOW - shared.held) as usize,
            _ => usize::MAX,
        };
        let n = left.min(bytes.len()).min(most);
        if n == 0 && left > 0 {
            return self.need(left);
        }
        shared.begun = true;
        let last = n == left && n == bytes.len() && fin;
        let expect = shared.expect;
        shared.received |= last;
        if expect == Expect::Manual {
            shared.held += n as u32;
        }
        let lane = self.lane();
        lane.frame = (n < left).then_some((DATA, left - n));
        lane.body += n as u64;
        if lane.body > limits.get(Limit::BodyBytes) {
            return self.refuse(Violation::over(Rule::BodyTooLarge, 0, limits));
        }
        if expect == Expect::Discard {
            self.eat(n);
            return Step::Again;
        }
        if let Some(max) = expect.whole() {
            let (cap, why) = whole_cap(max, limits, 0);
            if lane.body > cap {
                return self.refuse(why);
            }
            if !(last && lane.gather.is_empty()) {
                lane.gather.extend_from_slice(&bytes[..n]);
                self.eat(n);
                return if last { self.all_here(true, true) } else { Step::Again };
            }
        }
        self.lent = n;
        Step::Event(Raw::Body { from: 0, len: n, gathered: false, whole: expect.whole().is_some(), last })
    }

    fn lend(&mut self, raw: Raw) -> Event<'_> {
        let (id, limits, chunk) = (self.id, self.config.limits(), self.chunk.bytes);
        let Core { exchanges, arena, gather, .. } = &mut *self.core;
        let arena: &[u8] = arena;
        let tag = exchanges.shared(id).map_or(0, |x| x.tag);
        let reply = Reply { id: Id(id), exchanges, out: self.outbox.reborrow(0), limits, coders: None };
        match raw {
            Raw::Request { head, has_body } => {
                let text = |span: Span| core::str::from_utf8(span.of(arena)).unwrap_or_default();
                let head = Head {
                    method: text(head.method),
                    target: text(head.target),
                    authority: text(head.authority),
                    version: head.version,
                    protocol: None,
                    fields: Fields::new(head.fields.of(arena)),
                };
                Event::Request(Request { head, has_body, tls: None, source: None, reply })
            }
            Raw::Body { from, len, gathered, whole, last } => {
                let bytes = if gathered { &gather[..] } else { &chunk[from..from + len] };
                Event::Body(Body { tag, bytes, whole, last, reply })
            }
            Raw::Trailers(fields) => Event::Trailers(Trailers { tag, fields: Fields::new(fields.of(arena)), reply }),
            Raw::Writable => Event::Writable(reply),
            Raw::Aborted { tag, why } => Event::Aborted { id: Id(id), tag, why },
        }
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        self.eat(self.lent);
        self.outbox.seal(|_, _| None);
    }
}
