//! What costs no allocation: everything in HTTP/1.1 without an allocator's features, and with them every request in steady
//! state. Runs with `--no-default-features` too.
#![allow(missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use vestibule::{Config, Connection, Content, End, Event, Expect, Inbox, Instant, Limits, Outbox, Pause};

#[cfg(feature = "tls")]
#[path = "support/site.rs"]
mod site;

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is ours.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations that takes on this thread.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    run();
    CALLS.with(Cell::get) - before
}

static CONFIG: Config = Config::new(Limits::DEFAULT);

const LONG: &str = match core::str::from_utf8(&[b'a'; 6_000]) {
    Ok(text) => text,
    Err(_) => panic!("ASCII"),
};

/// What a handler without an allocator does; bytes of the body that came.
fn handle(event: Event<'_>, body: &mut usize) {
    match event {
        Event::Request(mut request) => {
            *body = 0;
            if request.head.method == "CONNECT" || request.head.path() == "/upgrade" {
                request.reply.upgrade("echo", &[]).expect("it was asked for");
            } else if request.head.path() == "/whole" {
                request.reply.expect(Expect::Whole { max: 10_000 });
            } else if !request.has_body {
                match request.head.path() {
                    "/json" => request.reply.json(200, &[1, 2, 3]).expect("room"),
                    "/long" => request.reply.text(200, LONG).expect("room"),
                    "/stream" => {
                        request.reply.inform(103, &[("link", "</x>")]).expect("room");
                        request.reply.respond(200, &[("trailer", "x-sum")], Content::Streamed).expect("room");
                        request.reply.write(b"some content").expect("room");
                        request.reply.trailers(&[("x-sum", "12")]).expect("room");
                    }
                    _ => request.reply.text(200, "hello").expect("room"),
                }
            }
        }
        Event::Body(mut part) => {
            *body += part.bytes.len();
            if part.last {
                let status = if *body == 0 { 204 } else { 200 };
                part.reply.respond(status, &[], Content::Whole(&[b'e'; 100][..(*body).min(100)])).expect("room");
            }
        }
        Event::Trailers(mut trailers) => trailers.reply.text(200, "with trailers").expect("room"),
        Event::Tunnel(mut tunnel) => {
            tunnel.reply.write(tunnel.bytes).expect("room");
            if tunnel.last {
                tunnel.reply.finish().expect("open");
            }
        }
        _ => {}
    }
}

/// Plays `wire` in pieces, on the stack alone; how it ended, what was sent, how often it was allocated.
fn play(wire: &[u8], piece: usize) -> (Option<End>, String, u64) {
    let (mut sent, mut len) = ([0u8; 16_384], 0);
    let mut end = None;
    let count = allocations(|| {
        let mut connection: Connection<&'static Config> = Connection::new(&CONFIG, Instant::ZERO);
        let (mut inbox, mut outbox) = (Inbox::new([0u8; 2048]), Outbox::new([0u8; 2048]));
        let (mut rest, mut body) = (wire, 0);
        loop {
            let n = inbox.fill(&rest[..piece.min(rest.len())]);
            rest = &rest[n..];
            if rest.is_empty() {
                inbox.end();
            }
            let Ok(mut turn) = connection.turn(Instant::ZERO, &mut inbox, &mut outbox) else { return };
            while let Some(event) = turn.next() {
                handle(event, &mut body);
            }
            let pause = turn.finish();
            let ready = outbox.ready();
            sent[len..len + ready.len()].copy_from_slice(ready);
            len += ready.len();
            outbox.wrote(usize::MAX);
            if pause == Pause::Closed {
                break;
            }
        }
        end = connection.end();
        connection.shed();
    });
    (end, String::from_utf8_lossy(&sent[..len]).into_owned(), count)
}

/// Reads a Protobuf message in pieces and as a slice, and the framing around it.
#[test]
fn protobuf_and_the_framing_of_grpc_need_no_allocator() {
    use vestibule::decode::{grpc, protobuf};
    // 1: "text", 2: { 1: 150 }, 3: packed, 4: skipped
    let message = b"\x0a\x04text\x12\x03\x08\x96\x01\x1a\x03\x01\x02\x03\x22\x02ab";
    let mut framed = [0; 32];
    framed[..5].copy_from_slice(&grpc::prefix(message.len() as u32));
    framed[5..5 + message.len()].copy_from_slice(message);
    let mut sums = [0; 4];
    let count = allocations(|| {
        let (mut messages, mut reader) =
            (grpc::Messages::new(&Limits::DEFAULT), protobuf::Reader::new(&Limits::DEFAULT));
        for mut chunk in framed[..5 + message.len()].chunks(3) {
            while let Ok(Some(item)) = messages.next(&mut chunk) {
                let grpc::Item::Part(mut part) = item else { continue };
                while let Ok(Some(item)) = reader.next(&mut part) {
                    match item {
                        protobuf::Item::Field(field) => match (field.number, field.value.uint64()) {
                            (_, Some(n)) => sums[1] += n,
                            (1, _) => reader.text(),
                            (2, _) => reader.enter().expect("two levels"),
                            (3, _) => reader.packed(protobuf::Packed::Varint).expect("numbers"),
                            _ => {}
                        },
                        protobuf::Item::Part(part) => sums[0] += part.len() as u64,
                        protobuf::Item::End => sums[2] += 1,
                    }
                }
            }
        }
        reader.finish().expect("complete");
        messages.finish().expect("complete");
        let mut fields = protobuf::fields(message, &Limits::DEFAULT);
        while let Some(Ok(field)) = fields.next() {
            if field.number == 1 {
                sums[3] += fields.text().expect("UTF-8").len() as u64;
            }
        }
    });
    assert_eq!((sums, count), ([4, 156, 3, 4], 0));
}

