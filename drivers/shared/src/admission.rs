//! In: who wants to connect, and what a connection may cost. Out: a permit for it, or why there is none (DRV-02, M-16).
//!
//! ```text
//!   reserve(bytes) --> Seat ---- accept ----> seat.take(source) --> Admitted(Permit)    below 95 %
//!        |                 (dropped: free again)                 |-> Overloaded(Permit)  to be told to go away
//!        +-> None: full. Do not accept; the kernel's queue       +-> Refused             too many of this source
//!            pushes back. Wait for room, or be called.
//! ```
//!
//! A seat is taken before accept is called, so a full server leaves connections where they are, and the sum of what its connections may
//! cost never exceeds the budget. It is taken when the socket is readable, not earlier: an acceptor that sits on a seat keeps it from others. Permits and seats give back what they hold when they are dropped, in any order, on any thread.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much is admitted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Caps {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one source.
    pub per_source: usize,
    /// What all connections together may cost: the sum of their `Config::bound_bytes()`.
    pub memory_bytes: usize,
    /// From this share of the first and of the last cap on, connections are told to go away.
    pub soft_percent: u8,
}

impl Default for Caps {
    /// 10,000 connections, 256 from one source, no budget of memory, soft from 95 % on.
    fn default() -> Caps {
        Caps { connections: 10_000, per_source: 256, memory_bytes: usize::MAX, soft_percent: 95 }
    }
}

impl Caps {
    fn soft(&self, cap: usize) -> usize {
        // Divided first: the product may not fit. Rounded up: small caps serve as many as they say.
        let percent = usize::from(self.soft_percent.min(100));
        ((cap / 100) * percent + ((cap % 100) * percent).div_ceil(100)).max(1)
    }
}

/// Whose connections are counted together.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// One address of IPv4.
    V4(Ipv4Addr),
    /// One network of IPv6, by its first 64 bits: a subscriber has all addresses behind them (RFC 4291 §2.5.4).
    V6(u64),
    /// Not counted by source. Loopback addresses and Unix sockets: whoever connects there runs on this machine, and is mostly
    /// a proxy or a load generator that has one address for very many clients. Also a trusted proxy, until its header names the client.
    Uncounted,
}

impl Source {
    /// Where connections from this address are counted.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            address if address.is_loopback() => Source::Uncounted,
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => Source::V6(u64::try_from(u128::from(address) >> 64).unwrap_or(u64::MAX)),
        }
    }
}

/// What becomes of a connection that was accepted.
#[derive(Debug)]
pub enum Verdict {
    /// Serve it, and keep the permit as long.
    Admitted(Permit),
    /// Tell it to go away (503 and close, GOAWAY with ENHANCE_YOUR_CALM), and keep the permit as long.
    Overloaded(Permit),
    /// Close it: its source has as many as it may have.
    Refused,
}

/// What is open now.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Open {
    /// Connections, and seats that wait for one.
    pub connections: usize,
    /// What they may cost.
    pub bytes: usize,
    /// From so many sources.
    pub sources: usize,
}

/// The door of a server. Cheap to clone; all clones count together.
///
/// ```
/// use vestibule_driver::admission::{Admission, Caps, Source, Verdict};
///
/// let mut caps = Caps::default();
/// caps.per_source = 1;
/// let admission = Admission::new(caps);
/// let source = Source::of([192, 0, 2, 1].into());
///
/// let seat = admission.reserve(1 << 20).expect("room");
/// let Verdict::Admitted(permit) = seat.take(source) else { panic!("the first of its source") };
/// let seat = admission.reserve(1 << 20).expect("room");
/// assert!(matches!(seat.take(source), Verdict::Refused));
/// drop(permit);
/// assert_eq!(admission.open(), Default::default());
/// ```
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("caps", &self.inner.caps).field("open", &self.open()).finish()
    }
}

struct Inner {
    caps: Caps,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    connections: usize,
    bytes: usize,
    /// Those of them that are seats, and their bytes: acceptors that look whether somebody waits.
    seats: usize,
    seat_bytes: usize,
    /// No entry is zero, so there are never more than connections.
    sources: HashMap<Source, usize>,
    callers: Vec<Arc<Caller>>,
    /// Threads that wait for the condition.
    waiting: usize,
    closed: bool,
}

/// Somebody who wants to be called when there is room.
struct Caller {
    /// It was told that there is none, and has not been called since.
    hungry: AtomicBool,
    call: Box<dyn Fn() + Send + Sync>,
}

impl Inner {
    // A panic never happens under this lock; and if it did, the counts are still the best there is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        state.connections < self.caps.connections && bytes <= self.caps.memory_bytes.saturating_sub(state.bytes)
    }

    fn seat(self: &Arc<Self>, state: &mut State, bytes: usize) -> Seat {
        state.connections += 1;
        state.bytes += bytes;
        state.seats += 1;
        state.seat_bytes += bytes;
        Seat { held: Held { inner: self.clone(), bytes, source: Source::Uncounted, is_seat: true } }
    }

    /// Counts one more of a source; false: it has as many as it may have.
    fn enter(&self, state: &mut State, source: Source) -> bool {
        if source == Source::Uncounted {
            return true;
        }
        let count = state.sources.get(&source).copied().unwrap_or(0);
        if count >= self.caps.per_source {
            return false;
        }
        state.sources.insert(source, count + 1);
        true
    }

    fn leave(state: &mut State, source: Source) {
        if let Some(count) = state.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                state.sources.remove(&source);
            }
        }
    }
}

impl Admission {
    /// A door with these caps.
    pub fn new(caps: Caps) -> Admission {
        Admission { inner: Arc::new(Inner { caps, state: Mutex::default(), room: Condvar::new() }) }
    }

