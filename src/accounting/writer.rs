//! Actor `LedgerWriter`: the one connection through which requests are written.
//!
//! It blocks, on the thread that it shares with `Ledger` and nothing else. A `SyncArbiter` would be the usual place for
//! such an actor, but every message to one goes through the system's main thread: a group then costs five wake-ups
//! instead of two, and those, not SQLite, were most of what a group cost. While a group is being written, the ledger
//! could do nothing but let the next one gather, and that its mailbox does by itself.
//!
//! It decides nothing but when to open its connection anew: after any error, because a connection whose transaction
//! could not be rolled back is of no use.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::domain::time;
use crate::storage::ledger::LedgerEntry;
use crate::storage::{Checkpoint, Head, Journal, StorageError, Store};
use crate::tripwire::Tripwire;

pub(super) struct LedgerWriter {
    store: Store,
    /// None: to be opened.
    journal: Option<Journal>,
    tripwire: Tripwire,
}

/// The batches of one group; the ledger keeps its own hold on them until the answer.
#[derive(Message)]
#[rtype(result = "Result<Written, StorageError>")]
pub(super) struct Append(pub(super) Arc<Vec<Vec<LedgerEntry>>>);

/// A group that was committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) took: Duration,
    /// How far the chain of closed requests goes now, if any was closed since the writer began.
    pub(super) head: Option<Head>,
}

/// Between groups: moves the rest of a long write-ahead log, so that SQLite can begin it anew.
#[derive(Message)]
#[rtype(result = "Result<Checkpoint, StorageError>")]
pub(super) struct FinishCheckpoint;

/// Between groups: what has been open for long gets rows. True: there is more to do, after whatever waits.
#[derive(Message)]
#[rtype(result = "Result<bool, StorageError>")]
pub(super) struct Tidy;

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
        let result = work(&mut journal);
        match &result {
            Ok(_) => self.journal = Some(journal),
            Err(error) if error.is_io_failure() => journal.abandon(),
            Err(_) => {}
        }
        result
    }
}

impl Actor for LedgerWriter {
    type Context = Context<Self>;
}

impl Handler<Append> for LedgerWriter {
    type Result = Result<Written, StorageError>;

    fn handle(&mut self, Append(batches): Append, _: &mut Context<Self>) -> Self::Result {
        let began = time::now();
        let head = self.with_journal(|journal| journal.append(&batches))?;
        Ok(Written { took: time::now().since(began), head })
    }
}

impl Handler<FinishCheckpoint> for LedgerWriter {
    type Result = Result<Checkpoint, StorageError>;

    fn handle(&mut self, _: FinishCheckpoint, _: &mut Context<Self>) -> Self::Result {
        self.with_journal(Journal::checkpoint)
    }
}

impl Handler<Tidy> for LedgerWriter {
    type Result = Result<bool, StorageError>;

    fn handle(&mut self, _: Tidy, _: &mut Context<Self>) -> Self::Result {
        if self.store.is_tidy() { Ok(false) } else { self.with_journal(|journal| journal.tidy(time::now())) }
    }
}

impl Handler<Close> for LedgerWriter {
    type Result = Result<(), StorageError>;

    fn handle(&mut self, _: Close, ctx: &mut Context<Self>) -> Self::Result {
        self.tripwire.disarm();
        ctx.stop();
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

        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_raises_the_alarm_and_an_orderly_end_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        System::new().block_on(async {
            let alarm = Alarm::default();
            let start = |name| LedgerWriter::new(store.clone(), alarm.tripwire(name)).start();
            start("closed").send(Close).await.unwrap().unwrap();
            assert!(start("panicked").send(Panic).await.is_err());
            assert_eq!(alarm.raised().await, "panicked");
        });
    }
}
