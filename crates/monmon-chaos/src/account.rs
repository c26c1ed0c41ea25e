//! What must hold on a road: the site's log, the topic, the committed offsets, the tables and the logs against each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    road::{Audit, Road},
    services::eventually,
};

/// Warnings and errors that faults of this kind bring about; any other line fails the road.
const ANNOUNCED: &[&str] = &[
    "the topic has one replica",
    "the topic for dead letters does not exist",
    "; waiting",
    "the store cannot be used now",
    "the group went on without us",
    "the consumer group gives no answer",
    "messages were not stored; reading them again",
    "slots without a measurement",
    "measurements of which no sink said",
    "not everything came to its end within the grace",
    "stopping at once",
    "made, and not known to be stored",
    "more checks are due than can be under way",
    "a measurement found no room",
    "the wall clock went",
];

/// What must never be in a log.
const SECRETS: &[&str] = &["app-secret", "app:secret", "new-secret"];

/// How many lines of trouble are shown.
const SHOWN: usize = 8;

impl Road<'_> {
    /// Where the road stands now, without stopping anything: nothing is committed that is not stored, all that the topic
    /// holds comes to be stored, and nothing else is.
    pub(crate) fn reckon(&mut self) -> Result<()> {
        // Where they stood before what is stored was looked at. Both servers may still be coming up.
        let (mut committed, mut stored) = (BTreeMap::new(), Vec::new());
        eventually("answer about the group's place", || {
            let asked = self.journal.committed(&self.topic).map(|found| committed = found);
            Ok(asked.is_ok())
        })?;
        eventually("answer of the database", || {
            Ok(self.database.all_ids().map(|found| stored = found).is_ok())
        })?;
        self.journal.advance()?;
        self.learn();
        self.no_phantom(&stored)?;
        self.unconfirmed.retain(|id| stored.binary_search(id).is_err());
        let early: Vec<&Uuid> = self
            .unconfirmed
            .iter()
            .filter(|id| {
                let seen = &self.journal.seen[*id];
                committed.get(&seen.partition).is_some_and(|offset| seen.offset < *offset)
            })
            .filter(|id| !self.gone.contains(*id))
            .collect();
        ensure!(early.is_empty(), "{} ids are committed and not stored, such as {}", early.len(), early[0]);
        self.all_stored()?;
        self.quiet()
    }

    /// Ids that the topic has shown since the last look wait for their rows.
    fn learn(&mut self) {
        let new = self.journal.seen.keys().filter(|id| !self.confirmed.contains(*id));
        self.unconfirmed.extend(new.filter(|id| !self.gone.contains(*id)));
        self.confirmed.extend(self.journal.seen.keys());
    }

    pub(crate) fn all_stored_now(&mut self) -> Result<()> {
        self.journal.advance()?;
        self.learn();
        self.all_stored()
    }

    fn no_phantom(&self, stored: &[Uuid]) -> Result<()> {
        ensure!(stored.windows(2).all(|pair| pair[0] != pair[1]), "an id is stored twice");
        let phantoms: Vec<&Uuid> = stored.iter().filter(|id| !self.journal.seen.contains_key(*id)).collect();
        ensure!(phantoms.is_empty(), "{} rows were never published, such as {}", phantoms.len(), phantoms[0]);
        Ok(())
    }

    fn all_stored(&mut self) -> Result<()> {
        let mut left = std::mem::take(&mut self.unconfirmed);
        let waited = eventually("row for every id in the topic", || {
            self.watch()?;
            let asked: Vec<Uuid> = left.iter().copied().collect();
            if let Ok(found) = self.database.stored_of(&asked) {
                left = &left - &found;
            }
            Ok(left.is_empty())
        });
        let example = left.first().copied();
        self.unconfirmed = left;
        waited.with_context(|| match example {
            Some(id) => {
                let missing = self.unconfirmed.len();
                format!("{missing} ids are lost, such as {id} ({:?})", self.journal.seen.get(&id))
            }
            None => "waiting for rows".to_owned(),
        })
    }

    /// No dead letter but those that are due, and nothing that is our own trouble reads `down`.
    fn quiet(&self) -> Result<()> {
        let letters = self.database.count("SELECT count(*) FROM monmon_dead_letter")?;
        ensure!(
            letters == self.poison,
            "{letters} dead letters where {} are due: {:?}",
            self.poison,
            self.database.query("SELECT reason, message FROM monmon_dead_letter ORDER BY id DESC LIMIT 3")
        );
        if !self.shape.may_be_down {
            let down = "SELECT outcome, error_kind, error_phase, error_message, count(*) FROM monmon_measurement \
                        WHERE outcome IN ('down', 'degraded') GROUP BY 1, 2, 3, 4 LIMIT 5";
            let down = self.database.query(down)?;
            ensure!(down.is_empty(), "our own fault reads as the site's: {down:?}");
        }
        Ok(())
    }

    /// Stops everything in order and holds all oracles against each other.
    pub(crate) fn settle(&mut self) -> Result<()> {
        eventually("load", || {
            self.journal.advance()?;
            self.watch()?;
            Ok(self.journal.seen.len() >= self.shape.messages_min)
        })
        .context("too few messages to prove anything")?;
        for at in 0..self.producers.len() {
            if let Some(mut producer) = self.producers[at].take() {
                let status = producer.terminate()?;
                ensure!(status.success(), "producer {at} ended with {status}:\n{}", producer.tail());
            }
        }
        self.reckon()?;
        for at in 0..self.consumers.len() {
            if let Some(mut consumer) = self.consumers[at].take() {
                let status = consumer.terminate()?;
                ensure!(status.success(), "consumer {at} ended with {status}:\n{}", consumer.tail());
            }
        }
        self.no_lag()?;
        let stored: BTreeSet<Uuid> = self.database.all_ids()?.into_iter().collect();
        let due: BTreeSet<Uuid> =
            self.journal.seen.keys().filter(|id| !self.gone.contains(*id)).copied().collect();
        let lost: Vec<&Uuid> = due.difference(&stored).collect();
        ensure!(lost.is_empty(), "{} ids are not stored any more, such as {}", lost.len(), lost[0]);
        self.site_agrees()?;
        let overtaken = self.journal.overtaken;
        ensure!(!self.is_in_order || overtaken == 0, "{overtaken} measurements are out of their order");
        self.slots_agree()?;
        self.numbers_agree()?;
        self.audit_agrees()?;
        self.logs_are_calm()
    }

    /// Consumers that were asked to end have committed all that was stored.
    fn no_lag(&mut self) -> Result<()> {
        if self.consumers.is_empty() {
            return Ok(());
        }
        let committed = self.journal.committed(&self.topic)?;
        for (partition, (low, high)) in self.journal.watermarks()? {
            let at = committed.get(&partition).copied().unwrap_or(low);
            ensure!(at == high, "partition {partition} is committed up to {at} of {high}");
        }
        Ok(())
    }

    /// What was measured was really asked, and what was asked is measured.
    fn site_agrees(&self) -> Result<()> {
        let hits = self.page_hits();
        let mut unmeasured = 0;
        for (url, count) in &hits {
            let answered = self.journal.answered.get(url).copied().unwrap_or(0);
            let cut_off = self.journal.cut_off.get(url).copied().unwrap_or(0);
            ensure!(answered <= *count, "{url}: {answered} answers are told, and the site gave {count}");
            unmeasured += count.saturating_sub(answered + cut_off);
        }
        let invented = self.journal.answered.keys().find(|url| !hits.contains_key(*url));
        ensure!(invented.is_none(), "answers of {invented:?}, which was never asked");
        // What is broken off at the end of a grace is told as that, and not by what had become of it.
        let broken_off = self.journal.failures.get("shutdown").copied().unwrap_or(0);
        let unmeasured_max = self.unmeasured_max + broken_off;
        ensure!(
            unmeasured <= unmeasured_max,
            "{unmeasured} requests that the site saw are not in the topic; {unmeasured_max} may be missing"
        );
        Ok(())
    }

    /// Each slot has its row, or stands in one that counts it; holes are where a producer was killed.
    fn slots_agree(&self) -> Result<()> {
        let sql = "SELECT to_char(scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                   to_char(next AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), name \
                   FROM (SELECT m.scheduled_at, c.name, c.interval_us, lead(m.scheduled_at) OVER w AS next, \
                   coalesce(substring(m.error_message from 'stands for (\\d+)')::bigint, 1) AS slots \
                   FROM monmon_measurement_full m JOIN monmon_boot b ON b.id = m.boot_id JOIN monmon_check c ON c.id = m.check_id \
                   WHERE m.attempt = 1 WINDOW w AS (PARTITION BY b.prober_id, m.check_id ORDER BY m.scheduled_at)) x \
                   WHERE round(extract(epoch FROM next - scheduled_at) * 1000000) > interval_us * slots";
        if self.rows_were_taken {
            return Ok(());
        }
        let holes = self.database.query(sql)?;
        let unexplained: Vec<_> = holes
            .iter()
            .filter(|row| {
                let time = |at: usize| row.get(at)?.as_ref()?.parse::<Timestamp>().ok();
                let is_skipped = row[2].as_deref() == self.skips_slots_of && row[2].is_some();
                !is_skipped && !matches!((time(0), time(1)), (Some(from), Some(until)) if self.may_be_silent(from, until))
            })
            .collect();
        ensure!(
            unexplained.is_empty(),
            "{} holes between slots that no row explains, such as {:?} (kills: {:?})",
            unexplained.len(),
            unexplained[0],
            self.kills
        );
        Ok(())
    }

    /// Numbers count without a gap in each life that ended in order.
    fn numbers_agree(&self) -> Result<()> {
        if !self.kills.is_empty() || self.rows_were_taken || self.skips_slots_of.is_some() {
            return Ok(());
        }
        let sql = "SELECT boot_id, max(seq), count(*) FROM monmon_measurement_full GROUP BY 1 \
                   HAVING max(seq) <> count(*)";
        let gaps = self.database.query(sql)?;
        ensure!(gaps.is_empty(), "numbers with gaps: {gaps:?}");
        Ok(())
    }

    /// monmon's own account comes to the same. Where nothing was killed it must prove everything, to the last slot.
    fn audit_agrees(&self) -> Result<()> {
        let url = self.theatre.postgres_url(&self.database.name);
        let mut command = std::process::Command::new(&self.theatre.setting.monmon);
        command.args(["audit", "--store", &url, "--format", "json", "--settle", "0s"]);
        if (self.kills.is_empty() && self.audit == Audit::Sound) || self.audit == Audit::Unproven {
            command.arg("--strict");
        }
        if self.audit == Audit::Broken {
            // What is at a log's end is known to be lost only where Kafka says that it is the end.
            let brokers =
                self.shape.brokers.as_ref().map_or_else(|| self.theatre.brokers(), |three| three[2].clone());
            command.args(["--brokers", &brokers, "--group", &self.topic]);
        }
        let output = command.output().context("starting the audit")?;
        let due = if self.audit == Audit::Sound { 0 } else { 1 };
        let told = String::from_utf8_lossy(&output.stdout);
        let verdict: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        ensure!(
            output.status.code() == Some(due),
            "the audit ends with {} where {due} is due: {} {} {}",
            output.status,
            verdict["verdict"],
            findings(&verdict["findings"]),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// No trouble in the logs that the faults do not explain, and no secret.
    fn logs_are_calm(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.folder).context("reading the road's folder")? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            let secret = SECRETS.iter().find(|secret| text.contains(**secret));
            ensure!(secret.is_none(), "{} holds a secret", path.display());
            let troubles: Vec<&str> = text.lines().filter(|line| self.is_trouble(line)).take(SHOWN).collect();
            ensure!(troubles.is_empty(), "{}:\n{}", path.display(), troubles.join("\n"));
        }
        Ok(())
    }

    /// For a road whose rows are not in the database.
    pub(crate) fn logs_and_site(&mut self) -> Result<()> {
        self.no_lag()?;
        self.site_agrees()?;
        self.logs_are_calm()
    }

    fn is_trouble(&self, line: &str) -> bool {
        if line.contains("panicked at") {
            return true;
        }
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return false };
        matches!(value["level"].as_str(), Some("WARN" | "ERROR"))
            && !ANNOUNCED.iter().chain(&self.announced).any(|text| line.contains(text))
    }
}

/// Each kind of finding with how often it was met, and the first of it.
fn findings(of: &serde_json::Value) -> String {
    let kinds = of.as_object().into_iter().flatten();
    let each = kinds
        .map(|(kind, found)| format!("{kind} {} ({:.300})", found["count"], found["shown"][0].to_string()));
    each.collect::<Vec<_>>().join("; ")
}
