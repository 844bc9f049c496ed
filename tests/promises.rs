//! The promises of the machine, each under its name, over generated and mutated streams: what must hold whatever a peer sends, however
//! it is cut, and whatever the caller does.
#![cfg(feature = "std")]
#![allow(missing_docs, unreachable_pub)]

#[path = "promises/chaos.rs"]
mod chaos;
#[path = "promises/client.rs"]
mod client;
#[path = "promises/generate.rs"]
mod generate;
#[path = "promises/limits.rs"]
mod limits;
#[path = "promises/road.rs"]
mod road;
mod support;

use std::sync::Arc;

use chaos::{Chaos, Dice};
use client::responses;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use road::Road;
use vestibule::rehearsal::{Input, Pieces, Rehearsal};
use vestibule::{Config, Connection, Content, Event, Inbox, Instant, Limit, Limits, Outbox, Pause, Reply, Why};

/// So many cases, the same in every run; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make it a longer and another hunt.
fn cases(cases: u32) -> ProptestConfig {
    let hunt = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() };
    if hunt { default } else { ProptestConfig { cases, rng_seed: RngSeed::Fixed(7), ..default } }
}

fn config() -> Arc<Config> {
    Arc::new(Config::new(Limits::DEFAULT))
}

fn with(limits: &[(Limit, u64)]) -> Arc<Config> {
    let limits = limits.iter().fold(Limits::DEFAULT, |all, &(limit, value)| all.with(limit, value).expect("in range"));
    Arc::new(Config::new(limits))
}

/// The bytes, cut where the fractions say, and perhaps the end.
fn steps(wire: &[u8], cuts: &[u16], ends: bool) -> Vec<Input> {
    let mut cuts: Vec<usize> = cuts.iter().map(|&c| usize::from(c) * wire.len() / 65_536).collect();
    cuts.sort_unstable();
    let (mut steps, mut at) = (Vec::new(), 0);
    for cut in cuts.into_iter().chain([wire.len()]) {
        if cut > at {
            steps.push(Input::Bytes(wire[at..cut].to_vec()));
            at = cut;
        }
    }
    steps.extend(ends.then_some(Input::End));
    steps
}

/// A transcript in three parts: what was said, what was sent, what came last.
fn parts(transcript: &str) -> (String, Vec<u8>, String) {
    let (said, rest) = transcript.split_once("send\n").unwrap_or((transcript, ""));
    let (mut sent, mut last) = (Vec::new(), String::new());
    for line in rest.lines() {
        match line.strip_prefix("  ") {
            Some(bytes) => match &support::steps(&format!("{bytes}\\"))[..] {
                [Input::Bytes(bytes)] => sent.extend_from_slice(bytes),
                _ => panic!("{line}"),
            },
            None => last.push_str(line),
        }
    }
    (said.to_string(), sent, last)
}

