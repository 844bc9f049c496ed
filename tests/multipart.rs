//! `multipart/form-data` (RFC 7578, RFC 2046 §5.1): bodies as clients send them, cut anywhere, damaged anywhere,
//! against their limits, and against another reader.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use vestibule::decode::media::MediaType;
use vestibule::decode::multipart::{Item, Multipart};
use vestibule::{Limit, Limits, Rule, Violation};

/// A part as it was told; `ended` says that its end was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Told {
    name: String,
    filename: Option<String>,
    content_type: Option<String>,
    data: Vec<u8>,
    ended: bool,
}

type Outcome = (Vec<Told>, Result<(), Violation>);

fn reader<S: AsRef<[u8]> + AsMut<[u8]>>(boundary: &str, scratch: S) -> Multipart<S> {
    let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
    Multipart::new(&MediaType::parse(content_type.as_bytes()).unwrap(), scratch).unwrap()
}

/// Reads a body in pieces, into which `cut` divides it.
fn read_with(boundary: &str, limits: &Limits, scratch: usize, pieces: &[&[u8]]) -> Outcome {
    let mut reader = reader(boundary, vec![0; scratch]);
    let mut told: Vec<Told> = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            match reader.next(&mut rest, limits) {
                Ok(Some(Item::Part(part))) => told.push(Told {
                    name: part.name.into(),
                    filename: part.filename.map(String::from),
                    content_type: part.content_type.map(|value| String::from_utf8_lossy(value).into_owned()),
                    ..Told::default()
                }),
                Ok(Some(Item::Data(bytes))) => {
                    assert!(!bytes.is_empty());
                    told.last_mut().unwrap().data.extend_from_slice(bytes);
                }
                Ok(Some(Item::PartEnd)) => told.last_mut().unwrap().ended = true,
                Ok(None) => break,
                Err(violation) => {
                    let again = reader.next(&mut &b"--x"[..], limits).map(|_| ());
                    assert_eq!((again, reader.finish()), (Err(violation), Err(violation)), "it stays broken");
                    return (told, Err(violation));
                }
            }
        }
        assert!(rest.is_empty(), "what is not used up is asked for again");
    }
    let outcome = reader.finish();
    assert_eq!(reader.finish(), outcome, "it stays ended");
    if outcome.is_err() {
        assert_eq!(reader.next(&mut &b"--x"[..], limits).map(|_| ()), outcome, "it stays broken");
    }
    (told, outcome)
}

fn read(boundary: &str, body: &[u8]) -> Outcome {
    read_with(boundary, &Limits::DEFAULT, 4_096, &[body])
}

/// Reads a body whole, by each one to seven bytes, and cut once anywhere; it must be told the same.
fn read_split(boundary: &str, limits: &Limits, scratch: usize, body: &[u8]) -> Outcome {
    let whole = read_with(boundary, limits, scratch, &[body]);
    for size in 1..8 {
        let pieces: Vec<_> = body.chunks(size).collect();
        assert_eq!(read_with(boundary, limits, scratch, &pieces), whole, "{size} at a time");
    }
    for cut in 0..=body.len() {
        let (front, back) = body.split_at(cut);
        assert_eq!(read_with(boundary, limits, scratch, &[front, back]), whole, "cut at {cut}");
    }
    whole
}

fn part(name: &str, filename: Option<&str>, content_type: Option<&str>, data: &[u8]) -> Told {
    let [filename, content_type] = [filename, content_type].map(|text| text.map(String::from));
    Told { name: name.into(), filename, content_type, data: data.into(), ended: true }
}

