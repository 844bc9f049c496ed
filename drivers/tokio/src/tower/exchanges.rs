//! In: what the machine says of a connection's exchanges, and who was woken. Out: the service called, its futures polled, their answers given to
//! the machine. All of it within one turn, by the connection's own future: dropping that drops every exchange.

use crate::tower::body::{Body, BodyError, Intake};
use crate::tower::date::Date;
use crate::tower::exchange::{Exchange, Facts, Stage, Went};
use crate::tower::head;
use crate::tower::options::{Peer, Shared};
use crate::tower::ready::{Ready, Slot};
use crate::tower::upgrade::{Pipe, Upgrade};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;
use vestibule::{Event, Expect, OwnedSession, Turn, Version, Violation};

/// The exchanges of a connection and their service.
pub(super) struct Exchanges<S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    /// `None` once it has failed or panicked: then what comes is refused.
    service: Option<S>,
    places: Vec<Place<S::Future, B>>,
    free: Vec<usize>,
    pub(super) open: usize,
    pub(super) ready: Arc<Ready>,
    /// Those that wait for the service to be ready, in their order.
    asking: VecDeque<usize>,
    /// Those that wait for room in the outbox.
    no_room: Vec<usize>,
    /// One whose client waits for 100 (Continue), while nobody knows whether its body is wanted. Until then the connection stands.
    held: Option<usize>,
    list: Vec<usize>,
    date: Date,
    peer: Peer,
    session: Option<Arc<OwnedSession>>,
    pub(super) fault: Option<Violation>,
    /// The service has failed.
    pub(super) failed: bool,
}

/// Where an exchange is kept. Its waker is made once.
struct Place<F, B: HttpBody> {
    slot: Arc<Slot>,
    generation: u32,
    exchange: Option<Exchange<F, B>>,
}

