//! Random schemas and messages, and four ways to read and write them: by the library, by prost, by hand.

use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use vestibule::decode::protobuf::{Field, Fields, Item, Packed, Reader, Value, fields};
use vestibule::{Limits, Rule, Violation};

pub const VARINT: Packed = Packed::Varint;
pub const FIXED32: Packed = Packed::Fixed32;
pub const FIXED64: Packed = Packed::Fixed64;

/// xorshift64*.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() >> 33) as usize) % n.max(1)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Bool,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Bytes,
    Text,
    Message(Schema),
}

use Kind::*;

/// Numbers and kinds of fields. Every field is repeated.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Schema(pub Vec<(u32, Kind)>);

/// What a message holds, in its order. Numbers as the bits of what the schema makes of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Number(u32, u64),
    Content(u32, Vec<u8>),
    Enter(u32),
    End,
}

const SCALARS: [Kind; 13] =
    [Int32, Int64, Uint32, Uint64, Sint32, Sint64, Bool, Fixed32, Fixed64, Sfixed32, Sfixed64, Float, Double];

impl Schema {
    pub fn get(&self, number: u32) -> Option<&Kind> {
        self.0.iter().find(|field| field.0 == number).map(|field| &field.1)
    }

    pub fn random(dice: &mut Dice, depth: usize) -> Schema {
        let mut schema = Schema::default();
        for _ in 0..1 + dice.below(7) {
            let number =
                [1 + dice.below(15), 1 + dice.below(3_000), (1 << 29) - 1 - dice.below(9)][dice.below(3)] as u32;
            let kind = match dice.below(17) {
                13 => Bytes,
                14 => Text,
                15.. if depth > 0 => Message(Schema::random(dice, depth - 1)),
                n => SCALARS[n % 13].clone(),
            };
            if schema.get(number).is_none() {
                schema.0.push((number, kind));
            }
        }
        schema
    }

    /// Number 1 to 16.
    pub fn of_all_kinds() -> Schema {
        let kinds = SCALARS.into_iter().chain([Bytes, Text]);
        let mut all: Vec<_> = (1..).zip(kinds).collect();
        all.push((16, Message(Schema(all.clone()))));
        Schema(all)
    }

    pub fn random_message(&self, dice: &mut Dice) -> Vec<Entry> {
        let mut log = Vec::new();
        for _ in 0..dice.below(9) {
            let (number, kind) = &self.0[dice.below(self.0.len())];
            match kind {
                Message(inner) => {
                    log.push(Entry::Enter(*number));
                    log.extend(inner.random_message(dice));
                    log.push(Entry::End);
                }
                Bytes => {
                    let content = (0..dice.below(40)).map(|_| dice.below(256) as u8).collect();
                    log.push(Entry::Content(*number, content));
                }
                Text => {
                    let letters = ["a", "\u{e4}", "\u{20ac}", "\u{1f600}", "\0", " "];
                    let text: String = (0..dice.below(12)).map(|_| letters[dice.below(6)]).collect();
                    log.push(Entry::Content(*number, text.into_bytes()));
                }
                kind => {
                    for _ in 0..=dice.below(4) {
                        // Few bits and many.
                        let bits = dice.next() >> dice.below(64);
                        let bits = if dice.below(4) == 0 { bits.wrapping_neg() } else { bits };
                        log.push(Entry::Number(*number, kind.canonical(bits)));
                    }
                }
            }
        }
        log
    }
}

impl Kind {
    fn packed(&self) -> Option<Packed> {
        match self {
            Fixed32 | Sfixed32 | Float => Some(FIXED32),
            Fixed64 | Sfixed64 | Double => Some(FIXED64),
            Bytes | Text | Message(_) => None,
            _ => Some(VARINT),
        }
    }

    /// Some bits as a value of this kind can have them.
    fn canonical(&self, bits: u64) -> u64 {
        match self {
            Int32 | Sint32 | Sfixed32 => i64::from(bits as i32) as u64,
            Uint32 | Fixed32 | Float => u64::from(bits as u32),
            Bool => bits & 1,
            _ => bits,
        }
    }

    /// What the library makes of a value.
    fn read<B>(&self, value: &Value<B>) -> Option<u64> {
        let signed = |n: Option<i32>| n.map(|n| i64::from(n) as u64);
        match self {
            Int32 => signed(value.int32()),
            Int64 => value.int64().map(|n| n as u64),
            Uint32 => value.uint32().map(u64::from),
            Uint64 => value.uint64(),
            Sint32 => signed(value.sint32()),
            Sint64 => value.sint64().map(|n| n as u64),
            Bool => value.bool().map(u64::from),
            Fixed32 => value.fixed32().map(u64::from),
            Fixed64 => value.fixed64(),
            Sfixed32 => signed(value.sfixed32()),
            Sfixed64 => value.sfixed64().map(|n| n as u64),
            Float => value.float().map(|f| u64::from(f.to_bits())),
            Double => value.double().map(f64::to_bits),
            Bytes | Text | Message(_) => None,
        }
    }
}

