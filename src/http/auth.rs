//! Who calls: the key from either credential header, found by its hash in memory.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use crate::domain::demand::Whose;
use crate::domain::secret::Secret;
use crate::domain::time;
use crate::limits::{Caller, Callers, Guest, KeyHash, Usable};
use crate::settings::model::Admission;
use crate::storage::secret_key::hash;

/// The caller of a data-plane request. Unknown, revoked and expired keys look alike.
pub fn caller(headers: &HeaderMap, callers: &Callers) -> Result<Arc<Caller>, ApiError> {
    let key = sent(headers, callers);
    let now = time::wall_now();
    let found =
        key.map(hash).and_then(|hash| callers.find(&hash).or_else(|| Some(callers.find_old(&hash, now)?.caller)));
    match found {
        Some(caller) if caller.has_expired(now) => Err(ApiError::invalid_key()),
        Some(caller) => Ok(caller),
        None => {
            let guest = guest(key, callers, callers.guests.manners().admission).ok_or_else(ApiError::invalid_key)?;
            Ok(guest.caller.clone())
        }
    }
}

/// How a session's caller is known, as long as the session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// A key that has a row.
    Key(KeyHash),
    /// A key of Azure's, where callers bring such.
    AzuresKey(KeyHash),
    /// Nothing, where anyone is let in.
    Nothing,
}

/// The caller of a session, whose key may have come another way than in a header.
pub fn caller_with(key: Option<&str>, callers: &Callers) -> Result<(KnownBy, Arc<Caller>), ApiError> {
    let key = key.filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY).map(hash);
    let is_known = |hash: &KeyHash| callers.find(hash).is_some() || callers.find_old(hash, time::wall_now()).is_some();
    let known_by = match (key, callers.guests.manners().admission) {
        (Some(hash), _) if is_known(&hash) => KnownBy::Key(hash),
        (_, Admission::Keys) | (None, Admission::AzureKeys) => return Err(ApiError::invalid_key()),
        (Some(hash), Admission::AzureKeys) => KnownBy::AzuresKey(hash),
        (_, Admission::Anyone) => KnownBy::Nothing,
    };
    let usable = usable(known_by, callers).ok_or_else(ApiError::invalid_key)?;
    Ok((known_by, usable.caller))
}

/// Who is known so, as long as they may call.
pub fn usable(known_by: KnownBy, callers: &Callers) -> Option<Usable> {
    let (now, admission) = (time::wall_now(), callers.guests.manners().admission);
    let found = match known_by {
        KnownBy::Key(hash) => callers.find(&hash).map(Usable::of).or_else(|| callers.find_old(&hash, now)),
        KnownBy::AzuresKey(hash) if admission == Admission::AzureKeys => {
            // It has a row once it was served.
            let caller = callers.find(&hash).or_else(|| Some(callers.guests.with_key(&hash)?.caller.clone()));
            caller.map(Usable::of)
        }
        KnownBy::Nothing if admission == Admission::Anyone => {
            callers.guests.anyone().map(|guest| Usable::of(guest.caller.clone()))
        }
        KnownBy::AzuresKey(_) | KnownBy::Nothing => None,
    };
    found.filter(|usable| !usable.caller.has_expired(now))
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
    new_guest_with(|| presented_anyhow(headers), caller, callers)
}

/// The same for a key that may have come another way.
pub fn new_guest_with<'k>(
    key: impl FnOnce() -> Option<&'k str>,
    caller: &Caller,
    callers: &Callers,
) -> Option<Arc<Guest>> {
    let guest = match (callers.guests.manners().admission, caller.grant.whose) {
        (Admission::Keys, _) | (Admission::AzureKeys, Whose::Ours) | (Admission::Anyone, Whose::Callers) => {
            return None;
        }
        (Admission::AzureKeys, Whose::Callers) => callers.guests.with_key(&hash(key()?))?,
        (Admission::Anyone, Whose::Ours) => callers.guests.anyone()?,
    };
    (guest.caller.grant.key_id == caller.grant.key_id && guest.is_to_be_filed()).then_some(guest)
}

/// The key of the headers, as leniently as the settings want them read.
pub fn sent<'h>(headers: &'h HeaderMap, callers: &Callers) -> Option<&'h str> {
    if callers.guests.manners().is_lenient { presented_anyhow(headers) } else { presented(headers) }
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
