//! In: handlers that do what they may not do, or all they may. Out: one response that is whole, and the right misuse.

use std::collections::BTreeMap;

use vestibule::decode::coding::Coding;
use vestibule::{Config, Connection, Content, Event, Inbox, Instant, Limit, Limits, Misuse, Outbox, Reply};

use super::app::{Answer, How};
use super::client::Client;
use super::road::{ALL, Got, ask, both, get, limit, lines, read_h1, read_h2};
use super::{noise, text};

const TYPE: [(&str, &str); 1] = [("content-type", "text/plain")];

/// One exchange, by a handler that is a function: of its request (`None`) and of every `Writable`.
struct One<F> {
    connection: Connection<&'static Config>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    handler: F,
}

impl<F: FnMut(bool, Reply<'_>)> One<F> {
    fn new(config: Config, outbox: usize, handler: F) -> One<F> {
        let config: &'static Config = Box::leak(Box::new(config));
        One {
            inbox: Inbox::new(vec![0; config.inbox_bytes()]),
            outbox: Outbox::new(vec![0; outbox.max(config.least_outbox_bytes())]),
            connection: Connection::new(config, Instant::ZERO),
            handler,
        }
    }

    fn turn(&mut self, input: &[u8]) -> Vec<u8> {
        assert_eq!(self.inbox.fill(input), input.len());
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).unwrap();
        while let Some(event) = turn.next() {
            match event {
                Event::Request(request) => (self.handler)(true, request.reply),
                Event::Writable(reply) => (self.handler)(false, reply),
                _ => {}
            }
        }
        let _ = turn.finish();
        let sent = self.outbox.ready().to_vec();
        self.outbox.wrote(sent.len());
        sent
    }

    fn h1(&mut self, accept: &str) -> Got {
        let (mut sent, mut idle) = (self.turn(&get("/", accept)), 0);
        while idle < 3 {
            let more = self.turn(b"");
            idle = if more.is_empty() { idle + 1 } else { 0 };
            sent.extend_from_slice(&more);
        }
        read_h1(&sent, &["GET"]).remove(0)
    }

    fn h2(&mut self, accept: &str, window: i64) -> Got {
        let mut client = Client::new(1, window);
        let stream = client.request(&lines("GET", "/", accept), None, &[]);
        let mut idle = 0;
        while idle < 5 {
            let input: Vec<u8> = client.out.drain(..).collect();
            let output = self.turn(&input);
            idle = if output.is_empty() { idle + 1 } else { 0 };
            client.read(&output);
        }
        read_h2(&client, stream)
    }
}

fn coding(limits: Limits) -> Config {
    Config::new(limits).with_response_codings(ALL)
}

#[test]
fn a_second_answer_is_refused_and_the_first_one_stays_as_it_is() {
    let first = noise(60_000);
    for how in [How::Whole, How::Text, How::Streamed, How::Sized] {
        let content = if how == How::Text { noise(5_000) } else { first.clone() };
        let run = |h2: bool| {
            let (content, mut at) = (content.clone(), 0);
            let handler = move |is_request: bool, mut reply: Reply<'_>| {
                let bytes = content.as_bytes();
                if is_request {
                    let whole = match how {
                        How::Whole => Content::Whole(bytes),
                        How::Sized => Content::Sized(bytes.len() as u64),
                        _ => Content::Streamed,
                    };
                    match how {
                        How::Text => reply.text(200, &content).map(|()| at = bytes.len()).unwrap(),
                        _ => at = reply.respond(200, &TYPE, whole).unwrap(),
                    }
                }
                if at < bytes.len() {
                    at += reply.write(&bytes[at..]).unwrap();
                }
                // What a second attempt may not touch is still staged.
                let other = text(3_000);
                let again = reply.respond(500, &TYPE, Content::Whole(other.as_bytes()));
                assert!(matches!(again, Err(Misuse::AlreadyAnswered | Misuse::Gone)), "{again:?}");
                let again = reply.respond(500, &TYPE, Content::Streamed);
                assert!(matches!(again, Err(Misuse::AlreadyAnswered | Misuse::Gone)), "{again:?}");
                assert!(reply.text(500, &other).is_err() && reply.json(500, &other).is_err());
                assert!(reply.inform(103, &[]).is_err() && reply.upgrade("x", &[]).is_err());
                if at == bytes.len() && matches!(how, How::Streamed | How::Sized) {
                    let _ = reply.finish();
                }
            };
            let mut one = One::new(coding(Limits::DEFAULT), 4_000, handler);
            if h2 { one.h2("gzip", 1 << 20) } else { one.h1("gzip") }
        };
        for got in [run(false), run(true)] {
            assert!(got.complete && got.status == 200, "{how:?}");
            assert!(got.plain() == content.as_bytes(), "{how:?}: {} of {}", got.plain().len(), content.len());
        }
    }
}

