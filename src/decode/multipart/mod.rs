//! In: a `multipart/form-data` body in any pieces, and memory for one header. Out: its parts, their headers whole,
//! their content as it comes; or the rule that it breaks, and where. No allocation.
//!
//! ```text
//!  --boundary CRLF                    |
//!  Content-Disposition: form-data; .. |  Part
//!  CRLF                               |
//!  content                            |  Data, Data, .. lent from the pieces
//!  CRLF --boundary                    |  PartEnd
//!  --CRLF                             |  finish() says whether it came to this
//! ```
//!
//! What is taken is RFC 7578 over RFC 2046 §5.1, and where these let readers differ, the strict side of it:
//!
//! - Nothing stands before the first boundary but an empty preamble (CRLF), and nothing follows the last one but an end
//!   of line. RFC 2046 has readers ignore both; no client fills them, and what one reader ignores another may take for
//!   a part.
//! - A line that begins with the boundary is a delimiter. If anything but white space follows on it, it is refused: RFC
//!   2046 compares the beginning of the line, others all of it. So is content that begins with a boundary without a
//!   CRLF before it.
//! - Every line of a header ends with CRLF, none is folded, none holds a control byte. Content-Disposition stands once,
//!   is `form-data` and has one `name`. `filename*` is passed over beside `filename`, and refused alone. A
//!   Content-Transfer-Encoding that codes is refused.
//! - In names and file names `%22`, `%0D`, `%0A`, `\"` and `\\` are unescaped, as browsers and others write them; the
//!   bytes must be UTF-8. They may so hold line ends and quotes: they are for reading, and neither for logs nor for
//!   file systems.
//! - A part named `_charset_` (RFC 7578 §4.6) must say `utf-8`.
//! - A part with a file name is a file. Parts inside parts (RFC 7578 §4.3) are content like any other.

mod head;
mod scan;

use head::Spans;
use scan::{Found, alike, find};

use super::media::{MediaType, is_tchar};
use crate::base::{Limit, Limits, Rule, Violation};

/// RFC 2046 §5.1.1.
const BOUNDARY: usize = 70;
/// Without the CRLF before it, a delimiter may begin a body.
const CRLF: usize = 2;

/// What a multipart body consists of.
#[derive(Copy, Clone, Debug)]
pub enum Item<'a> {
    /// A part begins: its header.
    Part(Part<'a>),
    /// Some of its content, lent from the piece; what looked like a boundary and was none, up to 73 bytes of it, from
    /// here.
    Data(&'a [u8]),
    /// It ended.
    PartEnd,
}

/// The header of a part.
#[derive(Copy, Clone, Debug)]
#[non_exhaustive]
pub struct Part<'a> {
    /// The name of its field.
    pub name: &'a str,
    /// The name of its file, if it is one; as the client says, so it may be empty, a path, or anything else.
    pub filename: Option<&'a str>,
    /// The value of its Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// All its field lines.
    pub fields: PartFields<'a>,
}

impl<'a> Part<'a> {
    /// Its media type, if it has one (RFC 7578 §4.4).
    ///
    /// # Errors
    /// As [`MediaType::parse`]; browsers pass on whatever a page says of a file.
    pub fn media_type(&self) -> Option<Result<MediaType<'a>, Violation>> {
        self.content_type.map(MediaType::parse)
    }
}

/// The field lines of a part: names, and values without the white space around them.
#[derive(Copy, Clone, Debug)]
pub struct PartFields<'a> {
    lines: &'a [u8],
}

impl<'a> PartFields<'a> {
    /// The value of the first field of that name, without case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut fields = *self;
        fields.find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The next line, and where its value stands in all that was there at first. The lines are known to be lines.
    fn line(&mut self, whole: usize) -> Option<(usize, &'a str, &'a [u8])> {
        let length = self.lines.iter().position(|b| *b == b'\r')?;
        let (line, rest) = self.lines.split_at_checked(length)?;
        let from = whole.saturating_sub(self.lines.len());
        self.lines = rest.get(2..)?;
        let colon = line.iter().position(|b| *b == b':')?;
        let value = line.get(colon + 1..)?;
        let front = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let value = value.trim_ascii();
        Some((from + colon + 1 + front, core::str::from_utf8(line.get(..colon)?).ok()?, value))
    }
}

