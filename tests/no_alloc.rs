//! HTTP/1.1 without an allocator, and every road without an allocation per request in steady state.
//!
//! `cargo test -p vestibule --no-default-features --test no_alloc` runs it without the features as well.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![allow(unsafe_code)] // a global allocator cannot be had without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Limits, Outbox, Pause};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator unchanged; the counter is a plain thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `act` runs.
fn allocations(act: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    act();
    COUNT.with(Cell::get) - before
}

static CONFIG: Config = Config::new(Limits::DEFAULT);

/// Answers by path, with nothing of its own.
fn handle(event: Event<'_>) {
    match event {
        Event::Request(mut q) => match q.head.path() {
            "/hello" => q.reply.text(200, "Hello, world!").unwrap(),
            "/whole" => {
                q.reply.expect(Expect::Whole { max: 1000 });
            }
            "/upgrade" => q.reply.upgrade("echo", &[]).unwrap(),
            "/chunked" => {
                q.reply.respond(200, &[], Content::Streamed).unwrap();
                q.reply.write(b"hello").unwrap();
                q.reply.trailers(&[("x-sum", "5")]).unwrap();
            }
            _ if !q.has_body => q.reply.text(404, "").unwrap(),
            _ => {}
        },
        Event::Body(mut b) if b.whole => {
            b.reply.respond(200, &[], Content::Whole(b.bytes)).unwrap();
        }
        Event::Body(mut b) if b.last => b.reply.text(200, "read").unwrap(),
        Event::Tunnel(mut t) => {
            t.reply.write(t.bytes).unwrap();
        }
        _ => {}
    }
}

/// Feeds `input` to a fresh connection over arrays, `cut` bytes at a time; gives back what was sent.
fn serve(input: &[u8], cut: usize, sent: &mut [u8; 4096]) -> usize {
    let mut connection = Connection::new(&CONFIG, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new([0u8; 2048]), Outbox::new([0u8; 2048]));
    let mut n = 0;
    for mut piece in input.chunks(cut) {
        while !piece.is_empty() {
            piece = &piece[inbox.fill(piece)..];
            loop {
                let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
                while let Some(event) = turn.next() {
                    handle(event);
                }
                let pause = turn.finish();
                let ready = outbox.ready();
                sent[n..n + ready.len()].copy_from_slice(ready);
                n += ready.len();
                let len = ready.len();
                outbox.wrote(len);
                if !matches!(pause, Pause::Yield | Pause::Room) {
                    break;
                }
            }
        }
    }
    n
}

#[test]
fn http_1_1_needs_no_allocator() {
    let conversations: [(&str, &[u8], &[&str]); 7] = [
        (
            "pipelined",
            b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\nHEAD /hello HTTP/1.1\r\nhost: a\r\n\r\n",
            &["Hello, world!", "content-length: 13"],
        ),
        ("whole", b"POST /whole HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", &["\r\n\r\nhello"]),
        (
            "streamed",
            b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
            &[],
        ),
        ("chunked answer", b"GET /chunked HTTP/1.1\r\nhost: a\r\n\r\n", &["5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n"]),
        (
            "upgrade",
            b"GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nbytes",
            &["101 Switching", "bytes"],
        ),
        (
            "continue",
            b"POST /whole HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
            &["100 Continue"],
        ),
        ("fault", b"GET /hello HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", &["400 Bad Request"]),
    ];
    for (name, input, answers) in conversations {
        for cut in [1, 7, 4096] {
            let (mut sent, mut n) = ([0u8; 4096], 0);
            assert_eq!(allocations(|| n = serve(input, cut, &mut sent)), 0, "{name}, {cut} at a time");
            let text = String::from_utf8_lossy(&sent[..n]);
            for answer in answers {
                assert!(text.contains(answer), "{name}: {text}");
            }
        }
    }
}

#[cfg(feature = "alloc")]
#[test]
fn a_coded_body_allocates_for_the_first_one_only() {
    use std::io::Write;
    let mut coder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    coder.write_all(&b"six stages ".repeat(60)).unwrap();
    let body = coder.finish().unwrap();
    let head =
        format!("POST /whole HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    let mut connection = Connection::new(&CONFIG, Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; 4096]), Outbox::new(vec![0; 4096]));
    let mut once = || {
        inbox.fill(&request);
        let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
        while let Some(event) = turn.next() {
            handle(event);
        }
        assert_eq!(turn.finish(), Pause::Input { want: 1 });
        let n = outbox.ready().len();
        assert!(n > 660);
        outbox.wrote(n);
    };
    assert!(allocations(&mut once) > 0);
    for _ in 0..50 {
        assert_eq!(allocations(&mut once), 0);
    }
}

#[cfg(feature = "tls")]
#[test]
fn nothing_is_allocated_for_a_request_over_tls() {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use std::io::Write;
    use std::sync::Arc;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let config = Arc::new(Config::new(Limits::DEFAULT).with_tls(vestibule::decrypt::TlsConfig::new(server)));
    let mut connection = Connection::new(config.clone(), Instant::ZERO);
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; config.inbox_bytes()]), Outbox::new(vec![0; 16_384]));
    for round in 0..40 {
        if round > 2 {
            client.writer().write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        }
        let mut flight = vec![];
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let count = allocations(|| {
            inbox.fill(&flight);
            let mut turn = connection.turn(Instant::ZERO, &mut inbox, &mut outbox).unwrap();
            while let Some(event) = turn.next() {
                handle(event);
            }
            let _ = turn.finish();
        });
        assert!(round <= 2 || count == 0, "round {round}: {count}");
        client.read_tls(&mut outbox.ready()).unwrap();
        client.process_new_packets().unwrap();
        let n = outbox.ready().len();
        outbox.wrote(n);
    }
    assert_eq!(connection.stats().requests, 37);
}
