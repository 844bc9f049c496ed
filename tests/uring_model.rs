//! A model of an io_uring driver on the public API: receive buffers that belong to the kernel and are processed where they lie, an
//! owned inbox only for what was cut, sends that own their bytes until they complete. Whatever the cuts and the order of
//! completions, every byte is answered as through one plain inbox.
#![cfg(feature = "tls")]
#![allow(missing_docs, clippy::print_stdout)]

#[path = "support/site.rs"]
mod site;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use site::{Client, Dice, site};
use vestibule::rehearsal::Handler;
use vestibule::{Config, Connection, Inbox, Instant, Limits, Outbox, Pause, Wait};

const NOW: Instant = Instant::ZERO;

/// A buffer of the provided-buffer ring, filled by a receive.
struct Kernel(Box<[u8]>);

impl AsRef<[u8]> for Kernel {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Kernel {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A send in flight owns its bytes: nobody else can touch them before it completes.
struct Sending {
    storage: Box<[u8]>,
    range: Range<usize>,
}

struct Socket {
    connection: Connection<Arc<Config>>,
    /// Only while something is cut; otherwise its storage is with the pool.
    own: Option<Inbox<Vec<u8>>>,
    /// Received buffers that were not processed yet, the first perhaps in part.
    queue: VecDeque<Inbox<Kernel>>,
    outbox: Outbox<Box<[u8]>>,
    in_flight: Option<Sending>,
    handler: Handler,
    pause: Pause,
    ended: bool,
    inbox_bytes: usize,
    /// What the pool has, and the most that was ever out.
    pool: Vec<Box<[u8]>>,
    storages: usize,
    /// Buffers that went back to the ring, bytes that were copied out of them.
    returned: usize,
    carried: usize,
}

impl Socket {
    fn new(config: Config, outbox_bytes: usize) -> Socket {
        let config = Arc::new(config);
        Socket {
            own: None,
            queue: VecDeque::new(),
            outbox: Outbox::new(vec![0; outbox_bytes].into()),
            in_flight: None,
            handler: Handler::default(),
            pause: Pause::Yield,
            ended: false,
            inbox_bytes: config.inbox_bytes(),
            pool: Vec::new(),
            storages: 1,
            returned: 0,
            carried: 0,
            connection: Connection::new(config, NOW),
        }
    }

    /// A receive completed: the ring's buffer is ours until it is given back.
    fn received(&mut self, bytes: &[u8], capacity: usize) {
        let mut buffer = vec![0xEE; capacity.max(bytes.len())];
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.queue.push_back(Inbox::filled(Kernel(buffer.into()), bytes.len()));
        self.go();
    }

    /// A send completed, with so many bytes; what is left is sent again.
    fn sent(&mut self, n: usize, peer: &mut Vec<u8>) {
        let Some(mut sending) = self.in_flight.take() else { return };
        let n = n.clamp(1, sending.range.len());
        peer.extend_from_slice(&sending.storage[sending.range.start..sending.range.start + n]);
        sending.range.start += n;
        if sending.range.is_empty() {
            self.pool.push(sending.storage);
        } else {
            self.in_flight = Some(sending);
        }
        self.go();
    }

    /// Everything that can be done now.
    fn go(&mut self) {
        loop {
            let progress = match (&mut self.own, self.queue.front_mut()) {
                // Something is cut: more of it, no more than is wanted, so that the rest of the buffer stays where it is.
                (Some(own), Some(front)) if !own.is_empty() => {
                    let want = if let Pause::Input { want } = self.pause { want.max(64) } else { 0 };
                    let n = own.carry(front, want);
                    self.carried += n;
                    if front.is_empty() {
                        self.queue.pop_front();
                        self.returned += 1;
                    }
                    self.turn_own() || n > 0
                }
                (own, Some(_)) => {
                    *own = None;
                    self.turn_kernel()
                }
                (own, None) => {
                    let inbox_bytes = self.inbox_bytes;
                    let own = own.get_or_insert_with(|| Inbox::new(vec![0; inbox_bytes]));
                    if self.ended {
                        own.end();
                    }
                    let progress = self.turn_own();
                    if !self.ended && self.own.as_ref().is_some_and(Inbox::is_empty) {
                        self.own = None; // an idle connection holds no buffer
                    }
                    progress
                }
            };
            self.start_send();
            if !progress && self.pause != Pause::Yield {
                return;
            }
            if self.pause == Pause::Closed {
                self.queue.clear();
                return;
            }
        }
    }

