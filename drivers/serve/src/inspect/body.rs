//! In: a whole body and its Content-Type. Out: what decoding finds in it, as JSON, and the status that it deserves.

use crate::upload::{Upload, tell};
use serde_json::{Map, Value};
use vestibule::decode::media::MediaType;
use vestibule::decode::text::{Utf8, charset};
use vestibule::decode::{form, json};
use vestibule::{Limits, Violation};

/// Adds to `about` what the type says, and what is in the body.
pub(super) fn describe(
    content_type: Option<&[u8]>,
    body: &[u8],
    limits: &Limits,
    about: &mut Map<String, Value>,
) -> u16 {
    match read(content_type, body, limits, about) {
        Ok(()) => 200,
        Err(violation) => {
            about.insert("violation".into(), tell(&violation));
            violation.status()
        }
    }
}

fn read(
    content_type: Option<&[u8]>,
    body: &[u8],
    limits: &Limits,
    about: &mut Map<String, Value>,
) -> Result<(), Violation> {
    let media = content_type.map(MediaType::parse).transpose()?;
    if let Some(media) = media {
        about.insert("media_type".into(), media.essence().to_ascii_lowercase().into());
    }
    if let Some(value) = media.and_then(|media| media.parameter("charset")) {
        about.insert("charset".into(), String::from_utf8_lossy(&value.bytes().collect::<Vec<_>>()).into());
    }
    if body.is_empty() {
        return Ok(());
    }
    match media {
        Some(media) if is_json(&media) => {
            json::check(body, limits)?;
            about.insert("json".into(), serde_json::from_slice(body).unwrap_or(Value::Null));
        }
        Some(media) if media.is("application/x-www-form-urlencoded") => {
            about.insert("form".into(), pairs(body)?);
        }
        Some(media) if media.is("multipart/form-data") => {
            let mut upload = Upload::new(content_type, limits)?;
            upload.feed(body, limits)?;
            about.insert("parts".into(), upload.finish()?);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(content_type: &str, body: &[u8]) -> (u16, Value) {
        let mut about = Map::new();
        let content_type = Some(content_type.as_bytes()).filter(|value| !value.is_empty());
        let status = describe(content_type, body, &Limits::DEFAULT, &mut about);
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
