//! What operators are shown of one deployment and nothing else reads: how many requests it got lately, its last error, and
//! where it says it is.
//!
//! | field | written by |
//! |---|---|
//! | `slots` | leases: one atomic operation each |
//! | `last_error` | the owning `Resource`, for what went wrong only |
//! | `answers_from` | its first answer |

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::domain::outcome::Outcome;
use crate::domain::regions::RegionCode;
use crate::domain::time::{Timestamp, WallTime};

/// A ring of counts of ten seconds each. A slot holds in its upper half which ten seconds of the clock it counts, so that nobody
/// has to clear it in time, and a count never speaks of another minute. Aligned, because what lies beside it is read on
/// every pick.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    slots: [AtomicU64; SLOTS],
    last_error: Mutex<Option<LastError>>,
    answers_from: OnceLock<RegionCode>,
}

const SLOTS: usize = 8;
const SLOT: Duration = Duration::from_secs(10);
/// The slots that are "recent", the present one included.
const RECENT: u64 = 6;

/// The newest attempt that failed by the deployment's fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastError {
    pub outcome: Outcome,
    pub at: WallTime,
}

impl Tally {
    /// A request is on its way.
    pub(super) fn count(&self, now: Timestamp) {
        let number = slot_number(now);
        let slot = self.slot(number);
        let mut seen = slot.load(Relaxed);
        loop {
            let next = if seen >> 32 == number { seen + 1 } else { (number << 32) | 1 };
            match slot.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Requests of the last 50 to 60 seconds.
    pub fn recent(&self, now: Timestamp) -> u64 {
        let newest = slot_number(now);
        let numbers = (newest + 1).saturating_sub(RECENT)..=newest;
        numbers.map(|number| counted(self.slot(number).load(Relaxed), number)).sum()
    }

    pub fn last_error(&self) -> Option<LastError> {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region that Azure names in its answers; none before the first.
    pub fn answers_from(&self) -> Option<&RegionCode> {
        self.answers_from.get()
    }

    /// True for the first.
    pub fn note_region(&self, region: RegionCode) -> bool {
        self.answers_from.set(region).is_ok()
    }

    pub(super) fn note_error(&self, error: LastError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        // Reduced below SLOTS, so the conversion loses nothing.
        &self.slots[(number % SLOTS as u64) as usize]
    }
}

/// Begins at 1: an empty slot belongs to no time. 32 bits of it last for a thousand years.
fn slot_number(now: Timestamp) -> u64 {
    now.since(Timestamp::ZERO).as_secs() / SLOT.as_secs() + 1
}

fn counted(slot: u64, number: u64) -> u64 {
    if slot >> 32 == number { slot & u64::from(u32::MAX) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    #[test]
    fn counts_the_last_minute_and_forgets_the_rest() {
        let tally = Tally::default();
        assert_eq!(tally.recent(at(0)), 0);
        for second in 0..60 {
            tally.count(at(second));
        }
        assert_eq!(tally.recent(at(59)), 60);
        assert_eq!(tally.recent(at(60)), 50, "the oldest ten seconds are gone");
        assert_eq!(tally.recent(at(109)), 10);
        assert_eq!(tally.recent(at(110)), 0);
        // The same slots, much later.
        tally.count(at(80_000));
        assert_eq!(tally.recent(at(80_000)), 1);
    }

    #[test]
    fn no_request_is_lost_between_threads() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|number| tally.count(at(number % 30))));
            }
        });
        // Threads that go back in time fight for slots of the same ring only when they are 80 seconds apart.
        assert_eq!(tally.recent(at(29)), 40_000);
    }
}
