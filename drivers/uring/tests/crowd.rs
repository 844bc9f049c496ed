//! Crowds of clients, on io_uring.

#![cfg(target_os = "linux")]
#![allow(missing_docs)]

vestibule_suite::crowd!(vestibule_uring::Uring);

mod by_pools {
    vestibule_suite::crowd!(vestibule_uring::Uring, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}
