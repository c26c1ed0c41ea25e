//! `retention`: for how long a store keeps what, as its sinks are told and as `monmon db maintain` is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use monmon_syntax::{
    Code, FOREVER, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Value, ValueKind, format_duration,
    parse_duration,
};
use serde_json::json;

const DAY: Duration = Duration::from_secs(86_400);
const MAX: Duration = Duration::from_secs(86_400 * 365 * 100);
const KEPT: ValueKind = ValueKind::Kept { min: DAY, max: MAX };
const LABEL_RULES_MAX: usize = 100;

const MEASUREMENTS: OptionSpec = OptionSpec {
    name: "measurements",
    kind: KEPT,
    help: "single measurements with their matches; whole days go at once",
    example: r#"measurements="30d""#,
    ..OptionSpec::BLANK
};
const MINUTES: OptionSpec = OptionSpec {
    name: "minutes",
    kind: KEPT,
    help: "what they come to by minute",
    example: r#"minutes="90d""#,
    ..OptionSpec::BLANK
};
const HOURS: OptionSpec = OptionSpec {
    name: "hours",
    kind: KEPT,
    help: "what they come to by hour; whole months go at once",
    example: r#"hours="5y""#,
    ..OptionSpec::BLANK
};
const DAYS: OptionSpec = OptionSpec {
    name: "days",
    kind: KEPT,
    help: "what they come to by day",
    example: r#"days="forever""#,
    ..OptionSpec::BLANK
};
const KEEP_FAILURES: OptionSpec = OptionSpec {
    name: "keep-failures",
    kind: KEPT,
    help: "measurements that were not up, with their matches",
    example: r#"keep-failures="1y""#,
    ..OptionSpec::BLANK
};

static LABEL: NodeSpec = NodeSpec {
    name: "label",
    help: "other times for the checks with this label, as they are labelled now; if several apply, the longest",
    example: r#"label team="docs" measurements="7d""#,
    options: &[MEASUREMENTS, MINUTES, HOURS, DAYS, KEEP_FAILURES],
    occurs: Occurs::Many,
    open_properties: Some(ValueKind::Name),
    ..NodeSpec::BLANK
};

/// The node that sinks which keep things take.
pub static RETENTION: NodeSpec = NodeSpec {
    name: "retention",
    help: "sums measurements up by minute, hour and day, and says how long each of these is kept; what is not given is kept forever",
    example: r#"retention measurements="30d" minutes="90d" hours="5y" days="forever" keep-failures="1y""#,
    options: &[MEASUREMENTS, MINUTES, HOURS, DAYS, KEEP_FAILURES],
    children: &[&LABEL],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

/// What is kept for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Measurements,
    Minutes,
    Hours,
    Days,
    KeepFailures,
}

impl Level {
    pub const ALL: [Level; 5] =
        [Level::Measurements, Level::Minutes, Level::Hours, Level::Days, Level::KeepFailures];

    /// As it is written in files, on the command line and in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Level::Measurements => MEASUREMENTS.name,
            Level::Minutes => MINUTES.name,
            Level::Hours => HOURS.name,
            Level::Days => DAYS.name,
            Level::KeepFailures => KEEP_FAILURES.name,
        }
    }
}

/// For how long what is kept. [`Duration::MAX`] is forever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<Level, Duration>);

impl Kept {
    /// `None` is not given.
    pub fn get(&self, level: Level) -> Option<Duration> {
        self.0.get(&level).copied()
    }

    fn policy(&self) -> serde_json::Map<String, serde_json::Value> {
        let kept = self.0.iter().map(|(level, kept)| (level.name().to_owned(), json!(interval(*kept))));
        kept.collect()
    }
}

/// Other times for the checks with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelKept {
    pub label: String,
    pub value: String,
    pub kept: Kept,
}

/// All that is said about how long a store keeps what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub kept: Kept,
    pub labels: Vec<LabelKept>,
}

/// As PostgreSQL reads an interval. SQLite's maintenance reads the seconds alone.
fn interval(kept: Duration) -> String {
    match kept {
        Duration::MAX => FOREVER.to_owned(),
        kept => format!("{} seconds", kept.as_secs()),
    }
}

fn read_interval(text: &str) -> Option<Duration> {
    match text {
        FOREVER => Some(Duration::MAX),
        text => Some(Duration::from_secs(text.strip_suffix(" seconds")?.parse().ok()?)),
    }
}

