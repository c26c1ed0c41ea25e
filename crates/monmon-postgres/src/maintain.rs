//! Rollups, retention and packing: what the sink does beside its writers, and `monmon db maintain` when it is asked to.
//!
//! The work is done by functions of the database (`sql/postgres/0009_rollups.sql`, `0010_retention.sql`, `0014_upkeep.sql`), so that `psql`
//! can do it too; here is the order. Each step is one transaction and one message, which takes the maintenance's lock,
//! does a bounded piece, and leaves everything whole: it may be killed anywhere, any number may run at once, and a pooler
//! may give each step another session.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use monmon_stage::Retention;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::connect::{Connection, connect};
use crate::error::StoreError;
use crate::migrate::check_schema;
use crate::pack::pack;
use crate::target::Target;

/// How long the server may work on one step: six hours of measurements, or a day's copy of what is kept.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);
/// How long the client waits beyond that.
const ANSWER_SLACK: Duration = Duration::from_secs(30);
/// How long transactions that were writing when the maintenance began are waited for. Longer ones hold back what is
/// rolled up, not what is stored.
const SETTLE_WAIT: Duration = Duration::from_secs(20);
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// Steps of one run: a year in pieces of six hours, twice over.
const STEPS_MAX: usize = 3_000;
/// Rows that one statement deletes of the days, or of receipts.
const DAYS_SLICE: u32 = 5_000;
/// How far a clock may be ahead of the database's; beyond it is wrong, and says nothing of what is old.
const AHEAD_MAX: &str = "1 hour";
/// Days whose partitions are made ahead.
const DAYS_AHEAD: i32 = 2;

/// What one run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Everything before this instant is in the rollups.
    pub rolled_until: Option<Timestamp>,
    /// Minutes that were made or made again.
    pub minutes: u64,
    /// Days that were made again because measurements of them came late.
    pub late_days: u64,
    /// Partitions that are gone.
    pub dropped: Vec<String>,
    /// Partitions of which only what is to be kept is left.
    pub thinned: Vec<String>,
    /// Partitions that could not go now, each with the reason.
    pub left: Vec<(String, String)>,
    /// Rows of days that are no longer kept.
    pub days_deleted: u64,
    /// Indexes of days that are over, which were built once more without gaps.
    pub packed: Vec<String>,
    /// Those that could not be packed now, each with the reason.
    pub unpacked: Vec<(String, String)>,
    /// Another is at it: what it does need not be done here.
    pub busy: bool,
    /// A transaction that has been writing for long keeps measurements from being rolled up.
    pub held_up: bool,
    /// The caller's clock is ahead of the database's: nothing was let go of.
    pub clock_ahead: bool,
    /// Rollups were said to reach up to here, beyond now, and are made again.
    pub healed_from: Option<Timestamp>,
    /// Receipts that nothing is left of which they could prove.
    pub receipts_deleted: u64,
    /// Another sink of this store keeps something for longer, and so that was kept.
    pub others_keep_longer: bool,
}

/// A partition that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Going {
    pub family: String,
    pub partition: String,
    pub from: String,
    /// Nothing of it is kept; else something.
    pub whole: bool,
    pub bytes: u64,
}

/// What `retention` would let go of at `now`. Changes nothing.
pub async fn retention_plan(
    target: &Target,
    retention: &Retention,
    now: Timestamp,
) -> Result<Vec<Going>, StoreError> {
    let mut maintenance = Maintenance::open(target).await?;
    let retention = maintenance.longest(retention, Seen::Lately).await?;
    maintenance.plan(&retention, now).await
}

/// Rolls up what can be, makes partitions ahead, lets go of what `retention` no longer keeps, and packs what is left.
pub async fn maintain(
    target: &Target,
    retention: Option<&Retention>,
    now: Timestamp,
) -> Result<Maintained, StoreError> {
    let mut maintenance = Maintenance::open(target).await?;
    let mut done = Maintained::default();
    maintenance.roll_up(&mut done).await?;
    if let Some(retention) = retention {
        let longest = maintenance.longest(retention, Seen::Lately).await?;
        done.others_keep_longer = longest != Retention::longest(std::slice::from_ref(retention));
        maintenance.let_go(&longest, now, &mut done).await?;
    }
    pack_days(target, None, &mut done).await;
    Ok(done)
}

