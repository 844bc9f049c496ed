//! In: bytes from the wire, virtual time, a plan. Out: the machine's answers, and a record of what its handler saw.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::pipe::{Dice, Shared, Wire};
use crate::plan::{Ask, How, Plan, text};
use crate::verdict::{check_request, same_fields};
use vestibule::decode::job::Done;
use vestibule::{
    Config, Connection, Content, Event, Expect, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Request, Rule,
    Violation,
};

/// What became of one request.
pub struct Exchange {
    pub id: Id,
    /// What came of its body.
    pub body: Vec<u8>,
    pub request_done: bool,
    pub trailers: bool,
    /// The answer is complete.
    pub done: bool,
    /// The handler wants to give it up, and did.
    gives_up: bool,
    pub given_up: bool,
    /// The peer did.
    pub aborted: Option<Option<Violation>>,
    /// Lent and not given back.
    pub held: u32,
    informs: usize,
    pub responded: bool,
    starved: bool,
    /// What is to be written, and how far that is.
    out: Vec<u8>,
    at: usize,
    all_in: bool,
    /// The answer waits for its turn, and a tunnel for being opened.
    due: u64,
    opens: u64,
}

/// Something to be done outside of events.
#[derive(Clone, Debug, PartialEq)]
enum Todo {
    Go(usize),
    Release(usize, u32),
}

/// The handler.
#[derive(Debug)]
pub struct App {
    plan: Rc<Plan>,
    pub exchanges: BTreeMap<usize, Exchange>,
    todo: VecDeque<(u64, Todo)>,
    turns: u64,
    dice: Dice,
    jobs: VecDeque<(u64, Done)>,
    /// `How::Hold` may give back what it holds.
    pub free: bool,
    pub faults: Vec<Violation>,
    /// The order in which answers became complete.
    pub finished: Vec<usize>,
}

fn misused(at: usize, what: &str, misuse: Misuse) -> ! {
    panic!("request {at}: {what}: {misuse}")
}

