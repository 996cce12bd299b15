//! Actor `Projector`: brings what the journal has to the database that gateways share, for as long as there is something.
//!
//! It blocks, on a thread of its own: a server that hangs holds up nothing else. While the server is away the rows wait
//! in the journal, and requests are served as before; only when more wait than `accounting.backlog` allows does it close
//! the door, because a disk is not without end either. How a batch looks is decided in `storage`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use actix::prelude::*;

use super::permits::{Permits, Room};
use crate::domain::time::{self, Timestamp};
use crate::storage::{Projection, StorageError};
use crate::tripwire::Tripwire;

/// The longest that a row waits while all is well, and so what another gateway may lag behind.
const TICK: Duration = Duration::from_millis(100);
/// Between two tries, while the server is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Of batches in a row, so that the actor hears what it is told.
const AT_ONCE: usize = 20;
/// How much may be left when the process ends: the next start brings the rest.
pub(super) const LAST: Duration = Duration::from_secs(2);

/// What the projector tells the metrics; written by it alone.
#[derive(Debug, Default)]
pub struct Backlog {
    waiting: AtomicU64,
    errors: AtomicU64,
    /// Zero while the server takes rows.
    failing_since: AtomicU64,
}

impl Backlog {
    /// Rows that the shared database does not have yet.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Batches that could not be brought over, each try counted.
    pub fn errors_total(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Since when the server has taken nothing; None while it does.
    pub fn failing_since(&self) -> Option<Timestamp> {
        Some(Timestamp(self.failing_since.load(Relaxed))).filter(|since| since.0 > 0)
    }
}

pub struct Projector {
    projection: Projection,
    backlog: Arc<Backlog>,
    permits: Arc<Permits>,
    /// No request is admitted while more rows wait.
    most: u64,
    alarmed: bool,
    pause: Duration,
    not_before: Timestamp,
    tripwire: Tripwire,
}

/// The orderly end: what can be brought over in a moment is.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Finish;

impl Projector {
    pub(super) fn new(
        projection: Projection,
        backlog: Arc<Backlog>,
        permits: Arc<Permits>,
        most: u64,
        tripwire: Tripwire,
    ) -> Self {
        let not_before = Timestamp::ZERO;
        Self { projection, backlog, permits, most, alarmed: false, pause: FIRST_PAUSE, not_before, tripwire }
    }

    fn tick(&mut self) {
        let now = time::now();
        if now >= self.not_before {
            match self.bring(AT_ONCE) {
                Ok(()) => self.took(),
                Err(error) => self.failed(&error, now),
            }
        }
        self.count();
    }

    /// Up to so many batches, until nothing is left.
    fn bring(&mut self, batches: usize) -> Result<(), StorageError> {
        for _ in 0..batches {
            if self.projection.step()?.done == 0 {
                break;
            }
        }
        Ok(())
    }

    fn took(&mut self) {
        self.pause = FIRST_PAUSE;
        if let Some(since) = self.backlog.failing_since() {
            // Nothing to send proves nothing, and harms nothing: the next row shows.
            self.backlog.failing_since.store(0, Relaxed);
            let seconds = time::now().since(since).as_secs_f64();
            tracing::info!(seconds, "the shared database takes the ledger's rows again");
        }
    }

    fn failed(&mut self, error: &StorageError, now: Timestamp) {
        self.backlog.errors.fetch_add(1, Relaxed);
        if self.backlog.failing_since().is_none() {
            self.backlog.failing_since.store(now.0.max(1), Relaxed);
            tracing::error!(
                %error,
                "the shared database does not take the ledger's rows, they wait in the journal and requests are served"
            );
        } else {
            tracing::debug!(%error, "the shared database still does not take the ledger's rows");
        }
        self.not_before = now.after(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn count(&mut self) {
        let waiting = match self.projection.waiting() {
            Ok(waiting) => waiting,
            Err(error) => return tracing::warn!(%error, "the journal's backlog could not be counted"),
        };
        self.backlog.waiting.store(waiting, Relaxed);
        self.permits.backlog_is(if waiting > self.most { Room::None } else { Room::Some });
        let half = waiting > self.most / 2;
        if half && !self.alarmed {
            tracing::error!(
                waiting,
                most = self.most,
                "half of the rows that may wait for the shared database are waiting, at the full number requests are refused"
            );
        }
        self.alarmed = half;
    }
}

impl Actor for Projector {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, |this, _| this.tick());
    }
}

impl Handler<Finish> for Projector {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Context<Self>) {
        self.tripwire.disarm();
        let began = time::now();
        while time::now().since(began) < LAST {
            match self.projection.step() {
                Ok(step) if step.done > 0 => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "rows are left in the journal, the next start brings them over");
                    break;
                }
            }
        }
        self.count();
        ctx.stop();
    }
}
