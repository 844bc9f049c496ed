//! What a probe says of a server that runs: on real sockets, in each topology.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vestibule::{Event, Expect, Misuse};
use vestibule_std::probe::{Probe, Role, Snapshot, Stage};
use vestibule_std::{Builder, Handle, Offload, Server, Summary, Topology};

struct Running {
    addr: SocketAddr,
    handle: Handle,
    thread: std::thread::JoinHandle<Summary>,
}

fn serve(event: Event<'_>) -> Result<(), Misuse> {
    match event {
        Event::Request(mut request) if request.has_body => {
            request.reply.expect(Expect::Whole { max: 100_000 });
        }
        Event::Request(mut request) => request.reply.text(200, "ok")?,
        Event::Body(mut body) => body.reply.text(200, "had it")?,
        _ => {}
    }
    Ok(())
}

fn start(plan: impl FnOnce(Builder) -> Builder) -> Running {
    let server = Server::builder().http("127.0.0.1:0".parse().unwrap()).workers(2).service(|_| serve).on_fault(|_| {});
    let server = plan(server).bind().unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.handle());
    Running { addr, handle, thread: std::thread::spawn(move || server.run()) }
}

impl Running {
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn probe(&self) -> Arc<Probe> {
        self.handle.probe().unwrap()
    }

