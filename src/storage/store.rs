//! The door to the database: opening it, its connections, and nothing of what is asked of it.
//!
//! `open` is for the gateway, which must be the only one serving the file; `beside` and `existing` are for commands,
//! which may work while a gateway runs. Every write takes SQLite's write lock at its first statement
//! (`immediate_transaction`), because a reader that turns into a writer fails at once instead of waiting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool, PooledConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StorageError;
use super::lock::{self, Served, ServingLock};
use crate::domain::time::wall_now;
use crate::settings::model::Durability;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// Older versions can corrupt a database in WAL mode when a checkpoint meets a restart of the log.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);
const READERS: u32 = 4;
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    durability: Durability,
    readers: Pool<ConnectionManager<SqliteConnection>>,
    /// None for commands.
    _serving: Option<ServingLock>,
}

pub(super) type Reader = PooledConnection<ConnectionManager<SqliteConnection>>;

impl Store {
    /// For the gateway: creates folder and file, refuses when another gateway serves the file, updates the schema.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        create_folder(path)?;
        let serving = ServingLock::take(path)?;
        let mut connection = connect(path, durability)?;
        check(path, durability, &mut connection)?;
        migrate(path, &mut connection)?;
        let store = Self::assemble(path, durability, Some(serving))?;
        store.note_start(wall_now())?;
        Ok(store)
    }

    /// For commands that may be the first to use the file, also while a gateway runs.
    pub fn beside(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        create_folder(path)?;
        let mut connection = connect(path, durability)?;
        if has_pending_migration(path, &mut connection)? {
            let serving = ServingLock::try_take(path)?;
            if serving.is_none() {
                return Err(StorageError::Outdated { path: path.to_owned() });
            }
            migrate(path, &mut connection)?;
        }
        Self::assemble(path, durability, None)
    }

    /// For commands that only read: like `beside`, but a missing file is an error.
    pub fn existing(path: &Path, durability: Durability) -> Result<Self, StorageError> {
        if !path.exists() {
            return Err(StorageError::Missing { path: path.to_owned() });
        }
        Self::beside(path, durability)
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether a gateway serves this file at the moment; never true of a process that does so itself.
    pub fn served(&self) -> Served {
        lock::served(&self.inner.path)
    }

    /// Whether the database answers: the readiness probe.
    pub fn ping(&self) -> Result<(), StorageError> {
        self.reader()?.batch_execute("SELECT 1").map_err(StorageError::from)
    }

    pub(super) fn reader(&self) -> Result<Reader, StorageError> {
        Ok(self.inner.readers.get()?)
    }

    /// A connection of one's own that may write.
    pub(super) fn writer(&self) -> Result<SqliteConnection, StorageError> {
        connect(&self.inner.path, self.inner.durability)
    }

    /// One rare write (a key, a fact) in a transaction of its own, on a connection of its own: the ledger's
    /// connection is busy with requests.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&mut SqliteConnection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.writer()?.immediate_transaction(change)
    }

    fn assemble(path: &Path, durability: Durability, serving: Option<ServingLock>) -> Result<Self, StorageError> {
        let readers = Pool::builder()
            .max_size(READERS)
            .min_idle(Some(0))
            .connection_timeout(READER_TIMEOUT)
            .connection_customizer(Box::new(ReadOnly))
            .build(ConnectionManager::new(location(path)))?;
        Ok(Self { inner: Arc::new(Inner { path: path.to_owned(), durability, readers, _serving: serving }) })
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// Makes a pooled connection unable to write.
#[derive(Debug)]
struct ReadOnly;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for ReadOnly {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute("PRAGMA busy_timeout = 2000; PRAGMA query_only = ON;")
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

fn create_folder(path: &Path) -> Result<(), StorageError> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|error| {
        StorageError::open(path, error, "Create its folder, or make the parent folder writable for the gateway's user")
    })
}

/// A path that begins like a URL or an option (`file:`, `:memory:`) must still be a path.
fn location(path: &Path) -> String {
    let text = path.to_string_lossy();
    if path.is_absolute() { text.into_owned() } else { format!("./{text}") }
}

