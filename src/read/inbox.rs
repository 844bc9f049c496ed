//! In: storage of any kind, and bytes as they were received. Out: plaintext to parse, received bytes to open in place.
//!
//! ```text
//! | consumed | plaintext, not yet consumed | gap | as received, not yet opened | spare |
//! 0        head                          plain  raw                           tail
//! ```
//! Without TLS everything received is plaintext: the gap and the third part are empty. The storage type is erased before the
//! machine sees it, so the machine is compiled once.

#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct InboxAt {
    head: u32,
    plain: u32,
    raw: u32,
    tail: u32,
    lent: u32,
    moved: u64,
    pub(crate) stamp: u32,
    pub(crate) eof: bool,
    pub(crate) loan: bool,
}

impl InboxAt {
    fn held(&self) -> u32 {
        (self.plain - self.head) + (self.tail - self.raw)
    }

    fn unconsumed(&self) -> u32 {
        self.held() - self.lent
    }
}

/// Where received bytes wait: any storage that is bytes (`Vec<u8>`, `[u8; N]`, `&mut [u8]`, a pooled or kernel-owned buffer).
///
/// ```
/// use vestibule::Inbox;
/// let mut inbox = Inbox::new([0u8; 4096]);
/// let n = inbox.fill(b"GET / HTTP/1.1\r\n");      // or read into `spare()` and `commit(n)`
/// assert_eq!(n, 16);
/// assert!(!inbox.is_empty());
/// ```
#[derive(Debug)]
pub struct Inbox<S> {
    store: S,
    at: InboxAt,
}

impl<S: AsRef<[u8]> + AsMut<[u8]>> Inbox<S> {
    /// An empty inbox over `store`, of which at most 4 GiB are used.
    pub const fn new(store: S) -> Inbox<S> {
        let at = InboxAt { head: 0, plain: 0, raw: 0, tail: 0, lent: 0, moved: 0, stamp: 0, eof: false, loan: false };
        Inbox { store, at }
    }

    /// A buffer that somebody else has already filled with `len` bytes: a kernel's, on loan. That it is full proves nothing
    /// about the peer, so no limit is ever judged by its size; what is left in it is moved on with [`Inbox::carry`].
    pub fn filled(store: S, len: usize) -> Inbox<S> {
        let mut inbox = Inbox::new(store);
        inbox.at.tail = len.min(inbox.capacity()) as u32;
        inbox.at.loan = true;
        inbox
    }

    fn capacity(&self) -> usize {
        self.store.as_ref().len().min(u32::MAX as usize)
    }

    /// Where to read more into; empty when the inbox is full. Moves what waits to the front first, where that pays.
    pub fn spare(&mut self) -> &mut [u8] {
        self.view().make_room();
        let (tail, end) = (self.at.tail as usize, self.capacity());
        &mut self.store.as_mut()[tail..end]
    }

    /// The first `n` bytes of `spare()` have been read into.
    pub fn commit(&mut self, n: usize) {
        self.at.tail = (self.at.tail as usize).saturating_add(n).min(self.capacity()) as u32;
    }

