//! In: what we sent in HTTP/2. Out: one line a frame, field sections decoded. Bytes that are no frames are shown as they are:
//! they would be a fault of ours.
//!
//! Where a frame is cut does not show: adjacent DATA of one stream is one line, and credit is summed up to a segment's end.

use super::transcript::{write_bytes, write_lines};
use crate::parse::pack::Decoder;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// Bytes of a frame's header (RFC 9113 §4.1).
pub(super) const HEADER: usize = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// RFC 9113 §7.
const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1.
const SETTINGS: [&str; 9] = [
    "header_table_size",
    "enable_push",
    "max_concurrent_streams",
    "initial_window_size",
    "max_frame_size",
    "max_header_list_size",
    "?",
    "enable_connect_protocol",
    "no_rfc7540_priorities",
];

/// The peer's view of what we send.
#[derive(Debug)]
pub(super) struct Frames {
    /// The beginning of a frame whose end was not sent yet.
    rest: Vec<u8>,
    decoder: Decoder,
    /// A header block that CONTINUATION goes on with.
    block: Option<Block>,
    /// DATA that more of the same stream may follow.
    data: Option<Data>,
    credit: BTreeMap<u32, u64>,
    /// It was no frame, so nothing behind it is.
    lost: bool,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
    frames: u32,
}

#[derive(Debug)]
struct Data {
    stream: u32,
    bytes: Vec<u8>,
    ends: bool,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            rest: Vec::new(),
            decoder: Decoder::new(4_096),
            block: None,
            data: None,
            credit: BTreeMap::new(),
            lost: false,
        }
    }

    /// What is left of a frame that was not sent to its end.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.rest)
    }

    pub(super) fn segment(&mut self, text: &mut String, sent: &[u8]) {
        self.rest.extend_from_slice(sent);
        let bytes = self.rest();
        let mut at = 0;
        while !self.lost
            && let Some(frame) = cut(&bytes[at..])
        {
            if self.frame(text, &frame).is_none() {
                self.lost = true;
                break;
            }
            at += HEADER + frame.payload.len();
        }
        self.flush_data(text);
        if self.lost {
            text.push_str("  no frame:\n");
            write_lines(text, &bytes[at..]);
        } else {
            self.rest.extend_from_slice(&bytes[at..]);
        }
        for (stream, by) in core::mem::take(&mut self.credit) {
            let _ = writeln!(text, "  WINDOW_UPDATE {stream} +{by}");
        }
    }

    /// `None`: not a frame that a server may send.
    fn frame(&mut self, text: &mut String, frame: &Frame<'_>) -> Option<()> {
        let &Frame { kind, flags, stream, payload } = frame;
        let is_continued = self.block.is_some();
        if is_continued != (kind == 9) {
            return None;
        }
        match kind {
            0 => return self.data(text, frame),
            8 => {
                let by = number(payload).filter(|&by| payload.len() == 4 && by > 0 && flags == 0)?;
                *self.credit.entry(stream).or_default() += u64::from(by);
                return Some(());
            }
            _ => self.flush_data(text),
        }
        match kind {
            1 if stream > 0 && flags & !(END_STREAM | END_HEADERS) == 0 => {
                self.block = Some(Block { stream, flags, bytes: payload.to_vec(), frames: 1 });
                self.section(text, flags)
            }
            9 if flags & !END_HEADERS == 0 => {
                let block = self.block.as_mut().filter(|b| b.stream == stream)?;
                block.bytes.extend_from_slice(payload);
                block.frames += 1;
                self.section(text, flags)
            }
            3 if stream > 0 && flags == 0 && payload.len() == 4 => {
                line(text, format_args!("RST_STREAM {stream} {}", Code(number(payload)?)))
            }
            4 if stream == 0 && flags == ACK && payload.is_empty() => line(text, format_args!("SETTINGS ack")),
            4 if stream == 0 && flags == 0 => settings(text, payload),
            6 if stream == 0 && flags & !ACK == 0 && payload.len() == 8 => {
                let ack = if flags == ACK { "ack " } else { "" };
                line(text, format_args!("PING {ack}{:016x}", u64::from_be_bytes(payload.try_into().ok()?)))
            }
            7 if stream == 0 && flags == 0 => goaway(text, payload),
            _ => None,
        }
    }

    fn data(&mut self, text: &mut String, frame: &Frame<'_>) -> Option<()> {
        let &Frame { flags, stream, payload, .. } = frame;
        if stream == 0 || flags & !END_STREAM != 0 {
            return None;
        }
        if self.data.as_ref().is_none_or(|data| data.stream != stream || data.ends) {
            self.flush_data(text);
        }
        let data = self.data.get_or_insert_with(|| Data { stream, bytes: Vec::new(), ends: false });
        data.bytes.extend_from_slice(payload);
        data.ends = flags & END_STREAM != 0;
        Some(())
    }

    fn flush_data(&mut self, text: &mut String) {
        let Some(data) = self.data.take() else { return };
        let _ = write!(text, "  DATA {} \"", data.stream);
        write_bytes(text, &data.bytes);
        text.push_str(if data.ends { "\" end\n" } else { "\"\n" });
    }

    /// A field section, once it is complete.
    fn section(&mut self, text: &mut String, flags: u8) -> Option<()> {
        if flags & END_HEADERS == 0 {
            return Some(());
        }
        let block = self.block.take()?;
        let (mut coded, mut lines) = (block.bytes.as_slice(), Vec::new());
        self.decoder.begin();
        while self.decoder.next(&mut coded, &mut lines).ok()?.is_some() {}
        let _ = write!(text, "  HEADERS {}", block.stream);
        if block.frames > 1 {
            let _ = write!(text, " in {} frames", block.frames);
        }
        text.push_str(if block.flags & END_STREAM == 0 { "\n" } else { " end\n" });
        for field in lines.split(|&b| b == b'\n').filter_map(|l| l.strip_suffix(b"\r")) {
            text.push_str("    ");
            write_bytes(text, field);
            text.push('\n');
        }
        Some(())
    }
}

