//! The atomics of one deployment: what its owner publishes and what leases take. The only file with atomics of health.
//!
//! | field | written by |
//! |---|---|
//! | `state`, `latency`, `faults` | the owning `Resource` |
//! | `ready_at` | the owning `Resource` and leases; both only raise it |
//! | `in_flight`, `probing`, `sample_at` | leases |
//! | `bad_news` | leases raise it, the owner lowers it |
//! | `drained` | the `Pool`, for an operator |

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::balance::health::{Health, State};
use crate::domain::time::Timestamp;

/// Aligned so that two deployments never share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauges {
    state: AtomicU8,
    probing: AtomicBool,
    drained: AtomicBool,
    in_flight: AtomicU32,
    faults: AtomicU32,
    bad_news: AtomicU32,
    ready_at: AtomicU64,
    latency: AtomicU64,
    sample_at: AtomicU64,
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
    /// For the owner: makes its view visible. That view may be older than a lease's `close_until`, whose report
    /// is still on its way, so `ready_at` is never lowered; nor need it be, as only what was asked after it closes again.
    pub fn publish(&self, health: &Health, latency: Duration) {
        self.faults.store(health.consecutive_faults(), Relaxed);
        self.latency.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.ready_at.fetch_max(health.ready_at().0, Relaxed);
        self.state.store(health.state() as u8, Relaxed);
    }

    pub fn state(&self) -> State {
        let state = self.state.load(Relaxed);
        State::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or(State::Closed)
    }

    pub fn ready_at(&self) -> Timestamp {
        Timestamp(self.ready_at.load(Relaxed))
    }

    pub fn latency(&self) -> Duration {
        Duration::from_nanos(self.latency.load(Relaxed))
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
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
        self.in_flight.fetch_sub(1, Relaxed);
        if taken.probe {
            self.probing.store(false, Relaxed);
        }
    }

    /// A 429 closes the way for everyone at once, before the owner has heard of it.
    pub(super) fn close_until(&self, ready_at: Timestamp) {
        self.ready_at.fetch_max(ready_at.0, Relaxed);
    }

    /// A report of trouble is on its way to the owner.
    pub(super) fn bad_news_sent(&self) {
        self.bad_news.fetch_add(1, Relaxed);
    }

    /// It has come, and what follows from it is published.
    pub(super) fn bad_news_heard(&self) {
        self.bad_news.fetch_sub(1, Relaxed);
    }

    /// Whether the owner must hear of a served answer, or may do without: it is due a sample, or has doubts, or will
    /// have some when it has read its mail. Without the last, faults with good answers between them would look like
    /// faults in a row to an owner that is late.
    pub(super) fn wants_report(&self, now: Timestamp) -> bool {
        if self.state() != State::Closed || self.faults.load(Relaxed) != 0 || self.bad_news.load(Relaxed) != 0 {
            return true;
        }
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
    use crate::balance::health::Report;
    use crate::domain::outcome::{Outcome, ThrottleCause};

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
        gauges.publish(&health, Duration::ZERO);
        assert!(!gauges.may_ask(at(4)));
        let retry_after = Some(Duration::from_secs(4));
        let throttled = Outcome::Throttled { cause: ThrottleCause::Unknown, retry_after };
        health.observe(Report { outcome: throttled, began: at(0), now: at(1) });
        gauges.publish(&health, Duration::ZERO);
        assert!(!gauges.may_ask(at(4)) && gauges.may_ask(at(5)));
        health.observe(Report { outcome: Outcome::Served, began: at(5), now: at(6) });
        gauges.publish(&health, Duration::ZERO);
        assert!(gauges.may_ask(at(6)) && gauges.state() == State::Closed);
    }
}
