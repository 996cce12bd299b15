//! Deployments that are tried together, and what makes a choice among them cheap.
//!
//! | field | written by |
//! |---|---|
//! | `scale` | routers, from time to time |
//! | `homes` | routers, each bucket when it is first asked for; whoever does finds the same |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::deployment::Deployment;
use crate::balance::affinity::{self, BUCKETS, Member, PLACES};
use crate::balance::select::{Headroom, Lots, Scale};
use crate::domain::time::Timestamp;

#[derive(Debug)]
pub struct Tier {
    pub priority: u32,
    pub deployments: Vec<Arc<Deployment>>,
    pub lots: Lots,
    scale: SharedScale,
    /// By bucket, four places in each number; a place is its index plus one, so that zero is none.
    homes: Box<[[AtomicU64; NUMBERS]]>,
}

const NUMBERS: usize = PLACES / IN_A_NUMBER;
const IN_A_NUMBER: usize = 4;

impl Tier {
    pub fn new(priority: u32, deployments: Vec<Arc<Deployment>>) -> Self {
        let lots = Lots::new(deployments.iter().map(|deployment| deployment.weight));
        let homes = (0..BUCKETS).map(|_| Default::default()).collect();
        Self { priority, deployments, lots, scale: SharedScale::default(), homes }
    }

    /// The deployments that the prompts of a bucket belong to, the home first: their indices, and how many there are.
    pub fn places(&self, bucket: usize) -> ([u16; PLACES], usize) {
        let Some(numbers) = self.homes.get(bucket) else { return ([0; PLACES], 0) };
        if numbers[0].load(Relaxed) == 0 {
            self.rank(bucket, numbers);
        }
        let (mut places, mut count) = ([0; PLACES], 0);
        for number in numbers {
            let mut left = number.load(Relaxed);
            while left != 0 {
                places[count] = (left as u16) - 1;
                (left, count) = (left >> 16, count + 1);
            }
        }
        (places, count)
    }

    /// The deployment of an index as the ranking sees it.
    pub fn member(&self, index: usize) -> Member {
        let none = Member { identity: 0, weight: 1 };
        self.deployments.get(index).map_or(none, |one| Member { identity: one.identity, weight: one.weight })
    }

    #[cold]
    fn rank(&self, bucket: usize, numbers: &[AtomicU64; NUMBERS]) {
        let (places, count) = affinity::rank(bucket, (0..self.deployments.len()).map(|index| self.member(index)));
        // The first number last. Who sees it and not yet the others lacks the later choices for a moment.
        for (number, places) in numbers.iter().zip(places[..count].chunks(IN_A_NUMBER)).rev() {
            let packed = places.iter().rev().fold(0, |packed, place| packed << 16 | (u64::from(*place) + 1));
            number.store(packed, Relaxed);
        }
    }

    pub fn scale(&self) -> Scale {
        let SharedScale { tokens, requests, candidates, lowered, in_flight, weight, until } = &self.scale;
        Scale {
            roomiest: Headroom { tokens: tokens.load(Relaxed), requests: requests.load(Relaxed) },
            candidates: candidates.load(Relaxed),
            lowered: lowered.load(Relaxed),
            in_flight: in_flight.load(Relaxed),
            weight: weight.load(Relaxed),
            until: Timestamp(until.load(Relaxed)),
        }
    }

    /// What a router has found out since it read `before`.
    pub fn publish(&self, before: &Scale, scale: &Scale) {
        if before == scale {
            return;
        }
        self.scale.tokens.store(scale.roomiest.tokens, Relaxed);
        self.scale.requests.store(scale.roomiest.requests, Relaxed);
        self.scale.candidates.store(scale.candidates, Relaxed);
        self.scale.lowered.store(scale.lowered, Relaxed);
        self.scale.in_flight.store(scale.in_flight, Relaxed);
        self.scale.weight.store(scale.weight, Relaxed);
        self.scale.until.store(scale.until.0, Relaxed);
    }
}

/// Its figures may be of different moments: each is true enough by itself.
#[derive(Debug)]
#[repr(align(64))]
struct SharedScale {
    tokens: AtomicU64,
    requests: AtomicU64,
    candidates: AtomicU64,
    lowered: AtomicU64,
    in_flight: AtomicU64,
    weight: AtomicU64,
    until: AtomicU64,
}

impl Default for SharedScale {
    fn default() -> Self {
        let Scale { roomiest, candidates, lowered, in_flight, weight, until } = Scale::default();
        Self {
            tokens: AtomicU64::new(roomiest.tokens),
            requests: AtomicU64::new(roomiest.requests),
            candidates: AtomicU64::new(candidates),
            lowered: AtomicU64::new(lowered),
            in_flight: AtomicU64::new(in_flight),
            weight: AtomicU64::new(weight),
            until: AtomicU64::new(until.0),
        }
    }
}
