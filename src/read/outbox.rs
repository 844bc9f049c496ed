//! In: room that the caller lends. Out: bytes to send.
//!
//! ```text
//! | sent | ready to send | written, not yet sealed | room |
//! 0    head            sealed                    tail
//! ```
//! Without TLS the third part becomes ready when the turn ends. With TLS it is one or more open records: space for a header,
//! at most 16,384 bytes of plaintext, space for the content type and the tag; all but the last are full.

use crate::base::Sink;

/// The layout of an open record: what stands before and behind its plaintext, and how much of that there can be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    pub(crate) header: u32,
    pub(crate) trailer: u32,
    pub(crate) fragment: u32,
}

/// 1xx to 5xx.
const CLASSES: usize = 5;

#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct OutboxAt {
    head: u32,
    sealed: u32,
    tail: u32,
    fin: bool,
    sealing: Option<Sealing>,
    sent: u64,
    /// Heads of responses by the class of their status, since somebody took the sums.
    said: [u32; CLASSES],
}

/// Where bytes to send wait: any storage that is bytes.
///
/// ```
/// use vestibule::Outbox;
/// let mut outbox = Outbox::new(vec![0u8; 4096]);
/// // ... a turn ...
/// let n = outbox.ready().len();  // send these
/// outbox.wrote(n);               // say how many went
/// assert!(!outbox.finished());   // true: shut the write side down
/// ```
#[derive(Debug)]
pub struct Outbox<T> {
    store: T,
    at: OutboxAt,
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Outbox<T> {
    /// An empty outbox over `store`, of which at most 4 GiB are used.
    pub const fn new(store: T) -> Outbox<T> {
        let (sealing, said) = (None, [0; CLASSES]);
        let at = OutboxAt { head: 0, sealed: 0, tail: 0, fin: false, sealing, sent: 0, said };
        Outbox { store, at }
    }

    /// Bytes to send now.
    pub fn ready(&self) -> &[u8] {
        self.store.as_ref().get(self.at.head as usize..self.at.sealed as usize).unwrap_or_default()
    }

    /// The first `n` bytes of `ready()` were sent. A short count is no trouble: the rest stays, once and in order.
    pub fn wrote(&mut self, n: usize) {
        let n = (n.min(u32::MAX as usize) as u32).min(self.at.sealed - self.at.head);
        self.at.head += n;
        self.at.sent += u64::from(n);
        if self.at.head == self.at.tail {
            (self.at.head, self.at.sealed, self.at.tail) = (0, 0, 0);
        }
    }

    /// All that will ever be said has been sent: shut the write side of the socket down (RFC 9112 §9.6), but go on reading.
    pub fn finished(&self) -> bool {
        self.at.fin && self.at.head == self.at.tail
    }

    /// Nothing waits in it: the storage may be taken away.
    pub fn is_empty(&self) -> bool {
        self.at.head == self.at.tail
    }

    /// Gives the filled storage away, with the range to send in it, and goes on with `fresh`: a send owns its bytes until its
    /// completion, nothing moves. What it holds counts as sent. Between turns only.
    pub fn swap(&mut self, fresh: T) -> (T, core::ops::Range<usize>) {
        let range = self.at.head as usize..self.at.sealed as usize;
        self.at.sent += range.len() as u64;
        (self.at.head, self.at.sealed, self.at.tail) = (0, 0, 0);
        (core::mem::replace(&mut self.store, fresh), range)
    }

    /// Copies in as much of `bytes` as there is room for, behind what is ready; says how much. For bytes that were made
    /// elsewhere: records that another thread sealed. Between turns only.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        self.view().make_room();
        let tail = self.at.tail as usize;
        let free = self.store.as_mut().get_mut(tail..).unwrap_or_default();
        let n = free.len().min(bytes.len()).min(u32::MAX as usize - tail);
        if let (Some(to), Some(from)) = (free.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
            self.at.tail += n as u32;
            self.at.sealed = self.at.tail;
        }
        n
    }

    /// Nothing will follow what is in it: [`Outbox::finished`] once that is sent.
    pub fn end(&mut self) {
        self.at.fin = true;
    }

    /// Takes over what is ready in another one, as far as there is room, and with the last of it that nothing will follow
    /// ([`Outbox::finished`]). There it counts as sent. Says how much it was. Between turns only.
    pub fn carry<O: AsRef<[u8]> + AsMut<[u8]>>(&mut self, from: &mut Outbox<O>) -> usize {
        let n = self.fill(from.ready());
        from.wrote(n);
        self.at.fin |= from.finished();
        n
    }

    /// The storage back, for a pool.
    pub fn into_store(self) -> T {
        self.store
    }

