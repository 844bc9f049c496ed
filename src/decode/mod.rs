//! Stage 5, decode. In: the bytes of a body as they were sent. Out: content without its coding, text known to be UTF-8, values
//! read from JSON or Protobuf; or the rule that the body breaks, and where.
//!
//! ```text
//!            coding::Decoder              text::Utf8
//! coded ──▶ gzip │ zlib ──▶ plain bytes ──▶ text ──▶ json::check ──▶ json::from_slice ──▶ T
//!                  │              ├──▶ protobuf::Reader ──▶ fields
//!                  │              └──▶ grpc::Messages ──▶ messages, each for a reader
//!               guard: caps and ratios, asked before every byte of output
//! ```
//!
//! Each machine stands alone: none knows where its bytes come from. [`coding::Coding`], [`text`], [`json`], [`protobuf`] and the
//! framing of [`grpc`] need no allocator; decoders and jobs do, for their windows.

pub mod coding;
pub mod grpc;

#[cfg(feature = "alloc")]
mod guard;
#[cfg(feature = "alloc")]
pub mod job;
pub mod json;
pub mod protobuf;
pub mod text;
