//! In: a plan. Out: a server that runs until it is asked to stop: its threads, what they share, and its end.

use crate::accept::{Acceptor, Quiet};
use crate::admission::Admission;
use crate::buffers::Buffers;
use crate::builder::{Builder, Plan};
use crate::hand_out::Loads;
use crate::handle::{Handle, Summary};
use crate::handler::{Calls, Handler};
use crate::incident::What;
use crate::lane::{Begin, Lane};
use crate::later::Post;
use crate::listen::{Address, ListenError, Sockets};
use crate::mailbox::{Mail, Mailbox};
use crate::pools::Pools;
use crate::port::{Arrival, Listener, Port};
use crate::probe::{AcceptQueue, Clock, Probe, Role, Stage};
use crate::rehearsal::Rehearsal;
use crate::service::Factory;
use crate::shared::{Counts, Shared};
use crate::signals::Signals;
use crate::slots::Key;
use crate::system;
use crate::topology::Topology;
use socket2::Socket;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vestibule::Expect;

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
    /// [`Worker::is_stopping`] says so and nothing is left.
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
    /// An address cannot be listened on.
    Listen(ListenError),
    /// What a manager of services or a predecessor was to hand over cannot be had.
    Inherit(io::Error),
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
            BindError::Listen(error) => error.fmt(f),
            BindError::Inherit(error) => write!(f, "cannot take over listening sockets: {error}"),
            BindError::Thread(error) => write!(f, "cannot start a thread: {error}"),
            BindError::Unsupported(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BindError {}

pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
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
    clock: Clock,
}

impl Worker {
    /// The lane of a connection that gets this key, and its socket.
    pub fn lane(&self, key: Key, arrival: Arrival) -> (Lane, Socket) {
        let Arrival { socket, peer, port, mut right, proxied, overloaded } = arrival;
        right.at(self.shared.loads.place(self.index));
        let post = Post::new(self.mailbox.clone(), key);
        let how = Begin { proxied, overloaded };
        (Lane::new(self.shared.clone(), port, peer, post, right, how), socket)
    }
}

impl Worker {
    /// The same place with a mailbox of its own: for a connection that has a thread to itself.
    pub fn apart(&self) -> Worker {
        let Worker { index, listeners, shared, tenure, .. } = self;
        let (listeners, shared, tenure) = (listeners.clone(), shared.clone(), tenure.clone());
        Worker { index: *index, listeners, mailbox: Arc::default(), shared, tenure, clock: Clock::default() }
    }

    /// Its loop is about to wait. With [`Worker::works`] this tells the probe how busy its thread is; without one it costs nothing.
    pub fn waits(&self) {
        self.clock.waits();
    }

    /// Its loop is back. `ready` says how many sockets, letters or completions it found, and is asked only if there is a probe.
    pub fn works(&self, ready: impl FnOnce() -> usize) {
        self.clock.works(ready);
    }

    /// A call of its loop that serves many connections at once took so many nanoseconds of this stage. For loops that cannot time each
    /// connection's part by itself ([`Lane::lap`](crate::Lane::lap)). Nothing without a probe.
    pub fn spent(&self, stage: Stage, nanos: u64) {
        if let Some(probe) = self.shared.probe() {
            probe.spent(stage, nanos);
        }
    }

    /// What [`Worker::waits`] and [`Worker::works`] tell, for loops that are not the worker's own.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// It is to take nothing new and to come to an end: the server stops, or another worker has taken its place.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping() || self.tenure.is_over.load(Ordering::Acquire)
    }

    /// What is still under way then has had its time.
    pub fn is_out_of_grace(&self) -> bool {
        let over = *self.tenure.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.is_out_of_grace() || over.is_some_and(|then| then.elapsed() >= self.shared.grace)
    }
}

/// One worker's time in its place.
#[derive(Debug, Default)]
pub(crate) struct Tenure {
    pub(crate) is_over: AtomicBool,
    pub(crate) since: Mutex<Option<Instant>>,
}

/// A place in which one worker follows another: its listeners stay.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) listeners: Vec<Arc<Listener>>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) tenure: Arc<Tenure>,
}

/// A server whose ports are open.
pub struct Server<D> {
    shared: Arc<Shared>,
    ports: Vec<Arc<Port>>,
    acceptors: Vec<Arc<Listener>>,
    signals: bool,
    pin: bool,
    #[cfg(target_os = "linux")]
    succession: Option<(std::path::PathBuf, Option<crate::handover::Taken>)>,
    commands: (Sender<Command>, Receiver<Command>),
    driver: PhantomData<fn() -> D>,
}

