//! In: a handler, and bytes of either version. Out: what the machine says to them, and what comes back, for both versions in the
//! same form.

use std::sync::Arc;

use vestibule::{Config, Connection, Event, Inbox, Instant, Limit, Limits, Outbox, Pause, Turn};

use super::client::Client;
use super::frames::Dice;

/// What uses a connection.
pub trait Handler {
    fn on(&mut self, event: Event<'_>);

    /// Whatever it does outside of events.
    fn outside(&mut self, _turn: &mut Turn<'_>) {}
}

impl<F: FnMut(Event<'_>)> Handler for F {
    fn on(&mut self, event: Event<'_>) {
        self(event);
    }
}

pub struct Road<H> {
    pub connection: Connection<Arc<Config>>,
    pub inbox: Inbox<Vec<u8>>,
    pub outbox: Outbox<Vec<u8>>,
    pub handler: H,
    pub pause: Pause,
}

impl<H: Handler> Road<H> {
    pub fn new(limits: Limits, inbox: usize, outbox: usize, handler: H) -> Road<H> {
        let config = Arc::new(Config::new(limits));
        Road {
            inbox: Inbox::new(vec![0; if inbox == 0 { config.inbox_bytes() } else { inbox }]),
            outbox: Outbox::new(vec![0; outbox.max(config.least_outbox_bytes())]),
            connection: Connection::new(config, Instant::ZERO),
            handler,
            pause: Pause::Yield,
        }
    }

    /// One turn: says what it wrote, `reads` bytes at most, and whether anything happened.
    pub fn turn(&mut self, reads: usize) -> (Vec<u8>, bool) {
        let before = (self.inbox.len(), self.connection.stats().events);
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        self.handler.outside(&mut turn);
        while let Some(event) = turn.next() {
            self.handler.on(event);
        }
        self.handler.outside(&mut turn);
        self.pause = turn.finish();
        let n = self.outbox.ready().len().min(reads);
        let output = self.outbox.ready()[..n].to_vec();
        self.outbox.wrote(n);
        let after = (self.inbox.len(), self.connection.stats().events);
        (output, n > 0 || before != after || self.pause == Pause::Yield)
    }

    /// Bytes of HTTP/1.1, fed in pieces: says what was written, once nothing more happens.
    pub fn h1(&mut self, mut bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
        let mut sent = Vec::new();
        let mut idle = 0;
        while idle < 3 {
            let most = dice.pick(&[1, 50, 1_000, 100_000]).min(bytes.len());
            let n = self.inbox.fill(&bytes[..most]);
            bytes = &bytes[n..];
            let (output, moved) = self.turn(usize::MAX);
            sent.extend_from_slice(&output);
            idle = if moved || n > 0 { 0 } else { idle + 1 };
        }
        sent
    }

    /// A conversation with a client of HTTP/2, until neither has anything to say.
    pub fn h2(&mut self, client: &mut Client) {
        let (mut idle, mut rounds) = (0, 0);
        while idle < 20 {
            rounds += 1;
            assert!(rounds < 100_000, "it does not end");
            let said = client.upload();
            idle = if self.step(client, usize::MAX) || said { 0 } else { idle + 1 };
            client.grant_all();
        }
        assert!(client.is_between(), "a frame is cut short");
    }

    /// Some bytes each way.
    pub fn step(&mut self, client: &mut Client, reads: usize) -> bool {
        let most = client.dice.pick(&[1, 50, 1_000, 100_000]);
        let front = client.out.as_slices().0;
        let n = self.inbox.fill(&front[..most.min(front.len())]);
        client.out.drain(..n);
        let (output, moved) = self.turn(reads);
        client.read(&output);
        n > 0 || moved
    }
}

/// Limits under which nothing that these tests do is a flood.
pub fn patient() -> Limits {
    let all = [
        Limit::ResetBurst,
        Limit::GlitchBurst,
        Limit::EmptyFrames,
        Limit::SmallFrameBytes,
        Limit::PriorityFrames,
        Limit::OverheadBytes,
        Limit::ChunkOverheadBytes,
    ];
    let limits = all.into_iter().fold(Limits::DEFAULT, |all, limit| with(all, limit, limit.range().1));
    with(limits, Limit::GatherBytes, 16 << 20)
}

pub fn with(limits: Limits, limit: Limit, value: u64) -> Limits {
    limits.with(limit, value).expect("in its range")
}
