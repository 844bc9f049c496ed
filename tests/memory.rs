//! What a connection holds: its own account against a counting allocator, and both under the published bound.
#![cfg(feature = "alloc")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![allow(unsafe_code)] // a global allocator cannot be had without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::Arc;
use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Limit, Limits, Outbox, Pause};

struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(by: i64) {
    LIVE.with(|live| {
        live.set(live.get() + by);
        PEAK.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: everything is handed to the system's allocator unchanged; the counters are plain thread-locals without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `at` came from `alloc` above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    coder.write_all(bytes).unwrap();
    coder.finish().unwrap()
}

fn post(body: &[u8], fields: &str) -> Vec<u8> {
    let head = format!("POST /x HTTP/1.1\r\nhost: a\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for part in body.chunks(1000) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Feeds a stream and holds the two accounts against each other after every turn. Heap bytes at the end, after `shed`.
fn account(limits: &Limits, stream: &[u8], expect: Expect, inbox: usize) -> i64 {
    let config = Arc::new(Config::new(limits.clone()));
    let bound = config.machine_bound_bytes();
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; inbox]), Outbox::new(vec![0; 16_384]));
    let base = LIVE.with(Cell::get);
    let mut connection = Connection::new(config.clone(), Instant::ZERO);
    let own = connection.retained_bytes();
    PEAK.with(|p| p.set(base));
    let mut rest = stream;
    for _ in 0..1_000_000 {
        rest = &rest[inbox.fill(&rest[..rest.len().min(1_400)])..];
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        while let Some(event) = turn.next() {
            match event {
                Event::Request(mut q) => {
                    q.reply.expect(expect);
                }
                Event::Body(mut b) if b.last => {
                    b.reply.respond(200, &[], Content::Whole(b"ok")).unwrap();
                }
                _ => {}
            }
        }
        let pause = turn.finish();
        let n = outbox.ready().len();
        outbox.wrote(n);
        let (heap, counted) = (LIVE.with(Cell::get) - base, connection.retained_bytes() - own);
        assert_eq!(heap, counted as i64, "what it says it holds is what it holds");
        assert!(connection.retained_bytes() <= bound);
        if rest.is_empty() && pause == (Pause::Input { want: 1 }) || pause == Pause::Closed {
            break;
        }
    }
    let peak = PEAK.with(Cell::get) - base;
    assert!(own as i64 + peak <= bound as i64, "at worst {peak} beside {own}, bound {bound}");
    connection.shed();
    let idle = own as i64 + LIVE.with(Cell::get) - base;
    let between = connection.deadline().is_none_or(|d| d.why != vestibule::Why::Body);
    assert!(!between || idle <= 4_096, "an idle connection holds {idle} bytes (M-11)");
    idle
}

#[test]
fn bounded_memory() {
    let limits = Limits::DEFAULT.with(Limit::GatherBytes, 200_000).unwrap();
    let (whole, text) = (Expect::Whole { max: 200_000 }, b"six stages ".repeat(18_000));
    for inbox in [2_000, 65_536] {
        account(&limits, &b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3), Expect::Stream, inbox);
        account(&limits, &post(&text, ""), Expect::Stream, inbox);
        account(&limits, &post(&text, ""), whole, inbox);
        account(&limits, &chunked(&text), whole, inbox);
        account(&limits, &post(&gzip(&text), "content-encoding: gzip\r\n"), Expect::Stream, inbox);
        account(&limits, &post(&gzip(&text), "content-encoding: gzip\r\n"), whole, inbox);
        // A bomb, and a body that lies about its length.
        account(&limits, &post(&gzip(&vec![0; 3_000_000]), "content-encoding: gzip\r\n"), whole, inbox);
        account(&limits, &post(&text, "")[..5_000], whole, inbox);
    }
}

#[test]
fn many_mixed_requests_leave_nothing_behind() {
    let mix =
        [post(&gzip(b"hello"), "content-encoding: gzip\r\n"), chunked(&[7; 3_000]), post(&[1; 9_000], "")].concat();
    let once = account(&Limits::DEFAULT, &mix, Expect::Whole { max: 10_000 }, 4_000);
    let often = account(&Limits::DEFAULT, &mix.repeat(300), Expect::Whole { max: 10_000 }, 4_000);
    assert_eq!(once, often);
}

#[test]
fn a_declared_length_is_not_believed_before_it_comes() {
    let limits = Limits::DEFAULT.with(Limit::BodyBytes, 1 << 39).unwrap();
    let mut connection = Connection::new(Arc::new(Config::new(limits)), Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4_096]), Outbox::new(vec![0; 4_096]));
    let before = connection.retained_bytes();
    inbox.fill(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 549755813888\r\n\r\nx");
    let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
    while turn.next().is_some() {}
    let _ = turn.finish();
    assert!(connection.retained_bytes() <= before + 8_192, "ENG-06");
}

#[test]
fn the_published_bounds() {
    let plain = Config::new(Limits::DEFAULT);
    let (pools, boxes) = (2 * (1 << 20) + 65_536, plain.inbox_bytes() + 16_384);
    // M-1, with the gather pool and the decoder's window named apart.
    assert!(plain.bound_bytes() <= 192 * 1024 + pools, "{}", plain.bound_bytes());
    assert!(plain.machine_bound_bytes() <= 20 * 1024 + pools);
    assert!(boxes <= 104 * 1024);
    assert!(size_of::<Connection<&Config>>() <= 1_024, "{}", size_of::<Connection<&Config>>());
}

/// M-13: an application cannot make the machine hold what the peer does not read.
#[test]
fn output_is_refused_not_kept() {
    let mut connection = Connection::new(Arc::new(Config::new(Limits::DEFAULT)), Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4_096]), Outbox::new(vec![0; 4_096]));
    inbox.fill(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
    let before = connection.retained_bytes();
    let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
    let Some(Event::Request(mut q)) = turn.next() else { panic!("a request") };
    let taken = q.reply.respond(200, &[], Content::Whole(&[b'x'; 100_000])).unwrap();
    assert!(taken < 4_096);
    assert_eq!(q.reply.write(b"more").unwrap(), 0);
    let _ = turn.finish();
    assert_eq!(connection.retained_bytes(), before);
}
