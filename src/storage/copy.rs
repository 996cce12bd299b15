//! A copy of the keys in this process's own file, for a start while the server that has them is away.
//!
//! It is refreshed whenever the keys are loaded from the server, row by row where one differs. Nobody reads it while the
//! server answers.

use std::collections::HashMap;

use diesel::prelude::*;

use super::connection::StoreConnection;
use super::schema::{admin_keys, keys, old_secrets, users};
use super::store::Reader;
use super::{StorageError, Store, meta};

/// Set once the file has a copy.
const COPIED: &str = "keys_copied";

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = users, treat_none_as_default_value = false)]
struct User {
    id: Vec<u8>,
    name: String,
    created_at: i64,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = keys, treat_none_as_default_value = false)]
struct Key {
    id: Vec<u8>,
    name: String,
    user_id: Option<Vec<u8>>,
    hash: Vec<u8>,
    prefix: String,
    models: Option<String>,
    rpm: Option<i64>,
    concurrency: Option<i64>,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    regions: Option<String>,
    class: String,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = old_secrets, treat_none_as_default_value = false)]
struct OldSecret {
    hash: Vec<u8>,
    key_id: Vec<u8>,
    expires_at: i64,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = admin_keys, treat_none_as_default_value = false)]
struct AdminKey {
    id: Vec<u8>,
    name: String,
    hash: Vec<u8>,
    scopes: String,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

#[derive(Default, PartialEq)]
struct Content {
    users: HashMap<Vec<u8>, User>,
    keys: HashMap<Vec<u8>, Key>,
    admin_key: Option<String>,
    /// Few, and in the order of their primary keys.
    old_secrets: Vec<OldSecret>,
    admin_keys: Vec<AdminKey>,
}

impl Content {
    fn read(connection: &mut StoreConnection) -> Result<Self, StorageError> {
        let users: Vec<User> = users::table.select(User::as_select()).load(connection)?;
        let keys: Vec<Key> = keys::table.select(Key::as_select()).load(connection)?;
        Ok(Self {
            users: users.into_iter().map(|row| (row.id.clone(), row)).collect(),
            keys: keys.into_iter().map(|row| (row.id.clone(), row)).collect(),
            admin_key: meta::get(connection, meta::ADMIN_KEY_HASH)?,
            old_secrets: old_secrets::table.select(OldSecret::as_select()).order(old_secrets::hash).load(connection)?,
            admin_keys: admin_keys::table.select(AdminKey::as_select()).order(admin_keys::id).load(connection)?,
        })
    }
}

impl Store {
    /// Makes the file's copy what the server has; nothing to do without a server.
    pub fn copy_keys(&self) -> Result<(), StorageError> {
        if !self.is_shared() {
            return Ok(());
        }
        let wanted = Content::read(&mut *self.reader()?)?;
        let present = Content::read(&mut *self.file_reader()?)?;
        if wanted == present && self.has_copy()? {
            return Ok(());
        }
        self.write_file(|file| {
            diesel::delete(old_secrets::table).execute(file)?;
            diesel::delete(admin_keys::table).execute(file)?;
            // Names and hashes may have moved from one row to another: everything that differs goes first.
            let stale = |id: &&Vec<u8>| present.keys.get(*id) != wanted.keys.get(*id);
            for id in present.keys.keys().filter(stale) {
                diesel::delete(keys::table.find(id)).execute(file)?;
            }
            let stale = |id: &&Vec<u8>| present.users.get(*id) != wanted.users.get(*id);
            for id in present.users.keys().filter(stale) {
                diesel::update(keys::table.filter(keys::user_id.eq(id)))
                    .set(keys::user_id.eq(None::<Vec<u8>>))
                    .execute(file)?;
                diesel::delete(users::table.find(id)).execute(file)?;
            }
            for (_, user) in wanted.users.iter().filter(|(id, user)| present.users.get(*id) != Some(user)) {
                diesel::insert_into(users::table).values(user).execute(file)?;
            }
            for (_, key) in wanted.keys.iter().filter(|(id, key)| present.keys.get(*id) != Some(key)) {
                diesel::insert_into(keys::table).values(key).execute(file)?;
            }
            // Keys that are the same, of users that are not.
            for (id, key) in &wanted.keys {
                if key.user_id.as_ref().is_some_and(|user| present.users.get(user) != wanted.users.get(user)) {
                    diesel::update(keys::table.find(id)).set(keys::user_id.eq(&key.user_id)).execute(file)?;
                }
            }
            diesel::insert_into(old_secrets::table).values(&wanted.old_secrets).execute(file)?;
            diesel::insert_into(admin_keys::table).values(&wanted.admin_keys).execute(file)?;
            if let Some(hash) = &wanted.admin_key {
                meta::set_in_file(file, meta::ADMIN_KEY_HASH, hash)?;
            }
            meta::set_in_file(file, COPIED, "1")
        })
    }

    /// A connection to the shared tables, or to the copy where they are away: for what the copy has.
    pub(super) fn reader_or_copy(&self) -> Result<Reader, StorageError> {
        match self.reader() {
            Err(error) if self.is_shared() => {
                if self.has_copy()? {
                    self.file_reader()
                } else {
                    Err(error)
                }
            }
            reached => reached,
        }
    }

    /// Whether a gateway on this file has ever had the server's keys.
    pub(super) fn has_copy(&self) -> Result<bool, StorageError> {
        Ok(meta::get(&mut *self.file_reader()?, COPIED)?.is_some())
    }
}
