//! In: a value, through serde. Out: compact JSON (RFC 8259) in the caller's buffer, or why it is not there.
//!
//! Every type of serde's data model is written, and so that [`from_slice`](super::from_slice) reads it again. Nothing is
//! allocated, and nothing can panic but the value itself.

use core::fmt::{self, Write as _};

use serde::ser::{self, Impossible, Serialize, Serializer};

use super::string;

/// Why a value was not written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WriteError {
    /// It does not fit the buffer.
    Full,
    /// It refuses to be serialised, or a key of it is neither a string nor something that is written like one.
    Value,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::Full => "the value does not fit the buffer",
            WriteError::Value => "the value cannot be written as JSON",
        })
    }
}

impl core::error::Error for WriteError {}

impl ser::Error for WriteError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        WriteError::Value
    }
}

pub(super) fn value<T: Serialize + ?Sized>(value: &T, buf: &mut [u8]) -> Result<usize, WriteError> {
    let mut writer = Writer { buf, at: 0, failed: None };
    value.serialize(&mut writer)?;
    writer.failed.map_or(Ok(writer.at), Err)
}

struct Writer<'b> {
    buf: &'b mut [u8],
    at: usize,
    /// Why a member was not written. A value may go on regardless; what comes out then is no JSON.
    failed: Option<WriteError>,
}

impl<'b> Writer<'b> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let end = self.at.saturating_add(bytes.len());
        self.buf.get_mut(self.at..end).ok_or(WriteError::Full)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn byte(&mut self, byte: u8) -> Result<(), WriteError> {
        *self.buf.get_mut(self.at).ok_or(WriteError::Full)? = byte;
        self.at += 1;
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), WriteError> {
        self.byte(b'"')?;
        self.escaped(text.as_bytes())?;
        self.byte(b'"')
    }

    // RFC 8259 §7: what must be escaped, and no more.
    fn escaped(&mut self, mut text: &[u8]) -> Result<(), WriteError> {
        loop {
            let (plain, rest) = text.split_at_checked(string::scan(text).0).unwrap_or((text, b""));
            self.put(plain)?;
            let Some((&byte, rest)) = rest.split_first() else { return Ok(()) };
            match byte {
                b'"' => self.put(b"\\\"")?,
                b'\\' => self.put(b"\\\\")?,
                0x08 => self.put(b"\\b")?,
                0x0c => self.put(b"\\f")?,
                b'\n' => self.put(b"\\n")?,
                b'\r' => self.put(b"\\r")?,
                b'\t' => self.put(b"\\t")?,
                control => {
                    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' - 10 + n };
                    self.put(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 15)])?;
                }
            }
            text = rest;
        }
    }

    fn unsigned(&mut self, mut n: u64) -> Result<(), WriteError> {
        let mut digits = [0; 20];
        let mut from = digits.len();
        for slot in digits.iter_mut().rev() {
            *slot = b'0' + (n % 10) as u8;
            n /= 10;
            from -= 1;
            if n == 0 {
                break;
            }
        }
        self.put(digits.get(from..).unwrap_or_default())
    }

    fn signed(&mut self, n: i64) -> Result<(), WriteError> {
        if n < 0 {
            self.byte(b'-')?;
        }
        self.unsigned(n.unsigned_abs())
    }

    /// As `{}` or `{:?}` writes it: digits, point, sign and `e`, which need no escape.
    fn formatted(&mut self, arguments: fmt::Arguments<'_>) -> Result<(), WriteError> {
        self.write_fmt(arguments).map_err(|_| WriteError::Full)
    }

    fn open<'w>(&'w mut self, open: u8, close: &'static [u8]) -> Result<Members<'w, 'b>, WriteError> {
        self.byte(open)?;
        Ok(Members { writer: self, is_first: true, close })
    }

    /// `{"name":`
    fn variant(&mut self, name: &str) -> Result<(), WriteError> {
        self.byte(b'{')?;
        self.string(name)?;
        self.byte(b':')
    }
}

