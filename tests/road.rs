//! Promises of the road that no transcript shows: deadlines, what is waited for, what is kept.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Limit, Limits, Outbox, Pause, Wait, Why};

/// A connection and its buffers.
struct Rig {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
}

impl Rig {
    fn new(limits: Limits, inbox_bytes: usize) -> Rig {
        Rig {
            connection: Connection::new(Arc::new(Config::new(limits)), Instant::ZERO),
            inbox: Inbox::new(vec![0; inbox_bytes]),
            outbox: Outbox::new(vec![0; 4096]),
        }
    }

    fn turn(&mut self, millis: u64, input: &[u8], mut handler: impl FnMut(Event<'_>)) -> Pause {
        assert_eq!(self.inbox.fill(input), input.len());
        let now = Instant::from_millis(millis);
        let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).unwrap();
        while let Some(event) = turn.next() {
            handler(event);
        }
        turn.finish()
    }

    fn send(&mut self) -> String {
        let text = self.outbox.ready().escape_ascii().to_string();
        self.outbox.wrote(self.outbox.ready().len());
        text
    }

    fn deadline(&self) -> Option<(u64, Why)> {
        self.connection.deadline().map(|d| (d.at.as_nanos() / 1_000_000, d.why))
    }
}

const GET: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn no_deadline_runs_while_the_handler_is_waited_for() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    assert!(matches!(rig.turn(0, GET, |_| {}), Pause::Caller(Wait::Reply(_))));
    assert_eq!(rig.deadline(), None, "nothing would happen then: a caller who keeps deadlines would turn in circles");
    assert!(matches!(rig.turn(60_000, b"", |_| {}), Pause::Caller(Wait::Reply(_))));
    assert_eq!(rig.deadline(), None);
}

#[test]
fn only_the_readers_deadline_runs_while_there_is_no_room() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let answer = |event: Event<'_>| {
        if let Event::Request(mut request) = event {
            request.reply.respond(200, &[], Content::Whole(&[b'x'; 3000])).unwrap();
        }
    };
    assert_eq!(rig.turn(0, GET, answer), Pause::Room);
    assert_eq!(rig.deadline().map(|d| d.1), Some(Why::Write));
    rig.send();
    assert_eq!(rig.turn(40_000, b"", |_| {}), Pause::Input { want: 1 }, "it was busy reading, not idle");
    assert_eq!(rig.deadline(), Some((70_000, Why::Idle)));
}

#[test]
fn a_reader_that_was_fast_once_may_not_stall_for_ever() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let _ = rig.turn(0, GET, |event| {
        if let Event::Request(mut request) = event {
            request.reply.respond(200, &[], Content::Sized(1 << 40)).unwrap();
            request.reply.write(&[0; 4096]).unwrap();
        }
    });
    // More than a megabyte every millisecond, but never is the outbox seen empty.
    for millis in 1..1000 {
        for _ in 0..300 {
            rig.outbox.wrote(rig.outbox.ready().len() - 1);
            let _ = rig.turn(millis, b"", |event| {
                if let Event::Writable(mut reply) = event {
                    reply.write(&[0; 4096]).unwrap();
                }
            });
        }
    }
    let (at, why) = rig.deadline().unwrap();
    assert_eq!(why, Why::Write);
    assert!(at < 1000 + 5000 + 18_000 + 5000, "{at} ms: the grace and what 4 KiB may take");
}

#[test]
fn a_connection_that_never_lingers_does_not_ask_for_a_turn_at_once() {
    let mut rig = Rig::new(Limits::DEFAULT.with(Limit::LingerMs, 0).unwrap(), 4096);
    let _ = rig.turn(7, b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", |event| {
        if let Event::Request(mut request) = event {
            request.reply.text(200, "x").unwrap();
        }
    });
    assert_eq!(rig.deadline(), Some((107, Why::Linger)), "the answer is still unsent");
    rig.send();
    assert_eq!(rig.turn(8, b"", |_| {}), Pause::Closed);
}

#[test]
fn no_more_is_wanted_than_the_inbox_can_hold() {
    let mut rig = Rig::new(Limits::DEFAULT, 128);
    let pause = rig.turn(0, b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n", |event| {
        if let Event::Request(mut request) = event {
            request.reply.expect(Expect::Whole { max: 100_000 });
        }
    });
    assert_eq!(pause, Pause::Input { want: 128 });
}

#[test]
fn an_early_answer_in_json_ends_the_connection_as_any_other() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let _ = rig.turn(0, b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n", |event| {
        if let Event::Request(mut request) = event {
            request.reply.json(400, &5).unwrap();
        }
    });
    assert!(rig.send().contains("connection: close"));
}

#[test]
fn the_query_of_an_absolute_target_without_a_path() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let mut seen = false;
    let _ = rig.turn(0, b"GET http://a?x=1 HTTP/1.1\r\nhost: a\r\n\r\n", |event| {
        if let Event::Request(request) = event {
            assert_eq!((request.head.path(), request.head.query()), ("/", Some("x=1")));
            seen = true;
        }
    });
    assert!(seen);
}

