//! `vestibule` on tokio: any `AsyncRead + AsyncWrite`, and an adapter for tower services such as axum routers.
//!
//! There are two ways to use it:
//!
//! - [`Server`] is the driver: the same builder and the same synchronous [`Service`]s as on every other driver, with a tokio runtime of one
//!   thread for each worker. A service may spawn futures there, and answer by [`Post::later`].
//! - [`tower::serve()`] and [`tower::serve_connection`] (feature `tower`, on by default) serve any
//!   `tower::Service<http::Request<Body>>`, an axum router for instance, on whatever runtime they are called on.
//!
//! ```no_run
//! use vestibule::{Event, Misuse};
//! use vestibule_tokio::Server;
//!
//! let server = Server::builder()
//!     .http("127.0.0.1:8080".parse()?)
//!     .service(|_peer| {
//!         |event: Event<'_>| -> Result<(), Misuse> {
//!             if let Event::Request(mut request) = event {
//!                 request.reply.text(200, "Hello, world!")?;
//!             }
//!             Ok(())
//!         }
//!     })
//!     .bind()?;
//! println!("{}", server.run());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod alarm;
#[cfg(feature = "tower")]
mod buffers;
mod connection;
#[cfg(feature = "tower")]
pub mod tower;
mod worker;

pub use vestibule_driver::*;

use std::io;

/// Sockets of tokio, and a runtime of one thread for each worker.
#[derive(Debug)]
pub struct Tokio;

/// A server on this driver.
pub type Server = vestibule_driver::Server<Tokio>;

/// Its choices.
pub type Builder = vestibule_driver::Builder<Tokio>;

impl Driver for Tokio {
    const NAME: &'static str = "tokio";

    fn check(topology: Topology) -> Result<(), BindError> {
        match topology {
            Topology::Threads => {
                Err(BindError::Unsupported("a blocking thread for each connection is what the std driver has".into()))
            }
            _ => Ok(()),
        }
    }

    fn work(worker: Worker) -> io::Result<()> {
        worker::run(worker)
    }
}
