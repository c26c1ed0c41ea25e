//! A writer: one connection, and what to do when the store says no.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use monmon_model::{Event, RejectedReason, batch_id};
use monmon_stage::{
    Backoff, Batch, Envelope, Item, Slices, StageContext, StageError, StoredTwin, TwinLog, Twins,
};
use tracing::{info, warn};

use crate::connect::{Connection, Timeouts, begin, connect};
use crate::error::StoreError;
use crate::migrate::{check_schema, migrate};
use crate::partitions::Days;
use crate::reference::{Needed, Remembered};
use crate::rows::{IncidentRows, misfit, misfit_event};
use crate::sink::Settings;
use crate::target::Target;
use crate::twins::{TwinRows, differing};
use crate::write::{New, Rows, write};

/// What the client allows beyond the server's own bound on a statement, for a server that does not answer at all.
const ANSWER_SLACK: Duration = Duration::from_secs(30);
/// How long a server may take to answer a login before it is said that it lets one wait.
const QUIET: Duration = Duration::from_secs(2);
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// What the state of health has for it.
const UNUSABLE: &str = "store_unusable";

/// What all writers of a sink share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) settings: Settings,
    pub(crate) context: StageContext,
    /// Whether the last thing said in the log was that the store can't be reached.
    pub(crate) waiting: AtomicBool,
    pub(crate) twin_log: TwinLog,
}

struct Session {
    connection: Connection,
    remembered: Remembered,
}

/// What became of a batch that the server took.
enum Written {
    Stored(Stored),
    /// One of its rows is at fault.
    Refused(StoreError),
}

/// A batch that was committed.
struct Stored {
    /// How many of its rows were there already, as they are or otherwise.
    known: u64,
    /// Measurements, by their places among the batch's, whose ids have other content in the store.
    differing: BTreeMap<usize, StoredTwin>,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    session: Option<Session>,
    days: Days,
    backoff: Backoff,
    /// How each of its transactions begins.
    begin: String,
}

