//! In: a whole form. Out: the value that a type makes of it, through serde.
//!
//! A first pass checks every pair and notes where each begins; then the notes are sorted by name, so that what stands
//! under one name is together, wherever it stood. No hash, so nothing to flood.

use core::cmp::Ordering;

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::pairs::{Pairs, Text, name_at, name_bytes, pairs, value_at};
use crate::base::{Limit, Limits, Rule, Violation};

/// Where a pair begins.
type Note = [u8; 4];

pub(super) fn value<'a, T: de::Deserialize<'a>>(
    form: &'a [u8],
    limits: &Limits,
    scratch: &'a mut [u8],
) -> Result<T, Violation> {
    let capacity = scratch.len();
    let (mut count, mut fields) = (0, 0);
    {
        let notes: &mut [Note] = scratch.as_chunks_mut().0;
        let mut walk = pairs(form);
        while let Some((at, pair)) = walk.next_at() {
            if fields >= limits.get(Limit::FormFields) {
                return Err(Violation::over(Rule::FormTooManyFields, at as u64, limits));
            }
            fields += 1;
            // What is wrong first is told, as who reads in pieces has it.
            let long = within(form, at, limits).err();
            if let Some(first) = [long, pair.err()].into_iter().flatten().min_by_key(|bad| bad.at) {
                return Err(first);
            }
            let (Some(note), Ok(start)) = (notes.get_mut(count), u32::try_from(at)) else {
                return Err(over_memory(at, capacity));
            };
            *note = start.to_ne_bytes();
            count += 1;
        }
        let notes = notes.get_mut(..count).unwrap_or_default();
        notes.sort_unstable_by(|a, b| by_name(form, *a, *b).then(place(*a).cmp(&place(*b))));
    }
    let (notes, free) = scratch.split_at_mut_checked(4 * count).unwrap_or_default();
    let mut room = Room { form, at: 0, free };
    T::deserialize(Whole { notes: notes.as_chunks().0, room: &mut room }).map_err(|Error(rule)| match rule {
        Rule::BodyOverHandler => over_memory(room.at, capacity),
        _ => Violation::new(rule, room.at as u64),
    })
}

fn over_memory(at: usize, capacity: usize) -> Violation {
    Violation { value: capacity as u64, ..Violation::new(Rule::BodyOverHandler, at as u64) }
}

fn place(note: Note) -> usize {
    u32::from_ne_bytes(note) as usize
}

fn by_name(form: &[u8], a: Note, b: Note) -> Ordering {
    name_bytes(form, place(a)).cmp(name_bytes(form, place(b)))
}

/// The pair that begins at `at` is no longer than the limits say, as far as it is good.
fn within(form: &[u8], at: usize, limits: &Limits) -> Result<(), Violation> {
    let (name, value) = (name_at(form, at), value_at(form, at));
    text_within(name, at, limits, Limit::FormNameBytes, Rule::FormNameTooLong)?;
    text_within(value, at + name.raw().len() + 1, limits, Limit::FormValueBytes, Rule::FormValueTooLong)
}

/// The rule, if `text`, which begins at `at`, is longer than the limit says: at the byte or the escape beyond it.
fn text_within(text: Text<'_>, at: usize, limits: &Limits, limit: Limit, rule: Rule) -> Result<(), Violation> {
    let most = limits.size(limit);
    if text.raw().len() <= most {
        return Ok(());
    }
    let mut bytes = text.bytes();
    if most > 0 && bytes.nth(most - 1).is_none() {
        return Ok(());
    }
    let read = text.raw().len() - bytes.left();
    if bytes.next().is_some() { Err(Violation::over(rule, (at + read) as u64, limits)) } else { Ok(()) }
}

/// The rule that was broken; where, the room knows.
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

const SHAPE: Error = Error(Rule::FormShape);
const NO_ROOM: Error = Error(Rule::BodyOverHandler);

/// The form, and memory that is not lent yet.
struct Room<'a> {
    form: &'a [u8],
    /// The pair that is being read.
    at: usize,
    free: &'a mut [u8],
}

