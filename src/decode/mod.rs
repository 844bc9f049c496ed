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
//! allocator. Those that take a body in pieces are pulled: they take bytes from the front of a chunk until they have something to
//! tell, ask for the next chunk with `None`, and want to hear the end with `finish`.

pub mod coding;
pub mod form;
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
