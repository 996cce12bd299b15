//! Waiting for room: how many may, for how long, and when the line moves.
//!
//! A router keeps lines for each model of its thread: one for each choice of regions that callers are limited to, for
//! each resource that requests are bound to, and further ones for batch jobs, which come after all others. The waiting
//! room is one for all. Lines move when somebody asks, and every few milliseconds while anyone stands in one: a cooldown
//! that ends and a slot that another thread gave back send no message. Who is next in a line is decided in
//! [`crate::balance::waiting`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::{Ask, Refusal, Router, offer, refusal};
use crate::domain::class::Class;
use crate::domain::demand::Demand;
use crate::domain::ids::{KeyId, ModelName, RequestId, ResourceName};
use crate::domain::regions::Regions;
use crate::domain::time::{self, Timestamp};
use crate::fleet::deployment::DeploymentId;
use crate::fleet::lease::Lease;

/// How often a line is looked at: short beside any cooldown, and a few microseconds each.
const TICK: Duration = Duration::from_millis(10);

/// Stands in line for the right to send one request.
#[derive(Message)]
#[rtype(result = "Result<Lease, Refusal>")]
pub struct Wait {
    pub request: RequestId,
    pub demand: Demand,
    /// Deployments that this request is not to be sent to again.
    pub tried: SmallVec<[DeploymentId; 4]>,
    pub caller: KeyId,
    /// Refused then.
    pub until: Timestamp,
}

/// What those in one line wait for: whoever is served first, the others can use the same deployments. Who may use only
/// some of them stands apart, and holds up nobody who may use the others too.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    model: ModelName,
    class: Class,
    regions: Regions,
    pin: Option<ResourceName>,
}

impl Queue {
    fn of(demand: &Demand) -> Self {
        let (regions, pin) = (demand.regions.clone(), demand.pin.clone());
        Self { model: demand.model.clone(), class: demand.class, regions, pin }
    }
}

pub(super) struct Waiter {
    wait: Wait,
    answer: oneshot::Sender<Result<Lease, Refusal>>,
}

/// How many wait, over all routers.
#[derive(Debug, Default)]
pub struct WaitingRoom(AtomicU32);

impl WaitingRoom {
    /// A seat, if fewer than `most` are taken. It is free again when it is dropped: the request was served, was refused,
    /// or its client left.
    pub fn enter(self: &Arc<Self>, most: u32) -> Option<Seat> {
        let enter = |taken: u32| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Relaxed, Relaxed, enter).ok().map(|_| Seat(self.clone()))
    }

    pub fn taken(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
pub struct Seat(Arc<WaitingRoom>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

impl Handler<Wait> for Router {
    type Result = ResponseFuture<Result<Lease, Refusal>>;

    fn handle(&mut self, wait: Wait, ctx: &mut Context<Self>) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.lines.entry(Queue::of(&wait.demand)).or_default().push(wait.caller, Waiter { wait, answer });
        if !self.ticking {
            self.ticking = true;
            ctx.run_later(TICK, Self::tick);
        }
        let gone = Refusal::Unavailable { retry_after: Duration::from_secs(1) };
        Box::pin(async move { answered.await.unwrap_or(Err(gone)) })
    }
}

impl Router {
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.move_lines(|_| true);
        self.ticking = !self.lines.is_empty();
        if self.ticking {
            ctx.run_later(TICK, Self::tick);
        }
    }

    /// Serves those first who wait for the same model; true when nobody is left in the line that this request would
    /// join. The other lines come first too: who is limited to few deployments would never get one of them if others
    /// did not stand back.
    pub(super) fn line_before(&mut self, demand: &Demand) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        self.move_lines(|queue| queue.model == demand.model && queue.class <= demand.class);
        !self.lines.contains_key(&Queue::of(demand))
    }

    /// Chats before batch jobs, and else in no order, so that none is always the first.
    fn move_lines(&mut self, which: impl Fn(&Queue) -> bool) {
        let mut queues: SmallVec<[Queue; 4]> = self.lines.keys().filter(|queue| which(queue)).cloned().collect();
        self.rng.shuffle(&mut queues);
        queues.sort_by_key(|queue| queue.class);
        for queue in &queues {
            self.move_line(queue);
        }
    }

    /// Serves those in line whom anyone can serve.
    fn move_line(&mut self, queue: &Queue) {
        let Some(mut line) = self.lines.remove(queue) else { return };
        let table = self.table.borrow().clone();
        let now = time::now();
        for Waiter { wait, answer } in line.leave(|waiter| waiter.answer.is_closed() || waiter.wait.until <= now) {
            // Whose client has left hears nothing.
            let _ = answer.send(Err(refusal(&table, &wait.demand, &wait.tried, now)));
        }
        // One may be waiting for a deployment that the others need not wait for.
        let mut passed = Vec::new();
        while let Some(waiter) = line.pop() {
            let Wait { request, demand, tried, .. } = &waiter.wait;
            let offered = offer(&table, demand, &Ask::of(demand, tried, now), &mut self.rng, &mut self.retries);
            if let Err(Refusal::Exhausted { .. }) = offered {
                let stop = tried.is_empty();
                passed.push(waiter);
                if stop {
                    break;
                }
                continue;
            }
            self.note(*request, &table, demand, tried, &offered, now);
            // A lease that nobody takes is given back by being dropped.
            let _ = waiter.answer.send(offered.map(|offer| offer.lease));
        }
        for waiter in passed.into_iter().rev() {
            line.push_front(waiter.wait.caller, waiter);
        }
        if !line.is_empty() {
            self.lines.insert(queue.clone(), line);
        }
    }
}
