//! Requests that do not simply go where there is most room: second attempts, hedges, trials, and the last resort.
//!
//! - A **second attempt** goes to a deployment that is not known to be bad, whatever its tier; to one that is, only while
//!   the retry budget has something left ([`crate::balance::retry_budget`]).
//! - A **hedge** is a second attempt beside one that keeps its client waiting. It goes to a deployment of the same model
//!   with its whole share, not known to be bad, and with room for several more of its kind; and at most one request in
//!   twenty has one.
//! - A **trial** finds out whether a deployment whose share is lowered still deserves that ([`crate::balance::gray`]).
//! - The **last resort**: where nobody else could serve a request, one whose breaker is open is asked before its time
//!   ([`crate::balance::health`]). Whoever asked for a pause, is quarantined, drained, full or without quota is not asked
//!   even then. For second attempts it needs the budget, too.
//! - A **panic** is the same, more rarely, while others of the tier do serve, but fewer than half.

use std::sync::Arc;
use std::time::Duration;

use super::pick::{Ask, Manner};
use super::{Offer, Refusal, SOON, choose, is_able, is_candidate};
use crate::balance::health::{LAST_RESORT_EVERY, PANIC_EVERY, State, is_panic};
use crate::balance::retry_budget::RetryBudget;
use crate::balance::share::FULL;
use crate::domain::demand::Demand;
use crate::domain::time::Timestamp;
use crate::fleet::deployment::Deployment;
use crate::fleet::lease::Lease;
use crate::fleet::routes::{Route, RouteTable};
use crate::fleet::tier::Tier;

/// Who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Anyone,
    /// Not those that are known to be bad.
    Good,
    /// Those of them that answer as they should, and have room to spare.
    Spare,
}

/// Hedges for each request.
pub(super) const HEDGES: f64 = 0.05;
/// Room for so many requests of its kind, or the hedge may take the last.
const ROOM_TO_SPARE: u64 = 4;

impl Trust {
    pub(super) fn includes(self, deployment: &Deployment, ask: &Ask<'_>) -> bool {
        let gauges = &deployment.gauges;
        match self {
            Self::Anyone => true,
            Self::Good => !gauges.is_known_bad(ask.now),
            Self::Spare => {
                let wanted = ask.tokens.saturating_mul(ROOM_TO_SPARE);
                let is_well =
                    !gauges.is_known_bad(ask.now) && gauges.state() == State::Closed && gauges.share() == FULL;
                is_well && deployment.quota.headroom(ask.now).of(ask.tokens) >= wanted
            }
        }
    }
}

/// Of the model that was asked for, or nobody.
pub(super) fn hedge<'t>(
    table: &'t RouteTable,
    demand: &Demand,
    ask: &Ask<'_>,
    rng: &mut fastrand::Rng,
    budget: &mut RetryBudget,
) -> Result<Offer<'t>, Refusal> {
    let route = table.route(&demand.model).filter(|_| budget.allows());
    let offer = route.and_then(|route| choose(route, ask, Trust::Spare, rng));
    let offer = offer.ok_or(Refusal::Exhausted { retry_after: SOON })?;
    budget.spend();
    Ok(Offer { manner: Manner::Hedge, ..offer })
}

/// The one of a tier that this first attempt is to try, if any is due.
pub(super) fn trial<'t>(
    tier: &'t Tier,
    ask: &Ask<'_>,
    trust: Trust,
    rng: &mut fastrand::Rng,
) -> Option<&'t Arc<Deployment>> {
    let mut lowered = tier.deployments.iter().filter(|deployment| {
        ask.tried.is_empty() && deployment.gauges.share() < FULL && is_candidate(deployment, ask, trust)
    });
    lowered.find(|deployment| deployment.gauges.claim_trial(ask.now, |below| rng.u64(..below)))
}

/// One whose breaker is open, when there is nobody else.
pub(super) fn last_resort(route: &Route, ask: &Ask<'_>) -> Option<Lease> {
    probe(route.deployments(), LAST_RESORT_EVERY, ask)
}

/// One whose breaker is open, when most are.
pub(super) fn panic(tier: &Tier, ask: &Ask<'_>) -> Option<Lease> {
    let candidates = tier.scale().candidates;
    if candidates * 2 >= tier.deployments.len() as u64 || candidates == 0 || !ask.tried.is_empty() {
        return None;
    }
    let wanted = tier.deployments.iter().filter(|deployment| !deployment.gauges.is_drained());
    let panics = is_panic(wanted.map(|deployment| deployment.gauges.state()));
    if panics { probe(tier.deployments.iter(), PANIC_EVERY, ask) } else { None }
}

fn probe<'d>(
    mut deployments: impl Iterator<Item = &'d Arc<Deployment>>,
    every: Duration,
    ask: &Ask<'_>,
) -> Option<Lease> {
    deployments.find_map(|deployment| {
        let claimed = is_able(deployment, ask) && deployment.gauges.claim_last_resort(every, ask.now);
        claimed.then(|| Lease::take(deployment, ask.tokens, ask.now)).flatten()
    })
}

/// Whether a second attempt was not made for want of budget.
pub(super) fn is_denied<'t>(mut routes: impl Iterator<Item = &'t Route>, ask: &Ask<'_>, budget: &RetryBudget) -> bool {
    let is_there = |deployment: &Deployment, now: Timestamp| {
        is_candidate(deployment, ask, Trust::Anyone)
            || (is_able(deployment, ask) && deployment.gauges.last_resort_at().is_some_and(|at| now >= at))
    };
    !ask.tried.is_empty()
        && !budget.allows()
        && routes.any(|route| route.deployments().any(|deployment| is_there(deployment, ask.now)))
}