fn shown(kept: Duration) -> String {
    match kept {
        Duration::MAX => FOREVER.to_owned(),
        kept => format_duration(kept),
    }
}

impl Retention {
    /// The policy that the stores' own functions take: an object as sql/postgres/0010_retention.sql tells it.
    pub fn policy(&self) -> serde_json::Value {
        let mut policy = self.kept.policy();
        if !self.labels.is_empty() {
            let rules = self.labels.iter().map(|rule| {
                let mut kept = rule.kept.policy();
                kept.insert("label".to_owned(), json!(rule.label));
                kept.insert("value".to_owned(), json!(rule.value));
                serde_json::Value::Object(kept)
            });
            policy.insert("labels".to_owned(), rules.collect());
        }
        serde_json::Value::Object(policy)
    }

    /// For how long what belongs to a check with these labels is kept. `None` and [`Duration::MAX`] are forever.
    pub fn of(&self, level: Level, labels: &BTreeMap<String, String>) -> Option<Duration> {
        let applies = |rule: &&LabelKept| labels.get(&rule.label) == Some(&rule.value);
        let ruled = self.labels.iter().filter(applies).filter_map(|rule| rule.kept.get(level)).max();
        ruled.or_else(|| self.kept.get(level))
    }

    /// A policy as [`Retention::policy`] has made it. `None` where it is none.
    pub fn of_policy(policy: &serde_json::Value) -> Option<Retention> {
        let kept = |of: &serde_json::Value| {
            let mut kept = BTreeMap::new();
            for level in Level::ALL {
                if let Some(text) = of.get(level.name()) {
                    kept.insert(level, read_interval(text.as_str()?)?);
                }
            }
            Some(Kept(kept))
        };
        let mut labels = Vec::new();
        for rule in policy.get("labels").and_then(serde_json::Value::as_array).into_iter().flatten() {
            let (label, value) =
                (rule.get("label")?.as_str()?.to_owned(), rule.get("value")?.as_str()?.to_owned());
            labels.push(LabelKept { label, value, kept: kept(rule)? });
        }
        Some(Retention { kept: kept(policy.as_object().map(|_| policy)?)?, labels })
    }

    /// One that keeps everything at least as long as each of several: of those that keep one store nobody lets go of what
    /// another one promises.
    pub fn longest(all: &[Retention]) -> Retention {
        let kept = |labels: &BTreeMap<String, String>| {
            let mut kept = BTreeMap::new();
            for level in Level::ALL {
                let of = |one: &Retention| {
                    let failures = one.of(level, labels).filter(|_| level == Level::KeepFailures);
                    // Failures of which nothing is said are kept as the rest.
                    let level = if level == Level::KeepFailures { Level::Measurements } else { level };
                    failures.or_else(|| one.of(level, labels)).unwrap_or(Duration::MAX)
                };
                kept.extend(all.iter().map(of).max().map(|longest| (level, longest)));
            }
            if kept.get(&Level::KeepFailures) == kept.get(&Level::Measurements) {
                kept.remove(&Level::KeepFailures);
            }
            Kept(kept)
        };
        let rules: BTreeSet<(&str, &str)> = all
            .iter()
            .flat_map(|one| &one.labels)
            .map(|rule| (rule.label.as_str(), rule.value.as_str()))
            .collect();
        let labels = rules.into_iter().map(|(label, value)| LabelKept {
            label: label.to_owned(),
            value: value.to_owned(),
            kept: kept(&BTreeMap::from([(label.to_owned(), value.to_owned())])),
        });
        Retention { labels: labels.collect(), kept: kept(&BTreeMap::new()) }
    }

    /// For plans: what is given, as it is written.
    pub fn describe(&self) -> serde_json::Value {
        let mut value = serde_json::Map::new();
        let tell = |kept: &Kept, value: &mut serde_json::Map<String, serde_json::Value>| {
            for (level, kept) in &kept.0 {
                value.insert(level.name().to_owned(), json!(shown(*kept)));
            }
        };
        tell(&self.kept, &mut value);
        for rule in &self.labels {
            let mut told = serde_json::Map::new();
            tell(&rule.kept, &mut told);
            value.insert(format!("label {}={}", rule.label, rule.value), told.into());
        }
        value.into()
    }

