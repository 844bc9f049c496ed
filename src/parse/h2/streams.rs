//! In: what either side does with a stream. Out: all streams of a connection: where receiving and sending of HTTP/2 meet.
//!
//! A stream has a slot for as long as the handler can do something with it, or the peer may still send on it. `places` is sorted by
//! number, since new streams have the greatest one; slots are used again, so nothing is allocated in steady state.

use super::frame::LEAST_FRAME;
use super::ledger::{Account, Ledger};
use super::state::State;
use crate::base::memory::{NoMemory, push};
use crate::base::{Instant, Limit, Limits};
use crate::parse::exchange::{Content, Exchange, Expect, MANUAL_WINDOW};
use crate::parse::h1::Facts;
use crate::parse::{Priority, pack};
use alloc::vec::Vec;

/// Windows never pass this (RFC 9113 §6.9.1).
pub(crate) const MOST_WINDOW: i64 = 0x7fff_ffff;

/// Streams whose reset by us is remembered at least, so that what was under way is not taken for a fault (RFC 9113 §5.1); else
/// twice as many as may be open.
const REMEMBERED: usize = 50;

/// Numbers that are known to have been used, so that one which was skipped is told from one which is over.
const USED: usize = 64;

/// What the sending side of a stream is doing.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Sending {
    /// No final response yet.
    #[default]
    Waiting,
    /// Content is under way; `left`: of what was declared.
    Open { left: Option<u64> },
    /// The response has no content (HEAD, 204, 304), its end is said: what is written is taken and dropped.
    Silent,
    /// Behind a 2xx to CONNECT.
    Tunnel,
    /// Complete, but for what is parked.
    Done,
    /// The content fell short of what was declared.
    Broken,
}

/// One stream: a request and its answer.
#[derive(Debug, Default)]
pub struct Stream {
    pub(crate) shared: Exchange,
    pub(crate) number: u32,
    pub(crate) state: State,
    pub(crate) account: Account,
    /// The receiving side is no longer announced credit: its last frame is known.
    pub(crate) ends: bool,
    /// All that the peer sends on it is here.
    pub(crate) complete: bool,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    /// 100 (Continue) is due as soon as the handler reads (RFC 9110 §10.1.1).
    pub(crate) continue_due: bool,
    pub(crate) declared: Option<u64>,
    /// What its head took of the budget that trailers share.
    pub(crate) lines: u16,
    pub(crate) weight: u32,
    /// Content that came.
    pub(crate) content: u64,
    /// The part of it that is here: frames are booked whole, and come in pieces.
    pub(crate) arrived: u64,
    /// It was a CONNECT that its handler has accepted.
    pub(crate) tunnel: bool,
    /// Our half of the tunnel has ended.
    pub(crate) ending: bool,
    pub(crate) sending: Sending,
    /// What the peer lets us send; negative after it took some back (RFC 9113 §6.9.2).
    pub(crate) window: i64,
    pub(crate) parked: Vec<u8>,
    pub(crate) priority: Priority,
    /// When it was last given its turn to write.
    pub(crate) served: u32,
    /// It waits for its turn to write, and its own window is open.
    pub(crate) ready: bool,
    pub(crate) touched: bool,
    /// Since when the peer has owed content, and how much had come by then.
    pub(crate) since: Instant,
    pub(crate) base: u64,
    /// It has waited for a window since then, and so much has gone out meanwhile.
    pub(crate) stalled: Option<(Instant, u32)>,
    /// What small frames of it lacked, until somebody takes them.
    pub(crate) small: u32,
}

/// What all streams share on their way out.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) encoder: pack::Encoder,
    pub(crate) block: Vec<u8>,
    pub(crate) last_head: super::send::LastHead,
    /// The connection's window.
    pub(crate) window: i64,
    /// The peer's SETTINGS_INITIAL_WINDOW_SIZE.
    pub(crate) initial_window: u32,
    /// The peer's SETTINGS_MAX_FRAME_SIZE, as far as we use it.
    pub(crate) most_frame: u32,
    /// Streams that are ready to write, by urgency.
    pub(crate) ready: [u16; 8],
    pub(crate) rounds: u32,
    /// DATA frames that went out.
    pub(crate) data_frames: u64,
    /// Their content.
    pub(crate) sent: u64,
}

