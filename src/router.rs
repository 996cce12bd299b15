//! The actor `Router`: one per HTTP worker, on its thread. Picks a deployment per attempt, or says when to come back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MailboxError, Message};
use smallvec::SmallVec;

use crate::balance::health::State;
use crate::balance::select::{self, Candidate};
use crate::domain::demand::Demand;
use crate::domain::time::{self, Timestamp};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::lease::Lease;
use crate::fleet::pool::{Pool, Subscribe};
use crate::fleet::routes::{Publish, Route, RouteTable};
use crate::tripwire::Tripwire;

/// Asks for the right to send one request.
#[derive(Message)]
#[rtype(result = "Result<Lease, Refusal>")]
pub struct Acquire {
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
    pub fn start(pool: &Addr<Pool>, table: Arc<RouteTable>, tripwire: Tripwire) -> Self {
        let table = Rc::new(RefCell::new(table));
        let router =
            Router { table: table.clone(), pool: pool.clone(), rng: fastrand::Rng::new(), _tripwire: tripwire }.start();
        Self { router, table }
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
        choose(route, &acquire.demand, &acquire.tried, time::now(), &mut self.rng)
    }
}

/// The first tier with a candidate serves. Losing a race for a probe or for quota means looking again; each loss takes
/// a candidate away, so this ends.
fn choose(
    route: &Route,
    demand: &Demand,
    tried: &[DeploymentId],
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Result<Lease, Refusal> {
    let tokens = demand.counted_tokens();
    for tier in &route.tiers {
        loop {
            let candidates: SmallVec<[Candidate; 16]> = tier
                .deployments
                .iter()
                .enumerate()
                .filter(|(_, deployment)| is_candidate(deployment, tokens, tried, now))
                .map(|(index, deployment)| Candidate {
                    index,
                    weight: deployment.weight,
                    in_flight: deployment.gauges.in_flight(),
                    latency: deployment.gauges.latency(),
                    headroom: deployment.quota.headroom(tokens, now),
                })
                .collect();
            let Some(index) = select::pick(&candidates, |below| rng.u64(..below)) else { break };
            if let Some(lease) = tier.deployments.get(index).and_then(|deployment| Lease::take(deployment, tokens, now))
            {
                return Ok(lease);
            }
        }
    }
    Err(refusal(route, tokens, now))
}

fn is_candidate(deployment: &Deployment, tokens: u64, tried: &[DeploymentId], now: Timestamp) -> bool {
    deployment.has_room()
        && deployment.gauges.may_ask(now)
        && deployment.quota.seems_to_fit(tokens, now)
        && !tried.contains(&deployment.id)
}

/// When the soonest deployment comes back, and whether the trouble is want of room or want of health.
fn refusal(route: &Route, tokens: u64, now: Timestamp) -> Refusal {
    /// What is guessed for a deployment that is full, or that this request has tried.
    const SOON: Duration = Duration::from_secs(1);
    let ready = |deployment: &Deployment| deployment.gauges.ready_at().since(now);
    let wait = |deployment: &Deployment| match ready(deployment).max(deployment.quota.wait(tokens, now)) {
        Duration::ZERO => SOON,
        wait => wait,
    };
    let retry_after = route.deployments().map(|deployment| wait(deployment)).min().unwrap_or(SOON);
    let busy = route.deployments().any(|deployment| match deployment.gauges.state() {
        State::Cooling => true,
        State::Closed => {
            !deployment.has_room() || !ready(deployment).is_zero() || !deployment.quota.seems_to_fit(tokens, now)
        }
        State::Open | State::Quarantined => false,
    });
    if busy { Refusal::Exhausted { retry_after } } else { Refusal::Unavailable { retry_after } }
}
