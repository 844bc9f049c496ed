//! Crowds: clients of every character at once, after whom nothing may be left; and thousands that are idle beside a few that are busy.
//!
//! What is counted here belongs to the whole process, so these are not cases of [`suite!`](crate::suite) but of
//! [`crowd!`](macro@crate::crowd), for a test file of their own; they take turns.

use crate::client::{Client, connect, get, post};
use crate::h2;
use crate::http1::reset;
use crate::server::{Layout, try_start, wait};
use crate::service::{Sum, pattern};
use crate::site::{Site, roomy};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vestibule::{Limit, Limits};
use vestibule_driver::{BindError, Builder, Driver};

/// One at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// xorshift: the same seed, the same client.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Threads of this process whose names begin so; `None` where the system does not tell.
fn threads_called(name: &str) -> Option<usize> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|comm| comm.starts_with(name)).count())
}

fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}

/// How many clients there are at once, and for how long.
const CLIENTS: u64 = 40;
const SOAK: Duration = Duration::from_secs(3);

/// Honest clients beside those that stall, reset, half-close and lie. The honest ones are all answered right; then every counter and
/// every byte is back where it began.
pub fn a_soak_leaves_nothing_behind<D: Driver>(layout: Layout<D>) {
    let _alone = alone();
    if let Ok(first) = try_start(layout) {
        first.client().get("/hello");
        first.stop(); // what a driver opens once and for the whole process is open now
    }
    wait("every thread to end", || threads_called("vestibule").unwrap_or(0) == 0);
    let before = (threads_called("vestibule"), descriptors());
    // Short, for those who wait to be sent away; long enough for honest clients on a machine that does other work as well.
    let limits = [
        (Limit::HeadMs, 1_500),
        (Limit::IdleMs, 1_500),
        (Limit::HandshakeMs, 1_500),
        (Limit::RateGraceMs, 1_500),
        (Limit::StallMs, 1_500),
        (Limit::MinRate, 100_000),
        (Limit::LingerMs, 200),
        (Limit::BodyBytes, 1 << 20),
    ];
    let limits = limits.iter().fold(Limits::DEFAULT, |all, &(limit, value)| all.with(limit, value).unwrap());
    let site = match Site::with::<D>(false, |b| layout(b).limits(limits).workers(2).connections(30).overload_from(100))
    {
        Ok(site) => site,
        Err(BindError::Unsupported(why)) => return println!("{} has not this layout: {why}", D::NAME),
        Err(error) => panic!("{error}"),
    };
    let (answered, lied, begun) = (AtomicU64::new(0), AtomicU64::new(0), Instant::now());
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (site, answered, lied) = (&site, &answered, &lied);
                scope.spawn(move || {
                    let mut dice = Dice::new(number + 1);
                    while begun.elapsed() < SOAK {
                        match number % 2 {
                            0 => answered.fetch_add(honest(site, &mut dice), Ordering::Relaxed),
                            _ => lied.fetch_add(dishonest(site, &mut dice), Ordering::Relaxed),
                        };
                    }
                });
            }
        });
    }));
    if played.is_err() {
        panic!("an honest client was not answered right; the server says {:#?}", site.server.incidents());
    }
    let (answered, lied) = (answered.into_inner(), lied.into_inner());
    println!("{}: {answered} honest answers, {lied} others", D::NAME);
    assert!(answered > 100 && lied > 50, "{answered} {lied}");
    site.server.settle();
    let told = site.server.incidents();
    assert!(told.iter().all(|line| !line.contains("misuse") && !line.contains("worker")), "{told:?}");
    let summary = site.server.stop();
    assert_eq!(
        (summary.cut, summary.panics),
        (0, told.iter().filter(|line| line.ends_with("panicked")).count() as u64)
    );
    wait("every thread to end", || threads_called("elsewhere").unwrap_or(0) == 0);
    wait("every thread to end", || threads_called("vestibule") <= before.0);
    drop(site.client);
    wait("every descriptor to be closed", || descriptors() <= before.1);
}

