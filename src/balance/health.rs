//! A deployment's health: the circuit breaker, the cooldown Azure asked for, and quarantine.
//!
//! The breaker opens on faults in a row, and on a bad rate of faults with good answers between them (`success_rate`). It
//! decides when a deployment may be asked again and whether the next request is a probe. It does not decide who asks
//! (`select`), and it never blames a deployment for what is the client's own, nor for what nobody waited for.
//!
//! A breaker's pause is advice for choosing among deployments. Where every deployment that could serve a request is out
//! for its health, the advice is of no use: the router then asks an open one before its time, one request at a time and
//! once in [`LAST_RESORT_EVERY`], and an answer closes the breaker at once. So the end of an outage that took everybody
//! is noticed within about a second, however long the pauses have become, and an outage costs a probe a second and
//! deployment, not a call a request.
//!
//! Where more than half of a tier is open ([`is_panic`]), those that are left carry what is too much for them, or the
//! trouble was not the deployments' own. Then the open ones are probed every [`PANIC_EVERY`], beside what the others
//! serve. They are not simply taken as closed: if they are as dead as they look, most requests would begin with a
//! failure. A pause that a deployment asked for with a 429 is always kept.

use std::time::Duration;

use super::share::{self, FULL, Share};
use super::success_rate::{Counts, SuccessRate};
use crate::domain::outcome::Outcome;
use crate::domain::time::Timestamp;

/// Consecutive faults that open the breaker.
const FAULTS_TO_OPEN: u32 = 3;
/// After a fault that opens no breaker, second attempts go elsewhere for so long.
const SUSPECT: Duration = Duration::from_millis(250);
/// What fails at once costs its request next to nothing, and is asked again so soon: a healed deployment is found out
/// within two seconds. What takes long to fail is asked the more rarely.
const CHEAP_PAUSE: Duration = Duration::from_millis(1_500);
const TIMES_ITS_COST: u32 = 30;
/// A deployment that keeps failing its probes is asked this rarely at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Wrong key, wrong name, blocked network: someone must mend it, so it is tried rarely.
const QUARANTINE: Duration = Duration::from_secs(60);

/// How often an open breaker may be tried when nobody else is left, from its opening on.
pub const LAST_RESORT_EVERY: Duration = Duration::from_secs(1);

/// How often at least, when more than half of a tier is open.
pub const PANIC_EVERY: Duration = Duration::from_secs(5);

/// Whether too many of a tier are out for their health. Who is drained or quarantined is missed by nobody, and who asked
/// for a pause comes back when it said.
pub fn is_panic(tier: impl Iterator<Item = State>) -> bool {
    let (mut open, mut closed) = (0_usize, 0_usize);
    tier.for_each(|state| match state {
        State::Open => open += 1,
        State::Closed => closed += 1,
        State::Cooling | State::Quarantined => {}
    });
    open > closed
}

