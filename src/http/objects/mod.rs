//! Files, uploads, batches, vector stores, assistants, threads, containers, fine-tuning jobs: one way for all of them.
//!
//! An object is its key's own: another key's id, an unknown one and one of another kind are all a 404, and nobody upstream
//! is asked. What a request names must be at one resource, and it goes there; a new object that names none goes where the
//! router says. [`crate::openai::objects`] knows the paths and where ids stand.

mod lists;
mod refusals;
pub(super) mod resolve;

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::routes::Dialect;
use super::state::Worker;
use super::{auth, body, forms, inference, upload};
use crate::azure::endpoint::ApiVersion;
use crate::domain::demand::{Demand, Family, Operation};
use crate::domain::ids::{ModelName, ResourceName};
use crate::domain::money::Price;
use crate::domain::time::{self, Timestamp};
use crate::fleet::routes::{ESTATE, Route, RouteTable};
use crate::limits::{Caller, Estimate, Permit};
use crate::openai::objects::{Action, Place, Verb, references};
use crate::proxy::books::{Books, Opening};
use crate::proxy::errand::{self, Cargo, Errand, Naming, Target};
use crate::proxy::upload::Watched;
use crate::storage::ledger::Intent;

/// What is worked unseen costs something, whatever that is.
const LEAST_PRICE: Price = Price::of(1, 1, 1);

pub(super) fn verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET => Some(Verb::Get),
        Method::POST => Some(Verb::Post),
        Method::DELETE => Some(Verb::Delete),
        _ => None,
    }
}

/// One call past its admission.
struct Call<'a> {
    request: &'a HttpRequest,
    worker: &'a Worker,
    table: Arc<RouteTable>,
    caller: Arc<Caller>,
    label: &'a RequestLabel,
    dialect: Dialect,
    asked_version: Option<ApiVersion>,
    started: Timestamp,
}

pub(super) async fn serve(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    (place, action, dialect): (Place, Action, Dialect),
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let started = time::now();
    let (caller, permit) = admit(request, worker, told)?;
    let table = worker.router.table();
    let asked_version = inference::asked_version(request, dialect)?;
    let call = Call { request, worker, table, caller, label, dialect, asked_version, started };
    if let Action::List(kind) = action {
        body::read(request, &mut payload, inference::body_limits(&call.table)).await?;
        return lists::serve(&call, &place, kind, permit, told).await;
    }
    if place.works_unseen(action) && call.caller.grant.models.is_some() {
        return Err(ApiError::models_unseen());
    }
    let cargo = call.cargo(&place, &mut payload).await?;
    let home = call.home(&place, &cargo).await?;
    let route = call.route((&place, action), &cargo, home.as_ref())?;
    let operation = Operation::Object(place.family);
    let demand = call.demand(operation, route.model.clone(), home);
    // What a model uses is told later, and counts then; where nothing is left, it does not begin.
    let sets_off_work = verb(request.method()).is_some_and(|verb| place.sets_off_work(action, verb));
    let output_tokens = u32::from(sets_off_work);
    let books = call.open_books(operation, route, &cargo, (permit, output_tokens)).await?;
    told.in_books = true;
    let query = passed_on(request.query_string());
    let deleted = (action == Action::Delete).then(|| place.named.first().map(|named| named.id.clone())).flatten();
    let errand = call.errand(demand, Target::Object { place, action, query }, cargo);
    let means = forms::means(worker, &call.table, started, call.caller.grant.key_id);
    let served = errand::run(errand, books, means).await;
    let served = served.map_err(|undone| forms::refusal(undone).within(&call.caller.grant.regions))?;
    // Also where it was gone already.
    if let Some(id) = deleted.filter(|_| served.status < 300 || served.status == 404) {
        call.forget(&id).await;
    }
    Ok(inference::respond(served, &call.table.settings, &call.caller.grant.name))
}

/// Who calls, and whether they may now.
fn admit(request: &HttpRequest, worker: &Worker, told: &mut Told) -> Result<(Arc<Caller>, Permit), ApiError> {
    let caller = auth::caller(request.headers(), &worker.house.callers)?;
    let permit = inference::admit(worker, told, &caller)?;
    Ok((caller, permit))
}

