//! In: the value of a `Content-Type`. Out: the type, the subtype and the parameters in it, compared as the RFC wants it
//! and unquoted as they are read; or the byte at which it is no media type. No allocation.

use crate::base::{Rule, Violation};

/// How many parameters a media type may have. None that is registered has half as many.
pub const PARAMETERS: usize = 16;

/// A media type (RFC 9110 §8.3.1): `type "/" subtype *( OWS ";" OWS [ parameter ] )`.
///
/// It borrows from the field's value, was checked whole, and costs nothing to copy. Types, subtypes and names of
/// parameters are compared without case; values of parameters as their definition says, so the caller chooses.
///
/// ```
/// use vestibule::decode::media::MediaType;
/// let media = MediaType::parse(br#"Application/Problem+JSON; charset="utf-8"; note="a \"b\"""#)?;
/// assert!(media.is("application/problem+json") && media.is("application/*") && media.has_suffix("json"));
/// assert!(media.parameter("Charset").is_some_and(|value| value.eq_ignore_ascii_case("UTF-8")));
/// let mut buf = [0; 16];
/// let note = media.parameter("note").and_then(|value| value.copy_to(&mut buf));
/// assert_eq!(note, Some(&br#"a "b""#[..]));
/// assert_eq!(MediaType::parse(b"text").unwrap_err().at, 4);
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct MediaType<'a> {
    essence: &'a str,
    /// Where in it the slash stands.
    slash: usize,
    parameters: Parameters<'a>,
}

impl<'a> MediaType<'a> {
    /// Reads the value of a `Content-Type`. White space around it is no part of a field's value and is passed over.
    ///
    /// # Errors
    /// [`Rule::MediaTypeSyntax`] at the offset of the byte in `value` that breaks the grammar,
    /// [`Rule::MediaTypeParameterRepeated`] at the value of the second parameter of a name (RFC 6838 §4.3: somebody else may
    /// read the first), [`Rule::MediaTypeParameters`] at that of the one after [`PARAMETERS`].
    pub fn parse(value: &'a [u8]) -> Result<MediaType<'a>, Violation> {
        let fault = |rule: Rule| move |at: usize| Violation::new(rule, at as u64);
        let mut cursor = Cursor::new(value);
        let (essence, slash) = cursor.essence().map_err(fault(Rule::MediaTypeSyntax))?;
        let parameters = Parameters(cursor);
        cursor.distinct(|_| ()).map_err(|(what, at)| match what {
            Wrong::Syntax => fault(Rule::MediaTypeSyntax)(at),
            Wrong::Repeated => fault(Rule::MediaTypeParameterRepeated)(at),
            Wrong::TooMany => fault(Rule::MediaTypeParameters)(at),
        })?;
        Ok(MediaType { essence, slash, parameters })
    }

    /// Type and subtype as they were sent: `text/plain`.
    pub const fn essence(&self) -> &'a str {
        self.essence
    }

    /// What stands before the slash, as it was sent.
    pub fn type_(&self) -> &'a str {
        self.essence.get(..self.slash).unwrap_or_default()
    }

    /// What stands after the slash, as it was sent.
    pub fn subtype(&self) -> &'a str {
        self.essence.get(self.slash + 1..).unwrap_or_default()
    }

    /// What follows the last plus sign of the subtype: `json` in `application/problem+json` (RFC 6838 §4.2.8).
    pub fn suffix(&self) -> Option<&'a str> {
        self.subtype().rsplit_once('+').map(|(_, suffix)| suffix).filter(|suffix| !suffix.is_empty())
    }

    /// Whether it has that suffix, without case.
    pub fn has_suffix(&self, suffix: &str) -> bool {
        self.suffix().is_some_and(|is| is.eq_ignore_ascii_case(suffix))
    }

    /// Whether it is that type, or in that range (RFC 9110 §12.5.1): `text/html`, `text/*`, `*/*`; without case.
    /// Parameters are not looked at.
    pub fn is(&self, range: &str) -> bool {
        match range.split_once('/') {
            Some(("*", "*")) => true,
            Some((kind, "*")) => self.type_().eq_ignore_ascii_case(kind),
            _ => self.essence.eq_ignore_ascii_case(range),
        }
    }

    /// Its parameters in their order: name and value.
    pub const fn parameters(&self) -> Parameters<'a> {
        self.parameters
    }

    /// The value of the parameter of that name, without case.
    pub fn parameter(&self, name: &str) -> Option<Value<'a>> {
        self.parameters().find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl core::fmt::Display for MediaType<'_> {
    /// Type and subtype, without the parameters.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.essence)
    }
}

/// The parameters of a [`MediaType`].
#[derive(Copy, Clone, Debug)]
pub struct Parameters<'a>(Cursor<'a>);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // It was read to its end before.
        let parameter = self.0.parameter().ok().flatten()?;
        Some((parameter.name, parameter.value))
    }
}

