//! In: a JSON text, whole or in pieces, and memory that the caller lends. Out: that it is one and inside the limits, and the
//! value that was asked for, or its tokens; or the rule that it breaks, and where. The other way round: a value as JSON, in
//! the caller's buffer.
//!
//! | text | call | gives |
//! |---|---|---|
//! | whole | [`check_in`], [`check`](fn@check) | whether it is one |
//! | whole | [`from_slice`] | a value of your type, without an allocation |
//! | whole | `to_value`, with the feature `serde_json` | a `serde_json::Value` |
//! | in pieces | [`Tokenizer`] | one [`Token`] after the other |
//!
//! What is taken is RFC 8259 to the letter, and where the RFC leaves a choice that readers make differently, the strict side
//! of it: no byte order mark, no key twice, no half surrogate pair, no number that would become infinite.

use serde::{Deserialize, Serialize};

use crate::base::{Limits, Violation};

mod check;
mod grammar;
mod keys;
mod number;
mod read;
mod string;
mod tokens;
mod write;

use keys::Keys;

pub use tokens::{Token, Tokenizer};
pub use write::WriteError;

/// Checks a JSON text without building anything: grammar, UTF-8, duplicate keys, and the limits that begin with `Json`.
///
/// The keys of small texts are kept on the stack, those of others in memory that grows with the text, to four times its
/// length at most. Work is linear in the text, times the logarithm of the keys of an object.
///
/// ```
/// use vestibule::{Limits, Rule};
/// use vestibule::decode::json;
/// assert!(json::check(br#"{"a": [1, 2.5e3, null]}"#, &Limits::DEFAULT).is_ok());
/// let twice = json::check(br#"{"a": 1, "\u0061": 2}"#, &Limits::DEFAULT).unwrap_err();
/// assert_eq!((twice.rule, twice.at), (Rule::JsonDuplicateKey, 10));
/// ```
///
/// # Errors
/// A rule whose name begins with `Json`, or [`Rule::Utf8`](crate::Rule::Utf8). `at` is the offset of the byte that shows it:
/// for half a surrogate pair its backslash, for a number out of range its first byte, for a key that stood before its first
/// byte (told when its object ends), for a text that ends too soon its length.
/// [`Rule::DecoderPool`](crate::Rule::DecoderPool) if memory for keys ran out.
#[cfg(feature = "alloc")]
pub fn check(text: &[u8], limits: &Limits) -> Result<(), Violation> {
    let mut scratch = [0; 512];
    check::run(text, limits, Keys::growing(&mut scratch))
}

/// The same in memory that the caller lends, with or without an allocator.
///
/// `scratch` takes four bytes for each object that is open and each key that it has had so far; twice the length of the text
/// and four more are always enough. Its content is of no interest to anybody.
///
/// # Errors
/// As [`check`](crate::decode::json), and [`Rule::JsonTooManyKeys`](crate::Rule::JsonTooManyKeys) with how many fit as its
/// value if `scratch` is too small.
pub fn check_in(text: &[u8], limits: &Limits, scratch: &mut [u8]) -> Result<(), Violation> {
    check::run(text, limits, Keys::fixed(scratch))
}

/// Checks a JSON text and reads a value from it.
///
/// Nothing is allocated here. Strings are lent from the text, and if they hold escapes from `scratch`, where they are
/// unescaped to: `&'a str` takes both. First, `scratch` serves as in [`check_in`]; what it must hold then is every escaped
/// string that is lent. Twice the length of the text and four more are always enough, and a few hundred bytes do for most
/// texts.
///
/// The reader tells a type what it finds, so untagged enums, `flatten` and self-describing values work where their own
/// allocations may. Integers are read exactly, up to 128 bits; a fraction or an exponent makes a float, which no integer
/// takes. Integers, floats and booleans may stand as keys if the type asks for them. A struct is an object, never an array.
/// `null` is a unit or `None`, never a float.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::json;
///
/// #[derive(serde::Deserialize)]
/// struct Order<'a> {
///     id: u32,
///     name: &'a str,
/// }
///
/// let mut scratch = [0; 256];
/// let order: Order<'_> = json::from_slice(br#"{"name": "\ud83c\udf75 tea", "id": 7}"#, &Limits::DEFAULT, &mut scratch)?;
/// assert_eq!((order.id, order.name), (7, "🍵 tea"));
/// # Ok::<(), vestibule::Violation>(())
/// ```
///
/// # Errors
/// As [`check_in`]; then [`Rule::JsonShape`](crate::Rule::JsonShape) if the text is not such a value,
/// [`Rule::JsonNumberRange`](crate::Rule::JsonNumberRange) if a float or a 128-bit integer does not hold a number, and
/// [`Rule::BodyOverHandler`](crate::Rule::BodyOverHandler) if `scratch` does not hold its escaped strings. `at` is how far the
/// reader had come.
pub fn from_slice<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    limits: &Limits,
    scratch: &'a mut [u8],
) -> Result<T, Violation> {
    check_in(text, limits, scratch)?;
    read::value(text, scratch)
}

