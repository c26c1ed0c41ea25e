//! Times of many exchanges as counts in buckets.

use std::collections::BTreeMap;

/// Times up to this many microseconds have a bucket each, and each doubling beyond has as many: the middle of a bucket is
/// never further than 1/32 from what is in it.
const PER_DOUBLING: u32 = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: BTreeMap<u32, u64>,
}

impl Histogram {
    pub(super) fn add(&mut self, us: u32) {
        *self.counts.entry(bucket(us)).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    /// The time in microseconds that this share took at most: the middle of its bucket.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let count: u64 = self.counts.values().sum();
        let mut rank = ((share * count as f64).ceil() as u64).max(1);
        for (bucket, count) in &self.counts {
            if *count >= rank {
                return Some((low(*bucket) + low(bucket + 1) - 1) as f64 / 2.0);
            }
            rank -= count;
        }
        None
    }
}

fn bucket(us: u32) -> u32 {
    match us.checked_ilog2() {
        Some(power) if us >= PER_DOUBLING => {
            let shift = power - PER_DOUBLING.ilog2();
            PER_DOUBLING * (shift + 1) + (us >> shift) - PER_DOUBLING
        }
        _ => us,
    }
}

/// The least time of a bucket.
fn low(bucket: u32) -> u64 {
    match bucket {
        0..PER_DOUBLING => u64::from(bucket),
        _ => u64::from(PER_DOUBLING + bucket % PER_DOUBLING) << (bucket / PER_DOUBLING - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn quantiles_are_near(mut times in proptest::collection::vec(0u32..10_000_000, 1..200)) {
            let mut histogram = Histogram::default();
            times.iter().for_each(|us| histogram.add(*us));
            times.sort_unstable();
            for share in [0.5, 0.9, 0.95, 0.99] {
                let rank = ((share * times.len() as f64).ceil() as usize).max(1);
                let (exact, told) = (f64::from(times[rank - 1]), histogram.quantile(share).unwrap());
                proptest::prop_assert!((told - exact).abs() <= exact * 0.032 + 0.5, "{told} for {exact}");
            }
        }
    }
}
