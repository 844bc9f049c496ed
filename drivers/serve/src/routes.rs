//! In: the events of one connection. Out: the answers of the program's routes, to as many exchanges at once as there
//! are.
//!
//! `GET /`, `GET /hello`, `GET /bytes/N`, `GET` or `POST /inspect`, `POST /echo`, `GET` or `POST /upload`; and what the page and Prometheus
//! ask for: `GET /probe.json`, `GET /live.js`, `GET /metrics`.

use crate::inspect::{About, Inspection};
use crate::live::SCRIPT;
use crate::page::{Entry, Site, UPLOAD};
use crate::upload::{Upload, tell};
use serde_json::json;
use std::sync::Arc;
use vestibule::{Body, Content, Event, Expect, Head, Id, Misuse, Reply, Request, Session, Violation};
use vestibule_driver::probe::Probe;
use vestibule_driver::{Peer, Service};

/// The largest body that is taken whole.
const WHOLE: u32 = 1 << 20;
/// The largest body that is given back.
const ECHOED: u64 = 256 << 20;
/// How much of an upload that is refused is still read.
const DRAINED: u64 = 16 << 20;
/// An echo up to this size is answered with its length; a longer one goes back in chunks while it comes.
const HELD: usize = 32 << 10;
/// The most that `/bytes/N` gives.
const MOST: u64 = 1 << 40;

const PERIOD: usize = 32;

/// What `/bytes/N` consists of, again and again.
static PATTERN: [u8; 65_536] = {
    let mut bytes = [0; 65_536];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = b"abcdefghijklmnopqrstuvwxyz012345"[i % PERIOD];
        i += 1;
    }
    bytes
};

/// What is being done for a request.
#[derive(Default)]
enum Act {
    /// Nothing more: its body, if there is one, is of no interest.
    #[default]
    Answered,
    Echo {
        content_type: Option<String>,
        begun: bool,
        /// All of the request's body came.
        complete: bool,
    },
    Inspect(Box<Inspection>),
    Upload(Box<Upload>),
    /// The upload is refused. Many clients write all of it before they read, so this much of it is read and dropped first.
    Refused {
        violation: Violation,
        left: u64,
    },
    Bytes {
        sent: u64,
        of: u64,
    },
}

/// An exchange that is under way.
struct Visit {
    id: Id,
    act: Act,
    /// What the last `respond` or `write` did not take, or what of an echo is held.
    rest: Vec<u8>,
    /// So many bytes of it are written: fewer than half, so that little is moved for little that is taken.
    gone: usize,
    /// The response is complete.
    over: bool,
    entry: Entry,
}

/// The service of one connection. With HTTP/2 many exchanges are under way at once; each one's tag says where its visit
/// lies, and there are never more of them than the machine has streams.
pub(crate) struct Visitor {
    site: Arc<Site>,
    peer: Peer,
    /// By tag, which counts from 1; places are used again.
    visits: Vec<Option<Visit>>,
    requests: u64,
    /// A buffer for the next `rest`.
    spare: Vec<u8>,
}

impl Visitor {
    pub(crate) fn new(site: Arc<Site>, peer: Peer) -> Visitor {
        Visitor { site, peer, visits: Vec::new(), requests: 0, spare: Vec::new() }
    }

    fn request(&mut self, request: Request<'_>) -> Result<(), Misuse> {
        let Request { head, has_body, tls, mut reply, .. } = request;
        self.requests += 1;
        let mut visit = Visit {
            id: reply.id(),
            act: Act::Answered,
            rest: std::mem::take(&mut self.spare),
            gone: 0,
            over: false,
            entry: Entry::new(&head, tls.as_ref()),
        };
        reply.discard();
        let outcome = self.begin(&mut visit, &head, tls.as_ref(), has_body, &mut reply);
        if visit.over || outcome.is_err() {
            self.over(visit);
        } else {
            let place = self.visits.iter().position(Option::is_none).unwrap_or(self.visits.len());
            reply.set_tag(place as u64 + 1);
            match self.visits.get_mut(place) {
                Some(free) => *free = Some(visit),
                None => self.visits.push(Some(visit)),
            }
        }
        outcome
    }

