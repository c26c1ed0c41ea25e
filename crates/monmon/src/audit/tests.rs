//! Stores as they would be after well-known lives of probers, and each kind of damage done to them.

use std::time::Duration;

use monmon_http::Slots;
use monmon_kafka::LogState;
use monmon_model::{
    AuditBoot, AuditDefinition, AuditFacts, AuditLetter, AuditOffsets, AuditProber, AuditReader,
    AuditReceipt, AuditRow, AuditSum, AuditTimes, Outcome, check_id, measurement_id,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::finding::{Finding, Verdict};
use super::judge::judge;
use super::ledger::{Ledger, Scope};
use super::logs_of::hold;
use super::report::Report;

mod doubt;
mod lag;
mod sealed;

const SECOND: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND;
/// A round minute.
const T0: i64 = 1_795_000_020 * SECOND;

#[derive(Clone)]
struct Row {
    id: Uuid,
    check: usize,
    boot: usize,
    slot_us: i64,
    seq: u64,
    attempt: u32,
    outcome: Outcome,
    error_kind: Option<&'static str>,
    message: Option<String>,
    total_us: Option<u32>,
}

/// A store in memory.
#[derive(Clone, Default)]
struct Store {
    facts: AuditFacts,
    receipts: Vec<AuditReceipt<'static>>,
    sums: Vec<AuditSum>,
    times: Vec<AuditTimes>,
    rows: Vec<Row>,
    /// Check and slot of all rows that there ever were.
    seen: Vec<(usize, i64)>,
    letters: Vec<Vec<u8>>,
    offsets: Vec<(i32, i64, i64)>,
    /// Batches of one more partition: who read them, first and last offset, and when they were stored.
    batches: Vec<(&'static str, i64, i64, i64)>,
    /// Partitions of which there are batches, within the window or not.
    partitions: Vec<i32>,
    /// What Kafka said: a partition, the offset after its last, and the one that the group goes on from.
    logs: Vec<(i32, i64, i64)>,
    /// As `--settle`, in seconds.
    settle_s: u64,
    /// The clock of the audit, in seconds after T0.
    now_s: i64,
}

/// How a boot ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Orderly,
    Killed,
    Running,
}

impl Store {
    fn check(&mut self, name: &str, interval_s: u64, schedule: Option<&str>) -> usize {
        let number = self.facts.definitions.len();
        self.facts.definitions.push(AuditDefinition {
            id: Uuid::from_u128(0xdef0 + number as u128),
            check_id: check_id("p", "s", name),
            pipeline: "p".to_owned(),
            source: "s".to_owned(),
            name: name.to_owned(),
            interval_us: interval_s * 1_000_000,
            schedule: schedule.map(str::to_owned),
            labels: monmon_model::Labels::default(),
            first_seen_us: i64::MAX,
        });
        number
    }

    fn slots(&self, check: usize, from_s: i64, until_s: i64) -> Vec<i64> {
        let definition = &self.facts.definitions[check];
        let slots =
            Slots::of(definition.check_id, definition.interval_us, definition.schedule.as_deref()).unwrap();
        let mut slot = slots.at_or_after(T0 + from_s * SECOND);
        let mut all = Vec::new();
        while slot < T0 + until_s * SECOND {
            all.push(slot);
            slot = slots.next(slot);
        }
        all
    }

    fn row(&mut self, boot: usize, check: usize, slot_us: i64, seq: u64, attempt: u32) -> &mut Row {
        let prober = self.facts.boots[boot].prober_id;
        let check_id = self.facts.definitions[check].check_id;
        let slot = jiff::Timestamp::from_microsecond(slot_us).unwrap();
        let id = measurement_id(prober, check_id, slot, attempt);
        let (outcome, error_kind, message) = (Outcome::Up, None, None);
        let total_us = None;
        self.seen.push((check, slot_us));
        self.rows.push(Row {
            id,
            check,
            boot,
            slot_us,
            seq,
            attempt,
            outcome,
            error_kind,
            message,
            total_us,
        });
        self.rows.last_mut().unwrap()
    }

    fn boot(&mut self, prober: u128) -> usize {
        let prober_id = Uuid::from_u128(prober);
        if self.facts.probers.iter().all(|known| known.id != prober_id) {
            self.facts.probers.push(AuditProber { id: prober_id, name: format!("prober-{prober}") });
        }
        let number = self.facts.boots.len();
        let id = Uuid::from_u128(0xb000 + number as u128);
        self.facts.boots.push(AuditBoot { id, prober_id, first_seen_us: 0 });
        number
    }

    /// A boot that measures every slot of its checks, from one second to another; a receipt at each minute.
    fn life(&mut self, prober: u128, checks: &[usize], from_s: i64, until_s: i64, end: End) -> usize {
        let boot = self.boot(prober);
        self.live(boot, checks, (from_s, from_s, until_s), end);
        boot
    }

    /// With slots from before its beginning, which are told in one row a check.
    fn live(&mut self, boot: usize, checks: &[usize], times: (i64, i64, i64), end: End) {
        let (slots_from_s, from_s, until_s) = times;
        let mut seq = 0;
        let mut done: Vec<(i64, u64, Uuid)> = Vec::new();
        for check in checks {
            let slots = self.slots(*check, slots_from_s, from_s);
            if let (Some(first), Some(last)) = (slots.first(), slots.last()) {
                seq += 1;
                let told = format!(
                    "the prober was not running; stands for {} slots from {} to {}, one every 10s",
                    slots.len(),
                    jiff::Timestamp::from_microsecond(*first).unwrap(),
                    jiff::Timestamp::from_microsecond(*last).unwrap()
                );
                let row = self.row(boot, *check, *first, seq, 1);
                (row.outcome, row.error_kind) = (Outcome::Unknown, Some("not_running"));
                row.message = (slots.len() > 1).then_some(told);
                done.push((T0 + from_s * SECOND, seq, row.id));
            }
        }
        let mut due: Vec<(i64, usize)> = Vec::new();
        for check in checks {
            due.extend(self.slots(*check, from_s, until_s).into_iter().map(|slot| (slot, *check)));
        }
        due.sort_unstable();
        for (slot, check) in due {
            seq += 1;
            let id = self.row(boot, check, slot, seq, 1).id;
            done.push((slot, seq, id));
        }
        let mut cuts: Vec<i64> = (1..).map(|n| from_s + n * 60).take_while(|cut| *cut < until_s).collect();
        if end == End::Orderly {
            cuts.push(until_s);
        }
        let mut first_seq = 1;
        for cut in cuts {
            let upto = done.iter().filter(|(slot, ..)| *slot < T0 + cut * SECOND);
            let last_seq = upto.clone().map(|(_, seq, _)| *seq).max().unwrap_or(0);
            let ids =
                upto.filter(|(_, seq, _)| *seq >= first_seq).fold(0, |xor, (.., id)| xor ^ id.as_u128());
            self.receipts.push(AuditReceipt {
                boot_id: self.facts.boots[boot].id,
                pipeline: "p",
                source: "s",
                at_us: T0 + cut * SECOND,
                began_us: T0 + from_s * SECOND,
                slots_from_us: T0 + slots_from_s * SECOND,
                slots_until_us: T0 + cut * SECOND,
                first_seq,
                last_seq,
                ids_xor: Uuid::from_u128(ids),
                failed: 0,
                last: end == End::Orderly && cut == until_s,
            });
            first_seq = last_seq + 1;
        }
        self.now_s = self.now_s.max(until_s);
    }

    fn audit(&self) -> Report {
        self.audit_window(None, None)
    }

    fn audit_window(&self, since_s: Option<i64>, until_s: Option<i64>) -> Report {
        judge(self.ledger(since_s, until_s, false))
    }

    fn ledger(&self, since_s: Option<i64>, until_s: Option<i64>, for_report: bool) -> Ledger {
        let at = |s: i64| jiff::Timestamp::from_microsecond(T0 + s * SECOND).unwrap();
        let now = at(self.now_s + 1);
        let until = until_s.map_or(now, at);
        let mut scope: Scope =
            super::scope(since_s.map(at), until, now, Duration::from_secs(self.settle_s), None).unwrap();
        scope.for_report = for_report;
        let mut ledger = Ledger::new(scope.clone());
        let is_read = |at_us: &i64| (scope.read_since_us..scope.read_until_us).contains(at_us);
        let mut facts = self.facts.clone();
        for row in &self.seen {
            let seen_us = &mut facts.definitions[row.0].first_seen_us;
            *seen_us = row.1.min(*seen_us);
        }
        ledger.facts(facts);
        for receipt in self.receipts.iter().filter(|receipt| is_read(&receipt.at_us)) {
            ledger.receipt(receipt);
        }
        for row in &self.rows {
            if !(scope.read_since_us..scope.read_until_us).contains(&row.slot_us) {
                continue;
            }
            let definition = &self.facts.definitions[row.check];
            ledger.row(&AuditRow {
                id: row.id,
                check_id: definition.check_id,
                definition_id: definition.id,
                boot_id: self.facts.boots[row.boot].id,
                slot_us: row.slot_us,
                seq: row.seq,
                attempt: row.attempt,
                outcome: row.outcome,
                total_us: row.total_us,
                maintenance: false,
                error_kind: row.error_kind,
                message: row.message.as_deref(),
            });
        }
        for bytes in &self.letters {
            ledger.letter(&AuditLetter { id: Uuid::nil(), reason: "store_refused", bytes });
        }
        for (partition, first, last) in &self.offsets {
            ledger.offsets(&AuditOffsets {
                topic: "t",
                partition: *partition,
                pipeline: "consumer",
                source: "events",
                first: *first,
                last: *last,
                stored_us: T0,
            });
        }
        for (pipeline, first, last, stored_s) in &self.batches {
            let stored_us = T0 + stored_s * SECOND;
            let (topic, partition, source, first, last) = ("t", 9, "events", *first, *last);
            ledger.offsets(&AuditOffsets { topic, partition, pipeline, source, first, last, stored_us });
        }
        for partition in &self.partitions {
            ledger.offsets.know("t".to_owned(), *partition, 9);
        }
        for (partition, high, committed) in &self.logs {
            let (topic, partition, low) = ("t".to_owned(), *partition, 0);
            let committed = Some(*committed);
            hold(&mut ledger, LogState { topic, partition, low, high: *high, committed });
        }
        // One day more at each end of the window, as stores do.
        let days = scope.since_us.saturating_sub(DAY_US)..scope.until_us.saturating_add(DAY_US);
        let sums = self.sums.iter().filter(|sum| days.contains(&sum.start_us));
        sums.for_each(|sum| ledger.sum(sum));
        self.times.iter().for_each(|times| ledger.times(times));
        ledger
    }
}

/// Two checks, measured for ten minutes by one boot that came to an orderly end.
fn clean() -> Store {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 10, None), store.check("docs", 60, None));
    store.life(1, &[home, docs], 0, 600, End::Orderly);
    store
}

