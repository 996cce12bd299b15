//! The admin plane, `/admin/v1`: one admin key, JSON, problems after RFC 9457.
//!
//! Everything that touches the database happens on the blocking pool, never on a worker's thread.

mod decisions;
mod keys;
mod live;
mod models;
mod probe;
mod problem;
mod queries;
mod quotas;
mod resources;
mod settings;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};

use super::dispatch::RequestLabel;
use super::state::Worker;
use super::{auth, body};
use crate::fleet::gauges::Flow;
use problem::Problem;
pub use quotas::quota_view;

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
        Ok(response) => response,
        Err(problem) => problem.response(request.path(), label.as_str()),
    }
}

async fn answer(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    path: &str,
    label: &RequestLabel,
) -> Result<HttpResponse, Problem> {
    if !auth::is_admin(request.headers(), &worker.house.admin_key()) {
        return Err(Problem::unauthenticated());
    }
    let query = Query::parse(request.query_string());
    if let Some(place) = quotas::place(path) {
        let body = read_body(request, &mut payload, worker).await?;
        return quotas::answer(&worker.house, request.method(), place, &query, &body).await;
    }
    let mut segments = path.trim_end_matches('/').split('/');
    let place = (segments.next().unwrap_or_default(), segments.next(), segments.next());
    if segments.next().is_some() {
        return Err(nothing_at(path));
    }
    let house = &worker.house;
    match (request.method().clone(), place) {
        (Method::GET, ("keys", None, None)) => keys::list(house, &query).await,
        (Method::POST, ("keys", None, None)) => {
            let body = read_body(request, &mut payload, worker).await?;
            keys::create(house, &body, request).await
        }
        (Method::GET, ("keys", Some(id), None)) => keys::show(house, id).await,
        (Method::DELETE, ("keys", Some(id), None)) => keys::revoke(house, id).await,
        (Method::GET, ("usage", None, None)) => queries::usage(house, &query).await,
        (Method::GET, ("requests", None, None)) => queries::requests(house, &query).await,
        (Method::GET, ("requests", Some(id), None)) => queries::request(house, id).await,
        (Method::GET, ("models", None, None)) => models::list(worker, &query).await,
        (Method::GET, ("resources", None, None)) => resources::list(worker, &query).await,
        (Method::GET, ("resources", Some(name), None)) => resources::show(worker, name).await,
        (Method::POST, ("resources", Some(name), Some("drain"))) => {
            resources::switch(worker, name, Flow::Drained).await
        }
        (Method::POST, ("resources", Some(name), Some("enable"))) => resources::switch(worker, name, Flow::Open).await,
        (Method::POST, ("resources", Some(name), Some("test"))) => probe::test(worker, name, label).await,
        (Method::POST, ("settings", Some("reload"), None)) => settings::reload(house).await,
        (Method::POST, ("settings", Some("check"), None)) => {
            let body = read_body(request, &mut payload, worker).await?;
            settings::check(house, &body).await
        }
        (_, ("keys", None, None)) => Err(Problem::wrong_method("GET, POST")),
        (_, ("keys", Some(_), None)) => Err(Problem::wrong_method("GET, DELETE")),
        (_, ("usage" | "requests" | "models", ..)) => Err(Problem::wrong_method("GET")),
        (_, ("resources", None | Some(_), None)) => Err(Problem::wrong_method("GET")),
        (_, ("resources", Some(_), Some("drain" | "enable" | "test"))) => Err(Problem::wrong_method("POST")),
        (_, ("settings", Some("reload" | "check"), None)) => Err(Problem::wrong_method("POST")),
        _ => Err(nothing_at(path)),
    }
}

fn nothing_at(path: &str) -> Problem {
    Problem::not_found(format!("there is nothing at /admin/v1/{}", printable(path)))
}

async fn read_body(request: &HttpRequest, payload: &mut Payload, worker: &Worker) -> Result<bytes::Bytes, Problem> {
    let settings = worker.house.settings();
    let limits = body::BodyLimits {
        bytes: BODY_LIMIT,
        idle: settings.server.body_idle_timeout,
        total: settings.server.body_timeout,
    };
    body::read(request.headers(), payload, limits).await.map_err(|error| Problem::bad_request(error.to_string()))
}

/// One page of a list by name, and the cursor to the next.
fn page_of_names<T>(
    mut names: Vec<T>,
    text: impl Fn(&T) -> &str,
    query: &Query,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let size = queries::limit(query)?;
    if let Some(cursor) = query.get("cursor") {
        names.retain(|name| text(name) > cursor);
    }
    let more = names.len() > size;
    names.truncate(size);
    let next = names.last().filter(|_| more).map(|name| text(name).to_owned());
    Ok((names, next))
}

fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(100).collect()
}

/// The query string's pairs, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Refuses what would be ignored silently.
    fn only(&self, allowed: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::unknown_parameter(name, allowed)),
        }
    }
}
