//! What cannot be known is not called broken, and not proven either.

use std::sync::Arc;

use monmon_model::{Event, Failure, FailureKind, Phase, Prober, Receipt, wire};
use monmon_testkit::stages::measurement;

use super::*;

/// One check every ten seconds, by one boot, for two hours.
fn running() -> Store {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 7_200, End::Running);
    store
}

fn letter_of(receipt: &AuditReceipt<'_>) -> Vec<u8> {
    let at = |at_us| jiff::Timestamp::from_microsecond(at_us).unwrap();
    let prober =
        Prober { id: Uuid::from_u128(1), name: "a".to_owned(), location: None, boot: receipt.boot_id };
    let receipt = Receipt {
        id: Uuid::from_u128(9),
        prober: Arc::new(prober),
        pipeline: receipt.pipeline.to_owned(),
        source: receipt.source.to_owned(),
        at: at(receipt.at_us),
        began_at: at(receipt.began_us),
        slots_from: at(receipt.slots_from_us),
        slots_until: at(receipt.slots_until_us),
        first_seq: receipt.first_seq,
        last_seq: receipt.last_seq,
        ids_xor: receipt.ids_xor,
        failed: receipt.failed,
        last: receipt.last,
    };
    let mut bytes = Vec::new();
    wire::encode_event(&Event::Receipt(receipt), &mut bytes);
    bytes
}

#[test]
fn a_closed_window_of_a_prober_that_runs_is_proven() {
    let mut store = running();
    insta::assert_snapshot!(told(&store.audit_window(Some(1_800), Some(5_400))), @"proven due=360 known=360");
    insta::assert_snapshot!(told(&store.audit_window(None, Some(5_400))), @"proven due=540 known=540");
    // Killed behind the window, and started again long after.
    store.life(1, &[0], 20_000, 20_300, End::Orderly);
    insta::assert_snapshot!(told(&store.audit_window(Some(1_800), Some(5_400))), @"proven due=360 known=360");
    insta::assert_snapshot!(told(&store.audit_window(Some(20_000), Some(20_300))), @"proven due=30 known=30");
    // Killed within the window.
    let report = store.audit_window(Some(1_800), Some(9_000));
    assert_eq!((report.slots.missing, report.verdict.to_owned()), (0, Verdict::NotProvable));
    let lost = store.rows.iter().position(|row| row.slot_us > T0 + 3_000 * SECOND).unwrap();
    store.rows.remove(lost);
    let report = store.audit_window(Some(1_800), Some(5_400));
    assert_eq!((report.slots.missing, report.verdict), (1, Verdict::Broken));
}

#[test]
fn a_hole_whose_batch_may_be_under_way_is_none() {
    let mut store = clean();
    store.batches = vec![("consumer", 0, 9, 100), ("consumer", 20, 29, 601)];
    assert_eq!(told(&store.audit()), "proven due=70 known=70");
    store.batches[1].3 = 600;
    assert!(told(&store.audit()).contains("offset_hole 10\n  10-19"), "{}", told(&store.audit()));
    store.settle_s = 60;
    assert_eq!(store.audit().findings.iter().count(), 0);
    // Over an end of the window a retried batch may be stored.
    store.settle_s = 0;
    assert_eq!(store.audit_window(Some(120), None).findings.iter().count(), 0);
    assert_eq!(store.audit_window(None, Some(600)).findings.iter().count(), 0);
    assert_eq!(store.audit_window(Some(60), None).findings.iter().count(), 1);
}

