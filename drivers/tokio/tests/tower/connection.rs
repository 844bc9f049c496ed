//! One connection over memory: what the adapter promises of bodies, panics, cancellation and tunnels.

use crate::support::{LAST, Seed, answers, converse, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tower::service_fn;
use tower_service::Service;
use vestibule::{Config, End, Limit, Limits};
use vestibule_tokio::tower::{Body, BodyError, ConnectionError, Options, Peer, Upgrade, serve_connection};

pub(crate) type Out = UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) fn full(text: impl Into<Bytes>) -> Response<Out> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed_unsync())
}

pub(crate) fn streamed(parts: mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>) -> Response<Out> {
    let mut parts = parts;
    let stream = futures_util::stream::poll_fn(move |cx| parts.poll_recv(cx));
    Response::new(StreamBody::new(stream).boxed_unsync())
}

async fn count(body: Body) -> Result<usize, BodyError> {
    let (mut body, mut n) = (pin!(body), 0);
    while let Some(frame) = body.frame().await {
        n += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(n)
}

/// The service of most tests.
pub(crate) async fn site(request: Request<Body>) -> Result<Response<Out>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/count" => match count(request.into_body()).await {
            Ok(n) => full(format!("{n} bytes")),
            Err(error) => full(error.to_string()),
        },
        "/echo" => Response::new(request.into_body().map_err(std::io::Error::other).boxed_unsync()),
        "/drop" => {
            drop(request);
            full("dropped")
        }
        "/panic" => panic!("as asked"),
        "/panic-late" => {
            let stream = futures_util::stream::poll_fn(|_| -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
                panic!("in a body, as asked")
            });
            Response::new(StreamBody::new(stream).boxed_unsync())
        }
        "/broken" => {
            let (sender, parts) = mpsc::channel(4);
            let _ = sender.try_send(Ok(Frame::data("half".into())));
            let _ = sender.try_send(Err(std::io::Error::other("no more")));
            streamed(parts)
        }
        "/trailers" => {
            let (sender, parts) = mpsc::channel(4);
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let _ = sender.try_send(Ok(Frame::data("body".into())));
            let _ = sender.try_send(Ok(Frame::trailers(trailers)));
            streamed(parts)
        }
        "/none" => {
            let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        "/large" => full(vec![b'l'; 300_000]),
        "/wide" => {
            let mut response = full("too wide");
            for i in 0..40 {
                let name = http::HeaderName::try_from(format!("x-{i}")).expect("a name");
                response.headers_mut().insert(name, HeaderValue::try_from("w".repeat(1_000)).expect("a value"));
            }
            response
        }
        "/last" => full("last"),
        _ => full("hello"),
    })
}

/// Limits that let large uploads pass.
pub(crate) fn options() -> Options {
    let limits = Limits::DEFAULT.with(Limit::BodyBytes, 64 << 20).expect("in range");
    Options::new(Config::new(limits)).date(false)
}

pub(crate) fn serve<S, F>(io: DuplexStream, service: S) -> impl Future<Output = Result<(), ConnectionError>>
where
    S: Service<Request<Body>, Response = Response<Out>, Future = F>,
    F: Future<Output = Result<Response<Out>, S::Error>>,
{
    let connection = serve_connection(io, &options(), Peer::default(), service);
    async move { connection.await.map(|_| ()) }
}

/// A conversation with the site.
async fn talk(wire: &[u8], room: usize) -> String {
    let (client, server) = duplex(room);
    let (heard, served) = tokio::join!(converse(client, wire, true), serve(server, service_fn(site)));
    served.expect("no trouble");
    heard
}

