//! A deployment's health: the circuit breaker on consecutive faults, the cooldown Azure asked for, and quarantine.
//!
//! It decides when a deployment may be asked again and whether the next request is a probe. It does not decide who
//! asks (`select`), and it never blames a deployment for what is the client's own.

use std::time::Duration;

use crate::domain::outcome::Outcome;
use crate::domain::time::Timestamp;

/// Consecutive faults that open the breaker.
const FAULTS_TO_OPEN: u32 = 3;
/// A deployment that keeps failing its probes is asked this rarely at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Wrong key, wrong name, blocked network: someone must mend it, so it is tried rarely.
const QUARANTINE: Duration = Duration::from_secs(60);

/// Why a deployment may not be asked, or that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The breaker is closed: traffic flows.
    Closed,
    /// It asked for a pause (429).
    Cooling,
    /// The breaker is open: it failed too often in a row.
    Open,
    /// 401, 403 or 404: its settings are wrong.
    Quarantined,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Closed, Self::Cooling, Self::Open, Self::Quarantined];

    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Cooling => "cooling",
            Self::Open => "open",
            Self::Quarantined => "quarantined",
        }
    }
}

/// The owner's view of one deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    state: State,
    /// Not to be asked before this; afterwards, unless closed, by one probe at a time (half-open).
    ready_at: Timestamp,
    /// When the present state began: what was sent earlier does not speak about it.
    since: Timestamp,
    consecutive_faults: u32,
    pause: Duration,
    /// The first pause of the breaker, and of a 429 that names no time.
    cooldown: Duration,
}

/// An attempt's end as the owner hears of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    pub outcome: Outcome,
    pub began: Timestamp,
    pub now: Timestamp,
}

