//! Parts of a quota that gateways have been lent, so that together they never spend more than it allows.
//!
//! Who wants to spend asks the server for some of what is left, and spends that by itself. What is lent counts as spent
//! until it is given back, whatever becomes of the gateway that has it: one that froze or lost the network may still spend
//! it. One that died finds it again with its journal, which knows what of it was spent.

use diesel::prelude::*;
use uuid::Uuid;

use super::connection::StoreConnection;
use super::quotas::Owner;
use super::schema::{quota_leases, quota_lent};
use super::{StorageError, Store};
use crate::balance::budget::{Allowance, Amount};
use crate::domain::money::Cost;
use crate::domain::time::WallTime;

/// Of what is left, at most this part is lent at once where less will do: a twentieth.
const PART: u64 = 20;

/// What a gateway asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    pub owner: Owner,
    /// The first moment of the period.
    pub period: WallTime,
    /// All that the quota allows in it, with what was granted on top.
    pub allowed: Allowance,
    /// What this gateway has spent in the period, and reserved: that is gone, lent or not.
    pub in_use: Amount,
    /// On top of it. Less is of no use.
    pub need: Amount,
    /// On top of it. More is of no use.
    pub wish: Amount,
}

/// How a gateway stands with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// All that the gateway has been lent in the period.
    pub lent: Amount,
    /// What was asked for is in it.
    pub suffices: bool,
    /// What all gateways together have spent, as far as their rows are there.
    pub spent_by_all: Amount,
}

impl Store {
    /// Lends what is needed, or nothing; blocks. Only where a server has the quotas.
    pub fn lease(&self, replica: Uuid, request: &LeaseRequest) -> Result<Lease, StorageError> {
        let account = [(request.owner, request.period)];
        let spent_by_all = self.spent_by_all(&account)?.first().copied().unwrap_or_default();
        let mut connection = self.reader()?;
        let StoreConnection::Postgres(server) = &mut *connection else {
            return Ok(Lease { lent: request.in_use.plus(request.need), suffices: true, spent_by_all });
        };
        let (owner, period) = (request.owner.bytes(), request.period.0);
        server.transaction(|server| {
            // The quota may be younger than its period: what was spent before is nobody's until its spender asks.
            diesel::insert_into(quota_lent::table)
                .values((
                    quota_lent::owner.eq(&owner),
                    quota_lent::period.eq(period),
                    quota_lent::tokens.eq(column(spent_by_all.tokens)),
                    quota_lent::cost.eq(spent_by_all.cost.0),
                    quota_lent::unclaimed_tokens.eq(column(spent_by_all.tokens)),
                    quota_lent::unclaimed_cost.eq(spent_by_all.cost.0),
                ))
                .on_conflict_do_nothing()
                .execute(server)?;
            let all = quota_lent::table.find((&owner, period));
            let own = quota_leases::table.find((&owner, period, replica.as_bytes().as_slice()));
            let (tokens, cost, unclaimed_tokens, unclaimed_cost): (i64, i64, i64, i64) = all
                .select((
                    quota_lent::tokens,
                    quota_lent::cost,
                    quota_lent::unclaimed_tokens,
                    quota_lent::unclaimed_cost,
                ))
                .for_update()
                .first(server)?;
            let known: Option<(i64, i64)> =
                own.select((quota_leases::tokens, quota_leases::cost)).first(server).optional()?;
            let before = known.map(|(tokens, cost)| amount(tokens, cost));
            let claimed = match before {
                Some(_) => Amount::default(),
                None => amount(unclaimed_tokens, unclaimed_cost).least(request.in_use),
            };
            let lent = before.unwrap_or_default();
            // What is in use is gone, whether or not it was lent.
            let floor =
                Amount { tokens: lent.tokens.max(request.in_use.tokens), cost: lent.cost.max(request.in_use.cost) };
            let taken = amount(tokens, cost).plus(floor.minus(lent)).minus(claimed);
            let more = part(request, taken, floor);
            let (lent, all_lent) = (floor.plus(more.unwrap_or_default()), taken.plus(more.unwrap_or_default()));
            diesel::update(all)
                .set((
                    quota_lent::tokens.eq(column(all_lent.tokens)),
                    quota_lent::cost.eq(all_lent.cost.0),
                    quota_lent::unclaimed_tokens.eq(unclaimed_tokens - column(claimed.tokens)),
                    quota_lent::unclaimed_cost.eq(unclaimed_cost - claimed.cost.0),
                ))
                .execute(server)?;
            let sums = (quota_leases::tokens.eq(column(lent.tokens)), quota_leases::cost.eq(lent.cost.0));
            if diesel::update(own).set(sums).execute(server)? == 0 {
                let whose = (
                    quota_leases::owner.eq(&owner),
                    quota_leases::period.eq(period),
                    quota_leases::replica.eq(replica.as_bytes().as_slice()),
                );
                let (whose, period, replica) = whose;
                diesel::insert_into(quota_leases::table)
                    .values((whose, period, replica, sums.0, sums.1))
                    .execute(server)?;
            }
            Ok(Lease { lent, suffices: more.is_some(), spent_by_all })
        })
    }

    /// What this gateway will not spend of what it has been lent. It must have forgotten it before.
    pub fn give_back(&self, replica: Uuid, owner: Owner, period: WallTime, unused: Amount) -> Result<(), StorageError> {
        let mut connection = self.reader()?;
        let StoreConnection::Postgres(server) = &mut *connection else { return Ok(()) };
        let (tokens, cost) = (column(unused.tokens), unused.cost.0);
        let owner = owner.bytes();
        server.transaction(|server| {
            diesel::update(quota_lent::table.find((&owner, period.0)))
                .set((quota_lent::tokens.eq(quota_lent::tokens - tokens), quota_lent::cost.eq(quota_lent::cost - cost)))
                .execute(server)?;
            diesel::update(quota_leases::table.find((&owner, period.0, replica.as_bytes().as_slice())))
                .set((
                    quota_leases::tokens.eq(quota_leases::tokens - tokens),
                    quota_leases::cost.eq(quota_leases::cost - cost),
                ))
                .execute(server)?;
            Ok(())
        })
    }
}

/// What can be lent when `taken` is gone and this gateway has `floor` of it; None: less than is needed.
fn part(request: &LeaseRequest, taken: Amount, floor: Amount) -> Option<Amount> {
    let LeaseRequest { allowed, in_use, need, wish, .. } = *request;
    let of = |allowed: Option<u64>, taken: u64, had: u64, need: u64, wish: u64| {
        let (need, wish) = (need.saturating_sub(had), wish.saturating_sub(had));
        // Without an allowance it is not counted, but noted, should it be counted one day.
        let left = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(taken));
        (need <= left).then(|| need.max(wish.min(left / PART)))
    };
    let (need, wish) = (in_use.plus(need), in_use.plus(wish));
    let money = |cost: Cost| u64::try_from(cost.0).unwrap_or(0);
    let tokens = of(allowed.tokens, taken.tokens, floor.tokens, need.tokens, wish.tokens)?;
    let cost = of(allowed.cost.map(money), money(taken.cost), money(floor.cost), money(need.cost), money(wish.cost))?;
    Some(Amount { tokens, cost: Cost(i64::try_from(cost).unwrap_or(i64::MAX)) })
}

fn amount(tokens: i64, cost: i64) -> Amount {
    Amount { tokens: u64::try_from(tokens).unwrap_or(0), cost: Cost(cost.max(0)) }
}

fn column(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
