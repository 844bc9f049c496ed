//! A server program replaces itself by another process while clients connect all the time: none is refused, none is reset.
//!
//! One test, in a process of its own: it starts itself again as the successor.

#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use vestibule_driver::doorbell::{Doorbell, Heard};
use vestibule_driver::handover::{self, Control, Patience};
use vestibule_driver::inherited::Inherited;
use vestibule_driver::listen::{ListenOptions, Sockets, accept};

const CONTROL: &str = "VESTIBULE_TEST_CONTROL";
const TEST: &str = "a_process_follows_another_and_no_client_is_refused_or_reset";

/// Answers every connection with one byte, until the bell rings.
fn serve(name: u8, listener: &Sockets, bell: &Doorbell) {
    let member = &listener.members()[0];
    while let Heard::Ready(_) = bell.wait(&[member.as_fd()], None).expect("poll") {
        match accept(member, false) {
            Ok(mut accepted) => accepted.socket.write_all(&[name]).expect("its client waits"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "the other process was quicker"),
        }
    }
}

fn ask(address: SocketAddr) -> u8 {
    let mut answer = [0];
    let mut client = TcpStream::connect(address).expect("no refusal");
    client.read_exact(&mut answer).expect("no reset");
    answer[0]
}

/// The successor: it serves until its standard input ends.
fn successor(path: &Path) {
    let (mut inherited, taken) =
        handover::take(path, Patience::default()).expect("it hands over").expect("it is there");
    let mut listeners = inherited.take_all(&ListenOptions::default()).expect("options can be set");
    let listener = listeners.pop().expect("one was offered");
    let bell = Doorbell::new().expect("descriptors");
    thread::scope(|scope| {
        scope.spawn(|| serve(2, &listener, &bell));
        let control = taken.ready().expect("the predecessor answers");
        std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
        bell.ring();
        drop(control);
    });
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", TEST])
        .env(CONTROL, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

#[test]
fn a_process_follows_another_and_no_client_is_refused_or_reset() {
    if let Some(path) = std::env::var_os(CONTROL) {
        return successor(Path::new(&path));
    }
    let folder = std::env::temp_dir().join(format!("vestibule-succession-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("control");
    let address = ([127, 0, 0, 1], 0).into();
    let listener = Inherited::default().listen(&address, &ListenOptions::default(), 1).expect("a port");
    let address = listener.address().tcp().expect("TCP");
    let (bell, end) = (Arc::new(Doorbell::new().expect("descriptors")), Doorbell::new().expect("descriptors"));
    let stop = bell.clone();
    let control = Control::bind(&path).expect("it is free");
    let offer = control.offer([&listener], Patience::default(), move || stop.ring()).expect("a thread");
    thread::scope(|scope| {
        let client = || {
            let mut asked = 0;
            while !end.rung() {
                assert!(matches!(ask(address), 1 | 2));
                asked += 1;
            }
            asked
        };
        let clients = [scope.spawn(client), scope.spawn(client)];
        let mut child = start(&path);
        let pipe = child.stdin.take();
        let bell = &bell;
        let child = scope.spawn(move || {
            let status = child.wait();
            bell.ring(); // a successor that failed must not leave this test waiting
            status
        });
        serve(1, &listener, bell); // until the successor is ready
        drop((offer, listener));
        assert_eq!(ask(address), 2, "only the successor is left");
        end.ring();
        let asked: Vec<u32> = clients.map(|client| client.join().expect("no client failed")).into();
        assert!(asked.iter().all(|&asked| asked > 0), "{asked:?}");
        drop(pipe);
        assert!(child.join().expect("no panic").expect("it ends").success());
    });
    assert!(!path.exists(), "the successor took its file with it");
    std::fs::remove_dir_all(&folder).expect("it is empty");
}