/// Without escapes.
impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// With them: the inside of a string.
struct Inside<'w, 'b> {
    writer: &'w mut Writer<'b>,
    is_full: bool,
}

impl fmt::Write for Inside<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let written = self.writer.escaped(text.as_bytes());
        self.is_full |= written.is_err();
        written.map_err(|_| fmt::Error)
    }
}

macro_rules! numbers {
    ($($name:ident($type:ty) $put:ident;)*) => { $(
        fn $name(self, value: $type) -> Result<(), WriteError> {
            self.$put(value.into())
        }
    )* };
}

impl<'w, 'b> Serializer for &'w mut Writer<'b> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Members<'w, 'b>;
    type SerializeTuple = Self::SerializeSeq;
    type SerializeTupleStruct = Self::SerializeSeq;
    type SerializeTupleVariant = Self::SerializeSeq;
    type SerializeMap = Self::SerializeSeq;
    type SerializeStruct = Self::SerializeSeq;
    type SerializeStructVariant = Self::SerializeSeq;

    numbers! {
        serialize_i8(i8) signed;
        serialize_i16(i16) signed;
        serialize_i32(i32) signed;
        serialize_i64(i64) signed;
        serialize_u8(u8) unsigned;
        serialize_u16(u16) unsigned;
        serialize_u32(u32) unsigned;
        serialize_u64(u64) unsigned;
    }

    fn serialize_i128(self, value: i128) -> Result<(), WriteError> {
        self.formatted(format_args!("{value}"))
    }

    fn serialize_u128(self, value: u128) -> Result<(), WriteError> {
        self.formatted(format_args!("{value}"))
    }

    // `Debug` writes the shortest digits that are read as the same float, with an exponent where it is large: JSON as it is.
    fn serialize_f32(self, value: f32) -> Result<(), WriteError> {
        if value.is_finite() { self.formatted(format_args!("{value:?}")) } else { self.put(b"null") }
    }

    fn serialize_f64(self, value: f64) -> Result<(), WriteError> {
        if value.is_finite() { self.formatted(format_args!("{value:?}")) } else { self.put(b"null") }
    }

    fn serialize_bool(self, value: bool) -> Result<(), WriteError> {
        self.put(if value { b"true" } else { b"false" })
    }

    fn serialize_char(self, value: char) -> Result<(), WriteError> {
        self.string(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), WriteError> {
        self.string(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), WriteError> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), WriteError> {
        self.put(b"null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), WriteError> {
        self.put(b"null")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WriteError> {
        self.put(b"null")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), WriteError> {
        self.string(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), WriteError> {
        self.variant(name)?;
        value.serialize(&mut *self)?;
        self.byte(b'}')
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeSeq, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeSeq, WriteError> {
        self.open(b'[', b"]")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeSeq, WriteError> {
        self.variant(name)?;
        self.open(b'[', b"]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeSeq, WriteError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeSeq, WriteError> {
        self.open(b'{', b"}")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeSeq, WriteError> {
        self.variant(name)?;
        self.open(b'{', b"}}")
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        self.byte(b'"')?;
        let mut inside = Inside { writer: self, is_full: false };
        let written = write!(inside, "{value}");
        match (inside.is_full, written) {
            (true, _) => Err(WriteError::Full),
            (false, Err(_)) => Err(WriteError::Value),
            (false, Ok(())) => inside.writer.byte(b'"'),
        }
    }
}

/// The members of an array or an object.
struct Members<'w, 'b> {
    writer: &'w mut Writer<'b>,
    is_first: bool,
    close: &'static [u8],
}

impl Members<'_, '_> {
    fn comma(&mut self) -> Result<(), WriteError> {
        match core::mem::take(&mut self.is_first) {
            true => Ok(()),
            false => self.writer.byte(b','),
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        let written = self.comma().and_then(|()| value.serialize(&mut *self.writer));
        self.noted(written)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), WriteError> {
        let named = self.comma().and_then(|()| self.writer.string(name));
        let written = named.and_then(|()| self.value(value));
        self.noted(written)
    }

    /// `:value`
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        self.writer.byte(b':')?;
        value.serialize(&mut *self.writer)
    }

    fn noted(&mut self, written: Result<(), WriteError>) -> Result<(), WriteError> {
        written.inspect_err(|error| self.writer.failed = Some(*error))
    }
}

macro_rules! members {
    ($($trait:ident $function:ident($($name:ident)?) $own:ident;)*) => { $(
        impl ser::$trait for Members<'_, '_> {
            type Ok = ();
            type Error = WriteError;

            fn $function<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), WriteError> {
                self.$own($($name,)? value)
            }

            fn end(self) -> Result<(), WriteError> {
                self.writer.put(self.close)
            }
        }
    )* };
}

members! {
    SerializeSeq serialize_element() element;
    SerializeTuple serialize_element() element;
    SerializeTupleStruct serialize_field() element;
    SerializeTupleVariant serialize_field() element;
    SerializeStruct serialize_field(name) field;
    SerializeStructVariant serialize_field(name) field;
}

impl ser::SerializeMap for Members<'_, '_> {
    type Ok = ();
    type Error = WriteError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WriteError> {
        let written = self.comma().and_then(|()| key.serialize(Key(&mut *self.writer)));
        self.noted(written)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WriteError> {
        let written = self.value(value);
        self.noted(written)
    }

    fn end(self) -> Result<(), WriteError> {
        self.writer.put(self.close)
    }
}

/// A key: a string (RFC 8259 §4). Numbers and booleans become one.
struct Key<'w, 'b>(&'w mut Writer<'b>);

impl Key<'_, '_> {
    fn quoted<T: Serialize>(self, value: T) -> Result<(), WriteError> {
        self.0.byte(b'"')?;
        value.serialize(&mut *self.0)?;
        self.0.byte(b'"')
    }
}

macro_rules! quoted {
    ($($name:ident($type:ty) $good:expr;)*) => { $(
        fn $name(self, value: $type) -> Result<(), WriteError> {
            if $good(value) { self.quoted(value) } else { Err(WriteError::Value) }
        }
    )* };
}

macro_rules! no_key {
    ($($name:ident($($type:ty),*) -> $result:ty;)*) => { $(
        fn $name(self, $(_: $type),*) -> Result<$result, WriteError> {
            Err(WriteError::Value)
        }
    )* };
}

impl Serializer for Key<'_, '_> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Impossible<(), WriteError>;
    type SerializeTuple = Self::SerializeSeq;
    type SerializeTupleStruct = Self::SerializeSeq;
    type SerializeTupleVariant = Self::SerializeSeq;
    type SerializeMap = Self::SerializeSeq;
    type SerializeStruct = Self::SerializeSeq;
    type SerializeStructVariant = Self::SerializeSeq;

    quoted! {
        serialize_bool(bool) |_| true;
        serialize_i8(i8) |_| true;
        serialize_i16(i16) |_| true;
        serialize_i32(i32) |_| true;
        serialize_i64(i64) |_| true;
        serialize_i128(i128) |_| true;
        serialize_u8(u8) |_| true;
        serialize_u16(u16) |_| true;
        serialize_u32(u32) |_| true;
        serialize_u64(u64) |_| true;
        serialize_u128(u128) |_| true;
        serialize_f32(f32) f32::is_finite;
        serialize_f64(f64) f64::is_finite;
    }

    no_key! {
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeSeq;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeSeq;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeSeq;
        serialize_map(Option<usize>) -> Self::SerializeSeq;
        serialize_struct(&'static str, usize) -> Self::SerializeSeq;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeSeq;
    }

    fn serialize_char(self, value: char) -> Result<(), WriteError> {
        self.0.serialize_char(value)
    }

    fn serialize_str(self, value: &str) -> Result<(), WriteError> {
        self.0.string(value)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), WriteError> {
        self.0.string(name)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), WriteError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), WriteError> {
        Err(WriteError::Value)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), WriteError> {
        self.0.collect_str(value)
    }
}