    /// Counts are there when a connection is over, which its client may know before.
    fn when(&self, is_there: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let begun = Instant::now();
        loop {
            let snapshot = self.probe().snapshot();
            if is_there(&snapshot) {
                return self.probe().snapshot(); // what happened while the first one was taken is in this one
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{snapshot:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(self) -> Summary {
        self.handle.shutdown();
        self.thread.join().unwrap()
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn without_a_probe_there_is_none() {
    let server = start(|builder| builder);
    assert!(server.handle.probe().is_none());
    assert!(server.ask(GET).ends_with("ok"));
    server.stop();
}

#[test]
fn every_topology_counts_the_same_requests() {
    let process: Offload = "process".parse().unwrap();
    for (topology, offload) in
        Topology::ALL.map(|topology| (topology, Offload::NONE)).into_iter().chain([(Topology::Workers, process)])
    {
        let server = start(|builder| builder.topology(topology).offload(offload).probe(true));
        for _ in 0..3 {
            assert!(server.ask(GET).ends_with("ok"));
            assert!(server.ask(POST).ends_with("had it"));
        }
        assert!(server.ask(b"GET / HTTP/1.1\n\n").starts_with("HTTP/1.1 400 "));
        let snapshot = server.when(|snapshot| snapshot.connections.closed == 7);
        assert_eq!((snapshot.connections.accepted, snapshot.connections.open), (7, 0), "{topology}");
        assert_eq!((snapshot.requests, snapshot.durations.count()), ([6, 0], 6), "{topology}");
        assert_eq!(snapshot.faults, [("BareLf", 1)]);
        let (read, write) = (snapshot.stage(Stage::Read), snapshot.stage(Stage::Write));
        assert_eq!(read.bytes, (3 * (GET.len() + POST.len()) + 16) as u64, "{topology}");
        assert_eq!((snapshot.reads.sum, snapshot.reads.count()), (read.bytes, read.count));
        assert!(write.bytes > 6 * 80 && write.count >= 7, "{topology}: {write:?}");
        assert!(!read.time.is_zero() && !write.time.is_zero(), "{topology}: {read:?} {write:?}");
        assert_eq!(snapshot.responses, [0, 6, 0, 1, 0], "{topology}");
        let parse = snapshot.stage(Stage::Parse);
        assert!(
            !parse.time.is_zero() && parse.count >= 7 && parse.bytes >= (3 * (GET.len() + POST.len())) as u64,
            "{parse:?}"
        );
        let process = snapshot.stage(Stage::Process);
        assert_eq!((process.bytes, process.count >= 9, process.time.is_zero()), (15, true, false), "{topology}");
        assert!(snapshot.turns.count() >= 7 && !snapshot.stage(Stage::Machine).time.is_zero());
        if cfg!(target_os = "linux") {
            let [queue] = &snapshot.accept_queues[..] else { panic!("{:?}", snapshot.accept_queues) };
            assert_eq!((&queue.name, queue.capacity > 0), (&server.addr.to_string(), true));
            assert!(snapshot.overflows.is_some());
        }
        let workers = snapshot.threads.iter().filter(|thread| thread.role == Role::Worker).count();
        let alone = matches!(topology, Topology::Single | Topology::Stages | Topology::Threads);
        assert_eq!(workers, if alone { 1 } else { 2 }, "{topology}");
        if offload.process {
            let pool = &snapshot.pools[0];
            assert_eq!((pool.name, pool.refused), ("process", 0));
            assert!(pool.taken >= 7 && pool.wait.count() == pool.taken, "{pool:?}");
        }
        let summary = server.stop();
        assert_eq!((summary.connections, summary.requests, summary.faults), (7, 6, 1));
    }
}

#[test]
fn a_pool_that_is_full_is_seen_in_every_number() {
    let (gate, go) = std::sync::mpsc::channel::<()>();
    let go = Arc::new(std::sync::Mutex::new(go));
    let (enter, entered) = std::sync::mpsc::channel();
    let server = start(|builder| {
        builder.offload("process".parse().unwrap()).pool_threads(1).queue(1).probe(true).service(move |_| {
            let (go, enter) = (go.clone(), enter.clone());
            move |event: Event<'_>| {
                if let Event::Request(mut request) = event {
                    let _ = enter.send(());
                    let _ = go.lock().unwrap().recv_timeout(Duration::from_secs(10));
                    request.reply.text(200, "ok")?;
                }
                Ok(())
            }
        })
    });
    let open = |n: usize| -> Vec<TcpStream> {
        let connect = |_| {
            let mut stream = TcpStream::connect(server.addr).unwrap();
            stream.write_all(GET).unwrap();
            stream
        };
        (0..n).map(connect).collect()
    };
    let first = open(1);
    entered.recv_timeout(Duration::from_secs(10)).unwrap(); // the only thread is taken from here on
    let second = open(1);
    server.when(|snapshot| snapshot.pools[0].queued == 1);
    assert!(server.ask(GET).starts_with("HTTP/1.1 503 "));
    let snapshot = server.when(|snapshot| snapshot.refused == 1);
    let pool = &snapshot.pools[0];
    assert_eq!((pool.threads, pool.capacity, pool.queued_most), (1, 1, 1));
    assert!(pool.refused >= 1);
    assert_eq!(snapshot.stage(Stage::Process).queue, 1);
    let found = server.probe().bottleneck();
    assert_eq!((found.what.to_string().as_str(), found.stage), ("pool process", Some(Stage::Process)), "{}", found.why);
    drop(gate);
    for mut stream in first.into_iter().chain(second) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        // The first one was being served; the second one may still find the queue full.
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let snapshot = server.when(|snapshot| snapshot.connections.closed == 3);
    assert_eq!((snapshot.requests, snapshot.pools[0].queued), ([3, 0], 0));
    assert_eq!(snapshot.durations.count(), 3);
    server.stop();
}

#[test]
fn who_reads_nothing_blocks_and_who_leaves_is_counted_as_it_left() {
    let server = start(|builder| {
        builder.topology(Topology::Single).probe(true).service(|_| {
            |event: Event<'_>| -> Result<(), Misuse> {
                match event {
                    Event::Request(mut request) => {
                        request.reply.respond(200, &[], vestibule::Content::Streamed)?;
                        while request.reply.write(&[b'x'; 16_384])? > 0 {}
                    }
                    Event::Writable(mut reply) => while reply.write(&[b'x'; 16_384])? > 0 {},
                    _ => {}
                }
                Ok(())
            }
        })
    });
    let mut stream = TcpStream::connect(server.addr).unwrap();
    stream.write_all(GET).unwrap();
    let snapshot = server.when(|snapshot| snapshot.stage(Stage::Write).queue == 1);
    assert_eq!((snapshot.connections.open, snapshot.durations.count()), (1, 0));
    drop(stream); // with unread bytes: a reset
    let snapshot = server.when(|snapshot| snapshot.connections.open == 0);
    assert_eq!(snapshot.connections.reset, 1);
    let write = snapshot.stage(Stage::Write);
    assert_eq!((write.queue, write.queue_most), (0, 1));
    server.stop();
}

#[test]
fn a_worker_that_takes_anothers_place_counts_on() {
    let server = start(|builder| builder.topology(Topology::Single).probe(true));
    assert!(server.ask(GET).ends_with("ok"));
    let before = server.when(|snapshot| snapshot.connections.closed == 1);
    server.handle.replace_worker(0);
    // Whoever comes to the old one while that ends may be let go without a word.
    assert!((0..100).any(|_| server.ask(GET).ends_with("ok")));
    let after = server.when(|snapshot| snapshot.connections.open == 0);
    assert_eq!((before.threads.len(), after.threads.len()), (1, 1));
    assert!(after.threads[0].busy >= before.threads[0].busy && after.at > before.at);
    server.stop();
}
