//! What all drivers of `vestibule` share: one builder with the same names and defaults, services and the lanes they serve,
//! topologies with their threads and pools, and the probe. A driver adds the loop of a worker: sockets, buffers, timers.
//!
//! ```text
//! Builder --> Server --> Worker, one a thread: a driver's loop --> Lane, one a connection: machine and Service
//!                   \--> acceptor, pools                <-- Mailbox: arrivals, answers, results
//! ```

pub mod accept;
pub mod admission;
mod buffers;
mod builder;
#[cfg(unix)]
pub mod doorbell;
pub mod hand_out;
mod handle;
mod handler;
#[cfg(target_os = "linux")]
pub mod handover;
mod incident;
pub mod inherited;
mod lane;
mod later;
pub mod listen;
mod mailbox;
mod pool;
mod pools;
mod port;
pub mod probe;
mod rehearsal;
mod server;
mod service;
mod shared;
mod signals;
mod slots;
#[cfg(unix)]
mod sys;
pub mod system;
mod timers;
pub mod tls;
mod topology;
pub mod trust;

pub use buffers::Buffers;
pub use builder::Builder;
pub use hand_out::HandOut;
pub use handle::{Handle, Summary};
pub use handler::Handler;
pub use incident::{Incident, What};
pub use lane::{How, Lane, Letter, Next};
pub use later::{Gone, Later, Outlet, Post};
pub use mailbox::{Mail, Mailbox};
pub use pool::{Pool, Task};
pub use port::{Arrival, Listener, Port};
pub use rehearsal::Rehearsal;
pub use server::{BindError, Driver, Server, Worker};
pub use service::{BoxService, Peer, Service};
pub use shared::Shared;
pub use slots::{Key, Slots};
pub use timers::Timers;
pub use topology::{Offload, Topology, Unknown};
