//! In: what a handler answers on one of many streams. Out: toy frames in the outbox, never more than the windows allow.
//!
//! A reply handle reaches one stream and the outbox, and yet it must obey the connection's window as well. So [`Streams::get`]
//! lends all of that window to the stream that is at hand, and takes back what is left of it when it lends the next time: no
//! shared ownership, no second argument in any call.

use crate::base::{FieldFault, Limit, Limits, Misuse};
use crate::parse::semantics::{check_field, may_be_trailer};
use crate::parse::{Content, Exchange};
use crate::read::OutboxMut;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;
/// Flag: nothing follows on this stream.
pub(crate) const END: u8 = 1;
/// Bytes of a frame's header over one byte stream: length, type, flags, stream.
pub(crate) const FRAME: usize = 8;
/// The same where the stream is known already: type, length.
pub(crate) const FRAME_H3: usize = 3;
/// What a stream may hold back of a small answer, so that `text` never fails for want of a window.
pub(crate) const PARK: usize = 1024;
/// What a peer may send on a stream, and on a connection, before credit comes back.
pub(crate) const STREAM_WINDOW: u32 = 65_536;
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 20;
/// Codes of RESET.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL: u32 = 2;
pub(crate) const CANCEL: u32 = 8;

type Fields<'f> = &'f [(&'f str, &'f str)];

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// One outbox for all streams, windows of our own.
    H2,
    /// One outbox a stream; the transport has the windows.
    H3,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Sending {
    Waiting,
    /// `left`: of what was declared. `whole`: ends by itself once all of it was taken.
    Open {
        left: Option<u64>,
        whole: bool,
    },
    /// A response to HEAD, 204, 304: its END is out.
    Silent,
    Done,
    Broken,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) shared: Exchange,
    framing: Framing,
    sending: Sending,
    is_head: bool,
    /// What the peer lets us send on this stream.
    pub(crate) window: u32,
    /// The connection's window, while this stream is at hand.
    purse: u32,
    parked: Vec<u8>,
    /// What the peer may still send here.
    pub(crate) room: u32,
    /// Lent with the last event, credit not yet due.
    pub(crate) lent: u32,
    /// A whole body as it comes.
    pub(crate) gather: Vec<u8>,
    pub(crate) body: u64,
}

#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) framing: Framing,
    pub(crate) open: Vec<Stream>,
    /// What the peer lets us send, all streams together, but for what is lent.
    window: u32,
    at_hand: u64,
}

impl Streams {
    pub(crate) fn new(framing: Framing) -> Streams {
        let window = if framing == Framing::H2 { CONNECTION_WINDOW } else { u32::MAX };
        Streams { framing, open: Vec::new(), window, at_hand: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn get(&mut self, id: u64) -> Option<&mut Stream> {
        self.settle();
        let window = self.window;
        let stream = self.open.iter_mut().find(|s| s.shared.id == id && !s.shared.aborted)?;
        (self.at_hand, self.window, stream.purse) = (id, 0, window);
        Some(stream)
    }

    /// What the stream at hand did not spend is the connection's again.
    fn settle(&mut self) {
        if let Some(stream) = self.open.iter_mut().find(|s| s.shared.id == self.at_hand) {
            self.window += core::mem::take(&mut stream.purse);
        }
        self.at_hand = 0;
    }

    /// The peer lets us send more.
    pub(crate) fn grow(&mut self, more: u32) {
        self.settle();
        self.window = self.window.saturating_add(more);
    }

    pub(crate) fn window(&mut self) -> u32 {
        self.settle();
        self.window
    }

    pub(crate) fn begin(&mut self, id: u64, window: u32, is_head: bool) {
        self.open.push(Stream {
            shared: Exchange { id, ..Exchange::default() },
            framing: self.framing,
            sending: Sending::Waiting,
            is_head,
            window,
            purse: 0,
            parked: Vec::new(),
            room: STREAM_WINDOW,
            lent: 0,
            gather: Vec::new(),
            body: 0,
        });
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Stream> {
        self.settle();
        let at = self.open.iter().position(|s| s.shared.id == id)?;
        Some(self.open.remove(at))
    }
}

/// Puts one frame, all or nothing.
pub(crate) fn frame(out: &mut OutboxMut<'_>, framing: Framing, kind: u8, flags: u8, id: u64, parts: &[&[u8]]) -> bool {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    if len + FRAME > out.room() {
        return false;
    }
    frame_header(out, framing, kind, flags, id, len);
    for part in parts {
        out.append(part);
    }
    true
}

fn frame_header(out: &mut OutboxMut<'_>, framing: Framing, kind: u8, flags: u8, id: u64, len: usize) {
    let [high, low] = (len as u16).to_be_bytes();
    match framing {
        Framing::H2 => {
            out.append(&[high, low, kind, flags]);
            out.append(&(id as u32).to_be_bytes());
        }
        Framing::H3 => {
            out.append(&[kind, high, low]);
            if flags & END != 0 {
                out.fin(); // the transport says it
            }
        }
    }
}

impl Stream {
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.sending, Sending::Done | Sending::Broken) && self.parked.is_empty()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.sending == Sending::Broken
    }

