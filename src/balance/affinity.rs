//! Which deployments of a tier a prompt goes to, so that it finds its own beginning in their caches.
//!
//! Azure keeps what it has computed of a prompt's beginning for some minutes, per deployment, and discounts it. So the
//! requests of one key (a conversation, a user, a common system prompt) go to one deployment, by weighted rendezvous:
//! each deployment draws a number from the key and its own name, the largest is the key's home, the next its second
//! choice, and so on. A deployment that joins takes its share of the keys from the others and moves no other key; one
//! that leaves gives its keys to their second choices. Names are all it depends on: every gateway, before and after a
//! reload, finds the same homes.
//!
//! Beyond some 15 requests a minute Azure spreads a prefix over machines of its own, each with a cold cache. A key that
//! is hotter is therefore spread over as many of its first places as its rate fills, conversation by conversation: a
//! conversation has a place of its own among them, and keeps it while the key becomes a little hotter or colder. Only a
//! conversation that is itself too hot for one place is sent to several.
//!
//! What a place may carry is bounded: by its quota, and by a fair share of what is in flight. Whoever finds it full goes
//! to the next choice, always the same one. It does not decide who is able to serve, nor what becomes of prompts that
//! none of their places can take: they are drawn as others are (`select`).
//! Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); Mirrokni, Thorup and
//! Zadimoghaddam, "Consistent hashing with bounded loads" (2018);
//! <https://learn.microsoft.com/azure/ai-foundry/openai/how-to/prompt-caching>

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::select::{Candidate, Scale};
use super::share::{FULL, Share};
use crate::domain::demand::Affinity;
use crate::domain::time::Timestamp;

/// A key's first choices, the home before all; few requests ever need a later one.
pub const PLACES: usize = 8;
/// Keys of one bucket have the same places, so that they need not be ranked for every request.
pub const BUCKETS: usize = 4096;
/// Requests a minute that one deployment serves from one cache.
const PER_MINUTE: u32 = 15;
/// A conversation is known for this many minutes after its last request; caches last no longer.
const KEPT: u16 = 10;
/// In flight, a place may have this many times its share, and at least so many.
const OVER_SHARE: f64 = 1.25;
const ALWAYS: u32 = 8;
/// With less of its weight a deployment is nobody's home.
const LEAST_SHARE: Share = FULL / 4;

/// What the ranking needs to know of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// By [`identity`].
    pub identity: u64,
    pub weight: u32,
}

