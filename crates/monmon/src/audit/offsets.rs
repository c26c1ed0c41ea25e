//! The offsets of stored batches: of each reader of a partition they tile its log. What they leave out is a hole only
//! where neither time nor another reader explains it.

use std::collections::{BTreeMap, BTreeSet};

use monmon_kafka::LogState;
use monmon_model::AuditOffsets;

use super::finding::{Finding, Findings, Kind};
use super::ledger::{Origin, Scope};

/// Where what lies lower was stored this much later, the topic was made anew or is read once more from further back.
const ANEW_US: i64 = 600_000_000;

/// The first and the last of some offsets.
type Span = (i64, i64);

/// What is known of the way into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything that was there to be read is stored: the logs say so, or there is one at most, and in order.
    Stored,
    /// Something between what is stored has not been stored yet: another writer has it.
    Behind,
    /// Partitions are read each at its own pace, and what is behind their newest batches is not known.
    Open,
}

#[derive(Debug, Default)]
pub(super) struct Offsets {
    pub(super) ranges: u64,
    /// The highest offset that was ever stored of each partition, also before the window; none where the log has none.
    known: BTreeMap<(String, i32), Option<i64>>,
    /// By topic and partition, and by who has read them.
    read: BTreeMap<(String, i32), BTreeMap<Origin, Vec<Run>>>,
    /// Where the logs themselves stand, if they were asked.
    pub(super) logs: BTreeMap<(String, i32), LogState>,
    /// A log has more than is stored of it.
    has_unread: bool,
    /// A log has messages, and nothing of it was ever stored.
    has_unseen: bool,
}

/// Offsets without a hole.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: i64,
    last: i64,
    /// When the batches with the first and the last of them were stored.
    first_stored_us: i64,
    last_stored_us: i64,
}

impl Offsets {
    /// A partition of which batches are stored, within the window or not.
    pub(super) fn know(&mut self, topic: String, partition: i32, last: i64) {
        self.known.insert((topic, partition), Some(last));
    }

    /// What Kafka has of a partition.
    pub(super) fn hold(&mut self, log: &LogState) {
        let key = (log.topic.clone(), log.partition);
        // What lies behind the log's end is of an older topic of this name.
        let older = self.known.get(&key).copied().flatten().filter(|last| *last < log.high);
        let last = self.last(&key).or(older);
        let is_unread = last.map_or(log.low, |last| last.saturating_add(1)) < log.high;
        self.has_unread |= is_unread;
        self.has_unseen |= is_unread && last.is_none();
        self.known.entry(key).or_insert(last);
    }

    /// Whether nothing can be on its way any more, of any check: nothing came through a log, or the logs say so.
    pub(super) fn is_all_stored(&self) -> bool {
        match self.logs.is_empty() {
            true => self.known.is_empty(),
            false => !self.has_unread,
        }
    }

    /// Whether there is a partition of which nothing was ever read, and that may have messages: partitions are numbered from 0.
    pub(super) fn has_unseen(&self) -> bool {
        self.has_unseen || self.partitions() > self.known.len()
    }

    /// How many partitions there are, as far as is known.
    fn partitions(&self) -> usize {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (topic, partition) in self.known.keys() {
            let upto = usize::try_from(*partition).unwrap_or(0).saturating_add(1);
            counts.entry(topic).and_modify(|count| *count = upto.max(*count)).or_insert(upto);
        }
        counts.into_values().fold(0, usize::saturating_add)
    }

    /// They come ordered by topic, partition and first offset.
    pub(super) fn add(&mut self, offsets: &AuditOffsets<'_>) {
        let AuditOffsets { topic, partition, pipeline, source, first, last, stored_us } = *offsets;
        self.ranges += 1;
        let known = self.known.entry((topic.to_owned(), partition)).or_default();
        *known = (*known).max(Some(last));
        let origin = Origin { pipeline: pipeline.to_owned(), source: source.to_owned() };
        let runs = self.read.entry((topic.to_owned(), partition)).or_default().entry(origin).or_default();
        match runs.last_mut() {
            Some(run) if first <= run.last.saturating_add(1) => {
                if last > run.last {
                    (run.last, run.last_stored_us) = (last, stored_us);
                }
            }
            _ => runs.push(Run { first, last, first_stored_us: stored_us, last_stored_us: stored_us }),
        }
    }