    /// Reads the node [`RETENTION`].
    pub fn decode(node: &Node, problems: &mut Problems) -> Retention {
        let kept = decode_kept(node, problems);
        let mut labels = Vec::new();
        for child in node.children_named(LABEL.name) {
            let rule = decode_kept(child, problems);
            if child.extra.is_empty() {
                let problem = Problem::new(Code::MissingOption, child.name_span, "`label` names no label");
                problems.push(problem.label("expected a label and its value").help("add one: team=\"docs\""));
            }
            for (name, value) in &child.extra {
                if let Value::Text(text) = &value.value {
                    let (label, value) = (name.value.clone(), text.clone());
                    labels.push(LabelKept { label, value, kept: rule.clone() });
                }
            }
            if labels.len() > LABEL_RULES_MAX {
                let message = format!("`retention` has more than {LABEL_RULES_MAX} labels");
                problems.push(Problem::new(Code::TooMany, child.name_span, message).label("one too many"));
                break;
            }
        }
        Retention { kept, labels }
    }

    /// Reads what a command line says: `measurements=30d,minutes=90d`, and for checks with a label
    /// `team=docs,measurements=7d`.
    pub fn parse(texts: &[String]) -> Result<Retention, String> {
        let mut retention = Retention::default();
        for text in texts {
            let mut kept = Kept::default();
            let mut labels = Vec::new();
            for part in text.split(',') {
                let (name, value) = part
                    .split_once('=')
                    .ok_or_else(|| format!("`{part}` has no `=`, as in measurements=30d"))?;
                let (name, value) = (name.trim(), value.trim());
                match Level::ALL.into_iter().find(|level| level.name() == name) {
                    Some(level) => drop(kept.0.insert(level, parse_kept(name, value)?)),
                    None => labels.push((name.to_owned(), value.to_owned())),
                }
            }
            if kept.0.is_empty() {
                let names = Level::ALL.map(Level::name).join(", ");
                return Err(format!("`{text}` says of nothing how long it is kept: {names}"));
            }
            if let Some((coarser, finer, _)) = shorter(&kept) {
                return Err(format!("`{}` are kept for less time than `{}`", coarser.name(), finer.name()));
            }
            match labels.is_empty() {
                true => retention.kept.0.extend(kept.0),
                false => retention.labels.extend(labels.into_iter().map(|(label, value)| LabelKept {
                    label,
                    value,
                    kept: kept.clone(),
                })),
            }
        }
        Ok(retention)
    }
}

fn parse_kept(name: &str, text: &str) -> Result<Duration, String> {
    if text == FOREVER {
        return Ok(Duration::MAX);
    }
    let kept = parse_duration(text).map_err(|error| format!("`{name}`: {error}"))?;
    match (DAY..=MAX).contains(&kept) {
        true => Ok(kept),
        false => Err(format!("`{name}`: expected {}", KEPT.expected())),
    }
}

/// What must be kept at least as long as what it stands for: each coarser sum, and failures.
fn shorter(kept: &Kept) -> Option<(Level, Level, Duration)> {
    let sums = [Level::Measurements, Level::Minutes, Level::Hours, Level::Days];
    let given: Vec<_> =
        sums.into_iter().filter_map(|level| kept.get(level).map(|time| (level, time))).collect();
    let failures = kept.get(Level::Measurements).zip(kept.get(Level::KeepFailures));
    let pairs = given.windows(2).map(|pair| (pair[0], pair[1]));
    let failures =
        failures.map(|(all, failures)| ((Level::Measurements, all), (Level::KeepFailures, failures)));
    pairs
        .chain(failures)
        .find(|((_, long), (_, short))| short < long)
        .map(|((finer, long), (coarser, _))| (coarser, finer, long))
}

