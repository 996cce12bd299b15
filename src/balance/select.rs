//! Picks one candidate: the lowest tier that has any, then two weighted draws of which the less loaded wins.
//!
//! Drawing twice instead of taking the best keeps simultaneous requests from all choosing the same deployment.
//! Source: Mitzenmacher, "The power of two choices in randomized load balancing" (2001).

use std::time::Duration;

use super::share::Share;

/// What the choice needs to know of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Where it stands in the caller's list.
    pub index: usize,
    /// At least 1.
    pub weight: u32,
    /// How much of its weight it gets now.
    pub share: Share,
    pub in_flight: u32,
    /// Zero = not measured yet: it is tried before those that are known.
    pub latency: Duration,
    /// What Azure would still let in this minute, in any one unit; `u64::MAX` = not known.
    pub headroom: u64,
}

impl Candidate {
    /// Its weight in proportion to its headroom, so that unequal deployments run out at the same time and not the
    /// smallest first. One that is not known counts as the roomiest.
    fn tickets(&self, roomiest: u64) -> u64 {
        let headroom = self.headroom.min(roomiest) as f64 / roomiest as f64;
        // Finer than the weights themselves, and at least one ticket.
        (self.weight() * headroom) as u64 + 1
    }

    /// In thousandths.
    fn weight(&self) -> f64 {
        f64::from(self.weight.max(1)) * f64::from(self.share.max(1))
    }

    /// Expected wait: latency times the queue it would join, a heavy deployment's queue counting less.
    pub fn load(&self) -> f64 {
        let queue = f64::from(self.in_flight) * 100_000.0 / self.weight() + 1.0;
        (self.latency.as_secs_f64() + 1e-6) * queue
    }

    /// As it was before its newest request.
    pub fn with_one_less(self) -> Self {
        Self { in_flight: self.in_flight.saturating_sub(1), ..self }
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub index: usize,
    /// The index of the other that was drawn; none when the same was drawn twice, or there was no other.
    pub rival: Option<usize>,
}

/// The chosen candidate; `None` when there is none. `random` gives a number below its argument.
pub fn pick(candidates: &[Candidate], mut random: impl FnMut(u64) -> u64) -> Option<Picked> {
    match candidates {
        [] => None,
        [only] => Some(Picked { index: only.index, rival: None }),
        _ => {
            let known = candidates.iter().map(|candidate| candidate.headroom).filter(|headroom| *headroom != u64::MAX);
            let roomiest = known.max().unwrap_or(1).max(1);
            let total: u64 = candidates.iter().map(|candidate| candidate.tickets(roomiest)).sum();
            let first = draw(candidates, roomiest, random(total));
            let second = draw(candidates, roomiest, random(total));
            let (winner, loser) = if second.load() < first.load() { (second, first) } else { (first, second) };
            Some(Picked { index: winner.index, rival: (loser.index != winner.index).then_some(loser.index) })
        }
    }
}

fn draw(candidates: &[Candidate], roomiest: u64, mut ticket: u64) -> &Candidate {
    let last = &candidates[candidates.len() - 1];
    for candidate in candidates {
        let tickets = candidate.tickets(roomiest);
        if ticket < tickets {
            return candidate;
        }
        ticket -= tickets;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::share::FULL;
    use proptest::prelude::*;

    fn candidate(index: usize, weight: u32, in_flight: u32, milliseconds: u64) -> Candidate {
        let latency = Duration::from_millis(milliseconds);
        Candidate { index, weight, share: FULL, in_flight, latency, headroom: u64::MAX }
    }

    /// How often each of equal candidates with these headrooms is picked, of 30,000.
    fn shares(headrooms: [u64; 3]) -> [usize; 3] {
        let mut candidates = [candidate(0, 100, 0, 50), candidate(1, 100, 0, 50), candidate(2, 100, 0, 50)];
        candidates.iter_mut().zip(headrooms).for_each(|(candidate, headroom)| candidate.headroom = headroom);
        let (mut rng, mut picked) = (fastrand::Rng::with_seed(7), [0; 3]);
        for _ in 0..30_000 {
            picked[pick(&candidates, |below| rng.u64(..below)).unwrap().index] += 1;
        }
        picked
    }

    #[test]
    fn those_with_more_headroom_get_more() {
        let [small, middle, large] = shares([1_000, 3_000, 6_000]);
        assert!((2_700..3_300).contains(&small) && (8_500..9_500).contains(&middle), "{small} {middle} {large}");
        let [known, unknown, other] = shares([1_000, u64::MAX, 1_000]);
        assert!(
            [known, unknown, other].iter().all(|share| (9_500..10_500).contains(share)),
            "{known} {unknown} {other}"
        );
        assert!(shares([0, 0, 0]).iter().all(|share| *share > 9_000));
    }

    #[test]
    fn idle_equals_share_by_weight() {
        let candidates = [candidate(0, 200, 0, 50), candidate(1, 100, 0, 50)];
        let mut rng = fastrand::Rng::with_seed(7);
        let heavy = (0..30_000).filter(|_| pick(&candidates, |below| rng.u64(..below)).unwrap().index == 0).count();
        assert!((19_000..21_000).contains(&heavy), "two thirds of 30,000, got {heavy}");
    }

    #[test]
    fn a_lowered_share_is_drawn_as_rarely_as_it_says() {
        let mut candidates = [candidate(0, 100, 0, 50), candidate(1, 100, 0, 50)];
        candidates[0].share = FULL / 4;
        let mut rng = fastrand::Rng::with_seed(7);
        let lowered = (0..30_000).filter(|_| pick(&candidates, |below| rng.u64(..below)).unwrap().index == 0).count();
        assert!((5_500..6_500).contains(&lowered), "a fifth of 30,000, got {lowered}");
    }

    #[test]
    fn the_loaded_one_loses_when_both_are_drawn() {
        let candidates = [candidate(0, 100, 9, 50), candidate(1, 100, 0, 50)];
        let mut tickets = [150_000, 20].into_iter();
        assert_eq!(pick(&candidates, |_| tickets.next().unwrap()), Some(Picked { index: 1, rival: Some(0) }));
        assert_eq!(pick(&candidates, |_| 150_000), Some(Picked { index: 1, rival: None }));
    }

    #[test]
    fn nobody_and_only_one() {
        assert_eq!(pick(&[], |_| 0), None);
        assert_eq!(pick(&[candidate(4, 1, 99, 9)], |_| 0), Some(Picked { index: 4, rival: None }));
    }

    proptest! {
        #[test]
        fn the_pick_is_one_of_the_candidates(weights in prop::collection::vec(0u32..1000, 1..20), seed: u64) {
            let candidates: Vec<_> = weights.iter().enumerate().map(|(index, weight)| candidate(index + 3, *weight, 1, 10)).collect();
            let mut rng = fastrand::Rng::with_seed(seed);
            let picked = pick(&candidates, |below| rng.u64(..below)).unwrap().index;
            prop_assert!((3..3 + weights.len()).contains(&picked));
        }
    }
}
