//! Responses that the machine codes by itself, in both versions, by handlers that know nothing of it: what they give is what clients
//! decode, however small the outbox, the windows and the pieces are.
#![cfg(feature = "std")]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[path = "coded_road/app.rs"]
mod app;
#[allow(dead_code)] // its other users need the rest
#[path = "versions/client.rs"]
mod client;
#[path = "coded_road/edges.rs"]
mod edges;
#[allow(dead_code)]
#[path = "versions/frames.rs"]
mod frames;
#[path = "coded_road/road.rs"]
mod road;

use app::{Answer, App, How};
use client::Client;
use proptest::prelude::*;
use road::{ALL, Got, Road, ask, both, get, limit, lines, read_h1, read_h2};
use vestibule::decode::coding::Coding;
use vestibule::{Config, Limit, Limits};

const WAYS: [How; 6] = [How::Whole, How::Sized, How::Streamed, How::Trailed, How::Text, How::Json];

fn text(n: usize) -> String {
    let mut text = String::new();
    for i in 0.. {
        if text.len() >= n {
            break;
        }
        text += &format!("line {i} of a text that repeats itself, {}\n", i * 37 % 1_000);
    }
    text.truncate(n);
    text
}

/// Letters that no coding makes much smaller than three quarters.
fn noise(n: usize) -> String {
    let mut dice = frames::Dice::new(5);
    (0..n)
        .map(|_| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[dice.below(64)] as char)
        .collect()
}

fn encodable() -> impl Iterator<Item = Coding> {
    ALL.iter().copied().filter(|c| c.is_encodable())
}

#[test]
fn whatever_way_an_answer_is_given_it_is_coded_as_its_client_accepts() {
    for (content, how) in [2_000, 9_000, 60_000].into_iter().flat_map(|n| WAYS.map(|how| (text(n), how))) {
        if matches!(how, How::Text | How::Json) && content.len() > 10_000 {
            continue; // longer than the outbox: not for these
        }
        let answer = Answer::new(how, &content).with("etag", "\"v1\"").with("vary", "origin");
        for coding in encodable() {
            for got in both(&answer, "GET", &format!("{};q=0.5, identity;q=0.1", coding.name())) {
                assert!(got.complete && got.status == 200, "{how:?}");
                assert_eq!(got.get("content-encoding"), Some(coding.name()), "{how:?}");
                assert!(got.body.len() * 3 < content.len(), "{how:?} {coding:?}: {}", got.body.len());
                assert_eq!(got.plain(), answer.plain(), "{how:?} {coding:?}");
                let short = matches!(how, How::Whole | How::Text | How::Json);
                assert_eq!(
                    got.get("content-length").is_some(),
                    short,
                    "what is short once it is coded is known at once"
                );
                if !matches!(how, How::Text | How::Json) {
                    assert_eq!(got.get("etag"), Some("W/\"v1\""));
                    assert_eq!(got.get("vary"), Some("origin, accept-encoding"));
                } else {
                    assert_eq!(got.get("vary"), Some("accept-encoding"));
                }
                let trailers = usize::from(how == How::Trailed) * 2;
                assert_eq!(got.trailers.len(), trailers);
            }
        }
    }
}

#[test]
fn the_best_coding_that_the_server_offers_and_the_client_accepts() {
    let answer = Answer::new(How::Whole, text(2_000));
    for (accept, coding) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("gzip;q=0.5, deflate", Some("deflate")),
        ("x-gzip", Some("gzip")),
        ("*", Some("gzip")),
        ("", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("compress, nothing", None),
        // RFC 9110 §12.5.3: where nothing is left that it would take, what it said is disregarded.
        ("*;q=0", None),
        ("identity;q=0", None),
    ] {
        for got in both(&answer, "GET", accept) {
            assert_eq!(got.get("content-encoding"), coding, "{accept}");
            assert_eq!(got.get("vary"), Some("accept-encoding"), "it depends on it, whatever it said");
            assert!(got.complete && got.plain() == answer.content);
        }
    }
}

