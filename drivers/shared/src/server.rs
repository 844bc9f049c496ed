//! In: a plan. Out: a server that runs until it is asked to stop: its threads, what they share, and its end.

use crate::buffers::Buffers;
use crate::builder::{Builder, Plan};
use crate::handler::{Calls, Handler};
use crate::incident::{Hook, Incident, What};
use crate::kernel;
use crate::lane::Lane;
use crate::later::Post;
use crate::mailbox::{Mail, Mailbox};
use crate::pool::Pool;
use crate::probe::{AcceptQueue, Meter, Probe, Role, Stage};
use crate::rehearsal::Rehearsal;
use crate::service::{BoxService, Factory, Peer};
use crate::signals::Signals;
use crate::slots::Key;
use crate::tls::{TlsChoice, TlsConfig};
use crate::topology::{HandOut, Offload, Topology};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vestibule::{Config, Expect};

/// What a driver is: the loop of a worker. Everything else is here.
pub trait Driver: Sized + 'static {
    /// Its name, as programs write it.
    const NAME: &'static str;

    /// Whether this machine and this driver can do it.
    ///
    /// # Errors
    /// [`BindError::Unsupported`], with what is missing.
    fn check(topology: Topology) -> Result<(), BindError>;

    /// A worker's loop, on its own thread: accepts from the worker's listeners, takes its mail, serves its lanes, until
    /// [`Worker::stopping`] says so and nothing is left.
    ///
    /// # Errors
    /// What the loop needs of the system could not be had.
    fn work(worker: Worker) -> io::Result<()>;
}

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
    /// Threads of the pools cannot be started.
    Thread(io::Error),
    /// This driver or this machine cannot do what was chosen; why.
    Unsupported(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::NoPort => f.write_str("no address to listen on was given"),
            BindError::NoService => f.write_str("no service was given"),
            BindError::Port { addr, error } => write!(f, "cannot listen on {addr}: {error}"),
            BindError::Thread(error) => write!(f, "cannot start a thread: {error}"),
            BindError::Unsupported(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BindError {}

/// What the connections of one port have in common.
pub struct Port {
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<TlsChoice>,
    pub(crate) config: Arc<Config>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Port {
    pub(crate) fn choose(&self, hello: &vestibule::Hello<'_>) -> Option<TlsConfig> {
        self.choose_by(hello.sni, &mut hello.alpn())
    }

    /// The same for TLS that is not the machine's own.
    pub(crate) fn choose_by(&self, sni: Option<&str>, alpn: &mut dyn Iterator<Item = &[u8]>) -> Option<TlsConfig> {
        self.tls.as_ref()?.choose(sni, alpn)
    }
}

/// A listening socket and what it is for.
#[derive(Debug)]
pub struct Listener {
    /// The socket: it does not block.
    pub socket: Socket,
    pub(crate) port: Arc<Port>,
}

/// A connection that has been accepted and belongs to nobody yet.
#[derive(Debug)]
pub struct Arrival {
    /// The socket: it does not block.
    pub socket: Socket,
    peer: Peer,
    port: Arc<Port>,
    permit: Permit,
}

/// What it listens with, for drivers that ask the system by themselves.
#[cfg(unix)]
impl std::os::fd::AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Accepts one connection, if one waits. Beyond the cap none is accepted.
    ///
    /// # Errors
    /// What `accept` says; `WouldBlock` if none waits, `QuotaExceeded` if no more may be open.
    pub fn accept(&self, shared: &Arc<Shared>) -> io::Result<Arrival> {
        let Some(permit) = shared.permit() else { return Err(io::ErrorKind::QuotaExceeded.into()) };
        let since = shared.probe.as_ref().map(|_| crate::probe::now());
        let (socket, from) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        // Answers go out whole: waiting for more to send with them would only delay them.
        let _ = socket.set_tcp_nodelay(true);
        if let (Some(probe), Some(since)) = (&shared.probe, since) {
            probe.took(Stage::Accept, since, 0, 0);
        }
        Ok(self.arrival(socket, from.as_socket(), permit, shared))
    }

    /// Takes over a connection of this listener that the driver has accepted by itself. `None`: it is gone already.
    ///
    /// # Errors
    /// No more may be open; here is the socket.
    pub fn adopt(&self, socket: Socket, shared: &Arc<Shared>) -> Result<Option<Arrival>, Socket> {
        let Some(permit) = shared.permit() else { return Err(socket) };
        let Ok(from) = socket.peer_addr() else { return Ok(None) };
        Ok(Some(self.arrival(socket, from.as_socket(), permit, shared)))
    }

    /// Waits until a connection does, but no longer than that.
    pub fn wait(&self, most: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
        let _ = poll(&mut fds, Some(&most));
    }

    fn arrival(&self, socket: Socket, from: Option<SocketAddr>, permit: Permit, shared: &Shared) -> Arrival {
        shared.counts.connections.fetch_add(1, Ordering::Relaxed);
        shared.probe.iter().for_each(|probe| probe.accepted());
        let peer = Peer { addr: from, local: Some(self.port.local), proxy: None, tls: self.port.tls.is_some() };
        Arrival { socket, peer, port: self.port.clone(), permit }
    }
}

/// One of the connections that may be open.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Shared>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
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

/// Where work goes that is not done on its worker.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    pub(crate) handshakes: Option<Pool>,
    pub(crate) records: Option<Pool>,
    pub(crate) decode: Option<Pool>,
    /// Whole turns: parsing and the service; parsing alone if that hands its calls on.
    pub(crate) turns: Option<Pool>,
    /// Calls of a handler.
    pub(crate) calls: Option<Pool>,
}

impl Pools {
    fn start(plan: &Plan) -> io::Result<Pools> {
        let stages = plan.topology == Topology::Stages;
        let threads = plan.pool_threads.unwrap_or(if stages { 1 } else { processors() });
        let pool = |on: bool, name| on.then(|| Pool::start(name, threads, plan.queue, |_| {})).transpose();
        let Offload { handshakes, records, decode, process } = plan.offload;
        let calls = plan.handler.is_some();
        Ok(Pools {
            handshakes: pool(handshakes && !records && !stages, "crypto")?,
            records: pool(records || stages, "crypto")?,
            decode: pool(decode || stages, "decode")?,
            turns: match (process || stages) && !calls {
                true => pool(true, "process")?,
                false => pool(stages, "parse")?,
            },
            calls: pool((process || stages) && calls, "process")?,
        })
    }

    pub(crate) fn never_move(&self) -> bool {
        self.handshakes.is_none() && self.turns.is_none()
    }

    fn all(&self) -> impl Iterator<Item = &Pool> + Clone {
        [&self.handshakes, &self.records, &self.decode, &self.turns, &self.calls].into_iter().flatten()
    }

    pub(crate) fn close(&self) {
        self.all().for_each(Pool::close);
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What all threads of a server share.
pub struct Shared {
    factory: Factory,
    hook: Hook,
    grace: Duration,
    cap: usize,
    open: AtomicUsize,
    inbox_bytes: usize,
    outbox_bytes: usize,
    storages: Mutex<Buffers>,
    /// The storages that connections hold, by the buffers that they are of.
    meters: Mutex<Vec<Arc<AtomicUsize>>>,
    pub(crate) pools: Pools,
    epoch: Instant,
    pub(crate) counts: Counts,
    pub(crate) probe: Option<Arc<Probe>>,
    stopping: AtomicBool,
    stopped: Mutex<Option<Instant>>,
    wake: Condvar,
    threads: usize,
    topology: Topology,
    hand_out: HandOut,
    turn: AtomicUsize,
    places: Mutex<Vec<Place>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stopping", &self.is_stopping()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The time, as the machine counts it.
    pub fn now(&self) -> vestibule::Instant {
        vestibule::Instant::from_nanos(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// How the stages lie over threads.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// Threads of [`Topology::Threads`] at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A shutdown was asked for.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> Option<Instant> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shutdown has waited long enough.
    pub fn is_out_of_grace(&self) -> bool {
        self.is_stopping() && self.stopped().is_some_and(|then| then.elapsed() >= self.grace)
    }

    /// What is measured, if anything is.
    pub fn probe(&self) -> Option<&Arc<Probe>> {
        self.probe.as_ref()
    }

    /// Open connections at most.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// What one worker's buffers are like.
    pub fn buffers(&self) -> Buffers {
        let buffers = Buffers::new(self.inbox_bytes, self.outbox_bytes);
        let mut meters = self.meters();
        meters.retain(|meter| Arc::strong_count(meter) > 1); // those of threads that have ended
        meters.push(buffers.meter());
        buffers
    }

    fn meters(&self) -> MutexGuard<'_, Vec<Arc<AtomicUsize>>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn storages(&self) -> MutexGuard<'_, Buffers> {
        self.storages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log hook.
    pub fn tell(&self, peer: Option<Peer>, what: What) {
        let count = match &what {
            What::Fault(_) => Some(&self.counts.faults),
            What::Panic => Some(&self.counts.panics),
            _ => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let (Some(probe), What::Panic) = (&self.probe, &what) {
            probe.panicked();
        }
        (self.hook)(&Incident { peer, what });
    }

    pub(crate) fn service(&self, peer: &Peer, post: &Post) -> BoxService {
        (self.factory)(peer, post)
    }

    pub(crate) fn permit(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < self.cap).then_some(n + 1));
        taken.ok().map(|_| Permit(self.clone()))
    }

    /// Sleeps, but not beyond the request to stop.
    pub fn sleep(&self, wait: Duration) {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let _unused = self.wake.wait_timeout_while(stopped, wait, |stopped| stopped.is_none());
    }

    pub(crate) fn stop(&self) {
        {
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            if stopped.is_some() {
                return;
            }
            *stopped = Some(Instant::now());
            self.stopping.store(true, Ordering::Relaxed);
        }
        self.wake.notify_all();
        for place in &mut *self.places() {
            place.mailbox.post(Mail::Stop);
            // A port closes when the last one that listens lets go of it.
            place.listeners.clear();
        }
    }
}

/// What a driver's loop is given.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0 on.
    pub index: usize,
    /// What it accepts from; none if connections come by mail.
    pub listeners: Vec<Arc<Listener>>,
    /// Its mail.
    pub mailbox: Arc<Mailbox>,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    tenure: Arc<Tenure>,
    meter: Option<Arc<Meter>>,
}

impl Worker {
    /// The lane of a connection that gets this key, and its socket.
    pub fn lane(&self, key: Key, arrival: Arrival) -> (Lane, Socket) {
        let Arrival { socket, peer, port, permit } = arrival;
        let post = Post::new(self.mailbox.clone(), key);
        (Lane::new(self.shared.clone(), port, peer, post, permit), socket)
    }
}

impl Worker {
    /// The same place with a mailbox of its own: for a connection that has a thread to itself.
    pub fn apart(&self) -> Worker {
        let Worker { index, listeners, shared, tenure, .. } = self;
        let (listeners, shared, tenure) = (listeners.clone(), shared.clone(), tenure.clone());
        Worker { index: *index, listeners, mailbox: Arc::default(), shared, tenure, meter: None }
    }

    /// Its loop is about to wait. With [`Worker::works`] this tells the probe how busy its thread is; without one it costs nothing.
    pub fn waits(&self) {
        if let Some(meter) = &self.meter {
            meter.turn_to(false, crate::probe::now());
        }
    }

    /// Its loop is back. `ready` says how many sockets, letters or completions it found, and is asked only if there is a probe.
    pub fn works(&self, ready: impl FnOnce() -> usize) {
        if let Some(meter) = &self.meter {
            meter.turn_to(true, crate::probe::now());
            meter.finds(ready() as u64);
        }
    }

    /// It is to take nothing new and to come to an end: the server stops, or another worker has taken its place.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping() || self.tenure.is_over.load(Ordering::Relaxed)
    }

    /// What is still under way then has had its time.
    pub fn is_out_of_grace(&self) -> bool {
        let over = *self.tenure.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.is_out_of_grace() || over.is_some_and(|then| then.elapsed() >= self.shared.grace)
    }

    /// Where the time of this worker's connections goes: one more is open.
    pub fn opened(&self) {
        self.tenure.open.fetch_add(1, Ordering::Relaxed);
    }

    /// One is closed.
    pub fn closed(&self) {
        self.tenure.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's time in its place.
#[derive(Debug, Default)]
struct Tenure {
    is_over: AtomicBool,
    since: Mutex<Option<Instant>>,
    /// Connections that it has.
    open: AtomicUsize,
}

/// A place in which one worker follows another: its listeners stay.
#[derive(Clone)]
struct Place {
    listeners: Vec<Arc<Listener>>,
    mailbox: Arc<Mailbox>,
    tenure: Arc<Tenure>,
}

/// A server whose ports are open.
pub struct Server<D> {
    shared: Arc<Shared>,
    ports: Vec<Arc<Port>>,
    acceptors: Vec<Arc<Listener>>,
    signals: bool,
    pin: bool,
    commands: (Sender<Command>, Receiver<Command>),
    driver: PhantomData<fn() -> D>,
}

impl<D> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.ports.iter().map(|port| port.local).collect();
        f.debug_struct("Server").field("local_addrs", &addrs).finish_non_exhaustive()
    }
}

/// What the thread that runs a server is told.
enum Command {
    /// This worker has ended, and whether it did so as it should.
    Ended(usize, Result<(), String>),
    Retire(usize),
    Stop,
}

/// Buffers come in these sizes.
const BLOCK: usize = 65_536;

/// How much longer than the grace a shutdown may take.
const SLACK: Duration = Duration::from_secs(1);

impl<D: Driver> Server<D> {
    /// A server with the defaults; it needs a port and a service.
    pub fn builder() -> Builder<D> {
        Builder::default()
    }

    pub(crate) fn bind(plan: Plan) -> Result<Server<D>, BindError> {
        D::check(plan.topology)?;
        let pools = Pools::start(&plan).map_err(BindError::Thread)?;
        let probe = plan.probe.then(|| Probe::of(plan.workers.unwrap_or(0) + processors(), pools.all()));
        let factory = match (plan.handler, plan.factory) {
            (Some((handler, body_bytes)), _) => calls(handler, body_bytes, &pools, probe.clone()),
            (None, Some(factory)) => factory,
            (None, None) => return Err(BindError::NoService),
        };
        if plan.ports.is_empty() {
            return Err(BindError::NoPort);
        }
        let config = match plan.codings {
            Some(codings) => plan.config.with_response_codings(codings),
            None => plan.config,
        };
        let workers = match plan.topology {
            Topology::Single | Topology::Stages | Topology::Threads => 1,
            _ => plan.workers.unwrap_or_else(processors),
        };
        let accepts = matches!(plan.topology, Topology::Acceptor | Topology::Stages);
        let each = if plan.reuse_port && !accepts { workers } else { 1 };
        let (mut ports, mut acceptors, mut places) = (Vec::new(), Vec::new(), vec![Vec::new(); workers]);
        for (addr, tls) in plan.ports {
            let config = match &tls {
                Some(tls) => config.clone().with_tls(tls.config()),
                None => config.clone(),
            };
            let (config, mut local) = (Arc::new(config), addr);
            for number in 0..each {
                let refused = |error| BindError::Port { addr, error };
                let socket = listen(local, plan.backlog, each > 1).map_err(refused)?;
                local = socket.local_addr().map_err(refused)?.as_socket().unwrap_or(addr);
                if number == 0 {
                    ports.push(Arc::new(Port { local, tls: tls.clone(), config: config.clone() }));
                }
                let Some(port) = ports.last().cloned() else { continue };
                let listener = Arc::new(Listener { socket, port });
                if let Some(probe) = &probe {
                    watch(probe, &listener, number);
                }
                match (accepts, each) {
                    (true, _) => acceptors.push(listener),
                    (_, 1) => places.iter_mut().for_each(|place| place.push(listener.clone())),
                    _ => places.iter_mut().skip(number).take(1).for_each(|place| place.push(listener.clone())),
                }
            }
        }
        let sizes = ports.iter().map(|port| (port.config.inbox_bytes(), port.config.least_outbox_bytes()));
        let inbox_bytes = sizes.clone().map(|s| s.0).max().unwrap_or(0).next_multiple_of(BLOCK);
        let outbox_bytes = sizes.map(|s| s.1).max().unwrap_or(0).next_multiple_of(BLOCK);
        let storages = Buffers::new(inbox_bytes, outbox_bytes);
        let place = |listeners| Place { listeners, mailbox: Arc::default(), tenure: Arc::default() };
        let shared = Shared {
            factory,
            hook: plan.hook,
            grace: plan.grace,
            cap: plan.connections,
            open: AtomicUsize::new(0),
            inbox_bytes,
            outbox_bytes,
            meters: Mutex::new(vec![storages.meter()]),
            storages: Mutex::new(storages),
            pools,
            threads: plan.threads,
            topology: plan.topology,
            hand_out: plan.hand_out,
            turn: AtomicUsize::new(0),
            epoch: Instant::now(),
            counts: Counts::default(),
            probe,
            stopping: AtomicBool::new(false),
            stopped: Mutex::new(None),
            wake: Condvar::new(),
            places: Mutex::new(places.into_iter().map(place).collect()),
        };
        let (shared, commands) = (Arc::new(shared), channel());
        Ok(Server { shared, ports, acceptors, signals: plan.signals, pin: plan.pin, commands, driver: PhantomData })
    }

    /// Its lanes without its sockets and threads, to be served by hand: see [`Rehearsal`].
    pub fn rehearse(self) -> Rehearsal {
        self.shared.places().iter_mut().for_each(|place| place.listeners.clear());
        let handle = self.handle();
        Rehearsal::new(handle, self.shared, self.ports)
    }

    /// Where it listens, in the order of the builder's calls, with the true ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|port| port.local).collect()
    }

    /// What asks it to stop.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone(), commands: self.commands.0.clone() }
    }

    /// What is measured, if [`Builder::probe`] said so. For `/metrics`, a page, or a look now and then.
    pub fn probe(&self) -> Option<Arc<Probe>> {
        self.shared.probe.clone()
    }

    /// Serves until [`Handle::shutdown`] or a signal; then closes the ports, lets what is in flight come to its end within the
    /// grace, and says what was done. A service that does not return by then is left behind.
    pub fn run(mut self) -> Summary {
        let signals = if self.signals { Signals::watch(&self.handle()) } else { None };
        let places = self.shared.places().len();
        let mut working = 0;
        for index in 0..places {
            working += usize::from(self.start(index));
        }
        for (number, listener) in std::mem::take(&mut self.acceptors).into_iter().enumerate() {
            let shared = self.shared.clone();
            let body = move || accept_for_others(number, &listener, &shared);
            if let Err(error) = thread::Builder::new().name("vestibule-accept".into()).spawn(body) {
                self.shared.tell(None, What::Thread(error.to_string()));
                self.shared.stop();
            }
        }
        let shared = &self.shared;
        while working > 0 && !shared.is_out_of_grace_by(SLACK) {
            let wait = if shared.is_stopping() { Duration::from_millis(50) } else { Duration::from_secs(3600) };
            match self.commands.1.recv_timeout(wait) {
                Ok(Command::Ended(index, how)) => {
                    working -= 1;
                    if let Err(why) = how {
                        shared.tell(None, What::Worker(why));
                        if !shared.is_stopping() {
                            shared.sleep(Duration::from_millis(100)); // one that fails at once must not spin
                            working += usize::from(self.succeed(index));
                        }
                    }
                }
                Ok(Command::Retire(index)) if !shared.is_stopping() => working += usize::from(self.succeed(index)),
                Ok(Command::Retire(_) | Command::Stop) | Err(_) => {}
            }
        }
        shared.stop(); // also if every worker failed
        shared.pools.close();
        if let Some(signals) = signals {
            signals.end();
        }
        shared.summary()
    }

    /// Starts the worker of a place.
    fn start(&self, index: usize) -> bool {
        let Some(place) = self.shared.places().get(index).cloned() else { return false };
        let Place { listeners, mailbox, tenure } = place;
        let meter = self.shared.probe.as_ref().map(|probe| probe.meter(Role::Worker, index));
        let worker = Worker { index, listeners, mailbox, shared: self.shared.clone(), tenure, meter };
        let (commands, pin) = (self.commands.0.clone(), self.pin);
        let body = move || {
            if pin {
                pin_to(index);
            }
            let how = catch_unwind(AssertUnwindSafe(|| D::work(worker)));
            let how = how.map_or(Err("a worker panicked".into()), |how| how.map_err(|error| error.to_string()));
            let _ = commands.send(Command::Ended(index, how));
        };
        let started = thread::Builder::new().name(format!("vestibule-{index}")).spawn(body);
        if let Err(error) = &started {
            self.shared.tell(None, What::Thread(error.to_string()));
        }
        started.is_ok()
    }

    /// Puts a new worker into a place, with the same listeners; the old one takes nothing new and comes to its end. What waited
    /// for the old one to be taken goes to the new one.
    fn succeed(&self, index: usize) -> bool {
        let old = {
            let mut places = self.shared.places();
            let Some(place) = places.get_mut(index) else { return false };
            let new = Place { listeners: place.listeners.clone(), mailbox: Arc::default(), tenure: Arc::default() };
            std::mem::replace(place, new)
        };
        *old.tenure.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        old.tenure.is_over.store(true, Ordering::Relaxed);
        old.mailbox.post(Mail::Stop);
        self.start(index)
    }
}

/// The service that calls a handler.
fn calls(handler: Arc<dyn Handler>, max: u32, pools: &Pools, probe: Option<Arc<Probe>>) -> Factory {
    let expect = if pools.decode.is_some() { Expect::WholeByJob { max } } else { Expect::Whole { max } };
    let pool = pools.calls.clone();
    Arc::new(move |peer, post| {
        let calls = Calls::new(handler.clone(), pool.clone(), expect, *peer, post.clone());
        Box::new(calls.with_probe(probe.clone()))
    })
}

/// Has the kernel asked for the queue of a listener, as long as that is open.
fn watch(probe: &Probe, listener: &Arc<Listener>, number: usize) {
    let name = match number {
        0 => listener.port.local.to_string(),
        more => format!("{} #{more}", listener.port.local),
    };
    let listener = Arc::downgrade(listener);
    probe.watch_accept_queue(name, move || {
        let kernel::Queue { waiting, most } = kernel::queue(&listener.upgrade()?.socket)?;
        Some(AcceptQueue { waiting: waiting.into(), capacity: most.into() })
    });
}

/// Accepts for workers that do not, until the server stops.
fn accept_for_others(number: usize, listener: &Listener, shared: &Arc<Shared>) {
    let _ = listener.socket.set_nonblocking(true);
    let meter = shared.probe.as_ref().map(|probe| probe.meter(Role::Acceptor, number));
    let working = |working| meter.iter().for_each(|meter| meter.turn_to(working, crate::probe::now()));
    working(true);
    while !shared.is_stopping() {
        match listener.accept(shared) {
            Ok(arrival) => shared.hand_out(arrival),
            Err(error) => {
                working(false);
                match error.kind() {
                    io::ErrorKind::WouldBlock => listener.wait(Duration::from_millis(100)),
                    _ => shared.sleep(Duration::from_millis(5)),
                }
                working(true);
            }
        }
    }
}

/// The calling thread stays on one processor.
fn pin_to(index: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(all) = sched_getaffinity(None) else { return };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
    let Some(&cpu) = cpus.get(index % cpus.len().max(1)) else { return };
    let mut one = CpuSet::new();
    one.set(cpu);
    let _ = sched_setaffinity(None, &one);
}

fn listen(addr: SocketAddr, backlog: i32, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A server that comes back at once must get its port, whatever connections of its past still linger (TIME_WAIT).
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_out_of_grace_by(&self, slack: Duration) -> bool {
        self.stopped().is_some_and(|then| then.elapsed() >= self.grace + slack)
    }

    /// A connection that was accepted for whoever is to have it.
    fn hand_out(&self, arrival: Arrival) {
        let places = self.places();
        let chosen = match self.hand_out {
            HandOut::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % places.len().max(1),
            HandOut::LeastLoaded => {
                let load = |place: &(usize, &Place)| place.1.tenure.open.load(Ordering::Relaxed);
                places.iter().enumerate().min_by_key(load).map_or(0, |place| place.0)
            }
        };
        if let Some(place) = places.get(chosen) {
            place.tenure.open.fetch_add(1, Ordering::Relaxed);
            place.mailbox.post(Mail::Arrival(Box::new(arrival)));
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let counts = &self.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Summary {
            connections: get(&counts.connections),
            requests: get(&counts.requests),
            faults: get(&counts.faults),
            resets: get(&counts.resets),
            panics: get(&counts.panics),
            cut: get(&counts.cut) + self.open.load(Ordering::Relaxed) as u64,
        }
    }
}

/// Asks a server to stop. Cheap to clone, good from any thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stopping", &self.shared.is_stopping()).finish()
    }
}

impl Handle {
    /// Graceful: no new connections, answers for what is in flight, then [`Server::run`] returns. Does not wait for it.
    pub fn shutdown(&self) {
        self.shared.stop();
        let _ = self.commands.send(Command::Stop);
    }

    /// A new worker takes this one's place and its listeners; the old one finishes what it has and ends. Nobody is refused.
    pub fn replace_worker(&self, index: usize) {
        let _ = self.commands.send(Command::Retire(index));
    }

    /// It was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Storages that connections hold now, to read into or to write from. None for connections that are idle.
    pub fn storages(&self) -> usize {
        self.shared.meters().iter().map(|meter| meter.load(Ordering::Relaxed)).sum()
    }

    /// What is measured, if [`Builder::probe`] said so.
    pub fn probe(&self) -> Option<Arc<Probe>> {
        self.shared.probe.clone()
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
