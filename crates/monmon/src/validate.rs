//! `monmon validate`.

use std::io::Write;

use monmon_syntax::DiskLoader;
use serde_json::Value;

use crate::cli::{ProblemFormat, ValidateArgs};
use crate::{Exit, front, logs};

/// Silent when all is well.
pub(crate) fn validate(args: &ValidateArgs) -> Exit {
    let mut exit = Exit::Good;
    let mut all = Vec::new();
    for file in &args.files {
        let front = front(file, &DiskLoader);
        exit = exit.max(front.exit());
        match args.format {
            ProblemFormat::Text if front.problems.is_empty() => {}
            ProblemFormat::Text => logs::say(front.report().render(&logs::report_handler()).trim_end()),
            ProblemFormat::Json => {
                if let Value::Array(problems) = front.report().to_json() {
                    all.extend(problems);
                }
            }
        }
    }
    if args.format == ProblemFormat::Json {
        let text = format!("{:#}\n", Value::Array(all));
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return Exit::Failed;
        }
    }
    exit
}
