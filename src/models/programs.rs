//! In: a seed. Out: a program of two who do as they please: a client that opens, fills, resets and pads its streams at any point, and
//! a handler that takes, keeps, gives back, answers, discards and gives up in any order. Nobody breaks a rule, so nothing may go
//! wrong: the books balance after every turn, bodies arrive as they were sent, and once all is over every counter is back where it
//! began (M-12, P-14, P-19, P-20).

use super::Dice;
use super::audit;
use super::peer::{END, END_HEADERS, Handler, PADDED, Peer, patient, pattern};
use crate::base::Limit;
use crate::decode::job::Done;
use crate::parse::h2::kind;
use crate::reply::Exchanges;
use crate::{Content, Event, Expect, Id, Instant, Misuse, Reply, Turn};
use std::collections::BTreeMap;
use std::io::Write;

/// What a handler answers.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Answer {
    Text(usize),
    Whole(usize),
    Json,
    Sized(usize),
    /// Declared longer than what is written.
    Short(usize),
    Streamed(usize),
    Trailers(usize),
}

/// One exchange, as the handler knows it.
#[derive(Debug)]
struct Deal {
    id: Id,
    expect: Expect,
    answer: Answer,
    /// What came of the body, and whether all of it.
    body: Vec<u8>,
    received: bool,
    /// The handler gave it up, or was told that it is over.
    over: bool,
    held: u32,
    responded: bool,
    done: bool,
    written: usize,
    starved: bool,
}

#[derive(Debug)]
struct Hand {
    dice: Dice,
    deals: BTreeMap<u32, Deal>,
    jobs: Vec<Done>,
    /// Everything is to come to an end.
    closing: bool,
    /// Streams whose held content is never given back before the end.
    misers: u64,
    /// The longest text that the outbox takes at once.
    longest: usize,
}

fn answer(number: u32, n: usize) -> Vec<u8> {
    pattern(number + 7, n)
}

fn text(number: u32, n: usize) -> String {
    answer(number, n).iter().map(|b| char::from(b'a' + b % 26)).collect()
}

impl Deal {
    fn number(&self) -> u32 {
        self.id.number() as u32
    }

    fn size(&self) -> usize {
        match self.answer {
            Answer::Text(n) | Answer::Whole(n) | Answer::Sized(n) | Answer::Streamed(n) | Answer::Trailers(n) => n,
            Answer::Short(n) => n / 2,
            Answer::Json => 7,
        }
    }

    fn content(&self) -> Vec<u8> {
        match self.answer {
            Answer::Text(n) => text(self.number(), n).into_bytes(),
            Answer::Json => b"[1,2,3]".to_vec(),
            _ => answer(self.number(), self.size()),
        }
    }

    fn respond(&mut self, reply: &mut Reply<'_>) {
        if self.responded || self.over {
            return;
        }
        let content = self.content();
        let said = match self.answer {
            Answer::Text(n) => reply.text(200, &text(self.number(), n)).map(|()| n),
            Answer::Json => reply.json(200, &[1, 2, 3]).map(|()| 7),
            Answer::Whole(_) => reply.respond(200, &[("x-a", "b")], Content::Whole(&content)),
            Answer::Sized(n) | Answer::Short(n) => reply.respond(201, &[], Content::Sized(n as u64)),
            Answer::Streamed(_) | Answer::Trailers(_) => reply.respond(200, &[("x-a", "b")], Content::Streamed),
        };
        match said {
            Ok(n) => {
                self.responded = true;
                self.written = n;
                match self.answer {
                    Answer::Text(_) | Answer::Json => self.done = true,
                    Answer::Whole(all) if n < all => self.starved = true,
                    Answer::Whole(_) => self.done = true,
                    _ => self.write(reply),
                }
            }
            Err(Misuse::NoRoom) => {}
            Err(misuse) => panic!("{misuse}"),
        }
    }

    fn write(&mut self, reply: &mut Reply<'_>) {
        if !self.responded || self.done || self.over || self.starved {
            return;
        }
        let content = self.content();
        if self.written < content.len() {
            let n = reply.write(&content[self.written..]).expect("its turn");
            self.written += n;
            self.starved = self.written < content.len();
        }
        if self.starved {
            return;
        }
        let end = match self.answer {
            Answer::Whole(_) => Ok(()),
            Answer::Trailers(_) => reply.trailers(&[("x-sum", "1")]),
            _ => reply.finish(),
        };
        match end {
            Ok(()) => self.done = true,
            Err(Misuse::NoRoom) => {}
            Err(misuse) => panic!("{misuse}"),
        }
    }
}

