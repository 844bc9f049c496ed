//! `vestibule` on io_uring: one ring per worker, requests processed where the kernel put them, all that follows submitted in one system call.
//!
//! ```text
//! turn: submit, wait --> Received { Lent } --> the machine, in place --> Sent --> ...     one io_uring_enter for a whole round (two while it is measured)
//! ```
//!
//! ```no_run
//! use vestibule::{Event, Misuse};
//! use vestibule_uring::Server;
//!
//! vestibule_uring::check()?; // says what is missing, if anything is; `bind` does, too
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
//! println!("{}", server.run());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a connection holds while nothing happens on it: no buffer. A receive waits in the kernel and picks one of the ring's when something
//! comes. The floors: `ring` (the only one with `unsafe`) makes io_uring safe by ownership; `connection` and `worker` are the loop, over a
//! trait (`seam`), so that a model takes the kernel's place in tests; `ports` and `check` do what they say.

mod check;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::expect_used, clippy::unwrap_used)]
mod model;
#[cfg(target_os = "linux")]
mod ports;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // the kernel's interface is memory
mod ring;
#[cfg(target_os = "linux")]
mod road;
#[cfg(target_os = "linux")]
mod seam;
#[cfg(target_os = "linux")]
mod worker;

pub use check::{Missing, check};
pub use vestibule_driver::*;

use std::io;
#[cfg(target_os = "linux")]
use std::sync::Arc;

/// io_uring.
#[derive(Debug)]
pub struct Uring;

/// A server on this driver.
pub type Server = vestibule_driver::Server<Uring>;

/// Its choices.
pub type Builder = vestibule_driver::Builder<Uring>;

impl Driver for Uring {
    const NAME: &'static str = "uring";

    fn check(topology: Topology) -> Result<(), BindError> {
        if topology == Topology::Threads {
            return Err(BindError::Unsupported("a thread for each connection is only with the std driver".into()));
        }
        check().map_err(|missing| BindError::Unsupported(missing.to_string()))
    }

    #[cfg(target_os = "linux")]
    fn work(worker: Worker) -> io::Result<()> {
        use std::io::Write;
        let site = road::Site::new(worker)?;
        let (listeners, cap) = (site.listeners().len(), site.worker().shared.cap());
        let ports = site.listeners().iter().map(|listener| Arc::clone(listener) as ring::Port);
        let ring = ring::Ring::new(ring::Sizes::for_connections(cap), ports.collect())?;
        let ring = if site.worker().shared.probe().is_some() { ring.measured() } else { ring };
        let bell = ring.bell()?;
        site.worker().mailbox.on_mail(move || drop((&bell).write(&1u64.to_ne_bytes())));
        worker::Loop::new(ring, site, listeners).run()
    }

    #[cfg(not(target_os = "linux"))]
    fn work(_worker: Worker) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
