//! One axum router, and two servers that run it.

use crate::support::converse;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form, Json, Multipart, Path, Query, Request, WebSocketUpgrade, ws};
use axum::http::{HeaderMap, StatusCode, Uri, Version, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, Sse};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{any, get, post};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vestibule_tokio::tower::{Options, Summary, serve};

#[derive(Deserialize, Serialize)]
struct User {
    name: String,
    #[serde(default)]
    age: u32,
}

async fn layer(request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-layer", method.parse().expect("a value"));
    response
}

async fn multipart(mut parts: Multipart) -> Result<String, StatusCode> {
    let mut told = String::new();
    while let Some(part) = parts.next_field().await.map_err(|_| StatusCode::BAD_REQUEST)? {
        let (name, file) = (part.name().unwrap_or("").to_owned(), part.file_name().unwrap_or("-").to_owned());
        let bytes = part.bytes().await.map_err(|_| StatusCode::BAD_REQUEST)?;
        told += &format!("{name} {file} {}\n", bytes.len());
    }
    Ok(told)
}

async fn about(version: Version, method: axum::http::Method, uri: Uri, headers: HeaderMap, body: Bytes) -> String {
    let own = |name: &axum::http::HeaderName| name != "host" && name != "connection";
    let mut lines: Vec<String> =
        headers.iter().filter(|(name, _)| own(name)).map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    format!("{method} {uri} {version:?}\n{}\n{} bytes", lines.join("\n"), body.len())
}

async fn socket(mut socket: ws::WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(&message, ws::Message::Text(text) if text.as_str() == "bye") {
            break;
        }
        let echoes = matches!(message, ws::Message::Text(_) | ws::Message::Binary(_));
        if echoes && socket.send(message).await.is_err() {
            return;
        }
    }
    let _ = socket.send(ws::Message::Close(None)).await;
}

pub(crate) fn router() -> Router {
    let parts = || stream::iter((0..50).map(|i| Ok::<_, Infallible>(format!("part {i};"))));
    let events =
        || stream::iter((0..3).map(|i| Ok::<_, Infallible>(Event::default().event("tick").data(i.to_string()))));
    let cookies = || AppendHeaders([(header::SET_COOKIE, "a=1"), (header::SET_COOKIE, "b=2")]);
    Router::new()
        .route("/", get(|| async { "hello" }).post(|body: String| async move { body.to_uppercase() }))
        .route(
            "/users/{id}/{*rest}",
            get(|Path((id, rest)): Path<(u32, String)>| async move { format!("{id} {rest}") }),
        )
        .route("/query", get(|Query(user): Query<User>| async move { format!("{} {}", user.name, user.age) }))
        .route("/json", post(|Json(user): Json<User>| async move { Json(User { age: user.age + 1, ..user }) }))
        .route("/form", post(|Form(user): Form<User>| async move { format!("{} {}", user.name, user.age) }))
        .route("/multipart", post(multipart))
        .route("/echo", post(|body: Body| async move { body.into_data_stream().into_body() }))
        .route("/parts", get(move || async move { Body::from_stream(parts()) }))
        .route("/sse", get(move || async move { Sse::new(events().map(|event| event)) }))
        .route(
            "/status/{code}",
            any(|Path(code): Path<u16>| async move { StatusCode::from_u16(code).expect("a status") }),
        )
        .route("/redirect", get(|| async { Redirect::to("/") }))
        .route("/cookies", get(move || async move { (cookies(), "crumbs") }))
        .route("/about", any(about))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route("/large", get(|| async { vec![b'l'; 1_000_000] }))
        .route(
            "/bounded",
            post(|body: Bytes| async move { body.len().to_string() }).layer(DefaultBodyLimit::max(1_000)),
        )
        .route("/ws", any(|upgrade: WebSocketUpgrade| async move { upgrade.protocols(["chat"]).on_upgrade(socket) }))
        .fallback(|uri: Uri| async move { (StatusCode::NOT_FOUND, format!("nothing at {}", uri.path())) })
        .layer(middleware::from_fn(layer))
}

/// Bodies that are streamed out as they come in.
trait IntoBody {
    fn into_body(self) -> Response;
}

impl IntoBody for axum::body::BodyDataStream {
    fn into_body(self) -> Response {
        Body::from_stream(self).into_response()
    }
}

/// The router on two servers.
pub(crate) struct Pair {
    pub(crate) ours: SocketAddr,
    pub(crate) axum: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Summary>,
    axum_task: JoinHandle<()>,
}

impl Pair {
    pub(crate) async fn start(options: Options) -> Pair {
        let (ours, axum) = (listener().await, listener().await);
        let (our_addr, axum_addr) = (addr(&ours), addr(&axum));
        let make = || router().into_make_service_with_connect_info::<SocketAddr>();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(ours, make()).options(options);
        let served = tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        let axum_task = tokio::spawn(async move {
            let _ = axum::serve(axum, make()).await;
        });
        Pair { ours: our_addr, axum: axum_addr, stop, served, axum_task }
    }

    /// Stops both; says what ours did.
    pub(crate) async fn stop(self) -> Summary {
        self.axum_task.abort();
        let _ = self.stop.send(());
        self.served.await.expect("no panic")
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

fn addr(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

/// Says raw bytes to a server.
pub(crate) async fn say(addr: SocketAddr, wire: &[u8]) -> String {
    converse(TcpStream::connect(addr).await.expect("open"), wire, false).await
}
