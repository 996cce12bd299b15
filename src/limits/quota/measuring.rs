//! What the ledger says of the use of quotas, and what of them it does not have yet.

use std::sync::Arc;

use super::{Quota, State};
use crate::balance::budget::Amount;
use crate::domain::period::Span;
use crate::domain::time::wall_now;
use crate::storage::{StorageError, Store};

/// What the ledger says of a quota.
pub(super) struct Measured {
    pub(super) span: Span,
    /// In the span, and after it.
    pub(super) used: Amount,
    /// Only after it: nothing, unless the clock was ahead once.
    pub(super) later: Amount,
}

/// What the ledger says of each quota's use in a span, requests included that it does not have yet; handed to `apply` with what
/// belongs to it, while nothing else can change.
pub(super) fn measure<T>(
    store: &Store,
    quotas: Vec<(Arc<Quota>, Span, T)>,
    mut apply: impl FnMut(&mut State, Measured, T),
) -> Result<(), StorageError> {
    if quotas.is_empty() {
        return Ok(());
    }
    let is_ahead = store.newest_hour()?.is_some_and(|newest| newest > wall_now());
    for (quota, ..) in &quotas {
        quota.state().is_read = true;
    }
    let since = quotas.iter().map(|(quota, span, _)| (quota.owner, span.from));
    let later = quotas.iter().filter(|_| is_ahead).map(|(quota, span, _)| (quota.owner, span.to));
    let spent = store.spent(&since.chain(later).collect::<Vec<_>>(), || {
        let ended =
            |quota: &Arc<Quota>| -> Vec<_> { quota.state().lately.iter().map(|(_, one)| one.request).collect() };
        quotas.iter().flat_map(|(quota, ..)| ended(quota)).collect()
    });
    let amounts = spent.as_ref().map_or(&[][..], |spent| &spent.amounts);
    let (mut in_all, mut later) = (amounts.iter(), amounts.iter().skip(quotas.len()));
    for (quota, span, with) in quotas {
        let mut state = quota.state();
        state.is_read = false;
        if let (Ok(spent), Some(counted)) = (&spent, in_all.next()) {
            let ended = state.lately.iter().map(|(_, one)| one);
            let lacking = ended.filter(|one| span.contains(one.began) && !spent.included.contains(&one.request));
            let used = lacking.fold(*counted, |sum, one| sum.plus(one.amount));
            let later = later.next().copied().unwrap_or_default();
            apply(&mut state, Measured { span, used, later }, with);
        }
    }
    spent.map(drop)
}
