//! Socket activation as systemd does it: the socket is the fourth descriptor of a program that has just begun.
//!
//! One test, in a process of its own: it starts itself again as the program that is activated.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use vestibule_driver::inherited::Inherited;
use vestibule_driver::listen::{ListenOptions, accept};

const CHILD: &str = "VESTIBULE_TEST_ACTIVATED";

#[test]
fn a_socket_that_was_passed_serves_the_connection_that_waited_for_the_program() {
    if std::env::var_os(CHILD).is_some() {
        return activated();
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("its port")).expect("the manager listens");

    // The shell has the number that the program will have, and moves the socket to where it is looked for.
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$@" 3<&0 </dev/null"#;
    let test = "a_socket_that_was_passed_serves_the_connection_that_waited_for_the_program";
    let child = Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test])
        .env(CHILD, "1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .output()
        .expect("a shell");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("no reset");
    assert_eq!(answer, "activated");
}

fn activated() {
    let mut inherited = Inherited::from_environment().expect("the variables are right");
    let mut listeners = inherited.take_named("web", &ListenOptions::default()).expect("options can be set");
    let listener = listeners.pop().expect("it was passed");
    let member = &listener.members()[0];
    let flags = rustix::io::fcntl_getfd(member.as_ref()).expect("a descriptor");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let mut socket = accept(member, false).expect("it waits").socket;
    socket.write_all(b"activated").expect("the client waits");
    let again = Inherited::from_environment().expect("the variables are right");
    assert_eq!(again.left().count(), 0, "each is taken once");
}
