//! In: events. Out: answers, chosen by the paths of the requests, so that a script can ask for them. Many exchanges at once.

use crate::{Body, Content, Event, Expect, Head, Id, Misuse, Reply, Request, Trailers, Tunnel, Turn, decode};
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec::Vec;

/// The handler of rehearsals: what it does is chosen by the path of the request, so that a script can ask for it.
///
/// At once: `/early`, `/early-stream`, `/discard`, `/abort`, `/chunked`, `/sized/N`, `/short`, `/long`, `/status/N`, `/upgrade`,
/// `/bad-field/KIND`, `/bad-trailer`, and 415 by `/typed` for what is neither JSON nor text. When the request is complete: `/whole/N`, `/job/N`, `/echo`, `/json`, `/inform`, `/close`,
/// `/manual`, which gives back what it was lent, `/paused`, which does so when [`Handler::release`] says so, `/begin`, whose
/// response begins at once; anything else is answered `ok`. When [`Handler::answer`] says so, and else never: `/never`, `/hold`, `/later/N`.
#[derive(Default, Debug)]
pub struct Handler {
    /// What is not answered to its end. Entries leave with the answer's last byte, with `Aborted`, with the connection.
    open: BTreeMap<Id, Exchange>,
}

/// The largest number that a path may name: what a peer asks for, the handler has to hold.
const MOST: u32 = 1 << 20;

/// What `/sized/N` and `/later/N` send.
const FILLING: [u8; 16_384] = [b'x'; 16_384];

#[derive(Default, Debug, Clone, Copy, PartialEq)]
enum Act {
    #[default]
    Ok,
    Echo,
    Manual,
    Paused,
    Json,
    /// The response has begun, and ends with the request.
    Begun,
    /// Answered, or not to be answered by itself.
    Wait,
    Tunnel,
}

/// How an answer ends once all of it was taken.
#[derive(Default, Debug, Clone, Copy, PartialEq)]
enum Ending {
    #[default]
    Open,
    ByItself,
    ByFinish,
}

#[derive(Default, Debug)]
struct Exchange {
    act: Act,
    body: Vec<u8>,
    /// Content that was not taken yet, and so much filling behind it.
    rest: Vec<u8>,
    filling: usize,
    ending: Ending,
    /// What `/later/N` will send.
    later: u32,
    /// Lent to `/paused`, and not given back.
    held: u32,
    is_connect: bool,
    over: bool,
}

impl Handler {
    /// Takes one event and answers as the path says.
    ///
    /// # Errors
    /// What the path asked to be done wrong.
    pub fn on(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => {
                let id = request.reply.id();
                self.open.insert(id, Exchange::default());
                self.with(id, |x| x.request(request))
            }
            Event::Body(body) => self.with(body.reply.id(), |x| x.body(body)),
            Event::Trailers(Trailers { mut reply, .. }) => self.with(reply.id(), |x| x.complete(&mut reply)),
            Event::Writable(mut reply) => self.with(reply.id(), |x| x.go_on(&mut reply)),
            Event::Tunnel(tunnel) => self.with(tunnel.reply.id(), |x| x.tunnel(tunnel)),
            Event::Aborted { id, .. } => {
                self.open.remove(&id);
                Ok(())
            }
            Event::Fault(_) => {
                self.open.clear();
                Ok(())
            }
            Event::Hello(_) | Event::Proxied(_) => Ok(()),
        }
    }

    /// Answers the exchange with this number now, whatever its path said: `ok`, N bytes for `/later/N`, a tunnel for CONNECT.
    ///
    /// # Errors
    /// [`Misuse::Gone`] if there is no such exchange, or it is answered.
    pub fn answer(&mut self, turn: &mut Turn<'_>, number: u64) -> Result<(), Misuse> {
        self.outside(turn, number, Exchange::answer)
    }

    /// Gives back all that was lent to the `/paused` exchange with this number.
    ///
    /// # Errors
    /// [`Misuse::Gone`] if there is no such exchange, or it is answered.
    pub fn release(&mut self, turn: &mut Turn<'_>, number: u64) -> Result<(), Misuse> {
        self.outside(turn, number, |x, reply| {
            reply.release(core::mem::take(&mut x.held));
            Ok(())
        })
    }

    fn outside(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        act: impl FnOnce(&mut Exchange, &mut Reply<'_>) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let id = self.open.keys().copied().find(|id| id.number() == number).ok_or(Misuse::Gone)?;
        let mut reply = turn.reply(id).ok_or(Misuse::Gone)?;
        self.with(id, |x| act(x, &mut reply))
    }

    fn with(&mut self, id: Id, act: impl FnOnce(&mut Exchange) -> Result<(), Misuse>) -> Result<(), Misuse> {
        let Some(x) = self.open.get_mut(&id) else { return Ok(()) }; // answered before its request was complete
        let outcome = act(x);
        if x.over || outcome == Err(Misuse::Gone) {
            self.open.remove(&id);
        }
        outcome
    }
}

