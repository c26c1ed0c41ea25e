//! What a sink remembers.

use std::collections::HashMap;

use uuid::Uuid;

/// Facts by id of which a sink knows that they are stored, so that it does not store them again and again.
#[derive(Debug)]
pub struct Memory<T>(HashMap<Uuid, T>);

impl<T> Memory<T> {
    /// How many are remembered. Past it all are forgotten, which costs a few needless writes.
    pub const MAX: usize = 200_000;

    pub fn get(&self, id: Uuid) -> Option<&T> {
        self.0.get(&id)
    }

    pub fn insert(&mut self, id: Uuid, fact: T) {
        if self.0.len() >= Memory::<T>::MAX && !self.0.contains_key(&id) {
            self.0.clear();
        }
        self.0.insert(id, fact);
    }
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_has_a_bound() {
        let mut memory = Memory::default();
        let id = |number: usize| Uuid::from_u128(number as u128);
        (0..Memory::<usize>::MAX).for_each(|number| memory.insert(id(number), number));
        memory.insert(id(1), 7);
        assert_eq!((memory.get(id(0)), memory.get(id(1))), (Some(&0), Some(&7)));
        memory.insert(id(Memory::<usize>::MAX), 1);
        assert_eq!((memory.get(id(0)), memory.get(id(Memory::<usize>::MAX))), (None, Some(&1)));
    }
}
