//! In: many streams, and some that do not go on. Out: what they cost in memory and in steps of work, and that nothing of them stays
//! (P-4, P-19, M-11, M-12).
#![allow(clippy::print_stdout)] // what is measured here is worth reading

use super::audit;
use super::peer::{Handler, Peer, gzip, patient, pattern, with};
use crate::base::Limit;
use crate::parse::h2::kind;
use crate::{Content, Event, Expect, Id, Misuse, Reply, Turn};
use std::collections::BTreeMap;

// ---- one stream does not stop the others ----

/// P-19. A stream that is held up by whatever can hold it up costs the others nothing, and goes on without loss.
#[test]
fn a_stalled_stream_leaves_ninety_nine_others_running() {
    for stall in ["/manual", "/job", "/never", "/reader", "/connect", "/whole"] {
        let mut peer = Peer::begun(with(patient(), Limit::GatherBytes, 16 << 20), 20_000, 70_000, Stalls::default());
        let stalled = match stall {
            "/connect" => peer.request(&[(":method", b"CONNECT"), (":authority", b"a.example:80")], false),
            "/job" => peer.post(stall, &[("content-encoding", b"gzip")]),
            "/reader" => peer.get(stall, &[]),
            _ => peer.post(stall, &[]),
        };
        let body = pattern(stalled, 150_000);
        let sent = if stall == "/job" { gzip(&body) } else { body.clone() };
        let mut at = 0;
        let mut fill = |peer: &mut Peer<Stalls>, all: bool| {
            while at < sent.len() && peer.room(stalled) > 0 {
                let n = peer.room(stalled).min(5_000).min(sent.len() - at);
                peer.data(stalled, &sent[at..at + n], None, at + n == sent.len() && stall != "/whole");
                (at, _) = (at + n, peer.run());
            }
            assert!(!all || at == sent.len(), "{stall}: {at} of {}", sent.len());
        };
        peer.run();
        if stall != "/reader" {
            fill(&mut peer, false);
        }
        peer.grant(0, 1 << 24);
        let others: Vec<u32> = (0..99).map(|_| peer.post("/echo", &[])).collect();
        peer.run();
        for &number in &others {
            let body = pattern(number, 40_000);
            peer.upload(number, &body, 16_384, true);
            assert!(peer.lanes[&number].body == body && peer.lanes[&number].ended, "{stall}: stream {number}");
        }
        // It goes on.
        peer.handler.free = true;
        peer.grant(stalled, 1 << 20);
        peer.run();
        if stall != "/reader" {
            fill(&mut peer, true);
        }
        if stall == "/whole" {
            peer.data(stalled, b"", None, true);
        }
        peer.run();
        let lane = &peer.lanes[&stalled];
        assert!(lane.ended && lane.reset.is_none(), "{stall}: {:?}", lane.reset);
        assert!(lane.body == body || stall == "/never", "{stall}: {} bytes", lane.body.len());
        if stall == "/connect" {
            assert_eq!(lane.body.len(), 150_000);
        }
        audit::at_rest(&mut peer.connection);
    }
}

/// A handler that does not go on with some exchanges before it is `free`.
#[derive(Default)]
struct Stalls {
    free: bool,
    paths: BTreeMap<u64, String>,
    bodies: BTreeMap<u64, Vec<u8>>,
    rest: BTreeMap<u64, Vec<u8>>,
    held: Vec<(Id, u32)>,
    waiting: Vec<Id>,
}

impl Stalls {
    fn answer(&mut self, reply: &mut Reply<'_>) {
        let body = self.bodies.remove(&reply.tag()).unwrap_or_default();
        let n = reply.respond(200, &[], Content::Whole(&body)).expect("room");
        if n < body.len() {
            self.rest.insert(reply.tag(), body[n..].to_vec());
        }
    }
}

