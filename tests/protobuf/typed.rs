//! Typed messages: what prost makes of what was judged first.

use super::schema::{Dice, varint};
use super::{content, with};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;
use vestibule::decode::protobuf::decode;
use vestibule::{Limit, Limits, Rule, Violation};

#[derive(Clone, PartialEq, Message)]
struct Person {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(sint32, tag = "2")]
    age: i32,
    #[prost(uint64, repeated, tag = "3")]
    numbers: Vec<u64>,
    #[prost(double, repeated, tag = "4")]
    weights: Vec<f64>,
    #[prost(message, repeated, tag = "5")]
    friends: Vec<Person>,
    #[prost(btree_map = "string, int64", tag = "6")]
    scores: BTreeMap<String, i64>,
    #[prost(oneof = "Contact", tags = "7, 8")]
    contact: Option<Contact>,
    #[prost(bytes = "vec", tag = "9")]
    picture: Vec<u8>,
    #[prost(bool, optional, tag = "1000")]
    known: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Contact {
    #[prost(string, tag = "7")]
    Mail(String),
    #[prost(fixed32, tag = "8")]
    Phone(u32),
}

fn person(dice: &mut Dice, depth: usize) -> Person {
    let text = |dice: &mut Dice| "x\u{e9}0z ".repeat(dice.below(4));
    Person {
        name: text(dice),
        age: dice.next() as i32,
        numbers: (0..dice.below(9)).map(|_| dice.next() >> dice.below(64)).collect(),
        weights: (0..dice.below(3)).map(|n| n as f64 / 3.0).collect(),
        friends: (0..dice.below(3).min(depth)).map(|_| person(dice, depth - 1)).collect(),
        scores: (0..dice.below(4)).map(|n| (format!("game {n}"), dice.next() as i64)).collect(),
        contact: match dice.below(3) {
            0 => None,
            1 => Some(Contact::Mail(text(dice))),
            _ => Some(Contact::Phone(dice.next() as u32)),
        },
        picture: (0..dice.below(90)).map(|_| dice.below(256) as u8).collect(),
        known: [None, Some(false), Some(true)][dice.below(3)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    // P-23
    #[test]
    fn what_prost_writes_is_read(seed in any::<u64>()) {
        let person = person(&mut Dice::new(seed), 4);
        prop_assert_eq!(decode(&person.encode_to_vec(), &Limits::DEFAULT), Ok(person));
    }

    // One side only: whatever we take, prost takes, and for the same.
    #[test]
    fn whatever_is_taken_prost_takes_alone(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let bytes = person(&mut dice, 3).encode_to_vec();
        for _ in 0..40 {
            let mut damaged = bytes.clone();
            for _ in 0..=dice.below(2) {
                let at = dice.below(damaged.len());
                damaged[at] ^= 1 << dice.below(8);
            }
            if dice.below(2) == 0 {
                damaged.truncate(dice.below(damaged.len()));
            }
            match (decode::<Person>(&damaged, &Limits::DEFAULT), Person::decode(&damaged[..])) {
                (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec()),
                (Ok(_), Err(error)) => prop_assert!(false, "{error}: {damaged:x?}"),
                (Err(v), Ok(_)) => prop_assert!(
                    matches!(v.rule, Rule::ProtobufGroup | Rule::ProtobufTag), "prost takes it, {v}: {damaged:x?}"
                ),
                (Err(v), Err(_)) => prop_assert!(v.at <= damaged.len() as u64),
            }
        }
    }
}

#[test]
fn refusals_have_a_rule_and_a_place() {
    for (bytes, rule, at) in [
        (&b"\x0a\x03hi"[..], Rule::ProtobufLength, 1),
        (b"\x10", Rule::ProtobufLength, 1),
        (b"\x00\x00", Rule::ProtobufTag, 0),
        (b"\x0b\x0c", Rule::ProtobufGroup, 0),
        // The schema says something else: where prost stopped.
        (b"\x08\x01", Rule::ProtobufShape, 1),
        (b"\x10\x01\x0a\x02\xc3\x28", Rule::ProtobufShape, 6),
        (b"\x2a\x02\x0a\x05", Rule::ProtobufShape, 4),
    ] {
        let v = decode::<Person>(bytes, &Limits::DEFAULT).unwrap_err();
        assert_eq!((v.rule, v.at), (rule, at), "{bytes:x?}");
    }
    let long = decode::<Person>(&[0; 17], &with(Limit::ProtobufMessageBytes, 16)).unwrap_err();
    assert_eq!(long, Violation { rule: Rule::ProtobufTooLarge, at: 0, value: 16 });
}

// PB-01
#[test]
fn depth_counts_for_known_and_unknown_fields_alike() {
    let nested = |number: u32, n: usize| (0..n).fold(b"\x10\x02".to_vec(), |inner, _| content(number, &inner));
    for number in [5, 77] {
        for (limit, n, passes) in [(5, 4, true), (5, 5, true), (5, 6, false), (64, 64, true), (64, 65, false)] {
            let outcome = decode::<Person>(&nested(number, n), &with(Limit::ProtobufDepth, limit));
            assert_eq!(outcome.is_ok(), passes, "field {number}, {n} levels of {limit}");
            if let Err(v) = outcome {
                assert_eq!((v.rule, v.value), (Rule::ProtobufDepth, limit));
            }
        }
    }
    // The shortest that is too deep, with nothing but a tag in it.
    for most in [1, 2, 5, 64] {
        let shortest = (0..=most).fold(b"\x0b".to_vec(), |inner, _| content(5, &inner));
        let v = decode::<Person>(&shortest, &with(Limit::ProtobufDepth, most as u64)).unwrap_err();
        assert_eq!(v.rule, Rule::ProtobufDepth, "{most}");
        let outcome = decode::<Person>(&shortest, &with(Limit::ProtobufDepth, most as u64 + 1));
        assert_eq!(outcome.unwrap_err().rule, Rule::ProtobufShape, "{most}: the group does not end");
    }
    // More than prost takes, under a limit that would allow it: prost has the last word.
    let deep = decode::<Person>(&nested(5, 200), &with(Limit::ProtobufDepth, 256)).unwrap_err();
    assert_eq!(deep.rule, Rule::ProtobufShape);
    // Text at the deepest level is no level.
    let text = (0..64).fold(content(1, b"no message"), |inner, _| content(5, &inner));
    assert!(decode::<Person>(&text, &Limits::DEFAULT).is_ok());
    // What lies behind text is looked at, too.
    let behind = content(77, &[content(1, b"no message"), nested(5, 64), content(1, b"\x0a\x09no")].concat());
    assert_eq!(decode::<Person>(&behind, &Limits::DEFAULT).unwrap_err().rule, Rule::ProtobufDepth);
    // A million levels that break off, and groups that nobody ends.
    let v = decode::<Person>(&content(77, &vec![0x0b; 1_000_000]), &Limits::DEFAULT);
    assert!(v.is_ok(), "unknown content is not looked at");
    let v = decode::<Person>(&content(5, &vec![0x0b; 1_000_000]), &Limits::DEFAULT).unwrap_err();
    assert_eq!(v.rule, Rule::ProtobufShape);
}

// PB-03
#[test]
fn elements_are_charged_by_what_prost_reads() {
    let limit = 1_000;
    let limits = with(Limit::ProtobufElements, limit);
    let judge = |bytes: &[u8]| decode::<Person>(bytes, &limits).map_err(|v| (v.rule, v.value));
    let too_many = Err((Rule::ProtobufTooMany, limit));
    // So many fields, of every wire type, always pass.
    for one in [&b"\x18\x01"[..], b"\x21\0\0\0\0\0\0\0\0", b"\x2a\x00", b"\x0a\x01x", b"\x2a\x02\x10\x02"] {
        let fields = if one.len() == 4 && one[0] == 0x2a { 2 } else { 1 };
        assert!(judge(&one.repeat(limit as usize / fields)).is_ok(), "{one:x?}");
        assert_eq!(judge(&one.repeat(3 * limit as usize + 10)).map(|_| ()), too_many, "{one:x?}");
    }
    // Packed: three times as many, less what the field itself costs, and ten that the end may cost.
    let packed = |n: u64| content(3, &vec![1; n as usize]);
    assert_eq!(judge(&packed(3 * limit + 8)).map(|p| p.numbers.len()), Ok(3_008));
    assert_eq!(judge(&packed(3 * limit + 9)).map(|_| ()), too_many);
    // The last bytes are read one by one, if they do not end in a short varint.
    for last in [
        &b"\xca\x3e\x03\xff\xff\xff"[..],
        b"\xca\x3e\x85\x80\x00\xff\xff\xff\xff\xff",
        b"\x4a\x83\x80\x80\x80\x80\x00\xff\xff\xff",
    ] {
        let message = [&b"\x4a\x01\xff".repeat(limit as usize - 1), last].concat();
        assert_eq!(judge(&message).map(|_| ()), Ok(()), "{last:x?}");
    }
    // Empty messages inside a message, and then something that breaks it.
    for tail in [&b""[..], b"\xff"] {
        let inside = content(5, &[&b"\x2a\x00".repeat(1_600)[..], tail].concat());
        assert_eq!(judge(&inside).map(|_| ()), too_many);
    }
}

#[test]
fn long_text_is_no_message() {
    for letter in ["x", " ", "0", "\n", "(", "A", "\u{e9}", "z"] {
        let person = Person { name: letter.repeat(3_000_000 / letter.len()), ..Person::default() };
        assert_eq!(decode(&person.encode_to_vec(), &Limits::DEFAULT), Ok(person));
    }
}

// MEM: what prost allocates is in proportion to what came and to what was charged.
#[test]
fn lengths_alone_reserve_nothing() {
    for n in [1u64 << 20, 1 << 31, 1 << 62, u64::MAX] {
        let bytes = [&b"\x4a"[..], &varint(n), b"abc"].concat();
        assert_eq!(decode::<Person>(&bytes, &Limits::DEFAULT).unwrap_err().rule, Rule::ProtobufLength);
        let inside = content(5, &bytes);
        assert_eq!(decode::<Person>(&inside, &Limits::DEFAULT).unwrap_err().rule, Rule::ProtobufShape);
    }
}
