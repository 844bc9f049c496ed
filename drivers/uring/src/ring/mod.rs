//! In: operations of the loop. Out: io_uring's completions, each with what its operation held. The only place with `unsafe`: here and in
//! [`buffers`].
//!
//! What the kernel may touch is kept where it cannot be dropped or moved: in `operations` until the final completion, or in the
//! `Shelf`. A ring that is dropped cancels everything and waits; what does not end then is leaked, never freed.

mod buffers;
mod gauge;
mod operations;

use crate::seam::{Done, Errno, Kernel, Op, Spent, Storage};
pub(crate) use buffers::Lent;
use buffers::Shelf;
use gauge::{Gauge, processor_time};
use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
pub(crate) use operations::Port;
use operations::{Held, Operations, Side};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use vestibule::Inbox;
use vestibule_driver::Key;

/// The group of the buffers; a ring has one.
const GROUP: u16 = 0;

/// A full completion queue is emptied so often before the loop gets its turn.
const FLUSHES: usize = 16;

/// How often, and how long each time, a ring that is dropped waits for what is in flight.
const LAST_WAITS: (usize, Duration) = (50, Duration::from_millis(20));

/// An accepted connection's descriptor. It is closed when nobody holds it: neither a connection nor an operation.
#[derive(Debug)]
pub(crate) struct Socket(Rc<OwnedFd>);

impl Socket {
    /// A socket that blocks: io_uring waits for it, and fails at once where a descriptor does not block.
    pub(crate) fn new(descriptor: OwnedFd) -> Socket {
        Socket(Rc::new(descriptor))
    }

    /// Its descriptor, if nothing is in flight on it.
    pub(crate) fn into_descriptor(self) -> Option<OwnedFd> {
        Rc::try_unwrap(self.0).ok()
    }
}

/// Whose operations nobody waits for.
fn nobody() -> Key {
    Key::from_bits(0)
}

/// How large the parts of a ring are.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    /// Entries of the submission queue; the completion queue has four times as many.
    pub(crate) submissions: u32,
    /// Buffers of the shared ring, and the size of each.
    pub(crate) buffers: usize,
    pub(crate) buffer_bytes: usize,
    /// Sends from this size on are not copied by the kernel, if at all.
    pub(crate) zero_copy: Option<usize>,
}

impl Sizes {
    /// The completion queue has room for four operations of each connection (DRV-09): a receive, a send, a notification of the one
    /// before, and a cancellation or the end.
    pub(crate) fn for_connections(connections: usize) -> Sizes {
        let submissions = connections.saturating_add(64).clamp(256, 16_384).next_power_of_two();
        Sizes { submissions: submissions as u32, buffers: 256, buffer_bytes: 16_384, zero_copy: None }
    }
}

/// One io_uring, its buffers, and what is in flight.
pub(crate) struct Ring {
    io: ManuallyDrop<IoUring>,
    shelf: ManuallyDrop<Rc<Shelf>>,
    operations: ManuallyDrop<Operations>,
    /// Not submitted yet.
    queued: VecDeque<Entry>,
    done: VecDeque<Done<Lent, Socket>>,
    ports: Vec<Port>,
    bell: OwnedFd,
    zero_copy: Option<usize>,
    /// Completions of this turn, as they came.
    raw: Vec<(Op, i32, u32)>,
    flushes: u64,
    /// Nothing is measured without.
    gauge: Option<Box<Gauge>>,
}

impl Ring {
    /// A ring for this thread, which alone may use it. `ports` listen, and must block: io_uring waits for them.
    ///
    /// # Errors
    /// The kernel refuses: `crate::check` knows why.
    pub(crate) fn new(sizes: Sizes, ports: Vec<Port>) -> io::Result<Ring> {
        let io = builder(sizes.submissions).build(sizes.submissions)?;
        if !io.params().is_feature_nodrop() {
            return Err(io::Error::other("the kernel drops completions (no IORING_FEAT_NODROP)"));
        }
        let shelf = Shelf::new(sizes.buffers, sizes.buffer_bytes).map_err(io::Error::other)?;
        // SAFETY: the address is that of `count` entries, page-aligned and initialised. The shelf outlives the registration: `Drop`
        // lets go of it after the ring is gone, or never.
        unsafe {
            io.submitter().register_buf_ring_with_flags(shelf.address(), shelf.count(), GROUP, 0)?;
        }
        let mut ring = Ring {
            io: ManuallyDrop::new(io),
            shelf: ManuallyDrop::new(shelf),
            operations: ManuallyDrop::new(Operations::default()),
            queued: VecDeque::new(),
            done: VecDeque::new(),
            ports,
            bell: eventfd()?,
            zero_copy: sizes.zero_copy,
            raw: Vec::new(),
            flushes: 0,
            gauge: None,
        };
        ring.listen_to_bell();
        Ok(ring)
    }

