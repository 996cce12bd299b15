//! The inference endpoints: from a socket's bytes to an exchange, and from its end to an answer.
//!
//! The order matters: who calls and whether they may is known before a byte of the body is read, and nothing is sent
//! upstream before the ledger has taken the request.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use smallvec::SmallVec;

use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::routes::{Dialect, Target};
use super::state::Worker;
use super::{affinity, auth, background, body, guests, models, objects, responses};
use crate::azure::endpoint::ApiVersion;
use crate::domain::demand::{Demand, Operation, OutputCap, Whose};
use crate::domain::ids::ModelName;
use crate::domain::money::Price;
use crate::domain::secret::Secret;
use crate::domain::sku::Skus;
use crate::domain::time::{self, Timestamp};
use crate::fleet::routes::{Route, RouteTable};
use crate::limits::{Caller, Estimate, Limited, Permit, Prompt};
use crate::openai::objects::references;
use crate::openai::request::{self, Peek};
use crate::openai::shape::Shape;
use crate::openai::tokens;
use crate::proxy::attempt::Order;
use crate::proxy::books::{Books, Opening};
use crate::proxy::exchange::{self, Body, Exchange, Served};
use crate::proxy::headers;
use crate::proxy::leaving::Leaving;
use crate::proxy::typewriter::Typewriter;
use crate::settings::Settings;
use crate::storage::ledger::Intent;
use crate::tripwire::kill_points::{self, Point};

pub async fn serve(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    target: Target,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let started = time::now();
    let house = &worker.house;
    let table = worker.router.table();
    let caller = auth::caller(request.headers(), &house.callers)?;
    let brought = auth::brought(request.headers(), &caller);
    let permit = admit(worker, told, &caller)?;
    kill_points::reached(Point::CallerAdmitted);
    let asked_version = asked_version(request, target.dialect)?;
    let body = body::read(request, &mut payload, body_limits(&table)).await?;
    let question = Question {
        worker,
        table: &table,
        target: &target,
        label,
        headers: request.headers(),
        caller: &caller,
        brought,
        asked_version,
        body,
        started,
    };
    let served = answer(question, permit, told).await?;
    if served.status < 400
        && let Some(guest) = auth::new_guest(request.headers(), &caller, &house.callers)
    {
        guests::file(house.clone(), guest);
    }
    Ok(respond(served, &table.settings, &caller.grant.name))
}

/// A request whose body has come.
pub(super) struct Question<'a> {
    pub(super) worker: &'a Worker,
    pub(super) table: &'a Arc<RouteTable>,
    pub(super) target: &'a Target,
    pub(super) label: &'a RequestLabel,
    pub(super) headers: &'a HeaderMap,
    pub(super) caller: &'a Caller,
    /// The key of Azure's that the caller has brought, and with whose it is served.
    pub(super) brought: (Option<Secret>, Whose),
    pub(super) asked_version: Option<ApiVersion>,
    pub(super) body: Bytes,
    pub(super) started: Timestamp,
}

