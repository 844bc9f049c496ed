//! In: a plan, or tasks of a test. Out: a conversation, round by round, until all is said. Everything is polled in
//! every round, so no time passes but the virtual one, and the same seed gives the same conversation.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::client::{Clock, Line, Outcome, Talk};
use crate::pipe::{Dice, End, Shared, wire};
use crate::plan::{Ending, How, Plan};
use crate::server::Server;
use crate::verdict::{check, check_bodies};
use vestibule::{End as Ended, Limit, Pause};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Rounds without anything happening after which nothing ever will.
const PATIENCE: u64 = 400;

pub struct Stage {
    pub plan: Rc<Plan>,
    pub server: Server,
    pub clock: Clock,
    pub wire: Shared,
    pub outcomes: Rc<RefCell<BTreeMap<usize, Outcome>>>,
    /// How the client's connection ended.
    pub closed: Rc<RefCell<Option<Result<(), h2::Error>>>>,
    pub change: Rc<Cell<Option<u32>>>,
    pub pongs: Rc<Cell<usize>>,
    sender: Rc<RefCell<Option<SendRequest<Bytes>>>>,
    tasks: Vec<Task>,
    dice: Dice,
}

impl Stage {
    /// The two ends, connected; nothing was asked yet.
    pub fn new(plan: Plan) -> Stage {
        let plan = Rc::new(plan);
        let mut dice = Dice::new(plan.seed ^ 0xfeed);
        let wire = wire(plan.up, plan.down, Dice::new(plan.seed ^ 0xbeef));
        let server = Server::new(plan.clone(), wire.clone(), Dice::new(dice.below(1 << 30) as u64));
        let mut stage = Stage {
            plan: plan.clone(),
            server,
            clock: Clock::default(),
            wire: wire.clone(),
            outcomes: Rc::default(),
            closed: Rc::default(),
            change: Rc::default(),
            pongs: Rc::default(),
            sender: Rc::default(),
            tasks: Vec::new(),
            dice,
        };
        let (sender, closed, change) = (stage.sender.clone(), stage.closed.clone(), stage.change.clone());
        let (pongs, clock) = (stage.pongs.clone(), stage.clock.clone());
        stage.spawn(async move {
            let mut builder = h2::client::Builder::new();
            builder
                .initial_window_size(plan.stream_window)
                .initial_connection_window_size(plan.connection_window)
                .max_frame_size(plan.frame)
                .header_table_size(plan.table)
                .initial_max_send_streams(plan.streams)
                .enable_push(plan.push)
                .max_concurrent_reset_streams(1000)
                .data_frame_budget(1 << 30)
                .reset_stream_duration(Duration::from_secs(3600));
            let (handle, mut connection) = match builder.handshake::<_, Bytes>(End(wire)).await {
                Ok(both) => both,
                Err(error) => return drop(closed.replace(Some(Err(error)))),
            };
            let mut ping = connection.ping_pong().expect("its first user");
            *sender.borrow_mut() = Some(handle);
            let mut line = Line { connection, change };
            let mut left = plan.pings;
            let mut asked = false;
            let outcome = poll_fn(|cx| {
                if left > 0 && !asked {
                    asked = ping.send_ping(h2::Ping::opaque()).is_ok();
                }
                if asked && matches!(ping.poll_pong(cx), Poll::Ready(Ok(_))) {
                    (asked, left) = (false, left - 1);
                    pongs.set(pongs.get() + 1);
                }
                Pin::new(&mut line).poll(cx)
            })
            .await;
            clock.step();
            closed.replace(Some(outcome));
        });
        stage
    }