    /// The oldest received buffer, in place; what is cut at its end moves on, or it stays and waits.
    fn turn_kernel(&mut self) -> bool {
        let Some(mut front) = self.queue.pop_front() else { return false };
        let progress = self.turn(&mut front);
        if front.is_empty() {
            self.returned += 1;
            return true;
        }
        if let Pause::Input { .. } = self.pause {
            let mut own = Inbox::new(vec![0; self.inbox_bytes]);
            self.carried += own.carry(&mut front, usize::MAX);
            if front.is_empty() {
                self.own = Some(own);
                self.returned += 1;
                return true;
            }
        }
        self.queue.push_front(front); // room, an answer or another turn is missing: nothing is lost, nothing is copied
        progress
    }

    fn turn_own(&mut self) -> bool {
        let Some(mut own) = self.own.take() else { return false };
        let progress = self.turn(&mut own);
        self.own = Some(own);
        progress
    }

    fn turn<S: AsRef<[u8]> + AsMut<[u8]>>(&mut self, inbox: &mut Inbox<S>) -> bool {
        let before = inbox.len();
        let mut turn = self.connection.turn(NOW, inbox, &mut self.outbox).expect("the inbox that holds what waits");
        let mut happened = false;
        while let Some(event) = turn.next() {
            happened = true;
            let _ = self.handler.on(event);
        }
        self.pause = turn.finish();
        happened || inbox.len() < before
    }