    /// The first answer of a route, or what it needs for it.
    fn begin(
        &self,
        visit: &mut Visit,
        head: &Head<'_>,
        tls: Option<&Session<'_>>,
        has_body: bool,
        reply: &mut Reply<'_>,
    ) -> Result<(), Misuse> {
        let path = head.path();
        let allowed = match path {
            "/echo" => "POST",
            "/inspect" | "/upload" => "GET, HEAD, POST",
            _ => "GET, HEAD",
        };
        let bytes = path.strip_prefix("/bytes/").and_then(number);
        let live = matches!(path, "/metrics" | "/probe.json" | "/live.js");
        if bytes.is_none() && !live && !matches!(path, "/" | "/hello" | "/echo" | "/inspect" | "/upload") {
            let hint = "There is /, /hello, /inspect, /upload, /echo (POST), /metrics, /probe.json and /bytes/N, with N up to 2^40.\n";
            return visit.answer(reply, 404, &[TEXT], hint.as_bytes());
        }
        if !allowed.split(", ").any(|method| method == head.method) {
            let hint = format!("This takes {allowed}.\n");
            return visit.answer(reply, 405, &[TEXT, ("allow", allowed)], hint.as_bytes());
        }
        match (path, bytes) {
            ("/hello", _) => visit.answer(reply, 200, &[TEXT], b"Hello, world!"),
            ("/", _) => visit.page(reply, &self.site.page()),
            _ if live => visit.live(reply, path, &self.site),
            ("/upload", _) if head.method != "POST" => visit.page(reply, UPLOAD),
            ("/upload", _) => {
                match Upload::new(head.fields.get("content-type"), &self.site.limits) {
                    Ok(upload) => visit.act = Act::Upload(Box::new(upload)),
                    Err(violation) => return visit.refuse(reply, &violation),
                }
                reply.expect(Expect::Stream);
                if has_body { Ok(()) } else { visit.complete(reply, b"", &self.site) }
            }
            ("/inspect", _) => {
                let open = self.visits.iter().flatten().count();
                let connection = About { peer: self.peer, requests: self.requests, open, id: visit.id };
                visit.act = Act::Inspect(Box::new(Inspection::new(head, tls, has_body, &connection)));
                reply.expect(match self.site.by_job {
                    true => Expect::WholeByJob { max: WHOLE },
                    false => Expect::Whole { max: WHOLE },
                });
                if has_body { Ok(()) } else { visit.complete(reply, b"", &self.site) }
            }
            ("/echo", _) if head.fields.text("content-length").and_then(number).is_some_and(|n| n > ECHOED) => {
                let hint = format!("This gives back {ECHOED} bytes at most.\n");
                visit.answer(reply, 413, &[TEXT], hint.as_bytes())
            }
            ("/echo", _) => {
                let content_type = head.fields.text("content-type").map(String::from);
                visit.act = Act::Echo { content_type, begun: false, complete: false };
                reply.expect(Expect::Stream);
                if has_body { Ok(()) } else { visit.complete(reply, b"", &self.site) }
            }
            (_, n) => {
                let n = n.unwrap_or(0);
                reply.respond(200, &[("content-type", "application/octet-stream")], Content::Sized(n))?;
                (visit.entry.status, visit.entry.sent_bytes) = (200, n);
                visit.act = Act::Bytes { sent: 0, of: if head.method == "HEAD" { 0 } else { n } };
                visit.go_on(reply)
            }
        }
    }

    /// An event of an exchange, if that is still under way here.
    fn visit(
        &mut self,
        (id, tag): (Id, u64),
        act: impl FnOnce(&mut Visit, &Site) -> Result<(), Misuse>,
    ) -> Result<(), Misuse> {
        let place = usize::try_from(tag).ok().and_then(|tag| self.visits.get_mut(tag.checked_sub(1)?));
        let Some(place) = place else { return Ok(()) };
        let Some(visit) = place.as_mut().filter(|visit| visit.id == id) else { return Ok(()) };
        let outcome = act(visit, &self.site);
        if (visit.over || outcome.is_err())
            && let Some(visit) = place.take()
        {
            self.over(visit);
        }
        outcome
    }

    /// On to the list of the page. One buffer is kept for the next request, unless it is large.
    fn over(&mut self, visit: Visit) {
        let Visit { mut rest, entry, .. } = visit;
        self.site.visited(entry);
        if rest.capacity() > self.spare.capacity() && rest.capacity() <= 2 * HELD {
            rest.clear();
            self.spare = rest;
        }
    }
}

