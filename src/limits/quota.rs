//! Quotas in use: each with its budget, and what keeps that budget and the ledger the same.
//!
//! A figure in memory is made from the ledger when a quota is first met, and again from time to time. That happens while
//! requests end, and the ledger has them a little later, so a quota notes which ones did: what the ledger's snapshot lacks of
//! them is added to it.

mod measuring;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::alarms::{Alarms, QuotaAlarm};
use super::lending::{Borrower, Lender};
use super::refusal::{QuotaShort, Whose};
use crate::balance::budget::{Allowance, Amount, Budget, Claim, Extra, Hold, Level, Standing};
use crate::domain::ids::RequestId;
use crate::domain::period::{Cycle, Zone};
use crate::domain::time::{self, Timestamp, WallTime, wall_now};
use crate::storage::leases::LeaseRequest;
use crate::storage::quotas::{GrantRow, Owner, QuotaRow};
use crate::storage::{StorageError, Store};
use measuring::{Measured, measure};

/// What ended longer ago is in the ledger, unless the database refuses; and then nothing new is let in.
const WRITTEN: Duration = Duration::from_secs(5);

/// One quota, for all workers.
#[derive(Debug)]
pub struct Quota {
    owner: Owner,
    state: Mutex<State>,
    alarms: Alarms,
    /// None where this gateway has the quota for itself.
    borrower: Option<Borrower>,
}

#[derive(Debug)]
struct State {
    budget: Budget,
    /// Requests that ended lately, and all since the ledger began to be read.
    lately: VecDeque<(Timestamp, Ended)>,
    is_read: bool,
    /// Where gateways share it: when it was used last, while what all have used since may still be unknown.
    touched: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    request: RequestId,
    amount: Amount,
    began: WallTime,
}

/// A claim of one request: released when dropped, or replaced by the truth.
#[derive(Debug)]
pub(super) struct Reserved {
    quota: Arc<Quota>,
    request: RequestId,
    /// None: settled.
    hold: Option<Hold>,
    began: WallTime,
}

impl Quota {
    fn new(owner: Owner, mut budget: Budget, alarms: Alarms, lender: Option<&Lender>) -> Self {
        if lender.is_some() {
            let now = wall_now();
            let period = budget.roll(now).from;
            budget.lend(Amount::default(), period, now);
        }
        let borrower = lender.cloned().map(Borrower::new);
        // What was used before the start may not be known to all, either.
        let touched = lender.map(|_| time::now());
        Self {
            owner,
            state: Mutex::new(State { budget, lately: VecDeque::new(), is_read: false, touched }),
            alarms,
            borrower,
        }
    }

    pub(super) fn borrower(&self) -> Option<&Borrower> {
        self.borrower.as_ref()
    }

    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn has_room_for(&self, amount: Amount) -> bool {
        amount.fits(self.state().budget.in_hand(wall_now()).1)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.standing(wall_now()).reserved == Amount::default()
    }

    /// What its lender is to be asked for.
    pub(super) fn lease_request(&self, need: Amount, wish: Amount) -> LeaseRequest {
        let now = wall_now();
        let mut state = self.state();
        let standing = state.budget.standing(now);
        let (in_use, _) = state.budget.in_hand(now);
        LeaseRequest { owner: self.owner, period: standing.span.from, allowed: standing.allowed, in_use, need, wish }
    }

    pub(super) fn set_lent(&self, period: WallTime, lent: Amount) {
        self.state().budget.lend(lent, period, wall_now());
    }

    /// Lends itself less, so that no more than `keep` is unused; gives the period, and what it gave up.
    pub(super) fn give_up_beyond(&self, keep: Amount) -> Option<(WallTime, Amount)> {
        let now = wall_now();
        let mut state = self.state();
        let lent = state.budget.lent()?;
        let (in_use, _) = state.budget.in_hand(now);
        let unused = lent.minus(in_use).minus(keep);
        if unused == Amount::default() {
            return None;
        }
        let period = state.budget.roll(now).from;
        state.budget.lend(lent.minus(unused), period, now);
        Some((period, unused))
    }

