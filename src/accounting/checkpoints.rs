//! When the write-ahead log is moved into the database file, so that it does not grow without end.
//!
//! The bulk is moved on a connection of its own while groups go on being written: the disk's work then delays no
//! request. Under constant load that never catches up entirely, and only a log that was moved entirely can begin
//! anew; so once the log is long, the writer moves the small rest between two groups.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix::Addr;

use super::writer::{FinishCheckpoint, LedgerWriter};
use crate::domain::time::Timestamp;
use crate::storage::{Checkpoint, Journal, StorageError, Store};

/// Hot pages are written once a checkpoint, however often they changed: the rarer, the cheaper.
const ENTRIES: u64 = 20_000;
const LONGEST: Duration = Duration::from_secs(60);
/// Pages of 4 KiB: 64 MiB.
const LONG_LOG: i64 = 16_384;

pub(super) struct Checkpoints {
    store: Store,
    /// None: in use, or to be opened.
    journal: Option<Journal>,
    busy: bool,
    /// Entries committed since the last one.
    entries: u64,
    last: Timestamp,
}

type Done = Result<(Journal, Checkpoint), StorageError>;

impl Checkpoints {
    pub(super) fn new(store: Store, now: Timestamp) -> Self {
        Self { store, journal: None, busy: false, entries: 0, last: now }
    }

    pub(super) fn committed(&mut self, entries: u64) {
        self.entries += entries;
    }

    /// The work to be done now, if any; its result goes to `done`.
    pub(super) fn due(
        &mut self,
        now: Timestamp,
        writer: &Addr<LedgerWriter>,
    ) -> Option<Pin<Box<dyn Future<Output = Option<Done>>>>> {
        let long_ago = now.since(self.last) >= LONGEST;
        if self.busy || self.entries == 0 || (self.entries < ENTRIES && !long_ago) {
            return None;
        }
        self.busy = true;
        self.entries = 0;
        self.last = now;
        let (store, journal, writer) = (self.store.clone(), self.journal.take(), writer.clone());
        Some(Box::pin(async move {
            let bulk = move || -> Done {
                let mut journal = journal.map_or_else(|| store.journal(), Ok)?;
                match journal.checkpoint() {
                    Ok(checkpoint) => Ok((journal, checkpoint)),
                    Err(error) => {
                        if error.is_io_failure() {
                            journal.abandon();
                        }
                        Err(error)
                    }
                }
            };
            let done = tokio::task::spawn_blocking(bulk).await.ok()?;
            if done.as_ref().is_ok_and(|(_, checkpoint)| checkpoint.log >= LONG_LOG)
                && let Ok(Err(error)) = writer.send(FinishCheckpoint).await
            {
                return Some(Err(error));
            }
            Some(done)
        }))
    }

    /// Gives what went wrong, for whoever knows whether it matters.
    pub(super) fn done(&mut self, done: Option<Done>) -> Option<StorageError> {
        self.busy = false;
        match done {
            Some(Ok((journal, checkpoint))) => {
                self.journal = Some(journal);
                tracing::debug!(pages = checkpoint.log, moved = checkpoint.moved, "write-ahead log moved");
            }
            // The log grows meanwhile, and that is all: the next one is due after as many entries.
            Some(Err(error)) => {
                tracing::warn!(%error, "the write-ahead log could not be moved");
                return Some(error);
            }
            None => tracing::warn!("the write-ahead log could not be moved: the thread panicked"),
        }
        None
    }
}
