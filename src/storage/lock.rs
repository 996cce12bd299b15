//! One serving process per database file: an advisory lock on a file beside it.
//!
//! SQLite would let two gateways write in turn, but each would take the other's open requests for leftovers of a
//! crash. The lock is on a file of its own, because closing any descriptor of the database file would drop the locks
//! that SQLite itself holds there. The system releases it however the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{StorageError, place};

/// Held for as long as this process serves the file.
#[derive(Debug)]
pub(super) struct ServingLock {
    _file: File,
}

/// Who serves a database file at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    ByAGateway,
    ByNobody,
}

const TRIES: u32 = 20;
/// A command that looks whether a gateway is running holds the lock for some microseconds, and a process that is
/// being replaced for a moment longer: neither must make a start fail.
const PAUSE: Duration = Duration::from_millis(25);

impl ServingLock {
    pub(super) fn take(database: &Path) -> Result<Self, StorageError> {
        for attempt in 1.. {
            if let Some(lock) = Self::try_take(database)? {
                return Ok(lock);
            }
            if attempt >= TRIES {
                break;
            }
            std::thread::park_timeout(PAUSE);
        }
        Err(StorageError::Locked { path: database.to_owned(), lock: lock_path(database) })
    }

    /// None: someone else has it.
    pub(super) fn try_take(database: &Path) -> Result<Option<Self>, StorageError> {
        let path = lock_path(database);
        let next_step = "Make the folder writable for the user that runs the gateway";
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| StorageError::open(&path, error, next_step))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(StorageError::open(&path, error, "Put the database on a local file system that supports locks"))
            }
        }
    }
}

/// Looks without keeping the lock, and without creating its file.
pub(super) fn served(database: &Path) -> Served {
    let Ok(file) = File::open(lock_path(database)) else { return Served::ByNobody };
    match file.try_lock_shared() {
        Ok(()) => Served::ByNobody,
        Err(TryLockError::WouldBlock) => Served::ByAGateway,
        Err(TryLockError::Error(_)) => Served::ByNobody,
    }
}

fn lock_path(database: &Path) -> PathBuf {
    place::beside(database, ".lock")
}
