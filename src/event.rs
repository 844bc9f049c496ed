//! What comes out of the machine. No type parameters: the storage was erased at the skin. Everything borrows, nothing is owned.

use crate::base::{Identity, Misuse, Span, Violation};
use crate::decode::media::MediaType;
use crate::decode::text::charset;
use crate::parse::h1::Version;
use crate::parse::semantics;
use crate::parse::{Content, Id};
use crate::reply::Reply;

/// One thing that happened. Its loan ends with the next call of [`Turn::next`](crate::Turn::next), or with the turn.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // lent one at a time, never stored
pub enum Event<'a> {
    /// What a proxy says about the connection, where [`Config::with_proxy_header`](crate::Config) asks for it: once, in front of all
    /// else. [`Connection::source`](crate::Connection) and [`Request::source`] keep its addresses.
    Proxied(crate::accept::proxy::Header<'a>),
    /// TLS: whom does the client call? Left without a choice, the turn ends with `Wait::Config`.
    Hello(Hello<'a>),
    /// A request's head. Its body, if there is one, follows as the handle's `expect` says.
    Request(Request<'a>),
    /// A part of a body, or all of it.
    Body(Body<'a>),
    /// The trailer section: nothing of this request follows.
    Trailers(Trailers<'a>),
    /// There is room again for an exchange whose `write` took less than it was offered.
    Writable(Reply<'a>),
    /// Bytes behind an upgrade or a CONNECT.
    Tunnel(Tunnel<'a>),
    /// This exchange is over before it was complete: the peer gave up, or broke a rule. Its id is dead.
    Aborted {
        /// Which exchange.
        id: Id,
        /// The handler's own number of it.
        tag: u64,
        /// The rule, if one was broken.
        why: Option<Violation>,
    },
    /// The connection is over; what the peer is told lies in the outbox already. Comes once; keep turning until `Pause::Closed`.
    Fault(Violation),
}

/// The ClientHello of a connection that waits for its configuration.
pub struct Hello<'a> {
    /// The server name, if one was sent (RFC 6066 §3).
    pub sni: Option<&'a str>,
    #[cfg(feature = "tls")]
    pub(crate) hello: Option<crate::decrypt::Hello<'a>>,
    #[cfg(feature = "tls")]
    pub(crate) choice: &'a mut Option<Result<crate::decrypt::TlsConfig, crate::base::Rule>>,
}

impl Hello<'_> {
    /// The protocols that the client offers, in its order (RFC 7301).
    #[cfg(feature = "tls")]
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        self.hello.iter().flat_map(|h| h.alpn)
    }

    /// The configuration to go on with.
    #[cfg(feature = "tls")]
    pub fn choose(self, config: crate::decrypt::TlsConfig) {
        *self.choice = Some(Ok(config));
    }

    /// Nobody of that name is here: the connection ends with the alert unrecognized_name (RFC 6066 §3).
    #[cfg(feature = "tls")]
    pub fn refuse(self) {
        *self.choice = Some(Err(crate::base::Rule::TlsServerName));
    }
}

impl core::fmt::Debug for Hello<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hello").field("sni", &self.sni).finish_non_exhaustive()
    }
}

/// A request, up to its body.
#[derive(Debug)]
pub struct Request<'a> {
    /// Method, target, version and fields.
    pub head: Head<'a>,
    /// A body follows.
    pub has_body: bool,
    /// How the connection is protected; `None` on a plain one.
    pub tls: Option<Session<'a>>,
    /// The ends of the connection that a proxy forwards, if it was asked and has said so.
    pub source: Option<&'a crate::accept::proxy::Endpoints>,
    /// The handle that answers it.
    pub reply: Reply<'a>,
}

