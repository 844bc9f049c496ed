//! JSON: JSON-01 to JSON-05, TXT-02 and P-22. A public suite, another implementation, the limits from both sides, and texts
//! made to cost much.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use proptest::prelude::*;
use serde_json::Value;
use vestibule::decode::json;
use vestibule::{Limit, Limits, Rule, Violation};

fn check(text: &[u8], limits: &Limits) -> Result<(), Violation> {
    let mut scratch = vec![0; 2 * text.len() + 4];
    let got = json::check_in(text, limits, &mut scratch);
    #[cfg(feature = "alloc")]
    assert_eq!(json::check(text, limits), got, "with memory of its own");
    got
}

fn refused(text: &[u8]) -> Option<Rule> {
    check(text, &Limits::DEFAULT).err().map(|v| v.rule)
}

/// Reads any value with our reader.
fn ours(text: &[u8]) -> Result<Value, Violation> {
    let mut scratch = vec![0; 2 * text.len() + 4];
    json::from_slice(text, &Limits::DEFAULT, &mut scratch)
}

/// The same value. Floats may differ in their last digits: the other one does not round them exactly unless it is asked to.
fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, a), (l, b))| k == l && alike(a, b))
        }
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || ((a - b) / b).abs() < 1e-14 || (a.abs() < 1e-300 && b.abs() < 1e-300)
        }
        (a, b) => a == b,
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.bytes().filter(|b| *b != b'=').map(|b| DIGITS.iter().position(|d| *d == b).unwrap() as u32).collect();
    let triple = |four: &[u32]| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(triple).collect()
}

/// What we decide where the RFC leaves it open (`None`: taken), with the reason.
fn decided(name: &str) -> Option<Rule> {
    match name {
        // Nothing is lost but digits that an f64 does not have: tiny numbers become zero, big integers become floats.
        "i_number_double_huge_neg_exp.json"
        | "i_number_real_underflow.json"
        | "i_number_too_big_neg_int.json"
        | "i_number_too_big_pos_int.json"
        | "i_number_very_big_negative_int.json" => None,
        // The number would become infinite, which is another number in every reader.
        "i_number_huge_exp.json"
        | "i_number_neg_int_huge_exp.json"
        | "i_number_pos_double_huge_exp.json"
        | "i_number_real_neg_overflow.json"
        | "i_number_real_pos_overflow.json" => Some(Rule::JsonNumberRange),
        // RFC 8259 §8.1: UTF-8, and no byte order mark.
        "i_string_UTF-16LE_with_BOM.json"
        | "i_string_utf16BE_no_BOM.json"
        | "i_string_utf16LE_no_BOM.json"
        | "i_structure_UTF-8_BOM_empty_object.json" => Some(Rule::JsonByteOrderMark),
        // Half a pair is no character, and two readers seldom put the same one in its place (RFC 8259 §8.2).
        "i_object_key_lone_2nd_surrogate.json"
        | "i_string_1st_surrogate_but_2nd_missing.json"
        | "i_string_1st_valid_surrogate_2nd_invalid.json"
        | "i_string_incomplete_surrogate_and_escape_valid.json"
        | "i_string_incomplete_surrogate_pair.json"
        | "i_string_incomplete_surrogates_escape_valid.json"
        | "i_string_invalid_lonely_surrogate.json"
        | "i_string_invalid_surrogate.json"
        | "i_string_inverted_surrogates_U+1D11E.json"
        | "i_string_lone_second_surrogate.json" => Some(Rule::JsonSurrogate),
        // 500 levels are more than our limit can be.
        "i_structure_500_nested_arrays.json" => Some(Rule::JsonDepth),
        // Everything else is not UTF-8.
        _ => Some(Rule::Utf8),
    }
}

