//! In: a name. Out: what serves under it, and what it can serve.

use vestibule_driver::{Offload, Topology};

/// A way to lie over threads, with one of the drivers.
#[derive(Copy, Clone)]
pub(crate) struct Layout {
    pub(crate) topology: Topology,
    pub(crate) offload: Offload,
    pub(crate) reuse_port: bool,
}

impl Layout {
    const fn of(topology: Topology) -> Layout {
        Layout { topology, offload: Offload::NONE, reuse_port: false }
    }
}

/// What a contender is made of.
#[derive(Copy, Clone)]
pub(crate) enum Made {
    Std(Layout),
    Tokio(Layout),
    Uring(Layout),
    Tower,
    Hyper,
    Floor,
}

/// One that is measured.
#[derive(Copy, Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) made: Made,
}

impl Contender {
    /// All of its work is done by one thread.
    pub(crate) fn is_single(&self) -> bool {
        match self.made {
            Made::Std(layout) | Made::Tokio(layout) | Made::Uring(layout) => layout.topology == Topology::Single,
            Made::Tower | Made::Hyper | Made::Floor => true,
        }
    }

    /// It can do more than plain HTTP/1.1.
    pub(crate) fn is_complete(&self) -> bool {
        !matches!(self.made, Made::Floor)
    }

    /// One of ours, over a driver: its layout can be compared with others.
    pub(crate) fn has_layout(&self) -> bool {
        matches!(self.made, Made::Std(_) | Made::Tokio(_) | Made::Uring(_))
    }
}

/// Whom the others are measured by.
pub(crate) const PEER: &str = "hyper";

/// Which layout the others are measured by.
pub(crate) const USUAL: &str = "std-workers";

/// All of them.
pub(crate) fn all() -> Vec<Contender> {
    let [single, workers, acceptor, stages, threads] =
        [Topology::Single, Topology::Workers, Topology::Acceptor, Topology::Stages, Topology::Threads].map(Layout::of);
    let offload = |names: &str| Layout { offload: names.parse().unwrap_or_default(), ..workers };
    let contenders = [
        (PEER, Made::Hyper),
        ("std-single", Made::Std(single)),
        ("std-workers", Made::Std(workers)),
        ("std-workers-reuseport", Made::Std(Layout { reuse_port: true, ..workers })),
        ("std-acceptor", Made::Std(acceptor)),
        ("std-stages", Made::Std(stages)),
        ("std-threads", Made::Std(threads)),
        ("std-handshakes", Made::Std(offload("handshakes"))),
        ("std-records", Made::Std(offload("records"))),
        ("std-decode", Made::Std(offload("decode"))),
        ("std-process", Made::Std(offload("process"))),
        ("tokio-single", Made::Tokio(single)),
        ("tokio-workers", Made::Tokio(workers)),
        ("tower", Made::Tower),
        ("uring-single", Made::Uring(single)),
        ("uring-workers", Made::Uring(workers)),
        ("epoll-floor", Made::Floor),
    ];
    contenders.into_iter().map(|(name, made)| Contender { name, made }).collect()
}

/// The one of that name.
pub(crate) fn find(name: &str) -> Result<Contender, String> {
    let all = all();
    let names: Vec<_> = all.iter().map(|contender| contender.name).collect();
    let found = all.iter().find(|contender| contender.name == name).copied();
    found.ok_or_else(|| format!("nothing is called `{name}`; there are {}", names.join(", ")))
}
