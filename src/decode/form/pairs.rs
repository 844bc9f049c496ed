//! In: a whole form. Out: its pairs one after the other, checked, and decoded when they are looked at.

use core::fmt::{self, Write};

use super::hex;
use crate::base::{Rule, Violation};
use crate::decode::text::Utf8;

/// The pairs of a whole form, or of a query, in their order.
///
/// ```
/// use vestibule::decode::form;
/// let query = b"q=t%C3%A9+chaud&page=2"; // or `head.query()`
/// for pair in form::pairs(query) {
///     let (name, value) = pair?;
///     if name == "q" {
///         assert_eq!(value.to_string(), "té chaud");
///     }
/// }
/// assert_eq!(form::pairs(b"a=%4").last().unwrap().unwrap_err().at, 4);
/// # Ok::<(), vestibule::Violation>(())
/// ```
pub const fn pairs(form: &[u8]) -> Pairs<'_> {
    Pairs { form, at: 0 }
}

/// Name and value.
type Pair<'a> = (Text<'a>, Text<'a>);

/// The iterator that [`pairs`] gives: name and value, or once, and last, the rule that is broken.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    form: &'a [u8],
    at: usize,
}

impl<'a> Pairs<'a> {
    /// The next pair, and where it begins.
    pub(super) fn next_at(&mut self) -> Option<(usize, Result<Pair<'a>, Violation>)> {
        self.at += self.form.get(self.at..)?.iter().take_while(|b| **b == b'&').count();
        let start = self.at;
        let rest = self.form.get(start..).filter(|rest| !rest.is_empty())?;
        let pair = until(rest, b'&');
        let name = until(pair, b'=');
        let value = pair.get(name.len() + 1..).unwrap_or_default();
        let checked = check(name, start).and_then(|()| check(value, start + name.len() + 1));
        self.at = if checked.is_ok() { start + pair.len() } else { usize::MAX };
        Some((start, checked.map(|()| (Text(name), Text(value)))))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<Pair<'a>, Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_at().map(|(_, pair)| pair)
    }
}

/// The name of the pair that begins at `at`, in a form whose pairs are known to be good. Its value is not looked at.
pub(super) fn name_at(form: &[u8], at: usize) -> Text<'_> {
    let rest = form.get(at..).unwrap_or_default();
    Text(rest.split(|b| matches!(b, b'&' | b'=')).next().unwrap_or_default())
}

/// The bytes of that name. No more is looked at than is taken: to compare two costs what they have in common.
pub(super) fn name_bytes(form: &[u8], at: usize) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = Decoded { raw: form.get(at..).unwrap_or_default() };
    core::iter::from_fn(move || if matches!(bytes.raw, [b'&' | b'=', ..]) { None } else { bytes.next() })
}

/// Its value.
pub(super) fn value_at(form: &[u8], at: usize) -> Text<'_> {
    let pair = until(form.get(at..).unwrap_or_default(), b'&');
    Text(pair.get(until(pair, b'=').len() + 1..).unwrap_or_default())
}

fn until(bytes: &[u8], end: u8) -> &[u8] {
    bytes.get(..bytes.iter().position(|b| *b == end).unwrap_or(bytes.len())).unwrap_or_default()
}

/// Escapes are escapes, and what they mean is UTF-8. `at` is where `raw` begins.
fn check(raw: &[u8], at: usize) -> Result<(), Violation> {
    if raw.is_ascii() && !raw.contains(&b'%') {
        return Ok(());
    }
    let (mut utf8, mut decoded, mut place) = (Utf8::new(), 0, 0);
    let fault = |rule: Rule, place: usize| Violation::new(rule, (at + place) as u64);
    while let Some(rest) = raw.get(place..).filter(|rest| !rest.is_empty()) {
        let run = until(rest, b'%');
        utf8.push(run).map_err(|bad| fault(Rule::Utf8, place + bad.at.saturating_sub(decoded) as usize))?;
        place += run.len();
        decoded += run.len() as u64;
        if place == raw.len() {
            break;
        }
        let mut byte = 0;
        for i in 1..=2 {
            let digit = raw.get(place + i).copied().and_then(hex);
            byte = byte << 4 | digit.ok_or(fault(Rule::FormEscape, place + i))?;
        }
        utf8.push(&[byte]).map_err(|_| fault(Rule::Utf8, place))?;
        place += 3;
        decoded += 1;
    }
    utf8.finish().map_err(|_| fault(Rule::Utf8, raw.len()))
}

