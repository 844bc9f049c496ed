//! In: Huffman-coded text, or plain text. Out: the other (RFC 7541 §5.2 and Appendix B; RFC 9204 §4.1.2).
//!
//! The code is canonical: the codes of one length are consecutive, in the order of their symbols. So the lengths are
//! all there is to know, and every table is made from them when this is compiled.

use super::Fault;
use crate::base::memory::reserve;
use alloc::vec::Vec;

/// Bits of every symbol's code. The last symbol is EOS, which is never sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6,
    12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15,
    5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20,
    22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22,
    23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26,
    27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The code of every symbol, right-aligned.
static CODES: [u32; 257] = codes();

const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let (mut code, mut len) = (0, 1);
    while len <= 30 {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] == len {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    codes
}

/// Bits that one step of decoding looks at: enough for two symbols of six bits, and for every character that is common
/// in a field.
const WINDOW: u32 = 12;
const WINDOWS: usize = 1 << WINDOW;

/// What one look says, by the window's bits **inverted**: `bits used | (8 * symbols) << 8 | first symbol << 16 | second
/// symbol << 24`, or zero if the code is longer than the window. Inverted, because padding is ones (the beginning of
/// EOS): so a text may be thought to go on with zeros for ever, whose entry is zero, and the end needs no attention
/// while decoding.
static STEPS: [u32; WINDOWS] = steps();

const fn steps() -> [u32; WINDOWS] {
    let codes = codes();
    let mut firsts = [0u32; WINDOWS];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = LENGTHS[symbol] as u32;
        if bits <= WINDOW {
            let free = WINDOW - bits;
            let mut i = codes[symbol] << free;
            while i < (codes[symbol] + 1) << free {
                firsts[i as usize] = bits | 8 << 8 | (symbol as u32) << 16;
                i += 1;
            }
        }
        symbol += 1;
    }
    let mut steps = [0; WINDOWS];
    let mut window = 0;
    while window < WINDOWS {
        let first = firsts[window];
        let mut step = first;
        if first != 0 {
            // The bits shifted in are not known; a code that needs none of them is known nevertheless.
            let second = firsts[(window << (first & 0xff)) & (WINDOWS - 1)];
            if second != 0 && (first & 0xff) + (second & 0xff) <= WINDOW {
                step = (first & 0xffff) + (second & 0xffff) + (first & 0xff_0000) + ((second & 0xff_0000) << 8);
            }
        }
        steps[WINDOWS - 1 - window] = step;
        window += 1;
    }
    steps
}

/// The codes of one length above the window's.
#[derive(Copy, Clone)]
struct Long {
    /// The first code behind those of this length, left-aligned.
    end: u32,
    /// The first code of this length, left-aligned.
    first: u32,
    bits: u8,
    /// Where the symbols of this length begin in `symbols`.
    at: u8,
}

struct Longs {
    lengths: [Long; 14],
    symbols: [u8; 256],
}

/// For codes that do not fit the window: those are 13 to 30 bits long, and rare.
static LONGS: Longs = longs();

