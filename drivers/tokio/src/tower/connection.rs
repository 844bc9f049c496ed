//! In: a stream of bytes and a service. Out: a future that serves the one with the other, to the end of the connection.
//!
//! ```text
//!        +--> turn: exchanges polled, their answers taken, events to them --> write what is ready --> Closed? --> over
//!        |                                                                                             |
//!        +--- read what comes, until somebody is woken or the deadline comes <-------------------------+
//! ```
//! It is polled, it has no await of its own: whatever was read or written is noted in the same poll, so it can be dropped whenever it
//! waits. All that it has goes with it: exchanges, bodies, the stream.

use crate::alarm::Alarm;
use crate::buffers;
use crate::tower::body::Body;
use crate::tower::exchanges::Exchanges;
use crate::tower::options::{Options, Peer};
use http::{Request, Response};
use http_body::Body as HttpBody;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tower_service::Service;
use vestibule::{End, Inbox, Misuse, Outbox, Pause, Violation, Wait};

/// Rounds of turn, write and read in one poll; then others have their turn.
const ROUNDS: usize = 32;
/// Times that exchanges and machine answer each other in one turn.
const EXCHANGES: usize = 32;

/// Serves one connection over `io` with `service`, until it is closed.
///
/// The future needs a tokio runtime with its time driver, of either flavor. It spawns nothing: it polls the service's futures itself. It is
/// `Send` if stream, service, futures and response bodies are; on a current-thread runtime they need not be.
///
/// ```no_run
/// # async fn serve(stream: tokio::net::TcpStream) -> Result<(), vestibule_tokio::tower::ConnectionError> {
/// use vestibule_tokio::tower::{Options, Peer, serve_connection};
///
/// let router = axum::Router::new().route("/", axum::routing::get(|| async { "Hello, world!" }));
/// let options = Options::default(); // one for all connections
/// let peer = Peer { addr: stream.peer_addr().ok(), local: stream.local_addr().ok() };
/// serve_connection(stream, &options, peer, router).await?;
/// # Ok(()) }
/// ```
pub fn serve_connection<IO, S, B>(io: IO, options: &Options, peer: Peer, service: S) -> Connection<IO, S, B>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    Connection {
        io,
        machine: vestibule::Connection::new(options.shared.config.clone(), vestibule::Instant::ZERO),
        inbox: Inbox::new(Vec::new()),
        outbox: Outbox::new(Vec::new()),
        options: options.clone(),
        exchanges: Exchanges::new(service, peer),
        epoch: Instant::now(),
        now: vestibule::Instant::ZERO,
        alarm: Alarm::default(),
        ended: false,
        hungry: false,
        flushed: true,
        shut: false,
        over: false,
    }
}

/// A connection under way: see [`serve_connection`].
#[must_use = "futures do nothing unless polled"]
pub struct Connection<IO, S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    io: IO,
    machine: vestibule::Connection<std::sync::Arc<vestibule::Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    options: Options,
    exchanges: Exchanges<S, B>,
    epoch: Instant,
    /// What time it was in the last turn.
    now: vestibule::Instant,
    alarm: Alarm,
    /// The peer has sent its last byte.
    ended: bool,
    /// The last turn wanted to read: what woke us is most likely input.
    hungry: bool,
    flushed: bool,
    /// Our side is shut down.
    shut: bool,
    over: bool,
}

/// Nothing in it is pinned where it lies: futures and bodies of exchanges have places of their own.
impl<IO, S, B> Unpin for Connection<IO, S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
}

impl<IO, S, B> fmt::Debug for Connection<IO, S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// How a connection ended that came to its end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finished {
    /// As the machine sees it.
    pub end: Option<End>,
    /// The rule that the peer broke, if it did.
    pub fault: Option<Violation>,
    /// Requests that began.
    pub requests: u64,
}

/// Why a connection ended before its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The stream failed; most often, the peer reset it.
    Io(io::Error),
    /// The peer ended its side while it waited for an answer, and [`Options::half_close`] is off.
    Left,
    /// A mistake of this driver.
    Misuse(Misuse),
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::Io(error) => write!(f, "the connection failed: {error}"),
            ConnectionError::Left => f.write_str("the peer left before its answer"),
            ConnectionError::Misuse(misuse) => write!(f, "{misuse}"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> ConnectionError {
        ConnectionError::Io(error)
    }
}

