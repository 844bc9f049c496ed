//! Stage 1, as far as it is bytes. In: the first bytes of a connection. Out: whom a proxy speaks for, and which version of HTTP is
//! spoken. Sockets are the driver's.

pub mod proxy;
#[cfg(feature = "alloc")]
pub(crate) mod sniff;
mod tlv;

pub use tlv::Tlvs;