/// The verdict, the algebra, and what was found, in few words; times are seconds after the beginning.
fn told(report: &Report) -> String {
    let value = serde_json::to_value(report).unwrap();
    let slots: Vec<String> = value["slots"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, count)| **count != 0 && count.as_object().is_none_or(|reasons| !reasons.is_empty()))
        .map(|(name, count)| format!("{name}={}", count.to_string().replace('"', "")))
        .collect();
    let mut lines =
        vec![format!("{} {}", value["verdict"].as_str().unwrap(), slots.join(" ")).trim_end().to_owned()];
    for (kind, found) in report.findings.iter() {
        lines.push(format!("{} {}", kind.word(), found.count));
        lines.extend(found.shown.iter().take(5).map(|finding| format!("  {}", line(finding))));
    }
    lines.join("\n")
}

fn line(finding: &Finding) -> String {
    let mut words = Vec::new();
    words.extend(finding.check.clone());
    words.extend(finding.prober.clone().filter(|prober| prober != "prober-1"));
    words.extend(finding.at.map(|at| format!("@{:.1}", (at.as_microsecond() - T0) as f64 / 1e6)));
    words.extend(finding.first.map(|first| format!("{first}-{}", finding.last.unwrap())));
    words.extend(finding.message.clone());
    words.join(" ")
}

