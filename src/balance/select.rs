//! Picks one candidate of a tier: two weighted draws of which the less loaded wins.
//!
//! Drawing twice instead of taking the best keeps simultaneous requests from all choosing the same deployment. A
//! candidate's share is its weight in proportion to its headroom, which changes all the time; the weights do not. So lots
//! are drawn by weight, and whoever is drawn is taken with the probability that its headroom has of the roomiest's: the
//! same as a draw by the shares themselves, at the cost of a look at those that are drawn, however many others there are.
//! Only when too many draws are in vain (most of a tier is down, or one deployment has nearly all the room), everyone is
//! looked at.
//! Sources: Mitzenmacher, "The power of two choices in randomized load balancing" (2001); Vose, "A linear algorithm for
//! generating random numbers with a given distribution" (1991).

use std::time::Duration;

use crate::domain::time::Timestamp;

/// What the choice needs to know of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Where it stands in its tier.
    pub index: usize,
    /// At least 1.
    pub weight: u32,
    pub in_flight: u32,
    /// Zero = not measured yet: it is tried before those that are known.
    pub latency: Duration,
    pub headroom: Headroom,
}

/// What Azure would still let in this minute; `u64::MAX` = not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headroom {
    pub tokens: u64,
    pub requests: u64,
}

impl Headroom {
    pub const UNKNOWN: Self = Self { tokens: u64::MAX, requests: u64::MAX };

    /// In tokens, when all requests are of this size; `u64::MAX` = not known.
    pub fn of(self, tokens: u64) -> u64 {
        self.tokens.min(self.requests.saturating_mul(tokens.max(1)))
    }

    /// The larger of each figure that is known.
    fn or_more(self, other: Self) -> Self {
        let larger = |one: u64, other: u64| match (one, other) {
            (u64::MAX, known) | (known, u64::MAX) => known,
            (one, other) => one.max(other),
        };
        Self { tokens: larger(self.tokens, other.tokens), requests: larger(self.requests, other.requests) }
    }
}

/// Tickets of a candidate with the whole of its share, for each unit of its weight: finer than the weights themselves.
const TICKETS: f64 = 1000.0;

impl Candidate {
    /// Its weight in proportion to its headroom, so that unequal deployments run out at the same time and not the
    /// smallest first. One that is not known counts as the roomiest. At least one ticket.
    fn tickets(&self, roomiest: u64, tokens: u64) -> u64 {
        let headroom = self.headroom.of(tokens).min(roomiest) as f64 / roomiest.max(1) as f64;
        (f64::from(self.weight.max(1)) * TICKETS * headroom) as u64 + 1
    }

    /// Whether it is taken when it was drawn by its weight. Whatever else is to make its share smaller for a while is a
    /// factor from 0 to 1 here, and in its tickets.
    fn is_taken(&self, roomiest: u64, tokens: u64, random: impl FnOnce(u64) -> u64) -> bool {
        let headroom = self.headroom.of(tokens);
        headroom >= roomiest || random(roomiest) < headroom
    }

    /// Expected wait: latency times the queue it would join, a heavy deployment's queue counting less.
    pub fn load(&self) -> f64 {
        let queue = f64::from(self.in_flight) * 100.0 / f64::from(self.weight.max(1)) + 1.0;
        (self.latency.as_secs_f64() + 1e-6) * queue
    }

    /// As it was before its newest request.
    pub fn with_one_less(self) -> Self {
        Self { in_flight: self.in_flight.saturating_sub(1), ..self }
    }
}

/// The members of a tier by weight, so that drawing one takes the same time however many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lots(Box<[Lot]>);

/// As many as there are members, all equally likely; each belongs to one member or, beyond a cut, to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lot {
    /// Of [`WHOLE`].
    cut: u64,
    other: usize,
}

const WHOLE: u64 = 1 << 32;

