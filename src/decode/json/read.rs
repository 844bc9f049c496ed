//! In: a JSON text that was checked. Out: the value that a type makes of it, through serde.
//!
//! The text is known to be good, so that nothing is checked twice: what is left to go wrong is that it is not what the type
//! wants. Nothing here can panic, whatever the type asks for; that, and strings with escaped pairs, is why it is our own.

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::keys::Unescaped;
use crate::base::{Rule, Violation};

pub(super) fn value<'a, T: de::Deserialize<'a>>(text: &'a [u8], scratch: &'a mut [u8]) -> Result<T, Violation> {
    let mut reader = Reader { text, at: 0, scratch };
    T::deserialize(&mut reader).map_err(|Error(rule)| Violation::new(rule, reader.at as u64))
}

/// The rule that was broken; where, the reader knows.
#[derive(Copy, Clone, Debug)]
struct Error(Rule);

impl de::Error for Error {
    fn custom<T: core::fmt::Display>(_: T) -> Self {
        SHAPE
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(Violation::new(self.0, 0).text())
    }
}

impl core::error::Error for Error {}

const SHAPE: Error = Error(Rule::JsonShape);
const RANGE: Error = Error(Rule::JsonNumberRange);
const NO_ROOM: Error = Error(Rule::BodyOverHandler);

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// What is not lent yet.
    scratch: &'a mut [u8],
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The first byte after white space.
    fn peek(&mut self) -> Result<u8, Error> {
        self.at += self.rest().iter().take_while(|b| b.is_ascii_whitespace()).count();
        self.rest().first().copied().ok_or(SHAPE)
    }

    fn take(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek()? != byte {
            return Err(SHAPE);
        }
        self.at += 1;
        Ok(())
    }

    /// The next member of what `close` ends: false if there is none. The comma before it is skipped; it must be there, or a
    /// type that reads nothing would find the same member for ever.
    fn member(&mut self, close: u8, is_first: bool) -> Result<bool, Error> {
        let byte = self.peek()?;
        if byte == close {
            return Ok(false);
        }
        if !is_first {
            self.take(b',')?;
        }
        Ok(true)
    }

    fn literal(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b']' | b'}' | b':');
        let word = rest.get(..rest.iter().position(ends).unwrap_or(rest.len())).unwrap_or_default();
        self.at += word.len();
        word
    }

    /// A string as it stands between its quotes, and whether it holds escapes.
    fn raw(&mut self) -> Result<(&'a [u8], bool), Error> {
        self.take(b'"')?;
        let rest = self.rest();
        let (mut length, mut escapes) = (0, false);
        loop {
            let ends = |b: &u8| matches!(b, b'"' | b'\\');
            length += rest.get(length..).unwrap_or_default().iter().position(ends).ok_or(SHAPE)?;
            if rest.get(length) == Some(&b'"') {
                break;
            }
            length += 2;
            escapes = true;
        }
        self.at += length + 1;
        Ok((rest.get(..length).unwrap_or_default(), escapes))
    }

    /// A string, lent from the text or from a piece of scratch that is then used up.
    fn lent(&mut self) -> Result<&'a str, Error> {
        let (raw, escapes) = self.raw()?;
        if !escapes {
            return text(raw);
        }
        let length = self.unescape(raw)?;
        let (string, scratch) = core::mem::take(&mut self.scratch).split_at_mut_checked(length).ok_or(NO_ROOM)?;
        self.scratch = scratch;
        text(string)
    }

    /// A string until the next one.
    fn brief(&mut self) -> Result<&str, Error> {
        let (raw, escapes) = self.raw()?;
        if !escapes {
            return text(raw);
        }
        let length = self.unescape(raw)?;
        text(self.scratch.get(..length).unwrap_or_default())
    }

    fn unescape(&mut self, raw: &[u8]) -> Result<usize, Error> {
        let mut length = 0;
        for byte in Unescaped::new(raw, 0) {
            *self.scratch.get_mut(length).ok_or(NO_ROOM)? = byte;
            length += 1;
        }
        Ok(length)
    }

    /// Skips a value, without recursion.
    fn skip(&mut self) -> Result<(), Error> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.raw()?;
                }
                b'[' | b'{' => {
                    depth += 1;
                    self.at += 1;
                }
                b']' | b'}' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    self.literal();
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn sequence<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.take(b'[')?;
        let value = visitor.visit_seq(Members { reader: self, is_first: true })?;
        // A type that wants fewer than there are has not read all of it.
        self.take(b']').map(|()| value)
    }

    fn map<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.take(b'{')?;
        let value = visitor.visit_map(Members { reader: self, is_first: true })?;
        self.take(b'}').map(|()| value)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    crate::decode::text::whole(bytes).map_err(|_| SHAPE)
}

