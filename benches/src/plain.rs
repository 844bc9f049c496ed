//! HTTP/1.1 in memory: recorded requests in, one short answer each out.

use crate::measure::{Case, Group, Work};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{Request, Response};
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use vestibule::{Config, Connection, Event, Inbox, Instant, Limits, Outbox};

const HELLO: &str = "Hello, World!";
const TEXT: &str = "text/plain; charset=utf-8";
/// `HTTP/1.1 200 OK`, content type, content length, and the text.
const ANSWER_BYTES: usize = 17 + 41 + 20 + 2 + 13;

/// What a browser sends.
const BROWSER: &str = "GET /assets/app/main.4f2a9c1e.js?v=20261122 HTTP/1.1\r\n\
Host: www.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://www.example.org/index.html\r\n\
Connection: keep-alive\r\n\
Cookie: session=8d1f0b7a6c5e4d3c2b1a09f8e7d6c5b4; theme=dark; consent=yes\r\n\
Cache-Control: max-age=0\r\n\
Upgrade-Insecure-Requests: 1\r\n\
DNT: 1\r\n\
If-None-Match: \"5f3e1c0a9b8d7e6f\"\r\n\r\n";

pub(crate) fn groups() -> Vec<Group> {
    [
        ("GET, 73 bytes, one at a time", small(), 1),
        ("GET, 73 bytes, 16 pipelined", small(), 16),
        ("GET, 703 bytes and 12 fields, one at a time", browser(), 1),
        ("GET, 703 bytes and 12 fields, 16 pipelined", browser(), 16),
    ]
    .into_iter()
    .map(|(name, request, batch)| group(name, request, batch))
    .collect()
}

fn small() -> Vec<u8> {
    padded("GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\nAccept: ", 73)
}

fn browser() -> Vec<u8> {
    padded(BROWSER.trim_end(), 703)
}

/// A head whose last value is made longer until all of it has `len` bytes.
fn padded(head: &str, len: usize) -> Vec<u8> {
    let mut bytes = head.as_bytes().to_vec();
    assert!(bytes.len() + 4 < len, "{} bytes are there", bytes.len());
    bytes.resize(len - 4, b'x');
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

fn group(name: &'static str, request: Vec<u8>, batch: usize) -> Group {
    let [a, b, c] = [(); 3].map(|()| request.repeat(batch));
    Group {
        name,
        count: 20_480,
        batch,
        bytes: None,
        cases: vec![
            Case::new("vestibule", move |n| vestibule(&a, batch, n)).without_allocations(),
            Case::new("hyper", move |n| hyper(&b, batch, n)),
            Case::new("httparse alone, heads only", move |n| httparse_alone(&c, n)),
        ],
    }
}

/// The road: inbox, turn, event, answer, outbox.
fn vestibule(bytes: &[u8], batch: usize, n: usize) -> Work {
    static CONFIG: Config = Config::new(Limits::DEFAULT);
    let bytes = bytes.to_vec();
    let mut connection = Connection::new(&CONFIG, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 16_384]), Outbox::new(vec![0; 16_384]));
    Box::new(move || {
        let mut sent = 0;
        for i in 0..n / batch {
            inbox.fill(&bytes);
            let now = Instant::from_nanos(i as u64 * 1_000);
            let mut turn = connection.turn(now, &mut inbox, &mut outbox).expect("no misuse");
            while let Some(event) = turn.next() {
                if let Event::Request(mut request) = event {
                    request.reply.text(200, HELLO).expect("room");
                }
            }
            let _ = turn.finish();
            let ready = std::hint::black_box(outbox.ready()).len();
            outbox.wrote(ready);
            sent += ready;
        }
        assert_eq!(sent, n / batch * batch * ANSWER_BYTES);
    })
}

/// hyper on a stream that is always ready, polled without a runtime.
fn hyper(bytes: &[u8], batch: usize, n: usize) -> Work {
    let bytes = bytes.to_vec();
    Box::new(move || {
        let mut sent = 0;
        let stream = Stream { bytes: &bytes, at: 0, left: n / batch, sent: &mut sent };
        let service = hyper::service::service_fn(|_: Request<Incoming>| {
            let mut response = Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.auto_date_header(false).half_close(true).pipeline_flush(true);
        let mut connection = pin!(builder.serve_connection(stream, service));
        let mut context = Context::from_waker(Waker::noop());
        // It gives way now and then; there is nobody else.
        while connection.as_mut().poll(&mut context).map(|end| end.expect("a clean end")).is_pending() {}
        assert_eq!(sent, n / batch * batch * ANSWER_BYTES);
    })
}

struct Stream<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
    sent: &'a mut usize,
}

impl Read for Stream<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left > 0 {
            let rest = &self.bytes[self.at..];
            let n = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..n]);
            self.at += n;
            if self.at == self.bytes.len() {
                (self.at, self.left) = (0, self.left - 1);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        *self.sent += std::hint::black_box(bytes).len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let n = std::hint::black_box(parts).iter().map(|p| p.len()).sum();
        *self.sent += n;
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The floor: the head, as a library reads it that does nothing else.
fn httparse_alone(bytes: &[u8], n: usize) -> Work {
    let bytes = bytes.to_vec();
    Box::new(move || {
        let mut heads = 0;
        while heads < n {
            let mut rest = std::hint::black_box(&bytes[..]);
            while !rest.is_empty() && heads < n {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                let mut request = httparse::Request::new(&mut fields);
                let Ok(httparse::Status::Complete(len)) = request.parse(rest) else { panic!("a good head") };
                std::hint::black_box(&request);
                rest = &rest[len..];
                heads += 1;
            }
        }
    })
}
