//! Incidents as rows: what was told last, once.

mod support;

use jiff::SignedDuration;
use monmon_model::{Event, Incident, IncidentState, incident_id};
use monmon_sqlite::incidents;
use monmon_stage::{Batch, Envelope};
use monmon_testkit::stages::measurement;
use support::Rig;

/// An incident as it was told of for the nth time; `closed` after so many slots.
fn told(revision: u32, closed: Option<i64>) -> Incident {
    let bad = measurement("docs", 1);
    let at = |slot: i64| bad.scheduled_at + SignedDuration::from_secs(slot);
    Incident {
        id: incident_id("p", "outages", bad.check.id, at(0)),
        check: bad.check.clone(),
        pipeline: "p".to_owned(),
        detector: "outages".to_owned(),
        revision,
        began_at: at(0),
        opened_at: at(1),
        last_bad_at: at(i64::from(revision)),
        recovered_at: closed.map(|slot| at(slot - 1)),
        closed_at: closed.map(at),
        reason: "it's \u{2028} \"down\"".to_owned(),
        probers: vec!["berlin".to_owned()],
        flapping: revision > 1,
        suppressed_by: (revision == 1).then_some(bad.check.id),
    }
}

fn batch(rig: &Rig, incidents: impl IntoIterator<Item = Incident>) -> Batch {
    let mut batch = rig.batch("docs", [0]);
    for (token, incident) in (1..).zip(incidents) {
        batch.push(Envelope::event(Event::Incident(incident), None, rig.book.ack(token)));
    }
    batch
}

#[tokio::test]
async fn the_last_word_stays_whatever_comes_when() {
    let orders = [[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 1, 3]];
    for order in orders {
        let rig = Rig::new();
        let said = order.map(|revision| told(revision, (revision == 3).then_some(9)));
        rig.store(vec![batch(&rig, said)]).await.ended.expect("it is stored");
        assert_eq!(rig.book.delivered(), [0, 1, 2, 3]);
        // What is closed stays so, whatever is told of it.
        let late = rig;
        late.store(vec![vec![Envelope::event(Event::Incident(told(4, None)), None, late.book.ack(9))]])
            .await
            .ended
            .expect("it is stored");
        let all = incidents(&late.path(), false, 10).expect("a store");
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].clone().of(told(3, None).check), told(3, Some(9)), "{order:?}");
        assert_eq!(
            (all[0].state, all[0].check.as_deref()),
            (IncidentState::Closed, Some("test/source/docs"))
        );
        assert_eq!(incidents(&late.path(), true, 10).expect("a store"), []);
    }
}

#[tokio::test]
async fn what_is_open_is_listed() {
    let rig = Rig::new();
    rig.store(vec![batch(&rig, [told(1, None)])]).await.ended.expect("it is stored");
    let open = incidents(&rig.path(), true, 10).expect("a store");
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].clone().of(told(1, None).check), told(1, None));
}