#[test]
fn trailers_behind_coded_content_keep_to_the_limits_of_fields_at_once() {
    let long = "v".repeat(100);
    for h2 in [false, true] {
        let long = long.clone();
        let handler = move |is_request: bool, mut reply: Reply<'_>| {
            if is_request {
                reply.respond(200, &TYPE, Content::Streamed).unwrap();
                reply.write(text(1_000).as_bytes()).unwrap();
                assert_eq!(reply.trailers(&[("x-long", &long)]), Err(Misuse::HeadTooLarge));
                assert_eq!(reply.trailers(&[("x-long", "short")]), Ok(()));
            }
        };
        let mut one = One::new(coding(limit(Limit::FieldValueBytes, 64)), 16_384, handler);
        let got = if h2 { one.h2("gzip", 65_535) } else { one.h1("gzip") };
        assert!(got.complete && got.plain() == text(1_000).as_bytes());
        assert_eq!(got.trailers.len(), 1);
    }
}

#[test]
fn the_end_of_content_needs_no_window() {
    let content = noise(3_000);
    let run = |window: i64, outbox: usize| {
        let content = content.clone();
        let handler = move |is_request: bool, mut reply: Reply<'_>| {
            if is_request {
                reply.respond(200, &TYPE, Content::Streamed).unwrap();
                assert_eq!(reply.write(content.as_bytes()), Ok(content.len()));
                reply.trailers(&[("x-long", &"t".repeat(700))]).unwrap();
            }
        };
        One::new(coding(Limits::DEFAULT), outbox, handler).h2("gzip", window)
    };
    let wide = run(65_535, 16_384);
    assert!(wide.complete && wide.plain() == content.as_bytes() && wide.trailers.len() == 1);
    let all = wide.body.len();
    for outbox in (all..all + 2_000).step_by(16) {
        let got = run(all as i64, outbox);
        assert_eq!(got.body.len(), all);
        assert!(got.complete && got.trailers.len() == 1, "in an outbox of {outbox}");
    }
}

#[test]
fn one_call_does_not_code_for_ever_though_everything_it_gets_becomes_nothing() {
    let zeros = vec![0; 32 << 20];
    for coding in ALL.iter().filter(|c| c.is_encodable()) {
        for whole in [false, true] {
            let mut taken = Vec::new();
            let handler = |is_request: bool, mut reply: Reply<'_>| {
                let done: usize = taken.iter().sum();
                taken.push(match (is_request, whole) {
                    (true, true) => reply.respond(200, &TYPE, Content::Whole(&zeros)).unwrap(),
                    (true, false) => reply.respond(200, &TYPE, Content::Streamed).unwrap(),
                    _ => 0,
                });
                if !(is_request && whole) {
                    taken.push(reply.write(&zeros[done..]).unwrap());
                }
                if !whole && taken.iter().sum::<usize>() == zeros.len() {
                    reply.finish().unwrap();
                }
            };
            let mut one = One::new(super::edges::coding(Limits::DEFAULT), 16_384, handler);
            let got = one.h1(coding.name());
            drop(one);
            let most = *taken.iter().max().unwrap();
            assert!(most <= 1 << 20, "{coding:?}: {most} bytes in one call");
            assert!(got.complete && got.plain() == zeros, "{coding:?}");
        }
    }
}

#[test]
fn grpc_is_never_coded_by_us_whatever_its_messages_are() {
    for kind in ["application/grpc+json", "application/grpc", "application/grpc+proto", "application/grpc-web+json"] {
        let answer = Answer::new(How::Streamed, text(3_000)).with("content-type", kind);
        for got in both(&answer, "GET", "gzip") {
            assert_eq!((got.get("content-encoding"), got.get("vary")), (None, None), "{kind}");
            assert_eq!(got.body, answer.content);
        }
    }
}

#[test]
fn coded_content_is_not_offered_in_ranges() {
    let answer = Answer::new(How::Whole, text(3_000)).with("accept-ranges", "bytes");
    for (coded, as_is) in both(&answer, "GET", "gzip").iter().zip(&both(&answer, "GET", "identity")) {
        assert_eq!((coded.get("accept-ranges"), coded.get("content-encoding")), (None, Some("gzip")));
        assert_eq!(as_is.get("accept-ranges"), Some("bytes"));
    }
}