#[test]
fn what_may_not_be_coded_goes_as_its_handler_gave_it() {
    let content = text(3_000);
    let of = |how| Answer::new(how, &content).with("etag", "\"v1\"");
    let mut all = vec![
        of(How::Whole).with("content-type", "image/png"),
        of(How::Whole).with("content-encoding", "br"),
        of(How::Streamed).with("content-encoding", "gzip"),
        of(How::Sized).with("cache-control", "max-age=5, no-transform"),
        of(How::Whole).status(206).with("content-range", "bytes 0-2999/9000"),
        Answer::new(How::Whole, text(511)).with("etag", "\"v1\""),
        Answer::new(How::Sized, text(511)).with("etag", "\"v1\""),
        Answer::new(How::Whole, "").status(204),
        Answer::new(How::Whole, "").status(205),
    ];
    let mut bare = of(How::Whole).status(304);
    bare.content.clear();
    all.push(bare);
    for answer in all {
        for got in both(&answer, "GET", "gzip, br") {
            assert_eq!(got.status, answer.status);
            assert!(got.complete && got.body == answer.content, "{answer:?}");
            for (name, value) in &answer.fields {
                assert_eq!(got.get(name), Some(&value[..]), "{name} of {answer:?}");
            }
            assert_eq!(got.get("vary"), None);
            let coded = answer.fields.iter().any(|f| f.0 == "content-encoding");
            assert_eq!(got.get("content-encoding").is_some(), coded);
        }
    }
}

#[test]
fn what_does_not_get_smaller_is_not_coded() {
    let mut random = vec![0u8; 4_000];
    let mut dice = frames::Dice::new(3);
    random.iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
    for got in both(&Answer::new(How::Whole, &random).with("etag", "\"v1\""), "GET", "gzip") {
        assert_eq!((got.get("content-encoding"), got.get("content-length")), (None, Some("4000")));
        assert_eq!((got.get("etag"), got.get("vary")), (Some("\"v1\""), Some("accept-encoding")));
        assert!(got.body == random);
    }
}

#[test]
fn head_is_answered_with_the_fields_that_get_has() {
    for how in WAYS {
        for n in [600, 3_000, 9_000] {
            let answer = Answer::new(how, noise(n)).with("etag", "\"v1\"");
            for accept in ["gzip", "identity"] {
                let (get, head) = (both(&answer, "GET", accept), both(&answer, "HEAD", accept));
                for (get, head) in get.into_iter().zip(head) {
                    assert_eq!(head.fields, get.fields, "{how:?}, {n} bytes, {accept}");
                    assert!(head.complete && head.body.is_empty() && head.status == 200);
                }
            }
        }
    }
}

#[test]
fn content_that_is_shorter_than_declared_is_a_broken_response_and_more_is_refused() {
    // `How::Short` tries to write more, too.
    let answer = Answer::new(How::Short, text(5_000));
    let [h1, h2] = both(&answer, "GET", "gzip");
    assert!(!h1.complete && h1.get("content-encoding") == Some("gzip"));
    assert!(!h2.complete && h2.get("content-encoding") == Some("gzip"));
    let mut road = Road::new(App::new(&[("/", answer)]));
    road.h1(&[get("/", "gzip"), get("/", "gzip")].concat(), usize::MAX, usize::MAX);
    assert_eq!(road.app.given, 1, "the connection is over");
}

#[test]
fn a_client_of_http_1_0_gets_it_until_the_connection_ends() {
    let answer = Answer::new(How::Streamed, text(30_000));
    let mut road = Road::new(App::new(&[("/", answer.clone())]));
    let sent = road.h1(b"GET / HTTP/1.0\r\naccept-encoding: gzip\r\n\r\n", usize::MAX, usize::MAX);
    let got = read_h1(&sent, &["GET"]);
    assert_eq!((got[0].get("transfer-encoding"), got[0].get("connection")), (None, Some("close")));
    assert_eq!(got[0].plain(), answer.content);
}

#[test]
fn without_the_choice_nothing_is_coded() {
    let app = App::new(&[("/", Answer::new(How::Whole, text(5_000)))]);
    let mut road = Road::of(app, Config::new(Limits::DEFAULT), 16_384);
    let got = read_h1(&road.h1(&get("/", "gzip"), usize::MAX, usize::MAX), &["GET"]);
    assert_eq!((got[0].get("vary"), got[0].get("content-encoding"), got[0].body.len()), (None, None, 5_000));
}

// ---- flushing ----