#[tokio::test]
async fn one_read_many_requests_and_bodies_of_every_kind() {
    let wire = [
        &post("/count", &[b'x'; 300_000])[..],
        &post("/echo", b"hello"),
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
        &post("/drop", &[b'x'; 60_000]),
        &post("/echo", &[b'e'; 200_000]),
        b"GET /trailers HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /none HTTP/1.1\r\nhost: a\r\n\r\n",
        b"HEAD /large HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
        LAST,
    ]
    .concat();
    for room in [64, 4_096, 1 << 20] {
        let heard = talk(&wire, room).await;
        let methods = ["POST", "POST", "POST", "POST", "POST", "GET", "GET", "HEAD", "GET", "GET"];
        let all = answers(heard.as_bytes(), &methods);
        let statuses: Vec<u16> = all.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 204, 200, 200, 200]);
        assert_eq!(all[0].text(), "300000 bytes");
        assert_eq!((all[1].text().as_str(), all[1].get("content-length")), ("hello", Some("5")));
        assert_eq!(all[2].text(), "abc");
        assert_eq!(all[3].text(), "dropped");
        assert_eq!(all[4].text(), "e".repeat(200_000));
        assert_eq!(all[5].text(), "body");
        assert!(heard.contains("0\r\nx-sum: 42\r\n\r\n"), "trailers");
        assert_eq!(all[6].get("content-length"), None);
        assert_eq!((all[7].get("content-length"), all[7].body.len()), (Some("300000"), 0));
        assert_eq!(all[8].body.len(), 300_000);
        assert_eq!((all[9].text().as_str(), all[9].get("connection")), ("last", Some("close")));
    }
}

#[tokio::test]
async fn a_panic_or_an_error_stays_with_its_exchange() {
    let heard = talk(b"GET /panic HTTP/1.1\r\nhost: a\r\n\r\n", 4_096).await;
    let all = answers(heard.as_bytes(), &["GET"]);
    assert_eq!((all[0].status, all[0].get("connection")), (500, Some("close")));
    // The head is said already: the end of the connection, and no end of the content, tells the peer.
    for (path, part) in [("/panic-late", ""), ("/broken", "4\r\nhalf\r\n")] {
        let heard = talk(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes(), 4_096).await;
        let body = heard.split_once("\r\n\r\n").expect("a head").1;
        assert_eq!(body, part, "{path}");
    }
    let failing = service_fn(|_: Request<Body>| async { Err::<Response<Out>, _>("no") });
    let (client, server) = duplex(4_096);
    let (heard, _) = tokio::join!(converse(client, LAST, true), serve(server, failing));
    assert!(heard.starts_with("HTTP/1.1 500 "), "{heard}");
}

#[tokio::test]
async fn a_head_that_does_not_fit_is_answered_with_500() {
    let heard = talk(&[b"GET /wide HTTP/1.1\r\nhost: a\r\n\r\n", LAST].concat(), 4_096).await;
    assert!(heard.starts_with("HTTP/1.1 500 "), "{heard}");
}

#[tokio::test]
async fn a_client_that_expects_a_100_gets_it_when_the_body_is_read_and_not_before() {
    let (decide, decided) = tokio::sync::oneshot::channel::<bool>();
    let decided = Arc::new(Mutex::new(Some(decided)));
    let service = |request: Request<Body>| {
        let decided = decided.lock().expect("no panic").take();
        async move {
            if let Some(decided) = decided
                && decided.await.expect("told")
            {
                return site(request).await;
            }
            Ok(full("unread"))
        }
    };
    let head = b"POST /count HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let (mut client, server) = duplex(4_096);
    let mut run = pin!(serve(server, service_fn(service)));
    client.write_all(head).await.expect("room");
    let (mut heard, mut quiet) = ([0; 100], 0);
    while quiet < 20 {
        tokio::select! {
            biased;
            _ = client.read(&mut heard) => panic!("nothing is said before the body is read"),
            _ = &mut run => panic!("not over"),
            () = tokio::task::yield_now() => quiet += 1,
        }
    }
    decide.send(true).expect("it waits");
    let asks = async {
        let n = client.read(&mut heard).await.expect("open");
        assert_eq!(&heard[..n], b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"12345").await.expect("open");
        let n = client.read(&mut heard).await.expect("open");
        assert!(String::from_utf8_lossy(&heard[..n]).contains("5 bytes"));
        // The next one is not read: no 100, and the connection cannot go on.
        client.write_all(head).await.expect("open");
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.expect("open");
        client.shutdown().await.expect("open");
        rest
    };
    let (rest, served) = tokio::join!(asks, run);
    served.expect("no trouble");
    let all = answers(rest.as_bytes(), &["POST"]);
    assert_eq!((all.len(), all[0].text().as_str(), all[0].get("connection")), (1, "unread", Some("close")));
}

