//! The attempt loop: asks deployments until one answers, or there is a reason to stop.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;

use super::attempt::{self, Answer, EventStream, Order, Rest};
use super::background::{self, Begun};
use super::books::{AttemptEnd, Books, End};
use super::estimate;
use super::hedge;
use super::pipe::Reader;
use super::tries::Tries;
use super::{relay, spill, whereabouts};
use crate::azure::reply;
use crate::balance::gray::Speed;
use crate::domain::demand::{Demand, Operation};
use crate::domain::ids::KeyId;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::{Charge, Usage};
use crate::fleet::deployment::Deployment;
use crate::fleet::lease::Lease;
use crate::openai::kept::{self, Made};
use crate::openai::responses::Status;
use crate::router::{Acquire, Refusal, RouterHandle, SOON, Turn, Wait};
use crate::settings::model::Routing;
use crate::storage::ledger::RequestState;
use crate::tripwire::kill_points::{self, Point};
use crate::upstream::client::UpstreamClient;

/// One admitted request and what it takes to serve it.
pub struct Exchange {
    pub order: Box<Order>,
    pub demand: Demand,
    pub books: Box<Books>,
    pub router: RouterHandle,
    pub client: UpstreamClient,
    pub routing: Routing,
    pub started: Timestamp,
    /// Whose turn it is to wait is decided among callers.
    pub caller: KeyId,
}

/// What goes to the client.
pub struct Served {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
    /// The one that answered.
    pub deployment: Arc<Deployment>,
    /// Time spent in the gateway and in waiting for upstreams.
    pub timing: (Duration, Duration),
    pub attempts: usize,
}

pub enum Body {
    Whole(Bytes),
    Stream(Reader),
}

/// Why nothing could be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Deployments work, but none has room.
    Exhausted { retry_after: Duration },
    /// None works.
    Unavailable { retry_after: Duration },
    /// What the request refers to is kept by one resource, and that is busy.
    PinBusy { retry_after: Duration },
    /// The same, and it does not work.
    PinUnavailable { retry_after: Duration },
    /// All that were tried sent nonsense.
    InvalidResponse,
    /// The model left the settings while the request was on its way.
    UnknownModel,
    /// All that were asked say that there is no such thing with them.
    NotThere,
    /// The ledger did not confirm; what it does not know must not be sent.
    LedgerLost,
}

/// Serves one request; its books are closed when this returns, or by the relay it has started.
pub async fn serve(mut exchange: Exchange) -> Result<Served, Unserved> {
    let mut tries = Tries::default();
    let reason = loop {
        if let Some(reason) = stop(&exchange, &tries) {
            break reason;
        }
        let lease = match acquire(&mut exchange, &mut tries).await {
            Ok(lease) => lease,
            Err(refusal) => break refused(refusal, tries.outcomes()),
        };
        let deployment = lease.deployment().clone();
        answer_as(&mut exchange, &deployment);
        exchange.books.begin_attempt(&deployment, lease.began());
        let (lease, ended) = match hedge_after(&exchange) {
            // Boxed: two attempts are twice as large as the one that most requests make.
            Some(after) => Box::pin(hedge::run(&mut exchange, &mut tries, lease, after)).await,
            None => (lease, attempt::run(&exchange.client, &exchange.order, &deployment, &exchange.routing).await),
        };
        let ended = match ended {
            Ok(answer) => spill::elsewhere(answer, &mut exchange, &tries, &lease).map_err(|failure| *failure),
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(answer) => {
                lease.heard(&answer.figures);
                whereabouts::compare(lease.deployment(), &answer.headers);
                return send(exchange.order, exchange.books, lease, answer).await;
            }
            Err(failure) => {
                let end = tries.failed(&exchange.order, &exchange.routing, lease, failure);
                exchange.books.end_attempt(end);
            }
        }
    };
    let reason = if exchange.demand.pin.is_some() { reason.pinned() } else { reason };
    give_up(exchange.books, reason).await
}

/// A response in the background that is begun twice is paid for twice.
fn hedge_after(exchange: &Exchange) -> Option<Duration> {
    exchange.routing.hedge_after.filter(|_| exchange.order.peek.stream && exchange.order.teller.is_none())
}

