//! One worker that says hello, on 127.0.0.1: `cargo run --release -p vestibule-uring --example hello [PORT]`.
//!
//! `/` is 13 bytes long; `/N` is a body of N bytes. Without a port it is 8080; 0 is any that is free.

use std::net::{Ipv4Addr, SocketAddr};
use vestibule::{Content, Event, Misuse, Reply};
use vestibule_uring::{Server, Topology};

/// A body that is sent as there is room for it.
#[derive(Default)]
struct Bytes {
    rest: usize,
}

impl Bytes {
    fn go_on(&mut self, reply: &mut Reply<'_>) -> Result<(), Misuse> {
        static PIECE: [u8; 16_384] = [b'x'; 16_384];
        while self.rest > 0 {
            let piece = PIECE.get(..self.rest).unwrap_or(&PIECE);
            let n = reply.write(piece)?;
            self.rest -= n;
            if n < piece.len() {
                return Ok(()); // `Writable` follows
            }
        }
        reply.finish()
    }
}

impl vestibule_uring::Service for Bytes {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => match request.head.path().trim_start_matches('/').parse() {
                Ok(n) => {
                    request.reply.respond(200, &[], Content::Sized(n))?;
                    self.rest = n as usize;
                    self.go_on(&mut request.reply)
                }
                Err(_) => request.reply.text(200, "Hello, world!"),
            },
            Event::Writable(mut reply) => self.go_on(&mut reply),
            _ => Ok(()),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8080), |port| port.parse())?;
    let server = Server::builder()
        .http(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
        .topology(Topology::Single)
        .signals(true)
        .service(|_| Bytes::default())
        .bind()?;
    for addr in server.local_addrs() {
        eprintln!("listening on {addr}");
    }
    eprintln!("{}", server.run());
    Ok(())
}