/// Why a deployment may not be asked, or that it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The breaker is closed: traffic flows.
    Closed,
    /// It asked for a pause (429).
    Cooling,
    /// The breaker is open: it failed too often.
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
    /// The latest.
    faulted: Timestamp,
    rate: SuccessRate,
    /// When the breaker opened last. What was sent before it proves nothing.
    opened: Timestamp,
    /// When the last illness ended: a breaker or a quarantine closed.
    recovered: Option<Timestamp>,
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
            faulted: Timestamp::ZERO,
            rate: SuccessRate::default(),
            opened: Timestamp::ZERO,
            recovered: None,
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

    /// Until when its latest answer, a fault, speaks against it. A fault of long ago says nothing of now, and a second
    /// attempt has nobody better perhaps.
    pub fn suspect_until(&self) -> Timestamp {
        if self.consecutive_faults == 0 { Timestamp::ZERO } else { self.faulted.after(SUSPECT) }
    }

    /// Its share of its weight, as far as its own past goes.
    pub fn share(&self, now: Timestamp) -> Share {
        self.recovered.map_or(FULL, |recovered| share::after_recovery(recovered, now))
    }

    /// When it may be asked before its time, if nobody else is left.
    pub fn last_resort_at(&self) -> Timestamp {
        self.opened.after(LAST_RESORT_EVERY)
    }

    /// So many good answers came since the last time; not every one of them sends a report.
    pub fn answered(&mut self, count: u64, now: Timestamp) {
        self.rate.add(Counts { good: count, bad: 0 }, now);
    }

    /// Takes one report into account.
    pub fn observe(&mut self, report: Report) {
        let Report { outcome, began, now } = report;
        match outcome {
            Outcome::Served | Outcome::Rejected { .. } => {
                // An answer to what was sent before the trouble began proves nothing about it.
                let proves = match self.state {
                    State::Closed => true,
                    State::Open => began >= self.opened,
                    State::Cooling | State::Quarantined => began >= self.ready_at,
                };
                if proves {
                    if matches!(self.state, State::Open | State::Quarantined) {
                        self.recovered = Some(now);
                        self.rate = SuccessRate::default();
                    }
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
                self.faulted = now;
                self.rate.add(Counts { good: 0, bad: 1 }, now);
                let is_probe = self.state != State::Closed && began >= self.ready_at;
                let is_bad = self.consecutive_faults >= FAULTS_TO_OPEN || self.rate.is_bad(now);
                if is_probe || (self.state == State::Closed && is_bad) {
                    self.opened = now;
                    let dear = (now.since(began) * TIMES_ITS_COST).clamp(CHEAP_PAUSE, LONGEST_PAUSE);
                    let ready_at = now.after(self.pause.min(dear));
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
    fn what_fails_at_once_is_asked_again_soon_however_often_it_has_failed() {
        let mut health = Health::new(COOLDOWN);
        let mut now = at(100);
        for _ in 0..9 {
            health.observe(Report { outcome: FAULT, began: now, now: now.after(Duration::from_millis(20)) });
            now = now.after(Duration::from_millis(20)).max(health.ready_at());
        }
        let probe = Report { outcome: FAULT, began: now, now };
        health.observe(probe);
        assert_eq!(health.ready_at().since(now), CHEAP_PAUSE);
        let slow = Report { outcome: FAULT, began: health.ready_at(), now: health.ready_at().after(COOLDOWN) };
        health.observe(slow);
        assert_eq!(health.ready_at().since(slow.now), LONGEST_PAUSE);
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

    /// A second in which this many good answers and faults come, in turn, until the breaker opens.
    fn second(health: &mut Health, second: u64, good: u64, bad: u64) {
        for n in 0..good.max(bad) {
            if n < good && health.state() == State::Closed {
                health.answered(1, at(second));
                health.observe(Report { outcome: Outcome::Served, began: at(second), now: at(second) });
            }
            if n < bad {
                health.observe(Report { outcome: FAULT, began: at(second), now: at(second) });
            }
        }
    }

    #[test]
    fn the_breaker_opens_on_a_bad_rate_though_good_answers_come_between() {
        let mut health = Health::new(COOLDOWN);
        (1..=30).for_each(|now| second(&mut health, now, 10, 2));
        assert_eq!(health.state(), State::Closed, "one in six");
        (31..=33).for_each(|now| second(&mut health, now, 1, 2));
        assert_eq!(health.state(), State::Closed, "the good ones before still count");
        (34..=40).for_each(|now| second(&mut health, now, 4, 5));
        assert_eq!(health.state(), State::Open);
        let ready_at = health.ready_at();
        health.observe(Report { outcome: Outcome::Served, began: ready_at, now: ready_at });
        assert_eq!(health.state(), State::Closed);
        health.observe(Report { outcome: FAULT, began: ready_at, now: ready_at });
        assert_eq!(health.state(), State::Closed, "what was before the recovery does not open it again");
    }

    #[test]
    fn neither_mistakes_of_clients_nor_requests_that_nobody_waited_for_make_a_rate() {
        let mut health = Health::new(COOLDOWN);
        for n in 0..1_000 {
            let outcome = if n % 2 == 0 { Outcome::Rejected { status: 400 } } else { Outcome::Abandoned };
            health.observe(Report { outcome, began: at(1), now: at(1) });
        }
        assert_eq!((health.state(), health.share(at(2))), (State::Closed, FULL));
    }

    #[test]
    fn after_an_illness_the_share_rises_slowly_and_after_a_pause_it_is_whole() {
        let opened = [(FAULT, 1, 1), (FAULT, 1, 2), (FAULT, 1, 3), (Outcome::Served, 13, 14)];
        let quarantined = [(Outcome::Misconfigured { status: 401 }, 0, 1), (Outcome::Served, 61, 62)];
        let paused = [(throttled(9), 0, 1), (Outcome::Served, 10, 11)];
        for (events, first) in [(&opened[..], FULL / 10), (&quarantined[..], FULL / 10), (&paused[..], FULL)] {
            let mut health = Health::new(COOLDOWN);
            for (outcome, began, now) in events {
                assert_eq!(health.share(at(*now)), FULL);
                health.observe(Report { outcome: *outcome, began: at(*began), now: at(*now) });
            }
            let closed = events[events.len() - 1].2;
            assert_eq!((health.share(at(closed)), health.share(at(closed + 10))), (first, FULL));
        }
    }

    #[test]
    fn an_answer_before_its_time_closes_the_breaker_and_a_fault_lengthens_nothing() {
        let open = [(FAULT, 1, 1), (FAULT, 1, 2), (FAULT, 1, 3)];
        check(&[open[0], open[1], open[2], (FAULT, 4, 5)], (State::Open, 13));
        check(&[open[0], open[1], open[2], (Outcome::Served, 4, 5)], (State::Closed, 0));
        let mut health = Health::new(COOLDOWN);
        open.iter().for_each(|(outcome, began, now)| {
            health.observe(Report { outcome: *outcome, began: at(*began), now: at(*now) });
        });
        assert_eq!(health.last_resort_at(), at(4));
    }

    #[test]
    fn more_than_half_of_those_that_should_work_is_a_panic() {
        use State::{Closed, Cooling, Open, Quarantined};
        let panics = |tier: &[State]| is_panic(tier.iter().copied());
        assert!(panics(&[Open]) && panics(&[Open, Open, Closed]) && panics(&[Open, Quarantined, Cooling]));
        assert!(!panics(&[]) && !panics(&[Open, Closed]) && !panics(&[Cooling, Cooling, Quarantined, Closed]));
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
