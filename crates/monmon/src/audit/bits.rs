//! A set of numbers that mostly follow one another: a bit each, in pieces, so that a year of one check at one a minute
//! takes 64 KiB and a few far-off numbers cost no more than themselves.

use std::collections::BTreeMap;

const WORDS: usize = 16;
const PIECE: i64 = WORDS as i64 * 64;

#[derive(Debug, Default)]
pub(super) struct Bits {
    pieces: BTreeMap<i64, [u64; WORDS]>,
    count: u64,
}

impl Bits {
    /// False where it was there already.
    pub(super) fn add(&mut self, number: i64) -> bool {
        let (word, bit) = place(number);
        let piece = self.pieces.entry(number.div_euclid(PIECE)).or_default();
        let is_new = piece[word] & bit == 0;
        piece[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    pub(super) fn add_all(&mut self, other: &Bits) {
        for (piece, words) in &other.pieces {
            let into = self.pieces.entry(*piece).or_default();
            for (into, word) in into.iter_mut().zip(words) {
                self.count += u64::from((word & !*into).count_ones());
                *into |= word;
            }
        }
    }

    pub(super) fn remove_all(&mut self, other: &Bits) {
        for (piece, words) in &other.pieces {
            let Some(into) = self.pieces.get_mut(piece) else { continue };
            for (into, word) in into.iter_mut().zip(words) {
                self.count -= u64::from((word & *into).count_ones());
                *into &= !word;
            }
        }
    }

    pub(super) fn keep_all(&mut self, other: &Bits) {
        let pieces = std::mem::take(&mut self.pieces);
        self.count = 0;
        for (piece, mut words) in pieces {
            let Some(kept) = other.pieces.get(&piece) else { continue };
            for (word, kept) in words.iter_mut().zip(kept) {
                *word &= kept;
                self.count += u64::from(word.count_ones());
            }
            self.pieces.insert(piece, words);
        }
    }

    /// Takes away what is there from `first` up to and without `end`.
    pub(super) fn remove_range(&mut self, first: i64, end: i64) {
        if first >= end {
            return;
        }
        for (piece, words) in self.pieces.range_mut(first.div_euclid(PIECE)..=end.div_euclid(PIECE)) {
            for (at, word) in (0_i64..).zip(words) {
                let base = piece * PIECE + at * 64;
                // What of the 64 lies within.
                let from = (first - base).clamp(0, 64).unsigned_abs();
                let to = (end - base).clamp(0, 64).unsigned_abs();
                if from < to {
                    let upto = |bit: u64| if bit >= 64 { u64::MAX } else { (1 << bit) - 1 };
                    let gone = upto(to) & !upto(from);
                    self.count -= u64::from((*word & gone).count_ones());
                    *word &= !gone;
                }
            }
        }
    }

    pub(super) fn has(&self, number: i64) -> bool {
        let (word, bit) = place(number);
        self.pieces.get(&number.div_euclid(PIECE)).is_some_and(|piece| piece[word] & bit != 0)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn first(&self) -> Option<i64> {
        let (piece, words) = self.pieces.first_key_value()?;
        let word = words.iter().position(|word| *word != 0)?;
        Some(piece * PIECE + word as i64 * 64 + i64::from(words[word].trailing_zeros()))
    }

    pub(super) fn last(&self) -> Option<i64> {
        let (piece, words) = self.pieces.last_key_value()?;
        let word = words.iter().rposition(|word| *word != 0)?;
        Some(piece * PIECE + word as i64 * 64 + 63 - i64::from(words[word].leading_zeros()))
    }

    /// The greatest number before this one.
    pub(super) fn before(&self, number: i64) -> Option<i64> {
        // Nearly always within a few numbers.
        (1..=64).map(|back| number - back).find(|number| self.has(*number)).or_else(|| {
            let mut pieces = self.pieces.range(..=number.div_euclid(PIECE)).rev();
            pieces.find_map(|(piece, _)| {
                let first = piece * PIECE;
                (first..(first + PIECE).min(number)).rev().find(|number| self.has(*number))
            })
        })
    }

    /// Stretches of numbers that are not there, from `first` up to and without `end`.
    pub(super) fn holes(&self, first: i64, end: i64) -> Vec<(i64, i64)> {
        let mut holes = Vec::new();
        if first >= end {
            return holes;
        }
        let mut next = first;
        let pieces = self.pieces.range(first.div_euclid(PIECE)..=end.div_euclid(PIECE));
        for (piece, words) in pieces {
            for (at, word) in (0_i64..).zip(words) {
                let base = piece * PIECE + at * 64;
                let mut left = *word;
                while left != 0 {
                    let number = base + i64::from(left.trailing_zeros());
                    left &= left - 1;
                    if number < next {
                        continue;
                    }
                    if number >= end {
                        break;
                    }
                    if number > next {
                        holes.push((next, number - 1));
                    }
                    next = number + 1;
                }
            }
        }
        if next < end {
            holes.push((next, end - 1));
        }
        holes
    }

    /// How many there are from `first` up to and without `end`.
    pub(super) fn count_in(&self, first: i64, end: i64) -> u64 {
        if end <= first {
            return 0;
        }
        let missing: i64 = self.holes(first, end).iter().map(|(first, last)| last - first + 1).sum();
        u64::try_from(end - first - missing).unwrap_or(0)
    }
}

fn place(number: i64) -> (usize, u64) {
    let at = number.rem_euclid(PIECE);
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_joined_and_taken_away(some in prop::collection::btree_set(-500i64..2_500, 0..90), others in prop::collection::btree_set(-500i64..2_500, 0..90)) {
            let bits = |numbers: &BTreeSet<i64>| {
                let mut bits = Bits::default();
                for number in numbers {
                    bits.add(*number);
                }
                bits
            };
            let (mut joined, mut less) = (bits(&some), bits(&some));
            joined.add_all(&bits(&others));
            less.remove_all(&bits(&others));
            let mut both = bits(&some);
            both.keep_all(&bits(&others));
            for (bits, set) in [(joined, &some | &others), (less, &some - &others), (both, &some & &others)] {
                prop_assert_eq!(bits.count(), set.len() as u64);
                prop_assert!((-500..2_500).all(|number| bits.has(number) == set.contains(&number)));
            }
        }

        /// As a plain set.
        #[test]
        fn bits_are_a_set(numbers in prop::collection::vec(-3_000i64..3_000, 0..200), first in -3_100i64..3_100, len in 0i64..4_000) {
            let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(bits.add(number), set.insert(number));
            }
            let end = first + len;
            let missing: Vec<i64> = (first..end).filter(|number| !set.contains(number)).collect();
            let holes = bits.holes(first, end);
            let told: Vec<i64> = holes.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(told, missing);
            prop_assert!(holes.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            prop_assert_eq!(bits.count_in(first, end), set.range(first..end).count() as u64);
            prop_assert_eq!(bits.before(first), set.range(..first).next_back().copied());
            let mut less = Bits::default();
            less.add_all(&bits);
            less.remove_range(first, end);
            prop_assert_eq!(less.count(), (set.len() - set.range(first..end).count()) as u64);
            prop_assert!(set.iter().all(|number| less.has(*number) != (first..end).contains(number)));
            prop_assert_eq!((bits.first(), bits.last()), (set.first().copied(), set.last().copied()));
            prop_assert_eq!(bits.count(), set.len() as u64);
        }
    }
}
