//! Callers without a key of this gateway, where the settings let such in: those who bring a key of Azure's own, and
//! anyone at all.
//!
//! Each key that is brought is a caller of its own, known by its hash and with an id that follows from it, so that the
//! ledger can name the same one again after a restart. How many are remembered at once is bounded. A key that an admin
//! has revoked is not let in as a guest either.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Caller, Grant, KeyHash};
use crate::domain::class::Class;
use crate::domain::demand::Whose;
use crate::domain::ids::KeyId;
use crate::domain::regions::Regions;
use crate::settings::model::{Admission, Compat, Limits};
use crate::storage::secret_key::{BROUGHT_PREFIX, hash};

/// More than this at the same time are strangers who try keys.
const MOST: usize = 4096;
/// No header can hold it, so that nobody has the key whose hash this is.
const NOBODYS_KEY: &str = "\u{0}anyone";

/// How credentials are read, and from whom they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    pub admission: Admission,
    /// Whether a key may stand behind another word than `Bearer`, or behind none.
    pub is_lenient: bool,
}

impl Manners {
    pub fn of(compat: &Compat) -> Self {
        let is_lenient = compat.profile.is_some() || compat.callers != Admission::Keys;
        Self { admission: compat.callers, is_lenient }
    }
}

#[derive(Debug)]
pub struct Guests {
    manners: AtomicU8,
    known: Mutex<HashMap<KeyHash, Arc<Guest>>>,
    anyone: Mutex<Option<Arc<Guest>>>,
    /// Keys that are refused, whoever brings them.
    revoked: RwLock<HashSet<KeyHash>>,
    limits: Mutex<(Limits, u32)>,
}

/// A caller without a key of ours.
#[derive(Debug)]
pub struct Guest {
    pub caller: Arc<Caller>,
    pub hash: KeyHash,
    filed: AtomicBool,
}

impl Default for Guests {
    fn default() -> Self {
        let limits = Limits { rpm: None, tpm: None, concurrency: None, burst: None };
        Self {
            manners: AtomicU8::new(0),
            known: Mutex::default(),
            anyone: Mutex::default(),
            revoked: RwLock::default(),
            limits: Mutex::new((limits, 1)),
        }
    }
}

impl Guests {
    pub fn manners(&self) -> Manners {
        let bits = self.manners.load(Relaxed);
        let admission = match bits >> 1 {
            0 => Admission::Keys,
            1 => Admission::AzureKeys,
            _ => Admission::Anyone,
        };
        Manners { admission, is_lenient: bits & 1 == 1 }
    }

    pub fn behave(&self, Manners { admission, is_lenient }: Manners) {
        let admission = match admission {
            Admission::Keys => 0,
            Admission::AzureKeys => 1,
            Admission::Anyone => 2,
        };
        self.manners.store(admission << 1 | u8::from(is_lenient), Relaxed);
    }

    pub fn load(&self, limits: Limits, gateways: u32, revoked: impl Iterator<Item = KeyHash>) {
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = revoked.collect();
        self.limit(|known| *known = (limits, gateways));
    }

    /// Their limits are divided among so many gateways.
    pub fn divide_among(&self, gateways: u32) {
        self.limit(|(_, known)| *known = gateways);
    }

