//! In: decoded bytes, one after the other. Out: those bytes, lent, and what lies behind them as far back as a frame may reach.

use alloc::vec::Vec;

use crate::base::Span;

/// What it begins with is at most so much, unless it needs more at once.
const LEAST: usize = 4_096;

/// History that grows with what is decoded, until it is as large as a frame's window and one block; then it wraps.
///
/// A block is decoded whole, then given, then comes the next one: so a block never overwrites what is still to be given, nor
/// what it may look back to.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: Vec<u8>,
    /// What it may grow to.
    most: usize,
    /// Where the next byte goes; the buffer's length while it grows.
    at: usize,
    /// Bytes written in all.
    written: u64,
    /// Bytes given in all.
    given: u64,
}

/// What a history of `need` bytes is given room for, and what it grew from: `most`, or two thirds of that, and so on, so that it is
/// not copied too often and fits `most` in the end. It only depends on `need`, so that it does not matter how the body was cut.
fn room(need: usize, most: usize) -> (usize, usize) {
    let less = |size: usize| if size > LEAST { size - size / 3 } else { 0 };
    let mut now = most;
    while less(now) >= need.max(1) {
        now = less(now);
    }
    (less(now), now)
}

impl Ring {
    /// Another frame: `most` bytes are enough for its window and a block.
    pub(super) fn begin(&mut self, most: usize) {
        self.bytes.clear();
        (self.most, self.at, self.written, self.given) = (most, 0, 0, 0);
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn drop_memory(&mut self) {
        self.bytes = Vec::new();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written in all.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// What it and the copy that it grows from would take, at the most, with `more` bytes in it.
    pub(super) fn charge(&self, more: usize) -> usize {
        let need = usize::try_from(self.written).unwrap_or(usize::MAX).saturating_add(more).min(self.most);
        let (before, now) = room(need, self.most);
        before + now.max(self.bytes.capacity())
    }

    /// Whether `memory` is enough for `more` bytes, and the copy that it grows from.
    #[inline]
    pub(super) fn affords(&self, more: usize, memory: usize) -> bool {
        let need = self.bytes.len().saturating_add(more).min(self.most);
        need <= self.bytes.capacity() || self.charge(more) <= memory
    }

    /// Makes the buffer ready for `n` more bytes; false if there is no memory.
    fn ready(&mut self, n: usize) -> bool {
        let need = self.bytes.len().saturating_add(n).min(self.most);
        if self.bytes.capacity() >= need {
            return true;
        }
        let (_, room) = room(need, self.most);
        self.bytes.try_reserve_exact(room.saturating_sub(self.bytes.len())).is_ok()
    }

    /// Appends bytes; false if there is no memory.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        // While it grows inside what it has.
        let length = self.bytes.len().saturating_add(bytes.len());
        if length <= self.bytes.capacity().min(self.most) && self.bytes.len() < self.most {
            self.bytes.extend_from_slice(bytes);
            self.written = self.written.saturating_add(bytes.len() as u64);
            self.at = length;
            return true;
        }
        self.push_around(bytes)
    }

    /// The same where it must grow, or wraps.
    fn push_around(&mut self, mut bytes: &[u8]) -> bool {
        if !self.ready(bytes.len()) {
            return false;
        }
        self.written = self.written.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let grows = self.most.saturating_sub(self.bytes.len());
            let n = if grows > 0 {
                let n = grows.min(bytes.len());
                self.bytes.extend_from_slice(bytes.get(..n).unwrap_or_default());
                self.at = self.bytes.len();
                n
            } else {
                self.wrap();
                let free = self.bytes.get_mut(self.at..).unwrap_or_default();
                let n = free.len().min(bytes.len());
                if let (Some(to), Some(from)) = (free.get_mut(..n), bytes.get(..n)) {
                    to.copy_from_slice(from);
                }
                self.at += n;
                n
            };
            if n == 0 {
                return false;
            }
            bytes = bytes.get(n..).unwrap_or_default();
        }
        true
    }

    /// Appends one byte `n` times; false if there is no memory.
    pub(super) fn fill(&mut self, byte: u8, mut n: usize) -> bool {
        let few = [byte; 256];
        if !self.ready(n) {
            return false;
        }
        while n > 0 {
            let part = few.get(..n.min(few.len())).unwrap_or_default();
            if !self.push(part) {
                return false;
            }
            n -= part.len();
        }
        true
    }

    fn wrap(&mut self) {
        if self.at >= self.most {
            self.at = 0;
        }
    }

    /// Appends `n` bytes that lie `distance` back, which must be written and still there; false if there is no memory.
    pub(super) fn repeat(&mut self, distance: usize, n: usize) -> bool {
        if self.bytes.len() < self.most && self.bytes.len() + n <= self.most && self.ready(n) {
            // It still grows: bytes lie in order.
            self.written = self.written.saturating_add(n as u64);
            let from = self.bytes.len().wrapping_sub(distance);
            let mut left = n;
            while left > 0 {
                // What was just copied is there to be copied again.
                let part = left.min(self.bytes.len().saturating_sub(from));
                if part == 0 {
                    return false;
                }
                self.bytes.extend_from_within(from..from + part);
                left -= part;
            }
            self.at = self.bytes.len();
            return true;
        }
        self.repeat_around(distance, n)
    }

