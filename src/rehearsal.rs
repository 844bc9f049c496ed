//! In: bytes, the peer's end, times. Out: a transcript of what the machine says and sends: the text that the test scripts and
//! `vestibule replay` print.
//!
//! The transcript does not depend on how the bytes were cut: adjacent parts of a body are merged, events come before the
//! output of their segment.

use crate::{
    Body, Config, Connection, Content, End, Event, Expect, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Request,
    Violation, Wait, decode,
};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

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
        Rehearsal { config, pieces: Pieces::Whole, inbox_bytes, outbox_bytes: 16_384 }
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
                        stage.run();
                    }
                    offset += bytes.len();
                }
                Input::End => {
                    stage.ended = true;
                    stage.run();
                }
                Input::At(now) => {
                    stage.segment();
                    let _ = writeln!(stage.text, "at {} ms", now.as_nanos() / 1_000_000);
                    stage.now = *now;
                    stage.run();
                }
                Input::Drain => {
                    stage.connection.drain();
                    stage.run();
                }
                Input::Hold => stage.reads = Some(0),
                Input::Take(n) => {
                    stage.reads = Some(*n);
                    stage.run();
                }
            }
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
    queue: Vec<u8>,
    ended: bool,
    /// Bytes that the peer is willing to read; `None`: all.
    reads: Option<usize>,
    now: Instant,
    pause: Pause,
    events: Events,
    sent: Vec<u8>,
    text: String,
}

impl Stage {
    fn new(rehearsal: &Rehearsal) -> Stage {
        Stage {
            connection: Connection::new(rehearsal.config.clone(), Instant::ZERO),
            inbox: Inbox::new(vec![0; rehearsal.inbox_bytes]),
            outbox: Outbox::new(vec![0; rehearsal.outbox_bytes]),
            handler: Handler::default(),
            queue: Vec::new(),
            ended: false,
            reads: None,
            now: Instant::ZERO,
            pause: Pause::Yield,
            events: Events::default(),
            sent: Vec::new(),
            text: String::new(),
        }
    }

