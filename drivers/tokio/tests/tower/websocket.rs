//! axum's WebSockets, unchanged: over HTTP/1.1 beside `axum::serve`, and over a stream of HTTP/2.

use crate::h2_client::{ask, connect};
use crate::router::Pair;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use vestibule_tokio::tower::Options;

/// A conversation, as told by what came back.
async fn talk(addr: SocketAddr) -> Vec<String> {
    let stream = TcpStream::connect(addr).await.expect("open");
    let mut request = format!("ws://{addr}/ws").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "other, chat".parse().expect("a value"));
    let config = WebSocketConfig::default();
    let (mut socket, response) =
        tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.expect("upgraded");
    let mut told = vec![format!("{} {:?}", response.status(), response.headers().get("sec-websocket-protocol"))];
    let large = Message::binary(vec![7; 1_000_000]);
    for message in [Message::text("hello"), Message::binary(vec![1, 2, 3]), Message::Ping("p".into()), large] {
        socket.send(message).await.expect("open");
        let heard = socket.next().await.expect("open").expect("a message");
        told.push(match heard {
            Message::Binary(bytes) => format!("{} bytes", bytes.len()),
            other => format!("{other:?}"),
        });
    }
    socket.send(Message::text("bye")).await.expect("open");
    while let Some(Ok(message)) = socket.next().await {
        told.push(format!("{message:?}"));
    }
    told
}

#[tokio::test]
async fn sockets_talk_as_on_axum_serve() {
    let pair = Pair::start(Options::default()).await;
    let (ours, theirs) = tokio::join!(talk(pair.ours), talk(pair.axum));
    assert_eq!(ours, theirs);
    assert_eq!(ours[0], "101 Switching Protocols Some(\"chat\")");
    assert!(ours.contains(&"1000000 bytes".into()));
    let (a, b) = tokio::join!(talk(pair.ours), talk(pair.ours)); // beside each other
    assert_eq!((&a, &b), (&ours, &ours));
    assert_eq!(pair.stop().await.connections, 3);
}

/// RFC 8441: the frames of a socket are the content of a stream.
#[tokio::test]
async fn sockets_talk_over_a_stream_of_http2() {
    let pair = Pair::start(Options::default()).await;
    let mut told = Vec::new();
    for addr in [pair.ours, pair.axum] {
        let sender = connect(TcpStream::connect(addr).await.expect("open")).await;
        // Whether the server takes such requests is known with its SETTINGS.
        crate::h2_client::exchange(&sender, crate::h2_client::get("/")).await.expect("an answer");
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://a.example/ws")
            .extension(h2::ext::Protocol::from("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .expect("a request");
        let (response, mut stream) = ask(&sender, request, false).await;
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        // A masked text frame, "hi", with a mask of zeros; then one that asks for the end.
        stream.send_data(b"\x81\x82\0\0\0\0hi"[..].into(), false).expect("open");
        let mut heard = Vec::new();
        while heard.len() < 4 {
            heard.extend_from_slice(&body.data().await.expect("open").expect("open"));
        }
        stream.send_data(b"\x81\x83\0\0\0\0bye"[..].into(), false).expect("open");
        while heard.len() < 6 {
            heard.extend_from_slice(&body.data().await.expect("open").expect("open"));
        }
        let _ = stream.send_data(b"\x88\x80\0\0\0\0"[..].into(), true); // the server may be gone by now
        told.push(heard);
    }
    assert_eq!(told[0], b"\x81\x02hi\x88\x00");
    assert_eq!(told[0], told[1]);
    pair.stop().await;
}
