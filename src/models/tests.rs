//! One handler, three versions: HTTP/1.1 on the real engine, the two models beside it. What the handler sees must be the same;
//! what only many streams can show is shown with the models alone.

use super::h3;
use super::streams::{
    CANCEL, CONNECTION_WINDOW, DATA, END, GOAWAY, HEADERS, NO_ERROR, PING, RESET, STREAM_WINDOW, WINDOW,
};
use crate::base::Limits;
use crate::connection::Engine;
use crate::reply::Exchanges;
use crate::{
    Config, Connection, Content, End, Event, Expect, Id, Inbox, Instant, Misuse, Outbox, Pause, Reply, Rule, Wait,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const NOW: Instant = Instant::ZERO;
const BIG: usize = 200_000;

/// xorshift64*: every run the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }
}

// ---- the handler, which knows nothing of versions ----

#[derive(Default)]
struct App {
    /// What was seen, by the tag that each request carries.
    seen: BTreeMap<u64, String>,
    bodies: BTreeMap<u64, Vec<u8>>,
    rest: BTreeMap<Id, Vec<u8>>,
    later: Vec<Id>,
    ids: BTreeMap<u64, Id>,
    writable: usize,
    faults: Vec<Rule>,
}

impl App {
    fn say(&mut self, tag: u64, what: &str) {
        let text = self.seen.entry(tag).or_default();
        text.push_str(what);
        text.push('\n');
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let head = request.head;
                let tag: u64 = head.fields.text("x-tag").map_or(0, |t| t.parse().expect("a number"));
                self.ids.insert(tag, request.reply.id());
                self.say(tag, &format!("{} {} {} body {}", head.method, head.target, head.authority, request.has_body));
                for (name, value) in
                    head.fields.iter().filter(|f| !matches!(f.0, "content-length" | "transfer-encoding"))
                {
                    self.say(tag, &format!("{name}: {}", value.escape_ascii()));
                }
                request.reply.set_tag(tag);
                self.bodies.insert(tag, Vec::new());
                match head.path() {
                    "/echo" => drop(request.reply.expect(Expect::Whole { max: 100_000 })),
                    "/small" => drop(request.reply.expect(Expect::Whole { max: 10 })),
                    "/manual" => drop(request.reply.expect(Expect::Manual)),
                    "/discard" => request.reply.discard(),
                    _ => {}
                }
                if !request.has_body || head.path() == "/early" {
                    self.answer(tag, head.path(), &mut request.reply);
                }
                self.say(tag, head.path());
            }
            Event::Body(mut body) => {
                let bytes = self.bodies.entry(body.tag).or_default();
                bytes.extend_from_slice(body.bytes);
                if body.last || body.whole {
                    let sum = bytes.iter().fold(0u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
                    let text = format!("body {} {sum:x} whole {} last {}", bytes.len(), body.whole, body.last);
                    self.say(body.tag, &text);
                }
                if body.last {
                    self.complete(body.tag, &mut body.reply);
                }
            }
            Event::Trailers(mut trailers) => {
                let bytes = self.bodies.get(&trailers.tag).map_or(0, Vec::len);
                self.say(trailers.tag, &format!("trailers {:?} behind {bytes}", trailers.fields));
                self.complete(trailers.tag, &mut trailers.reply);
            }
            Event::Writable(mut reply) => {
                self.writable += 1;
                let id = reply.id();
                if let Some(mut rest) = self.rest.remove(&id) {
                    let n = reply.write(&rest).expect("its turn");
                    rest.drain(..n);
                    if !rest.is_empty() {
                        self.rest.insert(id, rest);
                    }
                }
            }
            Event::Aborted { tag, why, .. } => self.say(tag, &format!("aborted {:?}", why.map(|v| v.rule))),
            Event::Fault(violation) => self.faults.push(violation.rule),
            Event::Tunnel(_) | Event::Hello(_) => panic!("not asked for"),
        }
    }

    fn complete(&mut self, tag: u64, reply: &mut Reply<'_>) {
        let path = self.seen[&tag].lines().find(|l| l.starts_with('/')).expect("a path").to_string();
        assert_eq!(reply.tag(), tag);
        self.answer(tag, &path, reply);
    }

    fn answer(&mut self, tag: u64, path: &str, reply: &mut Reply<'_>) {
        let body = self.bodies.get(&tag).cloned().unwrap_or_default();
        match path {
            "/later" => self.later.push(reply.id()),
            "/echo" => self.send(reply, &body),
            "/big" => self.send(reply, &[b'b'; BIG]),
            "/json" => reply.json(200, &[1, 2, 3]).expect("room"),
            "/trailers" => {
                reply.inform(103, &[("link", "</x>")]).expect("room");
                reply.respond(200, &[("x-a", "b")], Content::Streamed).expect("room");
                assert_eq!(reply.write(b"content"), Ok(7));
                reply.trailers(&[("x-sum", "7")]).expect("room");
            }
            _ => reply.text(200, &format!("{} bytes", body.len())).expect("room"),
        }
    }

    fn send(&mut self, reply: &mut Reply<'_>, content: &[u8]) {
        let n = reply.respond(200, &[], Content::Whole(content)).expect("its first answer");
        if n < content.len() {
            self.rest.insert(reply.id(), content[n..].to_vec());
        }
    }
}

