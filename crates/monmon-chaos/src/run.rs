//! A run: each row once, then rows at random until the time is over; and the table of what came of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use comfy_table::Table;

use crate::{
    catalogue::{Play, ROWS},
    dice::Dice,
    plays::Live,
    road::{Road, Shape},
    say,
    services::is_interrupted,
    theatre::Theatre,
};

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) rows: Vec<u8>,
    pub(crate) quick: bool,
    /// Leaves out the rows that have a road of their own, or those that share one.
    pub(crate) shared: bool,
    pub(crate) own: bool,
    pub(crate) time: Option<Duration>,
}

/// What became of a row.
#[derive(Default)]
struct Tally {
    injections: u64,
    verdict: Option<Result<(), String>>,
}

/// After so many faults at random the road is reckoned.
const RECKON_EVERY: usize = 8;
/// Faults that follow one another before all must be seen to have healed, at most.
const VOLLEY_MAX: u64 = 3;
/// Rows that must arrive after a fault, or some.
const FLOW: u64 = 60;

pub(crate) fn list() {
    say("| row | fault | means | what must hold | played |\n| --- | --- | --- | --- | --- |");
    ROWS.iter().for_each(|row| say(row.as_line()));
}

pub(crate) fn play(theatre: &Theatre, plan: &Plan) -> Result<bool> {
    let mut dice = Dice::new(plan.seed);
    let chosen: Vec<usize> = (0..ROWS.len())
        .filter(|at| {
            let row = &ROWS[*at];
            let is_wanted = plan.rows.is_empty() || plan.rows.contains(&row.number);
            let is_left_out = match row.play {
                Play::Own(_) => plan.shared,
                Play::Live(_) => plan.own,
                Play::Elsewhere(_) | Play::Absent(_) => false,
            };
            is_wanted && (row.is_quick || !plan.quick) && !is_left_out
        })
        .collect();
    let mut tallies: Vec<Tally> = ROWS.iter().map(|_| Tally::default()).collect();
    let mut shared = chosen.clone();
    shared.retain(|at| matches!(ROWS[*at].play, Play::Live(_)));
    let mut own = chosen.clone();
    own.retain(|at| matches!(ROWS[*at].play, Play::Own(_)));
    dice.shuffle(&mut shared);
    dice.shuffle(&mut own);
    for at in own {
        let Play::Own(act) = ROWS[at].play else { continue };
        let before = begin(theatre, at)?;
        let played = act(theatre, &mut dice);
        theatre.heal()?;
        end(theatre, at, before, played, &mut tallies[at]);
    }
    let mut whole = Tally::default();
    if !shared.is_empty() {
        whole = on_the_shared_road(theatre, plan, &shared, &mut dice, &mut tallies);
    }
    Ok(report(theatre, plan, &chosen, &tallies, &whole))
}

fn begin(theatre: &Theatre, at: usize) -> Result<u64> {
    ensure!(!is_interrupted(), "interrupted");
    let row = &ROWS[at];
    say(format_args!(
        "{:7.1} s  row {:>2}  {} ({})",
        theatre.elapsed().as_secs_f64(),
        row.number,
        row.name,
        row.means
    ));
    Ok(theatre.injections())
}

fn end(theatre: &Theatre, at: usize, before: u64, played: Result<()>, tally: &mut Tally) {
    tally.injections += theatre.injections() - before;
    let told = played.map_err(|error| format!("{error:#}"));
    if let Err(error) = &told {
        say(format_args!(
            "{:7.1} s  row {:>2}  FAILED: {error}",
            theatre.elapsed().as_secs_f64(),
            ROWS[at].number
        ));
    }
    // A failure stays one.
    if !matches!(tally.verdict, Some(Err(_))) {
        tally.verdict = Some(told);
    }
}

