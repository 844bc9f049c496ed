//! The door against a model that keeps lists instead of counts, and against threads.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

fn caps(connections: usize, per_source: usize, memory_bytes: usize) -> Caps {
    Caps { connections, per_source, memory_bytes, soft_percent: 95 }
}

fn v4(last: u8) -> Source {
    Source::of(IpAddr::from([192, 0, 2, last]))
}

fn permit(verdict: Verdict) -> Permit {
    match verdict {
        Verdict::Admitted(permit) | Verdict::Overloaded(permit) => permit,
        Verdict::Refused => panic!("refused"),
    }
}

#[test]
fn below_the_soft_cap_they_are_served_then_told_to_go_then_not_accepted() {
    let admission = Admission::new(caps(100, 100, usize::MAX));
    let mut permits = Vec::new();
    let (mut admitted, mut overloaded) = (0, 0);
    while let Some(seat) = admission.reserve(1) {
        let verdict = seat.take(v4(1));
        match &verdict {
            Verdict::Admitted(_) => admitted += 1,
            Verdict::Overloaded(_) => overloaded += 1,
            Verdict::Refused => panic!("refused"),
        }
        permits.push(permit(verdict));
    }
    assert_eq!((admitted, overloaded), (95, 5));
    permits.truncate(94);
    assert!(matches!(admission.reserve(1).map(|seat| seat.take(v4(1))), Some(Verdict::Admitted(_))));
    permits.clear();
    assert_eq!(admission.open(), Open::default());
    let one = Admission::new(caps(1, 1, usize::MAX));
    assert!(
        matches!(one.reserve(1).map(|seat| seat.take(v4(1))), Some(Verdict::Admitted(_))),
        "a cap of one is no cap of none"
    );
}

#[test]
fn the_sum_of_what_they_may_cost_stays_within_the_budget_and_admission_stops_at_95_percent() {
    let admission = Admission::new(caps(1_000, 1_000, 1_000));
    let mut permits = Vec::new();
    let verdict = || admission.reserve(95).map(|seat| seat.take(v4(1)));
    for n in 1..=10 {
        let verdict = verdict().expect("room");
        assert!(matches!(verdict, Verdict::Admitted(_)), "{n} cost {} bytes", n * 95);
        permits.push(permit(verdict));
    }
    assert!(verdict().is_none(), "that would be 1,045 bytes");
    let small = admission.reserve(50).expect("exactly the budget");
    assert!(matches!(small.take(v4(1)), Verdict::Overloaded(_)));
    assert!(admission.reserve(usize::MAX).is_none());
    drop(permits);
    assert_eq!(admission.open(), Open::default());
}

#[test]
fn a_source_is_an_address_of_ipv4_or_a_network_of_ipv6() {
    let of = |text: &str| Source::of(text.parse().expect("an address"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    for local in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(of(local), Source::Uncounted, "{local}");
    }
}

#[test]
fn one_source_gets_its_share_and_no_other_source_notices() {
    let admission = Admission::new(caps(100, 2, usize::MAX));
    let take = |source| admission.reserve(1).expect("room").take(source);
    let first = permit(take(v4(1)));
    let _second = permit(take(v4(1)));
    assert!(matches!(take(v4(1)), Verdict::Refused));
    let _other = permit(take(v4(2)));
    let _local: Vec<_> = (0..10).map(|_| permit(take(Source::Uncounted))).collect();
    assert_eq!(admission.open().connections, 13, "the refused one is gone");
    drop(first);
    let _third = permit(take(v4(1)));
}

#[test]
fn behind_a_proxy_the_announced_source_counts() {
    let admission = Admission::new(caps(100, 1, usize::MAX));
    let proxied = || permit(admission.reserve(1).expect("room").take(Source::Uncounted));
    let (mut one, mut two) = (proxied(), proxied());
    assert!(one.move_to(v4(1)) && one.move_to(v4(1)), "naming it twice changes nothing");
    assert!(!two.move_to(v4(1)));
    assert_eq!(two.source(), Source::Uncounted);
    assert!(two.move_to(v4(2)));
    drop(one);
    assert!(two.move_to(v4(1)));
    assert_eq!(admission.open().sources, 1);
}

#[test]
fn a_loop_is_called_once_for_each_time_it_was_refused() {
    let admission = Admission::new(caps(1, 1, usize::MAX));
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let line = admission.line(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let seat = line.reserve(1).expect("room");
    drop(seat);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "it was not refused");
    let seat = line.reserve(1).expect("room");
    assert!(line.reserve(1).is_none() && line.reserve(1).is_none());
    drop(seat);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let seat = line.reserve(1).expect("room");
    assert!(line.reserve(1).is_none());
    drop(line);
    drop(seat);
    assert_eq!(calls.load(Ordering::Relaxed), 1, "it has left the line");
}

#[test]
fn a_call_may_ask_again_at_once() {
    let admission = Admission::new(caps(1, 1, usize::MAX));
    let (tell, told) = mpsc::channel();
    let again = admission.clone();
    let line = admission.line(move || {
        tell.send(again.reserve(1).is_some()).expect("the test listens");
    });
    let seat = line.reserve(1).expect("room");
    assert!(line.reserve(1).is_none());
    drop(seat);
    assert_eq!(told.recv(), Ok(true), "and nothing locked up");
}

#[test]
fn threads_that_wait_get_every_seat_that_becomes_free() {
    let admission = Admission::new(caps(3, 100, usize::MAX));
    let got = AtomicUsize::new(0);
    let limit = Duration::from_secs(60);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let seat = admission.wait(1, limit).expect("it comes in time");
                    assert!(admission.open().connections <= 3);
                    got.fetch_add(1, Ordering::Relaxed);
                    drop(permit(seat.take(v4(1))));
                }
            });
        }
    });
    assert_eq!(got.load(Ordering::Relaxed), 300);
    assert_eq!(admission.open(), Open::default());
}