/// Checks a JSON text and reads all of it as a [`serde_json::Value`], for those who want to look around in one.
///
/// The same reader as [`from_slice`]: what is taken does not depend on the way. Nesting is judged before anything is built, so
/// neither building nor dropping the value goes deeper than [`Limit::JsonDepth`](crate::Limit::JsonDepth). Integers that fit
/// 64 bits stay integers, other numbers become floats. A value takes many times the memory of its text: some sixteen bytes
/// for each byte of `[0,0,0]`, more while it grows. Cap the body accordingly.
///
/// ```
/// let limits = vestibule::Limits::DEFAULT;
/// let value = vestibule::decode::json::to_value(br#"{"a": [1, "\u00e9"]}"#, &limits)?;
/// assert_eq!(value["a"][1], "é");
/// # Ok::<(), vestibule::Violation>(())
/// ```
///
/// # Errors
/// As [`check`](fn@check). [`Rule::DecoderPool`](crate::Rule::DecoderPool) if there is no memory to unescape strings in;
/// that of the value itself is asked for without a way back.
#[cfg(feature = "serde_json")]
pub fn to_value(text: &[u8], limits: &Limits) -> Result<serde_json::Value, Violation> {
    check(text, limits)?;
    // Every string takes at least two bytes less than it has in the text, with its quotes.
    let mut scratch = alloc::vec::Vec::new();
    let room = if text.contains(&b'\\') { text.len() } else { 0 };
    scratch.try_reserve_exact(room).map_err(|_| Violation::new(crate::base::Rule::DecoderPool, 0))?;
    scratch.resize(room, 0);
    read::value(text, &mut scratch)
}

