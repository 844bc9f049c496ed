//! In: a toy header block, `METHOD target authority` and `name: value`, a line each. Out: the same head as HTTP/1.1 would have
//! given, in an arena: validated lines that `Fields` reads as it reads those of an inbox.

use crate::base::{FieldFault, Rule, Span, Violation};
use crate::parse::h1::{HeadSpans, Version};
use crate::parse::semantics::{check_field, host, is_target_byte, is_token};

fn put(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    Span::new(start, arena.len())
}

fn lines(arena: &mut Vec<u8>, block: &[u8]) -> Result<(), Rule> {
    for line in block.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        let colon = line.windows(2).position(|w| w == b": ").ok_or(Rule::FieldSyntax)?;
        let (name, value) = (&line[..colon], &line[colon + 2..]);
        // RFC 9113 §8.2.1, §8.2.2: lower case, no control bytes, nothing that frames or belongs to one hop.
        let text = core::str::from_utf8(name).map_err(|_| Rule::FieldNameSyntax)?;
        match check_field(text, value) {
            Ok(()) => {}
            Err(FieldFault::Ours) if name == b"content-length" => {}
            Err(FieldFault::Name) => return Err(Rule::FieldNameSyntax),
            Err(_) => return Err(Rule::FieldSyntax),
        }
        if name.iter().any(u8::is_ascii_uppercase) {
            return Err(Rule::FieldNameSyntax);
        }
        for part in [name, b": ", value, b"\r\n"] {
            put(arena, part);
        }
    }
    Ok(())
}

/// The head of a request; the arena holds nothing else afterwards.
pub(crate) fn request(arena: &mut Vec<u8>, block: &[u8], version: Version) -> Result<HeadSpans, Violation> {
    arena.clear();
    let bad = |rule| Violation::new(rule, 0);
    let (first, rest) = block.split_at(block.iter().position(|&b| b == b'\n').ok_or(bad(Rule::RequestLine))?);
    let mut parts = first.split(|&b| b == b' ');
    let [Some(method), Some(target), Some(authority), None] = core::array::from_fn(|_| parts.next()) else {
        return Err(bad(Rule::RequestLine));
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(|&b| is_target_byte(b)) {
        return Err(bad(Rule::TargetSyntax));
    }
    if host(authority).is_none() {
        return Err(bad(Rule::HostSyntax));
    }
    let (method, target) = (put(arena, method), put(arena, target));
    let fields = arena.len();
    put(arena, b"host: ");
    let authority = put(arena, authority);
    put(arena, b"\r\n");
    lines(arena, rest).map_err(bad)?;
    let fields = Span::new(fields, arena.len());
    Ok(HeadSpans { method, target, authority, fields, protocol: Span::default(), version, len: 0 })
}

/// A trailer section.
pub(crate) fn trailers(arena: &mut Vec<u8>, block: &[u8]) -> Result<Span, Violation> {
    arena.clear();
    lines(arena, block).map_err(|rule| Violation::new(rule, 0))?;
    Ok(Span::new(0, arena.len()))
}
