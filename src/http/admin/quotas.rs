//! `/admin/v1/keys/{id}/{quota,grants,usage}` and `/admin/v1/users/{id}/{quota,limits}`.
//!
//! A quota is one document, replaced as a whole by PUT; without tokens and without money it is no quota. Its use is read
//! from memory, where requests in flight are part of it.

use actix_web::HttpResponse;
use actix_web::http::Method;
use serde_json::{Map, Value, json};

use super::Query;
use super::problem::{FieldError, Problem, did_you_mean};
use super::queries::{blocking, page};
use crate::balance::budget::{Allowance, Amount, Standing, left};
use crate::domain::ids::{GrantId, KeyId, UserId};
use crate::domain::money::Cost;
use crate::domain::period::{Cycle, Period};
use crate::domain::time::{WallTime, wall_now};
use crate::http::state::House;
use crate::limits::Quota;
use crate::storage::keys::{KeyLimits, Limit};
use crate::storage::page::rfc3339;
use crate::storage::quotas::{Changed, GrantRow, Owner, QuotaTerms};

/// What a path of this file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Quota(Whose<'a>),
    Grants(&'a str),
    Grant(&'a str, &'a str),
    Usage(&'a str),
    Limits(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose<'a> {
    Key(&'a str),
    User(&'a str),
}

/// Looks up a path below `/admin/v1/`.
pub(super) fn place(path: &str) -> Option<Place<'_>> {
    let mut segments = path.trim_end_matches('/').split('/');
    let place = [segments.next(), segments.next(), segments.next(), segments.next()];
    if segments.next().is_some() {
        return None;
    }
    match place {
        [Some("keys"), Some(id), Some("quota"), None] => Some(Place::Quota(Whose::Key(id))),
        [Some("users"), Some(id), Some("quota"), None] => Some(Place::Quota(Whose::User(id))),
        [Some("users"), Some(id), Some("limits"), None] => Some(Place::Limits(id)),
        [Some("keys"), Some(id), Some("grants"), None] => Some(Place::Grants(id)),
        [Some("keys"), Some(id), Some("grants"), Some(grant)] => Some(Place::Grant(id, grant)),
        [Some("keys"), Some(id), Some("usage"), None] => Some(Place::Usage(id)),
        _ => None,
    }
}

/// `body` is empty for methods that have none.
pub(super) async fn answer(
    house: &House,
    method: &Method,
    place: Place<'_>,
    query: &Query,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    match (method, place) {
        (&Method::GET, Place::Quota(whose)) => {
            let owner = owner(house, whose).await?;
            Ok(HttpResponse::Ok().json(quota_of(house, owner)))
        }
        (&Method::PUT, Place::Quota(whose)) => set_quota(house, owner(house, whose).await?, body).await,
        (&Method::GET, Place::Limits(id)) => show_limits(house, user(house, id).await?).await,
        (&Method::PUT, Place::Limits(id)) => set_limits(house, user(house, id).await?, body).await,
        (&Method::GET, Place::Grants(id)) => list_grants(house, key(house, id).await?, query).await,
        (&Method::POST, Place::Grants(id)) => add_grant(house, key(house, id).await?, body).await,
        (&Method::DELETE, Place::Grant(id, grant)) => withdraw(house, key(house, id).await?, grant).await,
        (&Method::GET, Place::Usage(id)) => super::queries::usage_of(house, key(house, id).await?, query).await,
        (_, Place::Quota(_) | Place::Limits(_)) => Err(Problem::wrong_method("GET, PUT")),
        (_, Place::Grants(_)) => Err(Problem::wrong_method("GET, POST")),
        (_, Place::Grant(..)) => Err(Problem::wrong_method("DELETE")),
        (_, Place::Usage(_)) => Err(Problem::wrong_method("GET")),
    }
}

async fn owner(house: &House, whose: Whose<'_>) -> Result<Owner, Problem> {
    match whose {
        Whose::Key(id) => key(house, id).await.map(Owner::Key),
        Whose::User(id) => user(house, id).await.map(Owner::User),
    }
}

async fn key(house: &House, id: &str) -> Result<KeyId, Problem> {
    let missing = || Problem::not_found(format!("there is no key {}; ids begin with key_", super::printable(id)));
    let id: KeyId = id.parse().map_err(|_| missing())?;
    exists(house, Owner::Key(id)).await?.then_some(id).ok_or_else(missing)
}

async fn user(house: &House, id: &str) -> Result<UserId, Problem> {
    let missing = || Problem::not_found(format!("there is no user {}; ids begin with user_", super::printable(id)));
    let id: UserId = id.parse().map_err(|_| missing())?;
    exists(house, Owner::User(id)).await?.then_some(id).ok_or_else(missing)
}

async fn exists(house: &House, owner: Owner) -> Result<bool, Problem> {
    let store = house.store.clone();
    blocking(move || store.has_owner(owner)).await
}

async fn set_quota(house: &House, owner: Owner, body: &[u8]) -> Result<HttpResponse, Problem> {
    let mut errors = Vec::new();
    let terms = read_terms(&json_of(body)?, "", &mut errors);
    refuse(errors)?;
    let store = house.store.clone();
    match blocking(move || store.set_quota(owner, terms.as_ref())).await? {
        Changed::Yes => {
            house.reload_callers().await?;
            Ok(HttpResponse::Ok().json(quota_of(house, owner)))
        }
        Changed::Nothing => Err(Problem::not_found(format!("there is no {owner}"))),
    }
}

async fn show_limits(house: &House, user: UserId) -> Result<HttpResponse, Problem> {
    let store = house.store.clone();
    let limits = blocking(move || store.user_limits()).await?;
    let limits = limits.into_iter().find(|(id, _)| *id == user).map(|(_, limits)| limits).unwrap_or_default();
    Ok(HttpResponse::Ok().json(limits))
}

async fn set_limits(house: &House, user: UserId, body: &[u8]) -> Result<HttpResponse, Problem> {
    let Value::Object(members) = json_of(body)? else { return Err(not_an_object()) };
    let mut errors = Vec::new();
    only(&members, "", &["rpm", "tpm", "concurrency"], &mut errors);
    let [rpm, tpm, concurrency] = ["rpm", "tpm", "concurrency"].map(|name| match members.get(name) {
        None | Some(Value::Null) => Limit::Inherit,
        Some(Value::String(text)) if text == "unlimited" => Limit::Unlimited,
        Some(value) => match value.as_u64().and_then(|limit| u32::try_from(limit).ok()) {
            Some(limit) => Limit::Of(limit),
            None => {
                wrong(&mut errors, &format!("/{name}"), "expected a whole number, or null for no limit");
                Limit::Inherit
            }
        },
    });
    refuse(errors)?;
    let store = house.store.clone();
    let limits = KeyLimits { rpm, tpm, concurrency };
    blocking(move || store.set_user_limits(user, limits)).await?;
    house.reload_callers().await?;
    Ok(HttpResponse::Ok().json(limits))
}

async fn list_grants(house: &House, key: KeyId, query: &Query) -> Result<HttpResponse, Problem> {
    query.only(&["limit", "cursor"])?;
    let (cursor, size) = page(query)?;
    let store = house.store.clone();
    let found = blocking(move || store.grants(Owner::Key(key), cursor, size)).await?;
    let data: Vec<_> = found.data.iter().map(grant_view).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data, "has_more": found.has_more, "next_cursor": found.next_cursor })))
}

