//! The deployments of each tier, side by side: who answers so much worse than its peers that it gets less.
//!
//! Called by the `Pool`, which knows the peers. What is worse is decided in [`crate::balance::gray`].

use smallvec::SmallVec;

use super::deployment::Deployment;
use super::routes::RouteTable;
use super::tier::Tier;
use crate::balance::gray::{self, Signs};
use crate::balance::share::{FULL, Share};
use crate::domain::time::Timestamp;

/// Publishes the share of every deployment in the table.
pub(super) fn compare(table: &RouteTable, now: Timestamp) {
    table.models.iter().flat_map(|route| &route.tiers).for_each(|tier| compare_tier(tier, now));
}

fn compare_tier(tier: &Tier, now: Timestamp) {
    let look = |deployment: &Deployment| (deployment.vitals.signs(now), deployment.gauges.share_among_peers());
    let seen: SmallVec<[(Signs, Share); 16]> = tier.deployments.iter().map(|deployment| look(deployment)).collect();
    for ((deployment, (signs, before)), share) in tier.deployments.iter().zip(&seen).zip(gray::shares(&seen)) {
        deployment.gauges.set_share_among_peers(share);
        announce(deployment, signs, *before, share);
    }
}

/// A share that leaves or reaches the whole is logged once, here.
fn announce(deployment: &Deployment, signs: &Signs, before: Share, share: Share) {
    let (resource, name, model) = (&deployment.resource, &deployment.name, &deployment.model);
    if before == FULL && share < FULL {
        let first_byte_ms = signs.first.map(|typical| typical.lately.as_millis());
        let token_ms = signs.per_token.or(signs.whole).map(|typical| typical.lately.as_millis());
        let faults = signs.faults.bad;
        tracing::warn!(%resource, deployment = %name, %model, share = f64::from(share) / f64::from(FULL), first_byte_ms,
            token_ms, faults, "deployment answers worse than its peers and gets less traffic");
    } else if before < FULL && share == FULL {
        tracing::info!(%resource, deployment = %name, %model, "deployment answers as well as its peers again");
    }
}