    /// The inside of the outbox, without its type.
    pub(crate) fn view(&mut self) -> OutboxMut<'_> {
        let bytes = self.store.as_mut();
        let end = bytes.len().min(u32::MAX as usize);
        OutboxMut { bytes: &mut bytes[..end], at: &mut self.at, reserve: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct OutboxMut<'a> {
    bytes: &'a mut [u8],
    at: &'a mut OutboxAt,
    reserve: u32,
}

impl OutboxMut<'_> {
    /// The same outbox, with `reserve` bytes held back: what the application writes through it never takes the room that
    /// the machine's own last words need.
    pub(crate) fn reborrow(&mut self, reserve: u32) -> OutboxMut<'_> {
        OutboxMut { bytes: self.bytes, at: self.at, reserve }
    }

    /// What is held back.
    pub(crate) fn reserve(&self) -> u32 {
        self.reserve
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn unsent(&self) -> usize {
        (self.at.tail - self.at.head) as usize
    }

    pub(crate) fn sent(&self) -> u64 {
        self.at.sent
    }

    /// How many heads of responses were written since this was last asked, 1xx first.
    pub(crate) fn take_said(&mut self) -> [u32; CLASSES] {
        core::mem::take(&mut self.at.said)
    }

    #[cfg(any(test, feature = "tls"))]
    pub(crate) fn sealing(&mut self, layout: Option<Sealing>) {
        self.at.sealing = layout;
    }

    pub(crate) fn fin(&mut self) {
        self.at.fin = true;
    }

    /// Moves what is ready to the front when all room is behind it; only with nothing open.
    pub(crate) fn make_room(&mut self) {
        let (head, tail) = (self.at.head as usize, self.at.tail as usize);
        if self.at.sealed == self.at.tail && head > tail - head {
            self.bytes.copy_within(head..tail, 0);
            (self.at.head, self.at.sealed, self.at.tail) = (0, (tail - head) as u32, (tail - head) as u32);
        }
    }

    /// Plaintext bytes that can be written now.
    pub(crate) fn room(&self) -> usize {
        let free = self.bytes.len() - self.at.tail as usize;
        let plain = match self.at.sealing {
            None => free,
            Some(s) => {
                let (here, record) = (self.here(s), (s.header + s.fragment + s.trailer) as usize);
                // In the open record, whose trailer is still to come, then in further ones.
                let (first, rest) = if here > 0 {
                    let first = here.min(free.saturating_sub(s.trailer as usize));
                    (first, free.saturating_sub(first + s.trailer as usize))
                } else if self.at.tail > self.at.sealed {
                    (0, free.saturating_sub(s.trailer as usize))
                } else {
                    (0, free)
                };
                let more = rest % record;
                first
                    + rest / record * s.fragment as usize
                    + more.saturating_sub((s.header + s.trailer) as usize).min(s.fragment as usize)
            }
        };
        plain.saturating_sub(self.reserve as usize)
    }

    /// Plaintext bytes that still fit into the open record; 0 without one, or when it is full.
    fn here(&self, s: Sealing) -> usize {
        let open = self.at.tail - self.at.sealed;
        let record = s.header + s.fragment + s.trailer;
        let used = if open == 0 { return 0 } else { open % record };
        // A full record ends without its trailer's space: `used` is then header + fragment.
        (s.header + s.fragment).saturating_sub(used.max(s.header)) as usize
    }

    /// Writes bytes for which there is room.
    #[inline]
    pub(crate) fn append(&mut self, part: &[u8]) {
        match self.at.sealing {
            None => _ = self.copy(part),
            Some(s) => self.append_records(part, s),
        }
    }

    #[inline]
    fn copy(&mut self, part: &[u8]) -> bool {
        let tail = self.at.tail as usize;
        let Some(to) = self.bytes.get_mut(tail..tail + part.len()) else { return false };
        to.copy_from_slice(part);
        self.at.tail += part.len() as u32;
        true
    }

    fn append_records(&mut self, mut part: &[u8], s: Sealing) {
        while !part.is_empty() {
            let (here, rest) = part.split_at(self.open(s).min(part.len()));
            if !self.copy(here) {
                return;
            }
            part = rest;
        }
    }

    /// Opens a record if none has room; says how much plaintext fits in it.
    fn open(&mut self, s: Sealing) -> usize {
        let here = self.here(s);
        if here > 0 {
            return here;
        }
        self.at.tail += if self.at.tail > self.at.sealed { s.trailer + s.header } else { s.header };
        s.fragment as usize
    }

    /// Lets `fill` write into at most `room()` contiguous bytes after `before` bytes that are kept free for what `head` then
    /// writes, once the length is known; `head` says how much of it is to stay. Nothing happens if it does not fit.
    pub(crate) fn put_behind(
        &mut self,
        before: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<usize>,
        head: impl FnOnce(OutboxMut<'_>, usize) -> Option<usize>,
    ) -> bool {
        let room = self.room();
        let (start, room) = match self.at.sealing {
            None => (self.at.tail as usize, room),
            Some(s) => match self.here(s) {
                0 => {
                    let gap = if self.at.tail > self.at.sealed { s.trailer + s.header } else { s.header };
                    ((self.at.tail + gap) as usize, room.min(s.fragment as usize))
                }
                here => (self.at.tail as usize, room.min(here)),
            },
        };
        let Some(space) = self.bytes.get_mut(start..start + room).and_then(|b| b.get_mut(before..)) else {
            return false;
        };
        let Some(n) = fill(space) else { return false };
        let reserve = self.reserve;
        let Some(n) = head(self.reborrow(reserve), n) else { return false };
        let tail = self.at.tail as usize;
        self.bytes.copy_within(start + before..start + before + n, tail);
        self.at.tail += n as u32;
        true
    }

    /// What is written becomes ready: as it is, or record by record through `seal(record, plaintext length) -> sealed length`.
    /// With TLS, `false` if a record could not be sealed; nothing of it becomes ready then.
    pub(crate) fn seal(&mut self, mut seal: impl FnMut(&mut [u8], usize) -> Option<usize>) -> bool {
        let Some(s) = self.at.sealing else {
            self.at.sealed = self.at.tail;
            return true;
        };
        while self.at.sealed < self.at.tail {
            let open = self.at.tail - self.at.sealed;
            let plain = open.min(s.header + s.fragment) - s.header;
            let (start, total) = (self.at.sealed as usize, (s.header + plain + s.trailer) as usize);
            let Some(record) = self.bytes.get_mut(start..start + total) else { return false };
            let Some(n) = seal(record, plain as usize) else {
                self.at.tail = self.at.sealed;
                return false;
            };
            self.at.sealed += n as u32;
            self.at.tail = self.at.tail.max(self.at.sealed);
        }
        true
    }

    /// Bytes that need no sealing (TLS's own), written behind what is ready. Nothing may be open.
    #[cfg(feature = "tls")]
    pub(crate) fn put_raw(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let tail = self.at.tail as usize;
        let n = write(&mut self.bytes[tail..]).min(self.bytes.len() - tail);
        self.at.tail += n as u32;
        self.at.sealed = self.at.tail;
    }

    /// Nobody reads any more: what waits is dropped.
    pub(crate) fn clear(&mut self) {
        (self.at.head, self.at.sealed, self.at.tail) = (0, 0, 0);
    }
}

impl Sink for OutboxMut<'_> {
    #[inline]
    fn room(&self) -> usize {
        self.room()
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        self.append(bytes);
    }

    fn put_last(&mut self, parts: &[&[u8]]) -> bool {
        self.reborrow(0).put(parts)
    }

    #[inline]
    fn said(&mut self, status: u16) {
        // An addition costs less than to ask whether anybody wants to know.
        if let Some(sum) = self.at.said.get_mut(usize::from(status / 100).wrapping_sub(1)) {
            *sum = sum.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Sealing = Sealing { header: 5, trailer: 17, fragment: 10 };

    #[test]
    fn a_short_write_loses_nothing() {
        let mut o = Outbox::new([0u8; 16]);
        assert!(o.view().put(&[b"hello ", b"world"]));
        assert_eq!(o.ready(), b"", "nothing is visible before the turn ends");
        o.view().seal(|_, _| None);
        o.wrote(4);
        assert_eq!(o.ready(), b"o world");
        assert!(!o.view().put(&[b"123456"]), "all or nothing");
        o.view().make_room();
        assert!(!o.view().put(&[b"1234567890"]));
        assert!(o.view().put(&[b"12345"]));
    }

    #[test]
    fn what_another_outbox_has_ready_is_taken_over_in_order_and_its_end_with_the_last_byte() {
        let (mut from, mut to) = (Outbox::new([0u8; 16]), Outbox::new([0u8; 8]));
        assert!(from.view().put(&[b"hello world"]));
        from.view().seal(|_, _| None);
        from.view().fin();
        assert_eq!((to.fill(b"> "), to.carry(&mut from)), (2, 6));
        assert_eq!((to.ready(), from.ready(), from.finished()), (&b"> hello "[..], &b"world"[..], false));
        to.wrote(7);
        assert_eq!(to.carry(&mut from), 5, "what was sent made room");
        assert_eq!((to.ready(), from.finished(), to.finished()), (&b" world"[..], true, false));
        to.wrote(6);
        assert!(to.finished());
    }

    #[test]
    fn open_records_hold_exactly_what_room_promised() {
        for capacity in 22..120 {
            for first in 0..capacity {
                let mut o = Outbox::new(vec![0u8; capacity]);
                let mut v = o.view();
                v.sealing(Some(TINY));
                let first = first.min(v.room());
                assert!(v.put(&[&vec![1u8; first]]));
                let rest = v.room();
                assert!(v.put(&[&vec![2u8; rest]]), "capacity {capacity}, first {first}");
                assert_eq!(v.room(), 0);
                let mut plain = vec![];
                assert!(v.seal(|record, n| {
                    plain.extend_from_slice(&record[5..5 + n]);
                    Some(n + 22)
                }));
                assert_eq!(plain, [vec![1u8; first], vec![2u8; rest]].concat());
                assert!(o.ready().len() <= capacity);
            }
        }
    }
}
