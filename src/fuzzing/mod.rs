//! In: any bytes. Out: nothing, or a panic where a promise of the machine is broken. The bodies of the fuzz targets; only the
//! public interface is used, so that tests can run them as well.

use crate::decode::coding::{Coding, Decoder};
use crate::decode::json;
use crate::decrypt::{Opened, Tls, TlsConfig};
use crate::parse::h1::{Item, Receiver, Version};
use crate::parse::h2::FrameHeader;
use crate::parse::pack::{Decoder as Unpacker, Encoder as Packer, Fault};
use crate::rehearsal::{Handler, Input, Pieces, Rehearsal};
use crate::{Config, Connection, Event, Inbox, Instant, Limit, Limits, Outbox, Pause, Rule, Violation};
use std::sync::Arc;
use std::vec::Vec;

mod codings;
mod forms;
mod json_tokens;
mod protobuf;
mod proxy;

pub use codings::{br, deflate, encode, zstd};
pub use forms::{form, multipart};
pub use json_tokens::json_tokens;
pub use protobuf::{grpc, protobuf};
pub use proxy::proxy;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A request's head: method, target, version, field lines.
#[derive(Debug, PartialEq, Eq)]
struct Head(Vec<u8>, Vec<u8>, Version, Fields);

/// A first byte from 128 on says that `N` bytes of choices follow, before the input; else all of them are 0. So a seed may be
/// plain input: none begins with such a byte where it matters.
fn choices<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut chosen = [0; N];
    let [128..=255, data @ ..] = data else { return (chosen, data) };
    let (front, rest) = data.split_at(N.min(data.len()));
    chosen[..front.len()].copy_from_slice(front);
    (chosen, rest)
}

/// The same bytes give the same transcript, however they are cut. Six choices: the cut, the buffers' sizes,
/// whether the peer ends.
pub fn chunking(data: &[u8]) {
    let ([how, a, b, inbox, outbox, end], bytes) = choices(data);
    if bytes.is_empty() {
        return; // in no pieces at all, nobody takes a turn
    }
    // In HTTP/2 how much of a long response goes out before the next frame is read is a matter of when that comes; its splits are tried
    // with the scripts, whose responses are short.
    let config = Arc::new(Config::new(Limits::DEFAULT).without_http2());
    let most = config.inbox_bytes();
    let rehearsal = Rehearsal {
        // Small ones are the interesting ones.
        inbox_bytes: if inbox == 0 { most } else { config.least_inbox_bytes() + usize::from(inbox).pow(2) / 4 },
        outbox_bytes: if outbox == 0 { 16_384 } else { config.least_outbox_bytes() + usize::from(outbox).pow(2) / 4 },
        ..Rehearsal::new(config)
    };
    let mut steps = vec![Input::Bytes(bytes.to_vec())];
    if end % 2 == 0 {
        steps.push(Input::End);
    }
    let whole = rehearsal.play(&steps);
    let place = usize::from(u16::from_be_bytes([a, b]));
    let pieces = match how % 3 {
        0 => Pieces::Each(1),
        1 => Pieces::Each(place % 1_500 + 1),
        _ => Pieces::Cut(place % (bytes.len() + 1)),
    };
    let cut = Rehearsal { pieces, ..rehearsal.clone() }.play(&steps);
    assert_eq!(whole, cut, "{pieces:?} tells another story");
}

/// A connection never panics, ends, says nothing behind its end, and keeps to its memory; what it takes for a head, httparse
/// reads the same.
pub fn h1(data: &[u8]) {
    let heads = heads_of_receiver(data);
    let (told, _) = heads_of_connection(data);
    for (alone, told) in heads.iter().zip(&told) {
        assert_eq!(alone, told, "httparse and the road read different heads");
    }
}

