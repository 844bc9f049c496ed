//! In: plaintext of one connection, from its first unconsumed byte. Out: one [`Item`] at a time, as spans and lengths.
//!
//! ```text
//!            +-> Sized --+
//!   Head ----+-> Chunk <-+-> Trailers --+-> Done -- next() --> Head
//!            +----------------------- --+
//!            Done -- tunnel() --> Tunnel
//! ```

use super::chunk::{Chunks, Piece};
use super::head::{self, Facts, HeadSpans, Reading};
use super::scan::{Budget, Scan, Scanner};
use crate::base::{Limit, Limits, Rule, Span, Violation};
use crate::parse::semantics::is_token_byte;

/// What comes next in the plaintext. Lengths and spans count from its first byte.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// At least so many more bytes are needed.
    Need {
        /// Bytes; 1 where more cannot be told.
        want: usize,
    },
    /// Framing: consume it.
    Skip {
        /// Bytes.
        len: usize,
    },
    /// A request. Consume its `len`.
    Head {
        /// Where its parts lie.
        spans: HeadSpans,
        /// What it says.
        facts: Facts,
    },
    /// Body bytes, none of them consumed yet: [`Receiver::took`] says how many were.
    Data {
        /// Bytes that are here.
        len: usize,
        /// Bytes that are still to come, these included, of the body or of this chunk.
        left: u64,
    },
    /// The trailer section. Consume `len`; the body is complete.
    Trailers {
        /// Its field lines.
        fields: Span,
        /// Bytes, with the empty line.
        len: usize,
    },
    /// The body is complete. Consume `len`.
    End {
        /// Bytes.
        len: usize,
    },
    /// The message is complete: [`Receiver::next`] allows another one.
    Done,
    /// Tunnel bytes: everything that is here.
    Tunnel {
        /// Bytes.
        len: usize,
    },
}

#[derive(Copy, Clone, Debug)]
enum Phase {
    Start { crlf_seen: bool },
    Head(Scanner),
    Sized { left: u64 },
    Chunk(Chunks),
    Trailers(Scanner),
    Done,
    Tunnel,
}

/// The receiving side of HTTP/1.1: a machine of its own, without buffers.
///
/// ```
/// use vestibule::parse::h1::{Item, Receiver};
/// let limits = vestibule::Limits::DEFAULT;
/// let mut receiver = Receiver::new();
/// let input = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
/// assert_eq!(receiver.step(&input[..9], &limits), Ok(Item::Need { want: 1 }));
/// let Ok(Item::Head { spans, facts }) = receiver.step(input, &limits) else { panic!() };
/// assert_eq!(spans.target.of(input), b"/x");
/// assert!(facts.persistent);
/// assert_eq!(receiver.step(b"", &limits), Ok(Item::Done));
/// ```
#[derive(Clone, Debug)]
pub struct Receiver {
    phase: Phase,
    facts: Facts,
    body: u64,
    visited: u64,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Before the first request.
    pub const fn new() -> Receiver {
        Receiver {
            phase: Phase::Start { crlf_seen: false },
            facts: Facts {
                content_length: None,
                chunked: false,
                persistent: false,
                expects_continue: false,
                upgrade: false,
                is_head: false,
                is_connect: false,
                coding: Span { start: 0, end: 0 },
                coding_lines: 0,
                lines: 0,
                weight: 0,
            },
            body: 0,
            visited: 0,
        }
    }

    /// What comes next. `plain` begins with the first byte that was not consumed, and only ever grows until something is.
    ///
    /// # Errors
    /// The rule that the bytes break, with the offset in `plain`. The machine is of no use afterwards.
    pub fn step(&mut self, plain: &[u8], limits: &Limits) -> Result<Item, Violation> {
        match self.phase {
            Phase::Start { crlf_seen } => self.start(plain, limits, crlf_seen),
            Phase::Head(scanner) => self.head(plain, limits, scanner),
            Phase::Sized { left } => Ok(data(plain.len(), left)),
            Phase::Chunk(chunks) => self.chunk(plain, limits, chunks),
            Phase::Trailers(scanner) => self.trailers(plain, limits, scanner),
            Phase::Done => Ok(Item::Done),
            Phase::Tunnel if plain.is_empty() => Ok(Item::Need { want: 1 }),
            Phase::Tunnel => Ok(Item::Tunnel { len: plain.len() }),
        }
    }

    /// So many body bytes, of those that [`Item::Data`] named, were consumed.
    pub fn took(&mut self, n: usize) {
        let n = n as u64;
        self.body = self.body.saturating_add(n);
        match &mut self.phase {
            Phase::Sized { left } => {
                *left = left.saturating_sub(n);
                if *left == 0 {
                    self.phase = Phase::Done;
                }
            }
            Phase::Chunk(chunks) => chunks.took(n),
            _ => {}
        }
    }

    /// Another message may come, on the same connection.
    pub fn next(&mut self) {
        self.phase = Phase::Start { crlf_seen: false };
        self.body = 0;
    }

    /// From here on the connection is a tunnel (RFC 9110 §7.8, §9.3.6).
    pub fn tunnel(&mut self) {
        self.phase = Phase::Tunnel;
    }

