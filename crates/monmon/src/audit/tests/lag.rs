//! Consumers that lag: what they have not stored yet is no loss, and what is lost is not hidden behind that.

use super::*;

/// Two checks for two hours, in a topic with two partitions.
fn two_partitions() -> Store {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 10, None), store.check("docs", 60, None));
    store.life(1, &[home, docs], 0, 7_200, End::Running);
    store.offsets = vec![(0, 0, 9), (1, 0, 9)];
    store.settle_s = 120;
    store
}

fn without(store: &mut Store, gone: impl Fn(&Row) -> bool) -> usize {
    let before = store.rows.len();
    store.rows.retain(|row| !gone(row));
    before - store.rows.len()
}

#[test]
fn a_partition_that_is_an_hour_behind_is_not_broken() {
    let mut store = two_partitions();
    assert_eq!(without(&mut store, |row| row.check == 1 && row.slot_us > T0 + 3_600 * SECOND), 60);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=840 known=780 on_the_way=60
    awaited_slot 58
      docs @3645.4
      docs @3705.4
      docs @3765.4
      docs @3825.4
      docs @3885.4
    awaited_seq 58
      426-426
      433-433
      440-440
      447-447
      454-454
    "##);
    // One that is lost all the same, before that and behind it: its own check is read beyond it.
    without(&mut store, |row| {
        row.check == 0 && [20, 500].contains(&(row.slot_us / SECOND / 10 - T0 / SECOND / 10))
    });
    let report = store.audit();
    assert_eq!((report.verdict, report.slots.missing), (Verdict::Broken, 2), "{}", told(&report));
    assert!(told(&report).contains("seq_hole 1\n"), "{}", told(&report));
    // Kafka says that there is nothing more.
    store.logs = vec![(0, 10, 10), (1, 10, 10)];
    assert_eq!(store.audit().slots.missing, 60, "{}", told(&store.audit()));
    store.logs = vec![(0, 10, 10), (1, 99, 10)];
    assert_eq!(store.audit().slots.missing, 2, "{}", told(&store.audit()));
    // One partition alone is read in order.
    (store.logs, store.offsets) = (Vec::new(), vec![(0, 0, 9)]);
    assert_eq!(store.audit().slots.missing, 60, "{}", told(&store.audit()));
}

#[test]
fn the_end_of_a_boot_is_known_when_the_next_one_is_there() {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 10, None), store.check("docs", 60, None));
    store.life(1, &[home, docs], 0, 600, End::Orderly);
    store.offsets = vec![(0, 0, 9), (1, 0, 9)];
    without(&mut store, |row| row.check == 1 && row.slot_us > T0 + 500 * SECOND);
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=70 known=68 on_the_way=2
    awaited_slot 2
      docs @525.4
      docs @585.4
    awaited_seq 2
      62-62
      69-69
    "##);
    store.life(1, &[home, docs], 600, 900, End::Orderly);
    assert_eq!(store.audit().slots.missing, 2, "{}", told(&store.audit()));
}

#[test]
fn a_batch_that_another_writer_has_may_hold_what_is_missing() {
    let mut store = clean();
    store.rows.remove(20);
    store.receipts.remove(7);
    store.batches = vec![("consumer", 0, 9, 100), ("consumer", 20, 29, 601)];
    insta::assert_snapshot!(told(&store.audit()), @r##"
    not_provable due=70 known=69 on_the_way=1
    awaited_slot 1
      home @172.3
    awaited_seq 1
      21-21
    "##);
    store.batches[1].3 = 600;
    assert_eq!(store.audit().verdict, Verdict::Broken);
}

fn of(report: &Report, kind: &str) -> u64 {
    report.findings.iter().find(|(found, _)| found.word() == kind).map_or(0, |(_, found)| found.count)
}

fn is_awaited(store: &Store, since_s: Option<i64>) {
    let report = store.audit_window(since_s, None);
    assert_eq!(report.verdict, Verdict::NotProvable, "{}", told(&report));
    assert!(of(&report, "awaited_seq") > 0, "{}", told(&report));
}

#[test]
fn a_check_that_lags_for_longer_than_the_window_is_not_broken() {
    let mut store = two_partitions();
    store.offsets.push((2, 0, 9));
    let all = store.rows.clone();
    without(&mut store, |row| row.check == 1 && row.slot_us > T0 + 1_800 * SECOND);
    is_awaited(&store, Some(3_600));
    // What is lost of a check that is read beyond it is lost all the same.
    let lost = |row: &Row| row.check == 0 && row.seq == 500;
    assert_eq!(without(&mut store, lost), 1);
    let report = store.audit_window(Some(3_600), None);
    assert_eq!((report.verdict, report.slots.missing), (Verdict::Broken, 1), "{}", told(&report));
    // And its number too when the other has come; a check that is in the file no more changes nothing.
    store.rows = all;
    store.check("old", 300, None);
    without(&mut store, lost);
    for since_s in [None, Some(3_600)] {
        let report = store.audit_window(since_s, None);
        assert_eq!((of(&report, "seq_hole"), of(&report, "awaited_seq")), (1, 0), "{}", told(&report));
    }
}

#[test]
fn a_partition_that_was_never_read_is_not_broken() {
    let mut store = two_partitions();
    without(&mut store, |row| row.check == 1);
    store.facts.definitions.pop();
    store.seen.retain(|(check, _)| *check != 1);
    for offsets in
        [&[(0, 0, 9), (2, 0, 9)][..], &[(1, 0, 9), (2, 0, 9)], &[(0, 0, 9), (1, 0, 9)], &[(0, 0, 9)]]
    {
        store.offsets = offsets.to_vec();
        is_awaited(&store, None);
        is_awaited(&store, Some(3_600));
    }
    store.logs = vec![(0, 10, 10), (1, 10, 0)];
    is_awaited(&store, None);
    // A check that is measured rarely, in a partition of which Kafka says that nobody has read it.
    let mut store = two_partitions();
    without(&mut store, |row| {
        row.check == 1 && row.slot_us > T0 + 600 * SECOND && row.slot_us < T0 + 660 * SECOND
    });
    store.offsets = vec![(0, 0, 9)];
    store.logs = vec![(0, 10, 10), (1, 0, 0)];
    assert_eq!(of(&store.audit(), "seq_hole"), 1, "{}", told(&store.audit()));
    store.logs[1].1 = 10;
    assert_eq!(of(&store.audit(), "seq_hole"), 0, "{}", told(&store.audit()));
}

#[test]
fn partitions_without_a_batch_in_the_window_are_partitions() {
    let mut store = two_partitions();
    store.offsets.pop();
    store.partitions = vec![0, 1];
    without(&mut store, |row| row.check == 1 && row.slot_us > T0 + 3_300 * SECOND);
    is_awaited(&store, Some(3_600));
    let report = store.audit_window(Some(3_600), None);
    assert!(of(&report, "awaited_slot") > 0, "{}", told(&report));
    // Kafka has nothing more of them: what was stored before the window is stored.
    store.logs = vec![(0, 10, 10), (1, 10, 10)];
    assert_eq!(store.audit_window(Some(3_600), None).verdict, Verdict::Broken);
}
