//! A process that has no descriptor left: what waits in the queue is closed one by one, and later ones are served (DRV-01).
//!
//! One test, in a process of its own: it takes the limit of descriptors away from itself.

#![cfg(target_os = "linux")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;
use vestibule::Instant;
use vestibule_driver::accept::{Accept, Acceptor};
use vestibule_driver::listen::{Accepted, ListenOptions, Sockets, accept};
use vestibule_driver::system::queue;

/// Asks until there is an answer that is not "again".
fn ask(acceptor: &mut Acceptor, listener: &Sockets, now: Instant) -> (Accept<Accepted>, Option<String>) {
    let mut said = None;
    loop {
        let (accepted, line) = acceptor.accept(now, || accept(&listener.members()[0], true));
        said = said.or(line.map(|line| line.to_string()));
        if !matches!(accepted, Accept::Again) {
            return (accepted, said);
        }
    }
}

#[test]
fn without_descriptors_connections_are_closed_one_by_one_until_there_are_some_again() {
    let listener = Sockets::bind(&([127, 0, 0, 1], 0).into(), &ListenOptions::default(), 1).expect("a port");
    let address = listener.address().tcp().expect("TCP");
    let mut clients: Vec<_> = (0..4).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    // A client may know that it is connected a moment before its server does.
    let all = |_| queue(&listener.members()[0]).is_some_and(|queue| queue.waiting == 4);
    assert!((0..10_000).any(|n| all(n) || {
        std::thread::sleep(Duration::from_millis(1));
        false
    }));
    let mut acceptor = Acceptor::default(); // its reserve is the last descriptor
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: limit.maximum }).expect("less is allowed");

    // With a limit of zero not even the reserve can be taken again: nothing is accepted, nothing closed, nothing lost.
    let (mut now, mut lines) = (Instant::ZERO, Vec::new());
    for _ in 0..3 {
        let (accepted, line) = ask(&mut acceptor, &listener, now);
        let Accept::Pause(until) = accepted else { panic!("{accepted:?}") };
        lines.extend(line);
        now = until;
    }
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("cannot accept"), "{lines:?}");

    // Room for what is open now and one more: that one becomes the reserve, or the connection, but never both.
    setrlimit(Resource::Nofile, limit).expect("back to where it was");
    let probe = std::fs::File::open("/dev/null").expect("there are descriptors");
    let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&probe)).expect("a descriptor");
    drop(probe);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest + 1), maximum: limit.maximum }).expect("less");
    for client in clients.drain(..2) {
        let (accepted, _) = ask(&mut acceptor, &listener, now);
        let Accept::Pause(until) = accepted else { panic!("{accepted:?}") };
        now = until;
        let mut client = client;
        assert_eq!(client.read(&mut [0]).expect("no reset, nothing was sent"), 0, "it is told at once");
        std::mem::forget(client); // its descriptor would be one more
    }

    setrlimit(Resource::Nofile, limit).expect("back to where it was");
    for client in &clients {
        let (accepted, _) = ask(&mut acceptor, &listener, now);
        let Accept::Accepted(accepted) = accepted else { panic!("{accepted:?}") };
        assert_eq!(accepted.peer, client.local_addr().ok(), "those that waited are served in their order");
    }
    assert!(matches!(ask(&mut acceptor, &listener, now).0, Accept::Empty));
}
