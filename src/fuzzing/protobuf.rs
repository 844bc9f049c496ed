//! Protobuf messages, and streams of them.

use super::choices;
use crate::decode::coding::Coding;
use crate::decode::grpc::{Gather, Item as Framed, Messages};
use crate::decode::protobuf::{Fields, Item, Packed, Reader, Value, fields};
use crate::{Limit, Limits, Rule, Violation};
use std::vec::Vec;

/// What is done with content, by the number of its field: so a seed can choose.
fn choice(number: u32) -> u32 {
    number % 8
}

const PACKED: [Packed; 3] = [Packed::Varint, Packed::Fixed32, Packed::Fixed64];

#[derive(Debug, PartialEq)]
enum Told {
    Number(u32, u64),
    Content(u32, Vec<u8>),
    Enter(u32),
    End,
}

/// A number, whatever its wire type.
fn number<B>(value: &Value<B>) -> Option<u64> {
    value.uint64().or(value.fixed64()).or(value.fixed32().map(u64::from))
}

type Read = (Vec<Told>, Result<(), Violation>);

/// Messages that are cut or whole are read the same; a slice gives what a stream gives. Prost reads what we take. One choice: the
/// pieces.
pub fn protobuf(data: &[u8]) {
    let ([n], message) = choices(data);
    let limits = Limits::DEFAULT.with(Limit::ProtobufElements, 1 << 10).expect("in range");
    let whole = streamed(message, message.len().max(1), &limits);
    let n = usize::from(n) + 2;
    assert_eq!(whole, streamed(message, 1, &limits), "a byte at a time");
    assert_eq!(whole, streamed(message, n, &limits), "{n} at a time");
    let (mut told, mut own) = (Vec::new(), fields(message, &limits));
    let outcome = level(&mut own, &mut told);
    match (&whole.1, &outcome) {
        (Ok(()), Ok(())) => assert_eq!(whole.0, told),
        // A slice shows its end from the start, so a length may be refused before something else.
        (Err(stream), Err(slice)) => {
            assert!(slice == stream || slice.rule == Rule::ProtobufLength, "{stream}, {slice}");
            assert!(slice.at <= stream.at);
        }
        _ => panic!("{:?}, {outcome:?}", whole.1),
    }
    assert!(whole.0.len() <= 2 * (1 << 10), "a field is told once, and an end");
    #[cfg(feature = "prost")]
    typed(message, &limits);
}

fn streamed(message: &[u8], n: usize, limits: &Limits) -> Read {
    let (mut told, mut reader, mut is_inside) = (Vec::new(), Reader::new(limits), false);
    for mut piece in message.chunks(n) {
        loop {
            let item = match reader.next(&mut piece) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(violation) => return (told, Err(violation)),
            };
            match (item, &mut is_inside) {
                (Item::Field(field), _) if number(&field.value).is_some() => {
                    told.extend(number(&field.value).map(|value| Told::Number(field.number, value)));
                }
                (Item::Field(field), is_inside) => {
                    let chosen = match choice(field.number) {
                        0 => Ok(()),
                        1 => reader.enter().inspect(|()| told.push(Told::Enter(field.number))),
                        2 | 3 => {
                            if choice(field.number) == 2 {
                                reader.text()
                            } else {
                                reader.bytes()
                            }
                            told.push(Told::Content(field.number, Vec::new()));
                            *is_inside = true;
                            Ok(())
                        }
                        n => reader.packed(PACKED[n as usize % 3]).inspect(|()| *is_inside = true),
                    };
                    if let Err(violation) = chosen {
                        return (told, Err(violation));
                    }
                }
                (Item::Part(part), _) => match told.last_mut() {
                    Some(Told::Content(_, content)) => content.extend_from_slice(part),
                    other => panic!("a part behind {other:?}"),
                },
                (Item::End, true) => is_inside = false,
                (Item::End, false) => told.push(Told::End),
            }
        }
        assert!(piece.is_empty());
    }
    (told, reader.finish())
}

