//! In: events, and the bytes that were sent. Out: text, the same however the bytes were cut: adjacent parts are merged.

use super::frames::Frames;
use crate::accept::proxy::Command;
use crate::parse::h1::Version;
use crate::{Event, Head, Id, Violation};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Events as text.
#[derive(Default, Debug)]
pub(super) struct Events {
    text: String,
    open: Option<Part>,
    /// HTTP/2 is spoken: streams have windows, so bodies are long, and their runs are written short.
    http2: bool,
}

/// Something that came in parts so far.
#[derive(Debug)]
struct Part {
    kind: &'static str,
    id: u64,
    bytes: Vec<u8>,
    whole: bool,
    last: bool,
}

impl Events {
    pub(super) fn say(&mut self, line: &str) {
        self.seal();
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// What was said so far; what is under way goes on in another line.
    pub(super) fn take(&mut self) -> String {
        let was_open = self.open.is_some();
        self.seal();
        if was_open && !self.http2 {
            self.text.pop();
        }
        core::mem::take(&mut self.text)
    }

    fn seal(&mut self) {
        let Some(part) = self.open.take() else { return };
        let _ = write!(self.text, "{} {} \"", part.kind, part.id);
        if self.http2 {
            write_bytes(&mut self.text, &part.bytes);
        } else {
            part.bytes.iter().for_each(|&b| escape(&mut self.text, b));
        }
        self.text.push('"');
        for (mark, set) in [(" whole", part.whole), (" last", part.last)] {
            self.text.push_str(if set { mark } else { "" });
        }
        self.text.push('\n');
    }

    /// A part of something that may come in parts.
    fn part(&mut self, kind: &'static str, id: Id, bytes: &[u8], (whole, last): (bool, bool)) {
        let id = id.number();
        if self.open.as_ref().is_none_or(|open| open.kind != kind || open.id != id) {
            self.seal();
        }
        let new = || Part { kind, id, bytes: Vec::new(), whole: false, last: false };
        let open = self.open.get_or_insert_with(new);
        open.bytes.extend_from_slice(bytes);
        open.whole |= whole;
        open.last = last;
        if last {
            self.seal();
        }
    }

    pub(super) fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Hello(hello) => self.say(&alloc::format!("hello {}", hello.sni.unwrap_or("-"))),
            Event::Proxied(header) => self.proxied(*header),
            Event::Request(request) => self.request(request.reply.id(), &request.head, request.has_body),
            Event::Body(body) => self.part("body", body.reply.id(), body.bytes, (body.whole, body.last)),
            Event::Trailers(trailers) => {
                self.say(&alloc::format!("trailers {}", trailers.reply.id().number()));
                self.fields(trailers.fields);
            }
            Event::Tunnel(tunnel) => self.part("tunnel", tunnel.reply.id(), tunnel.bytes, (false, tunnel.last)),
            Event::Writable(_) => {}
            Event::Aborted { id, why, .. } => {
                let why = why.map_or("", |v| v.name());
                self.say(alloc::format!("aborted {} {why}", id.number()).trim_end());
            }
            Event::Fault(violation) => self.say(&fault(violation)),
        }
    }

    fn proxied(&mut self, header: crate::accept::proxy::Header<'_>) {
        let found = header.found();
        let mut line = alloc::format!("proxied by version {}", found.version);
        match (found.command, found.endpoints, header.unix()) {
            (Command::Local, ..) => line.push_str(" for itself"),
            (_, Some(ends), _) => {
                let _ = write!(line, " from {} to {}", ends.source, ends.destination);
            }
            (_, _, Some((source, destination))) => {
                for (word, name) in [(" from ", source), (" to ", destination)] {
                    line.push_str(word);
                    write_bytes(&mut line, name);
                }
            }
            _ => line.push_str(" for somebody"),
        }
        self.say(&line);
        for (kind, value) in header.tlvs() {
            let mut line = alloc::format!("  {kind:02x}: ");
            write_bytes(&mut line, value);
            self.say(&line);
        }
    }

    fn request(&mut self, id: Id, head: &Head<'_>, has_body: bool) {
        self.http2 = head.version == Version::Http2;
        let (id, version) = (id.number(), head.version.name());
        let body = if has_body { " with a body" } else { "" };
        let protocol = head.protocol.filter(|_| self.http2).map(|p| alloc::format!(" protocol {p}"));
        let protocol = protocol.unwrap_or_default();
        self.say(&alloc::format!("request {id} {} {} {version}{protocol}{body}", head.method, head.target));
        self.fields(head.fields);
    }

    fn fields(&mut self, fields: crate::Fields<'_>) {
        for (name, value) in fields.iter() {
            let mut line = alloc::format!("  {name}: ");
            write_bytes(&mut line, value);
            self.say(&line);
        }
    }
}