    /// Turns, until nothing more happens at this time with these bytes.
    fn run(&mut self) {
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
                self.events.say("job");
                turn.done(job.run());
            }
            self.pause = turn.finish();
            let ready = self.outbox.ready().len().min(self.reads.unwrap_or(usize::MAX));
            self.sent.extend_from_slice(&self.outbox.ready()[..ready]);
            self.outbox.wrote(ready);
            self.reads = self.reads.map(|n| n - ready);
            let consumed = self.inbox.len() + self.queue.len() < waiting;
            let went_on = happened || consumed || cut_short || ready > 0 || self.pause == Pause::Yield;
            if self.pause == Pause::Closed || !went_on {
                return;
            }
        }
    }

    /// What was said and sent so far becomes text.
    fn segment(&mut self) {
        let events = core::mem::take(&mut self.events);
        self.text.push_str(&events.text);
        if !self.sent.is_empty() {
            self.text.push_str("send\n");
            write_lines(&mut self.text, &core::mem::take(&mut self.sent));
        }
    }

    fn close(mut self) -> String {
        self.segment();
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

/// Events as text, adjacent parts merged.
#[derive(Default, Debug)]
struct Events {
    text: String,
    open: Option<(&'static str, u64)>,
}

impl Events {
    fn say(&mut self, line: &str) {
        self.seal();
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn seal(&mut self) {
        if self.open.take().is_some() {
            self.text.push('\n');
        }
    }

    /// A part of something that may come in parts.
    fn part(&mut self, kind: &'static str, id: Id, bytes: &[u8], marks: &[(&str, bool)]) {
        let last = marks.iter().any(|m| m.1);
        if self.open != Some((kind, id.number())) {
            self.seal();
            let _ = write!(self.text, "{kind} {} \"\"", id.number());
            self.open = Some((kind, id.number()));
        }
        self.text.pop();
        for &b in bytes {
            escape(&mut self.text, b);
        }
        self.text.push('"');
        for (mark, set) in marks {
            if *set {
                let _ = write!(self.text, " {mark}");
            }
        }
        if last {
            self.seal();
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Hello(hello) => self.say(&alloc::format!("hello {}", hello.sni.unwrap_or("-"))),
            Event::Request(request) => {
                let (id, head) = (request.reply.id().number(), &request.head);
                let body = if request.has_body { " with a body" } else { "" };
                self.say(&alloc::format!("request {id} {} {} {}{body}", head.method, head.target, head.version.name()));
                self.fields(head.fields);
            }
            Event::Body(body) => {
                self.part("body", body.reply.id(), body.bytes, &[("whole", body.whole), ("last", body.last)]);
            }
            Event::Trailers(trailers) => {
                self.say(&alloc::format!("trailers {}", trailers.reply.id().number()));
                self.fields(trailers.fields);
            }
            Event::Tunnel(tunnel) => self.part("tunnel", tunnel.reply.id(), tunnel.bytes, &[("last", tunnel.last)]),
            Event::Writable(_) => {}
            Event::Aborted { id, why, .. } => {
                let why = why.map_or("", |v| v.name());
                self.say(alloc::format!("aborted {} {why}", id.number()).trim_end());
            }
            Event::Fault(violation) => self.say(&fault(violation)),
        }
    }

    fn fields(&mut self, fields: crate::Fields<'_>) {
        for (name, value) in fields.iter() {
            let mut line = alloc::format!("  {name}: ");
            write_bytes(&mut line, value);
            self.say(&line);
        }
    }
}

fn fault(v: &Violation) -> String {
    let mut line = alloc::format!("fault {} at {}: {} ({})", v.name(), v.at, v.status(), v.section());
    if let Some(limit) = v.limit() {
        let _ = write!(line, ", {} is {}", limit.name(), v.value);
    } else if v.value > 0 {
        let _ = write!(line, ", at most {}", v.value);
    }
    line
}

/// One line of text a line of bytes, each indented.
fn write_lines(text: &mut String, bytes: &[u8]) {
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        text.push_str("  ");
        write_bytes(text, line);
        text.push('\n');
    }
}

/// Bytes as the scripts write them; long runs of one byte as `{300*a}`.
fn write_bytes(text: &mut String, bytes: &[u8]) {
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() >= 32 {
            let _ = write!(text, "{{{}*", run.len());
            escape(text, run[0]);
            text.push('}');
        } else {
            run.iter().for_each(|&b| escape(text, b));
        }
    }
}

fn escape(text: &mut String, b: u8) {
    match b {
        b'\r' => text.push_str("\\r"),
        b'\n' => text.push_str("\\n"),
        b'\t' => text.push_str("\\t"),
        0 => text.push_str("\\0"),
        b'\\' | b'{' => text.extend(['\\', char::from(b)]),
        0x20..=0x7e => text.push(char::from(b)),
        _ => {
            let _ = write!(text, "\\x{b:02x}");
        }
    }
}

/// The handler of rehearsals: what it does is chosen by the path of the request, so that a script can ask for it.
///
/// `/early`, `/early-stream`, `/whole/N`, `/job/N`, `/echo`, `/discard`, `/manual`, `/never`, `/close`, `/abort`, `/inform`, `/upgrade`, `/chunked`,
/// `/sized/N`, `/short`, `/long`, `/status/N`, `/bad-field/KIND`, `/bad-trailer`, `/json`; anything else is read, and answered `ok`.
#[derive(Default, Debug)]
pub struct Handler {
    act: Act,
    body: Vec<u8>,
    rest: Vec<u8>,
    finish: bool,
}

/// The largest number that a path may name: what a peer asks for, the handler has to hold.
const MOST: u32 = 1 << 20;

#[derive(Default, Debug, Clone, Copy, PartialEq)]
enum Act {
    #[default]
    Ok,
    Echo,
    Manual,
    Json,
    Ignore,
    Tunnel,
}

impl Handler {
    /// Takes one event and answers as the path says.
    ///
    /// # Errors
    /// What the path asked to be done wrong.
    pub fn on(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Body(body) => self.body(body),
            Event::Trailers(mut trailers) => self.complete(&mut trailers.reply),
            Event::Writable(mut reply) => self.go_on(&mut reply),
            Event::Tunnel(mut tunnel) => {
                if !tunnel.bytes.is_empty() {
                    self.send(&mut tunnel.reply, tunnel.bytes)?;
                }
                if tunnel.last {
                    self.finish = true;
                    self.go_on(&mut tunnel.reply)?;
                }
                Ok(())
            }
            Event::Hello(_) | Event::Aborted { .. } | Event::Fault(_) => Ok(()),
        }
    }

    fn request(&mut self, request: Request<'_>) -> Result<(), Misuse> {
        let Request { head, has_body, mut reply, .. } = request;
        (self.act, self.finish) = (Act::Ok, false);
        self.body.clear();
        self.rest.clear();
        let (route, rest) = match head.path().get(1..).and_then(|p| p.split_once('/')) {
            Some(parts) => parts,
            None => (head.path().trim_start_matches('/'), ""),
        };
        let number = rest.parse::<u32>().unwrap_or(0).min(MOST);
        if head.method == "CONNECT" {
            return self.connect(&mut reply, head.target);
        }
        match route {
            "early" => return self.answer_now(&mut reply, 200),
            "early-stream" => {
                self.act = Act::Ignore;
                reply.respond(200, &[], Content::Streamed)?;
                reply.write(b"hi")?;
                return reply.finish();
            }
            "discard" => {
                reply.discard();
                return self.answer_now(&mut reply, 200);
            }
            "close" => {
                reply.close();
            }
            "never" => self.act = Act::Ignore,
            "abort" => {
                reply.abort();
                return Ok(());
            }
            "inform" => reply.inform(103, &[("link", "</style.css>; rel=preload")])?,
            "upgrade" => return self.upgrade(&mut reply),
            "chunked" => {
                self.act = Act::Ignore;
                reply.respond(200, &[("trailer", "x-sum")], Content::Streamed)?;
                reply.write(b"hello")?;
                return reply.trailers(&[("x-sum", "5")]);
            }
            "sized" => return self.sized(&mut reply, number, number as usize),
            "short" => return self.sized(&mut reply, 10, 5),
            "long" => return self.sized(&mut reply, 3, 5),
            "status" => return self.answer_now(&mut reply, number as u16),
            "bad-field" => return self.bad_field(&mut reply, rest),
            "bad-trailer" => return self.bad_trailer(&mut reply),
            "echo" => self.act = Act::Echo,
            "manual" => {
                self.act = Act::Manual;
                reply.expect(Expect::Manual);
            }
            "whole" | "job" => {
                self.act = Act::Echo;
                let job = route == "job";
                reply.expect(if job { Expect::WholeByJob { max: number } } else { Expect::Whole { max: number } });
            }
            "json" => {
                self.act = Act::Json;
                reply.expect(Expect::Whole { max: 65_536 });
            }
            _ => {}
        }
        if has_body { Ok(()) } else { self.complete(&mut reply) }
    }

    fn body(&mut self, mut body: Body<'_>) -> Result<(), Misuse> {
        match self.act {
            Act::Echo | Act::Json => self.body.extend_from_slice(body.bytes),
            Act::Manual => body.reply.release(body.bytes.len() as u32),
            _ => {}
        }
        if body.last { self.complete(&mut body.reply) } else { Ok(()) }
    }

    /// The request is complete.
    fn complete(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        match self.act {
            Act::Ok | Act::Manual => self.answer_now(reply, 200),
            Act::Echo => {
                let body = core::mem::take(&mut self.body);
                let n = reply.respond(200, &[], Content::Whole(&body))?;
                self.rest.extend_from_slice(&body[n..]);
                Ok(())
            }
            Act::Json => match decode::json::check(&self.body, reply.limits) {
                Ok(()) => reply.text(200, "ok"),
                Err(v) => reply.text(v.status(), &v.to_string()),
            },
            Act::Ignore | Act::Tunnel => Ok(()),
        }
    }

    fn answer_now(&mut self, reply: &mut Reply<'_>, status: u16) -> Result<(), Misuse> {
        self.act = Act::Ignore;
        let body: &[u8] = if matches!(status, 204 | 205) { b"" } else { b"ok" };
        reply.respond(status, &[], Content::Whole(body)).map(|_| ())
    }

    fn sized(&mut self, reply: &mut Reply<'_>, declared: u32, sent: usize) -> Result<(), Misuse> {
        self.act = Act::Ignore;
        reply.respond(200, &[], Content::Sized(u64::from(declared)))?;
        self.finish = true;
        let outcome = self.send(reply, &vec![b'x'; sent]);
        if outcome.is_err() {
            reply.finish()?;
        }
        outcome?;
        self.go_on(reply)
    }

    fn connect(&mut self, reply: &mut Reply<'_>, target: &str) -> Result<(), Misuse> {
        if target != "tunnel.test:443" {
            return self.answer_now(reply, 403);
        }
        self.upgrade(reply)
    }

    fn upgrade(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        self.act = Act::Tunnel;
        match reply.upgrade("echo", &[]) {
            Err(Misuse::NoUpgrade) => self.answer_now(reply, 426),
            other => other,
        }
    }

    fn bad_field(&mut self, reply: &mut Reply<'_>, kind: &str) -> Result<(), Misuse> {
        let field = match kind {
            "crlf" => ("x", "a\r\nset-cookie: b"),
            "nul" => ("x", "a\0b"),
            "name" => ("x y", "a"),
            "framing" => ("Content-Length", "5"),
            "coding" => ("Transfer-Encoding", "chunked"),
            _ => ("Connection", "keep-alive"),
        };
        let refused = reply.respond(200, &[field], Content::Whole(b"ok")).map(|_| ());
        self.answer_now(reply, 500)?;
        refused
    }

    fn bad_trailer(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        self.act = Act::Ignore;
        reply.respond(200, &[], Content::Streamed)?;
        let refused = reply.trailers(&[("content-length", "5")]);
        reply.finish()?;
        refused
    }

    /// Sends what there is room for now, and keeps the rest for `Writable`.
    fn send(&mut self, reply: &mut Reply<'_>, bytes: &[u8]) -> Result<(), Misuse> {
        let n = if self.rest.is_empty() { reply.write(bytes)? } else { 0 };
        self.rest.extend_from_slice(&bytes[n..]);
        Ok(())
    }

    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        if !self.rest.is_empty() {
            let n = reply.write(&self.rest)?;
            self.rest.drain(..n);
        }
        if self.finish && self.rest.is_empty() {
            self.finish = false;
            reply.finish()?;
        }
        Ok(())
    }
}
