//! In: a socket, or a model of one. Out: the three calls that a connection makes.

use std::io;

/// A byte stream that does not block.
pub(crate) trait Wire {
    /// Reads what is there; 0 is the peer's end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Writes some of `bytes`; 0 means that the stream is closed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Nothing more will be written.
    fn half_close(&mut self);
}
