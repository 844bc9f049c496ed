//! In: operations, each with what it needs in its own hands. Out: what came of them. The seam between the loop and io_uring, so that a
//! model can take the kernel's place.
//!
//! ```text
//! loop --- send(storage) ------> | in flight: the storage is the operation's | --- Sent { storage } ---> loop
//!      --- receive_into(inbox) ->| the inbox is the operation's              | --- Filled { inbox } --->
//!      --- receive ------------->| nothing but the shared buffers            | --- Received { Lent } -->  dropped: back in the ring
//! ```
//! Nothing that the kernel may still touch can be named by the loop: it has been moved away, and comes back by value, once (DRV-11).

use std::io;
use std::ops::Range;
use std::time::Duration;
use vestibule::Inbox;
use vestibule_driver::Key;

/// Bytes that one owner has at a time. All of its length is used.
pub(crate) type Storage = Vec<u8>;

/// Names an operation in flight.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Op(pub(crate) u64);

/// Why an operation failed: a number of errno(3).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// No buffer was left in the ring.
    pub(crate) const NO_BUFFERS: Errno = Errno(libc::ENOBUFS);
    /// Somebody cancelled it: we did.
    pub(crate) const CANCELLED: Errno = Errno(libc::ECANCELED);

    /// It says nothing about the socket: try again.
    pub(crate) fn is_passing(self) -> bool {
        matches!(self.0, libc::EINTR | libc::EAGAIN)
    }

    /// Of an accept: a connection that died in the queue says nothing about the next one.
    pub(crate) fn is_passing_at_accept(self) -> bool {
        self.is_passing() || matches!(self.0, libc::ECONNABORTED | libc::ECONNRESET | libc::EPROTO)
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// What came of an operation.
#[derive(Debug)]
pub(crate) enum Done<L, S> {
    /// A connection, or why there is none. Without `more` the accept is over.
    Accepted { port: usize, result: Result<S, Errno>, more: bool },
    /// A filled buffer and its length; `None`: the peer's end. Without `more` the receive is over.
    Received { key: Key, result: Result<Option<(L, usize)>, Errno>, more: bool },
    /// The inbox is back, with so many bytes more in it.
    Filled { key: Key, inbox: Inbox<Storage>, result: Result<usize, Errno> },
    /// So many bytes of the range went. `storage`, with the range as it was: back already; otherwise it follows with `Returned`, and all
    /// of the range went.
    Sent { key: Key, result: Result<usize, Errno>, storage: Option<(Storage, Range<usize>)> },
    /// The kernel no longer reads from this storage, whose bytes went without being copied.
    Returned { key: Key, storage: Storage },
    /// The write side is shut.
    Shut { key: Key },
    /// Somebody rang the bell.
    Woken,
}

/// What the kernel's calls took, in nanoseconds.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) accepting: u64,
    pub(crate) reading: u64,
    pub(crate) writing: u64,
}

impl Spent {
    pub(crate) fn add(&mut self, other: Spent) {
        self.accepting += other.accepting;
        self.reading += other.reading;
        self.writing += other.writing;
    }
}

/// What the loop needs of io_uring. Operations are only collected; [`Kernel::turn`] submits them together.
pub(crate) trait Kernel {
    /// A buffer of the shared ring, with what was received in it. Dropped, it is back in the ring.
    type Lent: AsRef<[u8]> + AsMut<[u8]>;
    /// An accepted connection. Every operation keeps it open until its final completion.
    type Socket;

    /// Accepts from this listening socket, again and again.
    fn accept(&mut self, port: usize) -> Op;
    /// Somebody waits in this listening socket's queue.
    fn has_callers(&self, port: usize) -> bool;
    /// Lets go of the listening sockets; each is closed when its accept is over.
    fn leave_ports(&mut self);
    /// Receives into buffers of the ring, again and again.
    fn receive(&mut self, socket: &Self::Socket, key: Key) -> Op;
    /// Receives once, behind what waits in the inbox.
    fn receive_into(&mut self, socket: &Self::Socket, key: Key, inbox: Inbox<Storage>) -> Op;
    /// Sends a range of a storage.
    fn send(&mut self, socket: &Self::Socket, key: Key, storage: Storage, range: Range<usize>) -> Op;
    /// Shuts the write side.
    fn shutdown(&mut self, socket: &Self::Socket, key: Key);
    /// Closes a socket with which nothing is in flight any more.
    fn close(&mut self, socket: Self::Socket);
    /// Asks for the end of an operation. It completes in any case, perhaps as if nobody had asked.
    fn cancel(&mut self, op: Op);

    /// Submits what was collected and waits for a completion, at most so long; `None`: as long as it takes.
    ///
    /// # Errors
    /// The kernel takes nothing any more.
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()>;
    /// The next completion of the last turn.
    fn next(&mut self) -> Option<Done<Self::Lent, Self::Socket>>;

    /// What its calls took since this was last asked; `None`: nobody wants to know.
    fn spent(&mut self) -> Option<Spent> {
        None
    }

    /// Buffers in the ring, lent or not, and the size of each.
    fn buffers(&self) -> (usize, usize);
    /// How many of them are lent.
    fn lent(&self) -> usize;
    /// How many operations may be in flight.
    fn capacity(&self) -> usize;
}
