//! HTTP/2 on the road: what time does to its streams, how its connections end, and what they take at most.

use crate::base::{Instant, Limit, Rule, Violation};
use crate::connection::{Core, End, Engine};
use crate::decode::coding::Decoder;
use crate::event::Raw;
use crate::h2_body::SPARE;
use crate::h2_road::{H2, Intake};
use crate::parse::Id;
use crate::parse::h2::{NO_ERROR, PROGRESS, Sending, Stream, Streams, kind, put, put_goaway};
use crate::read::{Deadline, Why, most_earned};
use crate::reply::Exchanges;
use crate::turn::{Pause, Step, Turn, Wait};

/// How long a client may take to see that we want to leave.
const GOODBYE_MS: u64 = 1_000;
/// What a client has at least for its acknowledgement once we read again.
const RESUME_MS: u64 = 1_000;
/// What our PING carries then.
const GOODBYE: &[u8; 8] = b"goodbye!";

/// How far the farewell has come (RFC 9113 §6.8).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Goodbye {
    No,
    /// GOAWAY naming no stream, and a PING, are out: until the PING is answered, or so long, new streams are served.
    Said {
        until: Instant,
    },
    Final,
}

impl Core {
    /// There was no room, and so nothing was read: that time is not the peer's.
    pub(crate) fn h2_resume(&mut self) {
        let now = self.pace.now;
        self.no_room = false;
        let Some((h2, streams)) = self.h2() else { return };
        if let Some(at) = &mut h2.receiver.ack_due {
            *at = (*at).max(now.after_millis(RESUME_MS));
        }
        streams.restart_clocks(now);
    }

    /// When some stream, our settings or our farewell are due.
    pub(crate) fn h2_deadline(&self) -> Option<Deadline> {
        if self.no_room {
            return None; // nothing would be read then
        }
        let (Engine::H2(h2), Exchanges::H2(streams)) = (&self.engine, &self.exchanges) else { return None };
        let said = if let Goodbye::Said { until } = h2.goodbye { Some(until) } else { None };
        let all = [(streams.look_at, Why::Stream), (h2.receiver.ack_due, Why::Settings), (said, Why::Goodbye)];
        let due = all.into_iter().filter_map(|(at, why)| Some(Deadline { at: at?, why }));
        due.min_by_key(|d| d.at)
    }
}

