//! Measurements, matches, records of batches and dead letters as columns: one array for each, as `unnest` takes them.

use jiff::Timestamp;
use monmon_model::{Event, Incident, Match, Measurement, Receipt, Rejected, match_id};
use monmon_stage::Slice;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

const FIRST_YEAR: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The parameters of one statement, with the types that the server shall take them as: a statement is sent with its
/// parameters, and nobody asks the server first what it would expect.
pub(crate) type Parameters<'a> = Vec<(&'a (dyn ToSql + Sync), Type)>;

/// A table's columns, from which its statements are made.
pub(crate) struct Columns {
    table: &'static str,
    pub(crate) names_and_types: &'static [(&'static str, &'static str)],
}

impl Columns {
    /// `INSERT` of all rows in their order; what is there already stays as it is. The first array is parameter `first`.
    pub(crate) fn insert(&self, first: usize, condition: &str) -> String {
        let conflict =
            if monmon_stage::is_sabotaged("no-on-conflict") { "" } else { "ON CONFLICT DO NOTHING" };
        format!("{} {conflict}", self.insert_all(first, condition))
    }

    /// `INSERT` without a word on what happens to rows that are there already.
    pub(crate) fn insert_all(&self, first: usize, condition: &str) -> String {
        let names = self.names();
        format!(
            "INSERT INTO {} ({names}) SELECT {} FROM unnest({}) AS r({names}) {condition}",
            self.table,
            self.picked(),
            self.arrays(first),
        )
    }

    pub(crate) fn picked(&self) -> String {
        let picked: Vec<String> = self.names_and_types.iter().map(|(name, sql)| picked(name, sql)).collect();
        picked.join(", ")
    }

    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.names_and_types.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        names.join(", ")
    }

    pub(crate) fn arrays(&self, first: usize) -> String {
        let arrays: Vec<String> =
            self.names_and_types.iter().zip(first..).map(|((_, sql), at)| array(at, sql)).collect();
        arrays.join(", ")
    }
}

/// Whether values go to the server as texts which it reads itself: the driver would else parse JSON only to write it, and
/// it knows no ranges.
fn as_text(sql: &str) -> bool {
    matches!(sql, "jsonb" | "int8multirange")
}

fn array(at: usize, sql: &str) -> String {
    format!("${at}::{}[]", if as_text(sql) { "text" } else { sql })
}

/// The type of an array of a column's type.
pub(crate) fn array_type(sql: &str) -> Type {
    match sql {
        "uuid" => Type::UUID_ARRAY,
        "timestamptz" => Type::TIMESTAMPTZ_ARRAY,
        "bigint" => Type::INT8_ARRAY,
        "integer" => Type::INT4_ARRAY,
        "smallint" => Type::INT2_ARRAY,
        "boolean" => Type::BOOL_ARRAY,
        "bytea" => Type::BYTEA_ARRAY,
        // Also jsonb and ranges: see `array`.
        _ => Type::TEXT_ARRAY,
    }
}

/// A column of the arrays as the table holds it.
pub(crate) fn picked(name: &str, sql: &str) -> String {
    match as_text(sql) {
        true => format!("r.\"{name}\"::{sql}"),
        false => format!("r.\"{name}\""),
    }
}

/// Declares a table's columns once: the arrays, and what statements are made of.
macro_rules! columns {
    ($(#[doc = $doc:literal])* $name:ident in $table:literal { $($column:ident $text:literal $sql:literal: $type:ty,)* }) => {
        $(#[doc = $doc])*
        #[derive(Default)]
        pub(crate) struct $name<'a> { $(pub(crate) $column: Vec<$type>,)* _text: std::marker::PhantomData<&'a str> }

        impl $name<'_> {
            pub(crate) const COLUMNS: Columns = Columns { table: $table, names_and_types: &[$(($text, $sql),)*] };

            pub(crate) fn parameters(&self) -> Parameters<'_> {
                vec![$((&self.$column as &(dyn ToSql + Sync), array_type($sql)),)*]
            }

            pub(crate) fn is_empty(&self) -> bool {
                self.id.is_empty()
            }
        }
    };
}

/// A column that is null in most batches: as long as it is null in every row its array is empty, and `unnest` fills up
/// with nulls. That leaves a healthy batch with two thirds of the columns.
trait Sparse<T> {
    fn put(&mut self, row: usize, value: Option<T>);
}

impl<T> Sparse<T> for Vec<Option<T>> {
    fn put(&mut self, row: usize, value: Option<T>) {
        if value.is_some() {
            self.resize_with(row, || None);
            self.push(value);
        }
    }
}