/// Bodies as clients write them: boundary, body, parts.
fn fixtures() -> Vec<(&'static str, Vec<u8>, Vec<Told>)> {
    let chrome = "------WebKitFormBoundaryZ3x9QkAbCdEfGh12\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nline 1\r\nline 2\r\n\
------WebKitFormBoundaryZ3x9QkAbCdEfGh12\r\nContent-Disposition: form-data; name=\"a %22quoted%22 %0D%0A näme\"; filename=\"C:\\dir\\%41.txt\"\r\n\
Content-Type: text/plain\r\n\r\n\r\n\
------WebKitFormBoundaryZ3x9QkAbCdEfGh12\r\nContent-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\
Content-Type: application/octet-stream\r\n\r\n\r\n------WebKitFormBoundaryZ3x9QkAbCdEfGh12--\r\n";
    let curl = "--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"person\"\r\n\r\nanonymous\r\n\
--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name=\"secret\"; filename=\"file \\\"1\\\" \\\\.bin\"\r\n\
Content-Type: application/octet-stream\r\n\r\n\0\r\n--\r\n-\r\n----------------------------\r\n--------------------------d74496d66958873e--\r\n";
    // Python: names first, in lower case or upper; no line end behind the last boundary.
    let python = "--2c1b0a\r\ncontent-disposition:form-data; name=\"k\"; filename=\"r\u{e9}sum\u{e9}.pdf\"\t\r\n\
CONTENT-TYPE:  application/pdf\r\nX-Other: 1\r\n\r\n%PDF-1.7\n\r\n--2c1b0a--";
    // .NET: tokens without quotes, and both kinds of file names.
    let net = "--b-2'()+_,./:=?x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=field\r\n\r\nvalue\r\n\
--b-2'()+_,./:=?x\r\nContent-Disposition: form-data; name=file; filename=a.txt; filename*=utf-8''a.txt\r\nContent-Transfer-Encoding: Binary\r\n\r\nx\r\n\
--b-2'()+_,./:=?x--\r\n";
    let charset = "\r\n--b \t\r\nContent-Disposition: Form-Data; NAME=\"_charset_\"\r\n\r\nUTF-8\r\n--b\t\r\n\
Content-Disposition: form-data ; name=\"\"; size=1;\r\n\r\n\r\n--b-- \t\r\n";
    vec![
        (
            "----WebKitFormBoundaryZ3x9QkAbCdEfGh12",
            chrome.into(),
            vec![
                part("text", None, None, b"line 1\r\nline 2"),
                part("a \"quoted\" \r\n näme", Some("C:\\dir\\%41.txt"), Some("text/plain"), b""),
                part("none", Some(""), Some("application/octet-stream"), b""),
            ],
        ),
        (
            "------------------------d74496d66958873e",
            curl.into(),
            vec![
                part("person", None, None, b"anonymous"),
                part(
                    "secret",
                    Some("file \"1\" \\.bin"),
                    Some("application/octet-stream"),
                    b"\0\r\n--\r\n-\r\n----------------------------",
                ),
            ],
        ),
        ("2c1b0a", python.into(), vec![part("k", Some("résumé.pdf"), Some("application/pdf"), b"%PDF-1.7\n")]),
        (
            "b-2'()+_,./:=?x",
            net.into(),
            vec![
                part("field", None, Some("text/plain; charset=utf-8"), b"value"),
                part("file", Some("a.txt"), None, b"x"),
            ],
        ),
        ("b", charset.into(), vec![part("_charset_", None, None, b"UTF-8"), part("", None, None, b"")]),
        ("b", b"--b--".to_vec(), vec![]),
        ("b", b"--b--\r\n".to_vec(), vec![]),
    ]
}

#[test]
fn what_clients_send_is_read_however_it_is_cut() {
    for (boundary, body, parts) in fixtures() {
        let told = read_split(boundary, &Limits::DEFAULT, 4_096, &body);
        assert_eq!(told, (parts, Ok(())), "{}", body.escape_ascii());
    }
}

#[test]
fn a_body_that_is_cut_off_says_so_at_its_end() {
    for (boundary, body, parts) in fixtures() {
        let close = boundary.len() + 4;
        let end = body.windows(close).rposition(|w| w.starts_with(b"--") && w.ends_with(b"--")).unwrap() + close;
        for length in 0..end {
            let (told, outcome) = read_split(boundary, &Limits::DEFAULT, 4_096, &body[..length]);
            assert_eq!(outcome, Err(Violation::new(Rule::MultipartTruncated, length as u64)));
            // What was told before is true.
            for (told, part) in told.iter().zip(&parts) {
                assert!(part.data.starts_with(&told.data) && told.name == part.name);
                assert!(!told.ended || told.data == part.data);
            }
            assert!(told.len() <= parts.len());
        }
    }
}

#[test]
fn whatever_bit_is_flipped_the_cut_changes_nothing() {
    for (boundary, body, _) in fixtures() {
        for bit in 0..body.len() * 8 {
            let mut body = body.clone();
            body[bit / 8] ^= 1 << (bit % 8);
            let whole = read(boundary, &body);
            let pieces: Vec<_> = body.chunks(1).collect();
            assert_eq!(read_with(boundary, &Limits::DEFAULT, 4_096, &pieces), whole);
        }
    }
}

