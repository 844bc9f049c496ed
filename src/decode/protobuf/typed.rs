//! In: a message that is there as a whole, and its type. Out: the typed message, read by prost from bytes that were judged first
//! and through a meter.

use super::{Value, fields};
use crate::base::{Limit, Limits, Rule, Violation};
use prost::Message;
use prost::bytes::Buf;

/// What prost reads of a field at most: its tag, its length, its content.
const READS: u64 = 3;

/// Near the end prost reads varints byte by byte, once no more bytes are left than the longest has.
const LAST_READS: u64 = 10;

/// Reads a typed message.
///
/// Without its schema a message can only be judged from outside: its own fields exactly, as [`fields`] reads them; in content with
/// a length whatever could be messages, for their depth. prost then reads through a meter, which ends it once it took more
/// numbers than [`Limit::ProtobufElements`] fields have. So a message within the limits always passes; of packed numbers up to
/// three times as many do, of messages without content half as many again. Content that could be a message counts for the depth
/// even where the schema says `bytes`. Beyond 100 levels prost itself refuses, groups among them, which it skips inside messages.
///
/// Content takes the memory that it has bytes, twice while it is copied. What else is allocated goes by the elements and by their size in Rust, not by the
/// message: a vector holds up to four times what is in it, and a map up to twelve times. So two bytes, an empty message, take
/// 800 in a vector if its type has 200; and 65,536 elements, as the default has it, 75 MiB. Where types are large, lower
/// [`Limit::ProtobufElements`] for them.
///
/// ```
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Hello {
///     #[prost(string, tag = "1")]
///     name: String,
/// }
/// # use vestibule::{Limits, Rule};
/// # use vestibule::decode::protobuf;
/// assert_eq!(protobuf::decode(b"\x0a\x02hi", &Limits::DEFAULT), Ok(Hello { name: "hi".into() }));
/// let refused = protobuf::decode::<Hello>(b"\x0a\x03hi", &Limits::DEFAULT).unwrap_err();
/// assert_eq!((refused.rule, refused.at), (Rule::ProtobufLength, 1));
/// ```
///
/// # Errors
/// What [`Reader::next`](super::Reader::next) says of the message's own fields; [`Rule::ProtobufDepth`];
/// [`Rule::ProtobufTooMany`]; and [`Rule::ProtobufShape`] at the offset where prost stopped, if a field has another type, a text is
/// not UTF-8, or a message inside is malformed.
pub fn decode<M: Message + Default>(message: &[u8], limits: &Limits) -> Result<M, Violation> {
    let mut own = fields(message, limits);
    while let Some(field) = own.next() {
        if let Value::Bytes(content) = field?.value {
            depth(content, limits).map_err(|v| v.shifted(own.offset()))?;
        }
    }
    let reads = limits.get(Limit::ProtobufElements).saturating_mul(READS).saturating_add(LAST_READS);
    let mut meter = Meter { rest: message, reads, is_empty: false };
    let mut typed = M::default();
    let outcome = typed.merge(&mut meter);
    let at = (message.len() - meter.rest.len()) as u64;
    if meter.is_empty {
        return Err(Violation::over(Rule::ProtobufTooMany, at, limits));
    }
    outcome.map(|()| typed).map_err(|_| Violation::new(Rule::ProtobufShape, at))
}

/// Finds messages in `content` that are nested too deeply, itself the first level.
///
/// Content that turns out to be no message is passed over as a whole, so each byte is looked at once. Where the limit is reached,
/// content counts if it is a message to its end: if it is one that breaks off, prost refuses it, and else it is text or bytes.
fn depth(content: &[u8], limits: &Limits) -> Result<(), Violation> {
    let most = limits.size(Limit::ProtobufDepth);
    // Each level has a tag and a length, and something in it.
    if content.len() <= most.saturating_mul(2) {
        return Ok(());
    }
    let mut ends = [0; 256];
    let (mut at, mut end, mut depth) = (0, content.len(), 1);
    loop {
        while at >= end {
            depth -= 1;
            match ends.get(depth) {
                Some(&outer) if depth > 0 => end = outer,
                _ => return Ok(()),
            }
        }
        let Some((taken, inner)) = unit(content.get(at..end).unwrap_or_default()) else {
            at = end;
            continue;
        };
        at += taken;
        if inner == 0 {
            continue;
        }
        if depth < most
            && let Some(outer) = ends.get_mut(depth)
        {
            *outer = end;
            (end, depth) = (at + inner, depth + 1);
            continue;
        }
        if is_message(content.get(at..at + inner).unwrap_or_default()) {
            return Err(Violation::over(Rule::ProtobufDepth, at as u64, limits));
        }
        at += inner;
    }
}

fn is_message(mut content: &[u8]) -> bool {
    while !content.is_empty() {
        let rest = unit(content).and_then(|(taken, inner)| content.get(taken + inner..));
        let Some(rest) = rest else { return false };
        content = rest;
    }
    true
}

/// One field at the front, as leniently as prost reads it: how long it is before its content, and how long that is. Groups are
/// entered by passing their tags over.
fn unit(bytes: &[u8]) -> Option<(usize, usize)> {
    let (tag, n) = varint(bytes)?;
    let rest = bytes.get(n..)?;
    let number = u32::try_from(tag).ok()? >> 3;
    let (more, inner) = match tag & 7 {
        0 => (varint(rest)?.1, 0),
        1 => (8, 0),
        2 => {
            let (len, n) = varint(rest)?;
            (n, usize::try_from(len).ok()?)
        }
        3 | 4 => (0, 0),
        5 => (4, 0),
        _ => return None,
    };
    let is_inside = inner <= rest.len().checked_sub(more)?;
    (number > 0 && is_inside).then_some((n + more, inner))
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return (i < 9 || byte < 2).then_some((value, i + 1));
        }
    }
    None
}

/// Bytes that end when they were read in too many goes. What prost allocates beyond the bytes themselves it allocates for
/// something that it read.
struct Meter<'a> {
    rest: &'a [u8],
    reads: u64,
    is_empty: bool,
}

impl Buf for Meter<'_> {
    fn remaining(&self) -> usize {
        if self.is_empty { 0 } else { self.rest.len() }
    }

    fn chunk(&self) -> &[u8] {
        if self.is_empty { &[] } else { self.rest }
    }

    fn advance(&mut self, count: usize) {
        if count == 0 || self.is_empty {
            return;
        }
        match self.reads.checked_sub(1) {
            Some(reads) => {
                self.reads = reads;
                self.rest = self.rest.get(count..).unwrap_or_default();
            }
            None => self.is_empty = true,
        }
    }
}
