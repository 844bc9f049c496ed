//! What typed Protobuf messages take on the heap, counted by the allocator, against what came and what was charged: PB-01, PB-03.
#![cfg(feature = "prost")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/heap.rs"]
mod heap;

use heap::{LIVE, PEAK};
use std::cell::Cell;
use std::collections::BTreeMap;

use prost::Message;
use vestibule::decode::protobuf::decode;
use vestibule::{Limit, Limits, Rule, Violation};

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(uint64, repeated, tag = "2")]
    numbers: Vec<u64>,
    #[prost(string, repeated, tag = "3")]
    texts: Vec<String>,
    #[prost(btree_map = "uint32, message", tag = "4")]
    map: BTreeMap<u32, Wide>,
    #[prost(message, repeated, tag = "5")]
    wide: Vec<Wide>,
    #[prost(bytes = "vec", tag = "6")]
    content: Vec<u8>,
    #[prost(message, optional, boxed, tag = "7")]
    next: Option<Box<Node>>,
}

/// Some 200 bytes.
#[derive(Clone, PartialEq, Message)]
struct Wide {
    #[prost(string, tag = "1")]
    a: String,
    #[prost(string, tag = "2")]
    b: String,
    #[prost(string, tag = "3")]
    c: String,
    #[prost(uint64, repeated, tag = "4")]
    d: Vec<u64>,
    #[prost(uint64, repeated, tag = "5")]
    e: Vec<u64>,
    #[prost(bytes = "vec", tag = "6")]
    f: Vec<u8>,
    #[prost(bytes = "vec", tag = "7")]
    g: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    h: Vec<u8>,
}

/// A field with content.
fn content(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    prost::encoding::encode_varint(bytes.len() as u64, &mut length);
    [&[number << 3 | 2][..], &length, bytes].concat()
}

/// What it took at the most, and how it ended.
fn play(message: &[u8], limits: &Limits) -> (usize, Result<(), Violation>) {
    let before = LIVE.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let outcome = decode::<Node>(message, limits).map(|_| ());
    ((PEAK.with(Cell::get) - before) as usize, outcome)
}

/// What is read twice or more often, and how much it may take beyond the bytes themselves. A vector that doubles holds its things three times
/// for a moment, and a new one has room for four; a leaf of a B-tree has room for eleven.
const HOSTILE: [(&[u8], usize); 9] = [
    // Empty messages, and empty texts.
    (b"\x0a\x00", 3 * size_of::<Node>()),
    (b"\x2a\x00", 3 * size_of::<Wide>()),
    (b"\x1a\x00", 3 * size_of::<String>()),
    // Numbers, and eight of them packed.
    (b"\x10\x01", 3 * size_of::<u64>()),
    (b"\x12\x08\x01\x01\x01\x01\x01\x01\x01\x01", 8 * 3 * size_of::<u64>()),
    // Messages that hold one empty message each, in a vector, a box and a map.
    (b"\x0a\x02\x0a\x00", (3 + 4) * size_of::<Node>()),
    (b"\x0a\x02\x3a\x00", (3 + 1) * size_of::<Node>()),
    (b"\x0a\x02\x2a\x00", 3 * size_of::<Node>() + 4 * size_of::<Wide>()),
    (b"\x0a\x02\x22\x00", 3 * size_of::<Node>() + 12 * (size_of::<Wide>() + size_of::<u32>())),
];

// PB-01, PB-03
#[test]
fn what_a_message_takes_ends_with_its_elements_however_long_it_is() {
    for elements in [64, 1_000, Limit::ProtobufElements.default()] {
        let limits = Limits::DEFAULT.with(Limit::ProtobufElements, elements).unwrap();
        let things = elements as usize * 3 / 2;
        for (unit, each) in HOSTILE {
            // Within the limits, at them, and beyond.
            for n in [things / 10, things / 2, things, 3 * things] {
                let message = content(1, &unit.repeat(n));
                let (peak, outcome) = play(&message, &limits);
                let most = (n.min(things) + 8) * each + 4 * size_of::<Node>();
                assert!(peak <= most, "{unit:x?}, {n} times of {elements}: {peak} bytes, and not {most}");
                let is_over = outcome.is_err_and(|v| v.rule == Rule::ProtobufTooMany);
                assert!(is_over || (n <= things && outcome.is_ok()), "{unit:x?}, {n} times of {elements}: {outcome:?}");
            }
        }
    }
}

// PB-01: as deep as it may be, each level with a sibling that is broken off: the depth ends what is asked for.
#[test]
fn what_is_nested_takes_what_its_levels_take() {
    for levels in [1, 10, 63, 64, 65, 99, 100, 101, 1_000] {
        let message = (0..levels).fold(Vec::new(), |inner, _| [content(1, &inner), content(5, b"")].concat());
        let (peak, outcome) = play(&message, &Limits::DEFAULT);
        assert_eq!(outcome.is_ok(), levels <= 65, "{levels}");
        assert!(peak <= 101 * 4 * (size_of::<Node>() + size_of::<Wide>()), "{levels}: {peak}");
    }
}

// PB-03: content takes what came; twice, while prost copies it.
#[test]
fn content_takes_what_it_is() {
    for n in [0, 1, 4_096, 1 << 20] {
        let long = vec![b'x'; n];
        for message in [content(6, &long), content(3, &long), content(1, &content(6, &long))] {
            let (peak, outcome) = play(&message, &Limits::DEFAULT);
            assert_eq!(outcome, Ok(()));
            assert!(peak <= 2 * n + 1_024, "{n}: {peak}");
        }
    }
}
