//! A line of slots and what is told of it.

use std::fmt::Write;

use monmon_model::Measurement;

use super::{made, run, slot_of};
use crate::policy::{Dependency, Flapping, Policy, Selection};
use crate::window::Mark;

/// Lines such as `shop@berlin: uudd` (a letter a slot from 0 on, `.` for none, `d3` for attempt 3), in the order of their
/// slots, then of the lines. What is told is one line each: what, of what, in which slot.
fn told(policy: &Policy, lines: &str) -> String {
    let mut measurements: Vec<Measurement> = Vec::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (who, letters) = line.split_once(": ").expect("a colon");
        let (check, prober) = who.split_once('@').unwrap_or((who, "berlin"));
        let mut slot = -1;
        for letter in letters.trim().chars() {
            match letter {
                '.' => slot += 1,
                // A further attempt of the same slot.
                '0'..='9' => {
                    let before = measurements.pop().expect("an attempt follows a letter");
                    let attempt = letter.to_digit(10).expect("a digit");
                    let word = if before.outcome == monmon_model::Outcome::Down { 'd' } else { 'u' };
                    measurements.push(made(check, prober, slot, attempt, word));
                }
                '-' => slot -= 1,
                letter => {
                    slot += 1;
                    measurements.push(made(check, prober, slot, 1, letter));
                }
            }
        }
    }
    measurements.sort_by_key(|one| one.scheduled_at);
    in_order(policy, measurements)
}

fn in_order(policy: &Policy, measurements: Vec<Measurement>) -> String {
    let mut text = String::new();
    for incident in run(policy, measurements) {
        let slot = slot_of(incident.closed_at.unwrap_or(incident.opened_at));
        write!(text, "{} {} {}", slot, incident.check.name, incident.state().as_str())
            .expect("a String takes all");
        write!(text, " began {} revision {}", slot_of(incident.began_at), incident.revision)
            .expect("a String takes all");
        if let Some(recovered) = incident.recovered_at {
            write!(text, " recovered {}", slot_of(recovered)).expect("a String takes all");
        }
        if incident.suppressed_by.is_some() {
            text.push_str(" suppressed");
        }
        writeln!(text, " by {}: {}", incident.probers.join("+"), incident.reason)
            .expect("a String takes all");
    }
    text
}

fn policy(down_after: usize, down_of: usize, up_after: usize) -> Policy {
    Policy { down_after, down_of, up_after, ..Policy::default() }
}

/// Each line of slots with what is told of it.
#[derive(Default)]
struct Page(String);

impl Page {
    fn check(&mut self, policy: &Policy, lines: &str) {
        let told = told(policy, lines);
        writeln!(self.0, "{lines}\n{}", indented(&told)).expect("a String takes all");
    }
}

fn indented(told: &str) -> String {
    if told.is_empty() {
        "    nothing\n".to_owned()
    } else {
        told.lines().map(|line| format!("    {line}\n")).collect()
    }
}

#[test]
fn down_after_some_of_the_last_and_up_after_some_in_a_row() {
    let mut page = Page::default();
    page.check(&policy(2, 3, 2), "shop: uduuduuuu");
    page.check(&policy(2, 3, 2), "shop: ududuudduu");
    page.check(&policy(3, 3, 1), "shop: uddudddu");
    page.check(&policy(1, 1, 1), "shop: udud");
    insta::assert_snapshot!(page.0);
}

#[test]
fn unknown_and_maintenance_neither_open_nor_close() {
    let mut page = Page::default();
    page.check(&policy(2, 2, 2), "shop: udkkdkukuu");
    page.check(&policy(2, 2, 2), "shop: uDDDDDuuDD");
    // Older than all that counts: a prober that was away for long begins anew.
    page.check(&policy(2, 2, 2), "shop: ud...................du");
    insta::assert_snapshot!(page.0);
}

#[test]
fn degraded_is_what_the_file_says() {
    let mut page = Page::default();
    let bad = Policy { degraded: Mark::Bad, ..policy(2, 2, 2) };
    let nothing = Policy { degraded: Mark::Nothing, ..policy(2, 2, 2) };
    page.check(&policy(2, 2, 2), "shop: uddggdd");
    page.check(&bad, "shop: ugguu");
    page.check(&nothing, "shop: udgdgugu");
    insta::assert_snapshot!(page.0);
}

