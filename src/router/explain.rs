//! Puts a choice that was just made into words. It decides nothing: whoever changes how the router chooses changes the
//! reasons here too.

use std::sync::Arc;

use super::candidate;
use super::decisions::{Chosen, Decision, PassedOver, Reason, SHOWN};
use super::pick::Manner;
use crate::balance::health::State;
use crate::domain::time::{Timestamp, WallTime};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::routes::Route;

/// What the router knows of its choice.
pub(super) struct Choice<'a> {
    pub route: &'a Route,
    /// What the request needs of a deployment's quota.
    pub tokens: u64,
    pub tried: &'a [DeploymentId],
    pub chosen: Option<&'a Arc<Deployment>>,
    /// How; `None` when nobody was.
    pub manner: Option<Manner>,
}

/// `now` and `wall` are the moment of the choice.
pub(super) fn explain(choice: &Choice<'_>, now: Timestamp, wall: WallTime) -> Decision {
    let chosen = choice.chosen.map(|deployment| Chosen {
        resource: deployment.resource.clone(),
        deployment: deployment.name.clone(),
        priority: deployment.priority,
        // Its own request is in flight by now, and was not when it was chosen.
        manner: choice.manner.unwrap_or(Manner::Drawn { rival: None }),
        load: candidate(0, deployment, now).with_one_less().load(),
    });
    let others = || choice.route.deployments().filter(|other| choice.chosen.is_none_or(|chosen| chosen.id != other.id));
    let passed_over = others().take(SHOWN).map(|other| PassedOver {
        resource: other.resource.clone(),
        deployment: other.name.clone(),
        reason: reason(choice, other, now, wall),
    });
    Decision { at: wall, chosen, passed_over: passed_over.collect(), not_shown: others().count().saturating_sub(SHOWN) }
}

fn reason(choice: &Choice<'_>, other: &Deployment, now: Timestamp, wall: WallTime) -> Reason {
    let gauges = &other.gauges;
    if choice.tried.contains(&other.id) {
        return Reason::AlreadyTried;
    }
    if gauges.is_drained() {
        return Reason::Drained;
    }
    let wait = gauges.ready_at().since(now);
    if !wait.is_zero() {
        let until = wall.after(wait);
        return match gauges.state() {
            // Closed to the owner, and not to the lease that met a 429 a moment ago.
            State::Closed | State::Cooling => Reason::Cooling { until },
            State::Open => Reason::BreakerOpen { until },
            State::Quarantined => Reason::Quarantined { until },
        };
    }
    if !gauges.may_ask(now) {
        return Reason::BeingProbed;
    }
    if let Some(most) = other.max_in_flight.filter(|_| !other.has_room()) {
        return Reason::NoRoom { in_flight: gauges.in_flight(), most };
    }
    if !other.credential.is_usable(now) {
        return Reason::NoCredential;
    }
    if !other.quota.seems_to_fit(choice.tokens, now) {
        return Reason::NoQuota { until: wall.after(other.quota.wait(choice.tokens, now)) };
    }
    if choice.chosen.is_some_and(|chosen| chosen.priority < other.priority) {
        return Reason::LowerTier { priority: other.priority };
    }
    let load = candidate(0, other, now).load();
    match choice.manner {
        Some(Manner::Pinned { .. }) => Reason::CachedElsewhere { load },
        Some(Manner::Drawn { rival } | Manner::Spilled { rival }) if rival == Some(other.id) => {
            Reason::LostDraw { load }
        }
        Some(Manner::Drawn { .. } | Manner::Spilled { .. }) | None => Reason::NotDrawn { load },
    }
}
