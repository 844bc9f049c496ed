//! In: status and fields of a response. Out: whether its content is to be coded, and the fields that say so (RFC 9110 §8.4, §12.5.5).

use crate::base::{Limit, Limits};
use crate::decode::coding::Coding;
use crate::parse::semantics::{list, trim};

type Fields<'f> = &'f [(&'f str, &'f str)];

/// Most fields of a response that is coded. One with more is sent as it is.
pub(crate) const MOST: usize = 64;
/// Longest value of a Vary or an ETag that is changed.
const LONGEST: usize = 256;

/// A response of that kind is worth a coding, if its client takes one: RFC 9110 lets it have content, all of it, that nobody has coded
/// before, nobody has forbidden to change and nothing vouches for as it is; it is long enough, and of a type that gets smaller.
pub(crate) fn is_codable(status: u16, fields: Fields<'_>, length: Option<u64>, limits: &Limits) -> bool {
    // 206 is a part of something that is named by offsets; 205 and 304 have no content.
    if matches!(status, 0..=199 | 204..=206 | 304)
        || length.is_some_and(|n| n < limits.get(Limit::EncodeFromBytes).max(1))
    {
        return false;
    }
    let mut compressible = false;
    for (name, value) in fields {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            6 if is("digest") => return false,
            11 if is("content-md5") || is("repr-digest") => return false,
            12 if is("content-type") => compressible = is_compressible(value),
            13 if is("content-range") => return false,
            13 if is("cache-control") && has(value, "no-transform") => return false,
            14 if is("content-digest") => return false,
            16 if is("content-encoding") => return false,
            _ => {}
        }
    }
    compressible
}

/// Some element of the list is that word.
fn has(value: &str, word: &str) -> bool {
    list(value.as_bytes()).any(|element| element.eq_ignore_ascii_case(word.as_bytes()))
}

/// Text, and what is made of text; Protobuf and WebAssembly. Not what is compressed by itself, such as images and archives.
fn is_compressible(content_type: &str) -> bool {
    const SUBTYPES: [&str; 16] = [
        "json",
        "xml",
        "javascript",
        "x-javascript",
        "ecmascript",
        "x-ndjson",
        "jsonl",
        "yaml",
        "toml",
        "sql",
        "graphql",
        "wasm",
        "protobuf",
        "x-protobuf",
        "xml-dtd",
        "x-sh",
    ];
    let essence = trim(content_type.as_bytes().split(|&b| b == b';').next().unwrap_or_default());
    let Some((kind, subtype)) = core::str::from_utf8(essence).ok().and_then(|essence| essence.split_once('/')) else {
        return false;
    };
    let ends = |suffix: &str| {
        let at = subtype.len().checked_sub(suffix.len());
        at.and_then(|at| subtype.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    let is = |words: &[&str]| words.iter().any(|word| subtype.eq_ignore_ascii_case(word));
    let is_grpc = subtype.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("grpc"));
    match kind {
        // Its messages are compressed one by one, or not at all; no client of gRPC takes a content coding off.
        _ if is_grpc && kind.eq_ignore_ascii_case("application") => false,
        _ if ends("+json") || ends("+xml") || ends("+yaml") => true,
        _ if kind.eq_ignore_ascii_case("text") => true,
        _ if kind.eq_ignore_ascii_case("application") => is(&SUBTYPES),
        _ if kind.eq_ignore_ascii_case("image") => is(&["bmp", "x-icon", "vnd.microsoft.icon"]),
        _ if kind.eq_ignore_ascii_case("font") => is(&["ttf", "otf"]),
        _ => false,
    }
}

/// Room for values that are changed.
pub(crate) struct Scratch([u8; 2 * LONGEST]);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch([0; 2 * LONGEST])
    }
}

/// A response's fields, with what a coding changes.
pub(crate) struct Edited<'f> {
    fields: [(&'f str, &'f str); MOST],
    len: usize,
}

