//! What the site's own access log says of a prober's schedule.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;

/// The window in which a herd shows.
const HERD_WINDOW_US: u64 = 10_000;

/// A line of the access log: what is needed of it.
#[derive(Deserialize)]
struct Line {
    accepted_us: u64,
    accepted_at: Timestamp,
    path: String,
    complete: bool,
}

/// How evenly the checks arrived within a span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrivals {
    pub(crate) count: u64,
    /// Of them, those that did not take their whole page.
    pub(crate) cut: u64,
    pub(crate) spacing: Option<Spacing>,
    /// Most arrivals in any 10 ms, and the mean of all such.
    pub(crate) peak: u64,
    pub(crate) mean: f64,
}

/// How far the distance between two arrivals of a check is from its interval, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spacing {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// Slots within the span at which a check did not arrive.
    pub(crate) missed: u64,
}

/// How many requests are in the log by now.
pub(crate) fn count(access_log: &Path) -> io::Result<usize> {
    Ok(BufReader::new(File::open(access_log)?).split(b'\n').count())
}

/// Reads the log between two instants. With an interval, also how well each of `checks` checks kept it.
pub(crate) fn between(
    access_log: &Path,
    from: Timestamp,
    to: Timestamp,
    schedule: Option<(u32, Duration)>,
) -> io::Result<Arrivals> {
    let mut all = Vec::new();
    let mut of_check: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut cut = 0;
    for line in BufReader::new(File::open(access_log)?).lines() {
        let line: Line = serde_json::from_str(&line?).map_err(io::Error::other)?;
        if line.accepted_at < from || line.accepted_at >= to {
            continue;
        }
        all.push(line.accepted_us);
        of_check.entry(line.path).or_default().push(line.accepted_us);
        cut += u64::from(!line.complete);
    }
    all.sort_unstable();
    let span_us = u64::try_from(to.duration_since(from).as_micros()).map_err(io::Error::other)?;
    let spacing = schedule.map(|(checks, interval)| {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        spacing(&mut of_check, checks, interval_us, span_us)
    });
    let count = all.len() as u64;
    let mean = count as f64 * HERD_WINDOW_US as f64 / span_us.max(1) as f64;
    Ok(Arrivals { count, cut, spacing, peak: peak(&all), mean })
}

fn spacing(
    of_check: &mut BTreeMap<String, Vec<u64>>,
    checks: u32,
    interval_us: u64,
    span_us: u64,
) -> Spacing {
    let whole_slots = span_us / interval_us;
    // A check that never came has missed all that fit.
    let absent = u64::from(checks).saturating_sub(of_check.len() as u64);
    let mut missed = absent * whole_slots;
    let mut errors = Vec::new();
    for arrivals in of_check.values_mut() {
        arrivals.sort_unstable();
        for pair in arrivals.windows(2) {
            let distance = pair[1] - pair[0];
            let slots = ((distance + interval_us / 2) / interval_us).max(1);
            errors.push(distance.abs_diff(slots * interval_us));
            missed += slots - 1;
        }
        // Before the first and behind the last there is no pair. Where no slot is missed the two ends together are
        // shorter than two intervals.
        let ends_us = span_us.saturating_sub(arrivals.last().copied().unwrap_or(0) - arrivals[0]);
        missed += (ends_us / interval_us).saturating_sub(2);
    }
    errors.sort_unstable();
    let quantile = |part: f64| {
        let place = (errors.len().saturating_sub(1) as f64 * part).round() as usize;
        errors.get(place).copied().unwrap_or(0)
    };
    Spacing { p50_us: quantile(0.5), p99_us: quantile(0.99), max_us: quantile(1.0), missed }
}

/// The most arrivals in any window, for sorted arrivals.
fn peak(arrivals: &[u64]) -> u64 {
    let mut start = 0;
    let mut most = 0;
    for (place, arrival) in arrivals.iter().enumerate() {
        while arrival - arrivals[start] >= HERD_WINDOW_US {
            start += 1;
        }
        most = most.max(place - start + 1);
    }
    most as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(arrivals: &[&[u64]]) -> BTreeMap<String, Vec<u64>> {
        arrivals.iter().enumerate().map(|(number, times)| (number.to_string(), times.to_vec())).collect()
    }

    #[test]
    fn spacing_is_the_distance_to_the_interval() {
        let mut of_check = checks(&[&[0, 1_000, 2_010, 3_000], &[500, 1_500, 2_500, 3_500]]);
        let expected = Spacing { p50_us: 0, p99_us: 10, max_us: 10, missed: 0 };
        assert_eq!(spacing(&mut of_check, 2, 1_000, 4_000), expected);
    }

    #[test]
    fn a_gap_is_a_missed_slot_and_no_large_error() {
        let mut of_check = checks(&[&[0, 1_000, 3_005, 4_000]]);
        let spacing = spacing(&mut of_check, 1, 1_000, 5_000);
        assert_eq!((spacing.missed, spacing.max_us), (1, 5));
    }

    #[test]
    fn absent_and_ending_checks_are_missed() {
        let mut of_check = checks(&[&[0, 1_000]]);
        assert_eq!(spacing(&mut of_check, 2, 1_000, 5_000).missed, 5 + 2);
    }

    #[test]
    fn the_peak_is_found_anywhere() {
        assert_eq!(peak(&[]), 0);
        assert_eq!(peak(&[0, 9_999, 10_000, 19_999, 20_500]), 2);
        assert_eq!(peak(&[5_000, 9_000, 14_000, 14_999]), 4);
    }
}
