//! Finds a deployment that opens a session: asks one after the other, as the attempt loop of `exchange` does for
//! requests, until one says yes or there is a reason to stop.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use smallvec::SmallVec;

use super::super::attempt::{Failure, RENEWAL_PATIENCE};
use super::super::books::{AttemptEnd, Books, End};
use super::super::exchange::{Unserved, refused, unserved};
use super::super::headers;
use super::transcripts::Purpose;
use crate::azure::endpoint::{ApiVersion, Kind};
use crate::azure::headers::Figures;
use crate::azure::realtime::{self, Generation};
use crate::azure::reply::{self, Missing, Verdict};
use crate::azure::throttle;
use crate::balance::gray::Speed;
use crate::domain::demand::Demand;
use crate::domain::ids::KeyId;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::secret::Secret;
use crate::domain::time::{self, Timestamp};
use crate::domain::usage::{Charge, Usage};
use crate::fleet::credential::Authorization;
use crate::fleet::deployment::{Deployment, DeploymentId};
use crate::fleet::lease::Lease;
use crate::router::{Acquire, Refusal, RouterHandle, SOON, Turn, Wait};
use crate::settings::model::Routing;
use crate::storage::ledger::RequestState;
use crate::upstream::client::UpstreamClient;
use crate::upstream::websocket::{Upgrade, Upgraded, UpstreamReader, UpstreamWriter};

/// The status of a session that was opened.
pub(super) const SWITCHED: u16 = 101;

/// One admitted session and what it takes to open it.
pub struct Knock {
    pub books: Box<Books>,
    pub demand: Demand,
    pub router: RouterHandle,
    pub client: UpstreamClient,
    pub routing: Routing,
    pub started: Timestamp,
    /// Whose turn it is to wait is decided among callers.
    pub caller: KeyId,
    pub request_id: HeaderValue,
    pub generation: Generation,
    pub asked_version: Option<ApiVersion>,
    /// What the session is for, where the client says so.
    pub intent: Option<String>,
    /// The caller's own key of Azure's, where callers bring one.
    pub callers_key: Option<Secret>,
}

/// An open connection to a deployment.
pub struct Line {
    pub reader: UpstreamReader,
    pub writer: UpstreamWriter,
    pub headers: HeaderMap,
    /// Held for the session.
    pub lease: Lease,
    pub books: Box<Books>,
    /// What each of its responses asks of the deployment, but for its size.
    pub demand: Demand,
    pub purpose: Purpose,
}

/// Why there is none. The books are closed.
pub enum Unopened {
    Unserved(Unserved),
    /// The client's own mistake, in Azure's words.
    Rejected {
        status: u16,
        headers: HeaderMap,
        body: Bytes,
    },
}

/// Asks until a deployment opens the session.
pub async fn connect(mut knock: Knock) -> Result<Line, Unopened> {
    let mut tried = Tried::default();
    let reason = loop {
        if tried.outcomes.len() >= knock.routing.attempts as usize || is_too_late(&knock, &tried) {
            break unserved(&tried.outcomes, SOON);
        }
        let mut lease = match acquire(&mut knock, &mut tried).await {
            Ok(lease) => lease,
            Err(refusal) => break refused(refusal, &tried.outcomes),
        };
        let deployment = lease.deployment().clone();
        knock.answer_as(&deployment);
        knock.books.begin_attempt(&deployment, lease.began());
        match attempt(&knock, &deployment).await {
            Ok(Answer::Open { reader, writer, headers }) => {
                let now = time::now();
                lease.heard(&headers::figures(&headers));
                lease.proven(Speed::Streamed { first: now.since(lease.began()), per_token: None });
                knock.books.first_byte(now);
                let upstream_id = headers::upstream_id(&headers).map(str::to_owned);
                let (status, outcome, usage) = (Some(SWITCHED), Outcome::Served, Usage::default());
                knock.books.end_attempt(AttemptEnd { status, outcome, usage, charge: Charge::None, upstream_id });
                if knock.books.intent_committed().await.is_err() {
                    return Err(Unopened::Unserved(Unserved::LedgerLost));
                }
                let purpose = Purpose::of(knock.intent.as_deref());
                return Ok(Line { reader, writer, headers, lease, books: knock.books, demand: knock.demand, purpose });
            }
            Ok(Answer::Rejected { status, headers, body }) => {
                return reject(knock.books, lease, status, headers, body).await;
            }
            Err(failure) => {
                let end = tried.failed(lease, failure);
                knock.books.end_attempt(end);
            }
        }
    };
    let end = End { state: RequestState::Failed, status: reason.status(), usage: Usage::default(), estimated: false };
    let reason = if knock.books.settle(end).await.is_ok() { reason } else { Unserved::LedgerLost };
    Err(Unopened::Unserved(reason))
}

