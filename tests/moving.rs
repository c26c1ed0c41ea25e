//! Datasets that move: from one store into another, again, and out into files for other tools.

mod support;

use std::fs::File;

use monmon_testkit::{Answer, Site};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use rusqlite::Connection;
use support::{Database, Place};

/// A file with measurements of a site that is up and one that is down, some with matches.
fn measured(place: &Place, name: &str) -> Connection {
    let site = Site::start().expect("a site");
    site.set("/", Answer::html("A page to watch", 2_000));
    let gone = { Site::start().expect("a site").addr() };
    let file = place.write(
        &format!("{name}.kdl"),
        &format!(
            r##"pipeline "{name}"
sources {{
    http "sites" interval="200ms" timeout="2s" {{
        check "up" "{}" {{ match "title" #"<title>(?<title>[^<]*)</title>"#; }}
        check "down" "http://{gone}/"
    }}
}}
transforms {{ detect "outages" from="sites" {{ down after=2 of=2; }}; }}
sinks {{ sqlite "store" from="outages" path="{name}.db"; }}
"##,
            site.url("/")
        ),
    );
    let output = place.output(&["run", "--for", "3s", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Connection::open(place.path(&format!("{name}.db"))).expect("a store")
}

/// What tells one dataset from another: every row, with all that it refers to.
fn content(connection: &Connection) -> Vec<String> {
    let query = "
        SELECT 'm' || m.id || m.scheduled_at || m.seq || m.outcome || m.total_us || coalesce(m.error_message, '')
               || coalesce(m.status, '') || b.prober_id || p.name || d.name || d.url || d.labels
        FROM monmon_measurement AS m JOIN monmon_boot AS b ON b.id = m.boot_id
        JOIN monmon_prober AS p ON p.id = b.prober_id JOIN monmon_check_definition AS d ON d.id = m.definition_id
        UNION ALL
        SELECT 'x' || id || measurement_id || name || stage || status || coalesce(message, '')
               || coalesce(\"values\", '') FROM monmon_match
        UNION ALL SELECT 'r' || id || boot_id || at || first_seq || last_seq || ids_xor || last FROM monmon_receipt
        UNION ALL SELECT 'i' || id || check_id || revision || began_at || opened_at || reason || probers || coalesce(closed_at, '')
               FROM monmon_incident
        UNION ALL SELECT 'd' || id || reason || message || hex(bytes) FROM monmon_dead_letter
        ORDER BY 1";
    let mut statement = connection.prepare(query).expect("the tables are there");
    let rows = statement.query_map([], |row| row.get(0)).expect("an answer");
    rows.collect::<Result<_, _>>().expect("texts")
}

fn run(place: &Place, name: &str, text: &str, database: Option<&Database>) {
    let file = place.write(name, text);
    let mut command = place.monmon(&["run", file.to_str().expect("a path")]);
    if let Some(database) = database {
        command.env("STORE", database.url());
    }
    let (status, log) = place.start_command(command).end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn two_files_become_one_and_again_is_once() {
    let place = Place::new();
    let first = measured(&place, "first");
    let second = measured(&place, "second");
    let merge = r#"pipeline "merge"
sources {
    sqlite "first" path="first.db"
    sqlite "second" path="second.db"
}
sinks { sqlite "both" from="first,second" path="both.db"; }
"#;
    run(&place, "merge.kdl", merge, None);
    run(&place, "merge.kdl", merge, None);
    let both = Connection::open(place.path("both.db")).expect("a store");
    let mut expected = [content(&first), content(&second)].concat();
    expected.sort();
    assert!(expected.len() > 40, "{}", expected.len());
    assert!(expected.iter().any(|row| row.starts_with('i')), "the one that is down has an incident");
    assert_eq!(content(&both), expected);
}

#[test]
fn what_moved_to_postgresql_is_the_same_there_and_back_again() {
    let place = Place::new();
    let laptop = measured(&place, "laptop");
    let database = Database::new();
    let there = r#"pipeline "there"
sources { sqlite "laptop" path="laptop.db"; }
sinks { postgres "store" from="laptop" url=(env)"STORE" migrate=#true; }
"#;
    run(&place, "there.kdl", there, Some(&database));
    run(&place, "there.kdl", there, Some(&database));
    // Each as the wire format has it, line by line.
    let lines = |url: &str| {
        let output = place.output(&["export", "--store", url]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let here = lines(&format!("sqlite:{}", place.path("laptop.db").display()));
    assert!(here.lines().count() > 20, "{here}");
    assert_eq!(lines(&database.url()), here);
    let back = r#"pipeline "back"
sources { postgres "store" url=(env)"STORE"; }
sinks { sqlite "copy" from="store" path="copy.db"; }
"#;
    run(&place, "back.kdl", back, Some(&database));
    let copy = Connection::open(place.path("copy.db")).expect("a store");
    assert_eq!(content(&copy), content(&laptop));
}

#[test]
fn an_export_has_every_measurement_in_each_format() {
    let place = Place::new();
    let store = measured(&place, "store");
    let url = format!("sqlite:{}", place.path("store.db").display());
    let count: usize = store
        .query_row("SELECT count(*) FROM monmon_measurement", [], |row| row.get::<_, i64>(0))
        .map(|count| usize::try_from(count).expect("a count"))
        .expect("an answer");
    let export = |arguments: &[&str]| {
        let output = place.output(&[&["export", "--store", &url], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let lines = String::from_utf8(export(&[])).expect("text");
    assert_eq!(lines.lines().count(), count);
    let ids: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line["id"].as_str().expect("an id").to_owned())
        .collect();

    let csv = String::from_utf8(export(&["--format", "csv", "--check", "up"])).expect("text");
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    let outcome =
        csv.headers().expect("names").iter().position(|name| name == "outcome").expect("the column");
    let records: Vec<csv::StringRecord> = csv.records().collect::<Result<_, _>>().expect("records");
    assert!(records.len() > 10 && records.iter().all(|record| &record[outcome] == "up"));

    let path = place.path("all.parquet");
    export(&["--output", path.to_str().expect("a path")]);
    assert!(!place.path("all.parquet.part").exists());
    let reader = SerializedFileReader::new(File::open(path).expect("the file")).expect("a Parquet file");
    let found: Vec<String> = reader
        .get_row_iter(None)
        .expect("rows")
        .map(|row| {
            let row = row.expect("a row");
            let id = row.get_bytes(0).expect("an id");
            uuid::Uuid::from_slice(id.data()).expect("a UUID").to_string()
        })
        .collect();
    assert_eq!(found, ids);
}

#[test]
fn what_cannot_be_read_is_told_and_leaves_no_file() {
    let place = Place::new();
    let missing = format!("sqlite:{}", place.path("missing.db").display());
    let path = place.path("all.csv");
    let output = place.output(&["export", "--store", &missing, "--output", path.to_str().expect("a path")]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("there is no file"), "{log}");
    assert!(!path.exists() && !place.path("all.csv.part").exists());
}
