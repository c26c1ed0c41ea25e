//! The text that Prometheus reads. Families that are derived from the stages' own lists of counters and gauges need no
//! word here when one is added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use monmon_engine::{Look, Progress, Verdict};
use monmon_model::Outcome;
use monmon_stage::PartitionState;
use monmon_web::{Exposition, Type, Value};

use super::process;

/// Most checks that have series of their own: each has seven.
pub(crate) const CHECKS_MAX: usize = 2_000;

/// Most partitions of one source that have series of their own.
const PARTITIONS_MAX: usize = 1_000;

pub(crate) fn write(progress: Option<&Progress>, started_at: Timestamp, now: Timestamp) -> String {
    let mut out = Exposition::default();
    out.family("monmon_build_info", Type::Gauge, "Always 1; its label tells what runs.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
    out.single(
        "process_start_time_seconds",
        Type::Gauge,
        "When the process began its run, since 1970.",
        started_at.as_duration().as_secs_f64(),
    );
    process::write(&mut out);
    if let Some(progress) = progress {
        let looks: Vec<Look<'_>> = progress.looks().collect();
        stages(&mut out, &looks);
        waits(&mut out, progress, &looks);
        edges(&mut out, &looks);
        partitions(&mut out, &looks);
        measurements(&mut out, progress);
        checks(&mut out, progress, now);
    }
    out.into_text()
}

/// The labels of everything that belongs to a stage.
fn labels<'a>(look: &'a Look<'_>) -> [(&'static str, &'a str); 4] {
    let stage = &look.progress;
    [
        ("pipeline", &stage.pipeline),
        ("stage", &stage.stage),
        ("kind", stage.kind),
        ("section", stage.section.as_str()),
    ]
}

/// What a metric is, what it means, and its values by stage.
type Family<'a> = (Type, &'a str, Vec<(usize, Value)>);
/// A number of a check, where it has one.
type OfCheck<'a> = &'a dyn Fn(&Verdict) -> Option<f64>;

