//! Who changed what on the admin plane. A change and its row are one transaction: there is no change without a row.
//!
//! Rows hold what the lists show, before and after; a secret is in neither. Nothing here changes or removes a row.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::connection::StoreConnection;
use super::keys::read_id;
use super::page::{Cursor, Page, PageSize, display, wall_text};
use super::schema::audit;
use super::{StorageError, Store};
use crate::domain::ids::AuditId;
use crate::domain::time::{WallTime, wall_now};

/// Who makes a change, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// `admin` for the first admin key, the id of another one, `local` at the database file.
    pub actor: String,
    pub name: String,
    pub address: Option<String>,
    pub request_id: Option<String>,
}

impl By {
    /// Someone who works on the database file itself: a command beside the gateway, or the gateway on its own.
    pub fn local() -> Self {
        Self { actor: "local".to_owned(), name: "the command line".to_owned(), address: None, request_id: None }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Change)]
pub struct AuditRow {
    #[serde(serialize_with = "display")]
    #[schema(value_type = String)]
    pub id: AuditId,
    #[serde(serialize_with = "wall_text")]
    #[schema(value_type = String, format = DateTime)]
    pub at: WallTime,
    /// `admin` for the first admin key, the id of another one, `local` for a command at the database file.
    pub actor: String,
    pub actor_name: String,
    pub address: Option<String>,
    /// The `x-request-id` of the request that did it.
    pub request_id: Option<String>,
    /// `key.created`, `key.changed`, `key.rotated`, `key.revoked`, `user.created`, …
    pub action: String,
    /// The id or name of what was changed.
    pub target: String,
    /// As it was; null where there was nothing.
    pub before: Option<Value>,
    /// As it is since.
    pub after: Option<Value>,
}

/// Which changes; what is None does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub target: Option<String>,
    /// At or after.
    pub from: Option<WallTime>,
    /// Before.
    pub to: Option<WallTime>,
}

/// What a row says beside who and when.
pub(super) struct Change<'a> {
    pub action: &'a str,
    pub target: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// The members of a list's row; what cannot be written as JSON does not occur in one.
pub(super) fn shown(row: &impl Serialize) -> Option<Value> {
    serde_json::to_value(row).ok()
}

/// Takes its id inside the transaction, so that ids are in the order in which changes become visible.
pub(super) fn note(connection: &mut StoreConnection, by: &By, change: Change<'_>) -> Result<(), StorageError> {
    let text = |value: Option<Value>| value.map(|value| value.to_string());
    diesel::insert_into(audit::table)
        .values((
            audit::id.eq(AuditId::generate().0.as_bytes().to_vec()),
            audit::at.eq(wall_now().0),
            audit::actor.eq(&by.actor),
            audit::actor_name.eq(&by.name),
            audit::address.eq(&by.address),
            audit::request_id.eq(&by.request_id),
            audit::action.eq(change.action),
            audit::target.eq(change.target),
            audit::before.eq(text(change.before)),
            audit::after.eq(text(change.after)),
        ))
        .execute(connection)?;
    Ok(())
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = audit)]
struct Row {
    id: Vec<u8>,
    at: i64,
    actor: String,
    actor_name: String,
    address: Option<String>,
    request_id: Option<String>,
    action: String,
    target: String,
    before: Option<String>,
    after: Option<String>,
}

impl Store {
    /// A change of something that is not in the database: a drain, a reload.
    pub fn note_change(&self, by: &By, action: &str, target: &str, after: Value) -> Result<(), StorageError> {
        let change = Change { action, target: target.to_owned(), before: None, after: Some(after) };
        self.write(|connection| note(connection, by, change))
    }

    /// Newest first.
    pub fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<Cursor>,
        size: PageSize,
    ) -> Result<Page<AuditRow>, StorageError> {
        let mut query =
            audit::table.select(Row::as_select()).order(audit::id.desc()).limit(size.with_one_more()).into_boxed();
        if let Some(cursor) = &cursor {
            query = query.filter(audit::id.lt(cursor.bytes()));
        }
        if let Some(actor) = &filter.actor {
            query = query.filter(audit::actor.eq(actor));
        }
        if let Some(action) = &filter.action {
            query = query.filter(audit::action.eq(action));
        }
        if let Some(target) = &filter.target {
            query = query.filter(audit::target.eq(target));
        }
        if let Some(from) = filter.from {
            query = query.filter(audit::at.ge(from.0));
        }
        if let Some(to) = filter.to {
            query = query.filter(audit::at.lt(to.0));
        }
        let rows: Vec<Row> = query.load(&mut *self.reader()?)?;
        let rows = rows.into_iter().map(AuditRow::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, size, |row| Cursor::after(row.id.0)))
    }

    /// What came after a change, oldest first; a bounded number at once.
    pub fn changes_after(&self, known: AuditId) -> Result<Vec<AuditRow>, StorageError> {
        const AT_ONCE: i64 = 100;
        let rows: Vec<Row> = audit::table
            .select(Row::as_select())
            .filter(audit::id.gt(known.0.as_bytes().to_vec()))
            .order(audit::id.asc())
            .limit(AT_ONCE)
            .load(&mut *self.reader()?)?;
        rows.into_iter().map(AuditRow::read).collect()
    }
}

impl AuditRow {
    fn read(row: Row) -> Result<Self, StorageError> {
        let json = |text: Option<String>, place| {
            let value = text.map(|text| serde_json::from_str(&text)).transpose();
            value.map_err(|error| StorageError::Unreadable { place, cause: error.to_string() })
        };
        Ok(Self {
            id: AuditId(read_id(&row.id, "audit.id")?),
            at: WallTime(row.at),
            actor: row.actor,
            actor_name: row.actor_name,
            address: row.address,
            request_id: row.request_id,
            action: row.action,
            target: row.target,
            before: json(row.before, "audit.before")?,
            after: json(row.after, "audit.after")?,
        })
    }
}