/// All streams of a connection.
#[derive(Debug)]
pub struct Streams {
    places: Vec<(u32, u16)>,
    slots: Vec<Stream>,
    free: Vec<u16>,
    touched: Vec<u16>,
    pub(crate) wire: Wire,
    pub(crate) ledger: Ledger,
    /// The highest number that the peer has used.
    pub(crate) last: u32,
    /// Above this one nothing is served any more: what our GOAWAY named.
    pub(crate) last_served: u32,
    /// Their numbers, and what their clients could have had under way.
    remembered: Vec<(u32, u32)>,
    most_remembered: usize,
    remembered_at: usize,
    used: [u32; USED],
    /// Some stream may have something due from then on: never later than the truth.
    pub(crate) look_at: Option<Instant>,
    pub(crate) stalls: u32,
}

/// A stream at hand, with what all share: the receiver of what a handler says.
pub(crate) struct At<'a> {
    pub(crate) stream: &'a mut Stream,
    pub(crate) wire: &'a mut Wire,
}

impl Default for Account {
    fn default() -> Account {
        Account::new(0)
    }
}

impl Streams {
    /// No streams.
    pub fn new(limits: &Limits) -> Streams {
        let window = u32::try_from(limits.get(Limit::ConnectionWindowBytes)).unwrap_or(u32::MAX);
        Streams {
            places: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            wire: Wire {
                encoder: pack::Encoder::new(4_096),
                block: Vec::new(),
                last_head: super::send::LastHead::default(),
                window: 65_535, // RFC 9113 §6.9.2
                initial_window: 65_535,
                most_frame: LEAST_FRAME,
                ready: [0; 8],
                rounds: 0,
                data_frames: 0,
                sent: 0,
            },
            ledger: Ledger::new(window),
            last: 0,
            last_served: u32::MAX,
            remembered: Vec::new(),
            most_remembered: REMEMBERED.max(2 * limits.size(Limit::ConcurrentStreams)),
            remembered_at: 0,
            used: [0; USED],
            look_at: None,
            stalls: 0,
        }
    }