/// What all stages count and gauge, whatever that is.
fn stages(out: &mut Exposition, looks: &[Look<'_>]) {
    let mut families: BTreeMap<String, Family<'_>> = BTreeMap::new();
    for (at, look) in looks.iter().enumerate() {
        for counter in look.progress.counts.each() {
            let name = format!("monmon_stage_{}_total", counter.name);
            let family = families.entry(name).or_insert((Type::Counter, counter.help, Vec::new()));
            family.2.push((at, counter.value.into()));
        }
        for gauge in look.state.gauges() {
            let name = format!("monmon_stage_{}", gauge.name);
            let family = families.entry(name).or_insert((Type::Gauge, gauge.help, Vec::new()));
            family.2.push((at, gauge.value.into()));
        }
    }
    for (name, (kind, help, samples)) in &families {
        let mut family = out.family(name, *kind, help);
        for (at, value) in samples {
            family.sample(&labels(&looks[*at]), *value);
        }
    }
}

fn waits(out: &mut Exposition, progress: &Progress, looks: &[Look<'_>]) {
    let help =
        "1 while the stage waits for something that is not its own, such as a server that cannot be reached.";
    let mut family = out.family("monmon_stage_waiting", Type::Gauge, help);
    for look in looks {
        family.sample(&labels(look), u64::from(!look.state.waiting().is_empty()));
    }
    let help = "Always 1, for each cause that a stage waits for at the moment.";
    let mut family = out.family("monmon_stage_waiting_cause", Type::Gauge, help);
    for look in looks {
        for (cause, _) in look.state.waiting() {
            let [pipeline, stage, kind, section] = labels(look);
            family.sample(&[pipeline, stage, kind, section, ("cause", cause)], 1u64);
        }
    }
    let help = "Stages that could not go on; the run is ending.";
    out.single("monmon_stages_failed", Type::Gauge, help, progress.failed().len());
}

fn edges(out: &mut Exposition, looks: &[Look<'_>]) {
    let help =
        "Places taken in the queue before the stage: one an item, more for one that is larger than 4 KiB.";
    let mut family = out.family("monmon_stage_queue_places", Type::Gauge, help);
    let with_edge = || looks.iter().filter_map(|look| Some((look, look.edge?)));
    for (look, edge) in with_edge() {
        family.sample(&labels(look), edge.used());
    }
    let mut family = out.family(
        "monmon_stage_queue_capacity_places",
        Type::Gauge,
        "Places of the queue before the stage.",
    );
    for (look, edge) in with_edge() {
        family.sample(&labels(look), edge.capacity());
    }
}

/// A number of a partition's, where there is one.
type OfPartition = fn(&PartitionState) -> Option<Value>;

fn partitions(out: &mut Exposition, looks: &[Look<'_>]) {
    let families: [(&str, Type, &str, OfPartition); 5] = [
        (
            "monmon_kafka_consumer_lag_messages",
            Type::Gauge,
            "Messages of the partition that are not delivered yet: its end less what is delivered.",
            |one| one.lag().map(Value::from),
        ),
        (
            "monmon_kafka_end_offset",
            Type::Gauge,
            "The offset after the last message of the partition.",
            |one| one.end.map(|at| Value::Number(at as f64)),
        ),
        (
            "monmon_kafka_delivered_offset",
            Type::Gauge,
            "Everything of the partition before this offset is delivered.",
            |one| one.delivered.map(|at| Value::Number(at as f64)),
        ),
        (
            "monmon_kafka_committed_offset",
            Type::Gauge,
            "The group's place in the partition, as the broker keeps it.",
            |one| one.committed.map(|at| Value::Number(at as f64)),
        ),
        (
            "monmon_kafka_missed_messages_total",
            Type::Counter,
            "Messages that the partition had lost before they were read, since it was assigned.",
            |one| Some(Value::from(one.missed)),
        ),
    ];
    let all: Vec<_> = looks.iter().map(|look| (look, look.state.partitions())).collect();
    for (name, kind, help, value) in families {
        let mut family = out.family(name, kind, help);
        for (look, partitions) in &all {
            for one in partitions.each.iter().take(PARTITIONS_MAX) {
                let Some(value) = value(one) else { continue };
                let [pipeline, stage, ..] = labels(look);
                let partition = one.partition.to_string();
                let topic = ("topic", partitions.topic.as_str());
                family.sample(&[pipeline, stage, topic, ("partition", &partition)], value);
            }
        }
    }
}

fn measurements(out: &mut Exposition, progress: &Progress) {
    let help = "Measurements on their way into the sinks, by outcome.";
    let mut family = out.family("monmon_measurements_total", Type::Counter, help);
    for outcome in Outcome::ALL {
        family.sample(&[("outcome", outcome.as_str())], progress.verdicts().count(outcome));
    }
}

fn checks(out: &mut Exposition, progress: &Progress, now: Timestamp) {
    let (verdicts, count) = progress.verdicts().newest(CHECKS_MAX);
    out.single("monmon_checks", Type::Gauge, "Checks that were seen since the start.", count);
    let left_out = count.saturating_sub(verdicts.len());
    let help = "Checks that have no series of their own: there are too many.";
    out.single("monmon_checks_left_out", Type::Gauge, help, left_out);
    let help = "1 for the check's newest outcome, 0 for the others.";
    let mut family = out.family("monmon_check_outcome", Type::Gauge, help);
    for verdict in &verdicts {
        let [pipeline, source, check] = check_labels(verdict);
        for outcome in Outcome::ALL {
            let labels = [pipeline, source, check, ("outcome", outcome.as_str())];
            family.sample(&labels, u64::from(verdict.outcome == outcome));
        }
    }
    let families: [(&str, &str, OfCheck<'_>); 3] = [
        ("monmon_check_duration_seconds", "How long the check's newest measurement took.", &|verdict| {
            verdict.duration.map(|duration| duration.as_secs_f64())
        }),
        (
            "monmon_check_newest_slot_timestamp_seconds",
            "The slot of the check's newest measurement, since 1970.",
            &|verdict| Some(verdict.scheduled_at.as_duration().as_secs_f64()),
        ),
        (
            "monmon_check_certificate_left_seconds",
            "Time until the site's certificate ends; less than 0 when it has.",
            &|verdict| Some(verdict.certificate_ends?.duration_since(now).as_secs_f64()),
        ),
    ];
    for (name, help, value) in families {
        let mut family = out.family(name, Type::Gauge, help);
        for verdict in &verdicts {
            let Some(value) = value(verdict) else { continue };
            family.sample(&check_labels(verdict), value);
        }
    }
}

fn check_labels(verdict: &Verdict) -> [(&'static str, &str); 3] {
    let check = &verdict.check;
    [("pipeline", &check.pipeline), ("source", &check.source), ("check", &check.name)]
}
