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
