//! In: threads that wait for sockets. Out: the sockets that are ready, or the bell, which rings once and is heard by all.
//!
//! A listening socket that another process may hold too must not be shut down to end an accept call: that would end it for both. So
//! threads wait here first, and listening sockets never block.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bell that rings once, for threads that wait for sockets.
///
/// ```
/// use std::net::TcpListener;
/// use std::os::fd::AsFd;
/// use std::time::Duration;
/// use vestibule_driver::doorbell::{Doorbell, Heard};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let bell = Doorbell::new()?;
/// assert_eq!(bell.wait(&[listener.as_fd()], Some(Duration::ZERO))?, Heard::Nothing);
/// bell.ring();
/// assert_eq!(bell.wait(&[listener.as_fd()], None)?, Heard::Bell);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Doorbell {
    /// Both ends of a pipe, so to say. To drop the first is to ring: the second reports that for ever, to all who poll it.
    rope: Mutex<Option<UnixStream>>,
    bell: UnixStream,
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("rung", &self.rung()).finish()
    }
}

/// What a thread was woken by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The bell has rung, whatever else is there.
    Bell,
    /// This socket, by its place in the list, can be read, accepted from, or has failed.
    Ready(usize),
    /// The time is over.
    Nothing,
}

impl Doorbell {
    /// A bell that has not rung.
    ///
    /// # Errors
    /// There are no descriptors for it.
    pub fn new() -> io::Result<Doorbell> {
        let (rope, bell) = UnixStream::pair()?;
        Ok(Doorbell { rope: Mutex::new(Some(rope)), bell })
    }

    fn rope(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.rope.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rings, for now and for ever.
    pub fn ring(&self) {
        self.rope().take();
    }

    /// Whether it has rung.
    pub fn rung(&self) -> bool {
        self.rope().is_none()
    }

    /// Waits until one of the sockets is ready, the bell has rung, or the time is over; `None` is no limit. Of several sockets it is
    /// the first.
    ///
    /// # Errors
    /// What poll(2) says; never that a signal came.
    pub fn wait(&self, sockets: &[BorrowedFd<'_>], most: Option<Duration>) -> io::Result<Heard> {
        let start = Instant::now();
        let mut polled: Vec<_> = Some(self.bell.as_fd())
            .iter()
            .chain(sockets)
            .map(|socket| PollFd::from_borrowed_fd(*socket, PollFlags::IN))
            .collect();
        loop {
            let left = most.map(|most| most.saturating_sub(start.elapsed()));
            // What does not fit is longer than any process lives.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polled, left.as_ref()) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let first = polled.iter().position(|socket| !socket.revents().is_empty());
            return Ok(match first {
                Some(0) => Heard::Bell,
                Some(place) => Heard::Ready(place - 1),
                None => Heard::Nothing,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_first_ready_socket_is_told_and_the_bell_before_all() {
        let bell = Doorbell::new().expect("descriptors");
        let (mut a, b) = UnixStream::pair().expect("descriptors");
        let (mut c, d) = UnixStream::pair().expect("descriptors");
        let wait = |most| bell.wait(&[b.as_fd(), d.as_fd()], most).expect("poll");
        assert_eq!(wait(Some(Duration::from_millis(1))), Heard::Nothing);
        c.write_all(b"x").expect("room");
        assert_eq!(wait(None), Heard::Ready(1));
        a.write_all(b"x").expect("room");
        assert_eq!(wait(Some(Duration::MAX)), Heard::Ready(0));
        bell.ring();
        bell.ring();
        assert_eq!(wait(None), Heard::Bell);
    }

    #[test]
    fn all_threads_hear_it() {
        let bell = Doorbell::new().expect("descriptors");
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bell.wait(&[], None).ok())).collect();
            assert!(!bell.rung());
            bell.ring();
            for thread in threads {
                assert_eq!(thread.join().ok().flatten(), Some(Heard::Bell));
            }
        });
        assert!(bell.rung());
    }
}