impl Request<'_> {
    /// Which of these media types the content has: the place in `types` of the first one that fits. `application/json` fits itself,
    /// whatever its parameters, `text/*` all of them, `*/*` everything. If none fits, the request is answered: 415, with an
    /// `Accept` that says what is taken (RFC 9110 §15.5.16, §12.5.1), and nothing is left to do.
    ///
    /// No Content-Type counts as `application/octet-stream` (RFC 9110 §8.3), and so with no content. A Content-Type that cannot be read
    /// fits nothing, and so does one whose charset is neither UTF-8 nor ASCII.
    ///
    /// ```
    /// # use vestibule::*;
    /// # fn handle(event: Event<'_>) -> Result<(), Misuse> {
    /// if let Event::Request(mut request) = event {
    ///     match request.takes(&["application/json", "application/x-www-form-urlencoded"])? {
    ///         Some(kind) => { request.reply.set_tag(kind as u64).expect(Expect::Whole { max: 65_536 }); }
    ///         None => {} // 415 has been said
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The 415 could not be written; see [`Reply::respond`].
    pub fn takes(&mut self, types: &[&str]) -> Result<Option<usize>, Misuse> {
        if let Some(place) = fits(self.head.fields, types) {
            return Ok(Some(place));
        }
        let (mut list, mut length) = ([0; ACCEPT_BYTES], 0);
        for element in types {
            let separator = if length == 0 { "" } else { ", " };
            let end = length + separator.len() + element.len();
            // A list of what is taken need not be complete.
            let Some(place) = list.get_mut(length..end) else { break };
            let (before, here) = place.split_at_mut(separator.len());
            before.copy_from_slice(separator.as_bytes());
            here.copy_from_slice(element.as_bytes());
            length = end;
        }
        let accept = list.get(..length).and_then(|list| core::str::from_utf8(list).ok()).unwrap_or_default();
        let fields = [("accept", accept)];
        self.reply.respond(415, if types.is_empty() { &[] } else { &fields }, Content::Whole(b""))?;
        Ok(None)
    }
}

/// How long the `Accept` of a 415 can be.
const ACCEPT_BYTES: usize = 512;

/// Which of the types the content of a request with these fields has.
fn fits(fields: Fields<'_>, types: &[&str]) -> Option<usize> {
    let mut values = fields.all("content-type");
    let value = values.next().unwrap_or(b"application/octet-stream");
    // RFC 9110 §8.3: one that stands twice is not known.
    if values.next().is_some() {
        return None;
    }
    let media = MediaType::parse(value).ok()?;
    charset(value).ok()?;
    types.iter().position(|range| media.is(range))
}

/// The parts of a request's head. `Copy`: keep it beside the handle while answering.
#[derive(Copy, Clone, Debug)]
pub struct Head<'a> {
    /// The method, as sent: a token (RFC 9110 §9).
    pub method: &'a str,
    /// The request target, as sent: visible ASCII (RFC 9112 §3.2).
    pub target: &'a str,
    /// The host that is meant, with its port if one was given; empty if none was (RFC 9110 §7.2).
    pub authority: &'a str,
    /// The version that the message came in.
    pub version: Version,
    /// The protocols that the client wants to change to: of a valid `Upgrade` in HTTP/1.1, of an extended CONNECT in HTTP/2
    /// (RFC 8441): `websocket` for both. [`Reply::upgrade`] accepts.
    pub protocol: Option<&'a str>,
    /// The field lines.
    pub fields: Fields<'a>,
}

impl<'a> Head<'a> {
    /// The path: the target without scheme, authority and query. `*` and a CONNECT's authority stay as they are.
    pub fn path(&self) -> &'a str {
        let path = self.origin();
        path.split_once('?').map_or(path, |p| p.0)
    }

    /// The query behind `?`, if there is one.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|p| p.1)
    }

    fn origin(&self) -> &'a str {
        if self.target.starts_with('/') {
            return self.target;
        }
        match self.target.split_once("://") {
            Some((_, rest)) => match rest.find(['/', '?']) {
                Some(i) if rest.as_bytes().get(i) == Some(&b'/') => rest.get(i..).unwrap_or("/"),
                _ => "/",
            },
            None => self.target,
        }
    }
}

