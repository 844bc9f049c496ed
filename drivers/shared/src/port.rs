//! In: a listening socket. Out: connections that may be open, each with what its port says of it (DRV-01, DRV-02).

use crate::accept::{Accept, Acceptor, Trouble};
use crate::admission::{Permit, Source, Verdict};
use crate::hand_out::Place;
use crate::incident::What;
use crate::listen::{self, Accepted, Address};
use crate::probe::Stage;
use crate::service::Peer;
use crate::shared::Shared;
use crate::tls::{TlsChoice, TlsConfig};
use crate::trust::Trust;
use socket2::Socket;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vestibule::Config;

/// What the connections of one port have in common.
pub struct Port {
    pub(crate) address: Address,
    pub(crate) tls: Option<TlsChoice>,
    pub(crate) config: Arc<Config>,
    /// Whose PROXY header is believed, and the configuration that asks for one.
    pub(crate) proxies: Option<(Trust, Arc<Config>)>,
    /// What one of them may cost.
    pub(crate) bound_bytes: usize,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Port {
    /// A port with this configuration, and its TLS, if it has some, in addition.
    pub(crate) fn new(address: Address, tls: Option<TlsChoice>, config: Config, trust: &Trust) -> Port {
        let config = match &tls {
            Some(tls) => config.with_tls(tls.config()),
            None => config,
        };
        let proxies = (!trust.is_nobody()).then(|| (trust.clone(), Arc::new(config.clone().with_proxy_header())));
        Port { address, tls, bound_bytes: config.bound_bytes(), config: Arc::new(config), proxies }
    }

    pub(crate) fn choose(&self, hello: &vestibule::Hello<'_>) -> Option<TlsConfig> {
        self.choose_by(hello.sni, &mut hello.alpn())
    }

    /// The same for TLS that is not the machine's own.
    pub(crate) fn choose_by(&self, sni: Option<&str>, alpn: &mut dyn Iterator<Item = &[u8]>) -> Option<TlsConfig> {
        self.tls.as_ref()?.choose(sni, alpn)
    }

    /// Whether who connects from there is a proxy that tells for whom.
    fn believes(&self, from: Option<SocketAddr>) -> bool {
        let trust = self.proxies.as_ref().map(|(trust, _)| trust);
        trust.is_some_and(|trust| from.map_or_else(|| trust.holds_unix(), |from| trust.holds(from.ip())))
    }
}

/// The right of a connection to be open, and its place at its worker.
#[derive(Debug)]
pub(crate) struct Right {
    permit: Permit,
    place: Option<Place>,
}

impl Right {
    pub(crate) fn new(permit: Permit) -> Right {
        Right { permit, place: None }
    }

    /// A proxy says that it is open for this one. False: that has as many as it may have.
    pub(crate) fn is_for(&mut self, source: IpAddr) -> bool {
        self.permit.move_to(Source::of(source))
    }

    pub(crate) fn at(&mut self, place: Option<Place>) {
        self.place = place;
    }
}

/// A connection that has been accepted and belongs to nobody yet.
#[derive(Debug)]
pub struct Arrival {
    /// The socket: it does not block.
    pub socket: Socket,
    pub(crate) peer: Peer,
    pub(crate) port: Arc<Port>,
    pub(crate) right: Right,
    /// It begins with a PROXY header.
    pub(crate) proxied: bool,
    /// It is only to be told that there are too many.
    pub(crate) overloaded: bool,
}

/// A listening socket and what it is for.
#[derive(Debug)]
pub struct Listener {
    /// The socket: it does not block.
    pub socket: Arc<Socket>,
    pub(crate) port: Arc<Port>,
    /// The rules of accepting, for all who accept from it.
    acceptor: Mutex<Acceptor>,
    /// The last call failed.
    failing: AtomicBool,
}

/// What it listens with, for drivers that ask the system by themselves.
#[cfg(unix)]
impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    pub(crate) fn new(socket: Arc<Socket>, port: Arc<Port>, acceptor: Acceptor) -> Listener {
        Listener { socket, port, acceptor: Mutex::new(acceptor), failing: AtomicBool::new(false) }
    }

