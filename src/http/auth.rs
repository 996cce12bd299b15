//! Who calls: the key from either credential header, found by its hash in memory.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use crate::domain::time;
use crate::limits::{Caller, Callers, KeyHash};
use crate::storage::secret_key::hash;

/// The caller of a data-plane request. Unknown, revoked and expired keys look alike.
pub fn caller(headers: &HeaderMap, callers: &Callers) -> Result<Arc<Caller>, ApiError> {
    caller_with(presented(headers), callers).map(|(_, caller)| caller)
}

/// As `caller`, with a key that may have come another way, and with what it is known by.
pub fn caller_with(key: Option<&str>, callers: &Callers) -> Result<(KeyHash, Arc<Caller>), ApiError> {
    let key = key.filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY).ok_or_else(ApiError::invalid_key)?;
    let (hash, now) = (hash(key), time::wall_now());
    let caller = callers.find(&hash).or_else(|| callers.find_old(&hash, now)).ok_or_else(ApiError::invalid_key)?;
    if caller.has_expired(now) {
        return Err(ApiError::invalid_key());
    }
    Ok((hash, caller))
}

/// Longer keys than this do not exist; none is hashed to find that out.
const LONGEST_KEY: usize = 512;

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
}
