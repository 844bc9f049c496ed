//! The road: one accepted byte stream. `Connection` is the only generic type; everything below it is compiled once.

use crate::base::{Instant, Misuse, Span, Violation};
use crate::config::Config;
use crate::delivery::Delivery;
use crate::parse::Id;
use crate::parse::h1::{self, state::One};
use crate::read::{Deadline, Inbox, Outbox, Pace};
use crate::reply::Exchanges;
use crate::stages::{StageStats, Stages};
use crate::turn::Turn;
use core::ops::Deref;

/// One accepted connection as a state machine: bytes and the time go in, events and bytes come out.
///
/// `C` is how the shared configuration is held: `Arc<Config>`, `Rc<Config>`, or `&'static Config` where there is no allocator.
/// A connection is `Send`: between any two turns it may go on on another thread.
///
/// ```
/// use vestibule::{Config, Connection, Event, Inbox, Instant, Limits, Outbox, Pause};
/// static CONFIG: Config = Config::new(Limits::DEFAULT);
/// let mut connection = Connection::new(&CONFIG, Instant::ZERO);
/// let (mut inbox, mut outbox) = (Inbox::new([0u8; 1024]), Outbox::new([0u8; 2048]));
/// inbox.fill(b"GET /hello HTTP/1.1\r\nhost: example\r\n\r\n");
///
/// let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
/// while let Some(event) = turn.next() {
///     if let Event::Request(mut request) = event {
///         request.reply.text(200, "hello").unwrap();
///     }
/// }
/// assert_eq!(turn.finish(), Pause::Input { want: 1 });
/// assert!(outbox.ready().starts_with(b"HTTP/1.1 200 OK\r\n"));
/// ```
#[derive(Debug)]
pub struct Connection<C> {
    config: C,
    core: Core,
}

/// Bytes of a connection's own state.
pub(crate) const STATE_BYTES: usize = size_of::<Core>() + size_of::<usize>();

/// How a connection ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum End {
    /// The peer ended it between two messages; with TLS, after its close_notify.
    Clean,
    /// The peer's bytes ended between two messages, but without close_notify (RFC 8446 §6.1): somebody may have cut them.
    Truncated,
    /// Nothing came for too long.
    Idle,
    /// We ended it: a last response, a drain, an exchange given up, or a fault.
    Ours,
}

/// What the machine has done so far, for tests and probes.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Requests that began.
    pub requests: u64,
    /// Steps of work.
    pub units: u64,
    /// Events handed out.
    pub events: u64,
    /// Input bytes looked at: at most twice each.
    pub visited_bytes: u64,
    /// Bytes moved inside the inbox of the last turn.
    pub moved_bytes: u64,
    /// TLS records opened in place.
    pub opened_records: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    Open,
    /// The last words are on their way into the outbox.
    Closing,
    /// Nothing more will be said; the peer is read until it ends, so that it gets what was said (RFC 9112 §9.6).
    Lingering,
    Closed,
}

/// The receiving side, by version.
#[derive(Debug)]
pub(crate) enum Engine {
    H1(h1::Receiver),
    #[cfg(feature = "alloc")]
    H2(crate::base::memory::Held<crate::h2_road::H2>),
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pace: Pace,
    pub(crate) life: Life,
    pub(crate) fault: Option<Violation>,
    pub(crate) engine: Engine,
    pub(crate) exchanges: Exchanges,
    pub(crate) delivery: Delivery,
    /// Reads the PROXY header, as long as it has not come.
    pub(crate) proxy: Option<crate::accept::proxy::Receiver>,
    /// Whom it speaks for.
    pub(crate) source: Option<crate::accept::proxy::Endpoints>,
    /// Nobody is there to serve it.
    pub(crate) overloaded: bool,
    /// Of responses that are coded, if any are to be.
    #[cfg(feature = "alloc")]
    pub(crate) coders: Option<crate::coded::Coders>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::decrypt::Tls>,
    /// TLS ended elsewhere, and this is what it was.
    #[cfg(feature = "alloc")]
    pub(crate) given: Option<alloc::boxed::Box<crate::OwnedSession>>,
    #[cfg(feature = "tls")]
    pub(crate) choice: Option<Result<crate::decrypt::TlsConfig, crate::Rule>>,
    #[cfg(feature = "tls")]
    pub(crate) hello_shown: bool,
    /// close_notify came: nothing behind it is input.
    pub(crate) peer_ended: bool,
    /// The handler of a tunnel has heard of its end.
    pub(crate) end_told: bool,
    /// It is known which version of HTTP is spoken.
    #[cfg(feature = "alloc")]
    pub(crate) settled: bool,
    /// The last turn ended for want of room.
    #[cfg(feature = "alloc")]
    pub(crate) no_room: bool,
    pub(crate) draining: bool,
    /// The next answer is the last.
    pub(crate) retiring: bool,
    pub(crate) end: Option<End>,
    /// Offset in the plaintext of the first byte that was not consumed.
    pub(crate) offset: u64,
    /// Bytes skipped of an unread body, or read while lingering.
    pub(crate) skipped: u64,
    /// A trailer section that waits in the inbox for its turn.
    pub(crate) trailers: Option<(Span, usize)>,
    pub(crate) stats: Stats,
    pub(crate) stages: crate::stages::Kept,
    pub(crate) stamp: u32,
    pub(crate) held_over: u32,
}

