//! In: bytes of a part and the delimiter that ends it. Out: how many of them are surely content, and how much of a
//! delimiter follows.

/// What was found in some bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// So many bytes are content.
    pub(super) content: usize,
    /// So many after them are the beginning of the delimiter, or all of it. If it is not all of it, the bytes end there.
    pub(super) matched: usize,
}

const BLOCK: usize = 64;

/// Looks for `CR LF "--" boundary`.
///
/// A delimiter holds one CR, its first byte: two candidates never overlap, so nothing is compared twice and the work is
/// linear. Most of the bytes are only looked at by blocks, for a CR with a dash two bytes later, in a loop that
/// compilers turn into vector instructions. Lines of text end with CR LF often, and then seldom begin with a dash.
pub(super) fn find(bytes: &[u8], delimiter: &[u8]) -> Found {
    let mut at = 0;
    while at < bytes.len() {
        at += clean(bytes.get(at..).unwrap_or_default());
        let end = at.saturating_add(BLOCK).min(bytes.len());
        while let Some(cr) = bytes.get(at..end).unwrap_or_default().iter().position(|b| *b == b'\r') {
            at += cr;
            let matched = alike(bytes.get(at..).unwrap_or_default(), delimiter);
            if matched == delimiter.len() || at + matched == bytes.len() {
                return Found { content: at, matched };
            }
            // The CR at least; and no other candidate begins in what is alike.
            at += matched.max(1);
        }
        at = at.max(end);
    }
    Found { content: bytes.len(), matched: 0 }
}

/// How many bytes both begin with.
pub(super) fn alike(bytes: &[u8], delimiter: &[u8]) -> usize {
    bytes.iter().zip(delimiter).take_while(|(a, b)| a == b).count()
}

/// How many whole blocks at the front hold no CR with a dash two bytes later, in bytes.
fn clean(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..)
        && let Some(here) = rest.first_chunk::<BLOCK>()
        && let Some(ahead) = rest.get(2..).and_then(|rest| rest.first_chunk::<BLOCK>())
    {
        let hits = here.iter().zip(ahead).fold(0, |hits, (a, b)| hits | (u8::from(*a == b'\r') & u8::from(*b == b'-')));
        if hits != 0 {
            break;
        }
        at += BLOCK;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, as one would write it down.
    fn naive(bytes: &[u8], delimiter: &[u8]) -> Found {
        let matched = |at: usize| alike(&bytes[at..], delimiter);
        let ends = |at: &usize| matched(*at) == delimiter.len() || matched(*at) > 0 && at + matched(*at) == bytes.len();
        match (0..bytes.len()).find(ends) {
            Some(at) => Found { content: at, matched: matched(at) },
            None => Found { content: bytes.len(), matched: 0 },
        }
    }

    proptest! {
        #[test]
        fn the_blocks_find_what_a_plain_search_finds(
            parts in prop::collection::vec(prop_oneof![
                Just(b"\r\n--bound".to_vec()),
                Just(b"\r\n--boun\r".to_vec()),
                Just(b"\r\n-\r\n--\r\n".to_vec()),
                prop::collection::vec(prop::sample::select(b"\r\n-bx".to_vec()), 0..9),
                prop::collection::vec(any::<u8>(), 0..200),
            ], 0..6),
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(find(&bytes, b"\r\n--bound"), naive(&bytes, b"\r\n--bound"));
        }
    }

    #[test]
    fn a_delimiter_is_found_at_any_place_and_so_is_its_beginning() {
        for before in 0..200 {
            let bytes = [vec![b'-'; before], b"\r\n--b".to_vec(), vec![b'\r'; 100]].concat();
            for cut in 0..bytes.len() {
                assert_eq!(find(&bytes[..cut], b"\r\n--b"), naive(&bytes[..cut], b"\r\n--b"), "{before}, {cut}");
            }
        }
    }
}
