//! In: the decoded fields of HTTP/2 or HTTP/3, one by one. Out: a head as HTTP/1.1 would have given it: validated
//! `name: value` lines in one arena, and where its parts lie (RFC 9113 §8.2, §8.3; RFC 9114 §4.2, §4.3).
//!
//! ```text
//! arena: | :method: GET | :path: /x | ... | host: a.example | name: value | ... | cookie: a=1; b=2 |
//!          `- spans of the head point here   `- Fields: from here on
//! ```
//! Nothing is repaired. What may be known of a line is judged once, and remembered with the line in the dynamic table (`mark`).

use super::h1::{Facts, HeadSpans, Version};
use super::pack::{Field, Origin};
use super::priority::Priority;
use super::semantics::{self, is_lower_token, is_value};
use crate::base::memory::{NoMemory, reserve};
use crate::base::{Limit, Limits, Rule, Span};
use alloc::vec::Vec;

/// A section under way, and the last one that was complete.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) lines: Vec<u8>,
    crumbs: Vec<u8>,
    /// Field lines begin here.
    start: Option<usize>,
    pseudo: [Option<Span>; 5],
    host: Option<Span>,
    facts: Facts,
    priority: Option<Priority>,
    te: bool,
    expect: bool,
    crumb_count: u32,
    weight: u64,
    count: u64,
    /// The first rule that it breaks. It is decoded to its end nevertheless, for the table's sake.
    broken: Option<Rule>,
    trailers: bool,
}

const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;
const PROTOCOL: usize = 4;

/// A line weighs 96 bytes more than its text: what keeping it may cost (H2-12).
const LINE_WEIGHT: u64 = 96;

/// What a complete section is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Complete {
    pub(crate) spans: HeadSpans,
    pub(crate) facts: Facts,
    pub(crate) priority: Option<Priority>,
}

impl Section {
    /// Another section begins: what the last one left in the arena goes.
    pub(crate) fn begin(&mut self, trailers: bool) {
        self.lines.clear();
        self.crumbs.clear();
        let (lines, crumbs) = (core::mem::take(&mut self.lines), core::mem::take(&mut self.crumbs));
        *self = Section { lines, crumbs, trailers, ..Section::default() };
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        self.lines.capacity() + self.crumbs.capacity()
    }

    /// Frees what a large section made it hold.
    pub(crate) fn shed(&mut self, keep: usize) {
        self.lines.shrink_to(keep);
        self.crumbs.shrink_to(keep);
    }

    /// One more field, whose line is the last in the arena. Says how its line is to be marked in the table; 0: not at all.
    ///
    /// # Errors
    /// The section is so large that the connection is better ended.
    #[inline]
    pub(crate) fn field(&mut self, field: &Field, limits: &Limits) -> Result<u8, Rule> {
        self.count += 1;
        self.weight += (field.name.len() + field.value.len()) as u64 + LINE_WEIGHT;
        let most = limits.get(Limit::FieldSectionBytes);
        // What most lines are: known from an earlier request, and nothing to the machine.
        let known = field.origin == Origin::Dynamic(Line::Other.mark());
        if known && self.start.is_some() && self.broken.is_none() && !self.trailers && self.weight <= most {
            self.facts.lines += 1;
            if u64::from(self.facts.lines) > limits.get(Limit::FieldLines) {
                self.breaks(Rule::TooManyFields);
            }
            return Ok(0);
        }
        let (name, value) = (field.name.of(&self.lines), field.value.of(&self.lines));
        if self.weight > 4 * most || self.count > 10 * limits.get(Limit::FieldLines) {
            return Err(Rule::FieldSectionFlood);
        }
        let (line, is_judged) = match field.origin {
            Origin::Static(n) => (Line::of_static(n), n != 1),
            Origin::StaticName(n) => (Line::of_static(n), false),
            Origin::Dynamic(mark) if mark > 0 => (Line::of_mark(mark), true),
            Origin::DynamicName(mark) if mark > 0 => (Line::of_mark(mark), false),
            _ if !is_lower_token(name.strip_prefix(b":").unwrap_or(name)) => {
                self.breaks(blame_name(name));
                self.lines.truncate(field.name.start as usize);
                return Ok(0);
            }
            _ => (Line::of_name(name), false),
        };
        if !is_judged && let Some(rule) = blame_value(line, value) {
            self.breaks(rule);
            self.lines.truncate(field.name.start as usize);
            return Ok(0);
        }
        if self.weight > most {
            self.breaks(Rule::FieldSectionTooLarge);
        } else if name.len() as u64 > limits.get(Limit::FieldNameBytes) {
            self.breaks(Rule::FieldNameTooLong);
        } else if value.len() as u64 > limits.get(Limit::FieldValueBytes) {
            self.breaks(Rule::FieldValueTooLong);
        }
        if self.broken.is_none() && (line != Line::Other || self.start.is_none() || self.trailers) {
            self.known(line, field, limits);
        }
        if self.broken.is_some() {
            self.lines.truncate(field.name.start as usize); // nobody will see it
        } else if line.is_counted() {
            self.facts.lines += 1;
            if u64::from(self.facts.lines) > limits.get(Limit::FieldLines) {
                self.breaks(Rule::TooManyFields);
            }
        }
        Ok(if self.broken.is_none() { line.mark() } else { 0 })
    }