// P-22, JSON-03, TXT-02
#[test]
fn the_public_suite() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/jsontestsuite/jsontestsuite.json");
    let Ok(file) = std::fs::read(path) else {
        println!("the public suite is absent, nothing was compared");
        return;
    };
    let suite: Value = serde_json::from_slice(&file).unwrap();
    let mut count = [0; 3];
    for case in suite["parsing"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let text = match case["b64"].as_str() {
            Some(coded) => base64(coded),
            None => {
                let repeat = case["repeat"].as_array().unwrap();
                let mut text = repeat[0].as_str().unwrap().repeat(repeat[1].as_u64().unwrap() as usize);
                text.push_str(case["suffix"].as_str().unwrap_or_default());
                text.into_bytes()
            }
        };
        assert_eq!(Some(text.len() as u64), case["len"].as_u64(), "{name}");
        let got = refused(&text);
        match case["expect"].as_str().unwrap() {
            // The one thing that the suite takes and we do not, on purpose (JSON-02).
            "accept" if name.starts_with("y_object_duplicated_key") => {
                assert_eq!(got, Some(Rule::JsonDuplicateKey), "{name}");
                count[0] += 1;
            }
            "accept" => {
                assert_eq!(got, None, "{name}");
                assert!(alike(&ours(&text).unwrap(), &serde_json::from_slice(&text).unwrap()), "{name}");
                count[0] += 1;
            }
            "reject" => {
                assert!(got.is_some(), "{name}");
                count[1] += 1;
            }
            _ => {
                assert_eq!(got, decided(name), "{name}");
                count[2] += 1;
            }
        }
    }
    assert_eq!(count, [95, 188, 35]);
    for case in suite["transform"].as_array().unwrap() {
        let text = base64(case["b64"].as_str().unwrap());
        if check(&text, &Limits::DEFAULT).is_ok() {
            assert!(alike(&ours(&text).unwrap(), &serde_json::from_slice(&text).unwrap()), "{}", case["name"]);
        }
    }
}

fn with(limit: Limit, value: u64) -> Limits {
    Limits::DEFAULT.with(limit, value).unwrap()
}

// JSON-01 to JSON-05, each from both sides of its limit.
#[test]
fn limits_are_exact() {
    let object = |keys: usize| {
        let members: Vec<String> = (0..keys).map(|i| format!("\"k{i}\":{i}")).collect();
        format!("{{{}}}", members.join(","))
    };
    type Case<'a> = (Limit, u64, Rule, &'a dyn Fn(usize) -> String, &'a dyn Fn(usize) -> u64);
    let cases: [Case<'_>; 8] = [
        (Limit::JsonDepth, 10, Rule::JsonDepth, &|n| format!("{}{}", "[".repeat(n), "]".repeat(n)), &|_| 10),
        (Limit::JsonDepth, 256, Rule::JsonDepth, &|n| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n)), &|_| {
            5 * 256
        }),
        (Limit::JsonNumberBytes, 16, Rule::JsonNumberTooLong, &|n| "1".repeat(n), &|_| 16),
        (Limit::JsonNumberBytes, 20, Rule::JsonNumberTooLong, &|n| format!("[-1.{}e-1]", "5".repeat(n - 6)), &|_| 21),
        (Limit::JsonKeyBytes, 16, Rule::JsonKeyTooLong, &|n| format!("{{\"{}\":1}}", "k".repeat(n)), &|_| 18),
        (
            Limit::JsonKeyBytes,
            18,
            Rule::JsonKeyTooLong,
            &|n| format!("{{\"\\u0061{}\":1}}", "k".repeat(n - 6)),
            &|_| 20,
        ),
        (Limit::JsonKeys, 20, Rule::JsonTooManyKeys, &object, &|_| object(20).len() as u64),
        (Limit::JsonWhitespaceBytes, 30, Rule::JsonWhitespace, &|n| format!("{}[ 1\t]\n", " ".repeat(n - 3)), &|_| 33),
    ];
    for (limit, value, rule, text, at) in cases {
        let limits = with(limit, value);
        for n in [value - 1, value] {
            assert_eq!(check(text(n as usize).as_bytes(), &limits), Ok(()), "{} {n}", limit.name());
        }
        let over = check(text(value as usize + 1).as_bytes(), &limits);
        assert_eq!(over, Err(Violation { rule, at: at(value as usize), value }), "{}", limit.name());
    }
    assert_eq!(check(b" ", &with(Limit::JsonWhitespaceBytes, 0)).unwrap_err().rule, Rule::JsonWhitespace);
    assert_eq!(check(b"[1]", &with(Limit::JsonWhitespaceBytes, 0)), Ok(()));
    let long = format!("\"{}\"", "s".repeat(100_000));
    assert_eq!(check(long.as_bytes(), &with(Limit::JsonKeyBytes, 16)), Ok(()), "a string is no key");
}

