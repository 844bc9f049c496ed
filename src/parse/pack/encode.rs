//! In: the fields of a head, one by one. Out: a header block (RFC 7541 §6), short and cheap rather than shortest.
//!
//! What repeats from response to response goes into the table. What hardly does (lengths, validators, places) is sent
//! as it is, and what is secret is marked to stay out of every table (RFC 7541 §7.1.3).

use super::decode::INITIAL_TABLE;
use super::table::{Record, Table};
use super::words::{is_lower_of, lower, words};
use super::{fixed, huffman, integer};
use alloc::vec::Vec;

/// The sending side of a connection's compression.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    most: u32,
    /// The size to use from the next block on, and the smallest one that was asked for since the last (RFC 7541 §4.2).
    version: u32,
    next: u32,
    smallest: u32,
    /// Entries that were ever put in, modulo 256.
    count: u8,
    /// For hashes of lines: `count` before the line was last put in, or something else.
    slots: [u8; SLOTS],
}

const SLOTS: usize = 64;

/// How a line is written that is in no table: flag and prefix (RFC 7541 §6.2).
#[derive(Copy, Clone, PartialEq, Eq)]
enum How {
    Indexed,
    Plain,
    Never,
}

impl How {
    const fn form(self) -> (u8, u8) {
        match self {
            How::Indexed => (0x40, 6),
            How::Plain => (0x00, 4),
            How::Never => (0x10, 4),
        }
    }

    /// By the first static entry of the name.
    const fn of(first: u8) -> How {
        match first {
            // authorization, cookie, proxy-authorization, set-cookie
            23 | 32 | 49 | 55 => How::Never,
            // :path, :status, age, content-length, content-range, etag, last-modified, location
            4 | STATUS | 21 | CONTENT_LENGTH | 30 | 34 | 44 | 46 => How::Plain,
            _ => How::Indexed,
        }
    }
}

const STATUS: u8 = 8;
const CONTENT_LENGTH: u8 = 28;

impl Encoder {
    /// An encoder that uses at most `most_table_bytes`, or what the peer allows if that is less: 4,096 until it says
    /// something else.
    pub fn new(most_table_bytes: u32) -> Encoder {
        let next = most_table_bytes.min(INITIAL_TABLE);
        let table = Table::new(INITIAL_TABLE);
        Encoder { table, most: most_table_bytes, version: 0, next, smallest: next, count: 0, slots: [0; SLOTS] }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE: takes effect with the next block.
    pub fn limit(&mut self, peer_table_bytes: u32) {
        self.version = self.version.wrapping_add(1);
        self.next = self.most.min(peer_table_bytes);
        self.smallest = self.smallest.min(self.next);
    }

    /// A new block begins. Says what became of the table's size since the last one, in at most 12 bytes (RFC 7541 §4.2:
    /// the smallest, then the one that counts).
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        for size in [self.smallest, self.next] {
            if size as usize != self.table.most() {
                integer::encode(out, 0x20, 5, size);
                self.table.resize(size);
            }
        }
        self.smallest = self.next;
    }