/// The methods of the requests that a transcript tells of, in their order.
fn methods(said: &str) -> Vec<String> {
    said.lines().filter_map(|l| l.strip_prefix("request ")?.split(' ').nth(1).map(str::to_string)).collect()
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Rule 1. Any split of the input gives the same transcript; another size of the outbox the same but for the sizes of chunks.
    #[test]
    fn any_split_gives_the_same(
        wire in generate::wire(),
        cuts in prop::collection::vec(any::<u16>(), 1..24),
        ends in any::<bool>(),
        outbox_bytes in prop::sample::select(vec![1_408usize, 1_500, 3_000, 9_000, 70_000]),
    ) {
        let rehearsal = Rehearsal::default();
        let whole = rehearsal.play(&steps(&wire, &[], ends));
        prop_assert_eq!(&whole, &rehearsal.play(&steps(&wire, &cuts, ends)), "cut at random");
        let each = Rehearsal { pieces: Pieces::Each(1 + cuts.len() / 8), ..Rehearsal::default() };
        prop_assert_eq!(&whole, &each.play(&steps(&wire, &[], ends)), "{} at a time", 1 + cuts.len() / 8);
        let other = Rehearsal { outbox_bytes, ..Rehearsal::default() }.play(&steps(&wire, &cuts, ends));
        let ((said, sent, last), (other_said, other_sent, other_last)) = (parts(&whole), parts(&other));
        prop_assert_eq!((&said, &last), (&other_said, &other_last), "an outbox of {}", outbox_bytes);
        let read = |sent: &[u8]| responses(sent, &methods(&said)).map_err(TestCaseError::fail);
        prop_assert_eq!(read(&sent)?, read(&other_sent)?, "an outbox of {}", outbox_bytes);
    }

    /// Rule 2. Nothing that a peer sends, no order of calls and no clock makes it panic.
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), wire in generate::wire(), seed in any::<u64>()) {
        let mixed = [&wire[..wire.len() / 2], &bytes].concat();
        for wire in [&bytes, &mixed] {
            Chaos::new(&config(), seed, wire).run(60);
        }
    }

    /// Rule 5. Every turn consumes, produces, or names what it waits for, and that can be done (P-5).
    #[test]
    fn progress(wire in generate::wire(), seed in any::<u64>(), units in prop::sample::select(vec![1u64, 2, 7, 256])) {
        Chaos::new(&with(&[(Limit::TurnUnits, units)]), seed, &wire).run(200);
    }

    /// Rule 8. The same bytes, times and choices: the same story, to the byte (P-7).
    #[test]
    fn determinism(wire in generate::wire(), seed in any::<u64>()) {
        let play = || {
            let mut chaos = Chaos::new(&config(), seed, &wire);
            chaos.run(100);
            (chaos.log, chaos.sent, chaos.connection.stats())
        };
        prop_assert_eq!(play(), play());
    }

    /// Rule 4, on any stream: bytes looked at, bytes moved and steps taken are linear in the input.
    #[test]
    fn work_is_linear_on_any_stream(wire in generate::wire(), piece in 1..300usize) {
        let mut road = Road::new(config());
        for part in wire.chunks(piece) {
            road.feed(part);
        }
        road.linear(wire.len());
    }
}

// ---- rule 4: work is linear ----

#[test]
fn linear_work() {
    // A head of 32 KiB, a byte at a time.
    let mut head = b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec();
    while head.len() < 28_500 {
        head.extend(format!("x: {}\r\n", "y".repeat(1000)).as_bytes());
    }
    head.extend(b"\r\n");
    let mut road = Road::new(config());
    for byte in head.chunks(1) {
        road.feed(byte);
    }
    assert_eq!((road.status(), road.connection.stats().moved_bytes), (Some(200), 0));
    road.linear(head.len());
    assert!(road.connection.stats().units <= 2 * head.len() as u64 + 64);

    // 10^5 empty lines: one is forgiven, the second ends it.
    let mut road = Road::new(config());
    road.feed(&b"\r\n".repeat(100_000));
    assert_eq!(road.status(), Some(400));
    assert!(road.connection.stats().visited_bytes <= 16 && road.connection.stats().units <= 8);

    // 10^5 chunks of a byte, whole and in pieces.
    let chunks = [
        &b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"[..],
        &b"1\r\nx\r\n".repeat(100_000),
        b"0\r\n\r\n",
    ]
    .concat();
    for piece in [1, 7, 1000, chunks.len()] {
        let mut road = Road::new(config());
        for part in chunks.chunks(piece) {
            road.feed(part);
        }
        assert_eq!(road.status(), Some(200), "{piece} at a time");
        road.linear(chunks.len());
    }

    // 10^4 requests, one behind the other.
    let gets = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10_000);
    for piece in [1, 100, gets.len()] {
        let mut road = Road::new(config());
        for part in gets.chunks(piece) {
            road.feed(part);
        }
        assert_eq!(road.connection.stats().requests, 10_000);
        assert_eq!(responses(&road.sent, &[]).expect("valid output").len(), 10_000);
        road.linear(gets.len());
    }
}

