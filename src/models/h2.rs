//! In: toy frames over one byte stream, many exchanges at once. Out: the road's own steps: events, credit, resets.
//!
//! Frame: `length u16, type u8, flags u8, stream u32`, then the payload. It needs no preface and no settings. DATA goes out to the
//! handler in the parts that are here; a header block is gathered, since heads live in the arena; other frames are short.

use super::head;
use super::streams::{
    CANCEL, CONNECTION_WINDOW, DATA, END, FRAME, Framing, GOAWAY, HEADERS, INTERNAL, NO_ERROR, PING, RESET,
    STREAM_WINDOW, Streams, WINDOW, frame,
};
use crate::base::{Limit, Rule, Span, Violation};
use crate::connection::{Core, End, Engine, Life};
use crate::delivery::whole_cap;
use crate::event::{Lent, Raw};
use crate::parse::h1::Version;
use crate::parse::{Expect, Id};
use crate::reply::Exchanges;
use crate::turn::{Pause, Step, Turn, Wait};

#[derive(Copy, Clone, Debug)]
struct Frame {
    left: usize,
    kind: u8,
    flags: u8,
    id: u64,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    /// The head that the last event lent.
    arena: Vec<u8>,
    /// A header block as it comes.
    block: Vec<u8>,
    frame: Option<Frame>,
    last_id: u64,
    /// Whose DATA is out with an event.
    lent: u64,
    /// A trailer section in the arena that waits for the body before it.
    trailers: Option<(u64, Span)>,
    /// What the peer may still send, all streams together.
    room: u32,
    said_goodbye: bool,
    /// A reset was told: others first, so that a flood of them costs a turn each.
    reset: bool,
}

impl Receiver {
    pub(crate) fn new() -> Receiver {
        Receiver {
            arena: Vec::new(),
            block: Vec::new(),
            frame: None,
            last_id: 0,
            lent: 0,
            trailers: None,
            room: CONNECTION_WINDOW,
            said_goodbye: false,
            reset: false,
        }
    }

    pub(crate) fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// A frame is at hand, and not all of it has come.
    pub(crate) fn is_inside(&self) -> bool {
        self.frame.is_some()
    }

    pub(crate) fn room(&self) -> u32 {
        self.room
    }
}

fn parts(core: &mut Core) -> Option<(&mut Receiver, &mut Streams)> {
    match (&mut core.engine, &mut core.exchanges) {
        (Engine::Model(receiver), Exchanges::Model(streams)) => Some((receiver, streams)),
        _ => None,
    }
}

fn fail(turn: &mut Turn<'_>, rule: Rule) -> Step {
    let violation = Violation::new(rule, turn.core.offset);
    turn.core.fail(violation);
    Step::Again
}

/// One step of the engine.
pub(crate) fn step(turn: &mut Turn<'_>) -> Step {
    if let Some(step) = handlers_acted(turn) {
        return step;
    }
    receive(turn)
}