impl App {
    fn new(plan: Rc<Plan>, dice: Dice) -> App {
        App {
            plan,
            exchanges: BTreeMap::new(),
            todo: VecDeque::new(),
            jobs: VecDeque::new(),
            turns: 0,
            dice,
            free: false,
            faults: Vec::new(),
            finished: Vec::new(),
        }
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(request) => self.request(request),
            Event::Body(mut body) => {
                let (at, n) = (body.tag as usize - 1, body.bytes.len());
                let plan = self.plan.clone();
                let ask = &plan.asks[at];
                let x = self.exchanges.get_mut(&at).expect("a request came first");
                assert_eq!(body.reply.id(), x.id, "request {at}");
                assert!(!x.request_done && x.aborted.is_none() && !x.given_up, "request {at}: a body behind its end");
                let wanted = !matches!(ask.how, How::Discard | How::TooMuch(_));
                assert!(wanted, "request {at}: nobody wants this body");
                assert_eq!(body.whole, matches!(ask.how, How::EchoWhole | How::EchoByJob), "request {at}");
                assert!(!body.whole || x.body.is_empty(), "request {at}: whole, and once");
                x.body.extend_from_slice(body.bytes);
                x.request_done = body.last;
                match ask.how {
                    How::EchoStream => x.out.extend_from_slice(body.bytes),
                    How::EchoManual => {
                        x.out.extend_from_slice(body.bytes);
                        x.held += n as u32;
                    }
                    How::Manual => {
                        x.held += n as u32;
                        let (first, due) = (self.dice.below(n + 1) as u32, self.turns);
                        for part in [first, n as u32 - first] {
                            self.todo.push_back((due + self.dice.below(40) as u64, Todo::Release(at, part)));
                        }
                    }
                    How::Hold => {
                        x.held += n as u32;
                        self.todo.push_back((0, Todo::Release(at, n as u32)));
                    }
                    _ => {}
                }
                assert!(x.held <= 65_536, "request {at}: {} bytes are out", x.held);
                self.request_done(at);
                self.go(at, &mut body.reply);
            }
            Event::Trailers(mut trailers) => {
                let at = trailers.tag as usize - 1;
                let plan = self.plan.clone();
                let x = self.exchanges.get_mut(&at).expect("a request came first");
                assert!(!x.request_done && x.aborted.is_none(), "request {at}: trailers behind its end");
                let fields = plan.asks[at].trailers.iter().map(|(n, v)| (n.clone(), v.clone().into_bytes()));
                same_fields(at, &fields.collect::<Vec<_>>(), trailers.fields, &[]);
                (x.request_done, x.trailers) = (true, true);
                self.request_done(at);
                self.go(at, &mut trailers.reply);
            }
            Event::Writable(mut reply) => {
                let at = reply.tag() as usize - 1;
                let x = self.exchanges.get_mut(&at).expect("a request came first");
                assert!(x.starved && !x.done, "request {at}: nobody waits for room");
                x.starved = false;
                self.go(at, &mut reply);
            }
            Event::Tunnel(mut tunnel) => {
                let at = tunnel.tag as usize - 1;
                let x = self.exchanges.get_mut(&at).expect("a request came first");
                assert!(!x.request_done && x.responded, "request {at}");
                x.body.extend_from_slice(tunnel.bytes);
                x.out.extend_from_slice(tunnel.bytes);
                x.request_done = tunnel.last;
                self.request_done(at);
                self.go(at, &mut tunnel.reply);
            }
            Event::Aborted { id, tag, why } => {
                let at = tag as usize - 1;
                let x = self.exchanges.get_mut(&at).expect("a request came first");
                assert_eq!(id, x.id, "request {at}");
                assert!(!x.done && !x.given_up && x.aborted.is_none(), "request {at}: over before {why:?}: {x:?}");
                if let How::TooMuch(_) = self.plan.asks[at].how
                    && let Some(violation) = why
                {
                    assert_eq!(violation.rule, Rule::BodyOverHandler);
                }
                x.aborted = Some(why);
            }
            Event::Fault(violation) => self.faults.push(violation),
            other => panic!("not asked for: {other:?}"),
        }
    }

    fn request(&mut self, mut request: Request<'_>) {
        let at: usize = request.head.fields.text("x-ask").and_then(|t| t.parse().ok()).expect("its number");
        let plan = self.plan.clone();
        let ask = &plan.asks[at];
        check_request(at, ask, &request);
        request.reply.set_tag(at as u64 + 1);
        let own = match ask.how {
            How::Sized(_) | How::Streamed(_) | How::Whole(_) | How::Abort(_) => ask.content(at),
            How::Text | How::Discard => text(at).into_bytes(),
            _ => Vec::new(),
        };
        let all_in = !own.is_empty() || matches!(ask.how, How::Short | How::Json);
        let exchange = Exchange {
            id: request.reply.id(),
            body: Vec::new(),
            request_done: !request.has_body && ask.how != How::Tunnel,
            trailers: false,
            done: false,
            gives_up: false,
            given_up: false,
            aborted: None,
            held: 0,
            informs: ask.informs,
            responded: false,
            starved: false,
            all_in,
            out: own,
            at: 0,
            due: 0,
            opens: self.turns + ask.delay,
        };
        if ask.how == How::Tunnel && ask.delay > 0 {
            self.todo.push_back((exchange.opens, Todo::Go(at)));
        }
        assert!(self.exchanges.insert(at, exchange).is_none(), "request {at} comes twice");
        match ask.how {
            How::EchoWhole => drop(request.reply.expect(Expect::Whole { max: 1 << 20 })),
            How::EchoByJob => drop(request.reply.expect(Expect::WholeByJob { max: 1 << 20 })),
            How::TooMuch(max) => drop(request.reply.expect(Expect::Whole { max })),
            How::EchoManual | How::Manual | How::Hold => drop(request.reply.expect(Expect::Manual)),
            How::Discard => request.reply.discard(),
            _ => {}
        }
        if ask.how == How::Abort(None) && ask.eager {
            self.exchanges.get_mut(&at).expect("just put there").given_up = true;
            return request.reply.abort();
        }
        self.request_done(at);
        self.go(at, &mut request.reply);
    }

    /// If the request is complete: what is to be answered with it, and when.
    fn request_done(&mut self, at: usize) {
        let ask = &self.plan.asks[at];
        let Some(x) = self.exchanges.get_mut(&at).filter(|x| x.request_done || ask.how == How::Discard) else { return };
        if x.due > 0 {
            return;
        }
        if matches!(ask.how, How::EchoWhole | How::EchoByJob | How::Manual | How::Hold) {
            x.out.clone_from(&x.body);
        }
        x.all_in = true;
        x.due = self.turns + ask.delay;
        if ask.delay > 0 {
            self.todo.push_back((x.due, Todo::Go(at)));
        }
    }

    /// Answers as far as that goes now; what lacks room is tried again in a later turn, or when the machine says so.
    fn go(&mut self, at: usize, reply: &mut Reply<'_>) {
        let plan = self.plan.clone();
        let ask = &plan.asks[at];
        let x = self.exchanges.get_mut(&at).expect("a request came first");
        let streams = matches!(ask.how, How::EchoStream | How::EchoManual | How::Tunnel);
        let may = x.due > 0 && self.turns >= x.due || ask.eager && x.all_in || streams;
        if ask.how == How::Tunnel && !x.responded && self.turns < x.opens {
            return;
        }
        if x.done || x.given_up || x.starved || matches!(ask.how, How::Never | How::TooMuch(_)) || !may {
            return;
        }
        let before = x.at;
        let went = x.answer(at, ask, reply, &mut self.dice);
        if ask.how == How::EchoManual {
            let n = (x.at - before) as u32;
            x.held -= n;
            reply.release(n);
        }
        match went {
            Ok(()) if x.done => self.finished.push(at),
            Ok(()) if x.gives_up => self.todo.push_back((0, Todo::Go(at))),
            Ok(()) => {}
            Err(Misuse::NoRoom) => self.todo.push_back((self.turns + 1, Todo::Go(at))),
            Err(misuse) => misused(at, "answering", misuse),
        }
    }

    /// What is due outside of events.
    fn outside(&mut self, turn: &mut vestibule::Turn<'_>) {
        for _ in 0..self.todo.len() {
            let Some((due, todo)) = self.todo.pop_front() else { return };
            let (Todo::Go(at) | Todo::Release(at, _)) = todo;
            let ask = &self.plan.asks[at];
            if due > self.turns || (ask.how == How::Hold && !self.free && todo != Todo::Go(at)) {
                self.todo.push_back((due, todo));
                continue;
            }
            let x = self.exchanges.get_mut(&at).expect("a request came first");
            let over = x.done || x.aborted.is_some() || x.given_up || !self.faults.is_empty();
            let Some(mut reply) = turn.reply(x.id) else {
                assert!(over, "request {at}: its handle is gone before its end");
                continue;
            };
            assert!(x.aborted.is_none() && !x.given_up, "request {at}: a handle of what is over");
            match todo {
                Todo::Go(_) if x.gives_up => {
                    x.given_up = true;
                    reply.abort();
                }
                Todo::Go(_) => self.go(at, &mut reply),
                Todo::Release(_, n) => {
                    x.held -= n;
                    reply.release(n);
                }
            }
        }
    }

    /// Something is due in this turn.
    fn is_due(&self) -> bool {
        !self.todo.is_empty() || !self.jobs.is_empty()
    }

    /// Jobs are fetched, and brought back some turns later.
    fn jobs(&mut self, turn: &mut vestibule::Turn<'_>) {
        while let Some(job) = turn.job() {
            self.jobs.push_back((self.turns + self.dice.below(20) as u64, job.run()));
        }
        for _ in 0..self.jobs.len() {
            match self.jobs.pop_front() {
                Some((due, done)) if due <= self.turns => {
                    let x = self.exchanges.values().find(|x| x.id.number() == done.id).expect("its request");
                    let open = x.aborted.is_none() && self.faults.is_empty();
                    assert!(turn.done(done) || !open, "stream {}: its job is not wanted", x.id.number());
                }
                Some(later) => self.jobs.push_back(later),
                None => {}
            }
        }
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exchange { id, request_done, done, given_up, aborted, held, responded, starved, at, all_in, due, .. } =
            self;
        let (body, out) = (self.body.len(), self.out.len());
        write!(f, "stream {} body {body} all of it {request_done} held {held} responded {responded} ", id.number())?;
        write!(f, "written {at} of {out} all of it {all_in} starved {starved} due {due} ")?;
        write!(f, "done {done} given up {given_up} aborted {aborted:?}")
    }
}