// ---- rule 5: a closed machine absorbs everything ----

fn absorbs_everything(road: &mut Road, dice: &mut Dice, what: &str) {
    assert_eq!(road.pause, Pause::Closed, "{what}");
    let (events, sent, end) = (road.events, road.sent.len(), road.connection.end());
    for _ in 0..20 {
        let bytes: Vec<u8> = (0..dice.below(300)).map(|_| dice.below(256) as u8).collect();
        assert_eq!(road.inbox.fill(&bytes), bytes.len(), "{what}: what comes is dropped");
        road.connection.shed();
        if dice.below(3) == 0 {
            road.connection.drain();
        }
        road.at(dice.below(1 << 40) as u64);
        assert_eq!((road.pause, road.inbox.is_empty()), (Pause::Closed, true), "{what}");
    }
    assert_eq!(
        (road.events, road.sent.len(), road.connection.end()),
        (events, sent, end),
        "{what}: something behind the end"
    );
    assert!(road.outbox.is_empty() && road.connection.deadline().is_none(), "{what}");
}

#[test]
fn finality() {
    let mut dice = Dice(5);
    for script in support::scripts() {
        let mut road = Road::new(script.config.clone());
        for step in &script.steps {
            match step {
                Input::Bytes(bytes) => road.feed(bytes),
                Input::End => {
                    road.inbox.end();
                    road.run();
                }
                Input::At(now) => {
                    road.now = *now;
                    road.run();
                }
                Input::Drain => {
                    road.connection.drain();
                    road.run();
                }
                _ => {}
            }
        }
        road.end();
        absorbs_everything(&mut road, &mut dice, &script.path.display().to_string());
    }
    // A request behind one that ends the connection is never read.
    for first in [
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET /\r\n",
        "GET /abort HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut road = Road::new(config());
        road.feed(first.as_bytes());
        let events = road.events;
        road.feed(b"GET /again HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((road.events, road.connection.stats().requests <= 1), (events, true), "{first}");
        road.end();
        absorbs_everything(&mut road, &mut dice, first);
    }
}

// ---- rule 6: every limit is on, and says its name ----

/// P-25.
#[test]
fn limits_from_the_table() {
    limits::from_the_table();
    limits::chunk_overhead();
}

// ---- P-8: whatever the application calls, what goes out is valid ----

/// What the calls made of one exchange, as they said themselves.
#[derive(Default)]
struct Calls {
    head: Option<u16>,
    body: Vec<u8>,
    declared: Option<u64>,
    finished: bool,
    informed: usize,
    trailers: bool,
}

impl Calls {
    /// A random call, noted as far as it was taken.
    fn call(&mut self, reply: &mut Reply<'_>, dice: &mut Dice) {
        let bytes = vec![b'a' + dice.below(26) as u8; dice.below(3000)];
        let status = [200, 200, 200, 404, 500, 204, 304, 205, 103, 42][dice.below(10)];
        let fields = [&[][..], &[("x-a", "b")], &[("x", "a\nb")], &[("transfer-encoding", "chunked")]][dice.below(4)];
        match dice.below(12) {
            0..=2 => {
                let content =
                    [Content::Whole(&bytes), Content::Sized(bytes.len() as u64), Content::Streamed][dice.below(3)];
                if let Ok(n) = reply.respond(status, fields, content) {
                    self.head = Some(status);
                    self.body.extend_from_slice(&bytes[..n]);
                    self.declared = if content == Content::Streamed { None } else { Some(bytes.len() as u64) };
                    self.finished = matches!(content, Content::Whole(b) if b.len() == n);
                }
            }
            3..=6 => {
                if let Ok(n) = reply.write(&bytes) {
                    self.body.extend_from_slice(&bytes[..n]);
                }
            }
            7 => self.finished |= reply.finish().is_ok(),
            8 => {
                let done = reply.trailers(fields).is_ok();
                self.finished |= done;
                self.trailers |= done && !fields.is_empty();
            }
            9 => self.informed += usize::from(reply.inform(status, fields).is_ok()),
            10 => {
                if reply.json(200, &[1, 2, 3]).is_ok() {
                    (self.head, self.finished, self.declared) = (Some(200), true, Some(7));
                    self.body.extend_from_slice(b"[1,2,3]");
                }
            }
            _ => {
                if reply.text(404, "not here").is_ok() {
                    (self.head, self.finished, self.declared) = (Some(404), true, Some(8));
                    self.body.extend_from_slice(b"not here");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn output_is_valid(seed in any::<u64>(), method in prop::sample::select(vec!["GET", "HEAD", "POST"]), old in any::<bool>(), room in 1_408..6_000usize) {
        let mut dice = Dice(seed | 1);
        let version = if old { "1.0" } else { "1.1" };
        let wire = format!("{method} / HTTP/{version}\r\nhost: a\r\n\r\n");
        let mut connection = Connection::new(config(), Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; 1000]), Outbox::new(vec![0; room]));
        inbox.fill(wire.as_bytes());
        let (mut calls, mut sent, mut pause, mut id) = (Calls::default(), Vec::new(), Pause::Yield, None);
        for round in 0..400 {
            let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).expect("our own buffers");
            if let Some(mut reply) = id.and_then(|id| turn.reply(id)) {
                for _ in 0..dice.below(4) {
                    calls.call(&mut reply, &mut dice);
                }
                if round > 300 {
                    let _ = reply.text(200, "");
                    calls.head.get_or_insert(200);
                    calls.finished |= reply.finish().is_ok();
                }
            }
            while let Some(event) = turn.next() {
                if let Event::Request(request) = event {
                    id = Some(request.reply.id());
                }
            }
            pause = turn.finish();
            let n = dice.below(outbox.ready().len() + 1);
            let n = if dice.below(2) == 0 { outbox.ready().len() } else { n };
            sent.extend_from_slice(&outbox.ready()[..n]);
            outbox.wrote(n);
            if pause == Pause::Closed || (pause == Pause::Input { want: 1 } && outbox.is_empty()) {
                break;
            }
        }
        prop_assert!(calls.head.is_some(), "{:?}", pause);
        let all = responses(&sent, &[method.to_string()]).map_err(TestCaseError::fail)?;
        let (last, before) = all.split_last().expect("one response");
        prop_assert!(before.iter().all(|r| r.status == 103) && last.status >= 200, "{:?}", all);
        prop_assert_eq!(before.len(), if old { 0 } else { calls.informed });
        prop_assert_eq!(Some(last.status), calls.head);
        let silent = method == "HEAD" || matches!(last.status, 204 | 304);
        prop_assert_eq!(&last.body[..], if silent { &[][..] } else { &calls.body[..] });
        // Short of what was declared: the peer can tell, and the connection ends.
        let short = !silent && calls.declared.is_some_and(|n| (calls.body.len() as u64) < n);
        prop_assert_eq!(last.complete, !short);
        prop_assert!(!short || outbox.finished() || !calls.finished, "a shortfall ends the connection");
        prop_assert!(last.trailers.is_empty() != (calls.trailers && !silent && last.get("transfer-encoding").is_some()));
    }
}

// ---- time ----

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";

/// TIM-01: one deadline for a head, however it trickles; TIM-05: idle, age, number; TIM-02, TIM-03: rates; TIM-06, TIM-07: the clock.
#[test]
fn time() {
    head_deadline();
    rates();
    idleness();
    broken_clocks();
}

fn head_deadline() {
    let mut road = Road::new(config());
    assert_eq!(road.connection.deadline().map(|d| (d.at, d.why)), Some((Instant::from_millis(10_000), Why::Head)));
    for second in 0..9 {
        road.at(second * 1000);
        road.feed(&b"GET / HTTP"[second as usize..][..1]);
    }
    road.at(9_999);
    assert!(road.sent.is_empty() && road.connection.end().is_none());
    road.at(10_000);
    assert_eq!(road.status(), Some(408));
    // Without a byte there is nothing to answer.
    let mut road = Road::new(config());
    road.at(9_999);
    assert_eq!(road.connection.end(), None);
    road.at(10_000);
    assert!(road.connection.end() == Some(vestibule::End::Idle) && road.sent.is_empty());
}

fn rates() {
    for (rate, lives) in [(239, false), (240, true)] {
        let mut road = Road::new(config());
        road.feed(HEAD);
        for second in 1..=120u64 {
            road.at(second * 1000 - 1);
            road.feed(&vec![b'x'; rate]);
            road.at(second * 1000);
        }
        assert_eq!(road.status(), if lives { None } else { Some(408) }, "TIM-02: {rate} bytes a second");
    }
    for (rate, lives) in [(239, false), (240, true)] {
        let mut road = Road::new(config());
        road.reads = false;
        road.feed(b"GET /sized/900000 HTTP/1.1\r\nhost: a\r\n\r\n");
        for second in 1..=60u64 {
            road.at(second * 1000 - 1);
            road.outbox.wrote(rate);
            road.at(second * 1000);
        }
        let alive = road.connection.end().is_none();
        assert_eq!(alive, lives, "TIM-03: {rate} bytes a second");
        assert!(alive || (road.pause == Pause::Closed && road.outbox.is_empty()), "nobody reads what is left");
    }
}

fn idleness() {
    let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut road = Road::new(config());
    road.feed(get);
    road.at(20_000);
    road.feed(get);
    assert_eq!(road.connection.deadline().map(|d| (d.at, d.why)), Some((Instant::from_millis(50_000), Why::Idle)));
    road.at(49_999);
    assert_eq!(road.connection.end(), None);
    road.at(50_000);
    assert_eq!(road.connection.end(), Some(vestibule::End::Idle));
    assert_eq!(responses(&road.sent, &[]).expect("valid").len(), 2, "an idle peer is told nothing");
    // Age: the next answer is the last.
    for (age, last) in [(59_999, false), (60_000, true)] {
        let mut road = Road::new(with(&[(Limit::ConnectionAgeMs, 60_000), (Limit::IdleMs, 3_600_000)]));
        road.feed(get);
        road.at(age);
        road.feed(get);
        let answers = responses(&road.sent, &[]).expect("valid");
        assert_eq!(answers[1].get("connection"), last.then_some("close"));
        assert_eq!(road.connection.end().is_some(), last);
    }
    let mut road = Road::new(with(&[(Limit::ConnectionRequests, 3)]));
    road.feed(&get.repeat(5));
    let closes: Vec<_> =
        responses(&road.sent, &[]).expect("valid").iter().map(|r| r.get("connection").is_some()).collect();
    assert_eq!(closes, [false, false, true]);
}

fn broken_clocks() {
    // TIM-06: what goes back stands still, and never un-fires.
    let mut road = Road::new(config());
    road.feed(b"GET");
    for millis in [9_000, 0, 5_000, 9_999, 1] {
        road.at(millis);
        assert_eq!(road.connection.end(), None, "{millis}");
    }
    road.at(10_000);
    road.at(0);
    assert_eq!(road.status(), Some(408));
    // TIM-07: a jump to the end of time fires what is due, once, in every state.
    for first in
        [&b""[..], b"GET", HEAD, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let mut road = Road::new(config());
        road.feed(first);
        let waits_for_us = matches!(road.pause, Pause::Caller(_));
        road.now = Instant::from_nanos(u64::MAX);
        road.run();
        assert_eq!(road.connection.end().is_some(), !waits_for_us, "a handler has all the time: {first:?}");
        road.turn(|reply| reply.text(200, "late").expect("room"));
        road.end();
        let text = road.sent.len();
        road.run();
        assert_eq!(road.sent.len(), text);
    }
}
