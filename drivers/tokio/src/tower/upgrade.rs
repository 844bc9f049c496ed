//! In: the bytes behind an upgrade or a CONNECT. Out: a stream of bytes that holds both sides back.
//!
//! ```text
//!   machine --Tunnel events--> [ at most 64 KiB ] --poll_read--> handler
//!   machine <----- write ----- [ at most 64 KiB ] <-poll_write-- handler
//! ```

use crate::tower::ready::Slot;
use bytes::{Buf, BytesMut};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Written bytes that wait for the machine, at most.
const PIPE: usize = 65_536;

/// Among the extensions of a request that may be upgraded (`Upgrade` in HTTP/1.1, CONNECT, extended CONNECT in HTTP/2): resolves to
/// the tunnel once the service has answered 101, or 2xx to a CONNECT.
///
/// ```no_run
/// # async fn serve(mut request: http::Request<vestibule_tokio::tower::Body>) -> http::Response<String> {
/// use tokio::io::AsyncWriteExt;
/// use vestibule_tokio::tower::Upgrade;
///
/// let Some(upgrade) = Upgrade::of(&mut request) else { return http::Response::new("nothing to change to".into()) };
/// tokio::spawn(async move {
///     let Ok(mut tunnel) = upgrade.await else { return };
///     let _ = tunnel.write_all(b"hello").await;
/// });
/// let mut response = http::Response::new(String::new());
/// *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
/// response.headers_mut().insert("upgrade", http::HeaderValue::from_static("greeting"));
/// response
/// # }
/// ```
#[derive(Clone)]
pub struct Upgrade(Arc<Owner>);

/// The exchange was answered in another way, or is over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct NotUpgraded;

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not upgraded")
    }
}

impl std::error::Error for NotUpgraded {}

impl Upgrade {
    pub(super) fn new(pipe: Arc<Pipe>) -> Upgrade {
        Upgrade(Arc::new(Owner(pipe)))
    }

    /// Takes it from a request; `None` if that cannot be upgraded.
    pub fn of<B>(request: &mut http::Request<B>) -> Option<Upgrade> {
        request.extensions_mut().remove()
    }

    /// The tunnel itself, whatever its state.
    #[cfg(feature = "hyper-upgrade")]
    pub(super) fn tunnel(&self) -> Tunnel {
        Tunnel(self.0.clone())
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").finish_non_exhaustive()
    }
}

impl Future for Upgrade {
    type Output = Result<Tunnel, NotUpgraded>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.0.lock();
        match state.stage {
            Stage::Open => Poll::Ready(Ok(Tunnel(self.0.clone()))),
            Stage::Over if state.opened => Poll::Ready(Ok(Tunnel(self.0.clone()))),
            Stage::Over => Poll::Ready(Err(NotUpgraded)),
            Stage::Asked => {
                state.waits.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Bytes both ways. Dropping it, or shutting it down, ends our side once all is sent.
pub struct Tunnel(Arc<Owner>);

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Reads what is there, at most `most` bytes.
    fn poll_take(&self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<BytesMut>> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if most == 0 {
            return Poll::Ready(Ok(BytesMut::new()));
        }
        if !state.incoming.is_empty() {
            let n = most.min(state.incoming.len());
            let part = state.incoming.split_to(n);
            state.taken = state.taken.saturating_add(n as u32);
            drop(state);
            pipe.slot.notify();
            return Poll::Ready(Ok(part));
        }
        match (state.ended, state.stage) {
            (true, _) => Poll::Ready(Ok(BytesMut::new())),
            (false, Stage::Over) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            _ => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_take(cx, buf.remaining()).map_ok(|part| buf.put_slice(&part))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let pipe = &self.0.0;
        let mut state = pipe.lock();
        if state.stage == Stage::Over || state.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE.saturating_sub(state.outgoing.len());
        if room == 0 && !buf.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = room.min(buf.len());
        state.outgoing.extend_from_slice(buf.get(..n).unwrap_or_default());
        drop(state);
        pipe.slot.notify();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.0.lock();
        if state.outgoing.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if state.stage == Stage::Over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = self.0.0.clone();
        let first = !std::mem::replace(&mut pipe.lock().closing, true);
        if first {
            pipe.slot.notify();
        }
        // What can be sent no more was lost by the peer's doing: there is nothing left to shut down.
        self.as_mut().poll_flush(cx).map(|_| Ok(()))
    }
}

/// Whoever may still use the tunnel. With the last one it ends.
struct Owner(Arc<Pipe>);

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.dropped, state.closing) = (true, true);
        let incoming = std::mem::take(&mut state.incoming);
        state.taken = state.taken.saturating_add(incoming.len() as u32);
        drop(state);
        self.0.slot.notify();
    }
}