/// Packs the indexes of days that are over. That it can't be done is told and no error: it saves room and nothing else.
pub(crate) async fn pack_days(target: &Target, within: Option<Duration>, done: &mut Maintained) {
    match pack(target, None, within).await {
        Ok(packed) => {
            done.packed = packed.indexes;
            done.unpacked = packed.left;
            done.busy |= packed.busy;
        }
        Err(error) => done.unpacked.push(("the indexes of days that are over".to_owned(), error.to_string())),
    }
}

/// Which sinks' times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Of those that were seen in the last week.
    Lately,
    /// Also of those that were not.
    Ever,
}

/// A session for maintenance.
pub(crate) struct Maintenance {
    connection: Connection,
    place: String,
}

impl Maintenance {
    pub(crate) async fn open(target: &Target) -> Result<Maintenance, StoreError> {
        let connection = connect(target).await?;
        check_schema(&connection.client, target).await?;
        Ok(Maintenance { connection, place: target.place().to_owned() })
    }

    /// Brings the rollups as far as measurements are known to be complete, and partitions ahead of the clock.
    pub(crate) async fn roll_up(&mut self, done: &mut Maintained) -> Result<(), StoreError> {
        let ahead = format!(
            "SELECT monmon_create_partitions((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + {DAYS_AHEAD})"
        );
        self.ask(&ahead).await?;
        let healed = format!("SELECT {} AS was FROM monmon_rollup_heal() AS h(was)", utc("was"));
        done.healed_from = text(self.ask(&healed).await?.first(), "was").parse().ok();
        let until = self.settle(done).await?;
        // Each late day once: who is always late would otherwise keep the server busy, and the new hours waiting.
        let mut late_from = "-infinity".to_owned();
        for _ in 0..STEPS_MAX {
            let step = format!(
                "SELECT *, date_bin('24 hours', from_at, '1970-01-01 00:00:00+00') + interval '24 hours' AS day_end
                 FROM monmon_rollup_step({}, {})",
                literal(&until),
                literal(&late_from)
            );
            let rows = self.ask(&step).await?;
            let row = rows.first();
            let word = |name| row.and_then(|row| row.get(name));
            done.minutes += word("made").and_then(|made| made.parse().ok()).unwrap_or(0);
            match word("done") {
                Some("late") => {
                    done.late_days += 1;
                    late_from = text(row, "day_end");
                }
                Some("new") => {}
                Some("busy") => {
                    done.busy = true;
                    break;
                }
                _ => break,
            }
        }
        done.rolled_until = self.rolled_until().await?;
        Ok(())
    }

    /// Until when every measurement that is not marked as late can be seen. Where a transaction does not end, as far as
    /// it was before.
    async fn settle(&mut self, done: &mut Maintained) -> Result<String, StoreError> {
        let rows = self.ask("SELECT * FROM monmon_rollup_settle()").await?;
        let row = rows.first();
        let (until, behind) = (text(row, "until"), text(row, "behind"));
        let settled = format!("SELECT monmon_rollup_settled({}) AS settled", literal(&behind));
        let mut waited = Duration::ZERO;
        while waited < SETTLE_WAIT {
            if text(self.ask(&settled).await?.first(), "settled") == "t" {
                return Ok(until);
            }
            tokio::time::sleep(SETTLE_PAUSE).await;
            waited += SETTLE_PAUSE;
        }
        done.held_up = true;
        let before =
            "SELECT coalesce(rolled_until, '1970-01-01 00:00:00+00') AS until FROM monmon_rollup_state";
        Ok(text(self.ask(before).await?.first(), "until"))
    }

