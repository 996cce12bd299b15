//! The stateful side of the Responses API: what refers to a response that an upstream keeps goes to that upstream.
//!
//! A response is its key's own: another's id, an unknown one and an expired one are all a 404. Where the resource is gone
//! or does not work, the client is told; no other resource is asked, because none has it. Which one it is, is nobody's
//! business but the operator's.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::routes::{Dialect, Kept, Part};
use super::state::Worker;
use super::{auth, background, body, inference};
use crate::domain::demand::{Demand, Operation};
use crate::domain::ids::{ModelName, ResourceName};
use crate::fleet::routes::{Route, RouteTable};
use crate::limits::Caller;
use crate::openai::envelope;
use crate::openai::request::State;
use crate::openai::responses::read_whole;
use crate::openai::shape::{HideUsage, Shape, Shaper};
use crate::proxy::exchange::{Body, Unserved};
use crate::proxy::headers;
use crate::proxy::kept::{self, Errand, Fetched};
use crate::storage::pins::Pin;

/// The label of metrics.
const ENDPOINT: &str = "responses.kept";
/// Each may be a look into the database.
const MOST_REFERENCES: usize = 2_000;
/// An operator comes back to it, nobody knows when.
pub(super) const SWITCHED_OFF: Duration = Duration::from_secs(60);

/// The resource that a new response must be made by, if it goes on from another.
pub(super) async fn resource_of(
    state: &State,
    worker: &Worker,
    table: &RouteTable,
    caller: &Caller,
    route: &Route,
    fallback: &[ModelName],
) -> Result<Option<ResourceName>, ApiError> {
    let referred = &state.referred;
    if state.previous.is_none() && referred.items.is_empty() {
        let Some(seal) = &referred.seal else { return Ok(None) };
        return reader_of(seal, worker, table, route, fallback).await;
    }
    if referred.items.len() > MOST_REFERENCES {
        return Err(ApiError::unsupported("input", "It names too many items: send their contents instead."));
    }
    let ids: Vec<_> = state.previous.iter().chain(&referred.items).cloned().collect();
    let mut kept = Vec::with_capacity(ids.len());
    for (id, pin) in ids.iter().zip(find(worker, caller, &ids).await?) {
        let unknown = if state.previous.as_ref() == Some(id) {
            ApiError::previous_response_not_found
        } else {
            ApiError::item_not_found
        };
        kept.push(pin.ok_or_else(|| unknown(id))?);
    }
    let (Some(pin), Some(id)) = (kept.first(), ids.first()) else { return Ok(None) };
    if kept.iter().any(|other| other.resource != pin.resource) {
        return Err(ApiError::kept_apart());
    }
    check_resource(table, pin)?;
    if any_serves(table, route, fallback, pin) {
        return Ok(Some(pin.resource.clone()));
    }
    Err(ApiError::model_without_response(route.model.as_str(), id))
}

/// The resource that alone can read what the input has encrypted. Whoever has the text may have it read: it is nobody's
/// secret from them. Where that resource is out of reach for good, the others' own refusal tells the client best.
async fn reader_of(
    seal: &String,
    worker: &Worker,
    table: &RouteTable,
    route: &Route,
    fallback: &[ModelName],
) -> Result<Option<ResourceName>, ApiError> {
    let pin = look_up(worker, std::slice::from_ref(seal)).await?.into_iter().flatten().next();
    let pin = pin.filter(|pin| any_serves(table, route, fallback, pin));
    Ok(pin.map(|pin| pin.resource.clone()))
}

/// Whether a part of a kept response takes this method.
pub(super) fn takes(part: Part, method: &Method) -> bool {
    match part {
        Part::Response => method == Method::GET || method == Method::DELETE,
        Part::Cancel => method == Method::POST,
        Part::InputItems => method == Method::GET,
    }
}

