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
    /// How many of them count.
    credited: u64,
}

/// What bytes that came within so much waiting can be worth at most: their time, and twice the grace ahead. Who was fast once may
/// not stall for long (TIM-02).
pub(crate) fn most_earned(waited_nanos: u64, limits: &Limits) -> u64 {
    let ahead = limits.get(Limit::RateGraceMs).saturating_mul(2);
    let millis = (waited_nanos / 1_000_000).saturating_add(ahead);
    limits.get(Limit::MinRate).saturating_mul(millis) / 1_000
}

impl Meter {
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Earlier ones of them keep what they count; they count in full once they move.
    pub(crate) fn here(&mut self, bytes: u64, limits: &Limits) {
        let most = most_earned(self.waited_nanos, limits).saturating_sub(self.bytes);
        let credited = self.credited.saturating_add(bytes.saturating_sub(self.here));
        self.credited = credited.min(most).min(bytes);
        self.here = bytes;
    }

    /// Forgets what a body earned too far ahead.
    fn cap(&mut self, limits: &Limits) {
        self.bytes = self.bytes.min(most_earned(self.waited_nanos, limits));
    }

    fn waited(&mut self, nanos: u64) {
        self.waited_nanos = self.waited_nanos.saturating_add(nanos);
    }

    /// Waiting time at which the average, over whole seconds, falls below the minimum if nothing more moves.
    fn fails_at(&self, limits: &Limits) -> u64 {
        let paid = (self.bytes.saturating_add(self.credited) / limits.get(Limit::MinRate))
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
        self.body.cap(limits);
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

    /// A body of which so much comes in the first second, then `rate` for `more` seconds, then nothing: the second of its end.
    fn body_after_a_burst(burst: u64, rate: u64, more: u64, in_place: bool) -> u64 {
        let (mut pace, limits, mut here) = (Pace::new(Instant::ZERO), Limits::DEFAULT, 0);
        pace.wait(Waiting::Body);
        for second in 1..100_000 {
            pace.tick(Instant::from_millis(second * 1000), 0, 0);
            let bytes = if second == 1 { burst } else { rate * u64::from(second <= 1 + more) };
            here += bytes;
            match in_place {
                true => pace.body.here(here, &limits),
                false => pace.body.moved(bytes),
            }
            if pace.input_due(&limits).is_some() {
                return second;
            }
            pace.tock(0, &limits);
        }
        panic!("it lives for ever");
    }

    #[test]
    fn a_body_that_was_fast_once_may_stall_for_twice_the_grace() {
        for in_place in [false, true] {
            for burst in [2_640, 1 << 20, u64::MAX / 2] {
                assert_eq!(body_after_a_burst(burst, 0, 0, in_place), 12, "{burst}");
                // Each later byte buys its own time, and nothing of the burst's.
                assert_eq!(body_after_a_burst(burst, 240, 1_000, in_place), 1_012, "{burst}");
                assert_eq!(body_after_a_burst(burst, 120, 10, in_place), 17, "{burst}");
            }
        }
    }

    #[test]
    fn bytes_that_wait_and_turn_out_to_be_nothing_cost_nobody_anything() {
        let (mut pace, limits) = (Pace::new(Instant::ZERO), Limits::DEFAULT);
        pace.wait(Waiting::Body);
        for second in 1..=60 {
            pace.tick(Instant::from_millis(second * 1000 - 500), 0, 0);
            pace.body.here(16_000, &limits); // a part of a padded record
            pace.tock(0, &limits);
            pace.tick(Instant::from_millis(second * 1000), 0, 0);
            pace.body.here(0, &limits);
            pace.body.moved(240);
            assert_eq!(pace.input_due(&limits), None, "second {second}");
            pace.tock(0, &limits);
        }
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