/// Whether there is something to do at once.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Next {
    Again,
    Wait,
    Closed,
}

impl<IO, S, B> Connection<IO, S, B>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    /// Ends gracefully: what is under way is answered, then the connection closes. To be polled on.
    pub fn graceful_shutdown(&mut self) {
        self.machine.drain();
        self.exchanges.ready.wake();
    }

    /// The stream and the service's requests under way, for those who count.
    pub fn open_requests(&self) -> usize {
        self.exchanges.open
    }

    fn now(&self) -> vestibule::Instant {
        vestibule::Instant::ZERO.after(self.epoch.elapsed())
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Result<Next, ConnectionError> {
        // What is left of before goes first: it makes room.
        self.write(cx)?;
        self.take_buffers();
        // Reading first saves the turn that would find nothing new, and only say once more that it wants input.
        if std::mem::take(&mut self.hungry) {
            self.read(cx)?;
        }
        let (pause, held) = self.turn(cx).map_err(ConnectionError::Misuse)?;
        let wrote = self.write(cx)?;
        if self.outbox.is_empty() && !self.finish_writing(cx) {
            return Ok(Next::Wait);
        }
        if (wrote || self.outbox.is_empty()) && self.exchanges.room() {
            return Ok(Next::Again);
        }
        Ok(match pause {
            Pause::Closed => Next::Closed,
            Pause::Yield if !held => Next::Again,
            Pause::Room if wrote => Next::Again,
            Pause::Input { .. } if self.read(cx)? => Next::Again,
            Pause::Input { .. } => {
                // Where the end of the input gives up what is under way, an answer that is ready goes first.
                self.hungry = self.exchanges.open == 0 || self.options.shared.half_close;
                Next::Wait
            }
            Pause::Caller(Wait::Config) => self.choose()?,
            Pause::Caller(_) | Pause::Yield => {
                self.watch(cx)?;
                Next::Wait
            }
            _ => Next::Wait,
        })
    }

    /// Exchanges and machine answer each other until neither has anything to say. True: the connection stands until a handler decides.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(Pause, bool), Misuse> {
        self.now = self.now();
        let now = self.now;
        let due = self.machine.deadline().is_some_and(|deadline| deadline.at <= now);
        let (exchanges, shared) = (&mut self.exchanges, &self.options.shared);
        exchanges.now = now;
        let mut empty = self.outbox.is_empty();
        let mut turn = self.machine.turn(now, &mut self.inbox, &mut self.outbox)?;
        for _ in 0..EXCHANGES {
            let worked = exchanges.work(cx, &mut turn, empty, shared);
            empty = false;
            let mut happened = false;
            while !exchanges.is_held(due) {
                let Some(event) = turn.next() else { break };
                happened = true;
                exchanges.event(cx, event, shared);
            }
            if !worked && !happened {
                break;
            }
        }
        let held = exchanges.is_held(due);
        let pause = turn.finish();
        if std::mem::take(&mut exchanges.failed) {
            self.machine.drain();
        }
        Ok((pause, held))
    }

    /// Writes what is ready. True if some of it went.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        let mut wrote = false;
        while !self.outbox.ready().is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, self.outbox.ready()) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Poll::Ready(Ok(n)) => {
                    self.outbox.wrote(n);
                    (wrote, self.flushed) = (true, false);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(wrote)
    }

    /// All was written: pushes it through a stream that buffers, and shuts our side down behind the last byte. False: not yet.
    fn finish_writing(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.flushed {
            // A failure shows with the next read or write.
            self.flushed = Pin::new(&mut self.io).poll_flush(cx).is_ready();
        }
        if self.flushed && self.outbox.finished() && !self.shut {
            self.shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        // Nobody has to wait for a flush, except what comes behind the last one.
        self.shut || !self.outbox.finished()
    }

    /// Reads once. True if something came, if only the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        if self.ended {
            return Err(ConnectionError::Io(io::ErrorKind::UnexpectedEof.into())); // cannot be: nothing is asked for behind the end
        }
        let mut spare = ReadBuf::new(self.inbox.spare());
        if spare.remaining() == 0 {
            return Ok(false);
        }
        match Pin::new(&mut self.io).poll_read(cx, &mut spare) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => {
                match spare.filled().len() {
                    0 => {
                        self.ended = true;
                        self.inbox.end();
                        if !self.options.shared.half_close && self.exchanges.open > 0 && !self.exchanges.has_tunnel() {
                            return Err(ConnectionError::Left);
                        }
                    }
                    n => self.inbox.commit(n),
                }
                Ok(true)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    /// The machine needs no input now. What comes is kept for later as far as there is room for it, so that a peer that is gone is noticed.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        while !self.ended && self.read(cx)? {}
        Ok(())
    }

    /// Nobody chose a configuration for this client: it is the only one there is.
    fn choose(&mut self) -> Result<Next, ConnectionError> {
        let Some(tls) = self.options.shared.tls.clone() else {
            return Err(io::Error::other("no TLS configuration").into());
        };
        let now = self.now();
        let mut turn = self.machine.turn(now, &mut self.inbox, &mut self.outbox).map_err(ConnectionError::Misuse)?;
        turn.choose(tls.config());
        let _ = turn.finish();
        Ok(Next::Again)
    }

    fn take_buffers(&mut self) {
        let shared = &self.options.shared;
        if self.inbox.is_empty() {
            let store = std::mem::replace(&mut self.inbox, Inbox::new(Vec::new())).into_store();
            let store = if store.is_empty() { buffers::take(shared.inbox_bytes) } else { store };
            self.inbox = Inbox::new(store);
            if self.ended {
                self.inbox.end();
            }
        }
        if self.outbox.is_empty() {
            let (store, _) = self.outbox.swap(Vec::new());
            let store = if store.is_empty() { buffers::take(shared.outbox_bytes) } else { store };
            self.outbox.swap(store);
        }
    }

    /// Gives back what holds nothing.
    fn give_buffers(&mut self) {
        if self.inbox.is_empty() {
            buffers::give(std::mem::replace(&mut self.inbox, Inbox::new(Vec::new())).into_store());
        }
        if self.outbox.is_empty() {
            buffers::give(self.outbox.swap(Vec::new()).0);
        }
    }

    fn finish(&mut self) -> Finished {
        self.over = true;
        self.exchanges.clear();
        let requests = self.machine.stats().requests;
        Finished { end: self.machine.end(), fault: self.exchanges.fault, requests }
    }
}

