//! The `users` table of an older proxy, in a SQLite file of its own: read, and its clear-text tokens replaced by hashes.
//!
//! Two programs have such a table and call the credential's column differently. A row whose credential begins with
//! `sha256:` has been seen before. The file's journal mode and schema stay as they are.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::StorageError;
use super::legacy::Standing;
use super::secret_key;
use crate::domain::time::WallTime;

/// How a hashed credential begins.
const HASHED: &str = "sha256:";

/// The credential's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Token,
    Password,
}

/// A row as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct FileUser {
    pub id: i32,
    pub name: String,
    pub credential: Held,
    pub count: i64,
    pub status: i32,
    pub created_at: Option<WallTime>,
}

/// A credential, or what is left of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Held {
    Clear(String),
    Hashed([u8; 32]),
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Clear(_)) { "Clear(…)" } else { "Hashed(…)" })
    }
}

impl Held {
    fn read(text: String) -> Self {
        let hash = text.strip_prefix(HASHED).and_then(|digits| {
            let mut hash = [0; 32];
            hex::decode_to_slice(digits, &mut hash).ok().map(|()| hash)
        });
        hash.map_or(Self::Clear(text), Self::Hashed)
    }

    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Clear(text) => secret_key::hash(text),
            Self::Hashed(hash) => *hash,
        }
    }

    fn stored(hash: &[u8; 32]) -> String {
        format!("{HASHED}{}", hex::encode(hash))
    }
}

/// The table under both names of its credential.
macro_rules! users_with {
    ($module:ident, $column:literal) => {
        mod $module {
            diesel::table! {
                #[sql_name = "users"]
                users (id) {
                    id -> Integer,
                    username -> Text,
                    #[sql_name = $column]
                    credential -> Text,
                    count -> BigInt,
                    status -> Integer,
                    create_time -> Text,
                }
            }
        }
    };
}

users_with!(with_token, "token");
users_with!(with_password, "password");

type Columns = (i32, String, String, i64, i32, String);

/// The file, open.
pub struct LegacyFile {
    connection: SqliteConnection,
    pub column: Column,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

impl LegacyFile {
    /// Only reads; `None` when it is empty or has no such table.
    pub fn open(path: &Path) -> Result<Option<Self>, StorageError> {
        if std::fs::metadata(path).is_ok_and(|file| file.len() == 0) {
            return Ok(None);
        }
        let mut connection = connect(path)?;
        let column = column_of(&mut connection)?;
        Ok(column.map(|column| Self { connection, column }))
    }

    /// Makes file and table where there is none: an empty file is as good as a new one.
    pub fn open_or_create(path: &Path, column: Column) -> Result<Self, StorageError> {
        let mut connection = connect(path)?;
        if let Some(column) = column_of(&mut connection)? {
            return Ok(Self { connection, column });
        }
        let name = match column {
            Column::Token => "token",
            Column::Password => "password",
        };
        connection.batch_execute(&format!(
            "CREATE TABLE users (id integer PRIMARY KEY, username text NOT NULL UNIQUE, {name} text NOT NULL UNIQUE, \
             count integer NOT NULL DEFAULT 0, status integer NOT NULL DEFAULT 1, \
             create_time datetime NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             update_time datetime NOT NULL DEFAULT CURRENT_TIMESTAMP)"
        ))?;
        Ok(Self { connection, column })
    }