    /// Since when it is not known what all gateways have used of it, and in which period.
    pub(super) fn touched(&self) -> Option<(Timestamp, WallTime)> {
        let mut state = self.state();
        let touched = state.touched?;
        Some((touched, state.budget.roll(wall_now()).from))
    }

    /// All is known, but for what was used since.
    pub(super) fn untouch(&self, touched: Timestamp) {
        let mut state = self.state();
        state.touched = state.touched.filter(|since| *since != touched);
    }

    /// All gateways together have used that much of it.
    pub(super) fn observe(&self, by_all: Amount, period: WallTime) -> Option<QuotaAlarm> {
        let now = wall_now();
        let mut state = self.state();
        let level = state.budget.observe(by_all, period, now)?;
        let standing = Standing { used: by_all, ..state.budget.standing(now) };
        Some(QuotaAlarm { owner: self.owner, level, cycle: state.budget.cycle().clone(), standing })
    }

    pub(super) fn set_told(&self, level: Level, period: WallTime) {
        self.state().budget.set_told(level, period, wall_now());
    }

    pub fn standing(&self, now: WallTime) -> Standing {
        self.state().budget.standing(now)
    }

    pub fn is_of_key(&self) -> bool {
        self.whose() == Whose::Key
    }

    pub fn cycle(&self) -> Cycle {
        self.state().budget.cycle().clone()
    }

    fn whose(&self) -> Whose {
        match self.owner {
            Owner::Key(_) => Whose::Key,
            Owner::User(_) => Whose::User,
        }
    }

    pub(super) fn reserve(
        self: &Arc<Self>,
        request: RequestId,
        claim: Claim,
        began: WallTime,
    ) -> Result<Reserved, QuotaShort> {
        let mut state = self.state();
        match state.budget.reserve(claim, began) {
            Ok(hold) => {
                drop(state);
                Ok(Reserved { quota: self.clone(), request, hold: Some(hold), began })
            }
            Err(short) => Err(QuotaShort { whose: self.whose(), cycle: state.budget.cycle().clone(), short }),
        }
    }

    /// Counts what was reserved by nobody.
    pub(super) fn spend(&self, request: RequestId, truth: Amount, began: WallTime) {
        let mut state = self.state();
        let reached = state.spend(None, Ended { request, amount: truth, began });
        self.tell(state, reached, began);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, reached: Option<Level>, now: WallTime) {
        if let Some(level) = reached {
            let (standing, cycle) = (state.budget.standing(now), state.budget.cycle().clone());
            drop(state);
            self.alarms.raise(QuotaAlarm { owner: self.owner, level, cycle, standing });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// What it is reserved for will be in the ledger by this name.
    pub(super) fn rename(&mut self, request: RequestId) {
        self.request = request;
    }

    pub(super) fn settle(&mut self, truth: Amount) {
        let Some(hold) = self.hold.take() else { return };
        let mut state = self.quota.state();
        let ended = Ended { request: self.request, amount: truth, began: self.began };
        let reached = state.spend(Some(hold), ended);
        self.quota.tell(state, reached, self.began);
    }
}

impl State {
    fn note(&mut self, one: Ended, now: Timestamp) {
        while !self.is_read && self.lately.front().is_some_and(|(ended, _)| now.since(*ended) > WRITTEN) {
            self.lately.pop_front();
        }
        self.lately.push_back((now, one));
    }

    fn spend(&mut self, hold: Option<Hold>, one: Ended) -> Option<Level> {
        let now = time::now();
        self.note(one, now);
        if let Some(hold) = hold {
            self.budget.release(hold);
        }
        if self.budget.lent().is_some() {
            self.touched = Some(now);
        }
        self.budget.spend(one.amount, one.began, wall_now())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.quota.state().budget.release(hold);
        }
    }
}

/// When parts of quotas are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tending {
    /// Those that are not used for a while.
    EverySecond,
    /// All.
    AtTheEnd,
}