impl Visit {
    fn body(&mut self, mut body: Body<'_>, site: &Site) -> Result<(), Misuse> {
        self.entry.body_bytes += body.bytes.len() as u64;
        if body.whole {
            return self.complete(&mut body.reply, body.bytes, site);
        }
        if let Act::Upload(upload) = &mut self.act
            && let Err(violation) = upload.feed(body.bytes, &site.limits)
        {
            self.act = Act::Refused { violation, left: DRAINED };
        }
        match &mut self.act {
            Act::Refused { left, .. } => {
                *left = left.saturating_sub(body.bytes.len() as u64);
                let enough = body.last || *left == 0;
                return if enough { self.complete(&mut body.reply, b"", site) } else { Ok(()) };
            }
            Act::Upload(_) if body.last => return self.complete(&mut body.reply, b"", site),
            Act::Upload(_) => return Ok(()),
            _ => {}
        }
        if self.entry.body_bytes > ECHOED {
            self.over = true; // its length was not declared, or it is coded
            body.reply.abort();
            return Ok(());
        }
        let Act::Echo { content_type, begun, .. } = &mut self.act else { return Ok(()) };
        self.rest.extend_from_slice(body.bytes);
        if body.last {
            return self.complete(&mut body.reply, b"", site);
        }
        if !*begun && self.rest.len() > HELD {
            *begun = true;
            body.reply.respond(200, &echo_fields(content_type.as_ref()), Content::Streamed)?;
            self.entry.status = 200;
        }
        if *begun { self.go_on(&mut body.reply) } else { Ok(()) }
    }

    /// All of the request is there.
    fn complete(&mut self, reply: &mut Reply<'_>, whole: &[u8], site: &Site) -> Result<(), Misuse> {
        match std::mem::take(&mut self.act) {
            Act::Inspect(inspection) => {
                let (status, text) = inspection.answer(whole, &site.limits);
                self.answer(reply, status, &[JSON], &text)
            }
            Act::Refused { violation, .. } => {
                reply.discard();
                self.refuse(reply, &violation)
            }
            Act::Upload(mut upload) => match upload.feed(whole, &site.limits).and_then(|()| upload.finish()) {
                Ok(parts) => {
                    let told = json!({ "bytes": self.entry.body_bytes, "parts": parts });
                    self.answer(reply, 200, &[JSON], format!("{told:#}\n").as_bytes())
                }
                Err(violation) => self.refuse(reply, &violation),
            },
            Act::Echo { content_type, begun: false, .. } => {
                let body = std::mem::take(&mut self.rest);
                self.answer(reply, 200, &echo_fields(content_type.as_ref()), &body)
            }
            Act::Echo { content_type, begun, .. } => {
                self.act = Act::Echo { content_type, begun, complete: true };
                self.go_on(reply)
            }
            act => {
                self.act = act;
                Ok(())
            }
        }
    }

    /// What the page asks for once a second, and Prometheus now and then.
    fn live(&mut self, reply: &mut Reply<'_>, path: &str, site: &Site) -> Result<(), Misuse> {
        match (path, site.probe()) {
            ("/live.js", _) => self.answer(reply, 200, &[SCRIPT_TYPE, NO_STORE], SCRIPT.as_bytes()),
            ("/metrics", Some(probe)) => {
                let fields = [("content-type", Probe::PROMETHEUS), NO_STORE];
                self.answer(reply, 200, &fields, probe.prometheus().as_bytes())
            }
            (_, Some(probe)) => self.answer(reply, 200, &[JSON, NO_STORE], probe.json().as_bytes()),
            (_, None) => self.answer(reply, 404, &[TEXT], b"Nothing is measured: the probe is off (--no-probe).\n"),
        }
    }

    fn page(&mut self, reply: &mut Reply<'_>, page: &str) -> Result<(), Misuse> {
        let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'";
        let fields = [("content-type", "text/html; charset=utf-8"), NO_STORE, ("content-security-policy", policy)];
        self.answer(reply, 200, &fields, page.as_bytes())
    }

    /// A broken rule that the machine knows nothing of: its status, and which one it was.
    fn refuse(&mut self, reply: &mut Reply<'_>, violation: &Violation) -> Result<(), Misuse> {
        let told = format!("{:#}\n", json!({ "violation": tell(violation) }));
        let accepted = ("accept", "multipart/form-data");
        let fields = if violation.status() == 415 { &[JSON, accepted][..] } else { &[JSON][..] };
        self.answer(reply, violation.status(), fields, told.as_bytes())
    }

    /// A complete response; what there is no room for now follows when there is.
    fn answer(
        &mut self,
        reply: &mut Reply<'_>,
        status: u16,
        fields: &[(&str, &str)],
        content: &[u8],
    ) -> Result<(), Misuse> {
        let n = reply.respond(status, fields, Content::Whole(content))?;
        self.rest.extend_from_slice(content.get(n..).unwrap_or_default());
        (self.entry.status, self.entry.sent_bytes) = (status, content.len() as u64);
        self.over = self.rest.is_empty();
        Ok(())
    }

