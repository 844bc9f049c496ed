//! The loop over the model of a kernel: DRV-01, 02, 05, 06, 09, 10, 11.

use super::*;
use crate::connection::QUOTA;
use crate::worker::Loop;
use vestibule::Limits;

type Worker = Loop<Fake, Street>;

const QUIET: Habits = Habits { buffers: 16, buffer_bytes: 2048, zero_copy: false, nasty: false };

fn worker(seed: u64, habits: Habits, cap: usize) -> Worker {
    let time = Rc::new(Cell::new(1));
    let street = Street {
        config: Arc::new(Config::new(Limits::DEFAULT)),
        time: time.clone(),
        cap,
        open: 0,
        stopping: false,
        replaced: false,
        out_of_grace: false,
        left: false,
        lines: 0,
        log: Rc::default(),
    };
    Loop::new(Fake::new(seed, habits, time), street, 1)
}

/// Until that is so; each round is bounded, and so are they all.
fn until(worker: &mut Worker, what: &str, mut so: impl FnMut(&Worker) -> bool) {
    for _ in 0..200_000 {
        if so(worker) {
            return;
        }
        assert!(worker.round().expect("a model") || so(worker), "the loop has ended before: {what}");
    }
    panic!("never: {what}");
}

/// Everything is back where it began.
fn at_rest(worker: &mut Worker, connections: usize) {
    assert_eq!((worker.len(), worker.kernel.closed), (0, connections));
    assert_eq!((worker.kernel.lent(), worker.buffers.out()), (0, 0), "buffers of the ring, storages");
    worker.house.stopping = true;
    until(worker, "the end", |worker| worker.kernel.in_flight() == 0);
    while worker.round().expect("a model") {}
}

/// Requests of all kinds, one behind the other; the last one says that it is.
fn script(dice: &mut Dice, requests: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..requests {
        let body: Vec<u8> = (0..[0, 5, 900, 20_000, 45_000][dice.below(5)]).map(|i| b'a' + (i % 26) as u8).collect();
        let path = ["/", "/whole/50000", "/echo", "/manual", "/sized/30000", "/chunked", "/inform"][dice.below(7)];
        let filler = "x".repeat([0, 10, 3000][dice.below(3)]);
        wire.extend(format!("POST {path} HTTP/1.1\r\nhost: a\r\nx: {filler}\r\n").as_bytes());
        if dice.one_in(2) {
            wire.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            wire.extend(&body);
        } else {
            wire.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in body.chunks(1 + dice.below(9000)) {
                wire.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
        }
    }
    wire.extend(b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    wire
}

/// The same bytes through one plain inbox.
fn plainly(wire: &[u8]) -> Vec<u8> {
    let config = Arc::new(Config::new(Limits::DEFAULT));
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; config.inbox_bytes()]), Outbox::new(vec![0; 16_384]));
    let mut model = Model::new(config, Instant::ZERO, Rc::default());
    let (mut rest, mut sent) = (wire, Vec::new());
    loop {
        let n = inbox.fill(rest);
        rest = &rest[n..];
        if rest.is_empty() {
            inbox.end();
        }
        let next = model.turn(Instant::ZERO, &mut inbox, &mut outbox);
        sent.extend_from_slice(outbox.ready());
        outbox.wrote(usize::MAX);
        if let Next::Close(_) = next {
            return sent;
        }
    }
}

fn peer(wire: &[u8]) -> Peer {
    Peer { says: wire.iter().copied().collect(), ..Peer::default() }
}

/// DRV-05, 09, 11: short sends, interrupts, completions in any order and late, multishots that end by themselves, cancellations that
/// come too late, few buffers.
#[test]
fn whatever_the_kernel_does_every_byte_is_answered_as_through_a_plain_inbox() {
    for seed in 1..40 {
        let mut dice = Dice(seed);
        let habits = Habits {
            buffers: [1, 2, 8, 64][dice.below(4)],
            buffer_bytes: [64, 512, 2048, 16_384][dice.below(4)],
            zero_copy: dice.one_in(2),
            nasty: true,
        };
        let scripts: Vec<_> = (0..6).map(|_| script(&mut dice, 5)).collect();
        let mut worker = worker(seed, habits, 100);
        for script in &scripts {
            worker.kernel.knock(peer(script));
        }
        until(&mut worker, "all are served", |worker| worker.kernel.closed == 6);
        for (peer, script) in worker.kernel.peers.iter().zip(&scripts) {
            let expected = plainly(script);
            assert!(peer.heard == expected, "seed {seed}: {} bytes for {}", peer.heard.len(), expected.len());
        }
        assert!(worker.house.log.borrow().iter().all(|how| *how == How::Closed), "seed {seed}");
        at_rest(&mut worker, 6);
    }
}

