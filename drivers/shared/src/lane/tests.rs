//! Lanes whose work is done elsewhere, against lanes whose work is done here. The elsewhere is a queue that this test takes from, in an order that
//! a seed decides, between reads and writes of any size. No thread, no clock of the wall that would matter.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::pools::Pools;
use crate::rehearsal::Rehearsal;
use crate::tls::{TlsConfig, provider, server_config};
use crate::{BindError, Buffers, Driver, Incident, Mail, Post, Server, Service, Topology, Worker};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Mutex;
use vestibule::{Content, Event, Expect, Reply};

struct NoDriver;

impl Driver for NoDriver {
    const NAME: &'static str = "none";

    fn check(_: Topology) -> Result<(), BindError> {
        Ok(())
    }

    fn work(_: Worker) -> std::io::Result<()> {
        Ok(())
    }
}

/// Echoes bodies; decodes those of `/job` elsewhere; answers `/mail` by mail, and everything else with many bytes.
struct Everything {
    post: Post,
    desk: Arc<Mutex<Vec<crate::Later>>>,
    open: BTreeMap<Id, (Vec<u8>, bool)>,
}

impl Everything {
    fn go_on(&mut self, reply: &mut Reply<'_>, more: &[u8], last: bool) -> Result<(), Misuse> {
        let Some((rest, finish)) = self.open.get_mut(&reply.id()) else { return Ok(()) };
        rest.extend_from_slice(more);
        *finish |= last;
        let n = reply.write(rest)?;
        rest.drain(..n);
        if *finish && rest.is_empty() {
            self.open.remove(&reply.id());
            reply.finish()?;
        }
        Ok(())
    }
}

