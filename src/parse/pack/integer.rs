//! In: bytes, and how many bits of the first belong to an integer; or the integer. Out: the other (RFC 7541 §5.1;
//! RFC 9204 §4.1.1).

use super::Fault;
use alloc::vec::Vec;

/// The largest value that is read: more than any table, string or index has use for.
pub const MOST: u32 = (1 << 31) - 1;

/// Bytes that [`encode`] may append.
pub const MOST_BYTES: usize = 6;

/// How many continuation bytes may follow the prefix.
const CONTINUATION: usize = 5;

const fn mask(prefix: u8) -> u8 {
    0xff >> (8u8.saturating_sub(prefix) & 7)
}

/// Takes an integer off the front of `bytes`, whose first byte holds the integer's beginning in its low `prefix` bits
/// (1 to 8). What the other bits mean is the caller's.
///
/// # Errors
/// [`Fault::Truncated`], and [`Fault::Integer`] after five continuation bytes or above [`MOST`]. Needless zeros are no
/// fault within that.
#[inline(always)]
pub fn decode(bytes: &mut &[u8], prefix: u8) -> Result<u32, Fault> {
    let (&first, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
    let mask = mask(prefix);
    let mut value = u32::from(first & mask);
    *bytes = rest;
    if value == u32::from(mask) {
        (value, *bytes) = continued(rest, mask)?;
    }
    Ok(value)
}

#[inline(never)]
fn continued(mut bytes: &[u8], prefix: u8) -> Result<(u32, &[u8]), Fault> {
    let mut value = u64::from(prefix);
    for i in 0..CONTINUATION {
        let (&byte, rest) = bytes.split_first().ok_or(Fault::Truncated)?;
        bytes = rest;
        value += u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return if value <= u64::from(MOST) { Ok((value as u32, rest)) } else { Err(Fault::Integer) };
        }
    }
    Err(Fault::Integer)
}

/// Appends `value` with its beginning in the low `prefix` bits (1 to 8) of a first byte that holds `flags` above them.
#[inline]
pub fn encode(out: &mut Vec<u8>, flags: u8, prefix: u8, value: u32) {
    let mask = mask(prefix);
    if value < u32::from(mask) {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask);
    let mut rest = value - u32::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 §5.1 as it is written there, in numbers that cannot overflow.
    fn naive(bytes: &[u8], prefix: u32) -> Option<(u128, usize)> {
        let most = (1u128 << prefix) - 1;
        let mut value = u128::from(*bytes.first()?) & most;
        if value < most {
            return Some((value, 1));
        }
        for (i, &b) in bytes.iter().enumerate().skip(1) {
            value += u128::from(b & 127) << (7 * (i - 1));
            if b & 128 == 0 {
                return Some((value, i + 1));
            }
        }
        None
    }

    fn agree(bytes: &[u8]) {
        for prefix in 1..=8u8 {
            let mut rest = bytes;
            let ours = decode(&mut rest, prefix);
            match naive(bytes, u32::from(prefix)) {
                Some((value, used)) if used <= 6 && value <= u128::from(MOST) => {
                    assert_eq!((ours, bytes.len() - rest.len()), (Ok(value as u32), used), "{bytes:x?} {prefix}");
                }
                Some(_) => assert_eq!(ours, Err(Fault::Integer), "{bytes:x?} {prefix}"),
                None if bytes.len() < 6 => assert_eq!(ours, Err(Fault::Truncated), "{bytes:x?} {prefix}"),
                None => assert_eq!(ours, Err(Fault::Integer), "{bytes:x?} {prefix}"),
            }
        }
    }

    #[test]
    fn every_short_string_reads_as_the_rfc_says() {
        agree(&[]);
        for a in 0..=255u8 {
            agree(&[a]);
            for b in 0..=255u8 {
                agree(&[a, b]);
            }
        }
        for n in 0..1u32 << 24 {
            // A first byte below the prefix ends the matter, so all but a few are decided by the two-byte case.
            let [_, a, b, c] = n.to_be_bytes();
            if a.trailing_ones() > 0 {
                agree(&[a, b, c]);
            }
        }
    }

    #[test]
    fn boundaries_of_length_and_value() {
        let edge = [0u8, 1, 0x7f, 0x80, 0x81, 0xff];
        for pattern in 0..6usize.pow(6) {
            let mut bytes = [0xffu8; 7];
            let mut rest = pattern;
            for byte in &mut bytes[1..] {
                *byte = edge[rest % 6];
                rest /= 6;
            }
            for len in 4..=7 {
                agree(&bytes[..len]);
            }
        }
        let of = |mut bytes: &[u8]| decode(&mut bytes, 7);
        assert_eq!(of(&[0x7f, 0x80, 0xff, 0xff, 0xff, 0x07]), Ok(MOST));
        assert_eq!(of(&[0x7f, 0x81, 0xff, 0xff, 0xff, 0x07]), Err(Fault::Integer), "one more");
        assert_eq!(of(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00]), Ok(127), "needless zeros, short enough");
        assert_eq!(
            of(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80]),
            Err(Fault::Integer),
            "five continuation bytes and no end"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        for prefix in 1..=8u8 {
            for near in (0..31).map(|bit| 1u32 << bit).chain([0, 1337, 127, 128, 254, 255, 256, MOST]) {
                for value in near.saturating_sub(2)..=near.saturating_add(2).min(MOST) {
                    out.clear();
                    let flags = !mask(prefix);
                    encode(&mut out, flags, prefix, value);
                    assert!(out.len() <= MOST_BYTES);
                    assert_eq!(out[0] & flags, flags);
                    let mut rest = &out[..];
                    assert_eq!((decode(&mut rest, prefix), rest.len()), (Ok(value), 0));
                }
            }
        }
        // RFC 7541 §C.1.
        out.clear();
        encode(&mut out, 0, 5, 10);
        encode(&mut out, 0, 5, 1337);
        encode(&mut out, 0, 8, 42);
        assert_eq!(out, [10, 31, 154, 10, 42]);
    }
}
