//! One request inside a session: what it takes of its deployment's quota, beside the session's own lease.
//!
//! Azure counts each response of a session against the deployment's requests and tokens per minute, as it does a call.
//! The session's place among those in flight is the lease's; whether a request is let in by its caller's limits is
//! decided above.

use std::sync::Arc;
use std::time::Duration;

use super::deployment::Deployment;
use crate::azure::headers::Figures;
use crate::balance::health::{Report, State};
use crate::balance::pause;
use crate::balance::quota::{Refused, Ticket};
use crate::domain::demand::Demand;
use crate::domain::outcome::{Outcome, ThrottleCause};
use crate::domain::time::{self, Timestamp};

/// What was taken for it. It needs no giving back: what was sent has counted.
#[derive(Debug)]
pub struct Within {
    deployment: Arc<Deployment>,
    ticket: Ticket,
    began: Timestamp,
}

/// Where nobody can say when there is room.
const SOON: Duration = Duration::from_millis(100);

impl Within {
    /// Takes room for such a request, or says how long there is none: a deployment that has asked for a pause has none
    /// either.
    pub fn take(deployment: &Arc<Deployment>, demand: &Demand, now: Timestamp) -> Result<Self, Duration> {
        let pause = match deployment.gauges.state() {
            State::Open | State::Quarantined => Duration::ZERO,
            State::Closed | State::Cooling => deployment.gauges.ready_at().since(now),
        };
        let wait = pause.max(deployment.quota_wait(demand, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        if !deployment.leaves_room(demand, now) {
            return Err(SOON);
        }
        let ticket = deployment.quota.take(demand.counted_tokens(), now).ok_or(SOON)?;
        Ok(Self::counted(deployment, ticket, now))
    }

    /// Of one that is under way, whatever room there is.
    pub fn count(deployment: &Arc<Deployment>, tokens: u64, now: Timestamp) -> Self {
        Self::counted(deployment, deployment.quota.count(tokens, now), now)
    }

    fn counted(deployment: &Arc<Deployment>, ticket: Ticket, now: Timestamp) -> Self {
        deployment.tally.count(now);
        Self { deployment: deployment.clone(), ticket, began: now }
    }

    /// What the upstream says of the deployment's quota.
    pub fn heard(&self, figures: &Figures) {
        self.deployment.quota.heard(&self.ticket, figures, time::now());
    }

    /// It was never sent, or was refused before it counted.
    pub fn uncounted(self) {
        self.deployment.quota.give_back(&self.ticket, time::now());
    }

    /// The deployment asked to be left alone; everyone hears of it, as of any 429.
    pub fn throttled(self, cause: ThrottleCause, retry_after: Option<Duration>) {
        let (now, deployment) = (time::now(), &self.deployment);
        let pause = retry_after.unwrap_or(deployment.cooldown);
        let refused = Refused { cause, wait: pause, probes: 0 };
        let apart = deployment.quota.refused(&self.ticket, refused, now);
        deployment.gauges.close_until(now.after(pause + pause::extra(pause, 0, apart, fastrand::f64())));
        let outcome = Outcome::Throttled { cause, retry_after };
        deployment.report(Report { outcome, began: self.began, now }, None);
    }
}
