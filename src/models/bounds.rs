//! In: single situations that an attacker or a handler can bring about. Out: what they may cost, and that nothing of them stays
//! (M-3, M-10, M-11, P-4, P-19).

use super::audit;
use super::peer::{END, END_HEADERS, On, Peer, gzip, patient, pattern, with};
use crate::base::Limit;
use crate::parse::h2::kind;
use crate::{Content, Event, Expect, Misuse, Pause, Wait};

#[test]
fn a_text_is_taken_whole_beside_a_big_response() {
    let text = "t".repeat(20_000);
    let big = vec![b'b'; 300_000];
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            let Event::Request(mut request) = event else { return };
            match request.head.target {
                "/text" => assert_eq!(request.reply.text(200, &text), Ok(())),
                _ => assert!(request.reply.respond(200, &[], Content::Whole(&big)).expect("room") < big.len()),
            }
        }),
    );
    let first = peer.get("/big", &[]);
    peer.grant(0, 1 << 24);
    peer.run(); // starved by its window
    peer.grant(first, 1 << 24); // now it is ready to write
    let second = peer.get("/text", &[]);
    peer.run();
    assert_eq!(peer.lanes[&second].body.len(), 20_000);
    assert!(peer.lanes[&second].ended);
}

/// Of an answer that is 500 bytes longer than its window, 16 KiB would be this stream's share, and 1 KiB can wait.
#[test]
fn a_text_beyond_its_window_is_taken_whole_beside_another_response() {
    let text = "t".repeat(18_000);
    let big = vec![b'b'; 300_000];
    let mut peer = Peer::new(
        patient(),
        10_000,
        30_000,
        On(|event: Event<'_>| {
            let Event::Request(mut request) = event else { return };
            match request.head.target {
                "/text" => assert_eq!(request.reply.text(200, &text), Ok(())),
                _ => assert!(request.reply.respond(200, &[], Content::Whole(&big)).expect("room") < big.len()),
            }
        }),
    );
    peer.settings(17_500);
    peer.run();
    let first = peer.get("/big", &[]);
    peer.run(); // starved by its window
    peer.grant(first, 1 << 24); // now it is ready to write, too
    let second = peer.get("/text", &[]);
    peer.run();
    peer.grant(0, 1 << 20);
    peer.grant(second, 1 << 20);
    peer.run();
    assert_eq!((peer.lanes[&second].body.len(), peer.lanes[&second].ended), (18_000, true));
}

#[test]
fn nothing_comes_behind_an_abort() {
    let coded = gzip(&vec![7; 300_000]);
    let (mut bodies, mut trailers) = (0, 0);
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| match event {
            Event::Body(body) => {
                bodies += 1;
                body.reply.abort();
            }
            Event::Trailers(_) => trailers += 1,
            _ => {}
        }),
    );
    let number = peer.post("/", &[("content-encoding", b"gzip")]);
    peer.upload(number, &coded, 16_384, false);
    let block = peer.block(&[("x-check", b"yes")]);
    peer.lanes.get_mut(&number).expect("open").closed = true;
    peer.say(kind::HEADERS, END | END_HEADERS, number, &block);
    peer.run();
    assert_eq!(peer.lanes[&number].reset, Some(8));
    audit::at_rest(&mut peer.connection);
    drop(peer);
    assert_eq!((bodies, trailers), (1, 0));
}

#[test]
fn no_body_comes_behind_a_complete_answer() {
    let coded = gzip(&vec![7; 300_000]);
    let mut bodies = 0;
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Body(mut body) = event {
                bodies += 1;
                if bodies == 1 {
                    body.reply.text(200, "enough").expect("room");
                }
            }
        }),
    );
    let number = peer.post("/", &[("content-encoding", b"gzip")]);
    peer.upload(number, &coded, 16_384, true);
    audit::at_rest(&mut peer.connection);
    drop(peer);
    assert_eq!(bodies, 1);
}

#[test]
fn a_body_that_is_discarded_leaves_no_job() {
    let coded = gzip(&vec![7; 30_000]);
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.expect(Expect::WholeByJob { max: 100_000 });
            }
        }),
    );
    let number = peer.post("/", &[("content-encoding", b"gzip")]);
    peer.upload(number, &coded, 16_384, true);
    assert_eq!(peer.pause, Pause::Caller(Wait::Job));
    peer.with(number, |mut reply| reply.discard());
    assert!(matches!(peer.pause, Pause::Input { .. }), "{:?}", peer.pause);
    peer.with(number, |mut reply| reply.text(200, "ok").expect("room"));
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_wrong_length_behind_an_early_answer_ends_the_stream() {
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.text(200, "early").expect("room");
            }
        }),
    );
    let number = peer.post("/", &[("content-length", b"10")]);
    peer.run();
    assert!(peer.lanes[&number].ended);
    peer.data(number, b"short", None, true);
    peer.run();
    audit::at_rest(&mut peer.connection);
}