impl Hand {
    fn new(seed: u64, longest: usize) -> Hand {
        let mut dice = Dice(seed ^ 0xabcd_ef01_2345);
        let misers = if dice.one_in(3) { 2 } else { 1_000_000 };
        Hand { dice, deals: BTreeMap::new(), jobs: Vec::new(), closing: false, misers, longest }
    }

    /// Anything that a handler can do with an exchange at any time.
    fn whim(&mut self, number: u32, mut reply: Reply<'_>) {
        let Hand { dice, deals, closing, misers, .. } = self;
        let deal = deals.get_mut(&number).expect("known");
        assert_eq!(reply.tag(), u64::from(number));
        let miser = number as u64 % *misers == 1 && !*closing;
        if deal.held > 0 && !miser && (*closing || dice.one_in(2)) {
            let n = if *closing || dice.one_in(2) { deal.held } else { dice.below(deal.held as usize + 1) as u32 };
            deal.held -= n;
            reply.release(n);
        }
        match dice.below(40) {
            0 if !*closing => {
                deal.over = true;
                return reply.abort();
            }
            1 => {
                reply.discard();
                (deal.expect, deal.received) = (Expect::Discard, true);
            }
            2 if deal.expect == Expect::Stream => {
                reply.expect(Expect::Manual);
                deal.expect = Expect::Manual;
            }
            3 if deal.expect == Expect::Manual => {
                reply.expect(Expect::Stream);
                deal.expect = Expect::Stream;
            }
            4 if !deal.responded => match reply.inform(103, &[("link", "</x>")]) {
                Ok(()) | Err(Misuse::NoRoom) => {}
                Err(misuse) => panic!("{misuse}"),
            },
            5 => deal.respond(&mut reply), // before the request is complete, perhaps
            _ => {}
        }
        if deal.received && (*closing || dice.one_in(3)) {
            deal.respond(&mut reply);
        }
        deal.write(&mut reply);
    }
}

/// The response is complete, and the machine knows it.
fn is_answered(reply: &mut Reply<'_>) -> bool {
    let number = reply.id().number() as u32;
    let Exchanges::H2(streams) = &mut *reply.exchanges else { panic!("not HTTP/2") };
    streams.stream(number).is_none_or(|s| s.is_answered())
}

impl Handler for Hand {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let (id, number) = (request.reply.id(), request.reply.id().number() as u32);
                assert_eq!(request.head.fields.text("x-number"), Some(&*number.to_string()));
                let d = &mut self.dice;
                let max = 200_000;
                let expect = d.pick(&[
                    Expect::Stream,
                    Expect::Manual,
                    Expect::Manual,
                    Expect::Whole { max },
                    Expect::WholeByJob { max },
                    Expect::Discard,
                ]);
                let n = d.pick(&[1, 10, 700, 3000, 20_000, 90_000]);
                let n = 1 + d.below(n);
                let answer = d.pick(&[
                    Answer::Text(n.min(self.longest)),
                    Answer::Whole(n),
                    Answer::Json,
                    Answer::Sized(n),
                    Answer::Short(n + 1),
                    Answer::Streamed(n),
                    Answer::Trailers(n),
                ]);
                request.reply.set_tag(u64::from(number)).expect(expect);
                let received = !request.has_body || expect == Expect::Discard;
                let deal = Deal {
                    id,
                    expect,
                    answer,
                    body: Vec::new(),
                    received,
                    over: false,
                    held: 0,
                    responded: false,
                    done: false,
                    written: 0,
                    starved: false,
                };
                assert!(self.deals.insert(number, deal).is_none());
                self.whim(number, request.reply);
            }
            Event::Body(mut body) => {
                let number = body.tag as u32;
                let deal = self.deals.get_mut(&number).expect("a body of a stream that is open");
                assert!(!deal.over && !deal.received, "stream {number}: a body behind the end");
                assert!(!is_answered(&mut body.reply), "stream {number}: a body behind the answer");
                assert!(deal.expect != Expect::Discard, "stream {number}: a body that nobody wants");
                assert_eq!(body.whole, deal.expect.whole().is_some());
                deal.body.extend_from_slice(body.bytes);
                deal.received = body.last;
                if deal.expect == Expect::Manual {
                    deal.held += body.bytes.len() as u32;
                    assert!(deal.held <= 65_536, "no more than may be held");
                }
                self.whim(number, body.reply);
            }
            Event::Trailers(trailers) => {
                let deal = self.deals.get_mut(&(trailers.tag as u32)).expect("trailers of an open stream");
                assert!(!deal.over && !deal.received);
                assert_eq!(trailers.fields.get("x-check"), Some(&b"yes"[..]));
                deal.received = true;
                self.whim(trailers.tag as u32, trailers.reply);
            }
            Event::Writable(reply) => {
                let number = reply.id().number() as u32;
                let deal = self.deals.get_mut(&number).expect("an open stream");
                assert!(!deal.over && deal.starved, "stream {number}: nothing waits to be written: {deal:.0?}");
                deal.starved = false;
                self.whim(number, reply);
            }
            Event::Aborted { id, why, .. } => {
                assert_eq!(why, None, "nobody breaks a rule");
                let deal = self.deals.get_mut(&(id.number() as u32)).expect("an open stream");
                assert!(!deal.over && !deal.done, "stream {}: over once", id.number());
                deal.over = true;
            }
            event => panic!("{event:?}"),
        }
    }

    fn outside(&mut self, turn: &mut Turn<'_>) {
        while let Some(job) = turn.job() {
            self.jobs.push(job.run());
        }
        while !self.jobs.is_empty() && (self.closing || self.dice.one_in(4)) {
            let at = self.dice.below(self.jobs.len());
            let _ = turn.done(self.jobs.remove(at));
        }
        let numbers: Vec<u32> = self.deals.iter().filter(|(_, d)| !d.over).map(|(n, _)| *n).collect();
        for _ in 0..self.dice.below(4).min(numbers.len()) {
            let number = self.dice.pick(&numbers);
            let deal = &self.deals[&number];
            if deal.over {
                continue;
            }
            match turn.reply(deal.id) {
                Some(reply) => {
                    assert!(!deal.over, "stream {number} is over");
                    self.whim(number, reply);
                }
                None => self.deals.get_mut(&number).expect("known").over = true,
            }
        }
    }

    fn leaves(&mut self) -> bool {
        !self.closing && self.dice.one_in(30)
    }
}