/// A field section: validated `name: value` lines, the same in every version, read when asked. Names are tokens and compare without
/// case; values hold no control bytes but HTAB, and may hold bytes beyond ASCII.
#[derive(Copy, Clone)]
pub struct Fields<'a> {
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(lines: &'a [u8]) -> Fields<'a> {
        Fields { lines }
    }

    /// All lines in their order, names as sent.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.iter_bytes().filter_map(|(name, value)| Some((core::str::from_utf8(name).ok()?, value)))
    }

    /// The same, names as bytes: for those who look at them in a way of their own.
    pub fn iter_bytes(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut lines = self.lines;
        core::iter::from_fn(move || {
            let (name, rest) = lines.split_at_checked(semantics::find(lines, b':'))?;
            let rest = rest.get(1..)?;
            let end = semantics::line_end(rest);
            lines = rest.get(end + 2..).unwrap_or_default();
            Some((name, semantics::trim(rest.get(..end)?)))
        })
    }

    /// The lines as they lie, one behind the other, each with its CRLF. What [`Fields::iter`] lends lies in there.
    pub fn as_bytes(self) -> &'a [u8] {
        self.lines
    }

    /// The value of the first line with this name.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The same as text; `None` also if it is not UTF-8.
    pub fn text(self, name: &str) -> Option<&'a str> {
        core::str::from_utf8(self.get(name)?).ok()
    }

    /// The values of all lines with this name.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |f| f.0.eq_ignore_ascii_case(name)).map(|f| f.1)
    }
}

impl core::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter().map(|(n, v)| (n, v.escape_ascii()))).finish()
    }
}

/// What protects a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// `TLSv1.3`, or `TLSv1.2`.
    pub version: &'a str,
    /// The cipher suite, as IANA writes it.
    pub cipher: &'a str,
    /// The protocol that was agreed on, if one was (RFC 7301).
    pub alpn: Option<&'a [u8]>,
    /// The server name that the client called (RFC 6066 §3).
    pub sni: Option<&'a str>,
    /// The session was resumed by a ticket.
    pub resumed: bool,
    /// Who the client is, if it has sent a certificate; also in a resumed session.
    pub identity: Option<Identity<'a>>,
}

/// A part of a request's body, decoded.
#[derive(Debug)]
pub struct Body<'a> {
    /// The handler's own number of the exchange.
    pub tag: u64,
    /// The bytes, on loan.
    pub bytes: &'a [u8],
    /// This is the whole body (`Expect::Whole`).
    pub whole: bool,
    /// Nothing of this request follows.
    pub last: bool,
    /// The handle of the exchange.
    pub reply: Reply<'a>,
}

/// A request's trailer section (RFC 9110 §6.5).
#[derive(Debug)]
pub struct Trailers<'a> {
    /// The handler's own number of the exchange.
    pub tag: u64,
    /// Its lines; never merged into the header section.
    pub fields: Fields<'a>,
    /// The handle of the exchange.
    pub reply: Reply<'a>,
}

/// Bytes of a tunnel.
#[derive(Debug)]
pub struct Tunnel<'a> {
    /// The handler's own number of the exchange.
    pub tag: u64,
    /// The bytes, on loan.
    pub bytes: &'a [u8],
    /// The peer sends no more.
    pub last: bool,
    /// The handle of the exchange.
    pub reply: Reply<'a>,
}

/// An event without its borrows: what the stages make, and `turn` turns into an [`Event`].
#[derive(Copy, Clone, Debug)]
pub(crate) enum Raw {
    /// The header that the connection has found lies in front of the plaintext.
    Proxied,
    #[cfg(feature = "tls")]
    Hello,
    Request {
        id: u64,
        head: crate::parse::h1::HeadSpans,
        has_body: bool,
    },
    Body {
        id: u64,
        bytes: Lent,
        whole: bool,
        last: bool,
    },
    Trailers {
        id: u64,
        fields: Span,
    },
    Writable {
        id: u64,
    },
    Tunnel {
        id: u64,
        bytes: Lent,
        last: bool,
    },
    Aborted {
        id: u64,
        tag: u64,
        why: Option<Violation>,
    },
    Fault(Violation),
}

/// Where an event's bytes lie.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Lent {
    Nothing,
    /// The first so many bytes of the inbox's plaintext.
    Inbox(u32),
    /// The first so many bytes of what was kept of its stream.
    #[cfg(feature = "alloc")]
    Kept(u32),
    /// In the decoder's window.
    #[cfg(feature = "alloc")]
    Window(Span),
    /// In the gather buffer, all of it.
    #[cfg(feature = "alloc")]
    Gathered,
}