/// A lease at once or, where all are busy and the soonest comes back in time, after a wait in line.
async fn acquire(exchange: &mut Exchange, tries: &mut Tries) -> Result<Lease, Refusal> {
    // The router is dead: the tripwire is ending the process.
    const DEAD: Refusal = Refusal::Unavailable { retry_after: SOON };
    let turn = if tries.is_first() { Turn::BehindTheLine } else { Turn::Now };
    let request = exchange.books.id();
    let acquire = Acquire { request, demand: exchange.demand.clone(), tried: tries.tried(), turn };
    let refusal = match exchange.router.acquire(acquire).await.unwrap_or(Err(DEAD)) {
        Ok(lease) => return Ok(lease),
        Err(refusal) => refusal,
    };
    let Refusal::Exhausted { retry_after } = refusal else { return Err(refusal) };
    let routing = &exchange.routing;
    let (began, until) = (time::now(), exchange.started.after(routing.max_wait.min(routing.deadline_to_headers)));
    if began.after(retry_after) > until {
        return Err(refusal);
    }
    tries.forgive_busy();
    let (demand, tried) = (exchange.demand.clone(), tries.tried());
    let wait = Wait { request, demand, tried, caller: exchange.caller, until };
    let waited = exchange.router.wait(wait, routing.max_waiting).await;
    exchange.books.waited(time::now().since(began));
    waited.map_or(Err(refusal), |answer| answer.unwrap_or(Err(DEAD)))
}

/// From here on the request counts as the deployment's model does, which may be a fallback of the one asked for.
fn answer_as(exchange: &mut Exchange, deployment: &Deployment) {
    if deployment.model == exchange.books.route().model {
        return;
    }
    if let Some(route) = exchange.router.table().model(deployment.model.as_str()) {
        let patience = route.settings.first_byte_timeout.unwrap_or(exchange.routing.first_byte_timeout);
        exchange.order.first_byte_timeout = patience;
        exchange.books.answer_as(route.clone());
    }
}

/// Whether no further attempt may begin.
fn stop(exchange: &Exchange, tries: &Tries) -> Option<Unserved> {
    if tries.is_first() {
        return None;
    }
    // A client that has left is not asked for a second time.
    let too_many = tries.are_spent(&exchange.routing) || exchange.books.leaving().has_left();
    let too_late = time::now().since(exchange.started) >= exchange.routing.deadline_to_headers;
    (too_many || too_late).then(|| unserved(tries.outcomes(), SOON))
}

pub(super) fn refused(refusal: Refusal, outcomes: &[Outcome]) -> Unserved {
    let told = |retry_after: Duration| if retry_after.is_zero() { SOON } else { retry_after };
    match refusal {
        Refusal::UnknownModel => Unserved::UnknownModel,
        Refusal::Exhausted { retry_after } => Unserved::Exhausted { retry_after: told(retry_after) },
        Refusal::Unavailable { retry_after } => unserved(outcomes, told(retry_after)),
    }
}

/// What the failures of a request add up to.
pub(super) fn unserved(outcomes: &[Outcome], retry_after: Duration) -> Unserved {
    let nonsense = |outcome: &Outcome| matches!(outcome, Outcome::Faulted(Fault::InvalidResponse | Fault::Truncated));
    if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Throttled { .. })) {
        Unserved::Exhausted { retry_after }
    } else if !outcomes.is_empty() && outcomes.iter().all(nonsense) {
        Unserved::InvalidResponse
    } else {
        Unserved::Unavailable { retry_after }
    }
}

impl Unserved {
    /// The same for a request that only one resource can serve.
    pub fn pinned(self) -> Self {
        match self {
            Self::Exhausted { retry_after } => Self::PinBusy { retry_after },
            Self::Unavailable { retry_after } => Self::PinUnavailable { retry_after },
            Self::InvalidResponse | Self::UnknownModel | Self::NotThere => Self::PinUnavailable { retry_after: SOON },
            Self::PinBusy { .. } | Self::PinUnavailable { .. } | Self::LedgerLost => self,
        }
    }