#[test]
fn http_1_needs_no_allocator() {
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("GET", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &["200 OK", "hello"]),
        ("HEAD", b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", &["content-length: 5"]),
        ("JSON", b"GET /json HTTP/1.1\r\nhost: a\r\n\r\n", &["[1,2,3]"]),
        ("a stream", b"GET /stream HTTP/1.1\r\nhost: a\r\n\r\n", &["103 Early", "c\r\nsome content", "x-sum: 12"]),
        ("a body", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody", &["eeee"]),
        ("a whole body", b"POST /whole HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody", &["eeee"]),
        (
            "100",
            b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
            &["100 Continue", "eeee"],
        ),
        (
            "chunks and trailers",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4;a=b\r\nbody\r\n0\r\nx: y\r\n\r\n",
            &["with trailers"],
        ),
        (
            "pipelining",
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /json HTTP/1.1\r\nhost: a\r\n\r\n",
            &["hello", "[1,2,3]"],
        ),
        (
            "an upgrade",
            b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nparrot",
            &["101 Sw", "parrot"],
        ),
        ("CONNECT", b"CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\nparrot", &["200 OK", "parrot"]),
        ("a bad line", b"GET  / HTTP/1.1\r\n\r\n", &["400 Bad Request"]),
        ("a bad field", b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", &["400 Bad Request"]),
        ("a bad chunk", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx", &["400 Bad Request"]),
        ("an end too soon", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nbody", &["400 Bad Request"]),
        ("HTTP/1.0", b"GET /stream HTTP/1.0\r\n\r\n", &["some content"]),
    ];
    for (name, wire, texts) in cases {
        for piece in [1, 7, 2048] {
            let (end, sent, count) = play(wire, piece);
            assert_eq!(count, 0, "{name}, {piece} at a time");
            assert!(end.is_some() && texts.iter().all(|text| sent.contains(text)), "{name}: {sent}");
        }
    }
}

/// Without an allocator what does not fit the inbox whole cannot be gathered, and codings are unknown.
/// Forms of both kinds, in pieces, whole and typed.
#[test]
fn forms_need_no_allocator() {
    use vestibule::decode::{form, media::MediaType, multipart};

    #[derive(serde::Deserialize)]
    struct Tea<'a> {
        name: &'a str,
        cups: [u8; 2],
    }

    let text = b"cups=2&name=t%C3%A9+chaud&cups=3";
    let body = b"--b\r\nContent-Disposition: form-data; name=\"a%22\"; filename=\"b\"\r\n\r\none\r\n--two\r\n--b--";
    let mut sum = (0, 0, 0);
    let cost = allocations(|| {
        let mut scratch = [0; 64];
        let tea: Tea<'_> = form::from_slice(text, &Limits::DEFAULT, &mut scratch).expect("it is one");
        assert_eq!((tea.name, tea.cups), ("t\u{e9} chaud", [2, 3]));
        sum.0 = form::pairs(text).filter(|pair| pair.is_ok_and(|(name, _)| name == "cups")).count();
        let mut reader = form::Form::new([0; 64]);
        let content_type = MediaType::parse(b"multipart/form-data; boundary=\"b\"").expect("it is one");
        let mut parts = multipart::Multipart::new(&content_type, [0; 256]).expect("it is one");
        for mut piece in text.chunks(3) {
            while let Some(item) = reader.next(&mut piece, &Limits::DEFAULT).expect("it is good") {
                sum.1 += usize::from(matches!(item, form::Item::Name(_)));
            }
        }
        assert_eq!(reader.finish(), Ok(Some(form::Item::PairEnd)));
        for mut piece in body.chunks(3) {
            while let Some(item) = parts.next(&mut piece, &Limits::DEFAULT).expect("it is good") {
                sum.2 += if let multipart::Item::Data(bytes) = item { bytes.len() } else { 0 };
            }
        }
        assert_eq!(parts.finish(), Ok(()));
    });
    assert_eq!((cost, sum), (0, (2, 3, 10)));
}

#[test]
#[cfg(not(feature = "alloc"))]
fn what_needs_an_allocator_is_refused_without_one() {
    let (_, sent, count) =
        play(b"POST /whole HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 2048);
    assert!(sent.starts_with("HTTP/1.1 413") && count == 0, "{sent}");
    let (_, sent, count) =
        play(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbody", 2048);
    assert!(sent.starts_with("HTTP/1.1 415") && count == 0, "{sent}");
}

/// A connection with heap buffers, fed until it waits for more.
#[cfg(feature = "alloc")]
struct Road {
    connection: Connection<std::sync::Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    body: usize,
}

#[cfg(feature = "alloc")]
impl Road {
    fn new(config: Config) -> Road {
        Road {
            inbox: Inbox::new(vec![0; config.inbox_bytes()]),
            outbox: Outbox::new(vec![0; 32_768]),
            connection: Connection::new(std::sync::Arc::new(config), Instant::ZERO),
            body: 0,
        }
    }

    /// Bytes that were sent.
    fn feed(&mut self, mut wire: &[u8], mut send: impl FnMut(&[u8])) {
        loop {
            let n = self.inbox.fill(wire);
            wire = &wire[n..];
            let mut turn =
                self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).expect("our own buffers");
            while let Some(event) = turn.next() {
                handle(event, &mut self.body);
            }
            let pause = turn.finish();
            let ready = self.outbox.ready().len();
            send(self.outbox.ready());
            self.outbox.wrote(ready);
            if n == 0 && ready == 0 && pause != Pause::Yield {
                return;
            }
        }
    }
}

#[test]
#[cfg(feature = "alloc")]
fn a_plain_get_costs_nothing() {
    let wire = b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n".repeat(100);
    let mut road = Road::new(Config::new(Limits::DEFAULT));
    for piece in [1, 7, 100, wire.len()] {
        let mut sent = 0;
        let count = allocations(|| wire.chunks(piece).for_each(|part| road.feed(part, |bytes| sent += bytes.len())));
        assert_eq!(count, 0, "{piece} at a time, the first request included");
        assert!(sent > 100 * 60);
    }
    assert_eq!(road.connection.stats().requests, 400);
}

#[test]
#[cfg(feature = "alloc")]
fn a_coded_body_costs_something_once() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(&b"some text that repeats itself, ".repeat(200)).expect("a vector");
    let body = encoder.finish().expect("a vector");
    for path in ["/", "/whole"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let one = [head.as_bytes(), &body].concat();
        let mut road = Road::new(Config::new(Limits::DEFAULT));
        let first = allocations(|| road.feed(&one, |_| {}));
        assert!(first > 0, "the decoder, and what gathers");
        let many = one.repeat(50);
        for piece in [13, 1000, many.len()] {
            let count = allocations(|| many.chunks(piece).for_each(|part| road.feed(part, |_| {})));
            assert_eq!(count, 0, "{path}, {piece} at a time");
        }
        assert_eq!((road.body, road.connection.stats().requests), (6_200, 151));
    }
}

#[test]
#[cfg(feature = "alloc")]
fn a_response_that_is_coded_costs_something_once() {
    use vestibule::decode::coding::Coding;
    let wire = b"GET /long HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip, br\r\n\r\n".repeat(20);
    let mut road = Road::new(Config::new(Limits::DEFAULT).with_response_codings(&[Coding::Gzip]));
    let mut coded = 0;
    assert!(allocations(|| road.feed(&wire, |_| {})) > 0, "the encoder");
    for piece in [1, 50, wire.len()] {
        let count = allocations(|| {
            wire.chunks(piece).for_each(|part| {
                road.feed(part, |bytes| coded += bytes.windows(22).filter(|w| *w == b"content-encoding: gzip").count());
            });
        });
        assert_eq!(count, 0, "{piece} at a time");
    }
    assert_eq!(coded, 60);
}

#[test]
#[cfg(feature = "tls")]
fn a_get_over_tls_costs_nothing_after_the_handshake() {
    let (tls, client) = site::site();
    let (mut road, mut client) = (Road::new(Config::new(Limits::DEFAULT).with_tls(tls)), site::Client::new(&client));
    let mut wire = client.wire();
    while client.is_handshaking() || !wire.is_empty() {
        let mut heard = Vec::new();
        road.feed(&wire, |bytes| heard.extend_from_slice(bytes));
        client.hear(&heard);
        wire = client.wire();
    }
    let get = b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";
    let first = client.say(get, 100);
    let mut heard = Vec::new();
    road.feed(&first, |bytes| heard.extend_from_slice(bytes));
    client.hear(&heard);
    heard = Vec::with_capacity(1 << 20);
    for (record, piece) in [(10, 11), (35, 100), (16_384, 1_000), (16_384, 100_000)] {
        let wire = client.say(&get.repeat(200), record);
        heard.clear();
        let count =
            allocations(|| wire.chunks(piece).for_each(|part| road.feed(part, |bytes| heard.extend_from_slice(bytes))));
        assert_eq!(count, 0, "records of {record}, {piece} at a time");
        client.hear(&heard);
    }
    assert_eq!(String::from_utf8_lossy(&client.heard).matches("hello").count(), 801);
}
