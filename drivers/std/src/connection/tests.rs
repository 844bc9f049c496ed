//! The connection against a socket that is a model: what a kernel may do, in an order that a seed decides. No clock, no thread.

#![allow(clippy::unwrap_used)]

mod model;
mod talk;

use super::*;
use model::{Model, Trouble};
use std::sync::{Arc, Mutex};
use talk::{Echo, FAILED, OK, contents, conversation, conversation_h2, streams};
use vestibule::{Content, Event, Limit, Limits, Misuse};
use vestibule_driver::{Key, Rehearsal, Service};

/// Lanes of a service, and what its log was told.
struct Stage {
    rehearsal: Rehearsal,
    said: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    fn new<S: Service + Send + 'static>(limits: Limits, service: impl Fn() -> S + Send + Sync + 'static) -> Stage {
        let said = Arc::new(Mutex::new(Vec::new()));
        let log = said.clone();
        let server = crate::Server::builder()
            .http("127.0.0.1:0".parse().unwrap())
            .limits(limits)
            .service(move |_| service())
            .on_fault(move |incident| log.lock().unwrap().push(format!("{:?}", incident.what)))
            .bind()
            .unwrap();
        Stage { rehearsal: server.rehearse(), said }
    }

    fn open(&self, model: Model) -> Connection<Model> {
        Connection::new(self.rehearsal.lane(0, Key::from_bits(0)).unwrap(), model)
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.lock().unwrap())
    }
}

/// Room enough for what a service gives back at once; and the chunks of an answer are always the same.
fn wide() -> Buffers {
    Buffers::new(131_072, 131_072)
}

/// Serves one connection to its end, as the worker's loop would; every storage has to come back.
fn play(stage: &Stage, model: Model) -> (Model, How) {
    let mut buffers = wide();
    let mut connection = stage.open(model);
    let how = drive(stage, &mut connection, &mut buffers);
    let model = connection.end(how, &mut buffers);
    assert_eq!((buffers.out(), stage.rehearsal.handle().open()), (0, 0));
    (model, how)
}

/// Ready, served; ready again. When the socket has nothing to tell, the time passes to the next deadline.
fn drive(stage: &Stage, connection: &mut Connection<Model>, buffers: &mut Buffers) -> How {
    let mut now = stage.rehearsal.shared().now();
    for _ in 0..1_000_000 {
        let before = connection.wire.calls;
        let stand = connection.go_on(now, buffers);
        // DRV-06: no share of a connection's without an end.
        assert!(connection.wire.calls - before < 2_000, "too many calls in one go");
        match stand {
            Stand::Over(how) => return how,
            Stand::GoesOn => {}
            Stand::Waits => {
                let ready = connection.wire.wait();
                let [readable, writable, hung_up, broken] = ready;
                connection.is_ready(readable, writable, hung_up, broken);
                if ready == [false; 4] {
                    // Nothing consumed, nothing produced, nothing to wait for: only the time goes on (DRV-06).
                    now = connection.lane.deadline().expect("a connection that waits for nothing for ever").max(now);
                }
            }
        }
    }
    panic!("it goes on for ever");
}

fn smooth(stage: &Stage, input: &[u8]) -> Model {
    let (model, how) = play(stage, Model::new(input, 0));
    assert_eq!((how, stage.said()), (How::Closed, Vec::new()));
    assert!(model.half_closed);
    model
}

/// DRV-05: every byte once and in order, whatever the kernel takes at a time; and after it has said that it takes none, nobody asks
/// again before it says that it does.
#[test]
fn short_writes_interruptions_and_late_readiness_change_nothing() {
    let (stage, input) = (Stage::new(Limits::DEFAULT, Echo::default), conversation());
    let reference = contents(&smooth(&stage, &input).output);
    assert_eq!(reference.iter().map(|r| r.1.len()).collect::<Vec<_>>(), [150_000, 200_000, 150_000]);
    for seed in 1..=100 {
        let (model, how) = play(&stage, Model::new(&input, seed));
        assert_eq!((how, stage.said()), (How::Closed, Vec::new()), "seed {seed}");
        assert!(contents(&model.output) == reference, "seed {seed}");
        assert!(model.blocked_writes > 0 && model.half_closed, "seed {seed}");
    }
}

#[test]
fn nor_do_they_with_many_streams() {
    let (stage, input) = (Stage::new(Limits::DEFAULT, Echo::default), conversation_h2());
    let reference = streams(&smooth(&stage, &input).output);
    for (number, n) in [(1, 150_000), (3, 200_000), (5, 150_000), (7, 150_000)] {
        let talk::Stream { status, content, ended, reset } = &reference[&number];
        assert_eq!((*status, content.len(), *ended, *reset), (OK, n, true, false), "{number}");
    }
    for seed in 1..=100 {
        let (model, how) = play(&stage, Model::new(&input, seed));
        assert_eq!((how, stage.said()), (How::Closed, Vec::new()), "seed {seed}");
        assert!(streams(&model.output) == reference, "seed {seed}");
    }
}

