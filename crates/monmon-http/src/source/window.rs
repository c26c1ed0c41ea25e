//! Crontab lines with their time zone: when checks are due, and windows of maintenance.

use std::sync::Arc;
use std::time::Duration;

use cronexpr::{Crontab, parse_crontab};
use jiff::Timestamp;
use monmon_syntax::{Code, Node, Problem, Problems, Span, format_duration};
use serde_json::{Value, json};

/// How many slots a line's mean interval is taken over.
const MEAN_OF: usize = 1000;

/// A crontab line.
#[derive(Clone)]
pub(crate) struct Cron {
    text: Arc<str>,
    crontab: Arc<Crontab>,
}

impl std::fmt::Debug for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Cron) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl Cron {
    pub(crate) fn new(line: &str, timezone: &str) -> Result<Cron, String> {
        let text = format!("{} {timezone}", line.trim());
        if line.split_whitespace().count() != 5 {
            return Err(
                "a crontab line has five fields: minute, hour, day, month, day of the week".to_owned()
            );
        }
        // The library's text repeats the line and points into it; its last line says why.
        let crontab = parse_crontab(&text).map_err(|error| {
            error
                .to_string()
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default()
                .trim_matches(['^', ' '])
                .to_owned()
        })?;
        let cron = Cron { text: text.into(), crontab: Arc::new(crontab) };
        match cron.after(Timestamp::UNIX_EPOCH.as_microsecond()) {
            i64::MAX => Err("no such time ever comes".to_owned()),
            _ => Ok(cron),
        }
    }

    /// The line with its time zone.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first instant after `t`, in microseconds since 1970; `i64::MAX` where there is none.
    pub(crate) fn after(&self, t: i64) -> i64 {
        Timestamp::from_microsecond(t)
            .ok()
            .and_then(|start| self.crontab.find_next(start).ok())
            .map_or(i64::MAX, |next| next.timestamp().as_microsecond())
    }

    /// The mean time from slot to slot, from now on.
    pub(crate) fn mean_interval(&self, now: Timestamp) -> Duration {
        let first = self.after(now.as_microsecond());
        let (mut last, mut count) = (first, 0_i64);
        for _ in 0..MEAN_OF {
            match self.after(last) {
                i64::MAX => break,
                next => (last, count) = (next, count + 1),
            }
        }
        let mean = if count == 0 { 86_400_000_000 } else { (last - first) / count };
        Duration::from_micros(u64::try_from(mean).unwrap_or(1).max(1))
    }
}

/// A window of maintenance.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) name: String,
    begins: Cron,
    duration: Duration,
}

impl Window {
    pub(crate) fn decode(node: &Node, problems: &mut Problems) -> Option<Window> {
        let name = node.arg_text(0)?.value;
        let begins = cron(node, problems)?;
        Some(Window { name, begins, duration: node.duration("duration")?.value })
    }

    pub(crate) fn describe(&self) -> Value {
        json!({ "name": self.name, "schedule": self.begins.text(), "duration": format_duration(self.duration) })
    }

    /// Whether a slot lies in it.
    pub(crate) fn holds(&self, slot: i64) -> bool {
        let duration = i64::try_from(self.duration.as_micros()).unwrap_or(i64::MAX);
        // The first window that is not over at the slot.
        self.begins.after(slot.saturating_sub(duration)) <= slot
    }
}

/// A node's `schedule` with its `timezone`.
pub(crate) fn cron(node: &Node, problems: &mut Problems) -> Option<Cron> {
    let line = node.text("schedule")?;
    let zone = node.text("timezone")?;
    if jiff::tz::TimeZone::get(&zone.value).is_err() {
        problems.push(bad(
            zone.span,
            format!("`{}` is no time zone", zone.value),
            "expected a name such as \"Europe/Berlin\"",
        ));
        return None;
    }
    match Cron::new(&line.value, &zone.value) {
        Ok(cron) => Some(cron),
        Err(why) => {
            let message = format!("`{}` is no crontab line: {why}", line.value);
            problems.push(bad(line.span, message, "expected a line such as \"*/5 8-18 * * MON-FRI\""));
            None
        }
    }
}

fn bad(span: Span, message: String, label: &str) -> Problem {
    Problem::new(Code::BadName, span, message).label(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn lines_of_a_crontab() {
        let cron = Cron::new("*/15 8-9 * * MON-FRI", "Europe/Berlin").unwrap();
        // A Friday in winter: 8 o'clock in Berlin is 7 in UTC, and after 9:45 comes Monday.
        assert_eq!(cron.after(at("2026-11-27T06:50:00Z")), at("2026-11-27T07:00:00Z"));
        assert_eq!(cron.after(at("2026-11-27T08:45:00Z")), at("2026-11-30T07:00:00Z"));
        for (line, zone) in
            [("* * * *", "UTC"), ("61 * * * *", "UTC"), ("0 0 31 2 *", "UTC"), ("0 0 * * *", "Atlantis")]
        {
            assert!(Cron::new(line, zone).is_err(), "{line} {zone}");
        }
        let hourly = Cron::new("0 * * * *", "UTC").unwrap();
        assert_eq!(hourly.mean_interval(Timestamp::UNIX_EPOCH), Duration::from_secs(3600));
    }

    #[test]
    fn an_hour_that_is_there_twice_or_not_at_all() {
        let cron = Cron::new("30 2 * * *", "Europe/Berlin").unwrap();
        // 2026-03-29 has no 2:30 in Berlin; the day after has.
        let next = cron.after(at("2026-03-28T12:00:00Z"));
        assert!(next > at("2026-03-28T12:00:00Z") && next <= at("2026-03-30T00:30:00Z"));
        // 2026-10-25 has it twice.
        let first = cron.after(at("2026-10-24T12:00:00Z"));
        assert_eq!(first, at("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn windows() {
        let begins = Cron::new("0 3 * * *", "UTC").unwrap();
        let window = Window { name: "patching".to_owned(), begins, duration: Duration::from_secs(7200) };
        for (slot, inside) in [
            ("2026-11-24T02:59:59.999999Z", false),
            ("2026-11-24T03:00:00Z", true),
            ("2026-11-24T04:59:59Z", true),
            ("2026-11-24T05:00:00Z", false),
        ] {
            assert_eq!(window.holds(at(slot)), inside, "{slot}");
        }
    }
}
