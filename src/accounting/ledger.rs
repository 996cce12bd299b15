//! Actor `Ledger`: gathers the workers' batches into groups and has them written.
//!
//! One group is being written at a time, and while it is, everything that arrives becomes the next one: groups grow
//! with the load by themselves. A group leaves memory only after the database said yes; an error is retried, with the
//! same group, for as long as it takes, while [`Permits`] close the door to new requests. It does not decide how
//! rows look (`storage`), nor how long a worker gathers before it hands over (`recorder`).

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::checkpoints::Checkpoints;
use super::gauges::Gauges;
use super::permits::Permits;
use super::recorder::LedgerLost;
use super::room::Room;
use super::writer::{self, Append, LedgerWriter, Written};
use crate::domain::time;
use crate::storage::StorageError;
use crate::storage::ledger::LedgerEntry;
use crate::tripwire::Tripwire;

const TICK: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A full mailbox would only mean that more workers than this hand over at the same moment.
const MAILBOX: usize = 1024;

pub struct Ledger {
    writer: Addr<LedgerWriter>,
    permits: Arc<Permits>,
    gauges: Arc<Gauges>,
    checkpoints: Checkpoints,
    room: Room,
    tripwire: Tripwire,
    /// Arrived, not yet handed to the writer.
    waiting: Group,
    writing: bool,
    /// Entries that arrived, ever.
    received: u64,
    /// Entries that are safe.
    committed: Sequence,
    flushes: Vec<(Sequence, oneshot::Sender<Sequence>)>,
}

/// How many entries are safe since the start: in the database, or, of what has only begun, in the log beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

/// A worker's batch. The answer has a channel of its own, because actix skips a message whose sender no longer waits.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Record {
    pub entries: Vec<LedgerEntry>,
    /// Told once the batch is safe; dropped if that will never be. The worker gets its entries back, because
    /// memory that one thread takes and another frees costs an allocator several times as much.
    pub committed: oneshot::Sender<Vec<LedgerEntry>>,
}

/// Resolves when everything that arrived before it is safe.
#[derive(Message)]
#[rtype(result = "Result<Sequence, LedgerLost>")]
pub struct Flush;

/// What the ledger is doing.
#[derive(Message)]
#[rtype(result = "LedgerReport")]
pub struct Inspect;

#[derive(Clone, Copy, Debug, PartialEq, Eq, MessageResponse)]
pub struct LedgerReport {
    /// Entries that arrived and are not safe yet.
    pub pending: u64,
    pub committed: Sequence,
}

/// The orderly end, after a `Flush`: nothing may be recorded any more.
#[derive(Message)]
#[rtype(result = "Result<(), LedgerLost>")]
pub struct Close;

#[derive(Default)]
struct Group {
    batches: Vec<Vec<LedgerEntry>>,
    /// One for each batch.
    waiters: Vec<oneshot::Sender<Vec<LedgerEntry>>>,
}

impl Ledger {
    pub(super) fn new(
        writer: Addr<LedgerWriter>,
        permits: Arc<Permits>,
        gauges: Arc<Gauges>,
        checkpoints: Checkpoints,
        room: Room,
        tripwire: Tripwire,
    ) -> Self {
        Self {
            writer,
            permits,
            gauges,
            checkpoints,
            room,
            tripwire,
            waiting: Group::default(),
            writing: false,
            received: 0,
            committed: Sequence(0),
            flushes: Vec::new(),
        }
    }

    fn write_next(&mut self, ctx: &mut Context<Self>) {
        if self.writing || self.waiting.batches.is_empty() {
            return;
        }
        self.writing = true;
        let Group { batches, waiters } = mem::take(&mut self.waiting);
        self.append(Arc::new(batches), waiters, FIRST_PAUSE, ctx);
    }

    fn append(
        &mut self,
        batches: Arc<Vec<Vec<LedgerEntry>>>,
        waiters: Vec<oneshot::Sender<Vec<LedgerEntry>>>,
        pause: Duration,
        ctx: &mut Context<Self>,
    ) {
        let answer = self.writer.send(Append(batches.clone()));
        ctx.spawn(answer.into_actor(self).map(move |answer, this, ctx| match answer {
            Ok(Ok(written)) => this.written(batches, waiters, written, ctx),
            Ok(Err(error)) => this.refused(&error, batches, waiters, pause, ctx),
            // The writer is dead, and its tripwire ends the process; the waiters learn it by their dropped channels.
            Err(_) => this.stop_for_good(ctx),
        }));
    }