impl Exchange {
    fn answer(&mut self, at: usize, ask: &Ask, reply: &mut Reply<'_>, dice: &mut Dice) -> Result<(), Misuse> {
        while self.informs > 0 {
            reply.inform(103, &[("link", "</style.css>"), ("x-n", &self.informs.to_string())])?;
            self.informs -= 1;
        }
        if !self.responded {
            if ask.closes {
                reply.close();
            }
            match ask.how {
                How::Short => reply.text(ask.status, &text(at))?,
                How::Json => reply.json(ask.status, &[at, at])?,
                _ => {}
            }
            if matches!(ask.how, How::Short | How::Json) {
                (self.responded, self.done) = (true, true);
                return Ok(());
            }
            let fields: Vec<(&str, &str)> =
                ask.answer_fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let content = match ask.how {
                How::Tunnel => {
                    reply.upgrade("echo", &fields)?;
                    self.responded = true;
                    return Ok(());
                }
                How::EchoWhole | How::EchoByJob | How::Manual | How::Hold | How::Whole(_) => Content::Whole(&self.out),
                How::Text | How::Discard if ask.eager => Content::Whole(&self.out),
                How::Text | How::Discard => Content::Sized(self.out.len() as u64),
                How::Sized(n) => Content::Sized(n as u64),
                How::Abort(None) => {
                    self.gives_up = true;
                    return Ok(());
                }
                _ => Content::Streamed,
            };
            let whole = matches!(content, Content::Whole(_));
            let n = reply.respond(ask.status, &fields, content)?;
            self.responded = true;
            self.at += n;
            self.starved = self.at < self.out.len() && whole;
            self.done = whole && !self.starved;
            if whole {
                return Ok(());
            }
        }
        let whole = matches!(ask.how, How::EchoWhole | How::EchoByJob | How::Manual | How::Hold | How::Whole(_))
            || (ask.eager && matches!(ask.how, How::Text | How::Discard));
        while self.at < self.out.len() {
            let rest = &self.out[self.at..];
            let piece = if whole || dice.one_in(2) { rest.len() } else { 1 + dice.below(rest.len().min(20_000)) };
            let n = reply.write(&rest[..piece])?;
            assert!(n <= piece);
            self.at += n;
            if n < piece {
                self.starved = true;
                return Ok(());
            }
        }
        if whole {
            self.done = true;
        } else if self.all_in {
            self.end(at, ask, reply)?;
        }
        Ok(())
    }

