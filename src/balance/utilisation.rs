//! How full a provisioned deployment is: Azure's leaky bucket, as its answers show it.
//!
//! At 100 % Azure refuses; below, it adds an estimate of the request and drains with time. An answer says how full the
//! bucket was when its request had been added. How much a token adds is learned from pairs of answers, how fast the
//! bucket drains is assumed: Azure documents neither. A deployment that never names its utilisation is never full.
//! Source: <https://learn.microsoft.com/azure/ai-foundry/openai/concepts/provisioned-throughput>

use std::time::Duration;

use crate::domain::time::Timestamp;

/// What is left free below 100 %, so that the 429 is not met: others, whom nobody here knows, fill the bucket too. It
/// costs no throughput, for a bucket drains as fast when it is less full. Every refusal widens it, and time narrows it.
const LEAST_MARGIN: f64 = 0.15;
const MOST_MARGIN: f64 = 0.6;
const WIDER: f64 = 0.1;
/// In a second.
const NARROWER: f64 = 0.001;
/// A full bucket's share that drains in a second: short bursts pass, so the bucket is seconds deep.
const DRAIN: f64 = 0.1;
/// How much a new measurement counts when it is lower than what was believed; higher ones count at once.
const FORGIVE: f64 = 0.2;

#[derive(Clone, Debug, PartialEq)]
pub struct Utilisation {
    level: f64,
    margin: f64,
    drained: Timestamp,
    /// What a token is believed to add; zero until two answers were compared.
    per_token: f64,
    tokens: u64,
    taken: u64,
    corrected: f64,
    heard: Option<Heard>,
}

/// The newest answer that was believed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Heard {
    level: f64,
    mark: Mark,
}

/// What was believed when a request was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    at: Timestamp,
    number: u64,
    /// The request's own, and those of all up to it.
    own: u64,
    tokens: u64,
    level: f64,
    corrected: f64,
}

impl Default for Utilisation {
    fn default() -> Self {
        Self {
            level: 0.0,
            margin: LEAST_MARGIN,
            drained: Timestamp::ZERO,
            per_token: 0.0,
            tokens: 0,
            taken: 0,
            corrected: 0.0,
            heard: None,
        }
    }
}

impl Utilisation {
    /// Brings the level up to `now`; before anything is read of it.
    pub fn roll(&mut self, now: Timestamp) {
        let seconds = now.since(self.drained).as_secs_f64();
        self.level = (self.level - DRAIN * seconds).max(0.0);
        self.margin = (self.margin - NARROWER * seconds).max(LEAST_MARGIN);
        self.drained = self.drained.max(now);
    }

    /// From 0 to a little over 1; `None` when Azure has never named it.
    pub fn level(&self) -> Option<f64> {
        self.heard.map(|_| self.level)
    }

    /// When one more request fits, if it does not now. `None` = now.
    pub fn fits_at(&self) -> Option<Timestamp> {
        let excess = self.level - (1.0 - self.margin);
        let wait = Duration::try_from_secs_f64(excess / DRAIN).ok().filter(|_| excess >= 0.0)?;
        // Below the mark, not on it.
        Some(self.drained.after(wait + Duration::from_millis(1)))
    }

    pub fn take(&mut self, tokens: u64, now: Timestamp) -> Mark {
        self.level += self.per_token * tokens as f64;
        self.tokens = self.tokens.saturating_add(tokens);
        self.taken += 1;
        Mark {
            at: now,
            number: self.taken,
            own: tokens,
            tokens: self.tokens,
            level: self.level,
            corrected: self.corrected,
        }
    }

    /// The answer to the request of `mark` says how full the bucket was with it.
    pub fn heard(&mut self, mark: &Mark, level: f64) {
        if self.heard.is_some_and(|heard| mark.number <= heard.mark.number) {
            return;
        }
        if let Some(before) = self.heard {
            self.learn(&before, mark, level);
        }
        let difference = level - (mark.level + self.corrected - mark.corrected);
        self.correct(difference);
        self.heard = Some(Heard { level, mark: *mark });
    }

    fn learn(&mut self, before: &Heard, mark: &Mark, level: f64) {
        let drained = DRAIN * mark.at.since(before.mark.at).as_secs_f64();
        let grown = level - (before.level - drained).max(0.0);
        let sample = grown.max(0.0) / mark.tokens.saturating_sub(before.mark.tokens).max(1) as f64;
        self.per_token =
            if sample > self.per_token { sample } else { self.per_token * (1.0 - FORGIVE) + sample * FORGIVE };
    }

    /// The request of `mark` added nothing: it never arrived, or was refused before it counted. An answer to it or to a
    /// later one has told that already.
    pub fn give_back(&mut self, mark: &Mark) {
        self.tokens = self.tokens.saturating_sub(mark.own);
        if self.heard.is_none_or(|heard| heard.mark.number < mark.number) {
            self.correct(-self.per_token * mark.own as f64);
        }
    }

