//! What the ledger and the metrics are told of one request.
//!
//! The books of a request are closed exactly once: awaited, before the last byte of an answer; detached, when nobody
//! waits; or by being dropped, when the handler itself was dropped because its client left.

mod counting;
mod going_on;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use smallvec::SmallVec;

pub(super) use counting::count_use;

use super::leaving::Leaving;
use crate::accounting::recorder::{LedgerLost, OpenEntry};
use crate::balance::budget::Amount;
use crate::domain::demand::Operation;
use crate::domain::ids::{DeploymentName, RequestId, ResourceName};
use crate::domain::money::Tariff;
use crate::domain::outcome::Outcome;
use crate::domain::sku::Sku;
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::{Charge, Usage};
use crate::fleet::deployment::Deployment;
use crate::fleet::routes::Route;
use crate::limits::Admission;
use crate::metrics::Metrics;
use crate::openai::kept::{self, Made};
use crate::openai::objects::Named;
use crate::openai::request::State;
use crate::storage::ledger::{AttemptRecord, Intent, Progress, RequestState, Settlement};
use crate::storage::pins::{FOR_EVER, Pin, RETENTION};

/// The status noted for a client that left before it had one (nginx's convention).
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

pub struct Books {
    id: RequestId,
    entry: Option<OpenEntry>,
    route: Arc<Route>,
    metrics: Arc<Metrics>,
    operation: Operation,
    stream: bool,
    /// What it may cost was taken from its caller's limits; it is replaced by the truth when the books close.
    admission: Admission,
    started: Timestamp,
    /// Charged for an attempt whose end nobody saw.
    rough_input: u32,
    attempts: SmallVec<[AttemptRecord; 1]>,
    open_attempt: Option<OpenAttempt>,
    /// A second one beside it: a hedge.
    rival: Option<OpenAttempt>,
    leaving: Leaving,
    /// Of the deployment that may answer: it decides what the request costs.
    sku: Sku,
    upstream_time: Duration,
    ttfb: Option<Duration>,
    pinned: Pinned,
}

/// For which ids it is filed where they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pinned {
    response: bool,
    /// So many of the items, and of the seals.
    items: usize,
    seals: usize,
}

struct OpenAttempt {
    deployment: Arc<Deployment>,
    began: Timestamp,
    /// Since when the client waits for it, or for the one whose place it has taken.
    awaited: Timestamp,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    pub state: RequestState,
    /// What the client was sent.
    pub status: u16,
    pub usage: Usage,
    pub estimated: bool,
}

/// How an attempt ended, beside its times.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEnd {
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub usage: Usage,
    pub charge: Charge,
    pub upstream_id: Option<String>,
}

/// What a request's books are opened with; nothing has books that did not come through the gate.
pub struct Opening {
    pub entry: OpenEntry,
    pub route: Arc<Route>,
    pub metrics: Arc<Metrics>,
    pub admission: Admission,
    pub started: Timestamp,
}

impl Books {
    /// Boxed, because it is handed on a good deal.
    pub fn open(opening: Opening) -> Box<Self> {
        let Opening { entry, route, metrics, admission, started } = opening;
        metrics.inflight.inc();
        let (id, operation, stream, rough_input) = {
            let intent = entry.intent();
            (intent.id, intent.operation, intent.stream, intent.input_tokens)
        };
        Box::new(Self {
            id,
            entry: Some(entry),
            route,
            metrics,
            operation,
            stream,
            admission,
            started,
            rough_input,
            attempts: SmallVec::new(),
            open_attempt: None,
            leaving: Leaving::Cancel,
            sku: Sku::default(),
            rival: None,
            upstream_time: Duration::ZERO,
            ttfb: None,
            pinned: Pinned::default(),
        })
    }

    pub fn id(&self) -> RequestId {
        self.id
    }

    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Files, once for each id, that what the answer leaves behind is at the deployment's resource: in the commit of a
    /// settlement that follows at once, else in one that `intent_committed` waits for.
    pub fn pin(&mut self, made: &Made, asked: &State, deployment: &Deployment) {
        let Some(entry) = &mut self.entry else { return };
        let before = std::mem::replace(
            &mut self.pinned,
            Pinned { response: made.id.is_some(), items: made.items.len(), seals: made.seals.len() },
        );
        let kept = made.id.iter().filter(|_| !before.response).chain(made.items.iter().skip(before.items));
        let kept = kept.filter(|id| asked.store && kept::is_id(id));
        // What is sealed is the client's to keep, and this resource's to read, whatever is stored.
        for id in kept.chain(made.seals.iter().skip(before.seals)) {
            let created_at = time::wall_now();
            entry.pin(Box::new(Pin {
                id: id.clone(),
                key_id: entry.intent().key_id,
                resource: deployment.resource.clone(),
                deployment: deployment.name.clone(),
                model: deployment.model.clone(),
                created_at,
                expires_at: created_at.after(RETENTION),
                kind: String::new(),
                purpose: String::new(),
            }));
        }
    }

