//! Crowds of clients, on tokio.

#![allow(missing_docs)]

vestibule_suite::crowd!(vestibule_tokio::Tokio);

mod by_pools {
    vestibule_suite::crowd!(vestibule_tokio::Tokio, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}
