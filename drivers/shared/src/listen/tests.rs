//! Listening sockets on loopback and in a folder of their own.

use super::*;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};

fn loopback() -> Address {
    Address::from(([127, 0, 0, 1], 0))
}

fn bind(address: &Address, options: &ListenOptions, members: usize) -> Sockets {
    Sockets::bind(address, options, members).expect("an address that is free")
}

fn connect(listener: &Sockets) -> TcpStream {
    TcpStream::connect(listener.address().tcp().expect("TCP")).expect("it listens")
}

/// How many wait in all queues.
fn waiting(listener: &Sockets) -> usize {
    let queue = |member: &Arc<Socket>| crate::system::queue(member).expect("Linux says it").waiting as usize;
    listener.members().iter().map(queue).sum()
}

/// A client may know that it is connected a moment before its server does. Longer than this takes no machine that works.
fn wait_for(listener: &Sockets, count: usize) {
    for _ in 0..10_000 {
        if waiting(listener) == count {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} of {count} connections came", waiting(listener));
}

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vestibule-listen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn socket(&self) -> Address {
        Address::Unix(self.0.join("socket"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn addresses_are_read_as_they_are_written() {
    for text in ["127.0.0.1:80", "[::1]:443", "[::]:0", "unix:/run/a b.sock", "unix:relative"] {
        let address: Address = text.parse().expect(text);
        assert_eq!(address.to_string(), text);
    }
    for text in ["", "unix:", "80", ":80", "localhost:80", "127.0.0.1", "127.0.0.1:65536", "relative/path"] {
        assert_eq!(text.parse::<Address>(), Err(AddressError), "{text:?}");
    }
    assert!("[::]:80".parse::<Address>().is_ok_and(|both| both.serves(&Address::from(([0, 0, 0, 0], 80)))));
    assert!(!Address::from(([0, 0, 0, 0], 80)).serves(&Address::from(([127, 0, 0, 1], 80))));
    assert!(!Address::from(([127, 0, 0, 1], 80)).serves(&Address::from(([127, 0, 0, 1], 81))));
}

#[test]
fn what_is_accepted_has_no_delay_and_closes_on_exec_without_a_call_for_it() {
    for (nodelay, nonblocking) in [(true, true), (false, false)] {
        let options = ListenOptions { nodelay, ..ListenOptions::default() };
        let listener = bind(&loopback(), &options, 4);
        assert_eq!(listener.members().len(), 1, "one for all");
        let client = connect(&listener);
        wait_for(&listener, 1);
        let accepted = accept(&listener.members()[0], nonblocking).expect("it waits");
        assert_eq!(accepted.peer, client.local_addr().ok());
        assert_eq!(accepted.socket.tcp_nodelay().ok(), Some(nodelay), "inherited");
        assert_eq!(accepted.socket.nonblocking().ok(), Some(nonblocking));
        let flags = rustix::io::fcntl_getfd(&accepted.socket).expect("a descriptor");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let error = accept(&listener.members()[0], true).expect_err("nobody else");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "listeners never block");
    }
}

#[test]
fn a_deferred_connection_is_accepted_with_its_first_bytes() {
    let options = ListenOptions { defer_accept: Some(Duration::from_millis(1_500)), ..ListenOptions::default() };
    let listener = bind(&loopback(), &options, 1);
    let mut client = connect(&listener);
    let silent = accept(&listener.members()[0], false).expect_err("it has said nothing");
    assert_eq!(silent.kind(), io::ErrorKind::WouldBlock);
    client.write_all(b"GET").expect("room");
    wait_for(&listener, 1);
    let mut accepted = accept(&listener.members()[0], false).expect("with its bytes").socket;
    let mut bytes = [0; 3];
    accepted.read_exact(&mut bytes).expect("they are there");
    assert_eq!(&bytes, b"GET");
}

#[test]
fn options_of_the_kernel_are_set_on_every_member() {
    let options = ListenOptions {
        fast_open: Some(33),
        defer_accept: Some(Duration::from_millis(10)),
        reuse_port: true,
        ..ListenOptions::default()
    };
    let listener = bind(&loopback(), &options, 3);
    assert_eq!(listener.members().len(), 3);
    for member in listener.members() {
        assert_eq!(crate::sys::tcp(member, Tcp::FastOpen).ok(), Some(33));
        assert_eq!(crate::sys::tcp(member, Tcp::DeferAccept).ok(), Some(1), "at least one second");
        assert_eq!(member.tcp_nodelay().ok(), Some(true));
    }
}

#[test]
fn a_group_has_one_port_and_each_member_a_queue_of_its_own() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let listener = bind(&loopback(), &options, 4);
    let port = listener.address().tcp().expect("TCP");
    assert_ne!(port.port(), 0);
    for member in listener.members() {
        assert_eq!(member.local_addr().ok().and_then(|a| a.as_socket()), Some(port));
    }
    let clients: Vec<_> = (0..32).map(|_| connect(&listener)).collect();
    wait_for(&listener, 32);
    let mut accepted = Vec::new();
    assert_eq!(accept_rest(listener.members(), false, usize::MAX, |a| accepted.push(a.peer)), 32);
    let mut wanted: Vec<_> = clients.iter().map(|client| client.local_addr().ok()).collect();
    wanted.sort();
    accepted.sort();
    assert_eq!(accepted, wanted);
    let alone = ListenOptions::default();
    let error = Sockets::bind(listener.address(), &alone, 1).expect_err("it is taken");
    assert_eq!(error.what, "bind");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[test]
fn all_of_ipv6_leaves_all_of_ipv4_to_another_if_it_is_to() {
    let only = ListenOptions { only_v6: Some(true), ..ListenOptions::default() };
    let both = ListenOptions { only_v6: Some(false), ..ListenOptions::default() };
    let any = Address::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let Ok(listener) = Sockets::bind(&any, &both, 1) else { return }; // a machine without IPv6
    let port = listener.address().tcp().expect("TCP").port();
    drop(TcpStream::connect(("127.0.0.1", port)).expect("both"));
    let listener = bind(&any, &only, 1);
    assert_eq!(listener.members()[0].only_v6().ok(), Some(true));
    let port = listener.address().tcp().expect("TCP").port();
    let fourth = Sockets::bind(&([0, 0, 0, 0], port).into(), &ListenOptions::default(), 1);
    // Another test may have that port of IPv4; then it is taken, but not by us.
    if let Ok(fourth) = fourth {
        let client = TcpStream::connect(("127.0.0.1", port)).expect("the other one");
        wait_for(&fourth, 1);
        assert_eq!(accept(&fourth.members()[0], true).expect("it waits").peer, client.local_addr().ok());
    }
}

#[test]
fn every_worker_has_a_socket_and_every_socket_a_worker() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    for members in 1..6 {
        let listener = bind(&loopback(), &options, members);
        for workers in 1..8 {
            let mut served = 0;
            for member in listener.members() {
                let servers = (0..workers).filter(|&w| listener.share(w, workers).any(|s| Arc::ptr_eq(s, member)));
                served += usize::from(servers.count() > 0);
            }
            assert_eq!(served, members, "{members} sockets, {workers} workers");
            assert!((0..workers).all(|w| listener.share(w, workers).count() > 0));
        }
    }
}

/// DRV-03: what waits in a dead worker's queue is served by the worker that comes after it.
#[test]
fn a_worker_that_dies_with_connections_in_its_queue_resets_none_of_them() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let listener = bind(&loopback(), &options, 2);
    let work = |worker: usize, most: usize| {
        let mine: Vec<_> = listener.share(worker, 2).cloned().collect();
        std::thread::spawn(move || {
            accept_rest(&mine, false, most, |mut accepted| accepted.socket.write_all(b"ok").expect("its client waits"))
        })
    };
    let clients: Vec<_> = (0..64).map(|_| connect(&listener)).collect();
    wait_for(&listener, 64);
    // Worker 0 serves one connection and dies; the others stay in the queue of its socket.
    let first = work(0, 1).join().expect("it ends");
    assert_eq!(first, 1, "64 connections over two sockets");
    assert_eq!(waiting(&listener), 63);
    let rest: usize = [work(0, 64), work(1, 64)].map(|worker| worker.join().expect("it ends")).iter().sum();
    assert_eq!(first + rest, 64);
    for mut client in clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("no reset");
        assert_eq!(answer, "ok");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Connect,
    /// Of this worker.
    Start(usize),
    /// It has accepted so many before.
    Kill(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Connect),
        1 => (0usize..3).prop_map(Act::Start),
        2 => (0usize..3, 0usize..4).prop_map(|(worker, count)| Act::Kill(worker, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// DRV-03: workers come and go in any order, the group does not, and every connection is served or waits.
    #[test]
    fn whatever_becomes_of_workers_every_connection_is_served_or_waits(acts in prop::collection::vec(act(), 0..40)) {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let listener = bind(&loopback(), &options, 3);
        let mut workers: [Option<Vec<Arc<Socket>>>; 3] = Default::default();
        let (mut clients, mut served) = (Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Connect => clients.push(connect(&listener)),
                Act::Start(worker) => workers[worker] = Some(listener.share(worker, 3).cloned().collect()),
                Act::Kill(worker, count) => {
                    let mine = workers[worker].take().unwrap_or_default();
                    accept_rest(&mine, true, count, |accepted| served.push(accepted));
                }
            }
            wait_for(&listener, clients.len() - served.len());
        }
        accept_rest(listener.members(), true, usize::MAX, |accepted| served.push(accepted));
        let mut peers: Vec<_> = served.iter().map(|accepted| accepted.peer).collect();
        let mut wanted: Vec<_> = clients.iter().map(|client| client.local_addr().ok()).collect();
        peers.sort();
        wanted.sort();
        prop_assert_eq!(peers, wanted);
    }
}

#[test]
fn a_stale_file_is_replaced_a_live_one_is_not_and_the_own_one_goes_at_the_end() {
    let folder = Folder::new("stale");
    let address = folder.socket();
    let path = address.unix().expect("a path").to_owned();
    drop(UnixListener::bind(&path).expect("a fresh folder")); // its file stays
    assert!(UnixStream::connect(&path).is_err() && path.exists());

    let listener = bind(&address, &ListenOptions::default(), 4);
    assert_eq!((listener.members().len(), listener.address()), (1, &address));
    let error = Sockets::bind(&address, &ListenOptions::default(), 1).expect_err("somebody listens");
    assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);

    let _client = UnixStream::connect(&path).expect("it still listens");
    let accepted = accept(&listener.members()[0], true).expect("it waits");
    assert_eq!(accepted.peer, None);
    drop(listener);
    assert!(!path.exists(), "nothing is left");
}

#[test]
fn a_full_queue_is_no_sign_of_death() {
    let folder = Folder::new("full");
    let address = folder.socket();
    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let _listener = bind(&address, &options, 1);
    let _client = UnixStream::connect(address.unix().expect("a path")).expect("room for one");
    let error = Sockets::bind(&address, &options, 1).expect_err("somebody listens");
    assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn what_is_no_socket_is_never_removed() {
    let folder = Folder::new("file");
    let address = folder.socket();
    let path = address.unix().expect("a path");
    std::fs::write(path, "precious").expect("a file");
    let error = Sockets::bind(&address, &ListenOptions::default(), 1).expect_err("it is in the way");
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(std::fs::read_to_string(path).ok().as_deref(), Some("precious"));
}

#[test]
fn a_file_that_was_handed_over_or_replaced_stays() {
    let folder = Folder::new("kept");
    let address = folder.socket();
    let path = address.unix().expect("a path");
    let listener = bind(&address, &ListenOptions::default(), 1);
    assert!(listener.owns_file());
    listener.leave_file();
    assert!(!listener.owns_file());
    drop(listener);
    assert!(path.exists());

    let listener = bind(&address, &ListenOptions::default(), 1);
    std::fs::remove_file(path).expect("an operator does so");
    let _successor = UnixListener::bind(path).expect("it is free");
    drop(listener);
    assert!(path.exists(), "that is the successor's");
}

#[test]
fn servers_that_start_at_once_do_not_remove_each_others_file() {
    let folder = Folder::new("race");
    let address = folder.socket();
    drop(UnixListener::bind(address.unix().expect("a path")).expect("a fresh folder"));
    let started = std::thread::scope(|scope| {
        let start = || Sockets::bind(&address, &ListenOptions::default(), 1).ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(started.len(), 1);
    let _client = UnixStream::connect(address.unix().expect("a path")).expect("it can be reached");
    assert!(accept(&started[0].members()[0], true).is_ok());
}

#[test]
fn permissions_are_those_that_were_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    let address = folder.socket();
    let _listener = bind(&address, &ListenOptions { unix_mode: Some(0o600), ..ListenOptions::default() }, 1);
    let mode = std::fs::metadata(address.unix().expect("a path")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_socket_from_elsewhere_must_listen_and_all_of_one_listener_at_one_address() {
    let options = ListenOptions::default();
    let std = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = std.local_addr().expect("its port");
    let listener = Sockets::adopt(vec![std.into()], &options).expect("it listens");
    assert_eq!(listener.address().tcp(), Some(address));
    assert_eq!(listener.members()[0].nonblocking().ok(), Some(true));
    assert_eq!(listener.members()[0].tcp_nodelay().ok(), Some(true));

    let deaf = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let same = listener.members()[0].try_clone().expect("a descriptor");
    let pathless = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let name = format!("\0vestibule-{}", std::process::id()); // an abstract one
    pathless.bind(&socket2::SockAddr::unix(name).expect("short")).expect("it is free");
    pathless.listen(1).expect("it is bound");
    for (sockets, what) in [
        (vec![deaf], "listening"),
        (vec![datagrams.into()], "listening"),
        (vec![same, other.into()], "different"),
        (vec![pathless], "neither"),
        (vec![], "no socket"),
    ] {
        let error = Sockets::adopt(sockets, &options).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_option_that_cannot_be_set_is_named() {
    let address = Address::from(([127, 0, 0, 1], 0));
    let error = ListenError { address, what: "fast_open", error: io::ErrorKind::Unsupported.into() };
    assert_eq!(error.to_string(), "cannot listen on 127.0.0.1:0: fast_open: unsupported");
    let nowhere = Address::from(([192, 0, 2, 1], 0)); // an address of documentation is nobody's (RFC 5737)
    assert_eq!(Sockets::bind(&nowhere, &ListenOptions::default(), 1).expect_err("not ours").what, "bind");
    let long = Address::Unix(format!("/{}", "x".repeat(200)).into());
    assert_eq!(Sockets::bind(&long, &ListenOptions::default(), 1).expect_err("too long").what, "bind");
}
