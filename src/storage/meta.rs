//! Single facts about the whole database.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::schema::meta;
use super::{StorageError, Store};

/// Raised in the transaction of every change to a key.
pub(super) const KEYS_VERSION: &str = "keys_version";
/// When the serving process opened the file, in microseconds.
pub(super) const STARTED_AT: &str = "started_at";
/// Requests that began earlier may have been removed, in microseconds; absent: none was.
pub(super) const KEPT_FROM: &str = "kept_from";
/// SHA-256 of the generated admin key, in hex.
const ADMIN_KEY_HASH: &str = "admin_key_hash";

pub(super) fn get(connection: &mut SqliteConnection, name: &str) -> Result<Option<String>, StorageError> {
    Ok(meta::table.find(name).select(meta::value).first(connection).optional()?)
}

pub(super) fn set(connection: &mut SqliteConnection, name: &str, value: &str) -> Result<(), StorageError> {
    diesel::replace_into(meta::table).values((meta::name.eq(name), meta::value.eq(value))).execute(connection)?;
    Ok(())
}

pub(super) fn raise_keys_version(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    diesel::sql_query("UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE name = ?")
        .bind::<Text, _>(KEYS_VERSION)
        .execute(connection)?;
    Ok(())
}

impl Store {
    /// Changes with every change to a key, whichever process made it; cheap enough to ask several times a second.
    pub fn keys_version(&self) -> Result<u64, StorageError> {
        let text = get(&mut *self.reader()?, KEYS_VERSION)?.unwrap_or_default();
        text.parse().map_err(|error| StorageError::Unreadable {
            place: "meta.keys_version",
            cause: format!("`{text}`: {error}"),
        })
    }

    /// SHA-256 of the admin key that was generated at the first start, if one was.
    pub fn admin_key_hash(&self) -> Result<Option<[u8; 32]>, StorageError> {
        let Some(text) = get(&mut *self.reader()?, ADMIN_KEY_HASH)? else { return Ok(None) };
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash)
            .map_err(|error| StorageError::Unreadable { place: "meta.admin_key_hash", cause: error.to_string() })?;
        Ok(Some(hash))
    }

    pub fn set_admin_key_hash(&self, hash: [u8; 32]) -> Result<(), StorageError> {
        self.write(|connection| set(connection, ADMIN_KEY_HASH, &hex::encode(hash)))
    }
}