    pub fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(Box::pin(task));
    }

    /// The client asks that request of the plan.
    pub fn ask(&mut self, at: usize) {
        let talk = Talk::new(at, self.plan.clone(), self.clock.clone());
        let (sender, outcomes, closed) = (self.sender.clone(), self.outcomes.clone(), self.closed.clone());
        self.spawn(async move {
            talk.clock.until(|| sender.borrow().is_some() || closed.borrow().is_some()).await;
            let handle = sender.borrow().clone();
            if let Some(handle) = handle {
                let outcome = talk.run(handle).await;
                outcomes.borrow_mut().insert(at, outcome);
            }
        });
    }

    /// No more will be asked.
    pub fn hang_up(&mut self) {
        self.sender.borrow_mut().take();
    }

    /// Everybody once, the client's tasks in any order and not all of them. Says whether anything happened.
    fn round(&mut self) -> bool {
        let before = (self.clock.steps.get(), self.wire.borrow().up.total);
        self.clock.round.set(self.clock.round.get() + 1);
        let mut cx = Context::from_waker(Waker::noop());
        let first = self.dice.below(self.tasks.len());
        self.tasks.rotate_left(first);
        let dice = &mut self.dice;
        self.tasks.retain_mut(|task| dice.one_in(4) || task.as_mut().poll(&mut cx) == Poll::Pending);
        let moved = self.server.round();
        moved || before != (self.clock.steps.get(), self.wire.borrow().up.total)
    }

    /// Rounds until that is so. Panics if it never will be.
    pub fn until(&mut self, what: &str, mut is: impl FnMut(&mut Stage) -> bool) {
        let mut quiet = 0;
        while !is(self) {
            quiet = if self.round() { 0 } else { quiet + 1 };
            assert!(quiet < PATIENCE, "stuck before {what}: {}", self.report());
        }
    }

    /// Rounds until nothing happens any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < PATIENCE {
            quiet = if self.round() { 0 } else { quiet + 1 };
        }
    }

    pub fn answered(&self, at: usize) -> bool {
        self.outcomes.borrow().contains_key(&at)
    }

    pub fn all_answered(&self) -> bool {
        self.outcomes.borrow().len() == self.plan.asks.len()
    }

    /// A handler wanted the connection to end.
    fn says_close(&self) -> bool {
        self.server.app.exchanges.iter().any(|(&at, x)| self.plan.asks[at].closes && x.responded)
    }

    fn report(&self) -> String {
        let mut text = format!("client {:?}; server: {}\n", self.closed.borrow(), self.server.report());
        let Plan { up, down, inbox, outbox, stream_window, connection_window, frame, table, .. } = &*self.plan;
        let Plan { streams, change, pings, ending, .. } = &*self.plan;
        text += &format!(
            "pipes {up} {down}, inbox {inbox}, outbox {outbox}, windows {stream_window} {connection_window}, "
        );
        text += &format!("{} units a turn, ", self.plan.limits.get(Limit::TurnUnits));
        text += &format!("frame {frame}, table {table}, {streams} streams, {change:?}, {pings} pings, {ending:?}\n");
        for (at, ask) in self.plan.asks.iter().enumerate().filter(|(at, _)| !self.answered(*at)) {
            let x = self.server.app.exchanges.get(&at);
            text +=
                &format!("open: {at} {} {:?} body {:?} reset {:?}: {x:?}\n", ask.method, ask.how, ask.body, ask.reset);
        }
        text
    }

    /// The answer to that request is all that it must be.
    pub fn check(&self, at: usize) {
        let outcomes = self.outcomes.borrow();
        let outcome = outcomes.get(&at).expect("it was answered");
        assert!(outcome.error.is_none(), "request {at}: {:?}", outcome.error);
        check(at, &self.plan.asks[at], &outcome.answer, true);
    }

    /// The server ends it gracefully, and both sides agree that it was so.
    pub fn drain(&mut self) {
        self.server.drain();
        self.close(Ended::Ours);
    }

    pub fn close(&mut self, end: Ended) {
        self.until("the end", |stage| stage.closed.borrow().is_some() && stage.server.is_closed());
        self.until("the last outcomes", |stage| stage.tasks.is_empty());
        let closed = self.closed.borrow();
        assert!(matches!(&*closed, Some(Ok(()))), "{closed:?}");
        assert_eq!(self.server.pause, Pause::Closed);
        // Told to go, the client may go before we do.
        let end = if self.says_close() { Ended::Ours } else { end };
        let ends = [Some(end), Some(Ended::Clean)];
        assert!(ends.contains(&self.server.connection.end()), "{:?}", self.server.connection.end());
        assert!(self.server.app.faults.is_empty(), "{:?}", self.server.app.faults);
        check_bodies(&self.plan, &self.server.app);
    }
}

