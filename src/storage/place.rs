//! Where the tables are: a file on this machine, always, and a PostgreSQL server where several gateways share one.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};

use super::StorageError;
use crate::domain::secret::Secret;
use crate::settings::model::{Database, Durability};

/// Older versions can corrupt a database in WAL mode when a checkpoint meets a restart of the log.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);

/// What the settings say of the database.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) path: PathBuf,
    pub(super) server: Option<Server>,
}

#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
}

/// A PostgreSQL database. Its URL holds a password as a rule, and is not printed.
#[derive(Clone, Debug)]
pub(super) struct Server {
    url: Secret,
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self { path: path.to_owned(), server: None }
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&Database> for Place {
    fn from(database: &Database) -> Self {
        let server = database.server.clone().map(|url| Server { url });
        Self { path: database.path.clone(), server }
    }
}

impl Place {
    /// Whether a server that the settings name lets us in; a file is made when it is needed.
    pub fn reach(&self) -> Result<(), StorageError> {
        let Some(server) = &self.server else { return Ok(()) };
        server.connect().map(drop).map_err(|error| server.refused(&error))
    }
}

/// A file that belongs to the database's, with its name and this ending.
pub(super) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// A path that begins like a URL or an option (`file:`, `:memory:`) must still be a path.
fn location(path: &Path) -> String {
    let text = path.to_string_lossy();
    if path.is_absolute() { text.into_owned() } else { format!("./{text}") }
}

impl File {
    pub(super) fn create_folder(&self) -> Result<(), StorageError> {
        let path = &self.path;
        let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|error| {
            let next_step = "Create its folder, or make the parent folder writable for the gateway's user";
            StorageError::open(path, error, next_step)
        })
    }

    /// A connection that cannot write.
    pub(super) fn connect_for_reading(&self) -> diesel::ConnectionResult<SqliteConnection> {
        let mut connection = SqliteConnection::establish(&location(&self.path))?;
        connection
            .batch_execute("PRAGMA busy_timeout = 2000; PRAGMA query_only = ON;")
            .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }

    pub(super) fn connect(&self) -> Result<SqliteConnection, StorageError> {
        let refused = |error: &dyn std::fmt::Display| {
            StorageError::open(
                &self.path,
                error,
                "Check that the gateway's user may read and write this file and its folder, and that the disk has room",
            )
        };
        let mut connection = SqliteConnection::establish(&location(&self.path)).map_err(|error| refused(&error))?;
        let synchronous = match self.durability {
            Durability::Process => "PRAGMA synchronous = NORMAL;",
            Durability::Power => "PRAGMA synchronous = FULL;",
        };
        // The timeout first: the switch to WAL itself may have to wait for another process.
        for pragma in [
            "PRAGMA busy_timeout = 5000;",
            "PRAGMA journal_mode = WAL;",
            synchronous,
            "PRAGMA foreign_keys = ON;",
            // The ledger's writer moves the log into the file between groups, so that no request waits for it.
            "PRAGMA wal_autocheckpoint = 0;",
            "PRAGMA journal_size_limit = 67108864;",
        ] {
            connection.batch_execute(pragma).map_err(|error| refused(&error))?;
        }
        Ok(connection)
    }

    /// A pragma that did not take (a network file system, an odd build) would silently weaken every promise.
    pub(super) fn check(&self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        let path = &self.path;
        let facts: Facts = diesel::sql_query(
            "SELECT sqlite_version() AS version, j.journal_mode, s.synchronous \
             FROM pragma_journal_mode AS j, pragma_synchronous AS s",
        )
        .get_result(connection)?;
        let mut numbers = facts.version.split('.').map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let version: (u32, u32, u32) = (next(), next(), next());
        if version < OLDEST_SQLITE {
            let cause = format!("SQLite {} can corrupt databases in WAL mode", facts.version);
            return Err(StorageError::open(path, cause, "Build with the bundled SQLite (3.51.3 or later)"));
        }
        if facts.journal_mode != "wal" {
            let cause = format!("its journal mode stays `{}` where `wal` is needed", facts.journal_mode);
            return Err(StorageError::open(path, cause, "Put the database on a local file system"));
        }
        let wanted = match self.durability {
            Durability::Process => 1,
            Durability::Power => 2,
        };
        if facts.synchronous != wanted {
            let cause = format!("`synchronous` is {} where {wanted} was set", facts.synchronous);
            return Err(StorageError::open(path, cause, "Build with the bundled SQLite"));
        }
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Facts {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    journal_mode: String,
    #[diesel(sql_type = diesel::sql_types::Integer)]
    synchronous: i32,
}

/// What is said to libpq where the URL does not say it: a server that is gone is noticed, whatever the network does.
const LIBPQ: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "10000"),
    ("application_name", "aoai-gateway"),
];

/// No statement and no lock lasts for ever, and a gateway that froze in a transaction does not hold up the others.
const SESSION: &str = "SET statement_timeout = '5s'; SET lock_timeout = '2s'; \
                       SET idle_in_transaction_session_timeout = '10s'; SET synchronous_commit = 'on'";

impl Server {
    pub(super) fn connect(&self) -> diesel::ConnectionResult<PgConnection> {
        let mut connection = PgConnection::establish(&self.with_defaults())?;
        connection.batch_execute(SESSION).map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }

    /// As an error that may be shown: libpq repeats a URL that it cannot read, with its password.
    pub(super) fn refused(&self, cause: &dyn std::fmt::Display) -> StorageError {
        let mut cause = cause.to_string();
        for hidden in [self.with_defaults().as_str(), self.url.expose()] {
            cause = cause.replace(hidden, "its URL");
        }
        // The lines after the first are questions to whoever reads.
        let first = cause.lines().next().unwrap_or_default().trim_end_matches('.');
        StorageError::Server { cause: first.to_owned() }
    }

    fn with_defaults(&self) -> String {
        let mut url = self.url.expose().to_owned();
        for (name, value) in LIBPQ {
            if !url.contains(&format!("{name}=")) {
                url.push(if url.contains('?') { '&' } else { '?' });
                url.push_str(&format!("{name}={value}"));
            }
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_url_says_stands_and_the_rest_is_added() {
        let server = Server { url: Secret::new("postgres://me:word@db/gw?connect_timeout=1") };
        let url = server.with_defaults();
        assert!(url.starts_with("postgres://me:word@db/gw?connect_timeout=1&keepalives_idle=10&"), "{url}");
        assert_eq!(url.matches("connect_timeout").count(), 1);
        let error = server.refused(&format!("cannot read \"{url}\"")).to_string();
        assert!(!error.contains("word") && error.contains("cannot read"), "{error}");
        assert!(!format!("{server:?}").contains("word"));
    }
}
