//! In: things that come and go. Out: a key for each, that never finds another one.

/// Names an entry of [`Slots`]; the entry that has its place later has another key.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    slot: u32,
    generation: u32,
}

impl Key {
    /// Its place, from 0 on: for tables beside the slots.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// As one number, for kernels that carry one.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// From [`Key::to_bits`].
    pub fn from_bits(bits: u64) -> Key {
        Key { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A table whose free places are used again, last in, first out, so that a worker stays in warm memory.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { places: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    /// Makes an entry that knows its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        self.len += 1;
        let mut key = Key { slot, generation: 0 };
        if let Some(place) = self.places.get_mut(slot as usize) {
            key.generation = place.0;
            place.1 = Some(make(key));
        }
        key
    }

    /// The entry of this key, if it is still there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.slot())?;
        if place.0 == key.generation { place.1.as_mut() } else { None }
    }

    /// Whoever has this place now.
    pub fn at(&mut self, slot: usize) -> Option<(Key, &mut T)> {
        let (generation, entry) = self.places.get_mut(slot)?;
        Some((Key { slot: slot as u32, generation: *generation }, entry.as_mut()?))
    }

    /// Takes an entry out; its key is dead from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.slot())?;
        if place.0 != key.generation {
            return None;
        }
        let entry = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.slot);
        self.len -= 1;
        Some(entry)
    }

    /// The keys of all entries, by place.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let here = self.places.iter().enumerate().filter(|(_, place)| place.1.is_some());
        here.map(|(slot, place)| Key { slot: slot as u32, generation: place.0 })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_key_finds_nobody_though_its_place_is_taken_again() {
        let mut slots = Slots::default();
        let a = slots.insert_with(|_| 'a');
        let b = slots.insert_with(|_| 'b');
        assert_eq!((slots.remove(a), slots.remove(a), slots.len()), (Some('a'), None, 1));
        let c = slots.insert_with(|key| if key == a { 'x' } else { 'c' });
        assert_eq!(c.slot(), a.slot());
        assert_eq!(
            (slots.get_mut(a).copied(), slots.get_mut(c).copied(), slots.get_mut(b).copied()),
            (None, Some('c'), Some('b'))
        );
        assert_eq!(slots.at(c.slot()).map(|(key, entry)| (key, *entry)), Some((c, 'c')));
        assert_eq!(slots.keys().collect::<Vec<_>>(), [c, b]);
        assert_eq!(Key::from_bits(c.to_bits()), c);
    }
}
