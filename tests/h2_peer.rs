//! Conversations with the `h2` crate's client over an in-memory pipe, at virtual time: an independent
//! implementation must understand all that the machine says in HTTP/2, and be understood.
#![cfg(feature = "std")]
#![allow(missing_docs, unreachable_pub, clippy::expect_used)]

#[path = "h2_peer/client.rs"]
mod client;
#[path = "h2_peer/pipe.rs"]
mod pipe;
#[path = "h2_peer/plan.rs"]
mod plan;
#[path = "h2_peer/server.rs"]
mod server;
#[path = "h2_peer/stage.rs"]
mod stage;
#[path = "h2_peer/verdict.rs"]
mod verdict;

use plan::{Ask, Ending, How, Plan, limit};
use stage::{Stage, play};
use vestibule::{End, Limit, Limits};

/// A plan with one request after the other, played and checked.
fn plain(asks: Vec<Ask>) -> Stage {
    play(Plan::plain(asks))
}

#[test]
fn one_get() {
    let stage = plain(vec![Ask::get(How::Text)]);
    assert_eq!(stage.server.connection.stats().requests, 1);
}

#[test]
fn every_way_to_answer() {
    let hows = [
        How::EchoWhole,
        How::EchoStream,
        How::EchoManual,
        How::Manual,
        How::Discard,
        How::Text,
        How::Sized(100_000),
        How::Streamed(100_000),
        How::Whole(100_000),
    ];
    for how in hows {
        for ask in [Ask::get(how.clone()), Ask::post(how.clone(), 0), Ask::post(how.clone(), 100_000)] {
            for (eager, length) in [(false, false), (true, true)] {
                let trailers = vec![("x-sum".to_string(), "1".to_string())];
                plain(vec![
                    Ask { eager, length, ..ask.clone() },
                    Ask { trailers: ask.body.map_or(Vec::new(), |_| trailers.clone()), ..ask.clone() },
                    Ask { answer_trailers: trailers, delay: 5, ..ask.clone() },
                    Ask { method: if ask.body.is_none() { "HEAD" } else { "PUT" }, informs: 2, ..ask.clone() },
                ]);
            }
        }
    }
}

/// Programs of up to twenty requests, of every kind, on connections of every shape. `VESTIBULE_PROGRAMS` says how many;
/// `VESTIBULE_SEED` plays one of them alone.
#[test]
fn random_programs() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("VESTIBULE_SEED") {
        play(Plan::random(seed));
        return;
    }
    for seed in 1..=number("VESTIBULE_PROGRAMS").unwrap_or(1000) {
        play(Plan::random(seed));
    }
}

/// A handler that asks in every turn for an exchange that cannot go on must not use up the turns of the others.
#[test]
fn turns_of_one_unit_get_somewhere() {
    for seed in 1..=100 {
        let plan = Plan::random(seed);
        play(Plan { limits: limit(plan.limits.clone(), Limit::TurnUnits, 1), ..plan });
    }
}

/// What was on its way when the answer said that nobody wants it is no fault of the client's (RFC 9113 §5.1, §8.1).
#[test]
fn uploads_that_nobody_wants_cost_no_connection() {
    let mut asks = vec![Ask { eager: true, ..Ask::post(How::Text, 300_000) }; 400];
    asks.iter_mut().enumerate().for_each(|(at, ask)| ask.start = at as u64 * 10);
    let mut stage = Stage::new(Plan { up: 1 << 26, ..Plan::plain(asks) });
    (0..400).for_each(|at| stage.ask(at));
    stage.until("all answers", |stage| stage.all_answered());
    (0..400).for_each(|at| stage.check(at));
}

#[test]
fn the_client_may_go_first() {
    play(Plan { ending: Ending::Client, ..Plan::plain(vec![Ask::get(How::Text), Ask::post(How::EchoWhole, 70_000)]) });
}

#[test]
fn one_paused_stream_does_not_stop_the_other_ninety_nine() {
    let mut asks = vec![Ask::post(How::EchoWhole, 20_000); 100];
    asks[7] = Ask::post(How::Hold, 300_000);
    let limits = limit(Limits::DEFAULT, Limit::GatherBytes, 4 << 20);
    let mut stage = Stage::new(Plan { limits, ..Plan::plain(asks) });
    (0..100).for_each(|at| stage.ask(at));
    stage.until("99 answers", |stage| stage.outcomes.borrow().len() == 99);
    stage.settle();
    let held = &stage.server.app.exchanges[&7];
    assert_eq!((held.held, held.done), (65_536, false), "one window, and no more");
    stage.server.app.free = true;
    stage.until("the last answer", |stage| stage.all_answered());
    (0..100).for_each(|at| stage.check(at));
    stage.drain();
}

#[test]
fn a_big_download_and_small_requests_go_side_by_side() {
    let mut asks = vec![Ask::get(How::Text); 20];
    asks[0] = Ask::get(How::Sized(3 << 20));
    for (at, ask) in asks.iter_mut().enumerate().skip(1) {
        ask.start = at as u64 * 10;
    }
    let stage = plain(asks);
    assert_eq!(stage.server.app.finished.last(), Some(&0), "the big one ends last: {:?}", stage.server.app.finished);
}

