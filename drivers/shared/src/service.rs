//! In: the events of a connection. Out: answers. What users of a driver write.

use crate::later::Post;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use vestibule::{Event, Misuse};

/// Who is at the other end of a connection. Displays as the client's address.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// The client's address: the socket's, or what a trusted proxy says it is. `None` on a Unix socket.
    pub addr: Option<SocketAddr>,
    /// Our address, as the client sees it. `None` on a Unix socket.
    pub local: Option<SocketAddr>,
    /// The proxy in front of us, if one has said who the client is.
    pub proxy: Option<SocketAddr>,
    /// The connection came in on a TLS port.
    pub tls: bool,
}

impl Peer {
    /// A peer of which no address is known.
    pub const UNKNOWN: Peer = Peer { addr: None, local: None, proxy: None, tls: false };
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            Some(addr) => write!(f, "{addr}"),
            None => f.write_str("unix"),
        }
    }
}

/// The code that serves one connection, event by event.
///
/// It runs on the worker's thread, or where the topology says that requests are processed, and holds up that thread while it
/// runs. An exchange must be answered in one of its own events, or be promised with [`Post::later`]; if its last event passes without either, the driver answers 500. What a `respond` or
/// `write` did not take is to be written when `Event::Writable` comes. When the peer resets the connection, the service is dropped
/// without a word.
///
/// With HTTP/2 the events of many exchanges mix on one connection. What a service keeps of one belongs under its
/// [`Id`](vestibule::Id), or its tag, until its response is complete or `Event::Aborted` comes. A body goes on coming
/// while its answer waits for the peer's window: [`Expect::Manual`](vestibule::Expect::Manual) bounds what has to be
/// held of it. While one event is served the others of its connection wait.
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

/// A service as connections hold it.
pub type BoxService = Box<dyn Service + Send>;

/// Makes the service of a connection.
pub(crate) type Factory = Arc<dyn Fn(&Peer, &Post) -> BoxService + Send + Sync>;
