//! In: what the machine says of a connection's exchanges, and who was woken. Out: the service called, its futures polled, their answers given to
//! the machine. All of it within one turn, by the connection's own future: dropping that drops every exchange.

use crate::tower::body::{Body, BodyError, Intake};
use crate::tower::date::Date;
use crate::tower::exchange::{Exchange, Facts, Stage, Went};
use crate::tower::head;
use crate::tower::options::{Peer, Shared};
use crate::tower::ready::{Ready, Slot};
use crate::tower::seat::{Seat, Seats, guarded};
use crate::tower::upgrade::{Pipe, Upgrade};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tower_service::Service;
use vestibule::{Event, Expect, Instant, OwnedSession, Reply, Turn, Version, Violation};

/// The exchanges of a connection and their service.
pub(super) struct Exchanges<S, B>
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: HttpBody,
{
    /// `None` once it has failed or panicked: then what comes is refused.
    service: Option<S>,
    places: Vec<Place<S::Future, B>>,
    seats: Seats<S::Future, B>,
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
    /// What time it is in this turn.
    pub(super) now: Instant,
    peer: Peer,
    session: Option<Arc<OwnedSession>>,
    pub(super) fault: Option<Violation>,
    /// The service has failed.
    pub(super) failed: bool,
}

/// Where an exchange is kept. Its waker is made once.
struct Place<F, B: HttpBody> {
    slot: Arc<Slot>,
    waker: Waker,
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
            seats: Seats::new(),
            free: Vec::new(),
            open: 0,
            ready: Arc::new(Ready::default()),
            asking: VecDeque::new(),
            no_room: Vec::new(),
            held: None,
            list: Vec::new(),
            date: Date::default(),
            now: Instant::ZERO,
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

    /// The connection waits, and nothing is under way.
    pub(super) fn shed(&mut self) {
        if self.open == 0 {
            self.seats.shed();
        }
    }