impl<C: Deref<Target = Config>> Connection<C> {
    /// A connection that was accepted `now`.
    pub fn new(config: C, now: Instant) -> Connection<C> {
        let core = Core::new(&config, now);
        Connection { config, core }
    }

    /// A connection that was accepted `now` and whose TLS ended elsewhere: plaintext goes in and comes out, requests carry `session`,
    /// and its ALPN alone says which version of HTTP is spoken (without one, HTTP/1.1). Whatever TLS the configuration names is
    /// not used. Who makes the session answers for it, and has read the PROXY header, if one is required: [`Connection::with_source`].
    ///
    /// What it holds counts in [`Connection::retained_bytes`], on top of [`Config::machine_bound_bytes`].
    ///
    /// ```
    /// use vestibule::{Config, Connection, Instant, Limits, OwnedSession};
    /// static CONFIG: Config = Config::new(Limits::DEFAULT);
    /// let session = OwnedSession::new("TLSv1.3", "TLS13_AES_128_GCM_SHA256").with_sni("example.com");
    /// let connection = Connection::protected(&CONFIG, Instant::ZERO, session);
    /// assert_eq!(connection.session().and_then(|session| session.sni), Some("example.com"));
    /// ```
    #[cfg(feature = "alloc")]
    pub fn protected(config: C, now: Instant, session: crate::OwnedSession) -> Connection<C> {
        let mut connection = Connection::new(config, now);
        connection.core.protect(session);
        connection
    }

    /// The connection was accepted only to be told that there are too many (RFC 9110 §15.6.4); to be said before its first turn. No handler hears of a
    /// request: the first one of HTTP/1.1 is answered 503 with `Retry-After` and `Connection: close`, HTTP/2 gets GOAWAY with ENHANCE_YOUR_CALM.
    /// A PROXY header and a TLS handshake come first, within their usual time; whoever then does not say within `overload_ms` what it wants is
    /// left. The one event of interest is `Fault` with [`Rule::Overloaded`](crate::Rule::Overloaded), if there was somebody to tell.
    pub fn overloaded(mut self) -> Connection<C> {
        self.core.overloaded = true;
        self.core.pace.hurried = true;
        self
    }

    /// Whoever has read the PROXY header itself, with [`accept::proxy::Receiver`](crate::accept::proxy::Receiver), says here what was in it;
    /// to be said before the first turn. None is waited for then.
    pub fn with_source(mut self, source: Option<crate::accept::proxy::Endpoints>) -> Connection<C> {
        self.core.proxy = None;
        self.core.source = source;
        self
    }

