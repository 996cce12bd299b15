//! What handlers are given: the house that all workers share, and what each worker has for itself.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use actix::Addr;

use crate::accounting::recorder::Recorder;
use crate::domain::time::WallTime;
use crate::fleet::pool::Pool;
use crate::limits::{Callers, KeyHash};
use crate::metrics::Metrics;
use crate::router::RouterHandle;
use crate::storage::Store;
use crate::upstream::client::UpstreamClient;

/// Shared by all workers.
pub struct House {
    pub callers: Arc<Callers>,
    pub metrics: Arc<Metrics>,
    pub store: Store,
    pub pool: Addr<Pool>,
    pub admin_key: KeyHash,
    pub condition: Condition,
    pub started: WallTime,
}

/// What `/readyz` tells beside the deployments.
#[derive(Debug, Default)]
pub struct Condition {
    draining: AtomicBool,
    /// The mistakes of settings that were refused; the running ones stay. Written by the watcher.
    settings_refused: RwLock<Option<String>>,
}

impl Condition {
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub fn settings_loaded(&self) {
        *self.settings_refused.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn settings_refused(&self, mistakes: String) {
        *self.settings_refused.write().unwrap_or_else(PoisonError::into_inner) = Some(mistakes);
    }

    pub fn refused_settings(&self) -> Option<String> {
        self.settings_refused.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
