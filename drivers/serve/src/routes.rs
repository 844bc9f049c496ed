//! In: the events of one connection. Out: the answers of the program's routes.
//!
//! `GET /`, `GET /hello`, `GET /bytes/N`, `GET` or `POST /inspect`, `POST /echo`.

use crate::inspect::Inspection;
use crate::page::{Entry, Site};
use std::sync::Arc;
use vestibule::{Body, Content, Event, Expect, Misuse, Reply, Request};
use vestibule_std::Service;

/// The largest body that is taken whole.
const WHOLE: u32 = 1 << 20;
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

/// What is being done for the request in flight.
#[derive(Default)]
enum Act {
    /// Its body, if there is one, is of no interest.
    #[default]
    Answered,
    Echo {
        content_type: Option<String>,
        begun: bool,
    },
    Inspect(Box<Inspection>),
    Bytes {
        sent: u64,
        of: u64,
    },
}

/// The service of one connection.
pub(crate) struct Visitor {
    site: Arc<Site>,
    act: Act,
    /// What the last `respond` or `write` did not take.
    rest: Vec<u8>,
    /// The content is complete once `rest` is gone.
    finish: bool,
    entry: Option<Entry>,
}

impl Visitor {
    pub(crate) fn new(site: Arc<Site>) -> Visitor {
        Visitor { site, act: Act::Answered, rest: Vec::new(), finish: false, entry: None }
    }

    fn request(&mut self, request: Request<'_>) -> Result<(), Misuse> {
        let Request { head, has_body, tls, mut reply, .. } = request;
        self.rest.clear();
        (self.act, self.finish) = (Act::Answered, false);
        self.entry = Some(Entry::new(&head, tls.as_ref()));
        reply.discard();
        let path = head.path();
        let allowed = match path {
            "/echo" => "POST",
            "/inspect" => "GET, HEAD, POST",
            _ => "GET, HEAD",
        };
        let bytes = path.strip_prefix("/bytes/").and_then(number);
        if bytes.is_none() && !matches!(path, "/" | "/hello" | "/echo" | "/inspect") {
            let hint = "There is /, /hello, /inspect, /echo (POST) and /bytes/N, with N up to 2^40.\n";
            return self.answer(&mut reply, 404, &[TEXT], hint.as_bytes());
        }
        if !allowed.split(", ").any(|method| method == head.method) {
            let hint = format!("This takes {allowed}.\n");
            return self.answer(&mut reply, 405, &[TEXT, ("allow", allowed)], hint.as_bytes());
        }
        match (path, bytes) {
            ("/hello", _) => self.answer(&mut reply, 200, &[TEXT], b"Hello, world!"),
            ("/", _) => {
                let page = self.site.page();
                let policy = "default-src 'none'; style-src 'unsafe-inline'";
                let fields = [
                    ("content-type", "text/html; charset=utf-8"),
                    ("cache-control", "no-store"),
                    ("content-security-policy", policy),
                ];
                self.answer(&mut reply, 200, &fields, page.as_bytes())
            }
            ("/inspect", _) => {
                self.act = Act::Inspect(Box::new(Inspection::new(&head, tls.as_ref(), has_body)));
                reply.expect(Expect::Whole { max: WHOLE });
                if has_body { Ok(()) } else { self.complete(&mut reply, b"") }
            }
            ("/echo", _) => {
                let content_type = head.fields.text("content-type").map(String::from);
                self.act = Act::Echo { content_type, begun: false };
                reply.expect(Expect::Stream);
                if has_body { Ok(()) } else { self.complete(&mut reply, b"") }
            }
            (_, n) => {
                let n = n.unwrap_or(0);
                reply.respond(200, &[("content-type", "application/octet-stream")], Content::Sized(n))?;
                self.note(|entry| (entry.status, entry.sent_bytes) = (200, n));
                self.act = Act::Bytes { sent: 0, of: if head.method == "HEAD" { 0 } else { n } };
                self.go_on(&mut reply)
            }
        }
    }

    fn body(&mut self, mut body: Body<'_>) -> Result<(), Misuse> {
        self.note(|entry| entry.body_bytes += body.bytes.len() as u64);
        if body.whole {
            return self.complete(&mut body.reply, body.bytes);
        }
        if let Act::Echo { content_type, begun } = &mut self.act {
            self.rest.extend_from_slice(body.bytes);
            if body.last {
                return self.complete(&mut body.reply, b"");
            }
            if !*begun && self.rest.len() > HELD {
                *begun = true;
                body.reply.respond(200, &echo_fields(content_type.as_ref()), Content::Streamed)?;
                self.note(|entry| entry.status = 200);
            }
            if matches!(self.act, Act::Echo { begun: true, .. }) {
                return self.go_on(&mut body.reply);
            }
        }
        Ok(())
    }

    /// All of the request is there.
    fn complete(&mut self, reply: &mut Reply<'_>, whole: &[u8]) -> Result<(), Misuse> {
        match std::mem::take(&mut self.act) {
            Act::Inspect(inspection) => {
                let (status, text) = inspection.answer(whole, &self.site.limits);
                self.answer(reply, status, &[("content-type", "application/json")], &text)
            }
            Act::Echo { content_type, begun: false } => {
                let body = std::mem::take(&mut self.rest);
                self.answer(reply, 200, &echo_fields(content_type.as_ref()), &body)
            }
            Act::Echo { begun: true, .. } => {
                self.finish = true;
                self.go_on(reply)
            }
            act => {
                self.act = act;
                Ok(())
            }
        }
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
        self.rest.clear();
        self.rest.extend_from_slice(content.get(n..).unwrap_or_default());
        self.finish = n < content.len();
        self.note(|entry| (entry.status, entry.sent_bytes) = (status, content.len() as u64));
        if !self.finish {
            self.over();
        }
        Ok(())
    }

    /// Writes as much as there is room for.
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
            reply.finish()?;
            self.over();
            return Ok(());
        }
        let n = reply.write(&self.rest)?;
        if matches!(self.act, Act::Echo { .. }) {
            self.note(|entry| entry.sent_bytes += n as u64);
        }
        self.rest.drain(..n);
        if self.finish && self.rest.is_empty() {
            reply.finish()?;
            self.over();
        }
        Ok(())
    }

    fn note(&mut self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = &mut self.entry {
            change(entry);
        }
    }

    /// The response is complete: on to the list of the page. A large buffer is not kept for the next request.
    fn over(&mut self) {
        (self.act, self.finish) = (Act::Answered, false);
        if self.rest.capacity() > 2 * HELD {
            self.rest = Vec::new();
        }
        if let Some(entry) = self.entry.take() {
            self.site.visited(entry);
        }
    }
}

impl Service for Visitor {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Body(body) => self.body(body),
            Event::Trailers(mut trailers) => self.complete(&mut trailers.reply, b""),
            Event::Writable(mut reply) => self.go_on(&mut reply),
            Event::Aborted { why, .. } => {
                if let Some(violation) = why {
                    self.note(|entry| entry.status = violation.status());
                }
                self.over();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

fn echo_fields(content_type: Option<&String>) -> Vec<(&'static str, &str)> {
    content_type.map(|value| ("content-type", value.as_str())).into_iter().collect()
}

/// A decimal number up to `MOST`, and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok().filter(|n| *n <= MOST) } else { None }
}
