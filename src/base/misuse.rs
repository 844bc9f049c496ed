//! In: what the caller did wrong. Out: a name for it. Never caused by what a peer sends.

/// The caller's fault. The machine is as it was before the call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misuse {
    /// This inbox is not the one that the last turn left bytes in, and they were not carried over.
    ForeignInbox,
    /// The inbox cannot hold one TLS record: [`Config::least_inbox_bytes`](crate::Config::least_inbox_bytes).
    InboxTooSmall,
    /// The outbox cannot hold one small answer: [`Config::least_outbox_bytes`](crate::Config::least_outbox_bytes).
    OutboxTooSmall,
    /// The exchange is over: answered, aborted, or taken back by the peer.
    Gone,
    /// A final response was given before.
    AlreadyAnswered,
    /// The content comes before its head.
    NotAnswered,
    /// Not a status that this call can send.
    Status,
    /// A field that may not be sent.
    Field(FieldFault),
    /// The response head is larger than `response_head_bytes`.
    HeadTooLarge,
    /// No room for it now: write the outbox, and answer in a later turn.
    NoRoom,
    /// More content than was declared. None of it was taken.
    TooMuchContent,
    /// Trailers need `Content::Streamed`.
    NoTrailers,
    /// The peer did not ask for that, or not for that protocol.
    NoUpgrade,
    /// There is no memory to say it. Where the head of a complete answer was said before, its stream is reset.
    NoMemory,
    /// No such job was handed out, or it came back before.
    UnknownJob,
}

/// Why a field cannot be sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FieldFault {
    /// The name is not a token (RFC 9110 §5.1).
    Name,
    /// The value holds CR, LF, NUL or another control byte, or begins or ends with white space (RFC 9110 §5.5).
    Value,
    /// The machine says this field itself: framing or hop-by-hop (RFC 9112 §6, RFC 9110 §7.6.1).
    Ours,
    /// It may not stand in a trailer section (RFC 9110 §6.5.1).
    Trailer,
}

impl core::fmt::Display for Misuse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Misuse::ForeignInbox => "the inbox is not the one that holds the unconsumed bytes",
            Misuse::InboxTooSmall => "the inbox cannot hold one TLS record",
            Misuse::OutboxTooSmall => "the outbox cannot hold one small answer",
            Misuse::Gone => "the exchange is over",
            Misuse::AlreadyAnswered => "the exchange has its final response",
            Misuse::NotAnswered => "content before its head",
            Misuse::Status => "not a status that this call can send",
            Misuse::Field(FieldFault::Name) => "a field name is not a token",
            Misuse::Field(FieldFault::Value) => "a field value holds what none may hold",
            Misuse::Field(FieldFault::Ours) => "framing and hop-by-hop fields are the machine's own",
            Misuse::Field(FieldFault::Trailer) => "a field that may not stand in a trailer section",
            Misuse::HeadTooLarge => "the response head is too large",
            Misuse::NoRoom => "no room in the outbox now",
            Misuse::TooMuchContent => "more content than was declared",
            Misuse::NoTrailers => "trailers need streamed content",
            Misuse::NoUpgrade => "the peer did not ask to upgrade",
            Misuse::NoMemory => "no memory",
            Misuse::UnknownJob => "no such job is out",
        })
    }
}

impl core::error::Error for Misuse {}
