//! HPACK against the RFC's examples, against what five encoders made of real field lists (`../shared/data`, when it is
//! there), and against an independent decoder and encoder.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;

use loona_hpack::decoder::{DecoderError, IntegerDecodingError};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::Deserialize;
use vestibule::parse::pack::{Decoder, Encoder, Fault, Origin, huffman, integer};

type List = Vec<(Vec<u8>, Vec<u8>)>;

/// So many cases, the same in every run; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make it a longer and another hunt.
fn cases(cases: u32) -> ProptestConfig {
    let hunt = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() };
    if hunt { default } else { ProptestConfig { cases, rng_seed: RngSeed::Fixed(7), ..default } }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A mark that only the name decides, so that whoever refers to it can be told apart from who does not.
fn mark(name: &[u8]) -> u8 {
    name.iter().fold(1u8, |all, b| all.wrapping_mul(31).wrapping_add(*b)).max(1)
}

/// The fields of a block, with every promise about them looked at; each is marked.
fn decode(decoder: &mut Decoder, mut block: &[u8]) -> Result<List, Fault> {
    let (mut list, mut lines) = (List::new(), Vec::new());
    decoder.begin();
    loop {
        let start = lines.len();
        let Some(field) = decoder.next(&mut block, &mut lines).inspect_err(|_| assert_eq!(lines.len(), start))? else {
            assert!(block.is_empty() && lines.len() == start);
            return Ok(list);
        };
        let (name, value) = (field.name.of(&lines).to_vec(), field.value.of(&lines).to_vec());
        assert_eq!(&lines[start..], [&name[..], b": ", &value, b"\r\n"].concat());
        match field.origin {
            Origin::Dynamic(its) | Origin::DynamicName(its) => assert_eq!(its, mark(&name), "another entry's mark"),
            Origin::Static(_) => assert!(!field.indexed && !field.sensitive),
            Origin::StaticName(_) | Origin::Literal => {}
        }
        assert!(!(field.indexed && field.sensitive));
        decoder.mark(mark(&name));
        list.push((name, value));
    }
}

fn text(list: &[(Vec<u8>, Vec<u8>)]) -> String {
    let line = |(name, value): &(Vec<u8>, Vec<u8>)| [&name[..], b": ", value, b"\n"].concat();
    String::from_utf8(list.iter().flat_map(line).collect()).unwrap()
}

fn encode(encoder: &mut Encoder, list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value) in list {
        let before = out.len();
        encoder.field(&mut out, std::str::from_utf8(name).unwrap(), value);
        assert!(out.len() - before <= Encoder::bound(name.len(), value.len()));
    }
    out
}

/// RFC 7541 Appendix C: the block, the fields, the table's size behind it. C.1 is beside the integers.
const C2: [(&str, &str, usize); 4] = [
    ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header\n", 55),
    ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path\n", 0),
    ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret\n", 0),
    ("82", ":method: GET\n", 0),
];

const REQUESTS: [(&str, usize); 3] = [
    (":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n", 57),
    (":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n", 110),
    (":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n", 164),
];
const C3: [&str; 3] = [
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
];
const C4: [&str; 3] = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
];

const RESPONSES: [(&str, usize); 3] = [
    (
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n",
        222,
    ),
    (
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n",
        222,
    ),
    (
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
         location: https://www.example.com\ncontent-encoding: gzip\n\
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
        215,
    ),
];
const C5: [&str; 3] = [
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
     546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "4803 3330 37c1 c0bf",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
     6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
     2076 6572 7369 6f6e 3d31",
];
const C6: [&str; 3] = [
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
     8f0b 97c8 e9ae 82ae 43d3",
    "4883 640e ffc1 c0bf",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
     dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
];

#[test]
fn the_examples_of_the_rfc() {
    for (block, fields, size) in C2 {
        let mut decoder = Decoder::new(4_096);
        assert_eq!(text(&decode(&mut decoder, &hex(block)).unwrap()), fields);
        assert_eq!(decoder.table_bytes(), size);
    }
    for (blocks, expected, first) in
        [(C3, REQUESTS, ""), (C4, REQUESTS, ""), (C5, RESPONSES, "3fe1 01"), (C6, RESPONSES, "3fe1 01")]
    {
        // C.5 and C.6 are about a table of 256 bytes; the block that says so is theirs to know, and ours to write.
        let mut decoder = Decoder::new(4_096);
        assert_eq!(decode(&mut decoder, &hex(first)), Ok(vec![]));
        for (block, (fields, size)) in blocks.iter().zip(expected) {
            assert_eq!(text(&decode(&mut decoder, &hex(block)).unwrap()), fields);
            assert_eq!(decoder.table_bytes(), size);
        }
    }
}