    /// The lowest and the highest stored offset of each partition.
    pub(super) fn covered(&self) -> impl Iterator<Item = (&(String, i32), (i64, i64))> {
        self.read.iter().filter_map(|(key, readers)| {
            let first = readers.values().filter_map(|runs| runs.first()).map(|run| run.first).min()?;
            let last = readers.values().filter_map(|runs| runs.last()).map(|run| run.last).max()?;
            Some((key, (first, last)))
        })
    }

    pub(super) fn last(&self, key: &(String, i32)) -> Option<i64> {
        self.read.get(key)?.values().filter_map(|runs| runs.last()).map(|run| run.last).max()
    }

    pub(super) fn way(&self, scope: &Scope) -> Way {
        let is_young = |pair: &[Run]| pair[1].first_stored_us >= scope.settled_us;
        let is_hole = |key: &(String, i32), pair: &[Run]| {
            let others = self.read[key].values().flatten().copied().collect();
            !divided((pair[0].last + 1, pair[1].first - 1), others).0.is_empty()
        };
        let is_behind = self.read.iter().any(|(key, readers)| {
            let pairs = readers.values().flat_map(|runs| runs.windows(2));
            pairs.filter(|pair| is_young(pair)).any(|pair| is_hole(key, pair))
        });
        match (is_behind, self.logs.is_empty()) {
            (true, _) => Way::Behind,
            (false, false) if !self.has_unread => Way::Stored,
            (false, _) if self.partitions() > 1 => Way::Open,
            (false, _) => Way::Stored,
        }
    }

    pub(super) fn judge(&self, scope: &Scope, findings: &mut Findings) {
        for ((topic, partition), readers) in &self.read {
            let mut miss = |kind: Kind, origin: &Origin, (first, last): Span| {
                let count = u64::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
                findings.add(kind, count, || Finding {
                    pipeline: Some(origin.pipeline.clone()),
                    source: Some(origin.source.clone()),
                    topic: Some(topic.clone()),
                    partition: Some(*partition),
                    first: Some(first),
                    last: Some(last),
                    ..Finding::default()
                });
            };
            // A hole that two readers have is one.
            let mut told = BTreeSet::new();
            for (origin, runs) in readers {
                for pair in runs.windows(2) {
                    let hole = (pair[0].last + 1, pair[1].first - 1);
                    let (before_us, behind_us) = (pair[0].last_stored_us, pair[1].first_stored_us);
                    // The batch between may be with another writer, or its retry lies beyond the window's end.
                    if behind_us >= scope.settled_us
                        || scope.is_at_an_end(before_us.min(behind_us), before_us.max(behind_us))
                    {
                        continue;
                    }
                    // What the group has not committed it reads again.
                    let committed = self.logs.get(&(topic.clone(), *partition)).and_then(|log| log.committed);
                    let is_read_again = committed.is_some_and(|committed| committed <= hole.0);
                    if is_read_again || before_us > behind_us.saturating_add(ANEW_US) {
                        miss(Kind::OffsetsNotProvable, origin, hole);
                        continue;
                    }
                    let others = readers.iter().filter(|(other, _)| *other != origin);
                    let others: Vec<Run> = others.flat_map(|(_, runs)| runs.iter().copied()).collect();
                    let (nobodys, elsewhere) = divided(hole, others);
                    nobodys
                        .into_iter()
                        .filter(|part| told.insert(*part))
                        .for_each(|part| miss(Kind::OffsetHole, origin, part));
                    elsewhere.into_iter().for_each(|part| miss(Kind::OffsetsNotProvable, origin, part));
                }
            }
        }
    }
}

/// Parts of a hole that no run covers, and those that one does.
fn divided((first, last): Span, mut runs: Vec<Run>) -> (Vec<Span>, Vec<Span>) {
    runs.sort_unstable_by_key(|run| run.first);
    let (mut without, mut within) = (Vec::new(), Vec::new());
    let mut next = first;
    for run in runs {
        let part = (run.first.max(next), run.last.min(last));
        if part.0 > part.1 {
            continue;
        }
        if part.0 > next {
            without.push((next, part.0 - 1));
        }
        within.push(part);
        next = part.1.saturating_add(1);
    }
    if next <= last {
        without.push((next, last));
    }
    (without, within)
}