impl Shared {
    fn say_waiting(&self, error: &StoreError) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            self.context.counters.state().waits(UNUSABLE, "the store cannot be used");
            warn!(stage = %self.context.stage, %error, "the store cannot be used now; waiting for it");
        }
    }

    /// Says that the server lets one wait, unless it was said already that it can't be used.
    async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(QUIET) => {}
        }
        if !self.waiting.load(Ordering::Relaxed) {
            info!(stage = %self.context.stage, store = %self.target, "waiting for the server's answer");
        }
        work.await
    }

    fn say_back(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
            self.context.counters.state().over(UNUSABLE);
            info!(stage = %self.context.stage, store = %self.target, "the store can be used again");
        }
    }

    fn timeouts(&self) -> Timeouts {
        let statement = self.settings.statement_timeout;
        Timeouts { statement, lock: LOCK_TIMEOUT.min(statement) }
    }
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, number: u64) -> Writer {
        // Any two writers differ in this, so that they do not come back all at once.
        let seed = shared.context.prober.id.as_u64_pair().1 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let begin = begin(shared.timeouts());
        Writer { shared, session: None, days: Days::default(), backoff: Backoff::new(seed), begin }
    }

    /// The first connection: brings the schema up to date where the sink is told to, and holds it against what is
    /// needed. Waits for a server that can't be reached, unless the run shall fail fast.
    pub(crate) async fn start(&mut self) -> Result<(), StageError> {
        loop {
            let started = self.try_start().await;
            let Err(error) = started else {
                self.shared.say_back();
                return Ok(());
            };
            if !error.is_transient() || self.shared.context.fail_fast {
                return Err(error.into());
            }
            self.wait(&error).await;
        }
    }

    async fn try_start(&mut self) -> Result<(), StoreError> {
        if self.shared.settings.migrate {
            for applied in self.shared.patiently(migrate(&self.shared.target)).await? {
                info!(stage = %self.shared.context.stage, version = applied.version, name = applied.name, "migrated");
            }
        }
        self.connect().await
    }

    /// Stores a batch whole, however long it takes, and resolves its acks. `Err` is what only people can mend.
    pub(crate) async fn store(&mut self, batch: Batch) -> Result<(), StageError> {
        let mut batch = batch;
        self.refuse_misfits(&mut batch);
        // Of two with one id the first that came is the one to store.
        batch.sort_by_key(|envelope| match &envelope.item {
            Item::Measurement(measured) => measured.measurement.id,
            Item::Event(reported) => reported.event.id(),
            Item::Rejected(refused) => refused.rejected.id,
        });
        // Halves of halves: a bad row costs about two writes for each doubling of the batch, and the good ones none.
        let mut open = vec![batch];
        let mut buried = 0;
        while let Some(mut batch) = open.pop() {
            match self.write_until_done(&batch).await? {
                Written::Stored(stored) => {
                    let letters = self.set_apart(&mut batch, &stored.differing);
                    let duplicates = stored.known.saturating_sub(letters.len() as u64);
                    self.shared.context.counters.add_duplicates(duplicates);
                    self.deliver(batch);
                    if !letters.is_empty() {
                        open.push(letters);
                    }
                }
                Written::Refused(refusal) if batch.len() > 1 => {
                    let later = batch.split_off(batch.len() / 2);
                    open.push(later);
                    open.push(batch);
                    tracing::debug!(%refusal, "halving a batch");
                }
                Written::Refused(refusal) => {
                    bury(&mut batch, &refusal)?;
                    buried += 1;
                    open.push(batch);
                }
            }
        }
        if buried > 0 {
            warn!(stage = %self.shared.context.stage, count = buried, "the store refused rows; they went to the dead letters");
        }
        Ok(())
    }

    fn deliver(&self, batch: Batch) {
        let counters = &self.shared.context.counters;
        let rejected = batch.iter().filter(|envelope| matches!(envelope.item, Item::Rejected(_))).count();
        counters.add_rejected(rejected as u64);
        counters.add_delivered(batch.len() as u64);
        for envelope in batch {
            envelope.ack.deliver();
        }
    }

    /// Takes out of a stored batch the measurements whose ids have other content in the store, as dead letters.
    fn set_apart(&self, batch: &mut Batch, differing: &BTreeMap<usize, StoredTwin>) -> Batch {
        if differing.is_empty() {
            return Batch::new();
        }
        let mut twins = Twins::default();
        let mut letters = Batch::new();
        let mut stored = Batch::with_capacity(batch.len());
        let mut place = 0;
        for mut envelope in batch.drain(..) {
            let Item::Measurement(measured) = &envelope.item else {
                stored.push(envelope);
                continue;
            };
            let letter = differing.get(&place).and_then(|twin| twins.meet(measured, twin));
            place += 1;
            match letter {
                Some(letter) => {
                    envelope.item = Item::Rejected(letter);
                    letters.push(envelope);
                }
                None => stored.push(envelope),
            }
        }
        *batch = stored;
        self.shared.twin_log.tell(&self.shared.context.stage, &twins);
        letters
    }

    /// Tries until the batch is stored or the server says that one of its rows is at fault.
    async fn write_until_done(&mut self, batch: &[Envelope]) -> Result<Written, StageError> {
        let mut partitions_made_anew = false;
        loop {
            let error = match self.try_write(batch).await {
                Ok(stored) => {
                    self.backoff.reset();
                    self.shared.say_back();
                    return Ok(Written::Stored(stored));
                }
                Err(error) => error,
            };
            match error {
                StoreError::Row(_) => return Ok(Written::Refused(error)),
                // Someone dropped a partition that was known to be there.
                StoreError::Partition(_) if !partitions_made_anew => {
                    partitions_made_anew = true;
                    self.days.forget();
                }
                StoreError::Partition(_) => return Ok(Written::Refused(error)),
                // The login worked once: a password, a certificate or the file that names them is being changed, and will
                // be right again.
                StoreError::Unreachable { .. }
                | StoreError::Credentials { .. }
                | StoreError::Tls(_)
                | StoreError::BadUrl(_) => {
                    // Whatever the session was in the middle of, a new one begins clean.
                    self.session = None;
                    self.wait(&error).await;
                }
                error => return Err(error.into()),
            }
        }
    }

    /// Stores what is new of the batch, and tells which measurements have their ids in the store with other content.
    async fn try_write(&mut self, batch: &[Envelope]) -> Result<Stored, StoreError> {
        if let Some(stored) = self.try_relying(batch).await? {
            return Ok(stored);
        }
        warn!(stage = %self.shared.context.stage, "rows that the store had are gone, as after a failover; writing them again");
        if let Some(session) = &mut self.session {
            session.remembered = Remembered::default();
        }
        self.days.forget();
        // Who remembers nothing relies on nothing, so that this is stored whatever is gone.
        self.try_relying(batch).await?.ok_or_else(|| StoreError::Unreachable {
            place: self.shared.target.place().to_owned(),
            message: "rows that are written now are gone".to_owned(),
        })
    }

    /// Gives nothing, and has stored nothing, where a row is gone that was remembered.
    async fn try_relying(&mut self, batch: &[Envelope]) -> Result<Option<Stored>, StoreError> {
        self.connect().await?;
        let Writer { shared, session, days, begin, .. } = self;
        let session = session.as_mut().expect("connect gives a session or an error");
        let place = shared.target.place();
        let now = shared.context.clock.now();
        let slices = Slices::of(batch);
        let slice_rows = vec![0; slices.list.len()];
        let mut rows = Rows { incidents: IncidentRows::of(batch), slice_rows, ..Rows::default() };
        let mut needed = Needed::default();
        let (mut measurements, mut events) = (0, 0);
        for (envelope, slice) in batch.iter().zip(&slices.places) {
            match &envelope.item {
                Item::Measurement(measured) => {
                    measurements += 1;
                    let measurement = &*measured.measurement;
                    if rows.measurements.id.last() == Some(&measurement.id) {
                        // Only the first of one id is for the table, and only its matches.
                        continue;
                    }
                    let references = session.remembered.refer(measurement, &mut needed);
                    rows.measurements.push(measurement, references.context_id);
                    rows.slices.push(slice.and_then(|slice| i32::try_from(slice).ok()).unwrap_or(-1));
                    if let Some(count) = slice.and_then(|slice| rows.slice_rows.get_mut(slice)) {
                        *count += 1;
                    }
                    for found in &measurement.matches {
                        let verdict_id = session.remembered.refer_match(found, &mut needed);
                        rows.matches.push(measurement, found, verdict_id);
                    }
                }
                Item::Event(reported) => {
                    events += 1;
                    match &*reported.event {
                        Event::Receipt(receipt) => {
                            session.remembered.refer_prober(&receipt.prober, receipt.at, &mut needed);
                            rows.receipts.push(receipt);
                        }
                        // Gathered above: of each only what was told last.
                        Event::Incident(_) => {}
                    }
                }
                Item::Rejected(refused) => rows.dead_letters.push(&refused.rejected),
            }
        }
        for slice in &slices.list {
            rows.batches.push(batch_id(now), &shared.context.stage, slice);
        }
        let bound = shared.settings.statement_timeout + ANSWER_SLACK;
        let today = (!rows.batches.is_empty()).then_some(now);
        let times = rows.measurements.scheduled_at.iter().copied().chain(today);
        let Session { connection, remembered } = session;
        let work = async {
            days.ensure(connection, begin, times, place).await?;
            let Some(New { measurements: new, dead_letters }) =
                write(connection, begin, &rows, &needed, place).await?
            else {
                return Ok(None);
            };
            remembered.commit(&needed);
            let differing = match measurements > new {
                true => differing(connection, begin, &twin_rows(remembered, batch), place).await?,
                false => BTreeMap::new(),
            };
            let known = (batch.len() as u64).saturating_sub(new + dead_letters + events);
            Ok(Some(Stored { known, differing }))
        };
        tokio::time::timeout(bound, work).await.map_err(|_| StoreError::Unreachable {
            place: place.to_owned(),
            message: format!("no answer within {bound:?}"),
        })?
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.session.as_ref().is_some_and(|session| !session.connection.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let session = self.shared.patiently(self.open()).await?;
        // Another server may have answered, with other partitions.
        self.days.forget();
        self.session = Some(session);
        Ok(())
    }

    async fn open(&self) -> Result<Session, StoreError> {
        let target = &self.shared.target;
        let connection = connect(target).await?;
        let checking = check_schema(&connection.client, target);
        tokio::time::timeout(ANSWER_SLACK, checking).await.map_err(|_| StoreError::Unreachable {
            place: target.place().to_owned(),
            message: format!("no answer within {ANSWER_SLACK:?}"),
        })??;
        Ok(Session { connection, remembered: Remembered::default() })
    }

    async fn wait(&mut self, error: &StoreError) {
        self.shared.say_waiting(error);
        self.shared.context.counters.add_retries(1);
        self.backoff.pause(&self.shared.context.stop).await;
    }

    /// Turns into dead letters what the table cannot hold or has no partition for.
    fn refuse_misfits(&self, batch: &mut Batch) {
        let now = self.shared.context.clock.now();
        let window = self.shared.settings.window;
        for envelope in batch {
            let letter = match &envelope.item {
                Item::Measurement(measured) => {
                    let measurement = &*measured.measurement;
                    window
                        .refuse(measurement.scheduled_at, now)
                        .map(|message| (RejectedReason::TimeOutOfWindow, message))
                        .or_else(|| {
                            misfit(measurement).map(|message| (RejectedReason::StoreRefused, message))
                        })
                        .map(|(reason, message)| measured.reject(reason, message))
                }
                Item::Event(reported) => misfit_event(&reported.event)
                    .map(|message| reported.reject(RejectedReason::StoreRefused, message)),
                Item::Rejected(_) => None,
            };
            if let Some(letter) = letter {
                envelope.item = Item::Rejected(letter);
            }
        }
    }
}

