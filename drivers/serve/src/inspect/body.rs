//! In: a whole body, its Content-Type and what gRPC says of it. Out: what decoding finds in it, as JSON, and the status that it deserves.

use super::protobuf;
use crate::upload::{Upload, tell};
use serde_json::{Map, Value};
use vestibule::decode::media::MediaType;
use vestibule::decode::text::{Utf8, charset};
use vestibule::decode::{form, grpc, json};
use vestibule::{Limits, Violation};

/// What the fields of the head say of a body.
#[derive(Default)]
pub(super) struct Kind {
    pub(super) content_type: Option<Vec<u8>>,
    pub(super) grpc_encoding: Option<Vec<u8>>,
}

/// Adds to `about` what the type says, and what is in the body.
pub(super) fn describe(kind: &Kind, body: &[u8], limits: &Limits, about: &mut Map<String, Value>) -> u16 {
    match read(kind, body, limits, about) {
        Ok(()) => 200,
        Err(violation) => {
            about.insert("violation".into(), tell(&violation));
            violation.status()
        }
    }
}

fn read(kind: &Kind, body: &[u8], limits: &Limits, about: &mut Map<String, Value>) -> Result<(), Violation> {
    let content_type = kind.content_type.as_deref();
    let media = content_type.map(MediaType::parse).transpose()?;
    if let Some(media) = media {
        about.insert("media_type".into(), media.essence().to_ascii_lowercase().into());
    }
    if let Some(value) = media.and_then(|media| media.parameter("charset")) {
        about.insert("charset".into(), String::from_utf8_lossy(&value.bytes().collect::<Vec<_>>()).into());
    }
    // Nothing is a text, a form and a message; it is no JSON, and no multipart body (RFC 8259 §2, RFC 2046 §5.1.1).
    if body.is_empty() && !media.is_some_and(|media| is_json(&media) || media.is("multipart/*")) {
        return Ok(());
    }
    if let Some(format) = content_type.and_then(grpc::format) {
        return protobuf::messages(body, format, kind.grpc_encoding.as_deref(), limits, about);
    }
    match media {
        Some(media) if is_json(&media) => {
            about.insert("json".into(), json::to_value(body, limits)?);
        }
        Some(media) if media.is("application/x-www-form-urlencoded") => {
            about.insert("form".into(), pairs(body)?);
        }
        Some(media) if media.is("multipart/form-data") => {
            let mut upload = Upload::new(content_type, limits)?;
            upload.feed(body, limits)?;
            about.insert("parts".into(), upload.finish()?);
        }
        Some(media) if is_protobuf(&media) => protobuf::message(body, limits, about)?,
        Some(media) if media.is("text/*") => {
            charset(content_type.unwrap_or_default())?;
            utf8(body)?;
            about.insert("text".into(), String::from_utf8_lossy(body).into());
        }
        // Nobody said that it is text, so it need not be.
        _ => match utf8(body) {
            Ok(()) => drop(about.insert("text".into(), String::from_utf8_lossy(body).into())),
            Err(violation) => drop(about.insert("not_utf8_at".into(), violation.at.into())),
        },
    }
    Ok(())
}

/// The pairs of a form or a query, as a list of two-element lists.
pub(super) fn pairs(text: &[u8]) -> Result<Value, Violation> {
    let pair =
        |(name, value): (form::Text<'_>, form::Text<'_>)| [name.to_string(), value.to_string()].into_iter().collect();
    form::pairs(text).map(|found| found.map(pair)).collect::<Result<Vec<Value>, _>>().map(Value::from)
}

fn utf8(text: &[u8]) -> Result<(), Violation> {
    let mut utf8 = Utf8::new();
    utf8.push(text).and_then(|()| utf8.finish())
}

/// `application/json`, or a type whose suffix says the same (RFC 6839 §3.1).
fn is_json(media: &MediaType<'_>) -> bool {
    media.is("application/json") || (media.is("application/*") && media.has_suffix("json"))
}

