//! In: the events of one connection. Out: the answers of the suite's routes, to as many exchanges at once as there are.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use vestibule::{Body, Content, Event, Expect, Id, Misuse, Reply, Request};
use vestibule_driver::{Later, Post, Service};

/// What holds up the threads that ask for `/gate`.
#[derive(Debug, Default)]
pub struct Gate {
    /// Whether it is open, and how many stand before it.
    state: Mutex<(bool, usize)>,
    change: Condvar,
}

impl Gate {
    pub fn open(&self) {
        self.state.lock().unwrap().0 = true;
        self.change.notify_all();
    }

    /// Waits until so many threads stand before it.
    pub fn wait_for(&self, n: usize) {
        let state = self.state.lock().unwrap();
        let most = Duration::from_secs(10);
        let (state, _) = self.change.wait_timeout_while(state, most, |state| state.1 < n).unwrap();
        assert!(state.1 >= n, "{} stand before the gate", state.1);
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.change.notify_all();
        // A test that has failed must not leave a thread behind.
        let (mut state, _) = self.change.wait_timeout_while(state, Duration::from_secs(30), |state| !state.0).unwrap();
        state.1 -= 1;
    }
}

/// `n` bytes that repeat with a period that no buffer has.
pub fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}

/// One number for many bytes, however they were cut (FNV-1a).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Sum(pub u64);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub fn of(bytes: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum
    }
}

/// What is kept of one exchange.
enum State {
    /// Parts of the answer, and whether they are all.
    Echo {
        rest: Vec<u8>,
        finish: bool,
        trailers: Option<String>,
    },
    /// `/bytes/N`: so many of so many are written.
    Bytes {
        sent: usize,
        of: usize,
    },
    Upload {
        bytes: usize,
        sum: Sum,
    },
    Endless,
}

impl State {
    fn echo() -> State {
        State::Echo { rest: Vec::new(), finish: false, trailers: None }
    }

    /// True: the response is complete.
    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<bool, Misuse> {
        match self {
            State::Endless => {
                while reply.write(&[b'e'; 4096])? == 4096 {}
                Ok(false)
            }
            State::Bytes { sent, of } => {
                while *sent < *of {
                    let (from, most) = (*sent % 251, (*of - *sent).min(16_384));
                    let n = reply.write(&pattern(from + most)[from..])?;
                    *sent += n;
                    if n < most {
                        return Ok(false);
                    }
                }
                reply.finish()?;
                Ok(true)
            }
            State::Upload { .. } => Ok(false),
            State::Echo { rest, finish, trailers } => {
                let n = reply.write(rest)?;
                rest.drain(..n);
                if !*finish || !rest.is_empty() {
                    return Ok(false);
                }
                match trailers {
                    Some(check) => reply.trailers(&[("x-check", check)])?,
                    None => reply.finish()?,
                }
                Ok(true)
            }
        }
    }
}

/// Whole answers: `/hello`, `/tls`, `/status/N`, `/early` (103 before its answer), and any other path is its own answer. Streams: `/echo` (with the trailer field `x-check` of the
/// request), `/bytes/N`, `/endless`, `/outlet/N`, `/cut`. Bodies: `/upload`, `/discard`, `/job`. Others answer: `/later/MS`, `/later-gate`, `/dropped`. Slow:
/// `/slow`, `/gate`. Mistakes: `/panic`, `/panic-late`, `/silence`, `/ignore`, `/hold`, `/half`.
pub struct Routes {
    post: Post,
    gate: Arc<Gate>,
    states: BTreeMap<Id, State>,
}

