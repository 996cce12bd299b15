//! Whether the wall clock may be believed: pure, against the monotonic one.
//!
//! Hours of the ledger and periods of quotas are told by the wall clock. When it jumps by more than a few minutes, the old
//! time goes on, so that no period begins or ends by mistake, until the new one has held for an hour or the process is
//! started again. Small steps, as time servers make them, are followed.

use std::time::Duration;

use super::time::{Timestamp, WallTime};

/// A larger step is a jump.
pub const STEP: Duration = Duration::from_secs(5 * 60);
/// A jump is believed when nothing has moved for so long after it.
const CONFIRMED_AFTER: Duration = Duration::from_secs(3600);

/// By how much the clock is behind what has happened already; none where that is no more than a time server corrects.
/// Without another clock to ask, this is all that a start can know: one that is ahead looks like a long rest.
pub fn behind(newest: WallTime, now: WallTime) -> Option<Duration> {
    let by = Duration::from_micros(u64::try_from(newest.0.saturating_sub(now.0)).unwrap_or(0));
    (by > STEP).then_some(by)
}

/// What is believed, and what is not yet.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Microseconds of the wall clock at the monotonic zero.
    trusted: i64,
    /// What the wall clock says otherwise, and since when.
    doubted: Option<(i64, Timestamp)>,
}

/// What a look at both clocks shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// They agree.
    Steady,
    /// The wall clock jumped since the last look, by so many microseconds in all.
    Jumped(i64),
    /// It has not come back since.
    Doubted(i64),
    /// It has come back.
    Returned,
    /// The new time has held for long enough; it is followed from now on.
    Confirmed(i64),
}

impl Watch {
    pub fn new(now: Timestamp, wall: WallTime) -> Self {
        Self { trusted: offset(now, wall), doubted: None }
    }

    /// For [`super::time::trust`].
    pub fn trusted(&self) -> i64 {
        self.trusted
    }

    pub fn look(&mut self, now: Timestamp, wall: WallTime) -> Look {
        let seen = offset(now, wall);
        if is_close(seen, self.trusted) {
            self.trusted = seen;
            return if self.doubted.take().is_some() { Look::Returned } else { Look::Steady };
        }
        let by = seen.saturating_sub(self.trusted);
        match self.doubted {
            Some((doubted, since)) if is_close(seen, doubted) => {
                if now.since(since) < CONFIRMED_AFTER {
                    self.doubted = Some((seen, since));
                    return Look::Doubted(by);
                }
                (self.trusted, self.doubted) = (seen, None);
                Look::Confirmed(by)
            }
            Some(_) | None => {
                self.doubted = Some((seen, now));
                Look::Jumped(by)
            }
        }
    }
}

fn offset(now: Timestamp, wall: WallTime) -> i64 {
    wall.0.saturating_sub(now.on_the_wall(0).0)
}

fn is_close(one: i64, other: i64) -> bool {
    u128::from(one.abs_diff(other)) <= STEP.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const DAY: i64 = 1_440 * MINUTE;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    /// The wall clock at that second, when it is so far ahead.
    fn wall(seconds: u64, ahead: i64) -> WallTime {
        at(seconds).on_the_wall(1_000 * DAY + ahead)
    }

    #[test]
    fn small_steps_are_followed_and_a_jump_is_not() {
        let mut watch = Watch::new(at(10), wall(10, 0));
        assert_eq!(watch.look(at(11), wall(11, 4 * MINUTE)), Look::Steady);
        assert_eq!(at(11).on_the_wall(watch.trusted()), wall(11, 4 * MINUTE));
        for jump in [DAY, -DAY / 24] {
            let mut watch = watch;
            let seen = 4 * MINUTE + jump;
            assert_eq!(watch.look(at(12), wall(12, seen)), Look::Jumped(jump));
            assert_eq!(watch.look(at(13), wall(13, seen + MINUTE)), Look::Doubted(jump + MINUTE));
            assert_eq!(at(13).on_the_wall(watch.trusted()), wall(13, 4 * MINUTE), "the old time goes on");
            assert_eq!(watch.look(at(14), wall(14, 0)), Look::Returned);
            assert_eq!(watch.look(at(15), wall(15, 0)), Look::Steady);
        }
    }

    #[test]
    fn a_clock_is_behind_by_more_than_a_time_server_corrects() {
        let now = WallTime(1_000 * DAY);
        for (newest, expected) in [(-DAY, None), (0, None), (5 * MINUTE, None), (5 * MINUTE + 1, Some(5 * MINUTE + 1))]
        {
            let expected = expected.map(|by: i64| Duration::from_micros(by.unsigned_abs()));
            assert_eq!(behind(WallTime(now.0 + newest), now), expected, "{newest}");
        }
        assert!(behind(WallTime(i64::MAX), WallTime(i64::MIN)).is_some(), "the ends of time are no obstacle");
    }

    #[test]
    fn a_new_time_counts_once_it_has_held_for_an_hour() {
        let mut watch = Watch::new(at(0), wall(0, 0));
        assert_eq!(watch.look(at(1), wall(1, DAY)), Look::Jumped(DAY));
        assert_eq!(watch.look(at(3_600), wall(3_600, DAY)), Look::Doubted(DAY));
        // Another jump begins the hour anew.
        assert_eq!(watch.look(at(3_601), wall(3_601, 2 * DAY)), Look::Jumped(2 * DAY));
        assert_eq!(watch.look(at(7_200), wall(7_200, 2 * DAY)), Look::Doubted(2 * DAY));
        assert_eq!(watch.look(at(7_201), wall(7_201, 2 * DAY)), Look::Confirmed(2 * DAY));
        assert_eq!(watch.look(at(7_202), wall(7_202, 2 * DAY)), Look::Steady);
        assert_eq!(at(7_202).on_the_wall(watch.trusted()), wall(7_202, 2 * DAY));
    }
}