#[test]
fn each_fault_has_its_rule_and_its_place() {
    // `|` stands before the byte at which it is told.
    let named = "Content-Disposition: form-data; name=\"a\"\r\n";
    for (rule, marked) in [
        (Rule::MultipartPreamble, "-|x--b--"),
        (Rule::MultipartPreamble, "|preamble\r\n--b--"),
        (Rule::MultipartPreamble, "\r\n|\r\n--b--"),
        (Rule::MultipartPreamble, "\r|x"),
        (Rule::MultipartPreamble, "|\n--b--"),
        (Rule::MultipartPreamble, "--|c--"),
        (Rule::MultipartDelimiter, "--b|\n"),
        (Rule::MultipartDelimiter, "--b|x\r\n"),
        (Rule::MultipartDelimiter, "--b-|x"),
        (Rule::MultipartDelimiter, "--b |--\r\n"),
        (Rule::MultipartDelimiter, "--b\r|x"),
        (Rule::MultipartEpilogue, "--b--|x"),
        (Rule::MultipartEpilogue, "--b--\r\n|\r\n"),
        (Rule::MultipartEpilogue, "--b--\r|x"),
        (Rule::MultipartEpilogue, "--b--\r|"),
        (Rule::MultipartEpilogue, "--b--|\n"),
        (Rule::MultipartEpilogue, "--b--|-"),
        (Rule::PartDisposition, "--b\r\n\r\n|"),
        (Rule::PartDisposition, "--b\r\nContent-Type: a/b\r\n\r\n|"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: |attachment; name=\"a\"\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition:|\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data|\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; filename=\"a\"|\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=\"a\"; name=|\"b\"\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=\"a\"; filename*=|utf-8''a\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=\"a|\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=\"a\"|x\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=\"a\\\"; filename=\"|b\"\r\n\r\n"),
        (Rule::PartDisposition, "--b\r\nContent-Disposition: form-data; name=|\u{e9}\r\n\r\n"),
        (
            Rule::PartDisposition,
            "--b\r\nContent-Disposition: form-data; name=a\r\ncontent-disposition: |form-data; name=a\r\n\r\n",
        ),
        (Rule::PartFieldSyntax, "--b\r\n@Content-Type: a/b\r\nContent-Type: |a/b\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@| folded\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@|\n"),
        (Rule::PartFieldSyntax, "--b\r\n@name| : value\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@|: value\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@name|\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@name: va|\0lue\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@name: value|\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@name: value\r|\r\n\r\n"),
        (Rule::PartFieldSyntax, "--b\r\n@\r|x"),
        (Rule::PartTransferEncoding, "--b\r\n@Content-Transfer-Encoding: |base64\r\n\r\n"),
        (Rule::PartTransferEncoding, "--b\r\n@content-transfer-encoding:|\r\n\r\n"),
        (Rule::MultipartDelimiter, "--b\r\n@\r\n--b|--\r\n"),
        (Rule::MultipartDelimiter, "--b\r\n@\r\ntext\r\n--b|oundary\r\n"),
        (Rule::MultipartTruncated, "--b\r\n@\r\ntext\r\n--b|"),
        (Rule::MultipartTruncated, "--b\r\n@\r\ntext\r\n--b-|"),
        (Rule::MultipartTruncated, "--b\r\n@\r\ntext\n--b--\r\n|"),
        (Rule::CharsetUnsupported, "--b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\nutf-|16\r\n--b--"),
        (Rule::CharsetUnsupported, "--b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\nutf-8|9\r\n--b--"),
        (Rule::CharsetUnsupported, "--b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\nutf|\r\n--b--"),
    ] {
        let marked = marked.replace('@', named);
        let at = marked.find('|').unwrap();
        let body = marked.replace('|', "");
        let (_, outcome) = read_split("b", &Limits::DEFAULT, 4_096, body.as_bytes());
        assert_eq!(outcome, Err(Violation::new(rule, at as u64)), "{marked:?}");
    }
    let head = |name: &[u8]| [b"--b\r\nContent-Disposition: form-data; name=\"", name, b"\"\r\n\r\n"].concat();
    for (name, at) in [(&b"a\xff"[..], 44), (b"\xc3", 44), (b"ab\xe2\x82", 47)] {
        let (_, outcome) = read_split("b", &Limits::DEFAULT, 4_096, &head(name));
        assert_eq!(outcome, Err(Violation::new(Rule::Utf8, at)), "{}", name.escape_ascii());
    }
}