/// Without an end it lasts as long as the running period.
async fn add_grant(house: &House, key: KeyId, body: &[u8]) -> Result<HttpResponse, Problem> {
    let owner = Owner::Key(key);
    let Some(quota) = house.callers.quota(owner) else {
        return Err(Problem::conflict(
            "this key has no quota that something could be granted on top of; PUT one first",
        ));
    };
    let Value::Object(members) = json_of(body)? else { return Err(not_an_object()) };
    let (now, mut errors) = (wall_now(), Vec::new());
    only(&members, "", &["tokens", "cost_usd", "expires_at", "reason"], &mut errors);
    let allowance = amounts(&members, "", &mut errors);
    if allowance == Allowance::default() && errors.is_empty() {
        wrong(&mut errors, "", "expected `tokens`, `cost_usd`, or both");
    }
    let allowed = quota.standing(now).allowed;
    for (name, granted, base) in [
        ("/tokens", allowance.tokens.is_some(), allowed.tokens.is_some()),
        ("/cost_usd", allowance.cost.is_some(), allowed.cost.is_some()),
    ] {
        if granted && !base {
            wrong(&mut errors, name, "the quota has no such limit, so there is nothing to add to");
        }
    }
    if allowance.tokens == Some(0) || allowance.cost == Some(Cost(0)) {
        wrong(&mut errors, "", "a grant must be more than nothing");
    }
    let reason = match members.get("reason") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.chars().count() <= 200 => Some(text.clone()),
        Some(_) => {
            wrong(&mut errors, "/reason", "expected a text of at most 200 characters");
            None
        }
    };
    let expires_at = match members.get("expires_at") {
        None | Some(Value::Null) => Some(quota.standing(now).span.to).filter(|end| *end != WallTime(i64::MAX)),
        Some(value) => {
            let at = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let at = at.map(|at| WallTime(at.as_microsecond())).filter(|at| *at > now);
            if at.is_none() {
                wrong(&mut errors, "/expires_at", "expected a time in the future such as 2027-06-30T00:00:00Z");
            }
            at
        }
    };
    refuse(errors)?;
    let Allowance { tokens, cost } = allowance;
    let grant = GrantRow { id: GrantId::generate(), tokens, cost, reason, created_at: now, expires_at };
    let (store, row) = (house.store.clone(), grant.clone());
    match blocking(move || store.add_grant(owner, &row)).await? {
        Changed::Yes => {
            house.reload_callers().await?;
            let location = format!("/admin/v1/keys/{key}/grants/{}", grant.id);
            Ok(HttpResponse::Created().insert_header(("location", location)).json(grant_view(&grant)))
        }
        Changed::Nothing => Err(Problem::conflict("the key's quota was taken away meanwhile")),
    }
}

