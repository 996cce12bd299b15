//! A database file of SQLite as somebody beside the gateway opens it.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

/// A connection to `file` that waits for whoever writes to it at the moment, as the gateway itself waits for others:
/// without that, a statement fails at once ("database is locked") whenever a write of the gateway falls into it.
pub fn connect(file: &Path) -> SqliteConnection {
    let mut connection = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
    connection
}