/// DRV-05: a write that takes nothing of something means that the stream is closed; nobody tries for ever.
#[test]
fn a_write_of_nothing_ends_the_connection() {
    for input in [conversation(), conversation_h2()] {
        let stage = Stage::new(Limits::DEFAULT, Echo::default);
        let writes = smooth(&stage, &input).writes;
        for at in (0..writes).step_by((writes / 8).max(1) as usize) {
            let mut model = Model::new(&input, 0);
            model.trouble_at(at, Trouble::WriteOfNothing);
            let (model, how) = play(&stage, model);
            assert_eq!((how, stage.said(), model.writes), (How::Reset, Vec::new(), at + 1));
        }
    }
}

/// DRV-06: a reset at any call, of a read or a write, ends the connection at once and without a word.
#[test]
fn a_reset_at_any_call_ends_the_connection_at_once() {
    for (input, seed) in [(conversation(), 3), (conversation_h2(), 4)] {
        let stage = Stage::new(Limits::DEFAULT, Echo::default);
        let calls = play(&stage, Model::new(&input, seed)).0.calls;
        stage.said();
        for at in (0..calls).step_by(((calls / 200).max(1)) as usize) {
            let mut model = Model::new(&input, seed);
            model.reset_at = Some(at);
            let (model, how) = play(&stage, model);
            assert_eq!((how, stage.said(), model.calls), (How::Reset, Vec::new(), at + 1), "{at}");
        }
        assert_eq!(stage.rehearsal.handle().storages(), 0);
    }
}

/// DRV-06: wherever the peer ends, so does the connection, in time and with at most one line that says what was wrong.
#[test]
fn the_peer_may_end_anywhere() {
    for (input, dense) in [(conversation(), 120), (conversation_h2(), 200)] {
        let stage = Stage::new(Limits::DEFAULT, Echo::default);
        let points = (0..dense).chain((dense..input.len()).step_by(9973)).chain(input.len() - 60..=input.len());
        for cut in points {
            let (model, how) = play(&stage, Model::new(&input[..cut], 1 + cut as u64));
            let said = stage.said();
            assert!(how == How::Closed && said.len() <= 1, "{cut}: {how:?} {said:?}");
            assert!(model.half_closed, "{cut}");
        }
    }
}

/// DRV-07: the answer goes out, then the writing side closes, then a bounded rest is read.
#[test]
fn a_refused_body_is_read_for_a_while() {
    let mut input = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
    input.resize(2_000_000, b'x');
    let stage = Stage::new(Limits::DEFAULT, Echo::default);
    for seed in 0..40 {
        let (model, how) = play(&stage, Model::new(&input, seed));
        let said = stage.said();
        assert!(how == How::Closed && said.len() == 1 && said[0].contains("BodyTooLarge"), "{seed}: {how:?} {said:?}");
        assert!(model.output.starts_with(b"HTTP/1.1 413 ") && model.half_closed, "{seed}");
        // What the limit says, and what one more read brings at most.
        assert!(model.read_behind <= 2 * 65_536, "{seed}: read {} more", model.read_behind);
    }
}

/// An answer that nobody reads has its time, and then everything goes back.
#[test]
fn a_peer_that_takes_nothing_is_given_up() {
    for input in [conversation(), conversation_h2()] {
        let stage = Stage::new(Limits::DEFAULT, Echo::default);
        for writes in 0..4 {
            let mut model = Model::new(&input, 0);
            model.trouble_at(writes, Trouble::Blocked);
            let (model, _) = play(&stage, model);
            assert!(model.writes >= writes);
            assert!(stage.said().len() <= 1);
        }
    }
}

/// However turns and reads are cut, that is nobody's mistake.
#[test]
fn a_body_that_is_given_back_late_is_not_unanswered() {
    let input = talk::late();
    for (seed, units) in (0..=30).map(|seed| (seed, 256)).chain((1..=20).map(|units| (0, units))) {
        let limits = Limits::DEFAULT.with(Limit::TurnUnits, units).unwrap();
        let stage = Stage::new(limits, || talk::Batches(Vec::new()));
        let (model, _) = play(&stage, Model::new(&input, seed));
        assert_eq!(stage.said(), [""; 0], "{seed} {units}");
        let talk::Stream { status, content, ended, .. } = &streams(&model.output)[&1];
        assert_eq!((*status, content.len(), *ended), (OK, 65_539, true), "{seed} {units}");
    }
}

