//! The same requests to the same router, on this server and on `axum::serve`: the same answers, in HTTP/1.1 and HTTP/2, plain and over TLS.

use crate::h2_client::{connect, exchange};
use crate::router::{Pair, say};
use crate::support::{Answer, answers, converse};
use crate::tls_client::{self, TlsClient};
use bytes::Bytes;
use tokio::net::TcpStream;
use vestibule::{Config, Limit, Limits};
use vestibule_tokio::tower::Options;

/// A request that both versions can say.
struct Ask {
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn ask(method: &'static str, target: &'static str) -> Ask {
    Ask { method, target, fields: Vec::new(), body: Vec::new() }
}

impl Ask {
    fn with(mut self, name: &'static str, value: &str) -> Ask {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Ask {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.with("content-type", content_type).with("content-length", &length)
    }

    /// As HTTP/1.1, ending its connection.
    fn wire(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }

    fn request(&self) -> http::Request<Bytes> {
        let builder = http::Request::builder().method(self.method).uri(format!("http://a.example{}", self.target));
        let builder = self.fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        builder.body(self.body.clone().into()).expect("a request")
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn asks() -> Vec<Ask> {
    let multipart = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\none\r\n--b\r\ncontent-disposition: form-data; \
                     name=\"f\"; filename=\"x.txt\"\r\ncontent-type: text/plain\r\n\r\ntwo\r\nlines\r\n--b--\r\n";
    let mut asks = vec![
        ask("GET", "/"),
        ask("HEAD", "/"),
        ask("OPTIONS", "/"),
        ask("DELETE", "/"),
        ask("POST", "/").body("text/plain", "shout"),
        ask("POST", "/").body("text/plain", b"\xff".to_vec()),
        ask("GET", "/users/42/a/b%20c?d"),
        ask("GET", "/users/not-a-number/a"),
        ask("GET", "/query?name=J%C3%BCrgen+X&age=7"),
        ask("GET", "/query?age=7"),
        ask("POST", "/json").body("application/json", r#"{"name":"a","age":1}"#),
        ask("POST", "/json").body("application/json", r#"{"name":"#),
        ask("POST", "/json").body("text/plain", "{}"),
        ask("POST", "/form").body(FORM, "name=a+b&age=3"),
        ask("POST", "/form").body(FORM, "age=x"),
        ask("POST", "/multipart").body("multipart/form-data; boundary=b", multipart),
        ask("POST", "/multipart").body("multipart/form-data; boundary=b", &multipart[..60]),
        ask("POST", "/echo").body("text/plain", vec![b'e'; 200_000]),
        ask("POST", "/echo"),
        ask("GET", "/parts"),
        ask("HEAD", "/parts"),
        ask("GET", "/sse"),
        ask("GET", "/redirect"),
        ask("GET", "/cookies"),
        ask("GET", "/about?x=1").with("x-a", "1").with("x-a", "2").with("cookie", "a=1; b=2"),
        ask("PATCH", "/about").body("text/plain", "three"),
        ask("GET", "/peer"),
        ask("GET", "/large"),
        ask("HEAD", "/large"),
        ask("POST", "/bounded").body("text/plain", vec![b'b'; 999]),
        ask("POST", "/bounded").body("text/plain", vec![b'b'; 1_001]),
        ask("GET", "/ws"),
        ask("GET", "/nowhere"),
        ask("HEAD", "/nowhere"),
    ];
    asks.extend(
        ["/status/200", "/status/204", "/status/205", "/status/304", "/status/404", "/status/418", "/status/500"]
            .into_iter()
            .map(|target| ask("GET", target)),
    );
    asks
}

/// What must be the same: all but the time, and whether a response to HEAD says that content of unknown length would be chunked
/// (RFC 9112 §6.1 allows both); and hyper's Content-Length of 204 and 304 in HTTP/2, which is none of theirs (RFC 9110 §8.6).
fn normal(mut answer: Answer) -> Answer {
    assert!(answer.get("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
    let (silent, bare) = (answer.body.is_empty(), matches!(answer.status, 204 | 304));
    answer.fields.retain(|(name, _)| {
        name != "date" && !(silent && name == "transfer-encoding") && !(bare && name == "content-length")
    });
    answer
}

fn options() -> Options {
    Options::new(Config::new(Limits::DEFAULT.with(Limit::BodyBytes, 64 << 20).expect("in range")))
}

#[tokio::test]
async fn http1_answers_are_those_of_axum_serve() {
    let pair = Pair::start(options()).await;
    let mut requests = 0;
    for ask in asks() {
        let (wire, methods) = (ask.wire(), [ask.method]);
        let one = |heard: String| normal(answers(heard.as_bytes(), &methods).pop().expect("an answer"));
        let (ours, theirs) = tokio::join!(say(pair.ours, &wire), say(pair.axum, &wire));
        assert_eq!(one(ours), one(theirs), "{} {}", ask.method, ask.target);
        requests += 1;
    }
    let summary = pair.stop().await;
    assert_eq!((summary.connections, summary.requests, summary.faults), (requests, requests, 0), "{summary}");
    assert_eq!((summary.panics, summary.cut, summary.resets), (0, 0, 0), "{summary}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let pair = Pair::start(options()).await;
    let all: Vec<Ask> = asks().into_iter().filter(|ask| ask.target != "/bounded" && ask.target != "/ws").collect();
    let (mut wire, methods) = (Vec::new(), all.iter().map(|ask| ask.method).collect::<Vec<_>>());
    for (i, ask) in all.iter().enumerate() {
        let text = ask.wire();
        let close = b"connection: close\r\n";
        let at = text.windows(close.len()).position(|window| window == close).expect("it closes");
        match i + 1 == all.len() {
            true => wire.extend_from_slice(&text),
            false => wire.extend([&text[..at], &text[at + close.len()..]].concat()),
        }
    }
    // A body that a handler left unread may end a connection, and that is for each server to say: these are read.
    let ours = answers(say(pair.ours, &wire).await.as_bytes(), &methods);
    for (ask, ours) in all.iter().zip(ours.iter()) {
        let theirs = answers(say(pair.axum, &ask.wire()).await.as_bytes(), &[ask.method]).pop().expect("an answer");
        assert_eq!((ours.status, &ours.body), (theirs.status, &theirs.body), "{} {}", ask.method, ask.target);
    }
    assert_eq!(ours.len(), all.len());
    assert_eq!(pair.stop().await.connections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_answers_are_those_of_axum_serve() {
    let pair = Pair::start(options()).await;
    let ours = connect(TcpStream::connect(pair.ours).await.expect("open")).await;
    let theirs = connect(TcpStream::connect(pair.axum).await.expect("open")).await;
    for ask in asks() {
        let (ours, theirs) = tokio::join!(exchange(&ours, ask.request()), exchange(&theirs, ask.request()));
        let (ours, theirs) = (ours.expect("an answer"), theirs.expect("an answer"));
        assert_eq!(normal(ours), normal(theirs), "{} {}", ask.method, ask.target);
    }
    drop((ours, theirs));
    let summary = pair.stop().await;
    assert_eq!((summary.connections, summary.faults, summary.panics), (1, 0, 0), "{summary}");
}

/// Over TLS the answers are the same as without: in both versions, as ALPN says.
#[tokio::test]
async fn tls_answers_are_those_of_axum_serve_without() {
    let pair = Pair::start(options().tls(tls_client::server())).await;
    let connection = || async { TcpStream::connect(pair.ours).await.expect("open") };
    let theirs2 = connect(TcpStream::connect(pair.axum).await.expect("open")).await;
    let ours2 = connect(TlsClient::new(connection().await, b"h2")).await;
    for ask in asks().into_iter().filter(|ask| ask.target != "/about?x=1" && ask.target != "/about") {
        let methods = [ask.method];
        let one = |heard: String| normal(answers(heard.as_bytes(), &methods).pop().expect("an answer"));
        let ours1 = converse(TlsClient::new(connection().await, b"http/1.1"), &ask.wire(), false).await;
        assert_eq!(one(ours1), one(say(pair.axum, &ask.wire()).await), "{} {}", ask.method, ask.target);
        let (ours, theirs) = tokio::join!(exchange(&ours2, ask.request()), exchange(&theirs2, ask.request()));
        let (ours, theirs) = (ours.expect("an answer"), theirs.expect("an answer"));
        assert_eq!(normal(ours), normal(theirs), "{} {}", ask.method, ask.target);
    }
    drop((ours2, theirs2));
    assert_eq!(pair.stop().await.faults, 0);
}
