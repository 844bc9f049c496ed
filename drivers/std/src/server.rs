//! In: addresses, a configuration, a service. Out: a server that runs until it is asked to stop.

use crate::accept;
use crate::drive::{self, Buffers};
use crate::incident::{Hook, Incident, What, to_stderr};
use crate::pool::Pool;
use crate::wire::TcpWire;
use crate::{Peer, Service};
use socket2::Socket;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vestibule::decode::coding::Coding;
use vestibule::decrypt::TlsConfig;
use vestibule::{Config, Limits};

type Factory = Arc<dyn Fn(&Peer) -> Box<dyn Service> + Send + Sync>;

/// The choices of a [`Server`]; see [`Server::builder`].
pub struct Builder {
    ports: Vec<(SocketAddr, Option<TlsConfig>)>,
    config: Config,
    codings: Option<&'static [Coding]>,
    workers: usize,
    connections: usize,
    backlog: i32,
    grace: Duration,
    signals: bool,
    factory: Option<Factory>,
    hook: Hook,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Builder {
    /// Listens there for plain HTTP. Port 0: any that is free.
    pub fn http(mut self, addr: SocketAddr) -> Builder {
        self.ports.push((addr, None));
        self
    }

    /// Listens there for TLS. See [`crate::tls`] for configurations.
    pub fn https(mut self, addr: SocketAddr, tls: TlsConfig) -> Builder {
        self.ports.push((addr, Some(tls)));
        self
    }

    /// The limits of every connection.
    pub fn limits(self, limits: Limits) -> Builder {
        self.config(Config::new(limits))
    }

    /// The configuration of every connection; those of TLS ports get their TLS in addition.
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// Responses are coded with the first of these that their clients accept, where that is worth it: see
    /// [`Config::with_response_codings`]. Whatever [`Builder::config`] and [`Builder::limits`] say, before or after. Default: as the configuration says.
    pub fn codings(mut self, codings: &'static [Coding]) -> Builder {
        self.codings = Some(codings);
        self
    }

    /// [`Builder::codings`] with what every client decodes, gzip; `false`: none are coded.
    pub fn compress(self, on: bool) -> Builder {
        self.codings(if on { &[Coding::Gzip] } else { &[] })
    }

    /// Threads that serve, at most; default 512. They are started when needed.
    pub fn workers(mut self, n: usize) -> Builder {
        self.workers = n.max(1);
        self
    }

    /// Open connections at most, served and waiting; default 1,024. Beyond it nothing is accepted: the kernel's queue holds them.
    pub fn connections(mut self, cap: usize) -> Builder {
        self.connections = cap.max(1);
        self
    }

    /// Length of the kernel's queue; default 1,024.
    pub fn backlog(mut self, n: u32) -> Builder {
        self.backlog = i32::try_from(n).unwrap_or(i32::MAX).max(1);
        self
    }

    /// How long a shutdown waits for what is in flight; default 10 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Builder {
        self.grace = grace;
        self
    }

    /// SIGINT and SIGTERM ask for a graceful shutdown while the server runs; a second one ends the process. Default: they do
    /// what they always do.
    pub fn signals(mut self, on: bool) -> Builder {
        self.signals = on;
        self
    }

    /// Makes the service of each connection, on its worker thread.
    pub fn service<S: Service + 'static>(mut self, factory: impl Fn(&Peer) -> S + Send + Sync + 'static) -> Builder {
        self.factory = Some(Arc::new(move |peer| Box::new(factory(peer))));
        self
    }

    /// Told of every fault, panic and other incident; default: one line on the standard error stream.
    pub fn on_fault(mut self, hook: impl Fn(&Incident) + Send + Sync + 'static) -> Builder {
        self.hook = Arc::new(hook);
        self
    }

    /// Opens the ports. Nothing is accepted before [`Server::run`], but connections can queue.
    ///
    /// # Errors
    /// A port cannot be had, or something was not chosen.
    pub fn bind(self) -> Result<Server, BindError> {
        let Some(factory) = self.factory else { return Err(BindError::NoService) };
        if self.ports.is_empty() {
            return Err(BindError::NoPort);
        }
        let (mut listeners, mut sockets) = (Vec::new(), Vec::new());
        let config = match self.codings {
            Some(codings) => self.config.with_response_codings(codings),
            None => self.config,
        };
        for (addr, tls) in self.ports {
            let refused = |error| BindError::Port { addr, error };
            let socket = accept::listen(addr, self.backlog).map_err(refused)?;
            let local = socket.local_addr().map_err(refused)?.as_socket().unwrap_or(addr);
            let config = match &tls {
                Some(tls) => config.clone().with_tls(tls.clone()),
                None => config.clone(),
            };
            listeners.push(Arc::new(Listener { local, tls, config: Arc::new(config) }));
            sockets.push(Arc::new(socket));
        }
        let sizes = listeners.iter().map(|l| (l.config.inbox_bytes(), l.config.least_outbox_bytes()));
        let shared = Shared {
            pool: Pool::new(self.workers, self.connections),
            factory,
            hook: self.hook,
            grace: self.grace,
            inbox_bytes: sizes.clone().map(|s| s.0).max().unwrap_or(0).next_multiple_of(BLOCK),
            outbox_bytes: sizes.map(|s| s.1).max().unwrap_or(0).next_multiple_of(BLOCK),
            epoch: Instant::now(),
            counts: Counts::default(),
            stopping: AtomicBool::new(false),
            stopped: Mutex::new(None),
            wake: Condvar::new(),
            sockets: Mutex::new(sockets),
        };
        Ok(Server { shared: Arc::new(shared), listeners, signals: self.signals })
    }
}