impl Turn<'_> {
    // ---- time ----

    /// There is nothing left to do, and nothing more to read: who was too slow?
    pub(crate) fn judge_h2(&mut self) -> Option<Step> {
        let now = self.core.pace.now;
        let (h2, streams) = self.core.h2()?;
        if h2.receiver.ack_due.is_some_and(|at| at <= now) {
            h2.receiver.ack_due = None;
            let violation = self.violation(Rule::SettingsTimeout);
            self.core.fail(violation);
            return Some(Step::Again);
        }
        if streams.look_at.is_some_and(|at| at <= now) {
            return Some(self.look());
        }
        None
    }

    /// Some stream may have been too slow: the first that was is given up.
    fn look(&mut self) -> Step {
        let (limits, now) = (self.config.limits(), self.core.pace.now);
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        streams.look_at = None;
        if streams.is_empty() {
            h2.shed(true); // nothing has happened for a while: what a crowd needed goes back (M-12)
            streams.shed();
            self.core.shed_coders();
            return Step::Again;
        }
        let blocked = streams.ledger.connection().open() == 0;
        let mut next: Option<Instant> = None;
        let mut found = None;
        for i in 0..streams.len() {
            let Some(slot) = streams.nth(i) else { break };
            let closed = streams.wire.window <= 0;
            let Some(stream) = streams.by_slot(slot) else { break };
            watch_stall(stream, closed, now);
            if blocked || stream.account.open() == 0 {
                (stream.since, stream.base) = (now, stream.arrived);
            }
            let dues = [
                (body_due(stream, limits), Rule::BodyTooSlow),
                (stream.stalled.map(|s| s.0.after_millis(limits.get(Limit::StallMs))), Rule::Stalled),
            ];
            for (due, rule) in dues {
                match due {
                    Some(at) if at <= now => found = found.or(Some((stream.number, rule))),
                    Some(at) => next = Some(next.map_or(at, |n| n.min(at))),
                    None => {}
                }
            }
        }
        streams.look_at = if found.is_some() { Some(now) } else { next };
        let Some((number, rule)) = found else { return Step::Again };
        let rule = match rule {
            Rule::Stalled => {
                streams.stalls += 1;
                if streams.stalls > 2 { Rule::StallFlood } else { rule }
            }
            rule => rule,
        };
        let violation = self.violation(rule);
        if rule == Rule::StallFlood {
            self.core.fail(violation);
            return Step::Again;
        }
        self.give_up(number, violation.h2_code(), Some(violation))
    }

    /// The connection is idle, or its preface or a head does not come.
    pub(crate) fn timed_out_h2(&mut self, why: Why) -> bool {
        let Some((h2, _)) = self.core.h2() else { return false };
        if why != Why::Idle {
            return false;
        }
        h2.idle = true;
        self.core.draining = true;
        self.core.pace.pause();
        true
    }

    // ---- the end ----

    /// RFC 9113 §6.8: first a GOAWAY that names no stream, then, once the peer has seen it, one that names the last.
    pub(crate) fn say_goodbye_h2(&mut self) -> Option<Step> {
        let now = self.core.pace.now;
        let draining = self.core.draining;
        let (h2, streams) = self.core.h2()?;
        if !draining {
            let tired = h2.receiver.guard.is_tired();
            self.core.draining = tired;
            return tired.then_some(Step::Again);
        }
        match h2.goodbye {
            Goodbye::No if h2.receiver.is_settled() => {
                put_goaway(&mut self.outbox, 0x7fff_ffff, NO_ERROR, "");
                put(&mut self.outbox, kind::PING, 0, 0, &[GOODBYE]);
                h2.goodbye = Goodbye::Said { until: now.after_millis(GOODBYE_MS) };
                Some(Step::Again)
            }
            Goodbye::Said { until } if until > now => None,
            Goodbye::Final => {
                let over = streams.is_empty() && (!h2.receiver.is_inside() || !h2.receiver.is_settled());
                let end = if h2.idle { End::Idle } else { End::Ours };
                over.then(|| {
                    self.core.close(end);
                    Step::Again
                })
            }
            // Nobody there who would have to be told twice, or who was told.
            Goodbye::No | Goodbye::Said { .. } => {
                streams.last_served = streams.last;
                put_goaway(&mut self.outbox, streams.last, NO_ERROR, "");
                h2.goodbye = Goodbye::Final;
                Some(Step::Again)
            }
        }
    }

    /// The peer sends no more: requests that are complete are answered, the others are over.
    pub(crate) fn ended_h2(&mut self, quiet: End) -> Step {
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        let closed = streams.wire.window <= 0; // nobody can open it any more
        let cut = |s: &Stream| s.is_owed_content() || (s.is_waiting() && (closed || !s.ready)) || s.shared.aborted;
        let over = streams.iter().find(|(_, s)| cut(s)).map(|(_, s)| s.number);
        if let Some(number) = over {
            return self.forget(number, None);
        }
        if h2.jobs > 0 {
            return Step::Pause(Pause::Caller(Wait::Job));
        }
        let first = streams.iter().next();
        if let Some((_, stream)) = first {
            return Step::Pause(Pause::Caller(Wait::Reply(Id(stream.shared.id))));
        }
        self.core.close(quiet);
        Step::Again
    }

    /// The connection is over: every exchange hears of it, the peer gets one GOAWAY with the code of the rule.
    pub(crate) fn fault_h2(&mut self, violation: Violation) -> Step {
        let (limits, now) = (self.config.limits(), self.core.pace.now);
        let Some((h2, streams)) = self.core.h2() else { return Step::Again };
        h2.loan = None;
        let open = streams.iter().next().map(|(_, s)| s.number);
        if let Some(number) = open {
            return match self.forget(number, Some(violation)) {
                Step::Pause(_) => Step::Again,
                step => step,
            };
        }
        let silent = violation.rule == Rule::ReaderTooSlow;
        let by_tls = violation.alert() != 0 || matches!(violation.rule, Rule::TlsPeerAlert | Rule::TlsTruncated);
        if !silent && !by_tls {
            h2.receiver.greet(limits, now, &mut self.outbox);
            put_goaway(&mut self.outbox, streams.last.min(streams.last_served), violation.h2_code(), violation.text());
        }
        self.core.close(End::Ours);
        if silent {
            self.outbox.clear();
            self.core.life = crate::connection::Life::Closed;
        }
        Step::Event(Raw::Fault(violation))
    }
}