    /// The first rule that is broken is the one that is told.
    fn breaks(&mut self, rule: Rule) {
        self.broken.get_or_insert(rule);
    }

    /// A line that the machine itself reads, or the first of its kind.
    fn known(&mut self, line: Line, field: &Field, limits: &Limits) {
        let at = match line {
            Line::Method => METHOD,
            Line::Scheme => SCHEME,
            Line::Authority => AUTHORITY,
            Line::Path => PATH,
            Line::Protocol => PROTOCOL,
            Line::Unknown => return self.breaks(Rule::PseudoField),
            _ => return self.regular(line, field, limits),
        };
        if self.trailers || self.start.is_some() || self.pseudo[at].is_some() {
            return self.breaks(Rule::PseudoField);
        }
        self.pseudo[at] = Some(field.value);
    }

    fn regular(&mut self, line: Line, field: &Field, limits: &Limits) {
        if self.trailers {
            return self.trailer(line, field, limits);
        }
        let mut field = *field;
        if self.start.is_none() {
            self.host_line(&mut field);
        }
        let value = field.value.of(&self.lines);
        match line {
            Line::Host => {
                if self.host.is_some() {
                    return self.breaks(Rule::HostRepeated);
                }
                if semantics::host(value).is_none() {
                    return self.breaks(Rule::HostSyntax);
                }
                self.host = Some(field.value);
                self.facts.lines += u16::from(self.pseudo[AUTHORITY].is_none());
                if let Some(authority) = self.pseudo[AUTHORITY] {
                    if authority.of(&self.lines) != value && !self.same_authority(authority, field.value) {
                        return self.breaks(Rule::HostDisagrees);
                    }
                    self.lines.truncate(field.name.start as usize); // it is there already
                    self.host = Some(authority);
                }
            }
            Line::ContentLength => {
                if self.facts.content_length.is_some() {
                    return self.breaks(Rule::ContentLengthRepeated);
                }
                match semantics::content_length(value) {
                    Some(n) => self.facts.content_length = Some(n),
                    None => self.breaks(Rule::ContentLengthSyntax),
                }
            }
            Line::ContentEncoding => {
                self.facts.coding_lines += 1;
                self.facts.coding = field.value;
            }
            Line::Cookie => self.crumb(&field, limits),
            Line::Te => {
                let again = core::mem::replace(&mut self.te, true);
                if again || !value.eq_ignore_ascii_case(b"trailers") {
                    self.breaks(Rule::TeValue);
                }
            }
            Line::Expect => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return self.breaks(Rule::ExpectationUnknown);
                }
                self.expect = true;
            }
            Line::Priority => self.priority = Some(self.priority.unwrap_or_default().and(value)),
            Line::Forbidden => self.breaks(Rule::ConnectionField),
            Line::Alias => self.breaks(Rule::FieldAlias),
            _ => {}
        }
    }

    /// The first field line is here: Host goes in front of it, as HTTP/1.1 would have it.
    fn host_line(&mut self, field: &mut Field) {
        let from = field.name.start as usize;
        self.start = Some(from);
        let Some(authority) = self.pseudo[AUTHORITY] else { return };
        let line = self.lines.len() - from;
        if self.put_host(authority).is_err() {
            return self.breaks(Rule::NoMemory);
        }
        let added = self.lines.len() - from - line;
        if let Some(both) = self.lines.get_mut(from..) {
            both.rotate_left(line);
        }
        let by = added as u32;
        field.name = Span { start: field.name.start + by, end: field.name.end + by };
        field.value = Span { start: field.value.start + by, end: field.value.end + by };
    }

    fn put_host(&mut self, authority: Span) -> Result<(), NoMemory> {
        reserve(&mut self.lines, b"host: \r\n".len() + authority.len())?;
        self.lines.extend_from_slice(b"host: ");
        self.lines.extend_from_within(authority.start as usize..authority.end as usize);
        self.lines.extend_from_slice(b"\r\n");
        self.facts.lines += 1;
        Ok(())
    }

    /// Crumbs are gathered, and become one line at the end (RFC 9113 §8.2.3).
    fn crumb(&mut self, field: &Field, limits: &Limits) {
        self.crumb_count += 1;
        if u64::from(self.crumb_count) > limits.get(Limit::CookieCrumbs) {
            return self.breaks(Rule::TooManyCrumbs);
        }
        let value = field.value.of(&self.lines);
        if reserve(&mut self.crumbs, b"; ".len() + value.len()).is_err() {
            return self.breaks(Rule::NoMemory);
        }
        if self.crumb_count > 1 {
            self.crumbs.extend_from_slice(b"; ");
        }
        self.crumbs.extend_from_slice(value);
        self.lines.truncate(field.name.start as usize);
    }

    fn same_authority(&self, a: Span, b: Span) -> bool {
        let http = self.pseudo[SCHEME].is_some_and(|s| s.of(&self.lines).eq_ignore_ascii_case(b"http"));
        let port: &[u8] = if http { b"80" } else { b"443" }; // without a scheme it is CONNECT's, as in HTTP/1.1
        semantics::same_authority(a.of(&self.lines), b.of(&self.lines), port)
    }

    fn trailer(&mut self, line: Line, field: &Field, limits: &Limits) {
        self.start = Some(0);
        let name = field.name.of(&self.lines);
        let rule = match line {
            Line::Forbidden => Rule::ConnectionField,
            _ if !semantics::may_be_trailer(name) || semantics::is_alias(name) => Rule::TrailerForbidden,
            _ if self.count > limits.get(Limit::TrailerLines) => Rule::TooManyTrailers,
            _ if self.weight > limits.get(Limit::TrailerBytes) => Rule::TrailerTooLarge,
            _ => return,
        };
        self.breaks(rule);
    }

    /// The section is complete: the lines of a trailer section. `head`: lines and weight of the header section, whose budget it shares.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn finish_trailers(&mut self, head: (u16, u32), limits: &Limits) -> Result<Span, Rule> {
        let (lines, weight) = (u64::from(head.0) + self.count, u64::from(head.1) + self.weight);
        match self.broken {
            Some(rule) => Err(rule),
            None if lines > limits.get(Limit::FieldLines) => Err(Rule::TooManyFields),
            None if weight > limits.get(Limit::FieldSectionBytes) => Err(Rule::FieldSectionTooLarge),
            None => Ok(Span::new(0, self.lines.len())),
        }
    }

    /// The section is complete: the head of a request. `ends`: no content follows.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn finish_request(&mut self, ends: bool, version: Version, limits: &Limits) -> Result<Complete, Rule> {
        if let Some(rule) = self.broken {
            return Err(rule);
        }
        let start = self.start.unwrap_or(self.lines.len());
        if self.start.is_none()
            && let Some(authority) = self.pseudo[AUTHORITY]
        {
            self.put_host(authority)?;
        }
        if self.crumb_count > 0 {
            if self.crumbs.len() as u64 > limits.get(Limit::FieldValueBytes) {
                return Err(Rule::FieldValueTooLong); // the line that it has become is one for HTTP/1.1, too (SEM-07)
            }
            reserve(&mut self.lines, b"cookie: \r\n".len() + self.crumbs.len())?;
            self.lines.extend_from_slice(b"cookie: ");
            self.lines.extend_from_slice(&self.crumbs);
            self.lines.extend_from_slice(b"\r\n");
            self.facts.lines += 1;
        }
        if u64::from(self.facts.lines) > limits.get(Limit::FieldLines) {
            return Err(Rule::TooManyFields);
        }
        let mut spans = self.request_line(limits)?;
        spans.version = version;
        spans.fields = Span::new(start, self.lines.len());
        let facts = &mut self.facts;
        if ends && facts.content_length.unwrap_or(0) > 0 {
            return Err(Rule::ContentLengthDisagrees); // RFC 9113 §8.1.1
        }
        facts.is_head = spans.method.of(&self.lines) == b"HEAD";
        facts.is_connect = spans.method.of(&self.lines) == b"CONNECT";
        if facts.is_connect && facts.content_length.is_some() {
            return Err(Rule::ConnectWithBody);
        }
        facts.persistent = true;
        facts.expects_continue = self.expect && !ends;
        facts.weight = u32::try_from(self.weight).unwrap_or(u32::MAX);
        Ok(Complete { spans, facts: *facts, priority: self.priority })
    }

    /// RFC 9113 §8.3.1, §8.5, RFC 8441 §4: the pseudo-fields against each other.
    fn request_line(&self, limits: &Limits) -> Result<HeadSpans, Rule> {
        let [method, scheme, authority, path, protocol] = self.pseudo;
        let method = method.ok_or(Rule::PseudoField)?;
        let verb = method.of(&self.lines);
        if verb.len() as u64 > limits.get(Limit::MethodBytes) {
            return Err(Rule::MethodTooLong);
        }
        let named = authority.or(self.host).ok_or(Rule::HostMissing)?;
        let mut spans = HeadSpans { method, authority: named, ..HeadSpans::default() };
        if verb == b"CONNECT" && protocol.is_none() {
            // RFC 9113 §8.5: neither scheme nor path; the authority is host and port.
            if scheme.is_some() || path.is_some() {
                return Err(Rule::ConnectProtocol);
            }
            let authority = authority.ok_or(Rule::PseudoField)?;
            let has_port =
                semantics::host(authority.of(&self.lines)).is_some_and(|(h, p)| !h.is_empty() && !p.is_empty());
            spans.target = authority;
            return if has_port { Ok(spans) } else { Err(Rule::TargetForm) };
        }
        if let Some(protocol) = protocol {
            if verb != b"CONNECT" || authority.is_none() || !semantics::is_token(protocol.of(&self.lines)) {
                return Err(Rule::ConnectProtocol);
            }
            spans.protocol = protocol;
        }
        scheme.ok_or(Rule::PseudoField)?;
        if named.is_empty() {
            return Err(Rule::HostSyntax); // RFC 9110 §4.2.1: no http URI without a host
        }
        let target = path.ok_or(Rule::PseudoField)?;
        self.path(target.of(&self.lines), verb, limits)?;
        spans.target = target;
        Ok(spans)
    }

    /// RFC 9113 §8.3.1: `/...`, or `*` for OPTIONS.
    fn path(&self, path: &[u8], verb: &[u8], limits: &Limits) -> Result<(), Rule> {
        // As HTTP/1.1 counts its request line: the limit is the same, and so is what passes it.
        if (verb.len() + path.len() + " HTTP/1.1 ".len()) as u64 > limits.get(Limit::RequestLineBytes) {
            return Err(Rule::RequestLineTooLong);
        }
        match path {
            [b'/', ..] => Ok(()),
            b"*" if verb == b"OPTIONS" => Ok(()),
            _ => Err(Rule::TargetForm),
        }
    }
}

