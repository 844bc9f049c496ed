//! In: text in any pieces, and the value of `Content-Type`. Out: whether it is UTF-8, and if not, the first byte that makes it
//! so; the pieces as text, whole characters only; whether the charset is one that we take. No allocation.

use super::media::Cursor;
use crate::base::{Rule, Violation};

/// A validator of UTF-8 (RFC 3629 §4) that may be fed in any pieces.
///
/// The offset of an error is that of the first byte after which no continuation could make the text valid again: the byte
/// that cannot begin a character, or the first one that cannot continue the character before it. At the end of the text that
/// is the offset where the missing byte would be. So `E0 80` fails at offset 1: overlong, and nothing can change that.
///
/// Between pieces it keeps how many bytes are still to come and the range of the next one: up to three bytes of a character
/// may be outstanding, none is stored.
///
/// ```
/// use vestibule::decode::text::Utf8;
/// let mut text = Utf8::new();
/// text.push(b"gr\xc3")?;
/// text.push(b"\xbcn")?;
/// text.finish()?;
/// assert_eq!(Utf8::new().push(b"gr\xfcn").unwrap_err().at, 2);
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct Utf8 {
    at: u64,
    /// Bytes that the character begun must still have.
    need: u8,
    /// What the next of them may be.
    low: u8,
    high: u8,
    failed: bool,
}

impl Default for Utf8 {
    fn default() -> Self {
        Utf8::new()
    }
}

impl Utf8 {
    /// At the start of a text.
    pub const fn new() -> Utf8 {
        Utf8 { at: 0, need: 0, low: 0, high: 0, failed: false }
    }

    /// Takes the next bytes of the text.
    ///
    /// # Errors
    /// [`Rule::Utf8`] at the offset in the text; the same again from then on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if self.failed {
            return Err(Violation::new(Rule::Utf8, self.at));
        }
        let mut rest = bytes;
        // The character that the last piece was cut in.
        while self.need > 0 {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            self.byte(byte)?;
            rest = after;
        }
        let good = valid_front(rest).len();
        self.at = self.at.saturating_add(good as u64);
        // At most one character: begun and not ended, or the bad one.
        for &byte in rest.get(good..).unwrap_or_default() {
            self.byte(byte)?;
        }
        Ok(())
    }

    /// The text ends here.
    ///
    /// # Errors
    /// [`Rule::Utf8`] at the length of the text, if its last character is not complete.
    pub fn finish(&mut self) -> Result<(), Violation> {
        if self.need > 0 || self.failed {
            self.failed = true;
            return Err(Violation::new(Rule::Utf8, self.at));
        }
        Ok(())
    }

    // RFC 3629 §4, the grammar: which second byte may follow depends on the first, later ones are always 80..BF.
    fn byte(&mut self, byte: u8) -> Result<(), Violation> {
        let next = match (self.need, byte) {
            (0, 0x00..=0x7f) => Some((0, 0, 0)),
            (0, 0xc2..=0xdf) => Some((1, 0x80, 0xbf)),
            (0, 0xe0) => Some((2, 0xa0, 0xbf)),
            (0, 0xed) => Some((2, 0x80, 0x9f)),
            (0, 0xe1..=0xef) => Some((2, 0x80, 0xbf)),
            (0, 0xf0) => Some((3, 0x90, 0xbf)),
            (0, 0xf1..=0xf3) => Some((3, 0x80, 0xbf)),
            (0, 0xf4) => Some((3, 0x80, 0x8f)),
            (1.., byte) if self.low <= byte && byte <= self.high => Some((self.need - 1, 0x80, 0xbf)),
            _ => None,
        };
        match next {
            Some((need, low, high)) => {
                (self.need, self.low, self.high) = (need, low, high);
                self.at = self.at.saturating_add(1);
                Ok(())
            }
            None => {
                self.failed = true;
                Err(Violation::new(Rule::Utf8, self.at))
            }
        }
    }
}

/// Text that arrives in any pieces, as `str`: a character that is cut comes whole, as a part of its own, with the piece that
/// ends it.
///
/// Everything else is lent from the piece that it lies in, so a piece has two parts at most; and what stands before a fault
/// is handed out before the fault is told. Up to three bytes are kept between pieces.
///
/// ```
/// use vestibule::decode::text::Text;
/// let (mut text, mut parts) = (Text::new(), Vec::new());
/// for mut piece in [&b"gr\xc3"[..], b"\xbcn", b" is a colour"] {
///     while let Some(part) = text.next(&mut piece)? {
///         parts.push(part.to_string());
///     }
/// }
/// text.finish()?;
/// assert_eq!(parts, ["gr", "ü", "n", " is a colour"]);
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Text {
    utf8: Utf8,
    /// The character that the last piece was cut in.
    held: [u8; 4],
    length: usize,
}

impl Text {
    /// At the start of a text.
    pub const fn new() -> Text {
        Text { utf8: Utf8::new(), held: [0; 4], length: 0 }
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.utf8.at
    }

    /// The next part, which is never empty; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// [`Rule::Utf8`] as with [`Utf8`]: at the first byte that cannot be mended. The same again from then on.
    pub fn next<'t, 'p: 't>(&'t mut self, piece: &mut &'p [u8]) -> Result<Option<&'t str>, Violation> {
        if self.length == 0 && !self.utf8.failed {
            let part = valid_front(piece);
            if !part.is_empty() {
                self.utf8.at = self.utf8.at.saturating_add(part.len() as u64);
                *piece = piece.get(part.len()..).unwrap_or_default();
                return Ok(Some(part));
            }
        }
        // What begins here is cut, or wrong.
        while let Some((byte, rest)) = piece.split_first() {
            self.utf8.push(&[*byte])?;
            *piece = rest;
            if let Some(slot) = self.held.get_mut(self.length) {
                *slot = *byte;
            }
            self.length += 1;
            if self.utf8.need == 0 {
                let length = core::mem::take(&mut self.length);
                return Ok(Some(valid_front(self.held.get(..length).unwrap_or_default())));
            }
        }
        match self.utf8.failed {
            true => self.finish().map(|()| None),
            false => Ok(None),
        }
    }

