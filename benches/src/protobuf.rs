//! Protobuf in memory: one message, read again and again.

use crate::measure::{Case, Group, Work};
use prost::Message;
use std::hint::black_box;
use vestibule::Limits;
use vestibule::decode::protobuf::{self, Fields, Item, Packed, Reader, Value};

#[derive(Clone, PartialEq, Message)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    customer: String,
    #[prost(message, repeated, tag = "3")]
    lines: Vec<Line>,
    #[prost(uint32, repeated, tag = "4")]
    discounts: Vec<u32>,
    #[prost(fixed64, tag = "5")]
    placed: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(string, tag = "1")]
    article: String,
    #[prost(sint32, tag = "2")]
    count: i32,
    #[prost(double, tag = "3")]
    price: f64,
}

pub(crate) fn groups() -> Vec<Group> {
    let small = order(4, 197);
    let large = order(3_300, 100_000);
    vec![
        group("Protobuf, a message of 197 bytes", small, 40_960, None),
        group("Protobuf, a message of 100 KB", large, 256, Some(100_000)),
    ]
}

/// An order whose customer's name is made longer until all of it has `len` bytes.
fn order(lines: usize, len: usize) -> Vec<u8> {
    let line = |n: usize| Line { article: format!("article {n:04}"), count: -(n as i32), price: n as f64 / 4.0 };
    let mut order = Order {
        id: 1 << 40,
        customer: String::new(),
        lines: (0..lines).map(line).collect(),
        discounts: (0..20).map(|n| n * n).collect(),
        placed: 1_764_000_000_000,
    };
    while order.encoded_len() < len {
        order.customer.push('x');
    }
    assert_eq!(order.encoded_len(), len);
    order.encode_to_vec()
}

fn group(name: &'static str, message: Vec<u8>, count: usize, bytes: Option<usize>) -> Group {
    let [a, b, c, d] = [(); 4].map(|()| message.clone());
    Group {
        name,
        count,
        batch: 1,
        bytes,
        cases: vec![
            Case::new("vestibule, in 16 KiB pieces", move |n| streamed(&a, n)).without_allocations(),
            Case::new("vestibule, a slice", move |n| sliced(&b, n)).without_allocations(),
            Case::new("vestibule, then prost", move |n| typed(&c, n)),
            Case::new("prost alone", move |n| prost_alone(&d, n)),
        ],
    }
}

/// Every number and every text is read, and nothing is kept.
fn streamed(message: &[u8], n: usize) -> Work {
    let message = message.to_vec();
    let mut reader = Reader::new(&Limits::DEFAULT);
    Box::new(move || {
        for _ in 0..n {
            reader.reset(None);
            let mut sum = 0;
            for mut piece in black_box(&message[..]).chunks(16_384) {
                while let Some(item) = reader.next(&mut piece).expect("a good message") {
                    match item {
                        Item::Field(field) => match (reader.depth(), field.number, field.value) {
                            (0, 3, Value::Bytes(_)) => reader.enter().expect("two levels"),
                            (0, 4, Value::Bytes(_)) => reader.packed(Packed::Varint).expect("numbers"),
                            (_, _, Value::Bytes(_)) => reader.text(),
                            (_, _, value) => sum += number(&value),
                        },
                        Item::Part(part) => sum += part.len() as u64,
                        Item::End => {}
                    }
                }
            }
            reader.finish().expect("complete");
            black_box(sum);
        }
    })
}

fn number<B>(value: &Value<B>) -> u64 {
    value.uint64().or(value.fixed64()).unwrap_or_default()
}

fn sliced(message: &[u8], n: usize) -> Work {
    fn text(fields: &mut Fields<'_>) -> u64 {
        fields.text().expect("UTF-8").len() as u64
    }
    let message = message.to_vec();
    Box::new(move || {
        for _ in 0..n {
            let mut sum = 0;
            let mut fields = protobuf::fields(black_box(&message), &Limits::DEFAULT);
            while let Some(field) = fields.next() {
                let field = field.expect("a good message");
                match (field.number, field.value) {
                    (3, Value::Bytes(_)) => {
                        fields.enter().expect("two levels");
                        while let Some(field) = fields.next() {
                            sum += match field.expect("a good line").value {
                                Value::Bytes(_) => text(&mut fields),
                                value => number(&value),
                            };
                        }
                    }
                    (4, Value::Bytes(_)) => {
                        fields.packed(Packed::Varint).expect("numbers");
                        sum += fields.by_ref().map(|e| number(&e.expect("a number").value)).sum::<u64>();
                    }
                    (_, Value::Bytes(_)) => sum += text(&mut fields),
                    (_, value) => sum += number(&value),
                }
            }
            black_box(sum);
        }
    })
}

fn typed(message: &[u8], n: usize) -> Work {
    let message = message.to_vec();
    Box::new(move || {
        for _ in 0..n {
            black_box(protobuf::decode::<Order>(black_box(&message), &Limits::DEFAULT).expect("a good message"));
        }
    })
}

fn prost_alone(message: &[u8], n: usize) -> Work {
    let message = message.to_vec();
    Box::new(move || {
        for _ in 0..n {
            black_box(Order::decode(black_box(&message[..])).expect("a good message"));
        }
    })
}