impl Lots {
    pub fn new(weights: impl Iterator<Item = u32>) -> Self {
        let mut left: Vec<u128> = weights.map(|weight| u128::from(weight.max(1))).collect();
        let (count, total) = (left.len() as u128, left.iter().sum::<u128>());
        left.iter_mut().for_each(|weight| *weight *= count);
        let mut lots: Vec<_> = (0..left.len()).map(|index| Lot { cut: WHOLE, other: index }).collect();
        // Whoever has too little for a lot of its own shares it with one that has too much.
        let (mut little, mut much): (Vec<_>, Vec<_>) = (0..left.len()).partition(|index| left[*index] < total);
        while let (Some(small), Some(large)) = (little.pop(), much.pop()) {
            let cut = (left[small] * u128::from(WHOLE) / total) as u64;
            lots[small] = Lot { cut, other: large };
            left[large] -= total - left[small];
            if left[large] < total { &mut little } else { &mut much }.push(large);
        }
        Self(lots.into())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn draw(&self, random: &mut impl FnMut(u64) -> u64) -> Option<usize> {
        let drawn = random(self.0.len() as u64 * WHOLE);
        let own = (drawn / WHOLE) as usize;
        let lot = self.0.get(own)?;
        Some(if drawn % WHOLE < lot.cut { own } else { lot.other })
    }
}

/// What is known of a tier as a whole, as it was a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The most of each figure that anyone has: no share is measured by less.
    pub roomiest: Headroom,
    /// Of all candidates together.
    pub in_flight: u64,
    pub weight: u64,
    /// To be looked up again.
    pub until: Timestamp,
}

impl Default for Scale {
    fn default() -> Self {
        Self { roomiest: Headroom::UNKNOWN, in_flight: 0, weight: 0, until: Timestamp::ZERO }
    }
}

/// In a tenth of a second no minute's room changes by much; in a busy gateway a look at everyone is then rare.
const RENEWED_EVERY: Duration = Duration::from_millis(100);

impl Scale {
    /// Looks at everyone, if it is time to.
    pub fn renew(&mut self, count: usize, now: Timestamp, mut look: impl FnMut(usize) -> Option<Candidate>) {
        if now < self.until {
            return;
        }
        *self = Self { until: now.after(RENEWED_EVERY), ..Self::default() };
        for candidate in (0..count).filter_map(&mut look) {
            self.roomiest = self.roomiest.or_more(candidate.headroom);
            self.in_flight += u64::from(candidate.in_flight);
            self.weight += u64::from(candidate.weight.max(1));
        }
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    pub index: usize,
    /// The index of the other that was drawn; none when the same was drawn twice, or there was no other.
    pub rival: Option<usize>,
}

/// Draws in vain, of both together, before everyone is looked at.
const IN_VAIN: u32 = 16;

/// The chosen candidate of a request for so many tokens; `None` when there is none. `look` gives who can be asked, and
/// `random` a number below its argument. What is learned of the roomiest on the way goes into `scale`.
pub fn pick(
    lots: &Lots,
    scale: &mut Scale,
    tokens: u64,
    mut look: impl FnMut(usize) -> Option<Candidate>,
    mut random: impl FnMut(u64) -> u64,
) -> Option<Picked> {
    if lots.len() == 1 {
        return look(0).map(|only| Picked { index: only.index, rival: None });
    }
    let mut in_vain = 0;
    let mut draw = || {
        while in_vain < IN_VAIN && lots.len() > 0 {
            if let Some(candidate) = look(lots.draw(&mut random)?) {
                scale.roomiest = scale.roomiest.or_more(candidate.headroom);
                if candidate.is_taken(scale.roomiest.of(tokens), tokens, &mut random) {
                    return Some(candidate);
                }
            }
            in_vain += 1;
        }
        None
    };
    let (first, second) = match (draw(), draw()) {
        (Some(first), Some(second)) => (first, second),
        _ => draw_among_all(lots.len(), tokens, look, random)?,
    };
    let (winner, loser) = if second.load() < first.load() { (second, first) } else { (first, second) };
    Some(Picked { index: winner.index, rival: (loser.index != winner.index).then_some(loser.index) })
}

/// Two draws by the shares as they are at this moment. Everyone takes the place of those before with the probability
/// that its share has of all so far, which needs no list of them.
fn draw_among_all(
    count: usize,
    tokens: u64,
    mut look: impl FnMut(usize) -> Option<Candidate>,
    mut random: impl FnMut(u64) -> u64,
) -> Option<(Candidate, Candidate)> {
    let known = (0..count).filter_map(&mut look).map(|candidate| candidate.headroom.of(tokens));
    let roomiest = known.filter(|headroom| *headroom != u64::MAX).max().unwrap_or(1);
    let (mut total, mut drawn) = (0, None);
    for candidate in (0..count).filter_map(&mut look) {
        let tickets = candidate.tickets(roomiest, tokens);
        total += tickets;
        let (first, second) = drawn.unwrap_or((candidate, candidate));
        let mut takes = |place| if random(total) < tickets { candidate } else { place };
        drawn = Some((takes(first), takes(second)));
    }
    drawn
}

#[cfg(test)]
mod tests;
