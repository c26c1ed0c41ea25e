//! Sources that read what a sink has stored, from the first row to the last, and then end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};
use monmon_model::{Event, Measurement, Rejected, Selection};
use monmon_syntax::{Code, Late, Node, OptionSpec, Problem, Problems, ValueKind, World};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    Ack, AckTracker, Backoff, Batch, Emitter, Envelope, Source, StageContext, StageCounters, StageError,
};

/// How many rows may be under way at a time.
const IN_FLIGHT_MAX: u64 = 8_192;
/// `2026-01-31`
const DAY_CHARS: usize = 10;

/// What is wanted of a store: the options of every source that reads one.
pub const FROM_STORE: [OptionSpec; 3] = [
    OptionSpec {
        name: "since",
        kind: ValueKind::Text,
        help: "slots from here on: a day in UTC or an instant",
        example: r#"since="2026-01-01""#,
        ..OptionSpec::BLANK
    },
    OptionSpec {
        name: "until",
        kind: ValueKind::Text,
        help: "slots before here: a day in UTC or an instant; when not given, all that is there at the start",
        example: r#"until="2026-02-01T12:00:00Z""#,
        ..OptionSpec::BLANK
    },
    OptionSpec {
        name: "check",
        kind: ValueKind::Text,
        help: "only this check, by its name or by pipeline/source/name; without it dead letters and receipts come along",
        example: r#"check="producer/sites/docs""#,
        ..OptionSpec::BLANK
    },
];

/// What was read at once.
#[derive(Debug, Default)]
pub struct Page {
    pub measurements: Vec<Measurement>,
    pub events: Vec<Event>,
    pub rejected: Vec<Rejected>,
}

impl Page {
    pub fn len(&self) -> usize {
        self.measurements.len() + self.events.len() + self.rejected.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A store that is read from its first row to its last, in the order of ids, which is that of time.
#[async_trait]
pub trait StoreReader: Send {
    /// About how many rows there are in all.
    async fn count(&mut self) -> Result<u64, StageError>;

    /// The next rows; an empty page at the end. After an error that is transient the same rows can be asked for again.
    async fn next(&mut self) -> Result<Page, StageError>;
}

/// What a replaying source is asked for.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    since: Option<Late>,
    until: Option<Late>,
    check: Option<Late>,
}

/// Reads [`FROM_STORE`]; what is written in place is looked at here.
pub fn decode_selection(node: &Node, problems: &mut Problems) -> ReplaySettings {
    for name in ["since", "until"] {
        let Some(late) = node.late(name) else { continue };
        if let Some(text) = late.as_literal()
            && let Err(problem) = instant(name, text, &late)
        {
            problems.push(problem);
        }
    }
    ReplaySettings { since: node.late("since"), until: node.late("until"), check: node.late("check") }
}

impl ReplaySettings {
    /// What is wanted, with everything that comes late.
    pub fn selection(&self, world: &dyn World) -> Result<Selection, Problem> {
        let time = |name, late: &Option<Late>| match late {
            Some(late) => instant(name, late.resolve(world)?.expose(), late).map(Some),
            None => Ok(None),
        };
        let check = self.check.as_ref().map(|late| late.resolve(world)).transpose()?;
        let selection = Selection {
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            checks: check.into_iter().map(|check| check.into_string()).collect(),
        };
        if let (Some(since), Some(until), Some(late)) = (selection.since, selection.until, &self.until)
            && until <= since
        {
            return Err(Problem::new(Code::Conflict, late.span, "`until` is not after `since`")
                .label("nothing lies between"));
        }
        Ok(selection)
    }

    /// As a snapshot shows it.
    pub fn describe(&self, into: &mut serde_json::Value) {
        for (name, late) in [("since", &self.since), ("until", &self.until), ("check", &self.check)] {
            if let Some(late) = late {
                into[name] = serde_json::json!(format!("{late:?}"));
            }
        }
    }
}

/// A day, which begins in UTC, or an instant.
pub fn parse_instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    // A day with a time and no zone would be read as the day alone.
    let day = Some(text).filter(|text| text.len() == DAY_CHARS).and_then(|text| text.parse::<Date>().ok());
    let day = day.ok_or_else(|| {
        format!("`{text}` is neither a day such as 2026-01-31 nor an instant such as 2026-01-31T12:00:00Z")
    })?;
    day.to_zoned(TimeZone::UTC).map(|start| start.timestamp()).map_err(|error| error.to_string())
}

