//! HTTP/2 (RFC 9113), the server's side, by itself: frames become requests, content and trailers; answers become frames.
//!
//! `frame` knows the bytes, `state` what may come when, `ledger` who holds which byte of content, `guard` what is too
//! much. `receive` (with `blocks` and `settings`) and `send` meet in `streams`. Field compression is next door, in `pack`; what a section of
//! fields means, in `section`.

mod blocks;
mod frame;
mod guard;
mod ledger;
mod receive;
mod send;
mod settings;
mod state;
mod streams;

pub use frame::FrameHeader;
pub use ledger::{Account, Exceeded, Ledger};
pub use receive::Receiver;
pub use state::{Incoming, State, Verdict};
pub use streams::{Stream, Streams};

pub(crate) use frame::{
    CANCEL, NO_ERROR, PREFACE, REFUSED_STREAM, kind, put, put_goaway, put_reset, put_window_update,
};
pub(crate) use receive::Item;
pub(crate) use send::PROGRESS;
pub(crate) use streams::{At, Sending, is_unwanted, may_read_on};
