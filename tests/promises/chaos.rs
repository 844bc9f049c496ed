//! A caller without manners: feeds what it likes, answers what it likes, drains, sheds, and looks at a broken clock. After
//! every turn it checks that the machine consumed, produced, or named what it waits for.

use std::sync::Arc;

use vestibule::decode::job::Done;
use vestibule::{
    Config, Connection, Content, Event, Expect, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Turn, Wait,
};

/// xorshift64*.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

pub struct Chaos {
    pub connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    dice: Dice,
    wire: Vec<u8>,
    fed: usize,
    ids: Vec<Id>,
    done: Vec<Done>,
    job_out: bool,
    now: u64,
    latest: u64,
    /// Bytes that the last turn left in the inbox.
    held: usize,
    ended: bool,
    pub closed: bool,
    pub log: String,
    pub sent: Vec<u8>,
}

fn act(reply: &mut Reply<'_>, dice: &mut Dice) -> String {
    let bytes = [b'x'; 3000];
    let some = &bytes[..dice.below(3000)];
    let fields: &[(&str, &str)] =
        [&[][..], &[("x", "y")], &[("x", "a\r\nb")], &[("content-length", "3")], &[("connection", "x")]][dice.below(5)];
    let status = [200, 204, 304, 205, 500, 100, 101, 99, 600, 0][dice.below(10)];
    match dice.below(16) {
        0 => format!("{:?}", reply.text(200, "some text")),
        1 => format!("{:?}", reply.respond(status, fields, Content::Whole(some))),
        2 => format!("{:?}", reply.respond(status, fields, Content::Sized(dice.below(5000) as u64))),
        3 => format!("{:?}", reply.respond(200, fields, Content::Streamed)),
        4 | 5 => format!("{:?}", reply.write(some)),
        6 => format!("{:?}", reply.finish()),
        7 => format!("{:?}", reply.trailers(fields)),
        8 => format!("{:?}", reply.inform(status, fields)),
        9 => format!("{:?}", reply.upgrade(["echo", "a b", ""][dice.below(3)], fields)),
        10 => {
            let max = dice.below(5000) as u32;
            let how =
                [Expect::Stream, Expect::Manual, Expect::Discard, Expect::Whole { max }, Expect::WholeByJob { max }]
                    [dice.below(5)];
            reply.expect(how);
            String::new()
        }
        11 => {
            reply.release(dice.below(70_000) as u32);
            String::new()
        }
        12 => {
            reply.discard();
            String::new()
        }
        13 => format!("{:?}", reply.json(200, &[1, 2, 3])),
        14 => {
            reply.set_tag(dice.below(1000) as u64);
            format!("{}", reply.tag())
        }
        _ => format!("{:?}", reply.whole(200, "text/plain", some)),
    }
}