/// The number that `word` is, as the visitor's nearest: an integer if it is one and fits 64 bits, else a float.
fn number<'a, V: Visitor<'a>>(word: &str, visitor: V) -> Result<V::Value, Error> {
    if let Ok(n) = word.parse::<u64>() {
        return visitor.visit_u64(n);
    }
    match word.parse::<i64>() {
        // Minus zero is a float: no integer is that.
        Ok(n) if n != 0 => visitor.visit_i64(n),
        _ => visitor.visit_f64(word.parse().map_err(|_| SHAPE)?),
    }
}

macro_rules! integers {
    ($($name:ident)*) => { $(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.peek()? {
                b'-' | b'0'..=b'9' => match text(self.literal())? {
                    "-0" => visitor.visit_u64(0),
                    word => number(word, visitor),
                },
                _ => Err(SHAPE),
            }
        }
    )* };
}

macro_rules! parsed {
    ($($name:ident $visit:ident $good:expr;)*) => { $(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.peek()? {
                b'-' | b'0'..=b'9' => {
                    let value = text(self.literal())?.parse().map_err(|_| RANGE)?;
                    if $good(value) { visitor.$visit(value) } else { Err(RANGE) }
                }
                _ => Err(SHAPE),
            }
        }
    )* };
}

impl<'a> Deserializer<'a> for &mut Reader<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            b'"' => visitor.visit_borrowed_str(self.lent()?),
            b'[' => self.sequence(visitor),
            b'{' => self.map(visitor),
            _ => match self.literal() {
                b"null" => visitor.visit_unit(),
                b"true" => visitor.visit_bool(true),
                b"false" => visitor.visit_bool(false),
                word => number(text(word)?, visitor),
            },
        }
    }

    integers! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    parsed! {
        deserialize_i128 visit_i128 |_| true;
        deserialize_f32 visit_f32 f32::is_finite;
        deserialize_f64 visit_f64 f64::is_finite;
    }

    fn deserialize_u128<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => match text(self.literal())? {
                "-0" => visitor.visit_u128(0),
                word => visitor.visit_u128(word.parse().map_err(|_| RANGE)?),
            },
            _ => Err(SHAPE),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.brief()?)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.brief()?)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.brief()?)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek()? != b'n' {
            return visitor.visit_some(self);
        }
        self.literal();
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.map(visitor)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.peek()? {
            b'"' => visitor.visit_enum(Unit(self)),
            _ => {
                self.take(b'{')?;
                let value = visitor.visit_enum(Variant(self))?;
                self.take(b'}').map(|()| value)
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> bool str bytes byte_buf unit unit_struct seq tuple tuple_struct map }
}

/// The members of an array or an object.
struct Members<'r, 'a> {
    reader: &'r mut Reader<'a>,
    is_first: bool,
}

impl Members<'_, '_> {
    fn next(&mut self, close: u8) -> Result<bool, Error> {
        let is_first = core::mem::take(&mut self.is_first);
        self.reader.member(close, is_first)
    }
}

impl<'a> de::SeqAccess<'a> for Members<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.next(b']')? { seed.deserialize(&mut *self.reader).map(Some) } else { Ok(None) }
    }
}