#[test]
fn a_boundary_is_checked_before_anything_is_read() {
    let refused = |value: &str| Multipart::new(&MediaType::parse(value.as_bytes()).unwrap(), [0; 8]).map(|_| ()).err();
    let rule = |value: &str| refused(value).map(|violation| violation.rule);
    let long = |n: usize| format!("multipart/form-data; boundary={}", "b".repeat(n));
    assert_eq!(rule(&long(70)), None);
    assert_eq!(rule(&long(71)), Some(Rule::MultipartBoundary));
    assert_eq!(rule("Multipart/Form-Data; Boundary=\"a b'()+_,-./:=?\""), None);
    for value in [
        "multipart/form-data",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\\\"b\"",
        "multipart/form-data; boundary=a*b",
        "multipart/form-data; boundary=\"\u{e9}\"",
        "multipart/form-data; boundary=\"a\tb\"",
    ] {
        assert_eq!(rule(value), Some(Rule::MultipartBoundary), "{value}");
    }
    for value in ["multipart/mixed; boundary=b", "text/plain", "application/x-www-form-urlencoded"] {
        assert_eq!((rule(value), refused(value).unwrap().status()), (Some(Rule::MediaTypeUnsupported), 415));
    }
}

#[test]
fn limits_end_at_the_first_byte_beyond_them() {
    let field =
        |n: usize| format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}\r\n--b--", "v".repeat(n));
    let file = |n: usize| {
        format!("--b\r\nContent-Disposition: form-data; name=\"a\"; filename=f\r\n\r\n{}\r\n--b--", "\r\n--".repeat(n))
    };
    let name =
        |n: usize| format!("--b\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n\r\n--b--", "n%22".repeat(n));
    let parts = |n: usize| "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(n) + "--b--";
    // The white space behind a boundary counts as well.
    let head =
        |n: usize| format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\nx:{}\r\n\r\n\r\n--b--", "y".repeat(n));
    let padding = |n: usize| format!("--b{}\r\n--b--", " ".repeat(n));
    let least = head(0).len() - "--b\r\n".len() - "\r\n--b--".len();
    let value_at = field(0).find("\r\n\r\n").unwrap() + 4;
    let file_at = file(0).find("\r\n\r\n").unwrap() + 4;
    let part_bytes = parts(1).len() - 5;
    // Limit, value, rule, body by a number, the number that just passes, the offset of the fault with one more.
    type Row<'a> = (Limit, u64, Rule, &'a dyn Fn(usize) -> String, usize, usize);
    let rows: [Row<'_>; 6] = [
        (Limit::FormValueBytes, 20, Rule::FormValueTooLong, &field, 20, value_at + 20),
        (Limit::PartFileBytes, 20, Rule::PartFileTooLarge, &file, 5, file_at + 20),
        (Limit::FormNameBytes, 20, Rule::FormNameTooLong, &name, 10, 43 + 40),
        (Limit::Parts, 3, Rule::MultipartTooManyParts, &parts, 3, 3 * part_bytes + 4),
        (Limit::PartHeadBytes, 128, Rule::PartHeadTooLarge, &head, 128 - least, 5 + 128),
        (Limit::PartHeadBytes, 128, Rule::PartHeadTooLarge, &padding, 128, 3 + 128),
    ];
    for (limit, value, rule, body, n, at) in rows {
        let limits = Limits::DEFAULT.with(limit, value).unwrap();
        for n in [n - 1, n] {
            let (_, outcome) = read_split("b", &limits, 4_096, body(n).as_bytes());
            let other = outcome.err().map(|violation| violation.rule);
            assert!(other.is_none_or(|other| other == Rule::MultipartTruncated), "{limit:?}: {other:?} with {n}");
        }
        let (told, outcome) = read_split("b", &limits, 4_096, body(n + 1).as_bytes());
        assert_eq!(outcome, Err(Violation { rule, at: at as u64, value }), "{limit:?}");
        if matches!(limit, Limit::FormValueBytes | Limit::PartFileBytes) {
            assert_eq!(told[0].data.len(), 20, "what is allowed is told before");
        }
    }
    // A file may be as large as nothing.
    let limits = Limits::DEFAULT.with(Limit::PartFileBytes, 0).unwrap();
    assert_eq!(read_split("b", &limits, 4_096, file(0).as_bytes()).1, Ok(()));
    assert_eq!(read_split("b", &limits, 4_096, file(1).as_bytes()).1.unwrap_err().at, file_at as u64);
}