/// The heads in `data` as httparse reads them where the receiver found them.
fn heads_of_receiver(data: &[u8]) -> Vec<Head> {
    let (mut receiver, mut at, mut heads) = (Receiver::new(), 0, Vec::new());
    for _ in 0..4 * data.len() + 8 {
        let rest = &data[at..];
        let Ok(item) = receiver.step(rest, &Limits::DEFAULT) else { return heads };
        at += match item {
            Item::Need { want } => {
                assert!(want > 0, "nothing is needed, and nothing happens");
                return heads;
            }
            Item::Head { spans, facts } => {
                let head = &rest[..spans.len as usize];
                let mut fields = [httparse::EMPTY_HEADER; 128];
                let mut request = httparse::Request::new(&mut fields);
                let read = request.parse(head);
                assert_eq!(read, Ok(httparse::Status::Complete(head.len())), "httparse refuses what was taken");
                let fields = request.headers.iter().map(|f| (f.name.into(), f.value.to_vec())).collect();
                let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
                let text = |part: Option<&str>| part.unwrap_or_default().as_bytes().to_vec();
                heads.push(Head(text(request.method), text(request.path), version, fields));
                if facts.is_connect || facts.upgrade {
                    return heads; // what follows may be a tunnel
                }
                head.len()
            }
            Item::Data { len, left } => {
                assert!(len > 0 && len as u64 <= left && len <= rest.len());
                receiver.took(len);
                len
            }
            Item::Skip { len } | Item::End { len } | Item::Trailers { len, .. } => {
                assert!(len > 0 && len <= rest.len());
                len
            }
            Item::Done => {
                receiver.next();
                0
            }
            Item::Tunnel { .. } => unreachable!("nobody asked for a tunnel"),
        };
        assert!(receiver.visited() <= 2 * data.len() as u64, "a byte is looked at more than twice");
    }
    panic!("it does not come to an end");
}

/// Frames behind a client's preface: the connection keeps its promises, and whatever it says is made of whole frames, no longer
/// than every client takes (RFC 9113 §4.2).
pub fn h2(data: &[u8]) {
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let bytes = if data.starts_with(&hello[..24]) { data.to_vec() } else { [&hello[..], data].concat() };
    let (_, output) = heads_of_connection(&bytes);
    let mut rest = &output[..];
    while let Some(header) = rest.first_chunk::<9>().map(FrameHeader::parse) {
        assert!(header.len <= 16_384 && header.kind <= 9, "a frame that we never send: {header:?}");
        rest = rest.get(9 + header.len as usize..).expect("the frame is sent whole");
    }
    assert!(rest.is_empty(), "half a header");
}

/// Header blocks, cut where the choice says: whatever is decoded, lies in lines and goes through our encoder and back. One choice:
/// the length of a block.
pub fn hpack(data: &[u8]) {
    let ([len], data) = choices(data);
    let (mut decoder, mut packer, mut again) = (Unpacker::new(4_096), Packer::new(4_096), Unpacker::new(4_096));
    for block in data.chunks(usize::from(len) * 4 + 16) {
        let mut lines = Vec::new();
        let fields = unpack(&mut decoder, block, &mut lines);
        assert!(decoder.table_bytes() <= 4_096 && decoder.retained_bytes() <= 16_384);
        assert!(lines.len() <= 4 * block.len() + 4_200 * block.len(), "a reference is a line of the table at most");
        let Ok(fields) = fields else { return };
        let plain: Vec<_> = fields.into_iter().filter(|f| is_name(&f.0)).collect();
        let mut packed = Vec::new();
        packer.begin(&mut packed);
        for (name, value) in &plain {
            packer.field(&mut packed, core::str::from_utf8(name).expect("a token"), value);
        }
        lines.clear();
        assert_eq!(unpack(&mut again, &packed, &mut lines), Ok(plain), "what we packed means something else");
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_lowercase() || *b == b'-')
}

type Unpacked = Result<Vec<(Vec<u8>, Vec<u8>)>, Fault>;

