//! What the stages of a connection cost, by a clock that the test turns: one tick each time it is asked, and a million while a handler works.
#![cfg(all(feature = "tls", feature = "alloc"))]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/site.rs"]
mod site;

use site::{Client, site_for};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use vestibule::decode::coding::Coding;
use vestibule::rehearsal::{Input, Rehearsal};
use vestibule::{
    Config, Connection, Content, Event, Expect, Inbox, Instant, Limits, Outbox, Pause, Stage, StageStats, Stats,
};

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// Each test has a thread of its own, and so a clock of its own.
fn clock() -> u64 {
    TICKS.set(TICKS.get() + 1);
    TICKS.get()
}

const HANDLER: u64 = 1_000_000;

fn plain() -> Config {
    Config::new(Limits::DEFAULT).with_stage_clock(clock)
}

struct Server {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    events: u64,
    began: u64,
}

impl Server {
    fn new(config: Config) -> Server {
        let began = TICKS.get();
        let connection = Connection::new(Arc::new(config), Instant::ZERO);
        let inbox = Inbox::new(vec![0; connection.config().inbox_bytes()]);
        Server { connection, inbox, outbox: Outbox::new(vec![0; 65_536]), events: 0, began }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            bytes = &bytes[self.inbox.fill(bytes)..];
            let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).unwrap();
            while let Some(event) = turn.next() {
                self.events += 1;
                TICKS.set(TICKS.get() + HANDLER);
                handle(event);
            }
            let pause = turn.finish();
            sent.extend_from_slice(self.outbox.ready());
            self.outbox.wrote(self.outbox.ready().len());
            if bytes.is_empty() && pause != Pause::Yield {
                return sent;
            }
        }
    }

    /// The sums, of which none counts what another one or a handler does.
    fn stages(&self) -> StageStats {
        let stages = self.connection.stages().unwrap();
        let all = [stages.decrypt, stages.parse, stages.decode];
        let most = TICKS.get() - self.began - self.events * HANDLER;
        assert!(all.iter().map(|stage| stage.ticks).sum::<u64>() <= most, "{stages:?} in {most} ticks");
        assert!(all.iter().all(|stage| (stage.count == 0) == (stage.ticks == 0)), "{stages:?}");
        assert!(self.connection.retained_bytes() <= self.connection.config().machine_bound_bytes());
        stages
    }
}

fn handle(event: Event<'_>) {
    match event {
        Event::Request(mut request) if request.has_body => {
            request.reply.expect(Expect::Whole { max: 100_000 });
        }
        Event::Request(mut request) => request.reply.text(200, "hello").unwrap(),
        Event::Body(mut body) => {
            let taken = body.reply.respond(200, &[("content-type", "text/plain")], Content::Whole(body.bytes));
            assert_eq!(taken, Ok(body.bytes.len()));
        }
        Event::Fault(_) => {}
        event => panic!("{event:?}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn without_a_clock_nothing_is_measured() {
    let mut server = Server::new(Config::new(Limits::DEFAULT));
    server.take(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!((server.connection.stages(), TICKS.get()), (None, HANDLER));
}

#[test]
fn the_parser_is_charged_for_its_steps_and_nobody_for_the_handler() {
    let mut server = Server::new(plain());
    let requests = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3);
    server.take(&requests);
    let stages = server.stages();
    assert_eq!((stages.parse.count, stages.parse.bytes), (server.connection.stats().units, requests.len() as u64));
    assert_eq!((stages.decrypt, stages.decode), (Stage::default(), Stage::default()));
    assert_eq!(server.events, 3);
}

#[test]
fn records_are_counted_as_they_are_opened_and_sealed() {
    let (tls, trust) = site_for(&["http/1.1"]);
    let mut server = Server::new(plain().with_tls(tls));
    let mut client = Client::new(&trust);
    let mut flight = client.wire();
    while client.is_handshaking() {
        client.hear(&server.take(&flight));
        flight = client.wire();
    }
    client.hear(&server.take(&flight));
    let before = server.stages();
    assert!(before.decrypt.count > 0, "the handshake");
    let record = client.say(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 100);
    let sent = server.take(&record);
    let after = server.stages();
    assert_eq!(after.decrypt.count - before.decrypt.count, 2, "one opened, one sealed");
    assert_eq!(after.decrypt.bytes - before.decrypt.bytes, (record.len() + sent.len()) as u64);
    assert_eq!(after.parse.bytes - before.parse.bytes, 27);
}

#[test]
fn codings_both_ways_and_gathered_bodies_are_decoding() {
    let body = b"a line of text that is worth a coding\n".repeat(1_000);
    let coded = gzip(&body);
    let mut server = Server::new(plain());
    server.take(&post("content-encoding: gzip\r\n", &coded));
    let stages = server.stages();
    assert_eq!((stages.decode.bytes, stages.decrypt), (body.len() as u64, Stage::default()));
    assert!(stages.decode.count > 1);

    let long = vec![b'x'; 60_000]; // it does not fit the inbox
    let mut gathered = Server::new(plain());
    gathered.take(&post("", &long));
    assert_eq!(gathered.stages().decode.bytes, long.len() as u64);

    let mut answered = Server::new(plain().with_response_codings(&[Coding::Gzip]));
    let short = &body[..10_000];
    let sent = answered.take(&post("accept-encoding: gzip\r\n", short));
    assert!(sent.windows(22).any(|w| w == b"content-encoding: gzip"));
    assert_eq!(answered.stages().decode.bytes, short.len() as u64);
    let kept = answered.stages();
    answered.inbox.end();
    answered.take(b"");
    assert_eq!(answered.stages().decode, kept.decode, "what was counted stays when the connection closes");
}

#[test]
fn http_2_is_measured_alike() {
    let body = b"a line of text that is worth a coding\n".repeat(1_000);
    let coded = gzip(&body);
    assert!(coded.len() < 16_384);
    // POST / with content-encoding (static name 26) and no length; then all of the content in one frame.
    let block = b"\x83\x86\x84\x41\x01a\x0f\x0b\x04gzip";
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1]);
    bytes.extend_from_slice(block);
    bytes.extend_from_slice(&[0, (coded.len() >> 8) as u8, coded.len() as u8, 0, 1, 0, 0, 0, 1]);
    bytes.extend_from_slice(&coded);
    let mut server = Server::new(plain());
    server.take(&bytes);
    let stages = server.stages();
    assert_eq!(server.events, 2);
    assert_eq!((stages.decode.bytes, stages.parse.bytes), (body.len() as u64, bytes.len() as u64));
}