    /// The status the client is given; `http/error.rs` chooses the text.
    pub fn status(self) -> u16 {
        match self {
            Self::Exhausted { .. } | Self::PinBusy { .. } => 429,
            Self::InvalidResponse => 502,
            Self::UnknownModel | Self::NotThere => 404,
            Self::Unavailable { .. } | Self::PinUnavailable { .. } | Self::LedgerLost => 503,
        }
    }
}

async fn give_up(books: Box<Books>, reason: Unserved) -> Result<Served, Unserved> {
    let end = End { state: RequestState::Failed, status: reason.status(), usage: Usage::default(), estimated: false };
    books.settle(end).await.map_err(|_| Unserved::LedgerLost)?;
    Err(reason)
}

async fn send(order: Box<Order>, mut books: Box<Books>, lease: Lease, answer: Answer) -> Result<Served, Unserved> {
    books.first_byte(answer.first_byte_at);
    let deployment = lease.deployment().clone();
    let (timing, attempts) = (books.timing(), books.attempts());
    let Answer { status, mut headers, figures: _, upstream_id, first_byte_at, rest } = answer;
    let ttfb = first_byte_at.since(lease.began());
    let body = match rest {
        Rest::Whole { body, made: Made { id: Some(id), .. }, status: Status::Underway, .. }
            if order.teller.is_some() && kept::is_id(&id) =>
        {
            // Boxed, like all that few requests need: what is large is carried along by every request.
            Box::pin(background::begin(&order, Begun { books, lease, status, upstream_id }, &id)).await?;
            Body::Whole(body)
        }
        Rest::Whole { body, usage, made, status: _ } => {
            let (usage, charge) = match usage {
                Some(usage) => (usage, Charge::Exact),
                None if status < 400 => {
                    (Box::pin(estimate::of_answer(&order, &deployment, &body)).await, Charge::Estimated)
                }
                None if reply::bills_the_prompt(&body) => {
                    (estimate::of_prompt(&order, &deployment).await, Charge::Estimated)
                }
                None => (Usage::default(), Charge::None),
            };
            let estimated = charge == Charge::Estimated;
            let end = End { state: RequestState::Settled, status, usage, estimated };
            let outcome = if status < 400 { Outcome::Served } else { Outcome::Rejected { status } };
            books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge, upstream_id });
            lease.settle(outcome, Some(Speed::Whole { took: ttfb, output_tokens: usage.output_tokens }));
            books.pin(&made, &order.peek.state, &deployment);
            let refusal = (status >= 400).then(|| order.shape.refusal(&body, status)).flatten();
            books.settle(end).await.map_err(|_| Unserved::LedgerLost)?;
            kill_points::reached(Point::SettlementConfirmed);
            if refusal.is_some() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Body::Whole(refusal.unwrap_or(body))
        }
        Rest::Events(stream) if order.teller.is_some() && begun(&stream).is_some() => {
            let id = begun(&stream).unwrap_or_default();
            let begun = Begun { books, lease, status, upstream_id };
            Body::Stream(Box::pin(background::begin_streamed(&order, begun, &id, *stream)).await?)
        }
        Rest::Events(stream) => {
            // Before the first byte: with it the client learns the id.
            books.pin(stream.watch.made(), &order.peek.state, &deployment);
            if books.intent_committed().await.is_err() {
                return Err(Unserved::LedgerLost);
            }
            kill_points::reached(Point::FirstByte);
            let start = relay::Start { order, books, lease, status, upstream_id, ttfb };
            Body::Stream(relay::events(start, *stream))
        }
        Rest::Large { head, body } => {
            if order.operation == Operation::Responses {
                // Its items are too far in to be found.
                let made = Made { id: kept::id_in_head(&head), ..Made::default() };
                books.pin(&made, &order.peek.state, &deployment);
            }
            if books.intent_committed().await.is_err() {
                return Err(Unserved::LedgerLost);
            }
            let start = relay::Start { order, books, lease, status, upstream_id, ttfb };
            Body::Stream(relay::large(start, head, body))
        }
    };
    Ok(Served { status, headers, body, deployment, timing, attempts })
}

/// Of a response that has begun.
fn begun(stream: &EventStream) -> Option<String> {
    stream.watch.made().id.clone().filter(|id| kept::is_id(id))
}
