//! In: a request's head as the machine lends it; a response's head as the service made it. Out: each in the other's types.

use crate::tower::body::Body;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use vestibule::{Fields, Head, Version};

/// A request without its extensions. `None`: what the machine let pass does not fit the types of the `http` crate; it is to be answered with 400.
pub(super) fn request(head: Head<'_>, tls: bool, body: Body, decoded: bool) -> Option<Request<Body>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = uri(head, tls)?;
    *request.version_mut() = match head.version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
        Version::Http2 => http::Version::HTTP_2,
        Version::Http3 => http::Version::HTTP_3,
        _ => return None,
    };
    *request.headers_mut() = headers(head.fields)?;
    if decoded && request.headers_mut().remove(CONTENT_ENCODING).is_some() {
        request.headers_mut().remove(CONTENT_LENGTH); // that of the coded body
    }
    Some(request)
}

/// The target as it was sent; in HTTP/2 with what the other pseudo-fields say.
fn uri(head: Head<'_>, tls: bool) -> Option<Uri> {
    if matches!(head.version, Version::Http10 | Version::Http11) || !head.target.starts_with('/') {
        return head.target.parse().ok();
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(head.authority).ok()?);
    parts.path_and_query = Some(PathAndQuery::try_from(head.target).ok()?);
    Uri::from_parts(parts).ok()
}

/// A field section; lines of one name stay apart, in their order.
pub(super) fn headers(fields: Fields<'_>) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(fields.iter().count());
    for (name, value) in fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    Some(map)
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

/// A response's fields as the machine takes them, with a Date if there is none. `None`: a value that is no UTF-8 text, which it does
/// not send.
pub(super) fn fields<'f>(headers: &'f HeaderMap, date: &'f str) -> Option<Vec<(&'f str, &'f str)>> {
    let mut fields = Vec::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        if !is_of_the_connection(name) {
            fields.push((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?.trim()));
        }
    }
    if !date.is_empty() && !headers.contains_key(DATE) {
        fields.push(("date", date));
    }
    Some(fields)
}

/// Trailers that may be sent; the others are left out (RFC 9110 §6.5.1).
pub(super) fn trailer_fields(trailers: &HeaderMap) -> Vec<(&str, &str)> {
    let sendable = trailers.iter().filter(|(name, _)| !is_of_the_connection(name));
    sendable.filter_map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?))).collect()
}

/// The service wants the connection to end behind its response.
pub(super) fn asks_to_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
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
        assert!(asks_to_close(&headers));
        assert_eq!(fields(&headers, "now").unwrap(), [("x-a", "1"), ("x-a", "2"), ("date", "now")]);
        headers.insert("date", HeaderValue::from_static("then"));
        assert_eq!(fields(&headers, "now").unwrap(), [("x-a", "1"), ("x-a", "2"), ("date", "then")]);
        headers.insert("x-b", HeaderValue::from_bytes(b"\xe9").unwrap());
        assert!(fields(&headers, "now").is_none(), "Latin-1 is not guessed");
    }
}
