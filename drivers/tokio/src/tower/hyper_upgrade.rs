//! In: a request that may be upgraded. Out: hyper's own `OnUpgrade` for it, the type that axum's WebSockets ask for.
//!
//! Only hyper can make one, and makes it for a connection that it serves. So it serves one for each such request: a connection in memory on which
//! the smallest upgrade request lies ready. When our peer is told 101, that connection is answered with 101 too, which nobody reads, and hyper
//! hands on what is left of it: the tunnel. From there on hyper is out of the way; no byte of the peer's passes through its parser.
//!
//! ```text
//!   "GET / .. upgrade: .." --> hyper --> service: takes OnUpgrade, waits
//!                              hyper <-- 101 when ours was sent       --> OnUpgrade resolves to the tunnel
//! ```

use crate::tower::body::Body;
use crate::tower::upgrade::{Tunnel, Upgrade};
use http::{Response, StatusCode};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::upgrade::OnUpgrade;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: tunnel\r\n\r\n";

/// Polls that hyper gets for a step that it can do at once.
const POLLS: usize = 4;

type Serving = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// The connection in memory, up to its upgrade. Dropping it says that there will be none.
pub(super) struct Offer {
    serving: Serving,
    granted: Option<oneshot::Sender<()>>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

/// What hyper needs to make its `OnUpgrade`, and that.
pub(super) fn offer(upgrade: &Upgrade) -> Option<(Offer, OnUpgrade)> {
    let (granted, grant) = oneshot::channel::<()>();
    let grant = Arc::new(Mutex::new(Some(grant)));
    let found = Arc::new(Mutex::new(None));
    let service = {
        let found = found.clone();
        hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(hyper::upgrade::on(&mut request));
            let grant = grant.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let granted = match grant {
                    Some(grant) => grant.await.is_ok(),
                    None => false,
                };
                let mut response = Response::new(Body::empty());
                if granted {
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let io = Memory { request: REQUEST, swallowed: 0, tunnel: upgrade.tunnel() };
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_buf_size(8_192)
        .serve_connection(io, service)
        .with_upgrades();
    let mut offer = Offer { serving: Box::pin(serving), granted: Some(granted) };
    offer.poll();
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some((offer, found))
}

impl Offer {
    /// The peer was told.
    pub(super) fn grant(mut self) {
        if let Some(granted) = self.granted.take() {
            let _ = granted.send(());
        }
        self.poll();
    }

    /// Nothing in memory ever makes hyper wait, so a few polls do all that there is to do.
    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS {
            if self.serving.as_mut().poll(&mut cx).is_ready() {
                return;
            }
        }
    }
}

/// A connection on which a request lies ready, and whose response head is read by nobody. What follows both is the tunnel.
struct Memory {
    request: &'static [u8],
    /// How many bytes of the empty line that ends the head have just gone by.
    swallowed: usize,
    tunnel: Tunnel,
}

const END: &[u8] = b"\r\n\r\n";

impl Memory {
    fn head_is_over(&self) -> bool {
        self.swallowed == END.len()
    }
}

impl Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.request.is_empty() {
            let (now, later) = self.request.split_at(buf.remaining().min(self.request.len()));
            buf.put_slice(now);
            self.request = later;
            return Poll::Ready(Ok(()));
        }
        if !self.head_is_over() {
            return Poll::Pending; // the next poll comes with the grant
        }
        Pin::new(&mut self.tunnel).poll_read(cx, buf)
    }
}

impl Write for Memory {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.head_is_over() {
            return Write::poll_write(Pin::new(&mut self.tunnel), cx, buf);
        }
        for (at, &byte) in buf.iter().enumerate() {
            let expected = END.get(self.swallowed).copied();
            self.swallowed = match () {
                () if expected == Some(byte) => self.swallowed + 1,
                () if byte == b'\r' => 1,
                () => 0,
            };
            if self.head_is_over() {
                return Poll::Ready(Ok(at + 1));
            }
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.head_is_over() {
            true => Write::poll_flush(Pin::new(&mut self.tunnel), cx),
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.head_is_over() {
            true => Write::poll_shutdown(Pin::new(&mut self.tunnel), cx),
            false => Poll::Ready(Ok(())),
        }
    }
}
