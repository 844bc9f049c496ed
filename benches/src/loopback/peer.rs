//! In: connections, on one tokio thread. Out: the same answers by hyper, and by our adapter for tower services.

use crate::counter::count;
use crate::identity::Identity;
use crate::serve::{ANY, HELLO, Ports, limits};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::error::Error;
use std::future::{Future, Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use vestibule::decrypt::TlsConfig;
use vestibule_tokio::tower::Options;

/// Says hello, and tells the length of bodies.
async fn answer<B: Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, B::Error> {
    count();
    let content = if request.method() == Method::POST {
        let (mut body, mut length) = (std::pin::pin!(request.into_body()), 0);
        while let Some(frame) = body.frame().await {
            if let Ok(mut data) = frame?.into_data() {
                let left = bytes::Buf::remaining(&data);
                bytes::Buf::advance(&mut data, left);
                length += left;
            }
        }
        Bytes::from(length.to_string())
    } else {
        Bytes::from_static(HELLO.as_bytes())
    };
    let mut response = Response::new(Full::new(content));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// Runs a server on a thread of its own, with a plain port and one for TLS.
fn on_a_thread<F: Future + 'static>(
    run: impl FnOnce(TcpListener, TcpListener) -> F + Send + 'static,
) -> Result<Ports, Box<dyn Error>> {
    let sockets = [std::net::TcpListener::bind(ANY)?, std::net::TcpListener::bind(ANY)?];
    let ports = Ports { plain: sockets[0].local_addr()?.port(), tls: Some(sockets[1].local_addr()?.port()) };
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    let [plain, tls] = sockets;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            let listeners = (TcpListener::from_std(plain), TcpListener::from_std(tls));
            if let (Ok(plain), Ok(tls)) = listeners {
                run(plain, tls).await;
            }
        });
    })?;
    Ok(ports)
}

/// hyper 1.x: HTTP/1.1 and HTTP/2 by their first bytes, TLS by tokio-rustls.
pub(crate) fn hyper(identity: &Identity) -> Result<Ports, Box<dyn Error>> {
    let acceptor = TlsAcceptor::from(Arc::new(identity.server()?));
    on_a_thread(|plain, tls| async {
        tokio::spawn(accept(plain, None));
        accept(tls, Some(acceptor)).await;
    })
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, tls.clone()))),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// What ends a connection is the client's business.
async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let service = || hyper::service::service_fn(answer);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().pipeline_flush(true); // its best at pipelined requests
    let _ = match tls {
        Some(tls) => builder.serve_connection(TokioIo::new(tls.accept(stream).await?), service()).await,
        None => builder.serve_connection(TokioIo::new(stream), service()).await,
    };
    Ok(())
}

/// A function as a tower service.
#[derive(Clone)]
struct Function<F>(F);

impl<R, T, E, F, A> tower_service::Service<R> for Function<F>
where
    F: FnMut(R) -> A,
    A: Future<Output = Result<T, E>>,
{
    type Response = T;
    type Error = E;
    type Future = A;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> A {
        (self.0)(request)
    }
}

/// Our adapter, with the same function.
pub(crate) fn tower(identity: &Identity) -> Result<Ports, Box<dyn Error>> {
    let options = Options::new(vestibule::Config::new(limits()));
    let secure = options.clone().tls(TlsConfig::new(identity.server()?));
    on_a_thread(|plain, tls| async {
        let make = Function(|_| -> Ready<Result<_, std::convert::Infallible>> {
            ready(Ok(Function(answer::<vestibule_tokio::tower::Body>)))
        });
        tokio::spawn(vestibule_tokio::tower::serve(plain, make.clone()).options(options).run());
        vestibule_tokio::tower::serve(tls, make).options(secure).run().await;
    })
}
