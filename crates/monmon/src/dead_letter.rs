//! `monmon dead-letter`: what came in and could not be stored, shown, tried again, or thrown away.

use std::fmt::Write as _;
use std::io::Write as _;

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use monmon_model::{DeadLetter, DeadLetterFilter, Replayed};
use monmon_stage::{Clock, SystemClock};
use monmon_syntax::printable;
use serde_json::{Value, json};

use crate::cli::{DeadLetterCommand, LetterArgs, LetterFormat};
use crate::db::patiently;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs};

/// Longest message in the table, in characters.
const MESSAGE_CHARS_MAX: usize = 60;
/// How many letters are read at once when all of them are gone through.
const PAGE: u32 = 200;

pub(crate) async fn execute(command: &DeadLetterCommand) -> Exit {
    let done = match command {
        DeadLetterCommand::List { letters, limit, format } => list(letters, *limit, *format).await,
        DeadLetterCommand::Show { letters, hex, format } => show(letters, *hex, *format).await,
        DeadLetterCommand::Replay { letters, all, format } => replay(letters, *all, *format).await,
        DeadLetterCommand::Drop { letters, all, yes } => drop(letters, *all, *yes).await,
    };
    done.unwrap_or_else(|message| {
        logs::say(&format!("monmon: {message}"));
        Exit::Failed
    })
}

/// The dead letters of either store.
enum Letters {
    Postgres(Box<monmon_postgres::DeadLetters>),
    Sqlite(monmon_sqlite::DeadLetters),
}

impl Letters {
    async fn open(args: &LetterArgs) -> Result<Letters, String> {
        match store::parse(&args.store.store)? {
            Store::Postgres(target) => {
                let opened = patiently(&target, monmon_postgres::DeadLetters::open(&target)).await;
                opened.map(|letters| Letters::Postgres(Box::new(letters))).map_err(of_postgres)
            }
            Store::Sqlite(path) => {
                monmon_sqlite::DeadLetters::open(&path).map(Letters::Sqlite).map_err(of_sqlite)
            }
        }
    }

    async fn list(&self, filter: &DeadLetterFilter, max: u32) -> Result<Vec<DeadLetter>, String> {
        match self {
            Letters::Postgres(letters) => letters.list(filter, max).await.map_err(of_postgres),
            Letters::Sqlite(letters) => letters.list(filter, max).map_err(of_sqlite),
        }
    }

    async fn count(&self, filter: &DeadLetterFilter) -> Result<u64, String> {
        match self {
            Letters::Postgres(letters) => letters.count(filter).await.map_err(of_postgres),
            Letters::Sqlite(letters) => letters.count(filter).map_err(of_sqlite),
        }
    }

    async fn remove(&self, filter: &DeadLetterFilter) -> Result<u64, String> {
        match self {
            Letters::Postgres(letters) => letters.remove(filter).await.map_err(of_postgres),
            Letters::Sqlite(letters) => letters.remove(filter).map_err(of_sqlite),
        }
    }

    async fn replay(&mut self, letter: &DeadLetter) -> Result<Replayed, String> {
        match self {
            Letters::Postgres(letters) => {
                letters.replay(letter, SystemClock.now()).await.map_err(of_postgres)
            }
            Letters::Sqlite(letters) => letters.replay(letter).map_err(of_sqlite),
        }
    }
}

fn of_postgres(error: monmon_postgres::StoreError) -> String {
    explained(&error, error.help())
}

fn of_sqlite(error: monmon_sqlite::StoreError) -> String {
    explained(&error, error.help())
}

fn explained(error: &dyn std::error::Error, help: Option<&str>) -> String {
    match help {
        Some(help) => format!("{}\n  help: {help}", with_causes(error)),
        None => with_causes(error),
    }
}