impl<S, B> Exchanges<S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    pub(super) fn new(service: S, peer: Peer) -> Exchanges<S, B> {
        Exchanges {
            service: Some(service),
            places: Vec::new(),
            free: Vec::new(),
            open: 0,
            ready: Arc::new(Ready::default()),
            asking: VecDeque::new(),
            no_room: Vec::new(),
            held: None,
            list: Vec::new(),
            date: Date::default(),
            peer,
            session: None,
            fault: None,
            failed: false,
        }
    }

    /// One of them is a tunnel, in which the peer's end is only half of it.
    pub(super) fn has_tunnel(&self) -> bool {
        self.places.iter().filter_map(|place| place.exchange.as_ref()).any(|x| matches!(x.stage, Stage::Tunnel(_)))
    }

    /// The connection stands until a handler decides about a body. `due`: long enough.
    pub(super) fn is_held(&mut self, due: bool) -> bool {
        let Some(at) = self.held else { return false };
        let undecided =
            self.places.get(at).and_then(|place| place.exchange.as_ref()).is_some_and(Exchange::is_undecided);
        if due || !undecided {
            self.held = None;
        }
        self.held.is_some()
    }

    /// There is room again: those who wait for it are to be polled.
    pub(super) fn room(&mut self) -> bool {
        for at in self.no_room.drain(..) {
            if let Some(place) = self.places.get(at) {
                place.slot.notify();
            }
        }
        !self.ready.is_empty()
    }

    /// One thing that happened.
    pub(super) fn event(&mut self, event: Event<'_>, shared: &Shared) {
        match event {
            Event::Request(request) => self.request(request, shared),
            Event::Body(body) => {
                if let Some(intake) = self.find(body.tag).and_then(|exchange| exchange.intake.as_ref()) {
                    intake.part(body.bytes, body.last);
                }
            }
            Event::Trailers(trailers) => {
                if let Some(intake) = self.find(trailers.tag).and_then(|exchange| exchange.intake.as_ref()) {
                    intake.trailers(head::headers(trailers.fields).unwrap_or_default());
                }
            }
            Event::Writable(mut reply) => {
                let tag = reply.tag();
                let Some(at) = self.at(tag) else { return };
                let date = if shared.date { self.date.now() } else { "" };
                let Some(Place { exchange: Some(exchange), .. }) = self.places.get_mut(at) else { return };
                let went = exchange.advance(reply, date);
                self.went(at, went);
            }
            Event::Tunnel(tunnel) => {
                let Some(at) = self.at(tunnel.tag) else { return };
                let Some(Place { slot, exchange: Some(exchange), .. }) = self.places.get(at) else { return };
                if let Some(pipe) = &exchange.pipe {
                    pipe.incoming(tunnel.bytes, tunnel.last);
                }
                if tunnel.last {
                    slot.notify();
                }
            }
            Event::Aborted { tag, why, .. } => {
                let Some(at) = self.at(tag) else { return };
                self.fail(at, BodyError::Aborted(why));
            }
            Event::Hello(hello) => match shared.tls.as_ref().and_then(|tls| tls.choose(hello.sni, &mut hello.alpn())) {
                Some(tls) => hello.choose(tls),
                None => hello.refuse(),
            },
            Event::Fault(violation) => self.fault = Some(violation),
            _ => {}
        }
    }

    fn fail(&mut self, at: usize, error: BodyError) {
        if let Some(intake) = self.places.get(at).and_then(|place| place.exchange.as_ref()?.intake.as_ref()) {
            intake.fail(error);
        }
        self.remove(at);
    }

    /// The connection is gone: so are they all.
    pub(super) fn clear(&mut self) {
        for at in 0..self.places.len() {
            self.fail(at, BodyError::Aborted(self.fault));
        }
    }

    fn request(&mut self, request: vestibule::Request<'_>, shared: &Shared) {
        let vestibule::Request { head, has_body, tls, mut reply, .. } = request;
        if let (Some(session), None) = (&tls, &self.session) {
            self.session = Some(Arc::new(OwnedSession::from(session)));
        }
        let at = self.place();
        let Some(place) = self.places.get_mut(at) else { return };
        reply.set_tag(u64::from(place.generation) << 32 | at as u64).expect(Expect::Manual);
        let facts = Facts {
            version: head.version,
            is_head: head.method == "HEAD",
            is_connect: head.method == "CONNECT",
            expects: head.fields.all("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")),
        };
        let refused = Stage::Refusing(StatusCode::BAD_REQUEST);
        let mut exchange = Exchange::new(reply.id(), facts, &place.slot, refused);
        if let Some(mut made) = head::request(head, tls.is_some(), Body::empty(), shared.decodes) {
            if has_body {
                let intake = Intake::new(place.slot.clone(), head::declared(made.headers()));
                *made.body_mut() = Body::new(intake.clone());
                exchange.intake = Some(intake);
            }
            if head.protocol.is_some() || facts.is_connect {
                let pipe = Pipe::new(place.slot.clone());
                offer_upgrade(&mut made, &mut exchange, pipe, head.protocol);
            }
            made.extensions_mut().insert(self.peer);
            if let Some(session) = &self.session {
                made.extensions_mut().insert(session.clone());
            }
            exchange.stage = Stage::Waiting(Box::new(made));
            self.asking.push_back(at);
        } else {
            place.slot.notify();
        }
        if facts.expects && has_body && facts.version != Version::Http2 {
            self.held = Some(at);
        }
        place.exchange = Some(exchange);
        self.open += 1;
    }

    /// An empty place.
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            let at = self.places.len();
            self.places.push(Place { slot: Slot::new(at, self.ready.clone()), generation: 0, exchange: None });
            at
        })
    }

    fn remove(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at) else { return };
        if place.exchange.take().is_some() {
            place.generation = place.generation.wrapping_add(1);
            self.free.push(at);
            self.open -= 1;
            self.asking.retain(|&other| other != at);
            self.held = self.held.filter(|&other| other != at);
        }
    }

    /// The place that a tag names, unless its exchange is over.
    fn at(&self, tag: u64) -> Option<usize> {
        let at = (tag & u64::from(u32::MAX)) as usize;
        let place = self.places.get(at)?;
        (u64::from(place.generation) == tag >> 32).then_some(at)
    }

    fn find(&self, tag: u64) -> Option<&Exchange<S::Future, B>> {
        self.places.get(self.at(tag)?)?.exchange.as_ref()
    }

    /// Calls the service where it is ready, and polls who was woken. True if anybody was.
    /// `empty`: nothing lies in the outbox yet, so what the first one has for it never fits, or now.
    pub(super) fn work(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>, empty: bool, shared: &Shared) -> bool {
        self.ask(cx);
        let mut list = std::mem::take(&mut self.list);
        self.ready.take(&mut list);
        let worked = !list.is_empty();
        for (order, at) in list.drain(..).enumerate() {
            let date = if shared.date { self.date.now() } else { "" };
            let Some(place) = self.places.get_mut(at) else { continue };
            place.slot.seen();
            let Some(exchange) = &mut place.exchange else { continue };
            let mut went = match turn.reply(exchange.id) {
                Some(reply) => exchange.advance(reply, date),
                None => Went::Over,
            };
            if went == Went::NoRoom
                && empty
                && order == 0
                && let Some(reply) = turn.reply(exchange.id)
            {
                exchange.give_up_head(reply);
                went = Went::Busy;
            }
            self.went(at, went);
        }
        self.list = list;
        worked
    }

    fn went(&mut self, at: usize, went: Went) {
        match went {
            Went::Waits => {}
            Went::NoRoom => self.no_room.push(at),
            Went::Busy => {
                if let Some(place) = self.places.get(at) {
                    place.slot.notify();
                }
            }
            Went::Over => self.remove(at),
        }
    }

    /// Calls the service for those who wait, as far as it is ready.
    fn ask(&mut self, cx: &mut Context<'_>) {
        while let Some(&at) = self.asking.front() {
            let called = match &mut self.service {
                None => Some(None),
                Some(service) => match catch_unwind(AssertUnwindSafe(|| service.poll_ready(cx))) {
                    Ok(Poll::Pending) => None,
                    Ok(Poll::Ready(Ok(()))) => Some(self.places.get_mut(at).and_then(|place| {
                        let exchange = place.exchange.as_mut()?;
                        let Stage::Waiting(request) = std::mem::replace(&mut exchange.stage, Stage::Over) else {
                            return None;
                        };
                        catch_unwind(AssertUnwindSafe(|| Box::pin(service.call(*request)))).ok()
                    })),
                    Ok(Poll::Ready(Err(_))) | Err(_) => Some(None),
                },
            };
            let Some(called) = called else { return };
            if called.is_none() {
                let service = self.service.take();
                self.failed = true;
                let _ = catch_unwind(AssertUnwindSafe(|| drop(service)));
            }
            self.asking.pop_front();
            if let Some(Place { slot, exchange: Some(exchange), .. }) = self.places.get_mut(at) {
                exchange.stage = match called {
                    Some(future) => Stage::Running(future),
                    None => Stage::Refusing(StatusCode::INTERNAL_SERVER_ERROR),
                };
                slot.notify();
            }
        }
    }
}

/// What lets a service take the exchange over.
fn offer_upgrade<F, B, E>(
    request: &mut Request<Body>,
    exchange: &mut Exchange<F, B>,
    pipe: Arc<Pipe>,
    protocol: Option<&str>,
) where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody,
{
    let upgrade = Upgrade::new(pipe.clone());
    exchange.pipe = Some(pipe);
    #[cfg(feature = "hyper-upgrade")]
    {
        if let Some((offer, on_upgrade)) = crate::tower::hyper_upgrade::offer(&upgrade) {
            exchange.offer = Some(offer);
            request.extensions_mut().insert(on_upgrade);
        }
        if let (true, Some(protocol)) = (exchange.facts.is_connect, protocol) {
            request.extensions_mut().insert(hyper::ext::Protocol::from(protocol));
        }
    }
    let _ = protocol;
    request.extensions_mut().insert(upgrade);
}