columns! {
    /// Rows of `monmon_measurement`.
    MeasurementRows in "monmon_measurement" {
        id "id" "uuid": Uuid,
        check_id "check_id" "uuid": Uuid,
        context_id "context_id" "uuid": Uuid,
        scheduled_at "scheduled_at" "timestamptz": Timestamp,
        started_at "started_at" "timestamptz": Option<Timestamp>,
        seq "seq" "bigint": i64,
        body_bytes "body_bytes" "bigint": Option<i64>,
        total_us "total_us" "integer": i32,
        dns_us "dns_us" "integer": Option<i32>,
        connect_us "connect_us" "integer": Option<i32>,
        tls_us "tls_us" "integer": Option<i32>,
        wait_us "wait_us" "integer": Option<i32>,
        transfer_us "transfer_us" "integer": Option<i32>,
        attempt "attempt" "integer": i32,
        status "status" "smallint": Option<i16>,
        body_truncated "body_truncated" "boolean": bool,
        outcome "outcome" "text": &'a str,
        method "method" "text": Option<&'a str>,
        url "url" "text": Option<&'a str>,
        reason_kind "reason_kind" "text": Option<&'a str>,
        reason_name "reason_name" "text": Option<&'a str>,
        reason_message "reason_message" "text": Option<&'a str>,
        error_kind "error_kind" "text": Option<&'a str>,
        error_phase "error_phase" "text": Option<&'a str>,
        error_message "error_message" "text": Option<&'a str>,
        redirects "redirects" "jsonb": Option<String>,
        body_wire_bytes "body_wire_bytes" "bigint": Option<i64>,
        details "details" "jsonb": Option<String>,
    }
}

columns! {
    /// Rows of `monmon_match`.
    MatchRows in "monmon_match" {
        id "id" "uuid": Uuid,
        measurement_id "measurement_id" "uuid": Uuid,
        verdict_id "verdict_id" "uuid": Uuid,
        message "message" "text": Option<&'a str>,
        values "values" "jsonb": Option<String>,
        metrics "metrics" "jsonb": Option<String>,
    }
}

columns! {
    /// Rows of `monmon_batch`, but for what the server counts itself.
    BatchRows in "monmon_batch" {
        id "id" "uuid": Uuid,
        first_offset "first_offset" "bigint": i64,
        last_offset "last_offset" "bigint": i64,
        partition_id "partition_id" "integer": i32,
        messages "messages" "integer": i32,
        dead_letters "dead_letters" "integer": i32,
        events "events" "integer": i32,
        pipeline "pipeline" "text": &'a str,
        stage "stage" "text": &'a str,
        source "source" "text": &'a str,
        topic "topic" "text": &'a str,
        offsets "offsets" "int8multirange": Option<String>,
    }
}

columns! {
    /// Rows of `monmon_dead_letter`.
    DeadLetterRows in "monmon_dead_letter" {
        id "id" "uuid": Uuid,
        reason "reason" "text": &'a str,
        message "message" "text": String,
        pipeline "pipeline" "text": String,
        source "source" "text": String,
        topic "topic" "text": Option<String>,
        kafka_partition "kafka_partition" "integer": Option<i32>,
        kafka_offset "kafka_offset" "bigint": Option<i64>,
        occurred_at "occurred_at" "timestamptz": Timestamp,
        key "key" "bytea": Option<&'a [u8]>,
        bytes "bytes" "bytea": &'a [u8],
    }
}

columns! {
    /// Rows of `monmon_receipt`.
    ReceiptRows in "monmon_receipt" {
        id "id" "uuid": Uuid,
        boot_id "boot_id" "uuid": Uuid,
        at "at" "timestamptz": Timestamp,
        began_at "began_at" "timestamptz": Timestamp,
        slots_from "slots_from" "timestamptz": Timestamp,
        slots_until "slots_until" "timestamptz": Timestamp,
        first_seq "first_seq" "bigint": i64,
        last_seq "last_seq" "bigint": i64,
        failed "failed" "bigint": i64,
        ids_xor "ids_xor" "uuid": Uuid,
        pipeline "pipeline" "text": &'a str,
        source "source" "text": &'a str,
        last "last" "boolean": bool,
    }
}

