//! What a sink remembers.

use std::collections::{BTreeSet, HashMap};

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

    /// Those of these ids that are to be looked up, so that all of them are remembered then: where there is no room for
    /// that, all of them, and what was remembered is forgotten.
    pub fn unknown(&mut self, ids: BTreeSet<Uuid>) -> Vec<Uuid> {
        let unknown = ids.iter().filter(|id| !self.0.contains_key(id)).count();
        if self.0.len() + unknown > Memory::<T>::MAX {
            self.0.clear();
        }
        ids.into_iter().filter(|id| !self.0.contains_key(id)).collect()
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

    #[test]
    fn what_is_looked_up_together_is_remembered_together() {
        let mut memory = Memory::default();
        let id = |number: usize| Uuid::from_u128(number as u128);
        (1..Memory::<usize>::MAX).for_each(|number| memory.insert(id(number), number));
        // The second of the new ones is one too many, and the known one is still needed.
        let page = || [1, Memory::<usize>::MAX, Memory::<usize>::MAX + 1].map(id);
        assert_eq!(memory.unknown([id(1), id(Memory::<usize>::MAX)].into()), [id(Memory::<usize>::MAX)]);
        for wanted in memory.unknown(page().into()) {
            memory.insert(wanted, 0);
        }
        assert_eq!(page().map(|id| memory.get(id)), [Some(&0); 3]);
        assert!(memory.unknown(page().into()).is_empty());
    }
}
