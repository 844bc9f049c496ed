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
    /// Answers one request. A panic is answered with 500.
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
}

/// How long a client that is turned away is asked to wait, in seconds (RFC 9110 §10.2.3).
pub(crate) const RETRY_AFTER: &str = "1";

impl Calls {
    pub(crate) fn new(handler: Arc<dyn Handler>, pool: Option<Pool>, expect: Expect, peer: Peer, post: Post) -> Calls {
        Calls { handler, pool, expect, peer, post, probe: None, open: Vec::new() }
    }

    pub(crate) fn with_probe(self, probe: Option<Arc<Probe>>) -> Calls {
        Calls { probe, ..self }
    }

    fn call(&mut self, reply: &mut Reply<'_>, request: Request<Vec<u8>>) -> Result<(), Misuse> {
        let handler = self.handler.clone();
        let later = self.post.later(reply.id());
        let Some(pool) = &self.pool else {
            answer(&*handler, request, later);
            return Ok(());
        };
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
}

fn answer(handler: &dyn Handler, request: Request<Vec<u8>>, later: Later) {
    match catch_unwind(AssertUnwindSafe(|| handler.answer(request))) {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let fields: Vec<(&str, &str)> = head
                .headers
                .iter()
                .filter(|(name, _)| !is_ours(name))
                .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
                .collect();
            later.respond(head.status.as_u16(), &fields, body);
        }
        Err(_) => later.panicked(),
    }
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
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
