//! In: nothing that ships. Out: proof in code that HTTP/2 and HTTP/3 fit the API as it is: two toy protocols with many streams at
//! once, driven through the real `Event`, `Reply`, `Inbox`, `Outbox` and `Config`.
//!
//! [`h2`] stands behind `Engine::Model` and `Exchanges::Model` on the real `Connection` and `Turn`; [`h3`] is a connection of its
//! own, with a turn of the same shape, since its input comes as one ordered chunk for each stream. Both share [`streams`], the
//! sending side. Frames and field compression are toys; windows, credit, resets, early answers and back-pressure are not.

mod h2;
mod h3;
mod head;
mod streams;
mod tests;

pub(crate) use h2::{Receiver, ended, fault, step};
pub(crate) use streams::{Framing, Streams};
