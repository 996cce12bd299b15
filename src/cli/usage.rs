//! `aoai-gateway usage`: who used how much, from the hourly roll-ups.

use std::process::ExitCode;
use std::time::Duration;

use super::print;
use crate::domain::time::{WallTime, wall_now};
use crate::settings::model::Settings;
use crate::storage::Store;
use crate::storage::usage::{Bucket, GroupBy, UsageFilter, UsageView};

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// What to divide the sums by, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "key,model")]
    pub by: Vec<By>,
    /// Since when: a span as in `30d`, or a date as in `2026-08-01` (UTC); the current month if left out
    #[arg(long, value_name = "SPAN|DATE", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    Key,
    User,
    Model,
    Resource,
    Hour,
    Day,
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    At(WallTime),
}

pub fn run(args: &Args, settings: &Settings) -> ExitCode {
    let now = wall_now();
    let filter = UsageFilter {
        from: args.since.map_or_else(|| start_of_month(now), |since| since.before(now)),
        to: WallTime(now.0.saturating_add(1)),
        bucket: bucket(&args.by),
        group_by: GroupBy {
            key: args.by.contains(&By::Key),
            user: args.by.contains(&By::User),
            model: args.by.contains(&By::Model),
            resource: args.by.contains(&By::Resource),
        },
    };
    let store = Store::existing(&settings.database, settings.accounting.durability);
    let usage = match store.and_then(|store| store.usage(&filter)) {
        Ok(usage) => usage,
        Err(error) => return print::failed(print::FAILED, &error),
    };
    if args.json {
        print::json(&usage);
        return ExitCode::SUCCESS;
    }
    let (headings, rows) = columns(&usage, &filter);
    if args.csv {
        print::csv(&headings, &rows);
    } else {
        print::table(&headings, &rows);
    }
    if usage.is_empty() {
        print::note("nothing was used in this time");
    }
    ExitCode::SUCCESS
}

/// Only the columns that were asked for, then the sums.
fn columns(usage: &[UsageView], filter: &UsageFilter) -> (Vec<&'static str>, Vec<Vec<String>>) {
    type Column = (&'static str, fn(&UsageView) -> String);
    let mut columns: Vec<Column> = Vec::new();
    if filter.bucket != Bucket::None {
        columns.push(("start", |row| row.start.map(crate::storage::page::rfc3339).unwrap_or_default()));
    }
    if filter.group_by.key {
        columns.push(("key", |row| row.key.map(|key| key.to_string()).unwrap_or_default()));
        columns.push(("key_name", |row| row.key_name.clone().unwrap_or_default()));
    }
    if filter.group_by.user {
        columns.push(("user", |row| row.user.map(|user| user.to_string()).unwrap_or_default()));
        columns.push(("user_name", |row| row.user_name.clone().unwrap_or_default()));
    }
    if filter.group_by.model {
        columns.push(("model", |row| row.model.clone().unwrap_or_default()));
    }
    if filter.group_by.resource {
        columns.push(("resource", |row| row.resource.clone().unwrap_or_default()));
    }
    columns.push(("requests", |row| row.requests.to_string()));
    columns.push(("input_tokens", |row| row.input_tokens.to_string()));
    columns.push(("cached_input_tokens", |row| row.cached_input_tokens.to_string()));
    columns.push(("output_tokens", |row| row.output_tokens.to_string()));
    columns.push(("reasoning_tokens", |row| row.reasoning_tokens.to_string()));
    columns.push(("cost_usd", |row| format!("{:.6}", row.cost_usd)));
    columns.push(("errors", |row| row.errors.to_string()));
    columns.push(("cancelled", |row| row.cancelled.to_string()));
    columns.push(("estimated", |row| row.estimated.to_string()));
    columns.push(("flat_cost", |row| row.flat_cost.to_string()));
    let rows = usage.iter().map(|row| columns.iter().map(|(_, cell)| cell(row)).collect()).collect();
    (columns.into_iter().map(|(heading, _)| heading).collect(), rows)
}

/// The finest division of time that was asked for.
fn bucket(by: &[By]) -> Bucket {
    if by.contains(&By::Hour) {
        Bucket::Hour
    } else if by.contains(&By::Day) {
        Bucket::Day
    } else if by.contains(&By::Month) {
        Bucket::Month
    } else {
        Bucket::None
    }
}

impl Since {
    fn before(self, now: WallTime) -> WallTime {
        match self {
            Self::Ago(span) => WallTime(now.0.saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))),
            Self::At(time) => time,
        }
    }
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Since::Ago(span));
    }
    let midnight = text
        .parse::<jiff::civil::Date>()
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| Since::At(WallTime(zoned.timestamp().as_microsecond())));
    midnight.map_err(|_| "a span as in `30d`, or a date as in `2026-08-01`".to_owned())
}

/// The start of the current month in UTC; the beginning of time if the clock shows none.
fn start_of_month(now: WallTime) -> WallTime {
    jiff::Timestamp::from_microsecond(now.0)
        .map(|now| now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month())
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
        .map_or(WallTime(0), |zoned| WallTime(zoned.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_spans_and_dates() {
        assert_eq!(parse_since("30d"), Ok(Since::Ago(Duration::from_secs(30 * 86_400))));
        assert_eq!(parse_since("1970-01-02"), Ok(Since::At(WallTime(86_400_000_000))));
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn a_month_begins_at_its_first_midnight_in_utc() {
        // 1970-02-15T00:00:00Z and 1970-02-01T00:00:00Z
        assert_eq!(start_of_month(WallTime(45 * 86_400_000_000)), WallTime(31 * 86_400_000_000));
    }
}
