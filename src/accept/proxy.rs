//! The PROXY protocol, versions 1 and 2, for receivers (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//! In: the first bytes of a connection from a proxy. Out: whom it speaks for, or the rule that it broke.
//!
//! ```text
//! PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 CRLF      version 1: one line, at most 107 bytes
//! signature(12) 2|command  family|transport  length(2)  addresses  TLVs          version 2
//! ```
//! Who may say that is a matter of configuration, never of guessing (§2, §5): whoever is not trusted must not be asked for a
//! header, and if it sends one, it is a bad request. What does not match is refused, at the first byte that shows it.

use super::tlv::{self, Tlvs};
use crate::base::{Limit, Limits, Rule, Violation};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";
/// A line of version 1 with its CRLF at most (§2.1).
const MOST_LINE: usize = 107;
/// What version 2 begins with (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What stands in front of the addresses of version 2.
const FIXED: usize = 16;
/// An address of a Unix socket (§2.2).
const UNIX: usize = 108;

/// Why the proxy opened the connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Command {
    /// For itself, as for a health check: the socket's own addresses count.
    #[default]
    Local,
    /// For somebody else.
    Proxy,
}

/// The two ends of a connection that a proxy forwards.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoints {
    /// Who opened it.
    pub source: SocketAddr,
    /// Whom it called.
    pub destination: SocketAddr,
}

/// A complete header, without the buffer that it lies in.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Bytes of the header: what follows them is the connection's.
    pub len: u32,
    /// 1 or 2.
    pub version: u8,
    /// For whom the proxy speaks.
    pub command: Command,
    /// The ends of the forwarded connection. `None`: they are no TCP addresses, or the proxy speaks for itself, or does not know.
    pub endpoints: Option<Endpoints>,
    /// The addresses are those of Unix sockets.
    unix: bool,
    /// Where the TLVs begin; `len` without any.
    tlvs: u32,
}

/// What the machine wants next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// At least so many bytes more; exact where a length says so, else 1.
    Need {
        /// Bytes.
        want: usize,
    },
    /// The header is complete.
    Header(Found),
}

/// Reads one header. It keeps nothing but how far it has looked.
///
/// ```
/// use vestibule::{Limits, accept::proxy::{Item, Receiver}};
/// let bytes = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n";
/// let mut receiver = Receiver::new();
/// assert_eq!(receiver.step(&bytes[..9], &Limits::DEFAULT), Ok(Item::Need { want: 1 }));
/// let Ok(Item::Header(found)) = receiver.step(bytes, &Limits::DEFAULT) else { panic!("all of it is here") };
/// assert_eq!(found.endpoints.unwrap().source.to_string(), "192.0.2.1:56324");
/// assert_eq!(&bytes[found.len as usize..][..3], b"GET");
/// ```
#[derive(Copy, Clone, Default, Debug)]
pub struct Receiver {
    /// At most `MOST_LINE`.
    seen: u8,
}

impl Receiver {
    /// Nothing has come yet.
    pub const fn new() -> Receiver {
        Receiver { seen: 0 }
    }

    /// `bytes`: all that has come so far, from the connection's first byte on, and whatever follows the header.
    ///
    /// # Errors
    /// The rule that was broken, at an offset of `bytes`, the same however they were cut. The connection is to be closed without an
    /// answer: who speaks at its other end is not known.
    pub fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<Item, Violation> {
        match bytes.first() {
            None => Ok(Item::Need { want: 1 }),
            Some(b'P') => self.line(bytes),
            Some(b'\r') => self.binary(bytes, limits),
            Some(_) => Err(Violation::new(Rule::ProxySignature, 0)),
        }
    }

    /// §2.1. The line's end is found first; nothing in it is read before.
    fn line(&mut self, bytes: &[u8]) -> Result<Item, Violation> {
        self.begins_with(bytes, WORD)?;
        while let Some(&byte) = bytes.get(usize::from(self.seen)) {
            let here = usize::from(self.seen);
            let bad = |rule| Err(Violation::new(rule, here as u64));
            let after_cr = bytes.get(..here).is_some_and(|before| before.ends_with(b"\r"));
            match byte {
                _ if here >= MOST_LINE => return bad(Rule::ProxyLineTooLong),
                b'\n' if after_cr => {
                    let line = bytes.get(WORD.len()..here - 1).unwrap_or_default();
                    let endpoints = endpoints(line).map_err(|rule| Violation::new(rule, WORD.len() as u64))?;
                    let len = here as u32 + 1;
                    let command = Command::Proxy;
                    return Ok(Item::Header(Found { len, version: 1, command, endpoints, unix: false, tlvs: len }));
                }
                b'\n' => return bad(Rule::ProxyLine),
                _ if after_cr => return bad(Rule::ProxyLine),
                _ => self.seen += 1,
            }
        }
        Ok(Item::Need { want: 1 })
    }