    /// `:status`, in at most 7 bytes.
    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return number(out, STATUS, status.into()),
        };
        out.push(0x80 | index);
    }

    /// `content-length`, in at most 23 bytes.
    pub fn content_length(&mut self, out: &mut Vec<u8>, n: u64) {
        number(out, CONTENT_LENGTH, n);
    }

    /// Upper bound of what [`Encoder::field`] can append.
    pub const fn bound(name_bytes: usize, value_bytes: usize) -> usize {
        (1 + 2 * integer::MOST_BYTES).saturating_add(name_bytes).saturating_add(value_bytes)
    }

    /// One field. The name, a token, is lower-cased while it is written.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        let name = name.as_bytes();
        let mark = mark(name, value);
        let slot = usize::from(self.count.wrapping_sub(1).wrapping_sub(self.slots[mark as usize % SLOTS]));
        if self.table.get(slot).is_some_and(|record| self.is_it(record, mark, name, value)) {
            return dynamic(out, slot);
        }
        let known = fixed::find(name);
        match known.map_or(How::Indexed, How::of) {
            How::Never => literal(out, How::Never, known.map(u32::from), name, value),
            how => match known.and_then(|first| fixed::find_value(first, value)) {
                Some(index) => out.push(0x80 | index),
                None if how == How::Plain => literal(out, how, known.map(u32::from), name, value),
                None => self.other(out, mark, known, name, value),
            },
        }
    }

    /// A line that belongs into the table, and was not found at once.
    fn other(&mut self, out: &mut Vec<u8>, mark: u32, known: Option<u8>, name: &[u8], value: &[u8]) {
        if let Some(i) = self.table.iter().position(|&record| self.is_it(record, mark, name, value)) {
            self.slots[mark as usize % SLOTS] = self.count.wrapping_sub(1).wrapping_sub(i as u8);
            return dynamic(out, i);
        }
        let index = known.map(u32::from).or_else(|| self.find_name(mark, name));
        // What takes more than a quarter of the table would drive out more than it is worth.
        if Table::cost(name.len(), value.len()) > self.table.most() / 4 {
            return literal(out, How::Plain, index, name, value);
        }
        // Without memory it stays out of the table. What went for it may still be in the peer's, which does no harm: those are its oldest.
        let how = if self.insert(mark, name, value) { How::Indexed } else { How::Plain };
        literal(out, how, index, name, value);
    }

    #[inline]
    fn is_it(&self, record: Record, mark: u32, name: &[u8], value: &[u8]) -> bool {
        record.mark == mark && {
            let (its_name, its_value) = self.table.text(record);
            its_value == value && is_lower_of(its_name, name)
        }
    }

    /// The index of the youngest entry of this name.
    fn find_name(&self, mark: u32, name: &[u8]) -> Option<u32> {
        let is_it = |record: &Record| record.mark >> 16 == mark >> 16 && is_lower_of(self.table.text(*record).0, name);
        self.table.iter().position(is_it).map(|i| fixed::COUNT + 1 + i as u32)
    }

    /// Changes with the table.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Puts a line into the table, which it fits; `false`: there is no memory for that.
    fn insert(&mut self, mark: u32, name: &[u8], value: &[u8]) -> bool {
        self.version = self.version.wrapping_add(1);
        let Ok(Some(line)) = self.table.insert(name.len(), value.len(), mark) else { return false };
        let (its_name, rest) = line.split_at_mut(name.len());
        its_name.copy_from_slice(name);
        its_name.make_ascii_lowercase();
        if let Some(its_value) = rest.get_mut(2..2 + value.len()) {
            its_value.copy_from_slice(value);
        }
        self.slots[mark as usize % SLOTS] = self.count;
        self.count = self.count.wrapping_add(1);
        true
    }

    /// Heap bytes, by capacity: for a table of 4,096 at most about 10 KiB.
    pub fn retained_bytes(&self) -> usize {
        self.table.retained_bytes()
    }

    /// Frees what holds no entry.
    pub fn shed(&mut self) {
        self.table.shed();
    }
}

/// A hash of the name above one of the whole line, in whatever case the name is. It finds lines, and protects from
/// nothing: of lines that are made to have one hash, each costs a look.
#[inline]
fn mark(name: &[u8], value: &[u8]) -> u32 {
    let step = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 32
    };
    let of_name = words(name).map(lower).fold(name.len() as u64, step);
    let of_line = words(value).fold(of_name, step);
    (of_name >> 48 << 16) as u32 | (of_line >> 48) as u32
}

/// Entry `i` of the dynamic table (RFC 7541 §6.1).
#[inline]
fn dynamic(out: &mut Vec<u8>, i: usize) {
    integer::encode(out, 0x80, 7, fixed::COUNT + 1 + i as u32);
}