/// The value of a parameter: a token, or a quoted string that is unquoted as it is read (RFC 9110 §5.6.4, §5.6.6). A
/// quoted string may hold any bytes from 0x80 on; what they mean, its definition says.
#[derive(Copy, Clone)]
pub struct Value<'a> {
    /// Without the quotes around it.
    raw: &'a [u8],
    quoted: bool,
}

impl<'a> Value<'a> {
    /// Its bytes, unquoted.
    pub const fn bytes(&self) -> Bytes<'a> {
        Bytes { raw: self.raw, quoted: self.quoted }
    }

    /// As it was sent, without the quotes around it; what a backslash stands before is not unquoted.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    pub(super) const fn is_quoted(&self) -> bool {
        self.quoted
    }

    /// It as text, if it is UTF-8 and nothing in it has to be unquoted.
    pub fn as_str(&self) -> Option<&'a str> {
        let plain = !self.quoted || !self.raw.contains(&b'\\');
        core::str::from_utf8(self.raw).ok().filter(|_| plain)
    }

    /// Whether it is `text`, without the case of ASCII.
    pub fn eq_ignore_ascii_case(&self, text: &str) -> bool {
        let same = |(a, b): (Option<u8>, Option<u8>)| a.zip(b).is_some_and(|(a, b)| a.eq_ignore_ascii_case(&b));
        let (mut ours, mut theirs) = (self.bytes(), text.bytes());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                pair if same(pair) => {}
                _ => return false,
            }
        }
    }

    /// Its bytes, unquoted, at the front of `buf`; `None` if they do not fit.
    pub fn copy_to<'b>(&self, buf: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut length = 0;
        for byte in self.bytes() {
            *buf.get_mut(length)? = byte;
            length += 1;
        }
        buf.get(..length)
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, text: &str) -> bool {
        self.bytes().eq(text.bytes())
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

impl core::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "\"{}\"", self.raw.escape_ascii())
    }
}

/// The bytes of a [`Value`].
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    raw: &'a [u8],
    quoted: bool,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.raw.split_first()?;
        let (byte, rest) = match rest.split_first() {
            Some((&quoted, after)) if self.quoted && first == b'\\' => (quoted, after),
            _ => (first, rest),
        };
        self.raw = rest;
        Some(byte)
    }
}

/// A parameter, and where its value begins.
pub(super) struct Parameter<'a> {
    pub(super) name: &'a str,
    pub(super) value: Value<'a>,
    pub(super) at: usize,
}

/// What can be wrong with parameters.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    Syntax,
    Repeated,
    TooMany,
}

/// The one reader of media types, and of what is written like them. Its errors are offsets.
#[derive(Copy, Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        let mut cursor = Cursor { bytes, at: 0 };
        cursor.space();
        cursor
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.peek().is_none()
    }

    /// `type/subtype`, and where its slash stands.
    pub(super) fn essence(&mut self) -> Result<(&'a str, usize), usize> {
        let from = self.at;
        self.token()?;
        let slash = self.at - from;
        self.expect(b'/')?;
        self.token()?;
        Ok((text(self.bytes.get(from..self.at)), slash))
    }

    /// The next parameter, from the white space before its semicolon on.
    pub(super) fn parameter(&mut self) -> Result<Option<Parameter<'a>>, usize> {
        loop {
            self.space();
            if self.is_at_end() {
                return Ok(None);
            }
            self.expect(b';')?;
            self.space();
            // RFC 9110 §5.6.6: a parameter may be missing between semicolons.
            if matches!(self.peek(), None | Some(b';')) {
                continue;
            }
            let name = self.token()?;
            self.expect(b'=')?;
            let at = self.at;
            return Ok(Some(Parameter { name, value: self.value()?, at }));
        }
    }

    /// Reads all parameters; their names must differ, and there may be [`PARAMETERS`] of them.
    pub(super) fn distinct(mut self, mut each: impl FnMut(&Parameter<'a>)) -> Result<(), (Wrong, usize)> {
        let (mut names, mut count) = ([""; PARAMETERS], 0);
        while let Some(parameter) = self.parameter().map_err(|at| (Wrong::Syntax, at))? {
            if names.iter().take(count).any(|name| name.eq_ignore_ascii_case(parameter.name)) {
                return Err((Wrong::Repeated, parameter.at));
            }
            let Some(place) = names.get_mut(count) else { return Err((Wrong::TooMany, parameter.at)) };
            *place = parameter.name;
            count += 1;
            each(&parameter);
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), usize> {
        if self.peek() != Some(byte) {
            return Err(self.at);
        }
        self.at += 1;
        Ok(())
    }

    // RFC 9110 §5.6.2.
    pub(super) fn token(&mut self) -> Result<&'a str, usize> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().take_while(|b| is_tchar(**b)).count();
        if length == 0 {
            return Err(self.at);
        }
        self.at += length;
        Ok(text(rest.get(..length)))
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Result<Value<'a>, usize> {
        if self.peek() != Some(b'"') {
            return Ok(Value { raw: self.token()?.as_bytes(), quoted: false });
        }
        self.at += 1;
        let from = self.at;
        loop {
            let Some(mut byte) = self.peek() else { return Err(self.at) };
            if byte == b'"' {
                let raw = self.bytes.get(from..self.at).unwrap_or_default();
                self.at += 1;
                return Ok(Value { raw, quoted: true });
            }
            // RFC 9110 §5.6.4.
            if byte == b'\\' {
                self.at += 1;
                let Some(quoted) = self.peek() else { return Err(self.at) };
                byte = quoted;
            }
            if (byte < 0x20 && byte != b'\t') || byte == 0x7f {
                return Err(self.at);
            }
            self.at += 1;
        }
    }
}