impl Routes {
    pub fn new(post: Post, gate: Arc<Gate>) -> Routes {
        Routes { post, gate, states: BTreeMap::new() }
    }

    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        let id = reply.id();
        let Some(state) = self.states.get_mut(&id) else { return Ok(()) };
        if state.go_on(reply)? {
            self.states.remove(&id);
        }
        Ok(())
    }

    fn begin(&mut self, request: &mut Request<'_>, content: Content<'_>, state: State) -> Result<(), Misuse> {
        request.reply.respond(200, &[("content-type", "application/octet-stream")], content)?;
        self.states.insert(request.reply.id(), state);
        self.go_on(&mut request.reply)
    }

    fn request(&mut self, mut request: Request<'_>) -> Result<(), Misuse> {
        let (path, id) = (request.head.path(), request.reply.id());
        let number = |prefix: &str| path.strip_prefix(prefix).and_then(|n| n.parse::<usize>().ok());
        if let Some(of) = number("/bytes/") {
            return self.begin(&mut request, Content::Sized(of as u64), State::Bytes { sent: 0, of });
        }
        if let Some(millis) = number("/later/") {
            let (later, text) = (self.post.later(id), path.to_string());
            elsewhere(move || {
                std::thread::sleep(Duration::from_millis(millis as u64));
                later.respond(200, &[("content-type", "text/plain")], text.into_bytes());
            });
            return Ok(());
        }
        if let Some(n) = number("/outlet/") {
            let later = self.post.later(id);
            elsewhere(move || pour(later, n));
            return Ok(());
        }
        match path {
            "/hello" => request.reply.text(200, "hello"),
            "/panic" => panic!("asked to"),
            "/panic-late" => self.begin(&mut request, Content::Streamed, State::echo()),
            "/silence" => Ok(()),
            "/ignore" => {
                request.reply.discard();
                Ok(())
            }
            "/hold" => {
                request.reply.expect(Expect::Manual);
                Ok(())
            }
            "/half" if request.head.protocol.is_some() => request.reply.upgrade("test", &[]),
            "/half" => request.reply.respond(200, &[], Content::Sized(10)).map(drop),
            "/slow" => {
                std::thread::sleep(Duration::from_millis(500));
                request.reply.text(200, "slow")
            }
            "/gate" => {
                self.gate.pass();
                request.reply.text(200, "through")
            }
            "/echo" => {
                let finish = !request.has_body;
                self.begin(&mut request, Content::Streamed, State::Echo { rest: Vec::new(), finish, trailers: None })
            }
            "/endless" => self.begin(&mut request, Content::Streamed, State::Endless),
            "/upload" => {
                self.states.insert(id, State::Upload { bytes: 0, sum: Sum::default() });
                Ok(())
            }
            "/discard" => {
                request.reply.expect(Expect::Whole { max: 1 << 20 });
                Ok(())
            }
            "/job" => {
                request.reply.expect(Expect::WholeByJob { max: 1 << 20 });
                Ok(())
            }
            "/later-gate" => {
                let (later, gate) = (self.post.later(id), self.gate.clone());
                elsewhere(move || {
                    gate.pass();
                    later.respond(200, &[], b"through".to_vec());
                });
                Ok(())
            }
            "/dropped" => {
                drop(self.post.later(id));
                Ok(())
            }
            "/cut" => {
                let later = self.post.later(id);
                elsewhere(move || {
                    let _ = later.stream(200, &[]).write(b"some of it".to_vec());
                });
                Ok(())
            }
            "/tls" => {
                let text = match &request.tls {
                    Some(tls) => format!("{} {}", tls.version, if tls.resumed { "resumed" } else { "full" }),
                    None => "plain".into(),
                };
                request.reply.text(200, &text)
            }
            "/early" => {
                request.reply.inform(103, &[])?;
                request.reply.text(200, "early")
            }
            path => match path.strip_prefix("/status/").and_then(|status| status.parse().ok()) {
                Some(status) => request.reply.respond(status, &[], Content::Whole(b"")).map(|_| ()),
                None => request.reply.text(200, path),
            },
        }
    }

    fn body(&mut self, mut body: Body<'_>) -> Result<(), Misuse> {
        let id = body.reply.id();
        match self.states.get_mut(&id) {
            // `/discard` gives its length back, `/job` the body itself.
            None if body.whole && body.bytes.len() > 4096 => {
                body.reply.text(200, &format!("{} bytes", body.bytes.len()))
            }
            None if body.whole => body.reply.whole(200, "text/plain", body.bytes),
            Some(State::Echo { rest, finish, .. }) => {
                assert_ne!(body.bytes, b"panic", "asked to");
                rest.extend_from_slice(body.bytes);
                *finish |= body.last;
                self.go_on(&mut body.reply)
            }
            Some(State::Upload { bytes, sum }) => {
                *bytes += body.bytes.len();
                sum.add(body.bytes);
                if !body.last {
                    return Ok(());
                }
                let text = format!("{bytes} {:x}", sum.0);
                self.states.remove(&id);
                body.reply.text(200, &text)
            }
            _ => Ok(()),
        }
    }
}

impl Service for Routes {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(request) => self.request(request),
            Event::Body(body) => self.body(body),
            Event::Trailers(mut trailers) => {
                if let Some(State::Echo { finish, trailers: check, .. }) = self.states.get_mut(&trailers.reply.id()) {
                    *finish = true;
                    *check = Some(trailers.fields.text("x-check").unwrap_or_default().into());
                }
                self.go_on(&mut trailers.reply)
            }
            Event::Writable(mut reply) => self.go_on(&mut reply),
            Event::Aborted { id, .. } => {
                self.states.remove(&id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Another thread, as a database's client would have.
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name("elsewhere".into()).spawn(work).unwrap();
}

/// `n` bytes in parts; stops once nobody wants them.
fn pour(later: Later, n: usize) {
    let mut outlet = later.stream(200, &[("content-type", "application/octet-stream")]);
    for part in pattern(n).chunks(10_000) {
        if outlet.write(part.to_vec()).is_err() {
            return;
        }
    }
    outlet.finish();
}
