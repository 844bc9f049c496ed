//! In: one request of a plan and a handle of the `h2` crate's client. Out: what the client saw of its answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::pipe::Dice;
use crate::plan::{Ask, Plan, Reset};

/// The rounds that went by, and whether anything happened in them.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    pub round: Rc<Cell<u64>>,
    pub steps: Rc<Cell<u64>>,
    /// Readers that wait may begin.
    pub go: Rc<Cell<bool>>,
}

impl Clock {
    /// Something happened.
    pub fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    /// So many rounds later.
    pub async fn wait(&self, rounds: u64) {
        let due = self.round.get() + rounds;
        self.until(|| self.round.get() >= due).await;
    }

    /// As soon as that is so.
    pub async fn until(&self, mut is: impl FnMut() -> bool) {
        poll_fn(|_| if is() { Poll::Ready(()) } else { Poll::Pending }).await;
        self.step();
    }
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answer {
    pub informs: usize,
    /// The body is wanted: 100 (Continue).
    pub wanted: usize,
    pub status: u16,
    pub fields: BTreeMap<String, Vec<Vec<u8>>>,
    pub body: Vec<u8>,
    pub trailers: BTreeMap<String, Vec<Vec<u8>>>,
    pub complete: bool,
    /// The rest of the request was not wanted.
    pub stopped: Option<String>,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    pub answer: Answer,
    /// The client has given it up.
    pub reset: bool,
    /// Its head was handed to the client's machine.
    pub sent: bool,
    pub error: Option<h2::Error>,
}

pub fn lines(map: &HeaderMap) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut lines: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in map {
        lines.entry(name.as_str().into()).or_default().push(value.as_bytes().to_vec());
    }
    lines
}

fn map(fields: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        map.append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    map
}

pub fn head(at: usize, ask: &Ask) -> Request<()> {
    let uri = match (ask.method, ask.protocol) {
        ("CONNECT", None) => "a.example:8080".to_string(),
        _ => format!("http://a.example:8080{}", ask.path),
    };
    let mut request =
        Request::builder().method(ask.method).uri(uri).version(http::Version::HTTP_2).body(()).expect("a head");
    *request.headers_mut() = map(&ask.fields);
    request.headers_mut().insert("x-ask", HeaderValue::from(at));
    if ask.length {
        request.headers_mut().insert("content-length", HeaderValue::from(ask.sent(at).len()));
    }
    if ask.coded {
        request.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
    }
    if ask.expects {
        request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    }
    if let Some(protocol) = ask.protocol {
        request.extensions_mut().insert(Protocol::from_static(protocol));
    }
    request
}

/// One request under way.
pub struct Talk {
    pub at: usize,
    pub plan: Rc<Plan>,
    pub clock: Clock,
    pub dice: RefCell<Dice>,
    pub answer: RefCell<Answer>,
    /// The client has given it up.
    reset: Cell<bool>,
    /// Nothing more will be heard.
    over: Cell<bool>,
    sender: RefCell<Option<SendStream<Bytes>>>,
}

impl Talk {
    pub fn new(at: usize, plan: Rc<Plan>, clock: Clock) -> Talk {
        let dice = RefCell::new(Dice::new(plan.seed * 1000 + at as u64));
        let (answer, sender) = (RefCell::default(), RefCell::new(None));
        Talk { at, plan, clock, dice, answer, reset: Cell::new(false), over: Cell::new(false), sender }
    }

    fn ask(&self) -> &Ask {
        &self.plan.asks[self.at]
    }

    /// Asks, and hears the answer out.
    pub async fn run(self, sender: SendRequest<Bytes>) -> Outcome {
        self.clock.wait(self.ask().start).await;
        let mut sent = false;
        let error = self.converse(sender, &mut sent).await.err();
        self.clock.step();
        drop(self.sender.take());
        Outcome { answer: self.answer.take(), reset: self.reset.get(), sent, error }
    }

    async fn converse(&self, sender: SendRequest<Bytes>, sent: &mut bool) -> Result<(), h2::Error> {
        let ask = self.ask();
        let mut sender = sender.ready().await?;
        if ask.protocol.is_some() {
            self.clock.until(|| sender.is_extended_connect_protocol_enabled()).await;
        }
        let (response, stream) = sender.send_request(head(self.at, ask), ask.body.is_none())?;
        *sent = true;
        // This client forgets a reset that it is told before it could open the stream.
        drop(sender.ready().await);
        self.clock.step();
        *self.sender.borrow_mut() = Some(stream);
        let download = async {
            let outcome = self.download(response).await;
            self.over.set(true);
            outcome
        };
        let (_, _, outcome) = tokio::join!(self.give_up_in_time(), self.upload(), download);
        outcome
    }

    fn give_up(&self) {
        // Not once the answer is complete: there is nothing to be given up then.
        if !self.answer.borrow().complete
            && let Some(stream) = self.sender.borrow_mut().as_mut()
        {
            self.reset.set(true);
            stream.send_reset(Reason::CANCEL);
            self.clock.step();
        }
    }

    async fn give_up_in_time(&self) {
        if let Some(Reset::Rounds(n)) = self.ask().reset {
            self.clock.wait(n).await;
            self.give_up();
        }
    }