    /// Every byte that is here is the constant's. How it goes on behind it is for the caller to say.
    fn begins_with(&mut self, bytes: &[u8], constant: &[u8]) -> Result<(), Violation> {
        for (&expected, &byte) in constant.iter().zip(bytes).skip(usize::from(self.seen)) {
            if byte != expected {
                return Err(Violation::new(Rule::ProxySignature, u64::from(self.seen)));
            }
            self.seen += 1;
        }
        Ok(())
    }

    /// §2.2. The fixed part is judged byte by byte, the rest once all of it is here.
    fn binary(&mut self, bytes: &[u8], limits: &Limits) -> Result<Item, Violation> {
        self.begins_with(bytes, SIGNATURE)?;
        let bad = |rule, at| Err(Violation::new(rule, at));
        let command = match bytes.get(12) {
            Some(0x20) => Command::Local,
            Some(0x21) => Command::Proxy,
            Some(_) => return bad(Rule::ProxyVersion, 12),
            None => return Ok(Item::Need { want: FIXED - bytes.len() }),
        };
        let Some(&family) = bytes.get(13) else { return Ok(Item::Need { want: FIXED - bytes.len() }) };
        // A proxy that speaks for itself may say anything here (§2.2).
        if command == Command::Proxy && (family >> 4 > 3 || family & 15 > 2) {
            return bad(Rule::ProxyFamily, 13);
        }
        let Some(Ok(length)) = bytes.get(14..FIXED).map(<[u8; 2]>::try_from) else {
            return Ok(Item::Need { want: FIXED - bytes.len() });
        };
        let len = FIXED + usize::from(u16::from_be_bytes(length));
        if len as u64 > limits.get(Limit::ProxyHeaderBytes) {
            return Err(Violation::over(Rule::ProxyTooLong, 14, limits));
        }
        let addresses = match (command, family) {
            (Command::Local, _) => None,
            (_, 0x11) => Some(12),
            (_, 0x21) => Some(36),
            (_, 0x31) => Some(2 * UNIX),
            _ => None,
        };
        if addresses.is_some_and(|n| len < FIXED + n) {
            return bad(Rule::ProxyLength, 14);
        }
        let Some(header) = bytes.get(..len) else { return Ok(Item::Need { want: len - bytes.len() }) };
        // Nobody knows where addresses end that are not known: then all of the block is skipped.
        let tlvs = addresses.map_or(len, |n| FIXED + n);
        tlv::check(header, tlvs)?;
        let block = header.get(FIXED..tlvs).unwrap_or_default();
        let endpoints = if addresses.is_some() { binary_endpoints(block) } else { None };
        let unix = addresses == Some(2 * UNIX);
        Ok(Item::Header(Found { len: len as u32, version: 2, command, endpoints, unix, tlvs: tlvs as u32 }))
    }
}

/// `source destination ports`, in network byte order.
fn binary_endpoints(block: &[u8]) -> Option<Endpoints> {
    let (addresses, ports) = block.split_last_chunk::<4>()?;
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let address = |bytes: &[u8]| match bytes.len() {
        4 => bytes.try_into().ok().map(|b: [u8; 4]| IpAddr::from(b)),
        16 => bytes.try_into().ok().map(|b: [u8; 16]| IpAddr::from(b)),
        _ => None,
    };
    let [a, b, c, d] = *ports;
    Some(Endpoints {
        source: SocketAddr::new(address(source)?, u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(address(destination)?, u16::from_be_bytes([c, d])),
    })
}

/// What stands between `PROXY ` and CRLF: `TCP4 source destination port port`, or `UNKNOWN` and anything (§2.1).
fn endpoints(line: &[u8]) -> Result<Option<Endpoints>, Rule> {
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let mut parts = line.split(|&b| b == b' ').map(|part| core::str::from_utf8(part).unwrap_or_default());
    let mut part = || parts.next().ok_or(Rule::ProxyLine);
    let [family, source, destination, from, to] = [part()?, part()?, part()?, part()?, part()?];
    if parts.next().is_some() {
        return Err(Rule::ProxyLine);
    }
    let address = |text: &str| match family {
        // Both readers take what §2.1 describes and nothing else, but for one form: an IPv4 address at the end of one of IPv6, as
        // RFC 4291 §2.2 has it and several proxies send it.
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Rule::ProxyAddress),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Rule::ProxyAddress),
        _ => Err(Rule::ProxyLine),
    };
    Ok(Some(Endpoints {
        source: SocketAddr::new(address(source)?, port(from)?),
        destination: SocketAddr::new(address(destination)?, port(to)?),
    }))
}

