//! The atomics of one deployment: what its owner publishes and what leases take. The only file with atomics of health.
//!
//! | field | written by |
//! |---|---|
//! | `ready_at`, `state`, `latency`, `faults`, `suspect_until`, `own_share` | the owning `Resource` |
//! | `last_resort_at` | the owning `Resource` and leases; both only raise it |
//! | `quiet_until`, `in_flight`, `probing`, `refused_probes`, `sample_at`, `trial_at`, `answered` | leases |
//! | `bad_news` | leases raise it, the owner lowers it |
//! | `drained`, `share_among_peers` | the `Pool`: for an operator, and by comparison |

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::balance::gray;
use crate::balance::health::{Health, LAST_RESORT_EVERY, State};
use crate::balance::share::{self, FULL, Share};
use crate::domain::time::Timestamp;

/// Aligned so that two deployments never share a cache line, and in this order so that a pick reads one of them.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Gauges {
    ready_at: AtomicU64,
    quiet_until: AtomicU64,
    latency: AtomicU64,
    in_flight: AtomicU32,
    own_share: AtomicU32,
    share_among_peers: AtomicU32,
    faults: AtomicU32,
    suspect_until: AtomicU64,
    state: AtomicU8,
    probing: AtomicBool,
    drained: AtomicBool,
    refused_probes: AtomicU8,
    bad_news: AtomicU32,
    sample_at: AtomicU64,
    last_resort_at: AtomicU64,
    trial_at: AtomicU64,
    answered: AtomicU64,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            ready_at: AtomicU64::default(),
            quiet_until: AtomicU64::default(),
            latency: AtomicU64::default(),
            in_flight: AtomicU32::default(),
            own_share: AtomicU32::new(FULL),
            share_among_peers: AtomicU32::new(FULL),
            faults: AtomicU32::default(),
            suspect_until: AtomicU64::default(),
            state: AtomicU8::default(),
            probing: AtomicBool::default(),
            drained: AtomicBool::default(),
            refused_probes: AtomicU8::default(),
            bad_news: AtomicU32::default(),
            sample_at: AtomicU64::default(),
            last_resort_at: AtomicU64::default(),
            trial_at: AtomicU64::default(),
            answered: AtomicU64::default(),
        }
    }
}

/// What an operator wants of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// No new requests; those in flight finish.
    Drained,
}

/// A healthy deployment's owner need not hear of every answer; this often is enough for its latency.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

impl Gauges {
    /// For the owner: makes its view visible. That view may be older than a lease's `close_until`, whose report is still
    /// on its way and has a place of its own.
    pub fn publish(&self, health: &Health, latency: Duration, now: Timestamp) {
        self.faults.store(health.consecutive_faults(), Relaxed);
        self.suspect_until.store(health.suspect_until().0, Relaxed);
        self.latency.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.last_resort_at.fetch_max(health.last_resort_at().0, Relaxed);
        self.ready_at.store(health.ready_at().0, Relaxed);
        self.own_share.store(health.share(now), Relaxed);
        self.state.store(health.state() as u8, Relaxed);
    }

    pub fn state(&self) -> State {
        let state = self.state.load(Relaxed);
        State::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or(State::Closed)
    }

    /// When its pause ends: the breaker's, or the one that it asked for.
    pub fn ready_at(&self) -> Timestamp {
        Timestamp(self.ready_at.load(Relaxed).max(self.quiet_until.load(Relaxed)))
    }

    /// Of its weight: lowered after an illness, and for answering worse than its peers.
    pub fn share(&self) -> Share {
        share::product(self.own_share.load(Relaxed), self.share_among_peers.load(Relaxed))
    }

    /// The latter alone.
    pub fn share_among_peers(&self) -> Share {
        self.share_among_peers.load(Relaxed)
    }

