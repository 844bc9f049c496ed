//! In: what went wrong on a connection. Out: one line for the log.

use crate::service::Peer;
use std::fmt;
use std::sync::Arc;
use vestibule::{Misuse, Violation};

/// Something that an operator may want to know. Displays as one line.
#[derive(Clone, Debug)]
pub struct Incident {
    /// On whose connection; `None` at accept.
    pub peer: Option<Peer>,
    /// What happened.
    pub what: What,
}

/// What an [`Incident`] is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// The peer broke a rule. Once for each connection that ends by it.
    Fault(Violation),
    /// The service panicked; its connection ends.
    Panic,
    /// The service let an exchange pass without an answer; it got 500.
    Unanswered,
    /// The service, or the driver, misused the machine.
    Misuse(Misuse),
    /// Connections cannot be accepted now; at most one line in five seconds.
    Accept(String),
    /// A worker ended though it should not have; another one takes its place.
    Worker(String),
    /// The listening sockets cannot be offered to a successor, or a predecessor did not answer.
    Handover(String),
    /// No thread could be started for a connection; it waits for another one.
    Thread(String),
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(peer) = &self.peer {
            write!(f, "{peer}: ")?;
        }
        match &self.what {
            What::Fault(violation) => write!(f, "{} {}: {violation}", violation.status(), violation.name()),
            What::Panic => f.write_str("500 the service panicked"),
            What::Unanswered => f.write_str("500 the service did not answer"),
            What::Misuse(misuse) => write!(f, "misuse: {misuse}"),
            What::Accept(error) => write!(f, "cannot accept: {error}"),
            What::Worker(error) => write!(f, "a worker ended: {error}"),
            What::Handover(error) => write!(f, "cannot hand over: {error}"),
            What::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

/// Where incidents go.
pub(crate) type Hook = Arc<dyn Fn(&Incident) + Send + Sync>;

/// The hook of servers that choose none: one line on the standard error stream, and no panic if that is closed.
pub(crate) fn to_stderr(incident: &Incident) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{incident}");
}
