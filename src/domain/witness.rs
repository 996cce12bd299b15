//! Whether another clock agrees with this machine's: pure.
//!
//! A clock that is ahead looks, to its own ledger, like a long rest; only somebody else's shows that it is not. Which of the
//! two is wrong cannot be told from here, so nothing is decided by it: it is said, and somebody looks.

use super::time::WallTime;

/// Two clocks that time servers look after are closer than this; microseconds.
const TOLERANCE: i64 = 5_000_000;

/// What another clock said, and when by ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Just before it was asked.
    pub asked: WallTime,
    pub says: WallTime,
    /// Just after it had answered.
    pub answered: WallTime,
}

impl Reading {
    /// By how many microseconds ours is ahead, at least; negative: behind. Zero while the answer took longer than the
    /// difference that it shows.
    pub fn ahead(self) -> i64 {
        let (early, late) = (self.asked.0.saturating_sub(self.says.0), self.answered.0.saturating_sub(self.says.0));
        if early > 0 { early } else { late.min(0) }
    }
}

/// Hears one other clock, time and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// By how much ours is ahead of it, where that is too much.
    differs: Option<i64>,
}

/// What a reading shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Testimony {
    Agrees,
    /// Since this reading, or by much more or less than before: ours is so many microseconds ahead.
    Differs(i64),
    /// As before, about.
    StillDiffers(i64),
    AgreesAgain,
}

impl Witness {
    pub fn hear(&mut self, reading: Reading) -> Testimony {
        let ahead = reading.ahead();
        // Less than it takes to be told, so that what lies between is not told time and again.
        let most = if self.differs.is_some() { TOLERANCE / 2 } else { TOLERANCE };
        if ahead.saturating_abs() <= most {
            return if self.differs.take().is_some() { Testimony::AgreesAgain } else { Testimony::Agrees };
        }
        match self.differs {
            Some(told) if ahead.abs_diff(told) <= TOLERANCE.unsigned_abs() => Testimony::StillDiffers(ahead),
            Some(_) | None => {
                self.differs = Some(ahead);
                Testimony::Differs(ahead)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Ours is so far ahead, and the answer took so long, half of it each way.
    fn reading(ahead: i64, took: i64) -> Reading {
        let says = WallTime(1_000_000 * SECOND);
        Reading { asked: WallTime(says.0 + ahead - took / 2), says, answered: WallTime(says.0 + ahead + took / 2) }
    }

    #[test]
    fn only_what_the_way_of_the_answer_cannot_explain_is_a_difference() {
        assert_eq!(reading(20 * SECOND, 0).ahead(), 20 * SECOND);
        assert_eq!(reading(-20 * SECOND, 2 * SECOND).ahead(), -19 * SECOND);
        assert_eq!(reading(20 * SECOND, 2 * SECOND).ahead(), 19 * SECOND);
        for ahead in [-19, 0, 19] {
            assert_eq!(reading(ahead * SECOND, 40 * SECOND).ahead(), 0, "{ahead}");
        }
        let ends = Reading { asked: WallTime(i64::MAX), says: WallTime(i64::MIN), answered: WallTime(i64::MAX) };
        assert_eq!(ends.ahead(), i64::MAX);
        let mut witness = Witness::default();
        let ends = Reading { asked: WallTime(i64::MIN), says: WallTime(i64::MAX), answered: WallTime(i64::MIN) };
        assert_eq!(witness.hear(ends), Testimony::Differs(i64::MIN));
    }

    #[test]
    fn a_difference_is_told_once_and_again_when_it_becomes_another() {
        let mut witness = Witness::default();
        let mut hear = |ahead: i64| witness.hear(reading(ahead, 0));
        assert_eq!(hear(TOLERANCE), Testimony::Agrees);
        assert_eq!(hear(TOLERANCE + 1), Testimony::Differs(TOLERANCE + 1));
        assert_eq!(hear(TOLERANCE - 1), Testimony::StillDiffers(TOLERANCE - 1), "it does not flutter");
        assert_eq!(hear(20 * SECOND), Testimony::Differs(20 * SECOND));
        assert_eq!(hear(22 * SECOND), Testimony::StillDiffers(22 * SECOND));
        assert_eq!(hear(-20 * SECOND), Testimony::Differs(-20 * SECOND));
        assert_eq!(hear(-TOLERANCE / 2), Testimony::AgreesAgain);
        assert_eq!(hear(-TOLERANCE), Testimony::Agrees);
    }
}
