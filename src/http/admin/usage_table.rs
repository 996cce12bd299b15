//! Sums of usage as a table, for CSV and for the command line; and how CSV is written.

use serde_json::Value;

use crate::storage::usage::{Bucket, GroupBy};

const SUMS: [&str; 12] = [
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "errors",
    "cancelled",
    "estimated",
    "flat_cost",
    "audio_input_tokens",
    "audio_output_tokens",
];

/// Only the columns that were asked for, then the sums.
pub fn table(usage: &[Value], bucket: Bucket, group_by: GroupBy) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut headings = Vec::new();
    if bucket != Bucket::None {
        headings.push("start");
    }
    let GroupBy { key, user, model, resource } = group_by;
    let divisions: [(bool, &[&'static str]); 4] =
        [(key, &["key", "key_name"]), (user, &["user", "user_name"]), (model, &["model"]), (resource, &["resource"])];
    headings.extend(divisions.into_iter().filter(|(asked, _)| *asked).flat_map(|(_, names)| names));
    headings.extend(SUMS);
    let row = |sums: &Value| headings.iter().map(|name| cell(name, &sums[*name])).collect();
    let rows = usage.iter().map(row).collect();
    (headings, rows)
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // To the picodollar, and never as a power of ten: sums of a column are those of the answer in JSON.
        Value::Number(number) if name == "cost_usd" => number.as_f64().unwrap_or_default().to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// RFC 4180, with quotes where they are needed.
pub fn csv(headings: &[&str], rows: &[Vec<String>]) -> String {
    rows.iter().fold(csv_line(headings), |text, row| text + &csv_line(row))
}

/// One line of it.
pub fn csv_line<Cell: AsRef<str>>(cells: impl IntoIterator<Item = Cell>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| quoted(cell.as_ref())).collect();
    cells.join(",") + "\r\n"
}

/// A name that a spreadsheet would take for a formula is a text to it.
fn quoted(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '@', '\t']) || cell.starts_with('-') && cell.parse::<f64>().is_err();
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_where_needed() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(quoted("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!((quoted("-1.5"), quoted("-cmd")), ("-1.5".into(), "'-cmd".into()));
    }

    #[test]
    fn the_columns_are_those_asked_for() {
        let group_by = GroupBy { user: true, ..GroupBy::default() };
        let sums = json!({ "start": "T", "user": "user_1", "user_name": "A,B", "requests": 3, "cost_usd": 2.5e-8 });
        let (headings, rows) = table(&[sums], Bucket::Day, group_by);
        assert_eq!(headings[..4], ["start", "user", "user_name", "requests"]);
        let text = csv(&headings, &rows);
        assert!(text.ends_with("\r\nT,user_1,\"A,B\",3,,,,,0.000000025,,,,,,\r\n"), "{text}");
    }
}
