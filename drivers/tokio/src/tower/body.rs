//! In: parts of a request's body, as the machine lends them. Out: an [`http_body::Body`] that holds its peer back.
//!
//! What a handler has not read yet counts as lent: the machine lends at most 64 KiB, so a body that nobody reads holds no more
//! than that, and the peer's window or socket fills up.

use crate::tower::ready::Slot;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use vestibule::Violation;

/// The body of a request. Reading a part makes room for another; dropping it discards the rest.
///
/// A client that waits for 100 (Continue) gets it when the body is first polled (with HTTP/2, when its request arrives).
#[derive(Default)]
pub struct Body(Option<Arc<Intake>>);

/// The request ended before its body did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer gave up, or broke a rule.
    Aborted(Option<Violation>),
    /// The exchange is over: its response is complete, or its connection is gone.
    Gone,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Aborted(Some(violation)) => write!(f, "the request was given up: {}", violation.text()),
            BodyError::Aborted(None) => f.write_str("the peer gave the request up"),
            BodyError::Gone => f.write_str("the exchange is over"),
        }
    }
}

impl std::error::Error for BodyError {}

impl Body {
    pub(super) fn new(intake: Arc<Intake>) -> Body {
        Body(Some(intake))
    }

    /// A body without content.
    pub fn empty() -> Body {
        Body(None)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("end", &http_body::Body::is_end_stream(self)).finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(intake) = &self.0 else { return Poll::Ready(None) };
        let mut state = intake.lock();
        let first = !std::mem::replace(&mut state.wanted, true);
        let before = state.taken;
        let frame = state.frame(cx);
        let notify = first || state.taken != before;
        drop(state);
        if notify {
            intake.slot.notify();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|intake| {
            let state = intake.lock();
            state.end == Some(Ok(())) && state.parts.is_empty() && state.trailers.is_none()
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(intake) = &self.0 else { return SizeHint::with_exact(0) };
        let state = intake.lock();
        match (state.left, state.end) {
            (Some(left), _) => SizeHint::with_exact(left),
            (None, Some(Ok(()))) => SizeHint::with_exact(state.parts.len() as u64),
            (None, _) => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(intake) = &self.0 {
            let mut state = intake.lock();
            state.dropped = true;
            let rest = (std::mem::take(&mut state.parts), state.trailers.take(), state.reader.take());
            drop(state);
            drop(rest);
            intake.slot.notify();
        }
    }
}

/// What a connection and a body share.
#[derive(Debug)]
pub(super) struct Intake {
    state: Mutex<State>,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct State {
    /// Parts that nobody has read, one behind the other.
    parts: BytesMut,
    trailers: Option<HeaderMap>,
    end: Option<Result<(), BodyError>>,
    /// Bytes that are still to be read, if that is known.
    left: Option<u64>,
    reader: Option<Waker>,
    /// It has been polled.
    wanted: bool,
    dropped: bool,
    /// Read since the machine was last told.
    taken: u32,
}

impl State {
    fn frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.parts.is_empty() {
            let part = self.parts.split().freeze();
            self.taken = self.taken.saturating_add(part.len() as u32);
            self.left = self.left.map(|left| left.saturating_sub(part.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match self.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => {
                self.end = Some(Ok(())); // said once
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What became of a body since it was last asked.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct News {
    pub(super) taken: u32,
    pub(super) dropped: bool,
}

impl Intake {
    pub(super) fn new(slot: Arc<Slot>, left: Option<u64>) -> Arc<Intake> {
        let state = State {
            parts: BytesMut::new(),
            trailers: None,
            end: None,
            left,
            reader: None,
            wanted: false,
            dropped: false,
            taken: 0,
        };
        Arc::new(Intake { state: Mutex::new(state), slot })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn news(&self) -> News {
        let mut state = self.lock();
        News { taken: std::mem::take(&mut state.taken), dropped: state.dropped }
    }

    /// Nobody has polled it, or dropped it.
    pub(super) fn is_untouched(&self) -> bool {
        let state = self.lock();
        !state.wanted && !state.dropped
    }

    /// A part of the body. It waits with its fellows, so that small parts cost no more than their bytes.
    pub(super) fn part(&self, bytes: &[u8], last: bool) {
        let mut state = self.lock();
        if state.dropped {
            return;
        }
        state.parts.extend_from_slice(bytes);
        if last {
            state.end = Some(Ok(()));
        }
        wake(state);
    }

    pub(super) fn trailers(&self, trailers: HeaderMap) {
        let mut state = self.lock();
        if state.dropped {
            return;
        }
        state.trailers = Some(trailers);
        state.end = Some(Ok(()));
        wake(state);
    }

    /// Nothing more comes, though the body is not complete.
    pub(super) fn fail(&self, error: BodyError) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(Err(error));
            state.left = None;
            wake(state);
        }
    }
}

/// Wakes the reader without the lock.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}
