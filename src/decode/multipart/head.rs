//! In: the header of a part, whole. Out: where its name, its file name and its type stand; or the rule that it breaks,
//! and where.

use super::{Part, PartFields};
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::media::{Cursor, Value, Wrong};
use crate::decode::text::Utf8;

/// From one byte of the scratch memory to before another.
type Place = (usize, usize);

/// What a header says, as places in the scratch memory.
#[derive(Copy, Clone, Debug)]
pub(super) struct Spans {
    head: usize,
    name: Place,
    filename: Option<Place>,
    content_type: Option<Place>,
}

impl Spans {
    pub(super) fn lend<'a>(&self, scratch: &'a [u8]) -> Part<'a> {
        let bytes = |(from, to): Place| scratch.get(from..to).unwrap_or_default();
        let text = |place: Place| core::str::from_utf8(bytes(place)).unwrap_or_default();
        Part {
            name: text(self.name),
            filename: self.filename.map(text),
            content_type: self.content_type.map(bytes),
            fields: PartFields { lines: bytes((0, self.head)) },
        }
    }
}

/// Reads the header that lies in the first `length` bytes of `scratch`, with its lines already known to be lines.
/// Behind it, names with escapes are unescaped. `at` is where the header begins in the body.
pub(super) fn read(scratch: &mut [u8], length: usize, at: u64, limits: &Limits) -> Result<Spans, Violation> {
    let capacity = scratch.len();
    let (head, free) = scratch.split_at_mut_checked(length).unwrap_or_default();
    let fault = |rule: Rule, offset: usize| Violation::new(rule, at.saturating_add(offset as u64));
    let (mut disposition, mut content_type, mut coding) = (None, None, None);
    let mut fields = PartFields { lines: head };
    while let Some((from, name, value)) = fields.line(length) {
        let place = match () {
            () if name.eq_ignore_ascii_case("content-disposition") => &mut disposition,
            () if name.eq_ignore_ascii_case("content-type") => &mut content_type,
            () if name.eq_ignore_ascii_case("content-transfer-encoding") => &mut coding,
            () => continue,
        };
        if place.is_some() {
            let is_disposition = name.eq_ignore_ascii_case("content-disposition");
            return Err(fault(if is_disposition { Rule::PartDisposition } else { Rule::PartFieldSyntax }, from));
        }
        *place = Some((from, value));
    }
    if let Some((from, value)) = coding
        && !["7bit", "8bit", "binary"].iter().any(|plain| value.eq_ignore_ascii_case(plain.as_bytes()))
    {
        return Err(fault(Rule::PartTransferEncoding, from));
    }
    // RFC 7578 §4.2: every part has it.
    let Some((from, value)) = disposition else { return Err(fault(Rule::PartDisposition, length)) };
    let Disposition { name, filename } = parameters(value, from, at)?;
    let mut words = Words { free, used: 0, length, capacity, at };
    let most = limits.size(Limit::FormNameBytes);
    let name = words.place(name, |offset| match offset {
        (count, offset) if count > most => Err(Violation::over(Rule::FormNameTooLong, offset, limits)),
        _ => Ok(()),
    })?;
    let filename = filename.map(|filename| words.place(filename, |_| Ok(()))).transpose()?;
    let content_type = content_type.map(|(from, value)| (from, from + value.len()));
    Ok(Spans { head: length, name, filename, content_type })
}

/// A parameter's value, and where in the header its first byte after a quote stands.
#[derive(Copy, Clone)]
struct Word<'a> {
    value: Value<'a>,
    from: usize,
}

struct Disposition<'a> {
    name: Word<'a>,
    filename: Option<Word<'a>>,
}