    #[cold]
    fn repeat_slowly(&mut self, distance: usize, n: usize) -> bool {
        for _ in 0..n {
            let from = if self.at >= distance { self.at - distance } else { self.at + self.bytes.len() - distance };
            let Some(&byte) = self.bytes.get(from) else { return false };
            if !self.push(&[byte]) {
                return false;
            }
        }
        true
    }

    /// The same where it has wrapped, or is about to.
    fn repeat_around(&mut self, distance: usize, mut n: usize) -> bool {
        if self.bytes.len() < self.most {
            let n_before = n.min(self.most - self.bytes.len());
            if !self.ready(n_before) || !self.repeat_slowly(distance, n_before) {
                return false;
            }
            n -= n_before;
        }
        while n > 0 {
            self.wrap();
            let from = if self.at >= distance { self.at - distance } else { self.at + self.most - distance };
            // As far as neither end wraps, nor the source meets what is being written.
            let part = n.min(self.most - self.at).min(self.most.saturating_sub(from)).min(distance);
            if part == 0 || from + part > self.bytes.len() {
                return false;
            }
            self.bytes.copy_within(from..from + part, self.at);
            self.at += part;
            self.written = self.written.saturating_add(part as u64);
            n -= part;
        }
        true
    }

    /// Up to `most` of the bytes that were not given yet, in one piece.
    pub(super) fn give(&mut self, most: usize) -> Span {
        let waiting = self.waiting();
        let start = if self.at >= waiting { self.at - waiting } else { self.at + self.most - waiting };
        let n = waiting.min(most).min(self.bytes.len().saturating_sub(start));
        self.given = self.given.saturating_add(n as u64);
        Span::new(start, start + n)
    }

    /// The last `n` bytes, in two pieces.
    pub(super) fn last(&self, n: usize) -> (&[u8], &[u8]) {
        if self.at >= n {
            return (self.bytes.get(self.at - n..self.at).unwrap_or_default(), &[]);
        }
        let start = self.at + self.most - n;
        (self.bytes.get(start..).unwrap_or_default(), self.bytes.get(..self.at).unwrap_or_default())
    }

    /// Bytes that were not given yet.
    fn waiting(&self) -> usize {
        usize::try_from(self.written.saturating_sub(self.given)).unwrap_or(0)
    }

    /// Forgets the last bytes: those from `written` on, which were not given. What they overwrote is lost, so this is the end.
    pub(super) const fn cut(&mut self, written: u64) {
        self.written = written;
        self.given = written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, with all of it kept.
    fn check(most: usize, window: usize, steps: &[(usize, usize)]) {
        let (mut ring, mut all) = (Ring::default(), Vec::new());
        ring.begin(most);
        for (i, &(distance, n)) in steps.iter().enumerate() {
            let before = all.len();
            if distance == 0 || distance > all.len().min(window) {
                let fresh: Vec<u8> = (0..n).map(|k| (i * 7 + k) as u8).collect();
                assert!(ring.push(&fresh));
                all.extend(fresh);
            } else {
                assert!(ring.repeat(distance, n));
                for _ in 0..n {
                    all.push(all[all.len() - distance]);
                }
            }
            let (a, b) = ring.last(n);
            assert_eq!([a, b].concat(), all[before..], "step {i}");
            let mut got = Vec::new();
            while got.len() < n {
                let span = ring.give(3);
                assert!(!span.is_empty());
                got.extend_from_slice(span.of(ring.bytes()));
            }
            assert_eq!(got, all[before..], "step {i}");
            assert!(ring.bytes().len() <= most && ring.give(9).is_empty());
        }
    }

    #[test]
    fn it_is_what_a_list_of_everything_would_be() {
        let mut seed = 12_345u32;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for _ in 0..300 {
            let (window, block) = (1 + next(60), 1 + next(30));
            let steps: Vec<_> = (0..60).map(|_| (next(window + 2), next(block + 1))).collect();
            check(window + block, window, &steps);
        }
    }

    #[test]
    fn it_grows_with_what_is_in_it_and_room_does_not_depend_on_the_steps() {
        let (mut by_one, mut at_once) = (Ring::default(), Ring::default());
        by_one.begin(1 << 20);
        at_once.begin(1 << 20);
        for _ in 0..30_000 {
            assert!(by_one.push(b"x") && by_one.retained_bytes() <= by_one.charge(0));
        }
        assert!(at_once.fill(b'x', 30_000));
        assert_eq!((by_one.retained_bytes(), by_one.bytes()), (at_once.retained_bytes(), at_once.bytes()));
        assert!(by_one.retained_bytes() <= 45_000 + LEAST, "{}", by_one.retained_bytes());
    }
}
