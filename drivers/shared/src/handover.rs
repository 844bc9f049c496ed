//! In: the listening sockets of a server that is to go. Out: the same sockets in its successor, and no connection refused between.
//!
//! ```text
//!   successor                            predecessor: listens on a Unix socket of mode 0600
//!       |--- magic, version ----------------->|  same user?
//!       |<-- magic, version, addresses -------|
//!       |<-- descriptors (SCM_RIGHTS) --------|  its own control socket first
//!       |  accepts; so does the predecessor   |
//!       |--- R: ready ----------------------->|  stops accepting, drains
//!       |<-- G: gone -------------------------|
//! ```
//!
//! Both have descriptors of the same sockets, so the queues live on whoever goes first, and a successor that dies before it is ready changes
//! nothing. What both must keep: never shut a listening socket down and never change its flags; and who leaves must take it
//! out of its epoll or ring before it closes its descriptor, since the socket lives on. The control socket is handed over, too, so that
//! there is no moment at which a third server would believe that it is the first.

use crate::doorbell::Doorbell;
use crate::handover::wire::{Lot, Received, Wire};
use crate::inherited::Inherited;
use crate::listen::file::identity;
use crate::listen::{Address, ListenError, ListenOptions, Sockets, accept};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

mod wire;

/// How long one side waits for the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For the messages that need no thought.
    pub exchange: Duration,
    /// For a successor to become ready.
    pub ready: Duration,
}

impl Default for Patience {
    /// 5 s, and 60 s to become ready.
    fn default() -> Patience {
        Patience { exchange: Duration::from_secs(5), ready: Duration::from_secs(60) }
    }
}

/// Asks the server that offers its sockets at this path for them. `None`: nobody is there, so this is the first one.
///
/// ```no_run
/// use std::path::Path;
/// use vestibule_driver::handover::{self, Control, Patience};
/// use vestibule_driver::inherited::Inherited;
/// use vestibule_driver::listen::ListenOptions;
///
/// let path = Path::new("/run/shop/control");
/// let (mut sockets, taken) = match handover::take(path, Patience::default())? {
///     Some((sockets, taken)) => (sockets, Some(taken)),
///     None => (Inherited::from_environment()?, None),
/// };
/// let listener = sockets.listen(&"[::]:443".parse()?, &ListenOptions::default(), 1)?;
/// // ... start to accept, then:
/// let control = match taken {
///     Some(taken) => taken.ready()?,
///     None => Control::bind(path)?,
/// };
/// let offer = control.offer([&listener], Patience::default(), || { /* stop accepting, drain */ })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Somebody is there, but is another user, speaks another version, is busy with another successor, or goes away.
pub fn take(path: &Path, patience: Patience) -> io::Result<Option<(Inherited, Taken)>> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    stream.set_write_timeout(Some(patience.exchange.max(Duration::from_millis(1))))?; // also of connect(2)
    match stream.connect(&SockAddr::unix(path)?) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        result => result?,
    }
    same_user(&stream)?;
    let mut wire = Wire::new(stream, Arc::new(Doorbell::new()?))?;
    wire.within(patience.exchange);
    wire.send_hello()?;
    wire.receive_hello()?;
    let Received { control, lots } = wire.receive_sockets()?;

    let ours = Arc::new(AtomicBool::new(false));
    let address = Address::from(path);
    // By their files, since one of two paths may lead over a link.
    if control.0.unix().and_then(identity) != identity(path) {
        return Err(invalid("the control socket that was handed over is another one"));
    }
    let mut listener = Sockets::adopt(vec![control.1], &ListenOptions::default())
        .map_err(|error| io::Error::new(error.kind(), format!("the control socket {address}: {error}")))?;
    listener.own_file(ours.clone());
    let mut inherited = Inherited::default();
    for lot in lots {
        let mark = lot.owns_file.then(|| ours.clone());
        for socket in lot.sockets {
            inherited.add_taken(socket, lot.address.clone(), mark.clone());
        }
    }
    Ok(Some((inherited, Taken { wire, ours, control: Control { listener }, patience })))
}

/// What a successor holds until it is ready. Dropped, it changes nothing: the predecessor goes on.
#[derive(Debug)]
pub struct Taken {
    wire: Wire,
    /// Whether the files of the Unix sockets are ours.
    ours: Arc<AtomicBool>,
    control: Control,
    patience: Patience,
}

impl Taken {
    /// Says that this server accepts connections now, and waits until its predecessor does so no longer.
    ///
    /// # Errors
    /// The predecessor did not answer. It may have died or may go on: this server accepts already and may do so, too.
    pub fn ready(mut self) -> io::Result<Control> {
        self.wire.within(self.patience.exchange);
        self.wire.send(&[wire::READY])?;
        if self.wire.receive_byte()? != wire::GONE {
            return Err(invalid("not the word that the predecessor is gone"));
        }
        self.ours.store(true, Ordering::Relaxed);
        Ok(self.control)
    }
}

/// The socket at which successors ask.
#[derive(Debug)]
pub struct Control {
    listener: Sockets,
}

impl Control {
    /// How many successors may wait.
    const BACKLOG: u16 = 4;