#[test]
fn sensitive_is_what_was_sent_so() {
    for (first, sensitive) in [(0x00u8, false), (0x10, true), (0x40, false)] {
        let mut lines = Vec::new();
        let block = [first, 1, b'a', 1, b'b'];
        let field = Decoder::new(4_096).next(&mut &block[..], &mut lines).unwrap().unwrap();
        assert_eq!((field.sensitive, field.indexed), (sensitive, first == 0x40));
    }
}

#[derive(Deserialize)]
struct Story {
    cases: Vec<Case>,
    header_table_size: Option<u32>,
}

#[derive(Deserialize)]
struct Case {
    wire: String,
    header_table_size: Option<u32>,
}

type Stories = BTreeMap<String, Vec<Vec<(String, String)>>>;

fn stories() -> Option<Stories> {
    let path = "../shared/data/hpack/stories.json";
    let Ok(file) = std::fs::read(path) else {
        println!("skipped: {path} is not there");
        return None;
    };
    Some(serde_json::from_slice(&file).unwrap())
}

fn list(fields: &[(String, String)]) -> List {
    fields.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect()
}

#[test]
fn what_other_encoders_write_is_read() {
    let Some(stories) = stories() else { return };
    let mut blocks = 0;
    for file in std::fs::read_dir("../shared/data/hpack/wire").unwrap() {
        let path = file.unwrap().path();
        let wire: BTreeMap<String, Story> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (number, story) in wire {
            let sizes = story.cases.iter().filter_map(|c| c.header_table_size).chain(story.header_table_size);
            let mut decoder = Decoder::new(sizes.max().unwrap_or(4_096));
            let mut size = story.header_table_size.unwrap_or(4_096);
            assert_eq!(story.cases.len(), stories[&number].len());
            for (i, (case, expected)) in story.cases.iter().zip(&stories[&number]).enumerate() {
                size = case.header_table_size.unwrap_or(size);
                let decoded = decode(&mut decoder, &hex(&case.wire));
                assert_eq!(decoded, Ok(list(expected)), "{} {number} {i}", path.display());
                assert!(decoder.table_bytes() <= size as usize);
                blocks += 1;
            }
        }
    }
    println!("{blocks} blocks");
    assert!(blocks > 10_000);
}

#[test]
fn what_we_write_of_the_stories_is_read_by_us_and_others() {
    let Some(stories) = stories() else { return };
    let (mut plain, mut packed) = (0, 0);
    for story in stories.values() {
        let (mut encoder, mut ours, mut theirs) =
            (Encoder::new(4_096), Decoder::new(4_096), loona_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(4_096);
        for fields in story {
            let fields = list(fields);
            let block = encode(&mut encoder, &fields);
            assert_eq!(decode(&mut ours, &block).as_ref(), Ok(&fields));
            assert_eq!(theirs.decode(&block).as_ref(), Ok(&fields));
            plain += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            packed += block.len();
        }
    }
    println!("{plain} bytes became {packed}");
    assert!(packed * 2 < plain);
}

#[rustfmt::skip]
const NAMES: [&str; 18] = [
    ":method", ":path", ":status", ":authority", "accept-encoding", "Content-Type", "content-type", "date", "server",
    "set-cookie", "Cookie", "etag", "vary", "x-a", "X-A", "x-b", "access-control-allow-origin",
    "x-request-id-of-ours",
];

const VALUES: [&str; 10] = ["", "GET", "/", "200", "204", "gzip, deflate", "text/html", "a", "b", "no-cache"];

/// Names that are known, that differ in case only, and that nobody knows.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(&NAMES[..]).prop_map(|name| name.as_bytes().to_vec()),
        1 => "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}".prop_map(String::into_bytes),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(&VALUES[..]).prop_map(|value| value.as_bytes().to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..80),
        2 => "[ -~]{0,60}".prop_map(String::into_bytes),
        1 => (prop::sample::select(&[100usize, 223, 224, 225, 992, 993, 1_100, 4_064, 5_000][..]), any::<u8>())
            .prop_map(|(len, b)| vec![b; len]),
    ]
}

fn fields() -> impl Strategy<Value = List> {
    prop::collection::vec((name(), value()), 1..12)
}

