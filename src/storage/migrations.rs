//! The schema's steps: one folder a step, with the same name for both databases.
//!
//! A step only adds (a table, a column that may be null or has a default), so that the version before runs on the new
//! schema while replicas are replaced one by one; what is no longer used goes in a later version. Of several gateways
//! that start at once, one takes each step on PostgreSQL, and the others wait for it.

use diesel::connection::SimpleConnection;
use diesel::{PgConnection, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::StorageError;
use super::place::File;

pub(super) const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
pub(super) const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

pub(super) fn has_pending(file: &File, connection: &mut SqliteConnection) -> Result<bool, StorageError> {
    connection.has_pending_migration(SQLITE).map_err(|error| of_file(file, &*error))
}

pub(super) fn migrate(file: &File, connection: &mut SqliteConnection) -> Result<(), StorageError> {
    connection.run_pending_migrations(SQLITE).map(drop).map_err(|error| of_file(file, &*error))
}

fn of_file(file: &File, error: &dyn std::error::Error) -> StorageError {
    StorageError::Migrate { database: file.path.display().to_string(), cause: error.to_string() }
}

/// The number means nothing but this.
const LOCK: &str = "SELECT pg_advisory_lock(4714060914510847572)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(4714060914510847572)";

pub(super) fn migrate_server(connection: &mut PgConnection) -> Result<(), StorageError> {
    // A step over large tables takes longer than a statement of the gateway may.
    connection.batch_execute("SET statement_timeout = 0; SET lock_timeout = '60s'")?;
    connection.batch_execute(LOCK)?;
    let steps = connection.run_pending_migrations(POSTGRES).map(drop);
    // The lock ends with the connection at the latest.
    connection.batch_execute(UNLOCK)?;
    steps.map_err(|error| StorageError::Migrate {
        database: "the PostgreSQL database".to_owned(),
        cause: error.to_string(),
    })
}
