//! The admin plane, `/admin/v1`: one admin key, JSON, problems after RFC 9457.
//!
//! Everything that touches the database happens on the blocking pool, never on a worker's thread.

mod keys;
mod problem;
mod queries;
mod settings;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};

use super::dispatch::RequestLabel;
use super::state::Worker;
use super::{auth, body};
use problem::Problem;

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
    match answer(request, payload, worker, path).await {
        Ok(response) => response,
        Err(problem) => problem.response(request.path(), label.as_str()),
    }
}

async fn answer(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    path: &str,
) -> Result<HttpResponse, Problem> {
    if !auth::is_admin(request.headers(), &worker.house.admin_key()) {
        return Err(Problem::unauthenticated());
    }
    let query = Query::parse(request.query_string());
    let mut segments = path.trim_end_matches('/').split('/');
    let place = (segments.next().unwrap_or_default(), segments.next(), segments.next());
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
        (Method::POST, ("settings", Some("reload"), None)) => settings::reload(house).await,
        (_, ("keys", None, None)) => Err(Problem::wrong_method("GET, POST")),
        (_, ("keys", Some(_), None)) => Err(Problem::wrong_method("GET, DELETE")),
        (_, ("usage" | "requests", ..)) => Err(Problem::wrong_method("GET")),
        (_, ("settings", Some("reload"), None)) => Err(Problem::wrong_method("POST")),
        _ => Err(Problem::not_found(format!("there is nothing at /admin/v1/{}", printable(path)))),
    }
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