/// What a field of HTTP/2 or HTTP/3 is to the machine, told by its name.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Line {
    /// Nothing special.
    Other = 1,
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    /// A pseudo-field that no request has.
    Unknown,
    Host,
    ContentLength,
    ContentEncoding,
    Cookie,
    Te,
    Expect,
    Priority,
    /// Of one connection of HTTP/1.1 (RFC 9113 §8.2.2).
    Forbidden,
    /// Imitates a framing field (H1-18).
    Alias,
}

impl Line {
    const ALL: [Line; 16] = [
        Line::Other,
        Line::Method,
        Line::Scheme,
        Line::Authority,
        Line::Path,
        Line::Protocol,
        Line::Unknown,
        Line::Host,
        Line::ContentLength,
        Line::ContentEncoding,
        Line::Cookie,
        Line::Te,
        Line::Expect,
        Line::Priority,
        Line::Forbidden,
        Line::Alias,
    ];

    /// By an entry of the static table (RFC 7541 appendix A).
    const fn of_static(n: u8) -> Line {
        match n {
            1 => Line::Authority,
            2 | 3 => Line::Method,
            4 | 5 => Line::Path,
            6 | 7 => Line::Scheme,
            8..=14 => Line::Unknown, // :status
            26 => Line::ContentEncoding,
            28 => Line::ContentLength,
            32 => Line::Cookie,
            35 => Line::Expect,
            38 => Line::Host,
            57 => Line::Forbidden, // transfer-encoding
            _ => Line::Other,
        }
    }

