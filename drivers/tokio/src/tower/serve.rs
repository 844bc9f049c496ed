//! In: a listener, and what makes a service of each connection. Out: connections served, each by its task, until a shutdown.

use crate::tower::body::Body;
use crate::tower::connection::serve_connection;
use crate::tower::options::{Options, Peer};
use http::{Request, Response};
use http_body::Body as HttpBody;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;

/// What accepts connections.
pub trait Listener {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Whose it is: what the maker of services is told.
    type Addr;

    /// The next connection.
    ///
    /// # Errors
    /// Those of the system. Whatever they are, the listener is asked again.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// What requests are told of the connection.
    fn peer(io: &Self::Io, addr: &Self::Addr) -> Peer;
}

impl Listener for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>> {
        tokio::net::TcpListener::poll_accept(self, cx).map_ok(|(stream, addr)| {
            let _ = stream.set_nodelay(true); // what is written is complete; a peer that is gone already shows later
            (stream, addr)
        })
    }

    fn peer(io: &Self::Io, addr: &Self::Addr) -> Peer {
        Peer { addr: Some(*addr), local: io.local_addr().ok() }
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>> {
        tokio::net::UnixListener::poll_accept(self, cx)
    }

    fn peer(_io: &Self::Io, _addr: &Self::Addr) -> Peer {
        Peer::default()
    }
}

/// Serves the connections of a listener, each with a service that `make` makes of its address: for axum,
/// `router.into_make_service()`, or `router.into_make_service_with_connect_info::<SocketAddr>()`.
///
/// ```no_run
/// # async fn run() -> std::io::Result<()> {
/// let router = axum::Router::new().route("/", axum::routing::get(|| async { "Hello, world!" }));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let summary = vestibule_tokio::tower::serve(listener, router.into_make_service())
///     .run_until(async { let _ = tokio::signal::ctrl_c().await; })
///     .await;
/// println!("{summary}");
/// # Ok(()) }
/// ```
pub fn serve<L: Listener, M>(listener: L, make: M) -> Serve<L, M> {
    Serve { listener, make, options: Options::default(), connections: 10_000, grace: Duration::from_secs(10) }
}

/// A server that is to run: see [`serve`].
#[must_use = "it serves once it is run"]
pub struct Serve<L, M> {
    listener: L,
    make: M,
    options: Options,
    connections: usize,
    grace: Duration,
}

impl<L, M> fmt::Debug for Serve<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Serve { options, connections, grace, .. } = self;
        let mut f = f.debug_struct("Serve");
        f.field("options", options).field("connections", connections).field("grace", grace).finish_non_exhaustive()
    }
}

/// What a server did in its life.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// Connections accepted.
    pub connections: u64,
    /// Requests that began, on connections that came to their end.
    pub requests: u64,
    /// Connections on which a peer broke a rule.
    pub faults: u64,
    /// Connections that failed: reset, most often.
    pub resets: u64,
    /// Tasks that panicked.
    pub panics: u64,
    /// Connections that a shutdown cut off because their grace was over.
    pub cut: u64,
    /// Times that the listener failed.
    pub accept_errors: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { connections, requests, faults, resets, panics, cut, accept_errors } = self;
        write!(
            f,
            "connections {connections}, requests {requests}, faults {faults}, resets {resets}, panics {panics}, \
             cut off {cut}, accept errors {accept_errors}"
        )
    }
}

/// How the task of a connection ended.
enum Outcome {
    Finished { requests: u64, fault: bool },
    Failed,
}

/// The first and the longest wait after an accept that failed for want of descriptors or memory (DRV-01).
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

impl<L, M> Serve<L, M> {
    /// Limits, TLS, and what else connections share.
    pub fn options(mut self, options: Options) -> Serve<L, M> {
        self.options = options;
        self
    }

    /// Connections at once, 10,000 if nothing is said. Beyond them none is accepted: the kernel's queue pushes back (DRV-02).
    pub fn connections(mut self, most: usize) -> Serve<L, M> {
        self.connections = most.max(1);
        self
    }

    /// How long a shutdown lets what is under way come to its end, 10 s if nothing is said.
    pub fn grace(mut self, grace: Duration) -> Serve<L, M> {
        self.grace = grace;
        self
    }
}

