//! In: the value of `Content-Encoding`, and the coded bytes of a body in any pieces. Out: which coding it is, and the decoded
//! bytes, lent from the window they were decoded into. And the way back: which coding a client wants, and content that is coded.

use crate::base::{Limit, Limits, Rule, Violation};

mod accept;
#[cfg(feature = "br")]
mod br;
#[cfg(feature = "alloc")]
mod decoder;
#[cfg(feature = "alloc")]
mod deflate;
#[cfg(feature = "alloc")]
mod encoder;
#[cfg(feature = "alloc")]
mod gzip;
#[cfg(feature = "alloc")]
mod inflate;
#[cfg(feature = "zstd")]
mod zstd;

pub use accept::{Accept, negotiate};
#[cfg(feature = "alloc")]
pub use decoder::{Decoder, Step};
#[cfg(feature = "alloc")]
pub use encoder::{Coded, EncodeFault, Encoder, Flow};

/// What a 415 says in `Accept-Encoding` (RFC 9110 §12.5.3): the codings that this build can take off a request.
#[cfg(feature = "alloc")]
pub const ACCEPT: &str = match (cfg!(feature = "br"), cfg!(feature = "zstd")) {
    (true, true) => "gzip, deflate, br, zstd",
    (true, false) => "gzip, deflate, br",
    (false, true) => "gzip, deflate, zstd",
    (false, false) => "gzip, deflate",
};
/// What a 415 says in `Accept-Encoding` (RFC 9110 §12.5.3): without an allocator there is no window to decode into.
#[cfg(not(feature = "alloc"))]
pub const ACCEPT: &str = "identity";

/// A content coding (RFC 9110 §8.4.1).
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Coding {
    /// No coding.
    #[default]
    Identity,
    /// `gzip`, also called `x-gzip` (RFC 9110 §8.4.1.3, RFC 1952).
    Gzip,
    /// `deflate`: the zlib format, never bare deflate (RFC 9110 §8.4.1.2, RFC 1950).
    Deflate,
    /// `br`: brotli, without large windows (RFC 7932). Known with feature `br`.
    Brotli,
    /// `zstd`: one Zstandard frame without a dictionary (RFC 8878, RFC 9659). Known with feature `zstd`.
    Zstd,
}

impl Coding {
    /// Reads the value of `Content-Encoding`; several field lines are joined with commas first (RFC 9110 §5.3).
    ///
    /// Names are compared without case, empty list elements are skipped (RFC 9110 §5.6.1.2), and `identity` may only stand
    /// alone: it is a word for `Accept-Encoding`.
    ///
    /// ```
    /// use vestibule::Rule;
    /// use vestibule::decode::coding::Coding;
    /// assert_eq!(Coding::of(b"X-GZip"), Ok(Coding::Gzip));
    /// assert_eq!(Coding::of(b"compress").unwrap_err().rule, Rule::CodingUnknown);
    /// assert_eq!(Coding::of(b"gzip, gzip").unwrap_err().rule, Rule::CodingLayers);
    /// ```
    ///
    /// # Errors
    /// [`Rule::CodingUnknown`] for a name that is not known, for `identity` beside another, or for no name at all;
    /// [`Rule::CodingLayers`] for more layers than [`Limit::CodingLayers`]. `at` is the offset in `value`.
    pub fn of(value: &[u8]) -> Result<Coding, Violation> {
        // The range of the limit is one to one, so that its default is its value.
        let layers_max = Limits::DEFAULT.get(Limit::CodingLayers);
        let mut found: Option<Coding> = None;
        let mut layers = 0u64;
        let mut at = 0u64;
        for element in value.split(|&b| b == b',') {
            let name = element.trim_ascii();
            let start = at + (element.len() - element.trim_ascii_start().len()) as u64;
            at += element.len() as u64 + 1;
            if name.is_empty() {
                continue;
            }
            let coding = Coding::named(name).ok_or(Violation::new(Rule::CodingUnknown, start))?;
            match found {
                Some(first) if first == Coding::Identity || coding == Coding::Identity => {
                    return Err(Violation::new(Rule::CodingUnknown, start));
                }
                _ => {}
            }
            layers += u64::from(coding != Coding::Identity);
            if layers > layers_max {
                return Err(Violation::over(Rule::CodingLayers, start, &Limits::DEFAULT));
            }
            found = Some(coding);
        }
        found.ok_or(Violation::new(Rule::CodingUnknown, 0))
    }

