//! Both sides in one process: servers that follow each other, clients that never stop.

use super::*;
use crate::doorbell::Heard;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

const SHORT: Patience = Patience { exchange: Duration::from_secs(60), ready: Duration::from_secs(60) };

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("vestibule-handover-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn control(&self) -> PathBuf {
        self.0.join("control")
    }

    fn web(&self) -> PathBuf {
        self.0.join("web")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that answers every connection with its name.
struct Server {
    listeners: Vec<Sockets>,
    bell: Arc<Doorbell>,
    workers: Vec<JoinHandle<usize>>,
}

impl Server {
    fn start(name: u8, listeners: Vec<Sockets>) -> Server {
        let bell = Arc::new(Doorbell::new().expect("descriptors"));
        let work = |worker: usize| {
            let sockets: Vec<_> = listeners.iter().flat_map(|listener| listener.share(worker, 2)).cloned().collect();
            let bell = bell.clone();
            thread::spawn(move || work(name, &sockets, &bell))
        };
        let workers = [0, 1].map(work).into();
        Server { listeners, bell, workers }
    }

    /// How many connections it has served.
    fn stop(self) -> usize {
        self.bell.ring();
        self.workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    }
}

fn work(name: u8, sockets: &[Arc<Socket>], bell: &Doorbell) -> usize {
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut served = 0;
    loop {
        let place = match bell.wait(&borrowed, None).expect("poll") {
            Heard::Ready(place) => place,
            _ => return served,
        };
        // Two servers listen: the other may have been quicker.
        if let Ok(mut accepted) = accept(&sockets[place], false) {
            accepted.socket.write_all(&[name]).expect("its client waits");
            served += 1;
        }
    }
}

fn listeners(inherited: &mut Inherited, addresses: &[Address]) -> Vec<Sockets> {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    addresses.iter().map(|address| inherited.listen(address, &options, 2).expect("an address")).collect()
}

fn addresses(listeners: &[Sockets]) -> Vec<Address> {
    listeners.iter().map(|listener| listener.address().clone()).collect()
}

/// Who answers.
fn ask(address: &Address) -> u8 {
    let mut answer = [0];
    match address {
        Address::Tcp(address) => {
            TcpStream::connect(address).expect("no refusal").read_exact(&mut answer).expect("no reset");
        }
        Address::Unix(path) => {
            UnixStream::connect(path).expect("no refusal").read_exact(&mut answer).expect("no reset");
        }
    }
    answer[0]
}

/// A successor takes over while `old` serves: it starts, says so, and `old` stops by what the offer calls.
fn succeed(folder: &Folder, name: u8, old: Server, told: &mpsc::Receiver<()>) -> (Server, Control, usize) {
    let (mut inherited, taken) = take(&folder.control(), SHORT).expect("it hands over").expect("it is there");
    let new = Server::start(name, listeners(&mut inherited, &addresses(&old.listeners)));
    assert_eq!(inherited.left().count(), 0);
    assert!(new.listeners.iter().all(|listener| !listener.owns_file()), "not yet");
    let control = taken.ready().expect("the predecessor answers");
    told.recv().expect("it was called");
    assert!(old.listeners.iter().all(|listener| !listener.owns_file()), "no longer");
    (new, control, old.stop())
}

#[test]
fn three_servers_follow_each_other_and_no_client_is_refused_or_reset() {
    let folder = Folder::new("chain");
    assert!(take(&folder.control(), SHORT).expect("nothing to fail").is_none(), "nobody is there");
    let wanted = [Address::from(([127, 0, 0, 1], 0)), Address::Unix(folder.web())];
    let mut server = Server::start(1, listeners(&mut Inherited::default(), &wanted));
    let addresses = addresses(&server.listeners);
    let mut control = Control::bind(&folder.control()).expect("it is free");
    let (end, answers) = (Doorbell::new().expect("descriptors"), AtomicUsize::new(0));
    let mut served = 0;
    thread::scope(|scope| {
        let client = |address| {
            let mut asked = 0;
            while !end.rung() {
                let name = ask(address);
                assert!((1..=3).contains(&name));
                asked += 1;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            asked
        };
        let clients: Vec<_> = addresses.iter().chain(&addresses).map(|a| scope.spawn(move || client(a))).collect();
        for name in [2, 3] {
            let (tell, told) = mpsc::channel();
            let stop = server.bell.clone();
            let called = move || {
                stop.ring();
                tell.send(()).expect("the test listens");
            };
            let offer = control.offer(&server.listeners, SHORT, called).expect("a thread");
            let (new, next, count) = succeed(&folder, name, server, &told);
            assert!(offer.taken());
            (server, control, served) = (new, next, served + count);
            assert!(addresses.iter().all(|address| ask(address) == name), "nobody else answers");
        }
        end.ring();
        let asked: usize = clients.into_iter().map(|client| client.join().expect("no client failed")).sum();
        assert_eq!(asked, answers.load(Ordering::Relaxed));
        assert!(server.listeners.iter().any(Sockets::owns_file), "the last one has the files");
        drop(control);
        let paths = [folder.control(), folder.web()];
        assert!(!paths[0].exists() && paths[1].exists());
        let own = addresses.len() * 2;
        assert_eq!(served + server.stop(), asked + own, "every connection was served once");
        assert!(!paths[1].exists(), "nothing is left");
    });
}

#[test]
fn a_successor_that_dies_before_it_is_ready_changes_nothing() {
    let folder = Folder::new("dies");
    let wanted = [Address::from(([127, 0, 0, 1], 0)), Address::Unix(folder.web())];
    let old = Server::start(1, listeners(&mut Inherited::default(), &wanted));
    let control = Control::bind(&folder.control()).expect("it is free");
    let (tell, told) = mpsc::channel();
    let offer =
        control.offer(&old.listeners, SHORT, move || tell.send(()).expect("the test listens")).expect("a thread");
    for _ in 0..3 {
        let (mut inherited, taken) = take(&folder.control(), SHORT).expect("it hands over").expect("it is there");
        let half = listeners(&mut inherited, &addresses(&old.listeners));
        drop((half, inherited, taken));
        assert!(folder.web().exists() && folder.control().exists());
    }
    assert!(!offer.taken() && told.try_recv().is_err());
    assert!(old.listeners[1].owns_file());
    assert!(addresses(&old.listeners).iter().all(|address| ask(address) == 1));
    // By another name of the same folder, too.
    let link = Folder(folder.0.with_extension("link"));
    let _ = std::fs::remove_file(&link.0);
    std::os::unix::fs::symlink(&folder.0, &link.0).expect("a link");
    let (new, control, _) = succeed(&link, 2, old, &told);
    std::fs::remove_file(&link.0).expect("a link");
    assert!(addresses(&new.listeners).iter().all(|address| ask(address) == 2));
    drop(control);
    new.stop();
}

#[test]
fn strangers_at_the_control_socket_do_no_harm() {
    let folder = Folder::new("strangers");
    let old = Server::start(1, listeners(&mut Inherited::default(), &[Address::from(([127, 0, 0, 1], 0))]));
    let control = Control::bind(&folder.control()).expect("it is free");
    // One who says nothing is waited for, but not long.
    let impatient = Patience { exchange: Duration::from_millis(20), ready: Duration::from_millis(20) };
    let offer = control.offer(&old.listeners, impatient, || panic!("nobody was ready")).expect("a thread");
    let connect = || UnixStream::connect(folder.control()).expect("it listens");
    let until_end = |mut stream: UnixStream| {
        let mut bytes = Vec::new();
        // What it had not read yet makes the kernel say "reset" instead of "end".
        let _ = stream.read_to_end(&mut bytes);
        bytes
    };
    assert_eq!(until_end(connect()), b"", "says nothing");
    let mut stranger = connect();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("room");
    assert_eq!(until_end(stranger), b"", "says something else");
    let mut taken = take(&folder.control(), SHORT).expect("it hands over").expect("it is there").1;
    // Not ready within 20 ms: the predecessor ends the conversation.
    assert_eq!(taken.wire.receive_byte().expect_err("no word").kind(), io::ErrorKind::UnexpectedEof);
    let error = taken.ready().expect_err("too late");
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe), "{error:?}");
    assert!(!offer.taken());
    drop(offer);
    assert!(!folder.control().exists(), "with the offer the control socket goes");
    assert_eq!(ask(old.listeners[0].address()), 1);
    old.stop();
}

#[test]
fn an_offer_keeps_no_socket_alive_and_ends_when_it_is_dropped() {
    let folder = Folder::new("ends");
    let inherited = listeners(&mut Inherited::default(), &[Address::Unix(folder.web())]);
    let control = Control::bind(&folder.control()).expect("it is free");
    assert!(Control::bind(&folder.control()).is_err(), "one at a time");
    let offer = control.offer(&inherited, SHORT, || panic!("nobody was ready")).expect("a thread");
    drop(inherited);
    assert!(UnixStream::connect(folder.web()).is_err() && !folder.web().exists());
    let error = take(&folder.control(), SHORT).expect_err("it has nothing to give");
    assert!(matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{error:?}");
    drop(offer);
    assert!(take(&folder.control(), SHORT).expect("nothing to fail").is_none());
}

#[test]
fn only_this_user_may_connect() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("mode");
    let _control = Control::bind(&folder.control()).expect("it is free");
    let mode = std::fs::metadata(folder.control()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