#[test]
fn the_last_attempt_decides_a_slot() {
    let mut page = Page::default();
    let attempts = Policy { attempts: 3, ..policy(1, 1, 1) };
    // Down, and up at the second try; then down three times; then down once and never tried again.
    page.check(&attempts, "shop: ud-u2d-d2-d3ud.u");
    page.check(&policy(2, 2, 1), "shop: ud-u2d-u2d");
    insta::assert_snapshot!(page.0);
}

#[test]
fn a_quorum_of_probers() {
    let mut page = Page::default();
    let two = Policy { quorum: 2, probers: 3, ..policy(2, 2, 2) };
    page.check(&two, "shop@berlin: uddddduuu\nshop@oslo:   uuuuuuuuu\nshop@rome:   uuuuuuuuu");
    page.check(&two, "shop@berlin: uddddduuu\nshop@oslo:   uudddddddd\nshop@rome:   uuuuuuuuuu");
    // A prober that dies takes nothing back; one that says nothing for long has no say.
    let quick = Policy { silent_us: 40_000_000, ..policy(2, 2, 2) };
    page.check(&quick, "shop@berlin: uudd\nshop@oslo:   uuuuuuuuuuuu");
    // More probers than have a say.
    let one = Policy { probers: 1, ..policy(2, 2, 2) };
    page.check(&one, "shop@berlin: uuuuuu\nshop@oslo:   dddddd");
    insta::assert_snapshot!(page.0);
}

#[test]
fn a_check_that_comes_and_goes_stays_in_its_incident() {
    let mut page = Page::default();
    let flapping = Flapping { changes: 4, within_us: 200_000_000 };
    let damped = Policy { flapping: Some(flapping), ..policy(1, 1, 1) };
    page.check(&damped, "shop: udududududuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu");
    insta::assert_snapshot!(page.0);
}

#[test]
fn who_depends_on_one_that_is_down_is_quiet() {
    let mut page = Page::default();
    let depends = Dependency { pattern: "shop*".to_owned(), on: "gateway".to_owned() };
    let policy = Policy { dependencies: vec![depends], ..policy(2, 2, 2) };
    page.check(&policy, "gateway: uddduuuuu\nshop:    uddduuuuu");
    // Found bad before the gateway was found down; and still down when the gateway is back.
    page.check(&policy, "shop:    uddddddddduu\ngateway: udddduuuuuuu");
    page.check(&policy, "shop:    uddduu\ngateway: uuuuuu");
    insta::assert_snapshot!(page.0);
}

#[test]
fn only_those_that_are_selected_are_watched() {
    let mut page = Page::default();
    let select = |pattern: &str| Selection { pattern: pattern.to_owned(), labels: Vec::new() };
    let some = Policy { selections: vec![select("test/source/a*"), select("b")], ..policy(1, 1, 1) };
    page.check(&some, "ab: d\nb: d\nbc: d");
    let labels = vec![("team".to_owned(), "web".to_owned())];
    let labelled = Policy { selections: vec![Selection { labels, ..select("*") }], ..policy(1, 1, 1) };
    page.check(&labelled, "ab: d");
    insta::assert_snapshot!(page.0);
}

#[test]
fn what_comes_late_is_put_into_its_place_and_what_comes_twice_counts_once() {
    let mut page = String::new();
    let policy = policy(3, 3, 2);
    let at = |slot: i64, letter: char| made("shop", "berlin", slot, 1, letter);
    // The good slot between is late.
    let late = [at(0, 'u'), at(1, 'd'), at(3, 'd'), at(2, 'u'), at(4, 'd'), at(5, 'd')].to_vec();
    page.push_str(&indented(&in_order(&policy, late)));
    let twice = [at(0, 'u'), at(1, 'd'), at(1, 'd'), at(1, 'd'), at(0, 'u'), at(2, 'd'), at(2, 'd')].to_vec();
    page.push_str(&indented(&in_order(&policy, twice)));
    // Older than all that is remembered: three bad slots of long ago open nothing.
    let mut old: Vec<Measurement> = (20..40).map(|slot| at(slot, 'u')).collect();
    old.extend((0..3).map(|slot| at(slot, 'd')));
    page.push_str(&indented(&in_order(&policy, old)));
    insta::assert_snapshot!(page);
}
