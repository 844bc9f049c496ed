//! In: messages and a status. Out: a response of gRPC: a head, framed messages, and trailers with the status. Beside `reply.rs`; what
//! needs no exchange lies in `decode/grpc`.

use crate::base::Misuse;
use crate::decode::grpc::{ACCEPT_ENCODING, CONTENT_TYPE, Code, PREFIX_BYTES, escape, prefix};
use crate::parse::Content;
use crate::reply::Reply;

/// Room in the outbox that messages leave for the trailers behind them.
const TRAILERS: u32 = 448;
/// The longest `grpc-message`, escaped, so that the trailers fit that room.
const MOST_MESSAGE: usize = 256;
/// A message up to this size is copied behind its prefix, so that both go out in one frame.
const SHORT: usize = 1_024;

/// gRPC, as [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) writes it. A unary response:
///
/// ```
/// # use vestibule::*;
/// use vestibule::decode::grpc::{CONTENT_TYPE, Code};
/// # fn answer(mut reply: Reply<'_>, message: &[u8]) -> Result<(), Misuse> {
/// reply.grpc_begin(CONTENT_TYPE)?;
/// let done = reply.grpc_message(message, 0)?;
/// if done == message.len() + 5 {
///     reply.grpc_end(Code::Ok, "")?;
/// } // else at `Writable`: reply.grpc_message(message, done)
/// # Ok(()) }
/// ```
impl Reply<'_> {
    /// Begins a response that has messages. `content_type` is that of the request, or
    /// [`CONTENT_TYPE`](crate::decode::grpc::CONTENT_TYPE). Who has metadata to send uses [`Reply::respond`] with
    /// `Content::Streamed`.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`].
    pub fn grpc_begin(&mut self, content_type: &str) -> Result<(), Misuse> {
        let fields = [("content-type", content_type), ("grpc-accept-encoding", ACCEPT_ENCODING)];
        self.respond(200, &fields, Content::Streamed).map(|_| ())
    }

    /// Writes a message with its prefix, from byte `done` of both on: 0 at first. Says how much is done now; the message is through
    /// at its length and 5. Until then `Writable` will follow, and the rest is for the same call with what it said.
    ///
    /// Many short messages are better written together, see [`Reply::grpc_write`].
    ///
    /// # Errors
    /// Nothing was taken; see [`Misuse`]. [`Misuse::TooMuchContent`]: the message is of 4 GiB or more.
    pub fn grpc_message(&mut self, message: &[u8], mut done: usize) -> Result<usize, Misuse> {
        let prefix = prefix(u32::try_from(message.len()).map_err(|_| Misuse::TooMuchContent)?);
        if done < PREFIX_BYTES {
            let mut first = [0; PREFIX_BYTES + SHORT];
            let front = message.get(..SHORT).unwrap_or(message);
            let len = PREFIX_BYTES + front.len();
            let (space, rest) = first.split_at_mut(PREFIX_BYTES);
            space.copy_from_slice(&prefix);
            rest.iter_mut().zip(front).for_each(|(to, from)| *to = *from);
            done += self.grpc_write(first.get(done..len).unwrap_or_default())?;
            if done < len {
                return Ok(done);
            }
        }
        match message.get(done.saturating_sub(PREFIX_BYTES)..) {
            Some(rest) if !rest.is_empty() => Ok(done.saturating_add(self.grpc_write(rest)?)),
            _ => Ok(done),
        }
    }

    /// Writes messages that have their prefixes already, as [`Reply::write`] writes content; what is put together in a buffer goes out
    /// in few frames, and clients count those that are small. The outbox keeps enough room for [`Reply::grpc_end`] in the same event.
    ///
    /// # Errors
    /// Nothing was taken; see [`Misuse`].
    pub fn grpc_write(&mut self, framed: &[u8]) -> Result<usize, Misuse> {
        let reserve = self.out.reserve().saturating_add(TRAILERS);
        let mut reply = Reply {
            id: self.id,
            exchanges: self.exchanges,
            out: self.out.reborrow(reserve),
            limits: self.limits,
            #[cfg(feature = "alloc")]
            coders: self.coders.as_deref_mut(),
        };
        reply.write(framed)
    }

    /// Ends the messages with a status. `message` is for people; of its escaped form no more than 256 bytes are sent.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`].
    pub fn grpc_end(&mut self, code: Code, message: &str) -> Result<(), Misuse> {
        let mut buffer = [0; MOST_MESSAGE];
        match escape(message, &mut buffer) {
            "" => self.trailers(&[("grpc-status", code.digits())]),
            text => self.trailers(&[("grpc-status", code.digits()), ("grpc-message", text)]),
        }
    }

    /// A response without messages, complete: its status stands in the head ("Trailers-Only"), and with it what encodings are taken.
    ///
    /// # Errors
    /// Nothing was written; see [`Misuse`].
    pub fn grpc_refuse(&mut self, code: Code, message: &str) -> Result<(), Misuse> {
        let mut buffer = [0; MOST_MESSAGE];
        let fields = [
            ("content-type", CONTENT_TYPE),
            ("grpc-status", code.digits()),
            ("grpc-accept-encoding", ACCEPT_ENCODING),
            ("grpc-message", escape(message, &mut buffer)),
        ];
        let len = if message.is_empty() { 3 } else { 4 };
        self.respond(200, fields.get(..len).unwrap_or(&fields), Content::Whole(b"")).map(|_| ())
    }
}