impl Handler for Stalls {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let (id, path) = (request.reply.id(), request.head.path());
                request.reply.set_tag(id.number());
                self.paths.insert(id.number(), path.into());
                match path {
                    "/manual" => drop(request.reply.expect(Expect::Manual)),
                    "/job" => drop(request.reply.expect(Expect::WholeByJob { max: 1 << 20 })),
                    "/whole" | "/echo" => drop(request.reply.expect(Expect::Whole { max: 1 << 20 })),
                    "/reader" => {
                        self.bodies.insert(id.number(), pattern(id.number() as u32, 150_000));
                        self.answer(&mut request.reply);
                    }
                    "/never" => {}
                    _ => self.waiting.push(id), // CONNECT
                }
            }
            Event::Body(mut body) => {
                self.bodies.entry(body.tag).or_default().extend_from_slice(body.bytes);
                match &*self.paths[&body.tag] {
                    "/manual" => self.held.push((body.reply.id(), body.bytes.len() as u32)),
                    "/never" if body.last => return self.waiting.push(body.reply.id()),
                    "/reader" => return, // has its answer already
                    _ => {}
                }
                if body.last {
                    self.answer(&mut body.reply);
                }
            }
            Event::Tunnel(mut tunnel) => {
                let rest = self.rest.entry(tunnel.tag).or_default();
                rest.extend_from_slice(tunnel.bytes);
                let n = tunnel.reply.write(rest).expect("a tunnel");
                rest.drain(..n);
                if tunnel.last && rest.is_empty() {
                    tunnel.reply.finish().expect("room");
                }
            }
            Event::Writable(mut reply) => {
                let rest = self.rest.get_mut(&reply.tag()).expect("something is left");
                let n = reply.write(rest).expect("its turn");
                rest.drain(..n);
            }
            Event::Aborted { id, .. } => self.waiting.retain(|w| *w != id),
            event => panic!("{event:?}"),
        }
    }

    fn outside(&mut self, turn: &mut Turn<'_>) {
        if !self.free {
            return;
        }
        for (id, n) in self.held.drain(..) {
            if let Some(mut reply) = turn.reply(id) {
                reply.release(n);
            }
        }
        let paths = &self.paths;
        self.waiting.retain(|id| {
            let mut reply = turn.reply(*id).expect("open");
            let said = match &*paths[&id.number()] {
                "/never" => reply.text(200, "at last"),
                _ => reply.upgrade("", &[]),
            };
            assert!(matches!(said, Ok(()) | Err(Misuse::NoRoom)), "{said:?}");
            said.is_err()
        });
        while let Some(job) = turn.job() {
            turn.done(job.run());
        }
    }
}

// ---- work is linear ----

/// What a thing costs in steps of work, each time that it is done: the same for a thousand of them and for four thousand, alone and
/// among ninety-nine streams that are open.
fn steps_for(crowd: usize, prepare: fn(&mut Peer<Stalls>) -> u32, thing: fn(&mut Peer<Stalls>, u32)) -> Vec<f64> {
    let limits = with(patient(), Limit::ConnectionWindowBytes, 16 << 20);
    let mut peer = Peer::begun(with(limits, Limit::StreamWindowBytes, 16 << 20), 20_000, 70_000, Stalls::default());
    (0..crowd).for_each(|_| _ = peer.post("/never", &[]));
    let number = prepare(&mut peer);
    peer.run();
    let times = [1_000, 4_000];
    let mut costs = Vec::new();
    for n in times {
        let before = peer.connection.stats().units;
        (0..n).for_each(|_| thing(&mut peer, number));
        peer.run();
        costs.push((peer.connection.stats().units - before) as f64 / f64::from(n));
    }
    costs
}

#[test]
fn tiny_frames_cost_a_few_steps_each() {
    type Prepare = fn(&mut Peer<Stalls>) -> u32;
    type Thing = fn(&mut Peer<Stalls>, u32);
    let byte: Thing = |peer, n| peer.data(n, b"x", None, false);
    let padded: Thing = |peer, n| peer.data(n, b"x", Some(255), false);
    let things: [(&str, Prepare, Thing); 8] = [
        ("a byte that is streamed", |p| p.post("/never", &[]), byte),
        ("a byte that is kept", |p| p.post("/manual", &[]), byte),
        ("a byte that is gathered", |p| p.post("/echo", &[]), byte),
        ("a byte in padding", |p| p.post("/never", &[]), padded),
        ("a byte for a tunnel", |p| p.request(&[(":method", b"CONNECT"), (":authority", b"a:1")], false), byte),
        ("PING", |_| 0, |p, _| p.say(kind::PING, 0, 0, b"12345678")),
        ("WINDOW_UPDATE", |_| 0, |p, _| p.grant(0, 1)),
        ("WINDOW_UPDATE of a stream", |p| p.post("/never", &[]), |p, n| p.grant(n, 1)),
    ];
    for (what, prepare, thing) in &things {
        for crowd in [0, 98] {
            let costs = steps_for(crowd, *prepare, *thing);
            println!("{what}, {crowd} other streams: {costs:.2?} steps");
            assert!(costs.iter().all(|&cost| cost < 8.0), "{what}: {costs:?}");
        }
    }
}

// ---- what a connection holds when nothing happens ----