fn decode_kept(node: &Node, problems: &mut Problems) -> Kept {
    let given = Level::ALL.into_iter().filter_map(|level| Some((level, node.duration(level.name())?.value)));
    let kept = Kept(given.collect());
    if let Some((coarser, finer, long)) = shorter(&kept)
        && let (Some(short), Some(longer)) = (node.duration(coarser.name()), node.duration(finer.name()))
    {
        problems.push(
            Problem::new(
                Code::Conflict,
                short.span,
                format!("`{}` are kept for less time than `{}`", coarser.name(), finer.name()),
            )
            .label(format!("expected at least {}", shown(long)))
            .related(longer.span, format!("`{}`", finer.name())),
        );
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sound() {
        assert_eq!(RETENTION.faults(), [""; 0]);
    }

    #[test]
    fn the_command_line_says_the_same() {
        let check = |texts: &[&str], expected: &str| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let shown = match Retention::parse(&texts) {
                Ok(retention) => retention.policy().to_string(),
                Err(message) => message,
            };
            assert_eq!(shown, expected);
        };
        check(
            &["measurements=30d,hours=forever", "team=docs,measurements=7d"],
            r#"{"hours":"forever","labels":[{"label":"team","measurements":"604800 seconds","value":"docs"}],"measurements":"2592000 seconds"}"#,
        );
        check(&["measurements=30d,minutes=7d"], "`minutes` are kept for less time than `measurements`");
        check(
            &["measurements=forever,keep-failures=7d"],
            "`keep-failures` are kept for less time than `measurements`",
        );
        check(&["measurements"], "`measurements` has no `=`, as in measurements=30d");
        check(
            &["team=docs"],
            "`team=docs` says of nothing how long it is kept: measurements, minutes, hours, days, keep-failures",
        );
        check(&["days=1h"], "`days`: expected a duration from 1d to 100y such as \"1d\", or \"forever\"");
    }

    fn retention(texts: &[&str]) -> Retention {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Retention::parse(&texts).expect("a retention")
    }

    #[test]
    fn a_policy_comes_back_as_it_was() {
        let one =
            retention(&["measurements=30d,hours=forever", "team=docs,measurements=7d", "tier=1,days=1y"]);
        assert_eq!(Retention::of_policy(&one.policy()), Some(one));
        for wrong in [json!([]), json!({"hours": "5 years"}), json!({"labels": [{"label": "team"}]})] {
            assert_eq!(Retention::of_policy(&wrong), None, "{wrong}");
        }
    }

    /// Whatever labels a check has, and whichever of them it is asked of.
    #[test]
    fn of_several_policies_none_is_undercut() {
        let all = [
            retention(&[
                "measurements=30d,minutes=60d",
                "team=docs,measurements=7d",
                "tier=1,measurements=300d",
            ]),
            retention(&["measurements=90d,keep-failures=1y,minutes=90d,hours=1y,days=5y"]),
            retention(&["measurements=1d,keep-failures=2d,hours=10d", "team=docs,hours=forever"]),
        ];
        for count in 1..=all.len() {
            let longest = Retention::longest(&all[..count]);
            for bits in 0..8 {
                let labels = [("team", "docs"), ("tier", "1"), ("team2", "x")];
                let labels = labels.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
                let labels: BTreeMap<String, String> =
                    labels.map(|(_, (name, value))| ((*name).to_owned(), (*value).to_owned())).collect();
                let kept = |of: &Retention, level| of.of(level, &labels).unwrap_or(Duration::MAX);
                let failures = |of: &Retention| {
                    of.of(Level::KeepFailures, &labels).unwrap_or_else(|| kept(of, Level::Measurements))
                };
                for one in &all[..count] {
                    for level in [Level::Measurements, Level::Minutes, Level::Hours, Level::Days] {
                        assert!(kept(&longest, level) >= kept(one, level), "{level:?} {labels:?}");
                    }
                    assert!(failures(&longest) >= failures(one), "{labels:?}");
                }
            }
        }
        let days = |of: &Retention, level| of.kept.get(level).map(|kept| kept.as_secs() / 86_400);
        let longest = Retention::longest(&all[..2]);
        assert_eq!(days(&longest, Level::Measurements), Some(90));
        assert_eq!(longest.kept.get(Level::Hours), Some(Duration::MAX), "the first keeps them");
    }

    #[test]
    fn of_several_labels_the_longest_time_counts() {
        let texts = ["measurements=30d", "team=docs,measurements=7d", "tier=1,measurements=9d,hours=1y"];
        let retention = Retention::parse(&texts.map(str::to_owned)).expect("a retention");
        let days = |labels: &[(&str, &str)], level| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            retention.of(level, &labels.collect()).map(|kept| kept.as_secs() / 86_400)
        };
        assert_eq!(days(&[], Level::Measurements), Some(30));
        assert_eq!(days(&[("team", "docs")], Level::Measurements), Some(7));
        assert_eq!(days(&[("team", "docs"), ("tier", "1")], Level::Measurements), Some(9));
        assert_eq!(days(&[("team", "docs"), ("tier", "1")], Level::Hours), Some(365));
        assert_eq!(days(&[("team", "docs")], Level::Hours), None);
    }
}
