//! In: body bytes as they come, move and go. Out: who holds each of them, and the credit that is due to the peer for it
//! (RFC 9113 §5.2, §6.9).
//!
//! ```text
//!             peer may send                  ours                                  due to the peer
//!   stream:       open  --arrive--> lent --keep--> kept        lent, kept, handed --free--> owed --grant--> open
//!                                     |---hand--> handed
//!   connection:   open  --arrive--> held (lent and kept)       held --free--> owed --grant--> open
//! ```
//! - *lent*: parsed, and out with an event, or about to be gathered or dropped. It ends with the next step.
//! - *kept*: in the stream's own store, because its handler does not take it now.
//! - *handed*: with the handler under `Expect::Manual`; the stream's credit waits for `release`, the connection's does not,
//!   so that one slow handler never stops the others.
//!
//! What was granted is always what is open, held, owed: nothing is lost by a reset at any point, and nothing is granted twice.
//! Grants come in whole quanta, counted in bytes that were freed, so they do not depend on how the input was cut.

/// The account of one window: everything that the peer was ever granted and did not get back yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The window as it is wanted: `open + lent + kept + handed + owed`.
    size: u32,
    open: u32,
    lent: u32,
    kept: u32,
    handed: u32,
    owed: u32,
    /// What it has grown by out of the ledger's share for handlers that may hold content back.
    shared: u32,
}

/// Credit is granted in pieces of this size, and a stream's window grows by one of them for each.
const QUANTUM: u32 = 16_384;

/// Whose window was exceeded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The stream's (RFC 9113 §6.9.1).
    Stream,
    /// The connection's.
    Connection,
}

impl Account {
    /// A window of that size, all of it open.
    pub const fn new(size: u32) -> Account {
        Account { size, open: size, lent: 0, kept: 0, handed: 0, owed: 0, shared: 0 }
    }

    /// What the peer may still send.
    pub const fn open(&self) -> u32 {
        self.open
    }

    /// What we hold of what it sent.
    pub const fn held(&self) -> u32 {
        self.lent + self.kept + self.handed
    }

    /// What was freed and not granted again.
    pub const fn owed(&self) -> u32 {
        self.owed
    }

    /// Bytes in the stream's own store.
    pub const fn kept(&self) -> u32 {
        self.kept
    }

    /// Bytes with the handler.
    pub const fn handed(&self) -> u32 {
        self.handed
    }

    /// The window as it is wanted.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Every byte that was granted has one holder.
    pub const fn is_balanced(&self) -> bool {
        self.open + self.held() + self.owed == self.size
    }

    /// The credit to announce now, if it is worth a frame: whole quanta, and as much again while the window may grow to `most`.
    pub fn grant(&mut self, most: u32) -> u32 {
        if self.owed < QUANTUM {
            return 0;
        }
        let due = self.owed - self.owed % QUANTUM;
        let more = most.saturating_sub(self.size).min(due);
        self.owed -= due;
        self.open += due + more;
        self.size += more;
        due + more
    }
}

/// The connection's account, and the pool of gathered bodies.
#[derive(Copy, Clone, Debug)]
pub struct Ledger {
    connection: Account,
    gathered: u64,
    /// What windows have grown by whose handlers may hold content back.
    shared: u32,
}

impl Ledger {
    /// A connection's window of that size, all of it open.
    pub const fn new(connection_window: u32) -> Ledger {
        Ledger { connection: Account::new(connection_window), gathered: 0, shared: 0 }
    }

    /// The connection's window.
    pub const fn connection(&self) -> &Account {
        &self.connection
    }

    /// Bytes gathered by all streams.
    pub const fn gathered(&self) -> u64 {
        self.gathered
    }

    /// `n` bytes of a DATA frame came, padding included.
    ///
    /// # Errors
    /// The peer sent more than it may; nothing has changed.
    pub fn arrive(&mut self, stream: &mut Account, n: u32) -> Result<(), Exceeded> {
        if n > self.connection.open {
            return Err(Exceeded::Connection);
        }
        if n > stream.open {
            return Err(Exceeded::Stream);
        }
        self.connection.open -= n;
        self.connection.lent += n;
        stream.open -= n;
        stream.lent += n;
        Ok(())
    }

    /// The same on a stream that is no more: only the connection counts it, and it is free at once (RFC 9113 §6.9).
    ///
    /// # Errors
    /// As [`Ledger::arrive`].
    pub fn arrive_stray(&mut self, n: u32) -> Result<(), Exceeded> {
        if n > self.connection.open {
            return Err(Exceeded::Connection);
        }
        self.connection.open -= n;
        self.connection.owed += n;
        Ok(())
    }

    /// `n` lent bytes go into the stream's own store.
    pub fn keep(&mut self, stream: &mut Account, n: u32) {
        let n = n.min(stream.lent);
        stream.lent -= n;
        stream.kept += n;
    }

    /// `n` kept bytes are lent again, from the store.
    pub fn lend_kept(&mut self, stream: &mut Account, n: u32) {
        let n = n.min(stream.kept);
        stream.kept -= n;
        stream.lent += n;
    }

    /// `n` lent bytes stay with the handler.
    pub fn hand(&mut self, stream: &mut Account, n: u32) {
        let n = n.min(stream.lent);
        stream.lent -= n;
        stream.handed += n;
        self.returned(n);
    }

    /// `n` lent bytes are done with.
    pub fn free(&mut self, stream: &mut Account, n: u32) {
        let n = n.min(stream.lent);
        stream.lent -= n;
        stream.owed += n;
        self.returned(n);
    }

    /// The handler has given all but `left` of what it holds back.
    pub fn release(&mut self, stream: &mut Account, left: u32) {
        let n = stream.handed.saturating_sub(left);
        stream.handed -= n;
        stream.owed += n;
    }

    /// As [`Account::grant`], for a stream whose handler may come to hold back what it was granted. What such windows grow by is half of the
    /// connection's at most, all of them together: whatever their handlers do, the others have the other half.
    pub fn grant_to_manual(&mut self, stream: &mut Account) -> u32 {
        let (before, left) = (stream.size, (self.connection.size / 2).saturating_sub(self.shared));
        let due = stream.grant(before.saturating_add(left));
        self.shared += stream.size - before;
        stream.shared += stream.size - before;
        due
    }

    /// What windows of such streams have grown by.
    pub const fn shared(&self) -> u32 {
        self.shared
    }

    /// The stream is over: whatever it held is free, and the connection's credit for it is due at once.
    pub fn reset(&mut self, stream: &mut Account) {
        self.shared -= stream.shared;
        self.returned(stream.lent + stream.kept);
        *stream = Account::new(0);
    }

    fn returned(&mut self, n: u32) {
        self.connection.lent -= n;
        self.connection.owed += n;
    }

    /// The connection's credit to announce now.
    pub fn grant(&mut self) -> u32 {
        self.connection.grant(0)
    }

    /// There is room for `n` more gathered bytes within `most`.
    pub const fn has_room(&self, n: u64, most: u64) -> bool {
        self.gathered.saturating_add(n) <= most
    }

    /// Reserves room for `n` more gathered bytes within `most`; false if there is none.
    pub fn gather(&mut self, n: u64, most: u64) -> bool {
        let fits = self.has_room(n, most);
        if fits {
            self.gathered += n;
        }
        fits
    }

    /// Gathered bytes are with the handler, or gone.
    pub fn ungather(&mut self, n: u64) {
        self.gathered = self.gathered.saturating_sub(n);
    }
}

#[cfg(test)]
#[path = "ledger_model.rs"]
mod model;
