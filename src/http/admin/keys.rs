//! `/admin/v1/keys`: make, list, show, change, give another secret, revoke. What their bodies may say is in `key_body`.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use serde_json::{Value, json};

use super::call::{Call, listed, printable};
use super::members::{self, Reader};
use super::problem::{FieldError, Problem};
use super::queries::{blocking, page};
use super::share::share;
use super::versions::{self, Seen};
use super::{key_body, quotas};
use crate::domain::ids::{KeyId, UserId};
use crate::domain::time;
use crate::storage::StorageError;
use crate::storage::key_changes::{Changed, KeyFilter, KeyState, Rotated};
use crate::storage::keys::{KeyRow, Revoked};
use crate::storage::secret_key::KeySecret;

/// What may be said of a rotation.
pub(super) const ROTATION: [&str; 2] = ["grace", "secret"];
/// An old secret that is good for longer is a second key.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Each time somebody else was quicker.
const PATCH_TRIES: usize = 5;

pub(super) async fn list(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let (cursor, size) = page(&call.query)?;
    let state = call.query.get("state").map(|text| {
        let known = KeyState::ALL.into_iter().find(|state| state.label() == text);
        known.ok_or_else(|| Problem::parameter("state", "active, expired or revoked"))
    });
    let part = call.query.get("q").filter(|part| !part.is_empty()).map(str::to_owned);
    if part.as_ref().is_some_and(|part| part.len() > 200) {
        return Err(Problem::parameter("q", "at most 200 characters"));
    }
    let (state, store) = (state.transpose()?, call.house().store.clone());
    let owner = call.query.get("user").map(str::to_owned);
    let found = blocking(move || {
        let user = match &owner {
            None => None,
            Some(text) => match text.parse::<UserId>() {
                Ok(id) => Some(id),
                // Nobody of that name has no key.
                Err(_) => match store.user_named(text)? {
                    Some(user) => Some(user.id),
                    None => return Ok(None),
                },
            },
        };
        store.keys_page(&KeyFilter { user, state, part }, cursor, size).map(Some)
    });
    match found.await? {
        Some(page) => Ok(listed(&page)),
        None => Ok(HttpResponse::Ok().json(json!({ "data": [], "has_more": false, "next_cursor": null }))),
    }
}

pub(super) async fn show(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let key = existing(call, parse_id(call.id)?).await?;
    // What is used of the quota changes with every request, and is no other state of the key.
    Ok(versions::tagged(HttpResponse::Ok().json(with_quota(&key, call)?), &key))
}

/// The row stays, because requests go on naming the key. It is refused from the answer on.
pub(super) async fn revoke(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let id = parse_id(call.id)?;
    let (store, by) = (call.house().store.clone(), call.by());
    match blocking(move || store.revoke_key_by(id, &by)).await? {
        Revoked::Now | Revoked::Before => {
            call.house().reload_callers().await?;
            Ok(HttpResponse::NoContent().finish())
        }
        Revoked::NoSuchKey => Err(no_such_key(id)),
    }
}

/// 201 with the secret, which is shown this once.
pub(super) async fn create(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let ((spec, secret, quota), warnings) = key_body::new_key(&call.body, &call.house().settings())?;
    only_a_callers(&secret, call)?;
    let (store, by, made) = (call.house().store.clone(), call.by(), secret.clone());
    let created = actix_web::web::block(move || store.make_key(spec, made, quota, &by)).await;
    let key = created.map_err(|_| Problem::shutting_down())?.map_err(secret_taken)?.ok_or_else(no_such_user)?;
    call.house().reload_callers().await?;
    let location = format!("/admin/v1/keys/{}", key.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(with_secret(&key, &secret, warnings, call)?))
}

pub(super) async fn change(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let id = parse_id(call.id)?;
    let seen = Seen::of(call.request);
    for _ in 0..PATCH_TRIES {
        let key = existing(call, id).await?;
        seen.allows(&key)?;
        if key.revoked_at.is_some() {
            return Err(Problem::conflict("the key is revoked and stays as it is; make a new one"));
        }
        let (spec, warnings) = key_body::changed_key(&key, &call.body, &call.house().settings())?;
        let (store, by) = (call.house().store.clone(), call.by());
        match blocking(move || store.change_key(&key, &spec, &by)).await? {
            Changed::Done(key) => {
                call.house().reload_callers().await?;
                let mut answer = with_quota(&key, call)?;
                warn(&mut answer, warnings);
                return Ok(versions::tagged(HttpResponse::Ok().json(answer), &*key));
            }
            Changed::NoSuchUser => return Err(no_such_user()),
            Changed::Raced => {}
        }
    }
    Err(Problem::conflict("others change this key at the same time; try again"))
}