impl<'a> Iterator for PartFields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.line(0).map(|(_, name, value)| (name, value))
    }
}

/// A reader of a `multipart/form-data` body.
///
/// `S` is memory for one header at a time: `[u8; N]`, `Vec<u8>`, `&mut [u8]`. [`Limit::PartHeadBytes`] bytes are enough
/// for every header, and twice as many for every header with escapes in its names; 1 KiB does for those that are sent.
/// What is refused for want of memory depends on its size alone, never on how the body was cut.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::media::MediaType;
/// use vestibule::decode::multipart::{Item, Multipart};
///
/// let content_type = MediaType::parse(b"multipart/form-data; boundary=b0")?;
/// let mut body = Multipart::new(&content_type, [0; 1024])?;
/// let pieces = [&b"--b0\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhel"[..], b"lo\r", b"\n--b0--\r\n"];
/// let mut note = Vec::new();
/// for mut piece in pieces {
///     while let Some(item) = body.next(&mut piece, &Limits::DEFAULT)? {
///         match item {
///             Item::Part(part) => assert_eq!((part.name, part.filename), ("note", None)),
///             Item::Data(bytes) => note.extend_from_slice(bytes),
///             Item::PartEnd => assert_eq!(note, b"hello"),
///         }
///     }
/// }
/// body.finish()?;
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Clone, Debug)]
pub struct Multipart<S> {
    scratch: S,
    reader: Reader,
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Multipart<S> {
    /// A reader for a body of that type.
    ///
    /// # Errors
    /// [`Rule::MediaTypeUnsupported`] if it is not `multipart/form-data`; [`Rule::MultipartBoundary`] if its `boundary` is
    /// missing, is not 1 to 70 of the characters that one may have, or ends with a space (RFC 2046 §5.1.1).
    pub fn new(content_type: &MediaType<'_>, scratch: S) -> Result<Multipart<S>, Violation> {
        if !content_type.is("multipart/form-data") {
            return Err(Violation::new(Rule::MediaTypeUnsupported, 0));
        }
        let mut boundary = [0; BOUNDARY];
        let boundary = content_type.parameter("boundary").and_then(|value| value.copy_to(&mut boundary));
        let reader = boundary.and_then(Reader::new).ok_or(Violation::new(Rule::MultipartBoundary, 0))?;
        Ok(Multipart { scratch, reader })
    }

    /// The next item; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// One of the rules of this module's beginning, at its offset in the body; the same again from then on.
    /// [`Rule::PartHeadOverHandler`], with the size of the memory, if a header does not fit it.
    pub fn next<'a, 'p: 'a>(
        &'a mut self,
        piece: &mut &'p [u8],
        limits: &Limits,
    ) -> Result<Option<Item<'a>>, Violation> {
        let step = self.reader.next(piece, self.scratch.as_mut(), limits)?;
        Ok(match step {
            None => None,
            Some(Step::Part(spans)) => Some(Item::Part(spans.lend(self.scratch.as_ref()))),
            Some(Step::Data(bytes)) => Some(Item::Data(bytes)),
            Some(Step::Held(from, to)) => self.reader.delimiter().get(from..to).map(Item::Data),
            Some(Step::PartEnd) => Some(Item::PartEnd),
        })
    }

    /// The body ends here: to be called when [`Multipart::next`] gave `None`.
    ///
    /// # Errors
    /// [`Rule::MultipartTruncated`] at the length of the body, if its last boundary did not come, and
    /// [`Rule::MultipartEpilogue`] there, if only half of the line end behind it did; or what [`Multipart::next`] said.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.reader.finish()
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.reader.at
    }

    /// The memory, for another body.
    pub fn into_scratch(self) -> S {
        self.scratch
    }
}