/// Plays it with a panic at each event in turn, beside a connection that is not touched.
fn panics(input: &[u8], check: impl Fn(u32, &Model, &Model)) {
    let calm = Stage::new(Limits::DEFAULT, Echo::default);
    let whole = smooth(&calm, input);
    let next = Arc::new(Mutex::new(None));
    let its = next.clone();
    // The first lane's service panics at this event, the sibling's does not.
    let stage = Stage::new(Limits::DEFAULT, move || Echo::new(its.lock().unwrap().take()));
    let mut panics = 0;
    for index in 0..1000 {
        let mut buffers = wide();
        *next.lock().unwrap() = Some(index);
        let mut connection = stage.open(Model::new(input, 0));
        let mut sibling = stage.open(Model::new(input, 7 + u64::from(index)));
        let mut now = stage.rehearsal.shared().now();
        let (mut ends, mut rounds) = ([None, None], 0);
        // In turns, the panicking one first: its service is the first that is made.
        while ends.contains(&None) {
            for (one, end) in [&mut connection, &mut sibling].into_iter().zip(&mut ends) {
                match end.is_some() {
                    true => {}
                    false => match one.go_on(now, &mut buffers) {
                        Stand::Over(how) => *end = Some(how),
                        Stand::GoesOn => {}
                        Stand::Waits => {
                            let ready = one.wire.wait();
                            let [readable, writable, hung_up, broken] = ready;
                            one.is_ready(readable, writable, hung_up, broken);
                            if ready == [false; 4] {
                                now = one.lane.deadline().unwrap().max(now);
                            }
                        }
                    },
                }
            }
            rounds += 1;
            assert!(rounds < 100_000);
        }
        let [how, its] = ends.map(Option::unwrap);
        let (model, sibling) = (connection.end(how, &mut buffers), sibling.end(its, &mut buffers));
        assert_eq!((buffers.out(), stage.rehearsal.handle().open()), (0, 0), "{index}");
        check(u32::MAX, &sibling, &whole);
        let said = stage.said();
        if said.is_empty() {
            break;
        }
        panics += 1;
        assert_eq!(said, ["Panic"], "{index}");
        assert!(model.half_closed, "{index}");
        check(index, &model, &whole);
    }
    assert!(panics > 5, "{panics}");
}

/// DRV-04: a panic at any event ends its connection, with 500 if nothing was said; siblings are not touched.
#[test]
fn a_panic_at_any_event_stays_inside_its_connection() {
    panics(&conversation(), |index, model, whole| {
        if index == u32::MAX {
            return assert!(contents(&model.output) == contents(&whole.output), "a sibling was touched");
        }
        let refused = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let before = model.output.strip_suffix(refused).unwrap_or(&model.output);
        assert!(whole.output.starts_with(before), "{index}");
        if index == 0 {
            assert_eq!(model.output, refused);
        }
    });
}

/// DRV-04, with many streams: what was begun is reset, what was not is refused with 500, what was complete stays so.
#[test]
fn a_panic_at_any_event_refuses_the_other_streams_too() {
    panics(&conversation_h2(), |index, model, whole| {
        let (got, reference) = (streams(&model.output), streams(&whole.output));
        if index == u32::MAX {
            return assert!(got == reference, "a sibling was touched");
        }
        assert_eq!(got[&0].content[4..], [0, 0, 0, 0], "{index}: GOAWAY with NO_ERROR");
        for (number, stream) in got.iter().filter(|s| *s.0 > 0) {
            let whole = &reference[number];
            match stream.status {
                OK if stream.ended => assert!(stream == whole, "{index}: {number}"),
                OK => assert!(stream.reset && whole.content.starts_with(&stream.content), "{index}: {number}"),
                status => {
                    assert_eq!((status, stream.ended, stream.content.len()), (FAILED, true, 0), "{index}: {number}")
                }
            }
        }
    });
}

/// A service that forgets to answer cannot hang its connection, nor the requests behind.
#[test]
fn an_exchange_without_an_answer_gets_500_and_a_half_given_one_the_end() {
    let input = b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nxGET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let stage = Stage::new(Limits::DEFAULT, || |_: Event<'_>| Ok(()));
    let (model, _) = play(&stage, Model::new(input, 0));
    assert_eq!(stage.said(), ["Unanswered", "Unanswered"]);
    let refused = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(model.output, [&refused[..], &refused[..]].concat());

    let stage = Stage::new(Limits::DEFAULT, || {
        |event: Event<'_>| -> Result<(), Misuse> {
            if let Event::Request(mut request) = event {
                request.reply.respond(200, &[], Content::Sized(10))?;
                request.reply.write(b"half")?;
            }
            Ok(())
        }
    });
    let (model, _) = play(&stage, Model::new(input, 0));
    assert_eq!(stage.said(), ["Unanswered"]);
    assert_eq!(model.output, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
}

/// A connection that is idle holds no storage, however it came to be idle.
#[test]
fn an_idle_connection_holds_no_storage() {
    let stage = Stage::new(Limits::DEFAULT, Echo::default);
    let mut buffers = stage.rehearsal.shared().buffers();
    for seed in 0..20 {
        let mut model = Model::new(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", seed);
        model.stays = true;
        let mut connection = stage.open(model);
        let now = stage.rehearsal.shared().now();
        loop {
            let stand = connection.go_on(now, &mut buffers);
            assert!(!matches!(stand, Stand::Over(_)), "{seed}");
            if stand == Stand::Waits {
                let ready = connection.wire.wait();
                let [readable, writable, hung_up, broken] = ready;
                if ready == [false; 4] {
                    break;
                }
                connection.is_ready(readable, writable, hung_up, broken);
            }
        }
        assert_eq!(contents(&connection.wire.output)[0].1.len(), 150_000, "{seed}");
        assert_eq!(buffers.out(), 0, "{seed}");
        assert_eq!(stage.rehearsal.handle().storages(), 0);
        connection.end(How::Closed, &mut buffers);
    }
}