#[test]
fn a_clean_life_is_proven() {
    insta::assert_snapshot!(told(&clean().audit()), @r##"proven due=70 known=70"##);
}

#[test]
fn a_row_that_was_deleted_is_named_with_its_number() {
    let mut store = clean();
    store.rows.remove(20);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=69 missing=1
    missing_slot 1
      home @172.3
    seq_hole 1
      21-21
    "##);
}

#[test]
fn a_row_that_was_doubled_under_another_id_is_named() {
    let mut store = clean();
    let second = Row { id: Uuid::from_u128(5), ..store.rows[20].clone() };
    store.rows.push(second);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    doubled 1
      home @172.3
    "##);
}

#[test]
fn a_row_under_another_id_than_its_own_is_named() {
    let mut store = clean();
    store.rows[20].id = Uuid::from_u128(5);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=69 missing=1
    missing_slot 1
      home @172.3
    foreign_id 1
      home @172.3
    seq_hole 1
      21-21
    "##);
}

#[test]
fn a_number_that_two_rows_have_is_named() {
    let mut store = clean();
    store.rows[20].seq = store.rows[21].seq;
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    seq_hole 1
      21-21
    seq_doubled 1
      22-22
    receipt_differs 1
      @240.0 22-28
    "##);
}

#[test]
fn a_receipt_that_is_missing_is_named_and_what_it_was_about_is_looked_at() {
    let mut store = clean();
    store.receipts.remove(4);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    receipt_missing 1
      @360.0 29-35
    "##);
    let receipt = store.receipts.last_mut().unwrap();
    receipt.last = false;
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    receipt_missing 1
      @360.0 29-35
    "##);
}

#[test]
fn rows_that_are_not_those_of_their_receipt_are_told() {
    let mut store = clean();
    store.receipts[4].ids_xor = Uuid::from_u128(1);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    receipt_differs 1
      @300.0 29-35
    "##);
}

#[test]
fn what_a_sink_gave_up_is_told_and_not_missed() {
    let mut store = clean();
    store.rows.remove(20);
    for receipt in &mut store.receipts {
        receipt.failed = 1;
    }
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=70 given_up=1 known=69"##);
}

#[test]
fn offsets_tile_and_a_hole_is_named() {
    let mut store = clean();
    store.offsets = vec![(0, 0, 9), (0, 5, 20), (0, 21, 21), (1, 7, 8), (1, 9, 30), (2, 0, 0)];
    assert_eq!(store.audit().findings.iter().count(), 0);
    store.offsets[2] = (0, 25, 30);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    offset_hole 4
      21-24
    "##);
}

#[test]
fn a_row_between_slots_has_no_reason_unless_the_check_was_down() {
    let mut store = clean();
    let slot = store.rows[20].slot_us;
    let seq = store.rows.len() as u64;
    store.row(0, 0, slot + SECOND, seq + 1, 1);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    off_slot 1
      home @173.3
    seq_beyond 1
      71-71
    "##);
    store.rows[20].outcome = Outcome::Down;
    let looks = [2, 3].map(|after| slot + after * SECOND);
    store.rows.pop();
    for (more, look) in (1..).zip(looks) {
        store.row(0, 0, look, seq + more, 1).outcome = Outcome::Down;
    }
    let receipt = store.receipts.last_mut().unwrap();
    receipt.last_seq += 2;
    let ids = store.rows[store.rows.len() - 2..].iter().fold(0, |xor, row| xor ^ row.id.as_u128());
    receipt.ids_xor = Uuid::from_u128(receipt.ids_xor.as_u128() ^ ids);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=70 known=70 rechecks=2"##);
}

#[test]
fn retries_are_more_tries_of_one_slot() {
    let mut store = clean();
    let row = store.rows[20].clone();
    store.rows[20].outcome = Outcome::Down;
    let seq = store.rows.len() as u64 + 1;
    store.row(0, row.check, row.slot_us, seq, 2);
    let id = store.rows.last().unwrap().id.as_u128();
    let receipt = store.receipts.last_mut().unwrap();
    receipt.last_seq += 1;
    receipt.ids_xor = Uuid::from_u128(receipt.ids_xor.as_u128() ^ id);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=70 known=70 more_tries=1"##);
}

#[test]
fn a_restart_tells_what_nobody_was_there_to_measure() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    let boot = store.boot(1);
    store.live(boot, &[home], (300, 420, 600), End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=60 known=48 told_together=11 unknown={not_running:1}"##);
    // Without that row the slots between are nobody's.
    store.rows.retain(|row| row.error_kind.is_none());
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=60 known=48 missing=12
    missing_slot 12
      home @302.3
      home @312.3
      home @322.3
      home @332.3
      home @342.3
    seq_hole 1
      1-1
    "##);
}

#[test]
fn a_killed_prober_takes_the_last_slots_with_it() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 275, End::Killed);
    let boot = store.boot(1);
    store.live(boot, &[home], (300, 420, 600), End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable died=2 due=60 known=46 told_together=11 unknown={not_running:1}
    died_slot 2
      home @282.3
      home @292.3
    not_provable 1
      @240.0
    "##);
    // What its receipts are about is proven all the same.
    store.rows.remove(3);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken died=2 due=60 known=45 missing=1 told_together=11 unknown={not_running:1}
    missing_slot 1
      home @32.3
    seq_hole 1
      4-4
    died_slot 2
      home @282.3
      home @292.3
    not_provable 1
      @240.0
    "##);
}

