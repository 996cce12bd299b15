//! `Idempotency-Key` on POST: a request that is sent twice because its answer was lost does its work once.
//!
//! The answer is kept for a day, sealed with what only the client has: its credential and the key it chose. Neither is
//! stored, so a secret in an answer is nowhere in clear, and yet the repetition shows it. Answers that refuse are not
//! kept: they did nothing. When the gateway dies between the work and its answer, nobody knows how the request ended,
//! and its repetition says so instead of doing the work again.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpResponse, HttpResponseBuilder, body::MessageBody};
use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::call::Call;
use super::problem::Problem;
use super::queries::blocking;
use super::routes::AdminRoute;
use crate::domain::time;
use crate::storage::idempotency::Begun;

pub(super) const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const LONGEST_KEY: usize = 255;

/// The key of a request, if it has one.
pub(super) fn key_of<'a>(call: &Call<'a>) -> Result<Option<&'a str>, Problem> {
    let Some(value) = call.request.headers().get(HEADER) else { return Ok(None) };
    let sane = |text: &&str| (1..=LONGEST_KEY).contains(&text.len());
    match value.to_str().ok().filter(sane) {
        Some(text) => Ok(Some(text)),
        None => Err(Problem::bad_request("an Idempotency-Key has 1 to 255 visible ASCII characters")),
    }
}

/// Runs the route once for this key.
pub(super) async fn once(
    call: Call<'_>,
    route: &AdminRoute,
    key: &str,
    credential: &str,
) -> Result<HttpResponse, Problem> {
    let place = Place::of(&call, key, credential);
    let store = call.house().store.clone();
    let (id, fingerprint) = (place.id, place.fingerprint);
    let begun = {
        let store = store.clone();
        blocking(move || store.begin_once(id, fingerprint, time::wall_now())).await?
    };
    match begun {
        Begun::Fresh => {}
        Begun::Mismatch => return Err(Problem::key_mismatch()),
        Begun::Unknown => {
            return Err(Problem::conflict(
                "a request with this Idempotency-Key is under way, or was cut off and its end is not known; \
                 GET /admin/v1/audit shows what was done",
            ));
        }
        Begun::Answered { status, answer } => {
            return place.open(status, answer).ok_or_else(|| {
                Problem::conflict(
                    "this was done already, and its answer cannot be shown again because the admin key has changed \
                     since; to get a key's secret, rotate it",
                )
            });
        }
    }
    let answered = route.answer(call).await;
    let Some(response) = answered.as_ref().ok().filter(|response| response.status().is_success()) else {
        blocking(move || store.forget_once(id)).await?;
        return answered;
    };
    let (status, location) = (response.status(), response.headers().get(LOCATION).cloned());
    let body = answered?.into_body().try_into_bytes().map_err(|_| Problem::shutting_down())?;
    let Some(sealed) = place.seal(location.as_ref(), &body) else {
        return Err(Problem::unavailable("the system has no random numbers"));
    };
    blocking(move || store.answer_once(id, status.as_u16(), &sealed)).await?;
    Ok(rebuilt(status, location.as_ref(), body))
}

struct Place {
    id: [u8; 32],
    fingerprint: [u8; 32],
    seal: [u8; 32],
}

impl Place {
    fn of(call: &Call<'_>, key: &str, credential: &str) -> Self {
        // Each part with its length, so that no two lists of parts are one text.
        let digest = |parts: &[&[u8]]| -> [u8; 32] {
            let mut hash = Sha256::new();
            for part in parts {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            hash.finalize().into()
        };
        let request = call.request;
        Self {
            id: digest(&[b"id", call.who.label().as_bytes(), key.as_bytes()]),
            fingerprint: digest(&[
                request.method().as_str().as_bytes(),
                request.path().as_bytes(),
                request.query_string().as_bytes(),
                &call.body,
            ]),
            seal: digest(&[b"seal", credential.as_bytes(), key.as_bytes()]),
        }
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.seal).ok()?))
    }

    /// A nonce, then what only this credential and this key open.
    fn seal(&self, location: Option<&HeaderValue>, body: &[u8]) -> Option<Vec<u8>> {
        let location = location.and_then(|location| location.to_str().ok());
        let mut clear =
            json!({ "location": location, "body": std::str::from_utf8(body).ok()? }).to_string().into_bytes();
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let cipher = self.cipher()?;
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(self.id), &mut clear).ok()?;
        Some([&nonce[..], &clear].concat())
    }

    fn open(&self, status: u16, mut sealed: Vec<u8>) -> Option<HttpResponse> {
        let (nonce, text) = sealed.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let clear = self.cipher()?.open_in_place(nonce, Aad::from(self.id), text).ok()?;
        let kept: Value = serde_json::from_slice(clear).ok()?;
        let location = kept["location"].as_str().and_then(|location| HeaderValue::from_str(location).ok());
        let body = Bytes::from(kept["body"].as_str()?.to_owned());
        let mut response = rebuilt(StatusCode::from_u16(status).ok()?, location.as_ref(), body);
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Some(response)
    }
}

fn rebuilt(status: StatusCode, location: Option<&HeaderValue>, body: Bytes) -> HttpResponse {
    let mut response = HttpResponseBuilder::new(status);
    if let Some(location) = location {
        response.insert_header((LOCATION, location.clone()));
    }
    if body.is_empty() {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seal: u8) -> Place {
        Place { id: [1; 32], fingerprint: [2; 32], seal: [seal; 32] }
    }

    #[test]
    fn an_answer_opens_for_its_owner_only_and_only_unharmed() {
        let body = b"{\"secret\":\"canary\"}";
        let sealed = place(3).seal(Some(&HeaderValue::from_static("/admin/v1/keys/key_1")), body).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_ne!(sealed, place(3).seal(None, body).unwrap(), "each with a nonce of its own");
        let response = place(3).open(201, sealed.clone()).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers().get(LOCATION).unwrap(), "/admin/v1/keys/key_1");
        assert_eq!(response.into_body().try_into_bytes().unwrap(), &body[..]);
        assert!(place(4).open(201, sealed.clone()).is_none());
        for at in 0..sealed.len() {
            let mut harmed = sealed.clone();
            harmed[at] ^= 1;
            assert!(place(3).open(201, harmed).is_none(), "at {at}");
        }
        assert!(place(3).open(201, Vec::new()).is_none());
    }
}
