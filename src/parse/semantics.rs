//! In: single parts of a message. Out: whether they obey the rules that every version of HTTP shares (RFC 9110).

use crate::base::{FieldFault, Rule};

/// What a byte may be part of.
const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const HOST: u8 = 8;
const VISIBLE: u8 = 16;
const LOWER: u8 = 32;

const CLASS: [u8; 256] = {
    let mut map = [0u8; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        // RFC 9110 §5.6.2: tchar.
        if c.is_ascii_alphanumeric() || is_in(c, b"!#$%&'*+-.^_`|~") {
            map[b] |= TOKEN;
            if !c.is_ascii_uppercase() {
                map[b] |= LOWER;
            }
        }
        // RFC 9110 §5.5: VCHAR, obs-text, and inside SP and HTAB.
        if c == b'\t' || (c >= 0x20 && c != 0x7f) {
            map[b] |= VALUE;
        }
        if c > 0x20 && c < 0x7f {
            map[b] |= VISIBLE;
        }
        // RFC 3986: a URI is visible ASCII; the fragment is never sent.
        if c > 0x20 && c < 0x7f && c != b'#' {
            map[b] |= TARGET;
        }
        // RFC 3986 §3.2.2: reg-name, but no comma, which would make a list of it.
        if c.is_ascii_alphanumeric() || is_in(c, b"-._~%!$&'()*+;=") {
            map[b] |= HOST;
        }
        b += 1;
    }
    map
};

const fn is_in(c: u8, set: &[u8]) -> bool {
    let mut i = 0;
    while i < set.len() {
        if set[i] == c {
            return true;
        }
        i += 1;
    }
    false
}

