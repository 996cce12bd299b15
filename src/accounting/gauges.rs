//! What the ledger tells the metrics; written by the ledger alone.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::writer::Written;
use crate::storage::Head;

pub struct Gauges {
    committed: AtomicU64,
    database_errors: AtomicU64,
    /// Looked at by whoever renders the metrics.
    head: Mutex<Option<Head>>,
    observe_commit: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Gauges {
    pub(super) fn new(observe_commit: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self {
            committed: AtomicU64::new(0),
            database_errors: AtomicU64::new(0),
            head: Mutex::new(None),
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

    /// How far the chain of closed requests goes; None: nothing was closed since the start.
    pub fn head(&self) -> Option<Head> {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn committed(&self, requests: u64, Written { took, head }: Written) {
        self.committed.fetch_add(requests, Ordering::Relaxed);
        if head.is_some() {
            *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        }
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
