//! The admin plane, `/admin/v1`: admin keys with scopes, JSON, problems after RFC 9457.
//!
//! Whoever asks is known before anything else is looked at, and may what the route in the table asks for. Everything
//! that touches the database happens on the blocking pool, never on a worker's thread.

mod admin_keys;
mod audit;
mod call;
mod decisions;
mod events;
mod export;
mod idempotency;
pub mod key_body;
mod keys;
mod live;
pub mod members;
mod models;
mod probe;
pub mod problem;
mod queries;
mod quotas;
mod resources;
pub mod routes;
pub mod schemas;
mod settings;
mod share;
pub mod usage_table;
mod users;
mod versions;

use std::net::{IpAddr, Ipv4Addr};

use actix_web::dev::Payload;
use actix_web::http::header::ACCEPT;
use actix_web::{HttpRequest, HttpResponse};

use super::admins::Administrator;
use super::dispatch::RequestLabel;
use super::state::Worker;
use super::{auth, body, client_address};
use crate::domain::time;
use crate::storage::secret_key;
use call::{Call, Query, page_of_names, printable};
use problem::Problem;
pub use quotas::{QuotaView, terms_of};
use routes::Found;

/// Bodies of the admin plane are a few members long.
const BODY_LIMIT: usize = 64 * 1024;

/// Answers a request for `path`, the part after `/admin/v1/`.
pub async fn serve(
    request: &HttpRequest,
    payload: Payload,
    worker: &Worker,
    path: &str,
    label: &RequestLabel,
) -> HttpResponse {
    match answer(request, payload, worker, path, label).await {
        Ok(response) => call::linked(response, request),
        Err(problem) => {
            if problem.is_of_the_database() {
                worker.house.metrics.database_errors.inc();
            }
            problem.response(request.path(), label.as_str())
        }
    }
}

async fn answer(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    path: &str,
    label: &RequestLabel,
) -> Result<HttpResponse, Problem> {
    let (who, credential) = identified(request, worker)?;
    let (route, [id, below]) = match routes::find(request.method().as_str(), path) {
        Found::Route(route, holes) => (route, holes),
        Found::OtherMethods(allowed) => return Err(Problem::wrong_method(allowed)),
        Found::Nothing => {
            return Err(Problem::not_found(format!("there is nothing at /admin/v1/{}", printable(path))));
        }
    };
    if !who.may(route.scope) {
        return Err(Problem::forbidden(route.scope));
    }
    let query = Query::parse(request.query_string()).accepting(request.headers().get(ACCEPT), route.query);
    query.only(route.query)?;
    // Whoever sends it relies on it: it is not passed over in silence.
    if versions::Seen::of(request).is_given() && !route.versioned {
        return Err(Problem::bad_request("`If-Match` is for PATCH of a key or a user; leave it out here"));
    }
    let body = match route.verb.has_body() {
        true => read_body(request, &mut payload, worker).await?,
        false => bytes::Bytes::new(),
    };
    let call = Call { request, worker, label, who, query, id, below, body };
    match idempotency::key_of(&call)? {
        Some(key) if route.verb == routes::Verb::Post => idempotency::once(call, route, key, credential).await,
        Some(_) | None => route.answer(call).await,
    }
}

/// Who asks, by the key they send, which comes back with them.
fn identified<'a>(request: &'a HttpRequest, worker: &Worker) -> Result<(Administrator, &'a str), Problem> {
    let house = &worker.house;
    let address = client_address::of(request, &house.settings().server.trusted_proxies)
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let key = auth::presented(request.headers()).ok_or_else(Problem::unauthenticated)?;
    let now = time::now();
    let wait = house.guesses.wait(address, now);
    if !wait.is_zero() {
        return Err(Problem::throttled(wait));
    }
    match house.admins.find(key, time::wall_now()) {
        Some(who) => Ok((who, key)),
        None => {
            // A caller's key at the wrong door is a mistake, not a guess.
            if house.callers.find(&secret_key::hash(key)).is_none() {
                house.guesses.failed(address, now);
                // So many an address and minute at most.
                tracing::warn!(%address, path = request.path(), "wrong admin key");
            }
            Err(Problem::unauthenticated())
        }
    }
}

async fn read_body(request: &HttpRequest, payload: &mut Payload, worker: &Worker) -> Result<bytes::Bytes, Problem> {
    let settings = worker.house.settings();
    let limits = body::BodyLimits {
        bytes: BODY_LIMIT,
        idle: settings.server.body_idle_timeout,
        total: settings.server.body_timeout,
    };
    body::read(request, payload, limits).await.map_err(|error| Problem::bad_request(error.to_string()))
}