#[inline]
pub(crate) fn is_token_byte(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

#[inline]
pub(crate) fn is_target_byte(b: u8) -> bool {
    CLASS[b as usize] & TARGET != 0
}

/// How many bytes at the front are part of a token, of a target, or visible at all.
#[inline]
pub(crate) fn token_run(text: &[u8]) -> usize {
    run(text, TOKEN)
}

#[inline]
pub(crate) fn target_run(text: &[u8]) -> usize {
    run(text, TARGET)
}

#[inline]
pub(crate) fn visible_run(text: &[u8]) -> usize {
    run(text, VISIBLE)
}

#[inline]
fn run(text: &[u8], class: u8) -> usize {
    let (fours, rest) = text.as_chunks::<4>();
    let is = |b: u8| CLASS[b as usize] & class;
    let mut at = 0;
    for &[a, b, c, d] in fours {
        if is(a) & is(b) & is(c) & is(d) == 0 {
            // Names and hosts are short: where in the four it ended is half of the work.
            return at + [a, b, c].iter().position(|&b| is(b) == 0).unwrap_or(3);
        }
        at += 4;
    }
    at + rest.iter().position(|&b| is(b) == 0).unwrap_or(rest.len())
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Index of the first byte that is this one, eight at a time; the text's length if none is.
#[inline]
pub(crate) fn find(text: &[u8], byte: u8) -> usize {
    let (blocks, rest) = text.as_chunks::<8>();
    let mut at = 0;
    for &eight in blocks {
        let x = u64::from_le_bytes(eight) ^ (ONES * u64::from(byte));
        // Exact up to the first hit, as below.
        match x.wrapping_sub(ONES) & !x & (ONES * 0x80) {
            0 => at += 8,
            hits => return at + (hits.trailing_zeros() / 8) as usize,
        }
    }
    at + rest.iter().position(|&b| b == byte).unwrap_or(rest.len())
}

/// Index of the first byte that is a control byte (below SP, or DEL), sixteen at a time.
#[inline]
pub(crate) fn find_control(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let (pairs, last) = blocks.as_chunks::<2>();
    let mut at = 0;
    for pair in pairs {
        let [low, high] = pair.map(controls);
        if low | high != 0 {
            let (hits, skip) = if low != 0 { (low, 0) } else { (high, 8) };
            return at + skip + (hits.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
    for &eight in last {
        match controls(eight) {
            0 => at += 8,
            hits => return at + (hits.trailing_zeros() / 8) as usize,
        }
    }
    at + rest.iter().position(|&b| b < 0x20 || b == 0x7f).unwrap_or(rest.len())
}

/// The high bits of those of eight bytes that are control bytes: exact up to the first of them, which is all that is asked,
/// for borrows only run upwards.
#[inline]
fn controls(eight: [u8; 8]) -> u64 {
    let x = u64::from_le_bytes(eight);
    let del = x ^ (ONES * 0x7f);
    ((x.wrapping_sub(ONES * 0x20) & !x) | (del.wrapping_sub(ONES) & !del)) & (ONES * 0x80)
}

/// Where the CR of the next line end stands, in lines that were validated: they hold no control bytes but HTAB.
pub(crate) fn line_end(text: &[u8]) -> usize {
    let mut at = find_control(text);
    while text.get(at) == Some(&b'\t') {
        at += 1 + text.get(at + 1..).map_or(0, find_control);
    }
    at
}

/// All of it is of this class, or none is asked where it ends: then it need not stop there.
#[inline]
fn all(text: &[u8], class: u8) -> bool {
    text.iter().fold(class, |all, &b| all & CLASS[b as usize]) != 0
}

pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

/// A field name as HTTP/2 and HTTP/3 send it: a token without upper case (RFC 9113 §8.2.1).
#[cfg(feature = "alloc")]
#[inline]
pub(crate) fn is_lower_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, LOWER)
}

/// A field value: no control bytes but HTAB, no white space at its ends (RFC 9110 §5.5, RFC 9113 §8.2.1).
#[inline]
pub(crate) fn is_value(text: &[u8]) -> bool {
    let at = find_control(text);
    // Hardly any value has a control byte, and if one has, it may be HTAB.
    text.get(at..).is_none_or(|rest| all(rest, VALUE)) && !has_blank_end(text)
}

/// SP and HTAB, and nothing else, are trimmed (RFC 9110 §5.6.3; H1-15).
#[inline]
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    // What nearly everybody sends: one space in front, none behind.
    match text {
        [b' ', inner @ ..] if !has_blank_end(inner) => inner,
        _ => trim_all(text),
    }
}

#[inline]
fn has_blank_end(text: &[u8]) -> bool {
    let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    is_blank(text.first()) || is_blank(text.last())
}

fn trim_all(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits only, no leading zero, below 2^63 (RFC 9110 §8.6, and stricter: one spelling a number).
pub(crate) fn content_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut n = 0u64;
    for &b in text {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n * 10 + u64::from(b - b'0');
    }
    (n <= i64::MAX as u64).then_some(n)
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2): host and port, the port empty where there is none.
pub(crate) fn host(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match text {
        [b'[', ..] => {
            let close = text.iter().position(|&b| b == b']')?;
            let inside = &text[1..close];
            if inside.is_empty() || !inside.iter().all(|&b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) {
                return None;
            }
            close + 1
        }
        _ => {
            // What stands there instead of the colon is judged below.
            text.iter().position(|&b| CLASS[b as usize] & HOST == 0).unwrap_or(text.len())
        }
    };
    let (host, rest) = text.split_at(end);
    let port = match rest {
        [] => rest,
        [b':', port @ ..] if !host.is_empty() => port,
        _ => return None,
    };
    if port.len() > 5 {
        return None;
    }
    let mut number = 0u32;
    for &b in port {
        if !b.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u32::from(b - b'0');
    }
    (number <= 65_535).then_some((host, port))
}

/// Two authorities name the same: host without case, port with the scheme's default filled in (RFC 9110 §4.2.3).
pub(crate) fn same_authority(a: &[u8], b: &[u8], default_port: &[u8]) -> bool {
    let (Some((a_host, a_port)), Some((b_host, b_port))) = (host(a), host(b)) else { return false };
    let [a_port, b_port] = [a_port, b_port].map(|port| if port.is_empty() { default_port } else { port });
    a_host.eq_ignore_ascii_case(b_host) && a_port == b_port
}

/// The elements of a comma list, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|e| !e.is_empty())
}

/// What `Connection` may not nominate: fields that frame, route or authorise (H1-17).
pub(crate) fn may_be_nominated(token: &[u8]) -> bool {
    const NEVER: [&[u8]; 6] = [b"host", b"content-length", b"transfer-encoding", b"trailer", b"te", b"authorization"];
    !NEVER.iter().any(|n| token.eq_ignore_ascii_case(n))
}

/// What may not stand in a trailer section: framing, routing, request modifiers, authentication, content (RFC 9110 §6.5.1).
pub(crate) fn may_be_trailer(name: &[u8]) -> bool {
    const NEVER: [&[u8]; 28] = [
        b"transfer-encoding",
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"authorization",
        b"proxy-authorization",
        b"www-authenticate",
        b"proxy-authenticate",
        b"cookie",
        b"set-cookie",
        b"expect",
        b"range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"max-forwards",
        b"forwarded",
        b"via",
        b"cache-control",
        b"pragma",
        b"age",
        b"vary",
    ];
    let content = name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case(b"content-"));
    !content && !NEVER.iter().any(|n| name.eq_ignore_ascii_case(n))
}

/// What an application may not say itself, since the machine says it (RSP-02): framing and hop-by-hop fields.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 => is(b"te"),
        7 => is(b"upgrade"),
        10 => is(b"connection") || is(b"keep-alive"),
        14 => is(b"content-length"),
        16 => is(b"proxy-connection"),
        17 => is(b"transfer-encoding"),
        _ => false,
    }
}

