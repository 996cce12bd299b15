//! Keys and the users they belong to.
//!
//! A revoked key keeps its row, because its requests go on naming it. Every change raises `keys_version` in the same
//! transaction, by which a running gateway learns what another process did. How a secret looks is in `secret_key`.

use diesel::prelude::*;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::audit::{self, By, Change};
use super::connection::StoreConnection;
use super::key_changes::KeyFilter;
use super::page::{Cursor, Page, PageSize, wall_text, wall_text_opt};
use super::quotas::{Owner, QuotaTerms, insert_quota};
use super::schema::{keys, users};
use super::secret_key::{self, KeySecret};
use super::{StorageError, Store, key_changes, meta};
use crate::domain::class::Class;
use crate::domain::ids::{KeyId, ModelName, UserId};
use crate::domain::regions::{RegionCode, Regions};
use crate::domain::time::{WallTime, wall_now};

/// A key as the gateway's table and the lists need it. Serialises without its hash.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyRow {
    #[serde(serialize_with = "super::page::display")]
    #[schema(value_type = String)]
    pub id: KeyId,
    pub name: String,
    pub user: Option<KeyUser>,
    #[serde(skip)]
    pub hash: [u8; 32],
    /// What may be shown of the secret; empty when it was chosen.
    pub prefix: String,
    /// None: every model.
    #[serde(serialize_with = "names")]
    #[schema(value_type = Option<Vec<String>>)]
    pub models: Option<Vec<ModelName>>,
    /// Null where it is served from everywhere.
    #[serde(serialize_with = "region_codes")]
    #[schema(value_type = Option<Vec<String>>)]
    pub regions: Regions,
    #[serde(serialize_with = "super::page::display")]
    #[schema(value_type = String)]
    pub class: Class,
    pub limits: KeyLimits,
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

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct KeyUser {
    #[serde(serialize_with = "super::page::display")]
    #[schema(value_type = String)]
    pub id: UserId,
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeyLimits {
    /// Requests per minute: a number, "unlimited", or null for the settings' default.
    #[schema(value_type = Option<Value>)]
    pub rpm: Limit,
    /// Tokens per minute, likewise.
    #[schema(value_type = Option<Value>)]
    pub tpm: Limit,
    /// Requests at the same time, likewise.
    #[schema(value_type = Option<Value>)]
    pub concurrency: Limit,
}

/// One limit of a key. Serialises as null, `"unlimited"` or the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// What the settings say for keys that set none.
    #[default]
    Inherit,
    Unlimited,
    Of(u32),
}

/// What a new key shall be.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub name: String,
    /// By name; made if there is none of that name.
    pub user: Option<String>,
    pub secret: KeySecret,
    pub models: Option<Vec<ModelName>>,
    pub regions: Regions,
    pub class: Class,
    pub limits: KeyLimits,
    pub quota: Option<QuotaTerms>,
    pub expires_at: Option<WallTime>,
}

/// What revoking found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    Now,
    Before,
    NoSuchKey,
}

pub(super) type Columns = (
    Vec<u8>,
    String,
    Vec<u8>,
    String,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
    String,
    Option<i64>,
    Option<(Vec<u8>, String)>,
);

/// The columns of a [`KeyRow`], for each query that reads one.
macro_rules! select_rows {
    () => {
        keys::table.left_join(users::table).select((
            keys::id,
            keys::name,
            keys::hash,
            keys::prefix,
            keys::models,
            keys::rpm,
            keys::concurrency,
            keys::created_at,
            keys::expires_at,
            keys::revoked_at,
            keys::regions,
            keys::class,
            keys::tpm,
            (users::id, users::name).nullable(),
        ))
    };
}

pub(super) use select_rows;