/// Reads, cancels or deletes what is kept.
pub(super) async fn serve(
    request: &HttpRequest,
    payload: Payload,
    worker: &Worker,
    kept: Kept,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let answer = answer(request, payload, worker, &kept, label, told).await;
    let (status, outcome) = match &answer {
        Ok((_, response)) if response.status().as_u16() < 400 => (response.status(), "ok"),
        Ok((_, response)) => (response.status(), "client_error"),
        Err(error) => (error.status, "refused"),
    };
    let model = answer.as_ref().map_or("", |(model, _)| model.as_str());
    worker.house.metrics.requests.with_label_values(&[ENDPOINT, model, status.as_str(), outcome]).inc();
    answer.map(|(_, response)| response)
}

async fn answer(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    Kept { id, part, dialect }: &Kept,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<(ModelName, HttpResponse), ApiError> {
    let (house, table) = (&worker.house, worker.router.table());
    let caller = auth::caller(request.headers(), &house.callers)?;
    let (callers_key, whose) = auth::brought(request.headers(), &caller);
    // Held to the end: the place is taken that long.
    let _permit = inference::admit(worker, told, &caller)?;
    let asked_version = inference::asked_version(request, *dialect)?;
    let query = passed_on(request.query_string());
    // A cancellation may have one; it says nothing.
    body::read(request, &mut payload, inference::body_limits(&table)).await?;
    let found = find(worker, &caller, std::slice::from_ref(id)).await?;
    let pin = found.into_iter().flatten().next().ok_or_else(|| ApiError::response_not_found(id))?;
    check_resource(&table, &pin)?;
    let method = request.method().clone();
    let telling = background::telling(worker, &table, &caller, &pin);
    let shape = match dialect {
        Dialect::OpenAi => Shape::OpenAi { model: quoted(&pin.model) },
        Dialect::AzureDated | Dialect::AzureV1 => Shape::Azure,
    };
    let errand = |method: &Method, query: String| Errand {
        request: label.id(),
        demand: Demand { whose, ..demand(&table, &caller, &pin) },
        method: method.clone(),
        response_id: pin.id.clone(),
        part: part.path(),
        query,
        accept: request.headers().get(ACCEPT).cloned(),
        request_id: label.text.clone(),
        asked_version: asked_version.clone(),
        callers_key: callers_key.clone(),
        telling: telling.clone(),
        shape: shape.clone(),
    };
    let routing = table.settings.routing.clone();
    let run = |errand| kept::run(errand, &worker.router, &worker.client, &routing, &house.metrics);
    if method == Method::DELETE && telling.is_some() {
        // What it cost is asked for as long as it can be said.
        run(errand(&Method::GET, String::new())).await?;
    }
    let Fetched { status, headers, body, deployment } = run(errand(&method, query)).await?;
    // Also where it was gone already.
    if method == Method::DELETE && (status < 300 || status == 404) {
        if let Some(telling) = &telling {
            telling.give_up().await.map_err(|_| Unserved::LedgerLost)?;
        }
        if let Err(error) = house.pins.remove(&house.store, id).await {
            tracing::warn!(%error, "the place of a deleted response could not be removed and goes when it expires");
        }
    }
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::OK));
    for (name, value) in headers.iter().filter(|(name, _)| headers::passes_back(name)) {
        response.append_header((name.clone(), value.clone()));
    }
    if table.settings.server.expose_route {
        response.insert_header(("x-gateway-route", format!("{}/{}", deployment.resource, deployment.name)));
    }
    let response = match body {
        Body::Whole(bytes) if *dialect == Dialect::OpenAi && status >= 400 => {
            response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")));
            response.body(envelope::normalised(&bytes, status).unwrap_or(bytes))
        }
        Body::Whole(bytes) if *dialect == Dialect::OpenAi => response.body(renamed(bytes, &pin.model)),
        Body::Whole(bytes) => response.body(bytes),
        Body::Stream(reader) => response.body(reader),
    };
    Ok((deployment.model.clone(), response))
}

/// A response names its model as the settings do: by which of its names it was asked for is not kept.
fn renamed(body: Bytes, model: &ModelName) -> Bytes {
    let model_at = read_whole(&body).and_then(|response| response.model);
    Shaper { shape: Shape::OpenAi { model: quoted(model) }, hide: HideUsage::No }.whole(body, model_at)
}

