//! CSV: a line of names, then a line a measurement (RFC 4180, in UTF-8).

use monmon_model::Measurement;

use super::columns::{COLUMNS, Cell};
use super::{Output, Writer, unwritten};

pub(super) struct Csv {
    writer: csv::Writer<Output>,
}

impl Csv {
    pub(super) fn new(output: Output) -> Result<Csv, String> {
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(COLUMNS.iter().map(|column| column.name)).map_err(unwritten)?;
        Ok(Csv { writer })
    }
}

impl Writer for Csv {
    fn write(&mut self, measurements: &[Measurement]) -> Result<(), String> {
        for measurement in measurements {
            let cells = COLUMNS.iter().map(|column| cell((column.pick)(measurement)));
            self.writer.write_record(cells).map_err(unwritten)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        self.writer.flush().map_err(unwritten)
    }
}

fn cell(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Id(id) => id.to_string(),
        Cell::Instant(at) => format!("{at:.6}"),
        Cell::Long(number) => number.to_string(),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Text(text) => harmless(text),
    }
}

/// A spreadsheet takes a text for a formula that begins with one of these; with an apostrophe before it, it does not
/// (OWASP, "CSV Injection"). What a site says may be anything.
fn harmless(text: String) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula() {
        for (text, written) in [("=1+1", "'=1+1"), ("@x", "'@x"), ("GET", "GET"), ("", "")] {
            assert_eq!(cell(Cell::Text(text.to_owned())), written);
        }
        // A number is one.
        assert_eq!(cell(Cell::Long(-1)), "-1");
    }
}