/// One validator for every response and trailer field in every version (RSP-01).
///
/// # Errors
/// What is wrong with it.
pub fn check_field(name: &str, value: &[u8]) -> Result<(), FieldFault> {
    if !is_token(name.as_bytes()) {
        return Err(FieldFault::Name);
    }
    if !is_value(value) {
        return Err(FieldFault::Value);
    }
    if is_ours(name.as_bytes()) { Err(FieldFault::Ours) } else { Ok(()) }
}

/// Names that imitate a framing field for a backend that maps `_` and `-` to the same (H1-18).
pub(crate) fn is_alias(name: &[u8]) -> bool {
    name.contains(&b'_')
        && [&b"content-length"[..], b"transfer-encoding"].iter().any(|n| {
            n.len() == name.len()
                && n.iter().zip(name).all(|(&n, &b)| n == b.to_ascii_lowercase() || (n == b'-' && b == b'_'))
        })
}

/// The transfer coding: `chunked`, once and alone (RFC 9112 §6.1, §7). Says which rule the rest breaks.
pub(crate) fn transfer_coding(value: &[u8]) -> Result<(), Rule> {
    let value = trim(value);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // `gzip, chunked` is well-formed and unknown: 501. Everything else is no framing that two parties read alike.
    let mut parts = value.rsplitn(2, |&b| b == b',').map(trim);
    let last = parts.next().unwrap_or_default();
    let before = parts.next().unwrap_or_default();
    let known = |e: &[u8]| e.eq_ignore_ascii_case(b"chunked") || e.eq_ignore_ascii_case(b"identity");
    let others = || before.split(|&b| b == b',').map(trim);
    if last.eq_ignore_ascii_case(b"chunked") && others().all(|e| is_token(e) && !known(e)) {
        return Err(Rule::TransferCodingUnknown);
    }
    Err(Rule::TransferCoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_length_has_one_spelling() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in
            ["", "00", "01", "+1", "-1", "0x1", "1_0", " 1", "1 ", "1,1", "9223372036854775808", "18446744073709551616"]
        {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn hosts() {
        for good in ["a", "a:1", "a.b:65535", "[::1]", "[::1]:80", "127.0.0.1", "", "a_b", "a:"] {
            assert!(host(good.as_bytes()).is_some(), "{good:?}");
        }
        for bad in [
            "a b", "u@h", "a/b", "a,b", "a:x", "a:65536", "a:123456", "[::1", "[]", "[g]", "[::1]x", ":80", "a\u{80}",
            "a:1:2",
        ] {
            assert!(host(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(same_authority(b"A.b", b"a.B:80", b"80"));
        assert!(!same_authority(b"a.b", b"a.b:8080", b"80"));
        assert!(!same_authority(b"a.b", b"a.b.", b"80"), "a trailing dot is another name");
    }

    #[test]
    fn transfer_codings() {
        assert_eq!(transfer_coding(b" ChunKed\t"), Ok(()));
        for unknown in ["gzip, chunked", "x,y , chunked"] {
            assert_eq!(transfer_coding(unknown.as_bytes()), Err(Rule::TransferCodingUnknown), "{unknown:?}");
        }
        for bad in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked, chunked",
            "chunked;q=1",
            "\"chunked\"",
            "gzip",
            "identity",
            "chunked, gzip",
            "x chunked",
            "chunked\u{b}",
            "identity, chunked",
            "gzip;a, chunked",
            ",,chunked",
        ] {
            assert_eq!(transfer_coding(bad.as_bytes()), Err(Rule::TransferCoding), "{bad:?}");
        }
    }

    #[test]
    fn a_byte_is_found_where_a_plain_loop_finds_it() {
        for len in 0..40 {
            for at in 0..len {
                for fill in [b';', b'9', 0x80, 0xba, 0xff, 0, b'\r'] {
                    let mut bytes = vec![fill; len];
                    bytes[at] = b':';
                    assert_eq!(find(&bytes, b':'), at, "{bytes:?}");
                    assert_eq!(find(&bytes[..at], b':'), at, "none is there");
                }
            }
        }
    }

    #[test]
    fn control_bytes_are_found_where_a_plain_loop_finds_them() {
        for len in 0..40 {
            for at in 0..len {
                for b in 0..=255u8 {
                    for fill in [b'a', 0x80, 0xff, b' ', 0x7e] {
                        let mut bytes = vec![fill; len];
                        bytes[at] = b;
                        let slow = bytes.iter().position(|&b| b < 0x20 || b == 0x7f).unwrap_or(len);
                        assert_eq!(find_control(&bytes), slow, "{bytes:?}");
                    }
                }
            }
        }
    }
}