    /// What becomes of it when its client leaves; unless said, it is cancelled.
    pub fn set_leaving(&mut self, leaving: Leaving) {
        self.leaving = leaving;
    }

    pub fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    /// Files that an object, new to its owner, is at the deployment's resource; as with `pin`, for what comes next to wait
    /// for.
    pub fn pin_object(&mut self, object: &Named, purpose: String, deployment: &Deployment) {
        let Some(entry) = self.entry.as_mut().filter(|_| kept::is_id(&object.id)) else { return };
        entry.pin(Box::new(Pin {
            id: object.id.clone(),
            key_id: entry.intent().key_id,
            resource: deployment.resource.clone(),
            deployment: deployment.name.clone(),
            model: deployment.model.clone(),
            created_at: time::wall_now(),
            expires_at: FOR_EVER,
            kind: object.kind.label().to_owned(),
            purpose,
        }));
    }

    /// Whose the request is, and when it began.
    pub fn intent(&self) -> Option<&Arc<Intent>> {
        self.entry.as_ref().map(OpenEntry::intent)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Resolves when the request's intent is committed: from then on, its first byte may go out.
    pub async fn intent_committed(&self) -> Result<(), LedgerLost> {
        match &self.entry {
            Some(entry) => entry.durable().await,
            None => Ok(()),
        }
    }

    /// A fallback of the model asked for may answer: its price counts, and it is the model of the metrics.
    pub fn answer_as(&mut self, route: Arc<Route>) {
        self.route = route;
    }

    /// Time spent in line for an upstream.
    pub fn waited(&mut self, duration: Duration) {
        self.upstream_time += duration;
        self.metrics.waited.observe(duration.as_secs_f64());
    }

    pub fn begin_attempt(&mut self, deployment: &Arc<Deployment>, now: Timestamp) {
        self.sku = deployment.sku;
        self.leaving.set_asking(true);
        self.open_attempt = Some(OpenAttempt { deployment: deployment.clone(), began: now, awaited: now });
    }

    /// A second attempt beside the open one; one of the two will answer.
    pub fn begin_rival(&mut self, deployment: &Arc<Deployment>, now: Timestamp) {
        self.rival = Some(OpenAttempt { deployment: deployment.clone(), began: now, awaited: now });
    }

    /// The first content of the open attempt has come.
    pub fn first_byte(&mut self, now: Timestamp) {
        self.ttfb = Some(now.since(self.started));
        if let Some(OpenAttempt { deployment, began, awaited }) = &self.open_attempt {
            self.upstream_time += now.since(*awaited);
            // A session's first word is no token.
            if self.stream && self.operation != Operation::Realtime {
                let labels = [self.route.model.as_str(), deployment.resource.as_str()];
                self.metrics.time_to_first_token.with_label_values(&labels).observe(now.since(*began).as_secs_f64());
            }
        }
    }

    /// The open attempt has ended. Its rival, if it has one, is waited for from now on.
    pub fn end_attempt(&mut self, end: AttemptEnd) {
        let Some(ended) = self.open_attempt.take() else { return };
        match self.rival.take() {
            Some(rival) => {
                self.sku = rival.deployment.sku;
                self.open_attempt = Some(OpenAttempt { awaited: ended.awaited, ..rival });
            }
            None if self.ttfb.is_none() => self.upstream_time += time::now().since(ended.awaited),
            None => {}
        }
        self.record(ended, end);
    }

    /// The rival has ended, and the open attempt goes on.
    pub fn end_rival(&mut self, end: AttemptEnd) {
        if let Some(ended) = self.rival.take() {
            self.record(ended, end);
        }
    }

    /// What is known of an attempt that was given up before it said anything: it may have been billed.
    pub fn given_up(&self) -> AttemptEnd {
        let usage = Usage { input_tokens: self.rough_input, ..Usage::default() };
        AttemptEnd { status: None, outcome: Outcome::Abandoned, usage, charge: Charge::Ambiguous, upstream_id: None }
    }

    fn record(&mut self, OpenAttempt { deployment, began, .. }: OpenAttempt, end: AttemptEnd) {
        self.leaving.set_asking(self.open_attempt.is_some());
        let duration = time::now().since(began);
        let reason = end.outcome.reason();
        let code = end.status.and_then(code);
        let code = code.as_ref().map_or("none", StatusCode::as_str);
        let labels = [deployment.resource.as_str(), deployment.name.as_str(), code, reason];
        self.metrics.upstream_attempts.with_label_values(&labels).inc();
        self.attempts.push(AttemptRecord {
            resource: deployment.resource.clone(),
            deployment: deployment.name.clone(),
            status: end.status,
            reason,
            duration,
            usage: end.usage,
            charge: end.charge,
            upstream_id: end.upstream_id,
        });
    }

    pub fn attempts(&self) -> usize {
        self.attempts.len() + usize::from(self.open_attempt.is_some()) + usize::from(self.rival.is_some())
    }

    /// Time spent here and time spent waiting for upstreams, up to now.
    pub fn timing(&self) -> (Duration, Duration) {
        let total = time::now().since(self.started);
        (total.saturating_sub(self.upstream_time), self.upstream_time)
    }

    /// Tells recovery how far a stream has come.
    pub fn progress(&self, output_tokens: u32) {
        if let (Some(entry), Some(OpenAttempt { deployment, .. })) = (&self.entry, &self.open_attempt) {
            let (resource, name): (ResourceName, DeploymentName) =
                (deployment.resource.clone(), deployment.name.clone());
            entry.progress(Progress { id: entry.intent().id, resource, deployment: name, output_tokens });
        }
    }

    /// Closes the books; resolves when the settlement is committed. The caller's place is taken until then.
    pub fn settle(mut self: Box<Self>, end: End) -> impl Future<Output = Result<(), LedgerLost>> + use<> {
        let filed = self.close(end).map(|(entry, settlement)| entry.settle(settlement));
        async move {
            let _books = self;
            match filed {
                Some(committed) => committed.await,
                None => Ok(()),
            }
        }
    }

    /// Closes the books of an answer that nobody waits for.
    pub fn settle_detached(mut self: Box<Self>, end: End) {
        if let Some((entry, settlement)) = self.close(end) {
            entry.settle_detached(settlement);
        }
    }

    fn close(&mut self, mut end: End) -> Option<(OpenEntry, Box<Settlement>)> {
        let entry = self.entry.take()?;
        // Whatever the upstream said in the end, there was nobody to hear it.
        if self.leaving.has_left() {
            (end.state, end.status) = (RequestState::Cancelled, CLIENT_CLOSED_REQUEST);
        }
        let tariff = Tariff::of(self.sku, self.route.price);
        let cost = tariff.cost(end.usage);
        if let Some(served_by) = self.attempts.last().filter(|_| end.usage.cached_input_tokens > 0) {
            let saved = tariff.cost(Usage { cached_input_tokens: 0, ..end.usage }).dollars() - cost.dollars();
            let labels = [served_by.resource.as_str(), served_by.deployment.as_str()];
            // A cached token may cost as much as another, and a counter never falls.
            self.metrics.upstream_cache_saved.with_label_values(&labels).inc_by(saved.max(0.0));
        }
        let duration = time::now().since(self.started);
        self.admission.settle(Amount { tokens: end.usage.total(), cost });
        self.count(&end, cost.dollars(), duration);
        let settlement = Box::new(Settlement {
            state: end.state,
            status: end.status,
            usage: end.usage,
            estimated: end.estimated,
            cost,
            flat_cost: tariff.is_flat(),
            price_version: (!tariff.is_flat()).then_some(self.route.price_version),
            ttfb: self.ttfb,
            duration,
            attempts: std::mem::take(&mut self.attempts),
        });
        Some((entry, settlement))
    }
}

impl Drop for Books {
    /// The handler was dropped: its client left while an attempt was on its way, which may have been billed.
    fn drop(&mut self) {
        if self.entry.is_none() {
            return;
        }
        let mut usage = Usage::default();
        let estimated = self.open_attempt.is_some();
        if estimated {
            let given_up = self.given_up();
            usage = given_up.usage;
            self.end_rival(given_up.clone());
            self.end_attempt(given_up);
        }
        let end = End { state: RequestState::Cancelled, status: CLIENT_CLOSED_REQUEST, usage, estimated };
        if let Some((entry, settlement)) = self.close(end) {
            entry.settle_detached(settlement);
        }
    }
}

/// A status as a label needs no memory in this form.
fn code(status: u16) -> Option<StatusCode> {
    StatusCode::from_u16(status).ok()
}
