//! `monmon export`: what a store holds, for other tools.

mod columns;
mod delimited;
mod parquet;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use monmon_model::{Measurement, Selection, wire};
use monmon_stage::{StageError, StoreReader};

use crate::cli::{ExportArgs, ExportFormat};
use crate::progress::Bar;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs};

/// Something that measurements are written to.
trait Writer {
    fn write(&mut self, measurements: &[Measurement]) -> Result<(), String>;
    /// Writes what stands at the end.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

pub(crate) async fn export(args: &ExportArgs) -> Exit {
    match try_export(args).await {
        Ok(rows) => {
            logs::say(&format!("{rows} measurements exported"));
            Exit::Good
        }
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            Exit::Failed
        }
    }
}

async fn try_export(args: &ExportArgs) -> Result<u64, String> {
    let format = format(args)?;
    if format == ExportFormat::Parquet && args.output.is_none() && std::io::stdout().is_terminal() {
        return Err("a Parquet file is nothing for a terminal: name one with --output".to_owned());
    }
    let selection = Selection { since: args.since, until: args.until, checks: args.check.clone() };
    if selection.until.is_some_and(|until| selection.since.is_some_and(|since| until <= since)) {
        return Err("--until is not after --since: nothing lies between".to_owned());
    }
    let mut reader = open(&args.store.store, &selection).await?;
    let destination = Destination::new(args.output.as_deref())?;
    let mut writer = writer(format, destination.open()?)?;
    let mut bar = Bar::new(reader.count().await.map_err(|error| explained(&error))?);
    let mut rows = 0;
    loop {
        let page = reader.next().await.map_err(|error| explained(&error))?;
        // Dead letters are no measurements: they come last.
        if page.measurements.is_empty() {
            break;
        }
        writer.write(&page.measurements)?;
        rows += page.measurements.len() as u64;
        bar.show(rows);
    }
    bar.wipe();
    writer.finish()?;
    destination.keep()?;
    Ok(rows)
}

/// What was asked for, or what the file's name says.
fn format(args: &ExportArgs) -> Result<ExportFormat, String> {
    let extension = args.output.as_deref().and_then(Path::extension).and_then(|extension| extension.to_str());
    match (args.format, extension) {
        (Some(format), _) => Ok(format),
        (None, Some("csv")) => Ok(ExportFormat::Csv),
        (None, Some("jsonl" | "ndjson")) => Ok(ExportFormat::Jsonl),
        (None, Some("parquet")) => Ok(ExportFormat::Parquet),
        (None, None) if args.output.is_none() => Ok(ExportFormat::Jsonl),
        (None, _) => Err("the name of --output does not say which format: add --format".to_owned()),
    }
}

async fn open(url: &str, selection: &Selection) -> Result<Box<dyn StoreReader>, String> {
    match store::parse(url)? {
        Store::Postgres(target) => match monmon_postgres::Reader::open(*target, selection).await {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => Err(explained(&StageError::from(error))),
        },
        Store::Sqlite(path) => match monmon_sqlite::Reader::open(path, selection) {
            Ok(reader) => Ok(Box::new(reader)),
            Err(error) => Err(explained(&StageError::from(error))),
        },
    }
}

fn explained(error: &StageError) -> String {
    match error.help_text() {
        Some(help) => format!("{}\n  help: {help}", with_causes(error)),
        None => with_causes(error),
    }
}

/// Where the export goes: a file appears under its name when it is whole, and not before.
struct Destination {
    /// The file, and what it is called until then.
    file: Option<(PathBuf, PathBuf)>,
}

type Output = Box<dyn Write + Send>;

impl Destination {
    fn new(path: Option<&Path>) -> Result<Destination, String> {
        let Some(path) = path else { return Ok(Destination { file: None }) };
        let name = path.file_name().ok_or_else(|| format!("`{}` names no file", path.display()))?;
        let mut unfinished = name.to_owned();
        unfinished.push(".part");
        Ok(Destination { file: Some((path.to_owned(), path.with_file_name(unfinished))) })
    }

    fn open(&self) -> Result<Output, String> {
        match &self.file {
            None => Ok(Box::new(BufWriter::new(std::io::stdout()))),
            Some((_, unfinished)) => match File::create(unfinished) {
                Ok(file) => Ok(Box::new(BufWriter::new(file))),
                Err(error) => Err(format!("`{}` cannot be made: {error}", unfinished.display())),
            },
        }
    }

    fn keep(self) -> Result<(), String> {
        let Some((path, unfinished)) = &self.file else { return Ok(()) };
        // Else a power cut could leave an empty file under the final name.
        let synced = File::open(unfinished).and_then(|file| file.sync_all());
        synced.map_err(|error| format!("`{}` cannot be written: {error}", unfinished.display()))?;
        std::fs::rename(unfinished, path).map_err(|error| {
            format!("`{}` cannot be named `{}`: {error}", unfinished.display(), path.display())
        })
    }
}

fn writer(format: ExportFormat, output: Output) -> Result<Box<dyn Writer>, String> {
    match format {
        ExportFormat::Jsonl => Ok(Box::new(Lines { output, lines: Vec::new() })),
        ExportFormat::Csv => Ok(Box::new(delimited::Csv::new(output)?)),
        ExportFormat::Parquet => Ok(Box::new(parquet::Parquet::new(output)?)),
    }
}

/// The wire format, a measurement a line.
struct Lines {
    output: Output,
    lines: Vec<u8>,
}

impl Writer for Lines {
    fn write(&mut self, measurements: &[Measurement]) -> Result<(), String> {
        self.lines.clear();
        for measurement in measurements {
            wire::encode(measurement, &mut self.lines);
            self.lines.push(b'\n');
        }
        self.output.write_all(&self.lines).map_err(unwritten)
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        self.output.flush().map_err(unwritten)
    }
}

fn unwritten(error: impl std::fmt::Display) -> String {
    format!("the export cannot be written: {error}")
}

/// Reads `--since` and `--until`.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    monmon_stage::parse_instant(text)
}