    async fn rolled_until(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!("SELECT {} AS until FROM monmon_rollup_state", utc("rolled_until"));
        Ok(text(self.ask(&sql).await?.first(), "until").parse().ok())
    }

    /// A sink says what it keeps for how long.
    pub(crate) async fn register(
        &mut self,
        pipeline: &str,
        stage: &str,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        let (pipeline, stage) = (literal(pipeline), literal(stage));
        let policy = literal(&retention.policy().to_string());
        let register = format!("SELECT monmon_retention_register({pipeline}, {stage}, {policy}::jsonb)");
        self.ask(&register).await.map(drop)
    }

    /// What is kept by all sinks that were seen lately, or by all that ever were: each thing for the longest of its times.
    pub(crate) async fn longest(
        &mut self,
        retention: &Retention,
        seen: Seen,
    ) -> Result<Retention, StoreError> {
        let rows = self
            .ask(match seen {
                Seen::Lately => "SELECT p AS policy FROM monmon_retention_policies() AS p",
                Seen::Ever => "SELECT policy FROM monmon_retention_policy",
            })
            .await?;
        let mut all = vec![retention.clone()];
        for row in &rows {
            // One that cannot be read is of a newer version, and may keep anything.
            let policy = serde_json::from_str(&text(Some(row), "policy")).ok();
            all.push(policy.and_then(|policy| Retention::of_policy(&policy)).unwrap_or_default());
        }
        Ok(Retention::longest(&all))
    }

