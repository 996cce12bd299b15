//! The limits per minute of one key, or of one user with all of their keys: requests, tokens, concurrency.
//!
//! Requests per minute are governor's; concurrency is a counter whose place gives itself back; tokens are a window that
//! takes an estimate and is told the truth. What a period allows is a quota's to say.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::refusal::{Limited, Whose};
use crate::balance::token_window::{Mark, TokenWindow};
use crate::domain::time::Timestamp;
use crate::settings::model::Limits;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limits: Limits,
    whose: Whose,
    rpm: Option<Arc<Limiter>>,
    tokens: Option<Arc<TokenLimit>>,
    in_flight: Arc<AtomicU32>,
}

/// What the caller's `x-ratelimit-*` headers say of requests, or of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub limit: u32,
    /// How many would be admitted at once now.
    pub remaining: u32,
    /// Until all are free again.
    pub reset: Duration,
}

/// One request's place among those at once.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Meter {
    pub(super) fn new(limits: Limits, whose: Whose) -> Self {
        let rpm = limits.rpm.and_then(NonZeroU32::new).map(|rpm| {
            let quota = Quota::per_minute(rpm).allow_burst(burst(limits, rpm));
            Arc::new(RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>())
        });
        let tokens = limits.tpm.map(|tpm| Arc::new(TokenLimit::new(tpm)));
        Self { limits, whose, rpm, tokens, in_flight: Arc::default() }
    }

    /// Other limits; who is in flight, and what was taken of those that stay, is known on.
    pub(super) fn changed(&self, limits: Limits) -> Self {
        let mut meter = Self { in_flight: self.in_flight.clone(), ..Self::new(limits, self.whose) };
        if (limits.rpm, limits.burst) == (self.limits.rpm, self.limits.burst) {
            meter.rpm = self.rpm.clone();
        }
        if let (Some(kept), Some(tpm)) = (&self.tokens, limits.tpm) {
            kept.window().set_limit(Some(tpm.into()));
            meter.tokens = Some(kept.clone());
        }
        meter
    }

    /// A place among the requests at once.
    pub(super) fn place(&self) -> Result<Place, Limited> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        // From here on the place gives itself back, also on the way out with a refusal.
        let place = Place(self.in_flight.clone());
        let whose = self.whose;
        if let Some(most) = self.limits.concurrency
            && before >= most
        {
            return Err(Limited::Concurrency { most, whose });
        }
        Ok(place)
    }

    /// One request of the minute.
    pub(super) fn take_request(&self) -> Result<Option<Figures>, Limited> {
        let whose = self.whose;
        if self.limits.rpm == Some(0) {
            return Err(Limited::Requests { retry_after: Duration::from_secs(60), rpm: 0, whose });
        }
        let mut figures = None;
        if let (Some(limiter), Some(rpm)) = (&self.rpm, self.limits.rpm) {
            let snapshot = limiter.check().map_err(|not_until| {
                let retry_after = not_until.wait_time_from(DefaultClock::default().now());
                Limited::Requests { retry_after, rpm, whose }
            })?;
            let (remaining, quota) = (snapshot.remaining_burst_capacity(), snapshot.quota());
            let used = quota.burst_size().get().saturating_sub(remaining);
            figures = Some(Figures { limit: rpm, remaining, reset: quota.replenish_interval() * used });
        }
        Ok(figures)
    }

    pub(super) fn tokens(&self) -> Option<(&Arc<TokenLimit>, Whose)> {
        self.tokens.as_ref().map(|tokens| (tokens, self.whose))
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }
}

/// Requests that may come at once: any 60 seconds admit at most `rpm + burst`.
fn burst(limits: Limits, rpm: NonZeroU32) -> NonZeroU32 {
    limits.burst.and_then(NonZeroU32::new).unwrap_or_else(|| {
        // A quarter, but at least 4: ChatGPT-Next-Web and Open WebUI send several requests a turn.
        NonZeroU32::new((rpm.get() / 4).max(4)).unwrap_or(rpm)
    })
}

/// Tokens per minute, for all workers.
#[derive(Debug)]
pub(super) struct TokenLimit {
    window: Mutex<TokenWindow>,
}

/// Tokens of one request that were taken: given back when dropped, or replaced by the truth.
#[derive(Debug)]
pub(super) struct Taken {
    limit: Arc<TokenLimit>,
    /// None: settled.
    mark: Option<Mark>,
}

