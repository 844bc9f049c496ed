//! In: whole requests, owned. Out: whole responses, made inline or on the pool that processes.

use crate::later::{Later, Post};
use crate::pool::Pool;
use crate::probe::{Probe, now};
use crate::service::{Peer, Service};
use http::{Request, Response, StatusCode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use vestibule::{Content, Event, Expect, Head, Id, Misuse, Reply, Version};

/// Answers whole requests. Of one connection's requests over HTTP/2, and of different connections', many are answered at once; over HTTP/1.1
/// the answers are in the order of the requests.
///
/// The request's extensions hold the [`Peer`]. Functions `Fn(http::Request<Vec<u8>>) -> http::Response<Vec<u8>>` are handlers.
pub trait Handler: Send + Sync {
    /// Answers one request. A panic is answered with 500, and so is a response with a field that is not UTF-8.
    fn answer(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>>;
}

impl<F: Fn(Request<Vec<u8>>) -> Response<Vec<u8>> + Send + Sync> Handler for F {
    fn answer(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        self(request)
    }
}

/// The service that makes calls of a handler.
pub(crate) struct Calls {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) pool: Option<Pool>,
    /// How bodies are to come.
    pub(crate) expect: Expect,
    pub(crate) peer: Peer,
    pub(crate) post: Post,
    probe: Option<Arc<Probe>>,
    /// Requests whose bodies are on their way.
    open: Vec<(Id, Request<Vec<u8>>)>,
    /// Answers that are under way.
    rest: Vec<Rest>,
}

/// What of an answer was not taken yet.
struct Rest {
    id: Id,
    content: Vec<u8>,
    taken: usize,
}

/// How long a client that is turned away is asked to wait, in seconds (RFC 9110 §10.2.3).
pub(crate) const RETRY_AFTER: &str = "1";

impl Calls {
    pub(crate) fn new(handler: Arc<dyn Handler>, pool: Option<Pool>, expect: Expect, peer: Peer, post: Post) -> Calls {
        Calls { handler, pool, expect, peer, post, probe: None, open: Vec::new(), rest: Vec::new() }
    }

    pub(crate) fn with_probe(self, probe: Option<Arc<Probe>>) -> Calls {
        Calls { probe, ..self }
    }

    fn call(&mut self, reply: &mut Reply<'_>, request: Request<Vec<u8>>) -> Result<(), Misuse> {
        let Some(pool) = &self.pool else { return self.call_here(reply, request) };
        let (handler, later) = (self.handler.clone(), self.post.later(reply.id()));
        let probe = self.probe.clone();
        let back = pool.send((later, request), move |(later, request)| {
            let (since, bytes) = (probe.as_ref().map(|_| now()), request.body().len());
            answer(&*handler, request, later);
            if let (Some(probe), Some(since)) = (probe, since) {
                probe.called(since, bytes);
            }
        });
        if let Some((later, _)) = back {
            self.probe.iter().for_each(|probe| probe.refused());
            later.respond(503, &[("retry-after", RETRY_AFTER)], Vec::new());
        }
        Ok(())
    }

    /// On this thread, and its answer straight into the outbox.
    fn call_here(&mut self, reply: &mut Reply<'_>, request: Request<Vec<u8>>) -> Result<(), Misuse> {
        let Ok(response) = catch_unwind(AssertUnwindSafe(|| self.handler.answer(request))) else {
            self.post.later(reply.id()).panicked();
            return Ok(());
        };
        let (head, content) = response.into_parts();
        let Some(fields) = fields(&head.headers) else {
            return reply.respond(500, &[], Content::Whole(b"")).map(|_| ());
        };
        let status = head.status.as_u16();
        match reply.respond(status, &fields, Content::Whole(&content)) {
            Ok(taken) if taken < content.len() => self.rest.push(Rest { id: reply.id(), content, taken }),
            Err(Misuse::NoRoom) => self.post.later(reply.id()).respond(status, &fields, content),
            said => return said.map(|_| ()),
        }
        Ok(())
    }

    /// There is room again for an answer of this thread's.
    fn go_on(&mut self, mut reply: Reply<'_>) -> Result<(), Misuse> {
        let Some(place) = self.rest.iter().position(|rest| rest.id == reply.id()) else { return Ok(()) };
        let Some(rest) = self.rest.get_mut(place) else { return Ok(()) };
        rest.taken += reply.write(rest.content.get(rest.taken..).unwrap_or_default())?;
        if rest.taken >= rest.content.len() {
            self.rest.swap_remove(place);
        }
        Ok(())
    }
}

fn answer(handler: &dyn Handler, request: Request<Vec<u8>>, later: Later) {
    match catch_unwind(AssertUnwindSafe(|| handler.answer(request))) {
        Ok(response) => {
            let (head, content) = response.into_parts();
            match fields(&head.headers) {
                Some(fields) => later.respond(head.status.as_u16(), &fields, content),
                None => drop(later), // says 500
            }
        }
        Err(_) => later.panicked(),
    }
}

/// The fields that a handler says, without those of framing. `None`: one is not UTF-8, and cannot be sent.
fn fields(headers: &http::HeaderMap) -> Option<Vec<(&str, &str)>> {
    let lines = headers.iter().filter(|(name, _)| !is_ours(name));
    lines.map(|(name, value)| Some((name.as_str(), std::str::from_utf8(value.as_bytes()).ok()?))).collect()
}

/// Framing is the machine's own (RFC 9112 §6).
fn is_ours(name: &http::HeaderName) -> bool {
    ["content-length", "transfer-encoding", "connection"].contains(&name.as_str())
}

/// The head of a request in the types of the `http` crate.
fn request_of(head: &Head<'_>, peer: Peer) -> Result<Request<Vec<u8>>, http::Error> {
    let version = match head.version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http2 => http::Version::HTTP_2,
        _ => http::Version::HTTP_11,
    };
    let mut request = Request::builder().method(head.method).uri(head.target).version(version);
    for (name, value) in head.fields.iter() {
        request = request.header(name, value);
    }
    request.extension(peer).body(Vec::new())
}

impl Service for Calls {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => match request_of(&request.head, self.peer) {
                Ok(owned) if request.has_body => {
                    request.reply.expect(self.expect);
                    self.open.push((request.reply.id(), owned));
                    Ok(())
                }
                Ok(owned) => self.call(&mut request.reply, owned),
                // What the `http` crate takes for no target.
                Err(_) => {
                    let status = StatusCode::BAD_REQUEST.as_u16();
                    request.reply.respond(status, &[], Content::Whole(b"")).map(|_| ())
                }
            },
            Event::Body(mut body) => {
                let id = body.reply.id();
                let Some(place) = self.open.iter().position(|(other, _)| *other == id) else { return Ok(()) };
                let (_, mut request) = self.open.swap_remove(place);
                *request.body_mut() = body.bytes.to_vec();
                self.call(&mut body.reply, request)
            }
            Event::Aborted { id, .. } => {
                self.open.retain(|(other, _)| *other != id);
                self.rest.retain(|rest| rest.id != id);
                Ok(())
            }
            Event::Writable(reply) => self.go_on(reply),
            _ => Ok(()),
        }
    }
}
