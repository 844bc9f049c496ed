//! In: a seed, and peers that say what a script has. Out: a kernel that completes operations in any order, in parts, late, or not as
//! asked; and what each peer heard. The clock is the model's, too.

mod tests;

use crate::road::{House, News, Road};
use crate::seam::{Done, Errno, Kernel, Op, Storage};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use vestibule::rehearsal::Handler;
use vestibule::{Config, Connection, Inbox, Instant, Outbox, Pause};
use vestibule_driver::{Buffers, How, Key, Next};

/// xorshift64*: every run the same.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A client.
#[derive(Default)]
pub(super) struct Peer {
    /// What it still has to say; then it ends, or it resets.
    pub(super) says: VecDeque<u8>,
    pub(super) stays: bool,
    pub(super) resets: bool,
    pub(super) heard: Vec<u8>,
    /// It reads nothing.
    pub(super) holds: bool,
    pub(super) heard_end: bool,
}

/// A buffer of the model's ring.
#[derive(Debug)]
pub(super) struct Lent {
    bytes: Vec<u8>,
    lent: Rc<Cell<usize>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Lent {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lent.set(self.lent.get() - 1);
    }
}

/// A connection's descriptor; operations have copies of it.
#[derive(Clone, Debug)]
pub(super) struct Socket {
    peer: usize,
    held: Rc<()>,
}

enum What {
    Accept(usize),
    Receive,
    Fill(Inbox<Storage>),
    Send(Storage, Range<usize>),
    /// Sent without a copy; the notification is still to come.
    Reads(Storage),
    Shutdown,
}

struct Flight {
    key: Key,
    socket: Option<Socket>,
    what: What,
    cancelled: bool,
    /// It has not been tried yet.
    fresh: bool,
}

/// What the kernel does now and then.
#[derive(Copy, Clone)]
pub(super) struct Habits {
    pub(super) buffers: usize,
    pub(super) buffer_bytes: usize,
    pub(super) zero_copy: bool,
    /// Interrupts, ends of multishots, short sends.
    pub(super) nasty: bool,
}

pub(super) struct Fake {
    pub(super) dice: Dice,
    pub(super) habits: Habits,
    pub(super) peers: Vec<Peer>,
    /// Who has not been accepted, by number.
    pub(super) knocking: VecDeque<usize>,
    /// So many accepts fail, with EMFILE.
    pub(super) no_descriptors: usize,
    pub(super) accepts: usize,
    flights: BTreeMap<u64, Flight>,
    numbers: u64,
    lent: Rc<Cell<usize>>,
    pub(super) most_lent: usize,
    pub(super) exhausted: usize,
    /// Completions for which the queue had no room come with a later turn.
    done: VecDeque<Done<Lent, Socket>>,
    ready: usize,
    pub(super) closed: usize,
    pub(super) time: Rc<Cell<u64>>,
    /// Time passes by so much at most while nothing happens.
    pub(super) jump: Duration,
}

impl Fake {
    pub(super) fn new(seed: u64, habits: Habits, time: Rc<Cell<u64>>) -> Fake {
        Fake {
            dice: Dice(seed),
            habits,
            peers: Vec::new(),
            knocking: VecDeque::new(),
            no_descriptors: 0,
            accepts: 0,
            flights: BTreeMap::new(),
            numbers: 0,
            lent: Rc::default(),
            most_lent: 0,
            exhausted: 0,
            done: VecDeque::new(),
            ready: 0,
            closed: 0,
            time,
            jump: Duration::MAX,
        }
    }

