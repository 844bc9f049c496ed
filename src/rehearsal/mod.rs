//! In: bytes, the peer's end, times. Out: a transcript of what the machine says and sends: the text that the test scripts and
//! `vestibule replay` print.
//!
//! The transcript does not depend on how the bytes were cut: adjacent parts of a body are merged, events come before the
//! output of their segment.

mod frames;
mod handler;
mod transcript;

pub use handler::Handler;

use crate::decode::job::Job;
use crate::{Config, Connection, End, Inbox, Instant, Misuse, Outbox, Pause, Turn, Wait};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use transcript::{Events, Output};

/// One step of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The peer sends bytes.
    Bytes(Vec<u8>),
    /// The peer ends its side.
    End,
    /// The clock shows this time, and the machine gets a turn.
    At(Instant),
    /// The server wants to stop: [`Connection::drain`].
    Drain,
    /// The peer reads nothing from here on, but what it is told to.
    Hold,
    /// A peer that holds reads so many bytes.
    Take(usize),
    /// The handler answers the exchange with this number: [`Handler::answer`].
    Answer(u64),
    /// The handler gives back what this exchange was lent: [`Handler::release`].
    Release(u64),
}

/// How the peer's bytes are cut into reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// As they are.
    Whole,
    /// So many at a time.
    Each(usize),
    /// Once, behind so many.
    Cut(usize),
}

/// Plays a peer against a connection whose handler is [`Handler`].
///
/// ```
/// use vestibule::rehearsal::{Input, Rehearsal};
/// let text = Rehearsal::default().play(&[Input::Bytes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec())]);
/// assert!(text.starts_with("request 1 GET / HTTP/1.1\n  host: a\nsend\n  HTTP/1.1 200 OK\\r\\n\n"));
/// ```
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The configuration of the connection.
    pub config: Arc<Config>,
    /// How the input is cut.
    pub pieces: Pieces,
    /// Size of the inbox.
    pub inbox_bytes: usize,
    /// Size of the outbox.
    pub outbox_bytes: usize,
    /// The connection is only told that there are too many: [`Connection::overloaded`].
    pub overloaded: bool,
}

impl Default for Rehearsal {
    fn default() -> Self {
        let config = Config::new(crate::Limits::DEFAULT);
        Rehearsal::new(Arc::new(config))
    }
}

impl Rehearsal {
    /// With buffers in which every limit of the configuration can be reached.
    pub fn new(config: Arc<Config>) -> Rehearsal {
        let inbox_bytes = config.inbox_bytes();
        Rehearsal { config, pieces: Pieces::Whole, inbox_bytes, outbox_bytes: 16_384, overloaded: false }
    }

    /// The transcript of these steps.
    pub fn play(&self, steps: &[Input]) -> String {
        let mut stage = Stage::new(self);
        let mut offset = 0;
        for step in steps {
            match step {
                Input::Bytes(bytes) => {
                    for piece in self.cut(bytes, offset) {
                        stage.queue.extend_from_slice(piece);
                        stage.turns();
                    }
                    offset += bytes.len();
                }
                Input::End => stage.ended = true,
                Input::At(now) => {
                    stage.segment();
                    let _ = writeln!(stage.text, "at {} ms", now.as_nanos() / 1_000_000);
                    stage.now = *now;
                }
                Input::Drain => stage.connection.drain(),
                Input::Hold => {
                    stage.reads = Some(0);
                    continue;
                }
                Input::Take(n) => stage.reads = Some(*n),
                Input::Answer(number) => stage.handle(|handler, turn| handler.answer(turn, *number)),
                Input::Release(number) => stage.handle(|handler, turn| handler.release(turn, *number)),
            }
            stage.turns();
            stage.jobs();
        }
        stage.close()
    }

    fn cut<'b>(&self, bytes: &'b [u8], offset: usize) -> Vec<&'b [u8]> {
        match self.pieces {
            Pieces::Whole => vec![bytes],
            Pieces::Each(n) => bytes.chunks(n.max(1)).collect(),
            Pieces::Cut(at) => {
                let (a, b) = bytes.split_at(at.saturating_sub(offset).min(bytes.len()));
                vec![a, b]
            }
        }
    }
}

/// The theatre of one rehearsal: a connection, its buffers, its handler, and what was said so far.
struct Stage {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    handler: Handler,
    /// Fetched, and not back yet.
    jobs: Vec<Job>,
    queue: Vec<u8>,
    ended: bool,
    /// Bytes that the peer is willing to read; `None`: all.
    reads: Option<usize>,
    now: Instant,
    pause: Pause,
    events: Events,
    sent: Vec<u8>,
    output: Output,
    text: String,
}