// ---- what a client asks, in each version's bytes ----

struct Ask {
    tag: u64,
    path: &'static str,
    body: Option<Vec<u8>>,
    trailers: bool,
}

impl Ask {
    fn new(tag: u64, path: &'static str, body: Option<&[u8]>) -> Ask {
        Ask { tag, path, body: body.map(<[u8]>::to_vec), trailers: false }
    }

    fn method(&self) -> &'static str {
        if self.body.is_some() { "POST" } else { "GET" }
    }

    fn h1(&self) -> Vec<u8> {
        let mut text =
            format!("{} {}?q HTTP/1.1\r\nhost: a.example\r\nx-tag: {}\r\n", self.method(), self.path, self.tag)
                .into_bytes();
        let empty = Vec::new();
        let body = self.body.as_ref().unwrap_or(&empty);
        match (&self.body, self.trailers) {
            (Some(_), true) => {
                text.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in body.chunks(1000) {
                    text.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                    text.extend(chunk);
                    text.extend(b"\r\n");
                }
                text.extend(b"0\r\nx-check: yes\r\n\r\n");
            }
            (Some(_), false) => {
                text.extend([format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat())
            }
            (None, _) => text.extend(b"\r\n"),
        }
        text
    }

    fn block(&self) -> Vec<u8> {
        format!("{} {}?q a.example\nx-tag: {}\n", self.method(), self.path, self.tag).into_bytes()
    }

    /// `(type, end, payload)`, cut as the dice fall.
    fn frames(&self, dice: &mut Dice) -> Vec<(u8, bool, Vec<u8>)> {
        let mut frames = vec![(HEADERS, self.body.is_none(), self.block())];
        let Some(body) = &self.body else { return frames };
        let mut rest = &body[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((1 + dice.below(5000)).min(rest.len()));
            frames.push((DATA, false, part.to_vec()));
            rest = behind;
        }
        match (self.trailers, dice.below(2)) {
            (true, _) => frames.push((HEADERS, true, b"x-check: yes\n".to_vec())),
            (false, 0) if frames.len() > 1 => frames.last_mut().expect("a frame").1 = true,
            _ => frames.push((DATA, true, Vec::new())),
        }
        frames
    }
}

fn h2_frame(kind: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[high, low, kind, flags], &(id as u32).to_be_bytes()[..], payload].concat()
}

fn h3_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[kind, high, low], payload].concat()
}

/// What came back on one stream.
#[derive(Default, Debug, PartialEq)]
struct Answer {
    heads: Vec<String>,
    body: Vec<u8>,
    ended: bool,
    reset: Option<u32>,
}

// ---- the model of HTTP/2 on the real connection ----

struct H2 {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    app: App,
    sent: Vec<u8>,
    /// Credit of ours that waits for room in the inbox.
    grants: Vec<u8>,
    answers: BTreeMap<u64, Answer>,
    /// Credit that the peer gave back, by stream.
    credit: BTreeMap<u64, u32>,
    goaway: Option<u32>,
    pongs: usize,
    /// The client grants what it reads at once.
    generous: bool,
    /// Bytes of what is fed that did not fit yet.
    cut: usize,
    pause: Pause,
    now: Instant,
}