impl<D> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addrs: Vec<_> = self.ports.iter().map(|port| port.address.to_string()).collect();
        f.debug_struct("Server").field("addresses", &addrs).finish_non_exhaustive()
    }
}

/// What the thread that runs a server is told.
pub(crate) enum Command {
    /// This worker has ended, whether it did so as it should, and where its mail came in.
    Ended(usize, Result<(), String>, Arc<Mailbox>),
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

    pub(crate) fn bind(mut plan: Plan) -> Result<Server<D>, BindError> {
        D::check(plan.topology)?;
        let (mut inherited, taken) = plan.sockets()?;
        let (workers, pools) = (plan.worker_count(), Pools::start(&plan).map_err(BindError::Thread)?);
        let probe = plan.probe.then(|| Probe::of(workers + processors(), pools.all()));
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
        let config = if plan.probe { config.with_stage_clock(crate::probe::now) } else { config };
        let accepts = matches!(plan.topology, Topology::Acceptor | Topology::Stages);
        let members = if plan.listen.reuse_port && !accepts { workers } else { 1 };
        let quiet = Arc::new(Quiet::default());
        let (mut ports, mut acceptors, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = vec![Vec::new(); workers];
        for (address, tls) in plan.ports {
            let sockets = inherited.listen(&address, &plan.listen, members).map_err(BindError::Listen)?;
            let port = Arc::new(Port::new(sockets.address().clone(), tls, config.clone(), &plan.trust));
            ports.push(port.clone());
            let listener = |socket: &Arc<Socket>| {
                Arc::new(Listener::new(socket.clone(), port.clone(), Acceptor::new(quiet.clone())))
            };
            let listeners: Vec<_> = sockets.members().iter().map(listener).collect();
            for (number, listener) in listeners.iter().enumerate() {
                if let Some(probe) = &probe {
                    watch(probe, listener, number);
                }
            }
            match accepts {
                true => acceptors.extend(listeners),
                false => deal(&sockets, &listeners, &mut places),
            }
            all.push(sockets);
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
            admission: Admission::new(plan.caps),
            cap: plan.caps.connections,
            inbox_bytes,
            outbox_bytes,
            meters: Mutex::new(vec![storages.meter()]),
            storages: Mutex::new(storages),
            pools,
            threads: plan.threads,
            topology: plan.topology,
            loads: Loads::new(workers, plan.hand_out),
            sockets: Mutex::new(all),
            epoch: Instant::now(),
            counts: Counts::default(),
            probe,
            stopping: AtomicBool::new(false),
            stopped: Mutex::new(None),
            wake: Condvar::new(),
            places: Mutex::new(places.into_iter().map(place).collect()),
        };
        let (shared, commands) = (Arc::new(shared), channel());
        Ok(Server {
            shared,
            ports,
            acceptors,
            signals: plan.signals,
            pin: plan.pin,
            #[cfg(target_os = "linux")]
            succession: plan.control.map(|path| (path, taken)),
            commands,
            driver: PhantomData,
        })
    }

    /// Before anybody else knows of it.
    #[cfg(test)]
    pub(crate) fn use_pools(&mut self, pools: Pools) {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.pools = pools;
        }
    }

    /// Its lanes without its sockets and threads, to be served by hand: see [`Rehearsal`].
    pub fn rehearse(self) -> Rehearsal {
        self.shared.places().iter_mut().for_each(|place| place.listeners.clear());
        let handle = self.handle();
        Rehearsal::new(handle, self.shared, self.ports)
    }

    /// Where it listens, in the order of the builder's calls, with the true ports.
    pub fn addresses(&self) -> Vec<Address> {
        self.ports.iter().map(|port| port.address.clone()).collect()
    }

