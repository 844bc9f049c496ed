//! In: what went wrong, or a text for people. Out: the status of gRPC for it, and the text as a field value.

use crate::base::{Rule, Violation};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $number:literal $text:literal;)*) => {
        /// A status of gRPC, as [statuscodes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) lists them.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Code { $($(#[$doc])* $name = $number),* }

        impl Code {
            /// All of them, by their numbers.
            pub const ALL: [Code; 17] = [$(Code::$name),*];

            /// The value of `grpc-status`.
            pub const fn digits(self) -> &'static str {
                match self { $(Code::$name => stringify!($number)),* }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }
        }
    };
}

codes! {
    /// No error.
    Ok 0 "OK";
    /// The caller cancelled it.
    Cancelled 1 "CANCELLED";
    /// Nobody knows.
    Unknown 2 "UNKNOWN";
    /// The caller said something that makes no sense.
    InvalidArgument 3 "INVALID_ARGUMENT";
    /// The time was over.
    DeadlineExceeded 4 "DEADLINE_EXCEEDED";
    /// There is no such thing.
    NotFound 5 "NOT_FOUND";
    /// It is there already.
    AlreadyExists 6 "ALREADY_EXISTS";
    /// The caller is known and may not do that.
    PermissionDenied 7 "PERMISSION_DENIED";
    /// Too much, or too large.
    ResourceExhausted 8 "RESOURCE_EXHAUSTED";
    /// The state of the system does not allow it.
    FailedPrecondition 9 "FAILED_PRECONDITION";
    /// It was aborted, mostly because of something concurrent.
    Aborted 10 "ABORTED";
    /// Beyond what is valid.
    OutOfRange 11 "OUT_OF_RANGE";
    /// There is no such method, or what it needs.
    Unimplemented 12 "UNIMPLEMENTED";
    /// Something that has to hold does not.
    Internal 13 "INTERNAL";
    /// Not now.
    Unavailable 14 "UNAVAILABLE";
    /// Data is lost or damaged.
    DataLoss 15 "DATA_LOSS";
    /// The caller is not known.
    Unauthenticated 16 "UNAUTHENTICATED";
}

impl Code {
    /// Its number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What a broken rule is in gRPC.
    ///
    /// Caps are `RESOURCE_EXHAUSTED` and what is not known is `UNIMPLEMENTED`, as the protocol has it; broken framing, compression
    /// and messages are `INTERNAL`, as the implementations have it.
    pub const fn of(violation: &Violation) -> Code {
        match violation.rule {
            Rule::GrpcEncoding => Code::Unimplemented,
            Rule::GrpcTooLarge | Rule::ProtobufTooLarge | Rule::ProtobufTooMany | Rule::ProtobufDepth => {
                Code::ResourceExhausted
            }
            _ => match violation.status() {
                400 => Code::Internal,
                408 => Code::DeadlineExceeded,
                413 | 431 => Code::ResourceExhausted,
                status => Code::of_http(status),
            },
        }
    }

    /// What a client makes of an HTTP status that came without a `grpc-status`, as
    /// [http-grpc-status-mapping](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md) has it.
    pub const fn of_http(status: u16) -> Code {
        match status {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502 | 503 | 504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }
}

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// A text as the value of `grpc-message`: what is not printable ASCII, and `%` itself, as `%XX`. Spaces at either end are
/// escaped too, for a field value has none there. What does not fit `buffer` is left out, whole characters at a time.
///
/// ```
/// use vestibule::decode::grpc::escape;
/// assert_eq!(escape("100 % gr\u{fc}n\n", &mut [0; 64]), "100 %25 gr%C3%BCn%0A");
/// assert_eq!(escape("gr\u{fc}n", &mut [0; 7]), "gr");
/// ```
pub fn escape<'b>(text: &str, buffer: &'b mut [u8]) -> &'b str {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).copied().unwrap_or(b'0');
    let is_plain = |at: usize, byte: u8| match byte {
        b' ' => at > 0 && at + 1 < text.len(),
        b'%' => false,
        _ => byte.is_ascii_graphic(),
    };
    let mut len = 0;
    'text: for (start, character) in text.char_indices() {
        let mut utf8 = [0; 4];
        let mut end = len;
        for (i, &byte) in character.encode_utf8(&mut utf8).as_bytes().iter().enumerate() {
            let escaped = [b'%', digit(byte >> 4), digit(byte)];
            let plain = [byte];
            let written: &[u8] = if is_plain(start + i, byte) { &plain } else { &escaped };
            let Some(space) = buffer.get_mut(end..end + written.len()) else { break 'text };
            space.copy_from_slice(written);
            end += written.len();
        }
        len = end;
    }
    // A text that was cut may end with a space.
    while len > 0 && buffer.get(len - 1) == Some(&b' ') {
        len -= 1;
    }
    core::str::from_utf8(buffer.get(..len).unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Limits;

    #[test]
    fn every_code_has_its_number() {
        for (n, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!((usize::from(code.number()), code.digits()), (n, n.to_string().as_str()));
        }
    }

    #[test]
    fn every_rule_has_a_code_and_none_of_them_is_success() {
        for &rule in Rule::ALL {
            assert_ne!(Code::of(&Violation::over(rule, 0, &Limits::DEFAULT)), Code::Ok, "{rule:?}");
        }
        for (rule, code) in [
            (Rule::GrpcUnnamedEncoding, Code::Internal),
            (Rule::GrpcEncoding, Code::Unimplemented),
            (Rule::DecodedTooLarge, Code::ResourceExhausted),
            (Rule::GzipTrailer, Code::Internal),
            (Rule::DecoderPool, Code::Unavailable),
            (Rule::BodyTooSlow, Code::DeadlineExceeded),
        ] {
            assert_eq!(Code::of(&Violation::new(rule, 0)), code, "{rule:?}");
        }
    }

    #[test]
    fn what_is_escaped_is_a_field_value_and_can_be_read_again() {
        let mut all: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        all.push('\u{1f600}');
        for text in ["", " ", "  a  b ", "%41", "\u{1f600}", &all] {
            let mut buffer = [0; 4_096];
            let escaped = escape(text, &mut buffer);
            assert!(escaped.bytes().all(|b| matches!(b, b' '..=b'~')) && escaped.trim() == escaped, "{escaped:?}");
            let (mut read, mut rest) = (Vec::new(), escaped.as_bytes());
            while let Some((&byte, after)) = rest.split_first() {
                let hex = &escaped[escaped.len() - after.len()..];
                let (byte, after) = match byte {
                    b'%' => (u8::from_str_radix(&hex[..2], 16).expect("hex"), &after[2..]),
                    _ => (byte, after),
                };
                read.push(byte);
                rest = after;
            }
            assert_eq!(String::from_utf8(read).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_whole_characters() {
        let text = "a \u{fc}b\u{1f600}";
        let whole = "a %C3%BCb%F0%9F%98%80";
        for room in 0..40 {
            let mut buffer = vec![0; room];
            let got = escape(text, &mut buffer);
            assert!(whole.starts_with(got) && got.len() <= room);
            assert!(["", "a", "a %C3%BC", "a %C3%BCb", whole].contains(&got), "{got:?}");
        }
    }
}