impl H2 {
    fn new() -> H2 {
        H2 {
            connection: Connection::model(Arc::new(Config::new(Limits::DEFAULT)), NOW),
            inbox: Inbox::new(vec![0; 4096]),
            outbox: Outbox::new(vec![0; 8192]),
            app: App::default(),
            sent: Vec::new(),
            grants: Vec::new(),
            answers: BTreeMap::new(),
            credit: BTreeMap::new(),
            goaway: None,
            pongs: 0,
            generous: true,
            cut: 0,
            pause: Pause::Yield,
            now: NOW,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let n = self.inbox.fill(bytes);
            bytes = &bytes[n..];
            self.cut = bytes.len();
            self.run();
            if bytes.is_empty() {
                return;
            }
            assert!(n > 0, "the model always consumes: {:?}", self.pause);
        }
    }

    /// Turns until nothing more happens.
    fn run(&mut self) {
        loop {
            if self.at_a_boundary() {
                let n = self.inbox.fill(&self.grants);
                self.grants.drain(..n);
            }
            let before = self.inbox.len();
            let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
            let mut happened = false;
            while let Some(event) = turn.next() {
                happened = true;
                self.app.on(event);
            }
            self.pause = turn.finish();
            let n = self.outbox.ready().len();
            let output = self.outbox.ready().to_vec();
            self.outbox.wrote(n);
            self.read(&output);
            self.ledger();
            let granting = !self.grants.is_empty() && self.at_a_boundary();
            let idle = !granting && !happened && n == 0 && self.inbox.len() == before && self.pause != Pause::Yield;
            if idle || self.pause == Pause::Closed {
                let Exchanges::Model(streams) = &self.connection.core().exchanges else { panic!() };
                assert!(streams.open.iter().all(|s| s.lent == 0), "every loan has ended");
                return;
            }
        }
    }

    /// No frame is cut: others can be put behind what was fed. (The test feeds frames whole, or in one piece.)
    fn at_a_boundary(&mut self) -> bool {
        let Engine::Model(receiver) = &self.connection.core().engine else { panic!() };
        self.cut == 0 && !receiver.is_inside() && self.inbox.is_empty()
    }

    /// Granted = outstanding + held + returned, on every stream, after every turn.
    fn ledger(&mut self) {
        let core = self.connection.core();
        let (Engine::Model(receiver), Exchanges::Model(streams)) = (&core.engine, &core.exchanges) else { panic!() };
        for stream in &streams.open {
            assert_eq!(stream.room + stream.shared.held + stream.lent + stream.owed(), STREAM_WINDOW);
        }
        assert!(receiver.room() <= CONNECTION_WINDOW);
    }

    fn read(&mut self, output: &[u8]) {
        self.sent.extend_from_slice(output);
        while let Some(&[high, low, kind, flags, a, b, c, d]) = self.sent.first_chunk::<8>() {
            let (len, id) = (usize::from(u16::from_be_bytes([high, low])), u64::from(u32::from_be_bytes([a, b, c, d])));
            let Some(payload) = self.sent.get(8..8 + len).map(<[u8]>::to_vec) else { break };
            self.sent.drain(..8 + len);
            let value = payload.first_chunk::<4>().map_or(0, |v| u32::from_be_bytes(*v));
            match kind {
                WINDOW => *self.credit.entry(id).or_default() += value,
                GOAWAY => self.goaway = Some(value),
                PING => self.pongs += 1,
                _ => {
                    let answer = self.answers.entry(id).or_default();
                    assert!(!answer.ended || kind == RESET, "a frame behind the end of stream {id}");
                    match kind {
                        HEADERS => answer.heads.push(String::from_utf8(payload).expect("text")),
                        DATA => answer.body.extend_from_slice(&payload),
                        RESET => answer.reset = Some(value),
                        _ => panic!("frame type {kind}"),
                    }
                    answer.ended |= flags & END != 0 || kind == RESET;
                    if kind == DATA && len > 0 && self.generous {
                        let more = (len as u32).to_be_bytes();
                        self.grants.extend([h2_frame(WINDOW, 0, id, &more), h2_frame(WINDOW, 0, 0, &more)].concat());
                    }
                }
            }
        }
    }

