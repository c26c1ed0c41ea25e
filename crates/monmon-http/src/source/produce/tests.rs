use monmon_stage::{Item, PageBudget};
use monmon_testkit::stages::stage_context;

use super::*;
use crate::probe::Limits;

#[tokio::test]
async fn a_receipt_waits_for_no_check_to_end() {
    let context = stage_context("checks");
    let limits = Limits { body_wire_bytes_max: 1, body_bytes_max: 1 };
    let prober = Prober { limits, pages: None, own_pages: PageBudget::new(1) };
    let bounds = Bounds { concurrency: 1, per_host: None };
    let work = Work { checks: Vec::new(), prober, guard: None, bounds };
    let (handover, mut taken) = mpsc::channel(2);
    let book = Book::new(Arc::clone(&context.counters));
    let mut producer = Producer::new(work, &context, book, handover, Arc::default());
    producer.receipts.begin(0, 0);
    producer.under_way.spawn(std::future::pending());
    assert!(!producer.has_room());

    producer.cut_receipt();
    producer.cut_receipt();
    producer.give_receipts();
    let given = taken.try_recv().expect("there is a place for one");
    assert!(matches!(given.item, Item::Event(_)), "{given:?}");
    assert!(taken.try_recv().is_err(), "the last place is the check's");
}