    fn end(&mut self, at: usize, ask: &Ask, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        match ask.how {
            How::Abort(_) => {
                self.gives_up = true;
                return Ok(());
            }
            How::Streamed(_) | How::EchoStream | How::EchoManual if !ask.answer_trailers.is_empty() => {
                let fields: Vec<(&str, &str)> =
                    ask.answer_trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                reply.trailers(&fields)?;
            }
            _ => reply.finish()?,
        }
        assert!(self.at == self.out.len(), "request {at}");
        self.done = true;
        Ok(())
    }
}

/// The machine on its end of the wire.
#[derive(Debug)]
pub struct Server {
    pub connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    pub app: App,
    pub now: u64,
    pub pause: Pause,
    pub most_retained: usize,
    wire: Shared,
    dice: Dice,
    shut: bool,
    /// Something happened since the last turn.
    news: bool,
    patient: bool,
    /// So many more bytes are needed, says the machine.
    want: usize,
    received: u64,
    eof: bool,
}

/// Virtual time stops here, before any rate is judged.
const LATEST: u64 = 4_000_000_000;

impl Server {
    pub fn new(plan: Rc<Plan>, wire: Shared, mut dice: Dice) -> Server {
        let config = Config::new(plan.limits.clone());
        let inbox = plan.inbox.max(config.least_inbox_bytes());
        let outbox = config.least_outbox_bytes() + plan.outbox;
        let patient = plan.patient;
        Server {
            connection: Connection::new(Arc::new(config), Instant::ZERO),
            inbox: Inbox::new(vec![0; inbox]),
            outbox: Outbox::new(vec![0; outbox]),
            app: App::new(plan, Dice::new(dice.below(1 << 30) as u64)),
            now: 0,
            pause: Pause::Input { want: 1 },
            most_retained: 0,
            wire,
            dice,
            shut: false,
            news: true,
            patient,
            want: 0,
            received: 0,
            eof: false,
        }
    }

