//! In: the time of each turn, and what moved. Out: when to come back, and which peer was too slow.
//!
//! Deadlines are judged when nothing is left to do at that time, so a late caller never punishes a peer whose bytes
//! already lie in the inbox.

use crate::base::{Instant, Limit, Limits, Rule};

/// How often a closing connection looks whether its last words are out.
const LOOK_AGAIN_MS: u64 = 100;

/// When the machine wants a turn even if nothing else happens.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Deadline {
    /// The time from which on the turn will do something.
    pub at: Instant,
    /// What happens then.
    pub why: Why,
}

/// What a [`Deadline`] is about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// The TLS handshake must be over.
    Handshake,
    /// The head must be there, or the PROXY header.
    Head,
    /// The next request must have begun.
    Idle,
    /// The body arrives too slowly.
    Body,
    /// The response is read too slowly.
    Write,
    /// A closing connection has waited long enough for its peer.
    Linger,
    /// HTTP/2: a stream's body arrives, or its response is read, too slowly.
    Stream,
    /// HTTP/2: our settings must be acknowledged.
    Settings,
    /// HTTP/2: a client that we want to leave has had time to see that.
    Goodbye,
}

/// What the input side waits for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// For the caller, or for nothing: no deadline.
    Caller,
    /// For the PROXY header.
    Source,
    Handshake,
    Head,
    Idle,
    Body,
    Linger,
}

/// An average rate: bytes that passed while time was spent waiting for them.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Meter {
    waited_nanos: u64,
    bytes: u64,
    /// Bytes that are here and wait for their fellows.
    here: u64,
}

impl Meter {
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn here(&mut self, bytes: u64) {
        self.here = bytes;
    }

    fn waited(&mut self, nanos: u64) {
        self.waited_nanos = self.waited_nanos.saturating_add(nanos);
    }

    /// Waiting time at which the average, over whole seconds, falls below the minimum if nothing more moves.
    fn fails_at(&self, limits: &Limits) -> u64 {
        let paid = (self.bytes.saturating_add(self.here) / limits.get(Limit::MinRate))
            .saturating_add(1)
            .saturating_mul(1_000_000_000);
        paid.max(limits.get(Limit::RateGraceMs).saturating_mul(1_000_000))
    }

    fn left(&self, limits: &Limits) -> u64 {
        self.fails_at(limits).saturating_sub(self.waited_nanos)
    }

