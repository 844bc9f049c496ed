//! In: a message in any pieces. Out: one field, part or end after the other, pulled by the caller. No recursion: what is open is
//! a stack of ends.

use super::{Field, Packed, Value};
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::text::Utf8;

/// Messages that can be open at once: what [`Limit::ProtobufDepth`] can be at most.
const LEVELS: usize = 256;

/// What comes out of a [`Reader`].
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Item<'p> {
    /// A field, or an element of a packed one. Of content with a length only that is known: say what is to become of it, or it is
    /// skipped.
    Field(Field<u32>),
    /// Some of the content that was asked for, as it lies in the piece; never empty.
    Part(&'p [u8]),
    /// What was asked for ends: content, a packed field, or an entered message.
    End,
}

/// What is being read.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Phase {
    Tag,
    Varint,
    Fixed,
    Length,
    /// A length was told; what becomes of the content is for the caller to say.
    Choice,
    Skip,
    Bytes,
    Text,
    Packed(Packed),
}

/// Reads the fields of a message that comes in any pieces. About 1.2 KiB, no allocation.
///
/// [`Reader::next`] takes bytes from the front of the piece until it has something to tell; `None` asks for the next piece, or for
/// [`Reader::finish`]. However the message is cut, the items are the same (parts joined), and so are an error and its offset:
/// that of the first byte that cannot be right, or of the length, tag or element that goes beyond something.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::protobuf::{Item, Reader};
///
/// // 1: "hi", 2: { 1: 150 }
/// let (mut name, mut count) = (Vec::new(), 0);
/// let mut reader = Reader::new(&Limits::DEFAULT);
/// for mut piece in [&b"\x0a\x02h"[..], b"i\x12\x03\x08", b"\x96\x01"] {
///     while let Some(item) = reader.next(&mut piece)? {
///         match item {
///             Item::Field(field) if reader.depth() == 0 => match field.number {
///                 1 => reader.text(),
///                 2 => reader.enter()?,
///                 _ => {} // skipped
///             },
///             Item::Field(field) => count = field.value.int32().unwrap_or(count),
///             Item::Part(bytes) => name.extend_from_slice(bytes),
///             Item::End => {}
///         }
///     }
/// }
/// reader.finish()?;
/// assert_eq!((&name[..], count), (&b"hi"[..], 150));
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    phase: Phase,
    /// Bytes of the number that is being read, and what they say so far.
    got: u8,
    value: u64,
    /// How many there are of a fixed one.
    size: u8,
    number: u32,
    /// Bytes taken, and where the number or the content began.
    at: u64,
    mark: u64,
    /// Where the content of the field ends.
    content: u64,
    /// Where the innermost message ends; for one of unknown length, where it has to.
    end: u64,
    is_sized: bool,
    elements: u64,
    depth: u16,
    utf8: Utf8,
    failed: Option<Violation>,
    depth_max: u16,
    bytes_max: u64,
    elements_max: u64,
    /// The ends of the messages around the innermost one. No message is so long that 32 bits would not do.
    around: [u32; LEVELS],
}

impl Reader {
    /// For a message whose length will be known at its end.
    pub fn new(limits: &Limits) -> Reader {
        let bytes_max = limits.get(Limit::ProtobufMessageBytes);
        Reader {
            phase: Phase::Tag,
            got: 0,
            value: 0,
            size: 0,
            number: 0,
            at: 0,
            mark: 0,
            content: 0,
            end: bytes_max,
            is_sized: false,
            elements: 0,
            depth: 0,
            utf8: Utf8::new(),
            failed: None,
            depth_max: limits.get(Limit::ProtobufDepth).min(LEVELS as u64) as u16,
            bytes_max,
            elements_max: limits.get(Limit::ProtobufElements),
            around: [0; LEVELS],
        }
    }

    /// For a message of that length: what goes beyond it is found at once, and bytes behind it are left in the piece. If it is
    /// longer than [`Limit::ProtobufMessageBytes`], the first call of [`Reader::next`] says so.
    pub fn sized(len: u64, limits: &Limits) -> Reader {
        let mut reader = Reader::new(limits);
        reader.reset(Some(len));
        reader
    }

    /// The same for another message, of that length if it is known.
    pub fn reset(&mut self, len: Option<u64>) {
        (self.phase, self.got) = (Phase::Tag, 0);
        (self.at, self.depth, self.elements) = (0, 0, 0);
        self.is_sized = len.is_some();
        self.end = len.unwrap_or(self.bytes_max);
        self.failed = match len {
            Some(len) if len > self.bytes_max => Some(self.too_large(0)),
            _ => None,
        };
    }

