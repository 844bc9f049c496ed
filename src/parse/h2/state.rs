//! In: where a stream stands, and the frame that came on it. Out: what that does (RFC 9113 §5.1). The one table of the machine.
//!
//! ```text
//!                     HEADERS                     a server never pushes: there are no reserved streams
//!            Idle -------------> Open
//!             |                 /    \
//!  HEADERS +  |   END_STREAM   /      \   END_STREAM
//!  END_STREAM |   received    v        v  sent
//!             +--> HalfClosedRemote   HalfClosedLocal
//!                   | END_STREAM sent  | END_STREAM received
//!                   +------> Closed <--+
//!              RST_STREAM received: Closed        RST_STREAM sent: Reset, for a while, then Closed
//! ```

use crate::base::Rule;

/// Where a stream stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Nothing has come yet: its number is above all that came.
    #[default]
    Idle,
    /// Both sides may send.
    Open,
    /// We have ended our side: the peer may still send.
    HalfClosedLocal,
    /// The peer has ended its side.
    HalfClosedRemote,
    /// We have reset it not long ago: what is still on its way is ignored.
    Reset,
    /// It is over.
    Closed,
}

/// What can come on a stream.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A header section: of a request on an idle stream, of trailers on others.
    Headers {
        /// END_STREAM.
        ends: bool,
    },
    /// Content.
    Data {
        /// END_STREAM.
        ends: bool,
    },
    /// PRIORITY (RFC 9113 §6.3).
    Priority,
    /// RST_STREAM.
    Reset,
    /// WINDOW_UPDATE.
    WindowUpdate,
}

/// What that does.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is taken, and the stream stands here now.
    Go(State),
    /// It is counted and dropped.
    Ignore,
    /// It breaks a rule that reaches no further than the stream.
    Stream(Rule),
    /// It breaks a rule of the connection.
    Connection(Rule),
}

impl State {
    /// What comes, and what it does.
    pub const fn receive(self, what: Incoming) -> Verdict {
        use Incoming as In;
        use State as S;
        use Verdict::{Connection, Go, Ignore, Stream};
        match (self, what) {
            (S::Idle, In::Headers { ends: false }) => Go(S::Open),
            (S::Idle, In::Headers { ends: true }) => Go(S::HalfClosedRemote),
            (S::Idle, In::Priority) => Ignore,
            (S::Idle, _) => Connection(Rule::StreamIdle),

            (S::Open, In::Headers { ends: false }) => Stream(Rule::TrailersWithoutEnd), // §8.1
            (S::Open, In::Headers { ends: true } | In::Data { ends: true }) => Go(S::HalfClosedRemote),
            (S::Open, In::Data { ends: false } | In::WindowUpdate) => Go(S::Open),
            (S::Open, In::Reset) => Go(S::Closed),
            (S::Open, In::Priority) => Ignore,

            (S::HalfClosedLocal, In::Headers { ends: false }) => Stream(Rule::TrailersWithoutEnd),
            (S::HalfClosedLocal, In::Headers { ends: true } | In::Data { ends: true }) => Go(S::Closed),
            (S::HalfClosedLocal, In::Data { ends: false } | In::WindowUpdate) => Go(S::HalfClosedLocal),
            (S::HalfClosedLocal, In::Reset) => Go(S::Closed),
            (S::HalfClosedLocal, In::Priority) => Ignore,

            (S::HalfClosedRemote, In::Headers { .. } | In::Data { .. }) => Stream(Rule::StreamHalfClosed),
            (S::HalfClosedRemote, In::WindowUpdate) => Go(S::HalfClosedRemote),
            (S::HalfClosedRemote, In::Reset) => Go(S::Closed),
            (S::HalfClosedRemote, In::Priority) => Ignore,

            (S::Reset, _) => Ignore,

            // §5.1: RST_STREAM and WINDOW_UPDATE may have been under way when the stream ended.
            (S::Closed, In::Priority | In::Reset | In::WindowUpdate) => Ignore,
            (S::Closed, In::Headers { .. } | In::Data { .. }) => Connection(Rule::StreamClosed),
        }
    }

    /// We have sent END_STREAM.
    pub const fn end(self) -> State {
        match self {
            State::Open => State::HalfClosedLocal,
            State::HalfClosedRemote => State::Closed,
            other => other,
        }
    }

    /// The peer may still send a part of its message.
    pub const fn is_receiving(self) -> bool {
        matches!(self, State::Open | State::HalfClosedLocal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Closed, HalfClosedLocal, HalfClosedRemote, Idle, Open, Reset};

    const STATES: [State; 6] = [Idle, Open, HalfClosedLocal, HalfClosedRemote, Reset, Closed];

    /// Every pair, read off RFC 9113 §5.1 by hand: `>X` goes there, `.` is ignored, `sR` and `cR` break rule R of the stream or
    /// of the connection.
    const TABLE: [(&str, Incoming, [&str; 6]); 7] = [
        // what comes                                   Idle      Open     HalfLocal HalfRemote  Reset  Closed
        (
            "HEADERS",
            Incoming::Headers { ends: false },
            [">Open", "sTrailersWithoutEnd", "sTrailersWithoutEnd", "sStreamHalfClosed", ".", "cStreamClosed"],
        ),
        (
            "HEADERS end",
            Incoming::Headers { ends: true },
            [">HalfClosedRemote", ">HalfClosedRemote", ">Closed", "sStreamHalfClosed", ".", "cStreamClosed"],
        ),
        (
            "DATA",
            Incoming::Data { ends: false },
            ["cStreamIdle", ">Open", ">HalfClosedLocal", "sStreamHalfClosed", ".", "cStreamClosed"],
        ),
        (
            "DATA end",
            Incoming::Data { ends: true },
            ["cStreamIdle", ">HalfClosedRemote", ">Closed", "sStreamHalfClosed", ".", "cStreamClosed"],
        ),
        ("PRIORITY", Incoming::Priority, [".", ".", ".", ".", ".", "."]),
        ("RST_STREAM", Incoming::Reset, ["cStreamIdle", ">Closed", ">Closed", ">Closed", ".", "."]),
        (
            "WINDOW_UPDATE",
            Incoming::WindowUpdate,
            ["cStreamIdle", ">Open", ">HalfClosedLocal", ">HalfClosedRemote", ".", "."],
        ),
    ];

    #[test]
    fn every_pair_of_state_and_frame() {
        for (name, what, row) in TABLE {
            for (state, expected) in STATES.into_iter().zip(row) {
                let got = match state.receive(what) {
                    Verdict::Go(next) => std::format!(">{next:?}"),
                    Verdict::Ignore => ".".into(),
                    Verdict::Stream(rule) => std::format!("s{rule:?}"),
                    Verdict::Connection(rule) => std::format!("c{rule:?}"),
                };
                assert_eq!(got, expected, "{name} on a stream that is {state:?}");
            }
        }
    }

    #[test]
    fn no_stream_comes_back_to_life() {
        for what in TABLE.map(|row| row.1) {
            for over in [Closed, Reset] {
                assert!(!matches!(over.receive(what), Verdict::Go(_)), "{what:?} on {over:?}");
                assert!(!over.end().is_receiving());
            }
        }
    }

    #[test]
    fn both_ends_close_a_stream_in_either_order() {
        let ends = Incoming::Data { ends: true };
        assert_eq!(Open.end().receive(ends), Verdict::Go(Closed));
        assert_eq!(Open.receive(ends), Verdict::Go(HalfClosedRemote));
        assert_eq!(HalfClosedRemote.end(), Closed);
    }
}