    pub(crate) async fn plan(
        &mut self,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Vec<Going>, StoreError> {
        let (policy, now) = policy(retention, now);
        let rows = self.ask(&format!("SELECT * FROM monmon_retention_plan({policy}, {now})")).await?;
        let going = rows.iter().map(|row| Going {
            family: text(Some(row), "family"),
            partition: text(Some(row), "partition"),
            from: text(Some(row), "from_at"),
            whole: row.get("action") == Some("drop"),
            bytes: row.get("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
        });
        Ok(going.collect())
    }

    /// Lets go of what is old, a partition at a time. One that can't go now is told and left for the next run.
    pub(crate) async fn let_go(
        &mut self,
        retention: &Retention,
        now: Timestamp,
        done: &mut Maintained,
    ) -> Result<(), StoreError> {
        if self.is_ahead(now).await? {
            done.clock_ahead = true;
            return Ok(());
        }
        for going in self.plan(retention, now).await? {
            let said = self.let_go_of(&going, retention, now, done).await?;
            match said.as_str() {
                "dropped" => done.dropped.push(going.partition),
                "thinned" => done.thinned.push(going.partition),
                "gone" | "kept" => {}
                "busy" => done.busy = true,
                why => done.left.push((going.partition, why.to_owned())),
            }
        }
        let (policy, now) = policy(retention, now);
        let days = format!("SELECT monmon_retention_days({policy}, {now}, {DAYS_SLICE}) AS deleted");
        for _ in 0..STEPS_MAX {
            let deleted: u64 = text(self.ask(&days).await?.first(), "deleted").parse().unwrap_or(0);
            if deleted == 0 {
                break;
            }
            done.days_deleted += deleted;
        }
        let receipts = format!("SELECT monmon_retention_receipts({DAYS_SLICE}) AS deleted");
        for _ in 0..STEPS_MAX {
            let deleted: u64 = text(self.ask(&receipts).await?.first(), "deleted").parse().unwrap_or(0);
            if deleted == 0 {
                break;
            }
            done.receipts_deleted += deleted;
        }
        Ok(())
    }

    /// The functions never go beyond the server's own clock. One that is behind lets go of less, and harms nothing.
    async fn is_ahead(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let ahead = format!("SELECT {} > clock_timestamp() + interval '{AHEAD_MAX}' AS ahead", instant(now));
        Ok(text(self.ask(&ahead).await?.first(), "ahead") == "t")
    }

    async fn let_go_of(
        &mut self,
        going: &Going,
        retention: &Retention,
        now: Timestamp,
        done: &mut Maintained,
    ) -> Result<String, StoreError> {
        let from = literal(&going.from);
        if going.family == "monmon_measurement" {
            let verify = format!(
                "SELECT monmon_rollup_verify(({from}::timestamptz AT TIME ZONE 'UTC')::date) AS said"
            );
            let mut said = text(self.ask(&verify).await?.first(), "said");
            if said == "differs" {
                tracing::warn!(
                    partition = going.partition,
                    "rollups differ from their measurements; making them again"
                );
                self.roll_up(done).await?;
                said = text(self.ask(&verify).await?.first(), "said");
            }
            if said != "checked" {
                return Ok(said);
            }
        }
        let (policy, now) = policy(retention, now);
        let family = literal(&going.family);
        let apply = format!("SELECT monmon_retention_apply({policy}, {now}, {family}, {from}) AS said");
        match self.try_ask(&apply).await? {
            Ok(rows) => Ok(text(rows.first(), "said")),
            Err(refused) => Ok(refused),
        }
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<SimpleQueryRow>, StoreError> {
        match self.send(sql).await? {
            Ok(rows) => Ok(rows),
            Err(error) => Err(StoreError::sort(&error, &self.place)),
        }
    }

    /// As [`Maintenance::ask`]; that a table is in use, or has got rows meanwhile, is an answer and no error.
    async fn try_ask(&mut self, sql: &str) -> Result<Result<Vec<SimpleQueryRow>, String>, StoreError> {
        match self.send(sql).await? {
            Ok(rows) => Ok(Ok(rows)),
            Err(error) => match error.as_db_error() {
                Some(refusal) if ["55P03", "40P01", "MM001"].contains(&refusal.code().code()) => {
                    Ok(Err(refusal.message().to_owned()))
                }
                _ => Err(StoreError::sort(&error, &self.place)),
            },
        }
    }

    /// One message of several statements is one transaction: it needs no BEGIN, and no ROLLBACK when it fails.
    async fn send(
        &mut self,
        sql: &str,
    ) -> Result<Result<Vec<SimpleQueryRow>, tokio_postgres::Error>, StoreError> {
        let message = format!(
            "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = '10s'; SET LOCAL jit = off; \
             SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; SET LOCAL standard_conforming_strings = on; {sql}",
            STEP_TIMEOUT.as_millis()
        );
        let asking = self.connection.client.simple_query(&message);
        let answer = tokio::time::timeout(STEP_TIMEOUT + ANSWER_SLACK, asking).await;
        let answer = answer.map_err(|_| StoreError::Unreachable {
            place: self.place.clone(),
            message: format!("no answer within {:?}", STEP_TIMEOUT + ANSWER_SLACK),
        })?;
        Ok(answer.map(|messages| {
            let rows = messages.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            rows.collect()
        }))
    }
}

fn text(row: Option<&SimpleQueryRow>, column: &str) -> String {
    row.and_then(|row| row.get(column)).unwrap_or_default().to_owned()
}

/// An instant as a text that is read here.
fn utc(column: &str) -> String {
    format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn policy(retention: &Retention, now: Timestamp) -> (String, String) {
    let policy = format!("{}::jsonb", literal(&retention.policy().to_string()));
    (policy, instant(now))
}

fn instant(at: Timestamp) -> String {
    let at = TimeZone::UTC.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S+00").to_string();
    format!("{}::timestamptz", literal(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted() {
        assert_eq!(literal("it's; DROP TABLE x"), "'it''s; DROP TABLE x'");
    }

    #[test]
    fn instants_are_written_in_utc() {
        let now: Timestamp = "2026-11-23T12:00:00.5Z".parse().expect("a time");
        let retention = Retention::parse(&["measurements=1d".to_owned()]).expect("a retention");
        let (policy, now) = policy(&retention, now);
        assert_eq!(policy, r#"'{"measurements":"86400 seconds"}'::jsonb"#);
        assert_eq!(now, "'2026-11-23 12:00:00+00'::timestamptz");
    }
}
