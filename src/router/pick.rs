//! The pick: which deployment of a tier a request goes to. Taking the right to send it there is another step.
//!
//! It happens for every attempt on the worker's thread, so it looks at few deployments, takes no lock and no memory
//! (`benches/pick.rs` measures it). The rules are pure: [`crate::balance::affinity`] and [`crate::balance::select`];
//! here they are given what the gauges say.

use std::sync::Arc;

use super::trust::{self, Trust};
use super::{candidate, is_candidate};
use crate::balance::affinity;
use crate::balance::select::{self, Candidate, Scale};
use crate::domain::demand::{Affinity, Demand};
use crate::domain::time::Timestamp;
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::tier::Tier;

/// What a choice depends on, beside the deployments.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub demand: &'a Demand,
    /// What the request needs of a deployment's quota.
    pub tokens: u64,
    /// Deployments this request has been sent to already.
    pub tried: &'a [DeploymentId],
    pub now: Timestamp,
}

impl<'a> Ask<'a> {
    pub fn of(demand: &'a Demand, tried: &'a [DeploymentId], now: Timestamp) -> Self {
        Self { demand, tokens: demand.counted_tokens(), tried, now }
    }
}

/// A deployment that can be asked.
#[derive(Clone, Copy, Debug)]
pub struct Picked<'t> {
    pub deployment: &'t Arc<Deployment>,
    pub manner: Manner,
}

/// How a deployment came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Drawn {
        /// The other that was drawn.
        rival: Option<DeploymentId>,
    },
    /// The prompt belongs to it.
    Pinned {
        /// 1 for the request's home, 2 for its second choice, and so on; one more than there are places for what lies
        /// behind them.
        choice: u8,
    },
    /// Drawn, because nobody had room for it as a home has.
    Spilled { rival: Option<DeploymentId> },
    /// A second attempt beside the first.
    Hedge,
    /// To find out whether its share is still to be lowered.
    Trial,
    /// Most of the tier are out for their health.
    Panic,
    /// Nobody else could serve.
    LastResort,
}

impl Manner {
    pub fn label(self) -> &'static str {
        match self {
            Self::Drawn { .. } => "drawn",
            Self::Pinned { .. } => "affinity",
            Self::Spilled { .. } => "drawn_after_affinity",
            Self::Hedge => "hedge",
            Self::Trial => "trial",
            Self::Panic => "panic",
            Self::LastResort => "last_resort",
        }
    }

    /// Whether it is how any first attempt is made.
    pub fn is_plain(self) -> bool {
        match self {
            Self::Drawn { .. } | Self::Pinned { .. } | Self::Spilled { .. } => true,
            Self::Hedge | Self::Trial | Self::Panic | Self::LastResort => false,
        }
    }

    /// The other of the two that were drawn.
    pub fn rival(self) -> Option<DeploymentId> {
        match self {
            Self::Drawn { rival } | Self::Spilled { rival } => rival,
            Self::Pinned { .. } | Self::Hedge | Self::Trial | Self::Panic | Self::LastResort => None,
        }
    }
}

/// `None` when nobody of the tier can be asked.
pub fn pick<'t>(tier: &'t Tier, ask: &Ask<'_>, trust: Trust, rng: &mut fastrand::Rng) -> Option<Picked<'t>> {
    let look = |index: usize| {
        let deployment = tier.deployments.get(index)?;
        is_candidate(deployment, ask, trust).then(|| candidate(index, deployment, ask.now))
    };
    // What the tier is like, whoever asks.
    let at_all = |index: usize| {
        let deployment = tier.deployments.get(index)?;
        let gauges = &deployment.gauges;
        let is_open = gauges.may_ask(ask.now) && !gauges.is_drained() && deployment.credential.is_usable(ask.now);
        is_open.then(|| candidate(index, deployment, ask.now))
    };
    let before = tier.scale();
    let mut scale = before;
    scale.renew(tier.deployments.len(), ask.now, at_all);
    if scale.lowered > 0
        && let Some(deployment) = trust::trial(tier, ask, trust, rng)
    {
        tier.publish(&before, &scale);
        return Some(Picked { deployment, manner: Manner::Trial });
    }
    // One alone is no choice.
    let affinity = ask.demand.affinity.as_ref().filter(|_| tier.deployments.len() > 1);
    let pinned = affinity.and_then(|affinity| pinned(tier, affinity, &scale, ask.tokens, look, rng));
    let (index, manner) = match pinned {
        Some(pinned) => pinned,
        None => {
            let picked = select::pick(&tier.lots, &mut scale, ask.tokens, look, |below| rng.u64(..below))?;
            let rival = picked.rival.and_then(|rival| tier.deployments.get(rival)).map(|rival| rival.id);
            let manner = if affinity.is_some() { Manner::Spilled { rival } } else { Manner::Drawn { rival } };
            (picked.index, manner)
        }
    };
    tier.publish(&before, &scale);
    tier.deployments.get(index).map(|deployment| Picked { deployment, manner })
}

/// The first of a prompt's choices that can take it.
fn pinned(
    tier: &Tier,
    affinity: &Affinity,
    scale: &Scale,
    tokens: u64,
    look: impl Fn(usize) -> Option<Candidate>,
    rng: &mut fastrand::Rng,
) -> Option<(usize, Manner)> {
    let takes = |index: usize| look(index).is_some_and(|home| affinity::has_room(&home, scale, tokens));
    let count = tier.deployments.len();
    let bucket = affinity::bucket(affinity, count);
    let (mut places, known) = tier.places(bucket);
    let places = places.get_mut(..known)?;
    affinity::order(places, affinity, |place| tier.member(usize::from(place)), |below| rng.u64(..below));
    if let Some(at) = places.iter().position(|place| takes(usize::from(*place))) {
        // There are no more than eight.
        return Some((usize::from(places[at]), Manner::Pinned { choice: at as u8 + 1 }));
    }
    // A caller may be confined to a few of many deployments, and those are its homes.
    let others = (0..count).filter(|_| count > known).filter(|index| takes(*index));
    let claims = others.map(|index| (affinity::claim(bucket, tier.member(index)), index));
    let (_, best) = claims.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    Some((best, Manner::Pinned { choice: known as u8 + 1 }))
}

#[cfg(test)]
mod tests;
