//! UTF-8: TXT-01. Exhaustive over short sequences of interesting bytes, cut at every place, against `core::str`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use vestibule::decode::text::Utf8;
use vestibule::{Rule, Violation};

/// The borders of every range in the grammar of RFC 3629 §4, from both sides.
const BYTES: &[u8] = &[
    0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
    0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
];

fn in_pieces(pieces: &[&[u8]]) -> Result<(), Violation> {
    let mut utf8 = Utf8::new();
    pieces.iter().try_for_each(|piece| utf8.push(piece))?;
    utf8.finish()
}

/// What `core::str` says. It tells where the character began and how many of its bytes could have been right.
fn expected(text: &[u8]) -> Result<(), Violation> {
    let Err(error) = std::str::from_utf8(text) else { return Ok(()) };
    let start = error.valid_up_to();
    let at = match error.error_len() {
        None => text.len(),
        // The first byte itself, if it cannot begin anything.
        Some(1) if !could_begin(text[start]) => start,
        Some(length) => start + length,
    };
    Err(Violation::new(Rule::Utf8, at as u64))
}

fn could_begin(byte: u8) -> bool {
    (0xc2..=0xf4).contains(&byte)
}

// TXT-01
#[test]
fn every_sequence_of_up_to_four_border_bytes_at_every_cut() {
    let mut sequences: Vec<Vec<u8>> = vec![Vec::new()];
    for length in 0..=4 {
        for text in &sequences {
            let want = expected(text);
            assert_eq!(in_pieces(&[text]), want, "{text:x?}");
            for a in 0..=length {
                assert_eq!(in_pieces(&[&text[..a], &text[a..]]), want, "{text:x?} cut at {a}");
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(in_pieces(&bytes), want, "{text:x?} byte by byte");
        }
        if length < 4 {
            sequences = sequences.iter().flat_map(|s| BYTES.iter().map(|b| [&s[..], &[*b]].concat())).collect();
        }
    }
    assert_eq!(sequences.len(), BYTES.len().pow(4));
}

// TXT-01
#[test]
fn every_character_passes_and_every_sequence_of_two_bytes_is_judged_as_by_core() {
    for point in 0..=0x10_ffff {
        if let Some(c) = char::from_u32(point) {
            let mut buffer = [0; 4];
            let text = c.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(in_pieces(&text.chunks(1).collect::<Vec<_>>()), Ok(()), "{point:x}");
        }
    }
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(in_pieces(&[&[a], &[b]]), expected(&[a, b]), "{a:x} {b:x}");
        }
    }
}

// TXT-01
#[test]
fn the_error_is_told_with_the_byte_that_decides() {
    // Whatever is refused is refused by the push of that byte, not by a later one.
    for bad in [&b"ab\xe0\x9f"[..], b"ab\xed\xa0", b"ab\xf4\x90", b"ab\xc0", b"ab\xf0\x90\x80\x41"] {
        let mut utf8 = Utf8::new();
        let last = bad.len() - 1;
        assert_eq!(utf8.push(&bad[..last]), Ok(()), "{bad:x?}");
        assert_eq!(utf8.push(&bad[last..]), Err(Violation::new(Rule::Utf8, last as u64)), "{bad:x?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_in_any_pieces(
        text in proptest::collection::vec(any::<char>(), 0..40),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut text = String::from_iter(text).into_bytes();
        if let (Some((at, byte)), false) = (damage, text.is_empty()) {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(in_pieces(&pieces), expected(&text));
    }
}
