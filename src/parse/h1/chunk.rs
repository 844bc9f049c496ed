//! In: the bytes of a chunked body. Out: where the payload lies (RFC 9112 §7.1).
//!
//! `chunk-size [ chunk-ext ] CRLF data CRLF`, until a size of 0; the trailer section behind that is not ours. A machine a byte
//! at a time for the framing, which is short; payload is never looked at.

use super::super::semantics::is_token_byte;
use crate::base::{Limit, Limits, Rule, Violation};

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    Size,
    /// Behind the size, or behind a complete extension: blanks, `;` or CR.
    AfterSize,
    /// Behind `;`: blanks, then a name.
    ExtStart,
    ExtName,
    /// Blanks behind a name: `=`, `;` or CR.
    AfterName,
    /// Behind `=`.
    ValueStart,
    Value,
    Quoted,
    Escaped,
    Lf,
    Data,
    DataCr,
    DataLf,
}

/// What the next bytes of a chunked body are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// So many bytes of framing, and more input is needed.
    More(usize),
    /// Framing of that many bytes, then this much payload is due.
    Data { framing: usize, left: u64 },
    /// The last chunk's line was that long; the trailer section follows.
    Last { framing: usize },
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Chunks {
    state: State,
    left: u64,
    digits: u8,
    ext: u32,
    ext_total: u32,
    payload: u64,
    chunks: u64,
    overhead: u64,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks { state: State::Size, left: 0, digits: 0, ext: 0, ext_total: 0, payload: 0, chunks: 0, overhead: 0 }
    }

    /// `n` bytes of payload were taken.
    pub(crate) fn took(&mut self, n: u64) {
        self.left = self.left.saturating_sub(n);
        if self.left == 0 {
            self.state = State::DataCr;
        }
    }

    /// Reads framing from `bytes` up to the next payload. Offsets in violations count from their start.
    pub(crate) fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<Piece, Violation> {
        if self.state == State::Data {
            return Ok(Piece::Data { framing: 0, left: self.left });
        }
        for (i, &b) in bytes.iter().enumerate() {
            self.overhead(limits, i)?;
            let lf = self.state == State::Lf;
            self.state = self.step(b, limits).map_err(|v| v.shifted(i as u64))?;
            if !lf {
                continue;
            }
            if self.state == State::Data {
                return Ok(Piece::Data { framing: i + 1, left: self.left });
            }
            return Ok(Piece::Last { framing: i + 1 });
        }
        Ok(Piece::More(bytes.len()))
    }

    /// Framing beyond 16 bytes a chunk and twice the payload is counted (H1-33).
    fn overhead(&mut self, limits: &Limits, at: usize) -> Result<(), Violation> {
        self.overhead += 1;
        let free = 16 * (self.chunks + 1) + self.payload.saturating_mul(2);
        if self.overhead.saturating_sub(free) > limits.get(Limit::ChunkOverheadBytes) {
            return Err(Violation::over(Rule::ChunkOverhead, at as u64, limits));
        }
        Ok(())
    }

    fn step(&mut self, b: u8, limits: &Limits) -> Result<State, Violation> {
        let bad = |rule| Err(Violation::over(rule, 0, limits));
        let next = match self.state {
            State::Size => return self.size(b, limits),
            State::AfterSize | State::AfterName | State::ExtName | State::Value => return self.extension(b, limits),
            State::ExtStart => match b {
                b' ' | b'\t' => State::ExtStart,
                _ if is_token_byte(b) => State::ExtName,
                _ => return bad(Rule::ChunkExtension),
            },
            State::ValueStart => match b {
                b' ' | b'\t' => State::ValueStart,
                b'"' => State::Quoted,
                _ if is_token_byte(b) => State::Value,
                _ => return bad(Rule::ChunkExtension),
            },
            State::Quoted => match b {
                b'"' => State::AfterSize,
                b'\\' => State::Escaped,
                b'\t' | 0x20..=0x7e | 0x80..=0xff => State::Quoted,
                _ => return bad(Rule::ChunkExtension),
            },
            State::Escaped => match b {
                b'\t' | 0x20..=0x7e | 0x80..=0xff => State::Quoted,
                _ => return bad(Rule::ChunkExtension),
            },
            State::Lf if b == b'\n' => return Ok(self.line_ends()),
            State::Lf => return bad(Rule::ChunkLineEnd),
            State::DataCr if b == b'\r' => return Ok(State::DataLf),
            State::DataLf if b == b'\n' => return Ok(State::Size),
            State::DataCr | State::DataLf => return bad(Rule::ChunkDataEnd),
            State::Data => return Ok(State::Data),
        };
        self.count_extension(limits)?;
        Ok(next)
    }

    fn size(&mut self, b: u8, limits: &Limits) -> Result<State, Violation> {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            _ if self.digits == 0 => return Err(Violation::new(Rule::ChunkSize, 0)),
            b';' => {
                self.count_extension(limits)?;
                return Ok(State::ExtStart);
            }
            b'\r' => return Ok(State::Lf),
            b'\n' => return Err(Violation::new(Rule::ChunkLineEnd, 0)),
            _ => return Err(Violation::new(Rule::ChunkSize, 0)),
        };
        self.digits += 1;
        let size = (self.left << 4) | u64::from(digit);
        if self.digits > 16 || self.left >> 59 != 0 {
            return Err(Violation::new(Rule::ChunkSize, 0));
        }
        self.left = size;
        Ok(State::Size)
    }

    /// Behind a name, a value or a quoted string (RFC 9112 §7.1.1, with its BWS).
    fn extension(&mut self, b: u8, limits: &Limits) -> Result<State, Violation> {
        let next = match (self.state, b) {
            (_, b'\r') => return Ok(State::Lf),
            (_, b'\n') => return Err(Violation::new(Rule::ChunkLineEnd, 0)),
            (_, b';') => State::ExtStart,
            (State::ExtName | State::AfterName, b'=') => State::ValueStart,
            (State::ExtName | State::AfterName, b' ' | b'\t') => State::AfterName,
            (_, b' ' | b'\t') => State::AfterSize,
            (same @ (State::ExtName | State::Value), _) if is_token_byte(b) => same,
            _ => return Err(Violation::new(Rule::ChunkExtension, 0)),
        };
        self.count_extension(limits)?;
        Ok(next)
    }

    fn count_extension(&mut self, limits: &Limits) -> Result<(), Violation> {
        self.ext += 1;
        self.ext_total += 1;
        if u64::from(self.ext) > limits.get(Limit::ChunkExtBytes) {
            return Err(Violation::over(Rule::ChunkExtensionTooLong, 0, limits));
        }
        if u64::from(self.ext_total) > limits.get(Limit::ChunkExtBodyBytes) {
            return Err(Violation::over(Rule::ChunkExtensionsTooLong, 0, limits));
        }
        Ok(())
    }

    fn line_ends(&mut self) -> State {
        (self.digits, self.ext) = (0, 0);
        self.chunks += 1;
        self.payload = self.payload.saturating_add(self.left);
        if self.left == 0 { State::Size } else { State::Data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, Rule> {
        let (mut c, mut at, mut out) = (Chunks::new(), 0, String::new());
        loop {
            match c.next(&body.as_bytes()[at..], &Limits::DEFAULT).map_err(|v| v.rule)? {
                Piece::More(_) => return Ok(out + "..."),
                Piece::Last { .. } => return Ok(out),
                Piece::Data { framing, left } => {
                    let from = at + framing;
                    let n = (left as usize).min(body.len() - from);
                    out += &body[from..from + n];
                    c.took(n as u64);
                    at = from + n;
                    if at == body.len() {
                        return Ok(out + "...");
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_and_their_extensions() {
        assert_eq!(read("3\r\nabc\r\n2;a;b=c ; d=\"x\\\"y;\"\r\nde\r\n000\r\n"), Ok("abcde".into()));
        assert_eq!(read("A\r\n0123"), Ok("0123...".into()));
        assert_eq!(read("7fffffffffffffff\r\n"), Ok("...".into()));
        for (bad, rule) in [
            ("\r\n", Rule::ChunkSize),
            (" 3\r\n", Rule::ChunkSize),
            ("3 \r\n", Rule::ChunkSize),
            ("0x3\r\n", Rule::ChunkSize),
            ("+3\r\n", Rule::ChunkSize),
            ("8000000000000000\r\n", Rule::ChunkSize),
            ("00000000000000003\r\n", Rule::ChunkSize),
            ("3\n", Rule::ChunkLineEnd),
            ("3\rx", Rule::ChunkLineEnd),
            ("3;a\nb", Rule::ChunkLineEnd),
            ("3;\r\n", Rule::ChunkExtension),
            ("3;a=\r\n", Rule::ChunkExtension),
            ("3;a=\"\r\n\"", Rule::ChunkExtension),
            ("3;a=b c", Rule::ChunkExtension),
            ("3;a\u{1}", Rule::ChunkExtension),
            ("3\r\nabcd", Rule::ChunkDataEnd),
            ("3\r\nabc\n", Rule::ChunkDataEnd),
            ("3\r\nabc\rX", Rule::ChunkDataEnd),
        ] {
            assert_eq!(read(bad), Err(rule), "{bad:?}");
        }
        assert_eq!(read(&format!("3;{}\r\nabc\r\n0\r\n", "a".repeat(255))), Ok("abc".into()));
        assert_eq!(read(&format!("3;{}\r\nabc\r\n", "a".repeat(256))), Err(Rule::ChunkExtensionTooLong));
    }
}