impl Chaos {
    pub fn new(config: &Arc<Config>, seed: u64, wire: &[u8]) -> Chaos {
        let mut dice = Dice(seed | 1);
        let inbox = [config.least_inbox_bytes(), 300, 5000, config.inbox_bytes()][dice.below(4)];
        let outbox = config.least_outbox_bytes() + [0, 100, 4000, 60_000][dice.below(4)];
        Chaos {
            connection: Connection::new(config.clone(), Instant::ZERO),
            inbox: Inbox::new(vec![0; inbox]),
            outbox: Outbox::new(vec![0; outbox]),
            dice,
            wire: wire.to_vec(),
            fed: 0,
            ids: Vec::new(),
            done: Vec::new(),
            job_out: false,
            now: 0,
            latest: 0,
            held: 0,
            ended: false,
            closed: false,
            log: String::new(),
            sent: Vec::new(),
        }
    }

    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.dice.below(20) {
                0..=6 => self.feed(),
                7 | 8 => self.wrote(),
                9 if self.dice.below(10) == 0 => self.connection.drain(),
                10 => self.connection.shed(),
                11 => self.tick(),
                12 if self.fed == self.wire.len() => {
                    self.ended = true;
                    self.inbox.end();
                }
                13 => self.foreign(),
                _ => {}
            }
            self.turn();
        }
    }

    fn feed(&mut self) {
        let n = 1 + self.dice.below([1, 10, 100, 10_000][self.dice.0 as usize % 4]);
        let end = (self.fed + n).min(self.wire.len());
        self.fed += self.inbox.fill(&self.wire[self.fed..end]);
    }

    fn wrote(&mut self) {
        let n = self.outbox.ready().len();
        let n = if self.dice.below(2) == 0 { n } else { self.dice.below(n + 1) };
        self.sent.extend_from_slice(&self.outbox.ready()[..n]);
        self.outbox.wrote(n);
    }

    /// Stands still, goes on, goes back, jumps.
    fn tick(&mut self) {
        self.now = match self.dice.below(12) {
            0 => 0,
            1 => self.now.saturating_sub(1_000_000_000),
            2 if self.dice.below(4) == 0 => u64::MAX,
            3..=5 => self.now,
            _ => self.now.saturating_add(self.dice.below(3_000_000_000) as u64),
        };
        self.latest = self.latest.max(self.now);
    }

    /// Another inbox, while the machine left bytes in ours: refused, and nothing has changed.
    fn foreign(&mut self) {
        if self.held > 0 {
            let mut other = Inbox::new(vec![0; 70_000]);
            let outcome = self.connection.turn(Instant::ZERO, &mut other, &mut self.outbox).map(drop);
            assert_eq!(outcome.err(), Some(Misuse::ForeignInbox));
        }
    }

    fn turn(&mut self) {
        let before = self.connection.stats();
        let waiting = self.inbox.len();
        let now = Instant::from_nanos(self.now);
        let Chaos { connection, inbox, outbox, dice, ids, log, done, job_out, .. } = self;
        let mut turn = connection.turn(now, inbox, outbox).expect("our own buffers");
        Self::outside(&mut turn, dice, ids, log);
        let mut events = 0;
        while let Some(event) = turn.next() {
            events += 1;
            assert!(!self.closed, "an event behind the end: {event:?}");
            log.push_str(&format!("{event:?}\n"));
            match event {
                Event::Request(mut request) => {
                    ids.push(request.reply.id());
                    for _ in 0..dice.below(4) {
                        log.push_str(&act(&mut request.reply, dice));
                    }
                    if dice.below(40) == 0 {
                        request.reply.abort();
                    }
                }
                Event::Body(mut body) => {
                    for _ in 0..dice.below(3) {
                        log.push_str(&act(&mut body.reply, dice));
                    }
                    if dice.below(40) == 0 {
                        body.reply.abort();
                    }
                }
                Event::Trailers(mut trailers) => log.push_str(&act(&mut trailers.reply, dice)),
                Event::Tunnel(mut tunnel) => log.push_str(&act(&mut tunnel.reply, dice)),
                Event::Writable(mut reply) => log.push_str(&act(&mut reply, dice)),
                _ => {}
            }
            if dice.below(30) == 0 {
                break; // a caller may end its turn early
            }
        }
        if let Some(job) = turn.job() {
            (*job_out, events) = (true, events + 1);
            done.push(job.run());
        }
        if dice.below(2) == 0
            && let Some(one) = done.pop()
        {
            *job_out = false;
            events += usize::from(turn.done(one));
        }
        let pause = turn.finish();
        log.push_str(&format!("{pause:?}\n"));
        self.held = self.inbox.len();
        let consumed = self.held < waiting;
        let worked = self.connection.stats().units > before.units;
        self.named(pause, events > 0 || consumed || worked);
    }

    /// Answers by id, also of exchanges that are long gone.
    fn outside(turn: &mut Turn<'_>, dice: &mut Dice, ids: &[Id], log: &mut String) {
        for _ in 0..dice.below(3) {
            if let Some(&id) = ids.get(dice.below(ids.len()))
                && let Some(mut reply) = turn.reply(id)
            {
                log.push_str(&act(&mut reply, dice));
            }
        }
    }

    /// What the machine waits for can really be done (P-5).
    fn named(&mut self, pause: Pause, progress: bool) {
        match pause {
            Pause::Input { want } => {
                assert!(want > 0);
                assert!(!self.inbox.spare().is_empty(), "input is wanted where there is no room for it");
                assert!(!self.ended, "input is wanted behind its end");
            }
            Pause::Room => assert!(!self.outbox.ready().is_empty(), "room is wanted where nothing can be sent"),
            Pause::Yield => assert!(progress, "a turn that did nothing"),
            Pause::Caller(Wait::Reply(id) | Wait::Release(id)) => {
                let now = Instant::from_nanos(self.now);
                let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
                assert!(turn.reply(id).is_some(), "{pause:?}, and there is no such exchange");
            }
            Pause::Caller(Wait::Job) => assert!(self.job_out || !self.done.is_empty()),
            Pause::Caller(other) => panic!("{other:?} on a plain road"),
            Pause::Closed => {
                self.closed = true;
                assert!(self.inbox.is_empty() && self.connection.end().is_some());
                assert_eq!(self.connection.deadline(), None);
            }
        }
        // An idle machine stays idle: nothing happens without a cause. (At the end of time whatever is still to come is due.)
        let time_is_up = self.latest == u64::MAX;
        if !time_is_up && matches!(pause, Pause::Input { .. } | Pause::Closed) && self.dice.below(4) == 0 {
            let ready = self.outbox.ready().len();
            let again = self.again();
            // The last step may have filled the outbox beyond what the next one wants to see free.
            assert!(again == pause || (again == Pause::Room && ready > 0), "{pause:?}, then {again:?}");
            assert_eq!(self.outbox.ready().len(), ready);
        }
    }

    /// The same turn once more.
    fn again(&mut self) -> Pause {
        let now = Instant::from_nanos(self.now);
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        assert!(turn.next().is_none(), "something happened without a cause");
        turn.finish()
    }
}
