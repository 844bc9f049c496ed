//! Output validity (P-8): a handler that calls everything, rightly and wrongly, in any order, while windows open and shut. A strict
//! client finds nothing to object to, and each request has the one answer that was taken from its handler, to the byte.

use std::collections::BTreeMap;

use vestibule::{Content, Event, Expect, Id, Limit, Misuse, Reply, Turn};

use super::ask::{content, text};
use super::client::{Client, Lane};
use super::frames::{Dice, Line};
use super::road::{Handler, Road, patient, with};

#[derive(Copy, Clone, Debug, PartialEq)]
enum State {
    /// No final response yet.
    Waiting,
    /// Content is taken; of so much that was declared.
    Open {
        left: Option<usize>,
        whole: bool,
    },
    Silent,
    Tunnel,
    Done,
    Broken,
}

/// One exchange: what its handler was told that it has said.
#[derive(Debug)]
struct Deal {
    id: Id,
    is_head: bool,
    is_connect: bool,
    state: State,
    aborted: bool,
    /// The peer gave it up.
    over: bool,
    informs: Vec<(u16, Vec<Line>)>,
    head: Option<(u16, Vec<Line>)>,
    body: Vec<u8>,
    trailers: Option<Vec<Line>>,
}

#[derive(Debug)]
struct Wild {
    dice: Dice,
    deals: BTreeMap<u64, Deal>,
    closing: bool,
    /// It may end the connection.
    closes: bool,
}

type Field = (&'static str, &'static str);

fn lines(fields: &[Field]) -> Vec<Line> {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec())).collect()
}