/// Buffers come in these sizes.
const BLOCK: usize = 65_536;

/// Why a server cannot begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// No `http` and no `https`.
    NoPort,
    /// No `service`.
    NoService,
    /// This address cannot be listened on.
    Port {
        /// Which one.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::NoPort => f.write_str("no address to listen on was given"),
            BindError::NoService => f.write_str("no service was given"),
            BindError::Port { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
        }
    }
}

impl std::error::Error for BindError {}

/// What the connections of one port have in common.
pub(crate) struct Listener {
    local: SocketAddr,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) config: Arc<Config>,
}

/// A connection that waits for a worker.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: Peer,
    pub(crate) listener: Arc<Listener>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) cut: AtomicU64,
}

/// What all threads of a server share.
pub(crate) struct Shared {
    pub(crate) pool: Pool<Arrival>,
    factory: Factory,
    hook: Hook,
    grace: Duration,
    inbox_bytes: usize,
    outbox_bytes: usize,
    epoch: Instant,
    pub(crate) counts: Counts,
    stopping: AtomicBool,
    stopped: Mutex<Option<Instant>>,
    wake: Condvar,
    /// Those that listen; none once the server stops.
    sockets: Mutex<Vec<Arc<Socket>>>,
}

impl Shared {
    /// The time, as the machine counts it.
    pub(crate) fn now(&self) -> vestibule::Instant {
        vestibule::Instant::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> Option<Instant> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shutdown has waited long enough.
    pub(crate) fn out_of_grace(&self) -> bool {
        self.stopping() && self.stopped().is_some_and(|then| then.elapsed() >= self.grace)
    }

    pub(crate) fn tell(&self, peer: Option<Peer>, what: What) {
        let count = match &what {
            What::Fault(_) => Some(&self.counts.faults),
            What::Panic => Some(&self.counts.panics),
            _ => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        (self.hook)(&Incident { peer, what });
    }

    /// Sleeps, but not beyond the request to stop.
    pub(crate) fn sleep(&self, wait: Duration) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _unused = self.wake.wait_timeout_while(stopped, wait, |stopped| stopped.is_none());
    }

    pub(crate) fn service(&self, peer: &Peer) -> Box<dyn Service> {
        (self.factory)(peer)
    }

    fn stop(&self) {
        {
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            if stopped.is_some() {
                return;
            }
            *stopped = Some(Instant::now());
            self.stopping.store(true, Ordering::Relaxed);
        }
        self.wake.notify_all();
        self.pool.close();
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in sockets {
            // On Linux the first ends a blocking accept, elsewhere the second does: a connection to ourselves.
            let _ = socket.shutdown(Shutdown::Both);
            let Some(mut addr) = socket.local_addr().ok().and_then(|a| a.as_socket()) else { continue };
            if addr.ip().is_unspecified() {
                addr.set_ip(match addr.ip() {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
                });
            }
            let _ = TcpStream::connect_timeout(&addr, Duration::from_millis(100));
        }
    }

    /// Hands an accepted connection to a worker, and starts one if need be.
    pub(crate) fn begin(self: &Arc<Self>, arrival: Arrival) {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        if !self.pool.push(arrival) {
            return;
        }
        let shared = self.clone();
        let started = thread::Builder::new().name("vestibule".into()).spawn(move || shared.work());
        if let Err(error) = started {
            self.tell(None, What::Thread(error.to_string()));
            if self.pool.not_started().is_some() {
                self.pool.take_back();
            }
        }
    }

    /// A worker: one connection after the other, with the same buffers.
    fn work(&self) {
        let mut buffers = Buffers::new(self.inbox_bytes, self.outbox_bytes);
        while let Some(Arrival { stream, peer, listener }) = self.pool.next() {
            let mut wire = TcpWire::new(stream);
            let left = drive::serve(&mut wire, &listener, peer, &mut buffers, self);
            drop(wire);
            self.pool.over(left);
        }
    }
}

/// A server whose ports are open.
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Arc<Listener>>,
    signals: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addrs", &self.local_addrs()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server with the defaults; it needs a port and a service.
    pub fn builder() -> Builder {
        Builder {
            ports: Vec::new(),
            config: Config::new(Limits::DEFAULT),
            codings: None,
            workers: 512,
            connections: 1_024,
            backlog: 1_024,
            grace: Duration::from_secs(10),
            signals: false,
            factory: None,
            hook: Arc::new(to_stderr),
        }
    }

