//! In: where the keys of the open objects lie in the text. Out: whether an object holds a key twice, once unescaped.
//!
//! No hashing, so nothing to collide: the keys of an object are sorted when it ends, and equal ones are then neighbours; if
//! they are few, each is compared with each. The keys of all open objects lie on one stack, the innermost object's on top, above
//! a note of where those of the object around it begin; four bytes each, in memory that the caller lends, or that grows with the
//! text.

use core::cmp::Ordering;

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::base::{Limit, Limits, Rule, Violation};

/// So many keys are sooner compared each with each than sorted.
const FEW: usize = 8;

/// A key's place: the offset of its first byte after the quote.
pub(super) type Key = [u8; 4];

/// The stack of keys.
pub(super) struct Keys<'s> {
    fixed: &'s mut [Key],
    #[cfg(feature = "alloc")]
    grown: Vec<Key>,
    #[cfg(feature = "alloc")]
    may_grow: bool,
    length: usize,
}

impl<'s> Keys<'s> {
    /// As many keys as fit `scratch`, four bytes each, and no more.
    pub(super) fn fixed(scratch: &'s mut [u8]) -> Keys<'s> {
        Keys {
            fixed: scratch.as_chunks_mut().0,
            #[cfg(feature = "alloc")]
            grown: Vec::new(),
            #[cfg(feature = "alloc")]
            may_grow: false,
            length: 0,
        }
    }

    /// As many keys as the limits allow; beyond what fits `scratch`, on the heap.
    #[cfg(feature = "alloc")]
    pub(super) fn growing(scratch: &'s mut [u8]) -> Keys<'s> {
        Keys { may_grow: true, ..Keys::fixed(scratch) }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    fn stack(&mut self) -> &mut [Key] {
        #[cfg(feature = "alloc")]
        if !self.grown.is_empty() {
            return &mut self.grown;
        }
        self.fixed
    }

    /// Adds the key that starts at `start`, or another number to be kept, because of the byte at `at`.
    ///
    /// # Errors
    /// [`Rule::JsonTooManyKeys`], with how many fit, if there is no room; [`Rule::BodyOverHandler`] for a key that begins
    /// beyond 4 GiB; [`Rule::DecoderPool`] if memory ran out.
    #[inline]
    pub(super) fn push(&mut self, start: usize, at: usize) -> Result<(), Violation> {
        let Ok(offset) = u32::try_from(start) else {
            return Err(Violation::new(Rule::BodyOverHandler, u64::from(u32::MAX)));
        };
        let length = self.length;
        self.length += 1;
        if let Some(slot) = self.stack().get_mut(length) {
            *slot = offset.to_ne_bytes();
            return Ok(());
        }
        self.length = length;
        self.push_beyond(offset, at)
    }

    /// Adds what does not fit.
    #[cold]
    fn push_beyond(&mut self, offset: u32, at: usize) -> Result<(), Violation> {
        let length = self.length;
        #[cfg(feature = "alloc")]
        if self.may_grow {
            // An object with its first key is four bytes of text and eight of these: doubled, four times what came.
            let no_room = |_| Violation::new(Rule::DecoderPool, at as u64);
            let more = if self.grown.is_empty() { 2 * length } else { length };
            self.grown.try_reserve_exact(more.max(16)).map_err(no_room)?;
            if self.grown.is_empty() {
                self.grown.extend_from_slice(self.fixed);
            }
            self.grown.resize(self.grown.capacity(), [0; 4]);
        }
        match self.stack().get_mut(length) {
            Some(slot) => *slot = offset.to_ne_bytes(),
            None => return Err(Violation { rule: Rule::JsonTooManyKeys, at: at as u64, value: length as u64 }),
        }
        self.length += 1;
        Ok(())
    }

    /// Takes back what was pushed last.
    pub(super) fn pop(&mut self) -> usize {
        self.length = self.length.saturating_sub(1);
        let length = self.length;
        self.stack().get(length).copied().map_or(0, offset)
    }

    /// Ends the object whose first key is number `base`, and forgets its keys.
    ///
    /// # Errors
    /// [`Rule::JsonDuplicateKey`] at the first key that stood before.
    pub(super) fn end_object(&mut self, base: usize, text: &[u8]) -> Result<(), Violation> {
        let length = core::mem::replace(&mut self.length, base);
        let keys = self.stack().get_mut(base..length).unwrap_or_default();
        if keys.len() < 2 {
            return Ok(());
        }
        if keys.len() <= FEW {
            let stood = |(i, b): &(usize, &Key)| keys.iter().take(*i).any(|a| same(text, *a, **b));
            return match keys.iter().enumerate().find(stood) {
                Some((_, twice)) => Err(Violation::new(Rule::JsonDuplicateKey, offset(*twice) as u64)),
                None => Ok(()),
            };
        }
        keys.sort_unstable_by(|a, b| compare(text, *a, *b).then_with(|| offset(*a).cmp(&offset(*b))));
        let twice = |pair: &[Key]| match pair {
            [a, b] if compare(text, *a, *b).is_eq() => Some(offset(*b)),
            _ => None,
        };
        match keys.windows(2).filter_map(twice).min() {
            Some(at) => Err(Violation::new(Rule::JsonDuplicateKey, at as u64)),
            None => Ok(()),
        }
    }
}

/// Whether an object may have one key more than `count`.
pub(super) fn room_for(count: usize, at: u64, limits: &Limits) -> Result<(), Violation> {
    if count as u64 >= limits.get(Limit::JsonKeys) {
        return Err(Violation::over(Rule::JsonTooManyKeys, at, limits));
    }
    Ok(())
}

fn offset(key: Key) -> usize {
    u32::from_ne_bytes(key) as usize
}

/// Whether two keys are the same; most differ in their first byte.
fn same(text: &[u8], a: Key, b: Key) -> bool {
    match (text.get(offset(a)), text.get(offset(b))) {
        (Some(x), Some(y)) if x != y && *x != b'\\' && *y != b'\\' => false,
        _ => compare(text, a, b).is_eq(),
    }
}

fn compare(text: &[u8], a: Key, b: Key) -> Ordering {
    let [a, b] = [a, b].map(|key| text.get(offset(key)..).unwrap_or_default());
    // As far as they are alike without escapes, which is nearly always far enough, they need not be unescaped.
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b && !matches!(a, b'"' | b'\\')).count();
    match (a.get(alike), b.get(alike)) {
        (Some(b'"'), Some(b'"')) => Ordering::Equal,
        (Some(b'\\'), _) | (_, Some(b'\\')) => Unescaped::new(a, alike).cmp(Unescaped::new(b, alike)),
        (Some(b'"'), _) => Ordering::Less,
        (_, Some(b'"')) => Ordering::Greater,
        (a, b) => a.cmp(&b),
    }
}

/// The bytes of a string that was checked, unescaped, up to its closing quote.
pub(super) struct Unescaped<'a> {
    rest: core::slice::Iter<'a, u8>,
    /// UTF-8 of an escaped character that is still to be given.
    held: [u8; 4],
    next: usize,
    length: usize,
}

impl<'a> Unescaped<'a> {
    pub(super) fn new(text: &'a [u8], start: usize) -> Unescaped<'a> {
        let rest = text.get(start..).unwrap_or_default().iter();
        Unescaped { rest, held: [0; 4], next: 0, length: 0 }
    }

    fn unit(&mut self) -> Option<u32> {
        let (digits, after) = self.rest.as_slice().split_at_checked(4)?;
        self.rest = after.iter();
        hex(digits)
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.next < self.length {
            self.next += 1;
            return self.held.get(self.next - 1).copied();
        }
        match *self.rest.next()? {
            b'"' => None,
            b'\\' => match *self.rest.next()? {
                b'b' => Some(0x08),
                b'f' => Some(0x0c),
                b'n' => Some(b'\n'),
                b'r' => Some(b'\r'),
                b't' => Some(b'\t'),
                b'u' => {
                    let first = self.unit()?;
                    let point = if (0xd800..0xdc00).contains(&first) {
                        // The other half stands behind `\u`.
                        self.rest.nth(1)?;
                        pair(first, self.unit()?)
                    } else {
                        first
                    };
                    let length = char::from_u32(point)?.encode_utf8(&mut self.held).len();
                    (self.next, self.length) = (1, length);
                    self.held.first().copied()
                }
                same => Some(same),
            },
            byte => Some(byte),
        }
    }
}

/// The value of hexadecimal digits; `None` if one is not.
pub(super) fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// The code point of a surrogate pair (RFC 8259 §7).
pub(super) const fn pair(high: u32, low: u32) -> u32 {
    0x1_0000 + ((high & 0x3ff) << 10) + (low & 0x3ff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_compared_as_what_they_mean() {
        let text = br#"a\u0061\b\f\n\r\t\/\\\"\u00e9\u20AC\ud83d\ude00" and no further"#;
        let bytes: Vec<u8> = Unescaped::new(text, 0).collect();
        assert_eq!(bytes, "aa\u{8}\u{c}\n\r\t/\\\"é€😀".as_bytes());
    }

    #[test]
    fn the_stack_moves_to_the_heap_with_its_keys() {
        let mut scratch = [0; 9];
        let mut keys = Keys::fixed(&mut scratch);
        assert_eq!((keys.push(1, 1), keys.push(5, 5)), (Ok(()), Ok(())));
        assert_eq!(keys.push(9, 9), Err(Violation { rule: Rule::JsonTooManyKeys, at: 9, value: 2 }));
        #[cfg(feature = "alloc")]
        for room in 0..5 {
            let mut scratch = vec![0; room * 4];
            let mut keys = Keys::growing(&mut scratch);
            for start in [1, 5, 9, 13] {
                keys.push(start, start).expect("room");
            }
            assert_eq!(keys.end_object(0, br#""a","b","c","a""#), Err(Violation::new(Rule::JsonDuplicateKey, 13)));
            assert_eq!(keys.len(), 0);
        }
    }
}
