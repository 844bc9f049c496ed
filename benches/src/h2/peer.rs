//! In: a client's bytes. Out: the `h2` crate's answers, on a stream that is always ready, polled without a runtime.

use super::{Answer, BATCH, Ear, Server, TEXT, WINDOW};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::io::{IoSlice, Result};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) struct H2 {
    /// None before the preface came.
    connection: Option<Connection<Stream, Bytes>>,
    answer: Answer,
    incoming: Rc<RefCell<Incoming>>,
    ear: Rc<RefCell<Ear>>,
    /// Requests that have been read: those without content are answered, the others read on.
    waiting: Vec<SendResponse<Bytes>>,
    bodies: Vec<(RecvStream, SendResponse<Bytes>)>,
}

impl Server for H2 {
    fn new(answer: Answer, ear: Rc<RefCell<Ear>>) -> H2 {
        let (waiting, bodies) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        H2 { connection: None, answer, incoming: Rc::default(), ear, waiting, bodies }
    }

    fn serve(&mut self, bytes: &mut Vec<u8>) {
        std::mem::swap(bytes, &mut self.incoming.borrow_mut().bytes);
        if self.connection.is_none() {
            self.connection = Some(self.open());
        }
        while self.turn() {}
        let mut incoming = self.incoming.borrow_mut();
        assert_eq!(incoming.at, incoming.bytes.len(), "everything was read");
        incoming.at = 0;
        std::mem::swap(bytes, &mut incoming.bytes);
    }
}

impl H2 {
    fn open(&self) -> Connection<Stream, Bytes> {
        let stream = Stream { incoming: self.incoming.clone(), ear: self.ear.clone() };
        let handshake = h2::server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(BATCH as u32)
            .handshake(stream);
        let mut context = Context::from_waker(Waker::noop());
        match pin!(handshake).poll(&mut context) {
            Poll::Ready(connection) => connection.expect("a good preface"),
            Poll::Pending => panic!("the preface is there"),
        }
    }

    /// Reads what is there, then answers: all requests of a batch first, then all answers, as tasks that a runtime
    /// wakes one after the other. Says whether there may be more to do.
    fn turn(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let connection = self.connection.as_mut().expect("an open connection");
        while let Poll::Ready(accepted) = connection.poll_accept(&mut context) {
            let (request, respond) = accepted.expect("an open connection").expect("a good request");
            let body = black_box(request).into_body();
            if body.is_end_stream() {
                self.waiting.push(respond);
            } else {
                self.bodies.push((body, respond));
            }
        }
        let mut busy = !self.waiting.is_empty();
        for respond in self.waiting.drain(..) {
            answer(respond, self.answer);
        }
        for (mut body, respond) in std::mem::take(&mut self.bodies) {
            loop {
                match body.poll_data(&mut context) {
                    Poll::Ready(Some(data)) => {
                        let data = black_box(data.expect("good content"));
                        body.flow_control().release_capacity(data.len()).expect("what was taken");
                        busy = true;
                    }
                    Poll::Ready(None) => {
                        busy = true;
                        answer(respond, self.answer);
                        break;
                    }
                    Poll::Pending => {
                        self.bodies.push((body, respond));
                        break;
                    }
                }
            }
        }
        busy
    }
}

fn answer(mut respond: SendResponse<Bytes>, answer: Answer) {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(answer.length()));
    let mut stream = respond.send_response(response, false).expect("an open stream");
    stream.send_data(Bytes::from_static(answer.content()), true).expect("an open stream");
}

#[derive(Default)]
struct Incoming {
    bytes: Vec<u8>,
    at: usize,
}

struct Stream {
    incoming: Rc<RefCell<Incoming>>,
    ear: Rc<RefCell<Ear>>,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let mut incoming = self.incoming.borrow_mut();
        let rest = &incoming.bytes[incoming.at..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let n = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..n]);
        incoming.at += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.ear.borrow_mut().hear(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, _: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let mut ear = self.ear.borrow_mut();
        for part in parts {
            ear.hear(part);
        }
        Poll::Ready(Ok(parts.iter().map(|p| p.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}
