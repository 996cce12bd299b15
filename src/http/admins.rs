//! Who may use the admin plane: the first admin key, and the credentials that were made with it.
//!
//! The table is in memory, so a stranger's key costs one hash and no query. Every entry is compared, in constant time,
//! whichever it is: how long an answer takes says nothing about how close a guess was.

use std::sync::{PoisonError, RwLock};

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::domain::ids::AdminKeyId;
use crate::domain::scope::Scope;
use crate::domain::time::WallTime;
use crate::limits::KeyHash;
use crate::storage::admin_keys::AdminKeyRow;
use crate::storage::secret_key;

/// Someone whose key was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// None: the first admin key.
    pub id: Option<AdminKeyId>,
    pub name: String,
    pub scopes: Vec<Scope>,
}

impl Administrator {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|own| own.includes(scope))
    }

    /// What the audit calls them.
    pub fn label(&self) -> String {
        self.id.map_or_else(|| "admin".to_owned(), |id| id.to_string())
    }
}

#[derive(Debug)]
pub struct Admins {
    /// Of the settings, or generated at the first start; replaced by a reload.
    first: RwLock<KeyHash>,
    /// Not revoked; replaced whole when one changes.
    others: RwLock<Vec<AdminKeyRow>>,
}

impl Admins {
    pub fn new(first: KeyHash) -> Self {
        Self { first: RwLock::new(first), others: RwLock::default() }
    }

    pub fn replace_first(&self, hash: KeyHash) {
        *self.first.write().unwrap_or_else(PoisonError::into_inner) = hash;
    }

    pub fn replace(&self, rows: Vec<AdminKeyRow>) {
        let usable = rows.into_iter().filter(|row| row.revoked_at.is_none()).collect();
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = usable;
    }

    /// Whose key this is; an expired one is nobody's.
    pub fn find(&self, key: &str, now: WallTime) -> Option<Administrator> {
        const NOBODY: u32 = 0;
        const FIRST: u32 = 1;
        let hash = secret_key::hash(key);
        let first = *self.first.read().unwrap_or_else(PoisonError::into_inner);
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let entries = std::iter::once(&first).chain(others.iter().map(|row| &row.hash));
        let mut found = NOBODY;
        for (number, known) in (FIRST..).zip(entries) {
            let same: Choice = hash.ct_eq(known);
            found.conditional_assign(&number, same);
        }
        match found {
            NOBODY => None,
            FIRST => {
                Some(Administrator { id: None, name: "the first admin key".to_owned(), scopes: vec![Scope::Admin] })
            }
            other => {
                let row = others.get(usize::try_from(other - FIRST - 1).ok()?)?;
                let lasts = row.expires_at.is_none_or(|end| now < end);
                lasts.then(|| Administrator { id: Some(row.id), name: row.name.clone(), scopes: row.scopes.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(secret: &str, scope: Scope, expires_at: Option<WallTime>) -> AdminKeyRow {
        AdminKeyRow {
            id: AdminKeyId::generate(),
            name: secret.to_owned(),
            hash: secret_key::hash(secret),
            scopes: vec![scope],
            expires_at,
            revoked_at: None,
            created_at: WallTime(0),
        }
    }

    #[test]
    fn each_key_is_its_owners_and_no_other_is_anyones() {
        let admins = Admins::new(secret_key::hash("first"));
        let ended = AdminKeyRow { revoked_at: Some(WallTime(5)), ..row("revoked", Scope::Admin, None) };
        let rows = vec![row("one", Scope::Read, None), ended, row("two", Scope::KeysWrite, Some(WallTime(100)))];
        admins.replace(rows);
        let name = |key: &str, now| admins.find(key, WallTime(now)).map(|found| found.name);
        assert_eq!(name("first", 50).as_deref(), Some("the first admin key"));
        assert_eq!(name("one", 50).as_deref(), Some("one"));
        assert_eq!(name("two", 50).as_deref(), Some("two"));
        for (wrong, now) in [("revoked", 50), ("two", 100), ("", 50), ("firs", 50), ("first ", 50)] {
            assert_eq!(name(wrong, now), None, "{wrong} at {now}");
        }
        assert_eq!(name(&hex::encode(secret_key::hash("first")), 50), None, "what is stored opens nothing");
        let reader = admins.find("one", WallTime(50)).unwrap();
        assert!(reader.may(Scope::Read) && !reader.may(Scope::KeysWrite) && !reader.may(Scope::Admin));
    }
}