    /// Accepts one connection, if one waits. Beyond the caps none is accepted. When accepting fails for want of descriptors or memory, the
    /// calls after that do nothing for a while, so whoever asks again soon does no harm.
    ///
    /// # Errors
    /// `WouldBlock`: none waits. `QuotaExceeded`: no more may be open, or the system has no room for more: ask again in a moment.
    /// `Interrupted`: that one is gone already, or had no right to be: ask again.
    pub fn accept(&self, shared: &Arc<Shared>) -> io::Result<Arrival> {
        let Some(seat) = shared.admission.reserve(self.port.bound_bytes) else {
            return Err(ErrorKind::QuotaExceeded.into());
        };
        let since = shared.probe().map(|_| crate::probe::now());
        let Accepted { socket, peer } = self.accept_by_the_rules(shared)?;
        if let (Some(probe), Some(since)) = (shared.probe(), since) {
            probe.took(Stage::Accept, since, 0, 0);
        }
        let verdict = seat.take(self.source(peer));
        self.arrival(socket, peer, verdict, shared).ok_or_else(|| ErrorKind::Interrupted.into())
    }

    fn accept_by_the_rules(&self, shared: &Arc<Shared>) -> io::Result<Accepted> {
        if !self.failing.load(Ordering::Relaxed) {
            match listen::accept(&self.socket, true) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    let (_, trouble) = self.acceptor().judge::<()>(shared.now(), Err(error));
                    self.failing.store(true, Ordering::Relaxed);
                    self.tell(shared, trouble);
                }
                accepted => return accepted,
            }
        }
        let (accept, trouble) = self.acceptor().accept(shared.now(), || listen::accept(&self.socket, true));
        self.tell(shared, trouble);
        self.failing.store(!matches!(accept, Accept::Accepted(_) | Accept::Empty), Ordering::Relaxed);
        match accept {
            Accept::Accepted(accepted) => Ok(accepted),
            Accept::Empty => Err(ErrorKind::WouldBlock.into()),
            Accept::Again => Err(ErrorKind::Interrupted.into()),
            Accept::Pause(_) | Accept::Dead => Err(ErrorKind::QuotaExceeded.into()),
        }
    }

    fn acceptor(&self) -> std::sync::MutexGuard<'_, Acceptor> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, shared: &Shared, trouble: Option<Trouble>) {
        if let Some(trouble) = trouble {
            shared.tell(None, What::Accept(trouble.to_string()));
        }
    }

    /// Where a connection from there is counted: a proxy's when its header has come.
    fn source(&self, from: Option<SocketAddr>) -> Source {
        match from {
            Some(from) if !self.port.believes(Some(from)) => Source::of(from.ip()),
            _ => Source::Uncounted,
        }
    }

    /// Takes over a connection of this listener that the driver has accepted by itself. `None`: it is gone already, or has no right to be.
    ///
    /// # Errors
    /// No more may be open; here is the socket.
    pub fn adopt(&self, socket: Socket, shared: &Arc<Shared>) -> Result<Option<Arrival>, Socket> {
        let Some(seat) = shared.admission.reserve(self.port.bound_bytes) else { return Err(socket) };
        let Ok(from) = socket.peer_addr() else { return Ok(None) };
        let from = from.as_socket();
        let verdict = seat.take(self.source(from));
        Ok(self.arrival(socket, from, verdict, shared))
    }

    /// Waits until a connection does, but no longer than that.
    #[cfg(unix)]
    pub fn wait(&self, most: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
        let _ = poll(&mut fds, Some(&most));
    }

    fn arrival(&self, socket: Socket, from: Option<SocketAddr>, verdict: Verdict, shared: &Shared) -> Option<Arrival> {
        let (permit, overloaded) = match verdict {
            Verdict::Admitted(permit) => (permit, false),
            Verdict::Overloaded(permit) => (permit, true),
            Verdict::Refused => return None,
        };
        shared.counts.connections.fetch_add(1, Ordering::Relaxed);
        shared.probe().into_iter().for_each(|probe| probe.accepted());
        let peer = Peer { addr: from, local: self.port.address.tcp(), proxy: None, tls: self.port.tls.is_some() };
        let proxied = self.port.believes(from);
        Some(Arrival { socket, peer, port: self.port.clone(), right: Right::new(permit), proxied, overloaded })
    }
}
