//! What goes to stdout: tables for people, one JSON object per line for programs.
//!
//! A reader that has gone away (`| head`) is the end of the work, not a failure.
//!
//! Absent on purpose: pretty JSON, and lines around tables: a table can be cut by columns.

use super::fault::{Fault, escaped};
use crate::exit::Exit;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::io::{ErrorKind, IsTerminal, Write};

/// Shape of what goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Output {
    /// One object per line.
    Json,
    /// For people.
    #[value(alias = "text")]
    Table,
}

impl Output {
    /// What was asked for; else a table on a terminal, and JSON in a pipe.
    pub(super) fn chosen(asked: Option<Self>) -> Self {
        asked.unwrap_or_else(|| match std::io::stdout().is_terminal() {
            true => Self::Table,
            false => Self::Json,
        })
    }
}

/// Writes to stdout.
pub(super) fn print(text: &str) -> Result<(), Fault> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::plain(Exit::Failed, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Rows that are printed as a table, or as the objects that they stand for.
pub(super) struct Rows {
    output: Output,
    /// Column names; one that begins with `>` holds numbers and goes to the right.
    columns: &'static [&'static str],
    cells: Vec<Vec<String>>,
    json: String,
}

impl Rows {
    /// No rows yet.
    pub(super) const fn new(output: Output, columns: &'static [&'static str]) -> Self {
        Self { output, columns, cells: Vec::new(), json: String::new() }
    }

    /// Adds a row. Only one of the two is used, so both are made on demand.
    pub(super) fn add(
        &mut self,
        object: impl FnOnce() -> serde_json::Value,
        cells: impl FnOnce() -> Vec<String>,
    ) {
        match self.output {
            Output::Json => self.json += &format!("{}\n", object()),
            Output::Table => self.cells.push(cells().iter().map(|cell| escaped(cell)).collect()),
        }
    }

    /// What goes to stdout. A table without rows is empty, without a heading.
    pub(super) fn text(self) -> String {
        if self.output == Output::Json {
            return self.json;
        }
        if self.cells.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        let name = |column: &&'static str| column.trim_start_matches('>');
        table.set_header(self.columns.iter().map(name).collect::<Vec<_>>());
        table.add_rows(self.cells);
        for (place, title) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(place) {
                column.set_padding((0, 2));
                if title.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }

    /// Prints them.
    pub(super) fn print(self) -> Result<(), Fault> {
        print(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(output: Output) -> String {
        let mut rows = Rows::new(output, &["GROUP", ">LAG", "STATE"]);
        for (group, lag) in [("billing", 7), ("b\u{1b}", 12345)] {
            let object = || json!({ "group": group, "lag": lag });
            rows.add(object, || vec![group.to_owned(), lag.to_string(), "stable".to_owned()]);
        }
        rows.text()
    }

    #[test]
    fn a_table_has_a_heading_and_numbers_to_the_right() {
        let found = rows(Output::Table);
        assert_eq!(found.lines().count(), 3, "{found}");
        let expected_lines: Vec<&str> =
            vec!["GROUP      LAG  STATE", "billing      7  stable", "b\\u{1b}  12345  stable"];
        assert_eq!(found.lines().collect::<Vec<_>>(), expected_lines);
    }

    #[test]
    fn json_is_one_object_per_line() {
        let expected =
            "{\"group\":\"billing\",\"lag\":7}\n{\"group\":\"b\\u001b\",\"lag\":12345}\n";
        assert_eq!(rows(Output::Json), expected);
    }

    #[test]
    fn a_table_without_rows_is_empty() {
        assert_eq!(Rows::new(Output::Table, &["GROUP"]).text(), "");
    }
}
