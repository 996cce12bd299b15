//! Callers who bring a key of Azure's get a row of their own once one of their requests was served, so that lists and
//! usage name them, and an admin can limit or revoke them. Whoever only tries keys leaves no row behind.

use std::sync::Arc;

use super::state::House;
use crate::limits::Guest;

/// Writes the row off the worker's thread; nobody waits for it.
pub(super) fn file(house: Arc<House>, guest: Arc<Guest>) {
    actix_web::rt::spawn(async move {
        let store = house.store.clone();
        let written = actix_web::web::block(move || {
            let grant = &guest.caller.grant;
            store.file_caller(grant.key_id, &grant.name, &guest.prefix(), &guest.hash)
        });
        if let Ok(Err(error)) = written.await {
            house.metrics.database_errors.inc();
            tracing::warn!(%error, "a caller could not be given a row: its usage is counted without a name");
        }
    });
}