#[test]
fn each_reader_has_a_log_of_its_own() {
    // Two regions' topics of one name.
    let mut store = clean();
    store.batches = vec![("north", 0, 9, 100), ("north", 10, 20, 110), ("south", 5_000, 5_009, 100)];
    assert_eq!(told(&store.audit()), "proven due=70 known=70");
    // Two readers in turns, or one that hides the other's hole.
    store.batches = vec![
        ("north", 0, 9, 100),
        ("south", 10, 19, 110),
        ("north", 20, 29, 120),
        ("north", 40, 49, 130),
        ("south", 45, 49, 140),
    ];
    insta::assert_snapshot!(told(&store.audit()), @r##"
    broken due=70 known=70
    offset_hole 10
      30-39
    offsets_not_provable 25
      10-19
      20-29
      40-44
    "##);
    // A topic that was made anew.
    store.batches = vec![("north", 0, 9, 9_000), ("north", 500, 509, 100)];
    store.now_s = 10_000;
    store.receipts.clear();
    assert!(told(&store.audit()).contains("offsets_not_provable 490"), "{}", told(&store.audit()));
}

#[test]
fn a_store_that_joined_late_is_not_provable_before() {
    let mut store = running();
    // Receipts begin earlier than the check's own partition.
    store.receipts.retain(|receipt| receipt.at_us > T0 + 3_000 * SECOND);
    store.rows.retain(|row| row.slot_us > T0 + 3_500 * SECOND);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=370 known=370
    not_provable_before 1
      @3502.3
    "##);
    insta::assert_snapshot!(told(&store.audit_window(Some(4_000), Some(6_000))), @"proven due=200 known=200");
    // What is lost after that is lost.
    store.rows.remove(100);
    let report = store.audit();
    assert_eq!((report.slots.missing, report.verdict), (1, Verdict::Broken));
    // A copy from an instant on, within the time of the first receipt.
    let mut store = clean();
    store.rows.retain(|row| row.slot_us > T0 + 25 * SECOND);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=67 known=67
    not_provable_before 1
      @45.4
    "##);
}

#[test]
fn numbers_without_receipts_prove_no_loss() {
    // A copy of one check alone.
    let mut store = clean();
    store.receipts.clear();
    store.rows.retain(|row| row.check == 0);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=60 known=60
    no_receipts 1
      @2.3 10 of its numbers are not stored
    "##);
}

#[test]
fn what_a_live_store_has_not_yet_is_on_its_way() {
    let mut store = running();
    store.settle_s = 120;
    // With another writer: a row and a receipt, with newer ones behind them.
    store.rows.retain(|row| row.slot_us < T0 + 7_100 * SECOND || row.slot_us > T0 + 7_110 * SECOND);
    store.receipts.retain(|receipt| receipt.at_us != T0 + 7_080 * SECOND);
    store.batches = vec![("consumer", 0, 9, 7_000), ("consumer", 20, 29, 7_150)];
    insta::assert_snapshot!(told(&store.audit()), @"proven due=720 known=719 on_the_way=1");
}

#[test]
fn a_receipt_among_the_dead_letters_is_a_receipt() {
    let mut store = clean();
    for receipt in store.receipts.drain(3..6) {
        store.letters.push(letter_of(&receipt));
    }
    insta::assert_snapshot!(told(&store.audit()), @"proven due=70 known=70");
    store.rows.remove(30);
    let report = store.audit();
    assert_eq!((report.slots.missing, report.verdict), (1, Verdict::Broken));
}

#[test]
fn slots_ahead_of_a_clock_that_was_set_back_are_no_second_process() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Killed);
    store.life(1, &[home], 300, 600, End::Orderly);
    let second = store.facts.boots[1].id;
    for receipt in store.receipts.iter_mut().filter(|receipt| receipt.boot_id == second) {
        receipt.began_us = T0 + 270 * SECOND;
    }
    assert!(!told(&store.audit()).contains("shared_prober"), "{}", told(&store.audit()));
}

#[test]
fn a_clock_that_was_set_back_between_two_boots_is_no_second_process() {
    for end in [End::Orderly, End::Killed] {
        let mut store = Store::default();
        let home = store.check("home", 10, None);
        store.life(1, &[home], 0, 300, end);
        // What the first boot has measured is stored already when the clock comes there once more.
        store.life(1, &[home], 120, 420, End::Orderly);
        let mut seen = std::collections::BTreeSet::new();
        store.rows.retain(|row| seen.insert(row.id));
        let report = store.audit();
        assert_eq!(report.verdict, Verdict::NotProvable, "{}", told(&report));
        assert!(told(&report).contains("boots_overlap 2"), "{}", told(&report));
        // A row that is lost is lost all the same.
        store.rows.remove(3);
        let report = store.audit();
        assert_eq!((report.verdict, report.slots.missing), (Verdict::Broken, 1), "{}", told(&report));
    }
}

