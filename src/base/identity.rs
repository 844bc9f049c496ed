//! In: the certificates that a peer proved to own. Out: one flat run of bytes that is easy to keep and to lend.

/// Who the peer is: the certificates that it sent and that its connection's verifier accepted, as DER. Also there when the
/// session was resumed: then they are those of the session's first handshake.
///
/// ```
/// # fn handle(session: &vestibule::Session<'_>) {
/// if let Some(identity) = session.identity {
///     let _own: &[u8] = identity.end_entity();
///     assert!(identity.chain().count() >= 1);
/// }
/// # }
/// ```
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Each certificate behind its length in three bytes, as in a Certificate message (RFC 5246 §7.4.2).
    list: &'a [u8],
}

/// The bytes in front of a certificate.
const PREFIX: usize = 3;

impl<'a> Identity<'a> {
    /// The peer's own certificate.
    pub fn end_entity(&self) -> &'a [u8] {
        self.chain().next().unwrap_or_default()
    }

    /// All of them in the order in which they were sent, the peer's own first.
    pub fn chain(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.list;
        core::iter::from_fn(move || {
            let (&[a, b, c], behind) = rest.split_first_chunk::<PREFIX>()?;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
            let (certificate, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(certificate)
        })
    }

    /// What [`flatten`] has made.
    #[cfg(feature = "alloc")]
    pub(crate) fn of(list: &'a [u8]) -> Option<Identity<'a>> {
        if list.is_empty() { None } else { Some(Identity { list }) }
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn flat(&self) -> &'a [u8] {
        self.list
    }
}

impl core::fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.chain().map(<[u8]>::len)).finish()
    }
}

/// One run of bytes of a chain, allocated once. A certificate of 16 MiB or more ends it: none can be sent.
#[cfg(feature = "alloc")]
pub(crate) fn flatten<'c>(
    chain: impl Iterator<Item = &'c [u8]> + Clone,
) -> Result<alloc::boxed::Box<[u8]>, super::memory::NoMemory> {
    let fits = chain.take_while(|certificate| certificate.len() < 1 << 24);
    let size = fits.clone().map(|certificate| PREFIX + certificate.len()).sum();
    let mut list = alloc::vec::Vec::new();
    list.try_reserve_exact(size)?;
    for certificate in fits {
        let [_, length @ ..] = u32::try_from(certificate.len()).unwrap_or_default().to_be_bytes();
        list.extend_from_slice(&length);
        list.extend_from_slice(certificate);
    }
    Ok(list.into_boxed_slice())
}

#[cfg(all(test, feature = "alloc"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_comes_back_as_it_went_in() {
        let long = vec![7; 70_000];
        let chain = [&b"own"[..], b"", &long];
        let flat = flatten(chain.into_iter()).unwrap();
        let identity = Identity::of(&flat).unwrap();
        assert_eq!(identity.chain().collect::<Vec<_>>(), chain);
        assert_eq!(identity.end_entity(), b"own");
        assert_eq!(format!("{identity:?}"), "[3, 0, 70000]");
        assert_eq!(Identity::of(&flatten([].into_iter()).unwrap()), None);
    }
}