impl<'a> Room<'a> {
    /// A text, lent from the form or from a piece of memory that is then used up.
    fn lent(&mut self, text: Text<'a>) -> Result<&'a str, Error> {
        if let Some(plain) = text.as_str() {
            return Ok(plain);
        }
        let length = text.copy_to(self.free).ok_or(NO_ROOM)?.len();
        let (decoded, free) = core::mem::take(&mut self.free).split_at_mut_checked(length).ok_or(NO_ROOM)?;
        self.free = free;
        core::str::from_utf8(decoded).map_err(|_| SHAPE)
    }

    /// A text until the next one.
    fn brief(&mut self, text: Text<'a>) -> Result<&str, Error> {
        match text.as_str() {
            Some(plain) => Ok(plain),
            None => text.copy_to(self.free).ok_or(NO_ROOM),
        }
    }
}

/// All pairs.
struct Whole<'r, 'a> {
    notes: &'r [Note],
    room: &'r mut Room<'a>,
}

impl<'a> Deserializer<'a> for Whole<'_, 'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Groups { notes: self.notes, group: &[], room: self.room })
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let Whole { room, .. } = self;
        let mut ordered = Ordered { pairs: pairs(room.form), room: &mut *room };
        let value = visitor.visit_seq(&mut ordered)?;
        // A type that wants fewer than there are has not read all of it.
        let Some((next, _)) = ordered.pairs.next_at() else { return Ok(value) };
        room.at = next;
        Err(SHAPE)
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.notes.is_empty() { visitor.visit_unit() } else { Err(SHAPE) }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
    unit_struct tuple_struct map struct enum identifier }
}

/// The pairs as they stand.
struct Ordered<'r, 'a> {
    pairs: Pairs<'a>,
    room: &'r mut Room<'a>,
}

impl<'a> de::SeqAccess<'a> for &mut Ordered<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((at, pair)) = self.pairs.next_at() else { return Ok(None) };
        let (name, value) = pair.map_err(|bad| Error(bad.rule))?;
        self.room.at = at;
        seed.deserialize(Pair { words: [Some(name), Some(value)], room: self.room }).map(Some)
    }
}

/// A pair of such a sequence.
struct Pair<'r, 'a> {
    words: [Option<Text<'a>>; 2],
    room: &'r mut Room<'a>,
}

impl<'a> Deserializer<'a> for Pair<'_, 'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(self)
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
    unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any }
}

impl<'a> de::SeqAccess<'a> for Pair<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(text) = self.words.iter_mut().find_map(Option::take) else { return Ok(None) };
        seed.deserialize(Word { text, room: self.room }).map(Some)
    }
}

/// The pairs by their names.
struct Groups<'r, 'a> {
    notes: &'r [Note],
    /// Those of the name that was told last.
    group: &'r [Note],
    room: &'r mut Room<'a>,
}

impl<'a> de::MapAccess<'a> for Groups<'_, 'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let form = self.room.form;
        let Some(first) = self.notes.first().copied() else {
            self.room.at = form.len();
            return Ok(None);
        };
        let same = self.notes.iter().take_while(|note| by_name(form, first, **note) == Ordering::Equal).count();
        (self.group, self.notes) = self.notes.split_at_checked(same).unwrap_or_default();
        self.room.at = place(first);
        seed.deserialize(Word { text: name_at(form, place(first)), room: self.room }).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Values { notes: self.group, room: self.room })
    }
}

/// The values of a name.
struct Values<'r, 'a> {
    notes: &'r [Note],
    room: &'r mut Room<'a>,
}

impl<'r, 'a> Values<'r, 'a> {
    /// The only one.
    fn word(self) -> Result<Word<'r, 'a>, Error> {
        match self.notes {
            [note] => Ok(Word { text: value_at(self.room.form, place(*note)), room: self.room }),
            [_, again, ..] => {
                self.room.at = place(*again);
                Err(SHAPE)
            }
            [] => Err(SHAPE),
        }
    }
}

macro_rules! to_word {
    ($($name:ident($($argument:ident: $kind:ty),*))*) => { $(
        fn $name<V: Visitor<'a>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Error> {
            self.word()?.$name($($argument,)* visitor)
        }
    )* };
}

