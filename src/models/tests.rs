//! One handler, three versions: HTTP/1.1 and HTTP/2 on the real engine, the model of HTTP/3 beside them. What the handler sees must
//! be the same, and so must the answers; what only the model can show is shown with it alone.

use super::Dice;
use super::h3;
use super::peer::{END, END_HEADERS, Handler, Lines, Peer};
use super::streams::{DATA, HEADERS};
use crate::base::Limits;
use crate::parse::h2::kind;
use crate::{Config, Connection, Content, Event, Expect, Id, Inbox, Instant, Outbox, Pause, Reply, Rule, Turn, Wait};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const NOW: Instant = Instant::ZERO;
const BIG: usize = 200_000;

// ---- the handler, which knows nothing of versions ----

#[derive(Default)]
struct App {
    /// What was seen, by the tag that each request carries.
    seen: BTreeMap<u64, String>,
    bodies: BTreeMap<u64, Vec<u8>>,
    rest: BTreeMap<Id, Vec<u8>>,
    later: Vec<Id>,
    ids: BTreeMap<u64, Id>,
    faults: Vec<Rule>,
    /// Answers that wait may be given.
    all_asked: bool,
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
            Event::Tunnel(_) | Event::Hello(_) | Event::Proxied(_) => panic!("not asked for"),
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

fn h3_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[kind, high, low], payload].concat()
}

/// What came back on one stream.
#[derive(Default, Debug, PartialEq)]
struct Answer {
    informs: usize,
    head: Lines,
    body: Vec<u8>,
    trailers: Option<Lines>,
    ended: bool,
}

impl Answer {
    fn section(&mut self, block: &[u8]) {
        let text = core::str::from_utf8(block).expect("text");
        let split = |line: &str| {
            let at = 1 + line[1..].find([':', ' ']).expect("a line");
            (line[..at].to_string(), line[at..].trim_start_matches([':', ' ']).as_bytes().to_vec())
        };
        let lines: Lines = text.lines().map(split).collect();
        match lines.iter().find(|f| f.0 == ":status") {
            Some(status) if status.1[0] == b'1' => self.informs += 1,
            Some(_) => self.head = lines,
            None => self.trailers = Some(lines),
        }
    }
}

impl Handler for App {
    fn on(&mut self, event: Event<'_>) {
        App::on(self, event);
    }

    fn outside(&mut self, turn: &mut Turn<'_>) {
        if self.all_asked
            && let Some(id) = self.later.pop()
        {
            turn.reply(id).expect("open").text(200, "late").expect("room");
        }
    }
}

// ---- the three versions ----

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
    let mut peer = Peer::new(Limits::DEFAULT, 4096, 8192, App::default());
    peer.settings(1 << 20);
    peer.grant(0, 1 << 24);
    peer.run();
    // All streams at once: the next frame is of any of them, but they begin in order.
    let mut waiting: Vec<VecDeque<_>> = asks.iter().map(|ask| ask.frames(dice).into()).collect();
    let mut begun = 0;
    while waiting.iter().any(|w| !w.is_empty()) {
        let at = dice.below(waiting.len().min(begun + 1));
        let number = 2 * at as u32 + 1;
        if let Some((kind, end, payload)) = waiting[at].pop_front() {
            if at == begun {
                let (ask, tag) = (&asks[at], asks[at].tag.to_string());
                let path = format!("{}?q", ask.path);
                let tag: [(&str, &[u8]); 1] = [("x-tag", tag.as_bytes())];
                let stream = if end { peer.get(&path, &tag) } else { peer.post(&path, &tag) };
                assert_eq!(stream, number);
                begun += 1;
            } else if kind == HEADERS {
                let block = peer.block(&[("x-check", b"yes")]);
                peer.lanes.get_mut(&number).expect("open").closed = true;
                peer.say(kind::HEADERS, END | END_HEADERS, number, &block);
            } else {
                let padding = dice.one_in(3).then(|| dice.below(256) as u8);
                peer.data(number, &payload, padding, end);
            }
        }
        peer.feed(1 + dice.below(3000));
        peer.turn(dice.pick(&[0, 1000, 1 << 20]));
    }
    peer.run();
    peer.handler.all_asked = true;
    while !peer.handler.later.is_empty() {
        peer.run();
    }
    let answers = peer.lanes.iter().map(|(number, lane)| {
        assert_eq!(lane.reset, None);
        let answer = Answer {
            informs: lane.informs,
            head: lane.head.clone().unwrap_or_default(),
            body: lane.body.clone(),
            trailers: lane.trailers.clone(),
            ended: lane.ended,
        };
        (u64::from(*number), answer)
    });
    let answers = answers.collect();
    (peer.handler, answers)
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
                HEADERS => answer.section(payload),
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
            assert!(answer.ended, "{answer:?}");
            assert_eq!(answer, &h3_answers[tag], "round {round}");
        }
        assert!(h2.faults.is_empty() && h2.rest.is_empty() && h3.rest.is_empty());
    }
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