/// A stream's body must have come by then, at the least rate (TIM-02).
pub(crate) fn body_due(stream: &Stream, limits: &crate::Limits) -> Option<Instant> {
    // Both sides may take their time while the response is under way, or a tunnel is open.
    let duplex = matches!(stream.sending, Sending::Open { .. } | Sending::Tunnel);
    let quiet = !stream.is_owed_content() || duplex || (stream.is_connect && !stream.ending);
    let seconds = (stream.arrived - stream.base) / limits.get(Limit::MinRate) + 1;
    let millis = seconds.saturating_mul(1_000).max(limits.get(Limit::RateGraceMs));
    (!quiet).then(|| stream.since.after_millis(millis))
}

/// Content came: what it earned too far ahead is forgotten.
pub(crate) fn cap_credit(stream: &mut Stream, limits: &crate::Limits, now: Instant) {
    let waited = u64::try_from(now.since(stream.since).as_nanos()).unwrap_or(u64::MAX);
    stream.base = stream.base.max(stream.arrived.saturating_sub(most_earned(waited, limits)));
}

/// A stream waits for a window, or no longer: only 1 KiB of progress counts (TIM-04). `closed`: the connection's is.
pub(crate) fn watch_stall(stream: &mut Stream, closed: bool, now: Instant) {
    if !stream.is_waiting() {
        stream.stalled = None;
    } else if stream.stalled.is_none_or(|(_, sent)| sent >= PROGRESS) {
        stream.stalled = (closed || stream.window <= 0).then_some((now, 0));
    }
}

/// A stream with a body has a clock.
pub(crate) fn arm(streams: &mut Streams, limits: &crate::Limits) {
    let Some(due) = streams.iter().last().and_then(|(_, s)| body_due(s, limits)) else { return };
    streams.look_at = Some(streams.look_at.map_or(due, |at| at.min(due)));
}

/// What HTTP/2 can take at most beside gathered bodies and decoders: content that is kept (and the copy while it grows), heads,
/// streams, tables, parked answers.
pub(crate) fn bound_bytes(limits: &crate::Limits) -> usize {
    let streams = limits.size(Limit::ConcurrentStreams) + 1;
    let stream = size_of::<Stream>()
        + size_of::<Intake>()
        + size_of::<Decoder>()
        + 16
        + 1_024
        + 2 * limits.size(Limit::TrailerBytes);
    let kept = limits.size(Limit::ConnectionWindowBytes);
    let gathers = streams * limits.size(Limit::GatherBytes).min(4_096); // each of them grows by 4 KiB at least
    let heads = 4 * limits.size(Limit::HeaderBlockBytes) + 2 * limits.size(Limit::FieldSectionBytes);
    let tables = 4 * (limits.size(Limit::HeaderTableBytes) + 4_096) + limits.size(Limit::ResponseHeadBytes);
    size_of::<H2>() + size_of::<Streams>() + 2 * streams * stream + 5 * kept / 2 + heads + tables + SPARE + gathers
}
