//! Incidents as rows: what was told last, once.

use std::time::Duration;

use monmon_model::{Event, Incident, IncidentState, Receipt, Selection, incident_id};
use monmon_postgres::{IncidentReader, Reader};
use monmon_stage::{Envelope, StoreReader};
use uuid::Uuid;

use crate::support::{Running, Store, check, measurement, noon, prober, store};

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

fn check_id_of(name: &str) -> Uuid {
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

#[tokio::test]
async fn an_event_that_the_store_does_not_take_is_a_dead_letter_and_the_others_are_stored() {
    let place = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"", place.url)).await;
    let counters = running.counters.clone();
    let good = told("good", 1, false);
    let too_often = Incident { revision: u32::MAX, ..told("too often", 1, false) };
    let nul = Incident { reason: "a \0 in the words".to_owned(), ..told("nul", 1, false) };
    let receipt = Receipt {
        id: Uuid::from_u128(7),
        prober: prober(),
        pipeline: "producer".to_owned(),
        source: "sites".to_owned(),
        at: noon(),
        began_at: noon(),
        slots_from: noon(),
        slots_until: noon(),
        first_seq: 1,
        last_seq: u64::MAX,
        ids_xor: Uuid::nil(),
        failed: 0,
        last: false,
    };
    let events = [good, too_often, nul].map(Event::Incident).into_iter().chain([Event::Receipt(receipt)]);
    let envelopes: Vec<Envelope> = events.map(|event| Envelope::event(event, None, running.ack())).collect();
    running.emit(envelopes).await;
    let (result, delivered, failed) = running.end().await;
    result.expect("the sink ends well");
    assert_eq!((delivered, failed), (4, 0));
    assert_eq!((counters.counts().delivered, counters.counts().rejected), (4, 3));
    assert_eq!(place.count("monmon_incident").await, 1);
    assert_eq!(place.count("monmon_receipt").await, 0);
    assert_eq!(place.count("monmon_dead_letter WHERE reason = 'store_refused'").await, 3);

    // A reason that a later version may know is named with its row.
    let sql = "UPDATE monmon_dead_letter SET reason = 'odd' RETURNING id";
    let ids = place.client.query(sql, &[]).await.expect("changed");
    let mut reader = Reader::open(place.target(), &Selection::default()).await.expect("a store");
    let error = loop {
        match reader.next().await {
            Ok(page) => assert!(!page.is_empty(), "it was read"),
            Err(error) => break error,
        }
    };
    let said = error.to_string();
    assert!(said.contains("reason: `odd`") && !error.is_transient(), "{said}");
    assert!(ids.iter().any(|row| said.contains(&row.get::<_, Uuid>(0).to_string())), "{said}");
    assert!(error.help_text().is_some_and(|help| !help.contains("migrate")), "{error:?}");
    place.gone().await;
}
