//! In: a client's bytes, made once. Out: what every server needs for them, in memory, on a connection that stays; and
//! what header blocks alone take to decode.
//!
//! A client sends its next batch when it has heard all answers to the last one. The first two batches of a connection
//! are not measured: they fill the dynamic tables, and their answers are looked at, frame by frame. Every server says
//! `200`, a content type, a content length and the content. All of them have the same windows and settings.

mod client;
#[cfg(nghttp2)]
mod nghttp2;
mod peer;

use crate::measure::{Case, Group, Work};
use client::{Ear, Kind, PIECE, Upload};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use vestibule::parse::pack::Decoder;
use vestibule::{Config, Connection, Content, Event, Inbox, Instant, Limit, Limits, Outbox, Pause, Reply};

/// Streams at once.
const BATCH: usize = 100;
/// Content of an upload or a download.
const BODY: usize = 1 << 20;
/// What a server lets a client send, on a stream and on all of them.
const WINDOW: u32 = 1 << 20;
/// The receive buffer of those who have one of their own.
const BUFFER: usize = 65_536;
const TABLE: u32 = 4_096;

const HELLO: &str = "Hello, World!";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is answered.
#[derive(Copy, Clone)]
enum Answer {
    Hello,
    /// 1 MiB.
    Download,
}

impl Answer {
    fn content(self) -> &'static [u8] {
        static CONTENT: [u8; BODY] = [b'x'; BODY];
        match self {
            Answer::Hello => HELLO.as_bytes(),
            Answer::Download => &CONTENT,
        }
    }

    fn length(self) -> &'static str {
        match self {
            Answer::Hello => "13",
            Answer::Download => "1048576",
        }
    }
}

/// One end of a connection.
trait Server {
    fn new(answer: Answer, ear: Rc<RefCell<Ear>>) -> Self;

    /// Takes these bytes, answers what can be answered, and says it into the ear. They are lent: afterwards they are
    /// as they were.
    fn serve(&mut self, bytes: &mut Vec<u8>);
}

/// A client's bytes, made when they are first wanted. Every case of a group is given the same.
type Parts = Rc<RefCell<Vec<Vec<u8>>>>;

/// What is not built in is left out.
macro_rules! servers {
    ($record:expr, $work:ident) => {{
        let record = $record;
        let ours = case("vestibule", &record, $work::<Ours>).without_allocations();
        vec![
            ours,
            case("h2", &record, $work::<peer::H2>),
            #[cfg(nghttp2)]
            case("nghttp2", &record, $work::<nghttp2::Nghttp2>),
        ]
    }};
}

pub(crate) fn groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for (name, kind, count) in [
        ("HTTP/2, GETs as h2load's, 100 at once", Kind::H2load, 20_000),
        ("HTTP/2, GETs as a browser's, 12 fields, 100 at once", Kind::Browser, 20_000),
        ("HTTP/2, the same, all of it literals, 100 at once", Kind::Literals, 10_000),
    ] {
        let record = record(move |n| client::batches(kind, n / BATCH + 2, BATCH));
        groups.push(Group { name, count, batch: BATCH, bytes: None, cases: servers!(record, gets) });
    }
    let cases = servers!(record(|n| client::batches(Kind::H2load, n + 2, 1)), downloads);
    groups.push(Group { name: "HTTP/2, downloads of 1 MiB", count: 64, batch: 1, bytes: Some(BODY), cases });
    let cases = servers!(record(|n| client::heads(Kind::Upload, n + 2)), uploads);
    groups.push(Group { name: "HTTP/2, uploads of 1 MiB", count: 64, batch: 1, bytes: Some(BODY), cases });
    for (name, kind, count) in [
        ("HPACK, blocks as h2load's", Kind::H2load, 20_480),
        ("HPACK, blocks as a browser's, 12 fields", Kind::Browser, 20_480),
        ("HPACK, the same, all of it literals", Kind::Literals, 10_240),
    ] {
        let record = record(move |n| (0..=n).map(|i| kind.block(i)).collect());
        let cases = vec![
            case("vestibule", &record, move |parts, n| unpack(kind, parts, n)).without_allocations(),
            #[cfg(nghttp2)]
            case("nghttp2", &record, move |parts, n| nghttp2::unpack(kind, parts, n)),
        ];
        groups.push(Group { name, count, batch: 1, bytes: None, cases });
    }
    groups
}

/// Makes the bytes for at least so many operations, or shows those that were made.
type Record = Rc<dyn Fn(usize) -> Parts>;

fn record(make: impl Fn(usize) -> Vec<Vec<u8>> + 'static) -> Record {
    let (parts, made) = (Parts::default(), Cell::new(0));
    Rc::new(move |n| {
        if made.get() < n {
            *parts.borrow_mut() = make(n);
            made.set(n);
        }
        parts.clone()
    })
}

fn case(name: &'static str, record: &Record, work: impl Fn(Parts, usize) -> Work + 'static) -> Case {
    let record = record.clone();
    Case::new(name, move |n| work(record(n), n))
}

// ---- what is measured

fn gets<S: Server + 'static>(parts: Parts, n: usize) -> Work {
    answers::<S>(parts, n, BATCH, Answer::Hello)
}

fn downloads<S: Server + 'static>(parts: Parts, n: usize) -> Work {
    answers::<S>(parts, n, 1, Answer::Download)
}

