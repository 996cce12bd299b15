//! What handlers are given: the house that all workers share, and what each worker has for itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use actix::Addr;
use tokio::sync::{mpsc, oneshot, watch};

use super::admins::Admins;
use super::events::Events;
use super::guesses::Guesses;
use super::pins::Pins;
use crate::accounting::Books;
use crate::accounting::recorder::Recorder;
use crate::domain::time::WallTime;
use crate::fleet::pool::Pool;
use crate::limits::{Callers, Manners};
use crate::metrics::Metrics;
use crate::proxy::background::Background;
use crate::proxy::leaving::Drains;
use crate::proxy::unseen::Accounted;
use crate::router::decisions::Decisions;
use crate::router::{RouterHandle, WaitingRoom};
use crate::settings::{self, Mistake, Settings};
use crate::storage::{StorageError, Store, secret_key};
use crate::upstream::client::UpstreamClient;

/// Shared by all workers.
pub struct House {
    pub callers: Arc<Callers>,
    pub metrics: Arc<Metrics>,
    pub store: Store,
    pub pool: Addr<Pool>,
    /// Who may use the admin plane.
    pub admins: Admins,
    /// Wrong admin keys, by where they come from.
    pub guesses: Guesses,
    /// For those who watch.
    pub events: Events,
    pub condition: Condition,
    pub started: WallTime,
    /// What some values stay at until the next start, whatever a reload says.
    pub began_with: Arc<Settings>,
    /// In force; replaced by a reload.
    pub settings: RwLock<Arc<Settings>>,
    pub ledger: Books,
    /// Requests that wait for a deployment.
    pub waiting: Arc<WaitingRoom>,
    /// Answers that are read on without their clients.
    pub drains: Arc<Drains>,
    /// Why requests went where they went.
    pub decisions: Decisions,
    /// Where responses are kept that were asked for lately.
    pub pins: Pins,
    /// Where each value in force comes from; what is not here is a default.
    pub origins: RwLock<Arc<BTreeMap<String, settings::Origin>>>,
    /// Responses in the background that this gateway has begun.
    pub background: Arc<Background>,
    /// Work that was told afterwards and is in the ledger.
    pub accounted: Arc<Accounted>,
    /// Where the settings come from; none when there is no settings directory.
    pub settings_source: OnceLock<settings::Source>,
    /// Asks the reloader; none when there is no settings directory.
    pub reloads: OnceLock<mpsc::UnboundedSender<oneshot::Sender<Reloaded>>>,
}

/// What became of a wish to reload the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    InForce { changes: Vec<String> },
    Refused { problems: Vec<Mistake> },
}

impl House {
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads the settings anew, as a changed file would; `None` when there is nothing to load from.
    pub async fn reload_settings(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.reloads.get()?.send(answer).ok()?;
        answered.await.ok()
    }

    /// Reads the keys, the admins' too, off the worker's thread and replaces the tables in memory.
    pub async fn reload_callers(&self) -> Result<(), StorageError> {
        let (store, callers, settings) = (self.store.clone(), self.callers.clone(), self.settings());
        let read = move || {
            callers.load(&store, settings.default_limits, &settings.time_zone)?;
            store.load_admin_keys()
        };
        match actix_web::web::block(read).await {
            Ok(loaded) => loaded.map(|rows| self.admins.replace(rows)),
            // The blocking pool is gone: the process is ending.
            Err(_) => Ok(()),
        }
    }

    pub fn replace_settings(&self, settings: Arc<Settings>) {
        if let Some(key) = &settings.admin.key {
            self.admins.replace_first(secret_key::hash(key.expose()));
        }
        self.callers.guests.behave(Manners::of(&settings.compat));
        self.callers.tell_of_change();
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}

/// What `/readyz` tells beside the deployments.
#[derive(Debug)]
pub struct Condition {
    /// How far a shutdown has come.
    ending: watch::Sender<Ending>,
    /// The mistakes of settings that were refused, a line each; the running ones stay. Written by the reloader.
    settings_refused: RwLock<Option<Vec<String>>>,
    /// What the metrics have counted of the ledger so far.
    ledger_committed: AtomicU64,
    ledger_errors: AtomicU64,
}

/// What the ledger has counted since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSeen {
    pub committed: u64,
    pub database_errors: u64,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            ending: watch::Sender::new(Ending::No),
            settings_refused: RwLock::default(),
            ledger_committed: AtomicU64::new(0),
            ledger_errors: AtomicU64::new(0),
        }
    }
}

impl Condition {
    pub fn drain(&self) {
        self.ending.send_replace(Ending::Draining);
    }

    pub fn is_draining(&self) -> bool {
        *self.ending.borrow() != Ending::No
    }

    pub async fn until_draining(&self) {
        self.until(Ending::Draining).await;
    }

    /// The difference to the totals given at the last call.
    pub fn ledger_seen(&self, committed: u64, database_errors: u64) -> LedgerSeen {
        LedgerSeen {
            committed: committed.saturating_sub(self.ledger_committed.fetch_max(committed, Relaxed)),
            database_errors: database_errors.saturating_sub(self.ledger_errors.fetch_max(database_errors, Relaxed)),
        }
    }

    pub fn settings_loaded(&self) {
        *self.settings_refused.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn settings_refused(&self, mistakes: Vec<String>) {
        *self.settings_refused.write().unwrap_or_else(PoisonError::into_inner) = Some(mistakes);
    }

    pub fn refused_settings(&self) -> Option<Vec<String>> {
        self.settings_refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Streams that are still going are to end now.
    pub fn cut(&self) {
        self.ending.send_replace(Ending::Cut);
    }

    pub async fn until_cut(&self) {
        self.until(Ending::Cut).await;
    }

    async fn until(&self, stage: Ending) {
        // The sender lives in `self`, so the wait ends only when it is true.
        let _ = self.ending.subscribe().wait_for(|ending| *ending >= stage).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    /// What is under way may finish.
    Draining,
    /// The grace for that is over.
    Cut,
}

/// One per HTTP worker, on its thread.
pub struct Worker {
    pub house: Arc<House>,
    pub router: RouterHandle,
    pub client: UpstreamClient,
    pub recorder: Recorder,
    pub surface: Surface,
}

/// Which port this worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Data plane, admin plane and metrics.
    All,
    /// The public port when the admin plane has its own.
    Public,
    /// The admin plane's own port.
    Admin,
}
