//! In: where something lies. Out: the bytes there, once somebody who holds the buffer is asked.

/// A place inside a buffer, without a lifetime: what the stages hand to each other. Only `turn` makes borrows of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span `start..end`; `start` if it would end before it begins.
    pub const fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: if end < start { start as u32 } else { end as u32 } }
    }

    /// Bytes covered.
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Nothing covered.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes, or nothing when the span does not fit the buffer (which would be a bug of ours, never a panic of yours).
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}
