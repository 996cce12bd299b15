//! From the ids that a request names to the one resource that has them all.

use std::sync::Arc;

use bytes::Bytes;

use crate::domain::ids::ResourceName;
use crate::fleet::routes::{Route, RouteTable};
use crate::http::error::ApiError;
use crate::http::state::Worker;
use crate::limits::Caller;
use crate::openai::kept::Referred;
use crate::openai::objects::references::Where;
use crate::openai::objects::{Kind, Named};
use crate::openai::request::{OFF_THREAD_BYTES, Peek};
use crate::proxy::exchange::Unserved;
use crate::storage::pins::Pin;

/// A longer body is looked through elsewhere: other requests of this thread do not wait for it.
async fn named_in(place: Where, body: &Bytes) -> Result<Vec<Named>, ApiError> {
    if body.len() <= OFF_THREAD_BYTES {
        return place.named_in(body).map_err(ApiError::unreadable_references);
    }
    let body = body.clone();
    let read = actix_web::web::block(move || place.named_in(&body)).await;
    // The blocking pool is gone: the process is ending.
    read.map_err(|_| ApiError::internal())?.map_err(ApiError::unreadable_references)
}

/// The resource that must answer, with the objects that the request names: it may be decided already.
pub(in crate::http) async fn home_of_answer(
    worker: &Worker,
    table: &RouteTable,
    caller: &Caller,
    (place, body, peek, route): (Where, &Bytes, &Peek, &Route),
    decided: Option<ResourceName>,
) -> Result<Option<ResourceName>, ApiError> {
    let mut named = if peek.may_name_objects { named_in(place, body).await? } else { Vec::new() };
    named.extend(peek.state.conversation.clone().map(|id| Named { kind: Kind::Conversation, id }));
    let Some(home) = home(worker, table, caller, &named).await? else { return Ok(decided) };
    if decided.is_some_and(|decided| decided != home) {
        return Err(ApiError::objects_apart());
    }
    let is_there = route.deployments().any(|deployment| deployment.resource == home);
    if is_there { Ok(Some(home)) } else { Err(ApiError::model_elsewhere(route.model.as_str())) }
}

/// `None` where nothing is named.
pub(in crate::http) async fn home(
    worker: &Worker,
    table: &RouteTable,
    caller: &Caller,
    named: &[Named],
) -> Result<Option<ResourceName>, ApiError> {
    if named.is_empty() {
        return Ok(None);
    }
    let ids: Vec<_> = named.iter().map(|named| named.id.clone()).collect();
    let found = find(worker, &ids).await?;
    let mut home: Option<ResourceName> = None;
    let mut gone = None;
    for (named, pin) in named.iter().zip(found) {
        let is_own = |pin: &Pin| pin.key_id == caller.grant.key_id && pin.kind == named.kind.label();
        let pin = pin.filter(|pin| is_own(pin)).ok_or_else(|| ApiError::object_not_found(named))?;
        match &home {
            Some(home) if *home != pin.resource => return Err(ApiError::objects_apart()),
            Some(_) => {}
            None => {
                home = Some(pin.resource.clone());
                gone = Some(named);
            }
        }
    }
    usable(table, home, || gone.map_or_else(ApiError::internal, ApiError::object_gone))
}

/// The resource where the items are that are to be copied, with what else the request names: one of them may be decided
/// already. What is sealed goes to who can read it, unless that is decided.
pub(super) async fn home_of_items(
    worker: &Worker,
    table: &RouteTable,
    caller: &Caller,
    Referred { items, seal }: Referred,
    decided: Option<ResourceName>,
) -> Result<Option<ResourceName>, ApiError> {
    if items.is_empty() && (seal.is_none() || decided.is_some()) {
        return Ok(decided);
    }
    let ids: Vec<_> = items.into_iter().chain(seal.clone()).collect();
    let mut home = decided;
    for (id, pin) in ids.iter().zip(find(worker, &ids).await?) {
        if seal.as_ref() == Some(id) {
            home = home.or_else(|| pin.map(|pin| pin.resource.clone()));
            continue;
        }
        let is_own = |pin: &Pin| pin.key_id == caller.grant.key_id && pin.kind.is_empty();
        let pin = pin.filter(|pin| is_own(pin)).ok_or_else(|| ApiError::item_not_found(id))?;
        if home.as_ref().is_some_and(|home| *home != pin.resource) {
            return Err(ApiError::objects_apart());
        }
        home = Some(pin.resource.clone());
    }
    usable(table, home, || ids.first().map_or_else(ApiError::internal, |id| ApiError::response_gone(id)))
}

/// A resource that is only switched off comes back; one that left the settings does not.
fn usable(
    table: &RouteTable,
    home: Option<ResourceName>,
    gone: impl FnOnce() -> ApiError,
) -> Result<Option<ResourceName>, ApiError> {
    let Some(name) = &home else { return Ok(None) };
    match table.settings.resources.get(name) {
        Some(resource) if resource.enabled => Ok(home),
        Some(_) => Err(Unserved::PinUnavailable { retry_after: super::super::responses::SWITCHED_OFF }.into()),
        None => Err(gone()),
    }
}

async fn find(worker: &Worker, ids: &[String]) -> Result<Vec<Option<Arc<Pin>>>, ApiError> {
    let house = &worker.house;
    house.pins.find(&house.store, ids).await.map_err(|error| {
        tracing::error!(%error, "where an object is kept could not be read");
        house.metrics.database_errors.inc();
        ApiError::pins_unreadable()
    })
}