/// Two pieces.
pub fn cut(bytes: &[u8], at: usize) -> [&[u8]; 2] {
    let (a, b) = bytes.split_at(at);
    [a, b]
}

/// What the reader gives of these pieces.
pub fn ours<'c>(
    schema: &Schema,
    pieces: impl IntoIterator<Item = &'c [u8]>,
    limits: &Limits,
) -> (Vec<Entry>, Result<(), Violation>) {
    let mut log = Vec::new();
    let mut reader = Reader::new(limits);
    let mut stack = vec![schema];
    let mut inside = false;
    for mut piece in pieces {
        loop {
            let item = match reader.next(&mut piece) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(v) => return (log, Err(v)),
            };
            match item {
                Item::Field(field) => {
                    if let Err(v) = take(&mut reader, field, &mut stack, &mut inside, &mut log) {
                        return (log, Err(v));
                    }
                }
                Item::Part(part) => match log.last_mut() {
                    Some(Entry::Content(_, bytes)) => bytes.extend_from_slice(part),
                    other => panic!("a part behind {other:?}"),
                },
                Item::End if inside => inside = false,
                Item::End => {
                    stack.pop();
                    log.push(Entry::End);
                }
            }
        }
        assert!(piece.is_empty());
    }
    (log, reader.finish())
}

/// Decides about a field. `inside`: content or packed elements follow, and an end that is no message's.
fn take<'s>(
    reader: &mut Reader,
    field: Field<u32>,
    stack: &mut Vec<&'s Schema>,
    inside: &mut bool,
    log: &mut Vec<Entry>,
) -> Result<(), Violation> {
    let Field { number, value } = field;
    let schema: &'s Schema = stack.last().unwrap();
    match (schema.get(number), value) {
        (None, _) => reader.skip(),
        (Some(Message(inner)), Value::Bytes(_)) => {
            reader.enter()?;
            stack.push(inner);
            log.push(Entry::Enter(number));
        }
        (Some(kind @ (Bytes | Text)), Value::Bytes(_)) => {
            if *kind == Text {
                reader.text()
            } else {
                reader.bytes()
            }
            *inside = true;
            log.push(Entry::Content(number, Vec::new()));
        }
        (Some(kind), Value::Bytes(_)) => {
            reader.packed(kind.packed().unwrap())?;
            *inside = true;
        }
        (Some(kind), value) => match kind.read(&value) {
            Some(bits) => log.push(Entry::Number(number, bits)),
            None => return Err(Violation::new(Rule::ProtobufShape, reader.offset())),
        },
    }
    Ok(())
}

/// What the fields of a slice are.
pub fn ours_whole(schema: &Schema, bytes: &[u8], limits: &Limits) -> (Vec<Entry>, Result<(), Violation>) {
    fn level(own: &mut Fields<'_>, schema: &Schema, log: &mut Vec<Entry>) -> Result<(), Violation> {
        while let Some(field) = own.next() {
            let Field { number, value } = field?;
            match (schema.get(number), value) {
                (None, _) => {}
                (Some(Message(inner)), Value::Bytes(_)) => {
                    own.enter()?;
                    log.push(Entry::Enter(number));
                    level(own, inner, log)?;
                    log.push(Entry::End);
                }
                (Some(Bytes), Value::Bytes(content)) => log.push(Entry::Content(number, content.to_vec())),
                (Some(Text), Value::Bytes(_)) => log.push(Entry::Content(number, own.text()?.as_bytes().to_vec())),
                (Some(kind), Value::Bytes(_)) => {
                    own.packed(kind.packed().unwrap())?;
                    for element in own.by_ref() {
                        log.push(Entry::Number(number, kind.read(&element?.value).unwrap()));
                    }
                }
                (Some(kind), value) => match kind.read(&value) {
                    Some(bits) => log.push(Entry::Number(number, bits)),
                    None => return Err(Violation::new(Rule::ProtobufShape, own.offset())),
                },
            }
        }
        Ok(())
    }
    let (mut own, mut log) = (fields(bytes, limits), Vec::new());
    let mut outcome = level(&mut own, schema, &mut log);
    // A fault inside ends the loop around it as well; the first one counts.
    if outcome.is_ok() && own.depth() > 0 {
        outcome = Err(Violation::new(Rule::ProtobufTruncated, own.offset()));
    }
    (log, outcome)
}