fn connect(path: &Path, durability: Durability) -> Result<SqliteConnection, StorageError> {
    let refused = |error: &dyn std::fmt::Display| {
        StorageError::open(
            path,
            error,
            "Check that the gateway's user may read and write this file and its folder, and that the disk has room",
        )
    };
    let mut connection = SqliteConnection::establish(&location(path)).map_err(|error| refused(&error))?;
    let synchronous = match durability {
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

#[derive(QueryableByName)]
struct Facts {
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    journal_mode: String,
    #[diesel(sql_type = diesel::sql_types::Integer)]
    synchronous: i32,
}

/// A pragma that did not take (a network file system, an odd build) would silently weaken every promise.
fn check(path: &Path, durability: Durability, connection: &mut SqliteConnection) -> Result<(), StorageError> {
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
    let wanted = match durability {
        Durability::Process => 1,
        Durability::Power => 2,
    };
    if facts.synchronous != wanted {
        let cause = format!("`synchronous` is {} where {wanted} was set", facts.synchronous);
        return Err(StorageError::open(path, cause, "Build with the bundled SQLite"));
    }
    Ok(())
}

fn has_pending_migration(path: &Path, connection: &mut SqliteConnection) -> Result<bool, StorageError> {
    connection
        .has_pending_migration(MIGRATIONS)
        .map_err(|error| StorageError::Migrate { path: path.to_owned(), cause: error.to_string() })
}

fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StorageError> {
    connection
        .run_pending_migrations(MIGRATIONS)
        .map(drop)
        .map_err(|error| StorageError::Migrate { path: path.to_owned(), cause: error.to_string() })
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::sql_types::Text;
    use diesel::sqlite::Sqlite;

    use super::*;
    use crate::storage::schema;

    #[derive(QueryableByName)]
    struct Column {
        #[diesel(sql_type = Text)]
        name: String,
    }

    #[test]
    fn the_schema_module_names_the_columns_of_the_migrations() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        let check = |table: &str, selected: String| {
            let columns: Vec<Column> = diesel::sql_query("SELECT name FROM pragma_table_info(?)")
                .bind::<Text, _>(table)
                .load(&mut *store.reader().unwrap())
                .unwrap();
            let names: Vec<_> = columns.iter().map(|column| format!("`{table}`.`{}`", column.name)).collect();
            assert_eq!(selected, format!("SELECT {} FROM `{table}` -- binds: []", names.join(", ")));
        };
        check("meta", debug_query::<Sqlite, _>(&schema::meta::table.select(schema::meta::all_columns)).to_string());
        check("users", debug_query::<Sqlite, _>(&schema::users::table.select(schema::users::all_columns)).to_string());
        check("keys", debug_query::<Sqlite, _>(&schema::keys::table.select(schema::keys::all_columns)).to_string());
        check(
            "requests",
            debug_query::<Sqlite, _>(&schema::requests::table.select(schema::requests::all_columns)).to_string(),
        );
        check(
            "attempts",
            debug_query::<Sqlite, _>(&schema::attempts::table.select(schema::attempts::all_columns)).to_string(),
        );
        check("pins", debug_query::<Sqlite, _>(&schema::pins::table.select(schema::pins::all_columns)).to_string());
        check(
            "legacy_users",
            debug_query::<Sqlite, _>(&schema::legacy_users::table.select(schema::legacy_users::all_columns))
                .to_string(),
        );
        check(
            "usage_hourly",
            debug_query::<Sqlite, _>(&schema::usage_hourly::table.select(schema::usage_hourly::all_columns))
                .to_string(),
        );
    }

    #[test]
    fn migrations_go_down_and_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        let store = Store::open(&path, Durability::Power).unwrap();
        let mut connection = store.writer().unwrap();
        connection.revert_all_migrations(MIGRATIONS).unwrap();
        assert!(has_pending_migration(&path, &mut connection).unwrap());
        migrate(&path, &mut connection).unwrap();
        assert!(store.verify().unwrap().holds());
    }

    #[test]
    fn a_database_of_an_older_version_keeps_its_keys_and_a_younger_one_gives_none_away() {
        use crate::domain::class::Class;
        use crate::domain::regions::{RegionCode, Regions};
        use crate::storage::keys::{KeyLimits, NewKey};
        use crate::storage::secret_key::KeySecret;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        let store = Store::open(&path, Durability::Process).unwrap();
        let make = |name: &str, regions: Regions| {
            let (secret, limits) = (KeySecret::generate().unwrap(), KeyLimits::default());
            let class = Class::Interactive;
            let (name, user, models) = (name.to_owned(), None, None);
            store.create_key(&NewKey { name, user, secret, models, regions, class, limits, expires_at: None }).unwrap()
        };
        let everywhere = make("everywhere", Regions::default());
        let limited = make("limited", Regions::only([RegionCode::of("swedencentral")]));
        let mut connection = store.writer().unwrap();
        // Down to the first schema, which knows no regions, and up again.
        while connection.applied_migrations().unwrap().len() > 1 {
            connection.revert_last_migration(MIGRATIONS).unwrap();
        }
        migrate(&path, &mut connection).unwrap();
        assert_eq!(store.key(everywhere.id).unwrap(), Some(everywhere));
        let limited = store.key(limited.id).unwrap().unwrap();
        assert!(limited.revoked_at.is_some() && limited.regions == Regions::default(), "{limited:?}");
    }

    #[test]
    fn readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gateway.db"), Durability::Process).unwrap();
        assert!(store.reader().unwrap().batch_execute("DELETE FROM meta").is_err());
    }
}