#[test]
fn a_boot_of_which_nothing_is_stored_took_along_what_it_was_to_tell() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    // One that began at 330 was killed at once; the next one accounts for slots from its own beginning.
    store.life(1, &[home], 340, 600, End::Orderly);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable died=4 due=60 known=56
    died_slot 4
      home @302.3
      home @312.3
      home @322.3
      home @332.3
    "##);
}

#[test]
fn a_row_that_stands_for_several_slots_explains_them_where_it_is_not_stored() {
    let mut store = Store::default();
    let home = store.check("home", 10, None);
    store.life(1, &[home], 0, 300, End::Orderly);
    let boot = store.boot(1);
    store.live(boot, &[home], (300, 420, 600), End::Orderly);
    let at = store.rows.iter().position(|row| row.error_kind.is_some()).unwrap();
    let row = store.rows.remove(at);
    // A sink gave it up.
    let mut given_up = Store {
        facts: store.facts.clone(),
        receipts: store.receipts.clone(),
        rows: store.rows.clone(),
        now_s: store.now_s,
        ..Store::default()
    };
    given_up
        .receipts
        .iter_mut()
        .filter(|receipt| receipt.first_seq == 1)
        .for_each(|receipt| receipt.failed = 1);
    insta::assert_snapshot!(told(&given_up.audit()), @"proven due=60 given_up=12 known=48");
    // The store refused it.
    let mut measured = measurement("home", 1);
    let mut check = (*measured.check).clone();
    (check.pipeline, check.source, check.interval_us) = ("p".to_owned(), "s".to_owned(), 10_000_000);
    check.id = store.facts.definitions[home].check_id;
    store.facts.definitions[home].id = monmon_model::definition_id(&check);
    measured.check = Arc::new(check);
    measured.prober = Arc::new(Prober {
        id: Uuid::from_u128(1),
        name: "a".to_owned(),
        location: None,
        boot: store.facts.boots[boot].id,
    });
    (measured.id, measured.seq) = (row.id, row.seq);
    measured.scheduled_at = jiff::Timestamp::from_microsecond(row.slot_us).unwrap();
    measured.error = Some(Failure::new(FailureKind::NotRunning, Phase::Start, row.message.unwrap()));
    let mut bytes = Vec::new();
    wire::encode(&measured, &mut bytes);
    store.letters.push(bytes);
    insta::assert_snapshot!(told(&store.audit()), @"proven dead_lettered=1 due=60 known=48 told_together=11");
}

#[test]
fn the_largest_numbers_are_numbers() {
    let mut store = clean();
    store.rows[20].seq = u64::MAX;
    store.rows[21].seq = i64::MAX as u64;
    store.batches = vec![("consumer", 0, i64::MAX, 100), ("consumer", i64::MAX, i64::MAX, 100)];
    assert_eq!(store.audit().verdict, Verdict::Broken);
    store.receipts[5].last_seq = u64::MAX;
    assert_eq!(store.audit().verdict, Verdict::Broken);
    store.receipts.clear();
    assert_eq!(store.audit().findings.iter().filter(|(kind, _)| kind.word() == "no_receipts").count(), 1);
}

#[test]
fn a_name_that_is_nowhere_is_no_proof() {
    let scope = |pipeline: Option<&str>, check: Option<&str>| {
        let now = jiff::Timestamp::from_microsecond(T0).unwrap();
        let pipeline = pipeline.map(str::to_owned);
        let mut scope = crate::audit::scope(None, now, now, Duration::ZERO, pipeline).unwrap();
        scope.check = check.map(str::to_owned);
        let mut ledger = Ledger::new(scope);
        ledger.facts(clean().facts);
        ledger.is_there()
    };
    assert_eq!(scope(Some("p"), Some("home")), Ok(()));
    assert_eq!(scope(None, None), Ok(()));
    assert_eq!(scope(None, Some("hom")), Err("no check `hom` is stored".to_owned()));
    assert_eq!(scope(Some("q"), Some("home")), Err("no check of a pipeline `q` is stored".to_owned()));
}

#[test]
fn a_time_without_a_zone_is_refused() {
    assert!(
        crate::audit::instant("2026-10-01T12:00:00Z").is_ok() && crate::audit::instant("2026-10-01").is_ok()
    );
    assert!(crate::audit::instant("2026-10-01T12:00:00").is_err());
}
