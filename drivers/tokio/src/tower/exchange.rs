//! In: one request's way through its service, polled when somebody wakes it. Out: the answer, as fast as the machine takes it.
//!
//! ```text
//!  Waiting --service ready--> Running --response--> Answering --+--> Streaming --> Ending --> Over
//!                                |  error, panic                +--> Tunnel ----------------> Over
//!                                +---------------> Refusing ----+--------------------------> Over
//! ```

use crate::tower::body::{Body, Intake};
use crate::tower::head;
use crate::tower::seat::{Seat, guarded};
use crate::tower::upgrade::Pipe;
use bytes::Buf;
use http::response::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use vestibule::{Content, Id, Misuse, Reply, Version};

/// Parts of a response body that are looked at before others have their turn.
const PARTS: usize = 64;

/// A request and what has become of it.
pub(super) struct Exchange<F, B: HttpBody> {
    pub(super) id: Id,
    pub(super) facts: Facts,
    pub(super) stage: Stage<B>,
    /// Its body, until that is complete or nobody wants it.
    pub(super) intake: Option<Arc<Intake>>,
    /// What it may be upgraded to.
    pub(super) pipe: Option<Arc<Pipe>>,
    #[cfg(feature = "hyper-upgrade")]
    pub(super) offer: Option<crate::tower::hyper_upgrade::Offer>,
    /// Where its future and its body lie; `None` before the service was called, and once the exchange has left it.
    pub(super) seat: Option<Seat<F, B>>,
}

/// What has to be known of a request to send its response.
#[derive(Copy, Clone, Debug)]
pub(super) struct Facts {
    pub(super) version: Version,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    /// It waits for 100 (Continue).
    pub(super) expects: bool,
}

pub(super) enum Stage<B: HttpBody> {
    /// For the service to be ready.
    Waiting(Box<Request<Body>>),
    /// The future in its seat.
    Running,
    /// A response whose head is to be written, its body in its seat.
    Answering {
        parts: Parts,
        /// What was taken from the body in advance.
        first: Option<B::Data>,
    },
    Streaming {
        /// The body may have more than `rest`.
        more: bool,
        rest: Option<B::Data>,
    },
    /// Only the end is to be written, once there is room.
    Ending(Option<HeaderMap>),
    /// No response came, or none that can be sent.
    Refusing(StatusCode),
    Tunnel(Arc<Pipe>),
    Over,
}

/// What an exchange did when it was polled.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Went {
    /// It waits: for its service, its body, its peer.
    Waits,
    /// It waits for room in the outbox, and nobody will tell it.
    NoRoom,
    /// It can go on at once, after others.
    Busy,
    Over,
}

impl<F, B, E> Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
{
    pub(super) fn new(id: Id, facts: Facts, stage: Stage<B>) -> Exchange<F, B> {
        Exchange {
            id,
            facts,
            stage,
            intake: None,
            pipe: None,
            #[cfg(feature = "hyper-upgrade")]
            offer: None,
            seat: None,
        }
    }

    /// The service is not ready for that request.
    pub(super) fn wait(&mut self, request: Option<Request<Body>>) {
        self.stage = request.map_or(Stage::Over, |request| Stage::Waiting(Box::new(request)));
    }

