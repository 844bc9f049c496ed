//! In: lines, in order. Out: the youngest of them, each by its distance from the last (RFC 7541 §2.3.2, §4).
//!
//! ```text
//! bytes:   |  gone  | oldest line | ... | youngest line |  free  |
//! records: youngest, ..., oldest: where the line is, and a mark of the caller's
//! ```
//! Lines lie as `name: value\r\n`, in one piece, so that a reference costs one copy. What is gone is overwritten by
//! moving the rest to the front, which happens only once at least half as many bytes came in as are moved.

use crate::base::memory::{NoMemory, extend};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

/// What an entry counts beyond its text.
const OVERHEAD: usize = 32;

/// What a line has beyond its text.
const PUNCTUATION: usize = 4;

/// Bytes kept free behind the youngest line, so that every short line can be copied by a move of fixed size.
const SLACK: usize = 32;

/// The first allocation.
const LEAST: usize = 192;

#[derive(Copy, Clone, Debug)]
pub(super) struct Record {
    /// Counted over the table's life, modulo 2^32.
    start: u32,
    pub(super) name: u32,
    /// The line's length.
    line: u32,
    pub(super) mark: u32,
}

impl Record {
    fn size(&self) -> usize {
        self.line as usize - PUNCTUATION + OVERHEAD
    }
}

#[derive(Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Behind the youngest line.
    end: usize,
    /// The count of the first byte.
    base: u32,
    records: VecDeque<Record>,
    size: usize,
    most: usize,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, {} of {} bytes", self.records.len(), self.size, self.most)
    }
}

impl Table {
    /// An empty table, for which nothing is allocated yet.
    pub(super) fn new(most: u32) -> Table {
        Table { most: most as usize, ..Table::default() }
    }

    /// As RFC 7541 §4.1 counts.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// What an entry counts (RFC 7541 §4.1).
    pub(super) const fn cost(name: usize, value: usize) -> usize {
        name + value + OVERHEAD
    }

    /// Entry `i`, counted from the youngest.
    #[inline]
    pub(super) fn get(&self, i: usize) -> Option<Record> {
        self.records.get(i).copied()
    }

    /// The entries from the youngest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// The text of an entry: its name and its value.
    pub(super) fn text(&self, record: Record) -> (&[u8], &[u8]) {
        let line = self.from(record);
        let (name, line_len) = (record.name as usize, record.line as usize);
        (line.get(..name).unwrap_or_default(), line.get(name + 2..line_len - 2).unwrap_or_default())
    }

    #[inline]
    fn at(&self, record: Record) -> usize {
        record.start.wrapping_sub(self.base) as usize
    }

    /// What lies where the entry's line begins, and behind it.
    #[inline]
    fn from(&self, record: Record) -> &[u8] {
        self.bytes.get(self.at(record)..).unwrap_or_default()
    }

    /// Appends the whole line of an entry; says how long it is.
    #[inline]
    pub(super) fn copy_line(&self, record: Record, out: &mut Vec<u8>) -> Result<usize, NoMemory> {
        copy(self.from(record), record.line as usize, out)?;
        Ok(record.line as usize)
    }

    /// Appends `name: ` of an entry.
    pub(super) fn copy_name(&self, record: Record, out: &mut Vec<u8>) -> Result<(), NoMemory> {
        copy(self.from(record), record.name as usize + 2, out)
    }

    /// Marks the youngest.
    #[inline]
    pub(super) fn mark(&mut self, mark: u32) {
        if let Some(youngest) = self.records.front_mut() {
            youngest.mark = mark;
        }
    }

    /// Evicts what no longer fits (RFC 7541 §4.3).
    pub(super) fn resize(&mut self, most: u32) {
        self.most = most as usize;
        self.evict(self.most);
    }