    /// Azure refused because the bucket was full, and has room again after `wait`. It may be tried then, margin or not:
    /// what the next answer says counts.
    pub fn refused(&mut self, wait: Duration) {
        self.margin = (self.margin + WIDER).min(MOST_MARGIN);
        self.correct(1.0 - self.margin + DRAIN * wait.as_secs_f64() - self.level);
    }

    fn correct(&mut self, difference: f64) {
        let before = self.level;
        self.level = (self.level + difference).max(0.0);
        self.corrected += self.level - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::ZERO.after(Duration::from_millis(milliseconds))
    }

    fn take(utilisation: &mut Utilisation, tokens: u64, milliseconds: u64) -> Option<Mark> {
        utilisation.roll(at(milliseconds));
        match utilisation.fits_at() {
            Some(_) => None,
            None => Some(utilisation.take(tokens, at(milliseconds))),
        }
    }

    #[test]
    fn a_deployment_that_names_none_is_never_full() {
        let mut utilisation = Utilisation::default();
        assert!((0..1_000).all(|_| take(&mut utilisation, 100_000, 0).is_some()));
        assert_eq!(utilisation.level(), None);
    }

    #[test]
    fn it_is_full_before_azure_says_so_and_drains() {
        let mut utilisation = Utilisation::default();
        let first = take(&mut utilisation, 100, 0).unwrap();
        utilisation.heard(&first, 0.2);
        let second = take(&mut utilisation, 100, 0).unwrap();
        utilisation.heard(&second, 0.4);
        // Two more in flight, and a third would come too close.
        assert!(take(&mut utilisation, 100, 0).is_some() && take(&mut utilisation, 200, 0).is_some());
        assert_eq!(utilisation.level().map(|level| (level * 100.0).round()), Some(100.0));
        assert!(take(&mut utilisation, 100, 1_400).is_none());
        assert!(take(&mut utilisation, 100, 1_600).is_some());
    }

    #[test]
    fn answers_correct_what_was_believed() {
        let mut utilisation = Utilisation::default();
        for (number, level) in [(0, 0.1), (1, 0.2), (2, 0.3)] {
            let mark = take(&mut utilisation, 100, number).unwrap();
            utilisation.heard(&mark, level);
        }
        let old = take(&mut utilisation, 100, 3).unwrap();
        let new = take(&mut utilisation, 100, 3).unwrap();
        utilisation.heard(&new, 0.05);
        assert!(utilisation.level().unwrap() < 0.06, "the estimate was too high");
        utilisation.heard(&old, 0.9);
        assert!(utilisation.level().unwrap() < 0.06, "older than what is known");
    }

    #[test]
    fn what_azure_did_not_count_leaves_no_trace() {
        let mut utilisation = Utilisation::default();
        for (number, level) in [(0, 0.1), (1, 0.2)] {
            let mark = take(&mut utilisation, 100, number).unwrap();
            utilisation.heard(&mark, level);
        }
        let before = utilisation.level().unwrap();
        let long = take(&mut utilisation, 100_000, 2).unwrap();
        assert!(take(&mut utilisation, 1, 2).is_none(), "it was believed to fill the bucket");
        utilisation.give_back(&long);
        assert!((utilisation.level().unwrap() - before).abs() < 0.001);
        // An answer that came meanwhile had told it all: nothing is given back twice.
        let (long, next) = (take(&mut utilisation, 500, 3).unwrap(), take(&mut utilisation, 100, 3).unwrap());
        utilisation.heard(&next, 0.3);
        utilisation.give_back(&long);
        assert!((utilisation.level().unwrap() - 0.3).abs() < 0.001);
    }

    #[test]
    fn a_refusal_fills_it_for_as_long_as_azure_says_and_widens_the_margin() {
        let mut utilisation = Utilisation::default();
        let mark = take(&mut utilisation, 10, 0).unwrap();
        utilisation.heard(&mark, 0.3);
        utilisation.refused(Duration::from_secs(3));
        assert!(take(&mut utilisation, 10, 2_900).is_none());
        let probe = take(&mut utilisation, 10, 3_010).unwrap();
        utilisation.heard(&probe, 1.0);
        // A quarter of it is to be free from now on.
        assert!(take(&mut utilisation, 10, 5_400).is_none());
        assert!(take(&mut utilisation, 10, 5_600).is_some());
        for _ in 0..9 {
            utilisation.refused(Duration::ZERO);
        }
        assert!((utilisation.margin - MOST_MARGIN).abs() < 1e-9);
        utilisation.roll(at(600_000));
        assert!((utilisation.margin - LEAST_MARGIN).abs() < 1e-9, "and time narrows it again");
    }
}