/// prost, on a schema that is known at run time.
#[derive(Debug)]
struct Dynamic<'s> {
    schema: &'s Schema,
    log: Vec<Entry>,
}

/// What prost makes of a message.
pub fn prosts(schema: &Schema, mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut dynamic = Dynamic { schema, log: Vec::new() };
    dynamic.merge(&mut bytes).ok().map(|()| dynamic.log)
}

pub fn write_by_prost(schema: &Schema, log: &[Entry]) -> Vec<u8> {
    Dynamic { schema, log: log.to_vec() }.encode_to_vec()
}

/// The entries up to the end that goes with an `Enter` in front of them.
fn inside(log: &[Entry]) -> &[Entry] {
    let mut open = 1;
    let end = log.iter().position(|entry| {
        match entry {
            Entry::Enter(_) => open += 1,
            Entry::End => open -= 1,
            _ => {}
        }
        open == 0
    });
    &log[..end.unwrap()]
}

/// How many entries at the front are numbers of this field.
fn run(log: &[Entry], number: u32) -> Vec<u64> {
    log.iter()
        .map_while(|entry| match entry {
            Entry::Number(n, bits) if *n == number => Some(*bits),
            _ => None,
        })
        .collect()
}

macro_rules! scalars {
    ($kind:expr, $do:ident) => {
        match $kind {
            Int32 => $do!(int32, i32, |n: i32| i64::from(n) as u64, |b: u64| b as i32),
            Int64 => $do!(int64, i64, |n: i64| n as u64, |b: u64| b as i64),
            Uint32 => $do!(uint32, u32, |n: u32| u64::from(n), |b: u64| b as u32),
            Uint64 => $do!(uint64, u64, |n: u64| n, |b: u64| b),
            Sint32 => $do!(sint32, i32, |n: i32| i64::from(n) as u64, |b: u64| b as i32),
            Sint64 => $do!(sint64, i64, |n: i64| n as u64, |b: u64| b as i64),
            Bool => $do!(bool, bool, |n: bool| u64::from(n), |b: u64| b != 0),
            Fixed32 => $do!(fixed32, u32, |n: u32| u64::from(n), |b: u64| b as u32),
            Fixed64 => $do!(fixed64, u64, |n: u64| n, |b: u64| b),
            Sfixed32 => $do!(sfixed32, i32, |n: i32| i64::from(n) as u64, |b: u64| b as i32),
            Sfixed64 => $do!(sfixed64, i64, |n: i64| n as u64, |b: u64| b as i64),
            Float => $do!(float, f32, |n: f32| u64::from(n.to_bits()), |b: u64| f32::from_bits(b as u32)),
            Double => $do!(double, f64, |n: f64| n.to_bits(), |b: u64| f64::from_bits(b)),
            Bytes | Text | Message(_) => unreachable!("no scalar"),
        }
    };
}

impl prost::Message for Dynamic<'_> {
    fn encode_raw(&self, out: &mut impl prost::bytes::BufMut) {
        let mut rest = &self.log[..];
        while let Some(entry) = rest.first() {
            match entry {
                Entry::Enter(number) => {
                    let Some(Message(schema)) = self.schema.get(*number) else { unreachable!() };
                    let inner = inside(&rest[1..]);
                    encoding::message::encode(*number, &Dynamic { schema, log: inner.to_vec() }, out);
                    rest = &rest[inner.len() + 2..];
                    continue;
                }
                Entry::Content(number, content) => match self.schema.get(*number) {
                    Some(Text) => encoding::string::encode(*number, &String::from_utf8(content.clone()).unwrap(), out),
                    _ => encoding::bytes::encode(*number, content, out),
                },
                Entry::Number(number, bits) => {
                    let all = run(rest, *number);
                    macro_rules! write {
                        ($name:ident, $type:ty, $to:expr, $from:expr) => {{
                            if all.len() > 2 {
                                let all: Vec<$type> = all.iter().map(|bits| $from(*bits)).collect();
                                encoding::$name::encode_packed(*number, &all, out);
                                rest = &rest[all.len()..];
                                continue;
                            }
                            encoding::$name::encode(*number, &$from(*bits), out)
                        }};
                    }
                    scalars!(self.schema.get(*number).unwrap(), write);
                }
                Entry::End => unreachable!("passed over with its Enter"),
            }
            rest = &rest[1..];
        }
    }

    fn merge_field(
        &mut self,
        number: u32,
        wire: WireType,
        bytes: &mut impl prost::bytes::Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match self.schema.get(number) {
            None => encoding::skip_field(wire, number, bytes, context),
            Some(Message(schema)) => {
                let mut inner = Dynamic { schema, log: Vec::new() };
                encoding::message::merge(wire, &mut inner, bytes, context)?;
                self.log.push(Entry::Enter(number));
                self.log.append(&mut inner.log);
                self.log.push(Entry::End);
                Ok(())
            }
            Some(Bytes) => {
                let mut content: Vec<u8> = Vec::new();
                encoding::bytes::merge(wire, &mut content, bytes, context)?;
                self.log.push(Entry::Content(number, content));
                Ok(())
            }
            Some(Text) => {
                let mut content = String::new();
                encoding::string::merge(wire, &mut content, bytes, context)?;
                self.log.push(Entry::Content(number, content.into_bytes()));
                Ok(())
            }
            Some(kind) => {
                macro_rules! read {
                    ($name:ident, $type:ty, $to:expr, $from:expr) => {{
                        let mut all: Vec<$type> = Vec::new();
                        encoding::$name::merge_repeated(wire, &mut all, bytes, context)?;
                        self.log.extend(all.into_iter().map(|n| Entry::Number(number, $to(n))));
                    }};
                }
                scalars!(kind, read);
                Ok(())
            }
        }
    }

    fn encoded_len(&self) -> usize {
        let mut out = Vec::new();
        self.encode_raw(&mut out);
        out.len()
    }

    fn clear(&mut self) {
        self.log.clear();
    }
}

