//! In: a listening socket, or nothing. Out: what the kernel knows of accept queues and processors. `None` where it tells nothing.

use socket2::Socket;
use std::io;

/// The accept queue of one listening socket.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Queue {
    /// Connections that are established and wait to be accepted.
    pub waiting: u32,
    /// How many may wait; the kernel holds the backlog to its own limit (`net.core.somaxconn`).
    pub most: u32,
}

/// What became of connections for which an accept queue had no room, since the system (or its network namespace) began. All listening
/// sockets count together.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub struct Overflows {
    /// A queue was full.
    pub overflows: u64,
    /// A connection was dropped on its way into a queue, for this or another reason.
    pub drops: u64,
}

/// How full the accept queue of a TCP socket is (Linux: `TCP_INFO`). `None`: not a listening TCP socket, or another system.
pub fn queue(socket: &Socket) -> Option<Queue> {
    #[cfg(target_os = "linux")]
    {
        let (info, size) = crate::sys::tcp_info(socket).ok()?;
        parse_info(info.get(..size)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

/// How often accept queues were full. `None`: the system does not count it.
pub fn overflows() -> Option<Overflows> {
    if cfg!(target_os = "linux") { parse_netstat(&std::fs::read_to_string("/proc/net/netstat").ok()?) } else { None }
}

/// In a listening socket's `tcp_info` two fields have another meaning: `tcpi_unacked` is the length of its queue, `tcpi_sacked`
/// what it may be (`tcp_get_info` in Linux's net/ipv4/tcp.c). They follow eight single bytes and four words.
#[cfg(target_os = "linux")]
fn parse_info(info: &[u8]) -> Option<Queue> {
    const LISTEN: u8 = 10;
    let word = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    (*info.first()? == LISTEN).then_some(())?;
    Some(Queue { waiting: word(24)?, most: word(28)? })
}

/// Pairs of lines: the names of counters, then their values in the same order.
fn parse_netstat(text: &str) -> Option<Overflows> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Overflows { overflows: value("ListenOverflows")?, drops: value("ListenDrops")? })
}

/// The processors that the calling thread may run on, by their numbers.
///
/// # Errors
/// The system does not say.
pub fn processors() -> io::Result<Vec<usize>> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::thread::{CpuSet, sched_getaffinity};
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).collect())
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not pin threads to processors"))
}

/// Lets the calling thread run on this processor only.
///
/// # Errors
/// There is no such processor, this process may not use it, or the system does not pin threads.
pub fn pin(processor: usize) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        if processor >= CpuSet::MAX_CPU {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let mut set = CpuSet::new();
        set.set(processor);
        Ok(sched_setaffinity(None, &set)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = processor;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not pin threads to processors"))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{TcpListener, TcpStream};

    /// A client may know that it is connected a moment before its server does. Longer than this takes no machine that works.
    fn eventually(is: impl Fn() -> bool) -> bool {
        (0..10_000).any(|_| {
            is() || {
                std::thread::sleep(std::time::Duration::from_millis(1));
                false
            }
        })
    }

    #[test]
    fn the_queue_grows_with_each_connection_that_is_not_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its port");
        let socket = Socket::from(listener);
        socket.listen(7).expect("a shorter queue");
        assert_eq!(queue(&socket), Some(Queue { waiting: 0, most: 7 }));
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("room")).collect();
        assert!(eventually(|| queue(&socket) == Some(Queue { waiting: 3, most: 7 })), "{:?}", queue(&socket));
        let accepted = socket.accept().expect("one that waits");
        assert_eq!(queue(&socket), Some(Queue { waiting: 2, most: 7 }));
        assert_eq!(queue(&accepted.0), None, "that one does not listen");
        drop(clients);
    }

    #[test]
    fn a_full_queue_is_counted() {
        let before = overflows().expect("Linux counts it");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket2::SockAddr::from(listener.local_addr().expect("its port"));
        let socket = Socket::from(listener);
        socket.listen(0).expect("the shortest queue");
        let client = || {
            let client = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("an option");
            let _in_progress = client.connect(&address);
            client
        };
        let clients: Vec<_> = (0..4).map(|_| client()).collect();
        let grew = |after: Overflows| after.overflows > before.overflows && after.drops > before.drops;
        assert!(eventually(|| overflows().is_some_and(grew)), "{before:?} {:?}", overflows());
        drop(clients);
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let text =
            "TcpExt: SyncookiesSent ListenOverflows New ListenDrops\nTcpExt: 1 22 3 44\nIpExt: InNoRoutes\nIpExt: 5\n";
        assert_eq!(parse_netstat(text), Some(Overflows { overflows: 22, drops: 44 }));
        for none in ["", "TcpExt: ListenOverflows ListenDrops", "TcpExt: ListenDrops\nTcpExt: 1", "TcpExt: a\nIpExt: b"]
        {
            assert_eq!(parse_netstat(none), None, "{none:?}");
        }
        assert_eq!(parse_netstat("TcpExt: ListenOverflows ListenDrops\nTcpExt: -1 x\n"), None);
    }

    #[test]
    fn a_pinned_thread_runs_where_it_is_pinned() {
        // The mask is the thread's own, so other tests keep theirs.
        std::thread::spawn(|| {
            let all = processors().expect("Linux says it");
            for &processor in all.iter().take(4) {
                pin(processor).expect("one of ours");
                assert_eq!(processors().expect("Linux says it"), [processor]);
                assert_eq!(rustix::thread::sched_getcpu(), processor);
            }
            assert!(pin(usize::MAX).is_err());
        })
        .join()
        .expect("no panic");
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[test]
        fn no_text_and_no_bytes_make_it_panic(text in "(TcpExt:|IpExt:| |\n|[0-9]|ListenDrops|ListenOverflows){0,30}", info: Vec<u8>) {
            let _ = parse_netstat(&text);
            let queue = parse_info(&info);
            prop_assert_eq!(queue.is_some(), info.len() >= 32 && info[0] == 10);
        }
    }
}