fn unpack(decoder: &mut Unpacker, mut block: &[u8], lines: &mut Vec<u8>) -> Unpacked {
    let mut fields = Vec::new();
    decoder.begin();
    while let Some(field) = decoder.next(&mut block, lines)? {
        let line = &lines[field.name.start as usize..];
        assert_eq!(line.len(), field.name.len() + 2 + field.value.len() + 2, "a field is one line");
        fields.push((field.name.of(lines).to_vec(), field.value.of(lines).to_vec()));
    }
    Ok(fields)
}

/// The heads that a connection tells of, with everything else that it promises, and what it sent.
fn heads_of_connection(data: &[u8]) -> (Vec<Head>, Vec<u8>) {
    let config = Config::new(Limits::DEFAULT);
    let mut connection = Connection::new(&config, Instant::ZERO);
    let mut inbox = Inbox::new(vec![0; config.inbox_bytes()]);
    let mut outbox = Outbox::new(vec![0; 16_384]);
    let (mut handler, mut heads, mut rest, mut sent) = (Handler::default(), Vec::new(), data, Vec::new());
    let (mut fault, mut last) = (false, Pause::Yield);
    for round in 0..16 * data.len() + 64 {
        rest = &rest[inbox.fill(rest)..];
        if rest.is_empty() {
            inbox.end();
        }
        let waiting = inbox.len();
        let mut turn = connection.turn(Instant::from_nanos(round as u64), &mut inbox, &mut outbox).expect("no misuse");
        let mut events = 0;
        while let Some(event) = turn.next() {
            events += 1;
            assert!(!fault && last != Pause::Closed, "an event behind the end: {event:?}");
            fault |= matches!(event, Event::Fault(_));
            if let Event::Request(request) = &event {
                let (head, fields) = (&request.head, request.head.fields.iter());
                let fields = fields.map(|(name, value)| (name.into(), value.to_vec())).collect();
                heads.push(Head(head.method.into(), head.target.into(), head.version, fields));
            }
            let _ = handler.on(event);
        }
        while let Some(job) = turn.job() {
            events += 1;
            turn.done(job.run());
        }
        let pause = turn.finish();
        assert!(connection.retained_bytes() <= config.machine_bound_bytes());
        let ready = outbox.ready().len();
        assert!(ready == 0 || last != Pause::Closed, "output behind the end");
        sent.extend_from_slice(outbox.ready());
        outbox.wrote(ready);
        if last == Pause::Closed {
            assert_eq!(pause, Pause::Closed);
            return (heads, sent);
        }
        let moved = events > 0 || ready > 0 || inbox.len() < waiting;
        if !moved && pause == last && !matches!(pause, Pause::Yield | Pause::Closed) {
            assert!(!fault, "a fault that does not end: {pause:?}");
            return (heads, sent);
        }
        last = pause;
    }
    panic!("it does not come to an end");
}

