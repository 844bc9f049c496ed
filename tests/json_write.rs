//! JSON that we write: the same as another implementation writes, and read again by our own reader.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer, ser};
use vestibule::Limits;
use vestibule::decode::json::{self, WriteError};

fn write<T: Serialize + ?Sized>(value: &T) -> Result<String, WriteError> {
    let mut buf = vec![0; 1 << 16];
    let length = json::to_slice(value, &mut buf)?;
    for short in [0, length / 2, length.saturating_sub(1)] {
        assert_eq!(json::to_slice(value, &mut vec![0; short]), Err(WriteError::Full), "{short} of {length} bytes");
    }
    let mut exact = vec![0; length];
    assert_eq!(json::to_slice(value, &mut exact), Ok(length));
    assert_eq!(exact, &buf[..length]);
    json::check_in(&exact, &Limits::DEFAULT, &mut vec![0; 2 * length + 4]).expect("what is written is JSON");
    Ok(String::from_utf8(exact).unwrap())
}

/// Every kind of type that serde knows.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
enum Shape {
    Unit,
    New(i128),
    Tuple(u128, char),
    #[serde(rename = "str\"uct")]
    Struct {
        a: Option<bool>,
    },
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct UnitStruct;

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct TupleStruct(u8, i8);

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct NewStruct(String);

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct All {
    small: (i8, i16, i32, i64, u8, u16, u32, u64),
    floats: (f32, f64),
    text: NewStruct,
    unit: ((), UnitStruct),
    shapes: Vec<Shape>,
    pair: TupleStruct,
    numbers: BTreeMap<i64, Option<u16>>,
    characters: BTreeMap<char, Vec<()>>,
    words: BTreeMap<bool, String>,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

fn any_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<i128>().prop_map(Shape::New),
        any::<(u128, char)>().prop_map(|(n, c)| Shape::Tuple(n, c)),
        any::<Option<bool>>().prop_map(|a| Shape::Struct { a }),
    ]
}

fn any_value() -> impl Strategy<Value = All> {
    let finite = (any::<f32>(), any::<f64>()).prop_filter("finite", |(a, b)| a.is_finite() && b.is_finite());
    (
        any::<(i8, i16, i32, i64, u8, u16, u32, u64)>(),
        finite,
        any::<String>(),
        proptest::collection::vec(any_shape(), 0..4),
        any::<(u8, i8)>(),
        any::<BTreeMap<i64, Option<u16>>>(),
        proptest::collection::btree_map(any::<char>(), Just(vec![(), ()]), 0..4),
        any::<BTreeMap<bool, String>>(),
        proptest::collection::btree_map("[xyz\\\\\"\n]{1,3}", any::<String>(), 0..4),
    )
        .prop_map(|(small, floats, text, shapes, (a, b), mut numbers, characters, words, rest)| {
            while numbers.len() > 8 {
                numbers.pop_last();
            }
            let (unit, text, pair) = (((), UnitStruct), NewStruct(text), TupleStruct(a, b));
            All { small, floats, text, unit, shapes, pair, numbers, characters, words, rest }
        })
}