#[test]
fn what_a_job_brings_back_too_late_is_not_kept() {
    const CODED: &[u8] =
        b"\x1F\x8B\x08\x00\x00\x00\x00\x00\x02\xFF\xCBH\xCD\xC9\xC9\x07\x00\x86\xA6\x106\x05\x00\x00\x00";
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let fresh = rig.connection.retained_bytes();
    let head = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 25\r\n\r\n";
    let mut id = None;
    let pause = rig.turn(0, &[head, CODED].concat(), |event| {
        if let Event::Request(mut request) = event {
            id = Some(request.reply.id());
            request.reply.expect(Expect::WholeByJob { max: 100 });
        }
    });
    assert_eq!(pause, Pause::Caller(Wait::Job));
    let mut turn = rig.connection.turn(Instant::ZERO, &mut rig.inbox, &mut rig.outbox).unwrap();
    let job = turn.job().unwrap();
    turn.reply(id.unwrap()).unwrap().text(200, "never mind").unwrap();
    assert!(turn.next().is_none());
    assert!(!turn.done(job.run()));
    assert_eq!(turn.finish(), Pause::Input { want: 1 });
    rig.connection.shed();
    assert_eq!(rig.connection.retained_bytes(), fresh);
}

#[test]
fn a_connection_that_is_over_keeps_nothing() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let fresh = rig.connection.retained_bytes();
    let head = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 25\r\n\r\n";
    let _ = rig.turn(0, &[&head[..], b"no gzip"].concat(), |_| {});
    assert_eq!(rig.connection.retained_bytes(), fresh);
}

#[test]
fn a_response_that_was_given_whole_is_complete_with_its_last_byte() {
    let mut rig = Rig::new(Limits::DEFAULT, 4096);
    let (body, mut at, mut requests, mut sent) = ([b'q'; 10_000], 0, 0, String::new());
    let mut input = [GET, GET].concat();
    for _ in 0..10 {
        let _ = rig.turn(0, &core::mem::take(&mut input), |event| match event {
            Event::Request(mut request) => {
                requests += 1;
                at = request.reply.respond(200, &[], Content::Whole(&body)).unwrap();
            }
            Event::Writable(mut reply) => at += reply.write(&body[at..]).unwrap(),
            _ => {}
        });
        sent += &rig.send();
    }
    assert_eq!(requests, 2);
    assert_eq!(sent.matches('q').count(), 20_000);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..Default::default() })]

    /// P-9: what we send in chunks, with trailers, is what we receive.
    #[test]
    fn chunks_sent_are_chunks_received(parts in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), 0..6)) {
        use vestibule::parse::h1::{Item, Receiver};
        let mut connection = Connection::new(Arc::new(Config::new(Limits::DEFAULT)), Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4_096]), Outbox::new(vec![0; 8_192]));
        inbox.fill(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        let Some(Event::Request(mut q)) = turn.next() else { panic!("a request") };
        q.reply.respond(200, &[], Content::Streamed).unwrap();
        for part in &parts {
            proptest::prop_assert_eq!(q.reply.write(part).unwrap(), part.len());
        }
        q.reply.trailers(&[("x-sum", "1")]).unwrap();
        let _ = turn.finish();
        let sent = outbox.ready();
        let head = sent.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let wire = [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", &sent[head..]].concat();
        let (mut receiver, mut rest, mut body) = (Receiver::new(), &wire[..], vec![]);
        loop {
            match receiver.step(rest, &Limits::DEFAULT).unwrap() {
                Item::Head { spans, .. } => rest = &rest[spans.len as usize..],
                Item::Skip { len } => rest = &rest[len..],
                Item::Data { len, .. } => {
                    body.extend_from_slice(&rest[..len]);
                    receiver.took(len);
                    rest = &rest[len..];
                }
                Item::Trailers { fields, len } => {
                    proptest::prop_assert_eq!(fields.of(rest), b"x-sum: 1\r\n");
                    rest = &rest[len..];
                }
                Item::Done => break,
                other => panic!("{other:?}"),
            }
        }
        proptest::prop_assert_eq!(body, parts.concat());
        proptest::prop_assert!(rest.is_empty());
    }
}

#[test]
fn a_connection_that_retires_waits_for_a_request_that_may_be_on_its_way_and_answers_it_last() {
    let config = Config::new(Limits::DEFAULT);
    let mut connection = Connection::new(&config, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4096]), Outbox::new(vec![0; 4096]));
    let mut go = |connection: &mut Connection<&Config>, bytes: &[u8]| {
        inbox.fill(bytes);
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).expect("its buffers");
        while let Some(event) = turn.next() {
            if let Event::Request(mut request) = event {
                request.reply.text(200, "hi").expect("room");
            }
        }
        let pause = turn.finish();
        let said = String::from_utf8_lossy(outbox.ready()).into_owned();
        outbox.wrote(said.len());
        (pause, said.contains("connection: close"))
    };
    let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(go(&mut connection, get), (Pause::Input { want: 1 }, false));
    connection.retire();
    assert_eq!(go(&mut connection, b""), (Pause::Input { want: 1 }, false), "idle, and still open");
    assert!(go(&mut connection, get).1, "its last answer says so");
    assert_eq!(connection.end(), Some(vestibule::End::Ours));
}
