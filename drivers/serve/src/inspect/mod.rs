//! In: a request's head and its decoded body. Out: what the road found in them, as JSON.

mod body;
mod protobuf;

use crate::upload::tell;
use serde_json::{Map, Value, json};
use vestibule::{Head, Id, Limits, Session, Version};
use vestibule_driver::Peer;

/// An answer up to this size is indented.
const INDENTED: usize = 8 << 10;

/// Where a request came in.
pub(crate) struct About {
    pub(crate) peer: Peer,
    /// Requests of this connection so far, this one included.
    pub(crate) requests: u64,
    /// Earlier ones that are still under way.
    pub(crate) open: usize,
    pub(crate) id: Id,
}

/// What is known at the head of a request, until its body is there.
pub(crate) struct Inspection {
    told: Map<String, Value>,
    /// The body's size as sent, where it was declared.
    declared: Option<u64>,
    /// The body is decoded from a content coding.
    coded: bool,
    kind: body::Kind,
}

impl Inspection {
    pub(crate) fn new(head: &Head<'_>, tls: Option<&Session<'_>>, has_body: bool, about: &About) -> Inspection {
        let fields: Vec<Value> = head
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)).into())
            .collect();
        let tls = tls.map(|tls| {
            json!({
                "version": tls.version,
                "cipher": tls.cipher,
                "alpn": tls.alpn.map(String::from_utf8_lossy),
                "sni": tls.sni,
                "resumed": tls.resumed,
            })
        });
        let mut told = Map::new();
        told.insert("version".into(), head.version.name().into());
        if head.version == Version::Http2 {
            told.insert("stream".into(), about.id.number().into());
        }
        if let Some(protocol) = head.protocol {
            told.insert("protocol".into(), protocol.into());
        }
        let connection = json!({ "peer": about.peer.to_string(), "requests": about.requests, "open": about.open });
        told.insert("connection".into(), connection);
        told.insert("tls".into(), tls.unwrap_or(Value::Null));
        told.insert("method".into(), head.method.into());
        told.insert("target".into(), head.target.into());
        if let Some(query) = head.query() {
            let pairs = body::pairs(query.as_bytes());
            let pairs = pairs.unwrap_or_else(|violation| json!({ "violation": tell(&violation) }));
            told.insert("query".into(), pairs);
        }
        told.insert("authority".into(), head.authority.into());
        told.insert("fields".into(), fields.into());
        let declared = head.fields.text("content-length").and_then(|n| n.parse().ok());
        Inspection {
            told,
            declared: if has_body { declared } else { Some(0) },
            coded: head.fields.text("content-encoding").is_some_and(|c| !c.eq_ignore_ascii_case("identity")),
            kind: body::Kind {
                content_type: head.fields.get("content-type").map(<[u8]>::to_vec),
                grpc_encoding: head.fields.get("grpc-encoding").map(<[u8]>::to_vec),
            },
        }
    }

    /// The status and the JSON text of the answer, once the body is there.
    pub(crate) fn answer(self, body: &[u8], limits: &Limits) -> (u16, Vec<u8>) {
        let Inspection { mut told, declared, coded, kind } = self;
        let decoded = body.len() as u64;
        let mut about = Map::new();
        about.insert("coded_bytes".into(), declared.or((!coded).then_some(decoded)).into());
        about.insert("decoded_bytes".into(), decoded.into());
        let status = body::describe(&kind, body, limits, &mut about);
        told.insert("body".into(), about.into());
        // Indented for people; not where much is told, nor where it is nested so deeply that indenting multiplies it.
        let mut text = serde_json::to_vec(&told).unwrap_or_default();
        if text.len() < INDENTED
            && let Ok(indented) = serde_json::to_vec_pretty(&told)
            && indented.len() <= 4 * text.len()
        {
            text = indented;
        }
        text.push(b'\n');
        (status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_indented_unless_that_multiplies_it() {
        let answer = |body: &[u8]| {
            let kind = body::Kind { content_type: Some(b"application/x-protobuf".to_vec()), grpc_encoding: None };
            let inspection = Inspection { told: Map::new(), declared: None, coded: false, kind };
            let (status, text) = inspection.answer(body, &Limits::DEFAULT);
            assert_eq!(status, 200);
            String::from_utf8(text).unwrap_or_default()
        };
        assert!(answer(b"\x08\x05").contains("\n        \"value\": 5\n"));
        let fields = b"\x08\x05".repeat(30);
        let deep = (0..30).fold(fields, |message, _| [&[0x0a, message.len() as u8][..], &message].concat());
        assert_eq!(deep.len(), 120);
        let text = answer(&deep);
        assert_eq!(text.find('\n'), Some(text.len() - 1));
        assert!(text.len() < 64 * deep.len(), "{}", text.len());
        assert!(!answer(&b"\x08\x05".repeat(1_000)).contains(' '));
    }
}