/// A decimal number without a leading zero, up to 65535.
fn port(text: &str) -> Result<u16, Rule> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Rule::ProxyAddress)
}

impl Found {
    /// The header in the buffer that it was found in.
    pub fn of(self, bytes: &[u8]) -> Header<'_> {
        Header { found: self, bytes: bytes.get(..self.len as usize).unwrap_or_default() }
    }
}

/// A complete header where it lies: what the proxy says about the connection that it forwards. It is worth as much as the proxy is.
#[derive(Copy, Clone)]
pub struct Header<'a> {
    found: Found,
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    /// What is known of it without its bytes.
    pub fn found(self) -> Found {
        self.found
    }

    /// The ends of the forwarded connection, if they are TCP addresses.
    pub fn endpoints(self) -> Option<Endpoints> {
        self.found.endpoints
    }

    /// The addresses of the Unix sockets that were connected, source and destination: paths, or abstract names behind a NUL; what fills
    /// them up is cut off.
    pub fn unix(self) -> Option<(&'a [u8], &'a [u8])> {
        if !self.found.unix {
            return None;
        }
        let (source, destination) = self.bytes.get(FIXED..FIXED + 2 * UNIX)?.split_at(UNIX);
        let name = |bytes: &'a [u8]| {
            let filled = bytes.iter().rev().take_while(|&&b| b == 0).count();
            bytes.get(..bytes.len() - filled).unwrap_or_default()
        };
        Some((name(source), name(destination)))
    }

    /// All values behind the addresses, of types that are known here and of others.
    pub fn tlvs(self) -> Tlvs<'a> {
        Tlvs::new(self.bytes.get(self.found.tlvs as usize..).unwrap_or_default())
    }

    /// The protocol that the client and the proxy agreed on (§2.2.1; RFC 7301).
    pub fn alpn(self) -> Option<&'a [u8]> {
        self.tlvs().get(tlv::ALPN)
    }

    /// The host that the client called (§2.2.2).
    pub fn authority(self) -> Option<&'a str> {
        core::str::from_utf8(self.tlvs().get(tlv::AUTHORITY)?).ok()
    }

    /// What names the connection in the logs of all proxies on its way (§2.2.5).
    pub fn unique_id(self) -> Option<&'a [u8]> {
        self.tlvs().get(tlv::UNIQUE_ID)
    }

    /// How the connection of the client is protected, as far as its proxy (§2.2.6). `None`: not at all, or that was not said.
    pub fn tls(self) -> Option<Tls<'a>> {
        Tls::new(self.tlvs().get(tlv::TLS)?).filter(|tls| tls.flags & 1 == 1)
    }

    /// The name of the network namespace (§2.2.7).
    pub fn namespace(self) -> Option<&'a [u8]> {
        self.tlvs().get(tlv::NAMESPACE)
    }
}

impl core::fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Header").field("found", &self.found).finish_non_exhaustive()
    }
}

/// How a client's connection to its proxy is protected (§2.2.6).
#[derive(Copy, Clone, Debug)]
pub struct Tls<'a> {
    flags: u8,
    verify: u32,
    tlvs: &'a [u8],
}

impl<'a> Tls<'a> {
    /// `client(1) verify(4) TLVs`
    pub(super) fn new(value: &'a [u8]) -> Option<Tls<'a>> {
        let ([flags, verify @ ..], tlvs) = value.split_first_chunk::<5>()?;
        Some(Tls { flags: *flags, verify: u32::from_be_bytes(*verify), tlvs })
    }

    /// The client showed a certificate, on this connection or earlier in its session.
    pub fn has_certificate(self) -> bool {
        self.flags & 6 != 0
    }

    /// It did, and the proxy has verified it.
    pub fn is_verified(self) -> bool {
        self.has_certificate() && self.verify == 0
    }

    /// As `TLSv1.3`.
    pub fn version(self) -> Option<&'a str> {
        self.text(tlv::TLS_VERSION)
    }

    /// The Common Name in the client's certificate.
    pub fn common_name(self) -> Option<&'a str> {
        self.text(tlv::TLS_COMMON_NAME)
    }

    /// The cipher suite, in the words of the proxy's library.
    pub fn cipher(self) -> Option<&'a str> {
        self.text(tlv::TLS_CIPHER)
    }

    /// How the proxy's certificate is signed.
    pub fn signature(self) -> Option<&'a str> {
        self.text(tlv::TLS_SIGNATURE)
    }

    /// Kind and length of the key in the proxy's certificate.
    pub fn key(self) -> Option<&'a str> {
        self.text(tlv::TLS_KEY)
    }

    /// All of its values.
    pub fn tlvs(self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }

    fn text(self, kind: u8) -> Option<&'a str> {
        core::str::from_utf8(self.tlvs().get(kind)?).ok()
    }
}

#[cfg(test)]
mod tests;