/// What handlers did since the last step, with any of their streams, and what becomes due by it.
fn handlers_acted(turn: &mut Turn<'_>) -> Option<Step> {
    let draining = turn.core.draining;
    let (receiver, streams) = parts(turn.core)?;
    if core::mem::take(&mut receiver.reset) {
        return Some(Step::Pause(Pause::Yield));
    }
    let out = &mut turn.outbox;
    let lent = core::mem::take(&mut receiver.lent);
    let window = streams.window();
    for at in 0..streams.open.len() {
        let stream = &mut streams.open[at];
        let id = stream.shared.id;
        if id == lent {
            stream.lent = 0;
        }
        if stream.shared.aborted || stream.is_broken() {
            let code = if stream.shared.aborted { CANCEL } else { INTERNAL };
            return Some(reset(turn, id, code));
        }
        let owed = stream.owed();
        if owed >= STREAM_WINDOW / 4 || (stream.room == 0 && owed > 0) {
            if !frame(out, Framing::H2, WINDOW, 0, id, &[&owed.to_be_bytes()]) {
                return Some(Step::Pause(Pause::Room));
            }
            stream.room += owed;
        }
        if let Some(stream) = streams.get(id) {
            stream.unpark(out);
        }
        let stream = &mut streams.open[at];
        if stream.is_answered() {
            if !stream.shared.received {
                return Some(reset(turn, id, NO_ERROR)); // RSP-03: the rest of the request is of no interest
            }
            streams.remove(id);
            return Some(Step::Again);
        }
        if stream.shared.starved && stream.can_go_on(window) {
            stream.shared.starved = false;
            return Some(Step::Event(Raw::Writable { id }));
        }
    }
    let owed = CONNECTION_WINDOW - receiver.room;
    if owed >= CONNECTION_WINDOW / 4 && frame(out, Framing::H2, WINDOW, 0, 0, &[&owed.to_be_bytes()]) {
        receiver.room += owed;
    }
    if draining && !receiver.said_goodbye {
        receiver.said_goodbye = frame(out, Framing::H2, GOAWAY, 0, 0, &[&NO_ERROR.to_be_bytes()]);
    }
    if draining && streams.is_empty() && receiver.frame.is_none() {
        turn.core.close(End::Ours);
        return Some(Step::Again);
    }
    None
}

/// We end a stream.
fn reset(turn: &mut Turn<'_>, id: u64, code: u32) -> Step {
    if !frame(&mut turn.outbox, Framing::H2, RESET, 0, id, &[&code.to_be_bytes()]) {
        return Step::Pause(Pause::Room);
    }
    if let Some((_, streams)) = parts(turn.core) {
        streams.remove(id);
    }
    Step::Again
}

/// A stream breaks a rule that reaches no further.
fn refuse(turn: &mut Turn<'_>, id: u64, why: Violation) -> Step {
    let tag = turn.core.exchanges.shared(id).map_or(0, |x| x.tag);
    match reset(turn, id, why.h2_code()) {
        Step::Again => Step::Event(Raw::Aborted { id, tag, why: Some(why) }),
        room => room,
    }
}

fn receive(turn: &mut Turn<'_>) -> Step {
    let Some((receiver, _)) = parts(turn.core) else { return Step::Again };
    if let Some((id, fields)) = receiver.trailers.take() {
        return Step::Event(Raw::Trailers { id, fields });
    }
    let plain = turn.inbox.plain();
    let Some(at_hand) = receiver.frame else {
        let Some(&[high, low, kind, flags, a, b, c, d]) = plain.first_chunk::<FRAME>() else {
            let want = FRAME - plain.len();
            return turn.more(want);
        };
        let (left, id) = (usize::from(u16::from_be_bytes([high, low])), u64::from(u32::from_be_bytes([a, b, c, d])));
        receiver.frame = Some(Frame { left, kind, flags, id });
        turn.eat(FRAME);
        return Step::Again;
    };
    match at_hand.kind {
        HEADERS => block(turn, at_hand),
        DATA => data(turn, at_hand),
        _ if at_hand.left > FRAME => fail(turn, Rule::MessageIncomplete),
        _ if plain.len() < at_hand.left => {
            let want = at_hand.left - plain.len();
            turn.more(want)
        }
        _ => short(turn, at_hand),
    }
}

/// Frames that are there whole.
fn short(turn: &mut Turn<'_>, at_hand: Frame) -> Step {
    let mut payload = [0; FRAME];
    payload[..at_hand.left].copy_from_slice(&turn.inbox.plain()[..at_hand.left]);
    let value = payload.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
    let id = at_hand.id;
    turn.eat(at_hand.left);
    let Some((receiver, streams)) = parts(turn.core) else { return Step::Again };
    receiver.frame = None;
    match at_hand.kind {
        PING => {
            frame(&mut turn.outbox, Framing::H2, PING, END, 0, &[&payload]);
        }
        WINDOW if id == 0 => streams.grow(value),
        WINDOW => {
            if let Some(stream) = streams.open.iter_mut().find(|s| s.shared.id == id) {
                stream.window = stream.window.saturating_add(value);
            }
        }
        RESET => {
            if let Some(stream) = streams.remove(id) {
                receiver.reset = true;
                return Step::Event(Raw::Aborted { id, tag: stream.shared.tag, why: None });
            }
        }
        _ => {} // RFC 9113 §5.5: unknown types are ignored
    }
    Step::Again
}

