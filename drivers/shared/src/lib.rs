//! What all drivers of `vestibule` share.

#![forbid(unsafe_code)]

pub mod tls;
