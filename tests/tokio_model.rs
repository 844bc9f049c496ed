//! A model of a tokio driver on the public API, over `tokio::io::duplex`: request bodies as a stream with back-pressure, answers
//! from other tasks by id, and a connection future that can be dropped at any await.
#![cfg(feature = "std")]
#![allow(missing_docs)]

use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use vestibule::{Config, Connection, Content, Event, Expect, Id, Inbox, Instant, Limit, Limits, Misuse, Outbox, Pause};

/// What tasks tell their connection.
enum Back {
    Taken(Id, u32),
    Dropped(Id),
    Answer(Id, u16, Vec<u8>),
}

/// A request's body: taking a part gives its credit back, dropping the rest discards it.
struct Upload {
    id: Id,
    parts: UnboundedReceiver<(Vec<u8>, bool)>,
    back: UnboundedSender<Back>,
    done: bool,
}

/// The request was given up before its body was complete.
#[derive(Debug, PartialEq)]
struct Gone;

impl Upload {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Gone>> {
        if self.done {
            return None;
        }
        let Some((bytes, last)) = self.parts.recv().await else {
            self.done = true;
            return Some(Err(Gone));
        };
        self.done = last;
        let _ = self.back.send(Back::Taken(self.id, bytes.len() as u32));
        Some(Ok(bytes))
    }

    async fn all(&mut self) -> Result<Vec<u8>, Gone> {
        let mut all = Vec::new();
        while let Some(part) = self.next().await {
            all.extend(part?);
        }
        Ok(all)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.back.send(Back::Dropped(self.id));
        }
    }
}

/// A connection with all that it knows. Its future borrows it, so dropping the future loses nothing of it.
struct Road {
    connection: Connection<Arc<Config>>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
    /// Channels have no bound of their own: the machine hands out no more than a window that was not released.
    uploads: HashMap<Id, UnboundedSender<(Vec<u8>, bool)>>,
    /// Answers, or what is left of them, that wait for room.
    rest: HashMap<Id, Vec<u8>>,
    news: VecDeque<Back>,
    back: UnboundedSender<Back>,
    from_tasks: UnboundedReceiver<Back>,
    ended: bool,
    shut: bool,
    /// Most body bytes that were ever out with a task.
    most_out: usize,
    out: usize,
}

impl Road {
    fn new() -> Road {
        let limits = Limits::DEFAULT.with(Limit::BodyBytes, 16 << 20).expect("in range");
        let (back, from_tasks) = unbounded_channel();
        Road {
            connection: Connection::new(Arc::new(Config::new(limits)), Instant::ZERO),
            inbox: Inbox::new(vec![0; 4096]),
            outbox: Outbox::new(vec![0; 4096]),
            uploads: HashMap::new(),
            rest: HashMap::new(),
            news: VecDeque::new(),
            back,
            from_tasks,
            ended: false,
            shut: false,
            most_out: 0,
            out: 0,
        }
    }