impl<IO, S, B> Future for Connection<IO, S, B>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    type Output = Result<Finished, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.over {
            return Poll::Pending; // its end was told
        }
        this.exchanges.ready.register(cx.waker());
        for _ in 0..ROUNDS {
            let next = match this.round(cx) {
                Ok(next) => next,
                Err(error) => {
                    this.finish();
                    this.give_buffers();
                    return Poll::Ready(Err(error));
                }
            };
            match next {
                Next::Closed => {
                    let finished = this.finish();
                    this.give_buffers();
                    return Poll::Ready(Ok(finished));
                }
                Next::Again => continue,
                Next::Wait if !this.exchanges.ready.is_empty() => continue,
                Next::Wait => {}
            }
            // The time of this round's turn will do: a timer that has come since then wakes us again.
            let now = this.epoch + this.now.since(vestibule::Instant::ZERO);
            let wait = this.machine.deadline().map(|deadline| deadline.at.since(this.now));
            if this.alarm.poll(cx, now, wait).is_pending() {
                this.give_buffers();
                this.exchanges.shed();
                return Poll::Pending;
            }
        }
        this.give_buffers();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;
    use std::convert::Infallible;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    async fn hello(_: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::new("hello".into())))
    }

    /// What a connection holds in storages.
    fn held<IO, S, B>(connection: &mut Connection<IO, S, B>) -> usize
    where
        S: Service<Request<Body>, Response = Response<B>>,
        B: HttpBody,
    {
        connection.inbox.spare().len() + connection.inbox.len() + connection.outbox.swap(Vec::new()).0.len()
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffers() {
        let (mut client, server) = duplex(4_096);
        let mut connection = serve_connection(server, &Options::default(), Peer::default(), tower::service_fn(hello));
        let mut heard = [0; 4_096];
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await.is_pending());
            assert_eq!(held(&mut connection), 0);
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("room");
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await.is_pending());
            assert_eq!(held(&mut connection), 0, "all was said");
            let n = client.read(&mut heard).await.expect("open");
            assert!(heard[..n].ends_with(b"hello"));
        }
        // Half a head is kept, and with it the storage that it lies in.
        client.write_all(b"GET / HTT").await.expect("room");
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx))).await.is_pending());
        assert_eq!(held(&mut connection), connection.options.shared.inbox_bytes);
    }
}