impl Health {
    pub fn new(cooldown: Duration) -> Self {
        Self {
            state: State::Closed,
            ready_at: Timestamp::ZERO,
            since: Timestamp::ZERO,
            consecutive_faults: 0,
            pause: cooldown,
            cooldown,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn ready_at(&self) -> Timestamp {
        self.ready_at
    }

    pub fn consecutive_faults(&self) -> u32 {
        self.consecutive_faults
    }

    /// Takes one report into account.
    pub fn observe(&mut self, report: Report) {
        let Report { outcome, began, now } = report;
        match outcome {
            Outcome::Served | Outcome::Rejected { .. } => {
                // An answer to what was sent before the trouble began proves nothing about it.
                if self.state == State::Closed || began >= self.ready_at {
                    self.consecutive_faults = 0;
                    self.pause = self.cooldown;
                    self.enter(State::Closed, Timestamp::ZERO, now);
                }
            }
            Outcome::Throttled { retry_after, cause: _ } => {
                let ready_at = now.after(retry_after.unwrap_or(self.cooldown));
                match self.state {
                    State::Closed | State::Cooling => self.enter(State::Cooling, ready_at.max(self.ready_at), now),
                    // It answers again, if only to ask for a pause.
                    State::Open | State::Quarantined => self.ready_at = ready_at.max(self.ready_at),
                }
            }
            Outcome::Misconfigured { .. } => {
                self.enter(State::Quarantined, now.after(QUARANTINE).max(self.ready_at), now)
            }
            Outcome::Faulted(_) => {
                self.consecutive_faults = self.consecutive_faults.saturating_add(1);
                let is_probe = self.state != State::Closed && began >= self.ready_at;
                if is_probe || (self.state == State::Closed && self.consecutive_faults >= FAULTS_TO_OPEN) {
                    let ready_at = now.after(self.pause);
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE).max(self.cooldown);
                    let state = if self.state == State::Quarantined { State::Quarantined } else { State::Open };
                    self.enter(state, ready_at.max(self.ready_at), now);
                }
            }
            Outcome::Abandoned => {}
        }
    }

    fn enter(&mut self, state: State, ready_at: Timestamp, now: Timestamp) {
        if state != self.state {
            self.since = now;
        }
        self.state = state;
        self.ready_at = ready_at;
    }

    pub fn since(&self) -> Timestamp {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::{Fault, ThrottleCause};
    use proptest::prelude::*;

    const COOLDOWN: Duration = Duration::from_secs(10);
    const FAULT: Outcome = Outcome::Faulted(Fault::Connect);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    /// Observes (outcome, began, now) in seconds; gives state and the second it is ready.
    fn check(events: &[(Outcome, u64, u64)], expected: (State, u64)) {
        let mut health = Health::new(COOLDOWN);
        for (outcome, began, now) in events {
            health.observe(Report { outcome: *outcome, began: at(*began), now: at(*now) });
        }
        assert_eq!((health.state(), health.ready_at()), (expected.0, at(expected.1)), "{events:?}");
    }

    fn throttled(seconds: u64) -> Outcome {
        Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[test]
    fn the_breaker_opens_after_three_faults_in_a_row_and_closes_on_a_served_probe() {
        check(&[(FAULT, 1, 1), (FAULT, 1, 2)], (State::Closed, 0));
        check(&[(FAULT, 1, 1), (Outcome::Served, 1, 2), (FAULT, 2, 2), (FAULT, 2, 3)], (State::Closed, 0));
        check(&[(FAULT, 1, 1), (FAULT, 1, 2), (FAULT, 1, 3)], (State::Open, 13));
        check(&[(FAULT, 1, 1), (FAULT, 1, 2), (FAULT, 1, 3), (Outcome::Served, 13, 14)], (State::Closed, 0));
    }

    #[test]
    fn a_failed_probe_doubles_the_pause_and_late_news_changes_nothing() {
        let open = [(FAULT, 1, 1), (FAULT, 1, 2), (FAULT, 1, 3)];
        check(&[open[0], open[1], open[2], (FAULT, 13, 14)], (State::Open, 34));
        check(&[open[0], open[1], open[2], (FAULT, 2, 5), (Outcome::Served, 2, 6)], (State::Open, 13));
    }

    #[test]
    fn a_cooldown_is_as_long_as_asked_and_never_cut_short() {
        check(&[(throttled(9), 0, 1)], (State::Cooling, 10));
        check(&[(throttled(9), 0, 1), (throttled(2), 0, 2)], (State::Cooling, 10));
        check(&[(throttled(2), 0, 1), (throttled(9), 0, 2)], (State::Cooling, 11));
        check(&[(Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after: None }, 0, 1)], (State::Cooling, 11));
        check(&[(throttled(9), 0, 1), (Outcome::Served, 0, 3)], (State::Cooling, 10));
        check(&[(throttled(9), 0, 1), (Outcome::Served, 10, 11)], (State::Closed, 0));
    }

    #[test]
    fn wrong_settings_quarantine() {
        check(&[(Outcome::Misconfigured { status: 401 }, 0, 1)], (State::Quarantined, 61));
        check(&[(Outcome::Misconfigured { status: 404 }, 0, 1), (Outcome::Served, 61, 62)], (State::Closed, 0));
    }

    #[test]
    fn a_clients_own_mistake_counts_against_no_one() {
        check(&[(Outcome::Rejected { status: 400 }, 0, 1), (Outcome::Abandoned, 0, 1)], (State::Closed, 0));
    }

    proptest! {
        /// Unless a served answer closes it, the moment to come back only moves later.
        #[test]
        fn ready_at_only_grows_without_a_served_answer(events in prop::collection::vec((0u8..4, 0u64..50, 0u64..20), 1..40)) {
            let mut health = Health::new(COOLDOWN);
            let mut now = 0;
            for (kind, ago, step) in events {
                now += step;
                let outcome = match kind {
                    0 => FAULT,
                    1 => throttled(ago),
                    2 => Outcome::Abandoned,
                    _ => Outcome::Misconfigured { status: 403 },
                };
                let before = health.ready_at();
                health.observe(Report { outcome, began: at(now.saturating_sub(ago)), now: at(now) });
                prop_assert!(health.ready_at() >= before);
            }
        }
    }
}
