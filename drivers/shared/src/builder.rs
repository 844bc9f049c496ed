//! In: the choices of a server. Out: a [`Server`] whose ports are open. One builder for all drivers, with the same names and defaults.

use crate::HandOut;
use crate::admission::Caps;
use crate::handler::Handler;
use crate::incident::{Hook, Incident, to_stderr};
use crate::inherited::Inherited;
use crate::later::Post;
use crate::listen::{Address, ListenOptions};
use crate::server::{BindError, Driver, Server, processors};
use crate::service::{Factory, Peer, Service};
use crate::tls::TlsChoice;
use crate::topology::{Offload, Topology};
use crate::trust::Trust;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vestibule::decode::coding::Coding;
use vestibule::{Config, Limits};

/// The choices of a [`Server`].
pub struct Builder<D> {
    pub(crate) plan: Plan,
    driver: PhantomData<fn() -> D>,
}

/// What was chosen.
pub(crate) struct Plan {
    pub(crate) ports: Vec<(Address, Option<TlsChoice>)>,
    pub(crate) config: Config,
    pub(crate) codings: Option<&'static [Coding]>,
    pub(crate) topology: Topology,
    pub(crate) workers: Option<usize>,
    pub(crate) threads: usize,
    pub(crate) offload: Offload,
    pub(crate) pool_threads: Option<usize>,
    pub(crate) queue: usize,
    pub(crate) hand_out: HandOut,
    pub(crate) listen: ListenOptions,
    pub(crate) inherited: Inherited,
    pub(crate) control: Option<PathBuf>,
    pub(crate) trust: Trust,
    pub(crate) pin: bool,
    pub(crate) caps: Caps,
    pub(crate) grace: Duration,
    pub(crate) signals: bool,
    pub(crate) probe: bool,
    pub(crate) factory: Option<Factory>,
    pub(crate) handler: Option<(Arc<dyn Handler>, u32)>,
    pub(crate) hook: Hook,
}

impl<D> fmt::Debug for Builder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("topology", &self.plan.topology).finish_non_exhaustive()
    }
}

impl<D> Default for Builder<D> {
    fn default() -> Builder<D> {
        let plan = Plan {
            ports: Vec::new(),
            config: Config::new(Limits::DEFAULT),
            codings: None,
            topology: Topology::default(),
            workers: None,
            threads: 512,
            offload: Offload::NONE,
            pool_threads: None,
            queue: 1_024,
            hand_out: HandOut::default(),
            listen: ListenOptions::default(),
            inherited: Inherited::default(),
            control: None,
            trust: Trust::nobody(),
            pin: false,
            caps: Caps::default(),
            grace: Duration::from_secs(10),
            signals: false,
            probe: false,
            factory: None,
            handler: None,
            hook: Arc::new(to_stderr),
        };
        Builder { plan, driver: PhantomData }
    }
}

impl<D: Driver> Builder<D> {
    /// Listens there for plain HTTP: at an IP address and port, or at the path of a Unix socket. Port 0: any that is free.
    pub fn http(mut self, address: Address) -> Self {
        self.plan.ports.push((address, None));
        self
    }

    /// Listens there for TLS. See [`crate::tls`] for configurations.
    pub fn https(mut self, address: Address, tls: impl Into<TlsChoice>) -> Self {
        self.plan.ports.push((address, Some(tls.into())));
        self
    }

    /// The limits of every connection.
    pub fn limits(self, limits: Limits) -> Self {
        self.config(Config::new(limits))
    }

    /// The configuration of every connection; those of TLS ports get their TLS in addition.
    pub fn config(mut self, config: Config) -> Self {
        self.plan.config = config;
        self
    }

    /// Responses are coded with the first of these that their clients accept, where that is worth it: see
    /// [`Config::with_response_codings`]. Whatever [`Builder::config`] and [`Builder::limits`] say, before or after. Default: as the configuration says.
    pub fn codings(mut self, codings: &'static [Coding]) -> Self {
        self.plan.codings = Some(codings);
        self
    }

    /// [`Builder::codings`] with what every client decodes, gzip; `false`: none are coded.
    pub fn compress(self, on: bool) -> Self {
        self.codings(if on { &[Coding::Gzip] } else { &[] })
    }

