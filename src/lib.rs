//! The road of a request, from ciphertext to a decoded value, as a pure state machine.
//!
//! ```text
//!            bytes and the time go in                          events come out
//!   socket --> Inbox --> decrypt --> parse --> decode --> Event { Request, Body, .. } --> your code
//!   socket <-- Outbox <-- seal <------------ frame <----- Reply { respond, write, .. } <--+
//! ```
//!
//! No system call, no clock, no thread, no randomness, no std: a [`Connection`] is told the time and handed two buffers for each
//! [`Turn`], and says what happened. HTTP/1.1 needs no allocator. The floors, and what each may import:
//!
//! - [`Connection`], [`Turn`], [`Event`], [`Reply`], [`Config`]: the road, composed.
//! - [`parse`], [`decode`], [`decrypt`], and the buffers [`Inbox`] and [`Outbox`]: one stage each; usable alone; they do not know each other.
//! - [`Limits`], [`Violation`], [`Instant`]: the nouns that all share.
//!
//! | features | what you get | needs |
//! |---|---|---|
//! | none | HTTP/1.1 in your memory: chunked, trailers, upgrades, limits; UTF-8, JSON, forms, multipart, Protobuf, gRPC framing | core |
//! | `alloc` | HTTP/2 with HPACK, gzip and deflate both ways, gathered bodies, jobs, transcripts | an allocator |
//! | `br`, `zstd` (default) | these codings taken off requests | `alloc` |
//! | `br-encoder`, `zstd-encoder` | and put on responses | `alloc` |
//! | `tls` (default) | TLS 1.3 and 1.2 through rustls | `alloc`, a crypto provider |
//! | `prost` | typed Protobuf messages | `alloc` |
//! | `serde_json` | JSON as a `serde_json::Value` | std |
//! | `simdutf8` | UTF-8 checked faster; far faster with `std`, which detects the processor | |
//! | `std` (default) | conveniences only | std |

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod accept;
mod accept_road;
mod base;
#[cfg(feature = "alloc")]
mod coded;
mod config;
mod connection;
pub mod decode;
#[cfg(feature = "tls")]
pub mod decrypt;
mod delivery;
mod event;
mod farewell;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod h1_road;
#[cfg(feature = "alloc")]
mod h2_body;
#[cfg(feature = "alloc")]
mod h2_close;
#[cfg(feature = "alloc")]
mod h2_road;
mod lend;
#[cfg(all(test, feature = "alloc"))]
mod models;
pub mod parse;
mod read;
#[cfg(feature = "alloc")]
pub mod rehearsal;
mod reply;
#[cfg(feature = "alloc")]
mod reply_coded;
mod reply_grpc;
#[cfg(feature = "alloc")]
mod session;
mod stages;
mod turn;

#[cfg(feature = "alloc")]
pub use base::Names;
pub use base::{
    Bucket, FieldFault, Identity, Instant, Limit, LimitError, Limits, Misuse, Rule, Scope, Span, Unit, Violation,
};
pub use config::Config;
pub use connection::{Connection, End, Stats};
pub use event::{Body, Event, Fields, Head, Hello, Request, Session, Trailers, Tunnel};
pub use parse::h1::Version;
pub use parse::{Content, Expect, Id};
pub use read::{Deadline, Inbox, Outbox, Why};
pub use reply::Reply;
#[cfg(feature = "alloc")]
pub use session::OwnedSession;
pub use stages::{Stage, StageStats};
pub use turn::{Pause, Turn, Wait};

/// The README's examples are tests, and so are those of the guide.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../docs/BODIES.md")]
struct Bodies;