fn instant(name: &str, text: &str, late: &Late) -> Result<Timestamp, Problem> {
    parse_instant(text).map_err(|message| {
        Problem::new(Code::BadInstant, late.span, format!("`{name}`: {message}"))
            .label("expected a day in UTC or an instant with its zone")
    })
}

/// The running source.
pub struct Replay<R> {
    reader: R,
    context: StageContext,
    book: Arc<Book>,
}

/// What is under way, and what became of the rest.
struct Book {
    under_way: AtomicU64,
    failed: AtomicU64,
    changed: Notify,
    counters: Arc<StageCounters>,
}

impl AckTracker for Book {
    fn resolved(&self, _token: u64, delivered: bool) {
        if delivered {
            self.counters.add_delivered(1);
        } else {
            self.counters.add_failed(1);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let left = self.under_way.fetch_sub(1, Ordering::AcqRel) - 1;
        // Whoever waits for room waits for half of it.
        if left == 0 || left == IN_FLIGHT_MAX / 2 {
            self.changed.notify_one();
        }
    }
}

impl Book {
    /// Until so many or fewer are under way.
    async fn at_most(&self, count: u64) {
        while self.under_way.load(Ordering::Acquire) > count {
            self.changed.notified().await;
        }
    }
}

impl<R: StoreReader> Replay<R> {
    pub fn new(reader: R, context: StageContext) -> Replay<R> {
        let book = Arc::new(Book {
            under_way: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            changed: Notify::new(),
            counters: context.counters.clone(),
        });
        Replay { reader, context, book }
    }

    fn batch(&self, page: Page) -> Batch {
        let tracker: Arc<dyn AckTracker> = self.book.clone();
        self.book.under_way.fetch_add(page.len() as u64, Ordering::AcqRel);
        self.context.counters.add_received(page.len() as u64);
        let ack = || Ack::new(tracker.clone(), 0);
        let measurements = page.measurements.into_iter().map(|one| Envelope::measurement(one, None, ack()));
        let events = page.events.into_iter().map(|one| Envelope::event(one, None, ack()));
        let rejected = page.rejected.into_iter().map(|one| Envelope::rejected(one, None, ack()));
        measurements.chain(events).chain(rejected).collect()
    }

    /// The next rows, however often the store has to be asked; nothing once the run is to end.
    async fn next(&mut self, backoff: &mut Backoff) -> Result<Option<Page>, StageError> {
        let mut told = false;
        loop {
            let stop = self.context.stop.clone();
            let read = tokio::select! {
                read = self.reader.next() => read,
                () = stop.cancelled() => return Ok(None),
            };
            match read {
                Ok(page) => {
                    backoff.reset();
                    return Ok(Some(page).filter(|page| !page.is_empty()));
                }
                Err(error) if error.is_transient() && !stop.is_cancelled() => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(stage = %self.context.stage, %error, "the store cannot be read now; waiting for it");
                    }
                    self.context.counters.add_retries(1);
                    backoff.pause(&stop).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl<R: StoreReader> Source for Replay<R> {
    async fn run(mut self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let mut backoff = Backoff::new(self.context.prober.id.as_u128() as u64);
        let expected = self.reader.count().await?;
        self.context.counters.add_expected(expected);
        info!(stage = %self.context.stage, rows = expected, "reading what is stored");
        while let Some(page) = self.next(&mut backoff).await? {
            let batch = self.batch(page);
            if out.emit(batch).await.is_err() {
                break;
            }
            self.book.at_most(IN_FLIGHT_MAX).await;
        }
        drop(out);
        self.book.at_most(0).await;
        match self.book.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(StageError::transient(format!("{failed} rows are not known to be stored"))
                .help("run it again: what is there already is not stored twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants_are_read() {
        for (text, read) in [
            ("2026-01-31", Some("2026-01-31T00:00:00Z")),
            ("2026-01-31T12:00:00Z", Some("2026-01-31T12:00:00Z")),
            ("2026-01-31T12:00:00+02:00", Some("2026-01-31T10:00:00Z")),
            ("2026-01-31T12:00:00", None),
            ("2026-02-31", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(
                parse_instant(text).ok(),
                read.map(|read| read.parse().expect("an instant")),
                "{text}"
            );
        }
    }
}
