//! What a request has met so far, and how many further attempts that leaves it.
//!
//! `routing.attempts` bounds attempts that fail, and a deployment that is full has not failed: while it is the first time
//! that a request hears so from it, the attempt is not counted. Each is asked once so, until all are known to be busy;
//! whoever has waited for them then is counted like after any other failure. Nothing here decides who is asked next.

use smallvec::SmallVec;

use super::attempt::{Failure, Order};
use super::books::AttemptEnd;
use crate::balance::blame;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::time;
use crate::domain::usage::Usage;
use crate::fleet::deployment::DeploymentId;
use crate::fleet::lease::Lease;
use crate::settings::model::Routing;

#[derive(Default)]
pub struct Tries {
    outcomes: SmallVec<[Outcome; 4]>,
    /// Those that count.
    spent: u32,
    /// Deployments that this request is not to be sent to again.
    tried: SmallVec<[DeploymentId; 4]>,
    /// Those of them that only asked for a pause.
    busy: SmallVec<[DeploymentId; 4]>,
    /// Whether it has waited for those.
    has_waited: bool,
}

impl Tries {
    pub fn is_first(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// How each attempt ended, the oldest first.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    pub fn tried(&self) -> SmallVec<[DeploymentId; 4]> {
        self.tried.clone()
    }

    /// Whether no further attempt may begin.
    pub fn are_spent(&self, routing: &Routing) -> bool {
        self.spent >= routing.attempts
    }

    /// Whether none may begin once the one under way has failed.
    pub fn is_last(&self, routing: &Routing) -> bool {
        self.spent + 1 >= routing.attempts
    }

    /// An attempt failed: its deployment hears of it, unless it is to blame for nothing, and is not asked again. Gives
    /// what the books are to be told.
    pub fn failed(&mut self, order: &Order, routing: &Routing, lease: Lease, failure: Failure) -> AttemptEnd {
        let Failure { outcome, status, charge, figures, upstream_id, detail } = failure;
        let deployment = lease.deployment();
        tracing::debug!(resource = %deployment.resource, deployment = %deployment.name, reason = outcome.reason(), detail,
            "attempt failed");
        lease.heard(&figures);
        let blameless = blame::is_suspect(&self.outcomes, outcome) || is_our_lateness(order, routing, &lease, outcome);
        self.note(deployment.id, outcome);
        lease.settle(if blameless { Outcome::Abandoned } else { outcome }, None);
        AttemptEnd { status, outcome, usage: Usage::default(), charge, upstream_id }
    }

    fn note(&mut self, deployment: DeploymentId, outcome: Outcome) {
        let is_busy = matches!(outcome, Outcome::Throttled { .. });
        self.outcomes.push(outcome);
        self.spent += u32::from(!is_busy || self.has_waited);
        self.tried.push(deployment);
        if is_busy {
            self.busy.push(deployment);
        }
    }

    /// Who waits does so for those, too.
    pub fn forgive_busy(&mut self) {
        let busy = std::mem::take(&mut self.busy);
        self.tried.retain(|deployment| !busy.contains(deployment));
        self.has_waited = true;
    }
}

/// Whether an attempt failed by a timeout that this process noticed too late.
fn is_our_lateness(order: &Order, routing: &Routing, lease: &Lease, outcome: Outcome) -> bool {
    let patience = if outcome == Outcome::Faulted(Fault::Connect) {
        // For name and TCP, for TLS, and for a proxy between.
        routing.connect_timeout * 3
    } else if order.peek.stream {
        order.first_byte_timeout
    } else {
        routing.response_timeout
    };
    blame::is_our_lateness(outcome, time::now().since(lease.began()), patience)
}