#[test]
fn a_big_upload_flows_as_its_window_is_given_back() {
    let limits = limit(Limits::DEFAULT, Limit::BodyBytes, 8 << 20);
    for how in [How::EchoStream, How::EchoManual, How::Manual, How::Text] {
        play(Plan {
            limits: limits.clone(),
            ..Plan::plain(vec![Ask::post(how, 4 << 20), Ask::post(How::EchoWhole, 1000)])
        });
    }
}

#[test]
fn a_reader_that_stops_on_one_stream_stops_no_other() {
    let stops = Ask { stops: true, ..Ask::get(How::Streamed(400_000)) };
    let mut stage =
        Stage::new(Plan::plain(vec![stops, Ask::get(How::Whole(200_000)), Ask::post(How::EchoStream, 200_000)]));
    (0..3).for_each(|at| stage.ask(at));
    stage.until("the others", |stage| stage.answered(1) && stage.answered(2));
    stage.settle();
    assert!(!stage.answered(0));
    stage.clock.go.set(true);
    stage.until("the first", |stage| stage.all_answered());
    (0..3).for_each(|at| stage.check(at));
    stage.drain();
}

#[test]
fn what_is_in_flight_when_the_server_drains_is_finished() {
    let asks =
        vec![Ask::post(How::Hold, 100_000), Ask::get(How::Sized(300_000)), Ask { delay: 100, ..Ask::get(How::Text) }];
    let mut stage = Stage::new(Plan::plain(asks));
    (0..3).for_each(|at| stage.ask(at));
    stage.until("the requests", |stage| stage.server.app.exchanges.len() == 3);
    stage.server.drain();
    stage.until("two answers", |stage| stage.outcomes.borrow().len() == 2);
    stage.settle();
    assert!(stage.closed.borrow().is_none() && !stage.server.is_closed(), "one is still open");
    stage.server.app.free = true;
    stage.close(End::Ours);
    (0..3).for_each(|at| stage.check(at));
}

#[test]
fn windows_grow_under_way() {
    for (from, to) in [(0, 65_535), (65_535, 1 << 20), (10, 70_000)] {
        let asks = vec![Ask::get(How::Sized(80_000)), Ask::get(How::Text), Ask::post(How::EchoStream, 80_000)];
        let mut stage = Stage::new(Plan { stream_window: from, ..Plan::plain(asks) });
        (0..3).for_each(|at| stage.ask(at));
        stage.until("the requests", |stage| stage.server.app.exchanges.len() == 3);
        stage.change.set(Some(to));
        stage.until("all answers", |stage| stage.all_answered());
        (0..3).for_each(|at| stage.check(at));
        stage.drain();
    }
}

/// Of streams that are open, but to which nothing was sent yet: this client forgets what it owes to others.
#[test]
fn windows_shrink_under_way() {
    let asks = vec![Ask::post(How::Hold, 80_000), Ask::post(How::Hold, 70_000), Ask::get(How::Sized(3000))];
    let mut stage = Stage::new(Plan::plain(asks));
    (0..2).for_each(|at| stage.ask(at));
    stage.settle();
    stage.change.set(Some(100));
    stage.settle();
    stage.ask(2);
    stage.server.app.free = true;
    stage.until("all answers", |stage| stage.all_answered());
    (0..3).for_each(|at| stage.check(at));
    stage.drain();
}

fn tunnel(protocol: Option<&'static str>, bytes: usize) -> Ask {
    Ask { method: "CONNECT", path: "/chat".into(), protocol, ..Ask::post(How::Tunnel, bytes) }
}

#[test]
fn a_plain_connect_is_a_tunnel() {
    plain(vec![tunnel(None, 0), tunnel(None, 10), tunnel(None, 200_000), Ask::post(How::EchoWhole, 1000)]);
}

#[test]
fn what_waits_for_a_tunnel_that_dies_is_credit_again() {
    let never = |at: u64| Ask {
        how: How::Never,
        reset: Some(plan::Reset::Rounds(80)),
        start: at * 60,
        ..tunnel(None, 100_000)
    };
    let upload = Ask { start: 40 * 60, ..Ask::post(How::EchoWhole, 900_000) };
    plain((0u64..40).map(never).chain([upload]).collect());
}

#[test]
fn a_tunnel_in_the_place_of_a_coded_body() {
    for delay in [0, 30] {
        let coded = Ask { coded: true, ..Ask::post(How::EchoWhole, 1000) };
        plain(vec![coded.clone(), Ask { delay, start: 100, ..tunnel(None, 1000) }, Ask { start: 300, ..coded }]);
    }
}

#[test]
fn an_extended_connect_is_a_tunnel() {
    plain(vec![tunnel(Some("websocket"), 200_000), tunnel(Some("echo"), 100), Ask::get(How::Text)]);
}

#[test]
fn informational_responses_come_before_the_final_one() {
    let informs = |n| Ask { informs: n, ..Ask::post(How::EchoWhole, 5000) };
    plain(vec![informs(1), informs(3), Ask { eager: true, informs: 2, ..Ask::get(How::Text) }]);
}

#[test]
fn pings_are_answered() {
    let stage = play(Plan { pings: 5, ..Plan::plain(vec![Ask::get(How::Sized(200_000)); 3]) });
    assert_eq!(stage.pongs.get(), 5);
}
