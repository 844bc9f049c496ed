//! In: a socket, or a model of one. Out: the three calls that a connection's loop makes, each with a limit of time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A byte stream that can be waited for.
pub(crate) trait Wire {
    /// Reads what is there, waiting at most `wait` for the first byte; 0 is the peer's end.
    fn read(&mut self, into: &mut [u8], wait: Duration) -> io::Result<usize>;
    /// Writes some of `bytes`, waiting at most `wait` for room; 0 means that the stream is closed.
    fn write(&mut self, bytes: &[u8], wait: Duration) -> io::Result<usize>;
    /// Nothing more will be written.
    fn half_close(&mut self);
}

/// What came of a read or a write.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Went {
    /// So many bytes.
    Some(usize),
    /// Not in time, or interrupted: try again.
    Later,
    /// The stream is over.
    Over,
}

/// Sorts a result. An interrupted call (EINTR) and one that was out of time (EAGAIN on a socket with a time limit) are no errors.
pub(crate) fn went(result: io::Result<usize>) -> Went {
    match result {
        Ok(n) => Went::Some(n),
        Err(e) => match e.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Went::Later,
            _ => Went::Over,
        },
    }
}

/// A TCP socket. Its limits of time are only set when they change, so a request costs one read and one write.
pub(crate) struct TcpWire {
    stream: TcpStream,
    read_wait: Duration,
    write_wait: Duration,
}

impl TcpWire {
    pub(crate) fn new(stream: TcpStream) -> TcpWire {
        TcpWire { stream, read_wait: Duration::ZERO, write_wait: Duration::ZERO }
    }
}

impl Wire for TcpWire {
    fn read(&mut self, into: &mut [u8], wait: Duration) -> io::Result<usize> {
        if self.read_wait != wait {
            self.stream.set_read_timeout(Some(wait))?;
            self.read_wait = wait;
        }
        self.stream.read(into)
    }

    fn write(&mut self, bytes: &[u8], wait: Duration) -> io::Result<usize> {
        if self.write_wait != wait {
            self.stream.set_write_timeout(Some(wait))?;
            self.write_wait = wait;
        }
        self.stream.write(bytes)
    }

    fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
