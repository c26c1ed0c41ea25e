//! Messages that nobody should have sent.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    dice::Dice,
    journal::publish,
    road::{Road, Shape},
    services::eventually,
    theatre::Theatre,
};

const GOOD: &str = include_str!("../../../monmon-model/tests/golden/up.v1.json");

/// One of each kind of row 31, with the reason that it must be kept under.
fn all_kinds() -> Vec<(&'static str, Vec<u8>)> {
    let good = GOOD.trim_end();
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "`{from}` is in the golden file");
        good.replacen(from, to, 1).into_bytes()
    };
    // An id begins with the milliseconds of its slot.
    let at = |year: &str, id: &str| {
        let moved = good.replacen("\"scheduled_at\":\"2026", &format!("\"scheduled_at\":\"{year}"), 1);
        moved.replacen("01a20847-1a52", id, 1).into_bytes()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let huge = format!("{{\"type\":\"measurement\",\"v\":1,\"padding\":\"{}\"}}", "x".repeat(900_000));
    vec![
        ("not_json", b"hello".to_vec()),
        ("empty", Vec::new()),
        ("not_utf8", vec![0xff, 0xfe]),
        ("not_ours", br#"{"type":"weather"}"#.to_vec()),
        ("newer_version", changed("\"v\":1", "\"v\":99")),
        ("not_json", deep.into_bytes()),
        ("bad_field", huge.into_bytes()),
        ("nul_in_text", changed("\"docs\"", "\"do\\u0000cs\"")),
        ("bad_field", changed("\"seq\":42", "\"seq\":-42")),
        ("not_json", changed("\"docs\"", "\"\\ud800\"")),
        ("bad_field", changed("\"status\":200", "\"status\":99999999999")),
        // Its id says another time than its slot.
        ("bad_field", changed("\"scheduled_at\":\"2026-11-23", "\"scheduled_at\":\"1970-11-23")),
        ("time_out_of_window", at("1970", "0006916c-7252")),
        ("time_out_of_window", at("2100", "03c1be30-4a52")),
    ]
}

/// A message that is poison in its own way and unlike any other.
fn one(dice: &mut Dice) -> Vec<u8> {
    let nonce = dice.between(0, u64::MAX - 1);
    match dice.between(0, 3) {
        0 => format!("hello {nonce}").into_bytes(),
        1 => format!("{{\"type\":\"weather\",\"nonce\":{nonce}}}").into_bytes(),
        2 => format!("{{\"type\":\"measurement\",\"v\":99,\"nonce\":{nonce}}}").into_bytes(),
        _ => format!("{{\"type\":\"measurement\",\"v\":1,\"nonce\":{nonce}}}").into_bytes(),
    }
}

/// Row 31.
pub(crate) fn kinds(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "poison", ..Shape::default() })?;
    let kinds = all_kinds();
    let messages: Vec<Vec<u8>> = kinds.iter().map(|(_, bytes)| bytes.clone()).collect();
    publish(&theatre.brokers(), &road.topic, 0, &messages)?;
    theatre.injected();
    road.poison = kinds.len() as u64;
    // Ids of measurements that are refused for their time are seen in the topic and never stored.
    eventually("dead letter for each", || {
        Ok(road.database.count("SELECT count(*) FROM monmon_dead_letter")? >= road.poison)
    })?;
    let rows = road.database.query("SELECT reason FROM monmon_dead_letter ORDER BY kafka_offset")?;
    let mut reasons: Vec<String> = rows.into_iter().filter_map(|row| row[0].clone()).collect();
    let mut due: Vec<String> = kinds.iter().map(|(reason, _)| (*reason).to_owned()).collect();
    reasons.sort_unstable();
    due.sort_unstable();
    ensure!(reasons == due, "the letters say {reasons:?}, where {due:?} are due");
    // The poison is made of one measurement, which some of it still is as far as the topic shows; it is never to be stored.
    let golden: serde_json::Value = serde_json::from_str(GOOD)?;
    let parsed = messages.iter().filter_map(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok());
    road.gone.extend(parsed.filter_map(|value| value["id"].as_str()?.parse::<uuid::Uuid>().ok()));
    road.journal.advance()?;
    road.journal.answered.remove(golden["url"].as_str().unwrap_or_default());
    road.settle()
}

/// Row 32: what is dead can't be kept, so nothing is committed.
pub(crate) fn letters_refused(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let session = road.database.session()?;
    session.run("BEGIN; LOCK TABLE monmon_dead_letter IN ACCESS EXCLUSIVE MODE")?;
    publish(&road.theatre.brokers(), &road.topic, 0, &[one(dice)])?;
    road.poison += 1;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    eventually("writer that waits", || Ok(road.database.count(waiting)? > 0))?;
    road.theatre.injected();
    std::thread::sleep(dice.millis(500, 4_000));
    session.run("ROLLBACK")
}

/// Row 33: one in ten is poison.
pub(crate) fn one_in_ten(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "tenth", ..Shape::default() })?;
    let seconds = 15;
    for _ in 0..seconds {
        // The road carries 240 a second.
        let messages: Vec<Vec<u8>> = (0..26).map(|_| one(dice)).collect();
        road.poison += messages.len() as u64;
        publish(&theatre.brokers(), &road.topic, i32::try_from(dice.index(4))?, &messages)?;
        road.wait(Duration::from_secs(1))?;
    }
    theatre.injected();
    eventually("dead letter for each", || {
        Ok(road.database.count("SELECT count(*) FROM monmon_dead_letter")? >= road.poison)
    })?;
    road.settle()
}

/// Poison on a road with other faults.
pub(crate) fn live(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let messages: Vec<Vec<u8>> = (0..dice.between(1, 12)).map(|_| one(dice)).collect();
    road.poison += messages.len() as u64;
    publish(&road.theatre.brokers(), &road.topic, i32::try_from(dice.index(4))?, &messages)?;
    road.theatre.injected();
    Ok(())
}