    /// Copies in as much of `bytes` as there is room for; says how much.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let n = spare.len().min(bytes.len());
        spare[..n].copy_from_slice(&bytes[..n]);
        self.commit(n);
        n
    }

    /// The peer will send no more (a read of 0 bytes).
    pub fn end(&mut self) {
        self.at.eof = true;
    }

    /// [`Inbox::end`] was said of it.
    pub fn ended(&self) -> bool {
        self.at.eof
    }

    /// Nothing waits in it: the storage may be taken away.
    pub fn is_empty(&self) -> bool {
        self.at.unconsumed() == 0
    }

    /// Bytes that wait in it.
    pub fn len(&self) -> usize {
        self.at.unconsumed() as usize
    }

    /// Takes over up to `most` received bytes of a later buffer, as far as there is room; of an empty inbox's successor all that
    /// waits there, cut record and unparsed rest included, or nothing if that does not fit. Says how much was taken. This is
    /// the one copy that a kernel's buffer ever needs.
    pub fn carry<O: AsRef<[u8]> + AsMut<[u8]>>(&mut self, from: &mut Inbox<O>, most: usize) -> usize {
        from.view().release();
        self.view().release();
        if self.is_empty() {
            let at = from.at;
            let (p, r) = ((at.plain - at.head) as usize, (at.tail - at.raw) as usize);
            if p + r > self.capacity() {
                return 0;
            }
            let (to, bytes) = (self.store.as_mut(), from.store.as_ref());
            to[..p].copy_from_slice(&bytes[at.head as usize..at.plain as usize]);
            to[p..p + r].copy_from_slice(&bytes[at.raw as usize..at.tail as usize]);
            let (p, n) = (p as u32, (p + r) as u32);
            self.at = InboxAt { head: 0, plain: p, raw: p, tail: n, lent: 0, loan: false, ..at };
            from.at = InboxAt { eof: at.eof, loan: at.loan, ..InboxAt::default() };
            return n as usize;
        }
        if from.at.plain > from.at.head {
            return 0; // opened plaintext goes on in its own inbox: nothing that was accepted is lost
        }
        let n = most.min(self.spare().len()).min((from.at.tail - from.at.raw) as usize);
        let (to, raw) = (self.at.tail as usize, from.at.raw as usize);
        self.store.as_mut()[to..to + n].copy_from_slice(&from.store.as_ref()[raw..raw + n]);
        self.at.tail += n as u32;
        self.at.eof = self.at.eof || (from.at.eof && raw + n == from.at.tail as usize);
        from.at.raw += n as u32;
        from.at.head = from.at.raw;
        from.at.plain = from.at.raw;
        n
    }

    /// Takes received bytes out again, from the front, for a stage that lies elsewhere: ciphertext for a crypto thread. Only of an
    /// inbox that no turn has seen bytes in. Says how much it was.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        self.view().release();
        let (raw, tail) = (self.at.raw as usize, self.at.tail as usize);
        let waiting = self.store.as_ref().get(raw..tail).unwrap_or_default();
        let n = waiting.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), waiting.get(..n)) {
            to.copy_from_slice(from);
            self.view().drop_raw(n);
        }
        n
    }

    /// The storage back, for a pool or the kernel.
    pub fn into_store(self) -> S {
        self.store
    }

    /// The inside of the inbox, without its type.
    pub(crate) fn view(&mut self) -> InboxMut<'_> {
        let end = self.capacity();
        InboxMut { bytes: &mut self.store.as_mut()[..end], at: &mut self.at }
    }
}

#[derive(Debug)]
pub(crate) struct InboxMut<'a> {
    bytes: &'a mut [u8],
    pub(crate) at: &'a mut InboxAt,
}

