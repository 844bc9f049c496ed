//! A server in this process, and a client that reads one response at a time.

#![allow(dead_code, unreachable_pub)]

pub mod h2;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vestibule::{Content, Event, Expect, Id, Misuse, Reply};
use vestibule_std::{Builder, Handle, Server, Service, Summary};

/// Its routes: `/hello`, `/echo`, `/panic`, `/slow`, `/discard`, `/endless`; those that make a mistake: `/silence`,
/// `/ignore`, `/hold`, `/half`; any other path is its own answer.
#[derive(Default)]
pub struct Routes(BTreeMap<Id, State>);

/// What is kept of one exchange.
#[derive(Default)]
struct State {
    rest: Vec<u8>,
    finish: bool,
    endless: bool,
}

impl State {
    /// True: the response is complete.
    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<bool, Misuse> {
        if self.endless {
            while reply.write(&[b'e'; 4096])? == 4096 {}
            return Ok(false);
        }
        let n = reply.write(&self.rest)?;
        self.rest.drain(..n);
        let over = self.finish && self.rest.is_empty();
        if over {
            reply.finish()?;
        }
        Ok(over)
    }
}

impl Routes {
    fn go_on(&mut self, reply: &mut Reply<'_>, more: &[u8], last: bool) -> Result<(), Misuse> {
        let Some(state) = self.0.get_mut(&reply.id()) else { return Ok(()) };
        state.rest.extend_from_slice(more);
        state.finish |= last;
        if state.go_on(reply)? {
            self.0.remove(&reply.id());
        }
        Ok(())
    }
}

impl Service for Routes {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => match request.head.path() {
                "/hello" => request.reply.text(200, "hello")?,
                "/panic" => panic!("asked to"),
                "/silence" => {}
                "/ignore" => request.reply.discard(),
                "/hold" => drop(request.reply.expect(Expect::Manual)),
                "/half" if request.head.protocol.is_some() => request.reply.upgrade("test", &[])?,
                "/half" => drop(request.reply.respond(200, &[], Content::Sized(10))?),
                "/slow" => {
                    std::thread::sleep(Duration::from_millis(500));
                    request.reply.text(200, "slow")?;
                }
                path @ ("/echo" | "/endless") => {
                    request.reply.respond(200, &[], Content::Streamed)?;
                    let state = State { endless: path == "/endless", ..State::default() };
                    self.0.insert(request.reply.id(), state);
                    self.go_on(&mut request.reply, b"", !request.has_body)?;
                }
                "/discard" => {
                    request.reply.expect(Expect::Whole { max: 1 << 20 });
                }
                path => request.reply.text(200, path)?,
            },
            Event::Body(mut body) if body.whole => body.reply.text(200, "discarded")?,
            Event::Body(mut body) => self.go_on(&mut body.reply, body.bytes, body.last)?,
            Event::Writable(mut reply) => self.go_on(&mut reply, b"", false)?,
            Event::Aborted { id, .. } => drop(self.0.remove(&id)),
            _ => {}
        }
        Ok(())
    }
}

/// A server on a free port. It stops when it is dropped, too.
pub struct Running {
    pub http: SocketAddr,
    pub addrs: Vec<SocketAddr>,
    pub handle: Handle,
    said: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<Summary>>,
}

pub fn start(choose: impl FnOnce(Builder) -> Builder) -> Running {
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = said.clone();
    let builder = Server::builder()
        .http("127.0.0.1:0".parse().unwrap())
        .service(|_| Routes::default())
        .on_fault(move |incident| log.lock().unwrap().push(incident.to_string()));
    let server = choose(builder).bind().unwrap();
    let (addrs, handle) = (server.local_addrs(), server.handle());
    Running { http: addrs[0], addrs, handle, said, thread: Some(std::thread::spawn(|| server.run())) }
}

impl Running {
    pub fn connect(&self) -> TcpStream {
        connect(self.http)
    }

    pub fn incidents(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    pub fn stop(mut self) -> Summary {
        self.handle.shutdown();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

/// One response: its head and its content.
pub fn response(stream: &mut impl Read) -> (String, Vec<u8>) {
    let head = until(stream, b"\r\n\r\n");
    let field = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let mut body = Vec::new();
    if let Some(n) = field("content-length:") {
        body.resize(n.parse().unwrap(), 0);
        stream.read_exact(&mut body).unwrap();
    } else if field("transfer-encoding:") == Some("chunked") {
        loop {
            let size = until(stream, b"\r\n");
            let n = usize::from_str_radix(size.trim_end(), 16).unwrap();
            let start = body.len();
            body.resize(start + n, 0);
            stream.read_exact(&mut body[start..]).unwrap();
            until(stream, b"\r\n");
            if n == 0 {
                break;
            }
        }
    }
    (head, body)
}

fn until(stream: &mut impl Read, end: &[u8]) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "ended behind {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// All that comes until the end, or until a reset.
pub fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
                return all;
            }
        }
    }
}