    pub(super) fn set_share_among_peers(&self, share: Share) {
        self.share_among_peers.store(share, Relaxed);
    }

    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Relaxed))
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Acquire)
    }

    /// Whether a probe is on its way.
    pub fn is_probing(&self) -> bool {
        self.probing.load(Relaxed)
    }

    pub fn consecutive_faults(&self) -> u32 {
        self.faults.load(Relaxed)
    }

    /// Whether an operator keeps new requests away.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    pub(super) fn switch(&self, flow: Flow) {
        self.drained.store(flow == Flow::Drained, Relaxed);
    }

    /// Whether a request may be sent now, as far as health goes.
    pub fn may_ask(&self, now: Timestamp) -> bool {
        now >= self.ready_at() && (self.state() == State::Closed || !self.probing.load(Relaxed))
    }

    /// Whether second attempts had better go elsewhere: it is out for its health, or its latest answer was a fault, a
    /// moment ago.
    pub fn is_known_bad(&self, now: Timestamp) -> bool {
        now.0 < self.suspect_until.load(Relaxed) || matches!(self.state(), State::Open | State::Quarantined)
    }

    /// When it may be asked although its breaker is open, because nobody else is left; `None` when its breaker is not.
    pub fn last_resort_at(&self) -> Option<Timestamp> {
        let at = self.last_resort_at.load(Relaxed).max(self.quiet_until.load(Relaxed));
        (self.state() == State::Open).then(|| Timestamp(at).min(self.ready_at()))
    }

    /// Whether it may be asked now although its breaker is open, so long after the last time; the next time is later
    /// then, whoever asks.
    pub fn claim_last_resort(&self, every: Duration, now: Timestamp) -> bool {
        let at = self.last_resort_at.load(Relaxed);
        let later = every.saturating_sub(LAST_RESORT_EVERY);
        let may = self.last_resort_at().is_some_and(|at| now >= at.after(later)) && !self.probing.load(Relaxed);
        may && self.last_resort_at.compare_exchange(at, now.after(LAST_RESORT_EVERY).0, Relaxed, Relaxed).is_ok()
    }

    /// Whether this request is to find out if a lowered share is still deserved.
    pub fn claim_trial(&self, now: Timestamp, random: impl FnOnce(u64) -> u64) -> bool {
        let last = self.trial_at.load(Relaxed);
        gray::is_trial_due(Timestamp(last), now, random)
            && self.trial_at.compare_exchange(last, now.0, Relaxed, Relaxed).is_ok()
    }

    /// Good answers so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    pub(super) fn count_answer(&self) {
        self.answered.fetch_add(1, Relaxed);
        if self.refused_probes.load(Relaxed) != 0 {
            self.refused_probes.store(0, Relaxed);
        }
    }

    /// How many probes have been answered 429 in a row, with this one if it was a probe.
    pub(super) fn count_refusal(&self, taken: &Taken) -> u32 {
        let before = self.refused_probes.load(Relaxed);
        let count = if taken.probe { before.saturating_add(1) } else { before };
        self.refused_probes.store(count, Relaxed);
        u32::from(count)
    }

    /// Takes the right to send one request; gives `None` when another took the last one first.
    pub(super) fn take(&self) -> Option<Taken> {
        let probe = self.state() != State::Closed;
        if probe && self.probing.swap(true, Relaxed) {
            return None;
        }
        self.in_flight.fetch_add(1, Relaxed);
        Some(Taken { probe })
    }

    pub(super) fn give_back(&self, taken: Taken) {
        self.in_flight.fetch_sub(1, Release);
        if taken.probe {
            self.probing.store(false, Relaxed);
        }
    }

    /// What was taken to find out whether it works has found that out, and is kept.
    pub(super) fn end_probe(&self, taken: &mut Taken) {
        if std::mem::take(&mut taken.probe) {
            self.probing.store(false, Relaxed);
        }
    }

    /// A 429 closes the way for everyone at once, before the owner has heard of it.
    pub(super) fn close_until(&self, quiet_until: Timestamp) {
        self.quiet_until.fetch_max(quiet_until.0, Relaxed);
    }

    /// A report of trouble is on its way to the owner.
    pub(super) fn bad_news_sent(&self) {
        self.bad_news.fetch_add(1, Relaxed);
    }

    /// It has come, and what follows from it is published.
    pub(super) fn bad_news_heard(&self) {
        self.bad_news.fetch_sub(1, Release);
    }

    /// Whether a report of trouble has not come to the owner yet: until then the state tells nothing of it.
    pub fn has_unheard_news(&self) -> bool {
        self.bad_news.load(Acquire) != 0
    }

    /// Whether the owner must hear of a served answer, or may do without: it is due a sample, or has doubts, or will
    /// have some when it has read its mail. Without the last, faults with good answers between them would look like
    /// faults in a row to an owner that is late.
    pub(super) fn wants_report(&self, now: Timestamp) -> bool {
        if self.state() != State::Closed || self.faults.load(Relaxed) != 0 || self.has_unheard_news() {
            return true;
        }
        self.claim_sample(now)
    }

    /// Whether the owner is due a sample of how quickly answers come.
    pub(super) fn claim_sample(&self, now: Timestamp) -> bool {
        let due = self.sample_at.load(Relaxed);
        now.0 >= due && self.sample_at.compare_exchange(due, now.after(SAMPLE_EVERY).0, Relaxed, Relaxed).is_ok()
    }
}

/// What a lease holds of the gauges.
#[derive(Debug)]
pub(super) struct Taken {
    probe: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::health::{PANIC_EVERY, Report};
    use crate::domain::outcome::{Fault, Outcome, ThrottleCause};

    #[test]
    fn good_answers_between_faults_are_heard_of_by_an_owner_that_is_late() {
        let gauges = Gauges::default();
        let now = Timestamp::ZERO;
        assert!(gauges.wants_report(now) && !gauges.wants_report(now), "a sample, and no more for a while");
        gauges.bad_news_sent();
        assert!(gauges.wants_report(now));
        gauges.bad_news_heard();
        assert!(!gauges.wants_report(now));
    }

