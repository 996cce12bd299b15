//! A month of closed requests, as the gateway's writer is handed them.

use std::sync::Arc;
use std::time::Duration;

use aoai_gateway::domain::time::wall_now;
use aoai_gateway::storage::ledger::LedgerEntry;

use crate::samples::Samples;

/// Its length; it ends now.
pub const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
/// Requests that are written in one transaction.
const GROUP: u32 = 1_000;

/// So many requests, evenly spread, group by group.
pub fn groups(samples: &Samples, rows: u64) -> impl Iterator<Item = Vec<LedgerEntry>> {
    let rows = u32::try_from(rows).expect("fewer rows");
    let (from, step) = (wall_now().before(MONTH), MONTH / rows);
    let entry = move |n: u32| {
        let intent = samples.intent(n.into(), from.after(step * n));
        LedgerEntry::Settled(Arc::new(intent), Box::new(samples.settlement(n.into())))
    };
    (0..rows.div_ceil(GROUP)).map(move |group| {
        let first = group * GROUP;
        (first..rows.min(first + GROUP)).map(&entry).collect()
    })
}
