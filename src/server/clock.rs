//! Watches the wall clock while the gateway runs, and sounds the alarm when it jumps, when it begins before what the ledger
//! has, or when the database that gateways share has another time. Nobody is refused for any of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::clock::{self, Look, Watch};
use crate::domain::time::{self, WallTime};
use crate::domain::witness::{Reading, Testimony, Witness};
use crate::metrics::Metrics;
use crate::storage::page::rfc3339;

const EVERY: Duration = Duration::from_secs(1);

/// At work until it is dropped.
pub struct ClockWatch {
    task: tokio::task::JoinHandle<()>,
    metrics: Arc<Metrics>,
    /// What the ledger had at the start; microseconds.
    newest: Arc<AtomicI64>,
}

/// Hears what the shared database's clock says.
pub struct Bystander {
    witness: Witness,
    metrics: Arc<Metrics>,
}

impl Bystander {
    pub fn hear(&mut self, reading: Reading) {
        let testimony = self.witness.hear(reading);
        self.metrics.clock_off.set(match testimony {
            Testimony::Differs(by) | Testimony::StillDiffers(by) => seconds(by),
            Testimony::Agrees | Testimony::AgreesAgain => 0.0,
        });
        match testimony {
            Testimony::Agrees | Testimony::StillDiffers(_) => {}
            Testimony::Differs(by) => tracing::error!(
                seconds = seconds(by).abs(),
                clock = rfc3339(reading.answered),
                database = rfc3339(reading.says),
                "the wall clock is {} the shared database's: one of the two is wrong; check both machines' time services. The \
                 ledger and quotas go by this machine's",
                side(by)
            ),
            Testimony::AgreesAgain => tracing::info!("the wall clock and the shared database's agree again"),
        }
    }
}

/// Where ours is when it is so far ahead.
fn side(ahead: i64) -> &'static str {
    if ahead > 0 { "ahead of" } else { "behind" }
}

fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

impl ClockWatch {
    pub fn start(metrics: Arc<Metrics>) -> Self {
        let mut watch = Watch::new(time::now(), time::system_wall());
        time::trust(Some(watch.trusted()));
        let newest = Arc::new(AtomicI64::new(i64::MIN));
        let (kept, known) = (metrics.clone(), newest.clone());
        let task = actix::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let look = watch.look(time::now(), time::system_wall());
                time::trust(Some(watch.trusted()));
                tell(look, &metrics);
                behind(&known, &metrics);
            }
        });
        Self { task, metrics: kept, newest }
    }

    pub fn bystander(&self) -> Bystander {
        Bystander { witness: Witness::default(), metrics: self.metrics.clone() }
    }

    /// `newest` is when the ledger's newest request began, by the clock of that time: one of the two is wrong if that is yet
    /// to come.
    pub fn compare(&self, newest: Option<WallTime>) {
        let Some(newest) = newest else { return };
        self.newest.store(newest.0, Relaxed);
        if let Some(by) = behind(&self.newest, &self.metrics) {
            tracing::error!(
                seconds = by.as_secs_f64(),
                newest_request = rfc3339(newest),
                clock = rfc3339(time::wall_now()),
                "the wall clock is behind the newest request in the ledger: it is wrong now, or was then; check the machine's \
                 time service. Quotas count all that was used since the beginning of the period that the clock shows"
            );
        }
    }
}

fn behind(newest: &AtomicI64, metrics: &Metrics) -> Option<Duration> {
    let by = clock::behind(WallTime(newest.load(Relaxed)), time::wall_now());
    metrics.clock_behind.set(by.map_or(0.0, |by| by.as_secs_f64()));
    by
}

impl Drop for ClockWatch {
    fn drop(&mut self) {
        self.task.abort();
        time::trust(None);
    }
}

fn tell(look: Look, metrics: &Metrics) {
    metrics.clock_jump.set(match look {
        Look::Jumped(by) | Look::Doubted(by) => seconds(by),
        Look::Steady | Look::Returned | Look::Confirmed(_) => 0.0,
    });
    match look {
        Look::Steady | Look::Doubted(_) => {}
        Look::Jumped(by) => tracing::error!(
            seconds = seconds(by),
            "the wall clock jumped: the ledger and quotas keep the old time until the new one has held for an hour; check \
             the machine's time service, or restart the gateway if the new time is right"
        ),
        Look::Returned => tracing::info!("the wall clock is back where it was"),
        Look::Confirmed(by) => {
            tracing::warn!(
                seconds = seconds(by),
                "the wall clock's new time has held for an hour and counts from now on"
            );
        }
    }
}
