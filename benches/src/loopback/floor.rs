//! In: connections. Out: canned answers: what sockets alone cost, with epoll and one thread. No server can be cheaper by much.

use crate::counter::count;
use crate::serve::{ANY, Ports};
use memchr::memmem::Finder;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::thread;

const LISTENER: Token = Token(0);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\n\r\nHello, world!";
const LAST: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\nconnection: close\r\n\r\nHello, world!";

/// A server that understands nothing but the ends of heads, and whether one asks for a close.
pub(crate) fn start() -> Result<Ports, Box<dyn Error>> {
    let mut listener = TcpListener::bind(ANY)?;
    let (poll, plain) = (Poll::new()?, listener.local_addr()?.port());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    thread::Builder::new().spawn(move || run(poll, &listener))?;
    Ok(Ports { plain, tls: None })
}

fn run(mut poll: Poll, listener: &TcpListener) -> io::Result<()> {
    let (mut events, mut clients, mut next) = (Events::with_capacity(256), HashMap::new(), 1);
    let (mut buffer, mut output) = (vec![0; 65_536], Vec::new());
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue, // by a tracer, for instance
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = stream.set_nodelay(true); // a client that is gone already shows later
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                    clients.insert(Token(next), Client { stream, kept: Vec::new() });
                    next += 1;
                }
            } else if let Some(client) = clients.get_mut(&event.token())
                && !client.go(&mut buffer, &mut output).unwrap_or(false)
            {
                clients.remove(&event.token());
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    /// The begin of a head whose end has not come.
    kept: Vec<u8>,
}

impl Client {
    /// Reads what is there and answers it. False: it is over.
    fn go(&mut self, buffer: &mut [u8], output: &mut Vec<u8>) -> io::Result<bool> {
        let (end, close) = (Finder::new(b"\r\n\r\n"), Finder::new(b"Connection: close"));
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let (read, whole) = (buffer.get(..n).unwrap_or_default(), self.kept.is_empty());
            if !whole {
                self.kept.extend_from_slice(read);
            }
            let (mut rest, mut last) = (if whole { read } else { &self.kept[..] }, false);
            output.clear();
            while let Some(at) = end.find(rest) {
                let (head, more) = rest.split_at(at + 4);
                last = close.find(head).is_some();
                output.extend_from_slice(if last { LAST } else { ANSWER });
                rest = more;
                count();
            }
            self.kept = if rest.is_empty() { Vec::new() } else { rest.to_vec() };
            // A client that does not read its answers is not one of these clients.
            self.stream.write_all(output)?;
            if last {
                return Ok(false);
            }
            if n < buffer.len() {
                return Ok(true);
            }
        }
    }
}
