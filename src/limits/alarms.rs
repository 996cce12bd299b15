//! Says once a period that a quota is nearly used up, and that it is: in the log, as a metric, and to whoever listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::broadcast;

use crate::balance::budget::{Level, Standing};
use crate::domain::period::Cycle;
use crate::storage::quotas::Owner;

/// Listeners that lag behind by more lose the oldest; the log has them all.
const KEPT: usize = 256;

/// A quota has reached a level for the first time in its period.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaAlarm {
    pub owner: Owner,
    pub level: Level,
    pub cycle: Cycle,
    pub standing: Standing,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Alarms {
    raised: broadcast::Sender<QuotaAlarm>,
    counts: Arc<[AtomicU64; 2]>,
}

impl Default for Alarms {
    fn default() -> Self {
        Self { raised: broadcast::Sender::new(KEPT), counts: Arc::default() }
    }
}

impl Alarms {
    /// Every alarm from now on.
    pub fn listen(&self) -> broadcast::Receiver<QuotaAlarm> {
        self.raised.subscribe()
    }

    /// How often that level was reached, since the start.
    pub fn count(&self, level: Level) -> u64 {
        self.counter(level).map_or(0, |count| count.load(Relaxed))
    }

    pub(super) fn raise(&self, alarm: QuotaAlarm) {
        if let Some(count) = self.counter(alarm.level) {
            count.fetch_add(1, Relaxed);
        }
        let (used, allowed) = (alarm.standing.used, alarm.standing.allowed);
        tracing::warn!(
            owner = %alarm.owner,
            percent = alarm.level.percent(),
            period = alarm.cycle.period.label(),
            tokens = used.tokens,
            allowed_tokens = allowed.tokens,
            cost_usd = used.cost.dollars(),
            allowed_cost_usd = allowed.cost.map(|cost| cost.dollars()),
            "a quota has reached a level of its allowance"
        );
        // Nobody may be listening.
        let _ = self.raised.send(alarm);
    }

    fn counter(&self, level: Level) -> Option<&AtomicU64> {
        match level {
            Level::Below => None,
            Level::High => Some(&self.counts[0]),
            Level::Full => Some(&self.counts[1]),
        }
    }
}
