//! Credentials of the admin plane beside the first admin key. As with callers' keys, only a hash of the secret is kept,
//! a revoked one keeps its row, and every change raises `keys_version`, so that each gateway learns of it.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::{self, By, Change};
use super::connection::StoreConnection;
use super::keys::{Revoked, read_id};
use super::page::{Cursor, Page, PageSize, display, wall_text, wall_text_opt};
use super::schema::admin_keys;
use super::{StorageError, Store, meta};
use crate::domain::ids::AdminKeyId;
use crate::domain::scope::Scope;
use crate::domain::time::{WallTime, wall_now};

/// A credential as the lists show it: without its hash.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AdminKey)]
pub struct AdminKeyRow {
    #[serde(serialize_with = "display")]
    #[schema(value_type = String)]
    pub id: AdminKeyId,
    pub name: String,
    #[serde(skip)]
    pub hash: [u8; 32],
    #[serde(serialize_with = "labels")]
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<Scope>,
    #[serde(serialize_with = "wall_text_opt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<WallTime>,
    #[serde(serialize_with = "wall_text_opt")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<WallTime>,
    #[serde(serialize_with = "wall_text")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: WallTime,
}

type Columns = (Vec<u8>, String, Vec<u8>, String, i64, Option<i64>, Option<i64>);

impl Store {
    /// All that were ever made: what the gateway's table in memory is made of.
    pub fn load_admin_keys(&self) -> Result<Vec<AdminKeyRow>, StorageError> {
        let rows: Vec<Columns> = admin_keys::table.load(&mut *self.reader_or_copy()?)?;
        rows.into_iter().map(AdminKeyRow::read).collect()
    }

    /// Newest first.
    pub fn list_admin_keys(&self, cursor: Option<Cursor>, size: PageSize) -> Result<Page<AdminKeyRow>, StorageError> {
        let mut query = admin_keys::table.order(admin_keys::id.desc()).limit(size.with_one_more()).into_boxed();
        if let Some(cursor) = &cursor {
            query = query.filter(admin_keys::id.lt(cursor.bytes()));
        }
        let rows: Vec<Columns> = query.load(&mut *self.reader()?)?;
        let rows = rows.into_iter().map(AdminKeyRow::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, size, |row| Cursor::after(row.id.0)))
    }

    pub fn admin_key(&self, id: AdminKeyId) -> Result<Option<AdminKeyRow>, StorageError> {
        find(&mut *self.reader()?, id)
    }

    pub fn create_admin_key(
        &self,
        name: &str,
        hash: [u8; 32],
        scopes: &[Scope],
        expires_at: Option<WallTime>,
        by: &By,
    ) -> Result<AdminKeyRow, StorageError> {
        let (name, scopes, created_at) = (name.to_owned(), scopes.to_vec(), wall_now());
        let row =
            AdminKeyRow { id: AdminKeyId::generate(), name, hash, scopes, expires_at, revoked_at: None, created_at };
        let labels: Vec<_> = row.scopes.iter().map(|scope| scope.label()).collect();
        self.write(|connection| {
            diesel::insert_into(admin_keys::table)
                .values((
                    admin_keys::id.eq(row.id.0.as_bytes().to_vec()),
                    admin_keys::name.eq(&row.name),
                    admin_keys::hash.eq(row.hash.to_vec()),
                    admin_keys::scopes.eq(serde_json::Value::from(labels).to_string()),
                    admin_keys::created_at.eq(row.created_at.0),
                    admin_keys::expires_at.eq(row.expires_at.map(|at| at.0)),
                ))
                .execute(connection)?;
            meta::raise_keys_version(connection)?;
            let (target, after) = (row.id.to_string(), audit::shown(&row));
            audit::note(connection, by, Change { action: "admin_key.created", target, before: None, after })?;
            Ok(row)
        })
    }

    /// Doing it twice is fine; the first time counts.
    pub fn revoke_admin_key(&self, id: AdminKeyId, by: &By) -> Result<Revoked, StorageError> {
        self.write(|connection| {
            let Some(before) = find(connection, id)? else { return Ok(Revoked::NoSuchKey) };
            if before.revoked_at.is_some() {
                return Ok(Revoked::Before);
            }
            let after = AdminKeyRow { revoked_at: Some(wall_now()), ..before.clone() };
            diesel::update(admin_keys::table.find(id.0.as_bytes().to_vec()))
                .set(admin_keys::revoked_at.eq(after.revoked_at.map(|at| at.0)))
                .execute(connection)?;
            meta::raise_keys_version(connection)?;
            let (target, before, after) = (id.to_string(), audit::shown(&before), audit::shown(&after));
            audit::note(connection, by, Change { action: "admin_key.revoked", target, before, after })?;
            Ok(Revoked::Now)
        })
    }
}

fn find(connection: &mut StoreConnection, id: AdminKeyId) -> Result<Option<AdminKeyRow>, StorageError> {
    let row: Option<Columns> = admin_keys::table.find(id.0.as_bytes().to_vec()).first(connection).optional()?;
    row.map(AdminKeyRow::read).transpose()
}

impl AdminKeyRow {
    fn read((id, name, hash, scopes, created_at, expires_at, revoked_at): Columns) -> Result<Self, StorageError> {
        let unreadable =
            |place, cause: &dyn std::fmt::Display| StorageError::Unreadable { place, cause: cause.to_string() };
        let place = "admin_keys.scopes";
        let labels: Vec<String> = serde_json::from_str(&scopes).map_err(|error| unreadable(place, &error))?;
        let scopes = labels.iter().map(|label| label.parse().map_err(|error| unreadable(place, &error)));
        Ok(Self {
            id: AdminKeyId(read_id(&id, "admin_keys.id")?),
            name,
            hash: hash.try_into().map_err(|_| unreadable("admin_keys.hash", &"not 32 bytes"))?,
            scopes: scopes.collect::<Result<_, _>>()?,
            expires_at: expires_at.map(WallTime),
            revoked_at: revoked_at.map(WallTime),
            created_at: WallTime(created_at),
        })
    }
}

fn labels<S: serde::Serializer>(scopes: &[Scope], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(scopes.iter().map(|scope| scope.label()))
}