/// An upload under way.
struct Upload {
    number: u32,
    plain: Vec<u8>,
    sent: Vec<u8>,
    at: usize,
    trailers: bool,
}

struct Program {
    dice: Dice,
    peer: Peer<Hand>,
    uploads: Vec<Upload>,
    bodies: BTreeMap<u32, (Vec<u8>, bool)>,
    generous: bool,
}

impl Program {
    fn new(seed: u64) -> Program {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let limits = patient();
        let limits = limits.with(Limit::ConcurrentStreams, 200).expect("in its range");
        let limits = limits.with(Limit::GatherBytes, 64 << 20).expect("in its range");
        let window = dice.pick(&[65_536, 65_536, 300_000, 65_535]);
        let limits = limits.with(Limit::StreamWindowBytes, window).expect("in its range");
        let limits = limits.with(Limit::TurnUnits, dice.pick(&[30, 256])).expect("in its range");
        let inbox = dice.pick(&[64, 300, 5000, 20_000, 70_000]);
        let outbox = dice.pick(&[0, 3000, 20_000, 70_000]);
        let peer = Peer::new(limits, inbox, outbox, Hand::new(seed, outbox.saturating_sub(2_000).max(700)));
        let generous = dice.one_in(2);
        Program { dice, peer, uploads: Vec::new(), bodies: BTreeMap::new(), generous }
    }

