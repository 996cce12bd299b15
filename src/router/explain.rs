//! Puts a choice that was just made into words. It decides nothing: whoever changes how the router chooses changes the
//! reasons here too.

use std::sync::Arc;

use super::decisions::{Chosen, Decision, Occasion, PassedOver, Reason, SHOWN};
use super::pick::Manner;
use super::{Offer, Refusal, Router, candidate, routes};
use crate::balance::health::State;
use crate::balance::share::FULL;
use crate::domain::demand::Demand;
use crate::domain::ids::RequestId;
use crate::domain::time::{self, Timestamp, WallTime};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::routes::{Route, RouteTable};

impl Router {
    /// Keeps why a choice was made, as far as the budget goes.
    pub(super) fn note(
        &mut self,
        request: RequestId,
        table: &RouteTable,
        demand: &Demand,
        tried: &[DeploymentId],
        offered: &Result<Offer<'_>, Refusal>,
        now: Timestamp,
    ) {
        let is_plain = tried.is_empty() && offered.as_ref().is_ok_and(|offer| offer.manner.is_plain());
        let occasion = if is_plain { Occasion::First } else { Occasion::Further };
        if !tracing::enabled!(tracing::Level::DEBUG) && self.budget.take(occasion, now).is_none() {
            return;
        }
        let offer = offered.as_ref().ok();
        let Some(route) = offer.map(|offer| offer.route).or_else(|| routes(table, demand).next()) else { return };
        let tokens = demand.counted_tokens();
        let (chosen, manner) = (offer.map(|offer| offer.lease.deployment()), offer.map(|offer| offer.manner));
        let decision = explain(&Choice { route, demand, tokens, tried, chosen, manner }, now, time::wall_now());
        let chosen = decision.chosen.as_ref().map(tracing::field::display);
        tracing::debug!(%request, model = %route.model, chosen, passed_over = %decision, "routed");
        self.decisions.keep(request, decision);
    }
}

/// What the router knows of its choice.
struct Choice<'a> {
    route: &'a Route,
    demand: &'a Demand,
    /// What the request needs of a deployment's quota.
    tokens: u64,
    tried: &'a [DeploymentId],
    chosen: Option<&'a Arc<Deployment>>,
    /// How; `None` when nobody was.
    manner: Option<Manner>,
}

/// `now` and `wall` are the moment of the choice.
fn explain(choice: &Choice<'_>, now: Timestamp, wall: WallTime) -> Decision {
    let chosen = choice.chosen.map(|deployment| Chosen {
        resource: deployment.resource.clone(),
        deployment: deployment.name.clone(),
        priority: deployment.priority,
        manner: choice.manner.unwrap_or(Manner::Drawn { rival: None }),
        // Its own request is in flight by now, and was not when it was chosen.
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
    if !choice.demand.may_go_to(&other.resource) {
        return Reason::NotItsResource;
    }
    if choice.tried.contains(&other.id) {
        return Reason::AlreadyTried;
    }
    if !choice.demand.regions.allow(other.place.as_ref()) {
        return Reason::RegionNotAllowed;
    }
    if !choice.demand.skus.allow(other.sku) {
        return Reason::PromptTooLong;
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
    if !choice.tried.is_empty() && gauges.is_known_bad(now) {
        return Reason::KnownBad;
    }
    if !other.leaves_room(choice.demand, now) {
        return Reason::BatchShare { share: choice.demand.batch_share };
    }
    if choice.chosen.is_some_and(|chosen| chosen.priority < other.priority) {
        return Reason::LowerTier { priority: other.priority };
    }
    let load = candidate(0, other, now).load();
    let share = gauges.share();
    if share < FULL {
        return Reason::LoweredShare { share: f64::from(share) / f64::from(FULL), load };
    }
    match choice.manner {
        Some(Manner::Pinned { .. }) => Reason::CachedElsewhere { load },
        Some(manner) if manner.rival() == Some(other.id) => Reason::LostDraw { load },
        Some(_) | None => Reason::NotDrawn { load },
    }
}
