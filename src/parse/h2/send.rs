//! In: what a handler answers on one of many streams. Out: HEADERS and DATA, never more than the windows allow, all or nothing
//! for heads (RFC 9113 §8.1, §6.1, §6.9).

use super::frame::{CANCEL, FrameHeader, HEADER, flag, kind};
use super::streams::{At, Sending, Streams, Wire, length_of};
use crate::base::memory::{extend, reserve};
use crate::base::{FieldFault, Limit, Limits, Misuse, Sink};
use crate::parse::exchange::Content;
use crate::parse::pack;
use crate::parse::semantics::{check_field, may_be_trailer};
use alloc::vec::Vec;

type Fields<'f> = &'f [(&'f str, &'f str)];

/// What a stream may hold back of a small answer, so that it never fails for want of a window.
pub(crate) const PARK: usize = 1_024;

/// What a stream sends at a time while others of its rank wait, too.
const SHARE: usize = 16_384;

/// Octets that a stalled stream must get rid of to count as alive (TIM-04).
pub(crate) const PROGRESS: u32 = 1_024;

impl At<'_> {
    /// The final response's head, and as much content as there is room for.
    pub(crate) fn respond(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        if self.stream.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(200..=599).contains(&status) || (self.stream.is_connect && status < 300) {
            return Err(Misuse::Status); // 2xx to CONNECT is `upgrade`
        }
        let length = length_of(content);
        let bare = matches!(status, 204 | 304);
        if (status == 204 && length.unwrap_or(0) > 0) || (status == 205 && length.unwrap_or(1) > 0) {
            return Err(Misuse::TooMuchContent); // RFC 9110 §15.3.5, §15.3.6
        }
        let whole = self.stream.shared.whole || matches!(content, Content::Whole(_));
        let silent = bare || self.stream.is_head;
        let ends = silent || (whole && length == Some(0));
        self.head(out, limits, Some(status), fields, length.filter(|_| !bare), ends)?;
        self.stream.shared.whole = whole;
        self.stream.sending = match (silent, ends) {
            (true, _) if matches!(content, Content::Whole(_)) => Sending::Done,
            (true, _) => Sending::Silent,
            (false, true) => Sending::Done,
            _ => Sending::Open { left: length },
        };
        match content {
            Content::Whole(bytes) if silent => Ok(bytes.len()),
            Content::Whole(bytes) if !bytes.is_empty() => self.write(out, bytes),
            _ => Ok(0),
        }
    }

    /// A field section as HEADERS and, if it is long, CONTINUATION. The encoder's table changes only if it is sent.
    fn head(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        status: Option<u16>,
        fields: Fields<'_>,
        length: Option<u64>,
        ends: bool,
    ) -> Result<(), Misuse> {
        let Wire { block, encoder, last_head, most_frame, .. } = &mut *self.wire;
        let said = last_head.is(status, fields, encoder.version());
        let size = if said { 64 + last_head.block.len() } else { size_of(limits, fields)? };
        if size + HEADER * (1 + size / *most_frame as usize) > out.room() {
            return Err(Misuse::NoRoom);
        }
        block.clear();
        reserve(block, size)?; // for all that follows: `size` is a bound of it
        if said {
            block.extend_from_slice(&last_head.block);
        } else {
            encoder.begin(block);
            let before = encoder.version();
            let from = block.len();
            if let Some(status) = status {
                encoder.status(block, status);
            }
            for (name, value) in fields {
                encoder.field(block, name, value.as_bytes());
            }
            if from == 0 && encoder.version() == before {
                last_head.put(status, fields, before, block);
            }
        }
        match length {
            Some(n) if n == last_head.length.0 && !last_head.length.1.is_empty() => {
                block.extend_from_slice(&last_head.length.1);
            }
            Some(n) => {
                let from = block.len();
                encoder.content_length(block, n);
                last_head.length.0 = n;
                last_head.length.1.clear();
                let _ = extend(&mut last_head.length.1, block.get(from..).unwrap_or_default()); // else it is coded again
            }
            None => {}
        }
        self.put_block(out, if ends { flag::END_STREAM } else { 0 });
        if let Some(status) = status {
            out.said(status);
        }
        self.wire.block.shrink_to(4_096);
        if ends {
            self.stream.state = self.stream.state.end();
        }
        Ok(())
    }

    fn put_block(&self, out: &mut impl Sink, mut flags: u8) {
        let (mut rest, mut kind) = (&self.wire.block[..], kind::HEADERS);
        loop {
            let (part, behind) = rest.split_at(rest.len().min(self.wire.most_frame as usize));
            if behind.is_empty() {
                flags |= flag::END_HEADERS;
            }
            out.append(&FrameHeader { len: part.len() as u32, kind, flags, stream: self.stream.number }.emit());
            out.append(part);
            if behind.is_empty() {
                return;
            }
            (rest, kind, flags) = (behind, super::frame::kind::CONTINUATION, 0);
        }
    }

    /// Content behind the head: takes what there is room for, and says how much.
    pub(crate) fn write(&mut self, out: &mut impl Sink, bytes: &[u8]) -> Result<usize, Misuse> {
        let left = match self.stream.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => return Ok(bytes.len()),
            Sending::Open { left: Some(left) } if bytes.len() as u64 > left => return Err(Misuse::TooMuchContent),
            Sending::Open { left } => left,
            Sending::Tunnel => None,
        };
        let whole = self.stream.shared.whole;
        let ends = |taken: usize| whole && left == Some(taken as u64);
        let mut taken = 0;
        // What is complete and fits the windows goes at once, as `takes` has promised.
        let mut share =
            if ends(bytes.len()) && bytes.len() <= self.takes(true) { usize::MAX } else { self.share(bytes.len()) };
        loop {
            let n = self.allowed(out).min(bytes.len() - taken).min(share);
            if n == 0 {
                break;
            }
            share -= n;
            taken += n;
            let part = bytes.get(taken - n..taken).unwrap_or_default();
            self.data(out, part, ends(taken));
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() && ends(bytes.len()) && rest.len() <= PARK && self.stream.parked.is_empty() {
            // A small answer never waits for its handler. What cannot be parked never comes: the stream is reset.
            if let Err(no) = extend(&mut self.stream.parked, rest) {
                self.stream.sending = Sending::Broken;
                self.rank();
                return Err(no.into());
            }
            taken = bytes.len();
        }
        if let Some(left) = left {
            let left = left - taken as u64;
            self.stream.sending = if whole && left == 0 { Sending::Done } else { Sending::Open { left: Some(left) } };
        }
        self.stream.shared.starved = taken < bytes.len();
        self.rank();
        Ok(taken)
    }

    /// How much of `len` bytes it may send before others have their turn (RFC 9218 §10).
    fn share(&self, len: usize) -> usize {
        let urgency = usize::from(self.stream.priority.urgency);
        let others = |n: &u16| *n > 0;
        let above = self.wire.ready.get(..urgency).is_some_and(|ready| ready.iter().any(others));
        let beside = self.wire.ready.get(urgency).copied().unwrap_or(0) > u16::from(self.stream.ready);
        match (above, beside) {
            (true, _) => 0,
            (false, true) if len > PARK => SHARE,
            _ => usize::MAX,
        }
    }

    /// Content bytes of one frame that would be taken now.
    fn allowed(&self, out: &impl Sink) -> usize {
        if !self.stream.parked.is_empty() {
            return 0;
        }
        let room = out.room().saturating_sub(HEADER).min(self.wire.most_frame as usize);
        let window = self.stream.window.min(self.wire.window).max(0);
        usize::try_from(window).unwrap_or(usize::MAX).min(room)
    }

    fn data(&mut self, out: &mut impl Sink, bytes: &[u8], ends: bool) {
        self.data_header(out, bytes.len(), ends);
        out.append(bytes);
    }

    fn data_header(&mut self, out: &mut impl Sink, len: usize, ends: bool) {
        let flags = if ends { flag::END_STREAM } else { 0 };
        out.append(&FrameHeader { len: len as u32, kind: kind::DATA, flags, stream: self.stream.number }.emit());
        self.stream.window -= len as i64;
        self.wire.window -= len as i64;
        self.wire.data_frames += 1;
        self.wire.sent += len as u64;
        if ends {
            self.stream.state = self.stream.state.end();
        }
        if let Some((_, sent)) = &mut self.stream.stalled {
            *sent = sent.saturating_add(len as u32);
        }
    }

    /// Its turn to write: what was parked goes out. True if there was nothing parked, so that its handler is to be asked.
    pub(crate) fn serve(&mut self, out: &mut impl Sink) -> bool {
        self.wire.rounds = self.wire.rounds.wrapping_add(1);
        self.stream.served = self.wire.rounds;
        if self.stream.parked.is_empty() {
            self.stream.shared.starved = false;
            self.rank();
            return true;
        }
        let parked = core::mem::take(&mut self.stream.parked);
        let n = self.allowed(out).min(parked.len());
        let (now, later) = parked.split_at(n);
        if n > 0 {
            self.data(out, now, later.is_empty());
        }
        let rest = later.len();
        self.stream.parked = parked;
        self.stream.parked.drain(..n);
        debug_assert_eq!(self.stream.parked.len(), rest);
        self.rank();
        false
    }

    /// Content of a complete answer that is certain to be taken: with what may be parked, or without and as one frame.
    pub(crate) fn takes(&self, parked: bool) -> usize {
        let window = self.at_once();
        if parked { window + PARK } else { window.min(self.wire.most_frame as usize) }
    }

    /// How much of a complete answer goes at once. One frame is not worth an order; of more, what is urgent comes first.
    fn at_once(&self) -> usize {
        let window = usize::try_from(self.stream.window.min(self.wire.window).max(0)).unwrap_or(usize::MAX);
        if self.share(0) > 0 { window } else { window.min(SHARE) }
    }

    /// All the declared content is about to be put behind the head by other means: as one frame, whose header goes first.
    pub(crate) fn placed(&mut self, out: &mut impl Sink, len: usize) -> Result<bool, Misuse> {
        let sent = match self.stream.sending {
            Sending::Open { left: Some(left) } if left == len as u64 => {
                self.data_header(out, len, true);
                true
            }
            Sending::Silent => false,
            _ => return Err(Misuse::TooMuchContent),
        };
        self.stream.sending = Sending::Done;
        Ok(sent)
    }

    /// The content is complete. Short of what was declared, the stream is reset (RSP-02).
    pub(crate) fn finish(&mut self, out: &mut impl Sink) -> Result<(), Misuse> {
        match self.stream.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => self.stream.sending = Sending::Done,
            Sending::Open { left: Some(left) } if left > 0 => self.stream.sending = Sending::Broken,
            Sending::Open { .. } | Sending::Tunnel => {
                let end = FrameHeader { len: 0, kind: kind::DATA, flags: flag::END_STREAM, stream: self.stream.number };
                if !out.put_last(&[&end.emit()]) {
                    return Err(Misuse::NoRoom);
                }
                self.stream.state = self.stream.state.end();
                self.stream.sending = Sending::Done;
            }
        }
        self.stream.shared.starved = false;
        self.rank();
        Ok(())
    }

    /// Trailers, and with them the end (RFC 9113 §8.1).
    pub(crate) fn trailers(&mut self, out: &mut impl Sink, limits: &Limits, fields: Fields<'_>) -> Result<(), Misuse> {
        for (name, value) in fields {
            check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
            if !may_be_trailer(name.as_bytes()) {
                return Err(Misuse::Field(FieldFault::Trailer));
            }
        }
        match self.stream.sending {
            Sending::Open { left: None } if !fields.is_empty() => {
                self.head(out, limits, None, fields, None, true)?;
                self.stream.sending = Sending::Done;
                self.stream.shared.starved = false;
                self.rank();
                Ok(())
            }
            Sending::Open { left: Some(_) } | Sending::Tunnel => Err(Misuse::NoTrailers),
            _ => self.finish(out),
        }
    }

    /// An interim response (RFC 9110 §15.2; 101 does not exist here, RFC 9113 §8.6).
    pub(crate) fn inform(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if self.stream.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(100..=199).contains(&status) || status == 101 {
            return Err(Misuse::Status);
        }
        self.head(out, limits, Some(status), fields, None, false)?;
        if status == 100 {
            self.stream.continue_due = false;
        }
        Ok(())
    }

    /// 200 to CONNECT, plain or extended: from here on, content is the handler's (RFC 9113 §8.5, RFC 8441 §5).
    pub(crate) fn upgrade(
        &mut self,
        out: &mut impl Sink,
        limits: &Limits,
        _protocol: &str,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if self.stream.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !self.stream.is_connect {
            return Err(Misuse::NoUpgrade);
        }
        self.head(out, limits, Some(200), fields, None, false)?;
        (self.stream.sending, self.stream.tunnel) = (Sending::Tunnel, true);
        Ok(())
    }
}