impl<L, M, S, B> Serve<L, M>
where
    L: Listener,
    M: Service<L::Addr, Response = S>,
    M::Future: Send + 'static,
    M::Error: 'static,
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody + Send + 'static,
    B::Data: Send,
{
    /// Serves until `stop` resolves; then closes the listener, drains every connection, cuts off what is left after the grace, and
    /// says what was done. Dropping the future cuts off everything at once.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Summary {
        let Serve { mut listener, mut make, options, connections, grace } = self;
        let (stopping, stopped) = watch::channel(false);
        let (mut tasks, mut summary, mut stop) = (JoinSet::new(), Summary::default(), std::pin::pin!(stop));
        let mut pause = PAUSES.0;
        loop {
            while let Some(outcome) = tasks.try_join_next() {
                summary.count(outcome);
            }
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(outcome) = tasks.join_next() => summary.count(outcome),
                accepted = accept(&mut listener, &mut make), if tasks.len() < connections => match accepted {
                    Ok((io, peer, service)) => {
                        pause = PAUSES.0;
                        summary.connections += 1;
                        tasks.spawn(connection(io, peer, service, options.clone(), stopped.clone()));
                    }
                    Err(error) => {
                        summary.accept_errors += 1;
                        if is_about_one(&error) {
                            continue;
                        }
                        tokio::select! {
                            () = &mut stop => break,
                            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                        }
                    }
                },
            }
        }
        drop(listener);
        let _ = stopping.send(true);
        let drained = async {
            while let Some(outcome) = tasks.join_next().await {
                summary.count(outcome);
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            summary.cut = tasks.len() as u64;
            tasks.shutdown().await;
        }
        summary
    }

    /// Serves until the future is dropped.
    pub async fn run(self) -> Summary {
        self.run_until(std::future::pending()).await
    }
}

impl Summary {
    fn count(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        match outcome {
            Ok(Outcome::Finished { requests, fault }) => {
                self.requests += requests;
                self.faults += u64::from(fault);
            }
            Ok(Outcome::Failed) => self.resets += 1,
            Err(_) => self.panics += 1,
        }
    }
}

/// The next connection, and the service that is being made for it.
async fn accept<L, M>(listener: &mut L, make: &mut M) -> io::Result<(L::Io, Peer, Option<M::Future>)>
where
    L: Listener,
    M: Service<L::Addr>,
{
    // Being ready is a promise that the maker keeps until it is called, so this may be dropped anywhere.
    let ready = poll_fn(|cx| make.poll_ready(cx)).await.is_ok();
    let (io, addr) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    let peer = L::peer(&io, &addr);
    Ok((io, peer, ready.then(|| make.call(addr))))
}

/// One connection, from its service to its end.
async fn connection<IO, MF, S, B, E>(
    io: IO,
    peer: Peer,
    service: Option<MF>,
    options: Options,
    mut stopped: watch::Receiver<bool>,
) -> Outcome
where
    IO: AsyncRead + AsyncWrite + Unpin,
    MF: Future<Output = Result<S, E>>,
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    let service = match service {
        Some(making) => making.await.ok(),
        None => None,
    };
    let Some(service) = service else { return Outcome::Failed };
    let mut connection = serve_connection(io, &options, peer, service);
    let watch = stopped.clone();
    let mut stop = std::pin::pin!(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let mut told: Option<Waker> = None;
    let before = poll_fn(|cx| {
        // Waiting in the channel takes its lock, each time. Once it knows whom to wake, a look tells whether it has something to say.
        let known = told.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !known || !matches!(watch.has_changed(), Ok(false)) {
            told = Some(cx.waker().clone());
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
        }
        Pin::new(&mut connection).poll(cx).map(Some)
    })
    .await;
    let outcome = match before {
        Some(outcome) => outcome,
        None => {
            connection.graceful_shutdown();
            connection.await
        }
    };
    match outcome {
        Ok(finished) => Outcome::Finished { requests: finished.requests, fault: finished.fault.is_some() },
        Err(_) => Outcome::Failed,
    }
}

/// The error is one connection's, and says nothing of the next one.
fn is_about_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
