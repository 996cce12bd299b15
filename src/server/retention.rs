//! What is forgotten in time: places of responses that the upstream no longer keeps.

use std::time::Duration;

use actix_web::web;

use crate::domain::time;
use crate::storage::Store;

/// Nothing depends on it: what has expired is not found, whether or not it is there.
const EVERY: Duration = Duration::from_secs(3600);

/// At work until it is dropped.
pub struct Retention(tokio::task::JoinHandle<()>);

impl Retention {
    /// Begins at once: a gateway that is started every day would never come to it.
    pub fn start(store: Store) -> Self {
        Self(actix::spawn(async move {
            let mut hours = tokio::time::interval(EVERY);
            loop {
                hours.tick().await;
                forget(&store).await;
            }
        }))
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn forget(store: &Store) {
    loop {
        let store = store.clone();
        match web::block(move || store.remove_expired_pins(time::wall_now())).await {
            Ok(Ok(0)) | Err(_) => return,
            Ok(Ok(pins)) => tracing::debug!(pins, "expired places of responses removed"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "expired places of responses could not be removed, the next try is in an hour");
                return;
            }
        }
    }
}