impl Store {
    /// Every key, revoked and expired ones too: what the gateway's in-memory table is made of.
    pub fn load_all(&self) -> Result<Vec<KeyRow>, StorageError> {
        let rows: Vec<Columns> = select_rows!().load(&mut *self.reader_or_copy()?)?;
        rows.into_iter().map(KeyRow::read).collect()
    }

    /// Newest first.
    pub fn list_keys(&self, cursor: Option<Cursor>, size: PageSize) -> Result<Page<KeyRow>, StorageError> {
        self.keys_page(&KeyFilter::default(), cursor, size)
    }

    pub fn key(&self, id: KeyId) -> Result<Option<KeyRow>, StorageError> {
        let row: Option<Columns> =
            select_rows!().filter(keys::id.eq(id.0.as_bytes().as_slice())).first(&mut *self.reader()?).optional()?;
        row.map(KeyRow::read).transpose()
    }

    /// Those that a person may mean by an id, a name, or the public beginning of a secret.
    pub fn find_keys(&self, text: &str) -> Result<Vec<KeyRow>, StorageError> {
        if let Ok(id) = text.parse() {
            return Ok(self.key(id)?.into_iter().collect());
        }
        // Nothing is looked up by an empty prefix: that is every chosen secret.
        let rows: Vec<Columns> = select_rows!()
            .filter(keys::name.eq(text).or(keys::prefix.eq(text).and(keys::prefix.ne(""))))
            .order(keys::id.desc())
            .load(&mut *self.reader()?)?;
        rows.into_iter().map(KeyRow::read).collect()
    }

    /// A conflict (`StorageError::is_conflict`) means that the secret is in use.
    pub fn create_key(&self, new: &NewKey) -> Result<KeyRow, StorageError> {
        self.create_key_by(new, &By::local())
    }

    pub fn create_key_by(&self, new: &NewKey, by: &By) -> Result<KeyRow, StorageError> {
        let id = KeyId::generate();
        let now = wall_now();
        let hash = secret_key::hash(&new.secret.text);
        let list = |names: Vec<&str>| serde_json::Value::from(names).to_string();
        let models = new.models.as_ref().map(|models| list(models.iter().map(ModelName::as_str).collect()));
        let regions = new.regions.named().map(|codes| list(codes.iter().map(RegionCode::as_str).collect()));
        self.write(|connection| {
            key_changes::refuse_old(connection, &hash)?;
            let user = new.user.as_deref().map(|name| find_or_create_user(connection, name, by)).transpose()?;
            diesel::insert_into(keys::table)
                .values((
                    keys::id.eq(id.0.as_bytes().as_slice()),
                    keys::name.eq(&new.name),
                    keys::user_id.eq(user.as_ref().map(|user| user.id.0.as_bytes().to_vec())),
                    keys::hash.eq(hash.as_slice()),
                    keys::prefix.eq(&new.secret.prefix),
                    keys::models.eq(models),
                    keys::rpm.eq(new.limits.rpm.column()),
                    keys::tpm.eq(new.limits.tpm.column()),
                    keys::concurrency.eq(new.limits.concurrency.column()),
                    keys::created_at.eq(now.0),
                    keys::expires_at.eq(new.expires_at.map(|at| at.0)),
                    keys::regions.eq(regions),
                    keys::class.eq(new.class.label()),
                ))
                .execute(connection)?;
            if let Some(terms) = &new.quota {
                insert_quota(connection, Owner::Key(id), terms)?;
            }
            meta::raise_keys_version(connection)?;
            let row = KeyRow {
                id,
                name: new.name.clone(),
                user,
                hash,
                prefix: new.secret.prefix.clone(),
                models: new.models.clone(),
                regions: new.regions.clone(),
                class: new.class,
                limits: new.limits,
                expires_at: new.expires_at,
                revoked_at: None,
                created_at: now,
            };
            let (target, after) = (id.to_string(), audit::shown(&row));
            audit::note(connection, by, Change { action: "key.created", target, before: None, after })?;
            Ok(row)
        })
    }