    /// From now on it measures what its calls take ([`Kernel::spent`]).
    pub(crate) fn measured(mut self) -> Ring {
        self.gauge = Some(Box::default());
        self
    }

    /// What another thread writes the number 1 to, as eight bytes, so that the turn ends.
    ///
    /// # Errors
    /// There are no descriptors.
    pub(crate) fn bell(&self) -> io::Result<File> {
        self.bell.try_clone().map(File::from)
    }

    /// How many operations the kernel has not completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.operations.len() - self.queued.len()
    }

    fn listen_to_bell(&mut self) {
        let mut count: Storage = vec![0; 8];
        let at = count.as_mut_ptr();
        let op = self.operations.begin(nobody(), None, Held::Bell { _count: count });
        self.queue(opcode::Read::new(Fd(self.bell.as_raw_fd()), at, 8).build(), op);
    }

    fn queue(&mut self, entry: Entry, op: Op) {
        self.queued.push_back(entry.user_data(op.0));
    }

    /// Moves what was collected into the submission queue, as far as it and the limit of operations in flight allow. True: there is
    /// more, and submitting would make room.
    fn push(&mut self) -> bool {
        let room = self.capacity().saturating_sub(self.in_flight());
        let mut submission = self.io.submission();
        for _ in 0..room {
            let Some(entry) = self.queued.front() else { return false };
            // SAFETY: every address in an entry is that of a storage, or of a buffer, that its operation in `operations` holds until
            // its final completion: vectors, whose bytes stay where they are when the vector moves. Descriptors are held open by
            // the operation, by `ports`, or by `bell`.
            if unsafe { submission.push(entry) }.is_err() {
                return true;
            }
            if let Some(gauge) = &mut self.gauge {
                gauge.begun.note(Side::of(Op(entry.get_user_data())));
            }
            self.queued.pop_front();
        }
        false
    }

    /// Submits, and waits so long for a completion; takes what there is then.
    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if self.gauge.is_some() {
            return self.enter_measured(wait);
        }
        self.call(wait)?;
        self.reap(false);
        Ok(())
    }

    /// The same in two calls: one that submits, and is charged to what was submitted, and one for all that the kernel does because something
    /// happened, which is charged to what that completed. One call for both would not say what took how long.
    fn enter_measured(&mut self, mut wait: Option<Duration>) -> io::Result<()> {
        let mut since = processor_time();
        let mut charge = |gauge: &mut Option<Box<Gauge>>, to: fn(&mut Gauge, u64)| {
            let now = processor_time();
            let took = now.saturating_sub(std::mem::replace(&mut since, now));
            gauge.iter_mut().for_each(|gauge| to(gauge, took));
        };
        let count = self.io.submission().len();
        if count > 0 {
            // SAFETY: no argument is given; `push` says why the kernel may touch what the entries name.
            passing(unsafe { self.io.submitter().enter::<libc::sigset_t>(count as u32, 0, 0, None) })?;
            self.reap(false);
            charge(&mut self.gauge, Gauge::submitted);
            if !self.done.is_empty() {
                let submission = self.io.submission();
                if !(submission.taskrun() || submission.cq_overflow()) && submission.is_empty() {
                    return Ok(()); // nothing else has happened
                }
                wait = Some(Duration::ZERO); // what was reaped already is not to wait for anything else
            }
        }
        self.call(wait)?;
        self.reap(true);
        charge(&mut self.gauge, Gauge::completed);
        Ok(())
    }

    fn call(&mut self, wait: Option<Duration>) -> io::Result<()> {
        passing(match wait {
            None => self.io.submit_and_wait(1),
            Some(Duration::ZERO) => self.io.submit_and_wait(0),
            Some(wait) => {
                let time = Timespec::from(wait);
                self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        })
    }

    /// Takes what has completed; `count`: what that took is shared among it.
    fn reap(&mut self, count: bool) {
        let mut raw = std::mem::take(&mut self.raw);
        raw.extend(self.io.completion().map(|c| (Op(c.user_data()), c.result(), c.flags())));
        if let Some(gauge) = self.gauge.as_mut().filter(|_| count) {
            raw.iter().for_each(|done| gauge.ended.note(Side::of(done.0)));
        }
        for (op, result, flags) in raw.drain(..) {
            let done = self.complete(op, result, flags);
            self.done.extend(done);
        }
        self.raw = raw;
    }

    fn complete(&mut self, op: Op, result: i32, flags: u32) -> Option<Done<Lent, Socket>> {
        let (more, number) = (cqueue::more(flags), cqueue::buffer_select(flags));
        let n = usize::try_from(result).map_err(|_| Errno(-result));
        let (key, held) = self.operations.get(op)?;
        match held {
            Held::Accept { .. } => {
                let result = n.map(|_| {
                    // SAFETY: accept made this descriptor for us just now, and nobody else knows its number.
                    Socket::new(unsafe { OwnedFd::from_raw_fd(result) })
                });
                self.end_unless(more, op);
                Some(Done::Accepted { port: key.slot(), result, more })
            }
            Held::Receive => {
                let lent = number.and_then(|number| self.shelf.lend(number));
                let result = match (n, lent) {
                    (Ok(0), _) => Ok(None),
                    (Ok(n), Some(lent)) => Ok(Some((lent, n))),
                    (Ok(_), None) => Err(Errno(libc::EIO)), // bytes that are nowhere
                    (Err(errno), _) => Err(errno),
                };
                self.end_unless(more, op);
                Some(Done::Received { key, result, more })
            }
            // The first of two: the storage is still being read.
            Held::Send { range, sent, .. } if more => {
                *sent = Some(result);
                // A short one goes on from the same storage, so it waits for the second.
                (n == Ok(range.len())).then_some(Done::Sent { key, result: n, storage: None })
            }
            _ => {
                let (_, held) = self.operations.end(op)?;
                self.ended(key, held, n)
            }
        }
    }

    fn end_unless(&mut self, more: bool, op: Op) {
        if !more {
            self.operations.end(op);
        }
    }

    /// The final completion of an operation that has one result.
    fn ended(&mut self, key: Key, held: Held, n: Result<usize, Errno>) -> Option<Done<Lent, Socket>> {
        match held {
            Held::Fill(mut inbox) => {
                if let Ok(n) = n {
                    inbox.commit(n);
                }
                Some(Done::Filled { key, inbox, result: n })
            }
            Held::Send { storage, range, sent: None } => {
                Some(Done::Sent { key, result: n, storage: Some((storage, range)) })
            }
            Held::Send { storage, range, sent: Some(sent) } => {
                let result = usize::try_from(sent).map_err(|_| Errno(-sent));
                if result == Ok(range.len()) {
                    return Some(Done::Returned { key, storage });
                }
                Some(Done::Sent { key, result, storage: Some((storage, range)) })
            }
            Held::Shutdown => Some(Done::Shut { key }),
            Held::Close(socket) => {
                if n.is_ok() {
                    let _ = socket.into_raw_fd(); // the kernel has closed it
                }
                None
            }
            Held::Bell { .. } => {
                // Cancelled: the ring is on its way out.
                if n != Err(Errno::CANCELLED) {
                    self.listen_to_bell();
                }
                Some(Done::Woken)
            }
            Held::Accept { .. } | Held::Receive | Held::Cancel => None,
        }
    }

    /// True: nothing is in flight any more.
    fn quiesce(&mut self) -> bool {
        let (times, wait) = LAST_WAITS;
        for entry in std::mem::take(&mut self.queued) {
            self.operations.end(Op(entry.get_user_data())); // never submitted: the kernel does not know of it
        }
        if self.operations.len() == 0 {
            return true;
        }
        let op = self.operations.begin(nobody(), None, Held::Cancel);
        self.queue(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build(), op);
        for _ in 0..times {
            if self.turn(Some(wait)).is_err() {
                break;
            }
            self.done.clear();
            if self.operations.len() == 0 {
                return true;
            }
        }
        false
    }
}

