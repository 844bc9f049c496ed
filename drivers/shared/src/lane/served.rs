//! In: a machine and the service that answers it. Out: one go of both together, on whatever thread they are.

use crate::handler::RETRY_AFTER;
use crate::incident::What;
use crate::lane::{Inside, Letter};
use crate::later::{Answer, Post};
use crate::port::{Port, Right};
use crate::probe::{self, Stage, Trace, Watch};
use crate::service::{BoxService, Peer};
use crate::shared::Shared;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use vestibule::accept::proxy::Endpoints;
use vestibule::decode::job::Done;
use vestibule::{
    Config, Connection, Content, Event, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Turn, Version, Wait,
};

/// Who answers.
enum Seat {
    /// Nothing has been asked yet.
    Empty,
    Taken(BoxService),
    /// It has panicked: the connection only says its last words.
    Left,
}

/// One connection's machine and its service.
pub(crate) struct Served {
    connection: Connection<Arc<Config>>,
    crew: Crew,
}

/// What a go came to.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Went {
    pub(crate) pause: Pause,
    /// It waits for an answer or a result from elsewhere.
    pub(crate) awaits: bool,
    /// Answers wait for room.
    pub(crate) held: bool,
}

struct Crew {
    shared: Arc<Shared>,
    port: Arc<Port>,
    peer: Peer,
    post: Post,
    right: Arc<Mutex<Right>>,
    /// Whom the proxy names has as many connections as it may have.
    refused: bool,
    seat: Seat,
    open: Open,
    /// The exchanges that nobody will answer any more.
    to_refuse: Vec<Id>,
    /// Answers that came by mail.
    answers: Vec<Answer>,
    /// Results of jobs that came by mail.
    done: Vec<Done>,
    /// Jobs that are out.
    jobs: usize,
    /// No room where requests are processed: new ones are answered 503.
    full: bool,
    watch: Option<Watch>,
    trace: Trace,
}

impl Served {
    pub(crate) fn new(
        connection: Connection<Arc<Config>>,
        shared: &Arc<Shared>,
        port: &Arc<Port>,
        peer: Peer,
        post: &Post,
        right: &Arc<Mutex<Right>>,
    ) -> Served {
        let crew = Crew {
            shared: shared.clone(),
            port: port.clone(),
            peer,
            post: post.clone(),
            right: right.clone(),
            refused: false,
            seat: Seat::Empty,
            open: Open::default(),
            to_refuse: Vec::new(),
            answers: Vec::new(),
            done: Vec::new(),
            jobs: 0,
            full: false,
            watch: shared.probe().cloned().map(Watch::new),
            trace: Trace::new(&peer),
        };
        Served { connection, crew }
    }

    pub(crate) fn connection(&self) -> &Connection<Arc<Config>> {
        &self.connection
    }

    /// A trusted proxy says whose connection it is.
    pub(crate) fn is_for(&mut self, ends: Endpoints) {
        self.crew.is_for(ends);
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.crew.open.look_at > 0
    }

    pub(crate) fn retire(&mut self) {
        self.connection.retire();
    }

    pub(crate) fn drain(&mut self) {
        self.connection.drain();
    }

    pub(crate) fn shed(&mut self) {
        self.connection.shed();
    }

    /// New requests are answered 503 from here on, or no longer.
    pub(crate) fn refuse_new(&mut self, full: bool) {
        self.crew.full = full;
    }

    pub(crate) fn letter(&mut self, letter: Letter) {
        match letter.0 {
            Inside::Answer(id, part) => {
                let answers = &mut self.crew.answers;
                let place = answers.iter().position(|answer| answer.id == id).unwrap_or_else(|| {
                    answers.push(Answer::new(id));
                    answers.len() - 1
                });
                if let Some(answer) = answers.get_mut(place) {
                    answer.push(part);
                }
            }
            Inside::Done(done) => {
                self.crew.jobs = self.crew.jobs.saturating_sub(1);
                self.crew.done.push(*done);
            }
            _ => {}
        }
    }

