//! The suite of all drivers, on io_uring. Where there is none, each case says why and does nothing.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

vestibule_suite::suite!(vestibule_uring::Uring);

/// Turns and handshakes on pools: every connection moves between threads.
mod by_pools {
    vestibule_suite::suite!(vestibule_uring::Uring, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}
