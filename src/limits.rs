//! Who may call, and how much: the in-memory key table of the request path, each caller's limits and quotas.
//!
//! `meter` has the limits per minute, `quota` what a period allows, `gate` the one way past all of them: an [`Admission`].
//! A user's limits and quota are shared by all of their keys. An unknown key costs one hash and one look-up, never a query.

mod alarms;
mod gate;
mod guests;
mod lasting;
mod lending;
mod meter;
mod quota;
mod refusal;
mod watching;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub use alarms::{Alarms, QuotaAlarm};
pub use gate::{Admission, Estimate, Permit, Prompt};
pub use lasting::Usable;
pub use meter::Figures;
pub use quota::{Quota, Tending};
pub use refusal::{Limited, QuotaShort, Whose};

use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::class::Class;
use crate::domain::demand::Whose as KeyOf;
use crate::domain::ids::{KeyId, ModelName, UserId};
use crate::domain::period::Zone;
use crate::domain::regions::Regions;
use crate::domain::time::{self, WallTime};
use crate::settings::model::Limits;
use crate::storage::key_changes::OldSecret;
use crate::storage::keys::{KeyLimits, KeyRow, Limit};
use crate::storage::quotas::Owner;
use crate::storage::{StorageError, Store, secret_key};
use lending::Lender;
use meter::{Meter, TokenLimit};
use quota::Quotas;

pub use guests::{Guest, Guests, Manners};

/// SHA-256 of a key, as `storage::secret_key::hash` makes it.
pub type KeyHash = [u8; 32];

/// What the database says of a usable key.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub key_id: KeyId,
    pub user_id: Option<UserId>,
    pub name: String,
    /// Canonical names or aliases; `None` = every model.
    pub models: Option<Vec<ModelName>>,
    /// From where it may be served.
    pub regions: Regions,
    /// With whose key of Azure's it is served.
    pub whose: KeyOf,
    pub class: Class,
    pub expires_at: Option<WallTime>,
    /// The key's own limits with the defaults filled in.
    pub limits: Limits,
}

/// A key in use: its grant and the state of its limits.
#[derive(Debug)]
pub struct Caller {
    pub grant: Grant,
    meter: Meter,
    /// Shared by the user's keys; none where the user has no limits.
    user: Option<Arc<Meter>>,
    /// The key's, then the user's.
    quotas: Vec<Arc<Quota>>,
}

impl Caller {
    fn new(grant: Grant, gateways: u32) -> Self {
        let meter = Meter::new(grant.limits, Whose::Key, gateways);
        Self { grant, meter, user: None, quotas: Vec::new() }
    }

    /// Takes one request from each limit. One that the user's limits refuse has counted against the key's rate.
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Limited> {
        let own = self.meter.place()?;
        let shared = self.user.as_ref().map(|user| user.place()).transpose()?;
        Ok(Permit::new(self.clone(), (Some(own), shared), self.take_request()?))
    }

    /// Takes one request of a session that has been admitted: it has its place already.
    pub fn admit_within(self: &Arc<Self>) -> Result<Permit, Limited> {
        Ok(Permit::new(self.clone(), (None, None), self.take_request()?))
    }

    /// For what a session's upstream has begun without being asked; it is under way whatever the limits say.
    pub fn admit_begun(self: &Arc<Self>) -> Permit {
        Permit::new(self.clone(), (None, None), None)
    }

    /// The key's own figures.
    fn take_request(&self) -> Result<Option<Figures>, Limited> {
        let figures = self.meter.take_request()?;
        if let Some(user) = &self.user {
            user.take_request()?;
        }
        Ok(figures)
    }

    /// Whether the key may use a model known by any of `names`.
    pub fn may_use(&self, names: &[&str]) -> bool {
        self.grant
            .models
            .as_ref()
            .is_none_or(|allowed| names.iter().any(|name| allowed.iter().any(|model| model.as_str() == *name)))
    }

    pub fn has_expired(&self, now: WallTime) -> bool {
        self.grant.expires_at.is_some_and(|expires_at| now >= expires_at)
    }

    pub fn in_flight(&self) -> u32 {
        self.meter.in_flight()
    }

    /// What the key's own tokens per minute look like now; none where they are not limited.
    pub fn token_figures(&self) -> Option<Figures> {
        self.meter.tokens().map(|(limit, _)| limit.figures(time::now()))
    }

    /// The key's, then the user's.
    pub fn quotas(&self) -> &[Arc<Quota>] {
        &self.quotas
    }

    /// What all keys of its user share per minute.
    pub fn user_limits(&self) -> Option<Limits> {
        self.user.as_ref().map(|user| user.limits)
    }

    fn counts_tokens(&self) -> bool {
        !self.quotas.is_empty() || self.token_limits().next().is_some()
    }

    fn token_limits(&self) -> impl Iterator<Item = (&Arc<TokenLimit>, Whose)> {
        self.meter.tokens().into_iter().chain(self.user.as_ref().and_then(|user| user.tokens()))
    }
}

