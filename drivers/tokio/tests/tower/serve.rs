//! The server around connections: listeners of other kinds, caps, accept errors, the end of the grace.

use crate::connection::{Out, full};
use crate::support::{LAST, converse};
use http::{Request, Response};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::service_fn;
use vestibule_tokio::tower::{Body, Listener, Peer, serve};

async fn hello(_: Request<Body>) -> Result<Response<Out>, Infallible> {
    Ok(full("hello"))
}

async fn never(_: Request<Body>) -> Result<Response<Out>, Infallible> {
    std::future::pending().await
}

/// Makes the same service for everybody.
macro_rules! make {
    ($service:expr) => {
        service_fn(|_| async { Ok::<_, Infallible>(service_fn($service)) })
    };
}

/// A listener whose next results are known.
struct Script {
    results: VecDeque<io::Result<DuplexStream>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Listener for Script {
    type Io = DuplexStream;
    type Addr = ();

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, ())>> {
        self.asked.lock().expect("no panic").push(Instant::now());
        match self.results.pop_front() {
            Some(result) => Poll::Ready(result.map(|io| (io, ()))),
            None => Poll::Pending,
        }
    }

    fn peer(_: &DuplexStream, (): &()) -> Peer {
        Peer::default()
    }
}

/// DRV-01: want of descriptors neither spins nor ends the listener.
#[tokio::test(start_paused = true)]
async fn accept_errors_slow_the_listener_down_and_it_recovers() {
    const EMFILE: i32 = 24;
    let (client, server) = duplex(4_096);
    let emfile = (0..1_000).map(|_| Err(io::Error::from_raw_os_error(EMFILE)));
    let aborted = [Err(io::ErrorKind::ConnectionAborted.into()), Ok(server)];
    let asked = Arc::new(Mutex::new(Vec::new()));
    let listener = Script { results: emfile.chain(aborted).collect(), asked: asked.clone() };
    let begun = Instant::now();
    let (stop, stopped) = oneshot::channel::<()>();
    let serves = serve(listener, make!(hello)).run_until(async { drop(stopped.await) });
    let asks = async {
        let heard = converse(client, LAST, true).await;
        let _ = stop.send(());
        heard
    };
    let (summary, heard) = tokio::join!(serves, asks);
    assert!(heard.ends_with("hello"), "{heard}");
    assert_eq!((summary.connections, summary.requests, summary.accept_errors), (1, 1, 1_001), "{summary}");
    let asked = asked.lock().expect("no panic");
    for second in 0..900 {
        let within = |at: &&Instant| at.duration_since(begun).as_secs() == second;
        assert!(asked.iter().filter(within).count() <= 10, "second {second}");
    }
}

#[tokio::test]
async fn no_more_connections_are_open_than_may_be() {
    let (clients, servers): (Vec<_>, Vec<_>) = (0..10).map(|_| duplex(4_096)).unzip();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let listener = Script { results: servers.into_iter().map(Ok).collect(), asked: Arc::default() };
    let counted = {
        let (open, most) = (open.clone(), most.clone());
        move |_: Request<Body>| {
            let (open, most) = (open.clone(), most.clone());
            async move {
                most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                open.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(full("counted"))
            }
        }
    };
    let make = service_fn(move |()| {
        let counted = counted.clone();
        async move { Ok::<_, Infallible>(service_fn(counted)) }
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let serves = serve(listener, make).connections(3).run_until(async { drop(stopped.await) });
    let asks = async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in clients {
            tasks.spawn(async move { converse(client, LAST, true).await.ends_with("counted") });
        }
        assert!(tasks.join_all().await.into_iter().all(|heard| heard));
        let _ = stop.send(());
    };
    let (summary, ()) = tokio::join!(serves, asks);
    assert_eq!((summary.connections, summary.requests, most.load(Ordering::Relaxed)), (10, 10, 3), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_the_grace_is_cut_off() {
    let (mut client, server) = duplex(4_096);
    let listener = Script { results: [Ok(server)].into(), asked: Arc::default() };
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("room");
    let begun = Instant::now();
    let serves = serve(listener, make!(never))
        .grace(Duration::from_secs(3))
        .run_until(tokio::time::sleep(Duration::from_secs(1)));
    let summary = serves.await;
    assert_eq!((summary.connections, summary.cut), (1, 1), "{summary}");
    assert_eq!(begun.elapsed().as_secs(), 4); // of the virtual clock
    assert_eq!(client.read(&mut [0; 10]).await.expect("an end"), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_a_listener_too() {
    let dir = std::env::temp_dir().join(format!("vestibule-tokio-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = dir.join("serve.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let (stop, stopped) = oneshot::channel::<()>();
    let serves = serve(listener, make!(hello)).run_until(async { drop(stopped.await) });
    let asks = async {
        let stream = tokio::net::UnixStream::connect(&path).await.expect("open");
        let heard = converse(stream, LAST, true).await;
        let _ = stop.send(());
        heard
    };
    let (summary, heard) = tokio::join!(serves, asks);
    std::fs::remove_dir_all(&dir).expect("a directory");
    assert!(heard.ends_with("hello"), "{heard}");
    assert_eq!(summary.connections, 1);
}