pub fn varint(mut n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// A varint, now and then longer than it need be, up to `most` bytes.
fn loose(n: u64, most: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = varint(n);
    if dice.below(5) == 0 && bytes.len() < most {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.resize(bytes.len() + dice.below(most - bytes.len()), 0x80);
        bytes.push(0);
    }
    bytes
}

fn tag(number: u32, wire: u64, dice: &mut Dice) -> Vec<u8> {
    loose(u64::from(number) << 3 | wire, 5, dice)
}

fn content(number: u32, bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    [tag(number, 2, dice), loose(bytes.len() as u64, 10, dice), bytes.to_vec()].concat()
}

fn scalar(kind: &Kind, bits: u64, dice: &mut Dice) -> Vec<u8> {
    match kind {
        Sint32 | Sint64 => loose(bits << 1 ^ ((bits as i64 >> 63) as u64), 10, dice),
        // The high bits of a narrow number say nothing.
        Uint32 if dice.below(3) == 0 => loose(bits | dice.next() << 32, 10, dice),
        Bool if bits == 1 => loose(1 + dice.next() / 2, 10, dice),
        kind => match kind.packed().unwrap() {
            Packed::Varint => loose(bits, 10, dice),
            Packed::Fixed32 => (bits as u32).to_le_bytes().to_vec(),
            Packed::Fixed64 => bits.to_le_bytes().to_vec(),
        },
    }
}

/// The same message as others might write it.
pub fn write_by_hand(schema: &Schema, log: &[Entry], dice: &mut Dice) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), log);
    while let Some(entry) = rest.first() {
        if dice.below(4) == 0 {
            // An unknown field.
            let number = (1..).find(|n| schema.get(*n).is_none()).unwrap();
            let (wire, value) = match dice.below(4) {
                0 => (0, varint(dice.next())),
                1 => (1, dice.next().to_le_bytes().to_vec()),
                2 => (5, vec![0xff; 4]),
                _ => (2, [varint(7), b"\x0b\xff\xff\0\x07ab".to_vec()].concat()),
            };
            out.extend([tag(number, wire, dice), value].concat());
        }
        let taken = match entry {
            Entry::Enter(number) => {
                let Some(Message(inner)) = schema.get(*number) else { unreachable!() };
                let log = inside(&rest[1..]);
                let bytes = write_by_hand(inner, log, dice);
                out.extend(content(*number, &bytes, dice));
                log.len() + 2
            }
            Entry::Content(number, bytes) => {
                out.extend(content(*number, bytes, dice));
                1
            }
            Entry::Number(number, bits) => {
                let kind = schema.get(*number).unwrap();
                let all = run(rest, *number);
                if dice.below(2) == 0 {
                    let n = 1 + dice.below(all.len());
                    let bytes: Vec<u8> = all[..n].iter().flat_map(|bits| scalar(kind, *bits, dice)).collect();
                    out.extend(content(*number, &bytes, dice));
                    n
                } else {
                    let wire = [0, 5, 1][kind.packed().unwrap() as usize];
                    out.extend([tag(*number, wire, dice), scalar(kind, *bits, dice)].concat());
                    1
                }
            }
            Entry::End => unreachable!("passed over with its Enter"),
        };
        rest = &rest[taken..];
    }
    out
}
