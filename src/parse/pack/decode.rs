//! In: a complete header block. Out: its fields, one by one, as lines in the caller's arena (RFC 7541 §3).

use super::table::{Table, copy};
use super::{Fault, fixed, huffman, integer};
use crate::base::Span;
use crate::base::memory::extend;
use alloc::vec::Vec;

/// What both sides' tables hold until something else was agreed on (RFC 9113 §6.5.2).
pub(super) const INITIAL_TABLE: u32 = 4_096;

/// Changes of the table's size that a block may begin with (RFC 7541 §4.2).
const MOST_UPDATES: u8 = 2;

/// Where a decoded field's name came from: lets the caller judge a name or a whole line once and remember the verdict.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Name and value are literals.
    Literal,
    /// The name of static entry n (1 to 61); the value is a literal.
    StaticName(u8),
    /// The whole line is static entry n.
    Static(u8),
    /// The name of a dynamic entry that carries this mark (0: none was given); the value is a literal.
    DynamicName(u8),
    /// The whole line is a dynamic entry that carries this mark.
    Dynamic(u8),
}

/// A decoded field, as a line in the arena that was handed to [`Decoder::next`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// The name, as it was sent.
    pub name: Span,
    /// The value, two bytes behind the name.
    pub value: Span,
    /// What the line was made from.
    pub origin: Origin,
    /// It may never be put into any table (RFC 7541 §6.2.3).
    pub sensitive: bool,
    /// It was put into the dynamic table.
    pub indexed: bool,
}

/// The receiving side of a connection's compression.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    most: u32,
    /// How many changes of size may still come before the block's first field.
    updates: u8,
    /// The last field is the table's youngest entry.
    indexed: bool,
}

impl Decoder {
    /// A decoder whose peer will be told `most_table_bytes` as SETTINGS_HEADER_TABLE_SIZE. Nothing is allocated yet.
    ///
    /// The table holds 4,096 bytes at first, whatever the setting: the peer's first blocks are made before it knows the
    /// setting, and it announces every size that it uses instead (RFC 7541 §4.2, RFC 9113 §4.3.1).
    pub fn new(most_table_bytes: u32) -> Decoder {
        Decoder { table: Table::new(INITIAL_TABLE), most: most_table_bytes, updates: MOST_UPDATES, indexed: false }
    }

    /// The peer has acknowledged this value of the setting: from now on it is the bound.
    pub fn acknowledged(&mut self, most_table_bytes: u32) {
        self.most = most_table_bytes;
    }

    /// The peer's table is larger than what it has acknowledged: its next block has to begin by saying so (RFC 9113
    /// §4.3.1).
    pub fn is_update_due(&self) -> bool {
        self.table.most() > self.most as usize
    }

    /// A new block begins: changes of the table's size are allowed again.
    pub fn begin(&mut self) {
        self.updates = MOST_UPDATES;
        self.indexed = false;
    }

    /// Decodes the next field of `block` (which is complete), advances `block`, and appends `name: value\r\n` to
    /// `lines`. None at the end of the block.
    ///
    /// Text is appended as it is: whoever needs lines to be lines has to look for CR and LF in them. Nothing but the
    /// block's length bounds how much text a literal makes, at most 8/5 of it; a reference makes as much as a table
    /// entry has.
    ///
    /// # Errors
    /// Then the decoder is of no more use, and `lines` is as it was.
    #[inline(always)]
    pub fn next(&mut self, block: &mut &[u8], lines: &mut Vec<u8>) -> Result<Option<Field>, Fault> {
        let Some((&first, rest)) = block.split_first() else { return Ok(None) };
        if first & 0x80 == 0 {
            return self.literal(block, lines);
        }
        let index = if first < 0xff {
            *block = rest;
            u32::from(first & 0x7f)
        } else {
            integer::decode(block, 7)?
        };
        (self.updates, self.indexed) = (0, false);
        let start = lines.len();
        if let Some(entry) = fixed::entry(index) {
            extend(lines, &entry.line)?;
            lines.truncate(start + usize::from(entry.len));
            return Ok(Some(field(start, entry.name.into(), entry.len.into(), Origin::Static(index as u8))));
        }
        let record = self.dynamic(index)?;
        let len = self.table.copy_line(record, lines)?;
        Ok(Some(field(start, record.name as usize, len, Origin::Dynamic(record.mark as u8))))
    }

    /// Whatever is not an indexed field: it begins with a zero bit.
    fn literal(&mut self, block: &mut &[u8], lines: &mut Vec<u8>) -> Result<Option<Field>, Fault> {
        let start = lines.len();
        let field = self.field(block, lines);
        if field.is_err() {
            lines.truncate(start);
        }
        field
    }