/// The first frame, if all of it is there.
fn cut(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[a, b, c, kind, flags, s, t, u, v], behind) = bytes.split_first_chunk::<HEADER>()?;
    let payload = behind.get(..u32::from_be_bytes([0, a, b, c]) as usize)?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes([s, t, u, v]), payload })
}

fn settings(text: &mut String, payload: &[u8]) -> Option<()> {
    let (entries, rest) = payload.as_chunks::<6>();
    if !rest.is_empty() {
        return None;
    }
    text.push_str("  SETTINGS");
    for (i, &[a, b, c, d, e, f]) in entries.iter().enumerate() {
        let (name, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
        text.push_str(if i == 0 { " " } else { ", " });
        let _ = match usize::from(name).checked_sub(1).and_then(|at| SETTINGS.get(at)) {
            Some(known) => write!(text, "{known} {value}"),
            None => write!(text, "{name:#x} {value}"),
        };
    }
    text.push('\n');
    Some(())
}

fn goaway(text: &mut String, payload: &[u8]) -> Option<()> {
    let (last, code) = (number(payload)?, number(payload.get(4..)?)?);
    let _ = write!(text, "  GOAWAY last {last} {}", Code(code));
    let debug = payload.get(8..)?;
    if !debug.is_empty() {
        text.push_str(" \"");
        write_bytes(text, debug);
        text.push('"');
    }
    text.push('\n');
    Some(())
}

fn line(text: &mut String, what: core::fmt::Arguments<'_>) -> Option<()> {
    writeln!(text, "  {what}").ok()
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|b| u32::from_be_bytes(*b))
}

struct Code(u32);

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match CODES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let (mut frames, mut text) = (Frames::new(), String::new());
        parts.iter().for_each(|part| frames.segment(&mut text, part));
        text
    }

    /// SETTINGS, its ACK, credit, a response with `:status: 200` and `x: y`, in two frames, its content in two frames with
    /// credit between them, a reset, a PING's answer, GOAWAY.
    const SENT: &[u8] = b"\0\0\x0c\x04\0\0\0\0\0\0\x03\0\0\0\x64\x00\x99\0\0\0\x01\0\0\0\x04\x01\0\0\0\0\
        \0\0\x04\x08\0\0\0\0\0\0\0\0\x05\
        \0\0\x01\x01\0\0\0\0\x01\x88\0\0\x05\x09\x04\0\0\0\x01\0\x01x\x01y\
        \0\0\x01\0\0\0\0\0\x01o\0\0\x04\x08\0\0\0\0\0\0\0\0\x07\0\0\x01\0\x01\0\0\0\x01k\
        \0\0\x04\x03\0\0\0\0\x03\0\0\0\x01\0\0\x08\x06\x01\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\
        \0\0\x0a\x07\0\0\0\0\0\0\0\0\x05\0\0\0\x0bhi";

    #[test]
    fn what_we_send_can_be_read() {
        assert_eq!(
            shown(&[SENT]),
            "  SETTINGS max_concurrent_streams 100, 0x99 1\n  SETTINGS ack\n  HEADERS 1 in 2 frames\n    :status: 200\n    \
             x: y\n  DATA 1 \"ok\" end\n  RST_STREAM 3 PROTOCOL_ERROR\n  PING ack 0102030405060708\n  \
             GOAWAY last 5 ENHANCE_YOUR_CALM \"hi\"\n  WINDOW_UPDATE 0 +12\n"
        );
    }

    #[test]
    fn a_frame_that_was_cut_comes_with_its_rest() {
        for at in 0..SENT.len() {
            let (a, b) = SENT.split_at(at);
            let shown = shown(&[a, b]);
            assert!(!shown.contains("no frame"), "cut at {at}:\n{shown}");
            assert_eq!(shown.matches("PING ack 0102030405060708\n").count(), 1, "cut at {at}:\n{shown}");
        }
    }

    #[test]
    fn what_is_no_frame_of_ours_is_shown_as_it_is() {
        for bytes in [
            &b"\0\0\0\x05\x04\0\0\0\x01"[..],                    // PUSH_PROMISE
            b"\0\0\0\x09\x04\0\0\0\x01",                         // CONTINUATION of nothing
            b"\0\0\x01\x01\x04\0\0\0\x01\x80",                   // index 0
            b"\0\0\x01\x01\0\0\0\0\x01\x88\0\0\0\0\0\0\0\0\x01", // DATA inside a header block
            b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0",                   // no credit at all
        ] {
            let text = shown(&[bytes]);
            assert!(text.contains("  no frame:\n"), "{bytes:?}: {text}");
        }
    }
}