    /// Does something with an exchange from outside of its events.
    fn with(&mut self, id: Id, act: impl FnOnce(&mut Reply<'_>)) -> bool {
        let mut turn = self.connection.turn(self.now, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        let found = turn.reply(id).map(|mut reply| act(&mut reply)).is_some();
        while let Some(event) = turn.next() {
            self.app.on(event);
        }
        self.pause = turn.finish();
        self.run();
        found
    }
}

// ---- HTTP/1.1 and the model of HTTP/3, as far as the comparison needs them ----

fn over_h1(asks: &[Ask]) -> App {
    let mut app = App::default();
    let mut connection = Connection::new(Arc::new(Config::new(Limits::DEFAULT)), NOW);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 50_000]), Outbox::new(vec![0; 8192]));
    let bytes = asks.iter().flat_map(Ask::h1).collect::<Vec<u8>>();
    let mut rest = &bytes[..];
    loop {
        let n = inbox.fill(rest);
        rest = &rest[n..];
        let mut turn = connection.turn(NOW, &mut inbox, &mut outbox).expect("our own buffers");
        while let Some(event) = turn.next() {
            app.on(event);
        }
        for id in std::mem::take(&mut app.later) {
            turn.reply(id).expect("open").text(200, "late").expect("room");
        }
        let pause = turn.finish();
        let n = outbox.ready().len();
        outbox.wrote(n);
        if rest.is_empty() && inbox.is_empty() && n == 0 && matches!(pause, Pause::Input { .. }) {
            return app;
        }
    }
}

fn over_h2(asks: &[Ask], dice: &mut Dice) -> (App, BTreeMap<u64, Answer>) {
    let mut h2 = H2::new();
    let mut wire = Vec::new();
    // All streams at once: the next frame is of any of them, but they begin in order.
    let mut waiting: Vec<(u64, std::collections::VecDeque<_>)> =
        asks.iter().enumerate().map(|(i, ask)| (2 * i as u64 + 1, ask.frames(dice).into())).collect();
    let mut begun = 0;
    while waiting.iter().any(|w| !w.1.is_empty()) {
        let at = dice.below(waiting.len().min(begun + 1));
        let Some((kind, end, payload)) = waiting[at].1.pop_front() else { continue };
        begun += usize::from(at == begun);
        wire.extend(h2_frame(kind, u8::from(end), waiting[at].0, &payload));
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at((1 + dice.below(3000)).min(rest.len()));
        h2.feed(part);
        rest = behind;
    }
    while let Some(id) = h2.app.later.pop() {
        assert!(h2.with(id, |reply| reply.text(200, "late").expect("room")));
    }
    (h2.app, h2.answers)
}

/// One stream of HTTP/3 with its own outbox.
fn over_h3(asks: &[Ask], dice: &mut Dice) -> (App, BTreeMap<u64, Answer>) {
    let (mut app, mut answers) = (App::default(), BTreeMap::new());
    let mut connection = h3::Connection::new(Arc::new(Config::new(Limits::DEFAULT)), NOW);
    let mut lanes: Vec<_> = asks
        .iter()
        .enumerate()
        .map(|(i, ask)| {
            let wire: Vec<u8> =
                ask.frames(dice).iter().flat_map(|(kind, _, payload)| h3_frame(*kind, payload)).collect();
            (4 * i as u64, wire, 0, 0, Outbox::new(vec![0; 4096]), Vec::new())
        })
        .collect();
    let mut idle = 0;
    while idle < 50 {
        let at = dice.below(lanes.len());
        let (id, wire, start, end, outbox, sent) = &mut lanes[at];
        *end = (*end + dice.below(4000)).min(wire.len());
        let mut chunk = h3::Chunk { bytes: &wire[*start..*end], fin: *end == wire.len() };
        let mut turn = connection.turn(NOW, *id, &mut chunk, outbox);
        idle += 1;
        while let Some(event) = turn.next() {
            idle = 0;
            app.on(event);
        }
        let pause = turn.finish();
        idle = if chunk.bytes.len() < *end - *start { 0 } else { idle };
        *start = *end - chunk.bytes.len();
        if matches!(pause, Pause::Caller(Wait::Reply(_)))
            && let Some(at) = app.later.iter().position(|l| l.number() == *id)
        {
            let mut turn = connection.turn(NOW, *id, &mut chunk, outbox);
            turn.reply(app.later.remove(at)).expect("open").text(200, "late").expect("room");
            assert!(turn.next().is_none());
        }
        idle = if outbox.ready().is_empty() { idle } else { 0 };
        sent.extend_from_slice(outbox.ready());
        outbox.wrote(usize::MAX);
        let mut answer = Answer { ended: outbox.finished(), ..Answer::default() };
        let mut rest = &sent[..];
        while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
            let len = usize::from(u16::from_be_bytes([high, low]));
            let Some((payload, behind)) = behind.split_at_checked(len) else { break };
            rest = behind;
            match kind {
                HEADERS => answer.heads.push(String::from_utf8(payload.to_vec()).expect("text")),
                _ => answer.body.extend_from_slice(payload),
            }
        }
        answers.insert(*id / 4, answer);
    }
    (app, answers)
}