    /// Credit that is due to the peer: what it sent, and nobody holds any more.
    pub(crate) fn owed(&self) -> u32 {
        STREAM_WINDOW.saturating_sub(self.room).saturating_sub(self.shared.held).saturating_sub(self.lent)
    }

    /// Content bytes that would be taken now.
    fn allowed(&self, out: &OutboxMut<'_>) -> usize {
        let room = out.room().saturating_sub(FRAME).min(u16::MAX as usize);
        if self.parked.is_empty() { room.min(self.window.min(self.purse) as usize) } else { 0 }
    }

    /// Content of a short answer that is certain to be taken, with what may be parked or without.
    pub(crate) fn takes(&self, parked: bool) -> usize {
        self.window.min(self.purse) as usize + if parked { PARK } else { 0 }
    }

    /// Starved streams go on when both windows are open.
    pub(crate) fn can_go_on(&self, connection: u32) -> bool {
        self.window > 0 && connection > 0
    }

    fn head(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        (status, length): (u16, Option<u64>),
        fields: Fields<'_>,
        flags: u8,
    ) -> Result<(), Misuse> {
        let mut block = if status == 0 { String::new() } else { format!(":status {status}\n") };
        for (name, value) in fields {
            check_field(name, value.as_bytes()).map_err(Misuse::Field)?;
            block += &format!("{name}: {value}\n");
        }
        if let Some(n) = length {
            block += &format!("content-length: {n}\n");
        }
        if block.len() as u64 > limits.get(Limit::ResponseHeadBytes).min(u64::from(u16::MAX)) {
            return Err(Misuse::HeadTooLarge);
        }
        match frame(out, self.framing, HEADERS, flags, self.shared.id, &[block.as_bytes()]) {
            true => Ok(()),
            false => Err(Misuse::NoRoom),
        }
    }

    pub(crate) fn respond(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
        content: Content<'_>,
    ) -> Result<usize, Misuse> {
        if self.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(200..=599).contains(&status) {
            return Err(Misuse::Status);
        }
        let length = match content {
            Content::Whole(bytes) => Some(bytes.len() as u64),
            Content::Sized(n) => Some(n),
            Content::Streamed => None,
        };
        let bare = matches!(status, 204 | 304);
        if status == 204 && length.unwrap_or(0) > 0 {
            return Err(Misuse::TooMuchContent);
        }
        let silent = bare || self.is_head;
        let whole = matches!(content, Content::Whole(_));
        let flags = if silent || (whole && length == Some(0)) { END } else { 0 };
        self.head(out, limits, (status, length.filter(|_| !bare)), fields, flags)?;
        self.sending = match (silent, flags) {
            (true, _) if whole => Sending::Done,
            (true, _) => Sending::Silent,
            (false, END) => Sending::Done,
            _ => Sending::Open { left: length, whole },
        };
        match content {
            Content::Whole(bytes) if silent => Ok(bytes.len()),
            Content::Whole(bytes) if !bytes.is_empty() => self.write(out, bytes),
            _ => Ok(0),
        }
    }

