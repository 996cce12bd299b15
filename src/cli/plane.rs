//! Where commands about keys, users and usage go: to the gateway that serves, over its admin plane, or to the database
//! that the settings name where none does. Either way they say and answer the same JSON.
//!
//! `--url` chooses a gateway. Without it, the gateway that serves the settings' database is asked at the address it
//! has left there, if its admin key is known; else the database itself is the place, and a running gateway notices
//! within a second.

use serde::Serialize;
use serde_json::{Value, json};

use super::Common;
use super::admin_client::{AdminClient, Failure, Reach};
use crate::domain::time::{WallTime, wall_now};
use crate::http::admin::{key_body, terms_of};
use crate::settings::{self, Settings};
use crate::storage::audit::By;
use crate::storage::key_changes::{Changed, KeyFilter, KeyState, Rotated};
use crate::storage::keys::{KeyRow, Revoked};
use crate::storage::page::{Page, PageSize};
use crate::storage::quotas;
use crate::storage::secret_key::KeySecret;
use crate::storage::usage::UsageFilter;
use crate::storage::users::{Deleted, OwnedKeys, Renamed, UserRow};
use crate::storage::{Served, StorageError, Store};

pub enum Plane {
    Gateway(AdminClient),
    Database(Box<Beside>),
}

/// The database, and the settings by which a gateway on it would judge.
pub struct Beside {
    store: Store,
    settings: Settings,
}

/// Whether a database that is not there yet is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Existing,
    Made,
}

/// Which keys are listed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub user: Option<String>,
    pub state: Option<KeyState>,
    pub part: Option<String>,
}

impl Plane {
    pub fn reach(reach: &Reach, common: &Common, database: Database) -> Result<Self, Failure> {
        if reach.url.is_some() {
            return AdminClient::new(reach, common).map(Self::Gateway);
        }
        let settings = settings::load(&common.source()).map_err(Failure::Settings)?.settings;
        let opened = match database {
            Database::Existing => Store::existing(&settings.database, settings.accounting.durability),
            Database::Made => Store::beside(&settings.database, settings.accounting.durability),
        };
        let store = opened?;
        if store.served() == Served::ByAGateway
            && let Some(url) = store.serving_address()?
            && (reach.admin_key.is_some() || settings.admin.key.is_some())
        {
            let there = Reach { url: Some(url), admin_key: reach.admin_key.clone() };
            let client = AdminClient::new(&there, common)?;
            // A gateway that this process cannot reach (in a container, say) has its database here all the same.
            match client.get("/keys?limit=1") {
                Err(Failure::Silent { .. }) => {}
                Err(other) => return Err(other),
                Ok(_) => return Ok(Self::Gateway(client)),
            }
        }
        Ok(Self::Database(Box::new(Beside { store, settings })))
    }

    /// Whether a gateway serves whose database was changed without it: it looks twice a second.
    pub fn is_beside_a_gateway(&self) -> bool {
        match self {
            Self::Gateway(_) => false,
            Self::Database(beside) => beside.store.served() == Served::ByAGateway,
        }
    }