#[test]
fn one_handler_sees_the_same_over_all_three() {
    let mut dice = Dice(7);
    for round in 0..60 {
        let asks: Vec<Ask> = (0..1 + dice.below(8))
            .map(|tag| {
                let path = ["/hello", "/echo", "/stream", "/later", "/json", "/trailers", "/big"][dice.below(7)];
                let size = [0, 1, 9, 3000, 60_000][dice.below(5)];
                let body = (dice.below(3) > 0 && size > 0)
                    .then(|| (0..size).map(|_| b'a' + dice.below(26) as u8).collect::<Vec<u8>>());
                let trailers = body.is_some() && dice.below(3) == 0;
                Ask { tag: tag as u64, path, body, trailers }
            })
            .collect();
        let h1 = over_h1(&asks);
        assert_eq!(h1.seen.len(), asks.len());
        let (h2, h2_answers) = over_h2(&asks, &mut dice);
        let (h3, h3_answers) = over_h3(&asks, &mut dice);
        for tag in h1.seen.keys() {
            assert_eq!(h1.seen[tag], h2.seen[tag], "round {round}: HTTP/2");
            assert_eq!(h1.seen[tag], h3.seen[tag], "round {round}: HTTP/3");
            let answer = &h2_answers[&(2 * tag + 1)];
            assert!(answer.ended && answer.reset.is_none(), "{answer:?}");
            assert_eq!(answer, &h3_answers[tag], "round {round}");
        }
        assert!(h2.faults.is_empty() && h2.rest.is_empty() && h3.rest.is_empty());
    }
}

// ---- what only many streams can show ----

fn open(h2: &mut H2, id: u64, ask: &Ask) {
    h2.feed(&h2_frame(HEADERS, u8::from(ask.body.is_none()), id, &ask.block()));
}

#[test]
fn streams_are_answered_out_of_order_by_id() {
    let mut h2 = H2::new();
    for tag in 0..5 {
        open(&mut h2, 2 * tag + 1, &Ask::new(tag, "/later", None));
    }
    assert_eq!(h2.pause, Pause::Input { want: 8 }, "open streams never stop the input");
    h2.feed(&h2_frame(PING, 0, 0, b"12345678"));
    assert_eq!(h2.pongs, 1);
    for tag in [3, 0, 4, 2, 1] {
        let id = h2.app.ids[&tag];
        assert!(h2.with(id, |reply| {
            assert_eq!(reply.tag(), tag);
            reply.text(200, &format!("for {tag}")).expect("room");
        }));
        assert_eq!(h2.answers[&id.number()].body, format!("for {tag}").as_bytes());
        assert!(!h2.with(id, |_| ()), "its id is dead now");
    }
    assert!(h2.connection.core().is_between());
}