    /// A request, its HEADERS cut and padded as the dice fall.
    fn open(&mut self) {
        let d = &mut self.dice;
        let number = if self.peer.last == 0 { 1 } else { self.peer.last + 2 }.to_string();
        let most = d.pick(&[0, 1, 100, 5000, 40_000, 150_000]);
        let n = d.below(most + 1);
        let plain = pattern(self.peer.last, n);
        let (has_body, coded, declared) = (!d.one_in(5), d.one_in(4), d.one_in(2));
        let mut sent = plain.clone();
        if coded {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&plain).expect("memory");
            sent = gzip.finish().expect("memory");
        }
        let length = sent.len().to_string();
        let mut lines: Vec<(&str, &[u8])> = vec![
            (":method", if has_body { b"POST" } else { b"GET" }),
            (":scheme", b"http"),
            (":authority", b"a.example"),
            (":path", b"/x"),
            ("x-number", number.as_bytes()),
        ];
        if coded && has_body {
            lines.push(("content-encoding", b"gzip"));
        }
        if declared && has_body {
            lines.push(("content-length", length.as_bytes()));
        }
        if d.one_in(8) {
            lines.push(("priority", d.pick(&[&b"u=1"[..], b"u=5, i", b"i", b"u=0"])));
        }
        let mut block = self.peer.block(&lines);
        let d = &mut self.dice;
        let mut flags = u8::from(!has_body) * END;
        let cut = d.one_in(4).then(|| d.below(block.len()));
        let rest = cut.map(|at| block.split_off(at));
        if d.one_in(4) {
            let padding = d.below(256);
            block.insert(0, padding as u8);
            block.resize(block.len() + padding, 0);
            flags |= PADDED;
        }
        let stream = self.peer.begin(!has_body);
        match rest {
            None => self.peer.say(kind::HEADERS, flags | END_HEADERS, stream, &block),
            Some(rest) => {
                self.peer.say(kind::HEADERS, flags, stream, &block);
                self.peer.say(kind::CONTINUATION, END_HEADERS, stream, &rest);
            }
        }
        self.bodies.insert(stream, (plain.clone(), false));
        if has_body {
            let trailers = self.dice.one_in(4);
            self.uploads.push(Upload { number: stream, plain, sent, at: 0, trailers });
        }
    }

    /// One more frame of some upload.
    fn upload(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let at = self.dice.below(self.uploads.len());
        let d = &mut self.dice;
        let upload = &mut self.uploads[at];
        let number = upload.number;
        let left = upload.sent.len() - upload.at;
        let room = self.peer.room(number);
        let padding = d.one_in(4).then(|| d.pick(&[0u8, 1, 100, 255]));
        let extra = padding.map_or(0, |p| 1 + usize::from(p));
        if room < extra {
            return;
        }
        let most = d.pick(&[1, 2, 100, 3000, 16_384]);
        let n = (1 + d.below(most)).min(left).min(room - extra);
        let part = upload.sent[upload.at..upload.at + n].to_vec();
        upload.at += n;
        let complete = upload.at == upload.sent.len();
        let ends = complete && !upload.trailers && d.one_in(2);
        if n == 0 && !complete {
            return; // the window is shut
        }
        if n > 0 || ends || d.one_in(2) {
            self.peer.data(number, &part, padding, ends);
        }
        let upload = &self.uploads[at];
        if complete && !ends && upload.trailers {
            let block = self.peer.block(&[("x-check", b"yes")]);
            self.peer.lanes.get_mut(&number).expect("open").closed = true;
            self.peer.say(kind::HEADERS, END | END_HEADERS, number, &block);
        }
        if self.peer.lanes[&number].closed {
            let upload = self.uploads.remove(at);
            self.bodies.insert(number, (upload.plain, true));
        }
    }

    fn others(&mut self) {
        let numbers: Vec<u32> = self.peer.lanes.iter().filter(|(_, l)| !l.is_over()).map(|(n, _)| *n).collect();
        let number = if numbers.is_empty() { 0 } else { self.dice.pick(&numbers) };
        let peer = &mut self.peer;
        match self.dice.below(12) {
            0 if number != 0 => {
                peer.give_up(number, 8);
                self.uploads.retain(|u| u.number != number);
            }
            1 => peer.say(kind::PING, 0, 0, b"12345678"),
            2 => {
                let window = self.dice.pick(&[0, 1, 1000, 65_535, 200_000]);
                peer.settings(window);
            }
            3 if number != 0 => {
                let text: &[u8] = self.dice.pick(&[&b"u=0"[..], b"u=6", b"i", b"u=3, i"]);
                let payload = [&number.to_be_bytes()[..], text].concat();
                peer.say(0x10, 0, 0, &payload);
            }
            4 if number != 0 => peer.say(kind::PRIORITY, 0, number, &[0, 0, 0, 0, 9]),
            5 => peer.say(0x77, 0xff, number, b"grease"),
            6..9 if number != 0 => {
                let more = 1 + self.dice.below(60_000) as u32;
                peer.grant(number, more);
            }
            9..11 => peer.grant(0, 1 + self.dice.below(60_000) as u32),
            _ => peer.now = Instant::from_millis(peer.now.as_nanos() / 1_000_000 + self.dice.below(20) as u64),
        }
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..2 if self.peer.lanes.values().filter(|l| !l.is_over()).count() < 60 => self.open(),
            2..12 => self.upload(),
            12..15 => self.others(),
            _ => {}
        }
        let most = self.dice.pick(&[1, 9, 100, 5000, 100_000]);
        self.peer.feed(most);
        let reads = self.dice.pick(&[0, 100, 5000, 1 << 20, 1 << 20]);
        self.peer.turn(reads);
        self.drop_dead_uploads();
        if self.generous {
            self.grant_all();
        }
    }

    /// Nobody goes on with a body whose stream the machine has reset.
    fn drop_dead_uploads(&mut self) {
        let lanes = &mut self.peer.lanes;
        self.uploads.retain(|u| lanes[&u.number].reset.is_none());
        lanes.values_mut().filter(|l| l.reset.is_some()).for_each(|l| l.closed = true);
    }

    /// Windows are open as wide as anything needs.
    fn grant_all(&mut self) {
        let peer = &mut self.peer;
        if peer.may < 1 << 20 {
            peer.grant(0, 1 << 24);
        }
        let narrow: Vec<u32> =
            peer.lanes.iter().filter(|(_, l)| !l.is_over() && l.may < 1 << 18).map(|(n, _)| *n).collect();
        narrow.into_iter().for_each(|number| peer.grant(number, 1 << 22));
    }

    /// Changes with whatever happens.
    fn mark(&self) -> (usize, usize, u64, usize) {
        let heard: usize = self.peer.lanes.values().map(|l| l.body.len() + usize::from(l.is_over())).sum();
        (self.peer.wire.len(), self.peer.inbox.len(), self.peer.connection.stats().events, heard)
    }

    /// Everything is brought to its end, or given up.
    fn close(&mut self) {
        self.peer.handler.closing = true;
        let gives_up = self.dice.one_in(3);
        let mut idle = 0;
        while idle < 1_000 {
            if gives_up && let Some(upload) = self.uploads.pop() {
                self.peer.give_up(upload.number, 8);
            }
            self.grant_all();
            self.upload();
            self.peer.feed(usize::MAX);
            let before = self.mark();
            self.peer.turn(usize::MAX);
            self.drop_dead_uploads();
            idle = if before == self.mark() { idle + 1 } else { 0 };
        }
    }

    fn state(&self) -> impl core::fmt::Debug {
        let peer = &self.peer;
        (peer.pause, &peer.goaways, peer.connection.end(), peer.wire.len(), peer.inbox.len(), peer.outbox.ready().len())
    }

    /// What either side saw is what the other side did.
    fn judge(&self) {
        for (number, lane) in &self.peer.lanes {
            let Some(deal) = self.peer.handler.deals.get(number) else {
                assert!(lane.reset_by_us, "stream {number} was never heard of: {lane:.0?}, {:?}", self.state());
                continue;
            };
            let (plain, complete) = &self.bodies[number];
            assert!(plain.starts_with(&deal.body), "stream {number}: other bytes than those that were sent");
            let wanted = deal.expect != Expect::Discard && deal.received && *complete;
            assert!(!wanted || deal.body == *plain, "stream {number}: {} of {}", deal.body.len(), plain.len());
            assert!(lane.is_over(), "stream {number} has no end: {lane:.0?} {deal:.0?}");
            if lane.ended && !lane.reset_by_us && !matches!(deal.answer, Answer::Short(_)) {
                assert!(lane.body == deal.content(), "stream {number}: {:?}, {} bytes", deal.answer, lane.body.len());
                assert_eq!(lane.trailers.is_some(), matches!(deal.answer, Answer::Trailers(_)));
            }
            match (lane.reset, deal.answer) {
                (None | Some(0), _) => assert!(lane.ended || lane.reset_by_us),
                (Some(2), Answer::Short(_)) => {}
                (Some(8), _) => assert!(deal.over, "stream {number}: nobody gave it up"),
                (code, _) => panic!("stream {number}: reset {code:?}"),
            }
        }
    }
}