// JSON-01
#[test]
fn a_million_brackets_end_at_the_limit() {
    for (open, step) in [("[", 1), ("{\"\":", 4), ("[{\"a\":", 3)] {
        let v = check(open.repeat(1_000_000).as_bytes(), &Limits::DEFAULT).unwrap_err();
        assert_eq!((v.rule, v.at), (Rule::JsonDepth, 64 * step));
    }
}

// JSON-02
#[test]
fn a_key_twice_is_found_at_any_distance_and_however_it_is_spelled() {
    let members: Vec<String> = (0..1_000).map(|i| format!("\"key{i}\":{{\"key1\":[],\"key2\":{{}}}}")).collect();
    let object = |more: &str| format!("[{{{},{more}:null}},{{}}]", members.join(","));
    assert_eq!(
        check(object("\"key1000\"").as_bytes(), &Limits::DEFAULT),
        Ok(()),
        "in another object it is another key"
    );
    for twice in ["\"key0\"", "\"key999\"", "\"\\u006bey77\"", "\"k\\u0065y5\""] {
        let text = object(twice);
        let v = check(text.as_bytes(), &Limits::DEFAULT).unwrap_err();
        assert_eq!((v.rule, v.at as usize), (Rule::JsonDuplicateKey, text.rfind(twice).unwrap() + 1));
    }
    for (a, b, same) in [
        ("a", "a", true),
        ("a", "A", false),
        ("", "", true),
        ("\\/", "/", true),
        ("\\n", "\\u000A", true),
        ("\\u0000", "\\u0000", true),
        ("\\u0000", "", false),
        ("😀", "\\ud83d\\ude00", true),
        ("é", "e\\u0301", false),
        ("\\\\", "\\u005c", true),
        ("\\\"", "\\u0022", true),
        ("a", "aa", false),
    ] {
        let text = format!("{{\"{a}\":1,\"{b}\":2}}");
        let got = refused(text.as_bytes());
        assert_eq!(got, same.then_some(Rule::JsonDuplicateKey), "{text}");
    }
}

// JSON-02: few keys and many are told apart in different ways.
#[test]
fn of_any_number_of_keys_the_first_that_stood_before_is_told() {
    for (count, stem) in (2..14).flat_map(|count| [(count, "same"), (count, "")]) {
        for (a, b) in (0..count).flat_map(|b| (0..b).map(move |a| (a, b))) {
            let key = |i: usize| if i == b { format!("{stem}{:x}", a) } else { format!("{stem}{i:x}") };
            let spelled =
                |i: usize| if i == b { format!("\\u{:04x}{}", key(i).as_bytes()[0], &key(i)[1..]) } else { key(i) };
            let last = format!("\"{}\":0", key(b));
            let members: Vec<String> = (0..count).map(|i| format!("\"{}\":0", spelled(i))).collect();
            let before = members[..b].join(",");
            let text = format!("{{{},{last}}}", members.join(","));
            let v = check(text.as_bytes(), &Limits::DEFAULT).unwrap_err();
            assert_eq!((v.rule, v.at as usize), (Rule::JsonDuplicateKey, before.len() + 3), "{text}");
        }
    }
}

// JSON-05
#[test]
fn nothing_may_follow_the_text() {
    for (text, rule) in [
        ("{} {}", Rule::JsonTrailing),
        ("1,", Rule::JsonTrailing),
        ("{}/**/", Rule::JsonTrailing),
        ("[1,]", Rule::JsonSyntax),
        ("{\"a\":1,}", Rule::JsonSyntax),
        ("[1]\u{a0}", Rule::JsonTrailing),
        ("", Rule::JsonEmpty),
        ("[1]\u{c}", Rule::JsonTrailing),
    ] {
        assert_eq!(refused(text.as_bytes()), Some(rule), "{text:?}");
    }
}

