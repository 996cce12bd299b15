//! The inference endpoints of sound and pictures: those that take a form, and those that take JSON.
//!
//! Which model is wanted is known from the path or the JSON, or read from the form while its file passes by; see
//! [`crate::proxy::upload`] for what that costs.

use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};

use super::dispatch::{RequestLabel, Told};
use super::error::ApiError;
use super::routes::{Dialect, Target};
use super::state::Worker;
use super::{auth, body, inference, moderations, upload};
use crate::azure::endpoint::{ApiVersion, Kind};
use crate::domain::demand::{Demand, Operation};
use crate::domain::time;
use crate::fleet::routes::{Route, RouteTable};
use crate::limits::Estimate;
use crate::proxy::books::{Books, Opening};
use crate::proxy::errand::{self, Cargo, Errand, Means, Undone};
use crate::proxy::unseen::Unseen;
use crate::proxy::upload::Watched;
use crate::storage::ledger::Intent;

/// Azure's own for audio, and room for the other parts.
const AUDIO_LIMIT: usize = (25 << 20) + (64 << 10);

pub async fn serve(
    request: &HttpRequest,
    mut payload: Payload,
    worker: &Worker,
    target: Target,
    label: &RequestLabel,
    told: &mut Told,
) -> Result<HttpResponse, ApiError> {
    let started = time::now();
    let table = worker.router.table();
    let judges = target.operation == Operation::Moderations;
    if judges {
        moderations::are_served(&table, request.path())?;
    }
    let caller = auth::caller(request.headers(), &worker.house.callers)?;
    let (callers_key, whose) = auth::brought(request.headers(), &caller);
    let permit = inference::admit(worker, told, &caller)?;
    let asked_version = inference::asked_version(request, target.dialect)?;
    let find = |name: &str| inference::find_model(&table, &caller, target.dialect, name).cloned();
    let by_path = target.named.as_deref().map(find).transpose()?;
    let (cargo, named) = match target.operation {
        Operation::Speech | Operation::ImageGenerations | Operation::Moderations => {
            let limits = inference::body_limits(&table);
            let body = body::read(request, &mut payload, limits).await?;
            let peek = Box::new(inference::peek(target.operation, &body).await?);
            let named = peek.model.clone();
            (Cargo::Json { body, peek }, named)
        }
        Operation::Transcriptions
        | Operation::Translations
        | Operation::ImageEdits
        | Operation::ChatCompletions
        | Operation::Completions
        | Operation::Embeddings
        | Operation::Responses
        | Operation::Compact
        | Operation::Realtime
        | Operation::RealtimeResponse
        | Operation::RealtimeTranscription
        | Operation::Object(_) => {
            let limits = body::BodyLimits { bytes: limit(&table, target.operation), ..inference::body_limits(&table) };
            // Where the path alone decides, the form is not looked into.
            let by_path_alone = by_path.as_ref().is_some_and(|route| goes_by_path(route, target.dialect));
            let watched = if by_path_alone { Watched::Nothing } else { Watched::Model };
            let form = upload::begin(request.headers(), &mut payload, limits, watched)?;
            let named = match by_path_alone {
                true => None,
                false => form.model().await.map_err(body::BodyError::from)?,
            };
            (Cargo::Form(form), named)
        }
    };
    let mut asked = None;
    let route = match by_path {
        Some(route) => route,
        None if judges => {
            let judge = moderations::judge(&table, &caller, target.dialect, named.as_deref())?;
            asked = Some(judge.asked);
            judge.route
        }
        None => find(named.as_deref().filter(|name| !name.is_empty()).ok_or_else(ApiError::missing_model)?)?,
    };
    let grant = &caller.grant;
    let demand = Demand {
        fallback: inference::fallback(&table, &caller, &route),
        regions: grant.regions.clone(),
        class: grant.class,
        batch_share: table.settings.routing.batch_share,
        whose,
        ..Demand::new(target.operation, asked.unwrap_or_else(|| route.model.clone()))
    };
    // How long a recording is, and how large an image, nobody knows yet.
    let price = inference::dearest(&table, &route, &demand.fallback);
    let most = if target.operation.has_output_tokens() { route.settings.max_output } else { 0 };
    let estimate = Estimate { request: label.id(), ..Estimate::assuming(most, price) };
    let admission = permit.reserve_tokens(estimate, 0).await.map_err(|limited| inference::refuse(worker, limited))?;
    told.tokens = admission.tokens.or(told.tokens);
    let entry = worker.recorder.admit(Intent {
        id: admission.request,
        request_id: label.as_str().to_owned(),
        key_id: grant.key_id,
        user_id: grant.user_id,
        operation: target.operation,
        model: route.model.clone(),
        stream: matches!(&cargo, Cargo::Json { peek, .. } if peek.stream),
        started_at: admission.began,
        input_tokens: 0,
    })?;
    let books = Books::open(Opening { entry, route, metrics: worker.house.metrics.clone(), admission, started });
    told.in_books = true;
    let errand = Errand {
        demand,
        method: request.method().clone(),
        target: errand::Target::Deployment,
        content_type: request.headers().get(CONTENT_TYPE).filter(|_| matches!(cargo, Cargo::Form(_))).cloned(),
        cargo,
        accept: request.headers().get(ACCEPT).cloned(),
        beta: None,
        request_id: label.text.clone(),
        asked_version,
        callers_key,
        naming: errand::Naming::Upstreams,
    };
    let served = errand::run(errand, books, means(worker, &table, started, grant.key_id)).await;
    let served = served.map_err(|undone| refusal(undone).within(&grant.regions))?;
    Ok(inference::respond(served, &table.settings, &grant.name))
}

/// What errands are run with.
pub(super) fn means(
    worker: &Worker,
    table: &Arc<RouteTable>,
    started: time::Timestamp,
    caller: crate::domain::ids::KeyId,
) -> Means {
    Means {
        router: worker.router.clone(),
        client: worker.client.clone(),
        routing: table.settings.routing.clone(),
        unseen: Unseen {
            recorder: worker.recorder.clone(),
            accounted: worker.house.accounted.clone(),
            table: table.clone(),
        },
        started,
        caller,
    }
}

pub(super) fn refusal(undone: Undone) -> ApiError {
    match undone {
        Undone::Unserved(unserved) => unserved.into(),
        Undone::Client(cut) => body::BodyError::from(cut).into(),
    }
}

fn limit(table: &RouteTable, operation: Operation) -> usize {
    let most = table.settings.server.upload_limit;
    match operation {
        Operation::Transcriptions | Operation::Translations => most.min(AUDIO_LIMIT),
        Operation::ImageEdits
        | Operation::Speech
        | Operation::ImageGenerations
        | Operation::ChatCompletions
        | Operation::Completions
        | Operation::Embeddings
        | Operation::Responses
        | Operation::Compact
        | Operation::Object(_)
        | Operation::Realtime
        | Operation::RealtimeResponse
        | Operation::RealtimeTranscription
        | Operation::Moderations => most,
    }
}

/// Whether every deployment that may answer is named by the path alone.
fn goes_by_path(route: &Route, dialect: Dialect) -> bool {
    let by_path = |version: &ApiVersion| matches!(version, ApiVersion::Dated(_));
    dialect == Dialect::AzureDated
        && route.settings.fallback.is_empty()
        && route.deployments().all(|deployment| deployment.kind == Kind::Azure && by_path(&deployment.api_version))
}
