//! Stage 5, decode. In: the bytes of a body as they were sent. Out: content without its coding, text known to be UTF-8, values
//! read from JSON and forms, parts of a multipart body; or the rule that the body breaks, and where.
//!
//! ```text
//!            coding::Decoder              text::Utf8
//! coded ──▶ gzip │ zlib ──▶ plain bytes ──▶ text ──▶ json::check ──▶ json::from_slice ──▶ T
//!                  │
//!               guard: caps and ratios, asked before every byte of output
//!
//! Content-Type ──▶ media::MediaType ──▶ which of these:
//!            form::Form, form::pairs, form::from_slice     application/x-www-form-urlencoded, and queries
//!            multipart::Multipart                          multipart/form-data
//! ```
//!
//! Each machine stands alone: none knows where its bytes come from. [`coding::Coding`], [`text`], [`json`],
//! [`media`], [`form`] and [`multipart`] need no allocator; decoders and jobs do, for their windows.

pub mod coding;
pub mod form;
#[cfg(feature = "alloc")]
mod guard;
#[cfg(feature = "alloc")]
pub mod job;
pub mod json;
pub mod media;
pub mod multipart;
pub mod text;