#[test]
fn memory_is_the_only_room_and_its_size_decides_alone() {
    let plain = b"--b\r\nContent-Disposition: form-data; name=\"abc\"\r\n\r\nx\r\n--b--";
    let head = plain.len() - 5 - 8;
    assert_eq!(read_split("b", &Limits::DEFAULT, head, plain).1, Ok(()));
    for room in 0..head {
        let fault = Violation { rule: Rule::PartHeadOverHandler, at: 5 + room as u64, value: room as u64 };
        assert_eq!(read_split("b", &Limits::DEFAULT, room, plain).1, Err(fault));
    }
    // With an escape the name lies a second time behind the header.
    let escaped = b"--b\r\nContent-Disposition: form-data; name=\"a%22\"; filename=\"b\\\\\"\r\n\r\nx\r\n--b--";
    let head = escaped.len() - 5 - 8;
    assert_eq!(read_split("b", &Limits::DEFAULT, head + 4, escaped).1, Ok(()));
    for (room, at) in [(head, 43), (head + 1, 43), (head + 2, 60), (head + 3, 60)] {
        let fault = Violation { rule: Rule::PartHeadOverHandler, at, value: room as u64 };
        assert_eq!(read_split("b", &Limits::DEFAULT, room, escaped).1, Err(fault));
    }
    assert!(size_of::<Multipart<()>>() <= 192, "{}", size_of::<Multipart<()>>());
}

#[test]
fn the_fields_of_a_part_are_all_there() {
    let body = b"--b\r\nX-A:  1 \r\nContent-Disposition: form-data; name=a\r\nx-a:2\r\nX-Empty:\r\nContent-Type: Text/Plain;charset=\"utf-8\"\r\n\r\n";
    let mut reader = reader("b", [0; 256]);
    let mut rest = &body[..];
    let Ok(Some(Item::Part(part))) = reader.next(&mut rest, &Limits::DEFAULT) else { panic!("a part") };
    let fields: Vec<_> = part.fields.map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect();
    let disposition = ("Content-Disposition", "form-data; name=a");
    let kind = ("Content-Type", "Text/Plain;charset=\"utf-8\"");
    assert_eq!(fields, [("X-A", "1"), disposition, ("x-a", "2"), ("X-Empty", ""), kind]);
    assert_eq!(part.fields.get("x-A"), Some(&b"1"[..]));
    assert_eq!(part.fields.get("x-b"), None);
    assert!(part.media_type().unwrap().unwrap().is("text/plain"));
    assert_eq!((reader.offset(), rest.len()), (body.len() as u64, 0));
}

/// Content that begins a boundary again and again costs as much as any other. Quadratic work would take hours.
#[test]
fn near_misses_cost_no_more_than_other_content() {
    let boundary = "b".repeat(70);
    let near = [format!("\r\n--{}", "b".repeat(69)), "\r".into(), "\r\n-".into(), "\r\n--".into(), "\r\n".into()];
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n");
    let limits = Limits::DEFAULT.with(Limit::PartFileBytes, 1 << 30).unwrap();
    for unit in near {
        let content = unit.repeat((8 << 20) / unit.len());
        let body = format!("{head}{content}\r\n--{boundary}--");
        let begun = Instant::now();
        for size in [body.len(), 4_096, 73] {
            let pieces: Vec<_> = body.as_bytes().chunks(size).collect();
            let (told, outcome) = read_with(&boundary, &limits, 256, &pieces);
            assert!(outcome.is_ok() && told[0].data == content.as_bytes());
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{unit:?}: {:?}", begun.elapsed());
    }
}

/// A name as browsers write it.
fn escape(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

fn write(boundary: &str, parts: &[Told]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        let mut head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escape(&part.name));
        if let Some(filename) = &part.filename {
            head += &format!("; filename=\"{}\"", escape(filename));
        }
        if let Some(content_type) = &part.content_type {
            head += &format!("\r\nContent-Type: {content_type}");
        }
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(&part.data);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

/// Parts whose content does not hold the boundary, and likes to come near.
fn parts(names: &'static str) -> impl Strategy<Value = Vec<Told>> {
    let near = prop::sample::select(vec!["\r\n--bo", "\r\n--", "\r", "\n", "-", "--boun", "\r\n--boun\r\n", "x"]);
    let content = prop_oneof![
        prop::collection::vec(near, 0..12).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    let content_type = prop::option::of(prop::sample::select(vec!["text/plain", "image/png"]).prop_map(String::from));
    let one = (names, prop::option::of(names), content_type, content).prop_filter_map(
        "the content holds the boundary",
        |(name, filename, content_type, data)| {
            let before = [b"\r\n", &data[..]].concat(); // a content may not begin with it either
            let holds = before.windows(9).any(|w| w == b"\r\n--bound");
            (!holds).then_some(Told { name, filename, content_type, data, ended: true })
        },
    );
    prop::collection::vec(one, 0..5)
}

/// The parts as the multer crate reads them.
fn by_multer(boundary: &str, pieces: &[&[u8]]) -> Result<Vec<Told>, multer::Error> {
    let pieces: Vec<_> = pieces.iter().map(|p| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(p))).collect();
    let mut theirs = multer::Multipart::new(futures_util::stream::iter(pieces), boundary);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut told = Vec::new();
        while let Some(field) = theirs.next_field().await? {
            let text = |text: Option<&str>| text.map(String::from);
            let (name, filename) = (text(field.name()).unwrap_or_default(), text(field.file_name()));
            let content_type = field.content_type().map(ToString::to_string);
            told.push(Told { name, filename, content_type, data: field.bytes().await?.to_vec(), ended: true });
        }
        Ok(told)
    })
}