/// Each live row once, with a reckoning after it; then at random while time is left; then all is settled.
fn on_the_shared_road(
    theatre: &Theatre,
    plan: &Plan,
    shared: &[usize],
    dice: &mut Dice,
    tallies: &mut [Tally],
) -> Tally {
    let mut whole = Tally::default();
    let before = theatre.injections();
    let mut play = || -> Result<()> {
        let mut road = shared_road(theatre)?;
        for at in shared {
            let before = begin(theatre, *at)?;
            let played = once(&mut road, ROWS[*at].play.live(), dice).and_then(|()| road.reckon());
            let has_failed = played.is_err();
            end(theatre, *at, before, played, &mut tallies[*at]);
            if has_failed {
                // What went wrong would be blamed on the next row too.
                road = fresh_after_failure(theatre)?;
            }
        }
        let mut played = 0;
        while plan.time.is_some_and(|time| theatre.elapsed() < time) {
            // The next fault may strike while the last one heals; then all must come to flow again.
            for left in (0..dice.between(1, VOLLEY_MAX)).rev() {
                let at = dice.pick(shared);
                let before = begin(theatre, at)?;
                let mut done = strike(&mut road, ROWS[at].play.live(), dice);
                played += 1;
                if done.is_ok() && left == 0 {
                    done = road.flows(FLOW);
                }
                if done.is_ok() && played % RECKON_EVERY == 0 {
                    let begun = Instant::now();
                    done = road.reckon();
                    let (ids, took) = (road.journal.seen.len(), begun.elapsed().as_secs_f64());
                    say(format_args!("           reckoned {ids} ids in {took:.1} s"));
                }
                let has_failed = done.is_err();
                end(theatre, at, before, done, &mut tallies[at]);
                if has_failed {
                    road = fresh_after_failure(theatre)?;
                    break;
                }
            }
        }
        road.settle().context("settling the shared road")?;
        let held = road.held_most;
        say(format_args!(
            "the shared road: {} ids, each stored once; most held by a process: {} MiB, {} descriptors, {} threads",
            road.journal.seen.len(),
            held.rss_mib,
            held.descriptors,
            held.threads
        ));
        Ok(())
    };
    whole.verdict = Some(play().map_err(|error| format!("{error:#}")));
    whole.injections = theatre.injections() - before;
    whole
}

fn fresh_after_failure(theatre: &Theatre) -> Result<Road<'_>> {
    theatre.heal()?;
    theatre.services.postgres(&["resume"]).ok();
    theatre.services.postgres(&["start"])?;
    theatre.services.kafka(&["start"])?;
    shared_road(theatre)
}

fn shared_road(theatre: &Theatre) -> Result<Road<'_>> {
    let shape = Shape {
        name: "shared",
        checks: 80,
        interval: "500ms",
        producers: 2,
        consumers: 2,
        ..Shape::default()
    };
    Road::begin(theatre, shape)
}

/// A fault, and rows that flow after it.
fn once(road: &mut Road<'_>, act: Live, dice: &mut Dice) -> Result<()> {
    strike(road, act, dice)?;
    road.flows(FLOW)
}

fn strike(road: &mut Road<'_>, act: Live, dice: &mut Dice) -> Result<()> {
    std::thread::sleep(dice.millis(0, 400));
    act(road, dice)
}

impl Play {
    fn live(&self) -> Live {
        match self {
            Play::Live(act) => *act,
            _ => |_, _| anyhow::bail!("the row is not played on a shared road"),
        }
    }
}

fn report(theatre: &Theatre, plan: &Plan, chosen: &[usize], tallies: &[Tally], whole: &Tally) -> bool {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["row", "fault", "means", "injections", "verdict"]);
    let (mut failed, mut skipped) = (0, 0);
    let mut rows_held = std::collections::BTreeSet::new();
    for at in chosen {
        let (row, tally) = (&ROWS[*at], &tallies[*at]);
        let verdict = match (&row.play, &tally.verdict) {
            (Play::Elsewhere(name), _) => (*name).to_owned(),
            (Play::Absent(why), _) => format!("not run: {why}"),
            (_, Some(Ok(()))) => {
                rows_held.insert(row.number);
                "held".to_owned()
            }
            (_, Some(Err(error))) if error.starts_with("SKIP: ") => {
                skipped += 1;
                error.clone()
            }
            (_, Some(Err(error))) => {
                failed += 1;
                format!("FAILED: {}", error.chars().take(160).collect::<String>())
            }
            (_, None) => {
                failed += 1;
                "FAILED: never played".to_owned()
            }
        };
        table.add_row([
            &row.number.to_string(),
            row.name,
            row.means,
            &tally.injections.to_string(),
            &verdict,
        ]);
    }
    say(table);
    if let Some(Err(error)) = &whole.verdict {
        failed += 1;
        say(format_args!("FAILED on the shared road: {error}"));
    }
    say(format_args!(
        "seed {}: {} injections of {} kinds ({} rows of the matrix) in {:.0} s; {failed} failed, {skipped} skipped",
        plan.seed,
        theatre.injections(),
        chosen.len(),
        rows_held.len(),
        theatre.elapsed().as_secs_f64()
    ));
    failed == 0
}