#[test]
fn a_value_is_written_as_json_once_whether_it_is_coded_or_too_short_for_that() {
    use std::cell::Cell;
    struct Counted<'a>(usize, &'a Cell<usize>);
    impl serde::Serialize for Counted<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.1.set(self.1.get() + 1);
            serializer.serialize_str(&text(self.0))
        }
    }
    for n in [10, 5_000] {
        let times = Cell::new(0);
        let handler = |_: bool, mut reply: Reply<'_>| reply.json(200, &Counted(n, &times)).unwrap();
        let got = One::new(coding(Limits::DEFAULT), 16_384, handler).h1("gzip");
        assert_eq!((got.get("content-encoding").is_some(), times.get()), (n > 10, 1), "{n} bytes");
    }
}

#[test]
fn every_reply_call_in_any_order_ends_in_one_response_or_in_none() {
    // What handlers may do, by numbers; a strict client reads what comes of it.
    let mut counts = BTreeMap::new();
    for seed in 0..3_000u64 {
        let mut dice = super::frames::Dice::new(seed);
        let (h2, outbox, window) = (dice.one_in(2), 1_500 + dice.below(4_000), dice.below(30_000) as i64);
        let content = if dice.one_in(2) { noise(20_000) } else { text(20_000) };
        let wait = dice.one_in(2);
        let mut taken = Vec::new();
        let handler = |_: bool, mut reply: Reply<'_>| {
            for _ in 0..dice.below(6) {
                let part = &content[..dice.below(content.len())];
                let short = &part[..part.len().min(3_000)];
                let given: Vec<u8> = match dice.below(12) {
                    0 => reply.respond(200, &TYPE, Content::Whole(part.as_bytes())).map(|n| part[..n].into()),
                    1 | 2 => reply.respond(200, &TYPE, Content::Streamed).map(|_| vec![]),
                    3 => reply.respond(200, &TYPE, Content::Sized(part.len() as u64)).map(|_| vec![]),
                    4 => reply.text(200, short).map(|()| short.into()),
                    5 => reply.json(200, &short).map(|()| serde_json::to_vec(short).unwrap()),
                    6 | 7 => reply.write(part.as_bytes()).map(|n| part[..n].into()),
                    8 => reply.finish().map(|()| vec![]),
                    9 => reply.trailers(&[("a", "b")]).map(|()| vec![]),
                    10 => reply.inform(103, &[("link", "x")]).map(|()| vec![]),
                    _ => reply.write(b"").map(|_| vec![]),
                }
                .unwrap_or_default();
                taken.extend_from_slice(&given);
            }
            if !wait {
                if reply.text(500, "enough").is_ok() {
                    taken.extend_from_slice(b"enough");
                }
                let _ = reply.finish();
            }
        };
        let mut one = One::new(coding(Limits::DEFAULT), outbox, handler);
        let bound = one.connection.config().machine_bound_bytes();
        let accept = ["gzip", "zstd", "br", ""][seed as usize % 4];
        let got = if h2 { one.h2(accept, window) } else { informed_h1(&mut one, accept) };
        assert!(one.connection.retained_bytes() <= bound);
        drop(one);
        if got.complete {
            assert!(got.plain() == taken, "seed {seed}: what was taken has arrived, and nothing else");
            *counts.entry((h2, got.get("content-encoding").map(str::to_owned))).or_insert(0) += 1;
        }
    }
    assert!(counts.len() >= 4 && counts.values().all(|&n| n > 10), "{counts:?}");
}

/// Interim responses are passed over.
fn informed_h1<F: FnMut(bool, Reply<'_>)>(one: &mut One<F>, accept: &str) -> Got {
    let mut sent = one.turn(&ask("GET", "/", accept));
    for _ in 0..40 {
        sent.extend_from_slice(&one.turn(b""));
    }
    while sent.starts_with(b"HTTP/1.1 103") {
        let end = sent.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        sent.drain(..end + 4);
    }
    if sent.is_empty() {
        return Got::default();
    }
    read_h1(&sent, &["GET"]).remove(0)
}