/// GET with `:authority a` on this stream.
fn get2(stream: u8) -> Vec<u8> {
    [&[0, 0, 6, 1, 5, 0, 0, 0, stream][..], b"\x82\x86\x84\x41\x01a"].concat()
}

#[test]
fn every_head_of_a_response_is_counted_by_its_class_in_both_versions() {
    let upload = "POST /100 HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut server = Server::new(plain());
    let sent = server.take(upload.as_bytes());
    assert_eq!(sent, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(server.stages().responses, [1, 0, 0, 0, 0], "the machine's own");
    server.take(b"helloGET / HTTP/1.1\r\nhost: a\r\n\r\nHEAD / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\n\n");
    assert_eq!(server.stages().responses, [1, 3, 0, 1, 0], "two bodies, a HEAD, and a fault");

    let mut server = Server::new(plain());
    server.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(server.stages().responses, [0; 5], "settings are no response");
    server.take(&[get2(1), get2(3)].concat());
    assert_eq!(server.stages().responses, [0, 2, 0, 0, 0]);
}

/// Whatever a handler says, in a turn of its own: what it says wrong is not counted, and content is not.
#[test]
fn a_response_is_counted_once_and_a_mistake_is_none() {
    let mut server = Server::new(plain());
    server.inbox.fill(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    let mut turn = server.connection.turn(Instant::ZERO, &mut server.inbox, &mut server.outbox).unwrap();
    let Some(Event::Request(mut request)) = turn.next() else { panic!("no request") };
    let reply = &mut request.reply;
    assert!(reply.respond(600, &[], Content::Streamed).is_err());
    assert!(reply.respond(200, &[("a b", "")], Content::Streamed).is_err());
    reply.inform(103, &[]).unwrap();
    reply.respond(503, &[], Content::Streamed).unwrap();
    assert!(reply.respond(200, &[], Content::Streamed).is_err() && reply.upgrade("x", &[]).is_err());
    reply.write(b"by and by").unwrap();
    reply.trailers(&[("x", "y")]).unwrap();
    let _ = turn.finish();
    assert_eq!(server.stages().responses, [1, 0, 0, 0, 1]);
    // An outbox that another connection has written to brings nothing of that along.
    let mut old = Server::new(Config::new(Limits::DEFAULT));
    old.take(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut next = Server::new(plain());
    next.outbox = old.outbox;
    next.take(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(next.stages().responses, [0, 1, 0, 0, 0]);
}

#[test]
fn the_clock_changes_nothing_else() {
    let body = b"text ".repeat(5_000);
    let coded = gzip(&body);
    let head = format!(
        "POST /whole/90000 HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        coded.len()
    );
    let steps = [Input::Bytes([head.as_bytes(), &coded, b"GET / HTTP/1.1\r\nhost: a\r\n\r\nBAD"].concat()), Input::End];
    let without = Rehearsal::new(Arc::new(Config::new(Limits::DEFAULT))).play(&steps);
    assert_eq!(Rehearsal::new(Arc::new(plain())).play(&steps), without);

    let stats = |config| -> Stats {
        let mut server = Server::new(config);
        server.take(&post("content-encoding: gzip\r\n", &coded));
        server.connection.stats()
    };
    assert_eq!(stats(plain()), stats(Config::new(Limits::DEFAULT)));
}
