//! What a connection holds, counted by the allocator. One test, since it counts every allocation.
#![cfg(feature = "alloc")]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "support/heap.rs"]
mod heap;

use heap::{LIVE, PEAK};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;

use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Limit, Limits, Outbox, Pause};

/// A connection whose heap is all that this thread allocates meanwhile: its caller and handler allocate nothing.
struct Road {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    base: isize,
    /// What `retained_bytes` says of a connection with nothing on the heap.
    state: usize,
    reads: bool,
    accepted: usize,
    pause: Pause,
    jobs: usize,
}

impl Road {
    fn new(config: &Arc<Config>, inbox_bytes: usize) -> Road {
        let (inbox, outbox) = (Inbox::new(vec![0; inbox_bytes]), Outbox::new(vec![0; 16_384]));
        let base = LIVE.with(Cell::get);
        PEAK.with(|peak| peak.set(base));
        let connection = Connection::new(config.clone(), Instant::ZERO);
        let state = connection.retained_bytes();
        assert_eq!(LIVE.with(Cell::get), base, "a new connection has nothing on the heap");
        Road { connection, inbox, outbox, base, state, reads: true, accepted: 0, pause: Pause::Yield, jobs: 0 }
    }

    fn heap(&self) -> usize {
        (LIVE.with(Cell::get) - self.base) as usize
    }

    fn peak(&self) -> usize {
        (PEAK.with(Cell::get) - self.base) as usize
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let n = self.inbox.fill(bytes);
            bytes = &bytes[n..];
            let (waiting, happened) = (self.inbox.len(), self.turn());
            let stuck = n == 0 && !happened && self.inbox.len() == waiting && self.pause != Pause::Yield;
            if stuck || self.pause == Pause::Closed {
                return;
            }
        }
    }

    fn turn(&mut self) -> bool {
        let mut happened = false;
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        while let Some(event) = turn.next() {
            happened = true;
            match event {
                Event::Request(mut request) => match request.head.path() {
                    "/whole" => drop(request.reply.expect(Expect::Whole { max: 1 << 20 })),
                    "/job" => drop(request.reply.expect(Expect::WholeByJob { max: 1 << 20 })),
                    "/coded" => {
                        let text = [("content-type", "text/plain")];
                        request.reply.respond(200, &text, Content::Whole(TEXT)).expect("room for a head");
                    }
                    "/flood" => {
                        let _ = request.reply.respond(200, &[], Content::Streamed);
                        while let Ok(n @ 1..) = request.reply.write(&[b'f'; 5000]) {
                            self.accepted += n;
                        }
                    }
                    _ if !request.has_body => request.reply.text(200, "ok").expect("room"),
                    _ => {}
                },
                Event::Body(mut body) if body.last => body.reply.text(200, "ok").expect("room"),
                Event::Writable(mut reply) => self.accepted += reply.write(&[b'f'; 5000]).expect("open"),
                _ => {}
            }
        }
        if let Some(job) = turn.job() {
            self.jobs += 1;
            // What a job holds while it runs is its runner's: the connection is as it was, less the coded body that it gave away.
            let peak = PEAK.with(Cell::get);
            let done = job.run();
            PEAK.with(|now| now.set(peak.max(LIVE.with(Cell::get))));
            turn.done(done);
        }
        self.pause = turn.finish();
        if self.reads {
            happened |= !self.outbox.is_empty();
            self.outbox.wrote(usize::MAX);
        }
        self.check();
        happened
    }

    /// Rule 3: what it says agrees with what it holds, and neither passes the bound.
    fn check(&self) {
        let (said, held) = (self.connection.retained_bytes() - self.state, self.heap());
        assert!(held <= said, "holds {held}, and says {said}");
        assert!(said <= held + held / 20 + 512, "says {said}, and holds {held}");
        let bound = self.connection.config().machine_bound_bytes();
        assert!(self.state + self.peak() <= bound, "{} + {} of {bound}", self.state, self.peak());
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes).expect("a vector");
    encoder.finish().expect("a vector")
}

#[cfg(feature = "br")]
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
    encoder.write_all(bytes).expect("a vector");
    encoder.into_inner()
}

#[cfg(feature = "zstd")]
fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("memory")
}

/// A frame of one byte that claims the largest window.
#[cfg(feature = "zstd")]
const ZSTD_CLAIM: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x68, 9, 0, 0, b'x'];

