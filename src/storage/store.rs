//! The door to the database: opening it, its connections, and nothing of what is asked of it.
//!
//! There is always a file of this process's own: the ledger's journal. The tables that gateways share (keys, users, pins,
//! the ledger's projection) are in the same file, or in PostgreSQL where the settings name a server: [`Store::reader`]
//! and [`Store::write`] go where those are, whichever it is; `file_reader` and `write_file` always go to the file.
//!
//! `open` is for the gateway, which must be the only one serving the file; `beside` and `existing` are for commands,
//! which may work while a gateway runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use r2d2::{Pool, PooledConnection};

use super::connection::{self, Manager, StoreConnection};
use super::folding::Bound;
use super::intent_log::{self, IntentLog};
use super::lock::{self, Served, ServingLock};
use super::place::{File, Place, Server};
use super::{Ballast, StorageError, migrations};
use crate::domain::time::wall_now;
use crate::settings::model::Durability;

const READERS: u32 = 4;
const READER_TIMEOUT: Duration = Duration::from_secs(2);

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    file: File,
    readers: Pool<Manager>,
    shared: Option<Shared>,
    folding: Bound,
    /// None for commands, and where a row must survive a power failure.
    intents: Option<Arc<IntentLog>>,
    /// None for commands.
    _serving: Option<ServingLock>,
}

/// The server that holds the shared tables.
struct Shared {
    server: Server,
    pool: Pool<Manager>,
    /// Whether this process has seen to its schema.
    prepared: AtomicBool,
}

pub(super) type Reader = PooledConnection<Manager>;

impl Store {
    /// For the gateway: creates folder and file, refuses when another gateway serves the file, updates the schema. A
    /// server that is away is no obstacle to a gateway that has a copy of its keys.
    pub fn open(place: impl Into<Place>, durability: Durability) -> Result<Self, StorageError> {
        let place = place.into();
        match Self::try_open(place.clone(), durability) {
            // A gateway that died of a full disk shall come up again and settle what it left.
            Err(error) if error.is_disk_full() && Ballast::beside(&place.path).give_up() => {
                Self::try_open(place, durability)
            }
            opened => opened,
        }
    }

    fn try_open(Place { path, server }: Place, durability: Durability) -> Result<Self, StorageError> {
        let file = File { path, durability };
        file.create_folder()?;
        let serving = ServingLock::take(&file.path)?;
        let mut connection = file.connect()?;
        file.check(&mut connection)?;
        migrations::migrate(&file, &mut connection)?;
        intent_log::adopt(&file.path, &mut connection)?;
        let store = Self::assemble(file, server, Some(serving))?;
        store.note_start(wall_now())?;
        if let Err(error) = store.prepare_shared() {
            if !store.has_copy()? {
                return Err(error);
            }
            tracing::warn!(%error, "starting with the copy of the keys, as they were when the database last answered");
        }
        Ok(store)
    }

    /// For commands that may be the first to use the database, also while a gateway runs. Where a server has the shared
    /// tables, no file is made.
    pub fn beside(place: impl Into<Place>, durability: Durability) -> Result<Self, StorageError> {
        let Place { path, server } = place.into();
        let file = File { path, durability };
        if server.is_none() {
            file.create_folder()?;
            let mut connection = file.connect()?;
            if migrations::has_pending(&file, &mut connection)? {
                let serving = ServingLock::try_take(&file.path)?;
                if serving.is_none() {
                    return Err(StorageError::Outdated { path: file.path });
                }
                migrations::migrate(&file, &mut connection)?;
            }
        }
        let store = Self::assemble(file, server, None)?;
        store.prepare_shared()?;
        Ok(store)
    }

    /// For commands that only read: like `beside`, but a missing file is an error.
    pub fn existing(place: impl Into<Place>, durability: Durability) -> Result<Self, StorageError> {
        let place = place.into();
        if place.server.is_none() && !place.path.exists() {
            return Err(StorageError::Missing { path: place.path });
        }
        Self::beside(place, durability)
    }

    /// The file of this process's own.
    pub fn path(&self) -> &Path {
        &self.inner.file.path
    }

    /// Whether the shared tables are on a server, and the ledger's rows have to be brought there.
    pub fn is_shared(&self) -> bool {
        self.inner.shared.is_some()
    }

    pub fn ballast(&self) -> Ballast {
        Ballast::beside(&self.inner.file.path)
    }

    /// Whether a gateway serves this file at the moment; never true of a process that does so itself.
    pub fn served(&self) -> Served {
        lock::served(&self.inner.file.path)
    }

    /// Whether the shared tables answer.
    pub fn ping(&self) -> Result<(), StorageError> {
        connection::ping(&mut *self.reader()?).map_err(StorageError::from)
    }

