//! For operators and their machines: liveness, readiness, metrics, and one line at `/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::HttpResponse;
use serde_json::json;

use super::error::ApiError;
use super::state::Worker;
use crate::balance::budget::Level;
use crate::balance::health::State;
use crate::balance::share::FULL;
use crate::domain::outcome::Outcome;
use crate::domain::time;
use crate::fleet::bearer::Bearer;
use crate::fleet::deployment::Deployment;
use crate::fleet::routes::RouteTable;
use crate::fleet::tally::LastError;
use crate::metrics::Metrics;

pub fn root() -> HttpResponse {
    let line = concat!(
        "aoai-gateway ",
        env!("CARGO_PKG_VERSION"),
        " is running. The OpenAI API is at /v1, Azure's at /openai, readiness at /readyz.\n"
    );
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(line)
}

/// The process answers; nothing more.
pub fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// Whether requests sent here now are likely to be served, and what stands in the way.
pub fn ready(worker: &Worker) -> HttpResponse {
    let table = worker.router.table();
    let condition = &worker.house.condition;
    let deployments = usable_deployments(&table);
    let ledger = worker.house.ledger.permits.is_writable(time::now());
    let detail = if condition.is_draining() {
        Some("shutting down".to_owned())
    } else if worker.house.ledger.permits.is_disk_full() {
        Some("the disk is full: what is in flight is settled, nothing new is taken until there is room".to_owned())
    } else if !ledger {
        Some("the ledger cannot be written".to_owned())
    } else if table.models.is_empty() {
        Some("no deployment is configured: add a region file to the settings directory".to_owned())
    } else if deployments == 0 {
        Some("no deployment is usable at the moment".to_owned())
    } else {
        None
    };
    let mut body = json!({
        "status": if detail.is_none() { "ready" } else { "not ready" },
        "usable_deployments": deployments,
        "ledger": if ledger { "ok" } else { "unwritable" },
        "settings": if condition.refused_settings().is_some() { "the newest settings were refused; the previous ones are in force" } else { "ok" },
    });
    // Not a reason to send requests elsewhere: they are served without it.
    if let Some(bridge) = &worker.house.ledger.projector {
        let away = bridge.backlog.failing_since().is_some();
        body["database"] =
            json!(if away { "away; requests are served from the journal and the known keys" } else { "ok" });
    }
    if let Some(trouble) = clock_trouble(&worker.house.metrics) {
        body["clock"] = json!(trouble);
    }
    if let Some(detail) = &detail {
        body["detail"] = json!(detail);
    }
    if let Some(mistakes) = condition.refused_settings() {
        body["settings_errors"] = json!(mistakes);
    }
    let quarantined = quarantined(&table);
    if !quarantined.is_empty() {
        body["quarantined"] = json!(quarantined);
    }
    let credentials = credential_troubles(&table);
    if !credentials.is_empty() {
        body["credentials"] = json!(credentials);
    }
    if detail.is_none() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() }.json(body)
}

/// Not a reason to send requests elsewhere, either: the books hold, by a time that somebody has to put right.
fn clock_trouble(metrics: &Metrics) -> Option<String> {
    let (jumped, behind, off) = (metrics.clock_jump.get(), metrics.clock_behind.get(), metrics.clock_off.get());
    let mut troubles = Vec::new();
    if behind > 0.0 {
        troubles.push(format!("{behind:.0} s behind the ledger's newest request: check the machine's time service"));
    }
    if off != 0.0 {
        let (by, side) = (off.abs(), if off > 0.0 { "ahead of" } else { "behind" });
        troubles.push(format!("{by:.0} s {side} the shared database's: check both machines' time services"));
    }
    if jumped != 0.0 {
        troubles
            .push(format!("jumped by {jumped:.0} s, the old time goes on meanwhile: check the machine's time service"));
    }
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

/// Deployment and reason, of those that somebody has to mend: they refuse our credential, or do not exist.
fn quarantined(table: &RouteTable) -> BTreeMap<String, &'static str> {
    let deployments = table.models.iter().flat_map(|route| route.deployments());
    let quarantined = deployments.filter(|deployment| deployment.gauges.state() == State::Quarantined);
    let reason = |deployment: &Deployment| match deployment.tally.last_error() {
        Some(LastError { outcome: Outcome::Misconfigured { status }, .. }) => match status {
            401 => "401: it refuses our credential",
            403 => "403: its network rules or its permissions keep us out",
            404 => "404: there is no deployment of this name",
            _ => "our credential cannot be sent",
        },
        // Its probe has failed in another way since.
        Some(_) | None => "it was refusing us, and cannot be reached now",
    };
    quarantined.map(|one| (format!("{}/{}", one.resource, one.name), reason(one))).collect()
}

/// Resource and reason, of those for which no new access token can be had.
fn credential_troubles(table: &RouteTable) -> BTreeMap<&str, String> {
    let now = time::now();
    let deployments = table.models.iter().flat_map(|route| route.deployments());
    let trouble = |bearer: &Arc<Bearer>| match (bearer.trouble(), bearer.is_usable(now)) {
        (Some(trouble), true) => Some(format!("no new access token ({trouble}); the old one still lasts")),
        (Some(trouble), false) => Some(format!("no access token: {trouble}")),
        (None, true) => None,
        (None, false) => Some("the first access token is on its way".to_owned()),
    };
    deployments
        .filter_map(|deployment| Some((deployment.resource.as_str(), trouble(deployment.credential.bearer()?)?)))
        .collect()
}

