//! What clients say in the models, services for it, and what was answered, without how it was cut.

use std::collections::BTreeMap;
use vestibule::{Content, Event, Expect, Id, Misuse, Reply};
use vestibule_driver::Service;

/// Echoes bodies, and answers everything else with many bytes; panics at one of its events.
#[derive(Default)]
pub(super) struct Echo {
    /// What is still to be written, and whether that is all.
    open: BTreeMap<Id, (Vec<u8>, bool)>,
    events: u32,
    panic_at: Option<u32>,
}

impl Echo {
    pub(super) fn new(panic_at: Option<u32>) -> Echo {
        Echo { panic_at, ..Echo::default() }
    }

    fn go_on(&mut self, reply: &mut Reply<'_>, more: &[u8], last: bool) -> Result<(), Misuse> {
        let (rest, finish) = self.open.entry(reply.id()).or_default();
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

impl Service for Echo {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        let number = self.events;
        self.events += 1;
        assert_ne!(Some(number), self.panic_at, "as asked");
        match event {
            Event::Request(mut request) => {
                request.reply.respond(200, &[], Content::Streamed)?;
                if !request.has_body {
                    let many: Vec<u8> = (0..150_000u32).map(|i| (i / 7) as u8).collect();
                    self.go_on(&mut request.reply, &many, true)?;
                }
            }
            Event::Body(mut body) => self.go_on(&mut body.reply, body.bytes, body.last)?,
            Event::Writable(mut reply) => self.go_on(&mut reply, b"", false)?,
            Event::Aborted { id, .. } => drop(self.open.remove(&id)),
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn conversation() -> Vec<u8> {
    let body = vec![b'b'; 200_000];
    let mut input = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
    input
        .extend_from_slice(format!("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
    input.extend_from_slice(&body);
    input.extend_from_slice(b"GET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    input
}

/// The content of a series of chunked responses, so that where chunks were cut does not count.
pub(super) fn contents(mut output: &[u8]) -> Vec<(String, Vec<u8>)> {
    let line = |output: &mut &[u8]| {
        let end = output.windows(2).position(|w| w == b"\r\n").unwrap();
        let line = String::from_utf8(output[..end].to_vec()).unwrap();
        *output = &output[end + 2..];
        line
    };
    let mut all = Vec::new();
    while !output.is_empty() {
        let (mut head, mut content) = (String::new(), Vec::new());
        loop {
            match line(&mut output) {
                empty if empty.is_empty() => break,
                field => head = head + &field + "|",
            }
        }
        while head.contains("chunked") {
            let n = usize::from_str_radix(&line(&mut output), 16).unwrap();
            content.extend_from_slice(&output[..n]);
            output = &output[n..];
            assert_eq!(line(&mut output), "");
            if n == 0 {
                break;
            }
        }
        all.push((head, content));
    }
    all
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a client says first that has room for everything.
fn greeting_h2() -> Vec<u8> {
    let mut input = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let wide = 1u32 << 24;
    input.extend(frame(4, 0, 0, &[&[0, 4][..], &wide.to_be_bytes(), &[0, 1, 0, 0, 0, 0]].concat()));
    input.extend(frame(4, 1, 0, b""));
    input.extend(frame(8, 0, 0, &wide.to_be_bytes()));
    input
}

/// RFC 7541 appendix A.
const GET: u8 = 0x82;
const POST: u8 = 0x83;

fn head_h2(method: u8) -> [u8; 6] {
    [method, 0x86, 0x84, 0x01, 1, b'a']
}

/// The same in HTTP/2, all at once, with windows for all of it.
pub(super) fn conversation_h2() -> Vec<u8> {
    let mut input = greeting_h2();
    input.extend(frame(1, 4 | 1, 1, &head_h2(GET)));
    input.extend(frame(1, 4, 3, &head_h2(POST)));
    input.extend(frame(1, 4 | 1, 5, &head_h2(GET)));
    for piece in 0..20u8 {
        input.extend(frame(0, u8::from(piece == 19), 3, &vec![b'b'; 10_000]));
        if piece == 10 {
            input.extend(frame(1, 4 | 1, 7, &head_h2(GET)));
        }
    }
    input
}

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) status: u8,
    pub(super) content: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: bool,
}

/// What came on each stream, and on the connection (stream 0: the last GOAWAY).
pub(super) fn streams(mut output: &[u8]) -> BTreeMap<u32, Stream> {
    let mut all = BTreeMap::new();
    while !output.is_empty() {
        let [a, b, c, kind, flags, s, t, u, v] = *output.first_chunk::<9>().unwrap();
        let (payload, rest) = output[9..].split_at(u32::from_be_bytes([0, a, b, c]) as usize);
        output = rest;
        let stream: &mut Stream = all.entry(u32::from_be_bytes([s, t, u, v])).or_default();
        match kind {
            0 => stream.content.extend_from_slice(payload),
            1 => stream.status = *payload.iter().find(|b| **b & 0xe0 != 0x20).unwrap(),
            3 => stream.reset = true,
            7 => stream.content = payload.to_vec(),
            _ => {}
        }
        stream.ended |= kind < 2 && flags & 1 != 0;
    }
    all
}

/// `:status` 200 and 500 in the static table.
pub(super) const OK: u8 = 0x88;
pub(super) const FAILED: u8 = 0x8e;

/// Takes 64 KiB before it gives anything back.
pub(super) struct Batches(pub(super) Vec<u8>);
impl Service for Batches {
    fn event(&mut self, event: Event<'_>) -> Result<(), Misuse> {
        match event {
            Event::Request(mut request) => {
                request.reply.expect(Expect::Manual).respond(200, &[], Content::Streamed)?;
            }
            Event::Body(mut body) => {
                self.0.extend_from_slice(body.bytes);
                if self.0.len() == 65_536 || body.last {
                    assert_eq!(body.reply.write(&self.0), Ok(self.0.len()));
                    body.reply.release(self.0.len() as u32);
                    self.0.clear();
                }
                if body.last {
                    body.reply.finish()?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// 64 KiB for [`Batches`], and a little more.
pub(super) fn late() -> Vec<u8> {
    let mut input = greeting_h2();
    input.extend(frame(1, 4, 1, &head_h2(POST)));
    (0..16).for_each(|_| input.extend(frame(0, 0, 1, &[b'b'; 4_096])));
    input.extend(frame(0, 1, 1, b"end"));
    input
}
