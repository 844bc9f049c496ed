//! In: the bytes of a head or a trailer section as they come. Out: where it ends.
//!
//! On its way the scanner checks line ends, control bytes, the shape of the request line, and every limit that a prefix can
//! prove; it resumes where it stopped.

use super::super::semantics::{find_control, is_target_byte, is_token_byte, target_run, token_run, visible_run};
use super::head::{Facts, Version};
use crate::base::{Limit, Limits, Rule, Span, Violation};

/// What each field line weighs beyond its bytes: 96, less the `": "` that stands between name and value.
const LINE_WEIGHT: u64 = 94;

/// Finds the end of a field section or a head, once over each byte.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Scanner {
    at: u32,
    /// Where the current line begins.
    line: u32,
    /// Where the two spaces of the request line stand.
    spaces: [u32; 2],
    lines: u16,
    weight: u32,
    in_fields: bool,
    budget: Budget,
}

/// What a section may hold, and which rules it breaks when it holds more.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) lines: u32,
    pub(crate) weight: u64,
    pub(crate) too_many: Rule,
    pub(crate) too_large: Rule,
}

impl Budget {
    pub(crate) fn of_head(limits: &Limits) -> Budget {
        Budget {
            lines: limits.get(Limit::FieldLines) as u32,
            weight: limits.get(Limit::FieldSectionBytes),
            too_many: Rule::TooManyFields,
            too_large: Rule::FieldSectionTooLarge,
        }
    }

    /// Trailers have limits of their own, inside what the header section left (RFC 9112 §7.1.2; H1-34).
    pub(crate) fn of_trailers(limits: &Limits, facts: &Facts) -> Budget {
        let lines = limits.get(Limit::FieldLines).saturating_sub(u64::from(facts.lines));
        let weight = limits.get(Limit::FieldSectionBytes).saturating_sub(u64::from(facts.weight));
        let (own_lines, own_weight) = (limits.get(Limit::TrailerLines), limits.get(Limit::TrailerBytes));
        Budget {
            lines: own_lines.min(lines) as u32,
            weight: own_weight.min(weight),
            too_many: if lines < own_lines { Rule::TooManyFields } else { Rule::TooManyTrailers },
            too_large: if weight < own_weight { Rule::FieldSectionTooLarge } else { Rule::TrailerTooLarge },
        }
    }
}

/// A request line that is in order.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) version: Version,
    /// All of it, its CRLF included.
    pub(crate) len: u32,
}

/// `HTTP/1.1`
const VERSION_LEN: u32 = 8;

/// What the scanner found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scan {
    More,
    End(u32),
}

impl Scanner {
    pub(crate) fn head(limits: &Limits) -> Scanner {
        Scanner {
            at: 0,
            line: 0,
            spaces: [0; 2],
            lines: 0,
            weight: 0,
            in_fields: false,
            budget: Budget::of_head(limits),
        }
    }

    pub(crate) fn trailers(budget: Budget) -> Scanner {
        Scanner { at: 0, line: 0, spaces: [0; 2], lines: 0, weight: 0, in_fields: true, budget }
    }

    pub(crate) fn scanned(&self) -> u32 {
        self.at
    }

    /// How the request line is cut, once the scan has come to the end of the head.
    pub(crate) fn request_line(&self, bytes: &[u8]) -> RequestLine {
        let [first, second] = self.spaces;
        let version = match bytes.get(second as usize + VERSION_LEN as usize) {
            Some(b'0') => Version::Http10,
            _ => Version::Http11,
        };
        RequestLine {
            method: Span { start: 0, end: first },
            target: Span { start: first + 1, end: second },
            version,
            len: second + 1 + VERSION_LEN + 2,
        }
    }

    /// Goes on over `bytes`, which begin where the section begins and only ever grow. Offsets in violations count from there.
    pub(crate) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Scan, Violation> {
        self.scan_lines(bytes, limits, |_, _| {})
    }

    /// The same; where each field line that is complete begins, and where its CRLF does, is told on the way.
    #[inline]
    pub(crate) fn scan_lines(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        line: impl FnMut(usize, usize),
    ) -> Result<Scan, Violation> {
        if !self.in_fields && !self.scan_request_line(bytes, limits)? {
            return Ok(Scan::More);
        }
        self.fields(bytes, limits, line)
    }