impl<'f> Edited<'f> {
    /// Names the coding, unless that is none; says that the response depends on Accept-Encoding (RFC 9110 §12.5.5); makes a strong
    /// entity tag of content that is coded weak (RFC 9110 §8.8.3.3): the content as it is has the strong one. `None`: too many fields, or
    /// too long a tag.
    pub(crate) fn new(fields: Fields<'f>, coding: Coding, scratch: &'f mut Scratch) -> Option<Edited<'f>> {
        let (tag, vary) = scratch.0.split_at_mut(LONGEST);
        let (mut tag, mut vary) = (Some(tag), Some(vary));
        let coded = coding != Coding::Identity;
        let mut edited = Edited { fields: [("", ""); MOST], len: 0 };
        let varies = |(name, value): &(&str, &str)| {
            name.eq_ignore_ascii_case("vary") && (has(value, "*") || has(value, "accept-encoding"))
        };
        let mut said = fields.iter().any(varies);
        for &(name, value) in fields {
            if coded && name.eq_ignore_ascii_case("accept-ranges") {
                continue; // ranges count bytes of the content as it is
            }
            let is_tag = coded && name.eq_ignore_ascii_case("etag") && value.starts_with('"');
            let is_vary = !said && name.eq_ignore_ascii_case("vary");
            let value = match () {
                () if is_tag => join(tag.take()?, &["W/", value])?,
                () if is_vary => match join(vary.take()?, &[value, ", accept-encoding"]) {
                    Some(value) => {
                        said = true;
                        value
                    }
                    None => {
                        edited.push("vary", "accept-encoding")?; // one more line says the same (RFC 9110 §5.3)
                        said = true;
                        value
                    }
                },
                () => value,
            };
            edited.push(name, value)?;
        }
        if coded {
            edited.push("content-encoding", coding.name())?;
        }
        if !said {
            edited.push("vary", "accept-encoding")?;
        }
        Some(edited)
    }

    fn push(&mut self, name: &'f str, value: &'f str) -> Option<()> {
        *self.fields.get_mut(self.len)? = (name, value);
        self.len += 1;
        Some(())
    }

    pub(crate) fn get(&self) -> Fields<'_> {
        self.fields.get(..self.len).unwrap_or_default()
    }
}