/// 50 MB are offered to a handler that does not read: what the pipe takes is a window and two buffers.
#[tokio::test]
async fn a_body_that_nobody_reads_stops_its_peer() {
    let (release, hold) = tokio::sync::oneshot::channel::<()>();
    let hold = Arc::new(Mutex::new(Some(hold)));
    let service = |request: Request<Body>| {
        let hold = hold.lock().expect("no panic").take();
        async move {
            if let Some(hold) = hold {
                hold.await.expect("told");
            }
            site(request).await
        }
    };
    let (mut client, server) = duplex(1_024);
    let mut run = pin!(serve(server, service_fn(service)));
    let wire = [post("/count", &vec![b'x'; 50_000_000]), LAST.to_vec()].concat();
    let (mut said, mut quiet) = (0, 0);
    while quiet < 100 {
        tokio::select! {
            biased;
            n = client.write(&wire[said..]) => {
                said += n.expect("open");
                quiet = 0;
            }
            _ = &mut run => panic!("not over"),
            () = tokio::task::yield_now() => quiet += 1,
        }
    }
    assert!((65_536..200_000).contains(&said), "{said}");
    release.send(()).expect("it waits");
    let (heard, served) = tokio::join!(converse(client, &wire[said..], true), run);
    served.expect("no trouble");
    assert_eq!(answers(heard.as_bytes(), &["POST", "GET"])[0].text(), "50000000 bytes");
}

/// A response without an end: no more of it is made than a slow reader takes, a buffer and two parts.
#[tokio::test]
async fn a_slow_reader_holds_the_response_back() {
    let made = Arc::new(AtomicUsize::new(0));
    let service = |_: Request<Body>| {
        let made = made.clone();
        async move {
            let stream = futures_util::stream::poll_fn(move |_| {
                made.fetch_add(1_000, Ordering::Relaxed);
                Poll::Ready(Some(Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(&[b's'; 1_000])))))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream).boxed_unsync()))
        }
    };
    let (mut client, server) = duplex(1_024);
    let mut run = pin!(serve(server, service_fn(service)));
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("room");
    let (mut read, mut buffer) = (0, [0; 5_000]);
    for _ in 0..200 {
        tokio::select! {
            biased;
            n = client.read(&mut buffer) => read += n.expect("open"),
            _ = &mut run => panic!("not over"),
        }
        let ahead = made.load(Ordering::Relaxed).saturating_sub(read);
        assert!(ahead < 65_536 + 1_024 + 3_000, "{ahead}");
    }
    assert!(read > 100_000, "{read}");
}

