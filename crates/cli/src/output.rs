//! Where a command writes: answers to one side, notes for the person in front of it to the other.

use std::fmt::Display;
use std::io::Write;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::failure::Failure;

/// The two sides, and whether answers are JSON.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    json: bool,
}

impl<'a> Output<'a> {
    /// Answers go to `out`, notes and progress to `notes`.
    pub fn new(out: &'a mut dyn Write, notes: &'a mut dyn Write, json: bool) -> Self {
        Self { out, notes, json }
    }

    /// True if answers are for programs.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// The side of the answers, for what writes by itself.
    pub fn answers(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Writes the answer as JSON, or as `print` writes it for people.
    pub fn answer<T: Serialize>(
        &mut self,
        answer: &T,
        print: impl FnOnce(&T, &mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.json { self.object(answer) } else { print(answer, self) }
    }

    /// Writes one line of JSON. It is flushed, so that whoever reads a pipe has it at once.
    pub fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(|error| Failure::Output(error.into()))?;
        self.line(line)
    }

    /// Writes one line and flushes it.
    pub fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").and_then(|()| self.out.flush()).map_err(Failure::Output)
    }

    /// Writes a table with a head, or `nothing` if there are no rows.
    pub fn table<const N: usize>(
        &mut self,
        head: [&str; N],
        rows: Vec<[String; N]>,
        nothing: &str,
    ) -> Result<(), Failure> {
        if rows.is_empty() {
            return self.line(nothing);
        }
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(head);
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.line(table.trim_fmt())
    }

    /// Tells the person something that is not part of the answer.
    pub fn note(&mut self, note: impl Display) {
        // Nobody misses a note when nobody reads them.
        let _ = writeln!(self.notes, "{note}");
    }
}

/// Nothing as a dash, so that an empty cell is not taken for a mistake of the program.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A share for people. Rounded down: 100 % means all.
pub(crate) fn percent(share: f64) -> String {
    // A whole percent may come out a hair too small.
    format!("{:.0} %", (share * 100.0 + 1e-9).floor())
}

/// An empty text of protobuf as JSON's null.
pub(crate) fn or_null(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
