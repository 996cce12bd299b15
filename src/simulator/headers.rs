//! The response headers of 2026, in the groups in which Azure's layers add them.

use std::time::Duration;

use super::admission::Standing;
use super::knobs::{Knobs, ResetUnit};
use super::reply::Head;
use super::state::{Deployment, Gauge, Shared};

/// The ids of one exchange.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    /// Given by the front end to every request: the support id.
    pub(super) apim: String,
    /// Given by the model back end.
    pub(super) model: String,
}

impl Ids {
    pub(super) fn new() -> Self {
        let uuid = || uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid().to_string();
        Self { apim: uuid(), model: uuid() }
    }
}

/// What the front end puts on every answer.
pub(super) fn edge(head: Head, ids: &Ids) -> Head {
    head.with("apim-request-id", ids.apim.clone())
}

/// What the service puts on its answers once the key was good.
pub(super) fn service(head: Head, ids: &Ids, shared: &Shared) -> Head {
    edge(head, ids)
        .with("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
        .with("x-content-type-options", "nosniff")
        .with("x-ms-region", shared.resource.region_label.clone())
}

/// What the model back end puts on its answers.
pub(super) fn model(head: Head, ids: &Ids, shared: &Shared, deployment: &Deployment) -> Head {
    service(head, ids, shared)
        .with("x-request-id", ids.model.clone())
        .with("x-ms-deployment-name", deployment.spec.name.clone())
        .with("x-ms-is-spilled-over", "false")
        .with("x-ms-served-model", deployment.model.served.clone())
        .with("azureml-model-session", shared.session.clone())
        .with("skip-error-remapping", "true")
        .with("x-accel-buffering", "no")
}

/// Where a deployment stands: windows, or utilisation.
pub(super) fn standing(head: Head, deployment: &Deployment, gauge: &Gauge, knobs: &Knobs) -> Head {
    match gauge {
        Gauge::Standard(standing) => windows(head, deployment, standing, knobs),
        Gauge::Provisioned(utilisation) => head.with("azure-openai-deployment-utilization", utilisation.clone()),
    }
}

fn windows(head: Head, deployment: &Deployment, standing: &Standing, knobs: &Knobs) -> Head {
    let head = head
        .with("x-ratelimit-abusepenalty-active", "False")
        .with("x-ratelimit-key", deployment.spec.name.clone())
        .with("x-ratelimit-renewalperiod-requests", "60")
        .with("x-ratelimit-renewalperiod-tokens", "60");
    let figure = |value: u64| if knobs.reset_unit == ResetUnit::MinusOne { "-1".to_owned() } else { value.to_string() };
    let head = head
        .with("x-ratelimit-limit-requests", figure(standing.limits.requests))
        .with("x-ratelimit-limit-tokens", figure(standing.limits.tokens))
        .with("x-ratelimit-remaining-requests", figure(standing.remaining_requests))
        .with("x-ratelimit-remaining-tokens", figure(standing.remaining_tokens));
    let reset = |time: Duration| match knobs.reset_unit {
        ResetUnit::Milliseconds => Some(time.as_millis().to_string()),
        ResetUnit::Seconds => Some(whole_seconds(time).to_string()),
        ResetUnit::MinusOne => Some("-1".to_owned()),
        ResetUnit::Absent => None,
    };
    match (reset(standing.reset_requests), reset(standing.reset_tokens)) {
        (Some(requests), Some(tokens)) => {
            head.with("x-ratelimit-reset-requests", requests).with("x-ratelimit-reset-tokens", tokens)
        }
        (None, _) | (_, None) => head,
    }
}

/// Rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
