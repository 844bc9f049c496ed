//! A driver in sixty lines: one thread, any number of connections, epoll (kqueue, ...) through `mio`.
//!
//! `cargo run --example epoll`, then `curl http://127.0.0.1:8000/you`. A real driver adds limits on connections, accept errors,
//! graceful shutdown: see `drivers/std`.

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant as Clock;
use vestibule::{Config, Connection, Event, Inbox, Instant, Limits, Outbox, Pause};

static CONFIG: Config = Config::new(Limits::DEFAULT);
const LISTENER: Token = Token(0);

struct Client {
    stream: TcpStream,
    connection: Connection<&'static Config>,
    inbox: Inbox<Vec<u8>>,
    outbox: Outbox<Vec<u8>>,
}

fn main() -> io::Result<()> {
    let (mut poll, mut events, epoch) = (Poll::new()?, Events::with_capacity(256), Clock::now());
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 8000).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut clients, mut next) = (HashMap::new(), 1);
    let now = || Instant::from_nanos(epoch.elapsed().as_nanos() as u64);
    loop {
        let deadline = clients.values().filter_map(|c: &Client| c.connection.deadline()).map(|d| d.at).min();
        poll.poll(&mut events, deadline.map(|at| at.since(now())))?;
        while let Ok((mut stream, _)) = listener.accept() {
            poll.registry().register(&mut stream, Token(next), Interest::READABLE | Interest::WRITABLE)?;
            let (inbox, outbox) = (Inbox::new(vec![0; CONFIG.inbox_bytes()]), Outbox::new(vec![0; 16_384]));
            clients.insert(next, Client { stream, connection: Connection::new(&CONFIG, now()), inbox, outbox });
            next += 1;
        }
        clients.retain(|_, client| client.go(now()).unwrap_or(false));
    }
}

impl Client {
    /// Turn, write, read, until nothing more goes now. False: close it.
    fn go(&mut self, now: Instant) -> io::Result<bool> {
        loop {
            let turn = self.connection.turn(now, &mut self.inbox, &mut self.outbox);
            let mut turn = turn.map_err(io::Error::other)?;
            while let Some(event) = turn.next() {
                if let Event::Request(mut request) = event {
                    let hello = format!("Hello, {}!\n", request.head.path());
                    request.reply.text(200, &hello).map_err(io::Error::other)?;
                }
            }
            let pause = turn.finish();
            while !self.outbox.ready().is_empty() {
                match self.stream.write(self.outbox.ready()) {
                    Ok(n) => self.outbox.wrote(n),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            if self.outbox.finished() {
                let _ = self.stream.shutdown(std::net::Shutdown::Write); // and go on reading: RFC 9112 §9.6
            }
            match pause {
                Pause::Closed => return Ok(false),
                Pause::Input { .. } => match self.stream.read(self.inbox.spare()) {
                    Ok(0) => self.inbox.end(),
                    Ok(n) => self.inbox.commit(n),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                },
                _ => {} // written, so there is room again; or the turn's budget was spent
            }
        }
    }
}
