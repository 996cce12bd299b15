//! The right to send one request to one deployment.

use std::sync::Arc;
use std::time::Duration;

use super::deployment::Deployment;
use super::gauges::Taken;
use super::resource::Settled;
use crate::azure::headers::Figures;
use crate::balance::health::Report;
use crate::balance::quota::Ticket;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::time::{self, Timestamp};

/// Settled exactly once: by [`Lease::settle`], or by being dropped, which counts as abandoned.
#[derive(Debug)]
pub struct Lease {
    deployment: Arc<Deployment>,
    began: Timestamp,
    taken: Option<Taken>,
    ticket: Ticket,
}

/// A pause is lengthened by up to this share of it, and this much: gateways that met the same 429 do not all probe at
/// once.
const JITTER: f64 = 0.05;
const MOST_JITTER: Duration = Duration::from_millis(250);

impl Lease {
    /// Takes room for a request of so many tokens, as Azure counts them. `None` when the deployment's last room went to
    /// another worker since it was looked at.
    pub fn take(deployment: &Arc<Deployment>, tokens: u64, now: Timestamp) -> Option<Self> {
        let taken = deployment.gauges.take()?;
        let Some(ticket) = deployment.quota.take(tokens, now) else {
            deployment.gauges.give_back(taken);
            return None;
        };
        deployment.tally.count(now);
        Some(Self { deployment: deployment.clone(), began: now, taken: Some(taken), ticket })
    }

    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// What the answer's headers say of the deployment's quota; before the lease is settled.
    pub fn heard(&self, figures: &Figures) {
        self.deployment.quota.heard(&self.ticket, figures, time::now());
    }

    /// Azure refused the request before it counted it; before the lease is settled.
    pub fn uncounted(&self) {
        self.deployment.quota.give_back(&self.ticket, time::now());
    }

    /// Gives the place back and tells the deployment's owner how it went; `ttfb` feeds its latency.
    pub fn settle(mut self, outcome: Outcome, ttfb: Option<Duration>) {
        self.end(outcome, ttfb);
    }

    fn end(&mut self, outcome: Outcome, ttfb: Option<Duration>) {
        let Some(taken) = self.taken.take() else { return };
        let now = time::now();
        let gauges = &self.deployment.gauges;
        match outcome {
            Outcome::Throttled { cause, retry_after } => {
                let pause = retry_after.unwrap_or(self.deployment.cooldown);
                let jitter = pause.mul_f64(JITTER).min(MOST_JITTER).mul_f64(fastrand::f64());
                self.deployment.quota.refused(&self.ticket, cause, pause, now);
                gauges.close_until(now.after(pause + jitter));
            }
            Outcome::Faulted(Fault::Connect) => self.deployment.quota.give_back(&self.ticket, now),
            Outcome::Faulted(_)
            | Outcome::Served
            | Outcome::Misconfigured { .. }
            | Outcome::Rejected { .. }
            | Outcome::Abandoned => {}
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