impl Call<'_> {
    /// What the request carries. A form passes as it comes; anything else is read whole.
    async fn cargo(&self, place: &Place, payload: &mut Payload) -> Result<Cargo, ApiError> {
        let headers = self.request.headers();
        let limits = inference::body_limits(&self.table);
        if upload::form_type(headers).is_some() && *self.request.method() == Method::POST {
            let watched = match place.family {
                Family::Files | Family::Uploads => Watched::Nothing,
                // A form may not name what JSON may.
                Family::Containers => Watched::Without("file_id"),
                Family::Batches
                | Family::VectorStores
                | Family::Assistants
                | Family::Threads
                | Family::FineTuning
                | Family::Conversations => {
                    return Err(ApiError::no_form());
                }
            };
            let limits = body::BodyLimits { bytes: self.table.settings.server.upload_limit, ..limits };
            return Ok(Cargo::Form(upload::begin(headers, payload, limits, watched)?));
        }
        let body = body::read(self.request, payload, limits).await?;
        if body.is_empty() || *self.request.method() != Method::POST {
            return Ok(Cargo::Nothing);
        }
        let peek = Box::new(inference::peek(Operation::Object(place.family), &body).await?);
        Ok(Cargo::Json { body, peek })
    }

    /// The resource that has everything that the request names; `None` where it names nothing.
    async fn home(&self, place: &Place, cargo: &Cargo) -> Result<Option<ResourceName>, ApiError> {
        let mut named = place.named.to_vec();
        if let Cargo::Json { body, .. } = cargo {
            named.extend(references::read(body).map_err(ApiError::unreadable_references)?);
        }
        let home = resolve::home(self.worker, &self.table, &self.caller, &named).await?;
        match cargo {
            Cargo::Json { body, .. } if place.family == Family::Conversations => {
                let referred = references::of_items(body);
                resolve::home_of_items(self.worker, &self.table, &self.caller, referred, home).await
            }
            Cargo::Nothing | Cargo::Json { .. } | Cargo::Form(_) => Ok(home),
        }
    }

    /// Which deployments may serve it: the model's, where the body names one; else any.
    fn route(
        &self,
        (place, action): (&Place, Action),
        cargo: &Cargo,
        home: Option<&ResourceName>,
    ) -> Result<Arc<Route>, ApiError> {
        let model = match cargo {
            Cargo::Json { peek, .. } if place.names_a_deployment() => peek.model.as_deref(),
            Cargo::Nothing | Cargo::Json { .. } | Cargo::Form(_) => None,
        };
        let Some(model) = model else {
            let is_needed = place.needs_a_model(action) && !matches!(cargo, Cargo::Form(_));
            return if is_needed { Err(ApiError::missing_model()) } else { Ok(self.table.estate.clone()) };
        };
        let route = inference::find_model(&self.table, &self.caller, self.dialect, model)?;
        let is_there = |home: &ResourceName| route.deployments().any(|deployment| deployment.resource == *home);
        if home.is_none_or(is_there) { Ok(route.clone()) } else { Err(ApiError::model_elsewhere(model)) }
    }

    fn demand(&self, operation: Operation, model: ModelName, pin: Option<ResourceName>) -> Demand {
        Demand {
            regions: self.caller.grant.regions.clone(),
            class: self.caller.grant.class,
            batch_share: self.table.settings.routing.batch_share,
            pin,
            whose: auth::brought(self.request.headers(), &self.caller).1,
            ..Demand::new(operation, model)
        }
    }

    async fn open_books(
        &self,
        operation: Operation,
        route: Arc<Route>,
        cargo: &Cargo,
        (permit, output_tokens): (Permit, u32),
    ) -> Result<Box<Books>, ApiError> {
        let grant = &self.caller.grant;
        let estimate = Estimate { request: self.label.id(), ..Estimate::assuming(output_tokens, LEAST_PRICE) };
        let admission =
            permit.reserve_tokens(estimate, 0).await.map_err(|limited| inference::refuse(self.worker, limited))?;
        let entry = self.worker.recorder.admit(Intent {
            id: admission.request,
            request_id: self.label.as_str().to_owned(),
            key_id: grant.key_id,
            user_id: grant.user_id,
            operation,
            model: route.model.clone(),
            stream: matches!(cargo, Cargo::Json { peek, .. } if peek.stream),
            started_at: admission.began,
            input_tokens: 0,
        })?;
        let metrics = self.worker.house.metrics.clone();
        Ok(Books::open(Opening { entry, route, metrics, admission, started: self.started }))
    }

    fn errand(&self, demand: Demand, target: Target, cargo: Cargo) -> Errand {
        let headers = self.request.headers();
        let content_type = match &cargo {
            Cargo::Form(_) => headers.get(CONTENT_TYPE).cloned(),
            Cargo::Nothing | Cargo::Json { .. } => None,
        };
        Errand {
            beta: beta(headers, demand.operation),
            demand,
            method: self.request.method().clone(),
            target,
            cargo,
            content_type,
            accept: headers.get(ACCEPT).cloned(),
            request_id: self.label.text.clone(),
            asked_version: self.asked_version.clone(),
            callers_key: auth::brought(headers, &self.caller).0,
            naming: match self.dialect {
                Dialect::OpenAi => Naming::Clients,
                Dialect::AzureDated | Dialect::AzureV1 => Naming::Upstreams,
            },
        }
    }

    async fn forget(&self, id: &str) {
        let house = &self.worker.house;
        if let Err(error) = house.pins.remove(&house.store, id).await {
            tracing::warn!(%error, "the place of a deleted object could not be removed");
        }
    }
}

/// OpenAI wants to be told which assistants are meant; Azure's clients do not say it.
fn beta(headers: &HeaderMap, operation: Operation) -> Option<HeaderValue> {
    let given = headers.get(HeaderName::from_static("openai-beta")).cloned();
    let assistants =
        matches!(operation, Operation::Object(Family::Assistants | Family::Threads | Family::VectorStores));
    given.or_else(|| assistants.then(|| HeaderValue::from_static("assistants=v2")))
}

/// The client's own parameters that these APIs know, as they were sent.
fn passed_on(query: &str) -> String {
    const KNOWN: [&str; 9] =
        ["include", "include[]", "include%5B%5D", "limit", "order", "after", "before", "filter", "run_id"];
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let known: Vec<_> = query.split('&').filter(|pair| KNOWN.contains(&name(pair).as_str())).collect();
    known.join("&")
}

/// The name of the route to the whole estate, for lists.
fn estate() -> ModelName {
    ModelName::from(ESTATE)
}
