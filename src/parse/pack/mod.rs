//! In: header blocks, or field lines. Out: the other (RFC 7541). HTTP/2's connections share one table in each
//! direction.
//!
//! [`Decoder`] turns a block into `name: value\r\n` lines in an arena of the caller's; [`Encoder`] writes a response's
//! lines. What lines mean is nobody's concern here: a name may be empty, a value may hold any byte. [`integer`] and
//! [`huffman`] stand alone.

mod decode;
mod encode;
mod fixed;
pub mod huffman;
pub mod integer;
mod table;
mod words;

use crate::base::memory::NoMemory;
use core::fmt;

pub use decode::{Decoder, Field, Origin};
pub use encode::Encoder;

/// Why a block cannot be decoded. Whatever it is, the two tables may differ from here on, so the connection has to end:
/// COMPRESSION_ERROR (RFC 7541 §2.3.3, §5, §6; RFC 9113 §4.3).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The block ends inside a field.
    Truncated,
    /// An integer of more than five continuation bytes, or above 2^31 - 1 (RFC 7541 §5.1).
    Integer,
    /// An index of zero, or of an entry that does not exist (RFC 7541 §2.3.3, §6.1).
    Index,
    /// Huffman-coded text with wrong padding, or with the end-of-string symbol in it (RFC 7541 §5.2).
    Huffman,
    /// A change of the table's size that is above the setting, behind a field, or the third in a block (RFC 7541 §4.2,
    /// §6.3).
    SizeUpdate,
    /// There is no memory for what it decodes to, or for the table. That is nobody's fault, but the tables differ all the same.
    NoMemory,
}

impl From<NoMemory> for Fault {
    fn from(_: NoMemory) -> Fault {
        Fault::NoMemory
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Truncated => "the header block ends inside a field",
            Fault::Integer => "an integer in the header block is too long or too large",
            Fault::Index => "the header block refers to a table entry that does not exist",
            Fault::Huffman => "Huffman-coded text has wrong padding or the end-of-string symbol in it",
            Fault::SizeUpdate => "the header block changes the table's size too far, too late or too often",
            Fault::NoMemory => "no memory for what the header block decodes to",
        })
    }
}

impl core::error::Error for Fault {}
