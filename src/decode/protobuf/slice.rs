//! In: a message that is there as a whole. Out: its fields, with their content borrowed from it. The machine is [`Reader`].

use super::{Field, Item, Packed, Reader, Value};
use crate::base::{Limits, Rule, Violation};
use crate::decode::text::Utf8;

/// The fields of a message that is there as a whole.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::protobuf::{self, Packed, Value};
///
/// // 1: "hi", 2: { 1: 150 }, 3: [1, 2], 3: 3
/// let bytes = b"\x0a\x02hi\x12\x03\x08\x96\x01\x1a\x02\x01\x02\x18\x03";
/// let (mut name, mut count, mut list) = ("", 0, Vec::new());
/// let mut fields = protobuf::fields(bytes, &Limits::DEFAULT);
/// while let Some(field) = fields.next() {
///     let field = field?;
///     match (field.number, field.value) {
///         (1, Value::Bytes(_)) => name = fields.text()?,
///         (2, Value::Bytes(_)) => {
///             fields.enter()?;
///             for field in fields.by_ref() {
///                 count = field?.value.int32().unwrap_or(count);
///             }
///         }
///         (3, Value::Bytes(_)) => {
///             fields.packed(Packed::Varint)?;
///             for element in fields.by_ref() {
///                 list.extend(element?.value.uint32());
///             }
///         }
///         (3, value) => list.extend(value.uint32()),
///         _ => {} // an unknown field
///     }
/// }
/// assert_eq!((name, count, &list[..]), ("hi", 150, &[1, 2, 3][..]));
/// # Ok::<(), vestibule::Violation>(())
/// ```
pub fn fields<'a>(message: &'a [u8], limits: &Limits) -> Fields<'a> {
    Fields { reader: Reader::sized(message.len() as u64, limits), rest: message, content: &[], is_over: false }
}

/// The fields of a message, and of what was entered in it; see [`fields`].
///
/// `None` ends the innermost message (or packed field) that was entered; after that the fields around it go on. An error comes
/// once, then nothing.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    reader: Reader,
    rest: &'a [u8],
    content: &'a [u8],
    is_over: bool,
}

impl<'a> Fields<'a> {
    /// The content of the field that was just given, as text.
    ///
    /// # Errors
    /// [`Rule::Utf8`] at its offset in the outermost message. The fields end there.
    pub fn text(&mut self) -> Result<&'a str, Violation> {
        let content = core::mem::take(&mut self.content);
        match core::str::from_utf8(content) {
            Ok(text) => Ok(text),
            Err(_) => {
                // Once more, for the offset.
                let mut utf8 = Utf8::new();
                let fault = utf8.push(content).and_then(|()| utf8.finish()).err();
                self.is_over = true;
                Err(fault.unwrap_or(Violation::new(Rule::Utf8, 0)).shifted(self.reader.offset()))
            }
        }
    }

    /// The content of the field that was just given is a message: its fields come next, then `None`.
    ///
    /// # Errors
    /// As [`Reader::enter`]. The fields end there.
    pub fn enter(&mut self) -> Result<(), Violation> {
        self.reader.enter().inspect_err(|_| self.is_over = true)
    }

    /// The content of the field that was just given is packed: its elements come next, then `None`.
    ///
    /// # Errors
    /// As [`Reader::packed`]. The fields end there.
    pub fn packed(&mut self, how: Packed) -> Result<(), Violation> {
        self.reader.packed(how).inspect_err(|_| self.is_over = true)
    }

    /// Skips the rest of the innermost message that was entered: the fields around it come next.
    pub fn leave(&mut self) {
        let depth = self.reader.depth();
        self.reader.leave();
        while self.reader.depth() == depth && depth > 0 {
            if !matches!(self.reader.next(&mut self.rest), Ok(Some(_))) {
                return;
            }
        }
    }

    /// How many messages were entered and are not over.
    pub const fn depth(&self) -> usize {
        self.reader.depth()
    }

    /// The offset in the outermost message: behind the field that was just given, before its content.
    pub const fn offset(&self) -> u64 {
        self.reader.offset()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<&'a [u8]>, Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.content = &[];
        let item = match self.reader.next(&mut self.rest) {
            Ok(None) => self.reader.finish().map(|()| None),
            item => item,
        };
        match item {
            Ok(Some(Item::Field(Field { number, value }))) => {
                let value = match value {
                    Value::Varint(n) => Value::Varint(n),
                    Value::Fixed64(n) => Value::Fixed64(n),
                    Value::Fixed32(n) => Value::Fixed32(n),
                    Value::Bytes(len) => {
                        self.content = self.rest.get(..len as usize).unwrap_or_default();
                        Value::Bytes(self.content)
                    }
                };
                Some(Ok(Field { number, value }))
            }
            // Parts come only to those who ask the reader for them.
            Ok(Some(Item::Part(_) | Item::End) | None) => None,
            Err(violation) => {
                self.is_over = true;
                Some(Err(violation))
            }
        }
    }
}
