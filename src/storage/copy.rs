//! A copy of the keys in this process's own file, for a start while the server that has them is away.
//!
//! It is refreshed whenever the keys are loaded from the server, row by row where one differs. Nobody reads it while the
//! server answers.

use std::collections::HashMap;

use diesel::prelude::*;

use super::connection::StoreConnection;
use super::schema::{admin_keys, keys, old_secrets, quota_grants, quotas, user_limits, users};
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
    tpm: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = user_limits, treat_none_as_default_value = false)]
struct UserLimits {
    user_id: Vec<u8>,
    rpm: Option<i64>,
    tpm: Option<i64>,
    concurrency: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = quotas, treat_none_as_default_value = false)]
struct Quota {
    owner: Vec<u8>,
    owner_kind: String,
    period: String,
    time_zone: Option<String>,
    tokens: Option<i64>,
    cost: Option<i64>,
    updated_at: i64,
}

#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = quota_grants, treat_none_as_default_value = false)]
struct QuotaGrant {
    id: Vec<u8>,
    owner: Vec<u8>,
    tokens: Option<i64>,
    cost: Option<i64>,
    reason: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
    withdrawn_at: Option<i64>,
}

/// What keys and users may use.
#[derive(Default, PartialEq)]
struct Allowed {
    limits: Vec<UserLimits>,
    quotas: Vec<Quota>,
    grants: Vec<QuotaGrant>,
}

impl Allowed {
    fn read(connection: &mut StoreConnection) -> Result<Self, StorageError> {
        Ok(Self {
            limits: user_limits::table.select(UserLimits::as_select()).order(user_limits::user_id).load(connection)?,
            quotas: quotas::table.select(Quota::as_select()).order(quotas::owner).load(connection)?,
            grants: quota_grants::table.select(QuotaGrant::as_select()).order(quota_grants::id).load(connection)?,
        })
    }

    /// The tables are small: where something differs, they are written anew.
    fn replace(&self, file: &mut SqliteConnection) -> Result<(), StorageError> {
        diesel::delete(user_limits::table).execute(file)?;
        diesel::delete(quotas::table).execute(file)?;
        diesel::delete(quota_grants::table).execute(file)?;
        for row in &self.limits {
            diesel::insert_into(user_limits::table).values(row).execute(file)?;
        }
        for row in &self.quotas {
            diesel::insert_into(quotas::table).values(row).execute(file)?;
        }
        for row in &self.grants {
            diesel::insert_into(quota_grants::table).values(row).execute(file)?;
        }
        Ok(())
    }
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
    allowed: Allowed,
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
            allowed: Allowed::read(connection)?,
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
            // Limits refer to users, so they go before any of these does.
            if wanted.allowed != present.allowed || wanted.users != present.users {
                Allowed::default().replace(file)?;
            }
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
            if wanted.allowed != present.allowed || wanted.users != present.users {
                wanted.allowed.replace(file)?;
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