/// An item whose loan from the memory is still to be made.
enum Step<'p> {
    Part(Spans),
    Data(&'p [u8]),
    /// This much of the delimiter.
    Held(usize, usize),
    PartEnd,
}

/// Where in the body the next byte stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// In the first boundary, `matched` bytes into it.
    Preamble,
    /// After a boundary.
    Delimiter,
    /// After a boundary and a dash.
    Dash,
    /// In the white space after a boundary (RFC 2046 §5.1.1, transport padding), or behind its CR.
    Padding,
    PaddingCr,
    /// In a header.
    LineStart,
    Name,
    Value,
    ValueCr,
    LastCr,
    /// In the content of a part, `matched` bytes into what may be a boundary.
    Content,
    /// After the last boundary, or behind the CR there, or behind its line.
    Closed,
    ClosedCr,
    Over,
}

#[derive(Clone, Debug)]
struct Reader {
    state: State,
    fault: Option<Violation>,
    /// CR LF "--" boundary.
    delimiter: [u8; BOUNDARY + 4],
    length: u8,
    /// How much of it was seen,
    matched: u8,
    /// and with how much of it that began: at the front of a body, or of a content, the CRLF before it need not be there.
    began: u8,
    at: u64,
    /// Bytes of the header, or of white space after a boundary.
    head: usize,
    /// Bytes of the part's content.
    size: u64,
    is_file: bool,
    is_charset: bool,
    parts: u64,
}

impl Reader {
    fn new(boundary: &[u8]) -> Option<Reader> {
        let is_bchar = |b: &u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(b);
        if boundary.last().is_none_or(|b| *b == b' ') || !boundary.iter().all(is_bchar) {
            return None;
        }
        let mut delimiter = [0; BOUNDARY + 4];
        let length = boundary.len() + 4;
        delimiter.first_chunk_mut::<4>()?.copy_from_slice(b"\r\n--");
        delimiter.get_mut(4..length)?.copy_from_slice(boundary);
        Some(Reader {
            state: State::Preamble,
            fault: None,
            delimiter,
            length: length as u8,
            matched: CRLF as u8,
            began: CRLF as u8,
            at: 0,
            head: 0,
            size: 0,
            is_file: false,
            is_charset: false,
            parts: 0,
        })
    }

