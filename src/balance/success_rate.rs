//! How many of a deployment's answers were faults lately: a ring of one-second buckets.
//!
//! It counts and judges; what follows from a bad rate is `health`'s business (the breaker) and `gray`'s (a smaller
//! share). What is the client's own, what nobody waited for, and our own lateness never get here.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// Half a minute, and the second that has just begun.
const BUCKETS: usize = 31;

/// A breaker looks back this far.
const WINDOW: Duration = Duration::from_secs(10);
/// Fewer answers than this say nothing about a rate; the breaker's faults in a row are for those.
const VOLUME: u64 = 20;

#[derive(Clone, Debug, PartialEq)]
pub struct SuccessRate {
    /// The bucket of a second is its number modulo the ring's length.
    buckets: [Counts; BUCKETS],
    /// The latest second that was counted in.
    newest: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub good: u64,
    pub bad: u64,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { buckets: [Counts::default(); BUCKETS], newest: 0 }
    }
}

impl SuccessRate {
    /// Adds at a moment that may have passed; what is older than the ring is not counted.
    pub fn add(&mut self, counts: Counts, at: Timestamp) {
        let second = second(at);
        for number in (self.newest + 1..=second).rev().take(BUCKETS) {
            self.buckets[place(number)] = Counts::default();
        }
        self.newest = self.newest.max(second);
        if second + BUCKETS as u64 > self.newest {
            let bucket = &mut self.buckets[place(second)];
            *bucket = *bucket + counts;
        }
    }

    /// Of the last `window`, at most half a minute; a second that it cuts counts whole.
    pub fn last(&self, window: Duration, now: Timestamp) -> Counts {
        let newest = second(now);
        let oldest = newest.saturating_sub(window.as_secs()).max((self.newest + 1).saturating_sub(BUCKETS as u64));
        let numbers = oldest..=newest.min(self.newest);
        numbers.fold(Counts::default(), |sum, number| sum + self.buckets[place(number)])
    }

    /// Whether so many of the latest answers were faults that the deployment had better be left alone, though good
    /// answers come between them.
    pub fn is_bad(&self, now: Timestamp) -> bool {
        let Counts { good, bad } = self.last(WINDOW, now);
        good + bad >= VOLUME && bad >= good
    }
}

impl Counts {
    /// Of none, 0.
    pub fn fault_rate(self) -> f64 {
        self.bad as f64 / (self.good + self.bad).max(1) as f64
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }
}

fn second(at: Timestamp) -> u64 {
    at.since(Timestamp::ZERO).as_secs()
}

fn place(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    fn rate(events: &[(u64, u64, u64)]) -> SuccessRate {
        let mut rate = SuccessRate::default();
        events.iter().for_each(|(good, bad, second)| rate.add(Counts { good: *good, bad: *bad }, at(*second)));
        rate
    }

    #[test]
    fn half_of_enough_answers_is_bad_and_old_ones_do_not_count() {
        assert!(rate(&[(10, 10, 5)]).is_bad(at(5)));
        assert!(!rate(&[(11, 10, 5)]).is_bad(at(5)), "more than half were good");
        assert!(!rate(&[(0, 19, 5)]).is_bad(at(5)), "too few to speak of a rate");
        assert!(rate(&[(500, 0, 5), (9, 11, 20)]).is_bad(at(20)));
        assert!(!rate(&[(10, 10, 5)]).is_bad(at(16)));
    }

    #[test]
    fn late_news_is_put_where_it_belongs() {
        let late = rate(&[(1, 0, 60), (3, 0, 55), (7, 0, 29)]);
        assert_eq!(late.last(Duration::from_secs(30), at(60)), Counts { good: 4, bad: 0 });
        assert_eq!(late.last(Duration::from_secs(2), at(60)), Counts { good: 1, bad: 0 });
        assert_eq!(late.last(Duration::from_secs(30), at(200)), Counts::default());
        assert_eq!(Counts::default().fault_rate(), 0.0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_log(events in prop::collection::vec((0u64..40, 0u64..9, 0u64..9), 1..60), window in 0u64..=30) {
            let (mut ring, mut log, mut now) = (SuccessRate::default(), Vec::new(), 0);
            for (step, good, bad) in events {
                now += step;
                ring.add(Counts { good, bad }, at(now));
                log.push((now, Counts { good, bad }));
                let recent = log.iter().filter(|(second, _)| second + window >= now).map(|(_, counts)| *counts);
                let expected = recent.fold(Counts::default(), |sum, counts| sum + counts);
                prop_assert_eq!(ring.last(Duration::from_secs(window), at(now)), expected);
            }
        }
    }
}