    /// Where it listens, in the order of the builder's calls, with the true ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|l| l.local).collect()
    }

    /// What a worker gets, for tests that are workers.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Shared, &Listener) {
        (&self.shared, &self.listeners[0])
    }

    /// What asks it to stop.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Serves until [`Handle::shutdown`] or a signal; then closes the ports, lets what is in flight come to its end within the
    /// grace, and says what was done. A service that does not return by then is left behind.
    pub fn run(self) -> Summary {
        let Server { shared, listeners, signals } = self;
        let signals = if signals { Signals::watch(&shared) } else { None };
        let sockets = shared.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let acceptors: Vec<_> = sockets
            .into_iter()
            .zip(listeners)
            .map(|(socket, listener)| {
                let shared = shared.clone();
                let run = move || accept::run(&socket, &listener, &shared);
                thread::Builder::new().name("vestibule-accept".into()).spawn(run)
            })
            .collect();
        for acceptor in acceptors {
            match acceptor {
                Ok(acceptor) => drop(acceptor.join()),
                Err(error) => {
                    shared.tell(None, What::Thread(error.to_string()));
                    shared.stop();
                }
            }
        }
        shared.stop(); // also if every acceptor failed
        let until = shared.stopped().unwrap_or_else(Instant::now) + shared.grace + drive::TICK * 3;
        let left = shared.pool.wait_empty(until);
        if let Some(signals) = signals {
            signals.end();
        }
        let counts = &shared.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            connections: get(&counts.connections),
            requests: get(&counts.requests),
            faults: get(&counts.faults),
            resets: get(&counts.resets),
            panics: get(&counts.panics),
            cut: get(&counts.cut) + left as u64,
        }
    }
}

/// Asks a server to stop. Cheap to clone, good from any thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stopping", &self.shared.stopping()).finish()
    }
}

impl Handle {
    /// Graceful: no new connections, answers for what is in flight, then [`Server::run`] returns. Does not wait for it.
    pub fn shutdown(&self) {
        self.shared.stop();
    }
}

/// What a server did in its life.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Connections accepted.
    pub connections: u64,
    /// Requests that began, on connections that are over.
    pub requests: u64,
    /// Rules broken by peers.
    pub faults: u64,
    /// Connections that the peer reset.
    pub resets: u64,
    /// Panics of the service.
    pub panics: u64,
    /// Connections that a shutdown cut off because their grace was over.
    pub cut: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { connections, requests, faults, resets, panics, cut } = self;
        write!(
            f,
            "connections {connections}, requests {requests}, faults {faults}, resets {resets}, panics {panics}, cut off {cut}"
        )
    }
}

/// The thread that waits for SIGINT and SIGTERM.
#[cfg(unix)]
struct Signals {
    handle: signal_hook::iterator::Handle,
    thread: thread::JoinHandle<()>,
}

#[cfg(unix)]
impl Signals {
    fn watch(shared: &Arc<Shared>) -> Option<Signals> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).ok()?;
        let handle = signals.handle();
        let shared = shared.clone();
        let wait = move || {
            for signal in signals.forever() {
                if shared.stopping() {
                    // The second time it is meant at once.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                shared.stop();
            }
        };
        let thread = thread::Builder::new().name("vestibule-signals".into()).spawn(wait).ok()?;
        Some(Signals { handle, thread })
    }

    fn end(self) {
        self.handle.close();
        let _ = self.thread.join();
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn watch(_shared: &Arc<Shared>) -> Option<Signals> {
        None
    }

    fn end(self) {}
}
