//! In: the turns of one connection. Out: what they took, on the counts of the thread that took them.

use super::{Probe, Stage, now};
use crate::lane::How;
use std::sync::Arc;
use vestibule::{Event, Id, StageStats, Version};

/// When something of a connection began. Nothing without a probe.
#[derive(Copy, Clone, Debug, Default)]
#[must_use]
pub struct Lap(Option<u64>);

/// What a lane counts: bytes that come and go.
#[derive(Debug)]
pub(crate) struct Tap {
    probe: Arc<Probe>,
    /// In the inbox when the last turn ended.
    left: usize,
    /// In the outbox then.
    unsent: usize,
    blocked: bool,
    how: How,
}

/// How full a driver's two buffers are.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) inbox: usize,
    pub(crate) outbox: usize,
}

impl Tap {
    pub(crate) fn new(probe: Arc<Probe>) -> Tap {
        Tap { probe, left: 0, unsent: 0, blocked: false, how: How::Cut }
    }

    /// A turn begins: what has come since the last one, and what has gone?
    pub(crate) fn turn(&mut self, Ends { inbox, outbox }: Ends) {
        let (came, gone) = (inbox.saturating_sub(self.left) as u64, self.unsent.saturating_sub(outbox) as u64);
        let Some(shard) = self.probe.shard() else { return };
        if came > 0 {
            shard.stage(Stage::Read, 0, came, 1);
            shard.reads.record(came);
        }
        if gone > 0 {
            shard.stage(Stage::Write, 0, gone, 1);
        }
    }

    /// It ends; `blocked`: nothing goes on before the peer takes some.
    pub(crate) fn turned(&mut self, Ends { inbox, outbox }: Ends, blocked: bool) {
        (self.left, self.unsent) = (inbox, outbox);
        if self.blocked != blocked {
            self.blocked = blocked;
            self.probe.blocks(blocked);
        }
    }

    pub(crate) fn lap(tap: Option<&Tap>) -> Lap {
        Lap(tap.map(|_| now()))
    }

    /// The driver spent that time on a stage.
    pub(crate) fn lapped(&self, stage: Stage, Lap(since): Lap) {
        if let (Some(since), Some(shard)) = (since, self.probe.shard()) {
            shard.stage(stage, now().saturating_sub(since), 0, 0);
        }
    }

    pub(crate) fn over(&mut self, how: How) {
        self.how = how;
        if how == How::Closed {
            self.turn(Ends { inbox: self.left, outbox: 0 }); // its last bytes were taken
            self.unsent = 0;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.blocked {
            self.probe.blocks(false);
        }
        let place = match self.how {
            How::Closed => 0,
            How::Reset => 1,
            How::Cut => 2,
        };
        if let Some(count) = self.probe.shard().and_then(|shard| shard.ended.get(place)) {
            super::add(count, 1);
        }
    }
}

/// So many requests of a connection have their beginning remembered; those beyond have no duration.
const REMEMBERED: usize = 256;

/// What a machine and its service count: time.
#[derive(Debug)]
pub(crate) struct Watch {
    probe: Arc<Probe>,
    /// When this turn began.
    since: u64,
    /// What the service and jobs took of it.
    others: u64,
    /// Requests that are not answered yet, and when they came.
    begun: Vec<(Id, u64)>,
    /// What the stages of the machine had done by the last turn.
    last: StageStats,
}

impl Watch {
    pub(crate) fn new(probe: Arc<Probe>) -> Watch {
        Watch { probe, since: 0, others: 0, begun: Vec::new(), last: StageStats::default() }
    }

    pub(crate) fn turn(&mut self) {
        (self.since, self.others) = (now(), 0);
    }

    /// The turn is over. What neither the service nor a stage of the machine took is the machine's own.
    pub(crate) fn turned(&mut self, machine: Option<StageStats>) {
        let took = now().saturating_sub(self.since);
        let Some(shard) = self.probe.shard() else { return };
        shard.turns.record(took);
        let known = machine.map_or(0, |machine| self.probe.machine_stages(&mut self.last, machine));
        let rest = took.saturating_sub(self.others).saturating_sub(known);
        shard.stage(Stage::Machine, rest, 0, 1);
    }

    /// An event has come.
    pub(crate) fn begins(&mut self, event: &Event<'_>) {
        match event {
            Event::Request(request) => {
                let version = usize::from(request.head.version == Version::Http2);
                if let Some(count) = self.probe.shard().and_then(|shard| shard.requests.get(version)) {
                    super::add(count, 1);
                }
                if self.begun.len() < REMEMBERED {
                    self.begun.push((request.reply.id(), now()));
                }
            }
            Event::Aborted { id, why, .. } => {
                self.begun.retain(|begun| begun.0 != *id);
                why.iter().for_each(|violation| self.probe.fault(violation));
            }
            Event::Fault(violation) => self.probe.fault(violation),
            _ => {}
        }
    }

    /// The service had an event, with so many bytes.
    pub(crate) fn served(&mut self, since: u64, bytes: usize) {
        let took = now().saturating_sub(since);
        self.others = self.others.saturating_add(took);
        if let Some(shard) = self.probe.shard() {
            shard.services.record(took);
            shard.stage(Stage::Process, took, bytes as u64, 1);
        }
    }

    /// A job was run in this turn.
    pub(crate) fn decoded(&mut self, since: u64) {
        self.others = self.others.saturating_add(now().saturating_sub(since));
        self.probe.took(Stage::Decode, since, 0, 1);
    }

    /// Requests whose answer is not known to be complete, by place.
    pub(crate) fn under_way(&self, place: usize) -> Option<Id> {
        self.begun.get(place).map(|begun| begun.0)
    }

    /// The answer of a request is complete: how long that took.
    pub(crate) fn answered(&mut self, id: Id) -> Option<u64> {
        let place = self.begun.iter().position(|begun| begun.0 == id)?;
        let took = now().saturating_sub(self.begun.swap_remove(place).1);
        self.probe.shard()?.durations.record(took);
        Some(took)
    }

    /// A request was turned away because a pool is full.
    pub(crate) fn refused(&self) {
        self.probe.refused();
    }
}

impl Probe {
    /// What a connection's machine did since the last time, stage by stage, and what it answered; says how long that took in all.
    pub(crate) fn machine_stages(&self, last: &mut StageStats, machine: StageStats) -> u64 {
        let before = std::mem::replace(last, machine);
        let Some(shard) = self.shard() else { return 0 };
        let mut sum = 0;
        for (stage, now, before) in [
            (Stage::Decrypt, machine.decrypt, before.decrypt),
            (Stage::Parse, machine.parse, before.parse),
            (Stage::Decode, machine.decode, before.decode),
        ] {
            let nanos = now.ticks.saturating_sub(before.ticks);
            let (bytes, count) = (now.bytes.saturating_sub(before.bytes), now.count.saturating_sub(before.count));
            shard.stage(stage, nanos, bytes, count);
            sum += nanos;
        }
        for ((cell, now), before) in shard.responses.iter().zip(machine.responses).zip(before.responses) {
            super::add(cell, now.saturating_sub(before));
        }
        sum
    }
}