    pub fn report(&self) -> String {
        let (ready, waiting) = (self.outbox.ready().len(), self.inbox.len());
        let Wire { up, down, .. } = &*self.wire.borrow();
        format!(
            "pause {:?}, {ready} bytes to send, {waiting} not consumed, {:?}, faults {:?}\nup: {up:?}down: {down:?}",
            self.pause,
            self.connection.stats(),
            self.app.faults
        )
    }

    pub fn is_closed(&self) -> bool {
        self.pause == Pause::Closed
    }

    /// Reads, takes a turn if there is a reason, writes. Says whether anything moved.
    pub fn round(&mut self) -> bool {
        if self.is_closed() {
            return false;
        }
        if self.now < LATEST {
            self.now += self.dice.below(200_000) as u64;
        }
        let mut moved = self.read();
        let enough = moved && (!self.patient || self.want == 0 || self.eof);
        if enough || self.news || self.app.is_due() || self.pause == Pause::Yield || self.dice.one_in(8) {
            moved |= self.turn();
        }
        let Wire { down, dice, .. } = &mut *self.wire.borrow_mut();
        let n = down.write(self.outbox.ready(), dice);
        self.outbox.wrote(n);
        self.news = n > 0;
        if self.outbox.finished() && !self.shut {
            (down.ended, self.shut) = (true, true);
            moved = true;
        }
        moved || n > 0
    }

    fn read(&mut self) -> bool {
        if !matches!(self.pause, Pause::Input { .. }) && !self.dice.one_in(4) {
            return false;
        }
        let Wire { up, dice, .. } = &mut *self.wire.borrow_mut();
        if up.is_empty() && up.ended && !self.eof {
            self.inbox.end();
            self.eof = true;
            return true;
        }
        let n = up.read(self.inbox.spare(), dice);
        self.inbox.commit(n);
        self.want = self.want.saturating_sub(n);
        self.received += n as u64;
        n > 0
    }

    fn turn(&mut self) -> bool {
        let before = (self.connection.stats().events, self.inbox.len(), self.pause);
        let now = Instant::from_nanos(self.now);
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        self.app.turns += 1;
        self.app.outside(&mut turn);
        self.app.jobs(&mut turn);
        while let Some(event) = turn.next() {
            self.app.on(event);
            if self.dice.one_in(16) {
                self.app.outside(&mut turn);
            }
        }
        self.app.jobs(&mut turn);
        self.pause = turn.finish();
        self.want = 0;
        if let Pause::Input { want } = self.pause {
            assert!(want > 0);
            self.want = want;
        }
        if !matches!(self.pause, Pause::Yield | Pause::Closed)
            && let Some(deadline) = self.connection.deadline()
        {
            assert!(deadline.at > now, "{deadline:?} is over, and nothing came of it at {now:?}");
        }
        let visited = self.connection.stats().visited_bytes;
        assert!(visited <= 2 * self.received, "{visited} bytes were looked at, {} came", self.received);
        if self.dice.one_in(30) {
            self.connection.shed();
        }
        let retained = self.connection.retained_bytes();
        let bound = self.connection.config().machine_bound_bytes();
        assert!(retained <= bound, "{retained} bytes are held, {bound} were promised");
        self.most_retained = self.most_retained.max(retained);
        before != (self.connection.stats().events, self.inbox.len(), self.pause)
    }

    pub fn drain(&mut self) {
        self.connection.drain();
        self.news = true;
    }
}
