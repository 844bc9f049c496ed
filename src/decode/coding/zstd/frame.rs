//! In: the bytes of a frame's head, and of a block's. Out: what they announce, judged as soon as it is said (RFC 8878 §3.1.1).

use crate::base::{Limit, Limits, Rule, Violation};

/// A Zstandard frame begins so. Skippable frames begin otherwise: they have no content, and a request has no use for them.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What the head of a frame announced.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Frame {
    /// How far its content looks back.
    pub(super) window: usize,
    /// How long its content is, if it says so.
    pub(super) length: Option<u64>,
    pub(super) has_checksum: bool,
}

#[derive(Copy, Clone, Debug)]
enum Field {
    Magic(u8),
    Descriptor,
    Window,
    /// So many bytes of it are to come.
    Dictionary(u8),
    /// The byte that comes, and how many there are.
    Length(u8, u8),
}

/// The head of a frame, read byte by byte.
///
/// ```text
/// magic×4 │ descriptor │ window │ dictionary×0..4 │ length of the content×0..8 │ blocks
///                       └ unless its content is one segment
/// ```
#[derive(Copy, Clone, Debug)]
pub(super) struct Head {
    field: Field,
    descriptor: u8,
    window: u64,
    length: u64,
}

impl Head {
    pub(super) const fn new() -> Head {
        Head { field: Field::Magic(0), descriptor: 0, window: 0, length: 0 }
    }

    /// Takes bytes that lie at `at` in the body. Says how many belonged to the head, and what it announced once it is complete.
    pub(super) fn push(&mut self, input: &[u8], at: u64, limits: &Limits) -> Result<(usize, Option<Frame>), Violation> {
        for (i, &byte) in input.iter().enumerate() {
            if let Some(frame) = self.byte(byte, at.saturating_add(i as u64), limits)? {
                return Ok((i + 1, Some(frame)));
            }
        }
        Ok((input.len(), None))
    }

    fn byte(&mut self, byte: u8, at: u64, limits: &Limits) -> Result<Option<Frame>, Violation> {
        let wrong = Violation::new(Rule::ZstdHeader, at);
        match self.field {
            Field::Magic(n) => {
                if MAGIC.get(usize::from(n)) != Some(&byte) {
                    return Err(wrong);
                }
                self.field = if n < 3 { Field::Magic(n + 1) } else { Field::Descriptor };
            }
            // The reserved bit could announce something that we would take for data.
            Field::Descriptor if byte & 0x08 != 0 => return Err(wrong),
            Field::Descriptor => {
                self.descriptor = byte;
                self.field = Field::Window;
                if self.is_one_segment() {
                    return self.behind_window(at, limits);
                }
            }
            Field::Window => {
                let base = 1u64 << (10 + (byte >> 3));
                self.window = base + base / 8 * u64::from(byte & 7);
                self.judge(at, limits)?;
                return self.behind_window(at, limits);
            }
            // Nought is no dictionary, any other one nobody has agreed on.
            Field::Dictionary(_) if byte != 0 => return Err(Violation::new(Rule::ZstdDictionary, at)),
            Field::Dictionary(1) => return self.behind_dictionary(at, limits),
            Field::Dictionary(left) => self.field = Field::Dictionary(left.saturating_sub(1)),
            Field::Length(n, of) => {
                self.length |= u64::from(byte) << (8 * (n & 7));
                if n + 1 < of {
                    self.field = Field::Length(n + 1, of);
                } else {
                    self.length = self.length.saturating_add(if of == 2 { 256 } else { 0 });
                    return self.complete(Some(self.length), at, limits);
                }
            }
        }
        Ok(None)
    }

    const fn is_one_segment(&self) -> bool {
        self.descriptor & 0x20 != 0
    }

    fn behind_window(&mut self, at: u64, limits: &Limits) -> Result<Option<Frame>, Violation> {
        match self.descriptor & 3 {
            0 => self.behind_dictionary(at, limits),
            3 => {
                self.field = Field::Dictionary(4);
                Ok(None)
            }
            n => {
                self.field = Field::Dictionary(n);
                Ok(None)
            }
        }
    }

    fn behind_dictionary(&mut self, at: u64, limits: &Limits) -> Result<Option<Frame>, Violation> {
        let length = match self.descriptor >> 6 {
            0 if !self.is_one_segment() => return self.complete(None, at, limits),
            n => 1 << n,
        };
        self.field = Field::Length(0, length);
        Ok(None)
    }

    fn complete(&mut self, length: Option<u64>, at: u64, limits: &Limits) -> Result<Option<Frame>, Violation> {
        if self.is_one_segment() {
            self.window = self.length;
            self.judge(at, limits)?;
        }
        let window = usize::try_from(self.window).unwrap_or(usize::MAX);
        Ok(Some(Frame { window, length, has_checksum: self.descriptor & 4 != 0 }))
    }

    fn judge(&self, at: u64, limits: &Limits) -> Result<(), Violation> {
        match self.window > limits.get(Limit::ZstdWindowBytes) {
            true => Err(Violation::over(Rule::ZstdWindow, at, limits)),
            false => Ok(()),
        }
    }
}

/// What a block is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Raw,
    Repeated,
    Compressed,
    /// None that there is.
    Reserved,
}

/// The three bytes in front of a block, low byte first: whether it is the last one, its kind, its size.
#[derive(Copy, Clone, Debug)]
pub(super) struct BlockHead {
    pub(super) came: u8,
    word: u32,
}

impl BlockHead {
    pub(super) const fn new() -> BlockHead {
        BlockHead { came: 0, word: 0 }
    }

    /// Takes bytes. Says how many belonged to it, and what it announced once it is complete.
    pub(super) fn push(&mut self, input: &[u8]) -> (usize, Option<(Kind, usize, bool)>) {
        for (i, &byte) in input.iter().enumerate() {
            self.word |= u32::from(byte) << (8 * u32::from(self.came & 3));
            self.came += 1;
            if self.came == 3 {
                let kind = match self.word >> 1 & 3 {
                    0 => Kind::Raw,
                    1 => Kind::Repeated,
                    2 => Kind::Compressed,
                    _ => Kind::Reserved,
                };
                return (i + 1, Some((kind, (self.word >> 3) as usize, self.word & 1 == 1)));
            }
        }
        (input.len(), None)
    }
}
