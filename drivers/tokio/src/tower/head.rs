//! In: a request's head as the machine lends it; a response's head as the service made it. Out: each in the other's types.

use crate::tower::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, EXPECT, HeaderMap, HeaderName, HeaderValue, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use std::cell::RefCell;
use vestibule::{Fields, Head, Version};

/// How large the storages are in which targets and values of requests lie, many of them in one.
const STORE: usize = 4_096;
/// What is longer has a storage of its own.
const SHORT: usize = 2_048;
/// How many fields a section has at most whose memory is used again.
const LINES: usize = 64;

/// Memory for the heads of requests. One for all connections of a thread, so that idle ones hold none. What a service keeps of a request keeps the
/// storage that it lies in.
struct Store {
    bytes: BytesMut,
    map: HeaderMap,
}

thread_local! {
    static STORE_OF_THREAD: RefCell<Store> =
        RefCell::new(Store { bytes: BytesMut::with_capacity(STORE), map: HeaderMap::new() });
}

impl Store {
    /// A copy that the types of the `http` crate can share. It takes an allocation only when a storage is full.
    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > SHORT {
            return Bytes::copy_from_slice(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.split().freeze()
    }
}

/// A section that was sent: the next one that comes has its memory.
pub(super) fn recycle(mut map: HeaderMap) {
    if (1..=LINES).contains(&map.capacity()) {
        map.clear();
        // A thread that is ending receives nothing any more.
        let _ = STORE_OF_THREAD.try_with(|store| store.borrow_mut().map = map);
    }
}

/// A request without its extensions. `None`: what the machine let pass does not fit the types of the `http` crate; it is to be answered with 400.
pub(super) fn request(head: Head<'_>, tls: bool, body: Body, decoded: bool) -> Option<Request<Body>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.version_mut() = match head.version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
        Version::Http2 => http::Version::HTTP_2,
        Version::Http3 => http::Version::HTTP_3,
        _ => return None,
    };
    STORE_OF_THREAD.with_borrow_mut(|store| {
        *request.uri_mut() = uri(store, head, tls)?;
        *request.headers_mut() = lines(store, head.fields)?;
        Some(())
    })?;
    if decoded && request.headers_mut().remove(CONTENT_ENCODING).is_some() {
        request.headers_mut().remove(CONTENT_LENGTH); // that of the coded body
    }
    Some(request)
}

/// The target as it was sent; in HTTP/2 with what the other pseudo-fields say.
fn uri(store: &mut Store, head: Head<'_>, tls: bool) -> Option<Uri> {
    if matches!(head.version, Version::Http10 | Version::Http11) || !head.target.starts_with('/') {
        return match head.target {
            "/" => Some(Uri::default()),
            target => Uri::from_maybe_shared(store.keep(target.as_bytes())).ok(),
        };
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::from_maybe_shared(store.keep(head.authority.as_bytes())).ok()?);
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(store.keep(head.target.as_bytes())).ok()?);
    Uri::from_parts(parts).ok()
}

/// How many bytes a field line has, as it is guessed; most have more.
const LINE: usize = 32;

/// A field section; lines of one name stay apart, in their order. All of it is copied at once, and its values are parts of that.
fn lines(store: &mut Store, fields: Fields<'_>) -> Option<HeaderMap> {
    let bytes = fields.as_bytes();
    let mut map = std::mem::take(&mut store.map);
    map.try_reserve(bytes.len() / LINE + 1).ok()?;
    let (copy, start) = (store.keep(bytes), bytes.as_ptr() as usize);
    for (name, value) in fields.iter_bytes() {
        let at = (value.as_ptr() as usize).checked_sub(start)?;
        let end = at.checked_add(value.len()).filter(|&end| end <= copy.len())?;
        let value = HeaderValue::from_maybe_shared(copy.slice(at..end)).ok()?;
        map.try_append(HeaderName::from_bytes(name).ok()?, value).ok()?;
    }
    Some(map)
}

/// A trailer section, alike.
pub(super) fn trailers(fields: Fields<'_>) -> Option<HeaderMap> {
    STORE_OF_THREAD.with_borrow_mut(|store| lines(store, fields))
}

/// The client waits for 100 (Continue).
pub(super) fn expects(headers: &HeaderMap) -> bool {
    headers.get_all(EXPECT).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// How long the request's body is, where that is declared.
pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// What the machine says itself, or what belongs to the connection and not to the message (RFC 9110 §7.6.1).
fn is_of_the_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "content-length" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// So many fields are listed without an allocation.
const FEW: usize = 12;

/// What a response's header section says.
pub(super) struct Said<'f> {
    few: [(&'f str, &'f str); FEW],
    /// All of them, if there are more than a few.
    many: Vec<(&'f str, &'f str)>,
    len: usize,
    /// The length that it declares.
    pub(super) length: Option<u64>,
    /// The protocol that it changes to.
    pub(super) protocol: &'f str,
    /// The service wants the connection to end behind it.
    pub(super) closes: bool,
}