/// DRV-10: one that sends and does not read, and a hundred that do as they should.
#[test]
fn a_hog_holds_no_more_than_its_share_and_is_not_closed_for_it() {
    for hogs in [1, 40] {
        let mut worker = worker(7, QUIET, 1000);
        worker.kernel.jump = Duration::from_millis(1); // nobody's patience ends
        let request = b"GET /sized/3000 HTTP/1.1\r\nhost: a\r\n\r\n".repeat(4000);
        for _ in 0..hogs {
            worker.kernel.knock(Peer { holds: true, stays: true, ..peer(&request) });
        }
        for _ in 0..200 {
            worker.round().expect("a model");
        }
        let held = worker.kernel.lent();
        assert!(held <= QUOTA + (hogs - 1).min(8), "{hogs} hogs hold {held} of 16");
        let left = worker.kernel.peers[0].says.len();
        assert!(left > 0, "the hog was read to its end");
        let quiet = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello".repeat(3);
        for _ in 0..100 {
            worker.kernel.knock(peer(&quiet));
        }
        until(&mut worker, "the quiet ones are served", |worker| worker.kernel.closed == 100);
        let expected = plainly(&quiet);
        assert!(worker.kernel.peers[hogs..].iter().all(|peer| peer.heard == expected));
        assert_eq!(worker.len(), hogs, "exhaustion closed somebody");
        for peer in &mut worker.kernel.peers[..hogs] {
            (peer.holds, peer.stays) = (false, false);
        }
        until(&mut worker, "the hogs are served", |worker| worker.kernel.closed == 100 + hogs);
        let expected = plainly(&request);
        assert!(worker.kernel.peers[..hogs].iter().all(|peer| peer.heard == expected));
        assert!(worker.kernel.exhausted > 0, "the ring was never empty: this test shows nothing");
        at_rest(&mut worker, 100 + hogs);
    }
}

/// DRV-06: in the same turn, with whatever is in flight.
#[test]
fn who_resets_leaves_nothing_behind() {
    for seed in 1..40 {
        let mut dice = Dice(seed);
        let habits = Habits { nasty: true, zero_copy: dice.one_in(2), ..QUIET };
        let mut worker = worker(seed, habits, 100);
        for _ in 0..20 {
            let mut wire = script(&mut dice, 4);
            wire.truncate(dice.below(wire.len()));
            worker.kernel.knock(Peer { resets: true, ..peer(&wire) });
        }
        until(&mut worker, "all are gone", |worker| worker.kernel.closed == 20);
        assert_eq!(worker.house.log.borrow().len(), 20);
        at_rest(&mut worker, 20);
    }
}

/// A reader that does not read is not waited for longer than the rate allows, though the machine counts a send in flight as sent.
#[test]
fn who_never_reads_is_cut_off() {
    let mut worker = worker(3, QUIET, 10);
    let wire = b"GET /sized/900000 HTTP/1.1\r\nhost: a\r\n\r\n";
    worker.kernel.knock(Peer { holds: true, stays: true, ..peer(wire) });
    until(&mut worker, "it is cut off", |worker| worker.kernel.closed == 1);
    let waited = Duration::from_nanos(worker.house.time.get());
    assert!((Duration::from_secs(5)..Duration::from_secs(100)).contains(&waited), "{waited:?}");
    at_rest(&mut worker, 1);
}

