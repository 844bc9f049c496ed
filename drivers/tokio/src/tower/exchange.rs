//! In: one request's way through its service, polled when somebody wakes it. Out: the answer, as fast as the machine takes it.
//!
//! ```text
//!  Waiting --service ready--> Running --response--> Answering --+--> Streaming --> Ending --> Over
//!                                |  error, panic                +--> Tunnel ----------------> Over
//!                                +---------------> Refusing ----+--------------------------> Over
//! ```

use crate::tower::body::{Body, Intake};
use crate::tower::head;
use crate::tower::ready::Slot;
use crate::tower::upgrade::Pipe;
use bytes::Buf;
use http::response::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    pub(super) stage: Stage<F, B>,
    /// Its body, until that is complete or nobody wants it.
    pub(super) intake: Option<Arc<Intake>>,
    /// What it may be upgraded to.
    pub(super) pipe: Option<Arc<Pipe>>,
    #[cfg(feature = "hyper-upgrade")]
    pub(super) offer: Option<crate::tower::hyper_upgrade::Offer>,
    waker: Waker,
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

pub(super) enum Stage<F, B: HttpBody> {
    /// For the service to be ready.
    Waiting(Box<Request<Body>>),
    Running(Pin<Box<F>>),
    /// A response whose head is to be written.
    Answering(Box<Answer<B>>),
    Streaming {
        /// `None`: all of it is in `rest`.
        body: Option<Pin<Box<B>>>,
        rest: Option<B::Data>,
    },
    /// Only the end is to be written, once there is room.
    Ending(Option<HeaderMap>),
    /// No response came, or none that can be sent.
    Refusing(StatusCode),
    Tunnel(Arc<Pipe>),
    Over,
}

/// A response whose head was not written yet.
pub(super) struct Answer<B: HttpBody> {
    parts: Parts,
    body: Pin<Box<B>>,
    /// What was taken from the body in advance.
    first: Option<B::Data>,
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

/// What happens to a future's panic is no other's business.
fn guarded<T>(poll: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(poll)).ok()
}

impl<F, B, E> Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
{
    pub(super) fn new(id: Id, facts: Facts, slot: &Arc<Slot>, stage: Stage<F, B>) -> Exchange<F, B> {
        Exchange {
            id,
            facts,
            stage,
            intake: None,
            pipe: None,
            #[cfg(feature = "hyper-upgrade")]
            offer: None,
            waker: Waker::from(slot.clone()),
        }
    }

    /// Nothing of it was said, and nobody has looked at its body: the client still waits for 100 (Continue).
    pub(super) fn is_undecided(&self) -> bool {
        let unread = self.intake.as_ref().is_some_and(|intake| intake.is_untouched());
        unread && self.facts.expects && matches!(self.stage, Stage::Waiting(_) | Stage::Running(_))
    }

    /// Goes on as far as it can.
    pub(super) fn advance(&mut self, mut reply: Reply<'_>, date: &str) -> Went {
        self.give_back(&mut reply);
        let mut parts = PARTS;
        loop {
            let went = match &mut self.stage {
                Stage::Waiting(_) => Some(Went::Waits),
                Stage::Running(_) => self.run(),
                Stage::Answering(_) => self.answer(&mut reply, date),
                Stage::Streaming { .. } if parts == 0 => Some(Went::Busy),
                Stage::Streaming { .. } => {
                    parts -= 1;
                    match self.stream(&mut reply) {
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
            Stage::Answering(_) => Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
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
    fn run(&mut self) -> Option<Went> {
        let Stage::Running(future) = &mut self.stage else { return None };
        let mut cx = Context::from_waker(&self.waker);
        self.stage = match guarded(|| future.as_mut().poll(&mut cx)) {
            Some(Poll::Pending) => return Some(Went::Waits),
            Some(Poll::Ready(Ok(response))) => {
                let (parts, body) = response.into_parts();
                Stage::Answering(Box::new(Answer { parts, body: Box::pin(body), first: None }))
            }
            Some(Poll::Ready(Err(_))) | None => Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
        };
        None
    }

    /// Writes the response's head, with its content if that is here whole.
    fn answer(&mut self, reply: &mut Reply<'_>, date: &str) -> Option<Went> {
        let Stage::Answering(answer) = &mut self.stage else { return None };
        let Answer { parts, body, first } = &mut **answer;
        let status = parts.status;
        let accepts = status == StatusCode::SWITCHING_PROTOCOLS || (self.facts.is_connect && status.is_success());
        let Some(fields) = head::fields(&parts.headers, date) else {
            self.stage = Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR);
            return None;
        };
        if head::asks_to_close(&parts.headers) {
            reply.close();
        }
        let said = if accepts {
            let protocol = parts.headers.get(http::header::UPGRADE).and_then(|value| value.to_str().ok());
            reply.upgrade(protocol.unwrap_or_default(), &fields).map(|()| None)
        } else {
            let silent = head::is_silent(self.facts.is_head, status);
            let declared = head::declared(&parts.headers);
            let framing = match silent {
                // No content may stand for content that was taken away because of HEAD: then its length is not known.
                true => silent_framing(status, declared.or(body.size_hint().exact().filter(|&length| length > 0))),
                false => framing(declared, body, first, &mut Context::from_waker(&self.waker)),
            };
            let content = match (framing, &*first) {
                (Framing::Whole, Some(data)) => Content::Whole(data.chunk()),
                (Framing::Whole, None) => Content::Whole(b""),
                (Framing::Sized(length), _) => Content::Sized(length),
                (Framing::Streamed, _) => Content::Streamed,
            };
            let whole = framing == Framing::Whole;
            reply.respond(status.as_u16(), &fields, content).map(|taken| Some((taken, silent, whole)))
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
        let Stage::Answering(answer) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let Answer { body, mut first, .. } = *answer;
        if silent && !whole {
            self.stage = Stage::Ending(None);
            return;
        }
        if silent {
            return;
        }
        if let Some(data) = &mut first {
            data.advance(if whole { taken } else { 0 });
        }
        let rest = first.filter(Buf::has_remaining);
        self.stage = match (whole, &rest) {
            (true, None) => Stage::Over,
            (true, Some(_)) => Stage::Streaming { body: None, rest },
            (false, _) => Stage::Streaming { body: Some(body), rest },
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
    fn stream(&mut self, reply: &mut Reply<'_>) -> Result<Option<Went>, Broken> {
        let Stage::Streaming { body, rest } = &mut self.stage else { return Ok(None) };
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
        let Some(source) = body else {
            self.stage = Stage::Over; // the machine knows that this was all
            return Ok(None);
        };
        let mut cx = Context::from_waker(&self.waker);
        match guarded(|| source.as_mut().poll_frame(&mut cx)).ok_or(Broken)? {
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

impl<F, B: HttpBody> Drop for Exchange<F, B> {
    fn drop(&mut self) {
        if let Some(intake) = &self.intake {
            intake.fail(crate::tower::body::BodyError::Gone);
        }
        if let Some(pipe) = &self.pipe {
            pipe.over();
        }
        // Whatever the service's values do when they are dropped stays here, too.
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let _ = guarded(|| drop(stage));
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
    body: &mut Pin<Box<B>>,
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
