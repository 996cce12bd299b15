//! The actor `Router`: one per HTTP worker, on its thread. Picks a deployment per attempt, or says when to come back.

pub mod decisions;
mod explain;
pub mod pick;
mod trust;
mod waiting;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, MailboxError, Message};
use smallvec::SmallVec;

use crate::balance::health::State;
use crate::balance::retry_budget::RetryBudget;
use crate::balance::select::{Candidate, Headroom};
use crate::balance::share::FULL;
use crate::balance::waiting::Line;
use crate::domain::demand::Demand;
use crate::domain::ids::{KeyId, RequestId};
use crate::domain::time::{self, Timestamp};
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::lease::Lease;
use crate::fleet::pool::{Pool, Subscribe};
use crate::fleet::routes::{Publish, Route, RouteTable};
use crate::tripwire::Tripwire;
use decisions::{Budget, Decisions};
use pick::{Ask, Manner};
use prometheus::IntCounter;

pub use trust::Trust;
use waiting::{Queue, Waiter};
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
    /// A second attempt beside one that is under way: only where there is room to spare.
    Beside,
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
    /// Shared, because an address allocates when it is cloned.
    router: Rc<Addr<Router>>,
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
        retries_denied: IntCounter,
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
            retries: RetryBudget::default(),
            hedges: RetryBudget::default(),
            retries_denied,
            _tripwire: tripwire,
        };
        Self { router: Rc::new(router.start()), room, table }
    }

    /// The table in force, for handlers on the router's thread.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.borrow().clone()
    }

    /// Whether anyone may serve such a request, now or later.
    pub fn could_serve(&self, demand: &Demand) -> bool {
        able(&self.table.borrow(), demand).any(|deployment| !deployment.gauges.is_drained())
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
    /// Those who wait, by what they wait for; none is empty between two messages.
    lines: HashMap<Queue, Line<KeyId, Waiter>>,
    /// Whether the lines are looked at again soon.
    ticking: bool,
    budget: Budget,
    decisions: Decisions,
    retries: RetryBudget,
    hedges: RetryBudget,
    /// Second attempts for which there was no budget.
    retries_denied: IntCounter,
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
        if turn == Turn::Beside {
            let hedged = trust::hedge(&table, &demand, &Ask::of(&demand, &tried, now), &mut self.rng, &mut self.hedges);
            if hedged.is_ok() {
                self.note(request, &table, &demand, &tried, &hedged, now);
            }
            return hedged.map(|offer| offer.lease);
        }
        if tried.is_empty() {
            self.retries.earn(table.settings.routing.retry_budget);
            self.hedges.earn(trust::HEDGES);
        }
        let offered = if turn == Turn::BehindTheLine && !self.line_before(&demand) {
            Err(refusal(&table, &demand, &tried, now))
        } else {
            let ask = Ask::of(&demand, &tried, now);
            let offered = offer(&table, &demand, &ask, &mut self.rng, &mut self.retries);
            if offered.is_err() && trust::is_denied(routes(&table, &demand), &ask, &self.retries) {
                self.retries_denied.inc();
            }
            offered
        };
        self.note(request, &table, &demand, &tried, &offered, now);
        offered.map(|offer| offer.lease)
    }
}

/// What a request is offered.
pub struct Offer<'t> {
    pub lease: Lease,
    pub manner: Manner,
    /// Of the model asked for, or of a fallback.
    pub route: &'t Route,
}

/// The model's own deployments first, then those of its fallbacks; a second attempt asks those that are known to be bad
/// last, and within its budget.
fn offer<'t>(
    table: &'t RouteTable,
    demand: &'t Demand,
    ask: &Ask<'_>,
    rng: &mut fastrand::Rng,
    retries: &mut RetryBudget,
) -> Result<Offer<'t>, Refusal> {
    let is_first = ask.tried.is_empty();
    for route in routes(table, demand) {
        let trust = if is_first { Trust::Anyone } else { Trust::Good };
        if let Some(offer) = choose(route, ask, trust, rng) {
            return Ok(offer);
        }
        if !is_first
            && retries.allows()
            && let Some(offer) = choose(route, ask, Trust::Anyone, rng)
        {
            retries.spend();
            return Ok(offer);
        }
    }
    if is_first || retries.allows() {
        for route in routes(table, demand) {
            if let Some(lease) = trust::last_resort(route, ask) {
                if !is_first {
                    retries.spend();
                }
                return Ok(Offer { lease, manner: Manner::LastResort, route });
            }
        }
    }
    Err(refusal(table, demand, ask.tried, ask.now))
}

