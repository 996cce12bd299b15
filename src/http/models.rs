//! `GET /v1/models`: what the caller's key can use, from the settings. Azure itself lists base models, not deployments.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::auth;
use super::error::ApiError;
use super::state::Worker;
use crate::fleet::routes::{Route, RouteTable};
use crate::limits::Caller;

pub fn list(request: &HttpRequest, worker: &Worker) -> Result<HttpResponse, ApiError> {
    let caller = auth::caller(request.headers(), &worker.house.callers)?;
    let table = worker.router.table();
    let data: Vec<_> = allowed(&table, &caller).map(|route| describe(route, worker)).collect();
    Ok(HttpResponse::Ok().json(json!({ "object": "list", "data": data })))
}

/// By name or alias.
pub fn retrieve(request: &HttpRequest, worker: &Worker, id: &str) -> Result<HttpResponse, ApiError> {
    let caller = auth::caller(request.headers(), &worker.house.callers)?;
    let table = worker.router.table();
    match table.model(id) {
        Some(route) if may_use(&caller, route, id) => Ok(HttpResponse::Ok().json(describe(route, worker))),
        Some(_) | None => Err(ApiError::model_not_found(id, &usable(&table, &caller))),
    }
}

/// Whether the caller's key allows this model under any of its names, and the model is where the key may be served from.
pub fn may_use(caller: &Caller, route: &Route, asked: &str) -> bool {
    if !route.is_in(&caller.grant.regions) {
        return false;
    }
    if caller.grant.models.is_none() {
        return true;
    }
    let mut names = vec![route.model.as_str(), asked];
    names.extend(route.settings.aliases.iter().map(String::as_str));
    caller.may_use(&names)
}

/// The models a key can use, for messages.
pub fn usable(table: &RouteTable, caller: &Caller) -> String {
    const SHOWN: usize = 20;
    let names: Vec<_> = allowed(table, caller).map(|route| route.model.as_str()).collect();
    match names.len() {
        0 if caller.grant.regions.named().is_some() => {
            format!("no model yet, as none is deployed in its regions ({})", caller.grant.regions)
        }
        0 => "no model yet (an admin adds a region to the settings)".to_owned(),
        1..=SHOWN => names.join(", "),
        _ => format!("{}, and {} more (GET /v1/models)", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}

/// The same, all of them.
pub fn names<'t>(table: &'t RouteTable, caller: &'t Caller) -> Vec<&'t str> {
    allowed(table, caller).map(|route| route.model.as_str()).collect()
}

fn allowed<'t>(table: &'t RouteTable, caller: &'t Caller) -> impl Iterator<Item = &'t Arc<Route>> {
    table.models.iter().filter(|route| may_use(caller, route, route.model.as_str()))
}

/// OpenAI's shape. `created` is when this gateway began to serve: Azure's own date is not the deployment's.
fn describe(route: &Route, worker: &Worker) -> Value {
    json!({
        "id": route.model.as_str(),
        "object": "model",
        "created": worker.house.started.0 / 1_000_000,
        "owned_by": "azure-openai",
    })
}