    pub fn keys(&self, wanted: &Wanted) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Gateway(client) => {
                let state = wanted.state.map(|state| state.label().to_owned());
                let parameters = [("user", &wanted.user), ("state", &state), ("q", &wanted.part)];
                client.list("/keys", &given(&parameters))
            }
            Self::Database(beside) => {
                let store = &beside.store;
                let user = match &wanted.user {
                    None => None,
                    Some(text) => match user_of(store, text)? {
                        Some(user) => Some(user.id),
                        None => return Ok(Vec::new()),
                    },
                };
                let filter = KeyFilter { user, state: wanted.state, part: wanted.part.clone() };
                every(|cursor| store.keys_page(&filter, cursor, PageSize::new(200)))
            }
        }
    }

    /// Those that a person may mean by an id, a name, or the public beginning of a secret.
    pub fn keys_called(&self, text: &str) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Gateway(client) if text.starts_with("key_") => client.find("/keys", text),
            Self::Gateway(client) => {
                let all = client.list("/keys", &[("q", text)])?;
                Ok(all.into_iter().filter(|key| key["name"] == text || key["prefix"] == text).collect())
            }
            Self::Database(beside) => values(beside.store.find_keys(text)?),
        }
    }

    pub fn make_key(&self, body: &Value) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => client.post("/keys", body),
            Self::Database(beside) => beside.make_key(body),
        }
    }

    pub fn change_key(&self, id: &str, patch: &Value) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => client.patch(&format!("/keys/{id}"), patch),
            Self::Database(beside) => beside.change_key(id, patch),
        }
    }

    /// What it may use, and where a gateway says so, what it has used; null where nothing is limited.
    pub fn quota(&self, id: &str) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => client.get(&format!("/keys/{id}/quota")),
            Self::Database(beside) => {
                let owner = quotas::Owner::Key(parsed(id)?);
                let found = beside.store.quotas()?.into_iter().find(|quota| quota.owner == owner);
                Ok(found.map_or(Value::Null, |quota| quota.terms.shown()))
            }
        }
    }

    /// Null takes it away.
    pub fn set_quota(&self, id: &str, quota: &Value) -> Result<Value, Failure> {
        let body = if quota.is_null() { json!({}) } else { quota.clone() };
        match self {
            Self::Gateway(client) => client.put(&format!("/keys/{id}/quota"), &body),
            Self::Database(beside) => {
                let terms = terms_of(body.to_string().as_bytes());
                let terms = terms.map_err(|error| Failure::Invalid(error.to_string()))?;
                match beside.store.set_quota(quotas::Owner::Key(parsed(id)?), terms.as_ref(), &By::local())? {
                    quotas::Changed::Yes => self.quota(id),
                    quotas::Changed::Nothing => Err(Failure::Refused(format!("there is no key {id}"))),
                }
            }
        }
    }

    pub fn rotate_key(&self, id: &str, grace: std::time::Duration, secret: Option<&str>) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => {
                let grace = humantime::format_duration(grace).to_string();
                client.post(&format!("/keys/{id}/rotate"), &json!({ "grace": grace, "secret": secret }))
            }
            Self::Database(beside) => {
                let secret = secret.map_or_else(KeySecret::generate, KeySecret::chosen);
                let secret = secret.map_err(|error| Failure::Invalid(error.to_string()))?;
                match beside.store.rotate_key(parsed(id)?, &secret, grace, &By::local()).map_err(taken)? {
                    Rotated::Done(key) => with_secret(&key, &secret, Vec::new()),
                    Rotated::Revoked => Err(Failure::Refused("the key is revoked; make a new one".to_owned())),
                    Rotated::NoSuchKey => Err(Failure::Refused(format!("there is no key {id}"))),
                }
            }
        }
    }

    /// Whether it was this that ended the key.
    pub fn revoke_key(&self, id: &str) -> Result<Revoked, Failure> {
        match self {
            Self::Gateway(client) => {
                let before = client.get(&format!("/keys/{id}"))?;
                client.delete(&format!("/keys/{id}"))?;
                Ok(if before["revoked_at"].is_null() { Revoked::Now } else { Revoked::Before })
            }
            Self::Database(beside) => Ok(beside.store.revoke_key_by(parsed(id)?, &By::local())?),
        }
    }

    pub fn users(&self, part: Option<&str>) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Gateway(client) => client.list("/users", &given(&[("q", &part.map(str::to_owned))])),
            Self::Database(beside) => every(|cursor| beside.store.list_users(part, cursor, PageSize::new(200))),
        }
    }

    /// The one of this id or name.
    pub fn user(&self, text: &str) -> Result<Option<Value>, Failure> {
        match self {
            Self::Gateway(client) if text.starts_with("user_") => Ok(client.find("/users", text)?.pop()),
            Self::Gateway(client) => {
                Ok(client.list("/users", &[("q", text)])?.into_iter().find(|user| user["name"] == text))
            }
            Self::Database(beside) => Ok(user_of(&beside.store, text)?.map(|user| json!(user))),
        }
    }

    pub fn make_user(&self, name: &str) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => client.post("/users", &json!({ "name": name })),
            Self::Database(beside) => Ok(json!(beside.store.create_user(name, &By::local()).map_err(taken)?)),
        }
    }

    pub fn rename_user(&self, id: &str, name: &str) -> Result<Value, Failure> {
        match self {
            Self::Gateway(client) => client.patch(&format!("/users/{id}"), &json!({ "name": name })),
            Self::Database(beside) => {
                match beside.store.rename_user(parsed(id)?, None, name, &By::local()).map_err(taken)? {
                    Renamed::Done(user) => Ok(json!(user)),
                    Renamed::Raced | Renamed::NoSuchUser => Err(Failure::Refused(format!("there is no user {id}"))),
                }
            }
        }
    }

    pub fn delete_user(&self, id: &str, keys: OwnedKeys) -> Result<(), Failure> {
        match self {
            Self::Gateway(client) => {
                let query = match keys {
                    OwnedKeys::Keep => "",
                    OwnedKeys::Revoke => "?keys=revoke",
                };
                client.delete(&format!("/users/{id}{query}"))
            }
            Self::Database(beside) => match beside.store.delete_user(parsed(id)?, keys, &By::local())? {
                Deleted::Now { .. } => Ok(()),
                Deleted::HasKeys(count) => Err(Failure::Refused(format!(
                    "the user has {count} usable keys; revoke them first, or add --revoke-keys"
                ))),
                Deleted::NoSuchUser => Err(Failure::Refused(format!("there is no user {id}"))),
            },
        }
    }

    /// `query` says to a gateway what `filter` says to a database.
    pub fn usage(&self, filter: &UsageFilter, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        match self {
            Self::Gateway(client) => client.list("/usage", query),
            Self::Database(beside) => values(beside.store.usage(filter)?),
        }
    }
}