columns! {
    /// Rows of `monmon_incident`.
    IncidentRows in "monmon_incident" {
        id "id" "uuid": Uuid,
        check_id "check_id" "uuid": Uuid,
        suppressed_by "suppressed_by" "uuid": Option<Uuid>,
        began_at "began_at" "timestamptz": Timestamp,
        opened_at "opened_at" "timestamptz": Timestamp,
        last_bad_at "last_bad_at" "timestamptz": Timestamp,
        recovered_at "recovered_at" "timestamptz": Option<Timestamp>,
        closed_at "closed_at" "timestamptz": Option<Timestamp>,
        revision "revision" "integer": i32,
        flapping "flapping" "boolean": bool,
        pipeline "pipeline" "text": &'a str,
        detector "detector" "text": &'a str,
        reason "reason" "text": &'a str,
        probers "probers" "jsonb": String,
    }
}

impl<'a> IncidentRows<'a> {
    pub(crate) fn push(&mut self, incident: &'a Incident) {
        let row = self.id.len();
        self.id.push(incident.id);
        self.check_id.push(incident.check.id);
        self.suppressed_by.put(row, incident.suppressed_by);
        self.began_at.push(incident.began_at.max(FIRST_YEAR));
        self.opened_at.push(incident.opened_at.max(FIRST_YEAR));
        self.last_bad_at.push(incident.last_bad_at.max(FIRST_YEAR));
        self.recovered_at.put(row, incident.recovered_at);
        self.closed_at.put(row, incident.closed_at);
        self.revision.push(i32::try_from(incident.revision).unwrap_or(i32::MAX));
        self.flapping.push(incident.flapping);
        self.pipeline.push(&incident.pipeline);
        self.detector.push(&incident.detector);
        self.reason.push(&incident.reason);
        self.probers.push(json(&incident.probers));
    }
}

impl<'a> MeasurementRows<'a> {
    /// Appends a row whose numbers [`misfit`] has looked at. Larger ones are cut, so that nothing here can fail.
    pub(crate) fn push(&mut self, measurement: &'a Measurement, context_id: Uuid) {
        let row = self.id.len();
        let timings = &measurement.timings;
        self.id.push(measurement.id);
        self.check_id.push(measurement.check.id);
        self.context_id.push(context_id);
        self.scheduled_at.push(measurement.scheduled_at);
        self.started_at.put(row, measurement.started_at);
        self.seq.push(long(measurement.seq));
        self.body_bytes.put(row, measurement.body_bytes.map(long));
        self.total_us.push(micros(timings.total_us));
        self.dns_us.put(row, timings.dns_us.map(micros));
        self.connect_us.put(row, timings.connect_us.map(micros));
        self.tls_us.put(row, timings.tls_us.map(micros));
        self.wait_us.put(row, timings.wait_us.map(micros));
        self.transfer_us.put(row, timings.transfer_us.map(micros));
        self.attempt.push(i32::try_from(measurement.attempt).unwrap_or(i32::MAX));
        self.status.put(row, measurement.status.and_then(|status| i16::try_from(status).ok()));
        self.body_truncated.push(measurement.body_truncated);
        self.outcome.push(measurement.outcome.as_str());
        let check = &measurement.check;
        self.method.put(row, Some(measurement.method.as_str()).filter(|method| *method != check.method));
        self.url.put(row, Some(measurement.url.as_str()).filter(|url| *url != check.url));
        let error = measurement.error.as_ref();
        let said = error.map(|error| error.message.as_str());
        let reason = measurement.reason.as_ref();
        self.reason_kind.put(row, reason.map(|reason| reason.kind()));
        self.reason_name.put(row, reason.and_then(|reason| reason.name()));
        self.reason_message
            .put(row, reason.map(|reason| reason.message()).filter(|message| Some(*message) != said));
        self.error_kind.put(row, error.map(|error| error.kind.as_str()));
        self.error_phase.put(row, error.map(|error| error.phase.as_str()));
        self.error_message.put(row, said);
        let redirects = (!measurement.redirects.is_empty()).then(|| json(&measurement.redirects));
        self.redirects.put(row, redirects);
        self.body_wire_bytes.put(row, measurement.body_wire_bytes.map(long));
        self.details.put(row, measurement.details.as_ref().map(json));
    }
}

impl<'a> MatchRows<'a> {
    pub(crate) fn push(&mut self, measurement: &'a Measurement, found: &'a Match, verdict_id: Uuid) {
        let row = self.id.len();
        self.id.push(match_id(measurement.id, measurement.scheduled_at, &found.stage, &found.name));
        self.measurement_id.push(measurement.id);
        self.verdict_id.push(verdict_id);
        self.message.put(row, found.message.as_deref());
        self.values.put(row, (!found.values.is_empty()).then(|| json(&found.values)));
        self.metrics.put(row, (!found.metrics.is_empty()).then(|| json(&found.metrics)));
    }
}

