//! HTTP/1.1 on a plain port.

use crate::client::{Client, connect, get, post};
use crate::server::{Layout, start};
use crate::service::{Sum, pattern};
use crate::site::roomy;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use vestibule_driver::Driver;

pub fn hello_on_one_connection_again_and_again<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    for _ in 0..100 {
        let answer = client.get("/hello");
        assert_eq!((answer.status, answer.text(), answer.field("connection")), (200, "hello", None), "{answer:?}");
    }
    drop(client);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (1, 100, 0));
}

pub fn a_thousand_requests_in_one_write_are_answered_in_order<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: String = (0..1000).map(|n| get(&format!("/path/{n}"))).collect();
        writer.write_all(all.as_bytes()).unwrap();
    });
    for n in 0..1000 {
        assert_eq!(client.answer().text(), format!("/path/{n}"));
    }
    sender.join().unwrap();
}

/// Answers of all kinds, some from other threads and some slower than those behind them.
pub fn answers_of_all_kinds_keep_the_order_of_their_requests<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    let mut all = Vec::new();
    for path in ["/hello", "/later/30", "/bytes/5000", "/outlet/25000", "/later/0"] {
        all.extend(get(path).into_bytes());
        all.extend(post("/echo", path.as_bytes()));
    }
    client.send(all);
    let expected = [&b"hello"[..], b"/later/30", &pattern(5000), &pattern(25_000), b"/later/0"];
    for (path, content) in ["/hello", "/later/30", "/bytes/5000", "/outlet/25000", "/later/0"].iter().zip(expected) {
        assert!(client.answer().content == content, "{path}");
        assert_eq!(client.answer().text(), *path);
    }
}

pub fn head_says_what_get_would_and_sends_no_content<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    for (path, length) in [("/hello", "5"), ("/bytes/70000", "70000")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let answer = client.answer_to("HEAD");
        assert_eq!((answer.status, answer.field("content-length")), (200, Some(length)));
        assert_eq!(client.get("/next").text(), "/next", "nothing of the content came");
    }
}

pub fn three_megabytes_go_in_and_come_back<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(roomy()));
    let body = pattern(3_000_000);
    let mut client = server.client();
    let mut writer = client.stream.try_clone().unwrap();
    let sent = post("/echo", &body);
    let sender = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let answer = client.answer();
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert!(answer.content == body, "{} bytes came back", answer.content.len());
    sender.join().unwrap();
}

pub fn an_upload_comes_whole_with_a_length_and_in_chunks<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b.limits(roomy()));
    let body = pattern(2_000_000);
    let expected = format!("2000000 {:x}", Sum::of(&body).0);
    let mut client = server.client();
    assert_eq!(client.ask(post("/upload", &body)).text(), expected);
    client.send("POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body.chunks(77_777) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    assert_eq!(client.ask("0\r\n\r\n").text(), expected);
}

/// DRV-08: what nobody takes is not made, and nothing of it is lost.
pub fn a_slow_reader_gets_all_of_a_big_download<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let stream = server.connect();
    let _ = socket2::SockRef::from(&stream).set_recv_buffer_size(16_384);
    let mut client = Client::new(Slow { stream, reads: 20 });
    client.send(get("/bytes/6000000") + &get("/outlet/1000000"));
    let mut sibling = server.client();
    assert_eq!(sibling.get("/hello").text(), "hello", "it holds up nobody else");
    assert!(client.answer().content == pattern(6_000_000));
    assert!(client.answer().content == pattern(1_000_000));
    assert_eq!(client.stream.reads, 0);
}

/// The first of its reads take a while and bring little.
struct Slow {
    stream: TcpStream,
    reads: u32,
}

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.reads == 0 {
            return self.stream.read(into);
        }
        self.reads -= 1;
        std::thread::sleep(Duration::from_millis(15));
        self.stream.read(&mut into[..1000])
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

pub fn a_client_that_expects_100_gets_it_before_its_body<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    let head = "POST /upload HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(client.ask(head).status, 100);
    assert_eq!(client.ask("hello").text(), format!("5 {:x}", Sum::of(b"hello").0));
    let refused = "POST /upload HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 999999999\r\n\r\n";
    assert_eq!(client.ask(refused).status, 413, "and no 100");
}

pub fn trailers_come_in_and_go_out<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nx-check: 1234\r\n\r\n";
    for _ in 0..3 {
        let answer = client.ask(request);
        assert_eq!((answer.text(), &answer.trailers[..]), ("hello", "x-check: 1234\r\n"));
    }
}

pub fn a_body_is_decoded_by_a_job<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    for text in ["short".repeat(10), (0..15_000).map(|n| format!("{n}, ")).collect()] {
        let mut coder = GzEncoder::new(Vec::new(), Compression::default());
        coder.write_all(text.as_bytes()).unwrap();
        let coded = coder.finish().unwrap();
        let length = coded.len();
        let head =
            format!("POST /job HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
        for _ in 0..5 {
            client.send(&head);
            client.send(&coded);
            client.send(get("/behind"));
        }
        for _ in 0..5 {
            let answer = client.answer();
            let expected = if text.len() > 4096 { format!("{} bytes", text.len()) } else { text.clone() };
            assert_eq!((answer.status, answer.text()), (200, &expected[..]));
            assert_eq!(client.answer().text(), "/behind");
        }
    }
}