    /// Streams that are open.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// No stream is open.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The open streams' slots, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Stream)> {
        self.places.iter().filter_map(|&(_, slot)| Some((slot, self.slots.get(usize::from(slot))?)))
    }

    /// Whatever the peer owes, it owes from now on.
    pub(crate) fn restart_clocks(&mut self, now: Instant) {
        for i in 0..self.places.len() {
            if let Some(stream) = self.nth(i).and_then(|slot| self.by_slot(slot)) {
                (stream.since, stream.base) = (now, stream.arrived);
            }
        }
    }

    pub(crate) fn nth(&self, i: usize) -> Option<u16> {
        self.places.get(i).map(|p| p.1)
    }

    pub(crate) fn slot_of(&self, number: u32) -> Option<u16> {
        // Mostly it is the newest.
        match self.places.last() {
            Some(&(n, slot)) if n == number => Some(slot),
            _ => self.places.binary_search_by_key(&number, |p| p.0).ok().and_then(|i| Some(self.places.get(i)?.1)),
        }
    }

    pub(crate) fn by_slot(&mut self, slot: u16) -> Option<&mut Stream> {
        self.slots.get_mut(usize::from(slot))
    }

    pub(crate) fn stream(&mut self, number: u32) -> Option<&mut Stream> {
        self.by_slot(self.slot_of(number)?)
    }

    /// A stream and the ledger that its account goes with.
    pub(crate) fn with_ledger(&mut self, number: u32) -> Option<(&mut Stream, &mut Ledger)> {
        let slot = self.slot_of(number)?;
        Some((self.slots.get_mut(usize::from(slot))?, &mut self.ledger))
    }

    pub(crate) fn with_ledger_at(&mut self, slot: u16) -> Option<(&mut Stream, &mut Ledger)> {
        Some((self.slots.get_mut(usize::from(slot))?, &mut self.ledger))
    }

    /// What a handler may do something with. It is looked at again once the handler is done.
    pub(crate) fn get(&mut self, id: u64) -> Option<At<'_>> {
        let slot = self.slot_of(u32::try_from(id).ok()?)?;
        self.touch(slot);
        let stream = self.slots.get_mut(usize::from(slot))?;
        let open = !stream.shared.aborted && (!stream.is_answered() || !stream.shared.received);
        open.then_some(At { stream, wire: &mut self.wire })
    }

    /// The handler may still answer it.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        let slot = u32::try_from(id).ok().and_then(|number| self.slot_of(number));
        let stream = slot.and_then(|slot| self.slots.get(usize::from(slot)));
        stream.is_some_and(|s| !s.shared.aborted && !s.is_answered() && !s.shared.ended)
    }

    pub(crate) fn at(&mut self, slot: u16) -> Option<At<'_>> {
        Some(At { stream: self.slots.get_mut(usize::from(slot))?, wire: &mut self.wire })
    }

    /// Somebody did something with it: it is looked at with the next step.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u16) {
        if let Some(stream) = self.slots.get_mut(usize::from(slot))
            && !stream.touched
        {
            stream.touched = true;
            self.touched.push(slot);
        }
    }

    #[inline]
    pub(crate) fn next_touched(&mut self) -> Option<u16> {
        let slot = self.touched.pop()?;
        self.slots.get_mut(usize::from(slot))?.touched = false;
        Some(slot)
    }

    /// Where the stream with this number stands, open or not.
    pub(crate) fn state_of(&self, number: u32) -> State {
        match self.slot_of(number) {
            Some(slot) => self.slots.get(usize::from(slot)).map_or(State::Closed, |s| s.state),
            None if number > self.last || number.is_multiple_of(2) => State::Idle, // a server opens none
            // Behind our GOAWAY everything is ignored, and it may be much (RFC 9113 §6.8).
            None if number > self.last_served || self.remembered.iter().any(|r| r.0 == number) => State::Reset,
            None => State::Closed,
        }
    }

    /// One more slot, and a place for it wherever it may have to stand: whatever becomes of its stream needs no memory from then on.
    fn grow(&mut self) -> Result<u16, NoMemory> {
        if self.slots.len() == self.slots.capacity() {
            self.slots.try_reserve_exact(self.slots.len().max(1))?; // from one on: most connections are idle
        }
        let all = self.slots.len() + 1;
        self.places.try_reserve(all - self.places.len().min(all))?;
        self.free.try_reserve(all - self.free.len().min(all))?;
        self.touched.try_reserve(all - self.touched.len().min(all))?;
        self.slots.push(Stream::default());
        Ok((all - 1) as u16)
    }

    /// A request opens a stream.
    pub(crate) fn open(
        &mut self,
        number: u32,
        state: State,
        facts: &Facts,
        limits: &Limits,
        now: Instant,
    ) -> Result<u16, NoMemory> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        let window = u32::try_from(limits.get(Limit::StreamWindowBytes)).unwrap_or(u32::MAX);
        if let Some(stream) = self.slots.get_mut(usize::from(slot)) {
            let parked = core::mem::take(&mut stream.parked);
            let ends = state == State::HalfClosedRemote;
            *stream = Stream {
                shared: Exchange { id: u64::from(number), received: ends && !facts.is_connect, ..Exchange::default() },
                number,
                state,
                account: Account::new(window),
                ends,
                complete: ends,
                is_head: facts.is_head,
                is_connect: facts.is_connect,
                continue_due: facts.expects_continue,
                declared: facts.content_length,
                lines: facts.lines,
                weight: facts.weight,
                window: i64::from(self.wire.initial_window),
                parked,
                since: now,
                served: self.wire.rounds,
                ..Stream::default()
            };
        }
        self.places.push((number, slot));
        Ok(slot)
    }

    /// The stream is over for both sides and for the handler: whatever it held is free.
    pub(crate) fn close(&mut self, number: u32) -> Option<u16> {
        let i = match self.places.last() {
            Some(&(n, _)) if n == number => self.places.len() - 1,
            _ => self.places.binary_search_by_key(&number, |p| p.0).ok()?,
        };
        let (_, slot) = self.places.remove(i);
        let stream = self.slots.get_mut(usize::from(slot))?;
        if stream.ready {
            stream.ready = false;
            if let Some(n) = self.wire.ready.get_mut(usize::from(stream.priority.urgency)) {
                *n -= 1;
            }
        }
        self.ledger.reset(&mut stream.account);
        stream.parked.clear();
        stream.state = State::Closed;
        stream.number = 0;
        self.free.push(slot);
        Some(slot)
    }

    /// A new stream's number was seen. It is kept until another takes its place.
    pub(crate) fn use_number(&mut self, number: u32) {
        self.last = number;
        if let Some(place) = self.used.get_mut((number / 2) as usize % USED) {
            *place = number;
        }
    }

    /// The number was used for a stream, as far as that is remembered.
    pub(crate) fn was_used(&self, number: u32) -> bool {
        self.used.contains(&number)
    }

    /// We have reset it: what is under way on it is no fault, and up to `open` bytes of that are not even odd.
    pub(crate) fn remember(&mut self, number: u32, open: u32) -> Result<(), NoMemory> {
        if self.remembered.len() < self.most_remembered {
            return push(&mut self.remembered, (number, open));
        }
        if let Some(place) = self.remembered.get_mut(self.remembered_at) {
            *place = (number, open);
        }
        self.remembered_at = (self.remembered_at + 1) % self.most_remembered;
        Ok(())
    }

    /// So many bytes came on a stream that we have reset. True: they may have been under way then.
    pub(crate) fn was_under_way(&mut self, number: u32, len: u32) -> bool {
        let entry = self.remembered.iter_mut().find(|r| r.0 == number);
        entry.is_some_and(|r| r.1.checked_sub(len).map(|left| r.1 = left).is_some())
    }

    /// SETTINGS_INITIAL_WINDOW_SIZE: every stream's window changes by the difference (RFC 9113 §6.9.2). `most`: the greatest value that
    /// the frame said in between. False: a window passes 2^31-1 by that.
    pub(crate) fn initial_window(&mut self, size: u32, most: u32) -> bool {
        let up = i64::from(most) - i64::from(self.wire.initial_window);
        if self.iter().any(|(_, s)| s.window + up > MOST_WINDOW) {
            return false;
        }
        let by = i64::from(size) - i64::from(self.wire.initial_window);
        self.wire.initial_window = size;
        for i in 0..self.places.len() {
            let Some(&(_, slot)) = self.places.get(i) else { break };
            let Some(mut at) = self.at(slot) else { break };
            at.stream.window += by;
            at.rank();
        }
        true
    }

    /// Whose turn it is to write: the most urgent, then those that want their responses one after the other, then the one
    /// that waited longest (RFC 9218 §10).
    pub(crate) fn next_writer(&mut self) -> Option<u16> {
        if self.wire.window <= 0 {
            return None;
        }
        let urgency = self.wire.ready.iter().position(|&n| n > 0)? as u8;
        let waiting = self.iter().filter(|(_, s)| s.ready && s.priority.urgency == urgency);
        let order = |s: &Stream| {
            let parked = s.parked.is_empty(); // small answers that are complete do not wait for large ones
            let round = if s.priority.is_sequential() { 0 } else { s.served };
            (parked, !s.priority.is_sequential(), round, s.number)
        };
        waiting.min_by_key(|(_, s)| order(s)).map(|(slot, _)| slot)
    }

    /// Heap bytes.
    pub fn retained_bytes(&self) -> usize {
        self.places.capacity() * size_of::<(u32, u16)>()
            + self.slots.capacity() * size_of::<Stream>()
            + self.slots.iter().map(|s| s.parked.capacity()).sum::<usize>()
            + (self.free.capacity() + self.touched.capacity()) * size_of::<u16>()
            + self.wire.encoder.retained_bytes()
            + self.wire.block.capacity()
            + self.wire.last_head.retained_bytes()
            + self.remembered.capacity() * size_of::<(u32, u32)>()
    }

    /// Frees what only a crowd of streams needed. Nothing is open then, or nothing happens.
    pub(crate) fn shed(&mut self) {
        if self.is_empty() {
            (self.places, self.slots, self.free) = (Vec::new(), Vec::new(), Vec::new());
            self.touched = Vec::new();
            self.wire.block = Vec::new();
            self.wire.last_head = super::send::LastHead::default();
            self.wire.encoder.shed();
        }
    }
}

