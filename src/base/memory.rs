//! In: what is to be kept. Out: the same on the heap; or that there is no memory (ENG-06).
//!
//! On stable Rust only `Vec` and `String` can be refused memory and live. Whatever a peer can make a connection hold is asked for through them.

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// There is no memory for it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoMemory;

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> NoMemory {
        NoMemory
    }
}

impl From<NoMemory> for super::Rule {
    fn from(_: NoMemory) -> super::Rule {
        super::Rule::NoMemory
    }
}

impl From<NoMemory> for super::Misuse {
    fn from(_: NoMemory) -> super::Misuse {
        super::Misuse::NoMemory
    }
}

/// A value on the heap, as in a `Box`: one pointer, which is never null.
#[derive(Debug)]
pub(crate) struct Held<T>(Box<[T; 1]>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Result<Held<T>, NoMemory> {
        let mut one = Vec::new();
        one.try_reserve_exact(1)?;
        one.push(value);
        <Box<[T; 1]>>::try_from(one).map(Held).map_err(|_| NoMemory) // it is one; nothing is moved, since it is full
    }

    #[cfg(feature = "tls")]
    pub(crate) fn into_inner(self) -> T {
        let [value] = *self.0;
        value
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        let [value] = &*self.0;
        value
    }
}

impl<T> DerefMut for Held<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        let [value] = &mut *self.0;
        value
    }
}

/// Room for `more`; the list grows as it does anyway, by doubling. Mostly there is room, and that is seen where it is asked.
#[inline]
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
    #[cold]
    #[inline(never)]
    fn grow<T>(list: &mut Vec<T>, more: usize) -> Result<(), NoMemory> {
        Ok(list.try_reserve(more)?)
    }
    if list.capacity() - list.len() < more { grow(list, more) } else { Ok(()) }
}

/// Appends `bytes`.
#[inline]
pub(crate) fn extend(buffer: &mut Vec<u8>, bytes: &[u8]) -> Result<(), NoMemory> {
    reserve(buffer, bytes.len())?;
    buffer.extend_from_slice(bytes);
    Ok(())
}

/// Appends one more.
#[inline]
pub(crate) fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), NoMemory> {
    reserve(list, 1)?;
    list.push(value);
    Ok(())
}

/// A copy that takes no more than it holds.
pub(crate) fn copy(bytes: &[u8]) -> Result<Vec<u8>, NoMemory> {
    let mut copied = Vec::new();
    copied.try_reserve_exact(bytes.len())?;
    copied.extend_from_slice(bytes);
    Ok(copied)
}

/// A copy of a text.
#[cfg(feature = "tls")]
pub(crate) fn copy_text(text: &str) -> Result<Box<str>, NoMemory> {
    let mut copied = alloc::string::String::new();
    copied.try_reserve_exact(text.len())?;
    copied.push_str(text);
    Ok(copied.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_as_large_as_a_box() {
        assert_eq!(size_of::<Option<Held<[u64; 9]>>>(), size_of::<usize>());
        let mut held = Held::new([1, 2]);
        held.iter_mut().for_each(|held| held[1] = 7);
        assert_eq!(held.map(|held| *held), Ok([1, 7]));
    }
}
