//! In: many streams at once. Out: that each is answered when its handler wants and in the order that its client wants (RFC 9218), and
//! that what ends one of them, or the connection, ends nothing else.

use super::audit;
use super::peer::{Handler, Lane, Peer, patient, pattern, with};
use crate::base::Limit;
use crate::parse::h2::kind;
use crate::{Content, End, Event, Expect, Id, Instant, Misuse, Pause, Reply, Rule, Violation, Wait};
use std::collections::BTreeMap;

const BIG: usize = 100_000;
const PRIORITY_UPDATE: u8 = 0x10;

/// Answers by path: `/hello` at once, `/big` with `BIG` bytes, `/sink` when the body is complete, others when they are told to.
#[derive(Default)]
struct App {
    rest: BTreeMap<Id, Vec<u8>>,
    held: BTreeMap<u64, usize>,
    aborted: Vec<(u64, Option<Rule>)>,
    faults: Vec<Violation>,
    writable: usize,
}

impl App {
    fn big(&mut self, reply: &mut Reply<'_>) {
        let content = pattern(reply.id().number() as u32, BIG);
        let n = reply.respond(200, &[], Content::Whole(&content)).expect("room");
        if n < BIG {
            self.rest.insert(reply.id(), content[n..].to_vec());
        }
    }
}

impl Handler for App {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request(mut request) => {
                let number = request.reply.id().number();
                request.reply.set_tag(number);
                match request.head.path() {
                    "/hello" => request.reply.text(200, "hello").expect("room"),
                    "/big" => self.big(&mut request.reply),
                    "/manual" => drop(request.reply.expect(Expect::Manual)),
                    "/small" => drop(request.reply.expect(Expect::Whole { max: 10 })),
                    _ => {}
                }
            }
            Event::Body(mut body) => {
                *self.held.entry(body.tag).or_default() += body.bytes.len();
                if body.last {
                    body.reply.text(200, "all of it").expect("room");
                }
            }
            Event::Writable(mut reply) => {
                self.writable += 1;
                let rest = self.rest.get_mut(&reply.id()).expect("something is left");
                let n = reply.write(rest).expect("its turn");
                rest.drain(..n);
            }
            Event::Aborted { tag, why, .. } => self.aborted.push((tag, why.map(|v| v.rule))),
            Event::Fault(violation) => self.faults.push(violation),
            event => panic!("{event:?}"),
        }
    }
}

fn begun() -> Peer<App> {
    Peer::begun(patient(), 20_000, 70_000, App::default())
}

fn body(peer: &Peer<App>, number: u32) -> (usize, bool) {
    let lane: &Lane = &peer.lanes[&number];
    (lane.body.len(), lane.ended)
}

// ---- answers in any order ----