/// The parts in a row, if they fit.
fn join<'f>(room: &'f mut [u8], parts: &[&str]) -> Option<&'f str> {
    let mut len = 0;
    for part in parts {
        room.get_mut(len..len + part.len())?.copy_from_slice(part.as_bytes());
        len += part.len();
    }
    core::str::from_utf8(room.get(..len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: (&str, &str) = ("Content-Type", "text/plain; charset=utf-8");

    #[test]
    fn types_that_get_smaller() {
        for good in [
            "text/html",
            "TEXT/event-stream",
            "text/css;charset=utf-8",
            "application/json",
            "application/JSON ; a=b",
            "application/problem+json",
            "application/xml",
            "application/atom+xml",
            "image/svg+xml",
            "application/javascript",
            "text/javascript",
            "application/wasm",
            "application/x-protobuf",
            "application/protobuf",
            "font/ttf",
            "image/bmp",
        ] {
            assert!(is_compressible(good), "{good}");
        }
        for bad in [
            "",
            "text",
            "application/octet-stream",
            "image/png",
            "image/jpeg",
            "video/mp4",
            "application/zip",
            "font/woff2",
            "application/gzip",
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "Application/gRPC+json",
            "application/grpc-web+json",
            "multipart/byteranges",
            "application/pdf",
            "application/jsonx",
            "textual/plain",
            "application/+jso",
        ] {
            assert!(!is_compressible(bad), "{bad}");
        }
    }

    #[test]
    fn what_may_be_coded_and_what_may_not() {
        let limits = Limits::DEFAULT.with(Limit::EncodeFromBytes, 100).expect("in range");
        let may =
            |status, more: &[(&str, &str)], length| is_codable(status, &[&[TEXT], more].concat(), length, &limits);
        for status in [200, 201, 203, 207, 400, 404, 500, 503] {
            assert!(may(status, &[], None) && may(status, &[], Some(100)) && !may(status, &[], Some(99)), "{status}");
        }
        for status in [100, 101, 103, 204, 205, 206, 304] {
            assert!(!may(status, &[], None), "{status}");
        }
        assert!(!is_codable(200, &[], None, &limits), "of no type");
        for field in [
            ("content-encoding", "br"),
            ("Content-Encoding", "identity"),
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "public, No-Transform"),
            ("content-digest", "sha-256=:x:"),
            ("repr-digest", "sha-256=:x:"),
            ("digest", "x"),
            ("content-md5", "x"),
        ] {
            assert!(!may(200, &[field], None), "{field:?}");
        }
        assert!(may(200, &[("cache-control", "no-cache"), ("etag", "\"a\"")], None));
        let all = Limits::DEFAULT.with(Limit::EncodeFromBytes, 0).expect("in range");
        assert!(!is_codable(200, &[TEXT], Some(0), &all), "nothing does not get smaller");
    }

    fn edit<'f>(fields: Fields<'f>, coding: Coding, scratch: &'f mut Scratch) -> Vec<(String, String)> {
        let edited = Edited::new(fields, coding, scratch).expect("fits");
        edited.get().iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        fields.iter().filter(|f| f.0.eq_ignore_ascii_case(name)).map(|f| &f.1[..]).collect()
    }

    #[test]
    fn the_coding_is_named_vary_merged_and_a_strong_tag_made_weak() {
        let long = "x, ".repeat(100) + "y";
        for (vary, want) in [
            (vec![], vec!["accept-encoding"]),
            (vec!["Origin"], vec!["Origin, accept-encoding"]),
            (vec!["Accept-Encoding"], vec!["Accept-Encoding"]),
            (vec!["origin, accept-ENCODING"], vec!["origin, accept-ENCODING"]),
            (vec!["*"], vec!["*"]),
            (vec!["origin", "cookie"], vec!["origin, accept-encoding", "cookie"]),
            (vec!["origin", "accept-encoding"], vec!["origin", "accept-encoding"]),
            (vec![&long[..]], vec!["accept-encoding", &long[..]]),
        ] {
            let fields: Vec<_> = [TEXT].into_iter().chain(vary.iter().map(|v| ("Vary", *v))).collect();
            for coding in [Coding::Identity, Coding::Gzip] {
                let mut scratch = Scratch::new();
                let got = edit(&fields, coding, &mut scratch);
                assert_eq!(value(&got, "vary"), want, "{vary:?}");
                let named = if coding == Coding::Gzip { vec!["gzip"] } else { vec![] };
                assert_eq!(value(&got, "content-encoding"), named);
                assert_eq!(value(&got, "content-type"), [TEXT.1]);
            }
        }
        for (tag, coded) in [("\"v1\"", "W/\"v1\""), ("W/\"v1\"", "W/\"v1\""), ("\"\"", "W/\"\"")] {
            let fields = [TEXT, ("ETag", tag)];
            assert_eq!(value(&edit(&fields, Coding::Brotli, &mut Scratch::new()), "etag"), [coded]);
            assert_eq!(value(&edit(&fields, Coding::Identity, &mut Scratch::new()), "etag"), [tag]);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_coded() {
        let long = format!("\"{}\"", "t".repeat(300));
        assert!(Edited::new(&[("etag", &long)], Coding::Gzip, &mut Scratch::new()).is_none());
        assert!(Edited::new(&[("etag", &long)], Coding::Identity, &mut Scratch::new()).is_some());
        for (n, fits) in [(MOST - 2, true), (MOST - 1, false), (MOST, false), (3 * MOST, false)] {
            let fields = vec![("a", "b"); n];
            assert_eq!(Edited::new(&fields, Coding::Gzip, &mut Scratch::new()).is_some(), fits, "{n}");
        }
    }
}
