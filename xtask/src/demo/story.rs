//! The story of `--faults`: each part is stopped or killed, and what must follow is waited for.

use std::time::{Duration, Instant};

use super::{Demo, Table};
use crate::{failure::Failure, runner::Running, say};

/// What each turn of the story may take until it shows in the rows.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a killed part stays dead: some slots long.
const DEAD: Duration = Duration::from_secs(6);

struct Turn {
    title: &'static str,
    does: &'static [Act],
    then: Expect,
}

enum Act {
    Script(&'static str, &'static [&'static str]),
    Wait(Duration),
}

enum Expect {
    /// The newest row of every check has this outcome.
    All(&'static str),
    /// A row is stored of a slot that came after the turn.
    NewRows,
}

static STORY: &[Turn] = &[
    Turn { title: "nginx is up: every check must be `up`", does: &[], then: Expect::All("up") },
    Turn {
        title: "nginx stopped: every check must go `down`",
        does: &[Act::Script("nginx.sh", &["stop"])],
        then: Expect::All("down"),
    },
    Turn {
        title: "nginx is back: every check must be `up` again",
        does: &[Act::Script("nginx.sh", &["start"])],
        then: Expect::All("up"),
    },
    Turn {
        title: "kill -9 of the broker, and back: rows must go on",
        does: &[
            Act::Script("kafka.sh", &["kill", "1"]),
            Act::Wait(DEAD),
            Act::Script("kafka.sh", &["up", "1"]),
        ],
        then: Expect::NewRows,
    },
    Turn {
        title: "kill -9 of PostgreSQL, and back: rows must go on",
        does: &[
            Act::Script("postgres.sh", &["kill"]),
            Act::Wait(DEAD),
            Act::Script("postgres.sh", &["start"]),
        ],
        then: Expect::NewRows,
    },
    Turn { title: "all is well again", does: &[], then: Expect::All("up") },
];

pub(super) fn play(
    demo: &Demo<'_>,
    pipelines: &mut [&mut Running],
    table: &mut Table<'_>,
) -> Result<(), Failure> {
    for turn in STORY {
        say::step(turn.title);
        for act in turn.does {
            perform(act, demo, pipelines, table)?;
        }
        let wanted = turn.then.sql(demo)?;
        let end = Instant::now() + PATIENCE;
        loop {
            demo.tick(pipelines, table)?;
            if demo.sql(&["-A", "-t"], &wanted).as_deref() == Some("t") {
                break;
            }
            if Instant::now() > end {
                return Err(Failure::Verdict(format!(
                    "not so within {} s: {}",
                    PATIENCE.as_secs(),
                    turn.title
                )));
            }
        }
    }
    Ok(())
}

fn perform(
    act: &Act,
    demo: &Demo<'_>,
    pipelines: &mut [&mut Running],
    table: &mut Table<'_>,
) -> Result<(), Failure> {
    match act {
        Act::Script(script, arguments) => {
            let step = format!("{script} {}", arguments.join(" "));
            say::line(&step);
            demo.runner.run(&step, &mut demo.services.script(script, arguments))
        }
        Act::Wait(time) => {
            let end = Instant::now() + *time;
            while Instant::now() < end {
                demo.tick(pipelines, table)?;
            }
            Ok(())
        }
    }
}

impl Expect {
    fn sql(&self, demo: &Demo<'_>) -> Result<String, Failure> {
        match self {
            Self::All(outcome) => Ok(format!(
                "SELECT count(*) > 0 AND bool_and(outcome = '{outcome}') FROM (SELECT DISTINCT ON (check_id) outcome \
                 FROM monmon_measurement ORDER BY check_id, id DESC) AS newest"
            )),
            Self::NewRows => {
                let now = demo
                    .sql(&["-A", "-t"], "SELECT now()")
                    .ok_or_else(|| Failure::Verdict("PostgreSQL does not answer".to_owned()))?;
                Ok(format!("SELECT coalesce(max(scheduled_at) > '{now}', false) FROM monmon_measurement"))
            }
        }
    }
}