/// A few exchanges as they should be; says how many were answered, all of them right.
fn honest(site: &Site, dice: &mut Dice) -> u64 {
    let n = 1 + dice.roll(5);
    match dice.roll(4) {
        0 => talk1(&mut site.server.client(), n, dice),
        1 => talk1(&mut site.http1(), n, dice),
        2 => talk2(&mut site.server.h2(), n, dice),
        _ => talk2(&mut site.http2(), n, dice),
    }
    n as u64
}

fn talk1<S: Read + Write>(client: &mut Client<S>, n: usize, dice: &mut Dice) {
    for _ in 0..n {
        let size = 1 + dice.roll(60_000);
        match dice.roll(5) {
            0 => assert_eq!(client.get("/hello").text(), "hello"),
            1 => assert!(client.ask(post("/echo", &pattern(size))).content == pattern(size)),
            2 => assert!(client.get(&format!("/bytes/{size}")).content == pattern(size)),
            3 => assert!(client.get(&format!("/outlet/{size}")).content == pattern(size)),
            _ => {
                let expected = format!("{size} {:x}", Sum::of(&pattern(size)).0);
                assert_eq!(client.ask(post("/upload", &pattern(size))).text(), expected);
            }
        }
    }
}

fn talk2<S: Read + Write>(client: &mut h2::Client<S>, n: usize, dice: &mut Dice) {
    let sizes: Vec<usize> = (0..n).map(|_| 1 + dice.roll(60_000)).collect();
    let routes: Vec<_> = (0..n).map(|_| ["/bytes", "/outlet", "/echo"][dice.roll(3)]).collect();
    let mut all = Vec::new();
    for (route, size) in routes.iter().zip(&sizes) {
        match *route {
            "/echo" => {
                let number = client.request("POST", "/echo");
                client.content(number, &pattern(*size), true);
                all.push(number);
            }
            route => all.push(client.request("GET", &format!("{route}/{size}"))),
        }
    }
    for (number, size) in all.into_iter().zip(sizes) {
        let answer = client.answer(number);
        assert!(answer.ended && answer.content == pattern(size), "{} of {size} bytes", answer.content.len());
    }
}