#[test]
fn streams_are_answered_out_of_order_by_id() {
    let mut peer = begun();
    let numbers: Vec<u32> = (0..5).map(|_| peer.get("/later", &[])).collect();
    peer.run();
    assert!(matches!(peer.pause, Pause::Input { .. }), "open streams never stop the input: {:?}", peer.pause);
    peer.say(kind::PING, 0, 0, b"12345678");
    peer.run();
    assert_eq!(peer.pongs, 1);
    for i in [3, 0, 4, 2, 1] {
        let number = numbers[i];
        assert!(peer.with(number, |mut reply| {
            assert_eq!(reply.tag(), u64::from(number));
            reply.text(200, &format!("for {number}")).expect("room");
        }));
        assert_eq!(peer.lanes[&number].body, format!("for {number}").into_bytes());
        assert!(!peer.with(number, |_| ()), "its id is dead now");
    }
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_window_cuts_a_write_short_and_writable_follows() {
    let mut peer = begun();
    peer.grant(0, 1 << 20);
    let (a, b) = (peer.get("/big", &[]), peer.get("/big", &[]));
    peer.run();
    assert_eq!([a, b].map(|n| body(&peer, n)), [(65_535, false); 2], "each has its own window");
    peer.grant(b, 1);
    peer.run();
    assert_eq!([a, b].map(|n| body(&peer, n).0), [65_535, 65_536], "a byte of window is a byte of content");
    peer.grant(a, BIG as u32);
    peer.run();
    assert_eq!((body(&peer, a), body(&peer, b)), ((BIG, true), (65_536, false)));
    assert!(peer.handler.writable >= 3);
    peer.grant(b, BIG as u32);
    peer.run();
    assert!(peer.lanes[&b].body == pattern(b, BIG));
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_small_answer_is_parked_while_the_windows_are_shut() {
    let mut peer = begun();
    let big = peer.get("/big", &[]);
    let small = peer.get("/hello", &[]);
    let later = peer.get("/later", &[]);
    peer.run();
    assert_eq!(body(&peer, big).0, 65_535, "the connection's window is used up");
    assert!(peer.lanes[&small].head.is_some() && body(&peer, small) == (0, false), "its handler is rid of it");
    // What is written in place, and is long, cannot be parked: refused, before a byte of it is written.
    let long = vec![7; 1_000];
    assert!(peer.with(later, |mut reply| assert_eq!(reply.json(200, &long), Err(Misuse::NoRoom))));
    assert!(peer.lanes[&later].head.is_none());
    peer.grant(big, 1 << 20);
    peer.grant(0, 3);
    peer.run();
    assert_eq!(peer.lanes[&small].body, b"hel", "small answers that are complete go first");
    peer.grant(0, 1 << 20);
    peer.run();
    assert!(peer.with(later, |mut reply| assert_eq!(reply.json(200, &long), Ok(()))));
    assert_eq!((body(&peer, big), body(&peer, small), body(&peer, later)), ((BIG, true), (5, true), (2_001, true)));
    audit::at_rest(&mut peer.connection);
}

// ---- one stream ends ----

#[test]
fn a_reset_takes_one_stream_back() {
    let mut peer = begun();
    let numbers = [0; 3].map(|_| peer.post("/sink", &[]));
    numbers.iter().for_each(|&n| peer.data(n, b"some", None, false));
    peer.run();
    let [a, b, c] = numbers;
    peer.give_up(b, 8);
    peer.run();
    assert_eq!(peer.handler.aborted, [(u64::from(b), None)]);
    assert!(!peer.with(b, |_| ()), "None, and nobody's mistake");
    for number in [c, a] {
        peer.data(number, b" more", None, true);
        peer.run();
        assert_eq!(body(&peer, number), (9, true));
    }
    assert!(peer.handler.faults.is_empty());
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_reset_flood_yields_the_turn_each_time() {
    let mut peer = begun();
    for _ in 0..40 {
        let number = peer.post("/sink", &[]);
        peer.give_up(number, 8);
    }
    let (mut turns, wire) = (0, peer.wire.len());
    peer.feed(wire);
    while !peer.inbox.is_empty() {
        peer.turn(usize::MAX);
        turns += 1;
    }
    assert!(turns >= 40 && peer.handler.aborted.len() == 40, "{turns} turns");
    audit::at_rest(&mut peer.connection);
}

/// The default burst is 200: the next reset ends the connection, and says why.
#[test]
fn a_reset_flood_ends_the_connection() {
    let limits = with(patient(), Limit::ResetBurst, 200);
    let mut peer = Peer::begun(limits, 20_000, 70_000, App::default());
    for _ in 0..201 {
        let number = peer.post("/sink", &[]);
        peer.give_up(number, 8);
        peer.run();
    }
    assert_eq!(peer.handler.faults.iter().map(|v| v.rule).collect::<Vec<_>>(), [Rule::ResetFlood]);
    assert_eq!(peer.goaways.last().map(|g| g.1), Some(11), "ENHANCE_YOUR_CALM");
}

#[test]
fn what_is_more_than_a_streams_window_ends_that_stream() {
    let mut peer = begun();
    let (a, b) = (peer.post("/manual", &[]), peer.post("/sink", &[]));
    peer.run();
    while peer.room(a) > 0 {
        let n = peer.room(a);
        peer.data(a, &vec![b'm'; n], None, false);
        peer.run();
    }
    assert_eq!(peer.handler.held[&u64::from(a)], 65_536, "delivered at once, and no credit before it is released");
    peer.upload(b, &vec![b's'; 200_000], 1_024, false);
    assert!(peer.with(a, |mut reply| reply.release(20_000)));
    assert!(peer.room(a) >= 16_384, "released: credit again");
    while peer.room(a) > 0 {
        let n = peer.room(a);
        peer.data(a, &vec![b'm'; n], None, false);
    }
    // One byte more than it may: the stream is over, the other goes on.
    peer.lanes.get_mut(&a).expect("open").open += 1;
    peer.data(a, b"m", None, false);
    peer.lanes.get_mut(&a).expect("open").closed = true;
    peer.run();
    assert_eq!(peer.lanes[&a].reset, Some(3), "FLOW_CONTROL_ERROR");
    assert_eq!(peer.handler.aborted, [(u64::from(a), Some(Rule::WindowExceededStream))]);
    peer.data(b, b"s", None, true);
    peer.run();
    assert_eq!((body(&peer, b), peer.handler.faults.len()), ((9, true), 0));
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_rule_about_one_message_ends_one_stream() {
    let mut peer = begun();
    let (a, b) = (peer.post("/small", &[]), peer.post("/sink", &[]));
    peer.run();
    peer.data(a, b"0123456789a", None, false);
    peer.run();
    assert_eq!(peer.handler.aborted, [(u64::from(a), Some(Rule::BodyOverHandler))]);
    assert_eq!((peer.lanes[&a].ended, peer.lanes[&a].reset), (true, Some(0)), "413, and the rest is not wanted");
    let c = peer.get("not a path", &[]);
    peer.run();
    assert_eq!(peer.lanes[&c].reset, Some(1), "a malformed head is never announced");
    peer.data(b, b"x", None, true);
    peer.run();
    assert!(peer.lanes[&b].ended && peer.handler.faults.is_empty());
    audit::at_rest(&mut peer.connection);
}

// ---- the connection ends ----

#[test]
fn a_drain_says_goaway_and_finishes_what_is_open() {
    let mut peer = begun();
    let a = peer.get("/later", &[]);
    peer.run();
    peer.connection.drain();
    peer.run(); // the client answers the PING that comes with it
    assert_eq!(peer.goaways, [(0x7fff_ffff, 0), (a, 0)], "a warning first, then the last stream (RFC 9113 §6.8)");
    peer.get("/hello", &[]);
    peer.run();
    assert!(!peer.lanes[&(a + 2)].ended, "above the last stream that GOAWAY named");
    assert!(!peer.outbox.finished());
    assert!(peer.with(a, |mut reply| reply.text(200, "last").expect("room")));
    assert_eq!(body(&peer, a), (4, true));
    assert!(peer.outbox.finished());
    peer.inbox.end();
    peer.turn(usize::MAX);
    assert_eq!((peer.pause, peer.connection.end()), (Pause::Closed, Some(End::Ours)));
}

#[test]
fn the_end_of_the_bytes_aborts_what_is_incomplete_and_waits_for_the_rest() {
    let mut peer = begun();
    let (a, b) = (peer.get("/later", &[]), peer.post("/sink", &[]));
    peer.run();
    peer.inbox.end();
    peer.run();
    assert_eq!(peer.handler.aborted, [(u64::from(b), None)]);
    assert_eq!(peer.pause, Pause::Caller(Wait::Reply(Id(u64::from(a)))));
    assert!(peer.with(a, |mut reply| reply.text(200, "last").expect("room")));
    assert_eq!(body(&peer, a), (4, true));
    assert_eq!((peer.pause, peer.connection.end()), (Pause::Closed, Some(End::Clean)));
}

#[test]
fn open_streams_are_not_idle() {
    let mut peer = begun();
    let a = peer.get("/later", &[]);
    peer.run();
    peer.now = Instant::from_millis(300_000);
    peer.run();
    assert!(peer.with(a, |mut reply| reply.text(200, "slow").expect("room")));
    assert_eq!(body(&peer, a), (4, true));
    peer.now = Instant::from_millis(329_999);
    peer.run();
    assert!(peer.goaways.is_empty());
    peer.now = Instant::from_millis(330_000);
    peer.run();
    assert_eq!(peer.goaways.last().map(|g| g.1), Some(0));
    peer.inbox.end();
    peer.turn(usize::MAX);
    assert_eq!(peer.connection.end(), Some(End::Idle));
}

// ---- who writes first ----

/// Big responses with these priorities, all of which wait for the connection's window.
fn waiting(priorities: &[Option<&str>]) -> (Peer<App>, Vec<u32>) {
    let mut peer = Peer::new(patient(), 20_000, 70_000, App::default());
    peer.settings(1 << 20);
    peer.run();
    let first = peer.get("/big", &[]);
    peer.run();
    assert_eq!(body(&peer, first).0, 65_535, "the connection's window is used up");
    peer.give_up(first, 8);
    let numbers = priorities.iter().map(|priority| match priority {
        Some(text) => peer.get("/big", &[("priority", text.as_bytes())]),
        None => peer.get("/big", &[]),
    });
    let numbers = numbers.collect();
    peer.run();
    peer.order.clear();
    (peer, numbers)
}

/// The streams in the order in which they came to their ends, or to the end of what was sent, each once: nothing in between.
fn runs(peer: &Peer<App>) -> Vec<u32> {
    let mut runs: Vec<u32> = peer.order.iter().map(|o| o.0).collect();
    runs.dedup();
    runs
}

/// So much is granted, in steps of this size.
fn open(peer: &mut Peer<App>, all: usize, step: usize) {
    for _ in 0..all / step {
        peer.grant(0, step as u32);
        peer.run();
    }
}

#[test]
fn what_is_urgent_goes_first() {
    for step in [1_000, 16_384, 50_000, 600_000] {
        let (mut peer, n) = waiting(&[Some("u=5"), Some("u=1"), None, Some("u=0, i"), Some("u=7, i"), Some("u=1")]);
        open(&mut peer, 600_000, step);
        let order = [n[3], n[1], n[5], n[2], n[0], n[4]];
        assert_eq!(runs(&peer), order[..runs(&peer).len()], "steps of {step}");
        assert!(runs(&peer).len() >= 5 && body(&peer, n[3]) == (BIG, true));
    }
}

#[test]
fn responses_come_one_after_the_other_for_a_client_that_says_so() {
    let (mut peer, n) = waiting(&[Some("u=3"), Some("u=3"), Some(""), Some("u=3, i=?0")]);
    open(&mut peer, 400_000, 10_000);
    assert_eq!(runs(&peer), n);
    assert!(n.iter().all(|&n| body(&peer, n) == (BIG, true)));
}

#[test]
fn responses_come_side_by_side_for_a_client_that_says_nothing_or_incremental() {
    for priorities in [[None; 4], [Some("i"); 4], [Some("u=3, i"), None, Some("i"), None]] {
        let (mut peer, n) = waiting(&priorities);
        for _ in 0..40 {
            peer.grant(0, 10_000);
            peer.run();
            let sizes = n.iter().map(|&n| body(&peer, n).0);
            let (least, most) = (sizes.clone().min().expect("four"), sizes.max().expect("four"));
            assert!(most - least <= 2 * 16_384, "{priorities:?}: from {least} to {most}");
        }
        assert!(n.iter().all(|&n| body(&peer, n) == (BIG, true)));
    }
}

#[test]
fn one_after_the_other_goes_before_side_by_side() {
    let (mut peer, n) = waiting(&[Some("i"), Some("u=3"), None, Some("u=3")]);
    open(&mut peer, 200_000, 8_000);
    assert_eq!(runs(&peer), [n[1], n[3]]);
}

#[test]
fn the_outbox_keeps_the_order_as_windows_do() {
    let mut peer = Peer::new(patient(), 20_000, 9_000, App::default());
    peer.settings(1 << 20);
    peer.grant(0, 1 << 24);
    peer.run();
    let said = ["u=6", "u=2, i", "u=2, i", "u=0"];
    let n: Vec<u32> = said.iter().map(|text| peer.get("/big", &[("priority", text.as_bytes())])).collect();
    peer.feed(usize::MAX);
    peer.turn(0); // all are heard, and have got the room that there was
    peer.turn(0);
    peer.order.clear();
    peer.run();
    let done = |number: u32| peer.order.iter().rposition(|o| o.0 == number).expect("some of it");
    assert!(done(n[3]) < done(n[1]) && done(n[3]) < done(n[2]), "{:?}", runs(&peer));
    assert!(done(n[1]).max(done(n[2])) < done(n[0]), "{:?}", runs(&peer));
    assert!(n.iter().all(|&n| body(&peer, n) == (BIG, true)));
}

fn update(peer: &mut Peer<App>, number: u32, text: &str) {
    let payload = [&number.to_be_bytes()[..], text.as_bytes()].concat();
    peer.say(PRIORITY_UPDATE, 0, 0, &payload);
}

#[test]
fn a_priority_changes_while_responses_are_under_way() {
    let (mut peer, n) = waiting(&[Some("u=4"), Some("u=4"), Some("u=4, i"), Some("u=4, i")]);
    open(&mut peer, 30_000, 10_000);
    assert_eq!(runs(&peer), n[..1]);
    update(&mut peer, n[3], "u=1");
    open(&mut peer, 40_000, 10_000);
    assert_eq!(runs(&peer), [n[0], n[3]]);
    update(&mut peer, n[3], "u=6");
    update(&mut peer, n[1], "u=0");
    open(&mut peer, 100_000, 10_000);
    assert_eq!(runs(&peer), [n[0], n[3], n[1]]);
    open(&mut peer, 400_000, 100_000);
    assert_eq!(runs(&peer)[3..], [n[0], n[2], n[3]], "what was begun goes on, and the last one ends last");
    assert!(n.iter().all(|&n| body(&peer, n) == (BIG, true)));
    audit::at_rest(&mut peer.connection);
}

/// RFC 9218 §7: it may come before its request, and overrides what that says.
#[test]
fn a_priority_may_come_before_its_request() {
    let (mut peer, n) = waiting(&[Some("u=4")]);
    update(&mut peer, n[0] + 4, "u=1");
    let a = peer.get("/big", &[("priority", b"u=3")]);
    let b = peer.get("/big", &[("priority", b"u=6")]);
    assert_eq!(b, n[0] + 4);
    peer.run();
    open(&mut peer, 300_000, 20_000);
    assert_eq!(runs(&peer), [b, a, n[0]]);
}

/// A stream that is urgent and whose own window is shut holds nobody back.
#[test]
fn who_cannot_write_is_passed_over() {
    let mut peer = begun();
    peer.grant(0, 1 << 20);
    let a = peer.get("/big", &[("priority", b"u=0")]);
    peer.run();
    assert_eq!(body(&peer, a).0, 65_535);
    let b = peer.get("/big", &[("priority", b"u=7")]);
    peer.grant(b, 1 << 20);
    peer.run();
    assert_eq!((body(&peer, a), body(&peer, b)), ((65_535, false), (BIG, true)));
    peer.give_up(a, 8);
    peer.run();
    audit::at_rest(&mut peer.connection);
}
