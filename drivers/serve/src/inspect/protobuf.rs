//! In: a Protobuf message, or the content of a gRPC request. Out: its fields as JSON, as far as they can be told without a
//! schema.
//!
//! Content with a length may be a message, text, packed numbers or bytes, and nothing on the wire says which. What reads as
//! a message is shown as one, with its text beside it if it reads as text too; what does not, as text or in hexadecimal.
//! So a broken rule is told only where no schema could mend it: in the fields of the outermost message, and in the framing.

use serde_json::{Map, Value, json};
use vestibule::decode::coding::Coding;
use vestibule::decode::grpc::{self, Gather, Item, Messages};
use vestibule::decode::protobuf::{self, Fields, Value as Wire};
use vestibule::{Limit, Limits, Violation};

/// Messages in messages are shown to this depth: what comes of it nests twice as deep, and many readers of JSON take 128.
const DEPTH: usize = 32;
/// The most fields and messages that are shown.
const SHOWN: usize = 10_000;
/// So many bytes are shown in hexadecimal.
const HEX: usize = 64;
/// What reads as a message is shown as text too up to this length.
const BESIDE: usize = 1_024;

/// What may still be shown. Compressed messages make much of little, so the size of the body decides.
struct Room {
    fields: usize,
    text: usize,
    decoded: usize,
    /// Something was left out.
    is_cut: bool,
}

impl Room {
    fn new(body: &[u8], limits: &Limits) -> Room {
        Room {
            fields: body.len().saturating_add(64).min(SHOWN),
            text: body.len().saturating_mul(4).saturating_add(4_096),
            decoded: limits.get(Limit::DecodedBytes) as usize,
            is_cut: false,
        }
    }

    fn field(&mut self) -> bool {
        self.is_cut |= self.fields == 0;
        self.fields = self.fields.saturating_sub(1);
        !self.is_cut
    }

    fn text<'a>(&mut self, content: &'a [u8]) -> Option<&'a str> {
        let left = self.text.checked_sub(content.len())?;
        let text = std::str::from_utf8(content).ok()?;
        let is_printable = text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'));
        is_printable.then(|| self.text = left).map(|()| text)
    }

    fn tell(&self, about: &mut Map<String, Value>) {
        if self.is_cut {
            about.insert("cut".into(), true.into());
        }
    }
}

/// Adds the fields of a message.
pub(super) fn message(body: &[u8], limits: &Limits, about: &mut Map<String, Value>) -> Result<(), Violation> {
    let mut room = Room::new(body, limits);
    about.insert("protobuf".into(), fields(body, limits, &mut room)?.into());
    room.tell(about);
    Ok(())
}

/// Adds the messages of a gRPC request, those before a broken rule as well. `format` is what they are by the content type,
/// `encoding` what `grpc-encoding` says.
pub(super) fn messages(
    body: &[u8],
    format: &[u8],
    encoding: Option<&[u8]>,
    limits: &Limits,
    about: &mut Map<String, Value>,
) -> Result<(), Violation> {
    let coding = encoding.map_or(Ok(Coding::Identity), grpc::encoding)?;
    let (mut room, mut told) = (Room::new(body, limits), Vec::new());
    let outcome = framed(body, format, coding, limits, &mut room, &mut told);
    about.insert("grpc".into(), told.into());
    room.tell(about);
    outcome
}

/// The framing is read to its end. A message is only put together if there is room to show it.
fn framed(
    body: &[u8],
    format: &[u8],
    coding: Coding,
    limits: &Limits,
    room: &mut Room,
    told: &mut Vec<Value>,
) -> Result<(), Violation> {
    let (mut framing, mut gather) = (Messages::new(limits), Gather::new(coding, limits));
    let (mut rest, mut content) = (body, body);
    while let Some(item) = framing.next(&mut rest)? {
        let Item::Start { compressed, len } = item else { continue };
        if !room.field() {
            continue;
        }
        let Some(message) = gather.next(&mut content)? else { continue }; // it is cut off
        let mut about = Map::new();
        about.insert("compressed".into(), compressed.into());
        about.insert("bytes".into(), len.into());
        if compressed {
            about.insert("decoded_bytes".into(), message.len().into());
            room.decoded = room.decoded.saturating_sub(message.len());
            if room.decoded == 0 {
                room.fields = 0;
            }
        }
        match format {
            b"proto" => about.insert("protobuf".into(), fields(message, limits, room)?.into()),
            _ => about.insert("content".into(), shown(message, room)),
        };
        told.push(about.into());
    }
    framing.finish()
}

/// A message that is being read, and the field that it is the value of.
struct Open<'a> {
    fields: Fields<'a>,
    told: Vec<Value>,
    field: Map<String, Value>,
}

