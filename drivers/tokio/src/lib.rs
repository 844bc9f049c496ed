//! `vestibule` on tokio: any `AsyncRead + AsyncWrite`, and an adapter for tower services such as axum routers.
//!
//! With the feature `tower` (on by default) [`tower::serve()`] serves any
//! `tower::Service<http::Request<Body>>`, an axum router for instance.

#![forbid(unsafe_code)]

#[cfg(feature = "tower")]
mod buffers;
#[cfg(feature = "tower")]
pub mod tower;

pub use vestibule_driver::tls;
