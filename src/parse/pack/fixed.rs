//! In: an index, or a name. Out: the static table's line, or the name's first index (RFC 7541 Appendix A).

use super::words::is_lower_of;

/// Bytes of the longest line.
pub(super) const LINE: usize = 32;

/// Entries of the table, which are counted from 1. The dynamic table begins behind them.
pub(super) const COUNT: u32 = 61;

/// An entry as `name: value\r\n`, padded so that a copy is one move of fixed size.
pub(super) struct Entry {
    pub(super) line: [u8; LINE],
    pub(super) len: u8,
    pub(super) name: u8,
}

impl Entry {
    pub(super) fn name(&self) -> &[u8] {
        self.line.get(..usize::from(self.name)).unwrap_or_default()
    }

    pub(super) fn value(&self) -> &[u8] {
        self.line.get(usize::from(self.name) + 2..usize::from(self.len) - 2).unwrap_or_default()
    }
}

/// Entry `index`.
#[inline]
pub(super) fn entry(index: u32) -> Option<&'static Entry> {
    ENTRIES.get(index.wrapping_sub(1) as usize)
}

/// The first entry that has this name in whatever case. Entries of one name are neighbours.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<u8> {
    let index = *SLOTS.get(slot(name)?)?;
    is_lower_of(entry(index.into())?.name(), name).then_some(index)
}

/// The entry that has the name of `first` and this value. Only the first few have values at all.
pub(super) fn find_value(first: u8, value: &[u8]) -> Option<u8> {
    if first > LAST_VALUE && !value.is_empty() {
        return None;
    }
    let name = entry(first.into())?.name();
    let mut same = (first..).map_while(|i| entry(i.into()).filter(|e| e.name() == name).map(|e| (i, e)));
    same.find(|(_, entry)| entry.value() == value).map(|(i, _)| i)
}

/// The last entry that has a value.
const LAST_VALUE: u8 = 16;

static ENTRIES: [Entry; COUNT as usize] = {
    const NONE: Entry = Entry { line: [0; LINE], len: 0, name: 0 };
    let mut entries = [NONE; COUNT as usize];
    let mut i = 0;
    while i < entries.len() {
        let (name, value) = (TABLE[i].0.as_bytes(), TABLE[i].1.as_bytes());
        let parts: [&[u8]; 4] = [name, b": ", value, b"\r\n"];
        let (mut len, mut part) = (0, 0);
        while part < 4 {
            let mut k = 0;
            while k < parts[part].len() {
                entries[i].line[len] = parts[part][k];
                (len, k) = (len + 1, k + 1);
            }
            part += 1;
        }
        entries[i].len = len as u8;
        entries[i].name = name.len() as u8;
        i += 1;
    }
    entries
};

/// Where the name would be in `SLOTS`: a multiplication that happens to give all names of the table different slots.
#[inline]
const fn slot(name: &[u8]) -> Option<usize> {
    let (Some(&first), Some(&last)) = (name.first(), name.last()) else { return None };
    let middle = name[name.len() / 2];
    let key = u32::from_le_bytes([first | 0x20, middle | 0x20, last | 0x20, name.len() as u8]);
    Some((key.wrapping_mul(0x3f81_1bab) >> 25) as usize)
}

static SLOTS: [u8; 128] = {
    let mut slots = [0; 128];
    let mut i = COUNT as usize;
    // Downwards, so that the first entry of a name stays.
    while i > 0 {
        if let Some(at) = slot(TABLE[i - 1].0.as_bytes()) {
            slots[at] = i as u8;
        }
        i -= 1;
    }
    slots
};

const TABLE: [(&str, &str); COUNT as usize] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_at_its_first_index() {
        for (i, (name, value)) in TABLE.iter().enumerate() {
            let first = TABLE.iter().position(|(n, _)| n == name).map(|i| i as u8 + 1);
            assert_eq!(find(name.as_bytes()), first, "{name}");
            assert_eq!(find(name.to_ascii_uppercase().as_bytes()), first, "{name}");
            assert_eq!(find(format!("{name}x").as_bytes()), None);
            assert_eq!(find(&name.as_bytes()[1..]), None);
            let entry = entry(i as u32 + 1).unwrap();
            assert_eq!((entry.name(), entry.value()), (name.as_bytes(), value.as_bytes()));
            assert_eq!(&entry.line[..entry.len.into()], format!("{name}: {value}\r\n").as_bytes());
        }
        assert_eq!(find(b""), None);
        assert!(entry(0).is_none() && entry(62).is_none());
    }
}
