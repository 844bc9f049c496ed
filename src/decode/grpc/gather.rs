//! In: the content of a gRPC request in any pieces. Out: its messages, whole and decompressed: lent from the piece if one lies
//! there as it is, else from a buffer that the next one uses again.

use super::{Item, Messages};
use crate::base::{Limit, Limits, Rule, Violation};
use crate::decode::coding::{Coding, Decoder};
use crate::decode::grow::append;
use alloc::vec::Vec;

/// Puts messages together, one at a time, and decompresses those that are compressed.
///
/// The buffer grows with what came, never beyond [`Limit::ProtobufMessageBytes`]; a decoder is made at the first compressed
/// message. Both are kept for the next message, and with [`Gather::reset`] for the next request.
///
/// ```
/// use vestibule::Limits;
/// use vestibule::decode::coding::Coding;
/// use vestibule::decode::grpc::Gather;
///
/// let mut gather = Gather::new(Coding::Identity, &Limits::DEFAULT);
/// let mut texts = Vec::new();
/// for mut piece in [&b"\0\0\0\0\x02hi\0\0"[..], b"\0\0\x05th", b"ere"] {
///     while let Some(message) = gather.next(&mut piece)? {
///         texts.push(message.to_vec());
///     }
/// }
/// gather.finish()?;
/// assert_eq!(texts, [&b"hi"[..], b"there"]);
/// # Ok::<(), vestibule::Violation>(())
/// ```
#[derive(Debug)]
pub struct Gather {
    messages: Messages,
    coding: Coding,
    limits: Limits,
    /// The message that came is compressed.
    is_coded: bool,
    /// Where its content begins.
    start: u64,
    message: Vec<u8>,
    decoder: Option<Decoder>,
    failed: Option<Violation>,
}

impl Gather {
    /// At the start of the content. `coding` is what [`encoding`](super::encoding) makes of `grpc-encoding`, and
    /// [`Coding::Identity`] without that field.
    pub fn new(coding: Coding, limits: &Limits) -> Gather {
        Gather {
            messages: Messages::new(limits),
            coding,
            limits: limits.clone(),
            is_coded: false,
            start: 0,
            message: Vec::new(),
            decoder: None,
            failed: None,
        }
    }

    /// The same memory for another request.
    pub fn reset(&mut self, coding: Coding) {
        self.messages = Messages::new(&self.limits);
        self.coding = coding;
        self.message.clear();
        self.failed = None;
    }

    /// How many bytes were read.
    pub const fn offset(&self) -> u64 {
        self.messages.offset()
    }

    /// What it holds on the heap.
    pub fn retained_bytes(&self) -> usize {
        self.message.capacity() + self.decoder.as_ref().map_or(0, Decoder::retained_bytes)
    }

    /// The next message; `None` when `piece` is used up. What was read of `piece` is taken off its front.
    ///
    /// # Errors
    /// What [`Messages::next`] says; [`Rule::GrpcUnnamedEncoding`] at the flag of a compressed message where no coding was named;
    /// what the decoder says, by its offset in the content, or in the decompressed message for [`Rule::DecodedTooLarge`] and
    /// [`Rule::DecodedRatio`]; [`Rule::GrpcTooLarge`] at [`Limit::ProtobufMessageBytes`], if a message grows beyond it;
    /// [`Rule::DecoderPool`]: no memory. From then on always the same.
    pub fn next<'m, 'p: 'm>(&'m mut self, piece: &mut &'p [u8]) -> Result<Option<&'m [u8]>, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        match self.advance(piece) {
            Ok(None) => Ok(None),
            Ok(Some(Lent::Here)) => Ok(Some(&self.message)),
            Ok(Some(Lent::There(message))) => Ok(Some(message)),
            Err(violation) => {
                self.failed = Some(violation);
                Err(violation)
            }
        }
    }

    /// The content ends here: to be called when [`Gather::next`] gave `None`.
    ///
    /// # Errors
    /// As [`Messages::finish`]; or what [`Gather::next`] said.
    pub fn finish(&mut self) -> Result<(), Violation> {
        match self.failed {
            Some(violation) => Err(violation),
            None => self.messages.finish(),
        }
    }

    fn advance<'p>(&mut self, piece: &mut &'p [u8]) -> Result<Option<Lent<'p>>, Violation> {
        let mut whole = None;
        while let Some(item) = self.messages.next(piece)? {
            match item {
                Item::Start { compressed, len } => {
                    self.message.clear();
                    self.is_coded = compressed;
                    self.start = self.messages.offset();
                    if compressed {
                        self.begin()?;
                    } else if len as usize <= piece.len() {
                        // All of it is here: the next items are its only part, and its end.
                        whole = piece.get(..len as usize);
                    }
                }
                Item::Part(_) if whole.is_some() => {}
                Item::Part(part) if self.is_coded => self.inflate(part)?,
                Item::Part(part) => append(&mut self.message, part, self.limits.get(Limit::ProtobufMessageBytes))?,
                Item::End => {
                    if self.is_coded {
                        self.end()?;
                    }
                    return Ok(Some(whole.map_or(Lent::Here, Lent::There)));
                }
            }
        }
        Ok(None)
    }

    fn begin(&mut self) -> Result<(), Violation> {
        if self.coding == Coding::Identity {
            return Err(Violation::new(Rule::GrpcUnnamedEncoding, self.start.saturating_sub(5)));
        }
        match &mut self.decoder {
            Some(decoder) => decoder.reset(self.coding),
            None => self.decoder = Some(Decoder::new(self.coding)?),
        }
        Ok(())
    }

    fn inflate(&mut self, mut part: &[u8]) -> Result<(), Violation> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let most = self.limits.size(Limit::ProtobufMessageBytes);
        loop {
            // One byte more than there may be shows whether there is one.
            let room = most.saturating_sub(self.message.len()).saturating_add(1);
            let step = decoder.step(&self.limits, part, room).map_err(|v| in_content(v, self.start))?;
            part = part.get(step.consumed..).unwrap_or_default();
            let produced = decoder.window(step.produced);
            if self.message.len() + produced.len() > most {
                return Err(Violation::over(Rule::GrpcTooLarge, most as u64, &self.limits));
            }
            append(&mut self.message, produced, most as u64)?;
            if part.is_empty() && produced.is_empty() {
                return Ok(());
            }
        }
    }

    fn end(&mut self) -> Result<(), Violation> {
        match &mut self.decoder {
            Some(decoder) => decoder.end().map_err(|v| in_content(v, self.start)),
            None => Ok(()),
        }
    }
}

enum Lent<'p> {
    /// In the buffer.
    Here,
    /// In the piece.
    There(&'p [u8]),
}

fn in_content(violation: Violation, start: u64) -> Violation {
    match violation.rule {
        Rule::DecodedTooLarge | Rule::DecodedRatio => violation,
        _ => violation.shifted(start),
    }
}