/// A header block, in parts.
fn block(turn: &mut Turn<'_>, at_hand: Frame) -> Step {
    let most = turn.config.limits().size(Limit::FieldSectionBytes);
    let plain = turn.inbox.plain();
    let n = at_hand.left.min(plain.len());
    if n == 0 && at_hand.left > 0 {
        return turn.more(at_hand.left);
    }
    let Some((receiver, _)) = parts(turn.core) else { return Step::Again };
    if receiver.block.len() + n > most {
        let violation = Violation::over(Rule::FieldSectionTooLarge, turn.core.offset, turn.config.limits());
        turn.core.fail(violation);
        return Step::Again;
    }
    receiver.block.extend_from_slice(&plain[..n]);
    receiver.frame = Some(Frame { left: at_hand.left - n, ..at_hand }).filter(|f| f.left > 0);
    let complete = receiver.frame.is_none();
    turn.eat(n);
    if complete { section(turn, at_hand.id, at_hand.flags & END != 0) } else { Step::Again }
}

/// A complete header block: a request, or the trailers of one.
fn section(turn: &mut Turn<'_>, id: u64, ends: bool) -> Step {
    let draining = turn.core.draining;
    let Some((receiver, streams)) = parts(turn.core) else { return Step::Again };
    let block = core::mem::take(&mut receiver.block);
    let known = streams.open.iter().any(|s| s.shared.id == id);
    if !known && id > receiver.last_id && id % 2 == 1 {
        receiver.last_id = id;
        if draining {
            return reset(turn, id, 7); // RFC 9113 §6.8: above the last stream that GOAWAY named
        }
        return match head::request(&mut receiver.arena, &block, Version::Http2) {
            Ok(head) => {
                streams.begin(id, STREAM_WINDOW, head.method.of(&receiver.arena) == b"HEAD");
                if let Some(stream) = streams.get(id) {
                    stream.shared.received = ends;
                }
                turn.core.stats.requests += 1;
                Step::Event(Raw::Request { id, head, has_body: !ends })
            }
            Err(violation) => reset(turn, id, violation.h2_code()),
        };
    }
    if !known {
        return if id <= receiver.last_id { Step::Again } else { fail(turn, Rule::BytesBeforeRequestLine) };
    }
    let fields = match head::trailers(&mut receiver.arena, &block) {
        Ok(fields) if ends => fields,
        Ok(_) => return fail(turn, Rule::FieldSyntax),
        Err(violation) => return refuse(turn, id, violation),
    };
    let Some(stream) = streams.get(id) else { return Step::Again };
    stream.shared.received = true;
    if stream.shared.expect == Expect::Discard {
        return Step::Again;
    }
    if stream.shared.expect.whole().is_some() {
        receiver.trailers = Some((id, fields));
        turn.core.delivery.gather = core::mem::take(&mut stream.gather);
        return Step::Event(Raw::Body { id, bytes: Lent::Gathered, whole: true, last: false });
    }
    Step::Event(Raw::Trailers { id, fields })
}

