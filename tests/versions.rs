//! One request, two versions: the same events, the same answers, the same verdicts (P-17); what HTTP/2 accepts, HTTP/1.1 can carry
//! (P-18); whatever a handler calls, what goes out is valid (P-8). Both versions are spoken by hand, so that nothing is filtered.
#![cfg(feature = "std")]
#![allow(missing_docs, unreachable_pub, clippy::expect_used)]

#[allow(dead_code)] // some parts serve one test only
#[path = "versions/ask.rs"]
mod ask;
#[path = "versions/client.rs"]
mod client;
#[path = "versions/downgrade.rs"]
mod downgrade;
#[path = "versions/frames.rs"]
mod frames;
#[allow(dead_code)] // the promises use the rest of it
#[path = "promises/client.rs"]
mod h1_client;
#[path = "versions/output.rs"]
mod output;
#[path = "versions/road.rs"]
mod road;
#[path = "versions/verdicts.rs"]
mod verdicts;

use ask::{App, Ask, How, Seen, ask};
use client::Client;
use frames::{Dice, Line};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use road::{Road, patient};

/// So many cases, the same in every run; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make it a longer and another hunt.
pub fn cases(cases: u32) -> ProptestConfig {
    let hunt = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() };
    if hunt { default } else { ProptestConfig { cases, rng_seed: RngSeed::Fixed(7), ..default } }
}

/// An answer, in whatever version it came.
#[derive(Debug, PartialEq)]
struct Got {
    status: u16,
    fields: Vec<Line>,
    body: Vec<u8>,
    trailers: Vec<Line>,
}

/// Without what only one version says, sorted.
fn comparable(lines: impl Iterator<Item = Line>) -> Vec<Line> {
    let framing: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"connection"];
    let mut lines: Vec<Line> = lines.filter(|l| !framing.contains(&&l.0[..])).collect();
    lines.sort();
    lines
}

/// What the handler saw, the answers, and how many interim ones came with them.
fn over_h1(asks: &[Ask]) -> (App, Vec<Got>, usize) {
    let mut road = Road::new(patient(), 0, 9_000, App::new(asks.to_vec()));
    let mut dice = Dice::new(asks[0].seed);
    let sent = road.h1(&asks.iter().flat_map(Ask::h1).collect::<Vec<u8>>(), &mut dice);
    let methods: Vec<String> = asks.iter().map(|ask| ask.method.clone()).collect();
    let all = h1_client::responses(&sent, &methods).expect("valid output");
    let informs = all.iter().filter(|r| r.status < 200).count();
    let bytes = |fields: Vec<(String, String)>| fields.into_iter().map(|(n, v)| (n.into_bytes(), v.into_bytes()));
    let finals = all.into_iter().filter(|r| r.status >= 200).map(|r| {
        assert!(r.complete, "an answer without its end");
        let (fields, trailers) = (comparable(bytes(r.fields)), comparable(bytes(r.trailers)));
        Got { status: r.status, fields, body: r.body, trailers }
    });
    let finals = finals.collect();
    (road.handler, finals, informs)
}

fn over_h2(asks: &[Ask]) -> (App, Vec<Got>, usize) {
    let inbox = [0, 64, 3_000, 20_000][asks[0].seed as usize % 4];
    let mut road = Road::new(patient(), inbox, 9_000, App::new(asks.to_vec()));
    let mut client = Client::new(asks[0].seed, 65_535 << (asks[0].seed % 3));
    for ask in asks {
        client.request(&ask.h2(), ask.coded_body(), &ask.trailers);
    }
    road.h2(&mut client);
    assert!(client.goaways.is_empty(), "{:?} {:?}", client.goaways, road.handler.faults);
    let informs = client.lanes.values().map(|lane| lane.informs.len()).sum();
    let all = client.lanes.into_values().map(|lane| {
        assert!(lane.ended && lane.reset.is_none_or(|code| code == 0), "no answer, but {:?}", lane.reset);
        let (status, fields) = lane.head.expect("a head");
        let trailers = comparable(lane.trailers.into_iter().flatten());
        Got { status, fields: comparable(fields.into_iter()), body: lane.body, trailers }
    });
    let all = all.collect();
    (road.handler, all, informs)
}

/// The body of a request that nobody wants is nobody's business.
fn told(mut seen: Vec<Seen>, asks: &[Ask]) -> Vec<Seen> {
    for (seen, ask) in seen.iter_mut().zip(asks) {
        if ask.how == How::Discard {
            seen.trailers.clear();
        } else {
            assert_eq!(Some(&seen.body), ask.body.as_ref().or(Some(&Vec::new())), "the body is what was sent");
            assert_eq!(seen.trailers, ask.trailers);
        }
        assert!(seen.complete && seen.aborted.is_none(), "{seen:?}");
    }
    seen
}

proptest! {
    #![proptest_config(cases(400))]

    /// P-17. The same requests give the same events, and the same answers come back.
    #[test]
    fn one_request_is_the_same_in_both_versions(mut asks in prop::collection::vec(ask(), 1..4)) {
        let last = asks.len() - 1;
        asks[..last].iter_mut().filter(|a| a.how == How::Discard).for_each(|a| a.how = How::Stream); // it may close
        let (h1, h1_answers, h1_informs) = over_h1(&asks);
        let (h2, h2_answers, h2_informs) = over_h2(&asks);
        prop_assert_eq!(told(h1.seen, &asks), told(h2.seen, &asks));
        prop_assert_eq!(h1_answers, h2_answers);
        prop_assert!(h1.faults.is_empty() && h2.faults.is_empty());
        if asks.iter().all(|a| a.how != How::Discard && a.body.as_ref().is_none_or(|b| !b.is_empty())) {
            prop_assert_eq!(h1_informs, h2_informs, "100 (Continue)");
        }
    }
}
