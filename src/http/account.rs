//! What a caller may know of itself: `/v1/me`, and the balance in the shapes of OpenAI's old dashboard, which
//! ChatGPT-Next-Web and other clients read.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::admin::QuotaView;
use super::auth;
use super::error::ApiError;
use super::models;
use super::routes::Account;
use super::state::{House, Worker};
use crate::balance::budget::Amount;
use crate::domain::money::Cost;
use crate::domain::period::{Cycle, Period};
use crate::domain::time::{WallTime, wall_now};
use crate::limits::{Caller, Quota};
use crate::settings::model::Limits;
use crate::storage::page::rfc3339;
use crate::storage::quotas::Owner;

/// What clients take for "no limit": the figure that other gateways show.
const NO_LIMIT_USD: f64 = 100_000_000.0;

pub async fn serve(request: &HttpRequest, worker: &Worker, account: Account) -> Result<HttpResponse, ApiError> {
    let house = &worker.house;
    let caller = auth::caller(request.headers(), &house.callers)?;
    let now = wall_now();
    let answer = match account {
        Account::Me => me(worker, &caller, now).await?,
        Account::Usage => {
            let used = used(house, &caller, request.query_string(), now).await?;
            // In cents.
            json!({ "object": "list", "total_usage": used.cost.dollars() * 100.0 })
        }
        Account::Subscription => subscription(&caller, now),
    };
    Ok(HttpResponse::Ok().json(answer))
}

async fn me(worker: &Worker, caller: &Caller, now: WallTime) -> Result<Value, ApiError> {
    let grant = &caller.grant;
    let month = this_month(&worker.house, now);
    let used = spent(&worker.house, caller, month).await?;
    let quota_of = |wanted: fn(&Quota) -> bool| {
        caller.quotas().iter().find(|quota| wanted(quota)).map(|quota| QuotaView::of(quota, now))
    };
    Ok(json!({
        "object": "key",
        "id": grant.key_id.to_string(),
        "name": grant.name,
        "user_id": grant.user_id.map(|user| user.to_string()),
        "models": models::names(&worker.router.table(), caller),
        "expires_at": grant.expires_at.map(rfc3339),
        "limits": limits_view(grant.limits),
        "user_limits": caller.user_limits().map(limits_view),
        "quota": quota_of(Quota::is_of_key),
        "user_quota": quota_of(|quota| !quota.is_of_key()),
        "usage": { "since": rfc3339(month), "tokens": used.tokens, "cost_usd": used.cost.dollars() },
    }))
}

/// Null: unlimited.
fn limits_view(limits: Limits) -> Value {
    json!({ "rpm": limits.rpm, "tpm": limits.tpm, "concurrency": limits.concurrency })
}

/// What `hard_limit_usd` is measured against: of the quota that sets it, else of the month; or of the days that are
/// asked for.
async fn used(house: &House, caller: &Caller, query: &str, now: WallTime) -> Result<Amount, ApiError> {
    if let Some((from, to)) = days(house, query) {
        // Both from the roll-ups: what was used since the first day, without what was used since the day after the last.
        let (since, after) = (spent(house, caller, from).await?, spent(house, caller, to).await?);
        return Ok(Amount {
            tokens: since.tokens.saturating_sub(after.tokens),
            cost: Cost((since.cost.0 - after.cost.0).max(0)),
        });
    }
    match in_dollars(caller, now) {
        Some(quota) => Ok(quota.standing(now).used),
        None => spent(house, caller, this_month(house, now)).await,
    }
}

/// `start_date` and `end_date`, the latter not included: as OpenAI's dashboard was asked.
fn days(house: &House, query: &str) -> Option<(WallTime, WallTime)> {
    let zone = house.settings().time_zone.clone();
    let date = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        zone.start_of(value)
    };
    let (from, to) = (date("start_date")?, date("end_date")?);
    (from < to).then_some((from, to))
}

fn subscription(caller: &Caller, now: WallTime) -> Value {
    let limit = in_dollars(caller, now).and_then(|quota| quota.standing(now).allowed.cost);
    let limit = limit.map_or(NO_LIMIT_USD, Cost::dollars);
    let until = caller.grant.expires_at.map_or(0, |at| at.0 / 1_000_000);
    json!({
        "object": "billing_subscription",
        "has_payment_method": true,
        "soft_limit_usd": limit,
        "hard_limit_usd": limit,
        "system_hard_limit_usd": limit,
        "access_until": until,
    })
}

/// The quota that sets an amount of money; the user's where the key's does not.
fn in_dollars(caller: &Caller, now: WallTime) -> Option<&Quota> {
    let mut quotas = caller.quotas().iter().map(|quota| &**quota);
    quotas.find(|quota| quota.standing(now).allowed.cost.is_some())
}

fn this_month(house: &House, now: WallTime) -> WallTime {
    Cycle { period: Period::Month, zone: house.settings().time_zone.clone() }.span(now).from
}

async fn spent(house: &House, caller: &Caller, from: WallTime) -> Result<Amount, ApiError> {
    let (store, account) = (house.store.clone(), (Owner::Key(caller.grant.key_id), from));
    let spent = actix_web::web::block(move || store.spent_by_all(&[account])).await;
    // The blocking pool is gone: the process is ending.
    let spent = spent.map_err(|_| ApiError::internal())?.map_err(|error| {
        tracing::error!(%error, "what a key has used could not be read");
        house.metrics.database_errors.inc();
        ApiError::usage_unreadable()
    })?;
    Ok(spent.first().copied().unwrap_or_default())
}
