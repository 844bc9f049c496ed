//! In: a server that was bound. Out: its lanes, without sockets and threads of its own.

use crate::admission::{Source, Verdict};
use crate::handle::{Handle, Summary};
use crate::lane::{Begin, Lane};
use crate::later::Post;
use crate::mailbox::Mailbox;
use crate::port::{Port, Right};
use crate::service::Peer;
use crate::shared::Shared;
use crate::slots::Key;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A server without sockets: its lanes, for tests of a driver's loop over a model of what the system may do.
///
/// ```
/// # use vestibule_driver::*;
/// # struct None;
/// # impl Driver for None {
/// #     const NAME: &'static str = "none";
/// #     fn check(_: Topology) -> Result<(), BindError> { Ok(()) }
/// #     fn work(_: Worker) -> std::io::Result<()> { Ok(()) }
/// # }
/// use vestibule::{Event, Inbox, Outbox};
/// let server = Server::<None>::builder().http("127.0.0.1:0".parse()?).service(|_| |event: Event<'_>| {
///     if let Event::Request(mut request) = event {
///         request.reply.text(200, "hello")?;
///     }
///     Ok(())
/// });
/// let rehearsal = server.bind()?.rehearse();
/// let mut buffers = rehearsal.shared().buffers();
/// let (mut inbox, mut outbox) = (Inbox::new(buffers.inbox()), Outbox::new(buffers.outbox()));
/// let mut lane = rehearsal.lane(0, Key::from_bits(0)).ok_or("no room")?;
/// inbox.fill(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
/// assert_eq!(lane.turn(rehearsal.shared().now(), &mut inbox, &mut outbox), Next::Read { want: 1 });
/// assert!(outbox.ready().ends_with(b"\r\n\r\nhello"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Rehearsal {
    handle: Handle,
    shared: Arc<Shared>,
    ports: Vec<Arc<Port>>,
    mailbox: Arc<Mailbox>,
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").field("open", &self.handle.open()).finish_non_exhaustive()
    }
}

impl Rehearsal {
    pub(crate) fn new(handle: Handle, shared: Arc<Shared>, ports: Vec<Arc<Port>>) -> Rehearsal {
        Rehearsal { handle, shared, ports, mailbox: Arc::default() }
    }

    /// The lane of a connection to this port. `None`: no more may be open, or there is no such port.
    pub fn lane(&self, port: usize, key: Key) -> Option<Lane> {
        let port = self.ports.get(port)?.clone();
        let (Verdict::Admitted(permit) | Verdict::Overloaded(permit)) =
            self.shared.admission.reserve(port.bound_bytes)?.take(Source::Uncounted)
        else {
            return None;
        };
        self.shared.counts.connections.fetch_add(1, Ordering::Relaxed);
        let peer = Peer { local: port.address.tcp(), tls: port.tls.is_some(), ..Peer::UNKNOWN };
        Some(Lane::new(
            self.shared.clone(),
            port,
            peer,
            Post::new(self.mailbox.clone(), key),
            Right::new(permit),
            Begin::default(),
        ))
    }

    /// The same with these pools.
    #[cfg(test)]
    pub(crate) fn with_pools<D>(mut server: crate::Server<D>, pools: crate::pools::Pools) -> Rehearsal
    where
        D: crate::Driver,
    {
        server.use_pools(pools);
        server.rehearse()
    }

    /// Where the mail of the lanes comes in.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// What the lanes share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As of a server that runs.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What was done until now.
    pub fn summary(&self) -> Summary {
        self.shared.summary()
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.shared.stop();
        self.mailbox.close();
        self.shared.pools.close();
    }
}
