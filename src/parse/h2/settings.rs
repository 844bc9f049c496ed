//! In: what each side wants of the other. Out: SETTINGS, ours and theirs (RFC 9113 §3.4, §6.5; RFC 8441 §3; RFC 9218 §2.1).
//! A part of `receive`.

use super::frame::{self, LEAST_FRAME, flag, kind, setting};
use super::receive::{Item, Receiver, Stage, Step};
use super::streams::MOST_WINDOW;
use crate::base::{Instant, Limit, Limits, Rule, Sink};

/// What a peer's table may hold before it has heard of our setting (RFC 9113 §6.5.2).
pub(super) const INITIAL_TABLE: u32 = 4_096;

pub(super) fn table_bytes(limits: &Limits) -> u32 {
    u32::try_from(limits.get(Limit::HeaderTableBytes)).unwrap_or(u32::MAX)
}

impl Receiver {
    /// Our side of the preface: SETTINGS, and the rest of the connection's window (RFC 9113 §3.4, §6.9.2). False: no room yet.
    pub(crate) fn greet(&mut self, limits: &Limits, now: Instant, out: &mut impl Sink) -> bool {
        if self.greeted {
            return true;
        }
        let value = |limit| u32::try_from(limits.get(limit)).unwrap_or(u32::MAX);
        let table = table_bytes(limits);
        let entries = frame::settings([
            (setting::MAX_CONCURRENT_STREAMS, value(Limit::ConcurrentStreams)),
            (setting::INITIAL_WINDOW_SIZE, value(Limit::StreamWindowBytes)),
            (setting::MAX_HEADER_LIST_SIZE, value(Limit::FieldSectionBytes)),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
            (setting::NO_RFC7540_PRIORITIES, 1),
            (setting::HEADER_TABLE_SIZE, table),
        ]);
        let all = entries.as_flattened();
        let payload = if table == INITIAL_TABLE { all.get(..30).unwrap_or(all) } else { all };
        let window = value(Limit::ConnectionWindowBytes).saturating_sub(65_535);
        if out.room() < 64 || !frame::put(out, kind::SETTINGS, 0, 0, &[payload]) {
            return false;
        }
        if window > 0 {
            frame::put_window_update(out, 0, window);
        }
        self.greeted = true;
        self.ack_due = Some(now.after_millis(limits.get(Limit::SettingsAckMs)));
        true
    }
}

impl<S: Sink> Step<'_, S> {
    pub(super) fn settings(
        &mut self,
        plain: &[u8],
        mut left: u32,
        mut window: Option<(u32, u32)>,
    ) -> Result<Item, Rule> {
        let (entries, _) = plain.as_chunks::<6>();
        let mut len = 0;
        for bytes in entries.iter().take((left / 6) as usize) {
            self.setting(frame::entry(bytes), &mut window)?;
            (len, left) = (len + 6, left - 6);
        }
        self.r.stage = Stage::Settings { left, window };
        if left > 0 {
            return Ok(if len == 0 { Item::Need { want: 6 - plain.len() } } else { Item::Skip { len } });
        }
        // The difference reaches every stream once a frame, whatever it said in between (H2-16).
        if let Some((size, most)) = window
            && !self.streams.initial_window(size, most)
        {
            return Err(Rule::SettingsWindow);
        }
        frame::put(self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        self.r.settled = true;
        self.r.stage = Stage::Header;
        Ok(Item::Skip { len })
    }

    fn setting(&mut self, (name, value): (u16, u32), window: &mut Option<(u32, u32)>) -> Result<(), Rule> {
        let is_bool = value <= 1;
        match name {
            setting::HEADER_TABLE_SIZE => self.streams.wire.encoder.limit(value),
            setting::ENABLE_PUSH | setting::ENABLE_CONNECT_PROTOCOL | setting::NO_RFC7540_PRIORITIES if !is_bool => {
                return Err(Rule::SettingsSyntax);
            }
            setting::NO_RFC7540_PRIORITIES => self.r.no_priorities = value == 1,
            setting::INITIAL_WINDOW_SIZE if i64::from(value) > MOST_WINDOW => return Err(Rule::SettingsWindow),
            setting::INITIAL_WINDOW_SIZE => *window = Some((value, window.map_or(value, |w| w.1.max(value)))),
            setting::MAX_FRAME_SIZE if !(LEAST_FRAME..=0xff_ffff).contains(&value) => return Err(Rule::SettingsSyntax),
            _ => {} // RFC 9113 §6.5.2: unknown ones are ignored; we push nothing, and never send longer frames than all take
        }
        Ok(())
    }
}