    /// How the stages lie over threads; default [`Topology::Workers`].
    pub fn topology(mut self, topology: Topology) -> Self {
        self.plan.topology = topology;
        self
    }

    /// How many workers there are; default one a processor. [`Topology::Single`] has one.
    pub fn workers(mut self, n: usize) -> Self {
        self.plan.workers = Some(n.max(1));
        self
    }

    /// Threads of [`Topology::Threads`] at most; default 512. They are started when needed.
    pub fn threads(mut self, n: usize) -> Self {
        self.plan.threads = n.max(1);
        self
    }

    /// What is done on other threads than those of the workers; default nothing.
    pub fn offload(mut self, offload: Offload) -> Self {
        self.plan.offload = offload;
        self
    }

    /// Threads of each pool that [`Builder::offload`] asks for; default one a processor.
    pub fn pool_threads(mut self, n: usize) -> Self {
        self.plan.pool_threads = Some(n.max(1));
        self
    }

    /// How much may wait for each pool; default 1,024. Beyond it new requests get 503 with Retry-After.
    pub fn queue(mut self, n: usize) -> Self {
        self.plan.queue = n.max(1);
        self
    }

    /// To whom [`Topology::Acceptor`] hands connections; default to the worker with the fewest.
    pub fn hand_out(mut self, hand_out: HandOut) -> Self {
        self.plan.hand_out = hand_out;
        self
    }