/// The same in every process that knows a deployment by these names.
pub fn identity(resource: &str, deployment: &str) -> u64 {
    let mut digest = Sha256::new();
    digest.update(resource);
    // Neither name holds one.
    digest.update([0]);
    digest.update(deployment);
    let mut first = [0; 8];
    first.iter_mut().zip(digest.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    u64::from_le_bytes(first)
}

/// Spreads what is unevenly distributed over all 64 bits. Source: Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators" (2014), with the constants of their SplitMix64.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The bucket that a demand's places among so many deployments are looked up in. A key that is too hot for all its places
/// is no key any more where there are others: each of its conversations has places of its own.
pub fn bucket(affinity: &Affinity, deployments: usize) -> usize {
    let no_key = usize::from(affinity.spread) > PLACES && deployments > PLACES;
    let key = if no_key { affinity.key ^ affinity.branch } else { affinity.key };
    (mix(key) % BUCKETS as u64) as usize
}

/// The places of a bucket: indices of `members`, best first, and how many there are.
pub fn rank(bucket: usize, members: impl Iterator<Item = Member>) -> ([u16; PLACES], usize) {
    let (mut places, mut scores, mut count) = ([0; PLACES], [0.0; PLACES], 0);
    for (index, member) in (0..u16::MAX).zip(members) {
        let score = claim(bucket, member);
        let at = scores[..count].partition_point(|better| *better >= score);
        if at == PLACES {
            continue;
        }
        count = (count + 1).min(PLACES);
        places.copy_within(at..count - 1, at + 1);
        scores.copy_within(at..count - 1, at + 1);
        (places[at], scores[at]) = (index, score);
    }
    (places, count)
}

/// What a member draws from a bucket: the larger, the better its place.
pub fn claim(bucket: usize, member: Member) -> f64 {
    score(mix(bucket as u64) ^ member.identity, member.weight)
}

/// The largest of these wins with a probability in proportion to its weight.
fn score(drawn: u64, weight: u32) -> f64 {
    // Between 0 and 1, and neither of them.
    let uniform = ((mix(drawn) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight.max(1)) / uniform.ln()
}

/// Puts a key's places into the order in which one request asks them.
pub fn order(places: &mut [u16], affinity: &Affinity, member: impl Fn(u16) -> Member, random: impl FnOnce(u64) -> u64) {
    let within = |count: u8| usize::from(count.max(1)).min(places.len()).min(PLACES);
    let (spread, own) = (within(affinity.spread), within(affinity.own));
    if spread > 1 {
        let mut scored = [(0.0, 0); PLACES];
        for (scored, place) in scored.iter_mut().zip(&places[..spread]) {
            let Member { identity, weight } = member(*place);
            *scored = (score(affinity.branch ^ identity, weight), *place);
        }
        scored[..spread].sort_unstable_by(|(one, _), (other, _)| other.total_cmp(one));
        places.iter_mut().zip(&scored[..spread]).for_each(|(place, (_, scored))| *place = *scored);
    }
    if own > 1 {
        places[..own].rotate_left(random(own as u64) as usize);
    }
}

/// Whether a place takes one more of the prompts that belong to it, or leaves it to the next choice: also while it answers
/// much worse than its peers, or has just come back from an illness.
pub fn has_room(candidate: &Candidate, scale: &Scale, tokens: u64) -> bool {
    let weight = candidate.weight() / scale.weight.max(1) as f64;
    let share = (scale.in_flight + 1) as f64 * weight * OVER_SHARE;
    // An empty minute takes also what is larger than its limit, as the last resort: not as a home.
    candidate.share >= LEAST_SHARE
        && candidate.headroom.of(tokens) >= tokens
        && f64::from(candidate.in_flight) < share.ceil().max(f64::from(ALWAYS))
}

/// What is known of the requests of one key, or of one conversation: their rate, and for a conversation over how many of
/// its key's places it is spread: as many as when it began, until that is half of what the key needs by now. Eight bytes,
/// so that it fits an atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record(pub u64);

/// A record in parts. Counts stop at 4095.
#[derive(Clone, Copy)]
struct Parts {
    /// Tells apart those that share a place in a table.
    tag: u16,
    /// Of the latest request.
    minute: u16,
    before: u16,
    current: u16,
    spread: u8,
}

const MOST_COUNTED: u16 = 0xfff;
const MINUTE: u64 = 60_000_000_000;

impl Record {
    /// With one request more; `spread` is what the key needs now.
    pub fn counted(self, tag: u16, spread: u8, now: Timestamp) -> Self {
        let minute = minute_of(now);
        let mut known = self.parts();
        if spread / 2 >= known.spread {
            known.spread = spread;
        }
        let age = minute.wrapping_sub(known.minute);
        let parts = match age {
            _ if known.tag != tag || self.0 == 0 || age > KEPT => Parts { tag, minute, before: 0, current: 1, spread },
            0 => Parts { current: (known.current + 1).min(MOST_COUNTED), ..known },
            1 => Parts { minute, before: known.current, current: 1, ..known },
            _ => Parts { minute, before: 0, current: 1, ..known },
        };
        Self::of(parts)
    }

    /// How many deployments its rate fills.
    pub fn fills(self, now: Timestamp) -> u8 {
        let Parts { before, current, .. } = self.parts();
        let passed = (now.0 % MINUTE) as f64 / MINUTE as f64;
        let rate = f64::from(before) * (1.0 - passed) + f64::from(current);
        // Casts of floats saturate.
        (rate / f64::from(PER_MINUTE)).ceil().max(1.0) as u8
    }

    pub fn spread(self) -> u8 {
        self.parts().spread
    }

    fn parts(self) -> Parts {
        let Self(bits) = self;
        Parts {
            tag: (bits >> 48) as u16,
            minute: (bits >> 32) as u16,
            before: (bits >> 20) as u16 & MOST_COUNTED,
            current: (bits >> 8) as u16 & MOST_COUNTED,
            spread: bits as u8,
        }
    }

    fn of(parts: Parts) -> Self {
        let Parts { tag, minute, before, current, spread } = parts;
        let wide = u64::from;
        Self(wide(tag) << 48 | wide(minute) << 32 | wide(before) << 20 | wide(current) << 8 | u64::from(spread))
    }
}

/// Its number comes again after 45 days, and then harms nobody.
fn minute_of(now: Timestamp) -> u16 {
    (now.since(Timestamp::ZERO).as_secs() / Duration::from_nanos(MINUTE).as_secs()) as u16
}

#[cfg(test)]
mod tests;
