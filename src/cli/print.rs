//! How commands print: data to stdout, everything else to stderr; columns for people, tabs for pipes.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// The command did what it was asked, and said no.
pub const FAILED: u8 = 1;
/// The command line or the settings are wrong.
pub const USAGE: u8 = 2;

/// Writes to stdout. A reader that went away (`| head`) is no error.
pub fn out(text: &str) {
    let _ = try_out(text);
}

/// For who goes on writing: an error means that nobody reads any more.
pub fn try_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A remark for the person, never part of the data.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An error for the person, and the exit code that goes with it.
pub fn failed(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    note(&format!("error: {error}"));
    ExitCode::from(code)
}

/// Pretty JSON with a final newline.
pub fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(&format!("{text}\n")),
        Err(error) => note(&format!("error: cannot write JSON: {error}")),
    }
}

/// Rows under headings: aligned on a terminal, separated by tabs otherwise.
pub fn table(headings: &[&str], rows: &[Vec<String>]) {
    out(&table_text(headings, rows));
}

pub fn table_text(headings: &[&str], rows: &[Vec<String>]) -> String {
    if on_terminal() { aligned(headings, rows) } else { tabbed(headings, rows) }
}

/// Whether a person watches.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

fn tabbed(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("{}\n", headings.join("\t"));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| printable(cell)).collect();
        text.push_str(&cells.join("\t"));
        text.push('\n');
    }
    text
}

fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(headings.iter().map(ToString::to_string).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| printable(to_the_second(cell).as_ref())).collect()))
        .collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A time as people read it; whatever is none stays as it is.
pub fn to_the_second(cell: &str) -> Cow<'_, str> {
    let is_time = |seconds: &str, fraction: &str| {
        fraction.ends_with('Z') && format!("{seconds}Z").parse::<jiff::Timestamp>().is_ok()
    };
    match cell.split_once('.') {
        Some((seconds, fraction)) if is_time(seconds, fraction) => format!("{seconds}Z").into(),
        Some(_) | None => cell.into(),
    }
}

/// A JSON value as a cell; nothing is a dash.
pub fn cell(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// A name may hold anything; a terminal must not obey it.
pub fn printable(cell: &str) -> String {
    cell.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_disarmed() {
        let rows = vec![vec!["a".to_owned(), "long\u{1b}[31m".to_owned()], vec!["bcd".to_owned(), "x".to_owned()]];
        assert_eq!(aligned(&["id", "name"], &rows), "id   name\na    long\u{fffd}[31m\nbcd  x\n");
        assert_eq!(tabbed(&["id", "name"], &rows), "id\tname\na\tlong\u{fffd}[31m\nbcd\tx\n");
    }

    #[test]
    fn people_see_times_to_the_second_and_pipes_the_whole_of_them() {
        let rows = vec![vec!["2026-11-22T07:09:04.925293Z".to_owned(), "1.5Z".to_owned()]];
        assert_eq!(aligned(&["at", "x"], &rows), "at                    x\n2026-11-22T07:09:04Z  1.5Z\n");
        assert_eq!(tabbed(&["at", "x"], &rows), "at\tx\n2026-11-22T07:09:04.925293Z\t1.5Z\n");
    }
}
