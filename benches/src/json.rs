//! JSON and UTF-8 in memory: a document of some 600 KB as a social network sends it, a small struct both ways, long texts.

use crate::measure::{Case, Group, Work};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::rc::Rc;
use vestibule::decode::json::{self, Token, Tokenizer};
use vestibule::decode::text::Utf8;
use vestibule::{Limit, Limits};

pub(crate) fn groups() -> Vec<Group> {
    vec![document("JSON, 600 KB, compact", false), document("JSON, 600 KB, indented", true), read(), written()]
        .into_iter()
        .chain([
            utf8("UTF-8, 64 KiB of ASCII", "plain text, as it is "),
            utf8("UTF-8, 64 KiB of all", "text, ö, 漢字 and 🍵 "),
        ])
        .collect()
}

/// Statuses until there are 600 KB: nested objects, long and short strings, some of them escaped or not ASCII, all kinds of
/// numbers.
fn statuses(indented: bool) -> Vec<u8> {
    let mut text = String::from("{\"statuses\":[");
    for i in 0u64.. {
        let id = 505_874_924_095_815_681 + i * 7_919;
        let user = format!(
            "{{\"id\":{},\"name\":\"名前 {i}\",\"screen_name\":\"user_{i}\",\"location\":\"\",\"followers_count\":{},\
             \"description\":\"24時間 — somebody who writes about tea, and about nothing else, all day long\",\
             \"url\":null,\"protected\":false,\"rating\":{}.{:02},\"utc_offset\":-{}}}",
            id % 1_000_003,
            i * 37 % 5_000,
            i % 5,
            i % 100,
            i % 12 * 3_600
        );
        text.push_str(&format!(
            "{}{{\"metadata\":{{\"result_type\":\"recent\",\"iso_language_code\":\"ja\"}},\
             \"created_at\":\"Sun Aug 31 00:29:{:02} +0000 2014\",\"id\":{id},\"id_str\":\"{id}\",\
             \"text\":\"@reader_{i} \\u524d\\u7530 \\ud83c\\udf75\\n第一印象: \\\"なんか\\\" http:\\/\\/t.example\\/{i}\",\
             \"source\":\"<a href=\\\"https:\\/\\/example.org\\\" rel=\\\"nofollow\\\">a client<\\/a>\",\
             \"truncated\":false,\"in_reply_to_status_id\":null,\"score\":{}.5e-3,\"user\":{user},\
             \"entities\":{{\"hashtags\":[],\"urls\":[{{\"indices\":[{},{}]}}]}},\"favorited\":{}}}",
            if i > 0 { "," } else { "" },
            i % 60,
            i,
            i % 80,
            i % 80 + 22,
            i % 3 == 0
        ));
        if text.len() > 600_000 {
            break;
        }
    }
    text.push_str("]}");
    if !indented {
        return text.into_bytes();
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::to_vec_pretty(&value).unwrap()
}

fn document(name: &'static str, indented: bool) -> Group {
    let text = Rc::new(statuses(indented));
    // Each case has its own handle of the text.
    let case = |name, f: fn(&[u8])| {
        let text = Rc::clone(&text);
        Case::new(name, move |n| {
            let text = Rc::clone(&text);
            Box::new(move || (0..n).for_each(|_| f(black_box(&text)))) as Work
        })
    };
    Group {
        name,
        count: 64,
        batch: 1,
        bytes: Some(text.len()),
        cases: vec![
            case("json::check", |text| json::check(text, &limits()).unwrap()).without_allocations(),
            case("Tokenizer, whole", |text| tokens(text, text.len())).without_allocations(),
            case("Tokenizer, 4 KiB pieces", |text| tokens(text, 4_096)).without_allocations(),
            case("Tokenizer, 4 KiB pieces, skipping", skipping).without_allocations(),
            case("serde_json, IgnoredAny", |text| {
                black_box(serde_json::from_slice::<serde::de::IgnoredAny>(text).unwrap());
            }),
            case("serde_json, Value", |text| {
                black_box(serde_json::from_slice::<serde_json::Value>(text).unwrap());
            }),
        ],
    }
}

/// What is indented has more white space than the default allows.
fn limits() -> Limits {
    Limits::DEFAULT.with(Limit::JsonWhitespaceBytes, 1 << 24).unwrap()
}

fn tokens(text: &[u8], n: usize) {
    let (mut tokens, limits) = (Tokenizer::default(), limits());
    for mut piece in text.chunks(n) {
        while let Some(token) = tokens.next(&mut piece, &limits).unwrap() {
            black_box(token);
        }
    }
    assert_eq!(tokens.finish(), Ok(None));
}

/// Wants the identifiers alone.
fn skipping(text: &[u8]) {
    let (mut tokens, limits) = (Tokenizer::default(), limits());
    for mut piece in text.chunks(4_096) {
        while let Some(token) = tokens.next(&mut piece, &limits).unwrap() {
            let wanted = !matches!(token, Token::Key("metadata" | "text" | "source" | "user" | "entities"));
            black_box(token);
            if !wanted {
                tokens.skip();
            }
        }
    }
    assert_eq!(tokens.finish(), Ok(None));
}

#[derive(Serialize, Deserialize)]
struct Order<'a> {
    id: u32,
    name: &'a str,
    price: f64,
    tags: [u16; 3],
    paid: bool,
}

