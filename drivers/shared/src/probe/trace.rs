//! In: connections and requests. Out: spans of `tracing` and one event for each answer; nothing without the feature `tracing`.
//!
//! ```text
//! connection{peer tls} --> request{id method target version} --> whatever the service says, then "answered" or "aborted"
//! ```

use crate::service::Peer;
use vestibule::Event;

#[cfg(not(feature = "tracing"))]
mod off {
    use super::*;

    /// No spans.
    #[derive(Debug)]
    pub(crate) struct Trace;

    impl Trace {
        pub(crate) fn new(_: &Peer) -> Trace {
            Trace
        }

        pub(crate) fn begins(&mut self, _: &Event<'_>) {}

        pub(crate) fn within<T>(&self, _: Option<vestibule::Id>, work: impl FnOnce() -> T) -> T {
            work()
        }

        pub(crate) fn under_way(&self, _: usize) -> Option<vestibule::Id> {
            None
        }

        pub(crate) fn answered(&mut self, _: vestibule::Id) {}
    }
}
#[cfg(not(feature = "tracing"))]
pub(crate) use off::Trace;

#[cfg(feature = "tracing")]
mod on {
    use super::*;
    use tracing::{Level, Span, event, span};
    use vestibule::Id;

    /// So many requests of a connection have a span of their own; those beyond are in their connection's.
    const SPANS: usize = 256;

    /// The spans of a connection.
    #[derive(Debug)]
    pub(crate) struct Trace {
        connection: Span,
        requests: Vec<(Id, Span)>,
    }

    impl Trace {
        pub(crate) fn new(peer: &Peer) -> Trace {
            let connection = span!(target: "vestibule", parent: None, Level::INFO, "connection", %peer, tls = peer.tls);
            Trace { connection, requests: Vec::new() }
        }

        fn span(&self, id: Option<Id>) -> &Span {
            let request = self.requests.iter().find(|request| Some(request.0) == id);
            request.map_or(&self.connection, |request| &request.1)
        }

        pub(crate) fn begins(&mut self, event: &Event<'_>) {
            match event {
                Event::Request(request) if self.requests.len() < SPANS && !self.connection.is_disabled() => {
                    let (id, head) = (request.reply.id(), &request.head);
                    let span = span!(
                        target: "vestibule", parent: &self.connection, Level::INFO, "request",
                        id = id.number(), method = head.method, target = head.target, version = head.version.name(),
                    );
                    self.requests.push((id, span));
                }
                Event::Aborted { id, why, .. } => {
                    self.span(Some(*id)).in_scope(|| match why {
                        Some(violation) => event!(target: "vestibule", Level::INFO, rule = violation.name(), "aborted"),
                        None => event!(target: "vestibule", Level::INFO, "aborted"),
                    });
                    self.requests.retain(|request| request.0 != *id);
                }
                Event::Fault(violation) => self.connection.in_scope(|| {
                    event!(target: "vestibule", Level::WARN, rule = violation.name(), at = violation.at, "fault");
                }),
                _ => {}
            }
        }

        /// What a service says is said within its request.
        pub(crate) fn within<T>(&self, id: Option<Id>, work: impl FnOnce() -> T) -> T {
            self.span(id).in_scope(work)
        }

        pub(crate) fn under_way(&self, place: usize) -> Option<Id> {
            self.requests.get(place).map(|request| request.0)
        }

        pub(crate) fn answered(&mut self, id: Id) {
            if let Some(place) = self.requests.iter().position(|request| request.0 == id) {
                let (_, span) = self.requests.swap_remove(place);
                span.in_scope(|| event!(target: "vestibule", Level::INFO, "answered"));
            }
        }
    }
}
#[cfg(feature = "tracing")]
pub(crate) use on::Trace;