impl InboxMut<'_> {
    /// What was lent is consumed now.
    pub(crate) fn release(&mut self) {
        self.at.head += core::mem::take(&mut self.at.lent);
        if self.at.head == self.at.plain && self.at.raw == self.at.tail {
            (self.at.head, self.at.plain, self.at.raw, self.at.tail) = (0, 0, 0, 0);
        }
    }

    /// Without TLS: everything received is plaintext.
    pub(crate) fn all_plain(&mut self) {
        if self.at.head == self.at.plain {
            self.at.head = self.at.raw;
        }
        self.at.plain = self.at.tail;
        self.at.raw = self.at.tail;
    }

    /// Plaintext, not yet consumed. What is lent is still in it, at its front.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.bytes[self.at.head as usize..self.at.plain as usize]
    }

    /// Bytes as received, not yet opened.
    pub(crate) fn raw(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at.raw as usize..self.at.tail as usize]
    }

    /// All that was received and not consumed, while none of it was opened.
    pub(crate) fn received(&self) -> &[u8] {
        let start = if self.at.head == self.at.plain { self.at.raw } else { self.at.head };
        &self.bytes[start as usize..self.at.tail as usize]
    }

    /// The first `n` of the received bytes are plaintext as they are: what stands in front of TLS.
    pub(crate) fn uncover(&mut self, n: usize) {
        if self.at.head == self.at.plain {
            self.at.head = self.at.raw;
        }
        self.at.plain = (self.at.head as usize).saturating_add(n).min(self.at.tail as usize) as u32;
        self.at.raw = self.at.raw.max(self.at.plain);
    }

    pub(crate) fn drop_raw(&mut self, n: usize) {
        self.at.raw += (n as u32).min(self.at.tail - self.at.raw);
        if self.at.head == self.at.plain {
            (self.at.head, self.at.plain) = (self.at.raw, self.at.raw);
        }
    }

    /// The first `n` bytes of the plaintext go out with an event; they are consumed when its loan ends.
    pub(crate) fn lend(&mut self, n: usize) {
        self.at.lent = n as u32;
    }

    /// Consumes the first `n` bytes of the plaintext.
    pub(crate) fn eat(&mut self, n: usize) {
        self.at.head += (n as u32).min(self.at.plain - self.at.head);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn unconsumed(&self) -> u32 {
        self.at.unconsumed()
    }

    pub(crate) fn moved(&self) -> u64 {
        self.at.moved
    }

    /// Nothing can be read into it any more, whatever is moved: only consuming helps.
    pub(crate) fn is_full(&self) -> bool {
        self.at.held() as usize == self.bytes.len()
    }

    /// A record of `total` bytes at the front of `raw` was opened in place: its plaintext is `len` bytes from `skip` on. Joins
    /// it to the plaintext that waits by moving the smaller of the two, so no byte pays for another's waiting.
    #[cfg(any(test, feature = "tls"))]
    pub(crate) fn join(&mut self, skip: usize, len: usize, total: usize) {
        let (head, plain, new) = (self.at.head as usize, self.at.plain as usize, self.at.raw as usize + skip);
        let waiting = plain - head;
        self.at.raw += total as u32;
        if waiting <= len {
            self.bytes.copy_within(head..plain, new - waiting);
            self.at.head = (new - waiting) as u32;
            self.at.plain = (new + len) as u32;
        } else {
            self.bytes.copy_within(new..new + len, plain);
            self.at.plain += len as u32;
        }
        self.at.moved += waiting.min(len) as u64;
    }

    /// Moves what waits to the front when that moves no more than it frees, or when there is no other room.
    fn make_room(&mut self) {
        let at = *self.at;
        let held = at.held();
        let full = at.tail as usize == self.bytes.len();
        if at.lent > 0 || at.tail == held || (at.tail - held < held && !full) {
            return;
        }
        let p = at.plain - at.head;
        self.bytes.copy_within(at.head as usize..at.plain as usize, 0);
        self.bytes.copy_within(at.raw as usize..at.tail as usize, p as usize);
        self.at.moved += u64::from(held);
        (self.at.head, self.at.plain, self.at.raw, self.at.tail) = (0, p, p, held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_moved_at_most_once_however_small_the_reads() {
        let mut inbox = Inbox::new([0u8; 64]);
        let mut fed = 0u64;
        for round in 0..1000u64 {
            fed += inbox.fill(&[b'x'; 3]) as u64;
            let mut view = inbox.view();
            view.all_plain();
            let whole = view.plain().len() / 7 * 7;
            view.eat(whole);
            view.release();
            assert!(view.moved() <= fed, "round {round}: moved {} of {fed}", view.moved());
        }
    }

    #[test]
    fn records_join_by_moving_the_smaller_side() {
        // 30 KB of plaintext in one-byte records, each opened 5 bytes into a 23-byte record.
        let mut inbox = Inbox::filled(vec![7u8; 23 * 30_000], 23 * 30_000);
        let mut view = inbox.view();
        for _ in 0..30_000 {
            view.join(5, 1, 23);
        }
        assert_eq!(view.plain().len(), 30_000);
        assert!(view.moved() <= 30_000, "moved {}", view.moved());
    }

    #[test]
    fn what_was_received_can_be_taken_out_again() {
        let mut inbox = Inbox::filled(*b"abcdef", 6);
        let mut part = [0; 4];
        assert_eq!((inbox.read(&mut part), &part, inbox.len()), (4, b"abcd", 2));
        assert_eq!((inbox.read(&mut part), &part[..2], inbox.is_empty()), (2, &b"ef"[..], true));
        assert_eq!(inbox.read(&mut part), 0);
    }

    #[test]
    fn carry_takes_a_cut_piece_and_gives_the_buffer_back() {
        let mut kernel = Inbox::filled(*b"abcdef", 6);
        let mut own = Inbox::new([0u8; 8]);
        assert_eq!(own.carry(&mut kernel, usize::MAX), 6);
        assert!(kernel.is_empty());
        let mut later = Inbox::filled(*b"ghij", 4);
        assert_eq!(own.carry(&mut later, 3), 2, "as much as there is room for");
        assert_eq!(later.len(), 2);
        assert_eq!(own.view().raw(), b"abcdefgh");
    }
}