    /// Forgets what was earned beyond the time that these bytes may take, and the grace.
    fn at_most(&mut self, bytes: u64, limits: &Limits) {
        let most = Meter { bytes, ..Meter::default() }.fails_at(limits);
        let grace = limits.get(Limit::RateGraceMs).saturating_mul(1_000_000);
        self.waited(self.left(limits).saturating_sub(most.saturating_add(grace)));
    }
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) now: Instant,
    pub(crate) opened: Instant,
    since: Instant,
    waiting: Waiting,
    /// What was waited for before the wait for the caller, or for room.
    before: Waiting,
    pub(crate) body: Meter,
    write: Meter,
    writing: bool,
    /// Nobody will serve the connection: its first head is waited for no longer than that takes.
    pub(crate) hurried: bool,
    sent: u64,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace {
            now,
            opened: now,
            since: now,
            waiting: Waiting::Head,
            before: Waiting::Caller,
            body: Meter::default(),
            write: Meter::default(),
            writing: false,
            hurried: false,
            sent: 0,
        }
    }

    /// A turn begins. A clock that goes back stands still (TIM-06).
    pub(crate) fn tick(&mut self, now: Instant, sent: u64, unsent: usize) {
        let waited = now.since(self.now).as_nanos() as u64;
        self.now = self.now.max(now);
        if self.waiting == Waiting::Body {
            self.body.waited(waited);
        }
        if self.writing {
            self.write.waited(waited);
            self.write.moved(sent.wrapping_sub(self.sent));
        }
        self.sent = sent;
        if unsent == 0 {
            self.writing = false;
        }
    }

    /// A turn ends with so much unsent.
    pub(crate) fn tock(&mut self, unsent: usize, limits: &Limits) {
        if unsent > 0 && !self.writing {
            self.writing = true;
            self.write = Meter::default();
        }
        if unsent > 0 && self.waiting == Waiting::Linger {
            self.since = self.now; // lingering begins when the last word is out
        }
        self.write.at_most(unsent as u64, limits); // a reader that was fast once may not stall for ever (TIM-03)
    }

    /// The input side waits for something from now on; an unchanged wait goes on where it is.
    pub(crate) fn wait(&mut self, waiting: Waiting) {
        if self.waiting != waiting {
            // A head that was begun before a pause stays due when it was: nobody gains time by not reading. The one behind a PROXY
            // header is due as if there were none.
            let paused = self.waiting == Waiting::Caller && self.before == Waiting::Head;
            let goes_on = waiting == Waiting::Head && (paused || self.waiting == Waiting::Source);
            self.waiting = waiting;
            if !goes_on {
                self.since = self.now;
                self.before = Waiting::Caller;
            }
        }
    }

    /// The same, from now on even if it waited for that already.
    pub(crate) fn restart(&mut self, waiting: Waiting) {
        self.before = Waiting::Caller;
        self.waiting = waiting;
        self.since = self.now;
    }

    /// The same, with the clock running since accept.
    pub(crate) fn since_accept(&mut self, waiting: Waiting) {
        self.waiting = waiting;
        self.since = self.opened;
    }

    /// The input side waits for the caller, or for room: no deadline of its own runs, for nothing would happen then.
    pub(crate) fn pause(&mut self) {
        if self.waiting != Waiting::Linger && self.waiting != Waiting::Caller {
            self.before = self.waiting;
            self.waiting = Waiting::Caller;
        }
    }

    fn input(&self, limits: &Limits) -> Option<Deadline> {
        let (limit, why) = match self.waiting {
            Waiting::Caller => return None,
            Waiting::Body => {
                return Some(Deadline { at: self.now.after_nanos(self.body.left(limits)), why: Why::Body });
            }
            Waiting::Source => (Limit::HeadMs, Why::Head),
            Waiting::Handshake => (Limit::HandshakeMs, Why::Handshake),
            Waiting::Head | Waiting::Idle if self.hurried => (Limit::OverloadMs, Why::Head),
            Waiting::Head => (Limit::HeadMs, Why::Head),
            Waiting::Idle => (Limit::IdleMs, Why::Idle),
            // What is unsent is looked at again, but not at once, however short the lingering.
            Waiting::Linger if self.writing && limits.get(Limit::LingerMs) < LOOK_AGAIN_MS => {
                return Some(Deadline { at: self.since.after_millis(LOOK_AGAIN_MS), why: Why::Linger });
            }
            Waiting::Linger => (Limit::LingerMs, Why::Linger),
        };
        Some(Deadline { at: self.since.after_millis(limits.get(limit)), why })
    }

    fn output(&self, limits: &Limits) -> Option<Deadline> {
        self.writing.then(|| Deadline { at: self.now.after_nanos(self.write.left(limits)), why: Why::Write })
    }

    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Deadline> {
        match (self.input(limits), self.output(limits)) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// The deadline of the input side that has passed.
    pub(crate) fn input_due(&self, limits: &Limits) -> Option<Why> {
        self.input(limits).filter(|d| d.at <= self.now).map(|d| d.why)
    }

    /// The peer reads too slowly.
    pub(crate) fn output_due(&self, limits: &Limits) -> bool {
        self.output(limits).is_some_and(|d| d.at <= self.now)
    }

    /// The connection has reached its age.
    pub(crate) fn is_old(&self, limits: &Limits) -> bool {
        self.opened.after_millis(limits.get(Limit::ConnectionAgeMs)) <= self.now
    }
}

impl Why {
    /// The rule that a peer breaks who lets it pass; none for lingering.
    pub(crate) fn rule(self) -> Option<Rule> {
        match self {
            Why::Handshake => Some(Rule::HandshakeTimeout),
            Why::Head => Some(Rule::HeadTimeout),
            Why::Idle => Some(Rule::IdleTimeout),
            Why::Body => Some(Rule::BodyTooSlow),
            Why::Write => Some(Rule::ReaderTooSlow),
            Why::Linger | Why::Stream | Why::Settings | Why::Goodbye => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_at(rate: u64) -> Option<u64> {
        let mut pace = Pace::new(Instant::ZERO);
        pace.wait(Waiting::Body);
        for second in 1..=60 {
            pace.tick(Instant::from_millis(second * 1000), 0, 0);
            pace.body.moved(rate);
            if pace.input_due(&Limits::DEFAULT).is_some() {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn a_body_at_the_minimum_rate_lives_and_one_byte_below_dies_after_the_grace() {
        assert_eq!(body_at(240), None);
        assert_eq!(body_at(239), Some(5));
    }

    #[test]
    fn time_spent_waiting_for_the_caller_is_not_the_peers() {
        let mut pace = Pace::new(Instant::ZERO);
        pace.wait(Waiting::Body);
        pace.pause();
        pace.tick(Instant::from_millis(3_600_000), 0, 0);
        assert_eq!(pace.deadline(&Limits::DEFAULT), None);
        pace.wait(Waiting::Body);
        assert_eq!(pace.input_due(&Limits::DEFAULT), None);
    }

    #[test]
    fn the_last_instant_is_no_trouble() {
        let mut pace = Pace::new(Instant::from_nanos(u64::MAX - 1));
        pace.tick(Instant::from_nanos(u64::MAX), 0, 1);
        pace.tock(1, &Limits::DEFAULT);
        pace.tick(Instant::ZERO, 0, 1);
        assert!(pace.deadline(&Limits::DEFAULT).is_some_and(|d| d.at == Instant::from_nanos(u64::MAX)));
    }
}