    /// Events to the service, as many as come. What waits for nobody is refused then.
    ///
    /// # Errors
    /// The driver's mistake with the buffers.
    pub(crate) fn go<S, T>(
        &mut self,
        now: Instant,
        inbox: &mut Inbox<S>,
        outbox: &mut Outbox<T>,
    ) -> Result<Went, Misuse>
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        if let Some(watch) = &mut self.crew.watch {
            watch.turn();
        }
        let went = self.rounds(now, inbox, outbox);
        if let Some(watch) = &mut self.crew.watch {
            watch.turned(self.connection.stages());
        }
        went
    }

    fn rounds<S, T>(&mut self, now: Instant, inbox: &mut Inbox<S>, outbox: &mut Outbox<T>) -> Result<Went, Misuse>
    where
        S: AsRef<[u8]> + AsMut<[u8]>,
        T: AsRef<[u8]> + AsMut<[u8]>,
    {
        loop {
            let turn = self.connection.turn(now, inbox, outbox)?;
            let gone = self.crew.conduct(turn);
            if self.crew.refused {
                return Ok(Went { pause: Pause::Closed, awaits: false, held: false });
            }
            if gone.panicked {
                self.crew.leave();
                self.connection.drain();
            }
            if let Some(id) = gone.stuck.filter(|id| !self.crew.to_refuse.contains(id)) {
                if matches!(self.crew.seat, Seat::Taken(_)) {
                    self.crew.tell(What::Unanswered);
                }
                self.crew.to_refuse.push(id); // with the next turn
                continue;
            }
            let held = !self.crew.answers.is_empty() || !self.crew.to_refuse.is_empty();
            return Ok(Went { pause: gone.pause, awaits: gone.awaits, held });
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.crew.shared.counts.requests.fetch_add(self.connection.stats().requests, Ordering::Relaxed);
        // Whatever a service does when it is dropped stays with its connection, too.
        let seat = std::mem::replace(&mut self.crew.seat, Seat::Left);
        if catch_unwind(AssertUnwindSafe(|| drop(seat))).is_err() {
            self.crew.tell(What::Panic);
        }
    }
}

/// What one turn came to.
struct Gone {
    pause: Pause,
    stuck: Option<Id>,
    awaits: bool,
    panicked: bool,
}

impl Crew {
    fn tell(&self, what: What) {
        self.shared.tell(Some(self.peer), what);
    }

    /// A trusted proxy says whose connection it is.
    fn is_for(&mut self, ends: Endpoints) {
        self.peer.proxy = self.peer.addr;
        (self.peer.addr, self.peer.local) = (Some(ends.source), Some(ends.destination));
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        self.refused = !right.is_for(ends.source.ip());
    }

