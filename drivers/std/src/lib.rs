//! `vestibule` on blocking sockets and threads: the smallest complete way to drive the machine.
//!
//! ```text
//! accept thread, one a listener --> bounded queue --> worker threads, one connection each at a time
//!                                                     turn, write, read; and again
//! ```
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

mod accept;
mod drive;
mod incident;
mod pool;
mod server;
pub use vestibule_driver::tls;
mod wire;

pub use incident::{Incident, What};
pub use server::{BindError, Builder, Handle, Server, Summary};

use std::net::SocketAddr;
use vestibule::{Event, Misuse};

/// Who is at the other end of a connection.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// The peer's address.
    pub addr: SocketAddr,
    /// Our address, as the peer sees it.
    pub local: SocketAddr,
    /// The connection came in on a TLS port.
    pub tls: bool,
}

/// The code that serves one connection, event by event.
///
/// It runs on the connection's worker thread and may block, at the cost of that thread. An exchange must be answered in one of
/// its own events; if its last one passes without an answer, the driver answers 500. What a `respond` or `write` did not take
/// is to be written when `Event::Writable` comes. When the peer resets the connection, the service is dropped without a word.
///
/// With HTTP/2 the events of many exchanges mix on one connection. What a service keeps of one belongs under its
/// [`Id`](vestibule::Id), or its tag, until its response is complete or `Event::Aborted` comes. A body goes on coming
/// while its answer waits for the peer's window: [`Expect::Manual`](vestibule::Expect::Manual) bounds what has to be
/// held of it. While one exchange is served the others wait.
///
/// Three mistakes end with HTTP/1.1 but not with HTTP/2, where the driver cannot see them: a body that is discarded and
/// never answered, one that is held and never released, an answer that is begun and never finished. Such a stream stays
/// open until its peer resets it or leaves, or a shutdown's grace is over.
///
/// Closures `FnMut(Event<'_>) -> Result<(), Misuse>` are services.
pub trait Service {
    /// One thing that happened on the connection.
    ///
    /// # Errors
    /// A misuse of the reply's handle, passed on: it is told to the log hook, and the connection goes on.
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse>;
}

impl<F: FnMut(Event<'_>) -> Result<(), Misuse>> Service for F {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        self(event)
    }
}