/// A literal, whose name is an entry's if that is known (RFC 7541 §6.2).
fn literal(out: &mut Vec<u8>, how: How, index: Option<u32>, name: &[u8], value: &[u8]) {
    let (flag, prefix) = how.form();
    match index {
        Some(index) => integer::encode(out, flag, prefix, index),
        None => {
            out.push(flag);
            string(out, name, |b| b.to_ascii_lowercase());
        }
    }
    string(out, value, |b| b);
}

/// A number as the value of a static entry's name. Huffman's code would save a byte or two, and take longer than all
/// the rest.
fn number(out: &mut Vec<u8>, index: u8, mut n: u64) {
    let mut digits = [0; 20];
    let mut len = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
        len += 1;
        if n == 0 {
            break;
        }
    }
    let (flag, prefix) = How::Plain.form();
    integer::encode(out, flag, prefix, index.into());
    out.push(len as u8);
    out.extend_from_slice(digits.get(digits.len() - len..).unwrap_or_default());
}

/// Appends a string, in Huffman's code if that is shorter (RFC 7541 §5.2).
#[inline]
fn string(out: &mut Vec<u8>, text: &[u8], map: impl Fn(u8) -> u8 + Copy) {
    let coded = huffman::len_with(text, map);
    if coded < text.len() {
        integer::encode(out, 0x80, 7, coded as u32);
        huffman::encode_with(text, out, map);
    } else {
        integer::encode(out, 0, 7, text.len() as u32);
        out.extend(text.iter().map(|&b| map(b)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Decoder, Origin};
    use super::*;

    fn lines(decoder: &mut Decoder, mut block: &[u8]) -> String {
        let mut lines = Vec::new();
        decoder.begin();
        while decoder.next(&mut block, &mut lines).unwrap().is_some() {}
        String::from_utf8(lines).unwrap()
    }

    fn block(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            let before = out.len();
            encoder.field(&mut out, name, value.as_bytes());
            assert!(out.len() - before <= Encoder::bound(name.len(), value.len()));
        }
        out
    }

    #[test]
    fn what_repeats_is_one_byte() {
        let (mut encoder, mut decoder) = (Encoder::new(4_096), Decoder::new(4_096));
        let fields = [("Server", "vestibule"), ("date", "Mon, 21 Oct 2013 20:13:21 GMT"), ("X-Own", "1"), ("vary", "")];
        let first = block(&mut encoder, &fields);
        let text = "server: vestibule\r\ndate: Mon, 21 Oct 2013 20:13:21 GMT\r\nx-own: 1\r\nvary: \r\n";
        assert_eq!(lines(&mut decoder, &first), text);
        assert_eq!(first.last(), Some(&(0x80 | 59)), "an empty vary is in the static table");
        assert_eq!(block(&mut encoder, &fields), [0x80 | 64, 0x80 | 63, 0x80 | 62, 0x80 | 59]);
        assert_eq!(lines(&mut decoder, &[0x80 | 64, 0x80 | 63, 0x80 | 62, 0x80 | 59]), text);
        // A known name with another value: a literal by the youngest entry of that name.
        assert_eq!(block(&mut encoder, &[("x-own", "2")])[..2], [0x40 | 62, 1]);
    }

    #[test]
    fn what_hardly_repeats_stays_out_of_the_table() {
        let mut encoder = Encoder::new(4_096);
        let names = ["content-length", "etag", "Last-Modified", "location", "age", "content-range", ":path", ":status"];
        for name in names {
            let out = block(&mut encoder, &[(name, "/x")]);
            assert_eq!(out[0] & 0xf0, 0, "{name}");
        }
        for name in ["Set-Cookie", "authorization", "Proxy-Authorization", "cookie"] {
            for value in ["", "x"] {
                let out = block(&mut encoder, &[(name, value)]);
                assert_eq!(out[0] & 0xf0, 0x10, "{name}");
                let mut lines = Vec::new();
                let field = Decoder::new(4_096).next(&mut &out[..], &mut lines).unwrap().unwrap();
                assert!(field.sensitive && !field.indexed && matches!(field.origin, Origin::StaticName(_)));
            }
        }
        assert_eq!((encoder.table.size(), encoder.retained_bytes()), (0, 0));
        block(&mut encoder, &[("x", &"y".repeat(1_024 - 33)), ("z", &"y".repeat(1_024 - 32))]);
        assert_eq!(encoder.table.size(), 1_024, "a quarter of the table, and one byte more than that");
    }

    #[test]
    fn statuses_and_lengths() {
        let mut decoder = Decoder::new(4_096);
        for status in [200u16, 204, 206, 304, 400, 404, 500, 100, 103, 201, 302, 503, 999, 0, u16::MAX] {
            let mut out = Vec::new();
            Encoder::new(4_096).status(&mut out, status);
            assert!(out.len() <= 7);
            assert_eq!(out.len() == 1, [200, 204, 206, 304, 400, 404, 500].contains(&status));
            assert_eq!(lines(&mut decoder, &out), format!(":status: {status}\r\n"));
        }
        for n in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            Encoder::new(4_096).content_length(&mut out, n);
            assert!(out.len() <= 23);
            assert_eq!(lines(&mut decoder, &out), format!("content-length: {n}\r\n"));
        }
        assert_eq!(decoder.table_bytes(), 0);
    }

    #[test]
    fn sizes_are_announced_smallest_first() {
        let begun = |encoder: &mut Encoder| {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            out
        };
        let mut encoder = Encoder::new(4_096);
        assert_eq!(begun(&mut encoder), [0u8; 0]);
        encoder.limit(65_536);
        assert_eq!(begun(&mut encoder), [0u8; 0], "our own cap is what the peer has in mind already");
        block(&mut encoder, &[("x", "y")]);
        for limit in [4_096, 0, 100, 4_096] {
            encoder.limit(limit);
        }
        assert_eq!(begun(&mut encoder), [0x20, 0x3f, 0xe1, 0x1f], "0, then 4,096");
        assert_eq!(encoder.table.size(), 0);
        encoder.limit(100);
        assert_eq!(begun(&mut encoder), [0x3f, 69]);
        assert_eq!(begun(&mut encoder), [0u8; 0]);
        encoder.limit(30);
        encoder.limit(20);
        assert_eq!(begun(&mut encoder), [0x20 | 20]);
        encoder.limit(50);
        assert_eq!(begun(&mut encoder), [0x3f, 19]);

        assert_eq!(begun(&mut Encoder::new(0)), [0x20], "the peer thinks of 4,096 until it is told");
        let mut large = Encoder::new(16_384);
        assert_eq!(begun(&mut large), [0u8; 0]);
        large.limit(8_192);
        assert_eq!(begun(&mut large), [0x3f, 0xe1, 0x3f]);
    }

    #[test]
    fn lines_of_one_slot_are_all_found() {
        let (mut encoder, mut decoder) = (Encoder::new(4_096), Decoder::new(4_096));
        let values: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        for round in 0..3 {
            for value in &values {
                let out = block(&mut encoder, &[("x", value)]);
                assert_eq!(lines(&mut decoder, &out), format!("x: {value}\r\n"));
                assert!(round == 0 || out[0] & 0x80 != 0, "it is in the table, and there are more lines than slots");
            }
        }
        assert_eq!(encoder.table.size(), decoder.table_bytes());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut encoder = Encoder::new(4_096);
        for i in 0..10_000u32 {
            block(&mut encoder, &[("x", &i.to_string()), ("date", &"d".repeat(i as usize % 500))]);
        }
        assert!(encoder.retained_bytes() <= 10 * 1_024 + 512);
        encoder.limit(0);
        encoder.begin(&mut Vec::new());
        encoder.shed();
        assert_eq!(encoder.retained_bytes(), 0);
    }
}
