//! Why a request went where it went: what the admin plane and the log can tell of the router's choices.
//!
//! A choice is explained right after it was made, from the same gauges, on the same thread; so the choice itself pays
//! nothing. Another worker may have changed a gauge in the microsecond between, and then the explanation tells of that
//! moment. What is explained is bounded per worker and second, whatever the load: first choices by a small budget, which
//! in a quiet gateway is all of them and in a busy one a sample; refusals and choices after a failure, which are what
//! people ask about, by a larger one. At debug level everything is explained, to the log too.
//!
//! Explanations live in memory, in a ring. They are not written to the ledger: they would be the larger part of it, and
//! what lasts, the attempts and their ends, is there. After a restart a row is shown without them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::pick::Manner;
use crate::domain::ids::{DeploymentName, RequestId, ResourceName};
use crate::domain::time::{Timestamp, WallTime};

/// One choice among the deployments of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub at: WallTime,
    /// `None`: nobody could be asked.
    pub chosen: Option<Chosen>,
    /// The others, in the order in which they would be asked.
    pub passed_over: Vec<PassedOver>,
    /// How many more there are, in an estate too large to be told whole.
    pub not_shown: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    pub resource: ResourceName,
    pub deployment: DeploymentName,
    pub priority: u32,
    pub manner: Manner,
    /// What was compared with the other draw: less is better.
    pub load: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PassedOver {
    pub resource: ResourceName,
    pub deployment: DeploymentName,
    pub reason: Reason,
}

/// Why a deployment was not chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// What the request refers to is kept by another resource.
    NotItsResource,
    /// This request was sent to it before.
    AlreadyTried,
    /// The caller's key keeps its requests to other regions, or it is not known where this one is.
    RegionNotAllowed,
    /// It is provisioned, and one like it has refused this prompt as too long.
    PromptTooLong,
    /// By an operator.
    Drained,
    /// It asked for a pause.
    Cooling {
        until: WallTime,
    },
    BreakerOpen {
        until: WallTime,
    },
    Quarantined {
        until: WallTime,
    },
    /// It comes back, and another request is finding out whether it works.
    BeingProbed,
    NoRoom {
        in_flight: u32,
        most: u32,
    },
    /// It has no token to be called with.
    NoCredential,
    /// Azure would refuse a request of this size.
    NoQuota {
        until: WallTime,
    },
    /// Its latest answer was a fault, or it comes back from worse: a second attempt goes elsewhere while it can, and
    /// needs the retry budget when it cannot.
    KnownBad,
    /// It has room, and a batch job is to leave that to chats.
    BatchShare {
        share: f64,
    },
    /// A tier before it could serve.
    LowerTier {
        priority: u32,
    },
    /// It was drawn too, and the chosen one was less loaded.
    LostDraw {
        load: f64,
    },
    NotDrawn {
        load: f64,
    },
    /// It gets less than its weight: it answers worse than its peers, or was ill a moment ago.
    LoweredShare {
        share: f64,
        load: f64,
    },
    /// The prompt belongs to the chosen one. Whoever it belongs to even more and is told this had its share already.
    CachedElsewhere {
        load: f64,
    },
}

impl Reason {
    pub fn label(self) -> &'static str {
        match self {
            Self::NotItsResource => "not_its_resource",
            Self::AlreadyTried => "already_tried",
            Self::RegionNotAllowed => "region_not_allowed",
            Self::PromptTooLong => "prompt_too_long",
            Self::Drained => "drained",
            Self::Cooling { .. } => "cooling",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Quarantined { .. } => "quarantined",
            Self::BeingProbed => "being_probed",
            Self::NoRoom { .. } => "no_room",
            Self::NoCredential => "no_credential",
            Self::NoQuota { .. } => "no_quota",
            Self::BatchShare { .. } => "batch_share",
            Self::LowerTier { .. } => "lower_tier",
            Self::LostDraw { .. } => "lost_draw",
            Self::NotDrawn { .. } => "not_drawn",
            Self::KnownBad => "known_bad",
            Self::LoweredShare { .. } => "lowered_share",
            Self::CachedElsewhere { .. } => "cached_elsewhere",
        }
    }
}

/// For log lines: `eastus2/mini cooling, westus3/mini already_tried`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PassedOver { resource, deployment, reason }) in self.passed_over.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{resource}/{deployment} {}", reason.label())?;
        }
        if self.not_shown > 0 {
            write!(f, " and {} more", self.not_shown)?;
        }
        Ok(())
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.resource, self.deployment)
    }
}

/// The explanations that are kept, shared by all workers. Its lock is taken by explained choices only.
#[derive(Clone, Default)]
pub struct Decisions(Arc<Mutex<Ring>>);

#[derive(Default)]
struct Ring {
    /// The oldest first.
    requests: VecDeque<(RequestId, Vec<Decision>)>,
    /// Deployments in all of them.
    entries: usize,
}

