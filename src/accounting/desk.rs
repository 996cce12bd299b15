//! Where one worker's entries wait for the ledger, and the pump that hands them over.
//!
//! Everything here is on one thread. Tasks put entries down and wake the pump; the pump alone sends, after the tasks
//! that are ready now had their turn, so that what happens together travels together. At most one batch is on its way;
//! a batch that someone waits for leaves at once if the last one left long enough ago. Beginnings that nobody waits for
//! stay a moment longer ([`Lingering`]): the end of a short request then meets its beginning here, and both become one row.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix::Addr;
use actix::dev::SendError;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::batch::Batch;
use super::ledger::{Ledger, Record};
use super::lingering::{Lingering, Turn};
use super::permits::Permits;
use super::recorder::LedgerLost;
use crate::domain::time::{self, Timestamp};
use crate::storage::ledger::LedgerEntry;

/// From one batch of a worker to the next, under heavy load: more gathers for each transaction.
const SPACING: Duration = Duration::from_millis(2);
/// A batch so large is a sign of heavy load; a smaller one holds up nobody who waits for the next.
const HEAVY: usize = 8;
/// When the ledger's mailbox is full.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Desk {
    ledger: Addr<Ledger>,
    pub(super) permits: Arc<Permits>,
    state: RefCell<State>,
}

struct State {
    /// What leaves next.
    entries: Vec<LedgerEntry>,
    /// What `entries` will be; those who wait for one of them hold it too.
    batch: Rc<Batch>,
    /// When `entries` must leave; None while there are none.
    due: Option<Timestamp>,
    lingering: Lingering,
    /// What left last: it is confirmed after all that left before it.
    left: Rc<Batch>,
    /// The next batch leaves no sooner.
    not_before: Timestamp,
    on_its_way: Option<(Rc<Batch>, oneshot::Receiver<Vec<LedgerEntry>>)>,
    timer: Option<(Timestamp, Pin<Box<Sleep>>)>,
    pump: Option<Waker>,
}

/// Where an entry lies until it leaves.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Leaving(Leaving),
    Lingering(Turn),
}

/// Among what leaves next, and what it travels with.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) batch: Rc<Batch>,
    index: usize,
}

/// How long an entry may wait for company. It leaves with the next batch in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linger {
    /// Someone waits for it.
    None,
    Upto(Duration),
}

impl Desk {
    /// Starts the pump on this thread, which must run an actix system or arbiter.
    pub(super) fn open(ledger: Addr<Ledger>, permits: Arc<Permits>) -> Rc<Self> {
        let desk = Rc::new(Self {
            ledger,
            permits,
            state: RefCell::new(State {
                entries: Vec::new(),
                batch: Rc::default(),
                due: None,
                lingering: Lingering::default(),
                left: Rc::new(Batch::finished(Ok(()))),
                not_before: Timestamp::ZERO,
                on_its_way: None,
                timer: None,
                pump: None,
            }),
        });
        let weak = Rc::downgrade(&desk);
        actix::spawn(poll_fn(move |cx| pump(&weak, cx)));
        desk
    }

    /// Puts an entry down and says where it lies.
    pub(super) fn put(&self, entry: LedgerEntry, linger: Linger) -> Leaving {
        let mut state = self.state.borrow_mut();
        if cfg!(feature = "no-books") {
            state.batch.finish(Ok(()));
            return Leaving { batch: state.batch.clone(), index: usize::MAX };
        }
        state.entries.push(entry);
        let place = Leaving { batch: state.batch.clone(), index: state.entries.len() - 1 };
        state.hurry(linger);
        place
    }

    /// Puts an entry down that leaves after so long, unless it is replaced or sent off before.
    pub(super) fn linger(&self, entry: LedgerEntry, time: Duration) -> Place {
        if cfg!(feature = "no-books") {
            return Place::Leaving(self.put(entry, Linger::None));
        }
        let mut state = self.state.borrow_mut();
        let is_first = state.lingering.due().is_none();
        let turn = state.lingering.put(entry, time::now().after(time));
        if is_first && state.due.is_none() {
            state.wake();
        }
        Place::Lingering(turn)
    }

    /// What lingers leaves with the next batch; gives what the entry travels with, or has travelled with.
    pub(super) fn send_off(&self, place: &mut Place, linger: Linger) -> Rc<Batch> {
        let turn = match place {
            Place::Leaving(Leaving { batch, .. }) => return batch.clone(),
            Place::Lingering(turn) => *turn,
        };
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.lingering.take(turn) else { return state.left.clone() };
        drop(state);
        let leaving = self.put(entry, linger);
        let batch = leaving.batch.clone();
        *place = Place::Leaving(leaving);
        batch
    }

