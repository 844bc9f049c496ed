//! In: what the handler wants of an exchange. Out: the record that the receiving and the sending side of every version share.

/// Names an exchange (a request and its answer) on its connection.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub(crate) u64);

impl Id {
    /// A number for logs and maps: 1, 2, 3 in HTTP/1.1, the stream's in HTTP/2 and HTTP/3.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// How a request's body is delivered. Chosen at the `Request` event, in force from the next event on; later only parts can become
/// `Manual` or `Stream`, and anything `Discard`.
#[derive(Copy, Clone, Default, Debug, PartialEq, Eq)]
pub enum Expect {
    /// In parts, as they come.
    #[default]
    Stream,
    /// In one `Body` event, lent from the inbox if it lies there whole, else gathered. A longer one is refused with 413: by its
    /// declared length, before a byte of it is read.
    Whole {
        /// Decoded bytes at most, within `gather_bytes`.
        max: u32,
    },
    /// As `Whole`, but once all of it is here the body leaves as a [`Job`](crate::decode::job::Job), to have its coding taken off
    /// and to be checked elsewhere: the turn ends with `Wait::Job`, `Turn::job` hands it out, `Turn::done` takes it back.
    #[cfg(feature = "alloc")]
    WholeByJob {
        /// Decoded bytes at most, within `gather_bytes`.
        max: u32,
    },
    /// In parts, at most 64 KiB of them before they are given back with `release`. The bytes of a tunnel come alike; every other
    /// choice takes them as they come.
    Manual,
    /// Not at all: it is read and dropped.
    Discard,
}

impl Expect {
    /// The cap of a whole body.
    pub(crate) fn whole(self) -> Option<u32> {
        match self {
            Expect::Whole { max } => Some(max),
            #[cfg(feature = "alloc")]
            Expect::WholeByJob { max } => Some(max),
            _ => None,
        }
    }
}

/// What a response carries behind its head.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// All of it, here. The response is complete once all was taken.
    Whole(&'a [u8]),
    /// So many bytes, written later.
    Sized(u64),
    /// Written later, nobody knows how much; trailers are possible.
    Streamed,
}

/// Bytes that may be out with the handler under [`Expect::Manual`].
pub(crate) const MANUAL_WINDOW: u32 = 65_536;

/// What every version knows of an exchange.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) id: u64,
    pub(crate) tag: u64,
    pub(crate) expect: Expect,
    /// The delivery of its body has begun.
    pub(crate) begun: bool,
    /// Lent under `Expect::Manual` and not given back.
    pub(crate) held: u32,
    /// The response's content is all there: it is complete once all of that was taken.
    pub(crate) whole: bool,
    /// A `write` took less than it was offered: `Writable` is due.
    pub(crate) starved: bool,
    /// Its handler has said all of the response; what is left goes out by itself.
    pub(crate) ended: bool,
    /// What the road notes of the coding that its client accepts.
    #[cfg(feature = "alloc")]
    pub(crate) offer: u8,
    /// The handler wants the connection to end behind it.
    pub(crate) close: bool,
    /// The handler gave the exchange up.
    pub(crate) aborted: bool,
    /// Every byte of the request has been received and handed out.
    pub(crate) received: bool,
}
