//! What a deployment is doing now, in the words of the admin plane. Read from its gauges when someone asks.

use serde::Serialize;
use utoipa::ToSchema;

use crate::balance::health::State;
use crate::balance::share::FULL;
use crate::domain::outcome::{Fault, Outcome};
use crate::domain::time::{self, Timestamp, WallTime};
use crate::fleet::deployment::Deployment;
use crate::fleet::routes::RouteTable;
use crate::fleet::tally::LastError;
use crate::storage::page::rfc3339;

/// Every deployment in the table.
pub(super) fn all(table: &RouteTable) -> impl Iterator<Item = &Deployment> {
    table.models.iter().flat_map(|route| route.deployments()).map(|deployment| &**deployment)
}

/// One moment for a whole answer.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub now: Timestamp,
    wall: WallTime,
}

impl Moment {
    pub(super) fn present() -> Self {
        Self { now: time::now(), wall: time::wall_now() }
    }

    fn text(self, at: Timestamp) -> String {
        rfc3339(self.wall.after(at.since(self.now)))
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Deployment)]
pub(super) struct DeploymentView {
    pub name: String,
    pub model: String,
    /// `standard` or `provisioned`.
    pub sku: &'static str,
    pub priority: u32,
    pub weight: u32,
    pub max_in_flight: Option<u32>,
    /// `ok`, `impaired`, `cooling`, `failing` or `quarantined`.
    pub health: &'static str,
    /// `closed`, `open`, or `half_open`: then one request at a time finds out.
    pub breaker: &'static str,
    /// How much of its weight it gets: less while it recovers, or answers worse than its peers.
    pub weight_share: f64,
    /// When it may be asked again, if not now.
    pub cooldown_until: Option<String>,
    pub consecutive_faults: u32,
    pub in_flight: u32,
    /// To the first byte, with slow answers counting more; none before the first answer.
    pub latency_ms: Option<f64>,
    /// Of the last minute.
    pub recent_requests: u64,
    /// Of its model's recent requests, 0 to 1; none when there were none.
    pub share: Option<f64>,
    /// Requests and tokens per minute: what is believed to be allowed (none: not known yet) and what was counted.
    pub effective_rpm: Option<u64>,
    pub used_rpm: u64,
    pub effective_tpm: Option<u64>,
    pub used_tpm: u64,
    /// Of a provisioned deployment, 0 to 1.
    pub utilisation: Option<f64>,
    /// The region that its answers name, where the settings name one.
    pub answers_from: Option<String>,
    pub last_error: Option<ErrorView>,
}

impl DeploymentView {
    /// `of_model`: its model's recent requests.
    pub(super) fn of(deployment: &Deployment, of_model: u64, moment: Moment) -> Self {
        let gauges = &deployment.gauges;
        let waits = gauges.ready_at() > moment.now;
        let (health, breaker) = condition(deployment, moment);
        let latency = gauges.latency();
        let recent = deployment.tally.recent(moment.now);
        let standing = deployment.quota.standing(moment.now);
        Self {
            name: deployment.name.to_string(),
            model: deployment.model.to_string(),
            sku: deployment.sku.label(),
            priority: deployment.priority,
            weight: deployment.weight,
            max_in_flight: deployment.max_in_flight,
            health,
            breaker,
            weight_share: f64::from(gauges.share()) / f64::from(FULL),
            cooldown_until: waits.then(|| moment.text(gauges.ready_at())),
            consecutive_faults: gauges.consecutive_faults(),
            in_flight: gauges.in_flight(),
            latency_ms: (!latency.is_zero()).then(|| milliseconds(latency)),
            recent_requests: recent,
            share: share(recent, of_model),
            effective_rpm: standing.limit_requests,
            used_rpm: standing.used_requests,
            effective_tpm: standing.limit_tokens,
            used_tpm: standing.used_tokens,
            utilisation: standing.utilisation,
            answers_from: deployment.tally.answers_from().map(ToString::to_string),
            last_error: deployment.tally.last_error().map(ErrorView::of),
        }
    }
}