    /// Puts an entry where another of the same request lies, if that has not left yet.
    pub(super) fn replace(&self, place: Option<&Place>, entry: LedgerEntry, linger: Linger) -> Leaving {
        let mut state = self.state.borrow_mut();
        match place {
            Some(Place::Lingering(turn)) => drop(state.lingering.take(*turn)),
            Some(Place::Leaving(Leaving { batch, index })) if Rc::ptr_eq(batch, &state.batch) => {
                if let Some(lying) = state.entries.get_mut(*index) {
                    *lying = entry;
                    let place = Leaving { batch: batch.clone(), index: *index };
                    state.hurry(linger);
                    return place;
                }
            }
            Some(Place::Leaving(_)) | None => {}
        }
        drop(state);
        self.put(entry, linger)
    }

    /// Someone waits for this batch now.
    pub(super) fn hurry(&self, batch: &Rc<Batch>) {
        let mut state = self.state.borrow_mut();
        if Rc::ptr_eq(batch, &state.batch) {
            state.hurry(Linger::None);
        }
    }

    fn poll(&self, cx: &mut Context<'_>) {
        let mut state = self.state.borrow_mut();
        if !state.pump.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.pump = Some(cx.waker().clone());
        }
        loop {
            if let Some((batch, answer)) = &mut state.on_its_way {
                let Poll::Ready(answer) = Pin::new(answer).poll(cx) else { return };
                let batch = batch.clone();
                state.on_its_way = None;
                if answer.is_err() {
                    self.permits.ledger_is_lost();
                }
                batch.finish(answer.map(drop).map_err(|_| LedgerLost));
            }
            let Some(due) = state.departure() else { return };
            let now = time::now();
            if due <= now {
                self.send(&mut state, now);
                continue;
            }
            // One that comes too early finds out here for when it is to be set.
            if state.timer.as_ref().is_none_or(|(set_for, _)| *set_for > due) {
                state.timer = Some((due, Box::pin(tokio::time::sleep(due.since(now)))));
            }
            let Some((_, timer)) = &mut state.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            state.timer = None;
        }
    }

    fn send(&self, state: &mut State, now: Timestamp) {
        if state.lingering.due().is_some_and(|due| due <= now) {
            state.entries.extend(state.lingering.leave());
        }
        let capacity = state.entries.len();
        let spacing = if capacity >= HEAVY { SPACING } else { Duration::ZERO };
        let entries = mem::replace(&mut state.entries, Vec::with_capacity(capacity));
        let (committed, answer) = oneshot::channel();
        match self.ledger.try_send(Record { entries, committed }) {
            Ok(()) => {
                state.left = mem::take(&mut state.batch);
                state.on_its_way = Some((state.left.clone(), answer));
                state.due = None;
                if state.lingering.due().is_none() {
                    // Left alone, it would wake the worker for nothing, once for every request of a quiet hour.
                    state.timer = None;
                }
                state.not_before = now.after(spacing);
            }
            Err(SendError::Full(record)) => {
                state.entries = record.entries;
                state.due = Some(now);
                state.not_before = now.after(PAUSE);
            }
            Err(SendError::Closed(record)) => {
                tracing::error!(
                    entries = record.entries.len(),
                    "the ledger is gone, the next start closes what these entries would have"
                );
                self.permits.ledger_is_lost();
                state.left = mem::take(&mut state.batch);
                state.left.finish(Err(LedgerLost));
                state.due = None;
            }
        }
    }
}

impl State {
    /// Brings the departure forward, and wakes the pump if it would sleep past it.
    fn hurry(&mut self, linger: Linger) {
        let due = match linger {
            Linger::None => Timestamp::ZERO,
            Linger::Upto(linger) => time::now().after(linger),
        };
        if self.due.is_some_and(|earlier| earlier <= due) {
            return;
        }
        self.due = Some(due);
        self.wake();
    }

    /// When something must leave, and may.
    fn departure(&self) -> Option<Timestamp> {
        let due = match (self.due, self.lingering.due()) {
            (Some(entries), Some(lingering)) => entries.min(lingering),
            (due, None) | (None, due) => due?,
        };
        Some(due.max(self.not_before))
    }

    /// The pump looks at its clock again, unless it waits for an answer and will then anyway.
    fn wake(&self) {
        if self.on_its_way.is_none()
            && let Some(pump) = &self.pump
        {
            pump.wake_by_ref();
        }
    }
}

impl Drop for Desk {
    /// The worker ends: what lies here goes to the ledger, nobody waits for the answer. Nothing lingers, as each request
    /// has put its end here before.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if let Some(pump) = state.pump.take() {
            pump.wake();
        }
        let entries = mem::take(&mut state.entries);
        if entries.is_empty() {
            return;
        }
        let (committed, _) = oneshot::channel();
        if let Err(error) = self.ledger.try_send(Record { entries, committed }) {
            tracing::error!(%error, "a worker's last ledger entries did not reach the ledger");
        }
    }
}

/// Lives as long as the desk does.
fn pump(desk: &Weak<Desk>, cx: &mut Context<'_>) -> Poll<()> {
    match desk.upgrade() {
        Some(desk) => {
            desk.poll(cx);
            Poll::Pending
        }
        None => Poll::Ready(()),
    }
}
