//! Books that lose nothing. [`recorder`] is the request path's end, [`ledger`] the actor that gathers and retries, a
//! second actor commits, and [`permits`] bound what is not yet safe.
//!
//! The rule: the settled row is committed before the last byte goes to the client. Every admitted request gets a row;
//! what a crash left open is closed by [`start`], before anything new is admitted. Of a request that has just begun, a line in
//! the log beside the database is enough, unless `accounting.durability` is `"power"`.

mod batch;
mod checkpoints;
mod desk;
pub mod gauges;
pub mod ledger;
mod lingering;
pub mod permits;
pub mod projector;
pub mod recorder;
mod room;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use crate::domain::money::Tariff;
use crate::domain::time;
use crate::storage::{Bound, Replica, StorageError, Store};
use crate::tripwire::Alarm;
use checkpoints::Checkpoints;
use gauges::Gauges;
use ledger::{Close, Flush, Inspect, Ledger, LedgerReport, Sequence};
use permits::Permits;
use projector::{Backlog, Finish, Projector};
use recorder::{LedgerLost, Recorder};
use room::Room;
use writer::LedgerWriter;

/// The running ledger, for the composition root; cheap to share.
#[derive(Clone, Debug)]
pub struct Books {
    pub ledger: Addr<Ledger>,
    pub permits: Arc<Permits>,
    pub gauges: Arc<Gauges>,
    /// Requests that a crash had left open and that were closed at this start.
    pub recovered: u64,
    /// None where the journal is the database.
    pub projector: Option<Bridge>,
}

/// The way to the database that gateways share.
#[derive(Clone, Debug)]
pub struct Bridge {
    projector: Addr<Projector>,
    /// As this journal was known to the database at the start.
    pub replica: Replica,
    pub backlog: Arc<Backlog>,
}

/// Closes what a crash left open and starts the actors. Inside an actix system; blocks while it recovers.
///
/// `tariff` is asked for recovered requests, `observe_commit` is told how long each group took to write.
pub fn start(
    store: &Store,
    alarm: &Alarm,
    tariff: impl Fn(&Bound) -> Tariff,
    observe_commit: impl Fn(Duration) + Send + Sync + 'static,
) -> Result<Books, StorageError> {
    let recovered = match store.recover(&tariff) {
        Err(error) if error.is_disk_full() && store.ballast().give_up() => store.recover(&tariff)?,
        recovered => recovered?,
    };
    if recovered > 0 {
        tracing::warn!(requests = recovered, "requests left open by an unclean end were closed with estimates");
    }
    let permits = Arc::new(Permits::new(permits::CAPACITY));
    let gauges = Arc::new(Gauges::new(observe_commit));
    // Both on one thread of their own: `writer` says why.
    let arbiter = Arbiter::new().handle();
    let writer = LedgerWriter::start_in_arbiter(&arbiter, {
        let (store, tripwire) = (store.clone(), alarm.tripwire("ledger writer"));
        move |_| LedgerWriter::new(store, tripwire)
    });
    let ledger = Ledger::start_in_arbiter(&arbiter, {
        let (permits, gauges) = (permits.clone(), gauges.clone());
        let checkpoints = Checkpoints::new(store.clone(), time::now());
        let tripwire = alarm.tripwire("ledger");
        let room = Room::new(store.ballast());
        move |_| Ledger::new(writer, permits, gauges, checkpoints, room, tripwire)
    });
    Ok(Books { ledger, permits, gauges, recovered, projector: None })
}

impl Books {
    /// From now on the journal's rows are brought to the shared database, if there is one; at most `most` may wait.
    pub fn project(&mut self, store: &Store, alarm: &Alarm, most: u32) -> Result<(), StorageError> {
        let Some(projection) = store.projection()? else { return Ok(()) };
        let backlog = Arc::new(Backlog::default());
        let replica = projection.replica();
        let projector = Projector::start_in_arbiter(&Arbiter::new().handle(), {
            let (backlog, permits, tripwire) = (backlog.clone(), self.permits.clone(), alarm.tripwire("projector"));
            move |_| Projector::new(projection, backlog, permits, most.into(), tripwire)
        });
        self.projector = Some(Bridge { projector, replica, backlog });
        Ok(())
    }

    /// For the calling worker's requests.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.ledger.clone(), self.permits.clone())
    }

    /// Resolves when everything that reached the ledger so far is safe.
    pub async fn flush(&self) -> Result<Sequence, LedgerLost> {
        self.ledger.send(Flush).await.map_err(|_| LedgerLost)?
    }

    pub async fn inspect(&self) -> Result<LedgerReport, LedgerLost> {
        self.ledger.send(Inspect).await.map_err(|_| LedgerLost)
    }

    /// The orderly end, after the workers: everything is written, both actors stop without raising the alarm.
    pub async fn close(&self) -> Result<(), LedgerLost> {
        self.flush().await?;
        if let Some(bridge) = &self.projector {
            let last = tokio::time::timeout(projector::LAST * 2, bridge.projector.send(Finish)).await;
            if !matches!(last, Ok(Ok(()))) {
                tracing::warn!("the shared database hangs, the next start brings over what it did not take");
            }
        }
        self.ledger.send(Close).await.map_err(|_| LedgerLost)?
    }
}
