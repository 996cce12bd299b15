//! What a gateway has been lent of a quota that several share: asked for when a request does not fit what it has, given
//! back when it is not used. The server that lends is asked off the worker's thread, and at most once a second where it
//! has nothing left.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::quota::Quota;
use super::refusal::QuotaShort;
use crate::balance::budget::{Amount, Claim, Why};
use crate::domain::time::{self, Timestamp, wall_now};
use crate::storage::{StorageError, Store};

/// How long the traffic is that a gateway likes to have in hand.
const IN_HAND: u64 = 10;
/// Between two questions to a server that has nothing left.
const PAUSE: Duration = Duration::from_secs(1);
/// A server that hangs is one that has nothing left.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who lends, and to whom.
#[derive(Clone, Debug)]
pub(super) struct Lender {
    pub(super) store: Store,
    /// As the journal is known to the server.
    pub(super) replica: Uuid,
}

/// A quota's dealings with its lender.
#[derive(Debug)]
pub(super) struct Borrower {
    lender: Lender,
    /// One question at a time: the next in line may find that the answer suffices for both.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The server had not even that at that time, and this is why.
    denied: Option<(Timestamp, Amount, Denied)>,
    /// When it was last looked at.
    used: Amount,
    /// A second, lately.
    rate: Amount,
}

/// Why nothing was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied {
    /// None: the server could not be asked.
    spent_by_all: Option<Amount>,
}

impl Borrower {
    pub(super) fn new(lender: Lender) -> Self {
        Self { lender, asking: tokio::sync::Mutex::default(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the claim finds room, all of it or what must be there.
    pub(super) async fn borrow(&self, quota: &Arc<Quota>, claim: Claim) -> Result<(), Denied> {
        let _one_at_a_time = self.asking.lock().await;
        if quota.has_room_for(claim.full) {
            return Ok(());
        }
        let least = claim.alone.filter(|_| quota.is_idle()).unwrap_or(claim.least);
        if let Some((since, need, denied)) = self.state().denied
            && need.fits(least)
            && time::now().since(since) < PAUSE
        {
            return Err(denied);
        }
        let mut denied = Denied { spent_by_all: None };
        for need in [claim.full, claim.least, least] {
            let wish = self.state().rate.times(IN_HAND);
            let (request, store) = (quota.lease_request(need, wish), self.lender.store.clone());
            let replica = self.lender.replica;
            let asking = actix_web::web::block(move || store.lease(replica, &request));
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(Ok(lease))) => {
                    quota.set_lent(request.period, lease.lent);
                    if lease.suffices {
                        self.state().denied = None;
                        return Ok(());
                    }
                    denied = Denied { spent_by_all: Some(lease.spent_by_all) };
                }
                Ok(Ok(Err(error))) => tracing::debug!(%error, "no part of a quota can be had"),
                Ok(Err(_)) | Err(_) => tracing::debug!("no part of a quota can be had: the database does not answer"),
            }
        }
        self.state().denied = Some((time::now(), least, denied));
        Err(denied)
    }

    /// Gives back what will not be used for a while; blocks. Once a second.
    pub(super) fn tend(&self, quota: &Quota) -> Result<(), StorageError> {
        let standing = quota.standing(wall_now());
        let keep = {
            let mut state = self.state();
            let lately = standing.used.minus(state.used);
            state.used = standing.used;
            state.rate = Amount {
                tokens: (state.rate.tokens + lately.tokens) / 2,
                cost: crate::domain::money::Cost((state.rate.cost.0 + lately.cost.0) / 2),
            };
            state.rate.times(IN_HAND)
        };
        self.give_back_beyond(quota, keep)
    }

    /// All that is not in use, but for so much.
    pub(super) fn give_back_beyond(&self, quota: &Quota, keep: Amount) -> Result<(), StorageError> {
        match quota.give_up_beyond(keep) {
            Some((period, unused)) => self.lender.store.give_back(self.lender.replica, quota.owner(), period, unused),
            None => Ok(()),
        }
    }
}

impl Denied {
    /// The refusal in words that are true of all gateways together.
    pub(super) fn explain(self, short: &mut QuotaShort) {
        let figures = &mut short.short;
        match self.spent_by_all {
            Some(spent) => {
                figures.used = spent;
                let left = figures.allowed.minus(spent);
                figures.why = if figures.needs.fits(left) { Why::Reserved } else { Why::UsedUp };
            }
            None => figures.why = Why::Reserved,
        }
    }
}