    /// One go along the road. Events come from [`Turn::next`] until it has no more; [`Turn::finish`] says why. Output becomes
    /// visible in the outbox when the turn ends.
    ///
    /// # Errors
    /// The caller's mistakes alone; nothing has changed then.
    #[inline]
    pub fn turn<'t, S, T>(
        &'t mut self,
        now: Instant,
        inbox: &'t mut Inbox<S>,
        outbox: &'t mut Outbox<T>,
    ) -> Result<Turn<'t>, Misuse>
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        Turn::begin(&self.config, &mut self.core, now, inbox.view(), outbox.view())
    }

    /// When to take a turn even if nothing else happens, and why. Expiry is nothing but a turn with a later `now`.
    pub fn deadline(&self) -> Option<Deadline> {
        match self.core.life {
            Life::Closed => None,
            #[cfg(feature = "alloc")]
            Life::Open => match (self.core.pace.deadline(self.config.limits()), self.core.h2_deadline()) {
                (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
                (a, b) => a.or(b),
            },
            _ => self.core.pace.deadline(self.config.limits()),
        }
    }

    /// Ends gracefully: what is in flight is answered, with `Connection: close` if its head is still to come; then the
    /// connection closes. In HTTP/2 a GOAWAY says so first, and what the client sent before it saw that is answered as well
    /// (RFC 9113 §6.8); that takes a turn with its answer, or a second. A request whose first bytes lie in the inbox counts as in flight. An idle one closes at its next turn.
    pub fn drain(&mut self) {
        self.core.draining = true;
        if let Some(x) = self.core.current() {
            x.close = true;
        }
    }

    /// Ends with the next answer: that says `Connection: close`. Unlike [`Connection::drain`] this does not close a connection that is idle
    /// here, whose next request may be on its way, and would be lost (RFC 9112 §9.5). Drain it when none has come for a while. HTTP/2 has GOAWAY
    /// for that: there, this is `drain`.
    pub fn retire(&mut self) {
        if !matches!(self.core.engine, Engine::H1(_)) {
            return self.drain();
        }
        self.core.retiring = true;
        if let Some(x) = self.core.current() {
            x.close = true;
        }
    }

    /// No exchange is under way, and no part of a request has been taken yet.
    pub fn is_between(&self) -> bool {
        self.core.is_between()
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.core.end
    }

    /// The ends of the connection that a proxy forwards ([`Config::with_proxy_header`]), once its header has come. `None` then: the
    /// proxy speaks for itself, does not know, or forwards what has no TCP addresses; the socket's own count.
    pub fn source(&self) -> Option<crate::accept::proxy::Endpoints> {
        self.core.source
    }

    /// What protects it, once a TLS handshake is over, here or elsewhere.
    pub fn session(&self) -> Option<crate::event::Session<'_>> {
        self.core.session()
    }

    /// Bytes that it holds: its own state, decoders, gathered bodies, TLS. Never more than
    /// [`Config::machine_bound_bytes`], but for a session that was given to [`Connection::protected`]. The caller's two buffers are the caller's.
    pub fn retained_bytes(&self) -> usize {
        #[cfg(feature = "tls")]
        let tls = self.core.tls.as_ref().map_or(0, crate::decrypt::Tls::retained_bytes);
        #[cfg(not(feature = "tls"))]
        let tls = 0;
        #[cfg(feature = "alloc")]
        let coders = self.core.coders.as_ref().map_or(0, crate::coded::Coders::retained_bytes);
        #[cfg(not(feature = "alloc"))]
        let coders = 0;
        let stages = if cfg!(feature = "alloc") && self.core.stages.is_some() { size_of::<Stages>() } else { 0 };
        #[cfg(feature = "alloc")]
        let tls = match &self.core.given {
            Some(given) => size_of::<crate::OwnedSession>() + given.retained_bytes(),
            None => tls,
        };
        stages + STATE_BYTES + self.core.delivery.retained_bytes() + tls + self.core.versions_bytes() + coders
    }

    /// Frees what is only kept for the next request: decoders and gather buffers. For connections that go idle.
    pub fn shed(&mut self) {
        self.core.shed();
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        let visited_bytes = match &self.core.engine {
            Engine::H1(receiver) => receiver.visited(),
            #[cfg(feature = "alloc")]
            Engine::H2(_) => self.core.offset, // each byte once; heads again while they are validated
        };
        Stats { visited_bytes, ..self.core.stats }
    }

    /// What its stages have cost so far; `None` without a clock ([`Config::with_stage_clock`]).
    pub fn stages(&self) -> Option<StageStats> {
        self.core.stages.as_ref()?;
        Some(self.core.stage_stats())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

#[cfg(all(test, feature = "alloc"))]
impl<C: Deref<Target = Config>> Connection<C> {
    pub(crate) fn core(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Core {
    pub(crate) fn new(config: &Config, now: Instant) -> Core {
        Core {
            pace: Pace::new(now),
            life: Life::Open,
            fault: None,
            engine: Engine::H1(h1::Receiver::new()),
            exchanges: Exchanges::H1(One::default()),
            delivery: Delivery::default(),
            proxy: config.has_proxy_header().then(crate::accept::proxy::Receiver::new),
            source: None,
            overloaded: false,
            #[cfg(feature = "alloc")]
            coders: crate::coded::Coders::of(config),
            #[cfg(feature = "tls")]
            tls: config.tls().map(crate::decrypt::Tls::new),
            #[cfg(feature = "alloc")]
            given: None,
            #[cfg(feature = "tls")]
            choice: None,
            #[cfg(feature = "tls")]
            hello_shown: false,
            peer_ended: false,
            end_told: false,
            #[cfg(feature = "alloc")]
            settled: false,
            #[cfg(feature = "alloc")]
            no_room: false,
            draining: false,
            retiring: false,
            end: None,
            offset: 0,
            skipped: 0,
            trailers: None,
            stats: Stats::default(),
            stages: Stages::of(config),
            stamp: 0,
            held_over: 0,
        }
    }

    pub(crate) fn session(&self) -> Option<crate::event::Session<'_>> {
        #[cfg(feature = "alloc")]
        if let Some(given) = &self.given {
            return Some(given.lend());
        }
        #[cfg(feature = "tls")]
        return self.tls.as_ref().and_then(session);
        #[cfg(not(feature = "tls"))]
        None
    }

    /// It cannot live on: its TLS keys are nearly used up, and have no successors (RFC 5246 §6.1).
    pub(crate) fn is_worn(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().is_some_and(crate::decrypt::Tls::is_worn);
        #[cfg(not(feature = "tls"))]
        false
    }

    /// This connection is not for requests with this authority (RFC 9110 §7.4).
    #[cfg(feature = "alloc")]
    pub(crate) fn is_misdirected(&self, authority: &[u8]) -> bool {
        let names = self.given.as_ref().and_then(|given| given.names());
        #[cfg(feature = "tls")]
        let names = names.or_else(|| self.tls.as_ref()?.names());
        names.is_some_and(|names| !core::str::from_utf8(authority).is_ok_and(|authority| names.serve(authority)))
    }

    /// It is protected by this, and has no TLS of its own.
    #[cfg(feature = "alloc")]
    fn protect(&mut self, session: crate::OwnedSession) {
        self.given = Some(alloc::boxed::Box::new(session));
        self.proxy = None; // it stood in front of TLS
        #[cfg(feature = "tls")]
        {
            self.tls = None;
        }
    }

    /// The exchanges of HTTP/1.1.
    pub(crate) fn one(&mut self) -> Option<&mut One> {
        match &mut self.exchanges {
            Exchanges::H1(one) => Some(one),
            #[cfg(feature = "alloc")]
            Exchanges::H2(_) => None,
            #[cfg(all(test, feature = "alloc"))]
            Exchanges::H3Model(_) => None,
        }
    }

    /// With what encoders did, which keep that to themselves.
    pub(crate) fn stage_stats(&self) -> StageStats {
        #[cfg_attr(not(feature = "alloc"), allow(unused_mut))]
        let mut stats = self.stages.as_ref().map_or(StageStats::default(), |stages| stages.stats);
        #[cfg(feature = "alloc")]
        if let Some(coders) = &self.coders {
            stats.decode.add(coders.spent());
        }
        stats
    }

    /// The connection is over: tell the peer, then the handler.
    pub(crate) fn fail(&mut self, violation: Violation) {
        if self.fault.is_none() {
            self.fault = Some(violation);
        }
    }

    /// The connection closes without a fault.
    pub(crate) fn close(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.life = Life::Closing;
        // Only what is still to be sent is kept (M-14).
        self.delivery.over();
        self.delivery.shed();
        #[cfg(feature = "alloc")]
        if let Some(coders) = &mut self.coders {
            coders.clear();
        }
        #[cfg(feature = "alloc")]
        if let Exchanges::H2(streams) = &self.exchanges
            && streams.is_empty()
        {
            self.shed();
        }
    }

    /// Frees what is only kept for the next request.
    pub(crate) fn shed(&mut self) {
        self.delivery.shed();
        #[cfg(feature = "alloc")]
        self.shed_coders();
        #[cfg(feature = "alloc")]
        if let Some((h2, streams)) = self.h2() {
            h2.shed(streams.is_empty());
            streams.shed();
        }
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn shed_coders(&mut self) {
        if let Some(coders) = &mut self.coders {
            coders.shed();
        }
    }

    /// Heap bytes of the version that is spoken.
    fn versions_bytes(&self) -> usize {
        match (&self.engine, &self.exchanges) {
            #[cfg(feature = "alloc")]
            (Engine::H2(h2), Exchanges::H2(streams)) => {
                h2.retained_bytes() + size_of::<crate::parse::h2::Streams>() + streams.retained_bytes()
            }
            _ => 0,
        }
    }

    /// The exchange in flight, in HTTP/1.1.
    pub(crate) fn current(&mut self) -> Option<&mut h1::state::H1Exchange> {
        self.one()?.current.as_mut()
    }

    /// An exchange that a handler may still answer.
    pub(crate) fn is_open(&mut self, id: Id) -> bool {
        match &mut self.exchanges {
            Exchanges::H1(one) => one.get(id.0).is_some_and(|x| !x.is_answered() && !x.shared.ended),
            #[cfg(feature = "alloc")]
            Exchanges::H2(streams) => streams.is_open(id.0),
            #[cfg(all(test, feature = "alloc"))]
            Exchanges::H3Model(streams) => streams.get(id.0).is_some_and(|x| !x.is_answered()),
        }
    }
}

#[cfg(feature = "tls")]
pub(crate) fn session(tls: &crate::decrypt::Tls) -> Option<crate::event::Session<'_>> {
    Some(crate::event::Session {
        version: tls.version()?,
        cipher: tls.cipher()?,
        alpn: tls.alpn(),
        sni: tls.sni(),
        resumed: tls.resumed(),
        identity: tls.identity(),
    })
}