    fn delimiter(&self) -> &[u8] {
        self.delimiter.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn next<'p>(
        &mut self,
        piece: &mut &'p [u8],
        scratch: &mut [u8],
        limits: &Limits,
    ) -> Result<Option<Step<'p>>, Violation> {
        let step = match self.fault {
            Some(fault) => Err(fault),
            None => self.step(piece, scratch, limits),
        };
        step.inspect_err(|fault| self.fault = Some(*fault))
    }

    fn finish(&mut self) -> Result<(), Violation> {
        let rule = match (self.fault, self.state) {
            (Some(fault), _) => return Err(fault),
            (None, State::Closed | State::Over) => return Ok(()),
            (None, State::ClosedCr) => Rule::MultipartEpilogue,
            (None, _) => Rule::MultipartTruncated,
        };
        let fault = Violation::new(rule, self.at);
        self.fault = Some(fault);
        Err(fault)
    }

    fn step<'p>(
        &mut self,
        piece: &mut &'p [u8],
        scratch: &mut [u8],
        limits: &Limits,
    ) -> Result<Option<Step<'p>>, Violation> {
        loop {
            match self.state {
                State::Content => {
                    if let Some(step) = self.content(piece, limits)? {
                        return Ok(Some(step));
                    }
                }
                State::Preamble => self.preamble(piece)?,
                _ => {
                    let Some((&byte, rest)) = piece.split_first() else { return Ok(None) };
                    let complete = self.byte(byte, scratch, limits)?;
                    self.at = self.at.saturating_add(1);
                    *piece = rest;
                    if complete {
                        return self.part(scratch, limits).map(|spans| Some(Step::Part(spans)));
                    }
                }
            }
            if piece.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Reads on in the boundary; how much it read, and whether more of it may come.
    fn boundary(&mut self, piece: &mut &[u8]) -> bool {
        let expected = self.delimiter().get(usize::from(self.matched)..).unwrap_or_default();
        let (n, whole) = (alike(piece, expected), expected.len());
        self.matched += n as u8;
        self.at = self.at.saturating_add(n as u64);
        *piece = piece.get(n..).unwrap_or_default();
        n == whole || piece.is_empty()
    }

    fn is_matched(&self) -> bool {
        self.matched == self.length
    }

    fn preamble(&mut self, piece: &mut &[u8]) -> Result<(), Violation> {
        // An empty preamble: RFC 2046 §5.1.1 has a CRLF after it.
        if self.at == 0 && piece.first() == Some(&b'\r') {
            self.matched = 0;
        }
        if !self.boundary(piece) {
            return Err(Violation::new(Rule::MultipartPreamble, self.at));
        }
        if self.is_matched() {
            self.state = State::Delimiter;
        }
        Ok(())
    }

    fn content<'p>(&mut self, piece: &mut &'p [u8], limits: &Limits) -> Result<Option<Step<'p>>, Violation> {
        if self.matched > 0 && !self.is_matched() && !self.boundary(piece) {
            // It was none: all of it is content, and the byte that shows it may begin another.
            let (from, to) = (usize::from(self.began), usize::from(self.matched));
            (self.matched, self.began) = (0, 0);
            let held = to - from;
            if held > 0 {
                let begin = self.at.saturating_sub(held as u64);
                let delimiter = self.delimiter;
                let taken = self.take(delimiter.get(from..to).unwrap_or_default(), begin, limits)?;
                return Ok(Some(Step::Held(from, from + taken)));
            }
        }
        if self.matched == 0 {
            let bytes = *piece;
            let Found { content, matched } = find(bytes, self.delimiter());
            let begin = self.at;
            self.matched = matched as u8;
            self.at = self.at.saturating_add((content + matched) as u64);
            *piece = bytes.get(content + matched..).unwrap_or_default();
            if content > 0 {
                let content = bytes.get(..content).unwrap_or_default();
                let taken = self.take(content, begin, limits)?;
                return Ok(content.get(..taken).map(Step::Data));
            }
        }
        if !self.is_matched() {
            return Ok(None);
        }
        if self.began > 0 {
            return Err(Violation::new(Rule::MultipartDelimiter, self.at));
        }
        if self.is_charset && self.size != CHARSET.len() as u64 {
            return Err(Violation::new(Rule::CharsetUnsupported, self.at.saturating_sub(self.length.into())));
        }
        (self.state, self.head) = (State::Delimiter, 0);
        Ok(Some(Step::PartEnd))
    }

    /// Counts content that begins at `begin`; gives how much of it is allowed. If that is not all, the next step fails.
    fn take(&mut self, bytes: &[u8], begin: u64, limits: &Limits) -> Result<usize, Violation> {
        let (limit, rule) = match self.is_file {
            true => (Limit::PartFileBytes, Rule::PartFileTooLarge),
            false => (Limit::FormValueBytes, Rule::FormValueTooLong),
        };
        let left = limits.get(limit).saturating_sub(self.size);
        let mut allowed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let mut fault = None;
        if allowed < bytes.len() {
            fault = Some(Violation::over(rule, begin.saturating_add(allowed as u64), limits));
        }
        if self.is_charset {
            let expected = CHARSET.get(usize::try_from(self.size).unwrap_or(usize::MAX)..).unwrap_or_default();
            let same = bytes.iter().zip(expected).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
            if same < allowed {
                allowed = same;
                fault = Some(Violation::new(Rule::CharsetUnsupported, begin.saturating_add(same as u64)));
            }
        }
        self.size = self.size.saturating_add(allowed as u64);
        self.fault = fault;
        match fault {
            Some(fault) if allowed == 0 => Err(fault),
            _ => Ok(allowed),
        }
    }

    /// A byte that is no content; says whether it completes a header.
    fn byte(&mut self, byte: u8, scratch: &mut [u8], limits: &Limits) -> Result<bool, Violation> {
        let rule = |rule: Rule| Violation::new(rule, self.at);
        self.state = match (self.state, byte) {
            (State::Delimiter, b'-') => State::Dash,
            (State::Delimiter | State::Padding, b'\r') => State::PaddingCr,
            (State::Delimiter | State::Padding, b' ' | b'\t') => self.pad(State::Padding, limits)?,
            (State::PaddingCr, b'\n') if self.parts >= limits.get(Limit::Parts) => {
                return Err(Violation::over(Rule::MultipartTooManyParts, self.at, limits));
            }
            (State::PaddingCr, b'\n') => {
                self.parts += 1;
                self.head = 0;
                State::LineStart
            }
            (State::Dash, b'-') => State::Closed,
            (State::Closed, b' ' | b'\t') => self.pad(State::Closed, limits)?,
            (State::Closed, b'\r') => State::ClosedCr,
            (State::ClosedCr, b'\n') => State::Over,
            (State::Closed | State::ClosedCr | State::Over, _) => return Err(rule(Rule::MultipartEpilogue)),
            (State::Delimiter | State::Dash | State::Padding | State::PaddingCr, _) => {
                return Err(rule(Rule::MultipartDelimiter));
            }
            _ => return self.head(byte, scratch, limits),
        };
        Ok(false)
    }

    fn pad(&mut self, state: State, limits: &Limits) -> Result<State, Violation> {
        self.head += 1;
        if self.head > limits.size(Limit::PartHeadBytes) {
            return Err(Violation::over(Rule::PartHeadTooLarge, self.at, limits));
        }
        Ok(state)
    }

    fn head(&mut self, byte: u8, scratch: &mut [u8], limits: &Limits) -> Result<bool, Violation> {
        // RFC 2046 §5.1: lines as in a message's header, here without folding.
        let next = match (self.state, byte) {
            (State::LineStart, b'\r') => State::LastCr,
            (State::LineStart | State::Name, byte) if is_tchar(byte) => State::Name,
            (State::Name, b':') => State::Value,
            (State::Value, b'\r') => State::ValueCr,
            (State::Value, b'\t' | b' '..=b'~' | 0x80..) => State::Value,
            (State::ValueCr, b'\n') => State::LineStart,
            (State::LastCr, b'\n') => State::Content,
            _ => return Err(Violation::new(Rule::PartFieldSyntax, self.at)),
        };
        if self.head >= limits.size(Limit::PartHeadBytes) {
            return Err(Violation::over(Rule::PartHeadTooLarge, self.at, limits));
        }
        let capacity = scratch.len() as u64;
        let Some(place) = scratch.get_mut(self.head) else {
            return Err(Violation { value: capacity, ..Violation::new(Rule::PartHeadOverHandler, self.at) });
        };
        *place = byte;
        self.head += 1;
        self.state = next;
        Ok(next == State::Content)
    }

    /// The header is complete.
    fn part(&mut self, scratch: &mut [u8], limits: &Limits) -> Result<Spans, Violation> {
        let begin = self.at.saturating_sub(self.head as u64);
        let spans = head::read(scratch, self.head, begin, limits)?;
        let part = spans.lend(scratch);
        self.is_file = part.filename.is_some();
        self.is_charset = !self.is_file && part.name == "_charset_";
        (self.size, self.matched, self.began) = (0, CRLF as u8, CRLF as u8);
        Ok(spans)
    }
}

/// What `_charset_` must say.
const CHARSET: &[u8] = b"utf-8";