impl Service for Everything {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => match request.head.path() {
                "/mail" => {
                    let later = self.post.later(request.reply.id());
                    self.desk.lock().unwrap().push(later);
                    Ok(())
                }
                "/job" => {
                    request.reply.expect(Expect::WholeByJob { max: 100_000 });
                    Ok(())
                }
                _ => {
                    request.reply.respond(200, &[], Content::Streamed)?;
                    self.open.insert(request.reply.id(), (Vec::new(), false));
                    let many: Vec<u8> = (0..90_000u32).map(|i| (i / 7) as u8).collect();
                    match request.has_body {
                        true => Ok(()),
                        false => self.go_on(&mut request.reply, &many, true),
                    }
                }
            },
            Event::Body(mut body) if body.whole => body.reply.whole(200, "text/plain", body.bytes),
            Event::Body(mut body) => self.go_on(&mut body.reply, body.bytes, body.last),
            Event::Writable(mut reply) => self.go_on(&mut reply, b"", false),
            Event::Aborted { id, .. } => {
                self.open.remove(&id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// What is done elsewhere, by one queue each.
#[derive(Copy, Clone, Debug)]
struct Away {
    handshakes: bool,
    records: bool,
    decode: bool,
    turns: bool,
    /// So much waits in each.
    queue: usize,
    /// Others fill the queues, too.
    crowded: bool,
}

const HERE: Away = Away { handshakes: false, records: false, decode: false, turns: false, queue: 1, crowded: false };

struct Model {
    away: Away,
    rehearsal: Rehearsal,
    queues: Vec<Pool>,
    /// Taken by a thread, and not run yet.
    running: Vec<crate::Task>,
    desk: Arc<Mutex<Vec<crate::Later>>>,
    said: Arc<Mutex<Vec<String>>>,
    client: Arc<ClientConfig>,
}

impl Model {
    fn new(away: Away) -> Model {
        let queue = |on: bool| on.then(|| Pool::by_hand(away.queue));
        let (handshakes, records) = (queue(away.handshakes), queue(away.records));
        let (decode, turns) = (queue(away.decode), queue(away.turns));
        let queues = [&handshakes, &records, &decode, &turns].into_iter().flatten().cloned().collect();
        let pools = Pools { handshakes, records, decode, turns, calls: None };
        let (desk, said) = (Arc::<Mutex<Vec<crate::Later>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (its, log) = (desk.clone(), said.clone());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let tls = TlsConfig::new(server_config(vec![made.cert.der().clone()], key).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = Server::<NoDriver>::builder()
            .http("127.0.0.1:0".parse().unwrap())
            .https("127.0.0.1:0".parse().unwrap(), tls)
            .service_with_post(move |_, post| Everything {
                post: post.clone(),
                desk: its.clone(),
                open: BTreeMap::new(),
            })
            .on_fault(move |incident: &Incident| log.lock().unwrap().push(format!("{:?}", incident.what)))
            .bind()
            .unwrap();
        let rehearsal = Rehearsal::with_pools(server, pools);
        Model { away, rehearsal, queues, running: Vec::new(), desk, said, client: Arc::new(client) }
    }

    /// Somebody elsewhere does something, perhaps: takes work, ends work, answers.
    fn elsewhere(&mut self, dice: &mut Dice) {
        match dice.roll(4) {
            0 if !self.queues.is_empty() => {
                let queue = dice.roll(self.queues.len());
                self.running.extend(self.queues[queue].step(dice.roll(8)));
            }
            1 if !self.running.is_empty() => {
                let number = dice.roll(self.running.len());
                self.running.swap_remove(number)();
            }
            2 => {
                if let Some(later) = self.desk.lock().unwrap().pop() {
                    later.respond(200, &[], vec![b'm'; 70_000]);
                }
            }
            3 if self.away.crowded => {
                let queue = dice.roll(self.queues.len());
                let _ = self.queues[queue].submit(Box::new(|| {})); // there may be no room for it either
            }
            _ => {}
        }
    }
}

/// A client behind a wire: its bytes go in, what comes is kept.
trait Peer {
    fn to_send(&mut self, most: usize) -> Vec<u8>;
    fn came(&mut self, bytes: &[u8]);
    /// Nothing more will be sent.
    fn is_done(&self) -> bool;
    fn received(self: Box<Self>) -> Vec<u8>;
}

struct Plain {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Peer for Plain {
    fn to_send(&mut self, most: usize) -> Vec<u8> {
        let n = most.min(self.input.len());
        self.input.drain(..n).collect()
    }

    fn came(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    fn is_done(&self) -> bool {
        self.input.is_empty()
    }

    fn received(self: Box<Self>) -> Vec<u8> {
        self.output
    }
}

struct Secure {
    tls: ClientConnection,
    wire: Vec<u8>,
    output: Vec<u8>,
}

impl Peer for Secure {
    fn to_send(&mut self, most: usize) -> Vec<u8> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.wire).unwrap();
        }
        let n = most.min(self.wire.len());
        self.wire.drain(..n).collect()
    }

    fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).unwrap();
            let state = self.tls.process_new_packets().unwrap();
            let had = self.output.len();
            self.output.resize(had + state.plaintext_bytes_to_read(), 0);
            self.tls.reader().read_exact(&mut self.output[had..]).unwrap();
        }
    }

    fn is_done(&self) -> bool {
        self.wire.is_empty() && !self.tls.wants_write() && !self.tls.is_handshaking()
    }

    fn received(self: Box<Self>) -> Vec<u8> {
        self.output
    }
}

/// Serves one connection to its end: reads, writes and what is done elsewhere in an order of chance. How it ended, and what was received.
fn play(model: &mut Model, secure: bool, input: &[u8], seed: u64) -> (How, Vec<u8>) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut peer: Box<dyn Peer> = match secure {
        false => Box::new(Plain { input: input.to_vec(), output: Vec::new() }),
        true => {
            let name = ServerName::try_from("localhost").unwrap();
            let mut tls = ClientConnection::new(model.client.clone(), name).unwrap();
            tls.set_buffer_limit(None);
            tls.writer().write_all(input).unwrap();
            Box::new(Secure { tls, wire: Vec::new(), output: Vec::new() })
        }
    };
    let mut buffers: Buffers = model.rehearsal.shared().buffers();
    let (mut inbox, mut outbox) = (Inbox::new(buffers.inbox()), Outbox::new(buffers.outbox()));
    let mut lane = model.rehearsal.lane(usize::from(secure), crate::Key::from_bits(7)).unwrap();
    let (now, mut mail) = (model.rehearsal.shared().now(), Vec::new());
    let mut calm = 0;
    for _ in 0..400_000 {
        model.elsewhere(&mut dice);
        if dice.roll(2) == 0 {
            model.rehearsal.mailbox().take(&mut mail);
            for mail in mail.drain(..) {
                if let Mail::Letter(_, letter) = mail {
                    lane.receive(letter);
                }
            }
        }
        let next = lane.turn(now, &mut inbox, &mut outbox);
        let n = outbox.ready().len().min(dice.roll(40_000));
        peer.came(&outbox.ready()[..n]);
        outbox.wrote(n);
        calm = if n > 0 { 0 } else { calm + 1 };
        assert!(calm < 20_000, "nothing goes on: {next:?}");
        match next {
            Next::Close(how) => {
                lane.over(how);
                return (how, peer.received());
            }
            Next::Read { .. } if !inbox.ended() => {
                let some = peer.to_send(1 + dice.roll(9_000).min(inbox.spare().len().saturating_sub(1)));
                let taken = inbox.fill(&some);
                assert_eq!(taken, some.len());
                calm = if taken > 0 { 0 } else { calm };
                if some.is_empty() && peer.is_done() {
                    inbox.end();
                }
            }
            Next::Read { .. } => panic!("it asks for what can come no more"),
            _ => {}
        }
    }
    panic!("it goes on for ever");
}

