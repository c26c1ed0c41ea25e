//! A writer: one connection, and what to do when the store says no.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use monmon_model::RejectedReason;
use monmon_stage::{Backoff, Batch, Envelope, Item, StageContext, StageError};
use tracing::{info, warn};

use crate::connect::{Connection, Timeouts, open_session};
use crate::error::StoreError;
use crate::migrate::{check_schema, migrate};
use crate::partitions::Days;
use crate::reference::{Needed, Remembered};
use crate::rows::misfit;
use crate::sink::Settings;
use crate::target::Target;
use crate::write::{Rows, Statements, write};

/// What the client allows beyond the server's own bound on a statement, for a server that does not answer at all.
const ANSWER_SLACK: Duration = Duration::from_secs(30);
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What all writers of a sink share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) settings: Settings,
    pub(crate) context: StageContext,
    /// Whether the last thing said in the log was that the store can't be reached.
    pub(crate) waiting: AtomicBool,
}

struct Session {
    connection: Connection,
    statements: Statements,
    remembered: Remembered,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    session: Option<Session>,
    days: Days,
    backoff: Backoff,
}

impl Shared {
    fn say_waiting(&self, error: &StoreError) {
        if !self.waiting.swap(true, Ordering::Relaxed) {
            warn!(stage = %self.context.stage, %error, "the store cannot be used now; waiting for it");
        }
    }

    fn say_back(&self) {
        if self.waiting.swap(false, Ordering::Relaxed) {
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
        Writer { shared, session: None, days: Days::default(), backoff: Backoff::new(seed) }
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
            for applied in migrate(&self.shared.target).await? {
                info!(stage = %self.shared.context.stage, version = applied.version, name = applied.name, "migrated");
            }
        }
        self.connect().await
    }

    /// Stores a batch whole, however long it takes, and resolves its acks. `Err` is what only people can mend.
    pub(crate) async fn store(&mut self, batch: Batch) -> Result<(), StageError> {
        let mut batch = batch;
        self.refuse_misfits(&mut batch);
        batch.sort_unstable_by_key(|envelope| match &envelope.item {
            Item::Measurement(measured) => measured.measurement.id,
            Item::Rejected(rejected) => rejected.id,
        });
        // Halves of halves: a bad row costs about two writes for each doubling of the batch, and the good ones none.
        let mut open = vec![batch];
        let mut buried = 0;
        while let Some(mut batch) = open.pop() {
            match self.write_until_done(&batch).await? {
                None => self.deliver(batch),
                Some(refusal) if batch.len() > 1 => {
                    let later = batch.split_off(batch.len() / 2);
                    open.push(later);
                    open.push(batch);
                    tracing::debug!(%refusal, "halving a batch");
                }
                Some(refusal) => {
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

    /// Tries until the batch is stored (`None`) or the server says that one of its rows is at fault.
    async fn write_until_done(&mut self, batch: &[Envelope]) -> Result<Option<StoreError>, StageError> {
        let mut partitions_made_anew = false;
        loop {
            let error = match self.try_write(batch).await {
                Ok(new) => {
                    let duplicates = (batch.len() as u64).saturating_sub(new);
                    self.shared.context.counters.add_duplicates(duplicates);
                    self.backoff.reset();
                    self.shared.say_back();
                    return Ok(None);
                }
                Err(error) => error,
            };
            match error {
                StoreError::Row(_) => return Ok(Some(error)),
                // Someone dropped a partition that was known to be there.
                StoreError::Partition(_) if !partitions_made_anew => {
                    partitions_made_anew = true;
                    self.days.forget();
                }
                StoreError::Partition(_) => return Ok(Some(error)),
                // The login worked once: a password or a certificate is being changed, and will be right again.
                StoreError::Unreachable { .. } | StoreError::Credentials { .. } | StoreError::Tls(_) => {
                    // Whatever the session was in the middle of, a new one begins clean.
                    self.session = None;
                    self.wait(&error).await;
                }
                error => return Err(error.into()),
            }
        }
    }

    async fn try_write(&mut self, batch: &[Envelope]) -> Result<u64, StoreError> {
        self.connect().await?;
        let Writer { shared, session, days, .. } = self;
        let session = session.as_mut().expect("connect gives a session or an error");
        let place = shared.target.place();
        let mut rows = Rows::default();
        let mut needed = Needed::default();
        for envelope in batch {
            match &envelope.item {
                Item::Measurement(measured) => {
                    let measurement = &*measured.measurement;
                    let (definition_id, tls_id) = session.remembered.refer(measurement, &mut needed);
                    rows.measurements.push(measurement, definition_id, tls_id);
                    for found in &measurement.matches {
                        rows.matches.push(measurement, found);
                    }
                }
                Item::Rejected(rejected) => rows.dead_letters.push(rejected),
            }
        }
        let bound = shared.settings.statement_timeout + ANSWER_SLACK;
        let times = rows.measurements.scheduled_at.iter().copied();
        let work = async {
            days.ensure(&session.connection, times, place).await?;
            write(&session.connection, &session.statements, &rows, &needed, place).await
        };
        let new = tokio::time::timeout(bound, work).await.map_err(|_| StoreError::Unreachable {
            place: place.to_owned(),
            message: format!("no answer within {bound:?}"),
        })??;
        session.remembered.commit(&needed);
        Ok(new)
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.session.as_ref().is_some_and(|session| !session.connection.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let bound = self.shared.target.connect_timeout + ANSWER_SLACK;
        let session =
            tokio::time::timeout(bound, self.open()).await.map_err(|_| StoreError::Unreachable {
                place: self.shared.target.place().to_owned(),
                message: format!("no session within {bound:?}"),
            })??;
        // Another server may have answered, with other partitions.
        self.days.forget();
        self.session = Some(session);
        Ok(())
    }

    async fn open(&self) -> Result<Session, StoreError> {
        let target = &self.shared.target;
        let connection = open_session(target, self.shared.timeouts()).await?;
        check_schema(&connection.client, target).await?;
        let statements = Statements::prepare(&connection.client, target.place()).await?;
        Ok(Session { connection, statements, remembered: Remembered::default() })
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
            let Item::Measurement(measured) = &envelope.item else { continue };
            let measurement = &*measured.measurement;
            let refusal = window
                .refuse(measurement.scheduled_at, now)
                .map(|message| (RejectedReason::TimeOutOfWindow, message))
                .or_else(|| misfit(measurement).map(|message| (RejectedReason::StoreRefused, message)));
            if let Some((reason, message)) = refusal {
                envelope.item = Item::Rejected(Box::new(measured.reject(reason, message)));
            }
        }
    }
}

/// Puts the row that the store refused among the dead letters, with the server's words.
fn bury(batch: &mut Batch, refusal: &StoreError) -> Result<(), StageError> {
    for envelope in batch {
        let Item::Measurement(measured) = &envelope.item else {
            // Nothing is left to put it into; to go on would be to lose it.
            return Err(StageError::permanent(format!("a dead letter was refused: {refusal}")));
        };
        let letter = measured.reject(RejectedReason::StoreRefused, refusal.to_string());
        tracing::debug!(id = %measured.measurement.id, %refusal, "a measurement goes to the dead letters");
        envelope.item = Item::Rejected(Box::new(letter));
    }
    Ok(())
}
