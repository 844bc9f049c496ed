//! Where receiving and sending of HTTP/1.1 meet: the one exchange that is in flight.
//!
//! ```text
//! Waiting --respond--> Sized / Chunked / UntilClose / Silent --finish--> Done
//!    |                   |
//!    +---upgrade--> Tunnel --finish--> Done      shortfall, abort --> Broken
//! ```

use super::head::{Facts, Version};
use crate::base::{Limit, Limits};
use crate::parse::exchange::Exchange;
use crate::parse::semantics;

/// What the sending side is doing.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub(crate) enum Sending {
    /// No final response yet.
    #[default]
    Waiting,
    /// So many declared bytes are still to be written.
    Sized { left: u64 },
    /// `Transfer-Encoding: chunked` (RFC 9112 §7.1).
    Chunked,
    /// To an HTTP/1.0 client: the end of the connection ends the content (RFC 9112 §6.3).
    UntilClose,
    /// The response has no content on the wire (HEAD, 204, 304): what is written is taken and dropped.
    Silent,
    /// 101, or 2xx to CONNECT.
    Tunnel,
    /// Complete.
    Done,
    /// The content fell short of what was declared, or the handler gave up: only closing tells the peer.
    Broken,
}

/// The protocols that a request offers to change to, kept when its head is gone: whole elements of `Upgrade`, as far as they fit.
/// Those that exist do; nobody can accept the rest.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Offered {
    bytes: [u8; MOST_OFFERED],
    len: usize,
}

/// What is kept of `Upgrade`.
const MOST_OFFERED: usize = 64;

impl Default for Offered {
    fn default() -> Offered {
        Offered { bytes: [0; MOST_OFFERED], len: 0 }
    }
}

impl Offered {
    /// `value`: of a valid `Upgrade`.
    pub(crate) fn of(value: &[u8]) -> Offered {
        let mut offered = Offered::default();
        for protocol in semantics::list(value) {
            let end = offered.len + protocol.len();
            let Some(place) = offered.bytes.get_mut(offered.len..=end) else { break };
            let Some((comma, name)) = place.split_last_mut() else { break };
            name.copy_from_slice(protocol);
            *comma = b',';
            offered.len = end + 1;
        }
        offered
    }

    /// RFC 9110 §16.7: names compare without case.
    pub(crate) fn has(&self, protocol: &str) -> bool {
        let offered = self.bytes.get(..self.len).unwrap_or_default();
        semantics::list(offered).any(|name| name.eq_ignore_ascii_case(protocol.as_bytes()))
    }
}

/// One request and its answer, in HTTP/1.1.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct H1Exchange {
    pub(crate) shared: Exchange,
    pub(crate) sending: Sending,
    pub(crate) facts: Facts,
    /// What an upgrade may change to.
    pub(crate) offered: Offered,
    pub(crate) old: bool,
    /// 100 (Continue) is due as soon as the handler reads (RFC 9110 §10.1.1).
    pub(crate) continue_due: bool,
    /// The connection does not outlive this exchange.
    pub(crate) close: bool,
}

/// The exchange in flight, if there is one.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct One {
    pub(crate) current: Option<H1Exchange>,
}

impl One {
    pub(crate) fn get(&mut self, id: u64) -> Option<&mut H1Exchange> {
        self.current.as_mut().filter(|x| x.shared.id == id && x.is_open())
    }
}

impl H1Exchange {
    pub(crate) fn new(id: u64, facts: Facts, version: Version, close: bool) -> H1Exchange {
        let received = !facts.chunked && facts.content_length.unwrap_or(0) == 0;
        H1Exchange {
            shared: Exchange { id, received, ..Exchange::default() },
            sending: Sending::Waiting,
            facts,
            offered: Offered::default(),
            old: version == Version::Http10,
            continue_due: facts.expects_continue,
            close: close || !facts.persistent,
        }
    }

    /// The handler can still do something with it.
    pub(crate) fn is_open(&self) -> bool {
        !self.shared.aborted && (!self.is_answered() || !self.shared.received)
    }

    /// The response is complete, or never will be.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.sending, Sending::Done | Sending::Broken)
    }

    /// A complete response goes out while the request is not complete: may the connection live on? Only if what is left can be
    /// skipped for certain (H1-22, H1-23).
    pub(crate) fn can_skip_rest(&self, limits: &Limits) -> bool {
        let drainable = self.facts.content_length.is_some_and(|n| n <= limits.get(Limit::DrainBytes));
        self.shared.received || (drainable && !self.continue_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_kept_element_by_element_as_far_as_it_fits() {
        let offered = Offered::of(b" , WebSocket ,, TLS/1.0,x");
        assert!(["websocket", "WEBSOCKET", "tls/1.0", "x"].iter().all(|p| offered.has(p)));
        assert!(
            ["", "web", "websocket,", "TLS", "TLS/1.1", "websocket , x", "websocket,TLS/1.0"]
                .iter()
                .all(|p| !offered.has(p))
        );
        let long = "a".repeat(63);
        assert!(Offered::of(long.as_bytes()).has(&long), "with the comma it is 64 bytes long");
        assert!(!Offered::of("a".repeat(64).as_bytes()).has(&"a".repeat(64)));
        let cut = Offered::of(format!("{long},b").as_bytes());
        assert!(cut.has(&long) && !cut.has("b"));
        assert!(!Offered::default().has("") && !Offered::of(b"").has(""));
    }
}