/// Says which program it was, if it fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("VESTIBULE_SEED={} is the program that failed", self.0);
        }
    }
}

/// Plays a program and checks everything.
pub fn play(plan: Plan) -> Stage {
    let _seed = Seed(plan.seed);
    let mut stage = Stage::new(plan);
    let plan = stage.plan.clone();
    (0..plan.asks.len()).for_each(|at| stage.ask(at));
    let mut change = plan.change;
    let (mut told, mut drained) = (false, false);
    stage.until("all answers", |stage| {
        let round = stage.clock.round.get();
        if let Some((_, window)) = change.take_if(|c| c.0 <= round) {
            stage.change.set(Some(window));
        }
        if let Ending::DrainAt(at) = plan.ending
            && at <= round
            && !told
            && stage.wire.borrow().down.total > 0
        // else it does not know yet what it speaks
        {
            (told, drained) = (true, true);
            stage.server.drain();
        }
        drained |= stage.says_close();
        stage.all_answered() || (drained && stage.tasks.is_empty())
    });
    match plan.ending {
        Ending::Drain => stage.drain(),
        Ending::DrainAt(_) if !told => stage.drain(),
        Ending::DrainAt(_) => stage.close(Ended::Ours),
        Ending::Client => {
            stage.hang_up();
            stage.close(Ended::Clean);
        }
    }
    if plan.ending != Ending::Client {
        stage.hang_up();
    }
    for at in 0..plan.asks.len() {
        judge(&stage, at, drained);
    }
    stage
}

/// Both sides agree on what became of a request, and that is one of the things that could.
fn judge(stage: &Stage, at: usize, drained: bool) {
    let ask = &stage.plan.asks[at];
    let x = stage.server.app.exchanges.get(&at);
    let outcomes = stage.outcomes.borrow();
    let Some(outcome) = outcomes.get(&at) else {
        assert!(drained && x.is_none(), "request {at} has no outcome");
        return;
    };
    if let Some(x) = x {
        assert!(outcome.sent, "request {at} came and was not sent");
        let refused = matches!(ask.how, How::TooMuch(_)) && x.aborted.is_some_and(|why| why.is_some());
        assert!(refused || x.aborted.is_none_or(|why| why.is_none()), "request {at}: {:?}", x.aborted);
        assert!(refused || x.aborted.is_none() || outcome.reset, "request {at}: nobody gave it up");
        assert!(x.done || x.given_up || x.aborted.is_some(), "request {at} has no end: {:?}", ask.how);
    }
    match &outcome.error {
        None => {
            let given = x.is_some_and(|x| x.done || matches!(ask.how, How::TooMuch(_)));
            assert!(given, "request {at}: an answer that nobody gave");
            check(at, ask, &outcome.answer, true);
            return;
        }
        Some(_) if outcome.reset => {}
        Some(error) if matches!(ask.how, How::Abort(_)) && x.is_some() => {
            assert!(error.is_reset() && error.is_remote(), "request {at}: {error}");
            assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "request {at}");
        }
        Some(error) => {
            assert!(drained && x.is_none(), "request {at}: {error}");
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            assert!(
                refused || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR),
                "request {at}: {error}"
            );
        }
    }
    check(at, ask, &outcome.answer, false);
}
