//! Stage 4. In: plaintext. Out: spans and facts of messages. One folder per version, and what all of them share.

mod exchange;
pub mod h1;
#[cfg(feature = "alloc")]
pub mod h2;
#[cfg(feature = "alloc")]
pub mod pack;
#[cfg(feature = "alloc")]
mod priority;
#[cfg(feature = "alloc")]
pub(crate) mod section;
pub(crate) mod semantics;

pub use exchange::{Content, Expect, Id};
pub(crate) use exchange::{Exchange, MANUAL_WINDOW};
#[cfg(feature = "alloc")]
pub use priority::Priority;
pub use semantics::check_field;
