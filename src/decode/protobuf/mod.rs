//! In: a Protobuf message in any pieces, and what the caller wants of each field. Out: its fields, with numbers read and content
//! lent; or the rule that it breaks, and where.
//!
//! ```text
//!                        ┌── bytes(), text() ──▶ Part .. Part, End
//! Field { 7, Bytes(n) } ─┼── enter() ──────────▶ the fields of a message, End
//!                        ├── packed(how) ──────▶ Field { 7, Varint(..) } for each element, End
//!                        └── next(), skip() ───▶ the next field
//! ```
//!
//! [`Reader`] takes a message as it comes, cut anywhere; [`fields`] is the same machine on a message that is there as a whole.
//! Neither knows a schema, neither allocates. With the feature `prost`, `decode` reads typed messages.
//!
//! What is accepted is the wire format of the [encoding document](https://protobuf.dev/programming-guides/encoding/) without
//! groups. Unknown fields are the caller's to skip: nothing is kept of them, and nothing in them is looked at but its length.

mod reader;
mod slice;
#[cfg(feature = "prost")]
mod typed;

pub use reader::{Item, Reader};
pub use slice::{Fields, fields};
#[cfg(feature = "prost")]
pub use typed::decode;

/// A field: its number, 1 to 2^29 - 1, and what stands behind its tag.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Field<B> {
    /// The field's number in the schema.
    pub number: u32,
    /// What the wire holds. What it means only the schema says: [`Value::sint32`] and the others interpret it.
    pub value: Value<B>,
}

/// A value as its wire type holds it. `B` stands for content with a length: how long it is, or the content itself.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Value<B> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1, little-endian.
    Fixed64(u64),
    /// Wire type 5, little-endian.
    Fixed32(u32),
    /// Wire type 2: bytes, text, a message, or packed numbers.
    Bytes(B),
}

/// How the elements of a packed field are written.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Packed {
    /// `int32`, `int64`, `uint32`, `uint64`, `sint32`, `sint64`, `bool` and enumerations.
    Varint,
    /// `fixed32`, `sfixed32` and `float`.
    Fixed32,
    /// `fixed64`, `sfixed64` and `double`.
    Fixed64,
}

/// The scalar types of a schema. `None`: the wire type is another one, so this is not the field that the schema means.
///
/// ```
/// use vestibule::decode::protobuf::Value;
/// let value: Value<u32> = Value::Varint(3);
/// assert_eq!((value.int32(), value.sint32(), value.bool()), (Some(3), Some(-2), Some(true)));
/// assert_eq!((value.float(), Value::<u32>::Fixed32(0x3f80_0000).float()), (None, Some(1.0)));
/// ```
impl<B> Value<B> {
    const fn varint(&self) -> Option<u64> {
        match *self {
            Value::Varint(n) => Some(n),
            _ => None,
        }
    }

    /// `uint64`.
    pub const fn uint64(&self) -> Option<u64> {
        self.varint()
    }

    /// `uint32`: the low 32 bits, as every implementation reads it.
    pub fn uint32(&self) -> Option<u32> {
        self.varint().map(|n| n as u32)
    }

    /// `int64`.
    pub fn int64(&self) -> Option<i64> {
        self.varint().map(|n| n as i64)
    }

    /// `int32`, and the number of an enumeration: the low 32 bits.
    pub fn int32(&self) -> Option<i32> {
        self.varint().map(|n| n as i32)
    }

    /// `sint64`: 0, -1, 1, -2 and so on are written as 0, 1, 2, 3.
    pub fn sint64(&self) -> Option<i64> {
        self.varint().map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// `sint32`.
    pub fn sint32(&self) -> Option<i32> {
        self.uint32().map(|n| (n >> 1) as i32 ^ -((n & 1) as i32))
    }

    /// `bool`: everything but 0 is true.
    pub fn bool(&self) -> Option<bool> {
        self.varint().map(|n| n != 0)
    }

    /// `fixed64`.
    pub const fn fixed64(&self) -> Option<u64> {
        match *self {
            Value::Fixed64(n) => Some(n),
            _ => None,
        }
    }

    /// `sfixed64`.
    pub fn sfixed64(&self) -> Option<i64> {
        self.fixed64().map(|n| n as i64)
    }

    /// `double`.
    pub fn double(&self) -> Option<f64> {
        self.fixed64().map(f64::from_bits)
    }

    /// `fixed32`.
    pub const fn fixed32(&self) -> Option<u32> {
        match *self {
            Value::Fixed32(n) => Some(n),
            _ => None,
        }
    }

    /// `sfixed32`.
    pub fn sfixed32(&self) -> Option<i32> {
        self.fixed32().map(|n| n as i32)
    }

    /// `float`.
    pub fn float(&self) -> Option<f32> {
        self.fixed32().map(f32::from_bits)
    }
}