    /// New limits hold for guests who come from now on.
    fn limit(&self, change: impl FnOnce(&mut (Limits, u32))) {
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *known;
        change(&mut known);
        if *known != before {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
            *self.anyone.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Who brings this key of Azure's; `None` when there are too many at once, or it is refused.
    pub fn with_key(&self, hash: &KeyHash) -> Option<Arc<Guest>> {
        if self.is_revoked(hash) {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = known.get(hash) {
            return Some(guest.clone());
        }
        if known.len() >= MOST {
            known.retain(|_, guest| guest.caller.in_flight() > 0);
        }
        if known.len() >= MOST {
            return None;
        }
        let guest = Arc::new(self.guest(*hash, format!("azure key {}", shown(hash)), Whose::Callers));
        known.insert(*hash, guest.clone());
        Some(guest)
    }

    /// Whoever it is; all are one caller.
    pub fn anyone(&self) -> Option<Arc<Guest>> {
        let mut anyone = self.anyone.lock().unwrap_or_else(PoisonError::into_inner);
        let guest =
            anyone.get_or_insert_with(|| Arc::new(self.guest(hash(NOBODYS_KEY), "anyone".to_owned(), Whose::Ours)));
        (!self.is_revoked(&guest.hash)).then(|| guest.clone())
    }

    pub fn in_flight(&self) -> u32 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let anyone = self.anyone.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().chain(anyone.iter()).map(|guest| guest.caller.in_flight()).sum()
    }

    fn is_revoked(&self, hash: &KeyHash) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }

    fn guest(&self, hash: KeyHash, name: String, whose: Whose) -> Guest {
        let (limits, gateways) = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        let grant = Grant {
            key_id: KeyId(uuid::Builder::from_random_bytes(id).into_uuid()),
            user_id: None,
            name,
            models: None,
            regions: Regions::default(),
            whose,
            class: Class::default(),
            expires_at: None,
            limits,
        };
        Guest { caller: Arc::new(Caller::new(grant, gateways)), hash, filed: AtomicBool::new(false) }
    }
}

impl Guest {
    /// True once: whoever is told so gives it a row of its own.
    pub fn is_to_be_filed(&self) -> bool {
        !self.filed.swap(true, Relaxed)
    }

    /// What lists show of the key.
    pub fn prefix(&self) -> String {
        match self.caller.grant.whose {
            Whose::Callers => format!("{BROUGHT_PREFIX}{}", shown(&self.hash)),
            Whose::Ours => String::new(),
        }
    }
}

fn shown(hash: &KeyHash) -> String {
    hex::encode(&hash[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_azures_is_the_same_caller_each_time_and_another_one_is_not() {
        let guests = Guests::default();
        let [one, again, other] = ["k1", "k1", "k2"].map(|key| guests.with_key(&hash(key)).unwrap());
        assert_eq!(one.caller.grant.key_id, again.caller.grant.key_id);
        assert_ne!(one.caller.grant.key_id, other.caller.grant.key_id);
        let elsewhere = Guests::default().with_key(&hash("k1")).unwrap();
        assert_eq!(elsewhere.caller.grant.key_id, one.caller.grant.key_id, "also in another process");
        assert!(one.is_to_be_filed() && !again.is_to_be_filed(), "once");
        assert!(one.prefix().starts_with(BROUGHT_PREFIX) && !one.prefix().contains("k1"));
    }

    #[test]
    fn a_revoked_key_is_no_guest() {
        let guests = Guests::default();
        let limits = Limits { rpm: None, tpm: None, concurrency: None, burst: None };
        guests.load(limits, 1, [hash("k1"), hash(NOBODYS_KEY)].into_iter());
        assert!(guests.with_key(&hash("k1")).is_none() && guests.with_key(&hash("k2")).is_some());
        assert!(guests.anyone().is_none());
    }

    #[test]
    fn those_who_try_keys_take_bounded_memory() {
        let guests = Guests::default();
        let held = guests.with_key(&hash("held")).unwrap();
        let _permit = held.caller.admit().unwrap();
        for n in 0..2 * MOST {
            guests.with_key(&hash(&n.to_string())).unwrap();
        }
        assert!(guests.known.lock().unwrap().len() <= MOST);
        assert!(Arc::ptr_eq(&held, &guests.with_key(&hash("held")).unwrap()), "who has requests in flight stays");
    }

    #[test]
    fn manners_are_kept() {
        let guests = Guests::default();
        for admission in [Admission::Keys, Admission::AzureKeys, Admission::Anyone] {
            for is_lenient in [false, true] {
                guests.behave(Manners { admission, is_lenient });
                assert_eq!(guests.manners(), Manners { admission, is_lenient });
            }
        }
    }
}