fn cut(body: &[u8], mut cuts: Vec<prop::sample::Index>) -> Vec<&[u8]> {
    cuts.sort_by_key(|cut| cut.index(body.len() + 1));
    let ends: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([body.len()]).collect();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(ends.iter()).map(|(start, end)| &body[start..*end]).collect()
}

/// So many cases; `PROPTEST_CASES` makes it a longer hunt.
fn cases(cases: u32) -> ProptestConfig {
    let hunt = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if hunt { default } else { ProptestConfig { cases, ..default } }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_written_is_read(
        parts in parts("[a-zäß🍵\"%;=\r\n \\[\\]]{0,9}"),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        // An escape that a name holds by chance cannot be told from one that was made.
        let chance = |text: &str| ["%22", "%0D", "%0A"].iter().any(|escape| text.contains(escape));
        prop_assume!(!parts.iter().any(|part| chance(&part.name) || part.filename.as_deref().is_some_and(chance)));
        let body = write("bound", &parts);
        let told = read_with("bound", &Limits::DEFAULT, 4_096, &cut(&body, cuts));
        prop_assert_eq!(told, (parts, Ok(())));
    }

    #[test]
    fn another_reader_reads_the_same(
        parts in parts("[a-zäß;= ]{1,9}"),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let body = write("bound", &parts);
        let pieces = cut(&body, cuts);
        let ours = read_with("bound", &Limits::DEFAULT, 4_096, &pieces);
        prop_assert_eq!(&ours.1, &Ok(()));
        let theirs = by_multer("bound", &pieces);
        prop_assert!(theirs.is_ok(), "{:?}", theirs);
        prop_assert_eq!(ours.0, theirs.unwrap());
    }

    /// Whatever we take of damaged bodies, the other one reads the same.
    #[test]
    fn what_is_taken_of_damaged_bodies_is_no_matter_of_taste(
        parts in parts("[a-z]{1,9}"),
        place in any::<prop::sample::Index>(),
        with in prop::sample::select(vec![&b""[..], b"\r", b"\n", b"\r\n", b"-", b"--bound", b"\r\n--bound", b":", b"\"", b" ", b"\0"]),
        gone in 0..4usize,
    ) {
        let mut body = write("bound", &parts);
        let at = place.index(body.len());
        let end = (at + gone).min(body.len());
        body.splice(at..end, with.iter().copied());
        let ours = read_with("bound", &Limits::DEFAULT, 4_096, &[&body]);
        if ours.1.is_ok() {
            let theirs = by_multer("bound", &[&body]);
            prop_assert!(theirs.is_ok(), "{:?} of {}", theirs, body.escape_ascii());
            // What it cannot read as a media type, it leaves out.
            let known = |ours: Told, theirs: &Told| Told { content_type: ours.content_type.filter(|_| theirs.content_type.is_some()), ..ours };
            let theirs = theirs.unwrap();
            prop_assert_eq!(ours.0.len(), theirs.len());
            let ours: Vec<_> = ours.0.into_iter().zip(&theirs).map(|(ours, theirs)| known(ours, theirs)).collect();
            prop_assert_eq!(ours, theirs, "{}", body.escape_ascii());
        }
    }
}