    /// Writes as much as is taken: there may be no room, no window, or more urgent streams (RFC 9218 §10).
    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        if let Act::Bytes { sent, of } = &mut self.act {
            while sent < of {
                let from = PATTERN.get((*sent % PERIOD as u64) as usize..).unwrap_or(&PATTERN);
                let piece = from.get(..(*of - *sent).min(from.len() as u64) as usize).unwrap_or(from);
                let n = reply.write(piece)?;
                *sent += n as u64;
                if n < piece.len() {
                    return Ok(());
                }
            }
            self.over = true;
            return reply.finish();
        }
        let n = reply.write(self.rest.get(self.gone..).unwrap_or_default())?;
        self.gone += n;
        if self.gone >= self.rest.len() / 2 {
            self.rest.drain(..std::mem::take(&mut self.gone));
        }
        let Act::Echo { complete, .. } = self.act else {
            self.over = self.rest.is_empty(); // a whole answer needs no other end
            return Ok(());
        };
        self.entry.sent_bytes += n as u64;
        // As fast as it is read. Who sends and does not read is held up and fills no memory: what comes while something
        // waits to be written is given back as it is written, and in HTTP/2 its window grows only while nothing waits.
        reply.expect(if self.rest.is_empty() { Expect::Stream } else { Expect::Manual });
        reply.release(u32::try_from(n).unwrap_or(u32::MAX));
        if complete && self.rest.is_empty() {
            self.over = true;
            return reply.finish();
        }
        Ok(())
    }
}

impl Service for Visitor {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Body(body) => self.visit((body.reply.id(), body.tag), |visit, site| visit.body(body, site)),
            Event::Trailers(mut trailers) => {
                let whose = (trailers.reply.id(), trailers.tag);
                self.visit(whose, |visit, site| visit.complete(&mut trailers.reply, b"", site))
            }
            Event::Writable(mut reply) => {
                let whose = (reply.id(), reply.tag());
                self.visit(whose, |visit, _| visit.go_on(&mut reply))
            }
            Event::Aborted { id, tag, why, .. } => self.visit((id, tag), |visit, _| {
                if let Some(violation) = why {
                    visit.entry.status = violation.status();
                }
                visit.over = true;
                Ok(())
            }),
            _ => Ok(()),
        }
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const NO_STORE: (&str, &str) = ("cache-control", "no-store");
const SCRIPT_TYPE: (&str, &str) = ("content-type", "text/javascript; charset=utf-8");
const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

fn echo_fields(content_type: Option<&String>) -> Vec<(&'static str, &str)> {
    content_type.map(|value| ("content-type", value.as_str())).into_iter().collect()
}

/// A decimal number up to `MOST`, and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().filter(|n| *n <= MOST) } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};
    use vestibule::{Config, Connection, Inbox, Limits, Outbox, Pause};

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// Who opens a window byte by byte makes each byte cost what it costs, not the whole of an answer.
    #[test]
    fn a_long_answer_in_small_steps_costs_no_more_than_its_length() {
        let site = Arc::new(Site::new(Limits::DEFAULT, false));
        let mut visitor = Visitor::new(site, Peer::UNKNOWN);
        let now = vestibule::Instant::ZERO;
        let mut connection = Connection::new(Arc::new(Config::new(Limits::DEFAULT)), now);
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; 65_536]), Outbox::new(vec![0; 65_536]));
        let mut said = 0;
        let mut say = |wire: &[u8]| {
            for piece in wire.chunks(16_000) {
                inbox.fill(piece);
                loop {
                    let mut turn = connection.turn(now, &mut inbox, &mut outbox).unwrap();
                    while let Some(event) = turn.next() {
                        visitor.event(event).unwrap();
                    }
                    let pause = turn.finish();
                    said += outbox.ready().len();
                    let n = outbox.ready().len();
                    outbox.wrote(n);
                    if matches!(pause, Pause::Input { .. } | Pause::Closed) {
                        assert!(matches!(pause, Pause::Input { .. }));
                        break;
                    }
                }
            }
            said
        };
        // POST /inspect, and 1 MiB of control characters: six times as much in JSON.
        let mut block = vec![0x83, 0x86, 0x41, 1, b'a', 0x44, 8];
        block.extend(b"/inspect");
        say(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b""), &frame(1, 4, 1, &block)].concat());
        for n in (0..64).rev() {
            say(&frame(0, u8::from(n == 0), 1, &[1; 16_384]));
        }
        let before = say(&frame(8, 0, 0, &1_000_000u32.to_be_bytes()));
        let begun = Instant::now();
        for _ in 0..5_000 {
            say(&frame(8, 0, 1, &1u32.to_be_bytes()));
        }
        assert!(say(b"") - before >= 5_000, "{}", say(b"") - before);
        assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    }
}