    /// Puts an entry in and returns where its line has to be written, or empties the table because the entry is larger
    /// than that (RFC 7541 §4.4).
    ///
    /// # Errors
    /// Nothing is put in; what had to go for it is gone. So what is left is what the youngest entries of a table are that took it in,
    /// counted from the one behind it.
    pub(super) fn insert(&mut self, name: usize, value: usize, mark: u32) -> Result<Option<&mut [u8]>, NoMemory> {
        let size = Table::cost(name, value);
        self.evict(self.most.saturating_sub(size));
        if size > self.most {
            return Ok(None);
        }
        let line = name + value + PUNCTUATION;
        if self.end + line + SLACK > self.bytes.len() {
            self.make_room(line)?;
        }
        if self.records.len() == self.records.capacity() {
            self.records.try_reserve(1)?;
        }
        let (start, end) = (self.end, self.end + line);
        self.records.push_front(Record {
            start: self.base.wrapping_add(start as u32),
            name: name as u32,
            line: line as u32,
            mark,
        });
        self.end = end;
        self.size += size;
        Ok(self.bytes.get_mut(start..end))
    }

    fn evict(&mut self, to: usize) {
        while self.size > to
            && let Some(oldest) = self.records.pop_back()
        {
            self.size -= oldest.size();
        }
        if self.records.is_empty() {
            self.end = 0;
        }
    }

    /// Moves the lines to the front, and grows if that would soon have to be done again. So the buffer is never longer
    /// than twice what a table's text may be, and every byte is moved twice at most, on average.
    fn make_room(&mut self, line: usize) -> Result<(), NoMemory> {
        self.compact();
        let least = (2 * (self.end + line) + SLACK).max(LEAST);
        if self.bytes.len() < least {
            self.bytes.try_reserve_exact(least - self.bytes.len())?;
            self.bytes.resize(least, 0);
        }
        Ok(())
    }

    fn compact(&mut self) {
        let front = self.records.back().map_or(self.end, |&oldest| self.at(oldest));
        self.bytes.copy_within(front..self.end, 0);
        self.base = self.base.wrapping_add(front as u32);
        self.end -= front;
    }

    /// Heap bytes.
    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<Record>()
    }

    /// Frees what holds no entry.
    pub(super) fn shed(&mut self) {
        self.compact();
        self.bytes.truncate(self.end);
        self.bytes.shrink_to_fit();
        self.records.shrink_to_fit();
    }
}

