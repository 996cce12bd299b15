//! From the ids that a request names to the one resource that has them all.

use crate::domain::ids::ResourceName;
use crate::fleet::routes::RouteTable;
use crate::http::error::ApiError;
use crate::http::state::Worker;
use crate::limits::Caller;
use crate::openai::objects::Named;
use crate::proxy::exchange::Unserved;
use crate::storage::pins::Pin;

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
    let house = &worker.house;
    let ids: Vec<_> = named.iter().map(|named| named.id.clone()).collect();
    let found = house.pins.find(&house.store, &ids).await.map_err(|error| {
        tracing::error!(%error, "where an object is kept could not be read");
        house.metrics.database_errors.inc();
        ApiError::pins_unreadable()
    })?;
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
    match home.as_ref().and_then(|home| table.settings.resources.get(home)) {
        Some(resource) if resource.enabled => Ok(home),
        // A resource that is only switched off comes back; one that left the settings does not.
        Some(_) => Err(Unserved::PinUnavailable { retry_after: super::super::responses::SWITCHED_OFF }.into()),
        None => Err(gone.map_or_else(ApiError::internal, ApiError::object_gone)),
    }
}