/// A chunked body is read the same in any pieces, and no byte of it more than twice. One choice: the
/// pieces.
pub fn chunked(data: &[u8]) {
    let ([n], body) = choices(data);
    let bytes = [b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", body].concat();
    let whole = read_chunked(&bytes, bytes.len());
    assert!(whole.payload.len() <= body.len());
    assert_eq!(whole, read_chunked(&bytes, 1), "a byte at a time");
    assert_eq!(whole, read_chunked(&bytes, usize::from(n) + 2), "{} at a time", usize::from(n) + 2);
}

#[derive(Debug, PartialEq, Eq)]
struct Chunked {
    payload: Vec<u8>,
    trailers: Vec<u8>,
    /// Where the message ended, or the rule that it breaks.
    end: Result<Option<usize>, Violation>,
}

fn read_chunked(bytes: &[u8], n: usize) -> Chunked {
    let (mut receiver, mut here, mut at) = (Receiver::new(), 0, 0);
    let mut read = Chunked { payload: Vec::new(), trailers: Vec::new(), end: Ok(None) };
    loop {
        let rest = &bytes[at..here];
        let step = receiver.step(rest, &Limits::DEFAULT);
        assert!(receiver.visited() <= 2 * bytes.len() as u64, "a byte is looked at more than twice");
        at += match step {
            Err(violation) => {
                read.end = Err(Violation { at: violation.at + at as u64, ..violation });
                return read;
            }
            Ok(Item::Need { .. }) if here == bytes.len() => return read,
            Ok(Item::Need { .. }) => {
                here = (here + n).min(bytes.len());
                0
            }
            Ok(Item::Data { len, .. }) => {
                read.payload.extend_from_slice(&rest[..len]);
                receiver.took(len);
                len
            }
            Ok(Item::Trailers { fields, len }) => {
                read.trailers.extend_from_slice(fields.of(rest));
                len
            }
            Ok(Item::Head { spans, .. }) => spans.len as usize,
            Ok(Item::Skip { len } | Item::End { len }) => len,
            Ok(Item::Done) => {
                read.end = Ok(Some(at));
                return read;
            }
            Ok(Item::Tunnel { .. }) => unreachable!("nobody asked for a tunnel"),
        };
    }
}

/// A coded body gives the same in any pieces, keeps to its caps, and is what a whole decoder makes of it. Two choices:
/// the pieces, and how much is asked for.
pub fn gzip(data: &[u8]) {
    let ([n, room], coded) = choices(data);
    let limits = Limits::DEFAULT.with(Limit::DecodedBytes, 1 << 18).expect("in range");
    let coding = if coded.first() == Some(&0x78) { Coding::Deflate } else { Coding::Gzip };
    let whole = decode(coding, &limits, coded, usize::MAX, usize::MAX);
    assert!(whole.0.len() as u64 <= limits.get(Limit::DecodedBytes));
    let (n, room) = (usize::from(n) + 1, usize::from(room) + 1);
    assert_eq!(whole, decode(coding, &limits, coded, n, room), "{n} at a time, into {room}");
    assert_eq!(whole, decode(coding, &limits, coded, 1, 1 << 15), "a byte at a time");
    if whole.1.is_err() {
        return;
    }
    let other = match coding {
        Coding::Deflate => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(coded, 1 << 18),
        _ => {
            let body = coded.get(gzip_header(coded)..coded.len() - 8).expect("room for a member");
            miniz_oxide::inflate::decompress_to_vec_with_limit(body, 1 << 18)
        }
    };
    assert_eq!(other.as_ref().ok(), Some(&whole.0), "a whole decoder reads it otherwise");
}

/// How long the header of a good gzip member is (RFC 1952 §2.3).
fn gzip_header(member: &[u8]) -> usize {
    let (flags, mut at) = (member[3], 10);
    if flags & 4 != 0 {
        at += 2 + usize::from(u16::from_le_bytes([member[at], member[at + 1]]));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += member[at..].iter().position(|&b| b == 0).expect("its end") + 1;
        }
    }
    if flags & 2 != 0 { at + 2 } else { at }
}

fn decode(coding: Coding, limits: &Limits, coded: &[u8], n: usize, room: usize) -> (Vec<u8>, Result<(), Violation>) {
    let mut decoder = Decoder::new(coding).expect("memory");
    let (mut here, mut at, mut out) = (n.min(coded.len()), 0, Vec::new());
    loop {
        match decoder.step(limits, &coded[at..here], room) {
            Err(violation) => return (out, Err(violation)),
            Ok(step) => {
                assert!(step.produced.len() <= room, "more than was asked for");
                assert!(step.consumed > 0 || !step.produced.is_empty() || at == here, "no progress");
                out.extend_from_slice(decoder.window(step.produced));
                at += step.consumed;
                if at < here || !step.produced.is_empty() {
                    continue;
                }
                if here == coded.len() {
                    if decoder.finish() {
                        continue;
                    }
                    let end = decoder.end();
                    return (out, end);
                }
                here = here.saturating_add(n).min(coded.len());
            }
        }
    }
}