impl<'a> de::MapAccess<'a> for Members<'_, 'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.next(b'}')? { seed.deserialize(Key(self.reader)).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.reader.take(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

/// A key: a string, but some types want the number or the boolean that it spells.
struct Key<'r, 'a>(&'r mut Reader<'a>);

macro_rules! spelled {
    ($($name:ident $visit:ident $good:expr;)*) => { $(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            let key = self.0.brief()?;
            // As JSON spells it: Rust's own reading is looser in signs and leading zeros.
            let is_json = super::check_in(key.as_bytes(), &crate::base::Limits::DEFAULT, &mut []).is_ok();
            match key.parse() {
                Ok(value) if is_json && !$good(value) => Err(RANGE),
                Ok(value) if is_json => visitor.$visit(value),
                _ => Err(SHAPE),
            }
        }
    )* };
}

impl<'a> Deserializer<'a> for Key<'_, 'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0.lent()?)
    }

    spelled! {
        deserialize_bool visit_bool |_| true;
        deserialize_i8 visit_i8 |_| true;
        deserialize_i16 visit_i16 |_| true;
        deserialize_i32 visit_i32 |_| true;
        deserialize_i64 visit_i64 |_| true;
        deserialize_i128 visit_i128 |_| true;
        deserialize_u8 visit_u8 |_| true;
        deserialize_u16 visit_u16 |_| true;
        deserialize_u32 visit_u32 |_| true;
        deserialize_u64 visit_u64 |_| true;
        deserialize_u128 visit_u128 |_| true;
        deserialize_f32 visit_f32 f32::is_finite;
        deserialize_f64 visit_f64 f64::is_finite;
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0.brief()?)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0.brief()?)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0.brief()?)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Unit(self.0))
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.raw()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> str bytes byte_buf unit unit_struct seq tuple tuple_struct map struct }
}

/// A variant without content: `"name"`.
struct Unit<'r, 'a>(&'r mut Reader<'a>);

impl<'a> de::EnumAccess<'a> for Unit<'_, 'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let name = seed.deserialize(Key(self.0))?;
        Ok((name, self))
    }
}

impl<'a> de::VariantAccess<'a> for Unit<'_, 'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, _: T) -> Result<T::Value, Error> {
        Err(SHAPE)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(SHAPE)
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(SHAPE)
    }
}

/// A variant with content: `{"name": content}`.
struct Variant<'r, 'a>(&'r mut Reader<'a>);

impl<'a> de::EnumAccess<'a> for Variant<'_, 'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        self.0.peek()?;
        let name = seed.deserialize(Key(self.0))?;
        self.0.take(b':')?;
        Ok((name, self))
    }
}