    pub(super) fn knock(&mut self, peer: Peer) -> usize {
        self.knocking.push_back(self.peers.len());
        self.peers.push(peer);
        self.peers.len() - 1
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn begin(&mut self, key: Key, socket: Option<&Socket>, what: What) -> Op {
        self.numbers += 1;
        self.flights.insert(self.numbers, Flight { key, socket: socket.cloned(), what, cancelled: false, fresh: true });
        assert!(self.flights.len() <= self.capacity(), "more operations than the completion queue has room for");
        Op(self.numbers)
    }

    /// One operation, as far as it goes. True: something came of it.
    fn advance(&mut self, number: u64) -> bool {
        let Some(mut flight) = self.flights.remove(&number) else { return false };
        let before = self.done.len();
        let nasty = self.habits.nasty;
        // Cancelled operations end, but what was there first may still come first.
        let fresh = std::mem::replace(&mut flight.fresh, false);
        let ends = flight.cancelled && !fresh && !self.dice.one_in(3);
        let key = flight.key;
        let over = match (&mut flight.what, &flight.socket) {
            (What::Accept(port), _) => {
                let port = *port;
                if ends {
                    self.done.push_back(Done::Accepted { port, result: Err(Errno::CANCELLED), more: false });
                    true
                } else if self.no_descriptors > 0 {
                    self.no_descriptors -= 1;
                    self.done.push_back(Done::Accepted { port, result: Err(Errno(libc::EMFILE)), more: false });
                    true
                } else if nasty && self.dice.one_in(8) {
                    self.done.push_back(Done::Accepted { port, result: Err(Errno(libc::ECONNABORTED)), more: false });
                    true
                } else {
                    let more = !nasty || !self.dice.one_in(4);
                    match self.knocking.pop_front() {
                        Some(peer) => {
                            let result = Ok(Socket { peer, held: Rc::new(()) });
                            self.done.push_back(Done::Accepted { port, result, more });
                            !more
                        }
                        None => false,
                    }
                }
            }
            (What::Receive, Some(socket)) => {
                let peer = socket.peer;
                if ends {
                    self.done.push_back(Done::Received { key, result: Err(Errno::CANCELLED), more: false });
                    true
                } else if nasty && self.dice.one_in(12) {
                    self.done.push_back(Done::Received { key, result: Err(Errno(libc::EINTR)), more: false });
                    true
                } else {
                    self.receive(key, peer)
                }
            }
            (What::Fill(inbox), Some(socket)) => {
                let result = match () {
                    () if ends => Some(Err(Errno::CANCELLED)),
                    () if nasty && self.dice.one_in(8) => Some(Err(Errno(libc::EAGAIN))),
                    () => {
                        let peer = &mut self.peers[socket.peer];
                        let spare = inbox.spare().len();
                        assert!(spare > 0, "a receive of nothing looks like the end");
                        let n = self.dice.below(spare.min(peer.says.len()) + 1);
                        match (n, peer.says.is_empty()) {
                            (0, true) if peer.resets => Some(Err(Errno(libc::ECONNRESET))),
                            (0, true) if !peer.stays => Some(Ok(0)),
                            (0, _) => None,
                            _ => {
                                let bytes: Vec<u8> = peer.says.drain(..n).collect();
                                assert_eq!(inbox.fill(&bytes), n);
                                Some(Ok(n))
                            }
                        }
                    }
                };
                match result {
                    Some(result) => {
                        let What::Fill(inbox) = flight.what else { unreachable!() };
                        self.done.push_back(Done::Filled { key, inbox, result });
                        return true;
                    }
                    None => false,
                }
            }
            (What::Send(storage, range), Some(socket)) => {
                let (peer, len) = (socket.peer, range.len());
                let resets = self.peers[peer].resets && self.peers[peer].says.is_empty();
                let n = match () {
                    () if ends => Err(Errno::CANCELLED),
                    () if resets => Err(Errno(libc::EPIPE)),
                    () if self.peers[peer].holds => {
                        self.flights.insert(number, flight);
                        return false;
                    }
                    () if nasty && self.dice.one_in(8) => Err(Errno([libc::EAGAIN, libc::EINTR][self.dice.below(2)])),
                    () if nasty => Ok(1 + self.dice.below(len)),
                    () => Ok(len),
                };
                if let Ok(n) = n {
                    let bytes = storage[range.clone()][..n].to_vec();
                    self.peers[peer].heard.extend(bytes);
                }
                let (storage, range) = (std::mem::take(storage), range.clone());
                if self.habits.zero_copy && n == Ok(len) {
                    self.done.push_back(Done::Sent { key, result: n, storage: None });
                    flight.what = What::Reads(storage);
                    false
                } else {
                    self.done.push_back(Done::Sent { key, result: n, storage: Some((storage, range)) });
                    true
                }
            }
            (What::Reads(storage), _) => {
                let storage = std::mem::take(storage);
                self.done.push_back(Done::Returned { key, storage });
                true
            }
            (What::Shutdown, Some(socket)) => {
                self.peers[socket.peer].heard_end = true;
                self.done.push_back(Done::Shut { key });
                true
            }
            (_, None) => true,
        };
        if !over {
            self.flights.insert(number, flight);
        }
        self.done.len() > before
    }

    /// One completion of a multishot receive. True: it was the last.
    fn receive(&mut self, key: Key, peer: usize) -> bool {
        let more = !self.habits.nasty || !self.dice.one_in(6);
        let peer = &mut self.peers[peer];
        if peer.says.is_empty() {
            let result = match (peer.stays, peer.resets) {
                (true, _) => return false,
                (_, true) => Err(Errno(libc::ECONNRESET)),
                _ => Ok(None),
            };
            self.done.push_back(Done::Received { key, result, more: false });
            return true;
        }
        if self.lent.get() == self.habits.buffers {
            self.exhausted += 1;
            self.done.push_back(Done::Received { key, result: Err(Errno::NO_BUFFERS), more: false });
            return true;
        }
        let n = 1 + self.dice.below(peer.says.len().min(self.habits.buffer_bytes));
        let mut bytes: Vec<u8> = peer.says.drain(..n).collect();
        bytes.resize(self.habits.buffer_bytes, 0xEE);
        self.lent.set(self.lent.get() + 1);
        self.most_lent = self.most_lent.max(self.lent.get());
        let lent = Lent { bytes, lent: self.lent.clone() };
        self.done.push_back(Done::Received { key, result: Ok(Some((lent, n))), more });
        !more
    }
}

impl Kernel for Fake {
    type Lent = Lent;
    type Socket = Socket;

