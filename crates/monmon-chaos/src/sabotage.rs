//! Builds with a mistake made on purpose, each of which a row must catch: proof that the harness sees what it is there to
//! see. (`monmon_stage::is_sabotaged` names the places.)

use std::time::Duration;

use anyhow::{Result, bail};
use comfy_table::Table;

use crate::{
    dice::Dice,
    plays::{Own, consumer, postgres, producer, spool},
    road::{Road, Shape},
    say,
    services::set_patience,
    theatre::Theatre,
};

struct Mistake {
    name: &'static str,
    what: &'static str,
    catches: Own,
    /// What the account then says: any one of these.
    says: &'static [&'static str],
}

static MISTAKES: &[Mistake] = &[
    Mistake {
        name: "commit-before-store",
        what: "offsets are committed when messages are read",
        catches: killed_before_store,
        says: &["are committed and not stored", "ids are lost"],
    },
    Mistake {
        name: "reset-latest",
        what: "a new group begins at the topic's end",
        catches: begun_late,
        says: &["ids are lost", "are committed and not stored"],
    },
    Mistake {
        name: "no-on-conflict",
        what: "rows are inserted without ON CONFLICT",
        catches: killed_often,
        says: &["dead letters where 0 are due", "ended by itself"],
    },
    Mistake {
        name: "ack-on-drop",
        what: "an ack that is dropped counts as delivered",
        catches: postgres::needs_people,
        says: &["ids are lost", "are committed and not stored"],
    },
    Mistake {
        name: "drop-on-term",
        what: "what is not yet sent at SIGTERM is dropped",
        catches: ended_in_order,
        says: &["are not in the topic", "numbers with gaps", "holes between slots"],
    },
    Mistake {
        name: "give-up",
        what: "what the client gives up is taken for delivered",
        catches: producer::messages_time_out,
        says: &["are not in the topic", "numbers with gaps", "holes between slots"],
    },
    Mistake {
        name: "spool-forget",
        what: "rows leave the spool when the sink was given them",
        catches: spool::killed,
        says: &["are not in the topic"],
    },
    Mistake {
        name: "spool-order",
        what: "the newest of what was read from the spool goes first",
        catches: spool::killed,
        says: &["are out of their order"],
    },
];

/// A loss is certain sooner than a slow machine is late: these roads carry nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether each of the mistakes was caught.
pub(crate) fn show(theatre: &Theatre, name: &str, seed: u64) -> Result<bool> {
    let chosen: Vec<&Mistake> =
        MISTAKES.iter().filter(|mistake| name == "all" || mistake.name == name).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = MISTAKES.iter().map(|mistake| mistake.name).collect();
        bail!("no mistake is called `{name}`: there are {}", names.join(", "));
    }
    set_patience(PATIENCE);
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["mistake", "what it does", "caught by"]);
    let mut all_caught = true;
    for mistake in chosen {
        say(format_args!("{:7.1} s  {}", theatre.elapsed().as_secs_f64(), mistake.name));
        theatre.sabotage(Some(mistake.name));
        let told = (mistake.catches)(theatre, &mut Dice::new(seed)).err().map(|error| format!("{error:#}"));
        theatre.sabotage(None);
        theatre.heal()?;
        let verdict = match told {
            Some(told) if mistake.says.iter().any(|says| told.contains(says)) => told,
            Some(told) => {
                all_caught = false;
                format!("NOT CAUGHT: it failed otherwise: {told}")
            }
            None => {
                all_caught = false;
                "NOT CAUGHT: all seemed well".to_owned()
            }
        };
        let short: String = verdict.chars().take(200).collect();
        say(format_args!("{:7.1} s  {short}", theatre.elapsed().as_secs_f64()));
        table.add_row([mistake.name, mistake.what, &short]);
    }
    say(table);
    Ok(all_caught)
}

/// Row 25.
fn killed_before_store(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "sabotaged", ..Shape::default() })?;
    for _ in 0..3 {
        consumer::killed_before_store(&mut road, dice)?;
        road.flows(60)?;
        road.reckon()?;
    }
    road.settle()
}

fn begun_late(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    Road::begin(theatre, Shape { name: "sabotaged", ..Shape::default() })?.settle()
}

fn killed_often(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "sabotaged", ..Shape::default() })?;
    for _ in 0..5 {
        consumer::killed(&mut road, dice)?;
        road.flows(60)?;
    }
    road.settle()
}

/// Row 4 with an account to the last request.
pub(crate) fn ended_in_order(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "ended", ..Shape::default() })?;
    for _ in 0..4 {
        producer::terminated(&mut road, dice)?;
        road.flows(60)?;
    }
    road.settle()
}