/// DRV-01.
#[test]
fn without_descriptors_accepting_is_tried_seldom_and_then_goes_on() {
    let mut worker = worker(5, QUIET, 10);
    worker.kernel.no_descriptors = 10_000;
    worker.kernel.knock(peer(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    until(&mut worker, "it is served", |worker| worker.kernel.closed == 1);
    let seconds = worker.house.time.get() as usize / 1_000_000_000;
    assert!(worker.kernel.accepts >= 10_000);
    assert!(worker.kernel.accepts <= 10 * seconds, "{} accepts in {seconds} s", worker.kernel.accepts);
    assert!(worker.house.lines <= 1 + seconds / 5, "{} lines in {seconds} s", worker.house.lines);
    assert!(worker.kernel.peers[0].heard.starts_with(b"HTTP/1.1 200 OK"));
}

/// DRV-02: those that were accepted before the accept could be called back wait for room, and nobody is refused.
#[test]
fn beyond_the_cap_connections_wait() {
    let mut worker = worker(11, QUIET, 3);
    for _ in 0..50 {
        worker.kernel.knock(peer(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    }
    until(&mut worker, "all are served", |worker| {
        assert!(worker.len() <= 3);
        worker.kernel.closed == 50
    });
    assert!(worker.kernel.peers.iter().all(|peer| peer.heard.starts_with(b"HTTP/1.1 200 OK")));
    at_rest(&mut worker, 50);
}

#[test]
fn a_stop_answers_what_has_arrived_and_leaves_idle_ones_alone() {
    for seed in 1..20 {
        let mut worker = worker(seed, Habits { nasty: true, ..QUIET }, 100);
        for _ in 0..10 {
            worker.kernel.knock(Peer { stays: true, ..peer(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n") });
            worker.kernel.knock(Peer { stays: true, ..Peer::default() });
        }
        until(&mut worker, "all are open", |worker| worker.len() == 20);
        until(&mut worker, "all is said", |worker| worker.kernel.peers.iter().all(|peer| peer.says.is_empty()));
        worker.house.stopping = true;
        while worker.round().expect("a model") {}
        let answered = worker.kernel.peers.iter().filter(|peer| peer.heard.starts_with(b"HTTP/1.1 200 OK")).count();
        assert_eq!((answered, worker.kernel.closed, worker.kernel.in_flight()), (10, 20, 0), "seed {seed}");
        assert_eq!((worker.kernel.lent(), worker.buffers.out()), (0, 0));
    }
}

/// Whose worker another one follows has done nothing wrong: its first request is answered, whenever it comes.
#[test]
fn who_has_said_nothing_yet_outlives_the_place_of_its_worker() {
    let mut worker = worker(13, QUIET, 3);
    for _ in 0..5 {
        worker.kernel.knock(Peer { stays: true, ..Peer::default() });
    }
    until(&mut worker, "as many as may be are open", |worker| worker.len() == 3);
    worker.kernel.jump = Duration::from_millis(1);
    (worker.house.stopping, worker.house.replaced) = (true, true);
    for _ in 0..20 {
        assert!(worker.round().expect("a model"));
    }
    assert_eq!(worker.len(), 3);
    for peer in &mut worker.kernel.peers {
        peer.says.extend(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
        peer.stays = false;
    }
    while worker.round().expect("a model") {}
    assert!(worker.kernel.peers.iter().all(|peer| peer.heard.starts_with(b"HTTP/1.1 200 OK")));
    assert_eq!((worker.kernel.closed, worker.kernel.in_flight(), worker.kernel.lent()), (5, 0, 0));
}

/// The kernel may wake an accept for a caller while it is being called back: no other worker knows of that one.
#[test]
fn who_woke_an_accept_in_vain_is_accepted_after_all() {
    for seed in 1..40 {
        let mut worker = worker(seed, QUIET, 10);
        (worker.house.stopping, worker.house.replaced) = (true, true);
        assert!(worker.round().expect("a model"), "it listens, and calls that back");
        worker.kernel.knock(peer(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n"));
        while worker.round().expect("a model") {}
        assert!(worker.kernel.peers[0].heard.starts_with(b"HTTP/1.1 200 OK"), "seed {seed}");
        assert_eq!((worker.kernel.closed, worker.kernel.in_flight(), worker.house.left), (1, 0, true));
    }
}

/// DRV-11: whatever is in flight when the grace is over completes before its connection is closed.
#[test]
fn when_the_grace_is_over_everything_is_called_back() {
    for seed in 1..40 {
        let mut dice = Dice(seed);
        let habits = Habits { nasty: true, zero_copy: dice.one_in(2), ..QUIET };
        let mut worker = worker(seed, habits, 100);
        for number in 0..10 {
            let wire = script(&mut dice, 6);
            worker.kernel.knock(Peer { holds: number % 2 == 0, stays: true, ..peer(&wire) });
        }
        for _ in 0..5 + dice.below(60) {
            worker.round().expect("a model");
        }
        worker.house.stopping = true;
        worker.round().expect("a model");
        worker.house.out_of_grace = true;
        let mut rounds = 0;
        while worker.round().expect("a model") {
            rounds += 1;
            assert!(rounds < 1000, "seed {seed}: {} in flight", worker.kernel.in_flight());
        }
        assert_eq!((worker.kernel.in_flight(), worker.kernel.lent(), worker.buffers.out()), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn a_large_body_is_received_where_it_is_needed() {
    let body = "y".repeat(39_000);
    let wire = format!(
        "POST /whole/60000 HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut worker = worker(2, QUIET, 10);
    // What comes first is little, so that the rest is known to be much.
    let first = wire.len() - 36_000;
    worker.kernel.knock(Peer { stays: true, ..peer(&wire.as_bytes()[..first]) });
    until(&mut worker, "the head is read", |worker| worker.kernel.peers[0].says.is_empty());
    let fills = |worker: &Worker| worker.kernel.flights.values().any(|f| matches!(f.what, What::Fill(_)));
    until(&mut worker, "the rest is asked for", fills);
    worker.kernel.peers[0].says.extend(&wire.as_bytes()[first..]);
    until(&mut worker, "it is served", |worker| worker.kernel.closed == 1 || worker.kernel.peers[0].heard_end);
    assert!(worker.kernel.peers[0].heard == plainly(wire.as_bytes()));
    worker.kernel.peers[0].stays = false;
    until(&mut worker, "it is closed", |worker| worker.kernel.closed == 1);
    at_rest(&mut worker, 1);
}
