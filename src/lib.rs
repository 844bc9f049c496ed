//! stub
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#[cfg(feature = "alloc")]
extern crate alloc;
pub mod base;
pub use base::{Instant, Limit, LimitError, Limits, Rule, Scope, Violation};
pub mod decode;
#[cfg(feature = "tls")]
pub mod decrypt;
