//! In: a complete head, as the scanner found it. Out: where its parts lie, and what they say about framing.
//!
//! The field lines are cut, and the few that the machine itself needs are read: line by line behind the scanner, or in a second visit
//! where the head came in parts. How the request line is cut, and that no byte is out of place in it or in a value, the scanner knows.

use super::super::semantics::{self, is_token_byte, line_end};
use super::scan::RequestLine;
use crate::base::{Limit, Limits, Rule, Span, Violation};

/// The version of a message.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
#[non_exhaustive]
pub enum Version {
    /// HTTP/1.0 (RFC 1945, RFC 9112 appendix C).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    #[default]
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
    /// HTTP/3 (RFC 9114).
    Http3,
}

impl Version {
    /// As it is written: `HTTP/1.1`.
    pub const fn name(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
            Version::Http3 => "HTTP/3",
        }
    }
}

/// Where the parts of a head lie, counted from its first byte.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct HeadSpans {
    /// The method.
    pub method: Span,
    /// The request target, as sent.
    pub target: Span,
    /// The field lines, each with its CRLF.
    pub fields: Span,
    /// The authority: of the target, else of Host; empty if there is none.
    pub authority: Span,
    /// The protocols to change to: of `Upgrade`, or `:protocol` (RFC 8441); empty if there are none.
    pub protocol: Span,
    /// The version.
    pub version: Version,
    /// The whole head.
    pub len: u32,
}

/// What a head says that the machine itself needs.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// The declared length of the body.
    pub content_length: Option<u64>,
    /// The body is chunked.
    pub chunked: bool,
    /// The peer will send another request on this connection.
    pub persistent: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// `Upgrade`, nominated by `Connection`.
    pub upgrade: bool,
    /// The method is HEAD.
    pub is_head: bool,
    /// The method is CONNECT.
    pub is_connect: bool,
    /// `Content-Encoding`, of the one line that there may be.
    pub coding: Span,
    /// Lines of `Content-Encoding`.
    pub coding_lines: u16,
    /// Field lines.
    pub lines: u16,
    /// What the field section weighs: name, value and 96 a line.
    pub weight: u32,
}

/// The second visit of a head that came in parts: all of it is here now, and its request line is known.
pub(crate) fn parse(head: &[u8], line: RequestLine, limits: &Limits) -> Result<(HeadSpans, Facts), Violation> {
    let mut reading = Reading::new(head, limits);
    let mut at = line.len as usize;
    while at + 2 < head.len() {
        let end = at + line_end(head.get(at..).unwrap_or_default());
        reading.line(at, end);
        at = end + 2;
    }
    reading.finish(line, head.len())
}

/// The second visit of a trailer section, its empty line included.
pub(crate) fn parse_trailers(section: &[u8], limits: &Limits) -> Result<(), Violation> {
    let mut at = 0;
    while at + 2 < section.len() {
        let end = at + line_end(section.get(at..).unwrap_or_default());
        let (name, value) =
            split(section.get(at..end).unwrap_or_default()).ok_or_else(|| blame(section, at, limits))?;
        if !semantics::may_be_trailer(name) || semantics::is_alias(name) {
            return Err(Violation::new(Rule::TrailerForbidden, at as u64));
        }
        sizes(section, name, value, limits)?;
        at = end + 2;
    }
    Ok(())
}

/// A field line without its CRLF: its name, and its value without the white space around it (RFC 9112 §5). `None`: it is none.
#[inline]
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    match line.split_at_checked(semantics::token_run(line)) {
        Some((name, [b':', value @ ..])) if !name.is_empty() => Some((name, semantics::trim(value))),
        _ => None,
    }
}

fn sizes(head: &[u8], name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Violation> {
    if name.len() as u64 > limits.get(Limit::FieldNameBytes) {
        return Err(Violation::over(Rule::FieldNameTooLong, u64::from(span_of(head, name).start), limits));
    }
    if value.len() as u64 > limits.get(Limit::FieldValueBytes) {
        return Err(Violation::over(Rule::FieldValueTooLong, u64::from(span_of(head, value).start), limits));
    }
    Ok(())
}

/// Where `part`, a slice of `whole`, lies in it.
fn span_of(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start > whole.len() { Span::default() } else { Span::new(start, start + part.len()) }
}

/// What is wrong with the line that begins `at`, and where: the slow way to the byte, for the error alone.
#[cold]
fn blame(section: &[u8], at: usize, limits: &Limits) -> Violation {
    let text = section.get(at..).unwrap_or_default();
    let text = text.split(|&b| b == b'\r').next().unwrap_or_default();
    let bad = |rule, i: usize| Violation::over(rule, (at + i) as u64, limits);
    match text.iter().position(|&b| !is_token_byte(b)) {
        None => bad(Rule::FieldSyntax, text.len()),
        Some(0) => bad(Rule::FieldNameSyntax, 0),
        Some(i) => {
            let space = matches!(text[i], b' ' | b'\t') && semantics::trim(&text[i..]).first() == Some(&b':');
            bad(if space { Rule::FieldNameSpace } else { Rule::FieldNameSyntax }, i)
        }
    }
}

/// The fields that the machine itself needs, gathered in one pass: the scanner's own where the head is here at once.
pub(crate) struct Reading<'h> {
    head: &'h [u8],
    limits: &'h Limits,
    /// The first rule that was broken. What the scanner finds wrong further on goes before it, so that the answer does not depend on
    /// how the head came.
    broken: Option<Violation>,
    facts: Facts,
    host: Option<Span>,
    length: Option<Span>,
    transfer: Option<Span>,
    upgrade: Option<Span>,
    close: bool,
    keep_alive: bool,
    wants_upgrade: bool,
    expect: bool,
}

