//! In: the inside of a string, as far as it is here. Out: how far it stands for itself, and the character that an escape or
//! UTF-8 stands for; or that it is cut, or what is wrong with it (RFC 8259 §7 and §8, RFC 3629).

use super::keys;
use crate::base::Rule;
use crate::decode::text::Utf8;

/// The longest escape: a surrogate pair.
pub(super) const LONGEST: usize = 12;

/// The first `length` bytes, or all there are.
pub(super) fn front(bytes: &[u8], length: u64) -> &[u8] {
    usize::try_from(length).ok().and_then(|length| bytes.get(..length)).unwrap_or(bytes)
}

/// What stands for one character: an escape, two of them for a surrogate pair, or UTF-8 of more than one byte.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Char {
        bytes: usize,
        character: char,
    },
    /// It may become one.
    Cut,
    /// It cannot become one, because of the byte at `at`; half a pair, because of its own backslash.
    Wrong {
        rule: Rule,
        at: usize,
    },
}

impl Unit {
    pub(super) fn new(bytes: &[u8]) -> Unit {
        match bytes.first() {
            Some(b'\\') => Unit::escape(bytes),
            _ => Unit::utf8(bytes),
        }
    }

    fn utf8(bytes: &[u8]) -> Unit {
        let width = match bytes.first() {
            Some(0xf0..) => 4,
            Some(0xe0..) => 3,
            Some(0xc0..) => 2,
            _ => 1,
        };
        let one = front(bytes, width);
        match core::str::from_utf8(one) {
            Ok(text) => text.chars().next().map_or(Unit::Cut, |character| Unit::Char { bytes: text.len(), character }),
            Err(error) if error.error_len().is_none() => Unit::Cut,
            Err(_) => {
                let at = Utf8::new().push(one).map_or_else(|v| v.at as usize, |()| one.len());
                Unit::Wrong { rule: Rule::Utf8, at }
            }
        }
    }

    fn escape(bytes: &[u8]) -> Unit {
        let character = match bytes.get(1) {
            None => return Unit::Cut,
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return Unit::unicode(bytes),
            Some(_) => return Unit::Wrong { rule: Rule::JsonString, at: 1 },
        };
        Unit::Char { bytes: 2, character }
    }

    fn unicode(bytes: &[u8]) -> Unit {
        let first = match Unit::digits(bytes, 2) {
            Ok(value) => value,
            Err(unit) => return unit,
        };
        if let Some(character) = char::from_u32(first) {
            return Unit::Char { bytes: 6, character };
        }
        let lone = Unit::Wrong { rule: Rule::JsonSurrogate, at: 0 };
        if first >= 0xdc00 {
            return lone;
        }
        match (bytes.get(6), bytes.get(7)) {
            (None, _) | (Some(b'\\'), None) => return Unit::Cut,
            (Some(b'\\'), Some(b'u')) => {}
            _ => return lone,
        }
        match Unit::digits(bytes, 8) {
            Ok(second @ 0xdc00..=0xdfff) => match char::from_u32(keys::pair(first, second)) {
                Some(character) => Unit::Char { bytes: LONGEST, character },
                None => lone,
            },
            Ok(_) => lone,
            Err(unit) => unit,
        }
    }

    /// The value of the four hexadecimal digits at `from`.
    fn digits(bytes: &[u8], from: usize) -> Result<u32, Unit> {
        let digits = front(bytes.get(from..).unwrap_or_default(), 4);
        match (keys::hex(digits), digits.len()) {
            (Some(value), 4) => Ok(value),
            (Some(_), _) => Err(Unit::Cut),
            (None, _) => {
                let good = digits.iter().take_while(|b| b.is_ascii_hexdigit()).count();
                Err(Unit::Wrong { rule: Rule::JsonString, at: from + good })
            }
        }
    }
}

const ONES: u64 = u64::MAX / 255;

/// Marks the bytes of a word that end a run of a string: quote, backslash, control characters. Above the first one that is
/// marked, others may be marked wrongly.
const fn specials(word: u64) -> u64 {
    let (quote, backslash) = (word ^ (ONES * b'"' as u64), word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | (quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & (ONES << 7)
}

/// How many bytes stand before the first one that ends a run of a string, and whether they are all ASCII.
pub(super) fn scan(bytes: &[u8]) -> (usize, bool) {
    let (words, tail) = bytes.as_chunks::<8>();
    let (mut length, mut seen) = (0, 0);
    for word in words {
        let word = u64::from_le_bytes(*word);
        let marks = specials(word);
        if marks != 0 {
            let bits = marks.trailing_zeros() & !7;
            seen |= word & ((1 << bits) - 1);
            return (length + bits as usize / 8, seen & (ONES << 7) == 0);
        }
        seen |= word;
        length += 8;
    }
    for &byte in tail {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            break;
        }
        seen |= u64::from(byte);
        length += 1;
    }
    (length, seen & (ONES << 7) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_stops_at_the_first_byte_that_is_not_itself() {
        let stops = |b: u8| b < 0x20 || b == b'"' || b == b'\\';
        for byte in 0..=255u8 {
            for at in 0..20 {
                for length in at + 1..=24 {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    // What follows must not matter.
                    if at + 1 < length {
                        bytes[at + 1] = 0x21;
                    }
                    let expected = if stops(byte) { (at, true) } else { (length, byte < 0x80) };
                    assert_eq!(scan(&bytes), expected, "{byte:x} at {at} of {length}");
                }
            }
        }
        for low in [0, 0x1f, 0x21, 0x22, 0x23, 0x5b, 0x5c, 0x5d, 0x7f, 0x80, 0xff] {
            for high in 0..=255u8 {
                let bytes = [b'a', low, high, b'b', high, low, 0x20, 0xff, b'"'];
                let expected = bytes.iter().position(|b| stops(*b)).unwrap_or(9);
                assert_eq!(scan(&bytes), (expected, bytes[..expected].is_ascii()), "{low:x} {high:x}");
            }
        }
    }

    #[test]
    fn a_unit_is_cut_until_the_byte_that_decides() {
        for whole in [&b"\\n"[..], b"\\u00e9", b"\\ud83d\\ude00", "é".as_bytes(), "€".as_bytes(), "😀".as_bytes()]
        {
            for cut in 1..whole.len() {
                assert_eq!(Unit::new(&whole[..cut]), Unit::Cut, "{whole:x?} at {cut}");
            }
            let more = [whole, b"\xff"].concat();
            assert_eq!(Unit::new(whole), Unit::new(&more));
            assert!(matches!(Unit::new(whole), Unit::Char { bytes, .. } if bytes == whole.len()));
        }
        for (bad, rule, at) in [
            (&b"\\x"[..], Rule::JsonString, 1),
            (b"\\u00g", Rule::JsonString, 4),
            (b"\\udc00", Rule::JsonSurrogate, 0),
            (b"\\ud800x", Rule::JsonSurrogate, 0),
            (b"\\ud800\\n", Rule::JsonSurrogate, 0),
            (b"\\ud800\\u0041", Rule::JsonSurrogate, 0),
            (b"\\ud800\\ux", Rule::JsonString, 8),
            (b"\xc3\"", Rule::Utf8, 1),
            (b"\x80", Rule::Utf8, 0),
            (b"\xe0\x80", Rule::Utf8, 1),
            (b"\xf0\x9f\x98a", Rule::Utf8, 3),
        ] {
            assert_eq!(Unit::new(bad), Unit::Wrong { rule, at }, "{bad:x?}");
            assert_eq!(Unit::new(&bad[..bad.len() - 1]), Unit::Cut);
        }
    }
}