/// Requests in the ring.
const REQUESTS: usize = 2_000;
/// Deployments in the ring: about 6 MB.
const ENTRIES: usize = 100_000;
/// More choices than this are made for one request only while it waits; then the newest counts.
const CHOICES: usize = 16;
/// Deployments of one choice.
pub(super) const SHOWN: usize = 64;

impl Decisions {
    pub(super) fn keep(&self, request: RequestId, decision: Decision) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = &mut *ring;
        ring.entries += decision.passed_over.len();
        match ring.requests.iter_mut().rev().find(|(id, _)| *id == request) {
            Some((_, decisions)) => {
                if decisions.len() == CHOICES
                    && let Some(older) = decisions.pop()
                {
                    ring.entries -= older.passed_over.len();
                }
                decisions.push(decision);
            }
            None => ring.requests.push_back((request, vec![decision])),
        }
        while ring.requests.len() > REQUESTS || (ring.entries > ENTRIES && ring.requests.len() > 1) {
            let Some((_, gone)) = ring.requests.pop_front() else { break };
            ring.entries -= gone.iter().map(|decision| decision.passed_over.len()).sum::<usize>();
        }
    }

    /// In the order in which they were made; empty when none is kept.
    pub fn of(&self, request: RequestId) -> Vec<Decision> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ring.requests.iter().rev().find(|(id, _)| *id == request);
        found.map(|(_, decisions)| decisions.clone()).unwrap_or_default()
    }
}

/// One worker's budget of explanations.
#[derive(Debug)]
pub(super) struct Budget {
    second: Timestamp,
    first: u32,
    further: u32,
}

/// Of requests that went well so far.
const FIRST_A_SECOND: u32 = 50;
/// Refusals, choices after a failure, and what does not simply go where there is most room.
const FURTHER_A_SECOND: u32 = 500;

/// What is to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    First,
    Further,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(Timestamp::ZERO)
    }
}

impl Budget {
    fn of(second: Timestamp) -> Self {
        Self { second, first: FIRST_A_SECOND, further: FURTHER_A_SECOND }
    }

    /// Takes one explanation out of this second's budget; `None` when it is used up.
    pub(super) fn take(&mut self, occasion: Occasion, now: Timestamp) -> Option<()> {
        if now.since(self.second) >= Duration::from_secs(1) {
            *self = Self::of(now);
        }
        let left = match occasion {
            Occasion::First => &mut self.first,
            Occasion::Further => &mut self.further,
        };
        *left = left.checked_sub(1)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(deployments: usize) -> Decision {
        let passed = PassedOver { resource: "r".into(), deployment: "d".into(), reason: Reason::AlreadyTried };
        Decision { at: WallTime(0), chosen: None, passed_over: vec![passed; deployments], not_shown: 0 }
    }

    #[test]
    fn the_ring_forgets_the_oldest_by_count_and_by_size() {
        let decisions = Decisions::default();
        let ids: Vec<_> = (0..=REQUESTS).map(|_| RequestId::generate()).collect();
        ids.iter().for_each(|id| decisions.keep(*id, decision(1)));
        assert_eq!(
            (decisions.of(ids[0]).len(), decisions.of(ids[1]).len(), decisions.of(ids[REQUESTS]).len()),
            (0, 1, 1)
        );
        let large = RequestId::generate();
        decisions.keep(large, decision(ENTRIES));
        assert_eq!((decisions.of(ids[REQUESTS]).len(), decisions.of(large).len()), (0, 1));
        let ring = decisions.0.lock().unwrap();
        assert_eq!((ring.entries, ring.requests.len()), (ENTRIES, 1));
    }

    #[test]
    fn a_requests_choices_stay_together_and_are_bounded() {
        let (decisions, one, other) = (Decisions::default(), RequestId::generate(), RequestId::generate());
        decisions.keep(one, decision(1));
        decisions.keep(other, decision(1));
        for count in 0..40 {
            decisions.keep(one, decision(count));
        }
        let kept = decisions.of(one);
        assert_eq!((kept.len(), kept[15].passed_over.len(), decisions.of(other).len()), (CHOICES, 39, 1));
        let entries: usize = kept.iter().map(|decision| decision.passed_over.len()).sum();
        assert_eq!(decisions.0.lock().unwrap().entries, entries + 1);
    }

    #[test]
    fn a_second_has_a_budget_and_first_choices_do_not_eat_the_others() {
        let mut budget = Budget::default();
        let at = |milliseconds| Timestamp::ZERO.after(Duration::from_millis(milliseconds));
        let mut taken = |occasion, count, now| (0..count).filter(|_| budget.take(occasion, at(now)).is_some()).count();
        assert_eq!(taken(Occasion::First, 1, 0), 1, "the first second of a process counts too");
        assert_eq!(taken(Occasion::First, 1_000, 5_000), FIRST_A_SECOND as usize);
        assert_eq!(taken(Occasion::Further, 1_000, 5_999), FURTHER_A_SECOND as usize);
        assert_eq!(taken(Occasion::First, 1, 5_999), 0);
        assert_eq!(taken(Occasion::First, 1_000, 6_000), FIRST_A_SECOND as usize);
    }
}