fn post(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{coding}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let mut wire =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\n{coding}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(777) {
        wire.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    wire.extend(b"0\r\n\r\n");
    wire
}

/// Nothing repeats in it, so it does not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut seed = 9u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Bodies of every kind, at their largest and beyond.
fn wires() -> Vec<(&'static str, Vec<u8>)> {
    let (mib, text) = (
        vec![b'x'; 1 << 20],
        noise(20_000).iter().flat_map(|b| format!("{b:02x} some text, ").into_bytes()).collect::<Vec<u8>>(),
    );
    let (coding, almost) = ("content-encoding: gzip\r\n", noise((1 << 20) - 2000));
    #[cfg(any(feature = "br", feature = "zstd"))]
    let long: Vec<u8> = noise(200_000).iter().flat_map(|b| format!("{b:02x} some text, ").into_bytes()).collect();
    vec![
        #[cfg(feature = "br")]
        ("a brotli body", post("/", "content-encoding: br\r\n", &brotli(&long))),
        #[cfg(feature = "br")]
        ("a brotli body, whole", post("/whole", "content-encoding: br\r\n", &brotli(&text))),
        #[cfg(feature = "br")]
        ("a bomb in brotli", post("/", "content-encoding: br\r\n", &brotli(&vec![0; 16 << 20]))),
        #[cfg(feature = "zstd")]
        ("a zstd body", post("/", "content-encoding: zstd\r\n", &zstd(&long))),
        #[cfg(feature = "zstd")]
        ("a zstd body, whole", chunked("/whole", "content-encoding: zstd\r\n", &zstd(&text))),
        #[cfg(feature = "zstd")]
        ("a bomb in zstd", post("/", "content-encoding: zstd\r\n", &zstd(&vec![0; 16 << 20]))),
        #[cfg(feature = "zstd")]
        ("a claim in zstd", post("/", "content-encoding: zstd\r\n", ZSTD_CLAIM)),
        ("a get", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        ("a body in parts", post("/", "", &mib)),
        ("a whole body", post("/whole", "", &mib)),
        ("a whole body in chunks", chunked("/whole", "", &mib)),
        ("a coded body", post("/", coding, &gzip(&text))),
        ("a coded body, whole", chunked("/whole", coding, &gzip(&text))),
        ("the largest coded body, whole", post("/whole", coding, &gzip(&almost))),
        ("the largest coded body, by a job", post("/job", coding, &gzip(&almost))),
        ("a job", chunked("/job", coding, &gzip(&text))),
        ("a whole body that is too long", post("/whole", "", &vec![b'x'; (1 << 20) + 1])),
        ("a bomb", post("/whole", coding, &gzip(&vec![0; 16 << 20]))),
        ("a bomb in parts", post("/", coding, &gzip(&vec![0; 16 << 20]))),
        ("a broken coding", post("/whole", coding, &[&gzip(&text)[..300], &[0xff; 5000]].concat())),
        ("a head that is too long", [b"GET / HTTP/1.1\r\n", &mib[..]].concat()),
    ]
}

/// What is coded, short enough to be taken at once.
const TEXT: &[u8] = &[b'a'; 8_000];

#[test]
fn encoders_say_what_they_hold() {
    use vestibule::decode::coding::{Coding, Encoder, Flow};
    let all = [Coding::Gzip, Coding::Deflate, Coding::Zstd, Coding::Brotli];
    let letters = noise(300_000).iter().map(|b| b % 32 + 64).collect::<Vec<u8>>();
    let words =
        letters.chunks(7).flat_map(|word| [&word[..word.len().min(usize::from(word[0] % 8))], b" the of "].concat());
    let contents = [letters.clone(), words.collect(), vec![b'a'; 300_000], noise(300_000)];
    let mut room = vec![0; 65_536];
    let codings = all.into_iter().filter(|c| c.is_encodable());
    for (coding, content) in codings.flat_map(|coding| contents.iter().map(move |content| (coding, content))) {
        let base = LIVE.with(Cell::get);
        PEAK.with(|peak| peak.set(base));
        let mut encoder = Encoder::new(coding).expect("memory");
        for flow in [Flow::More, Flow::Flush, Flow::Finish, Flow::More, Flow::Finish] {
            let mut rest = &content[..];
            loop {
                let step = encoder.step(rest, flow, &mut room).expect("it goes on");
                rest = &rest[step.consumed..];
                let held = (LIVE.with(Cell::get) - base) as usize;
                let said = encoder.retained_bytes();
                assert!(held <= said && said <= held + held / 20 + 512, "{coding:?} holds {held}, and says {said}");
                if step.done {
                    break;
                }
            }
            if flow == Flow::Finish {
                encoder.reset(coding).expect("memory");
            }
        }
        let most = (PEAK.with(Cell::get) - base) as usize;
        assert!(most <= Encoder::bound_bytes(coding), "{coding:?}: {most}");
        drop(encoder);
        assert_eq!(LIVE.with(Cell::get), base);
    }
}

#[test]
fn coded_responses_hold_what_they_say_and_nothing_when_they_are_over() {
    use vestibule::decode::coding::Coding;
    for (name, codings) in [("gzip", &[Coding::Gzip][..]), ("zstd", &[Coding::Zstd]), ("br", &[Coding::Brotli])] {
        if !codings.iter().all(|c| c.is_encodable()) {
            continue;
        }
        let config = Arc::new(Config::new(Limits::DEFAULT).with_response_codings(codings));
        let ask = format!("GET /coded HTTP/1.1\r\nhost: a\r\naccept-encoding: {name}\r\n\r\n").into_bytes();
        let mut road = Road::new(&config, config.inbox_bytes());
        road.feed(&ask);
        let once = road.heap();
        assert!(once > 0 || name == "br", "one is kept for the next response");
        for _ in 0..20 {
            road.feed(&ask);
        }
        assert_eq!((road.connection.stats().requests, road.heap()), (21, once), "{name}: no ratchet");
        road.connection.shed();
        road.check();
        assert_eq!(road.heap(), 0, "{name}");
        road.feed(&ask);
        road.inbox.end();
        road.feed(b"");
        assert_eq!((road.pause, road.heap()), (Pause::Closed, 0), "{name}");
    }
}

#[test]
fn bounded_memory() {
    let config = Arc::new(Config::new(Limits::DEFAULT));
    let small = Arc::new(Config::new(Limits::DEFAULT.with(Limit::GatherBytes, 50_000).expect("in range")));
    let wires = wires();
    let mut most = 0;
    for config in [&config, &small] {
        for (name, wire) in &wires {
            for (inbox_bytes, piece) in [(config.inbox_bytes(), 5_000), (2_048, 100), (3 << 20, 1 << 20)] {
                let mut road = Road::new(config, inbox_bytes);
                wire.chunks(piece).for_each(|part| road.feed(part));
                most = most.max(road.peak());
                if name.contains("claim") {
                    assert!(road.peak() <= 48 << 10, "{name}: {} for one byte", road.peak()); // ENC-06
                } else if name.contains("body") && !name.contains("coded") {
                    // M-7: the windows of large bodies go with them.
                    assert!(road.heap() <= (3 << 20) / 2, "{name}: {} are kept", road.heap());
                }
                let fails = [" long", "bomb", "broken"].iter().any(|bad| name.contains(bad));
                let over = config.limits().get(Limit::GatherBytes) < 1 << 20
                    && (name.contains("whole") || name.contains("job"));
                assert_eq!(road.connection.end().is_some(), fails || over, "{name}: {:?}", road.pause);
                // M-11: an idle connection.
                road.connection.shed();
                road.check();
                let idle = road.connection.retained_bytes();
                assert!(idle <= 4 << 10 && road.heap() == 0, "{name}: {idle}, {} on the heap", road.heap());
                // M-14: a closed one, cut anywhere, without being asked to.
                for cut in [wire.len() / 3, wire.len() * 2 / 3, wire.len() - 1] {
                    let mut road = Road::new(config, inbox_bytes);
                    wire[..cut].chunks(piece).for_each(|part| road.feed(part));
                    road.inbox.end();
                    road.feed(b"");
                    assert_eq!(road.pause, Pause::Closed, "{name}");
                    assert_eq!(road.heap(), 0, "{name}: held by a closed connection");
                }
            }
        }
    }
    println!(
        "state {} bytes, most on the heap {most}, bound {}",
        Road::new(&config, 64).state,
        config.machine_bound_bytes()
    );

    // M-12: no ratchet. What one body needed, the thousandth needs, and after them all an idle connection is back.
    let mut road = Road::new(&config, config.inbox_bytes());
    let get = wires.iter().find(|(name, _)| *name == "a get").expect("it is there");
    let good = ["a body in parts", "a coded body", "a coded body, whole"]
        .map(|wanted| &wires.iter().find(|(name, _)| *name == wanted).expect("it is there").1);
    good.iter().for_each(|wire| road.feed(wire));
    let once = road.heap();
    for i in 0..300 {
        road.feed(&get.1);
        road.feed(good[i % 3]);
    }
    assert_eq!((road.connection.stats().requests, road.heap()), (603, once));
    road.connection.shed();
    assert!(road.heap() == 0 && road.connection.retained_bytes() <= 4 << 10);

    // M-13: a peer that does not read. No more is accepted than the outbox holds, and nothing grows.
    let mut road = Road::new(&config, config.inbox_bytes());
    road.reads = false;
    road.feed(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n");
    (0..1000).for_each(|_| road.feed(&[b'x'; 100]));
    assert!(road.accepted <= 16_384 && road.accepted > 14_000, "{}", road.accepted);
    assert_eq!((road.pause, road.heap(), road.peak()), (Pause::Room, 0, 0));
}