    /// The service has panicked.
    fn leave(&mut self) {
        self.tell(What::Panic);
        let seat = std::mem::replace(&mut self.seat, Seat::Left);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(seat)));
    }

    fn conduct(&mut self, mut turn: Turn<'_>) -> Gone {
        let mut to_refuse = std::mem::take(&mut self.to_refuse);
        to_refuse.retain(|&id| {
            let stays = turn.reply(id).is_some_and(|reply| !refuse(reply));
            if !stays {
                self.answered(id);
            }
            stays
        });
        self.to_refuse = to_refuse;
        self.sweep(&mut turn);
        self.done.drain(..).for_each(|done| _ = turn.done(done));
        self.deliver(&mut turn);
        let mut panicked = false;
        while let Some(event) = turn.next() {
            if let Event::Fault(violation) = &event {
                self.tell(What::Fault(*violation));
            }
            let id = exchange_of(&event);
            let begins = matches!(&event, Event::Request(request) if request.head.version == Version::Http2);
            if let Some(watch) = &mut self.watch {
                watch.begins(&event);
            }
            self.trace.begins(&event);
            if !self.event(event) {
                self.to_refuse.append(&mut self.open.ids);
                self.to_refuse.extend(id.filter(|id| !self.to_refuse.contains(id)));
                panicked = true;
                break;
            }
            if let Some(id) = id.filter(|&id| self.is_watched(id) && turn.reply(id).is_none()) {
                self.answered(id);
            }
            if self.refused {
                break; // what came behind the header is nobody's
            }
            match id {
                // Streams that the peer opened before it heard of our leaving (RFC 9113 §6.8).
                Some(id) if matches!(self.seat, Seat::Left) => {
                    let again = turn.reply(id).is_some_and(|reply| !refuse(reply));
                    if again && !self.to_refuse.contains(&id) {
                        self.to_refuse.push(id);
                    }
                }
                Some(id) if begins => self.open.note(id, &mut turn),
                _ => {}
            }
        }
        self.run_jobs(&mut turn);
        let unanswered = turn.unanswered(|id| self.post.is_awaited(id));
        let pause = turn.finish();
        let stuck = match pause {
            Pause::Caller(Wait::Reply(id) | Wait::Release(id)) if !self.post.is_awaited(id) => Some(id),
            Pause::Input { .. } => unanswered,
            _ => None, // the machine has more to do, or somebody else, perhaps for that very exchange
        };
        let awaits = matches!(pause, Pause::Caller(_)) && stuck.is_none();
        Gone { pause, stuck, awaits, panicked }
    }

    /// It is to be known when this exchange is answered.
    fn is_watched(&self, id: Id) -> bool {
        let watched = |at: &dyn Fn(usize) -> Option<Id>| (0..).map_while(at).any(|other| other == id);
        match &self.watch {
            Some(watch) => watched(&|place| watch.under_way(place)),
            None => watched(&|place| self.trace.under_way(place)),
        }
    }

    /// Answers that were complete but for what the peer had to make room for.
    fn sweep(&mut self, turn: &mut Turn<'_>) {
        let mut place = 0;
        loop {
            let id = match &self.watch {
                Some(watch) => watch.under_way(place),
                None => self.trace.under_way(place),
            };
            let Some(id) = id else { return };
            match turn.reply(id) {
                Some(_) => place += 1,
                None => self.answered(id),
            }
        }
    }

    fn answered(&mut self, id: Id) {
        if let Some(watch) = &mut self.watch {
            watch.answered(id);
        }
        self.trace.answered(id);
    }

    /// One event to whom it concerns. False: the service has panicked.
    fn event(&mut self, event: Event<'_>) -> bool {
        let event = match event {
            Event::Proxied(header) => {
                if let Some(ends) = header.endpoints() {
                    self.is_for(ends);
                }
                return true;
            }
            Event::Hello(hello) => {
                match self.port.choose(&hello) {
                    Some(tls) => hello.choose(tls),
                    None => hello.refuse(),
                }
                return true;
            }
            Event::Writable(reply) if self.answers.iter().any(|answer| answer.id == reply.id()) => {
                self.go_on(reply);
                return true;
            }
            Event::Request(mut request) if self.full => {
                request.reply.discard();
                self.watch.iter().for_each(Watch::refused);
                let fields = [("retry-after", RETRY_AFTER)];
                if let Err(misuse) = request.reply.respond(503, &fields, Content::Whole(b"")) {
                    self.tell(What::Misuse(misuse));
                }
                return true;
            }
            event => event,
        };
        if let Event::Aborted { id, .. } = &event {
            self.answers.retain(|answer| answer.id != *id);
            self.post.forget(*id);
        }
        let (id, since) = (exchange_of(&event), self.watch.as_ref().map(|_| probe::now()));
        let bytes = match &event {
            Event::Body(body) => body.bytes.len(),
            Event::Tunnel(tunnel) => tunnel.bytes.len(),
            _ => 0,
        };
        let Crew { seat, trace, shared, peer, post, .. } = self;
        let said = trace.within(id, || {
            catch_unwind(AssertUnwindSafe(|| match seat {
                Seat::Taken(service) => service.event(event),
                Seat::Empty if matches!(event, Event::Request(_)) => {
                    let mut service = shared.service(peer, post);
                    let said = service.event(event);
                    *seat = Seat::Taken(service);
                    said
                }
                _ => Ok(()),
            }))
        });
        if let (Some(watch), Some(since), Seat::Taken(_)) = (&mut self.watch, since, &self.seat) {
            watch.served(since, bytes);
        }
        match said {
            Ok(Ok(())) => true,
            Ok(Err(misuse)) => {
                self.tell(What::Misuse(misuse));
                true
            }
            Err(_) => false,
        }
    }

    /// What came by mail, to the machine.
    fn deliver(&mut self, turn: &mut Turn<'_>) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.retain_mut(|answer| match turn.reply(answer.id) {
            Some(reply) => !self.is_over(answer, reply),
            None => {
                self.post.forget(answer.id);
                false
            }
        });
        self.answers = answers;
    }

    /// There is room again for an answer that came by mail.
    fn go_on(&mut self, reply: Reply<'_>) {
        let Some(place) = self.answers.iter().position(|answer| answer.id == reply.id()) else { return };
        let mut answer = self.answers.swap_remove(place);
        if !self.is_over(&mut answer, reply) {
            self.answers.push(answer);
        }
    }

    fn is_over(&mut self, answer: &mut Answer, reply: Reply<'_>) -> bool {
        match answer.go_on(reply) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(misuse) => {
                self.tell(What::Misuse(misuse));
                self.to_refuse.push(answer.id); // with the next turn
            }
        }
        self.post.forget(answer.id);
        self.answered(answer.id);
        true
    }

    /// On a pool, as many as there are; else here, one a turn: its result leaves its room to the next one's before that is run.
    fn run_jobs(&mut self, turn: &mut Turn<'_>) {
        let Some(pool) = self.shared.pools.decode.clone() else {
            if let Some(job) = turn.job() {
                let since = self.watch.as_ref().map(|_| probe::now());
                turn.done(job.run());
                if let (Some(watch), Some(since)) = (&mut self.watch, since) {
                    watch.decoded(since);
                }
            }
            return;
        };
        while let Some(job) = turn.job() {
            let (post, probe) = (self.post.clone(), self.shared.probe().cloned());
            self.jobs += 1;
            let task = Box::new(move || {
                let since = probe.as_ref().map(|_| probe::now());
                let done = job.run();
                if let (Some(probe), Some(since)) = (probe, since) {
                    probe.took(Stage::Decode, since, 0, 1);
                }
                post.send(Letter::done(done));
            });
            // A full pool is no reason to lose a body: it is decoded here.
            if let Err(task) = pool.submit(task) {
                task();
            }
        }
    }
}