/// Mostly good ones.
fn fields(dice: &mut Dice) -> Vec<Field> {
    let good: [Field; 10] = [
        ("x-a", "b"),
        ("X-Upper", "C d"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("date", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("x-empty", ""),
        ("x-high", "\u{e4}"),
        ("vary", "accept"),
        ("!#$%&'*+-.^_`|~", "\ta".trim_ascii()),
        ("cache-control", "no-store"),
    ];
    let bad: [Field; 14] = [
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("upgrade", "x"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        (":status", "200"),
        ("", "x"),
        ("a b", "x"),
        ("a\r\nb", "x"),
        ("x", "a\r\nb: c"),
        ("x", " a"),
        ("x", "\0"),
    ];
    let n = dice.pick(&[0, 0, 1, 2, 5]);
    let mut fields: Vec<Field> = (0..n).map(|_| dice.pick(&good)).collect();
    if dice.one_in(12) {
        fields.push(dice.pick(&bad));
    }
    fields
}

impl Deal {
    fn number(&self) -> usize {
        self.id.number() as usize
    }

    fn is_open(&self) -> bool {
        !self.aborted && !self.over && !matches!(self.state, State::Done | State::Broken)
    }

    /// A head was taken, with content of this length if it has one.
    fn said(&mut self, status: u16, mut lines: Vec<Line>, length: Option<usize>, whole: bool) {
        assert_eq!(self.state, State::Waiting, "a second answer");
        let bare = matches!(status, 204 | 304);
        let length_line = length.filter(|_| !bare);
        lines.extend(length_line.map(|n| (b"content-length".to_vec(), n.to_string().into_bytes())));
        lines.sort();
        self.head = Some((status, lines));
        self.state = match (self.is_head || bare, whole) {
            (true, true) => State::Done,
            (true, false) => State::Silent,
            (false, true) if length == Some(0) => State::Done,
            (false, _) => State::Open { left: length, whole },
        };
    }

    fn took(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Silent => {}
            State::Tunnel | State::Open { left: None, .. } => self.body.extend_from_slice(bytes),
            State::Open { left: Some(left), whole } => {
                self.body.extend_from_slice(bytes);
                *left -= bytes.len();
                if *left == 0 && *whole {
                    self.state = State::Done;
                }
            }
            state => panic!("content was taken in {state:?}"),
        }
    }

    fn finished(&mut self) {
        self.state = match self.state {
            State::Open { left: Some(1..), .. } => State::Broken,
            State::Open { .. } | State::Silent | State::Tunnel => State::Done,
            state => panic!("an end in {state:?}"),
        };
    }

    /// One call, good or bad.
    fn act(&mut self, mut reply: Reply<'_>, dice: &mut Dice) {
        let number = self.number();
        match dice.below(16) {
            0..3 => self.respond(&mut reply, dice),
            3..6 => {
                let n = dice.pick(&[0, 1, 100, 5_000, 40_000]);
                self.write(&mut reply, &content(number + self.body.len(), n));
            }
            6 => {
                if reply.finish().is_ok() {
                    self.finished();
                }
            }
            7 => self.end_with_trailers(&mut reply, dice),
            8 => {
                let (status, fields) = (dice.pick(&[100, 101, 102, 103, 199, 200, 0]), fields(dice));
                if reply.inform(status, &fields).is_ok() {
                    let mut lines = lines(&fields);
                    lines.sort();
                    self.informs.push((status, lines));
                }
            }
            9 => {
                let fields = fields(dice);
                if reply.upgrade("websocket", &fields).is_ok() {
                    assert!(self.is_connect, "nobody asked for that");
                    let mut lines = lines(&fields);
                    lines.sort();
                    (self.head, self.state) = (Some((200, lines)), State::Tunnel);
                }
            }
            10 | 11 => {
                let status = dice.pick(&[200, 200, 404, 204, 304, 205, 99]);
                let n = dice.pick(&[0, 5, 900, 1_500, 17_000, 18_000]);
                let text = text(number, n);
                if reply.text(status, &text).is_ok() {
                    self.short(status, "text/plain; charset=utf-8", text.as_bytes());
                }
            }
            12 => {
                let status = dice.pick(&[200, 500, 204, 304]);
                if reply.json(status, &[number; 3]).is_ok() {
                    self.short(status, "application/json", format!("[{number},{number},{number}]").as_bytes());
                }
            }
            13 => match dice.below(4) {
                0 => reply.discard(),
                1 => reply.release(dice.pick(&[0, 1, 1_000, u32::MAX])),
                _ => {
                    let all = [Expect::Stream, Expect::Manual, Expect::Whole { max: 1 << 20 }, Expect::Discard];
                    reply.expect(dice.pick(&all));
                }
            },
            14 if dice.one_in(6) => {
                self.aborted = true;
                reply.abort();
            }
            _ => assert_eq!(reply.id(), self.id),
        }
    }

    fn respond(&mut self, reply: &mut Reply<'_>, dice: &mut Dice) {
        let status = dice.pick(&[200, 200, 201, 204, 205, 304, 404, 500, 599, 0, 100, 101, 199, 600, 999]);
        let fields = fields(dice);
        let n = dice.pick(&[0, 1, 700, 1_100, 17_000, 60_000]);
        let bytes = content(self.number(), n);
        let how = dice.pick(&[0, 1, 2]);
        let content = [Content::Whole(&bytes), Content::Sized(n as u64), Content::Streamed][how];
        let before = self.state;
        match reply.respond(status, &fields, content) {
            Ok(taken) => {
                self.said(status, lines(&fields), (how < 2).then_some(n), how == 0);
                match self.state {
                    State::Open { .. } => self.took(&bytes[..taken]),
                    _ => assert!(taken == 0 || taken == n),
                }
            }
            Err(Misuse::Gone) => assert!(!self.is_open(), "{self:?}"),
            Err(misuse) => assert!(before == State::Waiting || misuse == Misuse::AlreadyAnswered, "{misuse}"),
        }
    }

    fn short(&mut self, status: u16, content_type: &str, bytes: &[u8]) {
        let lines = vec![(b"content-type".to_vec(), content_type.as_bytes().to_vec())];
        self.said(status, lines, Some(bytes.len()), true);
        if self.state != State::Done {
            self.took(bytes);
        }
    }

    fn write(&mut self, reply: &mut Reply<'_>, bytes: &[u8]) {
        match (reply.write(bytes), self.state) {
            (Ok(n), State::Silent) => assert_eq!(n, bytes.len()),
            (Ok(n), _) => self.took(&bytes[..n]),
            (Err(Misuse::NotAnswered), state) => assert_eq!(state, State::Waiting),
            (Err(Misuse::TooMuchContent), State::Open { left, .. }) => assert!(left.is_some_and(|n| n < bytes.len())),
            (Err(Misuse::Gone), _) => assert!(!self.is_open(), "{self:?}"),
            (Err(misuse), state) => panic!("{misuse} in {state:?}"),
        }
    }

    fn end_with_trailers(&mut self, reply: &mut Reply<'_>, dice: &mut Dice) {
        let mut fields = fields(dice);
        if dice.one_in(2) {
            fields.retain(|f| f.0.starts_with('x'));
        }
        if reply.trailers(&fields).is_ok() {
            let streamed = matches!(self.state, State::Open { left: None, .. });
            self.trailers = (streamed && !fields.is_empty()).then(|| lines(&fields));
            self.finished();
        }
    }

    /// It comes to an end, as far as there is room.
    fn close(&mut self, reply: &mut Reply<'_>) {
        reply.release(u32::MAX);
        match self.state {
            State::Waiting => {
                if reply.text(404, "").is_ok() {
                    self.short(404, "text/plain; charset=utf-8", b"");
                }
            }
            State::Open { left: Some(left @ 1..), .. } if self.number() % 4 != 3 => {
                self.write(reply, &content(1, left));
            }
            State::Open { .. } | State::Silent | State::Tunnel => {
                if reply.finish().is_ok() {
                    self.finished();
                }
            }
            State::Done | State::Broken => {}
        }
    }

    /// What the client got is what was taken.
    fn judge(&self, lane: &Lane) {
        let number = self.number();
        let sorted = |lines: &[Line]| {
            let mut lines = lines.to_vec();
            lines.sort();
            lines
        };
        let informs: Vec<_> = lane.informs.iter().map(|(status, lines)| (*status, sorted(lines))).collect();
        let head = lane.head.as_ref().map(|(status, lines)| (*status, sorted(lines)));
        if lane.given_up {
            assert!(self.informs.starts_with(&informs) && self.body.starts_with(&lane.body), "stream {number}");
            return;
        }
        assert_eq!(informs, self.informs, "stream {number}");
        assert_eq!(head, self.head, "stream {number}");
        assert!(lane.is_over(), "stream {number} has no end: {:?} {:?}", self.state, (lane.ended, lane.closed));
        if self.aborted {
            assert!(self.body.starts_with(&lane.body), "stream {number}");
            return assert!(lane.ended || lane.reset == Some(8), "stream {number}");
        }
        assert!(lane.body == self.body, "stream {number}: {} bytes of {}", lane.body.len(), self.body.len());
        match self.state {
            State::Broken => assert_eq!((lane.ended, lane.reset), (false, Some(2)), "stream {number}"),
            State::Done => {
                assert!(lane.ended && matches!(lane.reset, None | Some(0)), "stream {number}");
                assert_eq!(lane.trailers, self.trailers, "stream {number}");
            }
            state => panic!("stream {number} is left in {state:?}: {lane:?}"),
        }
    }
}

impl Wild {
    fn new(seed: u64) -> Wild {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let closes = dice.one_in(8);
        Wild { dice, deals: BTreeMap::new(), closing: false, closes }
    }

    fn some_of(&mut self, mut reply: Reply<'_>) {
        let deal = self.deals.get_mut(&reply.id().number()).expect("known");
        if self.closing {
            return deal.close(&mut reply);
        }
        if self.closes && self.dice.one_in(40) {
            reply.close();
        }
        if !self.dice.one_in(3) {
            deal.act(reply, &mut self.dice);
        }
    }
}

impl Handler for Wild {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let (id, number) = (request.reply.id(), request.reply.id().number());
                let deal = Deal {
                    id,
                    is_head: request.head.method == "HEAD",
                    is_connect: request.head.method == "CONNECT",
                    state: State::Waiting,
                    aborted: false,
                    over: false,
                    informs: Vec::new(),
                    head: None,
                    body: Vec::new(),
                    trailers: None,
                };
                assert!(self.deals.insert(number, deal).is_none(), "one event a request");
                request.reply.set_tag(number);
                self.some_of(request.reply);
            }
            Event::Body(body) => self.some_of(body.reply),
            Event::Trailers(trailers) => self.some_of(trailers.reply),
            Event::Tunnel(tunnel) => self.some_of(tunnel.reply),
            Event::Writable(reply) => {
                let deal = &self.deals[&reply.id().number()];
                assert!(deal.is_open(), "nothing waits to be written: {deal:?}");
                self.some_of(reply);
            }
            Event::Aborted { id, why, .. } => {
                assert_eq!(why, None, "the client breaks no rule");
                self.deals.get_mut(&id.number()).expect("known").over = true;
            }
            event => panic!("{event:?}"),
        }
    }

    fn outside(&mut self, turn: &mut Turn<'_>) {
        let open: Vec<Id> = self.deals.values().filter(|d| d.is_open()).map(|d| d.id).collect();
        for _ in 0..self.dice.below(4).min(open.len()) {
            let id = self.dice.pick(&open);
            if let Some(reply) = turn.reply(id) {
                self.some_of(reply);
            }
        }
    }
}

