//! What the benchmarks printed, as one table: each figure with its unit and the mark that it is held against.

use crate::say;

pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) mark: Mark,
}

/// What a figure is to be like. A mark that is missed is told and is no failure: figures differ from hour to hour.
pub(crate) enum Mark {
    AtMost(f64),
    AtLeast(f64),
    /// Measured of something else or on another day: to be seen beside it.
    Beside(&'static str),
}

impl Figure {
    fn row(&self) -> [String; 4] {
        let number = |value: f64| match value.abs() {
            large if large >= 1_000.0 => thousands(value),
            middle if middle >= 100.0 => format!("{value:.0}"),
            _ => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        };
        let verdict = |met: bool| if met { "met" } else { "MISSED" };
        let mark = match self.mark {
            Mark::AtMost(most) => format!("at most {}: {}", number(most), verdict(self.value <= most)),
            Mark::AtLeast(least) => format!("at least {}: {}", number(least), verdict(self.value >= least)),
            Mark::Beside(text) => text.to_owned(),
        };
        [self.what.clone(), number(self.value), self.unit.to_owned(), mark]
    }
}

pub(crate) fn show(figures: &[Figure]) {
    let head = ["figure", "value", "unit", "mark"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(figures.iter().map(Figure::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    say::line("");
    for [what, value, unit, mark] in &rows {
        let [a, b, c] = widths;
        say::line(format_args!("{what:<a$}  {value:>b$}  {unit:<c$}  {mark}"));
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The numbers of a row of a Markdown table, in the last column but `from_last`; of `1 / 2 / 3` all three.
pub(crate) fn cell(output: &str, row: &str, from_last: usize) -> Vec<f64> {
    let mut cells = output.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let found = cells.find(|cells| cells.get(1) == Some(&row));
    let cell = found.and_then(|cells| cells.iter().rev().nth(from_last + 1).copied()).unwrap_or_default();
    cell.split('/').filter_map(|part| part.trim().parse().ok()).collect()
}

/// The numbers that stand between these two texts, one for each line that has them.
pub(crate) fn between(output: &str, before: &str, after: &str) -> Vec<f64> {
    let one = |line: &str| {
        let (_, rest) = line.split_once(before)?;
        rest.split_once(after)?.0.trim().parse().ok()
    };
    output.lines().filter_map(one).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_is_printed() {
        let table = "|           | bare loop, paced | monmon, to /dev/null |\n|---|---|---|\n\
                     | checks/s  |             1000 |                  999 |\n\
                     | RSS, MB   |        5.1 / 5.2 |            9.1 / 9.2 |\n";
        assert_eq!(cell(table, "checks/s", 0), [999.0]);
        assert_eq!(cell(table, "RSS, MB", 0), [9.1, 9.2]);
        assert_eq!(cell(table, "RSS, MB", 1), [5.1, 5.2]);
        assert_eq!(cell(table, "not there", 0), []);
        let lines = "sink: 500000 measurements in 2.10s: 238095/s, 3.90 us of CPU each\nsource: 5 in 1s: 9/s, 1 us of";
        assert_eq!(between(lines, "s: ", "/s,"), [238_095.0, 9.0]);
        assert_eq!(between(lines, "/s, ", " us of"), [3.9, 1.0]);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_row_says_whether_the_mark_is_met() {
        let figure = |value, mark| Figure { what: "x".to_owned(), value, unit: "us", mark };
        assert_eq!(figure(1.5, Mark::AtMost(1.6)).row()[3], "at most 1.6: met");
        assert_eq!(figure(0.4, Mark::AtLeast(0.5)).row()[3], "at least 0.5: MISSED");
        assert_eq!(figure(1_234_567.0, Mark::Beside("y")).row()[1], "1,234,567");
    }
}
