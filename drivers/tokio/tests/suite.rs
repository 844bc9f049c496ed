//! The suite of all drivers.

#![allow(missing_docs)]

vestibule_suite::suite!(vestibule_tokio::Tokio);

/// Turns and handshakes on pools: every connection moves between threads.
mod by_pools {
    vestibule_suite::suite!(vestibule_tokio::Tokio, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}
