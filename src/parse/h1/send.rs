//! In: what the handler answers. Out: the bytes of a response (RFC 9112 §4 to §7), all or nothing for heads.

use super::state::{H1Exchange, Sending};
use crate::base::{FieldFault, Limit, Limits, Misuse, Sink};
use crate::parse::exchange::Content;
use crate::parse::semantics::{check_field, may_be_trailer};

/// Room that is held back from applications: for the end of a chunked body, a fault's reply, TLS's last words.
pub(crate) const RESERVE: u32 = 384;

type Fields<'f> = &'f [(&'f str, &'f str)];

/// `chunk-size CRLF` and `CRLF` for a chunk of up to 2^32 bytes.
const CHUNK_FRAMING: usize = 12;

impl H1Exchange {
    /// The final response's head, and as much content as there is room for.
    pub(crate) fn respond(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        if self.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(200..=599).contains(&status) || (self.facts.is_connect && status < 300) {
            return Err(Misuse::Status);
        }
        let size = check_fields(fields, limits)?;
        let (sending, length) = self.framing(status, content)?;
        let whole = self.shared.whole || matches!(content, Content::Whole(_));
        let close = self.close
            || self.shared.close
            || self.facts.is_connect
            || sending == Sending::UntilClose
            || (self.continue_due && !self.shared.received)
            || (whole && !self.can_skip_rest(limits));
        let mut digits = Digits::default();
        let framing: [&[u8]; 3] = match (length, sending) {
            (Some(n), _) => [b"content-length: ", digits.decimal(n), b"\r\n"],
            (None, Sending::Chunked) => [b"transfer-encoding: chunked\r\n", b"", b""],
            (None, Sending::Silent)
                if content == Content::Streamed && self.facts.is_head && !self.old && has_content(status) =>
            {
                [b"transfer-encoding: chunked\r\n", b"", b""]
            }
            _ => [b""; 3],
        };
        let persistence: &[u8] = match (close, self.old) {
            (true, _) => b"connection: close\r\n",
            (false, true) => b"connection: keep-alive\r\n",
            (false, false) => b"",
        };
        let line = status_line(status);
        let total = line.len() + framing.iter().map(|p| p.len()).sum::<usize>() + persistence.len() + size + 2;
        if total as u64 > limits.get(Limit::ResponseHeadBytes) {
            return Err(Misuse::HeadTooLarge);
        }
        if total > out.room() {
            return Err(Misuse::NoRoom);
        }
        out.append(&line);
        put_fields(out, fields);
        for part in framing {
            out.append(part);
        }
        out.append(persistence);
        out.append(b"\r\n");
        out.said(status);
        self.close = close;
        self.continue_due = false;
        self.sending = sending;
        self.shared.whole = whole;
        match content {
            Content::Whole(bytes) => {
                let n = self.write(out, bytes)?;
                if n == bytes.len() {
                    self.sending = Sending::Done;
                }
                Ok(n)
            }
            _ => Ok(0),
        }
    }

    /// RFC 9112 §6: how the content will be framed, and the length to declare.
    fn framing(&self, status: u16, content: Content<'_>) -> Result<(Sending, Option<u64>), Misuse> {
        let length = match content {
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Sized(n) => Some(n),
            Content::Streamed => None,
        };
        if !has_content(status) {
            // 204 has no content and no Content-Length, 304 none on the wire (RFC 9110 §8.6, §15.4.5).
            let refused = status == 204 && length.unwrap_or(0) > 0;
            return if refused { Err(Misuse::TooMuchContent) } else { Ok((Sending::Silent, None)) };
        }
        if status == 205 && length.unwrap_or(1) > 0 {
            return Err(Misuse::TooMuchContent); // RFC 9110 §15.3.6
        }
        Ok(match (length, self.facts.is_head) {
            (length, true) => (Sending::Silent, length),
            (Some(left), false) => (Sending::Sized { left }, Some(left)),
            (None, false) if self.old => (Sending::UntilClose, None),
            (None, false) => (Sending::Chunked, None),
        })
    }