/// Counts what is alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, Ordering::Relaxed);
        Alive(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection's future is dropped after every number of polls: nothing of any exchange stays behind, and bodies that were taken elsewhere end.
#[tokio::test]
async fn dropping_the_connection_anywhere_drops_its_exchanges() {
    let wire = [
        post("/count", &[b'x'; 3_000]),
        post("/echo", &[b'e'; 2_000]),
        post("/keep", &[b'k'; 1_000]),
        b"GET /trailers HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        LAST.to_vec(),
    ]
    .concat();
    let mut seed = Seed(0x5eed);
    let (mut finished, mut kept) = (0, 0);
    for round in 0..400 {
        let (alive, keep) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let service = {
            let (alive, keep) = (alive.clone(), keep.clone());
            move |request: Request<Body>| {
                let (token, keep) = (Alive::new(&alive), keep.clone());
                async move {
                    let _token = token;
                    if request.uri().path() == "/keep" {
                        keep.lock().expect("no panic").push(request.into_body());
                        return Ok(full("kept"));
                    }
                    tokio::task::yield_now().await;
                    site(request).await
                }
            }
        };
        let (client, server) = duplex(1 + seed.below(300) as usize);
        let talk = tokio::spawn({
            let wire = wire.clone();
            async move { converse(client, &wire, false).await }
        });
        let mut connection = Box::pin(serve(server, service_fn(service)));
        let mut polls = seed.below(400) + round % 7;
        let over = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if polls == 0 => Poll::Ready(None),
            Poll::Pending => {
                polls -= 1;
                Poll::Pending
            }
        });
        if over.await.is_some() {
            finished += 1;
        }
        drop(connection);
        assert_eq!(alive.load(Ordering::Relaxed), 0, "round {round}");
        let bodies = std::mem::take(&mut *keep.lock().expect("no panic"));
        for body in bodies {
            kept += 1;
            match count(body).await {
                Ok(n) => assert_eq!(n, 1_000),
                Err(error) => assert!(matches!(error, BodyError::Gone | BodyError::Aborted(None)), "{error}"),
            }
        }
        let _heard = talk.await.expect("an end");
    }
    assert!(finished > 0 && finished < 400 && kept > 0, "{finished} {kept}");
}

#[tokio::test]
async fn a_client_that_leaves_is_waited_for_or_not_as_the_options_say() {
    let request = b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n";
    for half_close in [true, false] {
        let alive = Arc::new(AtomicUsize::new(0));
        let (answer, answers) = tokio::sync::oneshot::channel::<()>();
        let answers = Arc::new(Mutex::new(Some(answers)));
        let service = service_fn(|_: Request<Body>| {
            let (token, answers) = (Alive::new(&alive), answers.lock().expect("no panic").take());
            async move {
                let _token = token;
                answers.expect("one request").await.expect("told");
                Ok::<_, Infallible>(full("late"))
            }
        });
        let (mut client, server) = duplex(4_096);
        client.write_all(request).await.expect("room");
        client.shutdown().await.expect("open");
        let options = options().half_close(half_close);
        let mut run = Box::pin(serve_connection(server, &options, Peer::default(), service));
        let first = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
        match half_close {
            false => {
                assert!(matches!(first, Poll::Ready(Err(ConnectionError::Left))));
                assert_eq!(alive.load(Ordering::Relaxed), 0, "what it waited for is dropped");
            }
            true => {
                assert!(first.is_pending());
                assert_eq!(alive.load(Ordering::Relaxed), 1);
                answer.send(()).expect("it waits");
                let (heard, finished) = tokio::join!(converse(client, b"", true), run);
                assert!(heard.ends_with("late"), "FIN behind a complete request: it is answered (DRV-06)");
                assert_eq!(finished.expect("no trouble").requests, 1);
            }
        }
    }
}

#[tokio::test]
async fn a_reset_drops_the_handler_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
    let (mut client, (server, _)) = (client.expect("open"), accepted.expect("open"));
    let alive = Arc::new(AtomicUsize::new(0));
    let (begun, begins) = tokio::sync::oneshot::channel::<()>();
    let begun = Arc::new(Mutex::new(Some(begun)));
    let service = service_fn(|_: Request<Body>| {
        let token = Alive::new(&alive);
        if let Some(begun) = begun.lock().expect("no panic").take() {
            begun.send(()).expect("somebody waits");
        }
        async move {
            let _token = token;
            std::future::pending::<Result<Response<Out>, Infallible>>().await
        }
    });
    let resets = async {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("open");
        begins.await.expect("a request");
        client.set_zero_linger().expect("a socket");
        drop(client);
    };
    let ((), outcome) = tokio::join!(resets, serve_connection(server, &options(), Peer::default(), service));
    assert!(matches!(outcome, Err(ConnectionError::Io(_))), "{outcome:?}");
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

