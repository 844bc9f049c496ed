//! In: what a handler answers on one of many streams. Out: toy frames in that stream's outbox, whose transport has the windows.

use crate::base::{FieldFault, Limit, Limits, Misuse, Sink};
use crate::parse::semantics::{check_field, may_be_trailer};
use crate::parse::{Content, Exchange};
use crate::read::OutboxMut;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
/// Bytes of a frame's header: type, length.
pub(crate) const FRAME: usize = 3;

type Fields<'f> = &'f [(&'f str, &'f str)];

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
    sending: Sending,
    is_head: bool,
}

/// Every stream that is open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) open: Vec<Stream>,
}

impl Streams {
    pub(crate) fn get(&mut self, id: u64) -> Option<&mut Stream> {
        self.open.iter_mut().find(|s| s.shared.id == id && !s.shared.aborted)
    }

    pub(crate) fn begin(&mut self, id: u64, is_head: bool) {
        let shared = Exchange { id, ..Exchange::default() };
        self.open.push(Stream { shared, sending: Sending::Waiting, is_head });
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Stream> {
        let at = self.open.iter().position(|s| s.shared.id == id)?;
        Some(self.open.remove(at))
    }
}

/// The header of a frame; `ends`: nothing follows on this stream, and the transport says it.
fn header(out: &mut OutboxMut<'_>, kind: u8, len: usize, ends: bool) {
    let [high, low] = (len as u16).to_be_bytes();
    out.append(&[kind, high, low]);
    if ends {
        out.fin();
    }
}

impl Stream {
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.sending, Sending::Done | Sending::Broken)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.sending == Sending::Broken
    }

    /// Content of a short answer that is certain to be taken, as far as windows go.
    pub(crate) fn takes(&self, _parked: bool) -> usize {
        usize::from(u16::MAX)
    }

    fn head(
        &mut self,
        out: &mut OutboxMut<'_>,
        limits: &Limits,
        (status, length): (u16, Option<u64>),
        fields: Fields<'_>,
        ends: bool,
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
        if FRAME + block.len() > out.room() {
            return Err(Misuse::NoRoom);
        }
        header(out, HEADERS, block.len(), ends);
        out.append(block.as_bytes());
        if status > 0 {
            out.said(status); // 0: trailers
        }
        Ok(())
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
        let ends = silent || (whole && length == Some(0));
        self.head(out, limits, (status, length.filter(|_| !bare)), fields, ends)?;
        self.sending = match (silent, ends) {
            (true, _) if whole => Sending::Done,
            (true, _) => Sending::Silent,
            (false, true) => Sending::Done,
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
            let room = out.room().saturating_sub(FRAME).min(u16::MAX as usize);
            let n = room.min(bytes.len() - taken);
            if n == 0 {
                break;
            }
            header(out, DATA, n, whole && left == Some((taken + n) as u64));
            out.append(&bytes[taken..taken + n]);
            taken += n;
        }
        let left = left.map(|left| left - taken as u64);
        self.sending = if whole && left == Some(0) { Sending::Done } else { Sending::Open { left, whole } };
        self.shared.starved = taken < bytes.len();
        Ok(taken)
    }

    pub(crate) fn finish(&mut self, out: &mut OutboxMut<'_>) -> Result<(), Misuse> {
        match self.sending {
            Sending::Waiting => return Err(Misuse::NotAnswered),
            Sending::Done | Sending::Broken => return Err(Misuse::Gone),
            Sending::Silent => self.sending = Sending::Done,
            Sending::Open { left: Some(left), .. } if left > 0 => self.sending = Sending::Broken,
            Sending::Open { .. } => {
                out.fin();
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
                self.head(out, limits, (0, None), fields, true)?;
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
        self.head(out, limits, (status, None), fields, false)
    }

    /// 101 does not exist here (RFC 9114 §4.5), and the toy knows no CONNECT.
    pub(crate) fn upgrade(&mut self, _: &mut OutboxMut<'_>, _: &Limits, _: &str, _: Fields<'_>) -> Result<(), Misuse> {
        Err(Misuse::NoUpgrade)
    }

    /// All the declared content is about to be put behind the head by other means: as one frame, whose header goes first.
    pub(crate) fn placed(&mut self, out: &mut OutboxMut<'_>, len: usize) -> Result<bool, Misuse> {
        match self.sending {
            Sending::Open { left: Some(left), .. } if left == len as u64 => header(out, DATA, len, true),
            Sending::Silent => {}
            _ => return Err(Misuse::TooMuchContent),
        }
        let sent = self.sending != Sending::Silent;
        self.sending = Sending::Done;
        Ok(sent)
    }
}
