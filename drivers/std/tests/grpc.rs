//! gRPC over real sockets: the service of the example, against a client made of the `h2` crate, and against grpcio where
//! python3 has it. `VESTIBULE_PYTHON` names another python.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../examples/greeter/service.rs"]
mod service;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use service::{Greeter, HelloReply, HelloRequest};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use vestibule_std::{Handle, Server, Summary};

struct Running {
    addr: SocketAddr,
    handle: Handle,
    thread: std::thread::JoinHandle<Summary>,
}

fn start() -> Running {
    let server = Server::builder()
        .http("127.0.0.1:0".parse().unwrap())
        .limits(service::limits().unwrap())
        .service(|_peer| Greeter::default())
        .bind()
        .unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    Running { addr, handle, thread: std::thread::spawn(move || server.run()) }
}

impl Running {
    fn stop(self) -> Summary {
        self.handle.shutdown();
        self.thread.join().unwrap()
    }
}

#[test]
fn grpcio_talks_to_the_greeter() {
    let python = std::env::var("VESTIBULE_PYTHON").unwrap_or("python3".into());
    let there = Command::new(&python).args(["-c", "import grpc, google.protobuf"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("{python} has no grpcio and protobuf: only the h2 crate's client was tried");
        return;
    }
    let server = start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc_client.py");
    let output = Command::new(&python).args([script, &server.addr.port().to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 27, "{text}");
    let summary = server.stop();
    assert_eq!((summary.faults, summary.panics), (0, 0));
}

/// What came back.
#[derive(Debug)]
struct Answer {
    http: StatusCode,
    status: Option<String>,
    text: Option<String>,
    messages: Vec<String>,
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

fn hello(name: &str, times: u32) -> Vec<u8> {
    framed(0, &HelloRequest { name: name.into(), times }.encode_to_vec())
}

/// One call: its content goes out piece by piece, as the windows allow.
async fn call(client: &SendRequest<Bytes>, method: &str, fields: &[(&str, &str)], content: &[Vec<u8>]) -> Answer {
    let mut client = client.clone().ready().await.unwrap();
    let verb = fields.iter().find(|field| field.0 == ":method").map_or("POST", |field| field.1);
    let url = format!("http://localhost/helloworld.Greeter/{method}");
    let mut request = Request::builder().method(verb).uri(url).header("te", "trailers");
    if !fields.iter().any(|field| field.0 == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in fields.iter().filter(|field| !field.0.starts_with(':')) {
        request = request.header(*name, *value);
    }
    let (response, mut sender) = client.send_request(request.body(()).unwrap(), false).unwrap();
    let sending = async {
        for piece in content {
            let mut rest = Bytes::copy_from_slice(piece);
            while !rest.is_empty() {
                sender.reserve_capacity(rest.len());
                match std::future::poll_fn(|context| sender.poll_capacity(context)).await {
                    Some(Ok(n)) => sender.send_data(rest.split_to(n), false).unwrap(),
                    _ => return, // the server wants no more
                }
            }
        }
        let _ = sender.send_data(Bytes::new(), true);
    };
    let receiving = async {
        let (head, mut body) = response.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await {
            let part = part.unwrap();
            body.flow_control().release_capacity(part.len()).unwrap();
            bytes.extend_from_slice(&part);
        }
        let trailers = body.trailers().await.unwrap();
        let get = |map: &HeaderMap, name: &str| map.get(name).map(|v| v.to_str().unwrap().to_string());
        let fields = trailers.unwrap_or(head.headers);
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while head.status == StatusCode::OK && !rest.is_empty() {
            let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            messages.push(HelloReply::decode(&rest[5..5 + len]).unwrap().message);
            rest = &rest[5 + len..];
        }
        Answer { http: head.status, status: get(&fields, "grpc-status"), text: get(&fields, "grpc-message"), messages }
    };
    tokio::join!(sending, receiving).1
}

fn refused(answer: &Answer, status: &str) {
    let what = (answer.http, answer.status.as_deref(), answer.messages.len());
    assert_eq!(what, (StatusCode::OK, Some(status), 0), "{answer:?}");
}

#[track_caller]
fn greeted(answer: &Answer, with: &str) {
    assert_eq!(answer.status.as_deref(), Some("0"), "{answer:?}");
    assert_eq!(answer.messages, [with]);
}

async fn conversation(client: SendRequest<Bytes>) {
    for _ in 0..50 {
        greeted(&call(&client, "SayHello", &[], &[hello("World", 0)]).await, "Hello, World!");
    }
    let fields = [("x-greeting", "Moin"), ("grpc-timeout", "60S"), ("content-type", "application/grpc+proto")];
    greeted(&call(&client, "SayHello", &fields, &[hello("Kiel", 0)]).await, "Moin, Kiel!");
    // A byte at a time.
    let pieces: Vec<Vec<u8>> = hello("bytes", 0).chunks(1).map(<[u8]>::to_vec).collect();
    greeted(&call(&client, "SayHello", &[], &pieces).await, "Hello, bytes!");
    // 3 MB there and back; 5 MB are refused at the length.
    let long = "x".repeat(3_000_000);
    greeted(&call(&client, "SayHello", &[], &[hello(&long, 0)]).await, &format!("Hello, {long}!"));
    refused(&call(&client, "SayHello", &[], &[hello(&"x".repeat(5_000_000), 0)]).await, "8");
    // Streams.
    let names: Vec<Vec<u8>> = (0..1_000).map(|n| hello(&format!("name {n}"), 0)).collect();
    greeted(&call(&client, "SayHelloToAll", &[], &names).await, "Hello, all 1000 of you!");
    greeted(&call(&client, "SayHelloToAll", &[], &[]).await, "Hello, all 0 of you!");
    let often = call(&client, "SayHelloOften", &[], &[hello("World", 1_000)]).await;
    assert_eq!((often.status.as_deref(), often.messages), (Some("0"), vec!["Hello, World!".to_string(); 1_000]));
    // What fails.
    let nobody = call(&client, "SayHello", &[], &[hello("nobody", 0)]).await;
    refused(&nobody, "5");
    assert_eq!(nobody.text.as_deref(), Some("100 %25 of us know n%C3%B6body"));
    refused(&call(&client, "Nothing", &[], &[hello("x", 0)]).await, "12");
    refused(&call(&client, "SayHello", &[], &[hello("a", 0), hello("b", 0)]).await, "12");
    refused(&call(&client, "SayHello", &[("grpc-encoding", "snappy")], &[hello("x", 0)]).await, "12");
    refused(&call(&client, "SayHello", &[("grpc-timeout", "soon")], &[hello("x", 0)]).await, "13");
    refused(&call(&client, "SayHello", &[("grpc-timeout", "100m")], &[hello("Sleepyhead", 0)]).await, "4");
    refused(&call(&client, "SayHello", &[], &[b"\x02\0\0\0\0".to_vec()]).await, "13");
    refused(&call(&client, "SayHello", &[], &[b"\0\0\0\0\x05ab".to_vec()]).await, "13");
    refused(&call(&client, "SayHello", &[], &[framed(0, b"\x0b\x0c")]).await, "13");
    refused(&call(&client, "SayHello", &[], &[framed(1, b"\x0a\x01x")]).await, "13");
    let wrong = call(&client, "SayHello", &[("content-type", "application/json")], &[b"{}".to_vec()]).await;
    assert_eq!((wrong.http, wrong.status), (StatusCode::UNSUPPORTED_MEDIA_TYPE, None));
    for verb in ["GET", "PUT"] {
        let wrong = call(&client, "SayHello", &[(":method", verb)], &[hello("x", 0)]).await;
        assert_eq!((wrong.http, wrong.status), (StatusCode::METHOD_NOT_ALLOWED, None), "{verb}");
    }
    // Compressed: the member of gzip that holds `0a 05 "World"`, stored.
    let member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x07\0\xf8\xff\x0a\x05World";
    let member = [&member[..], &crc32(b"\x0a\x05World").to_le_bytes(), &7u32.to_le_bytes()].concat();
    let fields = [("grpc-encoding", "gzip")];
    greeted(&call(&client, "SayHello", &fields, &[framed(1, &member)]).await, "Hello, World!");
}

/// RFC 1952 §8.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn the_h2_crates_client_talks_to_the_greeter() {
    let server = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(Duration::from_secs(60), conversation(client)).await.expect("in time");
    });
    let summary = server.stop();
    assert_eq!((summary.faults, summary.panics, summary.cut), (0, 0, 0));
}