    fn field(&mut self, block: &mut &[u8], lines: &mut Vec<u8>) -> Result<Option<Field>, Fault> {
        let mut rest = *block;
        let Some(mut first) = rest.first().copied() else { return Ok(None) };
        if first & 0xe0 == 0x20 {
            rest = self.resizes(rest)?;
            *block = rest;
            match rest.first() {
                None => return Ok(None),
                Some(next) if next & 0x80 != 0 => return self.next(block, lines),
                Some(next) => first = *next,
            }
        }
        let start = lines.len();
        let (indexed, index) = if first & 0x40 != 0 {
            (true, integer::decode(&mut rest, 6)?)
        } else {
            (false, integer::decode(&mut rest, 4)?)
        };
        let origin = if index == 0 {
            string(&mut rest, lines)?;
            extend(lines, b": ")?;
            Origin::Literal
        } else {
            self.name(index, lines)?
        };
        let colon = lines.len();
        string(&mut rest, lines)?;
        extend(lines, b"\r\n")?;
        *block = rest;
        let (name, line) = (colon - 2 - start, lines.len() - start);
        let mut field = field(start, name, line, origin);
        field.sensitive = first & 0xf0 == 0x10;
        if indexed && let Some(place) = self.table.insert(name, line - name - 4, 0)? {
            place.copy_from_slice(lines.get(start..).unwrap_or_default());
            field.indexed = true;
        }
        (self.updates, self.indexed) = (0, field.indexed);
        Ok(Some(field))
    }

    /// Changes of the table's size at the front of the block (RFC 7541 §6.3).
    fn resizes<'b>(&mut self, mut block: &'b [u8]) -> Result<&'b [u8], Fault> {
        while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
            self.updates = self.updates.checked_sub(1).ok_or(Fault::SizeUpdate)?;
            let most = integer::decode(&mut block, 5)?;
            if most > self.most {
                return Err(Fault::SizeUpdate);
            }
            self.table.resize(most);
        }
        Ok(block)
    }

    /// Appends `name: ` of an entry, before anything is evicted for a new one (RFC 7541 §4.4).
    #[inline]
    fn name(&self, index: u32, lines: &mut Vec<u8>) -> Result<Origin, Fault> {
        if let Some(entry) = fixed::entry(index) {
            let end = lines.len() + usize::from(entry.name) + 2;
            extend(lines, &entry.line)?;
            lines.truncate(end);
            Ok(Origin::StaticName(index as u8))
        } else {
            let record = self.dynamic(index)?;
            self.table.copy_name(record, lines)?;
            Ok(Origin::DynamicName(record.mark as u8))
        }
    }

    #[inline]
    fn dynamic(&self, index: u32) -> Result<super::table::Record, Fault> {
        self.table.get(index.wrapping_sub(fixed::COUNT + 1) as usize).ok_or(Fault::Index)
    }

    /// Remembers the caller's verdict with the entry that the last field put into the table; nothing if it put none.
    #[inline]
    pub fn mark(&mut self, mark: u8) {
        if self.indexed {
            self.table.mark(mark.into());
        }
    }

    /// What the table holds, as RFC 7541 §4.1 counts.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
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

#[inline]
fn field(start: usize, name: usize, line: usize, origin: Origin) -> Field {
    Field {
        name: Span::new(start, start + name),
        value: Span::new(start + name + 2, start + line - 2),
        origin,
        sensitive: false,
        indexed: false,
    }
}

