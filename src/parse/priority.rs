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
    /// What `text` says, and nothing else.
    pub fn parse(text: &[u8]) -> Priority {
        Priority::default().and(text)
    }

    /// Reads one more line of a dictionary of RFC 8941, as far as its members matter here: `u=0` to `u=7`, `i`, `i=?0`, `i=?1`. The
    /// last of a name counts (§3.2 there); what is out of range or of another type is as if it had not been said, and what is
    /// unknown is ignored (§4).
    #[must_use]
    pub fn and(mut self, text: &[u8]) -> Priority {
        self.said = true;
        for member in members(text) {
            let member = super::semantics::trim(member);
            let bare = member.split(|&b| b == b';').next().unwrap_or_default(); // parameters mean nothing here
            let (name, value) = match bare.iter().position(|&b| b == b'=') {
                Some(i) => (&bare[..i], &bare[i + 1..]),
                None => (bare, &b"?1"[..]), // RFC 8941 §3.2: a member without a value is true
            };
            match name {
                b"u" => self.urgency = if let [n @ b'0'..=b'7'] = value { n - b'0' } else { 3 },
                b"i" => self.incremental = value == b"?1",
                _ => {}
            }
        }
        self
    }

    /// Responses of this rank are written one after the other, in the order of their requests.
    pub const fn is_sequential(&self) -> bool {
        self.said && !self.incremental
    }
}

/// The members of a dictionary: commas inside of strings part nothing (RFC 8941 §3.3.3).
fn members(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&b| {
        let parts = b == b',' && !quoted;
        quoted ^= b == b'"' && !escaped;
        escaped = quoted && b == b'\\' && !escaped;
        parts
    })
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
        assert_eq!(of("u=1, u=9"), (3, false), "even if it means nothing");
        assert_eq!(of("i, i=?0"), (3, false));
        assert_eq!(of("x=\"a, u=0, b\", u=5"), (5, false), "a string is one value");
        assert_eq!(of("x=\"a\\\", u=0\", u=5"), (5, false), "with what is escaped in it");
        for ignored in ["u=8", "u=-1", "u=1.5", "u=\"1\"", "u", "U=1", "x=3, y", "i=1", "i=?2", "u=10", ",,,", "\u{7f}"]
        {
            assert_eq!(of(ignored), (3, false), "{ignored}");
        }
    }

    #[test]
    fn two_lines_are_one_dictionary() {
        let both = Priority::parse(b"u=1").and(b"i");
        assert_eq!((both.urgency, both.incremental), (1, true));
    }

    #[test]
    fn silence_is_no_order() {
        assert!(!Priority::default().is_sequential());
        assert!(Priority::parse(b"u=3").is_sequential());
        assert!(!Priority::parse(b"i").is_sequential());
    }
}
