//! Stage 5, decode. In: the bytes of a body as they were sent. Out: content without its coding, text known to be UTF-8, values
//! read from JSON, Protobuf and forms, parts of a multipart body; or the rule that the body breaks, and where.
//!
//! ```text
//!            coding::Decoder                          media::MediaType says which of these:
//! coded ──▶ gzip │ zlib │ br │ zstd ──▶ content ──┬──▶ text::Utf8, text::Text
//!                  │                              ├──▶ json::Tokenizer;  json::check ──▶ json::from_slice ──▶ T
//!               guard: caps and ratios,           ├──▶ form::Form;  form::pairs, form::from_slice ──▶ T
//!               asked before every output         ├──▶ multipart::Multipart ──▶ fields, files
//!                                                 ├──▶ protobuf::Reader ──▶ fields
//!                                                 └──▶ grpc::Messages ──▶ messages, each for a reader
//! ```
//!
//! Each machine stands alone: none knows where its bytes come from. All but decoders, jobs and `grpc::Gather` work without an
//! allocator; those that need memory borrow it as `scratch`, once, when they are made.
//!
//! Those that take a body in pieces are pulled, all in one way:
//!
//! - `next(&mut piece)` takes bytes from the front of a piece until it has something to tell, and asks for the next piece with
//!   `None`. The readers of text and forms want the limits here, the others when they are made.
//! - `finish()` hears that nothing follows, and says whether it may end there. Only [`json::Tokenizer`] and [`form::Form`] may
//!   have something left to tell then, which nothing but the end completes: they are asked until there is `None`.
//! - `offset()` is how many bytes were read. An error comes at the same offset however the body was cut, and from then on always.

pub mod coding;
pub mod form;
#[cfg(feature = "alloc")]
pub(crate) mod grow;
pub mod grpc;
#[cfg(feature = "alloc")]
mod guard;
#[cfg(feature = "alloc")]
pub mod job;
pub mod json;
pub mod media;
pub mod multipart;
pub mod protobuf;
pub mod text;
