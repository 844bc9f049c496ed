//! UTF-8: TXT-01. Exhaustive over short sequences of interesting bytes, cut at every place, against `core::str`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use vestibule::decode::text::{Text, Utf8};
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

/// All parts joined, and how it ended. No part is empty; those of a piece are two at most, and lent from it but for the first.
fn text_in_pieces(pieces: &[&[u8]]) -> (String, Result<(), Violation>) {
    let (mut text, mut joined) = (Text::new(), String::new());
    for piece in pieces {
        let (mut rest, mut parts) = (*piece, 0);
        loop {
            match text.next(&mut rest) {
                Ok(None) => break assert!(rest.is_empty()),
                Ok(Some(part)) => {
                    let is_lent = piece.as_ptr_range().contains(&part.as_ptr());
                    assert!(!part.is_empty() && (is_lent || (parts == 0 && part.chars().count() == 1)));
                    joined.push_str(part);
                    parts += 1;
                }
                Err(violation) => {
                    assert_eq!(text.next(&mut &b"a"[..]), Err(violation), "it stays that way");
                    assert_eq!(text.next(&mut &b""[..]), Err(violation));
                    assert_eq!(text.finish(), Err(violation));
                    return (joined, Err(violation));
                }
            }
        }
        assert!(parts <= 2);
    }
    let end = text.finish();
    (joined, end)
}

/// What `core::str` makes of it: the longest front that is text, and the fault.
fn front(text: &[u8]) -> (String, Result<(), Violation>) {
    let good = std::str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
    (String::from_utf8(text[..good].to_vec()).unwrap(), expected(text))
}

// TXT-01
#[test]
fn every_sequence_of_up_to_four_border_bytes_at_every_cut() {
    let mut sequences: Vec<Vec<u8>> = vec![Vec::new()];
    for length in 0..=4 {
        for text in &sequences {
            let want = expected(text);
            let parts = front(text);
            assert_eq!(in_pieces(&[text]), want, "{text:x?}");
            assert_eq!(text_in_pieces(&[text]), parts, "{text:x?}");
            for a in 0..=length {
                assert_eq!(in_pieces(&[&text[..a], &text[a..]]), want, "{text:x?} cut at {a}");
                assert_eq!(text_in_pieces(&[&text[..a], &text[a..]]), parts, "{text:x?} cut at {a}");
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(in_pieces(&bytes), want, "{text:x?} byte by byte");
            assert_eq!(text_in_pieces(&bytes), parts, "{text:x?} byte by byte");
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
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

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
        prop_assert_eq!(text_in_pieces(&pieces), front(&text));
    }

    // A vector unit looks at many bytes at once: faults at each of their places, in texts of every mixture.
    #[test]
    fn long_texts_with_a_fault_anywhere(
        words in proptest::collection::vec(proptest::sample::select(&["plain text of ASCII ", "äöü", "漢字かな", "😀🍵", "\u{7ff}\u{800}\u{ffff}"][..]), 1..60),
        fault in proptest::option::of((any::<prop::sample::Index>(), proptest::sample::select(&[0x41u8, 0x80, 0xbf, 0xc0, 0xc3, 0xe0, 0xed, 0xf4, 0xff][..]))),
        cut in any::<prop::sample::Index>(),
        end in any::<prop::sample::Index>(),
    ) {
        let mut text = words.concat().into_bytes();
        if let Some((at, byte)) = fault {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text.truncate(end.index(text.len()) + 1);
        let (a, b) = text.split_at(cut.index(text.len() + 1));
        for pieces in [&[&text[..]][..], &[a, b]] {
            prop_assert_eq!(in_pieces(pieces), expected(&text));
            prop_assert_eq!(text_in_pieces(pieces), front(&text));
        }
    }
}