impl Stream {
    /// The response is complete, or never will be.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.sending, Sending::Done | Sending::Broken) && self.parked.is_empty()
    }

    /// Something of it is to be written as soon as that is possible.
    pub(crate) fn is_waiting(&self) -> bool {
        self.shared.starved || !self.parked.is_empty()
    }

    /// The peer may still begin a frame with a part of its message.
    pub(crate) fn is_receiving(&self) -> bool {
        self.state.is_receiving()
    }

    /// More is to come from the peer, to the last byte of its last frame.
    pub(crate) fn is_owed_content(&self) -> bool {
        !self.complete
    }

    /// Only its handler can go on with it: nothing that the peer does would bring another event.
    pub(crate) fn is_up_to_its_handler(&self) -> bool {
        let full = self.shared.held >= MANUAL_WINDOW && self.complete;
        let shut = self.account.handed() > 0 && self.account.open() == 0;
        let held = self.arrived == self.content && (self.account.kept() > 0 || full || shut);
        let undecided = self.is_connect && self.sending == Sending::Waiting;
        let stuck = self.shared.received || held || undecided || is_unwanted(self);
        stuck && !self.is_answered() && !self.is_waiting()
    }
}

impl At<'_> {
    /// Counts it among those that are ready to write, or no longer.
    #[inline]
    pub(crate) fn rank(&mut self) {
        let ready = self.stream.is_waiting() && self.stream.window > 0;
        if ready != self.stream.ready {
            self.stream.ready = ready;
            if let Some(n) = self.wire.ready.get_mut(usize::from(self.stream.priority.urgency)) {
                *n = if ready { *n + 1 } else { n.saturating_sub(1) };
            }
        }
    }

    pub(crate) fn prioritise(&mut self, priority: Priority) {
        let was = core::mem::replace(&mut self.stream.priority, priority);
        if self.stream.ready && was.urgency != priority.urgency {
            for (urgency, by) in [(was.urgency, u16::MAX), (priority.urgency, 1)] {
                if let Some(n) = self.wire.ready.get_mut(usize::from(urgency)) {
                    *n = n.wrapping_add(by);
                }
            }
        }
    }
}

/// What the rest of a request is worth once its answer is complete: `true` if it is short for certain, and simply read.
pub(crate) fn may_read_on(stream: &Stream, limits: &Limits) -> bool {
    stream.declared.is_some_and(|n| n <= limits.get(Limit::DrainBytes)) && !stream.continue_due
}

/// How much content there is, if that is known.
pub(crate) fn length_of(content: Content<'_>) -> Option<u64> {
    match content {
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::Sized(n) => Some(n),
        Content::Streamed => None,
    }
}

/// The handler does not want the body, or no longer.
pub(crate) fn is_unwanted(stream: &Stream) -> bool {
    stream.shared.expect == Expect::Discard
}
