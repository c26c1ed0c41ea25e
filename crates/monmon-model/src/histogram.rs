//! Times of many exchanges, as counts in fixed buckets, so that hours can be merged to days and checks to teams.

use std::collections::BTreeMap;

/// Times up to this many microseconds have a bucket each, and each doubling beyond has as many.
const PER_DOUBLING: u32 = 16;
const COUNT_BITS: u32 = 22;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// Counts of times by bucket. The middle of a bucket is never further than 1/32 from what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: BTreeMap<u32, u64>,
}

impl Histogram {
    /// The bucket of a time: by whole numbers alone, so that every store makes the same.
    pub fn bucket(us: u32) -> u32 {
        match us.checked_ilog2() {
            Some(power) if us >= PER_DOUBLING => {
                let shift = power - PER_DOUBLING.ilog2();
                PER_DOUBLING * (shift + 1) + (us >> shift) - PER_DOUBLING
            }
            _ => us,
        }
    }

    /// The least time of a bucket; that of the next one ends it.
    pub fn low(bucket: u32) -> u64 {
        match bucket {
            0..PER_DOUBLING => u64::from(bucket),
            _ => u64::from(PER_DOUBLING + bucket % PER_DOUBLING) << (bucket / PER_DOUBLING - 1).min(40),
        }
    }

    pub fn add(&mut self, us: u32) {
        *self.counts.entry(Histogram::bucket(us)).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// As stores keep it: an element for each bucket in order, 9 bits of bucket and 22 of count. A larger count is spread
    /// over several.
    pub fn packed(&self) -> Vec<i32> {
        let mut packed = Vec::with_capacity(self.counts.len());
        for (bucket, count) in &self.counts {
            let mut parts = Vec::new();
            let mut left = *count;
            while left > 0 {
                let part = u32::try_from(left).unwrap_or(COUNT_MAX).min(COUNT_MAX);
                parts.push(i32::try_from((bucket << COUNT_BITS) | part).unwrap_or(i32::MAX));
                left -= u64::from(part);
            }
            parts.sort_unstable();
            packed.extend(parts);
        }
        packed
    }

    /// What [`Histogram::packed`] has packed, or several of them one after the other.
    pub fn unpacked(packed: impl IntoIterator<Item = i32>) -> Histogram {
        let mut histogram = Histogram::default();
        for element in packed {
            let element = element.cast_unsigned();
            let count = u64::from(element & COUNT_MAX);
            *histogram.counts.entry(element >> COUNT_BITS).or_default() += count;
        }
        histogram
    }

    /// The time that this share of all took at most: the middle of its bucket. `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.count() as f64).ceil().max(1.0);
        let mut reached = 0;
        let holds = self.counts.iter().find(|(_, count)| {
            reached += *count;
            reached as f64 >= rank
        });
        let (bucket, _) = holds.or_else(|| self.counts.last_key_value())?;
        Some((Histogram::low(*bucket) + Histogram::low(bucket + 1) - 1) as f64 / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other() {
        let mut previous = 0;
        for us in (0..100_000).chain((17..31).map(|power| 1 << power)).chain([i32::MAX.cast_unsigned()]) {
            let bucket = Histogram::bucket(us);
            assert!((Histogram::low(bucket)..Histogram::low(bucket + 1)).contains(&u64::from(us)), "{us}");
            assert!(bucket >= previous && bucket < 512, "{us}");
            previous = bucket;
        }
    }

    /// The bound that is promised, for every bucket and both of its ends.
    #[test]
    fn no_time_is_further_than_a_thirty_second_from_the_middle_of_its_bucket() {
        for bucket in 0..448 {
            let (low, high) = (Histogram::low(bucket), Histogram::low(bucket + 1) - 1);
            let middle = (low + high) as f64 / 2.0;
            for us in [low, high] {
                assert!((middle - us as f64).abs() <= us as f64 / 32.0, "{bucket}: {us} and {middle}");
            }
        }
    }

    #[test]
    fn quantiles_of_merged_halves_are_near_the_exact_ones() {
        let mut times: Vec<u32> =
            (0..5_000_u64).map(|n| u32::try_from((n * 7_919 % 5_003).pow(2) + 3).expect("small")).collect();
        let mut halves = [Histogram::default(), Histogram::default()];
        for (place, us) in times.iter().enumerate() {
            halves[place % 2].add(*us);
        }
        let [mut all, other] = halves;
        all.merge(&other);
        let packed = all.packed();
        assert!(packed.is_sorted());
        assert_eq!(Histogram::unpacked(packed), all);
        times.sort_unstable();
        for (share, rank) in [(0.5, 2_499), (0.9, 4_499), (0.95, 4_749), (0.99, 4_949), (1.0, 4_999)] {
            let (exact, near) = (f64::from(times[rank]), all.quantile(share).expect("not empty"));
            assert!((near - exact).abs() <= exact / 32.0, "p{share}: {near} for {exact}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn counts_beyond_an_element_are_spread() {
        let mut one = Histogram::default();
        one.counts.insert(20, u64::from(COUNT_MAX) * 2 + 5);
        assert_eq!(one.packed().len(), 3);
        assert_eq!(Histogram::unpacked(one.packed()), one);
    }
}
