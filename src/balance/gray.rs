//! Gray failure: a deployment that answers, and answers badly. Its first byte is late, its tokens drip, its answers break.
//!
//! What is bad is told by comparison with the peers of the same tier at the same time: they get the same mix of
//! requests from the same gateway, so a slow model, long prompts, a slow hour of the whole region pair or our own
//! lateness show in all of them alike and lower nobody's share. A comparison with a deployment's own past would need to
//! know whether the requests were the same then. The best of a tier always keeps its whole share, so nothing here can
//! leave a tier without deployments, and one that has no peers is left as it is.
//!
//! Medians of a few recent answers are compared, because single answers vary by more than any illness. A deployment
//! whose share is lowered is still asked now and then ([`is_trial_due`]), and its newest three answers are enough to give
//! the share back, a step every look.

use std::time::Duration;

use smallvec::SmallVec;

use super::share::{FULL, Share};
use super::success_rate::{Counts, SuccessRate};
use crate::domain::outcome::Outcome;
use crate::domain::time::Timestamp;

/// How often tiers are looked at.
pub const EVERY: Duration = Duration::from_secs(1);

/// How quickly an answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// To the first content; and for each token after it, where there were enough to tell.
    Streamed { first: Duration, per_token: Option<Duration> },
    /// To the end of an answer that was not streamed.
    Whole { took: Duration, output_tokens: u32 },
}

impl Speed {
    /// What the client waited for before anything came.
    pub fn first(self) -> Duration {
        match self {
            Self::Streamed { first, .. } => first,
            Self::Whole { took, .. } => took,
        }
    }
}

/// So many times slower than its peers is slow.
const SLOW: f64 = 4.0;
/// So many faults among its answers, beside the breaker's own rules, are too many.
const FAULTY: f64 = 0.02;
/// Fewer faults than this may be chance; one is enough to leave a share lowered.
const FAULTS: u64 = 3;
/// Faults and answers count for so long. An answer that nobody has repeated since says nothing about now.
const FAULTS_LAST: Duration = Duration::from_secs(30);
const SAMPLES_LAST: Duration = Duration::from_secs(60);
/// The smallest share.
const LEAST: Share = FULL / 50;
/// The smallest share that a rise begins with; each look doubles it.
const RISE: Share = FULL / 10;

/// What waiting this much longer than the peers is never held against anybody: before the first byte, for a token
/// (20 a second are fluent reading), and for a token of a whole answer.
const FIRST_MARGIN: Duration = Duration::from_millis(100);
const TOKEN_MARGIN: Duration = Duration::from_millis(50);
const WHOLE_MARGIN: Duration = Duration::from_millis(2);
/// Tokens that the beginning of an answer takes as long as, roughly: answers of different lengths become comparable.
const BEGINNING: u32 = 50;

/// What was measured of one deployment; the owner adds, and whoever compares reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    first: Samples,
    per_token: Samples,
    whole: Samples,
    faults: SuccessRate,
}

/// One deployment as it stands in a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signs {
    pub first: Option<Typical>,
    pub per_token: Option<Typical>,
    pub whole: Option<Typical>,
    pub faults: Counts,
}

/// Medians.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typical {
    pub lately: Duration,
    /// Of the newest three: both must be slow, so a recovery shows at once.
    pub newest: Duration,
}

impl Vitals {
    /// An attempt that `began` then was served so quickly, or is being served so quickly so far.
    pub fn add_speed(&mut self, speed: Speed, began: Timestamp) {
        match speed {
            Speed::Streamed { first, per_token } => {
                self.first.add(first, began);
                if let Some(per_token) = per_token {
                    self.per_token.add(per_token, began);
                }
            }
            Speed::Whole { took, output_tokens } => {
                self.whole.add(took / output_tokens.saturating_add(BEGINNING), began);
            }
        }
    }

    /// How a stream is doing that has not ended.
    pub fn add_pace(&mut self, per_token: Duration, began: Timestamp) {
        self.per_token.add(per_token, began);
    }

    /// `answered`: answers since the last time; and how one attempt ended.
    pub fn count(&mut self, answered: u64, outcome: Outcome, now: Timestamp) {
        let bad = u64::from(matches!(outcome, Outcome::Faulted(_)));
        self.faults.add(Counts { good: answered, bad }, now);
    }

    /// What was measured before an illness says nothing about the time after it.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    pub fn signs(&self, now: Timestamp) -> Signs {
        Signs {
            first: self.first.typical(now),
            per_token: self.per_token.typical(now),
            whole: self.whole.typical(now),
            faults: self.faults.last(FAULTS_LAST, now),
        }
    }
}

