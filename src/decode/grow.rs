//! In: bytes that came, and how many may come at most. Out: a buffer that holds them, too; or that there is no memory.

use alloc::vec::Vec;

use crate::base::{Rule, Violation};

/// The least by which a buffer grows, unless less may come.
const LEAST: usize = 4_096;

/// Appends `bytes` to `buffer`, which may come to hold `most`.
///
/// It grows by half of what it holds, so that copies stay linear, but never ahead of what was received by more than that,
/// nor beyond what may ever come (ENG-06). That `bytes` are not too many is for the caller to see to.
///
/// # Errors
/// [`Rule::DecoderPool`] at what the buffer holds: no memory.
pub(crate) fn append(buffer: &mut Vec<u8>, bytes: &[u8], most: u64) -> Result<(), Violation> {
    let held = buffer.len();
    if buffer.capacity() - held < bytes.len() {
        let left = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(held);
        let more = (held / 2).max(LEAST).min(left).max(bytes.len());
        buffer.try_reserve_exact(more).map_err(|_| Violation::new(Rule::DecoderPool, held as u64))?;
    }
    buffer.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn grown(pieces: impl Iterator<Item = usize>, most: u64) -> (Vec<u8>, usize) {
        let (mut buffer, mut moves) = (Vec::new(), 0);
        for n in pieces {
            let (before, held) = (buffer.capacity(), buffer.len());
            append(&mut buffer, &[b'x'; 8_192][..n], most).unwrap();
            moves += usize::from(buffer.capacity() != before);
            let ahead = buffer.capacity() - buffer.len();
            assert!(ahead <= (held / 2).max(LEAST), "{ahead} bytes ahead of {}", buffer.len());
        }
        (buffer, moves)
    }

    // ENG-06
    #[test]
    fn it_grows_with_what_came_in_few_steps() {
        for size in [1, 100, 5_000] {
            let (buffer, moves) = grown(core::iter::repeat_n(size, 1_000_000 / size), 1 << 40);
            assert_eq!(buffer.len(), 1_000_000 / size * size);
            assert!(moves < 20, "{moves}");
        }
    }

    #[test]
    fn it_never_has_room_for_more_than_may_come() {
        for most in [1, 100, 4_096, 5_000, 100_000] {
            let (buffer, _) = grown(core::iter::repeat_n(1, most), most as u64);
            assert_eq!((buffer.len(), buffer.capacity()), (most, most));
        }
        let (buffer, _) = grown([10, 10].into_iter(), 15);
        assert_eq!(buffer.len(), 20, "what is too much is for the caller to refuse");
    }
}