    fn accept(&mut self, port: usize) -> Op {
        self.accepts += 1;
        self.begin(Key::from_bits(0), None, What::Accept(port))
    }

    fn has_callers(&self, _port: usize) -> bool {
        !self.knocking.is_empty()
    }

    fn leave_ports(&mut self) {}

    fn receive(&mut self, socket: &Socket, key: Key) -> Op {
        self.begin(key, Some(socket), What::Receive)
    }

    fn receive_into(&mut self, socket: &Socket, key: Key, inbox: Inbox<Storage>) -> Op {
        self.begin(key, Some(socket), What::Fill(inbox))
    }

    fn send(&mut self, socket: &Socket, key: Key, storage: Storage, range: Range<usize>) -> Op {
        assert!(!range.is_empty() && range.end <= storage.len());
        let second = self.flights.values().any(|f| f.key == key && matches!(f.what, What::Send(..)));
        assert!(!second, "two sends at a time would mix their bytes");
        self.begin(key, Some(socket), What::Send(storage, range))
    }

    fn shutdown(&mut self, socket: &Socket, key: Key) {
        self.begin(key, Some(socket), What::Shutdown);
    }

    fn close(&mut self, socket: Socket) {
        assert_eq!(Rc::strong_count(&socket.held), 1, "something is in flight on it");
        self.closed += 1;
    }

    fn cancel(&mut self, op: Op) {
        if let Some(flight) = self.flights.get_mut(&op.0) {
            flight.cancelled = true;
        }
    }

    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut happened = false;
        // Some of what is in flight, in any order, some of it several times.
        let numbers: Vec<u64> = self.flights.keys().copied().collect();
        for _ in 0..numbers.len() * 2 {
            let number = numbers[self.dice.below(numbers.len())];
            happened |= self.advance(number);
        }
        if !happened && self.done.is_empty() {
            for number in numbers {
                happened |= self.advance(number);
            }
        }
        if !happened && self.done.is_empty() {
            let wait = wait.expect("nothing can happen any more, and the loop waits for it");
            self.time.set(self.time.get() + wait.min(self.jump).as_nanos() as u64);
        }
        self.time.set(self.time.get() + 1_000);
        // The queue may be too short for all of them.
        self.ready = if self.dice.one_in(2) { self.done.len() } else { self.done.len().min(4) };
        Ok(())
    }

