//! In: a `priority` field, or the value of PRIORITY_UPDATE. Out: who writes first (RFC 9218 §4, §5, §7).

/// What a client says about the order in which it wants its responses.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Priority {
    /// 0 first, 7 last; 3 when nothing is said (§4.1).
    pub urgency: u8,
    /// Parts of it are of use before the whole is there (§4.2).
    pub incremental: bool,
    /// The client has said something: one that never does gets its responses side by side.
    pub said: bool,
}

impl Default for Priority {
    fn default() -> Priority {
        Priority { urgency: 3, incremental: false, said: false }
    }
}

impl Priority {
    /// Reads a dictionary of RFC 8941 as far as its members matter here: `u=0` to `u=7`, `i`, `i=?0`, `i=?1`. What is unknown,
    /// out of range or of another type is ignored (§4), and what is no dictionary at all says nothing.
    pub fn parse(text: &[u8]) -> Priority {
        let mut priority = Priority { said: true, ..Priority::default() };
        for member in text.split(|&b| b == b',') {
            let member = super::super::semantics::trim(member);
            let bare = member.split(|&b| b == b';').next().unwrap_or_default(); // parameters mean nothing here
            match bare {
                [b'u', b'=', n @ b'0'..=b'7'] => priority.urgency = n - b'0',
                b"i" | b"i=?1" => priority.incremental = true,
                b"i=?0" => priority.incremental = false,
                _ => {}
            }
        }
        priority
    }

    /// Responses of this rank are written one after the other, in the order of their requests.
    pub const fn is_sequential(&self) -> bool {
        self.said && !self.incremental
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_known_count_and_others_do_not() {
        let of = |text: &str| {
            let p = Priority::parse(text.as_bytes());
            (p.urgency, p.incremental)
        };
        assert_eq!(of(""), (3, false));
        assert_eq!(of("u=0"), (0, false));
        assert_eq!(of("u=7, i"), (7, true));
        assert_eq!(of("i, u=1"), (1, true));
        assert_eq!(of("u=5;x=y,\ti=?1"), (5, true));
        assert_eq!(of("u=1, u=2"), (2, false), "the last one counts (RFC 8941 §3.2)");
        assert_eq!(of("i, i=?0"), (3, false));
        for ignored in ["u=8", "u=-1", "u=1.5", "u=\"1\"", "u", "U=1", "x=3, y", "i=1", "i=?2", "u=10", ",,,", "\u{7f}"]
        {
            assert_eq!(of(ignored), (3, false), "{ignored}");
        }
    }

    #[test]
    fn silence_is_no_order() {
        assert!(!Priority::default().is_sequential());
        assert!(Priority::parse(b"u=3").is_sequential());
        assert!(!Priority::parse(b"i").is_sequential());
    }
}
