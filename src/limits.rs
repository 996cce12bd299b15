//! Who may call, and how often: the in-memory key table of the request path and each caller's limits.
//!
//! Requests per minute are governor's; concurrency is a counter whose permit gives itself back. Tokens per minute and
//! quotas are not decided here. An unknown key costs one hash and one look-up, never a query.

mod guests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;

use crate::domain::class::Class;
use crate::domain::demand::Whose;
use crate::domain::ids::{KeyId, ModelName, UserId};
use crate::domain::regions::Regions;
use crate::domain::time::{self, WallTime};
use crate::settings::model::Limits;
use crate::storage::key_changes::OldSecret;
use crate::storage::keys::{KeyRow, Limit};
use crate::storage::{StorageError, Store, secret_key};

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
    pub whose: Whose,
    pub class: Class,
    pub expires_at: Option<WallTime>,
    /// The key's own limits with the defaults filled in.
    pub limits: Limits,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A key in use: its grant and the state of its limits.
#[derive(Debug)]
pub struct Caller {
    pub grant: Grant,
    rpm: Option<Limiter>,
    in_flight: Arc<AtomicU32>,
}

/// Which limit refused a request, and when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    Requests { retry_after: Duration, rpm: u32 },
    Concurrency { most: u32 },
}

/// What the caller's `x-ratelimit-*-requests` headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFigures {
    pub limit: u32,
    /// How many would be admitted at once now.
    pub remaining: u32,
    /// Until the burst is whole again.
    pub reset: Duration,
}

/// One admitted request; dropped, its place is free again.
#[derive(Debug)]
pub struct Permit {
    /// None for a request inside a session, whose place it shares.
    in_flight: Option<Arc<AtomicU32>>,
    pub figures: Option<RequestFigures>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.in_flight {
            in_flight.fetch_sub(1, Relaxed);
        }
    }
}

impl Caller {
    fn new(grant: Grant) -> Self {
        let rpm = grant.limits.rpm.and_then(NonZeroU32::new).map(|rpm| {
            let quota = Quota::per_minute(rpm).allow_burst(burst(grant.limits, rpm));
            RateLimiter::direct(quota).with_middleware::<StateInformationMiddleware>()
        });
        Self { grant, rpm, in_flight: Arc::default() }
    }

    /// Takes one request from each limit, or from none.
    pub fn admit(&self) -> Result<Permit, Limited> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        // From here on the permit gives the place back, also on the way out with a refusal.
        let mut permit = Permit { in_flight: Some(self.in_flight.clone()), figures: None };
        if let Some(most) = self.grant.limits.concurrency
            && before >= most
        {
            return Err(Limited::Concurrency { most });
        }
        permit.figures = self.take_request()?;
        Ok(permit)
    }

    /// Takes one request of a session that has been admitted: it has its place already.
    pub fn admit_within(&self) -> Result<Permit, Limited> {
        Ok(Permit { in_flight: None, figures: self.take_request()? })
    }

    /// For what a session's upstream has begun without being asked; it is under way whatever the limits say.
    pub fn admit_begun(&self) -> Permit {
        Permit { in_flight: None, figures: None }
    }

    fn take_request(&self) -> Result<Option<RequestFigures>, Limited> {
        if self.grant.limits.rpm == Some(0) {
            return Err(Limited::Requests { retry_after: Duration::from_secs(60), rpm: 0 });
        }
        if let (Some(limiter), Some(rpm)) = (&self.rpm, self.grant.limits.rpm) {
            let snapshot = limiter.check().map_err(|not_until| {
                let retry_after = not_until.wait_time_from(DefaultClock::default().now());
                Limited::Requests { retry_after, rpm }
            })?;
            let (remaining, quota) = (snapshot.remaining_burst_capacity(), snapshot.quota());
            let used = quota.burst_size().get().saturating_sub(remaining);
            return Ok(Some(RequestFigures { limit: rpm, remaining, reset: quota.replenish_interval() * used }));
        }
        Ok(None)
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
        self.in_flight.load(Relaxed)
    }
}