/// Health and breaker.
pub(super) fn condition(deployment: &Deployment, moment: Moment) -> (&'static str, &'static str) {
    let waits = deployment.gauges.ready_at() > moment.now;
    let breaker = if waits { "open" } else { "half_open" };
    match deployment.gauges.state() {
        // A lease met a 429, and the owner is about to hear of it.
        State::Closed if waits => ("cooling", breaker),
        // Its tokens drip, its first byte is late or its answers break, and those of its peers do not.
        State::Closed if deployment.gauges.share_among_peers() < FULL => ("impaired", "closed"),
        State::Closed => ("ok", "closed"),
        State::Cooling => ("cooling", breaker),
        State::Open => ("failing", breaker),
        State::Quarantined => ("quarantined", breaker),
    }
}

#[derive(Clone, Serialize, ToSchema)]
#[schema(as = LastError)]
pub(super) struct ErrorView {
    pub reason: &'static str,
    pub status: Option<u16>,
    pub message: String,
    pub at: String,
}

impl ErrorView {
    fn of(error: LastError) -> Self {
        let status = status(error.outcome);
        Self { reason: error.outcome.reason(), status, message: meaning(error.outcome), at: rfc3339(error.at) }
    }
}

fn status(outcome: Outcome) -> Option<u16> {
    match outcome {
        Outcome::Throttled { .. } => Some(429),
        Outcome::Faulted(Fault::Status(status)) | Outcome::Rejected { status } => Some(status),
        Outcome::Misconfigured { status } => Some(status).filter(|status| *status > 0),
        Outcome::Served
        | Outcome::Abandoned
        | Outcome::Faulted(
            Fault::Connect | Fault::FirstByteTimeout | Fault::Stalled | Fault::Truncated | Fault::InvalidResponse,
        ) => None,
    }
}

/// What an attempt's end says about the deployment, and what to do.
pub(super) fn meaning(outcome: Outcome) -> String {
    let text = match outcome {
        Outcome::Served => "It answers.",
        Outcome::Throttled { retry_after: Some(pause), cause: _ } => {
            let seconds = pause.as_secs_f64();
            return format!(
                "It works, and its quota is used up for now: it asked for a pause of {seconds:.1} s. Other deployments serve \
                 meanwhile; raise its quota or add a deployment if this lasts."
            );
        }
        Outcome::Throttled { retry_after: None, cause: _ } => {
            "It works, and its quota is used up for now. Other deployments serve meanwhile; raise its quota or add a \
             deployment if this lasts."
        }
        Outcome::Misconfigured { status: 401 } => {
            "It refused our credential. Check the resource's api_key or identity in the settings."
        }
        Outcome::Misconfigured { status: 403 } => {
            "It refuses us. Check the resource's network rules (firewall, private endpoint) and what the credential may do."
        }
        Outcome::Misconfigured { status: 404 } => {
            "It has no deployment of this name, or not this operation. Check the deployment's name, the endpoint and the \
             api_version in the settings."
        }
        Outcome::Misconfigured { .. } => {
            "Its credential cannot be sent. Check the resource's api_key or identity in the settings."
        }
        Outcome::Rejected { .. } => "It answers: the credential and the name are right. It refused this very request.",
        Outcome::Abandoned => "Nobody waited for the end.",
        Outcome::Faulted(Fault::Connect) => {
            "There is no connection. Check the endpoint's name, and the firewall between here and there."
        }
        Outcome::Faulted(Fault::FirstByteTimeout) => "It took the request and sent nothing in time.",
        Outcome::Faulted(Fault::Stalled) => "Its answer did not end in time.",
        Outcome::Faulted(Fault::Status(status)) => {
            return format!("It failed with status {status}; that is Azure's to repair.");
        }
        Outcome::Faulted(Fault::Truncated) => "The connection ended before its answer was whole.",
        Outcome::Faulted(Fault::InvalidResponse) => {
            "What came is no answer of Azure OpenAI. Check that the endpoint is the resource's own, without a path."
        }
    };
    text.to_owned()
}

pub(super) fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// None of nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}
