//! In: the provider's random numbers. Out: keys for tickets that many configurations and all workers share.

use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;

/// Keys that protect session tickets (RFC 5077, RFC 8446 §4.6.1), shared by whoever has a clone: sites, workers, and what a reload
/// makes of a site. That they share keys does not let a session of one site resume at another: see
/// [`TlsConfig::bound_to`](super::TlsConfig::bound_to).
///
/// Keys are drawn when this is made, and rotate by use: six hours after they were drawn, the next ticket that is issued or shown draws new
/// ones. The old ones open tickets until the next rotation, then they are gone. So a ticket is good for six to twelve hours, and
/// whoever gets hold of the keys can read no session that is older than that. They live in memory alone: another process has others, and clients
/// shake hands in full when they come to it.
#[derive(Clone)]
pub struct Tickets(pub(super) Arc<dyn ProducesTickets>);

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// The provider has no random numbers.
    pub fn new() -> Result<Tickets, super::TlsError> {
        #[cfg(feature = "aws-lc-rs")]
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        #[cfg(not(feature = "aws-lc-rs"))]
        let ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Tickets(ticketer))
    }

    /// Other keys, which rotate as they do: to share them between machines, for example.
    pub fn of(ticketer: Arc<dyn ProducesTickets>) -> Tickets {
        Tickets(ticketer)
    }
}