/// A name or a value, as it was sent and known to be good; decoded while it is read.
#[derive(Copy, Clone)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// It as it was sent.
    pub const fn raw(&self) -> &'a [u8] {
        self.0
    }

    /// Nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes, decoded: UTF-8.
    pub const fn bytes(&self) -> Decoded<'a> {
        Decoded { raw: self.0 }
    }

    /// Its characters, decoded.
    pub const fn chars(&self) -> Chars<'a> {
        Chars(self.bytes())
    }

    /// It as it lies there, if nothing in it has to be decoded.
    pub fn as_str(&self) -> Option<&'a str> {
        let coded = self.0.iter().any(|b| matches!(b, b'%' | b'+'));
        core::str::from_utf8(self.0).ok().filter(|_| !coded)
    }

    /// It, decoded, at the front of `buf`; `None` if it does not fit. As many bytes as it was sent with are always
    /// enough.
    pub fn copy_to<'b>(&self, buf: &'b mut [u8]) -> Option<&'b str> {
        let (mut raw, mut length) = (self.0, 0);
        while !raw.is_empty() {
            let run = until(raw, b'%');
            let places = buf.get_mut(length..)?.get_mut(..run.len())?;
            for (place, byte) in places.iter_mut().zip(run) {
                *place = if *byte == b'+' { b' ' } else { *byte };
            }
            length += run.len();
            let mut escape = Decoded { raw: raw.get(run.len()..)? };
            if let Some(byte) = escape.next() {
                *buf.get_mut(length)? = byte;
                length += 1;
            }
            raw = escape.raw;
        }
        core::str::from_utf8(buf.get(..length)?).ok()
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => f.write_str(text),
            None => self.chars().try_for_each(|c| f.write_char(c)),
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.chars().flat_map(char::escape_debug).try_for_each(|c| f.write_char(c))?;
        f.write_char('"')
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, text: &str) -> bool {
        self.bytes().eq(text.bytes())
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Text<'_>) -> bool {
        self.bytes().eq(other.bytes())
    }
}

impl Eq for Text<'_> {}

/// The decoded bytes of a [`Text`].
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    raw: &'a [u8],
}

impl Decoded<'_> {
    /// How many bytes are left, as they were sent.
    pub(super) const fn left(&self) -> usize {
        self.raw.len()
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match self.raw {
            [] => return None,
            [b'%', high, low, rest @ ..] => (hex(*high)? << 4 | hex(*low)?, rest),
            [b'+', rest @ ..] => (b' ', rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        self.raw = rest;
        Some(byte)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.raw.len() / 3, Some(self.raw.len()))
    }
}

/// The characters of a [`Text`].
#[derive(Clone, Debug)]
pub struct Chars<'a>(Decoded<'a>);

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let mut bytes = [0; 4];
        let first = self.0.next()?;
        let length = width(first);
        for (i, place) in bytes.iter_mut().take(length).enumerate() {
            *place = if i == 0 { first } else { self.0.next()? };
        }
        core::str::from_utf8(bytes.get(..length)?).ok()?.chars().next()
    }
}

/// How many bytes a character has that begins with this one (RFC 3629 §3).
pub(super) const fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(form: &str) -> Vec<(String, String)> {
        pairs(form.as_bytes()).map(|pair| pair.map(|(n, v)| (n.to_string(), v.to_string())).unwrap()).collect()
    }

    // The examples of the standard's parser, and its corners.
    #[test]
    fn pairs_are_those_of_the_url_standard() {
        let some =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<Vec<_>>();
        for (form, expected) in [
            ("", &[][..]),
            ("&&&", &[]),
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("&a=1&&b=2&", &[("a", "1"), ("b", "2")]),
            ("a", &[("a", "")]),
            ("a=", &[("a", "")]),
            ("=a", &[("", "a")]),
            ("=", &[("", "")]),
            ("a==b=", &[("a", "=b=")]),
            ("a;b=1;c=2", &[("a;b", "1;c=2")]),
            ("a+b=%2B%26%3D%25+", &[("a b", "+&=% ")]),
            ("%c3%A9=\u{1f375}%F0%9f%8D%B5", &[("é", "🍵🍵")]),
            ("a=%00%0d%0A", &[("a", "\0\r\n")]),
        ] {
            assert_eq!(texts(form), some(expected), "{form}");
        }
    }

    #[test]
    fn what_would_have_to_be_repaired_is_refused_where_it_stands() {
        for (form, rule, at) in [
            (&b"a=%"[..], Rule::FormEscape, 3),
            (b"a=%4", Rule::FormEscape, 4),
            (b"a=1&b%4g", Rule::FormEscape, 7),
            (b"a=%%41", Rule::FormEscape, 3),
            (b"a%=1", Rule::FormEscape, 2),
            (b"a=%u1234", Rule::FormEscape, 3),
            (b"a=\xff", Rule::Utf8, 2),
            (b"a=%FF", Rule::Utf8, 2),
            (b"a=%C3", Rule::Utf8, 5),
            (b"a=%C3&b=%A9", Rule::Utf8, 5),
            (b"a=%C3x", Rule::Utf8, 5),
            (b"a=xy%E0%80%80", Rule::Utf8, 7),
            (b"a=%ED%A0%80", Rule::Utf8, 5),
            (b"\xc3=1", Rule::Utf8, 1),
        ] {
            let mut walk = pairs(form);
            let last = walk.by_ref().last().unwrap().unwrap_err();
            assert_eq!((last.rule, last.at), (rule, at), "{}", form.escape_ascii());
            assert!(walk.next().is_none(), "it is said once");
        }
    }

    #[test]
    fn a_text_is_compared_copied_and_shown_decoded() {
        let (name, value) = pairs(b"n%61me=a+%22b%22%0A").next().unwrap().unwrap();
        assert!(name == "name" && name != "nam" && name != "names" && value != name);
        assert_eq!(name, pairs(b"name").next().unwrap().unwrap().0);
        assert_eq!((name.as_str(), name.raw(), name.is_empty()), (None, &b"n%61me"[..], false));
        assert_eq!(pairs(b"plain").next().unwrap().unwrap().0.as_str(), Some("plain"));
        assert_eq!(format!("{value} {value:?}"), "a \"b\"\n \"a \\\"b\\\"\\n\"");
        assert_eq!(value.copy_to(&mut [0; 6]), Some("a \"b\"\n"));
        assert_eq!(value.copy_to(&mut [0; 5]), None);
    }
}
