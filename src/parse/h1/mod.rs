//! HTTP/1.1 (RFC 9112), by itself: [`Receiver`] turns plaintext into heads, body bytes and trailers; the sending side writes
//! responses. They meet in `state`.

mod chunk;
mod head;
mod receive;
mod scan;
pub(crate) mod send;
pub(crate) mod state;

pub use head::{Facts, HeadSpans, Version};
pub use receive::{Item, Receiver};