/// Every usable key, by hash. Read on each request, replaced whole when keys or default limits change.
#[derive(Debug, Default)]
pub struct Callers {
    by_hash: RwLock<HashMap<KeyHash, Arc<Caller>>>,
    /// Those who bring no key of ours, where such are let in.
    pub guests: Guests,
    /// Secrets that a rotation replaced: looked at only when `by_hash` has none.
    old: RwLock<HashMap<KeyHash, (Arc<Caller>, WallTime)>>,
    /// Of users that have limits.
    users: Mutex<HashMap<UserId, Arc<Meter>>>,
    quotas: Quotas,
    /// Held from reading the database to replacing the table, so that of two loads the later reading wins.
    loading: Mutex<()>,
    /// Among how many gateways limits are divided; 0 is one, too.
    gateways: AtomicU32,
    /// For those who hold a caller for long.
    changes: watch::Sender<()>,
}

impl Callers {
    pub fn find(&self, hash: &KeyHash) -> Option<Arc<Caller>> {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// The caller of a key, by its id.
    pub fn find_by_id(&self, id: KeyId) -> Option<Arc<Caller>> {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        by_hash.values().find(|caller| caller.grant.key_id == id).cloned()
    }

    /// The caller of a secret that was replaced, as long as its grace lasts.
    pub fn find_old(&self, hash: &KeyHash, now: WallTime) -> Option<Usable> {
        let old = self.old.read().unwrap_or_else(PoisonError::into_inner);
        let (caller, until) = old.get(hash).filter(|(_, until)| now < *until)?;
        Some(Usable::of(caller.clone()).at_most_until(*until))
    }

    /// Those of keys that may not call are left out.
    pub fn replace_old(&self, secrets: impl IntoIterator<Item = OldSecret>) {
        let by_id = self.by_id();
        let known = |secret: OldSecret| Some((secret.hash, (by_id.get(&secret.key_id)?.clone(), secret.until)));
        *self.old.write().unwrap_or_else(PoisonError::into_inner) = secrets.into_iter().filter_map(known).collect();
    }

    fn by_id(&self) -> HashMap<KeyId, Arc<Caller>> {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        by_hash.values().map(|caller| (caller.grant.key_id, caller.clone())).collect()
    }

    /// Keys whose grant is unchanged keep the state of their limits, also under another secret, and changed ones their
    /// requests in flight.
    pub fn replace(&self, grants: impl IntoIterator<Item = (KeyHash, Grant)>) {
        let by_id = self.by_id();
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        let gateways = self.gateways.load(Relaxed);
        let fresh = grants
            .into_iter()
            .map(|(hash, grant)| {
                let user = grant.user_id.and_then(|user| users.get(&user)).cloned();
                let owners = [Some(Owner::Key(grant.key_id)), grant.user_id.map(Owner::User)];
                let quotas: Vec<_> = owners.into_iter().flatten().filter_map(|owner| self.quotas.find(owner)).collect();
                let caller = match by_id.get(&grant.key_id) {
                    Some(known) if known.is(&grant, user.as_ref(), &quotas) => known.clone(),
                    Some(known) => {
                        let meter = known.meter.changed(grant.limits, gateways);
                        Arc::new(Caller { grant, meter, user, quotas })
                    }
                    None => Arc::new(Caller { user, quotas, ..Caller::new(grant, gateways) }),
                };
                (hash, caller)
            })
            .collect();
        *by_hash = fresh;
    }

    /// From now on every limit per minute is divided among so many gateways.
    pub fn divide_among(&self, gateways: u32) {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.gateways.swap(gateways, Relaxed);
        if before.max(1) == gateways.max(1) {
            return;
        }
        tracing::info!(gateways, "limits are divided among the gateways at work");
        self.guests.divide_among(gateways);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        for meter in users.values_mut() {
            *meter = Arc::new(meter.changed(meter.limits, gateways));
        }
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        for caller in by_hash.values_mut() {
            let (grant, quotas) = (caller.grant.clone(), caller.quotas.clone());
            let user = grant.user_id.and_then(|user| users.get(&user)).cloned();
            let meter = caller.meter.changed(grant.limits, gateways);
            *caller = Arc::new(Caller { grant, meter, user, quotas });
        }
        let by_id: HashMap<_, _> = by_hash.values().map(|caller| (caller.grant.key_id, caller.clone())).collect();
        drop(by_hash);
        for (caller, _) in self.old.write().unwrap_or_else(PoisonError::into_inner).values_mut() {
            if let Some(divided) = by_id.get(&caller.grant.key_id) {
                *caller = divided.clone();
            }
        }
        self.tell_of_change();
    }

    /// Quotas are shared with the gateways on this server, which knows this one as `replica`. Before the first load.
    pub fn share_quotas(&self, store: &Store, replica: Uuid) {
        self.quotas.share(Lender { store: store.clone(), replica });
    }

    /// Tells which levels of shared quotas all gateways together have reached; blocks.
    pub fn watch_quotas(&self, store: &Store) -> Result<(), StorageError> {
        self.quotas.watch(store)
    }

    /// Gives back what other gateways may use of the quotas; blocks.
    pub fn tend_quotas(&self, how: Tending) -> Result<(), StorageError> {
        self.quotas.tend(how)
    }

    /// Reads every key from the database; blocks.
    pub fn load(&self, store: &Store, defaults: Limits, zone: &Zone) -> Result<(), StorageError> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = store.load_all()?;
        self.guests.load(
            defaults,
            self.gateways.load(Relaxed),
            rows.iter().filter(|row| row.revoked_at.is_some()).map(|row| row.hash),
        );
        let old = store.old_secrets(time::wall_now())?;
        self.load_users(store)?;
        self.quotas.load(store, zone)?;
        if let Err(error) = store.copy_keys() {
            tracing::warn!(%error, "the copy of the keys for a start without the database could not be refreshed");
        }
        // A secret that has just become an old one is never unknown in between: first it is added there.
        let usable: Vec<_> =
            rows.into_iter().filter(|row| row.revoked_at.is_none()).map(|row| grant(row, defaults)).collect();
        self.replace_old(old.iter().cloned());
        self.replace(usable);
        // Once more, now that the callers are what they stay.
        self.replace_old(old);
        self.tell_of_change();
        Ok(())
    }

