//! In: how a server is to use its threads. Out: the choices, as values.

use std::fmt;
use std::str::FromStr;

/// How the six stages lie over threads. See the guide in `docs/TOPOLOGIES.md` for which one to pick when.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Topology {
    /// One thread does everything.
    Single,
    /// Independent workers, each with connections of its own from accept to process. They share the listeners, or have one each
    /// ([`Builder::reuse_port`](crate::Builder::reuse_port)).
    #[default]
    Workers,
    /// One thread accepts and hands connections to the workers ([`HandOut`](crate::HandOut)).
    Acceptor,
    /// A thread for each stage: accept, read and write, decrypt, parse, decode, process.
    Stages,
    /// A blocking thread for each connection, up to a limit. Only the std driver has it.
    Threads,
}

impl Topology {
    /// All of them.
    pub const ALL: [Topology; 5] =
        [Topology::Single, Topology::Workers, Topology::Acceptor, Topology::Stages, Topology::Threads];

    /// Its name, as programs and tables write it.
    pub fn name(self) -> &'static str {
        match self {
            Topology::Single => "single",
            Topology::Workers => "workers",
            Topology::Acceptor => "acceptor",
            Topology::Stages => "stages",
            Topology::Threads => "threads",
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is nothing of that name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unknown {
    what: &'static str,
    name: String,
    names: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unknown { what, name, names } = self;
        write!(f, "there is no {what} `{name}`, but {names}")
    }
}

impl std::error::Error for Unknown {}

fn unknown<'a>(what: &'static str, name: &str, names: impl Iterator<Item = &'a str>) -> Unknown {
    Unknown { what, name: name.into(), names: names.collect::<Vec<_>>().join(", ") }
}

impl FromStr for Topology {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Topology, Unknown> {
        let found = Topology::ALL.into_iter().find(|topology| topology.name() == name);
        found.ok_or_else(|| unknown("topology", name, Topology::ALL.iter().map(|topology| topology.name())))
    }
}

/// What is done on threads other than those that read and write. Each is off by default.
///
/// ```
/// use vestibule_driver::Offload;
/// let offload: Offload = "handshakes,decode".parse()?;
/// assert!(offload.handshakes && offload.decode && !offload.process);
/// # Ok::<(), vestibule_driver::Unknown>(())
/// ```
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Offload {
    /// TLS handshakes: their signatures take a hundred times as long as a request.
    pub handshakes: bool,
    /// TLS records, and the handshakes with them.
    pub records: bool,
    /// Decoding of bodies that are wanted by job ([`Expect::WholeByJob`](vestibule::Expect)).
    pub decode: bool,
    /// The service, and with it the parsing that leads to it. With a full queue new requests get 503 with Retry-After.
    pub process: bool,
}

impl Offload {
    /// Nothing: all of a connection's work is done on its worker.
    pub const NONE: Offload = Offload { handshakes: false, records: false, decode: false, process: false };
    const NAMES: [&'static str; 4] = ["handshakes", "records", "decode", "process"];
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = [self.handshakes, self.records, self.decode, self.process];
        let names: Vec<_> = Offload::NAMES.iter().zip(on).filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Offload {
    type Err = Unknown;

    fn from_str(list: &str) -> Result<Offload, Unknown> {
        let mut offload = Offload::NONE;
        for name in list.split(',').filter(|name| !name.is_empty()) {
            match name {
                "handshakes" => offload.handshakes = true,
                "records" => offload.records = true,
                "decode" => offload.decode = true,
                "process" => offload.process = true,
                _ => return Err(unknown("stage to offload", name, Offload::NAMES.into_iter())),
            }
        }
        Ok(offload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for topology in Topology::ALL {
            assert_eq!(topology.to_string().parse(), Ok(topology));
        }
        for bits in 0..16 {
            let [handshakes, records, decode, process] = [1, 2, 4, 8].map(|bit| bits & bit > 0);
            let offload = Offload { handshakes, records, decode, process };
            assert_eq!(offload.to_string().parse(), Ok(offload));
        }
        let error = "decode,procss".parse::<Offload>().err().map(|error| error.to_string());
        let text = "there is no stage to offload `procss`, but handshakes, records, decode, process";
        assert_eq!(error.as_deref(), Some(text));
    }
}