    /// The mark under which the dynamic table remembers that a line was judged, and what it is.
    const fn mark(self) -> u8 {
        self as u8
    }

    fn of_mark(mark: u8) -> Line {
        Line::ALL.get(usize::from(mark.wrapping_sub(1))).copied().unwrap_or(Line::Unknown)
    }

    /// It counts as a field line; pseudo-fields and crumbs are bounded by themselves, Host is counted where it is written.
    const fn is_counted(self) -> bool {
        matches!(
            self,
            Line::Other | Line::ContentLength | Line::ContentEncoding | Line::Te | Line::Expect | Line::Priority
        )
    }

    /// By a name in lower case.
    fn of_name(name: &[u8]) -> Line {
        match name {
            [b':', pseudo @ ..] => match pseudo {
                b"method" => Line::Method,
                b"scheme" => Line::Scheme,
                b"authority" => Line::Authority,
                b"path" => Line::Path,
                b"protocol" => Line::Protocol,
                _ => Line::Unknown,
            },
            b"te" => Line::Te,
            b"host" => Line::Host,
            b"cookie" => Line::Cookie,
            b"expect" => Line::Expect,
            b"priority" => Line::Priority,
            b"content-length" => Line::ContentLength,
            b"content-encoding" => Line::ContentEncoding,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => Line::Forbidden,
            _ if matches!(name.len(), 14 | 17) && semantics::is_alias(name) => Line::Alias,
            _ => Line::Other,
        }
    }
}

/// What is wrong with a value, as far as it can be told alone: what passes is marked, and never looked at again.
#[inline]
fn blame_value(line: Line, value: &[u8]) -> Option<Rule> {
    let (fine, rule) = match line {
        Line::Authority => (semantics::host(value).is_some(), Rule::HostSyntax),
        Line::Path => (semantics::target_run(value) == value.len(), Rule::TargetSyntax),
        Line::Method => (semantics::is_token(value), Rule::MethodSyntax),
        Line::Scheme => {
            (value.eq_ignore_ascii_case(b"https") || value.eq_ignore_ascii_case(b"http"), Rule::SchemeSyntax)
        }
        _ => (is_value(value), Rule::FieldValueSyntax),
    };
    if fine { None } else { Some(rule) }
}

/// Why a name is not one of HTTP/2 or HTTP/3.
#[cold]
fn blame_name(name: &[u8]) -> Rule {
    let name = name.strip_prefix(b":").unwrap_or(name);
    if semantics::is_token(name) { Rule::FieldNameCase } else { Rule::FieldNameSyntax }
}
