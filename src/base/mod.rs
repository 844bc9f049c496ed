//! The nouns that every floor shares. Imports nothing from above.

mod bucket;
mod limits;
mod misuse;
mod sink;
mod span;
mod time;
mod violation;

pub use bucket::Bucket;
pub use limits::{Limit, LimitError, Limits, Unit};
pub use misuse::{FieldFault, Misuse};
pub(crate) use sink::Sink;
pub use span::Span;
pub use time::Instant;
pub use violation::{Rule, Scope, Violation};
