use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TEN: i64 = 10;

fn told(owed: &mut Owed) -> Vec<(u32, Told)> {
    std::iter::from_fn(|| owed.pop()).collect()
}

fn one(slot: i64, kind: FailureKind) -> Told {
    Told::alone(slot, kind)
}

#[test]
fn a_row_says_what_it_stands_for() {
    let slot = 1_795_000_000_000_000;
    let overslept = one(slot, FailureKind::Overslept);
    assert_eq!(overslept.message(1_000_000), "the prober slept or was stopped through the slot");
    let many = Told { last: slot + 59_000_000, slots: 60, ..overslept };
    assert_eq!(
        many.message(1_000_000),
        "the prober slept or was stopped through the slot; \
         stands for 60 slots from 2026-11-18T11:06:40Z to 2026-11-18T11:07:39Z, one every 1s"
    );
    let some = Told { slots: 7, gaps: true, mixed: true, kind: FailureKind::Overload, ..many };
    assert_eq!(
        some.message(1_000_000),
        "more checks were due than can be under way; \
         stands for 7 slots of those from 2026-11-18T11:06:40Z to 2026-11-18T11:07:39Z, one every 1s\
         ; some of them for another reason, which was not kept"
    );
}

#[test]
fn every_slot_has_its_row() {
    let mut owed = Owed::new(2);
    for slot in 0..50 {
        owed.add(1, slot * TEN, 1, TEN, FailureKind::Overload);
    }
    owed.add(2, 5, 20_000, TEN, FailureKind::Overslept);
    assert_eq!(owed.slots(), 20_050);
    let rows = told(&mut owed);
    assert!(owed.is_empty());
    let of = |check| rows.iter().filter(move |(of, _)| *of == check).map(|(_, told)| *told);
    assert!(of(1).eq((0..50).map(|slot| one(slot * TEN, FailureKind::Overload))));
    assert!(of(2).eq((0..20_000).map(|slot| one(5 + slot * TEN, FailureKind::Overslept))));
}

#[test]
fn a_week_has_a_row_for_its_beginning_and_one_for_each_slot_of_its_end() {
    let week = 7 * 86_400;
    let mut owed = Owed::new(1000);
    owed.add(0, 0, week, TEN, FailureKind::Overslept);
    // What comes on top moves the border between the two by one slot, and the first row stands for one more.
    owed.add(0, week as i64 * TEN, 1, TEN, FailureKind::Overslept);
    let rows = told(&mut owed);
    assert_eq!(rows.len() as u64, ROWS_MAX);
    let beginning = week + 1 - (ROWS_MAX - 1);
    let first =
        Told { last: (beginning as i64 - 1) * TEN, slots: beginning, ..one(0, FailureKind::Overslept) };
    assert_eq!(rows[0].1, first);
    assert_eq!(rows[1].1, one(beginning as i64 * TEN, FailureKind::Overslept));
    assert_eq!(rows.last().map(|(_, told)| told.slot), Some(week as i64 * TEN));
}

#[test]
fn neighbours_are_joined_before_anything_is_forgotten() {
    let mut owed = Owed::new(usize::MAX);
    // Without a gap, reasons in turn: joined, each slot keeps its row, and the row tells of the doubt.
    for slot in 0..100 {
        let kind = if slot % 2 == 0 { FailureKind::Overload } else { FailureKind::Overslept };
        owed.add(1, slot * TEN, 1, TEN, kind);
    }
    let rows = told(&mut owed);
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().filter(|(_, told)| told.mixed).count() >= 100 - STRETCHES_LEAST);
    // Every second slot: eight rows stand for a hundred slots, and they are of about the same size.
    for slot in 0..100 {
        owed.add(1, slot * 2 * TEN, 1, TEN, FailureKind::Overload);
    }
    let rows = told(&mut owed);
    assert_eq!(rows.len(), STRETCHES_LEAST);
    assert_eq!(rows.iter().map(|(_, told)| told.slots).sum::<u64>(), 100);
    assert!(rows.iter().all(|(_, told)| told.slots <= 32), "{rows:?}");
    assert!(rows.iter().all(|(_, told)| told.gaps == (told.slots > 1)), "{rows:?}");
}

#[test]
fn at_the_end_one_row_a_check_is_enough() {
    let mut owed = Owed::new(2);
    for slot in 0..50 {
        owed.add(1, slot * 3 * TEN, 2, TEN, FailureKind::Overload);
        owed.add(2, slot * TEN, 1, TEN, FailureKind::Overload);
    }
    owed.shrink();
    assert_eq!(owed.slots(), 150);
    let rows = told(&mut owed);
    assert_eq!(
        rows,
        [
            (1, Told { last: 148 * TEN, slots: 100, gaps: true, ..one(0, FailureKind::Overload) }),
            (2, Told { last: 49 * TEN, slots: 50, ..one(0, FailureKind::Overload) }),
        ]
    );
}

proptest! {
    /// Whatever is owed, told and put together: every slot is stood for once, no row is for a slot that is not owed, and
    /// the bounds hold.
    #[test]
    fn nothing_is_silent_and_nothing_twice(
        steps in prop::collection::vec((0i64..3, 1u64..40, any::<bool>(), 0usize..30), 1..60),
        rows_max in 1u64..200,
        stretches_max in 1usize..6,
    ) {
        let mut owed = Owed::new(1);
        owed.bounds = Bounds { rows: rows_max, stretches: stretches_max };
        let mut due = BTreeSet::new();
        let mut rows = Vec::new();
        let mut next = 0;
        for (gap, count, slept, pops) in steps {
            next += gap * TEN;
            due.extend((0..count as i64).map(|n| next + n * TEN));
            let kind = if slept { FailureKind::Overslept } else { FailureKind::Overload };
            owed.add(7, next, count, TEN, kind);
            next += count as i64 * TEN;
            let debt = &owed.by_check[&7];
            prop_assert!(debt.stretches.len() <= stretches_max);
            prop_assert!(debt.rows <= rows_max.max(stretches_max as u64));
            prop_assert_eq!(debt.rows, debt.stretches.iter().map(Stretch::rows).sum::<u64>());
            rows.extend((0..pops).map_while(|_| owed.pop()));
        }
        rows.extend(told(&mut owed));
        prop_assert!(owed.is_empty());
        prop_assert_eq!(rows.iter().map(|(_, told)| told.slots).sum::<u64>(), due.len() as u64);
        let mut before = i64::MIN;
        for (_, told) in rows {
            prop_assert!(told.slot > before && told.last >= told.slot, "{told:?} after {before}");
            let stood_for = due.range(told.slot..=told.last).count() as u64;
            prop_assert_eq!(stood_for, told.slots);
            prop_assert!(due.contains(&told.slot) && due.contains(&told.last));
            prop_assert_eq!(told.gaps, (told.last - told.slot) / TEN + 1 != told.slots as i64);
            before = told.last;
        }
    }
}