    /// By their ids.
    pub fn users(&mut self) -> Result<Vec<FileUser>, StorageError> {
        macro_rules! load {
            ($module:ident) => {{
                use $module::users::dsl::*;
                users
                    .select((id, username, credential, count, status, create_time))
                    .order(id)
                    .load(&mut self.connection)?
            }};
        }
        let rows: Vec<Columns> = match self.column {
            Column::Token => load!(with_token),
            Column::Password => load!(with_password),
        };
        let read = |(id, name, credential, count, status, created): Columns| FileUser {
            id,
            name,
            credential: Held::read(credential),
            count,
            status,
            created_at: time_of(&created),
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Replaces the clear text of one row; a row that was changed meanwhile is left alone.
    pub fn hash(&mut self, user: &FileUser) -> Result<(), StorageError> {
        let Held::Clear(clear) = &user.credential else { return Ok(()) };
        let stored = Held::stored(&secret_key::hash(clear));
        macro_rules! replace {
            ($module:ident) => {{
                use $module::users::dsl::*;
                diesel::update(users.filter(id.eq(user.id)).filter(credential.eq(clear)))
                    .set(credential.eq(stored))
                    .execute(&mut self.connection)?
            }};
        }
        match self.column {
            Column::Token => replace!(with_token),
            Column::Password => replace!(with_password),
        };
        Ok(())
    }

    /// A conflict (`StorageError::is_conflict`) names the column that is taken, as SQLite says it.
    pub fn add(&mut self, name: &str, hash: &[u8; 32], standing: Standing) -> Result<(), StorageError> {
        let stored = Held::stored(hash);
        macro_rules! insert {
            ($module:ident) => {{
                use $module::users::dsl::*;
                diesel::insert_into(users)
                    .values((username.eq(name), credential.eq(stored), status.eq(standing.number())))
                    .execute(&mut self.connection)?
            }};
        }
        match self.column {
            Column::Token => insert!(with_token),
            Column::Password => insert!(with_password),
        };
        Ok(())
    }
}

fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    let refused = |error: &dyn std::fmt::Display| {
        StorageError::open(path, error, "Check that the gateway's user may read and write this file and its folder")
    };
    let text = path.to_string_lossy();
    let location = if path.is_absolute() { text.into_owned() } else { format!("./{text}") };
    let mut connection = SqliteConnection::establish(&location).map_err(|error| refused(&error))?;
    connection
        .batch_execute("PRAGMA busy_timeout = 2000; PRAGMA secure_delete = ON;")
        .map_err(|error| refused(&error))?;
    Ok(connection)
}

fn column_of(connection: &mut SqliteConnection) -> Result<Option<Column>, StorageError> {
    let names: Vec<Named> = diesel::sql_query("SELECT name FROM pragma_table_info('users')").load(connection)?;
    let has = |name: &str| names.iter().any(|column| column.name == name);
    Ok(match (has("username"), has("token"), has("password")) {
        (true, true, _) => Some(Column::Token),
        (true, false, true) => Some(Column::Password),
        (true, false, false) | (false, ..) => None,
    })
}

/// `2023-09-18 02:00:00` in UTC, or `2023-09-18 10:00:00.123456789+08:00`.
pub fn time_of(text: &str) -> Option<WallTime> {
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let plain = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = zoned.or_else(|| plain().map(|zoned| zoned.timestamp()))?;
    Some(WallTime(time.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_time_are_read() {
        assert_eq!(time_of("2023-09-18 02:00:00"), time_of("2023-09-18 10:00:00+08:00"));
        assert_eq!(time_of("2023-09-18 10:00:00.123456789+08:00"), Some(WallTime(1_695_002_400_123_456)));
        assert_eq!(time_of("yesterday"), None);
    }

    #[test]
    fn an_empty_file_becomes_a_table_and_clear_text_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        std::fs::write(&path, b"").unwrap();
        assert!(LegacyFile::open(&path).unwrap().is_none());
        for column in [Column::Password, Column::Token] {
            // The second time it is there, with the column it has.
            let mut file = LegacyFile::open_or_create(&path, column).unwrap();
            assert_eq!(file.column, Column::Password);
            if file.users().unwrap().is_empty() {
                file.connection
                    .batch_execute("INSERT INTO users (username, password) VALUES ('amy', 'clear')")
                    .unwrap();
            }
            let users = file.users().unwrap();
            assert_eq!(users[0].credential.hash(), secret_key::hash("clear"));
            file.hash(&users[0]).unwrap();
            assert!(
                matches!(file.users().unwrap()[0].credential, Held::Hashed(hash) if hash == secret_key::hash("clear"))
            );
        }
        let mut file = LegacyFile::open(&path).unwrap().unwrap();
        file.add("bob", &[7; 32], Standing::Admin).unwrap();
        let again = file.add("bob", &[8; 32], Standing::Normal).unwrap_err();
        assert!(again.is_conflict() && again.to_string().contains("users.username"), "{again}");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"clear"), "the clear text is still in the file");
    }
}
