//! In: a complete head, as the scanner found it. Out: where its parts lie, and what they say about framing.
//!
//! The second of two visits a byte: httparse cuts the tokens, and the few fields that the machine itself needs are read.

use super::super::semantics::{self, is_token_byte};
use crate::base::{Limit, Limits, Rule, Span, Violation};
use core::mem::MaybeUninit;

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

/// Field lines at most; more than any configuration allows.
const MOST_LINES: usize = Limit::FieldLines.range().1 as usize;

/// The second visit: `head` is a complete one, as the scanner found it.
pub(crate) fn parse(head: &[u8], limits: &Limits) -> Result<(HeadSpans, Facts), Violation> {
    let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_LINES];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut storage) {
        Ok(httparse::Status::Complete(n)) if n == head.len() => {}
        _ => return Err(blame(head, line_end(head), limits)),
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let mut fields = Reading::new(head, version, limits);
    for field in &*request.headers {
        fields.field(field.name.as_bytes(), field.value)?;
    }
    let first = line_end(head);
    let mut spans = HeadSpans {
        method: span_of(head, method.as_bytes()),
        target: span_of(head, target.as_bytes()),
        fields: Span::new(first, head.len() - 2),
        authority: fields.host.unwrap_or_default(),
        protocol: Span::default(),
        version,
        len: head.len() as u32,
    };
    let facts = fields.finish(method.as_bytes(), &mut spans)?;
    Ok((spans, facts))
}

/// The second visit of a trailer section, its empty line included.
pub(crate) fn parse_trailers(section: &[u8], limits: &Limits) -> Result<(), Violation> {
    let mut storage = [httparse::EMPTY_HEADER; MOST_LINES];
    match httparse::parse_headers(section, &mut storage) {
        Ok(httparse::Status::Complete((n, fields))) if n == section.len() => {
            for field in fields {
                let at = span_of(section, field.name.as_bytes()).start;
                if !semantics::may_be_trailer(field.name.as_bytes()) || semantics::is_alias(field.name.as_bytes()) {
                    return Err(Violation::new(Rule::TrailerForbidden, u64::from(at)));
                }
                sizes(section, field.name.as_bytes(), field.value, limits)?;
            }
            Ok(())
        }
        _ => Err(blame(section, 0, limits)),
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

/// One past the first line end. The scanner has seen that there is one.
fn line_end(head: &[u8]) -> usize {
    head.iter().position(|&b| b == b'\n').map_or(head.len(), |i| i + 1)
}

/// Where `part`, a slice of `whole`, lies in it.
fn span_of(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start > whole.len() { Span::default() } else { Span::new(start, start + part.len()) }
}

/// httparse says that a section is bad, not where: the slow way to the byte, for the error alone.
#[cold]
fn blame(section: &[u8], first: usize, limits: &Limits) -> Violation {
    let mut at = first;
    for line in section.get(first..).unwrap_or_default().split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if text.is_empty() {
            break;
        }
        let bad = |rule, i: usize| Violation::over(rule, (at + i) as u64, limits);
        match text.iter().position(|&b| !is_token_byte(b)) {
            None => return bad(Rule::FieldSyntax, text.len()),
            Some(0) => return bad(Rule::FieldNameSyntax, 0),
            Some(i) if text[i] == b':' => {}
            Some(i) => {
                let space = matches!(text[i], b' ' | b'\t') && semantics::trim(&text[i..]).first() == Some(&b':');
                return bad(if space { Rule::FieldNameSpace } else { Rule::FieldNameSyntax }, i);
            }
        }
        at += line.len();
    }
    Violation::new(Rule::FieldSyntax, first as u64)
}

/// The fields that the machine itself needs, gathered in one pass.
struct Reading<'h> {
    head: &'h [u8],
    limits: &'h Limits,
    version: Version,
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
    fn new(head: &'h [u8], version: Version, limits: &'h Limits) -> Self {
        Reading {
            head,
            limits,
            version,
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

    /// What only the whole head can tell.
    fn finish(mut self, method: &[u8], spans: &mut HeadSpans) -> Result<Facts, Violation> {
        self.framing()?;
        let (is_head, is_connect) = (method == b"HEAD", method == b"CONNECT");
        let has_body = self.facts.chunked || self.facts.content_length.is_some_and(|n| n > 0);
        if is_connect && (self.facts.chunked || self.facts.content_length.is_some()) {
            return Err(self.bad(Rule::ConnectWithBody, method));
        }
        let old = self.version == Version::Http10;
        let upgrade = self.upgrade.is_some() && self.wants_upgrade && !old;
        if let Some(at) = self.upgrade
            && upgrade
            && has_body
        {
            return Err(Violation::new(Rule::UpgradeWithBody, u64::from(at.start)));
        }
        if upgrade {
            spans.protocol = self.upgrade.unwrap_or_default();
        }
        self.target(method, spans)?;
        if self.host.is_none() && !old {
            return Err(Violation::new(Rule::HostMissing, u64::from(spans.fields.start)));
        }
        let persistent = !self.close && (!old || self.keep_alive);
        // RFC 9110 §10.1.1: an HTTP/1.0 client's expectation, or one without a body, is ignored.
        let expects_continue = self.expect && !old && has_body;
        Ok(Facts { persistent, expects_continue, upgrade, is_head, is_connect, ..self.facts })
    }

    /// RFC 9112 §6.3, without its repairs.
    fn framing(&mut self) -> Result<(), Violation> {
        let Some(transfer) = self.transfer else { return Ok(()) };
        if self.version == Version::Http10 {
            return Err(Violation::new(Rule::TransferCodingOldVersion, u64::from(transfer.start)));
        }
        if let Some(length) = self.length {
            return Err(Violation::new(Rule::LengthAndCoding, u64::from(length.start)));
        }
        semantics::transfer_coding(transfer.of(self.head)).map_err(|r| Violation::new(r, u64::from(transfer.start)))?;
        self.facts.chunked = true;
        Ok(())
    }

    /// The form of the target against the method, and its authority against Host (RFC 9112 §3.2).
    fn target(&self, method: &[u8], spans: &mut HeadSpans) -> Result<(), Violation> {
        let target = spans.target.of(self.head);
        let form = Violation::new(Rule::TargetForm, u64::from(spans.target.start));
        let authority = match target {
            _ if method == b"CONNECT" => {
                // authority-form, with a port (RFC 9112 §3.2.3).
                match semantics::host(target) {
                    Some((host, port)) if !host.is_empty() && !port.is_empty() => Some((spans.target, &b"443"[..])),
                    _ => return Err(form),
                }
            }
            [b'/', ..] => None,
            b"*" if method == b"OPTIONS" => None,
            _ => Some(absolute(target, spans.target.start).ok_or(form)?),
        };
        let Some((span, port)) = authority else { return Ok(()) };
        // RFC 9112 §3.2.2 lets the target win; refusing a disagreement lets nobody be fooled.
        if let Some(host) = self.host
            && !semantics::same_authority(host.of(self.head), span.of(self.head), port)
        {
            return Err(Violation::new(Rule::HostDisagrees, u64::from(host.start)));
        }
        spans.authority = span;
        Ok(())
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
        let (spans, facts) = parse(head, &Limits::DEFAULT).expect("a good head");
        assert_eq!(spans.method.of(head), b"POST");
        assert_eq!(spans.target.of(head), b"http://a/x?y");
        assert_eq!(spans.authority.of(head), b"a");
        assert_eq!(spans.fields.of(head), b"Host:  a \r\nContent-Length: 5\r\n");
        assert_eq!((facts.content_length, facts.persistent, facts.lines), (Some(5), true, 2));
    }
}
