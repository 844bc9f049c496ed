//! `vestibule` on the sockets of std, without and with threads: the smallest complete way to drive the machine.
//!
//! A [`Service`] is plain synchronous code. One value of it serves one connection, made by a factory that is told the [`Peer`]:
//!
//! ```no_run
//! use vestibule::{Event, Misuse};
//! use vestibule_std::Server;
//!
//! let server = Server::builder()
//!     .http("127.0.0.1:8080".parse()?)
//!     .signals(true)
//!     .service(|_peer| {
//!         |event: Event<'_>| -> Result<(), Misuse> {
//!             if let Event::Request(mut request) = event {
//!                 request.reply.text(200, "Hello, world!")?;
//!             }
//!             Ok(())
//!         }
//!     })
//!     .bind()?;
//! println!("{:?}", server.local_addrs());
//! println!("{}", server.run());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every port speaks HTTP/1.1 and HTTP/2: the machine tells them apart, TLS agrees on one by ALPN
//! ([`tls::server_config`]).
//!
//! What the driver does for the service: it never waits for an answer that cannot come any more (500), keeps a panic inside its
//! connection, and tells one line for every fault to [`Builder::on_fault`].

#![forbid(unsafe_code)]

mod connection;
mod threads;
mod wire;
mod worker;

pub use vestibule_driver::*;

use std::io;

/// Sockets of std, and a poll for all that a worker has.
#[derive(Debug)]
pub struct Std;

/// A server on this driver.
pub type Server = vestibule_driver::Server<Std>;

/// Its choices.
pub type Builder = vestibule_driver::Builder<Std>;

impl Driver for Std {
    const NAME: &'static str = "std";

    fn check(_topology: Topology) -> Result<(), BindError> {
        Ok(())
    }

    fn work(worker: Worker) -> io::Result<()> {
        match worker.shared.topology() {
            Topology::Threads => threads::run(worker),
            _ => worker::run(worker),
        }
    }
}
