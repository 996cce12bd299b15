//! What the metrics are told when the books of a request close.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::{Books, End, code};
use crate::domain::usage::Usage;
use crate::metrics::Metrics;
use crate::proxy::leaving::Known;
use crate::storage::ledger::RequestState;

impl Books {
    pub(super) fn count(&self, end: &End, dollars: f64, duration: Duration) {
        let metrics = &self.metrics;
        let (model, endpoint) = (self.route.model.as_str(), self.operation.label());
        metrics.inflight.dec();
        if end.state == RequestState::Cancelled {
            let known = if end.estimated { Known::Roughly } else { Known::Exactly };
            metrics.disconnects.with_label_values(&[self.leaving.label(known)]).inc();
        }
        let code = code(end.status);
        let code = code.as_ref().map_or("none", StatusCode::as_str);
        metrics.requests.with_label_values(&[endpoint, model, code, outcome_label(end)]).inc();
        let stream = if self.stream { "true" } else { "false" };
        metrics.request_duration.with_label_values(&[endpoint, model, stream]).observe(duration.as_secs_f64());
        metrics
            .overhead
            .observe(self.ttfb.map_or(duration, |ttfb| ttfb).saturating_sub(self.upstream_time).as_secs_f64());
        let resource = self.attempts.last().map_or("", |attempt| attempt.resource.as_str());
        count_use(metrics, model, resource, end.usage, dollars);
    }
}

/// Tokens and money.
pub(in crate::proxy) fn count_use(metrics: &Metrics, model: &str, resource: &str, usage: Usage, dollars: f64) {
    if dollars > 0.0 {
        metrics.cost.with_label_values(&[model]).inc_by(dollars);
    }
    for (kind, tokens) in [
        ("input", usage.input_tokens),
        ("cached_input", usage.cached_input_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
        ("audio_input", usage.audio_input_tokens),
        ("audio_output", usage.audio_output_tokens),
    ] {
        if tokens > 0 {
            metrics.tokens.with_label_values(&[model, resource, kind]).inc_by(u64::from(tokens));
        }
    }
}

fn outcome_label(end: &End) -> &'static str {
    match end.state {
        RequestState::Settled if end.status < 400 => "ok",
        RequestState::Settled => "client_error",
        RequestState::Cancelled => "client_cancelled",
        RequestState::Failed if end.status == 429 => "rate_limited",
        RequestState::Failed | RequestState::Open | RequestState::Recovered => "upstream_error",
    }
}
