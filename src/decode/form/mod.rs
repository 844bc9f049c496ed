//! In: pairs as `application/x-www-form-urlencoded`, of a body in any pieces, or of a query whole. Out: names and
//! values, decoded; or the rule that they break, and where. No allocation.
//!
//! - [`Form`] reads a body as it comes: names whole, values in parts.
//! - [`pairs`] walks over a whole one, and decodes nothing that nobody asks for.
//! - [`from_slice`] makes a typed value of a whole one.
//!
//! All of them take what the WHATWG URL standard (§5.1) makes of the same bytes, unless it would be a repair: a percent
//! sign without two hexadecimal digits and bytes that are not UTF-8 are refused. Browsers and libraries never send
//! either; the standard would pass on the one and replace the other. Pairs are separated by `&` alone, empty ones are
//! skipped, a pair without `=` has an empty value, `+` is a space.

mod pairs;
mod read;
mod stream;

use serde::Deserialize;

pub use pairs::{Chars, Decoded, Pairs, Text, pairs};
pub use stream::{Form, Item};

use crate::base::{Limits, Violation};

/// Reads a value from a whole form, or from a query.
///
/// The form is a flat map: a struct, or a map of any kind. Numbers are decimal, as Rust reads them, without a plus
/// sign; booleans are `true`, `false` and `on`, which is what a ticked box says; an option is there or not; a variant
/// is its name. A name that stands more than once must be a sequence of values, and may stand anywhere. Asked for a
/// sequence of pairs, the reader gives all of them in their order.
///
/// Nothing is allocated here. `scratch` takes four bytes for each pair, and behind them every value that is lent (`&'a
/// str`) and has escapes; without those, it is read through it. Three times the length of the form and four more are
/// always enough. Pairs of one name are found by sorting, so work is linear in the form, times the logarithm of the
/// number of pairs.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::form;
///
/// #[derive(serde::Deserialize)]
/// struct Search<'a> {
///     q: &'a str,
///     page: Option<u32>,
///     tag: Vec<&'a str>,
/// }
///
/// let mut scratch = [0; 256];
/// let query = b"tag=green&q=t%C3%A9+chaud&tag=hot"; // or `head.query()`
/// let search: Search<'_> = form::from_slice(query, &Limits::DEFAULT, &mut scratch)?;
/// assert_eq!((search.q, search.page, search.tag), ("té chaud", None, vec!["green", "hot"]));
/// # Ok::<(), vestibule::Violation>(())
/// ```
///
/// # Errors
/// As [`Form::next`]; [`Rule::FormShape`](crate::Rule::FormShape) at the pair that is not what was asked for, or at the
/// form's end if one is missing; [`Rule::BodyOverHandler`](crate::Rule::BodyOverHandler), with the size of `scratch`,
/// if that is too small.
pub fn from_slice<'a, T: Deserialize<'a>>(
    form: &'a [u8],
    limits: &Limits,
    scratch: &'a mut [u8],
) -> Result<T, Violation> {
    read::value(form, limits, scratch)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