    /// The service was called: its future has a seat, or it has failed.
    pub(super) fn sit(&mut self, seat: Option<Seat<F, B>>) {
        self.stage = if seat.is_some() { Stage::Running } else { Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR) };
        self.seat = seat;
    }

    /// Nothing of it was said, and nobody has looked at its body: the client still waits for 100 (Continue).
    pub(super) fn is_undecided(&self) -> bool {
        let unread = self.intake.as_ref().is_some_and(|intake| intake.is_untouched());
        unread && self.facts.expects && matches!(self.stage, Stage::Waiting(_) | Stage::Running)
    }

    /// Goes on as far as it can. `waker` is that of its place.
    pub(super) fn advance(&mut self, mut reply: Reply<'_>, date: &str, waker: &Waker) -> Went {
        self.give_back(&mut reply);
        let mut parts = PARTS;
        loop {
            let went = match &mut self.stage {
                Stage::Waiting(_) => Some(Went::Waits),
                Stage::Running => self.run(waker),
                Stage::Answering { .. } => self.answer(&mut reply, date, waker),
                Stage::Streaming { .. } if parts == 0 => Some(Went::Busy),
                Stage::Streaming { .. } => {
                    parts -= 1;
                    match self.stream(&mut reply, waker) {
                        Ok(went) => went,
                        Err(Broken) => {
                            reply.abort();
                            self.stage = Stage::Over;
                            return Went::Over;
                        }
                    }
                }
                Stage::Ending(trailers) => match end(&mut reply, trailers.as_ref()) {
                    Err(Misuse::NoRoom) => Some(Went::NoRoom),
                    _ => self.over(),
                },
                Stage::Refusing(status) => match refuse(*status, self.facts, &mut reply) {
                    Err(Misuse::NoRoom) => Some(Went::NoRoom),
                    Err(_) => {
                        reply.abort();
                        self.stage = Stage::Over;
                        return Went::Over;
                    }
                    Ok(()) => self.over(),
                },
                Stage::Tunnel(pipe) => {
                    let pipe = pipe.clone();
                    Some(self.pump(&pipe, &mut reply))
                }
                Stage::Over => Some(Went::Over),
            };
            if let Some(went) = went {
                // What a handler has just read of its body makes room for more.
                self.give_back(&mut reply);
                return went;
            }
        }
    }

    /// There was no room for it in an empty outbox, and never will be.
    pub(super) fn give_up_head(&mut self, reply: Reply<'_>) {
        self.stage = match self.stage {
            Stage::Answering { .. } => Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
            _ => {
                reply.abort();
                Stage::Over
            }
        };
    }

    fn over(&mut self) -> Option<Went> {
        self.stage = Stage::Over;
        Some(Went::Over)
    }

    /// Tells the machine what was read of the request's body.
    fn give_back(&mut self, reply: &mut Reply<'_>) {
        let Some(intake) = &self.intake else { return };
        let news = intake.news();
        if news.taken > 0 {
            reply.release(news.taken);
        }
        if news.dropped {
            reply.discard();
            self.intake = None;
        }
    }

    /// Polls the service's future.
    fn run(&mut self, waker: &Waker) -> Option<Went> {
        let Seat { future, body } = self.seat.as_mut()?;
        let polled = guarded(|| {
            let polled = future.as_mut().as_pin_mut()?.poll(&mut Context::from_waker(waker));
            if polled.is_ready() {
                future.set(None);
            }
            Some(polled)
        });
        self.stage = match polled.flatten() {
            Some(Poll::Pending) => return Some(Went::Waits),
            Some(Poll::Ready(Ok(response))) => {
                let (parts, content) = response.into_parts();
                body.set(Some(content));
                Stage::Answering { parts, first: None }
            }
            Some(Poll::Ready(Err(_))) | None => Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
        };
        None
    }

    /// Writes the response's head, with its content if that is here whole.
    fn answer(&mut self, reply: &mut Reply<'_>, date: &str, waker: &Waker) -> Option<Went> {
        let Stage::Answering { parts, first } = &mut self.stage else { return None };
        let mut body = self.seat.as_mut()?.body.as_mut().as_pin_mut()?;
        let status = parts.status;
        let accepts = status == StatusCode::SWITCHING_PROTOCOLS || (self.facts.is_connect && status.is_success());
        let mut said = head::Said::new();
        if !said.read(&parts.headers, date) {
            self.stage = Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR);
            return None;
        }
        if said.closes {
            reply.close();
        }
        let said = if accepts {
            reply.upgrade(said.protocol, said.fields()).map(|()| None)
        } else {
            let silent = head::is_silent(self.facts.is_head, status);
            let framing = match silent {
                // No content may stand for content that was taken away because of HEAD: then its length is not known.
                true => silent_framing(status, said.length.or(body.size_hint().exact().filter(|&length| length > 0))),
                false => framing(said.length, &mut body, first, &mut Context::from_waker(waker)),
            };
            let content = match (framing, &*first) {
                (Framing::Whole, Some(data)) => Content::Whole(data.chunk()),
                (Framing::Whole, None) => Content::Whole(b""),
                (Framing::Sized(length), _) => Content::Sized(length),
                (Framing::Streamed, _) => Content::Streamed,
            };
            let whole = framing == Framing::Whole;
            reply.respond(status.as_u16(), said.fields(), content).map(|taken| Some((taken, silent, whole)))
        };
        match said {
            Err(Misuse::NoRoom) => return Some(Went::NoRoom),
            Err(Misuse::Gone) => return self.over(),
            Err(_) => self.stage = Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
            Ok(None) => self.upgraded(),
            Ok(Some((taken, silent, whole))) => self.answered(taken, silent, whole),
        }
        None
    }

    /// The head is written; what follows it?
    fn answered(&mut self, taken: usize, silent: bool, whole: bool) {
        let Stage::Answering { parts, first } = &mut self.stage else { return };
        head::recycle(std::mem::take(&mut parts.headers));
        let mut rest = first.take();
        if let Some(data) = &mut rest {
            data.advance(if whole { taken } else { 0 });
        }
        let rest = rest.filter(Buf::has_remaining);
        self.stage = match (silent, whole) {
            (true, true) => Stage::Over,
            (true, false) => Stage::Ending(None),
            (false, true) if rest.is_none() => Stage::Over,
            (false, _) => Stage::Streaming { more: !whole, rest },
        };
    }

    fn upgraded(&mut self) {
        #[cfg(feature = "hyper-upgrade")]
        let offer = self.offer.take();
        self.stage = match &self.pipe {
            Some(pipe) => {
                pipe.open();
                #[cfg(feature = "hyper-upgrade")]
                if let Some(offer) = offer {
                    offer.grant();
                }
                Stage::Tunnel(pipe.clone())
            }
            None => Stage::Ending(None),
        };
    }

    /// Writes what the body brings. `Writable` goes on with it when the machine takes no more.
    fn stream(&mut self, reply: &mut Reply<'_>, waker: &Waker) -> Result<Option<Went>, Broken> {
        let Stage::Streaming { more, rest } = &mut self.stage else { return Ok(None) };
        while let Some(data) = rest {
            let part = data.chunk();
            let (len, taken) = (part.len(), reply.write(part).map_err(|_| Broken)?);
            data.advance(taken);
            if taken < len {
                return Ok(Some(Went::Waits));
            }
            if !data.has_remaining() {
                *rest = None;
            }
        }
        if !*more {
            self.stage = Stage::Over; // the machine knows that this was all
            return Ok(None);
        }
        let source = self.seat.as_mut().and_then(|seat| seat.body.as_mut().as_pin_mut()).ok_or(Broken)?;
        match guarded(|| source.poll_frame(&mut Context::from_waker(waker))).ok_or(Broken)? {
            Poll::Pending => return Ok(Some(Went::Waits)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => *rest = Some(data).filter(Buf::has_remaining),
                Err(frame) => self.stage = Stage::Ending(frame.into_trailers().ok()),
            },
            Poll::Ready(None) => self.stage = Stage::Ending(None),
            Poll::Ready(Some(Err(_))) => return Err(Broken),
        }
        Ok(None)
    }

    /// Bytes of a tunnel, both ways.
    fn pump(&mut self, pipe: &Arc<Pipe>, reply: &mut Reply<'_>) -> Went {
        let done = pipe.outgoing(|bytes| reply.write(bytes).ok());
        let taken = pipe.taken();
        if taken > 0 {
            reply.release(taken);
        }
        match done {
            false => Went::Waits,
            true => match reply.finish() {
                Err(Misuse::NoRoom) => Went::NoRoom,
                _ if pipe.is_ended() => {
                    self.stage = Stage::Over;
                    Went::Over
                }
                // What the peer still says is told, until it ends, too.
                _ => Went::Waits,
            },
        }
    }
}