/// The same JSON, but for how floats are spelled: each is read as the same one.
fn same(ours: &str, theirs: &str) -> bool {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut parts = [ours, theirs].map(|text| text.split_inclusive(move |c| !is_number(c)));
    let [ours, theirs] = &mut parts;
    ours.zip(theirs).all(|(a, b)| {
        // As an `f32`: two spellings may lie at the same distance from one of those.
        let [x, y] = [a, b].map(|part| part.trim_end_matches(|c| !is_number(c)));
        let double = matches!((x.parse::<f64>(), y.parse::<f64>()), (Ok(x), Ok(y)) if x == y);
        a == b || double || matches!((x.parse::<f32>(), y.parse::<f32>()), (Ok(x), Ok(y)) if x == y)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_value_is_written_as_others_write_it_and_read_again(value in any_value()) {
        let ours = write(&value).unwrap();
        let theirs = serde_json::to_string(&value).unwrap();
        prop_assert!(same(&ours, &theirs), "{}\n{}", ours, theirs);
        let mut scratch = vec![0; 2 * ours.len() + 4];
        prop_assert_eq!(json::from_slice::<All>(ours.as_bytes(), &Limits::DEFAULT, &mut scratch), Ok(value));
    }

    #[test]
    fn any_float_is_read_as_itself(single in any::<f32>(), double in any::<f64>(), bits in any::<u64>()) {
        prop_assert_eq!(write(&single).unwrap().parse().ok(), single.is_finite().then_some(single));
        for double in [double, f64::from_bits(bits)] {
            prop_assert_eq!(write(&double).unwrap().parse().ok(), double.is_finite().then_some(double));
        }
    }

    #[test]
    fn any_text_is_escaped_as_others_do(text in any::<String>(), low in proptest::collection::vec(0u8..128, 0..40)) {
        let low = String::from_utf8(low).unwrap();
        for text in [&text, &low] {
            prop_assert_eq!(write(text).unwrap(), serde_json::to_string(text).unwrap());
            prop_assert_eq!(write(&format_args!("{text}{text}")).unwrap(), write(&format!("{text}{text}")).unwrap());
        }
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[test]
fn each_type_has_its_spelling() {
    let spelled = |value: Result<String, WriteError>, text: &str| assert_eq!(value.as_deref(), Ok(text));
    spelled(write(&Bytes(b"\x00\xff")), "[0,255]");
    spelled(write(&Bytes(b"")), "[]");
    spelled(write(&f64::NAN), "null");
    spelled(write(&[f32::INFINITY, f32::NEG_INFINITY]), "[null,null]");
    spelled(write(&[0.0, -0.0, 1.0, 1e16, 1.5e-7, f64::MAX]), "[0.0,-0.0,1.0,1e16,1.5e-7,1.7976931348623157e308]");
    spelled(write(&(u64::MAX, i64::MIN, 0u8)), "[18446744073709551615,-9223372036854775808,0]");
    spelled(
        write(&(u128::MAX, i128::MIN)),
        "[340282366920938463463374607431768211455,-170141183460469231731687303715884105728]",
    );
    spelled(write(&('"', '\u{1f}', 'é')), "[\"\\\"\",\"\\u001f\",\"é\"]");
    spelled(write(&Shape::Tuple(1, 'x')), "{\"Tuple\":[1,\"x\"]}");
    spelled(write(&Shape::Struct { a: None }), "{\"str\\\"uct\":{\"a\":null}}");
    spelled(write(&Shape::New(-1)), "{\"New\":-1}");
    spelled(write(&BTreeMap::from([(Some(1u128), ()), (Some(2), ())])), "{\"1\":null,\"2\":null}");
    spelled(write(&[(); 0]), "[]");
    spelled(write(&BTreeMap::<String, ()>::new()), "{}");
    let floats: Vec<(F, u8)> = vec![(F(0.5), 1), (F(-1e300), 2)];
    spelled(write(&Pairs(&floats)), "{\"0.5\":1,\"-1e300\":2}");
}

struct F(f64);

impl Serialize for F {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

/// A map of any keys.
struct Pairs<'a, K>(&'a [(K, u8)]);

impl<K: Serialize> Serialize for Pairs<'_, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("never"))
    }
}

impl fmt::Display for Refuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half")?;
        Err(fmt::Error)
    }
}

struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[test]
fn what_cannot_be_written_is_an_error_and_no_panic() {
    assert_eq!(write(&[Refuses]), Err(WriteError::Value));
    assert_eq!(write(&Shown(Refuses)), Err(WriteError::Value));
    assert_eq!(write(&Shown("a\"b")).as_deref(), Ok("\"a\\\"b\""));
    assert_eq!(write(&Pairs(&[(Shown("a\"b"), 1)])).as_deref(), Ok("{\"a\\\"b\":1}"));
    assert_eq!(write(&Pairs(&[([1, 2], 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[((), 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[(None::<u8>, 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[(F(f64::NAN), 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[(Bytes(b"a"), 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[(Shape::New(1), 1)])), Err(WriteError::Value));
    assert_eq!(write(&Pairs(&[(Shape::Unit, 1)])).as_deref(), Ok("{\"Unit\":1}"));
    assert_eq!(write(&Pairs(&[(BTreeMap::from([(1, 1)]), 1)])), Err(WriteError::Value));
}

/// Goes on where a member failed, and says that all is well.
struct Careless<'a, T>(&'a [T]);

impl<T: Serialize> Serialize for Careless<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_seq(None)?;
        for member in self.0 {
            let _ = ser::SerializeSeq::serialize_element(&mut members, member);
        }
        ser::SerializeSeq::end(members)
    }
}

#[test]
fn who_overlooks_an_error_is_told_at_the_end() {
    assert_eq!(write(&Careless(&["a", "b"])).as_deref(), Ok("[\"a\",\"b\"]"));
    assert_eq!(write(&Careless(&[Shown(Refuses)])), Err(WriteError::Value));
    assert_eq!(write(&[Careless(&[Pairs(&[([1], 1)])])]), Err(WriteError::Value));
    let text = ["a string that is long", "b"];
    let length = write(&text).unwrap().len();
    for room in 0..length {
        assert_eq!(json::to_slice(&Careless(&text), &mut vec![0; room]), Err(WriteError::Full), "{room} of {length}");
    }
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "type")]
enum Inside {
    Unit,
    Struct { a: Option<Option<i32>>, b: String },
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(tag = "t", content = "c")]
enum Beside {
    Unit,
    New(u64),
    Tuple(i8, char),
    Struct { a: bool },
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(untagged)]
enum Without {
    Number(u64),
    Negative(i64),
    Text(String),
    List(Vec<Without>),
    Struct { key: Option<Box<Without>> },
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Word {
    #[serde(rename = "a \u{2028}\"\u{0}")]
    Strange,
    Plain,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Wrapped<T>(T);

type Keyed<T> = BTreeMap<T, u8>;

fn reads_again<T: Serialize + serde::de::DeserializeOwned + PartialEq + fmt::Debug>(value: &T) {
    let ours = write(value).unwrap();
    assert_eq!(ours, serde_json::to_string(value).unwrap());
    let mut scratch = vec![0; 2 * ours.len() + 4];
    assert_eq!(json::from_slice::<T>(ours.as_bytes(), &Limits::DEFAULT, &mut scratch).as_ref(), Ok(value), "{ours}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn enums_are_written_in_every_representation(text in any::<String>(), n in any::<u64>(), m in any::<i64>()) {
        for value in [Inside::Unit, Inside::Struct { a: None, b: text.clone() }, Inside::Struct { a: Some(Some(m as i32)), b: text.clone() }] {
            reads_again(&value);
        }
        let c = text.chars().next().unwrap_or('\u{2028}');
        for value in [Beside::Unit, Beside::New(n), Beside::Tuple(m as i8, c), Beside::Struct { a: n > 9 }] {
            reads_again(&value);
        }
        let negative = Without::Negative(m | i64::MIN);
        let inner = Without::List(vec![Without::Number(n), negative, Without::Text(text), Without::Struct { key: None }]);
        reads_again(&Without::Struct { key: Some(Box::new(inner)) });
    }

    #[test]
    fn keys_of_every_kind_are_written_and_read(
        signed in any::<(i8, i16, i32, i64, i128)>(),
        unsigned in any::<(u8, u16, u32, u64, u128)>(),
        text in any::<String>(),
        c in any::<char>(),
    ) {
        reads_again(&Keyed::from([(signed.0, 1), (i8::MIN, 2), (i8::MAX, 3)]));
        reads_again(&Keyed::from([(signed.1, 1), (i16::MIN, 2), (i16::MAX, 3)]));
        reads_again(&Keyed::from([(signed.2, 1), (i32::MIN, 2), (i32::MAX, 3)]));
        reads_again(&Keyed::from([(signed.3, 1), (i64::MIN, 2), (i64::MAX, 3)]));
        reads_again(&Keyed::from([(signed.4, 1), (i128::MIN, 2), (i128::MAX, 3)]));
        reads_again(&Keyed::from([(unsigned.0, 1), (0, 2), (u8::MAX, 3)]));
        reads_again(&Keyed::from([(unsigned.1, 1), (0, 2), (u16::MAX, 3)]));
        reads_again(&Keyed::from([(unsigned.2, 1), (0, 2), (u32::MAX, 3)]));
        reads_again(&Keyed::from([(unsigned.3, 1), (0, 2), (u64::MAX, 3)]));
        reads_again(&Keyed::from([(unsigned.4, 1), (0, 2), (u128::MAX, 3)]));
        reads_again(&Keyed::from([(c, 1), ('\0', 2), ('\u{2028}', 3)]));
        reads_again(&Keyed::from([(text.clone(), 1), (text.clone() + "\u{2029}\u{7f}", 2)]));
        reads_again(&Keyed::from([(Wrapped(text.clone()), 1)]));
        reads_again(&Keyed::from([(Wrapped(Wrapped(unsigned.4)), 1)]));
        reads_again(&Keyed::from([(true, 1), (false, 2)]));
        reads_again(&Keyed::from([(Word::Strange, 1), (Word::Plain, 2)]));
        reads_again(&(signed, unsigned, [i128::MIN, i128::MAX], [0, u128::MAX], (text, c)));
    }
}

#[test]
fn every_character_below_the_surrogates_is_read_as_itself() {
    let all: String = (0..0xd800).filter_map(char::from_u32).collect();
    assert_eq!(serde_json::from_str::<String>(&write_long(&all)).unwrap(), all);
    for text in ["\u{2028}", "\u{2029}", "\u{feff}", "\u{7f}", "\u{80}", "\u{10ffff}", "</script>"] {
        assert_eq!(write(text).unwrap(), serde_json::to_string(text).unwrap());
    }
}

fn write_long(text: &str) -> String {
    let mut buf = vec![0; 6 * text.len() + 2];
    let length = json::to_slice(text, &mut buf).unwrap();
    String::from_utf8(buf[..length].to_vec()).unwrap()
}

#[test]
fn the_borders_of_floats_are_read_as_themselves() {
    let mut edges =
        vec![f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, 5e-324, 0.1, 1e15, 1e16, 1e17, 1e21, 1e-5, 1e-7];
    edges.extend(
        (0..2_047u64).flat_map(|e| [e << 52, (e << 52) + 1, (e << 52 | 0xf_ffff_ffff_ffff)]).map(f64::from_bits),
    );
    for value in edges {
        let mut scratch = [0; 64];
        let text = write(&value).unwrap();
        let back: f64 = json::from_slice(text.as_bytes(), &Limits::DEFAULT, &mut scratch).unwrap();
        assert_eq!(back.to_bits(), value.to_bits(), "{text}");
    }
    for bits in (0..0x7f80_0000u32).step_by(65_521) {
        let value = f32::from_bits(bits);
        let mut scratch = [0; 64];
        let back: f32 = json::from_slice(write(&value).unwrap().as_bytes(), &Limits::DEFAULT, &mut scratch).unwrap();
        assert_eq!(back.to_bits(), bits, "{value}");
    }
}
