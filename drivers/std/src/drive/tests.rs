//! The loop against a socket that is a model: what a kernel may do, in an order that a seed decides.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Server, Service};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use vestibule::{Expect, Limit, Limits};

/// A socket that reads and writes as little as it likes, and is interrupted now and then.
struct Model {
    input: VecDeque<u8>,
    output: Vec<u8>,
    seed: u64,
    /// Everything at once, and never a hitch.
    smooth: bool,
    /// Calls of `write` from which on it says 0.
    writes_left: u32,
    half_closed: bool,
    read_behind: usize,
}

impl Model {
    fn new(input: &[u8], seed: u64) -> Model {
        let input = input.iter().copied().collect();
        let (smooth, writes_left) = (seed == 0, u32::MAX);
        Model { input, output: Vec::new(), seed, smooth, writes_left, half_closed: false, read_behind: 0 }
    }

    /// xorshift: the same seed, the same socket.
    fn draw(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below as u64) as usize
    }

    fn hitch(&mut self) -> io::Result<()> {
        match self.draw(6) {
            0 => Err(ErrorKind::Interrupted.into()),
            1 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl Wire for Model {
    fn read(&mut self, into: &mut [u8], _wait: Duration) -> io::Result<usize> {
        assert!(!into.is_empty());
        let mut n = into.len().min(self.input.len());
        if !self.smooth {
            self.hitch()?;
            n = n.min(1 + self.draw(3000));
        }
        for (to, byte) in into.iter_mut().zip(self.input.drain(..n)) {
            *to = byte;
        }
        if self.half_closed {
            self.read_behind += n;
        }
        Ok(n)
    }

    fn write(&mut self, bytes: &[u8], _wait: Duration) -> io::Result<usize> {
        assert!(!bytes.is_empty() && !self.half_closed);
        if self.writes_left == 0 {
            return Ok(0);
        }
        self.writes_left -= 1;
        let mut n = bytes.len();
        if !self.smooth {
            self.hitch()?;
            n = n.min(1 + self.draw(5000));
        }
        self.output.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn half_close(&mut self) {
        assert!(!self.half_closed, "once");
        self.half_closed = true;
    }
}

/// Echoes bodies, and answers everything else with many bytes; panics at one of its events.
#[derive(Default)]
struct Echo {
    /// What is still to be written, and whether that is all.
    open: BTreeMap<Id, (Vec<u8>, bool)>,
    events: u32,
    panic_at: Option<u32>,
}

impl Echo {
    fn go_on(&mut self, reply: &mut Reply<'_>, more: &[u8], last: bool) -> Result<(), Misuse> {
        let (rest, finish) = self.open.entry(reply.id()).or_default();
        rest.extend_from_slice(more);
        *finish |= last;
        let n = reply.write(rest)?;
        rest.drain(..n);
        if *finish && rest.is_empty() {
            self.open.remove(&reply.id());
            reply.finish()?;
        }
        Ok(())
    }
}

impl Service for Echo {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        let number = self.events;
        self.events += 1;
        assert_ne!(Some(number), self.panic_at, "as asked");
        match event {
            Event::Request(mut request) => {
                request.reply.respond(200, &[], Content::Streamed)?;
                if !request.has_body {
                    let many: Vec<u8> = (0..150_000u32).map(|i| (i / 7) as u8).collect();
                    self.go_on(&mut request.reply, &many, true)?;
                }
            }
            Event::Body(mut body) => self.go_on(&mut body.reply, body.bytes, body.last)?,
            Event::Writable(mut reply) => self.go_on(&mut reply, b"", false)?,
            Event::Aborted { id, .. } => drop(self.open.remove(&id)),
            _ => {}
        }
        Ok(())
    }
}

fn conversation() -> Vec<u8> {
    let body = vec![b'b'; 200_000];
    let mut input = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    input
        .extend_from_slice(format!("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    input.extend_from_slice(&body);
    input.extend_from_slice(b"GET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    input
}

/// Plays it; how it ended, and what was said.
fn play<S: Service + 'static>(model: &mut Model, service: impl Fn() -> S + Send + Sync + 'static) -> Vec<String> {
    play_with(Limits::DEFAULT, 65_536, model, service)
}

fn play_with<S: Service + 'static>(
    limits: Limits,
    buffer_bytes: usize,
    model: &mut Model,
    service: impl Fn() -> S + Send + Sync + 'static,
) -> Vec<String> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = said.clone();
    let server = Server::builder()
        .http("127.0.0.1:0".parse().unwrap())
        .limits(limits)
        .service(move |_| service())
        .on_fault(move |incident| log.lock().unwrap().push(incident.what.clone()))
        .bind()
        .unwrap();
    let (shared, listener) = server.parts();
    let addr = "127.0.0.1:1".parse().unwrap();
    let peer = Peer { addr, local: addr, tls: false };
    serve(model, listener, peer, &mut Buffers::new(buffer_bytes, buffer_bytes), shared);
    let said = said.lock().unwrap();
    said.iter().map(|what| format!("{what:?}")).collect()
}

/// The content of a series of chunked responses, so that where chunks were cut does not count.
fn contents(mut output: &[u8]) -> Vec<(String, Vec<u8>)> {
    let line = |output: &mut &[u8]| {
        let end = output.windows(2).position(|w| w == b"\r\n").unwrap();
        let line = String::from_utf8(output[..end].to_vec()).unwrap();
        *output = &output[end + 2..];
        line
    };
    let mut all = Vec::new();
    while !output.is_empty() {
        let (mut head, mut content) = (String::new(), Vec::new());
        loop {
            match line(&mut output) {
                empty if empty.is_empty() => break,
                field => head = head + &field + "|",
            }
        }
        while head.contains("chunked") {
            let n = usize::from_str_radix(&line(&mut output), 16).unwrap();
            content.extend_from_slice(&output[..n]);
            output = &output[n..];
            assert_eq!(line(&mut output), "");
            if n == 0 {
                break;
            }
        }
        all.push((head, content));
    }
    all
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a client says first that has room for everything.
fn greeting_h2() -> Vec<u8> {
    let mut input = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let wide = 1u32 << 24;
    input.extend(frame(4, 0, 0, &[&[0, 4][..], &wide.to_be_bytes(), &[0, 1, 0, 0, 0, 0]].concat()));
    input.extend(frame(4, 1, 0, b""));
    input.extend(frame(8, 0, 0, &wide.to_be_bytes()));
    input
}

/// RFC 7541 appendix A.
const GET: u8 = 0x82;
const POST: u8 = 0x83;

fn head_h2(method: u8) -> [u8; 6] {
    [method, 0x86, 0x84, 0x01, 1, b'a']
}

/// The same in HTTP/2, all at once, with windows for all of it.
fn conversation_h2() -> Vec<u8> {
    let mut input = greeting_h2();
    input.extend(frame(1, 4 | 1, 1, &head_h2(GET)));
    input.extend(frame(1, 4, 3, &head_h2(POST)));
    input.extend(frame(1, 4 | 1, 5, &head_h2(GET)));
    for piece in 0..20u8 {
        input.extend(frame(0, u8::from(piece == 19), 3, &vec![b'b'; 10_000]));
        if piece == 10 {
            input.extend(frame(1, 4 | 1, 7, &head_h2(GET)));
        }
    }
    input
}

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq)]
struct Stream {
    status: u8,
    content: Vec<u8>,
    ended: bool,
    reset: bool,
}

/// What came on each stream, and on the connection (stream 0: the last GOAWAY).
fn streams(mut output: &[u8]) -> BTreeMap<u32, Stream> {
    let mut all = BTreeMap::new();
    while !output.is_empty() {
        let [a, b, c, kind, flags, s, t, u, v] = *output.first_chunk::<9>().unwrap();
        let (payload, rest) = output[9..].split_at(u32::from_be_bytes([0, a, b, c]) as usize);
        output = rest;
        let stream: &mut Stream = all.entry(u32::from_be_bytes([s, t, u, v])).or_default();
        match kind {
            0 => stream.content.extend_from_slice(payload),
            1 => stream.status = *payload.iter().find(|b| **b & 0xe0 != 0x20).unwrap(),
            3 => stream.reset = true,
            7 => stream.content = payload.to_vec(),
            _ => {}
        }
        stream.ended |= kind < 2 && flags & 1 != 0;
    }
    all
}

/// `:status` 200 and 500 in the static table.
const OK: u8 = 0x88;
const FAILED: u8 = 0x8e;

/// DRV-05: every byte once and in order, whatever the kernel takes at a time.
#[test]
fn short_writes_interruptions_and_full_buffers_change_nothing() {
    let input = conversation();
    let mut smooth = Model::new(&input, 0);
    assert_eq!(play(&mut smooth, Echo::default), [""; 0]);
    let reference = contents(&smooth.output);
    assert_eq!(reference.iter().map(|r| r.1.len()).collect::<Vec<_>>(), [150_000, 200_000, 150_000]);
    assert!(smooth.half_closed);
    for seed in 1..=60 {
        let mut model = Model::new(&input, seed);
        assert_eq!(play(&mut model, Echo::default), [""; 0], "seed {seed}");
        assert_eq!(contents(&model.output), reference, "seed {seed}");
    }
}

#[test]
fn nor_do_they_with_many_streams() {
    let input = conversation_h2();
    let mut smooth = Model::new(&input, 0);
    assert_eq!(play(&mut smooth, Echo::default), [""; 0]);
    let reference = streams(&smooth.output);
    for (number, n) in [(1, 150_000), (3, 200_000), (5, 150_000), (7, 150_000)] {
        let Stream { status, content, ended, reset } = &reference[&number];
        assert_eq!((*status, content.len(), *ended, *reset), (OK, n, true, false), "{number}");
    }
    assert!(smooth.half_closed);
    for seed in 1..=60 {
        let mut model = Model::new(&input, seed);
        assert_eq!(play(&mut model, Echo::default), [""; 0], "seed {seed}");
        assert!(streams(&model.output) == reference, "seed {seed}");
    }
}

/// Takes 64 KiB before it gives anything back.
struct Batches(Vec<u8>);
impl Service for Batches {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => {
                request.reply.expect(Expect::Manual).respond(200, &[], Content::Streamed)?;
            }
            Event::Body(mut body) => {
                self.0.extend_from_slice(body.bytes);
                if self.0.len() == 65_536 || body.last {
                    assert_eq!(body.reply.write(&self.0), Ok(self.0.len()));
                    body.reply.release(self.0.len() as u32);
                    self.0.clear();
                }
                if body.last {
                    body.reply.finish()?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// However turns and reads are cut, that is nobody's mistake.
fn late(seeds: std::ops::RangeInclusive<u64>, units: std::ops::RangeInclusive<u64>) {
    let mut input = greeting_h2();
    input.extend(frame(1, 4, 1, &head_h2(POST)));
    (0..16).for_each(|_| input.extend(frame(0, 0, 1, &[b'b'; 4_096])));
    input.extend(frame(0, 1, 1, b"end"));
    for (seed, units) in seeds.flat_map(|seed| units.clone().map(move |units| (seed, units))) {
        let limits = Limits::DEFAULT.with(Limit::TurnUnits, units).unwrap();
        let mut model = Model::new(&input, seed);
        assert_eq!(play_with(limits, 131_072, &mut model, || Batches(Vec::new())), [""; 0], "{seed} {units}");
        let Stream { status, content, ended, .. } = &streams(&model.output)[&1];
        assert_eq!((*status, content.len(), *ended), (OK, 65_539, true), "{seed} {units}");
    }
}

#[test]
fn a_body_that_is_given_back_late_is_not_unanswered() {
    late(0..=0, 1..=20);
}

#[test]
fn nor_is_one_that_comes_in_pieces() {
    late(1..=60, 256..=256);
}

/// DRV-05: a write that takes nothing of something means that the stream is closed; nobody tries for ever.
#[test]
fn a_write_of_nothing_ends_the_connection() {
    for writes in 0..8 {
        let mut model = Model::new(&conversation(), 0);
        model.writes_left = writes;
        assert_eq!(play(&mut model, Echo::default), [""; 0]);
        assert_eq!(model.writes_left, 0);
    }
}

/// DRV-06: wherever the peer ends, the loop ends, too, and says what was wrong.
#[test]
fn the_peer_may_end_anywhere() {
    let input = conversation();
    let points = (0..120).chain((120..input.len()).step_by(9973)).chain(input.len() - 60..=input.len());
    for cut in points {
        let mut model = Model::new(&input[..cut], 1 + cut as u64);
        let said = play(&mut model, Echo::default);
        assert!(said.len() <= 1, "{cut}: {said:?}");
        assert!(model.half_closed, "{cut}");
    }
}

#[test]
fn the_peer_may_end_anywhere_in_http2_too() {
    let input = conversation_h2();
    let points = (0..200).chain((200..input.len()).step_by(9973)).chain(input.len() - 60..=input.len());
    for cut in points {
        let mut model = Model::new(&input[..cut], 1 + cut as u64);
        let said = play(&mut model, Echo::default);
        assert!(said.len() <= 1, "{cut}: {said:?}");
        assert!(model.half_closed, "{cut}");
    }
}

/// DRV-07: the answer goes out, then the writing side closes, then a bounded rest is read.
#[test]
fn a_refused_body_is_read_for_a_while() {
    let mut input = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n".to_vec();
    input.resize(1_000_000, b'x');
    let mut model = Model::new(&input, 0);
    let said = play(&mut model, Echo::default);
    assert!(said[0].contains("BodyTooLarge"), "{said:?}");
    assert!(model.output.starts_with(b"HTTP/1.1 413 "));
    assert!(model.half_closed && model.read_behind <= 2 * 65_536, "read {} more", model.read_behind);
}

/// DRV-04: a panic at any event ends its connection, with 500 if nothing was said; the next connection is not touched.
#[test]
fn a_panic_at_any_event_stays_inside_its_connection() {
    let input = conversation();
    let mut smooth = Model::new(&input, 0);
    play(&mut smooth, Echo::default);
    std::panic::set_hook(Box::new(|_| {}));
    let mut panics = 0;
    for index in 0..1000 {
        let mut model = Model::new(&input, 0);
        let said = play(&mut model, move || Echo { panic_at: Some(index), ..Echo::default() });
        if said.is_empty() {
            break;
        }
        panics += 1;
        assert_eq!(said, ["Panic"], "{index}");
        assert!(model.half_closed, "{index}");
        let refused = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let before = model.output.strip_suffix(refused).unwrap_or(&model.output);
        assert!(smooth.output.starts_with(before), "{index}");
        if index == 0 {
            assert_eq!(model.output, refused);
        }
        let mut sibling = Model::new(&input, 0);
        assert_eq!(play(&mut sibling, Echo::default), [""; 0]);
        assert_eq!(sibling.output, smooth.output);
    }
    let _ = std::panic::take_hook();
    assert!(panics > 10, "{panics}");
}

/// DRV-04, with many streams: what was begun is reset, what was not is refused with 500, what was complete stays so.
#[test]
fn a_panic_at_any_event_refuses_the_other_streams_too() {
    let input = conversation_h2();
    let mut smooth = Model::new(&input, 0);
    play(&mut smooth, Echo::default);
    let reference = streams(&smooth.output);
    std::panic::set_hook(Box::new(|_| {}));
    let mut panics = 0;
    for index in 0..1000 {
        let mut model = Model::new(&input, 0);
        let said = play(&mut model, move || Echo { panic_at: Some(index), ..Echo::default() });
        if said.is_empty() {
            break;
        }
        panics += 1;
        assert_eq!(said, ["Panic"], "{index}");
        assert!(model.half_closed, "{index}");
        let got = streams(&model.output);
        assert_eq!(got[&0].content[4..], [0, 0, 0, 0], "{index}: GOAWAY with NO_ERROR");
        for (number, stream) in got.iter().filter(|s| *s.0 > 0) {
            let whole = &reference[number];
            match stream.status {
                OK if stream.ended => assert!(stream == whole, "{index}: {number}"),
                OK => assert!(stream.reset && whole.content.starts_with(&stream.content), "{index}: {number}"),
                _ => assert_eq!(
                    (stream.status, stream.ended, stream.content.len()),
                    (FAILED, true, 0),
                    "{index}: {number}"
                ),
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(panics > 10, "{panics}");
}

/// A service that forgets to answer cannot hang its connection, nor the requests behind.
#[test]
fn an_exchange_without_an_answer_gets_500_and_a_half_given_one_the_end() {
    let input = b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nxGET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut model = Model::new(input, 0);
    let said = play(&mut model, || |_: Event<'_>| Ok(()));
    assert_eq!(said, ["Unanswered", "Unanswered"]);
    let refused = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(model.output, [&refused[..], &refused[..]].concat());

    let mut model = Model::new(input, 0);
    let said = play(&mut model, || {
        |event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.respond(200, &[], Content::Sized(10))?;
                request.reply.write(b"half")?;
            }
            Ok(())
        }
    });
    assert_eq!(said, ["Unanswered"]);
    assert_eq!(model.output, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
}

/// `Expect::Manual` without a release, and a body that is wanted by a job: both come to an end here.
#[test]
fn what_a_synchronous_service_cannot_wait_for_is_decided() {
    let mut input = b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n".to_vec();
    input.resize(input.len() + 100_000, b'x');
    let mut model = Model::new(&input, 0);
    let said = play(&mut model, || {
        |event: Event<'_>| {
            if let Event::Request(mut request) = event {
                request.reply.expect(Expect::Manual);
            }
            Ok(())
        }
    });
    assert_eq!(said, ["Unanswered"]);
    assert!(model.output.starts_with(b"HTTP/1.1 500 "));

    let coded = b"\x78\x9c\x4b\x4c\x4a\x06\x00\x02\x4d\x01\x27";
    let mut input = b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-encoding: deflate\r\ncontent-length: 11\r\n\r\n".to_vec();
    input.extend_from_slice(coded);
    let mut model = Model::new(&input, 0);
    let said = play(&mut model, || {
        |event: Event<'_>| {
            match event {
                Event::Request(mut request) => {
                    request.reply.expect(Expect::WholeByJob { max: 100 });
                }
                Event::Body(mut body) => {
                    body.reply.respond(200, &[], Content::Whole(body.bytes))?;
                }
                _ => {}
            }
            Ok(())
        }
    });
    assert_eq!(said, [""; 0]);
    assert!(model.output.ends_with(b"\r\n\r\nabc"));
}