/// A text is judged the same in any memory; what is taken can be read, and what was read is written so that it reads the same.
pub fn json(data: &[u8]) {
    let limits = &Limits::DEFAULT;
    let judged = json::check(data, limits);
    let mut scratch = vec![0; 2 * data.len() + 4];
    assert_eq!(judged, json::check_in(data, limits, &mut scratch), "another memory, another verdict");
    if let Err(small) = json::check_in(data, limits, &mut [0; 16]) {
        assert!(Err(small) == judged || small.rule == Rule::JsonTooManyKeys);
    }
    let any = json::from_slice::<serde::de::IgnoredAny>(data, limits, &mut scratch);
    assert_eq!(any.map(|_| ()), judged, "what is taken can be read");
    if let Ok(text) = json::from_slice::<&str>(data, limits, &mut scratch) {
        // Six bytes at most for each of the text's.
        let (mut written, mut scratch) = (vec![0; 6 * text.len() + 2], vec![0; 12 * text.len() + 8]);
        let n = json::to_slice(text, &mut written).expect("room");
        assert_eq!(json::from_slice::<&str>(&written[..n], limits, &mut scratch), Ok(text));
    }
    if let Ok(number) = json::from_slice::<u64>(data, limits, &mut scratch) {
        let mut written = [0; 20];
        let n = json::to_slice(&number, &mut written).expect("room");
        assert_eq!(json::from_slice::<u64>(&written[..n], limits, &mut []), Ok(number));
    }
    let _ = json::from_slice::<f64>(data, limits, &mut scratch);
    let _ = json::from_slice::<[Option<i32>; 3]>(data, limits, &mut scratch);
    let _ = json::from_slice::<(&str, bool)>(data, limits, &mut scratch);
}

/// Records before a handshake are taken and refused the same in any pieces, within the memory that was promised. One choice:
/// the pieces. `config` comes from the caller, for it has a crypto provider in it.
pub fn tls_records(data: &[u8], config: &TlsConfig) {
    let ([n], records) = choices(data);
    let whole = open(config, records, usize::MAX);
    assert_eq!(whole, open(config, records, 1), "a byte at a time");
    assert_eq!(whole, open(config, records, usize::from(n) + 2), "{} at a time", usize::from(n) + 2);
}

/// How far the records were consumed, and what stopped them.
fn open(config: &TlsConfig, records: &[u8], n: usize) -> (usize, Option<Violation>) {
    let (limits, now) = (Limits::DEFAULT, Instant::ZERO);
    let mut tls = Tls::new(config);
    let (mut raw, mut here, mut at) = (records.to_vec(), 0, 0);
    let mut out = vec![0; 1 << 17];
    loop {
        let opened = tls.open(&limits, now, &mut raw[at..here]);
        assert!(tls.retained_bytes() <= Tls::bound_bytes(&limits), "{} bytes", tls.retained_bytes());
        assert!(tls.flush(&mut out) <= out.len() && tls.pending() == 0);
        match opened {
            Ok(Opened::Need { want }) => {
                assert!(want > 0);
                if here == raw.len() {
                    return (at, tls.end().err());
                }
                here = here.saturating_add(n).min(raw.len());
            }
            Ok(Opened::Consumed { total } | Opened::Plain { total, .. }) => {
                assert!(0 < total && total <= here - at, "{total} bytes of {}", here - at);
                at += total;
            }
            // What follows close_notify does not count.
            Ok(Opened::Closed { total }) => return (at + total, None),
            Ok(Opened::Hello) => tls.choose(config),
            Err(violation) => {
                tls.fail(violation);
                // An alert, behind a ServerHello that was due.
                assert!(tls.flush(&mut out) <= 512, "the last words are short");
                assert_eq!(tls.open(&limits, now, &mut raw[at..here]), Err(violation), "it stays that way");
                return (at, Some(violation));
            }
        }
    }
}
