//! The only clock of the house. Everything that decides takes a [`Timestamp`] as a parameter, so tests move time
//! themselves; limits and deadlines use the monotonic clock, and the wall clock is only a label on rows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of the monotonic clock in nanoseconds since this process first asked; fits an atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub const ZERO: Self = Self(0);

    /// Saturates at the end of time.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// With an offset in microseconds between the two clocks.
    pub fn on_the_wall(self, offset: i64) -> WallTime {
        WallTime(offset.saturating_add(i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX)))
    }

    /// Zero when `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now() -> Timestamp {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(Instant::now);
    Timestamp(nanoseconds(epoch.elapsed()))
}

/// Wall-clock microseconds since the Unix epoch, for rows and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl WallTime {
    /// The start of the hour this moment lies in.
    pub fn hour(self) -> Self {
        const HOUR: i64 = 3_600_000_000;
        Self(self.0.div_euclid(HOUR) * HOUR)
    }

    /// Saturates at the end of time.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(microseconds(duration)))
    }

    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(microseconds(duration)))
    }

    /// Zero when `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

/// The wall clock; in a process that watches it (see [`trust`]), without its jumps.
pub fn wall_now() -> WallTime {
    match TRUSTED.load(Ordering::Relaxed) {
        SYSTEM => system_wall(),
        offset => now().on_the_wall(offset),
    }
}

/// Microseconds of the wall clock at the zero of the monotonic one; or [`SYSTEM`].
static TRUSTED: AtomicI64 = AtomicI64::new(SYSTEM);
const SYSTEM: i64 = i64::MIN;

/// From now on [`wall_now`] is the monotonic clock and so many microseconds; `None`: what the system says. Whether the
/// system's clock may be followed is decided in [`super::clock`].
pub fn trust(offset: Option<i64>) {
    TRUSTED.store(offset.unwrap_or(SYSTEM), Ordering::Relaxed);
}

/// What the system takes for the time, whatever it was a moment ago.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn system_wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp(u64::MAX).after(Duration::from_secs(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    #[test]
    fn an_hour_begins_on_the_hour_also_before_the_epoch() {
        assert_eq!(WallTime(3_600_000_001).hour(), WallTime(3_600_000_000));
        assert_eq!(WallTime(-1).hour(), WallTime(-3_600_000_000));
    }
}