    fn written(
        &mut self,
        batches: Arc<Vec<Vec<LedgerEntry>>>,
        waiters: Vec<oneshot::Sender<Vec<LedgerEntry>>>,
        written: Written,
        ctx: &mut Context<Self>,
    ) {
        let entries = batches.iter().map(Vec::len).sum::<usize>() as u64;
        let settled = batches.iter().flatten().filter(|entry| matches!(entry, LedgerEntry::Settled(..))).count();
        self.committed.0 += entries;
        self.writing = false;
        self.gauges.committed(settled as u64, written);
        self.checkpoints.committed(entries);
        self.permits.give_back(settled);
        if let Some(outage) = self.permits.database_answered(time::now()) {
            tracing::info!(seconds = outage.as_secs_f64(), "the database takes ledger entries again");
        }
        // The writer has let go of them with its answer.
        let mut batches = Arc::try_unwrap(batches).unwrap_or_default().into_iter();
        for waiter in waiters {
            // A worker that is gone no longer needs the answer.
            let _ = waiter.send(batches.next().unwrap_or_default());
        }
        let committed = self.committed;
        for (_, flush) in self.flushes.extract_if(.., |(wanted, _)| *wanted <= committed) {
            let _ = flush.send(committed);
        }
        self.write_next(ctx);
    }

    fn refused(
        &mut self,
        error: &StorageError,
        batches: Arc<Vec<Vec<LedgerEntry>>>,
        waiters: Vec<oneshot::Sender<Vec<LedgerEntry>>>,
        pause: Duration,
        ctx: &mut Context<Self>,
    ) {
        self.gauges.database_refused();
        if error.is_io_failure() {
            return self.give_up(error, ctx);
        }
        if error.is_disk_full() {
            self.room.ran_out(&self.permits, error);
        }
        self.permits.database_refused(time::now());
        let entries: usize = batches.iter().map(Vec::len).sum();
        tracing::error!(
            %error,
            entries,
            retry_ms = pause.as_millis() as u64,
            "the database refused ledger entries, they are kept and tried again"
        );
        ctx.run_later(pause, move |this, ctx| this.append(batches, waiters, (pause * 2).min(LONGEST_PAUSE), ctx));
    }

    /// The file may hold anything now: nothing more is confirmed, and the next start reads what is there.
    fn give_up(&mut self, error: &StorageError, ctx: &mut Context<Self>) {
        tracing::error!(%error, "the disk failed under the ledger: nothing more is confirmed, the process ends and recovers");
        self.stop_for_good(ctx);
    }

    fn stop_for_good(&mut self, ctx: &mut Context<Self>) {
        self.permits.ledger_is_lost();
        self.waiting = Group::default();
        self.flushes.clear();
        ctx.stop();
    }

    fn tidy(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(self.writer.send(writer::Tidy).into_actor(self).map(|answer, this, ctx| match answer {
            Ok(Ok(true)) => this.tidy(ctx),
            Ok(Err(error)) if error.is_io_failure() => this.give_up(&error, ctx),
            Ok(Err(error)) if error.is_disk_full() => this.room.ran_out(&this.permits, &error),
            Ok(Err(error)) => tracing::warn!(%error, "requests that are open for long got no rows, it is tried again"),
            // A dead writer's tripwire ends the process.
            Ok(Ok(false)) | Err(_) => {}
        }));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if let Some(work) = self.room.due(&self.permits, time::now()) {
            ctx.spawn(work.into_actor(self).map(|laid, this, _| this.room.laid(&this.permits, laid)));
        }
        if !self.permits.is_refused() {
            self.tidy(ctx);
        }
        let Some(work) = self.checkpoints.due(time::now(), &self.writer) else { return };
        ctx.spawn(work.into_actor(self).map(|done, this, ctx| match this.checkpoints.done(done) {
            Some(error) if error.is_io_failure() => this.give_up(&error, ctx),
            Some(error) if error.is_disk_full() => this.room.ran_out(&this.permits, &error),
            Some(_) | None => {}
        }));
    }
}

impl Actor for Ledger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK, Self::tick);
    }
}

impl Handler<Record> for Ledger {
    type Result = ();

    fn handle(&mut self, record: Record, ctx: &mut Context<Self>) {
        self.received += record.entries.len() as u64;
        self.waiting.batches.push(record.entries);
        self.waiting.waiters.push(record.committed);
        self.write_next(ctx);
    }
}

impl Handler<Flush> for Ledger {
    type Result = ResponseFuture<Result<Sequence, LedgerLost>>;

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) -> Self::Result {
        let (sender, receiver) = oneshot::channel();
        if self.committed.0 == self.received {
            let _ = sender.send(self.committed);
        } else {
            self.flushes.push((Sequence(self.received), sender));
        }
        Box::pin(async move { receiver.await.map_err(|_| LedgerLost) })
    }
}

impl Handler<Inspect> for Ledger {
    type Result = LedgerReport;

    fn handle(&mut self, _: Inspect, _: &mut Context<Self>) -> LedgerReport {
        LedgerReport { pending: self.received - self.committed.0, committed: self.committed }
    }
}

impl Handler<Close> for Ledger {
    type Result = ResponseActFuture<Self, Result<(), LedgerLost>>;

    fn handle(&mut self, _: Close, _: &mut Context<Self>) -> Self::Result {
        self.tripwire.disarm();
        self.permits.ledger_is_lost();
        Box::pin(self.writer.send(writer::Close).into_actor(self).map(|answer, _, ctx| {
            ctx.stop();
            match answer {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    // Nothing is lost: the next start reads the log as it is.
                    tracing::warn!(%error, "the write-ahead log was not emptied at the end");
                    Ok(())
                }
                Err(_) => Err(LedgerLost),
            }
        }))
    }
}
