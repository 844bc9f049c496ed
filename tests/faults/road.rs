//! A connection, its driver and its handler, of which only the machine needs memory while it is armed.

use std::sync::Arc;

use vestibule::decode::json;
use vestibule::decrypt::TlsConfig;
use vestibule::parse::pack::Decoder;
use vestibule::{Config, Connection, Content, Event, Expect, Inbox, Instant, Misuse, Outbox, Pause, Reply, Turn};

use super::failing::armed;
use super::scenes::Seen;

/// What a streamed answer consists of.
const PART: &[u8] = &[b's'; 3_000];
/// A streamed answer has so many parts.
const PARTS: u64 = 6;
/// What is worth coding.
pub const TEXT: &[u8] = &[b'a'; 6_000];
const LIST: [(&str, &str); 3] =
    [("content-type", "text/plain"), ("server", "vestibule"), ("x-token", "some token of ours")];

/// One connection from its first byte to its last; `wire` is what the peer says, whatever it hears.
pub fn drive(config: &Arc<Config>, wire: &[u8], piece: usize, output: &mut Vec<u8>) -> Seen {
    output.clear();
    let mut inbox = Inbox::new(vec![0; config.inbox_bytes()]);
    let mut outbox = Outbox::new(vec![0; 16_384]);
    let mut seen = Seen::default();
    let mut connection = armed(|| Connection::new(config.clone(), Instant::ZERO));
    for part in wire.chunks(piece) {
        let mut rest = part;
        while !rest.is_empty() && !seen.closed {
            let n = inbox.fill(rest);
            rest = &rest[n..];
            turns(&mut connection, &mut inbox, &mut outbox, output, &mut seen, None);
        }
    }
    inbox.end();
    for _ in 0..100 {
        turns(&mut connection, &mut inbox, &mut outbox, output, &mut seen, None);
    }
    armed(|| connection.shed());
    armed(|| drop(connection));
    seen.sum = output.iter().fold(7, |sum: u64, b| (sum ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    seen
}

/// Turns until nothing happens any more.
pub fn turns(
    connection: &mut Connection<Arc<Config>>,
    inbox: &mut Inbox<Vec<u8>>,
    outbox: &mut Outbox<Vec<u8>>,
    output: &mut Vec<u8>,
    seen: &mut Seen,
    choice: Option<&TlsConfig>,
) {
    for _ in 0..10_000 {
        let waiting = inbox.len();
        let (pause, events) = armed(|| {
            let mut turn = connection.turn(Instant::ZERO, inbox, outbox).expect("our own buffers");
            let events = events(&mut turn, seen, choice);
            (turn.finish(), events)
        });
        output.extend_from_slice(outbox.ready());
        let wrote = outbox.ready().len();
        outbox.wrote(wrote);
        seen.closed |= pause == Pause::Closed;
        if seen.closed || (!events && wrote == 0 && inbox.len() == waiting && pause != Pause::Yield) {
            return;
        }
    }
    panic!("it never rests");
}

fn events(turn: &mut Turn<'_>, seen: &mut Seen, choice: Option<&TlsConfig>) -> bool {
    let mut some = false;
    while let Some(event) = turn.next() {
        some = true;
        match event {
            Event::Hello(hello) => hello.choose(choice.expect("a configuration").clone()),
            Event::Request(mut request) => {
                seen.requests += 1;
                let path = request.head.path();
                match path {
                    "/whole" => drop(request.reply.expect(Expect::Whole { max: 1 << 20 })),
                    "/job" => drop(request.reply.expect(Expect::WholeByJob { max: 1 << 20 })),
                    "/manual" => drop(request.reply.expect(Expect::Manual)),
                    _ => {}
                }
                match path {
                    "/abort" => request.reply.abort(),
                    "/stream" => {
                        let said = request.reply.respond(200, &LIST, Content::Streamed);
                        stream(said, request.reply, seen);
                    }
                    "/coded" => {
                        let said = request.reply.respond(200, &LIST, Content::Whole(TEXT));
                        done(said.map(|_| ()), request.reply, seen);
                    }
                    _ if !request.has_body => done(request.reply.text(200, "a short text"), request.reply, seen),
                    _ => {}
                }
            }
            Event::Body(body) => {
                seen.content += body.bytes.len() as u64;
                if body.last {
                    seen.ends += 1;
                    let mut reply = body.reply;
                    done(reply.whole(200, "text/plain", body.bytes.get(..500).unwrap_or(body.bytes)), reply, seen);
                }
            }
            Event::Trailers(trailers) => {
                seen.ends += 1;
                let mut reply = trailers.reply;
                done(reply.text(200, "with trailers"), reply, seen);
            }
            Event::Writable(mut reply) => match reply.tag() {
                0 => drop(reply.finish()),
                _ => stream(Ok(0), reply, seen),
            },
            Event::Aborted { why, .. } => why.iter().for_each(|why| seen.hears(why.rule)),
            Event::Fault(violation) => {
                seen.fault = true;
                seen.hears(violation.rule);
            }
            _ => {}
        }
    }
    while let Some(job) = turn.job() {
        some = true;
        let done = job.run_then(json::check);
        turn.done(done);
    }
    some
}

/// An answer is complete, or cannot be given.
fn done(said: Result<(), Misuse>, reply: Reply<'_>, seen: &mut Seen) {
    match said {
        Ok(()) => seen.answers += 1,
        Err(_) => {
            seen.told += 1;
            reply.abort();
        }
    }
}

/// The next parts of a streamed answer. Its tag says how much of it is still to come, in bytes and one.
fn stream(said: Result<usize, Misuse>, mut reply: Reply<'_>, seen: &mut Seen) {
    if said.is_err() {
        return done(said.map(|_| ()), reply, seen);
    }
    let mut left = match reply.tag() {
        0 => PARTS * PART.len() as u64,
        tag => tag - 1,
    };
    while left > 0 {
        let part = &PART[..PART.len().min(left as usize)];
        match reply.write(part) {
            Ok(n) => {
                left -= n as u64;
                reply.set_tag(left + 1);
                if n < part.len() {
                    return;
                }
            }
            Err(misuse) => return done(Err(misuse), reply, seen),
        }
    }
    let said = reply.trailers(&[("x-sum", "of it all")]);
    done(said, reply, seen);
}

/// RFC 9113 §7.
const INTERNAL_ERROR: [u8; 4] = [0, 0, 0, 2];

/// The output is that of HTTP/2: it begins with SETTINGS.
pub fn is_h2(output: &[u8]) -> bool {
    output.get(3) == Some(&4) && output.get(5..9) == Some(&[0; 4])
}

/// The peer was told that something failed on our side: by a status, by RST_STREAM, or by GOAWAY with INTERNAL_ERROR.
pub fn says_no_memory(output: &[u8]) -> bool {
    if !is_h2(output) {
        return [b"HTTP/1.1 500", b"HTTP/1.1 503"].iter().any(|line| output.windows(12).any(|part| part == *line));
    }
    let mut decoder = Decoder::new(4_096);
    frames(output).any(|(kind, payload)| match kind {
        1 => status(&mut decoder, payload).is_none_or(|status| status >= 500),
        3 => payload == INTERNAL_ERROR,
        7 => payload.get(4..8) == Some(&INTERNAL_ERROR),
        _ => false,
    })
}

/// The last word of HTTP/2 is GOAWAY with INTERNAL_ERROR.
pub fn says_goodbye(output: &[u8]) -> bool {
    let last = frames(output).last();
    last.is_some_and(|(kind, payload)| kind == 7 && payload.get(4..8) == Some(&INTERNAL_ERROR))
}

/// The types of frames, and what is in them. No header block of ours is so long that it takes a second.
fn frames(output: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = output;
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_first_chunk::<9>()?;
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, next) = behind.split_at_checked(len)?;
        rest = next;
        Some((header[3], payload))
    })
}

/// What a header block says first, if it is a status; trailers say none, and 200 stands for it.
fn status(decoder: &mut Decoder, mut block: &[u8]) -> Option<u16> {
    let (mut lines, mut found) = (Vec::new(), 200);
    decoder.begin();
    while let Some(field) = decoder.next(&mut block, &mut lines).ok()? {
        if field.name.of(&lines) == b":status" {
            found = std::str::from_utf8(field.value.of(&lines)).ok()?.parse().ok()?;
        }
    }
    Some(found)
}
