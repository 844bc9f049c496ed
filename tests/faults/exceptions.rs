//! What may abort when memory is short: allocations that others make without a way back, each with its reason.

use std::backtrace::Backtrace;

/// An allocation inside another crate, below a function of ours.
#[derive(Debug)]
pub struct Exception {
    /// The crate, as its functions' paths begin.
    pub inside: &'static str,
    /// The function or module of ours that called it.
    pub under: &'static str,
    /// Why it stays.
    pub reason: &'static str,
}

/// The whole list. One that nothing needs any more fails the test, as one that is missing does.
pub const EXCEPTIONS: [Exception; 6] = [
    Exception {
        inside: "rustls::",
        under: "vestibule::decrypt::handshake",
        reason: "rustls shakes hands, once a connection, and has no way back from an allocation",
    },
    Exception {
        inside: "rustls::",
        under: "vestibule::decrypt::config",
        reason: "the tickets that rustls encrypts are its own vectors, a few a handshake",
    },
    Exception {
        inside: "rustls::",
        under: "vestibule::decrypt::record",
        reason: "a packet key is a box that rustls's provider makes, of a constant size: one for each direction",
    },
    Exception {
        inside: "rustls::",
        under: "vestibule::decrypt::traffic",
        reason: "rustls derives the next keys through boxes of 96 bytes: a few a KeyUpdate, of which `key_update_burst` bounds how many come",
    },
    Exception {
        inside: "miniz_oxide::",
        under: "vestibule::decode::coding::encoder",
        reason: "a compressor's tables are boxes of miniz_oxide's own: a constant size, which `encoder_pool_bytes` has room for",
    },
    Exception {
        inside: "alloc::sync::",
        under: "vestibule::decode::coding::br",
        reason: "32 bytes once a brotli decoder, whose purses share an account; no `Arc` can be refused memory on stable Rust",
    },
];

impl Exception {
    /// Innermost first: nothing but the other crate, and what it calls, stands before the first function of ours.
    pub fn holds(&self, frames: &[String]) -> bool {
        let Some(ours) = frames.iter().position(|frame| is_of(frame, "vestibule::")) else { return false };
        let (before, from) = frames.split_at(ours);
        from[0].contains(self.under) && before.iter().any(|frame| is_of(frame, self.inside))
    }
}

/// The function stands in this crate, or is what a type of it does for a trait.
fn is_of(frame: &str, path: &str) -> bool {
    frame.trim_start_matches('<').starts_with(path)
}

/// The functions on the stack, innermost first.
pub fn frames(trace: &Backtrace) -> Vec<String> {
    let text = trace.to_string();
    let lines = text.lines().filter_map(|line| line.trim_start().split_once(": "));
    lines.filter(|(n, _)| n.parse::<u32>().is_ok()).map(|(_, name)| name.to_string()).collect()
}