#[test]
fn what_has_no_receipt_yet_is_on_its_way() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 275, End::Running);
    store.rows.truncate(25);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=28 known=25 on_the_way=3"##);
    // Of a prober that fell silent nothing can be shown from then on.
    store.now_s += 600;
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=88 known=25 on_the_way=63
    not_provable 1
      @240.0
    "##);
}

#[test]
fn each_boot_is_judged_by_its_own_definitions() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    let slower = store.check("home", 25, None);
    store.life(1, &[slower], 300, 600, End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=42 known=42"##);
    store.rows.pop();
    store.rows.remove(3);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=42 known=40 missing=2
    missing_slot 2
      home @32.3
      home @597.3
    seq_hole 2
      4-4
      12-12
    "##);
}

#[test]
fn crontab_lines_have_their_slots() {
    let mut store = Store::default();
    let nightly = store.check("nightly", 300, Some("*/5 * * * * Europe/Berlin"));
    store.life(1, &[nightly], 0, 7_200, End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=24 known=24"##);
    store.rows.remove(3);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=24 known=23 missing=1
    missing_slot 1
      nightly @1080.0
    seq_hole 1
      4-4
    "##);
}

#[test]
fn each_prober_is_judged_alone_and_two_with_one_id_are_told() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    store.life(2, &[home], 0, 300, End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven due=60 known=60"##);
    store.rows.remove(40);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=60 known=59 missing=1
    missing_slot 1
      home prober-2 @102.3
    seq_hole 1
      prober-2 11-11
    "##);
    // The same slots by the same prober in another life at the same time: the first row of each slot stays, now of one of them
    // and now of the other.
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    store.life(1, &[home], 120, 420, End::Orderly);
    store.rows.sort_by_key(|row| (row.slot_us, row.boot != (row.slot_us / SECOND / 40 % 2) as usize));
    let mut seen = std::collections::BTreeSet::new();
    store.rows.retain(|row| seen.insert(row.id));
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=42 known=42
    shared_prober 2
      @0.0 10 of its numbers are not stored; the other's slots may stand there
      @120.0 8 of its numbers are not stored; the other's slots may stand there
    "##);
}

#[test]
fn what_retention_dropped_is_no_loss() {
    let mut store = clean();
    let kept_from_us = T0 + 300 * SECOND;
    store.facts.dropped = vec![(0, kept_from_us)];
    store.rows.retain(|row| row.slot_us >= kept_from_us);
    insta::assert_snapshot!(told(&store.audit()), @r##"proven dropped=35 due=70 known=35"##);
    assert_eq!((store.audit().receipts.proven, store.audit().receipts.dropped), (5, 5));
}

#[test]
fn without_receipts_numbers_are_looked_at() {
    let mut store = clean();
    store.receipts.clear();
    store.rows.remove(20);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=69 missing=1
    missing_slot 1
      home @172.3
    no_receipts 1
      @2.3 1 of its numbers are not stored
    "##);
}

#[test]
fn a_window_is_judged_by_its_own_slots() {
    let mut store = clean();
    store.rows.remove(20);
    let report = store.audit_window(Some(60), Some(180));
    insta::assert_snapshot!(told(&report), @r##"
    broken due=14 known=13 missing=1
    missing_slot 1
      home @172.3
    seq_hole 1
      21-21
    "##);
    let report = store.audit_window(Some(300), Some(600));
    insta::assert_snapshot!(told(&report), @r##"proven due=35 known=35"##);
}

#[test]
fn nothing_is_no_proof() {
    insta::assert_snapshot!(told(&Store::default().audit()), @r##"
    not_provable
    nothing_stored 1
    "##);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Exactly the slots whose rows were deleted are missing, whichever they are, and the algebra holds.
    #[test]
    fn what_is_deleted_is_what_is_missing(deleted in prop::collection::btree_set(0usize..190, 0..60)) {
        let mut store = Store::default();
        let checks = [store.check("a", 10, None), store.check("b", 7, None), store.check("c", 30, None)];
        store.life(1, &checks, 0, 300, End::Orderly);
        store.life(1, &checks, 300, 600, End::Orderly);
        let all = store.rows.len() as u64;
        let mut lost = Vec::new();
        let mut at = 0;
        store.rows.retain(|row| {
            let stays = !deleted.contains(&at) || row.seq % 50 == 1;
            if !stays {
                lost.push((row.slot_us, row.check));
            }
            at += 1;
            stays
        });
        let report = store.audit();
        let value = serde_json::to_value(&report).unwrap();
        let named = value["findings"]["missing_slot"]["shown"].as_array().cloned().unwrap_or_default();
        let mut named: Vec<(i64, usize)> = named
            .iter()
            .map(|finding| {
                let at: jiff::Timestamp = finding["at"].as_str().unwrap().parse().unwrap();
                let check = store.facts.definitions.iter().position(|known| Some(known.name.as_str()) == finding["check"].as_str());
                (at.as_microsecond(), check.unwrap())
            })
            .collect();
        named.sort_unstable();
        lost.sort_unstable();
        prop_assert_eq!(&named, &lost);
        prop_assert_eq!(report.slots.due, all);
        prop_assert_eq!(report.slots.known + report.slots.missing, report.slots.due);
        prop_assert_eq!(value["findings"]["seq_hole"]["count"].as_u64().unwrap_or(0), lost.len() as u64);
    }
}