    /// The same for TCP, as socket addresses; Unix sockets are left out.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.ports.iter().filter_map(|port| port.address.tcp()).collect()
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
        #[cfg(target_os = "linux")]
        let _offer = self.succession.take().and_then(|(path, taken)| self.offer(&path, taken));
        let shared = &self.shared;
        while working > 0 && !shared.is_out_of_grace_by(SLACK) {
            let wait = if shared.is_stopping() { Duration::from_millis(50) } else { Duration::from_secs(3600) };
            match self.commands.1.recv_timeout(wait) {
                Ok(Command::Ended(index, how, mailbox)) => {
                    working -= 1;
                    let mail = mailbox.close();
                    if let Err(why) = how {
                        shared.tell(None, What::Worker(why));
                        if !shared.is_stopping() {
                            shared.sleep(Duration::from_millis(100)); // one that fails at once must not spin
                            working += usize::from(self.succeed(index));
                            let arrivals = mail.into_iter().filter_map(|mail| match mail {
                                Mail::Arrival(arrival) => Some(arrival),
                                _ => None,
                            });
                            arrivals.for_each(|arrival| shared.hand_out(*arrival));
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

    /// From here on a successor can have the sockets. If there was a predecessor, that one is told first that this server accepts.
    #[cfg(target_os = "linux")]
    fn offer(&self, path: &std::path::Path, taken: Option<crate::handover::Taken>) -> Option<crate::handover::Offer> {
        use crate::handover::{Control, Patience};
        let control = match taken {
            Some(taken) => taken.ready(),
            None => Control::bind(path).map_err(|error| error.error),
        };
        let handle = self.handle();
        let offer = control.and_then(|control| {
            let sockets = self.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            control.offer(sockets.iter(), Patience::default(), move || handle.shutdown())
        });
        offer.map_err(|error| self.shared.tell(None, What::Handover(error.to_string()))).ok()
    }

    /// Starts the worker of a place.
    fn start(&self, index: usize) -> bool {
        let Some(place) = self.shared.places().get(index).cloned() else { return false };
        let Place { listeners, mailbox, tenure } = place;
        let clock = Clock::of(self.shared.probe.as_deref(), Role::Worker, index);
        let worker = Worker { index, listeners, mailbox, shared: self.shared.clone(), tenure, clock };
        let (commands, pin) = (self.commands.0.clone(), self.pin);
        let its = worker.mailbox.clone();
        let body = move || {
            if pin {
                pin_to(index);
            }
            let how = catch_unwind(AssertUnwindSafe(|| D::work(worker)));
            let how = how.map_or(Err("a worker panicked".into()), |how| how.map_err(|error| error.to_string()));
            if let Err(unsent) = commands.send(Command::Ended(index, how, its))
                && let Command::Ended(_, _, mailbox) = unsent.0
            {
                mailbox.close();
            }
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
        old.tenure.is_over.store(true, Ordering::Release);
        old.mailbox.post(Mail::Stop);
        self.start(index)
    }
}

/// Gives each worker its share of a port's listeners.
fn deal(sockets: &Sockets, listeners: &[Arc<Listener>], places: &mut [Vec<Arc<Listener>>]) {
    let workers = places.len();
    for (index, place) in places.iter_mut().enumerate() {
        for socket in sockets.share(index, workers) {
            place.extend(listeners.iter().find(|listener| Arc::ptr_eq(&listener.socket, socket)).cloned());
        }
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
        0 => listener.port.address.to_string(),
        more => format!("{} #{more}", listener.port.address),
    };
    let listener = Arc::downgrade(listener);
    probe.watch_accept_queue(name, move || {
        let system::Queue { waiting, most } = system::queue(&listener.upgrade()?.socket)?;
        Some(AcceptQueue { waiting: waiting.into(), capacity: most.into() })
    });
}

/// Accepts for workers that do not, until the server stops.
fn accept_for_others(number: usize, listener: &Listener, shared: &Arc<Shared>) {
    let clock = Clock::of(shared.probe.as_deref(), Role::Acceptor, number);
    clock.works(|| 0);
    while !shared.is_stopping() {
        match listener.accept(shared) {
            Ok(arrival) => shared.hand_out(arrival),
            Err(error) => {
                clock.waits();
                match error.kind() {
                    io::ErrorKind::WouldBlock => listener.wait(Duration::from_millis(100)),
                    io::ErrorKind::Interrupted => {}
                    _ => shared.sleep(Duration::from_millis(5)),
                }
                clock.works(|| 0);
            }
        }
    }
}

/// The calling thread stays on one processor, if it may.
fn pin_to(index: usize) {
    let processors = system::processors().unwrap_or_default();
    if let Some(&processor) = processors.get(index % processors.len().max(1)) {
        let _ = system::pin(processor);
    }
}