impl<'f> Said<'f> {
    pub(super) const fn new() -> Said<'f> {
        Said { few: [("", ""); FEW], many: Vec::new(), len: 0, length: None, protocol: "", closes: false }
    }

    /// Reads a response's header section once, and adds a Date if there is none. False: a value is no UTF-8 text, and the machine does not send it.
    #[must_use]
    pub(super) fn read(&mut self, headers: &'f HeaderMap, date: &'f str) -> bool {
        let mut dated = date.is_empty();
        for (name, value) in headers {
            if is_of_the_connection(name) {
                self.own(name, value);
                continue;
            }
            dated |= *name == DATE;
            let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return false };
            // Nearly nobody has something to trim.
            let ends = [value.as_bytes().first(), value.as_bytes().last()];
            let trimmed = ends.iter().all(|end| end.is_some_and(u8::is_ascii_graphic));
            self.push(name.as_str(), if trimmed { text } else { text.trim() });
        }
        if !dated {
            self.push("date", date);
        }
        true
    }

    /// The fields as the machine takes them.
    pub(super) fn fields(&self) -> &[(&'f str, &'f str)] {
        if self.many.is_empty() { self.few.get(..self.len).unwrap_or_default() } else { &self.many }
    }

    fn push(&mut self, name: &'f str, value: &'f str) {
        match self.few.get_mut(self.len) {
            Some(place) if self.many.is_empty() => *place = (name, value),
            _ => {
                if self.many.is_empty() {
                    self.many.extend_from_slice(&self.few);
                }
                self.many.push((name, value));
            }
        }
        self.len += 1;
    }

    /// A field that is the machine's own business: it is understood, and left out.
    fn own(&mut self, name: &HeaderName, value: &'f HeaderValue) {
        let Ok(value) = value.to_str() else { return };
        if *name == CONNECTION {
            self.closes |= value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
        } else if *name == CONTENT_LENGTH && self.length.is_none() {
            self.length = value.trim().parse().ok();
        } else if *name == UPGRADE && self.protocol.is_empty() {
            self.protocol = value;
        }
    }
}

/// Trailers that may be sent; the others are left out (RFC 9110 §6.5.1).
pub(super) fn trailer_fields(trailers: &HeaderMap) -> Vec<(&str, &str)> {
    let sendable = trailers.iter().filter(|(name, _)| !is_of_the_connection(name));
    sendable.filter_map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?))).collect()
}

/// The response has no content on the wire, whatever its body says (RFC 9110 §6.4.1, §15.3.6).
pub(super) fn is_silent(is_head: bool, status: StatusCode) -> bool {
    is_head || matches!(status.as_u16(), 204 | 205 | 304)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_are_left_out_and_a_date_is_added_once() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.append("connection", HeaderValue::from_static("keep-alive, Close"));
        headers.append("transfer-encoding", HeaderValue::from_static("chunked"));
        let read = |headers: &HeaderMap, expected: &[(&str, &str)]| {
            let mut said = Said::new();
            assert!(said.read(headers, "now") && said.closes);
            assert_eq!(said.fields(), expected);
        };
        read(&headers, &[("x-a", "1"), ("x-a", "2"), ("date", "now")]);
        headers.insert("date", HeaderValue::from_static("then"));
        read(&headers, &[("x-a", "1"), ("x-a", "2"), ("date", "then")]);
        headers.insert("x-b", HeaderValue::from_bytes(b"\xe9").unwrap());
        assert!(!Said::new().read(&headers, "now"), "Latin-1 is not guessed");
    }

    #[test]
    fn many_fields_are_listed_as_few_are() {
        for count in 0..3 * FEW {
            let mut headers = HeaderMap::new();
            let values: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            for value in &values {
                headers.append("x-a", HeaderValue::from_str(&format!(" {value} ")).unwrap());
            }
            headers.insert("content-length", HeaderValue::from_static("7"));
            headers.insert("upgrade", HeaderValue::from_static("greeting"));
            let mut said = Said::new();
            assert!(said.read(&headers, "now"));
            let listed: Vec<&str> = said.fields().iter().map(|field| field.1).collect();
            let expected: Vec<&str> = values.iter().map(String::as_str).chain(["now"]).collect();
            assert_eq!(listed, expected);
            assert_eq!((said.length, said.protocol, said.closes), (Some(7), "greeting", false));
        }
    }
}