    fn named(name: &[u8]) -> Option<Coding> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
            () if is("deflate") => Some(Coding::Deflate),
            () if cfg!(feature = "br") && is("br") => Some(Coding::Brotli),
            () if cfg!(feature = "zstd") && is("zstd") => Some(Coding::Zstd),
            () if is("identity") => Some(Coding::Identity),
            () => None,
        }
    }

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    /// Whether this build can take it off a body: with an allocator, and the feature of those that have one; without, only
    /// [`Coding::Identity`].
    pub const fn is_supported(self) -> bool {
        match self {
            Coding::Identity => true,
            Coding::Gzip | Coding::Deflate => cfg!(feature = "alloc"),
            Coding::Brotli => cfg!(feature = "br"),
            Coding::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// Whether this build can put it on content, with an `Encoder`.
    pub const fn is_encodable(self) -> bool {
        match self {
            Coding::Identity => true,
            Coding::Gzip | Coding::Deflate => cfg!(feature = "alloc"),
            Coding::Brotli => cfg!(feature = "br-encoder"),
            Coding::Zstd => cfg!(feature = "zstd-encoder"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_without_case_and_with_white_space_around_them() {
        for (value, coding) in [
            ("gzip", Coding::Gzip),
            ("\tX-gZIP ", Coding::Gzip),
            ("Deflate", Coding::Deflate),
            ("identity", Coding::Identity),
            (", ,gzip ,", Coding::Gzip),
        ] {
            assert_eq!(Coding::of(value.as_bytes()), Ok(coding), "{value:?}");
        }
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            let found = Coding::of(coding.name().as_bytes());
            match coding {
                Coding::Brotli | Coding::Zstd if !coding.is_supported() => {
                    assert_eq!(found.unwrap_err().rule, Rule::CodingUnknown);
                }
                _ => assert_eq!(found, Ok(coding)),
            }
        }
    }

    // ENC-03
    #[test]
    fn chains_unknown_names_and_identity_in_company_are_refused_where_they_stand() {
        for (value, rule, at) in [
            ("", Rule::CodingUnknown, 0),
            (" , ", Rule::CodingUnknown, 0),
            ("brotli", Rule::CodingUnknown, 0),
            ("x-zstd", Rule::CodingUnknown, 0),
            ("compress", Rule::CodingUnknown, 0),
            ("gzipx", Rule::CodingUnknown, 0),
            ("gzip;q=1", Rule::CodingUnknown, 0),
            ("gz ip", Rule::CodingUnknown, 0),
            ("gzip, brotli", Rule::CodingUnknown, 6),
            ("identity, gzip", Rule::CodingUnknown, 10),
            ("gzip,identity", Rule::CodingUnknown, 5),
            ("gzip, x-gzip", Rule::CodingLayers, 6),
            ("gzip,,deflate", Rule::CodingLayers, 6),
        ] {
            let v = Coding::of(value.as_bytes()).unwrap_err();
            assert_eq!((v.rule, v.at), (rule, at), "{value:?}");
            assert_eq!(v.status(), 415);
        }
        let long = [b"gzip,".as_slice(); 20_000].concat();
        assert_eq!(Coding::of(&long).unwrap_err().at, 5);
    }

    #[test]
    fn what_a_415_offers_is_what_is_decoded() {
        for name in ACCEPT.split(", ") {
            assert!(Coding::of(name.as_bytes()).is_ok_and(Coding::is_supported));
        }
    }
}