#[test]
fn a_turn_that_ends_for_the_sake_of_others_flushes_nothing() {
    let run = |units: u64| {
        let config = Config::new(limit(Limit::TurnUnits, units)).with_response_codings(&[Coding::Gzip]);
        let mut connection = Connection::new(&config, Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new(vec![0; config.inbox_bytes()]), Outbox::new([0u8; 16_384]));
        let mut input =
            b"POST / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        (0..200).for_each(|_| input.extend_from_slice(b"a\r\n0123456789\r\n"));
        input.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(inbox.fill(&input), input.len());
        let (mut sent, mut turns) = (Vec::new(), 0);
        loop {
            let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
            while let Some(event) = turn.next() {
                match event {
                    Event::Request(mut request) => _ = request.reply.respond(200, &TYPE, Content::Streamed).unwrap(),
                    Event::Body(mut body) => {
                        assert_eq!(body.reply.write(body.bytes), Ok(body.bytes.len()));
                        if body.last {
                            body.reply.finish().unwrap();
                        }
                    }
                    _ => {}
                }
            }
            turns += 1;
            let pause = turn.finish();
            sent.extend_from_slice(outbox.ready());
            outbox.wrote(outbox.ready().len());
            if pause != vestibule::Pause::Yield {
                return (read_h1(&sent, &["POST"]).remove(0), turns);
            }
        }
    };
    let ((short, many), (long, few)) = (run(Limit::TurnUnits.range().0), run(Limit::TurnUnits.range().1));
    assert!(many > 3 && few == 1 && short.complete && short.plain() == b"0123456789".repeat(200));
    assert_eq!(short.body, long.body);
}

#[test]
fn many_answers_given_up_at_once_are_all_reset() {
    let config = coding(limit(Limit::ReplyRoomBytes, 512));
    let mut connection = Connection::new(&config, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 65_536]), Outbox::new(vec![0; config.least_outbox_bytes()]));
    let mut client = Client::new(1, 65_535);
    let streams: Vec<u32> = (0..100).map(|_| client.request(&lines("GET", "/", "gzip"), None, &[])).collect();
    let mut ids = Vec::new();
    let mut given_up = false;
    for _ in 0..50 {
        let input: Vec<u8> = client.out.drain(..).collect();
        assert_eq!(inbox.fill(&input), input.len());
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        while let Some(event) = turn.next() {
            if let Event::Request(request) = event {
                ids.push(request.reply.id());
            }
        }
        if ids.len() == 100 && !given_up {
            given_up = true;
            ids.iter().for_each(|id| turn.reply(*id).unwrap().abort());
            while turn.next().is_some() {}
        }
        let _ = turn.finish();
        client.read(outbox.ready());
        outbox.wrote(outbox.ready().len());
    }
    assert!(given_up);
    let left = streams.iter().filter(|stream| client.lanes[stream].reset.is_none()).count();
    assert_eq!(left, 0);
}

#[test]
fn coded_responses_write_in_the_order_that_their_client_wants_and_none_starves() {
    use super::app::App;
    use super::road::Road;
    let paths = ["/late", "/side", "/urgent"];
    let content = noise(150_000);
    for how in [How::Streamed, How::Whole, How::Trailed] {
        let app = App::new(&paths.map(|path| (path, Answer::new(how, &content))));
        let mut road = Road::with(app, Limits::DEFAULT, 20_000);
        let mut client = Client::new(1, 1 << 20);
        let streams = paths.map(|path| {
            let mut lines = lines("GET", path, "gzip");
            let priority = if path == "/urgent" { "u=1" } else { "u=5, i" };
            lines.push((b"priority".to_vec(), priority.into()));
            client.request(&lines, None, &[])
        });
        client.grant(0, 1 << 24);
        let (mut before, mut apart) = (None, 0);
        road.h2(&mut client, 5_000, |client| {
            let [late, side, urgent] =
                streams.map(|stream| client.lanes.get(&stream).map_or(0, |lane| lane.body.len()));
            if client.lanes[&streams[2]].ended && before.is_none() {
                before = Some(late + side);
            }
            if !client.lanes[&streams[0]].ended && !client.lanes[&streams[1]].ended && before.is_some() {
                apart = apart.max(late.abs_diff(side));
            }
            assert!(urgent > 0 || late + side <= 3 * 20_000);
        });
        let got = streams.map(|stream| read_h2(&client, stream));
        assert!(got.iter().all(|got| got.complete && got.plain() == content.as_bytes()), "{how:?}");
        let before = before.unwrap();
        assert!(before <= 3 * 20_000, "{how:?}: {before} bytes of the others came first");
        assert!(apart <= 3 * 16_384 + 20_000, "{how:?}: one is {apart} ahead of the other");
    }
}