    /// Everything between two awaits.
    fn turn<F, R>(&mut self, service: &F) -> Pause
    where
        F: Fn(String, Upload) -> R,
        R: Future<Output = (u16, Vec<u8>)> + Send + 'static,
    {
        let mut turn = self.connection.turn(Instant::ZERO, &mut self.inbox, &mut self.outbox).expect("our own buffers");
        let mut later = VecDeque::new();
        while let Some(news) = self.news.pop_front().or_else(|| self.from_tasks.try_recv().ok()) {
            match news {
                Back::Taken(id, n) => {
                    self.out -= n as usize;
                    if let Some(mut reply) = turn.reply(id) {
                        reply.release(n);
                    }
                }
                Back::Dropped(id) => {
                    self.uploads.remove(&id);
                    if let Some(mut reply) = turn.reply(id) {
                        reply.discard();
                    }
                }
                Back::Answer(id, status, body) => {
                    let Some(mut reply) = turn.reply(id) else { continue };
                    match reply.respond(status, &[], Content::Whole(&body)) {
                        Ok(n) if n < body.len() => drop(self.rest.insert(id, body[n..].to_vec())),
                        Err(Misuse::NoRoom) => later.push_back(Back::Answer(id, status, body)),
                        _ => {}
                    }
                }
            }
        }
        self.news = later;
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut request) => {
                    request.reply.expect(Expect::Manual);
                    let (id, back) = (request.reply.id(), self.back.clone());
                    let (parts, receiver) = unbounded_channel();
                    if request.has_body {
                        self.uploads.insert(id, parts);
                    }
                    let upload = Upload { id, parts: receiver, back: back.clone(), done: !request.has_body };
                    let answer = service(request.head.path().to_owned(), upload);
                    tokio::spawn(async move {
                        let (status, body) = answer.await;
                        let _ = back.send(Back::Answer(id, status, body));
                    });
                }
                Event::Body(body) => {
                    let id = body.reply.id();
                    if let Some(upload) = self.uploads.get(&id)
                        && upload.send((body.bytes.to_vec(), body.last)).is_ok()
                    {
                        self.out += body.bytes.len();
                        self.most_out = self.most_out.max(self.out);
                    }
                    if body.last {
                        self.uploads.remove(&id);
                    }
                }
                Event::Trailers(trailers) => {
                    if let Some(upload) = self.uploads.remove(&trailers.reply.id()) {
                        let _ = upload.send((Vec::new(), true));
                    }
                }
                Event::Writable(mut reply) => {
                    if let Some(rest) = self.rest.remove(&reply.id())
                        && let Ok(n) = reply.write(&rest)
                        && n < rest.len()
                    {
                        self.rest.insert(reply.id(), rest[n..].to_vec());
                    }
                }
                Event::Aborted { id, .. } => {
                    self.uploads.remove(&id);
                    self.rest.remove(&id);
                }
                _ => {}
            }
        }
        turn.finish()
    }

    /// Drives the connection to its end. Every await is safe to drop: what was read or written is noted in the same poll.
    async fn run<IO, F, R>(&mut self, io: &mut IO, service: &F) -> io::Result<()>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        F: Fn(String, Upload) -> R,
        R: Future<Output = (u16, Vec<u8>)> + Send + 'static,
    {
        let (mut reader, mut writer) = split(io);
        loop {
            let pause = self.turn(service);
            if self.outbox.finished() && !self.shut {
                writer.shutdown().await?;
                self.shut = true;
            }
            if pause == Pause::Closed {
                return Ok(());
            }
            if pause == Pause::Yield || (!self.news.is_empty() && self.outbox.is_empty()) {
                tokio::task::yield_now().await;
                continue;
            }
            let reads = matches!(pause, Pause::Input { .. }) && !self.ended;
            tokio::select! {
                n = writer.write(self.outbox.ready()), if !self.outbox.is_empty() => match n? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => self.outbox.wrote(n),
                },
                n = reader.read(self.inbox.spare()), if reads => match n? {
                    0 => {
                        self.ended = true;
                        self.inbox.end();
                    }
                    n => self.inbox.commit(n),
                },
                news = self.from_tasks.recv() => self.news.extend(news),
            }
        }
    }
}

