//! The right to send one request to one deployment.

use std::sync::Arc;
use std::time::Duration;

use super::deployment::Deployment;
use super::gauges::Taken;
use super::resource::Settled;
use crate::balance::health::Report;
use crate::domain::outcome::Outcome;
use crate::domain::time::{self, Timestamp};

/// Settled exactly once: by [`Lease::settle`], or by being dropped, which counts as abandoned.
#[derive(Debug)]
pub struct Lease {
    deployment: Arc<Deployment>,
    began: Timestamp,
    taken: Option<Taken>,
}

impl Lease {
    /// `None` when the deployment's last room went to another worker since it was looked at.
    pub fn take(deployment: &Arc<Deployment>, now: Timestamp) -> Option<Self> {
        let taken = deployment.gauges.take()?;
        deployment.tally.count(now);
        Some(Self { deployment: deployment.clone(), began: now, taken: Some(taken) })
    }

    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// Gives the room back and tells the deployment's owner how it went; `ttfb` feeds its latency.
    pub fn settle(mut self, outcome: Outcome, ttfb: Option<Duration>) {
        self.end(outcome, ttfb);
    }

    fn end(&mut self, outcome: Outcome, ttfb: Option<Duration>) {
        let Some(taken) = self.taken.take() else { return };
        let now = time::now();
        let gauges = &self.deployment.gauges;
        if let Outcome::Throttled { retry_after } = outcome {
            gauges.close_until(now.after(retry_after.unwrap_or(self.deployment.cooldown)));
        }
        let silent = match outcome {
            Outcome::Served | Outcome::Rejected { .. } => !gauges.wants_report(now),
            Outcome::Abandoned => true,
            Outcome::Throttled { .. } | Outcome::Faulted(_) | Outcome::Misconfigured { .. } => false,
        };
        gauges.give_back(taken);
        if silent {
            return;
        }
        let report = Report { outcome, began: self.began, now };
        let settled = Settled { deployment: self.deployment.id, report, ttfb };
        if outcome.may_retry() {
            gauges.bad_news_sent();
        }
        // A retired resource's actor is gone; nothing is left to be told.
        if let Err(error) = self.deployment.owner.try_send(settled) {
            if outcome.may_retry() {
                gauges.bad_news_heard();
            }
            tracing::debug!(resource = %self.deployment.resource, %error, "a deployment's owner did not take a report");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned, None);
    }
}