    /// Brings the server's schema up to date, if there is a server and it was not done before.
    pub(super) fn prepare_shared(&self) -> Result<(), StorageError> {
        let Some(shared) = &self.inner.shared else { return Ok(()) };
        if !shared.prepared.load(Ordering::Relaxed) {
            let mut connection = shared.server.connect().map_err(|error| shared.server.refused(&error))?;
            migrations::migrate_server(&mut connection)?;
            shared.prepared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A connection to the shared tables.
    pub(super) fn reader(&self) -> Result<Reader, StorageError> {
        match &self.inner.shared {
            Some(shared) => {
                self.prepare_shared()?;
                shared.pool.get().map_err(|error| shared.server.refused(&error))
            }
            None => self.file_reader(),
        }
    }

    /// A connection to the file, for reading.
    pub(super) fn file_reader(&self) -> Result<Reader, StorageError> {
        Ok(self.inner.readers.get()?)
    }

    /// A connection of one's own to the file.
    pub(super) fn writer(&self) -> Result<SqliteConnection, StorageError> {
        self.inner.file.connect()
    }

    /// A connection of one's own to the server; None without one.
    pub(super) fn server(&self) -> Option<Result<PgConnection, StorageError>> {
        let shared = self.inner.shared.as_ref()?;
        Some(shared.server.connect().map_err(|error| shared.server.refused(&error)))
    }

    /// Where requests that have just begun are noted, if that is not the file itself.
    pub(super) fn intents(&self) -> Option<&Arc<IntentLog>> {
        self.inner.intents.as_ref()
    }

    /// How far the file's hours may have been folded into days.
    pub(super) fn folding(&self) -> &Bound {
        &self.inner.folding
    }

    /// One rare write to the shared tables (a key, a fact) in a transaction of its own. In the file it gets a
    /// connection of its own: the ledger's is busy with requests.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&mut StoreConnection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match &self.inner.shared {
            Some(_) => self.reader()?.exclusively(change),
            None => StoreConnection::Sqlite(self.writer()?).exclusively(change),
        }
    }

    /// The same to the file.
    pub(super) fn write_file<T>(
        &self,
        change: impl FnOnce(&mut SqliteConnection) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.writer()?.immediate_transaction(change)
    }

    fn assemble(file: File, server: Option<Server>, serving: Option<ServingLock>) -> Result<Self, StorageError> {
        let pool = |manager: Manager| {
            Pool::builder()
                .max_size(READERS)
                .min_idle(Some(0))
                .connection_timeout(READER_TIMEOUT)
                .error_handler(Box::new(r2d2::NopErrorHandler))
                .build(manager)
        };
        let has_log = serving.is_some() && file.durability == Durability::Process;
        let intents = if has_log { Some(Arc::new(IntentLog::beside(&file.path)?)) } else { None };
        let readers = pool(Manager::Reading(file.clone()))?;
        let shared = match server {
            None => None,
            Some(server) => {
                let pool = pool(Manager::Server(server.clone()))?;
                Some(Shared { server, pool, prepared: AtomicBool::new(false) })
            }
        };
        let folding = Bound::default();
        Ok(Self { inner: Arc::new(Inner { file, readers, shared, folding, intents, _serving: serving }) })
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("file", &self.file)
            .field("shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection;
    use diesel::debug_query;
    use diesel::sql_types::Text;
    use diesel::sqlite::Sqlite;
    use diesel_migrations::MigrationHarness;

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
        check(
            "user_limits",
            debug_query::<Sqlite, _>(&schema::user_limits::table.select(schema::user_limits::all_columns)).to_string(),
        );
        check(
            "quotas",
            debug_query::<Sqlite, _>(&schema::quotas::table.select(schema::quotas::all_columns)).to_string(),
        );
        check(
            "quota_grants",
            debug_query::<Sqlite, _>(&schema::quota_grants::table.select(schema::quota_grants::all_columns))
                .to_string(),
        );
        check(
            "prices",
            debug_query::<Sqlite, _>(&schema::prices::table.select(schema::prices::all_columns)).to_string(),
        );
        check(
            "chains",
            debug_query::<Sqlite, _>(&schema::chains::table.select(schema::chains::all_columns)).to_string(),
        );
        check(
            "admin_keys",
            debug_query::<Sqlite, _>(&schema::admin_keys::table.select(schema::admin_keys::all_columns)).to_string(),
        );
        check(
            "old_secrets",
            debug_query::<Sqlite, _>(&schema::old_secrets::table.select(schema::old_secrets::all_columns)).to_string(),
        );
        check("audit", debug_query::<Sqlite, _>(&schema::audit::table.select(schema::audit::all_columns)).to_string());
        check(
            "idempotency",
            debug_query::<Sqlite, _>(&schema::idempotency::table.select(schema::idempotency::all_columns)).to_string(),
        );
        check("pins", debug_query::<Sqlite, _>(&schema::pins::table.select(schema::pins::all_columns)).to_string());
        check(
            "underway",
            debug_query::<Sqlite, _>(&schema::underway::table.select(schema::underway::all_columns)).to_string(),
        );
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
        connection.revert_all_migrations(migrations::SQLITE).unwrap();
        assert!(migrations::has_pending(&store.inner.file, &mut connection).unwrap());
        migrations::migrate(&store.inner.file, &mut connection).unwrap();
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
            let (quota, expires_at) = (None, None);
            let new = NewKey { name, user, secret, models, regions, class, limits, quota, expires_at };
            store.create_key(&new).unwrap()
        };
        let everywhere = make("everywhere", Regions::default());
        let limited = make("limited", Regions::only([RegionCode::of("swedencentral")]));
        let mut connection = store.writer().unwrap();
        // Down to the first schema, which knows no regions, and up again.
        while connection.applied_migrations().unwrap().len() > 1 {
            connection.revert_last_migration(migrations::SQLITE).unwrap();
        }
        migrations::migrate(&store.inner.file, &mut connection).unwrap();
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