fn level(own: &mut Fields<'_>, told: &mut Vec<Told>) -> Result<(), Violation> {
    while let Some(field) = own.next() {
        let field = field?;
        match (field.value, choice(field.number)) {
            (Value::Bytes(_), 0) => {}
            (Value::Bytes(_), 1) => {
                own.enter()?;
                told.push(Told::Enter(field.number));
                level(own, told)?;
                told.push(Told::End);
            }
            (Value::Bytes(_), 2) => told.push(Told::Content(field.number, own.text()?.into())),
            (Value::Bytes(content), 3) => told.push(Told::Content(field.number, content.into())),
            (Value::Bytes(_), n) => {
                own.packed(PACKED[n as usize % 3])?;
                for element in own.by_ref() {
                    told.extend(number(&element?.value).map(|value| Told::Number(field.number, value)));
                }
            }
            (value, _) => told.extend(number(&value).map(|value| Told::Number(field.number, value))),
        }
    }
    Ok(())
}

/// What we take, prost takes alone, and for the same.
#[cfg(feature = "prost")]
fn typed(message: &[u8], limits: &Limits) {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Anything {
        #[prost(message, repeated, tag = "1")]
        inner: Vec<Anything>,
        #[prost(string, tag = "2")]
        text: std::string::String,
        #[prost(bytes = "vec", tag = "3")]
        content: Vec<u8>,
        #[prost(fixed32, repeated, tag = "4")]
        fixed: Vec<u32>,
        #[prost(sint64, repeated, tag = "6")]
        numbers: Vec<i64>,
    }
    if let Ok(ours) = crate::decode::protobuf::decode::<Anything>(message, limits) {
        assert_eq!(Anything::decode(message), Ok(ours));
    }
}

/// Length-prefixed messages, cut or whole, are the same, and so are those that are gathered. One choice: the pieces.
pub fn grpc(data: &[u8]) {
    let ([n], content) = choices(data);
    let limits = Limits::DEFAULT.with(Limit::ProtobufMessageBytes, 1 << 14).expect("in range");
    let n = usize::from(n) + 2;
    let framed = unframe(content, content.len().max(1), &limits);
    assert_eq!(framed, unframe(content, 1, &limits), "a byte at a time");
    assert_eq!(framed, unframe(content, n, &limits), "{n} at a time");
    let whole = gather(content, content.len().max(1), &limits);
    assert_eq!(whole, gather(content, 1, &limits), "a byte at a time");
    assert_eq!(whole, gather(content, n, &limits), "{n} at a time");
    assert!(whole.0.iter().all(|message| message.len() <= 1 << 14));
    // What is not compressed is what the framing gave.
    for ((is_coded, message), gathered) in framed.0.iter().zip(&whole.0) {
        assert!(*is_coded || message == gathered);
    }
    if whole.1.is_ok() {
        assert_eq!((framed.0.len(), framed.1), (whole.0.len(), Ok(())));
    }
}

type Unframed = (Vec<(bool, Vec<u8>)>, Result<(), Violation>);

fn unframe(content: &[u8], n: usize, limits: &Limits) -> Unframed {
    let (mut told, mut messages) = (Vec::new(), Messages::new(limits));
    for mut piece in content.chunks(n) {
        loop {
            match messages.next(&mut piece) {
                Ok(Some(Framed::Start { compressed, len })) => {
                    assert!(u64::from(len) <= limits.get(Limit::ProtobufMessageBytes));
                    told.push((compressed, Vec::new()));
                }
                Ok(Some(Framed::Part(part))) => told.last_mut().expect("a message").1.extend_from_slice(part),
                Ok(Some(Framed::End)) => {}
                Ok(None) => break,
                Err(violation) => return (told, Err(violation)),
            }
        }
        assert!(piece.is_empty());
    }
    (told, messages.finish())
}

fn gather(content: &[u8], n: usize, limits: &Limits) -> (Vec<Vec<u8>>, Result<(), Violation>) {
    let (mut told, mut messages) = (Vec::new(), Gather::new(Coding::Gzip, limits));
    for mut piece in content.chunks(n) {
        loop {
            match messages.next(&mut piece) {
                Ok(Some(message)) => told.push(message.to_vec()),
                Ok(None) => break,
                Err(violation) => return (told, Err(violation)),
            }
        }
    }
    (told, messages.finish())
}