#[test]
fn a_window_cuts_a_write_short_and_writable_follows() {
    let mut h2 = H2::new();
    h2.generous = false;
    open(&mut h2, 1, &Ask::new(1, "/big", None));
    open(&mut h2, 3, &Ask::new(3, "/big", None));
    assert_eq!((h2.answers[&1].body.len(), h2.answers[&3].body.len()), (65_536, 65_536), "each has its own window");
    // One byte of window: one byte of content, and only there.
    h2.feed(&h2_frame(WINDOW, 0, 3, &1u32.to_be_bytes()));
    assert_eq!((h2.answers[&1].body.len(), h2.answers[&3].body.len()), (65_536, 65_537));
    h2.feed(&h2_frame(WINDOW, 0, 1, &(BIG as u32).to_be_bytes()));
    assert!(h2.answers[&1].ended && h2.answers[&1].body.len() == BIG);
    assert!(h2.app.writable > 2);
    // The connection's window is one for all: 1 MiB less what went.
    for id in [5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29] {
        open(&mut h2, id, &Ask::new(id, "/big", None));
    }
    let all: usize = h2.answers.values().map(|a| a.body.len()).sum();
    assert_eq!(all, CONNECTION_WINDOW as usize);
    // A small answer does not fail for that: it is parked, whole, and the handler is rid of it.
    open(&mut h2, 31, &Ask::new(31, "/hello", None));
    assert_eq!((h2.answers[&31].heads.len(), h2.answers[&31].body.len()), (1, 0));
    // What is serialised in place cannot be parked: refused, before a byte of it is written.
    open(&mut h2, 33, &Ask::new(33, "/later", None));
    let id = h2.app.ids[&33];
    assert!(h2.with(id, |reply| assert_eq!(reply.json(200, &[1, 2, 3]), Err(Misuse::NoRoom))));
    assert!(!h2.answers.contains_key(&33));
    h2.generous = true;
    for id in (3..=31).step_by(2) {
        h2.feed(&h2_frame(WINDOW, 0, id, &(BIG as u32).to_be_bytes()));
    }
    h2.feed(&h2_frame(WINDOW, 0, 0, &(4 * BIG as u32).to_be_bytes()));
    assert!(h2.with(id, |reply| assert_eq!(reply.json(200, &[1, 2, 3]), Ok(()))));
    assert_eq!((&h2.answers[&31].body[..], &h2.answers[&33].body[..]), (&b"0 bytes"[..], &b"[1,2,3]"[..]));
    assert!(h2.answers.values().all(|a| a.ended), "nothing was lost");
    let sizes: Vec<usize> = h2.answers.values().map(|a| a.body.len()).filter(|&n| n > 100).collect();
    assert_eq!(sizes, [BIG; 15]);
}

#[test]
fn a_reset_takes_one_stream_back() {
    let mut h2 = H2::new();
    for id in [1, 3, 5] {
        open(&mut h2, id, &Ask::new(id, "/stream", Some(b"")));
        h2.feed(&h2_frame(DATA, 0, id, b"some"));
    }
    h2.feed(&h2_frame(RESET, 0, 3, &CANCEL.to_be_bytes()));
    assert!(h2.app.seen[&3].ends_with("aborted None\n"));
    let id = h2.app.ids[&3];
    assert!(!h2.with(id, |_| ()), "None, and nobody's mistake");
    // What was under way for it is skipped, and its credit comes back to the connection.
    h2.feed(&h2_frame(DATA, 0, 3, b"late"));
    for id in [5, 1] {
        h2.feed(&h2_frame(DATA, END, id, b" more"));
        assert_eq!(h2.answers[&id].body, b"9 bytes");
    }
    assert!(h2.app.faults.is_empty());
}

#[test]
fn a_reset_flood_yields_the_turn_each_time() {
    let mut h2 = H2::new();
    let pair = |id| {
        [h2_frame(HEADERS, 0, id, &Ask::new(id, "/stream", None).block()), h2_frame(RESET, 0, id, &[0; 4])].concat()
    };
    let wire: Vec<u8> = (0..40).flat_map(|i| pair(2 * i + 1)).collect();
    let (mut inbox, mut turns, mut aborted) = (Inbox::filled(wire.clone(), wire.len()), 0, 0);
    while !inbox.is_empty() {
        let mut turn = h2.connection.turn(NOW, &mut inbox, &mut h2.outbox).expect("our own buffers");
        while let Some(event) = turn.next() {
            aborted += u32::from(matches!(event, Event::Aborted { .. }));
        }
        let _ = turn.finish();
        turns += 1;
    }
    assert!(turns >= 40 && aborted == 40, "{turns} {aborted}");
}