    /// The body in pieces, as far as it is wanted.
    async fn upload(&self) {
        let ask = self.ask();
        if ask.body.is_none() {
            return;
        }
        if ask.expects {
            let heard = || self.answer.borrow().wanted + usize::from(self.answer.borrow().status) > 0;
            self.clock.until(|| heard() || self.reset.get() || self.over.get()).await;
        }
        let body = Bytes::from(ask.sent(self.at));
        let len = body.len();
        let in_one = self.dice.borrow_mut().one_in(4);
        let (mut at, mut empty) = (0, 0);
        while at < len {
            if empty < 3 && self.dice.borrow_mut().one_in(40) {
                empty += 1;
                self.send(Bytes::new(), false);
            }
            if let Some(Reset::Sent(n)) = ask.reset
                && at >= n
            {
                return self.give_up();
            }
            let piece = if in_one { len } else { 1 + self.dice.borrow_mut().below(ask.piece * 2) }.min(len - at);
            let room = if in_one { Some(len) } else { self.room(piece).await };
            let Some(n) = room.map(|room| room.min(piece)) else {
                self.answer.borrow_mut().stopped.get_or_insert_with(|| "no more room".into());
                return;
            };
            let ends = at + n == len && ask.trailers.is_empty() && self.dice.borrow_mut().one_in(2);
            if !self.send(body.slice(at..at + n), ends) || ends {
                return;
            }
            at += n;
        }
        if ask.reset == Some(Reset::Sent(len)) {
            return self.give_up();
        }
        if self.dice.borrow_mut().one_in(3) {
            self.clock.wait(5).await;
        }
        if ask.trailers.is_empty() {
            self.send(Bytes::new(), true);
            return;
        }
        let trailers: Vec<_> = ask.trailers.iter().map(|(n, v)| (n.clone(), v.clone().into_bytes())).collect();
        let sent = self.sender.borrow_mut().as_mut().expect("the stream").send_trailers(map(&trailers));
        self.note(sent);
    }

    fn send(&self, bytes: Bytes, ends: bool) -> bool {
        let sent = self.sender.borrow_mut().as_mut().expect("the stream").send_data(bytes, ends);
        self.note(sent)
    }

    fn note(&self, sent: Result<(), h2::Error>) -> bool {
        self.clock.step();
        match sent {
            Ok(()) => true,
            Err(error) => {
                self.answer.borrow_mut().stopped = Some(error.to_string());
                false
            }
        }
    }

    /// Room for a part of so many bytes; `None`: the stream takes no more.
    async fn room(&self, piece: usize) -> Option<usize> {
        self.sender.borrow_mut().as_mut()?.reserve_capacity(piece);
        poll_fn(|cx| {
            let mut stream = self.sender.borrow_mut();
            let stream = stream.as_mut().expect("the stream");
            while stream.capacity() == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => {
                        self.answer.borrow_mut().stopped = Some(error.to_string());
                        return Poll::Ready(None);
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                }
            }
            Poll::Ready(Some(stream.capacity()))
        })
        .await
    }

    async fn download(&self, mut response: ResponseFuture) -> Result<(), h2::Error> {
        while let Some(inform) = poll_fn(|cx| response.poll_informational(cx)).await {
            match inform?.status().as_u16() {
                100 => self.answer.borrow_mut().wanted += 1,
                103 => self.answer.borrow_mut().informs += 1,
                status => panic!("request {}: {status}", self.at),
            }
            self.clock.step();
        }
        let (head, mut body) = response.await?.into_parts();
        self.clock.step();
        {
            let mut answer = self.answer.borrow_mut();
            answer.status = head.status.as_u16();
            answer.fields = lines(&head.headers);
        }
        self.read(&mut body).await?;
        let trailers = body.trailers().await?;
        let mut answer = self.answer.borrow_mut();
        answer.trailers = trailers.as_ref().map(lines).unwrap_or_default();
        answer.complete = true;
        self.clock.step();
        Ok(())
    }

    async fn read(&self, body: &mut RecvStream) -> Result<(), h2::Error> {
        let ask = self.ask();
        if ask.stops {
            self.clock.until(|| self.clock.go.get()).await;
        }
        let mut kept = 0;
        loop {
            if let Some(Reset::Got(n)) = ask.reset
                && self.answer.borrow().body.len() >= n
            {
                self.give_up();
            }
            if ask.lazy > 0 && self.dice.borrow_mut().one_in(10) {
                self.clock.wait(ask.lazy).await;
            }
            // What was read is kept for a while, but never when there is nothing else to wait for.
            let mut next = Pin::new(&mut *body);
            let part = poll_fn(|cx| match next.poll_data(cx) {
                Poll::Pending if kept > 0 => Poll::Ready(None),
                other => other.map(Some),
            })
            .await;
            let give_back = match part {
                None => std::mem::take(&mut kept),
                Some(None) => return Ok(()),
                Some(Some(bytes)) => {
                    let bytes = bytes?;
                    self.answer.borrow_mut().body.extend_from_slice(&bytes);
                    self.clock.step();
                    if ask.lazy > 0 && self.dice.borrow_mut().one_in(2) {
                        kept += bytes.len();
                        0
                    } else {
                        bytes.len()
                    }
                }
            };
            // It fails if the stream is gone meanwhile.
            let _ = body.flow_control().release_capacity(give_back);
        }
    }
}

/// The future of a client's connection, and what the test may do to it meanwhile.
pub struct Line<T> {
    pub connection: h2::client::Connection<T, Bytes>,
    pub change: Rc<Cell<Option<u32>>>,
}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Future for Line<T> {
    type Output = Result<(), h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(window) = self.change.get()
            && self.connection.set_initial_window_size(window).is_ok()
        {
            self.change.set(None);
        }
        Pin::new(&mut self.connection).poll(cx)
    }
}