async fn withdraw(house: &House, key: KeyId, grant: &str) -> Result<HttpResponse, Problem> {
    let missing = || Problem::not_found(format!("there is no grant {} of this key", super::printable(grant)));
    let id: GrantId = grant.parse().map_err(|_| missing())?;
    let store = house.store.clone();
    match blocking(move || store.withdraw_grant(Owner::Key(key), id)).await? {
        Changed::Yes => {
            house.reload_callers().await?;
            Ok(HttpResponse::NoContent().finish())
        }
        Changed::Nothing => Err(missing()),
    }
}

/// `{"period", "time_zone"?, "tokens"?, "cost_usd"?}`; none where it sets no amount, or is null.
pub(super) fn read_terms(value: &Value, at: &str, errors: &mut Vec<FieldError>) -> Option<QuotaTerms> {
    let members = match value {
        Value::Null => return None,
        Value::Object(members) => members,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            wrong(errors, at, "expected an object such as {\"period\": \"month\", \"tokens\": 5000000}");
            return None;
        }
    };
    only(members, at, &["period", "time_zone", "tokens", "cost_usd"], errors);
    let allowance = amounts(members, at, errors);
    let period = match members.get("period").and_then(Value::as_str).map(str::parse::<Period>) {
        Some(Ok(period)) => period,
        // Nothing is limited, so it does not matter how often.
        None if allowance == Allowance::default() && !members.contains_key("period") => Period::None,
        Some(Err(_)) | None => {
            wrong(errors, &format!("{at}/period"), "must be one of day, week, month, none");
            Period::None
        }
    };
    let zone = match members.get("time_zone") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let zone = value.as_str().and_then(|name| name.parse().ok());
            if zone.is_none() {
                wrong(errors, &format!("{at}/time_zone"), "expected a time zone such as Europe/Berlin");
            }
            zone
        }
    };
    (allowance != Allowance::default()).then_some(QuotaTerms { period, zone, allowance })
}