fn play(seed: u64, steps: usize) {
    let mut program = Program::new(seed);
    for _ in 0..steps {
        program.step();
    }
    program.close();
    program.judge();
    audit::at_rest(&mut program.peer.connection);
    let peer = &mut program.peer;
    assert!(peer.goaways.is_empty() && peer.connection.end().is_none());
    peer.connection.shed();
    let idle = peer.connection.retained_bytes();
    assert!(idle <= 40 << 10, "an idle connection holds {idle} bytes (M-11)");
}

/// `VESTIBULE_PROGRAMS` says how many; `VESTIBULE_SEED` plays one of them alone, or the first of so many. All that fail are told.
#[test]
fn random_programs_balance() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, programs) = (number("VESTIBULE_SEED"), number("VESTIBULE_PROGRAMS"));
    let count = programs.unwrap_or(if first.is_some() { 1 } else { 150 });
    let seeds = first.unwrap_or(1)..first.unwrap_or(1) + count;
    let fails = |&seed: &u64| std::panic::catch_unwind(|| play(seed, 600)).is_err();
    let failed: Vec<u64> = seeds.filter(fails).inspect(|seed| eprintln!("VESTIBULE_SEED={seed} fails")).collect();
    assert!(failed.is_empty(), "VESTIBULE_SEED of the programs that failed: {failed:?}");
}
