//! In: what a loop needs of a connection and of its server. Out: the same for the lanes of `vestibule_driver`, and for models.

use crate::ring::Socket;
use crate::seam::{Errno, Spent, Storage};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use vestibule::{Inbox, Instant, Limit, Outbox};
use vestibule_driver::probe::{Lap, Stage};
use vestibule_driver::{Arrival, Buffers, How, Key, Lane, Letter, Listener, Mail, Next, What, Worker};

/// One connection without its socket: [`Lane`], or a model of one.
pub(crate) trait Road {
    /// What comes by mail for it.
    type Letter;
    fn turn<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>;
    fn receive(&mut self, letter: Self::Letter);
    fn deadline(&self) -> Option<Instant>;
    fn drain(&mut self);
    fn is_draining(&self) -> bool;
    fn was_heard(&self) -> bool;
    /// How long so many bytes may be on their way out.
    fn patience(&self, bytes: usize) -> Duration;
    fn over(self, how: How);
    /// For the probe: received bytes are about to be moved.
    fn lap(&self) -> Lap {
        Lap::default()
    }
    /// They are.
    fn lapped(&self, _lap: Lap) {}
}

/// Moves received bytes. For the probe that is a part of reading, the only one that is not the kernel's.
pub(crate) fn carry<R: Road, S: AsRef<[u8]> + AsMut<[u8]>>(
    road: &Option<R>,
    to: &mut Inbox<Storage>,
    from: &mut Inbox<S>,
    most: usize,
) -> usize {
    let lap = road.as_ref().map(Road::lap);
    let n = to.carry(from, most);
    if let (Some(road), Some(lap)) = (road, lap) {
        road.lapped(lap);
    }
    n
}

impl Road for Lane {
    type Letter = Letter;

    fn turn<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Next
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        Lane::turn(self, now, inbox, outbox)
    }

    fn receive(&mut self, letter: Letter) {
        Lane::receive(self, letter);
    }

    fn deadline(&self) -> Option<Instant> {
        Lane::deadline(self)
    }

    fn drain(&mut self) {
        Lane::drain(self);
    }

    fn is_draining(&self) -> bool {
        Lane::is_draining(self)
    }

    fn was_heard(&self) -> bool {
        Lane::was_heard(self)
    }

    fn patience(&self, bytes: usize) -> Duration {
        patience(self.limits(), bytes)
    }

    fn over(self, how: How) {
        Lane::over(self, how);
    }

    fn lap(&self) -> Lap {
        Lane::lap(self)
    }

    fn lapped(&self, lap: Lap) {
        Lane::lapped(self, Stage::Read, lap);
    }
}

/// Something from outside the ring.
#[derive(Debug)]
pub(crate) enum News<A, L> {
    Arrival(A),
    Letter(Key, L),
}

/// The server around a worker.
pub(crate) trait House<S> {
    type Road: Road;
    /// A connection that may be open, and is nobody's yet.
    type Arrival;

    fn now(&self) -> Instant;
    fn buffers(&self) -> Buffers;
    /// A connection of this port. Back: too many are open.
    fn admit(&mut self, port: usize, socket: S) -> Result<Option<Self::Arrival>, S>;
    /// Its road, under this key, and its socket again.
    fn open(&mut self, key: Key, arrival: Self::Arrival) -> (Self::Road, S);
    fn closed(&mut self) {}
    /// All that has come by mail.
    fn news(&mut self, into: &mut Vec<News<Self::Arrival, <Self::Road as Road>::Letter>>);
    /// It takes nothing new.
    fn is_stopping(&self) -> bool;
    /// Nobody else takes its place.
    fn stops_for_good(&self) -> bool;
    fn is_out_of_grace(&self) -> bool;
    /// It listens no more.
    fn leave_ports(&mut self);
    /// Connections cannot be accepted now.
    fn cannot_accept(&mut self, why: Errno);
    /// The loop goes to the kernel: to wait there, and for what that does meanwhile.
    fn waits(&self) {}
    /// It is back; so much of that was accepting, reading and writing.
    fn works(&self, _spent: Option<Spent>) {}
}

/// The worker of a `vestibule_driver::Server`.
pub(crate) struct Site {
    worker: Worker,
    listeners: Vec<Arc<Listener>>,
    mail: Vec<Mail>,
}

impl Site {
    /// # Errors
    /// The listening sockets do not take what they need.
    pub(crate) fn new(mut worker: Worker) -> io::Result<Site> {
        let listeners = std::mem::take(&mut worker.listeners);
        for listener in &listeners {
            listener.socket.set_nonblocking(false)?; // io_uring waits, and fails at once where a socket does not block
            let _ = listener.socket.set_tcp_nodelay(true); // which accepted sockets inherit
        }
        Ok(Site { worker, listeners, mail: Vec::new() })
    }

    pub(crate) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl House<Socket> for Site {
    type Road = Lane;
    type Arrival = Arrival;

    fn now(&self) -> Instant {
        self.worker.shared.now()
    }

    fn buffers(&self) -> Buffers {
        self.worker.shared.buffers()
    }

    fn waits(&self) {
        self.worker.waits();
    }

    fn works(&self, spent: Option<Spent>) {
        self.worker.works(|| 0);
        if let Some(spent) = spent {
            self.worker.spent(Stage::Accept, spent.accepting);
            self.worker.spent(Stage::Read, spent.reading);
            self.worker.spent(Stage::Write, spent.writing);
        }
    }

    fn admit(&mut self, port: usize, socket: Socket) -> Result<Option<Arrival>, Socket> {
        let Some(listener) = self.listeners.get(port) else { return Ok(None) };
        let Some(descriptor) = socket.into_descriptor() else { return Ok(None) };
        match listener.adopt(socket2::Socket::from(descriptor), &self.worker.shared) {
            Ok(arrival) => Ok(arrival),
            Err(socket) => Err(Socket::new(OwnedFd::from(socket))),
        }
    }

    fn open(&mut self, key: Key, arrival: Arrival) -> (Lane, Socket) {
        let (lane, socket) = self.worker.lane(key, arrival);
        (lane, Socket::new(OwnedFd::from(socket)))
    }

    fn news(&mut self, into: &mut Vec<News<Arrival, Letter>>) {
        self.worker.mailbox.take(&mut self.mail);
        into.extend(self.mail.drain(..).filter_map(|mail| match mail {
            Mail::Arrival(arrival) => {
                // Who accepted it did not mean it for io_uring.
                let _ = arrival.socket.set_nonblocking(false);
                Some(News::Arrival(*arrival))
            }
            Mail::Letter(key, letter) => Some(News::Letter(key, letter)),
            Mail::Stop => None,
        }));
    }

    fn is_stopping(&self) -> bool {
        self.worker.is_stopping()
    }

    fn stops_for_good(&self) -> bool {
        self.worker.shared.is_stopping()
    }

    fn is_out_of_grace(&self) -> bool {
        self.worker.is_out_of_grace()
    }

    fn leave_ports(&mut self) {
        self.listeners.clear();
    }

    fn cannot_accept(&mut self, why: Errno) {
        self.worker.shared.tell(None, What::Accept(why.to_string()));
    }
}

/// How long so many bytes may be on their way out: as the machine itself judges readers, which cannot see what a send in flight holds.
pub(crate) fn patience(limits: &vestibule::Limits, bytes: usize) -> Duration {
    let rate = limits.get(Limit::MinRate).max(1);
    Duration::from_millis(limits.get(Limit::RateGraceMs)) + Duration::from_secs(bytes as u64 / rate + 1)
}
