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
mod dbg_records {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.offload("records".parse().unwrap_or_default()));
}
mod dbg_records_process {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.offload("records,process".parse().unwrap_or_default()));
}
mod dbg_records_decode {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.offload("records,decode".parse().unwrap_or_default()));
}
mod dbs_plain {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.topology(vestibule_std::Topology::Stages));
}
mod dbs_acceptor {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.topology(vestibule_std::Topology::Acceptor));
}
mod dbs_acceptor_all {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b
        .topology(vestibule_std::Topology::Acceptor)
        .offload("records,decode,process".parse().unwrap_or_default()));
}
mod dbs_workers_all {
    vestibule_suite::crowd!(vestibule_std::Std, |b| b.offload("records,decode,process".parse().unwrap_or_default()));
}