/// Is ready every second time it is asked, and minds being called when it is not.
struct Shy {
    asked: usize,
    ready: bool,
}

impl Service<Request<Body>> for Shy {
    type Response = Response<Out>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Out>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked += 1;
        self.ready = self.asked.is_multiple_of(2);
        if self.ready {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "it was not ready");
        std::future::ready(Ok(full("shy")))
    }
}

#[tokio::test]
async fn a_service_is_called_when_it_is_ready() {
    let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (client, server) = duplex(4_096);
    let wire = [&get[..], get, get, LAST].concat();
    let (heard, served) = tokio::join!(converse(client, &wire, true), serve(server, Shy { asked: 0, ready: false }));
    served.expect("no trouble");
    assert_eq!(answers(heard.as_bytes(), &["GET"; 4]).iter().filter(|answer| answer.text() == "shy").count(), 4);
}

/// On one thread, nothing has to be `Send`.
#[tokio::test(flavor = "current_thread")]
async fn a_service_may_stay_on_its_thread() {
    let count = Rc::new(std::cell::Cell::new(0));
    let service = service_fn(|_: Request<Body>| {
        let count = count.clone();
        async move {
            tokio::task::yield_now().await;
            count.set(count.get() + 1);
            Ok::<_, Infallible>(full(count.get().to_string()))
        }
    });
    let (client, server) = duplex(4_096);
    let (heard, served) = tokio::join!(converse(client, LAST, true), serve(server, service));
    served.expect("no trouble");
    assert!(heard.ends_with("\r\n\r\n1"));
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_those_of_the_machine() {
    let (mut client, server) = duplex(4_096);
    let run = serve_connection(server, &options(), Peer::default(), service_fn(site));
    let idles = async {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("open");
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.expect("open");
        client.shutdown().await.expect("open");
        heard
    };
    let begun = tokio::time::Instant::now();
    let (heard, finished) = tokio::join!(idles, run);
    assert!(heard.ends_with("hello"));
    assert_eq!(finished.expect("no trouble").end, Some(End::Idle));
    let waited = begun.elapsed().as_millis() as u64;
    assert!((30_000..30_100).contains(&waited), "{waited} ms of idle_ms"); // of the virtual clock
}

#[tokio::test]
async fn a_graceful_shutdown_answers_what_is_under_way() {
    let (client, server) = duplex(4_096);
    let (answer, answered) = tokio::sync::oneshot::channel::<()>();
    let answered = Arc::new(Mutex::new(Some(answered)));
    let service = service_fn(|_: Request<Body>| {
        let answered = answered.lock().expect("no panic").take();
        async move {
            answered.expect("one request").await.expect("told");
            Ok::<_, Infallible>(full("at last"))
        }
    });
    let options = options();
    let drains = async {
        let mut run = serve_connection(server, &options, Peer::default(), service);
        for _ in 0..10 {
            assert!(poll_fn(|cx| Poll::Ready(pin!(&mut run).poll(cx))).await.is_pending());
            tokio::task::yield_now().await;
        }
        run.graceful_shutdown();
        assert_eq!(run.open_requests(), 1);
        answer.send(()).expect("it waits");
        run.await
    };
    let wire = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (heard, finished) = tokio::join!(converse(client, wire, false), drains);
    finished.expect("no trouble");
    let all = answers(heard.as_bytes(), &["GET"]);
    assert_eq!((all[0].text().as_str(), all[0].get("connection")), ("at last", Some("close")));
}

#[tokio::test]
async fn a_tunnel_holds_both_sides_back() {
    let service = service_fn(|mut request: Request<Body>| async move {
        let upgrade = Upgrade::of(&mut request).expect("it may be upgraded");
        tokio::spawn(async move {
            let (mut tunnel, mut buffer) = (upgrade.await.expect("upgraded"), [0; 3_000]);
            loop {
                let n = tunnel.read(&mut buffer).await.expect("open");
                if n == 0 {
                    return tunnel.shutdown().await.expect("open");
                }
                tunnel.write_all(&buffer[..n]).await.expect("open");
            }
        });
        let mut response = full("");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
        Ok::<_, Infallible>(response)
    });
    let (mut client, server) = duplex(1_024);
    let mut run = pin!(serve(server, service));
    let wire = [&b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"[..], &[b't'; 2_000_000]]
        .concat();
    // As long as the client does not read, both directions fill up, and no further.
    let (mut said, mut quiet) = (0, 0);
    while quiet < 100 {
        tokio::select! {
            biased;
            n = client.write(&wire[said..]) => {
                said += n.expect("open");
                quiet = 0;
            }
            _ = &mut run => panic!("not over"),
            () = tokio::task::yield_now() => quiet += 1,
        }
    }
    assert!(said < 400_000, "{said}");
    let (heard, served) = tokio::join!(converse(client, &wire[said..], true), run);
    served.expect("no trouble");
    let all = answers(heard.as_bytes(), &["GET"]);
    assert_eq!((all[0].status, all[0].get("upgrade"), all[0].body.len()), (101, Some("echo"), 2_000_000));
}

#[tokio::test]
async fn an_upgrade_that_is_declined_says_so() {
    let told = Arc::new(Mutex::new(None));
    let service = service_fn(|mut request: Request<Body>| {
        *told.lock().expect("no panic") = Upgrade::of(&mut request);
        async { Ok::<_, Infallible>(full("no")) }
    });
    let wire = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: echo\r\n\r\n";
    let (client, server) = duplex(4_096);
    let (heard, served) = tokio::join!(converse(client, wire, true), serve(server, service));
    served.expect("no trouble");
    assert!(heard.ends_with("no"));
    let upgrade = told.lock().expect("no panic").take().expect("it may have been upgraded");
    assert!(upgrade.await.is_err());
}

/// What the waker of an exchange says late, to a place that another exchange has by now, does no harm.
#[tokio::test]
async fn late_wake_ups_are_harmless() {
    let wakers = Arc::new(Mutex::new(Vec::<Waker>::new()));
    let service = service_fn(|_: Request<Body>| {
        let wakers = wakers.clone();
        poll_fn(move |cx| {
            let mut wakers = wakers.lock().expect("no panic");
            wakers.iter().for_each(Waker::wake_by_ref);
            wakers.push(cx.waker().clone());
            if wakers.len().is_multiple_of(3) { Poll::Ready(Ok::<_, Infallible>(full("woken"))) } else { Poll::Pending }
        })
    });
    let get = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (client, server) = duplex(4_096);
    let wire = [&get[..], get, LAST].concat();
    let wakes = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
            wakers.lock().expect("no panic").iter().for_each(Waker::wake_by_ref);
        }
    };
    let (heard, served, ()) = tokio::join!(converse(client, &wire, true), serve(server, service), wakes);
    served.expect("no trouble");
    assert_eq!(heard.matches("woken").count(), 3);
}

#[tokio::test]
async fn sites_are_chosen_by_the_name_that_a_client_calls() {
    use vestibule_tokio::tls::{Site, Sites};
    for (name, is_here) in [("localhost", true), ("example.com", false)] {
        let made = rcgen::generate_simple_self_signed(vec![name.to_string()]).expect("a certificate");
        let site = Site::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes());
        let sites = Sites::builder().site(site.names([name])).build().expect("a site");
        let (client, server) = duplex(16_384);
        let options = options().tls(sites);
        let talks = async {
            let mut client = crate::tls_client::TlsClient::new(client, b"http/1.1");
            let mut said = Vec::new();
            client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
            client.read_to_end(&mut said).await?;
            std::io::Result::Ok(said)
        };
        let (said, _) = tokio::join!(talks, serve_connection(server, &options, Peer::default(), service_fn(site_of)));
        assert_eq!(said.is_ok_and(|said| said.starts_with(b"HTTP/1.1 200 ")), is_here, "{name}");
    }
}

async fn site_of(_: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("here")))
}
