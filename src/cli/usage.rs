//! `aoai-gateway usage`: who used how much, from the hourly roll-ups.

use std::process::ExitCode;
use std::time::Duration;

use super::admin_client::{Failure, Reach};
use super::plane::{Database, Plane};
use super::{Common, print};
use crate::domain::time::{WallTime, wall_now};
use crate::http::admin::usage_table as table;
use crate::storage::page::rfc3339;
use crate::storage::usage::{Bucket, GroupBy, UsageFilter};

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
    #[command(flatten)]
    pub reach: Reach,
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

pub fn run(args: &Args, common: &Common) -> ExitCode {
    done(args, common).unwrap_or_else(|failure| failure.reported())
}

fn done(args: &Args, common: &Common) -> Result<ExitCode, Failure> {
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
    let plane = Plane::reach(&args.reach, common, Database::Existing)?;
    let (from, to, group_by) = (rfc3339(filter.from), rfc3339(filter.to), filter.group_by.names().join(","));
    let mut query = vec![("from", from.as_str()), ("to", to.as_str()), ("group_by", group_by.as_str())];
    query.extend(filter.bucket.label().map(|bucket| ("bucket", bucket)));
    let usage = plane.usage(&filter, &query)?;
    if args.json {
        print::json(&usage);
        return Ok(ExitCode::SUCCESS);
    }
    let (headings, rows) = table::table(&usage, filter.bucket, filter.group_by);
    if args.csv {
        print::out(&table::csv(&headings, &rows));
    } else {
        print::table(&headings, &rows);
    }
    if usage.is_empty() {
        print::note("nothing was used in this time");
    }
    Ok(ExitCode::SUCCESS)
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