pub(super) const fn is_tchar(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// Bytes that are known to be ASCII.
fn text(bytes: Option<&[u8]>) -> &str {
    bytes.and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fault(value: &str) -> (Rule, u64) {
        let violation = MediaType::parse(value.as_bytes()).expect_err("refused");
        (violation.rule, violation.at)
    }

    #[test]
    fn a_media_type_is_compared_without_case_and_by_range() {
        let media = MediaType::parse(b" Text/HTML;Charset=UTF-8 ; ;q=\"a\\\\\\\"\xff\" ").unwrap();
        assert_eq!((media.essence(), media.type_(), media.subtype()), ("Text/HTML", "Text", "HTML"));
        assert_eq!(media.to_string(), "Text/HTML");
        for range in ["text/html", "TEXT/*", "*/*", "Text/HTML"] {
            assert!(media.is(range), "{range}");
        }
        for range in ["text/htm", "text/htmlx", "text", "html", "", "/", "tex/*", "*/html", "text/html;charset=utf-8"] {
            assert!(!media.is(range), "{range}");
        }
        assert_eq!(media.suffix(), None);
        let names: Vec<_> = media.parameters().map(|(name, _)| name).collect();
        assert_eq!(names, ["Charset", "q"]);
        let charset = media.parameter("charset").unwrap();
        assert!(charset == "UTF-8" && charset != "utf-8" && charset.eq_ignore_ascii_case("utf-8"));
        assert!(!charset.eq_ignore_ascii_case("utf-80") && !charset.eq_ignore_ascii_case("utf-"));
        assert_eq!(charset.as_str(), Some("UTF-8"));
        let q = media.parameter("Q").unwrap();
        assert_eq!((q.raw(), q.as_str()), (&b"a\\\\\\\"\xff"[..], None));
        let mut buf = [0; 4];
        assert_eq!(q.copy_to(&mut buf), Some(&b"a\\\"\xff"[..]));
        assert_eq!(q.copy_to(&mut [0; 3]), None, "it does not fit");
        assert!(media.parameter("boundary").is_none());
        assert_eq!(format!("{charset:?}"), "\"UTF-8\"");
    }

    #[test]
    fn a_suffix_follows_the_last_plus_sign() {
        for (value, suffix) in [
            ("application/problem+json", Some("json")),
            ("application/a+b+XML;x=y+z", Some("XML")),
            ("application/json", None),
            ("application/a+", None),
            ("a+json/b", None),
        ] {
            let media = MediaType::parse(value.as_bytes()).unwrap();
            assert_eq!(media.suffix(), suffix, "{value}");
            assert_eq!(media.has_suffix("xml"), suffix == Some("XML"));
        }
    }

    #[test]
    fn what_is_no_media_type_is_refused_at_its_first_bad_byte() {
        for (value, at) in [
            ("", 0),
            ("  ", 2),
            ("text", 4),
            ("text/", 5),
            ("/plain", 0),
            ("text /plain", 4),
            ("text/plain/x", 10),
            ("text/plain charset=a", 11),
            ("text/plain, text/html", 10),
            ("text/plain;charset", 18),
            ("text/plain;charset=", 19),
            ("text/plain;charset =a", 18),
            ("text/plain;charset= a", 19),
            ("text/plain;=a", 11),
            ("text/plain;a=\"b", 15),
            ("text/plain;a=\"b\\", 16),
            ("text/plain;a=\"b\n\"", 15),
            ("text/plain;a=\"b\\\x7f\"", 16),
            ("text/plain;a=b\"c\"", 14),
            ("text/plain;a=\"b\"c", 16),
            ("text/pläin", 7),
        ] {
            assert_eq!(fault(value), (Rule::MediaTypeSyntax, at), "{value:?}");
        }
        assert_eq!(fault("a/b;c=1;d=2;C=1"), (Rule::MediaTypeParameterRepeated, 14));
        let many = |n: usize| (0..n).map(|i| format!(";p{i}=1")).fold(String::from("a/b"), |all, one| all + &one);
        assert!(MediaType::parse(many(PARAMETERS).as_bytes()).is_ok());
        assert_eq!(fault(&many(PARAMETERS + 1)), (Rule::MediaTypeParameters, many(PARAMETERS).len() as u64 + 5));
    }

    #[test]
    fn only_tchar_makes_a_token() {
        for byte in 0..=255u8 {
            let allowed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_tchar(byte), allowed, "{byte:#x}");
        }
    }
}