#[test]
fn what_a_handler_wrote_arrives_though_the_response_goes_on() {
    let answer = Answer::new(How::Held, "data: one\n\n").with("content-type", "text/event-stream");
    let mut road = Road::new(App::new(&[("/", answer.clone())]));
    let sent = road.h1(&get("/", "gzip"), usize::MAX, usize::MAX);
    let got = read_h1(&sent, &["GET"]);
    assert!(!got[0].complete && got[0].gunzipped_so_far() == b"data: one\n\n");
    assert_eq!(road.h1(b"", usize::MAX, usize::MAX), b"", "it is flushed once");

    let mut road = Road::new(App::new(&[("/", answer)]));
    let mut client = Client::new(1, 65_535);
    let stream = client.request(&lines("GET", "/", "gzip"), None, &[]);
    road.h2(&mut client, usize::MAX, Client::grant_all);
    let got = read_h2(&client, stream);
    assert!(!got.complete && got.gunzipped_so_far() == b"data: one\n\n");
}

#[test]
fn events_written_outside_of_events_arrive_one_by_one() {
    use vestibule::{Connection, Content, Event, Inbox, Instant, Outbox};
    let config = Config::new(Limits::DEFAULT).with_response_codings(ALL);
    let mut connection = Connection::new(&config, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new([0u8; 4_096]), Outbox::new([0u8; 4_096]));
    inbox.fill(&get("/", "gzip"));
    let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
    let mut id = None;
    while let Some(event) = turn.next() {
        if let Event::Request(mut request) = event {
            id = Some(request.reply.id());
            request.reply.respond(200, &[("content-type", "text/event-stream")], Content::Streamed).unwrap();
        }
    }
    let _ = turn.finish();
    let (mut sent, mut said) = (Vec::new(), String::new());
    for i in 0..10 {
        let event = format!("data: {i}\n\n");
        said += &event;
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        assert!(turn.next().is_none());
        assert_eq!(turn.reply(id.unwrap()).unwrap().write(event.as_bytes()), Ok(event.len()));
        assert!(turn.next().is_none());
        let _ = turn.finish();
        sent.extend_from_slice(outbox.ready());
        outbox.wrote(outbox.ready().len());
        assert_eq!(read_h1(&sent, &["GET"])[0].gunzipped_so_far(), said.as_bytes());
    }
}

#[test]
fn what_is_written_much_at_a_time_is_not_flushed_in_between() {
    let content = noise(200_000);
    let app = App::new(&[("/", Answer::new(How::Whole, &content)), ("/s", Answer::new(How::Streamed, &content))]);
    let mut road = Road::with(app, Limits::DEFAULT, 2_000);
    let sent = road.h1(&[get("/", "gzip"), get("/s", "gzip")].concat(), usize::MAX, 700);
    let got = read_h1(&sent, &["GET", "GET"]);
    assert!(road.app.writable > 2, "the outbox was full more than once");
    assert!(got[0].body == got[1].body, "nothing but the content says where a block ends");
    assert_eq!(got[1].plain(), content.as_bytes());
}

// ---- slow readers ----

fn ways() -> impl Strategy<Value = How> {
    prop::sample::select(&WAYS[..])
}

fn answers() -> impl Strategy<Value = Answer> {
    let content = prop_oneof![
        (0..3_000usize).prop_map(text),
        (0..40_000usize).prop_map(text),
        (0..40_000usize).prop_map(noise),
        (0..300_000usize).prop_map(|n| "a".repeat(n)),
    ];
    (ways(), content, prop::option::of(0..5u8)).prop_map(|(how, mut content, more)| {
        if matches!(how, How::Text | How::Json) {
            content.truncate(600); // what any outbox takes
            content = content.repeat(2).chars().take(700).collect();
        }
        let answer = Answer::new(how, content);
        match more {
            Some(0) => answer.with("etag", "\"x\""),
            Some(1) => answer.with("vary", "cookie"),
            Some(2) => answer.with("content-type", "image/png"),
            _ => answer,
        }
    })
}

fn accepts() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["gzip", "gzip", "zstd", "br", "deflate", "", "identity;q=0", "gzip;q=0.1, zstd;q=0.2"][..])
}

