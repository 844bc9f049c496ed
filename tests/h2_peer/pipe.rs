//! In: bytes that one side writes. Out: the same bytes for the other side, in pieces as the dice fall, and never
//! more at once than the pipe holds.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// xorshift64*: every run the same.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// How much of `n` goes at once: often all of it, sometimes a few bytes.
    pub fn part(&mut self, n: usize) -> usize {
        match self.below(8) {
            0 => n.min(1 + self.below(12)),
            1..4 => 1 + self.below(n),
            _ => n,
        }
    }
}

/// One direction.
pub struct Pipe {
    bytes: VecDeque<u8>,
    room: usize,
    /// Nothing more will be written.
    pub ended: bool,
    /// Nobody reads any more: what is written is lost.
    pub broken: bool,
    /// Bytes that were ever written.
    pub total: u64,
    log: Log,
}

/// The last frames that went through, for people.
#[derive(Default)]
struct Log {
    /// Bytes of a preface that are still to be skipped, or of a payload.
    skip: usize,
    head: Vec<u8>,
    frames: VecDeque<String>,
}

impl Log {
    const KEPT: usize = 40;

    fn add(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                (self.skip, bytes) = (self.skip - n, &bytes[n..]);
                continue;
            }
            (bytes, _) = (rest, self.head.push(byte));
            let word =
                |at: usize| self.head.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let len = (word(0) >> 8) as usize;
            // Of a payload the first four bytes are of interest: what is granted, why it is reset.
            if self.head.len() < 9 + len.min(4) {
                continue;
            }
            const KINDS: [&str; 10] = [
                "DATA",
                "HEADERS",
                "PRIORITY",
                "RST_STREAM",
                "SETTINGS",
                "PUSH_PROMISE",
                "PING",
                "GOAWAY",
                "WINDOW_UPDATE",
                "CONTINUATION",
            ];
            let kind = KINDS.get(usize::from(self.head[3])).copied().unwrap_or("?");
            let text = format!("{kind} {:x} stream {} len {len} {}", self.head[4], word(5), word(9));
            if self.frames.len() == Log::KEPT {
                self.frames.pop_front();
            }
            self.frames.push_back(text);
            (self.skip, self.head) = (len - len.min(4), Vec::new());
        }
    }
}

impl Pipe {
    fn new(room: usize, preface: usize) -> Pipe {
        let log = Log { skip: preface, ..Log::default() };
        Pipe { bytes: VecDeque::new(), room, ended: false, broken: false, total: 0, log }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes a part of `bytes`; says how much.
    pub fn write(&mut self, bytes: &[u8], dice: &mut Dice) -> usize {
        if self.broken {
            return bytes.len();
        }
        let n = bytes.len().min(self.room - self.bytes.len());
        let n = if n == 0 { 0 } else { dice.part(n) };
        self.bytes.extend(&bytes[..n]);
        self.log.add(&bytes[..n]);
        self.total += n as u64;
        n
    }

    /// Gives a part of what is there; says how much.
    pub fn read(&mut self, into: &mut [u8], dice: &mut Dice) -> usize {
        let n = into.len().min(self.bytes.len());
        let n = if n == 0 { 0 } else { dice.part(n) };
        let (front, back) = self.bytes.as_slices();
        let cut = front.len().min(n);
        into[..cut].copy_from_slice(&front[..cut]);
        into[cut..n].copy_from_slice(&back[..n - cut]);
        self.bytes.drain(..n);
        n
    }
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pipe { bytes, room, ended, broken, total, log } = self;
        writeln!(f, "{} of {room} bytes, {total} in all, ended {ended}, broken {broken}", bytes.len())?;
        log.frames.iter().try_for_each(|frame| writeln!(f, "    {frame}"))
    }
}

/// Both directions, and the dice that cut what goes through them.
#[derive(Debug)]
pub struct Wire {
    pub up: Pipe,
    pub down: Pipe,
    pub dice: Dice,
}

pub type Shared = Rc<RefCell<Wire>>;

pub fn wire(up: usize, down: usize, dice: Dice) -> Shared {
    Rc::new(RefCell::new(Wire { up: Pipe::new(up, 24), down: Pipe::new(down, 0), dice }))
}

/// The client's end. Whoever waits is polled again in every round, so nothing is woken.
#[derive(Debug)]
pub struct End(pub Shared);

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Wire { down, dice, .. } = &mut *self.0.borrow_mut();
        if down.is_empty() && down.ended {
            return Poll::Ready(Ok(()));
        }
        if down.is_empty() || dice.one_in(8) {
            return Poll::Pending;
        }
        let n = down.read(buf.initialize_unfilled(), dice);
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Wire { up, dice, .. } = &mut *self.0.borrow_mut();
        match up.write(bytes, dice) {
            0 if !bytes.is_empty() => Poll::Pending,
            n => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().up.ended = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        (wire.up.ended, wire.down.broken) = (true, true);
    }
}
