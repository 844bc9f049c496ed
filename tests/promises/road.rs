//! A well-behaved caller: a connection, its buffers, and the handler of rehearsals.

use std::sync::Arc;

use vestibule::rehearsal::Handler;
use vestibule::{Config, Connection, Inbox, Instant, Outbox, Pause, Reply, Wait};

use super::client::responses;

pub struct Road {
    pub connection: Connection<Arc<Config>>,
    pub inbox: Inbox<Vec<u8>>,
    pub outbox: Outbox<Vec<u8>>,
    pub handler: Handler,
    pub now: Instant,
    pub pause: Pause,
    pub events: usize,
    pub sent: Vec<u8>,
    /// The peer reads what is sent.
    pub reads: bool,
    pub turns: u64,
}

impl Road {
    pub fn new(config: Arc<Config>) -> Road {
        Road {
            inbox: Inbox::new(vec![0; config.inbox_bytes()]),
            outbox: Outbox::new(vec![0; 16_384]),
            connection: Connection::new(config, Instant::ZERO),
            handler: Handler::default(),
            now: Instant::ZERO,
            pause: Pause::Yield,
            events: 0,
            sent: Vec::new(),
            reads: true,
            turns: 0,
        }
    }

    pub fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let n = self.inbox.fill(bytes);
            bytes = &bytes[n..];
            self.run();
            if bytes.is_empty() || n == 0 {
                return;
            }
        }
    }

    pub fn at(&mut self, millis: u64) {
        self.now = Instant::from_millis(millis);
        self.run();
    }

    /// Turns until nothing more happens.
    pub fn run(&mut self) {
        loop {
            let (events, waiting) = (self.events, self.inbox.len());
            self.turn(|_| {});
            let sent = if self.reads { self.outbox.ready().len() } else { 0 };
            self.sent.extend_from_slice(&self.outbox.ready()[..sent]);
            self.outbox.wrote(sent);
            let happened = self.events > events || self.inbox.len() < waiting || sent > 0 || self.pause == Pause::Yield;
            if !happened || self.pause == Pause::Closed {
                return;
            }
        }
    }

    pub fn turn(&mut self, answer: impl FnOnce(&mut Reply<'_>)) {
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        if let Pause::Caller(Wait::Reply(id) | Wait::Release(id)) = self.pause
            && let Some(mut reply) = turn.reply(id)
        {
            answer(&mut reply);
        }
        while let Some(event) = turn.next() {
            self.events += 1;
            let _ = self.handler.on(event);
        }
        while let Some(job) = turn.job() {
            self.events += 1;
            turn.done(job.run());
        }
        self.pause = turn.finish();
        self.turns += 1;
    }

    /// Whatever state it is in, it ends: the peer goes, the handler gives up, time passes.
    pub fn end(&mut self) {
        for round in 0.. {
            if self.pause == Pause::Closed {
                return;
            }
            assert!(round < 20, "it does not end: {:?}", self.pause);
            self.inbox.end();
            if let Pause::Caller(Wait::Reply(id) | Wait::Release(id)) = self.pause {
                let mut turn =
                    self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
                turn.reply(id).expect("it is waited for").abort();
                let _ = turn.finish();
            }
            self.reads = true;
            self.run();
        }
    }

    pub fn linear(&self, input: usize) {
        let (stats, input) = (self.connection.stats(), input as u64);
        assert!(stats.visited_bytes <= 2 * input, "{stats:?} for {input}");
        assert!(stats.moved_bytes <= input, "{stats:?} for {input}");
        assert!(stats.units <= 4 * input + 4 * self.turns + 64, "{stats:?} for {input}, {} turns", self.turns);
    }

    pub fn status(&self) -> Option<u16> {
        responses(&self.sent, &[]).expect("valid output").last().map(|r| r.status)
    }
}