impl<F, B: HttpBody> Exchange<F, B> {
    /// It is over, and all that belongs to it is dropped. Gives its seat back, empty.
    pub(super) fn leave(&mut self) -> Option<Seat<F, B>> {
        if let Some(intake) = self.intake.take() {
            intake.fail(crate::tower::body::BodyError::Gone);
        }
        if let Some(pipe) = self.pipe.take() {
            pipe.over();
        }
        // Whatever the service's values do when they are dropped stays here, too.
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if !matches!(stage, Stage::Over) {
            guarded(|| drop(stage));
        }
        let mut seat = self.seat.take()?;
        seat.clear();
        Some(seat)
    }
}

impl<F, B: HttpBody> Drop for Exchange<F, B> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The response can not be completed: its body failed, or is not what its head says.
struct Broken;

/// How a response's content is framed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Framing {
    /// All of it is here.
    Whole,
    Sized(u64),
    Streamed,
}

/// Of a response that sends no content: what its head is to say about it.
fn silent_framing(status: StatusCode, length: Option<u64>) -> Framing {
    match (status.as_u16(), length) {
        (204 | 205 | 304, _) => Framing::Whole,
        (_, Some(length)) => Framing::Sized(length),
        (_, None) => Framing::Streamed,
    }
}

/// A body of known length is looked at once: if all of it is here, it goes with its head.
fn framing<B: HttpBody>(
    declared: Option<u64>,
    body: &mut Pin<&mut B>,
    first: &mut Option<B::Data>,
    cx: &mut Context<'_>,
) -> Framing {
    if first.is_none() && body.is_end_stream() {
        return Framing::Whole;
    }
    // What was looked at before, when there was no room for the head, counts as well.
    let before = first.as_ref().map_or(0, |data| data.remaining() as u64);
    let exact = body.size_hint().exact().map(|left| left.saturating_add(before));
    let Some(length) = exact.or(declared) else { return Framing::Streamed };
    if length == 0 {
        return Framing::Whole;
    }
    if first.is_none()
        && let Some(Poll::Ready(Some(Ok(frame)))) = guarded(|| body.as_mut().poll_frame(cx))
    {
        *first = frame.into_data().ok();
    }
    let whole = |data: &B::Data| data.remaining() as u64 == length && data.chunk().len() == data.remaining();
    if first.as_ref().is_some_and(whole) { Framing::Whole } else { Framing::Sized(length) }
}

/// Says that there is no other response. Whatever state the service is in, an HTTP/1.1 connection does not go on with it.
fn refuse(status: StatusCode, facts: Facts, reply: &mut Reply<'_>) -> Result<(), Misuse> {
    if facts.version != Version::Http2 {
        reply.close();
    }
    reply.respond(status.as_u16(), &[], Content::Whole(b"")).map(|_| ())
}

fn end(reply: &mut Reply<'_>, trailers: Option<&HeaderMap>) -> Result<(), Misuse> {
    let fields = trailers.map(head::trailer_fields).unwrap_or_default();
    if fields.is_empty() {
        return reply.finish();
    }
    match reply.trailers(&fields) {
        Ok(()) => Ok(()),
        Err(Misuse::NoRoom) => Err(Misuse::NoRoom),
        Err(_) => reply.finish(), // content of a known length has no place for them, or they may not be sent
    }
}