/// Writes a value as compact JSON; gives its length.
///
/// Every type of serde's data model is written: bytes (`serialize_bytes`) as an array of numbers, a `char` as a string, an
/// enum as `"variant"` or `{"variant": content}`, 128-bit integers with all their digits. Floats take the shortest digits
/// that are read as the same float; those that are not finite become `null`. Keys are strings; numbers, booleans and
/// characters become one. Whether a map or a flattened struct holds a key twice is for the value to know.
///
/// ```
/// let mut buf = [0; 64];
/// let n = vestibule::decode::json::to_slice(&("é", [1, 2], None::<bool>), &mut buf)?;
/// assert_eq!(&buf[..n], "[\"é\",[1,2],null]".as_bytes());
/// # Ok::<(), vestibule::decode::json::WriteError>(())
/// ```
///
/// # Errors
/// [`WriteError::Full`] if it does not fit, and [`WriteError::Value`] if it cannot be written. What `buf` holds then is of no
/// interest to anybody.
pub fn to_slice<T: Serialize + ?Sized>(value: &T, buf: &mut [u8]) -> Result<usize, WriteError> {
    write::value(value, buf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Limit, Rule};

    fn fault(text: &[u8]) -> (Rule, u64) {
        let v = check_in(text, &Limits::DEFAULT, &mut [0; 256]).expect_err("refused");
        #[cfg(feature = "alloc")]
        assert_eq!(check(text, &Limits::DEFAULT), Err(v), "both ways");
        (v.rule, v.at)
    }

    #[test]
    fn each_fault_has_its_rule_and_its_place() {
        for (text, rule, at) in [
            ("", Rule::JsonEmpty, 0),
            (" \n", Rule::JsonEmpty, 2),
            ("[", Rule::JsonTruncated, 1),
            ("tru", Rule::JsonTruncated, 3),
            ("trux", Rule::JsonSyntax, 3),
            ("[1,]", Rule::JsonSyntax, 3),
            ("[1 2]", Rule::JsonSyntax, 3),
            ("{\"a\"}", Rule::JsonSyntax, 4),
            ("{\"a\"", Rule::JsonTruncated, 4),
            ("{\"a\":1,}", Rule::JsonSyntax, 7),
            ("{,}", Rule::JsonSyntax, 1),
            ("{1:1}", Rule::JsonSyntax, 1),
            ("[1}", Rule::JsonSyntax, 2),
            ("{\"a\":1]", Rule::JsonSyntax, 6),
            ("]", Rule::JsonSyntax, 0),
            ("[1] // no", Rule::JsonTrailing, 4),
            ("1 2", Rule::JsonTrailing, 2),
            ("NaN", Rule::JsonSyntax, 0),
            ("-Infinity", Rule::JsonNumber, 1),
            ("+1", Rule::JsonNumber, 0),
            (".5", Rule::JsonNumber, 0),
            ("01", Rule::JsonNumber, 1),
            ("-01", Rule::JsonNumber, 2),
            ("1.", Rule::JsonTruncated, 2),
            ("1.e1", Rule::JsonNumber, 2),
            ("[1e]", Rule::JsonNumber, 3),
            ("1e+x", Rule::JsonNumber, 3),
            ("1e309", Rule::JsonNumberRange, 0),
            ("\"a\tb\"", Rule::JsonString, 2),
            ("\"a\0b\"", Rule::JsonString, 2),
            (r#""\x""#, Rule::JsonString, 2),
            (r#""\u12g4""#, Rule::JsonString, 5),
            (r#""\u12"#, Rule::JsonTruncated, 5),
            (r#""\ud800""#, Rule::JsonSurrogate, 1),
            (r#""a\udc00""#, Rule::JsonSurrogate, 2),
            (r#""\ud800\u0041""#, Rule::JsonSurrogate, 1),
            (r#""\ud800\n""#, Rule::JsonSurrogate, 1),
            (r#""\ud800"#, Rule::JsonTruncated, 7),
            (r#"{"a":1,"b":2,"a":3}"#, Rule::JsonDuplicateKey, 14),
            (r#"{"é":1,"\u00e9":3}"#, Rule::JsonDuplicateKey, 9),
            (r#"[{"a":{"b":1,"b":1}}"#, Rule::JsonDuplicateKey, 14),
        ] {
            assert_eq!(fault(text.as_bytes()), (rule, at), "{text}");
        }
        for (text, rule, at) in [
            (&b"\xef\xbb\xbf1"[..], Rule::JsonByteOrderMark, 0),
            (b"1\0", Rule::JsonByteOrderMark, 0),
            (b"\0[", Rule::JsonByteOrderMark, 0),
            (b"\xff\xfe1\0", Rule::JsonByteOrderMark, 0),
            (b"\"\xff\"", Rule::Utf8, 1),
            (b"\"\xc3\"", Rule::Utf8, 2),
            (b"\"a\xed\xa0\x80\"", Rule::Utf8, 3),
            (b"\"\xf0\x9f", Rule::JsonTruncated, 3),
            (b"\xc3\xa9", Rule::JsonSyntax, 0),
        ] {
            assert_eq!(fault(text), (rule, at), "{text:x?}");
        }
    }

    #[test]
    fn numbers_end_where_an_f64_does() {
        let good = |text: &str| check_in(text.as_bytes(), &Limits::DEFAULT.clone(), &mut []).is_ok();
        for text in [
            "-0",
            "-0.0e-0",
            "0e999999999999999999999",
            "0.000e99999999999999999999999",
            "1e-99999999999999999999999999",
            "1.7976931348623157e308",
            "1.7976931348623158e+308",
            "17976931348623157e292",
            "0.00017976931348623157e312",
            "100000e303",
        ] {
            assert!(good(text), "{text}");
        }
        for text in ["1.7976931348623159e308", "2e308", "-0.1e310", "0.001e312", "10e308", "1e99999999999999999999"] {
            assert!(!good(text), "{text}");
        }
        let limits = Limits::DEFAULT.with(Limit::JsonNumberBytes, 4_096).expect("in range");
        assert!(check_in("9".repeat(308).as_bytes(), &limits, &mut []).is_ok());
        assert!(check_in("9".repeat(309).as_bytes(), &limits, &mut []).is_err());
        let small = format!("0.{}1e{}", "0".repeat(400), 401 + 308);
        assert!(check_in(small.as_bytes(), &limits, &mut []).is_ok());
        // Around the border, digit by digit, as the conversion itself decides.
        let border = core::str::from_utf8(number::INFINITE).expect("digits");
        for cut in 1..=border.len() {
            for last in 0..=9 {
                let digits = format!("{}{last}", &border[..cut - 1]);
                for text in [
                    format!("{digits}e{}", 309 - cut),
                    format!("0.0{digits}e310"),
                    format!("-{digits}.5e{}", 309 - cut),
                ] {
                    let infinite = text.parse().is_ok_and(f64::is_infinite);
                    assert_eq!(check_in(text.as_bytes(), &limits, &mut []).is_err(), infinite, "{text}");
                }
            }
        }
    }
}