/// Appends the first `len` bytes: by one move of fixed size if they are few and others lie behind them.
#[inline]
pub(super) fn copy(bytes: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), NoMemory> {
    let end = out.len() + len;
    if len <= 32
        && let Some(piece) = bytes.first_chunk::<32>()
    {
        extend(out, piece)?;
        out.truncate(end);
    } else if len <= 128
        && let Some(piece) = bytes.first_chunk::<128>()
    {
        extend(out, piece)?;
        out.truncate(end);
    } else {
        extend(out, bytes.get(..len).unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 7541 §4 without a thought of speed.
    #[derive(Default)]
    struct Naive {
        entries: VecDeque<(Vec<u8>, Vec<u8>, u32)>,
        most: usize,
    }

    impl Naive {
        fn size(&self) -> usize {
            self.entries.iter().map(|(n, v, _)| n.len() + v.len() + 32).sum()
        }

        fn fit(&mut self, more: usize) {
            while !self.entries.is_empty() && self.size() + more > self.most {
                self.entries.pop_back();
            }
        }

        fn insert(&mut self, name: &[u8], value: &[u8]) -> bool {
            let more = name.len() + value.len() + 32;
            self.fit(more);
            if more <= self.most {
                self.entries.push_front((name.to_vec(), value.to_vec(), 0));
            }
            more <= self.most
        }
    }

    fn insert(table: &mut Table, name: &[u8], value: &[u8]) -> bool {
        let Some(place) = table.insert(name.len(), value.len(), 0).unwrap() else { return false };
        place.copy_from_slice(&[name, b": ", value, b"\r\n"].concat());
        true
    }

    fn agree(table: &Table, naive: &Naive) {
        assert_eq!((table.size(), table.iter().count()), (naive.size(), naive.entries.len()));
        for (i, (name, value, mark)) in naive.entries.iter().enumerate() {
            let record = table.get(i).unwrap();
            assert_eq!((table.text(record), record.mark), ((&name[..], &value[..]), *mark));
            let mut out = b"kept".to_vec();
            assert_eq!(table.copy_line(record, &mut out), Ok(name.len() + value.len() + 4));
            table.copy_name(record, &mut out).unwrap();
            let name = &name[..];
            assert_eq!(out, [b"kept", name, b": ", value, b"\r\n", name, b": "].concat());
        }
        assert!(table.get(naive.entries.len()).is_none());
    }

    fn dice(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize % below
        }
    }

    #[test]
    fn behaves_as_a_list() {
        for seed in 1..40u64 {
            let mut roll = dice(seed);
            let most = [0, 33, 100, 300, 4_096, 9_000][roll(6)];
            let mut naive = Naive { most, ..Naive::default() };
            let mut table = Table::new(most as u32);
            table.base = u32::MAX - roll(3_000) as u32; // the count runs over now and then
            for step in 0..600 {
                let (long, high) = (if roll(20) == 0 { most + 10 } else { most / 8 + 10 }, roll(200) as u8);
                let text: Vec<u8> = (0..roll(long)).map(|i| (i as u8).wrapping_mul(31).wrapping_add(high)).collect();
                let (name, value) = text.split_at(roll(text.len() + 1));
                match roll(30) {
                    0 => {
                        naive.most = roll(most + 1);
                        naive.fit(0);
                        table.resize(naive.most as u32);
                    }
                    1 => {
                        naive.most = most;
                        table.resize(most as u32);
                    }
                    2 => table.shed(),
                    _ => {
                        assert_eq!(insert(&mut table, name, value), naive.insert(name, value));
                        if let (Some(youngest), 0) = (naive.entries.front_mut(), roll(3)) {
                            youngest.2 = step;
                            table.mark(step);
                        }
                    }
                }
                agree(&table, &naive);
                assert!(table.bytes.capacity() <= (2 * most + SLACK).max(LEAST));
            }
        }
    }

    #[test]
    fn no_byte_is_moved_often() {
        for line in [1, 30, 400, 1_300, 2_000, 4_000] {
            let mut table = Table::new(4_096);
            let (mut moved, mut came) = (0, 0);
            for _ in 0..5_000 {
                let (live, before) = (table.end - table.records.back().map_or(table.end, |&r| table.at(r)), table.base);
                insert(&mut table, b"", &vec![b'v'; line]);
                came += line + 4;
                moved += if table.base == before { 0 } else { live };
            }
            assert!(moved <= 2 * came, "{line}: {moved} of {came}");
        }
    }

    #[test]
    fn a_table_that_swings_between_sizes_stays_small() {
        let mut table = Table::new(4_096);
        for i in 0..10_000u32 {
            table.resize(if i % 2 == 0 { 0 } else { 4_096 });
            insert(&mut table, b"name", &[b'v'; 100]);
        }
        assert!(table.retained_bytes() <= 400, "one entry at a time: {}", table.retained_bytes());
    }

    #[test]
    fn holds_what_it_needs() {
        let mut table = Table::new(4_096);
        assert_eq!(table.retained_bytes(), 0);
        insert(&mut table, b":authority", b"www.example.com");
        assert!(table.retained_bytes() <= 300);
        table.shed();
        assert!(table.retained_bytes() <= 64);
        for _ in 0..1_000 {
            insert(&mut table, b"", b"");
        }
        assert_eq!(table.iter().count(), 128);
        for _ in 0..1_000 {
            insert(&mut table, b"a", &[b'v'; 1_000]);
        }
        assert!(table.retained_bytes() <= 10 * 1_024 + 512, "{}", table.retained_bytes());
        table.resize(0);
        table.shed();
        assert_eq!(table.retained_bytes(), 0);
    }
}