async fn service(path: String, mut body: Upload) -> (u16, Vec<u8>) {
    match path.as_str() {
        "/count" => match body.all().await {
            Ok(all) => (200, format!("{} bytes", all.len()).into_bytes()),
            Err(Gone) => (400, Vec::new()),
        },
        "/echo" => (200, body.all().await.unwrap_or_default()),
        "/drop" => {
            drop(body);
            tokio::task::yield_now().await;
            (200, b"dropped".to_vec())
        }
        "/first" => {
            let first = body.next().await;
            (200, format!("{}", first.is_some_and(|part| part.is_ok())).into_bytes())
        }
        _ => (404, Vec::new()),
    }
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const LAST: &[u8] = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Says everything, hears everything.
async fn converse(client: DuplexStream, wire: Vec<u8>) -> String {
    let (mut reader, mut writer) = split(client);
    let says = async { writer.write_all(&wire).await };
    let mut heard = Vec::new();
    let hears = reader.read_to_end(&mut heard);
    let (said, all) = tokio::join!(says, hears);
    said.expect("the server reads");
    all.expect("the server ends it");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_are_streams_and_answers_come_from_other_tasks() {
    let wire = [
        post("/count", &[b'x'; 300_000]),
        post("/echo", b"hello"),
        post("/count", b""),
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n".to_vec(),
        post("/echo", &[b'e'; 100_000]),
        LAST.to_vec(),
    ]
    .concat();
    let (client, mut server) = duplex(64);
    let mut road = Road::new();
    let (heard, outcome) = tokio::join!(converse(client, wire), async {
        let outcome = road.run(&mut server, &service).await;
        drop(server);
        outcome
    });
    outcome.expect("no trouble");
    let bodies: Vec<&str> = heard.split("\r\n\r\n").collect();
    assert!(bodies[1].starts_with("300000 bytes") && bodies[2].starts_with("hello"));
    assert!(bodies[3].starts_with("0 bytes") && bodies[4].starts_with("abcHTTP/1.1"));
    assert!(bodies[5].starts_with(&"e".repeat(100_000)) && heard.contains("404"));
    assert!(road.most_out <= 65_536, "{}", road.most_out);
}

/// A task that does not read stops its peer: what is out is at most one window.
#[tokio::test(flavor = "current_thread")]
async fn back_pressure_reaches_the_peer() {
    let (release, hold) = oneshot::channel::<()>();
    let hold = Arc::new(tokio::sync::Mutex::new(Some(hold)));
    let slow = move |_: String, mut body: Upload| {
        let hold = hold.clone();
        async move {
            if let Some(hold) = hold.lock().await.take() {
                let _ = hold.await;
            }
            (200, format!("{} bytes", body.all().await.unwrap_or_default().len()).into_bytes())
        }
    };
    let (mut client, mut server) = duplex(1024);
    let mut road = Road::new();
    let wire = post("/", &vec![b'x'; 4 << 20]);
    let mut said = 0;
    {
        let run = road.run(&mut server, &slow);
        tokio::pin!(run);
        let mut quiet = 0;
        while quiet < 100 {
            tokio::select! {
                biased;
                n = client.write(&wire[said..]) => {
                    said += n.expect("open");
                    quiet = 0;
                }
                _ = &mut run => panic!("not yet"),
                () = tokio::task::yield_now() => quiet += 1,
            }
        }
        assert!((65_536..65_536 + 4096 + 1024 + 200).contains(&said), "{said}");
        release.send(()).expect("the task waits");
        let rest = async {
            client.write_all(&wire[said..]).await.expect("open");
            client.write_all(LAST).await.expect("open");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.expect("the server ends it");
            client.shutdown().await.expect("open"); // the server lingers until then
            String::from_utf8_lossy(&heard).into_owned()
        };
        let (heard, _) = tokio::join!(rest, run);
        assert!(heard.contains("4194304 bytes"), "{heard}");
    }
    assert!(road.most_out <= 65_536);
}

#[tokio::test(flavor = "current_thread")]
async fn dropping_a_body_discards_the_rest_and_the_connection_lives_on() {
    let wire = [
        post("/drop", &[b'x'; 60_000]),
        post("/echo", b"next"),
        post("/first", &[b'x'; 60_000]),
        post("/drop", b""),
        post("/echo", b"last"),
        LAST.to_vec(),
    ]
    .concat();
    let (client, mut server) = duplex(512);
    let mut road = Road::new();
    let (heard, outcome) = tokio::join!(converse(client, wire), async {
        let outcome = road.run(&mut server, &service).await;
        drop(server);
        outcome
    });
    outcome.expect("no trouble");
    for text in ["dropped", "next", "true", "last"] {
        assert!(heard.contains(text), "{text}: {heard}");
    }
    assert_eq!(heard.matches("HTTP/1.1 ").count(), 6, "{heard}");
}

/// The connection's future is dropped again and again, at whatever await it stands: nothing is lost, nothing is said twice.
#[tokio::test(flavor = "current_thread")]
async fn a_dropped_connection_future_loses_nothing() {
    let wire = || {
        [post("/count", &[b'x'; 30_000]), post("/echo", &[b'e'; 20_000]), post("/drop", &[b'x'; 5_000]), LAST.to_vec()]
            .concat()
    };
    let mut texts = Vec::new();
    for patience in [usize::MAX, 0, 1, 2, 3, 5, 8] {
        let (client, mut server) = duplex(97);
        let talk = tokio::spawn(converse(client, wire()));
        let (mut road, mut round) = (Road::new(), 0usize);
        loop {
            round += 1;
            let polls = if patience == usize::MAX { patience } else { round % (patience + 1) };
            let mut run = std::pin::pin!(road.run(&mut server, &service));
            let mut left = polls;
            let outcome = std::future::poll_fn(|cx| match run.as_mut().poll(cx) {
                std::task::Poll::Ready(outcome) => std::task::Poll::Ready(Some(outcome)),
                std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                std::task::Poll::Pending => {
                    left -= 1;
                    std::task::Poll::Pending
                }
            })
            .await;
            match outcome {
                Some(outcome) => break outcome.expect("no trouble"),
                None => tokio::task::yield_now().await,
            }
            assert!(round < 1_000_000);
        }
        drop(server);
        texts.push(talk.await.expect("no panic"));
    }
    assert!(texts[0].contains("30000 bytes") && texts[0].contains("404"));
    for text in &texts {
        assert!(text == &texts[0], "{} and {} bytes", text.len(), texts[0].len());
    }
}

/// The whole connection goes, with its state: tasks hear that their request is gone, their answers lead nowhere, the peer sees an end.
#[tokio::test(flavor = "current_thread")]
async fn dropping_the_connection_tells_its_tasks() {
    let (told, tell) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(told)));
    let service = move |_: String, mut body: Upload| {
        let told = told.clone();
        async move {
            let outcome = body.all().await;
            if let Some(told) = told.lock().expect("no panic").take() {
                let _ = told.send(outcome);
            }
            (200, Vec::new())
        }
    };
    let (mut client, mut server) = duplex(4096);
    client.write_all(&post("/", &[b'x'; 1000])[..500]).await.expect("room");
    let mut road = Road::new();
    tokio::select! {
        biased;
        _ = road.run(&mut server, &service) => panic!("not yet"),
        () = async { for _ in 0..10 { tokio::task::yield_now().await; } } => {}
    }
    drop((road, server));
    assert_eq!(tell.await, Ok(Err(Gone)));
    assert_eq!(client.read(&mut [0; 10]).await.expect("an end"), 0);
}