fn filter(args: &LetterArgs) -> Result<DeadLetterFilter, String> {
    let now = SystemClock.now();
    let instant = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => moment(text, now).map(Some).map_err(|error| format!("--{name} {text}: {error}")),
    };
    Ok(DeadLetterFilter {
        ids: args.ids.clone(),
        reason: args.reason.clone(),
        topic: args.topic.clone(),
        since: instant("since", &args.since)?,
        until: instant("until", &args.until)?,
        after: None,
    })
}

/// An instant such as 2026-11-25T12:00:00Z, or how long ago: 2h.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(ago) = monmon_syntax::parse_duration(text) {
        return now.checked_sub(ago).map_err(|error| error.to_string());
    }
    text.parse()
        .map_err(|_| "expected an instant such as 2026-11-25T12:00:00Z, or how long ago, such as 2h".into())
}

/// What is done to letters is done to those that were named: to all of them only where that was said.
fn meant(args: &LetterArgs, all: bool) -> Result<DeadLetterFilter, String> {
    let filter = filter(args)?;
    match filter == DeadLetterFilter::default() && !all {
        true => Err("name dead letters by their ids or by filters, or say --all".to_owned()),
        false => Ok(filter),
    }
}

async fn list(args: &LetterArgs, limit: u32, format: LetterFormat) -> Result<Exit, String> {
    let letters = Letters::open(args).await?;
    let filter = filter(args)?;
    let found = letters.list(&filter, limit).await?;
    match format {
        LetterFormat::Json => print(&lines(found.iter().map(without_bytes)))?,
        LetterFormat::Text if found.is_empty() => print("no dead letters\n")?,
        LetterFormat::Text => {
            print(&format!("{}\n", table(&found)))?;
            let count = letters.count(&filter).await?;
            if count > found.len() as u64 {
                logs::say(&format!("{count} in all; --limit shows more"));
            }
        }
    }
    Ok(Exit::Good)
}

async fn show(args: &LetterArgs, hex: bool, format: LetterFormat) -> Result<Exit, String> {
    let filter = meant(args, false)?;
    let letters = Letters::open(args).await?;
    let found = letters.list(&filter, PAGE).await?;
    if found.is_empty() {
        return Err("there is no such dead letter".to_owned());
    }
    match format {
        LetterFormat::Json => print(&lines(found.iter().map(with_bytes)))?,
        LetterFormat::Text => {
            let shown: Vec<String> = found.iter().map(|letter| whole(letter, hex)).collect();
            print(&shown.join("\n"))?;
        }
    }
    Ok(Exit::Good)
}

async fn replay(args: &LetterArgs, all: bool, format: LetterFormat) -> Result<Exit, String> {
    let mut filter = meant(args, all)?;
    let mut letters = Letters::open(args).await?;
    let (mut stored, mut known, mut kept) = (0_u64, 0_u64, 0_u64);
    loop {
        let page = letters.list(&filter, PAGE).await?;
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        for letter in &page {
            let (word, why) = match letters.replay(letter).await? {
                Replayed::Stored => {
                    stored += 1;
                    ("stored", None)
                }
                Replayed::Known => {
                    known += 1;
                    ("known", None)
                }
                Replayed::Kept(why) => {
                    kept += 1;
                    ("kept", Some(why))
                }
            };
            match (format, why) {
                (LetterFormat::Json, why) => {
                    print(&format!("{}\n", json!({ "id": letter.id, "replayed": word, "why": why })))?;
                }
                (LetterFormat::Text, Some(why)) => {
                    print(&format!("{} kept: {}\n", letter.id, printable(&why)))?
                }
                (LetterFormat::Text, None) => print(&format!("{} {word}\n", letter.id))?,
            }
        }
    }
    if stored + known + kept == 0 {
        return Err("there is no such dead letter".to_owned());
    }
    logs::say(&format!("{stored} stored, {known} were there already, {kept} kept"));
    Ok(if kept == 0 { Exit::Good } else { Exit::Bad })
}