const SIZES: [u32; 9] = [0, 31, 32, 64, 200, 1_000, 4_096, 4_097, 16_384];

fn size() -> impl Strategy<Value = u32> {
    prop::sample::select(&SIZES[..])
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_is_packed_unpacks(
        most in size(),
        blocks in prop::collection::vec((prop::collection::vec(size(), 0..4), fields(), any::<bool>()), 1..12),
    ) {
        let mut encoder = Encoder::new(most);
        let (mut ours, mut theirs) = (Decoder::new(16_384), loona_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(16_384);
        let mut limit = 4_096;
        for (sizes, fields, sheds) in blocks {
            for size in sizes {
                encoder.limit(size);
                limit = size;
            }
            if sheds {
                encoder.shed();
                ours.shed();
            }
            let block = encode(&mut encoder, &fields);
            let sent: List = fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
            prop_assert_eq!(decode(&mut ours, &block), Ok(sent.clone()));
            prop_assert_eq!(theirs.decode(&block), Ok(sent));
            prop_assert!(ours.table_bytes() <= most.min(limit) as usize);
        }
    }

    #[test]
    fn what_another_encoder_packs_unpacks(lists in prop::collection::vec(fields(), 1..20)) {
        let (mut theirs, mut ours) = (loona_hpack::Encoder::new(), Decoder::new(4_096));
        for fields in lists {
            let block = theirs.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
            prop_assert_eq!(decode(&mut ours, &block), Ok(fields));
            let retained = ours.retained_bytes();
            prop_assert!(retained <= 10 * 1_024 + 512, "{}", retained);
        }
    }

    #[test]
    fn status_and_length_between_fields(status in 0..1_000u16, length in any::<u64>(), fields in fields()) {
        let mut encoder = Encoder::new(4_096);
        let mut ours = Decoder::new(4_096);
        for _ in 0..2 {
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.status(&mut block, status);
            for (name, value) in &fields {
                encoder.field(&mut block, std::str::from_utf8(name).unwrap(), value);
            }
            encoder.content_length(&mut block, length);
            let list = decode(&mut ours, &block).unwrap();
            prop_assert_eq!(&list[0], &(b":status".to_vec(), status.to_string().into_bytes()));
            prop_assert_eq!(&list[list.len() - 1], &(b"content-length".to_vec(), length.to_string().into_bytes()));
            prop_assert_eq!(list.len(), fields.len() + 2);
        }
    }
}

/// A part of a block, mostly sound.
#[derive(Clone, Debug)]
enum Part {
    Indexed(u32),
    Literal { flag: u8, index: Option<u32>, name: (Vec<u8>, bool), value: (Vec<u8>, bool) },
    Size(u32),
    Noise(Vec<u8>),
}

/// Taken modulo what there is, but for large ones.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![40 => 0..10_000u32, 1 => 10_000..10_300u32]
}

fn part() -> impl Strategy<Value = Part> {
    let string = || (prop::collection::vec(prop_oneof![3 => 32..127u8, 1 => any::<u8>()], 0..40), any::<bool>());
    let literal = (prop::sample::select(&[0u8, 0x10, 0x40][..]), prop::option::of(index()), string(), string());
    prop_oneof![
        6 => index().prop_map(Part::Indexed),
        8 => literal.prop_map(|(flag, index, name, value)| Part::Literal { flag, index, name, value }),
    ]
}

/// Most blocks begin with a field, and hold nothing else.
fn parts() -> impl Strategy<Value = Vec<Part>> {
    let size = prop_oneof![3 => Just(4_096u32), 1 => 0..5_000u32].prop_map(Part::Size);
    let noise = prop::collection::vec(any::<u8>(), 0..12).prop_map(Part::Noise);
    let rare = (prop::collection::vec(size, 0..3), prop::collection::vec(part(), 0..8), noise);
    prop_oneof![
        8 => prop::collection::vec(part(), 1..8),
        1 => rare.prop_map(|(sizes, parts, noise)| sizes.into_iter().chain(parts).chain([noise]).collect()),
        1 => prop::collection::vec(prop_oneof![part(), (0..5_000u32).prop_map(Part::Size)], 1..8),
    ]
}

fn put_string(out: &mut Vec<u8>, (text, coded): &(Vec<u8>, bool)) {
    if *coded {
        integer::encode(out, 0x80, 7, huffman::encoded_len(text) as u32);
        huffman::encode(text, out);
    } else {
        integer::encode(out, 0, 7, text.len() as u32);
        out.extend_from_slice(text);
    }
}