/// What may answer, in order of preference.
fn routes<'t>(table: &'t RouteTable, demand: &'t Demand) -> impl Iterator<Item = &'t Route> {
    let names = std::iter::once(&demand.model).chain(&demand.fallback);
    names.filter_map(|name| table.route(name)).map(Arc::as_ref)
}

/// Those that may serve a request at all, in order of preference.
fn able<'t>(table: &'t RouteTable, demand: &'t Demand) -> impl Iterator<Item = &'t Arc<Deployment>> {
    routes(table, demand).flat_map(Route::deployments).filter(|deployment| deployment.may_serve(demand))
}

/// The first tier with a candidate serves. Losing a race for a probe or for quota means looking again; each loss takes a
/// candidate away, so this ends.
pub fn choose<'t>(route: &'t Route, ask: &Ask<'_>, trust: Trust, rng: &mut fastrand::Rng) -> Option<Offer<'t>> {
    for tier in &route.tiers {
        if let Some(lease) = trust::panic(tier, ask) {
            return Some(Offer { lease, manner: Manner::Panic, route });
        }
        while let Some(picked) = pick::pick(tier, ask, trust, rng) {
            if let Some(lease) = Lease::take(picked.deployment, ask.tokens, ask.now) {
                return Some(Offer { lease, manner: picked.manner, route });
            }
        }
    }
    None
}

/// What is compared of a deployment that can be asked.
fn candidate(index: usize, deployment: &Deployment, now: Timestamp) -> Candidate {
    let gauges = &deployment.gauges;
    // One that is to be probed is not passed over for what was known of it before its pause.
    let (headroom, share) = match gauges.state() {
        State::Closed => (deployment.quota.headroom(now), gauges.share()),
        State::Cooling | State::Open | State::Quarantined => (Headroom::UNKNOWN, FULL),
    };
    let weight = deployment.weight;
    Candidate { index, weight, share, in_flight: gauges.in_flight(), latency: gauges.latency(), headroom }
}

/// Whether it may serve such a request, and may do so now as far as urgency goes.
fn able_now(deployment: &Deployment, ask: &Ask<'_>) -> bool {
    deployment.may_serve(ask.demand) && deployment.leaves_room(ask.demand, ask.now)
}

fn is_candidate(deployment: &Deployment, ask: &Ask<'_>, trust: Trust) -> bool {
    deployment.gauges.may_ask(ask.now) && is_able(deployment, ask) && trust.includes(deployment, ask)
}

/// Whether it could serve the request, as far as anything but its health goes.
fn is_able(deployment: &Deployment, ask: &Ask<'_>) -> bool {
    able_now(deployment, ask)
        && !deployment.gauges.is_drained()
        && deployment.has_room()
        && deployment.credential.is_usable(ask.now)
        && deployment.quota.seems_to_fit(ask.tokens, ask.now)
        && !ask.tried.contains(&deployment.id)
}

/// When the soonest deployment comes back (zero: any moment), and whether the trouble is want of room or of health.
fn refusal(table: &RouteTable, demand: &Demand, tried: &[DeploymentId], now: Timestamp) -> Refusal {
    if table.route(&demand.model).is_none() {
        return Refusal::UnknownModel;
    }
    let tokens = demand.counted_tokens();
    let open = || able(table, demand).filter(|deployment| !deployment.gauges.is_drained());
    // One whose breaker is open may be somebody's last resort before its time.
    let ready = |deployment: &Deployment| {
        let gauges = &deployment.gauges;
        gauges.last_resort_at().unwrap_or_else(|| gauges.ready_at()).since(now)
    };
    let waits = open().map(|deployment| match ready(deployment).max(deployment.quota_wait(demand, now)) {
        // It has failed this request, and the next one may fare better.
        Duration::ZERO if tried.contains(&deployment.id) => SOON,
        wait => wait,
    });
    let retry_after = waits.min().unwrap_or(SOON);
    let busy = open().any(|deployment| match deployment.gauges.state() {
        State::Cooling => true,
        // What has not failed this request would serve it, but for want of room or for those in line before it.
        State::Closed if !tried.contains(&deployment.id) && !deployment.gauges.is_known_bad(now) => {
            deployment.credential.is_usable(now)
        }
        State::Closed => {
            !deployment.has_room()
                || !deployment.leaves_room(demand, now)
                || !ready(deployment).is_zero()
                || !deployment.quota.seems_to_fit(tokens, now)
        }
        State::Open | State::Quarantined => false,
    });
    if busy { Refusal::Exhausted { retry_after } } else { Refusal::Unavailable { retry_after } }
}
