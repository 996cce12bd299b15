//! The actor `Resource`: one Azure resource, the only owner of its deployments' health.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message};

use super::credential::Credential;
use super::deployment::{Deployment, DeploymentId};
use super::tally::LastError;
use crate::balance::health::{Health, Report, State};
use crate::balance::latency::PeakEwma;
use crate::domain::ids::ResourceName;
use crate::domain::outcome::{Outcome, ThrottleCause};
use crate::domain::time;
use crate::settings::model;
use crate::tripwire::Tripwire;

/// How an attempt ended; sent by its lease.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Settled {
    pub deployment: DeploymentId,
    pub report: Report,
    pub ttfb: Option<Duration>,
}

/// The resource left the settings: its deployments finish what they have, and the actor ends.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

/// Asked once, right after the start.
#[derive(Message)]
#[rtype(result = "Deployments")]
pub(super) struct Describe;

#[derive(actix::MessageResponse)]
pub(super) struct Deployments(pub Vec<Arc<Deployment>>);

pub struct Resource {
    name: ResourceName,
    settings: model::Resource,
    credential: Credential,
    cooldown: Duration,
    deployments: Vec<(Arc<Deployment>, Health, PeakEwma)>,
    tripwire: Tripwire,
}

/// Reports of a burst wait here; a healthy deployment sends a hundred a second.
const MAILBOX: usize = 1 << 16;

impl Resource {
    pub(super) fn new(
        name: ResourceName,
        settings: model::Resource,
        credential: Credential,
        cooldown: Duration,
        tripwire: Tripwire,
    ) -> Self {
        Self { name, settings, credential, cooldown, deployments: Vec::new(), tripwire }
    }
}

impl Actor for Resource {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        use actix::AsyncContext;
        ctx.set_mailbox_capacity(MAILBOX);
        let owner = ctx.address().recipient();
        self.deployments = Deployment::of_resource(&self.name, &self.settings, &self.credential, self.cooldown, &owner)
            .into_iter()
            .map(|deployment| (deployment, Health::new(self.cooldown), PeakEwma::default()))
            .collect();
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        tracing::debug!(resource = %self.name, "resource retired");
    }
}

impl Handler<Describe> for Resource {
    type Result = Deployments;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> Deployments {
        Deployments(self.deployments.iter().map(|(deployment, ..)| deployment.clone()).collect())
    }
}

impl Handler<Settled> for Resource {
    type Result = ();

    fn handle(&mut self, settled: Settled, _: &mut Context<Self>) {
        let Some((deployment, health, latency)) =
            self.deployments.iter_mut().find(|(deployment, ..)| deployment.id == settled.deployment)
        else {
            return;
        };
        let before = health.state();
        health.observe(settled.report);
        if let Some(ttfb) = settled.ttfb {
            latency.add(ttfb, settled.report.now);
        }
        deployment.gauges.publish(health, latency.value());
        if settled.report.outcome.may_retry() {
            deployment.gauges.bad_news_heard();
            let ago = time::now().since(settled.report.now);
            deployment
                .tally
                .note_error(LastError { outcome: settled.report.outcome, at: time::wall_now().before(ago) });
        }
        if health.state() != before {
            announce(deployment, before, health, &settled.report);
        }
    }
}

impl Handler<Retire> for Resource {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.tripwire.disarm();
        ctx.stop();
    }
}

/// A change of state is logged once, here.
fn announce(deployment: &Deployment, before: State, health: &Health, report: &Report) {
    let wait_ms = health.ready_at().since(report.now).as_millis();
    let (resource, name) = (&deployment.resource, &deployment.name);
    let reason = report.outcome.reason();
    match health.state() {
        State::Closed => {
            tracing::info!(%resource, deployment = %name, was = before.label(), "deployment takes traffic again");
        }
        State::Cooling => {
            let cause = match report.outcome {
                Outcome::Throttled { cause, .. } => cause,
                Outcome::Served
                | Outcome::Faulted(_)
                | Outcome::Misconfigured { .. }
                | Outcome::Rejected { .. }
                | Outcome::Abandoned => ThrottleCause::Unknown,
            };
            tracing::info!(%resource, deployment = %name, wait_ms, cause = cause.label(), "deployment asked for a pause");
        }
        State::Open => {
            tracing::warn!(%resource, deployment = %name, wait_ms, reason, "deployment keeps failing and is left alone");
        }
        State::Quarantined => {
            tracing::error!(%resource, deployment = %name, wait_ms, reason,
                "deployment refused our credential or does not exist; check its api_key or identity, and its name");
        }
    }
}
