//! In: short text. Out: the same, eight bytes at a time.

/// The text as little-endian words, the last one filled up with zeros: at least one.
#[inline]
pub(super) fn words(text: &[u8]) -> impl Iterator<Item = u64> {
    let (whole, _) = text.as_chunks::<8>();
    whole.iter().map(|word| u64::from_le_bytes(*word)).chain(core::iter::once_with(move || rest(text)))
}

/// The last word, which is not whole.
#[inline]
fn rest(text: &[u8]) -> u64 {
    if let Some(last) = text.last_chunk::<8>() {
        // Shifted twice, since nothing may be left of it.
        let gone = 8 - text.len() % 8;
        u64::from_le_bytes(*last) >> (7 * gone) >> gone
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        // The two overlap, where they say the same.
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (text.len() - 4));
        u64::from(u32::from_le_bytes(*first)) | last
    } else {
        text.iter().rev().fold(0, |all, &b| all << 8 | u64::from(b))
    }
}

/// Eight bytes, each in lower case if it is a letter of ASCII.
#[inline]
pub(super) const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    let low = word & !HIGH;
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let past_z = low + EACH * (0x7f - b'Z' as u64);
    word | (from_a & !past_z & !word & HIGH) >> 2
}

/// Whether `ours` is `text` in lower case.
#[inline]
pub(super) fn is_lower_of(ours: &[u8], text: &[u8]) -> bool {
    let (whole, of_text) = (ours.as_chunks::<8>().0, text.as_chunks::<8>().0);
    let same = |(ours, text): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*ours) == lower(u64::from_le_bytes(*text));
    ours.len() == text.len() && rest(ours) == lower(rest(text)) && whole.iter().zip(of_text).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_every_byte_once() {
        let text: Vec<u8> = (1..=40).collect();
        for len in 0..=text.len() {
            let mut all: Vec<u8> = words(&text[..len]).flat_map(u64::to_le_bytes).collect();
            assert!(all.len() > len && all.len() <= len + 8);
            assert!(all.split_off(len).iter().all(|&b| b == 0));
            assert_eq!(all, text[..len]);
        }
    }

    #[test]
    fn lower_case_is_asciis() {
        for b in 0..=255u8 {
            for (at, other) in [(0, 0u8), (3, 0xff), (7, b'Z'), (5, 0x80)] {
                let mut bytes = [other; 8];
                bytes[at] = b;
                assert_eq!(lower(u64::from_le_bytes(bytes)).to_le_bytes(), bytes.map(|b| b.to_ascii_lowercase()));
            }
            let (name, text) = ([b'a', b.to_ascii_lowercase(), b'-'], [b'A', b, b'-']);
            assert!(is_lower_of(&name, &text));
            assert_eq!(is_lower_of(&text, &name), text == name);
        }
    }
}
