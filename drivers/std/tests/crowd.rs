//! Crowds of clients, on event loops, with a thread for each connection and with pools.

#![allow(missing_docs)]

vestibule_suite::crowd!(vestibule_std::Std);

mod by_threads {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.topology(vestibule_std::Topology::Threads));
}

mod by_pools {
    vestibule_suite::crowd!(vestibule_std::Std, |b| {
        b.offload("handshakes,decode,process".parse().unwrap_or_default()).pool_threads(2)
    });
}

mod by_stages {
    vestibule_suite::crowd!(vestibule_std::Std, |b| {
        b.topology(vestibule_std::Topology::Stages).offload("records,decode,process".parse().unwrap_or_default())
    });
}
