//! Periods of quotas: days, weeks and months as a calendar and a time zone cut them.
//!
//! Which moment it is comes in as a parameter. The zones come with the program: what a period is does not depend on the
//! machine.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use super::time::WallTime;

/// How often a quota begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    /// From Monday, as ISO 8601 has it.
    Week,
    Month,
    /// Never.
    None,
}

impl Period {
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::None];

    pub fn label(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::None => "none",
        }
    }

    /// Before the word "quota".
    pub fn adjective(self) -> &'static str {
        match self {
            Self::Day => "daily ",
            Self::Week => "weekly ",
            Self::Month => "monthly ",
            Self::None => "",
        }
    }
}

/// The text names no period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `day`, `week`, `month` or `none`")]
pub struct UnknownPeriod;

impl FromStr for Period {
    type Err = UnknownPeriod;

    fn from_str(text: &str) -> Result<Self, UnknownPeriod> {
        Self::ALL.into_iter().find(|period| period.label() == text).ok_or(UnknownPeriod)
    }
}

/// A time zone by its name in the IANA database; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    pub const UTC: Self = Self(TimeZone::UTC);

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    fn at(&self, moment: WallTime) -> Option<Zoned> {
        Some(jiff::Timestamp::from_microsecond(moment.0).ok()?.to_zoned(self.0.clone()))
    }

    /// Of a date such as `2026-11-01`.
    pub fn start_of(&self, date: &str) -> Option<WallTime> {
        let start = date.parse::<jiff::civil::Date>().ok()?.to_zoned(self.0.clone()).ok()?;
        Some(WallTime(start.timestamp().as_microsecond()))
    }

    /// For people: `1 Dec 2026 00:00 (Europe/Berlin)`.
    pub fn text(&self, moment: WallTime) -> String {
        match self.at(moment) {
            Some(at) => format!("{} ({})", at.strftime("%-d %b %Y %H:%M"), self.name()),
            None => "the end of time".to_owned(),
        }
    }
}

/// The text names no zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time zone such as `UTC` or `Europe/Berlin`")]
pub struct UnknownZone;

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        if text == "UTC" {
            return Ok(Self::UTC);
        }
        TimeZone::get(text).ok().filter(|zone| zone.iana_name().is_some()).map(Self).ok_or(UnknownZone)
    }
}

/// From a moment up to another, which is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: WallTime,
    pub to: WallTime,
}

impl Span {
    /// All of time.
    pub const ALWAYS: Self = Self { from: WallTime(0), to: WallTime(i64::MAX) };

    pub fn contains(&self, moment: WallTime) -> bool {
        self.from <= moment && moment < self.to
    }
}

/// A period in a zone: it cuts time into spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub period: Period,
    pub zone: Zone,
}

impl Cycle {
    /// The span that `moment` lies in.
    pub fn span(&self, moment: WallTime) -> Span {
        self.cut(moment).unwrap_or(Span::ALWAYS)
    }

    /// None: it has no end, or lies outside of what calendars know.
    fn cut(&self, moment: WallTime) -> Option<Span> {
        let at = self.zone.at(moment)?;
        let day = at.date();
        let (first, length) = match self.period {
            Period::Day => (day, 1.day()),
            Period::Week => {
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                (day.checked_sub(since_monday.days()).ok()?, 1.week())
            }
            Period::Month => (day.first_of_month(), 1.month()),
            Period::None => return None,
        };
        let start = |day: jiff::civil::Date| {
            let start = day.to_zoned(self.zone.0.clone()).ok()?;
            Some(WallTime(start.timestamp().as_microsecond()))
        };
        Some(Span { from: start(first)?, to: start(first.checked_add(length).ok()?)? })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wall(text: &str) -> WallTime {
        WallTime(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn cycle(period: Period, zone: &str) -> Cycle {
        Cycle { period, zone: zone.parse().unwrap() }
    }

    #[test]
    fn a_month_begins_where_its_zone_says() {
        let moment = wall("2026-11-30T23:30:00Z");
        let utc = cycle(Period::Month, "UTC").span(moment);
        assert_eq!((utc.from, utc.to), (wall("2026-11-01T00:00:00Z"), wall("2026-12-01T00:00:00Z")));
        let berlin = cycle(Period::Month, "Europe/Berlin").span(moment);
        assert_eq!((berlin.from, berlin.to), (wall("2026-11-30T23:00:00Z"), wall("2026-12-31T23:00:00Z")));
        let kolkata = cycle(Period::Month, "Asia/Kolkata").span(moment);
        assert_eq!(kolkata.from, wall("2026-11-30T18:30:00Z"));
    }

    #[test]
    fn days_have_23_to_25_hours_and_weeks_begin_on_monday() {
        let hours = |span: Span| (span.to.0 - span.from.0) / 3_600_000_000;
        let days = cycle(Period::Day, "Europe/Berlin");
        assert_eq!(hours(days.span(wall("2026-03-29T12:00:00Z"))), 23);
        assert_eq!(hours(days.span(wall("2026-10-25T12:00:00Z"))), 25);
        assert_eq!(hours(days.span(wall("2026-07-01T12:00:00Z"))), 24);
        let week = cycle(Period::Week, "UTC").span(wall("2026-11-22T23:59:59Z"));
        assert_eq!((week.from, week.to), (wall("2026-11-16T00:00:00Z"), wall("2026-11-23T00:00:00Z")));
        assert_eq!(cycle(Period::None, "UTC").span(wall("2026-11-22T00:00:00Z")), Span::ALWAYS);
    }

    #[test]
    fn zones_are_read_by_name() {
        assert_eq!("Europe/Berlin".parse::<Zone>().unwrap().name(), "Europe/Berlin");
        assert_eq!("UTC".parse::<Zone>(), Ok(Zone::UTC));
        for wrong in ["", "Berlin", "+01:00", "../etc/passwd"] {
            assert_eq!(wrong.parse::<Zone>(), Err(UnknownZone), "{wrong}");
        }
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(berlin.text(wall("2026-11-30T23:00:00Z")), "1 Dec 2026 00:00 (Europe/Berlin)");
    }

    proptest! {
        /// Every moment lies in its span, and the spans follow each other without a gap.
        #[test]
        fn spans_cut_time_without_gaps(
            seconds in 0_i64..4_000_000_000,
            period in prop::sample::select(vec![Period::Day, Period::Week, Period::Month]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"]),
        ) {
            let (cycle, moment) = (cycle(period, zone), WallTime(seconds * 1_000_000));
            let span = cycle.span(moment);
            prop_assert!(span.from <= moment && moment < span.to);
            prop_assert_eq!(cycle.span(span.from), span);
            prop_assert_eq!(cycle.span(span.to).from, span.to);
            prop_assert_eq!(cycle.span(WallTime(span.from.0 - 1)).to, span.from);
        }
    }
}
