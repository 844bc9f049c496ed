//! Stage 2. In: bytes that the caller read, room that the caller lends, the time. Out: plain views for the machine, and
//! what a slow peer has coming.

mod inbox;
mod outbox;
mod pace;

pub use inbox::Inbox;
pub(crate) use inbox::InboxMut;
pub use outbox::Outbox;
pub(crate) use outbox::OutboxMut;
#[cfg(feature = "tls")]
pub(crate) use outbox::Sealing;
#[cfg(feature = "alloc")]
pub(crate) use pace::most_earned;
pub use pace::{Deadline, Why};
pub(crate) use pace::{Meter, Pace, Waiting};