impl<'a> de::VariantAccess<'a> for Variant<'_, 'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.sequence(visitor)
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.0.map(visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::Limits;
    use crate::decode::json::from_slice;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, (Rule, u64)> {
        from_slice(text.as_bytes(), &Limits::DEFAULT, &mut [0; 256]).map_err(|v| (v.rule, v.at))
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Point,
        Circle(f64),
        Line(i8, i8),
        Rect { w: u8 },
    }

    #[test]
    fn types_get_what_they_ask_for() {
        assert_eq!(read("[1, -2 ,3]"), Ok([1i8, -2, 3]));
        assert_eq!(read("[1,\"a\\n\",null]"), Ok((1u8, String::from("a\n"), None::<bool>)));
        let shapes = read(
            r#"["point", {"circle": 1}, {"line": [1,2]}, {"rect": {"no": [{"é\"":"]"}], "w": 9}}, {"point":null}]"#,
        );
        let expected = vec![Shape::Point, Shape::Circle(1.0), Shape::Line(1, 2), Shape::Rect { w: 9 }, Shape::Point];
        assert_eq!(shapes, Ok(expected));
        assert_eq!(read(r#"{"1": "a", "-7": "b"}"#), Ok(BTreeMap::from([(1, 'a'), (-7, 'b')])));
        assert_eq!(read(r#"{"true": 1}"#), Ok(BTreeMap::from([(true, 1)])));
        assert_eq!(read(r#"{"\u0061": 1}"#), Ok(BTreeMap::from([(String::from("a"), 1)])));
        assert_eq!(read("340282366920938463463374607431768211455"), Ok(u128::MAX));
        assert_eq!(read("-0"), Ok(0u8));
        assert!(read::<f64>("-0").is_ok_and(f64::is_sign_negative));
        assert_eq!(read("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(read("-9223372036854775808"), Ok(i64::MIN));
    }

    #[test]
    fn what_is_not_the_shape_is_refused_where_the_reader_stands() {
        assert_eq!(read::<u8>("256"), Err((Rule::JsonShape, 3)));
        assert_eq!(read::<u64>("1.0"), Err((Rule::JsonShape, 3)));
        assert_eq!(read::<u64>("18446744073709551616"), Err((Rule::JsonShape, 20)));
        assert_eq!(read::<f32>("1e39"), Err((Rule::JsonNumberRange, 4)));
        assert_eq!(read::<i128>("1e3"), Err((Rule::JsonNumberRange, 3)));
        assert_eq!(read::<f64>("null"), Err((Rule::JsonShape, 0)));
        assert_eq!(read::<(u8, u8)>("[1,2,3]"), Err((Rule::JsonShape, 4)));
        assert_eq!(read::<[u8; 2]>("[1]"), Err((Rule::JsonShape, 2)));
        assert_eq!(read::<Shape>(r#"{"rect":{"w":1},"point":null}"#), Err((Rule::JsonShape, 15)));
        assert_eq!(read::<Shape>(r#"["rect"]"#), Err((Rule::JsonShape, 0)));
        assert_eq!(read::<Shape>(r#""circle""#), Err((Rule::JsonShape, 8)));
        assert!(read::<BTreeMap<u8, u8>>(r#"{"+1":1}"#).is_err());
        assert!(read::<BTreeMap<[u8; 1], u8>>(r#"{"1":1}"#).is_err());
        assert!(read::<BTreeMap<(), u8>>(r#"{"1":1}"#).is_err());
        assert!(read::<BTreeMap<Option<u8>, u8>>(r#"{"1":1}"#).is_ok());
    }

    /// Bits of a float, so that it may be a key.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Bits(u32);

    impl<'de> Deserialize<'de> for Bits {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
            f32::deserialize(deserializer).map(|float| Bits(float.to_bits()))
        }
    }

    #[test]
    fn no_float_becomes_infinite_as_a_key_or_as_a_value() {
        assert_eq!(read(r#"{"0.5":1}"#), Ok(BTreeMap::from([(Bits(0.5f32.to_bits()), 1)])));
        assert_eq!(read::<BTreeMap<Bits, u8>>(r#"{"1e39":1}"#), Err((Rule::JsonNumberRange, 7)));
        assert_eq!(read::<Bits>("1e39"), Err((Rule::JsonNumberRange, 4)));
    }

    #[test]
    fn minus_zero_is_the_zero_of_every_integer() {
        assert_eq!((read("-0"), read("-0"), read("-0"), read("-0")), (Ok(0u8), Ok(0i64), Ok(0u128), Ok(0i128)));
        assert_eq!(read::<u128>("-1"), Err((Rule::JsonNumberRange, 2)));
    }

    /// Reads nothing of what it is offered.
    #[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
    struct Absent;

    impl<'de> Deserialize<'de> for Absent {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Absent, D::Error> {
            Ok(Absent)
        }
    }

    #[test]
    fn a_type_that_reads_nothing_ends_in_an_error_and_not_in_a_loop() {
        assert_eq!(read::<Vec<Absent>>("[1, 2]"), Err((Rule::JsonShape, 1)));
        assert_eq!(read::<Vec<Absent>>("[]"), Ok(vec![]));
        assert_eq!(read::<BTreeMap<String, Absent>>(r#"{"a": 1, "b": 2}"#), Err((Rule::JsonShape, 6)));
        assert_eq!(read::<BTreeMap<Absent, u8>>(r#"{"a": 1}"#), Err((Rule::JsonShape, 1)));
    }

    #[test]
    fn strings_are_lent_escaped_or_not_and_scratch_is_the_only_room() {
        let text = br#"["plain", "\ud83c\udf75", "\t"]"#;
        let mut scratch = [0; 5];
        let three: [&str; 3] = from_slice(text, &Limits::DEFAULT, &mut scratch).unwrap();
        assert_eq!(three, ["plain", "🍵", "\t"]);
        let mut scratch = [0; 4];
        let short = from_slice::<[&str; 3]>(text, &Limits::DEFAULT, &mut scratch).unwrap_err();
        assert_eq!(short.rule, Rule::BodyOverHandler);
    }
}