    /// A control socket at this path, for this user alone.
    ///
    /// # Errors
    /// What [`Sockets::bind`] says; also that a server is there.
    pub fn bind(path: &Path) -> Result<Control, ListenError> {
        let options = ListenOptions { backlog: Control::BACKLOG, unix_mode: Some(0o600), ..ListenOptions::default() };
        Ok(Control { listener: Sockets::bind(&path.into(), &options, 1)? })
    }

    /// Offers these sockets to whoever comes, one after the other, on a thread of its own, until one has become ready. Then `on_taken` is
    /// called on that thread: when it returns, this server must accept no more, and the successor is told so.
    ///
    /// The sockets are not kept alive by the offer. Files of Unix sockets are left to the successor.
    ///
    /// # Errors
    /// No thread or no descriptors.
    pub fn offer<'a>(
        self,
        listeners: impl IntoIterator<Item = &'a Sockets>,
        patience: Patience,
        on_taken: impl FnOnce() + Send + 'static,
    ) -> io::Result<Offer> {
        let bell = Arc::new(Doorbell::new()?);
        let taken = Arc::new(AtomicBool::new(false));
        let lots = listeners.into_iter().map(Offered::of).collect();
        let thread = Thread { control: self.listener, lots, patience, bell: bell.clone(), taken: taken.clone() };
        let run = move || thread.run(on_taken);
        let thread = thread::Builder::new().name("vestibule-handover".into()).spawn(run)?;
        Ok(Offer { bell, taken, thread: Some(thread) })
    }
}

/// One listener that is offered.
struct Offered {
    address: Address,
    members: Vec<Weak<Socket>>,
    mark: Option<Arc<AtomicBool>>,
}

impl Offered {
    fn of(listener: &Sockets) -> Offered {
        Offered {
            address: listener.address().clone(),
            members: listener.members().iter().map(Arc::downgrade).collect(),
            mark: listener.mark().cloned(),
        }
    }

    /// For sending; `None`: a socket is gone already, because this server stops.
    fn lot(&self) -> Option<Lot<Arc<Socket>>> {
        Some(Lot {
            address: self.address.clone(),
            sockets: self.members.iter().map(Weak::upgrade).collect::<Option<_>>()?,
            owns_file: self.mark.as_ref().is_some_and(|mark| mark.load(Ordering::Relaxed)),
        })
    }
}

/// An offer that stands until a successor is ready, or until this is dropped.
pub struct Offer {
    bell: Arc<Doorbell>,
    taken: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("taken", &self.taken()).finish_non_exhaustive()
    }
}

impl Offer {
    /// Whether a successor has taken over.
    pub fn taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Offer {
    /// Ends the offer, and waits for its thread, unless this is that thread.
    fn drop(&mut self) {
        self.bell.ring();
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// The thread of an offer.
struct Thread {
    control: Sockets,
    lots: Vec<Offered>,
    patience: Patience,
    bell: Arc<Doorbell>,
    taken: Arc<AtomicBool>,
}

impl Thread {
    /// After a failure of the socket itself: it would fail again at once.
    const PAUSE: Duration = Duration::from_secs(1);

    fn run(self, on_taken: impl FnOnce()) {
        while !self.bell.rung() {
            // An error concerns this one successor, which hears of it by the end of its stream.
            let Ok(Some(mut wire)) = self.next() else { continue };
            if self.serve(&mut wire).is_ok() {
                self.taken.store(true, Ordering::Relaxed);
                for mark in self.lots.iter().filter_map(|lot| lot.mark.as_ref()).chain(self.control.mark()) {
                    mark.store(false, Ordering::Relaxed);
                }
                on_taken();
                wire.within(self.patience.exchange);
                let _ = wire.send(&[wire::GONE]);
                return;
            }
        }
    }

    /// Waits for a successor.
    fn next(&self) -> io::Result<Option<Wire>> {
        let Some(control) = self.control.members().first() else { return Ok(None) };
        let accepted = self.bell.wait(&[control.as_fd()], None).and_then(|_| match self.bell.rung() {
            true => Ok(None),
            false => accept(control, true).map(Some),
        });
        match accepted {
            Ok(None) => Ok(None),
            Ok(Some(accepted)) => {
                same_user(&accepted.socket)?;
                Ok(Some(Wire::new(accepted.socket, self.bell.clone())?))
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.bell.wait(&[], Some(Self::PAUSE))?;
                }
                Err(error)
            }
        }
    }

    /// Hands the sockets to a successor, and waits until it is ready.
    fn serve(&self, wire: &mut Wire) -> io::Result<()> {
        wire.within(self.patience.exchange);
        wire.receive_hello()?;
        let control = Offered::of(&self.control).lot();
        let lots: Option<Vec<_>> = self.lots.iter().map(Offered::lot).collect();
        let (Some(control), Some(lots)) = (control, lots) else { return Err(invalid("this server stops")) };
        wire.send_hello()?;
        wire.send_sockets(&control, &lots)?;
        drop((control, lots));
        wire.within(self.patience.ready);
        match wire.receive_byte()? {
            wire::READY => Ok(()),
            _ => Err(invalid("not the word that the successor is ready")),
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The file's permissions keep others away, where they are kept; this does everywhere, in both directions.
fn same_user(stream: &Socket) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    match peer.uid == rustix::process::geteuid() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other side is another user")),
    }
}

#[cfg(test)]
mod tests;