/// All quotas that are in use.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    by_owner: Mutex<HashMap<Owner, Arc<Quota>>>,
    alarms: Alarms,
    /// Set before the first load, if ever.
    lender: OnceLock<Lender>,
}

impl Quotas {
    /// Quotas are shared with other gateways, and this is who lends parts of them.
    pub(super) fn share(&self, lender: Lender) {
        // A second time would be the same.
        let _ = self.lender.set(lender);
    }

    /// Gives back what is not used for a while, or at the end all of it; blocks.
    pub(super) fn tend(&self, how: Tending) -> Result<(), StorageError> {
        for quota in &self.all() {
            if let Some(borrower) = quota.borrower() {
                match how {
                    Tending::EverySecond => borrower.tend(quota)?,
                    Tending::AtTheEnd => borrower.give_back_beyond(quota, Amount::default())?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Arc<Quota>> {
        self.table().values().cloned().collect()
    }

    pub(super) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    pub(super) fn find(&self, owner: Owner) -> Option<Arc<Quota>> {
        self.table().get(&owner).cloned()
    }

    /// Takes over what the database says of quotas; blocks. One whose periods are as they were keeps its figures, for
    /// others they are read from the ledger.
    pub(super) fn load(&self, store: &Store, default_zone: &Zone) -> Result<(), StorageError> {
        let rows = store.quotas()?;
        let now = wall_now();
        let (mut table, mut recast) = (HashMap::new(), Vec::new());
        for row in rows {
            let (cycle, allowance, extras) = (cycle(&row, default_zone), row.terms.allowance, extras(&row.grants));
            let known = self.find(row.owner);
            let quota = known.clone().unwrap_or_else(|| {
                let budget = Budget::new(cycle.clone(), Allowance::default(), Vec::new(), Amount::default(), now);
                Arc::new(Quota::new(row.owner, budget, self.alarms.clone(), self.lender.get()))
            });
            table.insert(row.owner, quota.clone());
            if known.is_some() && quota.cycle() == cycle {
                quota.state().budget.allow(allowance, extras, now);
            } else {
                recast.push((quota, cycle.span(now), (cycle, allowance, extras)));
            }
        }
        measure(store, recast, |state, Measured { used, later, span }, (cycle, allowance, extras)| {
            state.budget.recast(cycle, allowance, extras, used, now);
            state.budget.foresee(later, span);
        })?;
        *self.table() = table;
        Ok(())
    }

    /// Makes each figure what the ledger says it is; blocks. Gives how many were not.
    pub(super) fn reconcile(&self, store: &Store) -> Result<usize, StorageError> {
        let now = wall_now();
        let present = self.all().into_iter().map(|quota| {
            let span = quota.state().budget.asked_about(now);
            (quota, span, ())
        });
        let mut differed = 0;
        measure(store, present.collect(), |state, Measured { used, later, span }, ()| {
            let before = state.budget.standing(now);
            state.budget.correct(used, span, now);
            state.budget.foresee(later, span);
            differed += usize::from(before.span == span && before.used != used);
        })?;
        Ok(differed)
    }

    /// How many have something reserved.
    pub(super) fn reserved(&self) -> usize {
        let now = wall_now();
        self.table().values().filter(|quota| quota.standing(now).reserved != Amount::default()).count()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Owner, Arc<Quota>>> {
        self.by_owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cycle(row: &QuotaRow, default_zone: &Zone) -> Cycle {
    Cycle { period: row.terms.period, zone: row.terms.zone.clone().unwrap_or_else(|| default_zone.clone()) }
}

fn extras(grants: &[GrantRow]) -> Vec<Extra> {
    grants
        .iter()
        .map(|grant| Extra {
            amount: Amount { tokens: grant.tokens.unwrap_or(0), cost: grant.cost.unwrap_or_default() },
            from: grant.created_at,
            until: grant.expires_at,
        })
        .collect()
}

#[cfg(test)]
mod tests;