/// The exchange that an event is about, as far as it can still be answered.
fn exchange_of(event: &Event<'_>) -> Option<Id> {
    match event {
        Event::Request(request) => Some(request.reply.id()),
        Event::Body(body) => Some(body.reply.id()),
        Event::Trailers(trailers) => Some(trailers.reply.id()),
        Event::Writable(reply) => Some(reply.id()),
        Event::Tunnel(tunnel) => Some(tunnel.reply.id()),
        _ => None,
    }
}

/// The exchanges of an HTTP/2 connection, for a panic that leaves them all.
#[derive(Default)]
struct Open {
    /// Some of them may be over: at most as many as were not when they were last looked through.
    ids: Vec<Id>,
    look_at: usize,
}

impl Open {
    fn note(&mut self, id: Id, turn: &mut Turn<'_>) {
        if self.ids.len() >= self.look_at {
            self.ids.retain(|&id| turn.reply(id).is_some());
            self.look_at = 2 * self.ids.len() + 8;
        }
        self.ids.push(id);
    }
}

/// Nobody will answer it: 500; or its end, if the answer has begun. False: there is no room for that now.
fn refuse(mut reply: Reply<'_>) -> bool {
    match reply.respond(500, &[], Content::Whole(b"")) {
        Ok(_) => true,
        Err(Misuse::NoRoom) => false,
        Err(_) => {
            reply.abort();
            true
        }
    }
}