/// `entries` is how many the dynamic table might hold.
fn put(out: &mut Vec<u8>, part: &Part, entries: &mut u32) {
    let sound = |index: u32| if index < 10_000 { 1 + index % (61 + *entries) } else { index - 10_000 };
    match part {
        Part::Indexed(index) => integer::encode(out, 0x80, 7, sound(*index)),
        Part::Size(size) => integer::encode(out, 0x20, 5, *size),
        Part::Noise(bytes) => out.extend_from_slice(bytes),
        Part::Literal { flag, index, name, value } => {
            let (prefix, index) = (if *flag == 0x40 { 6 } else { 4 }, index.map_or(0, sound));
            integer::encode(out, *flag, prefix, index);
            if index == 0 {
                put_string(out, name);
            }
            put_string(out, value);
            *entries += u32::from(*flag == 0x40);
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Remove(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => any::<usize>().prop_map(Change::Cut),
        1 => (any::<usize>(), any::<u8>()).prop_map(|(at, b)| Change::Insert(at, b)),
        1 => any::<usize>().prop_map(Change::Remove),
    ]
}

/// Few blocks are changed: a table has to be filled before a change can do much harm.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop_oneof![5 => Just(vec![]), 1 => prop::collection::vec(change(), 1..4)]
}

fn apply(block: &mut Vec<u8>, change: &Change) {
    let len = block.len().max(1);
    match *change {
        Change::Flip(at, bit) => block.iter_mut().skip(at % len).take(1).for_each(|b| *b ^= 1 << bit),
        Change::Cut(at) => block.truncate(at % len),
        Change::Insert(at, b) => block.insert(at % len % (block.len() + 1), b),
        Change::Remove(at) => drop(block.splice(at % len..(at % len + 1).min(block.len()), []).count()),
    }
}

/// Whether both are in one state still. What one of them takes and the other does not is listed here, and nowhere else.
fn agree(ours: &mut Decoder, theirs: &mut loona_hpack::Decoder<'_>, block: &[u8]) -> bool {
    match (decode(ours, block), theirs.decode(block)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs, "{block:x?}");
            true
        }
        (Err(_), Err(_)) => false,
        // They do not mind where a change of size is, nor how many there are.
        (Err(Fault::SizeUpdate), Ok(_)) => false,
        // A block of nothing but changes of size is sound, if odd.
        (Ok(_), Err(DecoderError::SizeUpdateAtEnd)) => false,
        // They take four continuation bytes at most, we five: needless zeros at the end.
        (Ok(_), Err(DecoderError::IntegerDecodingError(IntegerDecodingError::TooManyOctets))) => false,
        (ours, theirs) => panic!("{block:x?}: {ours:?}, but {theirs:?}"),
    }
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn mutated_blocks_mean_the_same_to_another_decoder(
        blocks in prop::collection::vec((parts(), changes()), 1..8),
    ) {
        let (mut ours, mut theirs) = (Decoder::new(4_096), loona_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(4_096);
        let mut entries = 0;
        for (parts, changes) in blocks {
            let mut block = Vec::new();
            parts.iter().for_each(|part| put(&mut block, part, &mut entries));
            changes.iter().for_each(|change| apply(&mut block, change));
            if !agree(&mut ours, &mut theirs, &block) {
                break;
            }
        }
    }

    #[test]
    fn random_bytes_mean_the_same_to_another_decoder(block in prop::collection::vec(any::<u8>(), 0..60)) {
        let (mut ours, mut theirs) = (Decoder::new(4_096), loona_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(4_096);
        agree(&mut ours, &mut theirs, &block);
    }

    #[test]
    fn growth_is_bounded(parts in prop::collection::vec(part(), 0..40)) {
        let (mut decoder, mut lines, mut block) = (Decoder::new(4_096), Vec::new(), Vec::new());
        parts.iter().filter(|part| !matches!(part, Part::Indexed(_))).for_each(|part| put(&mut block, part, &mut 0));
        let mut rest = &block[..];
        while let Ok(Some(_)) = decoder.next(&mut rest, &mut lines) {}
        // Without whole lines from the table: a literal is at most 8/5 of its bytes, a name from a table no longer than
        // one there, and a line's punctuation is four bytes.
        prop_assert!(lines.len() <= block.len() * 8 / 5 + (40 + 4) * parts.len().max(block.len() / 2));
        prop_assert!(decoder.retained_bytes() <= 10 * 1_024 + 512);
    }
}
