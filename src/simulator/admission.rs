//! Whether a standard deployment lets a request in: requests over slices of 1 s and 10 s and over the minute, tokens
//! (characters / 4 + `max_tokens`, not what is billed later) over the minute. A window opens with its first request
//! and empties as a whole. Refused requests count against the minute's requests, as Azure warns. Pure: the time is a
//! parameter.

use std::time::Duration;

use crate::domain::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

/// The limits in force, per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) requests: u64,
    pub(super) tokens: u64,
}

/// What the rate-limit headers say after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) limits: Limits,
    pub(super) remaining_requests: u64,
    pub(super) remaining_tokens: u64,
    /// Until the minute's windows empty.
    pub(super) reset_requests: Duration,
    pub(super) reset_tokens: Duration,
}

/// Which dimension was exhausted, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) cause: Dimension,
    pub(super) wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Requests,
    Tokens,
}

/// A deployment's counters.
#[derive(Debug, Default)]
pub(super) struct Windows {
    second: Window,
    ten_seconds: Window,
    minute: Window,
    tokens: Window,
}

impl Windows {
    /// Counts the request and lets it in, or says why not.
    pub(super) fn admit(&mut self, limits: Limits, tokens: u64, now: Timestamp) -> Result<(), Refused> {
        self.roll(now);
        let slices = [
            (&self.second, SECOND, limits.requests.div_ceil(60)),
            (&self.ten_seconds, TEN_SECONDS, limits.requests.div_ceil(6)),
            (&self.minute, MINUTE, limits.requests),
        ];
        let full = slices
            .iter()
            .filter(|(window, _, limit)| window.used >= *limit)
            .map(|(w, length, _)| w.left(*length, now))
            .max();
        let refused = if let Some(wait) = full {
            Some(Refused { cause: Dimension::Requests, wait })
        } else if self.tokens.used.saturating_add(tokens) > limits.tokens {
            Some(Refused { cause: Dimension::Tokens, wait: self.tokens.left(MINUTE, now) })
        } else {
            None
        };
        self.minute.add(1, now);
        if let Some(refused) = refused {
            return Err(refused);
        }
        self.second.add(1, now);
        self.ten_seconds.add(1, now);
        self.tokens.add(tokens, now);
        Ok(())
    }

    pub(super) fn standing(&mut self, limits: Limits, now: Timestamp) -> Standing {
        self.roll(now);
        Standing {
            limits,
            remaining_requests: limits.requests.saturating_sub(self.minute.used),
            remaining_tokens: limits.tokens.saturating_sub(self.tokens.used),
            reset_requests: self.minute.reset(MINUTE, now),
            reset_tokens: self.tokens.reset(MINUTE, now),
        }
    }

    fn roll(&mut self, now: Timestamp) {
        self.second.roll(SECOND, now);
        self.ten_seconds.roll(TEN_SECONDS, now);
        self.minute.roll(MINUTE, now);
        self.tokens.roll(MINUTE, now);
    }
}

#[derive(Debug, Default)]
struct Window {
    opened: Timestamp,
    used: u64,
}

impl Window {
    fn roll(&mut self, length: Duration, now: Timestamp) {
        if now.since(self.opened) >= length {
            self.used = 0;
        }
    }

    fn add(&mut self, amount: u64, now: Timestamp) {
        if self.used == 0 {
            self.opened = now;
        }
        self.used = self.used.saturating_add(amount);
    }

    /// Until the window empties; a whole one when it has not opened yet.
    fn left(&self, length: Duration, now: Timestamp) -> Duration {
        if self.used == 0 { length } else { length.saturating_sub(now.since(self.opened)) }
    }

    fn reset(&self, length: Duration, now: Timestamp) -> Duration {
        if self.used == 0 { Duration::ZERO } else { self.left(length, now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { requests: 600, tokens: 1_000 };

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(5_000_000 + milliseconds))
    }

    #[test]
    fn six_hundred_a_minute_are_ten_in_one_second() {
        let mut windows = Windows::default();
        for _ in 0..10 {
            windows.admit(LIMITS, 1, at(0)).unwrap();
        }
        let refused = windows.admit(LIMITS, 1, at(400)).unwrap_err();
        assert_eq!(refused, Refused { cause: Dimension::Requests, wait: Duration::from_millis(600) });
        windows.admit(LIMITS, 1, at(1_000)).unwrap();
    }

    #[test]
    fn one_request_a_minute_is_refused_until_the_minute_ends() {
        let mut windows = Windows::default();
        let limits = Limits { requests: 1, tokens: 1_000 };
        windows.admit(limits, 1, at(0)).unwrap();
        assert_eq!(windows.admit(limits, 1, at(15_000)).unwrap_err().wait, Duration::from_secs(45));
        windows.admit(limits, 1, at(60_000)).unwrap();
    }

    #[test]
    fn tokens_are_taken_whole_or_not_at_all() {
        let mut windows = Windows::default();
        windows.admit(LIMITS, 900, at(0)).unwrap();
        let refused = windows.admit(LIMITS, 101, at(20_000)).unwrap_err();
        assert_eq!(refused, Refused { cause: Dimension::Tokens, wait: Duration::from_secs(40) });
        windows.admit(LIMITS, 100, at(20_001)).unwrap();
        assert_eq!(windows.standing(LIMITS, at(20_001)).remaining_tokens, 0);
    }

    #[test]
    fn refused_requests_count_against_the_minute_and_a_new_minute_forgets_all() {
        let mut windows = Windows::default();
        windows.admit(LIMITS, 1_000, at(0)).unwrap();
        windows.admit(LIMITS, 1, at(1)).unwrap_err();
        let standing = windows.standing(LIMITS, at(10_000));
        assert_eq!((standing.remaining_requests, standing.reset_requests), (598, Duration::from_secs(50)));
        let standing = windows.standing(LIMITS, at(60_000));
        assert_eq!((standing.remaining_requests, standing.remaining_tokens), (600, 1_000));
        assert_eq!((standing.reset_requests, standing.reset_tokens), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_request_larger_than_the_limit_is_never_admitted() {
        let mut windows = Windows::default();
        assert_eq!(windows.admit(LIMITS, 1_001, at(0)).unwrap_err().cause, Dimension::Tokens);
        assert_eq!(windows.admit(LIMITS, 1_001, at(90_000)).unwrap_err().cause, Dimension::Tokens);
    }

    #[test]
    fn no_limit_admits_nothing() {
        let mut windows = Windows::default();
        let nothing = Limits { requests: 0, tokens: 0 };
        assert_eq!(windows.admit(nothing, 0, at(0)).unwrap_err().wait, MINUTE);
    }
}