impl Stage {
    fn new(rehearsal: &Rehearsal) -> Stage {
        Stage {
            connection: match rehearsal.overloaded {
                false => Connection::new(rehearsal.config.clone(), Instant::ZERO),
                true => Connection::new(rehearsal.config.clone(), Instant::ZERO).overloaded(),
            },
            inbox: Inbox::new(vec![0; rehearsal.inbox_bytes]),
            outbox: Outbox::new(vec![0; rehearsal.outbox_bytes]),
            handler: Handler::default(),
            jobs: Vec::new(),
            queue: Vec::new(),
            ended: false,
            reads: None,
            now: Instant::ZERO,
            pause: Pause::Yield,
            events: Events::default(),
            sent: Vec::new(),
            output: Output::new(),
            text: String::new(),
        }
    }

    /// Turns, until nothing more happens at this time with these bytes.
    fn turns(&mut self) {
        loop {
            let mut filled = 0;
            if !matches!(self.pause, Pause::Caller(_)) || self.inbox.is_empty() {
                filled = self.inbox.fill(&self.queue);
                self.queue.drain(..filled);
            }
            let cut_short = filled > 0 && !self.queue.is_empty();
            if self.ended && self.queue.is_empty() {
                self.inbox.end();
            }
            let waiting = self.inbox.len() + self.queue.len();
            let Ok(mut turn) = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox) else {
                self.events.say("misuse of the turn");
                return;
            };
            let mut happened = false;
            while let Some(event) = turn.next() {
                happened = true;
                self.events.event(&event);
                if let Err(misuse) = self.handler.on(event) {
                    self.events.say(&alloc::format!("misuse {misuse:?}"));
                }
            }
            while let Some(job) = turn.job() {
                happened = true;
                self.jobs.push(job);
            }
            self.pause = turn.finish();
            let ready = self.send();
            let consumed = self.inbox.len() + self.queue.len() < waiting;
            let went_on = happened || consumed || cut_short || ready > 0 || self.pause == Pause::Yield;
            if self.pause == Pause::Closed || !went_on {
                return;
            }
        }
    }

    /// Jobs take a while: they are back when the step's bytes are there, however these were cut.
    fn jobs(&mut self) {
        while !self.jobs.is_empty() {
            let jobs = core::mem::take(&mut self.jobs);
            self.aside(|_, events, turn| {
                for job in jobs {
                    if turn.done(job.run()) {
                        events.say("job"); // of one that is gone nobody hears, as of one that was never fetched
                    }
                }
            });
            self.turns();
        }
    }

    /// The handler acts outside of its events.
    fn handle(&mut self, act: impl FnOnce(&mut Handler, &mut Turn<'_>) -> Result<(), Misuse>) {
        self.aside(|handler, events, turn| {
            if let Err(misuse) = act(handler, turn) {
                events.say(&alloc::format!("misuse {misuse:?}"));
            }
        });
    }

    /// A turn without events.
    fn aside(&mut self, act: impl FnOnce(&mut Handler, &mut Events, &mut Turn<'_>)) {
        let Ok(mut turn) = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox) else {
            self.events.say("misuse of the turn");
            return;
        };
        act(&mut self.handler, &mut self.events, &mut turn);
        let _ = turn.finish(); // it says nothing of what would happen
    }

    /// The peer reads what it is willing to.
    fn send(&mut self) -> usize {
        let ready = self.outbox.ready().len().min(self.reads.unwrap_or(usize::MAX));
        self.sent.extend_from_slice(&self.outbox.ready()[..ready]);
        self.outbox.wrote(ready);
        self.reads = self.reads.map(|n| n - ready);
        ready
    }

    /// What was said and sent so far becomes text.
    fn segment(&mut self) {
        self.text.push_str(&self.events.take());
        self.output.segment(&mut self.text, &core::mem::take(&mut self.sent));
    }

    fn close(mut self) -> String {
        self.segment();
        self.output.close(&mut self.text);
        let unread = self.inbox.len() + self.queue.len();
        let _ = match (self.pause, self.connection.end()) {
            (Pause::Closed, Some(End::Ours) | None) => writeln!(self.text, "then closed"),
            (Pause::Closed, Some(end)) => {
                writeln!(self.text, "then closed {}", alloc::format!("{end:?}").to_lowercase())
            }
            (_, Some(_)) => writeln!(self.text, "then closing"),
            (Pause::Caller(Wait::Reply(id)), _) => writeln!(self.text, "then reply {}, {unread} unread", id.number()),
            (Pause::Caller(wait), _) => writeln!(self.text, "then {wait:?}, {unread} unread"),
            (Pause::Input { .. }, _) => writeln!(self.text, "then input"),
            (pause, _) => writeln!(self.text, "then {pause:?}"),
        };
        self.text
    }
}