/// What a caller who was let in is answered.
pub(super) async fn answer(question: Question<'_>, permit: Permit, told: &mut Told) -> Result<Served, ApiError> {
    let Question { worker, table, target, label, headers, caller, brought, asked_version, body, started } = question;
    let (house, (callers_key, whose)) = (&worker.house, brought);
    let peek = peek(target.operation, &body).await?;
    let named = target.named.as_deref().or(peek.model.as_deref()).ok_or_else(ApiError::missing_model)?;
    let route = find_model(table, caller, target.dialect, named)?.clone();
    let fallback = fallback(table, caller, &route);
    let pin = responses::resource_of(&peek.state, worker, table, caller, &route, &fallback).await?;
    let named =
        references::Where::of(target.operation).filter(|_| peek.may_name_objects || peek.state.conversation.is_some());
    let pin = match named {
        Some(place) => {
            let asked = (place, &body, &peek, &*route);
            objects::resolve::home_of_answer(worker, table, caller, asked, pin).await?
        }
        None => pin,
    };
    let teller = background::wanted(&peek.state, worker, table)?;
    let input_tokens = tokens::rough_input(&body);
    let demand = Demand {
        operation: target.operation,
        model: route.model.clone(),
        fallback,
        input_tokens,
        output_tokens: output_cap(&route, &peek, target.operation.has_output_tokens()),
        cap: if peek.max_tokens.is_some() { OutputCap::Asked } else { OutputCap::Assumed },
        regions: caller.grant.regions.clone(),
        skus: Skus::Any,
        whose,
        class: caller.grant.class,
        batch_share: table.settings.routing.batch_share,
        pin,
        affinity: affinity::of(headers, &peek, caller.grant.key_id, target.operation, table),
    };
    let estimate = Estimate {
        request: label.id(),
        began: time::wall_now(),
        output_tokens: demand.output_tokens,
        cap: demand.cap,
        price: dearest(table, &route, &demand.fallback),
    };
    let prompt = Prompt { model: &route.model, body: &body, holds_files: peek.holds_files };
    let admission = permit.reserve(estimate, prompt).await;
    let admission = admission.map_err(|limited| refuse(worker, limited))?;
    told.tokens = admission.tokens.or(told.tokens);
    let entry = worker.recorder.admit(Intent {
        id: admission.request,
        request_id: label.as_str().to_owned(),
        key_id: caller.grant.key_id,
        user_id: caller.grant.user_id,
        operation: target.operation,
        model: route.model.clone(),
        stream: peek.stream,
        started_at: admission.began,
        input_tokens,
    })?;
    kill_points::reached(Point::IntentFiled);
    let metrics = house.metrics.clone();
    let routing = table.settings.routing.clone();
    let shape = match target.dialect {
        Dialect::OpenAi => Shape::OpenAi { model: model_text(target, &peek, &body) },
        Dialect::AzureDated | Dialect::AzureV1 => Shape::Azure,
    };
    let order = Box::new(Order {
        operation: target.operation,
        shape,
        body,
        peek,
        accept: headers.get(ACCEPT).cloned(),
        request_id: label.text.clone(),
        callers_key,
        asked_version,
        first_byte_timeout: route.settings.first_byte_timeout.unwrap_or(routing.first_byte_timeout),
        teller,
    });
    let leaving = Leaving::of(&table.settings.accounting, &house.drains);
    let mut books = Books::open(Opening { entry, route, metrics, admission, started });
    books.set_leaving(leaving.clone());
    told.in_books = true;
    let (router, client) = (worker.router.clone(), worker.client.clone());
    let (key, regions) = (caller.grant.key_id, caller.grant.regions.clone());
    let exchange = Exchange { order, demand, books, router, client, routing, started, caller: key };
    let served = match leaving {
        Leaving::Cancel => exchange::serve(exchange).await,
        Leaving::Drain(absence) => absence.attend(exchange::serve(exchange)).await,
    };
    served.map_err(|unserved| ApiError::from(unserved).within(&regions))
}

/// The model as the client named it, in JSON.
fn model_text(target: &Target, peek: &Peek, body: &Bytes) -> Bytes {
    match &target.named {
        Some(named) => serde_json::Value::from(named.as_str()).to_string().into(),
        None => peek.model_text(body),
    }
}

/// A long body is scanned elsewhere: other requests of this thread do not wait for it.
pub(super) async fn peek(operation: Operation, body: &Bytes) -> Result<Peek, ApiError> {
    let read = match operation {
        Operation::ChatCompletions
        | Operation::Completions
        | Operation::Embeddings
        | Operation::Transcriptions
        | Operation::Translations
        | Operation::ImageEdits
        | Operation::Speech
        | Operation::ImageGenerations
        | Operation::Object(_)
        | Operation::Realtime
        | Operation::RealtimeResponse
        | Operation::RealtimeTranscription
        | Operation::Moderations => request::peek,
        Operation::Responses => request::peek_response,
        Operation::Compact => request::peek_compaction,
    };
    if body.len() <= request::OFF_THREAD_BYTES {
        return Ok(read(body)?);
    }
    let body = body.clone();
    let scanned = web::block(move || read(&body)).await;
    // The blocking pool is gone: the process is ending.
    Ok(scanned.map_err(|_| ApiError::internal())??)
}

/// Takes one request from the caller's limits; the answer tells the figures either way.
pub(super) fn admit(worker: &Worker, told: &mut Told, caller: &Arc<Caller>) -> Result<Permit, ApiError> {
    let permit = caller.admit().map_err(|limited| told.refused(caller, refuse(worker, limited)))?;
    told.admitted(caller, permit.figures);
    Ok(permit)
}

pub(super) fn refuse(worker: &Worker, limited: Limited) -> ApiError {
    worker.house.metrics.limit_rejections.with_label_values(&[limited.label()]).inc();
    limited.into()
}

