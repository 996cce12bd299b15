//! What can go wrong with the database. Opening errors name the file, the cause and the next step, because a person
//! reads them at start; the rest is for logs and for whoever decides to retry.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use diesel::result::{DatabaseErrorKind, Error as DieselError};

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The folder or the file is not usable.
    #[error("cannot open the database {}: {cause}. {next_step}", path.display())]
    Open { path: PathBuf, cause: String, next_step: &'static str },
    /// Another gateway serves this file.
    #[error(
        "another gateway already serves the database {} (it holds {}). Stop it first, or give this one its own \
         file with `database.url`",
        path.display(),
        lock.display()
    )]
    Locked { path: PathBuf, lock: PathBuf },
    /// A command found no database to read.
    #[error(
        "there is no database at {} yet. Start the gateway once, or point `database.url` at the right file",
        path.display()
    )]
    Missing { path: PathBuf },
    /// A schema step failed; nothing of it was kept.
    #[error("cannot bring the schema of {database} up to date: {cause}")]
    Migrate { database: String, cause: String },
    /// The server that `database.url` names cannot be used.
    #[error(
        "cannot use the PostgreSQL database: {cause}. Check `database.url`, and that the server is running and lets \
         this user in"
    )]
    Server { cause: String },
    /// The file is older than this program, and a gateway of that older version is running on it.
    #[error(
        "the database {} has an older schema and a gateway is running on it. Restart the gateway with this version \
         first",
        path.display()
    )]
    Outdated { path: PathBuf },
    /// Another gateway has begun on a copy of this journal.
    #[error("the shared database knows another gateway that began later on a copy of this journal")]
    Superseded,
    /// No answer came in time.
    #[error("the database does not answer")]
    Hangs,
    /// The pool had no connection in time.
    #[error("no database connection in time: {0}")]
    Busy(#[from] r2d2::Error),
    /// A statement failed.
    #[error("the database refused a statement: {0}")]
    Statement(#[from] DieselError),
    /// The log of what has just begun, beside the file, could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    IntentLog { path: PathBuf, cause: String, kind: ErrorKind },
    /// A value in the file is not what this program wrote there.
    #[error("the database holds an unreadable value in {place}: {cause}")]
    Unreadable { place: &'static str, cause: String },
}

impl StorageError {
    pub(super) fn open(path: &Path, cause: impl ToString, next_step: &'static str) -> Self {
        Self::Open { path: path.to_owned(), cause: cause.to_string(), next_step }
    }

    /// Whether the disk has no room. SQLite has put everything back, and may be asked again when there is room.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::IntentLog { kind, .. } => matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
            _ => self.says("database or disk is full"),
        }
    }

    /// Whether reading, writing or flushing a file failed. What the file holds is unknown from then on: after a failed
    /// flush the system may have thrown away what it was to write, and the next flush says that all is well. So nothing
    /// more may be believed of this process's connections; the next start reads what really is there.
    pub fn is_io_failure(&self) -> bool {
        match self {
            Self::IntentLog { .. } => !self.is_disk_full(),
            _ => self.says("disk I/O error"),
        }
    }

    /// Diesel keeps SQLite's text and not its code.
    fn says(&self, text: &str) -> bool {
        match self {
            Self::Statement(DieselError::DatabaseError(_, information)) => information.message().starts_with(text),
            Self::Open { cause, .. } | Self::Migrate { cause, .. } => cause.contains(text),
            Self::Statement(_)
            | Self::Locked { .. }
            | Self::Missing { .. }
            | Self::Server { .. }
            | Self::Outdated { .. }
            | Self::Superseded
            | Self::Hangs
            | Self::Busy(_)
            | Self::IntentLog { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether a value that must be unique is there already.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Statement(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
    }
}
