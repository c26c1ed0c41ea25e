//! What the server says when it says no: which refusals are waited out, which end the sink, and what poison costs.

use crate::support::{Running, Store, check, series, until};

/// A trigger that refuses every insert with the SQLSTATE that stands in a table.
const REFUSING: &str = "
    CREATE TABLE refusing (code text);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE told text := (SELECT code FROM refusing);
    BEGIN
        IF told IS NOT NULL THEN RAISE EXCEPTION 'as told' USING ERRCODE = told; END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON monmon_measurement FOR EACH STATEMENT EXECUTE FUNCTION refuse()";

const WAITED_OUT: [&str; 24] = [
    "08000", "08003", "08006", "25006", "25P03", "40001", "40P01", "53000", "53100", "53200", "53300",
    "55000", "55006", "55P03", "57000", "57014", "57P01", "57P02", "57P03", "58000", "58030", "XX000",
    "28000", "28P01",
];

const FINAL: [&str; 7] = ["42501", "42P01", "42703", "42804", "42883", "0A000", "42601"];

async fn tell(store: &Store, code: Option<&str>) {
    store.client.batch_execute("DELETE FROM refusing").await.expect("deleted");
    if let Some(code) = code {
        store.client.execute("INSERT INTO refusing VALUES ($1)", &[&code]).await.expect("told");
    }
}

#[tokio::test]
async fn what_may_pass_is_waited_out_and_never_buried() {
    let store = Store::migrated().await;
    store.client.batch_execute(REFUSING).await.expect("a trigger");
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", store.url)).await;
    let counters = running.counters.clone();
    let mut sent = 0;
    for code in WAITED_OUT {
        tell(&store, Some(code)).await;
        let before = counters.counts().retries;
        running.send(series(&check(code, 1_000_000), 10)).await;
        until(code, async || counters.counts().retries > before).await;
        assert_eq!(running.resolved_now(), sent, "{code}");
        tell(&store, None).await;
        sent += 10;
        running.resolved(sent).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (sent, 0));
    assert_eq!(store.count("monmon_dead_letter").await, 0);
    assert_eq!(store.count("monmon_measurement").await, i64::try_from(sent).expect("few"));
    store.gone().await;
}

#[tokio::test]
async fn what_only_people_can_mend_ends_the_sink_and_acks_nothing() {
    let store = Store::migrated().await;
    store.client.batch_execute(REFUSING).await.expect("a trigger");
    for code in FINAL {
        tell(&store, Some(code)).await;
        let mut running = Running::new(&format!("url \"{}\"\nconnections 1", store.url)).await;
        running.send(series(&check("docs", 1_000_000), 10)).await;
        let (result, delivered, failed) = running.end().await;
        let error = result.expect_err(code);
        assert!(!error.is_transient() && error.to_string().contains(code), "{error}");
        assert_eq!((delivered, failed), (0, 10), "{code}");
    }
    tell(&store, None).await;
    let changed = "DROP VIEW monmon_measurement_full, monmon_check_state CASCADE;
        ALTER TABLE monmon_measurement ALTER COLUMN body_wire_bytes TYPE boolean USING body_wire_bytes > 0";
    store.client.batch_execute(changed).await.expect("changed");
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", store.url)).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    let (result, delivered, failed) = running.end().await;
    let error = result.expect_err("another type");
    assert!(error.help_text().is_some_and(|help| help.contains("migrate")), "{error:?}");
    assert_eq!((delivered, failed), (0, 10));
    assert_eq!(store.count("monmon_dead_letter").await, 0);
    store.gone().await;
}

/// One bad row in ten, in batches of 500. Halving a batch of n with p bad rows takes at most p (2 log2(n / p) + 2) writes
/// for the parts and p for the letters, and not one for each pair of rows.
#[tokio::test]
async fn the_cost_of_poison_is_bounded() {
    const ROWS: usize = 2_000;
    const POISON: usize = ROWS / 10;
    let store = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1\nbatch 500", store.url)).await;
    let mut batch = Vec::new();
    for (at, mut row) in series(&check("docs", 1_000_000), ROWS as u64).into_iter().enumerate() {
        if at % 10 == 3 {
            row.remote_addr = Some("\0".to_owned());
        }
        batch.push(running.read(0, i64::try_from(at).expect("few"), row));
    }
    running.emit(batch).await;
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (ROWS, 0));
    assert_eq!(store.count("monmon_dead_letter").await, i64::try_from(POISON).expect("few"));
    assert_eq!(store.count("monmon_measurement").await, i64::try_from(ROWS - POISON).expect("few"));
    // A record for each write that went through. Of the parts that were refused there is one less than of those that came
    // to an end.
    let written = usize::try_from(store.count("monmon_batch").await).expect("few");
    let statements = written + (written + POISON);
    let bound = POISON as f64 * (2.0 * 10_f64.log2() + 2.0) + POISON as f64 + 4.0;
    assert!((statements as f64) < bound, "{statements} of {bound}");
    store.gone().await;
}