async fn drop(args: &LetterArgs, all: bool, yes: bool) -> Result<Exit, String> {
    let filter = meant(args, all)?;
    let letters = Letters::open(args).await?;
    let count = letters.count(&filter).await?;
    if count == 0 {
        return Err("there is no such dead letter".to_owned());
    }
    if !yes {
        return Err(format!("{count} dead letters would be gone for good; say --yes to drop them"));
    }
    let dropped = letters.remove(&filter).await?;
    logs::say(&format!("{dropped} dropped"));
    Ok(Exit::Good)
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

/// One JSON object a line.
fn lines(values: impl Iterator<Item = Value>) -> String {
    values.fold(String::new(), |mut text, value| {
        text.push_str(&value.to_string());
        text.push('\n');
        text
    })
}

fn without_bytes(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "message": letter.message,
        "pipeline": letter.pipeline,
        "source": letter.source,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "occurred_at": letter.occurred_at,
        "stored_at": letter.stored_at,
        "size": letter.bytes.len(),
    })
}

/// The bytes as text where they are text, and always as hexadecimal digits.
fn with_bytes(letter: &DeadLetter) -> Value {
    let mut value = without_bytes(letter);
    value["key_hex"] = json!(letter.key.as_deref().map(digits));
    value["text"] = json!(std::str::from_utf8(&letter.bytes).ok());
    value["bytes_hex"] = json!(digits(&letter.bytes));
    value
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn origin(letter: &DeadLetter) -> String {
    let mut origin = format!("{}/{}", printable(&letter.pipeline), printable(&letter.source));
    if let (Some(topic), Some(partition), Some(offset)) = (&letter.topic, letter.partition, letter.offset) {
        let _written = write!(origin, " {}[{partition}]@{offset}", printable(topic));
    }
    origin
}

fn table(letters: &[DeadLetter]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["ID", "STORED", "REASON", "ORIGIN", "BYTES", "MESSAGE"]);
    for letter in letters {
        let message = printable(&letter.message).replace('\n', " ");
        let short =
            message.char_indices().nth(MESSAGE_CHARS_MAX).map(|(end, _)| format!("{}...", &message[..end]));
        table.add_row([
            letter.id.to_string(),
            letter.stored_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            printable(&letter.reason),
            origin(letter),
            letter.bytes.len().to_string(),
            short.unwrap_or(message),
        ]);
    }
    table
}

fn whole(letter: &DeadLetter, hex: bool) -> String {
    let bytes = |bytes: &[u8]| match hex {
        true => dump(bytes),
        false => format!("{}\n", bytes.escape_ascii()),
    };
    let key = letter.key.as_deref().map_or("none\n".to_owned(), |key| format!("{}\n", key.escape_ascii()));
    format!(
        "id        {}\nreason    {}\nmessage   {}\norigin    {}\noccurred  {}\nstored    {}\nkey       {key}bytes     {}\n{}",
        letter.id,
        printable(&letter.reason),
        printable(&letter.message),
        origin(letter),
        letter.occurred_at,
        letter.stored_at,
        letter.bytes.len(),
        bytes(&letter.bytes),
    )
}

/// Sixteen bytes a line: place, digits, and what is plain text of them.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, part) in bytes.chunks(16).enumerate() {
        let pairs: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let plain: String = part
            .iter()
            .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
            .collect();
        let _written = writeln!(text, "{:08x}  {:<47}  {plain}", line * 16, pairs.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_digits_and_plain_text() {
        assert_eq!(
            dump(b"{\"a\":\x00\xff 0123456789"),
            "00000000  7b 22 61 22 3a 00 ff 20 30 31 32 33 34 35 36 37  {\"a\":.. 01234567\n\
             00000010  38 39                                            89\n"
        );
    }

    #[test]
    fn moments_are_instants_or_how_long_ago() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().expect("an instant");
        assert_eq!(moment("2h", now).expect("ago").to_string(), "2026-11-25T10:00:00Z");
        assert_eq!(
            moment("2026-11-01T00:00:00Z", now).expect("an instant").to_string(),
            "2026-11-01T00:00:00Z"
        );
        assert!(moment("yesterday", now).is_err());
    }
}