/// Requests that may come at once: any 60 seconds admit at most `rpm + burst`.
fn burst(limits: Limits, rpm: NonZeroU32) -> NonZeroU32 {
    limits.burst.and_then(NonZeroU32::new).unwrap_or_else(|| {
        // A quarter, but at least 4: ChatGPT-Next-Web and Open WebUI send several requests a turn.
        NonZeroU32::new((rpm.get() / 4).max(4)).unwrap_or(rpm)
    })
}

/// Every usable key, by hash. Read on each request, replaced whole when keys or default limits change.
#[derive(Debug, Default)]
pub struct Callers {
    by_hash: RwLock<HashMap<KeyHash, Arc<Caller>>>,
    /// Those who bring no key of ours, where such are let in.
    pub guests: Guests,
    /// Secrets that a rotation replaced: looked at only when `by_hash` has none.
    old: RwLock<HashMap<KeyHash, (Arc<Caller>, WallTime)>>,
    /// Held from reading the database to replacing the table, so that of two loads the later reading wins.
    loading: Mutex<()>,
}

impl Callers {
    pub fn find(&self, hash: &KeyHash) -> Option<Arc<Caller>> {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    /// The caller of a secret that was replaced, as long as its grace lasts.
    pub fn find_old(&self, hash: &KeyHash, now: WallTime) -> Option<Arc<Caller>> {
        let old = self.old.read().unwrap_or_else(PoisonError::into_inner);
        old.get(hash).filter(|(_, until)| now < *until).map(|(caller, _)| caller.clone())
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
        let mut by_hash = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = grants
            .into_iter()
            .map(|(hash, grant)| {
                let caller = match by_id.get(&grant.key_id) {
                    Some(known) if known.grant == grant => known.clone(),
                    Some(known) => Arc::new(Caller { in_flight: known.in_flight.clone(), ..Caller::new(grant) }),
                    None => Arc::new(Caller::new(grant)),
                };
                (hash, caller)
            })
            .collect();
        *by_hash = fresh;
    }

    /// Reads every key from the database; blocks.
    pub fn load(&self, store: &Store, defaults: Limits) -> Result<(), StorageError> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = store.load_all()?;
        self.guests.load(defaults, rows.iter().filter(|row| row.revoked_at.is_some()).map(|row| row.hash));
        let old = store.old_secrets(time::wall_now())?;
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
        Ok(())
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
}

fn grant(row: KeyRow, defaults: Limits) -> (KeyHash, Grant) {
    let limit = |own: Limit, default: Option<u32>| match own {
        Limit::Inherit => default,
        Limit::Unlimited => None,
        Limit::Of(most) => Some(most),
    };
    let limits = Limits {
        rpm: limit(row.limits.rpm, defaults.rpm),
        concurrency: limit(row.limits.concurrency, defaults.concurrency),
        // The default burst goes with the default rate.
        burst: defaults.burst.filter(|_| row.limits.rpm == Limit::Inherit),
    };
    let user_id = row.user.map(|user| user.id);
    let whose = if row.prefix.starts_with(secret_key::BROUGHT_PREFIX) { Whose::Callers } else { Whose::Ours };
    let KeyRow { id: key_id, name, hash, models, regions, class, expires_at, .. } = row;
    (hash, Grant { key_id, user_id, name, models, regions, whose, class, expires_at, limits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::secret_key::hash;

    fn grant(limits: Limits) -> Grant {
        let (key_id, regions, class) = (KeyId::generate(), Regions::default(), Class::default());
        let (name, whose) = ("test".into(), Whose::Ours);
        Grant { key_id, user_id: None, name, models: None, regions, whose, class, expires_at: None, limits }
    }

    const UNLIMITED: Limits = Limits { rpm: None, concurrency: None, burst: None };

    #[test]
    fn a_burst_passes_and_the_next_is_told_when_to_return() {
        let caller = Caller::new(grant(Limits { rpm: Some(60), burst: Some(5), ..UNLIMITED }));
        let permits: Vec<_> = (0..5).map(|_| caller.admit().unwrap()).collect();
        assert_eq!(permits[0].figures.unwrap().limit, 60);
        assert_eq!(permits.iter().map(|permit| permit.figures.unwrap().remaining).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
        match caller.admit() {
            Err(Limited::Requests { retry_after, rpm: 60 }) => assert!(retry_after <= Duration::from_secs(1)),
            other => panic!("{other:?}"),
        }
        drop(permits);
        assert_eq!(caller.in_flight(), 0, "a refusal gives its place back too");
    }

    #[test]
    fn the_default_burst_is_a_quarter_but_at_least_four() {
        let admitted = |rpm| {
            let caller = Caller::new(grant(Limits { rpm: Some(rpm), ..UNLIMITED }));
            (0..1000).filter(|_| caller.admit().is_ok()).count()
        };
        assert_eq!(admitted(2), 4);
        assert_eq!(admitted(0), 0);
        assert!((150..=151).contains(&admitted(600)));
    }

    #[test]
    fn concurrency_counts_what_is_held() {
        let caller = Caller::new(grant(Limits { concurrency: Some(2), ..UNLIMITED }));
        let first = caller.admit().unwrap();
        let _second = caller.admit().unwrap();
        assert_eq!(caller.admit().unwrap_err(), Limited::Concurrency { most: 2 });
        drop(first);
        assert!(caller.admit().is_ok());
    }

    #[test]
    fn a_replaced_table_keeps_the_state_of_unchanged_keys() {
        let callers = Callers::default();
        let limited = grant(Limits { rpm: Some(60), burst: Some(1), ..UNLIMITED });
        callers.replace([(hash("a"), limited.clone())]);
        let permit = callers.find(&hash("a")).unwrap().admit().unwrap();
        callers.replace([(hash("a"), limited.clone()), (hash("b"), grant(UNLIMITED))]);
        assert!(callers.find(&hash("a")).unwrap().admit().is_err(), "the minute goes on");
        let changed = Grant { limits: Limits { concurrency: Some(1), ..UNLIMITED }, ..limited };
        callers.replace([(hash("a"), changed)]);
        assert!(callers.find(&hash("a")).unwrap().admit().is_err(), "what is in flight still counts");
        drop(permit);
        assert!(callers.find(&hash("a")).unwrap().admit().is_ok());
        assert!(callers.find(&hash("b")).is_none());
    }

    #[test]
    fn another_secret_is_no_other_caller() {
        let callers = Callers::default();
        let limited = grant(Limits { rpm: Some(60), burst: Some(1), ..UNLIMITED });
        callers.replace([(hash("old"), limited.clone())]);
        let _permit = callers.find(&hash("old")).unwrap().admit().unwrap();
        let until = WallTime(2_000);
        callers.replace([(hash("new"), limited.clone())]);
        callers.replace_old([OldSecret { hash: hash("old"), key_id: limited.key_id, until }]);
        assert!(callers.find(&hash("old")).is_none());
        for caller in [callers.find(&hash("new")), callers.find_old(&hash("old"), WallTime(1_999))] {
            assert!(caller.unwrap().admit().is_err(), "the minute goes on under either secret");
        }
        assert!(callers.find_old(&hash("old"), until).is_none(), "its grace is over");
        callers.replace([]);
        callers.replace_old([OldSecret { hash: hash("old"), key_id: limited.key_id, until }]);
        assert!(callers.find_old(&hash("old"), WallTime(1_999)).is_none(), "a revoked key has no secret at all");
    }

    #[test]
    fn models_may_be_restricted() {
        let mut restricted = grant(UNLIMITED);
        restricted.models = Some(vec!["gpt-4o-mini".into()]);
        let caller = Caller::new(restricted);
        assert!(caller.may_use(&["gpt-4o-mini", "gpt-3.5-turbo"]));
        assert!(!caller.may_use(&["gpt-4.1"]));
    }
}
