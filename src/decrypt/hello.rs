//! In: a whole ClientHello message. Out: the server name and the application protocols that it offers.
//!
//! This is a peek, not a judgement: whatever does not parse is taken for absent, and the TLS library says no later.

/// What a ClientHello offers (RFC 8446 §4.1.2), before anything was chosen.
#[derive(Copy, Clone, Debug)]
pub struct Hello<'a> {
    /// The first host name of the server_name extension (RFC 6066 §3), as sent: 1 to 255 visible ASCII bytes.
    pub sni: Option<&'a str>,
    /// The protocols of the ALPN extension (RFC 7301 §3.1), in the client's order; empty without one.
    pub alpn: Protocols<'a>,
}

/// The protocol names of an ALPN offer, each as bytes (`b"h2"`, `b"http/1.1"`).
#[derive(Copy, Clone, Debug, Default)]
pub struct Protocols<'a>(&'a [u8]);

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut rest = Reader(self.0);
        let name = rest.vec8().filter(|name| !name.is_empty());
        self.0 = if name.is_some() { rest.0 } else { &[] };
        name
    }
}

/// The places of interest in a ClientHello.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) sni: Option<&'a str>,
    pub(super) alpn: &'a [u8],
    pub(super) early_data: bool,
}

impl<'a> Hello<'a> {
    pub(super) fn new(sni: Option<&'a str>, alpn: &'a [u8]) -> Hello<'a> {
        Hello { sni, alpn: Protocols(alpn) }
    }
}

/// Looks into a handshake message (with its 4-byte header) that should be a ClientHello.
pub(super) fn peek(message: &[u8]) -> Found<'_> {
    let mut found = Found::default();
    let mut extensions = match extensions(message) {
        Some(extensions) => Reader(extensions),
        None => return found,
    };
    let (mut names, mut protocols) = (None, None);
    while let (Some(kind), Some(data)) = (extensions.u16(), extensions.vec16()) {
        match kind {
            0 => _ = names.get_or_insert(data),
            16 => _ = protocols.get_or_insert(data),
            42 => found.early_data = true,
            _ => {}
        }
    }
    found.sni = names.and_then(host_name);
    found.alpn = protocols.and_then(|data| Reader(data).vec16()).unwrap_or_default();
    found
}

// RFC 8446 §4.1.2
fn extensions(message: &[u8]) -> Option<&[u8]> {
    let mut hello = Reader(message);
    hello.take(4)?; // message type and length
    hello.take(2 + 32)?; // legacy_version, random
    hello.vec8()?; // legacy_session_id
    hello.vec16()?; // cipher_suites
    hello.vec8()?; // legacy_compression_methods
    hello.vec16()
}

// RFC 6066 §3: a list of (type, name); type 0 is a host name.
fn host_name(data: &[u8]) -> Option<&str> {
    let mut list = Reader(Reader(data).vec16()?);
    while let (Some(kind), Some(name)) = (list.u8(), list.vec16()) {
        if kind == 0 {
            let fits = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
            return core::str::from_utf8(name).ok().filter(|_| fits);
        }
    }
    None
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn vec16(data: &[u8]) -> Vec<u8> {
        [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vec16(data)].concat()
    }

    fn client_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]); // random
        body.extend([1, 0xaa]); // session id
        body.extend([0, 2, 0x13, 1]); // one cipher suite
        body.extend([1, 0]); // no compression
        body.extend(vec16(&extensions.concat()));
        let mut message = vec![1, 0];
        message.extend(vec16(&body));
        message
    }

    fn sni(entries: &[(u8, &[u8])]) -> Vec<u8> {
        let list: Vec<u8> = entries.iter().flat_map(|(kind, name)| [vec![*kind], vec16(name)].concat()).collect();
        extension(0, &vec16(&list))
    }

    #[test]
    fn finds_the_name_and_the_protocols() {
        let message = client_hello(&[
            extension(43, &[2, 3, 4]),
            extension(16, &vec16(b"\x02h2\x08http/1.1")),
            sni(&[(9, b"other"), (0, b"a.example"), (0, b"b.example")]),
        ]);
        let found = peek(&message);
        assert_eq!(found.sni, Some("a.example"));
        assert!(!found.early_data);
        let hello = Hello::new(found.sni, found.alpn);
        assert_eq!(hello.alpn.collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    }

    #[test]
    fn absent_means_absent() {
        let message = client_hello(&[extension(42, b"")]);
        let found = peek(&message);
        assert_eq!((found.sni, found.alpn), (None, &b""[..]));
        assert!(found.early_data);
        for name in [&b""[..], b"a b", b"\xff", &[b'a'; 256]] {
            assert_eq!(peek(&client_hello(&[sni(&[(0, name)])])).sni, None);
        }
    }

    #[test]
    fn a_list_that_lies_about_its_length_ends_there() {
        assert_eq!(Protocols(b"\x02h2\x09short").collect::<Vec<_>>(), [b"h2"]);
        assert_eq!(Protocols(b"\x00\x02h2").count(), 0);
    }

    #[test]
    fn never_panics_whatever_is_cut_or_flipped() {
        let message = client_hello(&[sni(&[(0, b"a.example")]), extension(16, &vec16(b"\x02h2"))]);
        for end in 0..message.len() {
            peek(&message[..end]);
        }
        for at in 0..message.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bent = message.clone();
                bent[at] = byte;
                let found = peek(&bent);
                Hello::new(found.sni, found.alpn).alpn.count();
            }
        }
    }
}