    /// Every worker listens by itself (SO_REUSEPORT), and the kernel deals connections out by their addresses; default: they share a listener.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.plan.listen.reuse_port = on;
        self
    }

    /// Each worker stays on one processor; default no.
    pub fn pin(mut self, on: bool) -> Self {
        self.plan.pin = on;
        self
    }

    /// Open connections at most; default 10,000. Beyond it nothing is accepted: the kernel's queue holds them.
    pub fn connections(mut self, cap: usize) -> Self {
        self.plan.caps.connections = cap.max(1);
        self
    }

    /// Length of the kernel's queue; default 1,024.
    pub fn backlog(mut self, n: u32) -> Self {
        self.plan.listen.backlog = u16::try_from(n).unwrap_or(u16::MAX).max(1);
        self
    }

    /// Open connections from one source at most; default 256. See [`Source`](crate::admission::Source) for what one source is.
    pub fn per_source(mut self, cap: usize) -> Self {
        self.plan.caps.per_source = cap.max(1);
        self
    }

    /// What all open connections together may cost at worst, the sum of their [`Config::bound_bytes`]; default what as many connections as may be
    /// open need. See [`Builder::overload_from`].
    pub fn memory(mut self, bytes: usize) -> Self {
        self.plan.caps.memory_bytes = bytes;
        self
    }

    /// From this share of [`Builder::connections`] and of [`Builder::memory`] on newcomers are told to go away, in per cent; default 95. With 100 they
    /// wait in the kernel's queue until there is room.
    pub fn overload_from(mut self, percent: u8) -> Self {
        self.plan.caps.soft_percent = percent.clamp(1, 100);
        self
    }

    /// Linux: a connection is accepted when its first bytes are there (TCP_DEFER_ACCEPT), or after so long. Default: at once.
    pub fn defer_accept(mut self, most: Duration) -> Self {
        self.plan.listen.defer_accept = Some(most);
        self
    }

    /// Linux: data may come with a SYN of a client that was here before (TCP_FASTOPEN, RFC 7413), so many connections at a time. What such data asks
    /// for may happen twice. Default: no.
    pub fn fast_open(mut self, pending: u16) -> Self {
        self.plan.listen.fast_open = Some(pending);
        self
    }

    /// Answers are sent at once (TCP_NODELAY); default yes.
    pub fn nodelay(mut self, on: bool) -> Self {
        self.plan.listen.nodelay = on;
        self
    }

    /// The permissions of Unix sockets' files, such as 0o660; default: the process's mask decides.
    pub fn unix_mode(mut self, mode: u32) -> Self {
        self.plan.listen.unix_mode = Some(mode);
        self
    }

    /// Connections from these sources begin with a PROXY header, version 1 or 2, and are those of whom it names. Default: nobody's do.
    pub fn trust(mut self, proxies: Trust) -> Self {
        self.plan.trust = proxies;
        self
    }

    /// Listening sockets from outside, such as systemd's ([`Inherited::from_environment`]): an address of this builder at which one of them
    /// listens is not bound again.
    pub fn inherited(mut self, sockets: Inherited) -> Self {
        self.plan.inherited = sockets;
        self
    }

    /// Linux: the path of a control socket for restarts. If a server offers its listening sockets there, this one takes them over: it accepts
    /// first, then that one drains and ends, and no connection is refused. From then on this server offers them there.
    pub fn handover(mut self, path: impl Into<PathBuf>) -> Self {
        self.plan.control = Some(path.into());
        self
    }

    /// How long a shutdown waits for what is in flight; default 10 s.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.plan.grace = grace;
        self
    }

    /// SIGINT and SIGTERM ask for a graceful shutdown while the server runs; a second one ends the process. Default: they do
    /// what they always do.
    pub fn signals(mut self, on: bool) -> Self {
        self.plan.signals = on;
        self
    }

    /// Measures where the time goes: [`Server::probe`] has what was found. Default no, and then nothing is measured.
    pub fn probe(mut self, on: bool) -> Self {
        self.plan.probe = on;
        self
    }

    /// Makes the service of each connection when its first request is there.
    pub fn service<S: Service + Send + 'static>(self, make: impl Fn(&Peer) -> S + Send + Sync + 'static) -> Self {
        self.service_with_post(move |peer, _| make(peer))
    }

    /// The same for services whose answers may come from other threads: see [`Post::later`].
    pub fn service_with_post<S: Service + Send + 'static>(
        mut self,
        make: impl Fn(&Peer, &Post) -> S + Send + Sync + 'static,
    ) -> Self {
        self.plan.factory = Some(Arc::new(move |peer, post| Box::new(make(peer, post))));
        self
    }

    /// Whole requests are answered by a function, bodies up to `body_bytes`: the plainest of services, and the one that
    /// [`Offload::process`] can run apart from everything else. Instead of a [`Builder::service`].
    ///
    /// ```no_run
    /// # fn choose<D: vestibule_driver::Driver>(builder: vestibule_driver::Builder<D>) -> vestibule_driver::Builder<D> {
    /// builder.handler(65_536, |request: http::Request<Vec<u8>>| http::Response::new(request.into_body()))
    /// # }
    /// ```
    pub fn handler(mut self, body_bytes: u32, handler: impl Handler + 'static) -> Self {
        self.plan.handler = Some((Arc::new(handler), body_bytes));
        self
    }

    /// Told of every fault, panic and other incident; default: one line on the standard error stream.
    pub fn on_fault(mut self, hook: impl Fn(&Incident) + Send + Sync + 'static) -> Self {
        self.plan.hook = Arc::new(hook);
        self
    }

    /// Opens the ports. Nothing is accepted before [`Server::run`], but connections can queue.
    ///
    /// # Errors
    /// A port cannot be had, something was not chosen, or this machine cannot do what was chosen.
    pub fn bind(self) -> Result<Server<D>, BindError> {
        Server::bind(self.plan)
    }
}

#[cfg(target_os = "linux")]
type Taken = Option<crate::handover::Taken>;
#[cfg(not(target_os = "linux"))]
type Taken = ();

impl Plan {
    pub(crate) fn worker_count(&self) -> usize {
        match self.topology {
            Topology::Single | Topology::Stages | Topology::Threads => 1,
            _ => self.workers.unwrap_or_else(processors),
        }
    }

    /// The sockets that are there already, and the predecessor that waits until this server accepts.
    #[cfg(target_os = "linux")]
    pub(crate) fn sockets(&mut self) -> Result<(Inherited, Taken), BindError> {
        use crate::handover::{Patience, take};
        let taken = self.control.as_deref().map(|path| take(path, Patience::default())).transpose();
        match taken.map_err(BindError::Inherit)?.flatten() {
            Some((sockets, taken)) => Ok((sockets, Some(taken))),
            None => Ok((std::mem::take(&mut self.inherited), None)),
        }
    }

    /// The sockets that are there already.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn sockets(&mut self) -> Result<(Inherited, Taken), BindError> {
        match self.control {
            Some(_) => Err(BindError::Unsupported("sockets can be handed over on Linux only".into())),
            None => Ok((std::mem::take(&mut self.inherited), ())),
        }
    }
}