/// What each kind of token costs at most, whichever of the models answers.
pub(super) fn dearest(table: &RouteTable, route: &Route, fallback: &[ModelName]) -> Price {
    let others = fallback.iter().filter_map(|name| table.model(name.as_str()));
    others.fold(route.price, |price, other| price.or_dearer(other.price))
}

pub(super) fn body_limits(table: &RouteTable) -> body::BodyLimits {
    let server = &table.settings.server;
    body::BodyLimits { bytes: server.body_limit, idle: server.body_idle_timeout, total: server.body_timeout }
}

/// The `api-version` of Azure's dated family; `None` leaves the choice to the resource's settings.
pub(super) fn asked_version(request: &HttpRequest, dialect: Dialect) -> Result<Option<ApiVersion>, ApiError> {
    match dialect {
        Dialect::OpenAi | Dialect::AzureV1 => Ok(None),
        Dialect::AzureDated => {
            let asked = request.query_string().split('&').find_map(|pair| pair.strip_prefix("api-version="));
            asked.map(|version| version.parse().map_err(|_| ApiError::invalid_api_version(version))).transpose()
        }
    }
}

/// The route of the model that the path or the body names, if the caller may use it.
pub(super) fn find_model<'t>(
    table: &'t RouteTable,
    caller: &Caller,
    dialect: Dialect,
    name: &str,
) -> Result<&'t Arc<Route>, ApiError> {
    let route = match dialect {
        Dialect::OpenAi => table.model(name),
        Dialect::AzureDated | Dialect::AzureV1 => table.model_or_deployment(name),
    };
    match route {
        Some(route) if models::may_use(caller, route, name) => Ok(route),
        Some(route) if !route.is_in(&caller.grant.regions) => {
            Err(ApiError::region_not_allowed(name, &caller.grant.regions, &models::usable(table, caller)))
        }
        Some(_) => Err(ApiError::model_not_allowed(name, &models::usable(table, caller))),
        None => Err(ApiError::model_not_found(name, &models::usable(table, caller))),
    }
}

/// The models that may answer instead: those of the settings that the key may use.
pub(super) fn fallback(table: &RouteTable, caller: &Caller, route: &Route) -> SmallVec<[ModelName; 2]> {
    let names = route.settings.fallback.iter().filter(|name| {
        table.model(name.as_str()).is_some_and(|route| models::may_use(caller, route, route.model.as_str()))
    });
    names.cloned().collect()
}

fn output_cap(route: &Route, peek: &Peek, has_output: bool) -> u32 {
    if has_output { peek.max_tokens.unwrap_or(route.settings.max_output).saturating_mul(peek.choices) } else { 0 }
}

static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

pub(super) fn respond(served: Served, settings: &Settings, key: &str) -> HttpResponse {
    let Served { status, headers, body, deployment: route, timing, attempts } = served;
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::OK));
    for (name, value) in headers.iter().filter(|(name, _)| headers::passes_back(name)) {
        response.append_header((name.clone(), value.clone()));
    }
    // Milliseconds with three digits; without floats, which take longer to print.
    let parts = |duration: Duration| (duration.as_millis(), duration.subsec_micros() % 1000);
    let ((own, own_us), (upstream, upstream_us)) = (parts(timing.0), parts(timing.1));
    let server_timing =
        format!("gw;dur={own}.{own_us:03}, upstream;dur={upstream}.{upstream_us:03}, attempts;desc={attempts}");
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(server_timing)) {
        response.insert_header((SERVER_TIMING.clone(), value));
    }
    if settings.server.expose_route
        && let Ok(value) = HeaderValue::from_str(&format!("{}/{}", route.resource, route.name))
    {
        response.insert_header((HeaderName::from_static("x-gateway-route"), value));
    }
    let is_event_stream =
        headers::text(&headers, CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
    match body {
        Body::Whole(bytes) => response.body(bytes),
        Body::Stream(reader) if !is_event_stream => response.body(reader),
        Body::Stream(reader) => {
            // Proxies in front must not gather the events.
            response.insert_header((HeaderName::from_static("cache-control"), HeaderValue::from_static("no-cache")));
            response.insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
            match Typewriter::wanted(settings, key, &headers) {
                Some(typewriter) => response.body(typewriter.reading(reader)),
                None => response.body(reader),
            }
        }
    }
}