/// The shares of the deployments of one tier, from what they show and the shares they have.
pub fn shares(tier: &[(Signs, Share)]) -> SmallVec<[Share; 16]> {
    let all = |kind: fn(&Signs) -> Option<Typical>| Peers::new(tier.iter().filter_map(|(signs, _)| kind(signs)));
    let first = all(|signs| signs.first);
    let per_token = all(|signs| signs.per_token);
    let whole = all(|signs| signs.whole);
    let wanted = tier.iter().map(|(own, before)| {
        let slowness = first
            .slowness(own.first, FIRST_MARGIN)
            .max(per_token.slowness(own.per_token, TOKEN_MARGIN))
            .max(whole.slowness(own.whole, WHOLE_MARGIN));
        let fewest = if *before < FULL { 1 } else { FAULTS };
        let faultiness = if own.faults.bad >= fewest { own.faults.fault_rate() / FAULTY } else { 0.0 };
        // Twice as bad is eight times as rare: where loads are equal, the draw of two gives a small share twice.
        let excess = (slowness / SLOW).max(faultiness).max(1.0);
        excess.powi(-3)
    });
    let wanted: SmallVec<[f64; 16]> = wanted.collect();
    let best = wanted.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let shares = wanted.iter().zip(tier).map(|(wanted, (_, before))| {
        let share = (wanted / best * f64::from(FULL)) as Share;
        share.clamp(LEAST, FULL).min(before.saturating_mul(2).max(RISE))
    });
    shares.collect()
}

/// One kind of measurement of all in a tier, in order.
struct Peers(SmallVec<[Duration; 16]>);

impl Peers {
    fn new(typical: impl Iterator<Item = Typical>) -> Self {
        let mut sorted: SmallVec<[Duration; 16]> = typical.map(|typical| typical.lately).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// How many times slower than the others; 0 when there is nothing to compare, or nothing worth it.
    fn slowness(&self, own: Option<Typical>, margin: Duration) -> f64 {
        let Some(own) = own.filter(|_| self.0.len() > 1) else { return 0.0 };
        let place = self.0.partition_point(|other| *other < own.lately);
        // The median of the others; of two the better one, because two of three may be ill at the same time.
        let middle = (self.0.len() - 2) / 2;
        let usual = self.0[if middle < place { middle } else { middle + 1 }];
        let own = own.lately.min(own.newest);
        if own <= usual + margin { 0.0 } else { own.as_secs_f64() / usual.as_secs_f64().max(1e-6) }
    }
}

/// A lowered share is tried at least this often, if requests come: nobody else would learn that it has healed.
pub const TRIAL_EVERY: Duration = Duration::from_secs(5);
/// When trials are due, one of so many requests is one: where few come, most go where they are answered well.
const TRIALS_AMONG: u64 = 10;

/// Whether this request may be a trial. `random` gives a number below its argument.
pub fn is_trial_due(last: Timestamp, now: Timestamp, random: impl FnOnce(u64) -> u64) -> bool {
    now.since(last) >= TRIAL_EVERY && random(TRIALS_AMONG) == 0
}

/// The newest few measurements of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Samples {
    /// With the moment its attempt began: a stream that began before the healing ends long after it.
    ring: [(Timestamp, Duration); SAMPLES],
    count: usize,
}

const SAMPLES: usize = 11;
/// Fewer are no basis for a comparison.
const ENOUGH: usize = 5;
const NEWEST: usize = 3;

impl Samples {
    fn add(&mut self, sample: Duration, began: Timestamp) {
        if self.count < SAMPLES {
            self.ring[self.count] = (began, sample);
            self.count += 1;
        } else if let Some(oldest) = self.ring.iter_mut().min_by_key(|(began, _)| *began)
            && oldest.0 <= began
        {
            *oldest = (began, sample);
        }
    }

    fn typical(&self, now: Timestamp) -> Option<Typical> {
        let known = self.ring[..self.count].iter().filter(|(began, _)| now.since(*began) < SAMPLES_LAST);
        let mut known: SmallVec<[(Timestamp, Duration); SAMPLES]> = known.copied().collect();
        if known.len() < ENOUGH {
            return None;
        }
        known.sort_unstable();
        let newest = median(known[known.len() - NEWEST..].iter().map(|(_, sample)| *sample));
        Some(Typical { lately: median(known.iter().map(|(_, sample)| *sample)), newest })
    }
}

/// The lower one of two in the middle; zero of none.
fn median(samples: impl Iterator<Item = Duration>) -> Duration {
    let mut samples: SmallVec<[Duration; SAMPLES]> = samples.collect();
    samples.sort_unstable();
    samples.get(samples.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
