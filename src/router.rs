//! The actor `Router`: one per HTTP worker, on its thread. Picks a deployment per attempt, or says when to come back.

pub mod decisions;
mod explain;
pub mod pick;
mod waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MailboxError, Message};
use smallvec::SmallVec;

use crate::balance::health::State;
use crate::balance::select::{Candidate, Headroom};
use crate::balance::waiting::Line;
use crate::domain::demand::Demand;
use crate::domain::ids::{KeyId, ModelName, RequestId};
use crate::domain::time::{self, Timestamp};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::lease::Lease;
use crate::fleet::pool::{Pool, Subscribe};
use crate::fleet::routes::{Publish, Route, RouteTable};
use crate::tripwire::Tripwire;
use decisions::{Budget, Decisions, Occasion};
use explain::{Choice, explain};
use pick::{Ask, Manner};

use waiting::Waiter;
pub use waiting::{Wait, WaitingRoom};

/// Asks for the right to send one request.
#[derive(Message)]
#[rtype(result = "Result<Lease, Refusal>")]
pub struct Acquire {
    /// For whom, so that the choice can be explained.
    pub request: RequestId,
    pub demand: Demand,
    /// Deployments this request has been sent to already.
    pub tried: SmallVec<[DeploymentId; 4]>,
    pub turn: Turn,
}

/// Whether those who wait go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    BehindTheLine,
    /// A request that an upstream has failed has waited enough.
    Now,
}

/// What a client is told where nobody knows better.
pub const SOON: Duration = Duration::from_secs(1);

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
    room: Arc<WaitingRoom>,
    table: Rc<RefCell<Arc<RouteTable>>>,
}

impl RouterHandle {
    /// Starts the router of this thread. `table` is the present one; the subscription brings every later one.
    pub fn start(
        pool: &Addr<Pool>,
        table: Arc<RouteTable>,
        room: Arc<WaitingRoom>,
        decisions: Decisions,
        tripwire: Tripwire,
    ) -> Self {
        let table = Rc::new(RefCell::new(table));
        let router = Router {
            table: table.clone(),
            pool: pool.clone(),
            rng: fastrand::Rng::new(),
            lines: HashMap::new(),
            ticking: false,
            budget: Budget::default(),
            decisions,
            _tripwire: tripwire,
        };
        Self { router: router.start(), room, table }
    }

    /// The table in force, for handlers on the router's thread.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.borrow().clone()
    }

    pub async fn acquire(&self, acquire: Acquire) -> Result<Result<Lease, Refusal>, MailboxError> {
        self.router.send(acquire).await
    }

    /// Waits for room, if fewer than `most` do so already.
    pub async fn wait(&self, wait: Wait, most: u32) -> Option<Result<Result<Lease, Refusal>, MailboxError>> {
        let _seat = self.room.enter(most)?;
        Some(self.router.send(wait).await)
    }
}

pub struct Router {
    /// Written by `Publish` only; shared with handlers of the same thread.
    table: Rc<RefCell<Arc<RouteTable>>>,
    pool: Addr<Pool>,
    rng: fastrand::Rng,
    /// Those who wait, by model; none is empty between two messages.
    lines: HashMap<ModelName, Line<KeyId, Waiter>>,
    /// Whether the lines are looked at again soon.
    ticking: bool,
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
        let Acquire { request, demand, tried, turn } = acquire;
        let now = time::now();
        let table = self.table.borrow().clone();
        let offered = if turn == Turn::BehindTheLine && !self.move_line(&demand.model) {
            Err(refusal(&table, &demand, &tried, now))
        } else {
            offer(&table, &demand, &tried, now, &mut self.rng)
        };
        self.note(request, &table, &demand, &tried, &offered, now);
        offered.map(|offer| offer.lease)
    }
}

impl Router {
    /// Keeps why a choice was made, as far as the budget goes.
    fn note(
        &mut self,
        request: RequestId,
        table: &RouteTable,
        demand: &Demand,
        tried: &[DeploymentId],
        offered: &Result<Offer<'_>, Refusal>,
        now: Timestamp,
    ) {
        let occasion = if offered.is_ok() && tried.is_empty() { Occasion::First } else { Occasion::Further };
        if !tracing::enabled!(tracing::Level::DEBUG) && self.budget.take(occasion, now).is_none() {
            return;
        }
        let offer = offered.as_ref().ok();
        let Some(route) = offer.map(|offer| offer.route).or_else(|| routes(table, demand).next()) else { return };
        let tokens = demand.counted_tokens();
        let (chosen, manner) = (offer.map(|offer| offer.lease.deployment()), offer.map(|offer| offer.manner));
        let decision = explain(&Choice { route, tokens, tried, chosen, manner }, now, time::wall_now());
        let chosen = decision.chosen.as_ref().map(tracing::field::display);
        tracing::debug!(%request, model = %route.model, chosen, passed_over = %decision, "routed");
        self.decisions.keep(request, decision);
    }
}

