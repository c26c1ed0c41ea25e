//! Log lines, and whatever else goes to standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use miette::{GraphicalReportHandler, GraphicalTheme, ReportHandler};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::{LogArgs, LogFormat};

/// Whether a progress line stands on the terminal; log lines wipe it first.
static PROGRESS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Back to the line's start, and wipe it.
const WIPE: &[u8] = b"\r\x1b[2K";

/// Width of diagnostics, in columns.
const REPORT_WIDTH: usize = 100;

/// Starts logging; an unusable filter is a usage error.
pub(crate) fn start(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|error| format!("--log-level {}: {error}", args.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(StandardError);
    let started = match args.log {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// Writes a line to standard error. If even that is gone there is nobody left to tell.
pub(crate) fn say(text: &str) {
    let mut out = StandardError.make_writer();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")));
}

/// Shows a line that the next one will replace.
pub(crate) fn show_progress(line: &str) {
    let mut out = StandardError.make_writer();
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    PROGRESS_SHOWN.store(true, Ordering::Relaxed);
}

pub(crate) fn wipe_progress() {
    drop(StandardError.make_writer());
}

/// How diagnostics are drawn: in colour on a terminal that wants it.
pub(crate) fn report_handler() -> impl ReportHandler {
    #[expect(clippy::disallowed_methods, reason = "the agreed way to ask for no colour, see no-color.org")]
    let no_color = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    let theme = match io::stderr().is_terminal() && !no_color {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    GraphicalReportHandler::new_themed(theme).with_width(REPORT_WIDTH).with_links(false)
}

struct StandardError;

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = io::StderrLock<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        let mut out = io::stderr().lock();
        if PROGRESS_SHOWN.swap(false, Ordering::Relaxed) {
            drop(out.write_all(WIPE));
        }
        out
    }
}