#[test]
fn an_early_answer_does_not_wait_for_a_body_that_needs_100_continue() {
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.text(403, "no").expect("room");
            }
        }),
    );
    let number = peer.post("/", &[("content-length", b"10"), ("expect", b"100-continue")]);
    peer.run();
    assert!(peer.lanes[&number].ended);
    assert_eq!(peer.lanes[&number].reset, Some(0), "the client will not send the body");
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_store_shrinks_with_what_it_holds() {
    // The streams' windows are as large as the connection's.
    let limits = with(patient(), Limit::StreamWindowBytes, 1 << 20);
    let mut peer = Peer::begun(
        limits,
        20_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.expect(Expect::Manual);
            }
        }),
    );
    for _ in 0..90 {
        let number = peer.post("/", &[]);
        peer.run();
        let body = pattern(number, (peer.open as usize - 1) / 65_536 * 65_536 - 65_535);
        peer.upload(number, &body, 16_384, false); // 64 KiB of it with the handler, the rest kept
        let times = body.len() / 65_536 - 1;
        for _ in 0..times {
            peer.with(number, |mut reply| reply.release(65_536));
        }
    }
}

/// RFC 9113 §5.1: nothing is sent on a stream that both sides have ended, whatever its handler does.
#[test]
fn a_stream_that_is_closed_is_not_reset() {
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            let Event::Request(mut request) = event else { return };
            assert_eq!(request.reply.respond(200, &[], Content::Sized(10)), Ok(0));
            request.reply.abort();
        }),
    );
    let head: [(&str, &[u8]); 4] =
        [(":method", b"HEAD"), (":scheme", b"http"), (":authority", b"a.example"), (":path", b"/")];
    let number = peer.request(&head, true);
    peer.run();
    let lane = &peer.lanes[&number];
    assert_eq!((lane.ended, lane.reset), (true, None));
    audit::at_rest(&mut peer.connection);
}

#[test]
fn a_connect_is_not_answered_with_content() {
    let mut said = None;
    let mut peer = Peer::begun(
        patient(),
        10_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                said = Some(request.reply.respond(200, &[], Content::Whole(b"no tunnel")));
            }
        }),
    );
    peer.request(&[(":method", b"CONNECT"), (":authority", b"a.example:80")], false);
    peer.run();
    drop(peer);
    assert_eq!(said, Some(Err(Misuse::Status)), "as in HTTP/1.1 (RFC 9110 §9.3.6)");
}

/// The head of a request over HTTP/2, written as HTTP/1.1, is taken by HTTP/1.1.
fn downgraded(fields: &[(&str, &[u8])], authority: bool) -> Option<Vec<u8>> {
    let mut line = None;
    let mut peer = Peer::begun(
        patient(),
        70_000,
        70_000,
        On(|event: Event<'_>| {
            if let Event::Request(mut request) = event {
                let head = request.head;
                let mut text = format!("{} {} HTTP/1.1\r\n", head.method, head.target).into_bytes();
                for (name, value) in head.fields.iter() {
                    text.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
                }
                text.extend(b"\r\n");
                line = Some(text);
                request.reply.text(200, "").expect("room");
            }
        }),
    );
    let start: [(&str, &[u8]); 4] =
        [(":method", b"GET"), (":scheme", b"http"), (":path", b"/"), (":authority", b"a.example")];
    let lines = [&start[..if authority { 4 } else { 3 }], fields].concat();
    let block = peer.block(&lines);
    let number = peer.begin(true);
    let cuts: Vec<&[u8]> = block.chunks(16_384).collect();
    for (at, part) in cuts.iter().enumerate() {
        let flags = if at + 1 == cuts.len() { END_HEADERS } else { 0 };
        peer.say(if at == 0 { 1 } else { 9 }, flags | if at == 0 { END } else { 0 }, number, part);
    }
    peer.run();
    drop(peer);
    line
}

fn over_h1(text: &[u8]) -> Result<(), crate::Rule> {
    let mut connection =
        crate::Connection::new(std::sync::Arc::new(crate::Config::new(patient())), crate::Instant::ZERO);
    let (mut inbox, mut outbox) = (crate::Inbox::new(vec![0; 70_000]), crate::Outbox::new(vec![0; 70_000]));
    inbox.fill(text);
    let mut turn = connection.turn(crate::Instant::ZERO, &mut inbox, &mut outbox).expect("our own buffers");
    let mut seen = None;
    while let Some(event) = turn.next() {
        match event {
            Event::Request(_) => seen = Some(Ok(())),
            Event::Fault(violation) => seen = Some(Err(violation.rule)),
            _ => {}
        }
    }
    let _ = turn.finish();
    seen.expect("a verdict")
}

#[test]
fn what_http_2_takes_http_1_takes_too() {
    let long = vec![b'a'; 10_000];
    let crumbs: [(&str, &[u8]); 2] = [("cookie", &long), ("cookie", &long)];
    let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"v"[..])).collect();
    let with = |more: &[(&'static str, &'static [u8])], n: usize| [&many[..n], more].concat();
    let mut verdicts = Vec::new();
    for (what, fields, authority) in [
        ("long crumbs", crumbs.to_vec(), true),
        ("99 and :authority", with(&[], 99), true),
        ("99, :authority and cookie", with(&[("cookie", b"a=b")], 99), true),
        ("100 and host", with(&[("host", b"a.example")], 100), false),
        ("100, host, cookie", with(&[("host", b"a.example"), ("cookie", b"a=b")], 100), false),
        ("empty crumb", vec![("cookie", &b""[..])], true),
        ("crumb then empty", vec![("cookie", &b"a=b"[..]), ("cookie", &b""[..])], true),
    ] {
        let text = downgraded(&fields, authority);
        verdicts.push((what, text.map(|text| over_h1(&text))));
    }
    let all = verdicts.iter().all(|v| v.1.is_none_or(|v| v.is_ok()));
    assert!(all, "{verdicts:?}");
}
