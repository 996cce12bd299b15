//! Amounts of the recent past: a sum over a sliding window, kept in `N` slots of equal width.
//!
//! An amount counts for at least `N - 1` widths and at most `N`: never less than an exact log would say. It decides
//! nothing; the windows above it do.

use std::time::Duration;

use crate::domain::time::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slots<const N: usize> {
    /// In nanoseconds.
    width: u64,
    /// The slot of a moment is its number modulo `N`.
    amounts: [u64; N],
    /// The number of the slot in which the latest moment lies.
    newest: u64,
    sum: u64,
}

impl<const N: usize> Slots<N> {
    pub(super) fn new(width: Duration) -> Self {
        let width = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { width, amounts: [0; N], newest: 0, sum: 0 }
    }

    /// Lets go of what has become too old. Time never runs backwards here: an earlier `now` changes nothing.
    pub(super) fn roll(&mut self, now: Timestamp) {
        let slot = now.0 / self.width;
        let steps = slot.saturating_sub(self.newest);
        for number in (slot - steps.min(N as u64) + 1)..=slot {
            self.sum -= std::mem::take(&mut self.amounts[Self::place(number)]);
        }
        self.newest = self.newest.max(slot);
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// Adds at a moment that may have passed; what is too old by now is not counted. Gives what was.
    pub(super) fn add(&mut self, amount: u64, at: Timestamp) -> u64 {
        self.roll(at);
        let number = at.0 / self.width;
        if number + (N as u64) <= self.newest {
            return 0;
        }
        let counted = amount.min(u64::MAX - self.sum);
        self.amounts[Self::place(number)] += counted;
        self.sum += counted;
        counted
    }

    /// Takes away what was added up to a moment, oldest first. Gives how much there was to take.
    pub(super) fn remove(&mut self, amount: u64, up_to: Timestamp) -> u64 {
        let last = (up_to.0 / self.width).min(self.newest);
        let mut left = amount;
        for number in self.oldest()..=last {
            let held = &mut self.amounts[Self::place(number)];
            let taken = left.min(*held);
            *held -= taken;
            left -= taken;
        }
        self.sum -= amount - left;
        amount - left
    }

    /// Takes away what was added at a moment. Gives how much there was to take.
    pub(super) fn remove_at(&mut self, amount: u64, at: Timestamp) -> u64 {
        let number = at.0 / self.width;
        if number < self.oldest() || number > self.newest {
            return 0;
        }
        let held = &mut self.amounts[Self::place(number)];
        let taken = amount.min(*held);
        *held -= taken;
        self.sum -= taken;
        taken
    }

    /// When at least so much will have become too old; `None` when there is not so much.
    pub(super) fn leaves_at(&self, amount: u64) -> Option<Timestamp> {
        let mut left = amount;
        for number in self.oldest()..=self.newest {
            left = left.saturating_sub(self.amounts[Self::place(number)]);
            if left == 0 {
                return Some(Timestamp((number + N as u64).saturating_mul(self.width)));
            }
        }
        None
    }

    fn oldest(&self) -> u64 {
        (self.newest + 1).saturating_sub(N as u64)
    }

    fn place(number: u64) -> usize {
        (number % N as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: u64 = 250;
    const LENGTH: u64 = 10_000;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(milliseconds))
    }

    /// Every amount with its moment.
    #[derive(Default)]
    struct Log(Vec<(u64, u64)>);

    impl Log {
        fn sum(&self, now: u64, length: u64) -> u64 {
            self.0.iter().filter(|(moment, _)| moment + length > now).map(|(_, amount)| amount).sum()
        }
    }

    #[test]
    fn what_is_taken_away_is_the_oldest_and_nothing_newer() {
        let mut slots = Slots::<41>::new(Duration::from_millis(WIDTH));
        slots.add(5, at(0));
        slots.add(7, at(3_000));
        assert_eq!(slots.remove(6, at(2_000)), 5);
        assert_eq!((slots.sum(), slots.remove_at(9, at(3_100)), slots.sum()), (7, 7, 0));
        assert_eq!(slots.leaves_at(1), None);
    }

    #[test]
    fn what_comes_too_late_is_not_counted() {
        let mut slots = Slots::<41>::new(Duration::from_millis(WIDTH));
        slots.add(1, at(60_000));
        assert_eq!(slots.add(3, at(20_000)), 0);
        assert_eq!(slots.add(3, at(55_000)), 3);
        assert_eq!(slots.sum(), 4);
    }

    proptest! {
        /// Never less than an exact log of the window's length, never more than one of a slot more; and what is said
        /// of the future comes true.
        #[test]
        fn agrees_with_a_log(events in prop::collection::vec((0u64..3_000, 0u64..100), 1..200), wanted in 1u64..500) {
            let (mut slots, mut log) = (Slots::<41>::new(Duration::from_millis(WIDTH)), Log::default());
            let mut now = 0;
            for (step, amount) in events {
                now += step;
                slots.roll(at(now));
                prop_assert!(slots.sum() >= log.sum(now, LENGTH));
                prop_assert!(slots.sum() <= log.sum(now, LENGTH + WIDTH));
                if let Some(leaves) = slots.leaves_at(wanted) {
                    let before = slots.sum();
                    let (mut early, mut late) = (slots.clone(), slots.clone());
                    early.roll(Timestamp(leaves.0 - 1));
                    late.roll(leaves);
                    prop_assert!(early.sum() > before - wanted && late.sum() <= before - wanted);
                } else {
                    prop_assert!(slots.sum() < wanted);
                }
                slots.add(amount, at(now));
                log.0.push((now, amount));
            }
        }
    }
}
