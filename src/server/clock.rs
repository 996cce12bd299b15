//! Watches the wall clock while the gateway runs, and sounds the alarm when it jumps.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::clock::{Look, Watch};
use crate::domain::time;
use crate::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(1);

/// At work until it is dropped.
pub struct ClockWatch(tokio::task::JoinHandle<()>);

impl ClockWatch {
    pub fn start(metrics: Arc<Metrics>) -> Self {
        let mut watch = Watch::new(time::now(), time::system_wall());
        time::trust(Some(watch.trusted()));
        Self(actix::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let look = watch.look(time::now(), time::system_wall());
                time::trust(Some(watch.trusted()));
                tell(look, &metrics);
            }
        }))
    }
}

impl Drop for ClockWatch {
    fn drop(&mut self) {
        self.0.abort();
        time::trust(None);
    }
}

fn tell(look: Look, metrics: &Metrics) {
    let seconds = |by: i64| by as f64 / 1e6;
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
