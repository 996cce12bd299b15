//! What was measured of a deployment, for the comparison with its peers. Nothing on the request path reads it.
//!
//! Its owner writes it, for each report it hears; the `Pool` reads it, once a second and tier by tier, because the peers
//! belong to other owners. What comes of that is a share in the [`super::gauges`]. Both live on one thread, so the lock
//! is never waited for but by an operator's look.

use std::sync::{Mutex, PoisonError};

use crate::balance::gray::{Signs, Vitals};
use crate::domain::time::Timestamp;

#[derive(Debug, Default)]
pub struct SharedVitals(Mutex<Vitals>);

impl SharedVitals {
    pub fn signs(&self, now: Timestamp) -> Signs {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).signs(now)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Vitals)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