    #[test]
    fn a_429_holds_while_its_report_is_on_its_way() {
        let cooldown = Duration::from_secs(10);
        let (gauges, mut health) = (Gauges::default(), Health::new(cooldown));
        let at = |seconds| Timestamp::ZERO.after(Duration::from_secs(seconds));
        gauges.close_until(at(5));
        // The owner reads its mail in order, and an older answer comes first.
        health.observe(Report { outcome: Outcome::Served, began: at(0), now: at(1) });
        gauges.publish(&health, Duration::ZERO, at(1));
        assert!(!gauges.may_ask(at(4)));
        let retry_after = Some(Duration::from_secs(4));
        let throttled = Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after };
        health.observe(Report { outcome: throttled, began: at(0), now: at(1) });
        gauges.publish(&health, Duration::ZERO, at(1));
        assert!(!gauges.may_ask(at(4)) && gauges.may_ask(at(5)));
        health.observe(Report { outcome: Outcome::Served, began: at(5), now: at(6) });
        gauges.publish(&health, Duration::ZERO, at(1));
        assert!(gauges.may_ask(at(6)) && gauges.state() == State::Closed);
    }

    proptest::proptest! {
        /// However refusals come in, and whoever has heard of them, the latest of their ends counts.
        #[test]
        fn the_deadline_is_the_latest_of_all(
            refusals in proptest::collection::vec((0u64..500, 200u64..30_000, proptest::bool::ANY), 1..30),
        ) {
            let (gauges, mut health) = (Gauges::default(), Health::new(Duration::from_secs(10)));
            let (mut now, mut latest) = (0, 0);
            for (step, pause, is_reported) in refusals {
                now += step;
                latest = latest.max(now + pause);
                gauges.close_until(at(now + pause));
                if is_reported {
                    let retry_after = Some(Duration::from_millis(pause));
                    let outcome = Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after };
                    health.observe(Report { outcome, began: at(0), now: at(now) });
                    gauges.publish(&health, Duration::ZERO, at(now));
                }
                proptest::prop_assert_eq!(gauges.ready_at(), at(latest));
                proptest::prop_assert!(!gauges.may_ask(at(latest - 1)) && gauges.may_ask(at(latest)));
            }
        }
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(milliseconds))
    }

    /// Its breaker opened at 3 s, for ten.
    fn open() -> (Gauges, Health) {
        let (gauges, mut health) = (Gauges::default(), Health::new(Duration::from_secs(10)));
        for now in [1_000, 2_000, 3_000] {
            health.observe(Report { outcome: Outcome::Faulted(Fault::Connect), began: at(now - 1_000), now: at(now) });
        }
        gauges.publish(&health, Duration::ZERO, at(3_000));
        (gauges, health)
    }

    #[test]
    fn the_last_resort_is_asked_once_a_second_and_its_answer_opens_the_way() {
        let (gauges, mut health) = open();
        assert!(gauges.is_known_bad(at(9_000)) && !gauges.may_ask(at(12_999)) && gauges.may_ask(at(13_000)));
        assert!(!gauges.claim_last_resort(LAST_RESORT_EVERY, at(3_999)), "so soon after its opening it is not asked");
        assert!(
            gauges.claim_last_resort(LAST_RESORT_EVERY, at(4_000))
                && !gauges.claim_last_resort(LAST_RESORT_EVERY, at(4_999))
        );
        assert!(gauges.claim_last_resort(LAST_RESORT_EVERY, at(5_000)));
        assert!(!gauges.claim_last_resort(PANIC_EVERY, at(9_999)) && gauges.claim_last_resort(PANIC_EVERY, at(10_000)));
        health.observe(Report { outcome: Outcome::Served, began: at(5_000), now: at(5_100) });
        gauges.publish(&health, Duration::ZERO, at(5_100));
        assert!(gauges.may_ask(at(5_100)) && !gauges.is_known_bad(at(5_100)) && gauges.share() == FULL / 10);
        assert!(!gauges.claim_last_resort(LAST_RESORT_EVERY, at(9_000)), "a closed one is nobody's last resort");
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_even_by_a_last_resort() {
        let (gauges, _) = open();
        gauges.close_until(at(8_000));
        assert!(
            !gauges.claim_last_resort(LAST_RESORT_EVERY, at(7_999))
                && gauges.claim_last_resort(LAST_RESORT_EVERY, at(8_000))
        );
    }

    #[test]
    fn one_probe_at_a_time_also_as_a_last_resort() {
        let (gauges, _) = open();
        let taken = gauges.take().unwrap();
        assert!(!gauges.claim_last_resort(LAST_RESORT_EVERY, at(6_000)) && gauges.take().is_none());
        gauges.give_back(taken);
        assert!(gauges.claim_last_resort(LAST_RESORT_EVERY, at(6_000)));
    }
}
