//! Incidents as rows: what was told last, once.

use std::time::Duration;

use monmon_model::{Event, Incident, IncidentState, incident_id};
use monmon_postgres::IncidentReader;
use monmon_stage::Envelope;

use crate::support::{Running, Store, check, measurement, noon, store};

/// An incident as it was told of for the nth time.
fn told(name: &str, revision: u32, closed: bool) -> Incident {
    let check = check(name, 60_000_000);
    let at = |minutes: u64| noon() + Duration::from_secs(60 * minutes);
    Incident {
        id: incident_id("consumer", "outages", check.id, at(0)),
        check,
        pipeline: "consumer".to_owned(),
        detector: "outages".to_owned(),
        revision,
        began_at: at(0),
        opened_at: at(1),
        last_bad_at: at(u64::from(revision)),
        recovered_at: closed.then(|| at(8)),
        closed_at: closed.then(|| at(9)),
        reason: "it's \u{2028} \"down\"".to_owned(),
        probers: vec!["berlin".to_owned(), "oslo".to_owned()],
        flapping: revision > 1,
        suppressed_by: (revision == 1).then(|| check_id_of(name)),
    }
}

fn check_id_of(name: &str) -> uuid::Uuid {
    check(name, 60_000_000).id
}

#[tokio::test]
async fn the_last_word_stays_whatever_comes_when() {
    let place = Store::migrated().await;
    store(&place, vec![measurement(&check("a", 60_000_000), 1, noon())]).await;
    // In one batch and in several, in any order; what is closed stays so.
    for (name, batches) in [("a", vec![vec![3, 1, 2]]), ("b", vec![vec![2], vec![3, 1], vec![4]])] {
        for batch in batches {
            let mut running = Running::new(&format!("url \"{}\"", place.url)).await;
            let count = batch.len();
            let mut envelopes = Vec::new();
            for revision in batch {
                let incident = told(name, revision, revision == 3);
                envelopes.push(Envelope::event(Event::Incident(incident), None, running.ack()));
            }
            running.emit(envelopes).await;
            let (result, delivered, failed) = running.end().await;
            result.expect("the sink ends well");
            assert_eq!((delivered, failed), (count, 0));
        }
    }
    let mut reader = IncidentReader::new(place.target());
    let all = reader.list(false, 10).await.expect("a store");
    assert_eq!(all.len(), 2);
    for stored in &all {
        let name = if stored.check_id == check_id_of("a") { "a" } else { "b" };
        let expected = told(name, 3, true);
        assert_eq!(stored.clone().of(expected.check.clone()), expected);
        assert_eq!(stored.state, IncidentState::Closed);
        // The check is named where the store knows it.
        assert_eq!(stored.check.as_deref(), (name == "a").then_some("producer/sites/a"));
    }
    assert_eq!(reader.list(true, 10).await.expect("a store"), []);
    let ids = [check_id_of("b"), check_id_of("c")];
    let newest = reader.newest("consumer", "outages", &ids).await.expect("a store");
    assert_eq!(newest.iter().map(|one| one.check_id).collect::<Vec<_>>(), [check_id_of("b")]);
    assert_eq!(reader.newest("consumer", "others", &ids).await.expect("a store"), []);
    place.gone().await;
}
