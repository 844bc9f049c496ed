//! Who comes in and by which door: proxies that are trusted and others, Unix sockets, too many at once, a successor.

use crate::client::{Client, connect, get};
use crate::server::{Layout, start, start_at};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use vestibule::{Event, Misuse};
use vestibule_driver::listen::Address;
use vestibule_driver::{Driver, Peer};

/// Says whom it takes its peer for.
fn whoami(peer: &Peer) -> impl FnMut(Event<'_>) -> Result<(), Misuse> + Send + use<> {
    let text = format!("{peer} {}", peer.proxy.is_some());
    move |event| match event {
        Event::Request(mut request) => request.reply.text(200, &text),
        _ => Ok(()),
    }
}

fn from(n: u8) -> String {
    format!("PROXY TCP4 192.0.2.{n} 198.51.100.1 4000 80\r\n")
}

/// A path that nobody else has.
fn path(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("vestibule-{}-{number}-{name}", std::process::id()))
}

/// The server closes without a word.
fn is_refused(mut stream: TcpStream) -> bool {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    said.is_empty()
}

pub fn a_trusted_proxy_names_its_clients_and_they_are_counted<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.trust("127.0.0.1".parse().unwrap()).per_source(1).service(whoami));
    let mut first = server.client();
    first.send(from(7) + &get("/"));
    assert_eq!(first.answer().text(), "192.0.2.7:4000 true");
    let mut second = server.client();
    second.send(from(8) + &get("/"));
    assert_eq!(second.answer().text(), "192.0.2.8:4000 true");
    let mut again = server.client();
    again.send(from(7) + &get("/"));
    assert!(is_refused(again.stream), "that one has as many connections as it may have");
    let mut none = server.client();
    none.send(get("/"));
    assert!(is_refused(none.stream), "a proxy that does not say for whom");
    assert_eq!(first.ask(get("/")).text(), "192.0.2.7:4000 true", "the others go on");
}

pub fn nobody_else_can_name_himself<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.trust("192.0.2.1".parse().unwrap()).service(whoami));
    let mut client = server.client();
    client.send(from(7) + &get("/"));
    assert_eq!(client.answer().status, 400);
}

pub fn a_unix_socket_serves_and_its_file_goes_with_it<D: Driver>(layout: Layout<D>) {
    let path = path("door");
    let server = start(layout, |b| b.http(Address::Unix(path.clone())).service(whoami));
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    assert_eq!(client.ask(get("/")).text(), "unix false");
    drop(client);
    server.stop();
    assert!(!path.exists());
}

pub fn newcomers_above_the_soft_cap_are_told_to_go_away<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.connections(10).overload_from(20));
    let mut served: Vec<_> = (0..2).map(|_| server.client()).collect();
    for client in &mut served {
        assert_eq!(client.get("/hello").text(), "hello");
    }
    let mut late = server.client();
    let answer = late.get("/hello");
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.field("retry-after").is_some());
    drop((served, late));
    server.settle();
    assert_eq!(server.client().get("/hello").text(), "hello", "and later they are not");
}

/// One server follows another at the same address while clients come all the time: nobody is refused, and no request is lost.
pub fn a_successor_takes_over_and_no_request_is_lost<D: Driver>(layout: Layout<D>) {
    let control = path("control");
    let begin = |address| start_at::<D>(address, |b| layout(b).handover(&control)).unwrap();
    let first = begin("127.0.0.1:0".parse().unwrap());
    let (address, over) = (first.http, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let over = &over;
                scope.spawn(move || {
                    let mut asked = 0;
                    while !over.load(Ordering::Relaxed) {
                        let mut client = Client::new(connect(address));
                        for _ in 0..20 {
                            let answer = client.get("/hello");
                            assert_eq!(answer.text(), "hello");
                            asked += 1;
                            if answer.closes() {
                                break;
                            }
                        }
                    }
                    asked
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100));
        let second = begin(Address::from(address));
        first.wait(); // it drains and ends by itself
        std::thread::sleep(Duration::from_millis(100));
        over.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
        assert_eq!(second.client().get("/hello").text(), "hello");
    });
}
