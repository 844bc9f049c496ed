//! The suite of all drivers, on event loops and with a thread for each connection.

#![allow(missing_docs)]

vestibule_suite::suite!(vestibule_std::Std);

/// A blocking thread for each connection.
mod by_threads {
    vestibule_suite::suite!(vestibule_std::Std, |b| b.topology(vestibule_std::Topology::Threads));
}

/// Turns and handshakes on pools: every connection moves between threads.
mod by_pools {
    vestibule_suite::suite!(vestibule_std::Std, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}
