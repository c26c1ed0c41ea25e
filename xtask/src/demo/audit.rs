//! The end of the demo: Kafka is read from its first offset, and the ids there are compared with the stored ones. None of
//! monmon's own counters takes part.

use std::{
    fs::{self, File},
    process::Command,
};

use super::{Demo, TOPIC};
use crate::{failure::Failure, say};

const TOOLS: &str = "org.apache.kafka.tools";
const LOAD: &str = include_str!("load.sql");
const COMPARE: &str = include_str!("compare.sql");

/// How many messages the topic has: the last offsets of its partitions, which all begin at 0.
pub(super) fn messages(demo: &Demo<'_>) -> Option<u64> {
    let text = demo.runner.answer(&mut tool(demo, "GetOffsetShell", &["--topic", TOPIC]))?;
    text.lines().map(|line| line.rsplit(':').next()?.parse::<u64>().ok()).sum()
}

pub(super) fn compare(demo: &Demo<'_>) -> Result<(), Failure> {
    say::step("Kafka read from offset 0, beside the table");
    let count =
        messages(demo).ok_or_else(|| Failure::Verdict("Kafka does not tell its offsets".to_owned()))?;
    let path = demo.folder().join("kafka.jsonl");
    let file = File::create(&path).map_err(Failure::io(format!("writing {}", path.display())))?;
    if count > 0 {
        // The count ends it; the timeout only where messages are missing that the offsets promise.
        let count = count.to_string();
        let options =
            ["--topic", TOPIC, "--from-beginning", "--max-messages", &count, "--timeout-ms", "20000"];
        let mut read = tool(demo, "consumer.ConsoleConsumer", &options);
        let remarks = File::create(demo.log("kafka")).map_err(Failure::io("writing a log"))?;
        demo.runner.run("read Kafka", read.stdout(file).stderr(remarks))?;
    }
    let load = LOAD.replace("@FILE@", &path.display().to_string().replace('\'', "''"));
    let loaded = demo.folder().join("load.sql");
    fs::write(&loaded, load).map_err(Failure::io("writing the query"))?;
    let psql =
        ["psql", "-q", "-d", super::DATABASE, "-v", "ON_ERROR_STOP=1", "-f", &loaded.display().to_string()];
    demo.runner.run("load", &mut demo.services.script("postgres.sh", &psql))?;
    let table = demo.sql(&["-P", "footer=off"], COMPARE);
    let verdict = demo.sql(&["-A", "-t", "-F", " "], COMPARE);
    let (Some(table), Some(verdict)) = (table, verdict) else {
        return Err(Failure::Verdict("the comparison could not be made".to_owned()));
    };
    say::line(format_args!("{COMPARE}\n{table}"));
    let figures: Vec<u64> = verdict.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    judge(&figures, count)
}

/// Messages, their ids, rows, missing, not from Kafka, doubled; in the order of the query.
fn judge(figures: &[u64], count: u64) -> Result<(), Failure> {
    let bad = |text: String| Err(Failure::Verdict(text));
    match *figures {
        [0, ..] => bad("nothing went through Kafka".to_owned()),
        [messages, ..] if messages != count => bad(format!("{messages} messages read, {count} offsets")),
        [_, _, _, 0, 0, 0] => {
            say::line("every id of Kafka is in the table, once, and nothing else is");
            Ok(())
        }
        [_, _, _, missing, foreign, doubled] => {
            bad(format!("{missing} ids missing, {foreign} not from Kafka, {doubled} doubled"))
        }
        _ => bad(format!("the comparison gave {} figures", figures.len())),
    }
}

fn tool(demo: &Demo<'_>, class: &str, arguments: &[&str]) -> Command {
    let mut command = demo.services.script("kafka.sh", &["tool", &format!("{TOOLS}.{class}")]);
    command.args(["--bootstrap-server", &demo.services.brokers()]).args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_match_is_good() {
        assert!(judge(&[10, 9, 9, 0, 0, 0], 10).is_ok());
        for (figures, count) in [
            (&[10, 9, 8, 1, 0, 0][..], 10),
            (&[10, 9, 10, 0, 1, 0], 10),
            (&[10, 9, 10, 0, 0, 1], 10),
            (&[9, 9, 9, 0, 0, 0], 10),
            (&[0, 0, 0, 0, 0, 0], 0),
            (&[], 10),
        ] {
            assert!(judge(figures, count).is_err(), "{figures:?}");
        }
    }
}