fn quoted(model: &ModelName) -> Bytes {
    serde_json::Value::from(model.as_str()).to_string().into()
}

/// The caller's own pins of these ids, in their order.
async fn find(worker: &Worker, caller: &Caller, ids: &[String]) -> Result<Vec<Option<Arc<Pin>>>, ApiError> {
    let found = look_up(worker, ids).await?.into_iter();
    Ok(found.map(|pin| pin.filter(|pin| pin.key_id == caller.grant.key_id)).collect())
}

async fn look_up(worker: &Worker, ids: &[String]) -> Result<Vec<Option<Arc<Pin>>>, ApiError> {
    let house = &worker.house;
    house.pins.find(&house.store, ids).await.map_err(|error| {
        tracing::error!(%error, "where a response is kept could not be read");
        house.metrics.database_errors.inc();
        ApiError::pins_unreadable()
    })
}

/// A resource that is only switched off comes back; one that left the settings does not.
fn check_resource(table: &RouteTable, pin: &Pin) -> Result<(), ApiError> {
    match table.settings.resources.get(&pin.resource) {
        Some(resource) if resource.enabled => Ok(()),
        Some(_) => Err(Unserved::PinUnavailable { retry_after: SWITCHED_OFF }.into()),
        None => Err(ApiError::response_gone(&pin.id)),
    }
}

fn any_serves(table: &RouteTable, route: &Route, fallback: &[ModelName], pin: &Pin) -> bool {
    let mut others = fallback.iter().filter_map(|name| table.model(name.as_str()));
    serves(route, pin) || others.any(|route| serves(route, pin))
}

fn serves(route: &Route, pin: &Pin) -> bool {
    route.deployments().any(|deployment| deployment.resource == pin.resource)
}

/// Nothing is generated, so nothing is counted but the request. Any deployment of the resource leads to it.
fn demand(table: &RouteTable, caller: &Caller, pin: &Pin) -> Demand {
    let own = table.model(pin.model.as_str()).filter(|route| serves(route, pin));
    let route = own.or_else(|| table.models.iter().find(|route| serves(route, pin)));
    let model = route.map_or_else(|| pin.model.clone(), |route| route.model.clone());
    Demand {
        regions: caller.grant.regions.clone(),
        class: caller.grant.class,
        batch_share: table.settings.routing.batch_share,
        pin: Some(pin.resource.clone()),
        ..Demand::new(Operation::Responses, model)
    }
}

/// The client's own parameters that the upstream knows, as they were sent.
fn passed_on(query: &str) -> String {
    const KNOWN: [&str; 10] = [
        "include",
        "include[]",
        "include%5B%5D",
        "limit",
        "order",
        "after",
        "before",
        "stream",
        "starting_after",
        "include_obfuscation",
    ];
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let known: Vec<_> = query.split('&').filter(|pair| KNOWN.contains(&name(pair).as_str())).collect();
    known.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_upstream_knows_is_passed_on() {
        let query = "api-version=2025-04-01-preview&limit=2&order=asc&key=secret&include%5B%5D=a&&after=msg_1";
        assert_eq!(passed_on(query), "limit=2&order=asc&include%5B%5D=a&after=msg_1");
        assert_eq!(passed_on(""), "");
        assert_eq!(passed_on("stream=true&&starting_after=7&x=y"), "stream=true&starting_after=7");
    }

    #[test]
    fn each_part_has_its_methods() {
        let methods = [Method::GET, Method::POST, Method::DELETE, Method::HEAD];
        let taken = |part| methods.iter().filter(|method| takes(part, method)).map(Method::as_str).collect::<Vec<_>>();
        assert_eq!(taken(Part::Response), ["GET", "DELETE"]);
        assert_eq!(taken(Part::Cancel), ["POST"]);
        assert_eq!(taken(Part::InputItems), ["GET"]);
    }
}