// ENG-07, JSON-02, JSON-03: texts that aim at the costly paths take no longer than in proportion.
#[test]
fn work_is_linear() {
    let prefix = "p".repeat(1_000);
    let alike: Vec<String> = (0..1_000).map(|i| format!("\"{prefix}{i:04}\":0")).collect();
    let keys = format!("{{{}}}", alike.join(","));
    let borderline = format!("1.79769313486231580793728971405303415079934132710037826936{}e308", "1".repeat(190));
    let numbers = format!("[{}1]", format!("{borderline},").repeat(4_000));
    let escapes = format!("\"{}\"", "\\ud83d\\ude00".repeat(90_000));
    let broken = [b"\"".as_slice(), &"é".repeat(500_000).into_bytes(), b"\""].concat();
    let whitespace = format!("[{}1]", "1 ,".repeat(60_000));
    for text in [keys.as_bytes(), numbers.as_bytes(), escapes.as_bytes(), &broken, whitespace.as_bytes()] {
        let start = Instant::now();
        assert_eq!(check(text, &Limits::DEFAULT), Ok(()));
        let nanos = start.elapsed().as_nanos() / text.len() as u128;
        // Generous: the figure is 1 to 40 on an idle machine.
        assert!(nanos < 2_000, "{nanos} ns a byte");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..8).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

/// Escapes every character of every string, with pairs where they are needed. The text must not hold `\u` already.
fn escaped(text: &str) -> String {
    let (mut out, mut in_string, mut chars) = (String::new(), false, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push('"');
            }
            '\\' => {
                out.push('\\');
                out.extend(chars.next());
            }
            c if in_string => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    // P-22
    #[test]
    fn any_value_is_read_as_others_read_it(value in any_json()) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(check(text.as_bytes(), &Limits::DEFAULT), Ok(()));
            let theirs: Value = serde_json::from_str(&text).unwrap();
            let read = ours(text.as_bytes()).unwrap();
            prop_assert!(alike(&read, &theirs));
            prop_assert!(read == value || text.contains("-0.0"), "exact, as written");
            if !text.contains("\\u") {
                prop_assert!(alike(&ours(escaped(&text).as_bytes()).unwrap(), &theirs));
            }
        }
    }

    // P-22: one side only. Whatever we take, they take, and for the same.
    #[test]
    fn whatever_we_take_others_take(
        value in any_json(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), proptest::sample::select(&b"\"\\{}[]:,0129eE+-.tfnu \n\x00\x80\xc3\xed"[..]),
        ]), 1..4),
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let theirs = serde_json::from_slice::<Value>(&text);
        if check(&text, &Limits::DEFAULT).is_ok() {
            prop_assert!(alike(&ours(&text).unwrap(), &theirs.unwrap()));
        } else if let Ok(theirs) = theirs {
            // Stricter we are only in these.
            let rule = refused(&text).unwrap();
            prop_assert!(matches!(rule, Rule::JsonDuplicateKey | Rule::JsonByteOrderMark), "{rule:?}: {theirs}");
        }
    }

    #[test]
    fn any_bytes_at_all(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        if check(&text, &Limits::DEFAULT).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
        let _ = json::from_slice::<Value>(&text, &Limits::DEFAULT, &mut [0; 16]);
    }

    #[test]
    fn any_text_of_json_signs(text in proptest::collection::vec(
        proptest::sample::select(&["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\u0061\"", "\"b\"", "1", "-0", "1e5", " ", "null", "true"][..]), 0..14),
    ) {
        let text = text.concat();
        let theirs = serde_json::from_str::<Value>(&text);
        match (refused(text.as_bytes()), &theirs) {
            (None, Ok(theirs)) => prop_assert!(alike(&ours(text.as_bytes()).unwrap(), theirs)),
            (Some(Rule::JsonDuplicateKey), Ok(_)) | (Some(_), Err(_)) => {}
            (got, theirs) => prop_assert!(false, "{text}: {got:?}, {theirs:?}"),
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Reply<'a> {
        id: u64,
        ratio: f32,
        #[serde(borrow)]
        tags: [&'a str; 2],
        next: Option<i8>,
    }
    let reply = Reply { id: u64::MAX, ratio: -0.25, tags: ["\"quoted\"\u{1}", "é😀"], next: None };
    let (mut buf, mut scratch) = ([0; 128], [0; 256]);
    let length = json::to_slice(&reply, &mut buf).unwrap();
    assert_eq!(json::from_slice::<Reply<'_>>(&buf[..length], &Limits::DEFAULT, &mut scratch), Ok(reply));
    assert_eq!(json::to_slice(&[1; 9], &mut [0; 10]), Err(json::WriteError::Full));
}
