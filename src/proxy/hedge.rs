//! Two attempts side by side: when a streamed answer does not begin in time, a second deployment is asked too, and the
//! first that begins answers.
//!
//! Only streams: how long a whole answer takes says more of its length than of its deployment. Whether there is a second
//! deployment with room to spare, and a budget for it, is the router's to say. The one that is not needed is dropped,
//! which hangs up on its upstream; Azure may bill it all the same, so it is in the ledger with an estimate that nobody is
//! sure of, and the caller pays for the answer alone.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use smallvec::SmallVec;

use super::attempt::{self, Answer, Failure, Order};
use super::exchange::Exchange;
use super::tries::Tries;
use crate::domain::demand::Demand;
use crate::fleet::deployment::Deployment;
use crate::fleet::lease::Lease;
use crate::router::{Acquire, Turn};

/// How one attempt, or two, ended: the lease of the one that counts.
pub type Ended = (Lease, Result<Answer, Failure>);

/// As [`attempt::run`], with a second attempt once `after` has passed. A failure beside which the other goes on is noted
/// here; the last one is the caller's.
pub async fn run(exchange: &mut Exchange, tries: &mut Tries, lease: Lease, after: Duration) -> Ended {
    let Exchange { order, demand, books, router, client, routing, .. } = exchange;
    let (order, client, routing): (&Order, _, _) = (order, &*client, &*routing);
    let deployment = lease.deployment().clone();
    let mut first = pin!(attempt::run(client, order, &deployment, routing));
    if let Ok(ended) = tokio::time::timeout(after, first.as_mut()).await {
        return (lease, ended);
    }
    let hedges = books.metrics().hedges.clone();
    let mut tried = tries.tried();
    tried.push(deployment.id);
    // The model that is being asked, which may be a fallback, and no other.
    let demand = Demand { model: deployment.model.clone(), fallback: SmallVec::new(), ..demand.clone() };
    let acquire = Acquire { request: books.id(), demand, tried, turn: Turn::Beside };
    let Ok(Ok(rival)) = router.acquire(acquire).await else {
        hedges.with_label_values(&["denied"]).inc();
        return (lease, first.await);
    };
    let beside: Arc<Deployment> = rival.deployment().clone();
    books.begin_rival(&beside, rival.began());
    let second = pin!(attempt::run(client, order, &beside, routing));
    match select(first, second).await {
        Either::Left((Ok(answer), _)) => {
            hedges.with_label_values(&["lost"]).inc();
            let given_up = books.given_up();
            books.end_rival(given_up);
            (lease, Ok(answer))
        }
        Either::Right((Ok(answer), _)) => {
            hedges.with_label_values(&["won"]).inc();
            let given_up = books.given_up();
            books.end_attempt(given_up);
            (rival, Ok(answer))
        }
        Either::Left((Err(failure), second)) => {
            books.end_attempt(tries.failed(order, routing, lease, failure));
            let ended = second.await;
            hedges.with_label_values(&[if ended.is_ok() { "won" } else { "lost" }]).inc();
            (rival, ended)
        }
        Either::Right((Err(failure), first)) => {
            hedges.with_label_values(&["lost"]).inc();
            books.end_rival(tries.failed(order, routing, rival, failure));
            (lease, first.await)
        }
    }
}