/// Somebody who does harm, or none: what is answered does not count, only that it comes to an end. One connection each.
fn dishonest(site: &Site, dice: &mut Dice) -> u64 {
    let tls = dice.roll(3) == 0;
    let mut stream = connect(site.server.addrs[usize::from(tls)]);
    let moment = Duration::from_millis(dice.roll(100) as u64);
    let mut patience = Duration::from_millis(150);
    let says = |stream: &mut TcpStream, bytes: &[u8]| drop(stream.write_all(bytes));
    let request = post("/echo", &pattern(30_000));
    match dice.roll(9) {
        // Says a part of it and stalls; some until they are sent away.
        0 => {
            says(&mut stream, &request[..dice.roll(200)]);
            if dice.roll(8) == 0 {
                patience = crate::client::LONG;
            }
            std::thread::sleep(moment);
        }
        // Resets in the middle.
        1 => {
            says(&mut stream, &request[..dice.roll(request.len())]);
            std::thread::sleep(moment / 10);
            reset(stream);
            return 1;
        }
        2 => {
            says(&mut stream, &request[..dice.roll(request.len())]);
            let _ = stream.shutdown(Shutdown::Write);
        }
        // Garbage, of HTTP or of TLS.
        3 => says(&mut stream, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage that looks like a hello"),
        4 => says(&mut stream, &(0..2000).map(|_| dice.roll(256) as u8).collect::<Vec<_>>()),
        5 => says(&mut stream, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x09\0\0\0\0\x01oops"),
        // Too much.
        6 => {
            says(&mut stream, b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n");
            says(&mut stream, &pattern(100_000));
        }
        // Reads nothing of what it asks for.
        7 => {
            says(&mut stream, (get("/endless") + &get("/outlet/10000000")).as_bytes());
            std::thread::sleep(moment);
            reset(stream);
            return 1;
        }
        _ => says(&mut stream, get(["/panic", "/half", "/silence", "/cut"][dice.roll(4)]).as_bytes()),
    }
    // Until it is sent away, or for a while.
    let _ = stream.set_read_timeout(Some(patience));
    let mut piece = [0; 4096];
    while matches!(stream.read(&mut piece), Ok(1..)) {}
    1
}

/// As many descriptors as this process may have.
fn raise_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.or(limit.current);
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.map_or(100_000, |n| usize::try_from(n).unwrap_or(100_000))
}

/// 10,000, or as many as there may be: both ends of each are in this process.
fn idle_ones() -> usize {
    let spare = raise_limit().saturating_sub(descriptors().unwrap_or(100) + 400);
    (spare / 2).min(10_000)
}

/// Choices for a server that has so many connections.
fn roomy_for<D: Driver>(builder: Builder<D>, n: usize) -> Builder<D> {
    let limits = roomy().with(Limit::IdleMs, 600_000).unwrap();
    // Close to the cap those who come are sent away: they are to be well below it.
    builder.limits(limits).connections(2 * n + 400).per_source(n + 200).threads(n + 200).backlog(4_096)
}

/// Connections that have had an answer each, and are kept.
fn kept(server: &crate::Running, n: usize) -> Vec<Client<TcpStream>> {
    let mut all = Vec::with_capacity(n);
    for _ in 0..n {
        let mut client = server.client();
        client.send(get("/hello"));
        all.push(client);
        // Not one by one, and not all at once.
        if all.len() % 64 == 0 {
            let from = all.len() - 64;
            all[from..].iter_mut().for_each(|client| assert_eq!(client.answer().text(), "hello"));
        }
    }
    let from = n - n % 64;
    all[from..].iter_mut().for_each(|client| assert_eq!(client.answer().text(), "hello"));
    all
}

/// Idle ones hold no storage and stay; busy ones are served beside them.
pub fn ten_thousand_idle_connections_stay_while_64_are_served<D: Driver>(layout: Layout<D>) {
    let _alone = alone();
    let n = idle_ones();
    println!("{}: {n} idle connections", D::NAME);
    let server = crate::start(layout, |b| roomy_for(b, n));
    let mut idle = kept(&server, n);
    assert_eq!(server.handle.open(), n);
    wait("idle connections to hold nothing", || server.handle.storages() == 0);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut busy: Vec<_> = (0..8).map(|_| server.client()).collect();
                for round in 0..40 {
                    let path = format!("/busy/{number}/{round}");
                    busy.iter_mut().for_each(|client| client.send(get(&path)));
                    busy.iter_mut().for_each(|client| assert_eq!(client.answer().text(), path));
                }
            });
        }
    });
    wait("the busy ones to go", || server.handle.open() == n);
    for client in &mut idle {
        let answer = client.get("/still-here");
        assert_eq!((answer.text(), answer.closes()), ("/still-here", false));
    }
    drop(idle);
    server.settle();
    let summary = server.stop();
    assert_eq!((summary.connections, summary.cut, summary.faults), (n as u64 + 64, 0, 0));
}

/// What an idle connection costs in this process, both ends of it, by its resident memory; nothing is asserted.
pub fn measure_idle<D: Driver>(layout: Layout<D>, n: usize) {
    let n = n.min(idle_ones());
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<usize>().ok()
    };
    let server = crate::start(layout, |b| roomy_for(b, n));
    drop(kept(&server, 100)); // and what is kept for any of them is there
    server.settle();
    let before = resident();
    let idle = kept(&server, n);
    match (before, resident()) {
        (Some(before), Some(after)) => {
            let each = after.saturating_sub(before) * 1024 / n.max(1);
            println!("{}: {n} idle connections, {each} bytes of resident memory each, client and server", D::NAME);
        }
        _ => println!("{}: this system does not tell the resident memory", D::NAME),
    }
    drop(idle);
    server.stop();
}

/// The tests of crowds, on this driver and, if one is given, in this layout. They count what belongs to the process: put them into a test file of
/// their own.
#[macro_export]
macro_rules! crowd {
    ($driver:ty) => {
        $crate::crowd!($driver, |builder| builder);
        #[test]
        fn ten_thousand_idle_connections_stay_while_64_are_served() {
            $crate::crowd::ten_thousand_idle_connections_stay_while_64_are_served::<$driver>(|builder| builder);
        }
    };
    ($driver:ty, $layout:expr) => {
        #[test]
        fn a_soak_leaves_nothing_behind() {
            $crate::crowd::a_soak_leaves_nothing_behind::<$driver>($layout);
        }
    };
}