    pub(crate) fn write(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8]) -> Result<usize, Misuse> {
        let (left, whole) = match self.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => return Ok(bytes.len()),
            Sending::Open { left: Some(left), .. } if bytes.len() as u64 > left => return Err(Misuse::TooMuchContent),
            Sending::Open { left, whole } => (left, whole),
        };
        let mut taken = 0;
        loop {
            let n = self.allowed(out).min(bytes.len() - taken);
            if n == 0 {
                break;
            }
            let ends = whole && left == Some((taken + n) as u64);
            self.data(out, &bytes[taken..taken + n], ends);
            taken += n;
        }
        let rest = &bytes[taken..];
        if whole
            && self.parked.is_empty()
            && rest.len() as u64 == left.unwrap_or(0) - taken as u64
            && rest.len() <= PARK
        {
            self.parked.extend_from_slice(rest); // a small answer never waits for its handler
            taken += rest.len();
        }
        let left = left.map(|left| left - taken as u64);
        self.sending = if whole && left == Some(0) { Sending::Done } else { Sending::Open { left, whole } };
        self.shared.starved = taken < bytes.len();
        Ok(taken)
    }

    fn data(&mut self, out: &mut OutboxMut<'_>, bytes: &[u8], ends: bool) {
        frame_header(out, self.framing, DATA, u8::from(ends), self.shared.id, bytes.len());
        out.append(bytes);
        self.window -= bytes.len() as u32;
        self.purse -= bytes.len() as u32;
    }

    /// What was parked goes out as the windows open.
    pub(crate) fn unpark(&mut self, out: &mut OutboxMut<'_>) {
        let parked = core::mem::take(&mut self.parked);
        let n = self.allowed(out).min(parked.len());
        if n > 0 {
            self.data(out, &parked[..n], n == parked.len());
        }
        self.parked.extend_from_slice(&parked[n..]);
    }

    pub(crate) fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
        match self.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => self.sending = Sending::Done,
            Sending::Open { left: Some(left), .. } if left > 0 => self.sending = Sending::Broken,
            Sending::Open { .. } => {
                if !frame(&mut out.reborrow(0), self.framing, DATA, END, self.shared.id, &[]) {
                    return Err(Misuse::NoRoom);
                }
                self.sending = Sending::Done;
            }
        }
        self.shared.starved = false;
        Ok(())
    }

    pub(crate) fn trailers(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if fields.iter().any(|f| !may_be_trailer(f.0.as_bytes())) {
            return Err(Misuse::Field(FieldFault::Trailer));
        }
        match self.sending {
            Sending::Open { left: None, .. } => {
                self.head(out, limits, (0, None), fields, END)?;
                self.sending = Sending::Done;
                self.shared.starved = false;
                Ok(())
            }
            Sending::Open { .. } => Err(Misuse::NoTrailers),
            _ => self.finish(out),
        }
    }

    pub(crate) fn inform(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        status: u16,
        fields: Fields<'_>,
    ) -> Result<(), Misuse> {
        if self.sending != Sending::Waiting {
            return Err(Misuse::AlreadyAnswered);
        }
        if !(100..=199).contains(&status) || status == 101 {
            return Err(Misuse::Status);
        }
        self.head(out, limits, (status, None), fields, 0)
    }

    /// 101 does not exist here (RFC 9113 §8.6), and the toys know no CONNECT.
    pub(crate) fn upgrade(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: &str, _: Fields<'_>) -> Result<(), Misuse> {
        Err(Misuse::NoUpgrade)
    }

    /// All the declared content is about to be put behind the head by other means: as one frame, whose header goes first.
    pub(crate) fn placed(&mut self, out: &mut OutboxMut<'_>, len: usize) -> Result<bool, Misuse> {
        match self.sending {
            Sending::Open { left: Some(left), .. } if left == len as u64 => {
                frame_header(out, self.framing, DATA, END, self.shared.id, len);
                self.window -= len as u32;
                self.purse -= len as u32;
            }
            Sending::Silent => {}
            _ => return Err(Misuse::TooMuchContent),
        }
        let sent = self.sending != Sending::Silent;
        self.sending = Sending::Done;
        Ok(sent)
    }
}
