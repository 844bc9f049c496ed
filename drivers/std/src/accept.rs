//! In: a listening socket. Out: connections in the pool, and patience when there are no descriptors.

use crate::Peer;
use crate::incident::What;
use crate::server::{Arrival, Listener, Shared};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A listening socket on `addr`, with its queue of `backlog`.
pub(crate) fn listen(addr: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A server that comes back at once must get its port, whatever connections of its past still linger (TIME_WAIT).
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

/// How long to wait when accepting fails, and whether to say so.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    wait: Duration,
    said: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const MOST: Duration = Duration::from_secs(1);
    const SILENCE: Duration = Duration::from_secs(5);

    fn worked(&mut self) {
        self.wait = Duration::ZERO;
    }

    /// Accepting failed: how long to wait, and whether a line is due.
    fn failed(&mut self, now: Instant) -> (Duration, bool) {
        self.wait = (self.wait * 2).clamp(Self::FIRST, Self::MOST);
        let due = self.said.is_none_or(|then| now.saturating_duration_since(then) >= Self::SILENCE);
        if due {
            self.said = Some(now);
        }
        (self.wait, due)
    }
}

/// A connection that died in the queue (ECONNABORTED, EPROTO) or a signal says nothing about the next one.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
        || error.raw_os_error() == Some(EPROTO)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const EPROTO: i32 = 71;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const EPROTO: i32 = 100;

/// Accepts until the server stops.
pub(crate) fn run(port: &Socket, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    while shared.pool.admit() {
        match port.accept() {
            Ok((socket, _)) if !shared.stopping() => {
                backoff.worked();
                match arrival(socket, listener) {
                    Ok(arrival) => shared.begin(arrival),
                    Err(_) => shared.pool.take_back(), // gone already
                }
            }
            _ if shared.stopping() => {
                shared.pool.take_back();
                return;
            }
            Ok(_) => shared.pool.take_back(),
            Err(error) => {
                shared.pool.take_back();
                if is_passing(&error) {
                    continue;
                }
                let (wait, due) = backoff.failed(Instant::now());
                if due {
                    shared.tell(None, What::Accept(error.to_string()));
                }
                shared.sleep(wait);
            }
        }
    }
}

fn arrival(socket: Socket, listener: &Arc<Listener>) -> io::Result<Arrival> {
    let stream = TcpStream::from(socket);
    // Answers go out whole: waiting for more to send with them would only delay them.
    stream.set_nodelay(true)?;
    let peer = Peer { addr: stream.peer_addr()?, local: stream.local_addr()?, tls: listener.tls.is_some() };
    Ok(Arrival { stream, peer, listener: listener.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_descriptors_there_is_at_most_one_line_in_five_seconds_and_few_calls() {
        let (start, mut backoff) = (Instant::now(), Backoff::default());
        let (mut now, mut lines, mut calls) = (start, 0, 0);
        while now < start + Duration::from_secs(60) {
            let (wait, due) = backoff.failed(now);
            lines += u32::from(due);
            calls += 1;
            now += wait;
        }
        assert!(lines <= 12, "{lines} lines a minute");
        assert!(calls <= 70, "{calls} calls a minute");
        backoff.worked();
        assert_eq!(backoff.failed(now).0, Backoff::FIRST);
    }

    #[test]
    fn what_passes_is_not_waited_for() {
        assert!(is_passing(&io::Error::from(ErrorKind::ConnectionAborted)));
        assert!(is_passing(&io::Error::from(ErrorKind::Interrupted)));
        assert!(!is_passing(&io::Error::from_raw_os_error(24)), "EMFILE");
    }
}