impl<'a> BatchRows<'a> {
    pub(crate) fn push(&mut self, id: Uuid, stage: &'a str, slice: &Slice<'a>) {
        let row = self.id.len();
        let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        self.id.push(id);
        self.first_offset.push(slice.first());
        self.last_offset.push(slice.last());
        self.partition_id.push(slice.partition);
        self.messages.push(count(slice.messages));
        self.dead_letters.push(count(slice.rejected));
        self.events.push(count(slice.events));
        self.pipeline.push(slice.pipeline);
        self.stage.push(stage);
        self.source.push(slice.source);
        self.topic.push(slice.topic);
        let runs = slice.runs().map(|runs| {
            let runs: Vec<String> = runs.iter().map(|(first, last)| format!("[{first},{last}]")).collect();
            format!("{{{}}}", runs.join(","))
        });
        self.offsets.put(row, runs);
    }
}

impl<'a> ReceiptRows<'a> {
    pub(crate) fn push(&mut self, receipt: &'a Receipt) {
        self.id.push(receipt.id);
        self.boot_id.push(receipt.prober.boot);
        self.at.push(receipt.at);
        self.began_at.push(receipt.began_at);
        self.slots_from.push(receipt.slots_from);
        self.slots_until.push(receipt.slots_until);
        self.first_seq.push(long(receipt.first_seq));
        self.last_seq.push(long(receipt.last_seq));
        self.failed.push(long(receipt.failed));
        self.ids_xor.push(receipt.ids_xor);
        self.pipeline.push(&receipt.pipeline);
        self.source.push(&receipt.source);
        self.last.push(receipt.last);
    }
}

impl<'a> DeadLetterRows<'a> {
    pub(crate) fn push(&mut self, rejected: &'a Rejected) {
        let row = self.id.len();
        // The bytes are kept as they came; texts lose the one character that no text column can hold, for a dead letter
        // that can't be stored would hold up everything behind it.
        let text = |text: &str| text.replace('\0', "\u{fffd}");
        self.id.push(rejected.id);
        self.reason.push(rejected.reason.as_str());
        self.message.push(text(&rejected.message));
        self.pipeline.push(text(&rejected.origin.pipeline));
        self.source.push(text(&rejected.origin.source));
        self.topic.put(row, rejected.origin.topic.as_deref().map(text));
        self.kafka_partition.put(row, rejected.origin.partition);
        self.kafka_offset.put(row, rejected.origin.offset);
        // A carrier may claim any time; before the first year there is none that PostgreSQL surely takes.
        self.occurred_at.push(rejected.at.max(FIRST_YEAR));
        self.key.put(row, rejected.key.as_deref());
        self.bytes.push(&rejected.bytes);
    }
}

/// What in a measurement no row can hold, if there is something.
pub(crate) fn misfit(measurement: &Measurement) -> Option<String> {
    let timings = &measurement.timings;
    let longest = timings.phases().into_iter().flatten().chain([timings.total_us]).max().unwrap_or(0);
    if i32::try_from(longest).is_err() {
        return Some(format!("a time of {longest} us is longer than the {} us of a column", i32::MAX));
    }
    let check = &measurement.check;
    let counts = [measurement.seq, check.interval_us, check.timeout_us, measurement.body_bytes.unwrap_or(0)];
    if let Some(refusal) = too_large(counts.into_iter().chain(measurement.body_wire_bytes)) {
        return Some(refusal);
    }
    if let Some(status) = measurement.status.filter(|status| i16::try_from(*status).is_err()) {
        return Some(format!("the status {status} is larger than {}", i16::MAX));
    }
    None
}

/// The same of an event.
pub(crate) fn misfit_event(event: &Event) -> Option<String> {
    match event {
        Event::Receipt(receipt) => too_large([receipt.first_seq, receipt.last_seq, receipt.failed]),
        Event::Incident(incident) => i32::try_from(incident.revision)
            .is_err()
            .then(|| format!("the revision {} is larger than {}", incident.revision, i32::MAX)),
    }
}

fn too_large(counts: impl IntoIterator<Item = u64>) -> Option<String> {
    let largest = counts.into_iter().find(|count| i64::try_from(*count).is_err())?;
    Some(format!("the number {largest} is larger than {}", i64::MAX))
}

fn micros(value: u64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn long(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps with text keys are JSON")
}