    /// How many messages are open inside the outermost one.
    pub const fn depth(&self) -> usize {
        self.depth as usize
    }

    /// How many bytes were read: the offset of what comes next.
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// The content of the field that was just told comes as parts. Like the other choices, it does nothing unless that field has
    /// content with a length.
    pub fn bytes(&mut self) {
        self.choose(Phase::Bytes);
    }

    /// As [`Reader::bytes`], for content that must be UTF-8. A character may be cut between two parts; the fault is told behind
    /// the parts before it.
    pub fn text(&mut self) {
        self.utf8 = Utf8::new();
        self.mark = if self.phase == Phase::Choice { self.at } else { self.mark };
        self.choose(Phase::Text);
    }

    /// The content of the field that was just told is of no interest. So it is without a choice.
    pub fn skip(&mut self) {
        self.choose(Phase::Skip);
    }

    /// The content of the field that was just told is a message: its fields come next, then an end.
    ///
    /// # Errors
    /// [`Rule::ProtobufDepth`] at the length, if so many are open already.
    pub fn enter(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Choice || self.failed.is_some() {
            return Ok(());
        }
        let room = self.around.get_mut(usize::from(self.depth)).filter(|_| self.depth < self.depth_max);
        let Some(outer) = room else {
            let value = u64::from(self.depth_max);
            return self.fail(Violation { rule: Rule::ProtobufDepth, at: self.mark, value });
        };
        *outer = u32::try_from(self.end).unwrap_or(u32::MAX);
        (self.end, self.phase) = (self.content, Phase::Tag);
        self.depth += 1;
        Ok(())
    }

    /// The content of the field that was just told is packed: each element comes as a field of the same number, then an end. So
    /// whoever takes the elements one by one, as every reader has to, takes packed ones too.
    ///
    /// # Errors
    /// At the length: [`Rule::ProtobufLength`], if it is no multiple of an element's, and [`Rule::ProtobufTooMany`], if there are
    /// too many of a fixed size.
    pub fn packed(&mut self, how: Packed) -> Result<(), Violation> {
        if self.phase != Phase::Choice || self.failed.is_some() {
            return Ok(());
        }
        let size = match how {
            Packed::Varint => 1,
            Packed::Fixed32 => 4,
            Packed::Fixed64 => 8,
        };
        let len = self.content.saturating_sub(self.at);
        if !len.is_multiple_of(size) {
            return self.fail(Violation::new(Rule::ProtobufLength, self.mark));
        }
        if how != Packed::Varint
            && let Err(violation) = self.charge(len / size, self.mark)
        {
            return self.fail(violation);
        }
        self.size = size as u8;
        self.choose(Phase::Packed(how));
        Ok(())
    }

    /// The rest of the innermost message is of no interest: skipped, unread; then its end comes. Does nothing in the outermost.
    pub fn leave(&mut self) {
        if self.depth > 0 {
            (self.phase, self.got, self.content) = (Phase::Skip, 0, self.end);
        }
    }

