//! The right to send one request to one deployment.

use std::sync::Arc;
use std::time::Duration;

use super::deployment::Deployment;
use super::gauges::Taken;
use super::resource::Paced;
use crate::azure::headers::Figures;
use crate::balance::gray::Speed;
use crate::balance::health::Report;
use crate::balance::pause;
use crate::balance::quota::{Refused, Ticket};
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

    /// Tells the owner how a long stream is doing, as far as the owner is due a sample.
    pub fn pace(&self, per_token: Duration) {
        if !self.deployment.gauges.claim_sample(time::now()) {
            return;
        }
        let paced = Paced { deployment: self.deployment.id, began: self.began, per_token };
        // A retired resource's actor is gone, and one with a full mailbox can do without.
        let _ = self.deployment.owner.paced.try_send(paced);
    }

    /// The deployment has answered, and the lease goes on: a session that it has opened is no probe any more. What
    /// becomes of the session is told by settling.
    pub fn proven(&mut self, speed: Speed) {
        let Some(taken) = &mut self.taken else { return };
        let (now, gauges) = (time::now(), &self.deployment.gauges);
        let is_due = gauges.wants_report(now);
        gauges.count_answer();
        gauges.end_probe(taken);
        if is_due {
            self.deployment.report(Report { outcome: Outcome::Served, began: self.began, now }, Some(speed));
        }
    }

    /// Azure refused the request before it counted it; before the lease is settled.
    pub fn uncounted(&self) {
        self.deployment.quota.give_back(&self.ticket, time::now());
    }

    /// Gives the place back and tells the deployment's owner how it went; `speed` feeds its latency, and what it is
    /// compared with its peers by.
    pub fn settle(mut self, outcome: Outcome, speed: Option<Speed>) {
        self.end(outcome, speed);
    }

    fn end(&mut self, outcome: Outcome, speed: Option<Speed>) {
        let Some(taken) = self.taken.take() else { return };
        let now = time::now();
        let gauges = &self.deployment.gauges;
        if matches!(outcome, Outcome::Served | Outcome::Rejected { .. }) {
            gauges.count_answer();
        }
        match outcome {
            Outcome::Throttled { cause, retry_after } => {
                let pause = retry_after.unwrap_or(self.deployment.cooldown);
                let refused = Refused { cause, wait: pause, probes: gauges.count_refusal(&taken) };
                let apart = self.deployment.quota.refused(&self.ticket, refused, now);
                let extra = pause::extra(pause, refused.probes, apart, fastrand::f64());
                gauges.close_until(now.after(pause + extra));
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
        // First the report: whoever sees the place free sees, too, that there is bad news.
        if !silent {
            self.deployment.report(Report { outcome, began: self.began, now }, speed);
        }
        gauges.give_back(taken);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned, None);
    }
}