pub fn a_request_may_come_byte_by_byte<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    for byte in get("/hello").bytes() {
        client.send([byte]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.answer().text(), "hello");
}

/// DRV-04.
pub fn a_panic_costs_its_own_connection_alone<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut sibling = server.client();
    sibling.get("/hello");
    let mut client = server.client();
    let answer = client.ask(get("/panic") + &get("/hello"));
    assert_eq!((answer.status, answer.closes()), (500, true), "{answer:?}");
    assert_eq!(client.rest(), b"", "the request behind it is not served");
    // In the middle of an answer: it is cut off, so that nobody takes it for whole.
    let mut begun = server.client();
    begun.send("POST /panic-late HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n");
    let mut first = [0; 15];
    begun.stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    begun.send("5\r\npanic\r\n");
    let rest = begun.rest();
    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
    assert_eq!(sibling.get("/hello").text(), "hello");
    drop((sibling, client, begun));
    server.settle();
    assert_eq!(server.stop().panics, 2);
}

pub fn an_exchange_without_an_answer_gets_500<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let mut client = server.client();
    for request in [get("/silence").into_bytes(), post("/silence", b"some of it"), post("/ignore", b"some of it")] {
        let answer = client.ask(request);
        assert_eq!((answer.status, answer.closes()), (500, false), "{answer:?}");
    }
    assert_eq!(client.get("/hello").text(), "hello");
    let said = server.incidents();
    assert!(said.len() == 3 && said.iter().all(|line| line.ends_with("500 the service did not answer")), "{said:?}");
    // One that is begun and never finished ends with its connection, before its length.
    let mut half = server.client();
    half.send(get("/half"));
    let rest = String::from_utf8(half.rest()).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n"), "{rest}");
}

/// DRV-06.
pub fn half_a_close_at_every_offset<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let request = post("/echo", b"hello");
    let body = request.len() - 5;
    for cut in 0..=request.len() {
        let mut client = server.client();
        client.send(&request[..cut]);
        client.stream.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8(client.rest()).unwrap();
        match cut {
            0 => assert_eq!(answer, ""),
            _ if cut < body => assert!(answer.starts_with("HTTP/1.1 400 "), "{cut}: {answer}"),
            // The service has begun to answer: the end without its last chunk says the rest.
            _ if cut < request.len() => assert!(!answer.contains("\r\n0\r\n\r\n"), "{cut}: {answer}"),
            _ => assert!(answer.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{cut}: {answer}"),
        }
    }
    server.settle();
}

/// DRV-06: whoever has asked and says no more is answered all the same, also from elsewhere.
pub fn a_client_that_half_closes_gets_its_answers<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for path in ["/hello", "/later/50", "/bytes/300000", "/outlet/300000", "/slow"] {
        let mut client = server.client();
        client.send(get("/first") + &get(path));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer().text(), "/first");
        assert_eq!(client.answer().status, 200, "{path}");
        assert_eq!(client.rest(), b"", "{path}");
    }
    server.settle();
}

/// DRV-06: counted, not logged.
pub fn resets_are_counted_and_make_no_lines<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for _ in 0..20 {
        let stream = server.connect();
        (&stream).write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nhello").unwrap();
        // Once it has answered, it has been accepted, and counts.
        assert!((&stream).read(&mut [0; 200]).unwrap() > 0);
        reset(stream);
    }
    server.settle();
    assert_eq!(server.incidents(), [""; 0]);
    let summary = server.stop();
    assert_eq!((summary.connections, summary.resets, summary.faults), (20, 20, 0));
}

/// Closes so that the peer is told with RST.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// DRV-07: a refused body that keeps coming does not destroy the answer.
pub fn the_answer_reaches_a_peer_that_is_still_sending<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for _ in 0..10 {
        let mut client = server.client();
        client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
        let _ = client.stream.write_all(&[b'x'; 50_000]); // within what a lingering server reads
        assert_eq!(client.answer().status, 413);
    }
    let said = server.wait_for_incidents(10);
    assert_eq!(said.len(), 10);
    assert!(said[0].contains("413 BodyTooLarge: the body is too large"), "{}", said[0]);
    assert!(said[0].ends_with("body_bytes is 1048576"), "{}", said[0]);
}

pub fn a_broken_head_is_refused_and_its_connection_ends<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    for head in
        ["GET / HTTP/1.1\r\n\r\n", "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\nhello, is anybody there?\r\n\r\n"]
    {
        let mut client = server.client();
        let answer = client.ask(head);
        assert_eq!((answer.status, answer.closes()), (400, true), "{head:?}");
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(server.incidents().len(), 3, "{:?}", server.incidents());
}

/// Many at once, on connections of their own and on kept ones.
pub fn many_clients_at_once_each_get_their_own_answers<D: Driver>(layout: Layout<D>) {
    let server = start(layout, |b| b);
    let addr = server.http;
    let clients: Vec<_> = (0..16)
        .map(|number| {
            std::thread::spawn(move || {
                for round in 0..4 {
                    let mut client = Client::new(connect(addr));
                    for n in 0..10 {
                        let path = format!("/client/{number}/{round}/{n}");
                        assert_eq!(client.get(&path).text(), path);
                        let body = pattern(number * 1000 + n);
                        assert!(client.ask(post("/echo", &body)).content == body, "{path}");
                    }
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    server.settle();
    let summary = server.stop();
    assert_eq!((summary.connections, summary.requests, summary.faults), (64, 1280, 0));
}