/// The measurements of a stored batch, in its order.
fn twin_rows<'a>(remembered: &mut Remembered, batch: &'a [Envelope]) -> TwinRows<'a> {
    let mut rows = TwinRows::default();
    // What they refer to stands in the store, or is only theirs who will not be stored.
    let mut unneeded = Needed::default();
    for envelope in batch {
        if let Item::Measurement(measured) = &envelope.item {
            let measurement = &*measured.measurement;
            let references = remembered.refer(measurement, &mut unneeded);
            rows.push(measurement, references);
        }
    }
    rows
}

/// Puts the row that the store refused among the dead letters, with the server's words.
fn bury(batch: &mut Batch, refusal: &StoreError) -> Result<(), StageError> {
    for envelope in batch {
        let letter = match &envelope.item {
            Item::Measurement(measured) => measured.reject(RejectedReason::StoreRefused, refusal.to_string()),
            Item::Event(reported) => reported.reject(RejectedReason::StoreRefused, refusal.to_string()),
            // Nothing is left to put it into; to go on would be to lose it.
            Item::Rejected(_) => {
                return Err(StageError::permanent(format!("a dead letter was refused: {refusal}")));
            }
        };
        tracing::debug!(id = %letter.rejected.id, %refusal, "an item goes to the dead letters");
        envelope.item = Item::Rejected(letter);
    }
    Ok(())
}