/// What a request is offered.
struct Offer<'t> {
    lease: Lease,
    manner: Manner,
    /// Of the model asked for, or of a fallback.
    route: &'t Route,
}

/// The model's own deployments first, then those of its fallbacks.
fn offer<'t>(
    table: &'t RouteTable,
    demand: &'t Demand,
    tried: &[DeploymentId],
    now: Timestamp,
    rng: &mut fastrand::Rng,
) -> Result<Offer<'t>, Refusal> {
    let ask = Ask { tokens: demand.counted_tokens(), tried, affinity: demand.affinity.as_ref(), now };
    for route in routes(table, demand) {
        if let Some((lease, manner)) = choose(route, &ask, rng) {
            return Ok(Offer { lease, manner, route });
        }
    }
    Err(refusal(table, demand, tried, now))
}

/// What may answer, in order of preference.
fn routes<'t>(table: &'t RouteTable, demand: &'t Demand) -> impl Iterator<Item = &'t Route> {
    let names = std::iter::once(&demand.model).chain(&demand.fallback);
    names.filter_map(|name| table.model(name.as_str())).map(Arc::as_ref)
}

/// The first tier with a candidate serves. Losing a race for a probe or for quota means looking again; each loss takes a
/// candidate away, so this ends.
pub fn choose(route: &Route, ask: &Ask<'_>, rng: &mut fastrand::Rng) -> Option<(Lease, Manner)> {
    for tier in &route.tiers {
        while let Some(picked) = pick::pick(tier, ask, rng) {
            if let Some(lease) = Lease::take(picked.deployment, ask.tokens, ask.now) {
                return Some((lease, picked.manner));
            }
        }
    }
    None
}

/// What is compared of a deployment that can be asked.
fn candidate(index: usize, deployment: &Deployment, now: Timestamp) -> Candidate {
    let gauges = &deployment.gauges;
    // One that is to be probed is not passed over for what was known of it before its pause.
    let headroom = match gauges.state() {
        State::Closed => deployment.quota.headroom(now),
        State::Cooling | State::Open | State::Quarantined => Headroom::UNKNOWN,
    };
    Candidate { index, weight: deployment.weight, in_flight: gauges.in_flight(), latency: gauges.latency(), headroom }
}

fn is_candidate(deployment: &Deployment, tokens: u64, tried: &[DeploymentId], now: Timestamp) -> bool {
    !deployment.gauges.is_drained()
        && deployment.has_room()
        && deployment.credential.is_usable(now)
        && deployment.gauges.may_ask(now)
        && deployment.quota.seems_to_fit(tokens, now)
        && !tried.contains(&deployment.id)
}

/// When the soonest deployment comes back (zero: any moment), and whether the trouble is want of room or of health.
fn refusal(table: &RouteTable, demand: &Demand, tried: &[DeploymentId], now: Timestamp) -> Refusal {
    if table.model(demand.model.as_str()).is_none() {
        return Refusal::UnknownModel;
    }
    let tokens = demand.counted_tokens();
    let open = || {
        let deployments = routes(table, demand).flat_map(Route::deployments);
        deployments.filter(|deployment| !deployment.gauges.is_drained())
    };
    let ready = |deployment: &Deployment| deployment.gauges.ready_at().since(now);
    let waits = open().map(|deployment| match ready(deployment).max(deployment.quota.wait(tokens, now)) {
        // It has failed this request, and the next one may fare better.
        Duration::ZERO if tried.contains(&deployment.id) => SOON,
        wait => wait,
    });
    let retry_after = waits.min().unwrap_or(SOON);
    let busy = open().any(|deployment| match deployment.gauges.state() {
        State::Cooling => true,
        State::Closed => {
            !deployment.has_room() || !ready(deployment).is_zero() || !deployment.quota.seems_to_fit(tokens, now)
        }
        State::Open | State::Quarantined => false,
    });
    if busy { Refusal::Exhausted { retry_after } } else { Refusal::Unavailable { retry_after } }
}