impl<'a> Open<'a> {
    fn new(message: &'a [u8], limits: &Limits, field: Map<String, Value>) -> Open<'a> {
        Open { fields: protobuf::fields(message, limits), told: Vec::new(), field }
    }
}

/// Each tag is read twice: once to see whether all of them are tags, once to show them.
fn fields(message: &[u8], limits: &Limits, room: &mut Room) -> Result<Vec<Value>, Violation> {
    let (mut around, mut inner) = (Vec::new(), Open::new(message, limits, Map::new()));
    loop {
        let Some(field) = inner.fields.next() else {
            let Some(outer) = around.pop() else { return Ok(inner.told) };
            let Open { told, mut field, .. } = std::mem::replace(&mut inner, outer);
            field.insert("value".into(), told.into());
            inner.told.push(field.into());
            continue;
        };
        let field = field?;
        if !room.field() {
            continue; // what is not shown is read
        }
        let (kind, value) = match field.value {
            Wire::Varint(n) => ("varint", n.into()),
            Wire::Fixed64(n) => ("fixed64", n.into()),
            Wire::Fixed32(n) => ("fixed32", n.into()),
            Wire::Bytes(content) if around.len() < DEPTH && is_message(content, limits) => {
                let mut told = begun(field.number, "bytes");
                if let Some(text) = (content.len() <= BESIDE).then(|| room.text(content)).flatten() {
                    told.insert("text".into(), text.into());
                }
                around.push(std::mem::replace(&mut inner, Open::new(content, limits, told)));
                continue;
            }
            Wire::Bytes(content) => ("bytes", shown(content, room)),
        };
        let mut told = begun(field.number, kind);
        told.insert("value".into(), value);
        inner.told.push(told.into());
    }
}

fn begun(number: u32, kind: &str) -> Map<String, Value> {
    let mut told = Map::new();
    told.insert("field".into(), number.into());
    told.insert("type".into(), kind.into());
    told
}

fn is_message(content: &[u8], limits: &Limits) -> bool {
    !content.is_empty() && protobuf::fields(content, limits).all(|field| field.is_ok())
}

fn shown(content: &[u8], room: &mut Room) -> Value {
    match room.text(content) {
        Some(text) => text.into(),
        None => {
            let hex: String = content.iter().take(HEX).map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex, "bytes": content.len() })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn told(message: &[u8]) -> Value {
        let mut about = Map::new();
        super::message(message, &Limits::DEFAULT, &mut about).unwrap();
        about.into()
    }

    fn told_grpc(body: &[u8], encoding: Option<&[u8]>) -> (Value, Result<(), Violation>) {
        let mut about = Map::new();
        let outcome = messages(body, b"proto", encoding, &Limits::DEFAULT, &mut about);
        (about.into(), outcome)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    /// A field with a length, of number 1.
    fn bytes(content: &[u8]) -> Vec<u8> {
        let (mut field, mut left) = (vec![0x0a], content.len());
        while left > 0x7f {
            field.push(left as u8 | 0x80);
            left >>= 7;
        }
        field.push(left as u8);
        [&field[..], content].concat()
    }

    #[test]
    fn every_wire_type_is_shown() {
        let body = b"\x08\x96\x01\x11\x01\0\0\0\0\0\0\x80\x1d\xff\0\0\0\x22\x00\x2a\x04t\xc3\xa9!\x32\x02\xff\x00\x3a\x03\x08\x96\x01";
        let text = json!([
            {"field": 1, "type": "varint", "value": 150},
            {"field": 2, "type": "fixed64", "value": 0x8000_0000_0000_0001_u64},
            {"field": 3, "type": "fixed32", "value": 255},
            {"field": 4, "type": "bytes", "value": ""},
            {"field": 5, "type": "bytes", "value": "té!"},
            {"field": 6, "type": "bytes", "value": {"hex": "ff00", "bytes": 2}},
            {"field": 7, "type": "bytes", "value": [{"field": 1, "type": "varint", "value": 150}]},
        ]);
        assert_eq!(told(body), json!({ "protobuf": text }));
    }

    #[test]
    fn what_reads_as_both_is_shown_as_both() {
        let inner = json!([{"field": 13, "type": "varint", "value": 105}]);
        let both = json!([{"field": 1, "type": "bytes", "text": "hi", "value": inner}]);
        assert_eq!(told(&bytes(b"hi"))["protobuf"], both);
        let long = bytes(&b"hi".repeat(BESIDE / 2 + 1));
        assert_eq!(told(&long)["protobuf"][0]["text"], Value::Null);
        assert_eq!(
            told(&bytes(b"\x1b[31m!!"))["protobuf"][0]["value"]["hex"],
            "1b5b33316d2121",
            "no terminal's controls"
        );
        let blob = told(&bytes(&[0xff; 100]));
        assert_eq!(blob["protobuf"][0]["value"], json!({"hex": "ff".repeat(64), "bytes": 100}));
    }

    #[test]
    fn a_broken_rule_is_told_where_no_schema_could_mend_it() {
        let outer = super::message(b"\x08\x96\x01\x12\x03hi", &Limits::DEFAULT, &mut Map::new()).unwrap_err();
        assert_eq!((outer.name(), outer.at), ("ProtobufLength", 4));
        assert_eq!(told(&bytes(b"\x12\x03hi"))["protobuf"][0]["value"], json!({"hex": "12036869", "bytes": 4}));
    }

    #[test]
    fn nesting_is_shown_to_its_depth_and_can_be_read_again() {
        let deep = (0..200).fold(b"\x08\x01".to_vec(), |message, _| bytes(&message));
        let mut about = Map::new();
        super::message(&deep, &Limits::DEFAULT, &mut about).unwrap();
        let text = serde_json::to_string(&about).unwrap();
        let told: Value = serde_json::from_str(&text).expect("it takes 128 levels");
        let mut value = &told["protobuf"];
        for _ in 0..DEPTH {
            value = &value[0]["value"];
        }
        assert_eq!(value[0]["value"]["hex"].as_str().unwrap().len(), 2 * HEX);
    }

    #[test]
    fn messages_are_told_with_their_flags_and_what_is_in_them() {
        let coded = gzip(b"\x08\x02");
        let body = [framed(0, b"\x08\x01"), framed(1, &coded), framed(0, b"")].concat();
        let one = |n: u32| json!([{"field": 1, "type": "varint", "value": n}]);
        let messages = json!([
            {"compressed": false, "bytes": 2, "protobuf": one(1)},
            {"compressed": true, "bytes": coded.len(), "decoded_bytes": 2, "protobuf": one(2)},
            {"compressed": false, "bytes": 0, "protobuf": []},
        ]);
        assert_eq!(told_grpc(&body, Some(b"gzip")), (json!({ "grpc": messages }), Ok(())));
        let (told, outcome) = told_grpc(&body, None);
        assert_eq!(told["grpc"].as_array().unwrap().len(), 1, "what came before is told");
        let violation = outcome.unwrap_err();
        assert_eq!((violation.name(), violation.at), ("GrpcUnnamedEncoding", 7));
        assert_eq!(told_grpc(&body, Some(b"snappy")).1.unwrap_err().name(), "GrpcEncoding");
        for cut in 1..body.len() {
            let (told, outcome) = told_grpc(&body[..cut], Some(b"gzip"));
            let whole = [7, 7 + 5 + coded.len()].into_iter().filter(|end| *end <= cut).count();
            assert_eq!(told["grpc"].as_array().unwrap().len(), whole, "{cut}");
            let is_whole = [7, 7 + 5 + coded.len()].contains(&cut);
            assert_eq!(outcome.err().map(|v| (v.name(), v.at)), (!is_whole).then_some(("GrpcTruncated", cut as u64)));
        }
        let broken = told_grpc(&framed(0, b"\x0b"), None).1.unwrap_err();
        assert_eq!((broken.name(), broken.at), ("ProtobufGroup", 0), "counted in the message");
    }

    /// What is told of small fields, of texts that are messages at every depth, and of what was compressed well.
    #[test]
    fn what_is_told_is_bounded_by_the_body() {
        let small = b"\x08\x01".repeat(30_000);
        let nested = bytes(
            &(0..5_000).fold(Vec::new(), |message, _| if message.len() < 120 { bytes(&message) } else { message }),
        );
        let printable =
            (0..60).fold(b"x".repeat(20), |content, _| [b"z", &[content.len() as u8][..], &content].concat());
        let dense = gzip(&bytes(&b"text ".repeat(12_000)));
        let fields = gzip(&b"\x08\x01".repeat(30_000));
        let plain = [small.clone(), nested.repeat(500), bytes(&printable).repeat(500), bytes(&b"\"\n".repeat(30_000))];
        for body in plain {
            let told = told(&body);
            let text = told.to_string();
            assert!(text.len() < 64 * body.len() + 16_384, "{} of {}", text.len(), body.len());
        }
        assert_eq!(told(&small)["protobuf"].as_array().unwrap().len(), SHOWN);
        assert_eq!(told(&small)["cut"], true);
        for message in [&dense, &fields] {
            let body = framed(1, message).repeat(50);
            let (told, outcome) = told_grpc(&body, Some(b"gzip"));
            assert_eq!(outcome, Ok(()));
            let text = told.to_string();
            assert!(text.len() < 64 * body.len() + 16_384, "{} of {}", text.len(), body.len());
        }
        let many = framed(0, b"").repeat(100_000);
        let (told, outcome) = told_grpc(&many, None);
        assert_eq!((told["grpc"].as_array().unwrap().len(), &told["cut"], outcome), (SHOWN, &json!(true), Ok(())));
        let broken = [&many[..], b"\x02"].concat();
        assert_eq!(told_grpc(&broken, None).1.unwrap_err().at, many.len() as u64, "what is not shown is judged");
    }
}
