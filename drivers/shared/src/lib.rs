//! What all drivers of `vestibule` share.

pub mod accept;
pub mod admission;
pub mod hand_out;
pub mod tls;
pub mod trust;