/// DATA: as much of it as is here goes where the handler wants it. The connection's credit comes back in any case.
fn data(turn: &mut Turn<'_>, at_hand: Frame) -> Step {
    let n = at_hand.left.min(turn.inbox.plain().len());
    if n == 0 && at_hand.left > 0 {
        return turn.more(at_hand.left);
    }
    let (limits, at) = (turn.config.limits(), turn.core.offset);
    let Some((receiver, streams)) = parts(turn.core) else { return Step::Again };
    let ends = at_hand.flags & END != 0 && n == at_hand.left;
    receiver.frame = Some(Frame { left: at_hand.left - n, ..at_hand }).filter(|f| f.left > 0);
    let gathered: usize = streams.open.iter().map(|s| s.gather.len()).sum();
    let last_id = receiver.last_id;
    let Some(room) = receiver.room.checked_sub(n as u32) else { return fail(turn, Rule::BodyTooLarge) };
    receiver.room = room;
    let id = at_hand.id;
    let Some(stream) = streams.get(id) else {
        turn.eat(n);
        return if id <= last_id { Step::Again } else { fail(turn, Rule::BytesBeforeRequestLine) };
    };
    let Some(room) = stream.room.checked_sub(n as u32) else { return fail(turn, Rule::BodyTooLarge) };
    stream.room = room;
    stream.body += n as u64;
    stream.shared.begun = true;
    stream.shared.received |= ends;
    if stream.body > limits.get(Limit::BodyBytes) {
        turn.eat(n);
        return refuse(turn, id, Violation::over(Rule::BodyTooLarge, at, limits));
    }
    let expect = stream.shared.expect;
    let Some(max) = expect.whole() else {
        match expect {
            Expect::Discard => {
                turn.eat(n);
                return Step::Again;
            }
            Expect::Manual => stream.shared.held += n as u32,
            _ => (stream.lent, receiver.lent) = (n as u32, id),
        }
        let bytes = turn.lend_inbox(n);
        return Step::Event(Raw::Body { id, bytes, whole: false, last: ends });
    };
    let (cap, violation) = whole_cap(max, limits, at);
    if stream.body > cap {
        turn.eat(n);
        return refuse(turn, id, violation);
    }
    if ends && stream.gather.is_empty() {
        (stream.lent, receiver.lent) = (n as u32, id);
        let bytes = turn.lend_inbox(n);
        return Step::Event(Raw::Body { id, bytes, whole: true, last: true });
    }
    if (gathered + n) as u64 > limits.get(Limit::GatherBytes) {
        turn.eat(n);
        return refuse(turn, id, Violation::over(Rule::DecoderPool, at, limits));
    }
    stream.gather.extend_from_slice(&turn.inbox.plain()[..n]);
    if ends {
        turn.core.delivery.gather = core::mem::take(&mut stream.gather);
    }
    turn.eat(n);
    if ends { Step::Event(Raw::Body { id, bytes: Lent::Gathered, whole: true, last: true }) } else { Step::Again }
}

/// The peer sends no more: requests that are complete are answered, the others are over.
pub(crate) fn ended(turn: &mut Turn<'_>, quiet: End) -> Step {
    let Some((_, streams)) = parts(turn.core) else { return Step::Again };
    let cut = streams.open.iter().find(|s| !s.shared.received || s.shared.starved).map(|s| s.shared.id);
    if let Some(stream) = cut.and_then(|id| streams.remove(id)) {
        return Step::Event(Raw::Aborted { id: stream.shared.id, tag: stream.shared.tag, why: None });
    }
    match streams.open.first() {
        Some(stream) => Step::Pause(Pause::Caller(Wait::Reply(Id(stream.shared.id)))),
        None => {
            turn.core.close(quiet);
            Step::Again
        }
    }
}

/// The connection is over: every exchange hears of it, the peer gets one GOAWAY.
pub(crate) fn fault(turn: &mut Turn<'_>, violation: Violation) -> Step {
    let Some((_, streams)) = parts(turn.core) else { return Step::Again };
    if let Some(id) = streams.open.first().map(|s| s.shared.id)
        && let Some(stream) = streams.remove(id)
    {
        return Step::Event(Raw::Aborted { id, tag: stream.shared.tag, why: Some(violation) });
    }
    frame(&mut turn.outbox, Framing::H2, GOAWAY, 0, 0, &[&violation.h2_code().to_be_bytes()]);
    turn.core.close(End::Ours);
    if violation.rule == Rule::ReaderTooSlow {
        turn.outbox.clear();
        turn.core.life = Life::Closed;
    }
    Step::Event(Raw::Fault(violation))
}