fn check(answer: &Answer, got: &Got, method: &str) {
    assert!(got.complete, "{answer:?}");
    if method == "GET" {
        assert!(got.plain() == answer.plain(), "{:?}: {} for {}", answer.how, got.plain().len(), answer.content.len());
        assert_eq!(got.trailers.len(), if answer.how == How::Trailed { 2 } else { 0 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_over_http_1_1_gives_its_client_what_the_handlers_gave(
        asks in prop::collection::vec((answers(), accepts(), prop::sample::select(&["GET", "GET", "GET", "HEAD"][..])), 1..5),
        (outbox, reads, piece, write) in (1_500..20_000usize, 1..5_000usize, 1..200usize, 1..50_000usize),
    ) {
        let paths: Vec<String> = (0..asks.len()).map(|i| format!("/{i}")).collect();
        let all: Vec<(&str, Answer)> = paths.iter().zip(&asks).map(|(path, ask)| (&path[..], ask.0.clone())).collect();
        let bytes: Vec<u8> = paths.iter().zip(&asks).flat_map(|(path, (_, accept, method))| ask(method, path, accept)).collect();
        let methods: Vec<&str> = asks.iter().map(|ask| ask.2).collect();
        let mut road = Road::with(App::new(&all), Limits::DEFAULT, outbox);
        road.app.piece = write;
        let got = read_h1(&road.h1(&bytes, piece, reads.max(200)), &methods);
        prop_assert_eq!(got.len(), asks.len());
        for (got, (answer, _, method)) in got.iter().zip(&asks) {
            check(answer, got, method);
        }
        prop_assert_eq!(road.app.given, asks.len());
    }

    #[test]
    fn any_conversation_over_http_2_gives_its_client_what_the_handlers_gave(
        asks in prop::collection::vec((answers(), accepts(), prop::sample::select(&["GET", "GET", "GET", "HEAD"][..])), 1..6),
        (outbox, reads, window, write) in (1_500..20_000usize, 200..5_000usize, 0..40_000i64, 1..50_000usize),
        (seed, grant, pool) in (any::<u64>(), 100..30_000u32, 0..2_100_000u64),
    ) {
        let paths: Vec<String> = (0..asks.len()).map(|i| format!("/{i}")).collect();
        let all: Vec<(&str, Answer)> = paths.iter().zip(&asks).map(|(path, ask)| (&path[..], ask.0.clone())).collect();
        let limits = limit(Limit::GlitchBurst, 1_000_000).with(Limit::OverheadBytes, 1 << 30).unwrap();
        let limits = limits.with(Limit::EncoderPoolBytes, pool).unwrap();
        let mut road = Road::with(App::new(&all), limits, outbox);
        road.app.piece = write;
        let mut client = Client::new(seed, window);
        let streams: Vec<u32> =
            paths.iter().zip(&asks).map(|(path, (_, accept, method))| client.request(&lines(method, path, accept), None, &[])).collect();
        road.h2(&mut client, reads, |client| {
            client.grant(0, grant);
            let open: Vec<u32> = client.lanes.iter().filter(|(_, lane)| !lane.is_over()).map(|(n, _)| *n).collect();
            for stream in open {
                if client.dice.one_in(2) {
                    client.grant(stream, grant);
                }
            }
        });
        for (stream, (answer, _, method)) in streams.iter().zip(&asks) {
            check(answer, &read_h2(&client, *stream), method);
        }
        prop_assert_eq!(road.app.given, asks.len());
        prop_assert!(road.app.aborted.is_empty());
    }

    #[test]
    fn however_the_requests_are_cut_whole_answers_are_the_same_bytes(
        asks in prop::collection::vec((answers(), accepts()), 1..4), piece in 1..100usize,
    ) {
        let paths: Vec<String> = (0..asks.len()).map(|i| format!("/{i}")).collect();
        let whole = |mut answer: Answer| { answer.how = How::Whole; answer };
        let all: Vec<(&str, Answer)> = paths.iter().zip(&asks).map(|(path, ask)| (&path[..], whole(ask.0.clone()))).collect();
        let bytes: Vec<u8> = paths.iter().zip(&asks).flat_map(|(path, (_, accept))| get(path, accept)).collect();
        let said = |piece| Road::with(App::new(&all), Limits::DEFAULT, 400_000).h1(&bytes, piece, usize::MAX);
        prop_assert!(said(piece) == said(usize::MAX));
    }
}

// ---- what it costs ----

#[test]
fn where_the_pool_is_spent_answers_go_as_they_are() {
    let answer = Answer::new(How::Held, text(40_000)).with("etag", "\"v\"");
    let paths = ["/a", "/b", "/c"];
    let one = limit(Limit::EncoderPoolBytes, 500_000);
    let mut road = Road::with(App::new(&paths.map(|path| (path, answer.clone()))), one, 16_384);
    let mut client = Client::new(1, 1 << 20);
    let streams = paths.map(|path| client.request(&lines("GET", path, "gzip"), None, &[]));
    road.h2(&mut client, usize::MAX, Client::grant_all);
    let got = streams.map(|stream| read_h2(&client, stream));
    assert_eq!(got.each_ref().map(|got| got.get("content-encoding")), [Some("gzip"), None, None]);
    assert_eq!(got.each_ref().map(|got| got.get("vary")), [Some("accept-encoding"); 3]);
    assert_eq!(got.each_ref().map(|got| got.get("etag")), [Some("W/\"v\""), Some("\"v\""), Some("\"v\"")]);
    assert!(got[1].body == answer.content && got[2].body == answer.content);

    let none = limit(Limit::EncoderPoolBytes, 0);
    for how in WAYS {
        let mut road = Road::with(App::new(&[("/", Answer::new(how, text(5_000)))]), none.clone(), 16_384);
        let got = read_h1(&road.h1(&get("/", "gzip"), usize::MAX, usize::MAX), &["GET"]);
        assert_eq!((got[0].get("content-encoding"), got[0].get("vary")), (None, Some("accept-encoding")), "{how:?}");
        assert!(got[0].complete);
    }
}

#[test]
fn a_coder_is_freed_with_its_exchange_whatever_ends_it() {
    // Given up by its handler.
    let mut road = Road::new(App::new(&[("/", Answer::new(How::Aborted, text(50_000)))]));
    let fresh = road.connection.retained_bytes();
    road.h1(&get("/", "gzip"), usize::MAX, usize::MAX);
    assert_eq!(road.connection.retained_bytes(), fresh, "HTTP/1.1 ends with it");

    // Reset by its client, in the middle of what is coded.
    for how in [How::Streamed, How::Whole, How::Held] {
        let mut road = Road::new(App::new(&[("/", Answer::new(how, noise(500_000)))]));
        let mut client = Client::new(1, 1_000);
        let stream = client.request(&lines("GET", "/", "gzip"), None, &[]);
        road.h2(&mut client, usize::MAX, |_| {});
        let busy = road.connection.retained_bytes();
        assert!(busy > 300_000, "{busy}");
        client.give_up(stream);
        road.h2(&mut client, usize::MAX, |_| {});
        assert_eq!(road.app.aborted.len(), 1);
        road.connection.shed();
        assert!(road.connection.retained_bytes() < busy - 300_000, "{how:?}");
    }
}

#[test]
fn a_handler_that_has_said_all_does_not_hear_that_the_rest_was_not_wanted() {
    let mut road = Road::new(App::new(&[("/", Answer::new(How::Streamed, noise(5_000)))]));
    let mut client = Client::new(1, 1_000);
    let stream = client.request(&lines("GET", "/", "gzip"), None, &[]);
    road.h2(&mut client, usize::MAX, |_| {});
    assert_eq!((road.app.given, client.lanes[&stream].ended), (1, false), "the coder took all, the window did not");
    client.give_up(stream);
    road.h2(&mut client, usize::MAX, |_| {});
    assert_eq!(road.app.aborted, [], "as with an answer of which the machine itself holds the end");
}

#[test]
fn one_spare_coder_serves_the_next_response() {
    let mut road = Road::new(App::new(&[("/", Answer::new(How::Whole, text(5_000)))]));
    road.h1(&get("/", "gzip"), usize::MAX, usize::MAX);
    let held = road.connection.retained_bytes();
    for _ in 0..5 {
        road.h1(&get("/", "gzip"), usize::MAX, usize::MAX);
        assert_eq!(road.connection.retained_bytes(), held);
    }
    road.connection.shed();
    assert!(road.connection.retained_bytes() + 300_000 < held);
}