    /// A seat for a connection that may cost so many bytes. `None`: there is no room now, so nothing is to be accepted.
    pub fn reserve(&self, bytes: usize) -> Option<Seat> {
        let mut state = self.inner.lock();
        (!state.closed && self.inner.has_room(&state, bytes)).then(|| self.inner.seat(&mut state, bytes))
    }

    /// The same for a thread that can wait. `None`: the time is over, the door is closed, or there can never be room for so many bytes.
    pub fn wait(&self, bytes: usize, most: Duration) -> Option<Seat> {
        let inner = &self.inner;
        if bytes > inner.caps.memory_bytes || inner.caps.connections == 0 {
            return None;
        }
        let start = Instant::now();
        let mut state = inner.lock();
        loop {
            if state.closed {
                return None;
            }
            if inner.has_room(&state, bytes) {
                return Some(inner.seat(&mut state, bytes));
            }
            let left = most.checked_sub(start.elapsed()).filter(|left| !left.is_zero())?;
            state.waiting += 1;
            state = inner.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
    }

    /// For an event loop: `call` comes once after each refusal, when something has been given back. It comes on the thread that gave it
    /// back, so it is to wake the loop and nothing else.
    pub fn line(&self, call: impl Fn() + Send + Sync + 'static) -> Line {
        let caller = Arc::new(Caller { hungry: AtomicBool::new(false), call: Box::new(call) });
        self.inner.lock().callers.push(caller.clone());
        Line { admission: self.clone(), caller }
    }

    /// Nothing more is admitted, and nobody waits any longer.
    pub fn close(&self) {
        let mut state = self.inner.lock();
        state.closed = true;
        self.wake(state);
    }

    /// What is open now. All zero when every permit is dropped.
    pub fn open(&self) -> Open {
        let state = self.inner.lock();
        Open { connections: state.connections, bytes: state.bytes, sources: state.sources.len() }
    }

    /// Whether a connection that comes now is told to go away.
    pub fn is_overloaded(&self) -> bool {
        self.is_soft(&self.inner.lock())
    }

    fn is_soft(&self, state: &State) -> bool {
        let caps = &self.inner.caps;
        // The connection in question is counted already: up to the soft cap, that cap included, it is served. Seats are nobody yet.
        let (connections, bytes) = (state.connections - state.seats, state.bytes - state.seat_bytes);
        connections > caps.soft(caps.connections) || bytes > caps.soft(caps.memory_bytes)
    }

    /// Wakes who waits for room; not under the lock.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let hungry: Vec<_> =
            state.callers.iter().filter(|c| c.hungry.swap(false, Ordering::Relaxed)).cloned().collect();
        let waiting = state.waiting > 0;
        drop(state);
        if waiting {
            // All of them: they may want different amounts.
            self.inner.room.notify_all();
        }
        for caller in hungry {
            (caller.call)();
        }
    }
}

/// An event loop's place in the line for seats.
pub struct Line {
    admission: Admission,
    caller: Arc<Caller>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("waits", &self.caller.hungry).finish_non_exhaustive()
    }
}

impl Line {
    /// As [`Admission::reserve`]; after a `None` the call comes when it is worth to ask again.
    pub fn reserve(&self, bytes: usize) -> Option<Seat> {
        let inner = &self.admission.inner;
        let mut state = inner.lock();
        if !state.closed && inner.has_room(&state, bytes) {
            return Some(inner.seat(&mut state, bytes));
        }
        // Under the lock: what is given back from now on finds it hungry.
        self.caller.hungry.store(!state.closed, Ordering::Relaxed);
        None
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.admission.inner.lock().callers.retain(|caller| !Arc::ptr_eq(caller, &self.caller));
    }
}

/// What a seat or a permit holds.
struct Held {
    inner: Arc<Inner>,
    bytes: usize,
    source: Source,
    is_seat: bool,
}

impl Held {
    fn stand_up(&mut self, state: &mut State) {
        if std::mem::replace(&mut self.is_seat, false) {
            state.seats -= 1;
            state.seat_bytes -= self.bytes;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let inner = self.inner.clone();
        let mut state = inner.lock();
        self.stand_up(&mut state);
        state.connections -= 1;
        state.bytes -= self.bytes;
        Inner::leave(&mut state, self.source);
        Admission { inner: inner.clone() }.wake(state);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Room for one connection that has not been accepted yet.
#[derive(Debug)]
pub struct Seat {
    held: Held,
}

impl Seat {
    /// The connection came from here.
    pub fn take(self, source: Source) -> Verdict {
        let mut permit = Permit { held: self.held };
        let inner = permit.held.inner.clone();
        permit.held.stand_up(&mut inner.lock());
        if !permit.move_to(source) {
            return Verdict::Refused;
        }
        let admission = Admission { inner: permit.held.inner.clone() };
        match admission.is_overloaded() {
            true => Verdict::Overloaded(permit),
            false => Verdict::Admitted(permit),
        }
    }
}

/// The right of one connection to be open.
#[derive(Debug)]
pub struct Permit {
    held: Held,
}

impl Permit {
    /// Counts the connection at another source: the one that a trusted proxy's header names. False: that has as many as it may
    /// have; then nothing changes, and the connection is to be closed.
    pub fn move_to(&mut self, source: Source) -> bool {
        if source == self.held.source {
            return true;
        }
        let mut state = self.held.inner.lock();
        if !self.held.inner.enter(&mut state, source) {
            return false;
        }
        Inner::leave(&mut state, self.held.source);
        drop(state);
        self.held.source = source;
        true
    }

    /// Where it is counted.
    pub fn source(&self) -> Source {
        self.held.source
    }
}

#[cfg(test)]
mod tests;
