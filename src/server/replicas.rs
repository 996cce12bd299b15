//! How many gateways share the limits per minute: each says every second that it is at work, and divides by the count. What
//! the database's clock says is heard with each answer.
//!
//! While the database is away, everybody keeps the share of last time: never the whole, and never nothing.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;

use super::clock::Bystander;
use crate::limits::{Callers, Tending};
use crate::storage::replicas::{Beat, ReplicaId};
use crate::storage::{StorageError, Store};

const BEAT: Duration = Duration::from_secs(1);
/// For saying goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// At work until it is dropped.
pub struct Heartbeat {
    id: ReplicaId,
    store: Store,
    callers: Arc<Callers>,
    task: tokio::task::JoinHandle<()>,
}

impl Heartbeat {
    /// The first beat is over when it returns, so that not even the first request is measured by the whole. None where
    /// nothing is shared.
    pub fn start(store: &Store, callers: &Arc<Callers>, mut bystander: Bystander) -> Option<Self> {
        if !store.is_shared() {
            return None;
        }
        let id = ReplicaId::generate();
        match store.beat(id) {
            Ok(beat) => heard(beat, callers, &mut bystander),
            Err(error) => tracing::warn!(%error, "how many gateways share the limits is not known yet"),
        }
        let (beating, callers, own) = (store.clone(), callers.clone(), callers.clone());
        let task = actix::spawn(async move {
            let mut beats = tokio::time::interval(BEAT);
            beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                let store = beating.clone();
                let tended = callers.clone();
                match web::block(move || tended.tend_quotas(Tending::EverySecond).and_then(|()| store.beat(id))).await {
                    Ok(Ok(beat)) => heard(beat, &callers, &mut bystander),
                    // Those who look after the rows and the keys say so already.
                    Ok(Err(error)) => tracing::debug!(%error, "the share of the limits stays as it is"),
                    Err(_) => return,
                }
            }
        });
        Some(Self { id, store: store.clone(), callers: own, task })
    }

    /// The others get its share at once.
    pub async fn end(self) {
        self.task.abort();
        let (store, callers, id) = (self.store.clone(), self.callers.clone(), self.id);
        let goodbye = web::block(move || -> Result<(), StorageError> {
            callers.tend_quotas(Tending::AtTheEnd)?;
            store.leave(id)
        });
        // Who cannot is counted for some seconds more.
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
    }
}

fn heard(beat: Option<Beat>, callers: &Callers, bystander: &mut Bystander) {
    callers.divide_among(beat.map_or(1, |beat| beat.alive));
    if let Some(Beat { clock, .. }) = beat {
        bystander.hear(clock);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