    /// The text ends here: to be called when [`Text::next`] gave `None`.
    ///
    /// # Errors
    /// [`Rule::Utf8`] at the length of the text, if its last character is not complete; or what [`Text::next`] said.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.utf8.finish()
    }
}

/// The longest front of `bytes` that is UTF-8.
pub(crate) fn valid_front(bytes: &[u8]) -> &str {
    let good = match whole(bytes) {
        Ok(text) => return text,
        Err(good) => good,
    };
    // Once for each text that is not UTF-8, and each character that is cut.
    whole(bytes.get(..good).unwrap_or_default()).unwrap_or_default()
}

/// `bytes` as UTF-8, or how many of them are.
#[cfg(not(feature = "simdutf8"))]
pub(crate) fn whole(bytes: &[u8]) -> Result<&str, usize> {
    core::str::from_utf8(bytes).map_err(|error| error.valid_up_to())
}

/// `bytes` as UTF-8, or how many of them are.
#[cfg(feature = "simdutf8")]
pub(crate) fn whole(bytes: &[u8]) -> Result<&str, usize> {
    simdutf8::compat::from_utf8(bytes).map_err(|error| error.valid_up_to())
}

/// Whether the charset of a `Content-Type` (RFC 9110 §8.3.1) is one that we take: none, `utf-8` or `us-ascii`, without case.
///
/// A value that is not a media type is refused as well: what its charset is cannot be told. So is a second `charset`, which
/// somebody else may read instead of the first.
///
/// ```
/// use vestibule::decode::text::charset;
/// assert!(charset(b"application/json").is_ok());
/// assert!(charset(br#"text/plain; a="; charset=x"; charset="UTF-8""#).is_ok());
/// assert_eq!(charset(b"text/plain; charset=utf-16").unwrap_err().at, 20);
/// ```
///
/// # Errors
/// [`Rule::CharsetUnsupported`] at the offset of the charset, or of the byte that is no media type, in `content_type`.
pub fn charset(content_type: &[u8]) -> Result<(), Violation> {
    let wrong = |at: usize| Violation::new(Rule::CharsetUnsupported, at as u64);
    let mut cursor = Cursor::new(content_type);
    if cursor.is_at_end() {
        return Ok(());
    }
    cursor.essence().map_err(wrong)?;
    let mut seen = false;
    while let Some(parameter) = cursor.parameter().map_err(wrong)? {
        if parameter.name.eq_ignore_ascii_case("charset") {
            let is_known = ["utf-8", "us-ascii"].iter().any(|known| parameter.value.eq_ignore_ascii_case(known));
            if seen || !is_known {
                return Err(wrong(parameter.at));
            }
            seen = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // TXT-01
    #[test]
    fn the_error_lies_at_the_first_byte_that_cannot_be_mended() {
        for (text, at) in [
            (&b"\x80"[..], 0),
            (b"a\xc0\x80", 1),
            (b"\xc3", 1),
            (b"\xc3a", 1),
            (b"\xe0\x80\x80", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98a", 3),
            (b"\xf5", 0),
            (b"\xff", 0),
        ] {
            for cut in 0..=text.len() {
                let mut utf8 = Utf8::new();
                let got = utf8.push(&text[..cut]).and_then(|()| utf8.push(&text[cut..])).and_then(|()| utf8.finish());
                assert_eq!(got, Err(Violation::new(Rule::Utf8, at)), "{text:x?} cut at {cut}");
                assert_eq!(utf8.push(b"a"), got, "it stays that way");
                assert_eq!(utf8.finish(), got);
            }
        }
    }

    // TXT-02
    #[test]
    fn charsets() {
        for good in [
            "",
            "  ",
            "text/plain",
            "application/json;charset=UTF-8",
            "application/json ; charset=\"utf-8\" ",
            "text/html;; ;charset=us-ascii;",
            "text/html;charset=\"u\\tf-8\"",
            "multipart/form-data; boundary=\"; charset=utf-16\"",
            "text/plain; xcharset=utf-16",
        ] {
            assert_eq!(charset(good.as_bytes()), Ok(()), "{good:?}");
        }
        for (bad, at) in [
            ("text/plain; charset=utf-16", 20),
            ("text/plain; CHARSET=iso-8859-1", 20),
            ("text/plain; charset=\"utf-8 \"", 20),
            ("text/plain; charset=\"utf\"", 20),
            ("text/plain; charset=\"\"", 20),
            ("text/plain; charset=utf8", 20),
            ("text/plain; charset=utf-8; charset=utf-8", 35),
            ("text/plain; charset=", 20),
            ("text/plain; charset", 19),
            ("text/plain; charset =utf-8", 19),
            ("text/plain; charset=\"utf-8", 26),
            ("text/plain; charset=\"utf-8\\", 27),
            ("text/plain; a=\"\n\"", 15),
            ("text/plain charset=utf-8", 11),
            ("text", 4),
            ("/plain", 0),
            ("a/b, c/d", 3),
        ] {
            assert_eq!(charset(bad.as_bytes()), Err(Violation::new(Rule::CharsetUnsupported, at)), "{bad:?}");
        }
    }
}