/// 200 with the new secret, which is shown this once.
pub(super) async fn rotate(call: &Call<'_>) -> Result<HttpResponse, Problem> {
    let id = parse_id(call.id)?;
    let members = members::object(if call.body.trim_ascii().is_empty() { b"{}" } else { &call.body })?;
    let mut reader = Reader::default();
    reader.only(&members, "", &ROTATION);
    let grace = match reader.text(&members, "grace").map(|text| humantime::parse_duration(&text)) {
        None => Duration::ZERO,
        Some(Ok(grace)) if grace <= LONGEST_GRACE => grace,
        Some(Ok(_) | Err(_)) => {
            reader.wrong("/grace", "expected a duration from 0s to 30d such as \"24h\"");
            Duration::ZERO
        }
    };
    let secret = key_body::secret(&mut reader, &members)?;
    let (secret, warnings) = reader.done(secret)?;
    only_a_callers(&secret, call)?;
    let (store, by, new) = (call.house().store.clone(), call.by(), secret.clone());
    let rotated = actix_web::web::block(move || store.rotate_key(id, &new, grace, &by)).await;
    match rotated.map_err(|_| Problem::shutting_down())?.map_err(secret_taken)? {
        Rotated::Done(key) => {
            call.house().reload_callers().await?;
            Ok(HttpResponse::Ok().json(with_secret(&key, &secret, warnings, call)?))
        }
        Rotated::Revoked => Err(Problem::conflict("the key is revoked and gets no new secret; make a new key")),
        Rotated::NoSuchKey => Err(no_such_key(id)),
    }
}

async fn existing(call: &Call<'_>, id: KeyId) -> Result<KeyRow, Problem> {
    let store = call.house().store.clone();
    blocking(move || store.key(id)).await?.ok_or_else(|| no_such_key(id))
}

fn with_quota(key: &KeyRow, call: &Call<'_>) -> Result<Value, Problem> {
    let mut answer = serde_json::to_value(key).map_err(|_| Problem::shutting_down())?;
    answer["quota"] = json!(quotas::view_of(call.house(), quotas::Owner::Key(key.id)));
    Ok(answer)
}

fn with_secret(key: &KeyRow, secret: &KeySecret, warnings: Vec<String>, call: &Call<'_>) -> Result<Value, Problem> {
    let mut answer = with_quota(key, call)?;
    answer["secret"] = json!(secret.text);
    answer["share"] = share(&secret.text, call.request);
    warn(&mut answer, warnings);
    Ok(answer)
}

/// A secret that opens the admin plane is no caller's.
fn only_a_callers(secret: &KeySecret, call: &Call<'_>) -> Result<(), Problem> {
    match call.house().admins.find(&secret.text, time::wall_now()) {
        None => Ok(()),
        Some(_) => Err(Problem::invalid(vec![FieldError {
            pointer: "/secret".to_owned(),
            detail: "this is an admin key, which no caller may have; choose another, or leave `secret` out".to_owned(),
        }])),
    }
}

fn warn(answer: &mut Value, warnings: Vec<String>) {
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
}

fn secret_taken(error: StorageError) -> Problem {
    match error.is_conflict() {
        true => Problem::conflict("this secret is in use already; choose another, or leave `secret` out"),
        false => error.into(),
    }
}

fn parse_id(id: &str) -> Result<KeyId, Problem> {
    id.parse().map_err(|_| Problem::not_found(format!("`{}` is no key's id; they begin with key_", printable(id))))
}

fn no_such_key(id: KeyId) -> Problem {
    Problem::not_found(format!("there is no key {id}"))
}

fn no_such_user() -> Problem {
    Problem::invalid(vec![FieldError { pointer: "/user".to_owned(), detail: "there is no user of this id".to_owned() }])
}