/// More is no quota.
const MOST_TOKENS: u64 = 1_000_000_000_000_000;
const MOST_DOLLARS: f64 = 1_000_000.0;

fn amounts(members: &Map<String, Value>, at: &str, errors: &mut Vec<FieldError>) -> Allowance {
    let tokens = given(members, "tokens").map(|value| {
        let tokens = value.as_u64().filter(|tokens| *tokens <= MOST_TOKENS);
        tokens.unwrap_or_else(|| {
            wrong(errors, &format!("{at}/tokens"), "expected a whole number of tokens, or null for any number");
            0
        })
    });
    let cost = given(members, "cost_usd").map(|value| {
        let dollars = value.as_f64().filter(|dollars| (0.0..=MOST_DOLLARS).contains(dollars));
        let Some(dollars) = dollars else {
            let expected = "expected US dollars such as 20 or 12.5, at most a million, or null for any amount";
            wrong(errors, &format!("{at}/cost_usd"), expected);
            return Cost(0);
        };
        // To the millionth of a dollar, which is as fine as anyone writes it.
        Cost((dollars * 1e6).round() as i64 * (Cost::PER_DOLLAR / 1_000_000))
    });
    Allowance { tokens, cost }
}

fn given<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).filter(|value| !value.is_null())
}

/// How an owner's quota stands; also where there is none.
pub(super) fn quota_of(house: &House, owner: Owner) -> Value {
    match house.callers.quota(owner) {
        Some(quota) => quota_view(&quota, wall_now()),
        None => json!({ "period": "none", "tokens": null, "cost_usd": null }),
    }
}

/// For the admin plane and for the caller itself.
pub fn quota_view(quota: &Quota, now: WallTime) -> Value {
    let Cycle { period, zone } = quota.cycle();
    let Standing { span, allowance, allowed, used, reserved } = quota.standing(now);
    let remaining = left(allowed, used);
    let dollars = |cost: Option<Cost>| cost.map(Cost::dollars);
    let resets_at = (span.to != WallTime(i64::MAX)).then(|| rfc3339(span.to));
    let Amount { tokens: reserved_tokens, cost: reserved_cost } = reserved;
    json!({
        "period": period.label(),
        "time_zone": zone.name(),
        "tokens": allowance.tokens,
        "cost_usd": dollars(allowance.cost),
        "granted_tokens": allowed.tokens.zip(allowance.tokens).map(|(all, own)| all - own),
        "granted_cost_usd": allowed.cost.zip(allowance.cost).map(|(all, own)| Cost(all.0 - own.0).dollars()),
        "used_tokens": used.tokens,
        "used_cost_usd": used.cost.dollars(),
        "remaining_tokens": remaining.tokens,
        "remaining_cost_usd": dollars(remaining.cost),
        "reserved_tokens": reserved_tokens,
        "reserved_cost_usd": reserved_cost.dollars(),
        "resets_at": resets_at,
    })
}

fn grant_view(grant: &GrantRow) -> Value {
    json!({
        "id": grant.id.to_string(),
        "tokens": grant.tokens,
        "cost_usd": grant.cost.map(Cost::dollars),
        "reason": grant.reason,
        "created_at": rfc3339(grant.created_at),
        "expires_at": grant.expires_at.map(rfc3339),
    })
}

fn json_of(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))
}

fn not_an_object() -> Problem {
    Problem::bad_request("the body must be a JSON object")
}

fn only(members: &Map<String, Value>, at: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    for name in members.keys().filter(|name| !allowed.contains(&name.as_str())) {
        let detail = format!("unknown field; {}", did_you_mean(name, allowed));
        wrong(errors, &format!("{at}/{}", super::printable(name)), &detail);
    }
}

fn wrong(errors: &mut Vec<FieldError>, pointer: &str, detail: &str) {
    errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() });
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Problem> {
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}