/// Most bytes that a head takes, if it may be sent.
fn size_of(limits: &Limits, fields: Fields<'_>) -> Result<usize, Misuse> {
    let mut size = 64usize; // :status, content-length, size updates
    let mut weight = 64u64;
    for (name, value) in fields {
        check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
        if value.len() as u64 > limits.get(Limit::FieldValueBytes) {
            return Err(Misuse::HeadTooLarge);
        }
        size = size.saturating_add(pack::Encoder::bound(name.len(), value.len()));
        weight = weight.saturating_add((name.len() + value.len() + 4) as u64);
    }
    if weight > limits.get(Limit::ResponseHeadBytes) {
        return Err(Misuse::HeadTooLarge);
    }
    Ok(size)
}

/// The last head, as it was said and as it was coded: the same one again needs neither a check nor a search in the table.
#[derive(Debug, Default)]
pub(crate) struct LastHead {
    status: Option<u16>,
    version: Option<u32>,
    text: Vec<u8>,
    block: Vec<u8>,
    /// The last content-length, coded.
    length: (u64, Vec<u8>),
}

/// Text of a head that is remembered, at most.
const MOST_LAST: usize = 512;

impl LastHead {
    pub(crate) fn retained_bytes(&self) -> usize {
        self.text.capacity() + self.block.capacity() + self.length.1.capacity()
    }