impl Beside {
    fn make_key(&self, body: &Value) -> Result<Value, Failure> {
        let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        let read = key_body::new_key(body.to_string().as_bytes(), &self.settings);
        let ((spec, secret, quota), warnings) = read.map_err(|error| invalid(&error))?;
        let made = self.store.make_key(spec, secret.clone(), quota, &By::local()).map_err(taken)?;
        let key = made.ok_or_else(|| invalid(&"there is no user of this id"))?;
        with_secret(&key, &secret, warnings)
    }

    fn change_key(&self, id: &str, patch: &Value) -> Result<Value, Failure> {
        let no_key = || Failure::Refused(format!("there is no key {id}"));
        let key = self.store.key(parsed(id)?)?.ok_or_else(no_key)?;
        if key.revoked_at.is_some() {
            return Err(Failure::Refused("the key is revoked and stays as it is; make a new one".to_owned()));
        }
        let read = key_body::changed_key(&key, patch.to_string().as_bytes(), &self.settings);
        let (spec, warnings) = read.map_err(|error| Failure::Invalid(error.to_string()))?;
        match self.store.change_key(&key, &spec, &By::local())? {
            Changed::Done(key) => {
                let mut value = json!(*key);
                warned(&mut value, warnings);
                Ok(value)
            }
            Changed::Raced => Err(Failure::Refused("somebody else changes this key; try again".to_owned())),
            Changed::NoSuchUser => Err(Failure::Invalid("there is no such user".to_owned())),
        }
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(id: &str) -> Result<T, Failure> {
    id.parse().map_err(|error: T::Err| Failure::Invalid(format!("`{id}`: {error}")))
}

fn taken(error: StorageError) -> Failure {
    match error.is_conflict() {
        true => Failure::Refused("this name or secret is in use already; choose another one".to_owned()),
        false => error.into(),
    }
}

fn user_of(store: &Store, text: &str) -> Result<Option<UserRow>, Failure> {
    Ok(match text.parse() {
        Ok(id) => store.user(id)?,
        Err(_) => store.user_named(text)?,
    })
}

fn with_secret(key: &KeyRow, secret: &KeySecret, warnings: Vec<String>) -> Result<Value, Failure> {
    let mut value = json!(key);
    value["secret"] = json!(secret.text);
    warned(&mut value, warnings);
    Ok(value)
}

fn warned(value: &mut Value, warnings: Vec<String>) {
    if !warnings.is_empty() {
        value["warnings"] = json!(warnings);
    }
}

fn values<T: Serialize>(rows: Vec<T>) -> Result<Vec<Value>, Failure> {
    Ok(rows.iter().map(|row| json!(row)).collect())
}

/// All pages.
fn every<T: Serialize>(
    page: impl Fn(Option<crate::storage::page::Cursor>) -> Result<Page<T>, StorageError>,
) -> Result<Vec<Value>, Failure> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let next = page(cursor)?;
        all.extend(next.data.iter().map(|row| json!(row)));
        // A cursor that we made reads back.
        cursor = next.next_cursor.and_then(|cursor| cursor.parse().ok());
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

fn given<'a>(parameters: &'a [(&'a str, &'a Option<String>)]) -> Vec<(&'a str, &'a str)> {
    parameters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect()
}

/// The state of a listed key.
pub fn state_of(key: &Value) -> &'static str {
    let moment = |name: &str| key[name].as_str()?.parse::<jiff::Timestamp>().ok();
    if !key["revoked_at"].is_null() {
        KeyState::Revoked.label()
    } else if moment("expires_at").is_some_and(|at| WallTime(at.as_microsecond()) <= wall_now()) {
        KeyState::Expired.label()
    } else {
        KeyState::Active.label()
    }
}
