//! In: nothing that ships. Out: proof in code that one handler sees the same over every version of HTTP, and that every byte of
//! HTTP/2 has one holder: conversations with the real `Connection`, whose inside is looked at after every turn.
//!
//! [`h3`] is a toy with many streams at once, driven through the real `Event`, `Reply`, `Outbox` and `Config`: it shows that HTTP/3
//! fits the API as it is. It is a connection of its own, with a turn of the same shape, since its input comes as one ordered chunk
//! for each stream. Its frames and its field compression are toys; resets, early answers and back-pressure are not.

mod audit;
mod bounds;
mod crowd;
mod h3;
mod head;
mod order;
mod peer;
mod programs;
mod streams;
mod tests;
mod verdicts;

pub(crate) use streams::{Stream, Streams};

/// xorshift64*: every run the same.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