/// Why tokens were not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scarce {
    pub(super) tpm: u32,
    /// Until what was asked for fits, if nothing more comes in between. None: it never will.
    pub(super) retry_after: Option<Duration>,
    pub(super) room: u64,
}

impl TokenLimit {
    fn new(tpm: u32) -> Self {
        Self { window: Mutex::new(TokenWindow::new(Some(tpm.into()))) }
    }

    fn window(&self) -> MutexGuard<'_, TokenWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `full`, or all that is left where at least `least` is.
    pub(super) fn take(self: &Arc<Self>, full: u64, least: u64, now: Timestamp) -> Result<Taken, Scarce> {
        let mut window = self.window();
        window.roll(now);
        let limit = window.limit().unwrap_or(u64::MAX);
        let room = limit.saturating_sub(window.used());
        if least > room {
            let wait = || window.fits_at(least).map_or(Duration::ZERO, |fits| fits.since(now));
            let retry_after = (least <= limit).then(wait);
            return Err(Scarce { tpm: clip(limit), retry_after, room });
        }
        let mark = window.take(full.min(room), now);
        drop(window);
        Ok(Taken { limit: self.clone(), mark: Some(mark) })
    }

    /// Counts what nobody took beforehand.
    pub(super) fn spend(&self, tokens: u64, now: Timestamp) {
        let mut window = self.window();
        window.roll(now);
        window.take(tokens, now);
    }

    pub(super) fn figures(&self, now: Timestamp) -> Figures {
        let mut window = self.window();
        window.roll(now);
        let limit = window.limit().unwrap_or(u64::MAX);
        let reset = window.clears_at().map_or(Duration::ZERO, |clears| clears.since(now));
        Figures { limit: clip(limit), remaining: clip(limit.saturating_sub(window.used())), reset }
    }
}

fn clip(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

impl Taken {
    pub(super) fn settle(&mut self, truth: u64) {
        if let Some(mark) = self.mark.take() {
            self.limit.window().settle(&mark, truth);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.limit.window().give_back(&mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_secs(seconds))
    }

    fn limit(tpm: u32) -> Arc<TokenLimit> {
        Arc::new(TokenLimit::new(tpm))
    }

    #[test]
    fn who_comes_back_when_told_finds_room() {
        let limit = limit(100);
        let mut first = limit.take(60, 60, at(0)).unwrap();
        first.settle(50);
        let _second = limit.take(40, 40, at(10)).unwrap();
        let scarce = limit.take(30, 30, at(20)).unwrap_err();
        let wait = scarce.retry_after.unwrap();
        assert_eq!((scarce.room, wait), (10, Duration::from_secs(41)), "until what began first is a minute old");
        let just_before = at(20).after(wait - Duration::from_millis(1));
        assert!(limit.take(30, 30, just_before).is_err());
        assert!(limit.take(30, 30, at(20).after(wait)).is_ok());
        assert_eq!(limit.take(101, 101, at(20)).unwrap_err().retry_after, None);
    }

    #[test]
    fn what_is_dropped_is_given_back_and_a_request_without_a_cap_takes_what_is_left() {
        let limit = limit(100);
        let taken = limit.take(4_000, 10, at(0)).unwrap();
        assert_eq!(limit.figures(at(0)).remaining, 0);
        assert!(limit.take(1, 1, at(0)).is_err());
        drop(taken);
        let figures = limit.figures(at(1));
        assert_eq!((figures.limit, figures.remaining, figures.reset), (100, 100, Duration::ZERO));
    }

    #[test]
    fn another_limit_knows_what_was_taken_and_another_rate_keeps_its_state() {
        let limits = Limits { rpm: Some(60), tpm: Some(100), concurrency: None, burst: Some(1) };
        let meter = Meter::new(limits, Whose::Key);
        let (limit, _) = meter.tokens().unwrap();
        let _taken = limit.take(80, 80, at(0)).unwrap();
        meter.take_request().unwrap();
        let changed = meter.changed(Limits { tpm: Some(90), concurrency: Some(5), ..limits });
        assert_eq!(changed.tokens().unwrap().0.figures(at(0)).remaining, 10);
        assert!(matches!(changed.take_request(), Err(Limited::Requests { .. })), "the second goes on");
        let freed = changed.changed(Limits { tpm: None, rpm: Some(6_000), ..limits });
        assert!(freed.tokens().is_none() && freed.take_request().is_ok());
    }
}