impl<'a> Deserializer<'a> for Values<'_, 'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.notes.len() > 1 { self.deserialize_seq(visitor) } else { self.word()?.deserialize_any(visitor) }
    }

    fn deserialize_seq<V: Visitor<'a>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let value = visitor.visit_seq(&mut self)?;
        let Some(next) = self.notes.first() else { return Ok(value) };
        self.room.at = place(*next);
        Err(SHAPE)
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    to_word! {
        deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32() deserialize_i64() deserialize_i128()
        deserialize_u8() deserialize_u16() deserialize_u32() deserialize_u64() deserialize_u128() deserialize_f32()
        deserialize_f64() deserialize_char() deserialize_str() deserialize_string() deserialize_bytes()
        deserialize_byte_buf() deserialize_unit() deserialize_unit_struct(name: &'static str) deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) deserialize_identifier()
    }
}

impl<'a> de::SeqAccess<'a> for &mut Values<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((note, rest)) = self.notes.split_first() else { return Ok(None) };
        self.notes = rest;
        self.room.at = place(*note);
        let text = value_at(self.room.form, place(*note));
        seed.deserialize(Word { text, room: self.room }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.notes.len())
    }
}

/// A name or a value.
struct Word<'r, 'a> {
    text: Text<'a>,
    room: &'r mut Room<'a>,
}

/// No number that is not written to annoy is longer.
const NUMBER: usize = 128;

macro_rules! numbers {
    ($($name:ident $visit:ident $good:expr;)*) => { $(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            let mut buf = [0; NUMBER];
            let digits = self.text.copy_to(&mut buf).ok_or(SHAPE)?;
            // Rust reads `+1`, `inf` and `nan` as well.
            let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            if !is_plain || digits.starts_with('+') {
                return Err(SHAPE);
            }
            let value = digits.parse().map_err(|_| SHAPE)?;
            if $good(value) { visitor.$visit(value) } else { Err(SHAPE) }
        }
    )* };
}

impl<'a> Deserializer<'a> for Word<'_, 'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.room.lent(self.text)?)
    }

    numbers! {
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

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text {
            text if text == "true" || text == "on" => visitor.visit_bool(true),
            text if text == "false" => visitor.visit_bool(false),
            _ => Err(SHAPE),
        }
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.room.brief(self.text)?)
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.room.lent(self.text)?.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bytes(self.room.brief(self.text)?.as_bytes())
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.text.is_empty() { visitor.visit_unit() } else { Err(SHAPE) }
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
        visitor.visit_enum(self)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { <V: Visitor<'a>> str seq tuple map tuple_struct struct }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }
}

/// A variant: its name.
impl<'a> de::EnumAccess<'a> for Word<'_, 'a> {
    type Error = Error;
    type Variant = Unit;

    fn variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<(T::Value, Unit), Error> {
        seed.deserialize(self).map(|name| (name, Unit))
    }
}

/// There is nothing in it.
struct Unit;

impl<'a> de::VariantAccess<'a> for Unit {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    fn read<T: for<'a> Deserialize<'a>>(form: &str) -> Result<T, (Rule, u64)> {
        value(form.as_bytes(), &Limits::DEFAULT, &mut [0; 256]).map_err(|bad| (bad.rule, bad.at))
    }