    /// The request line: method, SP, target, SP, version, CRLF (RFC 9112 §3). True once it is complete.
    fn scan_request_line(&mut self, bytes: &[u8], limits: &Limits) -> Result<bool, Violation> {
        let max = limits.get(Limit::RequestLineBytes).min(u64::from(u32::MAX)) as u32;
        let method_max = limits.get(Limit::MethodBytes) as u32;
        let bad = |rule, at: u32| Err(Violation::over(rule, u64::from(at), limits));
        loop {
            // Over what is certainly good in one go; the byte behind it is judged below.
            let most = if self.spaces[0] == 0 { max.min(method_max) } else { max };
            let good = bytes.get(self.at as usize..bytes.len().min(most as usize)).unwrap_or_default();
            self.at += match self.spaces {
                [0, _] => token_run(good),
                [_, 0] => target_run(good),
                _ => visible_run(good),
            } as u32;
            let at = self.at;
            let Some(&b) = bytes.get(at as usize) else { return Ok(false) };
            if b == b'\r' {
                match bytes.get(at as usize + 1) {
                    None => return Ok(false),
                    Some(b'\n') => {
                        judge_version(bytes, self.spaces, at as usize)?;
                        self.at = at + 2;
                        self.line = self.at;
                        self.in_fields = true;
                        return Ok(true);
                    }
                    Some(_) => return bad(Rule::BareCr, at + 1),
                }
            }
            if at >= max {
                return bad(Rule::RequestLineTooLong, at);
            }
            match self.spaces {
                [0, _] => match b {
                    b' ' if at > 0 => self.spaces[0] = at,
                    _ if !is_token_byte(b) => {
                        return bad(if b == b'\n' { Rule::BareLf } else { Rule::MethodSyntax }, at);
                    }
                    _ if at >= method_max => return bad(Rule::MethodTooLong, at),
                    _ => {}
                },
                [first, 0] => match b {
                    b' ' if at > first + 1 => self.spaces[1] = at,
                    b' ' | b'\t' => return bad(Rule::RequestLine, at),
                    b'\n' => return bad(Rule::BareLf, at),
                    _ if !is_target_byte(b) => return bad(Rule::TargetSyntax, at),
                    _ => {}
                },
                _ => match b {
                    b'\n' => return bad(Rule::BareLf, at),
                    b' ' | b'\t' => return bad(Rule::RequestLine, at),
                    0x21..=0x7e => {}
                    _ => return bad(Rule::VersionSyntax, at),
                },
            }
            self.at += 1;
        }
    }

    /// Field lines up to the empty one (RFC 9112 §5).
    #[inline]
    fn fields(&mut self, bytes: &[u8], limits: &Limits, mut tell: impl FnMut(usize, usize)) -> Result<Scan, Violation> {
        let bad = |rule, at: usize| Err(Violation::over(rule, at as u64, limits));
        loop {
            let (at, line) = (self.at as usize, self.line as usize);
            if at == line {
                match bytes.get(at) {
                    None => return Ok(Scan::More),
                    Some(b'\r') => match bytes.get(at + 1) {
                        None => return Ok(Scan::More),
                        Some(b'\n') => return Ok(Scan::End(self.at + 2)),
                        Some(_) => return bad(Rule::BareCr, at + 1),
                    },
                    Some(b' ' | b'\t') => return bad(Rule::ObsFold, at),
                    Some(_) if u32::from(self.lines) >= self.budget.lines => return bad(self.budget.too_many, at),
                    Some(_) => {}
                }
            }
            // No further than the line may go: a limit and a bad byte are found in the order in which they came.
            let left = self.budget.weight.saturating_sub(u64::from(self.weight) + LINE_WEIGHT);
            let stop = line.saturating_add(usize::try_from(left).unwrap_or(usize::MAX));
            let end = bytes.len().min(stop);
            let hit = bytes.get(at..end).map_or(end, |b| at + find_control(b));
            self.at = hit as u32;
            match bytes.get(hit) {
                None => return Ok(Scan::More),
                Some(b'\r') => match bytes.get(hit + 1) {
                    None => return Ok(Scan::More),
                    Some(b'\n') => {
                        self.weight = self.weight.saturating_add((hit - line) as u32 + LINE_WEIGHT as u32);
                        self.lines += 1;
                        tell(line, hit);
                        self.at = hit as u32 + 2;
                        self.line = self.at;
                    }
                    Some(_) => return bad(Rule::BareCr, hit + 1),
                },
                Some(_) if hit >= stop => return bad(self.budget.too_large, hit),
                Some(b'\n') => return bad(Rule::BareLf, hit),
                Some(b'\t') => self.at += 1,
                Some(_) => return bad(Rule::ControlByte, hit),
            }
        }
    }
}

/// The version is judged as soon as its line ends: an HTTP/0.9 client sends no more (H1-07, H1-08).
fn judge_version(bytes: &[u8], spaces: [u32; 2], end: usize) -> Result<(), Violation> {
    let [first, second] = spaces.map(|s| s as usize);
    if first == 0 {
        return Err(Violation::new(Rule::RequestLine, end as u64));
    }
    if second == 0 {
        return Err(Violation::new(Rule::VersionSyntax, end as u64));
    }
    let at = second as u64 + 1;
    match bytes.get(second + 1..end).unwrap_or_default() {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        b"HTTP/2.0" if bytes.starts_with(b"PRI * ") => Err(Violation::new(Rule::Http2Preface, 0)),
        [b'H', b'T', b'T', b'P', b'/', a, b'.', b] if a.is_ascii_digit() && b.is_ascii_digit() => {
            Err(Violation::new(Rule::VersionUnsupported, at))
        }
        _ => Err(Violation::new(Rule::VersionSyntax, at)),
    }
}