const fn longs() -> Longs {
    let codes = codes();
    let mut longs = Longs { lengths: [Long { end: 0, first: 0, bits: 0, at: 0 }; 14], symbols: [0; 256] };
    let (mut n, mut at, mut bits) = (0, 0, WINDOW as u8 + 1);
    while bits <= 30 {
        let (from, mut symbol) = (at, 0);
        while symbol < 256 {
            if LENGTHS[symbol] == bits {
                if at == from {
                    longs.lengths[n].first = codes[symbol] << (32 - bits as u32);
                }
                longs.symbols[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        if at > from {
            let first = longs.lengths[n].first;
            longs.lengths[n] =
                Long { end: first + (((at - from) as u32) << (32 - bits as u32)), first, bits, at: from as u8 };
            n += 1;
        }
        bits += 1;
    }
    assert!(n == 14 && at < 256);
    longs
}

/// The symbol of more than `WINDOW` bits at the front of `code`, and its length; none for EOS.
#[cold]
fn long(code: u32) -> Option<(u8, u32)> {
    let of = LONGS.lengths.iter().find(|l| code < l.end)?;
    let nth = code.checked_sub(of.first)? >> (32 - u32::from(of.bits));
    let symbol = LONGS.symbols.get(usize::from(of.at) + nth as usize)?;
    Some((*symbol, of.bits.into()))
}

/// Up to eight bytes that `coded` ends with, inverted, the first one on top, and zeros behind them.
#[inline]
fn last(coded: &[u8], len: usize) -> u64 {
    let all = if let Some(bytes) = coded.last_chunk::<8>() {
        !u64::from_be_bytes(*bytes)
    } else if let (Some(first), Some(last)) = (coded.first_chunk::<4>(), coded.last_chunk::<4>()) {
        // The two overlap, where they say the same.
        let first = u64::from(!u32::from_be_bytes(*first)) << (8 * (coded.len() - 4));
        first | u64::from(!u32::from_be_bytes(*last))
    } else {
        coded.iter().fold(0, |all, &b| all << 8 | u64::from(!b))
    };
    all.checked_shl(64 - 8 * len as u32).unwrap_or_default()
}

/// Appends the text that `coded` stands for: at most 8/5 of its length.
///
/// # Errors
/// [`Fault::Huffman`] if the padding is not fewer than eight ones, or if EOS is in the text. `out` may hold a part of
/// the text then. [`Fault::NoMemory`]: nothing was decoded.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    /// Looks at each word: four windows fit the 56 bits that are certain, and eight symbols fit a word.
    const LOOKS: usize = 4;

    reserve(out, coded.len() + coded.len() / 5 * 3 + 16)?;
    // The next bits, from the top, inverted; so many of them are counted; and the bytes whose bits are not.
    let (mut bits, mut held, mut rest) = (0u64, 0u32, coded);
    loop {
        // Bits that were there already, but not counted, come again as they were.
        let whole = ((63 - held) / 8) & 7;
        if let Some(word) = rest.first_chunk::<8>() {
            bits |= !u64::from_be_bytes(*word) >> held;
            rest = &rest[whole as usize..];
            held |= 56;
        } else if !rest.is_empty() {
            let whole = rest.len().min(whole as usize);
            bits |= last(coded, rest.len()) >> held;
            rest = &rest[whole..];
            held += 8 * whole as u32;
        }
        let (mut text, mut sums) = (0u64, 0u32);
        for _ in 0..LOOKS {
            let step = STEPS[(bits >> (64 - WINDOW)) as usize];
            text |= u64::from(step >> 16) << (sums >> 8);
            sums += step & 0xffff;
            bits <<= step & 0x3f;
        }
        let mut used = sums & 0xff;
        if used > 0 {
            let end = out.len() + (sums >> 11) as usize;
            out.extend_from_slice(&text.to_le_bytes());
            out.truncate(end);
        } else if bits != 0 || held >= 8 {
            let (symbol, len) = long(!(bits >> 32) as u32).ok_or(Fault::Huffman)?;
            out.push(symbol);
            bits <<= len;
            used = len;
        }
        held = held.checked_sub(used).ok_or(Fault::Huffman)?;
        if held < 8 && bits == 0 && rest.is_empty() {
            return Ok(());
        }
    }
}

/// How many bytes [`encode`] would append.
pub fn encoded_len(text: &[u8]) -> usize {
    len_with(text, |b| b)
}

/// Appends `text` in the code, padded with ones.
pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    encode_with(text, out, |b| b);
}

#[inline]
pub(super) fn len_with(text: &[u8], map: impl Fn(u8) -> u8) -> usize {
    let bits: u64 = text.iter().map(|&b| u64::from(LENGTHS[usize::from(map(b))])).sum();
    bits.div_ceil(8) as usize
}

#[inline]
pub(super) fn encode_with(text: &[u8], out: &mut Vec<u8>, map: impl Fn(u8) -> u8) {
    let (mut word, mut held) = (0u64, 0u32);
    for &b in text {
        let symbol = usize::from(map(b));
        let bits = u32::from(LENGTHS[symbol]);
        word = word << bits | u64::from(CODES[symbol]);
        held += bits;
        if held >= 32 {
            held -= 32;
            out.extend_from_slice(&((word >> held) as u32).to_be_bytes());
        }
    }
    // At most 31 bits are left: pad to whole bytes, and take those from the top.
    let padded = held.next_multiple_of(8);
    let word = (word << (padded - held) | ((1 << (padded - held)) - 1)) << (32 - padded);
    out.extend_from_slice((word as u32).to_be_bytes().get(..padded as usize / 8).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit: the codes are looked for in a list.
    fn naive(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let (mut code, mut len) = (0u32, 0u8);
        for bit in coded.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)) {
            (code, len) = (code << 1 | u32::from(bit), len + 1);
            if let Some(symbol) = (0..257).find(|&s| LENGTHS[s] == len && CODES[s] == code) {
                text.push(u8::try_from(symbol).ok()?);
                (code, len) = (0, 0);
            }
        }
        (len < 8 && code + 1 == 1 << len).then_some(text)
    }

    fn agree(coded: &[u8]) {
        let mut out = b"kept".to_vec();
        match (decode(coded, &mut out), naive(coded)) {
            (Ok(()), Some(text)) => assert_eq!(out, [b"kept", &text[..]].concat(), "{coded:x?}"),
            (Err(Fault::Huffman), None) => {}
            other => panic!("{coded:x?}: {other:?}"),
        }
    }

    #[test]
    fn short_strings_decode_as_bit_by_bit() {
        agree(&[]);
        for n in 0..=u16::MAX {
            let [a, b] = n.to_be_bytes();
            if a == 0 {
                agree(&[b]);
            }
            agree(&[a, b]);
        }
        // Every third byte that ends a code or a padding, behind a spread of first two; and all behind ones.
        for n in (0..1u32 << 24).step_by(257) {
            let [_, a, b, c] = n.to_be_bytes();
            agree(&[a, b, c]);
        }
        for n in 0..=u16::MAX {
            let [a, b] = n.to_be_bytes();
            agree(&[0xff, a, b]);
            agree(&[0xff, 0xff, a, b]);
        }
    }

    #[test]
    fn long_strings_decode_as_bit_by_bit() {
        let mut random = 1u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for round in 0..4_000 {
            let len = next() as usize % 40;
            let mut text: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            match round % 4 {
                0 => text.iter_mut().for_each(|b| *b = b'a' + *b % 26),
                1 => text.iter_mut().for_each(|b| *b = b"05<\\ \x00\xff\x0a"[usize::from(*b % 8)]),
                _ => {}
            }
            let mut coded = Vec::new();
            encode(&text, &mut coded);
            assert_eq!(coded.len(), encoded_len(&text));
            let mut back = Vec::new();
            assert_eq!(decode(&coded, &mut back), Ok(()));
            assert_eq!(back, text);
            assert_eq!(naive(&coded), Some(text));
            for _ in 0..4 {
                let mut bad = coded.clone();
                if let Some(at) = (next() as usize).checked_rem(bad.len()) {
                    bad[at] ^= 1 << (next() % 8);
                    agree(&bad);
                    agree(&bad[..at]);
                    bad.push(0xff);
                    agree(&bad);
                }
            }
            let noise: Vec<u8> = (0..len).map(|_| next() as u8).collect();
            agree(&noise);
        }
    }

    #[test]
    fn every_symbol_at_every_bit() {
        for symbol in 0..=255u8 {
            for before in 0..9 {
                for after in 0..3 {
                    let text = [&b"aaaaaaaaa"[..before], &[symbol], &b"&&&"[..after]].concat();
                    let mut coded = Vec::new();
                    encode(&text, &mut coded);
                    agree(&coded);
                    let mut back = Vec::new();
                    assert_eq!(decode(&coded, &mut back), Ok(()));
                    assert_eq!(back, text);
                }
            }
        }
    }

    #[test]
    fn the_code_is_complete() {
        let space: u64 = LENGTHS.iter().map(|&l| 1u64 << (30 - l)).sum();
        assert_eq!(space, 1 << 30, "every bit string begins with a code");
        assert_eq!((CODES[256], LENGTHS[256]), (0x3fff_ffff, 30), "EOS is ones");
        assert_eq!((CODES[usize::from(b'0')], CODES[usize::from(b'~')], CODES[255]), (0, 0x1ffd, 0x3ff_ffee));
    }

    #[test]
    fn padding() {
        for (coded, text) in [
            (&[0x1f][..], Ok(&b"a"[..])),
            (&[0x1e], Err(Fault::Huffman)),
            (&[0x1f, 0xff], Err(Fault::Huffman)),
            (&[0xff], Err(Fault::Huffman)),
            (&[0xf8, 0x00], Err(Fault::Huffman)),
            (&[0xf8, 0xff], Err(Fault::Huffman)),
            (&[0xf8], Ok(b"&")),
            (&[0xff, 0xff, 0xff, 0xff], Err(Fault::Huffman)),
            (&[0xff, 0xff, 0xff, 0xfc], Err(Fault::Huffman)),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(coded, &mut out).map(|()| &out[..]), text, "{coded:x?}");
        }
    }
}
