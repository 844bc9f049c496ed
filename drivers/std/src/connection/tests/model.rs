//! In: what the peer says, and a seed. Out: a socket that does what a kernel may do: short reads and writes, interruptions, buffers that
//! are full or empty for a while, readiness that is told once, late or in vain, hang-ups and resets.

use crate::wire::Wire;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};

/// What becomes of a certain write, and of those behind it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    WriteOfNothing,
    Blocked,
}

#[derive(Default)]
pub(super) struct Model {
    /// What the peer has still to say; the first `arrived` bytes of it can be read.
    input: VecDeque<u8>,
    arrived: usize,
    /// So much can be written.
    room: usize,
    pub(super) output: Vec<u8>,
    seed: u64,
    pub(super) calls: u32,
    pub(super) writes: u32,
    pub(super) blocked_writes: u32,
    /// It said that it takes nothing, and has not said since that it does.
    full: bool,
    /// To be told: an edge each.
    tell_readable: bool,
    tell_writable: bool,
    /// The peer's end has arrived; it has been read.
    end: bool,
    ended: bool,
    trouble: Option<(u32, Trouble)>,
    /// The call that finds the connection reset.
    pub(super) reset_at: Option<u32>,
    /// The peer does not end when all is said.
    pub(super) stays: bool,
    pub(super) half_closed: bool,
    /// Read after our side was closed.
    pub(super) read_behind: usize,
}

impl Model {
    /// Seed 0: everything at once, and never a hitch.
    pub(super) fn new(input: &[u8], seed: u64) -> Model {
        let (input, seed) = (input.iter().copied().collect(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Model { input, seed, room: if seed == 0 { usize::MAX } else { 10_000 }, ..Model::default() }
    }

    pub(super) fn trouble_at(&mut self, write: u32, trouble: Trouble) {
        self.trouble = Some((write, trouble));
    }

    fn is_smooth(&self) -> bool {
        self.seed == 0
    }

    /// xorshift: the same seed, the same socket.
    fn draw(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below as u64) as usize
    }

    fn happens(&mut self, one_in: usize) -> bool {
        !self.is_smooth() && self.draw(one_in) == 0
    }

    fn is_stuck(&self) -> bool {
        matches!(self.trouble, Some((at, Trouble::Blocked)) if self.writes >= at)
    }

    /// What the kernel tells next: readable, writable, hung up, reset. Nothing at all: it has nothing to tell any more.
    pub(super) fn wait(&mut self) -> [bool; 4] {
        loop {
            self.pass();
            if self.happens(8) {
                return [true, false, self.end, false]; // in vain, perhaps
            }
            if self.happens(3) {
                continue; // later
            }
            let told = [std::mem::take(&mut self.tell_readable), std::mem::take(&mut self.tell_writable)];
            self.full &= !told[1];
            let more = self.arrived < self.input.len() || !self.end && !self.stays || self.full && !self.is_stuck();
            if told != [false; 2] {
                return [told[0], told[1], self.end, false];
            }
            if !more {
                return [false; 4];
            }
        }
    }

    /// Time passes: something arrives, something is sent.
    fn pass(&mut self) {
        let left = self.input.len() - self.arrived;
        let comes = if self.is_smooth() { left } else { self.draw(20_000).min(left) };
        self.arrived += comes;
        let ends = comes == left && !self.stays && !self.end;
        self.end |= ends;
        self.tell_readable |= comes > 0 || ends;
        if self.full && !self.is_stuck() && !self.happens(2) {
            self.room = if self.is_smooth() { usize::MAX } else { self.room + 1 + self.draw(30_000) };
            self.tell_writable = true;
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.reset_at.is_some_and(|at| self.calls > at) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if self.happens(8) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn blocks(&mut self) -> io::Result<usize> {
        (self.blocked_writes, self.full) = (self.blocked_writes + 1, true);
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Wire for Model {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty() && !self.ended);
        self.begin()?;
        // Never less than there is: a short read means that the socket is empty.
        let n = into.len().min(self.arrived);
        if n == 0 {
            self.ended = self.end;
            return if self.end { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        self.arrived -= n;
        for (to, byte) in into.iter_mut().zip(self.input.drain(..n)) {
            *to = byte;
        }
        self.read_behind += if self.half_closed { n } else { 0 };
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty() && !self.half_closed);
        assert!(!self.full, "a second call though the first one found no room");
        self.begin()?;
        if self.is_stuck() || self.room == 0 {
            return self.blocks();
        }
        self.writes += 1;
        if matches!(self.trouble, Some((at, Trouble::WriteOfNothing)) if self.writes > at) {
            return Ok(0);
        }
        let mut n = bytes.len().min(self.room);
        if !self.is_smooth() {
            n = n.min(1 + self.draw(5000));
            self.room -= n;
        }
        self.output.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn half_close(&mut self) {
        assert!(!self.half_closed, "once");
        self.half_closed = true;
    }
}