async fn reject(
    mut books: Box<Books>,
    lease: Lease,
    status: u16,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Line, Unopened> {
    let outcome = Outcome::Rejected { status };
    let upstream_id = headers::upstream_id(&headers).map(str::to_owned);
    let usage = Usage::default();
    books.end_attempt(AttemptEnd { status: Some(status), outcome, usage, charge: Charge::None, upstream_id });
    lease.settle(outcome, None);
    let end = End { state: RequestState::Settled, status, usage, estimated: false };
    match books.settle(end).await {
        Ok(()) => Err(Unopened::Rejected { status, headers, body }),
        Err(_) => Err(Unopened::Unserved(Unserved::LedgerLost)),
    }
}

/// What the session has met so far.
#[derive(Default)]
struct Tried {
    deployments: SmallVec<[DeploymentId; 4]>,
    outcomes: SmallVec<[Outcome; 4]>,
}

impl Tried {
    fn failed(&mut self, lease: Lease, failure: Failure) -> AttemptEnd {
        let Failure { outcome, status, charge, figures, upstream_id, detail } = failure;
        let deployment = lease.deployment();
        tracing::debug!(resource = %deployment.resource, deployment = %deployment.name, reason = outcome.reason(), detail,
            "handshake of a session failed");
        lease.heard(&figures);
        self.deployments.push(deployment.id);
        self.outcomes.push(outcome);
        lease.settle(outcome, None);
        AttemptEnd { status, outcome, usage: Usage::default(), charge, upstream_id }
    }
}

fn is_too_late(knock: &Knock, tried: &Tried) -> bool {
    !tried.outcomes.is_empty() && time::now().since(knock.started) >= knock.routing.deadline_to_headers
}

impl Knock {
    /// From here on the session counts as the deployment's model does, which may be a fallback of the one asked for.
    fn answer_as(&mut self, deployment: &Deployment) {
        if deployment.model != self.books.route().model
            && let Some(route) = self.router.table().model(deployment.model.as_str())
        {
            self.books.answer_as(route.clone());
        }
    }
}

/// A lease at once or, where all are busy and the soonest comes back in time, after a wait in line.
async fn acquire(knock: &mut Knock, tried: &mut Tried) -> Result<Lease, Refusal> {
    // The router is dead: the tripwire is ending the process.
    const DEAD: Refusal = Refusal::Unavailable { retry_after: SOON };
    let turn = if tried.deployments.is_empty() { Turn::BehindTheLine } else { Turn::Now };
    let (request, demand) = (knock.books.id(), knock.demand.clone());
    let acquire = Acquire { request, demand: demand.clone(), tried: tried.deployments.clone(), turn };
    let refusal = match knock.router.acquire(acquire).await.unwrap_or(Err(DEAD)) {
        Ok(lease) => return Ok(lease),
        Err(refusal) => refusal,
    };
    let Refusal::Exhausted { retry_after } = refusal else { return Err(refusal) };
    let routing = &knock.routing;
    let (began, until) = (time::now(), knock.started.after(routing.max_wait.min(routing.deadline_to_headers)));
    if began.after(retry_after) > until {
        return Err(refusal);
    }
    // Who waits does so for those that only asked for a pause, too.
    let busy = |at: usize| matches!(tried.outcomes.get(at), Some(Outcome::Throttled { .. }));
    let tried = tried.deployments.iter().enumerate().filter(|(at, _)| !busy(*at)).map(|(_, id)| *id).collect();
    let wait = Wait { request, demand, tried, caller: knock.caller, until };
    let waited = knock.router.wait(wait, routing.max_waiting).await;
    knock.books.waited(time::now().since(began));
    waited.map_or(Err(refusal), |answer| answer.unwrap_or(Err(DEAD)))
}

enum Answer {
    Open { reader: UpstreamReader, writer: UpstreamWriter, headers: HeaderMap },
    Rejected { status: u16, headers: HeaderMap, body: Bytes },
}

/// Asks one deployment. A token that is refused is replaced once.
async fn attempt(knock: &Knock, deployment: &Arc<Deployment>) -> Result<Answer, Failure> {
    let authorize = || deployment.credential.authorize(deployment.kind, time::now(), knock.callers_key.as_ref());
    let Some(authorization) = authorize() else {
        let (outcome, detail) = (Outcome::Abandoned, "the resource's credential cannot be sent now".to_owned());
        let figures = Figures::default();
        return Err(Failure { outcome, status: None, charge: Charge::None, figures, upstream_id: None, detail });
    };
    let ended = ask(knock, deployment, &authorization).await;
    match ended {
        Err(Failure { status: Some(401), .. }) if authorization.is_renewed(RENEWAL_PATIENCE).await => {
            let Some(renewed) = authorize() else { return ended };
            ask(knock, deployment, &renewed).await
        }
        Ok(_) | Err(_) => ended,
    }
}

async fn ask(knock: &Knock, deployment: &Arc<Deployment>, authorization: &Authorization) -> Result<Answer, Failure> {
    let mut headers = headers::to_upstream(None, &knock.request_id, deployment, authorization);
    headers.remove(&header::CONTENT_TYPE);
    if deployment.kind == Kind::OpenAi && knock.generation == Generation::Preview {
        headers.insert(HeaderName::from_static("openai-beta"), HeaderValue::from_static("realtime=v1"));
    }
    let upgrade = Upgrade {
        endpoint: deployment.endpoint.clone(),
        path_and_query: realtime::path(
            deployment.kind,
            &deployment.api_version,
            knock.asked_version.as_ref(),
            knock.generation,
            deployment.name.as_str(),
            knock.intent.as_deref(),
        ),
        headers,
        connect_timeout: knock.routing.connect_timeout,
        head_timeout: knock.routing.first_byte_timeout,
    };
    match knock.client.upgrade(upgrade).await {
        Ok(Upgraded::Open { reader, writer, headers }) => Ok(Answer::Open { reader, writer, headers }),
        Ok(Upgraded::Refused { status, headers, body }) => {
            judge(knock, status.as_u16(), headers, body).map_err(|failure| *failure)
        }
        // No session, so nothing that is billed.
        Err(error) => Err(Failure { charge: Charge::None, ..Failure::from(error) }),
    }
}

/// What a refused handshake means.
fn judge(knock: &Knock, status: u16, headers: HeaderMap, body: Bytes) -> Result<Answer, Box<Failure>> {
    let outcome = match reply::classify(status) {
        // A key that the caller brought is the caller's affair, and not the deployment's.
        Verdict::Fail(_) if knock.callers_key.is_some() && matches!(status, 401 | 403) => {
            return Ok(Answer::Rejected { status, headers, body });
        }
        Verdict::Reject => return Ok(Answer::Rejected { status, headers, body }),
        Verdict::Answer => Outcome::Faulted(Fault::InvalidResponse),
        Verdict::Fail(Outcome::Throttled { .. }) => throttle::judge(|name| headers::text(&headers, name), &body),
        // The deployment is there, and serves whatever else it is asked for.
        Verdict::Fail(Outcome::Misconfigured { status: 404 })
            if reply::missing(knock.demand.operation, &body) == Missing::Operation =>
        {
            Outcome::Rejected { status }
        }
        Verdict::Fail(outcome) => outcome,
    };
    Err(Box::new(Failure {
        outcome,
        status: Some(status),
        charge: Charge::None,
        figures: headers::figures(&headers),
        upstream_id: headers::upstream_id(&headers).map(str::to_owned),
        detail: format!("status {status}"),
    }))
}
