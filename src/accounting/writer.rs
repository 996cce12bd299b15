//! Actor `LedgerWriter`: one thread, the one connection through which requests are written.
//!
//! It decides nothing but when to open its connection anew: after any error, because a connection whose transaction
//! could not be rolled back is of no use.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::domain::time;
use crate::storage::ledger::LedgerEntry;
use crate::storage::{Checkpoint, Journal, StorageError, Store};
use crate::tripwire::Tripwire;

pub(super) struct LedgerWriter {
    store: Store,
    /// None: to be opened.
    journal: Option<Journal>,
    tripwire: Tripwire,
}

/// The batches of one group; the ledger keeps its own hold on them until the answer.
#[derive(Message)]
#[rtype(result = "Result<Duration, StorageError>")]
pub(super) struct Append(pub(super) Arc<Vec<Vec<LedgerEntry>>>);

/// Between groups: moves the rest of a long write-ahead log, so that SQLite can begin it anew.
#[derive(Message)]
#[rtype(result = "Result<Checkpoint, StorageError>")]
pub(super) struct FinishCheckpoint;

/// The orderly end.
#[derive(Message)]
#[rtype(result = "Result<(), StorageError>")]
pub(super) struct Close;

impl LedgerWriter {
    pub(super) fn new(store: Store, tripwire: Tripwire) -> Self {
        Self { store, journal: None, tripwire }
    }

    fn with_journal<T>(
        &mut self,
        work: impl FnOnce(&mut Journal) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut journal = match self.journal.take() {
            Some(journal) => journal,
            None => self.store.journal()?,
        };
        let result = work(&mut journal)?;
        self.journal = Some(journal);
        Ok(result)
    }
}

impl Actor for LedgerWriter {
    type Context = SyncContext<Self>;
}

impl Handler<Append> for LedgerWriter {
    type Result = Result<Duration, StorageError>;

    fn handle(&mut self, Append(batches): Append, _: &mut SyncContext<Self>) -> Self::Result {
        let began = time::now();
        self.with_journal(|journal| journal.append(&batches))?;
        Ok(time::now().since(began))
    }
}

impl Handler<FinishCheckpoint> for LedgerWriter {
    type Result = Result<Checkpoint, StorageError>;

    fn handle(&mut self, _: FinishCheckpoint, _: &mut SyncContext<Self>) -> Self::Result {
        self.with_journal(Journal::checkpoint)
    }
}

impl Handler<Close> for LedgerWriter {
    type Result = Result<(), StorageError>;

    fn handle(&mut self, _: Close, _: &mut SyncContext<Self>) -> Self::Result {
        self.tripwire.disarm();
        match self.journal.take() {
            Some(journal) => journal.close(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::model::Durability;
    use crate::tripwire::Alarm;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Panic;

    impl Handler<Panic> for LedgerWriter {
        type Result = ();

        fn handle(&mut self, _: Panic, _: &mut SyncContext<Self>) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_on_its_thread_raises_the_alarm_and_its_end_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        System::new().block_on(async {
            let alarm = Alarm::default();
            let start = |name| {
                let (store, alarm) = (store.clone(), alarm.clone());
                SyncArbiter::start(1, move || LedgerWriter::new(store.clone(), alarm.tripwire(name)))
            };
            start("closed").send(Close).await.unwrap().unwrap();
            assert!(start("panicked").send(Panic).await.is_err());
            assert_eq!(alarm.raised().await, "panicked");
        });
    }
}