impl Exchange {
    fn request(&mut self, mut request: Request<'_>) -> Result<(), Misuse> {
        if request.head.path() == "/typed" && request.takes(&["application/json", "text/*"])?.is_none() {
            self.over = true;
            return Ok(());
        }
        let Request { head, has_body, reply: mut own, .. } = request;
        let reply = &mut own;
        if is_tunnel(&head) {
            return if head.target == "tunnel.test:443" { self.upgrade(reply) } else { self.answer_now(reply, 403) };
        }
        let (route, rest) = match head.path().get(1..).and_then(|p| p.split_once('/')) {
            Some(parts) => parts,
            None => (head.path().trim_start_matches('/'), ""),
        };
        let number = rest.parse::<u32>().unwrap_or(0).min(MOST);
        match route {
            "early" => return self.answer_now(reply, 200),
            "discard" => {
                reply.discard();
                return self.answer_now(reply, 200);
            }
            "early-stream" | "chunked" | "begin" => return self.streamed(reply, route, has_body),
            "abort" => {
                self.over = true;
                own.abort();
                return Ok(());
            }
            "upgrade" => return self.upgrade(reply),
            "sized" => return self.sized(reply, number, number as usize),
            "short" => return self.sized(reply, 10, 5),
            "long" => return self.sized(reply, 3, 5),
            "status" => return self.answer_now(reply, number as u16),
            "bad-field" => return self.bad_field(reply, rest),
            "bad-trailer" => return self.bad_trailer(reply),
            "never" | "hold" | "later" => {
                (self.act, self.later, self.is_connect) = (Act::Wait, number, head.method == "CONNECT");
            }
            "close" => {
                reply.close();
            }
            "inform" => reply.inform(103, &[("link", "</style.css>; rel=preload")])?,
            "echo" => self.act = Act::Echo,
            "manual" | "paused" => {
                self.act = if route == "manual" { Act::Manual } else { Act::Paused };
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
        if has_body { Ok(()) } else { self.complete(reply) }
    }

    fn body(&mut self, mut body: Body<'_>) -> Result<(), Misuse> {
        match self.act {
            Act::Echo | Act::Json => self.body.extend_from_slice(body.bytes),
            Act::Manual => body.reply.release(body.bytes.len() as u32),
            Act::Paused => self.held = self.held.saturating_add(body.bytes.len() as u32),
            _ => {}
        }
        if body.last { self.complete(&mut body.reply) } else { Ok(()) }
    }

    fn tunnel(&mut self, mut tunnel: Tunnel<'_>) -> Result<(), Misuse> {
        if !tunnel.bytes.is_empty() {
            self.send(&mut tunnel.reply, tunnel.bytes)?;
        }
        if tunnel.last {
            self.ending = Ending::ByFinish;
            self.go_on(&mut tunnel.reply)?;
        }
        Ok(())
    }

    /// The request is complete.
    fn complete(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        match self.act {
            Act::Ok | Act::Manual | Act::Paused => self.answer_now(reply, 200),
            Act::Echo => {
                let body = core::mem::take(&mut self.body);
                let n = reply.respond(200, &[], Content::Whole(&body))?;
                self.rest.extend_from_slice(&body[n..]);
                self.act = Act::Wait;
                self.ending = Ending::ByItself;
                self.over = self.rest.is_empty();
                Ok(())
            }
            Act::Json => {
                self.over = true;
                match decode::json::check(&self.body, reply.limits) {
                    Ok(()) => reply.text(200, "ok"),
                    Err(v) => reply.text(v.status(), &v.to_string()),
                }
            }
            Act::Begun => {
                self.over = true;
                reply.finish()
            }
            Act::Wait | Act::Tunnel => Ok(()),
        }
    }

    /// From outside of its events.
    fn answer(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        match self.act {
            Act::Begun => self.complete(reply),
            _ if self.is_connect => self.upgrade(reply),
            _ if self.later > 0 => self.sized(reply, self.later, self.later as usize),
            _ => self.answer_now(reply, 200),
        }
    }

    fn answer_now(&mut self, reply: &mut Reply<'_>, status: u16) -> Result<(), Misuse> {
        self.act = Act::Wait;
        let body: &[u8] = if matches!(status, 204 | 205) { b"" } else { b"ok" };
        reply.respond(status, &[], Content::Whole(body))?;
        self.over = true;
        Ok(())
    }

    fn streamed(&mut self, reply: &mut Reply<'_>, route: &str, has_body: bool) -> Result<(), Misuse> {
        self.act = Act::Wait;
        match route {
            "chunked" => {
                reply.respond(200, &[("trailer", "x-sum")], Content::Streamed)?;
                reply.write(b"hello")?;
                self.over = true;
                reply.trailers(&[("x-sum", "5")])
            }
            "begin" if has_body => {
                self.act = Act::Begun;
                reply.respond(200, &[], Content::Streamed)?;
                reply.write(b"hi").map(|_| ())
            }
            _ => {
                reply.respond(200, &[], Content::Streamed)?;
                reply.write(b"hi")?;
                self.over = true;
                reply.finish()
            }
        }
    }

    fn sized(&mut self, reply: &mut Reply<'_>, declared: u32, sent: usize) -> Result<(), Misuse> {
        self.act = Act::Wait;
        reply.respond(200, &[], Content::Sized(u64::from(declared)))?;
        self.filling = sent;
        self.ending = Ending::ByFinish;
        let outcome = self.go_on(reply);
        if outcome.is_err() {
            self.over = true;
            reply.finish()?;
        }
        outcome
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
        self.act = Act::Wait;
        reply.respond(200, &[], Content::Streamed)?;
        let refused = reply.trailers(&[("content-length", "5")]);
        self.over = true;
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
        while self.rest.is_empty() && self.filling > 0 {
            let part = &FILLING[..self.filling.min(FILLING.len())];
            let n = reply.write(part)?;
            self.filling -= n;
            if n < part.len() {
                break;
            }
        }
        if self.ending == Ending::Open || !self.rest.is_empty() || self.filling > 0 {
            return Ok(());
        }
        self.over = true;
        if self.ending == Ending::ByFinish { reply.finish() } else { Ok(()) }
    }
}

/// A CONNECT that names a host to connect to; an extended one (RFC 8441) names a path.
fn is_tunnel(head: &Head<'_>) -> bool {
    head.method == "CONNECT" && !head.target.starts_with('/')
}