/// Takes a string off the front of the block and appends its text (RFC 7541 §5.2).
#[inline(always)]
fn string(block: &mut &[u8], lines: &mut Vec<u8>) -> Result<(), Fault> {
    let &first = block.first().ok_or(Fault::Truncated)?;
    let len = integer::decode(block, 7)? as usize;
    let (text, rest) = block.split_at_checked(len).ok_or(Fault::Truncated)?;
    if first & 0x80 != 0 {
        huffman::decode(text, lines)?;
    } else {
        copy(block, len, lines)?; // not from `text`: a short one is moved with what lies behind it
    }
    *block = rest;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn next(decoder: &mut Decoder, mut block: &[u8], lines: &mut Vec<u8>) -> Result<Option<Field>, Fault> {
        decoder.next(&mut block, lines)
    }

    /// The origins and the lines of a whole block.
    fn all(decoder: &mut Decoder, mut block: &[u8]) -> Result<(Vec<Origin>, String), Fault> {
        let (mut origins, mut lines) = (Vec::new(), Vec::new());
        decoder.begin();
        while let Some(field) = decoder.next(&mut block, &mut lines)? {
            let (name, value) = (field.name, field.value);
            assert_eq!(&lines[name.end as usize..value.start as usize], b": ");
            assert_eq!(&lines[value.end as usize..], b"\r\n");
            origins.push(field.origin);
        }
        Ok((origins, String::from_utf8(lines).unwrap()))
    }

    #[test]
    fn origins_tell_where_a_line_came_from() {
        let mut decoder = Decoder::new(4_096);
        // :method: GET, via: x without, a: b with, the same by index, its name with c, and its name with d into the
        // table.
        let block = b"\x82\x0f\x2d\x01x\x40\x01a\x01b\xbe\x0f\x2f\x01c\x7e\x01d\xbe\xbf";
        let (origins, lines) = all(&mut decoder, block).unwrap();
        assert_eq!(lines, ":method: GET\r\nvia: x\r\na: b\r\na: b\r\na: c\r\na: d\r\na: d\r\na: b\r\n");
        use Origin::{Dynamic, DynamicName, Literal, Static, StaticName};
        let expected =
            [Static(2), StaticName(60), Literal, Dynamic(0), DynamicName(0), DynamicName(0), Dynamic(0), Dynamic(0)];
        assert_eq!(origins, expected);
    }

    #[test]
    fn marks_live_and_die_with_their_entry() {
        let (mut decoder, mut lines) = (Decoder::new(4_096), Vec::new());
        decoder.begin();
        decoder.mark(9);
        let a = next(&mut decoder, b"\x40\x01a\x01b", &mut lines).unwrap().unwrap();
        assert!(a.indexed && !a.sensitive);
        decoder.mark(7);
        for not_indexed in [&b"\x00\x01x\x01y"[..], b"\x10\x01x\x01y", b"\x82", b"\xbe", b"\x0f\x2f\x01z"] {
            let field = next(&mut decoder, not_indexed, &mut lines).unwrap().unwrap();
            assert_eq!((field.indexed, field.sensitive), (false, not_indexed[0] == 0x10));
            decoder.mark(1); // nothing was put into the table
        }
        assert_eq!(
            all(&mut decoder, b"\xbe\x7e\x01c\xbe\xbf").unwrap().0[..],
            [Origin::Dynamic(7), Origin::DynamicName(7), Origin::Dynamic(0), Origin::Dynamic(7)]
        );
        decoder.begin();
        decoder.mark(3); // a block that has begun has put nothing in yet
        assert_eq!(all(&mut decoder, b"\xbe\xbf").unwrap().0[..], [Origin::Dynamic(0), Origin::Dynamic(7)]);
        // The table is emptied, and what takes the entry's place has no mark.
        assert_eq!(all(&mut decoder, b"\x20\x3f\xe1\x1f\x40\x01a\x01b\xbe").unwrap().0[1], Origin::Dynamic(0));
        assert_eq!(all(&mut decoder, b"\xbf"), Err(Fault::Index));
    }

    #[test]
    fn an_entry_too_large_empties_the_table_and_is_not_in_it() {
        let mut decoder = Decoder::new(4_096);
        all(&mut decoder, b"\x3f\x23\x40\x01a\x01b").unwrap(); // 66 bytes: room for one entry of 34
        assert_eq!(decoder.table_bytes(), 34);
        let mut lines = Vec::new();
        // Its name is that of the entry that it drives out.
        let mut block = [&b"\x7e\x22"[..], &[b'v'; 34]].concat();
        let field = next(&mut decoder, &block, &mut lines).unwrap().unwrap();
        assert!(!field.indexed);
        assert_eq!((field.origin, decoder.table_bytes()), (Origin::DynamicName(0), 0));
        assert_eq!(field.name.of(&lines), b"a");
        decoder.mark(1);
        all(&mut decoder, b"\x40\x01a\x01b").unwrap();
        block = [&b"\x7e\x21"[..], &[b'v'; 33]].concat(); // and one that just fits
        let (origins, lines) = all(&mut decoder, &[&block[..], b"\xbe"].concat()).unwrap();
        assert_eq!((origins[1], decoder.table_bytes()), (Origin::Dynamic(0), 66));
        assert_eq!(lines, format!("a: {0}\r\na: {0}\r\n", "v".repeat(33)));
    }

    #[test]
    fn sizes_change_at_the_front_of_a_block_at_most_twice_and_never_above_the_setting() {
        let mut decoder = Decoder::new(1_000);
        assert_eq!(all(&mut decoder, b"\x3f\xc9\x07\x82").map(|all| all.0), Ok(vec![Origin::Static(2)]), "1,000");
        assert_eq!(all(&mut decoder, b"\x3f\xca\x07\x82"), Err(Fault::SizeUpdate), "1,001");
        assert_eq!(all(&mut decoder, b"\x20"), Ok((vec![], String::new())), "a block of nothing else");
        assert!(all(&mut decoder, b"\x20\x3f\xc9\x07\x82").is_ok());
        assert!(all(&mut decoder, b"\x20\x3f\xc9\x07\x40\x01a\x01b").is_ok());
        assert_eq!(all(&mut decoder, b"\x20\x20\x20\x82"), Err(Fault::SizeUpdate), "a third");
        for field in [&b"\x82"[..], b"\xbe", b"\x40\x01a\x01b", b"\x00\x01a\x01b"] {
            assert!(all(&mut decoder, b"\x3f\xc9\x07\x40\x01a\x01b").is_ok());
            assert_eq!(all(&mut decoder, &[field, b"\x20"].concat()), Err(Fault::SizeUpdate), "behind a field");
            assert!(all(&mut decoder, &[b"\x3f\xc9\x07", field].concat()).is_ok(), "before it, in the next block");
        }
        assert_eq!(all(&mut decoder, b"\x3f"), Err(Fault::Truncated));
        assert_eq!(all(&mut decoder, b"\x3f\x80\x80\x80\x80\x80\x00"), Err(Fault::Integer));
        let mut none = Decoder::new(0);
        assert!(all(&mut none, b"\x40\x01a\x01b\xbe").is_ok(), "the peer does not know yet");
        assert_eq!(all(&mut none, b"\x20\x40\x01a\x01b\xbe"), Err(Fault::Index));
    }

    #[test]
    fn a_smaller_setting_counts_from_its_acknowledgement() {
        let mut decoder = Decoder::new(4_096);
        assert!(all(&mut decoder, b"\x3f\xe1\x1f\x40\x01a\x01b").is_ok(), "4,096");
        decoder.acknowledged(1_000);
        assert!(decoder.is_update_due());
        assert_eq!(all(&mut decoder, b"\x3f\xca\x07\x82"), Err(Fault::SizeUpdate), "1,001");
        assert!(decoder.is_update_due());
        assert!(all(&mut decoder, b"\x3f\xc9\x07\xbe").is_ok(), "1,000, and the entry still fits");
        assert!(!decoder.is_update_due());
        decoder.acknowledged(4_096);
        assert!(!decoder.is_update_due());
        assert!(all(&mut decoder, b"\x3f\xe1\x1f\xbe").is_ok());
    }

    #[test]
    fn a_fault_leaves_the_lines_alone() {
        let mut whole = b"\x82\x40\x83\x1c\x64\x5f\x86\xa8\xeb\x10\x64\x9c\xbf\x7e".to_vec();
        whole.extend([0x7f, 0x05]);
        whole.extend([b'v'; 132]);
        let mut decoder = Decoder::new(4_096);
        all(&mut decoder, &whole).unwrap();
        let ends = [0, 1, 13, whole.len()];
        for cut in 0..whole.len() {
            let (mut decoder, mut lines) = (Decoder::new(4_096), b"kept".to_vec());
            let mut block = &whole[..cut];
            let mut last = lines.clone();
            let fault = loop {
                match decoder.next(&mut block, &mut lines) {
                    Ok(Some(_)) => last.clone_from(&lines),
                    Ok(None) => break None,
                    Err(fault) => break Some(fault),
                }
            };
            assert_eq!(fault, (!ends.contains(&cut)).then_some(Fault::Truncated), "{cut}");
            assert_eq!(lines, last);
        }
        for (block, fault) in [
            (&b"\x80"[..], Fault::Index),
            (b"\xbe", Fault::Index),
            (b"\xff\x00", Fault::Index),
            (b"\xff\x80\x80\x80\x80\x08", Fault::Integer),
            (b"\x7e\x01a", Fault::Index),
            (b"\x40\x01a\x81\x00", Fault::Huffman),
            (b"\x40\x81\xff\x01a", Fault::Huffman),
            (b"\x40\x7f\xff\xff\xff\xff\x07", Fault::Integer),
            (b"\x40\x7f\x80\xff\xff\xff\x07", Fault::Truncated),
        ] {
            let mut lines = b"kept".to_vec();
            assert_eq!(next(&mut Decoder::new(4_096), block, &mut lines), Err(fault), "{block:x?}");
            assert_eq!(lines, b"kept");
        }
    }
}
