//! The quickstart, as the README has it: no services, rows in an SQLite file, a status table.

mod support;

use monmon_testkit::Site;
use support::Place;

#[test]
fn the_quickstart_stores_and_shows() {
    let place = Place::new();
    // Another port than the shipped one, which may be in use here; the kernel says which is free.
    let free = { Site::start().expect("a site").addr() };
    let shipped = include_str!("../pipelines/quickstart.kdl");
    assert!(shipped.contains("127.0.0.1:8480") && shipped.contains("interval=\"5s\""));
    let file = place.write(
        "quickstart.kdl",
        &shipped.replace("127.0.0.1:8480", &free.to_string()).replace("interval=\"5s\"", "interval=\"1s\""),
    );
    let output = place.output(&["run", "--for", "5s", file.to_str().expect("a path")]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}");

    let database =
        rusqlite::Connection::open(place.path("quickstart.db")).expect("the store is beside its pipeline");
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("an answer");
    assert!(count("SELECT count(*) FROM monmon_measurement WHERE outcome = 'up'") >= 4, "{log}");
    assert_eq!(count("SELECT count(DISTINCT check_id) FROM monmon_measurement"), 4);
    assert!(count("SELECT count(*) FROM monmon_match WHERE name = 'title' AND status = 'passed'") >= 1);

    let store = format!("sqlite:{}", place.path("quickstart.db").display());
    let status = place.output(&["status", "--store", &store]);
    let table = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(0), "{table}{}", String::from_utf8_lossy(&status.stderr));
    for check in ["quickstart/sites/home", "quickstart/sites/flaky"] {
        assert!(table.contains(check), "{table}");
    }
    let json = place.output(&["status", "--store", &store, "--format", "json"]);
    let states: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(states.as_array().map(Vec::len), Some(4));
}