    fn next(&mut self) -> Option<Done<Lent, Socket>> {
        self.ready = self.ready.checked_sub(1)?;
        self.done.pop_front()
    }

    fn buffers(&self) -> (usize, usize) {
        (self.habits.buffers, self.habits.buffer_bytes)
    }

    fn lent(&self) -> usize {
        self.lent.get()
    }

    fn capacity(&self) -> usize {
        4096
    }
}

/// A connection with the handler of rehearsals, whose answers are all its own.
pub(super) struct Model {
    connection: Connection<Arc<Config>>,
    handler: Handler,
    draining: bool,
    heard: bool,
    log: Rc<RefCell<Vec<How>>>,
}

impl Model {
    pub(super) fn new(config: Arc<Config>, now: Instant, log: Rc<RefCell<Vec<How>>>) -> Model {
        Model {
            connection: Connection::new(config, now),
            handler: Handler::default(),
            draining: false,
            heard: false,
            log,
        }
    }
}

impl Road for Model {
    type Letter = ();

    fn turn<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        self.heard |= !inbox.is_empty();
        let mut turn = self.connection.turn(now, inbox, outbox).expect("the inbox that holds what waits");
        while let Some(event) = turn.next() {
            let _ = self.handler.on(event);
        }
        match turn.finish() {
            Pause::Input { want } => Next::Read { want },
            Pause::Room => Next::Write,
            Pause::Yield => Next::Again,
            Pause::Closed => Next::Close(How::Closed),
            Pause::Caller(_) => Next::Wait,
        }
    }

    fn receive(&mut self, (): ()) {}

    fn deadline(&self) -> Option<Instant> {
        self.connection.deadline().map(|deadline| deadline.at)
    }

    fn drain(&mut self) {
        self.draining = true;
        self.connection.drain();
    }

    fn is_draining(&self) -> bool {
        self.draining
    }

    fn was_heard(&self) -> bool {
        self.heard
    }

    fn patience(&self, bytes: usize) -> Duration {
        crate::road::patience(self.connection.config().limits(), bytes)
    }

    fn over(self, how: How) {
        self.log.borrow_mut().push(how);
    }
}

/// A server of models.
pub(super) struct Street {
    pub(super) config: Arc<Config>,
    pub(super) time: Rc<Cell<u64>>,
    pub(super) cap: usize,
    pub(super) open: usize,
    pub(super) stopping: bool,
    /// By another worker.
    pub(super) replaced: bool,
    pub(super) out_of_grace: bool,
    pub(super) left: bool,
    pub(super) lines: usize,
    pub(super) log: Rc<RefCell<Vec<How>>>,
}

impl House<Socket> for Street {
    type Road = Model;
    type Arrival = Socket;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.time.get())
    }

    fn buffers(&self) -> Buffers {
        Buffers::new(self.config.inbox_bytes(), 16_384)
    }

    fn admit(&mut self, _port: usize, socket: Socket) -> Result<Option<Socket>, Socket> {
        assert!(!self.left, "nobody is admitted by a port that is left");
        if self.open == self.cap {
            return Err(socket);
        }
        self.open += 1;
        Ok(Some(socket))
    }

    fn open(&mut self, _key: Key, socket: Socket) -> (Model, Socket) {
        (Model::new(self.config.clone(), self.now(), self.log.clone()), socket)
    }

    fn closed(&mut self) {
        self.open -= 1;
    }

    fn news(&mut self, _into: &mut Vec<News<Socket, ()>>) {}

    fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn stops_for_good(&self) -> bool {
        self.stopping && !self.replaced
    }

    fn is_out_of_grace(&self) -> bool {
        self.out_of_grace
    }

    fn leave_ports(&mut self) {
        self.left = true;
    }

    fn cannot_accept(&mut self, _why: Errno) {
        self.lines += 1;
    }
}
