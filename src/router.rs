//! The actor `Router`: one per HTTP worker, on its thread. Picks a deployment per attempt, or says when to come back.

pub mod decisions;
mod explain;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MailboxError, Message};
use smallvec::SmallVec;

use crate::balance::health::State;
use crate::balance::select::{self, Candidate};
use crate::domain::demand::Demand;
use crate::domain::ids::RequestId;
use crate::domain::time::{self, Timestamp};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::lease::Lease;
use crate::fleet::pool::{Pool, Subscribe};
use crate::fleet::routes::{Publish, Route, RouteTable};
use crate::tripwire::Tripwire;
use decisions::{Budget, Decisions, Occasion};
use explain::{Choice, explain};

/// Asks for the right to send one request.
#[derive(Message)]
#[rtype(result = "Result<Lease, Refusal>")]
pub struct Acquire {
    /// For whom, so that the choice can be explained.
    pub request: RequestId,
    pub demand: Demand,
    /// Deployments this request has been sent to already.
    pub tried: SmallVec<[DeploymentId; 4]>,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownModel,
    /// Deployments work, but none has room before `retry_after`.
    Exhausted {
        retry_after: Duration,
    },
    /// None works; the soonest is looked at again after `retry_after`.
    Unavailable {
        retry_after: Duration,
    },
}

/// A worker's handle to its router and to the table the router holds.
#[derive(Clone)]
pub struct RouterHandle {
    router: Addr<Router>,
    table: Rc<RefCell<Arc<RouteTable>>>,
}

impl RouterHandle {
    /// Starts the router of this thread. `table` is the present one; the subscription brings every later one.
    pub fn start(pool: &Addr<Pool>, table: Arc<RouteTable>, decisions: Decisions, tripwire: Tripwire) -> Self {
        let table = Rc::new(RefCell::new(table));
        let router = Router {
            table: table.clone(),
            pool: pool.clone(),
            rng: fastrand::Rng::new(),
            budget: Budget::default(),
            decisions,
            _tripwire: tripwire,
        };
        Self { router: router.start(), table }
    }

    /// The table in force, for handlers on the router's thread.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.borrow().clone()
    }

    pub async fn acquire(&self, acquire: Acquire) -> Result<Result<Lease, Refusal>, MailboxError> {
        self.router.send(acquire).await
    }
}

pub struct Router {
    /// Written by `Publish` only; shared with handlers of the same thread.
    table: Rc<RefCell<Arc<RouteTable>>>,
    pool: Addr<Pool>,
    rng: fastrand::Rng,
    budget: Budget,
    decisions: Decisions,
    /// Fires when this actor dies, or when its worker has stopped and nobody listens any more.
    _tripwire: Tripwire,
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        use actix::fut::{ActorFutureExt, WrapFuture};
        let subscribe = self.pool.send(Subscribe(ctx.address().recipient()));
        // Handlers may run before the answer: they use the table they were started with.
        ctx.spawn(subscribe.into_actor(self).map(|published, router, _| match published {
            Ok(Publish(table)) => *router.table.borrow_mut() = table,
            Err(error) => tracing::error!(%error, "the pool did not answer a router"),
        }));
    }
}

impl Handler<Publish> for Router {
    type Result = ();

    fn handle(&mut self, Publish(table): Publish, _: &mut Context<Self>) {
        *self.table.borrow_mut() = table;
    }
}

impl Handler<Acquire> for Router {
    type Result = Result<Lease, Refusal>;

    fn handle(&mut self, acquire: Acquire, _: &mut Context<Self>) -> Self::Result {
        let table = self.table.borrow();
        let route = table.model(acquire.demand.model.as_str()).ok_or(Refusal::UnknownModel)?;
        let now = time::now();
        let chosen = choose(route, &acquire.tried, now, &mut self.rng);
        let first = chosen.is_ok() && acquire.tried.is_empty();
        let debugging = tracing::enabled!(tracing::Level::DEBUG);
        if debugging || self.budget.take(if first { Occasion::First } else { Occasion::Further }, now).is_some() {
            let (lease, rival) = chosen.as_ref().map_or((None, None), |(lease, rival)| (Some(lease), *rival));
            let choice = Choice { route, tried: &acquire.tried, chosen: lease.map(Lease::deployment), rival };
            let decision = explain(&choice, now, time::wall_now());
            let chosen = decision.chosen.as_ref().map(tracing::field::display);
            tracing::debug!(request = %acquire.request, model = %route.model, chosen, passed_over = %decision, "routed");
            self.decisions.keep(acquire.request, decision);
        }
        chosen.map(|(lease, _)| lease)
    }
}

/// The first tier with a candidate serves. Losing a race for a probe means looking again; each loss takes a candidate
/// away, so this ends. With the lease comes the other deployment that was drawn.
fn choose(
    route: &Route,
    tried: &[DeploymentId],
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Result<(Lease, Option<DeploymentId>), Refusal> {
    for tier in &route.tiers {
        loop {
            let candidates: SmallVec<[Candidate; 16]> = tier
                .deployments
                .iter()
                .enumerate()
                .filter(|(_, deployment)| is_candidate(deployment, tried, now))
                .map(|(index, deployment)| candidate(index, deployment))
                .collect();
            let Some(picked) = select::pick(&candidates, |below| rng.u64(..below)) else { break };
            let at = |index: usize| tier.deployments.get(index);
            if let Some(lease) = at(picked.index).and_then(|deployment| Lease::take(deployment, now)) {
                return Ok((lease, picked.rival.and_then(at).map(|rival| rival.id)));
            }
        }
    }
    Err(refusal(route, now))
}

fn candidate(index: usize, deployment: &Deployment) -> Candidate {
    let gauges = &deployment.gauges;
    Candidate { index, weight: deployment.weight, in_flight: gauges.in_flight(), latency: gauges.latency() }
}

fn is_candidate(deployment: &Deployment, tried: &[DeploymentId], now: Timestamp) -> bool {
    !deployment.gauges.is_drained()
        && deployment.has_room()
        && deployment.gauges.may_ask(now)
        && !tried.contains(&deployment.id)
}

/// When the soonest deployment comes back, and whether the trouble is want of room or want of health.
fn refusal(route: &Route, now: Timestamp) -> Refusal {
    /// What is guessed for a deployment that is full, or that this request has tried.
    const SOON: Duration = Duration::from_secs(1);
    let wait = |deployment: &Deployment| match deployment.gauges.ready_at().since(now) {
        Duration::ZERO => SOON,
        wait => wait,
    };
    let open = || route.deployments().filter(|deployment| !deployment.gauges.is_drained());
    let retry_after = open().map(|deployment| wait(deployment)).min().unwrap_or(SOON);
    let busy = open().any(|deployment| match deployment.gauges.state() {
        State::Cooling => true,
        State::Closed => !deployment.has_room() || deployment.gauges.ready_at() > now,
        State::Open | State::Quarantined => false,
    });
    if busy { Refusal::Exhausted { retry_after } } else { Refusal::Unavailable { retry_after } }
}