    /// One thing that happened.
    pub(super) fn event(&mut self, cx: &mut Context<'_>, event: Event<'_>, shared: &Shared) {
        match event {
            Event::Request(request) => self.request(cx, request, shared),
            Event::Body(body) => {
                if let Some(intake) = self.find(body.tag).and_then(|exchange| exchange.intake.as_ref()) {
                    intake.part(body.bytes, body.last);
                }
            }
            Event::Trailers(trailers) => {
                if let Some(intake) = self.find(trailers.tag).and_then(|exchange| exchange.intake.as_ref()) {
                    intake.trailers(head::trailers(trailers.fields).unwrap_or_default());
                }
            }
            Event::Writable(mut reply) => {
                let tag = reply.tag();
                let Some(at) = self.at(tag) else { return };
                let date = if shared.date { self.date.at(self.now) } else { "" };
                let Some(Place { exchange: Some(exchange), waker, .. }) = self.places.get_mut(at) else { return };
                let went = exchange.advance(reply, date, waker);
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

    fn request(&mut self, cx: &mut Context<'_>, request: vestibule::Request<'_>, shared: &Shared) {
        let vestibule::Request { head, has_body, tls, mut reply, .. } = request;
        if let (Some(session), None) = (&tls, &self.session) {
            self.session = Some(Arc::new(OwnedSession::from(session)));
        }
        let at = self.place();
        let Some(place) = self.places.get_mut(at) else { return };
        reply.set_tag(u64::from(place.generation) << 32 | at as u64).expect(Expect::Manual);
        let mut facts = Facts {
            version: head.version,
            is_head: head.method == "HEAD",
            is_connect: head.method == "CONNECT",
            expects: false,
        };
        // It stays where it is until the service takes it.
        let mut made = head::request(head, tls.is_some(), Body::empty(), shared.decodes);
        facts.expects = has_body && made.as_ref().is_some_and(|made| head::expects(made.headers()));
        let mut exchange = Exchange::new(reply.id(), facts, Stage::Refusing(StatusCode::BAD_REQUEST));
        self.open += 1;
        let Some(request) = &mut made else {
            place.slot.notify();
            place.exchange = Some(exchange);
            return;
        };
        if has_body {
            let intake = Intake::new(place.slot.clone(), head::declared(request.headers()));
            *request.body_mut() = Body::new(intake.clone());
            exchange.intake = Some(intake);
        }
        if head.protocol.is_some() || facts.is_connect {
            let pipe = Pipe::new(place.slot.clone());
            offer_upgrade(request, &mut exchange, pipe, head.protocol);
        }
        request.extensions_mut().insert(self.peer);
        if let Some(session) = &self.session {
            request.extensions_mut().insert(session.clone());
        }
        if facts.expects && facts.version != Version::Http2 {
            self.held = Some(at);
        }
        // With its body it waits for what has come of that: otherwise its future would be polled once for nothing.
        if has_body || !self.asking.is_empty() {
            exchange.wait(made);
            place.exchange = Some(exchange);
            self.asking.push_back(at);
            return;
        }
        self.start(cx, at, exchange, &mut made, reply, shared);
    }

    /// A request that is complete: its service is called at once, and most often has its answer at once.
    fn start(
        &mut self,
        cx: &mut Context<'_>,
        at: usize,
        mut exchange: Exchange<S::Future, B>,
        made: &mut Option<Request<Body>>,
        reply: Reply<'_>,
        shared: &Shared,
    ) {
        let went = match self.call(cx, made) {
            None => {
                self.asking.push_back(at);
                exchange.wait(made.take());
                Went::Waits
            }
            Some(seat) => {
                exchange.sit(seat);
                let date = if shared.date { self.date.at(self.now) } else { "" };
                let Some(place) = self.places.get(at) else { return };
                exchange.advance(reply, date, &place.waker)
            }
        };
        if went == Went::Over {
            return self.over(at, &mut exchange); // it has never had its place
        }
        if let Some(place) = self.places.get_mut(at) {
            place.exchange = Some(exchange);
        }
        self.went(at, went);
    }

    /// Calls the service, if it is ready. `Some(None)`: it has failed, now or before.
    #[allow(clippy::option_option)]
    fn call(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Option<Request<Body>>,
    ) -> Option<Option<Seat<S::Future, B>>> {
        let Some(service) = &mut self.service else { return Some(None) };
        let mut seat = self.seats.take();
        let called = guarded(|| match service.poll_ready(cx) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                seat.future.set(Some(service.call(request.take()?)));
                Some(true)
            }
            Poll::Ready(Err(_)) => Some(false),
        });
        match called {
            Some(None) => {
                self.seats.give(seat);
                None
            }
            Some(Some(true)) => Some(Some(seat)),
            Some(Some(false)) | None => {
                let service = self.service.take();
                self.failed = true;
                guarded(|| drop(service));
                Some(None)
            }
        }
    }

    /// An empty place.
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            let at = self.places.len();
            let slot = Slot::new(at, self.ready.clone());
            let waker = Waker::from(slot.clone());
            self.places.push(Place { slot, waker, generation: 0, exchange: None });
            at
        })
    }

    fn remove(&mut self, at: usize) {
        if let Some(mut exchange) = self.places.get_mut(at).and_then(|place| place.exchange.take()) {
            self.over(at, &mut exchange);
        }
    }

    /// An exchange has left its place, and leaves its seat.
    fn over(&mut self, at: usize, exchange: &mut Exchange<S::Future, B>) {
        if let Some(seat) = exchange.leave() {
            self.seats.give(seat);
        }
        let Some(place) = self.places.get_mut(at) else { return };
        place.generation = place.generation.wrapping_add(1);
        self.free.push(at);
        self.open -= 1;
        if !self.asking.is_empty() {
            self.asking.retain(|&other| other != at);
        }
        self.held = self.held.filter(|&other| other != at);
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
            let date = if shared.date { self.date.at(self.now) } else { "" };
            let Some(place) = self.places.get_mut(at) else { continue };
            place.slot.seen();
            let Some(exchange) = &mut place.exchange else { continue };
            let mut went = match turn.reply(exchange.id) {
                Some(reply) => exchange.advance(reply, date, &place.waker),
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
            let exchange = self.places.get_mut(at).and_then(|place| place.exchange.as_mut());
            let Some(Exchange { stage: stage @ Stage::Waiting(_), .. }) = exchange else {
                self.asking.pop_front();
                continue;
            };
            let Stage::Waiting(request) = std::mem::replace(stage, Stage::Over) else { return };
            let mut request = Some(*request);
            let called = self.call(cx, &mut request);
            let Some(Place { slot, exchange: Some(exchange), .. }) = self.places.get_mut(at) else { return };
            let Some(seat) = called else {
                exchange.wait(request);
                return;
            };
            exchange.sit(seat);
            slot.notify();
            self.asking.pop_front();
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
