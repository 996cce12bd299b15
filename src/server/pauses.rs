//! A pause that a deployment asks one gateway for is kept by all that share a database, within a second: whoever has not
//! heard of it would ask in vain, and a request of its own would go elsewhere a little later.
//!
//! While the database is away, each keeps the pauses that it was asked for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;

use crate::balance::health::State;
use crate::domain::time;
use crate::fleet::pool::Inspect;
use crate::fleet::routes::Publish;
use crate::http::state::House;
use crate::storage::StorageError;
use crate::storage::pauses::Pause;

/// One telling and one hearing are within a second.
const EVERY: Duration = Duration::from_millis(400);
/// A shorter one is over before most others would have asked.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// Ends so close together are the same: a pause does not grow by being told to and fro.
const SAME: Duration = Duration::from_millis(300);

/// At work until it is dropped.
pub struct Pauses(tokio::task::JoinHandle<()>);

impl Pauses {
    /// None where nothing is shared.
    pub fn start(house: Arc<House>) -> Option<Self> {
        if !house.store.is_shared() {
            return None;
        }
        Some(Self(actix::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = exchange(&house).await {
                    // Those who look after the keys say so already.
                    tracing::debug!(%error, "pauses are not told to other gateways");
                }
            }
        })))
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(house: &House) -> Result<(), StorageError> {
    // What is left was so at some time after this moment: no pause is taken for longer than it is.
    let now = time::now();
    let store = house.store.clone();
    // A pool that is gone belongs to a process that is ending.
    let Ok(told) = web::block(move || store.pauses()).await else { return Ok(()) };
    let told: HashMap<(String, String), Duration> =
        told?.into_iter().map(|pause| ((pause.endpoint, pause.deployment), pause.left)).collect();
    let Ok(Publish(table)) = house.pool.send(Inspect).await else { return Ok(()) };
    let mut news = Vec::new();
    for deployment in table.models.iter().flat_map(|route| route.deployments()) {
        let own = deployment.gauges.ready_at().since(now);
        let cools = deployment.gauges.state() == State::Cooling;
        if told.is_empty() && !cools {
            continue;
        }
        let place = (deployment.endpoint.to_string(), deployment.name.to_string());
        let others = told.get(&place).copied().unwrap_or_default();
        if others > own + SAME {
            deployment.paused_elsewhere(others, now);
        } else if cools && own > WORTH_TELLING && own > others + SAME {
            news.push(Pause { endpoint: place.0, deployment: place.1, left: own });
        }
    }
    if news.is_empty() {
        return Ok(());
    }
    let store = house.store.clone();
    let told = web::block(move || {
        let spent = time::now().since(now);
        news.iter_mut().for_each(|pause| pause.left = pause.left.saturating_sub(spent));
        store.tell_pauses(&news)
    });
    told.await.unwrap_or(Ok(()))
}
