//! What all drivers of `vestibule` share.

pub mod accept;
pub mod admission;
#[cfg(unix)]
pub mod doorbell;
pub mod hand_out;
#[cfg(target_os = "linux")]
pub mod handover;
pub mod inherited;
pub mod kernel;
pub mod listen;
#[cfg(unix)]
mod sys;
pub mod tls;
pub mod trust;