const ORDER: &[u8] = br#"{"id":70419,"name":"green tea, 100 g","price":12.25,"tags":[7,80,900],"paid":true}"#;

fn read() -> Group {
    Group {
        name: "JSON, a struct of 82 bytes, read",
        count: 20_480,
        batch: 1,
        bytes: None,
        cases: vec![
            Case::new("vestibule, from_slice", |n| {
                let mut scratch = [0; 256];
                Box::new(move || {
                    for _ in 0..n {
                        let order: Order<'_> =
                            json::from_slice(black_box(ORDER), &Limits::DEFAULT, &mut scratch).unwrap();
                        black_box(order);
                    }
                })
            })
            .without_allocations(),
            Case::new("serde_json, from_slice", |n| {
                Box::new(move || {
                    for _ in 0..n {
                        black_box(serde_json::from_slice::<Order<'_>>(black_box(ORDER)).unwrap());
                    }
                })
            }),
            Case::new("serde-json-core, from_slice", |n| {
                Box::new(move || {
                    for _ in 0..n {
                        black_box(serde_json_core::from_slice::<Order<'_>>(black_box(ORDER)).unwrap());
                    }
                })
            }),
        ],
    }
}

fn written() -> Group {
    const VALUE: Order<'_> =
        Order { id: 70_419, name: "green tea, 100 g", price: 12.25, tags: [7, 80, 900], paid: true };
    fn case(name: &'static str, write: fn(&Order<'_>, &mut [u8])) -> Case {
        Case::new(name, move |n| {
            let mut buf = [0; 128];
            Box::new(move || (0..n).for_each(|_| write(black_box(&VALUE), black_box(&mut buf))))
        })
        .without_allocations()
    }
    Group {
        name: "JSON, a struct of 82 bytes, written",
        count: 20_480,
        batch: 1,
        bytes: None,
        cases: vec![
            case("vestibule, to_slice", |order, buf| assert_eq!(json::to_slice(order, buf), Ok(ORDER.len()))),
            case("serde_json, to_writer", |order, buf| serde_json::to_writer(buf, order).unwrap()),
            case("serde-json-core, to_slice", |order, buf| {
                assert_eq!(serde_json_core::to_slice(order, buf), Ok(ORDER.len()));
            }),
        ],
    }
}

fn utf8(name: &'static str, word: &'static str) -> Group {
    let text = Rc::new(word.repeat(65_536 / word.len()).into_bytes());
    let case = |name, f: fn(&[u8])| {
        let text = Rc::clone(&text);
        Case::new(name, move |n| {
            let text = Rc::clone(&text);
            Box::new(move || (0..n).for_each(|_| f(black_box(&text)))) as Work
        })
        .without_allocations()
    };
    Group {
        name,
        count: 512,
        batch: 1,
        bytes: Some(text.len()),
        cases: vec![
            case("Utf8, whole", |text| {
                let mut utf8 = Utf8::new();
                utf8.push(text).and_then(|()| utf8.finish()).unwrap();
            }),
            case("Utf8, pieces of 1,000 bytes", |text| {
                let mut utf8 = Utf8::new();
                text.chunks(1_000).try_for_each(|piece| utf8.push(piece)).and_then(|()| utf8.finish()).unwrap();
            }),
            case("core::str", |text| {
                black_box(std::str::from_utf8(text).unwrap());
            }),
            case("simdutf8, compat", |text| {
                black_box(simdutf8::compat::from_utf8(text).unwrap());
            }),
            case("simdutf8, basic", |text| {
                black_box(simdutf8::basic::from_utf8(text).unwrap());
            }),
        ],
    }
}
