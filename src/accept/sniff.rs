//! In: the first plaintext bytes of a connection whose version nobody has agreed on. Out: the version of HTTP that they speak.
//!
//! One comparison, with HTTP/2's preface. Everything else is HTTP/1.1's, whose first rule says what is wrong with it: a ClientHello on a
//! plain port begins with a control byte and is answered 400 (TLS-10). On a TLS port it is the records that say so, and
//! where ALPN has agreed on a version nobody sniffs (TLS-08).

/// What the first bytes say.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Spoken {
    /// Nothing yet: there are none.
    Silence,
    /// So many more bytes are needed to tell.
    Unclear {
        want: usize,
    },
    Http1,
    Http2,
}

/// `preface`: HTTP/2's (RFC 9113 §3.4), where that is spoken.
pub(crate) fn version(plain: &[u8], preface: Option<&[u8]>) -> Spoken {
    match preface {
        _ if plain.is_empty() => Spoken::Silence,
        Some(preface) if plain.starts_with(preface) => Spoken::Http2,
        Some(preface) if preface.starts_with(plain) => Spoken::Unclear { want: preface.len() - plain.len() },
        _ => Spoken::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn every_prefix_of_the_preface_is_unclear_and_one_other_byte_is_not() {
        assert_eq!(version(b"", Some(PREFACE)), Spoken::Silence);
        for n in 1..PREFACE.len() {
            assert_eq!(version(&PREFACE[..n], Some(PREFACE)), Spoken::Unclear { want: PREFACE.len() - n });
            let mut other = PREFACE[..n].to_vec();
            other[n - 1] ^= 1;
            assert_eq!(version(&other, Some(PREFACE)), Spoken::Http1);
        }
        assert_eq!(version(&[PREFACE, b"more"].concat(), Some(PREFACE)), Spoken::Http2);
        assert_eq!(version(PREFACE, None), Spoken::Http1, "where HTTP/2 is not spoken, nothing is waited for");
        assert_eq!(version(b"\x16\x03\x01", Some(PREFACE)), Spoken::Http1, "a ClientHello is judged as a request line");
    }
}