    /// Swap, don't share: the next turn writes into a fresh storage while the kernel reads the old one.
    fn start_send(&mut self) {
        if self.in_flight.is_some() || self.outbox.ready().is_empty() {
            return;
        }
        let fresh = self.pool.pop().unwrap_or_else(|| {
            self.storages += 1;
            vec![0; self.outbox.ready().len().max(16_384)].into()
        });
        let (storage, range) = self.outbox.swap(fresh);
        self.in_flight = Some(Sending { storage, range });
    }
}

/// Requests of all kinds, one behind the other.
fn script(dice: &mut Dice) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..1 + dice.below(12) {
        let body: Vec<u8> = (0..[0, 5, 900, 20_000, 70_000][dice.below(5)]).map(|i| b'a' + (i % 26) as u8).collect();
        let path = ["/", "/whole/100000", "/echo", "/manual", "/sized/30000", "/chunked", "/inform"][dice.below(7)];
        let filler = "x".repeat([0, 10, 3000][dice.below(3)]);
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nx: {filler}\r\n");
        wire.extend(head.as_bytes());
        if dice.below(2) == 0 {
            wire.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            wire.extend(&body);
        } else {
            wire.extend(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in body.chunks(1 + dice.below(9000)) {
                wire.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
        }
    }
    wire.extend(b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    wire
}

/// The same bytes through one plain inbox.
fn plainly(wire: &[u8]) -> Vec<u8> {
    let config = Arc::new(Config::new(Limits::DEFAULT));
    let (mut inbox, mut outbox) = (Inbox::new(vec![0; config.inbox_bytes()]), Outbox::new(vec![0; 16_384]));
    let (mut connection, mut handler) = (Connection::new(config, NOW), Handler::default());
    let (mut rest, mut sent) = (wire, Vec::new());
    loop {
        let n = inbox.fill(rest);
        rest = &rest[n..];
        if rest.is_empty() {
            inbox.end();
        }
        let mut turn = connection.turn(NOW, &mut inbox, &mut outbox).expect("our own buffers");
        while let Some(event) = turn.next() {
            let _ = handler.on(event);
        }
        let pause = turn.finish();
        sent.extend_from_slice(outbox.ready());
        outbox.wrote(usize::MAX);
        if pause == Pause::Closed {
            return sent;
        }
    }
}

#[test]
fn plain_bytes_in_kernel_buffers_are_answered_as_through_a_plain_inbox() {
    let mut dice = Dice(1);
    for round in 0..60 {
        let wire = script(&mut dice);
        let expected = plainly(&wire);
        let mut socket = Socket::new(Config::new(Limits::DEFAULT), [2048, 16_384][dice.below(2)]);
        let (most, mut rest, mut peer, mut buffers) =
            ([1, 40, 1500, 16_384, 65_536][dice.below(5)], &wire[..], vec![], 0);
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((1 + dice.below(most)).min(rest.len()));
            socket.received(part, most);
            buffers += 1;
            rest = behind;
            for _ in 0..dice.below(3) {
                socket.sent(1 + dice.below(9000), &mut peer);
            }
        }
        socket.ended = true;
        socket.go();
        while socket.in_flight.is_some() {
            socket.sent(1 + dice.below(9000), &mut peer);
        }
        assert!(peer == expected, "round {round}: {} bytes for {}", peer.len(), expected.len());
        assert_eq!((socket.pause, socket.returned), (Pause::Closed, buffers), "round {round}");
        assert!(socket.storages <= 3, "one is written, one is sent, one waits: {}", socket.storages);
        assert!(socket.carried <= wire.len(), "no byte is copied twice");
    }
}

/// Plays a whole conversation over TLS; the share of the received bytes that was carried, in per cent.
fn over_tls(
    wire: &[u8],
    record: usize,
    most: usize,
    dice: &mut Dice,
    (tls, client): &(vestibule::decrypt::TlsConfig, Arc<rustls::ClientConfig>),
) -> usize {
    let expected = plainly(wire);
    let mut socket = Socket::new(Config::new(Limits::DEFAULT).with_tls(tls.clone()), 16_384);
    let mut client = Client::new(client);
    let mut all = 0;
    let mut bytes = client.wire();
    let mut said = false;
    loop {
        all += bytes.len();
        for part in std::mem::take(&mut bytes).chunks(most) {
            socket.received(part, most);
            let mut peer = vec![];
            socket.sent(1 + dice.below(20_000), &mut peer);
            client.hear(&peer);
        }
        let mut peer = vec![];
        while socket.in_flight.is_some() {
            socket.sent(1 + dice.below(20_000), &mut peer);
        }
        client.hear(&peer);
        bytes = client.wire();
        if !client.is_handshaking() && !said {
            said = true;
            bytes.extend(client.say(wire, record));
        }
        if bytes.is_empty() {
            break;
        }
    }
    assert!(client.heard == expected, "{} bytes for {}", client.heard.len(), expected.len());
    socket.ended = true;
    socket.go();
    assert_eq!(socket.pause, Pause::Closed);
    100 * socket.carried / all
}

#[test]
fn records_in_kernel_buffers_are_answered_as_through_a_plain_inbox() {
    let (mut dice, site) = (Dice(2), site());
    for _ in 0..24 {
        let wire = script(&mut dice);
        let (record, most) = ([1, 100, 1400, 16_384][dice.below(4)], [50, 1500, 16_384, 65_536][dice.below(4)]);
        let record = if wire.len() > 20_000 { record.max(100) } else { record };
        over_tls(&wire, record, most, &mut dice, &site);
    }
}

/// Of a record, what lies in the buffer in which it began is all that must be copied.
#[test]
fn large_kernel_buffers_hardly_need_a_copy() {
    let (mut dice, site) = (Dice(3), site());
    let mut wire = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    wire.resize(wire.len() + 1_000_000, b'x');
    wire.extend(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    for (record, most, percent) in
        [(16_384, 16_384, 100), (16_384, 65_536, 30), (16_384, 262_144, 9), (1_400, 16_384, 10)]
    {
        let carried = over_tls(&wire, record, most, &mut dice, &site);
        println!("records {record}, kernel buffers {most}: {carried} % carried");
        assert!(carried <= percent, "records {record}, kernel buffers {most}: {carried} %");
    }
}

/// A handler that does not answer keeps the buffer where it is: nothing is copied, nothing is lost, and the answer goes on with it.
#[test]
fn a_buffer_that_cannot_go_on_waits_in_the_queue() {
    let mut socket = Socket::new(Config::new(Limits::DEFAULT), 2048);
    socket.received(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\nGET /one HTTP/1.1\r\nhost: a\r\n\r\nGET /tw", 512);
    let Pause::Caller(Wait::Reply(id)) = socket.pause else { panic!("{:?}", socket.pause) };
    socket.received(b"o HTTP/1.1\r\nhost: a\r\n\r\n", 512);
    assert_eq!((socket.queue.len(), socket.carried, socket.returned), (2, 0, 0));
    let front = socket.queue.front_mut().expect("the first");
    let mut turn = socket.connection.turn(NOW, front, &mut socket.outbox).expect("the inbox that holds what waits");
    turn.reply(id).expect("open").text(200, "at last").expect("room");
    let _ = turn.finish();
    socket.go();
    let mut peer = vec![];
    while socket.in_flight.is_some() {
        socket.sent(usize::MAX, &mut peer);
    }
    let text = String::from_utf8_lossy(&peer);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!((socket.queue.len(), socket.returned, socket.own.is_none()), (0, 2, true));
    assert!(socket.carried <= 7 + 64);
}