/// The registered type, the one from before it was registered, or a type whose suffix says the same.
fn is_protobuf(media: &MediaType<'_>) -> bool {
    media.is("application/protobuf")
        || media.is("application/x-protobuf")
        || (media.is("application/*") && media.has_suffix("proto"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(content_type: &str, body: &[u8]) -> (u16, Value) {
        let mut about = Map::new();
        let content_type = Some(content_type.into()).filter(|value: &Vec<u8>| !value.is_empty());
        let kind = Kind { content_type, grpc_encoding: None };
        let status = describe(&kind, body, &Limits::DEFAULT, &mut about);
        (status, about.into())
    }

    #[test]
    fn json_types_are_known_by_their_essence() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert_eq!(told(yes, b"[1]").1["json"], json!([1]), "{yes}");
        }
        for no in ["text/plain", "application/jsonp", "image/svg+json"] {
            assert_eq!(told(no, b"[1]").1["text"], "[1]", "{no}");
        }
    }

    #[test]
    fn nothing_is_no_json_and_no_multipart_body_but_a_text() {
        assert_eq!(told("application/json", b"").1["violation"]["rule"], "JsonEmpty");
        assert_eq!(told("multipart/form-data; boundary=b", b"").0, 400);
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/protobuf", ""] {
            assert_eq!(told(kind, b"").0, 200, "{kind}");
        }
    }

    #[test]
    fn forms_are_shown_as_what_is_in_them() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(
            told(form, b"a=1&b=t%C3%A9+x&a"),
            (200, json!({"media_type": form, "form": [["a", "1"], ["b", "té x"], ["a", ""]]}))
        );
        let (status, bad) = told(form, b"a=%");
        assert_eq!(
            (status, &bad["violation"]["rule"], &bad["violation"]["at"]),
            (400, &json!("FormEscape"), &json!(3))
        );
        let body = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhi\r\n--b\r\n\
Content-Disposition: form-data; name=\"f\"; filename=\"x\"\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--\r\n";
        let sum = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
        assert_eq!(
            told("multipart/form-data; boundary=b", body),
            (
                200,
                json!({"media_type": "multipart/form-data", "parts": [
                    {"name": "a", "filename": null, "content_type": null, "bytes": 2, "sha256": sum, "text": "hi"},
                    {"name": "f", "filename": "x", "content_type": "text/plain", "bytes": 2, "sha256": sum},
                ]})
            )
        );
        assert_eq!(told("multipart/form-data", body).1["violation"]["rule"], "MultipartBoundary");
    }

    #[test]
    fn protobuf_and_grpc_are_known_by_their_types() {
        let fields = json!([{"field": 1, "type": "varint", "value": 5}]);
        for yes in ["application/protobuf", "Application/X-Protobuf; a=b", "application/vnd.example+proto"] {
            let (status, told) = told(yes, b"\x08\x05");
            assert_eq!((status, &told["protobuf"], &told["grpc"]), (200, &fields, &Value::Null), "{yes}");
        }
        for yes in ["application/grpc", "application/grpc+proto", "Application/GRPC; a=b"] {
            let (status, told) = told(yes, b"\0\0\0\0\x02\x08\x05");
            assert_eq!((status, &told["grpc"][0]["protobuf"]), (200, &fields), "{yes}");
        }
        let (status, json) = told("application/grpc+json", b"\0\0\0\0\x02{}");
        assert_eq!((status, &json["grpc"][0]["content"], &json["json"]), (200, &json!("{}"), &Value::Null));
        for no in ["application/grpc-web", "text/x+proto"] {
            let (_, told) = told(no, b"\x08\x05");
            assert_eq!((&told["text"], &told["protobuf"]), (&json!("\u{8}\u{5}"), &Value::Null), "{no}");
        }
        let (status, bad) = told("application/protobuf", b"\x08\x05\x0c");
        let violation = &bad["violation"];
        assert_eq!((status, &violation["rule"], &violation["at"]), (400, &json!("ProtobufGroup"), &json!(2)));
        let (status, bad) = told("application/grpc", b"\0\0\0\0\0\x03");
        assert_eq!((status, &bad["violation"]["rule"], &bad["violation"]["at"]), (400, &json!("GrpcFlag"), &json!(5)));
    }

    #[test]
    fn text_that_is_none_is_shown_with_its_first_bad_byte() {
        assert_eq!(
            told("text/plain; charset=UTF-8", "é".as_bytes()),
            (200, json!({"media_type": "text/plain", "charset": "UTF-8", "text": "é"}))
        );
        let (status, bad) = told("text/plain", b"gr\xfcn");
        assert_eq!((status, &bad["violation"]["rule"], &bad["violation"]["at"]), (400, &json!("Utf8"), &json!(2)));
        assert_eq!(told("text/plain; charset=latin1", b"x").0, 415);
        assert_eq!(told("", b"gr\xfcn"), (200, json!({"not_utf8_at": 2})));
        assert_eq!(told("image/png", b"\x89PNG"), (200, json!({"media_type": "image/png", "not_utf8_at": 0})));
        assert_eq!(told("nonsense", b"x").1["violation"]["rule"], "MediaTypeSyntax");
    }
}