    /// The next item; `None` when `piece` is used up, or a message of known length. What was read of `piece` is taken off its
    /// front.
    ///
    /// # Errors
    /// [`Rule::ProtobufTag`], [`Rule::ProtobufGroup`], [`Rule::ProtobufVarint`], [`Rule::ProtobufLength`], [`Rule::Utf8`],
    /// [`Rule::ProtobufTooLarge`], [`Rule::ProtobufTooMany`]; from then on always the same.
    pub fn next<'p>(&mut self, piece: &mut &'p [u8]) -> Result<Option<Item<'p>>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        match self.advance(piece) {
            Err(violation) => self.fail(violation),
            item => item,
        }
    }

    /// The message ends here: to be called when [`Reader::next`] gave `None`.
    ///
    /// # Errors
    /// [`Rule::ProtobufTruncated`] at the length of the message, if more had to come; or what [`Reader::next`] said.
    pub fn finish(&mut self) -> Result<(), Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let between = match self.phase {
            Phase::Tag => self.got == 0,
            Phase::Choice | Phase::Skip => self.at == self.content,
            _ => false,
        };
        if between && self.depth == 0 && (!self.is_sized || self.at == self.end) {
            return Ok(());
        }
        self.fail(Violation::new(Rule::ProtobufTruncated, self.at))
    }

    fn fail<T>(&mut self, violation: Violation) -> Result<T, Violation> {
        self.failed = Some(violation);
        Err(violation)
    }

    fn choose(&mut self, phase: Phase) {
        if self.phase == Phase::Choice {
            self.phase = phase;
        }
    }

    fn too_large(&self, at: u64) -> Violation {
        Violation { rule: Rule::ProtobufTooLarge, at, value: self.bytes_max }
    }

    /// What begins at `at` goes beyond what it stands in: the message around it, or what a message may have.
    fn beyond(&self, at: u64) -> Violation {
        let is_bound_known = self.is_sized || self.depth > 0 || matches!(self.phase, Phase::Packed(_));
        if is_bound_known { Violation::new(Rule::ProtobufLength, at) } else { self.too_large(at) }
    }

    fn charge(&mut self, count: u64, at: u64) -> Result<(), Violation> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > self.elements_max {
            return Err(Violation { rule: Rule::ProtobufTooMany, at, value: self.elements_max });
        }
        Ok(())
    }

    fn advance<'p>(&mut self, piece: &mut &'p [u8]) -> Result<Option<Item<'p>>, Violation> {
        loop {
            match self.phase {
                Phase::Tag => {
                    if self.got == 0 && self.at == self.end {
                        return self.ended(piece);
                    }
                    if !self.tag(piece)? {
                        return Ok(None);
                    }
                }
                Phase::Varint => {
                    let Some(n) = self.varint(piece, self.end, 10, 1, Rule::ProtobufVarint)? else { return Ok(None) };
                    return Ok(self.field(Phase::Tag, Value::Varint(n)));
                }
                Phase::Fixed => {
                    let Some(value) = self.fixed(piece, self.end)? else { return Ok(None) };
                    return Ok(self.field(Phase::Tag, value));
                }
                Phase::Length => {
                    let Some(n) = self.varint(piece, self.end, 10, 1, Rule::ProtobufVarint)? else { return Ok(None) };
                    if n > self.end.saturating_sub(self.at) {
                        return Err(self.beyond(self.mark));
                    }
                    self.content = self.at.saturating_add(n);
                    return Ok(self.field(Phase::Choice, Value::Bytes(u32::try_from(n).unwrap_or(u32::MAX))));
                }
                Phase::Choice => self.phase = Phase::Skip,
                Phase::Skip => {
                    self.take(piece);
                    if self.at != self.content {
                        return Ok(None);
                    }
                    self.phase = Phase::Tag;
                }
                Phase::Bytes | Phase::Text => return self.part(piece),
                Phase::Packed(how) => return self.element(piece, how),
            }
        }
    }

    /// The innermost message is complete.
    fn ended<'p>(&mut self, piece: &[u8]) -> Result<Option<Item<'p>>, Violation> {
        let Some(outer) = self.depth.checked_sub(1) else {
            return if self.is_sized || piece.is_empty() { Ok(None) } else { Err(self.too_large(self.at)) };
        };
        self.depth = outer;
        self.end = self.around.get(usize::from(outer)).copied().unwrap_or(0).into();
        Ok(Some(Item::End))
    }

    fn field<'p>(&mut self, then: Phase, value: Value<u32>) -> Option<Item<'p>> {
        self.phase = then;
        Some(Item::Field(Field { number: self.number, value }))
    }

    /// Reads a tag; says whether it is complete. A wire type that is none, or a group's, shows in its first byte.
    fn tag(&mut self, piece: &mut &[u8]) -> Result<bool, Violation> {
        if self.got == 0 {
            let Some(&first) = piece.first() else { return Ok(false) };
            self.charge(1, self.at)?;
            match first & 7 {
                3 | 4 => return Err(Violation::new(Rule::ProtobufGroup, self.at)),
                6 | 7 => return Err(Violation::new(Rule::ProtobufTag, self.at)),
                _ => {}
            }
        }
        // Five bytes, and 32 bits: that leaves 29 for the number.
        let Some(tag) = self.varint(piece, self.end, 5, 0x0f, Rule::ProtobufTag)? else { return Ok(false) };
        self.number = (tag >> 3) as u32;
        if self.number == 0 {
            return Err(Violation::new(Rule::ProtobufTag, self.mark));
        }
        (self.phase, self.size) = match tag & 7 {
            0 => (Phase::Varint, 0),
            1 => (Phase::Fixed, 8),
            5 => (Phase::Fixed, 4),
            _ => (Phase::Length, 0),
        };
        Ok(true)
    }

    /// Reads a varint of at most `most` bytes, the last of them no greater than `last`, that must end before `end`.
    #[inline(always)]
    fn varint(
        &mut self,
        piece: &mut &[u8],
        end: u64,
        most: u8,
        last: u8,
        rule: Rule,
    ) -> Result<Option<u64>, Violation> {
        // Most of them are one byte: tags of the first fields, short lengths, small numbers.
        if let [byte @ ..0x80, rest @ ..] = *piece
            && self.got == 0
            && self.at < end
        {
            self.mark = self.at;
            self.at += 1;
            *piece = rest;
            return Ok(Some(u64::from(*byte)));
        }
        self.long_varint(piece, end, most, last, rule)
    }

    fn long_varint(
        &mut self,
        piece: &mut &[u8],
        end: u64,
        most: u8,
        last: u8,
        rule: Rule,
    ) -> Result<Option<u64>, Violation> {
        loop {
            if self.at == end && !(self.is_open() && piece.is_empty()) {
                return Err(self.beyond(self.at));
            }
            let Some((&byte, rest)) = piece.split_first() else { return Ok(None) };
            if self.got == 0 {
                (self.mark, self.value) = (self.at, 0);
            } else if self.got.saturating_add(1) >= most && byte > last {
                return Err(Violation::new(rule, self.at));
            }
            self.value |= u64::from(byte & 0x7f) << (7 * self.got);
            self.got += 1;
            self.at += 1;
            *piece = rest;
            if byte < 0x80 {
                self.got = 0;
                return Ok(Some(self.value));
            }
        }
    }

    /// The end is only what may come at most, so that a message may end there.
    fn is_open(&self) -> bool {
        !self.is_sized && self.depth == 0 && !matches!(self.phase, Phase::Packed(_))
    }

    /// Reads four or eight bytes, which must end before `end`.
    fn fixed(&mut self, piece: &mut &[u8], end: u64) -> Result<Option<Value<u32>>, Violation> {
        if self.got == 0 {
            if end.saturating_sub(self.at) < u64::from(self.size) {
                return Err(self.beyond(self.at));
            }
            if let Some((bytes, rest)) = piece.split_first_chunk::<8>().filter(|_| self.size == 8) {
                self.at += 8;
                *piece = rest;
                return Ok(Some(Value::Fixed64(u64::from_le_bytes(*bytes))));
            }
            self.value = 0;
        }
        while self.got < self.size {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(None) };
            self.value |= u64::from(byte) << (8 * self.got);
            self.got += 1;
            self.at += 1;
            *piece = rest;
        }
        self.got = 0;
        Ok(Some(if self.size == 8 { Value::Fixed64(self.value) } else { Value::Fixed32(self.value as u32) }))
    }

    /// Takes what the piece has of the content.
    fn take<'p>(&mut self, piece: &mut &'p [u8]) -> &'p [u8] {
        let left = usize::try_from(self.content.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let (part, rest) = piece.split_at(left.min(piece.len()));
        *piece = rest;
        self.at = self.at.saturating_add(part.len() as u64);
        part
    }

    fn part<'p>(&mut self, piece: &mut &'p [u8]) -> Result<Option<Item<'p>>, Violation> {
        let is_text = self.phase == Phase::Text;
        let text = self.mark;
        if self.at == self.content {
            if is_text {
                self.utf8.finish().map_err(|v| v.shifted(text))?;
            }
            self.phase = Phase::Tag;
            return Ok(Some(Item::End));
        }
        let start = self.at;
        let mut part = self.take(piece);
        if is_text && let Err(v) = self.utf8.push(part) {
            // What comes before the fault is given first: somebody who cuts the message finer sees it, too.
            let violation = v.shifted(text);
            self.failed = Some(violation);
            let good = usize::try_from(violation.at.saturating_sub(start)).unwrap_or(0);
            part = part.get(..good).unwrap_or_default();
            if part.is_empty() {
                return Err(violation);
            }
        }
        Ok(if part.is_empty() { None } else { Some(Item::Part(part)) })
    }

    fn element<'p>(&mut self, piece: &mut &'p [u8], how: Packed) -> Result<Option<Item<'p>>, Violation> {
        if self.got == 0 && self.at == self.content {
            self.phase = Phase::Tag;
            return Ok(Some(Item::End));
        }
        let value = if how == Packed::Varint {
            if self.got == 0 && !piece.is_empty() {
                self.charge(1, self.at)?;
            }
            self.varint(piece, self.content, 10, 1, Rule::ProtobufVarint)?.map(Value::Varint)
        } else {
            self.fixed(piece, self.content)?
        };
        Ok(value.and_then(|value| self.field(self.phase, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // M-8
    #[test]
    fn the_state_is_small() {
        assert!(size_of::<Reader>() <= 1_280, "{}", size_of::<Reader>());
        assert_eq!(LEVELS as u64, Limit::ProtobufDepth.range().1);
        assert!(Limit::ProtobufMessageBytes.range().1 <= u64::from(u32::MAX));
    }
}