fn fault(v: &Violation) -> String {
    let mut line = alloc::format!("fault {} at {}: {} ({})", v.name(), v.at, v.status(), v.section());
    if let Some(limit) = v.limit() {
        let _ = write!(line, ", {} is {}", limit.name(), v.value);
    } else if v.value > 0 {
        let _ = write!(line, ", at most {}", v.value);
    }
    line
}

/// What was sent, as text: HTTP/1.1 line by line, HTTP/2 frame by frame.
#[derive(Debug)]
pub(super) enum Output {
    /// Not enough of it to tell.
    Unknown(Vec<u8>),
    Lines,
    Frames(Frames),
}

impl Output {
    pub(super) fn new() -> Output {
        Output::Unknown(Vec::new())
    }

    /// What was sent in a segment.
    pub(super) fn segment(&mut self, text: &mut String, sent: &[u8]) {
        let first;
        let sent = match self {
            Output::Unknown(rest) => {
                rest.extend_from_slice(sent);
                if rest.is_empty() || (rest[0] == 0 && rest.len() < super::frames::HEADER) {
                    return;
                }
                first = core::mem::take(rest);
                // SETTINGS comes first (RFC 9113 §3.4): a text never begins with a NUL.
                let is_settings = matches!(first[..], [0, _, _, 4, 0, 0, 0, 0, 0, ..]);
                *self = if is_settings { Output::Frames(Frames::new()) } else { Output::Lines };
                &first[..]
            }
            _ => sent,
        };
        let mut lines = String::new();
        match self {
            Output::Frames(frames) => frames.segment(&mut lines, sent),
            _ => write_lines(&mut lines, sent),
        }
        if !lines.is_empty() {
            text.push_str("send\n");
            text.push_str(&lines);
        }
    }

    /// Nothing more is sent: what waited for its rest is shown as it is.
    pub(super) fn close(&mut self, text: &mut String) {
        let rest = match self {
            Output::Unknown(rest) => core::mem::take(rest),
            Output::Frames(frames) => frames.rest(),
            Output::Lines => return,
        };
        if !rest.is_empty() {
            let _ = writeln!(text, "cut off, {} bytes of a frame", rest.len());
        }
    }
}

/// One line of text a line of bytes, each indented.
pub(super) fn write_lines(text: &mut String, bytes: &[u8]) {
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        text.push_str("  ");
        write_bytes(text, line);
        text.push('\n');
    }
}

/// Bytes as the scripts write them; long runs of one byte as `{300*a}`.
pub(super) fn write_bytes(text: &mut String, bytes: &[u8]) {
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() >= 32 {
            let _ = write!(text, "{{{}*", run.len());
            escape(text, run[0]);
            text.push('}');
        } else {
            run.iter().for_each(|&b| escape(text, b));
        }
    }
}

fn escape(text: &mut String, b: u8) {
    match b {
        b'\r' => text.push_str("\\r"),
        b'\n' => text.push_str("\\n"),
        b'\t' => text.push_str("\\t"),
        0 => text.push_str("\\0"),
        b'\\' | b'{' => text.extend(['\\', char::from(b)]),
        0x20..=0x7e => text.push(char::from(b)),
        _ => {
            let _ = write!(text, "\\x{b:02x}");
        }
    }
}