#[test]
fn manual_credit_pauses_one_stream_only() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/manual", Some(b"")));
    open(&mut h2, 3, &Ask::new(3, "/stream", Some(b"")));
    for _ in 0..64 {
        h2.feed(&h2_frame(DATA, 0, 1, &[b'm'; 1024]));
    }
    assert_eq!(h2.app.bodies[&1].len(), 65_536, "delivered at once");
    assert_eq!(h2.credit.get(&1), None, "and no credit before it is released");
    // The other stream goes on, and gets its credit when each loan ends.
    for _ in 0..200 {
        h2.feed(&h2_frame(DATA, 0, 3, &[b's'; 1024]));
    }
    assert_eq!(h2.app.bodies[&3].len(), 200 * 1024);
    assert!(h2.credit[&3] >= 200 * 1024 - 65_536 / 4);
    let id = h2.app.ids[&1];
    assert!(h2.with(id, |reply| reply.release(20_000)));
    assert_eq!(h2.credit[&1], 20_000);
    h2.feed(&h2_frame(DATA, 0, 1, &[b'm'; 20_000]));
    assert!(h2.app.faults.is_empty());
    // A peer that sends beyond its credit breaks a rule, and every exchange hears of it.
    h2.feed(&h2_frame(DATA, 0, 1, b"m"));
    assert_eq!(h2.app.faults, [Rule::BodyTooLarge]);
    for tag in [1, 3] {
        assert!(h2.app.seen[&tag].ends_with("aborted Some(BodyTooLarge)\n"));
    }
    assert!(h2.goaway.is_some() && h2.outbox.finished());
}

#[test]
fn a_rule_about_one_message_ends_one_stream() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/small", Some(b"")));
    open(&mut h2, 3, &Ask::new(3, "/stream", Some(b"")));
    h2.feed(&h2_frame(DATA, 0, 1, b"0123456789a"));
    assert!(h2.app.seen[&1].ends_with("aborted Some(BodyOverHandler)\n"));
    assert_eq!(h2.answers[&1].reset, Some(CANCEL));
    h2.feed(&h2_frame(HEADERS, END, 5, b"GET / a b\n"));
    assert_eq!(h2.answers[&5].reset, Some(1), "a malformed head is never announced");
    h2.feed(&h2_frame(DATA, END, 3, b"x"));
    assert!(h2.answers[&3].ended && h2.app.faults.is_empty());
}

#[test]
fn an_early_answer_ends_the_request_without_blame() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/early", Some(b"")));
    assert_eq!((h2.answers[&1].body.len(), h2.answers[&1].ended, h2.answers[&1].reset), (7, true, Some(NO_ERROR)));
    h2.run();
    h2.feed(&h2_frame(DATA, END, 1, b"was on its way"));
    assert!(h2.app.faults.is_empty());
}

#[test]
fn a_drain_says_goaway_and_finishes_what_is_open() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/later", None));
    h2.connection.drain();
    h2.run();
    assert_eq!(h2.goaway, Some(NO_ERROR));
    open(&mut h2, 3, &Ask::new(3, "/hello", None));
    assert_eq!(h2.answers[&3].reset, Some(7), "above the last stream that GOAWAY named");
    assert!(!h2.outbox.finished());
    let id = h2.app.ids[&1];
    assert!(h2.with(id, |reply| reply.text(200, "last").expect("room")));
    assert!(h2.outbox.finished() && h2.answers[&1].ended);
    h2.inbox.end();
    h2.run();
    assert_eq!((h2.pause, h2.connection.end()), (Pause::Closed, Some(End::Ours)));
}

#[test]
fn the_end_of_the_bytes_aborts_what_is_incomplete_and_waits_for_the_rest() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/later", None));
    open(&mut h2, 3, &Ask::new(3, "/stream", Some(b"")));
    h2.inbox.end();
    h2.run();
    assert!(h2.app.seen[&3].ends_with("aborted None\n"));
    let id = h2.app.ids[&1];
    assert_eq!(h2.pause, Pause::Caller(Wait::Reply(id)));
    assert!(h2.with(id, |reply| reply.text(200, "last").expect("room")));
    assert!(h2.answers[&1].ended);
    assert_eq!((h2.pause, h2.connection.end()), (Pause::Closed, Some(End::Clean)));
}

#[test]
fn open_streams_are_not_idle() {
    let mut h2 = H2::new();
    open(&mut h2, 1, &Ask::new(1, "/later", None));
    h2.now = Instant::from_millis(300_000);
    h2.run();
    let id = h2.app.ids[&1];
    assert!(h2.with(id, |reply| reply.text(200, "slow").expect("room")));
    h2.now = Instant::from_millis(329_999);
    h2.run();
    assert_eq!(h2.connection.end(), None);
    h2.now = Instant::from_millis(330_000);
    h2.run();
    assert_eq!(h2.connection.end(), Some(End::Idle));
}