/// Deployments that would be asked now.
fn usable_deployments(table: &RouteTable) -> usize {
    let now = time::now();
    table
        .models
        .iter()
        .flat_map(|route| route.deployments())
        .filter(|deployment| {
            deployment.gauges.ready_at() <= now
                && deployment.credential.is_usable(now)
                && !deployment.gauges.is_drained()
        })
        .count()
}

pub fn metrics(worker: &Worker) -> Result<HttpResponse, ApiError> {
    let metrics = &worker.house.metrics;
    publish_states(&worker.router.table(), worker);
    publish_ledger(worker);
    publish_alarms(worker);
    metrics.waiting.set(worker.house.waiting.taken().into());
    metrics.background.set(i64::try_from(worker.house.background.len()).unwrap_or(i64::MAX));
    let text = metrics.render().map_err(|error| {
        tracing::error!(%error, "metrics could not be rendered");
        ApiError::internal()
    })?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// The ledger counts for itself; what has come since the last look is added.
fn publish_ledger(worker: &Worker) {
    let (house, ledger) = (&worker.house, &worker.house.ledger);
    let metrics = &house.metrics;
    metrics.ledger_pending.set(i64::try_from(ledger.permits.taken()).unwrap_or(i64::MAX));
    let backlog = ledger.projector.as_ref().map(|bridge| &bridge.backlog);
    let waiting = backlog.map_or(0, |backlog| backlog.waiting());
    metrics.ledger_unprojected.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    let errors = ledger.gauges.database_errors_total() + backlog.map_or(0, |backlog| backlog.errors_total());
    let seen = house.condition.ledger_seen(ledger.gauges.committed_total(), errors);
    metrics.ledger_committed.inc_by(seen.committed);
    metrics.database_errors.inc_by(seen.database_errors);
    if let Some(head) = ledger.gauges.head() {
        metrics.ledger_chain_number.set(head.chain());
        metrics.ledger_chain_rows.set(head.row());
        // 48 bits.
        metrics.ledger_chain_head.set(head.mark().cast_signed());
    }
}

/// Alarms count for themselves, too.
fn publish_alarms(worker: &Worker) {
    for level in [Level::High, Level::Full] {
        let metric = worker.house.metrics.quota_alarms.with_label_values(&[&level.percent().to_string()]);
        metric.inc_by(worker.house.callers.alarms().count(level).saturating_sub(metric.get()));
    }
}

/// States are read when someone asks, not written on the request path. Deployments that left the settings disappear.
fn publish_states(table: &RouteTable, worker: &Worker) {
    let metrics = &worker.house.metrics;
    metrics.upstream_state.reset();
    metrics.upstream_cooldown.reset();
    metrics.upstream_share.reset();
    metrics.upstream_tokens_limit.reset();
    metrics.upstream_tokens_remaining.reset();
    metrics.upstream_cached_tokens_ratio.reset();
    metrics.upstream_token_age.reset();
    metrics.upstream_token_expiry.reset();
    let (now, mut quarantined) = (time::now(), 0);
    for deployment in table.models.iter().flat_map(|route| route.deployments()) {
        let (resource, name) = (deployment.resource.as_str(), deployment.name.as_str());
        let state = deployment.gauges.state();
        for known in State::ALL {
            let value = if known == state { 1.0 } else { 0.0 };
            metrics.upstream_state.with_label_values(&[resource, name, known.label()]).set(value);
        }
        let drained = if deployment.gauges.is_drained() { 1.0 } else { 0.0 };
        metrics.upstream_state.with_label_values(&[resource, name, "drained"]).set(drained);
        quarantined += i64::from(state == State::Quarantined);
        let share = f64::from(deployment.gauges.share()) / f64::from(FULL);
        metrics.upstream_share.with_label_values(&[resource, name]).set(share);
        let wait = deployment.gauges.ready_at().since(now).as_secs_f64();
        metrics.upstream_cooldown.with_label_values(&[resource, name]).set(wait);
        let standing = deployment.quota.standing(now);
        if let (Some(limit), Some(remaining)) = (standing.limit_tokens, standing.remaining_tokens()) {
            metrics.upstream_tokens_limit.with_label_values(&[resource, name]).set(limit as f64);
            metrics.upstream_tokens_remaining.with_label_values(&[resource, name]).set(remaining as f64);
        }
        if let Some(bearer) = deployment.credential.bearer() {
            let token = bearer.token(now);
            let expiry = token.as_ref().map_or(0.0, |token| token.expires_at().since(now).as_secs_f64());
            metrics.upstream_token_expiry.with_label_values(&[resource]).set(expiry);
            if let Some(token) = token {
                let age = now.since(token.obtained()).as_secs_f64();
                metrics.upstream_token_age.with_label_values(&[resource]).set(age);
            }
        }
        let model = deployment.model.as_str();
        let tokens = |kind| metrics.tokens.with_label_values(&[model, resource, kind]).get();
        let (input, cached) = (tokens("input"), tokens("cached_input"));
        if input > 0 {
            let ratio = cached as f64 / input as f64;
            metrics.upstream_cached_tokens_ratio.with_label_values(&[model, resource]).set(ratio);
        }
    }
    metrics.upstream_quarantined.set(quarantined);
}
