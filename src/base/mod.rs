//! The nouns that every floor shares. Imports nothing from above.

mod bucket;
mod identity;
mod limits;
#[cfg(feature = "alloc")]
pub(crate) mod memory;
mod misuse;
#[cfg(feature = "alloc")]
mod names;
mod sink;
mod span;
mod time;
mod violation;

pub use bucket::Bucket;
pub use identity::Identity;
#[cfg(feature = "alloc")]
pub(crate) use identity::flatten;
pub use limits::{Limit, LimitError, Limits, Unit};
pub use misuse::{FieldFault, Misuse};
#[cfg(feature = "alloc")]
pub use names::Names;
pub(crate) use sink::Sink;
pub use span::Span;
pub use time::Instant;
pub use violation::{Rule, Scope, Violation};