// ---- HTTP/3 alone ----

#[test]
fn a_blocked_stream_of_http_3_becomes_ready() {
    let mut connection = h3::Connection::new(Arc::new(Config::new(Limits::DEFAULT)), NOW);
    let (mut app, mut outbox) = (App::default(), Outbox::new(vec![0; 1024]));
    let wire = h3_frame(HEADERS, b"GET /hello a.example\n@\nx-b: c\n");
    let mut chunk = h3::Chunk { bytes: &wire, fin: true };
    let mut turn = connection.turn(NOW, 0, &mut chunk, &mut outbox);
    assert!(turn.next().is_none());
    assert_eq!(turn.finish(), Pause::Input { want: 1 });
    assert_eq!(connection.ready(), None);
    let mut encoder = h3::Chunk { bytes: b"x-tag: 9", fin: false };
    let mut unused = Outbox::new(vec![0; 64]);
    let mut turn = connection.turn(NOW, h3::ENCODER, &mut encoder, &mut unused);
    assert!(turn.next().is_none());
    drop(turn);
    assert_eq!(connection.ready(), Some(0));
    let mut turn = connection.turn(NOW, 0, &mut chunk, &mut outbox);
    while let Some(event) = turn.next() {
        app.on(event);
    }
    drop(turn);
    assert!(app.seen[&9].contains("x-tag: 9\nx-b: c\n"), "{:?}", app.seen);
    assert!(outbox.ready().ends_with(b"0 bytes"));
    outbox.wrote(usize::MAX);
    assert!(outbox.finished(), "the transport's FIN");
    connection.control(&mut unused);
    assert_eq!(unused.ready(), [0], "the header block is acknowledged");
}

#[test]
fn manual_credit_of_http_3_leaves_the_bytes_with_the_transport() {
    let mut connection = h3::Connection::new(Arc::new(Config::new(Limits::DEFAULT)), NOW);
    let (mut app, mut outbox) = (App::default(), Outbox::new(vec![0; 1024]));
    let mut wire = h3_frame(HEADERS, &Ask::new(1, "/manual", Some(b"")).block());
    (0..2).for_each(|_| wire.extend(h3_frame(DATA, &[b'm'; 50_000])));
    let mut chunk = h3::Chunk { bytes: &wire, fin: false };
    let id = Id(4);
    let visit = |connection: &mut h3::Connection<Arc<Config>>,
                 chunk: &mut h3::Chunk<'_>,
                 app: &mut App,
                 outbox: &mut Outbox<Vec<u8>>,
                 n| {
        let mut turn = connection.turn(NOW, 4, chunk, outbox);
        if let Some(mut reply) = turn.reply(id) {
            reply.release(n);
        }
        while let Some(event) = turn.next() {
            app.on(event);
        }
        turn.finish()
    };
    assert_eq!(visit(&mut connection, &mut chunk, &mut app, &mut outbox, 0), Pause::Caller(Wait::Release(id)));
    assert_eq!((app.bodies[&1].len(), chunk.bytes.len()), (65_536, 100_000 - 65_536));
    // Another stream is not concerned.
    let other = h3_frame(HEADERS, &Ask::new(2, "/hello", None).block());
    let mut second = Outbox::new(vec![0; 1024]);
    let mut whole = h3::Chunk { bytes: &other, fin: true };
    let mut turn = connection.turn(NOW, 8, &mut whole, &mut second);
    while let Some(event) = turn.next() {
        app.on(event);
    }
    drop(turn);
    assert!(second.ready().ends_with(b"0 bytes"));
    assert_eq!(visit(&mut connection, &mut chunk, &mut app, &mut outbox, 65_536), Pause::Input { want: 3 });
    assert_eq!((app.bodies[&1].len(), chunk.bytes.len()), (100_000, 0));
    // The transport says that the peer gave up.
    assert!(matches!(connection.reset(4), Some(Event::Aborted { tag: 1, why: None, .. })));
    assert!(connection.reset(4).is_none());
    assert_eq!(visit(&mut connection, &mut chunk, &mut app, &mut outbox, 0), Pause::Input { want: 3 });
}