    fn load_users(&self, store: &Store) -> Result<(), StorageError> {
        let limits = store.user_limits()?;
        let gateways = self.gateways.load(Relaxed);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = limits.into_iter().map(|(user, limits)| {
            let limits = shared(limits);
            let meter = match users.get(&user) {
                Some(known) if known.limits == limits => known.clone(),
                Some(known) => Arc::new(known.changed(limits, gateways)),
                None => Arc::new(Meter::new(limits, Whose::User, gateways)),
            };
            (user, meter)
        });
        *users = fresh.collect();
        Ok(())
    }

    /// Makes every quota's figure what the ledger says it is; blocks. Gives how many were not.
    pub fn reconcile(&self, store: &Store) -> Result<usize, StorageError> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        self.quotas.reconcile(store)
    }

    pub fn quota(&self, owner: Owner) -> Option<Arc<Quota>> {
        self.quotas.find(owner)
    }

    /// What tells that quotas are used up.
    pub fn alarms(&self) -> &Alarms {
        self.quotas.alarms()
    }

    pub fn len(&self) -> usize {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests in flight of all callers: zero when the house is quiet.
    pub fn in_flight(&self) -> u32 {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        by_hash.values().map(|caller| caller.in_flight()).sum::<u32>() + self.guests.in_flight()
    }

    /// Quotas of which requests in flight have something reserved: none when the house is quiet.
    pub fn reserved_quotas(&self) -> usize {
        self.quotas.reserved()
    }
}

impl Caller {
    /// Whether nothing about it has changed.
    fn is(&self, grant: &Grant, user: Option<&Arc<Meter>>, quotas: &[Arc<Quota>]) -> bool {
        self.grant == *grant
            && self.user.as_ref().map(Arc::as_ptr) == user.map(Arc::as_ptr)
            && self.quotas.iter().map(Arc::as_ptr).eq(quotas.iter().map(Arc::as_ptr))
    }
}

fn own_limit(own: Limit, default: Option<u32>) -> Option<u32> {
    match own {
        Limit::Inherit => default,
        Limit::Unlimited => None,
        Limit::Of(most) => Some(most),
    }
}

/// Of a user, who inherits nothing.
fn shared(limits: KeyLimits) -> Limits {
    let KeyLimits { rpm, tpm, concurrency } = limits;
    let [rpm, tpm, concurrency] = [rpm, tpm, concurrency].map(|limit| own_limit(limit, None));
    Limits { rpm, tpm, concurrency, burst: None }
}

fn grant(row: KeyRow, defaults: Limits) -> (KeyHash, Grant) {
    let limits = Limits {
        rpm: own_limit(row.limits.rpm, defaults.rpm),
        tpm: own_limit(row.limits.tpm, defaults.tpm),
        concurrency: own_limit(row.limits.concurrency, defaults.concurrency),
        // The default burst goes with the default rate.
        burst: defaults.burst.filter(|_| row.limits.rpm == Limit::Inherit),
    };
    let user_id = row.user.map(|user| user.id);
    let whose = if row.prefix.starts_with(secret_key::BROUGHT_PREFIX) { KeyOf::Callers } else { KeyOf::Ours };
    let KeyRow { id: key_id, name, hash, models, regions, class, expires_at, .. } = row;
    (hash, Grant { key_id, user_id, name, models, regions, whose, class, expires_at, limits })
}

#[cfg(test)]
mod tests;
