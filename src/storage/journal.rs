//! The ledger's one write connection: groups of entries in, committed rows out.
//!
//! Writing the same group again changes nothing: a request is opened once and closed once, and only a row that this
//! group really closed is added to the roll-ups. So a group may be retried after an error whose outcome is unknown.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::group::Group;
use super::ledger::{Intent, LedgerEntry, Settlement};
use super::rollups::Rollups;
use super::rows::{AdvanceRequest, CloseOpen, FileAttempt, FileClosed, OpenRequest};
use super::{StorageError, Store};

pub struct Journal {
    connection: SqliteConnection,
}

/// How far moving the write-ahead log into the database file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Pages in the log.
    pub log: i64,
    /// Pages of it that the database file has.
    pub moved: i64,
}

impl Store {
    pub fn journal(&self) -> Result<Journal, StorageError> {
        Ok(Journal { connection: self.writer()? })
    }
}

impl Journal {
    /// Commits all entries of the batches in one transaction.
    pub fn append(&mut self, batches: &[Vec<LedgerEntry>]) -> Result<(), StorageError> {
        let group = Group::of(batches);
        self.connection.immediate_transaction(|connection| {
            for intent in &group.opened {
                OpenRequest::new(intent).execute(connection)?;
            }
            for progress in &group.progressed {
                AdvanceRequest::new(progress).execute(connection)?;
            }
            let mut rollups = Rollups::default();
            for (intent, settlement) in &group.settled {
                let row = FileClosed::new(intent, settlement);
                let (cell, sums) = (row.cell(), row.sums(settlement));
                let closed = row.execute(connection)? > 0 || CloseOpen::from(row).execute(connection)? > 0;
                if closed {
                    rollups.add(cell, sums);
                    file_attempts(connection, intent, settlement)?;
                }
            }
            rollups.write(connection)
        })
    }

    /// Moves what it can of the write-ahead log into the database file, without making anyone wait.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, StorageError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            log: i64,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            checkpointed: i64,
        }
        let row: Row = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(&mut self.connection)?;
        Ok(Checkpoint { log: row.log, moved: row.checkpointed })
    }

    /// The orderly end: the log is emptied where nobody else reads it.
    pub fn close(mut self) -> Result<(), StorageError> {
        self.connection.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").map_err(StorageError::from)
    }
}

/// The attempts before the last one, and the last one if the request's own token columns do not tell its tokens.
fn file_attempts(
    connection: &mut SqliteConnection,
    intent: &Intent,
    settlement: &Settlement,
) -> Result<(), StorageError> {
    let Some((last, earlier)) = settlement.attempts.split_last() else { return Ok(()) };
    let apart = if last.usage == settlement.usage { None } else { Some(last) };
    for (n, attempt) in (0..).zip(earlier.iter().chain(apart)) {
        FileAttempt::new(intent, n, attempt).execute(connection)?;
    }
    Ok(())
}
