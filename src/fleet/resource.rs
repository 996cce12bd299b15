//! The actor `Resource`: one Azure resource, the only owner of its deployments' health.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler, Message};

use super::credential::Credential;
use super::deployment::{Deployment, DeploymentId, Owner};
use super::tally::LastError;
use crate::balance::gray::Speed;
use crate::balance::health::{Health, Report, State};
use crate::balance::latency::PeakEwma;
use crate::balance::share::FULL;
use crate::domain::ids::ResourceName;
use crate::domain::outcome::{Outcome, ThrottleCause};
use crate::domain::time::{self, Timestamp};
use crate::settings::model;
use crate::tripwire::Tripwire;

/// How an attempt ended; sent by its lease.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Settled {
    pub deployment: DeploymentId,
    pub report: Report,
    pub speed: Option<Speed>,
}

/// How a stream is doing that has not ended; sent by its lease.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Paced {
    pub deployment: DeploymentId,
    pub began: Timestamp,
    pub per_token: Duration,
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
    deployments: Vec<Member>,
    /// Whether one of them is on its slow start, and the next step of it is on its way.
    stepping: bool,
    tripwire: Tripwire,
}

/// One deployment and what its owner knows of it.
struct Member {
    deployment: Arc<Deployment>,
    health: Health,
    latency: PeakEwma,
    /// Good answers that the health has been told of; most of them sent no report.
    answered: u64,
}

impl Member {
    fn publish(&self, now: Timestamp) {
        self.deployment.gauges.publish(&self.health, self.latency.value(), now);
    }
}

/// How finely a share rises.
const STEP: Duration = Duration::from_millis(500);

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
        Self { name, settings, credential, cooldown, deployments: Vec::new(), stepping: false, tripwire }
    }
}

impl Actor for Resource {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        use actix::AsyncContext;
        ctx.set_mailbox_capacity(MAILBOX);
        let owner = Owner { settled: ctx.address().recipient(), paced: ctx.address().recipient() };
        self.deployments = Deployment::of_resource(&self.name, &self.settings, &self.credential, self.cooldown, &owner)
            .into_iter()
            .map(|deployment| Member {
                deployment,
                health: Health::new(self.cooldown),
                latency: PeakEwma::default(),
                answered: 0,
            })
            .collect();
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        tracing::debug!(resource = %self.name, "resource retired");
    }
}

impl Handler<Describe> for Resource {
    type Result = Deployments;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> Deployments {
        Deployments(self.deployments.iter().map(|member| member.deployment.clone()).collect())
    }
}

impl Handler<Settled> for Resource {
    type Result = ();

    fn handle(&mut self, settled: Settled, ctx: &mut Context<Self>) {
        let Settled { deployment, report, speed } = settled;
        let Some(member) = self.member(deployment) else { return };
        let Member { deployment, health, latency, answered } = &mut *member;
        let before = health.state();
        let total = deployment.gauges.answered();
        let new = total - std::mem::replace(answered, total);
        health.answered(new, report.now);
        health.observe(report);
        if let Some(speed) = speed {
            latency.add(speed.first(), report.now);
        }
        let recovered = health.state() == State::Closed && matches!(before, State::Open | State::Quarantined);
        deployment.vitals.change(|vitals| {
            if recovered {
                vitals.forget();
            }
            vitals.count(new, report.outcome, report.now);
            if let (Some(speed), Outcome::Served) = (speed, report.outcome) {
                vitals.add_speed(speed, report.began);
            }
        });
        member.publish(report.now);
        let Member { deployment, health, .. } = &*member;
        if report.outcome.may_retry() {
            deployment.gauges.bad_news_heard();
            let ago = time::now().since(report.now);
            deployment.tally.note_error(LastError { outcome: report.outcome, at: time::wall_now().before(ago) });
        }
        if health.state() != before {
            announce(deployment, before, health, &report);
        }
        if recovered {
            self.step_soon(ctx);
        }
    }
}

impl Handler<Paced> for Resource {
    type Result = ();

    fn handle(&mut self, Paced { deployment, began, per_token }: Paced, _: &mut Context<Self>) {
        if let Some(member) = self.member(deployment) {
            member.deployment.vitals.change(|vitals| vitals.add_pace(per_token, began));
        }
    }
}

impl Resource {
    fn member(&mut self, deployment: DeploymentId) -> Option<&mut Member> {
        self.deployments.iter_mut().find(|member| member.deployment.id == deployment)
    }

    /// A share rises with time, also while no report comes.
    fn step_soon(&mut self, ctx: &mut Context<Self>) {
        use actix::AsyncContext;
        if std::mem::replace(&mut self.stepping, true) {
            return;
        }
        ctx.run_later(STEP, |resource, ctx| {
            let now = time::now();
            resource.stepping = false;
            resource.deployments.iter().for_each(|member| member.publish(now));
            if resource.deployments.iter().any(|member| member.health.share(now) < FULL) {
                resource.step_soon(ctx);
            }
        });
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
