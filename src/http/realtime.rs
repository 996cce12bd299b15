//! Opens a realtime session: who calls, which model, and the switch of protocols when an upstream has agreed.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::auth::{self, KnownBy};
use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::handshake::{self, Asked};
use super::routes::Dialect;
use super::state::Worker;
use super::{guests, inference, models};
use crate::azure::realtime::Generation;
use crate::domain::demand::{Demand, Operation, Whose};
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::fleet::routes::{Route, RouteTable};
use crate::limits::{Caller, Estimate};
use crate::proxy::books::{Books, Opening};
use crate::proxy::headers;
use crate::proxy::websocket::{self, Knock, Line, Outside, Purpose, Start, Unopened};
use crate::storage::ledger::Intent;

pub async fn serve(
    request: &HttpRequest,
    payload: Payload,
    worker: &Worker,
    dialect: Dialect,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let started = time::now();
    let Some(key) = handshake::key_of(request)? else { return Ok(handshake::upgrade_required()) };
    let (house, table) = (&worker.house, worker.router.table());
    let asked = Asked::of(request);
    let key_sent = asked.key_sent(request.headers(), &house.callers);
    let (known_by, caller) = auth::caller_with(key_sent.as_deref(), &house.callers)?;
    let permit = inference::admit(worker, told, &caller)?;
    let asked_version = inference::asked_version(request, dialect)?;
    let route = match asked.model.as_deref() {
        Some(name) => inference::find_model(&table, &caller, dialect, name)?.clone(),
        None => asked.writer(&table, &caller).ok_or_else(ApiError::session_without_model)?,
    };
    let callers_key = match caller.grant.whose {
        Whose::Ours => None,
        Whose::Callers => key_sent.clone().map(Secret::new),
    };
    let demand = Demand {
        fallback: inference::fallback(&table, &caller, &route),
        regions: caller.grant.regions.clone(),
        class: caller.grant.class,
        whose: caller.grant.whose,
        batch_share: table.settings.routing.batch_share,
        ..Demand::new(Operation::Realtime, route.model.clone())
    };
    // Its responses take what they cost; where nothing is left, there is no session.
    let estimate = Estimate { request: label.id(), ..Estimate::assuming(1, route.price) };
    let admission = permit.reserve_tokens(estimate, 0).await;
    let admission = admission.map_err(|limited| inference::refuse(worker, limited))?;
    let entry = worker.recorder.admit(Intent {
        id: admission.request,
        request_id: label.as_str().to_owned(),
        key_id: caller.grant.key_id,
        user_id: caller.grant.user_id,
        operation: Operation::Realtime,
        model: route.model.clone(),
        stream: true,
        started_at: admission.began,
        input_tokens: 0,
    })?;
    let metrics = house.metrics.clone();
    let books = Books::open(Opening { entry, route, metrics: metrics.clone(), admission, started });
    told.in_books = true;
    let routing = table.settings.routing.clone();
    let (router, client) = (worker.router.clone(), worker.client.clone());
    let (limit, patience, max_wait) = (routing.session_limit, routing.stream_idle_timeout, routing.max_wait);
    let knock = Knock {
        books,
        demand,
        router: router.clone(),
        client,
        routing,
        started,
        caller: caller.grant.key_id,
        request_id: label.text.clone(),
        generation: asked.generation(dialect),
        asked_version,
        intent: asked.intent,
        callers_key,
    };
    let line = match websocket::connect(knock).await {
        Ok(line) => line,
        Err(Unopened::Unserved(unserved)) => {
            return Err(ApiError::from(unserved).within(&caller.grant.regions));
        }
        Err(Unopened::Rejected { status, headers, body }) => {
            let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST));
            pass_back(&headers, |name, value| {
                response.append_header((name, value));
            });
            return Ok(response.body(body));
        }
    };
    let mut response = switched(&key, &line, asked.protocol.as_deref(), table.settings.server.expose_route);
    if let Some(guest) = auth::new_guest_with(|| key_sent.as_deref(), &caller, &house.callers) {
        guests::file(house.clone(), guest);
    }
    let outside = outside(worker, known_by);
    let start = Start {
        line,
        payload,
        message_limit: table.settings.server.body_limit,
        caller,
        outside,
        router,
        recorder: worker.recorder.clone(),
        metrics,
        label: label.as_str().to_owned(),
        started,
        limit,
        patience,
        max_wait,
    };
    Ok(response.body(websocket::start(start)))
}

/// What a session is told of its key and of the house.
fn outside(worker: &Worker, known_by: KnownBy) -> Outside {
    let (keys, house, ending) = (worker.house.callers.clone(), worker.house.clone(), worker.house.clone());
    Outside {
        changes: keys.changes(),
        usable: Box::new(move || auth::usable(known_by, &keys)),
        draining: Box::pin(async move { house.condition.until_draining().await }),
        cut: Box::pin(async move { ending.condition.until_cut().await }),
        explain: |limited| ApiError::from(limited).body,
    }
}

fn switched(key: &[u8], line: &Line, protocol: Option<&str>, expose_route: bool) -> actix_web::HttpResponseBuilder {
    let mut response = handshake::switched(key, protocol);
    pass_back(&line.headers, |name, value| {
        response.append_header((name, value));
    });
    if expose_route {
        let deployment = line.lease.deployment();
        response.insert_header(("x-gateway-route", format!("{}/{}", deployment.resource, deployment.name)));
    }
    response
}

fn pass_back(headers: &HeaderMap, mut pass: impl FnMut(HeaderName, HeaderValue)) {
    for (name, value) in headers.iter().filter(|(name, _)| headers::passes_back(name)) {
        pass(name.clone(), value.clone());
    }
}

impl Asked {
    /// The model of a session that is there to write down what is said, where the address names none, as OpenAI's own
    /// clients do: the first by name that is made for it and that the key may use.
    fn writer(&self, table: &RouteTable, caller: &Caller) -> Option<Arc<Route>> {
        let is_writer = |route: &&Arc<Route>| {
            let name = route.model.as_str();
            name.contains("transcribe") && models::may_use(caller, route, name)
        };
        let wants_one = Purpose::of(self.intent.as_deref()) == Purpose::Transcription;
        table.models.iter().filter(|_| wants_one).find(is_writer).cloned()
    }

    fn generation(&self, dialect: Dialect) -> Generation {
        match dialect {
            Dialect::AzureDated => Generation::Preview,
            Dialect::OpenAi | Dialect::AzureV1 if self.is_beta => Generation::Preview,
            Dialect::OpenAi | Dialect::AzureV1 => Generation::General,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_is_the_clients() {
        let preview = Asked { is_beta: true, ..Asked::default() };
        assert_eq!(preview.generation(Dialect::OpenAi), Generation::Preview);
        assert_eq!(Asked::default().generation(Dialect::AzureV1), Generation::General);
        assert_eq!(Asked::default().generation(Dialect::AzureDated), Generation::Preview);
    }
}