/// Reads `form-data; name="..."; filename="..."`, which stands at `from` in the header.
fn parameters(value: &[u8], from: usize, at: u64) -> Result<Disposition<'_>, Violation> {
    let fault = |offset: usize| Violation::new(Rule::PartDisposition, at.saturating_add((from + offset) as u64));
    let mut cursor = Cursor::new(value);
    if !cursor.token().map_err(fault)?.eq_ignore_ascii_case("form-data") {
        return Err(fault(0));
    }
    let (mut name, mut filename, mut extended) = (None, None, None);
    let kept = cursor.distinct(|parameter| {
        let word =
            Word { value: parameter.value, from: from + parameter.at + usize::from(parameter.value.is_quoted()) };
        match parameter.name {
            is if is.eq_ignore_ascii_case("name") => name = Some(word),
            is if is.eq_ignore_ascii_case("filename") => filename = Some(word),
            is if is.eq_ignore_ascii_case("filename*") => extended = Some(parameter.at),
            _ => {}
        }
    });
    kept.map_err(|(Wrong::Syntax | Wrong::Repeated | Wrong::TooMany, offset)| fault(offset))?;
    match (name, filename, extended) {
        // RFC 7578 §4.2 forbids `filename*`. Beside `filename` it is passed over, since a common client library always sends
        // both; alone it would make the file of one reader a field of another.
        (Some(_), None, Some(offset)) => Err(fault(offset)),
        (Some(name), filename, _) => Ok(Disposition { name, filename }),
        (None, ..) => Err(fault(value.len())),
    }
}

/// Gives words places: where they lie, or unescaped behind the header.
struct Words<'s> {
    free: &'s mut [u8],
    used: usize,
    /// The header's, and with it the place at which `free` begins.
    length: usize,
    capacity: usize,
    at: u64,
}

impl Words<'_> {
    /// `check` is told how many bytes there are once one more is taken, and where that stands in the body.
    fn place(
        &mut self,
        word: Word<'_>,
        check: impl Fn((usize, u64)) -> Result<(), Violation>,
    ) -> Result<Place, Violation> {
        let raw = word.value.raw();
        let begin = self.at.saturating_add(word.from as u64);
        let mut utf8 = Utf8::new();
        utf8.push(raw).and_then(|()| utf8.finish()).map_err(|violation| violation.shifted(begin))?;
        let mut escapes = Escapes { raw, at: 0, quoted: word.value.is_quoted() };
        let (mut count, start) = (0, self.used);
        loop {
            let offset = escapes.at;
            let Some(byte) = escapes.next() else { break };
            count += 1;
            check((count, begin.saturating_add(offset as u64)))?;
            // Only if there was an escape is it needed.
            if let Some(place) = self.free.get_mut(start + count - 1) {
                *place = byte;
            }
        }
        if count == raw.len() {
            return Ok((word.from, word.from + count));
        }
        self.used = start + count;
        if self.used > self.free.len() {
            return Err(Violation { value: self.capacity as u64, ..Violation::new(Rule::PartHeadOverHandler, begin) });
        }
        Ok((self.length + start, self.length + self.used))
    }
}

/// The bytes of a name or a file name as browsers escape them (WHATWG HTML, "multipart/form-data encoding algorithm"):
/// `%22`, `%0D` and `%0A` for what cannot stand between quotes, and as RFC 2045 quotes: `\"` and `\\`. Any other
/// percent sign or backslash is itself.
struct Escapes<'a> {
    raw: &'a [u8],
    at: usize,
    quoted: bool,
}

impl Iterator for Escapes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let rest = self.raw.get(self.at..)?;
        let (byte, length) = match rest {
            [] => return None,
            [b'\\', byte @ (b'"' | b'\\'), ..] if self.quoted => (*byte, 2),
            [b'%', b'2', b'2', ..] if self.quoted => (b'"', 3),
            [b'%', b'0', b'D' | b'd', ..] if self.quoted => (b'\r', 3),
            [b'%', b'0', b'A' | b'a', ..] if self.quoted => (b'\n', 3),
            [byte, ..] => (*byte, 1),
        };
        self.at += length;
        Some(byte)
    }
}