    #[inline]
    fn is(&self, status: Option<u16>, fields: Fields<'_>, version: u32) -> bool {
        if self.status != status || self.version != Some(version) {
            return false;
        }
        let mut rest = &self.text[..];
        for (name, value) in fields {
            if name.len().max(value.len()) > 255 {
                return false; // `put` takes none of these, and their lengths do not fit
            }
            let text = rest
                .strip_prefix(&[name.len() as u8, value.len() as u8])
                .and_then(|rest| rest.strip_prefix(name.as_bytes()))
                .and_then(|rest| rest.strip_prefix(value.as_bytes()));
            match text {
                Some(text) => rest = text,
                None => return false,
            }
        }
        rest.is_empty()
    }

    fn put(&mut self, status: Option<u16>, fields: Fields<'_>, version: u32, block: &[u8]) {
        let len: usize = fields.iter().map(|f| f.0.len() + f.1.len() + 2).sum();
        if len > MOST_LAST || fields.iter().any(|f| f.0.len().max(f.1.len()) > 255) {
            return;
        }
        self.version = None;
        if reserve(&mut self.text, len).is_err() || reserve(&mut self.block, block.len()).is_err() {
            return; // it is made again
        }
        self.text.clear();
        for (name, value) in fields {
            self.text.extend_from_slice(&[name.len() as u8, value.len() as u8]);
            self.text.extend_from_slice(name.as_bytes());
            self.text.extend_from_slice(value.as_bytes());
        }
        self.block.clear();
        self.block.extend_from_slice(block);
        (self.status, self.version) = (status, Some(version));
    }
}

impl Streams {
    /// Code of the reset by which a stream that its handler gave up is ended.
    pub(crate) fn abort_code(broken: bool) -> u32 {
        if broken { super::frame::INTERNAL_ERROR } else { CANCEL }
    }
}