/// How far an upgrade has come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    Asked,
    Open,
    Over,
}

/// What a connection and a tunnel share.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    opened: bool,
    incoming: BytesMut,
    /// The peer has ended its side.
    ended: bool,
    /// Read since the machine was last told.
    taken: u32,
    outgoing: BytesMut,
    /// Nothing more is written.
    closing: bool,
    /// Nobody reads any more either.
    dropped: bool,
    waits: Vec<Waker>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(slot: Arc<Slot>) -> Arc<Pipe> {
        let state = State {
            stage: Stage::Asked,
            opened: false,
            incoming: BytesMut::new(),
            ended: false,
            taken: 0,
            outgoing: BytesMut::new(),
            closing: false,
            dropped: false,
            waits: Vec::new(),
            reader: None,
            writer: None,
        };
        Arc::new(Pipe { state: Mutex::new(state), slot })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer has been told: bytes may flow.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        (state.stage, state.opened) = (Stage::Open, true);
        let waits = std::mem::take(&mut state.waits);
        drop(state);
        waits.into_iter().for_each(Waker::wake);
    }

    /// No bytes flow any more.
    pub(super) fn over(&self) {
        let mut state = self.lock();
        state.stage = Stage::Over;
        state.closing = true;
        let (waits, reader, writer) = (std::mem::take(&mut state.waits), state.reader.take(), state.writer.take());
        drop(state);
        waits.into_iter().chain(reader).chain(writer).for_each(Waker::wake);
    }

    /// Bytes from the peer.
    pub(super) fn incoming(&self, bytes: &[u8], last: bool) {
        let mut state = self.lock();
        if state.dropped {
            state.taken = state.taken.saturating_add(bytes.len() as u32);
        } else {
            state.incoming.extend_from_slice(bytes);
        }
        state.ended |= last;
        let (dropped, reader) = (state.dropped, state.reader.take());
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        if dropped {
            self.slot.notify();
        }
    }

    /// The peer has ended its side.
    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Bytes that were read since the last call.
    pub(super) fn taken(&self) -> u32 {
        std::mem::take(&mut self.lock().taken)
    }

    /// Sends what was written through `write`, which says how much it took; `None`: it takes none ever again. True if all of
    /// it went and no more comes.
    pub(super) fn outgoing(&self, write: impl FnOnce(&[u8]) -> Option<usize>) -> bool {
        let mut state = self.lock();
        let mut writer = None;
        if !state.outgoing.is_empty() {
            let n = write(&state.outgoing).unwrap_or(state.outgoing.len());
            state.outgoing.advance(n);
            if n > 0 {
                writer = state.writer.take();
            }
        }
        let done = state.closing && state.outgoing.is_empty();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        done
    }
}

#[cfg(feature = "hyper-upgrade")]
impl hyper::rt::Read for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_take(cx, buf.remaining()).map_ok(|part| buf.put_slice(&part))
    }
}

#[cfg(feature = "hyper-upgrade")]
impl hyper::rt::Write for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(self, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(self, cx)
    }
}