fn line(name: &str, value: &str) -> Line {
    (name.into(), value.into())
}

/// A request of any kind.
fn request(client: &mut Client) {
    let dice = &mut client.dice;
    let n = dice.pick(&[0, 1, 300, 20_000, 90_000]);
    let body = content(n, dice.below(n + 1));
    let authority = line(":authority", "a.example:80");
    let plain =
        |method: &str| vec![line(":method", method), line(":scheme", "http"), authority.clone(), line(":path", "/")];
    let trailers = if dice.one_in(4) { vec![line("x-sum", "1")] } else { Vec::new() };
    let (lines, body, tunnel) = match dice.below(10) {
        0 => (vec![line(":method", "CONNECT"), authority], Some(body), true),
        1 => ([plain("CONNECT"), vec![line(":protocol", "websocket")]].concat(), Some(body), true),
        2 => (plain("HEAD"), None, false),
        3..6 => (plain("GET"), None, false),
        _ => (plain("POST"), Some(body), false),
    };
    let number = client.request(&lines, body, if tunnel { &[] } else { &trailers });
    if tunnel && client.dice.one_in(2) {
        client.endless(number);
    }
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let limits = with(patient(), Limit::ConcurrentStreams, 200);
    let limits = with(limits, Limit::TurnUnits, dice.pick(&[20, 256]));
    let (inbox, outbox) = (dice.pick(&[64, 3_000, 20_000]), dice.pick(&[0, 3_000, 20_000, 70_000]));
    let mut road = Road::new(limits, inbox, outbox, Wild::new(seed));
    let mut client = Client::new(seed, dice.pick(&[0, 1, 100, 17_500, 65_535, 1 << 20]));
    let generous = dice.one_in(2);
    for _ in 0..300 {
        let open: Vec<u32> = client.lanes.iter().filter(|(_, l)| !l.is_over()).map(|(n, _)| *n).collect();
        let number = if open.is_empty() { 0 } else { dice.pick(&open) };
        match dice.below(20) {
            0..3 if open.len() < 60 => request(&mut client),
            3..9 => drop(client.upload()),
            9 => client.grant(0, 1 + dice.below(60_000) as u32),
            10 if number != 0 => client.grant(number, 1 + dice.below(60_000) as u32),
            11 if dice.one_in(3) => client.settings(dice.pick(&[0, 1, 1_000, 17_500, 65_535, 200_000])),
            12 if dice.one_in(4) => client.ping(),
            13 if number != 0 && dice.one_in(4) => client.give_up(number),
            _ => {}
        }
        if generous {
            client.grant_all();
        }
        let reads = dice.pick(&[0, 100, 5_000, 1 << 20, 1 << 20]);
        road.step(&mut client, reads);
    }
    road.handler.closing = true;
    client.end_all();
    road.h2(&mut client);
    for (number, lane) in &client.lanes {
        match road.handler.deals.get(&u64::from(*number)) {
            Some(deal) => deal.judge(lane),
            None => assert!(lane.given_up || !client.goaways.is_empty(), "stream {number} was never heard of"),
        }
    }
}

/// `VESTIBULE_PROGRAMS` says how many; `VESTIBULE_SEED` is the first of them, alone unless a number is given.
#[test]
fn whatever_a_handler_calls_the_output_is_valid() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, programs) = (number("VESTIBULE_SEED"), number("VESTIBULE_PROGRAMS"));
    let count = programs.unwrap_or(if first.is_some() { 1 } else { 300 });
    let seeds = first.unwrap_or(1)..first.unwrap_or(1) + count;
    let fails = |&seed: &u64| std::panic::catch_unwind(|| play(seed)).is_err();
    let failed: Vec<u64> = seeds.filter(fails).inspect(|seed| eprintln!("VESTIBULE_SEED={seed} fails")).collect();
    assert!(failed.is_empty(), "VESTIBULE_SEED of the programs that failed: {failed:?}");
}
