//! In: any `tower::Service<http::Request<Body>>`, and streams of bytes. Out: the service, served over HTTP/1.1 and HTTP/2, plain or TLS.
//!
//! ```text
//!   serve: accepts, one task a connection      serve_connection: one connection, one future
//!   Body: a request's content, holding its peer back      Upgrade, Tunnel: what follows 101 and CONNECT
//! ```
//! [`serve()`] is what a program needs; [`serve_connection`] is the same without sockets, for any
//! `AsyncRead + AsyncWrite`. An axum router is served as it is, with its WebSockets if the feature `hyper-upgrade` is on (it is by default): these
//! need a type that only hyper can make.
//!
//! What a service sees: `http::Request` with the target as it was sent (HTTP/2: with scheme and authority), every field line, and among its
//! extensions [`Peer`], over TLS `Arc<`[`OwnedSession`](vestibule::OwnedSession)`>`, where the client asks for it [`Upgrade`]. What is sent: status, fields and body of its response, framed by
//! the machine; fields that belong to the connection are left out (`Connection: close` is obeyed). An error or a panic of the service is answered with 500
//! if nothing was said yet, else ends the stream (in HTTP/1.1 the connection), and touches no other exchange's future. A response whose body fails is
//! cut off, never completed. When the peer resets a stream or the connection, futures and bodies of what it asked for are dropped.
//!
//! Field values of responses have to be UTF-8; others are answered with 500.

mod body;
mod connection;
mod date;
mod exchange;
mod exchanges;
mod head;
#[cfg(feature = "hyper-upgrade")]
mod hyper_upgrade;
mod options;
mod ready;
mod seat;
mod serve;
mod upgrade;

pub use body::{Body, BodyError};
pub use connection::{Connection, ConnectionError, Finished, serve_connection};
pub use options::{Options, Peer};
pub use serve::{Listener, Serve, Summary, serve};
pub use upgrade::{NotUpgraded, Tunnel, Upgrade};