impl<'h> Reading<'h> {
    /// `head` begins with one.
    pub(crate) fn new(head: &'h [u8], limits: &'h Limits) -> Self {
        Reading {
            head,
            limits,
            broken: None,
            facts: Facts::default(),
            host: None,
            length: None,
            transfer: None,
            upgrade: None,
            close: false,
            keep_alive: false,
            wants_upgrade: false,
            expect: false,
        }
    }

    /// The next line, without its CRLF.
    #[inline]
    pub(crate) fn line(&mut self, start: usize, end: usize) {
        if self.broken.is_some() {
            return;
        }
        let head = self.head;
        let read = match split(head.get(start..end).unwrap_or_default()) {
            Some((name, value)) => self.field(name, value),
            None => Err(blame(head, start, self.limits)),
        };
        self.broken = read.err();
    }

    fn bad(&self, rule: Rule, part: &[u8]) -> Violation {
        Violation::over(rule, u64::from(span_of(self.head, part).start), self.limits)
    }

    fn field(&mut self, name: &'h [u8], value: &'h [u8]) -> Result<(), Violation> {
        sizes(self.head, name, value, self.limits)?;
        self.facts.lines += 1;
        self.facts.weight = self.facts.weight.saturating_add((name.len() + value.len() + 96) as u32);
        if u64::from(self.facts.weight) > self.limits.get(Limit::FieldSectionBytes) {
            return Err(self.bad(Rule::FieldSectionTooLarge, name)); // `a:b` weighs one more than the scanner saw
        }
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                if self.host.is_some() {
                    return Err(self.bad(Rule::HostRepeated, name));
                }
                if semantics::host(value).is_none() {
                    return Err(self.bad(Rule::HostSyntax, value));
                }
                self.host = Some(span_of(self.head, value));
            }
            6 if is(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(self.bad(Rule::ExpectationUnknown, value));
                }
                self.expect = true;
            }
            7 if is(b"upgrade") => self.upgrade(value)?,
            10 if is(b"connection") => self.connection(value)?,
            14 if is(b"content-length") => {
                if self.length.is_some() {
                    return Err(self.bad(Rule::ContentLengthRepeated, name));
                }
                let n = semantics::content_length(value).ok_or_else(|| self.bad(Rule::ContentLengthSyntax, value))?;
                self.facts.content_length = Some(n);
                self.length = Some(span_of(self.head, name));
            }
            16 if is(b"content-encoding") => {
                self.facts.coding_lines += 1;
                self.facts.coding = span_of(self.head, value);
            }
            17 if is(b"transfer-encoding") => {
                if self.transfer.is_some() {
                    return Err(self.bad(Rule::TransferCoding, name));
                }
                self.transfer = Some(span_of(self.head, value));
            }
            14 | 17 if semantics::is_alias(name) => return Err(self.bad(Rule::FieldAlias, name)),
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Violation> {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in semantics::list(value) {
            if !semantics::is_token(option) {
                return Err(self.bad(Rule::ConnectionSyntax, option));
            }
            if !semantics::may_be_nominated(option) {
                return Err(self.bad(Rule::ConnectionNominates, option));
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.wants_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
        Ok(())
    }

    /// `protocol-name [ "/" protocol-version ]`, a list in one line (RFC 9110 §7.8).
    fn upgrade(&mut self, value: &[u8]) -> Result<(), Violation> {
        let token = |t: &[u8]| t.split(|&b| b == b'/').count() <= 2 && t.split(|&b| b == b'/').all(semantics::is_token);
        if self.upgrade.is_some() || !semantics::list(value).all(token) {
            return Err(self.bad(Rule::UpgradeSyntax, value));
        }
        self.upgrade = Some(span_of(self.head, value));
        Ok(())
    }

    /// What only the whole head, of `len` bytes, can tell.
    pub(crate) fn finish(mut self, line: RequestLine, len: usize) -> Result<(HeadSpans, Facts), Violation> {
        if let Some(violation) = self.broken {
            return Err(violation);
        }
        let RequestLine { method, target, version, len: first } = line;
        let old = version == Version::Http10;
        self.framing(old)?;
        let method_text = method.of(self.head);
        let (is_head, is_connect) = (method_text == b"HEAD", method_text == b"CONNECT");
        let has_body = self.facts.chunked || self.facts.content_length.is_some_and(|n| n > 0);
        if is_connect && (self.facts.chunked || self.facts.content_length.is_some()) {
            return Err(self.bad(Rule::ConnectWithBody, method_text));
        }
        let upgrade = self.upgrade.is_some() && self.wants_upgrade && !old;
        if let Some(at) = self.upgrade
            && upgrade
            && has_body
        {
            return Err(Violation::new(Rule::UpgradeWithBody, u64::from(at.start)));
        }
        let authority = self.target(method_text, target)?;
        if self.host.is_none() && !old {
            return Err(Violation::new(Rule::HostMissing, u64::from(first)));
        }
        let persistent = !self.close && (!old || self.keep_alive);
        // RFC 9110 §10.1.1: an HTTP/1.0 client's expectation, or one without a body, is ignored.
        let expects_continue = self.expect && !old && has_body;
        let spans = HeadSpans {
            method,
            target,
            fields: Span::new(first as usize, len - 2),
            authority: authority.or(self.host).unwrap_or_default(),
            protocol: self.upgrade.filter(|_| upgrade).unwrap_or_default(),
            version,
            len: len as u32,
        };
        Ok((spans, Facts { persistent, expects_continue, upgrade, is_head, is_connect, ..self.facts }))
    }

    /// RFC 9112 §6.3, without its repairs.
    fn framing(&mut self, old: bool) -> Result<(), Violation> {
        let Some(transfer) = self.transfer else { return Ok(()) };
        if old {
            return Err(Violation::new(Rule::TransferCodingOldVersion, u64::from(transfer.start)));
        }
        if let Some(length) = self.length {
            return Err(Violation::new(Rule::LengthAndCoding, u64::from(length.start)));
        }
        semantics::transfer_coding(transfer.of(self.head)).map_err(|r| Violation::new(r, u64::from(transfer.start)))?;
        self.facts.chunked = true;
        Ok(())
    }

    /// The form of the target against the method, and its authority, if it has one, against Host (RFC 9112 §3.2).
    fn target(&self, method: &[u8], span: Span) -> Result<Option<Span>, Violation> {
        let target = span.of(self.head);
        let form = Violation::new(Rule::TargetForm, u64::from(span.start));
        let authority = match target {
            _ if method == b"CONNECT" => {
                // authority-form, with a port (RFC 9112 §3.2.3).
                match semantics::host(target) {
                    Some((host, port)) if !host.is_empty() && !port.is_empty() => Some((span, &b"443"[..])),
                    _ => return Err(form),
                }
            }
            [b'/', ..] => None,
            b"*" if method == b"OPTIONS" => None,
            _ => Some(absolute(target, span.start).ok_or(form)?),
        };
        let Some((span, port)) = authority else { return Ok(None) };
        // RFC 9112 §3.2.2 lets the target win; refusing a disagreement lets nobody be fooled.
        if let Some(host) = self.host
            && !semantics::same_authority(host.of(self.head), span.of(self.head), port)
        {
            return Err(Violation::new(Rule::HostDisagrees, u64::from(host.start)));
        }
        Ok(Some(span))
    }
}

/// absolute-form: `http://authority[/path]` (RFC 9112 §3.2.2). The authority and the scheme's port.
fn absolute(target: &[u8], start: u32) -> Option<(Span, &'static [u8])> {
    let scheme = |s: &[u8]| target.get(..s.len()).is_some_and(|t| t.eq_ignore_ascii_case(s));
    let (from, port) = match () {
        () if scheme(b"http://") => (7, &b"80"[..]),
        () if scheme(b"https://") => (8, &b"443"[..]),
        () => return None,
    };
    let rest = target.get(from..)?;
    let len = rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (host, _) = semantics::host(&rest[..len])?;
    let start = start as usize + from;
    (!host.is_empty()).then_some((Span::new(start, start + len), port))
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Scan, Scanner};
    use super::*;

    #[test]
    fn a_head_says_where_its_parts_lie() {
        let head = b"POST http://a/x?y HTTP/1.1\r\nHost:  a \r\nContent-Length: 5\r\n\r\n";
        let mut scanner = Scanner::head(&Limits::DEFAULT);
        assert_eq!(scanner.scan(head, &Limits::DEFAULT), Ok(Scan::End(head.len() as u32)));
        let (spans, facts) = parse(head, scanner.request_line(head), &Limits::DEFAULT).expect("a good head");
        assert_eq!(spans.method.of(head), b"POST");
        assert_eq!(spans.target.of(head), b"http://a/x?y");
        assert_eq!(spans.authority.of(head), b"a");
        assert_eq!(spans.fields.of(head), b"Host:  a \r\nContent-Length: 5\r\n");
        assert_eq!((facts.content_length, facts.persistent, facts.lines), (Some(5), true, 2));
    }
}