    /// No byte of a message has come since the last one; a forgiven empty line is none.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Start { .. })
    }

    /// The message is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// The body is declared, and all that is left of it; `None` for a chunked one.
    pub fn left(&self) -> Option<u64> {
        match self.phase {
            Phase::Sized { left } => Some(left),
            _ => None,
        }
    }

    /// Body bytes of this message that were consumed.
    pub fn body_bytes(&self) -> u64 {
        self.body
    }

    /// Bytes looked at since the connection began, each scan and each parse counted.
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// At most one empty line is forgiven (RFC 9112 §2.2; H1-01).
    fn start(&mut self, plain: &[u8], limits: &Limits, crlf_seen: bool) -> Result<Item, Violation> {
        match plain {
            [] => Ok(Item::Need { want: 1 }),
            [b'\r'] if !crlf_seen => Ok(Item::Need { want: 1 }),
            [b'\r', b'\n', ..] if !crlf_seen => {
                self.phase = Phase::Start { crlf_seen: true };
                Ok(Item::Skip { len: 2 })
            }
            [b'\r', ..] if !crlf_seen => Err(Violation::new(Rule::BareCr, 1)),
            [b'\n', ..] => Err(Violation::new(Rule::BareLf, 0)),
            [b, ..] if !is_token_byte(*b) => Err(Violation::new(Rule::BytesBeforeRequestLine, 0)),
            _ => self.head(plain, limits, Scanner::head(limits)),
        }
    }

    /// A head that is here at once is looked at once; of one that comes in parts, the lines are read when all of it is here.
    fn head(&mut self, plain: &[u8], limits: &Limits, mut scanner: Scanner) -> Result<Item, Violation> {
        let before = scanner.scanned();
        let mut reading = (before == 0).then(|| Reading::new(plain, limits));
        let found = match &mut reading {
            Some(reading) => scanner.scan_lines(plain, limits, |start, end| reading.line(start, end)),
            None => scanner.scan(plain, limits),
        };
        self.visited += u64::from(scanner.scanned().saturating_sub(before));
        let Scan::End(len) = found? else {
            self.phase = Phase::Head(scanner);
            return Ok(Item::Need { want: 1 });
        };
        let line = scanner.request_line(plain);
        let (spans, facts) = match reading {
            Some(reading) => reading.finish(line, len as usize)?,
            None => {
                self.visited += u64::from(len);
                head::parse(plain.get(..len as usize).unwrap_or_default(), line, limits)?
            }
        };
        self.facts = facts;
        self.phase = match facts.content_length {
            _ if facts.chunked => Phase::Chunk(Chunks::new()),
            None | Some(0) => Phase::Done,
            Some(n) if n > limits.get(Limit::BodyBytes) => {
                return Err(Violation::over(Rule::BodyTooLarge, u64::from(len), limits));
            }
            Some(left) => Phase::Sized { left },
        };
        Ok(Item::Head { spans, facts })
    }

    fn chunk(&mut self, plain: &[u8], limits: &Limits, mut chunks: Chunks) -> Result<Item, Violation> {
        let item = match chunks.next(plain, limits)? {
            Piece::More(0) => Item::Need { want: 1 },
            Piece::More(len) => Item::Skip { len },
            Piece::Data { framing: 0, left } => data(plain.len(), left),
            Piece::Data { framing, left } => {
                if self.body.saturating_add(left) > limits.get(Limit::BodyBytes) {
                    return Err(Violation::over(Rule::BodyTooLarge, framing as u64 - 1, limits));
                }
                Item::Skip { len: framing }
            }
            Piece::Last { framing } => {
                self.visited += framing as u64;
                self.phase = Phase::Trailers(Scanner::trailers(Budget::of_trailers(limits, &self.facts)));
                return Ok(Item::Skip { len: framing });
            }
        };
        if let Item::Skip { len } = item {
            self.visited += len as u64;
        }
        self.phase = Phase::Chunk(chunks);
        Ok(item)
    }

    fn trailers(&mut self, plain: &[u8], limits: &Limits, mut scanner: Scanner) -> Result<Item, Violation> {
        let before = scanner.scanned();
        let found = scanner.scan(plain, limits);
        self.visited += u64::from(scanner.scanned().saturating_sub(before));
        let Scan::End(len) = found? else {
            self.phase = Phase::Trailers(scanner);
            return Ok(Item::Need { want: 1 });
        };
        let len = len as usize;
        self.phase = Phase::Done;
        if len == 2 {
            return Ok(Item::End { len });
        }
        self.visited += len as u64;
        head::parse_trailers(plain.get(..len).unwrap_or_default(), limits)?;
        Ok(Item::Trailers { fields: Span::new(0, len - 2), len })
    }
}

fn data(here: usize, left: u64) -> Item {
    match here {
        0 => Item::Need { want: 1 },
        _ => Item::Data { len: usize::try_from(left).unwrap_or(usize::MAX).min(here), left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the scanner finds goes before what the reading found in an earlier line, and of two lines the first: whole or byte by byte.
    #[test]
    fn a_head_with_several_faults_is_refused_for_the_same_one_however_it_comes() {
        for (head, rule) in [
            ("GET / HTTP/1.1\r\nhost: a b\r\nx: \u{1}\r\n\r\n", Rule::ControlByte),
            ("GET / HTTP/1.1\r\nno colon\r\nx: y\n\r\n", Rule::BareLf),
            ("GET / HTTP/1.1\r\nhost: a b\r\nno colon\r\n\r\n", Rule::HostSyntax),
            ("GET / HTTP/1.1\r\nbad name: x\r\nhost: a b\r\n\r\n", Rule::FieldNameSyntax),
            ("GET * HTTP/1.1\r\nexpect: x\r\n\r\n", Rule::ExpectationUnknown),
        ] {
            let (head, limits) = (head.as_bytes(), Limits::DEFAULT);
            let whole = Receiver::new().step(head, &limits).expect_err("a fault");
            let mut receiver = Receiver::new();
            let cut = (1..=head.len()).find_map(|n| receiver.step(&head[..n], &limits).err()).expect("a fault");
            assert_eq!((whole.rule, whole), (rule, cut), "{}", head.escape_ascii());
        }
    }
}
