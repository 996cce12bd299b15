//! Who calls: the key from either credential header, found by its hash in memory.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use crate::domain::demand::Whose;
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::limits::{Caller, Callers, Guest, KeyHash};
use crate::settings::model::Admission;
use crate::storage::secret_key::hash;

/// The caller of a data-plane request. Unknown, revoked and expired keys look alike.
pub fn caller(headers: &HeaderMap, callers: &Callers) -> Result<Arc<Caller>, ApiError> {
    let manners = callers.guests.manners();
    let key = if manners.is_lenient { presented_anyhow(headers) } else { presented(headers) };
    let now = time::wall_now();
    let found = key.map(hash).and_then(|hash| callers.find(&hash).or_else(|| callers.find_old(&hash, now)));
    match found {
        Some(caller) if caller.has_expired(now) => Err(ApiError::invalid_key()),
        Some(caller) => Ok(caller),
        None => {
            let guest = guest(key, callers, manners.admission).ok_or_else(ApiError::invalid_key)?;
            Ok(guest.caller.clone())
        }
    }
}

/// Who has this key of ours, which may have come another way, and what it is known by. Callers who bring a key of
/// Azure's are refused: it could not be passed on from there.
pub fn caller_with(key: Option<&str>, callers: &Callers) -> Result<(KeyHash, Arc<Caller>), ApiError> {
    let key = key.filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY).ok_or_else(ApiError::invalid_key)?;
    let hash = hash(key);
    let caller = usable(&hash, callers).ok_or_else(ApiError::invalid_key)?;
    Ok((hash, caller))
}

/// Whose key has that hash, as long as it may be used. Callers who bring a key of Azure's are nobody here: it could not be
/// passed on.
pub fn usable(hash: &KeyHash, callers: &Callers) -> Option<Arc<Caller>> {
    let now = time::wall_now();
    let caller = callers.find(hash).or_else(|| callers.find_old(hash, now))?;
    (!caller.has_expired(now) && caller.grant.whose == Whose::Ours).then_some(caller)
}

/// Who calls without a key of ours, where such are let in.
fn guest(key: Option<&str>, callers: &Callers, admission: Admission) -> Option<Arc<Guest>> {
    match admission {
        Admission::Keys => None,
        Admission::AzureKeys => callers.guests.with_key(&hash(key?)),
        Admission::Anyone => callers.guests.anyone(),
    }
}

/// The key of Azure's that a caller of this kind brings, and with whose key the request may be served.
pub fn brought(headers: &HeaderMap, caller: &Caller) -> (Option<Secret>, Whose) {
    match caller.grant.whose {
        Whose::Ours => (None, Whose::Ours),
        Whose::Callers => (presented_anyhow(headers).map(Secret::new), Whose::Callers),
    }
}

/// The guest behind a request that was served, if it is to be given a row of its own.
pub fn new_guest(headers: &HeaderMap, caller: &Caller, callers: &Callers) -> Option<Arc<Guest>> {
    let guest = match (callers.guests.manners().admission, caller.grant.whose) {
        (Admission::Keys, _) | (Admission::AzureKeys, Whose::Ours) | (Admission::Anyone, Whose::Callers) => {
            return None;
        }
        (Admission::AzureKeys, Whose::Callers) => callers.guests.with_key(&hash(presented_anyhow(headers)?))?,
        (Admission::Anyone, Whose::Ours) => callers.guests.anyone()?,
    };
    (guest.caller.grant.key_id == caller.grant.key_id && guest.is_to_be_filed()).then_some(guest)
}

/// Whether there is anything that could be a credential.
pub fn brings_any(headers: &HeaderMap) -> bool {
    presented_anyhow(headers).is_some()
}

/// Longer keys than this do not exist; none is hashed to find that out.
const LONGEST_KEY: usize = 512;

/// As `presented`, but any word may stand before the key, or none: older proxies never looked at it.
fn presented_anyhow(headers: &HeaderMap) -> Option<&str> {
    presented(headers).or_else(|| {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
        let key = value.split_once(' ').map_or(value, |(_, key)| key.trim());
        let is_scheme_alone = key.eq_ignore_ascii_case("bearer");
        (!key.is_empty() && !is_scheme_alone && key.len() <= LONGEST_KEY).then_some(key)
    })
}

/// The key of `Authorization: Bearer KEY`, else of `api-key: KEY`.
pub fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let key = bearer.or_else(|| headers.get("api-key")?.to_str().ok())?;
    (!key.is_empty() && key.len() <= LONGEST_KEY).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn key_of(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let map = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        presented(&map).map(str::to_owned)
    }

    #[test]
    fn either_header_carries_the_key() {
        assert_eq!(key_of(&[("authorization", "Bearer k1")]).as_deref(), Some("k1"));
        assert_eq!(key_of(&[("authorization", "bearer  k1 ")]).as_deref(), Some("k1"));
        assert_eq!(key_of(&[("api-key", "k2")]).as_deref(), Some("k2"));
        assert_eq!(key_of(&[("authorization", "Basic x"), ("api-key", "k2")]).as_deref(), Some("k2"));
        assert_eq!(key_of(&[("authorization", "Bearer")]), None);
        assert_eq!(key_of(&[("api-key", "")]), None);
    }

    #[test]
    fn older_proxies_took_any_word_before_the_key() {
        let anyhow = |value: &'static str| {
            let map = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            presented_anyhow(&map).map(str::to_owned)
        };
        for value in ["k1", "Bearer k1", "Zork k1", "Basic  k1 "] {
            assert_eq!(anyhow(value).as_deref(), Some("k1"), "{value}");
        }
        assert_eq!((anyhow("Bearer"), anyhow("Bearer "), anyhow("")), (None, None, None));
    }
}
