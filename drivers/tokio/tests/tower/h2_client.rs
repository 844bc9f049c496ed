//! A client of HTTP/2: the `h2` crate's, with its answers in the form of the others.

use crate::support::Answer;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

/// Says hello; the connection goes on in a task of its own until the last handle is gone.
pub(crate) async fn connect<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(io).await.expect("a handshake");
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// Sends a request; its body is to be sent on the stream, unless it `ends`.
pub(crate) async fn ask(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    ends: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = sender.clone().ready().await.expect("open");
    sender.send_request(request, ends).expect("a request")
}

/// Sends as the window lets it.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes, ends: bool) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(room) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return Ok(()) };
        let part = body.split_to(room?.min(body.len()));
        stream.send_data(part, ends && body.is_empty())?;
    }
    Ok(())
}

/// All that comes.
pub(crate) async fn read(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// One exchange, from its first to its last byte.
pub(crate) async fn exchange(sender: &SendRequest<Bytes>, request: Request<Bytes>) -> Result<Answer, h2::Error> {
    let (head, body) = request.into_parts();
    let ends = body.is_empty();
    let (response, mut stream) = ask(sender, Request::from_parts(head, ()), ends).await;
    // A server may answer before it has heard all.
    let says = async {
        if !ends {
            let _ = send(&mut stream, body, true).await;
        }
    };
    let hears = async {
        let (head, mut body) = response.await?.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut fields: Vec<_> = head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect();
        fields.sort();
        Ok(Answer { status: head.status.as_u16(), fields, body: read(&mut body).await? })
    };
    tokio::join!(says, hears).1
}

pub(crate) fn get(path: &str) -> Request<Bytes> {
    Request::get(format!("http://a.example{path}")).body(Bytes::new()).expect("a request")
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    let body = body.into();
    let builder = Request::post(format!("http://a.example{path}")).header("content-length", body.len());
    builder.body(body).expect("a request")
}