#[test]
fn closing_ends_every_wait() {
    let admission = Admission::new(caps(1, 1, 10));
    assert!(admission.wait(11, Duration::MAX).is_none(), "there can never be room");
    let seat = admission.reserve(1);
    assert!(admission.wait(1, Duration::ZERO).is_none(), "the time is over");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| admission.wait(1, Duration::MAX).is_none());
        admission.close();
        assert_eq!(waits.join().ok(), Some(true));
    });
    drop(seat);
    assert!(admission.reserve(1).is_none());
}

#[derive(Clone, Debug)]
enum Act {
    Reserve(usize),
    Take(usize, u8),
    Move(usize, u8),
    DropSeat(usize),
    DropPermit(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0usize..40).prop_map(Act::Reserve),
        (any::<usize>(), 0u8..4).prop_map(|(n, source)| Act::Take(n, source)),
        (any::<usize>(), 0u8..4).prop_map(|(n, source)| Act::Move(n, source)),
        any::<usize>().prop_map(Act::DropSeat),
        any::<usize>().prop_map(Act::DropPermit),
    ]
}

/// Source 0 is not counted.
fn source(n: u8) -> Source {
    if n == 0 { Source::Uncounted } else { v4(n) }
}

fn of_source(permits: &[(Permit, usize, u8)], wanted: u8) -> usize {
    permits.iter().filter(|(_, _, source)| *source == wanted).count()
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn counts_are_those_of_the_lists_after_any_order_of_drops(acts in prop::collection::vec(act(), 0..120)) {
        let caps = caps(12, 3, 200);
        let admission = Admission::new(caps);
        let mut seats: Vec<(Seat, usize)> = Vec::new();
        let mut permits: Vec<(Permit, usize, u8)> = Vec::new();
        for act in acts {
            let connections = seats.len() + permits.len();
            let bytes: usize = seats.iter().map(|s| s.1).chain(permits.iter().map(|p| p.1)).sum();
            match act {
                Act::Reserve(cost) => {
                    let seat = admission.reserve(cost);
                    prop_assert_eq!(seat.is_some(), connections < 12 && bytes + cost <= 200);
                    seats.extend(seat.map(|seat| (seat, cost)));
                }
                Act::Take(n, from) if !seats.is_empty() => {
                    let (seat, cost) = seats.swap_remove(n % seats.len());
                    match seat.take(source(from)) {
                        Verdict::Refused => prop_assert!(from != 0 && of_source(&permits, from) == 3),
                        verdict => {
                            // Seats are nobody yet.
                            let taken: usize = permits.iter().map(|p| p.1).sum();
                            let (connections, bytes) = (permits.len() + 1, taken + cost);
                            let soft = connections > caps.soft(12) || bytes > caps.soft(200);
                            prop_assert_eq!(matches!(verdict, Verdict::Overloaded(_)), soft);
                            permits.push((permit(verdict), cost, from));
                        }
                    }
                }
                Act::Move(n, to) if !permits.is_empty() => {
                    let n = n % permits.len();
                    let may = to == 0 || to == permits[n].2 || of_source(&permits, to) < 3;
                    prop_assert_eq!(permits[n].0.move_to(source(to)), may);
                    if may {
                        permits[n].2 = to;
                    }
                }
                Act::DropSeat(n) if !seats.is_empty() => drop(seats.swap_remove(n % seats.len())),
                Act::DropPermit(n) if !permits.is_empty() => drop(permits.swap_remove(n % permits.len())),
                _ => {}
            }
            let mut sources: Vec<_> = permits.iter().map(|p| p.2).filter(|&source| source != 0).collect();
            sources.sort_unstable();
            sources.dedup();
            let bytes = seats.iter().map(|s| s.1).chain(permits.iter().map(|p| p.1)).sum();
            let open = Open { connections: seats.len() + permits.len(), bytes, sources: sources.len() };
            prop_assert_eq!(admission.open(), open);
        }
        drop((seats, permits));
        prop_assert_eq!(admission.open(), Open::default());
    }
}

#[test]
fn an_acceptor_that_only_looks_makes_nobody_overloaded() {
    let admission = Admission::new(Caps { connections: 10, soft_percent: 20, ..Caps::default() });
    let take = || admission.reserve(1).expect("room").take(Source::Uncounted);
    let Verdict::Admitted(_first) = take() else { panic!("the first of two") };
    let looks: Vec<_> = (0..3).map(|_| admission.reserve(1).expect("room")).collect();
    let Verdict::Admitted(_second) = take() else { panic!("the second of two") };
    drop(looks);
    assert!(matches!(take(), Verdict::Overloaded(_)));
}