fn conversation(most: usize) -> Vec<u8> {
    let body = |path: &str, n: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {n}\r\n\r\n");
        [head.into_bytes(), vec![b'b'; n]].concat()
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes();
    let last = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_vec();
    [get("/a"), body("/b", most), get("/mail"), body("/job", 30_000), get("/mail"), body("/job", 10), last].concat()
}

/// The contents of all answers, without how they were cut into chunks.
fn contents(mut output: &[u8]) -> Vec<(String, Vec<u8>)> {
    fn line(output: &mut &[u8]) -> String {
        let end = output.windows(2).position(|two| two == b"\r\n").unwrap();
        let line = String::from_utf8(output[..end].to_vec()).unwrap();
        *output = &output[end + 2..];
        line
    }
    let mut all = Vec::new();
    while !output.is_empty() {
        let (mut head, mut length, mut content) = (String::new(), None, Vec::new());
        loop {
            let field = line(&mut output);
            if field.is_empty() {
                break;
            }
            length = length.or(field.strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
            head = head + &field + "|";
        }
        let mut take = |n: usize| {
            content.extend_from_slice(&output[..n]);
            output = &output[n..];
        };
        match length {
            Some(n) => take(n),
            None => loop {
                let n = usize::from_str_radix(&line(&mut output), 16).unwrap();
                content.extend_from_slice(&output[..n]);
                output = &output[n..];
                assert_eq!(line(&mut output), "");
                if n == 0 {
                    break;
                }
            },
        }
        all.push((head, content));
    }
    all
}

fn nothing_is_left(model: &mut Model) {
    // Threads finish what they have, also for a connection that is over; its mail is nobody's.
    while let Some(task) = model.queues.iter().find_map(|queue| queue.step(0)) {
        task();
    }
    model.running.drain(..).for_each(|task| task());
    model.desk.lock().unwrap().clear();
    let mut mail = Vec::new();
    model.rehearsal.mailbox().take(&mut mail);
    drop(mail);
    let handle = model.rehearsal.handle();
    assert_eq!((handle.open(), model.rehearsal.shared().storages().out()), (0, 0));
}

const WAYS: [Away; 9] = [
    HERE,
    Away { handshakes: true, crowded: true, ..HERE },
    Away { records: true, crowded: true, ..HERE },
    Away { decode: true, crowded: true, ..HERE },
    Away { handshakes: true, ..HERE },
    Away { records: true, queue: 2, ..HERE },
    Away { decode: true, queue: 8, ..HERE },
    Away { turns: true, queue: 2, ..HERE },
    Away { records: true, decode: true, turns: true, queue: 4, ..HERE },
];

/// Whatever is done elsewhere, in whatever order it is done and comes back: the same answers, in the same order.
#[test]
fn work_that_is_done_elsewhere_changes_no_answer() {
    let mut here = Model::new(HERE);
    let input = conversation(100_000);
    for secure in [false, true] {
        let (how, reference) = play(&mut here, secure, &input, 1);
        let reference = contents(&reference);
        let lengths: Vec<_> = reference.iter().map(|one| one.1.len()).collect();
        assert_eq!((how, lengths), (How::Closed, vec![90_000, 100_000, 70_000, 30_000, 70_000, 10, 90_000]));
        nothing_is_left(&mut here);
        for away in WAYS {
            let mut model = Model::new(away);
            for seed in 1..=12 {
                let (how, output) = play(&mut model, secure, &input, seed);
                assert_eq!(how, How::Closed, "{away:?} {seed}");
                assert!(contents(&output) == reference, "{away:?} {seed} {secure}");
                nothing_is_left(&mut model);
            }
            assert_eq!(*model.said.lock().unwrap(), [""; 0], "{away:?}");
        }
    }
}

/// Without room for their turns, requests that are new are refused in their order, those that are under way wait; then there is room again.
#[test]
fn without_room_new_requests_are_refused_and_nothing_else_changes() {
    let mut here = Model::new(HERE);
    let input = conversation(40_000); // which is skipped to keep the connection
    let reference = contents(&play(&mut here, false, &input, 1).1);
    let mut model = Model::new(Away { turns: true, crowded: true, queue: 1, ..HERE });
    let (mut served, mut refused) = (0, 0);
    for seed in 1..=60 {
        for secure in [false, true] {
            let (how, output) = play(&mut model, secure, &input, seed);
            let answers = contents(&output);
            assert_eq!((how, answers.len()), (How::Closed, reference.len()), "{seed}");
            for (answer, whole) in answers.iter().zip(&reference) {
                match answer.0.starts_with("HTTP/1.1 503 ") {
                    true => assert!(answer.0.contains("|retry-after: 1|") && answer.1.is_empty(), "{seed}: {answer:?}"),
                    false => assert!(answer == whole, "{seed}"),
                }
                refused += usize::from(answer.1.is_empty());
                served += usize::from(!answer.1.is_empty());
            }
            nothing_is_left(&mut model);
        }
    }
    assert_eq!(*model.said.lock().unwrap(), [""; 0]);
    assert!(served > 50 && refused > 50, "{served} {refused}");
}

/// DRV-06: wherever the peer ends, also while its connection is away: an end in bounded time, and nothing is left.
#[test]
fn the_peer_may_end_anywhere_while_its_work_is_elsewhere() {
    let input = conversation(100_000);
    for away in WAYS {
        let mut model = Model::new(away);
        let points = (0..60).step_by(3).chain((60..input.len()).step_by(15_013));
        for (seed, cut) in points.enumerate() {
            let (how, _) = play(&mut model, false, &input[..cut], 1 + seed as u64);
            assert_eq!(how, How::Closed, "{away:?} {cut}");
            nothing_is_left(&mut model);
        }
        let said = model.said.lock().unwrap();
        assert!(said.iter().all(|line| line.contains("MessageIncomplete")), "{said:?}");
    }
}

/// A lane that is dropped at any moment, its work being wherever it is: everything goes back.
#[test]
fn a_lane_may_be_dropped_at_any_moment() {
    let input = conversation(100_000);
    for away in WAYS {
        let mut model = Model::new(away);
        for seed in 1..=40u64 {
            let mut dice = Dice(seed);
            let mut buffers = model.rehearsal.shared().buffers();
            let (mut inbox, mut outbox) = (Inbox::new(buffers.inbox()), Outbox::new(buffers.outbox()));
            let mut lane = model.rehearsal.lane(0, crate::Key::from_bits(seed)).unwrap();
            let (now, mut rest, mut mail) = (model.rehearsal.shared().now(), &input[..], Vec::new());
            for _ in 0..seed * 3 {
                model.elsewhere(&mut dice);
                model.rehearsal.mailbox().take(&mut mail);
                for mail in mail.drain(..) {
                    if let Mail::Letter(_, letter) = mail {
                        lane.receive(letter);
                    }
                }
                if let Next::Read { .. } = lane.turn(now, &mut inbox, &mut outbox) {
                    let n = inbox.fill(&rest[..rest.len().min(1 + dice.roll(5_000))]);
                    rest = &rest[n..];
                }
                outbox.wrote(dice.roll(20_000));
            }
            lane.over(How::Reset);
            nothing_is_left(&mut model);
        }
        assert_eq!(model.rehearsal.summary().resets, 40);
    }
}

/// A loop that serves whoever's time has come would never end otherwise: nothing changes before the letter is there, which it would not read.
#[test]
fn what_is_elsewhere_has_no_deadline_that_a_turn_cannot_move() {
    let away = Away { records: true, queue: 4, ..HERE };
    let model = Model::new(away);
    let mut buffers = model.rehearsal.shared().buffers();
    let (mut inbox, mut outbox) = (Inbox::new(buffers.inbox()), Outbox::new(buffers.outbox()));
    let mut lane = model.rehearsal.lane(1, crate::Key::from_bits(0)).unwrap();
    let now = model.rehearsal.shared().now();
    assert_eq!(lane.turn(now, &mut inbox, &mut outbox), Next::Read { want: 1 });
    assert!(lane.deadline().is_some(), "the handshake has to be over by then");
    inbox.fill(&[22, 3, 1, 0, 200]);
    assert_eq!(lane.turn(now, &mut inbox, &mut outbox), Next::Wait);
    let late = now.after(Duration::from_secs(3600));
    assert_eq!(lane.turn(late, &mut inbox, &mut outbox), Next::Wait);
    assert!(lane.deadline().is_none_or(|deadline| deadline > late));
    // Back again, it is late indeed.
    let task = model.queues[0].step(0).unwrap();
    task();
    let mut mail = Vec::new();
    model.rehearsal.mailbox().take(&mut mail);
    for mail in mail {
        if let Mail::Letter(_, letter) = mail {
            lane.receive(letter);
        }
    }
    while lane.turn(late, &mut inbox, &mut outbox) == Next::Again {}
    assert!(model.said.lock().unwrap()[0].contains("HandshakeTimeout"), "{:?}", model.said);
}
