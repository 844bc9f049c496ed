//! In: what protects a connection, lent or told by somebody else. Out: the same, owned, to be carried to another thread or machine.

use crate::base::{Identity, Names};
use crate::event::Session;
use alloc::boxed::Box;

/// What protects a connection, owned: for a [`Connection::protected`](crate::Connection::protected) whose TLS ended elsewhere, on a
/// crypto thread, in the kernel, or in a proxy in front of it that is trusted.
///
/// ```
/// use vestibule::{Names, OwnedSession};
/// let session = OwnedSession::new("TLSv1.3", "TLS13_AES_128_GCM_SHA256")
///     .with_alpn(b"h2")
///     .with_sni("example.com")
///     .with_names(Names::of(["example.com"]));
/// assert_eq!(session.lend().sni, Some("example.com"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSession {
    version: Box<str>,
    cipher: Box<str>,
    alpn: Option<Box<[u8]>>,
    sni: Option<Box<str>>,
    resumed: bool,
    identity: Option<Box<[u8]>>,
    names: Option<Names>,
}

impl OwnedSession {
    /// A session of this version (`TLSv1.3`) and cipher suite, without protocol, server name or identity.
    pub fn new(version: &str, cipher: &str) -> OwnedSession {
        OwnedSession {
            version: version.into(),
            cipher: cipher.into(),
            alpn: None,
            sni: None,
            resumed: false,
            identity: None,
            names: None,
        }
    }

    /// The session of a machine whose handshake is done: what a crypto thread hands over. `None` before that.
    #[cfg(feature = "tls")]
    pub fn of(tls: &crate::decrypt::Tls) -> Option<OwnedSession> {
        let session = OwnedSession::from(&crate::connection::session(tls)?);
        Some(OwnedSession { names: tls.names().cloned(), ..session })
    }

    /// The protocol that was agreed on (RFC 7301): it decides which version of HTTP is spoken.
    pub fn with_alpn(self, protocol: &[u8]) -> OwnedSession {
        OwnedSession { alpn: Some(protocol.into()), ..self }
    }

    /// The server name that the client called (RFC 6066 §3).
    pub fn with_sni(self, name: &str) -> OwnedSession {
        OwnedSession { sni: Some(name.into()), ..self }
    }

    /// It was resumed by a ticket.
    pub fn with_resumption(self) -> OwnedSession {
        OwnedSession { resumed: true, ..self }
    }

    /// The certificates that the client proved to own, its own first, as DER. None at all is no identity.
    pub fn with_chain<'c>(self, chain: impl Iterator<Item = &'c [u8]> + Clone) -> OwnedSession {
        // Whoever hands a session over copies it, once a connection, and has no way back for want of memory in any of its fields.
        let no_memory = |_| alloc::alloc::handle_alloc_error(core::alloc::Layout::new::<OwnedSession>());
        let flat = crate::base::flatten(chain).unwrap_or_else(no_memory);
        OwnedSession { identity: Some(flat).filter(|flat| !flat.is_empty()), ..self }
    }

    /// The hosts that are served over it; a request for another one is answered with 421. Without this, every host is.
    pub fn with_names(self, names: Names) -> OwnedSession {
        OwnedSession { names: Some(names), ..self }
    }

    /// The same, lent, as requests carry it.
    pub fn lend(&self) -> Session<'_> {
        Session {
            version: &self.version,
            cipher: &self.cipher,
            alpn: self.alpn.as_deref(),
            sni: self.sni.as_deref(),
            resumed: self.resumed,
            identity: self.identity.as_deref().and_then(Identity::of),
        }
    }

    /// The hosts that are served over it, if that was said.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Bytes on the heap, without the names, which are shared.
    pub fn retained_bytes(&self) -> usize {
        self.version.len()
            + self.cipher.len()
            + self.alpn.as_ref().map_or(0, |alpn| alpn.len())
            + self.sni.as_ref().map_or(0, |sni| sni.len())
            + self.identity.as_ref().map_or(0, |list| list.len())
    }
}

impl From<&Session<'_>> for OwnedSession {
    fn from(session: &Session<'_>) -> OwnedSession {
        OwnedSession {
            version: session.version.into(),
            cipher: session.cipher.into(),
            alpn: session.alpn.map(Box::from),
            sni: session.sni.map(Box::from),
            resumed: session.resumed,
            identity: session.identity.map(|identity| identity.flat().into()),
            names: None,
        }
    }
}