    /// Doing it twice is fine; the first time counts.
    pub fn revoke_key(&self, id: KeyId) -> Result<Revoked, StorageError> {
        self.revoke_key_by(id, &By::local())
    }
}

pub(super) fn find_or_create_user(
    connection: &mut StoreConnection,
    name: &str,
    by: &By,
) -> Result<KeyUser, StorageError> {
    let theirs = users::table.filter(users::name.eq(name).and(users::deleted_at.is_null()));
    let found: Option<Vec<u8>> = theirs.select(users::id).first(connection).optional()?;
    match found {
        Some(id) => Ok(KeyUser { id: UserId(read_id(&id, "users.id")?), name: name.to_owned() }),
        None => super::users::insert(connection, name, by),
    }
}

impl KeyRow {
    pub(super) fn read(columns: Columns) -> Result<Self, StorageError> {
        let (
            id,
            name,
            hash,
            prefix,
            models,
            rpm,
            concurrency,
            created_at,
            expires_at,
            revoked_at,
            regions,
            class,
            tpm,
            user,
        ) = columns;
        let unreadable =
            |place, cause: &dyn std::fmt::Display| StorageError::Unreadable { place, cause: cause.to_string() };
        let list = |column: Option<String>, place| -> Result<Option<Vec<String>>, StorageError> {
            let names = column.map(|text| serde_json::from_str(&text)).transpose();
            names.map_err(|error| unreadable(place, &error))
        };
        let (models, regions) = (list(models, "keys.models")?, list(regions, "keys.regions")?);
        Ok(Self {
            id: KeyId(read_id(&id, "keys.id")?),
            name,
            user: user
                .map(|(id, name)| read_id(&id, "users.id").map(|id| KeyUser { id: UserId(id), name }))
                .transpose()?,
            hash: hash.try_into().map_err(|_| unreadable("keys.hash", &"not 32 bytes"))?,
            prefix,
            models: models.map(|models| models.into_iter().map(ModelName::from).collect()),
            regions: regions
                .map_or_else(Regions::default, |names| Regions::only(names.iter().map(|name| RegionCode::of(name)))),
            class: class.parse().map_err(|error| unreadable("keys.class", &error))?,
            limits: KeyLimits { rpm: Limit::read(rpm), tpm: Limit::read(tpm), concurrency: Limit::read(concurrency) },
            expires_at: expires_at.map(WallTime),
            revoked_at: revoked_at.map(WallTime),
            created_at: WallTime(created_at),
        })
    }
}

impl Limit {
    pub(super) fn column(self) -> Option<i64> {
        match self {
            Self::Inherit => None,
            Self::Unlimited => Some(-1),
            Self::Of(limit) => Some(i64::from(limit)),
        }
    }

    pub(super) fn read(column: Option<i64>) -> Self {
        match column {
            None => Self::Inherit,
            Some(limit) => u32::try_from(limit).map_or(Self::Unlimited, Self::Of),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inherit => serializer.serialize_none(),
            Self::Unlimited => serializer.serialize_str("unlimited"),
            Self::Of(limit) => serializer.serialize_u32(*limit),
        }
    }
}

fn names<S: serde::Serializer>(models: &Option<Vec<ModelName>>, serializer: S) -> Result<S::Ok, S::Error> {
    models.as_ref().map(|models| models.iter().map(ModelName::as_str).collect::<Vec<_>>()).serialize(serializer)
}

fn region_codes<S: serde::Serializer>(regions: &Regions, serializer: S) -> Result<S::Ok, S::Error> {
    regions.named().map(|codes| codes.iter().map(RegionCode::as_str).collect::<Vec<_>>()).serialize(serializer)
}

pub(super) fn read_id(bytes: &[u8], place: &'static str) -> Result<Uuid, StorageError> {
    Uuid::from_slice(bytes).map_err(|error| StorageError::Unreadable { place, cause: error.to_string() })
}