/// A server that has said and heard the settings.
fn open<S: Server>(answer: Answer) -> (S, Rc<RefCell<Ear>>) {
    let ear = Rc::new(RefCell::new(Ear::new()));
    let mut server = S::new(answer, ear.clone());
    server.serve(&mut client::opening());
    server.serve(&mut client::acknowledgement());
    ear.borrow_mut().check(0, 0);
    (server, ear)
}

/// Requests that have no content, a batch at a time.
fn answers<S: Server + 'static>(parts: Parts, n: usize, batch: usize, answer: Answer) -> Work {
    let (mut server, ear) = open::<S>(answer);
    let mut size = 0;
    for part in &mut parts.borrow_mut()[..2] {
        server.serve(part);
        size = ear.borrow_mut().check(batch, answer.content().len());
    }
    ear.borrow_mut().listens = false;
    let batches = n / batch;
    Box::new(move || {
        for part in &mut parts.borrow_mut()[2..2 + batches] {
            server.serve(part);
        }
        assert_eq!(ear.borrow().bytes, batches * size);
    })
}

/// Requests with content, one after the other, piece by piece as the windows allow.
fn uploads<S: Server + 'static>(parts: Parts, n: usize) -> Work {
    let (mut server, ear) = open::<S>(Answer::Hello);
    let mut content = Upload::new();
    let mut upload = move |i: usize, head: &mut Vec<u8>| {
        content.belongs_to(i);
        ear.borrow_mut().stream = WINDOW as usize;
        server.serve(head);
        for piece in &mut content.pieces {
            ear.borrow_mut().spend(PIECE);
            server.serve(piece);
        }
        ear.borrow_mut().check(1, HELLO.len());
    };
    for (i, head) in parts.borrow_mut()[..2].iter_mut().enumerate() {
        upload(i, head);
    }
    Box::new(move || {
        for (i, head) in parts.borrow_mut().iter_mut().enumerate().take(n + 2).skip(2) {
            upload(i, head);
        }
    })
}

/// Header blocks, each decoded to its lines.
fn unpack(kind: Kind, parts: Parts, n: usize) -> Work {
    let (mut decoder, mut lines) = (Decoder::new(TABLE), Vec::with_capacity(4_096));
    decode(&mut decoder, &mut lines, &parts.borrow()[0]);
    assert_eq!(lines, kind.text(0).as_bytes());
    Box::new(move || {
        for block in &parts.borrow()[1..=n] {
            decode(&mut decoder, &mut lines, block);
        }
    })
}

fn decode(decoder: &mut Decoder, lines: &mut Vec<u8>, mut block: &[u8]) {
    lines.clear();
    decoder.begin();
    while let Some(field) = decoder.next(&mut block, lines).expect("a good block") {
        // Not all of it: to lay it out in memory would cost more than to decode it.
        black_box((field.name, field.value));
    }
    black_box(lines);
}

// ---- vestibule

struct Ours {
    connection: Connection<Rc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    now: u64,
    answer: Answer,
    /// How much of the download has been taken.
    at: usize,
    ear: Rc<RefCell<Ear>>,
}

impl Server for Ours {
    fn new(answer: Answer, ear: Rc<RefCell<Ear>>) -> Ours {
        let limits = Limits::DEFAULT
            .with(Limit::StreamWindowBytes, WINDOW.into())
            .and_then(|l| l.with(Limit::ConnectionWindowBytes, WINDOW.into()))
            .and_then(|l| l.with(Limit::ConcurrentStreams, BATCH as u64))
            .expect("limits in their ranges");
        Ours {
            connection: Connection::new(Rc::new(Config::new(limits)), Instant::ZERO),
            inbox: Inbox::new(vec![0; BUFFER]),
            outbox: Outbox::new(vec![0; BUFFER]),
            now: 0,
            answer,
            at: 0,
            ear,
        }
    }

    fn serve(&mut self, bytes: &mut Vec<u8>) {
        let mut rest = &bytes[..];
        loop {
            rest = &rest[self.inbox.fill(rest)..];
            self.now += 1_000;
            let now = Instant::from_nanos(self.now);
            let mut turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox).expect("no misuse");
            while let Some(event) = turn.next() {
                match event {
                    Event::Request(mut request) => {
                        black_box(&request.head);
                        if !request.has_body {
                            self.at = respond(&mut request.reply, self.answer);
                        }
                    }
                    Event::Body(mut body) => {
                        black_box(body.bytes);
                        if body.last {
                            self.at = respond(&mut body.reply, self.answer);
                        }
                    }
                    Event::Writable(mut reply) => {
                        self.at += reply.write(&self.answer.content()[self.at..]).expect("an open answer");
                    }
                    other => panic!("{other:?}"),
                }
            }
            let pause = turn.finish();
            let ready = self.outbox.ready();
            self.ear.borrow_mut().hear(ready);
            let sent = ready.len();
            self.outbox.wrote(sent);
            if rest.is_empty() && matches!(pause, Pause::Input { .. }) {
                return;
            }
        }
    }
}

fn respond(reply: &mut Reply<'_>, answer: Answer) -> usize {
    match answer {
        Answer::Hello => reply.text(200, HELLO).map(|()| HELLO.len()),
        Answer::Download => reply.respond(200, &[("content-type", TEXT)], Content::Whole(answer.content())),
    }
    .expect("room")
}