    #[derive(Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        Small,
        Large,
    }

    #[derive(Deserialize, PartialEq, Debug)]
    struct Wrapped(u16);

    #[derive(Deserialize, PartialEq, Debug)]
    struct Order {
        name: String,
        count: Option<i8>,
        #[serde(default)]
        gift: bool,
        size: Size,
        #[serde(default)]
        tags: Vec<String>,
        price: f64,
        code: Option<Wrapped>,
        mark: Option<char>,
        none: Option<()>,
    }

    #[test]
    fn a_struct_gets_what_it_asks_for_in_any_order() {
        let form = "tags=b&size=large&name=t%C3%A9%2B+x&tags=a&count=-7&gift=on&price=2.5e1&other=1&other=2&code=0080&mark=%C3%A9&none=&tags=";
        let order = Order {
            name: "té+ x".into(),
            count: Some(-7),
            gift: true,
            size: Size::Large,
            tags: vec!["b".into(), "a".into(), String::new()],
            price: 25.0,
            code: Some(Wrapped(80)),
            mark: Some('é'),
            none: Some(()),
        };
        assert_eq!(read(form), Ok(order));
        let small: Order = read("name=&size=small&price=1").unwrap();
        assert_eq!((small.name.as_str(), small.count, small.gift, small.size), ("", None, false, Size::Small));
    }

    #[test]
    fn maps_and_sequences_of_pairs_are_read_as_well() {
        let text = |s: &str| s.to_string();
        assert_eq!(read("b=2&a=1&b=3"), Ok(BTreeMap::from([(text("b"), vec![2u8, 3]), (text("a"), vec![1])])));
        assert_eq!(read("2=x&1=y"), Ok(BTreeMap::from([(1u8, 'y'), (2, 'x')])));
        assert_eq!(read("b=2&a=1&&b=3"), Ok(vec![(text("b"), 2u8), (text("a"), 1), (text("b"), 3)]));
        assert_eq!(read("a=1&b=2"), Ok([(text("a"), 1u8), (text("b"), 2)]));
        assert_eq!(read("xy=1&xy=2"), Ok(BTreeMap::from([(text("xy"), (1u8, 2u8))])));
        assert_eq!(read(""), Ok(()));
        assert_eq!(read::<Vec<(char, u8)>>("&&"), Ok(vec![]));
        assert_eq!(read::<BTreeMap<String, String>>("%61=1&a=2"), Err((Rule::FormShape, 6)), "the same name");
    }

    #[test]
    fn what_is_not_the_shape_is_refused_at_its_pair() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct One<T> {
            a: T,
        }
        fn of<T: for<'a> Deserialize<'a>>(form: &str) -> Result<T, (Rule, u64)> {
            read::<One<T>>(form).map(|one| one.a)
        }
        assert_eq!(of::<u8>("x=1"), Err((Rule::FormShape, 3)), "it is missing");
        for value in ["256", "-1", "%2B1", "1.0", "", "0x1", "1_0", "+1", "one", "%D9%A1"] {
            assert_eq!(of::<u8>(&format!("x=1&a={value}")), Err((Rule::FormShape, 4)), "{value}");
        }
        for value in ["inf", "nan", "1e999", "infinity", "%2B1.5", "--1", ".", "1e"] {
            assert_eq!(of::<f64>(&format!("a={value}")), Err((Rule::FormShape, 0)), "{value}");
        }
        assert_eq!(of::<i128>("a=-170141183460469231731687303715884105728"), Ok(i128::MIN));
        assert_eq!(of::<u64>(&format!("a={}1", "0".repeat(NUMBER - 1))), Ok(1));
        assert_eq!(of::<u64>(&format!("a={}1", "0".repeat(NUMBER))), Err((Rule::FormShape, 0)));
        assert_eq!(of::<bool>("a=1"), Err((Rule::FormShape, 0)));
        assert_eq!(of::<bool>("a=false"), Ok(false));
        assert_eq!(of::<String>("a=1&b=2&a=3"), Err((Rule::FormShape, 8)), "at the second");
        assert_eq!(of::<[u8; 1]>("a=1&b=2&a=3"), Err((Rule::FormShape, 8)));
        assert_eq!(of::<[u8; 3]>("a=1&b=2&a=3"), Err((Rule::FormShape, 8)));
        assert_eq!(of::<One<u8>>("a=1"), Err((Rule::FormShape, 0)));
        assert_eq!(of::<Size>("a=medium"), Err((Rule::FormShape, 0)));
        assert_eq!(read::<u8>("a=1").unwrap_err().0, Rule::FormShape);
        assert_eq!(read::<[(String, String); 1]>("a=1&b=2"), Err((Rule::FormShape, 4)));
        assert_eq!(of::<u8>("a=1&b=%"), Err((Rule::FormEscape, 7)));
    }

    #[test]
    fn scratch_is_the_only_room() {
        let form = b"a=x%20y&b=plain&c=+";
        let read = |scratch: &mut [u8]| {
            let three: Result<BTreeMap<&str, &str>, _> = value(form, &Limits::DEFAULT, scratch);
            three.map(|three| assert_eq!(three, BTreeMap::from([("a", "x y"), ("b", "plain"), ("c", " ")])))
        };
        assert_eq!(read(&mut [0; 3 * 4 + 4]), Ok(()));
        let short = read(&mut [0; 3 * 4 + 3]).unwrap_err();
        assert_eq!((short.rule, short.at, short.value), (Rule::BodyOverHandler, 16, 15));
        let short = read(&mut [0; 11]).unwrap_err();
        assert_eq!((short.rule, short.at, short.value), (Rule::BodyOverHandler, 16, 11));
    }
}