impl Kernel for Ring {
    type Lent = Lent;
    type Socket = Socket;

    fn accept(&mut self, port: usize) -> Op {
        let open = self.ports.get(port).cloned();
        let fd = open.as_ref().map_or(-1, |port| port.as_fd().as_raw_fd());
        let op = self.operations.begin(Key::from_bits(port as u64), None, Held::Accept { _open: open });
        self.queue(opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build(), op);
        op
    }

    fn has_callers(&self, port: usize) -> bool {
        let Some(port) = self.ports.get(port) else { return false };
        let mut poll = libc::pollfd { fd: port.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry is given, and it is one; it does not wait.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready > 0 && poll.revents & libc::POLLIN != 0
    }

    fn leave_ports(&mut self) {
        self.ports.clear();
    }

    fn receive(&mut self, socket: &Socket, key: Key) -> Op {
        let op = self.operations.begin(key, Some(&socket.0), Held::Receive);
        self.queue(opcode::RecvMulti::new(Fd(socket.0.as_raw_fd()), GROUP).build(), op);
        op
    }

    fn receive_into(&mut self, socket: &Socket, key: Key, mut inbox: Inbox<Storage>) -> Op {
        let spare = inbox.spare();
        let (at, len) = (spare.as_mut_ptr(), spare.len().min(1 << 30) as u32);
        let op = self.operations.begin(key, Some(&socket.0), Held::Fill(inbox));
        self.queue(opcode::Recv::new(Fd(socket.0.as_raw_fd()), at, len).build(), op);
        op
    }

    fn send(&mut self, socket: &Socket, key: Key, storage: Storage, range: Range<usize>) -> Op {
        let range = range.start.min(storage.len())..range.end.min(storage.len());
        let bytes = storage.get(range.clone()).unwrap_or_default();
        let (at, len) = (bytes.as_ptr(), bytes.len().min(1 << 30) as u32);
        let fd = Fd(socket.0.as_raw_fd());
        let op = self.operations.begin(key, Some(&socket.0), Held::Send { storage, range, sent: None });
        let entry = match self.zero_copy {
            Some(least) if len as usize >= least => opcode::SendZc::new(fd, at, len).flags(libc::MSG_NOSIGNAL).build(),
            _ => opcode::Send::new(fd, at, len).flags(libc::MSG_NOSIGNAL).build(),
        };
        self.queue(entry, op);
        op
    }

    fn shutdown(&mut self, socket: &Socket, key: Key) {
        let op = self.operations.begin(key, Some(&socket.0), Held::Shutdown);
        self.queue(opcode::Shutdown::new(Fd(socket.0.as_raw_fd()), libc::SHUT_WR).build(), op);
    }

    fn close(&mut self, socket: Socket) {
        // If something is in flight after all, it is closed with that.
        if let Ok(fd) = Rc::try_unwrap(socket.0) {
            let number = fd.as_raw_fd();
            let op = self.operations.begin(nobody(), None, Held::Close(fd));
            self.queue(opcode::Close::new(Fd(number)).build(), op);
        }
    }

    fn cancel(&mut self, target: Op) {
        let op = self.operations.begin(nobody(), None, Held::Cancel);
        self.queue(opcode::AsyncCancel::new(target.0).build(), op);
    }

    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        while self.push() {
            self.enter(Some(Duration::ZERO))?;
        }
        // What was reaped already is not to wait for anything else.
        self.enter(if self.done.is_empty() { wait } else { Some(Duration::ZERO) })?;
        // The kernel keeps what finds no room (NODROP) and hands it over when it is asked to (DRV-09).
        for _ in 0..FLUSHES {
            if !self.io.submission().cq_overflow() {
                break;
            }
            self.flushes += 1;
            self.enter(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Done<Lent, Socket>> {
        self.done.pop_front()
    }

    fn spent(&mut self) -> Option<Spent> {
        self.gauge.as_mut().map(|gauge| gauge.take())
    }

    fn buffers(&self) -> (usize, usize) {
        (usize::from(self.shelf.count()), self.shelf.size())
    }

    fn lent(&self) -> usize {
        self.shelf.lent()
    }

    fn capacity(&self) -> usize {
        self.io.params().cq_entries() as usize
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.done.clear();
        let quiet = self.quiesce();
        // SAFETY: each of the three is dropped once, here, and not used afterwards. The ring goes first; what it may still touch goes
        // only if it touches nothing any more.
        unsafe {
            ManuallyDrop::drop(&mut self.io);
            if quiet {
                ManuallyDrop::drop(&mut self.operations);
                ManuallyDrop::drop(&mut self.shelf);
            }
        }
    }
}

/// The flags that every ring has: one thread submits and takes, completions are worked off when it asks for them and interrupt nothing.
pub(crate) fn builder(submissions: u32) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(submissions.saturating_mul(4));
    builder
}

/// What a call says: most of its errors are none.
fn passing(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        // Out of time, interrupted; out of memory, or of room for completions, until these are taken.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A counter that wakes whoever reads it. It blocks, since io_uring fails at once where a descriptor does not.
fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: made just now, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests;
