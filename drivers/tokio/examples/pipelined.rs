//! The tower adapter and hyper's HTTP/1.1 connection, the same service on each, over the same stream in memory:
//! `cargo run --release -p vestibule-tokio --example pipelined -- [ours|hyper|both] [requests] [requests at once] [browser]`
//!
//! Prints the time that a request takes. Under `valgrind --tool=callgrind`, two runs of one kind that differ in the number of their requests tell the
//! instructions of one: unlike the time, these are the same on a busy machine.

#![allow(clippy::print_stdout)]

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vestibule_tokio::tower::{Options, Peer, serve_connection};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
/// What a browser sends.
const BROWSER: &[u8] = b"GET /assets/app/main.4f2a9c1e.js?v=20261122 HTTP/1.1\r\nHost: www.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
Referer: https://www.example.org/index.html\r\nConnection: keep-alive\r\n\
Cookie: session=8d1f0b7a6c5e4d3c2b1a09f8e7d6c5b4; theme=dark; consent=yes\r\nCache-Control: max-age=0\r\n\
Upgrade-Insecure-Requests: 1\r\nDNT: 1\r\nIf-None-Match: \"5f3e1c0a9b8d7e6f\"\r\n\r\n";
const HELLO: &str = "Hello, world!";

async fn hello<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(HELLO.as_bytes())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// What lies between a client and a server.
#[derive(Default)]
struct Wire {
    input: Vec<u8>,
    written: usize,
    writes: usize,
}

/// A server's end of it. Like a socket it has nothing more to read until the client has spoken again.
#[derive(Clone, Default)]
struct Stream(Rc<RefCell<Wire>>);

impl Stream {
    fn take(&self, into: &mut [u8]) -> Option<usize> {
        let mut wire = self.0.borrow_mut();
        let len = wire.input.len().min(into.len());
        into[..len].copy_from_slice(&wire.input[..len]);
        wire.input.drain(..len);
        (len > 0).then_some(len)
    }

    fn put(&self, bytes: usize) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        wire.written += bytes;
        wire.writes += 1;
        Poll::Ready(Ok(bytes))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.take(into.initialize_unfilled()) {
            None => Poll::Pending,
            Some(len) => {
                into.advance(len);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.put(bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// The same for hyper, which has traits of its own.
struct Hyper(Stream);

impl hyper::rt::Read for Hyper {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.0.borrow_mut();
        let len = wire.input.len().min(into.remaining());
        if len == 0 {
            return Poll::Pending;
        }
        into.put_slice(&wire.input[..len]);
        wire.input.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Hyper {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.put(bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.put(bytes.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// So many requests, so many at once, and what one of them has cost.
async fn load<E>(name: &str, wire: Stream, server: impl Future<Output = E>, requests: usize, batch: (usize, &[u8])) {
    let (mut server, (at_once, batch)) = (pin!(server), batch);
    let (begun, mut length, rounds) = (Instant::now(), None, requests.div_ceil(at_once));
    for _ in 0..rounds {
        let before = wire.0.borrow().written;
        wire.0.borrow_mut().input.extend_from_slice(batch);
        // The first round tells how long its answers are, by its end: all of them were written when the server waits.
        poll_fn(|cx| {
            let ended = server.as_mut().poll(cx).is_ready();
            assert!(!ended, "{name} has ended");
            let wrote = wire.0.borrow().written - before;
            if wrote >= length.unwrap_or(1) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        length.get_or_insert(wire.0.borrow().written - before);
    }
    let (nanos, wire) = (begun.elapsed().as_nanos(), wire.0.borrow());
    let requests = rounds * at_once;
    assert_eq!(wire.written, rounds * length.unwrap_or(0), "{name} has answered everything");
    println!(
        "{name}: {at_once} at once, {requests} requests, {} ns and {:.2} writes each, {} bytes",
        nanos / requests as u128,
        wire.writes as f64 / requests as f64,
        wire.written / requests
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kind = arguments.first().map_or("both", String::as_str);
    let requests = arguments.get(1).map_or(Ok(200_000), |text| text.parse())?;
    let at_once: Vec<usize> = match arguments.get(2) {
        Some(text) => vec![text.parse::<usize>()?.max(1)],
        None => vec![1, 16],
    };
    let request = if arguments.get(3).is_some() { BROWSER } else { REQUEST };
    let limits = vestibule::Limits::DEFAULT.with(vestibule::Limit::ConnectionRequests, 1_000_000_000);
    let options = Options::new(vestibule::Config::new(limits?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for at_once in at_once {
            let batch = request.repeat(at_once);
            if kind != "hyper" {
                let wire = Stream::default();
                let server = serve_connection(wire.clone(), &options, Peer::default(), tower::service_fn(hello));
                load("ours", wire, server, requests, (at_once, &batch)).await;
            }
            if kind != "ours" {
                let wire = Stream::default();
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.pipeline_flush(true); // its best at pipelined requests
                let service = hyper::service::service_fn(hello);
                load(
                    "hyper",
                    wire.clone(),
                    builder.serve_connection(Hyper(wire), service),
                    requests,
                    (at_once, &batch),
                )
                .await;
            }
        }
    });
    Ok(())
}
