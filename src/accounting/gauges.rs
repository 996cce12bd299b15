//! What the ledger tells the metrics; written by the ledger alone.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub struct Gauges {
    committed: AtomicU64,
    database_errors: AtomicU64,
    observe_commit: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Gauges {
    pub(super) fn new(observe_commit: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self {
            committed: AtomicU64::new(0),
            database_errors: AtomicU64::new(0),
            observe_commit: Box::new(observe_commit),
        }
    }

    /// Requests whose settled row is in the database, since the start.
    pub fn committed_total(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Groups that the database refused, each try counted.
    pub fn database_errors_total(&self) -> u64 {
        self.database_errors.load(Ordering::Relaxed)
    }

    pub(super) fn committed(&self, requests: u64, took: Duration) {
        self.committed.fetch_add(requests, Ordering::Relaxed);
        (self.observe_commit)(took);
    }

    pub(super) fn database_refused(&self) {
        self.database_errors.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges")
            .field("committed", &self.committed)
            .field("database_errors", &self.database_errors)
            .finish_non_exhaustive()
    }
}