    /// Content behind the head: takes what there is room for, and says how much.
    pub(crate) fn write(&mut self, out: &mut impl Sink, bytes: &[u8]) -> Result<usize, Misuse> {
        let room = out.room();
        let n = match &mut self.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => return Ok(bytes.len()),
            Sending::Sized { left } => {
                if bytes.len() as u64 > *left {
                    return Err(Misuse::TooMuchContent);
                }
                let n = bytes.len().min(room);
                *left -= n as u64;
                out.append(&bytes[..n]);
                n
            }
            Sending::UntilClose | Sending::Tunnel => {
                let n = bytes.len().min(room);
                out.append(&bytes[..n]);
                n
            }
            Sending::Chunked => {
                let n = bytes.len().min(room.saturating_sub(CHUNK_FRAMING)).min(u32::MAX as usize);
                if n > 0 {
                    let mut digits = Digits::default();
                    out.append(digits.hexadecimal(n as u64));
                    out.append(b"\r\n");
                    out.append(&bytes[..n]);
                    out.append(b"\r\n");
                }
                n
            }
        };
        self.shared.starved = n < bytes.len();
        if self.shared.whole && self.sending == (Sending::Sized { left: 0 }) {
            self.sending = Sending::Done;
        }
        Ok(n)
    }

    /// Content of a short answer that is certain to be taken, where there is room for it; with what may be `parked`, or without.
    /// A version with windows can say less than that.
    pub(crate) fn takes(&self, _parked: bool) -> usize {
        usize::MAX
    }

    /// All the declared content is about to be put behind the head by other means; false if none is to be sent (HEAD).
    pub(crate) fn placed(&mut self, _out: &mut impl Sink, len: usize) -> Result<bool, Misuse> {
        let sent = match self.sending {
            Sending::Sized { left } if left == len as u64 => true,
            Sending::Silent => false,
            _ => return Err(Misuse::TooMuchContent),
        };
        self.sending = Sending::Done;
        Ok(sent)
    }

    /// The content is complete. Short of what was declared, the connection must end (RSP-02).
    pub(crate) fn finish(&mut self, out: &mut impl Sink) -> Result<(), Misuse> {
        self.sending = match self.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Sized { left } if left > 0 => Sending::Broken,
            Sending::Chunked => {
                if !out.put_last(&[b"0\r\n\r\n"]) {
                    return Err(Misuse::NoRoom);
                }
                Sending::Done
            }
            Sending::Sized { .. } | Sending::UntilClose | Sending::Silent | Sending::Tunnel => Sending::Done,
        };
        self.shared.starved = false;
        Ok(())
    }

    /// Trailers, and with them the end (RFC 9112 §7.1.2). Where the framing has no place for them they are left out.
    pub(crate) fn trailers(&mut self, out: &mut impl Sink, limits: &Limits, fields: Fields<'_>) -> Result<(), Misuse> {
        let size = check_fields(fields, limits)?;
        if fields.iter().any(|f| !may_be_trailer(f.0.as_bytes())) {
            return Err(Misuse::Field(FieldFault::Trailer));
        }
        match self.sending {
            Sending::Sized { .. } | Sending::Tunnel => Err(Misuse::NoTrailers),
            Sending::Chunked if size + 5 > out.room() => Err(Misuse::NoRoom),
            Sending::Chunked => {
                out.append(b"0\r\n");
                put_fields(out, fields);
                out.append(b"\r\n");
                self.sending = Sending::Done;
                self.shared.starved = false;
                Ok(())
            }
            _ => self.finish(out),
        }
    }

    /// An interim response (RFC 9110 §15.2). An HTTP/1.0 client gets none.
    pub(crate) fn inform(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if self.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(100..=199).contains(&status) || status == 101 {
            return Err(Misuse::Status);
        }
        let size = check_fields(fields, limits)?;
        if self.old {
            return Ok(());
        }
        let line = status_line(status);
        if line.len() + size + 2 > out.room() {
            return Err(Misuse::NoRoom);
        }
        out.append(&line);
        put_fields(out, fields);
        out.append(b"\r\n");
        out.said(status);
        if status == 100 {
            self.continue_due = false;
        }
        Ok(())
    }

    /// 101 to an upgrade, 200 to CONNECT: from here on, bytes are the handler's (RFC 9110 §7.8, §9.3.6).
    pub(crate) fn upgrade(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        protocol: &str,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if self.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(self.facts.upgrade || self.facts.is_connect) {
            return Err(Misuse::NoUpgrade);
        }
        let size = check_fields(fields, limits)?;
        let status = if self.facts.is_connect { 200 } else { 101 };
        let line = status_line(status);
        let own: [&[u8]; 4] = if self.facts.is_connect {
            [&line, b"", b"", b""]
        } else {
            if !protocol.split('/').all(|t| crate::parse::semantics::is_token(t.as_bytes())) {
                return Err(Misuse::Field(FieldFault::Value));
            }
            if !self.offered.has(protocol) {
                return Err(Misuse::NoUpgrade); // RFC 9110 §7.8
            }
            [&line, b"connection: upgrade\r\nupgrade: ", protocol.as_bytes(), b"\r\n"]
        };
        if own.iter().map(|p| p.len()).sum::<usize>() + size + 2 > out.room() {
            return Err(Misuse::NoRoom);
        }
        for part in own {
            out.append(part);
        }
        put_fields(out, fields);
        out.append(b"\r\n");
        out.said(status);
        self.sending = Sending::Tunnel;
        self.close = true;
        Ok(())
    }
}