/// M-11, M-12: what is held after the preface and one small request, and after a crowd.
#[test]
fn an_idle_connection_holds_little() {
    let mut peer = Peer::begun(patient(), 20_000, 70_000, Stalls::default());
    let preface = peer.connection.retained_bytes();
    let small = |peer: &mut Peer<Stalls>| {
        let number = peer.post("/echo", &[("user-agent", b"a browser of some kind/1.0"), ("accept", b"*/*")]);
        peer.upload(number, b"small", 100, true);
        assert!(peer.lanes[&number].ended);
    };
    small(&mut peer);
    let one = peer.connection.retained_bytes();
    peer.connection.shed();
    let shed = peer.connection.retained_bytes();
    // A hundred at once, each with a large head and a body, half of them coded.
    let cookie = [b'c'; 3_000];
    let crowd: Vec<u32> = (0..100)
        .map(|i| {
            let coding: &[u8] = if i % 2 == 0 { b"gzip" } else { b"identity" };
            peer.post("/echo", &[("content-encoding", coding), ("cookie", &cookie)][i % 2..])
        })
        .collect();
    peer.run();
    let most = peer.connection.retained_bytes();
    for (i, &number) in crowd.iter().enumerate() {
        let body = pattern(number, 9_000);
        let body = if i % 2 == 0 { gzip(&body) } else { body };
        peer.upload(number, &body, 16_384, true);
    }
    peer.grant(0, 1 << 24);
    peer.run();
    assert!(crowd.iter().all(|n| peer.lanes[n].ended));
    let behind = peer.connection.retained_bytes();
    peer.now = crate::Instant::from_millis(1_001);
    peer.run();
    let quiet = peer.connection.retained_bytes();
    println!(
        "preface {preface}, one small request {one}, shed {shed}, 100 open {most}, answered {behind}, 1 s {quiet}"
    );
    assert!(one <= 5 << 10, "{one} bytes after one small request");
    assert!(shed <= preface.max(3 << 10) && quiet <= 40 << 10, "M-11");
    audit::at_rest(&mut peer.connection);
}

/// M-12: no mix of requests leaves anything behind.
#[test]
fn thousands_of_requests_leave_nothing() {
    let mut dice = super::Dice(77);
    let mut peer = Peer::begun(with(patient(), Limit::GatherBytes, 16 << 20), 20_000, 70_000, Stalls::default());
    peer.handler.free = true;
    let (mut levels, mut answered) = (Vec::new(), 0);
    for round in 1..=60u64 {
        peer.grant(0, 1 << 24);
        for _ in 0..200 {
            let path = dice.pick(&["/manual", "/job", "/never", "/reader", "/whole", "/echo"]);
            let size = dice.pick(&[0, 1, 300, 9_000]);
            let body = pattern(peer.last, dice.below(size + 1));
            let body = if path == "/job" { gzip(&body) } else { body };
            let coding: [(&str, &[u8]); 1] = [("content-encoding", b"gzip")];
            let long = vec![b'v'; dice.pick(&[1, 50, 6_000])];
            let fields: [(&str, &[u8]); 1] = [("x-long", &long)];
            let number = match dice.below(12) {
                0 => peer.request(&[(":method", b"GET"), (":path", b"not good")], false), // malformed
                _ => peer.post(path, if path == "/job" { &coding } else { &fields }),
            };
            let (cut, at) = (dice.one_in(8), dice.below(body.len() + 1));
            let sent = if cut { &body[..at] } else { &body[..] };
            sent.chunks(700).for_each(|part| peer.data(number, part, dice.one_in(3).then_some(9), false));
            match cut {
                true => peer.give_up(number, 8),
                false => peer.data(number, b"", None, true),
            }
            if path == "/reader" {
                peer.grant(number, 1 << 20);
            }
            peer.feed(usize::MAX);
            peer.turn(usize::MAX);
            if dice.one_in(4) {
                peer.run();
            }
        }
        peer.run();
        answered += peer.lanes.values().filter(|l| l.ended).count();
        (peer.lanes, peer.handler.paths) = Default::default();
        audit::at_rest(&mut peer.connection);
        peer.now = crate::Instant::from_millis(2_000 * round);
        peer.run();
        levels.push(peer.connection.retained_bytes());
    }
    println!("{answered} of 12000 answered; {} bytes held in the end, {:?}", levels[59], &levels[..4]);
    assert!(answered > 5_000);
    assert!(levels.iter().all(|&level| level <= 16 << 10), "{levels:?}");
    assert!(levels[30..].iter().max() <= levels[..30].iter().max(), "{levels:?}");
}