/// One fixed reply for each status: no input is echoed, equal causes read alike (RSP-04).
/// `field`: one that belongs to the status.
pub(crate) fn fault_reply(out: &mut impl Sink, status: u16, field: Option<(&str, &str)>) {
    let field: [&[u8]; 4] = match field {
        Some((name, value)) => [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"],
        None => [b""; 4],
    };
    let line = status_line(status);
    let end = b"content-length: 0\r\nconnection: close\r\n\r\n";
    if out.put_last(&[&line, field[0], field[1], field[2], field[3], end]) {
        out.said(status);
    }
}

/// 100 (Continue), once the handler reads.
pub(crate) fn continue_reply(out: &mut impl Sink) -> bool {
    let fits = out.put(&[&status_line(100), b"\r\n"]);
    if fits {
        out.said(100);
    }
    fits
}

/// Checks every field; says how many bytes their lines take.
fn check_fields(fields: Fields<'_>, limits: &Limits) -> Result<usize, Misuse> {
    let mut size = 0usize;
    for (name, value) in fields {
        check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
        if value.len() as u64 > limits.get(Limit::FieldValueBytes) {
            return Err(Misuse::HeadTooLarge);
        }
        size = size.saturating_add(name.len() + value.len() + 4);
    }
    if size as u64 > limits.get(Limit::ResponseHeadBytes) { Err(Misuse::HeadTooLarge) } else { Ok(size) }
}

fn put_fields(out: &mut impl Sink, fields: Fields<'_>) {
    for (name, value) in fields {
        out.append(name.as_bytes());
        out.append(b": ");
        out.append(value.as_bytes());
        out.append(b"\r\n");
    }
}

fn has_content(status: u16) -> bool {
    !matches!(status, 204 | 304)
}

/// A status line: its bytes, without an allocator.
struct StatusLine {
    bytes: [u8; 64],
    len: usize,
}

impl core::ops::Deref for StatusLine {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// `HTTP/1.1 200 OK CRLF` (RFC 9112 §4).
#[inline]
fn status_line(status: u16) -> StatusLine {
    const OK: StatusLine = StatusLine::new(200);
    if status == 200 { OK } else { StatusLine::new(status) }
}

impl StatusLine {
    const fn new(status: u16) -> StatusLine {
        let mut line = StatusLine { bytes: [0; 64], len: 0 };
        let digits = [b'0' + (status / 100 % 10) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
        let parts: [&[u8]; 5] = [b"HTTP/1.1 ", &digits, b" ", reason(status).as_bytes(), b"\r\n"];
        let mut i = 0;
        while i < parts.len() {
            let (_, rest) = line.bytes.split_at_mut(line.len);
            rest.split_at_mut(parts[i].len()).0.copy_from_slice(parts[i]);
            line.len += parts[i].len();
            i += 1;
        }
        line
    }
}

/// RFC 9110 §15 and RFC 6585; all of them shorter than 33 bytes.
pub(crate) const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Digits of a number, without an allocator.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn decimal(&mut self, n: u64) -> &[u8] {
        self.base(n, 10)
    }

    fn hexadecimal(&mut self, n: u64) -> &[u8] {
        self.base(n, 16)
    }

    fn base(&mut self, mut n: u64, base: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b"0123456789abcdef"[(n % base) as usize];
            n /= base;
            if n == 0 {
                return &self.0[at..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_status_lines() {
        assert_eq!(Digits::default().decimal(u64::MAX), b"18446744073709551615");
        assert_eq!(Digits::default().hexadecimal(0), b"0");
        assert_eq!(&*status_line(431), b"HTTP/1.1 431 Request Header Fields Too Large\r\n");
        for status in 100..=599 {
            assert!(status_line(status).len() <= 64);
        }
    }
}
